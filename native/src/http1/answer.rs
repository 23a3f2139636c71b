//! An answer on its way out: its head, and how its body is delimited.

use super::parse::Head;
use crate::grpc::{Pairs, Value};

/// How an answer's body is delimited.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Framing {
    NotYet,
    Raw, // by its length, or by the end of the connection
    Chunked,
    Nothing, // HEAD, 204, 304
}

pub(super) struct Answer {
    pub(super) framing: Framing,
    pub(super) keep_alive: bool,
    pub(super) left_bytes: usize, // written and not yet told to Python
}

impl Answer {
    pub(super) fn new(keep_alive: bool) -> Self {
        Answer { framing: Framing::NotYet, keep_alive, left_bytes: 0 }
    }

    pub(super) fn begin(&mut self, output: &mut Vec<u8>, head: &Head, status: u16, pairs: &Pairs) {
        let reason =
            http::StatusCode::from_u16(status).ok().and_then(|code| code.canonical_reason()).unwrap_or("");
        output.extend_from_slice(format!("HTTP/1.1 {status} {reason}\r\n").as_bytes());
        let mut has_length = false;
        for (name, value) in pairs {
            let value = match value {
                Value::Text(text) => text.as_bytes(),
                Value::Binary(bytes) => bytes,
            };
            let line_end = |byte: &u8| matches!(byte, b'\r' | b'\n' | 0);
            if name.bytes().any(|byte| line_end(&byte) || byte == b':') || value.iter().any(line_end) {
                continue; // an answer can't add headers of its client's making
            }
            has_length |= name.eq_ignore_ascii_case("content-length");
            if name.eq_ignore_ascii_case("connection") || name.eq_ignore_ascii_case("transfer-encoding") {
                continue; // ours to say
            }
            output.extend_from_slice(name.as_bytes());
            output.extend_from_slice(b": ");
            output.extend_from_slice(value);
            output.extend_from_slice(b"\r\n");
        }
        if status == 101 {
            self.framing = Framing::Raw;
            output.extend_from_slice(b"connection: upgrade\r\n\r\n");
            return;
        }
        self.framing = if head.is_head || matches!(status, 100..=199 | 204 | 304) {
            Framing::Nothing
        } else if has_length {
            Framing::Raw
        } else if head.version == 0 {
            self.keep_alive = false;
            Framing::Raw
        } else {
            output.extend_from_slice(b"transfer-encoding: chunked\r\n");
            Framing::Chunked
        };
        if !self.keep_alive {
            output.extend_from_slice(b"connection: close\r\n");
        } else if head.version == 0 {
            output.extend_from_slice(b"connection: keep-alive\r\n");
        }
        output.extend_from_slice(b"\r\n");
    }

    pub(super) fn piece(&self, output: &mut Vec<u8>, body: &[u8]) {
        if self.framing == Framing::Chunked && !body.is_empty() {
            output.extend_from_slice(format!("{:x}\r\n", body.len()).as_bytes());
            output.extend_from_slice(body);
            output.extend_from_slice(b"\r\n");
        }
    }
}
