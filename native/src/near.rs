//! What Python's thread waits for: its eventfd, and the sockets of near connections.
//!
//! A request goes two ways into Python. Where many come, the door's thread reads them and wakes
//! Python once for all of them. Where one comes at a time, that wake costs more than the reading:
//! the socket then is near (socket.rs), its request wakes Python's thread itself, and that reads it.
//! Events of sockets are edges, so that whoever does not look is not woken again.
//!
//! Where the next one comes sooner than a sleeping thread wakes up, Python's thread looks for it
//! over and over before it goes to sleep: for LINGER at most behind an answer, and only where nearly
//! all of the last ones came within that time.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::border::lock;

const READY_MAX: usize = 8; // at once; further ones come with the next look
const EVENT_FD: u64 = 0; // where connections have their numbers, which begin at 1
/// After so many calls that came one at a time, the next is expected to do so, too.
const LONE_CALLS: u32 = 16;
const PROMPT_CALLS: u32 = 16;
const PROMPT_CALLS_MAX: u32 = 2 * PROMPT_CALLS; // that are counted
const LINGER: Duration = Duration::from_micros(200);

pub struct Near {
    epoll: OwnedFd,
    lone_calls: AtomicU32, // one after the other, each alone
    pace: Mutex<Pace>,
}

/// How soon the next call follows on an answer.
#[derive(Default)]
struct Pace {
    answered: Option<Instant>, // the last call, and no other has come since
    prompt_calls: u32,         // that came within LINGER; each other one halves it
}

/// What a look has found.
#[derive(Default)]
pub struct Ready {
    pub event_fd: bool,
    connections: [u64; READY_MAX],
    count: usize,
}

impl Ready {
    /// Numbers of connections whose sockets have something to read.
    pub fn connections(&self) -> &[u64] {
        &self.connections[..self.count]
    }
}

