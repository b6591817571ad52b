//! Sample rates: 48 kHz to 8 or 16 kHz and back, for G.711 and G.722, with little delay.
//!
//! Nothing here allocates once it was made, but for an output that has no room left.

use std::f64::consts::PI;
use std::sync::OnceLock;
use std::time::Duration;

/// Taps of the low-pass filters at 48 kHz: linear phase, so 1.5 ms of delay each way.
const TAPS: usize = 144;
/// That delay.
pub(crate) const DELAY: Duration = Duration::from_micros(TAPS as u64 / 2 * 1_000 / 48);
/// Samples that are filtered in one go.
const BLOCK: usize = 480;
/// Sums that run side by side, as the processor can.
const LANES: usize = 8;

/// How far down the sound goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Narrow {
    /// 8 kHz, flat to 3.4 kHz (G.711).
    Khz8,
    /// 16 kHz, flat to 7 kHz (G.722).
    Khz16,
}

impl Narrow {
    /// 48 kHz over this rate.
    pub(crate) fn factor(self) -> usize {
        match self {
            Narrow::Khz8 => 6,
            Narrow::Khz16 => 3,
        }
    }

    /// Where the filter is down by half, in hertz: 600 Hz above what must pass unharmed, so that
    /// what little folds back lies above that too.
    fn cutoff(self) -> f64 {
        match self {
            Narrow::Khz8 => 4_000.0,
            Narrow::Khz16 => 7_600.0,
        }
    }

    /// The filter for 48 kHz, of gain 1.
    fn low_pass(self) -> &'static [f32; TAPS] {
        static KHZ8: OnceLock<[f32; TAPS]> = OnceLock::new();
        static KHZ16: OnceLock<[f32; TAPS]> = OnceLock::new();
        let place = match self {
            Narrow::Khz8 => &KHZ8,
            Narrow::Khz16 => &KHZ16,
        };
        place.get_or_init(|| design(self.cutoff()))
    }
}

