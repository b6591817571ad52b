//! The gate under attack: whatever happens on the way, nobody's phone rings unless both will be
//! heard, and no 180 leaves without a proof.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ringtrue_phone::EventKind;
use ringtrue_phone::event::{EndReason, Outcome};
use ringtrue_phone::settings::AnswerWhen;
use ringtrue_program::virtual_phone::VirtualPhone;
use ringtrue_testnet::{Stage as TapStage, Verdict};

use crate::stage::{Place, Setup, Stage, at, heard, is_response, outcome, rang};

/// When 180s have left bob's phone.
fn watch_180(stage: &mut Stage) -> Arc<Mutex<Vec<Instant>>> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (log, bob) = (Arc::clone(&seen), stage.bob);
    stage.tap(move |passing| {
        let from_bob = passing.stage == TapStage::Departure && passing.sender == Some(bob);
        if from_bob && is_response(passing.payload, 180) {
            log.lock().unwrap().push(passing.now);
        }
        Verdict::Pass
    });
    seen
}

fn validated_at(phone: &VirtualPhone) -> Option<Instant> {
    at(phone, |kind| matches!(kind, EventKind::PathValidated(_)))
}

/// No 180 without a proof at bob's, no ring without one, no sound without a pick-up.
fn assert_gate_held(stage: &Stage, seen: &Mutex<Vec<Instant>>) {
    let proof = validated_at(stage.bob());
    for sent in seen.lock().unwrap().iter() {
        assert!(
            proof.is_some_and(|proof| proof <= *sent),
            "{}",
            stage.story()
        );
    }
    if let Some(ringing) = rang(stage.bob()) {
        assert!(
            proof.is_some_and(|proof| proof <= ringing.at),
            "{}",
            stage.story()
        );
    }
    let answered = at(stage.bob(), |kind| {
        matches!(kind, EventKind::Answered { .. })
    });
    for played in stage.bob().played() {
        assert!(answered.is_some_and(|answered| answered <= played.at));
    }
}

fn assert_missed(stage: &Stage, reason: EndReason) {
    let missed = stage
        .bob()
        .event(|kind| matches!(kind, EventKind::Missed { reason: why, .. } if *why == reason));
    assert!(missed.is_some(), "no missed call in\n{}", stage.story());
    assert!(!stage.rang(), "{}", stage.story());
}

#[test]
fn a_lost_183_is_sent_again_and_the_call_is_made() {
    for lost in 1..4 {
        let mut stage = Setup::default().build();
        let seen = watch_180(&mut stage);
        let mut left = lost;
        stage.tap(move |passing| {
            let is_183 = is_response(passing.payload, 183);
            if is_183 && passing.stage == TapStage::Arrival && left > 0 {
                left -= 1;
                return Verdict::Drop;
            }
            Verdict::Pass
        });
        stage.dial();
        stage.run(20);
        assert_gate_held(&stage, &seen);
        assert!(stage.rang(), "{lost} lost:\n{}", stage.story());
        let (bob, alice) = stage.heard();
        assert!(bob > 2.0 && alice > 2.0, "{lost} lost:\n{}", stage.story());
    }
}

#[test]
fn a_183_that_never_arrives_rings_nobody() {
    let mut stage = Setup::default().build();
    let seen = watch_180(&mut stage);
    let alice = stage.alice;
    stage.tap(move |passing| {
        if is_response(passing.payload, 183) && passing.receiver == Some(alice) {
            Verdict::Drop
        } else {
            Verdict::Pass
        }
    });
    stage.dial();
    stage.run(40);
    assert_gate_held(&stage, &seen);
    assert_missed(&stage, EndReason::NoMediaPath);
    // Bob's own checks are answered all the time: it is alice's that never come.
    assert!(seen.lock().unwrap().is_empty());
}

