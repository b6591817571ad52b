//! Every agent that shares one offer or answer.

mod config;
mod early;
mod refusals;
mod restart;
mod tcp;
mod trickle;
mod unanswered;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use self::config::SessionConfig;
use self::early::EarlyRequests;
use self::refusals::Refusals;
use self::restart::Previous;
use self::unanswered::Unanswered;
use crate::agent::{Agent, AgentConfig, Arrived, Response, Verdict, Work};
use crate::candidate::{ComponentId, Credentials, IceDescription, Trickle};
use crate::event::{ForkId, IceEvent, Path, StartRefused, TcpWish, Transmit, UpdatedRemote};
use crate::gate::{Gate, Standing};
use crate::gather::Gathered;
use crate::pacer::Pacer;
use crate::seed::{Randomness, Seed};
use crate::stun::{BAD_REQUEST, Binding, Class, ROLE_CONFLICT, UNAUTHENTICATED, UNKNOWN_ATTRIBUTE};

/// Forks of one call beyond which no agent is started.
const MOST_FORKS: usize = 32;
/// RFC 8445 section 14.2 leaves Ta to us down to 5 ms; 50 ms is what everybody bears.
const SHORTEST_TA: Duration = Duration::from_millis(5);
const LONGEST_TA: Duration = Duration::from_millis(50);

/// One early dialog's agent.
#[derive(Debug)]
enum Fork {
    Running(Box<Agent>),
    /// ICE restarts: our new description is made, the peer's is awaited.
    Restarting(Arc<Standing>),
    /// Stopped: its peer is met with silence.
    Stopped {
        remote_ufrag: String,
        pairs_tried: usize,
    },
}

impl Fork {
    fn remote_ufrag(&self) -> &str {
        match self {
            Self::Running(agent) => agent.remote_ufrag(),
            // That of the agent before counts no more, and no ufrag is empty.
            Self::Restarting(_) => "",
            Self::Stopped { remote_ufrag, .. } => remote_ufrag,
        }
    }

    /// The agent, while it runs.
    fn agent(&self) -> Option<&Agent> {
        match self {
            Self::Running(agent) => Some(agent),
            Self::Restarting(_) | Self::Stopped { .. } => None,
        }
    }

    fn agent_mut(&mut self) -> Option<&mut Agent> {
        match self {
            Self::Running(agent) => Some(agent),
            Self::Restarting(_) | Self::Stopped { .. } => None,
        }
    }
}

/// Every agent that shares one offer or answer: our credentials, candidates and sockets, and one
/// ICE agent per early dialog. Our ufrag is the same in all of them, so a Binding request finds
/// its agent by the *peer's* ufrag, which follows the colon of USERNAME.
///
/// After every input ([`start`](Self::start), `handle_*`, [`stop`](Self::stop)), and in this
/// order: [`handle_timeout`](Self::handle_timeout) if [`poll_timeout`](Self::poll_timeout) is not
/// in the future, [`poll_transmit`](Self::poll_transmit) and [`poll_event`](Self::poll_event)
/// until empty, then wait until [`poll_timeout`](Self::poll_timeout).
#[derive(Debug)]
pub struct IceSession {
    config: SessionConfig,
    gathered: Gathered,
    trickle: Trickle,
    /// What our description said before late candidates joined it, if any could.
    signalled: Option<Gathered>,
    credentials: Credentials,
    tie_breaker: u64,
    forks: Vec<(ForkId, Fork)>,
    /// The agent before the last restart, as long as it is of use.
    previous: Option<Box<Previous>>,
    /// Sockets that are no more: nothing leaves from them.
    gone: Vec<SocketAddr>,
    early: EarlyRequests,
    stopped: bool,
    rechecks: usize,
    unanswered: Unanswered,
    refusals: Refusals,
    out: VecDeque<Transmit>,
    wishes: VecDeque<TcpWish>,
    randomness: Randomness,
}

