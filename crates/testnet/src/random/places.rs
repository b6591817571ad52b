//! Where the interfaces of random worlds are.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use rand::RngExt;

use super::{Builder, Theme};
use crate::nat::{Behaviour, NatConfig};
use crate::topology::{GatewayConfig, NetworkId};

impl Builder {
    /// One interface of a peer, somewhere.
    pub(super) fn add_interface(&mut self, peer: usize) {
        let place = match self.theme {
            Theme::Nats => 25,
            Theme::Families => [0, 25, 62, 72][self.rng.random_range(0..4)],
            // At least the first can reach the relay.
            Theme::Relays if self.preferred[peer].is_empty() => 25,
            _ => self.rng.random_range(0..100),
        };
        match place {
            0..12 if !matches!(self.theme, Theme::Walls | Theme::Relays) => {
                self.on_the_internet(peer);
            }
            0..55 => self.behind_a_nat(peer, false),
            55..66 => self.behind_a_nat(peer, true),
            66..77 => self.on_ipv6(peer),
            77..84 => self.in_the_shared_network(peer),
            84..89 => self.in_the_isolated_network(peer),
            89..95 => self.in_the_tunnel(peer),
            _ => self.on_a_dead_line(peer),
        }
    }

    /// An interface, whose address the peer prefers to its others or does not.
    fn attach(&mut self, peer: usize, network: NetworkId, address: IpAddr, place: &str) {
        let link = self.link();
        let host = self.peers[peer];
        self.world.add_interface(host, network, address, link);
        let name = self.world.host_name(host).to_owned();
        self.note(format_args!("{name} {address} {place}, {:?}", link.delay));
        self.preferred[peer].push(address);
    }

    fn prefer_the_last(&mut self, peer: usize) {
        self.preferred[peer].rotate_right(1);
    }

    fn on_the_internet(&mut self, peer: usize) {
        let internet = self.world.internet();
        let address = [203, 0, 113, self.number()];
        self.attach(peer, internet, address.into(), "on the Internet");
    }

    /// Private addresses repeat from home to home, as they do. IPv6 is routed there.
    fn behind_a_nat(&mut self, peer: usize, dual_stack: bool) {
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
        if dual_stack {
            let address = self.global_address();
            self.attach(peer, home, address, "beside it");
            if self.rng.random() {
                self.prefer_the_last(peer);
            }
        }
    }

    fn nat(&mut self) -> NatConfig {
        // Most boxes map endpoint-independently (RFC 4787 REQ-1), and most filter strictly.
        let mut mapping = Behaviour::ALL[[0, 0, 0, 1, 2][self.rng.random_range(0..5)]];
        let mut filtering = Behaviour::ALL[[0, 1, 2, 2][self.rng.random_range(0..4)]];
        if matches!(self.theme, Theme::Walls | Theme::Relays) {
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

    fn global_address(&mut self) -> IpAddr {
        let number = self.number();
        Ipv6Addr::new(0x2001, 0xdb8, number.into(), 0, 0, 0, 0, 2).into()
    }

    fn on_ipv6(&mut self, peer: usize) {
        let address = self.global_address();
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
        self.attach(peer, network, address, &place);
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

    /// A network that both peers may be in; the NAT before it lets no UDP through.
    fn in_the_isolated_network(&mut self, peer: usize) {
        let network = match self.isolated {
            Some(network) => network,
            None => {
                let network = self.network_without_udp();
                *self.isolated.insert(network)
            }
        };
        let address = [10, 2, 0, self.number()];
        self.attach(peer, network, address.into(), "in the isolated network");
    }

    fn network_without_udp(&mut self) -> NetworkId {
        let outer = [203, 0, 113, self.number()];
        let gateway = GatewayConfig::nat(outer, self.nat()).eating_udp();
        let internet = self.world.internet();
        self.world.add_gateway(internet, gateway).1
    }

    /// A tunnel to a network behind one NAT. Both peers may be in it, and prefer it.
    fn in_the_tunnel(&mut self, peer: usize) {
        let network = match self.tunnel {
            Some(network) => network,
            None => {
                let config = self.nat();
                let outer = [203, 0, 113, self.number()];
                let internet = self.world.internet();
                let gateway = GatewayConfig::nat(outer, config.clone());
                let (_, network) = self.world.add_gateway(internet, gateway);
                self.note(format_args!("the tunnel ends behind {config:?}"));
                *self.tunnel.insert(network)
            }
        };
        let address = [10, 8, 0, self.number()];
        self.attach(peer, network, address.into(), "in the tunnel");
        self.prefer_the_last(peer);
    }

    /// The network of a cable that is not plugged in, or of containers.
    fn on_a_dead_line(&mut self, peer: usize) {
        let network = self.network_without_udp();
        let address = match self.rng.random_bool(0.3) {
            true => self.global_address(),
            false => IpAddr::from([10, 9, 0, self.number()]),
        };
        self.attach(peer, network, address, "on a dead line");
        self.kill(self.peers[peer], address);
        if self.rng.random() {
            self.prefer_the_last(peer);
        }
    }

    pub(super) fn let_them_meet(&mut self) {
        let place = self.rng.random_range(0..5);
        for peer in 0..2 {
            match place {
                0 => self.on_the_internet(peer),
                1 => self.in_the_shared_network(peer),
                2 => self.in_the_isolated_network(peer),
                3 => self.in_the_tunnel(peer),
                _ => self.on_ipv6(peer),
            }
        }
    }

    /// One side without UDP, and a way by TCP to the other.
    pub(super) fn leave_them_streams(&mut self) {
        let walled = self.rng.random_range(0..2);
        let other = 1 - walled;
        match self.rng.random_range(0..5) {
            0..3 => {
                let network = self.network_without_udp();
                let address = [10, 3, 0, self.number()];
                self.attach(walled, network, address.into(), "where no UDP leaves");
                self.on_the_internet(other);
            }
            3 => {
                for peer in 0..2 {
                    self.in_the_shared_network(peer);
                }
            }
            _ => {
                for peer in 0..2 {
                    self.on_ipv6(peer);
                }
            }
        }
        // What else it has would let UDP through.
        if self.rng.random_bool(0.8) {
            self.eat_udp(self.peers[walled]);
        }
    }
}
