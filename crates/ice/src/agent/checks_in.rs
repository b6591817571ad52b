//! The peer's checks: the server (RFC 8445 section 7.3).

use std::time::{Duration, Instant};

use super::checklist::TriggeredCheck;
use super::pair::{LocalIndex, PairId, PairState, RemoteIndex};
use super::{Agent, Phase};
use crate::candidate::{Candidate, CandidateType, ComponentId, TransportProtocol};
use crate::event::{IceEvent, Path, Role};

/// Sources of the peer's checks that are remembered: a NAT may show several, not hundreds.
const MOST_SOURCES: usize = 256;
/// Ports of one host of the peer's that are learned from its checks at one socket. Behind a NAT that
/// maps for each destination, one check reveals a port, and the next, from a port of ours that the
/// peer has learned so, another.
const MOST_PORTS: usize = 4;
/// The peer's first check on a pair says that its side lets ours in, and triggers one at once. Its
/// re-checks say nothing new until the answer is overdue: if each of them triggered another, they
/// would take the slots of the pairs that wait for their first check (docs/deviations.md).
const NO_NEWS: Duration = Duration::from_millis(100);
/// RFC 8445 section 8.3.1: so long after completion, triggered checks are still sent.
pub(super) const LATE_CHECKS: Duration = Duration::from_secs(3);
/// After that so many of them may show that the peer has moved; whoever plays them again from
/// elsewhere gets no more checks of ours than these.
const MOST_MOVES: u32 = 32;

/// A Binding request that was keyed with our password, as far as the agent cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Arrived {
    pub(crate) path: Path,
    pub(crate) component: ComponentId,
    /// `None` from a peer that leaves PRIORITY out, against section 7.1.1.
    pub(crate) priority: Option<u32>,
    pub(crate) use_candidate: bool,
    pub(crate) role: Option<(Role, u64)>,
}

/// What to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A success response.
    Success,
    /// 487.
    RoleConflict,
    /// Nothing: the agent is at its end.
    Silence,
}

/// RFC 8445 section 7.3.1.1: what an agent in `role` does about a request that claims `theirs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conflict {
    /// There is none.
    None,
    /// The request is refused with 487.
    Refuse,
    /// We take the other role.
    Switch,
}

impl Conflict {
    pub(crate) fn of(role: Role, tie_breaker: u64, theirs: Option<(Role, u64)>) -> Self {
        match (role, theirs) {
            (Role::Controlling, Some((Role::Controlling, other))) => {
                if tie_breaker >= other {
                    Self::Refuse
                } else {
                    Self::Switch
                }
            }
            (Role::Controlled, Some((Role::Controlled, other))) => {
                if tie_breaker >= other {
                    Self::Switch
                } else {
                    Self::Refuse
                }
            }
            _ => Self::None,
        }
    }
}

impl Agent {
    /// A request of this agent's peer has arrived, now or before its description was known.
    pub(crate) fn handle_request(&mut self, now: Instant, request: &Arrived) -> Verdict {
        if matches!(self.phase, Phase::Lost) {
            return Verdict::Silence;
        }
        // A full agent facing a lite one controls, whatever that one says (section 6.1.1).
        if !self.remote.lite {
            match Conflict::of(self.role, self.tie_breaker, request.role) {
                Conflict::None => {}
                Conflict::Refuse => return Verdict::RoleConflict,
                Conflict::Switch => self.switch_role(now),
            }
        }
        if !self.peer_bound {
            self.peer_bound = true;
            self.events.push_back(IceEvent::PeerBound);
        }
        if self.heard.len() < MOST_SOURCES {
            self.heard.insert(request.path);
        }
        if self.components.contains(&request.component)
            && let Some(local) = self.local_of(request)
            && let Some(remote) = self.learn_remote(request)
        {
            self.follow(now, local, remote, request.use_candidate);
        }
        self.prove(now);
        Verdict::Success
    }

    fn local_of(&self, request: &Arrived) -> Option<LocalIndex> {
        let Path { protocol, base, .. } = request.path;
        self.candidates.base(protocol, base, request.component)
    }

    /// The remote candidate that the request came from: a new peer-reflexive one, if the address
    /// is not known (RFC 8445 section 7.3.1.3).
    fn learn_remote(&mut self, request: &Arrived) -> Option<RemoteIndex> {
        let protocol = match request.path.protocol {
            TransportProtocol::Udp => TransportProtocol::Udp,
            TransportProtocol::Tcp(ours) => TransportProtocol::Tcp(ours.opposite()),
        };
        let from = request.path.remote;
        let known = self
            .candidates
            .find_remote(protocol, from, request.component);
        if known.is_some() {
            return known;
        }
        if self.is_an_endless_reveal(request) {
            return None;
        }
        let count = self.candidates.remotes.len();
        self.candidates.add_remote(Candidate {
            // Different from all others: '#' is no ice-char, so no peer can have signalled it.
            foundation: format!("#{count}"),
            component: request.component,
            protocol,
            priority: request.priority.unwrap_or_else(|| {
                crate::gather::priority(CandidateType::PeerReflexive, 0, request.component)
            }),
            address: from,
            kind: CandidateType::PeerReflexive,
            related: None,
        })
    }

