//! Relayed candidates, gathered from a TURN server on a virtual Internet, and what goes through.
//!
//!   alice 192.168.1.2 ── NAT 203.0.113.1 ──┬── TURN server 198.51.100.1
//!                                          └── bob 192.0.2.9

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ringtrue_ice::{
    Base, Candidate, CandidateType, ComponentId, GatherConfig, Gatherer, Pacer, Relayed, Transmit,
    TurnServer,
};
use ringtrue_testnet::{Delivery, GatewayConfig, HostId, NatConfig, World};

const RTP: &str = "192.168.1.2:4000";
const RTCP: &str = "192.168.1.2:4001";
const BOB: &str = "192.0.2.9:7000";

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

struct Stage {
    world: World,
    alice: HostId,
    bob: HostId,
    gatherer: Gatherer,
    pacer: Pacer,
    allocations: Arc<AtomicUsize>,
    /// What reached bob: from where, and what.
    at_bob: Vec<(SocketAddr, Vec<u8>)>,
    at_alice: Vec<Relayed>,
}

impl Stage {
    fn new(server: ringtrue_testnet::TurnServer, change: impl FnOnce(&mut GatherConfig)) -> Self {
        let mut world = World::new(5);
        let internet = world.internet();
        let nat = GatewayConfig::nat([203, 0, 113, 1], NatConfig::port_restricted());
        let (_, home) = world.add_gateway(internet, nat);
        let alice = world.host_at("alice", home, [192, 168, 1, 2]);
        let bob = world.host_at("bob", internet, [192, 0, 2, 9]);
        let turn = world.host_at("turn", internet, [198, 51, 100, 1]);
        world.set_delay_between(alice, turn, Duration::from_millis(20));
        let allocations = server.allocation_count();
        world.add_server(turn, server);
        let mut config = GatherConfig {
            turn_servers: vec![TurnServer {
                address: addr("198.51.100.1:3478"),
                transport: ringtrue_ice::TurnTransport::Udp,
                user: "alice".to_owned(),
                password: "secret".to_owned(),
            }],
            ..GatherConfig::default()
        };
        change(&mut config);
        let base = |address, component| Base {
            address: addr(address),
            component,
            local_preference: 65_535,
        };
        let bases = vec![base(RTP, ComponentId::Rtp), base(RTCP, ComponentId::Rtcp)];
        let gatherer = Gatherer::new(config, bases, 1, world.now());
        let mut stage = Self {
            world,
            alice,
            bob,
            gatherer,
            pacer: Pacer::new(),
            allocations,
            at_bob: Vec::new(),
            at_alice: Vec::new(),
        };
        stage.run(Duration::from_millis(600));
        assert!(stage.gatherer.is_finished());
        stage
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
                let Delivery::Datagram {
                    local,
                    from,
                    payload,
                } = delivery
                else {
                    continue;
                };
                if host == self.bob {
                    self.at_bob.push((from, payload));
                } else {
                    self.gatherer.handle_datagram(now, local, from, &payload);
                    self.at_alice.extend(self.gatherer.poll_relayed());
                }
            }
            if due.is_some_and(|due| due <= now) {
                self.gatherer.handle_timeout(now, &mut self.pacer);
            }
        }
        self.world.advance_to(end);
    }

    fn flush(&mut self) {
        while let Some(Transmit { base, to, payload }) = self.gatherer.poll_transmit() {
            self.world.send_udp(self.alice, base, to, payload);
        }
    }

    fn candidates(&self) -> Vec<Candidate> {
        self.gatherer.gathered().candidates().cloned().collect()
    }

    fn relayed(&self) -> SocketAddr {
        let candidates = self.candidates();
        let mut relayed = candidates
            .iter()
            .filter(|c| c.kind == CandidateType::Relayed);
        relayed.next().expect("a relayed candidate").address
    }

    fn send(&mut self, base: SocketAddr, payload: &[u8]) -> Option<Transmit> {
        let transmit = Transmit {
            base,
            to: addr(BOB),
            payload: payload.to_vec(),
        };
        let direct = self.gatherer.relay(self.world.now(), transmit);
        self.run(Duration::from_millis(100));
        direct
    }

    fn bob_sends(&mut self, to: SocketAddr, payload: &[u8]) {
        self.world
            .send_udp(self.bob, addr(BOB), to, payload.to_vec());
        self.run(Duration::from_millis(100));
    }
}

