//! Taps: places where a test sees datagrams pass and decides what becomes of them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::topology::HostId;

/// Where on its way a datagram is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It leaves its host: the source is the local one, the destination is what the host wrote.
    Departure,
    /// It is about to arrive: the source is what the receiver will see, the destination is local.
    Arrival,
}

/// A datagram that passes a tap.
#[derive(Debug)]
pub struct Passing<'a> {
    /// The time.
    pub now: Instant,
    /// Where it is seen.
    pub stage: Stage,
    /// Who sent it; none for one that was injected.
    pub sender: Option<HostId>,
    /// Who will get it; known on arrival only.
    pub receiver: Option<HostId>,
    /// The source as it stands in the datagram here.
    pub source: SocketAddr,
    /// The destination as it stands in the datagram here.
    pub destination: SocketAddr,
    /// The bytes.
    pub payload: &'a [u8],
}

/// What becomes of a datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Pass,
    /// It is gone.
    Drop,
    /// It goes on with other bytes.
    Replace(Vec<u8>),
    /// It goes on later.
    Delay(Duration),
    /// Any number of copies go on, each after a delay, in its place.
    Copies(Vec<(Duration, Vec<u8>)>),
}

/// A closure that is asked about every datagram, on departure and on arrival.
pub type Tap = Box<dyn FnMut(&Passing<'_>) -> Verdict + Send>;
