//! Keeps a sound device open: when it goes, another one takes over; when it comes back, or the
//! default device is another one, the sound follows.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use cpal::{Device, Host};

use super::ladder::Ladder;
use super::{Format, Health, Stream, find, formats, full_id, hosts, name, play};
use crate::Channels;
use crate::audio::{ChangeReason, DeviceChange, DeviceKind, OnChange};

/// How often it is looked at whether the device still runs,
const GLANCE: Duration = Duration::from_millis(200);
/// and which devices there are.
const LOOK: Duration = Duration::from_secs(1);
/// The periods that are asked for where a device keeps a few of them. One that calls back late again
/// and again has a host too busy for a short one. A microphone's is one that lasts: it is heard when
/// the device is opened anew for another.
const CAPTURE_PERIODS: [Duration; 3] = [
    Duration::from_millis(10),
    Duration::from_millis(20),
    Duration::from_millis(40),
];
const PLAYBACK_PERIODS: [Duration; 4] = [
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(20),
];
/// How many periods a device's buffer lasts. What a microphone's system cannot deliver in time waits
/// for us at first; what a speaker's does not get is missing.
const CAPTURE_PATIENCE: u32 = 4;
const PLAYBACK_PATIENCE: u32 = 2;
/// How much sound PulseAudio keeps for a speaker (milliseconds): it changes that without a break.
#[cfg(target_os = "linux")]
const PULSE_BUFFERS: [u64; 9] = [5, 6, 8, 10, 13, 17, 22, 30, 40];
/// What it begins with.
#[cfg(target_os = "linux")]
const PULSE_FIRST: Duration = Duration::from_millis(6);

/// What microphones and speakers differ in.
pub(super) trait Kind: Send + 'static {
    /// The owner's end of an open device.
    type Line: Send + 'static;
    const KIND: DeviceKind;

    /// The channels that are wanted of a device.
    fn channels(&self) -> Channels {
        Channels::Mono
    }

    /// Opens a device, without starting it.
    fn open(
        &self,
        device: &Device,
        format: Format,
        health: &Arc<Health>,
    ) -> Result<(cpal::Stream, Self::Line), String>;

    /// Opens and starts PulseAudio's device of this name; a speaker's server holds so much sound.
    #[cfg(target_os = "linux")]
    fn start_on_pulse(
        &self,
        name: &str,
        buffer: Duration,
        health: &Arc<Health>,
    ) -> Result<(super::pulse::Stream, Self::Line), String>;
}

/// The owner's end of the thread that holds the device. Dropping it closes the device.
pub(super) struct Keeper<L> {
    lines: Receiver<L>,
    _stop: Sender<()>,
}

impl<L: Send + 'static> Keeper<L> {
    /// Opens the device of this name, or the default one.
    pub(super) fn open<K: Kind<Line = L>>(
        wanted: Option<&str>,
        kind: K,
        on_change: OnChange,
    ) -> Result<(Keeper<L>, L), String> {
        let (give, lines) = mpsc::channel();
        let (stop, stopped) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        let wanted = wanted.map(str::to_owned);
        std::thread::spawn(move || {
            let mut shift = Shift {
                kind,
                wanted,
                hosts: hosts(),
                open: None,
                ladder: None,
                looked: Instant::now(),
                lines: give,
                on_change,
            };
            let device = find(&shift.hosts, shift.wanted.as_deref(), K::KIND);
            let opened = device.and_then(|device| shift.take(&device));
            let failed = opened.is_err();
            if tell.send(opened).is_ok() && !failed {
                shift.keep(&stopped);
            }
        });
        told.recv()
            .unwrap_or_else(|_| Err("the sound system broke down".into()))?;
        let line = lines
            .try_recv()
            .map_err(|_| "the sound system broke down".to_owned())?;
        Ok((Keeper { lines, _stop: stop }, line))
    }

    /// Another device has taken over: the end of its line.
    pub(super) fn next_line(&mut self) -> Option<L> {
        self.lines.try_iter().last()
    }
}

/// What the keeper's thread holds.
struct Shift<K: Kind> {
    kind: K,
    /// The device that the user named.
    wanted: Option<String>,
    hosts: Vec<Host>,
    open: Option<Open>,
    /// How long the open device's buffer is.
    ladder: Option<Ladder>,
    looked: Instant,
    lines: Sender<K::Line>,
    on_change: OnChange,
}

