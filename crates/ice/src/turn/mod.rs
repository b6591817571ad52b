//! A TURN client (RFC 8656): one allocation at one server, made from one socket or, over TCP and
//! TLS, by a connection of its own.
//!
//! Before working here, read RFC 8656 sections 7 to 12. Permissions and channels come by
//! themselves with what is sent; the request for a permission goes right before the first packet
//! to its peer, so that both arrive together.

mod credentials;
mod framing;
mod message;
mod names;
mod peers;
mod requests;
mod server;
mod staying;
mod stream;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use self::credentials::Challenge;
use self::message::{FIRST_CHANNEL, Families, Said, Wish};
use self::names::Names;
use self::peers::{Channel, Peer};
use self::requests::Pending;
pub use self::server::{TurnServer, TurnTransport};
use self::stream::{Content, Way};
pub use self::stream::{TurnStream, TurnStreamWish};
use crate::gather::Base;
use crate::seed::Randomness;
use crate::stun::TransactionId;

/// The lifetime that we ask for: RFC 8656 section 3.2's default.
const LIFETIME: Duration = Duration::from_secs(600);
/// An allocation is refreshed so long before its end, a short one after half its time.
const REFRESH_AHEAD: Duration = Duration::from_secs(60);
/// RFC 8445 section 11 wants at least 15 s between keepalives.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// Until the round trip is known, a request is sent again after so long.
const FIRST_RTO: Duration = Duration::from_millis(120);
/// After a lost allocation or a silent server, so many new ones are tried.
const MOST_ALLOCATIONS: u32 = 5;
/// Datagrams that wait for their owner.
const MOST_OUT: usize = 256;

/// How far the allocation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// To be asked for as soon as the pacing allows after this time.
    Asking { at: Instant },
    /// Asked for.
    Asked,
    /// It stands.
    Allocated,
    /// It is being given back.
    Releasing,
    /// Refused for good, or released.
    Closed,
}

/// What goes out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outbound {
    /// A datagram to the server.
    Datagram(Vec<u8>),
    /// For the connection to it.
    Stream(TurnStreamWish),
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
    names: Names,
    /// Whether the server has said that the allocation stands since candidates were gathered.
    verified: bool,
    /// Whether peers may know it.
    told: bool,
    /// Whether the server was silent the last time, when others were not.
    hopeless: bool,
    mapped: Option<SocketAddr>,
    pending: Vec<Pending>,
    peers: Vec<Peer>,
    channels: Vec<Channel>,
    next_channel: u16,
    refresh: Instant,
    keepalive: Instant,
    /// Whether the server has forgotten an allocation of ours.
    lost: bool,
    /// When a server that was given up may be asked once more: it was silent, or had no room.
    again: Option<Instant>,
    attempts: u32,
    /// How often something was in the way of the allocation.
    mismatches: u32,
    rto: Duration,
    families: Families,
    way: Way,
    out: VecDeque<Outbound>,
}

impl Relay {
    pub(crate) fn new(base: Base, server: TurnServer, now: Instant) -> Self {
        Self {
            base,
            way: Way::of(&server),
            server,
            state: State::Asking { at: now },
            challenge: None,
            names: Names::default(),
            verified: false,
            told: false,
            hopeless: false,
            mapped: None,
            pending: Vec::new(),
            peers: Vec::new(),
            channels: Vec::new(),
            next_channel: FIRST_CHANNEL,
            refresh: now,
            keepalive: now,
            lost: false,
            again: None,
            attempts: 0,
            mismatches: 0,
            rto: FIRST_RTO,
            families: Families::Both,
            out: VecDeque::new(),
        }
    }

    /// The same, to be asked for a little later.
    pub(crate) fn not_before(mut self, at: Instant) -> Self {
        self.state = State::Asking { at };
        self
    }

    pub(crate) fn base(&self) -> &Base {
        &self.base
    }

    /// Whether the server has said that the allocation stands since candidates were gathered.
    pub(crate) fn is_verified(&self) -> bool {
        self.state == State::Allocated && self.verified
    }

