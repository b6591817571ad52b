//! Tones for the one at this phone: the ring tone, ring-back, busy and congestion. On sound devices
//! only: files hold what was said.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ringtrue_media::audio::{
    AudioError, AudioInput, AudioOutput, ProgressTone, REGIONS, RING_TONE, Region, Sink, Source,
};
use ringtrue_media::{FRAME, FRAME_TIME};

use super::error::DriverError;
use crate::event::{CallRole, EndReason};
use crate::{CallKey, EventKind};

/// How long the tone of a failed call is heard.
const FAILED: Duration = Duration::from_millis(2_500);
/// No call rings for longer.
const RINGING_MAX: Duration = Duration::from_secs(600);

/// What rings.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum RingTone {
    /// The phone's own chimes.
    #[default]
    Chimes,
    /// A WAV file, over and over.
    Wav(PathBuf),
    /// Nothing.
    Silent,
}

/// Which tones are heard.
#[derive(Debug, Clone, PartialEq)]
pub struct ToneChoice {
    /// Whose ring-back, busy and congestion tones.
    pub region: &'static Region,
    /// What an incoming call rings with.
    pub ring: RingTone,
    /// The sound device that it rings on; none: where the call is heard.
    pub ring_device: Option<AudioOutput>,
}

impl Default for ToneChoice {
    fn default() -> Self {
        Self {
            region: &REGIONS[0],
            ring: RingTone::default(),
            ring_device: None,
        }
    }
}

/// The tones that sound now.
pub(super) struct Tones {
    choice: ToneChoice,
    output: AudioOutput,
    /// Calls that this phone placed and that are not answered.
    placed: BTreeSet<CallKey>,
    sounding: BTreeMap<CallKey, Sounding>,
    /// Until then the tone of a failed call is heard.
    failed_until: Option<Instant>,
}

/// A tone; it ends when this is dropped.
struct Sounding(Arc<AtomicBool>);

impl Drop for Sounding {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What an event does to a call's tone.
#[derive(Debug, PartialEq)]
enum Step {
    RingBack,
    Busy,
    Congestion,
    Silence,
    Nothing,
}

impl Tones {
    pub(super) fn new(choice: ToneChoice, output: AudioOutput) -> Self {
        Self {
            choice,
            output,
            placed: BTreeSet::new(),
            sounding: BTreeMap::new(),
            failed_until: None,
        }
    }

    /// Whether the ring tone's file can be read, and its device be opened.
    pub(super) fn check(choice: &ToneChoice) -> Result<(), DriverError> {
        if let RingTone::Wav(path) = &choice.ring {
            drop(AudioInput::Wav(path.clone()).open()?);
        }
        if let Some(device) = &choice.ring_device {
            drop(device.open().map_err(DriverError::RingDevice)?);
        }
        Ok(())
    }

    /// Alerts the user: the phone has a proof for this call.
    pub(super) fn alert(&mut self, call: CallKey) {
        let source: Box<dyn Source> = match &self.choice.ring {
            RingTone::Silent => return,
            RingTone::Wav(path) => match Again::open(path.clone()) {
                Ok(again) => Box::new(again),
                Err(_) => Box::new(ProgressTone::new(RING_TONE)),
            },
            RingTone::Chimes => Box::new(ProgressTone::new(RING_TONE)),
        };
        let outputs = self.ring_outputs();
        if !outputs.is_empty() {
            let stop = start(outputs, source, RINGING_MAX);
            self.sounding.insert(call, Sounding(stop));
        }
    }

    /// Where it rings: on the first of these that can be opened. A device that goes while it rings is
    /// left for the default one by itself.
    fn ring_outputs(&self) -> Vec<AudioOutput> {
        match &self.choice.ring_device {
            Some(device) => vec![device.clone(), AudioOutput::Device(None)],
            None if self.sounds_here() => vec![self.output.clone()],
            None => Vec::new(),
        }
    }

