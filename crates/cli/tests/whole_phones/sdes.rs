//! Keys in the descriptions (SDES, RFC 4568), which go by TLS alone. A middlebox in the proxy makes
//! phones of the other kind: it takes the fingerprints of DTLS out of every description.
//!
//! ```text
//!   alice ── NAT ── Internet ── proxy, by TLS, without fingerprints ── NAT ── bob
//! ```

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringtrue_phone::event::{EndReason, KeySource, Outcome, PhoneEvent};
use ringtrue_phone::settings::SrtpUse;
use ringtrue_phone::{EventKind, Settings};
use ringtrue_program::virtual_phone::VirtualPhone;
use ringtrue_testnet::{NameService, Verdict};

use crate::stage::{DOMAIN, PROXY, Place, Setup, Stage, rang};

fn names() -> NameService {
    NameService::new().with_host(DOMAIN, PROXY)
}

fn by_tls(name: &str, settings: &mut Settings) {
    settings.aor = format!("sip:{name}@{DOMAIN}");
    settings.proxy = Some(format!("sip:{DOMAIN};transport=tls"));
}

/// Takes lines that begin so out of a description.
fn without(body: &mut Vec<u8>, starts: &[&str]) {
    let text = String::from_utf8_lossy(body).into_owned();
    let kept = text
        .split_inclusive('\n')
        .filter(|line| !starts.iter().any(|start| line.starts_with(start)));
    *body = kept.collect::<String>().into_bytes();
}

fn no_fingerprints(body: &mut Vec<u8>) {
    without(body, &["a=fingerprint:", "a=setup:", "a=tls-id:"]);
}

fn setup(place: Place) -> Setup {
    Setup {
        names: names(),
        alices: |settings| by_tls("alice", settings),
        bobs: |settings| by_tls("bob", settings),
        edit: no_fingerprints,
        ..Setup::between(place, place)
    }
}

fn secured(phone: &VirtualPhone) -> Vec<KeySource> {
    let told = phone.events().iter().filter_map(|event| match event.kind {
        EventKind::Secured { source, .. } => Some(source),
        _ => None,
    });
    told.collect()
}

fn assert_encrypted(stage: &Stage, by: KeySource) {
    let (at_bob, at_alice) = stage.heard();
    assert!(at_bob > 2.5 && at_alice > 2.5, "{}", stage.story());
    assert_eq!(stage.outcome().map(|end| end.1), Some(Outcome::Completed));
    for phone in [stage.alice(), stage.bob()] {
        assert_eq!(secured(phone), [by], "{}", stage.story());
    }
    let verified =
        |event: &PhoneEvent| matches!(event.kind, EventKind::Ringing { verified: true, .. });
    assert!(rang(stage.bob()).is_some_and(verified), "{}", stage.story());
}

/// Notes the media that is not encrypted, and every key that leaves in a datagram.
fn clear_media(stage: &mut Stage) -> Arc<Mutex<usize>> {
    let seen = Arc::new(Mutex::new(0));
    let count = seen.clone();
    let mut last = None;
    stage.tap(move |passing| {
        let text = String::from_utf8_lossy(passing.payload);
        // Silence of G.711 or Opus would repeat; of protected packets no two are alike.
        let body = passing.payload.get(12..32).map(<[u8]>::to_vec);
        let is_rtp = passing.payload.first().is_some_and(|byte| byte >> 6 == 2);
        let repeats = is_rtp && passing.payload.len() > 60 && body.is_some() && body == last;
        last = body;
        if text.contains("a=crypto") || repeats {
            *count.lock().unwrap() += 1;
        }
        Verdict::Pass
    });
    seen
}

#[test]
fn a_peer_with_keys_in_its_description_is_rung_as_soon_as_the_path_is_proven() {
    for place in [Place::Open, Place::PortRestricted] {
        let mut stage = setup(place).build();
        stage.dial_to("sip:bob@example.test");
        stage.run(20);
        assert_encrypted(&stage, KeySource::Sdes);
        // s + 2d + 50 ms, or 2s + d: nothing is waited for beside the path.
        let took = stage.ring_time().unwrap();
        assert!(took <= Duration::from_millis(200), "{place:?}: {took:?}");
    }
}

#[test]
fn dtls_comes_first_where_there_are_both() {
    let mut stage = Setup {
        edit: |_| {},
        ..setup(Place::PortRestricted)
    }
    .build();
    stage.dial_to("sip:bob@example.test");
    stage.run(20);
    assert_encrypted(&stage, KeySource::DtlsSrtp);
}

/// RFC 4568 section 8: never in clear, and nothing that has come in clear is believed.
#[test]
fn no_key_goes_by_clear_signalling() {
    for srtp in [SrtpUse::Optional, SrtpUse::Required] {
        let mut setup = Setup {
            edit: |body| {
                no_fingerprints(body);
                let lines = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 \
                    inline:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\r\n";
                if body.starts_with(b"v=0") {
                    body.extend_from_slice(lines.as_bytes());
                }
            },
            ..Setup::between(Place::Open, Place::Open)
        };
        if srtp == SrtpUse::Required {
            setup.bobs = |settings| settings.srtp = SrtpUse::Required;
        }
        let mut stage = setup.build();
        let sent = Arc::new(Mutex::new(0));
        let count = sent.clone();
        let phones = [stage.alice, stage.bob];
        stage.tap(move |passing| {
            let is_ours = passing.sender.is_some_and(|host| phones.contains(&host));
            if is_ours && String::from_utf8_lossy(passing.payload).contains("a=crypto") {
                *count.lock().unwrap() += 1;
            }
            Verdict::Pass
        });
        stage.dial();
        stage.run(20);
        assert_eq!(*sent.lock().unwrap(), 0);
        assert!(secured(stage.alice()).is_empty() && secured(stage.bob()).is_empty());
        match srtp {
            SrtpUse::Required => {
                assert!(rang(stage.bob()).is_none(), "{}", stage.story());
                let reason = stage.outcome().map(|end| end.0);
                assert_eq!(reason, Some(EndReason::Incompatible), "{}", stage.story());
            }
            _ => assert_eq!(stage.outcome().map(|end| end.1), Some(Outcome::Completed)),
        }
    }
}

