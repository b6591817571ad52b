//! What the `ringtrue` program shows of itself to its own tests: whole phones on a virtual
//! Internet, and the demo that they play.

#![forbid(unsafe_code)]

pub mod demo;
pub mod virtual_phone;
