//! How long a device's buffer has to be on its host.

use std::time::Duration;

/// So often late,
const LATE: u32 = 3;
/// within this time, is again and again. When in all of it no more than one call would have been late
/// for a shorter buffer, that is tried.
const WITHIN: Duration = Duration::from_secs(20);

/// Climbs when calls are late again and again, and comes down when they have not been for a while.
#[derive(Debug)]
pub(super) struct Ladder {
    step: usize,
    /// How often calls were too late for the buffer of each step.
    late: Vec<u32>,
    since: Duration,
    comes_down: bool,
}

impl Ladder {
    /// A ladder of so many steps, at one of them.
    pub(super) fn new(steps: usize, step: usize) -> Ladder {
        Ladder {
            step: step.min(steps.saturating_sub(1)),
            late: vec![0; steps],
            since: Duration::ZERO,
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

    pub(super) fn step(&self) -> usize {
        self.step
    }

    /// So many calls were too late for the buffer of each step since the time before; `now` is any
    /// steady clock. Gives the step to go to.
    pub(super) fn watch(&mut self, now: Duration, late: &[u32]) -> Option<usize> {
        for (sum, new) in self.late.iter_mut().zip(late) {
            *sum += new;
        }
        if self.late.get(self.step).is_some_and(|late| *late >= LATE) {
            let higher = self.late.iter().skip(self.step + 1);
            let more = higher.take_while(|late| **late >= LATE).count() + 1;
            let highest = self.late.len() - 1;
            return self.go(now, (self.step + more).min(highest));
        }
        if now.saturating_sub(self.since) < WITHIN {
            return None;
        }
        let lower = self.step.checked_sub(1);
        let late = lower.and_then(|lower| self.late.get(lower));
        let calm = late.is_some_and(|late| *late <= 1);
        self.late.fill(0);
        self.since = now;
        match calm && self.comes_down {
            true => self.go(now, lower?),
            false => None,
        }
    }

    fn go(&mut self, now: Duration, step: usize) -> Option<usize> {
        self.late.fill(0);
        self.since = now;
        let before = std::mem::replace(&mut self.step, step);
        (before != step).then_some(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn it_climbs_as_far_as_the_calls_were_late() {
        let mut ladder = Ladder::new(4, 0);
        assert_eq!(ladder.watch(seconds(1), &[2, 1, 0, 0]), None);
        assert_eq!(ladder.watch(seconds(2), &[1, 0, 0, 0]), Some(1));
        assert_eq!(ladder.watch(seconds(3), &[4, 4, 4, 2]), Some(3));
        assert_eq!(ladder.watch(seconds(4), &[9, 9, 9, 9]), None);
        assert_eq!(ladder.step(), 3);
    }

    #[test]
    fn what_is_late_now_and_then_is_not_again_and_again() {
        let mut ladder = Ladder::new(4, 0);
        for second in 0..100 {
            let late = u32::from(second % 11 == 0);
            assert_eq!(ladder.watch(seconds(second), &[late, 0, 0, 0]), None);
        }
    }

    #[test]
    fn it_comes_down_step_by_step_when_less_would_have_been_enough() {
        let mut ladder = Ladder::new(4, 3);
        let mut steps = Vec::new();
        for second in 0..100 {
            let late = u32::from(second % 2 == 0);
            let rare = u32::from(second % 25 == 0);
            steps.extend(ladder.watch(seconds(second), &[late, rare, 0, 0]));
        }
        assert_eq!(steps, [2, 1]);
    }

    #[test]
    fn one_that_stays_up_forgets_all_the_same_what_was_late_long_ago() {
        let mut ladder = Ladder::new(3, 1).that_stays_up();
        for second in 0..100 {
            let late = u32::from(second % 12 == 0);
            assert_eq!(ladder.watch(seconds(second), &[0, late, 0]), None);
        }
        assert_eq!(ladder.watch(seconds(100), &[4, 4, 0]), Some(2));
    }

    #[test]
    fn a_ladder_without_steps_stays_where_it_is() {
        let mut ladder = Ladder::new(0, 2);
        for second in 0..100 {
            assert_eq!(ladder.watch(seconds(second), &[]), None);
        }
    }
}
