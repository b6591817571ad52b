//! A phone with some lines, each a session, and the Internet that it stands on.
//!
//! ```text
//!   alice 192.168.1.2 ── NAT 203.0.113.1 ─┐
//!   bob   192.168.1.2 ── NAT 203.0.113.2 ─┼─ Internet ── STUN 198.51.100.1
//!   carol 192.168.1.2 ── NAT 203.0.113.3 ─┘
//! ```

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ringtrue_ice::{
    Base, ComponentId, ForkId, Gate, GatherConfig, Gatherer, IceDescription, IceEvent, IceSession,
    Pacer, PathProof, Role, SessionConfig,
};
use ringtrue_testnet::{
    Delivery, GatewayConfig, HostId, NatConfig, NetworkId, Node, Outbox, Simulation, StunServer,
    World,
};

pub const FORK: ForkId = ForkId(0);

/// Milliseconds.
pub fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// One call of a phone.
pub struct Line {
    gatherer: Gatherer,
    session: IceSession,
    pub gates: Vec<(ForkId, Gate)>,
    pub proofs: Vec<(ForkId, PathProof)>,
    pub bound: usize,
    pub selected: usize,
    pub failed: usize,
    pub consent_lost: Option<Instant>,
}

impl Line {
    pub fn start(&mut self, now: Instant, fork: ForkId, remote: IceDescription) {
        let components = [ComponentId::Rtp];
        self.session
            .start(now, fork, remote, &components)
            .expect("the fork is new");
        let gate = self.session.gate(fork).expect("an agent has a gate");
        self.gates.push((fork, gate));
    }

    pub fn describe(&self) -> IceDescription {
        self.session.local_description()
    }

    pub fn gate(&self, fork: ForkId) -> Option<Gate> {
        self.session.gate(fork)
    }

    pub fn stop(&mut self, fork: ForkId) {
        self.session.stop(fork);
    }

    fn events(&mut self, now: Instant) {
        while let Some((fork, event)) = self.session.poll_event() {
            match event {
                IceEvent::Validated { proof, .. } => self.proofs.push((fork, proof)),
                IceEvent::PeerBound => self.bound += 1,
                IceEvent::Failed { .. } => self.failed += 1,
                IceEvent::ConsentLost => self.consent_lost = Some(now),
                IceEvent::Selected { .. } => self.selected += 1,
                IceEvent::Checking { .. } => {}
            }
        }
    }
}

/// All calls of one host.
#[derive(Default)]
pub struct Phone {
    pub lines: Vec<Line>,
    pacer: Pacer,
}

