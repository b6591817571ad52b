//! INFO with trickled candidates, in early dialogs and confirmed ones (RFC 6086, RFC 8840).

use ringtrue_sip::{CallHandle, CommandRefused, DialogId, IcePeer, SipEvent};

use crate::wire::{Fate, Wire, address, config, ring};

const FRAGMENT: &[u8] = b"a=ice-pwd:asd88fgpdd777uzjYhagZg\r\na=ice-ufrag:8hhY\r\n";

/// A call whose answer is out in a reliable 183: alice's early dialog, and bob's.
fn early(wire: &mut Wire) -> (DialogId, DialogId) {
    let (_, bob) = wire.call();
    wire.with(1, |e, now| {
        e.progress(now, bob, b"answer".to_vec(), IcePeer::Full)
    })
    .unwrap();
    let alice = wire.wait(0, |event| match event {
        SipEvent::Progress { dialog, .. } => Some(dialog.clone()),
        _ => None,
    });
    wire.wait(1, |event| {
        matches!(event, SipEvent::Pracked { .. }).then_some(())
    });
    // An INFO waits for the answer to the PRACK.
    wire.run_for(100);
    (alice, bobs(wire, bob))
}

/// Bob's side of the dialog, by the tag in alice's INVITE.
fn bobs(wire: &Wire, call: CallHandle) -> DialogId {
    let from = wire.sent(0, "INVITE")[0].header("From").unwrap();
    let (_, tag) = from.split_once(";tag=").unwrap();
    DialogId {
        call,
        remote_tag: tag.to_owned(),
    }
}

fn trickle(wire: &mut Wire, node: usize, dialog: &DialogId, body: &[u8]) {
    wire.with(node, |e, now| e.trickle(now, dialog, body.to_vec()))
        .unwrap();
}

fn trickled(wire: &mut Wire, node: usize) -> Vec<u8> {
    wire.wait(node, |event| match event {
        SipEvent::Trickled { fragment, .. } => Some(fragment.clone()),
        _ => None,
    })
}

#[test]
fn both_sides_trickle_in_the_early_dialog_and_in_the_confirmed_one() {
    let mut wire = Wire::pair();
    let (alice, bob) = early(&mut wire);
    assert!(wire.with(0, |e, _| e.takes_trickle(&alice)));
    assert!(wire.with(1, |e, _| e.takes_trickle(&bob)));
    trickle(&mut wire, 0, &alice, FRAGMENT);
    assert_eq!(trickled(&mut wire, 1), FRAGMENT);
    trickle(&mut wire, 1, &bob, b"from bob");
    assert_eq!(trickled(&mut wire, 0), b"from bob");

    let info = wire.sent(0, "INFO")[0];
    assert_eq!(info.header("Info-Package"), Some("trickle-ice"));
    assert_eq!(info.header("Content-Disposition"), Some("Info-Package"));
    let kind = Some("application/trickle-ice-sdpfrag");
    assert_eq!(info.header("Content-Type"), kind);
    assert_eq!(info.header("CSeq"), Some("3 INFO"), "after INVITE, PRACK");
    let invite = wire.sent(0, "INVITE")[0];
    assert_eq!(invite.header("Recv-Info"), Some("trickle-ice"));
    assert_eq!(
        wire.sent(1, "SIP/2.0 183")[0].header("Recv-Info"),
        Some("trickle-ice")
    );

    wire.with(1, |e, now| e.ring(now, bob.call, &ring()))
        .unwrap();
    wire.with(1, |e, now| e.accept(now, bob.call, None))
        .unwrap();
    wire.wait(1, |event| {
        matches!(event, SipEvent::Confirmed { .. }).then_some(())
    });
    trickle(&mut wire, 0, &alice, b"later");
    assert_eq!(trickled(&mut wire, 1), b"later");
    trickle(&mut wire, 1, &bob, b"later too");
    assert_eq!(trickled(&mut wire, 0), b"later too");
    // The numbers of the early dialog went on.
    assert_eq!(wire.sent(0, "INFO")[1].header("CSeq"), Some("4 INFO"));
}

