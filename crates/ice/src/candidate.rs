//! Candidates and what two agents tell each other about them.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// The kind of a candidate (RFC 8445 section 5.1.1), and so its type preference (5.1.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CandidateType {
    /// An address of one of the host's own interfaces.
    Host,
    /// The address that a STUN server saw.
    ServerReflexive,
    /// The address that the peer saw in a check.
    PeerReflexive,
    /// An address of a TURN server.
    Relayed,
}

impl CandidateType {
    /// The recommended type preference, 0 to 126 (RFC 8445 section 5.1.2.2).
    pub fn preference(self) -> u32 {
        match self {
            Self::Host => 126,
            Self::PeerReflexive => 110,
            Self::ServerReflexive => 100,
            Self::Relayed => 0,
        }
    }

    /// The word of RFC 8839 section 5.1: `host`, `srflx`, `prflx` or `relay`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::ServerReflexive => "srflx",
            Self::PeerReflexive => "prflx",
            Self::Relayed => "relay",
        }
    }
}

impl fmt::Display for CandidateType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A component of a data stream (RFC 8445 section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ComponentId {
    /// RTP, or RTP and RTCP together under rtcp-mux: component 1.
    Rtp,
    /// RTCP on a path of its own: component 2.
    Rtcp,
}

impl ComponentId {
    /// The number of RFC 8839 section 5.1.
    pub fn number(self) -> u16 {
        match self {
            Self::Rtp => 1,
            Self::Rtcp => 2,
        }
    }

    /// The component with that number, if a call has such a one.
    pub fn from_number(number: u16) -> Option<Self> {
        match number {
            1 => Some(Self::Rtp),
            2 => Some(Self::Rtcp),
            _ => None,
        }
    }
}

/// The transport protocol of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TransportProtocol {
    /// UDP.
    Udp,
    /// TCP, with the framing of RFC 4571 (RFC 6544).
    Tcp(TcpType),
}

impl TransportProtocol {
    /// Whether packets go by a connection.
    pub fn is_tcp(self) -> bool {
        matches!(self, Self::Tcp(_))
    }

    /// The word for people and scripts: `udp` or `tcp`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp(_) => "tcp",
        }
    }

    /// RFC 6544 section 6.2: which local and remote candidates make a pair.
    pub(crate) fn pairs_with(self, remote: Self) -> bool {
        match (self, remote) {
            (Self::Udp, Self::Udp) => true,
            (Self::Tcp(local), Self::Tcp(remote)) => local.opposite() == remote,
            _ => false,
        }
    }
}

/// Who opens the connection of a TCP candidate (RFC 6544 section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TcpType {
    /// It opens connections, from any port: its own says nothing and is 9.
    Active,
    /// It accepts connections.
    Passive,
    /// It does both, from one port: both ends open at once.
    SimultaneousOpen,
}

impl TcpType {
    /// The word of RFC 6544 section 4.5: `active`, `passive` or `so`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Passive => "passive",
            Self::SimultaneousOpen => "so",
        }
    }

    /// What the other end of the same connection is.
    pub(crate) fn opposite(self) -> Self {
        match self {
            Self::Active => Self::Passive,
            Self::Passive => Self::Active,
            Self::SimultaneousOpen => Self::SimultaneousOpen,
        }
    }
}

/// A candidate as it stands in an offer or answer (RFC 8839 section 5.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// 1 to 32 ice-chars; equal for candidates of one type, base, server and protocol.
    pub foundation: String,
    /// RTP or RTCP.
    pub component: ComponentId,
    /// The transport protocol.
    pub protocol: TransportProtocol,
    /// 1 to 2^31 - 1 (RFC 8445 section 5.1.2).
    pub priority: u32,
    /// The transport address.
    pub address: SocketAddr,
    /// host, srflx, prflx or relay.
    pub kind: CandidateType,
    /// `raddr` and `rport`: the base of a reflexive candidate, the mapped address of a relayed one.
    pub related: Option<SocketAddr>,
}

/// A username fragment and a password (RFC 8445 section 5.3). `Debug` hides the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// 4 to 256 ice-chars; what we make has 8.
    pub ufrag: String,
    /// 22 to 256 ice-chars; what we make has 24.
    pub pwd: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("ufrag", &self.ufrag)
            .field("pwd", &"…")
            .finish()
    }
}

/// Whether more candidates may follow a description (RFC 8838).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Trickle {
    /// The agent does not trickle: the description is complete.
    #[default]
    Unsupported,
    /// `a=ice-options` holds `trickle`, and more candidates may come.
    Open,
    /// The same, and `a=end-of-candidates`: no more will come.
    Ended,
}

/// What one agent tells the other about one data stream: the ICE part of an offer or answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceDescription {
    /// The ufrag and password of the agent that says this.
    pub credentials: Credentials,
    /// Its candidates; may be empty (RFC 8839 section 4.3.1).
    pub candidates: Vec<Candidate>,
    /// `a=ice-lite`.
    pub lite: bool,
    /// `a=ice-options` holds `ice2`: the peer follows RFC 8445, not only RFC 5245.
    pub ice2: bool,
    /// `a=ice-pacing`; none means 50 ms (RFC 8839 section 5.5).
    pub pacing: Option<Duration>,
    /// Whether `a=ice-options` holds `trickle`, and `a=end-of-candidates` is there.
    pub trickle: Trickle,
    /// `a=remote-candidates`: component and address, in an updated offer after nomination.
    pub remote_candidates: Vec<(ComponentId, SocketAddr)>,
}
