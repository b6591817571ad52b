//! Sound devices on a PulseAudio server of the test's own, with two null sinks for a sound card:
//!
//!     PlaybackDevice "alpha" -> null sink alpha -> monitor "alpha.monitor" -> CaptureDevice
//!
//! Skipped, with a word about it, where `pulseaudio` is not installed.
#![cfg(all(feature = "sound", target_os = "linux"))]

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ringtrue_media::audio::{
    AudioInput, AudioOutput, CaptureDevice, DeviceKind, PlaybackDevice, Sink, Source, Tone, devices,
};
use ringtrue_media::{FRAME, FRAME_TIME, tone};

const SCRIPT: &str = "\
.fail
load-module module-null-sink sink_name=alpha rate=48000
load-module module-null-sink sink_name=beta rate=44100
";

/// A server with a directory of its own; both go when it is dropped.
struct Server {
    process: Child,
    directory: PathBuf,
}

impl Server {
    fn start() -> Option<Server> {
        let directory = std::env::temp_dir().join(format!("ringtrue-pulse-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let socket = directory.join("native");
        let script = directory.join("pulse.pa");
        let protocol = format!(
            "load-module module-native-protocol-unix auth-anonymous=1 socket={}\n",
            socket.display()
        );
        std::fs::write(&script, format!("{SCRIPT}{protocol}")).unwrap();
        let process = Command::new("pulseaudio")
            .args([
                "-n",
                "--daemonize=no",
                "--exit-idle-time=-1",
                "--use-pid-file=no",
                "-F",
            ])
            .arg(&script)
            .env("HOME", &directory)
            .env("XDG_RUNTIME_DIR", &directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(process) = process else {
            let _ = std::fs::remove_dir_all(&directory);
            return None;
        };
        let server = Server { process, directory };
        let begin = Instant::now();
        while !socket.exists() {
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
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Runs one of the ignored tests below in a process that sees the server.
fn run_inside(name: &str) {
    let Some(server) = Server::start() else {
        println!("skipped: pulseaudio is not installed");
        return;
    };
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--ignored", "--nocapture"])
        .env(
            "PULSE_SERVER",
            format!("unix:{}", server.directory.join("native").display()),
        )
        .env("HOME", &server.directory)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let wrong = String::from_utf8_lossy(&output.stderr);
    println!("{told}{wrong}");
    assert!(output.status.success(), "{name} failed");
    assert!(told.contains("1 passed"), "{name} did not run");
}

#[test]
fn sinks_and_monitors_carry_a_tone() {
    run_inside("inside_a_server");
}

#[test]
#[ignore = "run by sinks_and_monitors_carry_a_tone"]
fn inside_a_server() {
    let list = devices().unwrap();
    println!("{list:#?}");
    let has = |id: &str, kind| {
        list.iter()
            .any(|device| device.id == id && device.kind == kind)
    };
    assert!(has("alpha", DeviceKind::Output) && has("beta", DeviceKind::Output));
    assert!(has("alpha.monitor", DeviceKind::Input) && has("beta.monitor", DeviceKind::Input));
    assert!(list.iter().all(|device| device.host == "PulseAudio"));
    assert!(
        list.iter()
            .any(|device| device.default && device.kind == DeviceKind::Output)
    );
    assert!(
        CaptureDevice::open(Some("alpha")).is_err(),
        "a sink is no microphone"
    );
    assert!(PlaybackDevice::open(Some("gamma")).is_err());

    for (sink, monitor) in [("alpha", "alpha.monitor"), ("beta", "beta.monitor")] {
        let mut speaker = AudioOutput::parse(sink).unwrap().open().unwrap();
        let mut microphone = AudioInput::parse(monitor).unwrap().open().unwrap();
        let heard = play_and_capture(speaker.as_mut(), microphone.as_mut(), 800);
        // A null sink that was idle sleeps up to two seconds before it takes and gives anything.
        let heard = &heard[250 * FRAME..];
        let report = tone::measure(heard, 440.0, 48_000, 0.1);
        println!("{sink}: {report:?}");
        assert!(report.seconds > 5.3, "{sink} {report:?}");
        assert!(report.longest_gap_ms <= 40.0, "{sink} {report:?}");
    }
}

/// What an owner does with its devices: a frame each way every 10 ms, in real time.
fn play_and_capture(speaker: &mut dyn Sink, microphone: &mut dyn Source, frames: u32) -> Vec<i16> {
    let mut tone = Tone::new(440.0);
    let mut heard = Vec::new();
    let begin = Instant::now();
    for tick in 0..frames {
        let due = begin + FRAME_TIME * tick;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let mut frame = [0; FRAME];
        tone.read(&mut frame);
        speaker.write(&frame).unwrap();
        assert!(microphone.read(&mut frame));
        heard.extend(frame);
    }
    heard
}
