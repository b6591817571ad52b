//! How much sound must wait for a speaker: enough for the next piece that the device takes, and
//! for the time by which the writer has been late.

use std::collections::VecDeque;
use std::time::Duration;

/// Lateness is remembered in so many windows,
const WINDOWS: usize = 10;
/// of this length: 20 s in all.
const WINDOW: Duration = Duration::from_secs(2);
/// Room beyond the lateness that was seen.
const MARGIN: Duration = Duration::from_micros(500);
/// The device ran dry: at least this much more.
const STEP: Duration = Duration::from_micros(2_500);
/// The most that is kept, however unsteady the writer is.
const MOST: Duration = Duration::from_millis(80);
/// It shrinks by this in every second of the clock, and no faster: what is not kept in reserve any
/// more has to be cut out of the sound elsewhere.
const SHRINKING: f64 = 0.001;

/// Watches how fast the writer answers, and says what has to be in reserve.
///
/// A device takes a period at a time. The writer is asked for a frame when what is left is less
/// than a period and the reserve: so it has a period and the reserve to answer. One late answer in
/// twenty seconds is not followed (it was heard already, and may never come again); of several the
/// second worst counts.
#[derive(Debug, Default)]
pub(super) struct Reserve {
    /// The two slowest answers of each of the last windows.
    slowest: VecDeque<[Duration; 2]>,
    window_began: Duration,
    /// When it was last looked at whether it may shrink.
    settled: Duration,
    reserve: Duration,
}

impl Reserve {
    /// What has to be left, beside the next period.
    pub(super) fn get(&self) -> Duration {
        self.reserve
    }

    /// The writer was asked, and answered after `took`; `now` is any steady clock.
    pub(super) fn answered(&mut self, now: Duration, took: Duration, period: Duration) {
        if self.slowest.is_empty() || now.saturating_sub(self.window_began) >= WINDOW {
            self.window_began = now;
            self.slowest.push_back([Duration::ZERO; 2]);
            if self.slowest.len() > WINDOWS {
                self.slowest.pop_front();
            }
        }
        if let Some([worst, second]) = self.slowest.back_mut() {
            if took > *worst {
                (*worst, *second) = (took, *worst);
            } else if took > *second {
                *second = took;
            }
        }
        let wanted = (self.second_slowest() + MARGIN).saturating_sub(period);
        let shrunk = now.saturating_sub(self.settled).mul_f64(SHRINKING);
        self.settled = now;
        self.reserve = wanted.max(self.reserve.saturating_sub(shrunk)).min(MOST);
    }

    /// The device found less than it wanted.
    pub(super) fn ran_dry(&mut self) {
        self.reserve = (self.reserve + STEP).min(MOST);
    }

    fn second_slowest(&self) -> Duration {
        let (mut worst, mut second) = (Duration::ZERO, Duration::ZERO);
        for took in self.slowest.iter().flatten().copied() {
            if took > worst {
                (worst, second) = (took, worst);
            } else {
                second = second.max(took);
            }
        }
        second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_millis(5);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Answers of this length, a hundred a second, from `begin` on.
    fn run(reserve: &mut Reserve, begin: Duration, seconds: u64, took: impl Fn(u64) -> Duration) {
        for number in 0..seconds * 100 {
            reserve.answered(begin + ms(number * 10), took(number), PERIOD);
        }
    }

    #[test]
    fn a_quick_writer_needs_none_and_a_slow_one_what_it_needs() {
        let mut reserve = Reserve::default();
        run(&mut reserve, ms(0), 30, |n| ms(n % 3));
        assert_eq!(reserve.get(), Duration::ZERO);
        run(&mut reserve, ms(30_000), 30, |n| {
            if n % 100 == 0 { ms(12) } else { ms(1) }
        });
        assert_eq!(reserve.get(), ms(7) + MARGIN);
    }

    #[test]
    fn one_stall_is_not_followed_and_it_shrinks_slowly() {
        let mut reserve = Reserve::default();
        run(&mut reserve, ms(0), 10, |n| {
            ms(if n == 500 { 60 } else { 1 })
        });
        assert_eq!(reserve.get(), Duration::ZERO);
        reserve.ran_dry();
        reserve.ran_dry();
        assert_eq!(reserve.get(), STEP * 2);
        run(&mut reserve, ms(10_000), 2, |_| ms(1));
        let left = reserve.get();
        assert!(left > ms(2) && left < STEP * 2, "{left:?}");
        run(&mut reserve, ms(12_000), 4, |_| ms(1));
        assert_eq!(reserve.get(), Duration::ZERO);
    }

    #[test]
    fn it_is_bounded() {
        let mut reserve = Reserve::default();
        run(&mut reserve, ms(0), 2, |_| ms(5_000));
        for _ in 0..100 {
            reserve.ran_dry();
        }
        assert_eq!(reserve.get(), MOST);
    }
}
