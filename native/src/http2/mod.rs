//! One HTTP/2 connection: its calls, their bodies in both directions, its deadlines and its manners.
//!
//! Everything sits in `State` behind one lock. The door's thread holds it while it serves the
//! connection's task; Python's thread may hold it to write a few answers. Whoever holds it ends with
//! `step`, which lets h2 read and write, hands new calls over and sends what was gathered. So h2
//! only ever wakes somebody who is just about to look, with two exceptions that `Wake` is for: the
//! socket, and h2's own state while nobody holds the lock.
//!
//! A unary call costs no task and no waker: its body is polled once when it opens. Only a body that
//! was not complete then, and streams, have a waker each, which puts them on the `woken` list.
//! Resets are read from the frame heads (manners.rs), because h2 would have to be asked per call.
//!
//! ```text
//! state.rs      what the lock guards: the step, the manners, deadlines, keepalive
//! arriving.rs   calls coming in
//! answering.rs  answers going out
//! call.rs       one call, and what its answer is on the wire
//! intake.rs     a request's body on its way in
//! outlet.rs     a stream's messages on their way out
//! ```

mod answering;
mod arriving;
mod call;
mod intake;
mod outlet;
mod state;

use std::future::{Future, poll_fn};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use bytes::Bytes;
use h2::server;

use crate::border::{Border, Connection, Event, Reply, call_id, lock, what};
use crate::farewell;
use crate::io::Gathered;
use state::{Alive, State};

const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 1 << 24;
const SEND_BUFFER_BYTES: usize = 1 << 20; // per stream, inside h2
const FRAME_BYTES_MAX: u32 = 1 << 16;
const PENDING_RESETS_MAX: usize = 1000; // opened and reset in one read

pub struct Http2 {
    number: u64,
    border: Arc<Border>,
    state: Mutex<Option<State>>, // None: over
    task: Mutex<Option<Waker>>,
    quiet: AtomicBool, // the holder of the lock is about to step: nobody need be woken
    woken: Mutex<Vec<u32>>,
    unsent_bytes: Arc<AtomicUsize>,
    lingers: AtomicBool, // its peer is to read why it was sent away
}

/// Shake hands and serve until the connection ends. `opened` tells Python of it.
pub async fn serve(border: Arc<Border>, number: u64, io: Gathered, opened: Event) {
    let wire = io.0.clone();
    let settings = &border.settings;
    let mut builder = server::Builder::new();
    builder
        .max_concurrent_streams(settings.streams_max)
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buffer_size(SEND_BUFFER_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_header_list_size(settings.header_list_bytes_max)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX);
    let handshake = builder.handshake::<_, Bytes>(io);
    tokio::pin!(handshake);
    let shaken = poll_fn(|cx| {
        let result = handshake.as_mut().poll(cx);
        let _ = lock(&wire).flush(cx); // an error shows at the next read
        result
    });
    let Ok(Ok(mut h2)) = tokio::time::timeout(settings.handshake, shaken).await else {
        return;
    };
    if border.stopping.load(Ordering::Acquire) {
        h2.graceful_shutdown();
    }
    let state = State::new(h2, wire.clone(), settings, opened);
    let connection = Arc::new(Http2 {
        number,
        border: border.clone(),
        state: Mutex::new(Some(state)),
        task: Mutex::new(None),
        quiet: AtomicBool::new(false),
        woken: Mutex::new(Vec::new()),
        unsent_bytes: Arc::default(),
        lingers: AtomicBool::new(false),
    });
    border.register(number, connection.clone());
    let _guard = AbandonOnDrop(connection.clone());
    poll_fn(|cx| connection.clone().poll_task(cx)).await;
    if connection.lingers.load(Ordering::Acquire) {
        if let Some(wire) = Arc::into_inner(wire) {
            let (mut transport, rest) = wire.into_inner().unwrap_or_else(PoisonError::into_inner).into_rest();
            farewell::leave(&mut transport, &rest).await;
        }
    }
}

/// A task that panics or is dropped leaves no connection behind. (Ended ones are None already.)
struct AbandonOnDrop(Arc<Http2>);

impl Drop for AbandonOnDrop {
    fn drop(&mut self) {
        self.0.clone().abandon();
    }
}

impl Http2 {
    fn wake_task(&self) {
        if let Some(waker) = &*lock(&self.task) {
            waker.wake_by_ref();
        }
    }

    fn poll_task(self: Arc<Self>, cx: &mut Context<'_>) -> Poll<()> {
        {
            let mut task = lock(&self.task);
            if !task.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                *task = Some(cx.waker().clone());
            }
        }
        let guard = lock(&self.state);
        if guard.is_none() || !self.step(guard) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// The end of every visit. False: the connection is over.
    fn step(self: &Arc<Self>, mut guard: MutexGuard<'_, Option<State>>) -> bool {
        let waker = Waker::from(self.clone());
        let Some(state) = guard.as_mut() else { return false };
        let alive = state.step(self, &mut Context::from_waker(&waker));
        self.quiet.store(false, Ordering::Release);
        if !alive {
            if let Some(state) = guard.take() {
                self.close(state);
            }
            drop(guard);
            self.wake_task(); // so that it ends
            return false;
        }
        let must_wake = self.border.enqueue(&mut state.events);
        drop(guard); // before Python wakes: it may answer at once, and write that itself
        if must_wake {
            self.border.wake_python();
        }
        true
    }

