//! A microphone.

use std::fmt;
use std::sync::Arc;

use cpal::traits::DeviceTrait;
use cpal::{Data, Device, FromSample, I24, Sample, SampleFormat, SizedSample, Stream};
use rtrb::{Consumer, Producer, RingBuffer};

use super::{Format, Level, Lost, OPENING, find, open, play};
use crate::audio::rate::Converter;
use crate::audio::{AudioError, DeviceKind, Source, to_i16};
use crate::{FRAME, stretch};

/// What waits in the ring when a frame is read, on average: the frame itself, a device period, and
/// room for an owner whose timer is late.
const TARGET_MS: u32 = 45;
/// With less than this before a frame is read, the sound is stretched: the sound server lost some,
/// and the ring would run dry before trimming the ratio could help.
const LOW_MS: u32 = 25;
/// More than this is thrown away down to the target.
const MOST_MS: u32 = 120;
const RING_MS: u32 = 500;

/// A sound device that gives sound. It captures from the moment that it is opened.
pub struct CaptureDevice {
    // Held for its callbacks: dropping it closes the device.
    _stream: Arc<Stream>,
    lost: Lost,
    ring: Consumer<f32>,
    rate: u32,
    converter: Converter,
    level: Level,
    /// The ring has once been filled to its target, and has not run dry since.
    flowing: bool,
    ready: Vec<i16>,
    piece: Vec<f32>,
    converted: Vec<f32>,
}

impl CaptureDevice {
    /// Opens the device of this id or name, or the default one.
    pub fn open(name: Option<&str>) -> Result<CaptureDevice, AudioError> {
        let device = find(name, DeviceKind::Input).map_err(AudioError::Input)?;
        let name = super::name(&device).unwrap_or_default();
        open(&device, DeviceKind::Input, |format| {
            CaptureDevice::start(&device, format)
        })
        .map_err(|reason| {
            AudioError::Input(format!("cannot open the microphone \"{name}\": {reason}"))
        })
    }

    fn start(device: &Device, format: Format) -> Result<CaptureDevice, String> {
        let rate = format.config.sample_rate;
        let (producer, ring) = RingBuffer::new((rate * RING_MS / 1_000) as usize);
        let lost = Lost::default();
        let channels = usize::from(format.config.channels).max(1);
        let stream = device
            .build_input_stream_raw(
                format.config,
                format.sample,
                callback(format.sample, channels, producer),
                lost.watcher(),
                Some(OPENING),
            )
            .map_err(super::reason)?;
        let stream = Arc::new(stream);
        play(&stream, &lost)?;
        let piece = (rate / 200) as usize;
        Ok(CaptureDevice {
            _stream: stream,
            lost,
            ring,
            rate,
            converter: Converter::adjustable(rate, crate::SAMPLE_RATE, piece)?,
            level: Level::new(f64::from(rate * TARGET_MS / 1_000)),
            flowing: false,
            ready: Vec::with_capacity(4 * FRAME),
            piece: vec![0.0; piece],
            converted: Vec::with_capacity(FRAME),
        })
    }

    fn samples(&self, ms: u32) -> usize {
        (self.rate * ms / 1_000) as usize
    }

    /// Moves what is needed for a frame out of the ring.
    fn fill(&mut self) {
        while self.ready.len() < FRAME && self.ring.slots() >= self.piece.len() {
            if self.ring.pop_entire_slice(&mut self.piece).is_err() {
                return;
            }
            self.converter.push(&self.piece, &mut self.converted);
            self.ready.extend(self.converted.drain(..).map(to_i16));
        }
    }
}

impl Source for CaptureDevice {
    /// Never waits: silence while the device has nothing. `false` when the device is gone.
    fn read(&mut self, frame: &mut [i16; FRAME]) -> bool {
        frame.fill(0);
        let waiting = self.ring.slots();
        if !self.flowing && waiting < self.samples(TARGET_MS) {
            return !self.lost.is_set();
        }
        if waiting > self.samples(MOST_MS) || !self.flowing {
            // The owner was away, or this is the first time: what is old is not worth the delay.
            let surplus = waiting - self.samples(TARGET_MS).min(waiting);
            if let Ok(old) = self.ring.read_chunk(surplus) {
                old.commit_all();
            }
            self.level.reset();
            self.flowing = true;
        }
        let waiting = self.ring.slots();
        let trim = self.level.correct(waiting);
        self.converter.trim(trim);
        self.fill();
        if waiting < self.samples(LOW_MS) {
            stretch::lengthen(&mut self.ready, true);
        }
        if self.ready.len() < FRAME {
            self.flowing = false;
            return !self.lost.is_set();
        }
        for (place, sample) in frame.iter_mut().zip(self.ready.drain(..FRAME)) {
            *place = sample;
        }
        true
    }
}

impl fmt::Debug for CaptureDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CaptureDevice")
            .field("rate", &self.rate)
            .field("flowing", &self.flowing)
            .finish_non_exhaustive()
    }
}

/// What the device calls: mixes the channels into the ring.
fn callback(
    format: SampleFormat,
    channels: usize,
    mut ring: Producer<f32>,
) -> impl FnMut(&Data, &cpal::InputCallbackInfo) + Send + 'static {
    move |data, _| match format {
        SampleFormat::F32 => mix::<f32>(data, channels, &mut ring),
        SampleFormat::I16 => mix::<i16>(data, channels, &mut ring),
        SampleFormat::I32 => mix::<i32>(data, channels, &mut ring),
        SampleFormat::I24 => mix::<I24>(data, channels, &mut ring),
        SampleFormat::U8 => mix::<u8>(data, channels, &mut ring),
        _ => {}
    }
}

fn mix<T>(data: &Data, channels: usize, ring: &mut Producer<f32>)
where
    T: SizedSample,
    f32: FromSample<T>,
{
    let Some(samples) = data.as_slice::<T>() else {
        return;
    };
    let frames = samples.chunks_exact(channels);
    // What does not fit is lost: nobody reads.
    let room = ring.slots().min(frames.len());
    if let Ok(chunk) = ring.write_chunk_uninit(room) {
        chunk.fill_from_iter(frames.map(|frame| {
            let sum: f32 = frame.iter().map(|&sample| f32::from_sample(sample)).sum();
            sum / channels as f32
        }));
    }
}
