//! Relayed candidates by TCP and TLS, gathered from a TURN server on a virtual Internet.
//!
//!   alice 192.168.1.2 ── NAT or firewall ──┬── TURN server 198.51.100.1, and 2001:db8::1
//!                                          └── bob 192.0.2.9, and 2001:db8::9

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ringtrue_ice::{
    Base, CandidateType, ComponentId, GatherConfig, Gatherer, Pacer, Relayed, Transmit, TurnServer,
    TurnStream, TurnStreamWish, TurnTransport,
};
use ringtrue_testnet::{Delivery, GatewayConfig, HostId, Link, NatConfig, StreamId, Wish, World};

const RTP: &str = "192.168.1.2:4000";
const BOB: &str = "192.0.2.9:7000";
const BOB_6: &str = "[2001:db8::9]:7000";
const NAME: &str = "turn.example.org";

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn tls() -> TurnTransport {
    TurnTransport::Tls(NAME.to_owned())
}

fn at(port: u16, transport: TurnTransport) -> TurnServer {
    TurnServer {
        address: SocketAddr::from(([198, 51, 100, 1], port)),
        transport,
        user: "alice".to_owned(),
        password: "secret".to_owned(),
    }
}

fn every_way() -> Vec<TurnServer> {
    vec![
        at(443, tls()),
        at(3478, TurnTransport::Tcp),
        at(3478, TurnTransport::Udp),
    ]
}

fn server() -> ringtrue_testnet::TurnServer {
    ringtrue_testnet::TurnServer::new("alice", "secret").with_tls(443, NAME)
}

struct Stage {
    world: World,
    alice: HostId,
    bob: HostId,
    turn: HostId,
    gatherer: Gatherer,
    pacer: Pacer,
    streams: Vec<(TurnStream, StreamId)>,
    /// Every connection that was wanted, and when.
    connects: Vec<(Instant, Option<String>)>,
    allocations: Arc<AtomicUsize>,
    at_bob: Vec<(SocketAddr, Vec<u8>)>,
    at_alice: Vec<Relayed>,
}

impl Stage {
    fn new(
        gateway: impl FnOnce(GatewayConfig) -> GatewayConfig,
        server: ringtrue_testnet::TurnServer,
        servers: Vec<TurnServer>,
    ) -> Self {
        let mut world = World::new(5);
        let internet = world.internet();
        let nat = GatewayConfig::nat([203, 0, 113, 1], NatConfig::port_restricted());
        let (_, home) = world.add_gateway(internet, gateway(nat));
        let alice = world.host_at("alice", home, [192, 168, 1, 2]);
        let bob = world.host_at("bob", internet, [192, 0, 2, 9]);
        world.add_interface(bob, internet, addr(BOB_6).ip(), Link::default());
        let turn = world.host_at("turn", internet, [198, 51, 100, 1]);
        world.add_interface(
            turn,
            internet,
            addr("[2001:db8::1]:1").ip(),
            Link::default(),
        );
        world.set_delay_between(alice, turn, ms(20));
        let allocations = server.allocation_count();
        world.add_server(turn, server);
        world.listen(turn, 3478);
        world.listen(turn, 443);
        let config = GatherConfig {
            turn_servers: servers,
            ..GatherConfig::default()
        };
        let base = Base {
            address: addr(RTP),
            component: ComponentId::Rtp,
            local_preference: 65_535,
        };
        let gatherer = Gatherer::new(config, vec![base], 1, world.now());
        Self {
            world,
            alice,
            bob,
            turn,
            gatherer,
            pacer: Pacer::new(),
            streams: Vec::new(),
            connects: Vec::new(),
            allocations,
            at_bob: Vec::new(),
            at_alice: Vec::new(),
        }
    }

    fn gathered(mut self) -> Self {
        self.run(ms(500));
        assert!(self.gatherer.is_finished());
        self
    }

