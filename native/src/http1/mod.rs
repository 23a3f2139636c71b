//! One HTTP/1.1 connection: one request at a time, its body and its answer as pieces.
//!
//! Over the border a request looks like one of HTTP/2 that is not gRPC. The answer goes out with
//! the length that its headers give, else in chunks, else (HTTP/1.0) until the connection closes.
//! A client that closes cancels its request, a moment later: it may have closed its side only, and
//! still read. But one whose path Python named (`http_lines`) goes at once. What is refused here, each
//! with a status: heads over the limit or later than the handshake deadline, bodies whose length is
//! unclear (request smuggling) or that end too early.
//! Large heads are taken from a few connections at a time. Who reads nothing of an answer for the
//! write deadline is given up.
//!
//! ```text
//! parse.rs      heads and bodies from bytes    pure
//! answer.rs     an answer's head and framing   pure
//! ```

mod answer;
mod parse;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::border::{Action, Border, Connection, Event, Reply, TICK, call_id, what};
use crate::farewell;
use crate::grpc::Pairs;
use crate::io::Transport;
use crate::settings::{CREDIT_LUMP_BYTES, MESSAGE_OVERHEAD_BYTES, STREAM_CREDIT_BYTES};
use answer::{Answer, Framing};
use parse::{BAD_REQUEST, Body, HEAD_TOO_LARGE, Head, HeadSearch, next_piece};

const IDLE: Duration = Duration::from_secs(120); // between requests
const HALF_CLOSED: Duration = Duration::from_secs(1); // in which what was asked is still answered
const REQUESTS_MAX: u32 = 1 << 29; // what an id can count
const READ_BYTES: usize = 16 * 1024;
const HEAD_BYTES_MAX: usize = 1024 * 1024; // Go's default, and so etcd's
const HEAD_BYTES_USUAL: usize = 64 * 1024;
const COPIED_BYTES_MAX: usize = 16 * 1024; // into one write with the head; larger pieces are not copied

/// For heads larger than usual, until their requests are answered: what they hold is bounded.
static LARGE_HEADS: Semaphore = Semaphore::const_new(64);

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

    fn read(self: Arc<Self>) {} // never near

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
        large_head: None,
        lingers: false,
    };
    // A client's going is no error of ours; whatever ended it, the connection is over.
    let _guard = Leave { border, number };
    let _ = task.run().await;
    if let Some(id) = task.current {
        task.border.push(&mut vec![Event::new(id, what::CANCEL)]);
    }
    if task.lingers {
        farewell::linger(&mut task.transport).await;
    } else {
        let _ = timeout(task.border.settings.write, task.transport.shutdown()).await;
    }
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
    large_head: Option<SemaphorePermit<'static>>,
    lingers: bool, // the client may still be sending
}

