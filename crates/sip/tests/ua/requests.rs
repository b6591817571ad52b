//! What comes unasked: RFC 3261 section 8.2 and 11, merged requests, floods.

use ringtrue_sip::SipEvent;

use crate::wire::{Sent, Wire, address};

const STRANGER: &str = "192.0.2.5:5060";

/// A request to bob with these lines besides the usual ones.
fn request(method: &str, branch: &str, extra: &str) -> String {
    let to = if extra.contains("To:") {
        ""
    } else {
        "To: <sip:bob@example.com>\r\n"
    };
    let from = if extra.contains("From:") {
        ""
    } else {
        "From: <sip:c@example.com>;tag=cc\r\n"
    };
    format!(
        "{method} sip:bob@10.0.0.2 SIP/2.0\r\n\
         Via: SIP/2.0/UDP 192.0.2.5;rport;branch=z9hG4bK{branch}\r\n{to}{from}\
         Call-ID: {method}-{branch}\r\nCSeq: 1 {method}\r\nContact: <sip:c@192.0.2.5>\r\n\
         {extra}Content-Length: 0\r\n\r\n"
    )
}

/// What bob answers.
fn answers(wire: &mut Wire, text: impl Into<Vec<u8>>) -> Vec<Sent> {
    let before = wire.log.len();
    wire.inject(STRANGER.parse().unwrap(), address(2), text);
    wire.run_for(400);
    wire.log[before..].to_vec()
}

