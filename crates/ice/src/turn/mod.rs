//! A TURN client over UDP (RFC 8656): one allocation, made from one socket at one server.
//!
//! Before working here, read RFC 8656 sections 7 to 12. Permissions and channels come by
//! themselves with what is sent; the request for a permission goes right before the first packet
//! to its peer, so that both arrive together.

mod message;
mod peers;
mod requests;
mod server;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use self::message::{Challenge, FIRST_CHANNEL, Said, Wish};
use self::peers::{Channel, Peer};
use self::requests::Pending;
pub use self::server::TurnServer;
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
    /// Refused for good, or released.
    Closed,
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
    /// The address that the allocation has, and by which ICE knew it before the last restart.
    actual: Option<SocketAddr>,
    former: Option<SocketAddr>,
    /// Whether ICE is to know a successor by its own address.
    renames: bool,
    verified: bool,
    mapped: Option<SocketAddr>,
    pending: Vec<Pending>,
    peers: Vec<Peer>,
    channels: Vec<Channel>,
    next_channel: u16,
    refresh: Instant,
    keepalive: Instant,
    /// Whether the server has forgotten an allocation of ours.
    lost: bool,
    /// Whether it was given up because the server is silent.
    silent: bool,
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
            actual: None,
            former: None,
            renames: false,
            verified: false,
            mapped: None,
            pending: Vec::new(),
            peers: Vec::new(),
            channels: Vec::new(),
            next_channel: FIRST_CHANNEL,
            refresh: now,
            keepalive: now,
            lost: false,
            silent: false,
            attempts: 0,
            rto: FIRST_RTO,
            out: VecDeque::new(),
        }
    }

    pub(crate) fn base(&self) -> &Base {
        &self.base
    }

    /// Candidates are gathered again, and this allocation is to be among them: the server is asked
    /// whether it still holds it. The same socket may be of another preference now.
    pub(crate) fn stay(&mut self, now: Instant, base: Base, randomness: &mut Randomness) {
        self.base = base;
        self.renames = true;
        self.rename();
        self.verified = false;
        self.attempts = 0;
        match self.state {
            State::Allocated => {
                self.pending
                    .retain(|pending| !matches!(pending.wish, Wish::Refresh { .. }));
                self.request(now, Wish::Refresh { lifetime: LIFETIME }, randomness);
            }
            // The server that was silent is asked anew, not when its turn would have come.
            State::Asking { .. } | State::Asked => {
                self.pending.clear();
                self.state = State::Asking { at: now };
            }
            State::Closed => {}
        }
    }

    /// From now on ICE knows the allocation by the address that it has.
    pub(super) fn rename(&mut self) {
        if self.renames && self.actual.is_some() && self.actual != self.relayed {
            self.former = self.relayed;
            self.relayed = self.actual;
        }
    }

    /// Whether the server has said that the allocation stands since candidates were gathered.
    pub(crate) fn is_verified(&self) -> bool {
        self.state == State::Allocated && self.verified
    }

    /// Whether this is an address by which ICE knows the allocation, or knew it before the last
    /// restart.
    pub(crate) fn is_base(&self, base: SocketAddr) -> bool {
        self.state != State::Closed && [self.relayed, self.former].contains(&Some(base))
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
        self.is_verified() || self.state == State::Closed
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

    /// The server knows the allocation no more: it has restarted, or deleted it, as coturn does
    /// when it cannot send. Another one takes its place.
    fn lost(&mut self, now: Instant) {
        if self.state != State::Allocated {
            return;
        }
        self.lost = true;
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

    /// Whether the server has forgotten an allocation of ours once.
    pub(crate) fn has_been_lost(&self) -> bool {
        self.lost
    }

    /// Asks for a refresh now, whose answer says whether the allocation stands; and a server that
    /// was given up for its silence once more.
    pub(crate) fn verify(&mut self, now: Instant) {
        match self.state {
            State::Allocated => self.refresh = self.refresh.min(now),
            State::Closed if self.silent => {
                self.silent = false;
                self.attempts = 0;
                self.state = State::Asking { at: now };
            }
            _ => {}
        }
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
