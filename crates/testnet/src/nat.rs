//! Network address translators in the terms of RFC 4787.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// What a mapping or a filter depends on (RFC 4787 sections 4.1 and 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Behaviour {
    /// On the inner endpoint alone.
    EndpointIndependent,
    /// On the inner endpoint and the remote address.
    AddressDependent,
    /// On the inner endpoint, the remote address and the remote port.
    AddressAndPortDependent,
}

impl Behaviour {
    /// All three, from the most permissive to the least.
    pub const ALL: [Self; 3] = [
        Self::EndpointIndependent,
        Self::AddressDependent,
        Self::AddressAndPortDependent,
    ];

    /// The part of a remote endpoint that this behaviour looks at.
    fn view(self, remote: SocketAddr) -> RemoteView {
        match self {
            Self::EndpointIndependent => (None, None),
            Self::AddressDependent => (Some(remote.ip()), None),
            Self::AddressAndPortDependent => (Some(remote.ip()), Some(remote.port())),
        }
    }
}

type RemoteView = (Option<IpAddr>, Option<u16>);

/// The transport protocol of a packet in the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Protocol {
    /// Datagrams.
    Udp,
    /// Reliable byte streams.
    Tcp,
}

/// How one NAT behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatConfig {
    /// When a mapping is used again for another destination (RFC 4787 section 4.1).
    pub mapping: Behaviour,
    /// Whose packets come in through a mapping (RFC 4787 section 5).
    pub filtering: Behaviour,
    /// Whether inner hosts reach each other by their outer addresses (RFC 4787 section 6).
    pub hairpin: bool,
    /// Whether the outer port is the inner one where that is free (RFC 4787 section 4.2.1).
    pub port_preservation: bool,
    /// How long a UDP mapping lives without outbound packets (RFC 4787 section 4.3; REQ-5: two
    /// minutes or more, though many boxes take 30 s).
    pub binding_timeout: Duration,
    /// Whether an inbound packet keeps a mapping alive too (RFC 4787 REQ-6).
    pub inbound_refresh: bool,
}

impl NatConfig {
    /// A NAT with this mapping and filtering; hairpinning, port preservation, two minutes.
    pub fn new(mapping: Behaviour, filtering: Behaviour) -> Self {
        Self {
            mapping,
            filtering,
            hairpin: true,
            port_preservation: true,
            binding_timeout: Duration::from_secs(120),
            inbound_refresh: false,
        }
    }

    /// Endpoint-independent mapping and filtering: "full cone".
    pub fn full_cone() -> Self {
        Self::new(
            Behaviour::EndpointIndependent,
            Behaviour::EndpointIndependent,
        )
    }

    /// Endpoint-independent mapping, address-dependent filtering: "address-restricted".
    pub fn address_restricted() -> Self {
        Self::new(Behaviour::EndpointIndependent, Behaviour::AddressDependent)
    }

    /// Endpoint-independent mapping, address-and-port-dependent filtering: "port-restricted".
    pub fn port_restricted() -> Self {
        Self::new(
            Behaviour::EndpointIndependent,
            Behaviour::AddressAndPortDependent,
        )
    }

    /// Address-and-port-dependent mapping and filtering, random ports: "symmetric".
    pub fn symmetric() -> Self {
        Self {
            port_preservation: false,
            ..Self::new(
                Behaviour::AddressAndPortDependent,
                Behaviour::AddressAndPortDependent,
            )
        }
    }

    /// The same without hairpinning.
    pub fn without_hairpin(mut self) -> Self {
        self.hairpin = false;
        self
    }
}

/// TCP mappings outlive anything that the world is used for (RFC 5382 REQ-5).
const TCP_TIMEOUT: Duration = Duration::from_secs(7_440);

type MappingKey = (Protocol, SocketAddr, RemoteView);

