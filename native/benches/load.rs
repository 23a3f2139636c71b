//! How fast the generator is, when the server costs nothing: `cargo bench --bench load [SECONDS]`.
//! Prints calls per second of one thread, and what that thread spent on each.

#[path = "../tests/echo/mod.rs"]
#[allow(dead_code)] // what only the tests use
mod echo;

use std::time::Duration;

use chainfire_native::load::plan::{KeyHole, Operation, Order, Plan, Target};
use chainfire_native::load::thread::Load;

fn main() {
    let seconds = std::env::args().find_map(|text| text.parse().ok()).unwrap_or(2.0);
    println!(
        "{:>9} {:>11} {:>12} {:>9} {:>9} {:>9}",
        "in flight", "connections", "per second", "CPU us", "p50 us", "p99 us"
    );
    for (in_flight, connections) in [(1, 1), (100, 1), (100, 10), (500, 1), (500, 10)] {
        // A reply of the size of one key with 256 bytes.
        let mut reply = vec![0x0a, 2, 0x18, 9, 0x12, 0xa0, 2];
        reply.resize(7 + 288, b'v');
        let echo = echo::start(echo::Manners { reply, ..echo::Manners::default() });
        let load = Load::start(Plan {
            targets: vec![Target { address: echo.address, authority: echo.address.to_string(), tls: None }],
            operations: vec![Operation {
                path: "/etcdserverpb.KV/Range".to_owned(),
                message: b"\x0a\x10bench/0000000000"[..].into(),
                weight: 1,
                is_stream: false,
                groups: None,
                keys: vec![KeyHole { offset: 8, add: 0 }],
                noise: None,
                expects: 2,
            }],
            audience: None,
            connections,
            in_flight,
            rate: None,
            warm_up: Duration::from_millis(200),
            duration: Some(Duration::from_secs_f64(seconds)),
            total: None,
            keys: 100_000,
            key_digits: 10,
            order: Order::Random,
            seed: 1,
            window: Duration::from_millis(250),
            dial_timeout: Duration::from_secs(2),
            drain: Duration::from_secs(2),
        });
        let outcome = load.expect("a plan").join().expect("once").expect("a connection");
        let tally = outcome.tally.expect("a run");
        assert!(tally.failures.is_empty() && tally.operations[0].empty == 0);
        let latencies = &tally.operations[0].latencies;
        println!(
            "{in_flight:>9} {connections:>11} {:>12.0} {:>9.2} {:>9.1} {:>9.1}",
            tally.in_time as f64 / outcome.measured.as_secs_f64(),
            outcome.cpu.as_secs_f64() * 1e6 / tally.in_time as f64,
            latencies.value_at_quantile(0.5) as f64 / 1e3,
            latencies.value_at_quantile(0.99) as f64 / 1e3,
        );
    }
}
