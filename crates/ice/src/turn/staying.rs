//! What becomes of an allocation that the server may have forgotten.

use std::time::{Duration, Instant};

use super::message::Wish;
use super::stream::Way;
use super::{LIFETIME, MOST_ALLOCATIONS, Relay, State};
use crate::gather::Base;
use crate::seed::Randomness;

/// A connection on which a question has waited so long for its answer is given up when candidates
/// are gathered again: TCP repeats itself ever less often, so it comes back late from a network
/// that was dead for a while.
const STREAM_SILENCE: Duration = Duration::from_secs(3);

impl Relay {
    /// Candidates are gathered again, and this allocation is to be among them: the server is asked
    /// whether it still holds it. The same socket may be of another preference now.
    pub(crate) fn stay(&mut self, now: Instant, base: Base, randomness: &mut Randomness) {
        self.base = base;
        self.names.follow();
        self.verified = false;
        self.attempts = 0;
        self.mismatches = 0;
        match self.state {
            State::Allocated if self.is_stuck(now) => {
                self.hang_up();
                self.lost(now);
            }
            State::Allocated => {
                // On a stream nothing is sent again.
                let known = |wish| matches!(wish, Wish::Refresh { .. });
                if self.is_datagrams() {
                    self.pending.retain(|pending| !known(pending.wish));
                }
                if !self.pending.iter().any(|pending| known(pending.wish)) {
                    self.request(now, Wish::Refresh { lifetime: LIFETIME }, randomness);
                }
            }
            // The answer is on its way, and cannot be lost.
            State::Asked if matches!(self.way, Way::Connected { .. }) && !self.is_stuck(now) => {}
            // The server that was silent is asked anew, not when its turn would have come.
            State::Asking { .. } | State::Asked => {
                self.pending.clear();
                self.hang_up();
                self.state = State::Asking { at: now };
            }
            State::Releasing | State::Closed => {}
        }
    }

    /// Candidates are gathered again. A server that has never answered, though others did, is not
    /// waited for any more.
    pub(crate) fn despair(&mut self, others_answered: bool) {
        let silent = !self.names.is_known() && !self.is_settled();
        self.hopeless = silent && (self.hopeless || others_answered);
    }

    /// Whether it is not waited for.
    pub(crate) fn is_hopeless(&self) -> bool {
        self.hopeless
    }

    /// Whether a connection brings no answers any more.
    fn is_stuck(&self, now: Instant) -> bool {
        let mut pending = self.pending.iter();
        !self.is_datagrams() && pending.any(|pending| pending.sent + STREAM_SILENCE <= now)
    }

    /// The server knows the allocation no more: it has restarted, or deleted it, as coturn does
    /// when it cannot send. Another one takes its place.
    pub(super) fn lost(&mut self, now: Instant) {
        if self.state != State::Allocated {
            return;
        }
        self.forget();
        self.lost = true;
        if self.attempts < MOST_ALLOCATIONS {
            self.state = State::Asking { at: now };
        } else {
            self.end();
        }
    }

    /// Whether the server has forgotten an allocation of ours once.
    pub(crate) fn has_been_lost(&self) -> bool {
        self.lost
    }

    /// Asks for a refresh now, whose answer says whether the allocation stands.
    pub(crate) fn verify(&mut self, now: Instant) {
        if self.state == State::Allocated {
            self.refresh = self.refresh.min(now);
        }
    }

    /// Asks a server once more that was given up for its silence, or had no room a while ago.
    pub(crate) fn revive(&mut self, now: Instant) {
        if self.state == State::Closed && self.again.take_if(|at| *at <= now).is_some() {
            self.attempts = 0;
            self.mismatches = 0;
            self.state = State::Asking { at: now };
        }
    }

    /// Whether the server has no room, and is not to be asked again so soon.
    pub(crate) fn is_barred(&self, now: Instant) -> bool {
        self.state == State::Closed && self.again.is_some_and(|at| at > now)
    }

    /// Given up for now; the server may be asked again after so long.
    pub(super) fn give_up_until(&mut self, at: Instant) {
        self.end();
        self.again = Some(at);
    }
}
