//! What the linear canceller leaves, and noise: attenuated bin by bin.
//!
//! The gains of a frame become a filter of 5 ms with linear phase, so that this costs 2.5 ms of
//! delay and not the frame that an overlap-and-add would.

use super::spectrum::{BINS, Bin, Fourier, SILENT, Spectrum, WINDOW};
use crate::FRAME;

/// Half of the filter: its delay in samples, 2.5 ms.
pub(super) const DELAY: usize = 120;
/// Bins of one band of the leakage estimate: 1 kHz.
const BAND: usize = 20;
const BANDS: usize = BINS.div_ceil(BAND);
/// The share of the old value in the leakage's means while the far end speaks: a second.
const LEAK_SMOOTHING: f32 = 0.985;
/// How much of a predicted echo's power may be taken to be left of it.
const MOST_LEAK: f32 = 1.0;
/// An echo that has been predicted rings on by this share of its power a frame: rooms of 0.3 s.
const REVERB: f32 = 0.63;
/// Overestimates of the residual echo: too much is less of a nuisance than too little.
const LEAK_WEIGHT: f32 = 3.0;
const DOUBT_WEIGHT: f32 = 2.0;
/// The Hann window's power against that of two whole frames.
const HANN_POWER: f32 = 0.375;
/// The share of the last frame in the estimate of the signal (Ephraim and Malah 1984).
const DECISION: f32 = 0.85;
/// What noise suppression leaves of noise: -14 dB.
const NOISE_LEFT: f32 = 0.2;
const TINY: f32 = 1e-12;

/// Attenuates residual echo and noise.
#[derive(Debug)]
pub(super) struct Suppressor {
    suppress_noise: bool,
    noise: Noise,
    leakage: Leakage,
    /// The last frames: of the error, and of the predicted echo.
    last: [f32; FRAME],
    last_echo: [f32; FRAME],
    /// The power of the near signal that the last frame's gains let through.
    passed: [f32; BINS],
    residual: [f32; BINS],
    filter: Spectrum,
    old_filter: Spectrum,
    work: Spectrum,
    work_echo: Spectrum,
}

impl Suppressor {
    pub(super) fn new(suppress_noise: bool, fourier: &mut Fourier) -> Suppressor {
        let mut suppressor = Suppressor {
            suppress_noise,
            noise: Noise::default(),
            leakage: Leakage::default(),
            last: [0.0; FRAME],
            last_echo: [0.0; FRAME],
            passed: [0.0; BINS],
            residual: [0.0; BINS],
            filter: SILENT,
            old_filter: SILENT,
            work: SILENT,
            work_echo: SILENT,
        };
        suppressor.design(fourier, &[1.0; BINS]);
        suppressor.old_filter = suppressor.filter;
        suppressor
    }

    /// Works on a frame in place. `echo` is the prediction that was taken from it, and `doubts`
    /// the power of what that missed; both silent without cancellation. Says whether there is near
    /// speech of which the level can be told.
    pub(super) fn suppress(
        &mut self,
        fourier: &mut Fourier,
        frame: &mut [f32; FRAME],
        echo: &[f32; FRAME],
        doubts: &[f32; BINS],
    ) -> bool {
        let mut spectrum = SILENT;
        fourier.forward(&self.last, frame, &mut spectrum);
        fourier.forward(&self.last_echo, echo, &mut self.work_echo);
        self.last = *frame;
        self.last_echo = *echo;
        let power = hann_power(&spectrum);
        let echo_power = hann_power(&self.work_echo);
        self.leakage.update(&power, &echo_power);
        for (bin, doubt) in doubts.iter().enumerate() {
            let ringing = self.leakage.ringing[bin];
            let leaked = LEAK_WEIGHT * self.leakage.share(bin) * ringing;
            let doubted = DOUBT_WEIGHT * HANN_POWER * doubt;
            self.residual[bin] = leaked.max(doubted);
        }
        self.noise.update(&power, &self.residual);
        let gains = self.gains(&power);
        std::mem::swap(&mut self.filter, &mut self.old_filter);
        self.design(fourier, &gains);
        self.apply(fourier, &spectrum, frame);
        self.is_speech(&power)
    }

