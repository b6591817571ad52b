//! A microphone.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cpal::traits::DeviceTrait;
use cpal::{Data, Device, FromSample, I24, Sample, SampleFormat, SizedSample};
use rtrb::{Consumer, Producer, RingBuffer};

use super::keeper::{Keeper, Kind};
use super::{Bell, Format, Health, OPENING};
use crate::audio::rate::Converter;
use crate::audio::{AudioError, DeviceKind, OnChange, Source, to_i16};
use crate::{FRAME, SAMPLE_RATE};

/// More than this is thrown away down to one frame: the owner was away.
const MOST_MS: u32 = 100;
const RING_MS: u32 = 500;

/// A sound device that gives sound, by the device's own clock: a frame is there as soon as its last
/// sample is, which the bell tells. It captures from the moment that it is opened, and goes over to
/// another device when its own goes.
pub struct CaptureDevice {
    keeper: Keeper<Line>,
    intake: Intake,
}

/// Reads from the ring of the device that is open.
struct Intake {
    line: Line,
    ready: Vec<i16>,
    converted: Vec<f32>,
    /// A frame ends where a piece of the device ended: nothing waits for the next piece.
    aligned: bool,
}

/// The owner's end of an open device.
pub(super) struct Line {
    ring: Consumer<f32>,
    /// How many samples in the ring make the next frame whole.
    wanted: Arc<AtomicUsize>,
    rate: u32,
    converter: Converter,
}

impl Line {
    /// So many samples of the device make so many of ours, with what is on its way inside.
    fn samples_for(&self, ours: usize) -> usize {
        (ours * self.rate as usize).div_ceil(SAMPLE_RATE as usize)
    }
}

/// Microphones, to the keeper.
pub(super) struct Microphones {
    bell: Bell,
}

impl CaptureDevice {
    /// Opens the device of this id or name, or the default one. The bell rings when a frame is
    /// there; `on_change` hears, on a thread of the device's own, when another device takes over.
    pub fn open(
        name: Option<&str>,
        bell: &Bell,
        on_change: OnChange,
    ) -> Result<CaptureDevice, AudioError> {
        let kind = Microphones { bell: bell.clone() };
        let (keeper, line) = Keeper::open(name, kind, on_change).map_err(AudioError::Input)?;
        let intake = Intake::new(line);
        Ok(CaptureDevice { keeper, intake })
    }

    /// Where to read: the device may have been changed for another.
    fn intake(&mut self) -> &mut Intake {
        if let Some(line) = self.keeper.next_line() {
            self.intake.line = line;
            self.intake.ready.clear();
            self.intake.aligned = false;
        }
        &mut self.intake
    }
}

impl Intake {
    fn new(line: Line) -> Intake {
        let room = (SAMPLE_RATE * RING_MS / 1_000) as usize;
        Intake {
            line,
            ready: Vec::with_capacity(room),
            converted: Vec::with_capacity(room),
            aligned: false,
        }
    }

    fn has_frame(&mut self) -> bool {
        if self.ready.len() < FRAME {
            self.fetch();
        }
        self.ready.len() >= FRAME
    }

    /// The next frame, if it is there.
    fn read(&mut self, frame: &mut [i16; FRAME]) -> bool {
        if !self.has_frame() {
            return false;
        }
        for (place, sample) in frame.iter_mut().zip(self.ready.drain(..FRAME)) {
            *place = sample;
        }
        true
    }

    /// Moves what came out of the ring, until there is a frame or nothing more has come.
    fn fetch(&mut self) {
        self.skip_old();
        while self.ready.len() < FRAME {
            let line = &mut self.line;
            let Ok(came) = line.ring.read_chunk(line.ring.slots()) else {
                return;
            };
            let (first, second) = came.as_slices();
            line.converter.push(first, &mut self.converted);
            line.converter.push(second, &mut self.converted);
            came.commit_all();
            self.ready.extend(self.converted.drain(..).map(to_i16));
            let lacking = line.samples_for(FRAME.saturating_sub(self.ready.len()));
            line.wanted.store(lacking.max(1), Ordering::Release);
            if !self.aligned && self.ready.len() >= FRAME {
                self.aligned = true;
                self.ready.drain(..self.ready.len() - FRAME);
            }
            // What comes from now on rings; what came meanwhile may not have.
            if line.ring.slots() < lacking {
                return;
            }
        }
    }

    /// After a pause of the owner only the newest frame is worth its delay.
    fn skip_old(&mut self) {
        let waiting = self.line.ring.slots();
        if waiting > (self.line.rate * MOST_MS / 1_000) as usize {
            self.ready.clear();
            self.aligned = false;
            let newest = self.line.samples_for(FRAME);
            if let Ok(old) = self.line.ring.read_chunk(waiting - newest) {
                old.commit_all();
            }
        }
    }
}

