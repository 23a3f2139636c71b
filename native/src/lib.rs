//! The native door: gRPC over HTTP/2, and HTTP/1.1, on one thread that never takes the GIL.
//!
//! ```text
//! python.rs    the module: Door.drain() -> list of events, Door.send(list of replies)
//! border/      what crosses between the threads, the two queues, back-pressure
//! cast.rs      one body for many streams                  pure
//! packed.rs    gzip of what many streams share            pure
//! door.rs      the thread: listeners, TLS, which protocol, the tick
//! http2/       a connection of HTTP/2: calls, streams, flow control, deadlines
//! http1/       a connection of HTTP/1.1
//! grpc.rs      gRPC's own encodings            pure
//! manners.rs   limits against abuse            pure
//! farewell.rs  the last word of a connection that is sent away
//! authority.rs a quirk of older clients        pure
//! near.rs      requests that Python's thread reads itself, one at a time
//! socket.rs io.rs maybe_tls.rs tls.rs settings.rs
//! disk.rs      a head start for a sync; no part of the door
//! sync/        fdatasync on a thread of its own; no part of the door
//! load/        a load generator for gRPC servers (`chainfire bench`); no part of the door
//! plain/       what a plain put, delete or transaction writes: a codec for the machine               pure
//! ```
//!
//! No business logic and no protobuf: methods are paths with a number, messages are bytes.

mod authority;
pub mod border;
pub mod cast;
pub mod disk;
pub mod door;
mod farewell;
pub mod grpc;
mod http1;
mod http2;
pub mod io;
pub mod load;
mod manners;
mod maybe_tls;
mod near;
pub mod packed;
pub mod plain;
#[cfg(feature = "python")]
mod python;
pub mod settings;
mod socket;
pub mod sync;
pub mod tls;

/// What lies between this crate and Python; both must have the same (src/chainfire/wheel.py).
pub const BORDER_VERSION: u32 = 7;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
