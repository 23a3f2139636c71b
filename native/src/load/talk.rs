//! A stream on which each message is answered by one, in order: a lease's keepalive.

use bytes::{Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, StatusCode};

use crate::grpc::FRAME_HEAD_BYTES;
use crate::load::answer::{Answer, failure, status};
use crate::load::proto::fields;

pub struct Talk {
    sending: SendStream<Bytes>,
    answers: Answers,
}

enum Answers {
    Unseen(ResponseFuture), // servers may send the head with the first answer
    Seen { head: HeaderMap, body: RecvStream, read: BytesMut },
}

impl Talk {
    /// Opened by its first message at the latest.
    pub fn open(sender: &mut SendRequest<Bytes>, head: Request<()>) -> Result<Self, h2::Error> {
        let (response, sending) = sender.send_request(head, false)?;
        Ok(Talk { sending, answers: Answers::Unseen(response) })
    }

    /// Say one thing and hear the answer. After a failure the stream is over.
    pub async fn ask(&mut self, body: Bytes, expects: u32) -> Result<Answer, h2::Error> {
        self.sending.send_data(body, false)?;
        if let Answers::Unseen(response) = &mut self.answers {
            let (head, body) = response.await?.into_parts();
            if head.status != StatusCode::OK {
                return Ok(Answer::Failed { code: failure::HTTP, message: head.status.to_string() });
            }
            self.answers = Answers::Seen { head: head.headers, body, read: BytesMut::new() };
        }
        let Answers::Seen { head, body, read } = &mut self.answers else { unreachable!("seen just now") };
        loop {
            if let Some(message) = take_message(read) {
                let empty = expects != 0 && !fields(&message).any(|(number, _)| number == expects);
                let bytes = (FRAME_HEAD_BYTES + message.len()) as u64;
                return Ok(Answer::Fine { bytes, empty });
            }
            let Some(piece) = body.data().await else { return Ok(ended(head, body.trailers().await?)) };
            let piece = piece?;
            body.flow_control().release_capacity(piece.len())?;
            read.extend_from_slice(&piece);
        }
    }
}

fn take_message(read: &mut BytesMut) -> Option<BytesMut> {
    let head = read.get(..FRAME_HEAD_BYTES)?;
    let end = FRAME_HEAD_BYTES + u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    (read.len() >= end).then(|| read.split_to(end).split_off(FRAME_HEAD_BYTES))
}

/// Whatever the server ended the stream with, it owes an answer.
fn ended(head: &HeaderMap, trailers: Option<HeaderMap>) -> Answer {
    match status(&trailers.unwrap_or_else(|| head.clone())) {
        Some((0, _)) => {
            Answer::Failed { code: failure::BROKEN, message: "the stream ended unasked".to_owned() }
        }
        Some((code, message)) => Answer::Failed { code, message },
        None => Answer::Failed { code: failure::NO_STATUS, message: String::new() },
    }
}
