//! What comes out of an [`Endpoint`](super::Endpoint).

use std::net::SocketAddr;

use super::config::{CallHandle, ConnectionId, DialogId, QueryId};
use crate::dns::RecordKind;
use crate::message::NameAddr;
use crate::uri::Uri;

/// What the driver has to do for an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SipTransmit {
    /// Send a datagram.
    Datagram {
        /// The socket, as it stands in the configuration.
        local: SocketAddr,
        /// The destination.
        to: SocketAddr,
        /// The bytes.
        payload: Vec<u8>,
    },
    /// Open a TCP connection, with TLS over it where a name is given; answer with
    /// `handle_connected` once bytes can go, or with `handle_closed`.
    Connect {
        /// The number that it gets.
        connection: ConnectionId,
        /// The destination.
        to: SocketAddr,
        /// The host name or address that the server's certificate must be good for (RFC 5922
        /// section 4); none: no TLS.
        tls: Option<String>,
    },
    /// Send bytes on a connection.
    Stream {
        /// The connection.
        connection: ConnectionId,
        /// The bytes.
        payload: Vec<u8>,
    },
    /// Close a connection. The endpoint has forgotten it; no `handle_closed` is wanted.
    Close {
        /// The connection.
        connection: ConnectionId,
    },
    /// Look a name up in the DNS, once; answer with `handle_resolved`.
    Resolve {
        /// The number of the query.
        query: QueryId,
        /// The name, without a final dot.
        name: String,
        /// What is asked for.
        kind: RecordKind,
    },
}

/// What happened.
// `Incoming` is the largest, and rare; events live for a moment, so boxes would buy nothing.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Clone, PartialEq)]
pub enum SipEvent {
    /// An INVITE outside of a dialog has come; the 100 is on its way.
    Incoming {
        /// The call.
        call: CallHandle,
        /// The caller.
        from: NameAddr,
        /// Whom the caller wanted.
        to: NameAddr,
        /// Where the request went.
        request_uri: Uri,
        /// The SDP offer, if there is one.
        body: Option<Vec<u8>>,
        /// The caller supports or requires 100rel.
        supports_100rel: bool,
        /// The caller supports or requires `ice` (RFC 5768).
        supports_ice: bool,
        /// It came by TLS, so that the description may hold keys (RFC 4568 section 8).
        secure: bool,
        /// The Call-ID.
        call_id: String,
        /// The caller's tag.
        remote_tag: String,
    },
    /// A provisional response above 100 has come, not a mere repetition of the last. The remote
    /// tag is empty if the response has none: there is no early dialog then.
    Progress {
        /// The early dialog.
        dialog: DialogId,
        /// 101 to 199.
        status: u16,
        /// The SDP answer.
        body: Option<Vec<u8>>,
    },
    /// A 2xx to our INVITE has come and its ACK is sent: once per fork. After a `cancel` it means
    /// that the answer was quicker.
    Accepted {
        /// The dialog.
        dialog: DialogId,
        /// The SDP answer.
        body: Option<Vec<u8>>,
    },
    /// Our INVITE was refused, 487 after a CANCEL included. The call is over, unless `invite_again`
    /// follows before the next event is polled.
    Refused {
        /// The call.
        call: CallHandle,
        /// 300 to 699.
        status: u16,
        /// The reason phrase.
        reason: String,
        /// The text of a Warning header field.
        warning: Option<String>,
        /// A challenge that could not be answered, for want of credentials or with wrong ones.
        challenged: bool,
    },
    /// The INVITE could not be sent. The call is over.
    TransportFailed {
        /// The call.
        call: CallHandle,
        /// For people.
        what: String,
    },
    /// Nothing answered the INVITE (timer B), or its PRACKs (64*T1). The call is over.
    TimedOut {
        /// The call.
        call: CallHandle,
    },
    /// The caller has given up; the 487 is sent. The call is over.
    Cancelled {
        /// The call.
        call: CallHandle,
    },
    /// The reliable 183 has arrived.
    Pracked {
        /// The call.
        call: CallHandle,
        /// The SDP answer, when the 183 held our offer.
        body: Option<Vec<u8>>,
    },
    /// The ACK to our 2xx has come.
    Confirmed {
        /// The dialog.
        dialog: DialogId,
        /// The SDP answer, when the 2xx held our offer.
        body: Option<Vec<u8>>,
    },
    /// Our 2xx was not acknowledged for 64*T1; a BYE is on its way. The dialog is over.
    AckMissing {
        /// The dialog.
        dialog: DialogId,
    },
    /// The peer has hung up, or does not know the dialog any more.
    Ended {
        /// The dialog.
        dialog: DialogId,
        /// For people, from a Reason header field (RFC 3326).
        reason: Option<String>,
    },
    /// The peer wants to change the session: answer with `answer_reinvite` or `refuse_reinvite`.
    Reinvite {
        /// The dialog.
        dialog: DialogId,
        /// The SDP offer; `None`: the peer wants ours, and its answer comes as `Confirmed`.
        body: Option<Vec<u8>>,
    },
    /// Our re-INVITE was accepted and acknowledged.
    ReinviteAccepted {
        /// The dialog.
        dialog: DialogId,
        /// The SDP answer.
        body: Option<Vec<u8>>,
    },
    /// Our re-INVITE was refused; the session goes on as it was. (491 is retried silently.)
    ReinviteRefused {
        /// The dialog.
        dialog: DialogId,
        /// 300 to 699.
        status: u16,
    },
    /// The peer trickles (RFC 8840): an `application/trickle-ice-sdpfrag`, for
    /// [`TrickleFragment::parse`](crate::sdp::TrickleFragment::parse). The 200 is sent.
    Trickled {
        /// The dialog, early or confirmed.
        dialog: DialogId,
        /// The fragment.
        fragment: Vec<u8>,
    },
    /// Our BYE was answered, or nobody cared for 64*T1.
    ByeDone {
        /// The dialog.
        dialog: DialogId,
    },
    /// The registration stands; 0 seconds: it was withdrawn.
    Registered {
        /// The address of record.
        aor: String,
        /// For how many seconds.
        expires: u32,
    },
    /// The registration failed. It is tried again by itself where that makes sense.
    RegistrationFailed {
        /// The status, if a server answered.
        status: Option<u16>,
        /// For people.
        reason: String,
    },
}
