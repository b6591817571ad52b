//! Callees that do what ours never does: lite agents, no rtcp-mux, early media, strange answers,
//! challenges.

use std::time::Duration;

use ringtrue_ice::Role;
use ringtrue_phone::event::{EndReason, Outcome};
use ringtrue_phone::{EventKind, Settings};

use crate::foreign::{CAROL, CAROL_TONE, Foreign, Kind};
use crate::stage::{ALICE_TONE, Setup, Stage, heard, outcome};

/// Alice, and carol whom she calls without a proxy between them.
pub fn alice_and_carol(kind: Kind, alices: fn(&mut Settings)) -> (Stage, Foreign) {
    let mut stage = Setup {
        alices,
        ..Setup::default()
    }
    .build();
    let carol = Foreign::at(&mut stage, kind);
    let (alice, now) = (stage.alice, stage.simulation.now());
    let [a, b, c, d] = CAROL;
    let target = format!("sip:carol@{a}.{b}.{c}.{d}");
    let call = stage.simulation.node_mut(alice).phone().call(now, &target);
    stage.call = Some(call.unwrap());
    stage.simulation.settle();
    (stage, carol)
}

pub fn direct(settings: &mut Settings) {
    settings.proxy = None;
    settings.register = false;
}

pub fn ringing_of_alice(stage: &Stage) -> Option<bool> {
    let events = stage.alice().events();
    events.iter().find_map(|event| match event.kind {
        EventKind::Ringing { verified, .. } => Some(verified),
        _ => None,
    })
}

pub fn alice_talked(stage: &mut Stage, carol: &Foreign) {
    stage.run(5);
    let bye = carol.expect(stage, "BYE", "BYE");
    carol.respond(stage, &bye, "200 OK", "", "");
    let (at_carol, at_alice) = (carol.heard(ALICE_TONE), heard(stage.alice(), CAROL_TONE));
    assert!(
        at_carol > 2.3 && at_alice > 2.3,
        "alice heard {at_alice} s, carol {at_carol} s\n{}",
        stage.story()
    );
}

/// A lite callee: alice's own checks prove the path.
#[test]
fn a_lite_callee() {
    let (mut stage, carol) = alice_and_carol(Kind::Lite, direct);
    let invite = carol.expect(&mut stage, "INVITE", "INVITE");
    let answer = carol.sdp("");
    carol.learn(&stage, invite.body());
    carol.respond(&mut stage, &invite, "180 Ringing", "", &answer);
    stage.run(1);
    assert_eq!(ringing_of_alice(&stage), Some(true), "{}", stage.story());
    carol.respond(&mut stage, &invite, "200 OK", "", &answer);
    carol.expect(&mut stage, "ACK", "ACK");
    carol.speak(&stage);
    alice_talked(&mut stage, &carol);
}

/// A callee without rtcp-mux: its answer keeps both components.
#[test]
fn a_callee_without_rtcp_mux() {
    let (mut stage, carol) = alice_and_carol(Kind::Full(Role::Controlled), |settings| {
        direct(settings);
        settings.duration = Some(Duration::from_secs(12));
    });
    carol.state().mux = false;
    let invite = carol.expect(&mut stage, "INVITE", "INVITE");
    let answer = carol.sdp("");
    carol.learn(&stage, invite.body());
    carol.respond(&mut stage, &invite, "180 Ringing", "", &answer);
    stage.run(1);
    assert_eq!(ringing_of_alice(&stage), Some(true), "{}", stage.story());
    carol.respond(&mut stage, &invite, "200 OK", "", &answer);
    carol.expect(&mut stage, "ACK", "ACK");
    carol.speak(&stage);
    stage.run(14);
    assert!(carol.state().rtcp_apart > 0, "{}", stage.story());
    assert!(carol.heard(ALICE_TONE) > 10.0);
}

/// A callee without ICE that plays an announcement before it answers: nothing sounds before the
/// answer.
#[test]
fn early_media_does_not_sound() {
    let (mut stage, carol) = alice_and_carol(Kind::Without, direct);
    let invite = carol.expect(&mut stage, "INVITE", "INVITE");
    let answer = carol.sdp("");
    carol.learn(&stage, invite.body());
    carol.respond(&mut stage, &invite, "183 Session Progress", "", &answer);
    carol.speak(&stage);
    stage.run(3);
    assert!(stage.alice().played().is_empty(), "{}", stage.story());
    assert_eq!(ringing_of_alice(&stage), None);
    assert!(carol.state().first_rtp.is_none());
    carol.respond(&mut stage, &invite, "180 Ringing", "", &answer);
    stage.run(1);
    assert_eq!(ringing_of_alice(&stage), Some(false));
    assert!(stage.alice().played().is_empty());
    carol.respond(&mut stage, &invite, "200 OK", "", &answer);
    carol.expect(&mut stage, "ACK", "ACK");
    alice_talked(&mut stage, &carol);
}

