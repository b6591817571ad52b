//! ICE restarts in connected calls, consent that is lost, and what the ear notices of it.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringtrue_media::{Codec, tone};
use ringtrue_phone::EventKind;
use ringtrue_phone::event::{EndReason, Outcome};
use ringtrue_testnet::{GatewayConfig, NatConfig, Stage as TapStage, Verdict};

use crate::stage::{ALICE_TONE, AUDIBLE, BOB_TONE, Place, Setup, outcome};
use crate::talk::{
    assert_ends_in_order, assert_no_gap, call_of, cut, move_to, restart, selections, set_addresses,
    talking, talking_as_set_up,
};

#[test]
fn either_side_restarts_and_nobody_hears_it() {
    for (alice, bob) in [
        (Place::Open, Place::Open),
        (Place::PortRestricted, Place::PortRestricted),
        (Place::Symmetric, Place::AddressRestricted),
    ] {
        for by_alice in [true, false] {
            let mut stage = talking(Setup::between(alice, bob));
            let since = stage.simulation.now();
            let host = if by_alice { stage.alice } else { stage.bob };
            restart(&mut stage, host);
            stage.run(40);
            assert_eq!(selections(stage.alice()), 2, "{}", stage.story());
            assert_eq!(selections(stage.bob()), 2, "{}", stage.story());
            assert_no_gap(&stage, since);
            assert_ends_in_order(&mut stage);
        }
    }
}

/// Both at once: 491 for both, and one restart in the end.
#[test]
fn two_restarts_that_meet_become_one() {
    for seed in 1..6 {
        let mut stage = talking(Setup {
            seed,
            ..Setup::between(Place::PortRestricted, Place::FullCone)
        });
        let since = stage.simulation.now();
        let (alice, bob) = (stage.alice, stage.bob);
        let refused = Arc::new(Mutex::new(0));
        let counter = Arc::clone(&refused);
        stage.tap(move |passing| {
            if passing.stage == TapStage::Departure && passing.payload.starts_with(b"SIP/2.0 491") {
                *counter.lock().unwrap() += 1;
            }
            Verdict::Pass
        });
        restart(&mut stage, alice);
        restart(&mut stage, bob);
        stage.run(40);
        assert!(*refused.lock().unwrap() >= 2, "they met");
        assert_eq!(selections(stage.alice()), 2, "{}", stage.story());
        assert_eq!(selections(stage.bob()), 2, "{}", stage.story());
        assert_no_gap(&stage, since);
        assert_ends_in_order(&mut stage);
    }
}

fn with_body(payload: &[u8], body: &str) -> Vec<u8> {
    let text = String::from_utf8_lossy(payload);
    let head = text.split("\r\n\r\n").next().unwrap_or_default();
    let mut lines: Vec<&str> = head
        .lines()
        .filter(|line| !line.starts_with("Content-"))
        .collect();
    let length = format!("Content-Length: {}", body.len());
    if !body.is_empty() {
        lines.push("Content-Type: application/sdp");
    }
    lines.push(&length);
    format!("{}\r\n\r\n{body}", lines.join("\r\n")).into_bytes()
}

