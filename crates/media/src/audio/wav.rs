//! WAV files: any rate, channels and depth in, 48 kHz mono 16 bit out.

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};

use hound::{SampleFormat, WavIntoSamples, WavReader, WavSpec, WavWriter};

use super::rate::Converter;
use super::{AudioError, Sink, Source};
use crate::{FRAME, SAMPLE_RATE};

/// Samples of the file that are read at a time: 10 ms at 48 kHz.
const PIECE: usize = 480;

/// Reads a WAV file; silence after its end.
pub struct WavSource {
    samples: Samples,
    channels: usize,
    scale: f32,
    converter: Converter,
    ready: Vec<f32>,
    ended: bool,
}

enum Samples {
    Integer(WavIntoSamples<BufReader<File>, i32>),
    Float(WavIntoSamples<BufReader<File>, f32>),
}

impl WavSource {
    /// Opens the file.
    pub fn open(path: &Path) -> Result<WavSource, AudioError> {
        let refuse = |reason: String| AudioError::Read {
            path: path.display().to_string(),
            reason,
        };
        let reader = WavReader::open(path).map_err(|error| refuse(reason(error)))?;
        let spec = reader.spec();
        if spec.channels == 0 || spec.sample_rate == 0 {
            return Err(refuse("it has no channels or no sample rate".into()));
        }
        let converter = Converter::new(spec.sample_rate, SAMPLE_RATE, PIECE).map_err(refuse)?;
        let (samples, scale) = match spec.sample_format {
            SampleFormat::Int => {
                let full = 2f32.powi(i32::from(spec.bits_per_sample.clamp(1, 32)) - 1);
                (Samples::Integer(reader.into_samples()), full.recip())
            }
            SampleFormat::Float => (Samples::Float(reader.into_samples()), 1.0),
        };
        Ok(WavSource {
            samples,
            channels: usize::from(spec.channels),
            scale,
            converter,
            ready: Vec::new(),
            ended: false,
        })
    }

    /// The next sample of the file, all channels mixed.
    fn next(&mut self) -> Option<f32> {
        let mut sum = 0.0;
        for _ in 0..self.channels {
            // A file that breaks off or cannot be read any more ends here.
            sum += match &mut self.samples {
                Samples::Integer(samples) => samples.next()?.ok()? as f32,
                Samples::Float(samples) => samples.next()?.ok()?,
            };
        }
        Some(sum * self.scale / self.channels as f32)
    }
}

impl Source for WavSource {
    fn read(&mut self, frame: &mut [i16; FRAME]) -> bool {
        while self.ready.len() < FRAME && !self.ended {
            let mut piece = Vec::with_capacity(PIECE);
            while piece.len() < PIECE {
                let Some(sample) = self.next() else {
                    self.ended = true;
                    break;
                };
                piece.push(sample);
            }
            self.converter.push(&piece, &mut self.ready);
            if self.ended {
                self.converter.finish(&mut self.ready);
            }
        }
        let had = self.ready.len().min(FRAME);
        frame.fill(0);
        for (place, sample) in frame.iter_mut().zip(self.ready.drain(..had)) {
            *place = super::to_i16(sample);
        }
        had > 0
    }
}

/// Frames after which the file's head is brought up to date: one second's.
const FLUSH: u32 = 50;

/// Writes a WAV file of 48 kHz, mono, 16 bit.
pub struct WavSink {
    path: PathBuf,
    writer: Option<WavWriter<BufWriter<File>>>,
    frames: u32,
}

impl WavSink {
    /// Creates the file, in place of an old one.
    pub fn create(path: &Path) -> Result<WavSink, AudioError> {
        let spec = WavSpec {
            channels: 1,
            sample_rate: SAMPLE_RATE,
            bits_per_sample: 16,
            sample_format: SampleFormat::Int,
        };
        let writer = WavWriter::create(path, spec).map_err(|error| refuse(path, error))?;
        Ok(WavSink {
            path: path.to_owned(),
            writer: Some(writer),
            frames: 0,
        })
    }
}

impl Sink for WavSink {
    fn write(&mut self, frame: &[i16; FRAME]) -> Result<(), AudioError> {
        let Some(writer) = &mut self.writer else {
            return Ok(());
        };
        let mut samples = frame.iter();
        samples
            .try_for_each(|&sample| writer.write_sample(sample))
            .map_err(|error| refuse(&self.path, error))?;
        self.frames = self.frames.wrapping_add(1);
        if self.frames.is_multiple_of(FLUSH) {
            // So that what was recorded can be played also if the program is killed.
            writer.flush().map_err(|error| refuse(&self.path, error))?;
        }
        Ok(())
    }

    /// Sets the sizes in the file's head. Dropping does it too (hound's writer sees to that).
    fn finish(&mut self) -> Result<(), AudioError> {
        match self.writer.take() {
            Some(writer) => writer.finalize().map_err(|error| refuse(&self.path, error)),
            None => Ok(()),
        }
    }
}

fn refuse(path: &Path, error: hound::Error) -> AudioError {
    AudioError::Write {
        path: path.display().to_string(),
        reason: reason(error),
    }
}

fn reason(error: hound::Error) -> String {
    match error {
        hound::Error::IoError(error) => error.to_string(),
        hound::Error::FormatError(what) => format!("not a WAV file: {what}"),
        hound::Error::Unsupported => "a kind of WAV file that is not supported".into(),
        other => other.to_string(),
    }
}
