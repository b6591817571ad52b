//! ICE restarts (RFC 8445 section 9, RFC 8839 sections 4.4.1.1.1, 4.4.2.1 and 4.4.3.1.1).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Fork, IceSession, stop_fork};
use crate::agent::{Agent, Arrived, Verdict};
use crate::candidate::{ComponentId, Credentials, IceDescription};
use crate::event::{ForkId, IceEvent, RestartRefused, Role, UpdatedRemote};
use crate::gate::Standing;
use crate::gather::Gathered;
use crate::stun::{Binding, ROLE_CONFLICT, UNKNOWN_ATTRIBUTE};

/// Sockets that are remembered as gone: more than a host changes its addresses in one call.
const MOST_GONE: usize = 256;

/// The agent before the last restart: it answers the peer, keeps its consent and carries media.
#[derive(Debug)]
pub(super) struct Previous {
    pub(super) fork: ForkId,
    credentials: Credentials,
    pub(super) gathered: Gathered,
    /// When its successor was made.
    retired: Instant,
    pub(super) agent: Box<Agent>,
}

impl Previous {
    /// Whether its path has answered since then. The restart may have come because it does not.
    pub(super) fn is_alive(&self, component: ComponentId) -> bool {
        self.agent
            .answered(component)
            .is_some_and(|answered| answered >= self.retired)
    }

    /// Whether a request was meant for this agent, and keyed with its password.
    pub(super) fn is_for(&self, binding: &Binding<'_>) -> bool {
        binding.is_authenticated_request()
            && binding.username().is_some_and(|(ours, theirs)| {
                ours == self.credentials.ufrag && theirs == self.agent.remote_ufrag()
            })
            && binding.is_keyed_with(&self.credentials.pwd)
    }

    pub(super) fn answer(
        &mut self,
        now: Instant,
        request: &Arrived,
        binding: &Binding<'_>,
    ) -> Option<Vec<u8>> {
        let password = Some(self.credentials.pwd.as_str());
        if binding.has_unknown_attributes() {
            return binding.error(UNKNOWN_ATTRIBUTE, password);
        }
        match self.agent.handle_request(now, request) {
            Verdict::Success => binding.success(request.path.remote, &self.credentials.pwd),
            Verdict::RoleConflict => binding.error(ROLE_CONFLICT, password),
            Verdict::Silence => None,
        }
    }
}

impl IceSession {
    /// Restarts ICE for a fork on these candidates: ours anew, or because the peer does
    /// ([`UpdatedRemote::Restart`]). Ufrag and password are new, every proof and gate of the
    /// generations before is void, and every other fork ends.
    /// [`local_description`](Self::local_description) is what the offer or answer says from now
    /// on, and [`start`](Self::start) follows with the peer's. Media keeps the previous selected
    /// pair until the new one is selected, if it still answers. The roles stay as they are (RFC 8445 section 6.1.1).
    ///
    /// # Errors
    /// [`RestartRefused`] when there is nothing to restart.
    pub fn restart(
        &mut self,
        now: Instant,
        fork: ForkId,
        gathered: Gathered,
    ) -> Result<(), RestartRefused> {
        if self.stopped {
            return Err(RestartRefused::Stopped);
        }
        let known = self
            .forks
            .iter()
            .position(|(id, known)| *id == fork && !matches!(known, Fork::Stopped { .. }));
        let Some(index) = known else {
            return Err(RestartRefused::NoAgent);
        };
        let standing = match self.forks.swap_remove(index).1 {
            Fork::Running(agent) => self.retire(now, fork, agent),
            Fork::Restarting(standing) => standing,
            Fork::Stopped { .. } => Standing::none(),
        };
        standing.raise();
        for (_, other) in &mut self.forks {
            stop_fork(other);
        }
        self.forks.push((fork, Fork::Restarting(standing)));
        self.credentials = self.randomness.credentials();
        self.gathered = gathered;
        self.forget_trickling();
        self.early = super::EarlyRequests::default();
        self.rechecks = 0;
        Ok(())
    }

    /// The agent becomes the previous one, unless it never took over from that.
    fn retire(&mut self, now: Instant, fork: ForkId, mut agent: Box<Agent>) -> Arc<Standing> {
        let standing = agent.retire(now);
        self.config.role = agent.role();
        if let Some(previous) = self.previous.as_deref_mut()
            && previous.fork == fork
            && !agent.is_selected()
        {
            previous.retired = now;
            previous.agent.ask_for_consent(now);
        } else {
            self.previous = Some(Box::new(Previous {
                fork,
                credentials: self.credentials.clone(),
                gathered: self.gathered.clone(),
                retired: now,
                agent,
            }));
        }
        standing
    }

    /// Whether [`start`](Self::start) is awaited after a [`restart`](Self::restart).
    pub fn is_restarting(&self, fork: ForkId) -> bool {
        self.forks
            .iter()
            .any(|(id, known)| *id == fork && matches!(known, Fork::Restarting(_)))
    }

