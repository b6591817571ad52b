//! One world and what two agents make of it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use ringtrue_ice::{ComponentId, IceDescription, Path, Role, SessionConfig};
use ringtrue_testnet::{
    Behaviour, Delivery, HostId, RandomPeer, RandomWorld, Simulation, Stage, Verdict, World,
};

use crate::attacker::Attacker;
use crate::mutant::{Mutant, transaction_id};
use crate::oracle::Oracle;
use crate::peer::{Log, Peer, Setup};

const PORTS: [(ComponentId, u16); 2] = [(ComponentId::Rtp, 5004), (ComponentId::Rtcp, 5005)];
/// Lost packets are sent again for so long, in worlds that lose any.
const LOSSY_PATIENCE: Duration = Duration::from_secs(60);
/// The product's patience.
const PATIENCE: Duration = Duration::from_secs(10);
/// After both have settled something may still come too late, or go wrong.
const AFTERMATH: Duration = Duration::from_secs(1);

/// What happens to the answer on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Arrives,
    /// As a 183 that is lost.
    Lost,
    WrongPassword,
    WrongUfrag,
    /// The candidates are somebody else's; checks may reveal the real ones.
    WrongCandidates,
}

impl Answer {
    /// Whether a proof is out of the question: the offerer does not hold what the answerer said.
    pub fn forbids_a_proof(self) -> bool {
        matches!(self, Self::Lost | Self::WrongPassword | Self::WrongUfrag)
    }
}

/// What stands before the trial begins.
#[derive(Debug)]
pub struct Plan {
    pub seed: u64,
    pub components: usize,
    pub offerer: usize,
    pub pacing: [Duration; 2],
    /// Whether the answer names no pacing, as that of many a phone.
    pub silent_about_pacing: bool,
    pub answer: Answer,
    pub attacked: bool,
    pub signalling: Duration,
}

impl Plan {
    fn draw(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x7e57);
        let mut pacing = || Duration::from_millis([5, 10, 20, 20, 20, 50][rng.random_range(0..6)]);
        Self {
            seed,
            pacing: [pacing(), pacing()],
            components: if rng.random_bool(0.15) { 2 } else { 1 },
            offerer: rng.random_range(0..2),
            silent_about_pacing: rng.random_bool(0.1),
            answer: match rng.random_range(0..100) {
                0..2 => Answer::Lost,
                2..5 => Answer::WrongPassword,
                5..7 => Answer::WrongUfrag,
                7..10 => Answer::WrongCandidates,
                _ => Answer::Arrives,
            },
            attacked: rng.random_bool(0.25),
            // Now and then an answer is lost and comes with the next 183.
            signalling: Duration::from_millis(match rng.random_range(0..5) {
                0 => rng.random_range(500..2_000),
                _ => rng.random_range(5..200),
            }),
        }
    }
}

impl Plan {
    /// The higher of both sides' wishes (RFC 8839 section 5.5); whoever is told no wish takes 50 ms.
    fn ta(&self) -> [Duration; 2] {
        let named = self.pacing[0].max(self.pacing[1]);
        [0, 1].map(
            |side| match self.silent_about_pacing && side == self.offerer {
                true => named.max(Duration::from_millis(50)),
                false => named,
            },
        )
    }
}

/// When new transactions began, as seen on the line.
#[derive(Debug, Default)]
struct Starts {
    known: BTreeSet<Vec<u8>>,
    last: Option<Instant>,
    last_check: Option<Instant>,
    /// The shortest time between two, of all and of checks alone.
    shortest: Option<Duration>,
    shortest_check: Option<Duration>,
}

impl Starts {
    fn note(&mut self, now: Instant, id: &[u8], is_check: bool) {
        if !self.known.insert(id.to_vec()) {
            return;
        }
        let gap = |last: Option<Instant>, shortest: Option<Duration>| {
            let gap = last.map(|last| now - last);
            gap.into_iter().chain(shortest).min()
        };
        self.shortest = gap(self.last, self.shortest);
        self.last = Some(now);
        if is_check {
            self.shortest_check = gap(self.last_check, self.shortest_check);
            self.last_check = Some(now);
        }
    }
}

/// One peer at the end.
#[derive(Debug)]
pub struct PeerOutcome {
    pub log: Log,
    pub shortest_gap: Option<Duration>,
    pub shortest_check_gap: Option<Duration>,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    pub plan: Plan,
    pub description: String,
    pub lossy: bool,
    /// One for each component.
    pub oracles: Vec<Oracle>,
    pub peers: [PeerOutcome; 2],
    /// The Ta that each must keep.
    pub ta: [Duration; 2],
    /// How many interfaces each has.
    pub interfaces: [usize; 2],
    /// When both had begun to check.
    pub begun: Option<Instant>,
    /// Pairs of a base and one of the other's candidates, at the peer that has more of them.
    pub pairs: u32,
    /// For each component: whether what each sends on its path arrives on the other's, from where
    /// the other sends to.
    pub carries: Vec<[bool; 2]>,
}

