//! Hostile input: everything that reads bytes from the network, fed with mutations of real
//! messages. Whatever comes: no panic, no endless loop, no state without bound, and no more
//! bytes out than the protocols ask for.
//!
//! `cargo test` runs a short form, `scripts/fuzz SECONDS` the long one; a failure names its seed.

mod dtls;
mod media;
mod messages;
mod pair;
mod phones;
mod srtp;
mod tcp;
mod transactions;
