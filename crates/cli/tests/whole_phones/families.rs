//! A phone with IPv6 alone and one with IPv4 alone: a relay of either speaks both (RFC 8656
//! section 7.2).
//!
//!   alice 2001:db8::… ──┬── TURN server, of both families ──┬── NAT ── bob 10.0.0.20
//!                       └───────────── proxy ───────────────┘

use std::sync::atomic::Ordering;
use std::time::Duration;

use ringtrue_ice::CandidateType;
use ringtrue_phone::Settings;
use ringtrue_phone::event::{Outcome, PathReport};
use ringtrue_phone::settings::TurnTransport;
use ringtrue_phone::{EventKind, settings};

use crate::stage::{Place, Setup, Stage, TURN, ipv6, turn_server, with_turn};

fn add_ipv6(settings: &mut Settings, transport: TurnTransport) {
    settings.turn_servers.push(settings::TurnServer {
        address: format!("[{}]", ipv6(TURN)),
        transport,
        user: "phone".to_owned(),
        password: "secret".to_owned(),
    });
}

/// The server as a phone with IPv6 alone reaches it.
fn with_turn_by_ipv6(settings: &mut Settings) {
    add_ipv6(settings, TurnTransport::Udp);
}

fn with_turn_by_ipv6_and_tcp(settings: &mut Settings) {
    add_ipv6(settings, TurnTransport::Tcp);
}

fn both_families() -> ringtrue_testnet::TurnServer {
    turn_server()
        .with_ipv4(TURN.into())
        .with_ipv6(ipv6(TURN).into())
}

fn selected(stage: &Stage) -> PathReport {
    let mut events = stage.alice().events().iter().rev();
    let selected = events.find_map(|event| match &event.kind {
        EventKind::PathSelected(path) => Some(path.clone()),
        _ => None,
    });
    selected.expect("a path is selected")
}

/// A call, after which the pool of bob's phone holds so many allocations for the next one.
fn talks(setup: Setup, left: usize) {
    let told = format!("{:?} x {:?}", setup.alice, setup.bob);
    let mut stage = setup.build();
    stage.dial();
    stage.run(20);
    let story = format!("{told}\n{}", stage.story());
    let (at_bob, at_alice) = stage.heard();
    assert!(stage.rang() && at_bob > 2.5 && at_alice > 2.5, "{story}");
    let path = selected(&stage);
    let types = [path.local_type, path.remote_type];
    assert!(types.contains(&CandidateType::Relayed), "{story}");
    assert_eq!(stage.outcome().unwrap().1, Outcome::Completed, "{story}");
    assert_eq!(stage.allocations.load(Ordering::Relaxed), left, "{story}");
    let took = stage.ring_time().expect("bob rings");
    assert!(took <= Duration::from_millis(700), "{took:?}\n{story}");
}

fn nothing(_: &mut Settings) {}

#[test]
fn a_phone_with_ipv6_alone_reaches_ipv4_by_its_relay() {
    for bob in Place::WITH_UDP {
        for alices in [with_turn_by_ipv6, with_turn_by_ipv6_and_tcp] {
            talks(
                Setup {
                    alices,
                    bobs: nothing,
                    turn: both_families(),
                    ..Setup::between(Place::Ipv6Only, bob)
                },
                0,
            );
        }
    }
}

#[test]
fn a_phone_with_ipv4_alone_reaches_ipv6_by_its_relay() {
    for alice in Place::WITH_UDP {
        talks(
            Setup {
                alices: with_turn,
                bobs: nothing,
                turn: both_families(),
                ..Setup::between(alice, Place::Ipv6Only)
            },
            0,
        );
    }
}

#[test]
fn the_relay_may_be_the_callees() {
    for alice in Place::WITH_UDP {
        talks(
            Setup {
                alices: nothing,
                bobs: with_turn_by_ipv6,
                turn: both_families(),
                ..Setup::between(alice, Place::Ipv6Only)
            },
            2,
        );
    }
    for bob in Place::WITH_UDP {
        talks(
            Setup {
                alices: nothing,
                bobs: with_turn,
                turn: both_families(),
                ..Setup::between(Place::Ipv6Only, bob)
            },
            2,
        );
    }
}

#[test]
fn both_may_have_one() {
    for bob in Place::WITH_UDP {
        talks(
            Setup {
                alices: with_turn_by_ipv6,
                bobs: with_turn,
                turn: both_families(),
                ..Setup::between(Place::Ipv6Only, bob)
            },
            2,
        );
    }
}

/// Without a relay, or with one that has one family alone, there is no path, and nobody's phone
/// rings.
#[test]
fn without_such_a_relay_nothing_rings() {
    let one_family = || turn_server().with_ipv4(TURN.into()).refusing(|_| Some(440));
    for (alices, turn) in [
        (nothing as fn(&mut Settings), both_families()),
        (with_turn_by_ipv6, turn_server()),
        (with_turn_by_ipv6, one_family()),
    ] {
        let mut stage = Setup {
            alices,
            turn,
            ..Setup::between(Place::Ipv6Only, Place::Open)
        }
        .build();
        stage.dial();
        stage.run(20);
        assert!(!stage.rang(), "{}", stage.story());
        assert_eq!(stage.outcome().unwrap().1, Outcome::NoMediaPath);
    }
}
