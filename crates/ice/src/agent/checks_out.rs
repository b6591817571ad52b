//! Sending checks and reading their answers: the client (RFC 8445 sections 6.1.4.2 and 7.2).

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::checklist::TriggeredCheck;
use super::pair::{CandidatePair, PairId, PairState};
use super::transaction::{Purpose, Request, SMALLEST_RTO, Transaction};
use super::valid::CONSENT_EXPIRES;
use super::{Agent, Phase};
use crate::candidate::CandidateType;
use crate::event::{FailureReason, Path, Role};
use crate::gather::priority_of;
use crate::stun::{Binding, Check, Class, FORBIDDEN, ROLE_CONFLICT, TransactionId};

/// Two honest agents settle a role conflict with one switch.
const MOST_ROLE_SWITCHES: u32 = 8;

/// While other pairs wait for their first check, so many slots go to re-checks of the pairs that
/// lead for one that goes to them.
const LEADERS_RECHECKS: u32 = 2;

/// What the agent does with its next free slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// The head of the triggered-check queue.
    Triggered,
    /// A consent check on the pair in use.
    Consent(PairRef),
    /// An ordinary check.
    Ordinary(PairRef),
    /// The connection for an ordinary check by TCP is opened. It is no transaction: the check
    /// follows in a slot of its own, when the connection stands.
    Open(PairRef),
    /// A dense re-check of an unfinished pair.
    Recheck(PairRef),
    /// The same for a nominating check.
    Renomination(PairRef),
}

/// A response that belongs to a transaction of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Response {
    /// The peer answers from there: the pair is valid.
    Validated,
    /// Anything else: an error, a stranger's, one that came from elsewhere.
    Other,
}

impl Work {
    /// Whether it is no transaction, and so not paced with the others.
    pub(crate) fn is_open(self) -> bool {
        matches!(self, Self::Open(_))
    }
}

/// A pair, named outside the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PairRef(PairId);

impl Agent {
    /// What to do with the next slot, and from when on: at most one new transaction per Ta.
    pub(crate) fn next_work(&self, rechecks_left: bool) -> Option<(Instant, Work)> {
        if matches!(self.phase, Phase::Lost) {
            return None;
        }
        if self.checklist.next_triggered().is_some() {
            return Some((self.next_slot, Work::Triggered));
        }
        let consent = self
            .next_consent()
            .map(|(due, pair)| (due.max(self.next_slot), Work::Consent(PairRef(pair))));
        if matches!(self.phase, Phase::GaveUp) {
            return consent;
        }
        let nomination = self
            .next_renomination()
            .map(|(ready, pair)| (ready.max(self.next_slot), Work::Renomination(PairRef(pair))))
            .filter(|(ready, _)| rechecks_left && *ready <= self.dense_ends);
        if let Some(pair) = self.checklist.next_ordinary(&self.candidates, false) {
            let mut ordinary = (self.next_slot, Work::Ordinary(PairRef(pair.id)));
            // A re-check of a pair that leads does not wait for all first checks of the others.
            if !pair.leads && self.rechecks_in_a_row < LEADERS_RECHECKS && rechecks_left {
                let recheck = self.next_recheck(|pair| pair.leads);
                ordinary = recheck
                    .filter(|(ready, _)| (*ready).max(self.next_slot) <= self.dense_ends)
                    .filter(|(ready, _)| *ready <= self.next_slot)
                    .map_or(ordinary, |(_, id)| {
                        (self.next_slot, Work::Recheck(PairRef(id)))
                    });
            }
            // What is due now comes first, what is due later does not hold the check up: consent, and
            // a nomination that was lost, which a hundred first checks are not to delay.
            let urgent = consent.into_iter().chain(nomination);
            let due = urgent.into_iter().find(|(due, _)| *due <= self.next_slot);
            return Some(due.unwrap_or(ordinary));
        }
        let pair = self
            .next_recheck(|_| true)
            .map(|(ready, pair)| (ready, Work::Recheck(PairRef(pair))));
        let recheck = pair
            .map(|(ready, work)| (ready.max(self.next_slot), work))
            .filter(|(ready, _)| rechecks_left && *ready <= self.dense_ends);
        let recheck = nomination.into_iter().chain(recheck);
        let open = self
            .checklist
            .next_ordinary(&self.candidates, true)
            .and_then(|pair| Some((self.may_open(pair.id)?, Work::Open(PairRef(pair.id)))));
        // Of what is due for the same slot, the first: consent, the nomination, then the others.
        consent
            .into_iter()
            .chain(recheck)
            .chain(open)
            .min_by_key(|(ready, _)| *ready)
    }