fn answer(wire: &mut Wire, text: String) -> Sent {
    let mut all = answers(wire, text);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

#[test]
fn options_tell_what_we_understand() {
    let mut wire = Wire::pair();
    let sent = answer(&mut wire, request("OPTIONS", "1", ""));
    assert_eq!(sent.first_line(), "SIP/2.0 200 OK");
    assert_eq!(
        sent.header("Allow"),
        Some("INVITE, ACK, CANCEL, BYE, OPTIONS, PRACK, INFO")
    );
    assert_eq!(sent.header("Accept"), Some("application/sdp"));
    assert_eq!(sent.header("Supported"), Some("100rel, ice, trickle-ice"));
    assert!(sent.header("To").unwrap().contains(";tag="));
    assert_eq!(sent.to, STRANGER.parse().unwrap());
    // Again: the same answer, byte for byte.
    let again = answer(&mut wire, request("OPTIONS", "1", ""));
    assert_eq!(again.text, sent.text);
}

#[test]
fn strange_requests_are_refused_as_the_rfc_says() {
    let mut wire = Wire::pair();
    for (status, method, extra) in [
        ("405", "SUBSCRIBE", ""),
        ("405", "FROBNICATE", ""),
        ("405", "REGISTER", ""),
        ("405", "UPDATE", "To: <sip:bob@example.com>;tag=x\r\n"),
        ("420", "INVITE", "Require: foo, 100rel, bar\r\n"),
        ("420", "OPTIONS", "Require: foo, bar\r\n"),
        ("481", "BYE", "To: <sip:bob@example.com>;tag=x\r\n"),
        ("481", "BYE", ""),
        ("481", "PRACK", "RAck: 1 1 INVITE\r\n"),
        ("481", "INVITE", "To: <sip:bob@example.com>;tag=x\r\n"),
        ("481", "OPTIONS", "To: <sip:bob@example.com>;tag=x\r\n"),
        ("481", "CANCEL", ""),
    ] {
        let branch = format!("{method}{status}{}", extra.len());
        let mut all = answers(&mut wire, request(method, &branch, extra));
        let sent = all.remove(0);
        assert!(
            sent.first_line().starts_with(&format!("SIP/2.0 {status}")),
            "{method}: {}",
            sent.text
        );
        match status {
            "405" => assert!(sent.header("Allow").unwrap().contains("INVITE")),
            "420" => assert_eq!(sent.header("Unsupported"), Some("foo, bar")),
            _ => {}
        }
    }
    assert!(wire.events(1).is_empty());
}

#[test]
fn uris_and_bodies_that_are_not_ours() {
    let mut wire = Wire::pair();
    let tel = request("OPTIONS", "t", "").replace("sip:bob@10.0.0.2", "tel:+4930123");
    assert!(
        answer(&mut wire, tel)
            .first_line()
            .starts_with("SIP/2.0 416")
    );
    let html = request("INVITE", "h", "Content-Type: text/html\r\n")
        .replace("Content-Length: 0\r\n\r\n", "Content-Length: 2\r\n\r\nhi");
    let sent = answers(&mut wire, html).remove(0);
    assert!(sent.first_line().starts_with("SIP/2.0 415"));
    assert_eq!(sent.header("Accept"), Some("application/sdp"));
    let packed = request(
        "INVITE",
        "p",
        "Content-Type: application/sdp\r\nContent-Encoding: gzip\r\n",
    )
    .replace("Content-Length: 0\r\n\r\n", "Content-Length: 2\r\n\r\nhi");
    assert!(
        answers(&mut wire, packed)[0]
            .first_line()
            .starts_with("SIP/2.0 415")
    );
    let homeless = request("INVITE", "c", "").replace("Contact: <sip:c@192.0.2.5>\r\n", "");
    assert!(
        answers(&mut wire, homeless)[0]
            .first_line()
            .starts_with("SIP/2.0 400")
    );
    assert!(wire.events(1).is_empty());
}

#[test]
fn the_same_invite_by_two_ways_is_one_call() {
    let mut wire = Wire::pair();
    let first = answers(&mut wire, request("INVITE", "one", ""));
    assert!(first[0].first_line().starts_with("SIP/2.0 100"));
    let second = request("INVITE", "two", "").replace("INVITE-two", "INVITE-one");
    let second = answers(&mut wire, second);
    assert!(second[0].first_line().starts_with("SIP/2.0 482"));
    assert_eq!(wire.events(1).len(), 1);
}

#[test]
fn an_ack_from_nowhere_draws_nothing() {
    let mut wire = Wire::pair();
    assert!(answers(&mut wire, request("ACK", "a", "")).is_empty());
    let tagged = request("ACK", "b", "To: <sip:bob@example.com>;tag=x\r\n");
    assert!(answers(&mut wire, tagged).is_empty());
    for noise in [&b"\r\n\r\n"[..], b"\0", b"", b"SIP/2.0 200 OK\r\n\r\n"] {
        assert!(answers(&mut wire, noise).is_empty());
    }
}

#[test]
fn an_old_peer_without_tags_and_branches() {
    let mut wire = Wire::pair();
    let old = |method: &str, to: &str| {
        format!(
            "{method} sip:bob@10.0.0.2 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.5\r\n\
             To: {to}\r\nFrom: <sip:c@example.com>\r\nCall-ID: old\r\nCSeq: 1 {method}\r\n\
             Contact: <sip:c@192.0.2.5>\r\nContent-Length: 0\r\n\r\n"
        )
    };
    let trying = answer(&mut wire, old("INVITE", "<sip:bob@example.com>"));
    assert!(trying.first_line().starts_with("SIP/2.0 100"));
    let again = answer(&mut wire, old("INVITE", "<sip:bob@example.com>"));
    assert_eq!(trying.text, again.text);
    let bob = wire.incoming(1);
    wire.with(1, |e, now| e.accept(now, bob, Some(b"answer".to_vec())))
        .unwrap();
    let to = wire.sent(1, "SIP/2.0 200")[0]
        .header("To")
        .unwrap()
        .to_owned();
    answers(&mut wire, old("ACK", &to));
    let (dialog, _) = wire.confirmed(1);
    assert_eq!(dialog.remote_tag, "");
    let bye = answer(&mut wire, old("BYE", &to).replace("CSeq: 1", "CSeq: 2"));
    assert!(bye.first_line().starts_with("SIP/2.0 200"));
    wire.wait(1, |event| {
        matches!(event, SipEvent::Ended { .. }).then_some(())
    });
}

#[test]
fn too_many_calls_get_503() {
    let mut wire = Wire::pair();
    let mut statuses = Vec::new();
    for n in 0..100 {
        let text = request("INVITE", &format!("f{n}"), "");
        wire.inject(STRANGER.parse().unwrap(), address(2), text);
        wire.run_for(11);
        let sent = wire.log.last().unwrap();
        statuses.push(sent.first_line()[8..11].to_owned());
        if statuses[n] == "503" {
            assert_eq!(sent.header("Retry-After"), Some("10"));
        }
    }
    assert_eq!(statuses.iter().filter(|s| *s == "100").count(), 64);
    assert!(statuses[64..].iter().all(|s| s == "503"));
    // One is refused, and there is room again.
    let bob = wire.incoming(1);
    wire.with(1, |e, now| e.reject(now, bob, 486, Default::default()))
        .unwrap();
    let text = request("INVITE", "room", "");
    assert!(
        answers(&mut wire, text)[0]
            .first_line()
            .starts_with("SIP/2.0 100")
    );
}

#[test]
fn a_flood_of_requests_is_answered_without_memory() {
    let mut wire = Wire::pair();
    for n in 0..5_000 {
        let text = request("OPTIONS", &format!("f{n}"), "");
        wire.inject(STRANGER.parse().unwrap(), address(2), text);
    }
    wire.run_for(100);
    assert_eq!(wire.sent(1, "SIP/2.0 200").len(), 2048);
    assert_eq!(wire.sent(1, "SIP/2.0 503").len(), 5_000 - 2048);
    // After timer J everything is as before.
    wire.run_for(33_000);
    assert!(
        answer(&mut wire, request("OPTIONS", "late", ""))
            .first_line()
            .starts_with("SIP/2.0 200")
    );
}
