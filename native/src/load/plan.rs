//! What a run is to do. Made by the caller, checked once by `Plan::check`, then never changed.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;

use crate::grpc::FRAME_HEAD_BYTES;
use crate::load::audience::STAMP_BYTES;
use crate::load::secure::Tls;

pub const KEY_DIGITS_MAX: usize = 20; // of a u64
/// Of a number that is written into the middle of a varint: so many of its bytes.
pub const GROUPS: usize = 4;
const GROUPS_NUMBERS: u64 = 1 << (7 * GROUPS);

#[derive(Clone, Debug)]
pub struct Target {
    pub address: SocketAddr,
    pub authority: String,
    pub tls: Option<Tls>, // None: plain
}

impl Target {
    pub fn uri(&self, path: &str) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}{path}", self.authority)
    }
}

/// One kind of call. Offsets count in the message, without gRPC's frame head.
#[derive(Clone, Debug)]
pub struct Operation {
    pub path: String,
    pub message: Bytes,
    pub weight: u32,     // how often, compared with the other operations
    pub is_stream: bool, // messages on a stream, each answered by one
    pub keys: Vec<KeyHole>,
    /// Where the key's number goes as the lowest groups of a longer varint: of a lease's id.
    pub groups: Option<usize>,
    pub noise: Option<Range<usize>>, // filled with bytes that do not compress
    /// The number of the reply's field that must follow its first one (the header), or be anywhere
    /// in a stream's, so that an answer that found nothing is told from one that did. 0: any answer
    /// will do.
    pub expects: u32,
}

/// Where the decimal digits of the key's number plus `add` go.
#[derive(Clone, Copy, Debug)]
pub struct KeyHole {
    pub offset: usize,
    pub add: u64,
}

/// Watchers who are to be told of every put; the number of each put goes to the beginning of its
/// noise. A put is in flight until all of them were told.
#[derive(Clone, Debug)]
pub struct Audience {
    pub path: String,
    pub message: Bytes, // makes one watcher
    pub watchers: usize,
    pub streams: usize,     // the watchers spread over them
    pub connections: usize, // the streams spread over them
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
    pub audience: Option<Audience>,
    pub connections: usize, // of the operations
    pub in_flight: usize,   // at most, over all connections
    pub rate: Option<f64>,  // calls per second; without it a slot's next call follows its answer
    pub warm_up: Duration,  // not measured
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
        self.operations.iter().try_for_each(|operation| self.check_operation(operation))?;
        self.audience.as_ref().map_or(Ok(()), |audience| self.check_audience(audience))
    }

    fn check_audience(&self, audience: &Audience) -> Result<(), String> {
        let Audience { watchers, streams, connections, .. } = *audience;
        if !(1 <= connections && connections <= streams && streams <= watchers) {
            return Err("an audience has at least a stream per connection, a watcher per stream".to_owned());
        }
        let noise = |operation: &Operation| operation.noise.as_ref().map_or(0, ExactSizeIterator::len);
        if self.operations.iter().any(|operation| operation.is_stream || noise(operation) < STAMP_BYTES) {
            return Err(format!("watched values must have at least {STAMP_BYTES} bytes"));
        }
        self.check_path(&audience.path)
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
        let groups_fit = operation
            .groups
            .is_none_or(|offset| fits(offset.checked_add(GROUPS)) && self.keys <= GROUPS_NUMBERS);
        if !keys_fit || !noise_fits || !groups_fit {
            return Err(format!("{}: a hole reaches over the message or its digits", operation.path));
        }
        self.check_path(&operation.path)?;
        if u32::try_from(length).is_err() {
            return Err(format!("{}: a message is smaller than 4 GiB", operation.path));
        }
        Ok(())
    }

    fn check_path(&self, path: &str) -> Result<(), String> {
        self.targets.iter().try_for_each(|target| {
            let uri = target.uri(path);
            uri.parse::<http::Uri>().map(drop).map_err(|error| format!("{uri}: {error}"))
        })
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
