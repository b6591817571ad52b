//! The proxy and registrar, met by phones that are written down line by line.
//!
//! ```text
//!   alice 192.168.1.2 ── NAT 203.0.113.1 ─┐
//!                                         ├─ Internet ── proxy 198.51.100.10
//!   bob   192.168.1.2 ── NAT 203.0.113.2 ─┘
//! ```

mod common;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use common::{addr, ms};
use ringtrue_sip::message::{HeaderName, Message, Method, Request, Response, StatusCode};
use ringtrue_testnet::{
    Delivery, GatewayConfig, HostId, NatConfig, SipProxy, StreamId, Verdict, World,
};

const PROXY: &str = "198.51.100.10:5060";
const PHONE: &str = "192.168.1.2:5060";

struct Net {
    world: World,
    alice: HostId,
    bob: HostId,
    inbox: VecDeque<(HostId, Message)>,
}

fn net() -> Net {
    let mut world = World::new(4);
    let internet = world.internet();
    let server = world.host_at("proxy", internet, [198, 51, 100, 10]);
    world.add_server(
        server,
        SipProxy::new([addr(PROXY)]).with_domain("example.com"),
    );
    world.listen(server, 5060);
    let mut phone = |name, last| {
        let nat = GatewayConfig::nat([203, 0, 113, last], NatConfig::symmetric());
        let (_, home) = world.add_gateway(internet, nat);
        let host = world.host_at(name, home, [192, 168, 1, 2]);
        world.set_delay_between(host, server, ms(10));
        host
    };
    let (alice, bob) = (phone("alice", 1), phone("bob", 2));
    Net {
        world,
        alice,
        bob,
        inbox: VecDeque::new(),
    }
}

impl Net {
    fn send(&mut self, host: HostId, bytes: Vec<u8>) {
        self.world.send_udp(host, addr(PHONE), addr(PROXY), bytes);
    }

    fn run(&mut self, duration: Duration) {
        let until = self.world.now() + duration;
        while let Some(at) = self.world.next_event_at().filter(|at| *at <= until) {
            self.world.advance_to(at);
            while let Some((host, delivery)) = self.world.poll_delivery() {
                let (Delivery::Datagram { payload, .. } | Delivery::StreamBytes { payload, .. }) =
                    delivery
                else {
                    continue;
                };
                if payload != b"\r\n" {
                    let message = Message::parse_datagram(&payload).unwrap();
                    self.inbox.push_back((host, message));
                }
            }
        }
        self.world.advance_to(until);
    }

    /// The next message that arrives at this host.
    fn next(&mut self, host: HostId) -> Message {
        self.run(ms(100));
        let at = self.inbox.iter().position(|(at, _)| *at == host);
        let message = at.and_then(|at| self.inbox.remove(at));
        message.expect("a message arrives").1
    }

    fn next_request(&mut self, host: HostId, method: Method) -> Request {
        match self.next(host) {
            Message::Request(request) if request.method == method => request,
            other => panic!("{method} was expected, not {other:?}"),
        }
    }

    fn next_response(&mut self, host: HostId, status: u16) -> Response {
        match self.next(host) {
            Message::Response(response) if response.status.code() == status => response,
            other => panic!("{status} was expected, not {other:?}"),
        }
    }

    fn silent(&mut self) {
        self.run(ms(100));
        assert!(self.inbox.is_empty(), "nothing more: {:?}", self.inbox);
    }

    fn register_bob(&mut self) {
        let register = request("REGISTER sip:example.com", "UDP", "r", "bob", "");
        self.send(self.bob, register);
        self.next_response(self.bob, 200);
    }

    fn reply(&mut self, request: &Request, status: u16) -> Response {
        let mut response = request.respond(StatusCode::new(status).unwrap(), Some("b"));
        let contact = "<sip:bob@192.168.1.2:5060>";
        response.headers.push(HeaderName::Contact, contact);
        response
            .headers
            .copy(HeaderName::RecordRoute, &request.headers);
        self.send(self.bob, response.to_bytes());
        response
    }
}

fn request(start: &str, transport: &str, branch: &str, to: &str, more: &str) -> Vec<u8> {
    let method = start.split(' ').next().unwrap();
    let text = format!(
        "{start} SIP/2.0\r\n\
         Via: SIP/2.0/{transport} 192.168.1.2:5060;rport;branch=z9hG4bK{branch}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:alice@example.com>;tag=a\r\n\
         To: <sip:{to}@example.com>\r\nCall-ID: 1@192.168.1.2\r\nCSeq: 1 {method}\r\n\
         Contact: <sip:alice@192.168.1.2:5060>\r\n{more}Content-Length: 0\r\n\r\n"
    );
    text.into_bytes()
}

fn invite() -> Vec<u8> {
    request("INVITE sip:bob@example.com", "UDP", "i", "bob", "")
}

