//! The linear part of echo cancellation: a model of the way from the speaker to the microphone,
//! which predicts the echo, and learns from what it predicted wrongly.
//!
//! It is a Kalman filter in the frequency domain, of partitions of one frame each (Enzner and
//! Vary 2006; Kuech, Mabande and Enzner 2014): beside each weight it keeps how uncertain that
//! weight is, and beside each bin how much of the error is not echo at all. So it learns quickly
//! when it knows little, and hardly at all while both people speak: that is what keeps the near
//! speech whole in double talk.

use super::far::FarEnd;
use super::spectrum::{BINS, Bin, Fourier, SILENT, Spectrum};
use crate::FRAME;

/// How long an echo may last: 160 ms from the begin of the window.
pub(super) const PARTITIONS: usize = 16;
/// Partitions whose time response is cut back to one frame in each step; the others wait for
/// their turn, which saves most of the transforms.
const CONSTRAINED: usize = 3;
/// How much of the room's response changes from frame to frame (of its power): while nothing
/// speaks for it, and when the error still resembles what was played.
const CALM: f32 = 0.0002;
const RESTLESS: f32 = 0.02;
/// The share of the old value in the power of what is not echo.
const SMOOTHING: f32 = 0.5;
/// The weight of that power against the uncertain echo's.
const CAUTION: f32 = 1.5;
/// The uncertainty of the first partition at the begin; of the next ones less, as rooms decay.
const DOUBT: f32 = 0.2;
const DECAY: f32 = 0.75;
/// Bins that tell how clocks differ: up to 8 kHz.
const HEARD: usize = 160;
/// How fast the measured difference is believed.
const FOLLOW: f32 = 0.02;
/// Clocks differ by 500 parts in a million at most, 0.24 samples a frame: this angle for each bin.
const STEEPEST: f32 = 500e-6 * std::f32::consts::PI;
/// Keeps divisions whole: far below one step of a 16-bit sample.
const TINY: f32 = 1e-9;

/// Predicts the echo and takes it away.
#[derive(Debug)]
pub(super) struct Canceller {
    /// By partition: the response of the echo path.
    weights: Vec<Spectrum>,
    /// The variance of each weight.
    doubts: Vec<[f32; BINS]>,
    /// The power of what is not echo, from the error.
    other: [f32; BINS],
    /// The power of the echo that is left, as the variances have it.
    residual: [f32; BINS],
    work: Spectrum,
    /// The spectrum of the last error, after a frame of silence.
    error: Spectrum,
    constrain_next: usize,
    /// How far a bin's weights turn in a frame, for each step in frequency.
    slope: f32,
    /// The lag of the first partition in frames.
    first: usize,
}

impl Canceller {
    pub(super) fn new() -> Canceller {
        let mut canceller = Canceller {
            weights: vec![SILENT; PARTITIONS],
            doubts: vec![[0.0; BINS]; PARTITIONS],
            other: [0.0; BINS],
            residual: [0.0; BINS],
            work: SILENT,
            error: SILENT,
            constrain_next: 0,
            slope: 0.0,
            first: 0,
        };
        canceller.restart_at(0);
        canceller
    }

    /// The lag of the first partition in frames.
    pub(super) fn first(&self) -> usize {
        self.first
    }

    /// The spectrum of the last error, after a frame of silence.
    pub(super) fn error(&self) -> &Spectrum {
        &self.error
    }

    /// The power of the echo that is probably left in the error.
    pub(super) fn residual(&self) -> &[f32; BINS] {
        &self.residual
    }

    /// Begins anew with the first partition at another lag.
    pub(super) fn restart_at(&mut self, first: usize) {
        self.first = first;
        self.slope = 0.0;
        for place in 0..PARTITIONS {
            self.clear(place);
        }
    }

    /// Moves the window to another lag and keeps what it knows of the lags that stay in it.
    pub(super) fn slide_to(&mut self, first: usize) {
        let by = self.first.abs_diff(first).min(PARTITIONS);
        if first > self.first {
            self.weights.rotate_left(by);
            self.doubts.rotate_left(by);
            for place in PARTITIONS - by..PARTITIONS {
                self.clear(place);
            }
        } else {
            self.weights.rotate_right(by);
            self.doubts.rotate_right(by);
            for place in 0..by {
                self.clear(place);
            }
        }
        self.first = first;
    }

    fn clear(&mut self, place: usize) {
        self.weights[place] = SILENT;
        self.doubts[place] = [initial_doubt(place); BINS];
    }

