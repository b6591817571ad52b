//! A speaker.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use cpal::traits::DeviceTrait;
use cpal::{Data, Device, FromSample, I24, SampleFormat, SizedSample};
use rtrb::{Consumer, Producer, RingBuffer};

use super::keeper::{Keeper, Kind};
use super::reserve::Reserve;
use super::{Bell, Format, Health, OPENING};
use crate::audio::rate::{Converter, TAPS};
use crate::audio::{AudioError, DeviceKind, OnChange, Sink};
use crate::{Channels, FRAME, SAMPLE_RATE, Sides, mix};

/// With more than this waiting, what is written is lost: the device stands still.
const MOST_MS: u32 = 120;
/// A device that calls back so much later than it should stood still. What was written meanwhile, by
/// the writer's own clock, would only be heard late from then on.
const STOOD_STILL: Duration = Duration::from_millis(30);
const RING_MS: u32 = 500;
/// The period that is reckoned with falls back to what the device takes at a time by this share
/// with every callback.
const FORGETTING: usize = 256;
/// Taps of the filter where the device has our own rate: 0.7 ms of delay.
const FEW_TAPS: usize = 64;
/// The first frames of a device, while it and the call begin, teach nothing about the writer.
const BEGINNING: u32 = 100;

/// A sound device that takes sound, by the device's own clock: a frame is wanted when what is left
/// would not last for the next period and for the time by which the writer has been late, which the
/// bell tells. It plays silence until the first frame came, and goes over to another device when
/// its own goes.
pub struct PlaybackDevice {
    keeper: Keeper<Line>,
    feed: Feed,
}

/// Writes into the ring of the device that is open.
struct Feed {
    line: Line,
    reserve: Reserve,
    dry_before: usize,
    scaled: Vec<f32>,
    ready: Vec<f32>,
}

/// The owner's end of an open device.
pub(super) struct Line {
    ring: Producer<f32>,
    /// The right side, where there is one, and the ring has the left.
    right: Option<Right>,
    demand: Arc<Demand>,
    health: Arc<Health>,
    rate: u32,
    converter: Converter,
    /// Frames that were written, up to [`BEGINNING`].
    frames: u32,
}

/// The right side's way to the device: the same as the left one's.
struct Right {
    ring: Producer<f32>,
    converter: Converter,
    ready: Vec<f32>,
}

impl Right {
    /// Beside a line to this rate.
    fn new(rate: u32) -> Result<(Right, Consumer<f32>), String> {
        let (ring, consumer) = RingBuffer::new((rate * RING_MS / 1_000) as usize);
        let right = Right {
            ring,
            converter: converter(rate)?,
            ready: Vec::with_capacity(8 * FRAME),
        };
        Ok((right, consumer))
    }
}

/// What both ends know of the other.
#[derive(Debug, Default)]
pub(super) struct Demand {
    /// What the device takes at a time, in samples.
    period: AtomicUsize,
    /// What has to be left beside it, in samples.
    reserve: AtomicUsize,
    /// When a frame was asked for that has not come yet, by the device's clock; 0: none was.
    asked: AtomicU64,
    /// Samples that were not there when the device wanted them, since sound first came.
    dry: AtomicUsize,
}

impl Demand {
    /// With less than this in the ring a frame is wanted.
    fn threshold(&self) -> usize {
        self.period.load(Ordering::Relaxed) + self.reserve.load(Ordering::Relaxed)
    }
}

/// Speakers, to the keeper.
pub(super) struct Speakers {
    bell: Bell,
    channels: Channels,
}

impl PlaybackDevice {
    /// Opens the device of this id or name, or the default one, for so many channels; one that has fewer
    /// plays the mix. The bell rings when a frame is wanted; `on_change` hears, on a thread of the device's
    /// own, when another device takes over.
    pub fn open(
        name: Option<&str>,
        channels: Channels,
        bell: &Bell,
        on_change: OnChange,
    ) -> Result<PlaybackDevice, AudioError> {
        let kind = Speakers {
            bell: bell.clone(),
            channels,
        };
        let (keeper, line) = Keeper::open(name, kind, on_change).map_err(AudioError::Output)?;
        let feed = Feed::new(line);
        Ok(PlaybackDevice { keeper, feed })
    }

    /// Where to write: the device may have been changed for another.
    fn feed(&mut self) -> &mut Feed {
        if let Some(line) = self.keeper.next_line() {
            self.feed.line = line;
            self.feed.dry_before = 0;
        }
        &mut self.feed
    }
}

impl Feed {
    fn new(line: Line) -> Feed {
        Feed {
            line,
            reserve: Reserve::default(),
            dry_before: 0,
            scaled: Vec::with_capacity(FRAME),
            ready: Vec::with_capacity(8 * FRAME),
        }
    }

    fn wants_frame(&self) -> bool {
        self.runs() && self.waiting() < self.line.demand.threshold()
    }

