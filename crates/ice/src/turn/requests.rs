//! The requests of one allocation: sent, repeated, answered (RFC 8656 sections 7 to 12).

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::credentials::Challenge;
use super::message::{self, Families, Wish};
use super::stream::{Content, Way};
use super::{KEEPALIVE, MOST_ALLOCATIONS, Relay, State, refresh_after};
use crate::seed::Randomness;
use crate::stun::TransactionId;

/// No request is repeated sooner.
const SHORTEST_RTO: Duration = Duration::from_millis(100);
/// A request is sent so often (RFC 8489 section 6.2.1).
const MOST_SENDINGS: u32 = 7;
/// A request whose nonce is called stale so often is given up.
const MOST_CHALLENGES: u32 = 4;
/// RFC 8489 section 6.2.2: the default of Ti.
const STREAM_PATIENCE: Duration = Duration::from_millis(39_500);
/// Transactions of the first request that may still be answered.
const MOST_IDS: usize = 8;

/// RFC 8656 section 7.4: so many attempts meet an allocation that is there already.
const MOST_MISMATCHES: u32 = 3;
/// RFC 8656 section 7.4: a server that says so is left alone for 2 minutes after that.
const MISMATCH_PAUSE: Duration = Duration::from_secs(120);
/// RFC 8656 section 7.4: one without room for at least 1 minute.
const BUSY_PAUSE: Duration = Duration::from_secs(60);

const BAD_REQUEST: u16 = 400;
const UNAUTHENTICATED: u16 = 401;
const UNKNOWN_ATTRIBUTE: u16 = 420;
const ALLOCATION_MISMATCH: u16 = 437;
const STALE_NONCE: u16 = 438;
const FAMILY_NOT_SUPPORTED: u16 = 440;
const QUOTA_REACHED: u16 = 486;
const SERVER_ERROR: u16 = 500;
const INSUFFICIENT_CAPACITY: u16 = 508;
/// From servers that do not know or do not give the families that were asked for.
const FAMILY_CODES: [u16; 4] = [
    BAD_REQUEST,
    UNKNOWN_ATTRIBUTE,
    FAMILY_NOT_SUPPORTED,
    INSUFFICIENT_CAPACITY,
];

/// A request without an answer.
#[derive(Debug)]
pub(super) struct Pending {
    /// One, but several for the request that asks for the challenge.
    pub(super) ids: VecDeque<TransactionId>,
    pub(super) wish: Wish,
    pub(super) payload: Vec<u8>,
    pub(super) at: Instant,
    pub(super) sent: Instant,
    pub(super) interval: Duration,
    pub(super) sendings: u32,
    pub(super) challenges: u32,
}

impl Relay {
    pub(super) fn request(&mut self, now: Instant, wish: Wish, randomness: &mut Randomness) {
        let id = TransactionId(randomness.transaction_id());
        let challenge = self.challenge.as_ref();
        let Some(payload) = message::request(id, wish, &self.server, challenge) else {
            // A user name or realm that no message can carry.
            return self.end();
        };
        // RFC 8489 section 6.2.2: on a stream nothing is sent again; the answer has so long.
        let (interval, sendings) = match self.way {
            Way::Datagrams => (self.rto, 1),
            _ => (STREAM_PATIENCE, MOST_SENDINGS),
        };
        self.push(payload.clone(), Content::Request);
        self.pending.push(Pending {
            ids: VecDeque::from([id]),
            wish,
            payload,
            at: now + interval,
            sent: now,
            interval,
            sendings,
            challenges: 0,
        });
    }

    pub(super) fn take(&mut self, id: TransactionId) -> Option<Pending> {
        let index = self
            .pending
            .iter()
            .position(|pending| pending.ids.contains(&id))?;
        Some(self.pending.swap_remove(index))
    }

    /// RFC 8489 section 6.2.1 leaves the RTO to a measured round trip; only what was sent once
    /// measures one.
    pub(super) fn measure(&mut self, now: Instant, pending: &Pending) {
        if pending.sendings == 1 {
            let rtt = now.saturating_duration_since(pending.sent);
            self.rto = (rtt * 2).max(SHORTEST_RTO);
        }
    }

    pub(super) fn granted(
        &mut self,
        now: Instant,
        wish: Wish,
        (relayed, mapped): (Vec<SocketAddr>, Option<SocketAddr>),
        lifetime: Option<Duration>,
        randomness: &mut Randomness,
    ) {
        match wish {
            Wish::Allocate { .. } => {
                if relayed.is_empty() {
                    return self.end();
                }
                self.state = State::Allocated;
                self.attempts = 0;
                self.mismatches = 0;
                self.names.allocated(&relayed);
                self.verified = true;
                if self.names.follows() || self.mapped.is_none() {
                    self.mapped = mapped.or(self.mapped);
                }
                self.refresh = now + refresh_after(lifetime);
            }
            Wish::Refresh { .. } if self.state == State::Releasing => self.end(),
            Wish::Refresh { .. } if self.state == State::Asked => self.allocate(now, randomness),
            Wish::Refresh { .. } => {
                self.verified = true;
                self.refresh = now + refresh_after(lifetime);
            }
            Wish::Permit(_) => {}
            Wish::Bind { channel, .. } => {
                let bound = self
                    .channels
                    .iter_mut()
                    .find(|known| known.number == channel);
                if let Some(bound) = bound {
                    bound.ready = true;
                }
            }
        }
    }

