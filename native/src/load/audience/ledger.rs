//! What was put, which watcher was told of it, and when. Pure.
//!
//! Each put carries a number in its value, counted up, by which an event is known. Each watcher must
//! be told of every put that was acknowledged, once, in the order of revisions.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use hdrhistogram::Histogram;

use crate::load::answer::Answer;
use crate::load::tally::{Tally, new_histogram, record};

/// What watchers were told wrongly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    pub lost: u64,       // acknowledged, or told to another watcher, and not told to this one
    pub duplicated: u64, // of the revision that was told last
    pub misordered: u64, // of a revision before that
    pub foreign: u64,    // of a put that is not of this run
}

/// A put, until everybody was told of it.
struct Letter {
    due: Instant,
    acked: Option<Instant>,
    is_failed: bool, // nothing is known of it: perhaps it was done
    left: usize,     // watchers to be told
    waker: Option<Waker>,
}

pub struct Ledger {
    pub tally: Tally,              // of events: from due to told
    pub after_ack: Histogram<u64>, // from the put's answer to told; 0 where the event was first
    faults: Faults,
    from: Instant, // the end of the warm-up
    end: Option<Instant>,
    last: Vec<i64>, // by watcher: the revision that it was told of last
    letters: VecDeque<Letter>,
    first: u64, // the number of `letters[0]`
}

impl Ledger {
    pub fn new(watchers: usize, from: Instant, end: Option<Instant>) -> Self {
        Ledger {
            tally: Tally::new(1, from),
            after_ack: new_histogram(),
            faults: Faults::default(),
            from,
            end,
            last: vec![0; watchers],
            letters: VecDeque::new(),
            first: 0,
        }
    }

    /// A put goes out; its number.
    pub fn posted(&mut self, due: Instant) -> u64 {
        self.letters.push_back(Letter {
            due,
            acked: None,
            is_failed: false,
            left: self.last.len(),
            waker: None,
        });
        self.first + self.letters.len() as u64 - 1
    }

    pub fn acked(&mut self, number: u64, now: Instant) {
        if let Some(letter) = self.letter(number) {
            letter.acked = Some(now);
        }
        self.forget_told();
    }

    pub fn failed(&mut self, number: u64) {
        if let Some(letter) = self.letter(number) {
            letter.is_failed = true;
        }
        self.forget_told();
    }

    /// An event. True: it counts.
    pub fn told(&mut self, watcher: usize, revision: i64, number: Option<u64>, now: Instant) -> bool {
        let Some(last) = self.last.get_mut(watcher) else {
            self.faults.foreign += 1;
            return false;
        };
        if revision <= *last {
            let fault =
                if revision == *last { &mut self.faults.duplicated } else { &mut self.faults.misordered };
            *fault += 1;
            return false;
        }
        *last = revision;
        let letter = number.and_then(|number| number.checked_sub(self.first)).and_then(|place| {
            let letter = self.letters.get_mut(usize::try_from(place).ok()?)?;
            (letter.left > 0).then_some(letter)
        });
        let Some(letter) = letter else {
            self.faults.foreign += 1;
            return false;
        };
        letter.left -= 1;
        let (due, acked) = (letter.due, letter.acked);
        if letter.left == 0 {
            letter.waker.take().inspect(Waker::wake_by_ref);
            self.forget_told();
        }
        let in_time = self.end.is_none_or(|end| now <= end);
        self.tally.answered(0, due, now, Answer::Fine { bytes: 0, empty: false }, in_time);
        if now >= self.from {
            record(&mut self.after_ack, acked.map_or_else(Default::default, |acked| now - acked));
        }
        true
    }

    /// Ready when everybody was told of a put, or nobody needs to be.
    pub fn poll_told(&mut self, number: u64, cx: &Context<'_>) -> Poll<()> {
        match self.letter(number) {
            Some(letter) if letter.left > 0 && !letter.is_failed => {
                letter.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    }

    /// Nothing more will come: nobody need wait.
    pub fn give_up(&mut self) {
        self.letters.iter_mut().filter_map(|letter| letter.waker.take()).for_each(Waker::wake);
    }

    /// Whether what happens now is measured.
    pub fn counts(&self, now: Instant) -> bool {
        now >= self.from
    }

    /// What is wrong if nothing more will come.
    pub fn faults(&self) -> Faults {
        let watchers = self.last.len();
        let owed = self.letters.iter().filter(|letter| letter.acked.is_some() || letter.left < watchers);
        Faults { lost: owed.map(|letter| letter.left as u64).sum(), ..self.faults }
    }

    fn letter(&mut self, number: u64) -> Option<&mut Letter> {
        let place = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.letters.get_mut(place)
    }

    fn forget_told(&mut self) {
        let is_over = |letter: &Letter| letter.left == 0 && (letter.acked.is_some() || letter.is_failed);
        while self.letters.front().is_some_and(is_over) {
            self.letters.pop_front();
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> (Ledger, Instant) {
        let now = Instant::now();
        (Ledger::new(2, now, None), now)
    }

    #[test]
    fn a_put_that_everybody_was_told_of_leaves_nothing() {
        let (mut ledger, now) = ledger();
        for revision in 5..8 {
            let number = ledger.posted(now);
            assert!(ledger.told(0, revision, Some(number), now)); // before the answer
            ledger.acked(number, now);
            assert!(ledger.told(1, revision, Some(number), now));
        }
        assert_eq!((ledger.faults(), ledger.letters.len()), (Faults::default(), 0));
        assert_eq!((ledger.tally.in_time, ledger.after_ack.len()), (6, 6));
    }

    #[test]
    fn an_acknowledged_put_is_lost_to_those_who_were_not_told() {
        let (mut ledger, now) = ledger();
        let numbers: Vec<_> = (0..3).map(|_| ledger.posted(now)).collect();
        ledger.acked(numbers[0], now);
        ledger.told(0, 5, Some(numbers[0]), now);
        ledger.told(0, 6, Some(numbers[1]), now); // told to one: so it was done
        ledger.failed(numbers[1]);
        ledger.failed(numbers[2]); // told to nobody: perhaps it was not
        assert_eq!(ledger.faults(), Faults { lost: 2, ..Faults::default() });
    }

    #[test]
    fn twice_backwards_and_unknown_are_told_apart_and_do_not_count() {
        let (mut ledger, now) = ledger();
        let (one, two) = (ledger.posted(now), ledger.posted(now));
        assert!(ledger.told(0, 6, Some(two), now));
        assert!(!ledger.told(0, 6, Some(two), now));
        assert!(!ledger.told(0, 5, Some(one), now));
        assert!(!ledger.told(0, 7, Some(99), now));
        assert!(!ledger.told(0, 8, None, now));
        assert!(!ledger.told(2, 9, Some(one), now)); // no such watcher
        let expected = Faults { lost: 1, duplicated: 1, misordered: 1, foreign: 3 };
        assert_eq!((ledger.faults(), ledger.tally.in_time), (expected, 1));
    }

    #[test]
    fn whoever_waits_for_a_put_is_woken_by_its_last_event() {
        let (mut ledger, now) = ledger();
        let number = ledger.posted(now);
        let cx = Context::from_waker(Waker::noop());
        ledger.acked(number, now);
        assert!(ledger.poll_told(number, &cx).is_pending());
        ledger.told(0, 5, Some(number), now);
        assert!(ledger.poll_told(number, &cx).is_pending());
        ledger.told(1, 5, Some(number), now);
        assert!(ledger.poll_told(number, &cx).is_ready());
    }
}
