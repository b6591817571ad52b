//! How long a device's buffer has to be on its host.

use std::time::{Duration, Instant};

/// So often late,
const LATE: u32 = 3;
/// within this time, is again and again. When in all of it no more than one call would have been late
/// for a shorter buffer, that is tried.
const WITHIN: Duration = Duration::from_secs(20);

/// Climbs when calls are late again and again, and comes down when they have not been for a while.
#[derive(Debug)]
pub(super) struct Ladder {
    /// The buffers to choose from, the shortest first.
    buffers: Vec<Duration>,
    step: usize,
    /// How often calls were too late for each of them,
    late: Vec<u32>,
    /// since when.
    since: Instant,
    comes_down: bool,
}

impl Ladder {
    /// Of these buffers, the shortest one that lasts as long as `at_least`, or the longest.
    pub(super) fn new(now: Instant, buffers: Vec<Duration>, at_least: Duration) -> Ladder {
        let enough = buffers.iter().position(|buffer| *buffer >= at_least);
        Ladder {
            step: enough.unwrap_or(buffers.len().saturating_sub(1)),
            late: vec![0; buffers.len()],
            buffers,
            since: now,
            comes_down: true,
        }
    }

    /// One that only climbs: coming down would cost more than it gains.
    pub(super) fn that_stays_up(self) -> Ladder {
        Ladder {
            comes_down: false,
            ..self
        }
    }

    pub(super) fn buffers(&self) -> &[Duration] {
        &self.buffers
    }

    /// The buffer that is chosen; none is as short as can be.
    pub(super) fn buffer(&self) -> Duration {
        self.buffers.get(self.step).copied().unwrap_or_default()
    }

    /// So many calls were too late for each of the buffers since the time before. Gives the buffer to
    /// go over to.
    pub(super) fn watch(&mut self, now: Instant, late: &[u32]) -> Option<Duration> {
        for (sum, new) in self.late.iter_mut().zip(late) {
            *sum += new;
        }
        if self.late.get(self.step).is_some_and(|late| *late >= LATE) {
            let higher = self.late.iter().skip(self.step + 1);
            let more = higher.take_while(|late| **late >= LATE).count() + 1;
            let highest = self.late.len() - 1;
            return self.go(now, (self.step + more).min(highest));
        }
        if now.saturating_duration_since(self.since) < WITHIN {
            return None;
        }
        let lower = self.step.checked_sub(1);
        let is_enough = |step: &usize| self.late.get(*step).is_some_and(|late| *late <= 1);
        let step = lower.filter(|lower| self.comes_down && is_enough(lower));
        self.go(now, step.unwrap_or(self.step))
    }

    fn go(&mut self, now: Instant, step: usize) -> Option<Duration> {
        self.late.fill(0);
        self.since = now;
        let before = std::mem::replace(&mut self.step, step);
        (before != step).then(|| self.buffer())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A ladder of 1 ms, 2 ms and so on, and its clock.
    struct Watched {
        ladder: Ladder,
        begin: Instant,
    }

    impl Watched {
        fn new(buffers: u32, at_least: u32) -> Watched {
            let begin = Instant::now();
            let buffers = (1..=buffers).map(|ms| ms * MS).collect();
            let ladder = Ladder::new(begin, buffers, at_least * MS);
            Watched { ladder, begin }
        }

        /// The buffer to go over to, in milliseconds.
        fn watch(&mut self, second: u64, late: &[u32]) -> Option<u128> {
            let now = self.begin + Duration::from_secs(second);
            Some(self.ladder.watch(now, late)?.as_millis())
        }
    }

    #[test]
    fn it_begins_with_what_lasts_long_enough() {
        for (at_least, begins) in [(0, 1), (3, 3), (9, 4)] {
            assert_eq!(Watched::new(4, at_least).ladder.buffer(), begins * MS);
        }
    }

    #[test]
    fn it_climbs_as_far_as_the_calls_were_late() {
        let mut ladder = Watched::new(4, 0);
        assert_eq!(ladder.watch(1, &[2, 1, 0, 0]), None);
        assert_eq!(ladder.watch(2, &[1, 0, 0, 0]), Some(2));
        assert_eq!(ladder.watch(3, &[4, 4, 4, 2]), Some(4));
        assert_eq!(ladder.watch(4, &[9, 9, 9, 9]), None);
        assert_eq!(ladder.ladder.buffer(), 4 * MS);
    }

    #[test]
    fn what_is_late_now_and_then_is_not_again_and_again() {
        let mut ladder = Watched::new(4, 0);
        for second in 0..100 {
            let late = u32::from(second % 11 == 0);
            assert_eq!(ladder.watch(second, &[late, 0, 0, 0]), None);
        }
    }

    #[test]
    fn it_comes_down_step_by_step_when_less_would_have_been_enough() {
        let mut ladder = Watched::new(4, 4);
        let mut buffers = Vec::new();
        for second in 0..100 {
            let late = u32::from(second % 2 == 0);
            let rare = u32::from(second % 25 == 0);
            buffers.extend(ladder.watch(second, &[late, rare, 0, 0]));
        }
        assert_eq!(buffers, [3, 2]);
    }

    #[test]
    fn one_that_stays_up_forgets_all_the_same_what_was_late_long_ago() {
        let mut ladder = Watched::new(3, 2);
        ladder.ladder = ladder.ladder.that_stays_up();
        for second in 0..100 {
            let late = u32::from(second % 12 == 0);
            assert_eq!(ladder.watch(second, &[0, late, 0]), None);
        }
        assert_eq!(ladder.watch(100, &[4, 4, 0]), Some(3));
    }

    #[test]
    fn a_ladder_without_steps_stays_where_it_is() {
        let mut ladder = Watched::new(0, 2);
        for second in 0..100 {
            assert_eq!(ladder.watch(second, &[]), None);
        }
        assert_eq!(ladder.ladder.buffer(), Duration::ZERO);
    }
}
