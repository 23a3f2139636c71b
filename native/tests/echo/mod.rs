//! A gRPC server for load tests: answers every call with the same bytes, whatever it asks.
//!
//! It reads HTTP/2 frames and writes prepared ones: no HPACK of the requests, no protobuf, one blocking thread
//! per connection, so that it is faster than any client. Calls are unary; what they send must fit
//! the windows of HTTP/2 as they are at the start (the connection's is given back).

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

const PREFACE_BYTES: usize = 24;
const HEAD_BYTES: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const CONNECTION_WINDOW_BYTES: u32 = 1 << 30;
// HPACK, as stateless as it goes: both headers stand in the table after the connection's first answer.
const FIRST_HEAD: &[u8] = b"\x88\x5f\x10application/grpc"; // :status 200, content-type (indexed)
const FIRST_TRAILERS: &[u8] = b"\x40\x0bgrpc-status\x010"; // grpc-status 0 (indexed)
const HEAD: &[u8] = &[0x88, 0xbf];
const TRAILERS: &[u8] = &[0xbe];

#[derive(Clone)]
pub struct Manners {
    pub reply: Vec<u8>,         // a message, without gRPC's frame head
    pub status: fn(u64) -> u8,  // of the n-th call, counted over all connections
    pub before: fn(u64),        // runs before the n-th call is answered
    pub breaks_at: Option<u64>, // that call breaks its connection
    pub tls: Option<Arc<ServerConfig>>,
}

impl Default for Manners {
    fn default() -> Self {
        Manners {
            reply: vec![0x0a, 2, 0x18, 9, 0x12, 0], // a header with a revision, and a field 2
            status: |_| 0,
            before: |_| {},
            breaks_at: None,
            tls: None,
        }
    }
}

pub struct Echo {
    pub address: SocketAddr,
    pub calls: Arc<AtomicU64>,
}

pub fn start(manners: Manners) -> Echo {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let calls = Arc::new(AtomicU64::new(0));
    let counter = calls.clone();
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let (manners, calls) = (manners.clone(), counter.clone());
            std::thread::spawn(move || {
                socket.set_nodelay(true)?;
                let Some(tls) = manners.tls.clone() else { return serve(socket, manners, calls) };
                let session = ServerConnection::new(tls).map_err(io::Error::other)?;
                serve(StreamOwned::new(session, socket), manners, calls)
            });
        }
    });
    Echo { address, calls }
}

fn serve<S: Read + Write>(socket: S, manners: Manners, calls: Arc<AtomicU64>) -> io::Result<()> {
    Connection { socket, manners, calls, out: Vec::new(), taken_bytes: 0, has_answered: false }.serve()
}

struct Connection<S> {
    socket: S,
    manners: Manners,
    calls: Arc<AtomicU64>,
    out: Vec<u8>,
    taken_bytes: u32, // of DATA, not given back yet
    has_answered: bool,
}

impl<S: Read + Write> Connection<S> {
    fn serve(mut self) -> io::Result<()> {
        self.socket.read_exact(&mut [0; PREFACE_BYTES])?;
        self.frame(SETTINGS, 0, 0, &[]);
        self.window_update(CONNECTION_WINDOW_BYTES);
        let mut buffer = vec![0; 256 * 1024];
        let mut filled = 0;
        loop {
            let length = self.socket.read(&mut buffer[filled..])?;
            if length == 0 {
                return Ok(());
            }
            filled += length;
            let mut at = 0;
            while let Some(frame) = whole_frame(&buffer[at..filled]) {
                at += HEAD_BYTES + frame.payload.len();
                self.take(&frame)?;
            }
            buffer.copy_within(at..filled, 0);
            filled -= at;
            if self.taken_bytes > CONNECTION_WINDOW_BYTES / 4 {
                self.window_update(self.taken_bytes);
                self.taken_bytes = 0;
            }
            self.socket.write_all(&self.out)?;
            self.socket.flush()?;
            self.out.clear();
        }
    }

    fn take(&mut self, frame: &Frame<'_>) -> io::Result<()> {
        match frame.kind {
            SETTINGS if frame.flags & ACK == 0 => self.frame(SETTINGS, ACK, 0, &[]),
            PING if frame.flags & ACK == 0 => self.frame(PING, ACK, 0, frame.payload),
            DATA => {
                self.taken_bytes += u32::try_from(frame.payload.len()).expect("a frame");
                if frame.flags & END_STREAM != 0 {
                    return self.answer(frame.stream);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn answer(&mut self, stream: u32) -> io::Result<()> {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        if self.manners.breaks_at == Some(number) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        (self.manners.before)(number);
        let status = (self.manners.status)(number);
        if status != 0 {
            // An error has no message: all in one.
            let error = format!("\x00\x0bgrpc-status{}{status}", char::from(1 + status / 10));
            let trailers = [b"\x88", error.as_bytes()].concat();
            self.frame(HEADERS, END_HEADERS | END_STREAM, stream, &trailers);
            return Ok(());
        }
        let first = !std::mem::replace(&mut self.has_answered, true);
        let (head, trailers) = if first { (FIRST_HEAD, FIRST_TRAILERS) } else { (HEAD, TRAILERS) };
        self.frame(HEADERS, END_HEADERS, stream, head);
        let length = u32::try_from(self.manners.reply.len()).expect("a small reply");
        let message = [&[0][..], &length.to_be_bytes(), &self.manners.reply].concat();
        self.frame(DATA, 0, stream, &message);
        self.frame(HEADERS, END_HEADERS | END_STREAM, stream, trailers);
        Ok(())
    }

    fn window_update(&mut self, bytes: u32) {
        self.frame(WINDOW_UPDATE, 0, 0, &bytes.to_be_bytes());
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).expect("a small frame").to_be_bytes();
        self.out.extend_from_slice(&length[1..]);
        self.out.extend_from_slice(&[kind, flags]);
        self.out.extend_from_slice(&stream.to_be_bytes());
        self.out.extend_from_slice(payload);
    }
}

struct Frame<'a> {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: &'a [u8],
}

fn whole_frame(bytes: &[u8]) -> Option<Frame<'_>> {
    let head = bytes.get(..HEAD_BYTES)?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
    Some(Frame {
        kind: head[3],
        flags: head[4],
        stream,
        payload: bytes.get(HEAD_BYTES..HEAD_BYTES + length)?,
    })
}

/// Stop answering for a while.
pub fn stall(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}
