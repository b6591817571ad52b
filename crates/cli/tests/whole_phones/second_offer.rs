//! Phones that take encryption by a secure profile alone: they refuse the offer that leaves it to
//! them, and are asked once more (docs/decisions/0029).

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ringtrue_ice::Role;
use ringtrue_media::secure::DtlsRole;
use ringtrue_phone::event::{EndReason, Outcome, PhoneEvent};
use ringtrue_phone::settings::SrtpUse;
use ringtrue_phone::{EventKind, Settings};
use ringtrue_testnet::Verdict;

use crate::foreign::{Came, Foreign, Kind};
use crate::foreign_callees::{alice_and_carol, alice_talked, direct, ringing_of_alice};
use crate::foreign_keys::ForeignKeys;
use crate::keys::secured;
use crate::stage::{Place, Setup, Stage, at, outcome, rang};

const FULL: Kind = Kind::Full(Role::Controlled);
const REFUSED: (EndReason, Outcome, Option<u16>) =
    (EndReason::Incompatible, Outcome::Refused, Some(488));

/// What alice tells of a second offer.
fn told(stage: &Stage) -> usize {
    let anew = |event: &&PhoneEvent| matches!(event.kind, EventKind::OfferedAnew { .. });
    stage.alice().events().iter().filter(anew).count()
}

/// Carol refuses alice's INVITE; gives it.
fn refuse(stage: &mut Stage, carol: &Foreign, status: &str) -> Came {
    let invite = carol.expect(stage, "INVITE", "INVITE");
    carol.state().came.clear();
    carol.respond(stage, &invite, status, "", "");
    carol.expect(stage, "ACK", "ACK");
    invite
}

/// The lines of a description that begin so.
fn lines<'a>(came: &'a Came, start: &str) -> Vec<&'a str> {
    let lines = came.body().lines();
    lines.filter(|line| line.starts_with(start)).collect()
}

/// Nobody is left over on alice's side, once a refusal is not repeated any more.
fn assert_over(stage: &mut Stage, end: (EndReason, Outcome, Option<u16>)) {
    stage.run(40);
    assert_eq!(outcome(stage.alice()), Some(end), "{}", stage.story());
    let ends = |event: &&PhoneEvent| matches!(event.kind, EventKind::Ended { .. });
    assert_eq!(stage.alice().events().iter().filter(ends).count(), 1);
    assert!(stage.simulation.node_mut(stage.alice).phone().is_idle());
}

#[test]
fn the_second_offer_is_of_the_same_call_and_of_nothing_else() {
    let (mut stage, carol) = alice_and_carol(FULL, direct);
    let first = refuse(&mut stage, &carol, "488 Not Acceptable Here");
    assert!(first.body().contains(" RTP/AVP "), "{}", first.text);
    let second = carol.expect(&mut stage, "INVITE", "INVITE");
    assert!(
        second.body().contains(" UDP/TLS/RTP/SAVP "),
        "{}",
        second.text
    );
    for name in ["Call-ID", "From", "To", "Contact", "Supported"] {
        assert_eq!(first.header(name), second.header(name));
    }
    assert_eq!(
        (first.header("CSeq"), second.header("CSeq")),
        ("1 INVITE", "2 INVITE")
    );
    // The same candidates, and new credentials for checks: what was meant for the first is void.
    assert_eq!(
        lines(&first, "a=candidate:"),
        lines(&second, "a=candidate:")
    );
    assert!(!lines(&first, "a=candidate:").is_empty());
    for start in ["a=ice-ufrag:", "a=ice-pwd:", "o="] {
        assert_ne!(lines(&first, start), lines(&second, start));
    }
    // It left as soon as the refusal had come.
    let refused = at(stage.alice(), |kind| {
        matches!(kind, EventKind::OfferedAnew { status: 488 })
    });
    assert!(second.at - refused.unwrap() <= Duration::from_millis(60));

    let keys = ForeignKeys::new();
    let answer = carol.sdp(&keys.lines("passive"));
    let answer = answer.replace("RTP/AVP", "UDP/TLS/RTP/SAVP");
    carol.state().keys = Some(keys);
    carol.learn(&stage, second.body());
    let now = stage.simulation.now();
    let start = |keys: &mut ForeignKeys| keys.start(now, DtlsRole::Passive, second.body());
    carol.state().keys.as_mut().map(start);
    carol.respond(&mut stage, &second, "180 Ringing", "", &answer);
    stage.run(1);
    assert_eq!(ringing_of_alice(&stage), Some(true), "{}", stage.story());
    carol.respond(&mut stage, &second, "200 OK", "", &answer);
    carol.expect(&mut stage, "ACK", "ACK");
    carol.speak(&stage);
    alice_talked(&mut stage, &carol);
    assert!(secured(stage.alice()).is_some(), "{}", stage.story());
    assert_eq!((told(&stage), carol.count("INVITE")), (1, 1));
}

