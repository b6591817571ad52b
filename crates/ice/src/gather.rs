//! Gathering of candidates (RFC 8445 section 5.1.1).

mod again;
mod keeping;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::candidate::{Candidate, CandidateType, ComponentId, TransportProtocol};
use crate::event::Transmit;
use crate::pacer::Pacer;
use crate::seed::{Randomness, Seed};
use crate::stun::{Binding, Class, TransactionId, server_request};
use crate::turn::{Inbound, Relay, TurnServer};

/// A question that got no answer for so long is asked again, as a new transaction.
const ASK_AGAIN: Duration = Duration::from_millis(120);
/// RFC 8445 section 11 wants at least 15 s between keepalives; NAT bindings live for 30 s and more.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// A base with its servers is one question; more than so many are not asked.
const MOST_QUESTIONS: usize = 64;
/// The same for allocations, which cost their servers more.
const MOST_RELAYS: usize = 16;
/// Datagrams of peers that wait for their owner.
const MOST_WAITING: usize = 64;
/// So many transactions of one question may still be answered.
const REMEMBERED_TRANSACTIONS: usize = 8;

/// A local socket that candidates are gathered on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// The address it is bound to: an interface's address, never a wildcard.
    pub address: SocketAddr,
    /// The component it serves.
    pub component: ComponentId,
    /// RFC 8445 section 5.1.2.1: higher is preferred; different for every address.
    pub local_preference: u16,
}

/// How to gather.
#[derive(Debug, Clone)]
pub struct GatherConfig {
    /// STUN servers, asked from each base of their address family.
    pub stun_servers: Vec<SocketAddr>,
    /// TURN servers, asked for an allocation from each base of their address family.
    pub turn_servers: Vec<TurnServer>,
    /// Only relayed candidates: the peer learns no address of ours.
    pub relay_only: bool,
    /// How long to wait for the servers. Default 500 ms.
    pub patience: Duration,
    /// Time between two new transactions, Ta. Default 20 ms.
    pub pacing: Duration,
}

impl Default for GatherConfig {
    fn default() -> Self {
        Self {
            stun_servers: Vec::new(),
            turn_servers: Vec::new(),
            relay_only: false,
            patience: Duration::from_millis(500),
            pacing: Duration::from_millis(20),
        }
    }
}

/// A local candidate beside the base that its packets leave from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LocalCandidate {
    pub(crate) candidate: Candidate,
    pub(crate) base: SocketAddr,
    pub(crate) local_preference: u16,
}

/// The local candidates of one call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gathered {
    pub(crate) locals: Vec<LocalCandidate>,
}

impl Gathered {
    /// The candidates: component 1 before component 2, then by priority.
    pub fn candidates(&self) -> impl Iterator<Item = &Candidate> {
        self.locals.iter().map(|local| &local.candidate)
    }

    /// The default candidate of a component, for `c=` and `m=` or `a=rtcp`: the kind that reaches
    /// furthest (RFC 8445 section 5.1.4), of the address family that everybody has.
    pub fn default_candidate(&self, component: ComponentId) -> Option<&Candidate> {
        self.candidates()
            .filter(|candidate| candidate.component == component)
            .max_by_key(|candidate| {
                let reach = match candidate.kind {
                    CandidateType::Relayed => 2,
                    CandidateType::ServerReflexive | CandidateType::PeerReflexive => 1,
                    CandidateType::Host => 0,
                };
                (candidate.address.is_ipv4(), reach, candidate.priority)
            })
    }

    /// The component of a socket or of a relayed candidate.
    pub(crate) fn component_of(&self, base: SocketAddr) -> Option<ComponentId> {
        let of_base = self.locals.iter().find(|local| local.base == base);
        of_base.map(|local| local.candidate.component)
    }

    /// The sockets that the candidates leave from, each with its component.
    pub fn bases(&self) -> impl Iterator<Item = (SocketAddr, ComponentId)> {
        self.locals
            .iter()
            .filter(|local| local.candidate.kind == CandidateType::Host)
            .map(|local| (local.base, local.candidate.component))
    }
}

/// The formula of RFC 8445 section 5.1.2.1.
pub(crate) fn priority(kind: CandidateType, local_preference: u16, component: ComponentId) -> u32 {
    (kind.preference() << 24)
        | (u32::from(local_preference) << 8)
        | (256 - u32::from(component.number()))
}

