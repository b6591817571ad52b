//! SIP over TLS: RFC 3261 section 26.2, RFC 5922 (whose certificate it must be), RFC 5630 (`sips:`).

use std::cell::Cell;
use std::rc::Rc;

use ringtrue_sip::{DialogId, SipEvent};

use crate::wire::{Fate, Tcp, Wire, address, config, secure_config};

/// Alice takes no connections; bob does, with a certificate for these names.
fn pair(certificate: &[&str]) -> Wire {
    let mut wire = Wire::new();
    wire.add(config(1, "alice"));
    wire.add(secure_config(2, "bob"));
    wire.certify(1, certificate);
    wire
}

/// A call to this target that is answered; both dialogs.
fn call(wire: &mut Wire, target: &str) -> (DialogId, DialogId) {
    wire.invite(0, target, "offer");
    let bob = wire.incoming(1);
    wire.with(1, |e, now| e.accept(now, bob, Some(b"answer".to_vec())))
        .unwrap();
    (wire.accepted(0).0, wire.confirmed(1).0)
}

fn failure(wire: &mut Wire) -> String {
    wire.wait(0, |event| match event {
        SipEvent::TransportFailed { what, .. } => Some(what.clone()),
        _ => None,
    })
}

fn ended(wire: &mut Wire, node: usize) {
    wire.wait(node, |event| {
        matches!(event, SipEvent::Ended { .. }).then_some(())
    });
}

#[test]
fn a_whole_call_by_tls_has_one_connection() {
    for target in [
        "sip:bob@10.0.0.2;transport=tls",
        "sips:bob@10.0.0.2",
        "sips:bob@10.0.0.2:5061;transport=tcp",
        "sip:bob@10.0.0.2:5061;transport=TLS",
    ] {
        let mut wire = pair(&["10.0.0.2"]);
        let (alice, bob) = call(&mut wire, target);
        let invite = wire.sent(0, "INVITE")[0];
        assert!(
            invite
                .header("Via")
                .unwrap()
                .starts_with("SIP/2.0/TLS 10.0.0.1")
        );
        let contacts = [invite, wire.sent(1, "SIP/2.0 200")[0]].map(|sent| {
            let contact = sent.header("Contact").unwrap();
            contact.split('>').next().unwrap().to_owned()
        });
        // RFC 3261 sections 8.1.1.8 and 12.1.1.
        if target.starts_with("sips:") {
            assert_eq!(contacts[1], "<sips:bob@10.0.0.2:5061", "{target}");
            // She is reached by her connection alone, which ends there.
            assert_eq!(contacts[0], "<sips:alice@10.0.0.1:40001", "{target}");
        } else {
            assert_eq!(contacts[1], "<sip:bob@10.0.0.2:5061;transport=tls");
            assert_eq!(contacts[0], "<sip:alice@10.0.0.1:40001;transport=tls");
        }
        // Bob has nothing but alice's own connection to reach her by.
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
        wire.with(1, |e, now| e.bye(now, &bob, None)).unwrap();
        ended(&mut wire, 0);
        assert!(wire.log.iter().all(|sent| sent.tls.is_some()), "{target}");
        assert_eq!(wire.connects.len(), 1, "{target}");
        assert_eq!(wire.connects[0].1, "10.0.0.2:5061".parse().unwrap());
    }
}

/// RFC 5922 section 4: the certificate is for the name that the user knows, never for one that the
/// DNS has given.
#[test]
fn the_certificate_must_be_that_of_the_domain() {
    let names = |wire: &mut Wire| {
        wire.srv(
            "_sips._tcp.example.test",
            &[(1, 1, 5061, "host.example.test.")],
        );
        wire.host("host.example.test", &["10.0.0.2"]);
    };
    let mut wire = pair(&["example.test"]);
    names(&mut wire);
    call(&mut wire, "sips:bob@Example.TEST");
    assert_eq!(wire.log[0].tls.as_deref(), Some("example.test"));

    let mut wire = pair(&["host.example.test", "10.0.0.2"]);
    names(&mut wire);
    wire.invite(0, "sips:bob@example.test", "offer");
    assert_eq!(
        failure(&mut wire),
        "TLS: the certificate is good for another name"
    );
    assert!(wire.log.is_empty(), "and nobody was told anything");
}

#[test]
fn tls_is_found_by_naptr_and_srv() {
    // A domain that offers TLS first is called by TLS, a `sips:` address by nothing else.
    for (scheme, records) in [
        ("sip", vec![(1, 1, "SIPS+D2T", "_sips._tcp.own.test")]),
        (
            "sip",
            vec![
                (2, 1, "SIP+D2U", "_sip._udp.own.test"),
                (1, 1, "sips+d2t", "_sips._tcp.own.test"),
            ],
        ),
        (
            "sips",
            vec![
                (1, 1, "SIP+D2U", "_sip._udp.own.test"),
                (2, 1, "SIPS+D2T", "_sips._tcp.own.test"),
            ],
        ),
    ] {
        let mut wire = pair(&["own.test"]);
        wire.naptr("own.test", &records);
        wire.srv("_sips._tcp.own.test", &[(0, 0, 5061, "a.test.")]);
        wire.srv("_sip._udp.own.test", &[(0, 0, 5060, "a.test.")]);
        wire.host("a.test", &["10.0.0.2"]);
        wire.invite(0, &format!("{scheme}:bob@own.test"), "offer");
        wire.incoming(1);
        assert_eq!(wire.log[0].tls.as_deref(), Some("own.test"), "{records:?}");
    }
    // Without records, at the usual port.
    let mut wire = pair(&["own.test"]);
    wire.host("own.test", &["10.0.0.2"]);
    wire.invite(0, "sips:bob@own.test", "offer");
    wire.incoming(1);
    assert_eq!(wire.connects[0].1, "10.0.0.2:5061".parse().unwrap());
}