#[derive(Debug, Clone)]
struct Mapping {
    key: MappingKey,
    /// When it was used last in a direction that refreshes it.
    refreshed: Instant,
    /// Remote endpoints that the inner endpoint has sent to through this mapping.
    permitted: BTreeMap<SocketAddr, Instant>,
}

/// A UDP port that an inner host asked for: everybody comes in through it, and what the host sends
/// leaves by it, but for what had another way out before.
#[derive(Debug, Clone)]
struct Asked {
    inner: SocketAddr,
    ends: Instant,
}

/// The mappings of one NAT at work.
#[derive(Debug, Clone, Default)]
pub(crate) struct Nat {
    by_inner: HashMap<MappingKey, u16>,
    by_port: HashMap<(Protocol, u16), Mapping>,
    asked: BTreeMap<u16, Asked>,
}

impl Nat {
    /// Forgets every mapping, as a box does that loses power.
    pub(crate) fn reboot(&mut self) {
        *self = Self::default();
    }

    /// A packet leaves: gives the outer port, made now if need be. `None` when all are in use.
    pub(crate) fn outbound(
        &mut self,
        config: &NatConfig,
        now: Instant,
        protocol: Protocol,
        (inner, remote): (SocketAddr, SocketAddr),
        rng: &mut ChaCha8Rng,
    ) -> Option<u16> {
        let key = (protocol, inner, config.mapping.view(remote));
        let asked = self
            .asked
            .iter()
            .find(|(_, asked)| asked.inner == inner && now < asked.ends);
        if let (Protocol::Udp, Some((port, _))) = (protocol, asked)
            && !self.has_sent(config, now, key, remote)
        {
            return Some(*port);
        }
        let port = match self.by_inner.get(&key).copied() {
            Some(port) if self.lives(config, now, protocol, port) => port,
            stale => {
                if let Some(port) = stale {
                    self.forget(protocol, port);
                }
                let port = self.free_port(config, now, protocol, inner.port(), rng)?;
                let mapping = Mapping {
                    key,
                    refreshed: now,
                    permitted: BTreeMap::new(),
                };
                self.by_inner.insert(key, port);
                self.by_port.insert((protocol, port), mapping);
                port
            }
        };
        let mapping = self.by_port.get_mut(&(protocol, port))?;
        mapping.refreshed = now;
        mapping.permitted.insert(remote, now);
        Some(port)
    }

    /// An inner host asks for a UDP port, or renews it: gives the outer one.
    pub(crate) fn map_port(
        &mut self,
        config: &NatConfig,
        (now, ends): (Instant, Instant),
        inner: SocketAddr,
        rng: &mut ChaCha8Rng,
    ) -> Option<u16> {
        self.asked.retain(|_, asked| now < asked.ends);
        let known = self
            .asked
            .iter_mut()
            .find(|(_, asked)| asked.inner == inner);
        if let Some((port, asked)) = known {
            asked.ends = ends;
            return Some(*port);
        }
        let port = self.free_port(config, now, Protocol::Udp, inner.port(), rng)?;
        self.asked.insert(port, Asked { inner, ends });
        Some(port)
    }

    /// An inner host gives a port back.
    pub(crate) fn unmap_port(&mut self, inner: SocketAddr) {
        self.asked.retain(|_, asked| asked.inner != inner);
    }

    /// How many ports inner hosts have asked for.
    pub(crate) fn ports_asked_for(&self, now: Instant) -> usize {
        self.asked.values().filter(|asked| now < asked.ends).count()
    }

