//! The sound of every call: where it comes from, where it goes, and when the next frame is due.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use ringtrue_media::audio::{
    AudioError, AudioInput, AudioOutput, Bell, DeviceChange, NullSink, OnChange, Silence, Sink,
    Source,
};
use ringtrue_media::processing::{Processing, VoiceProcessor};
use ringtrue_media::{Channels, FRAME};
use tokio::sync::{Notify, mpsc};

use super::captured::Captured;
use super::error::DriverError;
use super::gain::Gain;
use super::pace::Pace;
use super::tones::ToneChoice;
use super::voice::VoiceChoice;
use super::{Incident, booth};
use crate::{CallKey, Frame, Sides};

/// Where the sound of calls comes from and goes to.
#[derive(Debug, Clone, PartialEq)]
pub struct Sound {
    /// What the peer hears.
    pub input: AudioInput,
    /// Where the peer is heard. Of several calls that go to a file, the second one goes to
    /// `name-2.wav`, and so on.
    pub output: AudioOutput,
    /// By how much the microphone is made louder.
    pub mic_gain: Gain,
    /// By how much the speaker is made louder.
    pub speaker_gain: Gain,
    /// The tones that the user hears, on a sound device.
    pub tones: ToneChoice,
    /// Where calls are recorded to, numbered like the output.
    pub record: Option<PathBuf>,
    /// What is done to the microphone's sound.
    pub voice: VoiceChoice,
    /// Files and speakers have two sides, as far as a call has them.
    pub stereo: bool,
}

impl Sound {
    pub(super) fn channels(&self) -> Channels {
        match self.stereo {
            true => Channels::Stereo,
            false => Channels::Mono,
        }
    }
}

/// Source and sink of a call, once they are open.
pub(super) struct Opened {
    source: Box<dyn Source>,
    sink: Box<dyn Sink>,
}

/// The sound of all calls.
pub(super) struct Sounds {
    config: Sound,
    inbox: mpsc::Sender<Incident>,
    /// Rung by the devices: one of them has a frame or wants one.
    bell: Bell,
    rung: Arc<Notify>,
    calls: BTreeMap<CallKey, CallSound>,
    /// Calls that were answered and have not ended; a caller's sound opens only after the answer.
    answered: BTreeSet<CallKey>,
    /// How many calls have had sound so far.
    count: usize,
}

struct CallSound {
    source: Box<dyn Source>,
    sink: Box<dyn Sink>,
    voice: VoiceProcessor,
    /// Both sides of what is captured go to the peer: what is done to a voice knows one.
    stereo: bool,
    captured: Pace,
    played: Pace,
    /// The peer hears silence instead of the microphone.
    muted: bool,
    /// A frame was written since the speaker was asked last.
    answered_speaker: bool,
}

impl Sounds {
    pub(super) fn new(config: Sound, inbox: mpsc::Sender<Incident>) -> Self {
        let rung = Arc::new(Notify::new());
        let wake = Arc::clone(&rung);
        Self {
            config,
            inbox,
            bell: Bell::new(move || wake.notify_one()),
            rung,
            calls: BTreeMap::new(),
            answered: BTreeSet::new(),
            count: 0,
        }
    }

    /// Tries everything that can be wrong with the sound before there is a call.
    pub(super) fn check(config: &Sound) -> Result<(), DriverError> {
        drop(config.input.open()?);
        match &config.output {
            AudioOutput::Wav(path) => check_writable(path)?,
            other => drop(other.open()?),
        }
        Ok(())
    }

    /// Opens microphone and speaker for a call. Until they are open, which may take a device a
    /// while, there is silence both ways.
    pub(super) fn open(&mut self, now: Instant, call: CallKey) {
        self.count += 1;
        let input = self.config.input.clone();
        let output = numbered(&self.config.output, self.count);
        let processing = self.config.voice.processing(&input, &output);
        let silence = CallSound {
            voice: VoiceProcessor::new(processing),
            stereo: self.config.stereo && processing == Processing::NONE,
            source: Box::new(Silence),
            sink: Box::new(NullSink),
            captured: Pace::new(now),
            played: Pace::new(now),
            muted: false,
            answered_speaker: true,
        };
        self.calls.insert(call, silence);
        let inbox = self.inbox.clone();
        let bell = self.bell.clone();
        let channels = self.config.channels();
        let is_device =
            matches!(input, AudioInput::Device(_)) || matches!(output, AudioOutput::Device(_));
        if is_device {
            // A sound system may take its time, and the network may not wait for it.
            tokio::task::spawn_blocking(move || {
                let tell = || tell_changes(call, &inbox);
                let source = input.open_with(channels, &bell, tell());
                let result = source.and_then(|source| {
                    let sink = output.open_with(channels, &bell, tell())?;
                    Ok(Opened { source, sink })
                });
                let _ = inbox.blocking_send(Incident::SoundOpened { call, result });
            });
        } else {
            let result = open_both(&input, &output, channels);
            tokio::spawn(async move {
                let _ = inbox.send(Incident::SoundOpened { call, result }).await;
            });
        }
    }