/// A device that runs.
struct Open {
    /// Held for its callbacks too: dropping it closes the device.
    stream: Stream,
    health: Arc<Health>,
    id: String,
    /// It is the one that the user named.
    wanted: bool,
}

impl<K: Kind> Shift<K> {
    /// Until the owner is gone.
    fn keep(&mut self, stopped: &Receiver<()>) {
        while stopped.recv_timeout(GLANCE) == Err(RecvTimeoutError::Timeout) {
            self.glance();
        }
    }

    fn glance(&mut self) {
        let lost = self.open.as_ref().is_none_or(|open| open.health.is_lost());
        let due = self.looked.elapsed() >= LOOK;
        if let Some(open) = self.open.take_if(|_| lost) {
            tracing::debug!(device = open.id, "a sound device is gone");
            close(open);
            self.replace(ChangeReason::Lost);
        } else if due {
            self.looked = Instant::now();
            match lost {
                true => self.replace(ChangeReason::Back),
                false => self.look(),
            }
        }
        self.watch_lateness();
    }

    /// Another device takes over, the best there is; nobody is told of a search in vain again.
    fn replace(&mut self, reason: ChangeReason) {
        // A connection to a server that a stream was lost on may be of no use any more.
        self.hosts = hosts();
        let taken = self.best().and_then(|device| self.take(&device));
        if let Err(error) = &taken {
            tracing::debug!(%error, "no other sound device");
            if self.open.is_some() || reason != ChangeReason::Lost {
                return;
            }
        }
        self.tell(reason, taken.ok());
    }

    /// Looks whether there is a better device than the one that is open.
    fn look(&mut self) {
        let Some(open) = &self.open else { return };
        // ALSA's devices cannot be looked at without opening them.
        if open.id.starts_with("alsa") {
            return;
        }
        let (id, was_wanted) = (open.id.clone(), open.wanted);
        let Ok(best) = self.best() else { return };
        if full_id(&best).as_ref() == Some(&id) {
            return;
        }
        let reason = match (&self.wanted, was_wanted) {
            (Some(_), true) => ChangeReason::Lost,
            (Some(_), false) if self.is_wanted(&best) => ChangeReason::Back,
            _ => ChangeReason::Default,
        };
        self.replace(reason);
    }

    /// The device that the user named, or else the default one.
    fn best(&mut self) -> Result<Device, String> {
        let wanted = self.wanted.as_deref();
        find(&self.hosts, wanted, K::KIND).or_else(|error| match wanted {
            Some(_) => find(&self.hosts, None, K::KIND),
            None => Err(error),
        })
    }

    fn is_wanted(&self, device: &Device) -> bool {
        let wanted = self.wanted.as_deref();
        wanted.is_some_and(|wanted| super::is_called(device, wanted))
    }

    /// Opens a device in place of what is open, and hands its line out. Says its id.
    fn take(&mut self, device: &Device) -> Result<String, String> {
        let shown = name(device).unwrap_or_default();
        let way = Way::of(device);
        let before = self.ladder.as_ref().map(Ladder::buffer);
        let ladder = way.ladder(K::KIND, before);
        let health = Arc::new(Health::new(ladder.buffers().to_vec()));
        let reason = match self.start(device, &way, ladder.buffer(), &health) {
            Ok((stream, line)) => {
                let before = self.open.replace(Open {
                    stream,
                    health,
                    id: full_id(device).unwrap_or_default(),
                    wanted: self.is_wanted(device),
                });
                if let Some(before) = before {
                    close(before);
                }
                self.ladder = Some(ladder);
                // Without an owner the thread ends soon.
                let _ = self.lines.send(line);
                return Ok(super::id(device).unwrap_or(shown));
            }
            Err(reason) => reason,
        };
        let what = match K::KIND {
            DeviceKind::Input => "microphone",
            DeviceKind::Output => "speaker",
        };
        Err(format!("cannot open the {what} \"{shown}\": {reason}"))
    }

