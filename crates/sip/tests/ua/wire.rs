//! Endpoints joined by a virtual wire whose clock jumps to the next wake-up.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ringtrue_ice::{Gate, Ring, UnverifiedPolicy, UnverifiedReason};
use ringtrue_sip::dns::{LookupError, NaptrRecord, RecordKind, Records, SrvRecord};
use ringtrue_sip::{
    AuthCredentials, ConnectionId, Endpoint, EndpointConfig, LocalAddress, QueryId, SipEvent,
    SipTransmit,
};

/// How long a message takes from one end to the other.
pub const DELAY: Duration = Duration::from_millis(10);

/// A leave to ring, for callers without ICE.
pub fn ring() -> Ring {
    Gate::without_ice()
        .open_unverified(
            UnverifiedReason::PeerWithoutIce,
            UnverifiedPolicy::PeersWithoutIce,
        )
        .unwrap()
}

/// What a filter does with a message.
pub enum Fate {
    Pass,
    Drop,
    Become(Vec<u8>),
}

/// One message on the wire, as it was sent.
#[derive(Debug, Clone)]
pub struct Sent {
    /// Milliseconds since the beginning.
    pub at: u64,
    /// By a connection, with TLS or without.
    pub tcp: bool,
    /// What the certificate was checked against, if it is by TLS.
    pub tls: Option<String>,
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub text: String,
}

impl Sent {
    pub fn first_line(&self) -> &str {
        self.text.lines().next().unwrap_or_default()
    }

    /// The value of the first header field of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.text
            .split("\r\n\r\n")
            .next()?
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    pub fn body(&self) -> &str {
        self.text
            .split_once("\r\n\r\n")
            .map_or("", |(_, body)| body)
    }
}

/// How a node's host treats TCP connections to it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Tcp {
    Accepts,
    Refuses,
    /// SYNs vanish.
    Silent,
}

struct Node {
    endpoint: Endpoint,
    /// What the rest of the world sees.
    public: SocketAddr,
    events: Vec<SipEvent>,
    tcp: Tcp,
    /// What its certificate is good for.
    certificate: Vec<String>,
}

enum Delivery {
    Datagram {
        from: SocketAddr,
        to: SocketAddr,
        payload: Vec<u8>,
    },
    Connect {
        node: usize,
        id: ConnectionId,
        to: SocketAddr,
        tls: Option<String>,
    },
    Connected(usize, ConnectionId),
    Refused(usize, ConnectionId, &'static str),
    Bytes(usize, ConnectionId, Vec<u8>),
    Closed(usize, ConnectionId),
    Resolved(usize, QueryId, RecordKind, String),
}

type Filter = Box<dyn FnMut(&Sent) -> Fate>;
type Script = Box<dyn FnMut(&Sent) -> Vec<String>>;

/// A response to a request, as a scripted peer gives it: `to_tag` unless empty, then `extra`
/// (header fields with their line ends), then the body.
pub fn reply(request: &Sent, status: &str, to_tag: &str, extra: &str, body: &str) -> String {
    let mut text = format!("SIP/2.0 {status}\r\n");
    for line in request.text.split("\r\n\r\n").next().unwrap().lines() {
        let name = line.split(':').next().unwrap();
        match name {
            "Via" => {
                let rport = format!(
                    ";rport={};received={}",
                    request.from.port(),
                    request.from.ip()
                );
                text.push_str(&line.replace(";rport", &rport));
            }
            "To" if !to_tag.is_empty() && !line.contains(";tag=") => {
                text.push_str(&format!("{line};tag={to_tag}"));
            }
            "From" | "To" | "Call-ID" | "CSeq" => text.push_str(line),
            _ => continue,
        }
        text.push_str("\r\n");
    }
    if !body.is_empty() {
        text.push_str("Content-Type: application/sdp\r\n");
    }
    text.push_str(extra);
    text.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    text
}

/// The wire and everything on it.
pub struct Wire {
    origin: Instant,
    pub now: Instant,
    nodes: Vec<Node>,
    queue: BTreeMap<(Instant, u64), Delivery>,
    sequence: u64,
    /// Everything that was sent, lost or not.
    pub log: Vec<Sent>,
    filter: Option<Filter>,
    /// The other end of each connection.
    peers: BTreeMap<(usize, ConnectionId), (usize, ConnectionId)>,
    /// What the certificate of each connection by TLS was checked against.
    verified: BTreeMap<(usize, ConnectionId), String>,
    /// TCP bytes are cut into pieces of this size.
    pub segment: usize,
    /// The DNS.
    pub names: BTreeMap<(RecordKind, String), Records>,
    /// Questions of this kind are never answered.
    pub silent_dns: BTreeSet<RecordKind>,
    /// What was asked of it, and when.
    pub lookups: Vec<(u64, RecordKind, String)>,
    /// Connection attempts, each once.
    pub connects: Vec<(u64, SocketAddr)>,
    cut: BTreeSet<(usize, ConnectionId)>,
    scripts: BTreeMap<SocketAddr, Script>,
    pub seed: u64,
}

/// `10.0.0.n:5060`
pub fn address(n: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, u8::try_from(n).unwrap()], 5060))
}

