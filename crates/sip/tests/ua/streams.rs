//! TCP: the switch for size, framing, reuse, loss of connections.

use ringtrue_sip::{IcePeer, SipEvent};

use crate::wire::{Fate, Tcp, Wire, address, config};

fn large() -> String {
    "v=0 ".repeat(400)
}

#[test]
fn a_large_invite_goes_by_tcp_and_the_call_works() {
    let mut wire = Wire::pair();
    let body = large();
    wire.invite(0, "sip:bob@10.0.0.2", &body);
    let bob = wire.incoming(1);
    wire.with(1, |e, now| {
        e.progress(now, bob, large().into_bytes(), IcePeer::Full)
    })
    .unwrap();
    wire.wait(1, |event| {
        matches!(event, SipEvent::Pracked { .. }).then_some(())
    });
    wire.with(1, |e, now| e.accept(now, bob, None)).unwrap();
    let alices = wire.accepted(0).0;
    let bobs = wire.confirmed(1).0;
    let invite = wire.sent(0, "INVITE")[0];
    assert!(invite.tcp && invite.header("Via").unwrap().starts_with("SIP/2.0/TCP"));
    // The responses come on the request's connection; the small requests go by UDP again.
    assert!(wire.sent(1, "SIP/2.0 183")[0].tcp && !wire.sent(0, "PRACK")[0].tcp);
    assert!(!invite.header("Contact").unwrap().contains("transport=tcp"));
    assert_eq!(wire.connects.len(), 1);
    wire.with(1, |e, now| e.bye(now, &bobs, None)).unwrap();
    let ended = wire.wait(0, |event| match event {
        SipEvent::Ended { dialog, .. } => Some(dialog.clone()),
        _ => None,
    });
    assert_eq!(ended, alices);
}

#[test]
fn tcp_refused_falls_back_to_udp_at_once_on_the_same_branch() {
    let mut wire = Wire::pair();
    wire.set_tcp(1, Tcp::Refuses);
    wire.invite(0, "sip:bob@10.0.0.2", &large());
    wire.incoming(1);
    assert_eq!(wire.ms(), 30, "one round trip for the refusal");
    wire.invite(0, "sip:bob@10.0.0.2", &large());
    wire.incoming(1);
    assert_eq!(wire.connects.len(), 1, "and it is remembered");
    let invites = wire.sent(0, "INVITE");
    assert!(invites.iter().all(|sent| !sent.tcp));
    assert!(invites[0].header("Via").unwrap().starts_with("SIP/2.0/UDP"));
}

#[test]
fn tcp_silent_for_a_second_falls_back_to_udp() {
    let mut wire = Wire::pair();
    wire.set_tcp(1, Tcp::Silent);
    wire.invite(0, "sip:bob@10.0.0.2", &large());
    wire.incoming(1);
    assert_eq!(wire.times(0, "INVITE"), [1_000]);
    wire.run_for(100_000);
    assert_eq!(wire.times(0, "INVITE"), [1_000], "it leaves once");
}

/// A middlebox accepts the connection and swallows what comes.
#[test]
fn a_connection_that_swallows_the_invite_falls_back_too() {
    let mut wire = Wire::pair();
    wire.filter(|sent| if sent.tcp { Fate::Drop } else { Fate::Pass });
    wire.invite(0, "sip:bob@10.0.0.2", &large());
    wire.incoming(1);
    let invites = wire.sent(0, "INVITE");
    assert_eq!([invites[0].tcp, invites[1].tcp], [true, false]);
    let branch = |at: usize| {
        let via = invites[at].header("Via").unwrap();
        via.split("branch=")
            .nth(1)
            .unwrap()
            .split(';')
            .next()
            .unwrap()
            .to_owned()
    };
    assert_eq!(branch(0), branch(1));
}

/// The answer to a TCP INVITE is merely slow: the UDP copy is taken for a repetition.
#[test]
fn a_slow_peer_takes_the_udp_copy_for_a_repetition() {
    let mut wire = Wire::pair();
    let mut held = false;
    wire.filter(move |sent| {
        if sent.tcp && sent.first_line().starts_with("SIP/2.0 100") && !held {
            held = true;
            return Fate::Drop;
        }
        Fate::Pass
    });
    wire.invite(0, "sip:bob@10.0.0.2", &large());
    let bob = wire.incoming(1);
    wire.run_for(3_000);
    assert!(wire.events(1).is_empty(), "one call, no merged request");
    wire.with(1, |e, now| e.accept(now, bob, Some(b"answer".to_vec())))
        .unwrap();
    wire.accepted(0);
}

fn tcp_call(wire: &mut Wire) -> (ringtrue_sip::DialogId, ringtrue_sip::DialogId) {
    wire.invite(0, "sip:bob@10.0.0.2;transport=tcp", "offer");
    let bob = wire.incoming(1);
    wire.with(1, |e, now| e.accept(now, bob, Some(b"answer".to_vec())))
        .unwrap();
    (wire.accepted(0).0, wire.confirmed(1).0)
}

#[test]
fn an_explicit_tcp_call_uses_one_connection_for_everything() {
    for segment in [usize::MAX, 100, 7, 1] {
        let mut wire = Wire::pair();
        wire.segment = segment;
        let (alice, bob) = tcp_call(&mut wire);
        let contact = wire.sent(0, "INVITE")[0]
            .header("Contact")
            .unwrap()
            .to_owned();
        assert!(contact.contains(";transport=tcp>"), "{contact}");
        wire.with(0, |e, now| e.reinvite(now, &alice, b"again".to_vec()))
            .unwrap();
        wire.wait(1, |event| {
            matches!(event, SipEvent::Reinvite { .. }).then_some(())
        });
        wire.with(1, |e, now| e.answer_reinvite(now, &bob, b"yes".to_vec()))
            .unwrap();
        wire.wait(0, |event| {
            matches!(event, SipEvent::ReinviteAccepted { .. }).then_some(())
        });
        wire.with(0, |e, now| e.bye(now, &alice, None)).unwrap();
        wire.wait(0, |event| {
            matches!(event, SipEvent::ByeDone { .. }).then_some(())
        });
        assert!(wire.log.iter().all(|sent| sent.tcp));
        assert_eq!(wire.connects.len(), 1, "segments of {segment}");
        // Reliable transports repeat nothing.
        assert_eq!(wire.times(0, "INVITE").len(), 2);
    }
}

