//! What is added to the sound of calls, and taken from it, on its way between the devices and the
//! phone: files that are played into them, recordings, levels.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ringtrue_media::Channels;
use ringtrue_media::audio::{
    AudioError, AudioInput, Loudness, Meter, Recorder, Source, is_recordable,
};

use super::captured::Captured;
use crate::event::MediaFigures;
use crate::{CallKey, Frame};

/// The booth of all calls.
#[derive(Default)]
pub(super) struct Booth {
    /// Where calls are recorded to.
    record: Option<PathBuf>,
    /// What files that are played into calls have.
    channels: Channels,
    calls: BTreeMap<CallKey, Seat>,
    /// How many recordings there were.
    count: usize,
}

/// One answered call.
#[derive(Default)]
struct Seat {
    recorder: Option<Recorder>,
    /// Goes to the peer instead of the microphone's sound, until its end.
    played: Option<Box<dyn Source>>,
    sent: Meter,
    heard: Meter,
}

impl Booth {
    /// Records every call to a file of this name: the second to `name-2`, and so on.
    pub(super) fn new(record: Option<PathBuf>, channels: Channels) -> Self {
        Self {
            record,
            channels,
            ..Self::default()
        }
    }

    /// A call was answered. Gives the file that it is recorded to, if it is.
    pub(super) fn answered(&mut self, call: CallKey) -> Option<Result<PathBuf, AudioError>> {
        let seat = self.calls.entry(call).or_default();
        if seat.recorder.is_some() {
            return None;
        }
        self.count += 1;
        let path = numbered(self.record.as_ref()?, self.count);
        Some(Recorder::create(&path).map(|recorder| {
            seat.recorder = Some(recorder);
            path
        }))
    }

    /// A frame from the microphone; what is played into the call takes its place. Recordings and levels
    /// have the mix of both sides.
    pub(super) fn captured(&mut self, call: CallKey, captured: &mut Captured) {
        let Some(seat) = self.calls.get_mut(&call) else {
            return;
        };
        if let Some(source) = &mut seat.played {
            let mut played = Captured::SILENCE;
            match played.read(source.as_mut(), self.channels == Channels::Stereo) {
                true => *captured = played,
                false => seat.played = None,
            }
        }
        seat.sent.add(&captured.frame);
        if let Some(recorder) = &mut seat.recorder {
            recorder.capture(&captured.frame);
        }
    }

    /// A frame for the speaker.
    pub(super) fn played(&mut self, call: CallKey, frame: &Frame) {
        if let Some(seat) = self.calls.get_mut(&call) {
            seat.heard.add(frame);
            if let Some(recorder) = &mut seat.recorder {
                recorder.play(frame);
            }
        }
    }

    /// Plays a file into an answered call, in place of one that is still being played; `false`
    /// for a call that is not answered.
    pub(super) fn play(&mut self, call: CallKey, path: &Path) -> Result<bool, AudioError> {
        let Some(seat) = self.calls.get_mut(&call) else {
            return Ok(false);
        };
        let file = AudioInput::Wav(path.to_owned());
        seat.played = Some(file.open_channels(self.channels)?);
        Ok(true)
    }

    /// Adds the levels since the last time.
    pub(super) fn measure(&mut self, call: CallKey, figures: &mut MediaFigures) {
        let Some(seat) = self.calls.get_mut(&call) else {
            return;
        };
        let split = |loudness: Option<Loudness>| {
            loudness
                .map(|loudness| (loudness.level_db, loudness.peak_db))
                .unzip()
        };
        (figures.tx_level_db, figures.tx_peak_db) = split(seat.sent.take());
        (figures.rx_level_db, figures.rx_peak_db) = split(seat.heard.take());
    }

    /// What is wrong with a call's recording, told once.
    pub(super) fn poll_error(&mut self, call: CallKey) -> Option<AudioError> {
        self.calls.get_mut(&call)?.recorder.as_mut()?.poll_error()
    }

    /// A call has ended: its file is completed.
    pub(super) fn ended(&mut self, call: CallKey) -> Result<(), AudioError> {
        let recorder = self.calls.remove(&call).and_then(|seat| seat.recorder);
        recorder.map_or(Ok(()), Recorder::finish)
    }

    /// Completes the files of all calls.
    pub(super) fn close_all(&mut self) -> Vec<AudioError> {
        let calls: Vec<CallKey> = self.calls.keys().copied().collect();
        let results = calls.into_iter().map(|call| self.ended(call));
        results.filter_map(Result::err).collect()
    }
}

/// Whether calls can be recorded to this file, as far as its name tells.
pub(super) fn check(record: Option<&Path>) -> Result<(), AudioError> {
    match record {
        Some(path) if !is_recordable(path) => Err(AudioError::Option(format!(
            "a recording is a .wav, .ogg or .opus file, not \"{}\"",
            path.display()
        ))),
        Some(path) => super::sound::check_writable(path),
        None => Ok(()),
    }
}

