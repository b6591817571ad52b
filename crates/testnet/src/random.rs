//! Random worlds for property tests: two peers with something between them, or with nothing.

mod places;

use std::fmt::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::stun::StunServer;
use crate::topology::{HostId, Link, NetworkId};
use crate::turn::TurnServer;
use crate::world::World;

/// One of the two peers of a random world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RandomPeer {
    /// Its host.
    pub host: HostId,
    /// Its addresses, one to twenty of them, the one that it prefers first.
    pub addresses: Vec<IpAddr>,
    /// The addresses of the TURN server, if it has one.
    pub turn_servers: Vec<SocketAddr>,
    /// Whether it offers TCP candidates.
    pub tcp: bool,
}

/// A world out of a seed: two peers with one to four interfaces each, now and then ten, in places
/// that are drawn at random, a STUN server, and a TURN server that either peer, both or none may use.
///
/// The places: on the Internet; behind a NAT of any kind or behind two, with IPv6 beside it or
/// without; on IPv6 alone, behind a stateful firewall or not; in a network that both peers are in,
/// behind one NAT; in one whose way out lets no UDP through; in a tunnel that is preferred to all
/// else; on a line that is dead. Now and then UDP is eaten, or black holes swallow what goes from
/// one interface to another, one way or both. Half of the worlds lose packets, up to 30 % from end
/// to end, and reorder them.
pub struct RandomWorld {
    /// The world.
    pub world: World,
    /// One peer.
    pub left: RandomPeer,
    /// The other.
    pub right: RandomPeer,
    /// The host of the STUN server; it stands on the Internet and answers.
    pub stun: HostId,
    /// The server's addresses, IPv4 and IPv6.
    pub stun_servers: Vec<SocketAddr>,
    /// The host of the TURN server; it stands on the Internet.
    pub turn: HostId,
    /// Whether each allocation may have an address of either family (RFC 8656 section 7.2).
    pub relays_both: bool,
    /// Whether packets get lost.
    pub lossy: bool,
    description: String,
}

impl fmt::Debug for RandomWorld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.description)
    }
}

impl RandomWorld {
    /// The user that the TURN server knows.
    pub const TURN_USER: &str = "anybody";
    /// That user's password.
    pub const TURN_PASSWORD: &str = "a secret of theirs";

    /// The world of this seed.
    pub fn generate(seed: u64) -> Self {
        Builder::new(seed).build()
    }

    /// What stands in this world, a line for each thing.
    pub fn description(&self) -> &str {
        &self.description
    }
}

/// What a world is mostly about; the rest is drawn freely. So no kind of world becomes rare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Theme {
    /// Anything.
    Anything,
    /// Somewhere the peers meet without a translation.
    Meeting,
    /// NATs only, one interface each.
    Nats,
    /// What no direct path leads through.
    Walls,
    /// The same, and a relay.
    Relays,
    /// IPv4, IPv6 or both, at either side.
    Families,
    /// UDP does not reach one side; the other can be reached by TCP.
    Streams,
    /// Many interfaces a side.
    Crowds,
}

struct Builder {
    rng: ChaCha8Rng,
    seed: u64,
    world: World,
    theme: Theme,
    /// Loss and jitter of every interface.
    rough: Link,
    peers: [HostId; 2],
    /// The addresses of each, in the order of their preference.
    preferred: [Vec<IpAddr>; 2],
    /// The next free number for addresses.
    next: u8,
    /// Networks that both peers may be in.
    shared: Option<NetworkId>,
    isolated: Option<NetworkId>,
    tunnel: Option<NetworkId>,
    description: String,
}

const STUN_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const STUN_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
const TURN_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
const TURN_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);

