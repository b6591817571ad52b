//! The connections of TCP candidates (RFC 6544), sans-IO: who opens and accepts them, the framing
//! on them (RFC 4571), and which are closed.

mod framing;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use self::framing::{Deframer, frame};
use crate::candidate::{TcpType, TransportProtocol};
use crate::classify::{PacketKind, classify};
use crate::event::Path;

/// Whoever connects has so long to send a check that is keyed with our password.
const STRANGERS_TIME: Duration = Duration::from_secs(5);
/// Accepted connections of one call at a time. A peer needs one for each of its addresses; when
/// there is one too many, the oldest of a stranger makes way.
const MOST_ACCEPTED: usize = 16;
/// Connections of one call that we open, or are about to: a peer that names many addresses does not
/// make us knock everywhere.
const MOST_OPENED: usize = 16;
/// A simultaneous open that was refused, by a NAT that the peer has not opened yet, is tried so
/// often altogether, with this pause (RFC 6544 section 7.1).
const MOST_ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(300);
/// The longest packet of a stranger: a check has about 120 bytes, 620 with the longest names.
const STRANGERS_LONGEST: usize = 1024;
/// The longest packet of the peer: nothing that we agree to is sent in longer ones.
const LONGEST: usize = 8192;

/// One connection, numbered by the [`TcpFlows`] that it belongs to; never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowId(pub u64);

/// What is to be done, and what has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FlowOutput {
    /// Connect; the answer is [`TcpFlows::handle_connected`] or [`TcpFlows::handle_closed`].
    Connect {
        /// The connection.
        flow: FlowId,
        /// The local address to leave from; port 0 is any.
        from: SocketAddr,
        /// The peer's address.
        to: SocketAddr,
    },
    /// Close.
    Close {
        /// The connection.
        flow: FlowId,
    },
    /// A connection that was wished for stands: for
    /// [`IceSession::handle_opened`](crate::IceSession::handle_opened).
    Opened(Path),
    /// A connection is no more: for [`IceSession::handle_lost`](crate::IceSession::handle_lost).
    Lost(Path),
    /// A packet of the peer.
    Packet {
        /// The way it came.
        path: Path,
        /// STUN, RTP or RTCP.
        payload: Vec<u8>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Ours, not yet there; the how manieth attempt.
    Opening { attempt: u32 },
    /// A simultaneous open that was refused, before the next attempt.
    Pausing { until: Instant, attempt: u32 },
    /// Accepted; no check of the peer has come by it, and it is closed then.
    Stranger { until: Instant },
    /// Ours, or the peer's by its checks.
    Open,
}

#[derive(Debug)]
struct Flow {
    path: Path,
    accepted: bool,
    state: State,
    deframer: Deframer,
}

impl Flow {
    fn new(path: Path, accepted: bool, state: State) -> Self {
        let deframer = Deframer::default();
        Self {
            path,
            accepted,
            state,
            deframer,
        }
    }

    fn is_there(&self) -> bool {
        matches!(self.state, State::Stranger { .. } | State::Open)
    }

    fn connect(&self, flow: FlowId) -> FlowOutput {
        let Path { base, remote, .. } = self.path;
        let from = if is_simultaneous(self.path) {
            base
        } else {
            SocketAddr::new(base.ip(), 0)
        };
        let to = remote;
        FlowOutput::Connect { flow, from, to }
    }
}

fn is_simultaneous(path: Path) -> bool {
    path.protocol == TransportProtocol::Tcp(TcpType::SimultaneousOpen)
}

/// The connections of one call.
///
/// Poll [`poll_output`](Self::poll_output) until empty after each input, then
/// [`poll_timeout`](Self::poll_timeout).
#[derive(Debug, Default)]
pub struct TcpFlows {
    flows: BTreeMap<FlowId, Flow>,
    next: u64,
    out: VecDeque<FlowOutput>,
}

impl TcpFlows {
    /// Without connections.
    pub fn new() -> Self {
        Self::default()
    }

    fn find(&self, path: Path) -> Option<(FlowId, &Flow)> {
        let mut flows = self.flows.iter();
        let found = flows.find(|(_, flow)| flow.path == path);
        found.map(|(id, flow)| (*id, flow))
    }

    fn insert(&mut self, flow: Flow) -> FlowId {
        let id = FlowId(self.next);
        self.next += 1;
        self.flows.insert(id, flow);
        id
    }

    /// Opens the connection of a path, unless it stands or is being opened.
    pub fn open(&mut self, path: Path) {
        match self.find(path) {
            Some((_, flow)) if flow.is_there() => {
                return self.out.push_back(FlowOutput::Opened(path));
            }
            Some(_) => return,
            None => {}
        }
        let opened = self.flows.values().filter(|flow| !flow.accepted);
        // A port that connects to itself gets through (RFC 9293 section 3.5).
        if opened.count() >= MOST_OPENED || path.remote == path.base {
            return self.out.push_back(FlowOutput::Lost(path));
        }
        let flow = Flow::new(path, false, State::Opening { attempt: 1 });
        self.start(flow);
    }

    fn start(&mut self, flow: Flow) {
        let id = self.insert(flow);
        if let Some(flow) = self.flows.get(&id) {
            self.out.push_back(flow.connect(id));
        }
    }

