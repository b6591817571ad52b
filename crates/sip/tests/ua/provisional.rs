//! 183 and 180, reliable and repeated.

use ringtrue_sip::{CommandRefused, DialogId, IcePeer, OutgoingInvite, ProgressDelivery, SipEvent};

use crate::wire::{Fate, Wire, ring};

/// Takes the 100rel out of alice's INVITE.
fn without_100rel(wire: &mut Wire) {
    edit_invite(wire, "Supported: 100rel, ice", "Supported: ice");
}

fn edit_invite(wire: &mut Wire, from: &'static str, to: &'static str) {
    wire.filter(move |sent| {
        if sent.first_line().starts_with("INVITE") {
            assert!(sent.text.contains(from), "{}", sent.text);
            return Fate::Become(sent.text.replace(from, to).into_bytes());
        }
        Fate::Pass
    });
}

fn progress(wire: &mut Wire, peer: IcePeer) -> ProgressDelivery {
    let (_, bob) = wire.call();
    wire.with(1, |e, now| e.progress(now, bob, b"answer".to_vec(), peer))
        .unwrap()
}

#[test]
fn a_lost_reliable_183_is_repeated_until_its_prack() {
    let mut wire = Wire::pair();
    wire.lose_first("SIP/2.0 183", 3);
    progress(&mut wire, IcePeer::Full);
    wire.wait(1, |event| {
        matches!(event, SipEvent::Pracked { .. }).then_some(())
    });
    wire.run_for(30_000);
    assert_eq!(wire.times(1, "SIP/2.0 183"), [10, 510, 1510, 3510]);
    assert_eq!(wire.times(0, "PRACK"), [3520]);
    let progress = wire.events(0);
    assert_eq!(
        progress.len(),
        1,
        "one event for one response: {progress:?}"
    );
}

#[test]
fn a_lost_prack_is_repeated_by_its_own_transaction() {
    let mut wire = Wire::pair();
    wire.lose_first("PRACK", 2);
    progress(&mut wire, IcePeer::Full);
    wire.wait(1, |event| {
        matches!(event, SipEvent::Pracked { .. }).then_some(())
    });
    wire.run_for(30_000);
    assert_eq!(wire.times(0, "PRACK"), [20, 520, 1520]);
    // The 183 came again meanwhile and drew no second PRACK with another CSeq.
    assert_eq!(wire.times(1, "SIP/2.0 183"), [10, 510, 1510]);
    let numbers: Vec<_> = wire
        .sent(0, "PRACK")
        .iter()
        .map(|p| p.header("CSeq"))
        .collect();
    assert_eq!(numbers, [Some("2 PRACK"); 3]);
}

#[test]
fn a_lost_answer_to_the_prack_is_repeated() {
    let mut wire = Wire::pair();
    let mut lose = 1;
    wire.filter(move |sent| {
        if sent.header("CSeq").is_some_and(|c| c.ends_with("PRACK"))
            && sent.first_line().starts_with("SIP/2.0 200")
            && lose > 0
        {
            lose -= 1;
            return Fate::Drop;
        }
        Fate::Pass
    });
    progress(&mut wire, IcePeer::Full);
    wire.run_for(30_000);
    assert_eq!(wire.times(0, "PRACK"), [20, 520]);
    let pracked = wire.events(1);
    assert_eq!(pracked.len(), 1, "{pracked:?}");
}

#[test]
fn without_any_prack_the_invite_is_refused_after_32_s() {
    let mut wire = Wire::pair();
    wire.lose_first("PRACK", usize::MAX);
    progress(&mut wire, IcePeer::Full);
    wire.wait(1, |event| {
        matches!(event, SipEvent::TimedOut { .. }).then_some(())
    });
    assert_eq!(wire.ms(), 32_010);
    // RFC 3262 section 3: doubling without the bound of T2.
    assert_eq!(
        wire.times(1, "SIP/2.0 183"),
        [10, 510, 1510, 3510, 7510, 15_510, 31_510]
    );
    assert_eq!(wire.refused(0), 504);
}

#[test]
fn without_100rel_the_183_is_repeated_until_it_is_stopped() {
    let mut wire = Wire::pair();
    without_100rel(&mut wire);
    assert_eq!(
        progress(&mut wire, IcePeer::Full),
        ProgressDelivery::Repeated
    );
    wire.run_for(5_000);
    assert_eq!(wire.times(1, "SIP/2.0 183"), [10, 510, 1510, 3510]);
    let bob = wire.sent(1, "SIP/2.0 183")[0];
    assert_eq!((bob.header("RSeq"), bob.header("Require")), (None, None));
    assert_eq!(bob.body(), "answer");
    assert_eq!(wire.events(0).len(), 1, "the repetitions are no news");
}

