//! The phone: everything that comes in finds its call here.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;
use ringtrue_sip::message::NameAddr;
use ringtrue_sip::uri::Uri;
use ringtrue_sip::{ConnectionId, Endpoint, RegisterConfig, Rejection, SipEvent, SipTransmit};

mod pool;

use self::pool::WarmSet;
use crate::call::{Call, IncomingInvite};
use crate::desk::{Desk, is_media};
use crate::event::EventKind;
use crate::gathering::{Keeper, MediaSockets, StreamEvent};
use crate::identity::{CallError, SettingsError, endpoint_config, own_identity, parse_target};
use crate::io::{
    BindRequest, CallKey, Connection, Frame, Interface, LookupResult, MapRequest, Output,
    ResolveQuery, Sides,
};
use crate::mapping::Remapped;
use crate::settings::Settings;

/// For how long we register, in seconds.
const REGISTRATION: u32 = 600;

/// A SIP phone, sans-IO.
///
/// After every input and every command: [`Phone::poll_output`] until `None`, then
/// [`Phone::poll_timeout`], and [`Phone::handle_timeout`] when that time has come.
pub struct Phone {
    desk: Desk,
    calls: BTreeMap<CallKey, Call>,
    next_call: u64,
    /// Candidates that are held ready for the calls to come.
    pool: Vec<WarmSet>,
    registering: bool,
    leaving: bool,
}

/// Shows an input to what is left of ended calls, until somebody takes it; closes what is done.
fn see_off(desk: &mut Desk, now: Instant, mut input: impl FnMut(&mut Keeper) -> bool) -> bool {
    let mut partings = std::mem::take(&mut desk.partings);
    let taken = partings.iter_mut().any(|parting| input(parting.keeper()));
    for parting in partings {
        let left = parting.proceed(desk, now);
        desk.partings.extend(left);
    }
    taken
}

impl Phone {
    /// A phone on bound SIP sockets.
    ///
    /// `interfaces` are the host's addresses; `seed` gives every random choice, so it is 32 bytes
    /// of the system's randomness in a real phone; `wall` is the
    /// calendar's time at `now`.
    ///
    /// # Errors
    /// [`SettingsError`], for the user to read.
    pub fn new(
        settings: Settings,
        interfaces: Vec<Interface>,
        sip_sockets: Vec<SocketAddr>,
        seed: [u8; 32],
        now: Instant,
        wall: SystemTime,
    ) -> Result<Self, SettingsError> {
        let config = endpoint_config(&settings, &interfaces, &sip_sockets)?;
        let mut rng = ChaCha20Rng::from_seed(seed);
        let sip = Endpoint::new(config, rng.random(), now);
        let identity = own_identity(&settings)?;
        let clock = (now, wall);
        let mut desk = Desk::new(settings, interfaces, sip_sockets, sip, rng, clock, identity);
        desk.resolve_ice_servers(now);
        let mut phone = Self {
            desk,
            calls: BTreeMap::new(),
            next_call: 0,
            pool: Vec::new(),
            registering: false,
            leaving: false,
        };
        phone.register(now);
        phone.settle(now);
        Ok(phone)
    }

    fn register(&mut self, now: Instant) {
        if !self.desk.settings.register {
            return;
        }
        // The domain of the address of record, without its user (RFC 3261 section 10.2).
        if let Ok(aor) = self.desk.settings.aor.parse::<NameAddr>() {
            let registrar = Uri {
                user: None,
                password: None,
                ..aor.uri
            };
            self.registering = true;
            self.desk.sip.register(
                now,
                RegisterConfig {
                    registrar,
                    expires: REGISTRATION,
                },
            );
        }
    }

    /// Places a call.
    ///
    /// # Errors
    /// [`CallError`], for the user to read.
    pub fn call(&mut self, now: Instant, target: &str) -> Result<CallKey, CallError> {
        let uri = parse_target(target)?;
        let key = self.next_key();
        let call = Call::place(&mut self.desk, now, key, uri);
        self.calls.insert(key, call);
        self.settle(now);
        Ok(key)
    }

    /// Picks up a ringing call; nothing happens to any other.
    pub fn answer(&mut self, now: Instant, call: CallKey) {
        self.with_call(now, call, |call, desk| call.pick_up(desk, now));
    }

