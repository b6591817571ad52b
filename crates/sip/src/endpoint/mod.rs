//! The user agent: transactions, dialogs, calls and a registration, without any I/O.

mod config;
mod event;

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use ringtrue_ice::Ring;

pub use config::{
    AuthCredentials, CallHandle, CommandRefused, ConnectionId, DialogId, EndpointConfig, IcePeer,
    LocalAddress, OutgoingInvite, ProgressDelivery, QueryId, RegisterConfig, Rejection,
};
pub use event::{SipEvent, SipTransmit};

/// A SIP user agent.
#[derive(Debug)]
pub struct Endpoint {
    config: EndpointConfig,
}

#[allow(unused_variables)]
impl Endpoint {
    /// A user agent at `now`; the same seed gives the same tags, branches and pauses.
    pub fn new(config: EndpointConfig, seed: u64, now: Instant) -> Self {
        Self { config }
    }

    /// The configuration.
    pub fn config(&self) -> &EndpointConfig {
        &self.config
    }

    /// The addresses of this host have changed.
    pub fn set_addresses(&mut self, addresses: Vec<LocalAddress>) {
        self.config.addresses = addresses;
    }

    /// A datagram has come to the socket `local` of the configuration.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        local: SocketAddr,
        from: SocketAddr,
        payload: &[u8],
    ) {
    }

    /// A connection that the endpoint asked for is open.
    pub fn handle_connected(&mut self, now: Instant, connection: ConnectionId) {}

    /// A number for a connection that the driver has accepted.
    pub fn accepted_id(&mut self) -> ConnectionId {
        ConnectionId(0)
    }

    /// A peer has connected; the number comes from [`Self::accepted_id`].
    pub fn handle_accepted(&mut self, now: Instant, connection: ConnectionId, peer: SocketAddr) {}

    /// Bytes have come on a connection.
    pub fn handle_stream(&mut self, now: Instant, connection: ConnectionId, bytes: &[u8]) {}

    /// A connection has closed, or could not be opened (`refused`).
    pub fn handle_closed(&mut self, now: Instant, connection: ConnectionId, refused: bool) {}

    /// A name was resolved; no addresses: it has none.
    pub fn handle_resolved(&mut self, now: Instant, query: QueryId, addresses: Vec<IpAddr>) {}

    /// The time that [`Self::poll_timeout`] gave has come.
    pub fn handle_timeout(&mut self, now: Instant) {}

    /// What the driver has to do next.
    pub fn poll_transmit(&mut self) -> Option<SipTransmit> {
        None
    }

    /// What has happened.
    pub fn poll_event(&mut self) -> Option<SipEvent> {
        None
    }

    /// When [`Self::handle_timeout`] is wanted next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// Places a call.
    pub fn invite(&mut self, now: Instant, invite: OutgoingInvite) -> CallHandle {
        CallHandle(0)
    }

    /// The Call-ID of a call.
    pub fn call_id(&self, call: CallHandle) -> Option<&str> {
        None
    }

    /// Gives up a call that was not answered yet: CANCEL, once a provisional response is there.
    ///
    /// # Errors
    /// The call is unknown, or was answered: then hang up with [`Self::bye`].
    pub fn cancel(&mut self, now: Instant, call: CallHandle) -> Result<(), CommandRefused> {
        Err(CommandRefused::UnknownCall)
    }

    /// Hangs up. As callee before the ACK, the BYE waits for it (RFC 3261 section 15).
    ///
    /// # Errors
    /// The dialog is unknown or hung up already.
    pub fn bye(
        &mut self,
        now: Instant,
        dialog: &DialogId,
        reason: Option<&str>,
    ) -> Result<(), CommandRefused> {
        Err(CommandRefused::UnknownDialog)
    }

    /// Offers a change of the session.
    ///
    /// # Errors
    /// The dialog is unknown, or another re-INVITE is under way.
    pub fn reinvite(
        &mut self,
        now: Instant,
        dialog: &DialogId,
        body: Vec<u8>,
    ) -> Result<(), CommandRefused> {
        Err(CommandRefused::UnknownDialog)
    }

    /// Accepts the peer's re-INVITE with this SDP.
    ///
    /// # Errors
    /// The dialog is unknown, or there is no re-INVITE to answer.
    pub fn answer_reinvite(
        &mut self,
        now: Instant,
        dialog: &DialogId,
        body: Vec<u8>,
    ) -> Result<(), CommandRefused> {
        Err(CommandRefused::UnknownDialog)
    }

    /// Refuses the peer's re-INVITE, 300 to 699; the session goes on as it was.
    ///
    /// # Errors
    /// The dialog is unknown, or there is no re-INVITE to answer.
    pub fn refuse_reinvite(
        &mut self,
        now: Instant,
        dialog: &DialogId,
        status: u16,
    ) -> Result<(), CommandRefused> {
        Err(CommandRefused::UnknownDialog)
    }

    /// Sends the SDP answer in a 183, by PRACK or by repetition as the caller and `peer` allow.
    ///
    /// # Errors
    /// The call is unknown, or has an answer already.
    pub fn progress(
        &mut self,
        now: Instant,
        call: CallHandle,
        body: Vec<u8>,
        peer: IcePeer,
    ) -> Result<ProgressDelivery, CommandRefused> {
        Err(CommandRefused::UnknownCall)
    }

    /// To an INVITE without SDP: our offer, in a reliable 183 if the caller supports 100rel,
    /// else later in the 200.
    ///
    /// # Errors
    /// The call is unknown, or has an offer already.
    pub fn progress_with_offer(
        &mut self,
        now: Instant,
        call: CallHandle,
        body: Vec<u8>,
    ) -> Result<ProgressDelivery, CommandRefused> {
        Err(CommandRefused::UnknownCall)
    }

    /// The 183 has arrived, as a Binding request shows: no more repetitions.
    ///
    /// # Errors
    /// The call is unknown or answered.
    pub fn stop_progress(&mut self, call: CallHandle) -> Result<(), CommandRefused> {
        Err(CommandRefused::UnknownCall)
    }

    /// The user is being alerted: 180. There is no other way to send one.
    ///
    /// # Errors
    /// The call is unknown, answered or cancelled.
    pub fn ring(
        &mut self,
        now: Instant,
        call: CallHandle,
        ring: &Ring,
    ) -> Result<(), CommandRefused> {
        Err(CommandRefused::UnknownCall)
    }

    /// Answers the call: 200. `body` is the SDP for a call without a 183; after one, the 200
    /// repeats its SDP byte for byte, or carries none if it went reliably.
    ///
    /// # Errors
    /// The call is unknown, answered or cancelled, or there is no SDP at all.
    pub fn accept(
        &mut self,
        now: Instant,
        call: CallHandle,
        body: Option<Vec<u8>>,
    ) -> Result<(), CommandRefused> {
        Err(CommandRefused::UnknownCall)
    }

    /// Refuses the call, 300 to 699.
    ///
    /// # Errors
    /// The call is unknown, answered or cancelled.
    pub fn reject(
        &mut self,
        now: Instant,
        call: CallHandle,
        status: u16,
        rejection: Rejection,
    ) -> Result<(), CommandRefused> {
        Err(CommandRefused::UnknownCall)
    }

    /// Whether nothing is left to be sent or waited for: no call, no transaction of ours under
    /// way (a BYE, the withdrawal of a registration), no answer to be repeated. A standing
    /// registration does not count.
    pub fn is_idle(&self) -> bool {
        true
    }

    /// Registers, and keeps the registration until [`Self::unregister`].
    pub fn register(&mut self, now: Instant, register: RegisterConfig) {}

    /// Withdraws the registration.
    pub fn unregister(&mut self, now: Instant) {}
}
