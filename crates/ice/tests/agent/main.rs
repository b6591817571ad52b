//! Two agents on a small virtual Internet, in virtual time, through the public API alone.

mod nat;
mod net;
mod stun;

mod attacks;
mod calls;
mod consent;
mod crowds;
mod forks;
mod hostile;
mod moving;
mod nomination;
mod pacing;
mod restart;
mod roles;
mod trickle;
