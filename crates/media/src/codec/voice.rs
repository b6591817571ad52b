//! Something like a voice, for tests.

use std::f64::consts::TAU;

use crate::SAMPLE_RATE;

/// Sample `n` of a buzz of harmonics that comes and goes four times a second, as syllables do.
pub(crate) fn spoken(n: usize) -> i16 {
    let t = n as f64 / f64::from(SAMPLE_RATE);
    let harmonics = (1..20).map(|k| (TAU * 140.0 * f64::from(k) * t).sin() / f64::from(k));
    let loudness = (TAU * 4.0 * t).sin().max(0.0);
    (6_000.0 * loudness * harmonics.sum::<f64>()) as i16
}
