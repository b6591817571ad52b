//! Whole calls: every pairing of NATs, ICE on one side only, and who hangs up.

use std::time::Duration;

use ringtrue_media::Codec;
use ringtrue_phone::event::{CallRole, EndReason, Outcome};
use ringtrue_phone::settings::{AnswerWhen, IceUse, RingWhen};
use ringtrue_phone::{EventKind, Settings};

use crate::stage::{Place, Setup, outcome};

#[test]
fn every_pairing_with_a_path_is_heard_both_ways() {
    for alice in Place::WITH_UDP {
        for bob in Place::WITH_UDP {
            let mut stage = Setup::between(alice, bob).build();
            stage.dial();
            stage.run(15);
            let (at_bob, at_alice) = stage.heard();
            let heard = at_bob > 2.5 && at_alice > 2.5;
            assert_eq!(
                stage.rang(),
                alice.reaches(bob),
                "{alice:?} x {bob:?}\n{}",
                stage.story()
            );
            assert_eq!(
                heard,
                alice.reaches(bob),
                "{alice:?} x {bob:?}\n{}",
                stage.story()
            );
        }
    }
}

#[test]
fn the_ring_is_verified_for_both() {
    let mut stage = Setup::between(Place::PortRestricted, Place::PortRestricted).build();
    stage.dial();
    stage.run(10);
    for (phone, wanted) in [
        (stage.alice(), CallRole::Caller),
        (stage.bob(), CallRole::Callee),
    ] {
        let order: Vec<&str> = phone
            .events()
            .iter()
            .filter_map(|event| match &event.kind {
                EventKind::PathValidated(_) => Some("validated"),
                EventKind::Ringing { role, verified } => {
                    assert_eq!((*role, *verified), (wanted, true));
                    Some("ringing")
                }
                EventKind::Answered { .. } => Some("answered"),
                EventKind::Ended { .. } => Some("ended"),
                _ => None,
            })
            .collect();
        assert_eq!(
            order,
            ["validated", "ringing", "answered", "ended"],
            "{}",
            stage.story()
        );
    }
    assert_eq!(stage.outcome().map(|end| end.1), Some(Outcome::Completed));
    assert_eq!(
        outcome(stage.bob()).map(|end| end.1),
        Some(Outcome::Completed)
    );
}

/// After nomination the controlling side says in a re-INVITE where media goes now.
#[test]
fn the_selected_pair_is_told_in_a_re_invite() {
    let mut stage = Setup {
        alices: |settings| settings.duration = Some(Duration::from_secs(6)),
        ..Setup::between(Place::PortRestricted, Place::Open)
    }
    .build();
    let invites = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let (log, bob) = (std::sync::Arc::clone(&invites), stage.bob);
    stage.tap(move |passing| {
        if passing.receiver == Some(bob) && passing.payload.starts_with(b"INVITE ") {
            let text = String::from_utf8_lossy(passing.payload).into_owned();
            log.lock().unwrap().push(text);
        }
        ringtrue_testnet::Verdict::Pass
    });
    stage.dial();
    stage.run(12);
    assert_eq!(
        stage.outcome().map(|end| end.1),
        Some(Outcome::Completed),
        "{}",
        stage.story()
    );
    for invite in invites.lock().unwrap().iter().skip(1) {
        assert!(invite.contains("a=remote-candidates:1 "), "{invite}");
        assert_eq!(invite.matches("a=candidate:").count(), 1, "{invite}");
    }
}

#[test]
fn a_caller_without_ice_rings_unverified() {
    let mut stage = Setup {
        alices: |settings| settings.ice = IceUse::Off,
        ..Setup::default()
    }
    .build();
    stage.dial();
    stage.run(8);
    for phone in [stage.alice(), stage.bob()] {
        let ringing = phone.event(|kind| {
            matches!(
                kind,
                EventKind::Ringing {
                    verified: false,
                    ..
                }
            )
        });
        assert!(ringing.is_some(), "{}", stage.story());
    }
    let (bob, alice) = stage.heard();
    assert!(bob > 2.5 && alice > 2.5, "{}", stage.story());
}

