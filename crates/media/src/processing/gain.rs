//! Automatic gain: speech is brought to a common level, and never clipped.

use crate::FRAME;

/// The level that speech is brought to: -23 dBFS (RMS).
const TARGET_DB: f32 = -23.0;
/// So near to it, nothing is done.
const NEAR_ENOUGH_DB: f32 = 2.0;
/// The gain's bounds.
const MOST_DB: f32 = 18.0;
const LEAST_DB: f32 = -12.0;
/// How fast it rises and falls, in dB a frame of speech: 3 and 10 dB a second.
const RISE_DB: f32 = 0.03;
const FALL_DB: f32 = 0.1;
/// The share of the old value in the level of speech: half a second of it.
const SMOOTHING: f32 = 0.98;
/// No sample comes out higher: -1 dBFS.
const CEILING: f32 = 0.89;
/// How the limiter lets go: by this share of its attenuation a frame.
const RELEASE: f32 = 0.1;

/// Brings speech to a common level.
#[derive(Debug)]
pub(super) struct AutoGain {
    /// The power of speech so far.
    power: Option<f32>,
    gain_db: f32,
    /// The limiter's gain, at most 1.
    limit: f32,
    /// The gain at the end of the last frame.
    applied: f32,
}

impl AutoGain {
    pub(super) fn new() -> AutoGain {
        AutoGain {
            power: None,
            gain_db: 0.0,
            limit: 1.0,
            applied: 1.0,
        }
    }

    /// Amplifies a frame, which holds near speech or not.
    pub(super) fn amplify(&mut self, frame: &mut [f32; FRAME], speech: bool) {
        let squares: f32 = frame.iter().map(|sample| sample * sample).sum();
        let power = squares / FRAME as f32;
        if speech && power > 0.0 {
            let smoothed = self
                .power
                .map_or(power, |old| SMOOTHING * old + (1.0 - SMOOTHING) * power);
            self.power = Some(smoothed);
            let wanted = (TARGET_DB - 10.0 * smoothed.log10()).clamp(LEAST_DB, MOST_DB);
            let off = wanted - self.gain_db;
            if off.abs() > NEAR_ENOUGH_DB {
                self.gain_db += off.clamp(-FALL_DB, RISE_DB);
            }
        }
        let gain = 10f32.powf(self.gain_db / 20.0);
        let peak = frame
            .iter()
            .fold(0.0f32, |peak, sample| peak.max(sample.abs()));
        let room = (CEILING / (peak * gain + 1e-9)).min(1.0);
        self.limit = room.min(self.limit + RELEASE * (1.0 - self.limit));
        let (from, to) = (self.applied, gain * self.limit);
        // Down at once where it would clip, up along the frame.
        for (index, sample) in frame.iter_mut().enumerate() {
            let share = ((index + 1) as f32 * 8.0 / FRAME as f32).min(1.0);
            *sample = (*sample * (from + share * (to - from))).clamp(-1.0, 1.0);
        }
        self.applied = to;
    }
}
