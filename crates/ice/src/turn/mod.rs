//! A TURN client over UDP (RFC 8656): one allocation, made from one socket at one server.
//!
//! Before working here, read RFC 8656 sections 7 to 12. Permissions and channels come by
//! themselves with what is sent; the request for a permission goes right before the first packet
//! to its peer, so that both arrive together.

mod message;

use std::collections::VecDeque;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use self::message::{Challenge, FIRST_CHANNEL, LAST_CHANNEL, Said, Wish};
use crate::classify::{PacketKind, classify};
use crate::gather::Base;
use crate::seed::Randomness;
use crate::stun::TransactionId;

/// The lifetime that we ask for: RFC 8656 section 3.2's default.
const LIFETIME: Duration = Duration::from_secs(600);
/// An allocation is refreshed so long before its end, a short one after half its time.
const REFRESH_AHEAD: Duration = Duration::from_secs(60);
/// RFC 8656 section 9: a permission lasts 300 s.
const RENEW_PERMISSION: Duration = Duration::from_secs(240);
/// RFC 8656 section 12: a channel lasts 600 s; it is renewed together with its permission.
const RENEW_CHANNEL: Duration = Duration::from_secs(240);
/// A peer that nothing was sent to for so long is let go.
const IDLE: Duration = Duration::from_secs(240);
/// RFC 8445 section 11 wants at least 15 s between keepalives.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// Until the round trip is known, a request is sent again after so long.
const FIRST_RTO: Duration = Duration::from_millis(120);
/// No request is repeated sooner.
const SHORTEST_RTO: Duration = Duration::from_millis(100);
/// A request is sent so often (RFC 8489 section 6.2.1).
const MOST_SENDINGS: u32 = 7;
/// A request whose nonce is called stale so often is given up.
const MOST_CHALLENGES: u32 = 4;
/// After a lost allocation or a silent server, so many new ones are tried.
const MOST_ALLOCATIONS: u32 = 5;
/// Peers and channels of one allocation, at most.
const MOST_PEERS: usize = 128;
/// Datagrams that wait for their owner.
const MOST_OUT: usize = 256;
/// Transactions of the first request that may still be answered.
const MOST_IDS: usize = 8;

const UNAUTHENTICATED: u16 = 401;
const ALLOCATION_MISMATCH: u16 = 437;
const STALE_NONCE: u16 = 438;

/// A TURN server, reached over UDP, and the user that it knows. `Debug` hides the password.
#[derive(Clone, PartialEq, Eq)]
pub struct TurnServer {
    /// Its address.
    pub address: SocketAddr,
    /// The user name.
    pub user: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for TurnServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TurnServer")
            .field("address", &self.address)
            .field("user", &self.user)
            .field("password", &"…")
            .finish()
    }
}

/// How far the allocation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// To be asked for as soon as the pacing allows after this time.
    Asking { at: Instant },
    /// Asked for.
    Asked,
    /// It stands.
    Allocated,
    /// Refused for good, or released.
    Closed,
}

/// A request without an answer.
#[derive(Debug)]
struct Pending {
    /// One, but several for the request that asks for the challenge.
    ids: VecDeque<TransactionId>,
    wish: Wish,
    payload: Vec<u8>,
    at: Instant,
    sent: Instant,
    interval: Duration,
    sendings: u32,
    challenges: u32,
}

#[derive(Debug)]
struct Peer {
    ip: IpAddr,
    renew: Instant,
    used: Instant,
    refused: bool,
}

#[derive(Debug)]
struct Channel {
    number: u16,
    peer: SocketAddr,
    ready: bool,
    refused: bool,
    renew: Instant,
    used: Instant,
}

/// What a datagram of the server turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Inbound {
    /// Nothing of this allocation's.
    Foreign,
    /// An answer, or something to be dropped.
    Taken,
    /// A peer's datagram.
    Data { peer: SocketAddr, data: Vec<u8> },
}

