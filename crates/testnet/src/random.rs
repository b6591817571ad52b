//! Random worlds for property tests: two peers with something between them, or with nothing.

use std::fmt::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::nat::{Behaviour, NatConfig};
use crate::stun::StunServer;
use crate::topology::{GatewayConfig, HostId, Link, NetworkId};
use crate::world::World;

/// One of the two peers of a random world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RandomPeer {
    /// Its host.
    pub host: HostId,
    /// Its addresses, one to three of them.
    pub addresses: Vec<IpAddr>,
}

/// A world out of a seed: two peers with one to three interfaces each, in places that are drawn
/// at random, and a STUN server.
///
/// The places: on the Internet; behind a NAT of any kind or behind two; in a network that both
/// peers are in, behind one NAT or without a way out; on IPv6, behind a stateful firewall or not.
/// Now and then UDP is eaten, or black holes swallow what goes from one interface to another, one
/// way or both. Half of the worlds lose packets, up to 30 % from end to end, and reorder them.
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
}

struct Builder {
    rng: ChaCha8Rng,
    seed: u64,
    world: World,
    theme: Theme,
    /// Loss and jitter of every interface.
    rough: Link,
    peers: [HostId; 2],
    /// The next free number for addresses.
    next: u8,
    /// Networks that both peers may be in.
    shared: Option<NetworkId>,
    isolated: Option<NetworkId>,
    description: String,
}

const STUN_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const STUN_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