    /// Not before the device has asked once: until it runs, the ring would only fill.
    fn runs(&self) -> bool {
        self.line.demand.period.load(Ordering::Relaxed) > 0 && !self.line.health.is_lost()
    }

    fn write(&mut self, frame: &[i16; FRAME]) {
        self.put(frame, frame);
    }

    fn write_sides(&mut self, sides: &Sides) {
        match self.line.right {
            Some(_) => self.put(&sides[0], &sides[1]),
            None => self.write(&mix(sides)),
        }
    }

    /// A device that does not take its sound loses the frame. The right side counts where there is one.
    fn put(&mut self, left: &[i16; FRAME], right: &[i16; FRAME]) {
        self.learn();
        if !self.runs() || self.waiting() > (self.line.rate * MOST_MS / 1_000) as usize {
            return;
        }
        // The right one first: the device takes as much of it as there is of the left one.
        if let Some(line) = &mut self.line.right {
            scale(right, &mut self.scaled);
            line.converter.push(&self.scaled, &mut line.ready);
            let _ = line.ring.push_partial_slice(&line.ready);
            line.ready.clear();
        }
        scale(left, &mut self.scaled);
        self.line.converter.push(&self.scaled, &mut self.ready);
        let _ = self.line.ring.push_partial_slice(&self.ready);
        self.ready.clear();
    }

    fn waiting(&self) -> usize {
        self.line.ring.buffer().capacity() - self.line.ring.slots()
    }

    /// The device asked some time ago: what has to be in reserve for the next time?
    fn learn(&mut self) {
        let Line {
            demand,
            health,
            rate,
            frames,
            ..
        } = &mut self.line;
        let rate = f64::from(*rate);
        let dry = demand.dry.load(Ordering::Relaxed);
        let asked = demand.asked.swap(0, Ordering::AcqRel);
        if *frames < BEGINNING {
            *frames += 1;
            self.dry_before = dry;
            return;
        }
        if dry > self.dry_before {
            self.dry_before = dry;
            self.reserve.ran_dry();
        }
        if asked != 0 {
            let now = health.now();
            let took = Duration::from_nanos(now.saturating_sub(asked));
            let period = demand.period.load(Ordering::Relaxed) as f64 / rate;
            let period = Duration::from_secs_f64(period);
            self.reserve
                .answered(Duration::from_nanos(now), took, period);
        }
        let reserve = self.reserve.get().as_secs_f64() * rate;
        demand.reserve.store(reserve as usize, Ordering::Relaxed);
    }
}

/// A frame at full scale 1.
fn scale(frame: &[i16; FRAME], scaled: &mut Vec<f32>) {
    scaled.clear();
    scaled.extend(frame.iter().map(|&sample| f32::from(sample) / 32_768.0));
}

impl Sink for PlaybackDevice {
    /// Never waits.
    fn write(&mut self, frame: &[i16; FRAME]) -> Result<(), AudioError> {
        self.feed().write(frame);
        Ok(())
    }

    fn write_sides(&mut self, sides: &Sides) -> Result<(), AudioError> {
        self.feed().write_sides(sides);
        Ok(())
    }

    fn stretch(&mut self, relative: f64) {
        let line = &mut self.feed().line;
        line.converter.trim(relative);
        if let Some(right) = &mut line.right {
            right.converter.trim(relative);
        }
    }

    fn wants_frame(&mut self) -> Option<bool> {
        Some(self.feed().wants_frame())
    }
}

impl fmt::Debug for PlaybackDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlaybackDevice")
            .field("rate", &self.feed.line.rate)
            .field("waiting", &self.feed.waiting())
            .field("reserve", &self.feed.reserve.get())
            .finish_non_exhaustive()
    }
}

impl Kind for Speakers {
    type Line = Line;
    const KIND: DeviceKind = DeviceKind::Output;

    fn channels(&self) -> Channels {
        self.channels
    }

