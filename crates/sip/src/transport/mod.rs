//! Where messages go and where they came from (RFC 3261 section 18, RFC 3581).

mod connections;
mod local;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

pub(crate) use connections::{Connections, StreamInput};
pub(crate) use local::{host_towards, socket_towards};

use crate::endpoint::ConnectionId;
use crate::message::Via;
use crate::uri::{Host, Scheme, Uri};

/// The port of a SIP URI or Via that names none.
const SIP_PORT: u16 = 5060;

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Protocol {
    Udp,
    Tcp,
}

impl Protocol {
    /// As Via spells it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
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
    Tcp {
        connection: ConnectionId,
        remote: SocketAddr,
    },
}

impl Flow {
    pub(crate) fn protocol(self) -> Protocol {
        match self {
            Self::Udp { .. } => Protocol::Udp,
            Self::Tcp { .. } => Protocol::Tcp,
        }
    }

    pub(crate) fn remote(self) -> SocketAddr {
        match self {
            Self::Udp { remote, .. } | Self::Tcp { remote, .. } => remote,
        }
    }

    pub(crate) fn is_reliable(self) -> bool {
        self.protocol() == Protocol::Tcp
    }
}

/// The next hop of a request, before its name is resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hop {
    pub(crate) host: Host,
    pub(crate) port: u16,
    pub(crate) protocol: Protocol,
    /// The URI names the protocol, so that size does not change it.
    pub(crate) explicit: bool,
}

impl Hop {
    /// Where a request to this URI goes. Without DNS NAPTR and SRV this is RFC 3263 section 4.1
    /// for numeric hosts: the transport parameter, else UDP.
    ///
    /// # Errors
    /// Says for people why nothing can be sent there.
    pub(crate) fn of_uri(uri: &Uri) -> Result<Self, String> {
        match &uri.scheme {
            Scheme::Sip => {}
            Scheme::Sips => return Err(format!("{uri} needs TLS, which is not supported")),
            Scheme::Tel | Scheme::Other(_) => {
                return Err(format!("{uri} needs a proxy that knows where it is"));
            }
        }
        let transport = uri.transport();
        let protocol = match transport.as_deref() {
            None | Some("udp") => Protocol::Udp,
            Some("tcp") => Protocol::Tcp,
            Some(other) => return Err(format!("{uri}: transport {other} is not supported")),
        };
        // RFC 3261 section 19.1.1: maddr overrides the host.
        let host = uri
            .param("maddr")
            .and_then(|maddr| maddr.parse().ok())
            .unwrap_or_else(|| uri.host.clone());
        if host == Host::Absent {
            return Err(format!("{uri} names no host"));
        }
        Ok(Self {
            host,
            port: uri.port.unwrap_or(SIP_PORT),
            protocol,
            explicit: transport.is_some(),
        })
    }

    /// The far end of a flow, for peers whose Contact does not lead to them.
    pub(crate) fn of_flow(flow: Flow) -> Self {
        Self {
            host: flow.remote().ip().into(),
            port: flow.remote().port(),
            protocol: flow.protocol(),
            explicit: true,
        }
    }
}

/// The way of a response (RFC 3261 section 18.2.2, RFC 3581 section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReplyPath {
    /// Where the request came from, or the connection opened since.
    pub(crate) flow: Flow,
    /// Where a new connection goes when the request's is gone.
    pub(crate) reconnect: SocketAddr,
}

impl ReplyPath {
    /// By a request's topmost Via and the flow that it came on. `via` gets `received` and
    /// `rport`.
    pub(crate) fn of_request(via: &mut Via, flow: Flow) -> Self {
        let source = flow.remote();
        // Always named: an ordinary host compares equal anyway, and NATs are seen by it.
        via.params.set("received", Some(&source.ip().to_string()));
        let port = via.port.unwrap_or(SIP_PORT);
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
            Flow::Tcp { .. } => {
                if via.asks_rport() {
                    via.params.set("rport", Some(&source.port().to_string()));
                }
                flow
            }
        };
        Self {
            flow,
            reconnect: sent_by,
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

/// How long the addresses of a name are kept. The driver's resolver does not tell their TTL.
const NAME_MEMORY: Duration = Duration::from_secs(60);

/// Names that were resolved a moment ago, so that a call does not ask anew for each request.
#[derive(Debug, Default)]
pub(crate) struct Names(BTreeMap<String, (Instant, Vec<IpAddr>)>);

impl Names {
    pub(crate) fn insert(&mut self, now: Instant, name: &str, addresses: Vec<IpAddr>) {
        self.0.retain(|_, (until, _)| *until > now);
        if self.0.len() < MAX_PEERS {
            self.0
                .insert(name.to_ascii_lowercase(), (now + NAME_MEMORY, addresses));
        }
    }

    pub(crate) fn get(&self, now: Instant, name: &str) -> Option<&[IpAddr]> {
        self.0
            .get(&name.to_ascii_lowercase())
            .filter(|(until, _)| *until > now)
            .map(|(_, addresses)| addresses.as_slice())
    }
}

#[cfg(test)]
mod tests;
