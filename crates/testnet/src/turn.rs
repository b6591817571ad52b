//! A TURN server over UDP, TCP and TLS (RFC 8656), which is a STUN server too: allocations with long-term
//! credentials, permissions, channels, and what goes wrong with them in the field.

mod message;
mod stream;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use self::message::{Method, Request, Settled, channel_data, data_indication};
use self::stream::{Client, Streams};
use crate::node::{Delivery, Node, Outbox, StreamId};
use crate::stun::{binding_request, make_binding_success};

/// RFC 8656 section 9: a permission lasts so long.
const PERMISSION: Duration = Duration::from_secs(300);
/// RFC 8656 section 12: a channel lasts so long.
const CHANNEL: Duration = Duration::from_secs(600);
/// RFC 8656 section 7.2: an allocation lasts no longer than asked for, and no longer than this.
const LONGEST_LIFETIME: Duration = Duration::from_secs(3600);
/// RFC 8656 section 7.2: relayed ports come from the dynamic range.
const FIRST_RELAYED_PORT: u16 = 49_152;

const BAD_REQUEST: u16 = 400;
const UNAUTHENTICATED: u16 = 401;
const ALLOCATION_MISMATCH: u16 = 437;
const STALE_NONCE: u16 = 438;
const FAMILY_NOT_SUPPORTED: u16 = 440;
const UNSUPPORTED_TRANSPORT: u16 = 442;
const QUOTA_REACHED: u16 = 486;

/// One client's relayed transport address.
#[derive(Debug)]
struct Allocation {
    client: Client,
    /// One address, or one of each family.
    relayed: Vec<SocketAddr>,
    /// The transaction that made it: its retransmission is answered again.
    made_by: [u8; 12],
    expires: Instant,
    lifetime: Duration,
    permissions: BTreeMap<IpAddr, Instant>,
    channels: BTreeMap<u16, (SocketAddr, Instant)>,
}

impl Allocation {
    fn permits(&self, now: Instant, peer: IpAddr) -> bool {
        self.permissions
            .get(&peer)
            .is_some_and(|until| now < *until)
    }

    fn channel_to(&self, now: Instant, peer: SocketAddr) -> Option<u16> {
        let mut channels = self.channels.iter();
        let found = channels.find(|(_, (to, until))| *to == peer && now < *until);
        found.map(|(number, _)| *number)
    }
}

/// The address families that a client asks for (RFC 8656 section 7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskedFamilies {
    /// IPv4 alone.
    Ipv4,
    /// IPv6 alone.
    Ipv6,
    /// Both in one allocation.
    Both,
}

impl AskedFamilies {
    fn of(request: &Request) -> Self {
        match (request.family, request.additional_family) {
            (Some(2), _) => Self::Ipv6,
            (_, Some(2)) => Self::Both,
            _ => Self::Ipv4,
        }
    }
}

/// A TURN server on every address of its host.
#[derive(Debug)]
pub struct TurnServer {
    user: String,
    password: String,
    nonce: u32,
    nonce_made: Option<Instant>,
    nonce_lifetime: Duration,
    shortest_lifetime: Duration,
    quota: usize,
    unroutable: Option<fn(IpAddr) -> bool>,
    allocations: Vec<Allocation>,
    reboots: Arc<AtomicUsize>,
    rebooted: usize,
    count: Arc<AtomicUsize>,
    relayed_packets: Arc<AtomicUsize>,
    next_port: u16,
    ipv4: Option<IpAddr>,
    ipv6: Option<IpAddr>,
    refuses: Option<fn(AskedFamilies) -> Option<u16>>,
    requests: Arc<AtomicUsize>,
    sha256: bool,
    tls: Option<(u16, String)>,
    streams: Streams,
    out: Vec<Out>,
}

#[derive(Debug)]
enum Out {
    Datagram(SocketAddr, SocketAddr, Vec<u8>),
    Bytes(StreamId, Vec<u8>),
    Close(StreamId),
}

