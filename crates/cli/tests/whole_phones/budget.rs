//! The call-setup budget, to the millisecond: INVITE to ring, and pick-up to the first voice.

use std::time::Duration;

use ringtrue_media::Codec;
use ringtrue_phone::EventKind;
use ringtrue_phone::settings::SrtpUse;

use crate::keys::secured;

use crate::stage::{ALICE_TONE, BOB_TONE, Place, Setup, at, first_heard};

/// One-way delays of signalling and media, in milliseconds.
const DELAYS: [(u64, u64); 5] = [(10, 10), (50, 50), (150, 150), (50, 20), (20, 80)];

/// With the caller's mapping endpoint-independent the callee's first check arrives as soon as
/// the caller has sent towards it: max(s + 2d, 2s + d) + 50 ms; with a symmetric caller only its
/// own check tells the callee where it is: 2s + 3d + 50 ms.
fn budget(alice: Place, s: Duration, d: Duration) -> Duration {
    let slack = Duration::from_millis(50);
    if alice == Place::Symmetric {
        2 * s + 3 * d + slack
    } else {
        (s + 2 * d).max(2 * s + d) + slack
    }
}

#[test]
fn the_phone_rings_within_the_budget() {
    check(SrtpUse::Off, 0);
}

/// The handshake runs over the proven path, and costs its two round trips.
#[test]
fn with_keys_it_rings_four_delays_later_at_most() {
    check(SrtpUse::Optional, 4);
}

fn check(srtp: SrtpUse, delays_for_keys: u32) {
    let mut misses = Vec::new();
    let mut calls = 0;
    for (s, d) in DELAYS {
        for alice in Place::WITH_UDP {
            for bob in Place::WITH_UDP
                .into_iter()
                .filter(|bob| alice.reaches(*bob))
            {
                let signalling = Duration::from_millis(s);
                let media = Duration::from_millis(d);
                let mut stage = Setup {
                    signalling,
                    media,
                    srtp,
                    alices: if srtp == SrtpUse::Off {
                        |_| {}
                    } else {
                        // An INVITE that fits a datagram; longer ones go by TCP, at a cost of its own.
                        |settings| settings.codecs = vec![Codec::Pcmu]
                    },
                    ..Setup::between(alice, bob)
                }
                .build();
                stage.dial();
                stage.run(12);
                calls += 1;
                let limit = budget(alice, signalling, media) + delays_for_keys * media;
                let took = stage.ring_time();
                let has_keys = secured(stage.alice()).is_some() && secured(stage.bob()).is_some();
                assert_eq!(has_keys, srtp != SrtpUse::Off, "{}", stage.story());
                if took.is_none_or(|took| took > limit) {
                    misses.push(format!(
                        "{alice:?} x {bob:?}, s {s} d {d}: {took:?}, budget {limit:?}\n{}",
                        stage.story()
                    ));
                }
            }
        }
    }
    println!("{calls} calls");
    assert!(
        misses.is_empty(),
        "{} misses of {calls}:\n{}",
        misses.len(),
        misses.join("\n")
    );
}

#[test]
fn the_first_frame_is_heard_within_a_frame_and_20_ms_of_the_pick_up() {
    let frame = Duration::from_millis(20);
    let slack = Duration::from_millis(20);
    for (s, d) in DELAYS {
        let signalling = Duration::from_millis(s);
        let media = Duration::from_millis(d);
        let mut stage = Setup {
            signalling,
            media,
            ..Setup::between(Place::PortRestricted, Place::PortRestricted)
        }
        .build();
        stage.dial();
        stage.run(8);
        let answered = |kind: &EventKind| matches!(kind, EventKind::Answered { .. });
        let picked_up = at(stage.bob(), answered).expect("bob picks up");
        let told = at(stage.alice(), answered).expect("alice is told");
        let received = |kind: &EventKind| {
            matches!(
                kind,
                EventKind::Media {
                    direction: ringtrue_phone::event::MediaDirection::Received
                }
            )
        };
        // What was promised is the arrival of the frame; playing it adds the jitter buffer.
        let at_alice = at(stage.alice(), received).expect("alice receives");
        let at_bob = at(stage.bob(), received).expect("bob receives");
        // Alice's speaker opens with the 200, so what came before it counts from there.
        let due = (picked_up + media).max(told) + frame + slack;
        assert!(at_alice <= due, "s {s} d {d}: late by {:?}", at_alice - due);
        let due = told + media + frame + slack;
        assert!(at_bob <= due, "s {s} d {d}: late by {:?}", at_bob - due);
        assert!(first_heard(stage.alice(), BOB_TONE).is_some());
        assert!(first_heard(stage.bob(), ALICE_TONE).is_some());
    }
}
