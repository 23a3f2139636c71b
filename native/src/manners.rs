//! What a peer's HTTP/2 frames say between the lines: which streams it reset, and how it behaves.
//!
//! The frame heads are read along as bytes come in (`FrameScan`), because h2 answers pings and
//! settings by itself and tells of a reset only to who polls that very stream. `Manners` judges;
//! time is an argument. Limits:
//!
//! - pings: etcd's `--grpc-keepalive-min-time`, judged as grpc-go does (two strikes are forgiven,
//!   whatever is sent of an answer clears them, without calls a ping per two hours is enough). So
//!   a client may measure the line with pings while a long answer comes in, as they all do;
//! - pings, settings and priorities together: `CONTROL_FRAMES_PER_SECOND_MAX`;
//! - rapid reset (CVE-2023-44487): more than `resets_per_second_max` resets of streams that were
//!   opened within that second, with hardly an answer. Old streams may be reset at any rate.

use std::ops::Range;
use std::time::{Duration, Instant};

const PREFACE_BYTES: usize = 24;
const HEAD_BYTES: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const ACK: u8 = 1;

const PING_STRIKES_MAX: u32 = 2;
const PING_INTERVAL_WITHOUT_CALLS: Duration = Duration::from_secs(2 * 3600);
const CONTROL_FRAMES_PER_SECOND_MAX: u32 = 1000;
const ANSWERS_PER_RESETS: u32 = 10; // one answer excuses that many resets

/// Finds the frame heads in a byte stream that comes in pieces.
#[derive(Default)]
struct Heads {
    skip: usize, // of the preface or a payload
    head: [u8; HEAD_BYTES],
    head_bytes: usize,
}

impl Heads {
    /// The next one; `bytes` go on behind it. None: they are used up.
    fn next(&mut self, bytes: &mut &[u8]) -> Option<[u8; HEAD_BYTES]> {
        let skipped = self.skip.min(bytes.len());
        self.skip -= skipped;
        *bytes = &bytes[skipped..];
        let wanted = (HEAD_BYTES - self.head_bytes).min(bytes.len());
        self.head[self.head_bytes..self.head_bytes + wanted].copy_from_slice(&bytes[..wanted]);
        self.head_bytes += wanted;
        *bytes = &bytes[wanted..];
        if self.head_bytes < HEAD_BYTES {
            return None;
        }
        self.head_bytes = 0;
        let [a, b, c, ..] = self.head;
        self.skip = u32::from_be_bytes([0, a, b, c]) as usize;
        Some(self.head)
    }
}

/// Reads along what we send: whether anything of an answer has gone.
#[derive(Default)]
pub struct AnswerScan {
    heads: Heads,
    answered: bool,
}

impl AnswerScan {
    pub fn read(&mut self, mut bytes: &[u8]) {
        while let Some(head) = self.heads.next(&mut bytes) {
            self.answered |= matches!(head[3], DATA | HEADERS);
        }
    }

    /// Since the last call.
    pub fn take(&mut self) -> bool {
        std::mem::take(&mut self.answered)
    }
}

/// Reads along what a peer sends.
pub struct FrameScan {
    heads: Heads,
    seen_headers: bool,
    pub resets: Vec<u32>,
    pub pings: u32,
    pub control_frames: u32,
}

impl Default for FrameScan {
    fn default() -> Self {
        FrameScan {
            heads: Heads { skip: PREFACE_BYTES, ..Heads::default() },
            seen_headers: false,
            resets: Vec::new(),
            pings: 0,
            control_frames: 0,
        }
    }
}

impl FrameScan {
    /// Where in `bytes` the payload of the connection's first headers lies, as far as it is there.
    pub fn read(&mut self, mut bytes: &[u8]) -> Option<Range<usize>> {
        let whole = bytes.len();
        let mut first_headers = None;
        while let Some(head) = self.heads.next(&mut bytes) {
            self.frame(head);
            if head[3] == HEADERS && !self.seen_headers {
                self.seen_headers = true;
                let at = whole - bytes.len();
                first_headers = Some(at..whole.min(at + self.heads.skip));
            }
        }
        first_headers
    }

