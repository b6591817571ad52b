//! Gateways that map ports to inner hosts on request, as PCP, NAT-PMP and UPnP have them do; the
//! protocols themselves are not spoken here.

use std::net::SocketAddr;
use std::time::Duration;

use crate::node::Delivery;
use crate::topology::{GatewayId, HostId};
use crate::world::{Event, World};

/// How a gateway answers who asks for a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortMapping {
    /// How long it thinks.
    pub delay: Duration,
    /// For how long it maps a port.
    pub lifetime: Duration,
    /// What it says.
    pub says: MappingAnswer,
}

/// What a gateway says to who asks for a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MappingAnswer {
    /// The port that it maps.
    Truth,
    /// This address, and maps nothing.
    Lie(SocketAddr),
    /// That it maps nothing.
    No,
    /// Nothing at all.
    Silence,
}

impl Default for PortMapping {
    /// After 5 ms, for two minutes, the truth.
    fn default() -> Self {
        Self {
            delay: Duration::from_millis(5),
            lifetime: Duration::from_secs(120),
            says: MappingAnswer::Truth,
        }
    }
}

impl World {
    /// A host asks the gateway of this address for a port. Without a gateway, or by one that maps
    /// no ports, the answer is no, at once.
    pub(crate) fn ask_for_port(&mut self, host: HostId, request: u64, local: SocketAddr) {
        let gateway = self.gateway_of(host, local);
        let service = gateway.and_then(|id| {
            let config = &self.topology.gateways[id.0].config;
            config.port_mapping.clone()
        });
        let delay = service
            .as_ref()
            .map_or(Duration::ZERO, |service| service.delay);
        let mapped = match service {
            Some(PortMapping {
                says: MappingAnswer::Silence,
                ..
            }) => return,
            Some(PortMapping {
                says: MappingAnswer::Lie(address),
                lifetime,
                ..
            }) => Some((address, lifetime)),
            Some(PortMapping {
                says: MappingAnswer::Truth,
                lifetime,
                ..
            }) => gateway.and_then(|id| Some((self.map_port(id, local, lifetime)?, lifetime))),
            Some(PortMapping {
                says: MappingAnswer::No,
                ..
            })
            | None => None,
        };
        let delivery = Delivery::PortMapped { request, mapped };
        self.schedule(delay, Event::Delivery(host, delivery));
    }

    fn map_port(
        &mut self,
        id: GatewayId,
        local: SocketAddr,
        lifetime: Duration,
    ) -> Option<SocketAddr> {
        let (outer, config) = self.topology.gateways[id.0].nat_for(local.ip())?;
        let times = (self.now, self.now + lifetime);
        let nat = &mut self.nats[id.0];
        let port = nat.map_port(config, times, local, &mut self.port_rng)?;
        Some(SocketAddr::new(outer, port))
    }

    /// A host gives a port back to the gateway of this address.
    pub(crate) fn give_port_back(&mut self, host: HostId, local: SocketAddr) {
        if let Some(id) = self.gateway_of(host, local) {
            self.nats[id.0].unmap_port(local);
        }
    }

    fn gateway_of(&self, host: HostId, local: SocketAddr) -> Option<GatewayId> {
        let network = self.network_of(host, local.ip())?;
        self.topology.networks[network.0].gateway
    }

    /// How many ports a gateway maps because inner hosts have asked for them.
    pub fn ports_mapped(&self, gateway: GatewayId) -> usize {
        self.nats[gateway.0].ports_asked_for(self.now)
    }
}
