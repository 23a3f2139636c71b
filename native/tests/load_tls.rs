//! The load generator and TLS: it loads a server that it trusts, and says what is wrong with another.

#[allow(dead_code)] // what only the other tests use
mod echo;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use chainfire_native::load::plan::{KeyHole, Operation, Order, Plan, Target};
use chainfire_native::load::secure::{Tls, Trust};
use chainfire_native::load::socket::probe;
use chainfire_native::load::thread::Load;
use chainfire_native::tls::{Limits, Pem, self_signed, server_config};
use echo::{Echo, Manners};
use tokio_rustls::rustls::ServerConfig;

const PATIENCE: Duration = Duration::from_secs(10);

struct Identity {
    certificate: String,
    key: String,
}

impl Identity {
    fn of(name: &str) -> Self {
        Self::since(name, SystemTime::UNIX_EPOCH.elapsed().expect("a clock").as_secs() - 3600)
    }

    fn since(name: &str, begin: u64) -> Self {
        let begin = i64::try_from(begin).expect("a time");
        let (certificate, key) = self_signed(vec![name.to_owned()], name, begin, 1).expect("a certificate");
        Identity { certificate, key }
    }

    fn config(&self, client: Option<&Identity>) -> Arc<ServerConfig> {
        let pem = Pem {
            certificate: self.certificate.as_bytes(),
            key: self.key.as_bytes(),
            client_ca: client.map(|client| client.certificate.as_bytes()),
            client_required: true,
            client_crl: None,
            client_names: &[],
        };
        server_config(&pem, &Limits::default()).expect("a configuration")
    }

    fn trust(&self, shown: Option<&Identity>) -> Trust {
        let shown = shown.map(|identity| (identity.certificate.as_bytes(), identity.key.as_bytes()));
        Trust::new(Some(self.certificate.as_bytes()), shown).expect("PEM")
    }
}

fn start(tls: Arc<ServerConfig>) -> Echo {
    echo::start(Manners { tls: Some(tls), ..Manners::default() })
}

fn target(echo: &Echo, host: &str, trust: Option<&Trust>) -> Target {
    let authority = format!("{host}:{}", echo.address.port());
    let tls = trust.map(|trust| Tls::to(&authority, trust).expect("a name"));
    Target { address: echo.address, authority, tls }
}

fn fault(target: &Target) -> String {
    probe(target, PATIENCE).expect_err("something is wrong").to_string()
}

#[test]
fn a_run_over_tls_is_answered_whole() {
    let server = Identity::of("localhost");
    // An answer of many records, and more in flight than a record holds.
    let mut reply = vec![0x0a, 2, 0x18, 9, 0x12, 0];
    reply.resize(10_000, b'v');
    let echo = echo::start(Manners { reply, tls: Some(server.config(None)), ..Manners::default() });
    let target = target(&echo, "localhost", Some(&server.trust(None)));
    probe(&target, PATIENCE).expect("a server");
    let plan = Plan {
        targets: vec![target],
        operations: vec![Operation {
            path: "/test/Call".to_owned(),
            message: b"key/0000=........"[..].into(),
            weight: 1,
            is_stream: false,
            groups: None,
            keys: vec![KeyHole { offset: 4, add: 0 }],
            noise: Some(9..17),
            expects: 2,
        }],
        audience: None,
        connections: 3,
        in_flight: 50,
        rate: None,
        warm_up: Duration::ZERO,
        duration: None,
        total: Some(5000),
        keys: 1000,
        key_digits: 4,
        order: Order::Random,
        seed: 1,
        window: Duration::from_millis(50),
        dial_timeout: PATIENCE,
        drain: PATIENCE,
    };
    let outcome = Load::start(plan).expect("a plan").join().expect("once").expect("a connection");
    let tally = outcome.tally.expect("a run");
    assert_eq!((tally.operations[0].answered, tally.operations[0].empty), (5000, 0));
    assert!(tally.failures.is_empty() && outcome.redials == 0);
}

#[test]
fn a_certificate_that_fits_not_is_refused_with_the_reason() {
    let server = Identity::of("localhost");
    let echo = start(server.config(None));
    for (stranger, reason) in
        [("stranger", "no authority that is trusted has signed it"), ("localhost", "with another key")]
    {
        let text = fault(&target(&echo, "localhost", Some(&Identity::of(stranger).trust(None))));
        assert!(text.contains(reason), "{text}");
    }
    let misnamed = fault(&target(&echo, "127.0.0.1", Some(&server.trust(None))));
    assert!(misnamed.contains("not valid for name \"127.0.0.1\""), "{misnamed}");
    let old = Identity::since("localhost", 0);
    let echo = start(old.config(None));
    let expired = fault(&target(&echo, "localhost", Some(&old.trust(None))));
    assert!(expired.contains("expired"), "{expired}");
}

#[test]
fn a_client_certificate_is_shown_and_its_lack_is_told() {
    let (server, client, other) = (Identity::of("localhost"), Identity::of("client"), Identity::of("other"));
    let echo = start(server.config(Some(&client)));
    probe(&target(&echo, "localhost", Some(&server.trust(Some(&client)))), PATIENCE).expect("let in");
    let missing = fault(&target(&echo, "localhost", Some(&server.trust(None))));
    assert!(missing.contains("wants a client certificate"), "{missing}");
    let refused = fault(&target(&echo, "localhost", Some(&server.trust(Some(&other)))));
    assert!(refused.contains("refuses the client certificate"), "{refused}");
}

#[test]
fn the_wrong_scheme_is_told_on_both_sides() {
    let server = Identity::of("localhost");
    let plain = echo::start(Manners::default());
    probe(&target(&plain, "localhost", None), PATIENCE).expect("a server");
    let text = fault(&target(&plain, "localhost", Some(&server.trust(None))));
    assert!(text.contains("does not speak TLS"), "{text}");
    let text = fault(&target(&start(server.config(None)), "localhost", None));
    assert!(text.contains("speaks TLS"), "{text}");
}

#[test]
fn a_server_that_agrees_on_no_http2_is_refused() {
    let server = Identity::of("localhost");
    for protocols in [vec![], vec![b"http/1.1".to_vec()]] {
        let mut config = Arc::unwrap_or_clone(server.config(None));
        config.alpn_protocols = protocols;
        let text = fault(&target(&start(Arc::new(config)), "localhost", Some(&server.trust(None))));
        assert!(text.contains("no HTTP/2 in TLS"), "{text}");
    }
}
