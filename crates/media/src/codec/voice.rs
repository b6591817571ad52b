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

/// Sample `n` of a voice that sings vowels: its pitch wavers, and no syllable is as loud as the one before.
pub(crate) fn sung(n: usize) -> i16 {
    let t = n as f64 / f64::from(SAMPLE_RATE);
    (loudness(t) * vowel(t)) as i16
}

/// Sample `n` of one vowel that goes on and on.
pub(crate) fn held(n: usize) -> i16 {
    (0.6 * vowel(n as f64 / f64::from(SAMPLE_RATE))) as i16
}

fn vowel(t: f64) -> f64 {
    const FORMANTS: [(f64, f64); 3] = [(600.0, 80.0), (1_300.0, 110.0), (2_600.0, 160.0)];
    let phase = TAU * (130.0 * t - 2.0 * (TAU * 1.1 * t).cos());
    let pitch = 130.0 + 2.0 * TAU * 1.1 * (TAU * 1.1 * t).sin();
    let harmonics = (1..28).map(|k| {
        let hertz = pitch * f64::from(k);
        let near = |(at, width): (f64, f64)| 1.0 / (1.0 + ((hertz - at) / width).powi(2));
        let weight: f64 = 0.05 + FORMANTS.into_iter().map(near).sum::<f64>();
        weight * (phase * f64::from(k)).sin()
    });
    2_500.0 * harmonics.sum::<f64>()
}

/// Of [`sung`], between 0 and 1: four syllables a second, of all strengths.
fn loudness(t: f64) -> f64 {
    let syllable = (t * 4.0).floor();
    let strength = 0.25 + 0.75 * (syllable * 0.618_034).fract();
    strength * (TAU / 2.0 * (t * 4.0).fract()).sin().powi(2)
}
