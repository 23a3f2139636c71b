//! A WatchResponse, as far as a watcher of this generator looks into it. Pure.

use crate::load::proto::fields;

// Field numbers of etcd's rpc.proto and kv.proto.
const WATCH_ID: u32 = 2;
const CREATED: u32 = 3;
const CANCELED: u32 = 4;
const CANCEL_REASON: u32 = 6;
const EVENTS: u32 = 11;
const EVENT_KV: u32 = 2;
const KV_MOD_REVISION: u32 = 3;
const KV_VALUE: u32 = 5;

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Head {
    pub watch_id: i64,
    pub is_created: bool,
    pub is_canceled: bool,
    pub reason: String,
}

pub fn head(message: &[u8]) -> Head {
    let mut head = Head::default();
    for (number, field) in fields(message) {
        match number {
            WATCH_ID => head.watch_id = field.number() as i64,
            CREATED => head.is_created = field.number() != 0,
            CANCELED => head.is_canceled = field.number() != 0,
            CANCEL_REASON => head.reason = String::from_utf8_lossy(field.bytes()).into_owned(),
            _ => {}
        }
    }
    head
}

pub struct Put<'a> {
    pub revision: i64,
    pub value: &'a [u8],
}

/// What its events say; a delete has no value.
pub fn puts(message: &[u8]) -> impl Iterator<Item = Put<'_>> {
    fields(message).filter(|(number, _)| *number == EVENTS).map(|(_, event)| {
        let mut put = Put { revision: 0, value: &[] };
        let kv = fields(event.bytes()).find(|(number, _)| *number == EVENT_KV);
        for (number, field) in kv.iter().flat_map(|(_, kv)| fields(kv.bytes())) {
            match number {
                KV_MOD_REVISION => put.revision = field.number() as i64,
                KV_VALUE => put.value = field.bytes(),
                _ => {}
            }
        }
        put
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watcher_is_found_before_and_behind_its_events() {
        let event = [0x5a, 8, 0x12, 6, 0x18, 7, 0x2a, 2, b'h', b'i'];
        let header = [0x0a, 2, 0x18, 9];
        let id = [0x10, 3];
        for message in [[&id[..], &header, &event].concat(), [&header[..], &event, &id].concat()] {
            assert_eq!(head(&message), Head { watch_id: 3, ..Head::default() });
            let found: Vec<_> = puts(&message).map(|put| (put.revision, put.value)).collect();
            assert_eq!(found, [(7, &b"hi"[..])]);
        }
    }

    #[test]
    fn a_refusal_says_why() {
        let message = [&[0x18, 1, 0x20, 1, 0x32, 4][..], b"gone"].concat();
        let reason = "gone".to_owned();
        assert_eq!(head(&message), Head { watch_id: 0, is_created: true, is_canceled: true, reason });
    }
}
