//! REGISTER and digest.

use ringtrue_sip::{EndpointConfig, RegisterConfig, SipEvent};

use crate::wire::{Fate, Sent, Wire, address, config, credentials, reply};

const REGISTRAR: &str = "192.0.2.53:5060";

fn registering(expires: u32) -> RegisterConfig {
    RegisterConfig {
        registrar: "sip:192.0.2.53".parse().unwrap(),
        expires,
    }
}

fn alice(change: impl FnOnce(&mut EndpointConfig)) -> Wire {
    let mut wire = Wire::new();
    let mut alice = config(1, "alice");
    alice.credentials = credentials();
    change(&mut alice);
    wire.add(alice);
    wire
}

/// A registrar that grants what is asked for, to everybody.
fn granting(sent: &Sent) -> Vec<String> {
    let contact = sent.header("Contact").unwrap();
    let first = contact.split(',').next().unwrap();
    vec![reply(
        sent,
        "200 OK",
        "reg",
        &format!("Contact: {first}\r\n"),
        "",
    )]
}

fn registered(wire: &mut Wire) -> u32 {
    wire.wait(0, |event| match event {
        SipEvent::Registered { expires, aor } => {
            assert_eq!(aor, "sip:alice@example.com");
            Some(*expires)
        }
        _ => None,
    })
}

fn failed(wire: &mut Wire) -> (Option<u16>, u64) {
    let status = wire.wait(0, |event| match event {
        SipEvent::RegistrationFailed { status, .. } => Some(*status),
        _ => None,
    });
    (status, wire.ms())
}

#[test]
fn it_is_refreshed_before_it_expires_and_withdrawn() {
    let mut wire = alice(|_| {});
    wire.script(REGISTRAR, granting);
    wire.with(0, |e, now| e.register(now, registering(300)));
    assert_eq!(registered(&mut wire), 300);
    wire.run_for(600_000);
    assert_eq!(wire.times(0, "REGISTER"), [0, 260_020, 520_040]);
    let sent = wire.sent(0, "REGISTER");
    assert_eq!(sent[0].first_line(), "REGISTER sip:192.0.2.53 SIP/2.0");
    assert_eq!(
        sent[0].header("Contact"),
        Some("<sip:alice@10.0.0.1:5060>;expires=300;+sip.ice")
    );
    let ids: Vec<_> = sent
        .iter()
        .map(|s| (s.header("Call-ID"), s.header("CSeq")))
        .collect();
    assert_eq!(ids[0].0, ids[1].0);
    assert_eq!(
        (ids[0].1, ids[1].1),
        (Some("1 REGISTER"), Some("2 REGISTER"))
    );
    wire.events(0);
    wire.with(0, |e, now| e.unregister(now));
    assert!(!wire.with(0, |e, _| e.is_idle()));
    assert_eq!(registered(&mut wire), 0);
    assert!(wire.with(0, |e, _| e.is_idle()));
    let last = wire.sent(0, "REGISTER").last().copied().unwrap();
    assert!(last.header("Contact").unwrap().contains(";expires=0"));
    wire.run_for(600_000);
    assert_eq!(wire.times(0, "REGISTER").len(), 4);
}

#[test]
fn the_registrar_may_grant_less() {
    let mut wire = alice(|_| {});
    wire.script(REGISTRAR, |sent| {
        let extra = "Contact: <sip:other@192.0.2.99>;expires=9999, \
                     <sip:alice@10.0.0.1:5060>;expires=60\r\nExpires: 3600\r\n";
        vec![reply(sent, "200 OK", "reg", extra, "")]
    });
    wire.with(0, |e, now| e.register(now, registering(300)));
    assert_eq!(registered(&mut wire), 60);
    wire.run_for(40_000);
    assert_eq!(wire.times(0, "REGISTER"), [0, 30_020]);
}

