//! A host behind a NAT or a firewall, and a TURN server that it reaches by UDP, TCP and TLS.
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

pub const RTP: &str = "192.168.1.2:4000";
pub const BOB: &str = "192.0.2.9:7000";
pub const BOB_6: &str = "[2001:db8::9]:7000";
pub const NAME: &str = "turn.example.org";

pub fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

pub fn tls() -> TurnTransport {
    TurnTransport::Tls(NAME.to_owned())
}

pub fn at(port: u16, transport: TurnTransport) -> TurnServer {
    TurnServer {
        address: SocketAddr::from(([198, 51, 100, 1], port)),
        transport,
        user: "alice".to_owned(),
        password: "secret".to_owned(),
    }
}

pub fn every_way() -> Vec<TurnServer> {
    vec![
        at(443, tls()),
        at(3478, TurnTransport::Tcp),
        at(3478, TurnTransport::Udp),
    ]
}

pub fn server() -> ringtrue_testnet::TurnServer {
    ringtrue_testnet::TurnServer::new("alice", "secret").with_tls(443, NAME)
}

pub fn base(address: &str) -> Base {
    Base {
        address: addr(address),
        component: ComponentId::Rtp,
        local_preference: 65_535,
    }
}

pub fn config(turn_servers: Vec<TurnServer>) -> GatherConfig {
    GatherConfig {
        turn_servers,
        ..GatherConfig::default()
    }
}

pub struct Stage {
    pub world: World,
    pub alice: HostId,
    pub bob: HostId,
    pub turn: HostId,
    pub gatherer: Gatherer,
    pub pacer: Pacer,
    pub streams: Vec<(TurnStream, StreamId)>,
    /// Every connection that was wanted, and when.
    pub connects: Vec<(Instant, Option<String>)>,
    pub allocations: Arc<AtomicUsize>,
    /// How many allocations were asked for with credentials.
    pub requests: Arc<AtomicUsize>,
    pub reboots: Arc<AtomicUsize>,
    /// What comes on connections is lost.
    pub deaf: bool,
    /// How many packets went by connections, which a slow one may lose.
    pub packets: usize,
    /// What the server has sent on connections, and what it was sent in any way.
    pub heard: Vec<Vec<u8>>,
    pub requests_sent: Vec<Vec<u8>>,
    pub at_bob: Vec<(SocketAddr, Vec<u8>)>,
    pub at_alice: Vec<Relayed>,
}

impl Stage {
    pub fn new(
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
        let (requests, reboots) = (server.allocate_requests(), server.reboots());
        world.add_server(turn, server);
        world.listen(turn, 3478);
        world.listen(turn, 443);
        let gatherer = Gatherer::new(config(servers), vec![base(RTP)], 1, world.now());
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
            requests,
            reboots,
            deaf: false,
            packets: 0,
            heard: Vec::new(),
            requests_sent: Vec::new(),
            at_bob: Vec::new(),
            at_alice: Vec::new(),
        }
    }

    pub fn gathered(mut self) -> Self {
        self.run(ms(500));
        assert!(self.gatherer.is_finished());
        self
    }

    pub fn run(&mut self, time: Duration) {
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

    pub fn deliver(&mut self, now: Instant, host: HostId, delivery: Delivery) {
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
            Delivery::StreamBytes { .. } if self.deaf => {}
            Delivery::StreamBytes { stream, payload } => {
                self.heard.push(payload.clone());
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

    pub fn flush(&mut self) {
        self.flush_counting();
    }

    /// Sends what there is to be sent, and says how much that was.
    pub fn flush_counting(&mut self) -> usize {
        let mut count = 0;
        while let Some(Transmit { base, to, payload }) = self.gatherer.poll_transmit() {
            count += 1;
            self.requests_sent.push(payload.clone());
            self.world.send_udp(self.alice, base, to, payload);
        }
        while let Some(wish) = self.gatherer.poll_stream() {
            count += 1;
            let is_packet = matches!(wish, TurnStreamWish::SendPacket { .. });
            self.packets += usize::from(is_packet);
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
                TurnStreamWish::Send { stream, payload }
                | TurnStreamWish::SendPacket { stream, payload } => {
                    assert_eq!(payload.len() % 4, 0, "RFC 8656 section 12.5");
                    self.requests_sent.push(payload.clone());
                    self.world.send_stream(self.alice, known(stream), payload);
                }
                TurnStreamWish::Close { stream } => {
                    self.world.close_stream(self.alice, known(stream));
                }
            }
        }
        count
    }

    pub fn of(&self, kind: CandidateType) -> Vec<SocketAddr> {
        let gathered = self.gatherer.gathered();
        let of_kind = gathered.candidates().filter(|c| c.kind == kind);
        of_kind.map(|candidate| candidate.address).collect()
    }

    pub fn send(&mut self, base: SocketAddr, to: &str, payload: &[u8]) {
        let transmit = Transmit {
            base,
            to: addr(to),
            payload: payload.to_vec(),
        };
        let direct = self.gatherer.relay(self.world.now(), transmit);
        assert_eq!(direct, None);
        self.run(ms(100));
    }

    pub fn gather_again(&mut self, servers: Vec<TurnServer>, own: &str) {
        let now = self.world.now();
        let bases = vec![base(own)];
        self.gatherer.gather_again(now, config(servers), bases);
        self.run(ms(500));
        assert!(self.gatherer.is_finished());
    }

    pub fn relayed(&self) -> Vec<SocketAddr> {
        self.of(CandidateType::Relayed)
    }

    pub fn requested(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    pub fn count(&self) -> usize {
        self.allocations.load(Ordering::Relaxed)
    }
}

/// RTP of any length, so that ChannelData needs its padding.
pub fn rtp(length: usize) -> Vec<u8> {
    let mut packet = vec![0x80, 96, 0, 0, 1, 2, 3, 4];
    packet.resize(8 + length, 7);
    packet
}
