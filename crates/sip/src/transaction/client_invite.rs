//! INVITE client transaction: RFC 3261 section 17.1.1, RFC 6026 section 7.2.

use std::time::{Duration, Instant};

use super::{Backoff, ClientAlarm, ClientStep, T1, TIMEOUT, TIMER_D};

/// An INVITE client transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClientInvite {
    reliable: bool,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// `timer_a` is absent over a reliable transport.
    Calling {
        timer_a: Option<Backoff>,
        timer_b: Instant,
    },
    Proceeding,
    Accepted {
        timer_m: Instant,
    },
    Completed {
        timer_d: Instant,
    },
    Terminated,
}

impl ClientInvite {
    /// The request leaves now.
    pub(crate) fn new(now: Instant, reliable: bool) -> Self {
        Self {
            reliable,
            state: State::Calling {
                // Timer A doubles without a bound; timer B ends it after seven transmissions.
                timer_a: (!reliable).then(|| Backoff::new(now, Duration::MAX)),
                timer_b: now + TIMEOUT,
            },
        }
    }

    /// A response with this status has arrived.
    pub(crate) fn handle_response(&mut self, now: Instant, status: u16) -> ClientStep {
        match (self.state, status) {
            (State::Calling { .. } | State::Proceeding, 100..=199) => {
                self.state = State::Proceeding;
                ClientStep::DELIVER
            }
            (State::Calling { .. } | State::Proceeding, 200..=299) => {
                self.state = State::Accepted {
                    timer_m: now + TIMEOUT,
                };
                ClientStep::DELIVER
            }
            (State::Calling { .. } | State::Proceeding, _) => {
                self.state = if self.reliable {
                    State::Terminated
                } else {
                    State::Completed {
                        timer_d: now + TIMER_D,
                    }
                };
                ClientStep {
                    deliver: true,
                    ack: true,
                }
            }
            // Retransmissions and the 2xx of other forks: the ACK is the user's (RFC 6026 7.2).
            (State::Accepted { .. }, 200..=299) => ClientStep::DELIVER,
            (State::Completed { .. }, 300..) => ClientStep {
                deliver: false,
                ack: true,
            },
            _ => ClientStep::ABSORB,
        }
    }

    /// A timer is due.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> ClientAlarm {
        match &mut self.state {
            State::Calling { timer_a, timer_b } => {
                if now >= *timer_b {
                    self.state = State::Terminated;
                    return ClientAlarm::TimedOut;
                }
                if timer_a.as_mut().is_some_and(|timer| timer.fires(now)) {
                    return ClientAlarm::Retransmit;
                }
            }
            State::Accepted { timer_m: end } | State::Completed { timer_d: end } => {
                if now >= *end {
                    self.state = State::Terminated;
                }
            }
            State::Proceeding | State::Terminated => {}
        }
        ClientAlarm::Nothing
    }

    /// When [`Self::handle_timeout`] is wanted next.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Calling { timer_a, timer_b } => {
                Some(timer_a.map_or(timer_b, |timer| timer.at().min(timer_b)))
            }
            State::Accepted { timer_m: end } | State::Completed { timer_d: end } => Some(end),
            State::Proceeding | State::Terminated => None,
        }
    }

    /// No response has come so far: a CANCEL has to wait (RFC 3261 section 9.1).
    pub(crate) fn is_calling(&self) -> bool {
        matches!(self.state, State::Calling { .. })
    }

    /// A final response is still awaited.
    pub(crate) fn is_pending(&self) -> bool {
        matches!(self.state, State::Calling { .. } | State::Proceeding)
    }

    /// Nothing more will come of it.
    pub(crate) fn is_terminated(&self) -> bool {
        self.state == State::Terminated
    }
}

// Timer B is 64 * T1; the series of timer A fits into it: 0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5 s.
const _: () = assert!(TIMEOUT.as_millis() == 64 * T1.as_millis());

#[cfg(test)]
mod tests {
    use super::super::tests::alarms;
    use super::*;

    #[test]
    fn timer_a_doubles_until_timer_b() {
        let origin = Instant::now();
        let machine = std::cell::RefCell::new(ClientInvite::new(origin, false));
        let seen = alarms(
            origin,
            || machine.borrow().poll_timeout(),
            |at| machine.borrow_mut().handle_timeout(at),
        );
        let again = ClientAlarm::Retransmit;
        let expected = [500, 1500, 3500, 7500, 15500, 31500].map(|at| (at, again));
        assert_eq!(seen[..6], expected);
        assert_eq!(seen[6..], [(32000, ClientAlarm::TimedOut)]);
        assert!(machine.borrow().is_terminated());
    }

    #[test]
    fn over_tcp_only_timer_b_runs() {
        let origin = Instant::now();
        let machine = ClientInvite::new(origin, true);
        assert_eq!(machine.poll_timeout(), Some(origin + TIMEOUT));
    }

    #[test]
    fn a_provisional_response_stops_every_timer() {
        let origin = Instant::now();
        let mut machine = ClientInvite::new(origin, false);
        assert_eq!(machine.handle_response(origin, 100), ClientStep::DELIVER);
        assert_eq!(machine.poll_timeout(), None);
        assert!(!machine.is_terminated() && !machine.is_calling());
    }

    #[test]
    fn a_refusal_is_acknowledged_again_for_32_s() {
        let origin = Instant::now();
        let mut machine = ClientInvite::new(origin, false);
        let step = machine.handle_response(origin, 486);
        assert!(step.deliver && step.ack);
        let again = machine.handle_response(origin + T1, 486);
        assert!(!again.deliver && again.ack);
        let end = origin + TIMER_D;
        assert_eq!(machine.poll_timeout(), Some(end));
        assert_eq!(machine.handle_timeout(end), ClientAlarm::Nothing);
        assert!(machine.is_terminated());
    }

    #[test]
    fn over_tcp_a_refusal_ends_at_once() {
        let origin = Instant::now();
        let mut machine = ClientInvite::new(origin, true);
        assert!(machine.handle_response(origin, 603).ack);
        assert!(machine.is_terminated());
    }

    #[test]
    fn accepted_passes_every_2xx_and_nothing_else_for_timer_m() {
        let origin = Instant::now();
        let mut machine = ClientInvite::new(origin, false);
        assert!(machine.handle_response(origin, 200).deliver);
        assert!(machine.handle_response(origin + T1, 200).deliver);
        assert_eq!(
            machine.handle_response(origin + T1, 180),
            ClientStep::ABSORB
        );
        assert_eq!(
            machine.handle_response(origin + T1, 486),
            ClientStep::ABSORB
        );
        assert_eq!(machine.poll_timeout(), Some(origin + TIMEOUT));
        machine.handle_timeout(origin + TIMEOUT);
        assert!(machine.is_terminated());
        assert_eq!(
            machine.handle_response(origin + TIMEOUT, 200),
            ClientStep::ABSORB
        );
    }
}
