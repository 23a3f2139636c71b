//! One connection of watchers: its streams, what they still have to ask for, what they are told.
//!
//! Not by the h2 crate: an event costs the generator a third this way, and what the generator takes
//! is missing to the server that it measures.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::grpc::{FRAME_HEAD_BYTES, frame_head};
use crate::load::audience::response;
use crate::load::audience::{Hall, STAMP_BYTES};
use crate::load::frames::{self, ACK, Frame, WINDOW_BYTES, kind};
use crate::load::plan::{Audience, Target};
use crate::load::socket::{CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES, Socket, connect};

/// What all connections read into, one after the other.
pub type Scratch = Rc<RefCell<Box<[u8]>>>;
pub const SCRATCH_BYTES: usize = 512 * 1024;

/// A range of watchers, by number: those of one stream.
pub struct Seats {
    pub first: usize,
    pub count: usize,
}

struct Stream {
    seats: Seats,
    asked: usize,
    window: i64,   // what may still be sent
    consumed: u32, // and not yet given back
    torn: Vec<u8>, // the beginning of a message
}

pub struct Listener {
    hall: Rc<Hall>,
    socket: Socket,
    create: Bytes, // a message in its frame
    streams: Vec<Stream>,
    window: i64,
    stream_window: u32, // that the server grants each stream to begin with
    consumed: u32,
    torn: Vec<u8>, // the beginning of a frame
    out: Vec<u8>,
    sent: usize, // of `out`
}

impl Listener {
    pub async fn dial(
        hall: Rc<Hall>,
        plan: &Audience,
        target: &Target,
        seats: Vec<Seats>,
        timeout: Duration,
    ) -> io::Result<Self> {
        let connecting = tokio::time::timeout(timeout, connect(target));
        let socket = connecting.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let mut out = Vec::new();
        frames::push_opening(&mut out, STREAM_WINDOW_BYTES, CONNECTION_WINDOW_BYTES);
        for place in 0..seats.len() {
            let is_tls = target.tls.is_some();
            frames::push_request(&mut out, stream_id(place), is_tls, &target.authority, &plan.path);
        }
        let create = [&frame_head(plan.message.len(), false)[..], &plan.message].concat();
        let streams = seats.into_iter().map(|seats| Stream {
            seats,
            asked: 0,
            window: i64::from(WINDOW_BYTES),
            consumed: 0,
            torn: Vec::new(),
        });
        Ok(Listener {
            hall,
            socket,
            create: create.into(),
            streams: streams.collect(),
            window: i64::from(WINDOW_BYTES),
            stream_window: WINDOW_BYTES,
            consumed: 0,
            torn: Vec::new(),
            out,
            sent: 0,
        })
    }

    /// Listens until something breaks: what.
    pub async fn listen(mut self, scratch: Scratch) -> io::Error {
        loop {
            self.ask();
            let read = poll_fn(|cx| {
                if let Poll::Ready(Err(error)) = self.flush(cx) {
                    return Poll::Ready(Err(error));
                }
                let mut scratch = scratch.borrow_mut();
                let mut buffer = ReadBuf::new(&mut scratch);
                Pin::new(&mut self.socket).poll_read(cx, &mut buffer).map_ok(|()| buffer.filled().len())
            });
            match read.await {
                Err(error) => return error,
                Ok(0) => return io::Error::other("the server closed a connection of watchers"),
                Ok(size) => {
                    if let Err(error) = self.take(&scratch.borrow()[..size]) {
                        return error;
                    }
                }
            }
        }
    }

