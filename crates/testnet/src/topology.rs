//! What stands in a world: networks, the gateways between them, hosts and their interfaces.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::nat::{Behaviour, NatConfig};
use crate::ports::PortMapping;

/// A host of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostId(pub usize);

/// A network: interfaces and gateways that reach each other directly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NetworkId(pub usize);

/// A gateway: the box between an inner network and an outer one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GatewayId(pub usize);

/// The line between an interface and its network, or between a gateway and its outer network.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Link {
    /// The one-way delay.
    pub delay: Duration,
    /// Added to each packet anew, from zero to this; so packets overtake each other.
    pub jitter: Duration,
    /// The share of packets that get lost, 0 to 1, each way.
    pub loss: f64,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            loss: 0.0,
        }
    }
}

impl Link {
    /// A line with this one-way delay that loses nothing.
    pub fn with_delay(delay: Duration) -> Self {
        Self {
            delay,
            ..Self::default()
        }
    }
}

/// What a gateway does with what passes.
#[derive(Debug, Clone, PartialEq)]
pub struct GatewayConfig {
    /// Translates IPv4 to this outer address; without, IPv4 is routed as it is.
    pub nat: Option<(IpAddr, NatConfig)>,
    /// What is routed (IPv6, and IPv4 without a NAT) comes in only after something went out, by
    /// this filtering (RFC 6092); without, everything comes in.
    pub stateful: Option<Behaviour>,
    /// A firewall that eats UDP, both ways. Streams pass.
    pub eats_udp: bool,
    /// Whether and how it maps ports to inner hosts that ask for them.
    pub port_mapping: Option<PortMapping>,
    /// Whether nothing passes but TCP connections to port 443 outside.
    pub only_web: bool,
    /// The line to the outer network.
    pub link: Link,
}

impl Default for GatewayConfig {
    /// A plain router.
    fn default() -> Self {
        Self {
            nat: None,
            stateful: None,
            eats_udp: false,
            port_mapping: None,
            only_web: false,
            link: Link::default(),
        }
    }
}

impl GatewayConfig {
    /// A NAT with this outer address; IPv6 behind it is routed through a stateful firewall.
    pub fn nat(outer: impl Into<IpAddr>, config: NatConfig) -> Self {
        Self {
            nat: Some((outer.into(), config)),
            stateful: Some(Behaviour::AddressAndPortDependent),
            ..Self::default()
        }
    }

    /// The same, but no UDP passes.
    pub fn eating_udp(mut self) -> Self {
        self.eats_udp = true;
        self
    }

    /// The same, but inner hosts can ask for ports.
    pub fn mapping_ports(mut self, service: PortMapping) -> Self {
        self.port_mapping = Some(service);
        self
    }

    /// The same, as a firewall that lets only web traffic through: TCP to port 443.
    pub fn only_web(mut self) -> Self {
        self.only_web = true;
        self
    }

    /// The same with this line to the outer network.
    pub fn with_link(mut self, link: Link) -> Self {
        self.link = link;
        self
    }
}

/// What is attached to a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Attachment {
    Interface(HostId, usize),
    Gateway(GatewayId),
}

#[derive(Debug, Clone)]
pub(crate) struct Interface {
    pub(crate) network: NetworkId,
    pub(crate) address: IpAddr,
    pub(crate) link: Link,
    pub(crate) black_hole: bool,
    /// The address was taken away.
    pub(crate) removed: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) interfaces: Vec<Interface>,
    pub(crate) eats_udp: bool,
    pub(crate) listening: BTreeSet<u16>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Network {
    /// The gateway to the outer network; none for the Internet.
    pub(crate) gateway: Option<GatewayId>,
    pub(crate) attached: HashMap<IpAddr, Attachment>,
    /// Addresses that are routed inwards, through this gateway.
    pub(crate) routes: HashMap<IpAddr, GatewayId>,
    /// Delays between two attachments, both ways.
    pub(crate) distances: BTreeMap<(Attachment, Attachment), Duration>,
}

#[derive(Debug, Clone)]
pub(crate) struct Gateway {
    pub(crate) inner: NetworkId,
    pub(crate) outer: NetworkId,
    pub(crate) config: GatewayConfig,
}

impl Gateway {
    /// The NAT that packets of this address family go through, if they do.
    pub(crate) fn nat_for(&self, address: IpAddr) -> Option<(IpAddr, &NatConfig)> {
        let (outer, config) = self.config.nat.as_ref()?;
        (outer.is_ipv4() == address.is_ipv4()).then_some((*outer, config))
    }
}

/// Everything that stays as it is while packets fly.
#[derive(Debug, Clone)]
pub(crate) struct Topology {
    pub(crate) hosts: Vec<Host>,
    pub(crate) networks: Vec<Network>,
    pub(crate) gateways: Vec<Gateway>,
    /// From the first interface nothing reaches the second.
    pub(crate) black_holes: BTreeSet<((HostId, IpAddr), (HostId, IpAddr))>,
}

impl Topology {
    pub(crate) fn new() -> Self {
        Self {
            hosts: Vec::new(),
            networks: vec![Network::default()],
            gateways: Vec::new(),
            black_holes: BTreeSet::new(),
        }
    }

    pub(crate) fn add_gateway(
        &mut self,
        outer: NetworkId,
        config: GatewayConfig,
    ) -> (GatewayId, NetworkId) {
        let gateway = GatewayId(self.gateways.len());
        let inner = NetworkId(self.networks.len());
        self.networks.push(Network {
            gateway: Some(gateway),
            ..Network::default()
        });
        if let Some((address, _)) = config.nat {
            self.attach(outer, address, Attachment::Gateway(gateway));
        }
        self.gateways.push(Gateway {
            inner,
            outer,
            config,
        });
        (gateway, inner)
    }