/// A controller in the middle (RFC 3725) takes the offer out of a re-INVITE, and gives the answer
/// in the ACK: RFC 8839 section 7.5.
#[test]
fn a_re_invite_without_an_offer_restarts() {
    // Small enough for UDP, where the test can read it.
    let mut stage = talking_as_set_up(Setup {
        alices: |settings| {
            settings.duration = None;
            settings.codecs = vec![Codec::Pcmu];
        },
        bobs: |settings| {
            settings.duration = None;
            settings.codecs = vec![Codec::Pcmu];
        },
        ..Setup::default()
    });
    let (since, bob) = (stage.simulation.now(), stage.bob);
    let offer = Arc::new(Mutex::new(None::<String>));
    let refused = Arc::new(Mutex::new(false));
    let (kept, seen) = (Arc::clone(&offer), Arc::clone(&refused));
    stage.tap(move |passing| {
        *seen.lock().unwrap() |= passing.payload.starts_with(b"SIP/2.0 4");
        if passing.stage != TapStage::Arrival || passing.receiver != Some(bob) {
            return Verdict::Pass;
        }
        if passing.payload.starts_with(b"INVITE ") {
            let text = String::from_utf8_lossy(passing.payload);
            let body = text.split("\r\n\r\n").nth(1).unwrap_or_default();
            *kept.lock().unwrap() = Some(body.to_owned());
            return Verdict::Replace(with_body(passing.payload, ""));
        }
        if passing.payload.starts_with(b"ACK ")
            && let Some(body) = kept.lock().unwrap().take()
        {
            return Verdict::Replace(with_body(passing.payload, &body));
        }
        Verdict::Pass
    });
    let alice = stage.alice;
    restart(&mut stage, alice);
    stage.run(20);
    assert!(!*refused.lock().unwrap());
    assert_eq!(selections(stage.bob()), 2, "{}", stage.story());
    assert_eq!(selections(stage.alice()), 2, "{}", stage.story());
    assert_no_gap(&stage, since);
    assert_ends_in_order(&mut stage);
}

/// The address is replaced, after a while with none: a new one in the same network, one behind
/// another NAT, or one behind a first NAT. Speech is back within two round trips and 300 ms.
#[test]
fn an_address_that_is_replaced_moves_the_call() {
    let budget = 2 * Duration::from_millis(100) + Duration::from_millis(300);
    for (alice_moves, behind_nat, without) in [
        (true, false, 0),
        (true, true, 0),
        (false, true, 0),
        (false, false, 2),
        (true, true, 5),
    ] {
        let mut stage = talking(Setup::between(Place::PortRestricted, Place::PortRestricted));
        let host = if alice_moves { stage.alice } else { stage.bob };
        let world = stage.simulation.world_mut();
        let old = world.addresses(host)[0];
        let (network, new) = if behind_nat {
            let outer = IpAddr::from([203, 0, 113, 77]);
            let gateway = GatewayConfig::nat(outer, NatConfig::port_restricted());
            let internet = world.internet();
            let (_, home) = world.add_gateway(internet, gateway);
            (home, IpAddr::from([192, 168, 7, 7]))
        } else {
            let network = world.network_of(host, old).unwrap();
            (network, IpAddr::from([192, 168, 1, 99]))
        };
        world.remove_address(host, old);
        if without > 0 {
            set_addresses(&mut stage, host, &[]);
            stage.run(without);
        }
        move_to(&mut stage, host, network, new);
        let usable = stage.simulation.now();
        set_addresses(&mut stage, host, &[new]);
        stage.simulation.run_for(budget + Duration::from_millis(20));
        for (phone, tone) in [(stage.bob(), ALICE_TONE), (stage.alice(), BOB_TONE)] {
            let last = phone.played().last().unwrap();
            assert!(
                tone::level(&*last.frame, tone) >= AUDIBLE,
                "{}",
                stage.story()
            );
        }
        let back = usable + budget;
        stage.run(10);
        assert_no_gap(&stage, back);
        let phone = stage.simulation.node(host);
        let registered = |kind: &EventKind| matches!(kind, EventKind::Registered { .. });
        let again = phone
            .events()
            .iter()
            .filter(|event| registered(&event.kind));
        assert!(again.count() >= 2, "the new contact is registered");

        // Both ways: the other one's BYE finds the new address.
        let (now, other) = (
            stage.simulation.now(),
            if alice_moves { stage.bob } else { stage.alice },
        );
        let call = call_of(stage.simulation.node(other));
        stage.simulation.node_mut(other).phone().hang_up(now, call);
        stage.run(2);
        let end = outcome(stage.simulation.node(host)).map(|end| end.1);
        assert_eq!(end, Some(Outcome::Completed), "{}", stage.story());
    }
}