#[test]
fn whoever_requires_encryption_is_content_with_keys_in_the_description() {
    for who in 0..2 {
        let mut setup = setup(Place::PortRestricted);
        if who == 0 {
            setup.alices = |settings| {
                by_tls("alice", settings);
                settings.srtp = SrtpUse::Required;
            };
        } else {
            setup.bobs = |settings| {
                by_tls("bob", settings);
                settings.srtp = SrtpUse::Required;
            };
        }
        let mut stage = setup.build();
        let clear = clear_media(&mut stage);
        stage.dial_to("sip:bob@example.test");
        stage.run(20);
        assert_encrypted(&stage, KeySource::Sdes);
        assert_eq!(*clear.lock().unwrap(), 0);
    }
}

/// Keys that were offered to who refused them are not offered again.
#[test]
fn a_second_offer_has_keys_of_its_own() {
    static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let mut stage = Setup {
        bobs: |settings| {
            by_tls("bob", settings);
            settings.srtp = SrtpUse::Required;
        },
        edit: |body| {
            no_fingerprints(body);
            let text = String::from_utf8_lossy(body).into_owned();
            if text.contains("m=audio") {
                SEEN.lock().unwrap().push(text.clone());
            }
            // Bob takes secure profiles alone.
            if text.contains(" RTP/AVP ") {
                without(body, &["a=crypto:"]);
            }
        },
        ..setup(Place::PortRestricted)
    }
    .build();
    stage.dial_to("sip:bob@example.test");
    stage.run(20);
    assert_encrypted(&stage, KeySource::Sdes);
    let seen = SEEN.lock().unwrap();
    assert!(seen[0].contains(" RTP/AVP ") && seen[1].contains(" RTP/SAVP "));
    let keys = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| line.starts_with("a=crypto:"));
        lines.map(str::to_owned).collect()
    };
    let (first, second) = (keys(&seen[0]), keys(&seen[1]));
    assert!(!first.is_empty() && first.len() == second.len());
    assert!(first.iter().all(|line| !second.contains(line)));
}

/// A peer that takes no key, with lines that ask for more than we do: they are passed over.
#[test]
fn lines_that_cannot_be_used_leave_a_call_in_clear_or_none() {
    fn spoilt(body: &mut Vec<u8>) {
        no_fingerprints(body);
        let text = String::from_utf8_lossy(body).into_owned();
        let lines = text.split_inclusive('\n').map(|line| {
            if line.starts_with("a=crypto:") {
                line.replace("\r\n", "|2^20|1:4\r\n")
            } else {
                line.to_owned()
            }
        });
        *body = lines.collect::<String>().into_bytes();
    }
    let mut stage = Setup {
        edit: spoilt,
        ..setup(Place::Open)
    }
    .build();
    stage.dial_to("sip:bob@example.test");
    stage.run(20);
    assert!(secured(stage.alice()).is_empty());
    assert_eq!(stage.outcome().map(|end| end.1), Some(Outcome::Completed));
    let mut stage = Setup {
        edit: spoilt,
        alices: |settings| {
            by_tls("alice", settings);
            settings.srtp = SrtpUse::Required;
        },
        ..setup(Place::Open)
    }
    .build();
    stage.dial_to("sip:bob@example.test");
    stage.run(20);
    assert!(rang(stage.bob()).is_none(), "{}", stage.story());
}

/// Each of two phones answers with a key of its own; the one that picks up is heard.
#[test]
fn every_fork_has_its_own_key() {
    let mut stage = Setup {
        second: Some(Place::PortRestricted),
        ..setup(Place::Open)
    }
    .build();
    stage.dial_to("sip:bob@example.test");
    stage.run(20);
    let sources = secured(stage.alice());
    assert_eq!(sources, [KeySource::Sdes; 2], "{}", stage.story());
    let (at_bob, _) = stage.heard();
    let at_second = crate::stage::heard(stage.second(), crate::stage::ALICE_TONE);
    assert!(at_bob > 2.5 || at_second > 2.5, "{}", stage.story());
    assert_eq!(stage.outcome().map(|end| end.1), Some(Outcome::Completed));
}

/// A restart is a new offer and answer; the keys go on, and not a word is lost.
#[test]
fn keys_go_on_through_a_restart() {
    let mut stage = setup(Place::PortRestricted).build();
    stage.dial_to("sip:bob@example.test");
    stage.run(3);
    for phone in [stage.alice, stage.bob] {
        let now = stage.simulation.now();
        let call = stage
            .simulation
            .node(phone)
            .events()
            .iter()
            .find_map(|event| event.call.clone())
            .unwrap();
        let node = stage.simulation.node_mut(phone);
        node.phone().restart_ice(now, call.key);
        stage.simulation.settle();
        stage.simulation.run_for(Duration::from_millis(700));
    }
    stage.run(20);
    assert_encrypted(&stage, KeySource::Sdes);
    for phone in [stage.alice(), stage.bob()] {
        let forged = phone.events().iter().find_map(|event| match &event.kind {
            EventKind::Ended { figures, .. } => Some(figures.srtp_forged),
            _ => None,
        });
        assert_eq!(forged, Some(Some(0)));
    }
}
