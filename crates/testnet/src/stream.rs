//! Reliable byte streams: what TCP is to its users.
//!
//! Segments travel as packets do, through NATs and with delay; loss costs time only. A black hole
//! swallows segments for good, so such a stream is silent, as a dead connection is. Two hosts that
//! connect to each other's port at once get one stream (RFC 9293 section 3.5).

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use crate::flight::{Body, Packet};
use crate::node::{Delivery, StreamId};
use crate::topology::HostId;
use crate::world::{Event, World};

/// How long a connection attempt waits for an answer (RFC 9293 section 3.8.3: at least 3 minutes
/// for a SYN is asked for; hosts of today give up after 127 s).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(127);

/// Numbers of accepted ends have this bit.
const ACCEPTED: u64 = 1 << 63;

/// Ephemeral ports (RFC 6335 section 6).
const FIRST_EPHEMERAL: u16 = 49_152;

#[derive(Debug, Clone)]
pub(crate) struct Segment {
    connection: usize,
    sequence: u64,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    /// With the server name of TLS, if it is to be.
    Open(Option<String>),
    Accept,
    Refuse,
    Bytes(Vec<u8>),
    Finish,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Opening,
    Open,
    Closed,
}

#[derive(Debug, Clone)]
struct End {
    host: HostId,
    stream: StreamId,
    local: SocketAddr,
    remote: SocketAddr,
    state: State,
    /// Written before the stream stood.
    unsent: Vec<Kind>,
    next_send: u64,
    next_receive: u64,
    /// Came before its turn.
    early: BTreeMap<u64, Kind>,
}

impl End {
    fn new(host: HostId, stream: StreamId, local: SocketAddr, remote: SocketAddr) -> Self {
        Self {
            host,
            stream,
            local,
            remote,
            state: State::Opening,
            unsent: Vec::new(),
            next_send: 0,
            next_receive: 0,
            early: BTreeMap::new(),
        }
    }
}

/// All streams of a world.
#[derive(Debug, Clone, Default)]
pub(crate) struct Streams {
    /// The opener's end and, once it was accepted, the other.
    connections: Vec<[Option<End>; 2]>,
    by_end: HashMap<(HostId, StreamId), (usize, usize)>,
    /// Attempts that have met another one, and became part of it.
    met: HashMap<usize, usize>,
    ports: HashMap<HostId, u16>,
}

impl Streams {
    fn end(&mut self, host: HostId, stream: StreamId) -> Option<(usize, &mut End)> {
        let (connection, side) = *self.by_end.get(&(host, stream))?;
        let end = self.connections.get_mut(connection)?[side].as_mut()?;
        Some((connection, end))
    }

    /// The end of a connection that lives on this host at this address.
    fn end_at(&mut self, connection: usize, host: HostId, local: SocketAddr) -> Option<&mut End> {
        let ends = self.connections.get_mut(connection)?.iter_mut().flatten();
        ends.into_iter()
            .find(|end| end.host == host && end.local == local)
    }

    /// The end of this host between these two addresses that is not closed, and its connection.
    fn between(
        &self,
        host: HostId,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Option<(usize, &End)> {
        let all = self.connections.iter().enumerate();
        let mut ends = all.flat_map(|(index, ends)| ends.iter().flatten().map(move |e| (index, e)));
        ends.find(|(_, end)| {
            (end.host, end.local, end.remote) == (host, local, remote) && end.state != State::Closed
        })
    }

    /// An attempt has reached the host of another one that goes the other way: they are one.
    fn meet(&mut self, one: usize, other: usize) -> usize {
        let (kept, gone) = (one.min(other), one.max(other));
        let moved = self.connections[gone][0].take();
        if let Some(end) = &moved {
            self.by_end.insert((end.host, end.stream), (kept, 1));
        }
        self.connections[kept][1] = moved;
        self.met.insert(gone, kept);
        kept
    }

    fn ephemeral_port(&mut self, host: HostId) -> u16 {
        let next = self.ports.entry(host).or_insert(FIRST_EPHEMERAL);
        let port = *next;
        *next = port.checked_add(1).unwrap_or(FIRST_EPHEMERAL);
        port
    }
}

impl World {
    /// Lets a host accept streams on a port, on all its addresses.
    pub fn listen(&mut self, host: HostId, port: u16) {
        self.topology.hosts[host.0].listening.insert(port);
    }