impl Source for CaptureDevice {
    /// Never waits: silence while the device has nothing.
    fn read(&mut self, frame: &mut [i16; FRAME]) -> bool {
        if !self.intake().read(frame) {
            frame.fill(0);
        }
        true
    }

    fn has_frame(&mut self) -> Option<bool> {
        Some(self.intake().has_frame())
    }
}

impl fmt::Debug for CaptureDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CaptureDevice")
            .field("rate", &self.intake.line.rate)
            .field("ready", &self.intake.ready.len())
            .finish_non_exhaustive()
    }
}

impl Kind for Microphones {
    type Line = Line;
    const KIND: DeviceKind = DeviceKind::Input;

    fn open(
        &self,
        device: &Device,
        format: Format,
        health: &Arc<Health>,
    ) -> Result<(cpal::Stream, Line), String> {
        let rate = format.config.sample_rate;
        let (line, fill) = line(rate, format.config.channels, &self.bell, health)?;
        let stream = device
            .build_input_stream_raw(
                format.config,
                format.sample,
                fill.callback(format.sample),
                health.watcher(),
                Some(OPENING),
            )
            .map_err(super::reason)?;
        Ok((stream, line))
    }

    #[cfg(target_os = "linux")]
    fn start_on_pulse(
        &self,
        name: &str,
        _buffer: Duration,
        health: &Arc<Health>,
    ) -> Result<(super::pulse::Stream, Line), String> {
        let (line, mut fill) = line(SAMPLE_RATE, 1, &self.bell, health)?;
        let watched = Arc::clone(health);
        let take = move |samples: &[f32]| fill.take(samples);
        let stream = super::pulse::record(name, take, move || watched.lose())?;
        Ok((stream, line))
    }
}

/// A ring, and its two ends.
fn line(
    rate: u32,
    channels: u16,
    bell: &Bell,
    health: &Arc<Health>,
) -> Result<(Line, Fill), String> {
    let (producer, ring) = RingBuffer::new((rate * RING_MS / 1_000) as usize);
    let wanted = Arc::new(AtomicUsize::new(1));
    let fill = Fill {
        ring: producer,
        channels: usize::from(channels).max(1),
        wanted: Arc::clone(&wanted),
        bell: bell.clone(),
        health: Arc::clone(health),
    };
    let line = Line {
        ring,
        wanted,
        rate,
        converter: Converter::new(rate, SAMPLE_RATE, (rate / 400) as usize)?,
    };
    Ok((line, fill))
}

/// The device's end of the ring.
struct Fill {
    ring: Producer<f32>,
    channels: usize,
    /// With so many samples waiting somebody has to come.
    wanted: Arc<AtomicUsize>,
    bell: Bell,
    health: Arc<Health>,
}

impl Fill {
    /// What the device calls.
    fn callback(
        mut self,
        format: SampleFormat,
    ) -> impl FnMut(&Data, &cpal::InputCallbackInfo) + Send + 'static {
        move |data, _| match format {
            SampleFormat::F32 => self.take_data::<f32>(data),
            SampleFormat::I16 => self.take_data::<i16>(data),
            SampleFormat::I32 => self.take_data::<i32>(data),
            SampleFormat::I24 => self.take_data::<I24>(data),
            SampleFormat::U8 => self.take_data::<u8>(data),
            _ => {}
        }
    }

    fn take_data<T>(&mut self, data: &Data)
    where
        T: SizedSample,
        f32: FromSample<T>,
    {
        if let Some(samples) = data.as_slice::<T>() {
            self.take(samples);
        }
    }

    /// Mixes the channels into the ring. What does not fit is lost: nobody reads.
    fn take<T>(&mut self, samples: &[T])
    where
        T: SizedSample,
        f32: FromSample<T>,
    {
        self.health.called();
        let channels = self.channels;
        let frames = samples.chunks_exact(channels);
        let room = self.ring.slots().min(frames.len());
        if let Ok(chunk) = self.ring.write_chunk_uninit(room) {
            chunk.fill_from_iter(frames.map(|frame| {
                let sum: f32 = frame.iter().map(|&sample| f32::from_sample(sample)).sum();
                sum / channels as f32
            }));
        }
        let waiting = self.ring.buffer().capacity() - self.ring.slots();
        if waiting >= self.wanted.load(Ordering::Acquire) {
            self.bell.ring();
        }
    }
}

#[cfg(test)]
mod tests;
