//! A sine, for tests and for finding out whether one is heard.

use std::f64::consts::TAU;

use super::Source;
use crate::{FRAME, SAMPLE_RATE};

/// A quarter of full scale: -12 dBFS.
const AMPLITUDE: f64 = 8_192.0;

/// A sine without end.
#[derive(Clone, Copy, Debug)]
pub struct Tone {
    step: f64,
    phase: f64,
}

impl Tone {
    /// A sine of `hz` hertz, at -12 dBFS.
    pub fn new(hz: f64) -> Tone {
        Tone {
            step: TAU * hz / f64::from(SAMPLE_RATE),
            phase: 0.0,
        }
    }
}

impl Source for Tone {
    fn read(&mut self, frame: &mut [i16; FRAME]) -> bool {
        for sample in frame {
            *sample = (AMPLITUDE * self.phase.sin()) as i16;
            self.phase = (self.phase + self.step) % TAU;
        }
        true
    }
}
