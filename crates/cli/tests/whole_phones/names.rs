//! Calls by name: the proxy is found by the DNS (RFC 3263), or not, and then the end says so.
//!
//! ```text
//!   alice ── Internet ── proxy of example.test ── bob
//!              └─ a server of example.test that is not there
//! ```

use std::net::IpAddr;
use std::time::Duration;

use ringtrue_phone::event::{EndReason, Outcome};
use ringtrue_phone::settings::Login;
use ringtrue_phone::{EventKind, RecordKind, Settings};
use ringtrue_testnet::{NameService, TurnServer, Verdict};

use crate::stage::{PROXY, Place, STUN, Setup, Stage, TURN, WEB, at, is_response};

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

/// Whether alice's INVITE named a candidate of this type, and how long it took to leave.
fn offered(mut stage: Stage, kind: &'static str) -> (bool, Duration) {
    let (sent, seen) = std::sync::mpsc::channel();
    stage.tap(move |passing| {
        let text = String::from_utf8_lossy(passing.payload);
        if text.starts_with("INVITE") {
            let _ = sent.send(text.contains(kind));
        }
        Verdict::Pass
    });
    let dialled = stage.simulation.now();
    stage.dial();
    stage.run(10);
    let invited = at(stage.alice(), |kind| {
        matches!(kind, EventKind::Invite { .. })
    })
    .unwrap();
    (seen.recv().unwrap(), invited - dialled)
}

/// Alice is at home, her proxy is known; her domain is `example.test`.
fn discovering(names: NameService, alices: fn(&mut Settings)) -> Stage {
    let setup = Setup {
        names,
        alices,
        ..Setup::between(Place::PortRestricted, Place::Open)
    };
    setup.build()
}

fn discover_stun(settings: &mut Settings) {
    settings.aor = "sip:alice@example.test".to_owned();
    settings.stun_servers.clear();
    settings.discover_stun = true;
}

fn discover_turn(settings: &mut Settings) {
    settings.aor = "sip:alice@example.test".to_owned();
    settings.stun_servers.clear();
    settings.discover_turn = Some(Login {
        user: "phone".to_owned(),
        password: "secret".to_owned(),
    });
}

const STUN_SERVICE: &str = "_stun._udp.example.test";

#[test]
fn a_stun_server_found_by_srv_gives_a_server_reflexive_candidate() {
    let names = NameService::new()
        .with_delay(Duration::from_millis(100))
        .with_srv(STUN_SERVICE, (1, 1), "stun.example.test", 3478)
        .with_host("stun.example.test", STUN);
    let (reflexive, _) = offered(discovering(names, discover_stun), "typ srflx");
    assert!(reflexive);
    let (reflexive, took) = offered(discovering(NameService::new(), discover_stun), "typ srflx");
    assert!(!reflexive);
    assert!(took < Duration::from_millis(50), "{took:?}");
}

/// The DNS is asked at the start and never awaited past the gathering patience; and where another
/// server is known, that one still gets its time.
#[test]
fn a_silent_dns_delays_a_call_by_no_more_than_the_gathering_patience() {
    let silent = || NameService::new().silent();
    let dial_at_once = |alices: fn(&mut Settings), kind| {
        let setup = Setup {
            names: silent(),
            alices,
            warm_up: Duration::ZERO,
            ..Setup::between(Place::PortRestricted, Place::Open)
        };
        offered(setup.build(), kind)
    };
    let (_, took) = dial_at_once(discover_stun, "typ srflx");
    assert_eq!(took, Duration::from_millis(500));
    let (reflexive, took) = dial_at_once(
        |settings| {
            let stun = settings.stun_servers.clone();
            discover_turn(settings);
            settings.stun_servers = stun;
        },
        "typ srflx",
    );
    assert!(reflexive && took <= Duration::from_millis(500), "{took:?}");
    // After some seconds nothing is waited for.
    let mut stage = discovering(silent(), discover_stun);
    stage.run(5);
    let (_, took) = offered(stage, "typ srflx");
    assert!(took < Duration::from_millis(50), "{took:?}");
}

