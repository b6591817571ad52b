//! The echo's way as a whole: where it is, what it does, and whether it is changing.

use super::alignment::{Alignment, LAGS, Peak};
use super::canceller::{Canceller, PARTITIONS};
use super::far::FarEnd;
use super::spectrum::{BINS, Fourier, SILENT, Spectrum};
use crate::FRAME;

/// The share of the old value in the powers: a third of a second.
const SMOOTHING: f32 = 0.97;
/// Frames between the begin of the window and the most coherent lag.
const HEADROOM: usize = 2;
/// The most coherent lag may be so much later before the window follows.
const DRIFT: usize = 4;
/// A model works when it takes away so much of the power (6 dB).
const WORKING: f32 = 4.0;
/// How often in a row a lag must be seen before it is believed.
const CONVINCED: u32 = 3;
/// The least coherence that says anything, also as a multiple of what chance gives.
const COHERENT: f32 = 0.08;
const ABOVE_CHANCE: f32 = 2.0;
/// The coherence of an error that holds no echo to speak of, and of one that is all echo.
const UNLIKE: f32 = 0.06;
const LIKE: f32 = 0.16;
/// An error so many times weaker than the echo is let be.
const SPARED: f32 = 10.0;
/// A model is useless when it takes away less of the power than this (3 dB).
const USELESS: f32 = 2.0;
/// Keeps divisions whole.
const TINY: f32 = 1e-9;

/// Takes the echo out of the microphone's sound.
#[derive(Debug)]
pub(super) struct EchoPath {
    canceller: Canceller,
    alignment: Alignment,
    /// How much of what was played is in what is left.
    left: Alignment,
    last_near: [f32; FRAME],
    last_error: Spectrum,
    work: Spectrum,
    /// Smoothed powers before and after cancellation.
    heard: f32,
    kept: f32,
    /// How surely the echo path is changing, 0 to 1.
    unrest: f32,
    /// The model has worked since it was begun.
    worked: bool,
    /// A lag outside the window, and how often it was seen in a row.
    elsewhere: Option<(usize, u32)>,
}

impl EchoPath {
    pub(super) fn new() -> EchoPath {
        EchoPath {
            canceller: Canceller::new(),
            alignment: Alignment::new(LAGS),
            left: Alignment::new(PARTITIONS),
            last_near: [0.0; FRAME],
            last_error: SILENT,
            work: SILENT,
            heard: 0.0,
            kept: 0.0,
            unrest: 0.0,
            worked: false,
            elsewhere: None,
        }
    }

    /// The power of the echo that is probably left.
    pub(super) fn residual(&self) -> &[f32; BINS] {
        self.canceller.residual()
    }

    /// Takes the echo out of a frame, and gives what it took out.
    pub(super) fn cancel(
        &mut self,
        fourier: &mut Fourier,
        far: &FarEnd,
        frame: &mut [f32; FRAME],
        echo: &mut [f32; FRAME],
    ) {
        let near = *frame;
        self.canceller
            .cancel(fourier, far, &near, frame, echo, self.unrest);
        let energy = |frame: &[f32; FRAME]| frame.iter().map(|sample| sample * sample).sum::<f32>();
        self.heard = SMOOTHING * self.heard + (1.0 - SMOOTHING) * energy(&near);
        self.kept = SMOOTHING * self.kept + (1.0 - SMOOTHING) * energy(frame);
        fourier.forward(&self.last_near, &near, &mut self.work);
        self.last_near = near;
        if let Some(peak) = self.alignment.look(far, 0, &self.work) {
            self.follow(peak);
        }
        self.look_at_the_error(far);
    }

    /// Whether what is left still resembles what was played: then the model is wrong, since near
    /// speech does not.
    fn look_at_the_error(&mut self, far: &FarEnd) {
        let error = self.canceller.error();
        for (bin, work) in self.work.iter_mut().enumerate() {
            // The last error as the first half of a window: turned by half of it.
            let last = self.last_error[bin];
            *work = error[bin] + if bin % 2 == 0 { last } else { -last };
        }
        self.last_error = *error;
        if let Some(peak) = self.left.look(far, self.canceller.first(), &self.work) {
            let lost = (SPARED * self.kept / (self.heard + TINY)).min(1.0);
            let like = (peak.coherence - UNLIKE) / (LIKE - UNLIKE);
            self.unrest = (lost * like).clamp(0.0, 1.0);
            self.worked |= self.heard > WORKING * self.kept;
            if self.worked && self.unrest == 1.0 && self.heard < USELESS * self.kept {
                self.worked = false;
                // The path is another one, and what was learnt of the old one is in the way.
                self.canceller.restart_at(self.canceller.first());
                self.left.restart();
            }
        }
    }

    /// The echo is most probably at this lag.
    fn follow(&mut self, peak: Peak) {
        let first = self.canceller.first();
        let within = first..=first + HEADROOM + DRIFT;
        if peak.coherence < COHERENT.max(ABOVE_CHANCE * peak.mean) || within.contains(&peak.lag) {
            self.elsewhere = None;
            return;
        }
        let seen = match self.elsewhere {
            Some((lag, seen)) if lag.abs_diff(peak.lag) <= 1 => seen + 1,
            _ => 1,
        };
        self.elsewhere = Some((peak.lag, seen));
        if seen < CONVINCED {
            return;
        }
        self.elsewhere = None;
        let to = peak.lag.saturating_sub(HEADROOM);
        // A model that still works has been left by a clock that drifts, not by a jump.
        match self.heard > WORKING * self.kept {
            true => self.canceller.slide_to(to),
            false => self.canceller.restart_at(to),
        }
        self.left.restart();
    }
}
