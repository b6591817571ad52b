//! Recording a call: stereo, this side on the left and the other on the right, into WAV or Ogg Opus.
//!
//! A thread writes. It is given frames through a bounded ring and never waited for: when a disk is
//! so slow that the ring is full, what finds no room is silence in the file.

mod ogg_opus;

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hound::{SampleFormat, WavSpec, WavWriter};
use rtrb::{Consumer, Producer, PushError, RingBuffer};

use self::ogg_opus::OggOpusWriter;
use super::AudioError;
use crate::{FRAME, SAMPLE_RATE};

/// Frames that may wait for the disk: five seconds.
const WAITING: usize = 500;
/// How often the thread looks for frames.
const LOOK: Duration = Duration::from_millis(50);
/// Frames after which what was written is brought to the disk, so that it can be played also when
/// the program is killed: one second's.
const FLUSH: u32 = 100;
/// Frames of this side that wait for the other side's: sound is played a little before or after
/// the microphone's frame of the same time.
const SLACK: usize = 5;

/// One frame of both sides.
#[derive(Clone, Copy, Debug)]
struct Stereo {
    /// Frames of silence before it: those that found no room.
    gap: u32,
    left: [i16; FRAME],
    right: [i16; FRAME],
}

/// Records one call.
///
/// The microphone's frames are its clock: the other side's are put beside them by their number.
#[derive(Debug)]
pub struct Recorder {
    path: PathBuf,
    ring: Producer<Stereo>,
    ended: Arc<AtomicBool>,
    writer: Option<JoinHandle<Result<(), AudioError>>>,
    lost: u32,
    pending: [Pending; SLACK],
    /// Frames of this side, and of the other.
    left: u64,
    right: u64,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    left: [i16; FRAME],
    right: [i16; FRAME],
}

const EMPTY: Pending = Pending {
    left: [0; FRAME],
    right: [0; FRAME],
};

/// Whether a name is one that can be recorded to.
pub fn is_recordable(path: &Path) -> bool {
    Format::of(path).is_some()
}

#[derive(Clone, Copy)]
enum Format {
    Wav,
    OggOpus,
}

impl Format {
    fn of(path: &Path) -> Option<Format> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "wav" => Some(Format::Wav),
            "ogg" | "opus" => Some(Format::OggOpus),
            _ => None,
        }
    }
}