/// A better interface comes up beside the one in use: the call moves over without a gap.
#[test]
fn a_better_address_takes_the_call_over_without_a_gap() {
    let mut stage = talking(Setup::between(Place::PortRestricted, Place::Open));
    let (since, alice) = (stage.simulation.now(), stage.alice);
    let world = stage.simulation.world_mut();
    let old = world.addresses(alice)[0];
    let (internet, new) = (world.internet(), IpAddr::from([203, 0, 113, 55]));
    move_to(&mut stage, alice, internet, new);
    // The first one is where the default route leaves.
    set_addresses(&mut stage, alice, &[new, old]);
    stage.run(10);
    assert_no_gap(&stage, since);
    let selected = stage
        .alice()
        .events()
        .iter()
        .rev()
        .find_map(|event| match &event.kind {
            EventKind::PathSelected(report) => Some(report.local.ip()),
            _ => None,
        });
    assert_eq!(selected, Some(new), "{}", stage.story());
    // A worse one changes nothing.
    let before = selections(stage.alice());
    set_addresses(&mut stage, alice, &[new, old, IpAddr::from([10, 9, 9, 9])]);
    stage.run(5);
    assert_eq!(selections(stage.alice()), before);
    assert_ends_in_order(&mut stage);
}

#[test]
fn traffic_cut_for_20_seconds_survives() {
    let mut stage = talking(Setup::between(Place::PortRestricted, Place::PortRestricted));
    cut(&mut stage, 20.0, true);
    stage.run(25);
    let since = stage.simulation.now();
    stage.run(5);
    assert_no_gap(&stage, since);
    assert_ends_in_order(&mut stage);
}

#[test]
fn traffic_cut_for_60_seconds_ends_both_sides_with_a_reason() {
    let mut stage = talking(Setup::between(Place::PortRestricted, Place::PortRestricted));
    let cut_at = stage.simulation.now();
    cut(&mut stage, 60.0, true);
    stage.run(60);
    for phone in [stage.alice(), stage.bob()] {
        let end = outcome(phone).map(|(reason, outcome, _)| (reason, outcome));
        let wanted = (EndReason::ConsentLost, Outcome::NoMediaPath);
        assert_eq!(end, Some(wanted), "{}", stage.story());
        let ended = |kind: &EventKind| matches!(kind, EventKind::Ended { .. });
        let at = phone.event(ended).map(|event| event.at).unwrap() - cut_at;
        // Consent is 30 s old at the most, and the patience is 10 s.
        assert!(
            at >= Duration::from_secs(30) && at <= Duration::from_secs(41),
            "{at:?}"
        );
        // Nothing was left open.
        assert!(phone.played().iter().all(|played| played.at <= cut_at + at));
    }
}

/// The media alone is cut until after the consent is lost: one restart brings it back.
#[test]
fn lost_consent_is_followed_by_a_restart() {
    for seconds in [31.0, 34.0] {
        let mut stage = talking(Setup::between(Place::PortRestricted, Place::PortRestricted));
        cut(&mut stage, seconds, false);
        let sent = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&sent);
        stage.tap(move |passing| {
            let is_rtp = passing.payload.first().is_some_and(|byte| byte >> 6 == 2);
            if passing.stage == TapStage::Departure && is_rtp {
                log.lock().unwrap().push((passing.sender, passing.now));
            }
            Verdict::Pass
        });
        stage.run(45);
        for (host, phone) in [(stage.alice, stage.alice()), (stage.bob, stage.bob())] {
            let lost = phone.event(|kind| {
                matches!(
                    kind,
                    EventKind::PathFailed {
                        reason: ringtrue_phone::event::PathFailure::ConsentLost,
                        ..
                    }
                )
            });
            let lost = lost.expect("consent was lost").at;
            let proven = phone
                .events()
                .iter()
                .find(|event| event.at > lost && matches!(event.kind, EventKind::PathValidated(_)))
                .unwrap_or_else(|| panic!("no new proof\n{}", stage.story()))
                .at;
            // RFC 7675: not a packet of media in between.
            let sent = sent.lock().unwrap();
            let muted = sent
                .iter()
                .filter(|(from, at)| *from == Some(host) && (lost..proven).contains(at));
            assert_eq!(muted.count(), 0);
        }
        let since = stage.simulation.now();
        stage.run(5);
        assert_no_gap(&stage, since);
        assert_ends_in_order(&mut stage);
    }
}
