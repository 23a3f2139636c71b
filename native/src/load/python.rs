//! The load generator as Python sees it (typed in chainfire_native.pyi).

use std::io::ErrorKind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use crate::load::answer::failure;
use crate::load::plan::{Audience, KeyHole, Operation, Order, Plan, Target};
use crate::load::secure::{Tls, Trust};
use crate::load::socket;
use crate::load::tally::Fine;
use crate::load::thread::{Heard, Load, Outcome, Phase};

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<LoadTrust>()?;
    module.add_class::<LoadTarget>()?;
    module.add_class::<LoadOperation>()?;
    module.add_class::<LoadAudience>()?;
    module.add_class::<LoadWindow>()?;
    module.add_class::<LoadFine>()?;
    module.add_class::<LoadHeard>()?;
    module.add_class::<LoadOutcome>()?;
    for (name, code) in [
        ("LOAD_BROKEN", failure::BROKEN),
        ("LOAD_HTTP", failure::HTTP),
        ("LOAD_NO_STATUS", failure::NO_STATUS),
        ("LOAD_UNANSWERED", failure::UNANSWERED),
    ] {
        module.add(name, code)?;
    }
    module.add_class::<LoadRun>()
}

#[pyclass(frozen, name = "LoadTrust")]
struct LoadTrust(Trust);

#[pymethods]
impl LoadTrust {
    #[new]
    #[pyo3(signature = (ca=None, certificate=None, key=None))]
    fn new(ca: Option<&[u8]>, certificate: Option<&[u8]>, key: Option<&[u8]>) -> PyResult<Self> {
        Trust::new(ca, certificate.zip(key)).map(LoadTrust).map_err(PyValueError::new_err)
    }
}

#[pyclass(frozen, name = "LoadTarget")]
struct LoadTarget(Target);

#[pymethods]
impl LoadTarget {
    #[new]
    #[pyo3(signature = (address, authority, trust=None))]
    fn new(address: &str, authority: String, trust: Option<PyRef<'_, LoadTrust>>) -> PyResult<Self> {
        let address = address
            .parse()
            .map_err(|_| PyValueError::new_err(format!("{address}: not an address with a port")))?;
        let tls = trust.map(|trust| Tls::to(&authority, &trust.0)).transpose();
        Ok(LoadTarget(Target { address, tls: tls.map_err(PyValueError::new_err)?, authority }))
    }

    #[pyo3(signature = (timeout_seconds))]
    fn probe(&self, py: Python<'_>, timeout_seconds: f64) -> PyResult<()> {
        let timeout = seconds(timeout_seconds)?;
        py.detach(|| socket::probe(&self.0, timeout)).map_err(|error| {
            let is_unreachable = error.raw_os_error().is_some() || error.kind() == ErrorKind::TimedOut;
            if is_unreachable { error.into() } else { PyValueError::new_err(error.to_string()) }
        })
    }
}

#[pyclass(frozen, name = "LoadOperation")]
struct LoadOperation(Operation);

#[pymethods]
impl LoadOperation {
    #[new]
    #[pyo3(signature = (
        path, message, *, weight=1, is_stream=false, keys=vec![], groups=None, noise=None, expects=0
    ))]
    #[allow(clippy::too_many_arguments)] // keywords, one per field
    fn new(
        path: String,
        message: &[u8],
        weight: u32,
        is_stream: bool,
        keys: Vec<(usize, u64)>,
        groups: Option<usize>,
        noise: Option<(usize, usize)>,
        expects: u32,
    ) -> Self {
        LoadOperation(Operation {
            path,
            message: message.to_vec().into(),
            weight,
            is_stream,
            keys: keys.into_iter().map(|(offset, add)| KeyHole { offset, add }).collect(),
            groups,
            noise: noise.map(|(begin, end)| begin..end),
            expects,
        })
    }
}

#[pyclass(frozen, name = "LoadAudience")]
struct LoadAudience(Audience);

#[pymethods]
impl LoadAudience {
    #[new]
    #[pyo3(signature = (path, message, *, watchers, streams, connections))]
    fn new(path: String, message: &[u8], watchers: usize, streams: usize, connections: usize) -> Self {
        LoadAudience(Audience { path, message: message.to_vec().into(), watchers, streams, connections })
    }
}

#[pyclass(frozen, name = "Load")]
struct LoadRun {
    load: Load,
    seen: AtomicU64,
}

