//! The TCP side of a call's media: the sockets that listen, and the connections (RFC 6544).

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use ringtrue_ice::{
    Base, ComponentId, FlowId, FlowOutput, Path, TcpFlows, TcpType, TcpWish, Transmit,
    TransportProtocol,
};

use super::{MediaSockets, preference};
use crate::desk::Desk;
use crate::io::{BindRequest, Connection, Output};

/// What a connection has brought.
pub(crate) enum Came {
    /// It stands.
    Opened(Path),
    /// It is no more.
    Lost(Path),
    /// A packet of the peer.
    Packet(Path, Vec<u8>),
}

/// A wish for a listening socket.
#[derive(Debug)]
struct Wanted {
    request: BindRequest,
    tcp_type: TcpType,
    local_preference: u16,
}

/// A socket that listens, for candidates of this type: passive or simultaneous-open.
#[derive(Debug)]
struct Listener {
    base: Base,
    tcp_type: TcpType,
}

/// Listening sockets and connections.
#[derive(Debug, Default)]
pub(super) struct TcpMedia {
    wanted: Vec<Wanted>,
    listeners: Vec<Listener>,
    flows: TcpFlows,
    connections: Vec<(Connection, FlowId)>,
}

impl TcpMedia {
    /// Wishes for what is missing: one socket of each type for each address family, on its best
    /// address. More would make the INVITE longer than a datagram should be, and find hardly any
    /// more paths.
    pub(super) fn listen(&mut self, desk: &mut Desk) {
        if !desk.uses_ice_tcp() {
            return;
        }
        let mut families = Vec::new();
        for (rank, address) in desk.media_addresses().into_iter().enumerate() {
            if families.contains(&address.is_ipv4()) {
                continue;
            }
            families.push(address.is_ipv4());
            for tcp_type in [TcpType::Passive, TcpType::SimultaneousOpen] {
                let stands = |known: &Listener| {
                    known.base.address.ip() == address && known.tcp_type == tcp_type
                };
                if !self.listeners.iter().any(stands) {
                    let shared = tcp_type == TcpType::SimultaneousOpen;
                    self.wanted.push(Wanted {
                        request: desk.listen(address, shared),
                        tcp_type,
                        local_preference: preference(rank),
                    });
                }
            }
        }
    }

    /// Takes the answer to such a wish; false when it was not ours.
    pub(super) fn handle_listening(
        &mut self,
        request: BindRequest,
        local: Option<SocketAddr>,
    ) -> bool {
        let Some(index) = self.wanted.iter().position(|wish| wish.request == request) else {
            return false;
        };
        let wish = self.wanted.swap_remove(index);
        self.listeners.extend(local.map(|address| Listener {
            base: Base {
                address,
                // The components share the connection (RFC 5761), or there is none.
                component: ComponentId::Rtp,
                local_preference: wish.local_preference,
            },
            tcp_type: wish.tcp_type,
        }));
        true
    }

    /// Whether every wish has its answer.
    pub(super) fn is_settled(&self) -> bool {
        self.wanted.is_empty()
    }

    /// The sockets of this type.
    pub(super) fn listeners(&self, tcp_type: TcpType) -> Vec<Base> {
        let known = self.listeners.iter();
        let known = known.filter(|known| known.tcp_type == tcp_type);
        known.map(|known| known.base).collect()
    }

    /// Closes everything.
    pub(super) fn close(&mut self, desk: &mut Desk) {
        for listener in self.listeners.drain(..) {
            desk.out(Output::Unlisten {
                local: listener.base.address,
            });
        }
        for (connection, _) in self.connections.drain(..) {
            desk.out(Output::Close { connection });
        }
    }

    fn close_vanished(&mut self, desk: &mut Desk, addresses: &[IpAddr]) {
        let (kept, vanished): (Vec<Listener>, Vec<Listener>) = self
            .listeners
            .drain(..)
            .partition(|known| addresses.contains(&known.base.address.ip()));
        self.listeners = kept;
        for listener in vanished {
            desk.out(Output::Unlisten {
                local: listener.base.address,
            });
        }
        self.flows
            .keep_only(|path| addresses.contains(&path.base.ip()));
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.flows.handle_timeout(now);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.flows.poll_timeout()
    }

    fn flow_of(&self, connection: Connection) -> Option<FlowId> {
        let mut known = self.connections.iter();
        let found = known.find(|(known, _)| *known == connection);
        found.map(|(_, flow)| *flow)
    }

