//! Sound devices on a PulseAudio server of the test's own, with two null sinks for a sound card:
//!
//!     PlaybackDevice "alpha" -> null sink alpha -> monitor "alpha.monitor" -> CaptureDevice
//!
//! Skipped, with a word about it, where `pulseaudio` is not installed.
#![cfg(all(feature = "sound", target_os = "linux"))]

use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use ringtrue_media::audio::{
    AudioInput, AudioOutput, Bell, ChangeReason, DeviceChange, DeviceKind, Sink, Source, Tone,
    devices,
};
use ringtrue_media::{Channels, FRAME, FRAME_TIME, tone};

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
    fn start(name: &str) -> Option<Server> {
        let directory = format!("ringtrue-pulse-{}-{name}", std::process::id());
        let directory = std::env::temp_dir().join(directory);
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
    let Some(server) = Server::start(name) else {
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
        AudioInput::parse("alpha").unwrap().open().is_err(),
        "a sink is no microphone"
    );
    assert!(AudioOutput::parse("gamma").unwrap().open().is_err());

    for (sink, monitor) in [("alpha", "alpha.monitor"), ("beta", "beta.monitor")] {
        let mut speaker = AudioOutput::parse(sink).unwrap().open().unwrap();
        let mut microphone = AudioInput::parse(monitor).unwrap().open().unwrap();
        let heard = play_and_capture(speaker.as_mut(), microphone.as_mut(), 800);
        // A null sink that was idle sleeps up to two seconds before it takes and gives anything.
        let heard = &heard[250 * FRAME..];
        let report = tone::measure(heard, 440.0, 48_000, 0.1);
        println!("{sink}: {report:?}");
        assert!(report.seconds > 2.8, "{sink} {report:?}");
        assert!(report.longest_gap_ms <= 40.0, "{sink} {report:?}");
    }
}

#[test]
fn a_sink_gets_both_sides() {
    run_inside("inside_a_server_with_sides");
}

