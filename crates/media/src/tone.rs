//! Measures tones: whether a test's sine arrived, for how long, and with which gaps.

use crate::{FRAME, SAMPLE_RATE};

/// Steps of measuring in a second.
const STEPS: usize = 200;

/// How much of a tone a recording holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ToneReport {
    /// Seconds of the recording that hold the tone.
    pub seconds: f64,
    /// Seconds from the first to the last moment with the tone.
    pub span: f64,
    /// The longest stretch without the tone between these two, in milliseconds.
    pub longest_gap_ms: f64,
    /// When the tone is heard first, in seconds from the recording's begin.
    pub first: Option<f64>,
}

/// The amplitude (0 to 1, 1 is full scale) of the tone of `hz` in these samples of 48 kHz, by
/// Goertzel's algorithm.
pub fn level(samples: &[i16], hz: f64) -> f64 {
    level_at(samples, hz, SAMPLE_RATE)
}

/// [`level`] for another sample rate.
pub fn level_at(samples: &[i16], hz: f64, sample_rate: u32) -> f64 {
    if samples.is_empty() {
        return 0.0;
    }
    let omega = std::f64::consts::TAU * hz / f64::from(sample_rate);
    let coefficient = 2.0 * omega.cos();
    let (mut s1, mut s2) = (0.0, 0.0);
    for &sample in samples {
        let s0 = f64::from(sample) / 32_768.0 + coefficient * s1 - s2;
        s2 = s1;
        s1 = s0;
    }
    let power = s1 * s1 + s2 * s2 - coefficient * s1 * s2;
    2.0 * power.max(0.0).sqrt() / samples.len() as f64
}

/// Measures the tone of `hz` in a recording of `sample_rate`, in steps of 5 ms. A step holds the
/// tone when its amplitude is at least `threshold` (0 to 1) in the 10 ms around it and most of
/// the sound there is the tone.
pub fn measure(samples: &[i16], hz: f64, sample_rate: u32, threshold: f64) -> ToneReport {
    let step = sample_rate as usize / STEPS;
    let (mut held, mut longest_gap) = (0, 0);
    let mut bounds: Option<(usize, usize)> = None;
    let windows = samples.windows(step * 2).step_by(step.max(1));
    for (index, piece) in windows.enumerate() {
        let amplitude = level_at(piece, hz, sample_rate);
        let squares = piece.iter().map(|&s| (f64::from(s) / 32_768.0).powi(2));
        let tone_energy = amplitude * amplitude / 2.0 * piece.len() as f64;
        if amplitude < threshold || tone_energy < 0.5 * squares.sum::<f64>() {
            continue;
        }
        held += 1;
        let (first, last) = *bounds.get_or_insert((index, index));
        longest_gap = longest_gap.max((index - last).saturating_sub(1));
        bounds = Some((first, index));
    }
    let seconds = |steps: usize| steps as f64 / STEPS as f64;
    ToneReport {
        seconds: seconds(held),
        span: bounds.map_or(0.0, |(first, last)| seconds(last + 1 - first)),
        longest_gap_ms: seconds(longest_gap) * 1e3,
        first: bounds.map(|(first, _)| seconds(first)),
    }
}

/// [`measure`] for frames of the inner format.
pub fn measure_frames<'a>(
    frames: impl IntoIterator<Item = &'a [i16; FRAME]>,
    hz: f64,
    threshold: f64,
) -> ToneReport {
    let samples: Vec<i16> = frames.into_iter().flatten().copied().collect();
    measure(&samples, hz, SAMPLE_RATE, threshold)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::{Source, Tone};

    #[test]
    fn a_tone_with_a_hole_is_measured() {
        let mut samples = Vec::new();
        let mut source = Tone::new(440.0);
        let mut frame = [0; FRAME];
        for n in 0..200 {
            source.read(&mut frame);
            let silent = n < 20 || (100..110).contains(&n);
            samples.extend(if silent { [0; FRAME] } else { frame });
        }
        let report = measure(&samples, 440.0, SAMPLE_RATE, 0.1);
        assert!((report.seconds - 1.7).abs() < 0.02, "{report:?}");
        assert!((report.longest_gap_ms - 100.0).abs() <= 10.0, "{report:?}");
        assert!((report.first.unwrap() - 0.2).abs() <= 0.01, "{report:?}");
        assert!((level(&samples[40 * FRAME..80 * FRAME], 440.0) - 0.25).abs() < 0.01);
        assert_eq!(measure(&samples, 880.0, SAMPLE_RATE, 0.1).first, None);
        assert_eq!(measure(&[], 880.0, SAMPLE_RATE, 0.1).seconds, 0.0);
    }

    #[test]
    fn noise_and_other_tones_are_not_the_tone() {
        let mut state = 1u32;
        let noise: Vec<i16> = (0..48_000)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 16) as i16
            })
            .collect();
        assert!(measure(&noise, 440.0, SAMPLE_RATE, 0.05).seconds < 0.02);
    }
}