impl TurnServer {
    /// The port that servers have by custom (RFC 8656 section 18).
    pub const PORT: u16 = 3478;

    /// A server that serves this user.
    pub fn new(user: &str, password: &str) -> Self {
        Self {
            user: user.to_owned(),
            password: password.to_owned(),
            nonce: 1,
            nonce_made: None,
            nonce_lifetime: Duration::from_secs(3600),
            shortest_lifetime: Duration::from_secs(600),
            quota: usize::MAX,
            unroutable: None,
            allocations: Vec::new(),
            reboots: Arc::default(),
            rebooted: 0,
            count: Arc::default(),
            relayed_packets: Arc::default(),
            next_port: FIRST_RELAYED_PORT,
            ipv4: None,
            ipv6: None,
            refuses: None,
            requests: Arc::default(),
            sha256: false,
            tls: None,
            streams: Streams::default(),
            out: Vec::new(),
        }
    }

    /// The same, with TLS on this port, whose certificate is for this name: a client that expects
    /// another one, or speaks TLS elsewhere, is cut off. The host must listen on the ports of TCP
    /// and TLS.
    pub fn with_tls(mut self, port: u16, name: &str) -> Self {
        self.tls = Some((port, name.to_owned()));
        self
    }

    /// The same, and whoever asks for IPv6, too or alone, gets a relayed address on this IPv6
    /// address of the host (RFC 8656 section 7.2).
    pub fn with_ipv6(mut self, address: IpAddr) -> Self {
        self.ipv6 = Some(address);
        self
    }

    /// The same, and clients that reach it by IPv6 get a relayed address on this IPv4 address of the
    /// host.
    pub fn with_ipv4(mut self, address: IpAddr) -> Self {
        self.ipv4 = Some(address);
        self
    }

    /// The same, but such an allocation is refused with this code.
    pub fn refusing(mut self, refuses: fn(AskedFamilies) -> Option<u16>) -> Self {
        self.refuses = Some(refuses);
        self
    }

    /// The same, with SHA-256 instead of MD5 and SHA-1 (RFC 8489 section 9.2).
    pub fn with_sha256(mut self) -> Self {
        self.sha256 = true;
        self
    }

    /// The same, with nonces that go stale after so long (438).
    pub fn with_nonce_lifetime(mut self, lifetime: Duration) -> Self {
        self.nonce_lifetime = lifetime;
        self
    }

    /// The same, with allocations that last so long when nobody asks for more than nothing.
    pub fn with_lifetime(mut self, lifetime: Duration) -> Self {
        self.shortest_lifetime = lifetime;
        self
    }

    /// The same, with at most so many allocations at a time (486).
    pub fn with_quota(mut self, quota: usize) -> Self {
        self.quota = quota;
        self
    }

    /// The same, but relaying to such an address deletes the whole allocation, as coturn does when
    /// its own send fails.
    pub fn losing_allocations_towards(mut self, unroutable: fn(IpAddr) -> bool) -> Self {
        self.unroutable = Some(unroutable);
        self
    }

