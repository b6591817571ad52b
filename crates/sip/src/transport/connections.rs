//! The table of stream connections: reuse, bounds, framing.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::endpoint::{ConnectionId, SipTransmit};
use crate::message::{Message, ParseError, StreamParser};
use crate::transport::{Flow, Verified};

/// How many connections there may be; a phone needs two or three.
pub(crate) const MAX_CONNECTIONS: usize = 64;
/// How long a connection that was asked for may stay silent.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// A connection without traffic for so long is closed; keepalives count as traffic.
const IDLE: Duration = Duration::from_secs(900);
/// How long an unfinished message may take, or the first one on an accepted connection.
const MESSAGE_PATIENCE: Duration = Duration::from_secs(32);
/// A connection that was quiet for so long makes way for a new one when the table is full.
const SPARE: Duration = Duration::from_secs(60);
/// What may wait for a connection to open.
const MAX_WAITING: usize = 64;

/// How long a peer that answers keepalives may leave one unanswered (RFC 5626 section 4.4.1).
const PONG_PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Connection {
    peer: SocketAddr,
    /// Our end, once that is known.
    local: Option<SocketAddr>,
    tls: Tls,
    state: State,
}

/// Whether there is TLS on a connection, and who is at the other end then.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Tls {
    None,
    /// It was opened from here, to a peer whose certificate is good for this name.
    Verified(String),
    /// The peer has opened it, and has shown no certificate.
    Accepted,
}

#[derive(Debug)]
enum State {
    /// What was sent meanwhile waits.
    Connecting {
        since: Instant,
        waiting: Vec<Vec<u8>>,
    },
    Open {
        parser: StreamParser,
        last_used: Instant,
        /// Set while a message is awaited in whole.
        message_due: Option<Instant>,
        pongs: Pongs,
    },
}

/// Not every peer answers keepalives; one that has done so goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pongs {
    NeverAsked,
    /// Perhaps it never will.
    Asked,
    Came,
    /// Something must come by then.
    DueBy(Instant),
}

/// What came out of a stream.
#[allow(clippy::large_enum_variant)] // Handled at once, in a short list.
#[derive(Debug)]
pub(crate) enum StreamInput {
    Message(Result<Message, ParseError>),
    /// Nothing after this can be read.
    Broken,
}

/// All stream connections.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    table: BTreeMap<ConnectionId, Connection>,
    next: u64,
}

impl Connections {
    /// A number that was never used.
    pub(crate) fn new_id(&mut self) -> ConnectionId {
        self.next += 1;
        ConnectionId(self.next)
    }

    /// A connection to this peer, an old one or a new one, by TLS if a name is given that its
    /// certificate must be good for. `None`: the table is full.
    pub(crate) fn reach(
        &mut self,
        now: Instant,
        peer: SocketAddr,
        name: Option<&str>,
        out: &mut VecDeque<SipTransmit>,
    ) -> Option<ConnectionId> {
        let name = name.map(str::to_ascii_lowercase);
        let tls = name.clone().map_or(Tls::None, Tls::Verified);
        let known = self
            .table
            .iter()
            .find(|(_, connection)| connection.peer == peer && connection.tls == tls);
        if let Some((id, _)) = known {
            return Some(*id);
        }
        if !self.make_room(now, out) {
            return None;
        }
        let id = self.new_id();
        let state = State::Connecting {
            since: now,
            waiting: Vec::new(),
        };
        let connection = Connection {
            peer,
            local: None,
            tls,
            state,
        };
        self.table.insert(id, connection);
        out.push_back(SipTransmit::Connect {
            connection: id,
            to: peer,
            tls: name,
        });
        Some(id)
    }

    /// Sends on a connection, now or once it is open. `false`: it is gone.
    pub(crate) fn send(
        &mut self,
        now: Instant,
        id: ConnectionId,
        payload: Vec<u8>,
        out: &mut VecDeque<SipTransmit>,
    ) -> bool {
        match self.table.get_mut(&id).map(|c| &mut c.state) {
            Some(State::Open { last_used, .. }) => {
                *last_used = now;
                out.push_back(SipTransmit::Stream {
                    connection: id,
                    payload,
                });
                true
            }
            Some(State::Connecting { waiting, .. }) if waiting.len() < MAX_WAITING => {
                waiting.push(payload);
                true
            }
            Some(State::Connecting { .. }) | None => false,
        }
    }

    /// Where our end of a connection is.
    pub(crate) fn set_local(&mut self, id: ConnectionId, local: SocketAddr) {
        if let Some(connection) = self.table.get_mut(&id) {
            connection.local = Some(local);
        }
    }

    /// Our end of a connection that was opened from here.
    pub(crate) fn local(&self, id: ConnectionId) -> Option<SocketAddr> {
        self.table.get(&id)?.local
    }

    /// Something else takes the place of what waits for a connection to open.
    pub(crate) fn replace_waiting(&mut self, id: ConnectionId, old: &[u8], new: &[u8]) {
        if let Some(State::Connecting { waiting, .. }) =
            self.table.get_mut(&id).map(|c| &mut c.state)
            && let Some(payload) = waiting.iter_mut().find(|payload| **payload == old)
        {
            new.clone_into(payload);
        }
    }