/// One allocation.
#[derive(Debug)]
pub(crate) struct Relay {
    base: Base,
    server: TurnServer,
    state: State,
    challenge: Option<Challenge>,
    /// The address by which ICE knows the allocation. When the server loses the allocation, its
    /// successor has another one on the wire, and peers see that one as peer-reflexive.
    relayed: Option<SocketAddr>,
    mapped: Option<SocketAddr>,
    pending: Vec<Pending>,
    peers: Vec<Peer>,
    channels: Vec<Channel>,
    next_channel: u16,
    refresh: Instant,
    keepalive: Instant,
    attempts: u32,
    rto: Duration,
    out: VecDeque<Vec<u8>>,
}

impl Relay {
    pub(crate) fn new(base: Base, server: TurnServer, now: Instant) -> Self {
        Self {
            base,
            server,
            state: State::Asking { at: now },
            challenge: None,
            relayed: None,
            mapped: None,
            pending: Vec::new(),
            peers: Vec::new(),
            channels: Vec::new(),
            next_channel: FIRST_CHANNEL,
            refresh: now,
            keepalive: now,
            attempts: 0,
            rto: FIRST_RTO,
            out: VecDeque::new(),
        }
    }

    pub(crate) fn base(&self) -> &Base {
        &self.base
    }

    /// The same socket, perhaps of another preference now.
    pub(crate) fn set_base(&mut self, base: Base) {
        self.base = base;
    }

    /// Whether it was refused for good, or released.
    pub(crate) fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    pub(crate) fn server(&self) -> SocketAddr {
        self.server.address
    }

    /// The relayed candidate's address, for as long as the allocation or its successor lives.
    pub(crate) fn relayed(&self) -> Option<SocketAddr> {
        self.relayed.filter(|_| self.state != State::Closed)
    }

    /// The server-reflexive address that came with the allocation.
    pub(crate) fn mapped(&self) -> Option<SocketAddr> {
        self.mapped
    }

    /// Whether the server has answered, or never will.
    pub(crate) fn is_settled(&self) -> bool {
        matches!(self.state, State::Allocated | State::Closed)
    }

    /// When the allocation is to be asked for; the owner paces that.
    pub(crate) fn due(&self) -> Option<Instant> {
        match self.state {
            State::Asking { at } => Some(at),
            _ => None,
        }
    }

    /// Asks for the allocation.
    pub(crate) fn ask(&mut self, now: Instant, randomness: &mut Randomness) {
        self.attempts += 1;
        self.state = State::Asked;
        self.keepalive = now + KEEPALIVE;
        let wish = Wish::Allocate {
            ipv6: self.base.address.is_ipv6(),
            lifetime: LIFETIME,
        };
        self.request(now, wish, randomness);
    }

    fn request(&mut self, now: Instant, wish: Wish, randomness: &mut Randomness) {
        let id = TransactionId(randomness.transaction_id());
        let challenge = self.challenge.as_ref();
        let Some(payload) = message::request(id, wish, &self.server, challenge) else {
            // A user name or realm that no message can carry.
            self.state = State::Closed;
            return;
        };
        self.push(payload.clone());
        self.pending.push(Pending {
            ids: VecDeque::from([id]),
            wish,
            payload,
            at: now + self.rto,
            sent: now,
            interval: self.rto,
            sendings: 1,
            challenges: 0,
        });
    }

    fn push(&mut self, payload: Vec<u8>) {
        if self.out.len() >= MOST_OUT {
            self.out.pop_front();
        }
        self.out.push_back(payload);
    }

