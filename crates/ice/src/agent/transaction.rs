//! Binding transactions: their retransmission and their end (RFC 8489 section 6.2.1).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::pair::PairId;
use crate::event::{Path, Role, Transmit};
use crate::stun::TransactionId;

/// Rc: a request is sent at most so often (RFC 8489 section 6.2.1).
const RC: u32 = 7;
/// Rm: the last one is waited for so many RTOs.
const RM: u32 = 16;
/// Ti: an answer by a reliable transport is waited for so long (RFC 8489 section 6.2.2).
const TI: Duration = Duration::from_millis(39_500);
/// RFC 8445 section 14.3: the RTO is never smaller.
pub(super) const SMALLEST_RTO: Duration = Duration::from_millis(500);
/// Cancelled transactions are remembered up to so many in all; the oldest go first.
const MOST_TRANSACTIONS: usize = 512;

/// What a success response means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// An ordinary, triggered or dense check.
    Check,
    /// A check with USE-CANDIDATE, sent while we control.
    Nomination,
    /// RFC 7675: sent once, and its loss is no failure.
    Consent,
}

/// When something happens to a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Schedule {
    /// The request is sent again then.
    Retransmit {
        at: Instant,
        interval: Duration,
        left: u32,
        payload: Vec<u8>,
    },
    /// All has been sent; it times out then, which fails the check.
    LastWait { until: Instant },
    /// Cancelled (RFC 8445 section 7.3.1.4), or sent only once: an answer is welcome until then,
    /// and none is no failure.
    Listening { until: Instant },
}

/// A Binding request of ours that has not been answered.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) id: TransactionId,
    pub(super) pair: PairId,
    pub(super) purpose: Purpose,
    pub(super) path: Path,
    /// The PRIORITY it carried: that of a peer-reflexive candidate that it may discover.
    pub(super) priority: u32,
    /// The role that it claimed.
    pub(super) role: Role,
    /// When it was last sent.
    pub(super) sent: Instant,
    schedule: Schedule,
}

impl Transaction {
    /// A check that was sent just now and is to be retransmitted.
    pub(super) fn retransmitted(self, rto: Duration, payload: Vec<u8>) -> Self {
        let rto = rto.max(SMALLEST_RTO);
        Self {
            schedule: Schedule::Retransmit {
                at: self.sent + rto,
                interval: rto,
                left: RC - 1,
                payload,
            },
            ..self
        }
    }

    /// A check that was sent just now by a connection, which delivers it or breaks: it is waited
    /// for as long as a retransmitted one (RFC 8489 section 6.2.2: Ti).
    pub(super) fn reliable(self) -> Self {
        Self {
            schedule: Schedule::LastWait {
                until: self.sent + TI,
            },
            ..self
        }
    }

    fn due(&self) -> Instant {
        match self.schedule {
            Schedule::Retransmit { at, .. } => at,
            Schedule::LastWait { until } | Schedule::Listening { until } => until,
        }
    }
}

/// The parts of a new transaction that its sender decides.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    pub(super) id: TransactionId,
    pub(super) pair: PairId,
    pub(super) purpose: Purpose,
    pub(super) path: Path,
    pub(super) priority: u32,
    pub(super) role: Role,
}

impl Request {
    /// The transaction of a request sent now, answers welcome for `listen`.
    pub(super) fn sent(self, now: Instant, listen: Duration) -> Transaction {
        Transaction {
            id: self.id,
            pair: self.pair,
            purpose: self.purpose,
            path: self.path,
            priority: self.priority,
            role: self.role,
            sent: now,
            schedule: Schedule::Listening {
                until: now + listen,
            },
        }
    }
}

/// The transactions of one agent.
#[derive(Debug, Default)]
pub(super) struct Transactions(VecDeque<Transaction>);

impl Transactions {
    pub(super) fn insert(&mut self, transaction: Transaction) {
        if self.0.len() >= MOST_TRANSACTIONS {
            let oldest = self
                .0
                .iter()
                .position(|known| matches!(known.schedule, Schedule::Listening { .. }));
            self.0.remove(oldest.unwrap_or(0));
        }
        self.0.push_back(transaction);
    }

