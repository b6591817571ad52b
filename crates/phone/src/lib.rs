//! The user agent: one call is a dialog, an ICE session and a stream.
//!
//! [`Phone`] is sans-IO: datagrams, stream bytes, resolved names, captured frames and the user's
//! commands go in; datagrams, wishes, frames to play and events come out ([`Output`]). So whole
//! phones run on a virtual Internet in virtual time. [`driver`] owns the real sockets, timers and
//! sound devices.
//!
//! # The gate
//! No 180 leaves and no speaker opens without a [`ringtrue_ice::Ring`]: the only ways to one are a
//! proof of the path and the explicit unverified way that [`Settings`] allow or forbid.

#![forbid(unsafe_code)]

mod addresses;
mod call;
mod desk;
mod discovery;
pub mod driver;
pub mod event;
mod gathering;
mod identity;
pub mod io;
mod mapping;
mod outcome;
mod phone;
pub mod settings;

pub use event::{CallRef, EventKind, PhoneEvent};
pub use identity::{CallError, SettingsError};
pub use io::{
    BindRequest, CallKey, Connection, Frame, Interface, LookupError, LookupResult, MapRequest,
    NaptrRecord, Output, RecordKind, Records, ResolveQuery, Sides, SrvRecord,
};
pub use phone::Phone;
pub use settings::Settings;
