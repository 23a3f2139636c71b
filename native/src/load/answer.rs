//! What an answer proves. Pure.

use http::HeaderMap;

use crate::grpc::FRAME_HEAD_BYTES;
use crate::load::proto::varint;

/// Why a call failed, where it is not a gRPC status (0 and up).
pub mod failure {
    pub const BROKEN: i32 = -1; // the connection or the stream; the text says how
    pub const HTTP: i32 = -2; // a status other than 200
    pub const NO_STATUS: i32 = -3; // the answer ended without a gRPC status
    pub const UNANSWERED: i32 = -4; // given up after the end of the run
}

#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    Fine { bytes: u64, empty: bool },
    Failed { code: i32, message: String },
}

impl Answer {
    pub fn broken(error: &h2::Error) -> Self {
        Answer::Failed { code: failure::BROKEN, message: error.to_string() }
    }
}

/// gRPC's status in headers or trailers; None where there is none.
pub fn status(headers: &HeaderMap) -> Option<(i32, String)> {
    let value = headers.get("grpc-status")?.as_bytes();
    if value == b"0" {
        return Some((0, String::new()));
    }
    let code = std::str::from_utf8(value).ok()?.parse().ok()?;
    let message = headers.get("grpc-message").map(|text| String::from_utf8_lossy(text.as_bytes()));
    Some((code, message.unwrap_or_default().into_owned()))
}

/// The first bytes of an answer, enough to see behind etcd's header (51 bytes at most, frame head
/// included).
#[derive(Default)]
pub struct Beginning {
    bytes: Vec<u8>,
    seen: Option<u32>,
}

const BEGINNING_BYTES_MAX: usize = 64;

impl Beginning {
    /// Take in the next piece of the answer.
    pub fn push(&mut self, piece: &[u8]) {
        if self.seen.is_some() || self.bytes.len() >= BEGINNING_BYTES_MAX {
            return;
        }
        if self.bytes.is_empty() {
            self.seen = second_field(piece); // nearly always the whole answer, and no copy
        }
        if self.seen.is_none() {
            let room = BEGINNING_BYTES_MAX - self.bytes.len();
            self.bytes.extend_from_slice(&piece[..piece.len().min(room)]);
            self.seen = second_field(&self.bytes);
        }
    }

    /// Whether the reply's second field has this number.
    pub fn shows(&self, field: u32) -> bool {
        self.seen == Some(field)
    }
}

/// The number of the field behind the first one, which must be a message, as etcd's header is.
fn second_field(framed: &[u8]) -> Option<u32> {
    let message = framed.get(FRAME_HEAD_BYTES..)?;
    let (tag, rest) = varint(message)?;
    if tag & 7 != 2 {
        return None;
    }
    let (length, rest) = varint(rest)?;
    let (tag, _) = varint(rest.get(usize::try_from(length).ok()?..)?)?;
    u32::try_from(tag >> 3).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOUND: &[u8] = &[0, 0, 0, 0, 6, 0x0a, 2, 0x18, 9, 0x12, 0];

    fn shows(pieces: &[&[u8]], field: u32) -> bool {
        let mut beginning = Beginning::default();
        pieces.iter().for_each(|piece| beginning.push(piece));
        beginning.shows(field)
    }

    #[test]
    fn the_field_behind_the_header_is_seen_in_whatever_pieces_it_comes() {
        for cut in 0..=FOUND.len() {
            assert!(shows(&[&FOUND[..cut], &FOUND[cut..]], 2), "cut at {cut}");
        }
    }

    #[test]
    fn a_header_alone_or_another_field_is_not_the_expected_one() {
        assert!(!shows(&[&FOUND[..9]], 2));
        assert!(!shows(&[FOUND], 3));
        assert!(!shows(&[], 2));
    }

    #[test]
    fn a_status_is_read_with_its_message() {
        let mut headers = HeaderMap::new();
        assert_eq!(status(&headers), None);
        headers.insert("grpc-status", "8".parse().expect("a value"));
        headers.insert("grpc-message", "too%20much".parse().expect("a value"));
        assert_eq!(status(&headers), Some((8, "too%20much".to_owned())));
    }
}
