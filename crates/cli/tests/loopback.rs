//! Two real processes on one host, without any server.
//!
//! ```text
//!   ringtrue call  ---- 127.0.0.1 ----  ringtrue listen
//!   hears 440 Hz                        hears 880 Hz
//! ```

mod common;

use std::time::Duration;

use common::{Place, Process, assert_order, first, names};
use ringtrue_media::tone;
use serde_json::{Value, json};

/// Starts bob, and gives him with the address that he listens on.
fn bob(place: &Place, options: &str) -> (Process, String) {
    let line = format!("listen --bind 127.0.0.1:0 --json {options}");
    let mut bob = place.start(&line);
    let listening = bob.event("listening");
    let address = listening["sip"].as_str().expect("an address").to_owned();
    (bob, address)
}

/// Starts alice, who calls bob.
fn alice(place: &Place, address: &str, options: &str) -> Process {
    place.start(&format!(
        "call sip:bob@{address} --bind 127.0.0.1 --json {options}"
    ))
}

const QUIET: &str = "--audio-in silence --audio-out null";
const SOON: Duration = Duration::from_secs(20);

/// How long a recording holds a tone.
fn measure(file: &str, hz: f64) -> tone::ToneReport {
    let mut wav = hound::WavReader::open(file).expect("a finished WAV file");
    let spec = wav.spec();
    assert_eq!(spec.channels, 1);
    let samples: Vec<i16> = wav.samples::<i16>().map(|sample| sample.unwrap()).collect();
    tone::measure(&samples, hz, spec.sample_rate, 0.05)
}

/// A recording must hold this tone for 4.5 s without a gap over 40 ms.
fn assert_heard(file: &str, hz: f64) {
    let report = measure(file, hz);
    println!("{hz} Hz: {report:?}");
    assert!(report.seconds >= 4.5, "{file}, {hz} Hz: {report:?}");
    assert!(report.longest_gap_ms <= 40.0, "{file}, {hz} Hz: {report:?}");
}

/// What every line of JSON has.
fn assert_schema(events: &[Value]) {
    assert_eq!(events[0]["event"], "start");
    assert_eq!(events[0]["schema"], 1);
    let mut last = 0.0;
    for event in events {
        let t_ms = event["t_ms"].as_f64().expect("t_ms is a number");
        assert!(t_ms >= 0.0, "{event}");
        last = f64::max(last, t_ms);
        let time = event["time"].as_str().expect("time is text");
        assert!(time.len() == 27 && time.ends_with('Z'), "{event}");
    }
    assert!(last < 60_000.0);
    for name in ["ringing", "answered", "ended", "path_validated"] {
        let event = first(events, name);
        assert!(event["call"].is_string(), "{event}");
        assert!(event["dialog"].is_string(), "{event}");
    }
}

#[test]
fn a_call_rings_after_the_proof_and_both_are_heard() {
    let place = Place::new("loopback");
    let (mut bob, address) = bob(
        &place,
        "--answer after:1 --audio-in tone:440 --audio-out bob.wav --once",
    );
    let mut alice = alice(
        &place,
        &address,
        "--audio-in tone:880 --audio-out alice.wav --duration 5",
    );
    let codes = (alice.wait(SOON), bob.wait(SOON));
    let (heard_alice, heard_bob) = (alice.events(), bob.events());
    assert_eq!(
        codes,
        (0, 0),
        "{:?}\n{:?}",
        names(&heard_alice),
        names(&heard_bob)
    );
    for events in [&heard_alice, &heard_bob] {
        assert_schema(events);
        let order = [
            "invite",
            "path_validated",
            "ringing",
            "answered",
            "media",
            "ended",
        ];
        assert_order(events, &order);
        assert_eq!(first(events, "ringing")["verified"], true);
        assert_eq!(
            names(events)
                .iter()
                .filter(|name| **name == "path_validated")
                .count(),
            1
        );
        let directions: Vec<&Value> = events
            .iter()
            .filter(|event| event["event"] == "media")
            .map(|event| &event["direction"])
            .collect();
        assert!(directions.contains(&&json!("sent")) && directions.contains(&&json!("received")));
        let ended = first(events, "ended");
        assert!(
            (4.9..5.5).contains(&ended["seconds"].as_f64().unwrap()),
            "{ended}"
        );
        assert!(ended["rx_packets"].as_u64().unwrap() >= 240, "{ended}");
    }
    assert_eq!(first(&heard_alice, "ended")["reason"], "duration-over");
    assert_eq!(
        first(&heard_alice, "invite")["call"],
        first(&heard_bob, "invite")["call"]
    );
    assert_heard(&place.path("alice.wav"), 440.0);
    assert_heard(&place.path("bob.wav"), 880.0);
}

