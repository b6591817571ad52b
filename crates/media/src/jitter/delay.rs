//! The distribution of the packets' transit times.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A bin of the histogram, in nanoseconds.
const BIN: i64 = 1_000_000;
const BINS: usize = 600;
/// This share of the packets shall come in time.
const QUANTILE: f64 = 0.99;
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
}

impl DelayEstimator {
    pub(super) fn new() -> DelayEstimator {
        DelayEstimator {
            least: VecDeque::new(),
            window_began: None,
            shares: vec![0.0; BINS],
            packets: 0.0,
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
    }

    /// The quickest transit of the last seconds.
    pub(super) fn least(&self) -> i64 {
        self.least.iter().copied().min().unwrap_or(0)
    }

    /// How much longer the way may be for nearly all packets to come in time.
    pub(super) fn spread(&self) -> i64 {
        let mut sum = 0.0;
        let mut bin = 0;
        for (index, share) in self.shares.iter().enumerate() {
            sum += share;
            bin = index as i64;
            if sum >= QUANTILE {
                break;
            }
        }
        // Steady packets all lie in the first bin: they need no more than the margin.
        bin * BIN + MARGIN
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
