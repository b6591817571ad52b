//! Which packets of a stream were not heard, and how they lie: in bursts or far apart (RFC 3611
//! section 4.7.2).

use std::time::Duration;

/// So many packets received in a row end a burst (RFC 3611 section 4.7.2 recommends 16).
pub(crate) const GMIN: u8 = 16;

/// Packets one after the other.
#[derive(Clone, Copy, Debug, Default)]
struct Stretch {
    packets: u64,
    /// Those among them that were not heard.
    missing: u64,
    /// How long all of them last.
    time: Duration,
}

impl Stretch {
    fn add(&mut self, other: Stretch) {
        self.packets += other.packets;
        self.missing += other.missing;
        self.time += other.time;
    }

    /// The share of packets that were not heard.
    fn density(&self) -> Option<f64> {
        (self.packets > 0).then(|| self.missing as f64 / self.packets as f64)
    }
}

/// Is told of every packet in the order of their sound, and sorts them into bursts and gaps.
///
/// A burst begins and ends with a packet that was lost or discarded, and holds fewer than
/// [`GMIN`] received ones in a row; what is between bursts is a gap, with losses that are alone.
/// So a lost packet is known to be alone, or the end of its burst, only [`GMIN`] packets later.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Losses {
    lost: u64,
    discarded: u64,
    received: u64,
    /// Runs of missing packets, and whether the last packet was one.
    runs: u64,
    in_run: bool,
    /// All bursts and all gaps that are known, and how many they are.
    bursts: Stretch,
    burst_count: u64,
    gaps: Stretch,
    gap_count: u64,
    in_gap: bool,
    /// From a missing packet to the last one that may belong to the same burst, and what was
    /// received since.
    open: Option<Stretch>,
    since: Stretch,
}

/// How the losses lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Distribution {
    /// The share of missing packets within bursts; `None` without a burst.
    pub(crate) burst_density: Option<f64>,
    /// The share of missing packets within gaps; `None` before there was one.
    pub(crate) gap_density: Option<f64>,
    /// How long a burst lasts, in the mean.
    pub(crate) burst: Option<Duration>,
    /// How long a gap lasts, in the mean.
    pub(crate) gap: Option<Duration>,
}

impl Losses {
    /// The next packet was heard; it lasted this long.
    pub(crate) fn received(&mut self, time: Duration) {
        self.received += 1;
        self.in_run = false;
        self.since.packets += 1;
        self.since.time += time;
        if self.open.is_none() || self.since.packets >= u64::from(GMIN) {
            self.settle();
        }
    }

    /// The next packet never came.
    pub(crate) fn lost(&mut self, time: Duration) {
        self.lost += 1;
        self.missed(time);
    }

    /// The next packet came, but too late or in a way that it was not heard.
    pub(crate) fn discarded(&mut self, time: Duration) {
        self.discarded += 1;
        self.missed(time);
    }

    /// A packet that was taken for lost came after all.
    pub(crate) fn came_late(&mut self) {
        if let Some(lost) = self.lost.checked_sub(1) {
            self.lost = lost;
            self.discarded += 1;
        }
    }

    fn missed(&mut self, time: Duration) {
        self.runs += u64::from(!self.in_run);
        self.in_run = true;
        let open = self.open.get_or_insert_default();
        open.add(std::mem::take(&mut self.since));
        open.add(Stretch {
            packets: 1,
            missing: 1,
            time,
        });
    }

    /// Nothing that may follow belongs to the burst any more.
    fn settle(&mut self) {
        match self.open.take() {
            Some(alone) if alone.packets == 1 => self.gap(alone),
            Some(burst) => {
                self.bursts.add(burst);
                self.burst_count += 1;
                self.in_gap = false;
            }
            None => {}
        }
        let since = std::mem::take(&mut self.since);
        if since.packets > 0 {
            self.gap(since);
        }
    }

    fn gap(&mut self, stretch: Stretch) {
        self.gaps.add(stretch);
        self.gap_count += u64::from(!self.in_gap);
        self.in_gap = true;
    }

    /// How the losses lie, as if nothing but received packets followed (RFC 3611 section 4.7.2).
    pub(crate) fn distribution(&self) -> Distribution {
        let mut all = *self;
        all.settle();
        let mean =
            |stretch: Stretch, count: u64| (count > 0).then(|| stretch.time.div_f64(count as f64));
        Distribution {
            burst_density: all.bursts.density(),
            gap_density: all.gaps.density(),
            burst: mean(all.bursts, all.burst_count),
            gap: mean(all.gaps, all.gap_count),
        }
    }

    fn all(&self) -> u64 {
        self.received + self.lost + self.discarded
    }

    /// The share of packets that never came; `None` before there was any.
    pub(crate) fn lost_share(&self) -> Option<f64> {
        (self.all() > 0).then(|| self.lost as f64 / self.all() as f64)
    }

    /// The share of packets that came and were not heard.
    pub(crate) fn discarded_share(&self) -> Option<f64> {
        (self.all() > 0).then(|| self.discarded as f64 / self.all() as f64)
    }

    /// Packets that came and were not heard.
    pub(crate) fn discards(&self) -> u64 {
        self.discarded
    }