/// Writes a WAV file with a tone on each side.
fn write_sides(file: &str, seconds: u32, tones: [f64; 2]) {
    let spec = hound::WavSpec {
        channels: 2,
        sample_rate: 44_100,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut wav = hound::WavWriter::create(file, spec).expect("a file");
    for n in 0..seconds * spec.sample_rate {
        let at = f64::from(n) / f64::from(spec.sample_rate);
        for hz in tones {
            let sample = 9_000.0 * (std::f64::consts::TAU * hz * at).sin();
            wav.write_sample(sample as i16).expect("room");
        }
    }
    wav.finalize().expect("room");
}

/// A file with two sides goes through two phones into another one; nothing of one side is on the other.
#[test]
fn a_file_with_two_sides_is_heard_with_both() {
    let place = Place::new("stereo");
    write_sides(&place.path("alices.wav"), 8, [440.0, 880.0]);
    let (mut bob, address) = bob(
        &place,
        "--answer auto --audio-in tone:600 --audio-out bob.wav --once --stereo",
    );
    let mut alice = alice(
        &place,
        &address,
        "--audio-in alices.wav --audio-out alice.wav --duration 4 --stereo",
    );
    assert_eq!((alice.wait(SOON), bob.wait(SOON)), (0, 0));
    for (file, tones) in [("bob.wav", [440.0, 880.0]), ("alice.wav", [600.0, 600.0])] {
        let wav = hound::WavReader::open(place.path(file)).expect("a finished WAV file");
        assert_eq!(wav.spec().channels, 2);
        let samples: Vec<i16> = wav.into_samples().map(|sample| sample.unwrap()).collect();
        let pairs = samples.as_chunks::<2>().0;
        for (side, hz) in tones.into_iter().enumerate() {
            let sound: Vec<i16> = pairs.iter().map(|pair| pair[side]).collect();
            let report = tone::measure(&sound, hz, 48_000, 0.1);
            assert!(report.seconds > 3.5, "{file} {side}: {report:?}");
            assert!(report.longest_gap_ms <= 40.0, "{file} {side}: {report:?}");
            // In parts of 100 ms, since a stretch shifts the phase.
            let power = |hz| {
                let parts = sound[48_000..3 * 48_000].chunks_exact(4_800);
                parts.map(|part| tone::level(part, hz).powi(2)).sum::<f64>()
            };
            let other = tones[1 - side];
            let apart = 10.0 * (power(hz) / power(other)).log10();
            assert!(hz == other || apart > 20.0, "{file} {side}: {apart} dB");
        }
    }
}

/// Where both insist on it, nobody rings before there are keys, and they hear each other by them.
#[test]
fn an_encrypted_call_has_its_keys_before_it_rings() {
    let place = Place::new("encrypted");
    let (mut bob, address) = bob(
        &place,
        "--answer after:0.5 --audio-in tone:440 --audio-out bob.wav --once --srtp required",
    );
    let mut alice = alice(
        &place,
        &address,
        "--audio-in tone:880 --audio-out alice.wav --duration 5 --srtp required",
    );
    assert_eq!((alice.wait(SOON), bob.wait(SOON)), (0, 0));
    for events in [alice.events(), bob.events()] {
        let order = ["path_validated", "secured", "ringing", "answered", "media"];
        assert_order(&events, &order);
        let secured = first(&events, "secured");
        assert_eq!(secured["kind"], "dtls-srtp", "{secured}");
        assert!(secured["profile"].is_string(), "{secured}");
        assert_eq!(first(&events, "ringing")["verified"], true);
        let stats = first(&events, "stats");
        assert_eq!(
            (&stats["srtp_forged"], &stats["srtp_replayed"]),
            (&json!(0), &json!(0))
        );
        // The peer tells how it hears (RFC 3611).
        let stats = events.iter().rfind(|event| event["event"] == "stats");
        let told = stats.is_some_and(|stats| {
            stats["remote_r_factor"].is_number() && stats["remote_buffer_ms"].is_number()
        });
        assert!(told, "{stats:?}");
    }
    assert_heard(&place.path("alice.wav"), 440.0);
    assert_heard(&place.path("bob.wav"), 880.0);
}

/// One insists on encryption and the other has none: nobody rings.
#[test]
fn who_insists_on_encryption_has_no_clear_call() {
    for (alices, bobs) in [("required", "off"), ("off", "required")] {
        let place = Place::new(&format!("srtp-{alices}-{bobs}"));
        let (mut bob, address) = bob(&place, &format!("--answer auto {QUIET} --srtp {bobs}"));
        let mut alice = alice(&place, &address, &format!("{QUIET} --srtp {alices}"));
        assert_eq!(alice.wait(SOON), 4);
        let events = alice.events();
        let ended = first(&events, "ended");
        assert_eq!(ended["status"], 488, "{ended}");
        bob.signal("TERM");
        bob.wait(SOON);
        for events in [events, bob.events()] {
            let names = names(&events);
            for never in ["ringing", "secured", "answered"] {
                assert!(!names.contains(&never), "{names:?}");
            }
        }
    }
}

#[test]
fn a_caller_who_gives_up_leaves_a_missed_call() {
    let place = Place::new("gives-up");
    let (mut bob, address) = bob(&place, &format!("--answer never --once {QUIET}"));
    let mut alice = alice(&place, &address, QUIET);
    alice.event("ringing");
    alice.signal("INT");
    assert_eq!(alice.wait(SOON), 130);
    assert_eq!(first(&alice.events(), "ended")["reason"], "cancelled");
    bob.wait(SOON);
    let events = bob.events();
    assert_order(&events, &["ringing", "missed", "ended"]);
    assert_eq!(first(&events, "missed")["reason"], "cancelled");
}

#[test]
fn an_interrupted_talk_is_hung_up_in_order() {
    let place = Place::new("interrupted");
    let (mut bob, address) = bob(
        &place,
        "--answer auto --once --audio-in silence --audio-out b.wav",
    );
    let mut alice = alice(&place, &address, "--audio-in tone:880 --audio-out a.wav");
    alice.hears();
    bob.hears();
    alice.signal("INT");
    assert_eq!((alice.wait(SOON), bob.wait(SOON)), (0, 0));
    let ended = first(&bob.events(), "ended").clone();
    assert_eq!(
        (&ended["reason"], &ended["by"]),
        (&json!("hung-up"), &json!("remote"))
    );
    // Both files were completed.
    for file in ["a.wav", "b.wav"] {
        assert!(hound::WavReader::open(place.path(file)).is_ok(), "{file}");
    }
}

#[test]
fn a_second_interrupt_leaves_at_once_with_a_complete_file() {
    let place = Place::new("second");
    let (mut bob, address) = bob(&place, "--answer auto --audio-in tone:440 --audio-out null");
    let mut alice = alice(&place, &address, "--audio-in silence --audio-out a.wav");
    alice.event("stats");
    // Bob falls silent: nobody will answer alice's BYE.
    bob.signal("STOP");
    alice.signal("INT");
    std::thread::sleep(Duration::from_millis(200));
    alice.signal("INT");
    let code = alice.wait(Duration::from_secs(2));
    bob.signal("CONT");
    assert_eq!(code, 130);
    let wav = hound::WavReader::open(place.path("a.wav")).expect("a complete file");
    assert!(wav.duration() > 0);
    bob.signal("TERM");
    assert_eq!(bob.wait(SOON), 0);
}

#[test]
fn waiting_ends_in_order_on_a_signal() {
    for signal in ["INT", "TERM"] {
        let place = Place::new(&format!("waiting-{signal}"));
        let (mut bob, _) = bob(&place, &format!("--answer never {QUIET}"));
        bob.signal(signal);
        assert_eq!(bob.wait(Duration::from_secs(5)), 0);
        assert_eq!(bob.errors(), "");
    }
}

#[test]
fn a_closed_pipe_ends_the_program_quietly() {
    let place = Place::new("pipe");
    let (mut bob, address) = bob(&place, &format!("--answer auto --once {QUIET}"));
    // Alice's reader leaves while they talk.
    let mut command = place.command(&format!(
        "call sip:bob@{address} --bind 127.0.0.1 --json {QUIET}"
    ));
    let mut alice = command.spawn().expect("the program starts");
    let mut reader = std::io::BufReader::new(alice.stdout.take().expect("piped"));
    let mut line = String::new();
    while !line.contains("stats") {
        line.clear();
        let read = std::io::BufRead::read_line(&mut reader, &mut line).expect("readable");
        assert!(read > 0, "no talk");
    }
    drop(reader);
    // She hangs up, so that bob's call ends, too.
    assert_eq!(bob.wait(SOON), 0);
    let output = alice.wait_with_output().expect("an end");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_caller_without_ice_rings_unverified_or_not_at_all() {
    let place = Place::new("no-ice");
    let (mut open, address) = bob(&place, &format!("--answer auto --once {QUIET}"));
    let mut caller = alice(&place, &address, &format!("--no-ice --duration 1 {QUIET}"));
    assert_eq!((caller.wait(SOON), open.wait(SOON)), (0, 0));
    assert_eq!(first(&open.events(), "ringing")["verified"], false);

    let (mut strict, address) = bob(
        &place,
        &format!("--answer auto --once --require-ice {QUIET}"),
    );
    let mut caller = alice(&place, &address, &format!("--no-ice {QUIET}"));
    assert_eq!(caller.wait(SOON), 4);
    let events = caller.events();
    let ended = first(&events, "ended");
    assert_eq!(ended["status"], 421, "{ended}");
    strict.signal("TERM");
    strict.wait(SOON);
    assert!(!names(&strict.events()).contains(&"ringing"));
}

#[test]
fn a_call_whose_signalling_goes_over_tcp() {
    let place = Place::new("tcp");
    let (mut bob, address) = bob(&place, &format!("--answer after:0.2 --once {QUIET}"));
    let options = format!("--proxy sip:{address};transport=tcp --duration 1 {QUIET}");
    let mut alice = alice(&place, &address, &options);
    assert_eq!((alice.wait(SOON), bob.wait(SOON)), (0, 0));
    for events in [alice.events(), bob.events()] {
        assert_order(
            &events,
            &["path_validated", "ringing", "answered", "media", "ended"],
        );
    }
}

#[test]
fn times_never_go_back() {
    let place = Place::new("times");
    let (mut bob, address) = bob(&place, &format!("--answer after:0.2 --once {QUIET}"));
    let mut alice = alice(&place, &address, &format!("--duration 1 {QUIET}"));
    assert_eq!((alice.wait(SOON), bob.wait(SOON)), (0, 0));
    for events in [alice.events(), bob.events()] {
        let times: Vec<f64> = events.iter().map(|e| e["t_ms"].as_f64().unwrap()).collect();
        assert!(times.is_sorted(), "{times:?} {:?}", names(&events));
    }
}

/// Both speak from a file, which begins when they are connected: none of it is lost, neither the
/// callee's, whose microphone opens with the ringing, nor the caller's, whose opens with the answer.
#[test]
fn files_are_heard_from_their_beginning_both_ways() {
    let place = Place::new("files");
    for (name, hz) in [("alice-says.wav", 880.0), ("bob-says.wav", 440.0)] {
        write_tone(&place.path(name), hz, 2);
    }
    let (mut bob, address) = bob(
        &place,
        "--answer after:1 --audio-in bob-says.wav --audio-out bob.wav --once",
    );
    let mut alice = alice(
        &place,
        &address,
        "--audio-in alice-says.wav --audio-out alice.wav --duration 4",
    );
    assert_eq!((alice.wait(SOON), bob.wait(SOON)), (0, 0));
    for (file, hz) in [("alice.wav", 440.0), ("bob.wav", 880.0)] {
        let report = measure(&place.path(file), hz);
        assert!((1.9..=2.1).contains(&report.seconds), "{file}: {report:?}");
    }
}

fn write_tone(file: &str, hz: f64, seconds: u32) {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 48_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut wav = hound::WavWriter::create(file, spec).unwrap();
    for sample in 0..48_000 * seconds {
        let angle = std::f64::consts::TAU * hz * f64::from(sample) / 48_000.0;
        wav.write_sample((8_000.0 * angle.sin()) as i16).unwrap();
    }
    wav.finalize().unwrap();
}

/// By TCP a 200 comes at the heels of the 183: the order is the same for the caller, every time.
#[test]
fn answered_at_once_over_tcp_it_rings_before_it_is_answered() {
    let place = Place::new("tcp-order");
    for _ in 0..3 {
        let (mut bob, address) = bob(&place, &format!("--answer auto --once {QUIET}"));
        let mut alice = alice(
            &place,
            &format!("{address};transport=tcp"),
            &format!("--duration 1 {QUIET}"),
        );
        assert_eq!((alice.wait(SOON), bob.wait(SOON)), (0, 0));
        let events = alice.events();
        assert_order(&events, &["path_validated", "ringing", "answered"]);
        let gathered = first(&events, "gathered");
        assert!(gathered.get("call").is_none(), "no Call-ID yet: {gathered}");
    }
}