#[test]
fn a_lost_info_is_repeated_and_handed_over_once_and_the_next_waits_for_it() {
    let mut wire = Wire::pair();
    let (alice, _) = early(&mut wire);
    wire.lose_first("SIP/2.0 200", 1);
    trickle(&mut wire, 0, &alice, b"one");
    trickle(&mut wire, 0, &alice, b"one two");
    trickle(&mut wire, 0, &alice, b"one two three");
    assert_eq!(trickled(&mut wire, 1), b"one");
    // The one in the middle was replaced: each says all.
    assert_eq!(trickled(&mut wire, 1), b"one two three");
    wire.run_for(40_000);
    let bodies: Vec<_> = wire.sent(0, "INFO").iter().map(|i| i.body()).collect();
    assert_eq!(bodies, ["one", "one", "one two three"]);
    assert!(
        wire.events(1).is_empty(),
        "a repetition is handed over to nobody"
    );
}

/// A proxy with several workers may let the INFO overtake the PRACK, which the callee has to refuse
/// then (RFC 3261 section 12.2.2); the 183 would never be acknowledged.
#[test]
fn an_info_waits_for_the_prack() {
    let mut wire = Wire::pair();
    let (_, bob) = wire.call();
    wire.with(1, |e, now| {
        e.progress(now, bob, b"answer".to_vec(), IcePeer::Full)
    })
    .unwrap();
    wire.lose_first("PRACK", 1);
    let alice = wire.wait(0, |event| match event {
        SipEvent::Progress { dialog, .. } => Some(dialog.clone()),
        _ => None,
    });
    trickle(&mut wire, 0, &alice, b"one");
    trickle(&mut wire, 0, &alice, b"one two");
    wire.run_for(300);
    assert_eq!(wire.sent(0, "INFO").len(), 0, "the PRACK was lost");
    assert_eq!(trickled(&mut wire, 1), b"one two");
    assert_eq!(wire.sent(0, "PRACK").len(), 2);
    assert_eq!(wire.sent(0, "INFO").len(), 1);
}

#[test]
fn nobody_trickles_to_a_peer_that_does_not_ask_for_it() {
    let mut wire = Wire::pair();
    wire.filter(|sent| Fate::Become(sent.text.replace("Recv-Info: trickle-ice\r\n", "").into()));
    let (alice, bob) = early(&mut wire);
    for (node, dialog) in [(0, alice), (1, bob)] {
        assert!(!wire.with(node, |e, _| e.takes_trickle(&dialog)));
        let refused = wire.with(node, |e, now| e.trickle(now, &dialog, FRAGMENT.to_vec()));
        assert_eq!(refused, Err(CommandRefused::WrongState));
    }
    assert!(wire.sent(0, "INFO").is_empty() && wire.sent(1, "INFO").is_empty());
}

#[test]
fn a_peer_that_refuses_is_not_asked_again_and_the_call_goes_on() {
    for status in ["415 Unsupported Media Type", "469 Bad Info Package"] {
        let mut wire = Wire::pair();
        let (alice, bob) = early(&mut wire);
        wire.filter(move |sent| {
            let is_info = sent
                .header("CSeq")
                .is_some_and(|cseq| cseq.ends_with("INFO"));
            if is_info && sent.first_line() == "SIP/2.0 200 OK" {
                return Fate::Become(sent.text.replace("200 OK", status).into());
            }
            Fate::Pass
        });
        trickle(&mut wire, 0, &alice, b"one");
        trickle(&mut wire, 0, &alice, b"one two");
        wire.run_for(100);
        assert_eq!(wire.sent(0, "INFO").len(), 1);
        assert!(!wire.with(0, |e, _| e.takes_trickle(&alice)));
        wire.with(1, |e, now| e.accept(now, bob.call, None))
            .unwrap();
        wire.wait(0, |event| {
            matches!(event, SipEvent::Accepted { .. }).then_some(())
        });
    }
}

