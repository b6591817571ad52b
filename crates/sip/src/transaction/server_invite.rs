//! INVITE server transaction: RFC 3261 section 17.2.1, RFC 6026 section 7.1.

use std::time::Instant;

use super::{Backoff, ServerAlarm, T2, T4, TIMEOUT};

/// An INVITE server transaction.
///
/// The endpoint answers 100 at once, so the 200 ms that the RFC allows for it need no timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ServerInvite {
    reliable: bool,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Proceeding,
    Completed {
        timer_g: Option<Backoff>,
        timer_h: Instant,
    },
    Confirmed {
        timer_i: Instant,
    },
    /// A 2xx was sent; its retransmission is the user's.
    Accepted {
        timer_l: Instant,
    },
    Terminated,
}

impl ServerInvite {
    /// An INVITE has arrived.
    pub(crate) fn new(reliable: bool) -> Self {
        Self {
            reliable,
            state: State::Proceeding,
        }
    }

    /// The INVITE has arrived again. Whether the last response has to be repeated.
    pub(crate) fn handle_retransmission(&self) -> bool {
        matches!(self.state, State::Proceeding | State::Completed { .. })
    }

    /// The user sends a response with this status. Whether it may leave.
    pub(crate) fn respond(&mut self, now: Instant, status: u16) -> bool {
        match (self.state, status) {
            (State::Proceeding, 100..=199) => true,
            (State::Proceeding, 200..=299) => {
                self.state = State::Accepted {
                    timer_l: now + TIMEOUT,
                };
                true
            }
            (State::Proceeding, _) => {
                self.state = State::Completed {
                    timer_g: (!self.reliable).then(|| Backoff::new(now, T2)),
                    timer_h: now + TIMEOUT,
                };
                true
            }
            // The user repeats its 2xx until the ACK comes (RFC 3261 section 13.3.1.4).
            (State::Accepted { .. }, 200..=299) => true,
            _ => false,
        }
    }

    /// An ACK for a response above 299 has arrived.
    pub(crate) fn handle_ack(&mut self, now: Instant) {
        if let State::Completed { .. } = self.state {
            self.state = if self.reliable {
                State::Terminated
            } else {
                State::Confirmed { timer_i: now + T4 }
            };
        }
    }

    /// A timer is due.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> ServerAlarm {
        match &mut self.state {
            State::Completed { timer_g, timer_h } => {
                if now >= *timer_h {
                    self.state = State::Terminated;
                    return ServerAlarm::AckMissing;
                }
                if timer_g.as_mut().is_some_and(|timer| timer.fires(now)) {
                    return ServerAlarm::Retransmit;
                }
            }
            State::Confirmed { timer_i: end } | State::Accepted { timer_l: end } => {
                if now >= *end {
                    self.state = State::Terminated;
                }
            }
            State::Proceeding | State::Terminated => {}
        }
        ServerAlarm::Nothing
    }

    /// When [`Self::handle_timeout`] is wanted next.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Completed { timer_g, timer_h } => {
                Some(timer_g.map_or(timer_h, |timer| timer.at().min(timer_h)))
            }
            State::Confirmed { timer_i: end } | State::Accepted { timer_l: end } => Some(end),
            State::Proceeding | State::Terminated => None,
        }
    }

    /// No final response has been sent.
    pub(crate) fn is_proceeding(&self) -> bool {
        self.state == State::Proceeding
    }

    /// A 2xx was sent: its ACK is the user's (RFC 6026 section 7.1).
    pub(crate) fn awaits_user_ack(&self) -> bool {
        matches!(self.state, State::Accepted { .. })
    }

    /// A refusal was sent and is repeated until its ACK.
    pub(crate) fn awaits_ack(&self) -> bool {
        matches!(self.state, State::Completed { .. })
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
    fn timer_g_repeats_a_refusal_until_timer_h() {
        let origin = Instant::now();
        let mut machine = ServerInvite::new(false);
        assert!(machine.respond(origin, 480));
        let machine = std::cell::RefCell::new(machine);
        let seen = alarms(
            origin,
            || machine.borrow().poll_timeout(),
            |at| machine.borrow_mut().handle_timeout(at),
        );
        let times: Vec<u64> = seen.iter().map(|(at, _)| *at).collect();
        assert_eq!(
            times,
            [
                500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500, 31500, 32000
            ]
        );
        assert_eq!(seen.last(), Some(&(32000, ServerAlarm::AckMissing)));
    }

    #[test]
    fn the_ack_stops_timer_g_and_timer_i_absorbs_more() {
        let origin = Instant::now();
        let mut machine = ServerInvite::new(false);
        machine.respond(origin, 486);
        assert!(machine.handle_retransmission());
        machine.handle_ack(origin + T1);
        assert!(!machine.handle_retransmission());
        assert_eq!(machine.poll_timeout(), Some(origin + T1 + T4));
        machine.handle_timeout(origin + T1 + T4);
        assert!(machine.is_terminated());
    }

    #[test]
    fn over_tcp_no_timer_g_and_no_timer_i() {
        let origin = Instant::now();
        let mut machine = ServerInvite::new(true);
        machine.respond(origin, 486);
        assert_eq!(machine.poll_timeout(), Some(origin + TIMEOUT));
        machine.handle_ack(origin);
        assert!(machine.is_terminated());
    }

    #[test]
    fn accepted_absorbs_retransmissions_until_timer_l() {
        let origin = Instant::now();
        let mut machine = ServerInvite::new(false);
        assert!(machine.respond(origin, 183));
        assert!(machine.handle_retransmission());
        assert!(machine.respond(origin, 200));
        assert!(!machine.handle_retransmission());
        assert!(!machine.respond(origin, 487));
        assert!(machine.respond(origin, 200));
        machine.handle_ack(origin);
        assert_eq!(machine.poll_timeout(), Some(origin + TIMEOUT));
        machine.handle_timeout(origin + TIMEOUT);
        assert!(machine.is_terminated());
    }
}