    /// Where a check would go that the peer has given no reason for but its description: an
    /// ordinary one, its connection, or a dense re-check. A triggered one goes where a check came from.
    pub(crate) fn unasked(&self, work: Work) -> Option<IpAddr> {
        match work {
            Work::Ordinary(PairRef(pair))
            | Work::Open(PairRef(pair))
            | Work::Recheck(PairRef(pair)) => {
                let pair = self.checklist.get(pair)?;
                Some(self.candidates.remote(pair.remote).address.ip())
            }
            Work::Triggered | Work::Consent(_) | Work::Renomination(_) => None,
        }
    }

    /// The address of this pair has had its share: it is not checked, and not re-checked either.
    pub(crate) fn pass_over(&mut self, work: Work) {
        let dense_ends = self.dense_ends;
        if let Work::Ordinary(PairRef(pair))
        | Work::Open(PairRef(pair))
        | Work::Recheck(PairRef(pair)) = work
            && let Some(pair) = self.checklist.get_mut(pair)
        {
            pair.state = match pair.state {
                PairState::Frozen | PairState::Waiting => PairState::Failed,
                // Later than any re-check.
                PairState::InProgress { since, .. } => PairState::InProgress {
                    since,
                    latest: dense_ends + Duration::from_millis(1),
                },
                done @ (PairState::Succeeded | PairState::Failed) => done,
            };
        }
    }

    fn next_recheck(&self, of: impl Fn(&CandidatePair) -> bool) -> Option<(Instant, PairId)> {
        let best = |component| {
            let valid = self.valid.in_use(component)?;
            let pair = self.checklist.get(valid.via)?;
            // A component that has its nominated pair is done.
            Some(if valid.nominated {
                u64::MAX
            } else {
                pair.priority
            })
        };
        self.checklist
            .next_recheck(&self.candidates, self.started, of, best)
    }

    /// Does it. True if that was a dense re-check.
    pub(crate) fn work(&mut self, now: Instant, work: Work) -> bool {
        if let Work::Open(PairRef(pair)) = work {
            self.open(now, pair);
            return false;
        }
        self.next_slot = now + self.ta;
        self.log_start(now);
        if let Some(path) = self.permissions.pop_front() {
            self.transmit(path, Vec::new());
        }
        match work {
            Work::Recheck(_) => self.rechecks_in_a_row += 1,
            Work::Ordinary(_) => self.rechecks_in_a_row = 0,
            _ => {}
        }
        match work {
            Work::Triggered => {
                if let Some(TriggeredCheck { pair, nominate }) = self.checklist.next_triggered() {
                    self.checklist.untrigger(pair);
                    if nominate {
                        self.send(now, pair, Purpose::Nomination);
                    } else {
                        self.check(now, pair);
                    }
                }
            }
            Work::Consent(PairRef(pair)) => {
                let interval = self.consent_interval(now);
                if let Some(valid) = self.valid.via_mut(pair) {
                    valid.next_consent = now + interval;
                }
                self.send(now, pair, Purpose::Consent);
            }
            Work::Ordinary(PairRef(pair)) | Work::Recheck(PairRef(pair)) => self.check(now, pair),
            Work::Open(_) => {}
            Work::Renomination(PairRef(pair)) => {
                let nominates = |purpose| purpose == Purpose::Nomination;
                self.transactions
                    .cancel(now, |known| known.pair == pair && nominates(known.purpose));
                self.send(now, pair, Purpose::Nomination);
            }
        }
        matches!(work, Work::Recheck(_) | Work::Renomination(_))
    }

