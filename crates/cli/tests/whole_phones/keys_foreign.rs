//! Keys with phones of somebody else's: late ones, silent ones, ones that lie.

use std::time::Duration;

use ringtrue_ice::Role;
use ringtrue_media::secure::DtlsRole;
use ringtrue_phone::event::{EndReason, Outcome};
use ringtrue_phone::settings::{AnswerWhen, SrtpUse};
use ringtrue_phone::{EventKind, Settings};

use crate::foreign::{CAROL_TONE, Foreign, Kind};
use crate::foreign_callers::{bob_and_carol, tag_of};
use crate::foreign_keys::ForeignKeys;
use crate::keys::{figures, keys_pending, secured};
use crate::stage::{BOB_TONE, Stage, at, heard, outcome, rang};

const CALLER: Kind = Kind::Full(Role::Controlling);

/// Carol, who encrypts, has called; bob's answer is in the 183, and her checks run.
fn called(
    bobs: fn(&mut Settings),
    lines: impl Fn(&ForeignKeys) -> String,
) -> (Stage, Foreign, String) {
    let (mut stage, mut carol) = bob_and_carol(CALLER, bobs);
    let keys = ForeignKeys::new();
    let offer = carol.sdp(&lines(&keys));
    carol.state().keys = Some(keys);
    carol.request(&mut stage, "1 INVITE", "", &offer);
    let progress = carol.expect(&mut stage, "SIP/2.0 183", "INVITE");
    carol.to_tag = tag_of(&progress);
    let answer = progress.body().to_owned();
    carol.learn(&stage, &answer);
    (stage, carol, answer)
}

fn start(stage: &Stage, carol: &Foreign, role: DtlsRole, sdp: &str) {
    let now = stage.simulation.now();
    carol.state().keys.as_mut().unwrap().start(now, role, sdp);
}

fn proven(stage: &Stage) -> std::time::Instant {
    let validated = |kind: &EventKind| matches!(kind, EventKind::PathValidated(_));
    at(stage.bob(), validated).unwrap_or_else(|| panic!("no proof\n{}", stage.story()))
}

fn talk(stage: &mut Stage, carol: &Foreign) {
    carol.request(stage, "1 ACK", "", "");
    carol.speak(stage);
    stage.run(5);
    let (at_carol, at_bob) = (carol.heard(BOB_TONE), heard(stage.bob(), CAROL_TONE));
    assert!(
        at_carol > 1.5 && at_bob > 1.5,
        "{at_carol} {at_bob}\n{}",
        stage.story()
    );
}

#[test]
fn a_caller_with_keys_in_time_rings_with_them() {
    let (mut stage, carol, answer) = called(|_| {}, |keys| keys.lines("actpass"));
    assert!(answer.contains("a=setup:active"), "{answer}");
    start(&stage, &carol, DtlsRole::Passive, &answer);
    carol.expect(&mut stage, "SIP/2.0 200", "INVITE");
    let ring = rang(stage.bob()).unwrap().at;
    assert!(secured(stage.bob()).unwrap() <= ring && keys_pending(stage.bob()).is_none());
    talk(&mut stage, &carol);
}

#[test]
fn a_caller_that_wants_to_begin_may() {
    let (mut stage, carol, answer) = called(|_| {}, |keys| keys.lines("active"));
    assert!(answer.contains("a=setup:passive"), "{answer}");
    // As soon as her path stands.
    while carol.state().proven_at.is_none() {
        stage.simulation.run_for(Duration::from_millis(1));
    }
    start(&stage, &carol, DtlsRole::Active, &answer);
    carol.expect(&mut stage, "SIP/2.0 200", "INVITE");
    assert!(keys_pending(stage.bob()).is_none(), "{}", stage.story());
    talk(&mut stage, &carol);
}

/// Rung one second after the proof, with `keys_pending`; heard once she has begun.
#[test]
fn one_that_begins_after_the_answer_is_rung_a_second_later() {
    let (mut stage, carol, answer) = called(|_| {}, |keys| keys.lines("actpass"));
    carol.expect(&mut stage, "SIP/2.0 180", "INVITE");
    let ring = rang(stage.bob()).unwrap().at;
    assert_eq!(
        ring - proven(&stage),
        Duration::from_secs(1),
        "{}",
        stage.story()
    );
    assert_eq!(keys_pending(stage.bob()), Some(ring));
    carol.expect(&mut stage, "SIP/2.0 200", "INVITE");
    assert_eq!(secured(stage.bob()), None);
    assert!(
        carol.state().keys.as_ref().unwrap().came > 1,
        "bob has tried all along"
    );
    start(&stage, &carol, DtlsRole::Passive, &answer);
    talk(&mut stage, &carol);
    assert!(secured(stage.bob()).is_some());
}