    pub(crate) fn add_host(&mut self, name: &str) -> HostId {
        self.hosts.push(Host {
            name: name.to_owned(),
            interfaces: Vec::new(),
            eats_udp: false,
            listening: BTreeSet::new(),
        });
        HostId(self.hosts.len() - 1)
    }

    pub(crate) fn add_interface(
        &mut self,
        host: HostId,
        network: NetworkId,
        address: IpAddr,
        link: Link,
    ) {
        let index = self.hosts[host.0].interfaces.len();
        self.attach(network, address, Attachment::Interface(host, index));
        self.hosts[host.0].interfaces.push(Interface {
            network,
            address,
            link,
            black_hole: false,
            removed: false,
        });
    }

    /// Takes an address in a network and makes it reachable from every network outside that is
    /// not separated from it by a translation.
    fn attach(&mut self, network: NetworkId, address: IpAddr, attachment: Attachment) {
        let taken = self.networks[network.0]
            .attached
            .insert(address, attachment);
        assert!(taken.is_none(), "{address} is taken in network {network:?}");
        let mut inner = network;
        while let Some(gateway) = self.networks[inner.0].gateway {
            let Gateway { outer, .. } = self.gateways[gateway.0];
            if self.gateways[gateway.0].nat_for(address).is_some() {
                break;
            }
            self.networks[outer.0].routes.insert(address, gateway);
            inner = outer;
        }
    }

    pub(crate) fn remove_address(&mut self, host: HostId, address: IpAddr) {
        let Some(interface) = self.interface_mut(host, address) else {
            return;
        };
        interface.black_hole = true;
        interface.removed = true;
        let mut network = interface.network;
        self.networks[network.0].attached.remove(&address);
        while let Some(gateway) = self.networks[network.0].gateway {
            network = self.gateways[gateway.0].outer;
            if self.networks[network.0].routes.get(&address) == Some(&gateway) {
                self.networks[network.0].routes.remove(&address);
            }
        }
    }

    pub(crate) fn interface(&self, host: HostId, address: IpAddr) -> Option<(usize, &Interface)> {
        let interfaces = self.hosts[host.0].interfaces.iter().enumerate();
        interfaces
            .rev()
            .find(|(_, interface)| interface.address == address)
    }

    pub(crate) fn interface_mut(
        &mut self,
        host: HostId,
        address: IpAddr,
    ) -> Option<&mut Interface> {
        let interfaces = self.hosts[host.0].interfaces.iter_mut();
        interfaces
            .rev()
            .find(|interface| interface.address == address)
    }

    /// The address that a socket bound to the unspecified address sends from: that of an interface
    /// in the destination's network, else of the first interface of that family.
    pub(crate) fn source_for(&self, host: HostId, destination: IpAddr) -> Option<IpAddr> {
        let same_family = || {
            let interfaces = self.hosts[host.0].interfaces.iter();
            interfaces.filter(|i| !i.removed && i.address.is_ipv4() == destination.is_ipv4())
        };
        let local = |network: NetworkId| {
            let attached = &self.networks[network.0].attached;
            attached.contains_key(&destination)
        };
        same_family()
            .find(|interface| local(interface.network))
            .or_else(|| same_family().next())
            .map(|interface| interface.address)
    }

    /// The delay between two attachments of a network, if one was set.
    pub(crate) fn distance(
        &self,
        network: NetworkId,
        from: Attachment,
        to: Attachment,
    ) -> Duration {
        let distances = &self.networks[network.0].distances;
        distances.get(&(from, to)).copied().unwrap_or_default()
    }

    /// The attachments by which an interface is present in its network and in those outside it.
    fn presence(&self, host: HostId, index: usize) -> Vec<(NetworkId, Attachment)> {
        let mut network = self.hosts[host.0].interfaces[index].network;
        let mut present = vec![(network, Attachment::Interface(host, index))];
        while let Some(gateway) = self.networks[network.0].gateway {
            network = self.gateways[gateway.0].outer;
            present.push((network, Attachment::Gateway(gateway)));
        }
        present
    }

    /// Sets the delay between two hosts, in the innermost network that both are present in, for
    /// each pair of their interfaces.
    pub(crate) fn set_distance(&mut self, a: HostId, b: HostId, delay: Duration) {
        for i in 0..self.hosts[a.0].interfaces.len() {
            for j in 0..self.hosts[b.0].interfaces.len() {
                let (left, right) = (self.presence(a, i), self.presence(b, j));
                let meeting = left.iter().find_map(|(network, mine)| {
                    let met = right.iter().find(|(other, _)| other == network)?;
                    Some((*network, *mine, met.1))
                });
                if let Some((network, mine, theirs)) = meeting {
                    let distances = &mut self.networks[network.0].distances;
                    distances.insert((mine, theirs), delay);
                    distances.insert((theirs, mine), delay);
                }
            }
        }
    }

    pub(crate) fn links_mut(&mut self) -> impl Iterator<Item = &mut Link> {
        let interfaces = self.hosts.iter_mut().flat_map(|host| &mut host.interfaces);
        let gateways = self.gateways.iter_mut();
        interfaces
            .map(|interface| &mut interface.link)
            .chain(gateways.map(|gateway| &mut gateway.config.link))
    }

    pub(crate) fn is_black_hole(&self, from: (HostId, IpAddr), to: (HostId, IpAddr)) -> bool {
        self.black_holes.contains(&(from, to))
    }
}

/// Whether two endpoints are of one address family.
pub(crate) fn same_family(a: SocketAddr, b: SocketAddr) -> bool {
    a.is_ipv4() == b.is_ipv4()
}
