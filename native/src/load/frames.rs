//! As much HTTP/2 as a client needs that listens: frames out of bytes, and a few kinds of frames into
//! bytes. Pure. RFC 9113; header blocks by RFC 7541 without its tables.

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const WINDOW_BYTES: u32 = 65_535; // of every stream and connection until somebody says otherwise

pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
}

pub const END_STREAM: u8 = 1; // of DATA and HEADERS
pub const ACK: u8 = 1; // of SETTINGS and PING
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const HEAD_BYTES: usize = 9;
const ENABLE_PUSH: u16 = 2;
const INITIAL_WINDOW_SIZE: u16 = 4;

pub struct Frame<'a> {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: &'a [u8],
}

/// The first frame and how many bytes it takes; None: it is not complete.
pub fn first(bytes: &[u8]) -> Option<(Frame<'_>, usize)> {
    let head = bytes.get(..HEAD_BYTES)?;
    let end = HEAD_BYTES + (usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]));
    let payload = bytes.get(HEAD_BYTES..end)?;
    Some((Frame { kind: head[3], flags: head[4], stream: number(&head[5..]) & 0x7fff_ffff, payload }, end))
}

impl<'a> Frame<'a> {
    pub fn is_end(&self) -> bool {
        self.flags & END_STREAM != 0
    }

    /// The payload of DATA without padding.
    pub fn data(&self) -> &'a [u8] {
        match self.payload.split_first() {
            Some((&padding, rest)) if self.flags & PADDED != 0 => {
                &rest[..rest.len().saturating_sub(usize::from(padding))]
            }
            _ => self.payload,
        }
    }

    /// Of WINDOW_UPDATE.
    pub fn increment(&self) -> u32 {
        self.payload.get(..4).map_or(0, number)
    }

    /// What SETTINGS says of the window that each stream begins with.
    pub fn initial_window(&self) -> Option<u32> {
        let settings = self.payload.chunks_exact(6);
        let mut wanted = settings.filter(|setting| setting[..2] == INITIAL_WINDOW_SIZE.to_be_bytes());
        wanted.next_back().map(|setting| number(&setting[2..]))
    }
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

fn push(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// What a connection begins with: no pushes, and windows of these sizes to receive in.
pub fn push_opening(out: &mut Vec<u8>, stream_window: u32, connection_window: u32) {
    out.extend_from_slice(PREFACE);
    let mut settings = Vec::new();
    for (id, value) in [(ENABLE_PUSH, 0), (INITIAL_WINDOW_SIZE, stream_window)] {
        settings.extend_from_slice(&id.to_be_bytes());
        settings.extend_from_slice(&value.to_be_bytes());
    }
    push(out, kind::SETTINGS, 0, 0, &settings);
    push_window(out, 0, connection_window - WINDOW_BYTES);
}

pub fn push_window(out: &mut Vec<u8>, stream: u32, increment: u32) {
    push(out, kind::WINDOW_UPDATE, 0, stream, &increment.to_be_bytes());
}

pub fn push_settings_ack(out: &mut Vec<u8>) {
    push(out, kind::SETTINGS, ACK, 0, &[]);
}

pub fn push_ping_ack(out: &mut Vec<u8>, payload: &[u8]) {
    push(out, kind::PING, ACK, 0, payload);
}

pub fn push_data(out: &mut Vec<u8>, stream: u32, payload: &[u8]) {
    push(out, kind::DATA, 0, stream, payload);
}

/// The head of a gRPC request whose messages follow.
pub fn push_request(out: &mut Vec<u8>, stream: u32, is_tls: bool, authority: &str, path: &str) {
    // ":method: POST", and ":scheme: http" or "https" of the static table
    let mut block = vec![0x83, if is_tls { 0x87 } else { 0x86 }];
    for (name, value) in
        [(":authority", authority), (":path", path), ("content-type", "application/grpc"), ("te", "trailers")]
    {
        block.push(0); // a literal, not indexed, with a new name
        push_text(&mut block, name);
        push_text(&mut block, value);
    }
    push(out, kind::HEADERS, END_HEADERS, stream, &block);
}

/// RFC 7541 §5.2, without Huffman's code.
fn push_text(block: &mut Vec<u8>, text: &str) {
    const PREFIX_MAX: usize = 127;
    let mut left = text.len();
    block.push(left.min(PREFIX_MAX) as u8);
    if left >= PREFIX_MAX {
        left -= PREFIX_MAX;
        while left >= 128 {
            block.push((left % 128) as u8 | 0x80);
            left /= 128;
        }
        block.push(left as u8);
    }
    block.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_read_once_it_is_complete() {
        let mut bytes = Vec::new();
        push_data(&mut bytes, 5, b"abc");
        for end in 0..bytes.len() {
            assert!(first(&bytes[..end]).is_none(), "{end}");
        }
        let (frame, size) = first(&bytes).expect("a frame");
        assert_eq!((frame.kind, frame.stream, frame.data(), size), (kind::DATA, 5, &b"abc"[..], 12));
        assert!(!frame.is_end());
    }

    #[test]
    fn padding_is_taken_off() {
        let data = |payload| Frame { kind: kind::DATA, flags: PADDED, stream: 1, payload }.data();
        assert_eq!(data(&[2, b'a', 0, 0]), b"a");
        assert_eq!(data(&[9, b'a']), b"");
    }

    #[test]
    fn the_initial_window_is_found_among_settings() {
        let mut bytes = Vec::new();
        push_opening(&mut bytes, 1000, 100_000);
        let (settings, size) = first(&bytes[PREFACE.len()..]).expect("a frame");
        assert_eq!(settings.initial_window(), Some(1000));
        let (window, _) = first(&bytes[PREFACE.len() + size..]).expect("a frame");
        assert_eq!((window.stream, window.increment()), (0, 100_000 - 65_535));
    }

    #[test]
    fn a_long_text_has_a_length_of_several_bytes() {
        let mut block = Vec::new();
        push_text(&mut block, &"x".repeat(1337));
        assert_eq!(block[..3], [127, 0xba, 9]); // 1337 = 127 + 58 + 9 * 128
        assert_eq!(block.len(), 3 + 1337);
    }
}
