//! What an [`Endpoint`](super::Endpoint) is told once, and what its commands take and give back.

use std::net::{IpAddr, SocketAddr};

use thiserror::Error;

use crate::message::NameAddr;
use crate::uri::Uri;

/// One address of this host, to choose Via and Contact hosts towards a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalAddress {
    /// The address.
    pub ip: IpAddr,
    /// The length of its network prefix in bits.
    pub prefix_len: u8,
    /// Whether the default route of this address family leaves here.
    pub default_route: bool,
}

/// A user name and its password, for digest authentication (RFC 3261 section 22).
#[derive(Clone, PartialEq, Eq)]
pub struct AuthCredentials {
    /// The user name.
    pub user: String,
    /// The password. Never printed, not even by `Debug`.
    pub password: String,
}

impl std::fmt::Debug for AuthCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthCredentials")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// Who an endpoint is and where it lives.
#[derive(Debug, Clone)]
pub struct EndpointConfig {
    /// The UDP sockets for SIP as they were bound; an unspecified address (`0.0.0.0`) is fine.
    pub udp: Vec<SocketAddr>,
    /// The addresses of this host.
    pub addresses: Vec<LocalAddress>,
    /// The User-Agent (and Server) header field.
    pub user_agent: String,
    /// Who we are: the From of what we send.
    pub aor: NameAddr,
    /// The user part of our Contact.
    pub contact_user: String,
    /// The outbound proxy, a preloaded route for every request outside of a dialog. Its
    /// `transport` parameter counts; an `lr` parameter is added where it is missing.
    pub proxy: Option<Uri>,
    /// What challenges are answered with.
    pub credentials: Option<AuthCredentials>,
    /// Whether `ice` (RFC 5768) stands in Supported and is understood in Require, and whether
    /// trickled candidates are taken (RFC 8840).
    pub ice: bool,
    /// Whether the driver listens for TCP connections on the ports of `udp`.
    pub tcp_listen: bool,
    /// Where the driver listens for connections by TLS; an unspecified address is fine.
    pub tls_listen: Vec<SocketAddr>,
}

/// One call of an endpoint: everything that one INVITE leads to. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallHandle(pub(crate) u64);

/// One dialog, early or confirmed (RFC 3261 section 12). The forks of a call differ in the tag.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DialogId {
    /// The call.
    pub call: CallHandle,
    /// The peer's tag.
    pub remote_tag: String,
}

/// A stream connection (TCP, with TLS or without).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// A host name that is being resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueryId(pub u64);

/// An INVITE to send.
#[derive(Debug, Clone)]
pub struct OutgoingInvite {
    /// Whom to call.
    pub target: Uri,
    /// The SDP offer.
    pub body: Vec<u8>,
    /// Option tags for the Supported header field; `100rel` is added by itself.
    pub supported: Vec<String>,
    /// Further header fields, name and value.
    pub extra: Vec<(String, String)>,
}

impl OutgoingInvite {
    /// An INVITE with this offer and `Supported: 100rel, ice, trickle-ice`.
    pub fn new(target: Uri, body: Vec<u8>) -> Self {
        Self {
            target,
            body,
            supported: vec!["ice".to_owned(), "trickle-ice".to_owned()],
            extra: Vec::new(),
        }
    }
}

/// What kind of ICE agent the caller is: decides how long an unreliable 183 is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IcePeer {
    /// It sends Binding requests, which end the repetition (`stop_progress`).
    Full,
    /// It sends none, so the 183 is sent four times (RFC 8839 section 7.1.1).
    Lite,
    /// It does not use ICE. The 183 is repeated each minute only, unless 100rel asks for more.
    Absent,
}

/// How a 183 that carries SDP is made to arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgressDelivery {
    /// By RSeq and PRACK (RFC 3262): the event `Pracked` follows.
    Reliable,
    /// By repetition until `stop_progress` (RFC 8839 section 7.1.1).
    Repeated,
    /// It was not sent: an offer of ours has to wait for the 200, the caller lacks 100rel.
    WaitsForAccept,
}

/// What a refusal says beside its status.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rejection {
    /// A text for people: `Warning: 399 host "text"`.
    pub warning: Option<String>,
    /// Option tags for the Require header field (421).
    pub require: Vec<String>,
    /// The reason phrase, if the usual one does not fit.
    pub reason: Option<String>,
}

impl Rejection {
    /// A refusal with a text for people.
    pub fn warning(text: impl Into<String>) -> Self {
        Self {
            warning: Some(text.into()),
            ..Self::default()
        }
    }
}

/// A registration to keep (RFC 3261 section 10).
#[derive(Debug, Clone)]
pub struct RegisterConfig {
    /// The Request-URI: the registrar's domain, without a user.
    pub registrar: Uri,
    /// For how many seconds.
    pub expires: u32,
}

/// Why a command was not carried out. Nothing has changed then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CommandRefused {
    /// There is no such call, or not any more.
    #[error("there is no such call")]
    UnknownCall,
    /// There is no such dialog, or not any more.
    #[error("there is no such dialog")]
    UnknownDialog,
    /// The call is not in a state for this: answered twice, or cancelled already.
    #[error("the call is past this step")]
    WrongState,
    /// Another re-INVITE is under way in this dialog.
    #[error("another re-INVITE is under way")]
    Busy,
    /// A status that this command cannot send. A 180 needs a `Ring`.
    #[error("status {0} cannot be sent this way")]
    ForbiddenStatus(u16),
}
