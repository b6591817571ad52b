//! Keeps a sound device open: when it goes, another one takes over; when it comes back, or the
//! default device is another one, the sound follows.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use cpal::{Device, Host};

use super::{Format, Health, Stream, find, formats, full_id, hosts, name, play};
use crate::audio::{ChangeReason, DeviceChange, DeviceKind, OnChange};

/// How often it is looked at whether the device still runs,
const GLANCE: Duration = Duration::from_millis(200);
/// and which devices there are.
const LOOK: Duration = Duration::from_secs(1);
/// The periods that are asked for. A device that calls back late again and again has a host too busy
/// for a short one.
const SHORT_PERIODS: [Duration; 4] = [
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(20),
];
/// Where nothing but another opening gives another period, a microphone's is one that lasts.
const LONG_PERIODS: [Duration; 3] = [
    Duration::from_millis(10),
    Duration::from_millis(20),
    Duration::from_millis(40),
];
/// So often late,
const LATE: u32 = 4;
/// within this time, is again and again.
const LATE_WITHIN: Duration = Duration::from_secs(10);

/// What microphones and speakers differ in.
pub(super) trait Kind: Send + 'static {
    /// The owner's end of an open device.
    type Line: Send + 'static;
    const KIND: DeviceKind;

    /// Opens a device, without starting it.
    fn open(
        &self,
        device: &Device,
        format: Format,
        health: &Arc<Health>,
    ) -> Result<(cpal::Stream, Self::Line), String>;

    /// Opens and starts PulseAudio's device of this name.
    #[cfg(target_os = "linux")]
    fn start_on_pulse(
        &self,
        name: &str,
        period: Duration,
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
                period: 0,
                late: (0, Instant::now()),
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
    /// The index of the period that is asked for.
    period: usize,
    /// Late calls, and since when they are counted.
    late: (u32, Instant),
    looked: Instant,
    lines: Sender<K::Line>,
    on_change: OnChange,
}

/// A device that runs.
struct Open {
    /// Held for its callbacks too: dropping it closes the device.
    stream: Stream,
    way: Way,
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
        let mut reason = "it offers no format that is understood".to_owned();
        for way in ways(device, K::KIND, self.period)? {
            let health = Arc::new(Health::new(way.patience(K::KIND)));
            match self.start(device, &way, &health) {
                Ok((stream, line)) => {
                    let before = self.open.replace(Open {
                        stream,
                        health,
                        way,
                        id: full_id(device).unwrap_or_default(),
                        wanted: self.is_wanted(device),
                    });
                    if let Some(before) = before {
                        close(before);
                    }
                    self.late = (0, Instant::now());
                    // Without an owner the thread ends soon.
                    let _ = self.lines.send(line);
                    return Ok(super::id(device).unwrap_or(shown));
                }
                Err(error) => reason = error,
            }
        }
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
        health: &Arc<Health>,
    ) -> Result<(Stream, K::Line), String> {
        match way {
            Way::Cpal { format, .. } => {
                let (stream, line) = self.kind.open(device, *format, health)?;
                Ok((play(stream, health)?, line))
            }
            #[cfg(target_os = "linux")]
            Way::Pulse { name, period } => {
                let (stream, line) = self.kind.start_on_pulse(name, *period, health)?;
                Ok((Stream::Pulse(stream), line))
            }
        }
    }

    /// A device that is late again and again gets a longer period.
    fn watch_lateness(&mut self) {
        let Some(open) = &mut self.open else { return };
        let (late, since) = &mut self.late;
        if since.elapsed() > LATE_WITHIN {
            (*late, *since) = (0, Instant::now());
        }
        *late += open.health.take_late();
        if *late < LATE || !open.way.has_longer(K::KIND, self.period) {
            return;
        }
        self.period += 1;
        self.late = (0, Instant::now());
        tracing::debug!(device = open.id, period = self.period, "a longer period");
        #[cfg(target_os = "linux")]
        if let (Stream::Pulse(stream), Way::Pulse { period, .. }) = (&open.stream, &mut open.way) {
            *period = nth(&SHORT_PERIODS, self.period);
            stream.set_period(*period);
            open.health.set_patience(open.way.patience(K::KIND));
            return;
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

/// How a device is opened.
enum Way {
    Cpal {
        format: Format,
        period: Duration,
    },
    /// By the name that the server knows it by.
    #[cfg(target_os = "linux")]
    Pulse {
        name: String,
        period: Duration,
    },
}

impl Way {
    fn periods(&self, kind: DeviceKind) -> &'static [Duration] {
        match self {
            Way::Cpal { .. } => cpal_periods(kind),
            #[cfg(target_os = "linux")]
            Way::Pulse { .. } => &SHORT_PERIODS,
        }
    }

    fn has_longer(&self, kind: DeviceKind, period: usize) -> bool {
        period + 1 < self.periods(kind).len()
    }

    /// How long the device's buffer lasts. What a microphone's server cannot deliver in time waits
    /// for us at first; what a speaker's does not get is missing.
    fn patience(&self, kind: DeviceKind) -> Duration {
        match (self, kind) {
            (Way::Cpal { period, .. }, DeviceKind::Input) => *period * 4,
            (Way::Cpal { period, .. }, DeviceKind::Output) => *period * 2,
            #[cfg(target_os = "linux")]
            (Way::Pulse { period, .. }, DeviceKind::Input) => *period * 4,
            #[cfg(target_os = "linux")]
            (Way::Pulse { period, .. }, DeviceKind::Output) => {
                *period * (super::pulse::SPEAKER_PERIODS - 1)
            }
        }
    }
}

/// The ways to try, the best one first.
fn ways(device: &Device, kind: DeviceKind, period: usize) -> Result<Vec<Way>, String> {
    #[cfg(target_os = "linux")]
    if let Some(name) = pulse_name(device) {
        let period = nth(&SHORT_PERIODS, period);
        return Ok(vec![Way::Pulse { name, period }]);
    }
    let period = nth(cpal_periods(kind), period);
    let formats = formats(device, kind, period)?.into_iter();
    Ok(formats.map(|format| Way::Cpal { format, period }).collect())
}

/// What a PulseAudio server calls this device, if it is one of its own.
#[cfg(target_os = "linux")]
fn pulse_name(device: &Device) -> Option<String> {
    let id = full_id(device)?;
    Some(id.strip_prefix("pulseaudio:")?.to_owned())
}

fn cpal_periods(kind: DeviceKind) -> &'static [Duration] {
    match kind {
        DeviceKind::Input => &LONG_PERIODS,
        DeviceKind::Output => &SHORT_PERIODS,
    }
}

/// The period of this number, or the longest one.
fn nth(periods: &[Duration], number: usize) -> Duration {
    let period = periods.get(number).or(periods.last());
    period.copied().unwrap_or_default()
}

/// Closes a device without waiting for it: cpal waits for a server's word about a stream that the
/// server may not have any more.
fn close(open: Open) {
    std::thread::spawn(move || drop(open));
}
