//! JSON Lines: the events as scripts read them. Names and words here are a contract; new ones may
//! be added, none renamed.

use std::time::{Duration, Instant};

use ringtrue_media::Codec;
use ringtrue_media::audio::{ChangeReason, DeviceKind};
use ringtrue_phone::driver::DriverEvent;
use ringtrue_phone::event::{CallRole, MediaDirection, MediaFigures, PathReport};
use ringtrue_phone::{CallRef, EventKind, PhoneEvent};
use ringtrue_program::demo::CaseResult;
use serde::Serialize;

use crate::clock::{Clock, milliseconds};
use crate::escape::for_json;

/// The version of the contract, in the first line.
const SCHEMA: u32 = 1;

#[derive(Serialize)]
struct Line<'a> {
    event: &'static str,
    time: String,
    t_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    call: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dialog: Option<&'a str>,
    #[serde(flatten)]
    fields: Fields<'a>,
}

/// What an event says beside its name, time and call.
#[derive(Serialize)]
#[serde(untagged)]
enum Fields<'a> {
    Start {
        schema: u32,
        version: &'static str,
    },
    Listening {
        sip: String,
        transport: &'static str,
    },
    Muted {
        on: bool,
    },
    Device {
        kind: &'static str,
        reason: &'static str,
        device: Option<&'a str>,
    },
    Registered {
        aor: &'a str,
        expires: u32,
    },
    RegistrationFailed {
        status: Option<u16>,
        reason: &'a str,
    },
    Gathered {
        candidates: usize,
        ms: f64,
    },
    Invite {
        direction: &'static str,
        from: &'a str,
        to: &'a str,
    },
    Progress {
        status: u16,
    },
    OfferedAnew {
        status: u16,
    },
    Checking {
        pairs: usize,
    },
    Path {
        local: String,
        remote: String,
        transport: &'static str,
        local_type: &'static str,
        remote_type: &'static str,
        rtt_ms: Option<f64>,
        ms: f64,
    },
    PathFailed {
        reason: &'static str,
        pairs_tried: usize,
    },
    Secured {
        kind: &'static str,
        profile: &'static str,
    },
    KeysPending {},
    Ringing {
        role: &'static str,
        verified: bool,
    },
    Answered {
        role: &'static str,
    },
    Media {
        direction: &'static str,
    },
    Stats {
        #[serde(flatten)]
        figures: Figures,
    },
    Recording {
        file: String,
    },
    Dtmf {
        digit: char,
    },
    Missed {
        from: &'a str,
        reason: &'static str,
        pairs_tried: usize,
    },
    Ended {
        reason: &'static str,
        status: Option<u16>,
        by: &'static str,
        seconds: f64,
        #[serde(flatten)]
        figures: Figures,
        words: Option<&'a str>,
    },
    Error {
        message: &'a str,
    },
    DemoCase {
        topology: &'static str,
        phone: &'static str,
        rang: bool,
        heard: bool,
        ring_ms: Option<f64>,
        first_voice_ms: Option<f64>,
    },
    DemoSummary {
        ghost_rings_ordinary: usize,
        ghost_rings_ringtrue: usize,
    },
}

#[derive(Serialize)]
struct Figures {
    tx_packets: u64,
    rx_packets: u64,
    lost: u64,
    jitter_ms: Option<f64>,
    rtt_ms: Option<f64>,
    srtp_forged: Option<u64>,
    srtp_replayed: Option<u64>,
    tx_level_db: Option<f64>,
    tx_peak_db: Option<f64>,
    rx_level_db: Option<f64>,
    rx_peak_db: Option<f64>,
    codec: Option<&'static str>,
    tx_bitrate: Option<u64>,
    rx_bitrate: Option<u64>,
    late: u64,
    discarded: u64,
    duplicates: u64,
    recovered: u64,
    concealed_ms: u64,
    loss_percent: Option<f64>,
    burst_packets: Option<f64>,
    burst_ms: Option<f64>,
    gap_ms: Option<f64>,
    burst_density: Option<f64>,
    gap_density: Option<f64>,
    buffer_ms: Option<f64>,
    target_ms: Option<f64>,
    remote_lost: Option<u64>,
    remote_jitter_ms: Option<f64>,
    r_factor: Option<f64>,
    mos: Option<f64>,
    remote_mos: Option<f64>,
    remote_r_factor: Option<f64>,
    remote_loss_percent: Option<f64>,
    remote_burst_ms: Option<f64>,
    remote_burst_density: Option<f64>,
    remote_buffer_ms: Option<f64>,
}

