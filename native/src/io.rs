//! A connection's bytes: plain or TLS, with writes gathered.
//!
//! h2 flushes after every few frames. `Gathered` lets it write into one buffer and says "flushed";
//! the connection's step sends the buffer once, at its end (a syscall per turn, not per frame). The
//! buffer is bounded: above `GATHER_BYTES_MAX` a write sends first, or waits for the peer to read.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

use crate::authority;
use crate::border::lock;
use crate::manners::{AnswerScan, FrameScan};
use crate::maybe_tls::MaybeTls;
use crate::socket::Socket;

const GATHER_BYTES_MAX: usize = 1024 * 1024;
const GATHER_BYTES_KEPT: usize = 128 * 1024; // of capacity, when the buffer is empty

pub type Transport = MaybeTls<Socket, TlsStream<Socket>>;

impl Transport {
    pub fn socket(&mut self) -> &mut Socket {
        match self {
            Transport::Plain(socket) => socket,
            Transport::Tls(stream) => stream.get_mut().0,
        }
    }
}

/// What h2's side and the connection's step share. Only one thread at a time is at it (the
/// connection's own lock), so this lock is never waited for.
pub struct Wire {
    transport: Transport,
    prefix: Vec<u8>, // bytes read before the protocol was known
    out: Vec<u8>,
    sent: usize,   // of `out`
    blocked: bool, // h2 was told to wait, perhaps in the middle of a frame
    pub scan: FrameScan,
    pub answers: AnswerScan,
    pub reads: u64,  // counts up with each piece that the peer sent
    pub writes: u64, // and with each that it took
}

impl Wire {
    /// Send what was gathered.
    pub fn flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.out.len() {
            let transport = Pin::new(&mut self.transport);
            match ready!(transport.poll_write(cx, &self.out[self.sent..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.sent += written,
            }
            self.writes += 1;
        }
        self.sent = 0;
        self.out.clear();
        self.out.shrink_to(GATHER_BYTES_KEPT);
        Pin::new(&mut self.transport).poll_flush(cx)
    }

    pub fn socket(&mut self) -> &mut Socket {
        self.transport.socket()
    }

    pub fn shut_down(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_shutdown(cx)
    }

    /// At the end: what has not been sent yet.
    pub fn into_rest(mut self) -> (Transport, Vec<u8>) {
        self.out.drain(..self.sent);
        (self.transport, self.out)
    }

    /// A last frame of our own making, if h2's frames are whole up to here.
    pub fn append_frame(&mut self, frame: &[u8]) {
        if !self.blocked {
            self.out.extend_from_slice(frame);
        }
    }
}

/// h2's side.
pub struct Gathered(pub Arc<Mutex<Wire>>);

impl Gathered {
    pub fn new(transport: Transport, prefix: Vec<u8>) -> Self {
        Gathered(Arc::new(Mutex::new(Wire {
            transport,
            prefix,
            out: Vec::new(),
            sent: 0,
            blocked: false,
            scan: FrameScan::default(),
            answers: AnswerScan::default(),
            reads: 0,
            writes: 0,
        })))
    }
}

impl AsyncRead for Gathered {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let wire = &mut *lock(&self.0);
        let before = buf.filled().len();
        if wire.prefix.is_empty() {
            ready!(Pin::new(&mut wire.transport).poll_read(cx, buf))?;
        } else {
            let length = wire.prefix.len().min(buf.remaining());
            buf.put_slice(&wire.prefix[..length]);
            wire.prefix.drain(..length);
        }
        if let Some(headers) = wire.scan.read(&buf.filled()[before..]) {
            authority::mend(&mut buf.filled_mut()[before..][headers]);
        }
        wire.reads += 1;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Gathered {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let wire = &mut *lock(&self.0);
        wire.blocked = true;
        if wire.out.len() - wire.sent >= GATHER_BYTES_MAX {
            ready!(wire.flush(cx))?;
        }
        wire.blocked = false;
        wire.answers.read(bytes);
        wire.out.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(())) // the step flushes
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let wire = &mut *lock(&self.0);
        ready!(wire.flush(cx))?;
        Pin::new(&mut wire.transport).poll_shutdown(cx)
    }
}
