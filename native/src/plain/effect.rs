//! What a plain command does to the rows it meets: changes in the order in which the hash chain
//! digests them, and what its caller is told.

use xxhash_rust::xxh3::xxh3_64;

use super::request::{Compare, Operation};
use super::version::{ROW_HEAD_BYTES, Version};
use super::wire::{sized, varint};
use super::{Body, FORMAT, KEYSPACE, Plain};

/// Families, as the hash chain numbers them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    KeyValue = 1,
    KeyHistory = 2,
    Revisions = 3,
}

/// Where something lies in `Effect::buffer`.
pub type Span = std::ops::Range<usize>;

pub struct Change {
    pub family: Family,
    pub key: Span,
    pub value: Option<Span>, // None: the row goes
}

/// What one operation answers; `changed` says whether the command had changed something by then.
pub struct Outcome {
    pub told: Told,
    pub changed: bool,
}

pub enum Told {
    Put,
    Deleted(bool),
    Found { key: usize, row: Option<Row> }, // `key` counts in `keys`
}

/// The row of a key: as it was, or in the buffer.
#[derive(Clone)]
pub enum Row {
    Before,
    New(Span),
}

/// Where a key stands after the command.
pub struct Written {
    pub key: usize,
    pub row: Option<Span>, // None: deleted
    pub existed: bool,
}

/// The chain's end before this entry, and what the link counts in.
pub struct Link {
    pub hash: u64,
    pub index: u64,
    pub term: u64,
    pub revision: u64, // before the command
}

/// Its buffer holds what is digested, and is used again and again.
#[derive(Default)]
pub struct Effect {
    pub buffer: Vec<u8>,
    pub changes: Vec<Change>,
    pub written: Vec<Written>,
    pub outcomes: Vec<Outcome>, // of a transaction's operations
    pub succeeded: bool,
    pub revision: u64, // after the command
    pub hash: u64,
}

const REVISION_AT: usize = 24; // in the buffer
const PUT: u8 = 0;
const DELETE: u8 = 1;
const TOMBSTONE: [u8; 2] = [FORMAT, 1];

impl<'a> Plain<'a> {
    /// Every key that is named, each once: their rows are what `apply` wants.
    pub fn keys(&self) -> Vec<&'a [u8]> {
        match &self.body {
            Body::One(operation) => vec![operation.key()],
            Body::Txn(txn) => txn.keys(),
        }
    }

    /// Fill `effect`; false where a row that would go has a lease, or one is none of ours.
    pub fn apply(&self, befores: &[Option<&[u8]>], link: &Link, effect: &mut Effect) -> bool {
        let keys = self.keys();
        assert_eq!(keys.len(), befores.len());
        let mut versions = Vec::with_capacity(keys.len());
        for before in befores {
            versions.push(match before {
                None => None,
                Some(row) => match Version::parse(row) {
                    None => return false,
                    version => version,
                },
            });
        }
        effect.begin(link);
        let place = |key: &[u8]| keys.iter().position(|&other| other == key).expect("it is named");
        match &self.body {
            Body::One(operation) => {
                if effect.execute(operation, 0, versions[0].as_ref()).is_none() {
                    return false;
                }
            }
            Body::Txn(txn) => {
                let holds = |one: &Compare| one.holds(versions[place(one.key)].as_ref());
                effect.succeeded = txn.compares.iter().all(holds);
                for operation in if effect.succeeded { &txn.success } else { &txn.failure } {
                    let key = place(operation.key());
                    let told = effect.execute(operation, key, versions[key].as_ref());
                    let Some(told) = told else { return false };
                    let changed = !effect.written.is_empty();
                    effect.outcomes.push(Outcome { told, changed });
                }
            }
        }
        effect.end(link);
        true
    }
}

impl Effect {
    fn begin(&mut self, link: &Link) {
        self.buffer.clear();
        self.changes.clear();
        self.written.clear();
        self.outcomes.clear();
        self.succeeded = false;
        self.revision = link.revision + 1; // if anything changes
        for number in [link.hash, link.index, link.term, link.revision] {
            self.buffer.extend_from_slice(&number.to_be_bytes());
        }
        self.buffer.extend_from_slice(&[0; 4]); // code
    }

    fn end(&mut self, link: &Link) {
        if self.written.is_empty() {
            self.revision = link.revision;
        }
        self.buffer[REVISION_AT..REVISION_AT + 8].copy_from_slice(&self.revision.to_be_bytes());
        self.hash = xxh3_64(&self.buffer);
    }

    /// None: not plain.
    fn execute(&mut self, operation: &Operation, key: usize, old: Option<&Version>) -> Option<Told> {
        if operation.is_change() && old.is_some_and(|version| version.lease != 0) {
            return None;
        }
        Some(match *operation {
            Operation::Put { key: name, value } => {
                self.put(name, value, key, old);
                Told::Put
            }
            Operation::Delete { key: name } => {
                if let Some(old) = old {
                    self.delete(name, key, old);
                }
                Told::Deleted(old.is_some())
            }
            Operation::Range { .. } => Told::Found { key, row: self.row_of(key, old) },
        })
    }

    fn row_of(&self, key: usize, old: Option<&Version>) -> Option<Row> {
        match self.written.iter().find(|written| written.key == key) {
            Some(written) => written.row.clone().map(Row::New),
            None => old.map(|_| Row::Before),
        }
    }