impl From<MediaFigures> for Figures {
    fn from(figures: MediaFigures) -> Self {
        Self {
            tx_packets: figures.tx_packets,
            rx_packets: figures.rx_packets,
            lost: figures.lost,
            jitter_ms: figures.jitter_ms.map(to_the_thousandth),
            rtt_ms: figures.rtt_ms.map(to_the_thousandth),
            srtp_forged: figures.srtp_forged,
            srtp_replayed: figures.srtp_replayed,
            tx_level_db: figures.tx_level_db.map(to_the_tenth),
            tx_peak_db: figures.tx_peak_db.map(to_the_tenth),
            rx_level_db: figures.rx_level_db.map(to_the_tenth),
            rx_peak_db: figures.rx_peak_db.map(to_the_tenth),
            codec: figures.codec.map(Codec::name),
            tx_bitrate: figures.tx_bitrate.map(|bits| bits.round() as u64),
            rx_bitrate: figures.rx_bitrate.map(|bits| bits.round() as u64),
            late: figures.late,
            discarded: figures.discarded,
            duplicates: figures.duplicates,
            recovered: figures.recovered,
            concealed_ms: figures.concealed_ms,
            loss_percent: figures.loss_percent.map(to_the_thousandth),
            burst_packets: figures.burst_packets.map(to_the_thousandth),
            burst_ms: figures.burst_ms.map(to_the_thousandth),
            gap_ms: figures.gap_ms.map(to_the_thousandth),
            burst_density: figures.burst_density.map(to_the_thousandth),
            gap_density: figures.gap_density.map(to_the_thousandth),
            buffer_ms: figures.buffer_ms.map(to_the_thousandth),
            target_ms: figures.target_ms.map(to_the_thousandth),
            remote_lost: figures.remote_lost,
            remote_jitter_ms: figures.remote_jitter_ms.map(to_the_thousandth),
            r_factor: figures.r_factor.map(to_the_thousandth),
            mos: figures.mos.map(to_the_thousandth),
            remote_mos: figures.remote_mos.map(to_the_thousandth),
            remote_r_factor: figures.remote_r_factor,
            remote_loss_percent: figures.remote_loss_percent.map(to_the_thousandth),
            remote_burst_ms: figures.remote_burst_ms,
            remote_burst_density: figures.remote_burst_density.map(to_the_thousandth),
            remote_buffer_ms: figures.remote_buffer_ms,
        }
    }
}

/// The first line.
pub fn start(clock: &Clock) -> String {
    let fields = Fields::Start {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION"),
    };
    line(clock, clock.started(), "start", None, fields)
}

/// A line about something that went wrong outside of the phone.
pub fn error(clock: &Clock, at: Instant, message: &str) -> String {
    let fields = Fields::Error { message };
    line(clock, at, "error", None, fields)
}

/// The line of one call of the demo.
pub fn demo_case(clock: &Clock, result: &CaseResult) -> String {
    let fields = Fields::DemoCase {
        topology: result.topology.as_str(),
        phone: result.phone.as_str(),
        rang: result.rang,
        heard: result.heard(),
        ring_ms: result.ring.map(milliseconds),
        first_voice_ms: result.first_voice.map(milliseconds),
    };
    line(clock, Instant::now(), "demo_case", None, fields)
}

/// The last line of the demo.
pub fn demo_summary(clock: &Clock, ordinary: usize, ringtrue: usize) -> String {
    let fields = Fields::DemoSummary {
        ghost_rings_ordinary: ordinary,
        ghost_rings_ringtrue: ringtrue,
    };
    line(clock, Instant::now(), "demo_summary", None, fields)
}

/// The line of an event; `None` for those that scripts are not told.
pub fn event(clock: &Clock, event: &DriverEvent) -> Option<String> {
    match event {
        DriverEvent::Listening { at, address, tls } => {
            let sip = address.to_string();
            let transport = if *tls { "tls" } else { "udp" };
            let fields = Fields::Listening { sip, transport };
            Some(line(clock, *at, "listening", None, fields))
        }
        DriverEvent::Trouble { at, message, .. } => Some(error(clock, *at, message)),
        DriverEvent::Muted { at, call, on } => Some(line(
            clock,
            *at,
            "muted",
            Some(call),
            Fields::Muted { on: *on },
        )),
        DriverEvent::Device { at, call, change } => {
            let fields = Fields::Device {
                kind: match change.kind {
                    DeviceKind::Input => "input",
                    DeviceKind::Output => "output",
                },
                reason: match change.reason {
                    ChangeReason::Lost => "lost",
                    ChangeReason::Back => "back",
                    ChangeReason::Default => "default",
                },
                device: change.device.as_deref(),
            };
            Some(line(clock, *at, "device", call.as_ref(), fields))
        }
        DriverEvent::Phone(event) => phone_event(clock, event),
    }
}

fn phone_event(clock: &Clock, event: &PhoneEvent) -> Option<String> {
    let (name, fields) = describe(&event.kind)?;
    Some(line(clock, event.at, name, event.call.as_ref(), fields))
}

