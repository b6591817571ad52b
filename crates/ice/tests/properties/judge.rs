//! What must hold of every world.

use std::fmt;
use std::time::{Duration, Instant};

use crate::oracle::Directness;
use crate::trial::{Answer, Outcome};

/// A phone's agents together begin a transaction no more often (RFC 8445 section 14.2).
const PHONE_TA: Duration = Duration::from_millis(5);

/// Two interfaces of random worlds are at most 60 ms from the Internet each.
const LONGEST_ROUND_TRIP: Duration = Duration::from_millis(240);

/// Whoever answers checks densely for a second; an answer that takes longer finds that over.
const SOON: Duration = Duration::from_millis(500);
/// The product's limit (RFC 8445 section 6.1.2.5).
const PAIR_LIMIT: usize = 100;
/// Dense re-checks.
const RECHECKS: usize = 50;
/// Of a few seconds, on two components, and nominating checks.
const CONSENT_CHECKS: usize = 16;

/// What does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Violation {
    /// The ghost ring: a proof where media cannot flow both ways, or before a peer that does not
    /// hold our answer.
    ProofWithoutAPath { side: usize },
    /// A path exists and no proof came, or no pair was selected.
    Missed { side: usize },
    /// Nothing was lost, and yet the proof took longer than a Ta for each pair and a second, or,
    /// between two interfaces, two round trips after the first check that came through; or the
    /// selection longer than three seconds more.
    Late { side: usize },
    /// The two selected pairs are not one path.
    DifferentPairs { component: usize },
    /// Two new transactions came closer than Ta, or than 5 ms.
    TooFast { side: usize },
    /// Consent was lost, though nothing got worse.
    LostConsent { side: usize },
    /// Neither a proof nor a failure.
    Undecided { side: usize },
    /// A path was selected while a more direct one existed and had its time.
    LessDirect { component: usize },
    /// More pairs than the limit, or more checks than those are worth.
    TooMany { side: usize },
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
    for (side, log) in outcome.peers.iter().enumerate() {
        if log.proven.is_some() && !may_prove {
            violations.push(Violation::ProofWithoutAPath { side });
        }
        if must_prove && (log.proven.is_none() || log.selected.is_none()) {
            violations.push(Violation::Missed { side });
        }
        if log.started.is_some() && log.proven.is_none() && log.failed.is_none() {
            violations.push(Violation::Undecided { side });
        }
        if must_prove && is_late(outcome, side) {
            violations.push(Violation::Late { side });
        }
        if log.consent_lost {
            violations.push(Violation::LostConsent { side });
        }
        let too_fast = |gap: Option<Duration>, least| gap.is_some_and(|gap| gap < least);
        let ta = outcome.ta[side];
        if too_fast(log.starts.shortest, PHONE_TA) || too_fast(log.starts.shortest_check, ta) {
            violations.push(Violation::TooFast { side });
        }
        if log.pairs > PAIR_LIMIT || log.starts.checks > most_checks(outcome, side) {
            violations.push(Violation::TooMany { side });
        }
    }
    if outcome.peers.iter().all(|log| log.selected.is_some()) {
        for (component, chosen) in outcome.chosen.iter().enumerate() {
            if !chosen.iter().all(|one| one.is_some_and(|one| one.carries)) {
                violations.push(Violation::DifferentPairs { component });
            }
            if must_prove && is_less_direct(outcome, component) {
                violations.push(Violation::LessDirect { component });
            }
        }
    }
    violations
}

/// A first check for each pair, one nominating check and dense re-checks; each request of the peer
/// triggers one more. Pairs in use are asked for consent.
fn most_checks(outcome: &Outcome, side: usize) -> usize {
    match outcome.lossy {
        true => usize::MAX,
        false => PAIR_LIMIT + RECHECKS + CONSENT_CHECKS + outcome.peers[side].requests,
    }
}

/// Whether a component uses a less direct kind of path than there is. Where packets get lost, or the
/// answer comes when the answerer's dense checks are over, the others have their second and no
/// more; and of more than a hundred pairs some are never checked. (Where the answer names wrong addresses, nobody can know
/// what is behind those that the checks come from.)
fn is_less_direct(outcome: &Outcome, component: usize) -> bool {
    let selected = outcome.peers.iter().filter_map(|log| log.selected).min();
    let within_a_second = || match (outcome.begun, selected) {
        (Some(begun), Some(selected)) => selected < begun + Duration::from_secs(1),
        _ => true,
    };
    let crowded = outcome.peers.iter().any(|log| log.pairs >= PAIR_LIMIT);
    let excused = outcome.lossy || outcome.plan.signalling >= SOON || crowded;
    outcome.is_less_direct(component) && (!excused || within_a_second())
}

/// Where nothing is lost and the answer came soon, the time that both had is enough.
fn is_late(outcome: &Outcome, side: usize) -> bool {
    let quiet = !outcome.lossy && !outcome.plan.attacked;
    let soon = outcome.plan.signalling < SOON;
    quiet && (is_late_between_two(outcome, side) || (soon && is_late_in_a_crowd(outcome, side)))
}

/// Between two interfaces, a check that comes through shows that the way back is open too. Before
/// that nobody can know it: a filter that one's own check opens too late is opened by the next.
fn is_late_between_two(outcome: &Outcome, side: usize) -> bool {
    let bound = outcome.peers.iter().filter_map(|log| log.bound).min();
    let (Some(proven), Some(begun), Some(bound)) =
        (outcome.peers[side].proven, outcome.begun, bound)
    else {
        return false;
    };
    let took = proven.saturating_duration_since(begun.max(bound));
    let bearable = 2 * LONGEST_ROUND_TRIP + outcome.pairs * outcome.ta[side];
    let by_udp = outcome.oracles[0].best() == Some(Directness::Udp);
    by_udp && outcome.addresses == [1, 1] && took > bearable
}

/// Among any number of pairs: the proof comes within a Ta for each and a second, by a relay or a
/// stream too, and the selection when the last of them has had its time. A second component begins
/// when the first is through.
fn is_late_in_a_crowd(outcome: &Outcome, side: usize) -> bool {
    let log = &outcome.peers[side];
    let Some(begun) = outcome.begun else {
        return false;
    };
    let pairs = outcome.peers.iter().map(|log| log.pairs).max();
    let checks = outcome.ta[0].max(outcome.ta[1]) * pairs.unwrap_or_default() as u32;
    let second = Duration::from_secs(1);
    let longest = (checks + second) * outcome.plan.components as u32;
    let after = |event: Option<Instant>, longest| event.is_some_and(|at| at > begun + longest);
    after(log.proven, longest) || after(log.selected, longest + 3 * second)
}