    fn frame(&mut self, head: [u8; HEAD_BYTES]) {
        let [_, _, _, kind, flags, stream @ ..] = head;
        match kind {
            RST_STREAM => self.resets.push(u32::from_be_bytes(stream) & 0x7fff_ffff),
            PING if flags & ACK == 0 => {
                self.pings += 1;
                self.control_frames += 1;
            }
            SETTINGS | PRIORITY => self.control_frames += 1,
            _ => {}
        }
    }
}

/// Why a peer is sent away with GOAWAY ENHANCE_YOUR_CALM; the text is the frame's debug data.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Rude {
    TooManyPings,
    ControlFrames,
    RapidReset,
}

impl Rude {
    pub fn text(self) -> &'static str {
        match self {
            Rude::TooManyPings => "too_many_pings", // clients look for this very text
            Rude::ControlFrames => "too_many_control_frames",
            Rude::RapidReset => "too_many_resets",
        }
    }
}

/// What came since the last judgement.
pub struct Seen<'a> {
    pub answered: bool, // anything of an answer has been sent
    pub pings: u32,
    pub control_frames: u32,
    pub resets: &'a [u32],
    pub newest_stream: u32,
    pub calls: usize, // open now
}

pub struct Manners {
    ping_interval_min: Duration,
    resets_per_second_max: u32,
    last_ping: Option<Instant>,
    ping_strikes: u32,
    second: Instant,    // when the counts below began
    newest_before: u32, // the newest stream then
    control_frames: u32,
    resets: u32,
    answers: u32,
}

impl Manners {
    pub fn new(ping_interval_min: Duration, resets_per_second_max: u32, now: Instant) -> Self {
        Manners {
            ping_interval_min,
            resets_per_second_max,
            last_ping: None,
            ping_strikes: 0,
            second: now,
            newest_before: 0,
            control_frames: 0,
            resets: 0,
            answers: 0,
        }
    }

    pub fn answered(&mut self) {
        self.answers = self.answers.saturating_add(1);
    }

    /// Judge what came since the last time.
    pub fn judge(&mut self, seen: &Seen, now: Instant) -> Option<Rude> {
        if now.duration_since(self.second) >= Duration::from_secs(1) {
            (self.second, self.control_frames, self.resets, self.answers) = (now, 0, 0, 0);
            self.newest_before = seen.newest_stream;
        }
        self.control_frames = self.control_frames.saturating_add(seen.control_frames);
        let young = seen.resets.iter().filter(|stream| **stream > self.newest_before).count();
        self.resets = self.resets.saturating_add(young as u32);
        if self.control_frames > CONTROL_FRAMES_PER_SECOND_MAX {
            return Some(Rude::ControlFrames);
        }
        let excused = self.answers.saturating_mul(ANSWERS_PER_RESETS);
        if self.resets > self.resets_per_second_max.saturating_add(excused) {
            return Some(Rude::RapidReset);
        }
        if seen.answered {
            (self.ping_strikes, self.last_ping) = (0, None);
        }
        for _ in 0..seen.pings {
            if self.ping(seen.calls, now) {
                return Some(Rude::TooManyPings);
            }
        }
        None
    }

    /// grpc-go, http2_server.go, handlePing.
    fn ping(&mut self, calls: usize, now: Instant) -> bool {
        let interval = if calls == 0 { PING_INTERVAL_WITHOUT_CALLS } else { self.ping_interval_min };
        let early = self.last_ping.is_some_and(|last| now.duration_since(last) < interval);
        self.last_ping = Some(now);
        self.ping_strikes += u32::from(early);
        self.ping_strikes > PING_STRIKES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn frames_are_recognised_however_the_bytes_are_cut() {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frame(SETTINGS, 0, 0, &[]));
        bytes.extend(frame(0, 0, 1, &[RST_STREAM; 100]));
        bytes.extend(frame(RST_STREAM, 0, 5, &[0; 4]));
        bytes.extend(frame(PING, 0, 0, &[0; 8]));
        bytes.extend(frame(PING, ACK, 0, &[0; 8]));
        bytes.extend(frame(RST_STREAM, 0, 9, &[0; 4]));
        for size in [1, 2, 5, 9, 10, 50, bytes.len()] {
            let mut scan = FrameScan::default();
            for piece in bytes.chunks(size) {
                scan.read(piece);
            }
            assert_eq!((scan.resets, scan.pings, scan.control_frames), (vec![5, 9], 1, 2));
        }
    }

