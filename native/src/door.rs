//! The door's thread: listeners, connections, replies, the tick, and the end.
//!
//! One tokio runtime on one thread; nothing in it ever waits for Python. What panics is told to
//! Python: a connection's panic ends that connection, a panic of the thread itself ends the door.

use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use crate::border::{Border, Event, TICK, call_id, lock, what};
use crate::grpc::{Pairs, Value};
use crate::io::{Gathered, Transport};
use crate::socket::Socket;
use crate::{farewell, http1, http2};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const ACCEPT_RETRY: Duration = Duration::from_millis(50); // out of descriptors, mostly
/// Connections over the limit that are told so at once; further ones are closed without a word.
const TURNED_AWAY_MAX: usize = 64;
const TURNED_AWAY: Duration = Duration::from_secs(2); // in which it must have said what it speaks

/// A socket that listens already.
pub struct Listen {
    pub fd: OwnedFd,
    pub is_unix: bool,
    pub tls: bool,
}

enum Command {
    Listen(Listen),
    Stop, // take nothing new, end when the accepted calls have ended
    Close,
}

/// The handle that Python's side holds.
pub struct Door {
    pub border: Arc<Border>,
    pub tls: Arc<Mutex<Option<Arc<ServerConfig>>>>, // may be replaced while serving
    commands: UnboundedSender<Command>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Door {
    pub fn start(border: Arc<Border>) -> io::Result<Self> {
        let (commands, receiver) = unbounded_channel();
        let tls = Arc::new(Mutex::new(None));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let (shared, context) = (border.clone(), Context { border: border.clone(), tls: tls.clone() });
        let thread = std::thread::Builder::new().name("door".into()).spawn(move || {
            let run = AssertUnwindSafe(|| runtime.block_on(run(context, receiver)));
            if let Err(panic) = catch_unwind(run) {
                shared.report_panic(true, panic);
            }
        })?;
        Ok(Door { border, tls, commands, thread: Mutex::new(Some(thread)) })
    }

    pub fn listen(&self, listen: Listen) {
        let _ = self.commands.send(Command::Listen(listen)); // the thread is gone: nobody listens
    }

    pub fn stop(&self) {
        let _ = self.commands.send(Command::Stop);
    }

    /// Ends every connection and the thread; returns when it is gone.
    pub fn close(&self) {
        let _ = self.commands.send(Command::Close);
        if let Some(thread) = lock(&self.thread).take() {
            let _ = thread.join(); // its panic was caught and reported inside
        }
    }
}

#[derive(Clone)]
struct Context {
    border: Arc<Border>,
    tls: Arc<Mutex<Option<Arc<ServerConfig>>>>,
}

async fn run(context: Context, mut commands: UnboundedReceiver<Command>) {
    let border = &context.border;
    let (closing, closed) = watch::channel(false); // listeners end when it turns true
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut drained = false;
    loop {
        tokio::select! {
            biased;
            () = border.replies_there.notified() => border.deliver_waiting(),
            command = commands.recv() => match command {
                Some(Command::Listen(listen)) => start_listener(&context, listen, closed.clone()),
                Some(Command::Stop) => {
                    border.stopping.store(true, Ordering::Release);
                    let _ = closing.send(true);
                    border.each_connection(|connection| guarded(border, || connection.stop()));
                }
                Some(Command::Close) | None => return, // dropping the runtime ends every task
            },
            _ = tick.tick() => {
                border.each_connection(|connection| guarded(border, || connection.tick()));
                let over = border.stopping.load(Ordering::Acquire) && border.open_sockets() == 0;
                if over && !drained {
                    drained = true;
                    border.push(&mut vec![Event::new(0, what::DRAINED)]);
                }
            }
        }
    }
}

fn guarded(border: &Border, visit: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(visit)) {
        border.report_panic(false, panic);
    }
}

// ── listening ───────────────────────────────────────────────────────────────

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    fn new(listen: Listen) -> io::Result<Self> {
        if listen.is_unix {
            let listener = std::os::unix::net::UnixListener::from(listen.fd);
            listener.set_nonblocking(true)?;
            return Ok(Listener::Unix(UnixListener::from_std(listener)?));
        }
        let listener = std::net::TcpListener::from(listen.fd);
        listener.set_nonblocking(true)?;
        Ok(Listener::Tcp(TcpListener::from_std(listener)?))
    }

    async fn accept(&self) -> io::Result<(Socket, String)> {
        match self {
            Listener::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((Socket::new(stream.into_std()?.into())?, "unix:".to_owned()))
            }
            Listener::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok((Socket::new(stream.into_std()?.into())?, address.to_string()))
            }
        }
    }
}

