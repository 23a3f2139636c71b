//! What a run is to do. Made by the caller, checked once by `Plan::check`, then never changed.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;

use crate::grpc::FRAME_HEAD_BYTES;

pub const KEY_DIGITS_MAX: usize = 20; // of a u64

#[derive(Clone, Debug)]
pub struct Target {
    pub address: SocketAddr,
    pub authority: String,
}

impl Target {
    pub fn uri(&self, path: &str) -> String {
        format!("http://{}{path}", self.authority)
    }
}

/// One kind of call. Offsets count in the message, without gRPC's frame head.
#[derive(Clone, Debug)]
pub struct Operation {
    pub path: String,
    pub message: Bytes,
    pub weight: u32, // how often, compared with the other operations
    pub keys: Vec<KeyHole>,
    pub noise: Option<Range<usize>>, // filled with bytes that do not compress
    /// The number of the reply's field that must follow its first one (the header), so that an
    /// answer that found nothing is told from one that did. 0: any answer will do.
    pub expects: u32,
}

/// Where the decimal digits of the key's number plus `add` go.
#[derive(Clone, Copy, Debug)]
pub struct KeyHole {
    pub offset: usize,
    pub add: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Random,
    Sequential,
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub targets: Vec<Target>, // connection i goes to targets[i % len]
    pub operations: Vec<Operation>,
    pub connections: usize,
    pub in_flight: usize,  // at most, over all connections
    pub rate: Option<f64>, // calls per second; without it a slot's next call follows its answer
    pub warm_up: Duration, // not measured
    pub duration: Option<Duration>,
    pub total: Option<u64>, // of calls that are measured
    pub keys: u64,          // key numbers are below this
    pub key_digits: usize,
    pub order: Order,
    pub seed: u64,
    pub window: Duration, // of the figures over time
    pub dial_timeout: Duration,
    pub drain: Duration, // what is unanswered so long after the end is given up
}

impl Plan {
    /// The first thing that is wrong with it, as a sentence.
    pub fn check(&self) -> Result<(), String> {
        let must = |holds: bool, text: &str| if holds { Ok(()) } else { Err(text.to_owned()) };
        must(!self.targets.is_empty(), "no endpoint")?;
        must(!self.operations.is_empty(), "no operation")?;
        must(self.connections > 0, "connections must be at least 1")?;
        must(self.in_flight >= self.connections, "in_flight must be at least one per connection")?;
        must(self.keys > 0, "keys must be at least 1")?;
        must((1..=KEY_DIGITS_MAX).contains(&self.key_digits), "key_digits must be 1 to 20")?;
        must(self.rate.is_none_or(|rate| rate.is_finite() && rate > 0.0), "rate must be above 0")?;
        must(!self.window.is_zero(), "window must be above 0")?;
        must(self.duration.is_some() || self.total.is_some(), "neither a duration nor a total")?;
        must(self.operations.iter().any(|one| one.weight > 0), "no operation has a weight")?;
        self.operations.iter().try_for_each(|operation| self.check_operation(operation))
    }

    fn check_operation(&self, operation: &Operation) -> Result<(), String> {
        let length = operation.message.len();
        let fits = |end: Option<usize>| end.is_some_and(|end| end <= length);
        let keys_fit = operation.keys.iter().all(|hole| {
            fits(hole.offset.checked_add(self.key_digits))
                && (self.keys - 1).checked_add(hole.add).is_some_and(|most| digits(most) <= self.key_digits)
        });
        let noise_fits =
            operation.noise.as_ref().is_none_or(|hole| hole.start <= hole.end && fits(Some(hole.end)));
        if !keys_fit || !noise_fits {
            return Err(format!("{}: a hole reaches over the message or its digits", operation.path));
        }
        for target in &self.targets {
            let uri = target.uri(&operation.path);
            uri.parse::<http::Uri>().map_err(|error| format!("{uri}: {error}"))?;
        }
        if u32::try_from(length).is_err() {
            return Err(format!("{}: a message is smaller than 4 GiB", operation.path));
        }
        Ok(())
    }
}

fn digits(number: u64) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

impl Operation {
    pub fn frame_bytes(&self) -> usize {
        FRAME_HEAD_BYTES + self.message.len()
    }
}
