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

use std::collections::{HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use bytes::Bytes;
use h2::server::{self, SendResponse};
use h2::{Ping, PingPong, Reason, RecvStream, SendStream};
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, Method as HttpMethod, Request, Response, StatusCode, request};

use crate::border::{
    Action, Border, CallId, Connection, Event, Message, Method, Reply, Status, call_id, lock, stream_of, what,
};
use crate::grpc::{self, Decoder, Pairs, Refusal, Value};
use crate::io::{Gathered, Wire};
use crate::manners::{Manners, Rude, Seen};
use crate::settings::{CREDIT_LUMP_BYTES, MESSAGE_OVERHEAD_BYTES, STREAM_CREDIT_BYTES};

const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 1 << 24;
const SEND_BUFFER_BYTES: usize = 1 << 20; // per stream, inside h2
const FRAME_BYTES_MAX: u32 = 1 << 16;
const PENDING_RESETS_MAX: usize = 1000; // opened and reset in one read
const ENHANCE_YOUR_CALM: u32 = 0xb;

type Calls = HashMap<u32, Call, BuildHasherDefault<StreamHasher>>;

/// Stream numbers are chosen by the peer but strictly ascending: a multiplication spreads them.
#[derive(Default)]
struct StreamHasher(u64);

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

// ── one call ────────────────────────────────────────────────────────────────

struct Call {
    answer: Answer,
    kind: Kind,
    gzip: bool,
    seen: bool, // Python knows of it, and must be told when it is cancelled
    deadline: Option<Instant>,
    intake: Option<Box<Intake>>, // until the request is complete
    outlet: Option<Box<Outlet>>, // of a stream
    waker: Option<Waker>,
}