/// Sets that are kept warm were gathered before a slow DNS had told where the server is: they
/// make way for better ones.
#[test]
fn a_slow_dns_improves_the_sets_that_are_kept_warm() {
    let names = NameService::new()
        .with_delay(Duration::from_millis(900))
        .with_srv(STUN_SERVICE, (1, 1), "stun.example.test", 3478)
        .with_host("stun.example.test", STUN);
    let setup = Setup {
        names,
        bobs: |settings| {
            settings.aor = "sip:bob@example.test".to_owned();
            settings.stun_servers.clear();
            settings.discover_stun = true;
        },
        ..Setup::between(Place::Symmetric, Place::FullCone)
    };
    let mut stage = setup.build();
    stage.run(2);
    let (sent, seen) = std::sync::mpsc::channel();
    stage.tap(move |passing| {
        if is_response(passing.payload, 183) {
            let text = String::from_utf8_lossy(passing.payload).into_owned();
            let _ = sent.send(text.contains("typ srflx"));
        }
        Verdict::Pass
    });
    stage.dial();
    stage.run(10);
    assert!(seen.recv().unwrap());
}

#[test]
fn a_turn_server_found_by_srv_relays_for_those_who_have_credentials() {
    let names = || {
        NameService::new()
            .with_srv("_turn._udp.example.test", (1, 1), "turn.example.test", 3478)
            .with_host("turn.example.test", TURN)
    };
    for (alices, rings) in [
        (discover_turn as fn(&mut Settings), true),
        (discover_stun, false),
    ] {
        let setup = Setup {
            names: names(),
            alices,
            ..Setup::between(Place::Symmetric, Place::Symmetric)
        };
        let mut stage = setup.build();
        stage.dial();
        stage.run(20);
        assert_eq!(stage.rang(), rings, "{}", stage.story());
    }
}

/// A caller that hides its host address behind a name, as browsers do (`.local`), or has a domain
/// name there. RFC 8839 section 5.1: such candidates MUST be ignored; nobody looks the name up or
/// sends anything where it would lead. The others are as good as ever.
#[test]
fn candidates_with_names_are_ignored_and_do_no_harm() {
    const HOST: &str = "192.168.1.10";
    for name in ["alic10.local", "host.ex.test"] {
        assert_eq!(name.len(), HOST.len(), "Content-Length stays true");
        let setup = Setup {
            names: NameService::new().with_host(name, NOBODY),
            ..Setup::between(Place::PortRestricted, Place::PortRestricted)
        };
        let mut stage = setup.build();
        let (sent, seen) = std::sync::mpsc::channel();
        stage.tap(move |passing| {
            assert_ne!(passing.destination.ip(), IpAddr::from(NOBODY));
            let departs = passing.stage == ringtrue_testnet::Stage::Departure;
            let text = String::from_utf8_lossy(passing.payload);
            let is_sdp = text.starts_with("INVITE") && text.contains("a=candidate");
            if !(departs && is_sdp) {
                return Verdict::Pass;
            }
            let hidden: Vec<String> = text
                .split_inclusive('\n')
                .map(|line| match line.starts_with("a=candidate") {
                    true => line.replace(HOST, name),
                    false => line.to_owned(),
                })
                .collect();
            let hidden = hidden.concat();
            let _ = sent.send(hidden.contains(name));
            Verdict::Replace(hidden.into_bytes())
        });
        stage.dial();
        stage.run(10);
        assert!(seen.try_iter().any(|is_hidden| is_hidden));
        assert!(stage.rang(), "{}", stage.story());
        assert_heard(&stage);
    }
}

/// Where UDP is eaten the relay is found by `_turn._tcp`; where only the web passes, by
/// `_turns._tcp`, and its certificate has to be the domain's own (RFC 6125 section 6.2.1): what the
/// DNS says can be forged.
#[test]
fn turn_servers_by_tcp_and_tls_are_found_by_srv() {
    let by = |service: &str, port: u16| {
        NameService::new()
            .with_srv(service, (1, 1), "turn.example.test", port)
            .with_host("turn.example.test", TURN)
    };
    let (tcp, tls) = ("_turn._tcp.example.test", "_turns._tcp.example.test");
    for (place, names, certificate, rings) in [
        (Place::UdpEaten, by(tcp, 3478), "example.test", true),
        (Place::WebOnly, by(tls, WEB), "example.test", true),
        (Place::WebOnly, by(tls, WEB), "turn.example.test", false),
    ] {
        let setup = Setup {
            names,
            alices: discover_turn,
            turn: TurnServer::new("phone", "secret").with_tls(WEB, certificate),
            ..Setup::between(place, Place::Open)
        };
        let mut stage = setup.build();
        stage.dial();
        stage.run(20);
        assert_eq!(
            stage.rang(),
            rings,
            "{place:?} {certificate}\n{}",
            stage.story()
        );
    }
}