pub fn config(n: usize, user: &str) -> EndpointConfig {
    EndpointConfig {
        udp: vec![SocketAddr::from(([0, 0, 0, 0], 5060))],
        addresses: vec![LocalAddress {
            ip: address(n).ip(),
            prefix_len: 24,
            default_route: true,
        }],
        user_agent: "Ringtrue-test".to_owned(),
        aor: format!("<sip:{user}@example.com>").parse().unwrap(),
        contact_user: user.to_owned(),
        proxy: None,
        credentials: None,
        ice: true,
        tcp_listen: true,
        tls_listen: Vec::new(),
    }
}

/// One that takes calls by TLS too.
pub fn secure_config(n: usize, user: &str) -> EndpointConfig {
    EndpointConfig {
        tls_listen: vec!["0.0.0.0:5061".parse().unwrap()],
        ..config(n, user)
    }
}

pub fn credentials() -> Option<AuthCredentials> {
    Some(AuthCredentials {
        user: "alice".to_owned(),
        password: "secret".to_owned(),
    })
}

impl Wire {
    pub fn new() -> Self {
        let origin = Instant::now();
        Self {
            origin,
            now: origin,
            nodes: Vec::new(),
            queue: BTreeMap::new(),
            sequence: 0,
            log: Vec::new(),
            filter: None,
            peers: BTreeMap::new(),
            verified: BTreeMap::new(),
            segment: usize::MAX,
            names: BTreeMap::new(),
            silent_dns: BTreeSet::new(),
            lookups: Vec::new(),
            connects: Vec::new(),
            cut: BTreeSet::new(),
            scripts: BTreeMap::new(),
            seed: 7,
        }
    }

    /// Another pair whose tags and branches nobody else has.
    pub fn other_pair() -> Self {
        let mut wire = Self::new();
        wire.seed = 1_000;
        wire.add(config(1, "alice"));
        wire.add(config(2, "bob"));
        wire
    }

    /// Two ordinary endpoints: 0 is alice at 10.0.0.1, 1 is bob at 10.0.0.2.
    pub fn pair() -> Self {
        let mut wire = Self::new();
        wire.add(config(1, "alice"));
        wire.add(config(2, "bob"));
        wire
    }

    pub fn add(&mut self, config: EndpointConfig) -> usize {
        let n = self.nodes.len();
        let address = SocketAddr::new(config.addresses[0].ip, config.udp[0].port());
        self.nodes.push(Node {
            endpoint: Endpoint::new(config, self.seed + n as u64, self.now),
            public: address,
            events: Vec::new(),
            tcp: Tcp::Accepts,
            certificate: Vec::new(),
        });
        n
    }

    /// Puts a node behind a NAT that shows this address.
    pub fn behind_nat(&mut self, node: usize, public: &str) {
        self.nodes[node].public = public.parse().unwrap();
    }

    /// What a node's certificate is good for.
    pub fn certify(&mut self, node: usize, names: &[&str]) {
        self.nodes[node].certificate = names.iter().map(|name| (*name).to_owned()).collect();
    }

    pub fn set_tcp(&mut self, node: usize, tcp: Tcp) {
        self.nodes[node].tcp = tcp;
    }

