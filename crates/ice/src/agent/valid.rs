//! The valid list (RFC 8445 section 7.2.5.3.2), and the proof that comes of it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::pair::{LocalIndex, PairId, RemoteIndex};
use super::{Agent, Phase};
use crate::candidate::{Candidate, CandidateType, ComponentId};
use crate::event::{IceEvent, Path, ValidPath};
use crate::gate::PathProof;
use crate::gather::LocalCandidate;

/// RFC 7675 section 5.1: consent expires 30 s after the last answer.
pub(super) const CONSENT_EXPIRES: Duration = Duration::from_secs(30);

/// A pair that a check of ours has validated.
#[derive(Debug)]
pub(super) struct ValidPair {
    /// The pair whose check it came from; media takes its way.
    pub(super) via: PairId,
    pub(super) component: ComponentId,
    /// Our candidate as the peer sees it.
    pub(super) local: LocalIndex,
    pub(super) remote: RemoteIndex,
    pub(super) priority: u64,
    pub(super) nominated: bool,
    pub(super) rtt: Duration,
    pub(super) since: Instant,
    /// When the peer last answered on it (RFC 7675).
    pub(super) answered: Instant,
    pub(super) next_consent: Instant,
}

impl ValidPair {
    pub(super) fn consent_ends(&self) -> Instant {
        self.answered + CONSENT_EXPIRES
    }
}

/// The valid list.
#[derive(Debug, Default)]
pub(super) struct ValidList {
    pairs: Vec<ValidPair>,
    /// Since when somebody doubts that the pairs in use still work.
    pub(super) doubted: Option<Instant>,
}

impl ValidList {
    pub(super) fn iter(&self) -> impl Iterator<Item = &ValidPair> {
        self.pairs.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut ValidPair> {
        self.pairs.iter_mut()
    }

    pub(super) fn via(&self, pair: PairId) -> Option<&ValidPair> {
        self.pairs.iter().find(|valid| valid.via == pair)
    }

    pub(super) fn via_mut(&mut self, pair: PairId) -> Option<&mut ValidPair> {
        self.pairs.iter_mut().find(|valid| valid.via == pair)
    }

    pub(super) fn push(&mut self, valid: ValidPair) {
        self.pairs.push(valid);
    }

    pub(super) fn remove(&mut self, pair: PairId) {
        self.pairs.retain(|valid| valid.via != pair);
    }

    /// The pair in use: the nominated one of highest priority (RFC 8445 section 8.1.1), before
    /// there is one the valid one of highest priority (section 12.1). In doubt, one that has
    /// answered since comes before one that has not.
    pub(super) fn in_use(&self, component: ComponentId) -> Option<&ValidPair> {
        self.pairs
            .iter()
            .filter(|valid| valid.component == component)
            .max_by_key(|valid| {
                let trusted = self.doubted.is_none_or(|since| valid.answered >= since);
                (trusted, valid.nominated, valid.priority)
            })
    }
}

impl Agent {
    /// An authenticated, symmetric success response came for this pair (RFC 8445 section 7.2.5.3).
    pub(super) fn validate(
        &mut self,
        now: Instant,
        id: PairId,
        mapped: SocketAddr,
        (sent, checked_priority): (Instant, u32),
    ) {
        let Some(pair) = self.checklist.get(id) else {
            return;
        };
        let (component, base, remote) = (pair.component, pair.local, pair.remote);
        let local = self.local_as_seen(base, mapped, checked_priority);
        let priority = super::pair::pair_priority(
            self.role,
            self.candidates.local(local).candidate.priority,
            self.candidates.remote(remote).priority,
        );
        let rtt = now.saturating_duration_since(sent);
        match self.valid.via_mut(id) {
            Some(known) => {
                self.remapped |= known.local != local;
                known.local = local;
                known.priority = priority;
                known.rtt = rtt;
                known.answered = now;
            }
            None => self.valid.push(ValidPair {
                via: id,
                component,
                local,
                remote,
                priority,
                nominated: false,
                rtt,
                since: now,
                answered: now,
                next_consent: now + self.randomness.consent_interval(),
            }),
        }
        self.succeed(now, id);
    }