    fn flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.out.len() {
            let written = Pin::new(&mut self.socket).poll_write(cx, &self.out[self.sent..]);
            self.sent += std::task::ready!(written)?;
        }
        self.sent = 0;
        self.out.clear();
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    /// For as many watchers as there is room to ask for.
    fn ask(&mut self) {
        let size = self.create.len() as i64;
        for (place, stream) in self.streams.iter_mut().enumerate() {
            while stream.asked < stream.seats.count && stream.window >= size && self.window >= size {
                frames::push_data(&mut self.out, stream_id(place), &self.create);
                stream.asked += 1;
                stream.window -= size;
                self.window -= size;
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        let now = Instant::now();
        if self.torn.is_empty() {
            let used = self.take_frames(bytes, now)?;
            self.torn.extend_from_slice(&bytes[used..]);
        } else {
            let mut torn = std::mem::take(&mut self.torn);
            torn.extend_from_slice(bytes);
            let used = self.take_frames(&torn, now)?;
            torn.drain(..used);
            self.torn = torn;
        }
        Ok(())
    }

    fn take_frames(&mut self, bytes: &[u8], now: Instant) -> io::Result<usize> {
        let mut used = 0;
        while let Some((frame, size)) = frames::first(&bytes[used..]) {
            used += size;
            self.take_frame(&frame, now)?;
        }
        Ok(used)
    }

    fn take_frame(&mut self, frame: &Frame<'_>, now: Instant) -> io::Result<()> {
        match frame.kind {
            kind::DATA => self.take_data(frame, now)?,
            kind::SETTINGS if frame.flags & ACK == 0 => {
                if let Some(window) = frame.initial_window() {
                    let change = i64::from(window) - i64::from(self.stream_window);
                    self.stream_window = window;
                    self.streams.iter_mut().for_each(|stream| stream.window += change);
                }
                frames::push_settings_ack(&mut self.out);
            }
            kind::PING if frame.flags & ACK == 0 => frames::push_ping_ack(&mut self.out, frame.payload),
            kind::WINDOW_UPDATE if frame.stream == 0 => self.window += i64::from(frame.increment()),
            kind::WINDOW_UPDATE => {
                if let Some(stream) = self.streams.get_mut(place_of(frame.stream)) {
                    stream.window += i64::from(frame.increment());
                }
            }
            kind::RST_STREAM => return Err(io::Error::other("the server reset a watch stream")),
            kind::GOAWAY => return Err(io::Error::other("the server sent a connection of watchers away")),
            _ => {}
        }
        if frame.kind <= kind::HEADERS && frame.is_end() {
            return Err(io::Error::other("the server ended a watch stream"));
        }
        Ok(())
    }

    fn take_data(&mut self, frame: &Frame<'_>, now: Instant) -> io::Result<()> {
        let Some(stream) = self.streams.get_mut(place_of(frame.stream)) else {
            return Err(io::Error::other("the server answered on a stream that nobody opened"));
        };
        let size = frame.payload.len() as u32;
        for (id, consumed, window) in [
            (0, &mut self.consumed, CONNECTION_WINDOW_BYTES),
            (frame.stream, &mut stream.consumed, STREAM_WINDOW_BYTES),
        ] {
            *consumed += size;
            if *consumed >= window / 2 {
                frames::push_window(&mut self.out, id, std::mem::take(consumed));
            }
        }
        let Stream { seats, torn, .. } = stream;
        if torn.is_empty() {
            let used = hear_all(&self.hall, seats, frame.data(), now)?;
            torn.extend_from_slice(&frame.data()[used..]);
        } else {
            torn.extend_from_slice(frame.data());
            let used = hear_all(&self.hall, seats, torn, now)?;
            torn.drain(..used);
        }
        Ok(())
    }
}

/// A gRPC message and what follows it; None: it is not complete.
fn first_message(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let head = bytes.get(..FRAME_HEAD_BYTES)?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    bytes[FRAME_HEAD_BYTES..].split_at_checked(length)
}

/// The messages that are complete. Returns how many bytes they take.
fn hear_all(hall: &Hall, seats: &Seats, bytes: &[u8], now: Instant) -> io::Result<usize> {
    let mut left = bytes;
    while let Some((message, rest)) = first_message(left) {
        hear(hall, seats, message, now)?;
        left = rest;
    }
    Ok(bytes.len() - left.len())
}

/// Watchers are numbered in the order in which they are made: on a stream by the server from 0 up.
fn hear(hall: &Hall, seats: &Seats, message: &[u8], now: Instant) -> io::Result<()> {
    let head = response::head(message);
    if head.is_canceled {
        let text = format!("the server canceled a watcher: {}", head.reason);
        return Err(io::Error::other(text));
    }
    if head.is_created {
        hall.created();
    }
    let place = usize::try_from(head.watch_id).unwrap_or(usize::MAX);
    let watcher = if place < seats.count { seats.first + place } else { usize::MAX };
    hall.hear(response::puts(message).map(|put| (watcher, put.revision, stamp(put.value))), now);
    Ok(())
}

fn stamp(value: &[u8]) -> Option<u64> {
    value.first_chunk::<STAMP_BYTES>().map(|bytes| u64::from_be_bytes(*bytes))
}

fn stream_id(place: usize) -> u32 {
    place as u32 * 2 + 1
}

fn place_of(stream: u32) -> usize {
    stream as usize / 2
}
