//! The run: connections, slots that call, the clock of an open loop, the phases.
//!
//! A slot is a task that has at most one call in flight. In a closed loop it takes its next call as
//! soon as it has its answer; in an open loop it waits until a call is due, and the clock wakes as
//! many waiting slots as calls are due. When every slot is busy, calls wait for one, and their
//! latency grows with it. With an audience a slot is busy until all watchers were told of its put.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderValue, Method, Request, StatusCode};
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet};
use tokio::time::MissedTickBehavior;

use crate::load::answer::{Answer, Beginning, failure, status};
use crate::load::audience::{self, Listening};
use crate::load::link::{Link, Open, dial};
use crate::load::pace::Pace;
use crate::load::plan::{Operation, Plan};
use crate::load::request::Requests;
use crate::load::talk::Talk;
use crate::load::tally::{Failures, Tally, Window};
use crate::load::thread::{Heard, Outcome, Phase, Watched};

/// A call that was taken: which operation, its body, when it was due.
struct Ticket {
    operation: usize,
    body: Bytes,
    due: Instant,
    stamp: Option<u64>, // with an audience
}

struct Issue {
    pace: Pace,
    requests: Requests,
    counted: u64, // issued since the end of the warm-up
}

struct Run {
    plan: Plan,
    watched: Watched,
    listening: Option<Listening>,
    from: Instant,        // the end of the warm-up
    end: Option<Instant>, // where a duration is given
    over: Cell<bool>,     // no call is taken any more
    issue: RefCell<Issue>,
    idle: RefCell<Vec<Waker>>, // slots that wait for the clock
    idling: Notify,            // there is one more of them
    tally: RefCell<Tally>,
}

/// Runs the plan to its end. An error: no connection could be made.
pub async fn run(plan: Plan, watched: Watched) -> io::Result<Outcome> {
    let Some(links) = connect(&plan, &watched).await? else { return Ok(Outcome::default()) };
    let listening = listen(&plan, &watched).await?;
    if plan.audience.is_some() && listening.is_none() {
        return Ok(Outcome::default());
    }
    let start = Instant::now();
    let from = start + plan.warm_up;
    let end = plan.duration.map(|duration| from + duration);
    if let Some(listening) = &listening {
        listening.begin(from, end);
    }
    let run = Rc::new(Run {
        from,
        end,
        listening,
        over: Cell::new(false),
        issue: RefCell::new(Issue {
            pace: Pace::new(start, plan.rate),
            requests: Requests::new(&plan),
            counted: 0,
        }),
        idle: RefCell::new(Vec::new()),
        idling: Notify::new(),
        tally: RefCell::new(Tally::new(plan.operations.len(), from)),
        plan,
        watched,
    });
    let mut slots = JoinSet::new();
    for i in 0..run.plan.in_flight {
        let (link, heads) = (links[i % links.len()].clone(), run.heads(i % links.len()));
        slots.spawn_local(slot(run.clone(), link, heads));
    }
    let clock = run.plan.rate.map(|_| tokio::task::spawn_local(clock(run.clone())));
    let cpu = run.measure(&mut slots).await;
    let ended = run.end.map_or_else(Instant::now, |end| end.min(Instant::now()));
    let unsent = run.finish(ended);
    run.watched.set_phase(Phase::Draining);
    let _ = tokio::time::timeout(run.plan.drain, async {
        links.iter().for_each(|link| link.end());
        while ended_well(slots.join_next().await) {}
    })
    .await;
    slots.shutdown().await; // what is still in flight counts as unanswered, see `InFlight`
    if let Some(clock) = clock {
        clock.abort();
    }
    run.roll();
    Ok(run.outcome(ended, unsent, cpu, &links))
}

/// All connections, or None where the run was stopped meanwhile.
async fn connect(plan: &Plan, watched: &Watched) -> io::Result<Option<Vec<Rc<Link>>>> {
    let mut links = Vec::new();
    for i in 0..plan.connections {
        let target = &plan.targets[i % plan.targets.len()];
        let dialled = tokio::select! {
            () = watched.stopped() => return Ok(None),
            dialled = dial(target, plan.dial_timeout) => dialled,
        };
        let dialled = dialled
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", target.authority)))?;
        let link = Rc::new(Link::new(target.clone()));
        tokio::task::spawn_local(link.clone().keep(dialled, plan.dial_timeout));
        links.push(link);
    }
    Ok(Some(links))
}