    /// Takes the predicted echo from a frame; gives what is left, and the prediction. `unrest`, 0
    /// to 1, says how surely the echo path is changing.
    pub(super) fn cancel(
        &mut self,
        fourier: &mut Fourier,
        far: &FarEnd,
        near: &[f32; FRAME],
        error: &mut [f32; FRAME],
        echo: &mut [f32; FRAME],
        unrest: f32,
    ) {
        self.predict(far);
        echo.copy_from_slice(&fourier.inverse(&self.work)[FRAME..]);
        for ((error, near), echo) in error.iter_mut().zip(near).zip(echo.iter()) {
            *error = near - echo;
        }
        fourier.forward(&[0.0; FRAME], error, &mut self.error);
        if self.residual.iter().all(|&power| power == 0.0) {
            // Nothing was played: there is nothing to learn.
            return;
        }
        for (power, bin) in self.other.iter_mut().zip(&self.error) {
            *power = SMOOTHING * *power + (1.0 - SMOOTHING) * bin.norm_sqr();
        }
        self.learn(far, CALM + unrest * (RESTLESS - CALM));
        for _ in 0..CONSTRAINED {
            self.constrain(fourier);
        }
    }

    /// The echo's spectrum into `work`, and the power of what it misses into `residual`.
    fn predict(&mut self, far: &FarEnd) {
        self.work = SILENT;
        self.residual = [0.0; BINS];
        for (place, (weights, doubts)) in self.weights.iter().zip(&self.doubts).enumerate() {
            let Some((played, energy)) = far.before(self.first + place) else {
                continue;
            };
            if energy == 0.0 {
                continue;
            }
            for bin in 0..BINS {
                self.work[bin] += played[bin] * weights[bin];
                self.residual[bin] += played[bin].norm_sqr() * doubts[bin];
            }
        }
    }

    /// The Kalman step, from the error's spectrum.
    fn learn(&mut self, far: &FarEnd, change: f32) {
        // Of a frame beside a silent one, half of the power is seen (overlap and save).
        let mut scale = [0.0; BINS];
        for (bin, scale) in scale.iter_mut().enumerate() {
            *scale = 1.0 / (0.5 * self.residual[bin] + CAUTION * self.other[bin] + TINY);
        }
        let (mut turned, mut strength) = (0.0, 0.0);
        let partitions = self.weights.iter_mut().zip(&mut self.doubts);
        for (place, (weights, doubts)) in partitions.enumerate() {
            let played = match far.before(self.first + place) {
                Some((played, energy)) if energy > 0.0 => played,
                _ => continue,
            };
            for bin in 0..BINS {
                let gain = doubts[bin] * scale[bin];
                let step = played[bin].conj() * self.error[bin] * gain;
                if bin < HEARD {
                    let place = bin as f32;
                    turned += place * (step.im * weights[bin].re - step.re * weights[bin].im);
                    strength += place * place * weights[bin].norm_sqr();
                }
                weights[bin] += step;
                let kept = (1.0 - 0.5 * gain * played[bin].norm_sqr()).max(0.0);
                doubts[bin] =
                    (1.0 - change) * kept * doubts[bin] + change * weights[bin].norm_sqr();
            }
        }
        let found = turned / (strength + TINY);
        self.slope = (self.slope + FOLLOW * found).clamp(-STEEPEST, STEEPEST);
        self.turn();
    }

    /// Keeps up with two clocks that differ: the response moves by the same time in every frame,
    /// and so each weight turns by an angle that grows with its frequency.
    fn turn(&mut self) {
        let by = Bin::from_polar(1.0, self.slope);
        let mut turn = [Bin::new(1.0, 0.0); BINS];
        for bin in 1..BINS {
            turn[bin] = turn[bin - 1] * by;
        }
        for weights in &mut self.weights {
            for (weight, turn) in weights.iter_mut().zip(&turn) {
                *weight *= turn;
            }
        }
    }

    /// Cuts the response of one partition to one frame: products of spectra wrap around.
    fn constrain(&mut self, fourier: &mut Fourier) {
        let place = self.constrain_next;
        self.constrain_next = (place + 1) % PARTITIONS;
        let mut response = [0.0; FRAME];
        response.copy_from_slice(&fourier.inverse(&self.weights[place])[..FRAME]);
        fourier.forward(&response, &[0.0; FRAME], &mut self.weights[place]);
    }
}

fn initial_doubt(place: usize) -> f32 {
    DOUBT * DECAY.powi(place as i32)
}
