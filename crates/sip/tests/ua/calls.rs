//! Whole calls: INVITE, 183, 180, 200, ACK, BYE.

use ringtrue_sip::{IcePeer, ProgressDelivery, Rejection, SipEvent};

use crate::wire::{Fate, Wire, address, config, ring};

/// ```text
/// alice          bob
///   | INVITE ---> |
///   | <--- 100    |
///   | <--- 183 (100rel), PRACK, 200
///   | <--- 180    |
///   | <--- 200    |  without SDP, since the 183 was reliable
///   | ACK --->    |
///   | BYE --->    |
///   | <--- 200    |
/// ```
#[test]
fn a_call_from_invite_to_bye() {
    let mut wire = Wire::pair();
    let (alice, bob) = wire.call();
    let delivery = wire
        .with(1, |e, now| {
            e.progress(now, bob, b"answer".to_vec(), IcePeer::Full)
        })
        .unwrap();
    assert_eq!(delivery, ProgressDelivery::Reliable);
    let body = wire.wait(0, |event| match event {
        SipEvent::Progress {
            status: 183, body, ..
        } => Some(body.clone()),
        _ => None,
    });
    assert_eq!(body.as_deref(), Some(&b"answer"[..]));
    wire.wait(1, |event| {
        matches!(event, SipEvent::Pracked { body: None, .. }).then_some(())
    });
    wire.with(1, |e, now| e.ring(now, bob, &ring())).unwrap();
    wire.wait(0, |event| {
        matches!(
            event,
            SipEvent::Progress {
                status: 180,
                body: None,
                ..
            }
        )
        .then_some(())
    });
    let unwanted = Some(b"another".to_vec());
    wire.with(1, |e, now| e.accept(now, bob, unwanted)).unwrap();
    let (dialog, body) = wire.accepted(0);
    assert_eq!((dialog.call, body), (alice, None));
    wire.confirmed(1);
    wire.with(0, |e, now| e.bye(now, &dialog, Some("enough")))
        .unwrap();
    let reason = wire.wait(1, |event| match event {
        SipEvent::Ended { reason, .. } => Some(reason.clone()),
        _ => None,
    });
    assert_eq!(reason.as_deref(), Some("enough"));
    wire.wait(0, |event| {
        matches!(event, SipEvent::ByeDone { .. }).then_some(())
    });
    // Nothing was lost, so nothing was sent twice.
    for (node, line) in [
        (0, "INVITE"),
        (0, "PRACK"),
        (0, "ACK"),
        (0, "BYE"),
        (1, "SIP/2.0 183"),
    ] {
        assert_eq!(wire.times(node, line).len(), 1, "{line}");
    }
    wire.run_for(100_000);
    assert!(wire.events(0).is_empty() && wire.events(1).is_empty());
    let late = wire.log.iter().filter(|sent| sent.at > 1_000).count();
    assert_eq!(late, 0, "nothing is left that sends");
}

#[test]
fn the_100_leaves_at_once_and_timer_a_stops() {
    let mut wire = Wire::pair();
    wire.call();
    wire.run_for(60_000 - 20);
    assert_eq!(wire.times(1, "SIP/2.0 100"), [10]);
    assert_eq!(wire.times(0, "INVITE"), [0]);
}

#[test]
fn nobody_there_ends_by_timer_b() {
    let mut wire = Wire::pair();
    let call = wire.invite(0, "sip:bob@10.0.0.99", "offer");
    let over = wire.wait(0, |event| match event {
        SipEvent::TimedOut { call } => Some(*call),
        _ => None,
    });
    assert_eq!((over, wire.ms()), (call, 32_000));
    assert_eq!(
        wire.times(0, "INVITE"),
        [0, 500, 1500, 3500, 7500, 15500, 31500]
    );
}