    /// A connection that was asked for is open.
    pub(crate) fn handle_connected(
        &mut self,
        now: Instant,
        id: ConnectionId,
        out: &mut VecDeque<SipTransmit>,
    ) {
        let Some(connection) = self.table.get_mut(&id) else {
            // Given up meanwhile.
            out.push_back(SipTransmit::Close { connection: id });
            return;
        };
        let open = State::Open {
            parser: StreamParser::new(),
            last_used: now,
            message_due: None,
            pongs: Pongs::NeverAsked,
        };
        if let State::Connecting { waiting, .. } = std::mem::replace(&mut connection.state, open) {
            out.extend(waiting.into_iter().map(|payload| SipTransmit::Stream {
                connection: id,
                payload,
            }));
        }
    }

    /// A peer has connected. Closed at once when there are too many.
    pub(crate) fn handle_accepted(
        &mut self,
        now: Instant,
        id: ConnectionId,
        peer: SocketAddr,
        secure: bool,
        out: &mut VecDeque<SipTransmit>,
    ) {
        if !self.make_room(now, out) {
            out.push_back(SipTransmit::Close { connection: id });
            return;
        }
        let state = State::Open {
            parser: StreamParser::new(),
            last_used: now,
            message_due: Some(now + MESSAGE_PATIENCE),
            pongs: Pongs::NeverAsked,
        };
        let tls = if secure { Tls::Accepted } else { Tls::None };
        let connection = Connection {
            peer,
            local: None,
            tls,
            state,
        };
        self.table.insert(id, connection);
    }

    /// Asks whether the other end is still there (RFC 5626 section 4.4.1).
    pub(crate) fn ping(&mut self, now: Instant, id: ConnectionId, out: &mut VecDeque<SipTransmit>) {
        if let Some(State::Open { pongs, .. }) = self.table.get_mut(&id).map(|c| &mut c.state) {
            *pongs = match *pongs {
                Pongs::NeverAsked | Pongs::Asked => Pongs::Asked,
                Pongs::Came => Pongs::DueBy(now + PONG_PATIENCE),
                due @ Pongs::DueBy(_) => due,
            };
            self.send(now, id, b"\r\n\r\n".to_vec(), out);
        }
    }

    /// Bytes have come; what they make up, and the flow that they came on.
    pub(crate) fn handle_stream(
        &mut self,
        now: Instant,
        id: ConnectionId,
        bytes: &[u8],
        out: &mut VecDeque<SipTransmit>,
    ) -> Option<(Flow, Vec<StreamInput>)> {
        let connection = self.table.get_mut(&id)?;
        let State::Open {
            parser,
            last_used,
            message_due,
            pongs,
        } = &mut connection.state
        else {
            return None;
        };
        *last_used = now;
        // Two of these are not to be taken for a question of the peer's.
        let is_pong = bytes == b"\r\n"
            && !parser.is_mid_message()
            && matches!(pongs, Pongs::Asked | Pongs::DueBy(_));
        if is_pong || matches!(pongs, Pongs::DueBy(_)) {
            *pongs = Pongs::Came;
        }
        let bytes = if is_pong { &[] } else { bytes };
        parser.push(bytes);
        let mut inputs = Vec::new();
        for message in parser.by_ref() {
            let fatal = message.as_ref().is_err_and(ParseError::is_fatal);
            inputs.push(StreamInput::Message(message));
            *message_due = None;
            if fatal {
                inputs.push(StreamInput::Broken);
                break;
            }
        }
        // RFC 5626 section 4.4.1: a double CRLF is answered by one. A burst gets one answer.
        if parser.take_pings() > 0 {
            *message_due = None;
            out.push_back(SipTransmit::Stream {
                connection: id,
                payload: b"\r\n".to_vec(),
            });
        }
        if !parser.is_mid_message() {
            if !inputs.is_empty() {
                *message_due = None;
            }
        } else if message_due.is_none() {
            *message_due = Some(now + MESSAGE_PATIENCE);
        }
        let flow = Flow::Stream {
            connection: id,
            remote: connection.peer,
            secure: connection.tls != Tls::None,
        };
        Some((flow, inputs))
    }

    /// A connection has closed by itself; the flow that it was.
    pub(crate) fn forget(&mut self, id: ConnectionId) -> Option<Flow> {
        let connection = self.table.remove(&id)?;
        Some(Flow::Stream {
            connection: id,
            remote: connection.peer,
            secure: connection.tls != Tls::None,
        })
    }

    /// Whom a connection by TLS leads to, if it was opened from here.
    pub(crate) fn verified(&self, id: ConnectionId) -> Option<Verified> {
        let connection = self.table.get(&id)?;
        match &connection.tls {
            Tls::Verified(name) => Some(Verified {
                at: connection.peer,
                name: name.clone(),
            }),
            Tls::None | Tls::Accepted => None,
        }
    }

    /// Closes a connection.
    pub(crate) fn close(&mut self, id: ConnectionId, out: &mut VecDeque<SipTransmit>) {
        if self.table.remove(&id).is_some() {
            out.push_back(SipTransmit::Close { connection: id });
        }
    }