#[test]
fn several_messages_in_one_piece() {
    let mut wire = Wire::pair();
    let (alice, _) = tcp_call(&mut wire);
    let invite = wire.sent(0, "INVITE")[0].text.clone();
    let one = invite
        .replace("INVITE", "OPTIONS")
        .replace("branch=z9hG4bK", "branch=z9hG4bKo1");
    let two = one
        .replace("z9hG4bKo1", "z9hG4bKo2")
        .replace("CSeq: 1", "CSeq: 9");
    let mut both = Some(format!("\r\n{one}\r\n\r\n{two}"));
    wire.filter(move |sent| match both.take() {
        Some(both) if sent.tcp => Fate::Become(both.into_bytes()),
        _ => Fate::Pass,
    });
    // Whatever alice sends next is replaced by these.
    wire.with(0, |e, now| e.bye(now, &alice, None)).unwrap();
    wire.run_for(100);
    let answers = wire.sent(1, "SIP/2.0 200");
    let options = answers
        .iter()
        .filter(|sent| sent.header("CSeq").unwrap().ends_with("OPTIONS"))
        .count();
    assert_eq!(options, 2);
}

#[test]
fn a_connection_that_died_unseen_is_opened_anew() {
    let mut wire = Wire::pair();
    let (alice, _) = tcp_call(&mut wire);
    // The peer has closed it; we hear of it only when we send.
    wire.with(0, |e, now| e.reinvite(now, &alice, b"again".to_vec()))
        .unwrap();
    wire.cut_connections(0);
    wire.wait(1, |event| {
        matches!(event, SipEvent::Reinvite { .. }).then_some(())
    });
    assert!(wire.connects.len() <= 2);
}

#[test]
fn a_response_finds_its_way_when_the_connection_is_gone() {
    let mut wire = Wire::pair();
    wire.invite(0, "sip:bob@10.0.0.2;transport=tcp", "offer");
    let bob = wire.incoming(1);
    wire.run_for(100);
    wire.cut_connections(0);
    wire.run_for(100);
    wire.with(1, |e, now| e.accept(now, bob, Some(b"answer".to_vec())))
        .unwrap();
    wire.accepted(0);
    assert_eq!(wire.connects[1].1, address(1), "to the port of the Via");
}

/// A NAT has forgotten the connection, which the peer answers with a reset.
#[test]
fn a_request_on_a_connection_that_is_reset_leaves_by_a_new_one() {
    for target in ["sip:bob@10.0.0.2;transport=tcp", "sip:bob@10.0.0.2"] {
        let mut wire = Wire::pair();
        wire.invite(0, target, &large());
        let bob = wire.incoming(1);
        wire.with(1, |e, now| e.accept(now, bob, Some(b"answer".to_vec())))
            .unwrap();
        let dialog = wire.accepted(0).0;
        wire.confirmed(1);
        wire.run_for(100);
        let mut lost = false;
        wire.filter(move |sent| {
            let lose = sent.tcp && sent.first_line().starts_with("INVITE") && !lost;
            lost |= lose;
            if lose { Fate::Drop } else { Fate::Pass }
        });
        let before = wire.ms();
        wire.with(0, |e, now| e.reinvite(now, &dialog, large().into_bytes()))
            .unwrap();
        wire.reset_connections(0);
        wire.wait(1, |event| {
            matches!(event, SipEvent::Reinvite { .. }).then_some(())
        });
        assert!(wire.ms() - before <= 60, "{} ms", wire.ms() - before);
    }
}

#[test]
fn an_unreachable_tcp_proxy_is_reported() {
    let mut wire = Wire::new();
    let mut alice = config(1, "alice");
    alice.proxy = Some("sip:10.0.0.9;transport=tcp".parse().unwrap());
    wire.add(alice);
    wire.invite(0, "sip:bob@example.com", "offer");
    let what = wire.wait(0, |event| match event {
        SipEvent::TransportFailed { what, .. } => Some(what.clone()),
        _ => None,
    });
    assert!(
        what.contains("10.0.0.9:5060") && what.contains("refused"),
        "{what}"
    );
    assert_eq!(wire.ms(), 20);
}

#[test]
fn a_silent_tcp_proxy_is_given_up_after_10_s() {
    let mut wire = Wire::pair();
    wire.set_tcp(1, Tcp::Silent);
    wire.invite(0, "sip:bob@10.0.0.2;transport=tcp", "offer");
    wire.wait(0, |event| {
        matches!(event, SipEvent::TransportFailed { .. }).then_some(())
    });
    assert_eq!(wire.ms(), 10_000);
}

#[test]
fn rubbish_on_a_stream_closes_it() {
    let mut wire = Wire::pair();
    let (alice, _) = tcp_call(&mut wire);
    wire.filter(
        |sent| match sent.tcp && sent.first_line().starts_with("BYE") {
            true => Fate::Become(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
            false => Fate::Pass,
        },
    );
    wire.with(0, |e, now| e.bye(now, &alice, None)).unwrap();
    wire.run_for(100);
    // Closed by bob, so opened anew by alice; and the BYE is tried there.
    assert_eq!(wire.connects.len(), 2);
}