/// Changes a line of every SIP body that alice gets, to one of the same length.
fn mangle(stage: &mut Stage, line: &'static str, change: fn(&str) -> String) {
    let alice = stage.alice;
    stage.tap(move |passing| {
        let text = String::from_utf8_lossy(passing.payload);
        if passing.receiver != Some(alice) || !text.starts_with("SIP/2.0 ") || !text.contains(line)
        {
            return Verdict::Pass;
        }
        let lines: Vec<String> = text
            .split("\r\n")
            .map(|text| {
                if text.starts_with(line) {
                    change(text)
                } else {
                    text.to_owned()
                }
            })
            .collect();
        Verdict::Replace(lines.join("\r\n").into_bytes())
    });
}

#[test]
fn an_answer_with_a_mangled_password_rings_nobody() {
    let mut stage = Setup::default().build();
    let seen = watch_180(&mut stage);
    mangle(&mut stage, "a=ice-pwd:", |_| {
        "a=ice-pwd:mangledmangledmangledman".to_owned()
    });
    stage.dial();
    stage.run(40);
    assert_gate_held(&stage, &seen);
    assert_missed(&stage, EndReason::NoMediaPath);
    assert_eq!(
        stage.outcome().map(|(_, outcome, _)| outcome),
        Some(Outcome::NoMediaPath),
        "{}",
        stage.story()
    );
}

#[test]
fn an_answer_with_a_mangled_ufrag_rings_nobody() {
    let mut stage = Setup::default().build();
    let seen = watch_180(&mut stage);
    mangle(&mut stage, "a=ice-ufrag:", |_| {
        "a=ice-ufrag:XXXXXXXX".to_owned()
    });
    stage.dial();
    stage.run(40);
    assert_gate_held(&stage, &seen);
    assert_missed(&stage, EndReason::NoMediaPath);
}

/// An ALG that writes its own address over the candidates: bob's address is then learned from his
/// checks (peer-reflexive), so the call is made after all, and rings only because it is heard.
#[test]
fn mangled_candidates_ring_only_when_both_are_heard() {
    let mut stage = Setup::default().build();
    let seen = watch_180(&mut stage);
    mangle(&mut stage, "a=candidate:", |text| {
        text.replace("203.0.113.2", "203.0.113.7")
    });
    stage.dial();
    stage.run(20);
    assert_gate_held(&stage, &seen);
    let (bob, alice) = stage.heard();
    assert_eq!(stage.rang(), bob > 1.0 && alice > 1.0, "{}", stage.story());
}

/// Whoever watches the line sends every check again, from his own address and from the
/// original one, to both; between two symmetric NATs there is still no path and no ring.
#[test]
fn replayed_and_forged_checks_ring_nobody() {
    for replayed_from_the_original in [true, false] {
        let mut stage = Setup::between(Place::Symmetric, Place::Symmetric).build();
        let seen = watch_180(&mut stage);
        let seized = Arc::new(Mutex::new(Vec::<(SocketAddr, SocketAddr, Vec<u8>)>::new()));
        let log = Arc::clone(&seized);
        stage.tap(move |passing| {
            let is_stun = passing.payload.first().is_some_and(|first| *first < 4)
                && passing.payload.get(4..8) == Some(&[0x21, 0x12, 0xa4, 0x42]);
            let is_check = is_stun && passing.payload.len() > 40;
            if is_check && passing.stage == TapStage::Departure && passing.sender.is_some() {
                let entry = (
                    passing.source,
                    passing.destination,
                    passing.payload.to_vec(),
                );
                log.lock().unwrap().push(entry);
            }
            Verdict::Pass
        });
        stage.dial();
        let attacker = SocketAddr::from(([203, 0, 113, 66], 6666));
        let internet = stage.simulation.world().internet();
        for _ in 0..100 {
            stage.simulation.run_for(Duration::from_millis(120));
            for (source, destination, mut payload) in seized.lock().unwrap().drain(..) {
                let from = if replayed_from_the_original {
                    source
                } else {
                    attacker
                };
                let world = stage.simulation.world_mut();
                world.inject(internet, from, destination, payload.clone());
                // The same as an answer, and with a broken integrity.
                if let Some(first) = payload.first_mut() {
                    *first |= 1;
                }
                world.inject(internet, from, destination, payload.clone());
                if let Some(last) = payload.last_mut() {
                    *last ^= 0xff;
                }
                world.inject(internet, from, destination, payload);
            }
        }
        stage.run(30);
        assert_gate_held(&stage, &seen);
        assert!(!stage.rang(), "{}", stage.story());
        assert!(validated_at(stage.bob()).is_none(), "{}", stage.story());
    }
}