impl Node for Phone {
    fn handle_delivery(&mut self, now: Instant, delivery: Delivery) {
        let Delivery::Datagram {
            local,
            from,
            payload,
        } = delivery
        else {
            return;
        };
        for line in &mut self.lines {
            let taken = line.gatherer.handle_datagram(now, local, from, &payload)
                || line.session.handle_datagram(now, local, from, &payload);
            if taken {
                return;
            }
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        for line in &mut self.lines {
            line.session.handle_timeout(now, &mut self.pacer);
            line.gatherer.handle_timeout(now, &mut self.pacer);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let lines = self.lines.iter().flat_map(|line| {
            let session = line.session.poll_timeout(&self.pacer);
            [session, line.gatherer.poll_timeout(&self.pacer)]
        });
        lines.flatten().min()
    }

    fn drain(&mut self, now: Instant, out: &mut Outbox) {
        for line in &mut self.lines {
            while let Some(sent) = line
                .session
                .poll_transmit()
                .or_else(|| line.gatherer.poll_transmit())
            {
                out.datagram(sent.base, sent.to, sent.payload);
            }
            line.events(now);
        }
    }
}

/// The Internet with three phones.
pub struct Net {
    pub simulation: Simulation<Phone>,
    pub alice: HostId,
    pub bob: HostId,
    pub carol: HostId,
    pub homes: [NetworkId; 3],
    next_port: u16,
}

impl Net {
    /// Everybody behind a NAT of this kind, 20 ms from each other.
    pub fn new(nat: &NatConfig) -> Self {
        let mut world = World::new(1);
        let internet = world.internet();
        let stun = world.host_at("stun", internet, [198, 51, 100, 1]);
        world.add_server(stun, StunServer::new());
        let mut homes = Vec::new();
        let mut hosts = Vec::new();
        for (name, last) in [("alice", 1), ("bob", 2), ("carol", 3)] {
            let gateway = GatewayConfig::nat([203, 0, 113, last], nat.clone());
            let (_, home) = world.add_gateway(internet, gateway);
            let host = world.host_at(name, home, [192, 168, 1, 2]);
            for other in &hosts {
                world.set_delay_between(host, *other, ms(20));
            }
            homes.push(home);
            hosts.push(host);
        }
        let mut simulation = Simulation::new(world);
        for host in &hosts {
            simulation.add(*host, Phone::default());
        }
        Self {
            simulation,
            alice: hosts[0],
            bob: hosts[1],
            carol: hosts[2],
            homes: [homes[0], homes[1], homes[2]],
            next_port: 5004,
        }
    }

    /// Opens a line: gathers, and gives its number at that phone.
    pub fn open(&mut self, host: HostId, role: Role) -> usize {
        let now = self.simulation.now();
        let port = self.next_port;
        self.next_port += 2;
        let base = Base {
            address: SocketAddr::new([192, 168, 1, 2].into(), port),
            component: ComponentId::Rtp,
            local_preference: 65_535,
        };
        let config = GatherConfig {
            stun_servers: vec![SocketAddr::new([198, 51, 100, 1].into(), 3478)],
            ..GatherConfig::default()
        };
        let mut gatherer = Gatherer::new(config, vec![base], u64::from(port), now);
        // A gatherer asks at once; the rest it does while the phone lives.
        let mut pacer = Pacer::new();
        gatherer.handle_timeout(now, &mut pacer);
        let asked = gatherer.poll_transmit().expect("it asks its server");
        let world = self.simulation.world_mut();
        world.send_udp(host, asked.base, asked.to, asked.payload);
        while !gatherer.is_finished() {
            let at = world.next_event_at().expect("an answer comes");
            world.advance_to(at);
            while let Some((to, delivery)) = world.poll_delivery() {
                if let (
                    true,
                    Delivery::Datagram {
                        local,
                        from,
                        payload,
                    },
                ) = (to == host, delivery)
                {
                    gatherer.handle_datagram(at, local, from, &payload);
                }
            }
        }
        let config = SessionConfig {
            role,
            ..SessionConfig::default()
        };
        let session = IceSession::new(config, gatherer.gathered(), u64::from(port) + 7);
        let lines = &mut self.simulation.node_mut(host).lines;
        lines.push(Line {
            gatherer,
            session,
            gates: Vec::new(),
            proofs: Vec::new(),
            bound: 0,
            selected: 0,
            failed: 0,
            consent_lost: None,
        });
        lines.len() - 1
    }

    pub fn line(&mut self, (host, index): (HostId, usize)) -> &mut Line {
        &mut self.simulation.node_mut(host).lines[index]
    }

    /// The offer arrives: the callee starts and answers.
    pub fn offer(&mut self, from: (HostId, usize), to: (HostId, usize)) -> IceDescription {
        let offer = self.line(from).describe();
        let now = self.simulation.now();
        let callee = self.line(to);
        callee.start(now, FORK, offer);
        callee.describe()
    }

    /// The answer arrives.
    pub fn answer(&mut self, to: (HostId, usize), fork: ForkId, answer: IceDescription) {
        let now = self.simulation.now();
        self.line(to).start(now, fork, answer);
    }

    /// A whole call from alice to bob; the lines of both.
    pub fn call(&mut self) -> [(HostId, usize); 2] {
        let caller = (self.alice, self.open(self.alice, Role::Controlling));
        let callee = (self.bob, self.open(self.bob, Role::Controlled));
        let answer = self.offer(caller, callee);
        self.simulation.run_for(ms(20));
        self.answer(caller, FORK, answer);
        [caller, callee]
    }

    pub fn run(&mut self, duration: Duration) {
        self.simulation.run_for(duration);
    }
}