/// The audience, or None where there is none or the run was stopped meanwhile.
async fn listen(plan: &Plan, watched: &Watched) -> io::Result<Option<Listening>> {
    let Some(audience) = &plan.audience else { return Ok(None) };
    tokio::select! {
        () = watched.stopped() => Ok(None),
        listening = audience::open(plan, audience, watched) => listening.map(Some),
    }
}

/// Whether a slot has ended, rather than all of them before. Its panic is ours.
fn ended_well(joined: Option<Result<(), JoinError>>) -> bool {
    match joined {
        None => false,
        Some(Ok(())) => true,
        Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
    }
}

impl Run {
    /// The request heads of each operation, as they go to one connection's target.
    fn heads(&self, connection: usize) -> Vec<Request<()>> {
        let target = &self.plan.targets[connection % self.plan.targets.len()];
        let head = |path: &str| {
            let mut head = Request::new(());
            *head.method_mut() = Method::POST;
            *head.uri_mut() = target.uri(path).parse().expect("a checked plan");
            let headers = head.headers_mut();
            headers.insert("content-type", HeaderValue::from_static("application/grpc"));
            headers.insert("te", HeaderValue::from_static("trailers"));
            head
        };
        self.plan.operations.iter().map(|operation| head(&operation.path)).collect()
    }

