//! Sans-IO SIP.
//!
//! - [`message`], [`uri`]: messages as bytes and as types (RFC 3261).
//! - [`sdp`]: session descriptions, offers and answers with ICE (RFC 8866, RFC 3264, RFC 8839).
//! - [`endpoint`]: the user agent: transactions, dialogs, calls, registration.

#![forbid(unsafe_code)]

mod auth;
mod call;
mod dialog;
pub mod endpoint;
pub mod message;
mod params;
mod registration;
pub mod sdp;
mod syntax;
mod transaction;
mod transport;
pub mod uri;

pub use endpoint::{
    AuthCredentials, CallHandle, CommandRefused, ConnectionId, DialogId, Endpoint, EndpointConfig,
    IcePeer, LocalAddress, OutgoingInvite, ProgressDelivery, QueryId, RegisterConfig, Rejection,
    SipEvent, SipTransmit,
};
