//! What plain commands write: the bytes of `docs/formats.md`, and the link of the hash chain. Pure.
//!
//! ```text
//! request.rs   what is plain
//! mod.rs       the command around it
//! version.rs   the row of a key before it
//! effect.rs    what it changes and answers
//! wire.rs      protobuf
//! ```
//!
//! A codec and nothing else: which rows there were, what is kept of these and what is told to whom
//! is the machine's (src/chainfire/machine/plain.py). Whatever is not surely plain is answered with
//! None and goes the general way, which is also what the tests hold this against.

pub mod effect;
#[cfg(feature = "python")]
pub mod python;
pub mod request;
pub mod version;
mod wire;

use request::{Operation, Txn};
use wire::Input;

const FORMAT: u8 = 1;
const KEYSPACE: [u8; 4] = [0; 4]; // the only one that is served here
/// Field numbers of a Command's bodies; the tag's second byte is the same for all.
const PUT_TAG: u8 = 0x82;
const DELETE_TAG: u8 = 0x8a;
const TXN_TAG: u8 = 0x92;
const TAG_END: u8 = 0x01;
const PROPOSING_TERM: usize = 6; // its field; the leader's clock is behind it

/// A command in keyspace 0, for nobody in particular, whose body is plain.
pub struct Plain<'a> {
    pub member_id: u64,
    pub start_number: u64,
    pub sequence: u64,
    pub lowest_unsettled: u64,
    pub leader_clock_ms: u64,
    pub body: Body<'a>,
}

pub enum Body<'a> {
    One(Operation<'a>), // a put or a delete
    Txn(Txn<'a>),
}

impl<'a> Plain<'a> {
    /// None: not such a command. Fields come in the order of their numbers, none twice but for the
    /// leader's stamp.
    pub fn parse(data: &'a [u8]) -> Option<Self> {
        let mut input = Input(data);
        let mut numbers = [0; 8];
        input.numbers(0, &mut numbers, |rest| rest.first().is_some_and(|&tag| tag >= 0x80))?;
        let kind = input.byte()?;
        let body = input.tag(TAG_END)?.message()?;
        // Where it was forwarded, its leader's stamp follows, and counts.
        input.numbers(PROPOSING_TERM - 1, &mut numbers, <[u8]>::is_empty)?;
        if numbers[1] != u64::from(FORMAT) {
            return None;
        }
        let body = match kind {
            PUT_TAG => Body::One(Operation::put(body)?),
            DELETE_TAG => Body::One(Operation::delete(body)?),
            TXN_TAG => Body::Txn(Txn::parse(body)?),
            _ => return None,
        };
        Some(Plain {
            member_id: numbers[2],
            start_number: numbers[3],
            sequence: numbers[4],
            lowest_unsettled: numbers[5],
            leader_clock_ms: numbers[7],
            body,
        })
    }
}

/// Whether a TxnRequest is plain, of no more operations than that, and one for the log.
pub fn is_plain_txn(request: &[u8], operations_max: usize) -> bool {
    Txn::parse(Input(request)).is_some_and(|txn| txn.may_change() && txn.operations_max() <= operations_max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(tag: u8, body: &[u8]) -> Vec<u8> {
        let mut data = vec![0x08, 1, 0x10, 7, 0x18, 1, 0x20, 0x85, 0x02, tag, TAG_END];
        data.push(body.len() as u8);
        data.extend_from_slice(body);
        data
    }

    #[test]
    fn only_a_key_and_a_value_are_a_plain_put() {
        let data = command(PUT_TAG, b"\x0a\x01k\x12\x01v");
        let plain = Plain::parse(&data).unwrap();
        assert_eq!((plain.member_id, plain.sequence), (7, 261));
        assert!(matches!(plain.body, Body::One(Operation::Put { key: b"k", value: b"v" })));
        for body in [&b"\x0a\x00"[..], b"\x0a\x01k\x18\x01", b"\x0a\x01k\x12\x01v\x20\x01", b"\x0a\x02k"] {
            assert!(Plain::parse(&command(PUT_TAG, body)).is_none(), "{body:?}");
        }
    }

    #[test]
    fn only_a_key_is_a_plain_delete() {
        assert!(Plain::parse(&command(DELETE_TAG, b"\x0a\x01k")).is_some());
        assert!(Plain::parse(&command(DELETE_TAG, b"\x0a\x01k\x12\x01z")).is_none());
        assert!(Plain::parse(&command(DELETE_TAG, b"\x0a\x01k\x18\x01")).is_none());
    }

    #[test]
    fn the_stamp_of_the_leader_counts() {
        let mut data = command(PUT_TAG, b"\x0a\x01k");
        data.extend_from_slice(&[0x30, 3, 0x38, 9]);
        assert_eq!(Plain::parse(&data).unwrap().leader_clock_ms, 9);
        for other in [&[0x38, 9][..], &[0x28, 1], &[0x42, 0]] {
            assert!(Plain::parse(&[&data, other].concat()).is_none(), "{other:?}");
        }
    }

    #[test]
    fn whatever_is_cut_off_is_not_plain() {
        let data = command(PUT_TAG, b"\x0a\x01k\x12\x01v");
        for end in 0..data.len() {
            assert!(Plain::parse(&data[..end]).is_none(), "{end}");
        }
    }
}
