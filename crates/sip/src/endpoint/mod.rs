//! The user agent: transactions, dialogs, calls and a registration, without any I/O.
//!
//! An [`Endpoint`] is told what happens (`handle_*`) and what the user wants (commands), and is
//! asked what to do. After each of these, poll until there is nothing more, in this order:
//! [`Endpoint::poll_transmit`], [`Endpoint::poll_event`]; then [`Endpoint::poll_timeout`] says
//! when [`Endpoint::handle_timeout`] is wanted.

mod ahead;
mod client;
mod client_transaction;
mod config;
mod credentials;
mod event;
mod keepalive;
mod requests;
mod sending;
mod server;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Instant;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha20Rng;

pub(crate) use client_transaction::{ClientKey, MAX_FORKS, Outcome, Purpose};
pub use config::{
    AuthCredentials, CallHandle, CommandRefused, ConnectionId, DialogId, EndpointConfig, IcePeer,
    LocalAddress, OutgoingInvite, ProgressDelivery, QueryId, RegisterConfig, Rejection,
};
pub use event::{SipEvent, SipTransmit};
pub(crate) use sending::MAX_DATAGRAM;
pub(crate) use server::ServerKey;

/// How many characters a token has, of five bits each.
pub(crate) const TOKEN: usize = 16;
/// What a token is written with.
const DIGITS: &[u8; 32] = b"0123456789abcdefghijkmnpqrstvwxy";

use crate::call::Call;
use crate::dns::LookupResult;
use crate::message::{Message, ParseError};
use crate::registration::Registration;
use crate::sdp::strip_keys;
use crate::transport::{Connections, Flow, Known, Peers, StreamInput, Verified};
use client_transaction::ClientTransaction;
use server::ServerTransaction;

/// A SIP user agent.
#[derive(Debug)]
pub struct Endpoint {
    pub(crate) config: EndpointConfig,
    rng: ChaCha20Rng,
    transmits: VecDeque<SipTransmit>,
    pub(crate) events: VecDeque<SipEvent>,
    connections: Connections,
    peers: Peers,
    known: Known,
    next_query: u64,
    pub(crate) clients: BTreeMap<ClientKey, ClientTransaction>,
    servers: BTreeMap<ServerKey, ServerTransaction>,
    pub(crate) calls: BTreeMap<CallHandle, Call>,
    /// The call whose refusal was polled last: until the next event it can be placed anew.
    pub(crate) last_refused: Option<CallHandle>,
    next_call: u64,
    pub(crate) registration: Option<Registration>,
    keepalive_at: Option<Instant>,
}

impl Endpoint {
    /// A user agent; the same seed gives the same tags, branches and pauses.
    pub fn new(config: EndpointConfig, seed: u64, _now: Instant) -> Self {
        Self {
            config,
            rng: ChaCha20Rng::seed_from_u64(seed),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            connections: Connections::default(),
            peers: Peers::default(),
            known: Known::default(),
            next_query: 0,
            clients: BTreeMap::new(),
            servers: BTreeMap::new(),
            calls: BTreeMap::new(),
            last_refused: None,
            next_call: 0,
            registration: None,
            keepalive_at: None,
        }
    }

    /// The configuration.
    pub fn config(&self) -> &EndpointConfig {
        &self.config
    }

    /// The addresses of this host have changed.
    pub fn set_addresses(&mut self, addresses: Vec<LocalAddress>) {
        self.config.addresses = addresses;
        // What can be reached from here may be another now.
        self.known = Known::default();
    }

    /// Closes every connection: an address of ours is gone, and those that left from it will never
    /// carry anything again. New ones are opened as they are needed.
    pub fn close_connections(&mut self, now: Instant) {
        for connection in self.connections.ids() {
            self.drop_connection(now, connection);
        }
    }

    /// The Call-ID of a call.
    pub fn call_id(&self, call: CallHandle) -> Option<&str> {
        self.calls.get(&call).map(|call| call.call_id.as_str())
    }

    /// Whether nothing is left to be sent or waited for: no call, no transaction of ours under
    /// way (a BYE, the withdrawal of a registration), no answer to be repeated. A standing
    /// registration does not count, nor does what [`Self::abandon`] was said of, nor a request in a
    /// dialog that has ended meanwhile.
    pub fn is_idle(&self) -> bool {
        let abandoned = |key| self.calls.values().any(|call| call.has_abandoned(key));
        let stands = |id: &DialogId| {
            let call = self.calls.get(&id.call);
            call.is_some_and(|call| call.sessions.contains_key(&id.remote_tag))
        };
        let ended = |transaction: &ClientTransaction| match &transaction.purpose {
            Purpose::Reinvite(id) | Purpose::Info(id) => !stands(id),
            _ => false,
        };
        self.calls.values().all(|call| !call.is_active())
            && !self
                .clients
                .iter()
                .filter(|(_, transaction)| transaction.is_awaited() && !ended(transaction))
                .any(|(key, _)| !abandoned(key))
            && !self.servers.values().any(ServerTransaction::awaits_ack)
    }