#[test]
fn a_caller_without_ice_is_refused_where_ice_is_required() {
    let mut stage = Setup {
        alices: |settings| settings.ice = IceUse::Off,
        bobs: |settings| settings.ice = IceUse::Required,
        ..Setup::default()
    }
    .build();
    stage.dial();
    stage.run(8);
    assert!(!stage.rang(), "{}", stage.story());
    let (reason, outcome, status) = stage.outcome().unwrap();
    assert_eq!(
        (outcome, status),
        (Outcome::Refused, Some(421)),
        "{reason:?}"
    );
    let told = stage.alice().event(
        |kind| matches!(kind, EventKind::Ended { words: Some(words), .. } if words.contains("ICE")),
    );
    assert!(told.is_some(), "alice reads why\n{}", stage.story());
}

/// A callee without ICE: the caller hears of the ringing at once, as unverified.
#[test]
fn a_callee_without_ice_is_called_unverified() {
    let mut stage = Setup {
        bobs: |settings| settings.ice = IceUse::Off,
        ..Setup::default()
    }
    .build();
    stage.dial();
    stage.run(8);
    let ringing = stage.alice().event(|kind| {
        matches!(
            kind,
            EventKind::Ringing {
                verified: false,
                ..
            }
        )
    });
    assert!(ringing.is_some(), "{}", stage.story());
    let (bob, alice) = stage.heard();
    assert!(bob > 2.5 && alice > 2.5, "{}", stage.story());
}

/// The ordinary phone of the demo: rings at once, and where there is no path stays up dead.
#[test]
fn the_ordinary_phone_ghost_rings() {
    let at_once = |settings: &mut ringtrue_phone::Settings| settings.ring = RingWhen::AtOnce;
    let mut stage = Setup {
        alices: at_once,
        bobs: at_once,
        ..Setup::between(Place::Symmetric, Place::Symmetric)
    }
    .build();
    stage.dial();
    stage.run(30);
    assert!(stage.rang(), "{}", stage.story());
    assert_eq!(stage.heard(), (0.0, 0.0));
    let answered = stage
        .alice()
        .event(|kind| matches!(kind, EventKind::Answered { .. }));
    assert!(answered.is_some(), "{}", stage.story());
}

/// `ring = "prefer-verified"`: rings after the patience all the same, and says so.
#[test]
fn prefer_verified_rings_after_the_patience() {
    let mut stage = Setup {
        bobs: |settings| settings.ring = RingWhen::PreferVerified,
        ..Setup::between(Place::Symmetric, Place::Symmetric)
    }
    .build();
    stage.dial();
    stage.run(9);
    assert!(!stage.rang());
    stage.run(5);
    let ringing = stage.bob().event(|kind| {
        matches!(
            kind,
            EventKind::Ringing {
                verified: false,
                ..
            }
        )
    });
    assert!(ringing.is_some(), "{}", stage.story());
}

/// Nobody picks up: the caller gives up, and bob's log has the missed call.
#[test]
fn a_call_that_nobody_answers_is_missed() {
    let mut stage = Setup {
        alices: |settings| settings.answer_timeout = Duration::from_secs(20),
        bobs: |settings| settings.answer = AnswerWhen::Never,
        ..Setup::default()
    }
    .build();
    stage.dial();
    stage.run(30);
    assert!(stage.rang());
    let (reason, outcome, _) = stage.outcome().unwrap();
    assert_eq!((reason, outcome), (EndReason::NoAnswer, Outcome::NoAnswer));
    let missed = stage
        .bob()
        .event(|kind| matches!(kind, EventKind::Missed { .. }));
    assert!(missed.is_some(), "{}", stage.story());
}

/// One call at a time: the second caller hears that bob is busy.
#[test]
fn a_second_call_is_refused_as_busy() {
    let mut stage = Setup {
        alices: |settings| settings.duration = Some(Duration::from_secs(20)),
        bobs: |settings| {
            settings.max_calls = 1;
            settings.duration = None;
        },
        ..Setup::default()
    }
    .build();
    stage.dial();
    stage.run(5);
    stage.dial();
    stage.run(3);
    let (reason, outcome, status) = stage.outcome().unwrap();
    assert_eq!(
        (reason, outcome, status),
        (EndReason::Busy, Outcome::Refused, Some(486))
    );
}