    fn put(&mut self, name: &[u8], value: &[u8], key: usize, old: Option<&Version>) {
        let (main, sub) = (self.revision, self.sub());
        if let Some(old) = old {
            self.supersede(name, old);
        }
        let (created, version) = old.map_or((main, 1), |old| (old.created, old.version + 1));
        let row = self.change(
            Family::KeyValue,
            |out| row_key(out, name),
            |out| {
                out.push(FORMAT);
                out.extend_from_slice(&sub.to_be_bytes());
                sized(out, 0x0a, name);
                varint(out, 0x10, created);
                varint(out, 0x18, main);
                varint(out, 0x20, version);
                if !value.is_empty() {
                    sized(out, 0x2a, value);
                }
            },
        );
        self.note_revision(PUT, name, sub, old);
        self.written.push(Written { key, row: Some(row), existed: old.is_some() });
    }

    fn delete(&mut self, name: &[u8], key: usize, old: &Version) {
        let (main, sub) = (self.revision, self.sub());
        self.supersede(name, old);
        self.change(
            Family::KeyHistory,
            |out| history_key(out, name, main, sub),
            |out| out.extend_from_slice(&TOMBSTONE),
        );
        self.buffer.extend_from_slice(&[Family::KeyValue as u8, 1]);
        let row = behind_length(&mut self.buffer, |out| row_key(out, name));
        self.buffer.extend_from_slice(&[0; 4]);
        self.changes.push(Change { family: Family::KeyValue, key: row, value: None });
        self.note_revision(DELETE, name, sub, Some(old));
        self.written.push(Written { key, row: None, existed: true });
    }

    fn sub(&self) -> u32 {
        self.written.len() as u32 // operations are few
    }

    /// The old version moves to the history.
    fn supersede(&mut self, name: &[u8], old: &Version) {
        self.change(
            Family::KeyHistory,
            |out| history_key(out, name, old.main, old.sub),
            |out| {
                out.extend_from_slice(&[FORMAT, 0]);
                out.extend_from_slice(old.kv());
            },
        );
    }

    fn note_revision(&mut self, kind: u8, name: &[u8], sub: u32, old: Option<&Version>) {
        let main = self.revision;
        let (old_main, old_sub) = old.map_or((0, 0), |old| (old.main, old.sub));
        self.change(
            Family::Revisions,
            |out| {
                out.extend_from_slice(&KEYSPACE);
                out.extend_from_slice(&main.to_be_bytes());
                out.extend_from_slice(&sub.to_be_bytes());
            },
            |out| {
                out.extend_from_slice(&[FORMAT, kind, 0]); // by request
                out.extend_from_slice(&old_main.to_be_bytes());
                out.extend_from_slice(&old_sub.to_be_bytes());
                out.extend_from_slice(&[0; 8]); // lease
                out.extend_from_slice(name);
            },
        );
    }

    /// A row that is put, as the chain digests it: family, put, and both parts behind their lengths.
    fn change(
        &mut self,
        family: Family,
        key: impl FnOnce(&mut Vec<u8>),
        value: impl FnOnce(&mut Vec<u8>),
    ) -> Span {
        let out = &mut self.buffer;
        out.extend_from_slice(&[family as u8, 0]);
        let key = behind_length(out, key);
        let value = behind_length(out, value);
        self.changes.push(Change { family, key, value: Some(value.clone()) });
        value
    }
}

fn row_key(out: &mut Vec<u8>, name: &[u8]) {
    out.extend_from_slice(&KEYSPACE);
    out.extend_from_slice(name);
}

fn history_key(out: &mut Vec<u8>, name: &[u8], main: u64, sub: u32) {
    out.extend_from_slice(&KEYSPACE);
    for &byte in name {
        out.push(byte);
        if byte == 0 {
            out.push(0xff);
        }
    }
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&(!main).to_be_bytes());
    out.extend_from_slice(&(!sub).to_be_bytes());
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

/// The KeyValue in a row's span.
pub fn kv_of(row: &Span) -> Span {
    row.start + ROW_HEAD_BYTES..row.end
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: &[u8] = b"\x01\0\0\0\0\x0a\x01k\x10\x02\x18\x02\x20\x01\x2a\x01v";

    fn of(operation: Operation<'static>, before: Option<&[u8]>) -> Option<Effect> {
        let plain = Plain {
            member_id: 1,
            start_number: 1,
            sequence: 1,
            lowest_unsettled: 1,
            leader_clock_ms: 0,
            body: Body::One(operation),
        };
        let mut effect = Effect::default();
        let link = Link { hash: 0, index: 1, term: 1, revision: 7 };
        plain.apply(&[before], &link, &mut effect).then_some(effect)
    }

    fn families(effect: &Effect) -> Vec<Family> {
        effect.changes.iter().map(|change| change.family).collect()
    }

    #[test]
    fn a_put_moves_the_old_version_to_the_history() {
        let put = Operation::Put { key: b"k", value: b"w" };
        let effect = of(put, Some(ROW)).unwrap();
        assert_eq!(families(&effect), [Family::KeyHistory, Family::KeyValue, Family::Revisions]);
        assert_eq!(effect.revision, 8);
        assert_eq!(families(&of(put, None).unwrap()), [Family::KeyValue, Family::Revisions]);
    }

    #[test]
    fn a_delete_of_nothing_takes_no_revision() {
        let delete = Operation::Delete { key: b"k" };
        let nothing = of(delete, None).unwrap();
        assert!(nothing.changes.is_empty());
        assert_eq!(nothing.revision, 7);
        assert_eq!(of(delete, Some(ROW)).unwrap().revision, 8);
    }

    #[test]
    fn a_version_with_a_lease_is_left_to_others() {
        let leased = [ROW, b"\x30\x05"].concat();
        assert!(of(Operation::Put { key: b"k", value: b"" }, Some(&leased)).is_none());
        assert!(of(Operation::Put { key: b"k", value: b"" }, Some(b"\x02\0\0\0\0")).is_none());
    }
}
