//! The pacing that all agents and gatherers of one phone share.

use std::time::{Duration, Instant};

/// RFC 8445 section 14.2: all agents together start a transaction at most every 5 ms.
const GLOBAL_TA: Duration = Duration::from_millis(5);

/// Spaces the STUN transactions of all agents and gatherers of one phone: at most one new
/// transaction every 5 ms (RFC 8445 section 14.2). A phone owns one and lends it to each.
#[derive(Debug, Clone, Default)]
pub struct Pacer {
    last_start: Option<Instant>,
}

impl Pacer {
    /// A pacer that has seen no transaction yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// When the next transaction may start; `None`: at once, whatever the time.
    pub(crate) fn next_start(&self) -> Option<Instant> {
        self.last_start.map(|last| last + GLOBAL_TA)
    }

    /// Takes the slot if one is free now.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        if self.next_start().is_some_and(|next| next > now) {
            return false;
        }
        self.last_start = Some(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_transaction_every_5_ms() {
        let mut pacer = Pacer::new();
        let start = Instant::now();
        let taken = (0..100)
            .filter(|ms| pacer.take(start + Duration::from_millis(*ms)))
            .count();
        assert_eq!(taken, 20);
    }
}
