//! A sans-IO ICE agent (RFC 8445, RFC 8839) and the gate that holds the ringing.

#![forbid(unsafe_code)]

mod candidate;
mod gate;

pub use candidate::{
    Candidate, CandidateType, ComponentId, Credentials, IceDescription, TransportProtocol,
};
pub use gate::{Gate, PathProof, Refused, Ring, UnverifiedPolicy, UnverifiedReason};
