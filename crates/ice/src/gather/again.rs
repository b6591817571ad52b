//! Gathering again in the middle of a call, for an ICE restart: on the sockets that still stand and
//! on new ones. What is relayed meanwhile goes on.

use std::net::SocketAddr;
use std::time::Instant;

use super::questions::{MOST_QUESTIONS, Question, QuestionState, all_questions};
use super::{Base, GatherConfig, Gatherer};
use crate::turn::Relay;

impl Gatherer {
    /// Gathers again on these sockets, the ones that still stand among them. An allocation of a
    /// socket that stands is kept, and its relayed candidate is gathered again (RFC 8445 section
    /// 9: a restart may use the same candidates), once the server says that it still stands, or
    /// that of its successor; one that was refused is asked for anew; those of other sockets are
    /// forgotten: their connections are closed, and the server's own clock ends the rest.
    pub fn gather_again(&mut self, now: Instant, config: GatherConfig, bases: Vec<Base>) {
        self.note_silence(now >= self.patience_ends);
        self.questions = all_questions(&config.stun_servers, &bases, now);
        for question in &mut self.questions {
            question.hopeless = self.silent.contains(&question.pair());
        }
        self.gather_relays_again(now, &config.turn_servers, &bases);
        self.mapped
            .keep(|address| bases.iter().any(|base| base.address == address));
        self.bases = bases;
        self.relay_only = config.relay_only;
        self.patience_ends = now + config.patience;
        self.patience_is_over = false;
        self.stun_servers = config.stun_servers;
        self.ask_by_tcp();
        self.pacing = config.pacing;
        self.finished = false;
        self.collect();
        self.finish_if_settled();
    }

    /// Notes who kept silent for the whole patience though others answered: a firewall that eats some
    /// of what is sent shall not cost the patience at every restart.
    pub(super) fn note_silence(&mut self, patience_is_over: bool) {
        let others_answered = patience_is_over && self.is_answered();
        for question in &self.questions {
            let pair = question.pair();
            if !question.is_asking() {
                self.silent.retain(|silent| *silent != pair);
            } else if others_answered && !self.silent.contains(&pair) {
                self.silent.push(pair);
            }
        }
        let excess = self.silent.len().saturating_sub(MOST_QUESTIONS);
        self.silent.drain(..excess);
        for relay in &mut self.relays {
            relay.despair(others_answered);
        }
    }

    /// Whether any server has answered since gathering began, so that the network carries
    /// something; true as well when there is none to ask.
    pub fn is_answered(&self) -> bool {
        let answered =
            |question: &Question| matches!(question.state, QuestionState::Answered { .. });
        (self.questions.is_empty() && self.relays.is_empty())
            || self.questions.iter().any(answered)
            || self.relays.iter().any(Relay::is_verified)
            || self.is_answered_by_tcp()
    }

    /// The socket that packets from a base leave by: a relayed candidate's base is the candidate
    /// itself (RFC 8445 section 5.1.1.2), and the server sees the socket.
    pub fn socket_of(&self, base: SocketAddr) -> SocketAddr {
        self.relays
            .iter()
            .find(|relay| relay.has(base))
            .map_or(base, |relay| relay.base().address)
    }

    /// The relayed candidates of a socket, those of before the last restart among them.
    pub fn relayed_of(&self, socket: SocketAddr) -> impl Iterator<Item = SocketAddr> {
        self.relays
            .iter()
            .filter(move |relay| relay.base().address == socket)
            .flat_map(Relay::names)
    }
}
