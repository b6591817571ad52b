//! Where sound comes from and where it goes: tones, silence, WAV files and sound devices.

mod bell;
mod change;
mod meter;
mod progress;
mod rate;
mod recording;
#[cfg(feature = "sound")]
mod sound;
mod tone;
mod wav;

use std::path::PathBuf;

use crate::{Channels, FRAME, Sides, mix};

pub use self::bell::Bell;
pub use self::change::{ChangeReason, DeviceChange, OnChange};
pub use self::meter::{Loudness, Meter};
pub use self::progress::{Progress, ProgressTone, REGIONS, RING_TONE, Region};
pub use self::recording::{Recorder, is_recordable};
#[cfg(feature = "sound")]
pub use self::sound::{CaptureDevice, PlaybackDevice};
pub use self::tone::Tone;
pub use self::wav::{WavSink, WavSource};

/// Something that gives sound, a frame of 10 ms at a time.
pub trait Source: Send {
    /// Fills the frame and says whether there was sound to fill it with: `false` after the end,
    /// when the frame is silence.
    fn read(&mut self, frame: &mut [i16; FRAME]) -> bool;

    /// Whether its two sides differ, so that [`read_sides`](Self::read_sides) gives more than
    /// [`read`](Self::read).
    fn has_sides(&self) -> bool {
        false
    }

    /// The same as [`read`](Self::read) of both sides, which are alike if it has only one.
    fn read_sides(&mut self, [left, right]: &mut Sides) -> bool {
        let read = self.read(left);
        *right = *left;
        read
    }

    /// Whether a frame is there, for a source with a clock of its own, whose bell tells when one
    /// comes; `None`: there is a frame whenever it is asked for.
    fn has_frame(&mut self) -> Option<bool> {
        None
    }
}

/// Something that takes sound, a frame of 10 ms at a time.
pub trait Sink: Send {
    /// Takes a frame.
    fn write(&mut self, frame: &[i16; FRAME]) -> Result<(), AudioError>;

    /// Takes a frame of both sides, and mixes them if it has only one.
    fn write_sides(&mut self, sides: &Sides) -> Result<(), AudioError> {
        self.write(&mix(sides))
    }

    /// Whether a frame is wanted, for a sink with a clock of its own, whose bell tells when one is;
    /// `None`: it takes whatever comes.
    fn wants_frame(&mut self) -> Option<bool> {
        None
    }

    /// From now on the sound is to last so much longer than it would (above 1) or shorter, by some
    /// tenths of a percent, which nobody hears: so the writer's clock and the sink's are kept
    /// together. Only sinks with a clock of their own do it.
    fn stretch(&mut self, _relative: f64) {}

    /// Ends it in order: a file gets its final size. Dropping does the same, without a word about
    /// failures.
    fn finish(&mut self) -> Result<(), AudioError> {
        Ok(())
    }
}

/// Why sound cannot come or go.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AudioError {
    /// The option's value makes no sense.
    #[error("{0}")]
    Option(String),
    /// A sound file cannot be read.
    #[error("cannot read {path}: {reason}")]
    Read {
        /// The file.
        path: String,
        /// Why not.
        reason: String,
    },
    /// A sound file cannot be written.
    #[error("cannot write {path}: {reason}")]
    Write {
        /// The file.
        path: String,
        /// Why not.
        reason: String,
    },
    /// There is no sound system to ask.
    #[error(
        "{0}; calls work without: --audio-in FILE.wav, tone:440 or silence, --audio-out FILE.wav or null"
    )]
    NoSound(String),
    /// No microphone (or none of that name, or it cannot be opened).
    #[error(
        "{0}; `ringtrue devices` lists what there is; without a microphone use --audio-in FILE.wav, --audio-in tone:440 or --audio-in silence"
    )]
    Input(String),
    /// No speaker (or none of that name, or it cannot be opened).
    #[error(
        "{0}; `ringtrue devices` lists what there is; without a speaker use --audio-out FILE.wav or --audio-out null"
    )]
    Output(String),
}

/// The value of `--audio-in`.
#[derive(Clone, Debug, PartialEq)]
pub enum AudioInput {
    /// `tone:HZ`.
    Tone(f64),
    /// `silence`.
    Silence,
    /// A name that ends in `.wav`.
    Wav(PathBuf),
    /// A sound device by name; `None` is the default one (`default`, or no option).
    Device(Option<String>),
}

/// The value of `--audio-out`.
#[derive(Clone, Debug, PartialEq)]
pub enum AudioOutput {
    /// `null`: thrown away.
    Null,
    /// A name that ends in `.wav`.
    Wav(PathBuf),
    /// A sound device by name; `None` is the default one (`default`, or no option).
    Device(Option<String>),
}

impl AudioInput {
    /// Reads the option's value: `tone:440`, `silence`, `file.wav`, `default` or a device's name.
    pub fn parse(value: &str) -> Result<AudioInput, AudioError> {
        if let Some(hz) = value.strip_prefix("tone:") {
            return match hz.parse::<f64>() {
                Ok(hz) if (20.0..=20_000.0).contains(&hz) => Ok(AudioInput::Tone(hz)),
                _ => Err(AudioError::Option(format!(
                    "--audio-in tone:HZ takes 20 to 20000 hertz, not \"{hz}\""
                ))),
            };
        }
        Ok(match value {
            "" => {
                return Err(AudioError::Option(
                    "--audio-in takes a device, FILE.wav, tone:HZ or silence".into(),
                ));
            }
            "silence" => AudioInput::Silence,
            "default" => AudioInput::Device(None),
            _ if is_wav(value) => AudioInput::Wav(value.into()),
            _ => AudioInput::Device(Some(value.into())),
        })
    }

