//! Which call is due when. Pure: the time is an argument.
//!
//! Without a rate a call is due as soon as somebody asks (closed loop). With a rate, call number n is
//! due at start + n / rate, whatever happened to the calls before it (open loop).

use std::time::{Duration, Instant};

pub struct Pace {
    start: Instant,
    rate: Option<f64>,
    issued: u64, // calls since the start
}

impl Pace {
    pub fn new(start: Instant, rate: Option<f64>) -> Self {
        Pace { start, rate, issued: 0 }
    }

    /// When the next call is due, perhaps in the past.
    pub fn next_due(&self, now: Instant) -> Instant {
        match self.rate {
            None => now,
            Some(rate) => self.start + Duration::from_secs_f64(self.issued as f64 / rate),
        }
    }

    /// Take the next call, which must be due.
    pub fn issue(&mut self) {
        self.issued += 1;
    }

    /// Calls that are due before `then` and were not taken.
    pub fn backlog(&self, then: Instant) -> u64 {
        let Some(rate) = self.rate else { return 0 };
        let due = (then.saturating_duration_since(self.start).as_secs_f64() * rate).ceil() as u64;
        due.saturating_sub(self.issued)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_a_rate_calls_are_due_at_even_distances_however_late_they_are_taken() {
        let start = Instant::now();
        let mut pace = Pace::new(start, Some(1000.0));
        let late = start + Duration::from_secs(1);
        for n in 0..5 {
            assert_eq!(pace.next_due(late), start + Duration::from_millis(n));
            pace.issue();
        }
        assert_eq!(pace.backlog(start + Duration::from_millis(10)), 5);
    }

    #[test]
    fn without_a_rate_every_call_is_due_now() {
        let start = Instant::now();
        let pace = Pace::new(start, None);
        assert_eq!(pace.next_due(start + Duration::from_secs(9)), start + Duration::from_secs(9));
        assert_eq!(pace.backlog(start + Duration::from_secs(9)), 0);
    }
}