    /// A datagram has come to the socket `local` of the configuration.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        local: SocketAddr,
        from: SocketAddr,
        payload: &[u8],
    ) {
        let flow = Flow::Udp {
            local,
            remote: from,
        };
        self.handle_message(now, Message::parse_datagram(payload), flow);
    }

    /// A connection that the endpoint asked for is open; `local` is its address here, if that is
    /// known.
    pub fn handle_connected(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        local: Option<SocketAddr>,
    ) {
        if let Some(local) = local {
            self.connections.set_local(connection, local);
            self.print_again(connection);
        }
        self.connections
            .handle_connected(now, connection, &mut self.transmits);
    }

    /// A number for a connection that the driver has accepted.
    pub fn accepted_id(&mut self) -> ConnectionId {
        self.connections.new_id()
    }

    /// A peer has connected, by TLS if `secure` says so; the number comes from
    /// [`Self::accepted_id`].
    pub fn handle_accepted(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        peer: SocketAddr,
        secure: bool,
    ) {
        self.connections
            .handle_accepted(now, connection, peer, secure, &mut self.transmits);
    }

    /// Bytes have come on a connection.
    pub fn handle_stream(&mut self, now: Instant, connection: ConnectionId, bytes: &[u8]) {
        let Some((flow, inputs)) =
            self.connections
                .handle_stream(now, connection, bytes, &mut self.transmits)
        else {
            return;
        };
        for input in inputs {
            match input {
                StreamInput::Message(message) => self.handle_message(now, message, flow),
                StreamInput::Broken => self.drop_connection(now, connection),
            }
        }
    }

    /// A connection has closed: in order, or because it could not be opened or was reset; then
    /// `error` says why, for people.
    pub fn handle_closed(&mut self, now: Instant, connection: ConnectionId, error: Option<&str>) {
        // One that stood may be opened anew: its NAT may have forgotten it, or the peer restarted.
        let refused = error.filter(|_| !self.connections.is_open(connection));
        if let Some(flow) = self.connections.forget(connection) {
            if refused.is_some() && !flow.is_secure() {
                self.peers.tcp_failed(now, flow.remote());
            }
            self.connection_lost(now, connection, refused);
        }
    }

    /// A look-up was carried out.
    pub fn handle_resolved(&mut self, now: Instant, query: QueryId, result: LookupResult) {
        self.client_resolved(now, query, result);
    }

    /// The time that [`Self::poll_timeout`] gave has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        for connection in self.connections.overdue(now) {
            self.drop_connection(now, connection);
        }
        self.client_timeouts(now);
        self.server_timeouts(now);
        self.call_timeouts(now);
        self.registration_timeout(now);
        self.keepalive_timeout(now);
    }

    /// What the driver has to do next.
    pub fn poll_transmit(&mut self) -> Option<SipTransmit> {
        self.transmits.pop_front()
    }

    /// What has happened.
    pub fn poll_event(&mut self) -> Option<SipEvent> {
        self.forget_refused();
        let event = self.events.pop_front();
        if let Some(SipEvent::Refused { call, .. }) = &event {
            self.last_refused = Some(*call);
        }
        event
    }

    /// When [`Self::handle_timeout`] is wanted next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [
            self.connections.poll_timeout(),
            self.client_deadline(),
            self.server_deadline(),
            self.call_deadline(),
            self.registration
                .as_ref()
                .and_then(Registration::poll_timeout),
            self.keepalive_at,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn handle_message(&mut self, now: Instant, message: Result<Message, ParseError>, flow: Flow) {
        match message {
            Ok(Message::Request(mut request)) => {
                keep_secrets(flow, &mut request.body);
                self.handle_request(now, request, flow);
            }
            Ok(Message::Response(mut response)) => {
                keep_secrets(flow, &mut response.body);
                self.handle_response(now, response, flow);
            }
            Err(error) => {
                tracing::debug!(%error, from = %flow.remote(), "not a SIP message");
                if let Some(reply) = error.reply() {
                    self.handle_faulty(now, reply, flow);
                }
            }
        }
    }

    /// Closes a connection from this side.
    fn drop_connection(&mut self, now: Instant, connection: ConnectionId) {
        let never_opened = !self.connections.is_open(connection);
        self.connections.close(connection, &mut self.transmits);
        let refused = never_opened.then_some("no answer");
        self.connection_lost(now, connection, refused);
    }

    fn connection_lost(&mut self, now: Instant, connection: ConnectionId, refused: Option<&str>) {
        self.clients_lost(now, connection, refused);
        self.registration_lost(now, connection);
    }

    /// Who is at the other end of a flow that was opened from here by TLS.
    pub(crate) fn verified(&self, flow: Option<Flow>) -> Option<Verified> {
        let connection = flow.and_then(Flow::connection)?;
        self.connections.verified(connection)
    }

    /// A word that nobody can guess, for tags, branches, Call-IDs and client nonces
    /// (RFC 3261 section 19.3 asks for 32 bits at least; these are 80, and no longer than that
    /// since an INVITE has 1300 bytes in a datagram).
    pub(crate) fn token(&mut self) -> String {
        let digit = |shift: usize, number: u128| DIGITS[(number >> (5 * shift)) as usize % 32];
        let number: u128 = self.rng.random();
        (0..TOKEN).map(|n| char::from(digit(n, number))).collect()
    }

    /// A number in `least..=most`.
    pub(crate) fn random(&mut self, least: u64, most: u64) -> u64 {
        self.rng.random_range(least..=most)
    }

    pub(crate) fn new_call(&mut self) -> CallHandle {
        self.next_call += 1;
        CallHandle(self.next_call)
    }
}

/// Keys in a description count only where nobody reads it on the way, and go no other way either
/// (RFC 4568 section 8): by TLS.
pub(crate) fn keep_secrets(flow: Flow, body: &mut Vec<u8>) {
    if !flow.is_secure() {
        strip_keys(body);
    }
}