    /// The local candidate that the peer sees, a new peer-reflexive one if need be
    /// (RFC 8445 section 7.2.5.3.1).
    fn local_as_seen(
        &mut self,
        base: LocalIndex,
        mapped: SocketAddr,
        checked_priority: u32,
    ) -> LocalIndex {
        let from = self.candidates.local(base);
        let component = from.candidate.component;
        let socket = from.base;
        let protocol = from.candidate.protocol;
        let local_preference = from.local_preference;
        // Only candidates of the same base: whatever the peer says it sees, media leaves from
        // the socket that was checked.
        let known = self.candidates.locals.iter().position(|local| {
            local.base == socket
                && local.candidate.protocol == protocol
                && local.candidate.component == component
                && local.candidate.address == mapped
        });
        if let Some(index) = known {
            return LocalIndex(index);
        }
        // A NAT that maps every check anew, or a lying peer, does not make the list grow.
        let own = self.candidates.locals.iter().position(|local| {
            local.base == socket
                && local.candidate.protocol == protocol
                && local.candidate.component == component
                && local.candidate.kind == CandidateType::PeerReflexive
        });
        if let (Some(index), true) = (own, self.candidates.locals.len() >= MOST_LOCALS) {
            return LocalIndex(index);
        }
        self.candidates.locals.push(LocalCandidate {
            candidate: Candidate {
                // Section 5.1.1.3: the same for one base. Gathered ones are numbers alone.
                foundation: format!("P{}", base.0),
                component,
                protocol,
                priority: checked_priority,
                address: mapped,
                kind: CandidateType::PeerReflexive,
                related: Some(socket),
            },
            base: socket,
            local_preference,
        });
        LocalIndex(self.candidates.locals.len() - 1)
    }

    pub(super) fn has_fresh_pair(&self, now: Instant, component: ComponentId) -> bool {
        self.valid
            .in_use(component)
            .is_some_and(|valid| now < valid.consent_ends())
    }

    /// The proof, as soon as it stands: every component valid by our own check, and a Binding
    /// request keyed with our password arrived, which only a lite peer need not send.
    pub(super) fn prove(&mut self, now: Instant) {
        if !matches!(self.phase, Phase::Checking { .. } | Phase::GaveUp) {
            return;
        }
        let heard = self.peer_bound || self.remote.lite;
        if !heard
            || !self
                .components
                .iter()
                .all(|component| self.has_fresh_pair(now, *component))
        {
            return;
        }
        let (Some(generation), Some(path)) = (self.standing.generation(), self.main_path()) else {
            return;
        };
        self.phase = Phase::Proven;
        let proof = PathProof::new(
            &self.standing,
            generation,
            &self.local.ufrag,
            &self.remote.credentials.ufrag,
        );
        self.events.push_back(IceEvent::Validated { proof, path });
    }

    /// The valid pair of the first component, for people to read.
    pub(super) fn main_path(&self) -> Option<ValidPath> {
        let valid = self.valid.in_use(*self.components.first()?)?;
        let local = &self.candidates.local(valid.local).candidate;
        let remote = self.candidates.remote(valid.remote);
        Some(ValidPath {
            protocol: local.protocol,
            local: local.address,
            remote: remote.address,
            local_type: local.kind,
            remote_type: remote.kind,
            rtt: valid.rtt,
        })
    }

    /// Whether media from there is the peer's (RFC 8445 section 12.2): it may come over any pair
    /// that either side has validated.
    pub(crate) fn accepts_media(&self, path: Path) -> bool {
        !matches!(self.phase, Phase::Lost)
            && (self.heard.contains(&path)
                || self
                    .valid
                    .iter()
                    .any(|valid| self.candidates.path(valid.local, valid.remote) == path))
    }

    /// Whether a check keyed with our password has come this way.
    pub(crate) fn has_heard(&self, path: Path) -> bool {
        self.heard.contains(&path)
    }

    /// Where media of a component goes now.
    pub(crate) fn path(&self, component: ComponentId) -> Option<Path> {
        if matches!(self.phase, Phase::Lost) {
            return None;
        }
        let valid = self.valid.in_use(component)?;
        Some(self.candidates.path(valid.local, valid.remote))
    }
}

/// Local candidates beyond which no peer-reflexive one is added while the base has one.
const MOST_LOCALS: usize = 128;
