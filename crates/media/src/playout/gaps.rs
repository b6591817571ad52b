//! How long the gaps are that losses tear, whatever fills them afterwards.

/// Packets over which the longest gap counts: the delay shall not follow every loss.
const WINDOW: u32 = 250;
/// More packets than this in a row are not lost but never sent, or another timeline.
const MOST_LOST: u16 = 100;

/// The longest gaps of late, in ticks of the RTP clock.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    /// Sequence number of the newest packet, and the timestamp at which it ends.
    newest: Option<(u16, u32)>,
    packets: u32,
    /// Of this window, and of the one before.
    longest: [u32; 2],
}

impl Gaps {
    /// A packet came.
    pub(super) fn note(&mut self, sequence: u16, timestamp: u32, duration: u32) {
        self.packets += 1;
        if self.packets >= WINDOW {
            self.packets = 0;
            self.longest = [0, self.longest[0]];
        }
        if let Some((newest, end)) = self.newest {
            let ahead = sequence.wrapping_sub(newest);
            if ahead == 0 || ahead > u16::MAX / 2 {
                return;
            }
            let gap = timestamp.wrapping_sub(end);
            if (2..=MOST_LOST).contains(&ahead) && gap <= u32::MAX / 2 {
                self.longest[0] = self.longest[0].max(gap);
            }
        }
        self.newest = Some((sequence, timestamp.wrapping_add(duration)));
    }

    /// The longest gap of late.
    pub(super) fn longest(&self) -> u32 {
        self.longest.into_iter().max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_gap_counts_for_some_seconds() {
        let mut gaps = Gaps::default();
        for n in 0..2_000u32 {
            // Three packets are lost once, one is overtaken later on.
            match n {
                50..53 => continue,
                400 => gaps.note(401, 401 * 960, 960),
                401 => gaps.note(400, 400 * 960, 960),
                n => gaps.note(n as u16, n * 960, 960),
            }
            let expected = match n {
                0..53 => 0,
                53..400 => 3 * 960,
                // The overtaken one looked lost.
                700.. => 0,
                _ => continue,
            };
            if !(400..=1_000).contains(&n) {
                assert_eq!(gaps.longest(), expected, "{n}");
            }
        }
    }

    #[test]
    fn a_new_timeline_is_no_gap() {
        let mut gaps = Gaps::default();
        gaps.note(65_530, u32::MAX - 900, 960);
        // Across the wrap of both.
        gaps.note(65_531, 59, 960);
        assert_eq!(gaps.longest(), 0);
        gaps.note(1_000, 900_000, 960);
        assert_eq!(gaps.longest(), 0);
        gaps.note(1_002, 5, 960);
        assert_eq!(gaps.longest(), 0);
        gaps.note(1_004, 5 + 2 * 960, 960);
        assert_eq!(gaps.longest(), 960);
    }
}
