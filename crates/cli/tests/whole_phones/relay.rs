//! Calls through a TURN server: where no direct path exists, and only there.

use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ringtrue_ice::CandidateType;
use ringtrue_phone::EventKind;
use ringtrue_phone::event::{Outcome, PathReport};
use ringtrue_phone::settings::IceUse;
use ringtrue_testnet::TurnServer;

use crate::stage::{Place, Setup, Stage, TURN, with_turn};

fn server() -> TurnServer {
    TurnServer::new("phone", "secret")
}

/// The selected path, as the caller tells it.
fn selected(stage: &Stage) -> Option<PathReport> {
    stage
        .alice()
        .events()
        .iter()
        .rev()
        .find_map(|event| match &event.kind {
            EventKind::PathSelected(path) => Some(path.clone()),
            _ => None,
        })
}

fn is_relayed(path: &PathReport) -> bool {
    [path.local_type, path.remote_type].contains(&CandidateType::Relayed)
}

fn both_heard(stage: &Stage) -> bool {
    let (at_bob, at_alice) = stage.heard();
    at_bob > 2.5 && at_alice > 2.5
}

#[test]
fn with_turn_every_pairing_is_connected_by_the_most_direct_path() {
    for alice in Place::WITH_UDP {
        for bob in Place::WITH_UDP {
            let mut stage = Setup {
                alices: with_turn,
                bobs: with_turn,
                ..Setup::between(alice, bob)
            }
            .build();
            stage.dial();
            stage.run(15);
            let story = format!("{alice:?} x {bob:?}\n{}", stage.story());
            assert!(stage.rang() && both_heard(&stage), "{story}");
            let path = selected(&stage).expect("a path is selected");
            assert_eq!(is_relayed(&path), !alice.reaches(bob), "{story}");
            assert_eq!(stage.outcome().unwrap().1, Outcome::Completed, "{story}");
        }
    }
}

/// One side's relay is enough, whichever side it is.
#[test]
fn one_relay_is_enough() {
    let setups = [
        Setup {
            alices: with_turn,
            ..Setup::between(Place::Symmetric, Place::Symmetric)
        },
        Setup {
            bobs: with_turn,
            ..Setup::between(Place::Symmetric, Place::Symmetric)
        },
    ];
    for setup in setups {
        let mut stage = setup.build();
        stage.dial();
        stage.run(15);
        assert!(stage.rang() && both_heard(&stage), "{}", stage.story());
    }
}

/// 2s + 3d + 50 ms, and Ta for each pair beyond two: host, server-reflexive and relayed remote
/// candidates with our socket, and what the relayed one of ours is paired with.
#[test]
fn a_relay_rings_within_the_budget() {
    for (s, d) in [(10, 10), (50, 50), (150, 150), (50, 20), (20, 80)] {
        let (signalling, media) = (Duration::from_millis(s), Duration::from_millis(d));
        let mut stage = Setup {
            srtp: ringtrue_phone::settings::SrtpUse::Off,
            signalling,
            media,
            alices: with_turn,
            bobs: with_turn,
            ..Setup::between(Place::Symmetric, Place::Symmetric)
        }
        .build();
        stage.dial();
        stage.run(12);
        let pairs = stage
            .alice()
            .events()
            .iter()
            .find_map(|event| match event.kind {
                EventKind::Checking { pairs } => Some(pairs),
                _ => None,
            });
        let further = u32::try_from(pairs.unwrap().saturating_sub(2)).unwrap();
        let budget = 2 * signalling
            + 3 * media
            + Duration::from_millis(50)
            + further * Duration::from_millis(20);
        let took = stage.ring_time().expect("bob rings");
        println!("s {s} d {d}: {took:?} of {budget:?}, {pairs:?} pairs");
        assert!(
            took <= budget,
            "s {s} d {d}: {took:?} of {budget:?}\n{}",
            stage.story()
        );
    }
}

