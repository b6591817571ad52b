//! Non-INVITE client transaction: RFC 3261 section 17.1.2.

use std::time::Instant;

use super::{Backoff, ClientAlarm, ClientStep, T2, T4, TIMEOUT};

/// A non-INVITE client transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClientNonInvite {
    reliable: bool,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// `Trying` and `Proceeding` of the RFC, which differ in timer E alone.
    Pending {
        answered: bool,
        timer_e: Option<Backoff>,
        timer_f: Instant,
    },
    Completed {
        timer_k: Instant,
    },
    Terminated,
}

impl ClientNonInvite {
    /// The request leaves now.
    pub(crate) fn new(now: Instant, reliable: bool) -> Self {
        Self {
            reliable,
            state: State::Pending {
                answered: false,
                timer_e: (!reliable).then(|| Backoff::new(now, T2)),
                timer_f: now + TIMEOUT,
            },
        }
    }

    /// A response with this status has arrived.
    pub(crate) fn handle_response(&mut self, now: Instant, status: u16) -> ClientStep {
        match (&mut self.state, status) {
            (
                State::Pending {
                    answered, timer_e, ..
                },
                100..=199,
            ) => {
                *answered = true;
                if let Some(timer) = timer_e {
                    timer.slow_down();
                }
                ClientStep::DELIVER
            }
            (State::Pending { .. }, _) => {
                self.state = if self.reliable {
                    State::Terminated
                } else {
                    State::Completed { timer_k: now + T4 }
                };
                ClientStep::DELIVER
            }
            _ => ClientStep::ABSORB,
        }
    }

    /// A timer is due.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> ClientAlarm {
        match &mut self.state {
            State::Pending {
                timer_e, timer_f, ..
            } => {
                if now >= *timer_f {
                    self.state = State::Terminated;
                    return ClientAlarm::TimedOut;
                }
                if timer_e.as_mut().is_some_and(|timer| timer.fires(now)) {
                    return ClientAlarm::Retransmit;
                }
            }
            State::Completed { timer_k } => {
                if now >= *timer_k {
                    self.state = State::Terminated;
                }
            }
            State::Terminated => {}
        }
        ClientAlarm::Nothing
    }

    /// When [`Self::handle_timeout`] is wanted next.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Pending {
                timer_e, timer_f, ..
            } => Some(timer_e.map_or(timer_f, |timer| timer.at().min(timer_f))),
            State::Completed { timer_k } => Some(timer_k),
            State::Terminated => None,
        }
    }

    /// No response has come so far.
    pub(crate) fn is_unanswered(&self) -> bool {
        matches!(
            self.state,
            State::Pending {
                answered: false,
                ..
            }
        )
    }

    /// A final response is still awaited.
    pub(crate) fn is_pending(&self) -> bool {
        matches!(self.state, State::Pending { .. })
    }

    /// Nothing more will come of it.
    pub(crate) fn is_terminated(&self) -> bool {
        self.state == State::Terminated
    }
}

#[cfg(test)]
mod tests {
    use super::super::T1;
    use super::super::tests::alarms;
    use super::*;

    #[test]
    fn timer_e_doubles_up_to_t2_until_timer_f() {
        let origin = Instant::now();
        let machine = std::cell::RefCell::new(ClientNonInvite::new(origin, false));
        let seen = alarms(
            origin,
            || machine.borrow().poll_timeout(),
            |at| machine.borrow_mut().handle_timeout(at),
        );
        // RFC 3261 section 17.1.2.2: "500 ms, 1 s, 2 s, 4 s, 4 s, 4 s, etc."
        let times: Vec<u64> = seen.iter().map(|(at, _)| *at).collect();
        assert_eq!(
            times,
            [
                500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500, 31500, 32000
            ]
        );
        assert_eq!(seen.last(), Some(&(32000, ClientAlarm::TimedOut)));
    }

    #[test]
    fn a_provisional_response_slows_timer_e_to_t2() {
        let origin = Instant::now();
        let mut machine = ClientNonInvite::new(origin, false);
        assert!(machine.is_unanswered());
        machine.handle_response(origin, 100);
        assert!(!machine.is_unanswered());
        let first = origin + T1;
        assert_eq!(machine.handle_timeout(first), ClientAlarm::Retransmit);
        assert_eq!(machine.poll_timeout(), Some(first + T2));
    }

    #[test]
    fn timer_k_absorbs_repeated_answers_over_udp_only() {
        let origin = Instant::now();
        let mut machine = ClientNonInvite::new(origin, false);
        assert!(machine.handle_response(origin, 200).deliver);
        assert!(!machine.handle_response(origin, 200).deliver);
        assert_eq!(machine.poll_timeout(), Some(origin + T4));
        machine.handle_timeout(origin + T4);
        assert!(machine.is_terminated());

        let mut tcp = ClientNonInvite::new(origin, true);
        assert!(tcp.handle_response(origin, 200).deliver);
        assert!(tcp.is_terminated());
    }
}