/// No keys ever: not a packet of media leaves, and the call is ended with the reason.
#[test]
fn one_that_never_begins_is_hung_up_unheard() {
    let (mut stage, carol, _) = called(
        |settings| settings.patience = Duration::from_secs(2),
        |keys| keys.lines("actpass"),
    );
    carol.expect(&mut stage, "SIP/2.0 200", "INVITE");
    carol.request(&mut stage, "1 ACK", "", "");
    // She speaks in the clear meanwhile.
    let keys = carol.state().keys.take();
    carol.speak(&stage);
    stage.run(2);
    carol.state().keys = keys;
    stage.run(4);
    let bye = carol.expect(&mut stage, "BYE", "BYE");
    assert!(bye.text.contains("No keys for the media"), "{}", bye.text);
    let (reason, end, _) = outcome(stage.bob()).unwrap();
    assert_eq!((reason, end), (EndReason::KeysFailed, Outcome::NoMediaPath));
    assert!(
        carol.state().first_rtp.is_none(),
        "nothing leaves in the clear"
    );
    assert_eq!(heard(stage.bob(), CAROL_TONE), 0.0);
}

#[test]
fn one_that_is_not_who_it_says_is_refused_unrung() {
    // The fingerprint is somebody else's.
    let (mut stage, carol, answer) = called(|_| {}, |_| ForeignKeys::new().lines("actpass"));
    start(&stage, &carol, DtlsRole::Passive, &answer);
    let refused = carol.expect(&mut stage, "SIP/2.0 480", "INVITE");
    assert!(
        refused.text.contains("No keys for the media"),
        "{}",
        refused.text
    );
    assert!(!stage.rang());
    assert!(
        carol.state().keys.as_ref().unwrap().failed,
        "she is told by an alert"
    );
    let (reason, end, _) = outcome(stage.bob()).unwrap();
    assert_eq!((reason, end), (EndReason::KeysFailed, Outcome::NoMediaPath));
}

/// It begins the handshake and does not go on: no late starter, so no ring.
#[test]
fn one_that_stops_in_the_middle_is_refused_after_the_patience() {
    let (mut stage, carol, answer) = called(|_| {}, |keys| keys.lines("actpass"));
    start(&stage, &carol, DtlsRole::Passive, &answer);
    let seen = std::sync::atomic::AtomicUsize::new(0);
    let bob = stage.bob;
    stage.tap(move |passing| {
        let dtls = matches!(passing.payload, [20..=63, 0xfe, ..]);
        let departs = passing.receiver.is_none() && passing.sender == Some(bob);
        let lost = dtls && departs && seen.fetch_add(1, std::sync::atomic::Ordering::Relaxed) > 0;
        if lost {
            ringtrue_testnet::Verdict::Drop
        } else {
            ringtrue_testnet::Verdict::Pass
        }
    });
    carol.expect(&mut stage, "SIP/2.0 480", "INVITE");
    assert!(!stage.rang(), "{}", stage.story());
    let ended = at(stage.bob(), |kind| matches!(kind, EventKind::Ended { .. })).unwrap();
    assert_eq!(ended - proven(&stage), Duration::from_secs(10));
    assert_eq!(outcome(stage.bob()).unwrap().0, EndReason::KeysFailed);
}

/// The path is lost while the keys are awaited: the proof in hand is worth nothing.
#[test]
fn a_path_that_is_lost_during_the_handshake_rings_nobody() {
    let (mut stage, carol, answer) = called(
        |settings| settings.patience = Duration::from_secs(100),
        |keys| keys.lines("actpass"),
    );
    start(&stage, &carol, DtlsRole::Passive, &answer);
    let begin = stage.simulation.now();
    let (bob, host) = (stage.bob, carol.host);
    stage.tap(move |passing| {
        let dtls = matches!(passing.payload, [20..=63, 0xfe, ..]);
        let late = passing.now > begin + Duration::from_millis(500);
        let media = passing.source.port() != 5060 && passing.destination.port() != 5060;
        let theirs = passing.sender == Some(bob) || passing.sender == Some(host);
        // First the handshake hangs, then nothing gets through any more.
        let from_bob = dtls && passing.sender == Some(bob) && passing.payload.len() > 300;
        if theirs && media && (late || from_bob) {
            ringtrue_testnet::Verdict::Drop
        } else {
            ringtrue_testnet::Verdict::Pass
        }
    });
    stage.run(60);
    assert!(!stage.rang(), "{}", stage.story());
    carol.expect(&mut stage, "SIP/2.0 480", "INVITE");
    let (_, end, _) = outcome(stage.bob()).unwrap();
    assert_eq!(end, Outcome::NoMediaPath, "{}", stage.story());
}

