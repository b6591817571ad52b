//! The user agent in virtual time: two or more endpoints on a virtual wire.

mod calls;
mod cancel;
mod provisional;
mod wire;