#[test]
fn a_callee_that_says_ice_mismatch() {
    let (mut stage, carol) = alice_and_carol(Kind::Without, direct);
    let invite = carol.expect(&mut stage, "INVITE", "INVITE");
    let answer = carol.sdp("a=ice-mismatch\r\n");
    carol.learn(&stage, invite.body());
    carol.respond(&mut stage, &invite, "180 Ringing", "", "");
    carol.respond(&mut stage, &invite, "200 OK", "", &answer);
    carol.expect(&mut stage, "ACK", "ACK");
    carol.speak(&stage);
    assert_eq!(ringing_of_alice(&stage), Some(false));
    alice_talked(&mut stage, &carol);
}

/// The 200's SDP cannot be read, or is missing: ACK, BYE, and the user is told.
#[test]
fn an_unreadable_answer_ends_the_call() {
    for answer in ["nonsense", "", "v=0\r\nm=video 9 RTP/AVP 99\r\n"] {
        let (mut stage, carol) = alice_and_carol(Kind::Without, direct);
        let invite = carol.expect(&mut stage, "INVITE", "INVITE");
        carol.respond(&mut stage, &invite, "200 OK", "", answer);
        carol.expect(&mut stage, "ACK", "ACK");
        let bye = carol.expect(&mut stage, "BYE", "BYE");
        carol.respond(&mut stage, &bye, "200 OK", "", "");
        stage.run(1);
        let end = outcome(stage.alice()).map(|end| (end.0, end.1));
        assert_eq!(end, Some((EndReason::Incompatible, Outcome::Refused)));
        assert!(stage.alice().played().is_empty());
    }
}

/// An unreadable 183 is as none: the 200's good answer makes the call.
#[test]
fn an_unreadable_183_is_as_none() {
    let (mut stage, carol) = alice_and_carol(Kind::Full(Role::Controlled), direct);
    let invite = carol.expect(&mut stage, "INVITE", "INVITE");
    carol.respond(&mut stage, &invite, "183 Session Progress", "", "nonsense");
    stage.run(1);
    let answer = carol.sdp("");
    carol.learn(&stage, invite.body());
    carol.respond(&mut stage, &invite, "200 OK", "", &answer);
    carol.expect(&mut stage, "ACK", "ACK");
    carol.speak(&stage);
    alice_talked(&mut stage, &carol);
}

/// It answers with ICE, picks up, and no check ever arrives: ended after the patience, exit 3.
#[test]
fn a_2xx_without_a_proof_is_ended_within_the_patience() {
    let (mut stage, carol) = alice_and_carol(Kind::Full(Role::Controlled), |settings| {
        direct(settings);
        settings.duration = None;
    });
    let invite = carol.expect(&mut stage, "INVITE", "INVITE");
    // Carol learns nothing of alice, so she neither checks nor answers with integrity.
    let answer = carol.sdp("");
    carol.respond(&mut stage, &invite, "180 Ringing", "", &answer);
    carol.respond(&mut stage, &invite, "200 OK", "", &answer);
    carol.expect(&mut stage, "ACK", "ACK");
    let answered = stage.simulation.now();
    let bye = carol.expect(&mut stage, "BYE", "BYE");
    let after = bye.at - answered;
    assert!(after <= Duration::from_millis(10_500), "{after:?}");
    assert!(stage.alice().played().is_empty());
    let end = outcome(stage.alice()).map(|end| (end.0, end.1));
    assert_eq!(end, Some((EndReason::NoMediaPath, Outcome::NoMediaPath)));
}

/// A second phone answers as well: acknowledged, and hung up.
#[test]
fn the_second_2xx_of_a_fork_is_ended() {
    let (mut stage, carol) = alice_and_carol(Kind::Without, direct);
    let invite = carol.expect(&mut stage, "INVITE", "INVITE");
    let answer = carol.sdp("");
    carol.learn(&stage, invite.body());
    carol.respond(&mut stage, &invite, "200 OK", "", &answer);
    let mut second = carol.clone();
    second.tag = "second".into();
    second.respond(&mut stage, &invite, "200 OK", "", &answer);
    carol.speak(&stage);
    let bye = carol.expect(&mut stage, "BYE", "BYE");
    assert!(bye.header("To").ends_with(";tag=second"), "{}", bye.text);
    carol.respond(&mut stage, &bye, "200 OK", "", "");
    carol.state().came.clear();
    alice_talked(&mut stage, &carol);
}