#[test]
fn a_cancel_beats_the_keys() {
    let (mut stage, mut carol, answer) = called(|_| {}, |keys| keys.lines("actpass"));
    while at(stage.bob(), |kind| {
        matches!(kind, EventKind::PathValidated(_))
    })
    .is_none()
    {
        stage.simulation.run_for(Duration::from_millis(1));
    }
    let tag = std::mem::take(&mut carol.to_tag);
    let cancel = "CANCEL";
    // The same transaction as the INVITE's.
    let branch = "z9hG4bKINVITE1";
    let me = "203.0.113.9";
    let text = format!(
        "{cancel} sip:bob@{peer} SIP/2.0\r\nVia: SIP/2.0/UDP {me};branch={branch}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:carol@{me}>;tag={from}\r\nTo: <sip:bob@{ip}>\r\n\
         Call-ID: {id}\r\nCSeq: 1 CANCEL\r\nContent-Length: 0\r\n\r\n",
        peer = carol.peer,
        from = carol.tag,
        ip = carol.peer.ip(),
        id = carol.call_id,
    );
    carol.to_tag = tag;
    let peer = carol.peer;
    carol.send(&mut stage, peer, text);
    carol.expect(&mut stage, "SIP/2.0 487", "INVITE");
    start(&stage, &carol, DtlsRole::Passive, &answer);
    stage.run(5);
    assert!(!stage.rang() && secured(stage.bob()).is_none());
    assert_eq!(outcome(stage.bob()).unwrap().0, EndReason::Cancelled);
}

/// Nothing takes the encryption back: an offer without a fingerprint is refused, the call goes on.
#[test]
fn a_later_offer_cannot_drop_the_encryption() {
    let (mut stage, carol, answer) = called(
        |settings| settings.duration = Some(Duration::from_secs(6)),
        |keys| keys.lines("actpass"),
    );
    start(&stage, &carol, DtlsRole::Passive, &answer);
    carol.expect(&mut stage, "SIP/2.0 200", "INVITE");
    carol.request(&mut stage, "1 ACK", "", "");
    carol.speak(&stage);
    stage.run(1);
    let clear = carol.sdp("").replace("o=- 7 7", "o=- 7 8");
    carol.request(&mut stage, "3 INVITE", "", &clear);
    carol.expect(&mut stage, "SIP/2.0 488", "INVITE");
    carol.request(&mut stage, "3 ACK", "", "");
    // The same with her fingerprint is taken, and the association lasts.
    let lines = carol.state().keys.as_ref().unwrap().lines("actpass");
    let kept = carol.sdp(&lines).replace("o=- 7 7", "o=- 7 9");
    carol.request(&mut stage, "4 INVITE", "", &kept);
    stage.run(1);
    let accepted = carol
        .state()
        .came
        .iter()
        .rev()
        .find(|came| came.is("SIP/2.0 200", "INVITE") && came.header("CSeq").starts_with('4'))
        .cloned()
        .expect("taken");
    assert!(
        accepted.body().contains("a=setup:active"),
        "{}",
        accepted.body()
    );
    carol.request(&mut stage, "4 ACK", "", "");
    stage.run(6);
    assert!(heard(stage.bob(), CAROL_TONE) > 5.0, "{}", stage.story());
    assert!(carol.heard(BOB_TONE) > 5.0);
    assert_eq!(figures(stage.bob()).srtp_forged, Some(0));
}

/// Her new certificate means a new handshake; media goes on under new keys.
#[test]
fn a_new_certificate_means_new_keys() {
    let (mut stage, carol, answer) = called(
        |settings| settings.duration = Some(Duration::from_secs(8)),
        |keys| keys.lines("actpass"),
    );
    start(&stage, &carol, DtlsRole::Passive, &answer);
    carol.expect(&mut stage, "SIP/2.0 200", "INVITE");
    carol.request(&mut stage, "1 ACK", "", "");
    carol.speak(&stage);
    stage.run(2);
    let mut keys = ForeignKeys::new();
    let offer = carol
        .sdp(&keys.lines("actpass"))
        .replace("o=- 7 7", "o=- 7 8");
    keys.start(stage.simulation.now(), DtlsRole::Passive, &answer);
    carol.state().keys = Some(keys);
    carol.request(&mut stage, "3 INVITE", "", &offer);
    stage.run(1);
    carol.request(&mut stage, "3 ACK", "", "");
    stage.run(7);
    assert!(carol.state().keys.as_ref().unwrap().keyed_at.is_some());
    assert!(heard(stage.bob(), CAROL_TONE) > 6.5, "{}", stage.story());
    assert!(carol.heard(BOB_TONE) > 6.5, "{}", carol.heard(BOB_TONE));
}

/// A caller without ICE: rung at once and unverified as ever, its keys pending.
#[test]
fn a_caller_without_ice_gets_its_keys_after_the_answer() {
    let (mut stage, mut carol) = bob_and_carol(Kind::Without, |settings| {
        settings.srtp = SrtpUse::Required;
        settings.answer = AnswerWhen::After(Duration::from_secs(1));
    });
    let keys = ForeignKeys::new();
    let offer = carol.sdp(&keys.lines("actpass"));
    carol.state().keys = Some(keys);
    carol.request(&mut stage, "1 INVITE", "", &offer);
    let accepted = carol.expect(&mut stage, "SIP/2.0 200", "INVITE");
    assert!(keys_pending(stage.bob()).is_some(), "{}", stage.story());
    carol.to_tag = tag_of(&accepted);
    carol.learn(&stage, accepted.body());
    start(&stage, &carol, DtlsRole::Passive, accepted.body());
    talk(&mut stage, &carol);
}
