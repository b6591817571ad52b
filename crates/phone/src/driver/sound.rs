//! The sound of every call: where it comes from, where it goes, and when the next frame is due.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ringtrue_media::audio::{AudioError, AudioInput, AudioOutput, NullSink, Silence, Sink, Source};
use ringtrue_media::{FRAME, FRAME_TIME};
use tokio::sync::mpsc;

use super::Incident;
use super::error::DriverError;
use crate::{CallKey, Frame};

/// Where the sound of calls comes from and goes to.
#[derive(Debug, Clone, PartialEq)]
pub struct Sound {
    /// What the peer hears.
    pub input: AudioInput,
    /// Where the peer is heard. Of several calls that go to a file, the second one goes to
    /// `name-2.wav`, and so on.
    pub output: AudioOutput,
}

/// After a longer sleep of the whole program, captured frames are not made up for.
const CATCH_UP_MAX: Duration = Duration::from_millis(500);

/// Source and sink of a call, once they are open.
pub(super) struct Opened {
    source: Box<dyn Source>,
    sink: Box<dyn Sink>,
}

/// The sound of all calls.
pub(super) struct Sounds {
    config: Sound,
    inbox: mpsc::Sender<Incident>,
    calls: BTreeMap<CallKey, CallSound>,
    /// Calls that were answered and have not ended; a caller's sound opens only after the answer.
    answered: BTreeSet<CallKey>,
    /// How many calls have had sound so far.
    count: usize,
}

struct CallSound {
    source: Box<dyn Source>,
    sink: Box<dyn Sink>,
    next_frame: Instant,
}

impl Sounds {
    pub(super) fn new(config: Sound, inbox: mpsc::Sender<Incident>) -> Self {
        Self {
            config,
            inbox,
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
        let silence = CallSound {
            source: Box::new(Silence),
            sink: Box::new(NullSink),
            next_frame: now,
        };
        self.calls.insert(call, silence);
        let inbox = self.inbox.clone();
        let is_device =
            matches!(input, AudioInput::Device(_)) || matches!(output, AudioOutput::Device(_));
        if is_device {
            // A sound system may take its time, and the network may not wait for it.
            tokio::task::spawn_blocking(move || {
                let result = open_both(&input, &output);
                let _ = inbox.blocking_send(Incident::SoundOpened { call, result });
            });
        } else {
            let result = open_both(&input, &output);
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

    /// Plays a frame.
    pub(super) fn play(&mut self, call: CallKey, frame: &Frame) -> Result<(), AudioError> {
        let Some(sound) = self.calls.get_mut(&call) else {
            return Ok(());
        };
        sound.sink.write(frame).inspect_err(|_| {
            // Told once; the call goes on unheard here.
            sound.sink = Box::new(NullSink);
        })
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

    /// When the next captured frame of any call is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.calls.values().map(|sound| sound.next_frame).min()
    }

    /// The next captured frame that is due, if one is.
    pub(super) fn poll_captured(&mut self, now: Instant) -> Option<(CallKey, Box<Frame>)> {
        let hold_files = matches!(self.config.input, AudioInput::Wav(_));
        let (call, sound) = self
            .calls
            .iter_mut()
            .find(|(_, sound)| sound.next_frame <= now)?;
        if now.duration_since(sound.next_frame) > CATCH_UP_MAX {
            sound.next_frame = now;
        }
        sound.next_frame += FRAME_TIME;
        let mut frame = Box::new([0; FRAME]);
        if self.answered.contains(call) || !hold_files {
            sound.source.read(&mut frame);
        }
        Some((*call, frame))
    }
}

fn open_both(input: &AudioInput, output: &AudioOutput) -> Result<Opened, AudioError> {
    let source = input.open()?;
    let sink = output.open()?;
    Ok(Opened { source, sink })
}

/// Lets go of devices, which may take them a while.
fn release(source: Box<dyn Source>, sink: Box<dyn Sink>) {
    tokio::task::spawn_blocking(move || drop((source, sink)));
}

/// The output of the `count`th call: files are numbered from the second on.
fn numbered(output: &AudioOutput, count: usize) -> AudioOutput {
    match output {
        AudioOutput::Wav(path) if count > 1 => {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            let extension = path.extension().unwrap_or_default().to_string_lossy();
            AudioOutput::Wav(path.with_file_name(format!("{stem}-{count}.{extension}")))
        }
        other => other.clone(),
    }
}

/// Whether a file can be written, without touching what an earlier call left in it.
fn check_writable(path: &Path) -> Result<(), AudioError> {
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

    fn sounds(input: AudioInput) -> Sounds {
        let (inbox, _) = mpsc::channel(8);
        let output = AudioOutput::Null;
        Sounds::new(Sound { input, output }, inbox)
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
        let error = Sounds::check(&Sound { input, output }).unwrap_err();
        assert!(error.to_string().contains("no/such/directory/x.wav"));
    }

    #[tokio::test]
    async fn frames_are_due_every_10_ms_and_a_long_sleep_is_not_made_up_for() {
        let mut sounds = sounds(AudioInput::Silence);
        let start = Instant::now();
        let call = CallKey(1);
        sounds.open(start, call);
        assert_eq!(sounds.poll_timeout(), Some(start));
        let due =
            |sounds: &mut Sounds, now| std::iter::from_fn(|| sounds.poll_captured(now)).count();
        assert_eq!(due(&mut sounds, start), 1);
        assert_eq!(due(&mut sounds, start + Duration::from_millis(9)), 0);
        assert_eq!(due(&mut sounds, start + Duration::from_millis(100)), 10);
        assert_eq!(due(&mut sounds, start + Duration::from_secs(60)), 1);
        sounds.close(call).unwrap();
        assert_eq!(sounds.poll_timeout(), None);
    }
}
