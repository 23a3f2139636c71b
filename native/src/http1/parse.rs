//! Requests from bytes: heads, and bodies by length or in chunks. What can be read in two ways is
//! refused (request smuggling).

use bytes::{Buf, Bytes, BytesMut};

use crate::grpc::{Pairs, Value};

const HEADERS_USUAL: usize = 100; // more take memory of their own
const HEADERS_MAX: usize = 1000;
const CHUNK_LINE_BYTES_MAX: usize = 256;
pub(super) const BAD_REQUEST: &str = "400 Bad Request";
const NOT_IMPLEMENTED: &str = "501 Not Implemented"; // a transfer coding that is not ours, RFC 9112 §6.1
pub(super) const HEAD_TOO_LARGE: &str = "431 Request Header Fields Too Large";

/// How much of a request's body is still to come.
#[derive(Debug, PartialEq)]
pub(super) enum Body {
    Length(u64),
    Chunk(u64), // left of this chunk, its line end included; 0: a chunk's line comes next
    Trailers,
    Tunnel, // the request asks for a WebSocket: what follows is the application's, to the end
    Complete,
}

#[derive(Debug)]
pub(super) struct Head {
    pub(super) pairs: Pairs,
    pub(super) body: Body,
    pub(super) keep_alive: bool,
    pub(super) is_head: bool,
    pub(super) version: u8, // the minor one
    pub(super) expects_continue: bool,
}

impl Head {
    /// Whether its path ends in one of these.
    pub(super) fn ends_in(&self, paths: &[String]) -> bool {
        self.pairs.iter().any(|(name, value)| {
            let Value::Text(target) = value else { return false };
            let path = target.split('?').next().unwrap_or_default();
            name == ":target" && paths.iter().any(|end| path.ends_with(end.as_str()))
        })
    }
}

/// Looks for a head while its bytes come in. However small the pieces, the work is linear.
#[derive(Default)]
pub(super) struct HeadSearch {
    seen_bytes: usize,
    parsed_bytes: usize, // in vain
}

impl HeadSearch {
    /// As `parse_head`, which is asked at the end of a head, and now and then before: what is no
    /// HTTP is refused although it has no end.
    pub(super) fn look(&mut self, input: &mut BytesMut) -> Result<Option<(usize, Head)>, &'static str> {
        // RFC 9112 §2.2: empty lines before a request are ignored.
        while let Some(length) =
            [&b"\r\n"[..], b"\n"].iter().find_map(|end| input.starts_with(end).then_some(end.len()))
        {
            input.advance(length);
            *self = HeadSearch::default();
        }
        let news = &input[self.seen_bytes.saturating_sub(2)..];
        let ends = news.windows(2).any(|end| end == b"\n\n") || news.windows(3).any(|end| end == b"\n\r\n");
        self.seen_bytes = input.len();
        if !ends && input.len() < 2 * self.parsed_bytes {
            return Ok(None);
        }
        self.parsed_bytes = input.len();
        parse_head(input)
    }
}

/// The head and its length, None if it is not complete, or the status line to refuse it with.
fn parse_head(input: &[u8]) -> Result<Option<(usize, Head)>, &'static str> {
    let (mut few, mut many) = ([httparse::EMPTY_HEADER; HEADERS_USUAL], Vec::new());
    let mut request = httparse::Request::new(&mut few);
    let mut parsed = request.parse(input);
    if parsed == Err(httparse::Error::TooManyHeaders) {
        many.resize(HEADERS_MAX, httparse::EMPTY_HEADER);
        request = httparse::Request::new(&mut many);
        parsed = request.parse(input);
    }
    let length = match parsed {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(HEAD_TOO_LARGE),
        Err(httparse::Error::Version) => return Err("505 HTTP Version Not Supported"),
        Err(_) => return Err(BAD_REQUEST),
    };
    let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
        return Err(BAD_REQUEST);
    };
    let text = |text: &str| Value::Text(text.to_owned());
    let mut head = Head {
        pairs: vec![
            (":method".to_owned(), text(method)),
            (":target".to_owned(), text(target)),
            (":version".to_owned(), text(if version == 0 { "1.0" } else { "1.1" })),
        ],
        body: Body::Complete,
        keep_alive: version == 1,
        is_head: method == "HEAD",
        version,
        expects_continue: false,
    };
    let (mut content_length, mut chunked, mut hosts) = (None, false, 0);
    let (mut wants_upgrade, mut to_websocket) = (false, false);
    for header in &*request.headers {
        let name = header.name.to_ascii_lowercase();
        let has = |token: &str| {
            header
                .value
                .split(|byte| *byte == b',')
                .any(|part| part.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
        };
        match &*name {
            "connection" => {
                wants_upgrade |= has("upgrade");
                head.keep_alive = !has("close") && (head.keep_alive || has("keep-alive"));
            }
            "upgrade" => to_websocket = has("websocket"),
            "host" => hosts += 1,
            "expect" => head.expects_continue = has("100-continue"),
            // RFC 9112 §6.3: a length that can be read in two ways is an attack.
            "content-length" => {
                let value = header.value.trim_ascii();
                if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
                    return Err(BAD_REQUEST);
                }
                let length = value.iter().fold(0u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
                if content_length.replace(length).is_some_and(|other| other != length) {
                    return Err(BAD_REQUEST);
                }
            }
            "transfer-encoding" => {
                if chunked || version == 0 {
                    return Err(BAD_REQUEST);
                }
                if !header.value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                    return Err(NOT_IMPLEMENTED);
                }
                chunked = true;
            }
            _ => {}
        }
        head.pairs.push((name, Value::Binary(header.value.to_vec())));
    }
    // RFC 9112 §3.2: exactly one; two could pass the whitelist with either.
    if hosts == 0 && version == 1 {
        return Err("400 Bad Request: missing required Host header");
    }
    if hosts > 1 {
        return Err(BAD_REQUEST);
    }
    head.body = match (chunked, content_length) {
        (true, Some(_)) => return Err(BAD_REQUEST),
        (true, None) => Body::Chunk(0),
        (false, Some(length)) if length > 0 => Body::Length(length),
        // RFC 6455 §4.1
        (false, _) if wants_upgrade && to_websocket && version == 1 && method == "GET" => Body::Tunnel,
        (false, _) => Body::Complete,
    };
    head.keep_alive &= head.body != Body::Tunnel;
    Ok(Some((length, head)))
}

