//! Keys between two of ours: nobody rings before they are there, and nobody on the way listens.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use ringtrue_media::{Codec, MediaStream, StreamConfig, tone};
use ringtrue_phone::event::{EndReason, MediaFigures, Outcome};
use ringtrue_phone::settings::SrtpUse;
use ringtrue_phone::{EventKind, Settings};
use ringtrue_program::virtual_phone::VirtualPhone;
use ringtrue_testnet::Verdict;

use crate::stage::{
    ALICE_TONE, BOB_TONE, Place, SECOND_TONE, Setup, Stage, at, heard, outcome, rang,
};

type Change = fn(&mut Settings);

fn off(settings: &mut Settings) {
    settings.srtp = SrtpUse::Off;
}

fn optional(settings: &mut Settings) {
    settings.srtp = SrtpUse::Optional;
}

fn required(settings: &mut Settings) {
    settings.srtp = SrtpUse::Required;
}

pub fn secured(phone: &VirtualPhone) -> Option<Instant> {
    at(phone, |kind| matches!(kind, EventKind::Secured { .. }))
}

pub fn keys_pending(phone: &VirtualPhone) -> Option<Instant> {
    at(phone, |kind| matches!(kind, EventKind::KeysPending))
}

/// The figures at the end of a phone's call.
pub fn figures(phone: &VirtualPhone) -> MediaFigures {
    let mut ends = phone.events().iter();
    let found = ends.find_map(|event| match &event.kind {
        EventKind::Ended { figures, .. } => Some(**figures),
        _ => None,
    });
    found.expect("an end")
}

fn is_dtls(payload: &[u8]) -> bool {
    matches!(payload, [20..=63, 0xfe, ..])
}

fn is_rtp(payload: &[u8]) -> bool {
    matches!(payload, [0x80, kind, ..] if !(192..=223).contains(kind))
}

fn assert_talked(stage: &Stage) {
    let (bob, alice) = stage.heard();
    assert!(bob > 2.5 && alice > 2.5, "{bob} {alice}\n{}", stage.story());
    let end = outcome(stage.alice()).map(|end| end.1);
    assert_eq!(end, Some(Outcome::Completed), "{}", stage.story());
}

fn assert_no_ring(stage: &Stage) {
    assert!(!stage.rang(), "{}", stage.story());
    let ringing = |kind: &EventKind| matches!(kind, EventKind::Ringing { .. });
    assert!(at(stage.alice(), ringing).is_none(), "{}", stage.story());
    assert_eq!(stage.heard(), (0.0, 0.0));
}

/// How long somebody who copies all RTP on the way hears alice, by PCMU.
fn eavesdropped(settings: fn(&mut Settings)) -> f64 {
    let mut stage = Setup {
        alices: settings,
        bobs: settings,
        ..Setup::default()
    }
    .build();
    let copied = Arc::new(Mutex::new(Vec::new()));
    let copies = Arc::clone(&copied);
    let alice = stage.alice;
    stage.tap(move |passing| {
        let departs = passing.receiver.is_none() && passing.sender == Some(alice);
        if departs && is_rtp(passing.payload) {
            copies.lock().unwrap().push(passing.payload.to_vec());
        }
        Verdict::Pass
    });
    stage.dial();
    stage.run(8);
    assert_talked(&stage);
    let begin = Instant::now();
    let config = StreamConfig::new(Codec::Pcmu, "mallory");
    let mut ear = MediaStream::new(config, 1, begin, SystemTime::UNIX_EPOCH).unwrap();
    let mut frames = Vec::new();
    let mut now = begin;
    for packet in copied.lock().unwrap().iter() {
        ear.handle_rtp(now, packet);
        for _ in 0..2 {
            frames.extend(ear.playout(now));
            now += ringtrue_media::FRAME_TIME;
        }
    }
    tone::measure_frames(&frames, ALICE_TONE, 0.05).seconds
}

