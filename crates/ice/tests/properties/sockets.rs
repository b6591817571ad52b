//! The sockets of a peer: datagrams of its own, relayed ones, and streams (RFC 6544).

use std::net::SocketAddr;
use std::time::Instant;

use ringtrue_ice::{
    Base, FlowId, FlowOutput, GatherConfig, Gatherer, Pacer, Path, TcpFlows, TcpType, TcpWish,
    Transmit,
};
use ringtrue_testnet::{Delivery, StreamId, Wish};

/// What a socket has brought.
#[derive(Debug)]
pub enum Came {
    Packet(Path, Vec<u8>),
    Opened(Path),
    Lost(Path),
}

#[derive(Debug)]
pub struct Sockets {
    pub gatherer: Gatherer,
    listeners: Vec<Base>,
    flows: TcpFlows,
    streams: Vec<(StreamId, FlowId)>,
    next_stream: u64,
    wishes: Vec<Wish>,
    /// A mutant's: no stream is ever opened.
    pub without_streams: bool,
}

impl Sockets {
    pub fn new(
        config: GatherConfig,
        bases: Vec<Base>,
        listeners: Vec<Base>,
        seed: u64,
        now: Instant,
    ) -> Self {
        let mut gatherer = Gatherer::new(config, bases, seed, now);
        gatherer.listen_on(listeners.clone(), Vec::new());
        let ports = listeners.first().map(|base| base.address.port());
        Self {
            gatherer,
            wishes: ports
                .map(|port| Wish::Listen { port })
                .into_iter()
                .collect(),
            listeners,
            flows: TcpFlows::new(),
            streams: Vec::new(),
            next_stream: 0,
            without_streams: false,
        }
    }

    pub fn handle_delivery(&mut self, now: Instant, delivery: Delivery) -> Vec<Came> {
        match delivery {
            Delivery::Datagram {
                local,
                from,
                payload,
            } => return self.handle_datagram(now, local, from, payload),
            Delivery::Accepted {
                stream,
                local,
                from,
                ..
            } => self.handle_accepted(now, stream, local, from),
            Delivery::Connected { stream, .. } => {
                if let Some(flow) = self.flow_of(stream) {
                    self.flows.handle_connected(flow);
                }
            }
            Delivery::StreamBytes { stream, payload } => {
                if let Some(flow) = self.flow_of(stream) {
                    self.flows.handle_bytes(flow, &payload);
                }
            }
            Delivery::Closed { stream, .. } => {
                if let Some(flow) = self.flow_of(stream) {
                    self.streams.retain(|(known, _)| *known != stream);
                    self.flows.handle_closed(now, flow);
                }
            }
            Delivery::PortMapped { .. } => {}
        }
        self.flow_output(now)
    }

    fn handle_datagram(
        &mut self,
        now: Instant,
        local: SocketAddr,
        from: SocketAddr,
        payload: Vec<u8>,
    ) -> Vec<Came> {
        if !self.gatherer.handle_datagram(now, local, from, &payload) {
            return vec![Came::Packet(Path::udp(local, from), payload)];
        }
        let relayed = std::iter::from_fn(|| self.gatherer.poll_relayed());
        relayed
            .map(|relayed| Came::Packet(Path::udp(relayed.base, relayed.from), relayed.payload))
            .collect()
    }

    fn handle_accepted(
        &mut self,
        now: Instant,
        stream: StreamId,
        local: SocketAddr,
        from: SocketAddr,
    ) {
        let listens = self.listeners.iter().any(|base| base.address == local);
        let flow = listens.then(|| {
            let passive = TcpType::Passive;
            self.flows.handle_accepted(now, passive, local, from)
        });
        match flow.flatten() {
            Some(flow) => self.streams.push((stream, flow)),
            None => self.wishes.push(Wish::Close { stream }),
        }
    }

    fn flow_of(&self, stream: StreamId) -> Option<FlowId> {
        let mut known = self.streams.iter();
        known
            .find(|(known, _)| *known == stream)
            .map(|(_, flow)| *flow)
    }

    fn stream_of(&self, flow: FlowId) -> Option<StreamId> {
        let mut known = self.streams.iter();
        known
            .find(|(_, known)| *known == flow)
            .map(|(stream, _)| *stream)
    }

    fn flow_output(&mut self, now: Instant) -> Vec<Came> {
        let mut came = Vec::new();
        while let Some(output) = self.flows.poll_output() {
            match output {
                FlowOutput::Connect { flow, .. } if self.without_streams => {
                    self.flows.handle_closed(now, flow);
                }
                FlowOutput::Connect { flow, from, to } => {
                    let stream = StreamId(self.next_stream);
                    self.next_stream += 1;
                    self.streams.push((stream, flow));
                    self.wishes.push(Wish::Connect {
                        stream,
                        to,
                        from: Some(from),
                        tls: None,
                    });
                }
                FlowOutput::Close { flow } => {
                    if let Some(stream) = self.stream_of(flow) {
                        self.streams.retain(|(known, _)| *known != stream);
                        self.wishes.push(Wish::Close { stream });
                    }
                }
                FlowOutput::Opened(path) => came.push(Came::Opened(path)),
                FlowOutput::Lost(path) => came.push(Came::Lost(path)),
                FlowOutput::Packet { path, payload } => came.push(Came::Packet(path, payload)),
            }
        }
        came
    }

    pub fn fulfil(&mut self, now: Instant, wish: TcpWish) -> Vec<Came> {
        match wish {
            TcpWish::Open(path) => self.flows.open(path),
            TcpWish::Send { path, payload } => self.send_stream(path, &payload),
        }
        self.flow_output(now)
    }

    fn send_stream(&mut self, path: Path, packet: &[u8]) {
        if let Some((flow, payload)) = self.flows.frame(path, packet)
            && let Some(stream) = self.stream_of(flow)
        {
            self.wishes.push(Wish::StreamBytes { stream, payload });
        }
    }

    /// A datagram, by the relay if it leaves from there.
    pub fn send_datagram(&mut self, now: Instant, transmit: Transmit) {
        if let Some(Transmit { base, to, payload }) = self.gatherer.relay(now, transmit) {
            self.wishes.push(Wish::Datagram {
                local: base,
                to,
                payload,
            });
        }
    }

    /// Media, by whatever way.
    pub fn send(&mut self, now: Instant, path: Path, payload: Vec<u8>) {
        if path.protocol.is_tcp() {
            return self.send_stream(path, &payload);
        }
        let (base, to) = (path.base, path.remote);
        self.send_datagram(now, Transmit { base, to, payload });
    }

    /// A check of the peer has come this way.
    pub fn admit(&mut self, path: Path) {
        self.flows.admit(path);
    }

    pub fn handle_timeout(&mut self, now: Instant, pacer: &mut Pacer) -> Vec<Came> {
        self.gatherer.handle_timeout(now, pacer);
        self.flows.handle_timeout(now);
        self.flow_output(now)
    }

    pub fn poll_timeout(&self, pacer: &Pacer) -> Option<Instant> {
        let gathering = self.gatherer.poll_timeout(pacer);
        gathering.into_iter().chain(self.flows.poll_timeout()).min()
    }

    /// What is to be done by the world.
    pub fn take_wishes(&mut self) -> Vec<Wish> {
        std::mem::take(&mut self.wishes)
    }
}
