//! What a plain put writes: the bytes of `docs/formats.md`, and the link of the hash chain. Pure.
//!
//! A codec and nothing else: which rows there were, what is kept of these and what is told to whom
//! is the machine's (src/chainfire/machine/plainputs.py). Whatever is not surely a plain put is
//! answered with None and goes the general way, which is also what the tests hold this against.

#[cfg(feature = "python")]
pub mod python;

use xxhash_rust::xxh3::xxh3_64;

const FORMAT: u8 = 1;
const KEYSPACE: [u8; 4] = [0; 4]; // the only one that is served here
const KEY_VALUE: u8 = 1; // families, as the hash chain numbers them
const KEY_HISTORY: u8 = 2;
const REVISIONS: u8 = 3;
const ROW_HEAD_BYTES: usize = 5;
const PUT_TAG: [u8; 2] = [0x82, 0x01]; // field 16 of a Command, length-delimited
const PROPOSING_TERM: usize = 6; // its field; the leader's clock is behind it

/// A command that puts a key in keyspace 0, for nobody in particular, and asks for nothing else.
pub struct PlainPut<'a> {
    pub member_id: u64,
    pub start_number: u64,
    pub sequence: u64,
    pub lowest_unsettled: u64,
    pub leader_clock_ms: u64,
    pub key: &'a [u8],
    pub value: &'a [u8],
}

/// Where the rows lie in `Rows::buffer`.
pub type Span = std::ops::Range<usize>;

/// The rows of one put, as the hash chain digests them: one behind the other.
#[derive(Default)]
pub struct Rows {
    pub buffer: Vec<u8>,
    pub key_value: (Span, Span), // key and value of a row
    pub revisions: (Span, Span),
    pub key_history: Option<(Span, Span)>, // the version that is replaced
    pub hash: u64,
}

/// The chain's end before this entry, and what the link counts in.
pub struct Link {
    pub hash: u64,
    pub index: u64,
    pub term: u64,
    pub revision: u64, // of the put
}

impl<'a> PlainPut<'a> {
    /// None: not such a command. Fields come in the order of their numbers, none twice but for the
    /// leader's stamp.
    pub fn parse(data: &'a [u8]) -> Option<Self> {
        let mut input = Input(data);
        let mut numbers = [0; 8];
        input.numbers(0, &mut numbers, |rest| rest.starts_with(&PUT_TAG))?;
        input.0 = &input.0[PUT_TAG.len()..];
        let body = input.bytes()?;
        // Where it was forwarded, its leader's stamp follows, and counts.
        input.numbers(PROPOSING_TERM - 1, &mut numbers, <[u8]>::is_empty)?;
        if numbers[1] != u64::from(FORMAT) {
            return None;
        }
        let mut input = Input(body);
        let key = input.tag(0x0a)?.bytes()?;
        let value = if input.0.is_empty() { input.0 } else { input.tag(0x12)?.bytes()? };
        if key.is_empty() || !input.0.is_empty() {
            return None;
        }
        Some(PlainPut {
            member_id: numbers[2],
            start_number: numbers[3],
            sequence: numbers[4],
            lowest_unsettled: numbers[5],
            leader_clock_ms: numbers[7],
            key,
            value,
        })
    }

    /// Write the rows into `rows`; false where the row before has a lease, or is none of ours.
    pub fn encode(&self, before: Option<&[u8]>, link: &Link, rows: &mut Rows) -> bool {
        let Some(old) = before.map_or(Some(Version::NONE), Version::parse) else { return false };
        let (key, main) = (self.key, link.revision);
        let out = &mut rows.buffer;
        out.clear();
        for number in [link.hash, link.index, link.term, link.revision] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.extend_from_slice(&[0; 4]); // code
        rows.key_history = before.map(|row| {
            row_of(
                out,
                KEY_HISTORY,
                |out| {
                    out.extend_from_slice(&KEYSPACE);
                    for &byte in key {
                        out.push(byte);
                        if byte == 0 {
                            out.push(0xff);
                        }
                    }
                    out.extend_from_slice(&[0, 0]);
                    out.extend_from_slice(&(!old.main).to_be_bytes());
                    out.extend_from_slice(&(!old.sub).to_be_bytes());
                },
                |out| {
                    out.extend_from_slice(&[FORMAT, 0]);
                    out.extend_from_slice(&row[ROW_HEAD_BYTES..]);
                },
            )
        });
        let created = if before.is_some() { old.created } else { main };
        rows.key_value = row_of(
            out,
            KEY_VALUE,
            |out| {
                out.extend_from_slice(&KEYSPACE);
                out.extend_from_slice(key);
            },
            |out| {
                out.extend_from_slice(&[FORMAT, 0, 0, 0, 0]);
                sized(out, 0x0a, key);
                varint(out, 0x10, created);
                varint(out, 0x18, main);
                varint(out, 0x20, old.version + 1);
                if !self.value.is_empty() {
                    sized(out, 0x2a, self.value);
                }
            },
        );
        rows.revisions = row_of(
            out,
            REVISIONS,
            |out| {
                out.extend_from_slice(&KEYSPACE);
                out.extend_from_slice(&main.to_be_bytes());
                out.extend_from_slice(&[0; 4]);
            },
            |out| {
                out.extend_from_slice(&[FORMAT, 0, 0]); // a put, by request
                out.extend_from_slice(&old.main.to_be_bytes());
                out.extend_from_slice(&old.sub.to_be_bytes());
                out.extend_from_slice(&[0; 8]); // lease
                out.extend_from_slice(key);
            },
        );
        rows.hash = xxh3_64(out);
        true
    }
}

