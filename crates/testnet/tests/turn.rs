//! The TURN server, spoken to byte by byte.

mod common;

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::{addr, ms, settle, wait};
use ringtrue_testnet::{Delivery, GatewayConfig, HostId, NatConfig, TurnServer, World};
use stun_types::attribute::{
    AttributeType, ErrorCode, Nonce, RawAttribute, Realm, Username, XorMappedAddress,
};
use stun_types::message::{
    IntegrityAlgorithm, LongTermKeyCredentials, Message, MessageClass, MessageType,
    MessageWriteVec, Method, TransactionId,
};
use stun_types::prelude::{
    AttributeFromRaw, AttributeStaticType, AttributeWrite, MessageWrite, MessageWriteExt,
};

const ALLOCATE: u16 = 3;
const REFRESH: u16 = 4;
const CREATE_PERMISSION: u16 = 8;
const CHANNEL_BIND: u16 = 9;

const CHANNEL_NUMBER: u16 = 0x000c;
const LIFETIME: u16 = 0x000d;
const PEER: u16 = 0x0012;
const DATA: u16 = 0x0013;
const RELAYED: u16 = 0x0016;
const TRANSPORT: u16 = 0x0019;

const UDP: [u8; 4] = [17, 0, 0, 0];

//   alice 192.168.1.2 ── NAT 203.0.113.1 ── Internet ── TURN server 198.51.100.1
//                                                  └── bob 192.0.2.9
struct Stage {
    world: World,
    alice: HostId,
    bob: HostId,
    nonce: Option<String>,
    password: &'static str,
    next_id: u128,
}

impl Stage {
    fn new(server: TurnServer) -> Self {
        let mut world = World::new(3);
        let internet = world.internet();
        let nat = GatewayConfig::nat([203, 0, 113, 1], NatConfig::port_restricted());
        let (_, home) = world.add_gateway(internet, nat);
        let alice = world.host_at("alice", home, [192, 168, 1, 2]);
        let bob = world.host_at("bob", internet, [192, 0, 2, 9]);
        let turn = world.host_at("turn", internet, [198, 51, 100, 1]);
        world.add_server(turn, server);
        Self {
            world,
            alice,
            bob,
            nonce: None,
            password: "secret",
            next_id: 1,
        }
    }

    fn exchange(&mut self, bytes: Vec<u8>) -> Option<Vec<u8>> {
        let (from, to) = (addr("192.168.1.2:5004"), addr("198.51.100.1:3478"));
        self.world.send_udp(self.alice, from, to, bytes);
        datagrams(&mut self.world, self.alice)
            .pop()
            .map(|got| got.1)
    }

    /// A request with these attributes; class, error code and bytes of its answer.
    fn ask(&mut self, method: u16, attributes: &[(u16, Vec<u8>)]) -> (Option<u16>, Vec<u8>) {
        self.next_id += 1;
        let id = TransactionId::from(self.next_id);
        self.ask_as(id, method, attributes)
    }

    fn ask_as(
        &mut self,
        id: TransactionId,
        method: u16,
        attributes: &[(u16, Vec<u8>)],
    ) -> (Option<u16>, Vec<u8>) {
        let kind = MessageType::from_class_method(MessageClass::Request, Method::new(method));
        let mut out = Message::builder(kind, id, MessageWriteVec::new());
        for (kind, value) in attributes {
            let raw = RawAttribute::new(AttributeType::new(*kind), value);
            out.add_attribute(&raw).unwrap();
        }
        let realm = "testnet.example";
        if let Some(nonce) = &self.nonce {
            out.add_attribute(&Username::new("alice").unwrap()).unwrap();
            out.add_attribute(&Realm::new(realm).unwrap()).unwrap();
            out.add_attribute(&Nonce::new(nonce).unwrap()).unwrap();
            let key =
                LongTermKeyCredentials::new("alice".into(), self.password.into(), realm.into());
            out.add_message_integrity(&key.into(), IntegrityAlgorithm::Sha1)
                .unwrap();
        }
        let answer = self.exchange(out.finish()).expect("an answer");
        let message = Message::from_bytes(&answer).unwrap();
        assert_eq!(message.transaction_id(), id);
        let code = message
            .attribute::<ErrorCode>()
            .ok()
            .map(|code| code.code());
        if let (Some(401 | 438), Ok(nonce)) = (code, message.attribute::<Nonce>()) {
            self.nonce = Some(nonce.nonce().to_owned());
        }
        (code, answer)
    }

    fn allocate(&mut self) -> SocketAddr {
        let asked = [(TRANSPORT, UDP.to_vec()), (LIFETIME, seconds(600))];
        assert_eq!(self.ask(ALLOCATE, &asked).0, Some(401));
        let (code, answer) = self.ask(ALLOCATE, &asked);
        assert_eq!(code, None);
        address(&answer, RELAYED).unwrap()
    }