impl Recorder {
    /// Creates the file, in place of an old one: `.wav`, or `.ogg` or `.opus`.
    pub fn create(path: &Path) -> Result<Recorder, AudioError> {
        let format = Format::of(path).ok_or_else(|| {
            AudioError::Option(format!(
                "a recording is a .wav, .ogg or .opus file, not \"{}\"",
                path.display()
            ))
        })?;
        let file = File::create(path).map_err(|error| refuse(path, error))?;
        let written =
            Written::new(format, BufWriter::new(file)).map_err(|reason| refuse(path, reason))?;
        let (ring, frames) = RingBuffer::new(WAITING);
        let ended = Arc::new(AtomicBool::new(false));
        let (told, of) = (Arc::clone(&ended), path.to_owned());
        let writer = thread::Builder::new()
            .name("recording".into())
            .spawn(move || write_all(written, frames, &told).map_err(|why| refuse(&of, why)))
            .map_err(|error| refuse(path, error))?;
        Ok(Recorder {
            path: path.to_owned(),
            ring,
            ended,
            writer: Some(writer),
            lost: 0,
            pending: [EMPTY; SLACK],
            left: 0,
            right: 0,
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A frame of the other side, as it is played.
    pub fn play(&mut self, frame: &[i16; FRAME]) {
        let oldest = self.left.saturating_sub(SLACK as u64 - 1);
        if self.right < oldest {
            // Nothing was played for a while: it goes on now.
            self.right = self.left;
        }
        if self.right > self.left {
            // More was played than captured: no more than one frame ahead.
            self.right = self.left;
        }
        self.pending[(self.right % SLACK as u64) as usize].right = *frame;
        self.right += 1;
    }

    /// A frame of this side: 10 ms have passed.
    pub fn capture(&mut self, frame: &[i16; FRAME]) {
        let place = (self.left % SLACK as u64) as usize;
        self.pending[place].left = *frame;
        self.left += 1;
        // The place of the next frame holds the oldest one, which is complete.
        let next = (self.left % SLACK as u64) as usize;
        if self.left >= SLACK as u64 {
            self.push(next);
        }
        if self.right < self.left + 1 {
            self.pending[next] = EMPTY;
        }
    }

    fn push(&mut self, place: usize) {
        let Pending { left, right } = self.pending[place];
        let stereo = Stereo {
            gap: self.lost,
            left,
            right,
        };
        match self.ring.push(stereo) {
            Ok(()) => self.lost = 0,
            Err(PushError::Full(_)) => self.lost = self.lost.saturating_add(1),
        }
    }

    /// Why writing has stopped, if it has; told once.
    pub fn poll_error(&mut self) -> Option<AudioError> {
        match &self.writer {
            Some(writer) if writer.is_finished() => self.join().err(),
            _ => None,
        }
    }

    /// Completes the file.
    pub fn finish(mut self) -> Result<(), AudioError> {
        self.complete()
    }

    fn complete(&mut self) -> Result<(), AudioError> {
        if self.writer.is_none() {
            return Ok(());
        }
        // What still waited for the other side: all but the one that was pushed last.
        let waiting = self.left.min(SLACK as u64 - 1);
        for number in self.left - waiting..self.left {
            self.push((number % SLACK as u64) as usize);
        }
        self.ended.store(true, Ordering::Release);
        self.join()
    }

    fn join(&mut self) -> Result<(), AudioError> {
        let Some(writer) = self.writer.take() else {
            return Ok(());
        };
        writer.thread().unpark();
        let failed = || refuse(&self.path, "the writing thread has failed");
        writer.join().map_err(|_| failed())?
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // Nobody is left to hear of a failure.
        let _ = self.complete();
    }
}

/// The writing thread.
fn write_all(
    mut written: Written,
    mut frames: Consumer<Stereo>,
    ended: &AtomicBool,
) -> Result<(), String> {
    let mut since_flush = 0;
    loop {
        // Looked at first, so that nothing that was pushed before is missed.
        let over = ended.load(Ordering::Acquire);
        while let Ok(stereo) = frames.pop() {
            for _ in 0..stereo.gap {
                written.write(&[0; FRAME], &[0; FRAME])?;
            }
            written.write(&stereo.left, &stereo.right)?;
            since_flush += 1;
            if since_flush >= FLUSH {
                since_flush = 0;
                written.flush()?;
            }
        }
        if over {
            return written.finish();
        }
        if frames.is_abandoned() {
            return written.finish();
        }
        thread::park_timeout(LOOK);
    }
}

enum Written {
    Wav(WavWriter<BufWriter<File>>),
    OggOpus(Box<OggOpusWriter>),
}

impl Written {
    fn new(format: Format, file: BufWriter<File>) -> Result<Written, String> {
        match format {
            Format::Wav => {
                let spec = WavSpec {
                    channels: 2,
                    sample_rate: SAMPLE_RATE,
                    bits_per_sample: 16,
                    sample_format: SampleFormat::Int,
                };
                let writer = WavWriter::new(file, spec).map_err(|error| error.to_string())?;
                Ok(Written::Wav(writer))
            }
            Format::OggOpus => Ok(Written::OggOpus(Box::new(OggOpusWriter::new(file)?))),
        }
    }

    fn write(&mut self, left: &[i16; FRAME], right: &[i16; FRAME]) -> Result<(), String> {
        match self {
            Written::Wav(writer) => {
                for (left, right) in left.iter().zip(right) {
                    let both = writer.write_sample(*left);
                    both.and_then(|()| writer.write_sample(*right))
                        .map_err(|error| error.to_string())?;
                }
                Ok(())
            }
            Written::OggOpus(writer) => writer.write(left, right),
        }
    }

    fn flush(&mut self) -> Result<(), String> {
        match self {
            Written::Wav(writer) => writer.flush().map_err(|error| error.to_string()),
            Written::OggOpus(writer) => writer.flush(),
        }
    }

    fn finish(self) -> Result<(), String> {
        match self {
            Written::Wav(writer) => writer.finalize().map_err(|error| error.to_string()),
            Written::OggOpus(writer) => writer.finish(),
        }
    }
}

fn refuse(path: &Path, reason: impl ToString) -> AudioError {
    AudioError::Write {
        path: path.display().to_string(),
        reason: reason.to_string(),
    }
}

#[cfg(test)]
mod tests;