/// A STUN server whose answer came too late for the first offer: the second one has it.
#[test]
fn what_was_gathered_meanwhile_is_offered_too() {
    let mut stage = Setup {
        alices: direct,
        more: |world, [alice, _], [stun, _]| {
            world.set_delay_between(alice, stun, Duration::from_millis(750));
        },
        ..Setup::between(Place::PortRestricted, Place::Open)
    }
    .build();
    let carol = Foreign::at(&mut stage, FULL);
    stage.dial_to("sip:carol@203.0.113.9");
    let invite = carol.expect(&mut stage, "INVITE", "INVITE");
    carol.respond(&mut stage, &invite, "100 Trying", "", "");
    stage.run(2);
    let first = refuse(&mut stage, &carol, "488 Not Acceptable Here");
    let second = carol.expect(&mut stage, "INVITE", "INVITE");
    let reflexive = |came: &Came| came.body().contains(" typ srflx");
    assert!(!reflexive(&first), "{}", first.text);
    assert!(reflexive(&second), "{}", second.text);
    // And names it first: a peer without ICE reads nothing else.
    assert_eq!(lines(&second, "c="), ["c=IN IP4 203.0.113.1"]);
}

#[test]
fn who_refuses_both_is_called_twice_and_no_more() {
    for (status, code) in [
        ("488 Not Acceptable Here", 488),
        ("606 Not Acceptable", 606),
    ] {
        let (mut stage, carol) = alice_and_carol(FULL, direct);
        refuse(&mut stage, &carol, status);
        refuse(&mut stage, &carol, status);
        assert_over(&mut stage, (REFUSED.0, REFUSED.1, Some(code)));
        assert_eq!(carol.count("INVITE"), 0, "no third");
        assert_eq!((told(&stage), ringing_of_alice(&stage)), (1, None));
    }
}

#[test]
fn settings_that_leave_no_choice_are_said_once() {
    let off = |settings: &mut Settings| {
        direct(settings);
        settings.srtp = SrtpUse::Off;
    };
    let required = |settings: &mut Settings| {
        direct(settings);
        settings.srtp = SrtpUse::Required;
    };
    for settings in [off, required] {
        let (mut stage, carol) = alice_and_carol(FULL, settings);
        refuse(&mut stage, &carol, "488 Not Acceptable Here");
        assert_over(&mut stage, REFUSED);
        assert_eq!((told(&stage), carol.count("INVITE")), (0, 0));
    }
}

