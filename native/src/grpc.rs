//! gRPC's own encodings: frames, timeouts, messages of a status, metadata. Pure functions.
//!
//! Reference: grpc/doc/PROTOCOL-HTTP2.md. Nothing here trusts its input: what a peer may get wrong
//! comes back as a `Refusal` with the status that it is told.

use std::borrow::Cow;
use std::io::{self, Read, Write};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use http::header::{HeaderMap, HeaderName, HeaderValue};

pub const FRAME_HEAD_BYTES: usize = 5;
const TIMEOUT_DIGITS_MAX: usize = 8;

pub const CANCELLED: u16 = 1;
pub const DEADLINE_EXCEEDED: u16 = 4;
pub const RESOURCE_EXHAUSTED: u16 = 8;
pub const UNIMPLEMENTED: u16 = 12;
pub const INTERNAL: u16 = 13;

/// Metadata as it crosses the border; binary values are already decoded.
pub type Pairs = Vec<(String, Value)>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Text(String),
    Binary(Vec<u8>),
}

/// Why a call ends before a handler saw it.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: u16,
    pub message: Cow<'static, str>,
}

impl Refusal {
    pub fn new(code: u16, message: impl Into<Cow<'static, str>>) -> Self {
        Refusal { code, message: message.into() }
    }
}

// ── frames ──────────────────────────────────────────────────────────────────

pub fn frame_head(length: usize, compressed: bool) -> [u8; FRAME_HEAD_BYTES] {
    // A message of 4 GiB can't be framed; Python is refused before it gets here.
    let [a, b, c, d] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [u8::from(compressed), a, b, c, d]
}

/// Cuts a request's body into messages. Holds at most one message and one DATA frame.
pub struct Decoder {
    buffer: BytesMut,
    message_bytes_max: usize,
    gzip: bool,
}

impl Decoder {
    pub fn new(message_bytes_max: usize, gzip: bool) -> Self {
        Decoder { buffer: BytesMut::new(), message_bytes_max, gzip }
    }

    pub fn push(&mut self, data: &[u8]) {
        self.buffer.extend_from_slice(data);
    }

    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    pub fn held_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// The whole body in one DATA frame: no copy. None: take the long way.
    pub fn single(&self, data: &Bytes) -> Option<Bytes> {
        let head = data.first_chunk::<FRAME_HEAD_BYTES>()?;
        let whole = head[0] == 0
            && length_of(head) == data.len() - FRAME_HEAD_BYTES
            && data.len() - FRAME_HEAD_BYTES <= self.message_bytes_max
            && self.buffer.is_empty();
        whole.then(|| data.slice(FRAME_HEAD_BYTES..))
    }

    /// The next complete message, or None if more bytes are needed. A length over the limit is
    /// refused as soon as its head is there.
    pub fn next_message(&mut self) -> Result<Option<Bytes>, Refusal> {
        let Some(head) = self.buffer.first_chunk::<FRAME_HEAD_BYTES>() else {
            return Ok(None);
        };
        let (flag, length) = (head[0], length_of(head));
        if length > self.message_bytes_max {
            return Err(too_large(length, self.message_bytes_max));
        }
        if self.buffer.len() - FRAME_HEAD_BYTES < length {
            return Ok(None); // no room is made for bytes that have only been announced
        }
        self.buffer.advance(FRAME_HEAD_BYTES);
        let body = self.buffer.split_to(length).freeze();
        match flag {
            0 => Ok(Some(body)),
            1 if self.gzip => decompress(&body, self.message_bytes_max).map(Some),
            1 => Err(Refusal::new(INTERNAL, "grpc: compressed flag set with identity encoding")),
            _ => Err(Refusal::new(INTERNAL, "grpc: received unexpected payload format")),
        }
    }
}

fn length_of(head: &[u8; FRAME_HEAD_BYTES]) -> usize {
    u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize
}

/// The text of grpc-go, which etcd's clients know.
fn too_large(length: usize, limit: usize) -> Refusal {
    let message = format!("grpc: received message larger than max ({length} vs. {limit})");
    Refusal::new(RESOURCE_EXHAUSTED, message)
}

// ── gzip ────────────────────────────────────────────────────────────────────

