//! A stream's messages on their way out, as far as the client's window lets them.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use h2::SendStream;

use crate::border::{Status, what};
use crate::grpc::frame_head;
use crate::packed::Packed;
use crate::settings::{MESSAGE_OVERHEAD_BYTES, SHARED_BYTES_MAX};

/// Shared bodies up to this are copied behind their prefix; larger ones go uncopied.
const COPY_BYTES_MAX: usize = 4096;
/// Shares are gathered into pieces of about this size: few frames instead of one for each message.
const GATHERED_BYTES: usize = 64 * 1024;

#[derive(Default)]
pub(super) struct Outlet {
    pub(super) queue: VecDeque<Piece>,
    pub(super) queued_bytes: usize,
    pub(super) left_bytes: usize, // of credit, not yet given back to Python
    pub(super) ending: Option<Box<Status>>,
    gathering: BytesMut, // shares, behind all of the queue
    gathering_cost: usize,
    last_body: usize,             // address of the last large shared body: it counts once
    shared_cost: usize,           // memory that shares in the queue hold
    pressed: bool,                // Python was told that it is too much
    pub(super) pump_is_due: bool, // somebody will pump before the socket is flushed
}

pub(super) struct Piece {
    bytes: Bytes,
    credit: usize, // that its leaving gives back: Python counts messages before they are packed
    shared_cost: usize,
}

impl Outlet {
    pub(super) fn push(&mut self, bytes: Bytes, credit: usize) {
        self.gather();
        self.put(Piece { bytes, credit, shared_cost: 0 });
    }

    /// A message made of a prefix and a body that other streams get too.
    pub(super) fn share(&mut self, prefix: &[u8], body: &Bytes) {
        self.gathering.extend_from_slice(&frame_head(prefix.len() + body.len(), false));
        self.gathering.extend_from_slice(prefix);
        self.gather_shared(prefix.len(), body, &[]);
    }

    /// The same as a packed message: what other streams get too is the body's packed form.
    pub(super) fn share_packed(&mut self, prefix: &[u8], packed: &Packed) {
        let length = packed.length(prefix.len());
        self.gathering.extend_from_slice(&frame_head(length, true));
        let trailer = packed.wrap(prefix, &mut self.gathering);
        self.gather_shared(length - packed.blocks.len(), &packed.blocks, &trailer);
    }

    /// Behind `own` bytes that were gathered: what is shared, and what comes after it.
    fn gather_shared(&mut self, own: usize, shared: &Bytes, trailer: &[u8]) {
        let mut cost = own + MESSAGE_OVERHEAD_BYTES;
        let is_copied = shared.len() <= COPY_BYTES_MAX;
        if is_copied {
            self.gathering.extend_from_slice(shared);
            cost += shared.len();
        }
        self.gathering_cost += cost;
        self.shared_cost += cost;
        if !is_copied {
            self.gather();
            let address = shared.as_ptr() as usize;
            let shared_cost = if self.last_body == address { 0 } else { shared.len() };
            self.last_body = address;
            self.shared_cost += shared_cost;
            self.put(Piece { bytes: shared.clone(), credit: 0, shared_cost });
        }
        self.gathering.extend_from_slice(trailer);
        if self.gathering.len() >= GATHERED_BYTES {
            self.gather();
        }
    }

    fn gather(&mut self) {
        if !self.gathering.is_empty() {
            let bytes = self.gathering.split().freeze();
            let shared_cost = std::mem::take(&mut self.gathering_cost);
            self.put(Piece { bytes, credit: 0, shared_cost });
        }
    }

    fn put(&mut self, piece: Piece) {
        self.queued_bytes += piece.bytes.len();
        self.queue.push_back(piece);
    }

    /// What Python is to be told of the memory that shares hold, once for each change.
    pub(super) fn pressure(&mut self) -> Option<i32> {
        let limit = if self.pressed { SHARED_BYTES_MAX / 2 } else { SHARED_BYTES_MAX };
        if self.pressed == (self.shared_cost > limit) {
            return None;
        }
        self.pressed = !self.pressed;
        Some(if self.pressed { what::PRESSED } else { what::RELIEVED })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.gathering.is_empty()
    }

