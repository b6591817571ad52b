//! The connection of an allocation over TCP or TLS (RFC 8656 section 2.1).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::framing::{Frames, padded};
use super::{Inbound, MOST_ALLOCATIONS, Outbound, Relay, State, TurnServer, TurnTransport};
use crate::seed::Randomness;

/// How long a connection may take to come about.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// A connection that broke off is opened again after so long, then after twice as long, and so on.
const RECONNECT: Duration = Duration::from_secs(1);

/// One connection to a TURN or STUN server, by the number that the gatherer gave it. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TurnStream(pub(crate) u64);

/// What the gatherer wants of its connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TurnStreamWish {
    /// Open one; answer with `handle_stream_connected` or `handle_stream_closed`.
    Connect {
        /// The number that it gets.
        stream: TurnStream,
        /// The local address to leave from; port 0 is any.
        from: SocketAddr,
        /// The server.
        to: SocketAddr,
        /// The host name or address that the server's certificate must be good for; none: no TLS.
        tls: Option<String>,
    },
    /// Send a request to the server.
    Send {
        /// The connection.
        stream: TurnStream,
        /// The bytes.
        payload: Vec<u8>,
    },
    /// Send a packet to a peer: all of it or, while the connection is too slow for what it is
    /// given, nothing.
    SendPacket {
        /// The connection.
        stream: TurnStream,
        /// The packet, wrapped.
        payload: Vec<u8>,
    },
    /// Close one. Nothing more is expected of it.
    Close {
        /// The connection.
        stream: TurnStream,
    },
}

/// What a message to the server holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// A word to the server.
    Request,
    /// A packet to a peer, which is worth nothing if it comes late.
    Packet,
}

/// The way to the server.
#[derive(Debug)]
pub(super) enum Way {
    /// Datagrams from the socket of the media.
    Datagrams,
    /// There is no connection.
    Apart,
    /// A connection is on its way.
    Connecting { stream: TurnStream, until: Instant },
    /// It stands.
    Connected { stream: TurnStream, frames: Frames },
}

impl Way {
    pub(super) fn of(server: &TurnServer) -> Self {
        match server.transport {
            TurnTransport::Udp => Self::Datagrams,
            TurnTransport::Tcp | TurnTransport::Tls(_) => Self::Apart,
        }
    }

    fn stream(&self) -> Option<TurnStream> {
        match self {
            Self::Datagrams | Self::Apart => None,
            Self::Connecting { stream, .. } | Self::Connected { stream, .. } => Some(*stream),
        }
    }

    /// A message as it leaves; none where it cannot.
    pub(super) fn wrap(&self, payload: Vec<u8>, content: Content) -> Option<Outbound> {
        let stream = match self {
            Self::Datagrams => return Some(Outbound::Datagram(payload)),
            Self::Connected { stream, .. } => *stream,
            Self::Apart | Self::Connecting { .. } => return None,
        };
        let payload = padded(payload);
        Some(Outbound::Stream(match content {
            Content::Request => TurnStreamWish::Send { stream, payload },
            Content::Packet => TurnStreamWish::SendPacket { stream, payload },
        }))
    }

    pub(super) fn connecting_until(&self) -> Option<Instant> {
        match self {
            Self::Connecting { until, .. } => Some(*until),
            _ => None,
        }
    }
}

impl Relay {
    /// Whether the server can be spoken to at once; if not, a connection is asked for.
    pub(super) fn is_reached(&mut self, now: Instant, stream: TurnStream) -> bool {
        if matches!(self.way, Way::Datagrams | Way::Connected { .. }) {
            return true;
        }
        self.hang_up();
        let tls = match &self.server.transport {
            TurnTransport::Tls(name) => Some(name.clone()),
            TurnTransport::Udp | TurnTransport::Tcp => None,
        };
        let until = now + CONNECT_PATIENCE;
        self.way = Way::Connecting { stream, until };
        let connect = TurnStreamWish::Connect {
            stream,
            from: SocketAddr::new(self.base.address.ip(), 0),
            to: self.server.address,
            tls,
        };
        self.out.push_back(Outbound::Stream(connect));
        false
    }

    /// Closes the connection, if there is one.
    pub(super) fn hang_up(&mut self) {
        if let Some(stream) = self.way.stream() {
            self.way = Way::Apart;
            let close = TurnStreamWish::Close { stream };
            self.out.push_back(Outbound::Stream(close));
        }
    }

    pub(super) fn is_datagrams(&self) -> bool {
        matches!(self.way, Way::Datagrams)
    }

    pub(crate) fn owns(&self, stream: TurnStream) -> bool {
        self.way.stream() == Some(stream)
    }

    /// The connection stands.
    pub(crate) fn handle_connected(&mut self, now: Instant, randomness: &mut Randomness) {
        let Way::Connecting { stream, .. } = self.way else {
            return;
        };
        let frames = Frames::default();
        self.way = Way::Connected { stream, frames };
        self.allocate(now, randomness);
    }

    /// Bytes have come.
    pub(crate) fn handle_stream(
        &mut self,
        now: Instant,
        bytes: &[u8],
        randomness: &mut Randomness,
    ) -> Vec<Inbound> {
        let mut inbound = Vec::new();
        if let Way::Connected { frames, .. } = &mut self.way {
            frames.extend(bytes);
        }
        loop {
            // An answer may end it all.
            let Way::Connected { frames, .. } = &mut self.way else {
                return inbound;
            };
            match frames.next() {
                Ok(Some(message)) => {
                    inbound.push(self.handle_datagram(now, &message, randomness));
                }
                Ok(None) => return inbound,
                Err(_) => {
                    self.hang_up();
                    self.broken_off(now);
                    return inbound;
                }
            }
        }
    }

    /// The connection has ended, or never came about.
    pub(crate) fn handle_closed(&mut self, now: Instant) {
        self.way = Way::Apart;
        self.broken_off(now);
    }

    pub(super) fn give_up_connecting(&mut self, now: Instant) {
        if self
            .way
            .connecting_until()
            .is_some_and(|until| until <= now)
        {
            self.hang_up();
            self.broken_off(now);
        }
    }

    /// Without a connection there is no allocation. One that stood before has a successor; a
    /// server that never gave one is as good as silent.
    fn broken_off(&mut self, now: Instant) {
        if self.is_over() {
            return self.end();
        }
        if !self.names.is_known() || self.attempts >= MOST_ALLOCATIONS {
            return self.give_up_until(now);
        }
        self.forget();
        self.lost = true;
        let wait = if self.attempts == 0 {
            Duration::ZERO
        } else {
            RECONNECT * 2_u32.saturating_pow(self.attempts - 1)
        };
        self.state = State::Asking { at: now + wait };
    }
}