    /// Refuses a call that has come in.
    pub fn decline(&mut self, now: Instant, call: CallKey) {
        self.hang_up(now, call);
    }

    /// Ends a call: CANCEL before the answer, BYE after it, a refusal of one that has come in.
    pub fn hang_up(&mut self, now: Instant, call: CallKey) {
        self.with_call(now, call, |call, desk| call.hang_up(desk, now));
    }

    /// Sends a digit, `0`–`9`, `*`, `#` or `A`–`D`, in a connected call (RFC 4733). Nothing happens
    /// to any other, nor when the peer takes none.
    pub fn send_digit(&mut self, now: Instant, call: CallKey, digit: char) {
        self.with_call(now, call, |call, _| call.send_digit(digit));
    }

    /// Restarts ICE in a connected call, by a re-INVITE (RFC 8839 section 4.4.1.1.1); media goes on
    /// meanwhile. Nothing happens to a call without ICE.
    pub fn restart_ice(&mut self, now: Instant, call: CallKey) {
        self.with_call(now, call, |call, desk| call.restart_ice(desk, now));
    }

    /// The host's addresses are these from now on. Sockets of addresses that are gone are closed,
    /// a connected call whose path has lost its address, or for which there is a better one,
    /// restarts ICE, and the phone registers its new contact.
    pub fn handle_interfaces(&mut self, now: Instant, interfaces: Vec<Interface>) {
        if !self.desk.set_interfaces(now, interfaces) {
            return;
        }
        for warm in self.pool.drain(..) {
            warm.gathering.abandon(&mut self.desk, now);
        }
        for call in self.calls.values_mut() {
            call.handle_interfaces(&mut self.desk, now);
        }
        if self.registering && !self.desk.media_addresses().is_empty() {
            self.desk.sip.renew_registration(now);
        }
        self.settle(now);
    }

    /// Ends every call and withdraws the registration. New calls are refused from now on.
    pub fn shut_down(&mut self, now: Instant) {
        self.leaving = true;
        for call in self.calls.values_mut() {
            call.hang_up(&mut self.desk, now);
        }
        for warm in self.pool.drain(..) {
            warm.gathering.abandon(&mut self.desk, now);
        }
        if self.registering {
            self.registering = false;
            self.desk.sip.unregister(now);
        }
        self.settle(now);
    }

    /// Whether nothing is left to be sent or waited for.
    pub fn is_idle(&self) -> bool {
        self.calls.is_empty()
            && self.desk.partings.is_empty()
            && self.desk.sip.is_idle()
            && !self.desk.has_output()
    }

    fn with_call(&mut self, now: Instant, key: CallKey, act: impl FnOnce(&mut Call, &mut Desk)) {
        if let Some(call) = self.calls.get_mut(&key) {
            act(call, &mut self.desk);
        }
        self.settle(now);
    }

    fn next_key(&mut self) -> CallKey {
        self.next_call += 1;
        CallKey(self.next_call)
    }

