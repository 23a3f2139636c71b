//! One HTTP/1.1 connection: one request at a time, its body and its answer as pieces.
//!
//! Over the border a request looks like one of HTTP/2 that is not gRPC. The answer goes out with
//! the length that its headers give, else in chunks, else (HTTP/1.0) until the connection closes.
//! A client that closes cancels its request. What is refused here: heads over the limit or later
//! than the handshake deadline, bodies whose length is unclear (request smuggling), upgrades.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{sleep, timeout};

use crate::border::{Action, Border, Connection, Event, Reply, TICK, call_id, what};
use crate::grpc::{Pairs, Value};
use crate::io::Transport;
use crate::settings::{CREDIT_LUMP_BYTES, MESSAGE_OVERHEAD_BYTES, STREAM_CREDIT_BYTES};

const HEADERS_MAX: usize = 100;
const IDLE: Duration = Duration::from_secs(120); // between requests
const REQUESTS_MAX: u32 = 1 << 29; // what an id can count
const CHUNK_LINE_BYTES_MAX: usize = 256;
const READ_BYTES: usize = 16 * 1024;

/// What the border holds of a connection; the rest lives in its task.
struct Http1 {
    replies: UnboundedSender<Reply>, // bounded by the streams' credit
    stopping: AtomicBool,
}

impl Connection for Http1 {
    fn deliver(self: Arc<Self>, replies: Vec<Reply>, _wait: bool) -> Result<(), Vec<Reply>> {
        for reply in replies {
            let _ = self.replies.send(reply); // the task is gone: so is the caller
        }
        Ok(())
    }

    fn unsent_bytes(&self) -> Arc<AtomicUsize> {
        Arc::default() // one answer at a time, within its credit
    }

    fn tick(self: Arc<Self>) {}

    fn wake(&self) {}

    fn stop(self: Arc<Self>) {
        self.stopping.store(true, Ordering::Release);
        // A reply to no call: the task looks up.
        let _ = self.replies.send(Reply { id: 0, action: Action::Credit(0) });
    }

    fn abandon(self: Arc<Self>) {
        self.stop();
    }
}

pub async fn serve(border: Arc<Border>, number: u64, transport: Transport, prefix: Vec<u8>, opened: Event) {
    let (sender, replies) = unbounded_channel();
    let shared = Arc::new(Http1 { replies: sender, stopping: AtomicBool::new(false) });
    border.register(number, shared.clone());
    border.push(&mut vec![opened]);
    let mut task = Task {
        border: border.clone(),
        shared,
        number,
        transport,
        input: BytesMut::from(&prefix[..]),
        output: Vec::new(),
        replies,
        current: None,
    };
    // A client's going is no error of ours; whatever ended it, the connection is over.
    let _guard = Leave { border, number };
    let _ = task.run().await;
    if let Some(id) = task.current {
        task.border.push(&mut vec![Event::new(id, what::CANCEL)]);
    }
    let _ = task.transport.shutdown().await;
}

/// Also when the task is dropped or panics.
struct Leave {
    border: Arc<Border>,
    number: u64,
}

impl Drop for Leave {
    fn drop(&mut self) {
        self.border.unregister(self.number);
        self.border.push(&mut vec![Event::new(call_id(self.number, 0), what::CLOSED)]);
    }
}

/// The connection cannot go on.
struct Over;

impl From<std::io::Error> for Over {
    fn from(_: std::io::Error) -> Self {
        Over
    }
}

struct Task {
    border: Arc<Border>,
    shared: Arc<Http1>,
    number: u64,
    transport: Transport,
    input: BytesMut,
    output: Vec<u8>,
    replies: UnboundedReceiver<Reply>,
    current: Option<u64>, // the request that Python is at
}

/// How much of a request's body is still to come.
#[derive(Debug, PartialEq)]
enum Body {
    Length(u64),
    Chunk(u64), // left of this chunk, its line end included; 0: a chunk's line comes next
    Trailers,
    Complete,
}

#[derive(Debug)]
struct Head {
    pairs: Pairs,
    body: Body,
    keep_alive: bool,
    is_head: bool,
    version: u8, // the minor one
    expects_continue: bool,
}

/// How an answer's body is delimited.
#[derive(Clone, Copy, PartialEq)]
enum Framing {
    NotYet,
    Raw, // by its length, or by the end of the connection
    Chunked,
    Nothing, // HEAD, 204, 304
}