    /// Whether it was refused for good, or given back.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.state, State::Releasing | State::Closed)
    }

    /// Whether nothing is left to be sent or waited for.
    pub(crate) fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    pub(crate) fn server(&self) -> &TurnServer {
        &self.server
    }

    /// Whether both are the same server's for the same socket, by whatever transports.
    pub(crate) fn is_rival_of(&self, other: &Self) -> bool {
        self.base.address == other.base.address
            && self.server.address.ip() == other.server.address.ip()
    }

    /// The relayed candidates' addresses, for as long as the allocation or its successor lives.
    pub(crate) fn relayed(&self) -> impl Iterator<Item = SocketAddr> {
        let over = self.is_over();
        self.names.known().filter(move |_| !over)
    }

    /// The relayed addresses by which ICE knows the allocation, or knew it before the last restart.
    pub(crate) fn names(&self) -> impl Iterator<Item = SocketAddr> {
        self.names.all()
    }

    /// Whether such a candidate is or was this allocation's.
    pub(crate) fn has(&self, candidate: SocketAddr) -> bool {
        self.names.all().any(|own| own == candidate)
    }

    /// The candidate that what a peer sends comes to: the one of its address family.
    pub(crate) fn relayed_towards(&self, peer: SocketAddr) -> Option<SocketAddr> {
        self.relayed().find(|own| own.is_ipv4() == peer.is_ipv4())
    }

    /// What is gathered by now is told to peers.
    pub(crate) fn tell(&mut self) {
        self.told |= self.names.is_known();
    }

    /// Whether peers may know the allocation's addresses.
    pub(crate) fn is_told(&self) -> bool {
        self.told
    }

    /// The address of ours that the server saw when it made the allocation.
    pub(crate) fn mapped(&self) -> Option<SocketAddr> {
        self.mapped
    }

    /// The server-reflexive candidate that came with the allocation: that of our socket, so there
    /// is none over TCP and TLS, whose connections have ports of their own.
    pub(crate) fn reflexive(&self) -> Option<SocketAddr> {
        self.mapped.filter(|_| matches!(self.way, Way::Datagrams))
    }

    /// Whether the server has answered, or never will.
    pub(crate) fn is_settled(&self) -> bool {
        self.is_verified() || self.is_over()
    }

    /// When the allocation is to be asked for; the owner paces that.
    pub(crate) fn due(&self) -> Option<Instant> {
        match self.state {
            State::Asking { at } => Some(at),
            _ => None,
        }
    }

    /// Asks for the allocation; over TCP and TLS as soon as there is a connection, which gets this
    /// number.
    pub(crate) fn ask(&mut self, now: Instant, stream: TurnStream, randomness: &mut Randomness) {
        self.attempts += 1;
        self.state = State::Asked;
        if self.is_reached(now, stream) {
            self.allocate(now, randomness);
        }
    }

    fn allocate(&mut self, now: Instant, randomness: &mut Randomness) {
        self.keepalive = now + KEEPALIVE;
        let wish = Wish::Allocate {
            families: self.families,
            lifetime: LIFETIME,
        };
        self.request(now, wish, randomness);
    }

    /// A message to the server; dropped as by a network where it cannot go.
    fn push(&mut self, payload: Vec<u8>, content: Content) {
        if self.out.len() >= MOST_OUT {
            return;
        }
        if let Some(out) = self.way.wrap(payload, content) {
            self.out.push_back(out);
        }
    }

    /// What is to go out next.
    pub(crate) fn poll_out(&mut self) -> Option<Outbound> {
        self.out.pop_front()
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
                    self.granted(now, pending.wish, (relayed, mapped), lifetime, randomness);
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

    /// Time has passed: requests are repeated, what stands is refreshed.
    pub(crate) fn handle_timeout(&mut self, now: Instant, randomness: &mut Randomness) {
        self.repeat(now, randomness);
        self.give_up_connecting(now);
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
                self.push(payload, Content::Request);
            }
        }
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let pending = self.pending.iter().map(|pending| pending.at);
        let standing = (self.state == State::Allocated).then_some([self.refresh, self.keepalive]);
        let peers = self.peers.iter().map(|peer| peer.renew);
        let channels = self.channels.iter().map(|channel| channel.renew);
        pending
            .chain(self.way.connecting_until())
            .chain(standing.into_iter().flatten())
            .chain(peers)
            .chain(channels)
            .min()
    }

    /// Gives the allocation back (RFC 8656 section 8: a lifetime of zero). That request is repeated
    /// and its stale nonce answered like any other's, for as long as the owner lets it.
    pub(crate) fn release(&mut self, now: Instant, randomness: &mut Randomness) {
        if self.is_over() {
            return;
        }
        let stands = self.state == State::Allocated;
        self.forget();
        if stands {
            self.state = State::Releasing;
            let lifetime = Duration::ZERO;
            self.request(now, Wish::Refresh { lifetime }, randomness);
        } else {
            self.end();
        }
    }

    /// Nothing follows any more.
    pub(crate) fn end(&mut self) {
        self.forget();
        self.hang_up();
        self.state = State::Closed;
    }

    fn forget(&mut self) {
        self.pending.clear();
        self.peers.clear();
        self.channels.clear();
        self.next_channel = FIRST_CHANNEL;
    }
}

fn refresh_after(lifetime: Option<Duration>) -> Duration {
    let lifetime = lifetime.unwrap_or(LIFETIME).max(Duration::from_secs(2));
    lifetime.saturating_sub(REFRESH_AHEAD).max(lifetime / 2)
}