#[test]
fn stop_progress_ends_the_repetition_but_not_the_reminder() {
    let mut wire = Wire::pair();
    without_100rel(&mut wire);
    let (_, bob) = wire.call();
    wire.with(1, |e, now| {
        e.progress(now, bob, b"answer".to_vec(), IcePeer::Full)
    })
    .unwrap();
    wire.run_for(600);
    wire.with(1, |e, _| e.stop_progress(bob)).unwrap();
    wire.run_for(60_000);
    assert_eq!(wire.times(1, "SIP/2.0 183"), [10, 510, 60_010]);
}

#[test]
fn the_repetition_is_given_up_after_32_s_without_ending_the_call() {
    let mut wire = Wire::pair();
    without_100rel(&mut wire);
    progress(&mut wire, IcePeer::Full);
    wire.run_for(59_000);
    assert_eq!(
        wire.times(1, "SIP/2.0 183"),
        [10, 510, 1510, 3510, 7510, 15_510, 31_510]
    );
    assert!(wire.events(1).is_empty());
}

#[test]
fn a_lite_peer_gets_the_183_four_times() {
    let mut wire = Wire::pair();
    without_100rel(&mut wire);
    progress(&mut wire, IcePeer::Lite);
    wire.run_for(59_000);
    assert_eq!(wire.times(1, "SIP/2.0 183"), [10, 510, 1510, 3510]);
}

#[test]
fn the_200_repeats_the_sdp_of_an_unreliable_183() {
    let mut wire = Wire::pair();
    without_100rel(&mut wire);
    let (_, bob) = wire.call();
    wire.with(1, |e, now| {
        e.progress(now, bob, b"answer".to_vec(), IcePeer::Full)
    })
    .unwrap();
    wire.run_for(100);
    wire.with(1, |e, now| e.ring(now, bob, &ring())).unwrap();
    let other = Some(b"another answer".to_vec());
    wire.with(1, |e, now| e.accept(now, bob, other)).unwrap();
    assert_eq!(wire.accepted(0).1.as_deref(), Some(&b"answer"[..]));
    wire.confirmed(1);
    wire.run_for(40_000);
    assert_eq!(
        wire.times(1, "SIP/2.0 183"),
        [10],
        "a final response ends it"
    );
}

#[test]
fn accept_waits_for_the_prack_and_carries_no_sdp() {
    let mut wire = Wire::pair();
    wire.lose_first("SIP/2.0 183", 1);
    let (_, bob) = wire.call();
    wire.with(1, |e, now| {
        e.progress(now, bob, b"answer".to_vec(), IcePeer::Full)
    })
    .unwrap();
    wire.with(1, |e, now| e.accept(now, bob, None)).unwrap();
    let again = wire.with(1, |e, now| e.accept(now, bob, None));
    assert_eq!(again, Err(CommandRefused::WrongState));
    assert_eq!(wire.accepted(0).1, None);
    // PRACK at 520 is answered at 530, and so is the INVITE.
    assert_eq!(wire.times(1, "SIP/2.0 200"), [530, 530]);
}

#[test]
fn ring_waits_for_the_prack_too() {
    let mut wire = Wire::pair();
    wire.lose_first("SIP/2.0 183", 1);
    let (_, bob) = wire.call();
    wire.with(1, |e, now| {
        e.progress(now, bob, b"answer".to_vec(), IcePeer::Full)
    })
    .unwrap();
    wire.with(1, |e, now| e.ring(now, bob, &ring())).unwrap();
    wire.run_for(1_000);
    assert_eq!(wire.times(1, "SIP/2.0 180"), [530]);
    let sent = wire.sent(1, "SIP/2.0 180")[0];
    assert_eq!(
        sent.header("RSeq"),
        None,
        "Supported alone makes no 180 reliable"
    );
}

#[test]
fn the_180_is_repeated_each_minute() {
    let mut wire = Wire::pair();
    let (_, bob) = wire.call();
    wire.with(1, |e, now| e.ring(now, bob, &ring())).unwrap();
    wire.run_for(200_000);
    assert_eq!(wire.times(1, "SIP/2.0 180"), [10, 60_010, 120_010, 180_010]);
    assert_eq!(wire.events(0).len(), 1);
}

#[test]
fn under_require_100rel_the_180_is_reliable_and_numbered_on() {
    let mut wire = Wire::pair();
    edit_invite(&mut wire, "Supported: 100rel, ice", "Require: 100rel");
    let (_, bob) = wire.call();
    wire.with(1, |e, now| {
        e.progress(now, bob, b"answer".to_vec(), IcePeer::Full)
    })
    .unwrap();
    wire.with(1, |e, now| e.ring(now, bob, &ring())).unwrap();
    wire.run_for(61_000);
    let rseq = |status: &str| -> Vec<u32> {
        wire.sent(1, status)
            .iter()
            .map(|sent| sent.header("RSeq").unwrap().parse().unwrap())
            .collect()
    };
    let first = rseq("SIP/2.0 183")[0];
    assert_eq!(rseq("SIP/2.0 180"), [first + 1, first + 2]);
    assert_eq!(wire.times(1, "SIP/2.0 180"), [30, 60_030]);
    assert_eq!(wire.times(0, "PRACK").len(), 3);
}

