//! The world: a topology, what flies through it, and the clock.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::flight::{Body, Packet, Position};
use crate::nat::{Nat, StatefulFilter};
use crate::node::{Delivery, Node, Outbox, StreamId, Wish};
use crate::stream::Streams;
use crate::tap::{Passing, Tap, Verdict};
use crate::topology::{GatewayConfig, GatewayId, HostId, Link, NetworkId, Topology};

/// What happens at a time.
#[derive(Debug)]
pub(crate) enum Event {
    Packet(Position, Packet),
    ConnectTimeout(HostId, StreamId),
    Delivery(HostId, Delivery),
}

/// A virtual Internet under a virtual clock. Equal seeds and equal inputs give equal worlds.
///
/// Build the topology first, then send; [`advance_to`](Self::advance_to) moves the clock and
/// [`poll_delivery`](Self::poll_delivery) gives what arrived. Whoever answers deliveries advances
/// no further than [`next_event_at`](Self::next_event_at) in one step; a
/// [`Simulation`](crate::Simulation) does that for its nodes.
pub struct World {
    pub(crate) topology: Topology,
    pub(crate) now: Instant,
    pub(crate) events: BTreeMap<(Instant, u64), Event>,
    pub(crate) sequence: u64,
    pub(crate) nats: Vec<Nat>,
    pub(crate) filters: Vec<StatefulFilter>,
    pub(crate) streams: Streams,
    pub(crate) taps: Vec<Tap>,
    pub(crate) port_rng: ChaCha8Rng,
    pub(crate) loss_rng: ChaCha8Rng,
    origin: Instant,
    seed: u64,
    servers: BTreeMap<HostId, Box<dyn Node + Send>>,
    deliveries: VecDeque<(HostId, Delivery)>,
}

impl World {
    /// An empty Internet. Its clock starts at the present time and moves when it is told to.
    pub fn new(seed: u64) -> Self {
        Self::starting_at(seed, Instant::now())
    }

