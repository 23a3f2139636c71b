//! A stream's messages on their way out, as far as the client's window lets them.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::SendStream;

use crate::border::Status;

#[derive(Default)]
pub(super) struct Outlet {
    pub(super) queue: VecDeque<Piece>,
    pub(super) queued_bytes: usize,
    pub(super) left_bytes: usize, // of credit, not yet given back to Python
    pub(super) ending: Option<Box<Status>>,
}

pub(super) struct Piece {
    bytes: Bytes,
    credit: usize, // that its leaving gives back: Python counts messages before they are packed
}

impl Outlet {
    pub(super) fn push(&mut self, bytes: Bytes, credit: usize) {
        self.queued_bytes += bytes.len();
        self.queue.push_back(Piece { bytes, credit });
    }

    /// False: the stream is gone.
    pub(super) fn pump(&mut self, sink: &mut SendStream<Bytes>, cx: &mut Context<'_>) -> bool {
        while let Some(front) = self.queue.front_mut() {
            if front.bytes.is_empty() {
                self.left_bytes += front.credit;
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
        true
    }
}