    /// Somebody has connected to the socket that listens on `base`, for a passive candidate or for
    /// one of simultaneous open; the number of the connection, or nothing if there are too many.
    pub fn handle_accepted(
        &mut self,
        now: Instant,
        tcp_type: TcpType,
        base: SocketAddr,
        from: SocketAddr,
    ) -> Option<FlowId> {
        let path = Path {
            protocol: TransportProtocol::Tcp(tcp_type),
            base,
            remote: from,
        };
        let mut opening = false;
        if let Some((old, flow)) = self.find(path) {
            if flow.is_there() {
                // The system tells of no second connection between the same two ports while one
                // stands.
                self.end(old);
            } else {
                // The peer's SYN came before ours left: this is the connection that was wished for.
                opening = true;
                self.flows.remove(&old);
                self.out.push_back(FlowOutput::Close { flow: old });
            }
        }
        let accepted = self.flows.values().filter(|flow| flow.accepted);
        if accepted.count() >= MOST_ACCEPTED {
            let mut flows = self.flows.iter();
            let oldest = flows.find(|(_, flow)| matches!(flow.state, State::Stranger { .. }));
            match oldest.map(|(id, _)| *id) {
                Some(oldest) => self.end(oldest),
                None => {
                    if opening {
                        self.out.push_back(FlowOutput::Lost(path));
                    }
                    return None;
                }
            }
        }
        if opening {
            self.out.push_back(FlowOutput::Opened(path));
        }
        let until = now + STRANGERS_TIME;
        Some(self.insert(Flow::new(path, true, State::Stranger { until })))
    }

    /// A connection of [`FlowOutput::Connect`] stands.
    pub fn handle_connected(&mut self, flow: FlowId) {
        if let Some(flow) = self.flows.get_mut(&flow)
            && matches!(flow.state, State::Opening { .. })
        {
            flow.state = State::Open;
            self.out.push_back(FlowOutput::Opened(flow.path));
        }
    }

    /// A connection could not be opened, or was closed by the other side.
    pub fn handle_closed(&mut self, now: Instant, id: FlowId) {
        if let Some(flow) = self.flows.get_mut(&id)
            && let State::Opening { attempt } = flow.state
            && is_simultaneous(flow.path)
            && attempt < MOST_ATTEMPTS
        {
            let until = now + PAUSE;
            flow.state = State::Pausing { until, attempt };
        } else if let Some(flow) = self.flows.remove(&id) {
            self.out.push_back(FlowOutput::Lost(flow.path));
        }
    }

    /// Bytes have come. Whoever sends what is no packet, or as a stranger what is no check, is
    /// not listened to any longer.
    pub fn handle_bytes(&mut self, id: FlowId, bytes: &[u8]) {
        let Some(flow) = self.flows.get_mut(&id) else {
            return;
        };
        let stranger = matches!(flow.state, State::Stranger { .. });
        let longest = if stranger { STRANGERS_LONGEST } else { LONGEST };
        let Ok(packets) = flow.deframer.read(bytes, longest) else {
            return self.end(id);
        };
        let is_check = |packet: &Vec<u8>| classify(packet) == PacketKind::Stun;
        if stranger && !packets.first().is_none_or(is_check) {
            return self.end(id);
        }
        let path = flow.path;
        let packets = packets.into_iter();
        self.out
            .extend(packets.map(|payload| FlowOutput::Packet { path, payload }));
    }

    /// A check keyed with our password has come by this connection: it is the peer's.
    pub fn admit(&mut self, path: Path) {
        let mut flows = self.flows.values_mut();
        if let Some(flow) = flows.find(|flow| flow.path == path)
            && matches!(flow.state, State::Stranger { .. })
        {
            flow.state = State::Open;
        }
    }

    /// What to write for a packet that goes this way, and where: length and packet, all of it or,
    /// on a connection that is too slow, nothing. Nothing either while no connection stands: like
    /// a datagram, a packet may be lost.
    pub fn frame(&self, path: Path, packet: &[u8]) -> Option<(FlowId, Vec<u8>)> {
        let (id, flow) = self.find(path)?;
        if !flow.is_there() {
            return None;
        }
        Some((id, frame(packet)?))
    }

    /// Closes every connection but those that are needed.
    pub fn keep_only(&mut self, needed: impl Fn(Path) -> bool) {
        let needless: Vec<FlowId> = self
            .flows
            .iter()
            .filter(|(_, flow)| !needed(flow.path))
            .map(|(id, _)| *id)
            .collect();
        for id in needless {
            self.end(id);
        }
    }

    /// Closes a connection from here.
    fn end(&mut self, id: FlowId) {
        if let Some(flow) = self.flows.remove(&id) {
            self.out.push_back(FlowOutput::Close { flow: id });
            self.out.push_back(FlowOutput::Lost(flow.path));
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        let over = |flow: &Flow| matches!(flow.state, State::Stranger { until } if until <= now);
        let strangers: Vec<FlowId> = self
            .flows
            .iter()
            .filter(|(_, flow)| over(flow))
            .map(|(id, _)| *id)
            .collect();
        for id in strangers {
            self.end(id);
        }
        for (id, flow) in &mut self.flows {
            if let State::Pausing { until, attempt } = flow.state
                && until <= now
            {
                let attempt = attempt + 1;
                flow.state = State::Opening { attempt };
                self.out.push_back(flow.connect(*id));
            }
        }
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let untils = self.flows.values().filter_map(|flow| match flow.state {
            State::Stranger { until } | State::Pausing { until, .. } => Some(until),
            State::Opening { .. } | State::Open => None,
        });
        untils.min()
    }

    /// What is to be done, or has come, next.
    pub fn poll_output(&mut self) -> Option<FlowOutput> {
        self.out.pop_front()
    }
}

#[cfg(test)]
mod tests;