fn start_listener(context: &Context, listen: Listen, mut closed: watch::Receiver<bool>) {
    let context = context.clone();
    let tls = listen.tls;
    let listener = match Listener::new(listen) {
        Ok(listener) => listener,
        Err(error) => return context.border.report_panic(true, Box::new(format!("cannot listen: {error}"))),
    };
    let turned_away = Arc::new(Semaphore::new(TURNED_AWAY_MAX));
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                _ = closed.changed() => return,
                accepted = listener.accept() => accepted,
            };
            let counters = &context.border.counters;
            match accepted {
                Err(_) => tokio::time::sleep(ACCEPT_RETRY).await,
                Ok((socket, _))
                    if context.border.open_sockets() >= context.border.settings.connections_max =>
                {
                    counters.refused.fetch_add(1, Ordering::Relaxed);
                    if let Ok(permit) = turned_away.clone().try_acquire_owned() {
                        let config = lock(&context.tls).clone().filter(|_| tls);
                        tokio::spawn(async move {
                            turn_away(socket, config, tls).await;
                            drop(permit);
                        });
                    }
                }
                Ok((socket, peer)) => {
                    counters.accepted.fetch_add(1, Ordering::Relaxed);
                    let open = OpenSocket::new(context.border.clone());
                    let serving = serve(context.clone(), socket, peer, tls);
                    tokio::spawn(async move {
                        let border = open.0.clone();
                        if let Err(panic) = unpanicked(serving).await {
                            border.report_panic(false, panic);
                        }
                        drop(open);
                    });
                }
            }
        }
    });
}

/// Counts a connection from its accept on, so that handshakes count too.
struct OpenSocket(Arc<Border>);

impl OpenSocket {
    fn new(border: Arc<Border>) -> Self {
        border.sockets.fetch_add(1, Ordering::AcqRel);
        OpenSocket(border)
    }
}

impl Drop for OpenSocket {
    fn drop(&mut self) {
        self.0.sockets.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Drive a future; a panic comes back as an error.
async fn unpanicked(future: impl Future<Output = ()>) -> std::thread::Result<()> {
    let mut future = Box::pin(future);
    std::future::poll_fn(move |cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(std::task::Poll::Ready(())) => std::task::Poll::Ready(Ok(())),
        Ok(std::task::Poll::Pending) => std::task::Poll::Pending,
        Err(panic) => std::task::Poll::Ready(Err(panic)),
    })
    .await
}

// ── one connection, until its protocol is known ─────────────────────────────

async fn serve(context: Context, socket: Socket, peer: String, is_tls: bool) {
    let border = context.border.clone();
    let config = lock(&context.tls).clone().filter(|_| is_tls);
    if is_tls && config.is_none() {
        return; // never in the clear where TLS was asked for
    }
    let begin = begin(socket, config);
    let Ok(Ok(Begun { transport, prefix, is_http2, certificate })) =
        tokio::time::timeout(border.settings.handshake, begin).await
    else {
        return; // too slow, or no TLS, or gone
    };
    let number = border.new_connection_number();
    let mut opened = Event::with(call_id(number, 0), what::OPENED, Bytes::from(peer));
    opened.amount = f64::from(u8::from(is_tls));
    if let Some(der) = certificate {
        opened.metadata = Some(Box::new(Pairs::from([("certificate".to_owned(), Value::Binary(der))])));
    }
    if is_http2 {
        http2::serve(border, number, Gathered::new(transport, prefix), opened).await;
    } else {
        http1::serve(border, number, transport, prefix, opened).await;
    }
}

/// Say in the client's own protocol that there are too many.
async fn turn_away(socket: Socket, config: Option<Arc<ServerConfig>>, is_tls: bool) {
    if is_tls && config.is_none() {
        return;
    }
    if let Ok(Ok(mut begun)) = tokio::time::timeout(TURNED_AWAY, begin(socket, config)).await {
        let word = farewell::too_many_connections(begun.is_http2);
        farewell::leave(&mut begun.transport, &word).await;
    }
}

struct Begun {
    transport: Transport,
    prefix: Vec<u8>,
    is_http2: bool,
    certificate: Option<Vec<u8>>,
}

async fn begin(socket: Socket, tls: Option<Arc<ServerConfig>>) -> io::Result<Begun> {
    let mut certificate = None;
    let mut transport = match tls {
        None => Transport::Plain(socket),
        Some(config) => {
            let stream = TlsAcceptor::from(config).accept(socket).await?;
            let (_, session) = stream.get_ref();
            let leaf = session.peer_certificates().and_then(|chain| chain.first());
            certificate = leaf.map(|der| der.to_vec());
            let protocol = session.alpn_protocol().map(|name| name == b"h2");
            let transport = Transport::Tls(Box::new(stream));
            if let Some(is_http2) = protocol {
                return Ok(Begun { transport, prefix: Vec::new(), is_http2, certificate });
            }
            transport
        }
    };
    // The first bytes tell: an HTTP/2 client begins with its preface.
    let mut prefix = Vec::with_capacity(1024);
    while prefix.len() < PREFACE.len() && PREFACE.starts_with(&prefix) {
        if transport.read_buf(&mut prefix).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let is_http2 = prefix.starts_with(PREFACE);
    Ok(Begun { transport, prefix, is_http2, certificate })
}
