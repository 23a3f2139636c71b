//! A connection's bytes as they are, or in TLS. The choice costs a comparison per read or write.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub enum MaybeTls<P, T> {
    Plain(P),
    Tls(Box<T>),
}

impl<P: AsyncRead + Unpin, T: AsyncRead + Unpin> AsyncRead for MaybeTls<P, T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            MaybeTls::Plain(inner) => Pin::new(inner).poll_read(cx, buf),
            MaybeTls::Tls(inner) => Pin::new(inner).poll_read(cx, buf),
        }
    }
}

impl<P: AsyncWrite + Unpin, T: AsyncWrite + Unpin> AsyncWrite for MaybeTls<P, T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            MaybeTls::Plain(inner) => Pin::new(inner).poll_write(cx, bytes),
            MaybeTls::Tls(inner) => Pin::new(inner).poll_write(cx, bytes),
        }
    }

    /// TLS keeps what the socket did not take: to be called again until it is ready.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            MaybeTls::Plain(inner) => Pin::new(inner).poll_flush(cx),
            MaybeTls::Tls(inner) => Pin::new(inner).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            MaybeTls::Plain(inner) => Pin::new(inner).poll_shutdown(cx),
            MaybeTls::Tls(inner) => Pin::new(inner).poll_shutdown(cx),
        }
    }
}
