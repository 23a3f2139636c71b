//! One call, and what its answer is on the wire: one message, a stream, or HTTP.

use std::task::Waker;
use std::time::Instant;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use super::intake::Intake;
use super::outlet::Outlet;
use crate::border::{Message, Status};
use crate::grpc::{self, Pairs, Refusal};

pub(super) struct Call {
    pub(super) answer: Answer,
    pub(super) kind: Kind,
    pub(super) gzip: bool,
    pub(super) seen: bool, // Python knows of it, and must be told when it is cancelled
    pub(super) deadline: Option<Instant>,
    pub(super) intake: Option<Box<Intake>>, // until the request is complete
    pub(super) outlet: Option<Box<Outlet>>, // of a stream
    pub(super) waker: Option<Waker>,
}

pub(super) enum Answer {
    Head(SendResponse<Bytes>), // nothing was sent yet
    Body(SendStream<Bytes>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    OneMessage,
    Stream,
    Http,
}

impl Call {
    pub(super) fn new(respond: SendResponse<Bytes>, kind: Kind) -> Self {
        Call {
            answer: Answer::Head(respond),
            kind,
            gzip: false,
            seen: false,
            deadline: None,
            intake: None,
            outlet: None,
            waker: None,
        }
    }

    /// The stream to write to; its head is sent if it was not.
    pub(super) fn sink(&mut self, pairs: Option<(u16, &Pairs)>) -> Option<&mut SendStream<Bytes>> {
        if let Answer::Head(respond) = &mut self.answer {
            let mut head = Response::new(());
            if self.kind == Kind::Http {
                let code = pairs.map_or(200, |(code, _)| code);
                *head.status_mut() = StatusCode::from_u16(code).ok()?;
            } else {
                head.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
                if self.gzip {
                    head.headers_mut().insert("grpc-encoding", HeaderValue::from_static("gzip"));
                }
            }
            if let Some((_, pairs)) = pairs {
                grpc::put_metadata(head.headers_mut(), pairs);
            }
            self.answer = Answer::Body(respond.send_response(head, false).ok()?);
        }
        match &mut self.answer {
            Answer::Body(stream) => Some(stream),
            Answer::Head(_) => None,
        }
    }

    /// As it goes over the wire: one piece, or the frame head and the bytes that Python holds.
    pub(super) fn encode(&self, message: Message) -> (Bytes, Option<Bytes>) {
        if self.kind == Kind::Http {
            return (message.body(), None);
        }
        if self.gzip {
            let body = message.body();
            let (packed, flag) = match grpc::compress(&body) {
                Ok(packed) => (Bytes::from(packed), true),
                Err(_) => (body, false), // writing to memory does not fail; unpacked is right too
            };
            let head = grpc::frame_head(packed.len(), flag);
            return (Bytes::copy_from_slice(&head), Some(packed));
        }
        match message {
            Message::Framed(bytes) => (bytes, None),
            Message::Bare(bytes) => {
                let head = grpc::frame_head(bytes.len(), false);
                (Bytes::copy_from_slice(&head), Some(bytes))
            }
        }
    }

    /// A unary call's answer, all of it. An error means that the client is gone.
    pub(super) fn send_answer(mut self, message: Message) -> Option<()> {
        let (first, second) = self.encode(message);
        let sink = self.sink(None)?;
        sink.send_data(first, false).ok()?;
        if let Some(second) = second {
            sink.send_data(second, false).ok()?;
        }
        let mut trailers = HeaderMap::with_capacity(1);
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        sink.send_trailers(trailers).ok()
    }

    /// The end of the answer: trailers, or headers alone if nothing was sent yet.
    pub(super) fn send_status(mut self, status: &Status) -> Option<()> {
        if self.kind == Kind::Http {
            return self.sink(Some((500, &Pairs::new())))?.send_data(Bytes::new(), true).ok();
        }
        let mut trailers = HeaderMap::with_capacity(4);
        trailers.insert("grpc-status", HeaderValue::from(status.code));
        if !status.message.is_empty() {
            trailers.insert("grpc-message", grpc::percent_encode(&status.message));
        }
        grpc::put_metadata(&mut trailers, &status.trailers);
        match &mut self.answer {
            Answer::Body(sink) => sink.send_trailers(trailers).ok(),
            Answer::Head(respond) => {
                trailers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
                let mut head = Response::new(());
                *head.headers_mut() = trailers;
                respond.send_response(head, true).ok().map(drop)
            }
        }
    }

    pub(super) fn refuse(self, refusal: Refusal) {
        let message = refusal.message.into_owned();
        self.send_status(&Status { code: refusal.code, message, trailers: Pairs::new() });
    }

    pub(super) fn reset(self) {
        match self.answer {
            Answer::Head(mut respond) => respond.send_reset(Reason::INTERNAL_ERROR),
            Answer::Body(mut sink) => sink.send_reset(Reason::INTERNAL_ERROR),
        }
    }
}