/// One base asks one server.
#[derive(Debug)]
struct Question {
    base: Base,
    server: SocketAddr,
    sent: VecDeque<TransactionId>,
    state: QuestionState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum QuestionState {
    /// To be asked (again) as soon as the pacing allows after this time.
    Asking { at: Instant },
    /// The server said what it sees; to be asked again then, to keep the binding.
    Answered { mapped: SocketAddr, again: Instant },
    /// The server refused.
    Refused,
}

fn questions(servers: &[SocketAddr], bases: &[Base], now: Instant) -> Vec<Question> {
    let mut questions = Vec::new();
    // All bases ask the first server before any asks the second.
    for server in servers {
        for base in bases
            .iter()
            .filter(|base| base.address.is_ipv4() == server.is_ipv4())
        {
            questions.push(Question {
                base: *base,
                server: *server,
                sent: VecDeque::new(),
                state: QuestionState::Asking { at: now },
            });
        }
    }
    questions.truncate(MOST_QUESTIONS);
    questions
}

/// What has its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Start {
    Question(usize),
    Allocation(usize),
}

/// A peer's datagram that came through a TURN server, unwrapped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relayed {
    /// The relayed candidate that it was sent to.
    pub base: SocketAddr,
    /// The peer's address.
    pub from: SocketAddr,
    /// What the peer sent.
    pub payload: Vec<u8>,
}

/// Gathers host, server-reflexive and relayed candidates on the sockets of one call.
///
/// Poll in this order after each input: `poll_transmit` until empty, then `poll_timeout`. After it
/// has finished it keeps the bindings at the servers warm, so that gathered sockets can wait in a
/// pool: keep it until a path is selected (RFC 8445 section 5.1.1.4).
///
/// With TURN servers it is the way out and in of relayed candidates as well: keep it as long as
/// the call lives, give it every datagram that arrives ([`Self::handle_datagram`]) and everything
/// that is to be sent ([`Self::relay`]), and say when the call is over ([`Self::release_all`]).
#[derive(Debug)]
pub struct Gatherer {
    bases: Vec<Base>,
    questions: Vec<Question>,
    relays: Vec<Relay>,
    relayed: VecDeque<Relayed>,
    relay_only: bool,
    patience_ends: Instant,
    finished: bool,
    pacing: Duration,
    next_slot: Instant,
    out: VecDeque<Transmit>,
    randomness: Randomness,
}

impl Gatherer {
    /// Begins to gather on these sockets.
    pub fn new(
        config: GatherConfig,
        bases: Vec<Base>,
        seed: impl Into<Seed>,
        now: Instant,
    ) -> Self {
        let questions = questions(&config.stun_servers, &bases, now);
        let mut relays = Vec::new();
        for server in config.turn_servers {
            let of_family = |base: &&Base| base.address.is_ipv4() == server.address.is_ipv4();
            for base in bases.iter().filter(of_family) {
                relays.push(Relay::new(*base, server.clone(), now));
            }
        }
        relays.truncate(MOST_RELAYS);
        Self {
            finished: questions.is_empty() && relays.is_empty(),
            bases,
            questions,
            relays,
            relayed: VecDeque::new(),
            relay_only: config.relay_only,
            patience_ends: now + config.patience,
            pacing: config.pacing,
            next_slot: now,
            out: VecDeque::new(),
            randomness: seed.into().randomness(),
        }
    }