#[test]
fn a_repeated_invite_gets_the_latest_provisional() {
    let mut wire = Wire::pair();
    without_100rel(&mut wire);
    let (_, bob) = wire.call();
    wire.with(1, |e, now| {
        e.progress(now, bob, b"answer".to_vec(), IcePeer::Full)
    })
    .unwrap();
    wire.with(1, |e, _| e.stop_progress(bob)).unwrap();
    wire.run_for(1_000);
    let invite = wire.sent(0, "INVITE")[0].clone();
    let text = invite
        .text
        .replace("Supported: 100rel, ice", "Supported: ice");
    wire.inject(invite.from, invite.to, text);
    wire.run_for(1_000);
    assert_eq!(wire.times(1, "SIP/2.0 183"), [10, 1020]);
    assert_eq!(wire.times(1, "SIP/2.0 100"), [10]);
}

/// Third-party call control: no SDP in the INVITE.
fn invite_without_sdp(wire: &mut Wire, rel: bool) -> ringtrue_sip::CallHandle {
    let supported = if rel { "100rel" } else { "timer" };
    let text = format!(
        "INVITE sip:bob@10.0.0.2 SIP/2.0\r\n\
         Via: SIP/2.0/UDP 192.0.2.5:5060;branch=z9hG4bKx1\r\n\
         From: <sip:c@example.com>;tag=cc\r\nTo: <sip:bob@example.com>\r\n\
         Call-ID: 3pcc\r\nCSeq: 1 INVITE\r\nContact: <sip:c@192.0.2.5>\r\n\
         Supported: {supported}\r\nContent-Length: 0\r\n\r\n"
    );
    wire.inject(
        "192.0.2.5:5060".parse().unwrap(),
        crate::wire::address(2),
        text,
    );
    wire.incoming(1)
}

#[test]
fn our_offer_goes_in_a_reliable_183_and_the_answer_comes_in_the_prack() {
    let mut wire = Wire::pair();
    wire.script("192.0.2.5:5060", |sent| {
        if !sent.first_line().starts_with("SIP/2.0 183") {
            return Vec::new();
        }
        assert_eq!(sent.body(), "our offer");
        let to = sent.header("To").unwrap();
        let rseq = sent.header("RSeq").unwrap();
        vec![format!(
            "PRACK sip:bob@10.0.0.2 SIP/2.0\r\n\
             Via: SIP/2.0/UDP 192.0.2.5:5060;branch=z9hG4bKx2\r\n\
             From: <sip:c@example.com>;tag=cc\r\nTo: {to}\r\nCall-ID: 3pcc\r\n\
             CSeq: 2 PRACK\r\nRAck: {rseq} 1 INVITE\r\n\
             Content-Type: application/sdp\r\nContent-Length: 12\r\n\r\ntheir answer"
        )]
    });
    let bob = invite_without_sdp(&mut wire, true);
    let delivery = wire
        .with(1, |e, now| {
            e.progress_with_offer(now, bob, b"our offer".to_vec())
        })
        .unwrap();
    assert_eq!(delivery, ProgressDelivery::Reliable);
    let body = wire.wait(1, |event| match event {
        SipEvent::Pracked { body, .. } => Some(body.clone()),
        _ => None,
    });
    assert_eq!(body.as_deref(), Some(&b"their answer"[..]));
    wire.with(1, |e, now| e.accept(now, bob, None)).unwrap();
    let ok = wire.sent(1, "SIP/2.0 200").last().copied().unwrap();
    assert_eq!((ok.header("CSeq"), ok.body()), (Some("1 INVITE"), ""));
}

