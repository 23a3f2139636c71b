//! What the door is told when it is made. Units are in the names; Python checks the relations.

use std::time::Duration;

/// Bytes that either side of a stream may have under way before the other must give some back.
pub const STREAM_CREDIT_BYTES: usize = 256 * 1024;
/// Credit is given back in lumps of at least this. Less than the credit, so a stream never sticks.
pub const CREDIT_LUMP_BYTES: usize = 64 * 1024;
/// What one message costs on top of its bytes, so that empty ones are bounded too.
pub const MESSAGE_OVERHEAD_BYTES: usize = 64;

/// Memory that casts may hold of one stream before Python is asked to pause.
pub const SHARED_BYTES_MAX: usize = 1024 * 1024;

#[derive(Clone, Debug)]
pub struct Settings {
    pub connections_max: usize,
    pub streams_max: u32,         // per connection
    pub message_bytes_max: usize, // of a request
    pub header_list_bytes_max: u32,
    pub handshake: Duration, // TLS, preface or HTTP/1 head
    pub write: Duration,     // without a byte taken so long, the client is given up (HTTP/2: in need only)
    pub ping_interval_min: Duration,
    pub keepalive_interval: Duration, // zero: no pings of ours
    pub keepalive_timeout: Duration,  // zero: wait for ever
    pub resets_per_second_max: u32,
    pub direct_answers_max: usize, // so few are written by the thread that made them
    /// Ends of HTTP paths of requests that stand in line for what somebody else has.
    pub http_lines: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            connections_max: 65_536,
            streams_max: 65_536,
            message_bytes_max: 2 * 1024 * 1024,
            header_list_bytes_max: 64 * 1024,
            handshake: Duration::from_secs(10),
            write: Duration::from_secs(60),
            ping_interval_min: Duration::from_secs(5),
            keepalive_interval: Duration::from_secs(7200),
            keepalive_timeout: Duration::from_secs(20),
            resets_per_second_max: 2000,
            direct_answers_max: 8,
            http_lines: Vec::new(),
        }
    }
}