/// The next piece of the body, None if more bytes are needed or the body is complete.
pub(super) fn next_piece(input: &mut BytesMut, body: &mut Body) -> Result<Option<Bytes>, ()> {
    loop {
        match body {
            Body::Complete => return Ok(None),
            Body::Tunnel => return Ok((!input.is_empty()).then(|| input.split().freeze())),
            Body::Length(left) => {
                let length = input.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= length as u64;
                if *left == 0 {
                    *body = Body::Complete;
                }
                return Ok((length > 0).then(|| input.split_to(length).freeze()));
            }
            Body::Chunk(left) if *left > 2 => {
                let length = input.len().min(usize::try_from(*left - 2).unwrap_or(usize::MAX));
                *left -= length as u64;
                return Ok((length > 0).then(|| input.split_to(length).freeze()));
            }
            Body::Chunk(2) => {
                if input.len() < 2 {
                    return Ok(None);
                }
                if input.split_to(2)[..] != b"\r\n"[..] {
                    return Err(());
                }
                *body = Body::Chunk(0);
            }
            Body::Chunk(_) => {
                let Some(line) = take_line(input)? else { return Ok(None) };
                let digits =
                    line[..].split(|byte: &u8| *byte == b';').next().unwrap_or_default().trim_ascii();
                let size = std::str::from_utf8(digits).map_err(|_| ())?;
                if size.is_empty() || size.len() > 12 || !size.bytes().all(|b| b.is_ascii_hexdigit()) {
                    return Err(());
                }
                let size = u64::from_str_radix(size, 16).map_err(|_| ())?;
                *body = if size == 0 { Body::Trailers } else { Body::Chunk(size + 2) };
            }
            Body::Trailers => {
                let Some(line) = take_line(input)? else { return Ok(None) };
                if line.is_empty() {
                    *body = Body::Complete;
                }
            }
        }
    }
}

