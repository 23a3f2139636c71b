//! Watchers of what a run puts: each must be told of every put, once, in order.
//!
//! ```text
//! ledger.rs    what was put, who was told of it, and when   pure
//! response.rs  a WatchResponse, as far as it matters        pure
//! listener.rs  one connection of watchers
//! ```

pub mod ledger;
mod listener;
mod response;

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::load::audience::ledger::Ledger;
use crate::load::audience::listener::{Listener, SCRATCH_BYTES, Scratch, Seats};
use crate::load::plan::{Audience, Plan};
use crate::load::thread::Watched;

/// At the beginning of a put's value: its number.
pub const STAMP_BYTES: usize = 8;
/// For all watchers together to be made.
const OPENING: Duration = Duration::from_secs(60);

/// What all connections of watchers share.
pub struct Hall {
    ledger: RefCell<Option<Ledger>>, // None: the run has not begun
    watched: Watched,
    created: Cell<usize>,
    changed: Notify, // `created` or `broken`
    broken: RefCell<Option<String>>,
}

/// The watchers of a run; they listen until this is dropped.
pub struct Listening {
    hall: Rc<Hall>,
    watchers: usize,
    _connections: JoinSet<()>,
}

/// Make all watchers. An error: one of them could not be made.
pub async fn open(plan: &Plan, audience: &Audience, watched: &Watched) -> io::Result<Listening> {
    let hall = Rc::new(Hall {
        ledger: RefCell::new(None),
        watched: watched.clone(),
        created: Cell::new(0),
        changed: Notify::new(),
        broken: RefCell::new(None),
    });
    let scratch: Scratch = Rc::new(RefCell::new(vec![0; SCRATCH_BYTES].into()));
    let mut connections = JoinSet::new();
    for (i, seats) in seating(audience).into_iter().enumerate() {
        let target = &plan.targets[i % plan.targets.len()];
        let listener = Listener::dial(hall.clone(), audience, target, seats, plan.dial_timeout).await;
        let listener = listener
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", target.authority)))?;
        let (hall, scratch) = (hall.clone(), scratch.clone());
        connections.spawn_local(async move { hall.end(listener.listen(scratch).await.to_string()) });
    }
    let all = tokio::time::timeout(OPENING, hall.all_created(audience.watchers)).await;
    all.unwrap_or_else(|_| {
        let made = hall.created.get();
        Err(format!("{made} of {} watchers were made in time", audience.watchers))
    })
    .map_err(io::Error::other)?;
    Ok(Listening { hall, watchers: audience.watchers, _connections: connections })
}

/// Connections, their streams, and whose watchers are on each: as even as can be.
fn seating(audience: &Audience) -> Vec<Vec<Seats>> {
    let mut connections: Vec<_> = (0..audience.connections).map(|_| Vec::new()).collect();
    let mut first = 0;
    for stream in 0..audience.streams {
        let is_larger = stream < audience.watchers % audience.streams;
        let count = audience.watchers / audience.streams + usize::from(is_larger);
        connections[stream % audience.connections].push(Seats { first, count });
        first += count;
    }
    connections
}

impl Hall {
    fn created(&self) {
        self.created.set(self.created.get() + 1);
        self.changed.notify_waiters();
    }

    async fn all_created(&self, watchers: usize) -> Result<(), String> {
        loop {
            let changed = self.changed.notified(); // before looking, or it could be missed
            if let Some(text) = self.broken.borrow().clone() {
                return Err(text);
            }
            if self.created.get() >= watchers {
                return Ok(());
            }
            changed.await;
        }
    }

    fn hear(&self, events: impl Iterator<Item = (usize, i64, Option<u64>)>, now: Instant) {
        let mut ledger = self.ledger.borrow_mut();
        let Some(ledger) = ledger.as_mut() else { return };
        let counted =
            events.filter(|&(watcher, revision, number)| ledger.told(watcher, revision, number, now));
        let counted = counted.count() as u64;
        if ledger.counts(now) {
            self.watched.count(counted, 0);
        }
    }

    fn end(&self, text: String) {
        self.broken.borrow_mut().get_or_insert(text);
        self.changed.notify_waiters();
        if let Some(ledger) = self.ledger.borrow_mut().as_mut() {
            ledger.give_up();
        }
        self.watched.stop();
    }
}

impl Listening {
    pub fn begin(&self, from: Instant, end: Option<Instant>) {
        *self.hall.ledger.borrow_mut() = Some(Ledger::new(self.watchers, from, end));
    }

    pub fn with<T>(&self, act: impl FnOnce(&mut Ledger) -> T) -> T {
        act(self.hall.ledger.borrow_mut().as_mut().expect("the run has begun"))
    }

    /// Ready when everybody was told of a put, or never will be.
    pub fn poll_told(&self, number: u64, cx: &Context<'_>) -> Poll<()> {
        match *self.hall.broken.borrow() {
            Some(_) => Poll::Ready(()),
            None => self.with(|ledger| ledger.poll_told(number, cx)),
        }
    }

    /// What was told, and why the watchers ended if they did.
    pub fn finish(&self) -> (Ledger, Option<String>) {
        let ledger = self.hall.ledger.borrow_mut().take().expect("the run has begun");
        (ledger, self.hall.broken.borrow_mut().take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watchers_are_spread_evenly_and_each_has_one_seat() {
        for (watchers, streams, connections) in [(1000, 1, 1), (1000, 100, 1), (1000, 1000, 1000), (7, 3, 2)]
        {
            let (path, message) = (String::new(), Default::default());
            let seats = seating(&Audience { path, message, watchers, streams, connections });
            assert_eq!((seats.len(), seats.iter().flatten().count()), (connections, streams));
            let mut all: Vec<_> =
                seats.iter().flatten().flat_map(|seats| seats.first..seats.first + seats.count).collect();
            all.sort_unstable();
            assert_eq!(all, (0..watchers).collect::<Vec<_>>());
        }
    }
}
