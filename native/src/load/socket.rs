//! A client's connection to a target, in TLS where the target has it; and what answers there.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::load::frames::{self, kind};
use crate::load::plan::Target;
use crate::load::secure;
use crate::maybe_tls::MaybeTls;

pub const STREAM_WINDOW_BYTES: u32 = 1 << 20;
pub const CONNECTION_WINDOW_BYTES: u32 = 1 << 26;

pub type Socket = MaybeTls<TcpStream, TlsStream<TcpStream>>;

pub async fn connect(target: &Target) -> io::Result<Socket> {
    let socket = TcpStream::connect(target.address).await?;
    socket.set_nodelay(true)?;
    Ok(match &target.tls {
        None => Socket::Plain(socket),
        Some(tls) => Socket::Tls(Box::new(tls.shake_hands(socket).await?)),
    })
}

/// Connects, and returns once a server of HTTP/2 has greeted. The error says who answers instead, or
/// that the server refuses the client's certificate, which in TLS 1.3 shows only then.
pub fn probe(target: &Target, timeout: Duration) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let greeted = tokio::time::timeout(timeout, greet(target)).await;
        greeted.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")))
    })
}

async fn greet(target: &Target) -> io::Result<()> {
    let mut socket = connect(target).await?;
    let mut opening = Vec::new();
    frames::push_opening(&mut opening, STREAM_WINDOW_BYTES, CONNECTION_WINDOW_BYTES);
    // A server that refuses us closes the connection; why, is what it sent before.
    let _ = socket.write_all(&opening).await;
    let _ = socket.flush().await;
    let mut answer = Vec::new();
    loop {
        if let Some(judged) = judge(&answer) {
            return judged.map_err(io::Error::other);
        }
        match socket.read_buf(&mut answer).await {
            Ok(bytes) if bytes > 0 => {}
            Err(error) if !secure::is_closed(&error) => return Err(secure::explained(error)),
            _ => {
                return Err(io::Error::other(match target.tls {
                    None => "the server closed the connection at once; perhaps it speaks TLS, or no HTTP/2",
                    Some(_) => {
                        "the server closed the connection at once; perhaps it wants another client certificate"
                    }
                }));
            }
        }
    }
}

/// Whether a server's first bytes are HTTP/2's, or whose else; None: there are too few. Pure.
fn judge(answer: &[u8]) -> Option<Result<(), &'static str>> {
    match *answer {
        [0x15 | 0x16, 3, ..] => Some(Err("the server speaks TLS")), // an alert, or a handshake's
        [b'H', b'T', b'T', b'P', ..] => Some(Err("the server speaks HTTP/1 only, or wants TLS")),
        [_, _, _, kind::SETTINGS, _, 0, 0, 0, 0, ..] => Some(Ok(())),
        [_, _, _, _, _, _, _, _, _, ..] => Some(Err("the server does not speak HTTP/2")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell_who_answers() {
        let settings = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3];
        for end in 0..9 {
            assert_eq!(judge(&settings[..end]), None, "{end}");
        }
        assert_eq!(judge(&settings), Some(Ok(())));
        let is_wrong = |answer: &[u8]| judge(answer).is_some_and(|judged| judged.is_err());
        assert!(is_wrong(&[0x15, 3, 3, 0, 2, 2, 10]));
        assert!(is_wrong(b"HTTP/1.0 400 Bad Request\r\n"));
        assert!(is_wrong(b"-ERR unknown command"));
    }
}
