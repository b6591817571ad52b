//! Candidates after the description (RFC 8838): ours on their way to the peers, and theirs.

use std::time::Instant;

use super::{Fork, IceSession};
use crate::candidate::{Candidate, Credentials, Trickle};
use crate::event::ForkId;
use crate::gather::Gathered;

impl IceSession {
    /// Candidates are still being gathered: until [`Self::end_of_candidates`],
    /// [`Self::local_description`] does not say that it holds them all.
    pub fn expect_candidates(&mut self) {
        self.trickle = Trickle::Open;
        self.signalled = Some(self.gathered.clone());
    }

    /// The candidates that our offer or answer named.
    pub(super) fn signalled(&self) -> &Gathered {
        self.signalled.as_ref().unwrap_or(&self.gathered)
    }

    /// A new generation has all the candidates that it will have.
    pub(super) fn forget_trickling(&mut self) {
        self.trickle = Trickle::Ended;
        self.signalled = None;
    }

    /// Whether candidates of our own may still come.
    pub fn expects_candidates(&self) -> bool {
        self.trickle == Trickle::Open
    }

    /// What was gathered by now. What is new in it joins [`Self::local_description`] and is paired
    /// in every agent, so a peer that trickles is told of it first (RFC 8838 section 10); one that
    /// does not finds it by our checks. True if anything was new; false too after the end of
    /// candidates (section 13).
    pub fn add_candidates(&mut self, now: Instant, gathered: &Gathered) -> bool {
        if self.stopped || self.trickle != Trickle::Open {
            return false;
        }
        let late = self.gathered.join(gathered);
        for agent in self.agents_mut() {
            agent.add_locals(now, &late);
        }
        !late.is_empty()
    }

    /// No more candidates of our own will come.
    pub fn end_of_candidates(&mut self) {
        self.trickle = Trickle::Ended;
        for agent in self.agents_mut() {
            agent.end_of_locals();
        }
    }

    /// The peer of a fork has trickled these candidates, all that it has of this generation, and
    /// perhaps their end (`end`). False if nothing became of it: the ufrag and password are those
    /// of another generation, or the peer has said before that there are no more.
    pub fn handle_trickled(
        &mut self,
        now: Instant,
        fork: ForkId,
        credentials: &Credentials,
        candidates: &[Candidate],
        end: bool,
    ) -> bool {
        self.forks.iter_mut().any(|(id, known)| match known {
            Fork::Running(agent) if *id == fork => {
                agent.handle_trickled(now, credentials, candidates, end)
            }
            _ => false,
        })
    }
}
