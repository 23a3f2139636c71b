//! Gzip members that share the packed form of their end: what many streams are told of one cast.
//!
//! RFC 1951 lets a deflate stream be made of blocks, and a stored block ends at a whole byte. So a
//! message is a head, its prefix as a stored block, the blocks that its body was deflated to, once
//! for all streams, and a trailer: the checksum of the two parts put together, and their length.

use std::io::{self, Write};

use bytes::{BufMut, Bytes};
use flate2::write::DeflateEncoder;
use flate2::{Compression, Crc};

/// RFC 1952: magic number, deflate, no flags, no time, fastest algorithm, unknown system.
const HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255];
const STORED_HEAD_BYTES: usize = 5;
pub const TRAILER_BYTES: usize = 8;

/// A body, deflated. The blocks end their stream.
pub struct Packed {
    pub blocks: Bytes,
    crc: Crc,
}

impl Packed {
    pub fn new(body: &[u8]) -> io::Result<Self> {
        let mut encoder = DeflateEncoder::new(Vec::with_capacity(body.len() / 2), Compression::fast());
        encoder.write_all(body)?;
        let mut crc = Crc::new();
        crc.update(body);
        Ok(Packed { blocks: encoder.finish()?.into(), crc })
    }

    /// Of the member, with this many bytes of prefix.
    pub fn length(&self, prefix: usize) -> usize {
        HEAD.len() + STORED_HEAD_BYTES + prefix + self.blocks.len() + TRAILER_BYTES
    }

    /// What comes before the blocks, onto `out`; returns what comes behind them.
    pub fn wrap(&self, prefix: &[u8], out: &mut impl BufMut) -> [u8; TRAILER_BYTES] {
        let length = u16::try_from(prefix.len()).expect("a prefix is at most 255 bytes long");
        out.put_slice(&HEAD);
        out.put_u8(0); // a stored block, and not the last one
        out.put_u16_le(length);
        out.put_u16_le(!length);
        out.put_slice(prefix);
        let mut crc = Crc::new();
        crc.update(prefix);
        crc.combine(&self.crc);
        let mut trailer = [0; TRAILER_BYTES];
        trailer[..4].copy_from_slice(&crc.sum().to_le_bytes());
        trailer[4..].copy_from_slice(&crc.amount().to_le_bytes());
        trailer
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;

    #[test]
    fn each_prefix_and_the_body_are_one_member_of_the_length_that_was_said() {
        for body in [&b""[..], b"x", &[7; 100_000]] {
            let packed = Packed::new(body).unwrap();
            for prefix in [&b""[..], b"pre", &[9; 255]] {
                let mut member = Vec::new();
                let trailer = packed.wrap(prefix, &mut member);
                member.extend(&packed.blocks);
                member.extend(trailer);
                assert_eq!(member.len(), packed.length(prefix.len()));
                let (mut found, mut reader) = (Vec::new(), GzDecoder::new(&member[..]));
                reader.read_to_end(&mut found).unwrap();
                assert_eq!(found, [prefix, body].concat());
                assert!(reader.into_inner().is_empty());
            }
        }
    }
}
