//! As much protobuf as answers need: the fields of a message, in their order. Pure.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Field<'a> {
    pub fn number(self) -> u64 {
        if let Field::Number(number) = self { number } else { 0 }
    }

    pub fn bytes(self) -> &'a [u8] {
        if let Field::Bytes(bytes) = self { bytes } else { &[] }
    }
}

/// Numbers and values; ends where the message does, or where it is none.
pub fn fields(mut left: &[u8]) -> impl Iterator<Item = (u32, Field<'_>)> {
    std::iter::from_fn(move || {
        let (tag, rest) = varint(left)?;
        let (field, rest) = match tag & 7 {
            0 => varint(rest).map(|(number, rest)| (Field::Number(number), rest))?,
            1 => (Field::Bytes(rest.get(..8)?), &rest[8..]),
            2 => {
                let (length, rest) = varint(rest)?;
                let length = usize::try_from(length).ok()?;
                (Field::Bytes(rest.get(..length)?), &rest[length..])
            }
            5 => (Field::Bytes(rest.get(..4)?), &rest[4..]),
            _ => return None,
        };
        left = rest;
        Some((u32::try_from(tag >> 3).ok()?, field))
    })
}

pub fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (i, &byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            return Some((value, &bytes[i + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_in_their_order_and_end_with_the_message() {
        let message = [0x0a, 1, b'x', 0x10, 0xac, 2, 0x19, 1, 2, 3, 4, 5, 6, 7, 8, 0x25, 9, 9, 9, 9];
        let found: Vec<_> = fields(&message).collect();
        assert_eq!(
            found,
            [
                (1, Field::Bytes(b"x")),
                (2, Field::Number(300)),
                (3, Field::Bytes(&[1, 2, 3, 4, 5, 6, 7, 8])),
                (4, Field::Bytes(&[9, 9, 9, 9])),
            ]
        );
    }

    #[test]
    fn a_torn_message_ends_early() {
        assert_eq!(fields(&[0x0a, 5, b'x']).count(), 0);
        assert_eq!(fields(&[0x10, 0x80]).count(), 0);
        assert_eq!(fields(&[0x13]).count(), 0);
    }
}
