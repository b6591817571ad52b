//! When the next frame of a call's sound is due: by a device's clock, or by our own.

use std::time::{Duration, Instant};

use ringtrue_media::FRAME_TIME;

/// A device that gives or takes nothing for so long stands still: our own clock goes on for it, so
/// that the call does.
const STANDSTILL: Duration = Duration::from_millis(40);
/// After a longer sleep of the whole program, frames are not made up for.
const CATCH_UP_MAX: Duration = Duration::from_millis(200);

/// One direction of a call's sound.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// When the next frame is due by our own clock.
    next: Instant,
}

impl Pace {
    /// The first frame is due at once.
    pub(super) fn new(now: Instant) -> Self {
        Self { next: now }
    }

    /// When it has to be looked at again, if no device tells before.
    pub(super) fn poll_timeout(&self) -> Instant {
        self.next
    }

    /// Whether a frame is due, which then counts as done. `device` says whether one is by the
    /// device's clock; `None`: there is no such clock.
    pub(super) fn is_due(&mut self, now: Instant, device: Option<bool>) -> bool {
        if device == Some(true) {
            self.next = now + FRAME_TIME + STANDSTILL;
            return true;
        }
        if now < self.next {
            return false;
        }
        if now - self.next > CATCH_UP_MAX {
            self.next = now;
        }
        self.next += FRAME_TIME;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// The frames that are due within this time, looked at every millisecond.
    fn due(
        pace: &mut Pace,
        now: &mut Instant,
        time: u64,
        device: impl Fn(u64) -> Option<bool>,
    ) -> u32 {
        let mut frames = 0;
        for at in 0..time {
            frames += u32::from(pace.is_due(*now, device(at)));
            *now += ms(1);
        }
        frames
    }

    #[test]
    fn files_go_by_our_own_clock() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        assert_eq!(due(&mut pace, &mut now, 1_000, |_| None), 100);
    }

    #[test]
    fn devices_go_by_theirs_and_by_ours_when_they_stand_still() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        // A device 10 % fast.
        let quick = |at: u64| Some(at.is_multiple_of(9));
        assert_eq!(due(&mut pace, &mut now, 900, quick), 100);
        // The last frame came 9 ms ago; 50 ms after it our own clock steps in.
        assert_eq!(due(&mut pace, &mut now, 41, |_| Some(false)), 0);
        let still = due(&mut pace, &mut now, 1_000, |_| Some(false));
        assert!((99..=101).contains(&still), "{still}");
        assert_eq!(due(&mut pace, &mut now, 900, quick), 100);
    }

    #[test]
    fn a_long_sleep_is_not_made_up_for() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        let count =
            |pace: &mut Pace, now| (0..1_000).take_while(|_| pace.is_due(now, None)).count();
        assert_eq!(count(&mut pace, now), 1);
        assert_eq!(count(&mut pace, now + ms(9)), 0);
        assert_eq!(count(&mut pace, now + ms(50)), 5);
        assert_eq!(count(&mut pace, now + ms(60_000)), 1);
    }
}