#[test]
fn sips_never_goes_in_clear() {
    let mut wire = pair(&["10.0.0.2"]);
    wire.naptr("own.test", &[(1, 1, "SIP+D2U", "_sip._udp.own.test")]);
    wire.srv("_sip._udp.own.test", &[(0, 0, 5060, "a.test.")]);
    wire.host("own.test", &["10.0.0.9"]);
    wire.host("a.test", &["10.0.0.2"]);
    wire.invite(0, "sips:bob@own.test", "offer");
    failure(&mut wire);
    wire.invite(0, "sips:bob@10.0.0.2;transport=udp", "offer");
    assert!(failure(&mut wire).contains("TLS only"));
    assert!(wire.log.is_empty());
    // RFC 3261 section 8.1.2: by the proxy, too.
    for (proxy, secure) in [
        ("sip:10.0.0.2;transport=udp", false),
        ("sip:10.0.0.2", true),
        ("sip:10.0.0.2;transport=tcp", true),
    ] {
        let mut wire = Wire::new();
        let mut alice = config(1, "alice");
        alice.proxy = Some(proxy.parse().unwrap());
        wire.add(alice);
        wire.add(secure_config(2, "proxy"));
        wire.certify(1, &["10.0.0.2"]);
        wire.invite(0, "sips:bob@own.test", "offer");
        if secure {
            wire.incoming(1);
            assert!(wire.log.iter().all(|sent| sent.tls.is_some()), "{proxy}");
        } else {
            assert!(failure(&mut wire).contains("transport=tls"), "{proxy}");
        }
    }
}

/// A proxy whose certificate is for its name, and whose Record-Route is an address, as many write
/// it: the dialog stays on the connection, and a new one is checked for the same name.
#[test]
fn an_address_that_a_verified_peer_names_is_its_own() {
    let mut wire = pair(&["example.test"]);
    wire.host("example.test", &["10.0.0.2"]);
    let (alice, _) = call(&mut wire, "sip:bob@example.test;transport=tls");
    wire.with(0, |e, now| e.reinvite(now, &alice, b"again".to_vec()))
        .unwrap();
    wire.wait(1, |event| {
        matches!(event, SipEvent::Reinvite { .. }).then_some(())
    });
    assert_eq!(wire.connects.len(), 1);
    wire.run_for(40_000);
    wire.cut_connections(0);
    wire.with(0, |e, now| e.bye(now, &alice, None)).unwrap();
    ended(&mut wire, 1);
    let bye = wire.sent(0, "BYE");
    assert_eq!(bye[0].tls.as_deref(), Some("example.test"));
    // A stranger's address is not: its certificate must be good for it.
    wire.invite(0, "sip:bob@10.0.0.2;transport=tls", "offer");
    assert!(failure(&mut wire).contains("certificate"));
}

#[test]
fn a_server_without_tls_is_reported() {
    let mut wire = pair(&[]);
    wire.set_tcp(1, Tcp::Silent);
    wire.certify(1, &["10.0.0.2"]);
    wire.invite(0, "sips:bob@10.0.0.2", "offer");
    failure(&mut wire);
    assert_eq!(wire.ms(), 10_000);
    let mut wire = Wire::pair();
    wire.invite(0, "sips:bob@10.0.0.2", "offer");
    assert_eq!(failure(&mut wire), "refused");
}

/// RFC 5626 section 4.4.1: a peer that has answered keepalives and does so no more is gone. The
/// connection is closed, and what is said next opens another.
#[test]
fn a_dead_connection_is_found_by_its_missing_answers() {
    let mut wire = pair(&["10.0.0.2"]);
    let (alice, _) = call(&mut wire, "sips:bob@10.0.0.2");
    wire.run_for(60_000);
    let count = |wire: &Wire, text: &str| wire.log.iter().filter(|sent| sent.text == text).count();
    let pings = count(&wire, "\r\n\r\n");
    assert!(pings >= 2 && pings == count(&wire, "\r\n"), "{pings}");
    // The way back is cut.
    let cut = Rc::new(Cell::new(true));
    let is_cut = cut.clone();
    wire.filter(move |sent| match is_cut.get() && sent.from == address(2) {
        true => Fate::Drop,
        false => Fate::Pass,
    });
    let asked = |wire: &Wire| {
        let mine = wire.log.iter().filter(|sent| sent.from == address(1));
        mine.filter(|sent| sent.text == "\r\n\r\n").count()
    };
    let before = asked(&wire);
    wire.run_for(60_000);
    assert_eq!(wire.connects.len(), 1, "opened when it is needed");
    assert_eq!(asked(&wire), before + 1, "nobody is asked any more");
    cut.set(false);
    wire.with(0, |e, now| e.bye(now, &alice, None)).unwrap();
    ended(&mut wire, 1);
    assert_eq!(wire.connects.len(), 2);
}