/// A challenge to the INVITE, then one to the BYE.
#[test]
fn challenges_are_answered() {
    let (mut stage, carol) = alice_and_carol(Kind::Without, |settings| {
        direct(settings);
        settings.login = Some(ringtrue_phone::settings::Login {
            user: "alice".into(),
            password: "secret".into(),
        });
    });
    let challenge =
        "WWW-Authenticate: Digest realm=\"r\", nonce=\"n1\", qop=\"auth\", algorithm=SHA-256\r\n";
    let invite = carol.expect(&mut stage, "INVITE", "INVITE");
    carol.respond(&mut stage, &invite, "401 Unauthorized", challenge, "");
    carol.expect(&mut stage, "ACK", "ACK");
    carol.state().came.clear();
    let invite = carol.expect(&mut stage, "INVITE", "INVITE");
    assert!(
        invite
            .header("Authorization")
            .contains("username=\"alice\"")
    );
    let answer = carol.sdp("");
    carol.learn(&stage, invite.body());
    carol.respond(&mut stage, &invite, "200 OK", "", &answer);
    carol.expect(&mut stage, "ACK", "ACK");
    carol.speak(&stage);
    stage.run(3);
    let bye = carol.expect(&mut stage, "BYE", "BYE");
    let challenge = challenge
        .replace("n1", "n2")
        .replace("algorithm", "stale=true, algorithm");
    carol.respond(&mut stage, &bye, "401 Unauthorized", &challenge, "");
    carol.state().came.clear();
    let bye = carol.expect(&mut stage, "BYE", "BYE");
    assert!(
        bye.header("Authorization").contains("nonce=\"n2\""),
        "{}",
        bye.text
    );
    carol.respond(&mut stage, &bye, "200 OK", "", "");
    stage.run(1);
    assert_eq!(
        outcome(stage.alice()).map(|end| end.1),
        Some(Outcome::Completed)
    );
}

/// The selected pair is not the default one of the answer: alice says so in a re-INVITE, to
/// `ice2` peers unless a setting turns that off, to others always (RFC 8839 section 4.3.4).
#[test]
fn the_re_invite_after_nomination_with_and_without_ice2() {
    fn without(settings: &mut Settings) {
        direct(settings);
        settings.updated_offer = false;
    }
    for (ice2, turned_off) in [(true, false), (false, false), (true, true), (false, true)] {
        let wanted = !(ice2 && turned_off);
        let alices = if turned_off { without } else { direct };
        let (mut stage, carol) = alice_and_carol(Kind::Full(Role::Controlled), alices);
        let invite = carol.expect(&mut stage, "INVITE", "INVITE");
        carol.learn(&stage, invite.body());
        let options = if ice2 { "a=ice-options:ice2\r\n" } else { "" };
        let answer = carol
            .sdp("a=candidate:2 1 UDP 1694498815 203.0.113.99 30000 typ host\r\n")
            .replace("c=IN IP4 203.0.113.9\r\n", "c=IN IP4 203.0.113.99\r\n")
            .replace("m=audio", &format!("{options}m=audio"));
        carol.respond(&mut stage, &invite, "180 Ringing", "", &answer);
        stage.run(1);
        carol.respond(&mut stage, &invite, "200 OK", "", &answer);
        carol.expect(&mut stage, "ACK", "ACK");
        carol.speak(&stage);
        carol.state().came.clear();
        stage.run(1);
        let offer = carol.find("INVITE", "INVITE");
        assert_eq!(offer.is_some(), wanted, "ice2: {ice2}\n{}", stage.story());
        if let Some(offer) = offer {
            let body = offer.body();
            assert_eq!(body.matches("a=candidate:").count(), 1, "{body}");
            let remote = "a=remote-candidates:1 203.0.113.9 30000\r\n";
            assert!(body.contains(remote), "{body}");
            carol.respond(&mut stage, &offer, "200 OK", "", &carol.sdp(""));
            carol.expect(&mut stage, "ACK", "ACK");
        }
        alice_talked(&mut stage, &carol);
    }
}