    /// All of them.
    pub(crate) fn ids(&self) -> Vec<ConnectionId> {
        self.table.keys().copied().collect()
    }

    /// Since when it is being opened; `None`: it is open, or gone.
    pub(crate) fn connecting_since(&self, id: ConnectionId) -> Option<Instant> {
        match self.table.get(&id)?.state {
            State::Connecting { since, .. } => Some(since),
            State::Open { .. } => None,
        }
    }

    /// Whether it is open or about to be.
    pub(crate) fn is_alive(&self, id: ConnectionId) -> bool {
        self.table.contains_key(&id)
    }

    /// Whether it is open.
    pub(crate) fn is_open(&self, id: ConnectionId) -> bool {
        self.table
            .get(&id)
            .is_some_and(|c| matches!(c.state, State::Open { .. }))
    }

    /// The connections whose time is over; the caller closes them.
    pub(crate) fn overdue(&self, now: Instant) -> Vec<ConnectionId> {
        self.table
            .iter()
            .filter(|(_, connection)| connection.deadline() <= now)
            .map(|(id, _)| *id)
            .collect()
    }

    /// When [`Self::overdue`] has something to say.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.table.values().map(Connection::deadline).min()
    }

    /// Whether there is room for one more, after closing the one that was quiet for longest.
    fn make_room(&mut self, now: Instant, out: &mut VecDeque<SipTransmit>) -> bool {
        if self.table.len() < MAX_CONNECTIONS {
            return true;
        }
        let quietest = self
            .table
            .iter()
            .filter_map(|(id, connection)| match &connection.state {
                State::Open { last_used, .. } => Some((*last_used, *id)),
                State::Connecting { .. } => None,
            })
            .min();
        match quietest {
            Some((last_used, id)) if now.duration_since(last_used) >= SPARE => {
                self.close(id, out);
                true
            }
            _ => false,
        }
    }
}

impl Connection {
    fn deadline(&self) -> Instant {
        match &self.state {
            State::Connecting { since, .. } => *since + CONNECT_PATIENCE,
            State::Open {
                last_used,
                message_due,
                pongs,
                ..
            } => {
                let idle = *last_used + IDLE;
                let pong_due = match pongs {
                    Pongs::DueBy(due) => Some(*due),
                    Pongs::NeverAsked | Pongs::Asked | Pongs::Came => None,
                };
                let due = [*message_due, pong_due].into_iter().flatten();
                due.fold(idle, Instant::min)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    #[test]
    fn one_connection_serves_a_peer_and_waiting_bytes_leave_in_order() {
        let now = Instant::now();
        let mut out = VecDeque::new();
        let mut connections = Connections::default();
        let id = connections.reach(now, peer(5060), None, &mut out).unwrap();
        assert_eq!(connections.reach(now, peer(5060), None, &mut out), Some(id));
        assert!(connections.send(now, id, b"1".to_vec(), &mut out));
        assert!(connections.send(now, id, b"2".to_vec(), &mut out));
        assert_eq!(
            out.drain(..).collect::<Vec<_>>(),
            [SipTransmit::Connect {
                connection: id,
                to: peer(5060),
                tls: None
            }]
        );
        connections.handle_connected(now, id, &mut out);
        let sent: Vec<_> = out
            .drain(..)
            .filter_map(|transmit| match transmit {
                SipTransmit::Stream { payload, .. } => Some(payload),
                _ => None,
            })
            .collect();
        assert_eq!(sent, [b"1".to_vec(), b"2".to_vec()]);
    }

    #[test]
    fn a_flood_of_connections_is_turned_away_until_old_ones_are_quiet() {
        let now = Instant::now();
        let mut out = VecDeque::new();
        let mut connections = Connections::default();
        for port in 0..200 {
            let id = connections.new_id();
            connections.handle_accepted(now, id, peer(port), false, &mut out);
        }
        assert_eq!(connections.table.len(), MAX_CONNECTIONS);
        assert_eq!(out.len(), 200 - MAX_CONNECTIONS);
        let id = connections.new_id();
        connections.handle_accepted(now + SPARE, id, peer(999), false, &mut out);
        assert!(connections.is_open(id));
        assert_eq!(connections.table.len(), MAX_CONNECTIONS);
    }

    #[test]
    fn a_message_that_never_ends_is_not_waited_for() {
        let now = Instant::now();
        let mut out = VecDeque::new();
        let mut connections = Connections::default();
        let id = connections.new_id();
        connections.handle_accepted(now, id, peer(1), false, &mut out);
        let ping = connections.handle_stream(now, id, b"\r\n\r\n", &mut out);
        assert!(ping.is_some_and(|(_, inputs)| inputs.is_empty()));
        assert_eq!(out.len(), 1, "a CRLF in return");
        let later = now + Duration::from_secs(1);
        connections.handle_stream(later, id, b"OPTIONS sip:", &mut out);
        assert_eq!(connections.poll_timeout(), Some(later + MESSAGE_PATIENCE));
        assert_eq!(connections.overdue(later + MESSAGE_PATIENCE), [id]);
    }
}