/// CANCEL at every moment of a call: 4 ms apart until after the answer.
#[test]
fn cancel_at_every_moment_ends_the_ringing_for_good() {
    for after in (0..1600).step_by(4) {
        let mut stage = Setup {
            bobs: |settings| settings.answer = AnswerWhen::After(Duration::from_millis(1000)),
            ..Setup::between(Place::PortRestricted, Place::PortRestricted)
        }
        .build();
        let seen = watch_180(&mut stage);
        stage.dial();
        stage.simulation.run_for(Duration::from_millis(after));
        stage.hang_up();
        let hung_up = stage.simulation.now();
        stage.run(40);
        assert_gate_held(&stage, &seen);
        // The CANCEL (or the BYE) needs 50 ms; nothing rings, speaks or is sent after it.
        let over = hung_up + Duration::from_millis(60);
        let late = stage.bob().events().iter().find(|event| {
            event.at > over
                && matches!(
                    event.kind,
                    EventKind::Ringing { .. }
                        | EventKind::Answered { .. }
                        | EventKind::PathValidated(_)
                )
        });
        assert!(
            late.is_none(),
            "cancelled after {after} ms: {late:?}\n{}",
            stage.story()
        );
        // A 200 that crosses the CANCEL goes one way, the BYE that ends it another.
        let silent = over + Duration::from_millis(100);
        assert!(
            stage
                .bob()
                .played()
                .iter()
                .all(|played| played.at <= silent),
            "cancelled after {after} ms; {:?} after\n{}",
            stage
                .bob()
                .played()
                .last()
                .map(|played| played.at - hung_up),
            stage.story()
        );
        assert!(
            outcome(stage.alice()).is_some(),
            "cancelled after {after} ms\n{}",
            stage.story()
        );
        let invited = stage
            .bob()
            .event(|kind| matches!(kind, EventKind::Invite { .. }));
        assert_eq!(
            invited.is_some(),
            outcome(stage.bob()).is_some(),
            "after {after} ms"
        );
        for host in [stage.alice, stage.bob] {
            assert!(
                stage.simulation.node_mut(host).phone().is_idle(),
                "after {after} ms"
            );
        }
    }
}

/// The path is lost while bob's phone rings: the ringing ends, and the call with it.
#[test]
fn consent_lost_while_ringing_ends_the_ringing() {
    let mut stage = Setup {
        bobs: |settings| settings.answer = AnswerWhen::Never,
        ..Setup::default()
    }
    .build();
    let seen = watch_180(&mut stage);
    stage.dial();
    stage.run(3);
    assert!(stage.rang(), "{}", stage.story());
    let (alice, bob) = (stage.alice, stage.bob);
    stage.simulation.world_mut().black_hole_between(alice, bob);
    let cut = stage.simulation.now();
    stage.run(60);
    assert_gate_held(&stage, &seen);
    let ended = at(stage.bob(), |kind| matches!(kind, EventKind::Ended { .. }));
    let ended = ended.expect("bob's ringing has ended") - cut;
    // RFC 7675 section 5.1: consent expires after 30 s.
    assert!(
        ended <= Duration::from_secs(31),
        "{ended:?}\n{}",
        stage.story()
    );
    let (reason, outcome, _) = outcome(stage.bob()).unwrap();
    assert_eq!(
        (reason, outcome),
        (EndReason::ConsentLost, Outcome::NoMediaPath)
    );
    assert!(heard(stage.bob(), crate::stage::ALICE_TONE) == 0.0);
    // Alice had a proof of her own, so to her it is a call that was not answered; she reads why.
    let told = stage.alice().event(|kind| {
        matches!(kind, EventKind::Ended { status: Some(480), words: Some(words), .. } if words.contains("media path"))
    });
    assert!(told.is_some(), "{}", stage.story());
}

