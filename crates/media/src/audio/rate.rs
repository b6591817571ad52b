//! Conversion between sample rates, by rubato.

use std::fmt;

#[cfg(feature = "sound")]
use rubato::Adjustable;
use rubato::audioadapter_buffers::direct::SequentialSlice;
use rubato::{
    Async, FixedAsync, Resampler, SincInterpolationParameters, SincInterpolationType,
    WindowFunction,
};

/// Rates that are believed.
const RATES: std::ops::RangeInclusive<u32> = 4_000..=768_000;
/// The ratio may be trimmed by this much, so that sound is played a little faster or slower.
const MOST_TRIM: f64 = 1.01;
/// Taps of the anti-aliasing filter: about 1.3 ms of delay at 48 kHz.
pub(crate) const TAPS: usize = 128;

/// Converts a stream of mono samples from one rate to another; equal rates too, since the ratio
/// can be trimmed.
pub(crate) struct Converter {
    resampler: Option<Async<f32>>,
    piece: usize,
    pending: Vec<f32>,
    output: Vec<f32>,
}

impl Converter {
    /// Works on `piece` samples at a time. Equal rates are passed through untouched.
    pub(crate) fn new(from: u32, to: u32, piece: usize) -> Result<Converter, String> {
        if from == to {
            return Ok(Converter {
                resampler: None,
                piece,
                pending: Vec::new(),
                output: Vec::new(),
            });
        }
        Converter::adjustable(from, to, piece, TAPS)
    }

    /// One whose ratio can be trimmed, also if the rates are equal: then few taps will do, for there
    /// is next to nothing to keep from folding back.
    pub(crate) fn adjustable(
        from: u32,
        to: u32,
        piece: usize,
        taps: usize,
    ) -> Result<Converter, String> {
        if !RATES.contains(&from) || !RATES.contains(&to) {
            return Err(format!("a sample rate of {from} Hz is not supported"));
        }
        let parameters = SincInterpolationParameters::new(taps, WindowFunction::BlackmanHarris2)
            .oversampling_factor(256)
            .interpolation(SincInterpolationType::Linear);
        let ratio = f64::from(to) / f64::from(from);
        let resampler = Async::new_sinc(ratio, MOST_TRIM, &parameters, piece, 1, FixedAsync::Input)
            .map_err(|error| format!("cannot convert {from} Hz: {error}"))?;
        let output = vec![0.0; resampler.output_frames_max()];
        Ok(Converter {
            resampler: Some(resampler),
            piece,
            pending: Vec::new(),
            output,
        })
    }

    /// Makes the output longer (`relative` above 1) or shorter, by up to 1 %.
    #[cfg(feature = "sound")]
    pub(crate) fn trim(&mut self, relative: f64) {
        if let Some(resampler) = &mut self.resampler {
            let relative = relative.clamp(1.0 / MOST_TRIM, MOST_TRIM);
            // Within the range that it was made for: it cannot refuse.
            let _ = resampler.set_resample_ratio_relative(relative, true);
        }
    }

    /// Appends what the input becomes.
    pub(crate) fn push(&mut self, input: &[f32], output: &mut Vec<f32>) {
        let Some(resampler) = &mut self.resampler else {
            output.extend_from_slice(input);
            return;
        };
        self.pending.extend_from_slice(input);
        while self.pending.len() >= self.piece {
            let room = self.output.len();
            let made = match (
                SequentialSlice::new(&self.pending[..self.piece], 1, self.piece),
                SequentialSlice::new_mut(&mut self.output, 1, room),
            ) {
                (Ok(from), Ok(mut to)) => resampler
                    .process_into_buffer(&from, &mut to, None)
                    .map_or(0, |(_, made)| made),
                _ => 0,
            };
            output.extend(self.output.iter().take(made));
            self.pending.drain(..self.piece);
        }
    }

    /// Appends what is still inside.
    pub(crate) fn finish(&mut self, output: &mut Vec<f32>) {
        if let Some(resampler) = &self.resampler {
            let inside = (resampler.output_delay() as f64 / resampler.resample_ratio()) as usize;
            let fill = (self.pending.len() + inside).next_multiple_of(self.piece);
            let silence = vec![0.0; fill - self.pending.len()];
            self.push(&silence, output);
        }
    }
}

impl fmt::Debug for Converter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Converter")
            .field("piece", &self.piece)
            .field("pending", &self.pending.len())
            .finish_non_exhaustive()
    }
}
