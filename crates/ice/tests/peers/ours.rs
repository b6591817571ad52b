//! Our agent on a host.

use std::time::Instant;

use ringtrue_ice::{
    Base, ComponentId, ForkId, GatherConfig, Gatherer, IceDescription, IceEvent, IceSession, Pacer,
    PacketKind, Path, SessionConfig, Transmit, classify,
};
use ringtrue_testnet::{Delivery, Node, Outbox};

use crate::agent::{Agent, Setup};

const FORK: ForkId = ForkId(0);

pub struct Ours {
    setup: Setup,
    gatherer: Gatherer,
    session: Option<IceSession>,
    pacer: Pacer,
    /// Rung, selected, failed.
    rang: bool,
    selected: bool,
    failed: bool,
}

impl Ours {
    pub fn new(setup: Setup, now: Instant) -> Self {
        let bases = setup.bases.iter().map(|(component, address)| Base {
            address: *address,
            component: *component,
            local_preference: 65_535,
        });
        let config = GatherConfig {
            stun_servers: vec![setup.stun_server],
            ..GatherConfig::default()
        };
        Self {
            gatherer: Gatherer::new(config, bases.collect(), setup.seed, now),
            setup,
            session: None,
            pacer: Pacer::new(),
            rang: false,
            selected: false,
            failed: false,
        }
    }

    fn events(&mut self) {
        let Some(session) = &mut self.session else {
            return;
        };
        while let Some((_, event)) = session.poll_event() {
            match event {
                // What counts is whether the phone would have rung.
                IceEvent::Validated { proof, .. } => {
                    let gate = session.gate(FORK).expect("a gate beside a proof");
                    self.rang = gate.open(proof).expect("its own gate").verified();
                }
                IceEvent::Selected { .. } => self.selected = true,
                IceEvent::Failed { .. } | IceEvent::ConsentLost => self.failed = true,
                IceEvent::Checking { .. } | IceEvent::PeerBound => {}
            }
        }
    }
}

impl Agent for Ours {
    fn has_gathered(&self) -> bool {
        self.gatherer.is_finished()
    }

    fn describe(&mut self) -> IceDescription {
        let config = SessionConfig {
            role: self.setup.role,
            ..SessionConfig::default()
        };
        let gathered = self.gatherer.gathered();
        let session = IceSession::new(config, gathered, self.setup.seed ^ 0x5e55_1011);
        self.session.insert(session).local_description()
    }

    fn start(&mut self, now: Instant, remote: IceDescription) {
        let components: Vec<_> = self.setup.bases.iter().map(|(id, _)| *id).collect();
        let session = self.session.as_mut().expect("described before");
        session
            .start(now, FORK, remote, &components)
            .expect("the foreign description is acceptable");
    }

    fn path(&self, component: ComponentId) -> Option<Path> {
        let session = self.session.as_ref().filter(|_| self.selected)?;
        session.path(FORK, component)
    }

    fn has_proof(&self) -> bool {
        self.rang
    }

    fn has_failed(&self) -> bool {
        self.failed
    }
}

impl Node for Ours {
    fn handle_delivery(&mut self, now: Instant, delivery: Delivery) {
        let Delivery::Datagram {
            local,
            from,
            payload,
        } = delivery
        else {
            return;
        };
        if classify(&payload) == PacketKind::Stun
            && !self.gatherer.handle_datagram(now, local, from, &payload)
            && let Some(session) = &mut self.session
        {
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

    fn drain(&mut self, _now: Instant, out: &mut Outbox) {
        let session = &mut self.session;
        let asked = std::iter::from_fn(|| self.gatherer.poll_transmit());
        let checks = std::iter::from_fn(|| session.as_mut()?.poll_transmit());
        for Transmit { base, to, payload } in asked.chain(checks) {
            out.datagram(base, to, payload);
        }
        self.events();
    }
}