    /// Opens it for one channel, for an owner that looks by itself whether a device has a frame.
    pub fn open(&self) -> Result<Box<dyn Source>, AudioError> {
        self.open_channels(Channels::Mono)
    }

    /// The same for these channels.
    pub fn open_channels(&self, channels: Channels) -> Result<Box<dyn Source>, AudioError> {
        self.open_with(channels, &Bell::silent(), Box::new(|_| ()))
    }

    /// Opens it for these channels: files have two sides then, and microphones one all the same. A
    /// device's bell tells that a frame is there, and `on_change` that another device took over.
    pub fn open_with(
        &self,
        channels: Channels,
        bell: &Bell,
        on_change: OnChange,
    ) -> Result<Box<dyn Source>, AudioError> {
        Ok(match self {
            AudioInput::Tone(hz) => Box::new(Tone::new(*hz)),
            AudioInput::Silence => Box::new(Silence),
            AudioInput::Wav(path) => Box::new(WavSource::open(path, channels)?),
            AudioInput::Device(name) => open_capture(name.as_deref(), bell, on_change)?,
        })
    }
}

impl AudioOutput {
    /// Reads the option's value: `null`, `file.wav`, `default` or a device's name.
    pub fn parse(value: &str) -> Result<AudioOutput, AudioError> {
        Ok(match value {
            "" => {
                return Err(AudioError::Option(
                    "--audio-out takes a device, FILE.wav or null".into(),
                ));
            }
            "null" => AudioOutput::Null,
            "default" => AudioOutput::Device(None),
            _ if is_wav(value) => AudioOutput::Wav(value.into()),
            _ => AudioOutput::Device(Some(value.into())),
        })
    }

    /// Opens it for one channel, for an owner that looks by itself whether a device wants a frame; a file
    /// is created (and an old one of that name replaced).
    pub fn open(&self) -> Result<Box<dyn Sink>, AudioError> {
        self.open_channels(Channels::Mono)
    }

    /// The same for these channels.
    pub fn open_channels(&self, channels: Channels) -> Result<Box<dyn Sink>, AudioError> {
        self.open_with(channels, &Bell::silent(), Box::new(|_| ()))
    }

    /// Opens it for these channels. A device's bell tells that a frame is wanted, and `on_change` that
    /// another device took over.
    pub fn open_with(
        &self,
        channels: Channels,
        bell: &Bell,
        on_change: OnChange,
    ) -> Result<Box<dyn Sink>, AudioError> {
        Ok(match self {
            AudioOutput::Null => Box::new(NullSink),
            AudioOutput::Wav(path) => Box::new(WavSink::create(path, channels)?),
            AudioOutput::Device(name) => open_playback(name.as_deref(), channels, bell, on_change)?,
        })
    }
}

fn is_wav(value: &str) -> bool {
    value.to_ascii_lowercase().ends_with(".wav")
}

/// Silence without end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silence;

impl Source for Silence {
    fn read(&mut self, frame: &mut [i16; FRAME]) -> bool {
        frame.fill(0);
        true
    }
}

/// Throws sound away.
#[derive(Clone, Copy, Debug, Default)]
pub struct NullSink;

impl Sink for NullSink {
    fn write(&mut self, _frame: &[i16; FRAME]) -> Result<(), AudioError> {
        Ok(())
    }
}

/// Whether a sound device takes or gives sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeviceKind {
    /// A microphone, or the monitor of a sink.
    Input,
    /// A speaker.
    Output,
}

/// A sound device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// What `--audio-in` and `--audio-out` take: stable and unique within its kind.
    pub id: String,
    /// What a person reads.
    pub name: String,
    /// Input or output.
    pub kind: DeviceKind,
    /// It is the one that is used when none is named.
    pub default: bool,
    /// The sound system that has it: `PulseAudio`, `ALSA`…
    pub host: String,
}

/// The sound devices of this host, inputs first; an error where there is no sound system, and in a
/// build without the feature `sound`. It asks the sound system and may take some milliseconds.
pub fn devices() -> Result<Vec<DeviceInfo>, AudioError> {
    #[cfg(feature = "sound")]
    return sound::devices();
    #[cfg(not(feature = "sound"))]
    Err(AudioError::NoSound(WITHOUT_SOUND.into()))
}

/// What a build without the feature `sound` says.
#[cfg(not(feature = "sound"))]
const WITHOUT_SOUND: &str = "this build of Ringtrue has no sound devices";

#[cfg(feature = "sound")]
fn open_capture(
    name: Option<&str>,
    bell: &Bell,
    on_change: OnChange,
) -> Result<Box<dyn Source>, AudioError> {
    Ok(Box::new(CaptureDevice::open(name, bell, on_change)?))
}

#[cfg(feature = "sound")]
fn open_playback(
    name: Option<&str>,
    channels: Channels,
    bell: &Bell,
    on_change: OnChange,
) -> Result<Box<dyn Sink>, AudioError> {
    Ok(Box::new(PlaybackDevice::open(
        name, channels, bell, on_change,
    )?))
}

#[cfg(not(feature = "sound"))]
fn open_capture(_: Option<&str>, _: &Bell, _: OnChange) -> Result<Box<dyn Source>, AudioError> {
    Err(AudioError::Input(WITHOUT_SOUND.into()))
}

#[cfg(not(feature = "sound"))]
fn open_playback(
    _: Option<&str>,
    _: Channels,
    _: &Bell,
    _: OnChange,
) -> Result<Box<dyn Sink>, AudioError> {
    Err(AudioError::Output(WITHOUT_SOUND.into()))
}

/// A sample of full scale 1 as 16 bit.
fn to_i16(sample: f32) -> i16 {
    // `as` saturates.
    (sample * 32_767.0).round() as i16
}

#[cfg(test)]
mod tests;
