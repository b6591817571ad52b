//! Calls by name: the proxy is found by the DNS (RFC 3263), or not, and then the end says so.
//!
//! ```text
//!   alice ── Internet ── proxy of example.test ── bob
//!              └─ a server of example.test that is not there
//! ```

use std::time::Duration;

use ringtrue_phone::event::{EndReason, Outcome};
use ringtrue_phone::{EventKind, RecordKind, Settings};
use ringtrue_testnet::NameService;

use crate::stage::{PROXY, Place, Setup, Stage, at};

/// An address where nobody is.
const NOBODY: [u8; 4] = [198, 51, 100, 99];
const SIP: &str = "_sip._udp.example.test";

/// No proxy in the settings: the domain says where it is.
fn by_domain(name: &str, settings: &mut Settings) {
    settings.aor = format!("sip:{name}@example.test");
    settings.proxy = None;
}

fn setup(names: NameService) -> Setup {
    Setup {
        names,
        alices: |settings| by_domain("alice", settings),
        bobs: |settings| by_domain("bob", settings),
        ..Setup::between(Place::PortRestricted, Place::PortRestricted)
    }
}

fn called(names: NameService) -> Stage {
    let mut stage = setup(names).build();
    stage.dial_to("sip:bob@example.test");
    stage.run(40);
    stage
}

fn words(stage: &Stage) -> String {
    let ended = stage
        .alice()
        .events()
        .iter()
        .find_map(|event| match &event.kind {
            EventKind::Ended { words, .. } => words.clone(),
            _ => None,
        });
    ended.unwrap_or_default()
}

fn assert_heard(stage: &Stage) {
    let (at_bob, at_alice) = stage.heard();
    assert!(at_bob > 2.5 && at_alice > 2.5, "{}", stage.story());
    assert_eq!(stage.outcome().map(|end| end.1), Some(Outcome::Completed));
}

#[test]
fn registrar_and_proxy_are_found_by_srv() {
    let names = NameService::new()
        .with_delay(Duration::from_millis(40))
        .with_srv(SIP, (1, 1), "proxy.example.test", 5060)
        .with_host("proxy.example.test", PROXY);
    assert_heard(&called(names));
}

#[test]
fn naptr_decides_for_tcp_and_the_registrar_reaches_us_by_it() {
    let names = NameService::new()
        .with_naptr("example.test", (1, 2), "SIP+D2U", SIP)
        .with_naptr("example.test", (1, 1), "SIP+D2T", "_sip._tcp.example.test")
        .with_srv(SIP, (1, 1), "nobody.example.test", 5060)
        .with_srv("_sip._tcp.example.test", (1, 1), "proxy.example.test", 5060)
        .with_host("nobody.example.test", NOBODY)
        .with_host("proxy.example.test", PROXY);
    assert_heard(&called(names));
}

#[test]
fn a_domain_without_services_is_a_host() {
    assert_heard(&called(NameService::new().with_host("example.test", PROXY)));
}

#[test]
fn a_call_goes_on_to_the_second_server_when_the_first_is_silent() {
    let names = NameService::new()
        .with_srv(SIP, (1, 1), "nobody.example.test", 5060)
        .with_srv(SIP, (2, 1), "proxy.example.test", 5060)
        .with_host("nobody.example.test", NOBODY)
        .with_host("proxy.example.test", PROXY);
    let mut stage = setup(names).build();
    // Until bob is registered.
    stage.run(5);
    stage.dial_to("sip:bob@example.test");
    stage.run(20);
    assert_heard(&stage);
    let since = |kind: fn(&EventKind) -> bool| at(stage.alice(), kind).unwrap();
    let rang = since(|kind| matches!(kind, EventKind::Ringing { .. }));
    let invited = since(|kind| matches!(kind, EventKind::Invite { .. }));
    assert!(rang - invited < Duration::from_secs(5));
}

#[test]
fn names_that_lead_nowhere_end_the_call_with_a_reason() {
    let missing = called(NameService::new());
    let end = Some((EndReason::Network, Outcome::Network, None));
    assert_eq!(missing.outcome(), end);
    assert_eq!(
        words(&missing),
        "cannot find example.test: the DNS knows no address of it"
    );
    let registration = |kind: &EventKind| {
        matches!(kind, EventKind::RegistrationFailed { status: None, reason }
            if reason == "cannot find example.test: the DNS knows no address of it")
    };
    assert!(missing.alice().event(registration).is_some());

    let silent = called(NameService::new().silent());
    assert_eq!(silent.outcome(), end);
    assert!(words(&silent).contains("no DNS server gave an answer in time"));
    let since = |kind: fn(&EventKind) -> bool| at(silent.alice(), kind).unwrap();
    let ended = since(|kind| matches!(kind, EventKind::Ended { .. }));
    let invited = since(|kind| matches!(kind, EventKind::Invite { .. }));
    assert!(ended - invited <= Duration::from_secs(5));
}

#[test]
fn a_server_whose_address_is_not_told_holds_nobody_up_for_long() {
    let names = NameService::new()
        .with_srv(SIP, (1, 1), "mute.example.test", 5060)
        .with_srv(SIP, (2, 1), "proxy.example.test", 5060)
        .with_host("proxy.example.test", PROXY)
        .silent_about(RecordKind::Address, "mute.example.test");
    let mut stage = setup(names).build();
    stage.run(5);
    stage.dial_to("sip:bob@example.test");
    stage.run(20);
    assert_heard(&stage);
}