    /// The devices or files of a call are open.
    pub(super) fn opened(&mut self, call: CallKey, opened: Opened) {
        match self.calls.get_mut(&call) {
            Some(sound) => {
                sound.source = opened.source;
                sound.sink = opened.sink;
                self.rung.notify_one();
            }
            None => release(opened.source, opened.sink),
        }
    }

    /// From here on the peer hears us: a file begins now and not while it rings.
    pub(super) fn answered(&mut self, call: CallKey) {
        self.answered.insert(call);
    }

    /// A call has ended, with or without sound.
    pub(super) fn ended(&mut self, call: CallKey) {
        self.answered.remove(&call);
    }

    /// Plays a frame, or both sides of it. Everything that a speaker plays passes here, 10 ms at a time.
    pub(super) fn play(
        &mut self,
        call: CallKey,
        frame: &mut Frame,
        mut sides: Option<&mut Sides>,
        pace: f64,
    ) -> Result<(), AudioError> {
        let gain = self.config.speaker_gain;
        gain.apply(frame);
        for side in sides.iter_mut().flat_map(|sides| sides.iter_mut()) {
            gain.apply(side);
        }
        let Some(sound) = self.calls.get_mut(&call) else {
            return Ok(());
        };
        sound.answered_speaker = true;
        sound.sink.stretch(pace);
        sound.voice.play(frame);
        let written = match sides {
            Some(sides) => sound.sink.write_sides(sides),
            None => sound.sink.write(frame),
        };
        written.inspect_err(|_| {
            // Told once; the call goes on unheard here.
            sound.sink = Box::new(NullSink);
        })
    }

    /// Turns a call's microphone off, or on again, and says which; `None`: it has no sound.
    pub(super) fn toggle_mute(&mut self, call: CallKey) -> Option<bool> {
        let sound = self.calls.get_mut(&call)?;
        sound.muted = !sound.muted;
        Some(sound.muted)
    }

    /// Closes a call's sound; a file is completed.
    pub(super) fn close(&mut self, call: CallKey) -> Result<(), AudioError> {
        let Some(mut sound) = self.calls.remove(&call) else {
            return Ok(());
        };
        let result = sound.sink.finish();
        release(sound.source, sound.sink);
        result
    }

    /// Closes the sound of every call.
    pub(super) fn close_all(&mut self) -> Vec<AudioError> {
        let calls: Vec<CallKey> = self.calls.keys().copied().collect();
        let results = calls.into_iter().map(|call| self.close(call));
        results.filter_map(Result::err).collect()
    }

    /// When a frame of any call is due by our own clock. What is due by a device's is told by
    /// [`rung`](Self::rung).
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let paces = |sound: &CallSound| [sound.captured, sound.played];
        let all = self.calls.values().flat_map(paces);
        all.map(|pace| pace.poll_timeout()).min()
    }

    /// A device may have a frame or want one.
    pub(super) fn rung(&self) -> Arc<Notify> {
        Arc::clone(&self.rung)
    }

    /// The call whose speaker wants a frame now, if one does; after it was asked for,
    /// [`asked`](Self::asked) is called.
    pub(super) fn poll_playback(&mut self, now: Instant) -> Option<CallKey> {
        for (call, sound) in &mut self.calls {
            let wants = sound.sink.wants_frame();
            if sound.played.is_due(now, wants) {
                sound.answered_speaker = false;
                return Some(*call);
            }
        }
        None
    }

    /// A call was asked for a frame. If it had none, a device goes on with silence; a file waits.
    pub(super) fn asked(&mut self, call: CallKey) {
        if let Some(sound) = self.calls.get_mut(&call)
            && !sound.answered_speaker
            && sound.sink.wants_frame().is_some()
        {
            sound.voice.play(&[0; FRAME]);
            let _ = sound.sink.write(&[0; FRAME]);
        }
    }

    /// The next captured frame that is due, if one is. Everything that a microphone gives passes
    /// here, 10 ms at a time.
    pub(super) fn poll_captured(&mut self, now: Instant) -> Option<(CallKey, Box<Captured>)> {
        let hold_files = matches!(self.config.input, AudioInput::Wav(_));
        for (call, sound) in &mut self.calls {
            let has_frame = sound.source.has_frame();
            if !sound.captured.is_due(now, has_frame) {
                continue;
            }
            let mut captured = Box::new(Captured::SILENCE);
            if self.answered.contains(call) || !hold_files {
                captured.read(sound.source.as_mut(), sound.stereo);
                sound.voice.capture(&mut captured.frame);
            }
            captured.amplify(self.config.mic_gain);
            if sound.muted {
                *captured = Captured::SILENCE;
            }
            return Some((*call, captured));
        }
        None
    }
}