    /// An empty Internet whose clock starts at this time.
    pub fn starting_at(seed: u64, origin: Instant) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        Self {
            topology: Topology::new(),
            now: origin,
            events: BTreeMap::new(),
            sequence: 0,
            nats: Vec::new(),
            filters: Vec::new(),
            streams: Streams::default(),
            taps: Vec::new(),
            port_rng: ChaCha8Rng::seed_from_u64(rng.random()),
            loss_rng: ChaCha8Rng::seed_from_u64(rng.random()),
            origin,
            seed,
            servers: BTreeMap::new(),
            deliveries: VecDeque::new(),
        }
    }

    /// The same topology, in which nothing was sent yet: no mappings, no streams, no loss, no
    /// jitter, no taps, no servers. Delays, filters and black holes are as they are here.
    pub fn fresh_copy(&self) -> Self {
        let mut copy = Self::starting_at(self.seed, self.origin);
        copy.topology = self.topology.clone();
        copy.nats = vec![Nat::default(); self.nats.len()];
        copy.filters = vec![StatefulFilter::default(); self.filters.len()];
        copy.make_reliable();
        copy
    }

    // Topology.

    /// The outermost network.
    pub fn internet(&self) -> NetworkId {
        NetworkId(0)
    }

    /// Adds a gateway on an outer network; gives it and the new network behind it.
    ///
    /// # Panics
    /// When the outer address is taken in the outer network.
    pub fn add_gateway(
        &mut self,
        outer: NetworkId,
        config: GatewayConfig,
    ) -> (GatewayId, NetworkId) {
        self.nats.push(Nat::default());
        self.filters.push(StatefulFilter::default());
        self.topology.add_gateway(outer, config)
    }

    /// Adds a host without interfaces.
    pub fn add_host(&mut self, name: &str) -> HostId {
        self.topology.add_host(name)
    }

    /// Gives a host an address in a network. An interface with two addresses is two interfaces
    /// here.
    ///
    /// # Panics
    /// When the address is taken in that network.
    pub fn add_interface(
        &mut self,
        host: HostId,
        network: NetworkId,
        address: impl Into<IpAddr>,
        link: Link,
    ) {
        self.topology
            .add_interface(host, network, address.into(), link);
    }

    /// A host with one address in a network, by a line without delay or loss.
    ///
    /// # Panics
    /// When the address is taken in that network.
    pub fn host_at(
        &mut self,
        name: &str,
        network: NetworkId,
        address: impl Into<IpAddr>,
    ) -> HostId {
        let host = self.add_host(name);
        self.add_interface(host, network, address, Link::default());
        host
    }

    /// Runs a node on a host inside the world; what arrives there is not delivered outside.
    pub fn add_server(&mut self, host: HostId, server: impl Node + Send + 'static) {
        self.servers.insert(host, Box::new(server));
    }

    /// The name of a host.
    pub fn host_name(&self, host: HostId) -> &str {
        &self.topology.hosts[host.0].name
    }

    /// The addresses of a host, in the order they were added.
    pub fn addresses(&self, host: HostId) -> Vec<IpAddr> {
        let interfaces = self.topology.hosts[host.0].interfaces.iter();
        interfaces
            .filter(|interface| !interface.removed)
            .map(|interface| interface.address)
            .collect()
    }

    /// The network that an address of a host is in.
    pub fn network_of(&self, host: HostId, address: IpAddr) -> Option<NetworkId> {
        let interface = self.topology.interface(host, address);
        interface.map(|(_, interface)| interface.network)
    }

    /// The one-way delay between two hosts through the innermost network that both are present
    /// in; the delays of the lines come on top. Interfaces added later do not have it.
    pub fn set_delay_between(&mut self, a: HostId, b: HostId, delay: Duration) {
        self.topology.set_distance(a, b, delay);
    }

    /// Exchanges the line of an interface.
    pub fn set_link(&mut self, host: HostId, address: IpAddr, link: Link) {
        if let Some(interface) = self.topology.interface_mut(host, address) {
            interface.link = link;
        }
    }

    /// From now on no line loses or reorders.
    pub fn make_reliable(&mut self) {
        for link in self.topology.links_mut() {
            link.loss = 0.0;
            link.jitter = Duration::ZERO;
        }
    }

    /// Changes a gateway while it works.
    ///
    /// # Panics
    /// When the outer address would change.
    pub fn reconfigure(&mut self, gateway: GatewayId, change: impl FnOnce(&mut GatewayConfig)) {
        let config = &mut self.topology.gateways[gateway.0].config;
        let outer = config.nat.as_ref().map(|(address, _)| *address);
        change(config);
        let changed = config.nat.as_ref().map(|(address, _)| *address);
        assert_eq!(outer, changed, "the outer address stays");
    }

    /// All gateways and how they are configured.
    pub fn gateways(&self) -> impl Iterator<Item = (GatewayId, &GatewayConfig)> {
        let gateways = self.topology.gateways.iter().enumerate();
        gateways.map(|(index, gateway)| (GatewayId(index), &gateway.config))
    }

    /// A gateway loses its mappings and what its filter knows.
    pub fn reboot(&mut self, gateway: GatewayId) {
        self.nats[gateway.0].reboot();
        self.filters[gateway.0].reboot();
    }

    /// Nothing passes an interface any more, in either direction; it stays there to be seen.
    pub fn black_hole_interface(&mut self, host: HostId, address: IpAddr) {
        if let Some(interface) = self.topology.interface_mut(host, address) {
            interface.black_hole = true;
        }
    }

    /// What leaves the first interface never arrives at the second. The way back is untouched.
    pub fn black_hole(&mut self, from: (HostId, IpAddr), to: (HostId, IpAddr)) {
        self.topology.black_holes.insert((from, to));
    }

    /// All black holes between these two hosts, in both directions, for all their interfaces.
    pub fn black_hole_between(&mut self, a: HostId, b: HostId) {
        for one in self.addresses(a) {
            for other in self.addresses(b) {
                self.black_hole((a, one), (b, other));
                self.black_hole((b, other), (a, one));
            }
        }
    }

    /// Takes all black holes away, those of interfaces too.
    pub fn heal(&mut self) {
        self.topology.black_holes.clear();
        for host in &mut self.topology.hosts {
            for interface in &mut host.interfaces {
                interface.black_hole = interface.removed;
            }
        }
    }

    /// A firewall on the host itself that eats its UDP, both ways; or no longer.
    pub fn eat_udp(&mut self, host: HostId, eats: bool) {
        self.topology.hosts[host.0].eats_udp = eats;
    }

    /// Takes an address away from a host, as when a cable is pulled.
    pub fn remove_address(&mut self, host: HostId, address: IpAddr) {
        self.topology.remove_address(host, address);
    }

    /// Has every datagram shown to a closure, on departure and on arrival. Taps are asked in the
    /// order they were added.
    pub fn add_tap(&mut self, tap: impl FnMut(&Passing<'_>) -> Verdict + Send + 'static) {
        self.taps.push(Box::new(tap));
    }

    // Sending.

    /// Sends a datagram. One from an address that is not the host's is lost; an unspecified
    /// address leaves by the interface in the destination's network, else by the first one of that
    /// address family.
    pub fn send_udp(&mut self, host: HostId, local: SocketAddr, to: SocketAddr, payload: Vec<u8>) {
        let packet = Packet {
            source: local,
            destination: to,
            origin: None,
            body: Body::Datagram(payload),
            hops: 0,
        };
        self.depart(host, packet);
    }

    /// A datagram appears in a network with any source: what an attacker there can send.
    pub fn inject(
        &mut self,
        network: NetworkId,
        source: SocketAddr,
        destination: SocketAddr,
        payload: Vec<u8>,
    ) {
        let packet = Packet {
            source,
            destination,
            origin: None,
            body: Body::Datagram(payload),
            hops: 0,
        };
        let event = Event::Packet(Position::Within(network, None), packet);
        self.schedule(Duration::ZERO, event);
    }

    /// Does what a node wishes.
    pub fn fulfil(&mut self, host: HostId, out: &mut Outbox) {
        for wish in out.wishes.drain(..) {
            match wish {
                Wish::Datagram { local, to, payload } => self.send_udp(host, local, to, payload),
                Wish::Connect {
                    stream,
                    to,
                    from,
                    tls,
                } => self.connect_from(host, stream, from, to, tls),
                Wish::Listen { port } => self.listen(host, port),
                Wish::Unlisten { port } => self.unlisten(host, port),
                Wish::StreamBytes { stream, payload } => self.send_stream(host, stream, payload),
                Wish::MapPort { request, local } => self.ask_for_port(host, request, local),
                Wish::UnmapPort { local } => self.give_port_back(host, local),
                Wish::Close { stream } => self.close_stream(host, stream),
            }
        }
    }

    // The clock.

    /// The time in this world.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// How long this world has run.
    pub fn elapsed(&self) -> Duration {
        self.now.duration_since(self.origin)
    }

    /// When something happens next. Nothing ever will, if `None` and nobody sends.
    pub fn next_event_at(&self) -> Option<Instant> {
        if !self.deliveries.is_empty() {
            return Some(self.now);
        }
        self.next_happening()
    }

    /// Moves the clock to a time and does all that happens until then. A time that has passed
    /// stands for now.
    pub fn advance_to(&mut self, time: Instant) {
        let time = time.max(self.now);
        while let Some(at) = self.next_happening().filter(|at| *at <= time) {
            self.now = self.now.max(at);
            match self.events.first_entry() {
                Some(entry) if entry.key().0 <= self.now => match entry.remove() {
                    Event::Packet(position, packet) => self.forward(position, packet),
                    Event::ConnectTimeout(host, stream) => {
                        self.handle_connect_timeout(host, stream);
                    }
                    Event::Delivery(host, delivery) => self.deliver(host, delivery),
                },
                _ => self.wake_servers(),
            }
        }
        self.now = time;
    }

    fn next_happening(&self) -> Option<Instant> {
        let flying = self.events.keys().next().map(|(at, _)| *at);
        let servers = self
            .servers
            .values()
            .filter_map(|server| server.poll_timeout());
        flying.into_iter().chain(servers).min()
    }

    /// What arrived, in order.
    pub fn poll_delivery(&mut self) -> Option<(HostId, Delivery)> {
        self.deliveries.pop_front()
    }

    pub(crate) fn deliver(&mut self, host: HostId, delivery: Delivery) {
        let now = self.now;
        match self.servers.get_mut(&host) {
            None => self.deliveries.push_back((host, delivery)),
            Some(server) => {
                server.handle_delivery(now, delivery);
                let mut out = Outbox::new();
                server.drain(now, &mut out);
                self.fulfil(host, &mut out);
            }
        }
    }

    fn wake_servers(&mut self) {
        let now = self.now;
        let mut wishes = Vec::new();
        for (host, server) in &mut self.servers {
            if server.poll_timeout().is_some_and(|at| at <= now) {
                let mut out = Outbox::new();
                server.handle_timeout(now);
                server.drain(now, &mut out);
                wishes.push((*host, out));
            }
        }
        for (host, mut out) in wishes {
            self.fulfil(host, &mut out);
        }
    }
}
