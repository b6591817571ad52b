//! What an [`IceSession`](crate::IceSession) reports, and the paths it reports about.

use std::net::SocketAddr;
use std::time::Duration;

use thiserror::Error;

use crate::candidate::{CandidateType, TransportProtocol};
use crate::gate::PathProof;

/// A datagram that the owner of the sockets is to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// The local socket that it leaves from.
    pub base: SocketAddr,
    /// Its destination.
    pub to: SocketAddr,
    /// The STUN message. Empty, from a relayed candidate: no datagram, but a wish that the TURN
    /// server shall let that peer in; [`Gatherer::relay`](crate::Gatherer::relay) sees to it.
    pub payload: Vec<u8>,
}

/// A way that packets go: where media of one component goes now, or where a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Path {
    /// UDP, or TCP with the part that our end plays in the connection.
    pub protocol: TransportProtocol,
    /// The local socket that it leaves from and arrives on. Of TCP the address that is listened
    /// on; port 9 if this end opens the connection.
    pub base: SocketAddr,
    /// The peer's address.
    pub remote: SocketAddr,
}

impl Path {
    /// A way by UDP.
    pub fn udp(base: SocketAddr, remote: SocketAddr) -> Self {
        Self {
            protocol: TransportProtocol::Udp,
            base,
            remote,
        }
    }
}

/// What an [`IceSession`](crate::IceSession) wants of the connections of TCP candidates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TcpWish {
    /// The turn of this pair has come: the connection is to be opened, and its end told to
    /// [`IceSession::handle_opened`](crate::IceSession::handle_opened) or
    /// [`IceSession::handle_lost`](crate::IceSession::handle_lost).
    Open(Path),
    /// A STUN message is to go by a connection that stands.
    Send {
        /// The connection.
        path: Path,
        /// The STUN message, not framed.
        payload: Vec<u8>,
    },
}

/// A valid pair, as people and logs like to see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValidPath {
    /// UDP or TCP.
    pub protocol: TransportProtocol,
    /// Our candidate: behind a NAT, the address that the peer sees.
    pub local: SocketAddr,
    /// The peer's candidate.
    pub remote: SocketAddr,
    /// The kind of our candidate.
    pub local_type: CandidateType,
    /// The kind of the peer's candidate.
    pub remote_type: CandidateType,
    /// The round trip of the check that validated it.
    pub rtt: Duration,
}

/// One early dialog, and so one ICE agent, among those that share an offer. The owner numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ForkId(pub u32);

/// Who nominates (RFC 8445 section 6.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The offerer, and always a full agent that faces a lite one.
    Controlling,
    /// The answerer.
    Controlled,
}

/// Why an agent has no path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureReason {
    /// There was nothing to pair: no candidates of one address family on both sides, and the
    /// peer's checks did not reveal any.
    NoPair,
    /// Every pair was checked and failed.
    AllPairsFailed,
    /// The patience ended with checks still unanswered.
    PatienceOver,
    /// Our own checks were answered, but the peer never sent one: it may not hold our answer.
    PeerSilent,
    /// The peer refused the pair that we nominated (RFC 8445 section 7.2.5.3.4).
    NominationRefused,
}

/// What happens to an agent.
#[derive(Debug)]
pub enum IceEvent {
    /// The checks begin.
    Checking {
        /// The pairs on the checklist.
        pairs: usize,
    },
    /// The first Binding request keyed with our password arrived: the peer holds our answer, so
    /// the 183 need not be repeated (RFC 8839 section 7.1.1). Once per fork.
    PeerBound,
    /// The path is proven in both directions. Once per fork and generation.
    Validated {
        /// Opens the fork's [`Gate`](crate::Gate).
        proof: PathProof,
        /// The pair of component 1.
        path: ValidPath,
    },
    /// Every component has a nominated pair. Again, if a peer of RFC 5245 nominates a better one.
    Selected {
        /// The selected pair of component 1.
        path: ValidPath,
    },
    /// No proof came in the time given. The agent still answers, and follows the peer's checks,
    /// until it is stopped: a late path still gives [`IceEvent::Validated`].
    Failed {
        /// Why.
        reason: FailureReason,
        /// How many pairs were checked.
        pairs_tried: usize,
    },
    /// The peer stopped answering for 30 s, or revoked its consent (RFC 7675): nothing more may be
    /// sent, and the proof is void.
    ConsentLost,
}

/// Why a fork's agent does not start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum StartRefused {
    /// This fork has an agent already.
    #[error("this fork's agent has been started before")]
    AlreadyStarted,
    /// Another fork's peer uses the same ufrag, so that their checks could not be told apart.
    #[error("another fork has the same remote ufrag")]
    SameRemoteUfrag,
    /// More forks than a session bears.
    #[error("too many forks: at most {limit}")]
    TooManyForks {
        /// The limit.
        limit: usize,
    },
    /// The peer's ufrag or password cannot be one (RFC 8839 section 5.4).
    #[error("the peer's ufrag or password is empty, too long or has a colon")]
    BadCredentials,
    /// The session has been stopped.
    #[error("the session has been stopped")]
    Stopped,
    /// No component was named.
    #[error("no component to check")]
    NoComponent,
}

/// Why ICE does not restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RestartRefused {
    /// This fork has no agent that could be restarted.
    #[error("this fork has no agent")]
    NoAgent,
    /// The session has been stopped.
    #[error("the session has been stopped")]
    Stopped,
}

/// What a peer's subsequent offer means for ICE (RFC 8839 section 4.4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UpdatedRemote {
    /// The same session, and no losing pair: answer now.
    Ready,
    /// The peer has selected a pair whose check is still on its way here: ask again after the
    /// next [`IceEvent::Selected`], or answer when the call's patience ends.
    LosingPair,
    /// The peer has selected a pair whose check failed here: answer as if `a=remote-candidates`
    /// were not there, then restart ICE.
    PairFailed,
    /// Ufrag and password are new: the peer restarts ICE. It is accepted by
    /// [`IceSession::restart`](crate::IceSession::restart), unless a restart of ours waits already,
    /// and then [`IceSession::start`](crate::IceSession::start).
    Restart,
    /// The peer goes on with the session that a restart of ours was to end:
    /// [`IceSession::abandon_restart`](crate::IceSession::abandon_restart) comes before the answer.
    NoRestart,
    /// This fork has no agent.
    NoAgent,
}
