//! What a connection's lock guards, and the step that every visit ends with. Deadlines, keepalive
//! and the manners are judged here; time is an argument.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::os::fd::RawFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use h2::{Ping, PingPong, server};

use super::Http2;
use super::call::Call;
use crate::border::{Border, Event, call_id, lock, what};
use crate::farewell::go_away;
use crate::grpc::{self, Refusal};
use crate::io::{Gathered, Wire};
use crate::manners::{Manners, Rude, Seen};
use crate::settings::Settings;

pub(super) struct State {
    pub(super) h2: server::Connection<Gathered, Bytes>,
    pub(super) wire: Arc<Mutex<Wire>>,
    pub(super) calls: Calls,
    pub(super) events: Vec<Event>,
    pub(super) manners: Manners,
    pub(super) newest_stream: u32,
    pub(super) next_deadline: Option<Instant>, // no later than the earliest one
    keepalive: Keepalive,
    near: Option<Nearness>,   // Python's thread reads it (near.rs)
    taken: (u64, Instant),    // what the client took last, and when
    pub(super) held_up: bool, // by a full border, or by answers that its client does not read
}

struct Nearness {
    fd: RawFd,
    reads: u64, // at the last tick
}

struct Keepalive {
    pings: Option<PingPong>,
    reads: u64,
    silent_since: Instant,
    pinged: Option<Instant>,
}

pub(super) enum Alive {
    Quiet,
    Pinged,
    Dead,
}

impl State {
    pub(super) fn new(
        mut h2: server::Connection<Gathered, Bytes>,
        wire: Arc<Mutex<Wire>>,
        settings: &Settings,
        opened: Event,
    ) -> Self {
        let now = Instant::now();
        let keepalive = Keepalive { pings: h2.ping_pong(), reads: 0, silent_since: now, pinged: None };
        State {
            h2,
            wire,
            calls: Calls::default(),
            events: vec![opened],
            manners: Manners::new(settings.ping_interval_min, settings.resets_per_second_max, now),
            newest_stream: 0,
            next_deadline: None,
            keepalive,
            near: None,
            taken: (0, now),
            held_up: false,
        }
    }

    /// Let h2 read and write, take in calls, serve woken streams, send.
    pub(super) fn step(&mut self, connection: &Arc<Http2>, cx: &mut Context<'_>) -> bool {
        let mut alive = true;
        self.serve_woken(connection); // what casts are due to: so h2 is polled once for them
        loop {
            connection.quiet.store(false, Ordering::Release);
            alive = alive && self.accept(connection, cx);
            let rude = self.look_along(connection);
            if !alive || rude.is_some() {
                if let Some(rude) = rude {
                    connection.border.counters.rude.fetch_add(1, Ordering::Relaxed);
                    lock(&self.wire).append_frame(&go_away(self.newest_stream, rude.text()));
                    connection.lingers.store(true, Ordering::Release);
                }
                let _ = lock(&self.wire).flush(cx); // the connection ends either way
                self.leave(connection);
                return false;
            }
            if !self.serve_woken(connection) {
                break;
            }
        }
        let flushed = lock(&self.wire).flush(cx);
        if self.near.is_some() && (flushed.is_pending() || lock(&self.wire).socket().has_unread()) {
            self.leave(connection); // the peer is to read first, or we are held up
        }
        !matches!(flushed, Poll::Ready(Err(_)))
    }

    /// If calls come one at a time, Python's thread reads this connection from here on.
    pub(super) fn approach(&mut self, connection: &Http2) {
        let near = &connection.border.near;
        if self.near.is_some() || !near.are_calls_lone() {
            return;
        }
        let (fd, reads) = {
            let wire = &mut *lock(&self.wire);
            (wire.socket().approach(), wire.reads)
        };
        if let Some(fd) = fd {
            self.near = Some(Nearness { fd, reads });
            if near.add(fd, connection.number).is_err() {
                self.leave(connection);
            }
        }
    }

    /// The door's thread reads it from here on.
    pub(super) fn leave(&mut self, connection: &Http2) {
        if let Some(Nearness { fd, .. }) = self.near.take() {
            connection.border.near.remove(fd);
            lock(&self.wire).socket().leave();
            connection.wake_task(); // so that tokio is asked for what comes
        }
    }

    /// A near connection that brings nothing for a tick leaves: what comes next may find Python's
    /// thread at work for long.
    pub(super) fn leave_if_idle(&mut self, connection: &Http2) {
        let Some(near) = &mut self.near else { return };
        let reads = std::mem::replace(&mut near.reads, lock(&self.wire).reads);
        if reads == near.reads {
            self.leave(connection);
        }
    }