/// ACK, BYE and the like from alice inside the dialog that `response` made.
fn inside(method: &str, response: &Response) -> Vec<u8> {
    let target = response.headers.contacts().unwrap()[0].uri.to_string();
    let mut text = format!(
        "{method} {target} SIP/2.0\r\nVia: SIP/2.0/UDP 192.168.1.2:5060;rport;branch=z9hG4bK{method}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:alice@example.com>;tag=a\r\n\
         To: <sip:bob@example.com>;tag=b\r\nCall-ID: 1@192.168.1.2\r\nCSeq: 2 {method}\r\n"
    );
    for route in response.headers.record_routes().unwrap().iter().rev() {
        text += &format!("Route: {route}\r\n");
    }
    (text + "\r\n").into_bytes()
}

#[test]
fn a_registration_answers_with_bindings_and_the_source_it_saw() {
    let mut net = net();
    let register = request(
        "REGISTER sip:example.com",
        "UDP",
        "r",
        "bob",
        "Expires: 60\r\n",
    );
    net.send(net.bob, register);
    let response = net.next_response(net.bob, 200);
    let contact = &response.headers.contacts().unwrap()[0];
    assert_eq!(contact.uri.to_string(), "sip:alice@192.168.1.2:5060");
    assert_eq!(contact.expires(), Some(60));
    let via = response.headers.top_via().unwrap();
    assert_eq!(via.received(), Some(addr("203.0.113.2:1").ip()));
    assert_ne!(via.rport(), Some(5060), "the NAT chose another port");
}

#[test]
fn a_call_goes_through_with_its_dialog_behind_two_nats() {
    let mut net = net();
    net.register_bob();
    net.send(net.alice, invite());
    net.next_response(net.alice, 100);
    let invite = net.next_request(net.bob, Method::Invite);
    assert_eq!(
        invite.uri.to_string(),
        "sip:alice@192.168.1.2:5060",
        "bob's binding"
    );
    assert_eq!(invite.headers.max_forwards(), Some(69));
    assert_eq!(invite.headers.record_routes().unwrap().len(), 1);
    net.reply(&invite, 183);
    assert_eq!(
        net.next_response(net.alice, 183)
            .headers
            .vias()
            .unwrap()
            .len(),
        1
    );
    net.reply(&invite, 200);
    let ok = net.next_response(net.alice, 200);
    net.send(net.alice, inside("ACK", &ok));
    let ack = net.next_request(net.bob, Method::Ack);
    assert_eq!(
        ack.uri.to_string(),
        "sip:bob@192.168.1.2:5060",
        "the mark is taken off"
    );
    assert!(ack.headers.routes().unwrap().is_empty());
    net.send(net.alice, inside("BYE", &ok));
    let bye = net.next_request(net.bob, Method::Bye);
    net.reply(&bye, 200);
    net.next_response(net.alice, 200);
    net.silent();
}

#[test]
fn a_refusal_is_acknowledged_hop_by_hop_and_sent_again_until_then() {
    let mut net = net();
    net.register_bob();
    net.send(net.alice, invite());
    net.next_response(net.alice, 100);
    let invite = net.next_request(net.bob, Method::Invite);
    net.reply(&invite, 480);
    net.run(ms(30));
    let bytes = request("ACK sip:bob@example.com", "UDP", "i", "bob", "");
    net.next_request(net.bob, Method::Ack);
    assert_eq!(
        net.next_response(net.alice, 480)
            .headers
            .vias()
            .unwrap()
            .len(),
        1
    );
    net.run(ms(500));
    net.next_response(net.alice, 480);
    net.send(net.alice, bytes);
    net.run(ms(40_000));
    net.silent();
}

#[test]
fn cancel_reaches_every_branch() {
    let mut net = net();
    net.register_bob();
    net.send(net.alice, invite());
    net.next_response(net.alice, 100);
    let invite = net.next_request(net.bob, Method::Invite);
    let cancel = request("CANCEL sip:bob@example.com", "UDP", "i", "bob", "");
    net.send(net.alice, cancel);
    net.next_response(net.alice, 200);
    net.silent();
    net.reply(&invite, 183);
    net.next_response(net.alice, 183);
    let cancel = net.next_request(net.bob, Method::Cancel);
    let branch = |request: &Request| {
        request
            .headers
            .top_via()
            .unwrap()
            .branch()
            .map(str::to_owned)
    };
    assert_eq!(branch(&cancel), branch(&invite), "RFC 3261 section 9.1");
    net.reply(&cancel, 200);
    net.reply(&invite, 487);
    net.next_request(net.bob, Method::Ack);
    net.next_response(net.alice, 487);
}

#[test]
fn an_invite_forks_to_every_contact_and_the_best_answer_wins() {
    let mut net = net();
    net.register_bob();
    let internet = net.world.internet();
    let carol = net.world.host_at("carol", internet, [198, 51, 100, 30]);
    let register = request("REGISTER sip:example.com", "UDP", "s", "bob", "");
    let register = String::from_utf8(register)
        .unwrap()
        .replace("192.168.1.2", "198.51.100.30");
    net.world.send_udp(
        carol,
        addr("198.51.100.30:5060"),
        addr(PROXY),
        register.into_bytes(),
    );
    net.next_response(carol, 200);

    net.send(net.alice, invite());
    net.next_response(net.alice, 100);
    let at_bob = net.next_request(net.bob, Method::Invite);
    let at_carol = net.next_request(carol, Method::Invite);
    net.reply(&at_bob, 603);
    net.next_request(net.bob, Method::Ack);
    net.silent();
    let busy = at_carol.respond(StatusCode::new(486).unwrap(), Some("c"));
    net.world.send_udp(
        carol,
        addr("198.51.100.30:5060"),
        addr(PROXY),
        busy.to_bytes(),
    );
    net.next_request(carol, Method::Ack);
    net.next_response(net.alice, 603);
}

