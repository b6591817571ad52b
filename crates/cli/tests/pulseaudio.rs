//! A call between two real phones whose microphones and speakers are sound devices: null sinks of
//! a PulseAudio server of the test's own.
//!
//! ```text
//!   440 Hz -> [alpha] -> alice ~~~~~~~~ bob -> [beta]  -> recorded
//!   recorded <- [delta] <- alice ~~~~~~ bob <- [gamma] <- 880 Hz
//! ```
//!
//! Skipped, with a word about it, where `pulseaudio` is not installed.
#![cfg(all(feature = "sound", target_os = "linux"))]

mod common;

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use common::Place;
use ringtrue_media::audio::{AudioInput, AudioOutput, Source, Tone};
use ringtrue_media::{FRAME, tone};

const SINKS: [&str; 4] = ["alpha", "beta", "gamma", "delta"];

/// A PulseAudio server.
struct Server(Child);

impl Server {
    fn start(place: &Place, sinks: &[&str]) -> Option<Server> {
        let socket = place.path("native");
        let mut script = ".fail\n".to_owned();
        for sink in sinks {
            script += &format!("load-module module-null-sink sink_name={sink} rate=48000\n");
        }
        script +=
            &format!("load-module module-native-protocol-unix auth-anonymous=1 socket={socket}\n");
        std::fs::write(place.path("pulse.pa"), script).unwrap();
        let process = Command::new("pulseaudio")
            .args([
                "-n",
                "--daemonize=no",
                "--exit-idle-time=-1",
                "--use-pid-file=no",
                "-F",
            ])
            .arg(place.path("pulse.pa"))
            .env("HOME", place.path(""))
            .env("XDG_RUNTIME_DIR", place.path(""))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let server = Server(process.ok()?);
        let begin = Instant::now();
        while !std::path::Path::new(&socket).exists() {
            assert!(
                begin.elapsed() < Duration::from_secs(10),
                "pulseaudio does not start"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_call_carries_sound_from_device_to_device() {
    within("pulse", &SINKS, "inside_a_server");
}

/// One server at a time: two of them, with all that plays and records there, are more than two cores can
/// carry in real time.
static TURN: Mutex<()> = Mutex::new(());

/// Runs an ignored test beside a server with these sinks.
fn within(name: &str, sinks: &[&str], test: &str) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let place = Place::new(name);
    let Some(_server) = Server::start(&place, sinks) else {
        println!("skipped: pulseaudio is not installed");
        return;
    };
    // The sound system is named by the environment, which a test may not change for itself.
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env("PULSE_SERVER", format!("unix:{}", place.path("native")))
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    println!("{told}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && told.contains("1 passed"));
}

#[test]
#[ignore = "run by a_call_carries_sound_from_device_to_device"]
fn inside_a_server() {
    let place = Place::new("pulse-call");
    let (code, listed, _) = place.run("devices");
    assert_eq!(code, 0);
    for sink in SINKS {
        assert!(listed.contains(&format!(" {sink} ")), "{listed}");
        assert!(listed.contains(&format!(" {sink}.monitor ")), "{listed}");
    }
    let over = Arc::new(AtomicBool::new(false));
    let voices = [play("alpha", 440.0, &over), play("gamma", 880.0, &over)];
    let mut bob = place.start(
        "listen --bind 127.0.0.1:0 --json --once --answer auto \
         --audio-in gamma.monitor --audio-out beta",
    );
    let address = bob.event("listening")["sip"].as_str().unwrap().to_owned();
    let mut alice = place.start(&format!(
        "call sip:bob@{address} --bind 127.0.0.1 --json --duration 17 \
         --audio-in alpha.monitor --audio-out delta"
    ));
    alice.hears();
    bob.hears();
    let heard = [record("beta.monitor", 13), record("delta.monitor", 13)];
    let heard = heard.map(|recorder| recorder.join().unwrap());
    let limit = Duration::from_secs(25);
    assert_eq!((alice.wait(limit), bob.wait(limit)), (0, 0));
    over.store(true, Ordering::Relaxed);
    for voice in voices {
        voice.join().unwrap();
    }
    for (samples, hz) in heard.iter().zip([440.0, 880.0]) {
        let report = tone::measure(samples, hz, 48_000, 0.02);
        println!("{hz} Hz: {report:?}");
        assert!(report.seconds >= 10.0, "{hz} Hz: {report:?}");
        assert!(report.longest_gap_ms <= 40.0, "{hz} Hz: {report:?}");
    }
}

/// ```text
///   alice (440 Hz) ~~~~~~ bob -> [desk]     the ring tone
///                             -> [headset]  alice
/// ```
#[test]
fn a_call_rings_on_a_device_of_its_own() {
    within("pulse-ring", &["headset", "desk"], "rings_inside_a_server");
}

#[test]
#[ignore = "run by a_call_rings_on_a_device_of_its_own"]
fn rings_inside_a_server() {
    let place = Place::new("pulse-ring-call");
    let settings = |device: &str| {
        let path = place.path("settings.toml");
        std::fs::write(&path, format!("ring-device = \"{device}\"\n")).unwrap();
        path
    };
    let listen = "listen --bind 127.0.0.1:0 --json --once --answer after:6 \
                  --audio-in silence --audio-out headset";
    // What is not there is told at once.
    for (device, complaint) in [("drawer", "drawer"), ("ring.wav", "a sound device")] {
        let config = settings(device);
        let (code, _, errors) = place.run(&format!("{listen} --config {config}"));
        assert_eq!(code, 2, "{errors}");
        assert!(
            errors.contains("ring-device") && errors.contains(complaint),
            "{errors}"
        );
        assert_eq!(errors.lines().count(), 1, "{errors}");
    }
    let config = settings("desk");
    let mut bob = place.start(&format!("{listen} --config {config}"));
    let address = bob.event("listening")["sip"].as_str().unwrap().to_owned();
    let heard = [record("desk.monitor", 14), record("headset.monitor", 14)];
    // Nothing rings before there is a call.
    std::thread::sleep(Duration::from_secs(2));
    let mut alice = place.start(&format!(
        "call sip:bob@{address} --bind 127.0.0.1 --json --duration 12 \
         --audio-in tone:440 --audio-out null"
    ));
    bob.event("ringing");
    let [desk, headset] = heard.map(|recorder| recorder.join().unwrap());
    let limit = Duration::from_secs(25);
    assert_eq!((alice.wait(limit), bob.wait(limit)), (0, 0));
    // The chimes are three tones at a time: how often one is in a tenth of a second.
    let seconds = |sound: &[i16], hz| {
        let tenths = sound.chunks(4_800);
        tenths.filter(|tenth| tone::level(tenth, hz) > 0.03).count() as f64 / 10.0
    };
    // The middle one of the chimes, and alice.
    let (rings, speaks) = (seconds(&desk, 830.6), seconds(&headset, 440.0));
    assert!(
        rings > 0.5 && speaks > 3.0,
        "rings {rings} s, speaks {speaks} s"
    );
    let strays = (seconds(&headset, 830.6), seconds(&desk, 440.0));
    assert_eq!(strays, (0.0, 0.0));
}

/// Somebody who hums into a sink until it is over.
fn play(sink: &str, hz: f64, over: &Arc<AtomicBool>) -> JoinHandle<()> {
    let mut speaker = AudioOutput::parse(sink).unwrap().open().unwrap();
    let over = Arc::clone(over);
    std::thread::spawn(move || {
        let mut tone = Tone::new(hz);
        while !over.load(Ordering::Relaxed) {
            while speaker.wants_frame() == Some(true) {
                let mut frame = [0; FRAME];
                tone.read(&mut frame);
                speaker.write(&frame).unwrap();
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    })
}

/// So many seconds of what a source gives: the server sleeps up to two before an idle null sink
/// gives any sound.
fn record(source: &str, seconds: u64) -> JoinHandle<Vec<i16>> {
    let mut microphone = AudioInput::parse(source).unwrap().open().unwrap();
    std::thread::spawn(move || {
        let mut heard = Vec::new();
        let end = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < end {
            let mut frame = [0; FRAME];
            while microphone.has_frame() == Some(true) {
                microphone.read(&mut frame);
                heard.extend(frame);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        heard
    })
}
