//! Requests that are plain: single keys, and nothing else set. Pure.
//!
//! ```text
//! put       key, value
//! delete    key
//! range     key                             in a transaction only
//! txn       compares of one key each, success, failure: up to OPERATIONS_MAX of each, no key
//!           changed twice in a branch
//! ```
//!
//! Fields come in the order of their numbers and do not repeat, as every encoder writes them.

use super::version::Version;
use super::wire::Input;

pub const OPERATIONS_MAX: usize = 16;

#[derive(Clone, Copy)]
pub enum Operation<'a> {
    Put { key: &'a [u8], value: &'a [u8] },
    Delete { key: &'a [u8] },
    Range { key: &'a [u8] },
}

#[derive(Default)]
pub struct Txn<'a> {
    pub compares: Vec<Compare<'a>>,
    pub success: Vec<Operation<'a>>,
    pub failure: Vec<Operation<'a>>,
}

/// `result` and `target` as etcd numbers them.
pub struct Compare<'a> {
    pub key: &'a [u8],
    result: u64,
    target: u64,
    number: i64,
    value: &'a [u8],
}

const TARGET_VALUE: u64 = 3;
const TARGET_MAX: u64 = 4;
const RESULT_MAX: u64 = 3;

impl<'a> Operation<'a> {
    pub fn key(&self) -> &'a [u8] {
        match *self {
            Self::Put { key, .. } | Self::Delete { key } | Self::Range { key } => key,
        }
    }

    pub fn is_change(&self) -> bool {
        !matches!(self, Self::Range { .. })
    }

    pub fn put(mut input: Input<'a>) -> Option<Self> {
        let key = key_of(&mut input)?;
        let value = if input.has(0x12) { input.bytes()? } else { &[] };
        input.is_empty().then_some(Self::Put { key, value })
    }

    pub fn delete(mut input: Input<'a>) -> Option<Self> {
        let key = key_of(&mut input)?;
        input.is_empty().then_some(Self::Delete { key })
    }

    fn range(mut input: Input<'a>) -> Option<Self> {
        let key = key_of(&mut input)?;
        input.is_empty().then_some(Self::Range { key })
    }

    /// Of a RequestOp.
    fn parse(mut input: Input<'a>) -> Option<Self> {
        let tag = input.byte()?;
        let body = input.message()?;
        if !input.is_empty() {
            return None;
        }
        match tag {
            0x0a => Self::range(body),
            0x12 => Self::put(body),
            0x1a => Self::delete(body),
            _ => None,
        }
    }
}

impl<'a> Txn<'a> {
    pub fn parse(mut input: Input<'a>) -> Option<Self> {
        let mut txn = Txn::default();
        while input.has(0x0a) {
            txn.compares.push(Compare::parse(input.message()?)?);
        }
        while input.has(0x12) {
            txn.success.push(Operation::parse(input.message()?)?);
        }
        while input.has(0x1a) {
            txn.failure.push(Operation::parse(input.message()?)?);
        }
        let most = txn.compares.len().max(txn.success.len()).max(txn.failure.len());
        let is_plain = input.is_empty() && most <= OPERATIONS_MAX;
        (is_plain && is_disjoint(&txn.success) && is_disjoint(&txn.failure)).then_some(txn)
    }

    /// Whether etcd puts it into the log: some operation is no range.
    pub fn may_change(&self) -> bool {
        self.success.iter().chain(&self.failure).any(Operation::is_change)
    }

    pub fn operations_max(&self) -> usize {
        self.compares.len().max(self.success.len()).max(self.failure.len())
    }

    /// Every key that is named, each once.
    pub fn keys(&self) -> Vec<&'a [u8]> {
        let compared = self.compares.iter().map(|compare| compare.key);
        let named = self.success.iter().chain(&self.failure).map(Operation::key);
        let mut keys = Vec::with_capacity(2);
        for key in compared.chain(named) {
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        keys
    }
}