    /// A packet from `remote` arrives at an outer port: gives the inner endpoint, if one is mapped
    /// there and the filter lets the packet in.
    pub(crate) fn inbound(
        &mut self,
        config: &NatConfig,
        now: Instant,
        protocol: Protocol,
        remote: SocketAddr,
        port: u16,
    ) -> Option<SocketAddr> {
        if protocol == Protocol::Udp
            && let Some(asked) = self.asked.get(&port).filter(|asked| now < asked.ends)
        {
            return Some(asked.inner);
        }
        if !self.lives(config, now, protocol, port) {
            return None;
        }
        let timeout = timeout(config, protocol);
        let mapping = self.by_port.get_mut(&(protocol, port))?;
        let wanted = config.filtering.view(remote);
        let permitted = wanted == (None, None)
            || mapping.permitted.iter().any(|(sent_to, at)| {
                config.filtering.view(*sent_to) == wanted && now.duration_since(*at) < timeout
            });
        if !permitted {
            return None;
        }
        if config.inbound_refresh {
            mapping.refreshed = now;
            if let Some(at) = mapping.permitted.get_mut(&remote) {
                *at = now;
            }
        }
        Some(mapping.key.1)
    }

    /// Whether a mapping stands by which the inner endpoint has sent there.
    fn has_sent(
        &self,
        config: &NatConfig,
        now: Instant,
        key: MappingKey,
        remote: SocketAddr,
    ) -> bool {
        let Some(port) = self.by_inner.get(&key).copied() else {
            return false;
        };
        let mapping = self.by_port.get(&(key.0, port));
        self.lives(config, now, key.0, port)
            && mapping.is_some_and(|mapping| mapping.permitted.contains_key(&remote))
    }

    fn lives(&self, config: &NatConfig, now: Instant, protocol: Protocol, port: u16) -> bool {
        self.by_port.get(&(protocol, port)).is_some_and(|mapping| {
            now.duration_since(mapping.refreshed) < timeout(config, protocol)
        })
    }

    fn forget(&mut self, protocol: Protocol, port: u16) {
        if let Some(mapping) = self.by_port.remove(&(protocol, port)) {
            self.by_inner.remove(&mapping.key);
        }
    }

    fn free_port(
        &mut self,
        config: &NatConfig,
        now: Instant,
        protocol: Protocol,
        inner: u16,
        rng: &mut ChaCha8Rng,
    ) -> Option<u16> {
        const TRIES: usize = 1_000;
        let preserved = config.port_preservation.then_some(inner);
        let random = (0..TRIES).map(|_| rng.random_range(1_024..=u16::MAX));
        let port = preserved.into_iter().chain(random).find(|port| {
            !self.lives(config, now, protocol, *port) && !self.asked.contains_key(port)
        })?;
        self.forget(protocol, port);
        Some(port)
    }
}

fn timeout(config: &NatConfig, protocol: Protocol) -> Duration {
    match protocol {
        Protocol::Udp => config.binding_timeout,
        Protocol::Tcp => TCP_TIMEOUT,
    }
}

/// A stateful firewall without translation (RFC 6092 for IPv6): what the inside has not spoken to
/// does not come in.
#[derive(Debug, Clone, Default)]
pub(crate) struct StatefulFilter {
    permitted: HashMap<(Protocol, SocketAddr), BTreeMap<SocketAddr, Instant>>,
}

impl StatefulFilter {
    const TIMEOUT: Duration = Duration::from_secs(120);

    pub(crate) fn reboot(&mut self) {
        self.permitted.clear();
    }

    pub(crate) fn outbound(
        &mut self,
        now: Instant,
        protocol: Protocol,
        inner: SocketAddr,
        remote: SocketAddr,
    ) {
        let sent_to = self.permitted.entry((protocol, inner)).or_default();
        sent_to.insert(remote, now);
    }

    pub(crate) fn inbound(
        &self,
        filtering: Behaviour,
        now: Instant,
        protocol: Protocol,
        remote: SocketAddr,
        inner: SocketAddr,
    ) -> bool {
        let wanted = filtering.view(remote);
        self.permitted
            .get(&(protocol, inner))
            .is_some_and(|sent_to| {
                sent_to.iter().any(|(other, at)| {
                    let fresh =
                        protocol == Protocol::Tcp || now.duration_since(*at) < Self::TIMEOUT;
                    filtering.view(*other) == wanted && fresh
                })
            })
    }
}
