//! What two peers could do in a world, found without the `ice` crate.
//!
//! In a fresh copy of the world, without loss, every local address is tried with every address
//! that the other peer has, is seen by or is given by its TURN server, from both sides, several
//! times over, as checks would open filters. A probe that arrives is echoed to where it came from;
//! an echo that arrives from where the probe was sent to, where the probe was sent from, is a path.
//! Of relays the oracle knows that a peer has one for each address that reaches the TURN server,
//! and that it lets in whom it has sent to (RFC 8656 section 9). Streams are opened from each
//! address that offers TCP to each such address of the other.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use ringtrue_testnet::{Delivery, HostId, RandomPeer, RandomWorld, StreamId, World};

/// After so many rounds nothing new opens: two NATs each side open one after the other.
const ROUNDS: usize = 8;

/// Kinds of paths, from the most direct on (design: UDP before TCP before a relay).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Directness {
    /// UDP, through NATs or not.
    Udp,
    /// A stream between the peers themselves.
    Tcp,
    /// A TURN server has a part in it.
    Relayed,
}

/// A path, as both ends see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    pub directness: Directness,
    pub left: SocketAddr,
    /// Where the left peer sends to.
    pub left_remote: SocketAddr,
    pub right: SocketAddr,
    /// Where the right peer sends to.
    pub right_remote: SocketAddr,
}

impl Route {
    /// By UDP, with no translation on the way.
    pub fn is_direct(&self) -> bool {
        self.directness == Directness::Udp
            && self.left == self.right_remote
            && self.right == self.left_remote
    }

    pub fn is_ipv6(&self) -> bool {
        self.left.is_ipv6()
    }
}

/// The address of a socket that listens for streams, for each address family that a peer has: its
/// most preferred one (docs/decisions/0013).
pub fn listeners(peer: &RandomPeer, port: u16) -> Vec<SocketAddr> {
    let mut listeners: Vec<SocketAddr> = Vec::new();
    for ip in peer.addresses.iter().filter(|_| peer.tcp) {
        if !listeners.iter().any(|l| l.is_ipv4() == ip.is_ipv4()) {
            listeners.push(SocketAddr::new(*ip, port));
        }
    }
    listeners
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
        self.best() == Some(Directness::Udp) && !self.is_direct()
    }

    pub fn is_single_pair(&self) -> bool {
        self.routes.len() == 1
    }

    pub fn is_ipv6_only(&self) -> bool {
        !self.is_pathless() && self.routes.iter().all(Route::is_ipv6)
    }

    /// Whether a relay would do and something more direct does too.
    pub fn has_spare_relay(&self) -> bool {
        let mut routes = self.routes.iter();
        let relayed = routes.any(|route| route.directness == Directness::Relayed);
        relayed && self.best() < Some(Directness::Relayed)
    }

    /// The most direct kind of path that there is.
    pub fn best(&self) -> Option<Directness> {
        self.routes.iter().map(|route| route.directness).min()
    }

    /// Asks a fresh copy of the world what works between these ports of the two peers: one for
    /// datagrams and, if they may use streams, one for these.
    pub fn ask(random: &RandomWorld, port: u16, stream_port: Option<u16>) -> Self {
        let mut probing = Probing {
            world: random.world.fresh_copy(),
            peers: [&random.left, &random.right],
            turn: random.turn,
            sockets: Vec::new(),
            routes: BTreeSet::new(),
        };
        probing.bind(port);
        let seen_as =
            [0, 1].map(|side| probing.ask_servers(side, &random.stun_servers, random.stun));
        probing.allocate(random.relays_both);
        probing.exchange_candidates(seen_as);
        // A filter that opens in one round lets in what is sent in the next.
        let mut idle = 0;
        for _ in 0..ROUNDS {
            let before = probing.known();
            probing.round();
            idle = if probing.known() == before {
                idle + 1
            } else {
                0
            };
            if idle == 2 {
                break;
            }
        }
        if let Some(port) = stream_port {
            probing.open_streams(port);
        }
        Self {
            routes: probing.routes,
        }
    }
}

/// A socket of a peer, or an address that the TURN server relays for it.
struct Socket {
    owner: usize,
    host: HostId,
    address: SocketAddr,
    /// Whom the relay lets in; none for a socket of the peer's own.
    permitted: Option<BTreeSet<IpAddr>>,
    /// Where probes go.
    remotes: BTreeSet<SocketAddr>,
}

struct Probing<'a> {
    world: World,
    peers: [&'a RandomPeer; 2],
    turn: HostId,
    sockets: Vec<Socket>,
    routes: BTreeSet<Route>,
}

