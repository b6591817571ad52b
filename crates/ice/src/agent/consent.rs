//! Consent freshness (RFC 7675), which also keeps the NATs' bindings alive (RFC 8445 section 11).
//!
//! Consent is kept on the pair in use of each component: from its validation on, so it covers the
//! time before nomination, and while it rings.

use std::time::{Duration, Instant};

use super::pair::{PairId, PairState};
use super::{Agent, Phase};
use crate::candidate::ComponentId;
use crate::event::IceEvent;

/// A pair in doubt is asked so often at first.
const PROBE_INTERVAL: Duration = Duration::from_millis(100);
/// So long.
const URGENT: Duration = Duration::from_secs(2);
/// And so often after that.
const SLOW_PROBE_INTERVAL: Duration = Duration::from_millis(250);

impl Agent {
    /// The next consent check on a pair in use, and when it is due.
    pub(super) fn next_consent(&self) -> Option<(Instant, PairId)> {
        self.components
            .iter()
            .filter_map(|component| self.valid.in_use(*component))
            .map(|valid| (valid.next_consent, valid.via))
            .min()
    }

    /// Media has fallen silent, or something else raises a doubt: the pairs in use are asked at
    /// once, and again and again until they answer.
    pub(crate) fn probe(&mut self, now: Instant) {
        if !self.is_doubtful() {
            self.valid.doubted = Some(now);
            self.remapped = false;
            self.ask_for_consent(now);
        }
    }

    /// Whether a pair in use has not answered since it was doubted, or is no more.
    pub(crate) fn is_doubtful(&self) -> bool {
        self.is_lost()
            || self.valid.doubted.is_some_and(|since| {
                let answered = |component: &ComponentId| self.answered(*component) >= Some(since);
                !self.components.iter().all(answered)
            })
    }

    /// Whether the peer has seen us at another address since the doubt: a NAT of ours maps anew.
    pub(crate) fn is_remapped(&self) -> bool {
        self.remapped
    }

    /// The time until the next consent check. RFC 7675 section 5.1 wants 4 to 6 s; in doubt they
    /// follow each other as fast as what was lost deserves (docs/deviations.md).
    pub(super) fn consent_interval(&mut self, now: Instant) -> Duration {
        match self.valid.doubted.filter(|_| self.is_doubtful()) {
            Some(since) if now < since + URGENT => PROBE_INTERVAL,
            Some(_) => SLOW_PROBE_INTERVAL,
            None => self.randomness.consent_interval(),
        }
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
