//! What a key_value row says of the version in it.

use super::FORMAT;
use super::wire::Input;

pub const ROW_HEAD_BYTES: usize = 5;

pub struct Version<'a> {
    pub row: &'a [u8],
    pub sub: u32,
    pub created: u64,
    pub main: u64,
    pub version: u64,
    pub value: &'a [u8],
    pub lease: u64,
}

impl<'a> Version<'a> {
    /// None: not a row of ours.
    pub fn parse(row: &'a [u8]) -> Option<Self> {
        let (head, kv) = row.split_at_checked(ROW_HEAD_BYTES)?;
        let sub = u32::from_be_bytes(head[1..].try_into().ok()?);
        let mut input = Input(kv);
        input.tag(0x0a)?.bytes()?;
        let created = input.tag(0x10)?.varint()?;
        let main = input.tag(0x18)?.varint()?;
        let version = input.tag(0x20)?.varint()?;
        let value = if input.has(0x2a) { input.bytes()? } else { &[] };
        let lease = if input.has(0x30) { input.varint()? } else { 0 };
        let is_ours = head[0] == FORMAT && input.is_empty();
        is_ours.then_some(Version { row, sub, created, main, version, value, lease })
    }

    /// The encoded KeyValue.
    pub fn kv(&self) -> &'a [u8] {
        &self.row[ROW_HEAD_BYTES..]
    }
}