impl IceSession {
    /// A session on gathered candidates.
    pub fn new(config: SessionConfig, gathered: Gathered, seed: impl Into<Seed>) -> Self {
        let mut randomness = seed.into().randomness();
        Self {
            config: SessionConfig {
                pacing: config.pacing.clamp(SHORTEST_TA, LONGEST_TA),
                ..config
            },
            gathered,
            trickle: Trickle::Ended,
            signalled: None,
            credentials: randomness.credentials(),
            tie_breaker: randomness.tie_breaker(),
            forks: Vec::new(),
            previous: None,
            gone: Vec::new(),
            early: EarlyRequests::default(),
            stopped: false,
            rechecks: 0,
            unanswered: Unanswered::default(),
            refusals: Refusals::default(),
            out: VecDeque::new(),
            wishes: VecDeque::new(),
            randomness,
        }
    }

    /// Our side, for the SDP: candidates of both components.
    pub fn local_description(&self) -> IceDescription {
        IceDescription {
            credentials: self.credentials.clone(),
            candidates: self.gathered.candidates().cloned().collect(),
            lite: false,
            ice2: true,
            pacing: Some(self.config.pacing),
            trickle: self.trickle,
            remote_candidates: Vec::new(),
        }
    }

    /// What was gathered for this session.
    pub fn gathered(&self) -> &Gathered {
        &self.gathered
    }

    /// The peer's description is known, and it has ours or gets it now: checks begin at once.
    /// `components` is RTP alone under rtcp-mux, else both.
    ///
    /// # Errors
    /// [`StartRefused`] when this fork cannot have an agent.
    pub fn start(
        &mut self,
        now: Instant,
        fork: ForkId,
        remote: IceDescription,
        components: &[ComponentId],
    ) -> Result<(), StartRefused> {
        self.may_start(fork, &remote, components)?;
        let standing = self.standing_of(fork);
        let ufrag = remote.credentials.ufrag.clone();
        let mut components = components.to_vec();
        components.sort();
        components.dedup();
        // RFC 8445 section 6.1.2.2: no more components than the peer has candidates for.
        if remote.trickle != Trickle::Open
            && let Some(most) = remote.candidates.iter().map(|known| known.component).max()
        {
            components.retain(|component| *component <= most);
        }
        let config = AgentConfig {
            role: self.config.role,
            tie_breaker: self.tie_breaker,
            local: self.credentials.clone(),
            locals: self.gathered.locals.clone(),
            components,
            pacing: self.config.pacing,
            patience: self.config.patience,
            dense_period: self.config.dense_period,
            pair_limit: self.config.pair_limit,
            trickle: self.trickle,
            randomness: self.randomness.fork(),
            standing,
        };
        let mut agent = Box::new(Agent::start(config, remote, now));
        // RFC 8445 section 7.3: they were answered when they came; the rest is done now.
        for request in self.early.take(&ufrag) {
            agent.handle_request(now, &request);
        }
        self.forks.retain(|(known, _)| *known != fork);
        self.forks.push((fork, Fork::Running(agent)));
        Ok(())
    }

    fn may_start(
        &self,
        fork: ForkId,
        remote: &IceDescription,
        components: &[ComponentId],
    ) -> Result<(), StartRefused> {
        let Credentials { ufrag, pwd } = &remote.credentials;
        if self.stopped {
            return Err(StartRefused::Stopped);
        }
        if components.is_empty() {
            return Err(StartRefused::NoComponent);
        }
        // RFC 8839 section 5.4 allows up to 256 characters.
        if [ufrag, pwd].iter().any(|s| s.is_empty() || s.len() > 256) || ufrag.contains(':') {
            return Err(StartRefused::BadCredentials);
        }
        let started =
            |(id, known): &(ForkId, Fork)| *id == fork && !matches!(known, Fork::Restarting(_));
        if self.forks.iter().any(started) {
            return Err(StartRefused::AlreadyStarted);
        }
        let before = self.previous.as_ref();
        if self
            .forks
            .iter()
            .map(|(_, known)| known.remote_ufrag())
            .chain(before.map(|previous| previous.agent.remote_ufrag()))
            .any(|known| known == ufrag)
        {
            return Err(StartRefused::SameRemoteUfrag);
        }
        if self.forks.len() >= MOST_FORKS {
            return Err(StartRefused::TooManyForks { limit: MOST_FORKS });
        }
        Ok(())
    }

