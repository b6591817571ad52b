//! CANCEL: RFC 3261 section 9, and its races with the answer.

use ringtrue_sip::{IcePeer, SipEvent};

use crate::wire::{Fate, Wire, ring};

#[test]
fn cancel_while_ringing() {
    let mut wire = Wire::pair();
    let (alice, bob) = wire.call();
    wire.with(1, |e, now| e.ring(now, bob, &ring())).unwrap();
    wire.run_for(1_000);
    wire.with(0, |e, now| e.cancel(now, alice)).unwrap();
    let cancelled = wire.wait(1, |event| match event {
        SipEvent::Cancelled { call } => Some(*call),
        _ => None,
    });
    assert_eq!(cancelled, bob);
    assert_eq!(wire.refused(0), 487);
    wire.run_for(40_000);
    assert_eq!(wire.times(0, "CANCEL").len(), 1);
    assert_eq!(wire.times(0, "ACK").len(), 1);
    let again = wire.with(1, |e, now| e.ring(now, bob, &ring()));
    assert!(again.is_err(), "a ring after CANCEL goes nowhere");
}

#[test]
fn cancel_waits_for_a_provisional_response() {
    let mut wire = Wire::pair();
    wire.lose_first("SIP/2.0 100", 2);
    let (alice, _) = wire.call();
    wire.with(0, |e, now| e.cancel(now, alice)).unwrap();
    assert_eq!(wire.refused(0), 487);
    // The third 100, at 1510, is the first to arrive.
    assert_eq!(wire.times(0, "CANCEL"), [1520]);
}

#[test]
fn cancel_of_an_unheard_invite_ends_by_timer_b() {
    let mut wire = Wire::pair();
    let call = wire.invite(0, "sip:bob@10.0.0.99", "offer");
    wire.with(0, |e, now| e.cancel(now, call)).unwrap();
    wire.wait(0, |event| {
        matches!(event, SipEvent::TimedOut { .. }).then_some(())
    });
    assert!(wire.times(0, "CANCEL").is_empty());
}

#[test]
fn cancel_before_the_name_is_known_sends_nothing() {
    let mut wire = Wire::pair();
    let call = wire.invite(0, "sip:bob@bob.example", "offer");
    wire.with(0, |e, now| e.cancel(now, call)).unwrap();
    assert_eq!(wire.refused(0), 487);
    wire.run_for(40_000);
    assert!(wire.log.is_empty());
}

#[test]
fn lost_cancels_and_lost_487s_are_repeated() {
    for lost in ["CANCEL", "SIP/2.0 487", "SIP/2.0 200", "ACK"] {
        let mut wire = Wire::pair();
        wire.lose_first(lost, 2);
        let (alice, _) = wire.call();
        wire.run_for(100);
        wire.with(0, |e, now| e.cancel(now, alice)).unwrap();
        assert_eq!(wire.refused(0), 487, "{lost}");
        wire.wait(1, |event| {
            matches!(event, SipEvent::Cancelled { .. }).then_some(())
        });
        wire.run_for(60_000);
        let before = wire.log.len();
        wire.run_for(60_000);
        assert_eq!(wire.log.len(), before, "{lost}: it comes to rest");
    }
}

#[test]
fn a_487_that_never_comes_is_not_waited_for_without_end() {
    let mut wire = Wire::pair();
    let (alice, _) = wire.call();
    wire.run_for(100);
    wire.lose_first("SIP/2.0 487", usize::MAX);
    let start = wire.ms();
    wire.with(0, |e, now| e.cancel(now, alice)).unwrap();
    wire.wait(0, |event| {
        matches!(event, SipEvent::TimedOut { .. }).then_some(())
    });
    assert_eq!(wire.ms() - start, 32_000);
}

/// The answer and the CANCEL cross: alice hears `Accepted` and hangs up.
#[test]
fn an_answer_that_is_quicker_than_the_cancel() {
    let mut wire = Wire::pair();
    let (alice, bob) = wire.call();
    wire.run_for(100);
    wire.with(1, |e, now| e.accept(now, bob, Some(b"answer".to_vec())))
        .unwrap();
    wire.with(0, |e, now| e.cancel(now, alice)).unwrap();
    let dialog = wire.accepted(0).0;
    wire.with(0, |e, now| e.bye(now, &dialog, None)).unwrap();
    wire.wait(1, |event| {
        matches!(event, SipEvent::Ended { .. }).then_some(())
    });
    wire.run_for(100);
    let events = wire.events(1);
    assert!(
        !events
            .iter()
            .any(|e| matches!(e, SipEvent::Cancelled { .. }))
    );
    let ok = wire.sent(1, "SIP/2.0 200");
    assert!(
        ok.iter()
            .any(|sent| sent.header("CSeq") == Some("1 CANCEL"))
    );
}