/// Passes on what a device of this call tells.
fn tell_changes(call: CallKey, inbox: &mpsc::Sender<Incident>) -> OnChange {
    let inbox = inbox.clone();
    Box::new(move |change: DeviceChange| {
        let _ = inbox.blocking_send(Incident::DeviceChanged { call, change });
    })
}

fn open_both(
    input: &AudioInput,
    output: &AudioOutput,
    channels: Channels,
) -> Result<Opened, AudioError> {
    let source = input.open_channels(channels)?;
    let sink = output.open_channels(channels)?;
    Ok(Opened { source, sink })
}

/// Lets go of devices, which may take them a while.
fn release(source: Box<dyn Source>, sink: Box<dyn Sink>) {
    tokio::task::spawn_blocking(move || drop((source, sink)));
}

/// The output of the `count`th call: files are numbered from the second on.
fn numbered(output: &AudioOutput, count: usize) -> AudioOutput {
    match output {
        AudioOutput::Wav(path) => AudioOutput::Wav(booth::numbered(path, count)),
        other => other.clone(),
    }
}

/// Whether a file can be written, without touching what an earlier call left in it.
pub(super) fn check_writable(path: &Path) -> Result<(), AudioError> {
    let existed = path.exists();
    let opened = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(path);
    match opened {
        Ok(_) if existed => Ok(()),
        Ok(_) => std::fs::remove_file(path).map_err(|error| unwritable(path, &error)),
        Err(error) => Err(unwritable(path, &error)),
    }
}

fn unwritable(path: &Path, error: &std::io::Error) -> AudioError {
    AudioError::Write {
        path: PathBuf::from(path).display().to_string(),
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringtrue_media::FRAME_TIME;

    fn sound(input: AudioInput, output: AudioOutput) -> Sound {
        Sound {
            input,
            output,
            mic_gain: Gain::NONE,
            speaker_gain: Gain::NONE,
            record: None,
            tones: ToneChoice::default(),
            voice: VoiceChoice::default(),
            stereo: false,
        }
    }

    fn sounds(input: AudioInput) -> Sounds {
        let (inbox, _) = mpsc::channel(8);
        let output = AudioOutput::Null;
        Sounds::new(sound(input, output), inbox)
    }

    #[test]
    fn later_calls_get_files_of_their_own() {
        let first = AudioOutput::Wav("out/bob.wav".into());
        assert_eq!(numbered(&first, 1), first);
        assert_eq!(
            numbered(&first, 3),
            AudioOutput::Wav("out/bob-3.wav".into())
        );
        assert_eq!(numbered(&AudioOutput::Null, 3), AudioOutput::Null);
    }

    #[test]
    fn an_unwritable_file_is_found_before_the_call() {
        let output = AudioOutput::Wav("no/such/directory/x.wav".into());
        let input = AudioInput::Silence;
        let error = Sounds::check(&sound(input, output)).unwrap_err();
        assert!(error.to_string().contains("no/such/directory/x.wav"));
    }

    #[tokio::test]
    async fn frames_are_due_both_ways_and_a_muted_microphone_is_silent() {
        let mut sounds = sounds(AudioInput::Tone(440.0));
        let now = Instant::now();
        let call = CallKey(1);
        sounds.open(now, call);
        let source = AudioInput::Tone(440.0).open().unwrap();
        let sink = AudioOutput::Null.open().unwrap();
        sounds.opened(call, Opened { source, sink });
        let loudest = |sounds: &mut Sounds, now| {
            let (_, captured) = sounds.poll_captured(now).unwrap();
            captured
                .frame
                .iter()
                .map(|sample| sample.unsigned_abs())
                .max()
        };
        assert!(loudest(&mut sounds, now) > Some(8_000));
        assert_eq!(sounds.poll_captured(now), None);
        assert_eq!(sounds.poll_playback(now), Some(call));
        assert_eq!(sounds.poll_playback(now), None);
        assert_eq!(sounds.poll_timeout(), Some(now + FRAME_TIME));
        assert_eq!(sounds.toggle_mute(call), Some(true));
        assert_eq!(loudest(&mut sounds, now + FRAME_TIME), Some(0));
        assert_eq!(sounds.toggle_mute(call), Some(false));
        assert!(loudest(&mut sounds, now + FRAME_TIME * 2) > Some(8_000));
        sounds.close(call).unwrap();
        assert_eq!(sounds.poll_timeout(), None);
        assert_eq!(sounds.toggle_mute(call), None);
    }
}
