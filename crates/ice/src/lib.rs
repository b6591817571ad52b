//! A sans-IO ICE agent (RFC 8445, RFC 8839) and the gate that holds the ringing.
//!
//! Nothing here opens a socket, reads a clock or rolls a die: datagrams and the time come in as
//! arguments, randomness as a [`Seed`]. The whole trip, between two phones on one network:
//!
//! ```
//! use std::net::SocketAddr;
//! use std::time::{Duration, Instant};
//! use ringtrue_ice::*;
//!
//! // Each phone has a socket for RTP, and gathers. Without STUN servers that is done at once.
//! let mut now = Instant::now();
//! let alice_socket: SocketAddr = "192.0.2.1:4000".parse().unwrap();
//! let bob_socket: SocketAddr = "192.0.2.2:4000".parse().unwrap();
//! let gather = |address, seed: u64| {
//!     let base = Base { address, component: ComponentId::Rtp, local_preference: 65_535 };
//!     let gatherer = Gatherer::new(GatherConfig::default(), vec![base], seed, now);
//!     assert!(gatherer.is_finished());
//!     gatherer.gathered()
//! };
//! let controlled = SessionConfig { role: Role::Controlled, ..SessionConfig::default() };
//! let mut alice = IceSession::new(SessionConfig::default(), gather(alice_socket, 1), 1);
//! let mut bob = IceSession::new(controlled, gather(bob_socket, 2), 2);
//! let (mut alices_pacer, mut bobs_pacer) = (Pacer::new(), Pacer::new());
//!
//! // Alice's description goes to bob in the INVITE, bob's to alice in the 183.
//! let fork = ForkId(1);
//! bob.start(now, fork, alice.local_description(), &[ComponentId::Rtp]).unwrap();
//! alice.start(now, fork, bob.local_description(), &[ComponentId::Rtp]).unwrap();
//!
//! // The two owners move datagrams and time, until bob's agent gives its proof.
//! let gate = bob.gate(fork).unwrap();
//! let proof = 'proven: loop {
//!     alice.handle_timeout(now, &mut alices_pacer);
//!     while let Some(sent) = alice.poll_transmit() {
//!         bob.handle_datagram(now, sent.to, sent.base, &sent.payload);
//!     }
//!     bob.handle_timeout(now, &mut bobs_pacer);
//!     while let Some(sent) = bob.poll_transmit() {
//!         alice.handle_datagram(now, sent.to, sent.base, &sent.payload);
//!     }
//!     while let Some((_, event)) = bob.poll_event() {
//!         if let IceEvent::Validated { proof, path } = event {
//!             assert_eq!(path.remote, alice_socket);
//!             break 'proven proof;
//!         }
//!     }
//!     now += Duration::from_millis(5);
//! };
//!
//! // Only now can bob's phone ring, and media knows its way.
//! let ring: Ring = gate.open(proof).unwrap();
//! assert!(ring.verified());
//! let path = bob.path(fork, ComponentId::Rtp).unwrap();
//! assert_eq!((path.base, path.remote), (bob_socket, alice_socket));
//! ```

#![forbid(unsafe_code)]

mod agent;
mod candidate;
mod classify;
mod event;
mod gate;
mod gather;
mod pacer;
mod seed;
mod session;
mod stun;
mod tcp;
mod turn;

pub use candidate::{
    Candidate, CandidateType, ComponentId, Credentials, IceDescription, TcpType, TransportProtocol,
    Trickle,
};
pub use classify::{PacketKind, classify};
pub use event::{
    FailureReason, ForkId, IceEvent, Path, RestartRefused, Role, StartRefused, TcpWish, Transmit,
    UpdatedRemote, ValidPath,
};
pub use gate::{Gate, PathProof, Refused, Ring, UnverifiedPolicy, UnverifiedReason};
pub use gather::{Base, GatherConfig, Gathered, Gatherer, Relayed};
pub use pacer::Pacer;
pub use seed::Seed;
pub use session::{IceSession, SessionConfig};
pub use tcp::{FlowId, FlowOutput, TcpFlows};
pub use turn::{TurnServer, TurnStream, TurnStreamWish, TurnTransport};