/// The judge is `parec`, at the sink's monitor.
#[test]
#[ignore = "run by a_sink_gets_both_sides"]
fn inside_a_server_with_sides() {
    let recorder = Command::new("parec")
        .args(["--device=alpha.monitor", "--raw", "--rate=48000"])
        .args(["--channels=2", "--format=s16le"])
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut recorder) = recorder else {
        println!("skipped: parec is not installed");
        return;
    };
    let mut recorded = recorder.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut octets = Vec::new();
        recorded.read_to_end(&mut octets).map(|_| octets)
    });
    let output = AudioOutput::parse("alpha").unwrap();
    let mut speaker = output.open_channels(Channels::Stereo).unwrap();
    let (mut left, mut right) = (Tone::new(440.0), Tone::new(880.0));
    let end = Instant::now() + Duration::from_secs(6);
    while Instant::now() < end {
        let mut sides = [[0; FRAME]; 2];
        while speaker.wants_frame() == Some(true) {
            left.read(&mut sides[0]);
            right.read(&mut sides[1]);
            speaker.write_sides(&sides).unwrap();
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    recorder.kill().unwrap();
    recorder.wait().unwrap();
    let octets = reader.join().unwrap().unwrap();
    let samples = octets.as_chunks::<4>().0.iter();
    let [left, right]: [Vec<i16>; 2] = [0, 2].map(|at| {
        let side = samples.clone();
        side.map(|octets| i16::from_le_bytes([octets[at], octets[at + 1]]))
            .collect()
    });
    for (side, own, other) in [(left, 440.0, 880.0), (right, 880.0, 440.0)] {
        let report = tone::measure(&side, own, 48_000, 0.1);
        println!("{own} Hz: {report:?}");
        assert!(report.seconds > 2.8, "{own} {report:?}");
        let power = |hz| -> f64 {
            let parts = side.chunks_exact(FRAME * 10);
            parts.map(|part| tone::level(part, hz).powi(2)).sum()
        };
        assert!(power(own) > 300.0 * power(other), "{own}");
    }
}

/// What an owner does with its devices: a frame whenever one is wanted or there, in real time.
fn play_and_capture(speaker: &mut dyn Sink, microphone: &mut dyn Source, frames: u32) -> Vec<i16> {
    let mut tone = Tone::new(440.0);
    let mut heard = Vec::new();
    let end = Instant::now() + FRAME_TIME * frames;
    while Instant::now() < end {
        let mut frame = [0; FRAME];
        while speaker.wants_frame() == Some(true) {
            tone.read(&mut frame);
            speaker.write(&frame).unwrap();
        }
        while microphone.has_frame() == Some(true) {
            assert!(microphone.read(&mut frame));
            heard.extend(frame);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    heard
}

#[test]
fn devices_are_followed_when_they_go_and_come() {
    run_inside("inside_a_changing_server");
}

#[test]
#[ignore = "run by devices_are_followed_when_they_go_and_come"]
fn inside_a_changing_server() {
    let Some(module) = pactl("load-module module-null-sink sink_name=plug rate=48000") else {
        println!("skipped: pactl is not installed");
        return;
    };
    let (mut speaker, told) = speaker("plug");
    let (mut microphone, heard) = microphone("plug.monitor");
    let hears = |speaker: &mut dyn Sink, microphone: &mut dyn Source| {
        play_and_capture(speaker, microphone, 300);
        let heard = play_and_capture(speaker, microphone, 200);
        let report = tone::measure(&heard, 440.0, 48_000, 0.1);
        assert!(report.seconds > 1.8, "{report:?}");
    };
    hears(speaker.as_mut(), microphone.as_mut());

    // Away: the default ones take over. The named ones are taken again as soon as they are back.
    pactl(&format!("unload-module {module}")).unwrap();
    assert!(
        change(&told, DeviceKind::Output, ChangeReason::Lost)
            .device
            .is_some()
    );
    assert!(
        change(&heard, DeviceKind::Input, ChangeReason::Lost)
            .device
            .is_some()
    );
    hears(speaker.as_mut(), microphone.as_mut());
    let module = pactl("load-module module-null-sink sink_name=plug rate=48000").unwrap();
    let device = change(&told, DeviceKind::Output, ChangeReason::Back).device;
    assert!(device.is_some_and(|name| name.contains("plug")));
    let device = change(&heard, DeviceKind::Input, ChangeReason::Back).device;
    assert!(device.is_some_and(|name| name.contains("plug")));
    hears(speaker.as_mut(), microphone.as_mut());

    // Who named none follows the default; who named one stays.
    let (_default_speaker, default_told) = self::speaker("default");
    let (_default_microphone, default_heard) = self::microphone("default");
    pactl("set-default-sink beta").unwrap();
    pactl("set-default-source beta.monitor").unwrap();
    let device = change(&default_told, DeviceKind::Output, ChangeReason::Default).device;
    assert!(device.is_some_and(|name| name.contains("beta")));
    let device = change(&default_heard, DeviceKind::Input, ChangeReason::Default).device;
    assert!(device.is_some_and(|name| name.contains("beta")));
    assert!(told.try_recv().is_err() && heard.try_recv().is_err());
    pactl(&format!("unload-module {module}")).unwrap();
}

/// What `pactl` says to a command; `None` where it is not installed.
fn pactl(command: &str) -> Option<String> {
    let output = Command::new("pactl").args(command.split(' ')).output();
    let output = output.ok()?;
    assert!(output.status.success(), "pactl {command}: {output:?}");
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn speaker(name: &str) -> (Box<dyn Sink>, Receiver<DeviceChange>) {
    let (tell, told) = mpsc::channel();
    let tell = Box::new(move |change| drop(tell.send(change)));
    let output = AudioOutput::parse(name).unwrap();
    (
        output
            .open_with(Channels::Mono, &Bell::silent(), tell)
            .unwrap(),
        told,
    )
}

fn microphone(name: &str) -> (Box<dyn Source>, Receiver<DeviceChange>) {
    let (tell, told) = mpsc::channel();
    let tell = Box::new(move |change| drop(tell.send(change)));
    let input = AudioInput::parse(name).unwrap();
    (
        input
            .open_with(Channels::Mono, &Bell::silent(), tell)
            .unwrap(),
        told,
    )
}

fn change(told: &Receiver<DeviceChange>, kind: DeviceKind, reason: ChangeReason) -> DeviceChange {
    let change = told.recv_timeout(Duration::from_secs(20)).unwrap();
    println!("{change:?}");
    assert_eq!((change.kind, change.reason), (kind, reason));
    change
}