/// The kind of a probe: a question or its echo.
const QUESTION: u8 = b'?';
const ECHO: u8 = b'!';

impl Probing<'_> {
    fn add_socket(&mut self, owner: usize, host: HostId, address: SocketAddr, relay: bool) {
        self.sockets.push(Socket {
            owner,
            host,
            address,
            permitted: relay.then(BTreeSet::new),
            remotes: BTreeSet::new(),
        });
    }

    fn bind(&mut self, port: u16) {
        for owner in 0..2 {
            let RandomPeer {
                host, addresses, ..
            } = self.peers[owner];
            for ip in addresses {
                self.add_socket(owner, *host, SocketAddr::new(*ip, port), false);
            }
        }
    }

    fn find(&self, host: HostId, local: SocketAddr) -> Option<usize> {
        let mut sockets = self.sockets.iter();
        sockets.position(|socket| socket.host == host && socket.address == local)
    }

    /// How servers see a peer, where their answer comes back.
    fn ask_servers(
        &mut self,
        side: usize,
        servers: &[SocketAddr],
        host: HostId,
    ) -> BTreeSet<SocketAddr> {
        self.questions_to(side, servers, host)
            .into_iter()
            .map(|(_, _, seen)| seen)
            .collect()
    }

    /// Which socket of a peer reaches which server, and what that sees.
    fn questions_to(
        &mut self,
        side: usize,
        servers: &[SocketAddr],
        server_host: HostId,
    ) -> Vec<(usize, SocketAddr, SocketAddr)> {
        for socket in self.sockets.iter().filter(|socket| socket.owner == side) {
            for server in servers {
                let address = socket.address;
                self.world
                    .send_udp(socket.host, address, *server, Vec::new());
            }
        }
        let mut answered = Vec::new();
        while let Some((host, delivery)) = self.next_delivery() {
            let Delivery::Datagram {
                local,
                from,
                payload,
            } = delivery
            else {
                continue;
            };
            if host == server_host {
                let seen = from.to_string().into_bytes();
                self.world.send_udp(host, local, from, seen);
            } else if let Some(index) = self.find(host, local) {
                let text = String::from_utf8(payload).expect("an address as text");
                answered.push((index, from, text.parse().expect("an address")));
            }
        }
        answered
    }

    /// What happens next in the world, until nothing does.
    fn next_delivery(&mut self) -> Option<(HostId, Delivery)> {
        loop {
            if let Some(delivery) = self.world.poll_delivery() {
                return Some(delivery);
            }
            let at = self.world.next_event_at()?;
            self.world.advance_to(at);
        }
    }

    /// An address of the TURN server for each socket that reaches it, of the same family, or one of
    /// both.
    fn allocate(&mut self, both: bool) {
        for side in 0..2 {
            let servers = self.peers[side].turn_servers.clone();
            for (_, server, _) in self.questions_to(side, &servers, self.turn) {
                let own = self.world.addresses(self.turn).into_iter();
                for ip in own.filter(|ip| both || *ip == server.ip()) {
                    let port = 40_000 + self.sockets.len() as u16;
                    self.add_socket(side, self.turn, SocketAddr::new(ip, port), true);
                }
            }
        }
    }

    fn exchange_candidates(&mut self, seen_as: [BTreeSet<SocketAddr>; 2]) {
        let candidates = [0, 1].map(|side| {
            let own = self.sockets.iter().filter(|socket| socket.owner == side);
            let own = own.map(|socket| socket.address);
            own.chain(seen_as[side].iter().copied())
                .collect::<BTreeSet<_>>()
        });
        for socket in &mut self.sockets {
            let theirs = candidates[1 - socket.owner].iter();
            let of_family = theirs.filter(|ip| ip.is_ipv4() == socket.address.is_ipv4());
            socket.remotes = of_family.copied().collect();
        }
    }

    /// What the last round found: when the next finds no more, none will.
    fn known(&self) -> (usize, usize) {
        let remotes = self.sockets.iter().map(|socket| socket.remotes.len());
        // Nothing was sent before the first round.
        let sent = self.sockets.iter().flat_map(|socket| &socket.permitted);
        let permitted: usize = sent.map(BTreeSet::len).sum();
        (remotes.sum::<usize>() + permitted, self.routes.len())
    }

    fn send(&mut self, index: usize, to: SocketAddr, text: String) {
        let socket = &mut self.sockets[index];
        if let Some(permitted) = &mut socket.permitted {
            permitted.insert(to.ip());
        }
        self.world
            .send_udp(socket.host, socket.address, to, text.into_bytes());
    }

    fn round(&mut self) {
        for index in 0..self.sockets.len() {
            let address = self.sockets[index].address;
            for remote in self.sockets[index].remotes.clone() {
                let question = format!("{}{index} {address} {remote}", QUESTION as char);
                self.send(index, remote, question);
            }
        }
        while let Some((host, delivery)) = self.next_delivery() {
            if let Delivery::Datagram {
                local,
                from,
                payload,
            } = delivery
                && let Some(index) = self.find(host, local)
            {
                self.arrived(index, from, payload);
            }
        }
    }

    fn arrived(&mut self, index: usize, from: SocketAddr, probe: Vec<u8>) {
        let socket = &self.sockets[index];
        let permitted = socket.permitted.as_ref();
        if permitted.is_some_and(|permitted| !permitted.contains(&from.ip())) {
            return;
        }
        let (owner, local) = (socket.owner, socket.address);
        let text = String::from_utf8(probe).expect("probes are text");
        let (kind, text) = text.split_at(1);
        let (sender, text) = text.split_once(' ').expect("a probe says who sent it");
        let asker: usize = sender.parse().expect("a number");
        let asked_by_itself = self.sockets[asker].owner == owner;
        match kind.as_bytes() {
            // From the other peer: echoed, and the address it comes from is probed from now on.
            [QUESTION] if !asked_by_itself => {
                self.sockets[index].remotes.insert(from);
                let echo = format!("{}{sender} {text} {index} {from}", ECHO as char);
                self.send(index, from, echo);
            }
            // The answer to its own question. RFC 8445 section 7.2.5.2.1: it must come from where
            // the question went, to where that came from.
            [ECHO] if asked_by_itself => {
                let words: Vec<&str> = text.split_whitespace().collect();
                let [base, remote, other, other_remote] = words[..] else {
                    panic!("an echo has four words: {text}");
                };
                let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
                let other: usize = other.parse().expect("a number");
                if (address(base), address(remote)) == (local, from) {
                    self.note_route((index, from), (other, address(other_remote)));
                }
            }
            // One's own question, come back from an address that both homes use.
            _ => {}
        }
    }

    fn note_route(&mut self, one: (usize, SocketAddr), other: (usize, SocketAddr)) {
        let sockets = [one, other].map(|(index, remote)| (&self.sockets[index], remote));
        let relayed = sockets.iter().any(|(socket, _)| socket.permitted.is_some());
        let [left, right] = match sockets[0].0.owner {
            0 => sockets,
            _ => [sockets[1], sockets[0]],
        };
        self.routes.insert(Route {
            directness: match relayed {
                true => Directness::Relayed,
                false => Directness::Udp,
            },
            left: left.0.address,
            left_remote: left.1,
            right: right.0.address,
            right_remote: right.1,
        });
    }

    /// Opens streams both ways; one that brings an echo back is a path.
    fn open_streams(&mut self, port: u16) {
        let listeners = self.peers.map(|peer| listeners(peer, port));
        let mut opened = Vec::new();
        for peer in self.peers {
            self.world.listen(peer.host, port);
        }
        for side in 0..2 {
            for from in &listeners[side] {
                for to in &listeners[1 - side] {
                    if from.is_ipv4() == to.is_ipv4() {
                        let stream = StreamId(opened.len() as u64);
                        let any_port = SocketAddr::new(from.ip(), 0);
                        let host = self.peers[side].host;
                        self.world
                            .connect_from(host, stream, Some(any_port), *to, None);
                        opened.push((side, *from, *to));
                    }
                }
            }
        }
        while let Some((host, delivery)) = self.next_delivery() {
            let side = usize::from(host == self.peers[1].host);
            match delivery {
                Delivery::Connected { stream, .. } => {
                    self.world
                        .send_stream(host, stream, vec![QUESTION, side as u8]);
                }
                Delivery::StreamBytes { stream, payload } => match payload[..] {
                    // Not one's own, at an address that both homes use.
                    [QUESTION, asker] if usize::from(asker) != side => {
                        self.world.send_stream(host, stream, vec![ECHO]);
                    }
                    [ECHO] => self.note_stream(opened[stream.0 as usize]),
                    _ => {}
                },
                _ => {}
            }
        }
    }

    fn note_stream(&mut self, (side, from, to): (usize, SocketAddr, SocketAddr)) {
        let (left, right) = if side == 0 { (from, to) } else { (to, from) };
        // Which addresses a NAT makes of these is of no interest; the ports tell who opened it.
        let opener = |mut address: SocketAddr| {
            address.set_port(9);
            address
        };
        let (left, right) = match side {
            0 => (opener(left), right),
            _ => (left, opener(right)),
        };
        self.routes.insert(Route {
            directness: Directness::Tcp,
            left,
            left_remote: right,
            right,
            right_remote: left,
        });
    }
}
