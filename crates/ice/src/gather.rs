//! Gathering of candidates (RFC 8445 section 5.1.1).

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::candidate::{Candidate, CandidateType, ComponentId, TransportProtocol};
use crate::event::Transmit;
use crate::pacer::Pacer;
use crate::seed::{Randomness, Seed};
use crate::stun::{Binding, Class, TransactionId, server_request};

/// A question that got no answer for so long is asked again, as a new transaction.
const ASK_AGAIN: Duration = Duration::from_millis(120);
/// RFC 8445 section 11 wants at least 15 s between keepalives; NAT bindings live for 30 s and more.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// A base with its servers is one question; more than so many are not asked.
const MOST_QUESTIONS: usize = 64;
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
    /// How long to wait for the servers. Default 500 ms.
    pub patience: Duration,
    /// Time between two new transactions, Ta. Default 20 ms.
    pub pacing: Duration,
}

impl Default for GatherConfig {
    fn default() -> Self {
        Self {
            stun_servers: Vec::new(),
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

/// Gathers host and server-reflexive candidates on the sockets of one call.
///
/// Poll in this order after each input: `poll_transmit` until empty, then `poll_timeout`. After it
/// has finished it keeps the bindings at the servers warm, so that gathered sockets can wait in a
/// pool: keep it until a path is selected (RFC 8445 section 5.1.1.4).
#[derive(Debug)]
pub struct Gatherer {
    bases: Vec<Base>,
    questions: Vec<Question>,
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
        let mut questions = Vec::new();
        // All bases ask the first server before any asks the second.
        for server in config.stun_servers {
            for base in bases
                .iter()
                .filter(|base| base.address.is_ipv4() == server.is_ipv4())
            {
                questions.push(Question {
                    base: *base,
                    server,
                    sent: VecDeque::new(),
                    state: QuestionState::Asking { at: now },
                });
            }
        }
        questions.truncate(MOST_QUESTIONS);
        Self {
            finished: questions.is_empty(),
            bases,
            questions,
            patience_ends: now + config.patience,
            pacing: config.pacing,
            next_slot: now,
            out: VecDeque::new(),
            randomness: seed.into().randomness(),
        }
    }

    /// A datagram has arrived on a base. True if it was the gatherer's.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        base: SocketAddr,
        from: SocketAddr,
        payload: &[u8],
    ) -> bool {
        let Some(binding) = Binding::parse(payload) else {
            return false;
        };
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
        self.finished |= self
            .questions
            .iter()
            .all(|question| !matches!(question.state, QuestionState::Asking { .. }));
        true
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant, pacer: &mut Pacer) {
        self.finished |= now >= self.patience_ends;
        if self.next_slot > now {
            return;
        }
        let Some((due, index)) = self.next_question() else {
            return;
        };
        if due > now || !pacer.take(now) {
            return;
        }
        let id = TransactionId(self.randomness.transaction_id());
        let (Some(question), Some(payload)) = (self.questions.get_mut(index), server_request(id))
        else {
            return;
        };
        self.next_slot = now + self.pacing;
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

    /// The question that is due first, and when.
    fn next_question(&self) -> Option<(Instant, usize)> {
        self.questions
            .iter()
            .enumerate()
            .filter_map(|(index, question)| match question.state {
                QuestionState::Asking { at } => Some((at, index)),
                QuestionState::Answered { again, .. } => Some((again, index)),
                QuestionState::Refused => None,
            })
            .min()
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.out.pop_front()
    }

    /// When to call [`Self::handle_timeout`].
    pub fn poll_timeout(&self, pacer: &Pacer) -> Option<Instant> {
        let ask = self.next_question().map(|(due, _)| {
            let due = due.max(self.next_slot);
            pacer.next_start().map_or(due, |free| due.max(free))
        });
        let patience = (!self.finished).then_some(self.patience_ends);
        ask.into_iter().chain(patience).min()
    }

    /// Whether every server has answered or refused, or the patience is over.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// What is known by now; complete when [`Self::is_finished`].
    pub fn gathered(&self) -> Gathered {
        let mut foundations = Foundations::default();
        let mut locals = Vec::new();
        for base in &self.bases {
            locals.push(local_candidate(
                base,
                CandidateType::Host,
                base.address,
                foundations.of(CandidateType::Host, base.address.ip(), None),
            ));
        }
        for question in &self.questions {
            let QuestionState::Answered { mapped, .. } = question.state else {
                continue;
            };
            let base = &question.base;
            // RFC 8445 section 5.1.3: same address and same base: redundant.
            let redundant = locals.iter().any(|local: &LocalCandidate| {
                local.candidate.address == mapped && local.base == base.address
            });
            if !redundant {
                let kind = CandidateType::ServerReflexive;
                let server = Some(question.server.ip());
                let foundation = foundations.of(kind, base.address.ip(), server);
                locals.push(local_candidate(base, kind, mapped, foundation));
            }
        }
        locals.sort_by_key(|local| {
            let candidate = &local.candidate;
            (candidate.component, std::cmp::Reverse(candidate.priority))
        });
        Gathered { locals }
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
