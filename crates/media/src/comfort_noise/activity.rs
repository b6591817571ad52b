//! The sending half: whether somebody speaks, and how it sounds when nobody does.
//!
//! A frame is voice when it is louder than the noise floor, which is the least of the last three
//! seconds: speech has gaps in so long a time. In doubt it is voice, because to send too much costs bits and
//! to send too little costs words.

use std::collections::VecDeque;

use super::{CN_CLOCK, Noise, decibels};
use crate::resample::{Down, Narrow};

/// Samples of a frame of 10 ms.
const FRAME: usize = CN_CLOCK as usize / 100;
/// The lags of the autocorrelation that describe the noise's colour.
const LAGS: usize = 7;
/// Samples of the frame before that are needed for it.
const BEFORE: usize = LAGS - 1;
/// Frames over which the floor's energies are averaged: noise is unsteady in 10 ms.
const SMOOTHING: usize = 3;
/// The floor is the least of so many windows of so many frames.
const WINDOWS: usize = 6;
const WINDOW: usize = 50;
/// Voice is louder than the floor by this (dB).
const ABOVE: f32 = 6.0;
/// Below this (dBov) nothing is heard,
const INAUDIBLE: f32 = -68.0;
/// above this nothing is taken for noise,
const TOO_LOUD: f32 = -35.0;
/// nor above this before the floor is known.
const UNKNOWN: f32 = -60.0;
/// A tone is predicted by the filter to this share, which no noise is; it counts above this level.
const TONAL: f32 = 0.01;
const HUM: f32 = -50.0;
/// What follows voice is taken for voice for so many frames: 200 ms, in which words end and begin again.
const HANGOVER: usize = 20;
/// So many frames without voice are quiet.
const QUIET: usize = 5;
/// The weight of the newest frame in what is known of the noise.
const NEWEST: f32 = 0.1;
/// The pole of the filter that takes away a microphone's direct voltage.
const POLE: f32 = 0.98;

/// Tells voice from noise.
#[derive(Debug)]
pub(crate) struct VoiceActivity {
    down: Down,
    narrow: Vec<i16>,
    /// The last samples of the frame before, and what does not yet fill the next one.
    samples: Vec<f32>,
    /// The last input and output of the filter against direct voltage.
    direct: (f32, f32),
    recent: VecDeque<f32>,
    /// The least of each of the last windows, the newest at the back.
    least: VecDeque<f32>,
    frames: usize,
    /// What is louder than this is voice, before the floor is known.
    unknown: f32,
    hangover: usize,
    /// The autocorrelation of the noise.
    correlation: Option<[f32; LAGS]>,
}

impl VoiceActivity {
    pub(crate) fn new() -> VoiceActivity {
        VoiceActivity {
            down: Down::new(Narrow::Khz8),
            narrow: Vec::new(),
            samples: vec![0.0; BEFORE],
            direct: (0.0, 0.0),
            recent: VecDeque::with_capacity(SMOOTHING + 1),
            least: VecDeque::with_capacity(WINDOWS + 1),
            frames: 0,
            unknown: UNKNOWN,
            // A call begins with voice.
            hangover: HANGOVER,
            correlation: None,
        }
    }

    /// One for sound that is not to be withheld, which need not be sure of the floor.
    pub(crate) fn at_once() -> VoiceActivity {
        VoiceActivity {
            unknown: TOO_LOUD,
            ..VoiceActivity::new()
        }
    }

    /// Nobody spoke for some frames.
    pub(crate) fn is_quiet(&self) -> bool {
        self.hangover + QUIET <= HANGOVER
    }

    /// Hears sound of 48 kHz: whether there is voice in it, or was just before.
    pub(crate) fn hear(&mut self, sound: &[i16]) -> bool {
        self.narrow.clear();
        self.down.process(sound, &mut self.narrow);
        for &sample in &self.narrow {
            let (input, output) = self.direct;
            let blocked = f32::from(sample) - input + POLE * output;
            self.direct = (f32::from(sample), blocked);
            self.samples.push(blocked);
        }
        let mut voice = self.hangover > 0;
        while let Some(frame) = self.samples.first_chunk::<{ BEFORE + FRAME }>() {
            let correlation = autocorrelation(frame);
            self.samples.drain(..FRAME);
            voice |= self.judge(correlation);
        }
        voice
    }

    /// What the noise is like.
    pub(crate) fn noise(&self) -> Noise {
        Noise::of(self.correlation.as_ref().unwrap_or(&[0.0; LAGS]))
    }

    fn judge(&mut self, correlation: [f32; LAGS]) -> bool {
        let [power, ..] = correlation;
        let level = decibels(power);
        let above = self.threshold(power);
        let tonal = level > HUM && Noise::of(&correlation).unpredicted() < TONAL;
        if tonal || (level > INAUDIBLE && level > above) {
            self.hangover = HANGOVER;
            return true;
        }
        let known = self.correlation.get_or_insert(correlation);
        for (known, new) in known.iter_mut().zip(correlation) {
            *known += (new - *known) * NEWEST;
        }
        self.hangover = self.hangover.saturating_sub(1);
        self.hangover > 0
    }

    /// What is louder (dBov) is voice; this frame counts for the floor.
    fn threshold(&mut self, power: f32) -> f32 {
        self.recent.push_back(power);
        if self.recent.len() > SMOOTHING {
            self.recent.pop_front();
        }
        let smooth = self.recent.iter().sum::<f32>() / self.recent.len() as f32;
        let level = decibels(smooth);
        if self.frames.is_multiple_of(WINDOW) {
            self.least.push_back(level);
            if self.least.len() > WINDOWS {
                self.least.pop_front();
            }
        }
        self.frames += 1;
        if let Some(least) = self.least.back_mut() {
            *least = level.min(*least);
        }
        let most = match self.frames < WINDOWS * WINDOW {
            true => self.unknown,
            false => TOO_LOUD,
        };
        let floor = self.least.iter().copied().fold(f32::MAX, f32::min);
        most.min(floor + ABOVE)
    }
}

/// The autocorrelation of a frame, per sample.
fn autocorrelation(frame: &[f32; BEFORE + FRAME]) -> [f32; LAGS] {
    std::array::from_fn(|lag| {
        let now = frame.iter().skip(BEFORE);
        let behind = frame.iter().skip(BEFORE - lag);
        let sum: f32 = now.zip(behind).map(|(a, b)| a * b).sum();
        sum / FRAME as f32
    })
}