impl Task {
    async fn run(&mut self) -> Result<(), Over> {
        for serial in 0..REQUESTS_MAX {
            let patience = if serial == 0 { self.border.settings.handshake } else { IDLE };
            let Some(head) = timeout(patience, self.head()).await.map_err(|_| Over)?? else {
                return Ok(());
            };
            while self.border.is_full() {
                sleep(TICK).await;
            }
            if !self.request(serial, head).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// None: the client is done, or we are.
    async fn head(&mut self) -> Result<Option<Head>, Over> {
        loop {
            match parse_head(&self.input) {
                Ok(Some((length, head))) => {
                    self.input.advance(length);
                    return Ok(Some(head));
                }
                Ok(None) if self.input.len() > self.border.settings.header_list_bytes_max as usize => {
                    return self.refuse("431 Request Header Fields Too Large").await;
                }
                Ok(None) => {}
                Err(status) => return self.refuse(status).await,
            }
            if self.shared.stopping.load(Ordering::Acquire) {
                return Ok(None);
            }
            self.input.reserve(READ_BYTES);
            tokio::select! {
                length = self.transport.read_buf(&mut self.input) => if length? == 0 { return Ok(None) },
                reply = self.replies.recv() => drop(reply), // late ones, or a word to stop
            }
        }
    }

    async fn refuse(&mut self, status: &str) -> Result<Option<Head>, Over> {
        let text = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        self.transport.write_all(text.as_bytes()).await?;
        Ok(None)
    }

    /// One request and its answer. False: the connection ends here.
    async fn request(&mut self, serial: u32, mut head: Head) -> Result<bool, Over> {
        let id = call_id(self.number, serial << 1 | 1);
        let metadata = Some(Box::new(std::mem::take(&mut head.pairs)));
        self.border.push(&mut vec![Event { metadata, ..Event::new(id, what::HTTP) }]);
        self.current = Some(id);
        if head.expects_continue && head.body != Body::Complete {
            self.output.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            self.flush().await?;
        }
        let mut answer = Answer { framing: Framing::NotYet, keep_alive: head.keep_alive, left_bytes: 0 };
        let mut credit = STREAM_CREDIT_BYTES as isize;
        let mut told = false; // that the body is complete
        loop {
            if !told && credit > 0 {
                self.hand_over(id, &mut head.body, &mut credit)?;
                if head.body == Body::Complete {
                    told = true;
                    self.border.push(&mut vec![Event::new(id, what::HALF_CLOSE)]);
                }
            }
            // Beyond the body we read on (a closing client shows so), up to a bound.
            let reading = if told { self.input.len() < READ_BYTES } else { credit > 0 };
            self.input.reserve(READ_BYTES);
            tokio::select! {
                reply = self.replies.recv() => {
                    let Some(reply) = reply else { return Err(Over) };
                    if reply.id != id {
                        continue;
                    }
                    if let Action::Credit(bytes) = reply.action {
                        credit = credit.saturating_add_unsigned(bytes);
                    } else if self.carry_out(&mut answer, &head, reply.action).await? {
                        self.current = None;
                        let stopping = self.shared.stopping.load(Ordering::Acquire);
                        return Ok(answer.keep_alive && told && !stopping);
                    }
                }
                length = self.transport.read_buf(&mut self.input), if reading => {
                    if length? == 0 {
                        return Err(Over);
                    }
                }
            }
        }
    }

    /// What has come of the body, to Python.
    fn hand_over(&mut self, id: u64, body: &mut Body, credit: &mut isize) -> Result<(), Over> {
        let mut events = Vec::new();
        while let Some(piece) = next_piece(&mut self.input, body).map_err(|()| Over)? {
            *credit -= (piece.len() + MESSAGE_OVERHEAD_BYTES) as isize;
            events.push(Event::with(id, what::MESSAGE, piece));
        }
        self.border.push(&mut events);
        Ok(())
    }

    /// True: that was the answer's end.
    async fn carry_out(&mut self, answer: &mut Answer, head: &Head, action: Action) -> Result<bool, Over> {
        match action {
            Action::Head(reply) => {
                if answer.framing == Framing::NotYet {
                    answer.begin(&mut self.output, head, reply.0, &reply.1);
                }
                // Sent with the first piece of the body, unless that is not there yet.
                if self.replies.is_empty() {
                    self.flush().await?;
                }
                Ok(false)
            }
            Action::Message(message) | Action::Answer(message) => {
                let body = message.body();
                answer.piece(&mut self.output, &body);
                if answer.framing == Framing::Raw {
                    self.flush().await?;
                    self.transport.write_all(&body).await?; // large ones are not copied again
                }
                self.flush().await?;
                answer.left_bytes += body.len() + MESSAGE_OVERHEAD_BYTES;
                if answer.left_bytes >= CREDIT_LUMP_BYTES {
                    let amount = std::mem::take(&mut answer.left_bytes) as f64;
                    let id = self.current.unwrap_or_default();
                    self.border.push(&mut vec![Event { amount, ..Event::new(id, what::WRITABLE) }]);
                }
                Ok(false)
            }
            Action::Status(_) => {
                if answer.framing == Framing::NotYet {
                    answer.begin(&mut self.output, head, 500, &Pairs::new());
                }
                if answer.framing == Framing::Chunked {
                    self.output.extend_from_slice(b"0\r\n\r\n");
                }
                self.flush().await?;
                Ok(true)
            }
            Action::Reset => Err(Over),
            Action::Credit(_) => Ok(false),
        }
    }

    async fn flush(&mut self) -> Result<(), Over> {
        self.transport.write_all(&self.output).await?;
        self.output.clear();
        self.transport.flush().await?;
        Ok(())
    }
}

struct Answer {
    framing: Framing,
    keep_alive: bool,
    left_bytes: usize, // written and not yet told to Python
}

impl Answer {
    fn begin(&mut self, output: &mut Vec<u8>, head: &Head, status: u16, pairs: &Pairs) {
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

    fn piece(&self, output: &mut Vec<u8>, body: &[u8]) {
        if self.framing == Framing::Chunked && !body.is_empty() {
            output.extend_from_slice(format!("{:x}\r\n", body.len()).as_bytes());
            output.extend_from_slice(body);
            output.extend_from_slice(b"\r\n");
        }
    }
}

/// The head and its length, None if it is not complete, or the status line to refuse it with.
fn parse_head(input: &[u8]) -> Result<Option<(usize, Head)>, &'static str> {
    const BAD: &str = "400 Bad Request";
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(input) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err("431 Request Header Fields Too Large"),
        Err(httparse::Error::Version) => return Err("505 HTTP Version Not Supported"),
        Err(_) => return Err(BAD),
    };
    let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
        return Err(BAD);
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
    let (mut content_length, mut chunked) = (None, false);
    for header in &*request.headers {
        let name = header.name.to_ascii_lowercase();
        let has = |token: &str| {
            header
                .value
                .split(|byte| *byte == b',')
                .any(|part| part.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
        };
        match &*name {
            "connection" if has("close") => head.keep_alive = false,
            "connection" if has("keep-alive") => head.keep_alive = true,
            "expect" => head.expects_continue = has("100-continue"),
            // RFC 9112 §6.3: a length that can be read in two ways is an attack.
            "content-length" => {
                let value = header.value.trim_ascii();
                if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
                    return Err(BAD);
                }
                let length = value.iter().fold(0u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
                if content_length.replace(length).is_some_and(|other| other != length) {
                    return Err(BAD);
                }
            }
            "transfer-encoding" => {
                if chunked || version == 0 || !header.value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                    return Err(BAD);
                }
                chunked = true;
            }
            _ => {}
        }
        head.pairs.push((name, Value::Binary(header.value.to_vec())));
    }
    head.body = match (chunked, content_length) {
        (true, Some(_)) => return Err(BAD),
        (true, None) => Body::Chunk(0),
        (false, Some(length)) if length > 0 => Body::Length(length),
        (false, _) => Body::Complete,
    };
    Ok(Some((length, head)))
}

/// The next piece of the body, None if more bytes are needed or the body is complete.
fn next_piece(input: &mut BytesMut, body: &mut Body) -> Result<Option<Bytes>, ()> {
    loop {
        match body {
            Body::Complete => return Ok(None),
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
            assert!(head(&format!("POST / HTTP/1.1\r\n{lines}\r\n\r\n")).is_err(), "{lines}");
        }
        assert!(head("POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
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
