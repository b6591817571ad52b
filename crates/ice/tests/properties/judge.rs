//! What must hold of every world.

use std::fmt;
use std::time::Duration;

use crate::trial::{Answer, Outcome};

/// A phone's agents together begin a transaction no more often (RFC 8445 section 14.2).
const PHONE_TA: Duration = Duration::from_millis(5);

/// Two interfaces of random worlds are at most 60 ms from the Internet each.
const LONGEST_ROUND_TRIP: Duration = Duration::from_millis(240);

/// What does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Violation {
    /// The ghost ring: a proof where media cannot flow both ways, or before a peer that does not
    /// hold our answer.
    ProofWithoutAPath { side: usize },
    /// A path exists and no proof came, or no pair was selected.
    Missed { side: usize },
    /// Nothing was lost, a check has come through, and yet the proof took longer than two round
    /// trips more and a Ta for each pair.
    Late { side: usize },
    /// The two selected pairs are not one path.
    DifferentPairs { component: usize },
    /// Two new transactions came closer than Ta, or than 5 ms.
    TooFast { side: usize },
    /// Consent was lost, though nothing got worse.
    LostConsent { side: usize },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// All that is wrong with an outcome; nothing, if all is well.
pub fn judge(outcome: &Outcome) -> Vec<Violation> {
    let mut violations = Vec::new();
    let path_exists = outcome.path_exists();
    let may_prove = path_exists && !outcome.plan.answer.forbids_a_proof();
    let must_prove = path_exists && outcome.plan.answer == Answer::Arrives;
    for (side, peer) in outcome.peers.iter().enumerate() {
        if peer.log.proven.is_some() && !may_prove {
            violations.push(Violation::ProofWithoutAPath { side });
        }
        if must_prove && (peer.log.proven.is_none() || peer.log.selected.is_none()) {
            violations.push(Violation::Missed { side });
        }
        if must_prove && is_late(outcome, side) {
            violations.push(Violation::Late { side });
        }
        if peer.log.consent_lost {
            violations.push(Violation::LostConsent { side });
        }
        let too_fast = |gap: Option<Duration>, least| gap.is_some_and(|gap| gap < least);
        let ta = outcome.ta[side];
        if too_fast(peer.shortest_gap, PHONE_TA) || too_fast(peer.shortest_check_gap, ta) {
            violations.push(Violation::TooFast { side });
        }
    }
    let both_selected = outcome.peers.iter().all(|peer| peer.log.selected.is_some());
    for (component, carries) in outcome.carries.iter().enumerate() {
        if both_selected && *carries != [true; 2] {
            violations.push(Violation::DifferentPairs { component });
        }
    }
    violations
}

/// Between two interfaces, a check that comes through shows that the way back is open too. Before
/// that nobody can know it: a filter that one's own check opens too late is opened by the next.
fn is_late(outcome: &Outcome, side: usize) -> bool {
    let quiet = !outcome.lossy && !outcome.plan.attacked;
    let bound = outcome.peers.iter().filter_map(|peer| peer.log.bound).min();
    let (Some(proven), Some(begun), Some(bound)) =
        (outcome.peers[side].log.proven, outcome.begun, bound)
    else {
        return false;
    };
    let took = proven.saturating_duration_since(begun.max(bound));
    let bearable = 2 * LONGEST_ROUND_TRIP + outcome.pairs * outcome.ta[side];
    quiet && outcome.interfaces == [1, 1] && took > bearable
}