#[test]
fn the_200_is_repeated_until_its_ack() {
    let mut wire = Wire::pair();
    wire.lose_first("ACK", 3);
    let (_, bob) = wire.call();
    wire.with(1, |e, now| e.accept(now, bob, Some(b"answer".to_vec())))
        .unwrap();
    wire.confirmed(1);
    wire.run_for(60_000);
    // T1 doubling, from 10 ms on; each repetition draws an ACK, but one event only.
    assert_eq!(wire.times(1, "SIP/2.0 200"), [10, 510, 1510, 3510]);
    assert_eq!(wire.times(0, "ACK"), [20, 520, 1520, 3520]);
    let accepted = wire
        .events(0)
        .iter()
        .filter(|event| matches!(event, SipEvent::Accepted { .. }))
        .count();
    assert_eq!(accepted, 1);
}

#[test]
fn without_an_ack_the_callee_hangs_up_after_32_s() {
    let mut wire = Wire::pair();
    wire.lose_first("ACK", usize::MAX);
    let (_, bob) = wire.call();
    wire.with(1, |e, now| e.accept(now, bob, Some(b"answer".to_vec())))
        .unwrap();
    wire.wait(1, |event| {
        matches!(event, SipEvent::AckMissing { .. }).then_some(())
    });
    assert_eq!(wire.ms(), 32_010);
    // T1 doubling up to T2 (RFC 3261 section 13.3.1.4).
    assert_eq!(wire.times(1, "SIP/2.0 200").len(), 11);
    wire.wait(0, |event| {
        matches!(event, SipEvent::Ended { .. }).then_some(())
    });
    wire.run_for(40_000);
    assert!(
        wire.events(1).is_empty(),
        "no word more about a dialog that is over"
    );
}

#[test]
fn a_bye_of_the_callee_waits_for_the_ack() {
    let mut wire = Wire::pair();
    wire.lose_first("ACK", 1);
    let (_, bob) = wire.call();
    wire.with(1, |e, now| e.accept(now, bob, Some(b"answer".to_vec())))
        .unwrap();
    let dialog = wire.accepted(0).0;
    let bobs = ringtrue_sip::DialogId {
        call: bob,
        remote_tag: tag(wire.sent(0, "INVITE")[0].header("From").unwrap()),
    };
    wire.with(1, |e, now| e.bye(now, &bobs, None)).unwrap();
    wire.wait(0, |event| {
        matches!(event, SipEvent::Ended { .. }).then_some(())
    });
    assert_eq!(wire.times(1, "BYE"), [530]);
    assert_ne!(dialog.remote_tag, bobs.remote_tag);
    wire.wait(1, |event| {
        matches!(event, SipEvent::ByeDone { .. }).then_some(())
    });
}

#[test]
fn the_caller_hangs_up_while_the_callees_bye_waits() {
    let mut wire = Wire::pair();
    wire.lose_first("ACK", usize::MAX);
    let (_, bob) = wire.call();
    wire.with(1, |e, now| e.accept(now, bob, Some(b"answer".to_vec())))
        .unwrap();
    let alices = wire.accepted(0).0;
    let bobs = ringtrue_sip::DialogId {
        call: bob,
        remote_tag: tag(wire.sent(0, "INVITE")[0].header("From").unwrap()),
    };
    wire.with(1, |e, now| e.bye(now, &bobs, None)).unwrap();
    wire.with(0, |e, now| e.bye(now, &alices, None)).unwrap();
    wire.run_for(100);
    assert_eq!(wire.events(1), [SipEvent::ByeDone { dialog: bobs }]);
    assert_eq!(wire.events(0), [SipEvent::ByeDone { dialog: alices }]);
    assert!(
        wire.times(1, "BYE").is_empty(),
        "the caller's BYE is enough"
    );
}

pub fn tag(address: &str) -> String {
    let (_, tag) = address.split_once(";tag=").unwrap();
    tag.split(';').next().unwrap().to_owned()
}