    /// Wiener gains, by the decision-directed estimate of the near signal.
    fn gains(&mut self, power: &[f32; BINS]) -> [f32; BINS] {
        let mut gains = [1.0; BINS];
        for bin in 0..BINS {
            let noise = self.noise.power[bin];
            let (unwanted, left) = match self.suppress_noise {
                true => (self.residual[bin] + noise, NOISE_LEFT),
                false => (self.residual[bin], 1.0),
            };
            let unwanted = unwanted + TINY;
            let now = (power[bin] / unwanted - 1.0).max(0.0);
            let ratio = DECISION * self.passed[bin] / unwanted + (1.0 - DECISION) * now;
            // What is left of the noise hides what is left of the echo.
            let floor = left * (noise / (power[bin] + TINY)).sqrt();
            let gain = (ratio / (1.0 + ratio)).max(floor).min(1.0);
            self.passed[bin] = gain * gain * power[bin];
            gains[bin] = gain;
        }
        gains
    }

    /// The filter that has these gains, smoothed over the neighbouring bins.
    fn design(&mut self, fourier: &mut Fourier, gains: &[f32; BINS]) {
        for (bin, gain) in self.work.iter_mut().zip(gains) {
            *bin = Bin::new(*gain, 0.0);
        }
        let response = fourier.inverse(&self.work);
        let mut taps = [0.0f32; 2 * DELAY + 1];
        for (index, tap) in taps.iter_mut().enumerate() {
            let place = (index + WINDOW - DELAY) % WINDOW;
            *tap = response[place] * taper(index);
        }
        fourier.forward_with(
            |samples| {
                samples[..taps.len()].copy_from_slice(&taps);
                samples[taps.len()..].fill(0.0);
            },
            &mut self.filter,
        );
    }

    /// Overlap and save, with the old filter fading into the new one.
    fn apply(&mut self, fourier: &mut Fourier, spectrum: &Spectrum, frame: &mut [f32; FRAME]) {
        multiply(spectrum, &self.old_filter, &mut self.work);
        frame.copy_from_slice(&fourier.inverse(&self.work)[FRAME..]);
        multiply(spectrum, &self.filter, &mut self.work);
        let new = &fourier.inverse(&self.work)[FRAME..];
        for (index, (sample, new)) in frame.iter_mut().zip(new).enumerate() {
            let share = (index as f32 + 0.5) / FRAME as f32;
            *sample += share * (new - *sample);
        }
    }

    /// Whether there is near speech, by the bins of 300 Hz to 4 kHz.
    fn is_speech(&self, power: &[f32; BINS]) -> bool {
        let sum = |of: &[f32; BINS]| of[6..80].iter().sum::<f32>();
        let (all, near) = (sum(power), sum(&self.passed));
        let (noise, residual) = (sum(&self.noise.power), sum(&self.residual));
        near > 8.0 * noise + TINY && near > 0.5 * all && residual < 0.25 * all
    }
}

/// The power of each bin under a Hann window, which in the frequency domain is a sum of three
/// neighbours.
fn hann_power(spectrum: &Spectrum) -> [f32; BINS] {
    let mut power = [0.0; BINS];
    for bin in 0..BINS {
        // Beyond the ends, a real signal's spectrum is mirrored.
        let below = match bin {
            0 => spectrum[1].conj(),
            _ => spectrum[bin - 1],
        };
        let above = match bin == BINS - 1 {
            true => spectrum[BINS - 2].conj(),
            false => spectrum[bin + 1],
        };
        power[bin] = (spectrum[bin] * 0.5 - (below + above) * 0.25).norm_sqr();
    }
    power
}

fn multiply(left: &Spectrum, right: &Spectrum, product: &mut Spectrum) {
    for ((product, left), right) in product.iter_mut().zip(left).zip(right) {
        *product = left * right;
    }
}

/// A Hann window over the filter's taps.
fn taper(index: usize) -> f32 {
    let phase = std::f32::consts::PI * (index as f32 - DELAY as f32) / (DELAY as f32 + 1.0);
    0.5 + 0.5 * phase.cos()
}