/// Any other refusal, and one by a phone that has rung or answered: it is final.
#[test]
fn other_refusals_are_final() {
    for status in [
        "415 Unsupported Media Type",
        "480 Temporarily Unavailable",
        "603 Decline",
    ] {
        let (mut stage, carol) = alice_and_carol(FULL, direct);
        refuse(&mut stage, &carol, status);
        stage.run(40);
        assert_eq!((told(&stage), carol.count("INVITE")), (0, 0), "{status}");
    }
    for (status, answers) in [("180 Ringing", false), ("183 Session Progress", true)] {
        let (mut stage, carol) = alice_and_carol(Kind::Without, direct);
        let invite = carol.expect(&mut stage, "INVITE", "INVITE");
        let answer = if answers {
            carol.sdp("")
        } else {
            String::new()
        };
        carol.respond(&mut stage, &invite, status, "", &answer);
        stage.run(1);
        refuse(&mut stage, &carol, "488 Not Acceptable Here");
        assert_over(&mut stage, REFUSED);
        assert_eq!((told(&stage), carol.count("INVITE")), (0, 0), "{status}");
    }
}

/// It takes the second offer, and then gives no keys: there is no call in clear.
#[test]
fn the_second_offer_is_never_taken_in_clear() {
    for profile in ["RTP/AVP", "UDP/TLS/RTP/SAVP"] {
        let (mut stage, carol) = alice_and_carol(FULL, direct);
        refuse(&mut stage, &carol, "488 Not Acceptable Here");
        let second = carol.expect(&mut stage, "INVITE", "INVITE");
        let answer = carol.sdp("").replace("RTP/AVP", profile);
        carol.learn(&stage, second.body());
        carol.respond(&mut stage, &second, "200 OK", "", &answer);
        carol.expect(&mut stage, "ACK", "ACK");
        carol.speak(&stage);
        let bye = carol.expect(&mut stage, "BYE", "BYE");
        carol.respond(&mut stage, &bye, "200 OK", "", "");
        assert_over(&mut stage, (REFUSED.0, REFUSED.1, Some(200)));
        assert!(carol.state().first_rtp.is_none() && stage.alice().played().is_empty());
    }
}

#[test]
fn giving_up_while_the_second_offer_is_out() {
    let interrupted = (EndReason::Cancelled, Outcome::Interrupted, Some(487));
    for trying in [true, false] {
        let (mut stage, carol) = alice_and_carol(FULL, direct);
        refuse(&mut stage, &carol, "488 Not Acceptable Here");
        let second = carol.expect(&mut stage, "INVITE", "INVITE");
        if trying {
            carol.respond(&mut stage, &second, "100 Trying", "", "");
            stage.run(1);
        }
        stage.hang_up();
        if !trying {
            stage.run(1);
            assert_eq!(carol.count("CANCEL"), 0, "it waits for a response");
            carol.respond(&mut stage, &second, "100 Trying", "", "");
        }
        let cancel = carol.expect(&mut stage, "CANCEL", "CANCEL");
        assert_eq!(cancel.header("CSeq"), "2 CANCEL");
        carol.respond(&mut stage, &cancel, "200 OK", "", "");
        carol.respond(&mut stage, &second, "487 Request Terminated", "", "");
        assert_over(&mut stage, interrupted);
    }
}

/// The hang-up and the first refusal cross: no second INVITE leaves.
#[test]
fn giving_up_before_the_refusal_comes() {
    let (mut stage, carol) = alice_and_carol(FULL, direct);
    let invite = carol.expect(&mut stage, "INVITE", "INVITE");
    carol.state().came.clear();
    carol.respond(&mut stage, &invite, "100 Trying", "", "");
    stage.run(1);
    stage.hang_up();
    carol.respond(&mut stage, &invite, "488 Not Acceptable Here", "", "");
    let end = (EndReason::Cancelled, Outcome::Interrupted, Some(488));
    assert_over(&mut stage, end);
    assert_eq!((told(&stage), carol.count("INVITE")), (0, 0));
}

/// Makes bob one who refuses offers of `RTP/AVP`: he requires encryption, and their fingerprints do
/// not reach him.
fn strict_bob(place: Place) -> Setup {
    Setup {
        bobs: |settings| settings.srtp = SrtpUse::Required,
        edit: |body| {
            let text = String::from_utf8_lossy(body).into_owned();
            if text.contains(" RTP/AVP ") {
                *body = text
                    .replace("a=fingerprint:", "a=x-fingerprint:")
                    .into_bytes();
            }
        },
        ..Setup::between(place, place)
    }
}