    pub fn filter(&mut self, filter: impl FnMut(&Sent) -> Fate + 'static) {
        self.filter = Some(Box::new(filter));
    }

    /// Loses the first `count` messages whose first line begins with `prefix`.
    pub fn lose_first(&mut self, prefix: &'static str, mut count: usize) {
        self.filter(move |sent| {
            if sent.first_line().starts_with(prefix) && count > 0 {
                count -= 1;
                return Fate::Drop;
            }
            Fate::Pass
        });
    }

    /// A peer that is no endpoint: it answers each datagram as `script` says.
    pub fn script(&mut self, at: &str, script: impl FnMut(&Sent) -> Vec<String> + 'static) {
        self.scripts.insert(at.parse().unwrap(), Box::new(script));
    }

    pub fn ms(&self) -> u64 {
        self.now.duration_since(self.origin).as_millis() as u64
    }

    /// Gives a command to an endpoint and carries out what follows from it at once.
    pub fn with<R>(&mut self, node: usize, f: impl FnOnce(&mut Endpoint, Instant) -> R) -> R {
        let result = f(&mut self.nodes[node].endpoint, self.now);
        self.drain(node);
        result
    }

    /// A datagram from somewhere to somewhere, as if sent now.
    pub fn inject(&mut self, from: SocketAddr, to: SocketAddr, payload: impl Into<Vec<u8>>) {
        let payload = payload.into();
        self.put(Delivery::Datagram { from, to, payload });
    }

    /// A host of the DNS.
    pub fn host(&mut self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
        let records = Records::Addresses(addresses);
        self.names
            .insert((RecordKind::Address, name.to_owned()), records);
    }

    /// The servers of a service: priority, weight, port, target.
    pub fn srv(&mut self, name: &str, servers: &[(u16, u16, u16, &str)]) {
        let record = |(priority, weight, port, target): &(u16, u16, u16, &str)| SrvRecord {
            priority: *priority,
            weight: *weight,
            port: *port,
            target: (*target).to_owned(),
        };
        let records = Records::Srv(servers.iter().map(record).collect());
        self.names
            .insert((RecordKind::Srv, name.to_owned()), records);
    }

    /// The services of a domain: order, preference, services, replacement.
    pub fn naptr(&mut self, name: &str, services: &[(u16, u16, &str, &str)]) {
        let record =
            |(order, preference, services, replacement): &(u16, u16, &str, &str)| NaptrRecord {
                order: *order,
                preference: *preference,
                flags: "S".to_owned(),
                services: (*services).to_owned(),
                replacement: (*replacement).to_owned(),
            };
        let records = Records::Naptr(services.iter().map(record).collect());
        self.names
            .insert((RecordKind::Naptr, name.to_owned()), records);
    }

    /// Closes all connections of a node under it.
    pub fn cut_connections(&mut self, node: usize) {
        let mine: Vec<_> = self
            .peers
            .keys()
            .filter(|(n, _)| *n == node)
            .copied()
            .collect();
        for (n, id) in mine {
            if let Some((peer, peer_id)) = self.peers.get(&(n, id)).copied() {
                self.put(Delivery::Closed(n, id));
                self.put(Delivery::Closed(peer, peer_id));
            }
        }
    }

    /// Resets all connections of a node under it: the peer knows nothing of them any more.
    pub fn reset_connections(&mut self, node: usize) {
        let mine: Vec<_> = self.peers.keys().copied().collect();
        for (n, id) in mine.into_iter().filter(|(n, _)| *n == node) {
            self.put(Delivery::Refused(n, id, "reset"));
        }
    }

    fn put(&mut self, delivery: Delivery) {
        self.put_after(DELAY, delivery);
    }

    fn put_after(&mut self, delay: Duration, delivery: Delivery) {
        self.sequence += 1;
        self.queue
            .insert((self.now + delay, self.sequence), delivery);
    }

    fn drain(&mut self, node: usize) {
        while let Some(transmit) = self.nodes[node].endpoint.poll_transmit() {
            self.transmit(node, transmit);
        }
        while let Some(event) = self.nodes[node].endpoint.poll_event() {
            self.nodes[node].events.push(event);
        }
    }

