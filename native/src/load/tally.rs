//! What came back: a histogram per operation, windows of time, errors by code. Pure.
//!
//! Every answer from the end of the warm-up on counts, whenever its call was due; those after the end
//! count in the latencies (leaving them out would flatter a slow server) and not in the rate.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::load::answer::Answer;

const LATENCY_MAX: Duration = Duration::from_secs(3600);

pub fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1000, LATENCY_MAX.as_nanos() as u64, 3).expect("valid bounds")
}

pub fn record(histogram: &mut Histogram<u64>, time: Duration) {
    histogram.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
}

/// One operation's answers without errors.
pub struct Fine {
    pub answered: u64,
    pub answered_ever: u64, // with the warm-up
    pub empty: u64,         // of `answered`: found nothing, wrote nothing
    pub reply_bytes: u64,
    pub latencies: Histogram<u64>, // in nanoseconds
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    pub begin: Duration, // since the end of the warm-up
    pub end: Duration,
    pub answered: u64,
    pub failed: u64,
    pub p50: Duration,
    pub p99: Duration,
    pub max: Duration,
    pub silence: Duration, // the longest time without any answer that ended here, or has not ended
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    pub count: u64,
    pub message: String, // of the first
}

pub struct Tally {
    from: Instant,
    pub operations: Vec<Fine>,
    pub failures: BTreeMap<i32, Failures>,
    pub in_time: u64,         // answers without errors until the end
    pub late: Histogram<u64>, // from due to sent
    pub last: Instant,        // the latest answer
    window: Histogram<u64>,
    window_begin: Instant,
    window_failed: u64,
    silence: Duration,
}

impl Tally {
    /// `from`: the end of the warm-up.
    pub fn new(operations: usize, from: Instant) -> Self {
        let fine =
            || Fine { answered: 0, answered_ever: 0, empty: 0, reply_bytes: 0, latencies: new_histogram() };
        Tally {
            from,
            operations: (0..operations).map(|_| fine()).collect(),
            failures: BTreeMap::new(),
            in_time: 0,
            late: new_histogram(),
            last: from,
            window: new_histogram(),
            window_begin: from,
            window_failed: 0,
            silence: Duration::ZERO,
        }
    }

    pub fn sent(&mut self, due: Instant, now: Instant) {
        if now >= self.from {
            record(&mut self.late, now.saturating_duration_since(due));
        }
    }

    pub fn answered(&mut self, operation: usize, due: Instant, now: Instant, answer: Answer, in_time: bool) {
        let counts = now >= self.from;
        match answer {
            Answer::Fine { bytes, empty } => {
                let fine = &mut self.operations[operation];
                fine.answered_ever += 1;
                if !counts {
                    return;
                }
                let latency = now.saturating_duration_since(due);
                fine.answered += 1;
                fine.empty += u64::from(empty);
                fine.reply_bytes += bytes;
                record(&mut fine.latencies, latency);
                record(&mut self.window, latency);
                self.in_time += u64::from(in_time);
            }
            Answer::Failed { code, message } if counts => {
                let failures = self.failures.entry(code).or_insert_with(|| Failures { count: 0, message });
                failures.count += 1;
                self.window_failed += 1;
            }
            Answer::Failed { .. } => return,
        }
        self.silence = self.silence.max(now.saturating_duration_since(self.last));
        self.last = now;
    }

    /// End the window and begin the next; None while the warm-up lasts.
    pub fn roll(&mut self, now: Instant) -> Option<Window> {
        if now <= self.window_begin {
            return None;
        }
        let at = |quantile: f64| Duration::from_nanos(self.window.value_at_quantile(quantile));
        let window = Window {
            begin: self.window_begin - self.from,
            end: now - self.from,
            answered: self.window.len(),
            failed: self.window_failed,
            p50: at(0.5),
            p99: at(0.99),
            max: Duration::from_nanos(self.window.max()),
            silence: self.silence.max(now.saturating_duration_since(self.last)),
        };
        self.window.reset();
        self.window_begin = now;
        self.window_failed = 0;
        self.silence = Duration::ZERO;
        Some(window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fine() -> Answer {
        Answer::Fine { bytes: 10, empty: false }
    }

    #[test]
    fn the_warm_up_does_not_count_but_is_remembered() {
        let from = Instant::now() + Duration::from_secs(1);
        let mut tally = Tally::new(1, from);
        let before = from - Duration::from_millis(1);
        tally.answered(0, before, before, fine(), true);
        tally.answered(0, before, before, Answer::Failed { code: 14, message: String::new() }, true);
        assert_eq!((tally.operations[0].answered, tally.operations[0].answered_ever), (0, 1));
        assert!(tally.failures.is_empty());
        assert_eq!(tally.roll(before), None);
    }

    #[test]
    fn an_answer_after_the_end_counts_in_the_latencies_and_not_in_the_rate() {
        let from = Instant::now();
        let mut tally = Tally::new(1, from);
        tally.answered(0, from, from + Duration::from_secs(2), fine(), false);
        assert_eq!((tally.in_time, tally.operations[0].latencies.len()), (0, 1));
        assert!(tally.operations[0].latencies.max() >= 2_000_000_000);
    }

    #[test]
    fn a_silence_counts_whole_where_it_ends_and_in_every_window_before() {
        let from = Instant::now();
        let mut tally = Tally::new(1, from);
        let mut silences = Vec::new();
        for (answer, end) in [(10, 100), (250, 200), (250, 300), (250, 400)] {
            if answer <= end {
                let at = from + Duration::from_millis(answer);
                tally.answered(0, at, at.max(tally.last), fine(), true);
            }
            let window = tally.roll(from + Duration::from_millis(end)).expect("a window");
            silences.push(window.silence.as_millis());
        }
        assert_eq!(silences, [90, 190, 240, 150]);
    }

    #[test]
    fn errors_are_counted_by_code_and_keep_their_first_message_and_no_latency() {
        let from = Instant::now();
        let mut tally = Tally::new(1, from);
        for message in ["first", "second"] {
            let failed = Answer::Failed { code: 8, message: message.to_owned() };
            tally.answered(0, from, from + Duration::from_millis(1), failed, true);
        }
        let expected = Failures { count: 2, message: "first".to_owned() };
        assert_eq!(tally.failures, BTreeMap::from([(8, expected)]));
        assert_eq!(tally.operations[0].latencies.len(), 0);
        let window = tally.roll(from + Duration::from_secs(1)).expect("a window");
        assert_eq!((window.answered, window.failed), (0, 2));
    }
}
