//! Callers that do what ours never does: no SDP in the INVITE, no 100rel, no rtcp-mux, lite agents,
//! hold, restarts, mangled offers.

use std::time::Duration;

use ringtrue_ice::Role;
use ringtrue_phone::EventKind;
use ringtrue_phone::event::Outcome;
use ringtrue_phone::settings::{AnswerWhen, IceUse};

use crate::foreign::{CAROL_TONE, Came, Foreign, Kind};
use crate::stage::{BOB_TONE, Setup, Stage, at, heard, outcome, rang};

pub const REL: &str = "Supported: 100rel\r\n";

/// Bob, and carol who will call him without a proxy between them.
pub fn bob_and_carol(kind: Kind, bobs: fn(&mut ringtrue_phone::Settings)) -> (Stage, Foreign) {
    let mut stage = Setup {
        bobs,
        ..Setup::default()
    }
    .build();
    let carol = Foreign::at(&mut stage, kind);
    (stage, carol)
}

/// Takes the peer's tag out of a response.
pub fn tag_of(response: &Came) -> String {
    let to = response.header("To");
    to.split_once(";tag=").map_or("", |(_, tag)| tag).to_owned()
}

pub fn rack(response: &Came) -> String {
    let (rseq, cseq) = (response.header("RSeq"), response.header("CSeq"));
    format!("RAck: {rseq} {cseq}\r\n")
}

/// Both talk until bob's three seconds are over; both have been heard.
pub fn assert_talked(stage: &mut Stage, carol: &Foreign) {
    stage.run(5);
    let bye = carol.expect(stage, "BYE", "BYE");
    carol.respond(stage, &bye, "200 OK", "", "");
    let at_carol = carol.heard(BOB_TONE);
    let at_bob = heard(stage.bob(), CAROL_TONE);
    assert!(
        at_carol > 2.3 && at_bob > 2.3,
        "bob heard {at_bob} s, carol {at_carol} s\n{}",
        stage.story()
    );
    assert_eq!(
        outcome(stage.bob()).map(|end| end.1),
        Some(Outcome::Completed)
    );
}

pub fn ring_is(stage: &Stage, wanted: bool) {
    let ringing = rang(stage.bob()).unwrap_or_else(|| panic!("no ring\n{}", stage.story()));
    assert!(
        matches!(&ringing.kind, EventKind::Ringing { verified, .. } if *verified == wanted),
        "{}",
        stage.story()
    );
}

/// The proof is there before the ring, at bob's.
fn proof_precedes_ring(stage: &Stage) {
    let proof = at(stage.bob(), |kind| {
        matches!(kind, EventKind::PathValidated(_))
    });
    let ring = rang(stage.bob()).map(|event| event.at);
    assert!(proof.is_some() && proof <= ring, "{}", stage.story());
}

/// Carol calls with this offer, gets the 183, and checks; the proof rings, bob picks up.
pub fn call_with_ice(stage: &mut Stage, carol: &mut Foreign, extra: &str) {
    let offer = carol.sdp("");
    carol.request(stage, "1 INVITE", extra, &offer);
    let progress = carol.expect(stage, "SIP/2.0 183", "INVITE");
    carol.to_tag = tag_of(&progress);
    if extra.contains("100rel") {
        carol.request(stage, "2 PRACK", &rack(&progress), "");
    }
    carol.learn(stage, progress.body());
    carol.expect(stage, "SIP/2.0 180", "INVITE");
    let accepted = carol.expect(stage, "SIP/2.0 200", "INVITE");
    carol.request(stage, "1 ACK", "", "");
    // After unreliable 183s the 200 repeats their SDP byte for byte; after a reliable one none.
    let repeated = if extra.contains("100rel") {
        ""
    } else {
        progress.body()
    };
    assert_eq!(accepted.body(), repeated);
    carol.speak(stage);
}

