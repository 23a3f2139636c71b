//! The border with Python, without Python: what happened goes in as a list of `Event`, what is to
//! happen comes back as a list of `Reply`.
//!
//! What crosses is in words.rs. Events wait in one queue. The first one after the queue was found
//! empty writes the eventfd; while Python is draining nobody writes it. Where calls come one at a
//! time, Python's thread reads them itself (near.rs). When the queue holds too much, connections stop taking in requests until it was drained. Replies are delivered by the
//! door's thread, or, where they are few, by the thread that hands them over (`Border::reply`).

use std::collections::HashMap;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::cast::spread;
use crate::near::{Near, Ready};
use crate::settings::Settings;

pub use words::*;

mod words;

const QUEUE_EVENTS_MAX: usize = 65_536;
const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// A drain that takes no more than this expects a pause, and asks to be woken by the next event.
const SMALL_DRAIN: usize = 4;
/// Answers that clients have not read yet, all together. Above it, connections that have such
/// answers take in no requests; those whose clients read are served on.
const UNSENT_BYTES_MAX: usize = 256 * 1024 * 1024;
/// The same of one connection.
const CONNECTION_UNSENT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// A reply with more bytes is left to the door's thread (it may be packed, and it is many frames).
const DIRECT_BYTES_MAX: usize = 64 * 1024;

#[derive(Default)]
struct Queue {
    events: Vec<Event>,
    bytes: usize,
    armed: bool,
    over: bool, // connections were held up
}

/// Counted since the start; read by metrics.
#[derive(Default)]
pub struct Counters {
    pub accepted: AtomicU64,
    pub refused: AtomicU64, // over the limit of connections
    pub rude: AtomicU64,    // sent away with ENHANCE_YOUR_CALM
    pub wakes: AtomicU64,
    pub direct: AtomicU64,  // replies written by Python's own thread
    pub near: AtomicU64,    // sockets read by it
    pub lingers: AtomicU64, // times that it looked for the next call instead of sleeping
}

pub struct Border {
    pub settings: Settings,
    pub methods: Methods,
    pub counters: Counters,
    /// Bytes of large answers that Python has given and no socket has taken yet.
    pub unsent_bytes: AtomicUsize,
    /// What requests hold that are not complete yet.
    pub incomplete_bytes: AtomicUsize,
    queue: Mutex<Queue>,
    full: AtomicBool,
    event_fd: OwnedFd,
    pub near: Near,
    replies: Mutex<Vec<Reply>>,
    in_transit: AtomicUsize, // replies handed over and not yet delivered by the door's thread
    pub replies_there: Notify,
    connections: Mutex<HashMap<u64, Arc<dyn Connection>>>,
    next_connection: AtomicU64,
    pub sockets: AtomicUsize, // accepted, whatever state they are in
    pub stopping: AtomicBool,
}