    /// A datagram has come to one of the phone's sockets.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        local: SocketAddr,
        from: SocketAddr,
        payload: &[u8],
    ) {
        let desk = &mut self.desk;
        if desk.is_sip_socket(local) {
            desk.sip.handle_datagram(now, local, from, payload);
        } else {
            let pool = &mut self.pool;
            let _taken = self
                .calls
                .values_mut()
                .any(|call| call.handle_media_datagram(desk, now, local, from, payload))
                || pool.iter_mut().any(|warm| {
                    warm.gathering
                        .handle_datagram(desk, now, local, from, payload)
                })
                || see_off(desk, now, |keeper| {
                    keeper.handle_datagram(now, local, from, payload)
                });
        }
        self.settle(now);
    }

    /// The answer to [`Output::Bind`]: the socket's address, or why there is none.
    pub fn handle_bound(
        &mut self,
        now: Instant,
        request: BindRequest,
        bound: Result<SocketAddr, String>,
    ) {
        if let Err(message) = &bound {
            let message = format!("no media socket: {message}");
            self.desk.tell(now, None, EventKind::Error { message });
        }
        let local = bound.ok();
        let desk = &mut self.desk;
        let taken = self
            .calls
            .values_mut()
            .any(|call| call.handle_bound(desk, now, request, local))
            || self
                .pool
                .iter_mut()
                .any(|warm| warm.gathering.handle_bound(desk, now, request, local));
        if let (false, Some(local)) = (taken, local) {
            // Whoever wanted it is gone.
            desk.out(Output::Unbind { local });
        }
        self.settle(now);
    }

    /// The answer to [`Output::Listen`]: the socket's address, or why there is none. A call without
    /// one has its paths by UDP.
    pub fn handle_listening(
        &mut self,
        now: Instant,
        request: BindRequest,
        listening: Result<SocketAddr, String>,
    ) {
        let local = listening.ok();
        let desk = &mut self.desk;
        let taken = self
            .calls
            .values_mut()
            .any(|call| call.handle_listening(desk, now, request, local))
            || self
                .pool
                .iter_mut()
                .any(|warm| warm.gathering.handle_listening(desk, now, request, local));
        if let (false, Some(local)) = (taken, local) {
            // Whoever wanted it is gone.
            desk.out(Output::Unlisten { local });
        }
        self.settle(now);
    }

    /// Somebody has connected to a socket of [`Output::Listen`]; gives the connection's number, or
    /// nothing when it is to be closed at once.
    pub fn accepted_media(
        &mut self,
        now: Instant,
        local: SocketAddr,
        peer: SocketAddr,
    ) -> Option<Connection> {
        let desk = &mut self.desk;
        let connection = self
            .calls
            .values_mut()
            .find_map(|call| call.handle_media_accepted(desk, now, local, peer))
            .flatten();
        self.settle(now);
        connection
    }

    fn with_connection(
        &mut self,
        now: Instant,
        connection: Connection,
        act: impl FnOnce(&mut MediaSockets),
    ) {
        let desk = &mut self.desk;
        let mut calls = self.calls.values_mut();
        if let Some(call) = calls.find(|call| call.owns_connection(connection)) {
            call.handle_connection(desk, now, act);
        }
        self.settle(now);
    }

    /// The answer to [`Output::MapPort`]: the external address that leads to the socket, and for
    /// how long from now; none when the router does not answer or maps nothing. It may come at any
    /// time, again whenever the mapping was renewed.
    pub fn handle_port_mapped(
        &mut self,
        now: Instant,
        request: MapRequest,
        external: Option<SocketAddr>,
        lifetime: Duration,
    ) {
        let told = self
            .desk
            .handle_port_mapped(now, request, external, lifetime);
        self.tell_mapped(now, told);
        self.settle(now);
    }

    fn tell_mapped(&mut self, now: Instant, told: impl IntoIterator<Item = Remapped>) {
        let desk = &mut self.desk;
        for told in told {
            let _taken = self
                .calls
                .values_mut()
                .any(|call| call.handle_mapped(desk, now, told))
                || self
                    .pool
                    .iter_mut()
                    .any(|warm| warm.gathering.handle_mapped(desk, now, told));
        }
    }

    /// Somebody has connected to one of the SIP ports, by TLS if `secure` says so; gives the
    /// connection's number.
    pub fn accepted_connection(
        &mut self,
        now: Instant,
        peer: SocketAddr,
        secure: bool,
    ) -> Connection {
        let connection = self.desk.sip.accepted_id();
        self.desk.sip.handle_accepted(now, connection, peer, secure);
        self.settle(now);
        Connection(connection.0)
    }

    /// A connection of [`Output::Connect`] stands; `local` is its address here, if that is known.
    pub fn handle_connected(
        &mut self,
        now: Instant,
        connection: Connection,
        local: Option<SocketAddr>,
    ) {
        if is_media(connection) {
            if self.handle_turn_stream(now, connection, StreamEvent::Connected) {
                return;
            }
            return self.with_connection(now, connection, |sockets| {
                sockets.handle_connected(connection);
            });
        }
        self.desk
            .sip
            .handle_connected(now, ConnectionId(connection.0), local);
        self.settle(now);
    }

    /// Bytes have come on a connection.
    pub fn handle_stream(&mut self, now: Instant, connection: Connection, payload: &[u8]) {
        if is_media(connection) {
            if self.handle_turn_stream(now, connection, StreamEvent::Bytes(payload)) {
                return;
            }
            return self.with_connection(now, connection, |sockets| {
                sockets.handle_stream(connection, payload);
            });
        }
        let connection = ConnectionId(connection.0);
        self.desk.sip.handle_stream(now, connection, payload);
        self.settle(now);
    }

    /// A connection was closed by the other side, or could not be opened (`error`).
    pub fn handle_closed(&mut self, now: Instant, connection: Connection, error: Option<String>) {
        if is_media(connection) {
            if let Some(error) = &error {
                tracing::debug!(%error, "a connection of media ended");
            }
            if self.handle_turn_stream(now, connection, StreamEvent::Closed) {
                return;
            }
            return self.with_connection(now, connection, |sockets| {
                sockets.handle_closed(now, connection);
            });
        }
        let connection = ConnectionId(connection.0);
        self.desk
            .sip
            .handle_closed(now, connection, error.as_deref());
        self.settle(now);
    }

    /// What has happened to a connection to a TURN or STUN server; false if it is none.
    fn handle_turn_stream(
        &mut self,
        now: Instant,
        connection: Connection,
        event: StreamEvent<'_>,
    ) -> bool {
        let desk = &mut self.desk;
        let taken = self
            .calls
            .values_mut()
            .any(|call| call.handle_turn_stream(desk, now, connection, event))
            || self.pool.iter_mut().any(|warm| {
                warm.gathering
                    .handle_turn_stream(desk, now, connection, event)
            })
            || see_off(desk, now, |keeper| {
                keeper.handle_stream(now, connection, event)
            });
        if taken {
            self.settle(now);
        }
        taken
    }

    /// The answer to [`Output::Resolve`].
    pub fn handle_resolved(&mut self, now: Instant, query: ResolveQuery, result: LookupResult) {
        let known = self.desk.servers.known();
        match self.desk.handle_resolved(query, &result) {
            Some(query) => self.desk.sip.handle_resolved(now, query, result),
            None => {
                for call in self.calls.values_mut() {
                    call.after_gathering(&mut self.desk, now);
                }
                let gained = self.desk.servers.known() > known;
                for mut warm in std::mem::take(&mut self.pool) {
                    // A set that was gathered without these servers makes way for a better one.
                    if gained && warm.gathering.has_begun() {
                        warm.gathering.abandon(&mut self.desk, now);
                    } else {
                        warm.gathering.proceed(&mut self.desk, now);
                        self.pool.push(warm);
                    }
                }
            }
        }
        self.settle(now);
    }

    /// 10 ms of sound from a call's microphone.
    pub fn handle_captured(&mut self, now: Instant, call: CallKey, frame: &Frame) {
        self.with_call(now, call, |call, desk| {
            call.handle_captured(desk, now, frame)
        });
    }

    /// The same of both sides.
    pub fn handle_captured_sides(&mut self, now: Instant, call: CallKey, sides: &Sides) {
        self.with_call(now, call, |call, desk| {
            call.handle_captured_sides(desk, now, sides)
        });
    }

    /// A call's speaker wants the next 10 ms: an answered call gives them by [`Output::Play`], any
    /// other gives nothing.
    pub fn handle_playback(&mut self, now: Instant, call: CallKey) {
        self.with_call(now, call, |call, desk| call.handle_playback(desk, now));
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.desk.sip.handle_timeout(now);
        let ended = self.desk.renew_mappings(now);
        self.tell_mapped(now, ended);
        for call in self.calls.values_mut() {
            call.handle_timeout(&mut self.desk, now);
        }
        for warm in &mut self.pool {
            warm.handle_timeout(&mut self.desk, now);
        }
        let mut pacer = std::mem::take(&mut self.desk.pacer);
        see_off(&mut self.desk, now, |keeper| {
            keeper.handle_timeout(now, &mut pacer);
            false
        });
        self.desk.pacer = pacer;
        self.settle(now);
    }

    /// What is to be done or told next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.desk.next_output()
    }

    /// When [`Phone::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let desk = &self.desk;
        let calls = self
            .calls
            .values()
            .filter_map(|call| call.poll_timeout(desk));
        let pool = self.pool.iter().map(|warm| warm.poll_timeout(desk));
        desk.sip
            .poll_timeout()
            .into_iter()
            .chain(desk.mappings.poll_timeout())
            .chain(calls)
            .chain(pool)
            .chain(
                desk.partings
                    .iter()
                    .map(|parting| parting.poll_timeout(desk)),
            )
            .min()
    }

    /// Carries everything on until nothing is left that follows from what came in.
    fn settle(&mut self, now: Instant) {
        loop {
            self.flush_sip();
            let Some(event) = self.desk.sip.poll_event() else {
                break;
            };
            self.handle_sip(now, event);
        }
        self.calls.retain(|_, call| !call.is_over());
        self.keep_warm(now);
        self.flush_sip();
    }

    fn flush_sip(&mut self) {
        while let Some(transmit) = self.desk.sip.poll_transmit() {
            self.desk.out(match transmit {
                SipTransmit::Datagram { local, to, payload } => {
                    Output::Datagram { local, to, payload }
                }
                SipTransmit::Connect {
                    connection,
                    to,
                    tls,
                } => Output::Connect {
                    connection: Connection(connection.0),
                    to,
                    from: None,
                    tls,
                },
                SipTransmit::Stream {
                    connection,
                    payload,
                } => Output::Stream {
                    connection: Connection(connection.0),
                    payload,
                },
                SipTransmit::Close { connection } => Output::Close {
                    connection: Connection(connection.0),
                },
                SipTransmit::Resolve { query, name, kind } => Output::Resolve {
                    query: ResolveQuery(query.0),
                    name,
                    kind,
                },
            });
        }
    }

    fn handle_sip(&mut self, now: Instant, event: SipEvent) {
        let handle = match &event {
            SipEvent::Incoming { .. } => {
                self.handle_incoming(now, event);
                return;
            }
            SipEvent::Registered { aor, expires } => {
                let kind = EventKind::Registered {
                    aor: aor.clone(),
                    expires: *expires,
                };
                self.desk.tell(now, None, kind);
                return;
            }
            SipEvent::RegistrationFailed { status, reason } => {
                let kind = EventKind::RegistrationFailed {
                    status: *status,
                    reason: reason.clone(),
                };
                self.desk.tell(now, None, kind);
                return;
            }
            SipEvent::Refused { call, .. }
            | SipEvent::TransportFailed { call, .. }
            | SipEvent::TimedOut { call }
            | SipEvent::Cancelled { call }
            | SipEvent::Pracked { call, .. } => *call,
            SipEvent::Progress { dialog, .. }
            | SipEvent::Accepted { dialog, .. }
            | SipEvent::Confirmed { dialog, .. }
            | SipEvent::AckMissing { dialog }
            | SipEvent::Ended { dialog, .. }
            | SipEvent::Reinvite { dialog, .. }
            | SipEvent::ReinviteAccepted { dialog, .. }
            | SipEvent::ReinviteRefused { dialog, .. }
            | SipEvent::Trickled { dialog, .. }
            | SipEvent::ByeDone { dialog } => dialog.call,
        };
        let desk = &mut self.desk;
        let mut calls = self.calls.values_mut();
        if let Some(call) = calls.find(|call| call.handle() == Some(handle)) {
            call.handle_sip(desk, now, event);
        } else if let SipEvent::Accepted { dialog, .. } = &event {
            // A 2xx of a fork whose call is over: it must be ended (RFC 3261 section 13.2.2.4).
            let _ = desk.sip.bye(now, dialog, None);
        }
    }

    fn handle_incoming(&mut self, now: Instant, event: SipEvent) {
        let SipEvent::Incoming {
            call,
            from,
            to,
            body,
            call_id,
            remote_tag,
            secure,
            ..
        } = event
        else {
            return;
        };
        if self.leaving || self.calls.len() >= self.desk.settings.max_calls {
            // Refused only when the call is gone already.
            let _ = self.desk.sip.reject(now, call, 486, Rejection::default());
            return;
        }
        let invite = IncomingInvite {
            handle: call,
            from: from.uri.to_string(),
            to: to.uri.to_string(),
            call_id,
            remote_tag,
            body,
            secure,
        };
        let key = self.next_key();
        let warm = self.take_warm();
        let call = Call::receive(&mut self.desk, now, key, invite, warm);
        self.calls.insert(key, call);
    }
}