impl Outcome {
    /// Whether every component has a path, by the oracle.
    pub fn path_exists(&self) -> bool {
        self.oracles.iter().all(|oracle| !oracle.is_pathless())
    }
}

/// Runs one world; `mutant` is what is wrong on purpose.
pub fn run(seed: u64, mutant: Option<Mutant>) -> Outcome {
    let mut random = RandomWorld::generate(seed);
    let plan = Plan::draw(seed);
    let ports = &PORTS[..plan.components];
    let oracles = ports
        .iter()
        .map(|(_, port)| Oracle::ask(&random, [*port; 2]))
        .collect();
    if mutant == Some(Mutant::FilterIgnored) {
        ignore_filters(&mut random.world);
    }
    let attacker = plan
        .attacked
        .then(|| Attacker::enter(&mut random, seed, PORTS[0].1));
    let description = random.description().to_owned();
    let lossy = random.lossy;
    let hosts = [random.left.host, random.right.host];
    let interfaces = [random.left.addresses.len(), random.right.addresses.len()];
    let starts = watch(&mut random.world, hosts, random.stun_servers.clone());
    let mut trial = Trial {
        simulation: seat(random, &plan, mutant),
        hosts,
        attacker,
        rng: ChaCha8Rng::seed_from_u64(seed),
        begun: None,
        pairs: 0,
    };
    trial.gather();
    trial.signal(&plan);
    trial.check(if lossy { LOSSY_PATIENCE } else { PATIENCE });
    let (begun, pairs) = (trial.begun, trial.pairs);
    let (mut world, peers) = trial.end(ports);
    let carries = (0..ports.len())
        .map(|component| carries(&mut world, hosts, &peers, component))
        .collect();
    let mut starts = starts.lock().expect("one thread");
    let [left, right] = peers;
    let peers = [(left, 0), (right, 1)].map(|((log, _), side)| PeerOutcome {
        log,
        shortest_gap: starts[side].shortest.take(),
        shortest_check_gap: starts[side].shortest_check.take(),
    });
    Outcome {
        ta: plan.ta(),
        interfaces,
        begun,
        pairs,
        plan,
        description,
        lossy,
        oracles,
        peers,
        carries,
    }
}

fn ignore_filters(world: &mut World) {
    let gateways: Vec<_> = world.gateways().map(|(id, _)| id).collect();
    for gateway in gateways {
        world.reconfigure(gateway, |config| {
            config.stateful = None;
            if let Some((_, nat)) = &mut config.nat {
                nat.filtering = Behaviour::EndpointIndependent;
            }
        });
    }
}

/// Notes when each of the two begins a transaction. Questions to the servers are no checks.
fn watch(
    world: &mut World,
    hosts: [HostId; 2],
    servers: Vec<std::net::SocketAddr>,
) -> Arc<Mutex<[Starts; 2]>> {
    let starts = Arc::new(Mutex::new([Starts::default(), Starts::default()]));
    let log = Arc::clone(&starts);
    world.add_tap(move |passing| {
        let side = hosts.iter().position(|host| passing.sender == Some(*host));
        if let (Stage::Departure, Some(side)) = (passing.stage, side)
            && let Some(id) = transaction_id([0x00, 0x01], passing.payload)
        {
            let is_check = !servers.contains(&passing.destination);
            let mut starts = log.lock().expect("one thread");
            starts[side].note(passing.now, id, is_check);
        }
        Verdict::Pass
    });
    starts
}

/// Puts the two peers on their hosts.
fn seat(random: RandomWorld, plan: &Plan, mutant: Option<Mutant>) -> Simulation<Peer> {
    let lossy = random.lossy;
    let setup = |side: usize, peer: &RandomPeer| Setup {
        addresses: peer.addresses.clone(),
        ports: PORTS[..plan.components].to_vec(),
        stun_servers: random.stun_servers.clone(),
        gather_patience: Duration::from_millis(if lossy { 5_000 } else { 500 }),
        session: SessionConfig {
            role: match side == plan.offerer {
                true => Role::Controlling,
                false => Role::Controlled,
            },
            pacing: plan.pacing[side],
            ..patience(lossy)
        },
        seed: plan.seed * 2 + side as u64,
        mutant,
    };
    let setups = [setup(0, &random.left), setup(1, &random.right)];
    let hosts = [random.left.host, random.right.host];
    let mut simulation = Simulation::new(random.world);
    for (host, setup) in hosts.into_iter().zip(setups) {
        let now = simulation.now();
        simulation.add(host, Peer::new(setup, now));
    }
    simulation
}