    /// Keeps up with what happens to a call.
    pub(super) fn follow(&mut self, now: Instant, call: CallKey, kind: &EventKind) {
        let region = self.choice.region;
        match self.step(call, kind) {
            Step::Nothing => {}
            Step::Silence => drop(self.sounding.remove(&call)),
            Step::RingBack => {
                let tone = ProgressTone::new(region.ring_back);
                self.sound(call, Box::new(tone), RINGING_MAX);
            }
            step @ (Step::Busy | Step::Congestion) => {
                let tone = match step {
                    Step::Busy => region.busy,
                    _ => region.congestion,
                };
                // No earlier call's end cuts it off.
                self.sounding.remove(&call);
                if self.sounds_here() {
                    start(
                        vec![self.output.clone()],
                        Box::new(ProgressTone::new(tone)),
                        FAILED,
                    );
                    self.failed_until = Some(now + FAILED);
                }
            }
        }
    }

    /// Until when the tone of a failed call is heard, if one is.
    pub(super) fn failed_until(&self) -> Option<Instant> {
        self.failed_until
    }

    fn step(&mut self, call: CallKey, kind: &EventKind) -> Step {
        match kind {
            EventKind::Invite {
                role: CallRole::Caller,
                ..
            } => {
                self.placed.insert(call);
                Step::Nothing
            }
            EventKind::Ringing {
                role: CallRole::Caller,
                ..
            } => Step::RingBack,
            EventKind::Answered { .. } => {
                self.placed.remove(&call);
                Step::Silence
            }
            EventKind::Ended { reason, .. } => match (self.placed.remove(&call), reason) {
                (true, EndReason::Busy) => Step::Busy,
                (
                    true,
                    EndReason::NoMediaPath
                    | EndReason::Declined
                    | EndReason::Refused
                    | EndReason::NoAnswer
                    | EndReason::Authentication
                    | EndReason::Network
                    | EndReason::Incompatible
                    | EndReason::IceRequired,
                ) => Step::Congestion,
                _ => Step::Silence,
            },
            _ => Step::Nothing,
        }
    }

    fn sounds_here(&self) -> bool {
        matches!(self.output, AudioOutput::Device(_))
    }

    fn sound(&mut self, call: CallKey, source: Box<dyn Source>, limit: Duration) {
        if self.sounds_here() {
            let stop = start(vec![self.output.clone()], source, limit);
            self.sounding.insert(call, Sounding(stop));
        }
    }
}

/// Sounds on a thread of its own, which opening a device may hold up, on the first of these outputs that
/// can be opened; where none can, it stays silent here, and is complained about when the call wants it.
fn start(
    outputs: Vec<AudioOutput>,
    mut source: Box<dyn Source>,
    limit: Duration,
) -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    thread::spawn(move || {
        let mut outputs = outputs.iter();
        let Some(mut sink) = outputs.find_map(open) else {
            return;
        };
        let (begin, mut frames) = (Instant::now(), 0);
        while !stopped.load(Ordering::Relaxed) && begin.elapsed() < limit {
            let due = match sink.wants_frame() {
                Some(wants) => wants,
                None => begin.elapsed() >= FRAME_TIME * frames,
            };
            if !due {
                thread::sleep(FRAME_TIME / 5);
                continue;
            }
            let mut frame = [0; FRAME];
            source.read(&mut frame);
            frames += 1;
            if sink.write(&frame).is_err() {
                return;
            }
        }
    });
    stop
}

fn open(output: &AudioOutput) -> Option<Box<dyn Sink>> {
    let opened = output.open();
    opened
        .inspect_err(|error| tracing::debug!(%error, ?output, "no tone"))
        .ok()
}

/// A file over and over.
struct Again {
    path: PathBuf,
    source: Box<dyn Source>,
}

impl Again {
    fn open(path: PathBuf) -> Result<Self, AudioError> {
        let source = AudioInput::Wav(path.clone()).open()?;
        Ok(Self { path, source })
    }
}