/// What a key_value row says of the version in it.
struct Version {
    sub: u32,
    created: u64,
    main: u64,
    version: u64,
}

impl Version {
    const NONE: Self = Version { sub: 0, created: 0, main: 0, version: 0 };

    fn parse(row: &[u8]) -> Option<Self> {
        let (head, kv) = row.split_at_checked(ROW_HEAD_BYTES)?;
        let sub = u32::from_be_bytes(head[1..].try_into().ok()?);
        let mut input = Input(kv);
        input.tag(0x0a)?.bytes()?;
        let created = input.tag(0x10)?.varint()?;
        let main = input.tag(0x18)?.varint()?;
        let version = input.tag(0x20)?.varint()?;
        if !input.0.is_empty() {
            input.tag(0x2a)?.bytes()?;
        }
        let is_ours = head[0] == FORMAT && input.0.is_empty();
        is_ours.then_some(Version { sub, created, main, version })
    }
}

// ── protobuf's wire format, as much as a put needs ──────────────────────────

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    fn tag(&mut self, tag: u8) -> Option<&mut Self> {
        (self.byte()? == tag).then_some(self)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..63).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        let last = self.byte()?; // the tenth holds one bit
        (last == 1).then_some(number | 1 << 63)
    }

    /// Varint fields in the order of their numbers, all above `last` and below 8, until `is_end`.
    fn numbers(
        &mut self,
        mut last: usize,
        found: &mut [u64; 8],
        is_end: impl Fn(&[u8]) -> bool,
    ) -> Option<()> {
        while !is_end(self.0) {
            let field = usize::from(self.byte()?);
            let number = field >> 3;
            if field & 7 != 0 || number <= last || number > 7 {
                return None;
            }
            found[number] = self.varint()?;
            last = number;
        }
        Some(())
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let size = usize::try_from(self.varint()?).ok()?;
        let (found, rest) = self.0.split_at_checked(size)?;
        self.0 = rest;
        Some(found)
    }
}

fn varint(out: &mut Vec<u8>, tag: u8, mut number: u64) {
    out.push(tag);
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn sized(out: &mut Vec<u8>, tag: u8, content: &[u8]) {
    varint(out, tag, content.len() as u64);
    out.extend_from_slice(content);
}

/// A row as the chain digests it: family, put, and both parts behind their lengths.
fn row_of(
    out: &mut Vec<u8>,
    family: u8,
    key: impl FnOnce(&mut Vec<u8>),
    value: impl FnOnce(&mut Vec<u8>),
) -> (Span, Span) {
    out.extend_from_slice(&[family, 0]);
    (behind_length(out, key), behind_length(out, value))
}

fn behind_length(out: &mut Vec<u8>, content: impl FnOnce(&mut Vec<u8>)) -> Span {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    content(out);
    let size = out.len() - at - 4;
    // A row is smaller than a request, which is smaller than 4 GiB.
    out[at..at + 4].copy_from_slice(&(size as u32).to_be_bytes());
    at + 4..at + 4 + size
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(body: &[u8]) -> Vec<u8> {
        let mut data = vec![0x08, 1, 0x10, 7, 0x18, 1, 0x20, 0x85, 0x02];
        data.extend_from_slice(&PUT_TAG);
        data.push(body.len() as u8);
        data.extend_from_slice(body);
        data
    }

    #[test]
    fn only_a_key_and_a_value_are_a_plain_put() {
        let data = command(b"\x0a\x01k\x12\x01v");
        let put = PlainPut::parse(&data).unwrap();
        assert_eq!((put.member_id, put.sequence, put.key, put.value), (7, 261, &b"k"[..], &b"v"[..]));
        for body in [&b"\x0a\x00"[..], b"\x0a\x01k\x18\x01", b"\x0a\x01k\x12\x01v\x20\x01", b"\x0a\x02k"] {
            assert!(PlainPut::parse(&command(body)).is_none(), "{body:?}");
        }
    }

    #[test]
    fn the_stamp_of_the_leader_counts() {
        let mut data = command(b"\x0a\x01k");
        data.extend_from_slice(&[0x30, 3, 0x38, 9]);
        assert_eq!(PlainPut::parse(&data).unwrap().leader_clock_ms, 9);
        for other in [&[0x38, 9][..], &[0x28, 1], &[0x42, 0]] {
            assert!(PlainPut::parse(&[&data, other].concat()).is_none(), "{other:?}");
        }
    }

    #[test]
    fn whatever_is_cut_off_is_no_plain_put() {
        let data = command(b"\x0a\x01k\x12\x01v");
        for end in 0..data.len() {
            assert!(PlainPut::parse(&data[..end]).is_none(), "{end}");
        }
    }

    #[test]
    fn a_version_with_a_lease_is_left_to_others() {
        let row = b"\x01\0\0\0\0\x0a\x01k\x10\x02\x18\x02\x20\x01\x2a\x01v";
        assert!(Version::parse(row).is_some());
        assert!(Version::parse(&[&row[..], b"\x30\x05"].concat()).is_none());
    }
}
