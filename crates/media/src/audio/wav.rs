//! WAV files: any rate, channels and depth in, 48 kHz 16 bit out, with one channel or two.

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};

use hound::{SampleFormat, WavIntoSamples, WavReader, WavSpec, WavWriter};

use super::rate::Converter;
use super::{AudioError, Sink, Source};
use crate::channels::interleaved;
use crate::{Channels, FRAME, SAMPLE_RATE, Sides, mix};

/// Samples of the file that are read at a time: 10 ms at 48 kHz.
const PIECE: usize = 480;

/// Reads a WAV file; silence after its end.
pub struct WavSource {
    samples: Samples,
    channels: usize,
    scale: f32,
    /// One for all channels, or one for each side.
    lanes: Vec<Lane>,
    ended: bool,
}

/// One channel on its way to our rate.
struct Lane {
    /// Channels of the file that are mixed in it.
    channels: usize,
    converter: Converter,
    piece: Vec<f32>,
    ready: Vec<f32>,
}

impl Lane {
    fn new(channels: usize, rate: u32) -> Result<Lane, String> {
        Ok(Lane {
            channels,
            converter: Converter::new(rate, SAMPLE_RATE, PIECE)?,
            piece: Vec::with_capacity(PIECE),
            ready: Vec::new(),
        })
    }

    /// The next 10 ms, and how many samples of them there were.
    fn read(&mut self, frame: &mut [i16; FRAME]) -> usize {
        let had = self.ready.len().min(FRAME);
        frame.fill(0);
        for (place, sample) in frame.iter_mut().zip(self.ready.drain(..had)) {
            *place = super::to_i16(sample);
        }
        had
    }
}

enum Samples {
    Integer(WavIntoSamples<BufReader<File>, i32>),
    Float(WavIntoSamples<BufReader<File>, f32>),
}

impl WavSource {
    /// Opens the file: all its channels are mixed, or the first, third and so on are the left side and the
    /// others the right one.
    pub fn open(path: &Path, channels: Channels) -> Result<WavSource, AudioError> {
        let refuse = |reason: String| AudioError::Read {
            path: path.display().to_string(),
            reason,
        };
        let reader = WavReader::open(path).map_err(|error| refuse(reason(error)))?;
        let spec = reader.spec();
        if spec.channels == 0 || spec.sample_rate == 0 {
            return Err(refuse("it has no channels or no sample rate".into()));
        }
        let count = usize::from(spec.channels);
        let lanes = channels.count().min(count);
        let lane = |place: usize| Lane::new((count - place).div_ceil(lanes), spec.sample_rate);
        let lanes: Result<Vec<Lane>, String> = (0..lanes).map(lane).collect();
        let lanes = lanes.map_err(refuse)?;
        let (samples, scale) = match spec.sample_format {
            SampleFormat::Int => {
                let full = 2f32.powi(i32::from(spec.bits_per_sample.clamp(1, 32)) - 1);
                (Samples::Integer(reader.into_samples()), full.recip())
            }
            SampleFormat::Float => (Samples::Float(reader.into_samples()), 1.0),
        };
        Ok(WavSource {
            samples,
            channels: count,
            scale,
            lanes,
            ended: false,
        })
    }

    /// The next sample of the file goes to the lanes; `None` at its end.
    fn next(&mut self) -> Option<()> {
        let mut sums = [0.0; Channels::Stereo.count()];
        for channel in 0..self.channels {
            // A file that breaks off or cannot be read any more ends here.
            let sample = match &mut self.samples {
                Samples::Integer(samples) => samples.next()?.ok()? as f32,
                Samples::Float(samples) => samples.next()?.ok()?,
            };
            if let Some(sum) = sums.get_mut(channel % self.lanes.len()) {
                *sum += sample;
            }
        }
        for (lane, sum) in self.lanes.iter_mut().zip(sums) {
            lane.piece.push(sum * self.scale / lane.channels as f32);
        }
        Some(())
    }

    /// Reads until there is a frame, or the file ends.
    fn fill(&mut self) {
        let lacks = |lane: &Lane| lane.ready.len() < FRAME;
        while self.lanes.iter().any(lacks) && !self.ended {
            self.ended = (0..PIECE).any(|_| self.next().is_none());
            for lane in &mut self.lanes {
                lane.converter.push(&lane.piece, &mut lane.ready);
                lane.piece.clear();
                if self.ended {
                    lane.converter.finish(&mut lane.ready);
                }
            }
        }
    }
}

impl Source for WavSource {
    fn read(&mut self, frame: &mut [i16; FRAME]) -> bool {
        if self.has_sides() {
            let mut sides = [[0; FRAME]; 2];
            let read = self.read_sides(&mut sides);
            *frame = mix(&sides);
            return read;
        }
        self.fill();
        self.lanes.iter_mut().any(|lane| lane.read(frame) > 0)
    }

    fn has_sides(&self) -> bool {
        self.lanes.len() > 1
    }

    fn read_sides(&mut self, sides: &mut Sides) -> bool {
        self.fill();
        let lanes = self.lanes.iter_mut().zip(sides.iter_mut());
        let read = lanes.map(|(lane, side)| lane.read(side)).max();
        if !self.has_sides() {
            sides[1] = sides[0];
        }
        read > Some(0)
    }
}

/// Frames after which the file's head is brought up to date: one second's.
const FLUSH: u32 = 50;

/// Writes a WAV file of 48 kHz, 16 bit.
pub struct WavSink {
    path: PathBuf,
    channels: Channels,
    writer: Option<WavWriter<BufWriter<File>>>,
    frames: u32,
}

impl WavSink {
    /// Creates the file, in place of an old one.
    pub fn create(path: &Path, channels: Channels) -> Result<WavSink, AudioError> {
        let spec = WavSpec {
            channels: channels.count() as u16,
            sample_rate: SAMPLE_RATE,
            bits_per_sample: 16,
            sample_format: SampleFormat::Int,
        };
        let writer = WavWriter::create(path, spec).map_err(|error| refuse(path, error))?;
        Ok(WavSink {
            path: path.to_owned(),
            channels,
            writer: Some(writer),
            frames: 0,
        })
    }

    /// Writes a frame's samples, of all channels in turns.
    fn append(&mut self, samples: impl IntoIterator<Item = i16>) -> Result<(), AudioError> {
        let Some(writer) = &mut self.writer else {
            return Ok(());
        };
        let mut samples = samples.into_iter();
        samples
            .try_for_each(|sample| writer.write_sample(sample))
            .map_err(|error| refuse(&self.path, error))?;
        self.frames = self.frames.wrapping_add(1);
        if self.frames.is_multiple_of(FLUSH) {
            // So that what was recorded can be played also if the program is killed.
            writer.flush().map_err(|error| refuse(&self.path, error))?;
        }
        Ok(())
    }
}

impl Sink for WavSink {
    fn write(&mut self, frame: &[i16; FRAME]) -> Result<(), AudioError> {
        match self.channels {
            Channels::Mono => self.append(frame.iter().copied()),
            Channels::Stereo => self.append(frame.iter().flat_map(|&sample| [sample; 2])),
        }
    }

    fn write_sides(&mut self, sides: &Sides) -> Result<(), AudioError> {
        match self.channels {
            Channels::Mono => self.write(&mix(sides)),
            Channels::Stereo => self.append(interleaved(sides)),
        }
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