/// Where no path exists the phone stays silent, and the caller learns why within 12 s.
#[test]
fn without_a_path_nobody_rings() {
    let pathless = [
        (Place::Symmetric, Place::Symmetric),
        (Place::Symmetric, Place::PortRestricted),
        (Place::PortRestricted, Place::Symmetric),
        (Place::UdpEaten, Place::PortRestricted),
        (Place::PortRestricted, Place::UdpEaten),
        (Place::UdpEaten, Place::UdpEaten),
    ];
    for (alice, bob) in pathless {
        let mut stage = Setup::between(alice, bob).build();
        let seen = watch_180(&mut stage);
        stage.dial();
        stage.run(12);
        assert_gate_held(&stage, &seen);
        assert_missed(&stage, EndReason::NoMediaPath);
        let (reason, outcome, status) = stage.outcome().expect("the call has ended");
        assert_eq!(
            (reason, outcome, status),
            (EndReason::NoMediaPath, Outcome::NoMediaPath, Some(480)),
            "{alice:?} x {bob:?}\n{}",
            stage.story()
        );
    }
}

/// By a connection too the proof comes before the ring; and without TCP candidates, on either side,
/// there is no path where a firewall eats UDP.
#[test]
fn by_tcp_too_nobody_rings_without_a_proof() {
    let setups = [
        (Setup::between(Place::UdpEaten, Place::Open), true),
        (Setup::between(Place::Open, Place::UdpEaten), true),
        (
            Setup {
                alices: |settings| settings.ice_tcp = false,
                ..Setup::between(Place::UdpEaten, Place::Open)
            },
            false,
        ),
        (
            Setup {
                bobs: |settings| settings.ice_tcp = false,
                ..Setup::between(Place::UdpEaten, Place::Open)
            },
            false,
        ),
    ];
    for (setup, has_path) in setups {
        let mut stage = setup.build();
        let seen = watch_180(&mut stage);
        stage.dial();
        stage.run(12);
        assert_gate_held(&stage, &seen);
        assert_eq!(stage.rang(), has_path, "{}", stage.story());
        if !has_path {
            assert_missed(&stage, EndReason::NoMediaPath);
        }
    }
}

/// Two phones of bob's, and a path to one of them alone: one proof, one ring. The other phone
/// never makes a sound, whatever the first one proves.
#[test]
fn two_forks_with_one_proof_ring_one_phone() {
    let mut stage = Setup {
        second: Some(Place::Symmetric),
        ..Setup::between(Place::PortRestricted, Place::Open)
    }
    .build();
    let seen = watch_180(&mut stage);
    stage.dial();
    stage.run(15);
    assert_gate_held(&stage, &seen);
    assert!(stage.rang(), "{}", stage.story());
    assert!(
        rang(stage.second()).is_none(),
        "the second phone rang\n{}",
        stage.story()
    );
    assert!(stage.second().played().is_empty());
    let invited = stage
        .second()
        .event(|kind| matches!(kind, EventKind::Invite { .. }));
    assert!(invited.is_some(), "the call did not fork");
    let (bob, alice) = stage.heard();
    assert!(bob > 2.0 && alice > 2.0, "{}", stage.story());
}

/// Two phones of bob's that can both be heard: both ring, the first to pick up talks, the other
/// falls silent.
#[test]
fn two_forks_with_two_proofs_ring_both_and_one_talks() {
    let mut stage = Setup {
        second: Some(Place::FullCone),
        ..Setup::between(Place::PortRestricted, Place::Open)
    }
    .build();
    let seen = watch_180(&mut stage);
    stage.dial();
    stage.run(15);
    assert_gate_held(&stage, &seen);
    assert!(
        stage.rang() && rang(stage.second()).is_some(),
        "{}",
        stage.story()
    );
    let talked = |phone: &VirtualPhone| heard(phone, crate::stage::ALICE_TONE) > 2.0;
    assert!(
        talked(stage.bob()) != talked(stage.second()),
        "exactly one of them talks\n{}",
        stage.story()
    );
    for phone in [stage.alice(), stage.bob(), stage.second()] {
        assert!(outcome(phone).is_some(), "{}", stage.story());
    }
}