#[test]
fn both_hang_up_at_once() {
    let mut wire = Wire::pair();
    let (alice, bob) = wire.connected();
    wire.with(0, |e, now| e.bye(now, &alice, None)).unwrap();
    wire.with(1, |e, now| e.bye(now, &bob, None)).unwrap();
    wire.run_for(100);
    assert_eq!(wire.events(0), [SipEvent::ByeDone { dialog: alice }]);
    assert_eq!(wire.events(1), [SipEvent::ByeDone { dialog: bob }]);
}

#[test]
fn a_lost_bye_is_repeated_and_given_up_by_timer_f() {
    let mut wire = Wire::pair();
    let (alice, _) = wire.connected();
    wire.lose_first("BYE", usize::MAX);
    let start = wire.ms();
    wire.with(0, |e, now| e.bye(now, &alice, None)).unwrap();
    wire.wait(0, |event| {
        matches!(event, SipEvent::ByeDone { .. }).then_some(())
    });
    assert_eq!(wire.ms() - start, 32_000);
    assert_eq!(wire.times(0, "BYE").len(), 11);
}

#[test]
fn a_refusal_says_why() {
    let mut wire = Wire::pair();
    let (alice, bob) = wire.call();
    let rejection = Rejection {
        warning: Some("no \"path\", 4 pairs tried".to_owned()),
        require: vec!["ice".to_owned()],
        reason: None,
    };
    wire.with(1, |e, now| e.reject(now, bob, 480, rejection))
        .unwrap();
    let refused = wire.wait(0, |event| {
        matches!(event, SipEvent::Refused { .. }).then(|| event.clone())
    });
    assert_eq!(
        refused,
        SipEvent::Refused {
            call: alice,
            status: 480,
            reason: "Temporarily Unavailable".to_owned(),
            warning: Some("no \"path\", 4 pairs tried".to_owned()),
            challenged: false,
        }
    );
    wire.run_for(60_000);
    assert_eq!(wire.times(1, "SIP/2.0 480"), [10]);
    assert_eq!(wire.times(0, "ACK"), [20]);
    let sent = wire.sent(1, "SIP/2.0 480")[0];
    assert_eq!(sent.header("Require"), Some("ice"));
    assert!(sent.header("Warning").unwrap().starts_with("399 10.0.0.2 "));
    assert!(wire.events(1).is_empty());
}

#[test]
fn a_refusal_is_repeated_until_its_ack() {
    let mut wire = Wire::pair();
    wire.lose_first("SIP/2.0 486", 2);
    let (_, bob) = wire.call();
    wire.with(1, |e, now| e.reject(now, bob, 486, Rejection::default()))
        .unwrap();
    assert_eq!(wire.refused(0), 486);
    wire.run_for(60_000);
    assert_eq!(wire.times(1, "SIP/2.0 486"), [10, 510, 1510]);
}

/// Through a record-routing proxy the route set is used in both directions, loose and strict.
#[test]
fn record_routes_become_the_route_set() {
    for (lr, uri, routes) in [
        (
            ";lr",
            "sip:bob@10.0.0.2:5060",
            "<sip:10.0.0.2:5060;lr>|<sip:192.0.2.77;lr>",
        ),
        (
            "",
            "sip:10.0.0.2:5060",
            "<sip:192.0.2.77>|<sip:bob@10.0.0.2:5060>",
        ),
    ] {
        let mut wire = Wire::pair();
        let line = format!(
            "Record-Route: <sip:192.0.2.77{lr}>\r\nRecord-Route: <sip:10.0.0.2:5060{lr}>\r\n"
        );
        wire.filter(move |sent| match sent.first_line() {
            // As if proxies had put it into the request; so the response has it too.
            first if first.starts_with("INVITE") => {
                let text = sent.text.replace("From:", &format!("{line}From:"));
                Fate::Become(text.into_bytes())
            }
            _ => Fate::Pass,
        });
        let (_, bob) = wire.call();
        wire.with(1, |e, now| e.accept(now, bob, Some(b"answer".to_vec())))
            .unwrap();
        wire.accepted(0);
        wire.run_for(1);
        let ack = wire.sent(0, "ACK")[0];
        let seen: Vec<&str> = ack
            .text
            .lines()
            .filter_map(|line| line.strip_prefix("Route: "))
            .collect();
        assert!(
            ack.first_line().starts_with(&format!("ACK {uri} ")),
            "{}",
            ack.text
        );
        assert_eq!(seen.join("|"), routes);
        assert_eq!(ack.to, address(2), "the first route is the next hop");
    }
}

