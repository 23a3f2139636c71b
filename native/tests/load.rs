//! What the load generator promises, against a server that answers, refuses, stalls and breaks.

mod echo;

use std::time::{Duration, Instant};

use chainfire_native::load::answer::failure;
use chainfire_native::load::plan::{KeyHole, Operation, Order, Plan, Target};
use chainfire_native::load::request::Requests;
use chainfire_native::load::tally::Tally;
use chainfire_native::load::thread::{Load, Outcome, Phase};
use echo::{Echo, Manners};

fn plan(echo: &Echo) -> Plan {
    Plan {
        targets: vec![Target { address: echo.address, authority: echo.address.to_string(), tls: None }],
        operations: vec![operation("/test/Call")],
        audience: None,
        connections: 1,
        in_flight: 1,
        rate: None,
        warm_up: Duration::ZERO,
        duration: None,
        total: None,
        keys: 1000,
        key_digits: 4,
        order: Order::Random,
        seed: 1,
        window: Duration::from_millis(50),
        dial_timeout: Duration::from_secs(2),
        drain: Duration::from_secs(2),
    }
}

fn operation(path: &str) -> Operation {
    Operation {
        path: path.to_owned(),
        message: b"key/0000=........"[..].into(),
        weight: 1,
        is_stream: false,
        groups: None,
        keys: vec![KeyHole { offset: 4, add: 0 }],
        noise: Some(9..17),
        expects: 2,
    }
}

fn run(plan: Plan) -> (Outcome, Tally) {
    let mut outcome = Load::start(plan).expect("a plan").join().expect("once").expect("a connection");
    let tally = outcome.tally.take().expect("a run");
    (outcome, tally)
}

fn quantile(tally: &Tally, quantile: f64) -> Duration {
    Duration::from_nanos(tally.operations[0].latencies.value_at_quantile(quantile))
}

#[test]
fn a_total_is_sent_exactly_and_every_answer_counted() {
    let echo = echo::start(Manners::default());
    let (outcome, tally) = run(Plan { total: Some(5000), connections: 3, in_flight: 50, ..plan(&echo) });
    let fine = &tally.operations[0];
    assert_eq!((fine.answered, fine.empty, tally.in_time), (5000, 0, 5000));
    assert_eq!(fine.reply_bytes, 5000 * (5 + 6));
    assert_eq!(fine.latencies.len(), 5000);
    assert_eq!(echo.calls.load(std::sync::atomic::Ordering::Relaxed), 5000);
    assert!(tally.failures.is_empty() && outcome.unsent == 0 && outcome.redials == 0);
    assert!(!outcome.measured.is_zero());
}

#[test]
fn statuses_are_counted_by_code_and_are_not_answers() {
    let status = |number: u64| if number.is_multiple_of(10) { 8 } else { 0 };
    let echo = echo::start(Manners { status, ..Manners::default() });
    let (_, tally) = run(Plan { total: Some(1000), in_flight: 10, ..plan(&echo) });
    assert_eq!(tally.failures[&8].count, 100);
    assert_eq!((tally.operations[0].answered, tally.operations[0].latencies.len()), (900, 900));
}

#[test]
fn an_answer_without_the_expected_field_is_counted_as_empty() {
    let echo = echo::start(Manners { reply: vec![0x0a, 2, 0x18, 9], ..Manners::default() });
    let (_, tally) = run(Plan { total: Some(100), ..plan(&echo) });
    assert_eq!((tally.operations[0].answered, tally.operations[0].empty), (100, 100));
}