/// The network goes away while it rings: the caller gives up, and is told so all the same.
#[test]
fn a_cancel_that_nobody_answers_ends_the_call_for_the_user() {
    let mut stage = Setup {
        bobs: |settings| settings.answer = AnswerWhen::Never,
        ..Setup::default()
    }
    .build();
    stage.dial();
    stage.run(3);
    assert!(stage.rang());
    let (alice, address) = (
        stage.alice,
        stage.simulation.world().addresses(stage.alice)[0],
    );
    stage
        .simulation
        .world_mut()
        .black_hole_interface(alice, address);
    stage.hang_up();
    stage.run(5);
    let (reason, outcome, _) = stage.outcome().expect("the user is told");
    assert_eq!(
        (reason, outcome),
        (EndReason::Cancelled, Outcome::Interrupted)
    );
}

/// A phone that speaks G.711 alone, and one that shares no codec.
#[test]
fn codecs_of_one_side_only() {
    let alices: [fn(&mut Settings); 2] = [
        |settings| settings.codecs = vec![Codec::Pcma],
        |settings| settings.codecs = vec![Codec::G722],
    ];
    for alices in alices {
        let mut stage = Setup {
            alices,
            ..Setup::default()
        }
        .build();
        stage.dial();
        stage.run(8);
        let (bob, alice) = stage.heard();
        assert!(bob > 2.5 && alice > 2.5, "{}", stage.story());
    }

    let mut stage = Setup {
        alices: |settings| settings.codecs = vec![Codec::Pcma],
        bobs: |settings| settings.codecs = vec![Codec::Opus],
        ..Setup::default()
    }
    .build();
    stage.dial();
    stage.run(8);
    assert!(!stage.rang());
    let end = stage.outcome().map(|end| (end.1, end.2));
    assert_eq!(end, Some((Outcome::Refused, Some(488))));
}

/// What alice is told of the proof, the ringing and the answer when bob picks up at once and his
/// 200 overtakes her own proof: for so long the answers to her checks are lost.
fn told_of_a_hasty_pick_up(lost_for: Duration) -> Vec<&'static str> {
    let mut stage = Setup {
        srtp: ringtrue_phone::settings::SrtpUse::Off,
        // What is lost is lost by UDP.
        alices: |settings| settings.ice_tcp = false,
        bobs: |settings| settings.answer = AnswerWhen::After(Duration::ZERO),
        ..Setup::default()
    }
    .build();
    let (alice, until) = (stage.alice, stage.simulation.now() + lost_for);
    stage.tap(move |passing| {
        let is_success = passing.payload.starts_with(&[1, 1]);
        if is_success && passing.receiver == Some(alice) && passing.now < until {
            return ringtrue_testnet::Verdict::Drop;
        }
        ringtrue_testnet::Verdict::Pass
    });
    stage.dial();
    stage.run(12);
    let (bob, alice) = stage.heard();
    assert!(bob > 0.5 && alice > 0.5, "{}", stage.story());
    let events = stage.alice().events().iter();
    events
        .filter_map(|event| match event.kind {
            EventKind::PathValidated(_) => Some("validated"),
            EventKind::Ringing { verified: true, .. } => Some("ringing"),
            EventKind::Ringing { .. } => Some("unverified"),
            EventKind::Answered { .. } => Some("answered"),
            _ => None,
        })
        .collect()
}

#[test]
fn a_200_that_overtakes_the_proof_is_told_after_it() {
    let told = told_of_a_hasty_pick_up(Duration::from_millis(400));
    assert_eq!(told, ["validated", "ringing", "answered"]);
}

/// ... but not for longer than half a second.
#[test]
fn a_200_far_ahead_of_the_proof_is_told_before_it() {
    let told = told_of_a_hasty_pick_up(Duration::from_millis(1500));
    assert_eq!(told, ["unverified", "answered", "validated"]);
}
