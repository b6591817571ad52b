//! The next hop of a request, as a URI or a flow names it.

use std::net::SocketAddr;

use super::{Flow, Protocol};
use crate::endpoint::ConnectionId;
use crate::uri::{Host, Scheme, Uri};

/// The far end of a connection by TLS that was opened from here, and the name that its certificate
/// is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verified {
    pub(crate) at: SocketAddr,
    pub(crate) name: String,
}

/// The next hop of a request, as a URI or a flow names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hop {
    pub(crate) host: Host,
    pub(crate) port: Option<u16>,
    /// The `transport` parameter, or the flow's protocol: size does not change it.
    pub(crate) protocol: Option<Protocol>,
    /// A `sips:` URI: nothing but TLS will do.
    pub(crate) secure: bool,
    /// Who is at the other end of the dialog's own connection: an address that such a peer names
    /// is its own, though its certificate be for its name alone.
    pub(crate) verified: Option<Verified>,
    /// The connection to take while it stands, and the hop to take otherwise.
    pub(crate) along: Option<(ConnectionId, Option<Box<Hop>>)>,
}

impl Hop {
    /// Where a request to this URI goes; the DNS may say more (RFC 3263 section 4).
    ///
    /// # Errors
    /// Says for people why nothing can be sent there.
    pub(crate) fn of_uri(uri: &Uri) -> Result<Self, String> {
        let secure = match &uri.scheme {
            Scheme::Sip => false,
            Scheme::Sips => true,
            Scheme::Tel | Scheme::Other(_) => {
                return Err(format!("{uri} needs a proxy that knows where it is"));
            }
        };
        let protocol = match uri.transport().as_deref() {
            None => None,
            Some("udp") => Some(Protocol::Udp),
            Some("tcp") => Some(Protocol::Tcp),
            Some("tls") => Some(Protocol::Tls),
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
        let hop = Self {
            host,
            port: uri.port,
            protocol,
            secure: false,
            verified: None,
            along: None,
        };
        if secure { hop.secured(uri) } else { Ok(hop) }
    }

    /// The same by TLS alone, since this URI (the Request-URI, say) is a `sips:` one: RFC 3261
    /// section 8.1.2, RFC 5630 section 3.1.
    ///
    /// # Errors
    /// Says for people that the hop names something else.
    pub(crate) fn secured(mut self, uri: &Uri) -> Result<Self, String> {
        self.protocol = match self.protocol {
            // RFC 3261 section 26.2.1: `tcp` is what TLS goes over.
            Some(Protocol::Tls | Protocol::Tcp) => Some(Protocol::Tls),
            None => None,
            Some(Protocol::Udp) => {
                let host = &self.host;
                return Err(format!(
                    "{uri} is reached by TLS only, and {host} is named with transport=udp; write transport=tls"
                ));
            }
        };
        self.secure = true;
        Ok(self)
    }

    /// The far end of a flow, for peers whose Contact does not lead to them; a connection that is
    /// gone is opened to `otherwise`.
    pub(crate) fn of_flow(flow: Flow, otherwise: Option<Self>) -> Self {
        Self {
            host: flow.remote().ip().into(),
            port: Some(flow.remote().port()),
            protocol: Some(flow.protocol()),
            secure: false,
            verified: None,
            along: flow
                .connection()
                .map(|connection| (connection, otherwise.map(Box::new))),
        }
    }

    /// The protocol where neither the URI nor the DNS names one.
    pub(crate) fn unsaid_protocol(&self) -> Protocol {
        if self.secure {
            Protocol::Tls
        } else {
            Protocol::Udp
        }
    }

    /// Whether it is known beforehand that nothing goes by datagrams.
    pub(crate) fn is_stream(&self) -> bool {
        self.secure || self.protocol.is_some_and(Protocol::is_stream)
    }

    /// What a certificate must be good for at one of the hop's addresses: the name that the URI
    /// has, never one that the DNS gave (RFC 5922 section 4).
    pub(crate) fn certified_name(&self, at: SocketAddr) -> String {
        match &self.verified {
            Some(known) if known.at == at || self.host.ip() == Some(known.at.ip()) => {
                known.name.clone()
            }
            _ => bare(&self.host),
        }
    }

    /// What it is remembered by.
    pub(super) fn name(&self) -> String {
        let Self {
            host,
            port,
            protocol,
            secure,
            ..
        } = self;
        format!("{host}:{port:?}:{protocol:?}:{secure}").to_ascii_lowercase()
    }
}

/// A host without the brackets of an IPv6 address, as certificates name it.
pub(crate) fn bare(host: &Host) -> String {
    host.ip()
        .map_or_else(|| host.to_string(), |ip| ip.to_string())
}

/// How our Contact says that we are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Named {
    /// By datagrams, or as it fits.
    Any,
    Tcp,
    /// `transport=tls`.
    Tls,
    /// A `sips:` URI.
    Sips,
}

impl Named {
    /// What a URI names.
    pub(crate) fn by(uri: &Uri) -> Self {
        match (&uri.scheme, uri.transport().as_deref()) {
            (Scheme::Sips, _) => Self::Sips,
            (_, Some("tls")) => Self::Tls,
            (_, Some("tcp")) => Self::Tcp,
            _ => Self::Any,
        }
    }

    pub(crate) fn protocol(self) -> Protocol {
        match self {
            Self::Any => Protocol::Udp,
            Self::Tcp => Protocol::Tcp,
            Self::Tls | Self::Sips => Protocol::Tls,
        }
    }
}