    fn connection_of(&self, flow: FlowId) -> Option<Connection> {
        let mut known = self.connections.iter();
        let found = known.find(|(_, known)| *known == flow);
        found.map(|(connection, _)| *connection)
    }

    fn send(&self, desk: &mut Desk, path: Path, packet: &[u8]) {
        if let Some((flow, payload)) = self.flows.frame(path, packet)
            && let Some(connection) = self.connection_of(flow)
        {
            desk.out(Output::StreamPacket {
                connection,
                payload,
            });
        }
    }

    /// What has come next; what is to be done for the connections is on its way out then.
    fn next(&mut self, desk: &mut Desk) -> Option<Came> {
        loop {
            match self.flows.poll_output()? {
                FlowOutput::Connect { flow, from, to } => {
                    let connection = desk.connection();
                    self.connections.push((connection, flow));
                    desk.out(Output::Connect {
                        connection,
                        to,
                        from: Some(from),
                        tls: None,
                    });
                }
                FlowOutput::Close { flow } => {
                    if let Some(connection) = self.connection_of(flow) {
                        self.connections.retain(|(_, known)| *known != flow);
                        desk.out(Output::Close { connection });
                    }
                }
                FlowOutput::Opened(path) => return Some(Came::Opened(path)),
                FlowOutput::Lost(path) => return Some(Came::Lost(path)),
                FlowOutput::Packet { path, payload } => return Some(Came::Packet(path, payload)),
            }
        }
    }
}

impl MediaSockets {
    /// Somebody has connected to a listening socket. `None`: it is not ours; `Some(None)`: there
    /// is no room for one more.
    pub(crate) fn handle_accepted(
        &mut self,
        desk: &mut Desk,
        now: Instant,
        local: SocketAddr,
        peer: SocketAddr,
    ) -> Option<Option<Connection>> {
        let mut listeners = self.tcp.listeners.iter();
        let listener = listeners.find(|known| known.base.address == local)?;
        let tcp_type = listener.tcp_type;
        let Some(flow) = self.tcp.flows.handle_accepted(now, tcp_type, local, peer) else {
            return Some(None);
        };
        let connection = desk.connection();
        self.tcp.connections.push((connection, flow));
        Some(Some(connection))
    }

    pub(crate) fn owns_connection(&self, connection: Connection) -> bool {
        self.tcp.flow_of(connection).is_some()
    }

    pub(crate) fn handle_connected(&mut self, connection: Connection) {
        if let Some(flow) = self.tcp.flow_of(connection) {
            self.tcp.flows.handle_connected(flow);
        }
    }

    pub(crate) fn handle_stream(&mut self, connection: Connection, payload: &[u8]) {
        if let Some(flow) = self.tcp.flow_of(connection) {
            self.tcp.flows.handle_bytes(flow, payload);
        }
    }

    pub(crate) fn handle_closed(&mut self, now: Instant, connection: Connection) {
        if let Some(flow) = self.tcp.flow_of(connection) {
            self.tcp
                .connections
                .retain(|(known, _)| *known != connection);
            self.tcp.flows.handle_closed(now, flow);
        }
    }

    /// What the ICE session wants of the connections.
    pub(crate) fn fulfil(&mut self, desk: &mut Desk, wish: TcpWish) {
        match wish {
            TcpWish::Open(path) => self.tcp.flows.open(path),
            TcpWish::Send { path, payload } => self.tcp.send(desk, path, &payload),
        }
    }

    /// What a connection has brought next.
    pub(crate) fn next_came(&mut self, desk: &mut Desk) -> Option<Came> {
        self.tcp.next(desk)
    }

    /// The connection of this path is the peer's.
    pub(crate) fn admit(&mut self, path: Path) {
        self.tcp.flows.admit(path);
    }

    /// Sends media, by whatever way.
    pub(crate) fn send_media(
        &mut self,
        desk: &mut Desk,
        now: Instant,
        path: Path,
        packet: Vec<u8>,
    ) {
        match path.protocol {
            TransportProtocol::Udp => {
                let (base, to, payload) = (path.base, path.remote, packet);
                self.send(desk, now, Transmit { base, to, payload });
            }
            TransportProtocol::Tcp(_) => self.tcp.send(desk, path, &packet),
        }
    }

    /// Closes the connections that are not needed.
    pub(crate) fn keep_connections(&mut self, needed: impl Fn(Path) -> bool) {
        self.tcp.flows.keep_only(needed);
    }

    pub(super) fn close_vanished_tcp(&mut self, desk: &mut Desk, addresses: &[IpAddr]) {
        self.tcp.close_vanished(desk, addresses);
    }
}
