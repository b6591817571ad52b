//! What went to the speaker: the spectra of the last frames, by their number.

use super::spectrum::{Fourier, SILENT, Spectrum};
use crate::FRAME;

/// How far the far end's frames may be ahead of or behind the microphone's before the one is
/// taken to have stopped.
const SLACK: u64 = 8;

/// The spectra of the frames that went to the speaker.
#[derive(Debug)]
pub(super) struct FarEnd {
    /// A ring; the frame of number n is at n modulo its length.
    spectra: Vec<Spectrum>,
    /// Energy of each frame.
    energies: Vec<f32>,
    last: [f32; FRAME],
    /// Frames that were played.
    played: u64,
    /// Frames that were captured.
    captured: u64,
    /// How far the microphone is ahead when a frame is played.
    ahead: u64,
    /// Nothing has been played for a while.
    stopped: bool,
}

impl FarEnd {
    /// Room for so many frames of the past.
    pub(super) fn new(frames: usize) -> FarEnd {
        let length = frames + 2 * SLACK as usize;
        FarEnd {
            spectra: vec![SILENT; length],
            energies: vec![0.0; length],
            last: [0.0; FRAME],
            played: 0,
            captured: 0,
            ahead: 0,
            stopped: true,
        }
    }

    /// A frame goes to the speaker.
    pub(super) fn play(&mut self, fourier: &mut Fourier, frame: &[f32; FRAME]) {
        if self.played >= self.captured + SLACK {
            // The microphone has stopped: it goes on from here.
            self.captured = self.played + self.ahead;
        }
        if self.stopped {
            // As it was before, so that the echo is where it was.
            self.fill(self.captured.saturating_sub(self.ahead));
            self.stopped = false;
        }
        self.ahead = self.captured.saturating_sub(self.played);
        let place = self.place(self.played);
        let energy: f32 = frame.iter().map(|sample| sample * sample).sum();
        if energy > 0.0 || self.energies[self.place(self.played.wrapping_sub(1))] > 0.0 {
            fourier.forward(&self.last, frame, &mut self.spectra[place]);
        } else {
            self.spectra[place] = SILENT;
        }
        self.energies[place] = energy;
        self.last = *frame;
        self.played += 1;
    }

    /// A frame comes from the microphone. Frames that are played late find their place by their
    /// number; when they stay away, nothing is played.
    pub(super) fn capture(&mut self) {
        self.captured += 1;
        if self.captured > self.played + SLACK {
            self.stopped = true;
            self.fill(self.captured - SLACK);
        }
    }

    /// Nothing was played up to this frame.
    fn fill(&mut self, to: u64) {
        while self.played < to {
            let place = self.place(self.played);
            self.spectra[place] = SILENT;
            self.energies[place] = 0.0;
            self.last = [0.0; FRAME];
            self.played += 1;
        }
    }

    /// What was played `lag` frames before the microphone's current frame, with its energy;
    /// nothing if it is not known yet.
    pub(super) fn before(&self, lag: usize) -> Option<(&Spectrum, f32)> {
        // The current frame is the one before `captured`.
        let number = self.captured.checked_sub(1 + lag as u64)?;
        if number >= self.played || self.played - number > self.spectra.len() as u64 {
            return None;
        }
        let place = self.place(number);
        Some((&self.spectra[place], self.energies[place]))
    }

    fn place(&self, number: u64) -> usize {
        (number % self.spectra.len() as u64) as usize
    }
}