    fn open(
        &self,
        device: &Device,
        format: Format,
        health: &Arc<Health>,
    ) -> Result<(cpal::Stream, Line), String> {
        let rate = format.config.sample_rate;
        let (line, drain) = self.line(rate, format.config.channels, health)?;
        let stream = device
            .build_output_stream_raw(
                format.config,
                format.sample,
                drain.callback(format.sample),
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
        buffer: Duration,
        health: &Arc<Health>,
    ) -> Result<(super::pulse::Stream, Line), String> {
        let count = self.channels.count() as u16;
        let (line, mut drain) = self.line(SAMPLE_RATE, count, health)?;
        let watched = Arc::clone(health);
        let fill = move |samples: &mut [f32]| drain.play(samples);
        let lost = move || watched.lose();
        let stream = super::pulse::play(name, self.channels, buffer, fill, lost)?;
        Ok((stream, line))
    }
}

impl Speakers {
    /// For a device of this rate and so many channels: with both sides where it has them and they are
    /// wanted.
    fn line(
        &self,
        rate: u32,
        channels: u16,
        health: &Arc<Health>,
    ) -> Result<(Line, Drain), String> {
        let (mut line, mut drain) = line(rate, channels, &self.bell, health)?;
        if self.channels == Channels::Stereo && channels > 1 {
            let (right, consumer) = Right::new(rate)?;
            line.right = Some(right);
            drain.right = Some(consumer);
        }
        Ok((line, drain))
    }
}

fn converter(rate: u32) -> Result<Converter, String> {
    let taps = if rate == SAMPLE_RATE { FEW_TAPS } else { TAPS };
    Converter::adjustable(SAMPLE_RATE, rate, FRAME / 4, taps)
}

/// A ring, and its two ends.
fn line(
    rate: u32,
    channels: u16,
    bell: &Bell,
    health: &Arc<Health>,
) -> Result<(Line, Drain), String> {
    let (ring, consumer) = RingBuffer::new((rate * RING_MS / 1_000) as usize);
    let demand = Arc::new(Demand::default());
    let drain = Drain {
        ring: consumer,
        right: None,
        channels: usize::from(channels).max(1),
        rate: rate.max(1),
        demand: Arc::clone(&demand),
        health: Arc::clone(health),
        bell: bell.clone(),
        before: 0,
        flowing: false,
    };
    let line = Line {
        ring,
        right: None,
        demand,
        health: Arc::clone(health),
        rate,
        converter: converter(rate)?,
        frames: 0,
    };
    Ok((line, drain))
}

/// The device's end of the ring.
struct Drain {
    ring: Consumer<f32>,
    /// The right side; the ring has the left.
    right: Option<Consumer<f32>>,
    channels: usize,
    rate: u32,
    demand: Arc<Demand>,
    health: Arc<Health>,
    bell: Bell,
    /// What the device took the time before.
    before: usize,
    /// Sound has come.
    flowing: bool,
}

impl Drain {
    /// What the device calls.
    fn callback(
        mut self,
        format: SampleFormat,
    ) -> impl FnMut(&mut Data, &cpal::OutputCallbackInfo) + Send + 'static {
        move |data, _| match format {
            SampleFormat::F32 => self.play_data::<f32>(data),
            SampleFormat::I16 => self.play_data::<i16>(data),
            SampleFormat::I32 => self.play_data::<i32>(data),
            SampleFormat::I24 => self.play_data::<I24>(data),
            SampleFormat::U8 => self.play_data::<u8>(data),
            _ => {}
        }
    }

    fn play_data<T: SizedSample + FromSample<f32>>(&mut self, data: &mut Data) {
        if let Some(samples) = data.as_slice_mut::<T>() {
            self.play(samples);
        }
    }

    /// Plays what is there, and asks for more when it would not last for the next time.
    fn play<T: SizedSample + FromSample<f32>>(&mut self, samples: &mut [T]) {
        let wanted = samples.len() / self.channels;
        self.skip_old(wanted);
        let mut lacking = 0;
        for frame in samples.chunks_mut(self.channels) {
            let left = self.ring.pop();
            let came = left.is_ok();
            let sample = match left {
                Ok(sample) => T::from_sample(sample),
                Err(_) => {
                    lacking += 1;
                    T::EQUILIBRIUM
                }
            };
            frame.fill(sample);
            // The right side came before the left one did, so it is there.
            if came
                && let Some(right) = &mut self.right
                && let Ok(sample) = right.pop()
            {
                let places = frame.iter_mut().skip(1).step_by(2);
                places.for_each(|place| *place = T::from_sample(sample));
            }
        }
        self.flowing |= lacking < wanted;
        if self.flowing && lacking > 0 {
            self.demand.dry.fetch_add(lacking, Ordering::Relaxed);
        }
        self.ask(wanted);
    }

    /// After a standstill only what would be there without it is worth its delay.
    fn skip_old(&mut self, wanted: usize) {
        let Some(apart) = self.health.called() else {
            return;
        };
        let usual = Duration::from_secs(wanted.max(self.before) as u64) / self.rate;
        let kept = self.demand.threshold();
        if apart > usual + STOOD_STILL
            && let Some(old) = self.ring.slots().checked_sub(kept)
        {
            for ring in std::iter::once(&mut self.ring).chain(&mut self.right) {
                if let Ok(old) = ring.read_chunk(old) {
                    old.commit_all();
                }
            }
        }
    }

    fn ask(&mut self, wanted: usize) {
        // A device that fills its buffer takes more than a period, once: that is not the rule.
        let usual = wanted.min(self.before);
        self.before = wanted;
        let period = self.demand.period.load(Ordering::Relaxed);
        let period = usual.max(period - period.div_ceil(FORGETTING).min(period));
        self.demand.period.store(period, Ordering::Relaxed);
        if self.ring.slots() < self.demand.threshold() {
            let now = self.health.now();
            // The oldest question counts: until it is answered it is still the same one.
            let _ = self
                .demand
                .asked
                .compare_exchange(0, now, Ordering::AcqRel, Ordering::Relaxed);
            self.bell.ring();
        }
    }
}

#[cfg(test)]
mod tests;