    fn run(&mut self, time: Duration) {
        let end = self.world.now() + time;
        loop {
            self.flush();
            let due = self.gatherer.poll_timeout(&self.pacer);
            let next = self.world.next_event_at().into_iter().chain(due).min();
            let Some(next) = next.filter(|next| *next <= end) else {
                break;
            };
            self.world.advance_to(next);
            let now = self.world.now();
            while let Some((host, delivery)) = self.world.poll_delivery() {
                self.deliver(now, host, delivery);
            }
            if due.is_some_and(|due| due <= now) {
                self.gatherer.handle_timeout(now, &mut self.pacer);
            }
        }
        self.world.advance_to(end);
    }

    fn deliver(&mut self, now: Instant, host: HostId, delivery: Delivery) {
        let own = |wanted: StreamId| {
            let found = self.streams.iter().find(|(_, own)| *own == wanted);
            found.map(|(stream, _)| *stream)
        };
        match delivery {
            Delivery::Datagram { from, payload, .. } if host == self.bob => {
                self.at_bob.push((from, payload));
            }
            Delivery::Datagram {
                local,
                from,
                payload,
            } => {
                self.gatherer.handle_datagram(now, local, from, &payload);
            }
            Delivery::Connected { stream, .. } => {
                if let Some(stream) = own(stream) {
                    self.gatherer.handle_stream_connected(now, stream);
                }
            }
            Delivery::StreamBytes { stream, payload } => {
                if let Some(stream) = own(stream) {
                    // In whatever pieces.
                    for piece in payload.chunks(7) {
                        self.gatherer.handle_stream(now, stream, piece);
                    }
                }
            }
            Delivery::Closed { stream, .. } => {
                if let Some(stream) = own(stream) {
                    self.gatherer.handle_stream_closed(now, stream);
                }
            }
            Delivery::Accepted { .. } | Delivery::PortMapped { .. } => {}
        }
        self.at_alice.extend(self.gatherer.poll_relayed());
    }

    fn flush(&mut self) {
        while let Some(Transmit { base, to, payload }) = self.gatherer.poll_transmit() {
            self.world.send_udp(self.alice, base, to, payload);
        }
        while let Some(wish) = self.gatherer.poll_stream() {
            let known = |wanted: TurnStream| {
                let found = self.streams.iter().find(|(own, _)| *own == wanted);
                found.expect("it was opened").1
            };
            match wish {
                TurnStreamWish::Connect {
                    stream,
                    from,
                    to,
                    tls,
                } => {
                    let id = StreamId(self.streams.len() as u64);
                    self.streams.push((stream, id));
                    self.connects.push((self.world.now(), tls.clone()));
                    let mut out = ringtrue_testnet::Outbox::new();
                    out.push(Wish::Connect {
                        stream: id,
                        to,
                        from: Some(from),
                        tls,
                    });
                    self.world.fulfil(self.alice, &mut out);
                }
                TurnStreamWish::Send { stream, payload } => {
                    assert_eq!(payload.len() % 4, 0, "RFC 8656 section 12.5");
                    self.world.send_stream(self.alice, known(stream), payload);
                }
                TurnStreamWish::Close { stream } => {
                    self.world.close_stream(self.alice, known(stream));
                }
            }
        }
    }

    fn of(&self, kind: CandidateType) -> Vec<SocketAddr> {
        let gathered = self.gatherer.gathered();
        let of_kind = gathered.candidates().filter(|c| c.kind == kind);
        of_kind.map(|candidate| candidate.address).collect()
    }

    fn send(&mut self, base: SocketAddr, to: &str, payload: &[u8]) {
        let transmit = Transmit {
            base,
            to: addr(to),
            payload: payload.to_vec(),
        };
        let direct = self.gatherer.relay(self.world.now(), transmit);
        assert_eq!(direct, None);
        self.run(ms(100));
    }

    fn count(&self) -> usize {
        self.allocations.load(Ordering::Relaxed)
    }
}