#[test]
fn a_423_raises_the_time() {
    let mut wire = alice(|_| {});
    wire.script(REGISTRAR, |sent| {
        if sent.header("Expires") == Some("60") {
            return vec![reply(
                sent,
                "423 Interval Too Brief",
                "r",
                "Min-Expires: 900\r\n",
                "",
            )];
        }
        granting(sent)
    });
    wire.with(0, |e, now| e.register(now, registering(60)));
    assert_eq!(registered(&mut wire), 900);
    // One that asks for years is not believed.
    let mut wire = alice(|_| {});
    wire.script(REGISTRAR, |sent| {
        vec![reply(
            sent,
            "423 Interval Too Brief",
            "r",
            "Min-Expires: 99999999\r\n",
            "",
        )]
    });
    wire.with(0, |e, now| e.register(now, registering(60)));
    assert_eq!(failed(&mut wire).0, Some(423));
}

/// A digest registrar: checks that there are credentials with the expected nonce and count.
fn guarded(sent: &Sent, nonce: &str, challenge: &str) -> Option<u32> {
    let _ = challenge;
    let authorization = sent.header("Authorization")?;
    assert!(
        authorization.contains("username=\"alice\""),
        "{authorization}"
    );
    assert!(
        authorization.contains("uri=\"sip:192.0.2.53\""),
        "{authorization}"
    );
    if !authorization.contains(&format!("nonce=\"{nonce}\"")) {
        return None;
    }
    let (_, count) = authorization.split_once("nc=")?;
    u32::from_str_radix(&count[..8], 16).ok()
}

#[test]
fn a_challenge_is_answered_once_and_remembered() {
    let mut wire = alice(|_| {});
    let challenge = "WWW-Authenticate: Digest realm=\"r\", nonce=\"n1\", algorithm=SHA-256, \
                     qop=\"auth,auth-int\", opaque=\"o\"\r\n\
                     WWW-Authenticate: Digest realm=\"r\", nonce=\"n1\", algorithm=MD5, \
                     qop=\"auth\"\r\n";
    let mut counts = Vec::new();
    wire.script(REGISTRAR, move |sent| {
        match guarded(sent, "n1", challenge) {
            Some(count) => {
                counts.push(count);
                let expected: Vec<u32> = (1..=counts.len() as u32).collect();
                assert_eq!(counts, expected);
                let authorization = sent.header("Authorization").unwrap();
                assert!(authorization.contains("algorithm=SHA-256"));
                assert!(
                    authorization.contains("opaque=\"o\"") && authorization.contains("qop=auth")
                );
                assert_eq!(sent.text.matches("Authorization:").count(), 1);
                granting(sent)
            }
            None => vec![reply(sent, "401 Unauthorized", "reg", challenge, "")],
        }
    });
    wire.with(0, |e, now| e.register(now, registering(300)));
    registered(&mut wire);
    wire.run_for(600_000);
    // 401, answered, then two refreshes that need no further challenge.
    assert_eq!(wire.times(0, "REGISTER"), [0, 20, 260_040, 520_060]);
}

#[test]
fn a_wrong_password_is_tried_once() {
    let mut wire = alice(|_| {});
    let mut count = 0;
    wire.script(REGISTRAR, move |sent| {
        count += 1;
        let challenge =
            format!("WWW-Authenticate: Digest realm=\"r\", nonce=\"n{count}\", qop=\"auth\"\r\n");
        vec![reply(sent, "401 Unauthorized", "reg", &challenge, "")]
    });
    wire.with(0, |e, now| e.register(now, registering(300)));
    assert_eq!(failed(&mut wire).0, Some(401));
    wire.run_for(1_000_000);
    assert_eq!(
        wire.times(0, "REGISTER").len(),
        2,
        "and not again by itself"
    );
}

