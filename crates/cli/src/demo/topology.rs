//! The networks of the demo.

use std::fmt;
use std::time::Duration;

use ringtrue_testnet::{
    GatewayConfig, HostId, Link, NatConfig, NetworkId, SipProxy, StunServer, World,
};

/// Where the SIP proxy lives.
pub(super) const PROXY: &str = "198.51.100.10";
/// Where the STUN server lives.
pub(super) const STUN: &str = "198.51.100.20";
/// One way between any two places on the Internet.
const DELAY: Duration = Duration::from_millis(20);

/// Where alice and bob are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topology {
    /// Both on the open Internet.
    Open,
    /// Both behind NATs that filter by address and port.
    PortRestricted,
    /// Both behind NATs that also map anew for every destination: no direct path.
    Symmetric,
    /// Bob behind a firewall that eats UDP; his signalling goes by TCP.
    UdpEaten,
}

impl Topology {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 4] = [
        Self::Open,
        Self::PortRestricted,
        Self::Symmetric,
        Self::UdpEaten,
    ];

    /// The word in the JSON events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::PortRestricted => "port-restricted",
            Self::Symmetric => "symmetric",
            Self::UdpEaten => "udp-eaten",
        }
    }

    /// How SIP goes to the proxy from bob's place.
    pub(super) fn signalling_by_tcp(self) -> bool {
        self == Self::UdpEaten
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open Internet",
            Self::PortRestricted => "both behind port-restricted NATs",
            Self::Symmetric => "both behind symmetric NATs",
            Self::UdpEaten => "a firewall eats bob's UDP",
        })
    }
}

/// The virtual Internet of a topology, with its servers, and the hosts of alice and bob.
pub(super) fn build(topology: Topology, seed: u64) -> (World, HostId, HostId) {
    let mut world = World::new(seed);
    let internet = world.internet();
    let proxy = world.host_at("proxy", internet, [198, 51, 100, 10]);
    let address = std::net::SocketAddr::from(([198, 51, 100, 10], 5060));
    world.add_server(proxy, SipProxy::new([address]));
    world.listen(proxy, 5060);
    let stun = world.host_at("stun", internet, [198, 51, 100, 20]);
    world.add_server(stun, StunServer::new());

    let alice_net = place(&mut world, topology, Who::Alice);
    let bob_net = place(&mut world, topology, Who::Bob);
    let (alice_ip, bob_ip) = match topology {
        Topology::Open => ([203, 0, 113, 1], [203, 0, 113, 2]),
        _ => ([192, 168, 1, 10], [10, 0, 0, 20]),
    };
    let alice = world.add_host("alice");
    world.add_interface(alice, alice_net, alice_ip, Link::default());
    let bob = world.add_host("bob");
    world.add_interface(bob, bob_net, bob_ip, Link::default());
    let pairs = [
        (alice, proxy),
        (bob, proxy),
        (alice, stun),
        (bob, stun),
        (alice, bob),
    ];
    for (one, other) in pairs {
        world.set_delay_between(one, other, DELAY);
    }
    (world, alice, bob)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Alice,
    Bob,
}

/// The network that somebody is in.
fn place(world: &mut World, topology: Topology, who: Who) -> NetworkId {
    let internet = world.internet();
    let outer = match who {
        Who::Alice => [203, 0, 113, 1],
        Who::Bob => [203, 0, 113, 2],
    };
    let gateway = match topology {
        Topology::Open => return internet,
        Topology::PortRestricted => GatewayConfig::nat(outer, NatConfig::port_restricted()),
        Topology::Symmetric => GatewayConfig::nat(outer, NatConfig::symmetric()),
        Topology::UdpEaten => {
            let plain = GatewayConfig::nat(outer, NatConfig::port_restricted());
            if who == Who::Bob {
                plain.eating_udp()
            } else {
                plain
            }
        }
    };
    world.add_gateway(internet, gateway).1
}
