//! What a device's callbacks let others know about it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cpal::ErrorKind;

/// A longer pause is a device that stood still, not a callback that came late.
const PAUSE: Duration = Duration::from_millis(500);

/// Where the time comes from.
#[derive(Debug)]
enum Clock {
    /// This moment was zero.
    Real(Instant),
    /// Nanoseconds, as a test sets them.
    #[cfg(test)]
    Virtual(AtomicU64),
}

/// How long a device may take to find its step.
const BEGINNING: Duration = Duration::from_secs(1);

/// The state of an open device, shared by its callbacks and its keeper without a lock.
#[derive(Debug)]
pub(super) struct Health {
    clock: Clock,
    /// Buffers of this length run dry or over with callbacks that are further apart,
    buffers: Vec<Duration>,
    /// which so many were.
    late: Vec<AtomicU32>,
    last_call: AtomicU64,
    lost: AtomicBool,
}

impl Health {
    /// Of a device whose buffer lasts for one of these times.
    pub(super) fn new(buffers: Vec<Duration>) -> Health {
        Health::with_clock(buffers, Clock::Real(Instant::now()))
    }

    fn with_clock(buffers: Vec<Duration>, clock: Clock) -> Health {
        Health {
            clock,
            late: buffers.iter().map(|_| AtomicU32::new(0)).collect(),
            buffers,
            last_call: AtomicU64::new(0),
            lost: AtomicBool::new(false),
        }
    }

    /// Nanoseconds of the device's own clock, never zero.
    pub(super) fn now(&self) -> u64 {
        match &self.clock {
            Clock::Real(began) => (began.elapsed().as_nanos() as u64).max(1),
            #[cfg(test)]
            Clock::Virtual(now) => now.load(Ordering::Relaxed).max(1),
        }
    }

    /// The device called back: so long after the time before, if there was one.
    pub(super) fn called(&self) -> Option<Duration> {
        let now = self.now();
        let last = self.last_call.swap(now, Ordering::Relaxed);
        let apart = Duration::from_nanos(now.saturating_sub(last));
        let begins = now < BEGINNING.as_nanos() as u64;
        if last != 0 && !begins && apart < PAUSE {
            for (buffer, late) in self.buffers.iter().zip(&self.late) {
                late.fetch_add(u32::from(apart > *buffer), Ordering::Relaxed);
            }
        }
        (last != 0).then_some(apart)
    }

    /// How often it called back too late for each of the buffers since this was asked last.
    pub(super) fn take_late(&self) -> Vec<u32> {
        let late = self.late.iter();
        late.map(|late| late.swap(0, Ordering::Relaxed)).collect()
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    pub(super) fn lose(&self) {
        self.lost.store(true, Ordering::Relaxed);
    }

    /// What the device's error callback does.
    pub(super) fn watcher(self: &Arc<Health>) -> impl FnMut(cpal::Error) + Send + 'static + use<> {
        let health = Arc::clone(self);
        move |error| {
            // An overrun is heard, but not the end.
            let passing = matches!(
                error.kind(),
                ErrorKind::Xrun | ErrorKind::DeviceChanged | ErrorKind::RealtimeDenied
            );
            tracing::debug!(%error, passing, "sound device");
            if !passing {
                health.lose();
            }
        }
    }
}

#[cfg(test)]
impl Health {
    /// One whose clock stands until it is set.
    pub(super) fn in_virtual_time() -> Health {
        Health::with_clock(Vec::new(), Clock::Virtual(AtomicU64::new(0)))
    }

    pub(super) fn set_time(&self, time: Duration) {
        if let Clock::Virtual(now) = &self.clock {
            now.store(time.as_nanos() as u64, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_calls_are_counted_and_pauses_are_not() {
        let ms = Duration::from_millis;
        let clock = Clock::Virtual(AtomicU64::new(0));
        let health = Health::with_clock(vec![ms(10), ms(12)], clock);
        for at in [1, 6, 21, 995, 1_001, 1_012, 1_017, 2_000, 2_005, 2_020] {
            health.set_time(ms(at));
            health.called();
        }
        assert_eq!(
            (health.take_late(), health.take_late()),
            (vec![2, 1], vec![0, 0])
        );
    }
}