impl Source for Again {
    fn read(&mut self, frame: &mut [i16; FRAME]) -> bool {
        if !self.source.read(frame)
            && let Ok(source) = AudioInput::Wav(self.path.clone()).open()
        {
            self.source = source;
            return self.source.read(frame);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: CallKey = CallKey(7);

    fn tones() -> Tones {
        Tones::new(ToneChoice::default(), AudioOutput::Null)
    }

    fn invite(role: CallRole) -> EventKind {
        EventKind::Invite {
            role,
            from: String::new(),
            to: String::new(),
        }
    }

    fn ended(reason: EndReason) -> EventKind {
        EventKind::Ended {
            reason,
            status: None,
            by: crate::event::EndedBy::Remote,
            connected: Duration::ZERO,
            figures: Box::default(),
            outcome: crate::event::Outcome::Refused,
            words: None,
        }
    }

    #[test]
    fn a_caller_hears_how_the_call_goes() {
        for (reason, step) in [
            (EndReason::Busy, Step::Busy),
            (EndReason::NoMediaPath, Step::Congestion),
            (EndReason::Cancelled, Step::Silence),
        ] {
            let mut tones = tones();
            let caller = CallRole::Caller;
            assert_eq!(tones.step(CALL, &invite(caller)), Step::Nothing);
            let ringing = EventKind::Ringing {
                role: caller,
                verified: true,
            };
            assert_eq!(tones.step(CALL, &ringing), Step::RingBack);
            assert_eq!(tones.step(CALL, &ended(reason)), step);
        }
        let mut tones = tones();
        tones.step(CALL, &invite(CallRole::Caller));
        let answered = EventKind::Answered {
            role: CallRole::Caller,
        };
        assert_eq!(tones.step(CALL, &answered), Step::Silence);
        assert_eq!(tones.step(CALL, &ended(EndReason::Network)), Step::Silence);
    }

    #[test]
    fn no_event_rings_at_the_callee_only_the_alert_does() {
        let mut tones = tones();
        let callee = CallRole::Callee;
        assert_eq!(tones.step(CALL, &invite(callee)), Step::Nothing);
        let ringing = EventKind::Ringing {
            role: callee,
            verified: true,
        };
        assert_eq!(tones.step(CALL, &ringing), Step::Nothing);
        assert_eq!(tones.step(CALL, &ended(EndReason::Busy)), Step::Silence);
    }

    #[test]
    fn only_devices_sound() {
        let mut tones = tones();
        tones.alert(CALL);
        assert!(tones.sounding.is_empty());
        tones.follow(Instant::now(), CALL, &invite(CallRole::Caller));
        tones.follow(Instant::now(), CALL, &ended(EndReason::Busy));
        assert_eq!(tones.failed_until(), None);
    }

    #[test]
    fn it_rings_on_its_own_device_and_a_caller_hears_tones_on_the_speaker() {
        let device = |name: Option<&str>| AudioOutput::Device(name.map(str::to_owned));
        let named = |name: Option<&str>| ToneChoice {
            ring_device: name.map(|name| device(Some(name))),
            ..ToneChoice::default()
        };
        let headset = device(Some("headset"));
        let tones = Tones::new(named(Some("desk")), headset.clone());
        // The default device stands in for one that is gone.
        assert_eq!(tones.ring_outputs(), [device(Some("desk")), device(None)]);
        let tones = Tones::new(named(None), headset.clone());
        assert_eq!(tones.ring_outputs(), [headset]);
        // A call that is heard in a file rings where somebody said so, and nowhere else.
        let tones = Tones::new(named(Some("desk")), AudioOutput::Null);
        assert_eq!(tones.ring_outputs().len(), 2);
        assert!(!tones.sounds_here());
        assert!(Tones::check(&named(Some("no such device"))).is_err());
    }

    #[test]
    fn a_ring_tone_that_is_not_there_is_found_before_the_call() {
        let choice = ToneChoice {
            ring: RingTone::Wav("no/such.wav".into()),
            ..ToneChoice::default()
        };
        assert!(Tones::check(&choice).is_err());
    }
}
