//! Sending a connection away: a last word in its own protocol, and time to read it.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::io::Transport;

const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 4 * 1024 * 1024; // read and thrown away meanwhile
const ENHANCE_YOUR_CALM: u32 = 0xb;
const EMPTY_SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
const TOO_MANY_CONNECTIONS: &str = "too many connections";

/// HTTP/2: the newest stream that was looked at, and why no more are.
pub fn go_away(newest_stream: u32, text: &str) -> Vec<u8> {
    let mut frame = (8 + text.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([7, 0, 0, 0, 0, 0]); // GOAWAY on stream 0
    frame.extend(newest_stream.to_be_bytes());
    frame.extend(ENHANCE_YOUR_CALM.to_be_bytes());
    frame.extend(text.as_bytes());
    frame
}

/// HTTP/1: an answer that ends the connection. The text is the status, as Go's server has it.
pub fn refusal(status: &str) -> String {
    last_answer(status, "text/plain; charset=utf-8", status)
}

/// What a connection over the limit is told. gRPC's clients and the gateway's take it for
/// UNAVAILABLE and go to another member.
pub fn too_many_connections(is_http2: bool) -> Vec<u8> {
    if is_http2 {
        return [&EMPTY_SETTINGS[..], &go_away(0, TOO_MANY_CONNECTIONS)].concat();
    }
    let text = TOO_MANY_CONNECTIONS;
    let body = format!(r#"{{"error":"{text}","code":14,"message":"{text}","details":[]}}"#);
    last_answer("503 Service Unavailable", "application/json", &body).into_bytes()
}

fn last_answer(status: &str, kind: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n{body}"
    )
}

/// Say a last word and `linger`.
pub async fn leave(transport: &mut Transport, word: &[u8]) {
    if let Ok(Ok(())) = timeout(LINGER, transport.write_all(word)).await {
        linger(transport).await;
    }
}

/// Close our side and read until the client has closed its own, for a moment: closing over unread
/// bytes sends a reset, which overtakes what was written.
pub async fn linger(transport: &mut Transport) {
    let reading = async {
        transport.shutdown().await?;
        let (mut waste, mut left) = ([0; 4096], LINGER_BYTES_MAX);
        while left > 0 {
            match transport.read(&mut waste).await? {
                0 => break,
                length => left = left.saturating_sub(length),
            }
        }
        std::io::Result::Ok(())
    };
    let _ = timeout(LINGER, reading).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_a_whole_answer() {
        assert_eq!(
            refusal("400 Bad Request"),
            "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\n\
             content-length: 15\r\nconnection: close\r\n\r\n400 Bad Request"
        );
    }
}
