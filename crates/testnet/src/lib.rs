//! A virtual Internet under a virtual clock, for whole phones and their parts.
//!
//! A [`World`] holds networks, the gateways between them (NATs in the terms of RFC 4787,
//! firewalls, routers), hosts with interfaces, and lines with delay, jitter and loss. Datagrams
//! and byte streams travel through it hop by hop, so a filter that opens while a packet is on its
//! way lets it in. Nothing here reads a clock or draws randomness of its own: equal seeds give
//! equal worlds. A [`Simulation`] adds [`Node`]s, which live on hosts, and steps from one wake-up
//! to the next. [`StunServer`], [`TurnServer`] and [`SipProxy`] are nodes that live inside the world, and
//! [`RandomWorld`] is a whole world out of one number.
//!
//! ```
//! use std::time::Duration;
//! use ringtrue_testnet::{
//!     Delivery, GatewayConfig, NatConfig, StunServer, World, make_binding_request,
//! };
//!
//! //   alice 192.168.1.2 ── NAT 203.0.113.1 ── Internet ── STUN server 198.51.100.1
//! let mut world = World::new(7);
//! let internet = world.internet();
//! let nat = GatewayConfig::nat([203, 0, 113, 1], NatConfig::port_restricted());
//! let (_, home) = world.add_gateway(internet, nat);
//! let alice = world.host_at("alice", home, [192, 168, 1, 2]);
//! let server = world.host_at("stun", internet, [198, 51, 100, 1]);
//! world.add_server(server, StunServer::new());
//! world.set_delay_between(alice, server, Duration::from_millis(20));
//!
//! let local = "192.168.1.2:5004".parse().unwrap();
//! let request = make_binding_request([1; 12]);
//! world.send_udp(alice, local, "198.51.100.1:3478".parse().unwrap(), request);
//! while let Some(at) = world.next_event_at() {
//!     world.advance_to(at);
//!     if let Some((host, Delivery::Datagram { local: at, from, .. })) = world.poll_delivery() {
//!         assert_eq!((host, at, from.to_string()), (alice, local, "198.51.100.1:3478".into()));
//!         assert_eq!(world.elapsed(), Duration::from_millis(40));
//!     }
//! }
//! ```

#![forbid(unsafe_code)]

mod flight;
mod mutation;
mod names;
mod nat;
mod node;
mod ports;
mod random;
mod simulation;
mod sip_proxy;
mod stream;
mod stun;
mod tap;
mod topology;
mod turn;
mod world;

pub use mutation::{Dice, fuzz};
pub use names::NameService;
pub use nat::{Behaviour, NatConfig};
pub use node::{Delivery, Node, Outbox, StreamId, Wish};
pub use ports::{MappingAnswer, PortMapping};
pub use random::{RandomPeer, RandomWorld};
pub use simulation::Simulation;
pub use sip_proxy::SipProxy;
pub use stun::{StunServer, binding_request, make_binding_request, make_binding_success};
pub use tap::{Passing, Stage, Tap, Verdict};
pub use topology::{GatewayConfig, GatewayId, HostId, Link, NetworkId};
pub use turn::{AskedFamilies, TurnServer};
pub use world::World;