/// How much of the predicted echo's power is left in the error, by bands: the regression of the
/// one on the other (Valin 2007). The near signal has no part in it, since it goes its own way.
#[derive(Debug)]
struct Leakage {
    /// The predicted echo's power, ringing on.
    ringing: [f32; BINS],
    mean_error: [f32; BINS],
    mean_echo: [f32; BINS],
    both: [f32; BANDS],
    echo: [f32; BANDS],
}

impl Default for Leakage {
    fn default() -> Leakage {
        Leakage {
            ringing: [0.0; BINS],
            mean_error: [0.0; BINS],
            mean_echo: [0.0; BINS],
            both: [0.0; BANDS],
            echo: [0.0; BANDS],
        }
    }
}

impl Leakage {
    fn update(&mut self, error: &[f32; BINS], echo: &[f32; BINS]) {
        let mut heard = false;
        for (ringing, echo) in self.ringing.iter_mut().zip(echo) {
            *ringing = echo.max(REVERB * *ringing);
            heard |= *ringing > 1e-7;
        }
        if !heard {
            return;
        }
        const NEW: f32 = 1.0 - LEAK_SMOOTHING;
        for band in 0..BANDS {
            let (mut both, mut squares) = (0.0, 0.0);
            let bins = band * BAND..((band + 1) * BAND).min(BINS);
            let errors = error[bins.clone()]
                .iter()
                .zip(&mut self.mean_error[bins.clone()]);
            let echoes = self.ringing[bins.clone()]
                .iter()
                .zip(&mut self.mean_echo[bins]);
            for ((error, mean_error), (echo, mean_echo)) in errors.zip(echoes) {
                let (of_error, of_echo) = (error - *mean_error, echo - *mean_echo);
                *mean_error += NEW * of_error;
                *mean_echo += NEW * of_echo;
                both += of_error * of_echo;
                squares += of_echo * of_echo;
            }
            self.both[band] = LEAK_SMOOTHING * self.both[band] + NEW * both;
            self.echo[band] = LEAK_SMOOTHING * self.echo[band] + NEW * squares;
        }
    }

    /// The share of the bin's echo that is left.
    fn share(&self, bin: usize) -> f32 {
        let band = bin / BAND;
        (self.both[band] / (self.echo[band] + TINY * TINY)).clamp(0.0, MOST_LEAK)
    }
}

/// The power of stationary noise, by the probability of speech in each bin (Gerkmann and Hendriks
/// 2012).
#[derive(Debug)]
struct Noise {
    power: [f32; BINS],
    /// How probable speech has been lately.
    speech: [f32; BINS],
    frames: u32,
}

/// Frames at the begin that noise is first guessed from.
const GUESS: u32 = 10;

impl Default for Noise {
    fn default() -> Noise {
        Noise {
            power: [f32::MAX; BINS],
            speech: [0.5; BINS],
            frames: 0,
        }
    }
}

impl Noise {
    fn update(&mut self, power: &[f32; BINS], residual: &[f32; BINS]) {
        if self.frames < GUESS {
            self.frames += 1;
            for (noise, power) in self.power.iter_mut().zip(power) {
                *noise = noise.min(*power);
            }
            return;
        }
        // Speech is assumed to be 15 dB above noise where it is.
        const RATIO: f32 = 31.6;
        for bin in 0..BINS {
            let noise = self.power[bin] + TINY;
            if residual[bin] > 0.5 * noise {
                continue;
            }
            let above = power[bin] / noise;
            let mut speech = 1.0 / (1.0 + (1.0 + RATIO) * (-above * RATIO / (1.0 + RATIO)).exp());
            self.speech[bin] = 0.9 * self.speech[bin] + 0.1 * speech;
            if self.speech[bin] > 0.99 {
                // Nobody speaks so long: the noise has grown.
                speech = speech.min(0.99);
            }
            let now = speech * noise + (1.0 - speech) * power[bin];
            self.power[bin] = 0.8 * noise + 0.2 * now;
        }
    }
}
