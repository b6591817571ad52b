//! Sound devices, by cpal.
//!
//! The sound system calls back on threads of its own; these callbacks only move samples between
//! the device and a lock-free ring, and neither allocate nor lock nor wait. The other end of the
//! ring is the owner's, who moves a frame when a [`Bell`] tells that the device has one or wants one:
//! so sound comes and goes by the clocks of the devices, and no timer adds to its delay. A thread
//! for each device keeps it open, and finds another one when it goes.

mod capture;
#[cfg(unix)]
mod cookie;
mod health;
mod keeper;
mod ladder;
mod playback;
#[cfg(target_os = "linux")]
mod pulse;
mod reserve;

use std::sync::{Arc, mpsc};
use std::time::Duration;

use cpal::traits::{DeviceTrait, HostTrait, StreamTrait};
use cpal::{BufferSize, Device, Host, SampleFormat, StreamConfig, SupportedStreamConfig};

use super::{AudioError, Bell, DeviceInfo, DeviceKind};
use crate::{Channels, SAMPLE_RATE};

pub use self::capture::CaptureDevice;
pub use self::playback::PlaybackDevice;

use self::health::Health;

/// The sound system that is asked first, where it runs: it shares devices, and its latency is a
/// sixth of what ALSA's default gives.
const PREFERRED: &str = "PulseAudio";
/// ALSA's plug-ins that a person may want: the default, and the ways to a sound server. (`null` is
/// not among them: no clock paces it.)
const USUAL_PLUGINS: [&str; 3] = ["default", "pulse", "pipewire"];
/// A device that takes longer to open is given up.
const OPENING: Duration = Duration::from_secs(2);
/// So long a device may take to say that it cannot start; some start only when they have sound.
const STARTING: Duration = Duration::from_millis(300);

/// The sound systems that answer, the preferred one first.
fn hosts() -> Vec<Host> {
    quiet();
    #[cfg(unix)]
    cookie::ensure();
    let mut ids = cpal::available_hosts();
    ids.sort_by_key(|id| id.name() != PREFERRED);
    ids.into_iter()
        .filter_map(|id| cpal::host_from_id(id).ok())
        .collect()
}

/// ALSA writes to standard error whatever it tries in vain: for this thread it shall not.
fn quiet() {
    #[cfg(target_os = "linux")]
    {
        // It is kept by the thread; a failure only means that ALSA goes on talking.
        let _ = alsa::Output::local_error_handler();
    }
}

/// The devices of the first sound system that has any.
pub(super) fn devices() -> Result<Vec<DeviceInfo>, AudioError> {
    let mut reached = false;
    for host in hosts() {
        reached = true;
        let mut devices = list(&host, DeviceKind::Input);
        devices.extend(list(&host, DeviceKind::Output));
        if !devices.is_empty() {
            return Ok(devices);
        }
    }
    match reached {
        true => Ok(Vec::new()),
        false => Err(AudioError::NoSound(
            "no sound system is running here".into(),
        )),
    }
}

fn list(host: &Host, kind: DeviceKind) -> Vec<DeviceInfo> {
    let default = default(host, kind).and_then(|device| id(&device));
    let Ok(devices) = host.devices() else {
        return Vec::new();
    };
    devices
        .filter(|device| supports(device, kind) && is_real(host, device, kind))
        .filter_map(|device| {
            let id = id(&device)?;
            Some(DeviceInfo {
                name: name(&device).unwrap_or_else(|| id.clone()),
                kind,
                default: default.as_ref() == Some(&id),
                host: host.id().name().to_owned(),
                id,
            })
        })
        .collect()
}

/// ALSA lists the plug-ins of its configuration as if they were devices, also where there is no
/// sound card: of these only the usual ones are shown, and only if they can be opened.
fn is_real(host: &Host, device: &Device, kind: DeviceKind) -> bool {
    if host.id().name() != "ALSA" {
        return true;
    }
    let id = id(device).unwrap_or_default();
    if id.contains("CARD=") || id.starts_with("hw:") {
        return true;
    }
    USUAL_PLUGINS.contains(&id.as_str()) && proposed(device, kind).is_ok()
}

fn proposed(device: &Device, kind: DeviceKind) -> Result<SupportedStreamConfig, cpal::Error> {
    match kind {
        DeviceKind::Input => device.default_input_config(),
        DeviceKind::Output => device.default_output_config(),
    }
}

fn supports(device: &Device, kind: DeviceKind) -> bool {
    match kind {
        DeviceKind::Input => device.supports_input(),
        DeviceKind::Output => device.supports_output(),
    }
}

fn default(host: &Host, kind: DeviceKind) -> Option<Device> {
    match kind {
        DeviceKind::Input => host.default_input_device(),
        DeviceKind::Output => host.default_output_device(),
    }
}

