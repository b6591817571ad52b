//! Binding requests to STUN servers, and their answers.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use super::{ASK_AGAIN, Base, Gatherer, KEEPALIVE, REMEMBERED_TRANSACTIONS};
use crate::event::Transmit;
use crate::stun::{Binding, Class, TransactionId, server_request};

/// A base with its servers is one question; more than so many are not asked.
pub(super) const MOST_QUESTIONS: usize = 64;

/// One base asks one server.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) base: Base,
    pub(super) server: SocketAddr,
    pub(super) sent: VecDeque<TransactionId>,
    pub(super) state: QuestionState,
    /// Whether it had no answer the last time, when others had.
    pub(super) hopeless: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum QuestionState {
    /// To be asked (again) as soon as the pacing allows after this time.
    Asking { at: Instant },
    /// The server said what it sees; to be asked again then, to keep the binding.
    Answered { mapped: SocketAddr, again: Instant },
    /// The server refused.
    Refused,
}

/// What there is to be asked: all bases ask the first server before any asks the second.
pub(super) fn all_questions(servers: &[SocketAddr], bases: &[Base], now: Instant) -> Vec<Question> {
    let mut questions = Vec::new();
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
                hopeless: false,
            });
        }
    }
    questions.truncate(MOST_QUESTIONS);
    questions
}

impl Question {
    pub(super) fn is_asking(&self) -> bool {
        matches!(self.state, QuestionState::Asking { .. })
    }

    /// Who asks whom.
    pub(super) fn pair(&self) -> (SocketAddr, SocketAddr) {
        (self.base.address, self.server)
    }
}

impl Gatherer {
    pub(super) fn handle_answer(
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

    pub(super) fn ask(&mut self, now: Instant, index: usize) {
        let pause = if self.finished {
            self.late_pause(now)
        } else {
            ASK_AGAIN
        };
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
                *at = now + pause;
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
}
