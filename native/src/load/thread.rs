//! A run on a thread of its own, and what others see of it while it lasts.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::runtime::LocalOptions;
use tokio::sync::Notify;

use crate::border::lock;
use crate::load::audience::ledger::Faults;
use crate::load::plan::Plan;
use crate::load::run;
use crate::load::tally::{Tally, Window};

/// The sockets are looked at after so many tasks, or when none is left to run.
const TASKS_PER_POLL: u32 = 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Connecting,
    WarmingUp,
    Measuring,
    Draining, // no new calls; answers still come in
    Over,
}

#[derive(Default)]
pub struct Outcome {
    pub measured: Duration,
    pub tally: Option<Tally>, // None: stopped before the first call
    pub heard: Option<Heard>, // by the audience
    pub unsent: u64,          // calls that were due and never sent, all slots being busy
    pub redials: u64,
    pub cpu: Duration, // of the generator's thread, while it measured
}

/// What an audience was told.
pub struct Heard {
    pub events: Tally,
    pub after_ack: Histogram<u64>,
    pub faults: Faults,
}

pub struct Progress {
    pub phase: Phase,
    pub windows: Vec<Window>,
    changes: u64,
}

struct Shared {
    progress: Mutex<Progress>,
    changed: Condvar,
    answered: AtomicU64, // since the end of the warm-up; with an audience: events
    failed: AtomicU64,
    stop: AtomicBool,
    stopping: Notify,
}

/// The run's side.
#[derive(Clone)]
pub struct Watched(Arc<Shared>);

impl Watched {
    pub(super) fn update(&self, change: impl FnOnce(&mut Progress)) {
        let mut progress = lock(&self.0.progress);
        change(&mut progress);
        progress.changes += 1;
        drop(progress);
        self.0.changed.notify_all();
    }

    pub(super) fn count(&self, fine: u64, failed: u64) {
        for (counter, more) in [(&self.0.answered, fine), (&self.0.failed, failed)] {
            counter.store(counter.load(Ordering::Relaxed) + more, Ordering::Relaxed); // the only writer
        }
    }

    pub(super) fn stop(&self) {
        self.0.stop.store(true, Ordering::Release);
        self.0.stopping.notify_waiters();
    }

    /// Returns once somebody has asked to stop.
    pub(super) async fn stopped(&self) {
        loop {
            let stopping = self.0.stopping.notified(); // before looking, or it could be missed
            if self.0.stop.load(Ordering::Acquire) {
                return;
            }
            stopping.await;
        }
    }
}

/// The caller's side.
pub struct Load {
    watched: Watched,
    thread: Mutex<Option<JoinHandle<io::Result<Outcome>>>>,
}

impl Load {
    /// Checks the plan and begins.
    pub fn start(plan: Plan) -> io::Result<Self> {
        plan.check().map_err(|text| io::Error::new(io::ErrorKind::InvalidInput, text))?;
        let watched = Watched(Arc::new(Shared {
            progress: Mutex::new(Progress { phase: Phase::Connecting, windows: Vec::new(), changes: 0 }),
            changed: Condvar::new(),
            answered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            stopping: Notify::new(),
        }));
        let shared = watched.clone();
        let thread = std::thread::Builder::new().name("load".into()).spawn(move || {
            let ran = catch_unwind(AssertUnwindSafe(|| {
                let mut builder = tokio::runtime::Builder::new_current_thread();
                builder.enable_io().enable_time().event_interval(TASKS_PER_POLL);
                builder.build_local(LocalOptions::default())?.block_on(run::run(plan, shared.clone()))
            }));
            shared.update(|progress| progress.phase = Phase::Over);
            ran.unwrap_or_else(|panic| Err(io::Error::other(panic_text(&panic))))
        })?;
        Ok(Load { watched, thread: Mutex::new(Some(thread)) })
    }

    /// Wait until something has changed since `seen`, at most `timeout`. Returns the phase,
    /// and what to pass the next time.
    pub fn wait(&self, seen: u64, timeout: Duration) -> (Phase, u64) {
        let shared = &self.watched.0;
        let (progress, _) = shared
            .changed
            .wait_timeout_while(lock(&shared.progress), timeout, |progress| {
                progress.changes == seen && progress.phase != Phase::Over
            })
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        (progress.phase, progress.changes)
    }

    pub fn windows(&self, from: usize) -> Vec<Window> {
        lock(&self.watched.0.progress).windows.get(from..).unwrap_or_default().to_vec()
    }

    /// Answers (with an audience: events) since the end of the warm-up: without errors, with errors.
    /// Never waits.
    pub fn counts(&self) -> (u64, u64) {
        let shared = &self.watched.0;
        (shared.answered.load(Ordering::Relaxed), shared.failed.load(Ordering::Relaxed))
    }

    /// Send nothing more; the phases Draining and Over follow.
    pub fn stop(&self) {
        self.watched.stop();
    }

    /// Waits for the end. None: was called before.
    pub fn join(&self) -> Option<io::Result<Outcome>> {
        let thread = lock(&self.thread).take()?;
        Some(thread.join().unwrap_or_else(|panic| Err(io::Error::other(panic_text(&panic)))))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop();
    }
}

fn panic_text(panic: &Box<dyn Any + Send>) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no text");
    format!("the load generator panicked: {text}")
}