fn line(
    clock: &Clock,
    at: Instant,
    event: &'static str,
    call: Option<&CallRef>,
    fields: Fields<'_>,
) -> String {
    let line = Line {
        event,
        time: clock.time(at),
        t_ms: clock.t_ms(at),
        // A caller that still gathers has no Call-ID yet.
        call: call
            .map(|call| call.call_id.as_str())
            .filter(|call_id| !call_id.is_empty()),
        dialog: call.and_then(|call| call.dialog.as_deref()),
        fields,
    };
    // Strings and numbers alone: nothing in a line can fail to serialize.
    // Lines of JSON are looked at on a terminal too.
    for_json(&serde_json::to_string(&line).unwrap_or_default())
}

/// The name of an event, and what it says.
fn describe(kind: &EventKind) -> Option<(&'static str, Fields<'_>)> {
    Some(match kind {
        EventKind::Registered { aor, expires } => {
            let expires = *expires;
            ("registered", Fields::Registered { aor, expires })
        }
        EventKind::RegistrationFailed { status, reason } => {
            let status = *status;
            let fields = Fields::RegistrationFailed { status, reason };
            ("registration_failed", fields)
        }
        EventKind::Gathered { candidates, took } => {
            let (candidates, ms) = (*candidates, milliseconds(*took));
            ("gathered", Fields::Gathered { candidates, ms })
        }
        EventKind::Progress { status } => ("progress", Fields::Progress { status: *status }),
        EventKind::Checking { pairs } => ("checking", Fields::Checking { pairs: *pairs }),
        EventKind::PathValidated(report) => ("path_validated", path(report)),
        EventKind::PathSelected(report) => ("path_selected", path(report)),
        EventKind::Answered { role } => ("answered", Fields::Answered { role: word(*role) }),
        EventKind::Media { direction } => {
            let direction = match direction {
                MediaDirection::Sent => "sent",
                MediaDirection::Received => "received",
            };
            ("media", Fields::Media { direction })
        }
        EventKind::Stats(figures) => {
            let figures = (**figures).into();
            ("stats", Fields::Stats { figures })
        }
        EventKind::Recording { file } => {
            let file = file.display().to_string();
            ("recording", Fields::Recording { file })
        }
        EventKind::Dtmf { digit } => ("dtmf", Fields::Dtmf { digit: *digit }),
        EventKind::Error { message } => ("error", Fields::Error { message }),
        other => return describe_call(other),
    })
}

/// The events of a call's beginning and end.
fn describe_call(kind: &EventKind) -> Option<(&'static str, Fields<'_>)> {
    Some(match kind {
        EventKind::Invite { role, from, to } => {
            let direction = match role {
                CallRole::Caller => "outgoing",
                CallRole::Callee => "incoming",
            };
            let fields = Fields::Invite {
                direction,
                from,
                to,
            };
            ("invite", fields)
        }
        EventKind::PathFailed {
            reason,
            pairs_tried,
        } => {
            let fields = Fields::PathFailed {
                reason: reason.as_str(),
                pairs_tried: *pairs_tried,
            };
            ("path_failed", fields)
        }
        EventKind::Secured { source, profile } => {
            let (kind, profile) = (source.as_str(), profile.name());
            ("secured", Fields::Secured { kind, profile })
        }
        EventKind::KeysPending => ("keys_pending", Fields::KeysPending {}),
        EventKind::OfferedAnew { status } => {
            let status = *status;
            ("offered_anew", Fields::OfferedAnew { status })
        }
        EventKind::Ringing { role, verified } => {
            let (role, verified) = (word(*role), *verified);
            ("ringing", Fields::Ringing { role, verified })
        }
        EventKind::Missed {
            from,
            reason,
            pairs_tried,
        } => {
            let fields = Fields::Missed {
                from,
                reason: reason.as_str(),
                pairs_tried: *pairs_tried,
            };
            ("missed", fields)
        }
        EventKind::Ended {
            reason,
            status,
            by,
            connected,
            figures,
            words,
            ..
        } => {
            let fields = Fields::Ended {
                reason: reason.as_str(),
                status: *status,
                by: by.as_str(),
                seconds: seconds(*connected),
                figures: (**figures).into(),
                words: words.as_deref(),
            };
            ("ended", fields)
        }
        _ => return None,
    })
}

fn path(report: &PathReport) -> Fields<'static> {
    Fields::Path {
        local: report.local.to_string(),
        remote: report.remote.to_string(),
        transport: report.transport.as_str(),
        local_type: report.local_type.as_str(),
        remote_type: report.remote_type.as_str(),
        rtt_ms: report.rtt.map(milliseconds),
        ms: milliseconds(report.since_invite),
    }
}

fn word(role: CallRole) -> &'static str {
    match role {
        CallRole::Caller => "caller",
        CallRole::Callee => "callee",
    }
}

fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e3).round() / 1e3
}

fn to_the_tenth(db: f64) -> f64 {
    (db * 10.0).round() / 10.0
}

fn to_the_thousandth(figure: f64) -> f64 {
    (figure * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests;
