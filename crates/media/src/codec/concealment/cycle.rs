//! One period of a voice, which can be heard at any phase and for as long as it is wanted.

/// The longest period: 20 ms at 16 kHz.
const LONGEST: usize = 330;
/// Samples around the period that the interpolation looks at: one before, two after.
const GUARD: usize = 4;
/// The share of the period over which its end is blended with what makes the next one follow.
const BLEND: f32 = 0.25;

/// A sound that repeats itself after `period` samples.
#[derive(Clone, Debug)]
pub(super) struct Cycle {
    period: f32,
    /// The sample of phase `k - 1`.
    samples: [f32; LONGEST + GUARD],
}

impl Cycle {
    pub(super) fn new() -> Cycle {
        Cycle {
            period: 1.0,
            samples: [0.0; LONGEST + GUARD],
        }
    }

    pub(super) fn period(&self) -> f32 {
        self.period
    }

    /// The last period of `sound`: at phase 0 it goes on where the sound ends. Its end is blended
    /// with what came before its begin, so that the seam between two rounds is smooth.
    pub(super) fn set_end_of(&mut self, sound: &[f32], period: f32) {
        self.period = period.clamp(2.0, LONGEST as f32);
        let (period, end) = (self.period, sound.len() as f32);
        let blend = period * BLEND;
        for (index, sample) in self.samples.iter_mut().enumerate() {
            let phase = (index as f32 - 1.0).rem_euclid(period);
            let here = interpolated(sound, end - period + phase);
            let weight = ((period - phase) / blend).min(1.0);
            *sample = match weight {
                1.0 => here,
                _ => {
                    let earlier = interpolated(sound, end - 2.0 * period + phase);
                    here * weight + earlier * (1.0 - weight)
                }
            };
        }
    }

    /// The first period of `sound`: phase 0 is its first sample, and at negative phases it leads
    /// up to it.
    pub(super) fn set_begin_of(&mut self, sound: &[f32], period: f32) {
        self.period = period.clamp(2.0, LONGEST as f32);
        let period = self.period;
        let room = sound.len() as f32 - period - 2.0;
        let blend = (period * BLEND).min(room).max(f32::MIN_POSITIVE);
        for (index, sample) in self.samples.iter_mut().enumerate() {
            let phase = (index as f32 - 1.0).rem_euclid(period);
            let here = interpolated(sound, phase);
            let weight = (phase / blend).min(1.0);
            *sample = match weight {
                1.0 => here,
                _ => here * weight + interpolated(sound, phase + period) * (1.0 - weight),
            };
        }
    }

    /// The sample of any phase, in samples.
    pub(super) fn at(&self, phase: f32) -> f32 {
        let phase = phase.rem_euclid(self.period);
        let index = phase as usize;
        match self.samples.get(index..index + GUARD) {
            Some(&[a, b, c, d]) => cubic([a, b, c, d], phase - index as f32),
            _ => 0.0,
        }
    }
}

/// `sound` between its samples.
fn interpolated(sound: &[f32], at: f32) -> f32 {
    let index = at.floor();
    let part = at - index;
    let sample = |shift: isize| {
        let place = (index as isize + shift).clamp(0, sound.len().saturating_sub(1) as isize);
        sound.get(place as usize).copied().unwrap_or(0.0)
    };
    cubic([sample(-1), sample(0), sample(1), sample(2)], part)
}

/// The cubic through the two middle ones of four samples, with the slopes of their neighbours.
fn cubic([a, b, c, d]: [f32; 4], part: f32) -> f32 {
    let first = 0.5 * (c - a);
    let second = a - 2.5 * b + 2.0 * c - 0.5 * d;
    let third = 0.5 * (d - a) + 1.5 * (b - c);
    ((third * part + second) * part + first) * part + b
}