    /// False: there was none.
    fn serve_woken(&mut self, connection: &Arc<Http2>) -> bool {
        let woken = std::mem::take(&mut *lock(&connection.woken));
        if woken.is_empty() {
            return false;
        }
        connection.quiet.store(true, Ordering::Release);
        woken.into_iter().for_each(|stream| self.serve(connection, stream));
        true
    }

    fn accept(&mut self, connection: &Arc<Http2>, cx: &mut Context<'_>) -> bool {
        loop {
            self.held_up = connection.is_held_up();
            if self.held_up {
                return self.h2.poll_closed(cx).is_pending(); // answers still leave
            }
            match self.h2.poll_accept(cx) {
                Poll::Pending => return true,
                Poll::Ready(None | Some(Err(_))) => return false,
                Poll::Ready(Some(Ok((request, respond)))) => self.open(connection, request, respond, cx),
            }
        }
    }

    /// Resets, and what the manners say.
    fn look_along(&mut self, connection: &Arc<Http2>) -> Option<Rude> {
        let (answered, resets, pings, control_frames) = {
            let Wire { scan, answers, .. } = &mut *lock(&self.wire);
            if scan.resets.is_empty() && scan.control_frames == 0 {
                return None;
            }
            let counts = (scan.pings, scan.control_frames);
            (scan.pings, scan.control_frames) = (0, 0);
            (answers.take(), std::mem::take(&mut scan.resets), counts.0, counts.1)
        };
        for stream in &resets {
            self.cancel(connection, *stream);
        }
        let seen = Seen {
            answered,
            pings,
            control_frames,
            resets: &resets,
            newest_stream: self.newest_stream,
            calls: self.calls.len(),
        };
        self.manners.judge(&seen, Instant::now())
    }

    pub(super) fn cancel(&mut self, connection: &Http2, stream: u32) {
        if let Some(call) = self.calls.remove(&stream) {
            if call.seen {
                self.events.push(Event::new(call_id(connection.number, stream), what::CANCEL));
            }
        }
    }

    /// End the calls whose deadline has passed.
    pub(super) fn expire(&mut self, connection: &Arc<Http2>, now: Instant) -> bool {
        if self.next_deadline.is_none_or(|deadline| now < deadline) {
            return false;
        }
        let due = |call: &Call| call.deadline.is_some_and(|deadline| deadline <= now);
        let expired: Vec<u32> =
            self.calls.iter().filter(|(_, call)| due(call)).map(|(stream, _)| *stream).collect();
        for stream in &expired {
            let refusal = Refusal::new(grpc::DEADLINE_EXCEEDED, "context deadline exceeded");
            self.refuse(connection, *stream, refusal);
        }
        self.next_deadline = self.calls.values().filter_map(|call| call.deadline).min();
        !expired.is_empty()
    }

    /// A client that takes nothing of what it asked for, while such answers fill the memory.
    pub(super) fn is_in_the_way(&mut self, border: &Border, unsent_bytes: usize, now: Instant) -> bool {
        let writes = lock(&self.wire).writes;
        if unsent_bytes == 0 || writes != self.taken.0 {
            self.taken = (writes, now);
        }
        border.is_crowded() && now.duration_since(self.taken.1) >= border.settings.write
    }

    /// A peer that says nothing is asked, and given up when it stays silent.
    pub(super) fn keep_alive(&mut self, border: &Border, now: Instant, cx: &mut Context<'_>) -> Alive {
        let keepalive = &mut self.keepalive;
        let (interval, timeout) = (border.settings.keepalive_interval, border.settings.keepalive_timeout);
        let Some(pings) = keepalive.pings.as_mut().filter(|_| !interval.is_zero()) else {
            return Alive::Quiet;
        };
        let reads = lock(&self.wire).reads;
        if reads != keepalive.reads {
            (keepalive.reads, keepalive.silent_since) = (reads, now);
            if keepalive.pinged.take().is_some() {
                let _ = pings.poll_pong(cx); // so that h2 lets us ping again
            }
        } else if let Some(pinged) = keepalive.pinged {
            if !timeout.is_zero() && now.duration_since(pinged) >= timeout {
                return Alive::Dead;
            }
        } else if now.duration_since(keepalive.silent_since) >= interval {
            keepalive.pinged = Some(now);
            if pings.send_ping(Ping::opaque()).is_ok() {
                return Alive::Pinged;
            }
        }
        Alive::Quiet
    }
}

type Calls = HashMap<u32, Call, BuildHasherDefault<StreamHasher>>;

/// Stream numbers are chosen by the peer but strictly ascending: a multiplication spreads them.
#[derive(Default)]
pub(super) struct StreamHasher(u64);

impl Hasher for StreamHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u32(u32::from(*byte)));
    }
    fn write_u32(&mut self, value: u32) {
        self.0 = (self.0 ^ u64::from(value)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }
}