impl Task {
    async fn run(&mut self) -> Result<(), Over> {
        for serial in 0..REQUESTS_MAX {
            let patience = if serial == 0 { self.border.settings.handshake } else { IDLE };
            let head = match timeout(patience, self.head()).await {
                Ok(head) => head?,
                Err(_) if self.input.is_empty() => None,
                Err(_) => self.refuse("408 Request Timeout").await?,
            };
            let Some(head) = head else { return Ok(()) };
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
        let mut search = HeadSearch::default();
        self.large_head = None;
        loop {
            match search.look(&mut self.input) {
                Ok(Some((length, head))) => {
                    self.input.advance(length);
                    if self.large_head.is_some() {
                        self.input = BytesMut::from(&self.input[..]); // give the room back
                    }
                    return Ok(Some(head));
                }
                Ok(None) if self.input.len() > HEAD_BYTES_MAX => {
                    return self.refuse(HEAD_TOO_LARGE).await;
                }
                Ok(None) if self.input.len() > HEAD_BYTES_USUAL && self.large_head.is_none() => {
                    self.large_head = LARGE_HEADS.try_acquire().ok();
                    if self.large_head.is_none() {
                        return self.refuse("503 Service Unavailable").await;
                    }
                }
                Ok(None) => {}
                Err(status) => return self.refuse(status).await,
            }
            if self.shared.stopping.load(Ordering::Acquire) {
                return Ok(None);
            }
            self.input.reserve(READ_BYTES);
            tokio::select! {
                length = self.transport.read_buf(&mut self.input) => {
                    if length? == 0 {
                        let cut_off = !self.input.is_empty();
                        return if cut_off { self.refuse(BAD_REQUEST).await } else { Ok(None) };
                    }
                }
                reply = self.replies.recv() => drop(reply), // late ones, or a word to stop
            }
        }
    }

    async fn refuse(&mut self, status: &str) -> Result<Option<Head>, Over> {
        self.lingers = true;
        self.write(farewell::refusal(status).as_bytes()).await?;
        Ok(None)
    }

    /// One request and its answer. False: the connection ends here.
    async fn request(&mut self, serial: u32, mut head: Head) -> Result<bool, Over> {
        let id = call_id(self.number, serial << 1 | 1);
        let answered_for =
            if head.ends_in(&self.border.settings.http_lines) { Duration::ZERO } else { HALF_CLOSED };
        let metadata = Some(Box::new(std::mem::take(&mut head.pairs)));
        // A request that is here with its body goes over at once: one wake, not three.
        let mut events = vec![Event { metadata, ..Event::new(id, what::HTTP) }];
        self.current = Some(id);
        if head.expects_continue && head.body != Body::Complete {
            self.output.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            self.flush().await?;
        }
        let mut answer = Answer::new(head.keep_alive);
        let mut credit = STREAM_CREDIT_BYTES as isize;
        let mut told = false; // that the body is complete
        let mut closed: Option<Instant> = None; // the client sends no more; until when it is answered
        loop {
            if !told && credit > 0 {
                loop {
                    match next_piece(&mut self.input, &mut head.body) {
                        Ok(Some(piece)) => {
                            credit -= (piece.len() + MESSAGE_OVERHEAD_BYTES) as isize;
                            events.push(Event::with(id, what::MESSAGE, piece));
                        }
                        Ok(None) => break,
                        Err(()) => {
                            if answer.framing == Framing::NotYet {
                                self.refuse(BAD_REQUEST).await?;
                            }
                            return Err(Over);
                        }
                    }
                }
                if head.body == Body::Complete {
                    told = true;
                    events.push(Event::new(id, what::HALF_CLOSE));
                }
            }
            self.border.push(&mut events);
            // Beyond the body we read on (a closing client shows so), up to a bound.
            let reading = closed.is_none() && if told { self.input.len() < READ_BYTES } else { credit > 0 };
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
                        self.lingers = !told;
                        let stopping = self.shared.stopping.load(Ordering::Acquire);
                        return Ok(answer.keep_alive && told && !stopping);
                    }
                }
                length = self.transport.read_buf(&mut self.input), if reading => {
                    if length? == 0 {
                        if !told {
                            if answer.framing == Framing::NotYet {
                                self.refuse(BAD_REQUEST).await?; // its body ends too early
                            }
                            return Err(Over);
                        }
                        closed = Some(Instant::now() + answered_for);
                    }
                }
                () = sleep_until(closed.unwrap_or_else(Instant::now)), if closed.is_some() => return Err(Over),
            }
        }
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
                    if body.len() <= COPIED_BYTES_MAX {
                        self.output.extend_from_slice(&body);
                    } else {
                        self.flush().await?;
                        self.write(&body).await?;
                    }
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
            Action::Credit(_) | Action::Cast(_) | Action::Share(_) => Ok(false), // not of HTTP/1
        }
    }

    async fn flush(&mut self) -> Result<(), Over> {
        let output = std::mem::take(&mut self.output);
        self.write(&output).await?;
        self.output = output; // for its room
        self.output.clear();
        let patience = self.border.settings.write;
        timeout(patience, self.transport.flush()).await.map_err(|_| Over)??;
        Ok(())
    }

    /// As long as the client takes something now and then, it may take its time.
    async fn write(&mut self, mut bytes: &[u8]) -> Result<(), Over> {
        let patience = self.border.settings.write;
        while !bytes.is_empty() {
            match timeout(patience, self.transport.write(bytes)).await.map_err(|_| Over)?? {
                0 => return Err(Over),
                written => bytes = &bytes[written..],
            }
        }
        Ok(())
    }
}
