//! The part of a session that goes by connections (RFC 6544): [`TcpFlows`](crate::TcpFlows) keeps
//! them.

use std::time::Instant;

use super::IceSession;
use crate::agent::{Agent, push};
use crate::event::{ForkId, Path, TcpWish, Transmit};

impl IceSession {
    /// A STUN message has come by a connection. True if it was this session's.
    pub fn handle_tcp(&mut self, now: Instant, path: Path, payload: &[u8]) -> bool {
        self.handle_packet(now, path, payload)
    }

    /// The connection of a [`TcpWish::Open`] stands.
    pub fn handle_opened(&mut self, path: Path) {
        for agent in self.agents_mut() {
            agent.handle_opened(path);
        }
    }

    /// A connection could not be opened, or has ended.
    pub fn handle_lost(&mut self, now: Instant, path: Path) {
        for agent in self.agents_mut() {
            agent.handle_lost(now, path);
        }
    }

    /// What connections are wanted for next; to be polled with
    /// [`poll_transmit`](Self::poll_transmit).
    pub fn poll_tcp(&mut self) -> Option<TcpWish> {
        self.wishes
            .pop_front()
            .or_else(|| self.agents_mut().find_map(Agent::poll_tcp))
    }

    /// Whether a check keyed with our password has come this way: whoever is at its far end has
    /// our description.
    pub fn has_heard(&self, path: Path) -> bool {
        self.early.has_heard(path)
            || self.agents().any(|agent| agent.has_heard(path))
            || self
                .previous
                .as_ref()
                .is_some_and(|previous| previous.agent.has_heard(path))
    }

    /// Whether a fork's pairs were selected so long ago that connections beside them are of no use
    /// to either side (RFC 8445 section 8.3.1).
    pub fn is_concluded(&self, now: Instant, fork: ForkId) -> bool {
        self.agent(fork)
            .is_some_and(|agent| agent.is_concluded(now))
    }

    /// Whether media goes this way, by the agent of any fork.
    pub fn uses(&self, path: Path) -> bool {
        self.agents().any(|agent| agent.uses(path))
            || self
                .previous
                .as_ref()
                .is_some_and(|previous| previous.agent.uses(path))
    }

    pub(super) fn reply(&mut self, path: Path, payload: Vec<u8>) {
        if path.protocol.is_tcp() {
            push(&mut self.wishes, TcpWish::Send { path, payload });
        } else {
            let (base, to) = (path.base, path.remote);
            push(&mut self.out, Transmit { base, to, payload });
        }
    }
}
