//! A sans-IO ICE agent (RFC 8445, RFC 8839) and the gate that holds the ringing.

#![forbid(unsafe_code)]

mod agent;
mod candidate;
mod classify;
mod early;
mod event;
mod gate;
mod gather;
mod pacer;
mod seed;
mod session;
mod stun;

pub use candidate::{
    Candidate, CandidateType, ComponentId, Credentials, IceDescription, TransportProtocol,
};
pub use classify::{PacketKind, classify};
pub use event::{
    FailureReason, ForkId, IceEvent, Path, Role, StartRefused, Transmit, UpdatedRemote, ValidPath,
};
pub use gate::{Gate, PathProof, Refused, Ring, UnverifiedPolicy, UnverifiedReason};
pub use gather::{Base, GatherConfig, Gathered, Gatherer};
pub use pacer::Pacer;
pub use seed::Seed;
pub use session::{IceSession, SessionConfig};
