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
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use common::Place;
use ringtrue_media::audio::{AudioInput, AudioOutput, Source, Tone};
use ringtrue_media::{FRAME, tone};

const SINKS: [&str; 4] = ["alpha", "beta", "gamma", "delta"];

/// A PulseAudio server.
struct Server(Child);

impl Server {
    fn start(place: &Place) -> Option<Server> {
        let socket = place.path("native");
        let mut script = ".fail\n".to_owned();
        for sink in SINKS {
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
    let place = Place::new("pulse");
    let Some(_server) = Server::start(&place) else {
        println!("skipped: pulseaudio is not installed");
        return;
    };
    // The sound system is named by the environment, which a test may not change for itself.
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "inside_a_server", "--ignored", "--nocapture"])
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
    let heard = [record("beta.monitor"), record("delta.monitor")];
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

/// Thirteen seconds of what a source gives: the server sleeps up to two before an idle null sink
/// gives any sound.
fn record(source: &str) -> JoinHandle<Vec<i16>> {
    let mut microphone = AudioInput::parse(source).unwrap().open().unwrap();
    std::thread::spawn(move || {
        let mut heard = Vec::new();
        let end = Instant::now() + Duration::from_secs(13);
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