impl Builder {
    fn new(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut world = World::new(rng.random());
        let peers = ["left", "right"].map(|name| world.add_host(name));
        let theme = match rng.random_range(0..100) {
            0..25 => Theme::Anything,
            25..50 => Theme::Meeting,
            50..88 => Theme::Nats,
            _ => Theme::Walls,
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
            next: 1,
            shared: None,
            isolated: None,
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
        let count = self.interface_counts();
        for (peer, count) in count.into_iter().enumerate() {
            for _ in 0..count {
                self.add_interface(peer);
            }
        }
        if self.theme == Theme::Meeting {
            self.let_them_meet();
        }
        self.dig_black_holes();
        self.raise_walls();
        let peer = |world: &World, host: HostId| RandomPeer {
            host,
            addresses: world.addresses(host),
        };
        let ports = [STUN_V4.into(), STUN_V6.into()];
        RandomWorld {
            left: peer(&self.world, self.peers[0]),
            right: peer(&self.world, self.peers[1]),
            stun,
            stun_servers: ports
                .map(|ip: IpAddr| SocketAddr::new(ip, StunServer::PORT))
                .to_vec(),
            lossy: self.rough.loss > 0.0,
            description: format!("seed {}: {}", self.seed, self.description),
            world: self.world,
        }
    }

    fn interface_counts(&mut self) -> [usize; 2] {
        match self.theme {
            Theme::Nats => [1, 1],
            Theme::Meeting => [0, 1].map(|_| self.rng.random_range(0..=1)),
            Theme::Anything | Theme::Walls => [0, 1].map(|_| match self.rng.random_range(0..10) {
                0..5 => 1,
                5..8 => 2,
                _ => 3,
            }),
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

    /// One interface of a peer, somewhere.
    fn add_interface(&mut self, peer: usize) {
        let place = match self.theme {
            Theme::Nats => 25,
            _ => self.rng.random_range(0..100),
        };
        let internet = self.world.internet();
        match place {
            0..12 if self.theme != Theme::Walls => {
                let address = [203, 0, 113, self.number()];
                self.attach(peer, internet, address.into(), "on the Internet");
            }
            0..70 => self.behind_a_nat(peer),
            70..85 => self.on_ipv6(peer),
            85..93 => self.in_the_shared_network(peer),
            _ => self.in_the_isolated_network(peer),
        }
    }

    fn attach(&mut self, peer: usize, network: NetworkId, address: IpAddr, place: &str) {
        let link = self.link();
        let host = self.peers[peer];
        self.world.add_interface(host, network, address, link);
        let name = self.world.host_name(host).to_owned();
        self.note(format_args!("{name} {address} {place}, {:?}", link.delay));
    }

    /// Private addresses repeat from home to home, as they do.
    fn behind_a_nat(&mut self, peer: usize) {
        let config = self.nat();
        let outer = [203, 0, 113, self.number()];
        let carrier = self.rng.random_bool(0.15).then(|| self.nat());
        let place = format!("behind {config:?} behind {carrier:?}");
        let internet = self.world.internet();
        let home = match carrier {
            None => {
                let gateway = GatewayConfig::nat(outer, config);
                self.world.add_gateway(internet, gateway).1
            }
            Some(carrier) => {
                let gateway = GatewayConfig::nat(outer, carrier);
                let (_, middle) = self.world.add_gateway(internet, gateway);
                let inner = GatewayConfig::nat([100, 64, 0, 2], config);
                self.world.add_gateway(middle, inner).1
            }
        };
        let free: Vec<IpAddr> = (2..20).map(|n| IpAddr::from([192, 168, 1, n])).collect();
        let used = self.world.addresses(self.peers[peer]);
        let address = free.into_iter().find(|address| !used.contains(address));
        // A host never has so many interfaces; two of one address would be no two bases.
        if let Some(address) = address {
            self.attach(peer, home, address, &place);
        }
    }

    fn nat(&mut self) -> NatConfig {
        // Most boxes map endpoint-independently (RFC 4787 REQ-1), and most filter strictly.
        let mut mapping = Behaviour::ALL[[0, 0, 0, 1, 2][self.rng.random_range(0..5)]];
        let mut filtering = Behaviour::ALL[[0, 1, 2, 2][self.rng.random_range(0..4)]];
        if self.theme == Theme::Walls {
            mapping = Behaviour::AddressAndPortDependent;
            filtering = Behaviour::AddressAndPortDependent;
        }
        NatConfig {
            hairpin: self.rng.random(),
            port_preservation: self.rng.random(),
            binding_timeout: Duration::from_secs(self.rng.random_range(30..180)),
            inbound_refresh: self.rng.random(),
            ..NatConfig::new(mapping, filtering)
        }
    }

    fn on_ipv6(&mut self, peer: usize) {
        let number = self.number();
        let address = Ipv6Addr::new(0x2001, 0xdb8, number.into(), 0, 0, 0, 0, 2);
        let internet = self.world.internet();
        let stateful = self.rng.random_bool(0.5).then(|| {
            let index = self.rng.random_range(0..3);
            Behaviour::ALL[index]
        });
        let gateway = GatewayConfig {
            stateful,
            eats_udp: self.theme == Theme::Walls,
            ..GatewayConfig::default()
        };
        let place = format!("behind a firewall {stateful:?}, eats {}", gateway.eats_udp);
        let (_, network) = self.world.add_gateway(internet, gateway);
        self.attach(peer, network, address.into(), &place);
    }

    /// A network that both peers may be in, behind one NAT.
    fn in_the_shared_network(&mut self, peer: usize) {
        let network = match self.shared {
            Some(network) => network,
            None => {
                let config = self.nat();
                let outer = [203, 0, 113, self.number()];
                let internet = self.world.internet();
                let gateway = GatewayConfig::nat(outer, config.clone());
                let (_, network) = self.world.add_gateway(internet, gateway);
                self.note(format_args!("shared network behind {config:?}"));
                *self.shared.insert(network)
            }
        };
        let address = [10, 1, 0, self.number()];
        self.attach(peer, network, address.into(), "in the shared network");
    }

    /// A network that no packet leaves, as a tunnel without a way out.
    fn in_the_isolated_network(&mut self, peer: usize) {
        let network = match self.isolated {
            Some(network) => network,
            None => {
                let internet = self.world.internet();
                let gateway = GatewayConfig::default().eating_udp();
                let (_, network) = self.world.add_gateway(internet, gateway);
                *self.isolated.insert(network)
            }
        };
        let address = [10, 2, 0, self.number()];
        self.attach(peer, network, address.into(), "in the isolated network");
    }

    fn let_them_meet(&mut self) {
        let place = self.rng.random_range(0..4);
        for peer in 0..2 {
            match place {
                0 => {
                    let internet = self.world.internet();
                    let address = [203, 0, 113, self.number()];
                    self.attach(peer, internet, address.into(), "on the Internet");
                }
                1 => self.in_the_shared_network(peer),
                2 => self.in_the_isolated_network(peer),
                _ => self.on_ipv6(peer),
            }
        }
    }

    fn dig_black_holes(&mut self) {
        let share = match self.theme {
            Theme::Walls => 0.5,
            Theme::Anything => 0.15,
            Theme::Meeting | Theme::Nats => 0.05,
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
                if self.rng.random_bool(share / 5.0) {
                    self.world.black_hole_interface(peer, address);
                    let name = self.world.host_name(peer).to_owned();
                    self.note(format_args!("nothing passes {name} {address}"));
                }
            }
        }
    }

    fn raise_walls(&mut self) {
        for peer in self.peers {
            if self.rng.random_bool(0.02) {
                self.world.eat_udp(peer, true);
                let name = self.world.host_name(peer).to_owned();
                self.note(format_args!("{name} has a firewall that eats UDP"));
            }
        }
    }
}
