//! How loud it is.

use crate::FRAME;

/// What 0 dBFS is: the loudest square wave.
const FULL_SCALE: f64 = 32_768.0;
/// Digital silence is this, since its logarithm is nothing: below the last bit of 16.
const SILENCE_DB: f64 = -100.0;

/// How loud a stretch of sound was, in dBFS.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loudness {
    /// The mean of its power; -100 is silence.
    pub level_db: f64,
    /// Its loudest sample.
    pub peak_db: f64,
}

/// Measures sound frame by frame.
#[derive(Clone, Copy, Debug, Default)]
pub struct Meter {
    squares: u64,
    samples: u64,
    peak: u16,
}

impl Meter {
    /// Takes a frame.
    pub fn add(&mut self, frame: &[i16; FRAME]) {
        for &sample in frame {
            let size = sample.unsigned_abs();
            self.squares += u64::from(size) * u64::from(size);
            self.peak = self.peak.max(size);
        }
        self.samples += FRAME as u64;
    }

    /// What was measured since it was asked last; `None` if nothing was.
    pub fn take(&mut self) -> Option<Loudness> {
        let Meter {
            squares,
            samples,
            peak,
        } = std::mem::take(self);
        (samples > 0).then(|| Loudness {
            level_db: decibels((squares as f64 / samples as f64).sqrt()),
            peak_db: decibels(f64::from(peak)),
        })
    }
}

fn decibels(size: f64) -> f64 {
    (20.0 * (size / FULL_SCALE).log10()).max(SILENCE_DB)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::{Source, Tone};

    #[test]
    fn a_sine_is_3_db_below_its_peak() {
        let (mut meter, mut tone) = (Meter::default(), Tone::new(1_000.0));
        assert_eq!(meter.take(), None);
        for _ in 0..100 {
            let mut frame = [0; FRAME];
            tone.read(&mut frame);
            meter.add(&frame);
        }
        let Loudness { level_db, peak_db } = meter.take().unwrap();
        assert!((peak_db + 12.04).abs() < 0.05, "{peak_db}");
        assert!((level_db + 15.05).abs() < 0.05, "{level_db}");
        meter.add(&[0; FRAME]);
        assert_eq!(meter.take().unwrap().level_db, SILENCE_DB);
        meter.add(&[i16::MIN; FRAME]);
        assert_eq!(meter.take().unwrap().level_db, 0.0);
    }
}
