//! What lives on a host: anything that takes deliveries and has wishes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// One end of a byte stream, named by whoever opened it; ends that were accepted get a number
/// with the highest bit set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u64);

/// What arrives at a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// A datagram.
    Datagram {
        /// The local address that it was sent to: always a concrete one.
        local: SocketAddr,
        /// The source, as the last NAT left it.
        from: SocketAddr,
        /// The bytes.
        payload: Vec<u8>,
    },
    /// A stream that this host opened stands.
    Connected {
        /// The stream.
        stream: StreamId,
        /// Its local address.
        local: SocketAddr,
    },
    /// Somebody opened a stream to a port that this host listens on.
    Accepted {
        /// The number of this end.
        stream: StreamId,
        /// The local address.
        local: SocketAddr,
        /// The source, as the last NAT left it.
        from: SocketAddr,
        /// The server name of its TLS, as the opener expects it in the certificate; none: no TLS.
        tls: Option<String>,
    },
    /// Bytes on a stream, in order.
    StreamBytes {
        /// The stream.
        stream: StreamId,
        /// The bytes; the pieces need not be those that were sent.
        payload: Vec<u8>,
    },
    /// The gateway has answered who asked for a port.
    PortMapped {
        /// Which wish this answers.
        request: u64,
        /// The outer address that leads to the socket, and for how long.
        mapped: Option<(SocketAddr, Duration)>,
    },
    /// A stream has ended.
    Closed {
        /// The stream.
        stream: StreamId,
        /// Whether it never stood because nobody listens there.
        refused: bool,
    },
}

/// A wish of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// Send a datagram.
    Datagram {
        /// The local address; an unspecified one leaves by the interface that fits.
        local: SocketAddr,
        /// The destination.
        to: SocketAddr,
        /// The bytes.
        payload: Vec<u8>,
    },
    /// Open a stream.
    Connect {
        /// The number that it gets: below 2^63, not in use at this host.
        stream: StreamId,
        /// The destination.
        to: SocketAddr,
        /// The local address to leave from, port 0 for any; none: by the interface that fits.
        from: Option<SocketAddr>,
        /// The server name of TLS over it. Its bytes travel as they are; only the accepting side
        /// is told, so that it can refuse.
        tls: Option<String>,
    },
    /// Accept streams on a port from now on, on all addresses.
    Listen {
        /// The port.
        port: u16,
    },
    /// Accept none there any more.
    Unlisten {
        /// The port.
        port: u16,
    },
    /// Send bytes on a stream.
    StreamBytes {
        /// The stream.
        stream: StreamId,
        /// The bytes.
        payload: Vec<u8>,
    },
    /// Ask the gateway to map a port to a socket, or to renew that.
    MapPort {
        /// A number for the answer.
        request: u64,
        /// The socket.
        local: SocketAddr,
    },
    /// Have the gateway map a port to this socket no longer.
    UnmapPort {
        /// The socket.
        local: SocketAddr,
    },
    /// Close a stream.
    Close {
        /// The stream.
        stream: StreamId,
    },
}

/// Takes the wishes of a node.
#[derive(Debug, Default)]
pub struct Outbox {
    pub(crate) wishes: Vec<Wish>,
}

impl Outbox {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Wishes anything.
    pub fn push(&mut self, wish: Wish) {
        self.wishes.push(wish);
    }

    /// Wishes to send a datagram.
    pub fn datagram(&mut self, local: SocketAddr, to: SocketAddr, payload: Vec<u8>) {
        self.push(Wish::Datagram { local, to, payload });
    }

    /// Wishes to open a stream.
    pub fn connect(&mut self, stream: StreamId, to: SocketAddr) {
        let (from, tls) = (None, None);
        self.push(Wish::Connect {
            stream,
            to,
            from,
            tls,
        });
    }

    /// Wishes to send bytes on a stream.
    pub fn stream_bytes(&mut self, stream: StreamId, payload: Vec<u8>) {
        self.push(Wish::StreamBytes { stream, payload });
    }

    /// Wishes to close a stream.
    pub fn close(&mut self, stream: StreamId) {
        self.push(Wish::Close { stream });
    }

    /// Whether there is no wish.
    pub fn is_empty(&self) -> bool {
        self.wishes.is_empty()
    }
}

/// Anything that lives on a host: a phone, a server, an attacker.
///
/// Call order, at each instant: every `handle_delivery`, then `handle_timeout` if it is due, then
/// `drain`, then `poll_timeout`.
pub trait Node {
    /// Something arrived.
    fn handle_delivery(&mut self, now: Instant, delivery: Delivery);

    /// The time that `poll_timeout` gave has come.
    fn handle_timeout(&mut self, now: Instant);

    /// When `handle_timeout` is due.
    fn poll_timeout(&self) -> Option<Instant>;

    /// Hands over what it wishes by now.
    fn drain(&mut self, now: Instant, out: &mut Outbox);
}

impl<N: Node + ?Sized> Node for Box<N> {
    fn handle_delivery(&mut self, now: Instant, delivery: Delivery) {
        (**self).handle_delivery(now, delivery);
    }

    fn handle_timeout(&mut self, now: Instant) {
        (**self).handle_timeout(now);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        (**self).poll_timeout()
    }

    fn drain(&mut self, now: Instant, out: &mut Outbox) {
        (**self).drain(now, out);
    }
}