/// The file of the `count`th call.
pub(super) fn numbered(path: &Path, count: usize) -> PathBuf {
    if count <= 1 {
        return path.to_owned();
    }
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{stem}-{count}.{extension}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: CallKey = CallKey(1);

    fn captured(sample: i16) -> Captured {
        Captured {
            frame: [sample; ringtrue_media::FRAME],
            sides: None,
        }
    }

    #[test]
    fn each_call_is_recorded_to_a_file_of_its_own() {
        let directory = std::env::temp_dir().join(format!("ringtrue-booth-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let mut booth = Booth::new(Some(directory.join("call.wav")), Channels::Mono);
        for (number, name) in [(1, "call.wav"), (2, "call-2.wav")] {
            let call = CallKey(number);
            let path = booth.answered(call).unwrap().unwrap();
            assert_eq!(path, directory.join(name));
            for _ in 0..50 {
                booth.captured(call, &mut captured(1_000));
                booth.played(call, &[-500; ringtrue_media::FRAME]);
            }
            assert_eq!(booth.poll_error(call), None);
        }
        assert!(booth.close_all().is_empty());
        for name in ["call.wav", "call-2.wav"] {
            let size = std::fs::metadata(directory.join(name)).unwrap().len();
            assert_eq!(size, 44 + 50 * 480 * 4, "{name}");
        }
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_file_takes_the_place_of_the_microphone_until_its_end() {
        let path = std::env::temp_dir().join(format!("ringtrue-played-{}.wav", std::process::id()));
        let mut sink = ringtrue_media::audio::AudioOutput::Wav(path.clone())
            .open()
            .unwrap();
        for _ in 0..3 {
            sink.write(&[7; ringtrue_media::FRAME]).unwrap();
        }
        sink.finish().unwrap();
        let mut booth = Booth::new(None, Channels::Mono);
        assert_eq!(booth.play(CALL, &path), Ok(false));
        assert!(booth.answered(CALL).is_none());
        assert_eq!(booth.play(CALL, &path), Ok(true));
        let mut heard = Vec::new();
        for _ in 0..5 {
            let mut microphone = captured(-3);
            booth.captured(CALL, &mut microphone);
            heard.push(microphone.frame[200]);
        }
        assert_eq!(heard, [7, 7, 7, -3, -3]);
        assert!(booth.play(CALL, Path::new("no/such.wav")).is_err());
        std::fs::remove_file(path).unwrap();
    }

    /// A file with two sides is played with both where the call may have them, and mixed elsewhere.
    #[test]
    fn both_sides_of_a_file_are_played_where_they_are_wanted() {
        let path = std::env::temp_dir().join(format!("ringtrue-sides-{}.wav", std::process::id()));
        let output = ringtrue_media::audio::AudioOutput::Wav(path.clone());
        let mut sink = output.open_channels(Channels::Stereo).unwrap();
        let (left, right) = ([100; ringtrue_media::FRAME], [50; ringtrue_media::FRAME]);
        sink.write_sides(&[left, right]).unwrap();
        sink.finish().unwrap();
        for (channels, sides) in [
            (Channels::Mono, None),
            (Channels::Stereo, Some([left, right])),
        ] {
            let mut booth = Booth::new(None, channels);
            assert!(booth.answered(CALL).is_none());
            assert_eq!(booth.play(CALL, &path), Ok(true));
            let mut microphone = captured(-3);
            booth.captured(CALL, &mut microphone);
            assert_eq!(microphone.frame, [75; ringtrue_media::FRAME]);
            assert_eq!(microphone.sides, sides);
            booth.captured(CALL, &mut microphone);
            assert_eq!(microphone.sides, sides, "after its end it is left as it is");
        }
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn levels_are_those_since_the_last_time() {
        let mut booth = Booth::new(None, Channels::Mono);
        assert!(booth.answered(CALL).is_none());
        booth.captured(CALL, &mut captured(8_192));
        let mut figures = MediaFigures::default();
        booth.measure(CALL, &mut figures);
        let level = figures.tx_level_db.unwrap();
        assert!((level + 12.04).abs() < 0.01, "{level}");
        assert_eq!(figures.rx_level_db, None);
        booth.measure(CALL, &mut figures);
        assert_eq!(figures.tx_level_db, None);
    }

    #[test]
    fn a_recording_has_a_known_kind() {
        assert!(check(Some(Path::new("call.mp3"))).is_err());
        assert!(check(Some(Path::new("no/such/directory/call.ogg"))).is_err());
        assert!(check(None).is_ok());
    }
}
