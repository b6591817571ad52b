//! Two agents in one world, and what came of it.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use ringtrue_ice::{ComponentId, Path, Role};
use ringtrue_testnet::{
    Delivery, GatewayConfig, HostId, Link, NatConfig, Simulation, StunServer, World,
};

use crate::agent::{Agent, Make, Setup};
use crate::is_agent::Is;
use crate::ours::Ours;
use crate::rice::Rice;

/// What an offer or an answer takes.
const SIGNALLING: Duration = Duration::from_millis(30);
/// Our patience is 10 s, and then somebody may still nominate.
const LENGTH: Duration = Duration::from_secs(12);
/// Where it has gone well, something may still go wrong.
const AFTERMATH: Duration = Duration::from_secs(5);

/// What stands between an agent and the Internet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Open,
    FullCone,
    AddressRestricted,
    PortRestricted,
    Symmetric,
    UdpBlocked,
}

impl Access {
    pub const ALL: [Self; 6] = [
        Self::Open,
        Self::FullCone,
        Self::AddressRestricted,
        Self::PortRestricted,
        Self::Symmetric,
        Self::UdpBlocked,
    ];

    fn gateway(self, outer: Ipv4Addr) -> Option<GatewayConfig> {
        let config = match self {
            Self::Open => return None,
            Self::FullCone => NatConfig::full_cone(),
            Self::AddressRestricted => NatConfig::address_restricted(),
            Self::PortRestricted => NatConfig::port_restricted(),
            Self::Symmetric => NatConfig::symmetric(),
            Self::UdpBlocked => {
                let blocked = GatewayConfig::nat(outer, NatConfig::full_cone());
                return Some(blocked.eating_udp());
            }
        };
        Some(GatewayConfig::nat(outer, config))
    }
}

/// Where the two are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Apart(Access, Access),
    /// Behind one NAT of this kind, which may hairpin.
    Together(Access),
}

impl Place {
    pub fn all() -> impl Iterator<Item = Self> {
        let apart = Access::ALL
            .into_iter()
            .flat_map(|left| Access::ALL.map(|right| Self::Apart(left, right)));
        let together = Access::ALL.into_iter().skip(1).map(Self::Together);
        apart.chain(together)
    }

    /// Whether two agents with one address each can have a path here at all: a symmetric NAT's
    /// mapping towards a port that only opens for a known port is never met.
    pub fn has_path(self) -> bool {
        use Access::{PortRestricted, Symmetric, UdpBlocked};
        match self {
            Self::Together(_) => true,
            Self::Apart(UdpBlocked, _) | Self::Apart(_, UdpBlocked) => false,
            Self::Apart(Symmetric, Symmetric | PortRestricted)
            | Self::Apart(PortRestricted, Symmetric) => false,
            Self::Apart(..) => true,
        }
    }
}

/// Who calls whom.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    pub place: Place,
    /// The first offers.
    pub makes: [Make; 2],
    pub roles: [Role; 2],
    pub components: usize,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [offerer, answerer] = self.makes;
        let [first, second] = self.roles;
        let (place, components) = (self.place, self.components);
        write!(
            f,
            "{offerer:?} ({first:?}) offers to {answerer:?} ({second:?}), {place:?}, {components} component(s)"
        )
    }
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// How many components each has a path for.
    pub chosen: [usize; 2],
    /// Whether what each sends there arrives on the other's path.
    pub carries: [bool; 2],
    /// Whether each of our agents has a proof.
    pub proofs: [bool; 2],
    pub failed: [bool; 2],
    /// From the answer's arrival until both had a path.
    pub took: Option<Duration>,
}

impl Outcome {
    pub fn is_connected(&self) -> bool {
        self.carries == [true; 2]
    }
}

const PORTS: [(ComponentId, u16); 2] = [(ComponentId::Rtp, 5004), (ComponentId::Rtcp, 5005)];

/// A host in a world, with its address.
type Seat = (HostId, Ipv4Addr);

/// The line to the Internet, or to the NAT.
fn near() -> Link {
    Link::with_delay(Duration::from_millis(20))
}

fn seat(world: &mut World, side: u8, access: Access) -> Seat {
    let host = world.add_host(["left", "right"][usize::from(side)]);
    let internet = world.internet();
    let outer = Ipv4Addr::new(203, 0, 113, 1 + side);
    match access.gateway(outer) {
        None => {
            world.add_interface(host, internet, outer, near());
            (host, outer)
        }
        Some(config) => {
            let (_, home) = world.add_gateway(internet, config);
            let inner = Ipv4Addr::new(192, 168, 1 + side, 2);
            world.add_interface(host, home, inner, near());
            (host, inner)
        }
    }
}

fn seat_together(world: &mut World, access: Access) -> [Seat; 2] {
    let internet = world.internet();
    let config = access.gateway(Ipv4Addr::new(203, 0, 113, 1));
    let home = config.map_or(internet, |config| world.add_gateway(internet, config).1);
    [0, 1].map(|side: u8| {
        let host = world.add_host(["left", "right"][usize::from(side)]);
        let inner = Ipv4Addr::new(192, 168, 1, 2 + side);
        world.add_interface(host, home, inner, near());
        (host, inner)
    })
}

