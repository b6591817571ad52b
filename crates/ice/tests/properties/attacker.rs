//! An attacker who hears one peer, sends from anywhere to anybody, and must achieve nothing.
//!
//! He records what that peer sends and gets, and plays it again to either: as it was, mangled, cut
//! off, turned from a request into an answer, with forged answers and requests among it, from
//! spoofed sources and on the local networks themselves, past every filter. One thing he does not
//! do: carry the fresh packets of the peer he hears to the other with that peer's own address. That
//! would be no attack on a path but a path.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use ringtrue_testnet::{
    HostId, NetworkId, RandomWorld, Stage, Verdict, World, make_binding_request,
    make_binding_success,
};

/// So many packets are remembered.
const MEMORY: usize = 64;

#[derive(Debug, Clone)]
struct Heard {
    sent_by_victim: bool,
    payload: Vec<u8>,
}

pub struct Attacker {
    rng: ChaCha8Rng,
    heard: Arc<Mutex<VecDeque<Heard>>>,
    own: Vec<SocketAddr>,
    /// Where a peer can be reached: its network and its address there.
    victim: Vec<(NetworkId, SocketAddr)>,
    other: Vec<(NetworkId, SocketAddr)>,
    /// Addresses that the peers might take for each other's.
    sources: Vec<SocketAddr>,
}

impl Attacker {
    /// Puts him into the world, before it runs.
    pub fn enter(random: &mut RandomWorld, seed: u64, port: u16) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let internet = random.world.internet();
        let address = IpAddr::from([198, 51, 100, 66]);
        let v6: IpAddr = "2001:db8:66::1".parse().expect("an address");
        let host = random.world.host_at("attacker", internet, address);
        random
            .world
            .add_interface(host, internet, v6, Default::default());
        let (victim, other) = if rng.random() {
            (random.left.clone(), random.right.clone())
        } else {
            (random.right.clone(), random.left.clone())
        };
        let reach = |host: HostId, addresses: &[IpAddr]| {
            let reached = addresses.iter().filter_map(|ip| {
                let network = random.world.network_of(host, *ip)?;
                Some((network, SocketAddr::new(*ip, port)))
            });
            reached.collect::<Vec<_>>()
        };
        let (victims, others) = (
            reach(victim.host, &victim.addresses),
            reach(other.host, &other.addresses),
        );
        let heard = listen(&mut random.world, victim.host);
        let sources = victims.iter().chain(&others).map(|(_, address)| *address);
        Self {
            own: vec![SocketAddr::new(address, 9), SocketAddr::new(v6, 9)],
            sources: sources.collect(),
            victim: victims,
            other: others,
            heard,
            rng,
        }
    }

    /// One packet more.
    pub fn strike(&mut self, world: &mut World) {
        let to_victim = self.rng.random_bool(0.5);
        let targets = if to_victim { &self.victim } else { &self.other };
        let (network, destination) = targets[self.rng.random_range(0..targets.len())];
        let own = |attacker: &Self| {
            let own = attacker.own.iter().copied();
            own.into_iter()
                .find(|ip| ip.is_ipv4() == destination.is_ipv4())
        };
        let heard = self.pick();
        let (payload, fresh) = self.make(heard);
        let carries_over = fresh && !to_victim;
        let spoofed = self.sources[self.rng.random_range(0..self.sources.len())];
        let source = if carries_over || self.rng.random_bool(0.3) {
            own(self)
        } else {
            Some(spoofed).filter(|source| source.is_ipv4() == destination.is_ipv4())
        };
        if let Some(source) = source {
            world.inject(network, source, destination, payload);
        }
    }

    fn pick(&mut self) -> Option<Heard> {
        let heard = self.heard.lock().expect("one thread");
        let index = self.rng.random_range(0..heard.len().max(1));
        heard.get(index).cloned()
    }

    /// A packet, and whether the other peer may take it for the victim's.
    fn make(&mut self, heard: Option<Heard>) -> (Vec<u8>, bool) {
        let mapped = self.sources[self.rng.random_range(0..self.sources.len())];
        let Some(Heard {
            sent_by_victim,
            mut payload,
        }) = heard
        else {
            return (make_binding_request(self.rng.random()), false);
        };
        let id: [u8; 12] = match payload.get(8..20).and_then(|id| id.try_into().ok()) {
            Some(id) => id,
            None => self.rng.random(),
        };
        // A flipped or missing byte may be one that nobody minds: such a packet is still fresh.
        let mut fresh = sent_by_victim;
        match self.rng.random_range(0..6) {
            0 | 1 => {}
            2 => {
                let at = self.rng.random_range(0..payload.len().max(1));
                if let Some(byte) = payload.get_mut(at) {
                    *byte ^= 1 << self.rng.random_range(0..8);
                }
            }
            3 => payload.truncate(self.rng.random_range(0..=payload.len())),
            4 => {
                payload = make_binding_success(id, mapped);
                fresh = false;
            }
            // A request turned into a success response, with all its attributes.
            _ => {
                if let Some(kind @ [0x00, 0x01]) = payload.get_mut(..2) {
                    kind.copy_from_slice(&[0x01, 0x01]);
                    fresh = false;
                }
            }
        }
        (payload, fresh)
    }
}

/// Records what a host sends and gets.
fn listen(world: &mut World, victim: HostId) -> Arc<Mutex<VecDeque<Heard>>> {
    let heard = Arc::new(Mutex::new(VecDeque::new()));
    let memory = Arc::clone(&heard);
    world.add_tap(move |passing| {
        let sent = passing.stage == Stage::Departure && passing.sender == Some(victim);
        let got = passing.receiver == Some(victim) && passing.sender.is_some();
        if sent || got {
            let mut memory = memory.lock().expect("one thread");
            if memory.len() == MEMORY {
                memory.pop_front();
            }
            memory.push_back(Heard {
                sent_by_victim: sent,
                payload: passing.payload.to_vec(),
            });
        }
        Verdict::Pass
    });
    heard
}
