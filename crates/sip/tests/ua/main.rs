//! The user agent in virtual time: two or more endpoints on a virtual wire.

mod calls;
mod cancel;
mod forks;
mod provisional;
mod registration;
mod reinvite;
mod streams;
mod wire;