    /// The share of packets that were not heard; `None` before there was any.
    pub(crate) fn share(&self) -> Option<f64> {
        let missing = self.lost + self.discarded;
        (self.all() > 0).then(|| missing as f64 / self.all() as f64)
    }

    /// How many packets a run of missing ones had, in the mean; `None` without a loss.
    pub(crate) fn run(&self) -> Option<f64> {
        let missing = self.lost + self.discarded;
        (self.runs > 0).then(|| missing as f64 / self.runs as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `1`: heard, `0`: lost, `X`: discarded; packets of so many milliseconds.
    fn of(pattern: &str, ms: u64) -> Losses {
        let mut losses = Losses::default();
        let time = Duration::from_millis(ms);
        for packet in pattern.chars() {
            match packet {
                '1' => losses.received(time),
                '0' => losses.lost(time),
                _ => losses.discarded(time),
            }
        }
        losses
    }

    fn ms(ms: u64) -> Option<Duration> {
        Some(Duration::from_millis(ms))
    }

    /// The example of RFC 3611 section 4.7.2, with the 64 packets that its figures speak of.
    #[test]
    fn the_example_of_the_rfc() {
        let first = "1".repeat(4) + "0" + &"1".repeat(18);
        let burst = "X111X1011110";
        let second = "1".repeat(18) + "X" + &"1".repeat(10);
        let losses = of(&(first + burst + &second), 10);
        let distribution = losses.distribution();
        assert_eq!(distribution.burst, ms(120));
        assert_eq!(distribution.burst_density, Some(4.0 / 12.0));
        // The gaps last 230 and 290 ms.
        assert_eq!(distribution.gap, ms(260));
        assert_eq!(distribution.gap_density, Some(2.0 / 52.0));
        assert_eq!(losses.lost_share(), Some(3.0 / 64.0));
        assert_eq!(losses.discarded_share(), Some(3.0 / 64.0));
        assert_eq!(losses.share(), Some(6.0 / 64.0));
    }

    #[test]
    fn fifteen_received_packets_are_in_a_burst_and_sixteen_are_between_losses() {
        let near = of(&("0".to_owned() + &"1".repeat(15) + "0"), 20).distribution();
        assert_eq!((near.burst, near.gap), (ms(17 * 20), None));
        assert_eq!(near.burst_density, Some(2.0 / 17.0));
        assert_eq!(near.gap_density, None);
        let far = of(&("0".to_owned() + &"1".repeat(16) + "0"), 20).distribution();
        assert_eq!((far.burst, far.burst_density), (None, None));
        assert_eq!(far.gap, ms(18 * 20));
        assert_eq!(far.gap_density, Some(2.0 / 18.0));
    }

    #[test]
    fn a_report_in_the_middle_changes_nothing() {
        let (mut asked, mut unasked) = (Losses::default(), Losses::default());
        let pattern = "1".repeat(20) + "00111001" + &"1".repeat(40) + "0" + &"1".repeat(7) + "X1";
        for packet in pattern.chars() {
            for losses in [&mut asked, &mut unasked] {
                match packet {
                    '1' => losses.received(Duration::from_millis(20)),
                    _ => losses.lost(Duration::from_millis(20)),
                }
            }
            let _ = asked.distribution();
        }
        assert_eq!(asked.distribution(), unasked.distribution());
        // Bursts of 7 and 9 packets with 4 and 2 losses; gaps of 20, 41 and 1.
        let distribution = asked.distribution();
        assert_eq!(distribution.burst, ms(16 * 20 / 2));
        assert_eq!(distribution.burst_density, Some(6.0 / 16.0));
        assert_eq!(
            distribution.gap,
            Some(Duration::from_millis(62 * 20).div_f64(3.0))
        );
        assert_eq!(distribution.gap_density, Some(0.0));
    }

    #[test]
    fn nothing_nothing_but_losses_and_no_loss() {
        let none = of("", 20);
        assert_eq!((none.share(), none.run()), (None, None));
        let distribution = none.distribution();
        assert_eq!((distribution.burst, distribution.gap), (None, None));
        let all = of("00000", 20).distribution();
        assert_eq!((all.burst, all.burst_density), (ms(100), Some(1.0)));
        assert_eq!((all.gap, all.gap_density), (None, None));
        let clean = of("11111", 20);
        assert_eq!((clean.share(), clean.run()), (Some(0.0), None));
        let distribution = clean.distribution();
        assert_eq!(
            (distribution.burst, distribution.burst_density),
            (None, None)
        );
        assert_eq!(
            (distribution.gap, distribution.gap_density),
            (ms(100), Some(0.0))
        );
    }

    #[test]
    fn runs_are_counted_and_a_late_packet_is_lost_no_more() {
        let mut losses = of("11100010111111111111", 20);
        assert_eq!((losses.share(), losses.run()), (Some(0.2), Some(2.0)));
        losses.came_late();
        assert_eq!(losses.lost_share(), Some(0.15));
        assert_eq!(
            (losses.discarded_share(), losses.discards()),
            (Some(0.05), 1)
        );
        assert_eq!((losses.share(), losses.run()), (Some(0.2), Some(2.0)));
        // More packets late than lost: duplicates, which change nothing.
        for _ in 0..9 {
            losses.came_late();
        }
        assert_eq!(
            (losses.lost_share(), losses.share()),
            (Some(0.0), Some(0.2))
        );
    }
}
