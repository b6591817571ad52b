//! After the patience: servers that are slow, and sets that wait.

use std::time::{Duration, Instant};

use super::questions::Question;
use super::{Gatherer, KEEPALIVE};
use crate::turn::Relay;

/// A server that was silent for the whole patience is asked again so soon after it, and ever less
/// often then.
const SOONEST: Duration = Duration::from_millis(250);

impl Gatherer {
    /// Whether every server has answered, refused or been given up: [`Self::gathered`] is all that
    /// there will be. [`Self::is_finished`] is true without it when the patience is over.
    pub fn is_settled(&self) -> bool {
        !self.questions.iter().any(Question::is_asking)
            && self.relays.iter().all(Relay::is_settled)
            && self.mapped.is_settled()
            && !self.is_asking_by_tcp()
    }

    /// Whether those have who are waited for: not who kept silent the last time, when others
    /// answered, and nobody who is asked by TCP, once another has answered.
    pub(super) fn is_settled_enough(&self) -> bool {
        let mut questions = self.questions.iter();
        let mut relays = self.relays.iter();
        self.is_settled()
            || self.is_answered()
                && !questions.any(|question| question.is_asking() && !question.hopeless)
                && relays.all(|relay| relay.is_settled() || relay.is_hopeless())
                && self.mapped.is_settled()
    }

    /// When a server that has not answered is asked again: after as long a time as it has kept
    /// silent beyond the patience, so each time after twice as long.
    pub(super) fn late_pause(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.patience_ends)
            .clamp(SOONEST, KEEPALIVE)
    }

    /// Asks the TURN servers whether the allocations still stand. For sets that wait unused: in
    /// a call the peer's packets show it.
    pub fn verify(&mut self, now: Instant) {
        self.verify_relays(now);
    }

    /// Whether a TURN server has lost an allocation since it was told of in [`Self::gathered`]:
    /// it has another one now, by another address.
    pub fn is_stale(&self) -> bool {
        self.relays.iter().any(Relay::has_been_lost)
    }
}