    pub(super) fn refused(
        &mut self,
        now: Instant,
        pending: Pending,
        code: u16,
        challenge: Option<Challenge>,
        randomness: &mut Randomness,
    ) {
        // RFC 8489 section 9.2.5: the first 401 asks for the credentials, a later one refuses them,
        // unless it is another realm's.
        let known = |challenge: &Challenge| {
            let ours = self.challenge.as_ref();
            ours.is_some_and(|ours| ours.realm == challenge.realm)
        };
        let asks = code == STALE_NONCE
            || (code == UNAUTHENTICATED && !challenge.as_ref().is_some_and(known));
        if let (true, Some(challenge)) = (asks, challenge)
            && pending.challenges < MOST_CHALLENGES
        {
            self.challenge = Some(challenge);
            self.request(now, pending.wish, randomness);
            if let Some(again) = self.pending.last_mut() {
                again.challenges = pending.challenges + 1;
            }
            return;
        }
        match pending.wish {
            Wish::Allocate { families, .. } => {
                self.allocation_refused(now, families, code, randomness);
            }
            _ if self.state == State::Releasing => self.end(),
            // What was in the way of an allocation is not there, or not ours to delete.
            Wish::Refresh { .. } if self.state == State::Asked => self.allocate(now, randomness),
            _ if code == ALLOCATION_MISMATCH => self.lost(now),
            Wish::Refresh { .. } => self.lost(now),
            Wish::Permit(ip) => {
                let peer = self.peers.iter_mut().find(|peer| peer.ip == ip);
                if let Some(peer) = peer {
                    peer.refused = true;
                }
            }
            Wish::Bind { channel, .. } => {
                let known = self
                    .channels
                    .iter_mut()
                    .find(|known| known.number == channel);
                if let Some(known) = known {
                    known.ready = false;
                    known.refused = true;
                }
            }
        }
    }

    /// RFC 8656 section 7.4.
    fn allocation_refused(
        &mut self,
        now: Instant,
        families: Families,
        code: u16,
        randomness: &mut Randomness,
    ) {
        match (code, families.fallback()) {
            (code, Some(families)) if FAMILY_CODES.contains(&code) => {
                self.families = families;
                self.allocate(now, randomness);
            }
            (ALLOCATION_MISMATCH, _) if self.mismatches + 1 < MOST_MISMATCHES => {
                self.mismatches += 1;
                if self.is_datagrams() {
                    // The socket is that of the media, so it is not ours to take another one. But
                    // what stands there is most likely ours, made by a request whose answers
                    // were lost: it makes way.
                    let lifetime = Duration::ZERO;
                    self.request(now, Wish::Refresh { lifetime }, randomness);
                } else {
                    self.hang_up();
                    self.state = State::Asking { at: now };
                }
            }
            (ALLOCATION_MISMATCH, _) => self.give_up_until(now + MISMATCH_PAUSE),
            (QUOTA_REACHED | SERVER_ERROR | INSUFFICIENT_CAPACITY, _) => {
                self.give_up_until(now + BUSY_PAUSE);
            }
            _ => self.end(),
        }
    }

    pub(super) fn repeat(&mut self, now: Instant, randomness: &mut Randomness) {
        let (due, waiting): (Vec<_>, _) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition(|pending| pending.at <= now);
        self.pending = waiting;
        for mut pending in due {
            if pending.sendings >= MOST_SENDINGS {
                self.unanswered(now, pending.wish);
                continue;
            }
            // What asks for the challenge changes nothing, so it can be asked anew; the others
            // are the same transaction, or a lost answer would make an allocation of its own.
            if self.challenge.is_none() {
                let id = TransactionId(randomness.transaction_id());
                if let Some(payload) = message::request(id, pending.wish, &self.server, None) {
                    pending.payload = payload;
                    pending.ids.push_back(id);
                    if pending.ids.len() > MOST_IDS {
                        pending.ids.pop_front();
                    }
                }
            }
            pending.sendings += 1;
            pending.interval *= 2;
            pending.at = now + pending.interval;
            self.push(pending.payload.clone(), Content::Request);
            self.pending.push(pending);
        }
        if self.state == State::Closed {
            self.pending.clear();
        }
    }

    fn unanswered(&mut self, now: Instant, wish: Wish) {
        match wish {
            _ if self.state == State::Releasing => self.end(),
            _ if self.state == State::Asked && self.attempts < MOST_ALLOCATIONS => {
                self.hang_up();
                self.state = State::Asking {
                    at: now + KEEPALIVE,
                };
            }
            _ if self.state == State::Asked => self.give_up_until(now),
            // Of before the allocation was lost, or the server asked anew.
            Wish::Allocate { .. } => {}
            Wish::Refresh { .. } => {
                self.hang_up();
                self.lost(now);
            }
            Wish::Permit(ip) => self.peers.retain(|peer| peer.ip != ip),
            Wish::Bind { channel, .. } => {
                self.channels.retain(|known| known.number != channel);
            }
        }
    }
}
