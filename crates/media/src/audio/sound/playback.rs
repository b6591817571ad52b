//! A speaker.

use std::fmt;

use cpal::traits::{DeviceTrait, StreamTrait};
use cpal::{Data, Device, FromSample, I24, SampleFormat, SizedSample, Stream};
use rtrb::{Consumer, Producer, RingBuffer};

use super::{Format, Level, Lost, find, formats};
use crate::audio::rate::Converter;
use crate::audio::{AudioError, DeviceKind, Sink};
use crate::{FRAME, SAMPLE_RATE};

/// What waits in the ring after a frame was written, on average: the frame itself, a device
/// period, and room for an owner whose timer is late.
const TARGET_MS: u32 = 45;
/// With more than this no further frame is taken.
const MOST_MS: u32 = 120;
const RING_MS: u32 = 500;

/// A sound device that takes sound. It plays silence until the first frames came.
pub struct PlaybackDevice {
    // Held for its callbacks: dropping it closes the device.
    _stream: Stream,
    lost: Lost,
    name: String,
    ring: Producer<f32>,
    rate: u32,
    converter: Converter,
    level: Level,
    frame: Vec<f32>,
    ready: Vec<f32>,
}

impl PlaybackDevice {
    /// Opens the device of this id or name, or the default one.
    pub fn open(name: Option<&str>) -> Result<PlaybackDevice, AudioError> {
        let device = find(name, DeviceKind::Output).map_err(AudioError::Output)?;
        let name = super::name(&device).unwrap_or_default();
        let mut reason = "it offers no format that is understood".to_owned();
        for format in formats(&device, DeviceKind::Output) {
            match PlaybackDevice::start(&device, format, &name) {
                Ok(started) => return Ok(started),
                Err(error) => reason = error,
            }
        }
        Err(AudioError::Output(format!(
            "cannot open the speaker \"{name}\": {reason}"
        )))
    }

    fn start(device: &Device, format: Format, name: &str) -> Result<PlaybackDevice, String> {
        let rate = format.config.sample_rate;
        let target = (rate * TARGET_MS / 1_000) as usize;
        let (ring, consumer) = RingBuffer::new((rate * RING_MS / 1_000) as usize);
        let lost = Lost::default();
        let drain = Drain {
            ring: consumer,
            channels: usize::from(format.config.channels).max(1),
            target,
            flowing: false,
        };
        let stream = device
            .build_output_stream_raw(
                format.config,
                format.sample,
                drain.callback(format.sample),
                lost.watcher(),
                Some(std::time::Duration::from_secs(2)),
            )
            .map_err(|error| error.to_string())?;
        stream.play().map_err(|error| error.to_string())?;
        Ok(PlaybackDevice {
            _stream: stream,
            lost,
            name: name.to_owned(),
            ring,
            rate,
            converter: Converter::adjustable(SAMPLE_RATE, rate, FRAME / 4)?,
            level: Level::new(target as f64),
            frame: Vec::with_capacity(FRAME),
            ready: Vec::with_capacity(8 * FRAME),
        })
    }
}

impl Sink for PlaybackDevice {
    /// Never waits. A device that does not take its sound loses the frame.
    fn write(&mut self, frame: &[i16; FRAME]) -> Result<(), AudioError> {
        if self.lost.is_set() {
            return Err(AudioError::Output(format!(
                "the speaker \"{}\" is gone",
                self.name
            )));
        }
        let waiting = self.ring.buffer().capacity() - self.ring.slots();
        if waiting > (self.rate * MOST_MS / 1_000) as usize {
            self.level.reset();
            return Ok(());
        }
        self.frame.clear();
        self.frame
            .extend(frame.iter().map(|&sample| f32::from(sample) / 32_768.0));
        self.converter.push(&self.frame, &mut self.ready);
        let _ = self.ring.push_partial_slice(&self.ready);
        let trim = self.level.correct(waiting + self.ready.len());
        self.converter.trim(trim);
        self.ready.clear();
        Ok(())
    }
}

impl fmt::Debug for PlaybackDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlaybackDevice")
            .field("name", &self.name)
            .field("rate", &self.rate)
            .finish_non_exhaustive()
    }
}

/// The device's end of the ring.
struct Drain {
    ring: Consumer<f32>,
    channels: usize,
    /// Playing begins, and begins again after the ring ran dry, at this level.
    target: usize,
    flowing: bool,
}

impl Drain {
    /// What the device calls.
    fn callback(
        mut self,
        format: SampleFormat,
    ) -> impl FnMut(&mut Data, &cpal::OutputCallbackInfo) + Send + 'static {
        move |data, _| match format {
            SampleFormat::F32 => self.play::<f32>(data),
            SampleFormat::I16 => self.play::<i16>(data),
            SampleFormat::I32 => self.play::<i32>(data),
            SampleFormat::I24 => self.play::<I24>(data),
            SampleFormat::U8 => self.play::<u8>(data),
            _ => {}
        }
    }

    fn play<T: SizedSample + FromSample<f32>>(&mut self, data: &mut Data) {
        let Some(samples) = data.as_slice_mut::<T>() else {
            return;
        };
        if !self.flowing && self.ring.slots() < self.target {
            samples.fill(T::EQUILIBRIUM);
            return;
        }
        self.flowing = true;
        for frame in samples.chunks_mut(self.channels) {
            let sample = match self.ring.pop() {
                Ok(sample) => T::from_sample(sample),
                Err(_) => {
                    self.flowing = false;
                    T::EQUILIBRIUM
                }
            };
            frame.fill(sample);
        }
    }
}
