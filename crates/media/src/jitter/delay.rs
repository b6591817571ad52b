//! The distribution of the packets' transit times.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A bin of the histogram, in nanoseconds.
const BIN: i64 = 1_000_000;
const BINS: usize = 600;
/// What it is worth that all packets come in time and none too late, in nanoseconds of delay: of each
/// hundredth of them, 40 ms. Rare packets that come much later are not waited for.
const WORTH: f64 = 4e9;
/// Room beyond it, for the unsteadiness of the playout's own ticks (nanoseconds).
const MARGIN: i64 = 5_000_000;
/// A packet's weight fades by this with every later one: half of it is gone after 5 s.
const FADING: f64 = 0.997;
/// The quickest transit is the least of so many windows.
const WINDOWS: usize = 8;
const WINDOW: Duration = Duration::from_secs(1);

/// Learns the delays of one timeline.
#[derive(Debug)]
pub(super) struct DelayEstimator {
    /// The least transit of each of the last windows, the newest at the back.
    least: VecDeque<i64>,
    window_began: Option<Instant>,
    /// Shares of the packets by how much longer their way was than the quickest one's.
    shares: Vec<f64>,
    packets: f64,
    /// The bin that is best waited for.
    best: usize,
}

impl DelayEstimator {
    pub(super) fn new() -> DelayEstimator {
        DelayEstimator {
            least: VecDeque::with_capacity(WINDOWS + 1),
            window_began: None,
            shares: vec![0.0; BINS],
            packets: 0.0,
            best: 0,
        }
    }

    /// A packet came with this transit (nanoseconds).
    pub(super) fn note(&mut self, now: Instant, transit: i64) {
        let fresh = self
            .window_began
            .is_none_or(|began| now.saturating_duration_since(began) >= WINDOW);
        if fresh {
            self.window_began = Some(now);
            self.least.push_back(transit);
            if self.least.len() > WINDOWS {
                self.least.pop_front();
            }
        }
        let before = self.least();
        if let Some(least) = self.least.back_mut() {
            *least = transit.min(*least);
        }
        if transit < before {
            self.shift(before - transit);
        }
        self.packets += 1.0;
        let keep = f64::min(FADING, 1.0 - 1.0 / self.packets);
        for share in &mut self.shares {
            *share *= keep;
        }
        let bin = ((transit - self.least()) / BIN).clamp(0, BINS as i64 - 1);
        if let Some(share) = self.shares.get_mut(bin as usize) {
            *share += 1.0 - keep;
        }
        self.best = self.choose();
    }

    /// The bin at which the delay, and what comes too late for it, cost least.
    fn choose(&self) -> usize {
        let mut late = self.shares.iter().sum::<f64>();
        let mut best = (0, f64::MAX);
        for (bin, share) in self.shares.iter().enumerate() {
            late -= share;
            let cost = bin as f64 * BIN as f64 + late * WORTH;
            if cost < best.1 {
                best = (bin, cost);
            }
        }
        best.0
    }

    /// The quickest transit of the last seconds.
    pub(super) fn least(&self) -> i64 {
        self.least.iter().copied().min().unwrap_or(0)
    }

    /// How much longer the way may be for a packet to come in time: for all but a few.
    pub(super) fn spread(&self) -> i64 {
        // Steady packets all lie in the first bin: they need no more than the margin.
        self.best as i64 * BIN + MARGIN
    }

    /// The quickest way became quicker: everything before was slower by that, in comparison.
    fn shift(&mut self, by: i64) {
        let bins = usize::try_from(by / BIN).unwrap_or(BINS).min(BINS - 1);
        if bins == 0 {
            return;
        }
        let overflow: f64 = self.shares[BINS - 1 - bins..].iter().sum();
        self.shares.rotate_right(bins);
        self.shares[..bins].fill(0.0);
        self.shares[BINS - 1] = overflow;
    }
}