fn server() -> ringtrue_testnet::TurnServer {
    ringtrue_testnet::TurnServer::new("alice", "secret")
}

/// RTP, so that it goes by a channel as soon as there is one.
fn rtp(number: u8) -> Vec<u8> {
    vec![0x80, 96, 0, number, 1, 2, 3, 4]
}

#[test]
fn an_allocation_gives_two_candidates() {
    let stage = Stage::new(server(), |_| {});
    let candidates = stage.candidates();
    let of = |kind, component| {
        let mut found = candidates.iter();
        found
            .find(|c| c.kind == kind && c.component == component)
            .unwrap_or_else(|| panic!("{kind:?} {component:?} of {candidates:?}"))
    };
    for component in [ComponentId::Rtp, ComponentId::Rtcp] {
        let reflexive = of(CandidateType::ServerReflexive, component);
        let relayed = of(CandidateType::Relayed, component);
        assert_eq!(reflexive.address.ip(), addr("203.0.113.1:1").ip());
        // RFC 8839 section 5.1: the mapped address is what a relayed candidate relates to.
        assert_eq!(relayed.related, Some(reflexive.address));
        // RFC 8445 section 5.1.2.1 with a type preference of 0.
        let number = u32::from(component.number());
        assert_eq!(relayed.priority, (65_535 << 8) + 256 - number);
        let default = stage
            .gatherer
            .gathered()
            .default_candidate(component)
            .cloned();
        assert_eq!(default.as_ref(), Some(relayed));
    }
    let [rtp, rtcp] = [ComponentId::Rtp, ComponentId::Rtcp].map(|c| of(CandidateType::Relayed, c));
    assert_eq!(rtp.foundation, rtcp.foundation);
    assert_eq!(stage.allocations.load(Ordering::Relaxed), 2);
}

#[test]
fn relay_only_leaves_nothing_else_and_no_address() {
    let stage = Stage::new(server(), |config| config.relay_only = true);
    let candidates = stage.candidates();
    assert_eq!(candidates.len(), 2);
    for candidate in candidates {
        assert_eq!(candidate.kind, CandidateType::Relayed);
        assert_eq!(candidate.related, Some(addr("0.0.0.0:9")));
    }
}

#[test]
fn what_is_sent_from_the_relayed_address_arrives_from_there() {
    let mut stage = Stage::new(server(), |_| {});
    let relayed = stage.relayed();
    stage.bob_sends(relayed, b"not permitted yet");
    assert_eq!(stage.at_alice, []);

    // The permission goes ahead of the first packet, the channel is there for the third.
    for number in 0..3 {
        assert_eq!(stage.send(relayed, &rtp(number)), None);
    }
    let sent = (0..3).map(|number| (relayed, rtp(number)));
    assert_eq!(stage.at_bob, sent.collect::<Vec<_>>());
    stage.bob_sends(relayed, &rtp(9));
    let heard = Relayed {
        base: relayed,
        from: addr(BOB),
        payload: rtp(9),
    };
    assert_eq!(stage.at_alice, [heard]);

    // From a socket it goes as it is.
    let direct = stage.send(addr(RTP), b"direct").unwrap();
    assert_eq!(
        (direct.base, direct.payload),
        (addr(RTP), b"direct".to_vec())
    );
}

/// An agent asks so for what its peer's checks will need, before its own.
#[test]
fn a_permission_can_go_ahead() {
    let mut stage = Stage::new(server(), |_| {});
    let relayed = stage.relayed();
    assert_eq!(stage.send(relayed, b""), None);
    assert_eq!(stage.at_bob, []);
    stage.bob_sends(relayed, b"a check");
    assert_eq!(stage.at_alice.len(), 1);
    // From where there is no relay, it is nothing.
    assert_eq!(stage.send(addr("192.0.2.1:1"), b""), None);
}