impl Builder {
    fn new(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut world = World::new(rng.random());
        let peers = ["left", "right"].map(|name| world.add_host(name));
        let theme = match rng.random_range(0..100) {
            0..19 => Theme::Anything,
            19..34 => Theme::Meeting,
            34..65 => Theme::Nats,
            65..74 => Theme::Walls,
            74..82 => Theme::Relays,
            82..88 => Theme::Families,
            88..98 => Theme::Streams,
            _ => Theme::Crowds,
        };
        let mut rough = Link::default();
        if rng.random_bool(0.5) {
            // Both peers' interfaces lose; together at most 30 % each way.
            let kept = 1.0 - rng.random_range(0.01..0.30_f64);
            rough.loss = 1.0 - kept.sqrt();
            rough.jitter = Duration::from_millis(rng.random_range(0..40));
        }
        let description = format!(
            "{theme:?}, loss {:.0} % each side, jitter {:?}\n",
            rough.loss * 100.0,
            rough.jitter
        );
        Self {
            rng,
            seed,
            world,
            theme,
            rough,
            peers,
            preferred: [Vec::new(), Vec::new()],
            next: 1,
            shared: None,
            isolated: None,
            tunnel: None,
            description,
        }
    }

    fn build(mut self) -> RandomWorld {
        let internet = self.world.internet();
        let stun = self.world.add_host("stun");
        for address in [IpAddr::from(STUN_V4), IpAddr::from(STUN_V6)] {
            let link = Link::default();
            self.world.add_interface(stun, internet, address, link);
        }
        self.world.add_server(stun, StunServer::new());
        let turn = self.add_turn_server();
        let count = self.interface_counts();
        for (peer, count) in count.into_iter().enumerate() {
            for _ in 0..count {
                self.add_interface(peer);
            }
        }
        match self.theme {
            Theme::Meeting => self.let_them_meet(),
            Theme::Streams => self.leave_them_streams(),
            _ => {}
        }
        self.dig_black_holes();
        self.raise_walls();
        let turn_servers = self.give_turn_servers();
        let tcp = self.give_tcp();
        let relays_both = self.serve_relays(turn);
        let peer = |side: usize| RandomPeer {
            host: self.peers[side],
            addresses: self.preferred[side].clone(),
            turn_servers: turn_servers[side].clone(),
            tcp: tcp[side],
        };
        let stun_addresses = [STUN_V4.into(), STUN_V6.into()];
        RandomWorld {
            left: peer(0),
            right: peer(1),
            stun,
            stun_servers: stun_addresses
                .map(|ip: IpAddr| SocketAddr::new(ip, StunServer::PORT))
                .to_vec(),
            turn,
            relays_both,
            lossy: self.rough.loss > 0.0,
            description: format!("seed {}: {}", self.seed, self.description),
            world: self.world,
        }
    }

    fn add_turn_server(&mut self) -> HostId {
        let internet = self.world.internet();
        let host = self.world.add_host("turn");
        let link = Link::with_delay(Duration::from_millis(self.rng.random_range(0..40)));
        for address in [IpAddr::from(TURN_V4), IpAddr::from(TURN_V6)] {
            self.world.add_interface(host, internet, address, link);
        }
        host
    }

    /// The TURN server relays both address families to whoever asks for both, or to each client the
    /// one that it comes by.
    fn serve_relays(&mut self, host: HostId) -> bool {
        let both = self.rng.random_bool(0.5);
        let mut server = TurnServer::new(RandomWorld::TURN_USER, RandomWorld::TURN_PASSWORD);
        if both {
            server = server.with_ipv4(TURN_V4.into()).with_ipv6(TURN_V6.into());
            self.note(format_args!("the TURN server relays both address families"));
        }
        self.world.add_server(host, server);
        both
    }

    /// Who may use the TURN server, and by which address family.
    fn give_turn_servers(&mut self) -> [Vec<SocketAddr>; 2] {
        let with_a_relay = match self.theme {
            Theme::Relays => 1.0,
            Theme::Walls => 0.1,
            Theme::Nats => 0.25,
            _ => 0.45,
        };
        let mut users = [false; 2];
        if self.rng.random_bool(with_a_relay) {
            users = [[true, false], [false, true], [true; 2]][self.rng.random_range(0..3)];
        }
        let by_ipv6 = self.rng.random_bool(0.4);
        [0, 1].map(|side| {
            let addresses = [IpAddr::from(TURN_V4), IpAddr::from(TURN_V6)];
            let of_family = addresses.into_iter().filter(|ip| by_ipv6 || ip.is_ipv4());
            let servers: Vec<SocketAddr> = of_family
                .filter(|_| users[side])
                .map(|ip| SocketAddr::new(ip, TurnServer::PORT))
                .collect();
            if !servers.is_empty() {
                let name = self.world.host_name(self.peers[side]).to_owned();
                self.note(format_args!("{name} may use the TURN server {servers:?}"));
            }
            servers
        })
    }

