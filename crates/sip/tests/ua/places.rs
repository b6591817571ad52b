//! Where messages go: address families, several addresses, connections that come and go.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ringtrue_sip::{Endpoint, LocalAddress, RegisterConfig, SipEvent, SipTransmit};

use crate::wire::{Sent, Tcp, Wire, address, config, reply};

#[test]
fn a_call_over_ipv6() {
    let mut wire = Wire::new();
    for (n, user) in [(1, "alice"), (2, "bob")] {
        let mut config = config(n, user);
        config.udp = vec!["[::]:5060".parse().unwrap()];
        config.addresses = vec![LocalAddress {
            ip: format!("2001:db8::{n}").parse().unwrap(),
            prefix_len: 64,
            default_route: true,
        }];
        wire.add(config);
    }
    wire.invite(0, "sip:bob@[2001:db8::2]", "offer");
    let bob = wire.incoming(1);
    wire.with(1, |e, now| e.accept(now, bob, Some(b"answer".to_vec())))
        .unwrap();
    let dialog = wire.accepted(0).0;
    wire.confirmed(1);
    let invite = wire.sent(0, "INVITE")[0];
    assert!(
        invite
            .header("Via")
            .unwrap()
            .starts_with("SIP/2.0/UDP [2001:db8::1]:5060;")
    );
    assert!(
        invite
            .header("Contact")
            .unwrap()
            .starts_with("<sip:alice@[2001:db8::1]:5060>")
    );
    let ok = wire.sent(1, "SIP/2.0 200")[0];
    assert!(ok.header("Via").unwrap().contains(";received=2001:db8::1"));
    wire.with(0, |e, now| e.bye(now, &dialog, None)).unwrap();
    wire.wait(1, |event| {
        matches!(event, SipEvent::Ended { .. }).then_some(())
    });
}

#[test]
fn the_next_address_of_a_name_is_tried() {
    let mut wire = Wire::pair();
    wire.add(config(3, "bob"));
    wire.set_tcp(1, Tcp::Refuses);
    wire.host("bob.example", &["2001:db8::9", "10.0.0.2", "10.0.0.3"]);
    wire.invite(0, "sip:bob@bob.example;transport=tcp", "offer");
    wire.incoming(2);
    let tried: Vec<_> = wire.connects.iter().map(|(_, to)| *to).collect();
    assert_eq!(
        tried,
        [address(2), address(3)],
        "and no family that no socket of ours has"
    );
}

/// A registrar by TCP, by hand: the bytes of one connection.
struct Registrar {
    endpoint: Endpoint,
    now: Instant,
    peer: SocketAddr,
}

impl Registrar {
    /// Runs to the next timer unless there is something to do; what the endpoint wants.
    fn next(&mut self) -> SipTransmit {
        loop {
            if let Some(transmit) = self.endpoint.poll_transmit() {
                return transmit;
            }
            self.now = self.endpoint.poll_timeout().expect("nothing to wait for");
            self.endpoint.handle_timeout(self.now);
        }
    }

    /// Accepts a connection and grants the REGISTER that comes on it.
    fn serve(&mut self) -> ringtrue_sip::ConnectionId {
        let SipTransmit::Connect { connection, to, .. } = self.next() else {
            panic!("no connection");
        };
        assert_eq!(to, self.peer);
        self.endpoint.handle_connected(self.now, connection, None);
        let SipTransmit::Stream { payload, .. } = self.next() else {
            panic!("no REGISTER");
        };
        let sent = Sent {
            at: 0,
            tcp: true,
            tls: None,
            from: "203.0.113.7:51000".parse().unwrap(),
            to,
            text: String::from_utf8(payload).unwrap(),
        };
        assert!(sent.first_line().starts_with("REGISTER"));
        let contact = format!("Contact: {}\r\n", sent.header("Contact").unwrap());
        let ok = reply(&sent, "200 OK", "r", &contact, "");
        self.endpoint
            .handle_stream(self.now, connection, ok.as_bytes());
        connection
    }
}

#[test]
fn a_registration_by_tcp_is_renewed_when_its_connection_dies() {
    let now = Instant::now();
    let mut alice = config(1, "alice");
    alice.proxy = Some("sip:192.0.2.53;transport=tcp".parse().unwrap());
    let mut registrar = Registrar {
        endpoint: Endpoint::new(alice, 1, now),
        now,
        peer: "192.0.2.53:5060".parse().unwrap(),
    };
    let register = RegisterConfig {
        registrar: "sip:example.com".parse().unwrap(),
        expires: 3600,
    };
    registrar.endpoint.register(now, register);
    let first = registrar.serve();
    // The response has told that there is a NAT: the Contact is replaced, on the same connection.
    let SipTransmit::Stream {
        connection,
        payload,
    } = registrar.next()
    else {
        panic!("no second REGISTER");
    };
    assert_eq!(connection, first);
    let text = String::from_utf8(payload).unwrap();
    assert!(
        text.contains("<sip:alice@203.0.113.7:51000;transport=tcp>;expires=3600"),
        "{text}"
    );
    assert!(
        text.contains("<sip:alice@10.0.0.1:5060;transport=tcp>;expires=0"),
        "{text}"
    );
    let sent = Sent {
        at: 0,
        tcp: true,
        tls: None,
        from: "203.0.113.7:51000".parse().unwrap(),
        to: registrar.peer,
        text,
    };
    let ok = reply(&sent, "200 OK", "r", "Expires: 3600\r\n", "");
    registrar.endpoint.handle_stream(now, first, ok.as_bytes());
    let registered = registrar.endpoint.poll_event();
    assert!(matches!(
        registered,
        Some(SipEvent::Registered { expires: 3600, .. })
    ));
    // A keepalive comes first; then the connection dies.
    let SipTransmit::Stream { payload, .. } = registrar.next() else {
        panic!("no keepalive");
    };
    assert_eq!(payload, b"\r\n\r\n");
    let died = registrar.now;
    registrar.endpoint.handle_closed(died, first, None);
    let second = registrar.serve();
    assert_ne!(first, second);
    assert!(registrar.now - died <= Duration::from_secs(2));
}

#[test]
fn a_cancelled_reinvite_leaves_the_session_alone() {
    let mut wire = Wire::pair();
    let (alice, bob) = wire.connected();
    wire.with(0, |e, now| e.reinvite(now, &alice, b"offer".to_vec()))
        .unwrap();
    wire.wait(1, |event| {
        matches!(event, SipEvent::Reinvite { .. }).then_some(())
    });
    let invite = wire
        .sent(0, "INVITE")
        .last()
        .map(|sent| (*sent).clone())
        .unwrap();
    let cancel = invite
        .text
        .split("\r\n\r\n")
        .next()
        .unwrap()
        .lines()
        .filter(|line| !line.starts_with("Content-"))
        .map(|line| line.replace("INVITE", "CANCEL"))
        .collect::<Vec<_>>()
        .join("\r\n");
    wire.inject(
        invite.from,
        invite.to,
        format!("{cancel}\r\nContent-Length: 0\r\n\r\n"),
    );
    let status = wire.wait(0, |event| match event {
        SipEvent::ReinviteRefused { status, .. } => Some(*status),
        _ => None,
    });
    assert_eq!(status, 487);
    let late = wire.with(1, |e, now| e.answer_reinvite(now, &bob, b"answer".to_vec()));
    assert!(late.is_err());
    wire.with(1, |e, now| e.reinvite(now, &bob, b"offer".to_vec()))
        .unwrap();
    wire.wait(0, |event| {
        matches!(event, SipEvent::Reinvite { .. }).then_some(())
    });
}