/// A panic elsewhere has been reported; the data behind these locks is whole at every unlock.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Border {
    pub fn new(settings: Settings, methods: Methods) -> std::io::Result<Self> {
        // SAFETY: eventfd has no preconditions; a valid descriptor is owned by nobody else yet.
        let event_fd = unsafe {
            let fd = libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC);
            if fd < 0 {
                return Err(std::io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        let near = Near::new(event_fd.as_raw_fd())?;
        Ok(Border {
            settings,
            methods,
            unsent_bytes: AtomicUsize::new(0),
            incomplete_bytes: AtomicUsize::new(0),
            counters: Counters::default(),
            queue: Mutex::new(Queue { armed: true, ..Queue::default() }),
            full: AtomicBool::new(false),
            event_fd,
            near,
            replies: Mutex::new(Vec::new()),
            in_transit: AtomicUsize::new(0),
            replies_there: Notify::new(),
            connections: Mutex::new(HashMap::new()),
            next_connection: AtomicU64::new(1),
            sockets: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
        })
    }

    /// Readable when `drain` has something to do.
    pub fn fd(&self) -> i32 {
        self.near.fd()
    }

    // ── events, towards Python ──────────────────────────────────────────────

    /// Hand events over. Leaves `events` empty, with its room.
    pub fn push(&self, events: &mut Vec<Event>) {
        if self.enqueue(events) {
            self.wake_python();
        }
    }

    /// True: the caller owes a `wake_python`, after it has let go of locks that Python may want.
    #[must_use]
    pub fn enqueue(&self, events: &mut Vec<Event>) -> bool {
        if events.is_empty() {
            return false;
        }
        let bytes: usize = events.iter().map(|event| event.body.len()).sum();
        let mut queue = lock(&self.queue);
        if queue.events.is_empty() {
            std::mem::swap(&mut queue.events, events);
        } else {
            queue.events.append(events);
        }
        queue.bytes += bytes;
        if queue.events.len() > QUEUE_EVENTS_MAX || queue.bytes > QUEUE_BYTES_MAX {
            queue.over = true;
            self.full.store(true, Ordering::Release);
        }
        std::mem::take(&mut queue.armed)
    }

    pub fn wake_python(&self) {
        self.counters.wakes.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the descriptor is ours and open; eight readable bytes. A full counter is a wake.
        unsafe { libc::write(self.event_fd.as_raw_fd(), (&1u64 as *const u64).cast(), 8) };
    }

    /// Connections take in no new requests while this is so.
    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::Acquire)
    }

    /// A connection with so much unsent takes in no new requests for now.
    pub fn holds_up(&self, unsent_bytes: usize) -> bool {
        self.is_full()
            || unsent_bytes > CONNECTION_UNSENT_BYTES_MAX
            || (unsent_bytes > 0 && self.is_crowded())
    }

    /// Whether the call's connection may be given another large answer. One that is gone may.
    pub fn has_room(&self, id: CallId) -> bool {
        let own = self.unsent_bytes_of(id);
        own.is_none_or(|bytes| !self.is_crowded() && !self.holds_up(bytes.load(Ordering::Relaxed)))
    }

    /// Whether answers that nobody takes fill the memory.
    pub fn is_crowded(&self) -> bool {
        self.unsent_bytes.load(Ordering::Relaxed) > UNSENT_BYTES_MAX
    }

    /// Up to `max` events, oldest first, those of near connections included. True: nothing is
    /// left, and the next event writes the eventfd; false: come again.
    pub fn drain(&self, max: usize) -> (Vec<Event>, bool) {
        self.read_near(self.near.look());
        let (events, armed, relieved) = {
            let mut queue = lock(&self.queue);
            let events = if queue.events.len() <= max {
                std::mem::take(&mut queue.events)
            } else {
                let rest = queue.events.split_off(max);
                std::mem::replace(&mut queue.events, rest)
            };
            queue.bytes = queue.events.iter().map(|event| event.body.len()).sum();
            queue.armed = queue.events.is_empty() && events.len() <= SMALL_DRAIN;
            let relieved = queue.over && queue.events.len() <= QUEUE_EVENTS_MAX / 2;
            if relieved {
                queue.over = false;
                self.full.store(false, Ordering::Release);
            }
            (events, queue.armed, relieved)
        };
        if relieved {
            let connections: Vec<_> = lock(&self.connections).values().cloned().collect();
            connections.iter().for_each(|connection| connection.wake());
        }
        self.near.drained(events.len());
        (without_cancelled(events), armed)
    }

    /// After a `reply` that said so: wait a little for the next call. True: `drain` has something.
    pub fn linger(&self) -> bool {
        self.counters.lingers.fetch_add(1, Ordering::Relaxed);
        let ready = self.near.linger();
        let found = ready.event_fd || !ready.connections().is_empty();
        self.read_near(ready);
        found
    }

    fn read_near(&self, ready: Ready) {
        if ready.event_fd {
            self.read_event_fd();
        }
        if ready.connections().is_empty() {
            return;
        }
        lock(&self.queue).armed = false; // whatever comes is about to be drained
        for number in ready.connections() {
            let connection = lock(&self.connections).get(number).cloned();
            let Some(connection) = connection else { continue };
            self.counters.near.fetch_add(1, Ordering::Relaxed);
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| connection.clone().read())) {
                self.report_panic(false, panic);
                connection.abandon();
            }
        }
    }

    fn read_event_fd(&self) {
        let mut count = 0u64;
        // SAFETY: the descriptor is ours, open and non-blocking; eight writable bytes.
        unsafe { libc::read(self.event_fd.as_raw_fd(), (&mut count as *mut u64).cast(), 8) };
    }

    // ── replies, from Python ────────────────────────────────────────────────

    /// Called on Python's thread. Few replies are written to their sockets at once, unless the
    /// door's thread is just at that connection or has earlier replies under way (their order!).
    /// True: the next call is expected so soon that it is worth to `linger`.
    pub fn reply(&self, mut replies: Vec<Reply>) -> bool {
        if replies.is_empty() {
            return false;
        }
        if replies.len() <= self.settings.direct_answers_max
            && self.in_transit.load(Ordering::Acquire) == 0
            && replies.iter().all(|reply| reply.action.bytes() <= DIRECT_BYTES_MAX)
        {
            let count = replies.len() as u64;
            match self.deliver(replies, false) {
                Ok(()) => {
                    self.counters.direct.fetch_add(count, Ordering::Relaxed);
                    return self.near.answered();
                }
                Err(rest) => replies = rest,
            }
        }
        self.in_transit.fetch_add(replies.len(), Ordering::AcqRel);
        let first = {
            let mut waiting = lock(&self.replies);
            let first = waiting.is_empty();
            waiting.append(&mut replies);
            first
        };
        if first {
            self.replies_there.notify_one();
        }
        false
    }

    /// On the door's thread: deliver what waits.
    pub fn deliver_waiting(&self) {
        let replies = std::mem::take(&mut *lock(&self.replies));
        let count = replies.len();
        if self.deliver(replies, true).is_err() {
            debug_assert!(false, "a delivery that may wait gives nothing back");
        }
        self.in_transit.fetch_sub(count, Ordering::AcqRel);
    }

    /// The counter of the call's connection; None: that is gone.
    pub fn unsent_bytes_of(&self, id: CallId) -> Option<Arc<AtomicUsize>> {
        lock(&self.connections).get(&connection_of(id)).map(|connection| connection.unsent_bytes())
    }

    /// One visit per connection. Replies to a connection that is gone go nowhere.
    fn deliver(&self, replies: Vec<Reply>, wait: bool) -> Result<(), Vec<Reply>> {
        let mut replies = spread(replies);
        let mut refused = Vec::new();
        replies.sort_by_key(|reply| connection_of(reply.id)); // stable: order within a call stays
        let mut left = replies.into_iter().peekable();
        while let Some(first) = left.next() {
            let number = connection_of(first.id);
            let mut mine = vec![first];
            mine.extend(std::iter::from_fn(|| left.next_if(|reply| connection_of(reply.id) == number)));
            let connection = lock(&self.connections).get(&number).cloned();
            let Some(connection) = connection else { continue };
            let visit = AssertUnwindSafe(|| connection.clone().deliver(mine, wait));
            match catch_unwind(visit) {
                Ok(Ok(())) => {}
                Ok(Err(mut back)) => refused.append(&mut back),
                Err(panic) => {
                    self.report_panic(false, panic);
                    connection.abandon();
                }
            }
        }
        if refused.is_empty() { Ok(()) } else { Err(refused) }
    }

    // ── connections ─────────────────────────────────────────────────────────

    pub fn open_sockets(&self) -> usize {
        self.sockets.load(Ordering::Acquire)
    }

    pub fn new_connection_number(&self) -> u64 {
        self.next_connection.fetch_add(1, Ordering::Relaxed)
    }

    pub fn register(&self, number: u64, connection: Arc<dyn Connection>) {
        lock(&self.connections).insert(number, connection);
    }

    pub fn unregister(&self, number: u64) {
        lock(&self.connections).remove(&number);
    }

    pub fn each_connection(&self, visit: impl Fn(Arc<dyn Connection>)) {
        let connections: Vec<_> = lock(&self.connections).values().cloned().collect();
        connections.into_iter().for_each(visit);
    }

    /// Nothing is silent: what panicked is told to Python, which logs it or stops the member.
    pub fn report_panic(&self, whole_door: bool, cause: Box<dyn std::any::Any + Send>) {
        let text = cause
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| cause.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "a panic without a text".to_owned());
        let mut event = Event::with(0, what::FAILED, text.into());
        event.amount = f64::from(u8::from(whole_door));
        self.push(&mut vec![event]);
    }
}

