//! Sans-IO SIP.
//!
//! - [`message`], [`uri`]: messages as bytes and as types (RFC 3261).
//! - [`sdp`]: session descriptions, offers and answers with ICE (RFC 8866, RFC 3264, RFC 8839).
//! - [`dns`]: what is asked of the DNS, and where the answers lead (RFC 3263, RFC 2782).
//! - [`endpoint`]: the user agent: transactions, dialogs, calls, registration.
//!
//! A whole call between two [`Endpoint`]s, over a wire that is a vector:
//!
//! ```
//! use std::time::Instant;
//! use ringtrue_ice::{Gate, UnverifiedPolicy, UnverifiedReason};
//! use ringtrue_sip::{
//!     Endpoint, EndpointConfig, IcePeer, LocalAddress, OutgoingInvite, SipEvent, SipTransmit,
//! };
//!
//! let now = Instant::now();
//! let endpoint = |user: &str, address: &str, seed| {
//!     let udp: std::net::SocketAddr = address.parse().unwrap();
//!     let config = EndpointConfig {
//!         udp: vec![udp],
//!         addresses: vec![LocalAddress { ip: udp.ip(), prefix_len: 24, default_route: true }],
//!         user_agent: "Ringtrue".to_owned(),
//!         aor: format!("<sip:{user}@example.com>").parse().unwrap(),
//!         contact_user: user.to_owned(),
//!         proxy: None,
//!         credentials: None,
//!         ice: true,
//!         tcp_listen: false,
//!         tls_listen: Vec::new(),
//!     };
//!     Endpoint::new(config, seed, now)
//! };
//! let mut phones = [endpoint("alice", "192.0.2.1:5060", 1), endpoint("bob", "192.0.2.2:5060", 2)];
//! let (alice, bob) = (0, 1);
//!
//! // Carries datagrams to and fro until nobody has anything to say.
//! fn carry(phones: &mut [Endpoint; 2], now: Instant) {
//!     let mut quiet = 0;
//!     while quiet < 2 {
//!         for from in 0..2 {
//!             quiet += 1;
//!             while let Some(transmit) = phones[from].poll_transmit() {
//!                 let SipTransmit::Datagram { local, to, payload } = transmit else { continue };
//!                 phones[1 - from].handle_datagram(now, to, local, &payload);
//!                 quiet = 0;
//!             }
//!         }
//!     }
//! }
//!
//! let target = "sip:bob@192.0.2.2".parse().unwrap();
//! phones[alice].invite(now, OutgoingInvite::new(target, b"the offer".to_vec()));
//! carry(&mut phones, now);
//! let Some(SipEvent::Incoming { call, body, .. }) = phones[bob].poll_event() else { panic!() };
//! assert_eq!(body.as_deref(), Some(&b"the offer"[..]));
//!
//! // The answer goes in a 183; alice acknowledges it by PRACK.
//! phones[bob].progress(now, call, b"the answer".to_vec(), IcePeer::Full).unwrap();
//! carry(&mut phones, now);
//! assert!(matches!(phones[alice].poll_event(), Some(SipEvent::Progress { status: 183, .. })));
//! assert!(matches!(phones[bob].poll_event(), Some(SipEvent::Pracked { .. })));
//!
//! // A 180 costs a `Ring`, which the ICE agent's proof pays for; here the unverified way.
//! let ring = Gate::without_ice()
//!     .open_unverified(UnverifiedReason::PeerWithoutIce, UnverifiedPolicy::PeersWithoutIce)
//!     .unwrap();
//! phones[bob].ring(now, call, &ring).unwrap();
//! phones[bob].accept(now, call, None).unwrap();
//! carry(&mut phones, now);
//! assert!(matches!(phones[alice].poll_event(), Some(SipEvent::Progress { status: 180, .. })));
//! let Some(SipEvent::Accepted { dialog, .. }) = phones[alice].poll_event() else { panic!() };
//! assert!(matches!(phones[bob].poll_event(), Some(SipEvent::Confirmed { .. })));
//!
//! phones[alice].bye(now, &dialog, None).unwrap();
//! carry(&mut phones, now);
//! assert!(matches!(phones[bob].poll_event(), Some(SipEvent::Ended { .. })));
//! assert!(matches!(phones[alice].poll_event(), Some(SipEvent::ByeDone { .. })));
//! ```

#![forbid(unsafe_code)]

mod auth;
mod call;
mod dialog;
pub mod dns;
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