/// An INFO as the callee would send it, with other header fields and another body.
fn injected(wire: &mut Wire, extra: &str, body: &str) -> (String, Option<String>) {
    let invite = wire.sent(0, "INVITE")[0].clone();
    let to = wire.sent(1, "SIP/2.0 183")[0].clone();
    let number = wire.log.len();
    let text = format!(
        "INFO sip:alice@10.0.0.1 SIP/2.0\r\n\
         Via: SIP/2.0/UDP 10.0.0.2:5060;branch=z9hG4bKinfo{number}\r\n\
         From: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {number} INFO\r\nMax-Forwards: 70\r\n\
         {extra}Content-Length: {}\r\n\r\n{body}",
        to.header("To").unwrap(),
        invite.header("From").unwrap(),
        invite.header("Call-ID").unwrap(),
        body.len(),
    );
    wire.inject(address(2), address(1), text);
    let before = wire.log.len();
    wire.run_for(20);
    let answer = &wire.log[before];
    let recv = answer.header("Recv-Info").map(str::to_owned);
    (answer.first_line().to_owned(), recv)
}

#[test]
fn other_packages_and_info_of_old_are_answered_as_their_rfcs_say() {
    let mut wire = Wire::pair();
    early(&mut wire);
    wire.events(0);
    let ours = Some("trickle-ice".to_owned());
    let package = "Info-Package: dtmf-by-info\r\nContent-Type: application/x\r\n";
    assert_eq!(
        injected(&mut wire, package, "5"),
        ("SIP/2.0 469 Bad Info Package".to_owned(), ours)
    );
    let kind = "Info-Package: Trickle-ICE;x=y\r\nContent-Type: application/sdp\r\n";
    let (status, _) = injected(&mut wire, kind, "v=0");
    assert_eq!(status, "SIP/2.0 415 Unsupported Media Type");
    // Without a package: the INFO of RFC 2976, whose digits nobody here understands.
    let digits = "Content-Type: application/dtmf-relay\r\n";
    let (status, _) = injected(&mut wire, digits, "Signal=5\r\n");
    assert_eq!(status, "SIP/2.0 415 Unsupported Media Type");
    assert_eq!(injected(&mut wire, "", "").0, "SIP/2.0 200 OK");
    assert!(wire.events(0).is_empty());
}

#[test]
fn an_info_of_a_dialog_that_nobody_knows_gets_481() {
    let mut wire = Wire::pair();
    let text = "INFO sip:alice@10.0.0.1 SIP/2.0\r\n\
         Via: SIP/2.0/UDP 10.0.0.2:5060;branch=z9hG4bKinfo\r\n\
         From: <sip:bob@example.com>;tag=1\r\nTo: <sip:alice@example.com>;tag=2\r\n\
         Call-ID: nobody\r\nCSeq: 1 INFO\r\nMax-Forwards: 70\r\n\
         Info-Package: trickle-ice\r\nContent-Type: application/trickle-ice-sdpfrag\r\n\r\n";
    wire.inject(address(2), address(1), text);
    wire.run_for(20);
    assert!(wire.log[0].first_line().starts_with("SIP/2.0 481"));
    assert!(wire.events(0).is_empty());
}

#[test]
fn a_phone_without_ice_takes_no_candidates() {
    let mut wire = Wire::new();
    for (n, user) in [(1, "alice"), (2, "bob")] {
        let mut config = config(n, user);
        config.ice = n == 2;
        wire.add(config);
    }
    let (alice, bob) = early(&mut wire);
    assert_eq!(wire.sent(0, "INVITE")[0].header("Recv-Info"), None);
    let refused = wire.with(1, |e, now| e.trickle(now, &bob, FRAGMENT.to_vec()));
    assert_eq!(refused, Err(CommandRefused::WrongState));
    let fragment = "Info-Package: trickle-ice\r\nContent-Type: application/trickle-ice-sdpfrag\r\n";
    let (status, recv) = injected(&mut wire, fragment, "a=x");
    assert_eq!(status, "SIP/2.0 469 Bad Info Package");
    assert_eq!(recv.as_deref(), Some(""));
    drop(alice);
}