#[test]
fn a_caller_with_100rel() {
    let (mut stage, mut carol) = bob_and_carol(Kind::Full(Role::Controlling), |_| {});
    call_with_ice(&mut stage, &mut carol, REL);
    ring_is(&stage, true);
    proof_precedes_ring(&stage);
    assert_talked(&mut stage, &carol);
}

/// Without 100rel the 183 is repeated, and stops at carol's first check, which comes late here.
#[test]
fn without_100rel_the_183_is_repeated_until_the_first_check() {
    let (mut stage, mut carol) = bob_and_carol(Kind::Full(Role::Controlling), |settings| {
        settings.answer = AnswerWhen::Never;
    });
    let offer = carol.sdp("");
    carol.request(&mut stage, "1 INVITE", "", &offer);
    // 0, 0.5, 1.5, 3.5 s.
    stage.run(4);
    assert_eq!(carol.count("SIP/2.0 183"), 4);
    assert!(!stage.rang());
    let progress = carol.expect(&mut stage, "SIP/2.0 183", "INVITE");
    carol.to_tag = tag_of(&progress);
    carol.learn(&stage, progress.body());
    stage.run(20);
    assert_eq!(carol.count("SIP/2.0 183"), 4, "no more after the check");
    ring_is(&stage, true);
    proof_precedes_ring(&stage);
}

#[test]
fn a_caller_without_100rel_is_heard() {
    let (mut stage, mut carol) = bob_and_carol(Kind::Full(Role::Controlling), |_| {});
    call_with_ice(&mut stage, &mut carol, "");
    ring_is(&stage, true);
    assert_talked(&mut stage, &carol);
}

/// RFC 8839 section 7.1.2: our offer in the reliable 183, the answer in the PRACK.
#[test]
fn an_invite_without_sdp_is_held_until_the_proof() {
    let (mut stage, mut carol) = bob_and_carol(Kind::Full(Role::Controlled), |_| {});
    carol.request(&mut stage, "1 INVITE", REL, "");
    let progress = carol.expect(&mut stage, "SIP/2.0 183", "INVITE");
    assert!(
        progress.body().contains("a=candidate:"),
        "{}",
        progress.text
    );
    carol.to_tag = tag_of(&progress);
    stage.run(1);
    assert!(!stage.rang(), "no answer, no ring\n{}", stage.story());
    carol.learn(&stage, progress.body());
    let answer = carol.sdp("");
    carol.request(&mut stage, "2 PRACK", &rack(&progress), &answer);
    carol.expect(&mut stage, "SIP/2.0 200", "PRACK");
    carol.expect(&mut stage, "SIP/2.0 180", "INVITE");
    ring_is(&stage, true);
    proof_precedes_ring(&stage);
    let accepted = carol.expect(&mut stage, "SIP/2.0 200", "INVITE");
    assert_eq!(accepted.body(), "");
    carol.request(&mut stage, "1 ACK", "", "");
    carol.speak(&stage);
    assert_talked(&mut stage, &carol);
}

/// Its PRACK never comes: the INVITE is refused, and bob's phone is free for others.
#[test]
fn an_invite_without_sdp_and_without_a_prack_ends() {
    for body in ["", "offer"] {
        let (mut stage, carol) = bob_and_carol(Kind::Full(Role::Controlled), |_| {});
        let body = if body.is_empty() {
            String::new()
        } else {
            carol.sdp("")
        };
        carol.request(&mut stage, "1 INVITE", REL, &body);
        stage.run(40);
        assert!(!stage.rang(), "{}", stage.story());
        assert!(outcome(stage.bob()).is_some(), "{}", stage.story());
        let missed = |kind: &EventKind| matches!(kind, EventKind::Missed { .. });
        assert!(stage.bob().event(missed).is_some(), "{}", stage.story());
        stage.run(40);
        let bob = stage.bob;
        assert!(stage.simulation.node_mut(bob).phone().is_idle());
    }
}

