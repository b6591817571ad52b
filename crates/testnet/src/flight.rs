//! Packets on their way: host, network, gateway, network, host.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rand::RngExt;

use crate::nat::Protocol;
use crate::node::Delivery;
use crate::stream::Segment;
use crate::tap::{Passing, Stage, Verdict};
use crate::topology::{Attachment, GatewayId, HostId, Link, NetworkId, same_family};
use crate::world::{Event, World};

/// No way through a world is longer; more would be a loop.
const HOP_LIMIT: u8 = 32;

/// The one port that a firewall for web traffic lets through.
const HTTPS: u16 = 443;

/// What a lost TCP segment costs: its retransmission.
const TCP_RETRANSMISSION: Duration = Duration::from_millis(200);

#[derive(Debug, Clone)]
pub(crate) enum Body {
    Datagram(Vec<u8>),
    Segment(Segment),
}

#[derive(Debug, Clone)]
pub(crate) struct Packet {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    /// The interface that it left from; none if it was injected.
    pub(crate) origin: Option<(HostId, IpAddr)>,
    pub(crate) body: Body,
    pub(crate) hops: u8,
}

impl Packet {
    fn protocol(&self) -> Protocol {
        match self.body {
            Body::Datagram(_) => Protocol::Udp,
            Body::Segment(_) => Protocol::Tcp,
        }
    }
}

/// Where a packet is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Position {
    /// In a network, come in by this attachment.
    Within(NetworkId, Option<Attachment>),
    /// At the outer side of a gateway.
    Outside(GatewayId),
    /// At an interface.
    Interface(HostId, usize),
    /// Past the tap at an interface.
    PastTap(HostId),
}

/// Where a packet goes next and how long that takes; `None` when it goes nowhere.
type Hop = Option<(Position, Duration)>;

impl World {
    /// A packet leaves a host by the interface of its source address.
    pub(crate) fn depart(&mut self, host: HostId, mut packet: Packet) {
        if packet.source.ip().is_unspecified() {
            let source = self.topology.source_for(host, packet.destination.ip());
            let Some(source) = source else { return };
            packet.source.set_ip(source);
        }
        let Some((index, interface)) = self.topology.interface(host, packet.source.ip()) else {
            return;
        };
        let (network, link) = (interface.network, interface.link);
        let eaten = self.topology.hosts[host.0].eats_udp && packet.protocol() == Protocol::Udp;
        if interface.black_hole || eaten || !same_family(packet.source, packet.destination) {
            return;
        }
        packet.origin = Some((host, packet.source.ip()));
        let position = Position::Within(network, Some(Attachment::Interface(host, index)));
        for (delay, packet) in self.tapped(packet, Stage::Departure, None) {
            if let Some(on_line) = self.sample(link, packet.protocol()) {
                self.schedule(delay + on_line, Event::Packet(position, packet));
            }
        }
    }

    /// Moves a packet on until it takes time, arrives or is dropped.
    pub(crate) fn forward(&mut self, mut position: Position, mut packet: Packet) {
        loop {
            packet.hops += 1;
            if packet.hops > HOP_LIMIT {
                return;
            }
            let hop = match position {
                Position::Within(network, entry) => self.hop_within(network, entry, &mut packet),
                Position::Outside(gateway) => self.hop_inwards(gateway, &mut packet),
                Position::Interface(host, index) => return self.arrive(host, index, packet),
                Position::PastTap(host) => return self.land(host, packet),
            };
            match hop {
                None => return,
                Some((next, Duration::ZERO)) => position = next,
                Some((next, delay)) => {
                    return self.schedule(delay, Event::Packet(next, packet));
                }
            }
        }
    }

    fn hop_within(
        &mut self,
        network: NetworkId,
        entry: Option<Attachment>,
        packet: &mut Packet,
    ) -> Hop {
        let destination = packet.destination.ip();
        let here = &self.topology.networks[network.0];
        let routed = || here.routes.get(&destination).copied();
        let exit = here.attached.get(&destination).copied();
        let Some(exit) = exit.or_else(|| routed().map(Attachment::Gateway)) else {
            let outwards = here.gateway?;
            if entry == Some(Attachment::Gateway(outwards)) {
                return None;
            }
            return self.hop_outwards(outwards, network, entry, packet);
        };
        let distance = entry.map_or(Duration::ZERO, |entry| {
            self.topology.distance(network, entry, exit)
        });
        let (position, link) = match exit {
            Attachment::Interface(host, index) => {
                let interface = &self.topology.hosts[host.0].interfaces[index];
                (Position::Interface(host, index), interface.link)
            }
            Attachment::Gateway(gateway) => {
                let config = &self.topology.gateways[gateway.0].config;
                (Position::Outside(gateway), config.link)
            }
        };
        let on_line = self.sample(link, packet.protocol())?;
        Some((position, distance + on_line))
    }

