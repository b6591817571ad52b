//! Non-INVITE server transaction: RFC 3261 section 17.2.2.

use std::time::Instant;

use super::TIMEOUT;

/// A non-INVITE server transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ServerNonInvite {
    reliable: bool,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No response so far: retransmissions are dropped.
    Trying,
    Completed {
        timer_j: Instant,
    },
    Terminated,
}

impl ServerNonInvite {
    /// A request has arrived.
    pub(crate) fn new(reliable: bool) -> Self {
        Self {
            reliable,
            state: State::Trying,
        }
    }

    /// The request has arrived again. Whether the last response has to be repeated.
    pub(crate) fn handle_retransmission(&self) -> bool {
        matches!(self.state, State::Completed { .. })
    }

    /// The user sends its final response. Whether it may leave.
    pub(crate) fn respond(&mut self, now: Instant) -> bool {
        if self.state != State::Trying {
            return false;
        }
        self.state = if self.reliable {
            State::Terminated
        } else {
            State::Completed {
                timer_j: now + TIMEOUT,
            }
        };
        true
    }

    /// A timer is due.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if matches!(self.state, State::Completed { timer_j } if now >= timer_j) {
            self.state = State::Terminated;
        }
    }

    /// When [`Self::handle_timeout`] is wanted next.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Completed { timer_j } => Some(timer_j),
            State::Trying | State::Terminated => None,
        }
    }

    /// Nothing more will come of it.
    pub(crate) fn is_terminated(&self) -> bool {
        self.state == State::Terminated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timer_j_repeats_the_answer_to_retransmissions() {
        let origin = Instant::now();
        let mut machine = ServerNonInvite::new(false);
        assert!(!machine.handle_retransmission());
        assert!(machine.respond(origin));
        assert!(!machine.respond(origin));
        assert!(machine.handle_retransmission());
        assert_eq!(machine.poll_timeout(), Some(origin + TIMEOUT));
        machine.handle_timeout(origin + TIMEOUT);
        assert!(machine.is_terminated());
    }

    #[test]
    fn over_tcp_the_answer_ends_it() {
        let mut machine = ServerNonInvite::new(true);
        assert!(machine.respond(Instant::now()));
        assert!(machine.is_terminated());
    }
}
