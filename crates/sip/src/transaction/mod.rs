//! The four transaction machines of RFC 3261 section 17, with the corrections of RFC 6026.
//!
//! Each machine knows its states and timers and nothing else: no bytes, no headers, no sockets.
//! It is told what happened and answers with what has to be done, so that every timer of RFC 3261
//! table 4 can be tested to the millisecond.

mod client_invite;
mod client_non_invite;
mod server_invite;
mod server_non_invite;

use std::time::{Duration, Instant};

pub(crate) use client_invite::ClientInvite;
pub(crate) use client_non_invite::ClientNonInvite;
pub(crate) use server_invite::ServerInvite;
pub(crate) use server_non_invite::ServerNonInvite;

/// RTT estimate, RFC 3261 section 17.1.1.1.
pub(crate) const T1: Duration = Duration::from_millis(500);
/// The longest retransmission interval of non-INVITE requests and INVITE responses.
pub(crate) const T2: Duration = Duration::from_secs(4);
/// How long a message may stay in the network.
pub(crate) const T4: Duration = Duration::from_secs(5);
/// Timers B, F, H, J, L and M, RFC 3261 table 4 and RFC 6026 section 7.1.
pub(crate) const TIMEOUT: Duration = T1.saturating_mul(64);
/// Timer D over UDP: "at least 32 s", RFC 3261 section 17.1.1.2.
pub(crate) const TIMER_D: Duration = Duration::from_secs(32);

/// A retransmission timer: fires at `at`, then after ever longer intervals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Backoff {
    at: Instant,
    interval: Duration,
    longest: Duration,
}

impl Backoff {
    /// Fires first after T1, then doubles up to `longest` (`Duration::MAX`: without a bound).
    pub(crate) fn new(now: Instant, longest: Duration) -> Self {
        Self {
            at: now + T1,
            interval: T1,
            longest,
        }
    }

    /// When it fires next.
    pub(crate) fn at(&self) -> Instant {
        self.at
    }

    /// Whether it is due; if so, it is wound up again.
    pub(crate) fn fires(&mut self, now: Instant) -> bool {
        if now < self.at {
            return false;
        }
        self.interval = self.interval.saturating_mul(2).min(self.longest);
        // Counted from the planned time, so that a late wake-up does not stretch the series; a
        // very late one skips what was missed instead of sending a burst.
        self.at += self.interval;
        if self.at <= now {
            self.at = now + self.interval;
        }
        true
    }

    /// From the next firing on, the longest interval is used (RFC 3261 section 17.1.2.2,
    /// "Proceeding").
    pub(crate) fn slow_down(&mut self) {
        self.interval = self.longest;
    }
}

/// What a timer of a client transaction asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientAlarm {
    /// Not due, or only the end of the transaction.
    Nothing,
    /// Send the request again.
    Retransmit,
    /// Timer B or F: no final response. The transaction is over.
    TimedOut,
}

/// What a response means to a client transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClientStep {
    /// The transaction user gets the response.
    pub(crate) deliver: bool,
    /// The transaction acknowledges it (final INVITE responses above 299).
    pub(crate) ack: bool,
}

impl ClientStep {
    const ABSORB: Self = Self {
        deliver: false,
        ack: false,
    };
    const DELIVER: Self = Self {
        deliver: true,
        ack: false,
    };
}

/// What a timer of a server transaction asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServerAlarm {
    /// Not due, or only the end of the transaction.
    Nothing,
    /// Send the last response again.
    Retransmit,
    /// Timer H: the final response was never acknowledged.
    AckMissing,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Milliseconds after the origin at which `fire` was due, until it has no more alarms.
    pub(crate) fn alarms<A: Copy + PartialEq>(
        origin: Instant,
        mut next: impl FnMut() -> Option<Instant>,
        mut fire: impl FnMut(Instant) -> A,
    ) -> Vec<(u64, A)> {
        let mut seen = Vec::new();
        while let Some(at) = next() {
            let after = at.duration_since(origin).as_millis() as u64;
            seen.push((after, fire(at)));
            assert!(seen.len() < 100, "the transaction never ends");
        }
        seen
    }

    #[test]
    fn a_late_wake_up_sends_no_burst() {
        let origin = Instant::now();
        let mut backoff = Backoff::new(origin, T2);
        let late = origin + Duration::from_secs(20);
        assert!(backoff.fires(late));
        assert!(!backoff.fires(late));
        assert_eq!(backoff.at(), late + Duration::from_secs(1));
    }
}