    fn permit(&mut self, peer: &str) {
        let peers = [(PEER, masked(self.next_id + 1, addr(peer)))];
        assert_eq!(self.ask(CREATE_PERMISSION, &peers).0, None);
    }

    fn send_indication(&mut self, peer: &str, data: &[u8]) {
        let id = 99;
        let kind = MessageType::from_class_method(MessageClass::Indication, Method::new(6));
        let mut out = Message::builder(kind, TransactionId::from(id), MessageWriteVec::new());
        for (kind, value) in [(PEER, masked(id, addr(peer))), (DATA, data.to_vec())] {
            let raw = RawAttribute::new(AttributeType::new(kind), &value);
            out.add_attribute(&raw).unwrap();
        }
        let (from, to) = (addr("192.168.1.2:5004"), addr("198.51.100.1:3478"));
        self.world.send_udp(self.alice, from, to, out.finish());
    }

    fn bob_sends(&mut self, to: SocketAddr, data: &[u8]) -> Option<Vec<u8>> {
        let from = addr("192.0.2.9:7000");
        self.world.send_udp(self.bob, from, to, data.to_vec());
        datagrams(&mut self.world, self.alice)
            .pop()
            .map(|got| got.1)
    }
}

fn datagrams(world: &mut World, host: HostId) -> Vec<(SocketAddr, Vec<u8>)> {
    let here = settle_now(world).into_iter().filter(|got| got.0 == host);
    here.map(|(_, from, payload)| (from, payload)).collect()
}

/// Everything that flies now arrives; the server's own timers stay where they are.
fn settle_now(world: &mut World) -> Vec<(HostId, SocketAddr, Vec<u8>)> {
    world.advance_to(world.now() + ms(10));
    let mut arrived = Vec::new();
    while let Some((host, delivery)) = world.poll_delivery() {
        if let Delivery::Datagram { from, payload, .. } = delivery {
            arrived.push((host, from, payload));
        }
    }
    arrived
}

fn seconds(count: u32) -> Vec<u8> {
    count.to_be_bytes().to_vec()
}

fn masked(id: u128, address: SocketAddr) -> Vec<u8> {
    let raw = XorMappedAddress::new(address, TransactionId::from(id));
    raw.to_raw().value.to_vec()
}

fn address(answer: &[u8], kind: u16) -> Option<SocketAddr> {
    let message = Message::from_bytes(answer).ok()?;
    let raw = message.raw_attribute(AttributeType::new(kind))?;
    let raw = RawAttribute::new(XorMappedAddress::TYPE, &raw.value);
    let read = XorMappedAddress::from_raw(raw).ok()?;
    Some(read.addr(message.transaction_id()))
}

fn server() -> TurnServer {
    TurnServer::new("alice", "secret")
}

#[test]
fn an_allocation_needs_the_password_and_tells_both_addresses() {
    let mut stage = Stage::new(server());
    let asked = [(TRANSPORT, UDP.to_vec())];
    let (code, challenge) = stage.ask(ALLOCATE, &asked);
    assert_eq!(code, Some(401));
    assert!(
        Message::from_bytes(&challenge)
            .unwrap()
            .has_attribute(Realm::TYPE)
    );

    stage.password = "wrong";
    assert_eq!(stage.ask(ALLOCATE, &asked).0, Some(401));
    stage.password = "secret";
    assert_eq!(stage.ask(ALLOCATE, &[]).0, Some(400));
    assert_eq!(
        stage.ask(ALLOCATE, &[(TRANSPORT, vec![6, 0, 0, 0])]).0,
        Some(442)
    );

    let (code, answer) = stage.ask(ALLOCATE, &asked);
    assert_eq!(code, None);
    let relayed = address(&answer, RELAYED).unwrap();
    assert_eq!(relayed.ip(), addr("198.51.100.1:1").ip());
    let mapped = address(&answer, 0x0020).unwrap();
    assert_eq!(mapped.ip(), addr("203.0.113.1:1").ip());

    // The same transaction is answered again, another one has its allocation already.
    let same = TransactionId::from(stage.next_id);
    let (code, again) = stage.ask_as(same, ALLOCATE, &asked);
    assert_eq!((code, address(&again, RELAYED)), (None, Some(relayed)));
    assert_eq!(stage.ask(ALLOCATE, &asked).0, Some(437));
}

#[test]
fn without_an_allocation_there_is_nothing_to_refresh() {
    let mut stage = Stage::new(server());
    assert_eq!(stage.ask(REFRESH, &[]).0, Some(401));
    assert_eq!(stage.ask(REFRESH, &[]).0, Some(437));
    assert_eq!(stage.ask(CREATE_PERMISSION, &[]).0, Some(437));
}