/// The server stops for 300 ms once. A generator that waits for answers before it goes on would see
/// one slow call; this one owes an answer for each of the 300 calls that were due meanwhile.
#[test]
fn a_stall_is_seen_by_every_call_that_was_due_meanwhile() {
    let before = |number: u64| {
        if number == 200 {
            echo::stall(300)
        }
    };
    let echo = echo::start(Manners { before, ..Manners::default() });
    let open = Plan { rate: Some(1000.0), total: Some(1000), in_flight: 4, ..plan(&echo) };
    let (_, tally) = run(open.clone());
    let slow = tally.operations[0].latencies.count_between(100_000_000, u64::MAX);
    assert!(slow >= 150, "{slow} slow calls"); // the last third is due shortly before it goes on
    assert!(quantile(&tally, 0.99) > Duration::from_millis(250), "{:?}", quantile(&tally, 0.99));
    assert!(tally.late.value_at_quantile(0.99) > 250_000_000, "the calls were sent late, and this shows");

    let echo = echo::start(Manners { before, ..Manners::default() });
    let (_, tally) = run(Plan { rate: None, ..Plan { targets: plan(&echo).targets, ..open } });
    let slow = tally.operations[0].latencies.count_between(100_000_000, u64::MAX);
    assert!(slow <= 4, "a closed loop of four can't see more: {slow}");
}

#[test]
fn an_open_loop_keeps_its_rate() {
    let echo = echo::start(Manners::default());
    let duration = Some(Duration::from_secs(1));
    let warm_up = Duration::from_millis(100);
    let (outcome, tally) = run(Plan { rate: Some(2000.0), duration, warm_up, in_flight: 64, ..plan(&echo) });
    let due = tally.operations[0].answered_ever + outcome.unsent; // none twice, none left out
    assert!((2199..=2201).contains(&due), "{due} calls in 1.1 s");
    assert!(tally.in_time > 1000, "{} in time", tally.in_time);
    assert_eq!(outcome.measured, Duration::from_secs(1));
}

#[test]
fn a_rate_beyond_the_server_leaves_calls_unsent_and_says_so() {
    let echo = echo::start(Manners { before: |_| echo::stall(5), ..Manners::default() });
    let duration = Some(Duration::from_millis(500));
    let (outcome, tally) = run(Plan { rate: Some(1000.0), duration, in_flight: 2, ..plan(&echo) });
    assert!(outcome.unsent > 200, "{} unsent", outcome.unsent);
    assert!(tally.in_time < 200);
}

#[test]
fn a_broken_connection_costs_its_calls_and_is_dialled_again() {
    let echo = echo::start(Manners { breaks_at: Some(500), ..Manners::default() });
    let (outcome, tally) = run(Plan { total: Some(2000), in_flight: 8, ..plan(&echo) });
    let broken = tally.failures[&failure::BROKEN].count;
    assert!((1..=8).contains(&broken), "{broken} broken calls");
    assert_eq!(tally.operations[0].answered + broken, 2000);
    assert_eq!(outcome.redials, 1);
}

#[test]
fn what_is_unanswered_at_the_end_is_counted() {
    let echo = echo::start(Manners { before: |_| echo::stall(5000), ..Manners::default() });
    let (duration, drain) = (Some(Duration::from_secs(1)), Duration::from_millis(50));
    let (_, tally) = run(Plan { duration, drain, in_flight: 3, ..plan(&echo) });
    assert_eq!(tally.failures[&failure::UNANSWERED].count, 3);
    assert_eq!(tally.operations[0].answered, 0);
}

#[test]
fn stop_ends_a_run_with_the_figures_so_far() {
    let echo = echo::start(Manners::default());
    let load =
        Load::start(Plan { duration: Some(Duration::from_secs(3600)), ..plan(&echo) }).expect("a plan");
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut seen = 0;
    while load.windows(0).is_empty() {
        assert!(Instant::now() < deadline);
        seen = load.wait(seen, Duration::from_secs(1)).1;
    }
    load.stop();
    let outcome = load.join().expect("once").expect("a connection");
    assert!(outcome.tally.expect("a run").in_time > 0);
    assert!(outcome.measured < Duration::from_secs(60));
    assert_eq!(load.wait(0, Duration::ZERO).0, Phase::Over);
    assert!(load.join().is_none());
}

