//! What crosses the border: events, replies, and the ids that both carry.
//!
//! A call's id is its connection's number and its HTTP/2 stream's number: neither is used twice, so
//! a late reply finds its own call or none.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use bytes::Bytes;

use crate::cast::{Cast, Share};
use crate::grpc::{FRAME_HEAD_BYTES, Pairs};

pub type CallId = u64;
const STREAM_BITS: u32 = 30; // stream ids have 31 bits and a client's are odd

pub fn call_id(connection: u64, stream: u32) -> CallId {
    connection << STREAM_BITS | u64::from(stream >> 1)
}

pub fn connection_of(id: CallId) -> u64 {
    id >> STREAM_BITS
}

pub fn stream_of(id: CallId) -> u32 {
    ((id & ((1 << STREAM_BITS) - 1)) << 1) as u32 | 1
}

/// What an event is, where it is not a call (0 and up: the method's place in the table).
pub mod what {
    pub const UNKNOWN_METHOD: i32 = -1; // a call; the body is its path
    pub const HTTP: i32 = -2; // a request that is not gRPC; metadata: :method, :target, headers
    pub const MESSAGE: i32 = -3; // of a stream
    pub const HALF_CLOSE: i32 = -4; // the client sends nothing more
    pub const CANCEL: i32 = -5; // the call is over: reset, past its deadline, or disconnected
    pub const WRITABLE: i32 = -6; // `amount` bytes of a stream have left
    pub const OPENED: i32 = -7; // a connection; the body is the peer, metadata its certificate; amount 1: TLS
    pub const CLOSED: i32 = -8; // a connection
    pub const DRAINED: i32 = -9; // after `stop`: the last connection is gone
    pub const PRESSED: i32 = -11; // a stream has too much of casts under way: it needs a pause
    pub const RELIEVED: i32 = -12; // most of that has left
    pub const FAILED: i32 = -10; // a panic; the body says which. amount 1: of the whole door
}

pub struct Event {
    pub id: CallId,
    pub what: i32,
    pub body: Bytes,
    pub metadata: Option<Box<Pairs>>,
    pub amount: f64, // a call's timeout in seconds (0: none)
}

impl Event {
    pub fn new(id: CallId, what: i32) -> Self {
        Event { id, what, body: Bytes::new(), metadata: None, amount: 0.0 }
    }

    pub fn with(id: CallId, what: i32, body: Bytes) -> Self {
        Event { id, what, body, metadata: None, amount: 0.0 }
    }
}

pub struct Reply {
    pub id: CallId,
    pub action: Action,
}

pub enum Action {
    /// Status OK after one message: a unary call's answer.
    Answer(Message),
    /// The end: a gRPC status, or (HTTP) the end of the body.
    Status(Box<Status>),
    /// One message of a stream, or a piece of an HTTP answer's body.
    Message(Message),
    /// Headers: initial metadata, or (HTTP) status code and headers.
    Head(Box<(u16, Pairs)>),
    /// Python has consumed so many bytes of the stream's messages.
    Credit(usize),
    /// Break the stream off: an HTTP answer that can't be completed.
    Reset,
    /// One message for many streams; the reply's own id means nothing.
    Cast(Box<Cast>),
    /// A cast's message for one of them.
    Share(Box<Share>),
}

impl Action {
    pub fn bytes(&self) -> usize {
        match self {
            Action::Answer(message) | Action::Message(message) => message.bytes(),
            Action::Cast(_) => usize::MAX, // it is many
            _ => 0,
        }
    }
}

/// A body on its way out. Small ones were copied behind their gRPC frame head; large ones are the
/// bytes that Python holds, uncopied.
pub enum Message {
    Framed(Bytes),
    Bare(Bytes),
}

impl Message {
    /// Without the frame head.
    pub fn body(self) -> Bytes {
        match self {
            Message::Framed(bytes) => bytes.slice(FRAME_HEAD_BYTES..),
            Message::Bare(bytes) => bytes,
        }
    }

    pub fn bytes(&self) -> usize {
        match self {
            Message::Framed(bytes) => bytes.len() - FRAME_HEAD_BYTES,
            Message::Bare(bytes) => bytes.len(),
        }
    }
}

pub struct Status {
    pub code: u16,
    pub message: String,
    pub trailers: Pairs,
}

/// One connection, of either protocol, as the border knows it.
pub trait Connection: Send + Sync {
    /// Carry replies out. `wait` false: give them back if somebody is at the connection right now.
    fn deliver(self: Arc<Self>, replies: Vec<Reply>, wait: bool) -> Result<(), Vec<Reply>>;
    /// Its socket, which is near, has something to read. Called on Python's thread.
    fn read(self: Arc<Self>);
    /// Bytes of its large answers that the socket has not taken yet.
    fn unsent_bytes(&self) -> Arc<AtomicUsize>;
    /// Look at deadlines and keepalive.
    fn tick(self: Arc<Self>);
    /// Take up work that was put off.
    fn wake(&self);
    /// End when the accepted calls have ended.
    fn stop(self: Arc<Self>);
    /// End at once, whatever state a panic left behind.
    fn abandon(self: Arc<Self>);
}

/// The methods that are served, by path.
pub type Methods = HashMap<Vec<u8>, Method>;

#[derive(Clone, Copy)]
pub struct Method {
    pub number: i32,
    pub takes_stream: bool, // else exactly one message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_one_connection_and_one_stream() {
        for (connection, stream) in [(1, 1), (7, 0x7fff_ffff), ((1 << 34) - 1, 12_345)] {
            let id = call_id(connection, stream);
            assert_eq!((connection_of(id), stream_of(id)), (connection, stream));
        }
    }
}