/// CANCEL at every millisecond of a call's setup: it always ends on both sides, in one way.
#[test]
fn cancel_at_every_moment() {
    let (mut cancelled, mut answered) = (0, 0);
    for at in 0..120 {
        let mut wire = Wire::pair();
        let alice = wire.invite(0, "sip:bob@10.0.0.2", "offer");
        // Bob: 183 at once, ringing 30 ms later, picks up after another 30 ms.
        let mut bob = None;
        for ms in 0..400 {
            if ms == at {
                // Refused when the answer was there already: then she hangs up.
                if wire.with(0, |e, now| e.cancel(now, alice)).is_err() {
                    let dialog = wire.accepted(0).0;
                    wire.with(0, |e, now| e.bye(now, &dialog, None)).unwrap();
                    answered += 1;
                }
            }
            wire.run_for(1);
            for event in wire.events(1) {
                match event {
                    SipEvent::Incoming { call, .. } => {
                        bob = Some((call, wire.ms()));
                        wire.with(1, |e, now| {
                            e.progress(now, call, b"a".to_vec(), IcePeer::Full)
                        })
                        .unwrap();
                    }
                    SipEvent::Cancelled { .. } | SipEvent::Ended { .. } => bob = None,
                    _ => {}
                }
            }
            // Commands race with the CANCEL too; they may be refused, nothing else.
            if let Some((call, since)) = bob {
                if wire.ms() == since + 30 {
                    let _ = wire.with(1, |e, now| e.ring(now, call, &ring()));
                }
                if wire.ms() == since + 60 {
                    let _ = wire.with(1, |e, now| e.accept(now, call, None));
                }
            }
            for event in wire.events(0) {
                match event {
                    SipEvent::Accepted { dialog, .. } if ms >= at => {
                        wire.with(0, |e, now| e.bye(now, &dialog, None)).unwrap();
                        answered += 1;
                    }
                    SipEvent::Accepted { dialog, body } => {
                        assert!(ms < at);
                        // Kept for the cancel that will be refused.
                        wire.keep(0, SipEvent::Accepted { dialog, body });
                    }
                    SipEvent::Refused { status, .. } => {
                        assert_eq!(status, 487);
                        cancelled += 1;
                    }
                    _ => {}
                }
            }
        }
        wire.run_for(100_000);
        assert!(
            bob.is_none(),
            "cancelled at {at} ms: bob still believes in the call"
        );
        for node in [0, 1] {
            assert!(wire.with(node, |e, _| e.is_idle()), "cancelled at {at} ms");
        }
    }
    assert_eq!(cancelled + answered, 120);
    assert!(cancelled > 50 && answered > 20, "{cancelled} {answered}");
}

#[test]
fn a_cancel_that_means_nothing_gets_481() {
    let mut wire = Wire::pair();
    let (alice, _) = wire.call();
    wire.run_for(100);
    wire.filter(|sent| {
        if sent.first_line().starts_with("CANCEL") {
            let other = sent.text.replace("branch=z9hG4bK", "branch=z9hG4bKother");
            return Fate::Become(other.into_bytes());
        }
        Fate::Pass
    });
    wire.with(0, |e, now| e.cancel(now, alice)).unwrap();
    wire.run_for(1_000);
    assert!(!wire.times(1, "SIP/2.0 481").is_empty());
    assert!(wire.events(1).is_empty(), "the call goes on");
}

#[test]
fn a_bye_before_the_answer_ends_the_call_too() {
    let mut wire = Wire::pair();
    let (_, bob) = wire.call();
    wire.with(1, |e, now| e.ring(now, bob, &ring())).unwrap();
    let ringing = wire.sent(1, "SIP/2.0 180")[0].clone();
    let bye = format!(
        "BYE sip:bob@10.0.0.2 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKbye\r\n\
         From: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: 2 BYE\r\nContent-Length: 0\r\n\r\n",
        ringing.header("From").unwrap(),
        ringing.header("To").unwrap(),
        ringing.header("Call-ID").unwrap(),
    );
    wire.inject(ringing.to, ringing.from, bye);
    wire.wait(1, |event| {
        matches!(event, SipEvent::Cancelled { .. }).then_some(())
    });
    assert_eq!(wire.refused(0), 487);
}