    pub(super) fn get(&self, id: TransactionId) -> Option<&Transaction> {
        self.0.iter().find(|transaction| transaction.id == id)
    }

    /// Takes out the transaction that a response belongs to: it is answered once.
    pub(super) fn take(&mut self, id: TransactionId) -> Option<Transaction> {
        let index = self.0.iter().position(|known| known.id == id)?;
        self.0.remove(index)
    }

    /// RFC 8445 section 7.3.1.4: no retransmission, no failure, but an answer is still welcome.
    pub(super) fn cancel(&mut self, now: Instant, which: impl Fn(&Transaction) -> bool) {
        for transaction in self.0.iter_mut().filter(|known| which(known)) {
            if !matches!(transaction.schedule, Schedule::Listening { .. }) {
                transaction.schedule = Schedule::Listening {
                    until: now + SMALLEST_RTO * (RM + (1 << (RC - 1)) - 1),
                };
            }
        }
    }

    /// Forgets transactions: their answers will mean nothing.
    pub(super) fn forget(&mut self, which: impl Fn(&Transaction) -> bool) {
        self.0.retain(|known| !which(known));
    }

    pub(super) fn any(&self, which: impl Fn(&Transaction) -> bool) -> bool {
        self.0.iter().any(which)
    }

    /// The latest of this purpose that may still fail.
    pub(super) fn latest(&self, purpose: Purpose) -> Option<&Transaction> {
        self.0.iter().rev().find(|known| {
            known.purpose == purpose && !matches!(known.schedule, Schedule::Listening { .. })
        })
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.0.iter().map(Transaction::due).min()
    }

    /// Retransmits what is due; gives back the checks that have failed by timeout.
    pub(super) fn handle_timeout(
        &mut self,
        now: Instant,
        mut send: impl FnMut(Transmit),
    ) -> Vec<Transaction> {
        if self.poll_timeout().is_none_or(|due| due > now) {
            return Vec::new();
        }
        for transaction in self.0.iter_mut().filter(|known| known.due() <= now) {
            let Schedule::Retransmit {
                interval,
                left,
                payload,
                ..
            } = &transaction.schedule
            else {
                continue;
            };
            send(Transmit {
                base: transaction.path.base,
                to: transaction.path.remote,
                payload: payload.clone(),
            });
            transaction.sent = now;
            transaction.schedule = match *left {
                // The first of Rc intervals is one RTO, so the last is 2^(Rc-2) of them.
                1 => Schedule::LastWait {
                    until: now + *interval / (1 << (RC - 2)) * RM,
                },
                left => Schedule::Retransmit {
                    at: now + *interval * 2,
                    interval: *interval * 2,
                    left: left - 1,
                    payload: payload.clone(),
                },
            };
        }
        let (over, open): (VecDeque<_>, _) = std::mem::take(&mut self.0)
            .into_iter()
            .partition(|known| known.due() <= now);
        self.0 = open;
        over.into_iter()
            .filter(|known| matches!(known.schedule, Schedule::LastWait { .. }))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8489 section 6.2.1: with an RTO of 500 ms, requests at 0, 500, 1500, 3500, 7500, 15500
    /// and 31500 ms; failure at 39500 ms.
    #[test]
    fn the_schedule_of_rfc_8489() {
        let start = Instant::now();
        let address = "192.0.2.1:1".parse().unwrap();
        let mut transactions = Transactions::default();
        let request = Request {
            id: TransactionId(1),
            pair: PairId(1),
            purpose: Purpose::Check,
            path: Path::udp(address, address),
            priority: 1,
            role: Role::Controlled,
        };
        transactions.insert(
            request
                .sent(start, Duration::ZERO)
                .retransmitted(Duration::ZERO, vec![1]),
        );
        let mut sent = vec![0];
        loop {
            let now = transactions.poll_timeout().unwrap();
            let failed = transactions.handle_timeout(now, |_| {
                sent.push((now - start).as_millis());
            });
            if !failed.is_empty() {
                assert_eq!((now - start).as_millis(), 39_500);
                break;
            }
        }
        assert_eq!(sent, [0, 500, 1500, 3500, 7500, 15500, 31500]);
        assert!(transactions.poll_timeout().is_none());
    }
}