fn patience(lossy: bool) -> SessionConfig {
    if !lossy {
        return SessionConfig::default();
    }
    SessionConfig {
        patience: LOSSY_PATIENCE,
        dense_period: LOSSY_PATIENCE,
        dense_limit: usize::MAX,
        check_limit: usize::MAX,
        ..SessionConfig::default()
    }
}

/// What a peer leaves: its log, and its path for each component.
type Ended = (Log, Vec<Option<Path>>);

struct Trial {
    simulation: Simulation<Peer>,
    hosts: [HostId; 2],
    attacker: Option<Attacker>,
    rng: ChaCha8Rng,
    begun: Option<Instant>,
    pairs: u32,
}

impl Trial {
    fn peer(&self, side: usize) -> &Peer {
        self.simulation.node(self.hosts[side])
    }

    fn gather(&mut self) {
        let hosts = self.hosts;
        let patience = Duration::from_secs(10);
        let gathered = self.simulation.wait_for(patience, |simulation| {
            hosts
                .iter()
                .all(|host| simulation.node(*host).has_gathered())
        });
        assert!(gathered, "gathering ends");
    }

    /// Offer and answer, by a way of their own.
    fn signal(&mut self, plan: &Plan) {
        let offerer = self.hosts[plan.offerer];
        let answerer = self.hosts[1 - plan.offerer];
        let offer = self.simulation.node_mut(offerer).describe();
        let offered = offer.candidates.len();
        self.simulation.run_for(plan.signalling);
        let now = self.simulation.now();
        let answer = {
            let answerer = self.simulation.node_mut(answerer);
            let answer = answerer.describe();
            answerer.start(now, offer);
            answer
        };
        self.simulation.run_for(plan.signalling);
        self.pairs = (offered * answer.candidates.len()) as u32;
        if let Some(answer) = self.mangle(answer, plan) {
            let now = self.simulation.now();
            self.begun = Some(now);
            self.simulation.node_mut(offerer).start(now, answer);
        }
    }

    fn mangle(&mut self, mut answer: IceDescription, plan: &Plan) -> Option<IceDescription> {
        if plan.silent_about_pacing {
            answer.pacing = None;
        }
        match plan.answer {
            Answer::Arrives => {}
            Answer::Lost => return None,
            Answer::WrongPassword => answer.credentials.pwd = "another".repeat(4),
            Answer::WrongUfrag => answer.credentials.ufrag = "another".to_owned(),
            Answer::WrongCandidates => {
                for candidate in &mut answer.candidates {
                    candidate
                        .address
                        .set_port(self.rng.random_range(20_000..30_000));
                }
            }
        }
        Some(answer)
    }

    /// Lets them check until both have settled, or for the patience and a bit.
    fn check(&mut self, patience: Duration) {
        let limit = self.simulation.now() + patience + Duration::from_secs(5);
        let mut ends = limit;
        loop {
            let settled = (0..2).all(|side| self.peer(side).is_settled());
            if settled && ends == limit {
                ends = limit.min(self.simulation.now() + AFTERMATH);
            }
            if !self.step(ends) {
                return;
            }
        }
    }

    /// To the next wake-up, or to the attacker's next packet. False at the end.
    fn step(&mut self, ends: Instant) -> bool {
        let Some(attacker) = &mut self.attacker else {
            return self.simulation.step(ends);
        };
        let pause = Duration::from_millis(self.rng.random_range(0..400));
        let strike = (self.simulation.now() + pause).min(ends);
        while self.simulation.step(strike) {}
        attacker.strike(self.simulation.world_mut());
        strike < ends
    }

    fn end(mut self, ports: &[(ComponentId, u16)]) -> (World, [Ended; 2]) {
        let peers = self.hosts.map(|host| {
            let peer = self.simulation.node_mut(host);
            let paths = ports.iter().map(|(component, _)| peer.path(*component));
            let paths = paths.collect();
            (std::mem::take(&mut peer.log), paths)
        });
        (self.simulation.into_world(), peers)
    }
}

/// Sends a datagram each way on the paths that the two have chosen, in the world as it is now but
/// without loss.
fn carries(
    world: &mut World,
    hosts: [HostId; 2],
    peers: &[Ended; 2],
    component: usize,
) -> [bool; 2] {
    world.make_reliable();
    let [Some(left), Some(right)] = [0, 1].map(|side: usize| peers[side].1[component]) else {
        return [false; 2];
    };
    let ways = [(0, left, 1, right), (1, right, 0, left)];
    ways.map(|(sender, from, receiver, to)| {
        world.send_udp(hosts[sender], from.base, from.remote, b"media".to_vec());
        let expected = Delivery::Datagram {
            local: to.base,
            from: to.remote,
            payload: b"media".to_vec(),
        };
        let mut arrived = false;
        while let Some(at) = world.next_event_at() {
            world.advance_to(at);
            while let Some((host, delivery)) = world.poll_delivery() {
                arrived |= host == hosts[receiver] && delivery == expected;
            }
        }
        arrived
    })
}