/// A PRACK without the answer, or with one that cannot be read.
#[test]
fn an_invite_without_sdp_and_without_an_answer_rings_nobody() {
    for answer in ["", "this is no session description"] {
        let (mut stage, mut carol) = bob_and_carol(Kind::Full(Role::Controlled), |_| {});
        carol.request(&mut stage, "1 INVITE", REL, "");
        let progress = carol.expect(&mut stage, "SIP/2.0 183", "INVITE");
        carol.to_tag = tag_of(&progress);
        carol.request(&mut stage, "2 PRACK", &rack(&progress), answer);
        carol.expect(&mut stage, "SIP/2.0 488", "INVITE");
        assert!(!stage.rang(), "{}", stage.story());
    }
}

/// Without 100rel the offer has to wait for the 200: rung unverified, or refused under
/// `--require-ice`.
#[test]
fn an_invite_without_sdp_or_100rel_is_unverified() {
    let (mut stage, mut carol) = bob_and_carol(Kind::Full(Role::Controlled), |_| {});
    carol.request(&mut stage, "1 INVITE", "", "");
    let ringing = carol.expect(&mut stage, "SIP/2.0 180", "INVITE");
    assert_eq!(ringing.body(), "");
    carol.to_tag = tag_of(&ringing);
    ring_is(&stage, false);
    let accepted = carol.expect(&mut stage, "SIP/2.0 200", "INVITE");
    assert!(
        accepted.body().contains("a=candidate:"),
        "{}",
        accepted.text
    );
    carol.learn(&stage, accepted.body());
    let answer = carol.sdp("");
    carol.request(&mut stage, "1 ACK", "", &answer);
    carol.speak(&stage);
    assert_talked(&mut stage, &carol);

    let require = |settings: &mut ringtrue_phone::Settings| settings.ice = IceUse::Required;
    let (mut stage, carol) = bob_and_carol(Kind::Full(Role::Controlled), require);
    carol.request(&mut stage, "1 INVITE", "", "");
    let refused = carol.expect(&mut stage, "SIP/2.0 421", "INVITE");
    assert_eq!(refused.header("Require"), "ice");
    assert!(!stage.rang());
}

/// A lite caller never checks: our own check is the proof, and the 183 is sent four times.
#[test]
fn a_lite_caller_is_proven_by_our_checks() {
    let (mut stage, mut carol) = bob_and_carol(Kind::Lite, |_| {});
    call_with_ice(&mut stage, &mut carol, "");
    ring_is(&stage, true);
    proof_precedes_ring(&stage);
    assert_talked(&mut stage, &carol);
}

/// Without rtcp-mux both components are proven before the ring, and RTCP goes by its own.
#[test]
fn a_caller_without_rtcp_mux() {
    let (mut stage, mut carol) = bob_and_carol(Kind::Full(Role::Controlling), |settings| {
        settings.duration = Some(Duration::from_secs(12));
    });
    carol.state().mux = false;
    call_with_ice(&mut stage, &mut carol, REL);
    proof_precedes_ring(&stage);
    stage.run(15);
    assert!(carol.state().rtcp_apart > 0, "{}", stage.story());
    assert!(carol.heard(BOB_TONE) > 10.0);
    assert!(heard(stage.bob(), CAROL_TONE) > 10.0);
}

/// ... and where the path of component 2 is dead, nobody rings.
#[test]
fn a_dead_component_2_rings_nobody() {
    let (mut stage, mut carol) = bob_and_carol(Kind::Full(Role::Controlling), |_| {});
    carol.state().mux = false;
    stage.tap(|passing| {
        let rtcp = 30_001;
        if passing.destination.port() == rtcp || passing.source.port() == rtcp {
            return ringtrue_testnet::Verdict::Drop;
        }
        ringtrue_testnet::Verdict::Pass
    });
    let offer = carol.sdp("");
    carol.request(&mut stage, "1 INVITE", "", &offer);
    let progress = carol.expect(&mut stage, "SIP/2.0 183", "INVITE");
    carol.to_tag = tag_of(&progress);
    carol.learn(&stage, progress.body());
    let refused = carol.expect(&mut stage, "SIP/2.0 480", "INVITE");
    assert!(
        refused.header("Warning").starts_with("399 "),
        "{}",
        refused.text
    );
    assert!(!stage.rang(), "{}", stage.story());
}