    fn close(&self, mut state: State) {
        state.events.extend(
            state
                .calls
                .iter()
                .filter(|(_, call)| call.seen)
                .map(|(stream, _)| Event::new(call_id(self.number, *stream), what::CANCEL)),
        );
        state.events.push(Event::new(call_id(self.number, 0), what::CLOSED));
        self.border.unregister(self.number);
        self.border.push(&mut state.events);
    }

    fn is_held_up(&self) -> bool {
        self.border.holds_up(self.unsent_bytes.load(Ordering::Relaxed))
    }

    fn stream_waker(self: &Arc<Self>, stream: u32) -> Waker {
        Waker::from(Arc::new(StreamWaker { connection: Arc::downgrade(self), stream }))
    }
}

impl Connection for Http2 {
    fn deliver(self: Arc<Self>, replies: Vec<Reply>, wait: bool) -> Result<(), Vec<Reply>> {
        let mut guard = if wait {
            lock(&self.state)
        } else if self.unsent_bytes.load(Ordering::Relaxed) > 0 {
            return Err(replies); // Python's thread would carry large answers, too, and for long
        } else {
            match self.state.try_lock() {
                Ok(guard) => guard,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return Err(replies),
            }
        };
        if let Some(state) = guard.as_mut() {
            self.quiet.store(true, Ordering::Release);
            for reply in replies {
                state.carry_out(&self, reply);
            }
            if !wait {
                state.approach(&self);
            }
            self.step(guard);
        }
        Ok(())
    }

    fn read(self: Arc<Self>) {
        let mut guard = lock(&self.state);
        let Some(state) = guard.as_mut() else { return };
        if self.border.near.are_calls_lone() {
            lock(&state.wire).socket().is_readable();
            self.step(guard);
        } else {
            state.leave(&self);
        }
    }

    fn unsent_bytes(&self) -> Arc<AtomicUsize> {
        self.unsent_bytes.clone()
    }

    fn tick(self: Arc<Self>) {
        let Ok(mut guard) = self.state.try_lock() else { return }; // at work; the next tick will do
        let Some(state) = guard.as_mut() else { return };
        let waker = Waker::from(self.clone());
        let now = Instant::now();
        state.leave_if_idle(&self);
        let expired = state.expire(&self, now);
        let unsent_bytes = self.unsent_bytes.load(Ordering::Relaxed);
        let alive = match state.is_in_the_way(&self.border, unsent_bytes, now) {
            true => Alive::Dead,
            false => state.keep_alive(&self.border, now, &mut Context::from_waker(&waker)),
        };
        match alive {
            Alive::Quiet if expired || (state.held_up && !self.is_held_up()) => {}
            Alive::Quiet => return,
            Alive::Pinged => {}
            Alive::Dead => {
                if let Some(state) = guard.take() {
                    self.close(state);
                }
                drop(guard);
                return self.wake_task();
            }
        }
        self.step(guard);
    }

    fn wake(&self) {
        self.wake_task();
    }

    fn stop(self: Arc<Self>) {
        let mut guard = lock(&self.state);
        if let Some(state) = guard.as_mut() {
            state.h2.graceful_shutdown();
            self.step(guard);
        }
    }

    fn abandon(self: Arc<Self>) {
        let Some(state) = lock(&self.state).take() else { return };
        let mut context = Context::from_waker(Waker::noop());
        let _ = lock(&state.wire).shut_down(&mut context);
        let State { calls, events, h2, .. } = state;
        let mut left = events;
        for (stream, call) in calls {
            if call.seen {
                left.push(Event::new(call_id(self.number, stream), what::CANCEL));
            }
            std::mem::forget(call); // h2's handles panic on drop if h2 itself did
        }
        std::mem::forget(h2);
        left.push(Event::new(call_id(self.number, 0), what::CLOSED));
        self.border.unregister(self.number);
        self.border.push(&mut left);
        self.wake_task();
    }
}

// ── wakers ──────────────────────────────────────────────────────────────────

/// Puts one stream on its connection's list. Only h2 wakes it, under the connection's lock, so the
/// step that follows will see it.
struct StreamWaker {
    connection: Weak<Http2>,
    stream: u32,
}

impl Wake for StreamWaker {
    fn wake(self: Arc<Self>) {
        if let Some(connection) = self.connection.upgrade() {
            lock(&connection.woken).push(self.stream);
        }
    }
}

impl Wake for Http2 {
    fn wake(self: Arc<Self>) {
        if !self.quiet.load(Ordering::Acquire) {
            self.wake_task();
        }
    }
}
