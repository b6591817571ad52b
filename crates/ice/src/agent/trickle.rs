//! Candidates that come while the checks run (RFC 8838 sections 8 to 12).

use std::time::Instant;

use super::pair::{LocalIndex, RemoteIndex};
use super::{Agent, Phase};
use crate::candidate::{Candidate, ComponentId, Credentials, Trickle};
use crate::gather::LocalCandidate;

impl Agent {
    /// Our own late candidates, which the peer has been told of, or is to find by our checks.
    pub(crate) fn add_locals(&mut self, now: Instant, locals: &[LocalCandidate]) {
        let mut grew = false;
        for local in locals {
            let component = local.candidate.component;
            if !self.components.contains(&component) || self.candidates.knows(local) {
                continue;
            }
            self.candidates.locals.push(local.clone());
            if !self.has_nominated(component) {
                let index = LocalIndex(self.candidates.locals.len() - 1);
                self.checklist
                    .pair_local(&self.candidates, self.role, index);
                self.checklist.limit_pairs(&self.candidates);
                grew = true;
            }
        }
        if grew {
            self.after_growth(now);
        }
    }

    /// No more of our own will come.
    pub(crate) fn end_of_locals(&mut self) {
        self.local_trickle = Trickle::Ended;
    }

    /// What the peer has trickled; false when it is for another generation, or came after the
    /// peer's end-of-candidates (RFC 8838 section 14).
    pub(crate) fn handle_trickled(
        &mut self,
        now: Instant,
        credentials: &Credentials,
        candidates: &[Candidate],
        end: bool,
    ) -> bool {
        if *credentials != self.remote.credentials || self.remote.trickle != Trickle::Open {
            return false;
        }
        self.add_remotes(now, candidates);
        if end {
            self.remote.trickle = Trickle::Ended;
        }
        true
    }

    /// Candidates of the peer that the first description lacked, as far as the limits go.
    pub(super) fn add_remotes(&mut self, now: Instant, candidates: &[Candidate]) {
        let mut grew = false;
        for candidate in candidates {
            if !self.components.contains(&candidate.component)
                || self.has_nominated(candidate.component)
            {
                continue;
            }
            match self.candidates.find_remote(
                candidate.protocol,
                candidate.address,
                candidate.component,
            ) {
                // What a check had revealed is now signalled (RFC 8445 section 7.3.1.3); its pairs
                // keep their priority (RFC 8838 section 11).
                Some(RemoteIndex(known)) => self.candidates.remotes[known] = candidate.clone(),
                // Each is somebody to send to; and those that checks reveal are to find room yet.
                None if self.candidates.remotes.len() >= self.checklist.limit() => break,
                None => {
                    let Some(index) = self.candidates.add_remote(candidate.clone()) else {
                        break;
                    };
                    self.checklist
                        .pair_remote(&self.candidates, self.role, index);
                    self.checklist.limit_pairs(&self.candidates);
                    grew = true;
                }
            }
        }
        if grew {
            self.after_growth(now);
        }
    }

    /// New pairs stand on the checklist: those that may begin do, and the filters in between are
    /// opened from both sides as densely as at the start.
    fn after_growth(&mut self, now: Instant) {
        self.checklist.choose_leaders(&self.candidates);
        self.checklist.unfreeze_new(&self.candidates);
        let checklist = &self.checklist;
        self.transactions
            .cancel(now, |known| checklist.get(known.pair).is_none());
        if matches!(self.phase, Phase::Checking { .. }) {
            self.dense_ends = self.dense_ends.max(now + self.dense_period);
        }
    }

    /// RFC 8838 section 8: while pairs may still be added the checklist does not fail.
    pub(super) fn expects_candidates(&self) -> bool {
        self.remote.trickle == Trickle::Open || self.local_trickle == Trickle::Open
    }

    fn has_nominated(&self, component: ComponentId) -> bool {
        self.valid
            .in_use(component)
            .is_some_and(|valid| valid.nominated)
    }
}