#[test]
fn a_stale_nonce_is_replaced_but_not_for_ever() {
    let mut wire = alice(|_| {});
    let mut count = 0;
    wire.script(REGISTRAR, move |sent| {
        count += 1;
        let stale = if count > 1 { ", stale=TRUE" } else { "" };
        let challenge = format!(
            "WWW-Authenticate: Digest realm=\"r\", nonce=\"n{count}\", qop=\"auth\"{stale}\r\n"
        );
        if count == 3 {
            return granting(sent);
        }
        vec![reply(sent, "401 Unauthorized", "reg", &challenge, "")]
    });
    wire.with(0, |e, now| e.register(now, registering(300)));
    registered(&mut wire);
    assert_eq!(wire.times(0, "REGISTER").len(), 3);
    // From the fourth on everything is stale: two more rounds, then it is given up.
    wire.run_for(1_000_000);
    let (status, _) = failed(&mut wire);
    assert_eq!(status, Some(401));
    assert!(wire.times(0, "REGISTER").len() < 9);
}

#[test]
fn without_credentials_a_challenge_is_a_failure() {
    let mut wire = alice(|config| config.credentials = None);
    wire.script(REGISTRAR, |sent| {
        vec![reply(
            sent,
            "401 Unauthorized",
            "r",
            "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\"\r\n",
            "",
        )]
    });
    wire.with(0, |e, now| e.register(now, registering(300)));
    assert_eq!(failed(&mut wire).0, Some(401));
    assert_eq!(wire.times(0, "REGISTER").len(), 1);
}

#[test]
fn nextnonce_saves_a_round_trip() {
    let mut wire = alice(|_| {});
    let mut nonce = 1;
    wire.script(REGISTRAR, move |sent| {
        let challenge = "WWW-Authenticate: Digest realm=\"r\", nonce=\"n1\", qop=\"auth\"\r\n";
        let Some(count) = guarded(sent, &format!("n{nonce}"), challenge) else {
            assert_eq!(nonce, 1, "asked for a nonce that was told");
            return vec![reply(sent, "401 Unauthorized", "r", challenge, "")];
        };
        assert_eq!(count, 1);
        nonce += 1;
        let extra = format!(
            "Authentication-Info: nextnonce=\"n{nonce}\"\r\nContact: {}\r\n",
            sent.header("Contact").unwrap()
        );
        vec![reply(sent, "200 OK", "reg", &extra, "")]
    });
    wire.with(0, |e, now| e.register(now, registering(300)));
    registered(&mut wire);
    wire.run_for(600_000);
    assert_eq!(wire.times(0, "REGISTER").len(), 4);
}

#[test]
fn a_dead_registrar_is_tried_again_after_ever_longer_pauses() {
    let mut wire = alice(|_| {});
    wire.with(0, |e, now| e.register(now, registering(300)));
    assert_eq!(failed(&mut wire), (None, 32_000));
    let mut ends = vec![32_000];
    for _ in 0..3 {
        ends.push(failed(&mut wire).1);
    }
    let pauses: Vec<u64> = ends
        .windows(2)
        .map(|w| (w[1] - w[0] - 32_000) / 1000)
        .collect();
    for (pause, least) in pauses.iter().zip([30, 60, 120]) {
        assert!((least..=least + 5).contains(pause), "{pauses:?}");
    }
    // It comes back.
    wire.script(REGISTRAR, granting);
    assert_eq!(registered(&mut wire), 300);
}

#[test]
fn behind_a_nat_the_public_address_is_registered_in_place_of_the_private_one() {
    let mut wire = alice(|_| {});
    wire.behind_nat(0, "203.0.113.7:41000");
    wire.script(REGISTRAR, granting);
    wire.with(0, |e, now| e.register(now, registering(300)));
    assert_eq!(registered(&mut wire), 300);
    let contacts: Vec<_> = wire
        .sent(0, "REGISTER")
        .iter()
        .map(|s| s.header("Contact").unwrap())
        .collect();
    assert_eq!(
        contacts,
        [
            "<sip:alice@10.0.0.1:5060>;expires=300;+sip.ice",
            "<sip:alice@203.0.113.7:41000>;expires=300;+sip.ice, <sip:alice@10.0.0.1:5060>;expires=0",
        ]
    );
    wire.run_for(100_000);
    let keepalives = wire.log.iter().filter(|s| s.text == "\r\n\r\n").count();
    assert!((4..=5).contains(&keepalives), "{keepalives}");
}