/// When INVITEs left alice and refusals reached her.
fn watch(stage: &mut Stage) -> Arc<Mutex<Vec<(Instant, &'static str)>>> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (log, alice) = (Arc::clone(&seen), stage.alice);
    stage.tap(move |passing| {
        let departs = passing.receiver.is_none() && passing.sender == Some(alice);
        let arrives = passing.receiver == Some(alice);
        let what = match passing.payload {
            [b'I', b'N', b'V', b'I', b'T', b'E', ..] if departs => Some("INVITE"),
            payload if arrives && payload.starts_with(b"SIP/2.0 488") => Some("488"),
            _ => None,
        };
        log.lock()
            .unwrap()
            .extend(what.map(|what| (passing.now, what)));
        Verdict::Pass
    });
    seen
}

/// Two of ours: one round trip later than else it rings, proven and with its keys.
#[test]
fn it_rings_a_round_trip_later_verified_and_encrypted() {
    for place in [Place::Open, Place::PortRestricted] {
        let mut usual = Setup::between(place, place).build();
        usual.dial();
        usual.run(8);
        let mut stage = strict_bob(place).build();
        let seen = watch(&mut stage);
        stage.dial();
        stage.run(10);
        let (at_bob, at_alice) = stage.heard();
        assert!(at_bob > 2.5 && at_alice > 2.5, "{}", stage.story());
        assert_eq!(stage.outcome().map(|end| end.1), Some(Outcome::Completed));
        let ring = rang(stage.bob()).unwrap();
        let verified = matches!(ring.kind, EventKind::Ringing { verified: true, .. });
        assert!(verified && secured(stage.bob()).unwrap() <= ring.at);
        assert!(secured(stage.alice()).is_some());
        assert_eq!(ringing_of_alice(&stage), Some(true));
        let seen = seen.lock().unwrap();
        let order: Vec<_> = seen.iter().map(|(_, what)| *what).collect();
        assert_eq!(order, ["INVITE", "488", "INVITE"], "{}", stage.story());
        assert_eq!(seen[1].0, seen[2].0, "nothing is waited for");
        let more = stage.ring_time().unwrap() - usual.ring_time().unwrap();
        assert!(more <= Duration::from_millis(110), "{place:?}: {more:?}");
    }
}

/// Given up at every moment of it: nobody is left with a call.
#[test]
fn giving_up_at_every_moment() {
    for at in (0..440).step_by(10) {
        let mut stage = strict_bob(Place::Open).build();
        stage.dial();
        stage.simulation.run_for(Duration::from_millis(at));
        stage.hang_up();
        let rang_before = stage.rang();
        stage.run(40);
        let (reason, end, _) = stage.outcome().unwrap();
        let wanted = (EndReason::Cancelled, Outcome::Interrupted);
        assert_eq!((reason, end), wanted, "{at} ms\n{}", stage.story());
        // The CANCEL is 50 ms on its way.
        let rings = rang(stage.bob()).is_some();
        assert!(
            rang_before || !rings || at > 300,
            "{at} ms\n{}",
            stage.story()
        );
        assert_eq!(stage.heard(), (0.0, 0.0));
        let count = |wanted: fn(&EventKind) -> bool| {
            let events = stage.bob().events().iter();
            events.filter(|event| wanted(&event.kind)).count()
        };
        let came = count(|kind| matches!(kind, EventKind::Invite { .. }));
        let ended = count(|kind| matches!(kind, EventKind::Ended { .. }));
        assert_eq!(came, ended, "{at} ms\n{}", stage.story());
        for phone in [stage.alice, stage.bob] {
            let idle = stage.simulation.node_mut(phone).phone().is_idle();
            assert!(idle, "{at} ms\n{}", stage.story());
        }
    }
}