/// RTP of any length, so that ChannelData needs its padding.
fn rtp(length: usize) -> Vec<u8> {
    let mut packet = vec![0x80, 96, 0, 0, 1, 2, 3, 4];
    packet.resize(8 + length, 7);
    packet
}

/// Where datagrams pass, nothing else is kept, and hardly anything is tried.
#[test]
fn datagrams_are_preferred() {
    let mut stage = Stage::new(|nat| nat, server(), every_way()).gathered();
    assert_eq!(stage.of(CandidateType::Relayed).len(), 1);
    assert_eq!(stage.of(CandidateType::ServerReflexive).len(), 1);
    stage.run(Duration::from_secs(2));
    assert_eq!(stage.count(), 1, "what was tried beside it is given back");
}

#[test]
fn tcp_is_used_where_udp_is_eaten_and_tls_where_only_the_web_passes() {
    type Firewall = fn(GatewayConfig) -> GatewayConfig;
    let eaten: Firewall = GatewayConfig::eating_udp;
    let web: Firewall = GatewayConfig::only_web;
    for (firewall, name) in [(eaten, None), (web, Some(NAME.to_owned()))] {
        let mut stage = Stage::new(firewall, server(), every_way()).gathered();
        let relayed = stage.of(CandidateType::Relayed);
        assert_eq!(relayed.len(), 1);
        // The mapped address of a connection is no address of the socket's.
        assert_eq!(stage.of(CandidateType::ServerReflexive), []);
        assert!(stage.connects.iter().any(|(_, tls)| *tls == name));
        let start = stage.at_bob.len();
        for length in 0..6 {
            stage.send(relayed[0], BOB, &rtp(length));
        }
        let sent: Vec<_> = (0..6).map(|length| (relayed[0], rtp(length))).collect();
        assert_eq!(stage.at_bob[start..], sent);
        for length in [0, 1, 1200] {
            let (bob, to) = (stage.bob, relayed[0]);
            stage.world.send_udp(bob, addr(BOB), to, rtp(length));
            stage.run(ms(100));
            let last = stage.at_alice.pop().expect("it came through");
            assert_eq!((last.base, last.from), (relayed[0], addr(BOB)));
            assert_eq!(last.payload, rtp(length));
        }
        stage.run(Duration::from_secs(1500));
        stage.send(relayed[0], BOB, &rtp(9));
        assert_eq!(
            stage.at_bob.last(),
            Some(&(relayed[0], rtp(9))),
            "refreshed"
        );
        stage.gatherer.release_all(stage.world.now());
        stage.run(ms(100));
        assert!(stage.gatherer.is_released());
        assert_eq!(stage.count(), 0);
    }
}

/// A certificate for another name, a port where nobody listens, a server that never answers.
#[test]
fn connections_that_fail_hold_nothing_up() {
    let wrong = at(443, TurnTransport::Tls("turn.example.net".to_owned()));
    let closed = at(81, TurnTransport::Tcp);
    let mut stage = Stage::new(|nat| nat, server(), vec![wrong, closed]);
    stage.run(ms(200));
    assert!(stage.gatherer.is_finished(), "refused is settled");
    assert_eq!(stage.of(CandidateType::Relayed), []);
    let mut stage = Stage::new(|nat| nat, server(), vec![at(3478, TurnTransport::Tcp)]);
    stage.world.black_hole_between(stage.alice, stage.turn);
    stage.run(ms(499));
    assert!(!stage.gatherer.is_finished());
    stage.run(ms(1));
    assert!(stage.gatherer.is_finished(), "silence costs the patience");
    stage.run(Duration::from_secs(10));
    assert!(stage.gatherer.poll_timeout(&stage.pacer).is_none());
}