    /// False: the stream is gone.
    pub(super) fn pump(&mut self, sink: &mut SendStream<Bytes>, cx: &mut Context<'_>) -> bool {
        self.pump_is_due = false;
        self.gather();
        while let Some(front) = self.queue.front_mut() {
            if front.bytes.is_empty() {
                self.left_bytes += front.credit;
                self.shared_cost -= front.shared_cost;
                self.queue.pop_front();
                continue;
            }
            sink.reserve_capacity(self.queued_bytes);
            let room = sink.capacity();
            if room == 0 {
                match sink.poll_capacity(cx) {
                    Poll::Pending => return true,
                    Poll::Ready(Some(Ok(_))) => continue,
                    Poll::Ready(Some(Err(_)) | None) => return false,
                }
            }
            let piece = front.bytes.split_to(room.min(front.bytes.len()));
            self.queued_bytes -= piece.len();
            if sink.send_data(piece, false).is_err() {
                return false;
            }
        }
        self.last_body = 0; // it may be freed, and its address used again
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of(outlet: &mut Outlet) -> Vec<u8> {
        outlet.gather();
        outlet.queue.iter().flat_map(|piece| piece.bytes.to_vec()).collect()
    }

    #[test]
    fn shares_and_messages_leave_in_the_order_in_which_they_came() {
        let (small, large) = (Bytes::from_static(b"small"), Bytes::from(vec![7; COPY_BYTES_MAX + 1]));
        let mut outlet = Outlet::default();
        let mut expected = Vec::new();
        for (number, body) in [&small, &small, &large, &small, &large].into_iter().enumerate() {
            outlet.share(b"pre", body);
            expected.extend(frame_head(3 + body.len(), false));
            expected.extend(b"pre");
            expected.extend(body);
            if number == 1 {
                outlet.push(Bytes::from_static(b"message"), 7);
                expected.extend(b"message");
            }
        }
        assert!(!outlet.is_empty());
        assert_eq!(bytes_of(&mut outlet), expected);
        assert_eq!(outlet.queued_bytes, expected.len());
    }

    #[test]
    fn packed_shares_leave_whole_and_give_back_what_they_hold() {
        let (small, large) = (Packed::new(b"small").unwrap(), Packed::new(&noise()).unwrap());
        let mut outlet = Outlet::default();
        let mut expected = Vec::new();
        for packed in [&small, &large, &large, &small] {
            outlet.share_packed(b"pre", packed);
            expected.extend(frame_head(packed.length(3), true));
            let trailer = packed.wrap(b"pre", &mut expected);
            expected.extend(&packed.blocks);
            expected.extend(trailer);
        }
        assert!(large.blocks.len() > COPY_BYTES_MAX);
        assert_eq!(bytes_of(&mut outlet), expected);
        assert_eq!(outlet.shared_cost, outlet.queue.iter().map(|piece| piece.shared_cost).sum::<usize>());
    }

    /// Bytes that cannot be packed well.
    fn noise() -> Vec<u8> {
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..20_000).map(|_| next()).collect()
    }

    #[test]
    fn a_large_body_counts_once_however_many_shares_of_it_wait() {
        let body = Bytes::from(vec![7; 100_000]);
        let mut outlet = Outlet::default();
        for _ in 0..10 {
            outlet.share(b"p", &body);
        }
        assert_eq!(outlet.shared_cost, 100_000 + 10 * (1 + MESSAGE_OVERHEAD_BYTES));
        assert_eq!(outlet.shared_cost, outlet.queue.iter().map(|piece| piece.shared_cost).sum::<usize>());
    }

    #[test]
    fn pressure_is_told_once_when_it_rises_and_once_when_half_of_it_has_gone() {
        let mut outlet = Outlet::default();
        assert_eq!(outlet.pressure(), None);
        outlet.shared_cost = SHARED_BYTES_MAX + 1;
        assert_eq!((outlet.pressure(), outlet.pressure()), (Some(what::PRESSED), None));
        outlet.shared_cost = SHARED_BYTES_MAX / 2 + 1;
        assert_eq!(outlet.pressure(), None);
        outlet.shared_cost = SHARED_BYTES_MAX / 2;
        assert_eq!((outlet.pressure(), outlet.pressure()), (Some(what::RELIEVED), None));
    }

    #[test]
    fn small_shares_are_gathered_into_few_pieces() {
        let body = Bytes::from(vec![7; 300]);
        let mut outlet = Outlet::default();
        for _ in 0..1000 {
            outlet.share(b"pre", &body);
        }
        outlet.gather();
        assert!(outlet.queue.len() <= 5, "{}", outlet.queue.len());
    }
}