    /// How often the server has been started anew; who raises it takes every allocation and nonce
    /// away.
    pub fn reboots(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.reboots)
    }

    fn reboot_if_asked(&mut self) {
        let asked = self.reboots.load(Ordering::Relaxed);
        if asked != self.rebooted {
            self.rebooted = asked;
            self.allocations.clear();
            self.nonce += 1;
            let broken = self.streams.close_all();
            self.out.extend(broken.map(Out::Close));
        }
    }

    /// How many allocations there are, to be read while the server runs.
    pub fn allocation_count(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.count)
    }

    /// How many allocations were asked for with credentials, to be read while the server runs.
    pub fn allocate_requests(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.requests)
    }

    /// How many packets of peers and clients were relayed, to be read while the server runs.
    pub fn relayed_packets(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.relayed_packets)
    }

    fn nonce(&self) -> String {
        // RFC 8489 section 9.2.1: the cookie, and the bit of the password algorithms.
        let features = if self.sha256 { "obMatJos2gAAA" } else { "" };
        format!("{features}nonce-{}", self.nonce)
    }

    fn handle_datagram(
        &mut self,
        now: Instant,
        local: SocketAddr,
        from: SocketAddr,
        payload: &[u8],
    ) {
        self.reboot_if_asked();
        self.expire(now);
        if let Some(relayed) = self
            .allocations
            .iter()
            .position(|known| known.relayed.contains(&local))
        {
            return self.relay_inwards(now, relayed, from, payload);
        }
        self.handle_client(now, Client::Datagrams { local, from }, local, payload);
    }

    fn handle_client(&mut self, now: Instant, client: Client, local: SocketAddr, payload: &[u8]) {
        if let Some(id) = binding_request(payload) {
            return self.send(client, make_binding_success(id, client.address()));
        }
        let known = self
            .allocations
            .iter()
            .position(|known| known.client == client);
        if let Some((number, data)) = message::read_channel_data(payload) {
            if let Some(index) = known
                && let Some((peer, until)) = self.allocations[index].channels.get(&number)
                && now < *until
            {
                self.relay_outwards(now, index, *peer, data);
            }
            return;
        }
        if let Some((peer, data)) = message::read_send_indication(payload) {
            if let Some(index) = known {
                self.relay_outwards(now, index, peer, &data);
            }
            return;
        }
        if let Some(request) = Request::parse(payload) {
            let answer = match self.authenticate(now, &request) {
                Ok(()) => self.perform(now, (local, client), known, &request),
                Err(code) => Settled::Refused(code),
            };
            let login = (&*self.user, &*self.password);
            let answer = request.answer(&answer, &self.nonce(), login, self.sha256);
            self.send(client, answer);
        }
    }

    fn send(&mut self, client: Client, mut payload: Vec<u8>) {
        self.out.push(match client {
            Client::Datagrams { local, from } => Out::Datagram(local, from, payload),
            Client::Stream { stream, .. } => {
                // RFC 8656 section 12.5.
                payload.resize(payload.len().next_multiple_of(4), 0);
                Out::Bytes(stream, payload)
            }
        });
    }

    fn accept(
        &mut self,
        stream: StreamId,
        (local, from): (SocketAddr, SocketAddr),
        name: Option<&str>,
    ) {
        let (port, certificate) = match &self.tls {
            Some((port, name)) => (Some(*port), Some(&**name)),
            None => (None, None),
        };
        let expected = certificate.filter(|_| port == Some(local.port()));
        if name == expected {
            self.streams.accept(stream, local, from);
        } else {
            self.out.push(Out::Close(stream));
        }
    }

    fn handle_stream(&mut self, now: Instant, stream: StreamId, bytes: &[u8]) {
        self.reboot_if_asked();
        self.expire(now);
        match self.streams.read(stream, bytes) {
            Some((client, local, messages)) => {
                for message in messages {
                    self.handle_client(now, client, local, &message);
                }
            }
            None => {
                self.out.push(Out::Close(stream));
                self.handle_closed(stream);
            }
        }
    }

    /// An allocation does not outlive its connection.
    fn handle_closed(&mut self, stream: StreamId) {
        self.streams.close(stream);
        self.allocations.retain(
            |known| !matches!(known.client, Client::Stream { stream: own, .. } if own == stream),
        );
    }

    /// RFC 8489 section 9.2.4.
    fn authenticate(&mut self, now: Instant, request: &Request) -> Result<(), u16> {
        let made = *self.nonce_made.get_or_insert(now);
        if now >= made + self.nonce_lifetime {
            self.nonce += 1;
            self.nonce_made = Some(now);
        }
        let Some((user, nonce)) = &request.claims else {
            return Err(UNAUTHENTICATED);
        };
        if *nonce != self.nonce() {
            return Err(STALE_NONCE);
        }
        if *user != self.user || !request.is_keyed_with(&self.user, &self.password, self.sha256) {
            return Err(UNAUTHENTICATED);
        }
        if self.sha256 && !request.echoes_algorithms() {
            return Err(BAD_REQUEST);
        }
        Ok(())
    }

    fn perform(
        &mut self,
        now: Instant,
        path: (SocketAddr, Client),
        known: Option<usize>,
        request: &Request,
    ) -> Settled {
        match (request.method, known) {
            (Method::Allocate, _) => self.allocate(now, path, known, request),
            (_, None) => Settled::Refused(ALLOCATION_MISMATCH),
            (Method::Refresh, Some(index)) => self.refresh(now, index, request),
            (Method::CreatePermission, Some(index)) => self.permit(now, index, request),
            (Method::ChannelBind, Some(index)) => self.bind_channel(now, index, request),
        }
    }

    /// RFC 8656 section 7.2.
    fn allocate(
        &mut self,
        now: Instant,
        (server, client): (SocketAddr, Client),
        known: Option<usize>,
        request: &Request,
    ) -> Settled {
        let success = |allocation: &Allocation| Settled::Allocated {
            relayed: allocation.relayed.clone(),
            mapped: client.address(),
            lifetime: allocation.lifetime,
        };
        if let Some(index) = known {
            let allocation = &self.allocations[index];
            return if allocation.made_by == request.id {
                success(allocation)
            } else {
                Settled::Refused(ALLOCATION_MISMATCH)
            };
        }
        if request.transport != Some(17) {
            let missing = request.transport.is_none();
            let code = if missing {
                BAD_REQUEST
            } else {
                UNSUPPORTED_TRANSPORT
            };
            return Settled::Refused(code);
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
        let asked = AskedFamilies::of(request);
        if let Some(code) = self.refuses.and_then(|refuses| refuses(asked)) {
            return Settled::Refused(code);
        }
        if self.allocations.len() >= self.quota {
            return Settled::Refused(QUOTA_REACHED);
        }
        let lifetime = self.lifetime(request.lifetime);
        let relayed = self.relayed_addresses(server.ip(), asked);
        if relayed.is_empty() {
            return Settled::Refused(FAMILY_NOT_SUPPORTED);
        }
        let allocation = Allocation {
            client,
            relayed,
            made_by: request.id,
            expires: now + lifetime,
            lifetime,
            permissions: BTreeMap::new(),
            channels: BTreeMap::new(),
        };
        self.next_port = self.next_port.checked_add(1).unwrap_or(FIRST_RELAYED_PORT);
        let answer = success(&allocation);
        self.allocations.push(allocation);
        answer
    }

    /// Those of the families that were asked for and are there.
    fn relayed_addresses(&self, own: IpAddr, asked: AskedFamilies) -> Vec<SocketAddr> {
        let ipv4 = Some(own).filter(IpAddr::is_ipv4).or(self.ipv4);
        let ipv6 = self.ipv6.or(Some(own).filter(IpAddr::is_ipv6));
        let ipv4 = ipv4.filter(|_| asked != AskedFamilies::Ipv6);
        let ipv6 = ipv6.filter(|_| asked != AskedFamilies::Ipv4);
        let addresses = ipv4.into_iter().chain(ipv6);
        addresses
            .map(|ip| SocketAddr::new(ip, self.next_port))
            .collect()
    }

    fn lifetime(&self, asked: Option<Duration>) -> Duration {
        asked
            .unwrap_or_default()
            .min(LONGEST_LIFETIME)
            .min(self.shortest_lifetime)
            .max(Duration::from_secs(1))
    }

    /// RFC 8656 section 8.2: a lifetime of zero deletes.
    fn refresh(&mut self, now: Instant, index: usize, request: &Request) -> Settled {
        if request.lifetime == Some(Duration::ZERO) {
            self.allocations.remove(index);
            return Settled::Refreshed(Duration::ZERO);
        }
        let lifetime = self.lifetime(request.lifetime.or(Some(self.shortest_lifetime)));
        self.allocations[index].expires = now + lifetime;
        Settled::Refreshed(lifetime)
    }

    /// RFC 8656 section 10.2.
    fn permit(&mut self, now: Instant, index: usize, request: &Request) -> Settled {
        if request.peers.is_empty() {
            return Settled::Refused(BAD_REQUEST);
        }
        let permissions = &mut self.allocations[index].permissions;
        for peer in &request.peers {
            permissions.insert(peer.ip(), now + PERMISSION);
        }
        Settled::Done
    }

    /// RFC 8656 section 12.2: one channel for a peer, one peer for a channel.
    fn bind_channel(&mut self, now: Instant, index: usize, request: &Request) -> Settled {
        let (Some(channel), [peer]) = (request.channel, request.peers.as_slice()) else {
            return Settled::Refused(BAD_REQUEST);
        };
        let allocation = &mut self.allocations[index];
        let bound = allocation.channels.get(&channel);
        let other_peer = bound.is_some_and(|(known, until)| known != peer && now < *until);
        let other_channel = allocation
            .channel_to(now, *peer)
            .is_some_and(|known| known != channel);
        if other_peer || other_channel || !(0x4000..=0x4fff).contains(&channel) {
            return Settled::Refused(BAD_REQUEST);
        }
        allocation.channels.insert(channel, (*peer, now + CHANNEL));
        allocation.permissions.insert(peer.ip(), now + PERMISSION);
        Settled::Done
    }

    /// From the client to a peer.
    fn relay_outwards(&mut self, now: Instant, index: usize, peer: SocketAddr, data: &[u8]) {
        let allocation = &self.allocations[index];
        if !allocation.permits(now, peer.ip()) {
            return;
        }
        if self.unroutable.is_some_and(|fails| fails(peer.ip())) {
            self.allocations.remove(index);
            return;
        }
        self.relayed_packets.fetch_add(1, Ordering::Relaxed);
        let mut relayed = allocation.relayed.iter();
        if let Some(relayed) = relayed.find(|own| own.is_ipv4() == peer.is_ipv4()) {
            self.out.push(Out::Datagram(*relayed, peer, data.to_vec()));
        }
    }

    /// From a peer to the client.
    fn relay_inwards(&mut self, now: Instant, index: usize, peer: SocketAddr, data: &[u8]) {
        let allocation = &self.allocations[index];
        if !allocation.permits(now, peer.ip()) {
            return;
        }
        self.relayed_packets.fetch_add(1, Ordering::Relaxed);
        let wrapped = match allocation.channel_to(now, peer) {
            Some(channel) => channel_data(channel, data),
            None => data_indication(peer, data),
        };
        let client = allocation.client;
        self.send(client, wrapped);
    }

    fn expire(&mut self, now: Instant) {
        self.allocations.retain(|known| now < known.expires);
    }
}

impl Node for TurnServer {
    fn handle_delivery(&mut self, now: Instant, delivery: Delivery) {
        match delivery {
            Delivery::Datagram {
                local,
                from,
                payload,
            } => self.handle_datagram(now, local, from, &payload),
            Delivery::Accepted {
                stream,
                local,
                from,
                tls,
            } => self.accept(stream, (local, from), tls.as_deref()),
            Delivery::StreamBytes { stream, payload } => {
                self.handle_stream(now, stream, &payload);
            }
            Delivery::Closed { stream, .. } => self.handle_closed(stream),
            Delivery::Connected { .. } | Delivery::PortMapped { .. } => {}
        }
        self.count.store(self.allocations.len(), Ordering::Relaxed);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.expire(now);
        self.count.store(self.allocations.len(), Ordering::Relaxed);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.allocations.iter().map(|known| known.expires).min()
    }

    fn drain(&mut self, _now: Instant, out: &mut Outbox) {
        for wish in self.out.drain(..) {
            match wish {
                Out::Datagram(local, to, payload) => out.datagram(local, to, payload),
                Out::Bytes(stream, payload) => out.stream_bytes(stream, payload),
                Out::Close(stream) => out.close(stream),
            }
        }
    }
}
