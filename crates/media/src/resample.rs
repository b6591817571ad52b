//! Sample rates: 48 kHz to 8 kHz and back for G.711, with little delay.

use std::collections::VecDeque;
use std::f64::consts::PI;
use std::sync::OnceLock;

/// 48 kHz over 8 kHz.
const FACTOR: usize = 6;
/// Taps of the low-pass filter at 48 kHz: linear phase, so 1.5 ms of delay each way.
const TAPS: usize = 144;
/// Where the filter is down by half, in hertz: G.711 carries 300 to 3400.
const CUTOFF: f64 = 3_800.0;

/// A Kaiser-windowed sinc, 60 dB down outside its band, of gain 1.
fn low_pass() -> &'static [f32; TAPS] {
    static FILTER: OnceLock<[f32; TAPS]> = OnceLock::new();
    FILTER.get_or_init(|| {
        let middle = (TAPS - 1) as f64 / 2.0;
        let mut taps = [0.0f64; TAPS];
        for (index, tap) in taps.iter_mut().enumerate() {
            let x = index as f64 - middle;
            let phase = 2.0 * PI * CUTOFF / 48_000.0 * x;
            let window = bessel(5.65 * (1.0 - (x / middle).powi(2)).max(0.0).sqrt());
            // TAPS is even: x is never zero.
            *tap = phase.sin() / x * window;
        }
        let sum: f64 = taps.iter().sum();
        taps.map(|tap| (tap / sum) as f32)
    })
}

/// The modified Bessel function of order zero.
fn bessel(x: f64) -> f64 {
    let (mut sum, mut term) = (1.0, 1.0);
    for k in 1..25 {
        term *= (x / 2.0 / f64::from(k)).powi(2);
        sum += term;
    }
    sum
}

fn round(sample: f32) -> i16 {
    // `as` saturates.
    sample.round() as i16
}

/// 48 kHz to 8 kHz.
#[derive(Debug)]
pub(crate) struct Down6 {
    history: Vec<f32>,
}

impl Down6 {
    pub(crate) fn new() -> Down6 {
        Down6 {
            history: vec![0.0; TAPS - FACTOR],
        }
    }

    /// A sixth of the samples; their number must be a multiple of six.
    pub(crate) fn process(&mut self, input: &[i16]) -> Vec<i16> {
        self.history.extend(input.iter().map(|&s| f32::from(s)));
        let output = self
            .history
            .windows(TAPS)
            .step_by(FACTOR)
            .map(|window| round(window.iter().zip(low_pass()).map(|(a, b)| a * b).sum()))
            .collect();
        let surplus = self.history.len() - (TAPS - FACTOR);
        self.history.drain(..surplus);
        output
    }
}

/// 8 kHz to 48 kHz.
#[derive(Debug)]
pub(crate) struct Up6 {
    history: VecDeque<f32>,
}

impl Up6 {
    pub(crate) fn new() -> Up6 {
        Up6 {
            history: vec![0.0; TAPS / FACTOR].into(),
        }
    }

    /// Appends six samples for each.
    pub(crate) fn process(&mut self, input: &[i16], output: &mut Vec<i16>) {
        for &sample in input {
            self.history.pop_back();
            self.history.push_front(f32::from(sample));
            for phase in 0..FACTOR {
                let taps = low_pass().iter().skip(phase).step_by(FACTOR);
                let sum: f32 = self.history.iter().zip(taps).map(|(a, b)| a * b).sum();
                output.push(round(sum * FACTOR as f32));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tone::{level, level_at};

    fn sine(hz: f64, rate: f64, samples: usize) -> Vec<i16> {
        (0..samples)
            .map(|n| (16_000.0 * (2.0 * PI * hz * n as f64 / rate).sin()) as i16)
            .collect()
    }

    #[test]
    fn speech_passes_both_ways() {
        for hz in [300.0, 1_000.0, 3_000.0, 3_300.0] {
            let narrow = Down6::new().process(&sine(hz, 48_000.0, 48_000));
            assert_eq!(narrow.len(), 8_000);
            let amplitude = level_at(&narrow[800..], hz, 8_000);
            assert!((0.45..0.51).contains(&amplitude), "{hz} {amplitude}");
            let mut wide = Vec::new();
            Up6::new().process(&narrow, &mut wide);
            assert_eq!(wide.len(), 48_000);
            let amplitude = level(&wide[4_800..], hz);
            assert!((0.42..0.51).contains(&amplitude), "{hz} {amplitude}");
        }
    }

    #[test]
    fn nothing_folds_back_and_no_image_remains() {
        let narrow = Down6::new().process(&sine(5_000.0, 48_000.0, 48_000));
        assert!(level_at(&narrow[800..], 3_000.0, 8_000) < 0.001);
        let mut wide = Vec::new();
        Up6::new().process(&sine(1_000.0, 8_000.0, 8_000), &mut wide);
        for image in [7_000.0, 9_000.0, 15_000.0, 17_000.0, 23_000.0] {
            assert!(level(&wide[4_800..], image) < 0.001, "{image}");
        }
    }
}