#[test]
fn nobody_registered_is_404_and_a_silent_phone_408() {
    let mut net = net();
    net.send(net.alice, invite());
    net.next_response(net.alice, 404);
    net.register_bob();
    let bob = net.bob;
    net.world.add_tap(move |passing| match passing.receiver {
        Some(host) if host == bob => Verdict::Drop,
        _ => Verdict::Pass,
    });
    let again = request("INVITE sip:bob@example.com", "UDP", "j", "bob", "");
    net.send(net.alice, again);
    net.next_response(net.alice, 100);
    net.run(ms(31_000));
    net.silent();
    net.run(ms(1_000));
    net.next_response(net.alice, 408);
}

#[test]
fn a_lost_invite_is_sent_again() {
    let mut net = net();
    net.register_bob();
    let bob = net.bob;
    let mut lost = 0;
    net.world.add_tap(move |passing| {
        if passing.receiver == Some(bob) && lost < 2 {
            lost += 1;
            return Verdict::Drop;
        }
        Verdict::Pass
    });
    net.send(net.alice, invite());
    net.next_response(net.alice, 100);
    net.run(ms(1_300));
    net.silent();
    net.run(ms(200));
    net.next_request(bob, Method::Invite);
}

#[test]
fn a_caller_by_tcp_reaches_a_callee_by_udp() {
    let mut net = net();
    net.register_bob();
    let (alice, stream) = (net.alice, StreamId(1));
    net.world.eat_udp(alice, true);
    net.world.connect(alice, stream, addr(PROXY));
    let invite = request("INVITE sip:bob@example.com", "TCP", "t", "bob", "");
    net.world.send_stream(alice, stream, b"\r\n\r\n".to_vec());
    let (head, rest) = invite.split_at(50);
    net.world.send_stream(alice, stream, head.to_vec());
    net.world.send_stream(alice, stream, rest.to_vec());
    let invite = net.next_request(net.bob, Method::Invite);
    net.next_response(alice, 100);
    let routes = invite.headers.record_routes().unwrap();
    let routes: Vec<String> = routes.iter().map(|route| route.uri.to_string()).collect();
    let (udp, tcp) = (
        format!("sip:{PROXY};lr"),
        format!("sip:{PROXY};lr;transport=tcp"),
    );
    assert_eq!(
        routes,
        [udp, tcp],
        "RFC 5658: the side that the callee sees first"
    );
    net.reply(&invite, 200);
    let ok = net.next_response(alice, 200);
    let ack = String::from_utf8(inside("ACK", &ok))
        .unwrap()
        .replace("UDP", "TCP");
    let ack = ack.replace("\r\n\r\n", "\r\nContent-Length: 0\r\n\r\n");
    net.world.send_stream(alice, stream, ack.into_bytes());
    net.next_request(net.bob, Method::Ack);

    // And back: bob's BYE takes both routes and finds alice's stream by her marked contact.
    let target = invite.headers.contacts().unwrap()[0].uri.to_string();
    assert!(target.contains("flow="), "{target}");
    let mut bye = format!(
        "BYE {target} SIP/2.0\r\nVia: SIP/2.0/UDP 192.168.1.2:5060;rport;branch=z9hG4bKbye\r\n\
         Max-Forwards: 70\r\nFrom: <sip:bob@example.com>;tag=b\r\nTo: <sip:alice@example.com>;tag=a\r\n\
         Call-ID: 1@192.168.1.2\r\nCSeq: 1 BYE\r\n"
    );
    for route in routes {
        bye += &format!("Route: <{route}>\r\n");
    }
    net.send(net.bob, (bye + "\r\n").into_bytes());
    let bye = net.next_request(alice, Method::Bye);
    let ok = bye.respond(StatusCode::OK, None);
    net.world.send_stream(alice, stream, ok.to_bytes());
    net.next_response(net.bob, 200);
}

#[test]
fn what_cannot_be_read_is_answered_or_dropped() {
    let mut net = net();
    let source: SocketAddr = addr(PHONE);
    for bytes in [&b"\r\n\r\n"[..], b"\0\0", b"hello"] {
        net.world
            .send_udp(net.alice, source, addr(PROXY), bytes.to_vec());
    }
    net.silent();
    let looping = String::from_utf8(invite())
        .unwrap()
        .replace("Forwards: 70", "Forwards: 0");
    net.send(net.alice, looping.into_bytes());
    net.next_response(net.alice, 483);
    let options = request("OPTIONS sip:example.com", "UDP", "o", "x", "");
    net.send(net.alice, options);
    net.next_response(net.alice, 200);
}