    /// Lets a host accept no more streams on a port; those that stand stay.
    pub fn unlisten(&mut self, host: HostId, port: u16) {
        self.topology.hosts[host.0].listening.remove(&port);
    }

    /// Opens a stream. The answer is a [`Delivery::Connected`] or [`Delivery::Closed`].
    ///
    /// # Panics
    /// When the host uses that number already.
    pub fn connect(&mut self, host: HostId, stream: StreamId, to: SocketAddr) {
        self.connect_from(host, stream, None, to, None);
    }

    /// Opens a stream from a local address, port 0 for any, perhaps with TLS, which travels as a
    /// name that the accepting side is told.
    ///
    /// # Panics
    /// When the host uses that number already.
    pub fn connect_from(
        &mut self,
        host: HostId,
        stream: StreamId,
        from: Option<SocketAddr>,
        to: SocketAddr,
        tls: Option<String>,
    ) {
        let taken = self.streams.by_end.contains_key(&(host, stream));
        assert!(!taken, "{host:?} uses {stream:?} already");
        let own = |from: &SocketAddr| self.topology.interface(host, from.ip()).is_some();
        let source = match from {
            Some(from) => Some(from.ip()).filter(|_| own(&from)),
            None => self.topology.source_for(host, to.ip()),
        };
        let Some(source) = source else {
            let delivery = Delivery::Closed {
                stream,
                refused: true,
            };
            return self.deliver(host, delivery);
        };
        let port = from.map_or(0, |from| from.port());
        let port = match port {
            0 => self.streams.ephemeral_port(host),
            port => port,
        };
        let local = SocketAddr::new(source, port);
        if self.streams.between(host, local, to).is_some() {
            // There is one already (EADDRNOTAVAIL).
            let refused = true;
            return self.deliver(host, Delivery::Closed { stream, refused });
        }
        let connection = self.streams.connections.len();
        let end = End::new(host, stream, local, to);
        self.streams.connections.push([Some(end), None]);
        self.streams.by_end.insert((host, stream), (connection, 0));
        self.send_segment(host, local, to, connection, 0, Kind::Open(tls));
        self.schedule(CONNECT_TIMEOUT, Event::ConnectTimeout(host, stream));
    }

    /// Sends bytes on a stream; before it stands they wait, after it has ended they are gone.
    pub fn send_stream(&mut self, host: HostId, stream: StreamId, payload: Vec<u8>) {
        self.write(host, stream, Kind::Bytes(payload));
    }

    /// Closes a stream: the other end gets what was sent before, and then a [`Delivery::Closed`].
    pub fn close_stream(&mut self, host: HostId, stream: StreamId) {
        self.write(host, stream, Kind::Finish);
        if let Some((_, end)) = self.streams.end(host, stream) {
            end.state = State::Closed;
        }
    }

    fn write(&mut self, host: HostId, stream: StreamId, kind: Kind) {
        let Some((connection, end)) = self.streams.end(host, stream) else {
            return;
        };
        match end.state {
            State::Closed => {}
            State::Opening => end.unsent.push(kind),
            State::Open => {
                let (local, remote, sequence) = (end.local, end.remote, end.next_send);
                end.next_send += 1;
                self.send_segment(host, local, remote, connection, sequence, kind);
            }
        }
    }

    fn send_segment(
        &mut self,
        host: HostId,
        local: SocketAddr,
        to: SocketAddr,
        connection: usize,
        sequence: u64,
        kind: Kind,
    ) {
        let segment = Segment {
            connection,
            sequence,
            kind,
        };
        let packet = Packet {
            source: local,
            destination: to,
            origin: None,
            body: Body::Segment(segment),
            hops: 0,
        };
        self.depart(host, packet);
    }

