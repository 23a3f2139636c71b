//! An accepted socket, and who learns that there is something to read.
//!
//! ```text
//! far     tokio does, for the door's thread: most sockets, most of the time
//! near    Python's thread does (near.rs): tokio does not know of it
//! ```
//!
//! A near socket is read only after `is_readable` has said so, and until nothing is left. It turns
//! far by itself where it has to wait for the peer to read.

use std::io::{self, ErrorKind, Write};
use std::net::{self, Shutdown};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::runtime::Handle;

pub struct Socket {
    stream: Stream,
    runtime: Handle,
    readable: bool, // while near
}

/// Of TCP, or a Unix socket: what is asked of it is the same.
enum Stream {
    Far(TcpStream),
    Near(net::TcpStream),
    Lost, // it could not turn
}

impl Socket {
    /// Far. The descriptor is non-blocking already. Call it on the door's thread.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        let stream = Stream::Far(TcpStream::from_std(fd.into())?);
        Ok(Socket { stream, runtime: Handle::current(), readable: false })
    }

    pub fn is_near(&self) -> bool {
        matches!(self.stream, Stream::Near(_))
    }

    /// Turn near; its descriptor.
    pub fn approach(&mut self) -> Option<RawFd> {
        if let Stream::Far(stream) = std::mem::replace(&mut self.stream, Stream::Lost) {
            self.stream = stream.into_std().map_or(Stream::Lost, Stream::Near);
            self.readable = false;
        }
        self.near_fd()
    }

    /// Turn far, on any thread; its descriptor. Whoever wants to read must ask anew.
    pub fn leave(&mut self) -> Option<RawFd> {
        let fd = self.near_fd()?;
        if let Stream::Near(stream) = std::mem::replace(&mut self.stream, Stream::Lost) {
            let _runtime = self.runtime.enter();
            self.stream = TcpStream::from_std(stream).map_or(Stream::Lost, Stream::Far);
        }
        Some(fd)
    }

    fn near_fd(&self) -> Option<RawFd> {
        match &self.stream {
            Stream::Near(stream) => Some(stream.as_raw_fd()),
            _ => None,
        }
    }

    /// A near socket has something to read, or its peer has gone.
    pub fn is_readable(&mut self) {
        self.readable = true;
    }

    /// A near socket whose last reader left something.
    pub fn has_unread(&self) -> bool {
        self.is_near() && self.readable
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let socket = self.get_mut();
        let stream = match &mut socket.stream {
            Stream::Far(stream) => return Pin::new(stream).poll_read(cx, buf),
            Stream::Near(stream) => stream,
            Stream::Lost => return Poll::Ready(Err(ErrorKind::NotConnected.into())),
        };
        while socket.readable {
            let room = buf.remaining();
            match receive(stream, buf) {
                Ok(length) => {
                    socket.readable = length == 0 || length == room; // else that was all there is
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => socket.readable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Pending
    }
}

/// As tokio reads: into memory that nobody has cleared.
fn receive(stream: &net::TcpStream, buf: &mut ReadBuf<'_>) -> io::Result<usize> {
    // SAFETY: the kernel writes bytes there, and only so many as it says are taken for such.
    unsafe {
        let room = buf.unfilled_mut();
        let received = libc::recv(stream.as_raw_fd(), room.as_mut_ptr().cast(), room.len(), 0);
        let length = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        buf.assume_init(length);
        buf.advance(length);
        Ok(length)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let socket = self.get_mut();
        loop {
            let written = match &mut socket.stream {
                Stream::Far(stream) => return Pin::new(stream).poll_write(cx, bytes),
                Stream::Near(stream) => stream.write(bytes),
                Stream::Lost => return Poll::Ready(Err(ErrorKind::NotConnected.into())),
            };
            match written {
                Err(error) if error.kind() == ErrorKind::WouldBlock => drop(socket.leave()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Far(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Near(stream) => Poll::Ready(stream.shutdown(Shutdown::Write)),
            Stream::Lost => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    use std::task::Waker;

    use super::*;

    fn pair() -> (Socket, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        (Socket::new(ours.into()).unwrap(), theirs)
    }

    fn read(socket: &mut Socket) -> Poll<Vec<u8>> {
        let mut room = [0; 8];
        let mut buf = ReadBuf::new(&mut room);
        let read = Pin::new(socket).poll_read(&mut Context::from_waker(Waker::noop()), &mut buf);
        read.map(|read| read.map(|()| buf.filled().to_vec()).unwrap())
    }

    fn on_a_runtime(work: impl FnOnce()) {
        tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap().block_on(async { work() });
    }

    #[test]
    fn a_near_socket_is_read_when_it_was_said_to_be_readable_until_it_is_empty() {
        on_a_runtime(|| {
            let (mut socket, mut peer) = pair();
            socket.approach().unwrap();
            peer.write_all(b"0123456789").unwrap();
            assert!(read(&mut socket).is_pending());
            socket.is_readable();
            assert_eq!(read(&mut socket), Poll::Ready(b"01234567".to_vec()));
            assert!(socket.has_unread());
            assert_eq!(read(&mut socket), Poll::Ready(b"89".to_vec()));
            assert!(!socket.has_unread() && read(&mut socket).is_pending());
            drop(peer);
            socket.is_readable();
            assert_eq!(read(&mut socket), Poll::Ready(vec![]));
        });
    }

    #[test]
    fn a_near_socket_turns_far_when_its_peer_does_not_read() {
        on_a_runtime(|| {
            let (mut socket, mut peer) = pair();
            socket.approach().unwrap();
            let cx = &mut Context::from_waker(Waker::noop());
            let mut sent = 0;
            while let Poll::Ready(written) = Pin::new(&mut socket).poll_write(cx, &[7; 4096]) {
                sent += written.unwrap();
            }
            assert!(sent > 0 && !socket.is_near());
            drop(socket);
            let mut received = Vec::new();
            peer.read_to_end(&mut received).unwrap();
            assert_eq!(received.len(), sent);
        });
    }
}
