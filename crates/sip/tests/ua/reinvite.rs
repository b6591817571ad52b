//! re-INVITE: RFC 3261 section 14.

use ringtrue_sip::{CommandRefused, SipEvent};

use crate::wire::{Fate, Wire};

fn reinvite_came(wire: &mut Wire, node: usize) -> Option<Vec<u8>> {
    wire.wait(node, |event| match event {
        SipEvent::Reinvite { body, .. } => Some(body.clone()),
        _ => None,
    })
}

fn accepted(wire: &mut Wire, node: usize) -> Option<Vec<u8>> {
    wire.wait(node, |event| match event {
        SipEvent::ReinviteAccepted { body, .. } => Some(body.clone()),
        _ => None,
    })
}

#[test]
fn in_both_directions() {
    let mut wire = Wire::pair();
    let (alice, bob) = wire.connected();
    for (asks, answers, from, to) in [(0, 1, &alice, &bob), (1, 0, &bob, &alice)] {
        wire.with(asks, |e, now| e.reinvite(now, from, b"new offer".to_vec()))
            .unwrap();
        let offer = reinvite_came(&mut wire, answers);
        assert_eq!(offer.as_deref(), Some(&b"new offer"[..]));
        wire.with(answers, |e, now| {
            e.answer_reinvite(now, to, b"new answer".to_vec())
        })
        .unwrap();
        let answer = accepted(&mut wire, asks);
        assert_eq!(answer.as_deref(), Some(&b"new answer"[..]));
        wire.run_for(100);
    }
    wire.run_for(60_000);
    assert_eq!(wire.times(0, "INVITE").len(), 2);
    assert_eq!(wire.times(1, "SIP/2.0 200").len(), 2);
    assert!(wire.events(0).is_empty() && wire.events(1).is_empty());
}

#[test]
fn lost_messages_of_a_reinvite() {
    for lost in ["INVITE", "SIP/2.0 200", "ACK"] {
        let mut wire = Wire::pair();
        let (alice, bob) = wire.connected();
        wire.lose_first(lost, 2);
        wire.with(0, |e, now| e.reinvite(now, &alice, b"offer".to_vec()))
            .unwrap();
        reinvite_came(&mut wire, 1);
        wire.with(1, |e, now| e.answer_reinvite(now, &bob, b"answer".to_vec()))
            .unwrap();
        accepted(&mut wire, 0);
        wire.run_for(10_000);
        assert!(
            wire.events(0).is_empty() && wire.events(1).is_empty(),
            "{lost}"
        );
        // The next one is not in the way of the last.
        wire.with(1, |e, now| e.reinvite(now, &bob, b"offer".to_vec()))
            .unwrap();
        reinvite_came(&mut wire, 0);
    }
}

#[test]
fn a_refused_change_leaves_the_session_alone() {
    let mut wire = Wire::pair();
    let (alice, bob) = wire.connected();
    wire.with(0, |e, now| e.reinvite(now, &alice, b"offer".to_vec()))
        .unwrap();
    reinvite_came(&mut wire, 1);
    let wrong = wire.with(1, |e, now| e.refuse_reinvite(now, &bob, 200));
    assert_eq!(wrong, Err(CommandRefused::ForbiddenStatus(200)));
    wire.with(1, |e, now| e.refuse_reinvite(now, &bob, 488))
        .unwrap();
    let status = wire.wait(0, |event| match event {
        SipEvent::ReinviteRefused { status, .. } => Some(*status),
        _ => None,
    });
    assert_eq!(status, 488);
    wire.with(0, |e, now| e.bye(now, &alice, None)).unwrap();
    wire.wait(1, |event| {
        matches!(event, SipEvent::Ended { .. }).then_some(())
    });
}

/// Both at once: 491 for both, then the callee's turn comes first, then the caller's.
#[test]
fn glare_is_settled_by_the_timers_of_section_14_1() {
    let mut wire = Wire::pair();
    let (alice, bob) = wire.connected();
    let start = wire.ms();
    wire.with(0, |e, now| e.reinvite(now, &alice, b"from alice".to_vec()))
        .unwrap();
    wire.with(1, |e, now| e.reinvite(now, &bob, b"from bob".to_vec()))
        .unwrap();
    let busy = wire.with(0, |e, now| e.reinvite(now, &alice, b"more".to_vec()));
    assert_eq!(busy, Err(CommandRefused::Busy));
    assert_eq!(
        reinvite_came(&mut wire, 0).as_deref(),
        Some(&b"from bob"[..])
    );
    wire.with(0, |e, now| e.answer_reinvite(now, &alice, b"yes".to_vec()))
        .unwrap();
    accepted(&mut wire, 1);
    assert_eq!(
        reinvite_came(&mut wire, 1).as_deref(),
        Some(&b"from alice"[..])
    );
    wire.with(1, |e, now| e.answer_reinvite(now, &bob, b"yes".to_vec()))
        .unwrap();
    accepted(&mut wire, 0);
    let after = |times: Vec<u64>| times.last().unwrap() - start - 20;
    let (alices, bobs) = (
        after(wire.times(0, "INVITE")),
        after(wire.times(1, "INVITE")),
    );
    assert!(
        (2_100..=4_000).contains(&alices) && alices % 10 == 0,
        "{alices}"
    );
    assert!(bobs <= 2_000 && bobs % 10 == 0, "{bobs}");
    assert_eq!(wire.sent(0, "SIP/2.0 491").len(), 1);
    assert!(
        !wire
            .events(0)
            .iter()
            .any(|e| matches!(e, SipEvent::ReinviteRefused { .. }))
    );
}