enum Answer {
    Head(SendResponse<Bytes>), // nothing was sent yet
    Body(SendStream<Bytes>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    OneMessage,
    Stream,
    Http,
}

/// The request's body on its way in.
struct Intake {
    body: RecvStream,
    decoder: Decoder,
    message: Option<Bytes>,
    call: Option<Event>, // handed over once its one message is complete
    credit: isize,       // of a stream; Python gives it back as it consumes
}

enum Pulled {
    More,
    Complete,
    Refused(Refusal),
    Gone,
}

impl Intake {
    fn pull(&mut self, kind: Kind, id: CallId, events: &mut Vec<Event>, cx: &mut Context<'_>) -> Pulled {
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

/// A stream's messages on their way out, as far as the client's window lets them.
#[derive(Default)]
struct Outlet {
    queue: VecDeque<Piece>,
    queued_bytes: usize,
    left_bytes: usize, // of credit, not yet given back to Python
    ending: Option<Box<Status>>,
}

struct Piece {
    bytes: Bytes,
    credit: usize, // that its leaving gives back: Python counts messages before they are packed
}

impl Outlet {
    fn push(&mut self, bytes: Bytes, credit: usize) {
        self.queued_bytes += bytes.len();
        self.queue.push_back(Piece { bytes, credit });
    }

    /// False: the stream is gone.
    fn pump(&mut self, sink: &mut SendStream<Bytes>, cx: &mut Context<'_>) -> bool {
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

impl Call {
    fn new(respond: SendResponse<Bytes>, kind: Kind) -> Self {
        Call {
            answer: Answer::Head(respond),
            kind,
            gzip: false,
            seen: false,
            deadline: None,
            intake: None,
            outlet: None,
            waker: None,
        }
    }

    /// The stream to write to; its head is sent if it was not.
    fn sink(&mut self, pairs: Option<(u16, &Pairs)>) -> Option<&mut SendStream<Bytes>> {
        if let Answer::Head(respond) = &mut self.answer {
            let mut head = Response::new(());
            if self.kind == Kind::Http {
                let code = pairs.map_or(200, |(code, _)| code);
                *head.status_mut() = StatusCode::from_u16(code).ok()?;
            } else {
                head.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
                if self.gzip {
                    head.headers_mut().insert("grpc-encoding", HeaderValue::from_static("gzip"));
                }
            }
            if let Some((_, pairs)) = pairs {
                grpc::put_metadata(head.headers_mut(), pairs);
            }
            self.answer = Answer::Body(respond.send_response(head, false).ok()?);
        }
        match &mut self.answer {
            Answer::Body(stream) => Some(stream),
            Answer::Head(_) => None,
        }
    }

    /// As it goes over the wire: one piece, or the frame head and the bytes that Python holds.
    fn encode(&self, message: Message) -> (Bytes, Option<Bytes>) {
        if self.kind == Kind::Http {
            return (message.body(), None);
        }
        if self.gzip {
            let body = message.body();
            let (packed, flag) = match grpc::compress(&body) {
                Ok(packed) => (Bytes::from(packed), true),
                Err(_) => (body, false), // writing to memory does not fail; unpacked is right too
            };
            let head = grpc::frame_head(packed.len(), flag);
            return (Bytes::copy_from_slice(&head), Some(packed));
        }
        match message {
            Message::Framed(bytes) => (bytes, None),
            Message::Bare(bytes) => {
                let head = grpc::frame_head(bytes.len(), false);
                (Bytes::copy_from_slice(&head), Some(bytes))
            }
        }
    }

    /// A unary call's answer, all of it. An error means that the client is gone.
    fn send_answer(mut self, message: Message) -> Option<()> {
        let (first, second) = self.encode(message);
        let sink = self.sink(None)?;
        sink.send_data(first, false).ok()?;
        if let Some(second) = second {
            sink.send_data(second, false).ok()?;
        }
        let mut trailers = HeaderMap::with_capacity(1);
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        sink.send_trailers(trailers).ok()
    }

    /// The end of the answer: trailers, or headers alone if nothing was sent yet.
    fn send_status(mut self, status: &Status) -> Option<()> {
        if self.kind == Kind::Http {
            return self.sink(Some((500, &Pairs::new())))?.send_data(Bytes::new(), true).ok();
        }
        let mut trailers = HeaderMap::with_capacity(4);
        trailers.insert("grpc-status", HeaderValue::from(status.code));
        if !status.message.is_empty() {
            trailers.insert("grpc-message", grpc::percent_encode(&status.message));
        }
        grpc::put_metadata(&mut trailers, &status.trailers);
        match &mut self.answer {
            Answer::Body(sink) => sink.send_trailers(trailers).ok(),
            Answer::Head(respond) => {
                trailers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
                let mut head = Response::new(());
                *head.headers_mut() = trailers;
                respond.send_response(head, true).ok().map(drop)
            }
        }
    }

    fn refuse(self, refusal: Refusal) {
        let message = refusal.message.into_owned();
        self.send_status(&Status { code: refusal.code, message, trailers: Pairs::new() });
    }

    fn reset(self) {
        match self.answer {
            Answer::Head(mut respond) => respond.send_reset(Reason::INTERNAL_ERROR),
            Answer::Body(mut sink) => sink.send_reset(Reason::INTERNAL_ERROR),
        }
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

// ── the connection ──────────────────────────────────────────────────────────

pub struct Http2 {
    number: u64,
    border: Arc<Border>,
    state: Mutex<Option<State>>, // None: over
    task: Mutex<Option<Waker>>,
    quiet: AtomicBool, // the holder of the lock is about to step: nobody need be woken
    woken: Mutex<Vec<u32>>,
    unsent_bytes: Arc<AtomicUsize>,
}

struct State {
    h2: server::Connection<Gathered, Bytes>,
    wire: Arc<Mutex<Wire>>,
    calls: Calls,
    events: Vec<Event>,
    manners: Manners,
    newest_stream: u32,
    next_deadline: Option<Instant>, // no later than the earliest one
    keepalive: Keepalive,
    held_up: bool, // by a full border, or by answers that its client does not read
}

struct Keepalive {
    pings: Option<PingPong>,
    reads: u64,
    silent_since: Instant,
    pinged: Option<Instant>,
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
    let now = Instant::now();
    let keepalive = Keepalive { pings: h2.ping_pong(), reads: 0, silent_since: now, pinged: None };
    let manners = Manners::new(settings.ping_interval_min, settings.resets_per_second_max, now);
    if border.stopping.load(Ordering::Acquire) {
        h2.graceful_shutdown();
    }
    let state = State {
        h2,
        wire,
        calls: Calls::default(),
        events: vec![opened],
        manners,
        newest_stream: 0,
        next_deadline: None,
        keepalive,
        held_up: false,
    };
    let connection = Arc::new(Http2 {
        number,
        border: border.clone(),
        state: Mutex::new(Some(state)),
        task: Mutex::new(None),
        quiet: AtomicBool::new(false),
        woken: Mutex::new(Vec::new()),
        unsent_bytes: Arc::default(),
    });
    border.register(number, connection.clone());
    let _guard = AbandonOnDrop(connection.clone());
    poll_fn(|cx| connection.clone().poll_task(cx)).await;
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
            self.step(guard);
        }
        Ok(())
    }

    fn unsent_bytes(&self) -> Arc<AtomicUsize> {
        self.unsent_bytes.clone()
    }

    fn tick(self: Arc<Self>) {
        let Ok(mut guard) = self.state.try_lock() else { return }; // at work; the next tick will do
        let Some(state) = guard.as_mut() else { return };
        let waker = Waker::from(self.clone());
        let now = Instant::now();
        let expired = state.expire(&self, now);
        match state.keep_alive(&self.border, now, &mut Context::from_waker(&waker)) {
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

enum Alive {
    Quiet,
    Pinged,
    Dead,
}

impl State {
    /// Let h2 read and write, take in calls, serve woken streams, send.
    fn step(&mut self, connection: &Arc<Http2>, cx: &mut Context<'_>) -> bool {
        let mut alive = true;
        loop {
            connection.quiet.store(false, Ordering::Release);
            alive = alive && self.accept(connection, cx);
            let rude = self.look_along(connection);
            if !alive || rude.is_some() {
                if let Some(rude) = rude {
                    connection.border.counters.rude.fetch_add(1, Ordering::Relaxed);
                    lock(&self.wire).append_frame(&self.go_away(rude));
                }
                let _ = lock(&self.wire).flush(cx); // the connection ends either way
                return false;
            }
            let woken = std::mem::take(&mut *lock(&connection.woken));
            if woken.is_empty() {
                break;
            }
            connection.quiet.store(true, Ordering::Release);
            woken.into_iter().for_each(|stream| self.serve(connection, stream));
        }
        !matches!(lock(&self.wire).flush(cx), Poll::Ready(Err(_)))
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
        let (resets, pings, control_frames) = {
            let scan = &mut lock(&self.wire).scan;
            if scan.resets.is_empty() && scan.control_frames == 0 {
                return None;
            }
            let counts = (scan.pings, scan.control_frames);
            (scan.pings, scan.control_frames) = (0, 0);
            (std::mem::take(&mut scan.resets), counts.0, counts.1)
        };
        for stream in &resets {
            self.cancel(connection, *stream);
        }
        let seen = Seen {
            pings,
            control_frames,
            resets: &resets,
            newest_stream: self.newest_stream,
            calls: self.calls.len(),
        };
        self.manners.judge(&seen, Instant::now())
    }

    fn go_away(&self, rude: Rude) -> Vec<u8> {
        let text = rude.text().as_bytes();
        let mut frame = (8 + text.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([7, 0, 0, 0, 0, 0]); // GOAWAY on stream 0
        frame.extend(self.newest_stream.to_be_bytes());
        frame.extend(ENHANCE_YOUR_CALM.to_be_bytes());
        frame.extend(text);
        frame
    }

    fn cancel(&mut self, connection: &Http2, stream: u32) {
        if let Some(call) = self.calls.remove(&stream) {
            if call.seen {
                self.events.push(Event::new(call_id(connection.number, stream), what::CANCEL));
            }
        }
    }

    // ── calls coming in ─────────────────────────────────────────────────────

    fn open(
        &mut self,
        connection: &Arc<Http2>,
        request: Request<RecvStream>,
        respond: SendResponse<Bytes>,
        cx: &mut Context<'_>,
    ) {
        let stream = respond.stream_id().as_u32();
        self.newest_stream = stream;
        let id = call_id(connection.number, stream);
        let (head, body) = request.into_parts();
        if !is_grpc(&head.headers) {
            let metadata = Some(Box::new(http_head(&head)));
            let event = Event { metadata, ..Event::new(id, what::HTTP) };
            return self.open_stream(connection, Call::new(respond, Kind::Http), event, body);
        }
        let Some(method) = connection.border.methods.get(head.uri.path().as_bytes()).copied() else {
            let path = Bytes::copy_from_slice(head.uri.path().as_bytes());
            self.events.push(Event::with(id, what::UNKNOWN_METHOD, path));
            let call = Call { seen: true, ..Call::new(respond, Kind::Stream) };
            self.calls.insert(stream, call);
            return;
        };
        let kind = if method.takes_stream { Kind::Stream } else { Kind::OneMessage };
        let mut call = Call::new(respond, kind);
        let event = match self.grpc_head(&mut call, id, method, &head) {
            Ok(event) => event,
            Err(refusal) => return call.refuse(refusal),
        };
        if kind == Kind::Stream {
            return self.open_stream(connection, call, event, body);
        }
        let mut intake = self.intake(connection, body, call.gzip);
        intake.call = Some(event);
        match intake.pull(kind, id, &mut self.events, cx) {
            Pulled::Complete => {
                call.seen = true;
                self.calls.insert(stream, call);
            }
            Pulled::More => {
                call.intake = Some(Box::new(intake));
                self.calls.insert(stream, call);
                self.serve(connection, stream); // asks to be woken
            }
            Pulled::Refused(refusal) => call.refuse(refusal),
            Pulled::Gone => {}
        }
    }

    fn open_stream(&mut self, connection: &Arc<Http2>, mut call: Call, event: Event, body: RecvStream) {
        let stream = stream_of(event.id);
        self.events.push(event);
        call.seen = true;
        call.intake = Some(Box::new(self.intake(connection, body, call.gzip)));
        self.calls.insert(stream, call);
        self.serve(connection, stream);
    }

    fn intake(&self, connection: &Http2, body: RecvStream, gzip: bool) -> Intake {
        Intake {
            body,
            decoder: Decoder::new(connection.border.settings.message_bytes_max, gzip),
            message: None,
            call: None,
            credit: STREAM_CREDIT_BYTES as isize,
        }
    }

    /// What a gRPC request's headers say.
    fn grpc_head(
        &mut self,
        call: &mut Call,
        id: CallId,
        method: Method,
        head: &request::Parts,
    ) -> Result<Event, Refusal> {
        if head.method != HttpMethod::POST {
            return Err(Refusal::new(grpc::INTERNAL, "grpc: the request's method is not POST"));
        }
        let mut event = Event::new(id, method.number);
        if let Some(value) = head.headers.get("grpc-timeout") {
            let timeout = grpc::timeout(value)?;
            event.amount = timeout.as_secs_f64().max(f64::MIN_POSITIVE);
            let deadline = Instant::now() + timeout;
            call.deadline = Some(deadline);
            self.next_deadline = Some(self.next_deadline.map_or(deadline, |next| next.min(deadline)));
        }
        match head.headers.get("grpc-encoding").map(HeaderValue::as_bytes) {
            None | Some(b"identity") => {}
            Some(b"gzip") => call.gzip = true,
            Some(other) => {
                let name = String::from_utf8_lossy(other);
                let text = format!("grpc: Decompressor is not installed for grpc-encoding \"{name}\"");
                return Err(Refusal::new(grpc::UNIMPLEMENTED, text));
            }
        }
        event.metadata = grpc::metadata(&head.headers);
        Ok(event)
    }

    /// A woken stream: take what came, send what may leave.
    fn serve(&mut self, connection: &Arc<Http2>, stream: u32) {
        let State { calls, events, .. } = self;
        let Some(call) = calls.get_mut(&stream) else { return };
        let id = call_id(connection.number, stream);
        let waker = call.waker.get_or_insert_with(|| connection.stream_waker(stream)).clone();
        let cx = &mut Context::from_waker(&waker);
        if let Some(intake) = &mut call.intake {
            match intake.pull(call.kind, id, events, cx) {
                Pulled::More => {}
                Pulled::Complete => {
                    call.intake = None;
                    call.seen = true;
                }
                Pulled::Gone => return self.cancel(connection, stream),
                Pulled::Refused(refusal) => return self.refuse(connection, stream, refusal),
            }
        }
        self.pump(connection, stream, cx);
    }

    fn refuse(&mut self, connection: &Http2, stream: u32, refusal: Refusal) {
        if let Some(call) = self.calls.remove(&stream) {
            if call.seen {
                self.events.push(Event::new(call_id(connection.number, stream), what::CANCEL));
            }
            call.refuse(refusal);
        }
    }

    // ── answers going out ───────────────────────────────────────────────────

    fn carry_out(&mut self, connection: &Arc<Http2>, reply: Reply) {
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
            Action::Message(message) => self.send(connection, stream, message),
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

    fn send(&mut self, connection: &Arc<Http2>, stream: u32, message: Message) {
        let Some(call) = self.calls.get_mut(&stream) else { return };
        self.manners.answered();
        let credit = message.bytes() + MESSAGE_OVERHEAD_BYTES;
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
            Some(outlet) if !outlet.queue.is_empty() => {
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

    fn pump(&mut self, connection: &Http2, stream: u32, cx: &mut Context<'_>) {
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
        if outlet.queue.is_empty() {
            if let Some(status) = outlet.ending.take() {
                if let Some(call) = calls.remove(&stream) {
                    let _ = call.send_status(&status); // None: the client is gone
                }
            }
        }
    }

    // ── time ────────────────────────────────────────────────────────────────

    /// End the calls whose deadline has passed.
    fn expire(&mut self, connection: &Arc<Http2>, now: Instant) -> bool {
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

    /// A peer that says nothing is asked, and given up when it stays silent.
    fn keep_alive(&mut self, border: &Border, now: Instant, cx: &mut Context<'_>) -> Alive {
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

fn is_grpc(headers: &HeaderMap) -> bool {
    let rest = headers.get(CONTENT_TYPE).and_then(|value| value.as_bytes().strip_prefix(b"application/grpc"));
    matches!(rest, Some([] | [b'+' | b';', ..]))
}

/// An HTTP request as it crosses the border, also of HTTP/1: pseudo headers first.
fn http_head(head: &request::Parts) -> Pairs {
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    let mut pairs = vec![
        (":method".to_owned(), Value::Text(head.method.as_str().to_owned())),
        (":target".to_owned(), Value::Text(target.to_owned())),
        (":version".to_owned(), Value::Text("2".to_owned())),
    ];
    if let (Some(authority), None) = (head.uri.authority(), head.headers.get(HOST)) {
        pairs.push(("host".to_owned(), Value::Text(authority.as_str().to_owned())));
    }
    for (name, value) in &head.headers {
        pairs.push((name.as_str().to_owned(), Value::Binary(value.as_bytes().to_vec())));
    }
    pairs
}