fn decompress(body: &[u8], limit: usize) -> Result<Bytes, Refusal> {
    let mut message = Vec::new();
    // One byte more than allowed is enough to know; a bomb is never unpacked.
    let mut reader = GzDecoder::new(body).take(limit as u64 + 1);
    match reader.read_to_end(&mut message) {
        Ok(length) if length > limit => {
            let text = format!("grpc: received message after decompression larger than max {limit}");
            Err(Refusal::new(RESOURCE_EXHAUSTED, text))
        }
        Ok(_) => Ok(message.into()),
        Err(error) => {
            let text = format!("grpc: failed to decompress the received message: {error}");
            Err(Refusal::new(INTERNAL, text))
        }
    }
}

pub fn compress(body: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 2), Compression::fast());
    encoder.write_all(body)?;
    encoder.finish()
}

// ── headers ─────────────────────────────────────────────────────────────────

/// `grpc-timeout`: up to eight digits and a unit.
pub fn timeout(value: &HeaderValue) -> Result<Duration, Refusal> {
    let malformed = || Refusal::new(INTERNAL, "malformed grpc-timeout");
    let (unit, digits) = value.as_bytes().split_last().ok_or_else(malformed)?;
    if digits.is_empty() || digits.len() > TIMEOUT_DIGITS_MAX || !digits.iter().all(u8::is_ascii_digit) {
        return Err(malformed());
    }
    let amount = digits.iter().fold(0u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    match unit {
        b'H' => Ok(Duration::from_secs(amount * 3600)),
        b'M' => Ok(Duration::from_secs(amount * 60)),
        b'S' => Ok(Duration::from_secs(amount)),
        b'm' => Ok(Duration::from_millis(amount)),
        b'u' => Ok(Duration::from_micros(amount)),
        b'n' => Ok(Duration::from_nanos(amount)),
        _ => Err(malformed()),
    }
}

/// `grpc-message`: everything but printable ASCII, and '%' itself, as %XX of its UTF-8.
pub fn percent_encode(text: &str) -> HeaderValue {
    let plain = |byte: u8| (0x20..=0x7e).contains(&byte) && byte != b'%';
    let encoded = if text.bytes().all(plain) {
        HeaderValue::from_str(text)
    } else {
        let mut out = Vec::with_capacity(text.len() * 2);
        for byte in text.bytes() {
            if plain(byte) {
                out.push(byte);
            } else {
                out.push(b'%');
                out.extend_from_slice(format!("{byte:02X}").as_bytes());
            }
        }
        HeaderValue::from_bytes(&out)
    };
    encoded.unwrap_or_else(|_| HeaderValue::from_static("")) // only printable ASCII is left
}

/// What gRPC and HTTP keep for themselves; handlers never see it.
fn is_reserved(name: &str) -> bool {
    matches!(name, "content-type" | "te" | "user-agent" | "content-length") || name.starts_with("grpc-")
}

/// A request's metadata, or None where there is none (most calls).
pub fn metadata(headers: &HeaderMap) -> Option<Box<Pairs>> {
    let mut pairs = Pairs::new();
    for (name, value) in headers {
        let name = name.as_str();
        if is_reserved(name) {
            continue;
        }
        if name.ends_with("-bin") {
            // Several values may be joined by commas.
            for part in value.as_bytes().split(|byte| *byte == b',') {
                if let Some(bytes) = base64_decode(part) {
                    pairs.push((name.to_owned(), Value::Binary(bytes)));
                }
            }
        } else {
            let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
            pairs.push((name.to_owned(), Value::Text(text)));
        }
    }
    (!pairs.is_empty()).then(|| Box::new(pairs))
}

/// Puts metadata of ours into headers. What can't be a header is left out; the caller logs it.
pub fn put_metadata(headers: &mut HeaderMap, pairs: &Pairs) -> bool {
    let mut complete = true;
    for (name, value) in pairs {
        let name = HeaderName::from_bytes(name.as_bytes());
        let value = match value {
            Value::Text(text) => HeaderValue::from_str(text),
            Value::Binary(bytes) => HeaderValue::from_bytes(&base64_encode(bytes)),
        };
        match (name, value) {
            (Ok(name), Ok(value)) => {
                headers.append(name, value);
            }
            _ => complete = false,
        }
    }
    complete
}

// ── base64, standard alphabet; padding is accepted and never sent ───────────

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64_encode(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |n: usize| u32::from(chunk.get(n).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for n in 0..=chunk.len() {
            out.put_u8(ALPHABET[(bits >> (18 - 6 * n) & 63) as usize]);
        }
    }
    out
}

fn base64_decode(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.trim_ascii();
    let digits = match text {
        [rest @ .., b'=', b'='] | [rest @ .., b'='] => rest,
        _ => text,
    };
    let mut out = Vec::with_capacity(digits.len() * 3 / 4);
    let (mut bits, mut count) = (0u32, 0);
    for digit in digits {
        let value = ALPHABET.iter().position(|known| known == digit)?;
        bits = bits << 6 | value as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    (count < 6).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(body: &[u8]) -> Vec<u8> {
        [&frame_head(body.len(), false)[..], body].concat()
    }

    #[test]
    fn messages_are_found_however_the_bytes_are_cut() {
        let stream = [framed(b"one"), framed(b""), framed(&[7; 300])].concat();
        for size in [1, 2, 3, 7, 64, stream.len()] {
            let mut decoder = Decoder::new(1000, false);
            let mut found = Vec::new();
            for piece in stream.chunks(size) {
                decoder.push(piece);
                while let Some(message) = decoder.next_message().unwrap() {
                    found.push(message.to_vec());
                }
            }
            assert_eq!(found, vec![b"one".to_vec(), vec![], vec![7; 300]]);
            assert!(decoder.is_empty());
        }
    }

    #[test]
    fn a_message_over_the_limit_is_refused_by_its_head() {
        let mut decoder = Decoder::new(10, false);
        decoder.push(&framed(&[0; 11])[..5]);
        assert_eq!(decoder.next_message().unwrap_err().code, RESOURCE_EXHAUSTED);
    }

    #[test]
    fn gzip_is_unpacked_up_to_the_limit_only() {
        let packed = compress(&[0; 1000]).unwrap();
        for (limit, fits) in [(1000, true), (999, false)] {
            let mut decoder = Decoder::new(limit, true);
            decoder.push(&frame_head(packed.len(), true));
            decoder.push(&packed);
            assert_eq!(decoder.next_message().is_ok(), fits, "{limit}");
        }
        let mut decoder = Decoder::new(1000, true);
        decoder.push(&[1, 0, 0, 0, 2, 9, 9]);
        assert_eq!(decoder.next_message().unwrap_err().code, INTERNAL);
    }

    #[test]
    fn timeouts_have_up_to_eight_digits_and_a_unit() {
        let parse = |text: &'static str| timeout(&HeaderValue::from_static(text));
        assert_eq!(parse("1H").unwrap(), Duration::from_secs(3600));
        assert_eq!(parse("99999999n").unwrap(), Duration::from_nanos(99_999_999));
        assert_eq!(parse("250m").unwrap(), Duration::from_millis(250));
        for bad in ["", "S", "1", "1s", "-1S", "123456789S", "1 S", "0x1S"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_status_message_is_percent_encoded() {
        assert_eq!(percent_encode("plain text"), "plain text");
        assert_eq!(percent_encode("100% \n ü"), "100%25 %0A %C3%BC");
    }

    #[test]
    fn base64_takes_padding_or_not_and_nothing_else() {
        for length in 0..50 {
            let bytes: Vec<u8> = (0..length).map(|n| (n * 37) as u8).collect();
            let text = base64_encode(&bytes);
            assert_eq!(base64_decode(&text).as_ref(), Some(&bytes));
            let padding = (4 - text.len() % 4) % 4;
            let padded = [&text[..], &b"=="[..padding]].concat();
            assert_eq!(base64_decode(&padded).as_ref(), Some(&bytes));
        }
        for bad in [&b"a"[..], b"a*bc", b"ab=c", b"===="] {
            assert_eq!(base64_decode(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn metadata_leaves_out_what_belongs_to_grpc_and_http() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("content-type", "application/grpc"),
            ("grpc-timeout", "1S"),
            ("token", "abc"),
            ("blob-bin", "AAE=,/w"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        let pairs = *metadata(&headers).unwrap();
        assert_eq!(
            pairs,
            vec![
                ("token".into(), Value::Text("abc".into())),
                ("blob-bin".into(), Value::Binary(vec![0, 1])),
                ("blob-bin".into(), Value::Binary(vec![255])),
            ]
        );
    }
}