impl Near {
    pub fn new(event_fd: RawFd) -> io::Result<Self> {
        // SAFETY: no preconditions; a valid descriptor is owned by nobody else yet.
        let epoll = unsafe {
            let fd = libc::epoll_create1(libc::EPOLL_CLOEXEC);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        let near = Near { epoll, lone_calls: AtomicU32::new(0), pace: Mutex::default() };
        near.control(libc::EPOLL_CTL_ADD, event_fd, libc::EPOLLIN, EVENT_FD)?;
        Ok(near)
    }

    /// Readable when there is something to look for.
    pub fn fd(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }

    pub fn add(&self, socket: RawFd, connection: u64) -> io::Result<()> {
        let events = libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLET;
        self.control(libc::EPOLL_CTL_ADD, socket, events, connection)
    }

    pub fn remove(&self, socket: RawFd) {
        let _ = self.control(libc::EPOLL_CTL_DEL, socket, 0, 0); // it may be closed already
    }

    fn control(&self, what: i32, fd: RawFd, events: i32, number: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: events as u32, u64: number };
        // SAFETY: one valid event; the epoll descriptor is ours and open.
        match unsafe { libc::epoll_ctl(self.fd(), what, fd, &mut event) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    pub fn look(&self) -> Ready {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; READY_MAX];
        // SAFETY: room for so many events; the descriptor is ours and open.
        let found = unsafe { libc::epoll_wait(self.fd(), events.as_mut_ptr(), READY_MAX as i32, 0) };
        let mut ready = Ready::default();
        for event in &events[..usize::try_from(found).unwrap_or(0)] {
            if event.u64 == EVENT_FD {
                ready.event_fd = true;
            } else {
                ready.connections[ready.count] = event.u64;
                ready.count += 1;
            }
        }
        ready
    }

    /// So many events were there at once.
    pub fn drained(&self, events: usize) {
        match events {
            0 => return,
            1 => drop(self.lone_calls.fetch_add(1, Ordering::Relaxed)),
            _ => self.lone_calls.store(0, Ordering::Relaxed),
        }
        let mut pace = lock(&self.pace);
        let is_prompt = pace.answered.take().is_some_and(|answered| answered.elapsed() < LINGER);
        pace.prompt_calls =
            if is_prompt { PROMPT_CALLS_MAX.min(pace.prompt_calls + 1) } else { pace.prompt_calls / 2 };
    }

    /// A call was answered. Whether the next one is worth to be looked for.
    pub fn answered(&self) -> bool {
        let mut pace = lock(&self.pace);
        pace.answered = self.are_calls_lone().then(Instant::now);
        pace.answered.is_some() && pace.prompt_calls >= PROMPT_CALLS
    }

    /// Look until something is there; nothing is found where that takes too long, or a call has come
    /// since the last answer.
    pub fn linger(&self) -> Ready {
        let Some(answered) = lock(&self.pace).answered else { return Ready::default() };
        loop {
            let ready = self.look();
            if ready.event_fd || ready.count > 0 || answered.elapsed() >= LINGER {
                return ready;
            }
            std::hint::spin_loop();
        }
    }

    /// Whether calls come one at a time.
    pub fn are_calls_lone(&self) -> bool {
        self.lone_calls.load(Ordering::Relaxed) >= LONE_CALLS
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_look_finds_each_arrival_once() {
        let (event, mut wake) = UnixStream::pair().unwrap();
        let (socket, mut peer) = UnixStream::pair().unwrap();
        let near = Near::new(event.as_raw_fd()).unwrap();
        near.add(socket.as_raw_fd(), 7).unwrap();
        let look = || {
            let ready = near.look();
            (ready.event_fd, ready.connections().to_vec())
        };
        assert_eq!(look(), (false, vec![]));
        peer.write_all(b"x").unwrap();
        assert_eq!(look(), (false, vec![7]));
        assert_eq!(look(), (false, vec![]));
        wake.write_all(b"x").unwrap();
        peer.write_all(b"x").unwrap();
        let mut found = look();
        found.1.sort_unstable();
        assert_eq!(found, (true, vec![7]));
        near.remove(socket.as_raw_fd());
        peer.write_all(b"x").unwrap();
        assert_eq!(look(), (true, vec![])); // until it is read
    }

    #[test]
    fn calls_are_lone_after_a_while_of_them_and_not_once_two_came_together() {
        let (event, _) = UnixStream::pair().unwrap();
        let near = Near::new(event.as_raw_fd()).unwrap();
        (0..LONE_CALLS).for_each(|_| near.drained(1));
        near.drained(0);
        assert!(near.are_calls_lone());
        near.drained(2);
        near.drained(1);
        assert!(!near.are_calls_lone());
    }

    /// An answer, and the next call so long behind it. Whether that was worth to be looked for.
    fn next_call(near: &Near, pause: Duration) -> bool {
        let is_worth_it = near.answered();
        if let Some(at) = &mut lock(&near.pace).answered {
            *at = at.checked_sub(pause).unwrap();
        }
        near.drained(1);
        is_worth_it
    }

    const LATE: Duration = Duration::from_secs(1);

    #[test]
    fn the_next_call_is_looked_for_where_nearly_all_come_promptly() {
        let (event, mut wake) = UnixStream::pair().unwrap();
        let near = Near::new(event.as_raw_fd()).unwrap();
        (0..LONE_CALLS).for_each(|_| near.drained(1));
        // A test that is not given a processor for so long is late, too: as many as it takes.
        let come_promptly = || (0..10_000).any(|_| next_call(&near, Duration::ZERO));
        assert!(!next_call(&near, Duration::ZERO) && come_promptly());
        for _ in 0..3 {
            next_call(&near, LATE);
        }
        assert!(!(0..100).any(|_| next_call(&near, LATE)));
        assert!(come_promptly());
        near.drained(2);
        assert!(!near.answered());
        wake.write_all(b"x").unwrap();
        assert!(!near.linger().event_fd, "calls do not come one at a time");
    }

    #[test]
    fn who_lingers_finds_what_comes_and_gives_up_soon() {
        let (event, mut wake) = UnixStream::pair().unwrap();
        let near = Near::new(event.as_raw_fd()).unwrap();
        (0..LONE_CALLS).for_each(|_| near.drained(1));
        near.answered();
        let found = near.linger();
        assert!(!found.event_fd && found.connections().is_empty());
        wake.write_all(b"x").unwrap();
        assert!(near.linger().event_fd);
        near.drained(1);
        assert!(!near.linger().event_fd, "a call has come since");
    }
}
