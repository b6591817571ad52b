//! A phone that is ICE and nothing else: it gathers, tells its description, checks.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use ringtrue_ice::{
    Base, CandidateType, ComponentId, FailureReason, ForkId, GatherConfig, IceDescription,
    IceEvent, IceSession, Pacer, PacketKind, Path, SessionConfig, TcpWish, Transmit, TurnServer,
    classify,
};
use ringtrue_testnet::{Delivery, Node, Outbox};

use crate::mutant::{Mutant, TriggeredChecks, transaction_id};
use crate::sockets::{Came, Sockets};
use crate::starts::Starts;

pub const FORK: ForkId = ForkId(0);

/// RTP, as far as anybody looks here.
const MEDIA: [u8; 12] = [0x80; 12];

/// What is known of a peer when its world has ended.
#[derive(Debug, Default)]
pub struct Log {
    /// When its session was started, and so on.
    pub started: Option<Instant>,
    /// When the other's first check had come.
    pub bound: Option<Instant>,
    /// When it claimed a proof.
    pub proven: Option<Instant>,
    /// When the pair was selected.
    pub selected: Option<Instant>,
    pub failed: Option<(Instant, FailureReason)>,
    pub consent_lost: bool,
    /// The pairs that it set out with.
    pub pairs: usize,
    /// Its transactions.
    pub starts: Starts,
    /// Requests that have come.
    pub requests: usize,
    /// The ways that accepted media came.
    pub media: Vec<Path>,
}

/// Everything that a peer is made from.
pub struct Setup {
    pub addresses: Vec<IpAddr>,
    pub ports: Vec<(ComponentId, u16)>,
    pub listeners: Vec<SocketAddr>,
    pub stun_servers: Vec<SocketAddr>,
    pub turn_servers: Vec<TurnServer>,
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
    sockets: Sockets,
    session: Option<IceSession>,
    pacer: Pacer,
    mutant: Option<Mutant>,
    triggered: TriggeredChecks,
    /// Whether the other's description has TCP candidates.
    offered_tcp: bool,
    pub log: Log,
}

impl Peer {
    pub fn new(mut setup: Setup, now: Instant) -> Self {
        if setup.mutant == Some(Mutant::OneFamily) {
            let first = setup.addresses.first().is_some_and(IpAddr::is_ipv4);
            setup.addresses.retain(|ip| ip.is_ipv4() == first);
            setup
                .listeners
                .retain(|listener| listener.is_ipv4() == first);
        }
        let preference = |ip: IpAddr| {
            let rank = setup.addresses.iter().position(|other| *other == ip);
            65_535 - rank.unwrap_or_default() as u16
        };
        let base = |address: SocketAddr, component| Base {
            address,
            component,
            local_preference: preference(address.ip()),
        };
        let mut bases = Vec::new();
        for (component, port) in &setup.ports {
            let addresses = setup.addresses.iter();
            bases.extend(addresses.map(|ip| base(SocketAddr::new(*ip, *port), *component)));
        }
        let listeners = setup.listeners.iter();
        let listeners = listeners.map(|address| base(*address, ComponentId::Rtp));
        let gathering = GatherConfig {
            stun_servers: setup.stun_servers,
            turn_servers: setup.turn_servers,
            patience: setup.gather_patience,
            ..GatherConfig::default()
        };
        let mut sockets = Sockets::new(gathering, bases, listeners.collect(), setup.seed, now);
        sockets.without_streams = setup.mutant == Some(Mutant::NoStreams);
        Self {
            components: setup
                .ports
                .iter()
                .map(|(component, _)| *component)
                .collect(),
            sockets,
            config: setup.session,
            seed: setup.seed,
            session: None,
            pacer: Pacer::new(),
            mutant: setup.mutant,
            triggered: TriggeredChecks::default(),
            offered_tcp: false,
            log: Log::default(),
        }
    }

    pub fn has_gathered(&self) -> bool {
        self.sockets.gatherer.is_finished()
    }

    /// Opens the session; what its offer or answer says.
    pub fn describe(&mut self) -> IceDescription {
        let gathered = self.sockets.gatherer.gathered();
        let session = IceSession::new(self.config.clone(), gathered, self.seed ^ 0x5e55_1011);
        self.session.insert(session).local_description()
    }