#[test]
fn without_100rel_our_offer_goes_in_the_200_and_the_answer_comes_in_the_ack() {
    let mut wire = Wire::pair();
    wire.script("192.0.2.5:5060", |sent| {
        if !sent.first_line().starts_with("SIP/2.0 200") {
            return Vec::new();
        }
        assert_eq!(sent.body(), "our offer");
        let to = sent.header("To").unwrap();
        vec![format!(
            "ACK sip:bob@10.0.0.2 SIP/2.0\r\n\
             Via: SIP/2.0/UDP 192.0.2.5:5060;branch=z9hG4bKx2\r\n\
             From: <sip:c@example.com>;tag=cc\r\nTo: {to}\r\nCall-ID: 3pcc\r\n\
             CSeq: 1 ACK\r\n\
             Content-Type: application/sdp\r\nContent-Length: 12\r\n\r\ntheir answer"
        )]
    });
    let bob = invite_without_sdp(&mut wire, false);
    let delivery = wire
        .with(1, |e, now| {
            e.progress_with_offer(now, bob, b"our offer".to_vec())
        })
        .unwrap();
    assert_eq!(delivery, ProgressDelivery::WaitsForAccept);
    wire.with(1, |e, now| e.ring(now, bob, &ring())).unwrap();
    wire.with(1, |e, now| e.accept(now, bob, None)).unwrap();
    assert_eq!(wire.confirmed(1).1.as_deref(), Some(&b"their answer"[..]));
    assert_eq!(wire.sent(1, "SIP/2.0 180")[0].body(), "");
}

#[test]
fn no_180_without_a_ring() {
    let mut wire = Wire::pair();
    let (_, bob) = wire.call();
    for status in [100, 180, 183, 199, 200, 202, 700] {
        let refused = wire.with(1, |e, now| e.reject(now, bob, status, Default::default()));
        assert_eq!(refused, Err(CommandRefused::ForbiddenStatus(status)));
    }
    wire.run_for(1_000);
    assert!(wire.times(1, "SIP/2.0 18").is_empty());
}

#[test]
fn commands_out_of_order_are_refused() {
    let mut wire = Wire::pair();
    let (alice, bob) = wire.call();
    let nothing_to_say = wire.with(1, |e, now| e.accept(now, bob, None));
    assert_eq!(nothing_to_say, Err(CommandRefused::WrongState));
    wire.with(1, |e, now| {
        e.progress(now, bob, b"1".to_vec(), IcePeer::Full)
    })
    .unwrap();
    let twice = wire.with(1, |e, now| {
        e.progress(now, bob, b"2".to_vec(), IcePeer::Full)
    });
    assert_eq!(twice, Err(CommandRefused::WrongState));
    let not_mine = wire.with(0, |e, now| e.ring(now, alice, &ring()));
    assert_eq!(not_mine, Err(CommandRefused::WrongState));
    let strange = wire.with(1, |e, now| e.cancel(now, bob));
    assert_eq!(strange, Err(CommandRefused::WrongState));
    let invite = OutgoingInvite::new("sip:x@10.0.0.9".parse().unwrap(), Vec::new());
    let far = wire.with(0, |e, now| e.invite(now, invite));
    wire.run_for(40_000);
    let gone = wire.with(0, |e, now| e.cancel(now, far));
    assert_eq!(gone, Err(CommandRefused::UnknownCall));
}

/// Ringing comes before the answer for the caller too, whatever the PRACK held up.
#[test]
fn a_ring_and_an_accept_that_wait_leave_in_order() {
    let mut wire = Wire::pair();
    wire.lose_first("SIP/2.0 183", 1);
    let (_, bob) = wire.call();
    wire.with(1, |e, now| {
        e.progress(now, bob, b"answer".to_vec(), IcePeer::Full)
    })
    .unwrap();
    wire.with(1, |e, now| e.ring(now, bob, &ring())).unwrap();
    wire.with(1, |e, now| e.accept(now, bob, None)).unwrap();
    wire.run_for(1_000);
    assert_eq!(wire.times(1, "SIP/2.0 180"), [530]);
    assert_eq!(wire.times(1, "SIP/2.0 200"), [530, 530]);
    let order: Vec<_> = wire
        .events(0)
        .into_iter()
        .filter_map(|event| match event {
            SipEvent::Progress { status, .. } => Some(status),
            SipEvent::Accepted { .. } => Some(200),
            _ => None,
        })
        .collect();
    assert_eq!(order, [183, 180, 200]);
}

/// Hanging up while the 200 waits for the PRACK: no 200 leaves any more.
#[test]
fn a_bye_while_the_accept_waits_refuses_the_call() {
    let mut wire = Wire::pair();
    wire.lose_first("SIP/2.0 183", 1);
    let (_, bob) = wire.call();
    let from = wire.sent(0, "INVITE")[0].header("From").unwrap();
    let remote_tag = from.split_once(";tag=").unwrap().1.to_owned();
    wire.with(1, |e, now| {
        e.progress(now, bob, b"answer".to_vec(), IcePeer::Full)
    })
    .unwrap();
    wire.with(1, |e, now| e.accept(now, bob, None)).unwrap();
    let dialog = DialogId {
        call: bob,
        remote_tag,
    };
    wire.with(1, |e, now| e.bye(now, &dialog, Some("gone")))
        .unwrap();
    wire.run_for(40_000);
    assert_eq!(wire.times(1, "SIP/2.0 480").first(), Some(&10));
    assert!(wire.times(1, "SIP/2.0 200").is_empty());
}