/// What follows a connection that the server cuts off: another one, under the same name.
#[test]
fn a_cut_connection_has_a_successor() {
    let only_tcp = vec![at(3478, TurnTransport::Tcp)];
    let mut stage = Stage::new(|nat| nat, server(), only_tcp).gathered();
    let relayed = stage.of(CandidateType::Relayed);
    let (stream, _) = stage.streams[0];
    let now = stage.world.now();
    stage.world.close_stream(stage.alice, StreamId(0));
    stage.gatherer.handle_stream_closed(now, stream);
    stage.run(ms(500));
    assert_eq!(stage.connects.len(), 2);
    assert_eq!(
        (stage.count(), stage.of(CandidateType::Relayed)),
        (1, relayed.clone())
    );
    stage.send(relayed[0], BOB, &rtp(0));
    assert_eq!(stage.at_bob.len(), 1);
}

/// Garbage, a message that never ends, and nothing at all, from a server.
#[test]
fn a_hostile_server_ends_its_own_connection_only() {
    let only_tcp = vec![at(3478, TurnTransport::Tcp)];
    for garbage in [
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        vec![0xff; 100],
        vec![0; 70_000],
        [0x40, 0, 0xff, 0xff].repeat(40_000),
    ] {
        let mut stage = Stage::new(|nat| nat, server(), only_tcp.clone()).gathered();
        let (stream, _) = stage.streams[0];
        for piece in garbage.chunks(1000) {
            let now = stage.world.now();
            stage.gatherer.handle_stream(now, stream, piece);
        }
        stage.run(Duration::from_secs(1));
        assert_eq!(stage.gatherer.poll_relayed(), None);
    }
}

/// RFC 8489 section 9.2: SHA-256 where it is offered, with nonces that go stale, and at the end.
#[test]
fn sha_256_is_used_where_it_is_offered() {
    let server = || {
        server()
            .with_sha256()
            .with_nonce_lifetime(Duration::from_secs(50))
    };
    for transport in [TurnTransport::Udp, TurnTransport::Tcp] {
        let servers = vec![at(3478, transport)];
        let mut stage = Stage::new(|nat| nat, server(), servers).gathered();
        let relayed = stage.of(CandidateType::Relayed);
        for _ in 0..20 {
            stage.send(relayed[0], BOB, &rtp(0));
            stage.run(Duration::from_secs(60));
        }
        assert_eq!(stage.at_bob.len(), 20);
        // The nonce is stale by now: the release is asked for once more.
        stage.run(Duration::from_secs(60));
        stage.gatherer.release_all(stage.world.now());
        stage.run(ms(200));
        assert_eq!(stage.count(), 0);
        assert!(stage.gatherer.is_released());
    }
}

/// RFC 8656 section 7.1: one allocation, two addresses, and each peer is reached from its own.
#[test]
fn an_ipv4_host_reaches_ipv6_peers_through_the_relay() {
    let ipv6 = addr("[2001:db8::1]:1").ip();
    let servers = vec![at(3478, TurnTransport::Udp)];
    let mut stage = Stage::new(|nat| nat, server().with_ipv6(ipv6), servers).gathered();
    let relayed = stage.of(CandidateType::Relayed);
    let [first, second] = relayed[..] else {
        panic!("two of {relayed:?}");
    };
    assert!(first.is_ipv4() && second.is_ipv6());
    assert_eq!(stage.count(), 1);
    stage.send(second, BOB_6, &rtp(1));
    stage.send(first, BOB, &rtp(2));
    assert_eq!(stage.at_bob, [(second, rtp(1)), (first, rtp(2))]);
    let bob = stage.bob;
    stage.world.send_udp(bob, addr(BOB_6), second, rtp(3));
    stage.run(ms(100));
    assert_eq!(stage.at_alice[0].base, second);
    // A server without IPv6 gives the one that it has.
    let servers = vec![at(3478, TurnTransport::Udp)];
    let stage = Stage::new(|nat| nat, server(), servers).gathered();
    assert_eq!(stage.of(CandidateType::Relayed).len(), 1);
}