#[test]
fn an_outbound_proxy_gets_everything_outside_of_dialogs() {
    let mut wire = Wire::new();
    let mut alice = config(1, "alice");
    alice.proxy = Some("sip:10.0.0.2:5060;transport=udp".parse().unwrap());
    wire.add(alice);
    wire.add(config(2, "proxy"));
    wire.invite(0, "sip:bob@elsewhere.example", "offer");
    wire.run_for(100);
    let invite = wire.sent(0, "INVITE")[0];
    assert_eq!(
        invite.first_line(),
        "INVITE sip:bob@elsewhere.example SIP/2.0"
    );
    assert_eq!(invite.to, address(2));
    assert_eq!(
        invite.header("Route"),
        Some("<sip:10.0.0.2:5060;transport=udp;lr>")
    );
}

#[test]
fn names_are_resolved_and_unknown_ones_reported() {
    let mut wire = Wire::pair();
    wire.host("bob.example", &["10.0.0.2"]);
    wire.invite(0, "sip:bob@bob.example", "offer");
    wire.incoming(1);
    let call = wire.invite(0, "sip:bob@nobody.example", "offer");
    let (failed, what) = wire.wait(0, |event| match event {
        SipEvent::TransportFailed { call, what } => Some((*call, what.clone())),
        _ => None,
    });
    assert_eq!(failed, call);
    assert!(what.contains("nobody.example"));
}

/// Alice is behind a NAT without a proxy: responses follow rport, bob's requests in the dialog
/// follow the way that hers took, and her next Contact tells her public address.
#[test]
fn behind_a_nat() {
    let mut wire = Wire::pair();
    wire.behind_nat(0, "203.0.113.7:41000");
    let (alice, bob) = wire.connected();
    wire.with(1, |e, now| e.reinvite(now, &bob, b"again".to_vec()))
        .unwrap();
    wire.wait(0, |event| {
        matches!(event, SipEvent::Reinvite { .. }).then_some(())
    });
    wire.with(0, |e, now| e.answer_reinvite(now, &alice, b"yes".to_vec()))
        .unwrap();
    wire.wait(1, |event| {
        matches!(event, SipEvent::ReinviteAccepted { .. }).then_some(())
    });
    let contact = wire.sent(0, "SIP/2.0 200")[0].header("Contact").unwrap();
    assert!(
        contact.starts_with("<sip:alice@203.0.113.7:41000>"),
        "{contact}"
    );
    assert!(
        wire.sent(0, "INVITE")[0]
            .header("Contact")
            .unwrap()
            .starts_with("<sip:alice@10.0.0.1:5060>")
    );
}

/// A keepalive every 20 to 25 s, as long as there is a call.
#[test]
fn keepalives_hold_the_nat_open() {
    let mut wire = Wire::pair();
    let (alice, _) = wire.connected();
    wire.run_for(200_000);
    let times = wire
        .log
        .iter()
        .filter(|sent| sent.text == "\r\n\r\n" && sent.to == address(2))
        .map(|sent| sent.at)
        .collect::<Vec<_>>();
    assert!((8..=10).contains(&times.len()), "{times:?}");
    assert!(
        times
            .windows(2)
            .all(|w| (20_000..=25_000).contains(&(w[1] - w[0])))
    );
    wire.with(0, |e, now| e.bye(now, &alice, None)).unwrap();
    wire.run_for(60_000);
    let before = wire.log.len();
    wire.run_for(200_000);
    assert_eq!(wire.log.len(), before, "silence after the call");
}