#[test]
fn by_tcp_the_registration_follows_its_connection() {
    let mut wire = alice(|config| {
        config.proxy = Some("sip:10.0.0.2;transport=tcp".parse().unwrap());
    });
    wire.add(config(2, "registrar"));
    wire.with(0, |e, now| e.register(now, registering(300)));
    // The endpoint at the other end is no registrar.
    assert_eq!(failed(&mut wire).0, Some(405));
    let sent = wire.sent(0, "REGISTER")[0];
    assert!(sent.tcp && sent.to == address(2));
    assert!(sent.header("Contact").unwrap().contains(";transport=tcp>"));
}

/// 407 to INVITE and BYE: answered, remembered in the dialog, and the ACK bears the answer too.
#[test]
fn a_proxy_challenges_calls() {
    let mut wire = alice(|_| {});
    wire.script("192.0.2.1:5060", |sent| {
        let method = sent.first_line().split(' ').next().unwrap().to_owned();
        if method == "ACK" {
            return Vec::new();
        }
        if sent.header("Proxy-Authorization").is_none() {
            let challenge = "Proxy-Authenticate: Digest realm=\"p\", nonce=\"n\", qop=\"auth\"\r\n";
            return vec![reply(
                sent,
                "407 Proxy Authentication Required",
                "px",
                challenge,
                "",
            )];
        }
        vec![reply(
            sent,
            "200 OK",
            "bb",
            "Contact: <sip:bob@192.0.2.1>\r\n",
            "answer",
        )]
    });
    wire.invite(0, "sip:bob@192.0.2.1", "offer");
    let dialog = wire.accepted(0).0;
    wire.with(0, |e, now| e.bye(now, &dialog, None)).unwrap();
    wire.wait(0, |event| {
        matches!(event, SipEvent::ByeDone { .. }).then_some(())
    });
    let cseqs: Vec<_> = wire
        .sent(0, "INVITE")
        .iter()
        .map(|s| s.header("CSeq").unwrap())
        .collect();
    assert_eq!(cseqs, ["1 INVITE", "2 INVITE"]);
    let acks = wire.sent(0, "ACK");
    assert_eq!(acks.len(), 2, "one to the 407, one to the 200");
    assert_eq!(acks[1].header("CSeq"), Some("2 ACK"));
    assert!(acks[1].header("Proxy-Authorization").is_some());
    let byes = wire.sent(0, "BYE");
    assert_eq!(byes.len(), 1, "the BYE has its credentials at once");
    assert!(
        byes[0]
            .header("Proxy-Authorization")
            .unwrap()
            .contains("nc=00000002")
    );
    assert_eq!(byes[0].header("CSeq"), Some("3 BYE"));
}

#[test]
fn a_cancelled_call_answers_no_challenge() {
    let mut wire = alice(|_| {});
    wire.script("192.0.2.1:5060", |sent| match sent.first_line() {
        first if first.starts_with("INVITE") => {
            let challenge = "WWW-Authenticate: Digest realm=\"p\", nonce=\"n\"\r\n";
            vec![reply(sent, "401 Unauthorized", "px", challenge, "")]
        }
        _ => Vec::new(),
    });
    let call = wire.invite(0, "sip:bob@192.0.2.1", "offer");
    wire.with(0, |e, now| e.cancel(now, call)).unwrap();
    let challenged = wire.wait(0, |event| match event {
        SipEvent::Refused {
            status: 401,
            challenged,
            ..
        } => Some(*challenged),
        _ => None,
    });
    assert!(challenged);
    assert_eq!(wire.times(0, "INVITE").len(), 1);
}

#[test]
fn passwords_are_not_printed() {
    let mut wire = alice(|_| {});
    let printed = wire.with(0, |e, _| format!("{e:?}"));
    assert!(!printed.contains("secret"));
    wire.filter(|_| Fate::Drop);
}