/// Hold and back: what the answer says, and what bob sends.
#[test]
fn the_peer_holds_and_comes_back() {
    let (mut stage, mut carol) = bob_and_carol(Kind::Full(Role::Controlling), |settings| {
        settings.duration = None;
    });
    call_with_ice(&mut stage, &mut carol, REL);
    stage.run(2);
    let steps = [
        ("a=sendonly\r\n", "a=recvonly", false),
        ("a=inactive\r\n", "a=inactive", false),
        ("", "", true),
        ("a=recvonly\r\n", "a=sendonly", true),
        ("a=sendrecv\r\n", "", true),
    ];
    for (number, (says, answers, sends)) in steps.into_iter().enumerate() {
        let number = number + 3;
        let offer = carol.sdp(says);
        carol.request(&mut stage, &format!("{number} INVITE"), "", &offer);
        let answer = carol.expect(&mut stage, "SIP/2.0 200", &format!("{number} INVITE"));
        carol.request(&mut stage, &format!("{number} ACK"), "", "");
        let directions: Vec<&str> = answer
            .body()
            .lines()
            .filter(|line| ["a=sendonly", "a=recvonly", "a=inactive"].contains(line))
            .collect();
        assert_eq!(directions.join(""), answers, "{says}: {}", answer.text);
        if says == "a=sendonly\r\n" || says == "a=inactive\r\n" {
            carol.hush();
        } else {
            carol.speak(&stage);
        }
        stage.run(1);
        carol.state().first_rtp = None;
        stage.run(1);
        assert_eq!(carol.state().first_rtp.is_some(), sends, "after {says}");
    }
    // Half a minute of hold does not end the call: consent goes on.
    let offer = carol.sdp("a=inactive\r\n");
    carol.request(&mut stage, "20 INVITE", "", &offer);
    carol.expect(&mut stage, "SIP/2.0 200", "20 INVITE");
    carol.request(&mut stage, "20 ACK", "", "");
    carol.hush();
    stage.run(45);
    assert!(outcome(stage.bob()).is_none(), "{}", stage.story());
    carol.request(&mut stage, "21 BYE", "", "");
    carol.expect(&mut stage, "SIP/2.0 200", "21 BYE");
    assert_eq!(
        outcome(stage.bob()).map(|end| end.1),
        Some(Outcome::Completed)
    );
}

/// New credentials ask for a restart, which is answered with new ones; a peer that then never
/// checks with them keeps the path of before.
#[test]
fn a_restart_that_comes_to_nothing_leaves_the_path_of_before() {
    let (mut stage, mut carol) = bob_and_carol(Kind::Full(Role::Controlling), |_| {});
    call_with_ice(&mut stage, &mut carol, REL);
    stage.run(1);
    let offer = carol
        .sdp("")
        .replace("a=ice-ufrag:", "a=ice-ufrag:new")
        .replace("a=ice-pwd:", "a=ice-pwd:new");
    carol.request(&mut stage, "3 INVITE", "", &offer);
    let answer = carol.expect(&mut stage, "SIP/2.0 200", "3 INVITE");
    let first = carol.expect(&mut stage, "SIP/2.0 183", "1 INVITE");
    for name in ["a=ice-ufrag:", "a=ice-pwd:"] {
        let value = |sdp: &str| {
            sdp.lines()
                .find(|line| line.starts_with(name))
                .map(str::to_owned)
        };
        let (old, new) = (value(first.body()), value(answer.body()));
        assert!(new.is_some() && new != old, "{}", answer.text);
    }
    carol.request(&mut stage, "3 ACK", "", "");
    assert_talked(&mut stage, &carol);
}