    /// A datagram has arrived on a base. True if it came from a server that was asked; what a peer
    /// sent through it is ready in [`Self::poll_relayed`] then.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        base: SocketAddr,
        from: SocketAddr,
        payload: &[u8],
    ) -> bool {
        let taken = Binding::parse(payload)
            .is_some_and(|binding| self.handle_answer(now, (base, from), &binding))
            || self.handle_relayed(now, (base, from), payload);
        self.finish_if_settled();
        taken
    }

    fn handle_answer(
        &mut self,
        now: Instant,
        (base, from): (SocketAddr, SocketAddr),
        binding: &Binding<'_>,
    ) -> bool {
        let id = binding.id();
        // Only the server that was asked, on the socket it was asked from, can answer.
        let Some(question) = self.questions.iter_mut().find(|question| {
            question.base.address == base && question.server == from && question.sent.contains(&id)
        }) else {
            return false;
        };
        match binding.class() {
            Class::Success => {
                let Some(mapped) = binding.mapped_address() else {
                    return true;
                };
                question.sent.clear();
                question.state = QuestionState::Answered {
                    mapped,
                    again: now + KEEPALIVE,
                };
            }
            Class::Error => {
                question.sent.clear();
                if matches!(question.state, QuestionState::Asking { .. }) {
                    question.state = QuestionState::Refused;
                }
            }
            Class::Request | Class::Indication => return false,
        }
        true
    }

    /// What a TURN server sends: its answers stay here, a peer's datagram is unwrapped.
    fn handle_relayed(
        &mut self,
        now: Instant,
        (base, from): (SocketAddr, SocketAddr),
        payload: &[u8],
    ) -> bool {
        let Some(relay) = self
            .relays
            .iter_mut()
            .find(|relay| relay.base().address == base && relay.server() == from)
        else {
            return false;
        };
        let inbound = relay.handle_datagram(now, payload, &mut self.randomness);
        let relayed = relay.relayed();
        self.collect();
        if let (Inbound::Data { peer, data }, Some(base)) = (&inbound, relayed) {
            if self.relayed.len() >= MOST_WAITING {
                self.relayed.pop_front();
            }
            self.relayed.push_back(Relayed {
                base,
                from: *peer,
                payload: data.clone(),
            });
        }
        inbound != Inbound::Foreign
    }

    /// The next datagram that a peer has sent to one of the relayed candidates.
    pub fn poll_relayed(&mut self) -> Option<Relayed> {
        self.relayed.pop_front()
    }

    fn finish_if_settled(&mut self) {
        let asking = |question: &Question| matches!(question.state, QuestionState::Asking { .. });
        self.finished |=
            !self.questions.iter().any(asking) && self.relays.iter().all(Relay::is_settled);
    }

    /// What an agent or a stream wants to send: from a relayed address it goes to the TURN server,
    /// wrapped, by [`Self::poll_transmit`]; anything else is given back to be sent as it is.
    pub fn relay(&mut self, now: Instant, transmit: Transmit) -> Option<Transmit> {
        let Some(relay) = self
            .relays
            .iter_mut()
            .find(|relay| relay.relayed() == Some(transmit.base))
        else {
            return Some(transmit);
        };
        relay.send(now, transmit.to, &transmit.payload, &mut self.randomness);
        self.collect();
        None
    }

    /// A path is selected: the bindings at the STUN servers are kept no longer. Allocations are,
    /// because the peer may still send by them.
    pub fn path_selected(&mut self) {
        self.finished = true;
        self.questions.clear();
    }

    /// Gives back the allocations that were made from this base.
    pub fn release(&mut self, now: Instant, base: SocketAddr) {
        for relay in &mut self.relays {
            if relay.base().address == base {
                relay.release(now, &mut self.randomness);
            }
        }
        self.collect();
    }

    /// Gives back every allocation.
    pub fn release_all(&mut self, now: Instant) {
        for relay in &mut self.relays {
            relay.release(now, &mut self.randomness);
        }
        self.collect();
    }

    fn collect(&mut self) {
        for relay in &mut self.relays {
            let (base, to) = (relay.base().address, relay.server());
            while let Some(payload) = relay.poll_transmit() {
                self.out.push_back(Transmit { base, to, payload });
            }
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant, pacer: &mut Pacer) {
        self.finished |= now >= self.patience_ends;
        for relay in &mut self.relays {
            relay.handle_timeout(now, &mut self.randomness);
        }
        self.collect();
        self.finish_if_settled();
        if self.next_slot > now {
            return;
        }
        let Some((due, next)) = self.next_start() else {
            return;
        };
        if due > now || !pacer.take(now) {
            return;
        }
        self.next_slot = now + self.pacing;
        match next {
            Start::Question(index) => self.ask(now, index),
            Start::Allocation(index) => {
                if let Some(relay) = self.relays.get_mut(index) {
                    relay.ask(now, &mut self.randomness);
                }
                self.collect();
            }
        }
    }

    fn ask(&mut self, now: Instant, index: usize) {
        let id = TransactionId(self.randomness.transaction_id());
        let (Some(question), Some(payload)) = (self.questions.get_mut(index), server_request(id))
        else {
            return;
        };
        question.sent.push_back(id);
        if question.sent.len() > REMEMBERED_TRANSACTIONS {
            question.sent.pop_front();
        }
        match &mut question.state {
            // A server that was silent for the whole patience is asked no more than is needed to
            // notice that it came back.
            QuestionState::Asking { at } => {
                *at = now + if self.finished { KEEPALIVE } else { ASK_AGAIN };
            }
            QuestionState::Answered { again, .. } => *again = now + KEEPALIVE,
            QuestionState::Refused => {}
        }
        self.out.push_back(Transmit {
            base: question.base.address,
            to: question.server,
            payload,
        });
    }

    /// The transaction that is due first, and when.
    fn next_start(&self) -> Option<(Instant, Start)> {
        let questions = self.questions.iter().enumerate();
        let questions = questions.filter_map(|(index, question)| match question.state {
            QuestionState::Asking { at } => Some((at, Start::Question(index))),
            QuestionState::Answered { again, .. } => Some((again, Start::Question(index))),
            QuestionState::Refused => None,
        });
        let relays = self.relays.iter().enumerate();
        relays
            .filter_map(|(index, relay)| Some((relay.due()?, Start::Allocation(index))))
            .chain(questions)
            .min()
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.out.pop_front()
    }

    /// When to call [`Self::handle_timeout`].
    pub fn poll_timeout(&self, pacer: &Pacer) -> Option<Instant> {
        let ask = self.next_start().map(|(due, _)| {
            let due = due.max(self.next_slot);
            pacer.next_start().map_or(due, |free| due.max(free))
        });
        let patience = (!self.finished).then_some(self.patience_ends);
        let relays = self.relays.iter().filter_map(Relay::poll_timeout);
        ask.into_iter().chain(patience).chain(relays).min()
    }

    /// Whether every server has answered or refused, or the patience is over.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// What is known by now; complete when [`Self::is_finished`].
    pub fn gathered(&self) -> Gathered {
        let mut foundations = Foundations::default();
        let mut locals = Vec::new();
        if !self.relay_only {
            self.add_direct(&mut locals, &mut foundations);
        }
        self.add_relayed(&mut locals, &mut foundations);
        locals.sort_by_key(|local| {
            let candidate = &local.candidate;
            (candidate.component, std::cmp::Reverse(candidate.priority))
        });
        Gathered { locals }
    }

    fn add_direct(&self, locals: &mut Vec<LocalCandidate>, foundations: &mut Foundations) {
        for base in &self.bases {
            locals.push(local_candidate(
                base,
                CandidateType::Host,
                base.address,
                foundations.of(CandidateType::Host, base.address.ip(), None),
            ));
        }
        let asked = self
            .questions
            .iter()
            .filter_map(|question| match question.state {
                QuestionState::Answered { mapped, .. } => {
                    Some((question.base, question.server, mapped))
                }
                _ => None,
            });
        // RFC 8656 section 7.3: an allocation tells what a Binding response would.
        let told = self
            .relays
            .iter()
            .filter_map(|relay| Some((*relay.base(), relay.server(), relay.mapped()?)));
        for (base, server, mapped) in asked.chain(told) {
            // RFC 8445 section 5.1.3: same address and same base: redundant.
            let redundant = locals.iter().any(|local: &LocalCandidate| {
                local.candidate.address == mapped && local.base == base.address
            });
            if !redundant {
                let kind = CandidateType::ServerReflexive;
                let foundation = foundations.of(kind, base.address.ip(), Some(server.ip()));
                locals.push(local_candidate(&base, kind, mapped, foundation));
            }
        }
    }

    /// A relayed candidate is its own base (RFC 8445 section 5.1.1.2).
    fn add_relayed(&self, locals: &mut Vec<LocalCandidate>, foundations: &mut Foundations) {
        let mut of_base: Vec<(SocketAddr, u16)> = Vec::new();
        for relay in &self.relays {
            let Some(relayed) = relay.relayed() else {
                continue;
            };
            let base = relay.base();
            let rank = match of_base.iter_mut().find(|known| known.0 == base.address) {
                Some(known) => {
                    known.1 += 1;
                    known.1
                }
                None => {
                    of_base.push((base.address, 0));
                    0
                }
            };
            let kind = CandidateType::Relayed;
            let foundation = foundations.of(kind, relayed.ip(), Some(relay.server().ip()));
            // RFC 8445 section 5.1.2.1: no two candidates have one priority, so those of the
            // second server stand behind all of the first.
            let step = u16::try_from(self.bases.len()).unwrap_or(u16::MAX);
            let relayed_base = Base {
                address: relayed,
                component: base.component,
                local_preference: base
                    .local_preference
                    .saturating_sub(rank.saturating_mul(step)),
            };
            let mut local = local_candidate(&relayed_base, kind, relayed, foundation);
            // RFC 8839 section 5.1 wants the mapped address there; or no address at all, when
            // none is to be told.
            local.candidate.related = match relay.mapped() {
                Some(mapped) if !self.relay_only => Some(mapped),
                _ => Some(SocketAddr::from(([0, 0, 0, 0], 9))),
            };
            locals.push(local);
        }
    }
}

fn local_candidate(
    base: &Base,
    kind: CandidateType,
    address: SocketAddr,
    foundation: String,
) -> LocalCandidate {
    LocalCandidate {
        candidate: Candidate {
            foundation,
            component: base.component,
            protocol: TransportProtocol::Udp,
            priority: priority(kind, base.local_preference, base.component),
            address,
            kind,
            related: (kind != CandidateType::Host).then_some(base.address),
        },
        base: base.address,
        local_preference: base.local_preference,
    }
}

/// RFC 8445 section 5.1.1.3: one foundation for each type, base address and server.
#[derive(Debug, Default)]
struct Foundations(Vec<(CandidateType, IpAddr, Option<IpAddr>)>);

impl Foundations {
    fn of(&mut self, kind: CandidateType, base: IpAddr, server: Option<IpAddr>) -> String {
        let key = (kind, base, server);
        let index = self.0.iter().position(|known| *known == key);
        let index = index.unwrap_or_else(|| {
            self.0.push(key);
            self.0.len() - 1
        });
        (index + 1).to_string()
    }
}

#[cfg(test)]
mod tests;
