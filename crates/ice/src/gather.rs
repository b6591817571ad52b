//! Gathering of candidates (RFC 8445 section 5.1.1).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::candidate::{Candidate, ComponentId};
use crate::event::Transmit;
use crate::pacer::Pacer;
use crate::seed::Seed;

/// A local socket that candidates are gathered on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// The address it is bound to: an interface's address, never a wildcard.
    pub address: SocketAddr,
    /// The component it serves.
    pub component: ComponentId,
    /// RFC 8445 section 5.1.2.1: higher is preferred; different for every address.
    pub local_preference: u16,
}

/// How to gather.
#[derive(Debug, Clone)]
pub struct GatherConfig {
    /// STUN servers, asked from each base of their address family.
    pub stun_servers: Vec<SocketAddr>,
    /// How long to wait for the servers. Default 500 ms.
    pub patience: Duration,
    /// Time between two new transactions. Default 20 ms.
    pub pacing: Duration,
}

impl Default for GatherConfig {
    fn default() -> Self {
        Self {
            stun_servers: Vec::new(),
            patience: Duration::from_millis(500),
            pacing: Duration::from_millis(20),
        }
    }
}

/// A local candidate beside the base that its packets leave from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LocalCandidate {
    pub(crate) candidate: Candidate,
    pub(crate) base: SocketAddr,
}

/// The local candidates of one call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gathered {
    pub(crate) bases: Vec<(SocketAddr, ComponentId)>,
    pub(crate) candidates: Vec<LocalCandidate>,
}

impl Gathered {
    /// The candidates, those of component 1 first, in the order of priority.
    pub fn candidates(&self) -> impl Iterator<Item = &Candidate> {
        self.candidates.iter().map(|local| &local.candidate)
    }

    /// The default candidate of a component: what `c=` and `m=` (or `a=rtcp`) say
    /// (RFC 8445 section 5.1.4 and RFC 8839 section 4.2.1.2).
    pub fn default_candidate(&self, component: ComponentId) -> Option<&Candidate> {
        self.candidates()
            .filter(|candidate| candidate.component == component)
            .max_by_key(|candidate| candidate.priority)
    }
}

/// Gathers host and server-reflexive candidates.
#[derive(Debug)]
pub struct Gatherer {
    gathered: Gathered,
}

impl Gatherer {
    /// Begins to gather on these sockets.
    pub fn new(
        _config: GatherConfig,
        _bases: Vec<Base>,
        _seed: impl Into<Seed>,
        _now: Instant,
    ) -> Self {
        Self {
            gathered: Gathered::default(),
        }
    }

    /// A datagram has arrived on a base. True if it was the gatherer's.
    pub fn handle_datagram(
        &mut self,
        _now: Instant,
        _base: SocketAddr,
        _from: SocketAddr,
        _payload: &[u8],
    ) -> bool {
        false
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, _now: Instant, _pacer: &mut Pacer) {}

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        None
    }

    /// When to call [`Self::handle_timeout`].
    pub fn poll_timeout(&self, _pacer: &Pacer) -> Option<Instant> {
        None
    }

    /// Whether every server has answered or failed, or the patience is over.
    pub fn is_finished(&self) -> bool {
        true
    }

    /// What is known by now.
    pub fn gathered(&self) -> Gathered {
        self.gathered.clone()
    }
}