#[test]
fn who_listens_on_the_way_hears_nothing() {
    let clear = eavesdropped(|settings| {
        settings.codecs = vec![Codec::Pcmu];
        settings.srtp = SrtpUse::Off;
    });
    let encrypted = eavesdropped(|settings| settings.codecs = vec![Codec::Pcmu]);
    assert!(clear > 2.0, "the ear works: {clear}");
    assert!(encrypted < 0.1, "{encrypted}");
}

#[test]
fn every_pair_of_settings() {
    let settings: [(&str, Change); 3] =
        [("off", off), ("optional", optional), ("required", required)];
    for (alices, alice) in settings {
        for (bobs, bob) in settings {
            let mut stage = Setup {
                alices: alice,
                bobs: bob,
                ..Setup::default()
            }
            .build();
            stage.dial();
            stage.run(8);
            let case = format!("{alices} calls {bobs}\n{}", stage.story());
            let encrypted = secured(stage.alice()).is_some();
            assert_eq!(encrypted, secured(stage.bob()).is_some(), "{case}");
            match (alices, bobs) {
                ("off", "required") | ("required", "off") => {
                    assert_no_ring(&stage);
                    let end = stage.outcome().unwrap();
                    assert_eq!(end.0, EndReason::Incompatible, "{case}");
                    assert_eq!((end.1, end.2), (Outcome::Refused, Some(488)), "{case}");
                    assert!(!encrypted);
                }
                ("off", _) | (_, "off") => {
                    assert!(!encrypted, "{case}");
                    assert_talked(&stage);
                    assert_eq!(figures(stage.bob()).srtp_forged, None);
                }
                _ => {
                    assert!(encrypted, "{case}");
                    assert_talked(&stage);
                    // Keys first, then the ring: on both sides.
                    let ring = rang(stage.bob()).unwrap().at;
                    assert!(secured(stage.bob()).unwrap() <= ring, "{case}");
                    let ringing = |kind: &EventKind| matches!(kind, EventKind::Ringing { .. });
                    let back = at(stage.alice(), ringing).unwrap();
                    assert!(secured(stage.alice()).unwrap() <= back, "{case}");
                    assert!(keys_pending(stage.alice()).is_none(), "{case}");
                    assert!(keys_pending(stage.bob()).is_none(), "{case}");
                    for phone in [stage.alice(), stage.bob()] {
                        assert_eq!(figures(phone).srtp_forged, Some(0), "{case}");
                        assert_eq!(figures(phone).srtp_replayed, Some(0), "{case}");
                    }
                }
            }
        }
    }
}

/// Of every handshake's datagrams, one or several in a row are lost: it rings all the same, later.
#[test]
fn lost_datagrams_of_the_handshake() {
    for first in 0..4 {
        for more in 0..3 {
            let mut stage = Setup::default().build();
            let seen = AtomicUsize::new(0);
            stage.tap(move |passing| {
                if passing.receiver.is_some() || !is_dtls(passing.payload) {
                    return Verdict::Pass;
                }
                let number = seen.fetch_add(1, Ordering::Relaxed);
                if (first..=first + more).contains(&number) {
                    Verdict::Drop
                } else {
                    Verdict::Pass
                }
            });
            stage.dial();
            stage.run(12);
            assert_talked(&stage);
            let ring = rang(stage.bob()).unwrap().at;
            assert!(secured(stage.bob()).unwrap() <= ring, "{}", stage.story());
        }
    }
}

/// Both phones of bob's have an association of their own; the one that picks up talks.
#[test]
fn forks_have_keys_of_their_own() {
    let mut stage = Setup {
        second: Some(Place::PortRestricted),
        ..Setup::between(Place::PortRestricted, Place::Open)
    }
    .build();
    stage.dial();
    stage.run(10);
    let keyed =
        |event: &&ringtrue_phone::PhoneEvent| matches!(event.kind, EventKind::Secured { .. });
    let tags: Vec<_> = stage
        .alice()
        .events()
        .iter()
        .filter(keyed)
        .map(|event| event.call.clone().unwrap().dialog)
        .collect();
    assert_eq!(tags.len(), 2, "{}", stage.story());
    assert_ne!(tags[0], tags[1]);
    let bob = heard(stage.bob(), ALICE_TONE) + heard(stage.second(), ALICE_TONE);
    let alice = heard(stage.alice(), BOB_TONE).max(heard(stage.alice(), SECOND_TONE));
    assert!(bob > 2.5 && alice > 2.5, "{bob} {alice}\n{}", stage.story());
}

