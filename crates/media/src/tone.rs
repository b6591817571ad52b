//! Measures tones: whether a test's sine arrived, for how long, and with which gaps.

use crate::{FRAME, SAMPLE_RATE};

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
    let step = sample_rate as usize / 200;
    let window = step * 2;
    let mut report = ToneReport {
        seconds: 0.0,
        span: 0.0,
        longest_gap_ms: 0.0,
        first: None,
    };
    let mut last_end = 0.0;
    for (index, piece) in samples.windows(window).step_by(step).enumerate() {
        let amplitude = level_at(piece, hz, sample_rate);
        let energy: f64 = piece
            .iter()
            .map(|&s| (f64::from(s) / 32_768.0).powi(2))
            .sum();
        let tone_energy = amplitude * amplitude / 2.0 * piece.len() as f64;
        if amplitude < threshold || tone_energy < 0.5 * energy {
            continue;
        }
        let begin = index as f64 * 0.005;
        if report.first.is_none() {
            report.first = Some(begin);
        } else if begin > last_end {
            report.longest_gap_ms = f64::max(report.longest_gap_ms, (begin - last_end) * 1e3);
        }
        report.seconds += 0.005;
        last_end = begin + 0.005;
    }
    report.span = report.first.map_or(0.0, |first| last_end - first);
    report
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