    /// From the start to the moment at which no call is taken any more. Returns the CPU time that
    /// this thread spent while it was measured.
    async fn measure(&self, slots: &mut JoinSet<()>) -> Duration {
        self.watched.set_phase(Phase::WarmingUp);
        let sleep_until = |then: Instant| tokio::time::sleep_until(then.into());
        tokio::select! {
            () = self.watched.stopped() => return Duration::ZERO,
            () = sleep_until(self.from) => {}
        }
        self.watched.set_phase(Phase::Measuring);
        let cpu = cpu_time();
        let mut ticks = tokio::time::interval_at((self.from + self.plan.window).into(), self.plan.window);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let end = async {
            match self.end {
                Some(end) => sleep_until(end).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(end);
        loop {
            tokio::select! {
                () = self.watched.stopped() => break,
                () = &mut end => break,
                // All slots have ended: the total is reached.
                joined = slots.join_next() => if !ended_well(joined) { break },
                _ = ticks.tick() => self.roll(),
            }
        }
        cpu_time() - cpu
    }

    /// Take no call any more. Returns how many were due and never taken.
    fn finish(&self, ended: Instant) -> u64 {
        let total_is_reached = self.is_issued();
        self.over.set(true);
        self.wake(u64::MAX);
        if total_is_reached { 0 } else { self.issue.borrow().pace.backlog(ended) }
    }

    /// Wake waiting slots, at most so many. Returns how many.
    fn wake(&self, count_max: u64) -> usize {
        let idle = &mut *self.idle.borrow_mut();
        let kept = idle.len().saturating_sub(usize::try_from(count_max).unwrap_or(usize::MAX));
        idle.drain(kept..).map(Waker::wake).count()
    }

    fn is_issued(&self) -> bool {
        self.plan.total.is_some_and(|total| self.issue.borrow().counted >= total)
    }

    fn roll(&self) {
        let now = Instant::now();
        let window = match &self.listening {
            Some(listening) => listening.with(|ledger| ledger.tally.roll(now)),
            None => self.tally.borrow_mut().roll(now),
        };
        if let Some(window) = window {
            self.watched.push_window(window);
        }
    }

    /// The next call, once it is due; None at the end.
    async fn ticket(&self) -> Option<Ticket> {
        poll_fn(|cx| {
            let now = Instant::now();
            if self.over.get() || self.end.is_some_and(|end| now >= end) || self.is_issued() {
                return Poll::Ready(None);
            }
            let issue = &mut *self.issue.borrow_mut();
            let due = issue.pace.next_due(now);
            if due > now {
                self.idle.borrow_mut().push(cx.waker().clone());
                self.idling.notify_one();
                return Poll::Pending;
            }
            issue.pace.issue();
            issue.counted += u64::from(now >= self.from);
            let operation = issue.requests.choose();
            let stamp = self.listening.as_ref().map(|one| one.with(|ledger| ledger.posted(due)));
            let body = issue.requests.body(&self.plan.operations[operation], stamp);
            Poll::Ready(Some(Ticket { operation, body, due, stamp }))
        })
        .await
    }

    fn answered(&self, operation: usize, due: Instant, stamp: Option<u64>, answer: Answer) {
        let now = Instant::now();
        let in_time = self.end.is_none_or(|end| now <= end);
        let is_fine = matches!(answer, Answer::Fine { .. });
        if let (Some(listening), Some(stamp)) = (&self.listening, stamp) {
            listening.with(|ledger| if is_fine { ledger.acked(stamp, now) } else { ledger.failed(stamp) });
        }
        if now >= self.from && !(is_fine && self.listening.is_some()) {
            self.watched.count(u64::from(is_fine), u64::from(!is_fine));
        }
        self.tally.borrow_mut().answered(operation, due, now, answer, in_time);
    }

    fn outcome(&self, ended: Instant, unsent: u64, cpu: Duration, links: &[Rc<Link>]) -> Outcome {
        let mut tally = self.tally.replace(Tally::new(0, self.from));
        let heard = self.listening.as_ref().map(|listening| {
            let (ledger, broken) = listening.finish();
            if let Some(message) = broken {
                tally.failures.entry(failure::BROKEN).or_insert(Failures { count: 0, message }).count += 1;
            }
            Heard { faults: ledger.faults(), events: ledger.tally, after_ack: ledger.after_ack }
        });
        // A total ends with its last answer.
        let last = heard.as_ref().map_or(tally.last, |heard| heard.events.last);
        let last = if self.end.is_some() { ended } else { last };
        Outcome {
            measured: last.saturating_duration_since(self.from),
            tally: Some(tally),
            heard,
            unsent,
            redials: links.iter().map(|link| link.redials()).sum(),
            cpu,
        }
    }
}

// ── one slot ────────────────────────────────────────────────────────────────

async fn slot(run: Rc<Run>, link: Rc<Link>, heads: Vec<Request<()>>) {
    let mut current: Option<Open> = None;
    let mut talk: Option<Talk> = None;
    while let Some(Ticket { operation, body, due, stamp }) = run.ticket().await {
        let in_flight = InFlight { run: &run, operation, due, stamp };
        if !current.as_ref().is_some_and(|open| link.is_current(open)) {
            current = link.open().await;
            talk = None;
        }
        let Some(open) = current.as_mut() else { return };
        if run.plan.rate.is_some() {
            run.tally.borrow_mut().sent(due, Instant::now());
        }
        let (head, Operation { expects, is_stream, .. }) =
            (&heads[operation], &run.plan.operations[operation]);
        let answered = if *is_stream {
            ask(&mut open.sender, &mut talk, head, body, *expects).await
        } else {
            call(&mut open.sender, head.clone(), body, *expects).await
        };
        let answer = match answered {
            Ok(answer) => answer,
            Err(Broken::Call(error)) => Answer::broken(&error),
            Err(Broken::Connection(error)) => {
                link.retire(open);
                Answer::broken(&error)
            }
        };
        in_flight.end(answer);
        if let (Some(listening), Some(stamp)) = (&run.listening, stamp) {
            poll_fn(|cx| listening.poll_told(stamp, cx)).await;
        }
    }
}

/// A call that has been taken is accounted for, even if its slot is dropped.
struct InFlight<'a> {
    run: &'a Run,
    operation: usize,
    due: Instant,
    stamp: Option<u64>,
}

impl InFlight<'_> {
    fn end(self, answer: Answer) {
        self.run.answered(self.operation, self.due, self.stamp, answer);
        std::mem::forget(self);
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        let answer = Answer::Failed { code: failure::UNANSWERED, message: String::new() };
        self.run.answered(self.operation, self.due, self.stamp, answer);
    }
}

enum Broken {
    Call(h2::Error),       // nothing is known of other calls
    Connection(h2::Error), // takes no calls any more
}

impl Broken {
    fn of(error: h2::Error) -> Self {
        if error.is_reset() { Broken::Call(error) } else { Broken::Connection(error) }
    }
}

async fn call(
    sender: &mut SendRequest<Bytes>,
    head: Request<()>,
    body: Bytes,
    expects: u32,
) -> Result<Answer, Broken> {
    poll_fn(|cx| sender.poll_ready(cx)).await.map_err(Broken::Connection)?;
    let (response, mut stream) = sender.send_request(head, false).map_err(Broken::Connection)?;
    stream.send_data(body, true).map_err(Broken::Call)?;
    receive(response, expects).await.map_err(Broken::of)
}