    fn start(
        &self,
        device: &Device,
        way: &Way,
        buffer: Duration,
        health: &Arc<Health>,
    ) -> Result<(Stream, K::Line), String> {
        match way {
            Way::Cpal => self.start_by_cpal(device, buffer / patience(K::KIND), health),
            #[cfg(target_os = "linux")]
            Way::Pulse(name) => {
                let (stream, line) = self.kind.start_on_pulse(name, buffer, health)?;
                Ok((Stream::Pulse(stream), line))
            }
        }
    }

    fn start_by_cpal(
        &self,
        device: &Device,
        period: Duration,
        health: &Arc<Health>,
    ) -> Result<(Stream, K::Line), String> {
        let mut reason = "it offers no format that is understood".to_owned();
        for format in formats(device, K::KIND, self.kind.channels(), period)? {
            let opened = self.kind.open(device, format, health);
            match opened.and_then(|(stream, line)| Ok((play(stream, health)?, line))) {
                Ok(started) => return Ok(started),
                Err(error) => reason = error,
            }
        }
        Err(reason)
    }

    /// A device that is late again and again gets a longer buffer.
    fn watch_lateness(&mut self) {
        let (Some(open), Some(ladder)) = (&self.open, &mut self.ladder) else {
            return;
        };
        let late = open.health.take_late();
        let Some(buffer) = ladder.watch(Instant::now(), &late) else {
            return;
        };
        tracing::debug!(device = open.id, ?buffer, "another buffer");
        #[cfg(target_os = "linux")]
        if let Stream::Pulse(stream) = &open.stream {
            return stream.set_buffer(buffer);
        }
        let id = open.id.clone();
        let device = self.best().ok();
        if let Some(device) = device.filter(|device| full_id(device) == Some(id)) {
            // If that fails, the one that is open goes on.
            let _ = self.take(&device);
        }
    }

    fn tell(&self, reason: ChangeReason, device: Option<String>) {
        (self.on_change)(DeviceChange {
            kind: K::KIND,
            reason,
            device,
        });
    }
}

/// By what a device is opened.
enum Way {
    Cpal,
    /// The name that the server knows it by.
    #[cfg(target_os = "linux")]
    Pulse(String),
}

impl Way {
    fn of(device: &Device) -> Way {
        #[cfg(target_os = "linux")]
        if let Some(name) = pulse_name(device) {
            return Way::Pulse(name);
        }
        Way::Cpal
    }

    /// The buffers to choose from, and where to begin: with one that is as long as that of the device
    /// before, if there was one.
    fn ladder(&self, kind: DeviceKind, before: Option<Duration>) -> Ladder {
        let now = Instant::now();
        match self {
            Way::Cpal => {
                let buffers = periods(kind).iter().map(|period| *period * patience(kind));
                let ladder = Ladder::new(now, buffers.collect(), before.unwrap_or_default());
                // To be opened anew is heard: that is too much for less delay.
                ladder.that_stays_up()
            }
            #[cfg(target_os = "linux")]
            Way::Pulse(_) => {
                let buffers = match kind {
                    // There is always room for a microphone's sound.
                    DeviceKind::Input => Vec::new(),
                    DeviceKind::Output => PULSE_BUFFERS.map(Duration::from_millis).into(),
                };
                Ladder::new(now, buffers, before.unwrap_or(PULSE_FIRST))
            }
        }
    }
}

/// What a PulseAudio server calls this device, if it is one of its own.
#[cfg(target_os = "linux")]
fn pulse_name(device: &Device) -> Option<String> {
    let id = full_id(device)?;
    Some(id.strip_prefix("pulseaudio:")?.to_owned())
}

fn periods(kind: DeviceKind) -> &'static [Duration] {
    match kind {
        DeviceKind::Input => &CAPTURE_PERIODS,
        DeviceKind::Output => &PLAYBACK_PERIODS,
    }
}

fn patience(kind: DeviceKind) -> u32 {
    match kind {
        DeviceKind::Input => CAPTURE_PATIENCE,
        DeviceKind::Output => PLAYBACK_PATIENCE,
    }
}

/// Closes a device without waiting for it: cpal waits for a server's word about a stream that the
/// server may not have any more.
fn close(open: Open) {
    std::thread::spawn(move || drop(open));
}
