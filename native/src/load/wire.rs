//! A client's socket whose writes are gathered: h2 flushes after every few frames, the connection's
//! task once per turn (`io.rs` has the server's twin, and says why).

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::load::socket::Socket;

const GATHER_BYTES_MAX: usize = 1024 * 1024;

struct Wire {
    socket: Socket,
    out: Vec<u8>,
    sent: usize, // of `out`
}

/// h2 has one handle, the connection's task another.
#[derive(Clone)]
pub struct Gathered(Rc<RefCell<Wire>>);

impl Gathered {
    pub fn new(socket: Socket) -> Self {
        Gathered(Rc::new(RefCell::new(Wire { socket, out: Vec::new(), sent: 0 })))
    }

    /// Send what was gathered.
    pub fn flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().flush(cx)
    }
}

impl Wire {
    fn flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.out.len() {
            match ready!(Pin::new(&mut self.socket).poll_write(cx, &self.out[self.sent..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.sent += written,
            }
        }
        self.sent = 0;
        self.out.clear();
        Pin::new(&mut self.socket).poll_flush(cx)
    }
}

impl AsyncRead for Gathered {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for Gathered {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let wire = &mut *self.0.borrow_mut();
        if wire.out.len() - wire.sent >= GATHER_BYTES_MAX {
            ready!(wire.flush(cx))?;
        }
        wire.out.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(())) // the connection's task flushes
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let wire = &mut *self.0.borrow_mut();
        ready!(wire.flush(cx))?;
        Pin::new(&mut wire.socket).poll_shutdown(cx)
    }
}