#[test]
fn the_windows_hold_every_answer_once() {
    let echo = echo::start(Manners::default());
    let duration = Some(Duration::from_millis(300));
    let load = Load::start(Plan { duration, in_flight: 4, ..plan(&echo) }).expect("a plan");
    let tally = load.join().expect("once").expect("a connection").tally.expect("a run");
    let windows = load.windows(0);
    assert!(windows.len() >= 2, "{}", windows.len());
    assert_eq!(windows.iter().map(|window| window.answered).sum::<u64>(), tally.operations[0].answered);
    assert!(windows.windows(2).all(|pair| pair[0].end == pair[1].begin));
}

#[test]
fn nobody_listening_is_an_error_that_names_the_endpoint() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let echo = Echo { address, calls: Default::default() };
    let ran = Load::start(Plan { total: Some(1), ..plan(&echo) }).expect("a plan").join().expect("once");
    let error = ran.err().expect("no connection");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    assert!(error.to_string().contains(&address.to_string()));
}

#[test]
fn a_plan_that_can_not_be_is_refused_with_a_sentence() {
    let echo = Echo { address: "127.0.0.1:1".parse().expect("an address"), calls: Default::default() };
    let good = || Plan { total: Some(1), ..plan(&echo) };
    assert_eq!(good().check(), Ok(()));
    let hole = |offset, add| vec![Operation { keys: vec![KeyHole { offset, add }], ..operation("/p") }];
    for wrong in [
        Plan { total: None, ..good() },
        Plan { in_flight: 0, ..good() },
        Plan { rate: Some(f64::NAN), ..good() },
        Plan { operations: vec![Operation { weight: 0, ..operation("/p") }], ..good() },
        Plan { operations: hole(14, 0), ..good() },
        Plan { operations: hole(usize::MAX, 0), ..good() },
        Plan { operations: hole(0, 9001), ..good() },
        Plan { operations: vec![operation("no path")], ..good() },
        Plan { keys: 10_001, ..good() },
    ] {
        assert!(wrong.check().is_err(), "{wrong:?}");
    }
}

#[test]
fn bodies_are_the_template_with_the_keys_number_and_noise() {
    let echo = Echo { address: "127.0.0.1:1".parse().expect("an address"), calls: Default::default() };
    let two = vec![KeyHole { offset: 4, add: 0 }, KeyHole { offset: 9, add: 7 }];
    let operation = Operation { keys: two, noise: Some(13..17), ..operation("/p") };
    let plan = Plan { operations: vec![operation.clone()], order: Order::Sequential, keys: 3, ..plan(&echo) };
    let mut requests = Requests::new(&plan);
    let bodies: Vec<_> = (0..4).map(|_| requests.body(&operation, None)).collect();
    let heads: Vec<_> = bodies.iter().map(|body| String::from_utf8_lossy(&body[5..18])).collect();
    assert_eq!(heads, ["key/0000=0007", "key/0001=0008", "key/0002=0009", "key/0000=0007"]);
    assert!(bodies.iter().all(|body| body[..5] == [0, 0, 0, 0, 17] && body.len() == 22));
    assert_ne!(bodies[0][18..], bodies[1][18..]);
}

#[test]
fn weights_are_shares_and_a_seed_is_a_sequence() {
    let echo = Echo { address: "127.0.0.1:1".parse().expect("an address"), calls: Default::default() };
    let weighted = |weight| Operation { weight, ..operation("/p") };
    let plan = Plan { operations: vec![weighted(80), weighted(20)], ..plan(&echo) };
    let chosen = |seed| {
        let mut requests = Requests::new(&Plan { seed, ..plan.clone() });
        (0..10_000).map(|_| requests.choose()).collect::<Vec<_>>()
    };
    let second = chosen(1).iter().sum::<usize>();
    assert!((1800..=2200).contains(&second), "{second}");
    assert_eq!(chosen(1), chosen(1));
    assert_ne!(chosen(1), chosen(2));
}