/// Ours is lost on the way; a second later the peer's comes: it is no glare. What becomes of ours
/// after that is acknowledged and changes nothing.
#[test]
fn an_overdue_offer_gives_way_to_the_peers() {
    let mut wire = Wire::pair();
    let (alice, bob) = wire.connected();
    wire.lose_first("INVITE", 2);
    wire.with(0, |e, now| e.reinvite(now, &alice, b"lost".to_vec()))
        .unwrap();
    wire.run_for(1_200);
    wire.with(1, |e, now| e.reinvite(now, &bob, b"from bob".to_vec()))
        .unwrap();
    assert_eq!(
        reinvite_came(&mut wire, 0).as_deref(),
        Some(&b"from bob"[..])
    );
    wire.with(0, |e, now| e.answer_reinvite(now, &alice, b"yes".to_vec()))
        .unwrap();
    accepted(&mut wire, 1);
    // A copy of ours arrives after all.
    assert_eq!(reinvite_came(&mut wire, 1).as_deref(), Some(&b"lost"[..]));
    wire.with(1, |e, now| e.answer_reinvite(now, &bob, b"late".to_vec()))
        .unwrap();
    wire.run_for(40_000);
    assert!(wire.sent(0, "SIP/2.0 491").is_empty());
    assert!(wire.events(0).is_empty() && wire.events(1).is_empty());
}

#[test]
fn a_peer_that_forgot_the_dialog_ends_it() {
    let mut wire = Wire::pair();
    let (alice, _) = wire.connected();
    wire.filter(|sent| {
        if sent.first_line().starts_with("INVITE") {
            return Fate::Become(
                sent.text
                    .replace("To: <", "To: <sip:x@y>;tag=zz\r\nX: <")
                    .into_bytes(),
            );
        }
        Fate::Pass
    });
    wire.with(0, |e, now| e.reinvite(now, &alice, b"offer".to_vec()))
        .unwrap();
    let reason = wire.wait(0, |event| match event {
        SipEvent::Ended { reason, .. } => Some(reason.clone()),
        _ => None,
    });
    assert_eq!(reason.as_deref(), Some("Call/Transaction Does Not Exist"));
    wire.wait(1, |event| {
        matches!(event, SipEvent::Ended { .. }).then_some(())
    });
}

#[test]
fn a_reinvite_without_an_answer_ends_the_dialog() {
    let mut wire = Wire::pair();
    let (alice, _) = wire.connected();
    wire.lose_first("INVITE", usize::MAX);
    let start = wire.ms();
    wire.with(0, |e, now| e.reinvite(now, &alice, b"offer".to_vec()))
        .unwrap();
    wire.wait(0, |event| {
        matches!(event, SipEvent::Ended { .. }).then_some(())
    });
    assert_eq!(wire.ms() - start, 32_000);
    wire.wait(1, |event| {
        matches!(event, SipEvent::Ended { .. }).then_some(())
    });
}

#[test]
fn a_bye_in_the_middle_of_a_reinvite() {
    for leaver in [0, 1] {
        let mut wire = Wire::pair();
        let (alice, bob) = wire.connected();
        wire.with(0, |e, now| e.reinvite(now, &alice, b"offer".to_vec()))
            .unwrap();
        reinvite_came(&mut wire, 1);
        let own = [&alice, &bob][leaver];
        wire.with(leaver, |e, now| e.bye(now, own, None)).unwrap();
        wire.wait(1 - leaver, |event| {
            matches!(event, SipEvent::Ended { .. }).then_some(())
        });
        wire.wait(leaver, |event| {
            matches!(event, SipEvent::ByeDone { .. }).then_some(())
        });
        wire.run_for(100_000);
        assert!(!wire.times(1, "SIP/2.0 487").is_empty(), "leaver {leaver}");
        assert!(
            wire.events(0).is_empty() && wire.events(1).is_empty(),
            "{leaver}"
        );
        for node in [0, 1] {
            assert!(
                wire.with(node, |e, _| e.is_idle()),
                "leaver {leaver}, node {node}"
            );
        }
    }
}

/// The peer's BYE comes while ours to it is on its way and lost: nobody waits for its answer.
#[test]
fn a_reinvite_of_a_dialog_that_has_ended_is_not_waited_for() {
    let mut wire = Wire::pair();
    let (alice, bob) = wire.connected();
    wire.lose_first("INVITE", usize::MAX);
    wire.with(0, |e, now| e.reinvite(now, &alice, b"offer".to_vec()))
        .unwrap();
    assert!(!wire.with(0, |e, _| e.is_idle()));
    wire.with(1, |e, now| e.bye(now, &bob, None)).unwrap();
    wire.wait(0, |event| {
        matches!(event, SipEvent::Ended { .. }).then_some(())
    });
    assert!(wire.with(0, |e, _| e.is_idle()));
}

#[test]
fn an_old_request_in_the_dialog_gets_500() {
    let mut wire = Wire::pair();
    let (alice, _) = wire.connected();
    wire.filter(|sent| {
        if sent.first_line().starts_with("INVITE") {
            return Fate::Become(sent.text.replace("CSeq: 2 ", "CSeq: 0 ").into_bytes());
        }
        Fate::Pass
    });
    wire.with(0, |e, now| e.reinvite(now, &alice, b"offer".to_vec()))
        .unwrap();
    wire.run_for(1_000);
    assert!(!wire.times(1, "SIP/2.0 500").is_empty());
    assert!(wire.events(1).is_empty());
}
