//! fdatasync on a thread that never takes the GIL.
//!
//! One order at a time: a descriptor goes in, and once its data are durable, or cannot be made so,
//! the eventfd wakes whoever ordered it. Nothing is tried again here: what a sync that has failed
//! left behind nobody knows.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::border::lock;

#[cfg(feature = "python")]
pub mod python;

/// How a sync has ended.
#[derive(Debug)]
pub struct Outcome {
    pub result: io::Result<()>,
    pub took: Duration,
}

#[derive(Default)]
struct Desk {
    order: Option<OwnedFd>,
    running: bool,
    outcome: Option<Outcome>,
    closed: bool,
}

struct Shared {
    desk: Mutex<Desk>,
    called: Condvar, // there is an order, or it is closed
    event_fd: OwnedFd,
}

pub struct Syncer {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Syncer {
    pub fn new() -> io::Result<Self> {
        // SAFETY: eventfd has no preconditions; a valid descriptor is owned by nobody else yet.
        let event_fd = unsafe {
            let fd = libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        let shared = Arc::new(Shared { desk: Mutex::default(), called: Condvar::new(), event_fd });
        let theirs = shared.clone();
        let thread = thread::Builder::new().name("log-sync".into()).spawn(move || theirs.run())?;
        Ok(Syncer { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Readable once there is an outcome.
    pub fn fd(&self) -> RawFd {
        self.shared.event_fd.as_raw_fd()
    }

    /// Order a sync of this file, which the caller may close at once.
    pub fn start(&self, file: BorrowedFd<'_>) -> io::Result<()> {
        let file = file.try_clone_to_owned()?;
        let mut desk = lock(&self.shared.desk);
        if desk.order.is_some() || desk.running || desk.outcome.is_some() || desk.closed {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        desk.order = Some(file);
        drop(desk); // or the thread would wake up in front of a lock
        self.shared.called.notify_one();
        Ok(())
    }

    /// The outcome of the sync that was ordered, once.
    pub fn take(&self) -> Option<Outcome> {
        let mut count = [0u8; 8];
        // SAFETY: eight bytes of our own; the descriptor is ours and open. It may be clear already.
        unsafe { libc::read(self.fd(), count.as_mut_ptr().cast(), count.len()) };
        lock(&self.shared.desk).outcome.take()
    }

    /// Returns when the thread is gone, after the sync that is under way. Idempotent.
    pub fn close(&self) {
        self.dismiss();
        if let Some(thread) = lock(&self.thread).take() {
            let _ = thread.join();
        }
    }

    fn dismiss(&self) {
        lock(&self.shared.desk).closed = true;
        self.shared.called.notify_one();
    }
}

/// Not waited for: a disk may stand still.
impl Drop for Syncer {
    fn drop(&mut self) {
        self.dismiss();
    }
}

impl Shared {
    fn run(&self) {
        while let Some(file) = self.next() {
            let started = Instant::now();
            let result = sync(&file);
            let outcome = Outcome { result, took: started.elapsed() };
            let mut desk = lock(&self.desk);
            desk.running = false;
            desk.outcome = Some(outcome);
            drop(desk);
            let one = 1u64.to_ne_bytes();
            // SAFETY: eight bytes; the descriptor lives as long as `self`. A counter of one is never full.
            unsafe { libc::write(self.event_fd.as_raw_fd(), one.as_ptr().cast(), one.len()) };
        }
    }

    fn next(&self) -> Option<OwnedFd> {
        let mut desk = lock(&self.desk);
        loop {
            if let Some(file) = desk.order.take() {
                desk.running = true;
                return Some(file);
            }
            if desk.closed {
                return None;
            }
            desk = self.called.wait(desk).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn sync(file: &OwnedFd) -> io::Result<()> {
    // SAFETY: the descriptor is open. libc's symbol, as the engine calls it.
    match unsafe { libc::fdatasync(file.as_raw_fd()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;

    use super::*;

    fn wait(syncer: &Syncer) -> Outcome {
        let mut poll = libc::pollfd { fd: syncer.fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid pollfd.
        assert_eq!(unsafe { libc::poll(&mut poll, 1, 30_000) }, 1);
        syncer.take().unwrap()
    }

    #[test]
    fn each_order_has_one_outcome_and_outlives_its_descriptor() {
        let syncer = Syncer::new().unwrap();
        for _ in 0..100 {
            let file = File::open("/proc/self/exe").unwrap();
            syncer.start(file.as_fd()).unwrap();
            drop(file);
            wait(&syncer).result.unwrap();
            assert!(syncer.take().is_none());
        }
    }

    #[test]
    fn a_failure_is_told() {
        let syncer = Syncer::new().unwrap();
        let (pipe, _) = io::pipe().unwrap();
        syncer.start(pipe.as_fd()).unwrap();
        assert_eq!(wait(&syncer).result.unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }

    #[test]
    fn one_at_a_time_and_none_once_it_is_closed() {
        let syncer = Syncer::new().unwrap();
        let file = File::open("/proc/self/exe").unwrap();
        syncer.start(file.as_fd()).unwrap();
        assert_eq!(syncer.start(file.as_fd()).unwrap_err().kind(), io::ErrorKind::ResourceBusy);
        syncer.close();
        syncer.close();
        syncer.take().unwrap().result.unwrap(); // what was ordered before is done
        assert!(syncer.start(file.as_fd()).is_err());
    }
}