#[test]
fn permission_channel_and_allocation_are_kept_alive() {
    let mut stage = Stage::new(
        server().with_nonce_lifetime(Duration::from_secs(70)),
        |_| {},
    );
    let relayed = stage.relayed();
    for minute in 0..25 {
        stage.send(relayed, &rtp(minute));
        stage.run(Duration::from_secs(60));
    }
    assert_eq!(stage.at_bob.len(), 25);
    stage.bob_sends(relayed, &rtp(1));
    assert_eq!(stage.at_alice.len(), 1);
}

#[test]
fn a_release_gives_back_and_ends_all_timers() {
    let mut stage = Stage::new(server(), |_| {});
    stage.send(stage.relayed(), &rtp(0));
    stage.gatherer.release(stage.world.now(), addr(RTCP));
    stage.run(Duration::from_millis(100));
    assert_eq!(stage.allocations.load(Ordering::Relaxed), 1);
    stage.gatherer.release_all(stage.world.now());
    stage.run(Duration::from_millis(100));
    assert_eq!(stage.allocations.load(Ordering::Relaxed), 0);
    assert!(stage.gatherer.poll_timeout(&stage.pacer).is_none());
}

/// While nobody uses it, too: a gathered set waits in a pool.
#[test]
fn an_unused_allocation_is_refreshed() {
    let mut stage = Stage::new(server(), |_| {});
    stage.run(Duration::from_secs(3000));
    let relayed = stage.relayed();
    stage.send(relayed, b"after 50 minutes");
    assert_eq!(stage.at_bob, [(relayed, b"after 50 minutes".to_vec())]);
}

/// The successor of a lost allocation sends from elsewhere, under the name of the first.
#[test]
fn a_lost_allocation_has_a_successor() {
    let bob = |ip: std::net::IpAddr| ip == addr(BOB).ip();
    let mut stage = Stage::new(server().losing_allocations_towards(bob), |_| {});
    let relayed = stage.relayed();
    stage.send(relayed, &rtp(0));
    assert_eq!(
        stage.allocations.load(Ordering::Relaxed),
        1,
        "RTP's is lost"
    );
    // The channel that is asked for by the next packet of media tells of it.
    stage.gatherer.relay(
        stage.world.now(),
        Transmit {
            base: relayed,
            to: addr("192.0.2.77:1"),
            payload: rtp(1),
        },
    );
    stage.run(Duration::from_secs(1));
    assert_eq!(stage.allocations.load(Ordering::Relaxed), 2);
    assert_eq!(stage.relayed(), relayed);
}

#[test]
fn wrong_credentials_are_not_waited_for() {
    let mut stage = Stage::new(server(), |config| {
        config.turn_servers[0].password = "wrong".to_owned();
    });
    assert!(
        stage
            .candidates()
            .iter()
            .all(|c| c.kind == CandidateType::Host)
    );
    stage.run(Duration::from_secs(60));
    assert_eq!(stage.allocations.load(Ordering::Relaxed), 0);
}

/// No answer that somebody else makes up is believed, and nothing that is cut off or flipped
/// does harm.
#[test]
fn strangers_and_noise_change_nothing() {
    let mut stage = Stage::new(server(), |_| {});
    let relayed = stage.relayed();
    stage.send(relayed, &rtp(0));
    let now = stage.world.now();
    let server = addr("198.51.100.1:3478");
    let channel_data = [0x40, 0, 0, 4, 1, 2, 3, 4];
    let gatherer = &mut stage.gatherer;
    assert!(!gatherer.handle_datagram(now, addr(RTP), addr(BOB), &channel_data));
    assert!(!gatherer.handle_datagram(now, addr("192.168.1.2:9"), server, &channel_data));
    for length in 0..channel_data.len() {
        gatherer.handle_datagram(now, addr(RTP), server, &channel_data[..length]);
    }
    assert_eq!(gatherer.poll_relayed(), None);
    for first in 0..=255 {
        for length in [4, 20, 24] {
            let noise: Vec<u8> = (0..length).map(|index| first ^ index).collect();
            gatherer.handle_datagram(now, addr(RTP), server, &noise);
        }
    }
    assert_eq!(gatherer.poll_relayed(), None);
    assert_eq!(stage.relayed(), relayed);
}
