//! Gathering of candidates (RFC 8445 section 5.1.1).

mod again;
mod candidates;
mod gathered;
mod joining;
mod keeping;
mod late;
mod mapped;
mod questions;
mod relays;
mod tcp;
mod tcp_questions;

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::candidate::ComponentId;
use crate::event::Transmit;
use crate::pacer::Pacer;
use crate::seed::{Randomness, Seed};
use crate::stun::Binding;
use crate::turn::{Relay, TurnServer, TurnStreamWish};
use mapped::Mapped;

pub use self::gathered::Gathered;
pub(crate) use self::gathered::{LocalCandidate, priority, priority_of};
use self::questions::{Question, QuestionState, all_questions};
use self::relays::all_relays;
use self::tcp_questions::TcpQuestion;

/// A question that got no answer for so long is asked again, as a new transaction.
const ASK_AGAIN: Duration = Duration::from_millis(120);
/// RFC 8445 section 11 wants at least 15 s between keepalives; NAT bindings live for 30 s and more.
const KEEPALIVE: Duration = Duration::from_secs(15);
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
    /// TURN servers in order of preference, asked for an allocation from each base of their address
    /// family.
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
/// that is to be sent ([`Self::relay`]), open, feed and close the connections that it wants
/// ([`Self::poll_stream`], to be asked after `poll_transmit`), and say when the call is over ([`Self::release_all`]).
#[derive(Debug)]
pub struct Gatherer {
    bases: Vec<Base>,
    /// The ports of passive candidates, and those of simultaneous open.
    listeners: Vec<Base>,
    simultaneous: Vec<Base>,
    stun_servers: Vec<SocketAddr>,
    questions: Vec<Question>,
    tcp_questions: Vec<TcpQuestion>,
    /// Bases and servers that never answered them, though others did.
    silent: Vec<(SocketAddr, SocketAddr)>,
    relays: Vec<Relay>,
    mapped: Mapped,
    relayed: VecDeque<Relayed>,
    stream_wishes: VecDeque<TurnStreamWish>,
    next_stream: u64,
    relay_only: bool,
    patience_ends: Instant,
    patience_is_over: bool,
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
        let questions = all_questions(&config.stun_servers, &bases, now);
        let relays = all_relays(&config.turn_servers, &bases, &mut Vec::new(), now);
        Self {
            finished: questions.is_empty() && relays.is_empty(),
            bases,
            listeners: Vec::new(),
            simultaneous: Vec::new(),
            stun_servers: config.stun_servers,
            questions,
            tcp_questions: Vec::new(),
            silent: Vec::new(),
            relays,
            mapped: Mapped::default(),
            relayed: VecDeque::new(),
            stream_wishes: VecDeque::new(),
            next_stream: 0,
            relay_only: config.relay_only,
            patience_ends: now + config.patience,
            patience_is_over: false,
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

    fn finish_if_settled(&mut self) {
        self.finished |= self.is_settled_enough();
    }

    /// A path is selected: the bindings at the STUN servers are kept no longer. Allocations are,
    /// because the peer may still send by them.
    pub fn path_selected(&mut self) {
        self.note_silence(self.finished);
        self.finished = true;
        self.questions.clear();
        self.stop_asking_by_tcp();
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant, pacer: &mut Pacer) {
        self.finished |= now >= self.patience_ends;
        self.drive_relays(now);
        self.drive_tcp(now);
        self.mapped.handle_timeout(now);
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
            Start::Allocation(index) => self.ask_relay(now, index),
        }
    }

    /// The transaction that is due first, and when. Of several the one of the most preferred base:
    /// many interfaces ask for longer than the patience lasts, and the default routes have to be
    /// among what is known by then.
    fn next_start(&self) -> Option<(Instant, Start)> {
        let preference = |base: &Base| (Reverse(base.local_preference), base.component);
        let questions = self.questions.iter().enumerate();
        let questions = questions.filter_map(|(index, question)| {
            let at = match question.state {
                QuestionState::Asking { at } => at,
                QuestionState::Answered { again, .. } => again,
                QuestionState::Refused => return None,
            };
            Some((at, preference(&question.base), Start::Question(index)))
        });
        let relays = self.relays_to_ask().map(|(due, index, base)| {
            let allocation = Start::Allocation(index);
            (due, preference(base), allocation)
        });
        let (due, _, start) = relays.chain(questions).min()?;
        Some((due, start))
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
        let relays = self.relay_timeouts();
        ask.into_iter()
            .chain(patience)
            .chain(relays)
            .chain(self.mapped.poll_timeout())
            .chain(self.tcp_timeout())
            .min()
    }

    /// Whether every server has answered or refused, or the patience is over.
    pub fn is_finished(&self) -> bool {
        self.finished
    }
}

#[cfg(test)]
mod tests;