    fn agent(&self, fork: ForkId) -> Option<&Agent> {
        let (_, known) = self.forks.iter().find(|(id, _)| *id == fork)?;
        known.agent()
    }

    fn agent_mut(&mut self, fork: ForkId) -> Option<&mut Agent> {
        let (_, known) = self.forks.iter_mut().find(|(id, _)| *id == fork)?;
        known.agent_mut()
    }

    fn agents(&self) -> impl Iterator<Item = &Agent> {
        self.forks.iter().filter_map(|(_, fork)| fork.agent())
    }

    fn agents_mut(&mut self) -> impl Iterator<Item = &mut Agent> {
        let previous = self.previous.as_mut().map(|previous| &mut *previous.agent);
        let running = self
            .forks
            .iter_mut()
            .filter_map(|(_, fork)| fork.agent_mut());
        running.chain(previous)
    }

    /// The gate that this fork's proof opens, after a restart that of the new generation; none
    /// once it was stopped.
    pub fn gate(&self, fork: ForkId) -> Option<Gate> {
        self.forks.iter().find_map(|(id, known)| match known {
            Fork::Running(agent) if *id == fork => Some(agent.gate()),
            Fork::Restarting(standing) if *id == fork => Some(Gate::of_agent(standing)),
            _ => None,
        })
    }