/// Somebody on the way puts another fingerprint into the offer, or the answer.
#[test]
fn a_wrong_fingerprint_rings_nowhere() {
    for mangled in ["INVITE ", "SIP/2.0 183"] {
        let mut stage = Setup {
            alices: |settings| settings.ice_tcp = false,
            bobs: |settings| settings.ice_tcp = false,
            ..Setup::default()
        }
        .build();
        let changed = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&changed);
        let origin = if mangled == "INVITE " {
            stage.alice
        } else {
            stage.bob
        };
        stage.tap(move |passing| {
            let text = String::from_utf8_lossy(passing.payload);
            let at = text.find("a=fingerprint:sha-256 ");
            let departs = passing.receiver.is_none() && passing.sender == Some(origin);
            let (true, Some(at)) = (departs && text.starts_with(mangled), at) else {
                return Verdict::Pass;
            };
            let mut payload = passing.payload.to_vec();
            let digit = &mut payload[at + "a=fingerprint:sha-256 ".len()];
            *digit = if *digit == b'0' { b'1' } else { b'0' };
            counted.fetch_add(1, Ordering::Relaxed);
            Verdict::Replace(payload)
        });
        stage.dial();
        stage.run(14);
        assert!(
            changed.load(Ordering::Relaxed) > 0,
            "{mangled} went another way"
        );
        assert_no_ring(&stage);
        for phone in [stage.alice(), stage.bob()] {
            let (reason, end, _) = outcome(phone).unwrap();
            assert_eq!(
                reason,
                EndReason::KeysFailed,
                "{mangled}\n{}",
                stage.story()
            );
            assert_eq!(end, Outcome::NoMediaPath);
        }
        let missed = |kind: &EventKind| {
            matches!(
                kind,
                EventKind::Missed {
                    reason: EndReason::KeysFailed,
                    ..
                }
            )
        };
        assert!(at(stage.bob(), missed).is_some(), "{}", stage.story());
        assert!(
            stage.story().contains("No keys for the media"),
            "{}",
            stage.story()
        );
    }
}

/// Somebody doubles, mangles and adds packets: what is not the peer's is counted and not heard.
#[test]
fn replayed_forged_and_clear_packets_are_counted_and_not_heard() {
    let mut stage = Setup::default().build();
    stage.tap(move |passing| {
        if passing.receiver.is_some() || !is_rtp(passing.payload) {
            return Verdict::Pass;
        }
        let number = passing.payload[3];
        let whole = passing.payload.to_vec();
        let mut more = vec![(Duration::ZERO, whole.clone())];
        match number % 10 {
            1 => more.push((Duration::from_millis(7), whole)),
            3 => {
                let mut mangled = whole;
                if let Some(last) = mangled.last_mut() {
                    *last ^= 1;
                }
                // Another number, so that it is no replay.
                mangled[2] = mangled[2].wrapping_add(0x08);
                more.push((Duration::from_millis(3), mangled));
            }
            // A clear one, as the peer's stream would go on.
            5 => {
                let mut clear = whole[..12].to_vec();
                clear[2] = clear[2].wrapping_add(0x04);
                clear.extend([0x78; 60]);
                more.push((Duration::from_millis(3), clear));
            }
            _ => {}
        }
        Verdict::Copies(more)
    });
    stage.dial();
    stage.run(8);
    assert_talked(&stage);
    for phone in [stage.alice(), stage.bob()] {
        let figures = figures(phone);
        assert!(figures.srtp_replayed > Some(5), "{figures:?}");
        assert!(figures.srtp_forged > Some(10), "{figures:?}");
        assert!(
            figures.rx_packets > 100 && figures.rx_packets < 400,
            "{figures:?}"
        );
        assert_eq!(figures.lost, 0, "{figures:?}");
    }
}