fn id(device: &Device) -> Option<String> {
    Some(device.id().ok()?.id().to_owned())
}

fn name(device: &Device) -> Option<String> {
    Some(device.description().ok()?.name().to_owned())
}

/// The id with its sound system before a colon, as `alsa:hw:0,0`.
fn full_id(device: &Device) -> Option<String> {
    Some(device.id().ok()?.to_string())
}

/// Whether a person may mean this device by that: by its id, with or without its sound system, or
/// by its name.
fn is_called(device: &Device, wanted: &str) -> bool {
    has_id(device, wanted) || name(device).as_deref() == Some(wanted)
}

fn has_id(device: &Device, wanted: &str) -> bool {
    id(device).as_deref() == Some(wanted)
        || full_id(device).is_some_and(|full| full.eq_ignore_ascii_case(wanted))
}

/// The device of this name, an id rather than what a person reads; without a name the default one.
fn find(hosts: &[Host], wanted: Option<&str>, kind: DeviceKind) -> Result<Device, String> {
    let (article, what) = match kind {
        DeviceKind::Input => ("a microphone", "input"),
        DeviceKind::Output => ("a speaker", "output"),
    };
    let Some(wanted) = wanted else {
        // ALSA always has a default device, be it only by name.
        let mut found = hosts
            .iter()
            .filter_map(|host| default(host, kind))
            .filter(|device| proposed(device, kind).is_ok());
        return found
            .next()
            .ok_or_else(|| format!("there is no sound device to use as {article}"));
    };
    let mut by_name = None;
    let devices = hosts
        .iter()
        .filter_map(|host| host.devices().ok())
        .flatten();
    for device in devices.filter(|device| supports(device, kind)) {
        if has_id(&device, wanted) {
            return Ok(device);
        }
        if is_called(&device, wanted) {
            by_name.get_or_insert(device);
        }
    }
    by_name.ok_or_else(|| format!("there is no sound device \"{wanted}\" for {what}"))
}

/// A stream that runs. Dropping it closes the device.
enum Stream {
    Cpal {
        _stream: Arc<cpal::Stream>,
    },
    #[cfg(target_os = "linux")]
    Pulse(pulse::Stream),
}

/// How a device is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Format {
    config: StreamConfig,
    sample: SampleFormat,
}

/// The formats to try, the best one first: 48 kHz, few channels but not fewer than these, a small fixed
/// buffer; then what the device itself proposes.
fn formats(
    device: &Device,
    kind: DeviceKind,
    channels: Channels,
    period: Duration,
) -> Result<Vec<Format>, String> {
    let ranges: Vec<_> = match kind {
        DeviceKind::Input => device.supported_input_configs().map(Iterator::collect),
        DeviceKind::Output => device.supported_output_configs().map(Iterator::collect),
    }
    .unwrap_or_default();
    let proposed = proposed(device, kind).map_err(reason);
    let best = ranges
        .into_iter()
        .filter_map(|range| range.try_with_sample_rate(SAMPLE_RATE))
        .filter(|config| preference(config.sample_format()).is_some())
        .min_by_key(|config| {
            let too_few = usize::from(config.channels()) < channels.count();
            let format = preference(config.sample_format());
            (too_few, config.channels(), format)
        });
    let mut formats = Vec::new();
    if best.is_none() {
        proposed.as_ref().map_err(String::clone)?;
    }
    for supported in best.into_iter().chain(proposed.ok()) {
        let mut config = supported.config();
        for buffer_size in [
            BufferSize::Fixed((f64::from(config.sample_rate) * period.as_secs_f64()) as u32),
            BufferSize::Default,
        ] {
            config.buffer_size = buffer_size;
            formats.push(Format {
                config,
                sample: supported.sample_format(),
            });
        }
    }
    Ok(formats)
}

/// Starts a stream, on a thread of its own: a sound system may let it wait for its first sound.
fn play(stream: cpal::Stream, health: &Arc<Health>) -> Result<Stream, String> {
    let stream = Arc::new(stream);
    let (starting, health) = (Arc::clone(&stream), Arc::clone(health));
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let started = starting.play().map_err(reason);
        if started.is_err() {
            health.lose();
        }
        let _ = tell.send(started);
    });
    told.recv_timeout(STARTING).unwrap_or(Ok(()))?;
    Ok(Stream::Cpal { _stream: stream })
}

fn preference(format: SampleFormat) -> Option<u8> {
    match format {
        SampleFormat::F32 => Some(0),
        SampleFormat::I16 => Some(1),
        SampleFormat::I32 => Some(2),
        SampleFormat::I24 => Some(3),
        SampleFormat::U8 => Some(4),
        _ => None,
    }
}

/// cpal's reason as a part of our sentence.
fn reason(error: cpal::Error) -> String {
    error.to_string().trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests;
