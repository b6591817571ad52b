//! A virtual Internet of two phones, their NATs and a STUN server.
//!
//! ```text
//!   alice 192.168.1.10 --[NAT 203.0.113.1]--+-- STUN 198.51.100.3
//!                                           |
//!     bob 192.168.2.20 --[NAT 203.0.113.2]--+       open phones are 203.0.113.101 and .102
//! ```

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use ringtrue_ice::{
    Base, ComponentId, ForkId, Gate, GatherConfig, Gathered, Gatherer, IceDescription, IceEvent,
    IceSession, Pacer, PathProof, Role, SessionConfig, Transmit, ValidPath,
};

use crate::nat::Nat;
pub use crate::nat::{
    ADDRESS_RESTRICTED, Access, FULL_CONE, PORT_RESTRICTED, SYMMETRIC, path_exists,
};
use crate::stun;

pub const SERVER: &str = "198.51.100.3:3478";
pub const FORK: ForkId = ForkId(1);
pub const ALICE: usize = 0;
pub const BOB: usize = 1;

pub fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A datagram as it leaves a phone.
#[derive(Debug, Clone)]
pub struct Packet {
    pub sender: usize,
    pub base: SocketAddr,
    pub to: SocketAddr,
    pub payload: Vec<u8>,
}

/// What a tap does with a datagram.
pub enum Fate {
    Pass,
    Drop,
}

/// One phone: its session, and all that it reported.
pub struct Peer {
    pub ip: IpAddr,
    pub access: Access,
    nat: Option<Nat>,
    pub pacer: Pacer,
    gatherer: Option<Gatherer>,
    pub session: Option<IceSession>,
    pub seen: Vec<(Duration, ForkId, Seen)>,
    pub proofs: Vec<(ForkId, PathProof)>,
    pub gates: BTreeMap<ForkId, Gate>,
}

/// An event without its proof.
#[derive(Debug, Clone, PartialEq)]
pub enum Seen {
    Checking(usize),
    PeerBound,
    Validated(ValidPath),
    Selected(ValidPath),
    Failed(ringtrue_ice::FailureReason, usize),
    ConsentLost,
}

impl Peer {
    fn new(number: u8, access: Access) -> Self {
        let ip = match access {
            Access::Nat { .. } => [192, 168, number, 10 * number],
            Access::Open | Access::Blocked => [203, 0, 113, 100 + number],
        };
        let nat = match access {
            Access::Nat { mapping, filtering } => {
                let external = IpAddr::from([203, 0, 113, number]);
                Some(Nat::new(external, mapping, filtering))
            }
            Access::Open | Access::Blocked => None,
        };
        Self {
            ip: IpAddr::from(ip),
            access,
            nat,
            pacer: Pacer::new(),
            gatherer: None,
            session: None,
            seen: Vec::new(),
            proofs: Vec::new(),
            gates: BTreeMap::new(),
        }
    }

    pub fn base(&self, component: ComponentId) -> SocketAddr {
        SocketAddr::new(self.ip, 4000 + component.number() - 1)
    }

    pub fn session(&self) -> &IceSession {
        self.session.as_ref().expect("a session")
    }

    pub fn session_mut(&mut self) -> &mut IceSession {
        self.session.as_mut().expect("a session")
    }

    /// When an event was first seen.
    pub fn when(&self, what: impl Fn(&Seen) -> bool) -> Option<u128> {
        self.seen
            .iter()
            .find(|(_, _, seen)| what(seen))
            .map(|(at, _, _)| at.as_millis())
    }

    pub fn validated(&self) -> Option<u128> {
        self.when(|seen| matches!(seen, Seen::Validated(_)))
    }

    pub fn selected(&self) -> Option<u128> {
        self.when(|seen| matches!(seen, Seen::Selected(_)))
    }
}

type Tap = Box<dyn FnMut(Duration, &Packet) -> Fate>;

pub struct Net {
    pub origin: Instant,
    pub now: Instant,
    pub peers: [Peer; 2],
    /// One-way delay between any two.
    pub delay: Duration,
    /// In per cent.
    pub loss: u64,
    random: u64,
    flying: BTreeMap<(Instant, u64), (SocketAddr, SocketAddr, Vec<u8>)>,
    sequence: u64,
    pub tap: Option<Tap>,
    /// Every datagram that left a phone.
    pub sent: Vec<(Duration, Packet)>,
}

