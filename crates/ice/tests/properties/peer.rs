//! A phone that is ICE and nothing else: it gathers, tells its description, checks.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ringtrue_ice::{
    Base, ComponentId, FailureReason, ForkId, GatherConfig, Gatherer, IceDescription, IceEvent,
    IceSession, Pacer, PacketKind, Path, SessionConfig, Transmit, classify,
};
use ringtrue_testnet::{Delivery, Node, Outbox};

use crate::mutant::{Mutant, TriggeredChecks};

pub const FORK: ForkId = ForkId(0);

/// What is known of a peer when its world has ended.
#[derive(Debug, Default)]
pub struct Log {
    /// When the other's first check had come.
    pub bound: Option<Instant>,
    /// When it claimed a proof.
    pub proven: Option<Instant>,
    /// When the pair was selected.
    pub selected: Option<Instant>,
    pub failed: Option<FailureReason>,
    pub consent_lost: bool,
}

/// Everything that a peer is made from.
pub struct Setup {
    pub addresses: Vec<std::net::IpAddr>,
    pub ports: Vec<(ComponentId, u16)>,
    pub stun_servers: Vec<SocketAddr>,
    pub gather_patience: Duration,
    pub session: SessionConfig,
    pub seed: u64,
    pub mutant: Option<Mutant>,
}

#[derive(Debug)]
pub struct Peer {
    components: Vec<ComponentId>,
    config: SessionConfig,
    seed: u64,
    gatherer: Gatherer,
    session: Option<IceSession>,
    pacer: Pacer,
    mutant: Option<Mutant>,
    triggered: TriggeredChecks,
    pub log: Log,
}

impl Peer {
    pub fn new(setup: Setup, now: Instant) -> Self {
        let mut bases = Vec::new();
        for (component, port) in &setup.ports {
            for (index, address) in setup.addresses.iter().enumerate() {
                bases.push(Base {
                    address: SocketAddr::new(*address, *port),
                    component: *component,
                    local_preference: 65_535 - index as u16,
                });
            }
        }
        let gathering = GatherConfig {
            stun_servers: setup.stun_servers,
            patience: setup.gather_patience,
            ..GatherConfig::default()
        };
        Self {
            components: setup
                .ports
                .iter()
                .map(|(component, _)| *component)
                .collect(),
            gatherer: Gatherer::new(gathering, bases, setup.seed, now),
            config: setup.session,
            seed: setup.seed,
            session: None,
            pacer: Pacer::new(),
            mutant: setup.mutant,
            triggered: TriggeredChecks::default(),
            log: Log::default(),
        }
    }

    pub fn has_gathered(&self) -> bool {
        self.gatherer.is_finished()
    }

    /// Opens the session; what its offer or answer says.
    pub fn describe(&mut self) -> IceDescription {
        let gathered = self.gatherer.gathered();
        let session = IceSession::new(self.config.clone(), gathered, self.seed ^ 0x5e55_1011);
        self.session.insert(session).local_description()
    }

    /// The other's offer or answer has come.
    pub fn start(&mut self, now: Instant, remote: IceDescription) {
        let signalled = remote.candidates.iter().map(|candidate| candidate.address);
        self.triggered.signalled = signalled.collect();
        let session = self.session.as_mut().expect("described before");
        session
            .start(now, FORK, remote, &self.components)
            .expect("a session starts");
    }

    pub fn path(&self, component: ComponentId) -> Option<Path> {
        self.session.as_ref()?.path(FORK, component)
    }

    pub fn is_settled(&self) -> bool {
        let log = &self.log;
        (log.proven.is_some() && log.selected.is_some()) || log.failed.is_some()
    }

    fn events(&mut self, now: Instant) {
        while let Some((_, event)) = self.session.as_mut().and_then(IceSession::poll_event) {
            match event {
                IceEvent::Validated { proof, .. } => {
                    // What counts is whether it would have rung.
                    let session = self.session.as_ref().expect("it has just spoken");
                    let gate = session.gate(FORK).expect("a gate beside a proof");
                    let ring = gate.open(proof).expect("the proof opens its own gate");
                    assert!(ring.verified());
                    self.prove(now);
                }
                IceEvent::PeerBound => {
                    self.log.bound = Some(now);
                    if self.mutant == Some(Mutant::ProofAfterOneDirection) {
                        self.prove(now);
                    }
                }
                IceEvent::Selected { .. } => self.log.selected = self.log.selected.or(Some(now)),
                IceEvent::Failed { reason, .. } => self.log.failed = Some(reason),
                IceEvent::ConsentLost => self.log.consent_lost = true,
                IceEvent::Checking { .. } => {}
            }
        }
    }

    fn prove(&mut self, now: Instant) {
        self.log.proven = self.log.proven.or(Some(now));
    }

    fn transmit(&mut self, transmit: Transmit, out: &mut Outbox) {
        let Transmit { base, to, payload } = transmit;
        if self.mutant == Some(Mutant::TriggeredChecksOff)
            && self.triggered.is_triggered((base, to), &payload)
        {
            return;
        }
        if self.mutant == Some(Mutant::ProofWithoutThePeersRequest) {
            self.triggered.note_sent((base, to), &payload);
        }
        out.datagram(base, to, payload);
    }
}

impl Node for Peer {
    fn handle_delivery(&mut self, now: Instant, delivery: Delivery) {
        let Delivery::Datagram {
            local,
            from,
            payload,
        } = delivery
        else {
            return;
        };
        if classify(&payload) != PacketKind::Stun {
            return;
        }
        if self.gatherer.handle_datagram(now, local, from, &payload) {
            return;
        }
        self.triggered.note_arrived((local, from), &payload);
        if self.mutant == Some(Mutant::ProofWithoutThePeersRequest)
            && self.triggered.is_answer((local, from), &payload)
        {
            self.prove(now);
        }
        if let Some(session) = &mut self.session {
            session.handle_datagram(now, local, from, &payload);
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        match &mut self.session {
            Some(session) => session.handle_timeout(now, &mut self.pacer),
            None => self.gatherer.handle_timeout(now, &mut self.pacer),
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match &self.session {
            Some(session) => session.poll_timeout(&self.pacer),
            None => self.gatherer.poll_timeout(&self.pacer),
        }
    }

    fn drain(&mut self, now: Instant, out: &mut Outbox) {
        while let Some(transmit) = self.gatherer.poll_transmit() {
            self.transmit(transmit, out);
        }
        while let Some(transmit) = self.session.as_mut().and_then(IceSession::poll_transmit) {
            self.transmit(transmit, out);
        }
        self.events(now);
    }
}
