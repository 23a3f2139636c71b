//! One connection of the run. When it breaks, it is dialled again; calls that are due meanwhile wait,
//! and their waiting counts.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, Connection, SendRequest};
use tokio::sync::Notify;

use crate::load::plan::Target;
use crate::load::socket::{CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES, connect};
use crate::load::wire::Gathered;

const REDIAL_PAUSE: Duration = Duration::from_millis(50);

pub struct Dialled {
    sender: SendRequest<Bytes>,
    connection: Connection<Gathered, Bytes>,
    wire: Gathered,
}

pub async fn dial(target: &Target, timeout: Duration) -> io::Result<Dialled> {
    let dialling = async {
        let wire = Gathered::new(connect(target).await?);
        let (sender, connection) = Builder::new()
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_send_buffer_size(STREAM_WINDOW_BYTES as usize)
            .enable_push(false)
            .handshake(wire.clone())
            .await
            .map_err(io::Error::other)?;
        Ok(Dialled { sender, connection, wire })
    };
    match tokio::time::timeout(timeout, dialling).await {
        Ok(dialled) => dialled,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no connection in time")),
    }
}

/// A sender, and which of the link's connections it belongs to.
pub struct Open {
    pub sender: SendRequest<Bytes>,
    connection: u64,
}

pub struct Link {
    target: Target,
    sender: RefCell<Option<SendRequest<Bytes>>>, // None: being dialled
    connection: Cell<u64>,                       // counts up whenever `sender` is taken away
    changed: Notify,                             // `sender` or `over`
    retired: Notify,
    over: Cell<bool>,
}

impl Link {
    pub fn new(target: Target) -> Self {
        Link {
            target,
            sender: RefCell::new(None),
            connection: Cell::new(0),
            changed: Notify::new(),
            retired: Notify::new(),
            over: Cell::new(false),
        }
    }

    /// The connection as it is now, when there is one; None when the run is over.
    pub async fn open(&self) -> Option<Open> {
        loop {
            let changed = self.changed.notified(); // before looking, or a change could be missed
            if let Some(sender) = self.sender.borrow().clone() {
                return Some(Open { sender, connection: self.connection.get() });
            }
            if self.over.get() {
                return None;
            }
            changed.await;
        }
    }

    pub fn is_current(&self, open: &Open) -> bool {
        open.connection == self.connection.get()
    }

    /// The connection refused a call: get another. Calls that are in flight on it go on.
    pub fn retire(&self, open: &Open) {
        if self.is_current(open) {
            self.forget();
            self.retired.notify_one();
        }
    }

    fn forget(&self) {
        self.sender.borrow_mut().take();
        self.connection.set(self.connection.get() + 1);
    }

    pub fn redials(&self) -> u64 {
        self.connection.get()
    }

    /// Nobody who waits for a connection is to get one any more.
    pub fn end(&self) {
        self.over.set(true);
        self.changed.notify_waiters();
    }

    /// Drives the connection, and each that follows it; never returns.
    pub async fn keep(self: Rc<Self>, first: Dialled, timeout: Duration) {
        let mut next = Some(first);
        loop {
            let dialled = match next.take() {
                Some(first) => Ok(first),
                None => dial(&self.target, timeout).await,
            };
            if let Ok(Dialled { sender, connection, wire }) = dialled {
                *self.sender.borrow_mut() = Some(sender);
                self.changed.notify_waiters();
                let number = self.connection.get();
                let mut driving = tokio::task::spawn_local(drive(connection, wire));
                while self.connection.get() == number {
                    tokio::select! {
                        biased;
                        // Perhaps of an earlier connection: hence the loop.
                        () = self.retired.notified() => {}
                        _ = &mut driving => if self.connection.get() == number { self.forget() },
                    }
                }
            }
            tokio::time::sleep(REDIAL_PAUSE).await;
        }
    }
}

async fn drive(connection: Connection<Gathered, Bytes>, wire: Gathered) {
    let mut connection = pin!(connection);
    std::future::poll_fn(|cx| {
        let polled = connection.as_mut().poll(cx);
        let flushed = wire.flush(cx); // one write per turn; waits for the socket by itself
        match (polled, flushed) {
            (Poll::Ready(_), _) | (_, Poll::Ready(Err(_))) => Poll::Ready(()),
            _ => Poll::Pending,
        }
    })
    .await;
}
