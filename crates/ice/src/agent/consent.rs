//! Consent freshness (RFC 7675), which also keeps the NATs' bindings alive (RFC 8445 section 11).
//!
//! Consent is kept on the pair in use of each component: from its validation on, so it covers the
//! time before nomination, and while it rings.

use std::time::Instant;

use super::pair::{PairId, PairState};
use super::{Agent, Phase};
use crate::event::IceEvent;

impl Agent {
    /// The next consent check on a pair in use, and when it is due.
    pub(super) fn next_consent(&self) -> Option<(Instant, PairId)> {
        self.components
            .iter()
            .filter_map(|component| self.valid.in_use(*component))
            .map(|valid| (valid.next_consent, valid.via))
            .min()
    }

    /// When the first consent ends.
    pub(super) fn consent_timeout(&self) -> Option<Instant> {
        self.valid.iter().map(|valid| valid.consent_ends()).min()
    }

    /// RFC 7675 section 5.1: what was not answered for 30 s is no longer valid. A pair that is not
    /// in use just leaves the valid list; without the pair in use another valid one takes its
    /// place, unless it was nominated or the last one.
    pub(super) fn expire_consent(&mut self, now: Instant) {
        let expired: Vec<PairId> = self
            .valid
            .iter()
            .filter(|valid| valid.consent_ends() <= now)
            .map(|valid| valid.via)
            .collect();
        for pair in expired {
            self.withdraw(now, pair);
        }
    }

    /// RFC 7675 section 5.2: an authenticated 403.
    pub(super) fn consent_revoked(&mut self, now: Instant, pair: PairId) {
        self.withdraw(now, pair);
    }

    pub(super) fn withdraw(&mut self, now: Instant, id: PairId) {
        let Some(valid) = self.valid.via(id) else {
            return;
        };
        let component = valid.component;
        let selected = valid.nominated
            && self
                .valid
                .in_use(component)
                .is_some_and(|used| used.via == id);
        self.valid.remove(id);
        self.checklist.untrigger(id);
        self.transactions.forget(|known| known.pair == id);
        if let Some(pair) = self.checklist.get_mut(id) {
            pair.state = PairState::Failed;
        }
        let proven = matches!(self.phase, Phase::Proven);
        if selected || (proven && !self.has_fresh_pair(now, component)) {
            self.lose_consent();
        }
    }

    /// Nothing more may be sent, and the proof is void.
    pub(super) fn lose_consent(&mut self) {
        self.void();
        self.phase = Phase::Lost;
        self.transactions.forget(|_| true);
        self.events.push_back(IceEvent::ConsentLost);
    }
}