    /// A check of a pair that has not succeeded: a new transaction beside the earlier ones, which
    /// are no longer retransmitted.
    fn check(&mut self, now: Instant, id: PairId) {
        let Some(pair) = self.checklist.get_mut(id) else {
            return;
        };
        pair.state = match pair.state {
            PairState::InProgress { since, .. } => PairState::InProgress { since, latest: now },
            PairState::Frozen | PairState::Waiting => PairState::InProgress {
                since: now,
                latest: now,
            },
            PairState::Succeeded | PairState::Failed => return,
        };
        self.transactions.cancel(now, |known| {
            known.pair == id && known.purpose == Purpose::Check
        });
        self.send(now, id, Purpose::Check);
    }

    fn send(&mut self, now: Instant, id: PairId, purpose: Purpose) {
        let Some(pair) = self.checklist.get(id) else {
            return;
        };
        let base = self.candidates.local(pair.local);
        let path = self.candidates.path(pair.local, pair.remote);
        let request = Request {
            id: TransactionId(self.randomness.transaction_id()),
            pair: id,
            purpose,
            path,
            // RFC 8445 section 7.1.1: the priority of a peer-reflexive candidate, if this check
            // discovers one.
            priority: priority_of(
                path.protocol,
                CandidateType::PeerReflexive,
                base.local_preference,
                pair.component,
            ),
            role: self.role,
        };
        let bytes = Check {
            id: request.id,
            ufrags: (&self.remote.credentials.ufrag, &self.local.ufrag),
            password: &self.remote.credentials.pwd,
            priority: request.priority,
            role: self.role,
            tie_breaker: self.tie_breaker,
            use_candidate: purpose == Purpose::Nomination,
        }
        .to_bytes();
        let Some(bytes) = bytes else { return };
        self.transmit(path, bytes.clone());
        self.tried.insert(id);
        self.transactions.insert(match purpose {
            Purpose::Consent => request.sent(now, CONSENT_EXPIRES),
            Purpose::Check | Purpose::Nomination if path.protocol.is_tcp() => {
                request.sent(now, Duration::ZERO).reliable()
            }
            // One at a time, on a way that is proven: the others are no reason to be slow.
            Purpose::Nomination => request
                .sent(now, Duration::ZERO)
                .retransmitted(SMALLEST_RTO, bytes),
            Purpose::Check => request
                .sent(now, Duration::ZERO)
                .retransmitted(self.rto(), bytes),
        });
    }

    /// RFC 8445 section 14.3, where N counts the checklists: one.
    fn rto(&self) -> Duration {
        SMALLEST_RTO.max(self.ta * self.checklist.active())
    }

    /// A response has arrived. `None` if it belongs to no transaction of ours.
    pub(crate) fn handle_response(
        &mut self,
        now: Instant,
        path: Path,
        response: &Binding<'_>,
    ) -> Option<Response> {
        let known = self.transactions.get(response.id())?;
        // RFC 8489 section 9.1.4: without integrity, as if it had never been received. That goes
        // for errors too: a stranger's 400 must not end a check.
        if matches!(self.phase, Phase::Lost)
            || !response.is_keyed_with(&self.remote.credentials.pwd)
        {
            return Some(Response::Other);
        }
        // RFC 8445 section 7.2.5.2.1. But a pair that is valid is not failed by an answer that
        // somebody plays again from elsewhere: the nominating check is still answered from where
        // it went, or times out.
        let symmetric = known.path == path;
        if !symmetric && known.purpose != Purpose::Check {
            return Some(Response::Other);
        }
        let transaction = self.transactions.take(response.id())?;
        if !symmetric {
            self.check_failed(now, &transaction);
            return Some(Response::Other);
        }
        let mut told = Response::Other;
        match (response.class(), response.mapped_address()) {
            (Class::Success, Some(mapped)) if !response.has_unknown_attributes() => {
                told = Response::Validated;
                self.check_succeeded(now, &transaction, mapped);
            }
            (Class::Error, _) => match response.error_code() {
                Some(ROLE_CONFLICT) => self.role_conflict(now, &transaction),
                Some(FORBIDDEN) if transaction.purpose == Purpose::Consent => {
                    self.consent_revoked(now, transaction.pair);
                }
                _ => self.check_failed(now, &transaction),
            },
            _ => self.check_failed(now, &transaction),
        }
        self.prove(now);
        Some(told)
    }

