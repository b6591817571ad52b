//! Permissions and channels (RFC 8656 sections 9 and 12), and what is sent by them.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::message::{self, LAST_CHANNEL, Wish};
use super::stream::Content;
use super::{KEEPALIVE, Relay, State};
use crate::classify::{PacketKind, classify};
use crate::seed::Randomness;
use crate::stun::TransactionId;

/// RFC 8656 section 9: a permission lasts 300 s.
const RENEW_PERMISSION: Duration = Duration::from_secs(240);
/// RFC 8656 section 12: a channel lasts 600 s; it is renewed together with its permission.
const RENEW_CHANNEL: Duration = Duration::from_secs(240);
/// A peer that nothing was sent to for so long is let go.
const IDLE: Duration = Duration::from_secs(240);
/// Peers and channels of one allocation, at most.
const MOST_PEERS: usize = 128;

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) ip: IpAddr,
    pub(super) renew: Instant,
    pub(super) used: Instant,
    pub(super) refused: bool,
}

#[derive(Debug)]
pub(super) struct Channel {
    pub(super) number: u16,
    pub(super) peer: SocketAddr,
    pub(super) ready: bool,
    pub(super) refused: bool,
    pub(super) renew: Instant,
    pub(super) used: Instant,
}

impl Relay {
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
        // The permission alone was wanted.
        if data.is_empty() {
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
            self.push(wrapped, Content::Packet);
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

    pub(super) fn renew_permissions(&mut self, now: Instant, randomness: &mut Randomness) {
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
    pub(super) fn renew_channels(&mut self, now: Instant, randomness: &mut Randomness) {
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
}
