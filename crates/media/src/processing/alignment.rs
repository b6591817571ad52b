//! Where the echo is: the coherence between what was played and what the microphone hears, by lag.

use super::far::FarEnd;
use super::spectrum::{Bin, Spectrum};

/// Lags that are watched, in frames: 500 ms.
pub(super) const LAGS: usize = 50;
/// The bins that are compared: 200 Hz to 3.4 kHz, where speech is.
const FIRST: usize = 4;
const COMPARED: usize = 64;
/// The share of the old value in each mean: a third of a second.
const SMOOTHING: f32 = 0.97;
/// Frames between two looks at the means.
const LOOK: u32 = 10;
/// Frames before the first look.
const WARM: u32 = 30;
/// Power below which a bin says nothing: a few steps of a 16-bit sample.
const TINY: f32 = 1e-6;

/// The means of one lag.
#[derive(Debug, Clone)]
struct Lag {
    cross: [Bin; COMPARED],
    played: [f32; COMPARED],
}

/// Finds the lag at which a signal is most like what was played.
#[derive(Debug)]
pub(super) struct Alignment {
    lags: Vec<Lag>,
    heard: [f32; COMPARED],
    frames: u32,
}

/// The most coherent lag.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Peak {
    /// In frames.
    pub(super) lag: usize,
    /// 0 (nothing in common) to 1 (the same).
    pub(super) coherence: f32,
    /// The mean of all lags: what chance gives.
    pub(super) mean: f32,
}

impl Alignment {
    /// Watches so many lags.
    pub(super) fn new(lags: usize) -> Alignment {
        let lag = Lag {
            cross: [Bin::default(); COMPARED],
            played: [0.0; COMPARED],
        };
        Alignment {
            lags: vec![lag; lags],
            heard: [0.0; COMPARED],
            frames: 0,
        }
    }

    /// Takes the spectrum of a captured frame and the one before; now and then gives the most
    /// coherent lag, counted from `first`.
    pub(super) fn look(&mut self, far: &FarEnd, first: usize, spectrum: &Spectrum) -> Option<Peak> {
        let near = &spectrum[FIRST..FIRST + COMPARED];
        for (heard, near) in self.heard.iter_mut().zip(near) {
            *heard = SMOOTHING * *heard + (1.0 - SMOOTHING) * near.norm_sqr();
        }
        let mut heard_any = false;
        for (lag, means) in self.lags.iter_mut().enumerate() {
            let played = match far.before(first + lag) {
                Some((played, energy)) if energy > 0.0 => played,
                _ => continue,
            };
            heard_any = true;
            let played = &played[FIRST..FIRST + COMPARED];
            let bins = means.cross.iter_mut().zip(&mut means.played);
            for ((cross, power), (played, near)) in bins.zip(played.iter().zip(near)) {
                *cross = *cross * SMOOTHING + played.conj() * near * (1.0 - SMOOTHING);
                *power = SMOOTHING * *power + (1.0 - SMOOTHING) * played.norm_sqr();
            }
        }
        // Silence says nothing.
        self.frames += u32::from(heard_any);
        if !heard_any || self.frames < WARM || !self.frames.is_multiple_of(LOOK) {
            return None;
        }
        self.peak()
    }

    fn peak(&self) -> Option<Peak> {
        let coherences = self.lags.iter().map(|means| self.coherence(means));
        let (mut best, mut sum) = (None::<(usize, f32)>, 0.0);
        for (lag, coherence) in coherences.enumerate() {
            sum += coherence;
            if best.is_none_or(|(_, most)| coherence > most) {
                best = Some((lag, coherence));
            }
        }
        let (lag, coherence) = best?;
        Some(Peak {
            lag,
            coherence,
            mean: sum / self.lags.len() as f32,
        })
    }

    fn coherence(&self, means: &Lag) -> f32 {
        let bins = means.cross.iter().zip(&means.played).zip(&self.heard);
        let each = bins.map(|((cross, played), heard)| {
            let powers = played * heard;
            match powers > TINY * TINY {
                true => (cross.norm_sqr() / powers).min(1.0),
                false => 0.0,
            }
        });
        each.sum::<f32>() / COMPARED as f32
    }

    /// Begins anew: the path has moved.
    pub(super) fn restart(&mut self) {
        for means in &mut self.lags {
            means.cross.fill(Bin::default());
            means.played.fill(0.0);
        }
        self.heard = [0.0; COMPARED];
        self.frames = 0;
    }
}
