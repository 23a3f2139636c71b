//! Calls are cancelled, their ids reused where that were possible, and answered late, all at a high
//! rate and on both threads: no answer may reach another call than its own.

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use chainfire_native::border::{Action, Border, Event, Message, Method, Methods, Reply, what};
use chainfire_native::door::{Door, Listen};
use chainfire_native::grpc::{FRAME_HEAD_BYTES, frame_head};
use chainfire_native::settings::Settings;
use h2::Reason;
use h2::client::SendRequest;
use http::Request;
use tokio::net::TcpStream;

const PATH: &str = "/test.Echo/Echo";

fn open_door(settings: Settings) -> (Arc<Border>, Door, SocketAddr) {
    let methods = Methods::from([(PATH.into(), Method { number: 0, takes_stream: false })]);
    let border = Arc::new(Border::new(settings, methods).unwrap());
    let door = Door::start(border.clone()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    door.listen(Listen { fd: OwnedFd::from(listener), is_unix: false, tls: false });
    (border, door, address)
}

fn framed(body: &[u8]) -> Bytes {
    [&frame_head(body.len(), false)[..], body].concat().into()
}

fn wait(border: &Border) {
    let mut poll = libc::pollfd { fd: border.fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one valid pollfd; the descriptor lives as long as the border.
    unsafe { libc::poll(&mut poll, 1, 1) };
}

#[derive(Default)]
struct Tally {
    answered: AtomicU64,
    cancelled: AtomicU64,
    told: AtomicU64, // cancelled calls of which Python heard
    done: AtomicBool,
}

impl Tally {
    /// Enough happened to prove something; a slow machine takes its time.
    fn is_enough(&self) -> bool {
        let [answered, cancelled, told] =
            [&self.answered, &self.cancelled, &self.told].map(|count| count.load(Ordering::Relaxed));
        answered + cancelled > 10_000 && told > 20
    }
}

/// Stands in for Python: echoes, every third call 3 ms late, whatever was cancelled meanwhile.
fn echo(border: &Border, tally: &Tally) {
    const LATE: Duration = Duration::from_millis(3);
    let mut late: VecDeque<(Instant, Event)> = VecDeque::new();
    while !tally.done.load(Ordering::Acquire) {
        let (events, armed) = border.drain(1000);
        let mut replies = Vec::new();
        for event in events {
            match event.what {
                0 if event.id % 3 == 0 => late.push_back((Instant::now() + LATE, event)),
                0 => replies.push(answer(&event)),
                what::CANCEL => drop(tally.told.fetch_add(1, Ordering::Relaxed)),
                _ => {}
            }
        }
        while let Some((_, event)) = next_due(&mut late) {
            replies.push(answer(&event));
            replies.push(answer(&event)); // the second goes nowhere
        }
        border.reply(replies);
        if armed {
            wait(border);
        }
    }
}

fn next_due(late: &mut VecDeque<(Instant, Event)>) -> Option<(Instant, Event)> {
    if late.front()?.0 <= Instant::now() { late.pop_front() } else { None }
}

fn answer(event: &Event) -> Reply {
    Reply { id: event.id, action: Action::Answer(Message::Framed(framed(&event.body))) }
}

/// A client that cancels every other call at some point and checks each answer it gets.
async fn client(address: SocketAddr, number: u64, deadline: Instant, tally: &Tally) {
    let stream = connect(address).await;
    // h2's client never gets back the budget of frames that come for streams it has reset.
    let handshake = h2::client::Builder::new().data_frame_budget(1 << 30).handshake(stream);
    let (mut requests, connection) = handshake.await.unwrap();
    tokio::spawn(async move {
        let _ = connection.await;
    });
    let mut serial = 0u64;
    let mut open = VecDeque::new();
    while !tally.is_enough() && Instant::now() < deadline {
        let mut dropped_later = Vec::new();
        for _ in 0..50 {
            serial += 1;
            let body: [u8; 16] = (u128::from(number) << 64 | u128::from(serial)).to_be_bytes();
            requests = requests.ready().await.unwrap();
            let (response, mut sink) = send(&mut requests, PATH);
            sink.send_data(framed(&body), true).unwrap();
            match serial % 4 {
                0 => sink.send_reset(Reason::CANCEL),      // at once
                1 => dropped_later.push((response, sink)), // while it is being answered
                _ => {
                    open.push_back((body, response));
                    continue;
                }
            }
            tally.cancelled.fetch_add(1, Ordering::Relaxed);
        }
        while let Some((body, response)) = open.pop_front() {
            let mut reply = response.await.unwrap().into_body();
            let mut data = BytesMut::new();
            while let Some(piece) = reply.data().await {
                data.extend_from_slice(&piece.unwrap());
            }
            assert_eq!(&data[FRAME_HEAD_BYTES..], &body, "an answer crossed over");
            assert_eq!(reply.trailers().await.unwrap().unwrap()["grpc-status"], "0");
            if let Some((_, mut sink)) = dropped_later.pop() {
                sink.send_reset(Reason::CANCEL);
            }
            tally.answered.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn send(
    requests: &mut SendRequest<Bytes>,
    path: &str,
) -> (h2::client::ResponseFuture, h2::SendStream<Bytes>) {
    let request = Request::post(format!("http://a{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap();
    requests.send_request(request, false).unwrap()
}

/// The next event of that kind; others are dropped.
async fn next(border: &Border, kind: i32) -> Event {
    for _ in 0..500 {
        let (events, is_empty) = border.drain(1);
        if let Some(event) = events.into_iter().find(|event| event.what == kind) {
            return event;
        }
        if is_empty {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    panic!("no event {kind}");
}

fn on_a_runtime(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
}

#[test]
fn nothing_crosses_when_calls_are_cancelled_and_answered_late() {
    // So that both threads write answers at this rate.
    let settings =
        Settings { resets_per_second_max: 1_000_000, direct_answers_max: 40, ..Settings::default() };
    let (border, door, address) = open_door(settings);
    let tally = Arc::new(Tally::default());
    let (python, counts) = (border.clone(), tally.clone());
    let python = thread::spawn(move || echo(&python, &counts));
    on_a_runtime(async {
        let deadline = Instant::now() + Duration::from_secs(120);
        tokio::join!(
            client(address, 1, deadline, &tally),
            client(address, 2, deadline, &tally),
            client(address, 3, deadline, &tally),
        );
    });
    tally.done.store(true, Ordering::Release);
    python.join().unwrap();
    door.close();
    assert!(tally.is_enough());
    assert!(border.counters.direct.load(Ordering::Relaxed) > 0);
}

#[test]
fn calls_that_come_alone_are_read_by_pythons_thread_and_nothing_else_waits_for_it() {
    let (border, door, address) = open_door(Settings::default());
    on_a_runtime(async {
        let stream = connect(address).await;
        let (requests, mut connection) = h2::client::handshake(stream).await.unwrap();
        let mut pings = connection.ping_pong().unwrap();
        tokio::spawn(connection);
        let mut requests = requests.ready().await.unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while border.counters.near.load(Ordering::Relaxed) < 5 {
            assert!(Instant::now() < deadline, "no call was read by Python's thread");
            let (response, mut sink) = send(&mut requests, PATH);
            sink.send_data(framed(b"alone"), true).unwrap();
            border.reply(vec![answer(&next(&border, 0).await)]);
            response.await.unwrap();
        }
        // Nobody drains: the door's thread looks after what comes now.
        let pong = tokio::time::timeout(Duration::from_secs(30), pings.ping(h2::Ping::opaque()));
        pong.await.expect("no pong").unwrap();
        let mut open = Vec::new();
        for _ in 0..50 {
            let (response, mut sink) = send(&mut requests, PATH);
            sink.send_data(framed(b"together"), true).unwrap();
            open.push(response);
        }
        let mut calls = Vec::new();
        while calls.len() < open.len() {
            calls.push(next(&border, 0).await);
            border.reply(calls.last().map(answer).into_iter().collect());
        }
        for response in open {
            assert_eq!(response.await.unwrap().status(), 200);
        }
        drop(requests);
        next(&border, what::CLOSED).await;
    });
    door.close();
}

#[test]
fn a_client_that_only_resets_is_sent_away() {
    // A rate that the slowest machine exceeds.
    let settings = Settings { resets_per_second_max: 50, ..Settings::default() };
    let (border, door, address) = open_door(settings);
    on_a_runtime(async {
        let stream = connect(address).await;
        let (mut requests, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = tokio::spawn(connection);
        for _ in 0..20_000 {
            let Ok(ready) = requests.ready().await else { break };
            requests = ready;
            let (_, mut sink) = send(&mut requests, PATH);
            sink.send_reset(Reason::CANCEL);
            tokio::task::yield_now().await;
        }
        let error = connection.await.unwrap().unwrap_err();
        // The close behind the frame with the reason may overtake it: a client that goes on sending
        // meets a reset.
        assert!(error.is_io() || error.reason() == Some(Reason::ENHANCE_YOUR_CALM), "{error}");
    });
    assert_eq!(border.counters.rude.load(Ordering::Relaxed), 1);
    assert!(border.drain(100_000).0.len() < 10_000);
    door.close();
}

#[test]
fn a_stop_lets_accepted_calls_end_and_then_says_so() {
    let (border, door, address) = open_door(Settings::default());
    on_a_runtime(async {
        let stream = connect(address).await;
        let (requests, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = tokio::spawn(connection);
        let mut requests = requests.ready().await.unwrap();
        let (response, mut sink) = send(&mut requests, PATH);
        sink.send_data(framed(b"x"), true).unwrap();
        let call = next(&border, 0).await;
        door.stop();
        tokio::time::sleep(Duration::from_millis(50)).await;
        border.reply(vec![answer(&call)]);
        assert_eq!(response.await.unwrap().status(), 200);
        drop(requests);
        connection.await.unwrap().unwrap();
        assert_eq!(next(&border, what::DRAINED).await.what, what::DRAINED);
    });
    door.close();
}
