//! A request's body on its way in: cut into messages, within the client's credit. What incomplete
//! requests hold is counted over all connections and bounded: a client that begins many and ends
//! none costs its own calls, not the process.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::RecvStream;

use super::call::Kind;
use crate::border::{Border, CallId, Event, what};
use crate::grpc::{self, Decoder, Refusal};
use crate::settings::{MESSAGE_OVERHEAD_BYTES, STREAM_CREDIT_BYTES};

/// Of all incomplete requests together.
const INCOMPLETE_BYTES_MAX: usize = 128 * 1024 * 1024;
/// What a unary call costs that waits for its message, here and inside h2 (measured: 1.1 KB).
const CALL_BYTES: usize = 1024;

pub(super) struct Intake {
    body: RecvStream,
    decoder: Decoder,
    message: Option<Bytes>,
    pub(super) call: Option<Event>, // handed over once its one message is complete
    pub(super) credit: isize,       // of a stream; Python gives it back as it consumes
    holding: Option<Holding>,
}

/// What is counted for one request.
struct Holding {
    border: Arc<Border>,
    bytes: usize,
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.border.incomplete_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

pub(super) enum Pulled {
    More,
    Complete,
    Refused(Refusal),
    Gone,
}

impl Intake {
    pub(super) fn new(body: RecvStream, message_bytes_max: usize, gzip: bool) -> Self {
        Intake {
            body,
            decoder: Decoder::new(message_bytes_max, gzip),
            message: None,
            call: None,
            credit: STREAM_CREDIT_BYTES as isize,
            holding: None,
        }
    }

    /// Count what waits here for the rest of the request. An error: all of them hold too much.
    pub(super) fn hold(&mut self, kind: Kind, border: &Arc<Border>) -> Result<(), Refusal> {
        let mut bytes = self.decoder.held_bytes() + self.message.as_ref().map_or(0, Bytes::len);
        if kind == Kind::OneMessage {
            bytes += CALL_BYTES;
        } else if bytes == 0 && self.holding.is_none() {
            return Ok(()); // most streams, most of the time
        }
        let holding = self.holding.get_or_insert_with(|| Holding { border: border.clone(), bytes: 0 });
        let all = &border.incomplete_bytes;
        if bytes <= holding.bytes {
            all.fetch_sub(holding.bytes - bytes, Ordering::Relaxed);
            holding.bytes = bytes;
            return Ok(());
        }
        let before = all.fetch_add(bytes - holding.bytes, Ordering::Relaxed);
        holding.bytes = bytes;
        if before > INCOMPLETE_BYTES_MAX {
            let text = "grpc: too many requests are incomplete";
            return Err(Refusal::new(grpc::RESOURCE_EXHAUSTED, text));
        }
        Ok(())
    }

    pub(super) fn pull(
        &mut self,
        kind: Kind,
        id: CallId,
        events: &mut Vec<Event>,
        cx: &mut Context<'_>,
    ) -> Pulled {
        while kind == Kind::OneMessage || self.credit > 0 {
            match self.body.poll_data(cx) {
                Poll::Pending => return Pulled::More,
                Poll::Ready(Some(Err(_))) => return Pulled::Gone,
                Poll::Ready(None) => {
                    return match self.end(kind, id, events) {
                        Ok(()) => Pulled::Complete,
                        Err(refusal) => Pulled::Refused(refusal),
                    };
                }
                Poll::Ready(Some(Ok(data))) => {
                    // Too much released is h2's error to report, and we release what it gave.
                    let _ = self.body.flow_control().release_capacity(data.len());
                    match self.data(kind, id, data, events) {
                        Ok(false) => {}
                        Ok(true) => return Pulled::Complete,
                        Err(refusal) => return Pulled::Refused(refusal),
                    }
                }
            }
        }
        Pulled::More
    }

    /// True: the call was handed over, complete.
    fn data(
        &mut self,
        kind: Kind,
        id: CallId,
        data: Bytes,
        events: &mut Vec<Event>,
    ) -> Result<bool, Refusal> {
        match kind {
            Kind::Http => self.hand_over(id, data, events),
            Kind::Stream => {
                self.decoder.push(&data);
                while let Some(message) = self.decoder.next_message()? {
                    self.hand_over(id, message, events);
                }
            }
            Kind::OneMessage => {
                if self.message.is_none() && self.body.is_end_stream() {
                    if let Some(body) = self.decoder.single(&data) {
                        events.extend(self.call.take().map(|call| Event { body, ..call }));
                        return Ok(true);
                    }
                }
                self.decoder.push(&data);
                while let Some(message) = self.decoder.next_message()? {
                    if self.message.replace(message).is_some() {
                        let text = "grpc: the request of a unary call has more than one message";
                        return Err(Refusal::new(grpc::INTERNAL, text));
                    }
                }
            }
        }
        Ok(false)
    }

    fn hand_over(&mut self, id: CallId, message: Bytes, events: &mut Vec<Event>) {
        self.credit -= (message.len() + MESSAGE_OVERHEAD_BYTES) as isize;
        events.push(Event::with(id, what::MESSAGE, message));
    }

    fn end(&mut self, kind: Kind, id: CallId, events: &mut Vec<Event>) -> Result<(), Refusal> {
        if !self.decoder.is_empty() {
            return Err(Refusal::new(grpc::INTERNAL, "unexpected EOF"));
        }
        if kind != Kind::OneMessage {
            events.push(Event::new(id, what::HALF_CLOSE));
            return Ok(());
        }
        match (self.message.take(), self.call.take()) {
            (Some(body), Some(call)) => {
                events.push(Event { body, ..call });
                Ok(())
            }
            _ => Err(Refusal::new(grpc::INTERNAL, "grpc: the request has no message")),
        }
    }
}