    /// A datagram that [`classify`](crate::classify()) calls STUN has arrived on a base. True if it
    /// was this session's.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        base: SocketAddr,
        from: SocketAddr,
        payload: &[u8],
    ) -> bool {
        self.handle_packet(now, Path::udp(base, from), payload)
    }

    fn handle_packet(&mut self, now: Instant, path: Path, payload: &[u8]) -> bool {
        let before = self.previous.as_ref();
        let component = self
            .gathered
            .component_of(path.protocol, path.base)
            .or_else(|| before?.gathered.component_of(path.protocol, path.base));
        let (Some(component), Some(binding)) = (component, Binding::parse(payload)) else {
            return false;
        };
        match binding.class() {
            Class::Request => {
                self.handle_request(now, path, component, &binding);
                true
            }
            // RFC 8445 section 11: a keepalive.
            Class::Indication => true,
            Class::Success | Class::Error => {
                let agent = self
                    .agents_mut()
                    .find_map(|agent| agent.handle_response(now, path, &binding));
                if agent == Some(Response::Validated) {
                    self.unanswered.answered(path.remote.ip());
                }
                agent.is_some()
            }
        }
    }

    fn handle_request(
        &mut self,
        now: Instant,
        path: Path,
        component: ComponentId,
        binding: &Binding<'_>,
    ) {
        if self.stopped {
            return;
        }
        let request = Arrived {
            path,
            component,
            priority: binding.priority(),
            use_candidate: binding.uses_candidate(),
            role: binding.role(),
        };
        let reply = if let Some(previous) = self.previous_addressed(binding) {
            previous.answer(now, &request, binding)
        } else {
            match self.authenticate(binding) {
                Ok(ufrag) => self.dispatch(now, &ufrag, request, binding),
                Err(code) if self.refusals.take(now) => binding.error(code, None),
                Err(_) => None,
            }
        };
        if let Some(payload) = reply {
            self.reply(path, payload);
        }
    }

    /// RFC 8489 section 9.1.3: the sender's ufrag, if the request is keyed with our password;
    /// else the error code to refuse it with.
    fn authenticate(&self, binding: &Binding<'_>) -> Result<String, u16> {
        if !binding.is_authenticated_request() {
            return Err(BAD_REQUEST);
        }
        match binding.username() {
            Some((ours, theirs))
                if ours == self.credentials.ufrag
                    && binding.is_keyed_with(&self.credentials.pwd) =>
            {
                Ok(theirs)
            }
            _ => Err(UNAUTHENTICATED),
        }
    }

    /// Brings an authenticated request to its agent; the reply.
    fn dispatch(
        &mut self,
        now: Instant,
        ufrag: &str,
        request: Arrived,
        binding: &Binding<'_>,
    ) -> Option<Vec<u8>> {
        let password = self.credentials.pwd.clone();
        if binding.has_unknown_attributes() {
            return binding.error(UNKNOWN_ATTRIBUTE, Some(&password));
        }
        let from = request.path.remote;
        let fork = self
            .forks
            .iter_mut()
            .find(|(_, fork)| fork.remote_ufrag() == ufrag);
        let verdict = match fork {
            Some((_, Fork::Running(agent))) => agent.handle_request(now, &request),
            Some((_, Fork::Stopped { .. })) => Verdict::Silence,
            Some((_, Fork::Restarting(_))) | None => {
                let (role, tie_breaker) = (self.config.role, self.tie_breaker);
                self.early.handle_request(role, tie_breaker, ufrag, request)
            }
        };
        match verdict {
            Verdict::Success => binding.success(from, &password),
            Verdict::RoleConflict => binding.error(ROLE_CONFLICT, Some(&password)),
            Verdict::Silence => None,
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant, pacer: &mut Pacer) {
        for agent in self.agents_mut() {
            agent.handle_timeout(now);
        }
        self.forget_previous(now);
        while let Some((due, index, work)) = self.next_work()
            && due <= now
            // A connection that is opened is no transaction.
            && (work.is_open() || pacer.next_start().is_none_or(|free| free <= now))
        {
            let agent = match self.forks.get_mut(index) {
                Some((_, fork)) => fork.agent_mut(),
                // Beyond the forks there is the agent before the restart.
                None => self.previous.as_mut().map(|previous| &mut *previous.agent),
            };
            let Some(agent) = agent else { return };
            let limit = self.config.check_limit;
            if let Some(address) = agent.unasked(work)
                && !self.unanswered.take(address, limit)
            {
                agent.pass_over(work);
                continue;
            }
            if (work.is_open() || pacer.take(now)) && agent.work(now, work) {
                self.rechecks += 1;
            }
            return;
        }
    }

    /// The agents take turns: the one that has waited longest is next.
    fn next_work(&self) -> Option<(Instant, usize, Work)> {
        let rechecks_left = self.rechecks < self.config.dense_limit;
        let running = self.forks.iter().map(|(_, fork)| fork.agent());
        let previous = self.previous.iter().map(|previous| Some(&*previous.agent));
        running
            .chain(previous)
            .enumerate()
            .filter_map(|(index, agent)| {
                let agent = agent?;
                let rechecks_left = rechecks_left && agent.starts().len() < self.config.check_limit;
                let (due, work) = agent.next_work(rechecks_left)?;
                Some((due, index, work))
            })
            .min_by_key(|(due, index, _)| (*due, *index))
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.out
            .pop_front()
            .or_else(|| self.agents_mut().find_map(Agent::poll_transmit))
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<(ForkId, IceEvent)> {
        let mut forks = self.forks.iter_mut();
        let event = forks.find_map(|(id, fork)| Some((*id, fork.agent_mut()?.poll_event()?)));
        event.or_else(|| self.previous_event())
    }

    /// When to call [`Self::handle_timeout`].
    pub fn poll_timeout(&self, pacer: &Pacer) -> Option<Instant> {
        let work = self
            .next_work()
            .map(|(due, _, _)| pacer.next_start().map_or(due, |free| due.max(free)));
        let before = self.previous.iter().map(|previous| &*previous.agent);
        self.agents()
            .chain(before)
            .filter_map(Agent::poll_timeout)
            .chain(work)
            .chain(self.previous_ends())
            .min()
    }

    /// Where media of a component goes now: the selected pair, before there is one the best valid
    /// pair (RFC 8445 section 12.1). After a restart the previous selected pair, as long as it
    /// works and the new one is not selected (RFC 8839 section 4.4.3.1.1): if it does not answer
    /// after the restart, a valid pair of the new generation is the better one.
    pub fn path(&self, fork: ForkId, component: ComponentId) -> Option<Path> {
        let usable = |agent: &Agent| {
            let path = agent.path(component);
            path.filter(|path| !self.gone.contains(&path.base))
        };
        let new = self.agent(fork);
        if let Some(path) = new.filter(|agent| agent.is_selected()).and_then(usable) {
            return Some(path);
        }
        let before = self.before(fork);
        let previous = before.and_then(|previous| usable(&previous.agent));
        let new = new.and_then(usable);
        if before.is_some_and(|previous| previous.is_alive(component)) {
            previous.or(new)
        } else {
            new.or(previous)
        }
    }

    /// Whether media that comes this way is the peer's: the far end of a pair of this fork that a
    /// check has validated, or from which a check keyed with our password has come.
    pub fn accepts_media(&self, fork: ForkId, path: Path) -> bool {
        self.agent(fork)
            .into_iter()
            .chain(self.previous_of(fork))
            .any(|agent| agent.accepts_media(path))
    }

    /// After nomination: what a subsequent offer or answer says, with `a=remote-candidates` while
    /// we control (RFC 8839 section 4.4.1.2.2). An answer leaves those out (section 4.4.2).
    pub fn nominated_description(&self, fork: ForkId) -> Option<IceDescription> {
        self.agent(fork)?
            .nominated_description(&self.local_description())
    }

    /// Whether we control, every component has its nominated pair, and these are not the default
    /// candidates that both SDPs signalled; `remote_defaults` is what the peer's `c=`, `m=` and
    /// `a=rtcp` said.
    pub fn needs_updated_offer(
        &self,
        fork: ForkId,
        remote_defaults: &[(ComponentId, SocketAddr)],
    ) -> bool {
        let local_default = |component| {
            self.signalled()
                .default_candidate(component)
                .map(|candidate| candidate.address)
        };
        self.agent(fork)
            .is_some_and(|agent| agent.needs_updated_offer(local_default, remote_defaults))
    }

    /// The peer's subsequent offer, or its answer to ours, has arrived (RFC 8839 section 4.4).
    pub fn handle_updated_remote(
        &mut self,
        now: Instant,
        fork: ForkId,
        remote: &IceDescription,
    ) -> UpdatedRemote {
        if self.is_restarting(fork) {
            return self.judge_while_restarting(fork, remote);
        }
        self.agent_mut(fork)
            .map_or(UpdatedRemote::NoAgent, |agent| {
                agent.handle_updated_remote(now, remote)
            })
    }

    /// Gives a fork that has no proof yet a new patience, with every pair to be tried again: for
    /// the 2xx of a peer that checks no earlier than that.
    pub fn renew_patience(&mut self, now: Instant, fork: ForkId) {
        if let Some(agent) = self.agent_mut(fork) {
            agent.renew_patience(now);
        }
    }

    /// Ends a fork's agent: its gate and its proof are void from now on, its peer is no longer
    /// answered.
    pub fn stop(&mut self, fork: ForkId) {
        for (id, known) in &mut self.forks {
            if *id == fork {
                stop_fork(known);
            }
        }
        self.previous.take_if(|previous| previous.fork == fork);
    }

    /// Ends every agent, and refuses new ones.
    pub fn stop_all(&mut self) {
        self.stopped = true;
        self.early = EarlyRequests::default();
        self.out.clear();
        self.previous = None;
        for (_, fork) in &mut self.forks {
            stop_fork(fork);
        }
    }

    /// How many pairs this fork has checked.
    pub fn pairs_tried(&self, fork: ForkId) -> usize {
        self.forks
            .iter()
            .find(|(id, _)| *id == fork)
            .map_or(0, |(_, known)| match known {
                Fork::Running(agent) => agent.pairs_tried(),
                Fork::Restarting(_) => 0,
                Fork::Stopped { pairs_tried, .. } => *pairs_tried,
            })
    }

    /// When this fork's transactions started: the first thousand or so.
    pub fn transaction_starts(&self, fork: ForkId) -> &[Instant] {
        self.agent(fork).map_or(&[], Agent::starts)
    }
}

impl Drop for IceSession {
    /// A proof does not outlive the agents that stand behind it.
    fn drop(&mut self) {
        self.stop_all();
    }
}

fn stop_fork(fork: &mut Fork) {
    let pairs_tried = match fork {
        Fork::Running(agent) => {
            agent.void();
            agent.pairs_tried()
        }
        Fork::Restarting(standing) => {
            standing.void();
            0
        }
        Fork::Stopped { .. } => return,
    };
    *fork = Fork::Stopped {
        remote_ufrag: fork.remote_ufrag().to_owned(),
        pairs_tried,
    };
}
