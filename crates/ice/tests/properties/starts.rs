//! When a peer's transactions begin, as they leave it.

use std::collections::HashSet;
use std::fmt;
use std::time::{Duration, Instant};

#[derive(Default)]
pub struct Starts {
    known: HashSet<[u8; 12]>,
    last: Option<Instant>,
    last_check: Option<Instant>,
    /// The shortest time between two, of all and of checks alone: questions to the servers are
    /// none.
    pub shortest: Option<Duration>,
    pub shortest_check: Option<Duration>,
    pub checks: usize,
}

impl fmt::Debug for Starts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (checks, gap) = (self.checks, self.shortest_check);
        write!(f, "{checks} checks, {gap:?} apart")
    }
}

impl Starts {
    /// A request leaves, perhaps not for the first time.
    pub fn note(&mut self, now: Instant, id: &[u8], is_check: bool) {
        let id = id.try_into().expect("ids have 12 bytes");
        if !self.known.insert(id) {
            return;
        }
        let gap = |last: Option<Instant>, shortest: Option<Duration>| {
            let gap = last.map(|last| now - last);
            gap.into_iter().chain(shortest).min()
        };
        self.shortest = gap(self.last, self.shortest);
        self.last = Some(now);
        if is_check {
            self.checks += 1;
            self.shortest_check = gap(self.last_check, self.shortest_check);
            self.last_check = Some(now);
        }
    }
}
