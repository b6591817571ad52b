//! How often strangers are told that they are refused.

use std::time::{Duration, Instant};

/// Strangers' requests are refused so often a second, and then met with silence: we are nobody's
/// reflector.
const REFUSALS_A_SECOND: u32 = 10;

/// The error responses to strangers, counted.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    second: Option<Instant>,
    sent: u32,
}

impl Refusals {
    /// Whether one more is allowed now.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let over = |start| now >= start + Duration::from_secs(1);
        if self.second.is_none_or(over) {
            self.second = Some(now);
            self.sent = 0;
        }
        self.sent += 1;
        self.sent <= REFUSALS_A_SECOND
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_a_second() {
        let start = Instant::now();
        let mut refusals = Refusals::default();
        let told = (0..2000_u64)
            .filter(|ms| refusals.take(start + Duration::from_millis(*ms)))
            .count();
        assert_eq!(told, 20);
    }
}