/// A Kaiser-windowed sinc, 60 dB down outside its band.
fn design(cutoff: f64) -> [f32; TAPS] {
    let middle = (TAPS - 1) as f64 / 2.0;
    let mut taps = [0.0f64; TAPS];
    for (index, tap) in taps.iter_mut().enumerate() {
        let x = index as f64 - middle;
        let phase = 2.0 * PI * cutoff / 48_000.0 * x;
        let window = bessel(5.65 * (1.0 - (x / middle).powi(2)).max(0.0).sqrt());
        // TAPS is even: x is never zero.
        *tap = phase.sin() / x * window;
    }
    let sum: f64 = taps.iter().sum();
    taps.map(|tap| (tap / sum) as f32)
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

/// The sum of the products.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0f32; LANES];
    for (a, b) in a.iter().zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

/// 48 kHz down.
#[derive(Debug)]
pub(crate) struct Down {
    factor: usize,
    taps: &'static [f32; TAPS],
    /// What came before, and a block.
    window: [f32; TAPS + BLOCK],
    /// How many samples of it are there.
    held: usize,
}

impl Down {
    pub(crate) fn new(to: Narrow) -> Down {
        Down {
            factor: to.factor(),
            taps: to.low_pass(),
            window: [0.0; TAPS + BLOCK],
            held: TAPS - to.factor(),
        }
    }

    /// Appends a sample for every three or six that came.
    pub(crate) fn process(&mut self, input: &[i16], output: &mut Vec<i16>) {
        for part in input.chunks(BLOCK) {
            let room = self.window.iter_mut().skip(self.held);
            for (place, &sample) in room.zip(part) {
                *place = f32::from(sample);
            }
            self.held += part.len();
            let sound = self.window.get(..self.held).unwrap_or_default();
            let mut used = 0;
            for window in sound.windows(TAPS).step_by(self.factor) {
                output.push(round(dot(window, self.taps)));
                used += self.factor;
            }
            self.window.copy_within(used..self.held, 0);
            self.held -= used;
        }
    }
}

/// Up to 48 kHz.
#[derive(Debug)]
pub(crate) struct Up {
    /// The taps of each of the samples that come out for one, latest input last.
    phases: [[f32; TAPS / 3]; 6],
    factor: usize,
    window: [f32; TAPS / 3 + BLOCK],
}

impl Up {
    pub(crate) fn new(from: Narrow) -> Up {
        let factor = from.factor();
        let mut phases = [[0.0; TAPS / 3]; 6];
        for (phase, taps) in phases.iter_mut().take(factor).enumerate() {
            let filter = from.low_pass().iter().skip(phase).step_by(factor);
            let places = taps.iter_mut().take(TAPS / factor).rev();
            for (place, tap) in places.zip(filter) {
                *place = tap * factor as f32;
            }
        }
        Up {
            phases,
            factor,
            window: [0.0; TAPS / 3 + BLOCK],
        }
    }

    /// Appends three or six samples for each.
    pub(crate) fn process(&mut self, input: &[i16], output: &mut Vec<i16>) {
        let taps = TAPS / self.factor;
        for part in input.chunks(BLOCK) {
            let room = self.window.iter_mut().skip(taps - 1);
            for (place, &sample) in room.zip(part) {
                *place = f32::from(sample);
            }
            let held = taps - 1 + part.len();
            let sound = self.window.get(..held).unwrap_or_default();
            for window in sound.windows(taps) {
                for phase in self.phases.iter().take(self.factor) {
                    let phase = phase.get(..taps).unwrap_or_default();
                    output.push(round(dot(window, phase)));
                }
            }
            self.window.copy_within(part.len()..held, 0);
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

    fn down(to: Narrow, sound: &[i16]) -> Vec<i16> {
        let mut narrow = Vec::new();
        Down::new(to).process(sound, &mut narrow);
        narrow
    }

    fn up(from: Narrow, sound: &[i16]) -> Vec<i16> {
        let mut wide = Vec::new();
        Up::new(from).process(sound, &mut wide);
        wide
    }

    #[test]
    fn speech_passes_both_ways_unharmed() {
        let g711 = [
            (Narrow::Khz8, 200.0),
            (Narrow::Khz8, 1_000.0),
            (Narrow::Khz8, 3_400.0),
        ];
        let g722 = [
            (Narrow::Khz16, 50.0),
            (Narrow::Khz16, 4_000.0),
            (Narrow::Khz16, 7_000.0),
        ];
        for (rate, hz) in g711.into_iter().chain(g722) {
            let hertz = 48_000 / rate.factor();
            let narrow = down(rate, &sine(hz, 48_000.0, 48_000));
            assert_eq!(narrow.len(), hertz);
            // Within a tenth of a decibel.
            let amplitude = level_at(&narrow[hertz / 10..], hz, hertz as u32);
            assert!((0.482..0.494).contains(&amplitude), "{hz} {amplitude}");
            let wide = up(rate, &narrow);
            assert_eq!(wide.len(), 48_000);
            let amplitude = level(&wide[4_800..], hz);
            assert!((0.477..0.499).contains(&amplitude), "{hz} {amplitude}");
        }
    }

    #[test]
    fn nothing_folds_back_and_no_image_remains() {
        let narrow = down(Narrow::Khz8, &sine(5_000.0, 48_000.0, 48_000));
        assert!(level_at(&narrow[800..], 3_000.0, 8_000) < 0.001);
        let narrow = down(Narrow::Khz16, &sine(9_000.0, 48_000.0, 48_000));
        assert!(level_at(&narrow[800..], 7_000.0, 16_000) < 0.001);
        let wide = up(Narrow::Khz8, &sine(1_000.0, 8_000.0, 8_000));
        for image in [7_000.0, 9_000.0, 15_000.0, 17_000.0, 23_000.0] {
            assert!(level(&wide[4_800..], image) < 0.001, "{image}");
        }
        let wide = up(Narrow::Khz16, &sine(3_000.0, 16_000.0, 16_000));
        for image in [13_000.0, 19_000.0] {
            assert!(level(&wide[4_800..], image) < 0.001, "{image}");
        }
    }

    #[test]
    fn pieces_of_any_length_make_the_same_sound_as_the_whole() {
        let sound = sine(700.0, 48_000.0, 9_600);
        for rate in [Narrow::Khz8, Narrow::Khz16] {
            let whole = down(rate, &sound);
            let (mut low, mut high) = (Down::new(rate), Up::new(rate));
            let (mut narrow, mut wide) = (Vec::new(), Vec::new());
            for piece in sound.chunks(7) {
                low.process(piece, &mut narrow);
            }
            assert_eq!(narrow, whole);
            for piece in whole.chunks(11) {
                high.process(piece, &mut wide);
            }
            assert_eq!(wide, up(rate, &whole));
        }
    }
}