    /// The next datagram to the server.
    pub(crate) fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.out.pop_front()
    }

    /// Sends to a peer, with a permission, and for media by a channel. While the allocation does
    /// not stand, it is dropped as by a network.
    pub(crate) fn send(
        &mut self,
        now: Instant,
        peer: SocketAddr,
        data: &[u8],
        randomness: &mut Randomness,
    ) {
        if self.state != State::Allocated || !self.permit(now, peer.ip(), randomness) {
            return;
        }
        if classify(data) != PacketKind::Stun {
            self.bind(now, peer, randomness);
        }
        let known = self.channels.iter_mut().find(|known| known.peer == peer);
        let wrapped = match known {
            Some(channel) if channel.ready => {
                channel.used = now;
                message::channel_data(channel.number, data)
            }
            _ => {
                let id = TransactionId(randomness.transaction_id());
                message::send_indication(id, peer, data)
            }
        };
        if let Some(wrapped) = wrapped {
            self.keepalive = now + KEEPALIVE;
            self.push(wrapped);
        }
    }

    /// Sees to the permission for a peer; false if it was refused.
    fn permit(&mut self, now: Instant, ip: IpAddr, randomness: &mut Randomness) -> bool {
        if let Some(peer) = self.peers.iter_mut().find(|peer| peer.ip == ip) {
            peer.used = now;
            return !peer.refused;
        }
        if self.peers.len() >= MOST_PEERS {
            return false;
        }
        self.peers.push(Peer {
            ip,
            renew: now + RENEW_PERMISSION,
            used: now,
            refused: false,
        });
        self.request(now, Wish::Permit(ip), randomness);
        true
    }

    /// Sees to a channel for a peer.
    fn bind(&mut self, now: Instant, peer: SocketAddr, randomness: &mut Randomness) {
        let known = self.channels.iter().any(|channel| channel.peer == peer);
        if known || self.channels.len() >= MOST_PEERS || self.next_channel > LAST_CHANNEL {
            return;
        }
        let number = self.next_channel;
        self.next_channel += 1;
        self.channels.push(Channel {
            number,
            peer,
            ready: false,
            refused: false,
            renew: now + RENEW_CHANNEL,
            used: now,
        });
        let wish = Wish::Bind {
            channel: number,
            peer,
        };
        self.request(now, wish, randomness);
    }

    /// A datagram has come from the server to the base.
    pub(crate) fn handle_datagram(
        &mut self,
        now: Instant,
        payload: &[u8],
        randomness: &mut Randomness,
    ) -> Inbound {
        if let Some((number, data)) = message::read_channel_data(payload) {
            let channel = self.channels.iter().find(|known| known.number == number);
            return channel.map_or(Inbound::Taken, |channel| Inbound::Data {
                peer: channel.peer,
                data: data.to_vec(),
            });
        }
        match message::read(payload, &self.server, self.challenge.as_ref()) {
            None => Inbound::Foreign,
            Some(Said::Data { peer, data }) => {
                // RFC 8656 section 11.4: only peers that were permitted.
                if self.peers.iter().any(|known| known.ip == peer.ip()) {
                    Inbound::Data { peer, data }
                } else {
                    Inbound::Taken
                }
            }
            Some(Said::Success {
                id,
                relayed,
                mapped,
                lifetime,
            }) => {
                if let Some(pending) = self.take(id) {
                    self.measure(now, &pending);
                    self.granted(now, pending.wish, (relayed, mapped), lifetime);
                }
                Inbound::Taken
            }
            Some(Said::Error {
                id,
                code,
                challenge,
            }) => {
                if let Some(pending) = self.take(id) {
                    self.measure(now, &pending);
                    self.refused(now, pending, code, challenge, randomness);
                }
                Inbound::Taken
            }
        }
    }

    fn take(&mut self, id: TransactionId) -> Option<Pending> {
        let index = self
            .pending
            .iter()
            .position(|pending| pending.ids.contains(&id))?;
        Some(self.pending.swap_remove(index))
    }

    /// RFC 8489 section 6.2.1 leaves the RTO to a measured round trip; only what was sent once
    /// measures one.
    fn measure(&mut self, now: Instant, pending: &Pending) {
        if pending.sendings == 1 {
            let rtt = now.saturating_duration_since(pending.sent);
            self.rto = (rtt * 2).max(SHORTEST_RTO);
        }
    }

    fn granted(
        &mut self,
        now: Instant,
        wish: Wish,
        (relayed, mapped): (Option<SocketAddr>, Option<SocketAddr>),
        lifetime: Option<Duration>,
    ) {
        match wish {
            Wish::Allocate { .. } => {
                let Some(relayed) = relayed else {
                    self.state = State::Closed;
                    return;
                };
                self.state = State::Allocated;
                self.attempts = 0;
                self.relayed.get_or_insert(relayed);
                self.mapped = self.mapped.or(mapped);
                self.refresh = now + refresh_after(lifetime);
            }
            Wish::Refresh { .. } => self.refresh = now + refresh_after(lifetime),
            Wish::Permit(_) => {}
            Wish::Bind { channel, .. } => {
                let bound = self
                    .channels
                    .iter_mut()
                    .find(|known| known.number == channel);
                if let Some(bound) = bound {
                    bound.ready = true;
                }
            }
        }
    }

    fn refused(
        &mut self,
        now: Instant,
        pending: Pending,
        code: u16,
        challenge: Option<Challenge>,
        randomness: &mut Randomness,
    ) {
        // RFC 8489 section 9.2.5: the first 401 asks for the credentials, a later one refuses them.
        let asks = code == STALE_NONCE || (code == UNAUTHENTICATED && self.challenge.is_none());
        if let (true, Some(challenge)) = (asks, challenge)
            && pending.challenges < MOST_CHALLENGES
        {
            self.challenge = Some(challenge);
            self.request(now, pending.wish, randomness);
            if let Some(again) = self.pending.last_mut() {
                again.challenges = pending.challenges + 1;
            }
            return;
        }
        match pending.wish {
            Wish::Allocate { .. } => self.state = State::Closed,
            _ if code == ALLOCATION_MISMATCH => self.lost(now),
            Wish::Refresh { .. } => self.lost(now),
            Wish::Permit(ip) => {
                let peer = self.peers.iter_mut().find(|peer| peer.ip == ip);
                if let Some(peer) = peer {
                    peer.refused = true;
                }
            }
            Wish::Bind { channel, .. } => {
                let known = self
                    .channels
                    .iter_mut()
                    .find(|known| known.number == channel);
                if let Some(known) = known {
                    known.ready = false;
                    known.refused = true;
                }
            }
        }
    }

    /// The server knows the allocation no more: it has restarted, or deleted it, as coturn does
    /// when it cannot send. Another one takes its place.
    fn lost(&mut self, now: Instant) {
        if self.state != State::Allocated {
            return;
        }
        self.pending.clear();
        self.peers.clear();
        self.channels.clear();
        self.next_channel = FIRST_CHANNEL;
        self.state = if self.attempts < MOST_ALLOCATIONS {
            State::Asking { at: now }
        } else {
            State::Closed
        };
    }

    /// Time has passed: requests are repeated, what stands is refreshed.
    pub(crate) fn handle_timeout(&mut self, now: Instant, randomness: &mut Randomness) {
        self.repeat(now, randomness);
        if self.state != State::Allocated {
            return;
        }
        if self.refresh <= now {
            // The answer sets the true time.
            self.refresh = now + REFRESH_AHEAD;
            self.request(now, Wish::Refresh { lifetime: LIFETIME }, randomness);
        }
        self.renew_permissions(now, randomness);
        self.renew_channels(now, randomness);
        if self.keepalive <= now {
            self.keepalive = now + KEEPALIVE;
            let id = TransactionId(randomness.transaction_id());
            if let Some(payload) = message::keepalive(id) {
                self.push(payload);
            }
        }
    }

    fn repeat(&mut self, now: Instant, randomness: &mut Randomness) {
        let (due, waiting): (Vec<_>, _) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition(|pending| pending.at <= now);
        self.pending = waiting;
        for mut pending in due {
            if pending.sendings >= MOST_SENDINGS {
                self.unanswered(now, pending.wish);
                continue;
            }
            // What asks for the challenge changes nothing, so it can be asked anew; the others
            // are the same transaction, or a lost answer would make an allocation of its own.
            if self.challenge.is_none() {
                let id = TransactionId(randomness.transaction_id());
                if let Some(payload) = message::request(id, pending.wish, &self.server, None) {
                    pending.payload = payload;
                    pending.ids.push_back(id);
                    if pending.ids.len() > MOST_IDS {
                        pending.ids.pop_front();
                    }
                }
            }
            pending.sendings += 1;
            pending.interval *= 2;
            pending.at = now + pending.interval;
            self.push(pending.payload.clone());
            self.pending.push(pending);
        }
    }

    fn unanswered(&mut self, now: Instant, wish: Wish) {
        match wish {
            Wish::Allocate { .. } if self.attempts < MOST_ALLOCATIONS => {
                self.state = State::Asking {
                    at: now + KEEPALIVE,
                };
            }
            Wish::Allocate { .. } => self.state = State::Closed,
            Wish::Refresh { .. } => self.lost(now),
            Wish::Permit(ip) => self.peers.retain(|peer| peer.ip != ip),
            Wish::Bind { channel, .. } => {
                self.channels.retain(|known| known.number != channel);
            }
        }
    }

    fn renew_permissions(&mut self, now: Instant, randomness: &mut Randomness) {
        self.peers
            .retain(|peer| peer.renew > now || now < peer.used + IDLE);
        let mut due = Vec::new();
        for peer in self.peers.iter_mut().filter(|peer| peer.renew <= now) {
            peer.renew = now + RENEW_PERMISSION;
            peer.refused = false;
            due.push(peer.ip);
        }
        for ip in due {
            self.request(now, Wish::Permit(ip), randomness);
        }
    }

    /// A channel that is let go stays bound for a while at the server; its number is not used
    /// again, so that nothing needs to wait for that.
    fn renew_channels(&mut self, now: Instant, randomness: &mut Randomness) {
        self.channels
            .retain(|known| known.renew > now || now < known.used + IDLE);
        let mut due = Vec::new();
        for known in self.channels.iter_mut().filter(|known| known.renew <= now) {
            known.renew = now + RENEW_CHANNEL;
            if !known.refused {
                due.push(Wish::Bind {
                    channel: known.number,
                    peer: known.peer,
                });
            }
        }
        for wish in due {
            self.request(now, wish, randomness);
        }
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let pending = self.pending.iter().map(|pending| pending.at);
        let standing = (self.state == State::Allocated).then_some([self.refresh, self.keepalive]);
        let peers = self.peers.iter().map(|peer| peer.renew);
        let channels = self.channels.iter().map(|channel| channel.renew);
        pending
            .chain(standing.into_iter().flatten())
            .chain(peers)
            .chain(channels)
            .min()
    }

    /// Gives the allocation back (RFC 8656 section 8: a lifetime of zero). Nothing follows: when
    /// that one request is lost, the server's own clock ends the allocation.
    pub(crate) fn release(&mut self, now: Instant, randomness: &mut Randomness) {
        if self.state == State::Allocated {
            let lifetime = Duration::ZERO;
            self.request(now, Wish::Refresh { lifetime }, randomness);
        }
        self.state = State::Closed;
        self.pending.clear();
        self.peers.clear();
        self.channels.clear();
    }
}

fn refresh_after(lifetime: Option<Duration>) -> Duration {
    let lifetime = lifetime.unwrap_or(LIFETIME).max(Duration::from_secs(2));
    lifetime.saturating_sub(REFRESH_AHEAD).max(lifetime / 2)
}