fn is_disjoint(operations: &[Operation]) -> bool {
    let is_new =
        |at: usize, key: &[u8]| operations[..at].iter().all(|other| !other.is_change() || other.key() != key);
    operations.iter().enumerate().all(|(at, one)| !one.is_change() || is_new(at, one.key()))
}

impl<'a> Compare<'a> {
    fn parse(mut input: Input<'a>) -> Option<Self> {
        let result = if input.has(0x08) { input.varint()? } else { 0 };
        let target = if input.has(0x10) { input.varint()? } else { 0 };
        if result > RESULT_MAX || target > TARGET_MAX {
            return None;
        }
        let mut compare = Compare { key: input.tag(0x1a)?.bytes()?, result, target, number: 0, value: &[] };
        if target == TARGET_VALUE {
            if input.has(0x3a) {
                compare.value = input.bytes()?;
            }
        } else if input.has((target as u8 + 4) << 3) {
            compare.number = input.varint()? as i64;
        }
        (input.is_empty() && !compare.key.is_empty()).then_some(compare)
    }

    /// Of the key's version, or its absence.
    pub fn holds(&self, version: Option<&Version>) -> bool {
        let number = |of: fn(&Version) -> u64| version.map_or(0, of) as i64;
        let order = match self.target {
            0 => number(|version| version.version).cmp(&self.number),
            1 => number(|version| version.created).cmp(&self.number),
            2 => number(|version| version.main).cmp(&self.number),
            4 => number(|version| version.lease).cmp(&self.number),
            _ => match version {
                Some(version) => version.value.cmp(self.value),
                None => return false, // whatever the result is to be (etcd)
            },
        };
        match self.result {
            0 => order.is_eq(),
            1 => order.is_gt(),
            2 => order.is_lt(),
            _ => order.is_ne(),
        }
    }
}

fn key_of<'a>(input: &mut Input<'a>) -> Option<&'a [u8]> {
    input.tag(0x0a)?.bytes().filter(|key| !key.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn txn(bytes: &[u8]) -> Option<Txn<'_>> {
        Txn::parse(Input(bytes))
    }

    const PUT_K: &[u8] = b"\x12\x07\x12\x05\x0a\x01k\x12\x00";
    const DELETE_K: &[u8] = b"\x12\x05\x1a\x03\x0a\x01k";
    const RANGE_K: &[u8] = b"\x12\x05\x0a\x03\x0a\x01k";

    #[test]
    fn a_key_is_changed_once_in_a_branch_and_read_as_often_as_you_like() {
        assert!(txn(&[PUT_K, RANGE_K, RANGE_K].concat()).is_some());
        assert!(txn(&[RANGE_K, DELETE_K, RANGE_K].concat()).is_some());
        assert!(txn(&[PUT_K, PUT_K].concat()).is_none());
        assert!(txn(&[DELETE_K, PUT_K].concat()).is_none());
    }

    #[test]
    fn what_only_reads_is_told_from_what_may_change() {
        assert!(!txn(RANGE_K).unwrap().may_change());
        assert!(txn(DELETE_K).unwrap().may_change());
    }

    #[test]
    fn a_compare_asks_for_what_its_target_says() {
        // version(k) > 0; the same with a range end, and with the number of another target
        assert!(txn(b"\x0a\x07\x08\x01\x1a\x01k\x20\x00").is_some());
        assert!(txn(b"\x0a\x0b\x08\x01\x1a\x01k\x20\x00\x82\x04\x01z").is_none());
        assert!(txn(b"\x0a\x07\x08\x01\x1a\x01k\x28\x00").is_none());
    }

    #[test]
    fn too_many_operations_are_not_plain() {
        assert!(txn(&RANGE_K.repeat(OPERATIONS_MAX)).is_some());
        assert!(txn(&RANGE_K.repeat(OPERATIONS_MAX + 1)).is_none());
    }
}