/// Something on the way rewrote the offer's default address: no ICE, and the answer says why
/// (RFC 8839 section 4.2.5).
#[test]
fn a_mangled_offer_is_answered_with_ice_mismatch() {
    let (mut stage, mut carol) = bob_and_carol(Kind::Without, |_| {});
    let mangled = carol.sdp("")
        + "a=ice-ufrag:carolito\r\na=ice-pwd:carolcarolcarolcarolcarol\r\n\
           a=candidate:1 1 UDP 2130706431 192.168.7.7 30000 typ host\r\n";
    carol.request(&mut stage, "1 INVITE", REL, &mangled);
    let ringing = carol.expect(&mut stage, "SIP/2.0 180", "INVITE");
    carol.to_tag = tag_of(&ringing);
    ring_is(&stage, false);
    let accepted = carol.expect(&mut stage, "SIP/2.0 200", "INVITE");
    assert!(
        accepted.body().contains("a=ice-mismatch"),
        "{}",
        accepted.text
    );
    assert!(
        !accepted.body().contains("a=candidate"),
        "{}",
        accepted.text
    );
    carol.learn(&stage, accepted.body());
    carol.request(&mut stage, "1 ACK", "", "");
    carol.speak(&stage);
    assert_talked(&mut stage, &carol);
}

/// A G.711 phone renegotiates to µ-law from A-law in the middle of the call.
#[test]
fn the_codec_changes_in_a_re_invite() {
    let (mut stage, mut carol) = bob_and_carol(Kind::Full(Role::Controlling), |settings| {
        settings.duration = None;
    });
    let offer = carol.sdp("").replace("RTP/AVP 0", "RTP/AVP 8");
    carol.request(&mut stage, "1 INVITE", "", &offer);
    let progress = carol.expect(&mut stage, "SIP/2.0 183", "INVITE");
    carol.to_tag = tag_of(&progress);
    carol.learn(&stage, progress.body());
    carol.expect(&mut stage, "SIP/2.0 200", "INVITE");
    carol.request(&mut stage, "1 ACK", "", "");
    stage.run(1);
    assert!(carol.heard(BOB_TONE) < 0.1);
    let offer = carol.sdp("");
    carol.request(&mut stage, "2 INVITE", "", &offer);
    carol.expect(&mut stage, "SIP/2.0 200", "2 INVITE");
    carol.request(&mut stage, "2 ACK", "", "");
    carol.speak(&stage);
    stage.run(3);
    assert!(carol.heard(BOB_TONE) > 2.5, "{}", stage.story());
    assert!(heard(stage.bob(), CAROL_TONE) > 2.5, "{}", stage.story());
}

/// Carol nominates and says so in a re-INVITE: the answer has the selected pair alone.
#[test]
fn the_callers_re_invite_after_nomination_is_answered() {
    let (mut stage, mut carol) = bob_and_carol(Kind::Full(Role::Controlling), |_| {});
    call_with_ice(&mut stage, &mut carol, REL);
    stage.run(1);
    let progress = carol.expect(&mut stage, "SIP/2.0 183", "INVITE");
    let line = |body: &str, prefix: &str| {
        let found = body.lines().find_map(|line| line.strip_prefix(prefix));
        found.unwrap_or_default().to_owned()
    };
    let media = line(progress.body(), "m=audio ");
    let port = media.split(' ').next().unwrap_or_default();
    let offer = carol.sdp(&format!("a=remote-candidates:1 203.0.113.2 {port}\r\n"));
    carol.request(&mut stage, "3 INVITE", "", &offer);
    let answer = carol.expect(&mut stage, "SIP/2.0 200", "3 INVITE");
    carol.request(&mut stage, "3 ACK", "", "");
    let body = answer.body();
    assert_eq!(body.matches("a=candidate:").count(), 1, "{body}");
    assert!(!body.contains("a=remote-candidates"), "{body}");
    assert!(body.contains("a=rtcp-mux"), "{body}");
    let version = |body| line(body, "o=").split(' ').nth(2).map(str::to_owned);
    assert_eq!(version(progress.body()).as_deref(), Some("1"));
    assert_eq!(version(body).as_deref(), Some("2"));
    assert_talked(&mut stage, &carol);
}
