//! Spectra of two frames, and the way there and back, in memory that is taken once.

use std::fmt;
use std::sync::Arc;

use crate::FRAME;
use realfft::num_complex::Complex;
use realfft::{ComplexToReal, RealFftPlanner, RealToComplex};

/// One bin of a spectrum.
pub(super) type Bin = Complex<f32>;

/// Samples of one transform: the last frame and this one.
pub(super) const WINDOW: usize = 2 * FRAME;
/// Bins of one spectrum: 50 Hz apart.
pub(super) const BINS: usize = FRAME + 1;

/// One spectrum.
pub(super) type Spectrum = [Bin; BINS];

/// A spectrum of nothing.
pub(super) const SILENT: Spectrum = [Bin { re: 0.0, im: 0.0 }; BINS];

/// The Fourier transform of two frames, and back.
#[derive(Clone)]
pub(super) struct Fourier {
    forward: Arc<dyn RealToComplex<f32>>,
    inverse: Arc<dyn ComplexToReal<f32>>,
    /// What the transforms work on: they spoil their input.
    samples: Vec<f32>,
    spectrum: Vec<Bin>,
    scratch: Vec<Bin>,
}

impl fmt::Debug for Fourier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fourier").finish_non_exhaustive()
    }
}

impl Fourier {
    pub(super) fn new() -> Fourier {
        let mut planner = RealFftPlanner::new();
        let forward = planner.plan_fft_forward(WINDOW);
        let inverse = planner.plan_fft_inverse(WINDOW);
        let scratch = forward.get_scratch_len().max(inverse.get_scratch_len());
        Fourier {
            samples: vec![0.0; WINDOW],
            spectrum: vec![Bin::default(); BINS],
            scratch: vec![Bin::default(); scratch],
            forward,
            inverse,
        }
    }

    /// The spectrum of two frames, one after the other.
    pub(super) fn forward(
        &mut self,
        first: &[f32; FRAME],
        second: &[f32; FRAME],
        spectrum: &mut Spectrum,
    ) {
        let (head, tail) = self.samples.split_at_mut(FRAME);
        head.copy_from_slice(first);
        tail.copy_from_slice(second);
        self.transform(spectrum);
    }

    /// The spectrum of samples that `fill` writes.
    pub(super) fn forward_with(&mut self, fill: impl FnOnce(&mut [f32]), spectrum: &mut Spectrum) {
        fill(&mut self.samples);
        self.transform(spectrum);
    }

    fn transform(&mut self, spectrum: &mut Spectrum) {
        let fits =
            self.forward
                .process_with_scratch(&mut self.samples, spectrum, &mut self.scratch);
        debug_assert!(fits.is_ok(), "the lengths are those of the plan");
    }

    /// The samples of a spectrum.
    pub(super) fn inverse(&mut self, spectrum: &Spectrum) -> &mut [f32] {
        self.spectrum.copy_from_slice(spectrum);
        // The ends of a real signal's spectrum are real.
        self.spectrum[0].im = 0.0;
        self.spectrum[BINS - 1].im = 0.0;
        let fits = self.inverse.process_with_scratch(
            &mut self.spectrum,
            &mut self.samples,
            &mut self.scratch,
        );
        debug_assert!(fits.is_ok(), "the lengths are those of the plan");
        const SCALE: f32 = 1.0 / WINDOW as f32;
        for sample in &mut self.samples {
            *sample *= SCALE;
        }
        &mut self.samples
    }
}
