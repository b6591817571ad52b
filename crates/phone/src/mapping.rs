//! Ports that the router maps to our media sockets (PCP, NAT-PMP, UPnP). A socket behind a router has
//! its port mapped for as long as it stands: asked for when it is bound, renewed before the lifetime
//! ends, given back when it is closed.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use ringtrue_ice::{Base, Gatherer};

use crate::desk::Desk;
use crate::io::{MapRequest, Output};
use crate::settings::{IceUse, Settings};

/// A router is on the same link. One that has not answered within the first timeout of RFC 6886
/// section 3.1 holds no call up any longer, whatever the gathering patience.
const ROUTER_PATIENCE: Duration = Duration::from_millis(250);
/// A mapping that does not last so long is of no use; RFC 6887 section 15 wants two minutes at least.
const SHORTEST: Duration = Duration::from_secs(30);
/// A renewal is not tried more often.
const RENEW_AT_MOST: Duration = Duration::from_secs(10);
/// So many ports are mapped at a time.
const MOST_PORTS: usize = 64;

/// The mapped ports, by the socket that they lead to.
#[derive(Debug, Default)]
pub(crate) struct Mappings {
    ports: BTreeMap<SocketAddr, Port>,
    asked: u64,
}

#[derive(Debug)]
struct Port {
    request: MapRequest,
    lease: Option<Lease>,
}

/// A mapping that was granted.
#[derive(Debug)]
struct Lease {
    external: SocketAddr,
    ends: Instant,
    renew_at: Instant,
}

impl Lease {
    fn new(now: Instant, external: SocketAddr, ends: Instant) -> Self {
        // RFC 6887 section 11.2.1: at half of what is left.
        let half = ends.saturating_duration_since(now) / 2;
        Self {
            external,
            ends,
            renew_at: now + half.max(RENEW_AT_MOST),
        }
    }
}

/// What has become of a socket's mapping.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Remapped {
    /// The socket.
    pub(crate) base: SocketAddr,
    /// The address that leads to it.
    pub(crate) external: Option<SocketAddr>,
}

impl Mappings {
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let leases = self.ports.values().filter_map(|port| port.lease.as_ref());
        leases.map(|lease| lease.renew_at.min(lease.ends)).min()
    }
}

impl Desk {
    /// Asks the router to map the ports of these sockets, and has the gatherer wait for it.
    pub(crate) fn map_ports(&mut self, now: Instant, bases: &[Base], gatherer: &mut Gatherer) {
        if !asks_routers(&self.settings) {
            return;
        }
        for base in bases.iter().map(|base| base.address) {
            let known = self.mappings.ports.contains_key(&base);
            if known || !is_behind_router(base.ip()) || self.mappings.ports.len() >= MOST_PORTS {
                continue;
            }
            self.mappings.asked += 1;
            let request = MapRequest(self.mappings.asked);
            let port = Port {
                request,
                lease: None,
            };
            self.mappings.ports.insert(base, port);
            gatherer.await_mapping(base, now + ROUTER_PATIENCE);
            let local = base;
            self.out(Output::MapPort { request, local });
        }
    }

    /// The socket is being closed: the router may forget it.
    pub(crate) fn unmap_port(&mut self, base: SocketAddr) {
        if let Some(Port { request, .. }) = self.mappings.ports.remove(&base) {
            self.out(Output::UnmapPort { request });
        }
    }

    /// What the router gave for a request; what follows from it for the socket.
    pub(crate) fn handle_port_mapped(
        &mut self,
        now: Instant,
        request: MapRequest,
        external: Option<SocketAddr>,
        lifetime: Duration,
    ) -> Option<Remapped> {
        let mut ports = self.mappings.ports.iter_mut();
        let (base, port) = ports.find(|(_, port)| port.request == request)?;
        let base = *base;
        match (external, &mut port.lease) {
            (Some(external), lease) if is_useful(external) && lifetime >= SHORTEST => {
                *lease = Some(Lease::new(now, external, now + lifetime));
                let external = Some(external);
                Some(Remapped { base, external })
            }
            // The renewal has failed; what there is still counts, and there will be another try.
            (None, Some(lease)) => {
                *lease = Lease::new(now, lease.external, lease.ends);
                None
            }
            (useless, _) => {
                self.mappings.ports.remove(&base);
                if useless.is_some() {
                    self.out(Output::UnmapPort { request });
                }
                Some(Remapped {
                    base,
                    external: None,
                })
            }
        }
    }

    /// Renews what is to be renewed; gives the sockets whose mapping has ended.
    pub(crate) fn renew_mappings(&mut self, now: Instant) -> Vec<Remapped> {
        let (mut ended, mut renewed) = (Vec::new(), Vec::new());
        for (base, port) in &mut self.mappings.ports {
            let Some(lease) = &mut port.lease else {
                continue;
            };
            if now >= lease.ends {
                ended.push(*base);
            } else if now >= lease.renew_at {
                // In case that nobody ever answers.
                *lease = Lease::new(now, lease.external, lease.ends);
                let (request, local) = (port.request, *base);
                renewed.push(Output::MapPort { request, local });
            }
        }
        for output in renewed {
            self.out(output);
        }
        let gone = |base| {
            self.unmap_port(base);
            let external = None;
            Remapped { base, external }
        };
        ended.into_iter().map(gone).collect()
    }
}

/// A mapped port is a server-reflexive candidate: without ICE, or with relayed candidates alone,
/// there is no use for one.
fn asks_routers(settings: &Settings) -> bool {
    settings.port_mapping && settings.ice != IceUse::Off && !settings.relay_only
}

/// Whether an address is one that routers translate: private (RFC 1918), or shared (RFC 6598).
fn is_behind_router(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_private() || is_shared(v4),
        IpAddr::V6(_) => false,
    }
}

fn is_shared(v4: Ipv4Addr) -> bool {
    matches!(v4.octets(), [100, 64..=127, ..])
}

/// Whether a peer elsewhere could send there.
pub(crate) fn is_useful(external: SocketAddr) -> bool {
    external.port() != 0 && is_useful_address(external.ip())
}

/// Whether an external address is one that a peer elsewhere could reach. A private one means that
/// the router is behind another one, which knows nothing of the mapping.
pub(crate) fn is_useful_address(external: IpAddr) -> bool {
    match external {
        IpAddr::V4(v4) => {
            let special = v4.is_unspecified()
                || v4.octets()[0] == 0
                || v4.octets()[0] >= 240
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_multicast();
            !special && !is_behind_router(external)
        }
        IpAddr::V6(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_nobody_elsewhere_reaches_are_useless() {
        for useless in [
            "0.0.0.0",
            "0.1.2.3",
            "10.1.2.3",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "169.254.1.1",
            "172.31.0.1",
            "192.168.0.1",
            "224.0.0.251",
            "239.255.255.250",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
        ] {
            assert!(!is_useful_address(useless.parse().unwrap()), "{useless}");
        }
        for useful in ["100.63.255.255", "100.128.0.1", "203.0.113.1", "172.32.0.1"] {
            assert!(is_useful_address(useful.parse().unwrap()), "{useful}");
        }
        assert!(!is_useful("203.0.113.1:0".parse().unwrap()));
    }
}