#[test]
fn relay_only_shows_no_address_of_ours() {
    let relay_only = |settings: &mut ringtrue_phone::Settings| {
        with_turn(settings);
        settings.relay_only = true;
    };
    let mut stage = Setup {
        alices: relay_only,
        ..Setup::between(Place::Open, Place::Open)
    }
    .build();
    // Whatever comes out of bob's socket towards alice goes to the relay.
    stage.tap(|passing| {
        let alice: IpAddr = [203, 0, 113, 1].into();
        let bob: IpAddr = [203, 0, 113, 2].into();
        let between = [passing.source.ip(), passing.destination.ip()];
        assert!(
            between != [alice, bob] && between != [bob, alice],
            "a direct packet"
        );
        ringtrue_testnet::Verdict::Pass
    });
    stage.dial();
    stage.run(10);
    assert!(both_heard(&stage), "{}", stage.story());
    let path = selected(&stage).unwrap();
    assert_eq!(path.local_type, CandidateType::Relayed);
    assert_eq!(path.local.ip(), IpAddr::from(TURN));
}

#[test]
fn a_phone_without_ice_is_reached_by_the_relay_that_the_sdp_names() {
    let mut stage = Setup {
        srtp: ringtrue_phone::settings::SrtpUse::Off,
        alices: with_turn,
        bobs: |settings| settings.ice = IceUse::Off,
        ..Setup::between(Place::PortRestricted, Place::Open)
    }
    .build();
    stage.dial();
    stage.run(10);
    assert!(both_heard(&stage), "{}", stage.story());
    assert!(stage.relayed.load(Ordering::Relaxed) > 200);
}

#[test]
fn allocations_are_given_back_at_hang_up() {
    let mut stage = Setup {
        alices: with_turn,
        ..Setup::between(Place::Symmetric, Place::Symmetric)
    }
    .build();
    assert_eq!(stage.allocations.load(Ordering::Relaxed), 0);
    stage.dial();
    stage.run(2);
    assert!(stage.allocations.load(Ordering::Relaxed) > 0);
    stage.run(10);
    assert_eq!(stage.outcome().unwrap().1, Outcome::Completed);
    assert_eq!(stage.allocations.load(Ordering::Relaxed), 0);
}

/// Media goes by channels, permissions and the allocation are refreshed, stale nonces are
/// answered: eleven minutes outlive all of them.
#[test]
fn a_long_call_outlives_every_lifetime() {
    let mut stage = Setup {
        alices: |settings| {
            with_turn(settings);
            settings.duration = Some(Duration::from_secs(680));
        },
        bobs: |settings| settings.duration = None,
        turn: server().with_nonce_lifetime(Duration::from_secs(100)),
        ..Setup::between(Place::Symmetric, Place::Symmetric)
    }
    .build();
    stage.dial();
    stage.run(700);
    let (at_bob, at_alice) = stage.heard();
    assert!(at_bob > 675.0 && at_alice > 675.0, "{at_bob} {at_alice}");
    assert_eq!(stage.outcome().unwrap().1, Outcome::Completed);
}

/// coturn deletes an allocation when it cannot send to a peer: another one takes its place.
#[test]
fn a_lost_allocation_is_replaced() {
    let bobs_nat: fn(IpAddr) -> bool = |ip| ip == IpAddr::from([203, 0, 113, 2]);
    let mut stage = Setup {
        alices: with_turn,
        bobs: with_turn,
        turn: server().losing_allocations_towards(bobs_nat),
        ..Setup::between(Place::Symmetric, Place::Symmetric)
    }
    .build();
    stage.dial();
    stage.run(15);
    assert!(stage.rang() && both_heard(&stage), "{}", stage.story());
}

#[test]
fn wrong_credentials_cost_a_relay_and_nothing_else() {
    let mut stage = Setup {
        alices: |settings| {
            with_turn(settings);
            settings.turn_servers[0].password = "wrong".to_owned();
        },
        ..Setup::between(Place::PortRestricted, Place::PortRestricted)
    }
    .build();
    stage.dial();
    stage.run(10);
    assert!(both_heard(&stage), "{}", stage.story());
    assert!(!is_relayed(&selected(&stage).unwrap()));
}
