//! A speaker.

use std::fmt;
use std::sync::Arc;

use cpal::traits::DeviceTrait;
use cpal::{Data, Device, FromSample, I24, SampleFormat, SizedSample, Stream};
use rtrb::{Consumer, Producer, RingBuffer};

use super::{Format, Level, Lost, OPENING, find, open, play};
use crate::audio::rate::Converter;
use crate::audio::{AudioError, DeviceKind, Sink};
use crate::{FRAME, SAMPLE_RATE, stretch};

/// What waits in the ring after a frame was written, on average: the frame itself, a device
/// period, and room for an owner whose timer is late.
const TARGET_MS: u32 = 45;
/// With less than this before a frame is written, the sound is stretched: the ring would run dry
/// before trimming the ratio could help.
const LOW_MS: u32 = 12;
/// More than this is thrown away down to the target: the device stood still.
const MOST_MS: u32 = 120;
const RING_MS: u32 = 500;

/// A sound device that takes sound. It plays silence until the first frames came.
pub struct PlaybackDevice {
    // Held for its callbacks: dropping it closes the device.
    _stream: Arc<Stream>,
    lost: Lost,
    name: String,
    ring: Producer<f32>,
    rate: u32,
    most: usize,
    low: usize,
    converter: Converter,
    level: Level,
    frame: Vec<i16>,
    scaled: Vec<f32>,
    ready: Vec<f32>,
}

impl PlaybackDevice {
    /// Opens the device of this id or name, or the default one.
    pub fn open(name: Option<&str>) -> Result<PlaybackDevice, AudioError> {
        let device = find(name, DeviceKind::Output).map_err(AudioError::Output)?;
        let name = super::name(&device).unwrap_or_default();
        open(&device, DeviceKind::Output, |format| {
            PlaybackDevice::start(&device, format, &name)
        })
        .map_err(|reason| {
            AudioError::Output(format!("cannot open the speaker \"{name}\": {reason}"))
        })
    }

    fn start(device: &Device, format: Format, name: &str) -> Result<PlaybackDevice, String> {
        let rate = format.config.sample_rate;
        let target = (rate * TARGET_MS / 1_000) as usize;
        let most = (rate * MOST_MS / 1_000) as usize;
        let (ring, consumer) = RingBuffer::new((rate * RING_MS / 1_000) as usize);
        let lost = Lost::default();
        let drain = Drain {
            ring: consumer,
            channels: usize::from(format.config.channels).max(1),
            target,
            most,
            flowing: false,
        };
        let stream = device
            .build_output_stream_raw(
                format.config,
                format.sample,
                drain.callback(format.sample),
                lost.watcher(),
                Some(OPENING),
            )
            .map_err(super::reason)?;
        let stream = Arc::new(stream);
        play(&stream, &lost)?;
        Ok(PlaybackDevice {
            _stream: stream,
            lost,
            name: name.to_owned(),
            ring,
            rate,
            most,
            low: (rate * LOW_MS / 1_000) as usize,
            converter: Converter::adjustable(SAMPLE_RATE, rate, FRAME / 4)?,
            level: Level::new(target as f64),
            frame: Vec::with_capacity(2 * FRAME),
            scaled: Vec::with_capacity(2 * FRAME),
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
        let before = self.ring.buffer().capacity() - self.ring.slots();
        self.frame.clear();
        self.frame.extend_from_slice(frame);
        if before < self.low {
            stretch::lengthen(&mut self.frame, true);
        }
        self.scaled.clear();
        self.scaled.extend(
            self.frame
                .iter()
                .map(|&sample| f32::from(sample) / 32_768.0),
        );
        self.converter.push(&self.scaled, &mut self.ready);
        // What does not fit is lost: the device stands still.
        let _ = self.ring.push_partial_slice(&self.ready);
        let waiting = self.ring.buffer().capacity() - self.ring.slots();
        if waiting > self.most {
            // The device throws the surplus away as soon as it goes on.
            self.level.reset();
        } else {
            let trim = self.level.correct(waiting);
            self.converter.trim(trim);
        }
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
    most: usize,
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
        let waiting = self.ring.slots();
        if !self.flowing && waiting < self.target {
            samples.fill(T::EQUILIBRIUM);
            return;
        }
        if waiting > self.most || !self.flowing {
            let surplus = waiting.saturating_sub(self.target);
            if let Ok(old) = self.ring.read_chunk(surplus) {
                old.commit_all();
            }
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