#[test]
fn only_permitted_peers_are_relayed_both_ways() {
    let mut stage = Stage::new(server());
    let relayed = stage.allocate();
    assert_eq!(stage.bob_sends(relayed, b"stranger"), None);
    stage.send_indication("192.0.2.9:7000", b"too early");
    assert_eq!(datagrams(&mut stage.world, stage.bob), []);

    // A permission is for an address, whatever the port.
    stage.permit("192.0.2.9:1");
    stage.send_indication("192.0.2.9:7000", b"hello");
    let heard = datagrams(&mut stage.world, stage.bob);
    assert_eq!(heard, [(relayed, b"hello".to_vec())]);
    let wrapped = stage.bob_sends(relayed, b"hello alice").unwrap();
    let message = Message::from_bytes(&wrapped).unwrap();
    assert_eq!(message.method().value(), 7);
    assert_eq!(address(&wrapped, PEER), Some(addr("192.0.2.9:7000")));
    let data = message.raw_attribute(AttributeType::new(DATA)).unwrap();
    assert_eq!(&*data.value, b"hello alice");

    // RFC 8656 section 9: five minutes, unless it is refreshed.
    wait(&mut stage.world, Duration::from_secs(301));
    assert_eq!(stage.bob_sends(relayed, b"late"), None);
}

#[test]
fn channels_carry_four_bytes_of_header() {
    let mut stage = Stage::new(server());
    let relayed = stage.allocate();
    let bind = |stage: &mut Stage, number: u16, peer: &str| {
        let number = [number.to_be_bytes(), [0, 0]].concat();
        let peer = masked(stage.next_id + 1, addr(peer));
        let asked = [(CHANNEL_NUMBER, number), (PEER, peer)];
        stage.ask(CHANNEL_BIND, &asked).0
    };
    assert_eq!(bind(&mut stage, 0x4000, "192.0.2.9:7000"), None);
    assert_eq!(
        bind(&mut stage, 0x4000, "192.0.2.9:7001"),
        Some(400),
        "bound to another"
    );
    assert_eq!(
        bind(&mut stage, 0x4001, "192.0.2.9:7000"),
        Some(400),
        "has a channel"
    );
    assert_eq!(
        bind(&mut stage, 0x5000, "192.0.2.9:7002"),
        Some(400),
        "out of range"
    );

    let wrapped = stage.bob_sends(relayed, b"hello").unwrap();
    assert_eq!(wrapped, [0x40, 0, 0, 5, b'h', b'e', b'l', b'l', b'o']);
    let (from, to) = (addr("192.168.1.2:5004"), addr("198.51.100.1:3478"));
    stage.world.send_udp(stage.alice, from, to, wrapped);
    let heard = datagrams(&mut stage.world, stage.bob);
    assert_eq!(heard, [(relayed, b"hello".to_vec())]);
}

#[test]
fn a_lifetime_of_zero_releases_and_time_does_too() {
    let server = server();
    let count = server.allocation_count();
    let mut stage = Stage::new(server);
    stage.allocate();
    assert_eq!(count.load(Ordering::Relaxed), 1);
    assert_eq!(stage.ask(REFRESH, &[(LIFETIME, seconds(0))]).0, None);
    assert_eq!(count.load(Ordering::Relaxed), 0);

    stage.nonce = None;
    stage.allocate();
    wait(&mut stage.world, Duration::from_secs(500));
    assert_eq!(stage.ask(REFRESH, &[(LIFETIME, seconds(600))]).0, None);
    wait(&mut stage.world, Duration::from_secs(500));
    assert_eq!(count.load(Ordering::Relaxed), 1);
    settle(&mut stage.world);
    assert_eq!(count.load(Ordering::Relaxed), 0);
}

#[test]
fn nonces_go_stale_and_quotas_are_reached() {
    let mut stage = Stage::new(server().with_nonce_lifetime(Duration::from_secs(60)));
    stage.allocate();
    wait(&mut stage.world, Duration::from_secs(61));
    assert_eq!(stage.ask(REFRESH, &[]).0, Some(438));
    assert_eq!(stage.ask(REFRESH, &[]).0, None);

    let mut stage = Stage::new(server().with_quota(0));
    let asked = [(TRANSPORT, UDP.to_vec())];
    assert_eq!(stage.ask(ALLOCATE, &asked).0, Some(401));
    assert_eq!(stage.ask(ALLOCATE, &asked).0, Some(486));
}

#[test]
fn an_allocation_can_be_lost_by_sending() {
    let private = |ip: std::net::IpAddr| matches!(ip, std::net::IpAddr::V4(ip) if ip.is_private());
    let mut stage = Stage::new(server().losing_allocations_towards(private));
    let relayed = stage.allocate();
    stage.permit("10.0.0.9:1");
    stage.permit("192.0.2.9:1");
    assert!(stage.bob_sends(relayed, b"before").is_some());
    stage.send_indication("10.0.0.9:7000", b"nobody");
    assert_eq!(stage.bob_sends(relayed, b"after"), None);
    assert_eq!(stage.ask(REFRESH, &[]).0, Some(437));
}