impl Net {
    pub fn new(alice: Access, bob: Access) -> Self {
        let origin = Instant::now();
        Self {
            origin,
            now: origin,
            peers: [Peer::new(1, alice), Peer::new(2, bob)],
            delay: ms(10),
            loss: 0,
            random: 1,
            flying: BTreeMap::new(),
            sequence: 0,
            tap: None,
            sent: Vec::new(),
        }
    }

    pub fn seeded(mut self, seed: u64) -> Self {
        self.random = seed * 2 + 1;
        self
    }

    pub fn elapsed(&self) -> Duration {
        self.now - self.origin
    }

    fn chance(&mut self) -> u64 {
        // SplitMix64.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % 100
    }

    /// Both gather from the STUN server; the clock goes on until they are done.
    pub fn gather(&mut self) -> [Gathered; 2] {
        for index in [ALICE, BOB] {
            let peer = &mut self.peers[index];
            let bases = [ComponentId::Rtp, ComponentId::Rtcp].map(|component| Base {
                address: peer.base(component),
                component,
                local_preference: 65_535,
            });
            let config = GatherConfig {
                stun_servers: vec![SERVER.parse().unwrap()],
                ..GatherConfig::default()
            };
            let seed = 1_000 + index as u64;
            peer.gatherer = Some(Gatherer::new(config, bases.into(), seed, self.now));
        }
        while self
            .peers
            .iter()
            .any(|peer| peer.gatherer.as_ref().is_some_and(|g| !g.is_finished()))
        {
            assert!(self.step(self.now + ms(1000)), "gathering ends");
        }
        [ALICE, BOB].map(|index| {
            let gatherer = self.peers[index].gatherer.take().unwrap();
            gatherer.gathered()
        })
    }

    /// Gathers and makes the sessions: alice offers, bob answers. Time starts anew.
    pub fn prepare(&mut self, alice: SessionConfig, bob: SessionConfig) {
        let [for_alice, for_bob] = self.gather();
        self.peers[ALICE].session = Some(IceSession::new(alice, for_alice, self.random));
        self.peers[BOB].session = Some(IceSession::new(bob, for_bob, self.random + 1));
        self.origin = self.now;
        self.sent.clear();
    }

    pub fn prepare_default(&mut self) {
        self.prepare(offerer(), answerer());
    }

    pub fn description(&self, index: usize) -> IceDescription {
        self.peers[index].session().local_description()
    }

    pub fn start(&mut self, index: usize, remote: IceDescription, components: &[ComponentId]) {
        let now = self.now;
        let peer = &mut self.peers[index];
        peer.session_mut()
            .start(now, FORK, remote, components)
            .unwrap();
        let gate = peer.session().gate(FORK).unwrap();
        peer.gates.insert(FORK, gate);
        self.pump();
    }

    /// The INVITE leaves now, the answer leaves bob when it arrives; then runs for `rest`.
    pub fn call(&mut self, signalling: Duration, components: &[ComponentId], rest: Duration) {
        self.prepare_default();
        self.exchange(signalling, components);
        self.run_for(rest);
    }

    pub fn exchange(&mut self, signalling: Duration, components: &[ComponentId]) {
        self.run_for(signalling);
        let alice = self.description(ALICE);
        self.start(BOB, alice, components);
        self.run_for(signalling);
        let bob = self.description(BOB);
        self.start(ALICE, bob, components);
    }

