//! Nominating pairs, and concluding (RFC 8445 section 8).

use std::time::{Duration, Instant};

use super::checklist::TriggeredCheck;
use super::pair::{PairId, PairState};
use super::transaction::Purpose;
use super::{Agent, Phase};
use crate::candidate::{CandidateType, ComponentId};
use crate::event::{IceEvent, Role};

/// A nominating check is not re-sent sooner.
const SHORTEST_WAIT: Duration = Duration::from_millis(100);
/// No pair is waited for longer than this after the best one was validated; and a relayed pair is
/// nominated only after the direct ones had so long; so is one by TCP, after those by UDP.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// However late the last direct pair was revealed.
const LAST_CALL: Duration = Duration::from_secs(3);

impl Agent {
    /// When we may nominate the best valid pair of a component, and which one that is: as soon as
    /// no unfinished pair of higher priority could still plausibly beat it.
    fn nomination(&self, component: ComponentId) -> Option<(Instant, PairId)> {
        if self.role != Role::Controlling || matches!(self.phase, Phase::Lost) {
            return None;
        }
        // A nominating check takes a slot of the pacing: the proof of the other component goes first.
        let missing = |other: &ComponentId| self.valid.in_use(*other).is_none();
        if matches!(self.phase, Phase::Checking { .. }) && self.components.iter().any(missing) {
            return None;
        }
        let best = self.valid.in_use(component)?;
        if best.nominated || self.is_being_nominated(component) {
            return None;
        }
        let own_priority = self
            .checklist
            .get(best.via)
            .map_or(best.priority, |pair| pair.priority);
        let last_call = best.since + LONGEST_WAIT;
        let mut due = best.since;
        for rival in self.checklist.iter().filter(|pair| {
            pair.component == component && pair.is_unfinished() && pair.priority > own_priority
        }) {
            due = match rival.state {
                // One round trip after its first check, as long as the best pair's takes.
                PairState::InProgress { since, .. } => due.max(since + best.rtt),
                // Its check has not been sent.
                _ => last_call,
            };
        }
        due = due.min(last_call);
        // Behind a relay, a NAT may make our own candidate a peer-reflexive one.
        let base = self
            .checklist
            .get(best.via)
            .map_or(best.local, |pair| pair.local);
        let relayed = [
            self.candidates.local(base).candidate.kind,
            self.candidates.remote(best.remote).kind,
        ]
        .contains(&CandidateType::Relayed);
        let by_tcp = self.candidates.local(base).candidate.protocol.is_tcp();
        let patience = match (relayed, by_tcp) {
            (true, _) => self.direct_pairs_have_until(component, false),
            (false, true) => self.direct_pairs_have_until(component, true),
            (false, false) => None,
        };
        let mut due = due.max(patience.unwrap_or(due));
        // RFC 8838 section 14: a more direct pair may come of what is still to be trickled.
        if (relayed || by_tcp) && self.expects_candidates() {
            due = due.max(self.started + LONGEST_WAIT);
        }
        Some((due, best.via))
    }

    /// Each direct pair has a second from its own first check on: one that only the peer's check
    /// has revealed begins late, and so does one of the last of a hundred. `None` when no such pair
    /// is unfinished.
    fn direct_pairs_have_until(&self, component: ComponentId, by_udp: bool) -> Option<Instant> {
        let unfinished = self.checklist.iter().filter(|pair| {
            pair.component == component
                && pair.is_unfinished()
                && !(by_udp && pair.protocol.is_tcp())
                && self.candidates.local(pair.local).candidate.kind != CandidateType::Relayed
                && self.candidates.remote(pair.remote).kind != CandidateType::Relayed
        });
        let pairs = u32::try_from(self.checklist.len()).unwrap_or(u32::MAX);
        let first_checks = self.ta.saturating_mul(pairs) + self.dense_period.min(LONGEST_WAIT);
        let last_call = self.started + LAST_CALL.max(first_checks + LONGEST_WAIT);
        let until = unfinished.map(|pair| {
            let begun = self.checklist.begun(&self.candidates, pair);
            begun.map_or(last_call, |begun| begun + LONGEST_WAIT)
        });
        Some(until.max()?.min(last_call))
    }

    /// Section 8.1.1: one and only one nomination for each component.
    fn is_being_nominated(&self, component: ComponentId) -> bool {
        let of_component = |id: PairId| {
            self.checklist
                .get(id)
                .is_some_and(|pair| pair.component == component)
        };
        self.checklist.has_queued_nomination(of_component)
            || self
                .transactions
                .any(|known| known.purpose == Purpose::Nomination && of_component(known.pair))
    }

    /// The nominating check that two round trips have not answered: the path is proven, so it was
    /// lost, and a dense re-check need not wait for the RTO.
    pub(super) fn next_renomination(&self) -> Option<(Instant, PairId)> {
        let nominating = self.transactions.latest(Purpose::Nomination)?;
        if nominating.path.protocol.is_tcp() {
            return None;
        }
        let valid = self.valid.via(nominating.pair)?;
        let wait = (2 * valid.rtt).max(SHORTEST_WAIT);
        Some((nominating.sent + wait, nominating.pair))
    }

    pub(super) fn nomination_timeout(&self) -> Option<Instant> {
        self.components
            .iter()
            .filter_map(|component| self.nomination(*component))
            .map(|(due, _)| due)
            .min()
    }

    /// Queues the nominating check of every component whose time has come.
    pub(super) fn nominate_if_due(&mut self, now: Instant) {
        for index in 0..self.components.len() {
            let Some(component) = self.components.get(index) else {
                return;
            };
            if let Some((due, pair)) = self.nomination(*component)
                && due <= now
            {
                self.checklist.trigger(TriggeredCheck {
                    pair,
                    nominate: true,
                });
            }
        }
    }

    /// The nominated flag is set (sections 7.2.5.3.4 and 7.3.1.5): the component is concluded.
    pub(super) fn set_nominated(&mut self, now: Instant, id: PairId) {
        let before = self.main_selection();
        let Some(valid) = self.valid.via_mut(id) else {
            return;
        };
        if valid.nominated {
            return;
        }
        valid.nominated = true;
        let component = valid.component;
        self.checklist.conclude(component);
        let checklist = &self.checklist;
        self.transactions
            .cancel(now, |known| checklist.get(known.pair).is_none());

        let all = self.components.iter().all(|component| {
            self.valid
                .in_use(*component)
                .is_some_and(|valid| valid.nominated)
        });
        if !all {
            return;
        }
        let newly = self.completed.is_none();
        self.completed.get_or_insert(now);
        if (newly || self.main_selection() != before)
            && let Some(path) = self.main_path()
        {
            self.events.push_back(IceEvent::Selected { path });
        }
    }

    fn main_selection(&self) -> Option<PairId> {
        let valid = self.valid.in_use(*self.components.first()?)?;
        valid.nominated.then_some(valid.via)
    }
}