    /// Whether the peer's checks have come to this socket from so many ports of one address that more
    /// lead nowhere: where both NATs map for each destination and filter for none, every check
    /// reveals a new port to each side, no answer comes from where the check went, and this goes on
    /// without end, at the cost of the pairs that might work. The peer names an address once for
    /// each of its interfaces behind it.
    fn is_an_endless_reveal(&self, request: &Arrived) -> bool {
        // Whoever has moved is followed, so often.
        if self.completed.is_some() {
            return false;
        }
        let Path { base, remote, .. } = request.path;
        let ports = self
            .heard
            .iter()
            .filter(|heard| heard.base == base && heard.remote.ip() == remote.ip());
        let named = self.candidates.remotes.iter().filter(|candidate| {
            candidate.kind != CandidateType::PeerReflexive
                && candidate.component == request.component
                && candidate.address.ip() == remote.ip()
        });
        ports.count() > MOST_PORTS * (1 + named.count())
    }

    /// RFC 8445 sections 7.3.1.4 and 7.3.1.5: the triggered check, and the peer's nomination.
    fn follow(
        &mut self,
        now: Instant,
        local: LocalIndex,
        remote: RemoteIndex,
        use_candidate: bool,
    ) {
        if self
            .completed
            .is_some_and(|since| now >= since + LATE_CHECKS)
        {
            // Nobody nominates so late; what asks for it is no sign of a move.
            if !use_candidate {
                self.follow_move(now, local, remote);
            }
            return;
        }
        // A component that has its nominated pair is concluded; only a peer of RFC 5245 that
        // nominates one pair after the other brings new ones (section 8.1.1).
        let component = self.candidates.remote(remote).component;
        let concluded = self
            .valid
            .in_use(component)
            .is_some_and(|valid| valid.nominated);
        // A peer of RFC 8445 nominates one pair and never another: whatever asks for that is its
        // own request, played again from another of its addresses.
        let nominates =
            use_candidate && self.role == Role::Controlled && !(concluded && self.remote.ice2);
        if concluded && !nominates && self.checklist.find(local, remote).is_none() {
            return;
        }
        let id = self
            .checklist
            .find_or_insert(&self.candidates, self.role, local, remote);
        if nominates {
            self.peer_nominates(now, id);
        }
        if nominates || !self.is_no_news(now, id) {
            self.trigger_unless_succeeded(now, id);
        }
    }

    /// Whether the peer's check on this pair was preceded by another that a check of ours has
    /// followed, not long ago.
    fn is_no_news(&mut self, now: Instant, id: PairId) -> bool {
        let Some(pair) = self.checklist.get_mut(id) else {
            return true;
        };
        let heard = *pair.heard.get_or_insert(now);
        match pair.state {
            PairState::InProgress { latest, .. } => heard < latest && now < latest + NO_NEWS,
            _ => false,
        }
    }

    /// Long after the end of the checks the peer checks from an address that is new, or while the
    /// pair in use does not answer: a NAT on its side maps it anew, or it has moved. That pair is
    /// checked (RFC 8445 section 7.3.1.4), and used while the selected one does not answer.
    fn follow_move(&mut self, now: Instant, local: LocalIndex, remote: RemoteIndex) {
        let known = self.checklist.find(local, remote).is_some();
        if (known && !self.is_doubtful()) || self.moves_followed >= MOST_MOVES {
            return;
        }
        self.moves_followed += 1;
        self.probe(now);
        let id = self
            .checklist
            .find_or_insert(&self.candidates, self.role, local, remote);
        self.trigger_unless_succeeded(now, id);
    }

    fn peer_nominates(&mut self, now: Instant, id: PairId) {
        let Some(pair) = self.checklist.get_mut(id) else {
            return;
        };
        pair.nominated_by_peer = true;
        if pair.state == PairState::Succeeded {
            self.set_nominated(now, id);
        }
    }

    fn trigger_unless_succeeded(&mut self, now: Instant, id: PairId) {
        let Some(pair) = self.checklist.get_mut(id) else {
            return;
        };
        match pair.state {
            PairState::Succeeded => return,
            PairState::InProgress { .. } => {
                pair.state = PairState::Waiting;
                self.transactions.cancel(now, |known| known.pair == id);
            }
            PairState::Waiting | PairState::Frozen | PairState::Failed => {
                pair.state = PairState::Waiting;
            }
        }
        self.checklist.trigger(TriggeredCheck {
            pair: id,
            nominate: false,
        });
    }
}