    fn give_tcp(&mut self) -> [bool; 2] {
        let both = match self.theme {
            Theme::Streams => 0.95,
            Theme::Walls => 0.3,
            _ => 0.6,
        };
        let tcp = match self.rng.random_bool(both) {
            true => [true; 2],
            false => [[true, false], [false, true], [false; 2]][self.rng.random_range(0..3)],
        };
        self.note(format_args!("TCP candidates: {tcp:?}"));
        tcp
    }

    fn interface_counts(&mut self) -> [usize; 2] {
        match self.theme {
            Theme::Nats => [1, 1],
            Theme::Meeting => [0, 1].map(|_| self.rng.random_range(0..=1)),
            Theme::Streams => [0, 1].map(|_| usize::from(self.rng.random_bool(0.2))),
            Theme::Crowds => [0, 1].map(|_| self.rng.random_range(4..=10)),
            Theme::Anything | Theme::Walls | Theme::Relays | Theme::Families => {
                [0, 1].map(|_| match self.rng.random_range(0..10) {
                    0..5 => 1,
                    5..7 => 2,
                    7..9 => 3,
                    _ => 4,
                })
            }
        }
    }

    fn note(&mut self, line: fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.description, "  {line}");
    }

    fn number(&mut self) -> u8 {
        self.next += 1;
        self.next
    }

    fn delay(&mut self) -> Duration {
        Duration::from_millis(self.rng.random_range(0..60))
    }

    fn link(&mut self) -> Link {
        Link {
            delay: self.delay(),
            ..self.rough
        }
    }

    fn dig_black_holes(&mut self) {
        let share = match self.theme {
            Theme::Walls => 0.5,
            Theme::Relays if self.rng.random_bool(0.3) => 1.0,
            Theme::Anything => 0.15,
            Theme::Crowds => 0.3,
            Theme::Families => 0.1,
            Theme::Meeting | Theme::Nats | Theme::Relays | Theme::Streams => 0.05,
        };
        let [left, right] = self.peers;
        for one in self.world.addresses(left) {
            for other in self.world.addresses(right) {
                if !self.rng.random_bool(share) {
                    continue;
                }
                let ways = self.rng.random_range(0..3);
                if ways != 0 {
                    self.world.black_hole((left, one), (right, other));
                }
                if ways != 1 {
                    self.world.black_hole((right, other), (left, one));
                }
                let arrow = ["<-", "->", "both ways"][ways];
                self.note(format_args!("black hole {one} {other} {arrow}"));
            }
        }
        for peer in self.peers {
            for address in self.world.addresses(peer) {
                if self.rng.random_bool(share / 5.0) && self.theme != Theme::Relays {
                    self.kill(peer, address);
                }
            }
        }
    }

    /// Nothing passes this interface, though its host thinks it does.
    fn kill(&mut self, peer: HostId, address: IpAddr) {
        self.world.black_hole_interface(peer, address);
        let name = self.world.host_name(peer).to_owned();
        self.note(format_args!("nothing passes {name} {address}"));
    }

    fn raise_walls(&mut self) {
        for peer in self.peers {
            if self.rng.random_bool(0.02) {
                self.eat_udp(peer);
            }
        }
    }

    fn eat_udp(&mut self, peer: HostId) {
        self.world.eat_udp(peer, true);
        let name = self.world.host_name(peer).to_owned();
        self.note(format_args!("{name} has a firewall that eats UDP"));
    }
}