/// A call that was cancelled before Python saw it is not handed over at all.
fn without_cancelled(mut events: Vec<Event>) -> Vec<Event> {
    if !events.iter().any(|event| event.what == what::CANCEL) {
        return events;
    }
    let mut unseen: HashMap<CallId, bool> = HashMap::new(); // calls that begin here; cancelled?
    for event in &events {
        if event.what >= what::HTTP {
            unseen.insert(event.id, false);
        } else if event.what == what::CANCEL {
            if let Some(cancelled) = unseen.get_mut(&event.id) {
                *cancelled = true;
            }
        }
    }
    events.retain(|event| event.what < what::WRITABLE || unseen.get(&event.id) != Some(&true));
    events
}

/// How often deadlines and keepalive are looked at.
pub const TICK: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_out_in_order_and_the_eventfd_is_armed_only_when_nothing_is_left() {
        let border = Border::new(Settings::default(), Methods::new()).unwrap();
        border.push(&mut (0..10).map(|id| Event::new(id, 0)).collect());
        let (events, armed) = border.drain(8);
        assert_eq!((events.iter().map(|e| e.id).collect::<Vec<_>>(), armed), ((0..8).collect(), false));
        let (events, armed) = border.drain(8);
        assert_eq!((events.len(), armed), (2, true));
    }

    #[test]
    fn connections_hold_back_while_the_queue_is_full() {
        let border = Border::new(Settings::default(), Methods::new()).unwrap();
        border.push(&mut (0..=QUEUE_EVENTS_MAX as u64).map(|id| Event::new(id, 0)).collect());
        assert!(border.is_full());
        border.drain(QUEUE_EVENTS_MAX);
        assert!(!border.is_full());
    }

    #[test]
    fn answers_that_others_do_not_read_hold_up_large_answers_only() {
        let border = Border::new(Settings::default(), Methods::new()).unwrap();
        border.unsent_bytes.store(UNSENT_BYTES_MAX + 1, Ordering::Relaxed);
        assert!(!border.is_full() && !border.holds_up(0) && border.holds_up(1));
        assert!(border.is_crowded());
    }

    #[test]
    fn a_call_cancelled_before_it_was_seen_is_not_handed_over() {
        let events = vec![
            Event::new(1, 0),
            Event::new(2, 0),
            Event::new(2, what::MESSAGE),
            Event::new(2, what::CANCEL),
            Event::new(3, what::CANCEL),
            Event::new(0, what::CLOSED),
        ];
        let left: Vec<_> = without_cancelled(events).iter().map(|e| (e.id, e.what)).collect();
        assert_eq!(left, vec![(1, 0), (3, what::CANCEL), (0, what::CLOSED)]);
    }
}