#[pymethods]
impl LoadRun {
    #[new]
    #[pyo3(signature = (
        targets, operations, *, connections, in_flight, keys, key_digits, audience=None, rate=None,
        warm_up_seconds=0.0, duration_seconds=None, total=None, sequential=false, seed=1, window_seconds=0.25,
        dial_seconds=2.0, drain_seconds=5.0
    ))]
    #[allow(clippy::too_many_arguments)] // keywords, one per field of a plan
    fn new(
        targets: Vec<PyRef<'_, LoadTarget>>,
        operations: Vec<PyRef<'_, LoadOperation>>,
        connections: usize,
        in_flight: usize,
        keys: u64,
        key_digits: usize,
        audience: Option<PyRef<'_, LoadAudience>>,
        rate: Option<f64>,
        warm_up_seconds: f64,
        duration_seconds: Option<f64>,
        total: Option<u64>,
        sequential: bool,
        seed: u64,
        window_seconds: f64,
        dial_seconds: f64,
        drain_seconds: f64,
    ) -> PyResult<Self> {
        let plan = Plan {
            targets: targets.iter().map(|target| target.0.clone()).collect(),
            operations: operations.iter().map(|operation| operation.0.clone()).collect(),
            audience: audience.map(|audience| audience.0.clone()),
            connections,
            in_flight,
            rate,
            warm_up: seconds(warm_up_seconds)?,
            duration: duration_seconds.map(seconds).transpose()?,
            total,
            keys,
            key_digits,
            order: if sequential { Order::Sequential } else { Order::Random },
            seed,
            window: seconds(window_seconds)?,
            dial_timeout: seconds(dial_seconds)?,
            drain: seconds(drain_seconds)?,
        };
        plan.check().map_err(PyValueError::new_err)?;
        Ok(LoadRun { load: Load::start(plan)?, seen: AtomicU64::new(0) })
    }

    /// The phase, once something has changed since the last call or the time is over.
    #[pyo3(signature = (timeout_seconds))]
    fn wait(&self, py: Python<'_>, timeout_seconds: f64) -> PyResult<&'static str> {
        let timeout = seconds(timeout_seconds)?;
        let seen = self.seen.load(Ordering::Relaxed);
        let (phase, changes) = py.detach(|| self.load.wait(seen, timeout));
        self.seen.store(changes, Ordering::Relaxed);
        Ok(match phase {
            Phase::Connecting => "connecting",
            Phase::WarmingUp => "warming up",
            Phase::Measuring => "measuring",
            Phase::Draining => "draining",
            Phase::Over => "over",
        })
    }

    fn windows(&self, from: usize) -> Vec<LoadWindow> {
        let windows = self.load.windows(from);
        windows
            .iter()
            .map(|window| LoadWindow {
                begin_seconds: window.begin.as_secs_f64(),
                end_seconds: window.end.as_secs_f64(),
                answered: window.answered,
                failed: window.failed,
                p50_seconds: window.p50.as_secs_f64(),
                p99_seconds: window.p99.as_secs_f64(),
                max_seconds: window.max.as_secs_f64(),
                silence_seconds: window.silence.as_secs_f64(),
            })
            .collect()
    }

    fn counts(&self) -> (u64, u64) {
        self.load.counts()
    }

    fn stop(&self) {
        self.load.stop();
    }

    fn outcome(&self, py: Python<'_>) -> PyResult<LoadOutcome> {
        let outcome = py.detach(|| self.load.join());
        let outcome = outcome.ok_or_else(|| PyRuntimeError::new_err("the outcome was taken before"))?;
        Ok(LoadOutcome::from(outcome?))
    }
}

fn seconds(value: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(value).map_err(|error| PyValueError::new_err(error.to_string()))
}

#[pyclass(frozen, get_all)]
struct LoadWindow {
    begin_seconds: f64,
    end_seconds: f64,
    answered: u64,
    failed: u64,
    p50_seconds: f64,
    p99_seconds: f64,
    max_seconds: f64,
    silence_seconds: f64,
}

#[pyclass(frozen, get_all)]
#[derive(Clone)]
struct LoadFine {
    answered: u64,
    answered_ever: u64,
    empty: u64,
    reply_bytes: u64,
    latencies: Vec<(u64, u64)>,
}

impl From<&Fine> for LoadFine {
    fn from(fine: &Fine) -> Self {
        LoadFine {
            answered: fine.answered,
            answered_ever: fine.answered_ever,
            empty: fine.empty,
            reply_bytes: fine.reply_bytes,
            latencies: recorded(&fine.latencies),
        }
    }
}

#[pyclass(frozen, get_all)]
#[derive(Clone)]
struct LoadHeard {
    in_time: u64,
    events: LoadFine,
    after_ack: Vec<(u64, u64)>,
    lost: u64,
    duplicated: u64,
    misordered: u64,
    foreign: u64,
}

impl From<Heard> for LoadHeard {
    fn from(heard: Heard) -> Self {
        let Heard { events, after_ack, faults } = heard;
        LoadHeard {
            in_time: events.in_time,
            events: LoadFine::from(&events.operations[0]),
            after_ack: recorded(&after_ack),
            lost: faults.lost,
            duplicated: faults.duplicated,
            misordered: faults.misordered,
            foreign: faults.foreign,
        }
    }
}

#[pyclass(frozen, get_all)]
#[derive(Default)]
struct LoadOutcome {
    measured_seconds: f64,
    in_time: u64,
    operations: Vec<LoadFine>,
    heard: Option<LoadHeard>,
    failures: Vec<(i32, u64, String)>,
    late: Vec<(u64, u64)>,
    unsent: u64,
    redials: u64,
    cpu_seconds: f64,
}

impl From<Outcome> for LoadOutcome {
    fn from(outcome: Outcome) -> Self {
        let Some(tally) = outcome.tally else { return LoadOutcome::default() };
        let failures =
            tally.failures.iter().map(|(code, failures)| (*code, failures.count, failures.message.clone()));
        LoadOutcome {
            measured_seconds: outcome.measured.as_secs_f64(),
            in_time: tally.in_time,
            operations: tally.operations.iter().map(LoadFine::from).collect(),
            heard: outcome.heard.map(LoadHeard::from),
            failures: failures.collect(),
            late: recorded(&tally.late),
            unsent: outcome.unsent,
            redials: outcome.redials,
            cpu_seconds: outcome.cpu.as_secs_f64(),
        }
    }
}

/// (highest value of the bucket in nanoseconds, how many)
fn recorded(histogram: &Histogram<u64>) -> Vec<(u64, u64)> {
    histogram.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())).collect()
}