    fn hop_outwards(
        &mut self,
        id: GatewayId,
        inner: NetworkId,
        entry: Option<Attachment>,
        packet: &mut Packet,
    ) -> Hop {
        let gateway = &self.topology.gateways[id.0];
        let protocol = packet.protocol();
        if gateway.config.eats_udp && protocol == Protocol::Udp {
            return None;
        }
        let (link, outer) = (gateway.config.link, gateway.outer);
        let (from, to) = (packet.source, packet.destination);
        if gateway.config.only_web && (protocol, to.port()) != (Protocol::Tcp, HTTPS) {
            return None;
        }
        if let Some((address, config)) = gateway.nat_for(to.ip()) {
            let nat = &mut self.nats[id.0];
            let port = nat.outbound(config, self.now, protocol, (from, to), &mut self.port_rng)?;
            packet.source = SocketAddr::new(address, port);
            if to.ip() == address {
                // RFC 4787 section 6: the hairpinned packet carries the outer source (REQ-9).
                if !config.hairpin {
                    return None;
                }
                packet.destination =
                    nat.inbound(config, self.now, protocol, packet.source, to.port())?;
                return Some((Position::Within(inner, entry), Duration::ZERO));
            }
        } else if gateway.config.stateful.is_some() {
            self.filters[id.0].outbound(self.now, protocol, from, to);
        }
        let on_line = self.sample(link, protocol)?;
        let position = Position::Within(outer, Some(Attachment::Gateway(id)));
        Some((position, on_line))
    }

    fn hop_inwards(&mut self, id: GatewayId, packet: &mut Packet) -> Hop {
        let gateway = &self.topology.gateways[id.0];
        let protocol = packet.protocol();
        if gateway.config.eats_udp && protocol == Protocol::Udp {
            return None;
        }
        let (from, to) = (packet.source, packet.destination);
        if gateway.config.only_web && (protocol, from.port()) != (Protocol::Tcp, HTTPS) {
            return None;
        }
        match gateway.nat_for(to.ip()) {
            Some((_, config)) => {
                let nat = &mut self.nats[id.0];
                packet.destination = nat.inbound(config, self.now, protocol, from, to.port())?;
            }
            None => {
                let filtering = gateway.config.stateful;
                let filter = &self.filters[id.0];
                if !filtering.is_none_or(|f| filter.inbound(f, self.now, protocol, from, to)) {
                    return None;
                }
            }
        }
        let position = Position::Within(gateway.inner, Some(Attachment::Gateway(id)));
        Some((position, Duration::ZERO))
    }

    fn arrive(&mut self, host: HostId, index: usize, packet: Packet) {
        let receiver = &self.topology.hosts[host.0];
        let interface = &receiver.interfaces[index];
        let to = (host, interface.address);
        let lost = packet
            .origin
            .is_some_and(|from| self.topology.is_black_hole(from, to));
        let eaten = receiver.eats_udp && packet.protocol() == Protocol::Udp;
        if interface.black_hole || eaten || lost {
            return;
        }
        for (delay, packet) in self.tapped(packet, Stage::Arrival, Some(host)) {
            if delay.is_zero() {
                self.land(host, packet);
            } else {
                self.schedule(delay, Event::Packet(Position::PastTap(host), packet));
            }
        }
    }

    fn land(&mut self, host: HostId, packet: Packet) {
        match packet.body {
            Body::Datagram(payload) => {
                let delivery = Delivery::Datagram {
                    local: packet.destination,
                    from: packet.source,
                    payload,
                };
                self.deliver(host, delivery);
            }
            Body::Segment(segment) => {
                self.handle_segment(host, packet.source, packet.destination, segment);
            }
        }
    }

    /// Shows a datagram to the taps, one after the other, and gives what is left of it.
    fn tapped(
        &mut self,
        packet: Packet,
        stage: Stage,
        receiver: Option<HostId>,
    ) -> Vec<(Duration, Packet)> {
        let mut copies = vec![(Duration::ZERO, packet)];
        let mut taps = std::mem::take(&mut self.taps);
        for tap in &mut taps {
            copies = copies
                .into_iter()
                .flat_map(|(delay, packet)| {
                    let verdict = match &packet.body {
                        Body::Segment(_) => Verdict::Pass,
                        Body::Datagram(payload) => tap(&Passing {
                            now: self.now,
                            stage,
                            sender: packet.origin.map(|(host, _)| host),
                            receiver,
                            source: packet.source,
                            destination: packet.destination,
                            payload,
                        }),
                    };
                    apply(verdict, delay, packet)
                })
                .collect();
        }
        self.taps = taps;
        copies
    }

    /// How long a packet takes on a line; `None` when it is lost there.
    fn sample(&mut self, link: Link, protocol: Protocol) -> Option<Duration> {
        let mut delay = link.delay;
        if !link.jitter.is_zero() {
            delay += link.jitter.mul_f64(self.loss_rng.random::<f64>());
        }
        if link.loss > 0.0 && self.loss_rng.random_bool(link.loss.clamp(0.0, 1.0)) {
            match protocol {
                Protocol::Udp => return None,
                Protocol::Tcp => delay += TCP_RETRANSMISSION,
            }
        }
        Some(delay)
    }

    pub(crate) fn schedule(&mut self, delay: Duration, event: Event) {
        let at: Instant = self.now + delay;
        self.sequence += 1;
        self.events.insert((at, self.sequence), event);
    }
}

fn apply(verdict: Verdict, delay: Duration, packet: Packet) -> Vec<(Duration, Packet)> {
    let with = |payload: Vec<u8>| Packet {
        body: Body::Datagram(payload),
        ..packet.clone()
    };
    match verdict {
        Verdict::Pass => vec![(delay, packet)],
        Verdict::Drop => Vec::new(),
        Verdict::Replace(payload) => vec![(delay, with(payload))],
        Verdict::Delay(more) => vec![(delay + more, packet)],
        Verdict::Copies(copies) => copies
            .into_iter()
            .map(|(more, payload)| (delay + more, with(payload)))
            .collect(),
    }
}
