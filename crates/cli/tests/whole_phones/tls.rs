//! Signalling by TLS: through the proxy, whose certificate is for its name, and from phone to phone.
//!
//! ```text
//!   alice ── NAT ── Internet ── proxy of example.test, by TLS alone ── NAT ── bob
//! ```

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringtrue_phone::event::{EndReason, Outcome};
use ringtrue_phone::{EventKind, Settings};
use ringtrue_testnet::{NameService, Verdict};

use crate::stage::{DOMAIN, PROXY, Place, Setup, Stage, rang};

fn names() -> NameService {
    NameService::new()
        .with_host("sip.example.test", PROXY)
        .with_srv("_sips._tcp.example.test", (0, 0), "sip.example.test", 5061)
}

/// An account of the domain, whose proxy is reached by TLS.
fn by_tls(name: &str, settings: &mut Settings) {
    settings.aor = format!("sip:{name}@{DOMAIN}");
    settings.proxy = Some(format!("sip:{DOMAIN};transport=tls"));
}

fn setup(alice: Place, bob: Place) -> Setup {
    Setup {
        names: names(),
        alices: |settings| by_tls("alice", settings),
        bobs: |settings| by_tls("bob", settings),
        ..Setup::between(alice, bob)
    }
}

/// Notes every SIP message that leaves in a datagram.
fn in_clear(stage: &mut Stage) -> Arc<Mutex<Vec<String>>> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    stage.tap(move |passing| {
        if passing.source.port() == 5060 || passing.destination.port() == 5060 {
            log.lock()
                .unwrap()
                .push(String::from_utf8_lossy(passing.payload).into_owned());
        }
        Verdict::Pass
    });
    seen
}

fn assert_heard(stage: &Stage) {
    let (at_bob, at_alice) = stage.heard();
    assert!(at_bob > 2.5 && at_alice > 2.5, "{}", stage.story());
    assert_eq!(stage.outcome().map(|end| end.1), Some(Outcome::Completed));
    let verified = rang(stage.bob())
        .is_some_and(|event| matches!(event.kind, EventKind::Ringing { verified: true, .. }));
    assert!(verified, "{}", stage.story());
}

/// Bob accepts nothing: the proxy reaches him by the connection that he registered by.
#[test]
fn calls_through_a_proxy_by_tls_ring_and_are_heard() {
    for (place, target) in [
        (Place::Open, "sip:bob@example.test"),
        (Place::PortRestricted, "sip:bob@example.test"),
        (Place::PortRestricted, "sips:bob@example.test"),
    ] {
        let mut stage = setup(place, place).build();
        let clear = in_clear(&mut stage);
        stage.dial_to(target);
        stage.run(20);
        assert_heard(&stage);
        let clear = clear.lock().unwrap();
        assert!(clear.is_empty(), "{place:?} {target}: {clear:#?}");
    }
}

/// The NAT before bob forgets his connection: he notices by the keepalives, registers anew, and can
/// be called again.
#[test]
fn a_connection_that_the_nat_forgot_is_opened_anew() {
    let mut stage = setup(Place::Open, Place::PortRestricted).build();
    let gateway = stage.simulation.world().gateways().next().unwrap().0;
    // So that bob knows that the proxy answers keepalives.
    stage.run(60);
    stage.simulation.world_mut().reboot(gateway);
    stage.run(60);
    stage.dial_to("sip:bob@example.test");
    stage.run(20);
    assert_heard(&stage);
}

/// RFC 5922: the DNS may lead anywhere, the certificate must be that of the domain.
#[test]
fn a_proxy_with_another_certificate_is_told_nothing() {
    let mut stage = Setup {
        certificate: "sip.example.test",
        ..setup(Place::Open, Place::Open)
    }
    .build();
    stage.dial_to("sip:bob@example.test");
    stage.run(20);
    let ended = stage
        .outcome()
        .map(|(reason, outcome, _)| (reason, outcome));
    assert_eq!(
        ended,
        Some((EndReason::Network, Outcome::Network)),
        "{}",
        stage.story()
    );
    let registered = |kind: &EventKind| matches!(kind, EventKind::Registered { .. });
    assert!(stage.bob().event(registered).is_none());
    assert!(rang(stage.bob()).is_none());
}

/// Bob has a certificate for his address; alice has none, and accepts nothing.
#[test]
fn phones_call_each_other_by_tls_without_a_proxy() {
    let mut stage = Setup {
        alices: |settings| {
            settings.proxy = None;
            settings.register = false;
        },
        bobs: |settings| {
            settings.register = false;
            settings.tls_sockets = vec!["0.0.0.0:5061".parse().unwrap()];
        },
        ..Setup::between(Place::FullCone, Place::Open)
    }
    .build();
    let clear = in_clear(&mut stage);
    stage.dial_to("sips:bob@203.0.113.2");
    stage.run(20);
    assert_heard(&stage);
    // Bob hangs up by alice's own connection.
    stage.dial_to("sips:bob@203.0.113.2");
    stage.run(3);
    let now = stage.simulation.now();
    let last = stage.bob().events().iter().rev();
    let call = last.filter_map(|event| event.call.clone()).next().unwrap();
    let bob = stage.bob;
    stage
        .simulation
        .node_mut(bob)
        .phone()
        .hang_up(now, call.key);
    stage.simulation.settle();
    stage.simulation.run_for(Duration::from_secs(1));
    let ends = |kind: &EventKind| matches!(kind, EventKind::Ended { .. });
    let ended = stage.alice().events().iter().filter(|e| ends(&e.kind));
    assert_eq!(ended.count(), 2, "{}", stage.story());
    let clear = clear.lock().unwrap();
    assert!(clear.is_empty(), "{clear:#?}");
}

/// A domain whose NAPTR records prefer TLS is called by TLS, without a word in the settings.
#[test]
fn a_domain_that_prefers_tls_is_called_by_tls() {
    let mut stage = Setup {
        names: names()
            .with_naptr(DOMAIN, (1, 1), "SIPS+D2T", "_sips._tcp.example.test")
            .with_host(DOMAIN, PROXY),
        alices: |settings| {
            by_tls("alice", settings);
            settings.proxy = None;
        },
        bobs: |settings| {
            by_tls("bob", settings);
            settings.proxy = None;
        },
        ..Setup::between(Place::PortRestricted, Place::PortRestricted)
    }
    .build();
    let clear = in_clear(&mut stage);
    stage.dial_to("sip:bob@example.test");
    stage.run(20);
    assert_heard(&stage);
    assert!(clear.lock().unwrap().is_empty());
}
