//! One world and what two agents make of it.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use ringtrue_ice::{
    ComponentId, IceDescription, Path, Role, SessionConfig, TurnServer, TurnTransport,
};
use ringtrue_testnet::{Behaviour, HostId, RandomPeer, RandomWorld, Simulation, World};

use crate::attacker::Attacker;
use crate::mutant::Mutant;
use crate::oracle::{Directness, Oracle, listeners};
use crate::peer::{Log, Peer, Setup};

const PORTS: [(ComponentId, u16); 2] = [(ComponentId::Rtp, 5004), (ComponentId::Rtcp, 5005)];
/// Streams are for one component.
const STREAM_PORT: u16 = 5006;
/// Lost packets are sent again for so long, in worlds that lose any.
const LOSSY_PATIENCE: Duration = Duration::from_secs(60);
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

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    pub plan: Plan,
    pub description: String,
    pub lossy: bool,
    /// One for each component.
    pub oracles: Vec<Oracle>,
    pub peers: [Log; 2],
    /// The Ta that each must keep.
    pub ta: [Duration; 2],
    /// How many addresses each has.
    pub addresses: [usize; 2],
    /// When both had begun to check.
    pub begun: Option<Instant>,
    /// Pairs of a base and one of the other's candidates, at the peer that has more of them.
    pub pairs: u32,
    /// For each component what each of the two has chosen.
    pub chosen: Vec<[Option<Chosen>; 2]>,
}

/// The path of a component at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chosen {
    pub path: Path,
    pub directness: Directness,
    /// Whether what the other sends on its path arrives on this one.
    pub carries: bool,
}

impl Outcome {
    /// Whether every component has a path, by the oracle.
    pub fn path_exists(&self) -> bool {
        self.oracles.iter().all(|oracle| !oracle.is_pathless())
    }

    /// Whether a component uses a less direct kind of path than there is.
    pub fn is_less_direct(&self, component: usize) -> bool {
        let best = self.oracles[component].best();
        let selected = self.peers.iter().all(|log| log.selected.is_some());
        let mut chosen = self.chosen[component].iter().flatten();
        selected && chosen.any(|one| best.is_some_and(|best| best < one.directness))
    }

    /// The same of any component, for whatever excuse.
    pub fn settled_for_less(&self) -> bool {
        let components = 0..self.chosen.len();
        components.into_iter().any(|one| self.is_less_direct(one))
    }
}

/// Runs one world; `mutant` is what is wrong on purpose.
pub fn run(seed: u64, mutant: Option<Mutant>) -> Outcome {
    let mut random = RandomWorld::generate(seed);
    let plan = Plan::draw(seed);
    let ports = &PORTS[..plan.components];
    let stream_port = (plan.components == 1).then_some(STREAM_PORT);
    let oracles: Vec<_> = ports
        .iter()
        .map(|(_, port)| Oracle::ask(&random, *port, stream_port))
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
    let addresses = [random.left.addresses.len(), random.right.addresses.len()];
    let relays = random.world.addresses(random.turn);
    let pathless = oracles.iter().any(Oracle::is_pathless);
    let mut trial = Trial {
        simulation: seat(random, &plan, pathless, mutant),
        hosts,
        attacker,
        rng: ChaCha8Rng::seed_from_u64(seed),
        begun: None,
        pairs: 0,
    };
    trial.gather();
    trial.signal(&plan);
    trial.check(patience(lossy, pathless).patience);
    let (begun, pairs) = (trial.begun, trial.pairs);
    let (peers, chosen) = trial.end(ports, &relays);
    Outcome {
        ta: plan.ta(),
        addresses,
        begun,
        pairs,
        plan,
        description,
        lossy,
        oracles,
        peers,
        chosen,
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

/// Puts the two peers on their hosts.
fn seat(
    random: RandomWorld,
    plan: &Plan,
    pathless: bool,
    mutant: Option<Mutant>,
) -> Simulation<Peer> {
    let lossy = random.lossy;
    let setup = |side: usize, peer: &RandomPeer| Setup {
        addresses: peer.addresses.clone(),
        ports: PORTS[..plan.components].to_vec(),
        listeners: listeners(peer, STREAM_PORT),
        stun_servers: random.stun_servers.clone(),
        turn_servers: turn_servers(peer),
        // Late candidates, and how they are trickled, are another test's matter.
        gather_patience: Duration::from_secs(if lossy { 10 } else { 2 }),
        session: SessionConfig {
            role: match side == plan.offerer {
                true => Role::Controlling,
                false => Role::Controlled,
            },
            pacing: plan.pacing[side],
            ..patience(lossy, pathless)
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

fn turn_servers(peer: &RandomPeer) -> Vec<TurnServer> {
    let addresses = peer.turn_servers.iter();
    let servers = addresses.map(|address| TurnServer {
        address: *address,
        transport: TurnTransport::Udp,
        user: RandomWorld::TURN_USER.to_owned(),
        password: RandomWorld::TURN_PASSWORD.to_owned(),
    });
    servers.collect()
}

/// Where packets get lost and a path exists, checks go on densely until it is found.
fn patience(lossy: bool, pathless: bool) -> SessionConfig {
    if !lossy || pathless {
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
        let patience = Duration::from_secs(20);
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

    /// The world stops losing packets, and both say something on the paths that they have chosen.
    fn end(
        mut self,
        ports: &[(ComponentId, u16)],
        relays: &[IpAddr],
    ) -> ([Log; 2], Vec<[Option<Chosen>; 2]>) {
        self.simulation.world_mut().make_reliable();
        // What is still on its way arrives.
        self.simulation.run_for(AFTERMATH);
        let now = self.simulation.now();
        for host in self.hosts {
            self.simulation.node_mut(host).speak(now);
        }
        let chosen: Vec<[Option<Path>; 2]> = ports
            .iter()
            .map(|(component, _)| [0, 1].map(|side| self.peer(side).path(*component)))
            .collect();
        self.simulation.run_for(AFTERMATH);
        let logs = self.hosts.map(|host| {
            let peer = self.simulation.node_mut(host);
            std::mem::take(&mut peer.log)
        });
        let judge = |side: usize, path: Path| Chosen {
            path,
            directness: directness(path, relays),
            carries: logs[side].media.contains(&path),
        };
        let judged = chosen
            .into_iter()
            .map(|paths| [0, 1].map(|side: usize| paths[side].map(|path| judge(side, path))));
        let judged = judged.collect();
        (logs, judged)
    }
}

fn directness(path: Path, relays: &[IpAddr]) -> Directness {
    if [path.base, path.remote]
        .iter()
        .any(|end| relays.contains(&end.ip()))
    {
        Directness::Relayed
    } else if path.protocol.is_tcp() {
        Directness::Tcp
    } else {
        Directness::Udp
    }
}
