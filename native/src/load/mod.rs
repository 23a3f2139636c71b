//! A load generator for gRPC servers: one thread, many calls in flight, honest latencies.
//!
//! ```text
//! plan.rs      what is to be sent, where to, how fast, for how long      pure
//! request.rs   bodies from templates: key numbers and noise written in   pure
//! answer.rs    what an answer proves                                     pure
//! pace.rs      which call is due when                                    pure
//! tally.rs     histograms, windows of time, errors                       pure
//! secure.rs    TLS: whom to trust, what to show, what went wrong
//! socket.rs    a connection, and who answers there
//! wire.rs      a socket whose writes are gathered
//! link.rs      a connection that is dialled again when it breaks
//! talk.rs      a stream on which each message is answered by one
//! audience/    watchers of what is put
//! proto.rs     fields of a message                                       pure
//! frames.rs    HTTP/2, as far as it matters                              pure
//! run.rs       the run: slots that call, the clock, the phases
//! thread.rs    the run on a thread of its own, and what others see of it
//! python.rs    the same for Python
//! ```
//!
//! No protobuf: a body is a template with holes, made by the caller, so any unary method can be
//! called, and any stream on which each message is answered by one. A call's latency counts from the moment at which it was due, not from the moment at which
//! it could be sent (no coordinated omission); every answer's gRPC status is looked at.

pub mod answer;
pub mod audience;
mod frames;
mod link;
mod pace;
pub mod plan;
mod proto;
#[cfg(feature = "python")]
pub(crate) mod python;
pub mod request;
mod run;
pub mod secure;
pub mod socket;
mod talk;
pub mod tally;
pub mod thread;
mod wire;