    pub fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
        self.now = end;
    }

    /// Goes to the next thing that happens, at most to `end`.
    pub fn step(&mut self, end: Instant) -> bool {
        self.pump();
        let arrival = self.flying.keys().next().map(|(at, _)| *at);
        let next = self
            .peers
            .iter()
            .flat_map(|peer| {
                let gatherer = peer.gatherer.as_ref();
                let session = peer.session.as_ref();
                [
                    gatherer.and_then(|gatherer| gatherer.poll_timeout(&peer.pacer)),
                    session.and_then(|session| session.poll_timeout(&peer.pacer)),
                ]
            })
            .flatten()
            .chain(arrival)
            .min();
        let Some(next) = next.filter(|next| *next <= end) else {
            return false;
        };
        self.now = self.now.max(next);
        while let Some(entry) = self.flying.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let (from, to, payload) = entry.remove();
            self.arrive(from, to, &payload);
        }
        self.pump();
        true
    }

    /// Lets every phone do what is due now.
    pub fn pump(&mut self) {
        for index in [ALICE, BOB] {
            for turn in 0.. {
                assert!(turn < 10_000, "poll_timeout stays in the past");
                let now = self.now;
                let peer = &mut self.peers[index];
                let mut due = false;
                if let Some(gatherer) = &mut peer.gatherer
                    && gatherer
                        .poll_timeout(&peer.pacer)
                        .is_some_and(|at| at <= now)
                {
                    gatherer.handle_timeout(now, &mut peer.pacer);
                    due = true;
                }
                if let Some(session) = &mut peer.session
                    && session
                        .poll_timeout(&peer.pacer)
                        .is_some_and(|at| at <= now)
                {
                    session.handle_timeout(now, &mut peer.pacer);
                    due = true;
                }
                self.drain(index);
                if !due {
                    break;
                }
            }
        }
    }

    fn drain(&mut self, index: usize) {
        let elapsed = self.elapsed();
        let peer = &mut self.peers[index];
        let mut out = Vec::new();
        if let Some(gatherer) = &mut peer.gatherer {
            out.extend(std::iter::from_fn(|| gatherer.poll_transmit()));
        }
        if let Some(session) = &mut peer.session {
            out.extend(std::iter::from_fn(|| session.poll_transmit()));
            while let Some((fork, event)) = session.poll_event() {
                let seen = match event {
                    IceEvent::Checking { pairs } => Seen::Checking(pairs),
                    IceEvent::PeerBound => Seen::PeerBound,
                    IceEvent::Validated { proof, path } => {
                        peer.proofs.push((fork, proof));
                        Seen::Validated(path)
                    }
                    IceEvent::Selected { path } => Seen::Selected(path),
                    IceEvent::Failed {
                        reason,
                        pairs_tried,
                    } => Seen::Failed(reason, pairs_tried),
                    IceEvent::ConsentLost => Seen::ConsentLost,
                };
                peer.seen.push((elapsed, fork, seen));
            }
        }
        for Transmit { base, to, payload } in out {
            self.send(Packet {
                sender: index,
                base,
                to,
                payload,
            });
        }
    }

    fn send(&mut self, packet: Packet) {
        let elapsed = self.elapsed();
        self.sent.push((elapsed, packet.clone()));
        if let Some(tap) = &mut self.tap {
            match tap(elapsed, &packet) {
                Fate::Pass => {}
                Fate::Drop => return,
            }
        }
        if self.loss > 0 && self.chance() < self.loss {
            return;
        }
        let peer = &mut self.peers[packet.sender];
        if peer.access == Access::Blocked {
            return;
        }
        let from = match &mut peer.nat {
            Some(nat) => nat.outbound(packet.base, packet.to),
            None => packet.base,
        };
        self.fly(from, packet.to, packet.payload);
    }

    /// Puts a datagram on the wire, from whatever address.
    pub fn fly(&mut self, from: SocketAddr, to: SocketAddr, payload: Vec<u8>) {
        self.sequence += 1;
        self.flying
            .insert((self.now + self.delay, self.sequence), (from, to, payload));
    }

    /// Hands a datagram to a phone's socket, past all networks.
    pub fn inject(
        &mut self,
        index: usize,
        component: ComponentId,
        from: SocketAddr,
        payload: &[u8],
    ) -> bool {
        let (now, peer) = (self.now, &mut self.peers[index]);
        let base = peer.base(component);
        let taken = peer.session_mut().handle_datagram(now, base, from, payload);
        self.pump();
        taken
    }

    fn arrive(&mut self, from: SocketAddr, to: SocketAddr, payload: &[u8]) {
        if to == SERVER.parse().unwrap() {
            let reply = stun::success(payload, from, None);
            self.fly(to, from, reply);
            return;
        }
        let now = self.now;
        for peer in &mut self.peers {
            let base = match &peer.nat {
                Some(nat) if nat.external == to.ip() => nat.inbound(from, to.port()),
                None if peer.ip == to.ip() && peer.access != Access::Blocked => Some(to),
                _ => None,
            };
            let Some(base) = base else { continue };
            let gatherer = peer
                .gatherer
                .as_mut()
                .is_some_and(|gatherer| gatherer.handle_datagram(now, base, from, payload));
            if !gatherer && let Some(session) = &mut peer.session {
                session.handle_datagram(now, base, from, payload);
            }
        }
        self.pump();
    }
}

pub fn offerer() -> SessionConfig {
    SessionConfig::default()
}

pub fn answerer() -> SessionConfig {
    SessionConfig {
        role: Role::Controlled,
        ..SessionConfig::default()
    }
}
