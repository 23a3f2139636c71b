//! A URL where HTTP/2 wants an authority: etcd's older clients send `http://127.0.0.1:2379` as
//! `:authority` (etcdctl 3.4 with `--cluster`). Servers of grpc-go never look at it; the h2 crate
//! resets the stream.
//!
//! So the scheme is written over by a user name of exactly its length, which every parser passes:
//! `http://` becomes `aaaaX@`, both 41 bits of HPACK's Huffman code (RFC 7541, Appendix B), and
//! nothing else moves. The entry of the decoder's dynamic table becomes a character shorter than
//! the peer believes, which is the harmless side: what the peer has evicted it never names.
//!
//! Only a connection's first headers are looked at: grpc-go sends the value there once and refers
//! to it from then on.

const NAME_INDEXES: [u8; 3] = [0x41, 0x01, 0x11]; // :authority as literal: indexed, not, never
const HUFFMAN: u8 = 0x80;

/// What a value begins with, and what takes its place; the mask is of the last byte.
struct Scheme {
    huffman: [[u8; 6]; 2],
    mask: u8,
    plain: [&'static [u8]; 2],
}

const SCHEMES: [Scheme; 2] = [
    Scheme {
        huffman: [[0x9d, 0x29, 0xae, 0xe3, 0x0c, 0x00], [0x18, 0xc6, 0x3f, 0xcf, 0xfd, 0x00]],
        mask: 0x80,
        plain: [b"http://", b"aaaaaa@"],
    },
    Scheme {
        huffman: [[0x9d, 0x29, 0xad, 0x17, 0x18, 0x60], [0x18, 0xc6, 0x31, 0xfe, 0x7f, 0xe8]],
        mask: 0xfc,
        plain: [b"https://", b"aaaaaaa@"],
    },
];

/// Mend the authority in a header block, if it is a URL.
pub fn mend(block: &mut [u8]) {
    for at in 2..block.len() {
        if NAME_INDEXES.contains(&block[at - 2]) && SCHEMES.iter().any(|scheme| scheme.replace_at(block, at))
        {
            return;
        }
    }
}

impl Scheme {
    /// Whether a value that begins at `at`, behind its length, was one of ours.
    fn replace_at(&self, block: &mut [u8], at: usize) -> bool {
        let coded = block[at - 1] & HUFFMAN != 0;
        let value = &mut block[at..];
        if coded {
            let [from, to] = &self.huffman;
            let last = from.len() - 1;
            if value.len() < from.len()
                || value[..last] != from[..last]
                || value[last] & self.mask != from[last]
            {
                return false;
            }
            value[..last].copy_from_slice(&to[..last]);
            value[last] = value[last] & !self.mask | to[last];
        } else {
            let [from, to] = self.plain;
            if !value.starts_with(from) {
                return false;
            }
            value[..to.len()].copy_from_slice(to);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bits of the characters used here (RFC 7541, Appendix B).
    fn huffman(text: &str) -> Vec<u8> {
        let code = |character| match character {
            'h' => "100111",
            't' => "01001",
            'p' => "101011",
            's' => "01000",
            ':' => "1011100",
            '/' => "011000",
            'a' => "00011",
            'X' => "11111100",
            '@' => "1111111111010",
            '1' => "00001",
            '9' => "011111",
            other => panic!("no code for {other}"),
        };
        let mut bits: String = text.chars().map(code).collect();
        bits += &"1111111"[..(8 - bits.len() % 8) % 8];
        (0..bits.len()).step_by(8).map(|at| u8::from_str_radix(&bits[at..at + 8], 2).unwrap()).collect()
    }

    fn block(name: u8, value: &[u8], flag: u8) -> Vec<u8> {
        let mut block = vec![0x83, 0x86, name, flag | value.len() as u8];
        block.extend_from_slice(value);
        block.push(0x84);
        block
    }

    #[test]
    fn a_scheme_is_written_over_and_nothing_moves() {
        let tails = ["", "1", "9", "91:1", "99:9", "1:19999", "a", "aa1:999"];
        for (from, to) in [("http://", "aaaaX@"), ("https://", "aaaaaX@")] {
            for (tail, name) in tails.iter().flat_map(|tail| NAME_INDEXES.map(|name| (tail, name))) {
                let mut sent = block(name, &huffman(&format!("{from}{tail}")), HUFFMAN);
                mend(&mut sent);
                assert_eq!(sent, block(name, &huffman(&format!("{to}{tail}")), HUFFMAN));
            }
        }
        let mut sent = block(0x41, b"https://h:1", 0);
        mend(&mut sent);
        assert_eq!(sent, block(0x41, b"aaaaaaa@h:1", 0));
    }

    #[test]
    fn other_authorities_other_headers_and_cut_blocks_stay() {
        for sent in [
            block(0x41, &huffman("h:1"), HUFFMAN),
            block(0x41, b"h:1", 0),
            block(0x44, &huffman("http://1"), HUFFMAN),
            block(0x44, b"http://1", 0),
            block(0x41, &huffman("http://1")[..4], HUFFMAN),
            vec![0x41],
            vec![],
        ] {
            let mut mended = sent.clone();
            mend(&mut mended);
            assert_eq!(mended, sent);
        }
    }
}
