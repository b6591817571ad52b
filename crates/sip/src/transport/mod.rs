//! Where messages go and where they came from (RFC 3261 section 18, RFC 3581).

mod connections;
mod hop;
mod local;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

pub(crate) use connections::{Connections, StreamInput};
pub(crate) use hop::{Hop, Named, Verified, bare};
pub(crate) use local::{host_towards, socket_towards};

use crate::dns::Place;
use crate::endpoint::ConnectionId;
use crate::message::Via;

/// The port of a SIP URI or Via that names none.
const SIP_PORT: u16 = 5060;
/// The same for TLS.
const SIPS_PORT: u16 = 5061;

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Protocol {
    Udp,
    Tcp,
    /// Over TCP.
    Tls,
}

impl Protocol {
    /// As Via spells it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
        }
    }

    /// Whether messages go by a connection.
    pub(crate) fn is_stream(self) -> bool {
        self != Self::Udp
    }

    /// The port where none is named (RFC 3261 section 19.1.2).
    pub(crate) fn default_port(self) -> u16 {
        match self {
            Self::Udp | Self::Tcp => SIP_PORT,
            Self::Tls => SIPS_PORT,
        }
    }
}

/// A way that messages take: one pair of addresses, or one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    Udp {
        local: SocketAddr,
        remote: SocketAddr,
    },
    Stream {
        connection: ConnectionId,
        remote: SocketAddr,
        /// By TLS.
        secure: bool,
    },
}

impl Flow {
    pub(crate) fn protocol(self) -> Protocol {
        match self {
            Self::Udp { .. } => Protocol::Udp,
            Self::Stream { secure: false, .. } => Protocol::Tcp,
            Self::Stream { secure: true, .. } => Protocol::Tls,
        }
    }

    pub(crate) fn remote(self) -> SocketAddr {
        match self {
            Self::Udp { remote, .. } | Self::Stream { remote, .. } => remote,
        }
    }

    pub(crate) fn is_reliable(self) -> bool {
        self.protocol().is_stream()
    }

    pub(crate) fn is_secure(self) -> bool {
        self.protocol() == Protocol::Tls
    }

    pub(crate) fn connection(self) -> Option<ConnectionId> {
        match self {
            Self::Udp { .. } => None,
            Self::Stream { connection, .. } => Some(connection),
        }
    }
}

/// The way of a response (RFC 3261 section 18.2.2, RFC 3581 section 4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReplyPath {
    /// Where the request came from, or the connection opened since.
    pub(crate) flow: Flow,
    /// Where a new connection goes when the request's is gone.
    pub(crate) reconnect: SocketAddr,
    /// What the certificate must be good for there, if it is by TLS.
    pub(crate) name: String,
}

impl ReplyPath {
    /// By a request's topmost Via and the flow that it came on. `via` gets `received` and
    /// `rport`.
    pub(crate) fn of_request(via: &mut Via, flow: Flow) -> Self {
        let source = flow.remote();
        // Always named: an ordinary host compares equal anyway, and NATs are seen by it.
        via.params.set("received", Some(&source.ip().to_string()));
        let port = via.port.unwrap_or(flow.protocol().default_port());
        let sent_by = SocketAddr::new(source.ip(), port);
        let flow = match flow {
            Flow::Udp { local, .. } if via.asks_rport() => {
                via.params.set("rport", Some(&source.port().to_string()));
                Flow::Udp {
                    local,
                    remote: source,
                }
            }
            Flow::Udp { local, .. } => Flow::Udp {
                local,
                remote: sent_by,
            },
            Flow::Stream { .. } => {
                if via.asks_rport() {
                    via.params.set("rport", Some(&source.port().to_string()));
                }
                flow
            }
        };
        Self {
            flow,
            reconnect: sent_by,
            // RFC 5922 section 7.4, RFC 3261 section 18.2.2: who the Via says it is.
            name: bare(&via.host),
        }
    }
}

/// How long a refused or silent TCP port is not tried again for size alone.
const TCP_MEMORY: Duration = Duration::from_secs(600);
/// Bounds the tables that grow with the peers we talk to.
const MAX_PEERS: usize = 64;

/// What was learned about the peers.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    /// Our address as a peer sees it, by `received` and `rport`.
    public: BTreeMap<(Protocol, SocketAddr), SocketAddr>,
    /// Peers whose TCP port refused or was silent, until when that is remembered.
    without_tcp: BTreeMap<SocketAddr, Instant>,
}

impl Peers {
    /// Takes in the topmost Via of a response that came on this flow.
    pub(crate) fn learn(&mut self, via: &Via, flow: Flow) {
        let (Some(ip), Some(port)) = (via.received().or_else(|| via.host.ip()), via.rport()) else {
            return;
        };
        let seen = SocketAddr::new(ip, port);
        if ip.is_unspecified() || port == 0 {
            return;
        }
        if self.public.len() >= MAX_PEERS {
            self.public.pop_first();
        }
        self.public.insert((flow.protocol(), flow.remote()), seen);
    }

    /// Our address as this peer sees it.
    pub(crate) fn public(&self, protocol: Protocol, peer: SocketAddr) -> Option<SocketAddr> {
        self.public.get(&(protocol, peer)).copied()
    }

    /// TCP does not work to this peer.
    pub(crate) fn tcp_failed(&mut self, now: Instant, peer: SocketAddr) {
        self.without_tcp.retain(|_, until| *until > now);
        if self.without_tcp.len() >= MAX_PEERS {
            self.without_tcp.pop_first();
        }
        self.without_tcp.insert(peer, now + TCP_MEMORY);
    }

    /// Whether TCP is worth trying.
    pub(crate) fn may_have_tcp(&self, now: Instant, peer: SocketAddr) -> bool {
        self.without_tcp
            .get(&peer)
            .is_none_or(|until| *until <= now)
    }
}

/// How long the places of a hop are kept: for the requests of one call, which shall meet the same
/// server. The driver's resolver keeps answers for their TTL.
const PLACE_MEMORY: Duration = Duration::from_secs(60);

/// Hops that were located a moment ago.
#[derive(Debug, Default)]
pub(crate) struct Known(BTreeMap<String, (Instant, Vec<Place>)>);

impl Known {
    pub(crate) fn insert(&mut self, now: Instant, hop: &Hop, places: Vec<Place>) {
        self.0.retain(|_, (until, _)| *until > now);
        if hop.host.ip().is_none() && self.0.len() < MAX_PEERS {
            self.0.insert(hop.name(), (now + PLACE_MEMORY, places));
        }
    }

    pub(crate) fn get(&self, now: Instant, hop: &Hop) -> Option<Vec<Place>> {
        self.0
            .get(&hop.name())
            .filter(|(until, _)| *until > now)
            .map(|(_, places)| places.clone())
    }

    /// This one has failed: the others come before it (RFC 3263 section 4.3).
    pub(crate) fn failed(&mut self, hop: &Hop, at: SocketAddr, protocol: Protocol) {
        if let Some((_, places)) = self.0.get_mut(&hop.name()) {
            places.sort_by_key(|place| (place.address, place.protocol) == (at, protocol));
        }
    }
}

#[cfg(test)]
mod tests;
