//! What two peers could do in a world, found without the `ice` crate.
//!
//! In a fresh copy of the world, without loss, every local address is tried with every address
//! that the other peer has or is seen by, from both sides, several times over, as checks would open
//! filters. A probe that arrives is echoed to where it came from; an echo that arrives from where
//! the probe was sent to, where the probe was sent from, is a path.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use ringtrue_testnet::{Delivery, HostId, RandomWorld, World};

/// After so many rounds nothing new opens: two NATs each side open one after the other.
const ROUNDS: usize = 8;

/// A path, as both ends see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    pub left: SocketAddr,
    /// Where the left peer sends to.
    pub left_remote: SocketAddr,
    pub right: SocketAddr,
    /// Where the right peer sends to.
    pub right_remote: SocketAddr,
}

impl Route {
    /// No translation on the way.
    pub fn is_direct(&self) -> bool {
        self.left == self.right_remote && self.right == self.left_remote
    }
}

/// All that works between the two peers, on one port each.
#[derive(Debug, Clone)]
pub struct Oracle {
    pub routes: BTreeSet<Route>,
}

impl Oracle {
    pub fn is_pathless(&self) -> bool {
        self.routes.is_empty()
    }

    pub fn is_direct(&self) -> bool {
        self.routes.iter().any(Route::is_direct)
    }

    pub fn is_reflexive_only(&self) -> bool {
        !self.is_pathless() && !self.is_direct()
    }

    pub fn is_single_pair(&self) -> bool {
        self.routes.len() == 1
    }

    /// Asks a fresh copy of the world what works between these ports of the two peers.
    pub fn ask(random: &RandomWorld, ports: [u16; 2]) -> Self {
        let peers = [&random.left, &random.right];
        let bases = [0, 1].map(|side: usize| {
            let addresses = peers[side].addresses.iter();
            let with_port = addresses.map(|ip| SocketAddr::new(*ip, ports[side]));
            with_port.collect::<Vec<_>>()
        });
        let mut probing = Probing {
            world: random.world.fresh_copy(),
            hosts: [random.left.host, random.right.host],
            stun: random.stun,
            bases,
            remotes: [BTreeMap::new(), BTreeMap::new()],
            routes: BTreeSet::new(),
        };
        let seen_as = [0, 1].map(|side| probing.seen_as(side, &random.stun_servers));
        for (side, other) in [(0, 1), (1, 0)] {
            for base in probing.bases[side].clone() {
                let theirs = probing.bases[other].iter().chain(&seen_as[other]);
                let remotes: BTreeSet<_> = theirs.copied().collect();
                probing.remotes[side].insert(base, remotes);
            }
        }
        for _ in 0..ROUNDS {
            probing.round();
        }
        Self {
            routes: probing.routes,
        }
    }
}

struct Probing {
    world: World,
    hosts: [HostId; 2],
    stun: HostId,
    bases: [Vec<SocketAddr>; 2],
    /// Where each base of each peer sends probes to.
    remotes: [BTreeMap<SocketAddr, BTreeSet<SocketAddr>>; 2],
    routes: BTreeSet<Route>,
}

/// The kind of a probe: a question or its echo.
const QUESTION: u8 = b'?';
const ECHO: u8 = b'!';

impl Probing {
    /// How a server on the Internet sees a peer.
    fn seen_as(&mut self, side: usize, servers: &[SocketAddr]) -> BTreeSet<SocketAddr> {
        for base in self.bases[side].clone() {
            for server in servers {
                let host = self.hosts[side];
                self.world.send_udp(host, base, *server, Vec::new());
            }
        }
        let mut seen = BTreeSet::new();
        while let Some(at) = self.world.next_event_at() {
            self.world.advance_to(at);
            while let Some((host, delivery)) = self.world.poll_delivery() {
                if let Delivery::Datagram { from, .. } = delivery
                    && host == self.stun
                {
                    seen.insert(from);
                }
            }
        }
        seen
    }

    fn round(&mut self) {
        for side in 0..2 {
            for (base, remotes) in self.remotes[side].clone() {
                for remote in remotes {
                    let question = format!("{}{side} {base} {remote}", QUESTION as char);
                    let host = self.hosts[side];
                    self.world
                        .send_udp(host, base, remote, question.into_bytes());
                }
            }
        }
        while let Some(at) = self.world.next_event_at() {
            self.world.advance_to(at);
            while let Some((host, delivery)) = self.world.poll_delivery() {
                if let Delivery::Datagram {
                    local,
                    from,
                    payload,
                } = delivery
                    && let Some(side) = self.hosts.iter().position(|other| *other == host)
                {
                    self.arrived(side, local, from, payload);
                }
            }
        }
    }

    fn arrived(&mut self, side: usize, local: SocketAddr, from: SocketAddr, probe: Vec<u8>) {
        let Some(remotes) = self.remotes[side].get_mut(&local) else {
            return;
        };
        let text = String::from_utf8(probe).expect("probes are text");
        let (kind, text) = text.split_at(1);
        let (sender, text) = text.split_at(1);
        let words: Vec<SocketAddr> = text.split_whitespace().flat_map(str::parse).collect();
        let asked_by_itself = sender == side.to_string();
        match kind.as_bytes() {
            // From the other peer: echoed, and the address it comes from is probed from now on.
            [QUESTION] if !asked_by_itself => {
                remotes.insert(from);
                let echo = format!("{}{sender}{text} {local} {from}", ECHO as char);
                let host = self.hosts[side];
                self.world.send_udp(host, local, from, echo.into_bytes());
            }
            // The answer to its own question. RFC 8445 section 7.2.5.2.1: it must come from where
            // the question went, to where that came from.
            [ECHO] if asked_by_itself => {
                let [base, remote, other_base, other_remote] = words[..] else {
                    panic!("an echo has four addresses: {text}");
                };
                if (base, remote) == (local, from) {
                    let own = (base, remote);
                    let other = (other_base, other_remote);
                    let [left, right] = if side == 0 {
                        [own, other]
                    } else {
                        [other, own]
                    };
                    self.routes.insert(Route {
                        left: left.0,
                        left_remote: left.1,
                        right: right.0,
                        right_remote: right.1,
                    });
                }
            }
            // One's own question, come back from an address that both homes use.
            _ => {}
        }
    }
}