fn take_line(input: &mut BytesMut) -> Result<Option<BytesMut>, ()> {
    match input.windows(2).position(|pair| pair == b"\r\n") {
        Some(end) if end <= CHUNK_LINE_BYTES_MAX => {
            let line = input.split_to(end);
            input.advance(2);
            Ok(Some(line))
        }
        None if input.len() <= CHUNK_LINE_BYTES_MAX => Ok(None),
        _ => Err(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Result<Option<(usize, Head)>, &'static str> {
        parse_head(text.as_bytes())
    }

    #[test]
    fn a_head_tells_whether_its_path_is_one_of_some() {
        let ends = ["/lock/lock".to_owned(), "/election/campaign".to_owned()];
        for (path, is_one) in [
            ("/v3/lock/lock", true),
            ("/v3/lock/lock?x=1", true),
            ("/chainfire/v1/election/campaign", true),
            ("/v3/lock/unlock", false),
            ("/v3/kv/put?x=/lock/lock", false),
        ] {
            let (_, found) = head(&format!("POST {path} HTTP/1.1\r\nhost: a\r\n\r\n")).unwrap().unwrap();
            assert_eq!(found.ends_in(&ends), is_one, "{path}");
        }
    }

    #[test]
    fn a_head_is_read_when_it_is_complete() {
        let text = "GET /health?x=1 HTTP/1.1\r\nHost: a\r\n\r\nrest";
        let (length, found) = head(text).unwrap().unwrap();
        assert_eq!(length, text.len() - 4);
        assert!(found.keep_alive);
        assert_eq!(found.body, Body::Complete);
        assert_eq!(found.pairs[1], (":target".into(), Value::Text("/health?x=1".into())));
        for length in 0..length {
            assert!(head(&text[..length]).unwrap().is_none());
        }
    }

    #[test]
    fn a_head_is_found_however_its_bytes_are_cut() {
        let wire = b"\r\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";
        for size in [1, 2, 3, 7, wire.len()] {
            let (mut input, mut search, mut found) = (BytesMut::new(), HeadSearch::default(), None);
            for piece in wire.chunks(size) {
                assert!(found.is_none());
                input.extend_from_slice(piece);
                found = search.look(&mut input).unwrap();
            }
            assert_eq!(found.unwrap().0, wire.len() - 3);
        }
        let (mut input, mut search) = (BytesMut::from(&b"\x16\x03\x01"[..]), HeadSearch::default());
        assert_eq!(search.look(&mut input).unwrap_err(), BAD_REQUEST);
    }

    #[test]
    fn headers_are_many_and_not_without_end() {
        let with = |count| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "a: b\r\n".repeat(count));
        assert_eq!(head(&with(HEADERS_MAX - 1)).unwrap().unwrap().1.pairs.len(), 3 + HEADERS_MAX);
        assert_eq!(head(&with(HEADERS_MAX)).unwrap_err(), HEAD_TOO_LARGE);
    }

    #[test]
    fn a_body_whose_length_is_unclear_is_refused() {
        for lines in [
            "content-length: 5\r\ntransfer-encoding: chunked",
            "content-length: 5\r\ncontent-length: 6",
            "content-length: +5",
            "content-length: 5, 5",
            "content-length: 9999999999999999999",
            "transfer-encoding: gzip, chunked",
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
        ] {
            assert!(head(&format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n")).is_err(), "{lines}");
        }
        assert!(head("POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
    }

    #[test]
    fn a_request_has_one_host() {
        assert!(head("GET / HTTP/1.1\r\n\r\n").is_err());
        assert!(head("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").is_err());
        assert!(head("GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap().is_some());
        assert!(head("GET / HTTP/1.0\r\n\r\n").unwrap().is_some());
    }

    #[test]
    fn who_asks_to_close_is_heard_beside_an_upgrade() {
        let asking =
            |text: &str| head(&format!("GET / HTTP/1.1\r\nHost: a\r\n{text}\r\n\r\n")).unwrap().unwrap().1;
        assert!(!asking("Connection: Upgrade, close\r\nUpgrade: h2c").keep_alive);
        assert!(!asking("Connection: close\r\nConnection: Upgrade\r\nUpgrade: h2c").keep_alive);
        assert!(asking("Connection: Upgrade\r\nUpgrade: h2c").keep_alive);
    }

    #[test]
    fn only_a_get_that_asks_for_a_websocket_becomes_a_tunnel() {
        let asking = "HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n";
        let body = |text: &str| head(text).unwrap().unwrap().1.body;
        assert_eq!(body(&format!("GET / {asking}")), Body::Tunnel);
        assert_eq!(body(&format!("POST / {asking}")), Body::Complete);
        assert_eq!(body(&format!("GET / {}", asking.replace("websocket", "h2c"))), Body::Complete);
        assert_eq!(body(&format!("GET / {}", asking.replace("Upgrade\r\n", "x\r\n"))), Body::Complete);
    }

    #[test]
    fn chunks_are_joined_however_the_bytes_are_cut() {
        let wire = b"3\r\nabc\r\n000A;x=y\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\nnext";
        for size in [1, 2, 3, 5, wire.len()] {
            let (mut input, mut body) = (BytesMut::new(), Body::Chunk(0));
            let mut found = Vec::new();
            for piece in wire.chunks(size) {
                input.extend_from_slice(piece);
                while let Some(data) = next_piece(&mut input, &mut body).unwrap() {
                    found.extend_from_slice(&data);
                }
            }
            assert_eq!((&found[..], body, &input[..]), (&b"abc0123456789"[..], Body::Complete, &b"next"[..]));
        }
    }

    #[test]
    fn broken_chunks_are_refused() {
        for wire in [&b"x\r\n"[..], b"\r\n", b"-1\r\n", b"1\r\nabc", b"fffffffffffff\r\n", &[b'1'; 300]] {
            let (mut input, mut body) = (BytesMut::from(wire), Body::Chunk(0));
            let mut result = next_piece(&mut input, &mut body);
            while let Ok(Some(_)) = result {
                result = next_piece(&mut input, &mut body);
            }
            assert!(result.is_err(), "{wire:?}");
        }
    }
}
