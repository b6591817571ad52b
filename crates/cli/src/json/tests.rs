//! Every event as its line of JSON.

use super::*;
use ringtrue_ice::{CandidateType, TransportProtocol};
use ringtrue_media::secure::SrtpProfile;
use ringtrue_phone::CallKey;
use ringtrue_phone::event::{EndReason, EndedBy, KeySource, Outcome, PathFailure};
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

/// One object of the fields of both: `json!` has a limit.
fn with(mut value: Value, more: Value) -> Value {
    let fields = more.as_object().unwrap().clone();
    value.as_object_mut().unwrap().extend(fields);
    value
}

fn report(rtt: Option<Duration>) -> PathReport {
    PathReport {
        local: "192.0.2.1:4000".parse().unwrap(),
        remote: "[2001:db8::2]:5000".parse().unwrap(),
        transport: TransportProtocol::Udp,
        local_type: CandidateType::Host,
        remote_type: CandidateType::ServerReflexive,
        rtt,
        since_invite: Duration::from_micros(87_500),
    }
}

/// The closed lists are documented as they are.
#[test]
fn every_word_is_documented() {
    let document = include_str!("../../../../docs/events.md");
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
        EndReason::KeysFailed,
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
    let listening = DriverEvent::Listening {
        at,
        address,
        tls: false,
    };
    let text = event(&Clock::start(), &listening).unwrap();
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["event"], "listening");
    assert_eq!(value["sip"], "127.0.0.1:5070");
    assert_eq!(value["transport"], "udp");
}

#[test]
fn paths() {
    let mut expected = json!({
        "event": "path_validated", "local": "192.0.2.1:4000",
        "remote": "[2001:db8::2]:5000", "transport": "udp", "local_type": "host", "remote_type": "srflx",
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
                       "jitter_ms": null, "rtt_ms": null, "codec": null, "tx_bitrate": null,
                       "rx_bitrate": null, "late": 0, "duplicates": 0, "recovered": 0,
                       "concealed_ms": 0, "burst_packets": null, "buffer_ms": null,
                       "target_ms": null, "remote_lost": null, "remote_jitter_ms": null,
                       "mos": null, "remote_mos": null, "srtp_forged": null, "srtp_replayed": null,
 "tx_level_db": null, "tx_peak_db": null, "rx_level_db": null, "rx_peak_db": null});
    let more = json!({"loss_percent": null, "discarded": 0, "burst_ms": null, "gap_ms": null, "burst_density": null, "gap_density": null, "r_factor": null, "remote_r_factor": null, "remote_loss_percent": null, "remote_burst_ms": null, "remote_burst_density": null, "remote_buffer_ms": null});
    assert_eq!(told(EventKind::Stats(Box::default())), with(value, more));
}

#[test]
fn keys() {
    let secured = EventKind::Secured {
        source: KeySource::DtlsSrtp,
        profile: SrtpProfile::AeadAes128Gcm,
    };
    let value = json!({"event": "secured", "kind": "dtls-srtp", "profile": "AEAD_AES_128_GCM"});
    assert_eq!(told(secured), value);
    assert_eq!(
        told(EventKind::KeysPending),
        json!({"event": "keys_pending"})
    );
    assert_eq!(
        told(EventKind::OfferedAnew { status: 488 }),
        json!({"event": "offered_anew", "status": 488})
    );
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
        figures: Box::new(MediaFigures {
            tx_packets: 250,
            rx_packets: 249,
            lost: 1,
            jitter_ms: Some(0.123_456),
            codec: Some(ringtrue_media::Codec::G722),
            rx_bitrate: Some(63_999.7),
            burst_packets: Some(1.0),
            mos: Some(4.4012),
            discarded: 3,
            loss_percent: Some(2.345_67),
            burst_ms: Some(240.0),
            gap_ms: Some(2_000.123_4),
            burst_density: Some(1.0 / 3.0),
            gap_density: Some(0.0),
            r_factor: Some(91.234_56),
            remote_r_factor: Some(77.0),
            remote_loss_percent: Some(100.0 * 26.0 / 256.0),
            remote_burst_ms: Some(120.0),
            remote_burst_density: Some(85.0 / 256.0),
            remote_buffer_ms: Some(40.0),
            srtp_forged: Some(2),
            srtp_replayed: Some(1),
            ..MediaFigures::default()
        }),
        outcome: Outcome::Completed,
        words: None,
    };
    let value = json!({"event": "ended", "reason": "hung-up", "status": 200, "by": "remote",
               "seconds": 5.0, "tx_packets": 250, "rx_packets": 249, "lost": 1,
               "jitter_ms": 0.123, "rtt_ms": null, "codec": "G722", "tx_bitrate": null,
               "rx_bitrate": 64_000, "late": 0, "duplicates": 0, "recovered": 0,
               "concealed_ms": 0, "burst_packets": 1.0, "buffer_ms": null, "target_ms": null,
               "remote_lost": null, "remote_jitter_ms": null, "mos": 4.401, "remote_mos": null,
               "srtp_forged": 2, "srtp_replayed": 1,"tx_level_db": null, "tx_peak_db": null, "rx_level_db": null, "rx_peak_db": null,
               "words": null});
    let more = json!({"loss_percent": 2.346, "discarded": 3, "burst_ms": 240.0, "gap_ms": 2_000.123, "burst_density": 0.333, "gap_density": 0.0, "r_factor": 91.235, "remote_r_factor": 77.0, "remote_loss_percent": 10.156, "remote_burst_ms": 120.0, "remote_burst_density": 0.332, "remote_buffer_ms": 40.0});
    assert_eq!(told(ended), with(value, more));
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