    fn judge(
        &mut self,
        connection: Option<(usize, ConnectionId)>,
        from: SocketAddr,
        to: SocketAddr,
        payload: Vec<u8>,
    ) -> Option<Vec<u8>> {
        let sent = Sent {
            at: self.ms(),
            tcp: connection.is_some(),
            tls: connection.and_then(|at| self.verified.get(&at).cloned()),
            from,
            to,
            text: String::from_utf8_lossy(&payload).into_owned(),
        };
        let fate = self
            .filter
            .as_mut()
            .map_or(Fate::Pass, |filter| filter(&sent));
        self.log.push(sent);
        match fate {
            Fate::Pass => Some(payload),
            Fate::Drop => None,
            Fate::Become(other) => Some(other),
        }
    }

    fn transmit(&mut self, node: usize, transmit: SipTransmit) {
        let from = self.nodes[node].public;
        match transmit {
            SipTransmit::Datagram { to, payload, .. } => {
                if let Some(payload) = self.judge(None, from, to, payload) {
                    self.put(Delivery::Datagram { from, to, payload });
                }
            }
            SipTransmit::Connect {
                connection,
                to,
                tls,
            } => {
                self.connects.push((self.ms(), to));
                let id = connection;
                self.put(Delivery::Connect { node, id, to, tls });
            }
            SipTransmit::Stream {
                connection,
                payload,
            } => {
                let Some((peer, id)) = self.peers.get(&(node, connection)).copied() else {
                    return;
                };
                let to = self.nodes[peer].public;
                if let Some(payload) = self.judge(Some((node, connection)), from, to, payload) {
                    for piece in payload.chunks(self.segment.min(65_000)) {
                        self.put(Delivery::Bytes(peer, id, piece.to_vec()));
                    }
                }
            }
            SipTransmit::Close { connection } => {
                self.cut.insert((node, connection));
                if let Some((peer, id)) = self.peers.remove(&(node, connection)) {
                    self.put(Delivery::Closed(peer, id));
                }
            }
            SipTransmit::Resolve { query, name, kind } => {
                self.lookups.push((self.ms(), kind, name.clone()));
                if !self.silent_dns.contains(&kind) {
                    self.put(Delivery::Resolved(node, query, kind, name));
                }
            }
        }
    }

    fn node_at(&self, to: SocketAddr) -> Option<usize> {
        self.nodes.iter().position(|node| node.public == to)
    }

    /// The node that takes connections there.
    fn listener_at(&self, to: SocketAddr, secure: bool) -> Option<usize> {
        if !secure {
            return self.node_at(to);
        }
        self.nodes.iter().position(|node| {
            let mut ports = node.endpoint.config().tls_listen.iter();
            node.public.ip() == to.ip() && ports.any(|local| local.port() == to.port())
        })
    }