    fn check_succeeded(&mut self, now: Instant, transaction: &Transaction, mapped: SocketAddr) {
        let id = transaction.pair;
        self.validate(now, id, mapped, (transaction.sent, transaction.priority));
        // Section 7.2.5.3.4, unless a role conflict has taken the right to nominate meanwhile.
        if transaction.purpose == Purpose::Nomination && self.role == Role::Controlling {
            self.set_nominated(now, id);
        }
        self.nominate_if_due(now);
    }

    /// RFC 8445 section 7.2.5.3.3.
    pub(super) fn succeed(&mut self, now: Instant, id: PairId) {
        let nominated_by_peer = match self.checklist.get_mut(id) {
            None => return,
            Some(pair) if pair.state == PairState::Succeeded => false,
            Some(pair) => {
                pair.state = PairState::Succeeded;
                let nominated = pair.nominated_by_peer;
                self.checklist.untrigger(id);
                self.checklist.unfreeze_like(&self.candidates, id);
                self.transactions.cancel(now, |known| {
                    known.pair == id && known.purpose == Purpose::Check
                });
                nominated
            }
        };
        // Section 7.3.1.5.
        if nominated_by_peer && self.role == Role::Controlled {
            self.set_nominated(now, id);
        }
    }

    /// RFC 8445 section 7.2.5.2: no answer, or one that says no.
    pub(super) fn check_failed(&mut self, now: Instant, transaction: &Transaction) {
        match transaction.purpose {
            // RFC 7675: expiry alone counts.
            Purpose::Consent => {}
            Purpose::Check => {
                let Some(pair) = self.checklist.get_mut(transaction.pair) else {
                    return;
                };
                // A pair that has succeeded by another check, or that waits for a triggered one,
                // is not failed by this one.
                if matches!(pair.state, PairState::InProgress { .. }) {
                    pair.state = PairState::Failed;
                }
            }
            Purpose::Nomination => self.nomination_failed(now, transaction.pair),
        }
    }

    /// RFC 8445 section 7.2.5.1.
    fn role_conflict(&mut self, now: Instant, transaction: &Transaction) {
        if transaction.role == self.role {
            if self.role_switches >= MOST_ROLE_SWITCHES {
                self.check_failed(now, transaction);
                return;
            }
            self.switch_role(now);
            self.tie_breaker = self.randomness.tie_breaker();
        }
        if matches!(self.phase, Phase::GaveUp) {
            return;
        }
        if let Some(pair) = self.checklist.get_mut(transaction.pair)
            && !matches!(pair.state, PairState::Succeeded)
        {
            pair.state = PairState::Waiting;
            self.checklist.trigger(TriggeredCheck {
                pair: transaction.pair,
                nominate: false,
            });
        }
    }

    pub(super) fn switch_role(&mut self, now: Instant) {
        self.role_switches += 1;
        self.role = match self.role {
            Role::Controlling => Role::Controlled,
            Role::Controlled => Role::Controlling,
        };
        self.checklist.switch_role(&self.candidates, self.role);
        let (role, candidates) = (self.role, &self.candidates);
        for valid in self.valid.iter_mut() {
            valid.priority = super::pair::pair_priority(
                role,
                candidates.local(valid.local).candidate.priority,
                candidates.remote(valid.remote).priority,
            );
        }
        // Nominations under way were made in a role that is no longer ours.
        self.transactions
            .forget(|known| known.purpose == Purpose::Nomination);
        self.nominate_if_due(now);
    }

    /// The checklist has failed for good (RFC 8445 section 7.2.5.3.4).
    pub(super) fn nomination_failed(&mut self, now: Instant, id: PairId) {
        self.valid.remove(id);
        if let Some(pair) = self.checklist.get_mut(id) {
            pair.state = PairState::Failed;
        }
        match self.phase {
            Phase::Checking { .. } => self.give_up(now, FailureReason::NominationRefused),
            Phase::Proven => self.lose_consent(),
            Phase::GaveUp | Phase::Lost => {}
        }
    }
}