    /// The peer refused the restart: the session goes on with the description and the agent that
    /// it had before. No proof of before is worth anything all the same.
    pub fn abandon_restart(&mut self, fork: ForkId) {
        let waiting = self
            .forks
            .iter_mut()
            .find(|(id, known)| *id == fork && matches!(known, Fork::Restarting(_)));
        let (Some((_, known)), Some(previous)) = (
            waiting,
            self.previous.take_if(|previous| previous.fork == fork),
        ) else {
            return;
        };
        let mut previous = *previous;
        if let Fork::Restarting(standing) = known {
            previous.agent.reinstate(Arc::clone(standing));
        }
        *known = Fork::Running(previous.agent);
        self.credentials = previous.credentials;
        self.gathered = previous.gathered;
        self.forget_trickling();
        self.early = super::EarlyRequests::default();
    }

    /// A socket is no more: its address has left the host.
    pub fn handle_base_gone(&mut self, base: SocketAddr) {
        if !self.gone.contains(&base) {
            if self.gone.len() >= MOST_GONE {
                self.gone.remove(0);
            }
            self.gone.push(base);
        }
    }

    /// Whether the consent of this fork's agent is lost (RFC 7675). The agent before a restart
    /// does not count.
    pub fn has_lost_consent(&self, fork: ForkId) -> bool {
        self.agent(fork).is_some_and(Agent::is_lost)
    }

    /// Asks this fork's peer at once whether the pairs in use still work, because media that was
    /// coming has stopped; and often until it answers.
    pub fn probe(&mut self, now: Instant, fork: ForkId) {
        if let Some(agent) = self.agent_mut(fork) {
            agent.probe(now);
        }
    }

    /// Whether a pair in use has not answered since [`probe`](Self::probe).
    pub fn is_doubtful(&self, fork: ForkId) -> bool {
        self.agent(fork).is_some_and(Agent::is_doubtful)
    }

    /// Whether the peer has seen us at another address since [`probe`](Self::probe): a NAT on our
    /// side maps our socket anew, and only a restart tells the peer where to send.
    pub fn is_remapped(&self, fork: ForkId) -> bool {
        self.agent(fork).is_some_and(Agent::is_remapped)
    }

    /// The round trip that was last measured on the pair in use.
    pub fn round_trip(&self, fork: ForkId, component: ComponentId) -> Option<Duration> {
        self.agent(fork)?.round_trip(component)
    }

    /// The role that an offer or answer of this fork goes with now.
    pub fn role(&self, fork: ForkId) -> Role {
        self.agent(fork).map_or(self.config.role, Agent::role)
    }

    /// The standing that a fork's new agent gets.
    pub(super) fn standing_of(&self, fork: ForkId) -> Arc<Standing> {
        let restarting = self.forks.iter().find_map(|(id, known)| match known {
            Fork::Restarting(standing) if *id == fork => Some(Arc::clone(standing)),
            _ => None,
        });
        restarting.unwrap_or_else(Standing::first)
    }

    pub(super) fn previous_of(&self, fork: ForkId) -> Option<&Agent> {
        Some(&self.before(fork)?.agent)
    }

    pub(super) fn before(&self, fork: ForkId) -> Option<&Previous> {
        self.previous
            .as_deref()
            .filter(|previous| previous.fork == fork)
    }

    /// The agent before the restart, if the request is for it.
    pub(super) fn previous_addressed(&mut self, binding: &Binding<'_>) -> Option<&mut Previous> {
        let previous = self.previous.as_deref_mut()?;
        previous.is_for(binding).then_some(previous)
    }

    /// What the agent before the restart has to tell: only that it can carry media no longer,
    /// when there is no other that does.
    pub(super) fn previous_event(&mut self) -> Option<(ForkId, IceEvent)> {
        let fork = self.previous.as_deref()?.fork;
        let replaced = self.agent(fork).is_some_and(Agent::is_selected);
        let agent = &mut self.previous.as_deref_mut()?.agent;
        while let Some(event) = agent.poll_event() {
            if matches!(event, IceEvent::ConsentLost) && !replaced {
                return Some((fork, event));
            }
        }
        None
    }

    /// When the agent before the restart is needed no longer.
    pub(super) fn previous_ends(&self) -> Option<Instant> {
        let fork = self.previous.as_deref()?.fork;
        self.agent(fork)?.outlives_previous_at()
    }

    pub(super) fn forget_previous(&mut self, now: Instant) {
        if self.previous_ends().is_some_and(|at| at <= now) {
            self.previous = None;
        }
    }

    /// A subsequent offer while our own restart waits for its answer.
    pub(super) fn judge_while_restarting(
        &self,
        fork: ForkId,
        remote: &IceDescription,
    ) -> UpdatedRemote {
        match self.previous_of(fork) {
            None => UpdatedRemote::NoAgent,
            Some(agent) if *agent.remote_credentials() == remote.credentials => {
                UpdatedRemote::NoRestart
            }
            Some(_) => UpdatedRemote::Restart,
        }
    }
}
