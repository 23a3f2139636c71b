//! Answers going out, as Python's replies say.

use std::sync::Arc;
use std::task::Context;

use super::Http2;
use super::call::Answer;
use super::state::State;
use crate::border::{Action, Event, Message, Reply, Status, call_id, lock, stream_of, what};
use crate::cast::Share;
use crate::settings::{CREDIT_LUMP_BYTES, MESSAGE_OVERHEAD_BYTES};

impl State {
    pub(super) fn carry_out(&mut self, connection: &Arc<Http2>, reply: Reply) {
        let stream = stream_of(reply.id);
        match reply.action {
            Action::Answer(message) => {
                // No Option to look at: an error is the client's going, and h2 cleans up.
                if let Some(call) = self.calls.remove(&stream) {
                    self.manners.answered();
                    let _ = call.send_answer(message);
                }
            }
            Action::Status(status) => self.end(stream, status),
            Action::Message(message) => {
                let credit = message.bytes() + MESSAGE_OVERHEAD_BYTES;
                self.send(connection, stream, message, credit);
            }
            Action::Share(share) => self.share(connection, stream, &share),
            Action::Cast(_) => debug_assert!(false, "casts are spread before they are delivered"),
            Action::Head(head) => {
                if let Some(call) = self.calls.get_mut(&stream) {
                    if call.sink(Some((head.0, &head.1))).is_none() {
                        self.cancel(connection, stream);
                    }
                }
            }
            Action::Credit(bytes) => {
                let intake = self.calls.get_mut(&stream).and_then(|call| call.intake.as_mut());
                if let Some(intake) = intake {
                    intake.credit = intake.credit.saturating_add_unsigned(bytes);
                    self.serve(connection, stream);
                }
            }
            Action::Reset => {
                if let Some(call) = self.calls.remove(&stream) {
                    call.reset();
                }
            }
        }
    }

    /// One stream's message of a cast. Sent by the step that ends this visit, with others.
    fn share(&mut self, connection: &Arc<Http2>, stream: u32, share: &Share) {
        let Some(call) = self.calls.get_mut(&stream) else { return };
        self.manners.answered();
        if call.sink(None).is_none() {
            return self.cancel(connection, stream);
        }
        let is_packed = call.gzip;
        let outlet = call.outlet.get_or_insert_default();
        match is_packed.then(|| share.body.packed()).flatten() {
            Some(packed) => outlet.share_packed(&share.prefix, packed),
            None => outlet.share(&share.prefix, &share.body.bytes),
        }
        if !outlet.pump_is_due {
            outlet.pump_is_due = true;
            lock(&connection.woken).push(stream);
        }
    }

    fn send(&mut self, connection: &Arc<Http2>, stream: u32, message: Message, credit: usize) {
        let Some(call) = self.calls.get_mut(&stream) else { return };
        self.manners.answered();
        let (first, second) = call.encode(message);
        if call.sink(None).is_none() {
            return self.cancel(connection, stream);
        }
        let outlet = call.outlet.get_or_insert_default();
        match second {
            None => outlet.push(first, credit),
            Some(second) => {
                outlet.push(first, 0);
                outlet.push(second, credit);
            }
        }
        let waker = call.waker.get_or_insert_with(|| connection.stream_waker(stream)).clone();
        self.pump(connection, stream, &mut Context::from_waker(&waker));
    }

    fn end(&mut self, stream: u32, status: Box<Status>) {
        let Some(call) = self.calls.get_mut(&stream) else { return };
        self.manners.answered();
        match &mut call.outlet {
            Some(outlet) if !outlet.is_empty() => {
                call.intake = None; // Python listens no more
                outlet.ending = Some(status);
            }
            _ => {
                if let Some(call) = self.calls.remove(&stream) {
                    let _ = call.send_status(&status); // None: the client is gone
                }
            }
        }
    }

    pub(super) fn pump(&mut self, connection: &Http2, stream: u32, cx: &mut Context<'_>) {
        let State { calls, events, .. } = self;
        let Some(call) = calls.get_mut(&stream) else { return };
        let (Some(outlet), Answer::Body(sink)) = (&mut call.outlet, &mut call.answer) else { return };
        if !outlet.pump(sink, cx) {
            return self.cancel(connection, stream);
        }
        if outlet.left_bytes >= CREDIT_LUMP_BYTES {
            let amount = std::mem::take(&mut outlet.left_bytes) as f64;
            let id = call_id(connection.number, stream);
            events.push(Event { amount, ..Event::new(id, what::WRITABLE) });
        }
        if let Some(told) = outlet.pressure() {
            events.push(Event::new(call_id(connection.number, stream), told));
        }
        if outlet.is_empty() {
            if let Some(status) = outlet.ending.take() {
                if let Some(call) = calls.remove(&stream) {
                    let _ = call.send_status(&status); // None: the client is gone
                }
            }
        }
    }
}