/// As `call`, on a stream that stays open while it goes well.
async fn ask(
    sender: &mut SendRequest<Bytes>,
    talk: &mut Option<Talk>,
    head: &Request<()>,
    body: Bytes,
    expects: u32,
) -> Result<Answer, Broken> {
    let mut current = match talk.take() {
        Some(current) => current,
        None => {
            poll_fn(|cx| sender.poll_ready(cx)).await.map_err(Broken::Connection)?;
            Talk::open(sender, head.clone()).map_err(Broken::Connection)?
        }
    };
    let answer = current.ask(body, expects).await.map_err(Broken::of)?;
    if let Answer::Fine { .. } = answer {
        *talk = Some(current);
    }
    Ok(answer)
}

async fn receive(response: h2::client::ResponseFuture, expects: u32) -> Result<Answer, h2::Error> {
    let (head, mut body) = response.await?.into_parts();
    if head.status != StatusCode::OK {
        return Ok(Answer::Failed { code: failure::HTTP, message: head.status.to_string() });
    }
    let mut bytes = 0;
    let mut beginning = Beginning::default();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        bytes += piece.len() as u64;
        if expects != 0 {
            beginning.push(&piece);
        }
        body.flow_control().release_capacity(piece.len())?;
    }
    let ended = match body.trailers().await? {
        Some(trailers) => status(&trailers),
        None => status(&head.headers), // an error without trailers
    };
    Ok(match ended {
        Some((0, _)) => Answer::Fine { bytes, empty: expects != 0 && !beginning.shows(expects) },
        Some((code, message)) => Answer::Failed { code, message },
        None => Answer::Failed { code: failure::NO_STATUS, message: String::new() },
    })
}

// ── the clock of an open loop ───────────────────────────────────────────────

/// Wakes slots when calls are due; exact to some ten microseconds (tokio's own timer: a millisecond).
async fn clock(run: Rc<Run>) {
    let timer = Timer::new().expect("a timer of the kernel");
    while !run.is_issued() {
        let now = Instant::now();
        let due = run.issue.borrow().pace.next_due(now);
        if due > now {
            timer.sleep(due - now).await;
            continue;
        }
        let woken = run.wake(run.issue.borrow().pace.backlog(now).max(1));
        if woken == 0 {
            run.idling.notified().await; // all are busy, and take what is due by themselves
        } else {
            tokio::task::yield_now().await; // they take their calls before the next look
        }
    }
    run.wake(u64::MAX); // to their end
}

struct Timer(AsyncFd<OwnedFd>);

impl Timer {
    fn new() -> io::Result<Self> {
        // SAFETY: a system call without pointers; a descriptor it returns is ours alone.
        let fd = unsafe {
            let flags = libc::TFD_NONBLOCK | libc::TFD_CLOEXEC;
            let fd = libc::timerfd_create(libc::CLOCK_MONOTONIC, flags);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        // SAFETY: an OwnedFd stays the same descriptor, and open, as long as the AsyncFd holds it.
        Ok(Timer(unsafe { AsyncFd::register(fd) }?))
    }

    async fn sleep(&self, wait: Duration) {
        let wait = wait.max(Duration::from_nanos(1)); // zero would disarm it
        let once = libc::itimerspec {
            it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: libc::timespec {
                tv_sec: wait.as_secs() as libc::time_t,
                tv_nsec: i64::from(wait.subsec_nanos()) as _,
            },
        };
        // SAFETY: both pointers are valid for the call (null: the old value isn't wanted).
        unsafe { libc::timerfd_settime(self.0.get_ref().as_raw_fd(), 0, &once, std::ptr::null_mut()) };
        if let Ok(mut ready) = self.0.readable().await {
            let mut expirations = [0u8; 8];
            // SAFETY: the buffer has the eight bytes that a timer writes.
            unsafe {
                let fd = self.0.get_ref().as_raw_fd();
                libc::read(fd, expirations.as_mut_ptr().cast(), expirations.len());
            }
            ready.clear_ready();
        }
    }
}

/// What this thread has spent.
fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is valid for the call.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

impl Watched {
    fn push_window(&self, window: Window) {
        self.update(|progress| progress.windows.push(window));
    }

    fn set_phase(&self, phase: Phase) {
        self.update(|progress| progress.phase = phase);
    }
}