    /// The other's offer or answer has come.
    pub fn start(&mut self, now: Instant, mut remote: IceDescription) {
        if self.mutant == Some(Mutant::RelaysFirst) {
            for candidate in &mut remote.candidates {
                if candidate.kind == CandidateType::Relayed {
                    candidate.kind = CandidateType::Host;
                    candidate.priority |= 127 << 24;
                }
            }
        }
        self.log.started = Some(now);
        let mut candidates = remote.candidates.iter();
        self.offered_tcp = candidates.any(|candidate| candidate.protocol.is_tcp());
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

    /// Sends a packet on the path of each component.
    pub fn speak(&mut self, now: Instant) {
        for component in self.components.clone() {
            if let Some(path) = self.path(component) {
                self.sockets.send(now, path, MEDIA.to_vec());
            }
        }
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
                IceEvent::Selected { .. } => {
                    self.log.selected = self.log.selected.or(Some(now));
                    self.sockets.gatherer.path_selected();
                }
                IceEvent::Failed { reason, .. } => self.log.failed = Some((now, reason)),
                IceEvent::ConsentLost => self.log.consent_lost = true,
                IceEvent::Checking { pairs } => self.log.pairs = pairs,
            }
        }
    }

    fn prove(&mut self, now: Instant) {
        self.log.proven = self.log.proven.or(Some(now));
    }

    fn came(&mut self, now: Instant, came: Vec<Came>) {
        for came in came {
            match came {
                Came::Packet(path, payload) => self.packet(now, path, &payload),
                Came::Opened(path) => {
                    if let Some(session) = &mut self.session {
                        session.handle_opened(path);
                    }
                }
                Came::Lost(path) => {
                    if let Some(session) = &mut self.session {
                        session.handle_lost(now, path);
                    }
                }
            }
        }
    }

    fn packet(&mut self, now: Instant, path: Path, payload: &[u8]) {
        let Some(session) = &mut self.session else {
            return;
        };
        match classify(payload) {
            PacketKind::Stun => {}
            PacketKind::Rtp if session.accepts_media(FORK, path) => {
                return self.log.media.push(path);
            }
            _ => return,
        }
        let pair = (path.base, path.remote);
        self.log.requests += usize::from(transaction_id([0x00, 0x01], payload).is_some());
        self.triggered.note_arrived(pair, payload);
        let answered = self.triggered.is_answer(pair, payload);
        if path.protocol.is_tcp() {
            session.handle_tcp(now, path, payload);
            if session.has_heard(path) {
                self.sockets.admit(path);
            }
        } else {
            session.handle_datagram(now, path.base, path.remote, payload);
        }
        if self.mutant == Some(Mutant::ProofWithoutThePeersRequest) && answered {
            self.prove(now);
        }
    }

    /// What the session sends, but for what a mutant keeps back.
    fn transmit(&mut self, now: Instant, transmit: Transmit) {
        let Transmit { base, to, payload } = &transmit;
        let pair = (*base, *to);
        if self.mutant == Some(Mutant::TriggeredChecksOff)
            && self.triggered.is_triggered(pair, payload)
        {
            return;
        }
        if let Some(id) = transaction_id([0x00, 0x01], payload) {
            if self.mutant == Some(Mutant::StreamsFirst) && self.offered_tcp {
                return;
            }
            self.log.starts.note(now, id, true);
        }
        self.triggered.note_sent(pair, payload);
        self.sockets.send_datagram(now, transmit);
    }

    fn fulfil(&mut self, now: Instant, wish: TcpWish) {
        if let TcpWish::Send { payload, .. } = &wish
            && let Some(id) = transaction_id([0x00, 0x01], payload)
        {
            self.log.starts.note(now, id, true);
        }
        let came = self.sockets.fulfil(now, wish);
        self.came(now, came);
    }
}

impl Node for Peer {
    fn handle_delivery(&mut self, now: Instant, delivery: Delivery) {
        let came = self.sockets.handle_delivery(now, delivery);
        self.came(now, came);
    }

    fn handle_timeout(&mut self, now: Instant) {
        if let Some(session) = &mut self.session {
            session.handle_timeout(now, &mut self.pacer);
        }
        let came = self.sockets.handle_timeout(now, &mut self.pacer);
        self.came(now, came);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let session = self.session.as_ref();
        session
            .and_then(|session| session.poll_timeout(&self.pacer))
            .into_iter()
            .chain(self.sockets.poll_timeout(&self.pacer))
            .min()
    }

    fn drain(&mut self, now: Instant, out: &mut Outbox) {
        while let Some(transmit) = self.session.as_mut().and_then(IceSession::poll_transmit) {
            self.transmit(now, transmit);
        }
        while let Some(wish) = self.session.as_mut().and_then(IceSession::poll_tcp) {
            self.fulfil(now, wish);
        }
        while let Some(Transmit { base, to, payload }) = self.sockets.gatherer.poll_transmit() {
            if let Some(id) = transaction_id([0x00, 0x01], &payload) {
                self.log.starts.note(now, id, false);
            }
            out.datagram(base, to, payload);
        }
        for wish in self.sockets.take_wishes() {
            out.push(wish);
        }
        self.events(now);
    }
}
