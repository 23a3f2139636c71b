//! Calls coming in: what a request's head says, and whose body is awaited.

use std::sync::Arc;
use std::task::Context;
use std::time::Instant;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, Method as HttpMethod, Request, request};

use super::Http2;
use super::call::{Call, Kind};
use super::intake::{Intake, Pulled};
use super::state::State;
use crate::border::{CallId, Event, Method, call_id, stream_of, what};
use crate::grpc::{self, Pairs, Refusal, Value};

impl State {
    pub(super) fn open(
        &mut self,
        connection: &Arc<Http2>,
        request: Request<RecvStream>,
        respond: SendResponse<Bytes>,
        cx: &mut Context<'_>,
    ) {
        let stream = respond.stream_id().as_u32();
        self.newest_stream = stream;
        let id = call_id(connection.number, stream);
        let (head, body) = request.into_parts();
        if !is_grpc(&head.headers) {
            let metadata = Some(Box::new(http_head(&head)));
            let event = Event { metadata, ..Event::new(id, what::HTTP) };
            return self.open_stream(connection, Call::new(respond, Kind::Http), event, body);
        }
        let Some(method) = connection.border.methods.get(head.uri.path().as_bytes()).copied() else {
            let path = Bytes::copy_from_slice(head.uri.path().as_bytes());
            self.events.push(Event::with(id, what::UNKNOWN_METHOD, path));
            let call = Call { seen: true, ..Call::new(respond, Kind::Stream) };
            self.calls.insert(stream, call);
            return;
        };
        let kind = if method.takes_stream { Kind::Stream } else { Kind::OneMessage };
        let mut call = Call::new(respond, kind);
        let event = match self.grpc_head(&mut call, id, method, &head) {
            Ok(event) => event,
            Err(refusal) => return call.refuse(refusal),
        };
        if kind == Kind::Stream {
            return self.open_stream(connection, call, event, body);
        }
        let mut intake = Intake::new(body, connection.border.settings.message_bytes_max, call.gzip);
        intake.call = Some(event);
        match intake.pull(kind, id, &mut self.events, cx) {
            Pulled::Complete => {
                call.seen = true;
                self.calls.insert(stream, call);
            }
            Pulled::More => {
                call.intake = Some(Box::new(intake));
                self.calls.insert(stream, call);
                self.serve(connection, stream); // asks to be woken
            }
            Pulled::Refused(refusal) => call.refuse(refusal),
            Pulled::Gone => {}
        }
    }

    fn open_stream(&mut self, connection: &Arc<Http2>, mut call: Call, event: Event, body: RecvStream) {
        let stream = stream_of(event.id);
        self.events.push(event);
        call.seen = true;
        call.intake =
            Some(Box::new(Intake::new(body, connection.border.settings.message_bytes_max, call.gzip)));
        self.calls.insert(stream, call);
        self.serve(connection, stream);
    }

    /// What a gRPC request's headers say.
    fn grpc_head(
        &mut self,
        call: &mut Call,
        id: CallId,
        method: Method,
        head: &request::Parts,
    ) -> Result<Event, Refusal> {
        if head.method != HttpMethod::POST {
            return Err(Refusal::new(grpc::INTERNAL, "grpc: the request's method is not POST"));
        }
        let mut event = Event::new(id, method.number);
        if let Some(value) = head.headers.get("grpc-timeout") {
            let timeout = grpc::timeout(value)?;
            event.amount = timeout.as_secs_f64().max(f64::MIN_POSITIVE);
            let deadline = Instant::now() + timeout;
            call.deadline = Some(deadline);
            self.next_deadline = Some(self.next_deadline.map_or(deadline, |next| next.min(deadline)));
        }
        match head.headers.get("grpc-encoding").map(HeaderValue::as_bytes) {
            None | Some(b"identity") => {}
            Some(b"gzip") => call.gzip = true,
            Some(other) => {
                let name = String::from_utf8_lossy(other);
                let text = format!("grpc: Decompressor is not installed for grpc-encoding \"{name}\"");
                return Err(Refusal::new(grpc::UNIMPLEMENTED, text));
            }
        }
        event.metadata = grpc::metadata(&head.headers);
        Ok(event)
    }

    /// A woken stream: take what came, send what may leave.
    pub(super) fn serve(&mut self, connection: &Arc<Http2>, stream: u32) {
        let State { calls, events, .. } = self;
        let Some(call) = calls.get_mut(&stream) else { return };
        let id = call_id(connection.number, stream);
        let waker = call.waker.get_or_insert_with(|| connection.stream_waker(stream)).clone();
        let cx = &mut Context::from_waker(&waker);
        if let Some(intake) = &mut call.intake {
            match intake.pull(call.kind, id, events, cx) {
                Pulled::More => {
                    if let Err(refusal) = intake.hold(call.kind, &connection.border) {
                        return self.refuse(connection, stream, refusal);
                    }
                }
                Pulled::Complete => {
                    call.intake = None;
                    call.seen = true;
                }
                Pulled::Gone => return self.cancel(connection, stream),
                Pulled::Refused(refusal) => return self.refuse(connection, stream, refusal),
            }
        }
        self.pump(connection, stream, cx);
    }

    pub(super) fn refuse(&mut self, connection: &Http2, stream: u32, refusal: Refusal) {
        if let Some(call) = self.calls.remove(&stream) {
            if call.seen {
                self.events.push(Event::new(call_id(connection.number, stream), what::CANCEL));
            }
            call.refuse(refusal);
        }
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let rest = headers.get(CONTENT_TYPE).and_then(|value| value.as_bytes().strip_prefix(b"application/grpc"));
    matches!(rest, Some([] | [b'+' | b';', ..]))
}

/// An HTTP request as it crosses the border, also of HTTP/1: pseudo headers first.
fn http_head(head: &request::Parts) -> Pairs {
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    let mut pairs = vec![
        (":method".to_owned(), Value::Text(head.method.as_str().to_owned())),
        (":target".to_owned(), Value::Text(target.to_owned())),
        (":version".to_owned(), Value::Text("2".to_owned())),
    ];
    if let (Some(authority), None) = (head.uri.authority(), head.headers.get(HOST)) {
        pairs.push(("host".to_owned(), Value::Text(authority.as_str().to_owned())));
    }
    for (name, value) in &head.headers {
        pairs.push((name.as_str().to_owned(), Value::Binary(value.as_bytes().to_vec())));
    }
    pairs
}