    pub(crate) fn handle_connect_timeout(&mut self, host: HostId, stream: StreamId) {
        let Some((_, end)) = self.streams.end(host, stream) else {
            return;
        };
        if end.state == State::Opening {
            end.state = State::Closed;
            let refused = false;
            self.deliver(host, Delivery::Closed { stream, refused });
        }
    }

    pub(crate) fn handle_segment(
        &mut self,
        host: HostId,
        from: SocketAddr,
        local: SocketAddr,
        segment: Segment,
    ) {
        let met = self.streams.met.get(&segment.connection);
        let connection = met.copied().unwrap_or(segment.connection);
        match segment.kind {
            Kind::Open(tls) => self.handle_open(host, from, local, connection, tls),
            Kind::Accept => self.handle_accept(connection, host, local),
            Kind::Refuse => {
                let Some(end) = self.streams.end_at(connection, host, local) else {
                    return;
                };
                let stream = end.stream;
                if end.state == State::Opening {
                    end.state = State::Closed;
                    let refused = true;
                    self.deliver(host, Delivery::Closed { stream, refused });
                }
            }
            kind @ (Kind::Bytes(_) | Kind::Finish) => {
                if let Some(end) = self.streams.end_at(connection, host, local) {
                    end.early.insert(segment.sequence, kind);
                    self.read(connection, host, local);
                }
            }
        }
    }

    fn handle_open(
        &mut self,
        host: HostId,
        from: SocketAddr,
        local: SocketAddr,
        connection: usize,
        tls: Option<String>,
    ) {
        match self.streams.between(host, local, from) {
            Some((_, end)) if end.state == State::Open => return,
            Some((other, _)) => {
                // RFC 9293 section 3.5: both have opened. What each has sent is an answer to the
                // other, and this one's own attempt need not arrive.
                let connection = if other == connection {
                    other
                } else {
                    self.streams.meet(connection, other)
                };
                self.send_segment(host, local, from, connection, 0, Kind::Accept);
                return self.handle_accept(connection, host, local);
            }
            None => {}
        }
        if !self.topology.hosts[host.0]
            .listening
            .contains(&local.port())
        {
            return self.send_segment(host, local, from, connection, 0, Kind::Refuse);
        }
        let stream = StreamId(ACCEPTED | connection as u64);
        let mut end = End::new(host, stream, local, from);
        end.state = State::Open;
        let Some(ends) = self.streams.connections.get_mut(connection) else {
            return;
        };
        ends[1] = Some(end);
        self.streams.by_end.insert((host, stream), (connection, 1));
        self.send_segment(host, local, from, connection, 0, Kind::Accept);
        let accepted = Delivery::Accepted {
            stream,
            local,
            from,
            tls,
        };
        self.deliver(host, accepted);
    }

    fn handle_accept(&mut self, connection: usize, host: HostId, local: SocketAddr) {
        let Some(end) = self.streams.end_at(connection, host, local) else {
            return;
        };
        if end.state == State::Open {
            return;
        }
        let stream = end.stream;
        let closed = end.state == State::Closed;
        end.state = State::Open;
        let unsent = std::mem::take(&mut end.unsent);
        if !closed {
            self.deliver(host, Delivery::Connected { stream, local });
        }
        for kind in unsent {
            self.write(host, stream, kind);
        }
        if closed {
            self.close_stream(host, stream);
        }
        self.read(connection, host, local);
    }

    /// Hands over what is in order.
    fn read(&mut self, connection: usize, host: HostId, local: SocketAddr) {
        loop {
            let Some(end) = self.streams.end_at(connection, host, local) else {
                return;
            };
            if end.state != State::Open {
                return;
            }
            let Some(kind) = end.early.remove(&end.next_receive) else {
                return;
            };
            end.next_receive += 1;
            let stream = end.stream;
            let delivery = match kind {
                Kind::Bytes(payload) => Delivery::StreamBytes { stream, payload },
                _ => {
                    end.state = State::Closed;
                    let refused = false;
                    Delivery::Closed { stream, refused }
                }
            };
            self.deliver(host, delivery);
        }
    }
}