    #[test]
    fn the_first_headers_are_found_once() {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frame(SETTINGS, 0, 0, &[]));
        bytes.extend(frame(HEADERS, 0, 1, &[7; 20]));
        bytes.extend(frame(HEADERS, 0, 3, &[7; 20]));
        let at = PREFACE_BYTES + 2 * HEAD_BYTES;
        let mut scan = FrameScan::default();
        assert_eq!(scan.read(&bytes), Some(at..at + 20));
        assert_eq!(scan.read(&bytes[at - HEAD_BYTES..]), None);
        let mut scan = FrameScan::default();
        assert_eq!(scan.read(&bytes[..at + 5]), Some(at..at + 5));
    }

    fn seen(pings: u32, control_frames: u32, resets: &[u32], calls: usize) -> Seen<'_> {
        Seen { answered: false, pings, control_frames, resets, newest_stream: 1000, calls }
    }

    fn pings(manners: &mut Manners, apart: Duration, count: u32, calls: usize) -> Option<u32> {
        let start = Instant::now();
        (0..count).find(|n| manners.judge(&seen(1, 1, &[], calls), start + apart * *n).is_some())
    }

    #[test]
    fn pings_more_often_than_allowed_are_forgiven_twice() {
        let five = Duration::from_secs(5);
        let fresh = || Manners::new(five, 1000, Instant::now());
        assert_eq!(pings(&mut fresh(), five, 100, 1), None);
        assert_eq!(pings(&mut fresh(), Duration::from_secs(4), 100, 1), Some(3));
        assert_eq!(pings(&mut fresh(), five, 100, 0), Some(3));
    }

    #[test]
    fn whatever_is_sent_of_an_answer_clears_the_strikes() {
        let start = Instant::now();
        let mut manners = Manners::new(Duration::from_secs(5), 1000, start);
        for n in 0..50u32 {
            let now = start + Duration::from_secs(1) * n;
            let answered = Seen { answered: true, ..seen(1, 1, &[], 1) };
            assert_eq!(manners.judge(&answered, now), None);
        }
    }

    #[test]
    fn only_data_and_headers_are_of_an_answer() {
        let mut scan = AnswerScan::default();
        scan.read(&[frame(SETTINGS, 0, 0, &[0; 6]), frame(PING, ACK, 0, &[DATA; 8])].concat());
        assert!(!scan.take());
        scan.read(&frame(DATA, 0, 1, &[PING; 100])[..HEAD_BYTES + 50]);
        assert!(scan.take() && !scan.take());
        scan.read(&[PING; 50]);
        assert!(!scan.take());
        scan.read(&frame(HEADERS, 0, 1, &[]));
        assert!(scan.take());
    }

    #[test]
    fn resets_without_answers_are_limited_and_answers_excuse_them() {
        let start = Instant::now();
        let mut manners = Manners::new(Duration::ZERO, 100, start);
        assert_eq!(manners.judge(&seen(0, 0, &[9; 100], 1), start), None);
        assert_eq!(manners.judge(&seen(0, 0, &[9], 1), start), Some(Rude::RapidReset));
        manners.answered();
        assert_eq!(manners.judge(&seen(0, 0, &[9; 9], 1), start), None);
        assert_eq!(manners.judge(&seen(0, 0, &[9], 1), start), Some(Rude::RapidReset));
        let later = start + Duration::from_secs(1);
        assert_eq!(manners.judge(&seen(0, 0, &[1001; 100], 1), later), None);
    }

    #[test]
    fn streams_of_an_earlier_second_may_be_reset_at_any_rate() {
        let start = Instant::now();
        let mut manners = Manners::new(Duration::ZERO, 100, start);
        let later = start + Duration::from_secs(2);
        assert_eq!(manners.judge(&seen(0, 0, &[1000; 10_000], 1), later), None);
    }

    #[test]
    fn a_flood_of_settings_is_too_much() {
        let start = Instant::now();
        let mut manners = Manners::new(Duration::ZERO, 100, start);
        assert_eq!(manners.judge(&seen(0, 1000, &[], 1), start), None);
        assert_eq!(manners.judge(&seen(0, 1, &[], 1), start), Some(Rude::ControlFrames));
    }
}
