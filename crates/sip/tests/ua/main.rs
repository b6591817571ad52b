//! The user agent in virtual time: two or more endpoints on a virtual wire.

mod again;
mod ahead;
mod calls;
mod cancel;
mod forks;
mod hostile;
mod info;
mod locate;
mod places;
mod provisional;
mod registration;
mod reinvite;
mod requests;
mod steps;
mod streams;
mod tls;
mod wire;
