//! Candidate pairs and their states (RFC 8445 section 6.1.2).

use std::time::Instant;

use crate::candidate::{ComponentId, TransportProtocol};
use crate::event::Role;

/// The identity of a pair within its agent; never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct PairId(pub(super) u32);

/// Where a candidate stands in the agent's list of local or remote ones; the lists only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct LocalIndex(pub(super) usize);

/// See [`LocalIndex`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct RemoteIndex(pub(super) usize);

/// RFC 8445 section 6.1.2.6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PairState {
    /// Waits until a pair of the same foundation succeeds.
    Frozen,
    /// A check may be sent.
    Waiting,
    /// A check has been sent and not been answered.
    InProgress {
        /// When the first check since it was last Waiting was sent.
        since: Instant,
        /// When the latest was sent.
        latest: Instant,
    },
    /// A check was answered: the valid list has the pair that came of it.
    Succeeded,
    /// No answer, or a refusal. A triggered check may revive it.
    Failed,
}

/// A local base and a remote candidate.
#[derive(Debug)]
pub(super) struct CandidatePair {
    pub(super) id: PairId,
    pub(super) component: ComponentId,
    /// That of the local candidate.
    pub(super) protocol: TransportProtocol,
    /// Always a base: checks cannot be sent from a reflexive candidate (section 6.1.2.4).
    pub(super) local: LocalIndex,
    pub(super) remote: RemoteIndex,
    pub(super) priority: u64,
    pub(super) state: PairState,
    /// The best pair of its types and address family: checked before the others.
    pub(super) leads: bool,
    /// When the peer's first check on it came.
    pub(super) heard: Option<Instant>,
    /// The controlling peer sent USE-CANDIDATE: our own check's success nominates the pair
    /// (section 7.3.1.5).
    pub(super) nominated_by_peer: bool,
}

impl CandidatePair {
    /// Whether a check may still succeed without the peer's help.
    pub(super) fn is_unfinished(&self) -> bool {
        !matches!(self.state, PairState::Succeeded | PairState::Failed)
    }
}

/// RFC 8445 section 6.1.2.3: 2^32*MIN(G,D) + 2*MAX(G,D) + (G>D?1:0), where G is the controlling
/// agent's candidate and D the controlled agent's.
pub(super) fn pair_priority(role: Role, local: u32, remote: u32) -> u64 {
    let (g, d) = match role {
        Role::Controlling => (local, remote),
        Role::Controlled => (remote, local),
    };
    (u64::from(g.min(d)) << 32) + 2 * u64::from(g.max(d)) + u64::from(g > d)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_compute_the_same_priority() {
        let (alice, bob) = (2_130_706_431, 1_694_498_815);
        assert_eq!(
            pair_priority(Role::Controlling, alice, bob),
            pair_priority(Role::Controlled, bob, alice)
        );
        assert_eq!(
            pair_priority(Role::Controlling, alice, bob),
            (u64::from(bob) << 32) + 2 * u64::from(alice) + 1
        );
    }
}
