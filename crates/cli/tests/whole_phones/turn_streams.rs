//! Calls through a TURN server that is reached by TCP or TLS, because nothing else passes.

use std::sync::atomic::Ordering;
use std::time::Duration;

use ringtrue_ice::CandidateType;
use ringtrue_phone::event::Outcome;
use ringtrue_phone::settings::TurnTransport;
use ringtrue_phone::{EventKind, Settings};

use crate::stage::{Place, Setup, Stage, WEB, add_turn, with_turn};
use crate::talk::{
    assert_ends_in_order, assert_no_gap, gaps, restart, selections, talking_as_set_up,
};

/// The server in every way that there is, and no TCP to the peer itself.
fn every_way(settings: &mut Settings) {
    settings.ice_tcp = false;
    with_turn(settings);
    add_turn(settings, TurnTransport::Tcp, None);
    add_turn(settings, TurnTransport::Tls, Some(WEB));
}

fn relayed(stage: &Stage) -> Option<bool> {
    let events = stage.alice().events().iter().rev();
    let mut paths = events.filter_map(|event| match &event.kind {
        EventKind::PathSelected(path) => Some([path.local_type, path.remote_type]),
        _ => None,
    });
    paths
        .next()
        .map(|types| types.contains(&CandidateType::Relayed))
}

/// Wherever the two are, they hear each other: directly where that goes, else by UDP, TCP or TLS.
#[test]
fn no_place_is_without_a_path() {
    let places = [
        Place::Open,
        Place::PortRestricted,
        Place::Symmetric,
        Place::UdpEaten,
        Place::WebOnly,
    ];
    for alice in places {
        for bob in places {
            let mut stage = Setup {
                alices: every_way,
                bobs: every_way,
                ..Setup::between(alice, bob)
            }
            .build();
            stage.dial();
            stage.run(20);
            let story = format!("{alice:?} x {bob:?}\n{}", stage.story());
            let (at_bob, at_alice) = stage.heard();
            assert!(stage.rang() && at_bob > 2.5 && at_alice > 2.5, "{story}");
            assert_eq!(relayed(&stage), Some(!alice.reaches(bob)), "{story}");
            assert_eq!(stage.outcome().unwrap().1, Outcome::Completed, "{story}");
        }
    }
}

/// The same with time to gather: a connection and an allocation by it take four round trips, which
/// a far server does not do within the usual patience.
fn every_way_in_time(settings: &mut Settings) {
    every_way(settings);
    settings.gather_patience = Duration::from_secs(1);
}

/// 2s + 3d + 50 ms and Ta for each pair beyond two, as by UDP: connections stand before the INVITE.
#[test]
fn a_relay_by_tls_rings_within_the_budget() {
    for (s, d) in [(10, 10), (50, 50), (150, 150), (50, 20), (20, 80)] {
        let (signalling, media) = (Duration::from_millis(s), Duration::from_millis(d));
        let mut stage = Setup {
            srtp: ringtrue_phone::settings::SrtpUse::Off,
            signalling,
            media,
            alices: every_way_in_time,
            bobs: every_way_in_time,
            ..Setup::between(Place::WebOnly, Place::WebOnly)
        }
        .build();
        stage.dial();
        stage.run(12);
        let pairs = stage.alice().events().iter().find_map(|event| {
            let EventKind::Checking { pairs } = event.kind else {
                return None;
            };
            Some(pairs)
        });
        let further = u32::try_from(pairs.unwrap().saturating_sub(2)).unwrap();
        let ta = Duration::from_millis(20);
        let budget = 2 * signalling + 3 * media + Duration::from_millis(50) + further * ta;
        let took = stage.ring_time().expect("bob rings");
        println!("s {s} d {d}: {took:?} of {budget:?}, {pairs:?} pairs");
        assert!(took <= budget, "s {s} d {d}\n{}", stage.story());
    }
}

/// Without TLS in the settings a network of that kind has no path, and nobody's phone rings.
#[test]
fn without_a_way_out_nothing_rings() {
    let mut stage = Setup {
        alices: with_turn,
        bobs: with_turn,
        ..Setup::between(Place::WebOnly, Place::Open)
    }
    .build();
    stage.dial();
    stage.run(20);
    assert!(!stage.rang(), "{}", stage.story());
    assert_eq!(stage.outcome().unwrap().1, Outcome::NoMediaPath);
}

/// After the call the server holds what the pool of bob's phone needs for the next one, no more.
#[test]
fn allocations_are_given_back() {
    let mut stage = Setup {
        alices: every_way,
        ..Setup::between(Place::WebOnly, Place::Open)
    }
    .build();
    stage.dial();
    stage.run(3);
    assert!(stage.allocations.load(Ordering::Relaxed) > 0);
    stage.run(17);
    assert_eq!(stage.outcome().unwrap().1, Outcome::Completed);
    assert_eq!(stage.allocations.load(Ordering::Relaxed), 0);
}

/// Alice's call by TLS, which goes on until somebody hangs up.
fn talking_by_tls() -> Stage {
    talking_as_set_up(Setup {
        alices: |settings| {
            every_way_in_time(settings);
            settings.duration = None;
        },
        bobs: |settings| settings.duration = None,
        ..Setup::between(Place::WebOnly, Place::PortRestricted)
    })
}

/// Candidates are gathered anew, but the connection and the allocation in use stay.
#[test]
fn a_restart_keeps_the_connection_in_use() {
    for by_alice in [true, false] {
        let mut stage = talking_by_tls();
        let since = stage.simulation.now();
        assert_eq!(stage.allocations.load(Ordering::Relaxed), 1);
        let host = if by_alice { stage.alice } else { stage.bob };
        restart(&mut stage, host);
        stage.run(40);
        assert_eq!(selections(stage.alice()), 2, "{}", stage.story());
        assert_eq!(stage.allocations.load(Ordering::Relaxed), 1);
        assert_no_gap(&stage, since);
        assert_ends_in_order(&mut stage);
        assert_eq!(stage.allocations.load(Ordering::Relaxed), 0);
    }
}

/// The TURN server starts anew and takes its connections with it: another one, and a restart of ICE
/// by it, bring the call back.
#[test]
fn a_turn_server_that_restarts_is_reached_again() {
    let mut stage = talking_by_tls();
    let at = stage.simulation.now();
    stage.turn_reboots.fetch_add(1, Ordering::Relaxed);
    stage.run(20);
    println!("gaps: {:?}", gaps(&stage, at));
    // A connection, a stale nonce and an allocation: four round trips of 50 ms to the server; then
    // two between the phones, and 300 ms.
    let usable = at + Duration::from_millis(4 * 50);
    assert_no_gap(&stage, usable + Duration::from_millis(500));
    assert_eq!(stage.allocations.load(Ordering::Relaxed), 1);
    assert_ends_in_order(&mut stage);
    assert_eq!(stage.allocations.load(Ordering::Relaxed), 0);
}
