//! JSON Lines: the events as scripts read them. Names and words here are a contract; new ones may
//! be added, none renamed.

use std::time::{Duration, Instant};

use ringtrue_phone::driver::DriverEvent;
use ringtrue_phone::event::{CallRole, MediaDirection, MediaFigures, PathReport};
use ringtrue_phone::{CallRef, EventKind, PhoneEvent};
use ringtrue_program::demo::CaseResult;
use serde::Serialize;

use crate::clock::{Clock, milliseconds};

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
    Checking {
        pairs: usize,
    },
    Path {
        local: String,
        remote: String,
        local_type: &'static str,
        remote_type: &'static str,
        rtt_ms: Option<f64>,
        ms: f64,
    },
    PathFailed {
        reason: &'static str,
        pairs_tried: usize,
    },
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
}

impl From<MediaFigures> for Figures {
    fn from(figures: MediaFigures) -> Self {
        Self {
            tx_packets: figures.tx_packets,
            rx_packets: figures.rx_packets,
            lost: figures.lost,
            jitter_ms: figures.jitter_ms.map(to_the_microsecond),
            rtt_ms: figures.rtt_ms.map(to_the_microsecond),
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
        DriverEvent::Listening { at, address } => {
            let sip = address.to_string();
            let fields = Fields::Listening { sip };
            Some(line(clock, *at, "listening", None, fields))
        }
        DriverEvent::Trouble { at, message, .. } => Some(error(clock, *at, message)),
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
        call: call.map(|call| call.call_id.as_str()),
        dialog: call.and_then(|call| call.dialog.as_deref()),
        fields,
    };
    // Strings and numbers alone: nothing in a line can fail to serialize.
    serde_json::to_string(&line).unwrap_or_default()
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
            let figures = (*figures).into();
            ("stats", Fields::Stats { figures })
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
                figures: (*figures).into(),
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

fn to_the_microsecond(ms: f64) -> f64 {
    (ms * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringtrue_ice::CandidateType;
    use ringtrue_phone::CallKey;
    use ringtrue_phone::event::{EndReason, EndedBy, Outcome, PathFailure};
    use serde_json::{Value, json};

    /// The line of an event of a call, without the times, which are checked here.
    fn told(kind: EventKind) -> Value {
        let clock = Clock::start();
        let call = CallRef {
            key: CallKey(1),
            call_id: "id@host".to_owned(),
            dialog: Some("tag".to_owned()),
        };
        let at = clock.started() + Duration::from_micros(12_345);
        let call = Some(call);
        let event = PhoneEvent { at, call, kind };
        let text = phone_event(&clock, &event).expect("a line");
        assert!(!text.contains('\n'));
        assert!(text.starts_with("{\"event\":\""), "{text}");
        let mut value: Value = serde_json::from_str(&text).unwrap();
        let fields = value.as_object_mut().unwrap();
        assert_eq!(fields.remove("t_ms"), Some(json!(12.345)));
        let time = fields.remove("time").unwrap();
        assert_eq!(
            time.as_str().unwrap().len(),
            "2026-01-01T00:00:00.000000Z".len()
        );
        assert_eq!(fields.remove("call"), Some(json!("id@host")));
        assert_eq!(fields.remove("dialog"), Some(json!("tag")));
        value
    }

    fn report(rtt: Option<Duration>) -> PathReport {
        PathReport {
            local: "192.0.2.1:4000".parse().unwrap(),
            remote: "[2001:db8::2]:5000".parse().unwrap(),
            local_type: CandidateType::Host,
            remote_type: CandidateType::ServerReflexive,
            rtt,
            since_invite: Duration::from_micros(87_500),
        }
    }

    /// The closed lists are documented as they are.
    #[test]
    fn every_word_is_documented() {
        let document = include_str!("../EVENTS.md");
        let ends = [
            EndReason::HungUp,
            EndReason::DurationOver,
            EndReason::Cancelled,
            EndReason::NoMediaPath,
            EndReason::ConsentLost,
            EndReason::NothingHeard,
            EndReason::Declined,
            EndReason::Busy,
            EndReason::Refused,
            EndReason::NoAnswer,
            EndReason::Authentication,
            EndReason::Network,
            EndReason::Incompatible,
            EndReason::IceRequired,
        ];
        let failures = [
            PathFailure::AllPairsFailed,
            PathFailure::NoPairs,
            PathFailure::PatienceOver,
            PathFailure::PeerSilent,
            PathFailure::ConsentLost,
        ];
        let words = ends.map(EndReason::as_str).into_iter();
        for word in words.chain(failures.map(PathFailure::as_str)) {
            assert!(document.contains(&format!("| `{word}` |")), "{word}");
        }
    }

    #[test]
    fn the_first_line_names_the_schema() {
        let clock = Clock::start();
        let value: Value = serde_json::from_str(&start(&clock)).unwrap();
        assert_eq!(value["event"], "start");
        assert_eq!(value["schema"], 1);
        assert_eq!(value["t_ms"], 0.0);
        assert!(value["version"].is_string());
        assert!(value.get("call").is_none());
    }

    #[test]
    fn listening_names_the_sip_address() {
        let address = "127.0.0.1:5070".parse().unwrap();
        let at = Instant::now();
        let listening = DriverEvent::Listening { at, address };
        let text = event(&Clock::start(), &listening).unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["event"], "listening");
        assert_eq!(value["sip"], "127.0.0.1:5070");
    }

    #[test]
    fn paths() {
        let mut expected = json!({
            "event": "path_validated", "local": "192.0.2.1:4000",
            "remote": "[2001:db8::2]:5000", "local_type": "host", "remote_type": "srflx",
            "rtt_ms": 1.5, "ms": 87.5
        });
        let rtt = Some(Duration::from_micros(1500));
        assert_eq!(told(EventKind::PathValidated(report(rtt))), expected);
        expected["event"] = json!("path_selected");
        expected["rtt_ms"] = Value::Null;
        assert_eq!(told(EventKind::PathSelected(report(None))), expected);
        let failed = EventKind::PathFailed {
            reason: PathFailure::AllPairsFailed,
            pairs_tried: 4,
        };
        assert_eq!(
            told(failed),
            json!({"event": "path_failed", "reason": "all-pairs-failed", "pairs_tried": 4})
        );
    }

    #[test]
    fn the_course_of_a_call() {
        let gathered = EventKind::Gathered {
            candidates: 3,
            took: Duration::from_millis(12),
        };
        let value = json!({"event": "gathered", "candidates": 3, "ms": 12.0});
        assert_eq!(told(gathered), value);
        let invite = EventKind::Invite {
            role: CallRole::Callee,
            from: "sip:a\u{1b}[2J@b".to_owned(),
            to: "sip:c@d".to_owned(),
        };
        assert_eq!(
            told(invite),
            json!({"event": "invite", "direction": "incoming",
                   "from": "sip:a\u{1b}[2J@b", "to": "sip:c@d"})
        );
        let value = json!({"event": "progress", "status": 183});
        assert_eq!(told(EventKind::Progress { status: 183 }), value);
        let value = json!({"event": "checking", "pairs": 2});
        assert_eq!(told(EventKind::Checking { pairs: 2 }), value);
        let ringing = EventKind::Ringing {
            role: CallRole::Callee,
            verified: true,
        };
        let value = json!({"event": "ringing", "role": "callee", "verified": true});
        assert_eq!(told(ringing), value);
        let role = CallRole::Caller;
        let value = json!({"event": "answered", "role": "caller"});
        assert_eq!(told(EventKind::Answered { role }), value);
        let direction = MediaDirection::Received;
        let value = json!({"event": "media", "direction": "received"});
        assert_eq!(told(EventKind::Media { direction }), value);
        let value = json!({"event": "dtmf", "digit": "5"});
        assert_eq!(told(EventKind::Dtmf { digit: '5' }), value);
        let value = json!({"event": "stats", "tx_packets": 0, "rx_packets": 0, "lost": 0,
                           "jitter_ms": null, "rtt_ms": null});
        assert_eq!(told(EventKind::Stats(MediaFigures::default())), value);
    }

    #[test]
    fn the_end_of_a_call() {
        let missed = EventKind::Missed {
            from: "sip:a@b".to_owned(),
            reason: EndReason::NoMediaPath,
            pairs_tried: 9,
        };
        let value = json!({"event": "missed", "from": "sip:a@b", "reason": "no-media-path",
                           "pairs_tried": 9});
        assert_eq!(told(missed), value);
        let ended = EventKind::Ended {
            reason: EndReason::HungUp,
            status: Some(200),
            by: EndedBy::Remote,
            connected: Duration::from_micros(5_000_400),
            figures: MediaFigures {
                tx_packets: 250,
                rx_packets: 249,
                lost: 1,
                jitter_ms: Some(0.123_456),
                rtt_ms: None,
            },
            outcome: Outcome::Completed,
            words: None,
        };
        assert_eq!(
            told(ended),
            json!({"event": "ended", "reason": "hung-up", "status": 200, "by": "remote",
                   "seconds": 5.0, "tx_packets": 250, "rx_packets": 249, "lost": 1,
                   "jitter_ms": 0.123, "rtt_ms": null, "words": null})
        );
    }

    #[test]
    fn registrations_and_errors() {
        let registered = EventKind::Registered {
            aor: "sip:a@b".to_owned(),
            expires: 300,
        };
        let value = json!({"event": "registered", "aor": "sip:a@b", "expires": 300});
        assert_eq!(told(registered), value);
        let failed = EventKind::RegistrationFailed {
            status: None,
            reason: "no answer".to_owned(),
        };
        let value = json!({"event": "registration_failed", "status": null, "reason": "no answer"});
        assert_eq!(told(failed), value);
        let message = "two\nlines".to_owned();
        let value = json!({"event": "error", "message": "two\nlines"});
        assert_eq!(told(EventKind::Error { message }), value);
    }
}