    fn deliver(&mut self, delivery: Delivery) {
        let now = self.now;
        match delivery {
            Delivery::Datagram { from, to, payload } => {
                if let Some(node) = self.node_at(to) {
                    let local = self.nodes[node].endpoint.config().udp[0];
                    self.with(node, |e, _| e.handle_datagram(now, local, from, &payload));
                } else if payload.trim_ascii().is_empty() {
                    // A keepalive.
                } else if let Some(script) = self.scripts.get_mut(&to) {
                    let sent = Sent {
                        at: now.duration_since(self.origin).as_millis() as u64,
                        tcp: false,
                        tls: None,
                        from,
                        to,
                        text: String::from_utf8_lossy(&payload).into_owned(),
                    };
                    for answer in script(&sent) {
                        self.inject(to, from, answer);
                    }
                }
            }
            Delivery::Connect { node, id, to, tls } => match self.listener_at(to, tls.is_some()) {
                _ if self.cut.contains(&(node, id)) => {}
                Some(peer)
                    if tls
                        .as_ref()
                        .is_some_and(|name| !self.nodes[peer].certificate.contains(name)) =>
                {
                    let why = "TLS: the certificate is good for another name";
                    self.put(Delivery::Refused(node, id, why));
                }
                Some(peer) if self.nodes[peer].tcp == Tcp::Accepts => {
                    let peer_id = self.nodes[peer].endpoint.accepted_id();
                    self.peers.insert((node, id), (peer, peer_id));
                    self.peers.insert((peer, peer_id), (node, id));
                    let mut source = self.nodes[node].public;
                    source.set_port(40_000 + id.0 as u16);
                    let secure = tls.is_some();
                    if let Some(name) = tls {
                        self.verified.insert((node, id), name.clone());
                        self.verified.insert((peer, peer_id), name);
                    }
                    self.with(peer, |e, _| e.handle_accepted(now, peer_id, source, secure));
                    self.put(Delivery::Connected(node, id));
                }
                Some(peer) if self.nodes[peer].tcp == Tcp::Silent => {}
                _ => self.put(Delivery::Refused(node, id, "refused")),
            },
            Delivery::Connected(node, id) => {
                let ip = self.nodes[node].endpoint.config().addresses[0].ip;
                let local = SocketAddr::new(ip, 40_000 + id.0 as u16);
                self.with(node, |e, _| e.handle_connected(now, id, Some(local)));
            }
            Delivery::Refused(node, id, why) => {
                self.peers.remove(&(node, id));
                self.with(node, |e, _| e.handle_closed(now, id, Some(why)));
            }
            Delivery::Bytes(node, id, bytes) => {
                self.with(node, |e, _| e.handle_stream(now, id, &bytes));
            }
            Delivery::Closed(node, id) => {
                self.peers.remove(&(node, id));
                self.with(node, |e, _| e.handle_closed(now, id, None));
            }
            Delivery::Resolved(node, query, kind, name) => {
                let records = self.names.get(&(kind, name)).cloned();
                let result = records.ok_or(LookupError::NoSuchName);
                self.with(node, |e, _| e.handle_resolved(now, query, result));
            }
        }
    }

    /// Goes to the next wake-up, at most to `until`. `false`: nothing happens before that.
    fn step(&mut self, until: Instant) -> bool {
        let timers = self
            .nodes
            .iter()
            .filter_map(|node| node.endpoint.poll_timeout());
        let wire = self.queue.keys().next().map(|(at, _)| *at);
        let Some(next) = timers.chain(wire).min().filter(|at| *at <= until) else {
            self.now = until;
            return false;
        };
        self.now = next.max(self.now);
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let delivery = entry.remove();
            self.deliver(delivery);
        }
        for node in 0..self.nodes.len() {
            let timeout = self.nodes[node].endpoint.poll_timeout();
            if timeout.is_some_and(|at| at <= self.now) {
                self.with(node, |e, now| e.handle_timeout(now));
                let again = self.nodes[node].endpoint.poll_timeout();
                assert!(
                    again.is_none_or(|at| at > self.now),
                    "a timer that never moves"
                );
            }
        }
        true
    }

    pub fn run_for(&mut self, ms: u64) {
        let until = self.now + Duration::from_millis(ms);
        while self.step(until) {}
    }

    /// Runs until this event of a node comes and takes it out; earlier ones stay.
    pub fn wait<T>(&mut self, node: usize, mut pick: impl FnMut(&SipEvent) -> Option<T>) -> T {
        let until = self.now + Duration::from_secs(700);
        loop {
            let events = &mut self.nodes[node].events;
            if let Some(at) = events.iter().position(|event| pick(event).is_some()) {
                let event = events.remove(at);
                return pick(&event).unwrap();
            }
            assert!(
                self.step(until),
                "the event never came; there were {:?}",
                self.nodes[node].events
            );
        }
    }

    /// Puts an event back.
    pub fn keep(&mut self, node: usize, event: SipEvent) {
        self.nodes[node].events.push(event);
    }

    pub fn events(&mut self, node: usize) -> Vec<SipEvent> {
        std::mem::take(&mut self.nodes[node].events)
    }

    /// When messages left `node` whose first line begins with `prefix`.
    pub fn times(&self, node: usize, prefix: &str) -> Vec<u64> {
        self.sent(node, prefix).iter().map(|sent| sent.at).collect()
    }

    pub fn sent(&self, node: usize, prefix: &str) -> Vec<&Sent> {
        let from = self.nodes[node].public;
        self.log
            .iter()
            .filter(|sent| sent.from == from && sent.first_line().starts_with(prefix))
            .collect()
    }
}
