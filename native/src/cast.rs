//! One body for many streams, each behind a prefix of its own: what watchers are told.
//!
//! Python hands over a body once, and the streams as one row of bytes that it keeps for as long as
//! they stay the same: per stream `u64 id (little-endian) | u8 length | prefix`. A cast is taken
//! apart on the thread that delivers it.
//!
//! Credit is not counted for it: a stream that has too much under way is told to Python once
//! (PRESSED), which sends it nothing more before it has drained (RELIEVED).

use std::sync::{Arc, OnceLock};

use bytes::{Buf, Bytes};

use crate::border::{Action, CallId, Reply};
use crate::packed::Packed;

pub struct Cast {
    pub targets: Bytes,
    pub body: Bytes,
}

/// What one stream is sent of a cast.
pub struct Share {
    pub prefix: Bytes,
    pub body: Arc<Body>,
}

/// A cast's body, and its packed form once a stream has asked for it.
pub struct Body {
    pub bytes: Bytes,
    packed: OnceLock<Option<Packed>>,
}

impl Body {
    pub fn new(bytes: Bytes) -> Self {
        Body { bytes, packed: OnceLock::new() }
    }

    /// None where it cannot be packed: writing to memory does not fail, and unpacked is right too.
    pub fn packed(&self) -> Option<&Packed> {
        self.packed.get_or_init(|| Packed::new(&self.bytes).ok()).as_ref()
    }
}

impl Cast {
    /// The streams and their prefixes. A torn row ends it: Python builds them, and only Python.
    fn targets(&self) -> impl Iterator<Item = (CallId, Bytes)> {
        let mut left = self.targets.clone();
        std::iter::from_fn(move || {
            if left.len() < 9 {
                return None;
            }
            let id = left.get_u64_le();
            let length = usize::from(left.get_u8());
            (left.len() >= length).then(|| (id, left.split_to(length)))
        })
    }
}

/// The same replies, each cast as a reply for each of its streams, in its place.
pub fn spread(replies: Vec<Reply>) -> Vec<Reply> {
    if !replies.iter().any(|reply| matches!(reply.action, Action::Cast(_))) {
        return replies;
    }
    let mut found = Vec::with_capacity(replies.len() * 2);
    for reply in replies {
        match reply.action {
            Action::Cast(cast) => {
                let body = Arc::new(Body::new(cast.body.clone()));
                found.extend(cast.targets().map(|(id, prefix)| Reply {
                    id,
                    action: Action::Share(Box::new(Share { prefix, body: body.clone() })),
                }));
            }
            _ => found.push(reply),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(id: u64, prefix: &[u8]) -> Vec<u8> {
        [&id.to_le_bytes()[..], &[prefix.len() as u8], prefix].concat()
    }

    #[test]
    fn a_cast_becomes_one_reply_for_each_stream_in_its_place() {
        let targets = [target(7, b"a"), target(9, b""), target(8, b"xyz")].concat();
        let cast = Cast { targets: targets.into(), body: Bytes::from_static(b"body") };
        let replies = spread(vec![
            Reply { id: 1, action: Action::Reset },
            Reply { id: 0, action: Action::Cast(Box::new(cast)) },
            Reply { id: 2, action: Action::Reset },
        ]);
        type Share<'a> = (u64, Option<(&'a [u8], &'a [u8])>);
        let shares: Vec<Share> = replies
            .iter()
            .map(|reply| match &reply.action {
                Action::Share(share) => (reply.id, Some((&share.prefix[..], &share.body.bytes[..]))),
                _ => (reply.id, None),
            })
            .collect();
        let body = &b"body"[..];
        assert_eq!(
            shares,
            vec![
                (1, None),
                (7, Some((&b"a"[..], body))),
                (9, Some((&b""[..], body))),
                (8, Some((&b"xyz"[..], body))),
                (2, None),
            ]
        );
    }

    #[test]
    fn a_torn_row_of_targets_ends_the_cast() {
        let whole = target(7, b"ab");
        for end in 0..whole.len() {
            let cast = Cast { targets: Bytes::copy_from_slice(&whole[..end]), body: Bytes::new() };
            assert_eq!(cast.targets().count(), 0, "{end}");
        }
    }
}