fn agent(make: Make, setup: Setup, now: Instant) -> Box<dyn Agent> {
    match make {
        Make::Ours => Box::new(Ours::new(setup, now)),
        Make::Rice => Box::new(Rice::new(setup, now)),
        Make::Is => Box::new(Is::new(setup, now)),
    }
}

struct Scene {
    simulation: Simulation<Box<dyn Agent>>,
    hosts: [HostId; 2],
    components: &'static [(ComponentId, u16)],
}

impl Scene {
    fn build(call: &Call) -> Self {
        let mut world = World::new(11);
        let internet = world.internet();
        let server = world.host_at("stun", internet, [198, 51, 100, 1]);
        world.add_server(server, StunServer::new());
        let seats = match call.place {
            Place::Apart(left, right) => {
                [(0, left), (1, right)].map(|(side, access)| seat(&mut world, side, access))
            }
            Place::Together(access) => seat_together(&mut world, access),
        };
        let components = &PORTS[..call.components];
        let mut simulation = Simulation::new(world);
        for (side, (host, address)) in seats.into_iter().enumerate() {
            let bases = components
                .iter()
                .map(|(component, port)| (*component, SocketAddr::from((address, *port))));
            let setup = Setup {
                role: call.roles[side],
                bases: bases.collect(),
                stun_server: SocketAddr::from(([198, 51, 100, 1], StunServer::PORT)),
                seed: side as u64 + 1,
            };
            let now = simulation.now();
            simulation.add(host, agent(call.makes[side], setup, now));
        }
        Self {
            simulation,
            hosts: seats.map(|(host, _)| host),
            components,
        }
    }

    fn ask<T>(&self, question: impl Fn(&dyn Agent) -> T) -> [T; 2] {
        self.hosts
            .map(|host| question(self.simulation.node(host).as_ref()))
    }

    fn gather_and_signal(&mut self) {
        let hosts = self.hosts;
        // Where UDP is blocked, rice-proto asks its server for as long as RFC 8489 says.
        let gathered = self.simulation.wait_for(Duration::from_secs(60), |scene| {
            hosts.iter().all(|host| scene.node(*host).has_gathered())
        });
        assert!(gathered, "gathering ends");
        let offer = self.simulation.node_mut(hosts[0]).describe();
        self.simulation.run_for(SIGNALLING);
        let now = self.simulation.now();
        let answerer = self.simulation.node_mut(hosts[1]);
        let answer = answerer.describe();
        answerer.start(now, offer);
        self.simulation.run_for(SIGNALLING);
        let now = self.simulation.now();
        self.simulation.node_mut(hosts[0]).start(now, answer);
    }

    fn paths(&self, side: usize) -> Vec<Option<Path>> {
        let node = self.simulation.node(self.hosts[side]);
        let components = self.components.iter();
        components.map(|(id, _)| node.path(*id)).collect()
    }

    fn chosen(&self) -> [usize; 2] {
        [0, 1].map(|side| self.paths(side).iter().flatten().count())
    }

    fn is_complete(&self) -> bool {
        self.chosen() == [self.components.len(); 2]
    }

    /// Sends a datagram each way on the paths that the two have at the end.
    fn carries(self) -> [bool; 2] {
        let paths = [0, 1].map(|side| self.paths(side));
        let hosts = self.hosts;
        let mut world = self.simulation.into_world();
        [(0, 1), (1, 0)].map(|(sender, receiver)| {
            let mut pairs = paths[sender].iter().zip(&paths[receiver]);
            pairs.all(|pair| {
                let (Some(from), Some(to)) = pair else {
                    return false;
                };
                world.send_udp(hosts[sender], from.base, from.remote, b"media".to_vec());
                arrives(&mut world, hosts[receiver], *to)
            })
        })
    }
}

fn arrives(world: &mut World, host: HostId, path: Path) -> bool {
    let expected = Delivery::Datagram {
        local: path.base,
        from: path.remote,
        payload: b"media".to_vec(),
    };
    let mut arrived = false;
    while let Some(at) = world.next_event_at() {
        world.advance_to(at);
        while let Some((to, delivery)) = world.poll_delivery() {
            arrived |= to == host && delivery == expected;
        }
    }
    arrived
}

impl Call {
    /// Makes the call.
    pub fn run(&self) -> Outcome {
        let mut scene = Scene::build(self);
        scene.gather_and_signal();
        let begun = scene.simulation.now();
        let ends = begun + LENGTH;
        while !scene.is_complete() && scene.simulation.step(ends) {}
        let complete = scene.is_complete();
        let took = complete.then(|| scene.simulation.now() - begun);
        if complete {
            scene.simulation.run_for(AFTERMATH);
        }
        Outcome {
            chosen: scene.chosen(),
            proofs: scene.ask(|agent| agent.has_proof()),
            failed: scene.ask(|agent| agent.has_failed()),
            took,
            carries: scene.carries(),
        }
    }
}
