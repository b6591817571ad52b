//! `--answer ask` on a terminal: `script` lends one. Skipped, with a word about it, without it.

mod common;

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::Place;

/// Bob at a terminal; ended by its id whatever happens.
struct Terminal(Child);

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Lets alice call bob, and bob type `answer` when he is asked. Gives the exit codes of alice and
/// bob, and what bob's screen showed.
fn asked(name: &str, answer: &[u8]) -> (i32, i32, String) {
    let place = Place::new(name);
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    drop(socket);
    // Without `exec` some shells stay between the terminal and the phone, are interrupted too, and
    // end with their own status.
    let line = format!(
        "exec {} listen --answer ask --once --bind {address} --audio-in tone:440 --audio-out null",
        env!("CARGO_BIN_EXE_ringtrue")
    );
    // A deadline of its own, for reading a screen has none.
    let child = Command::new("timeout")
        .args(["--foreground", "60", "script"])
        .args([
            "--quiet",
            "--return",
            "--flush",
            "--command",
            &line,
            "/dev/null",
        ])
        .env("HOME", place.path(""))
        .env("SHELL", "/bin/sh")
        .env_remove("XDG_CONFIG_HOME")
        .env_remove("RINGTRUE_PASSWORD")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut bob = Terminal(child.expect("it starts"));
    let mut keyboard = bob.0.stdin.take().unwrap();
    let mut screen = bob.0.stdout.take().unwrap();
    let mut shown = Vec::new();
    let mut until = |words: &str| {
        let mut piece = [0; 4096];
        while !String::from_utf8_lossy(&shown).contains(words) {
            match screen.read(&mut piece) {
                Ok(0) | Err(_) => break,
                Ok(size) => shown.extend_from_slice(&piece[..size]),
            }
        }
        String::from_utf8_lossy(&shown).into_owned()
    };
    until("Waiting for calls");
    let mut alice = place.start(&format!(
        "call sip:bob@{address} --bind 127.0.0.1 --audio-in silence --audio-out null --duration 1"
    ));
    until("Answer?");
    keyboard.write_all(answer).unwrap();
    let alice_code = alice.wait(Duration::from_secs(20));
    let screen = until("The call is over");
    let bob_code = bob.0.wait().unwrap().code().unwrap_or(-1);
    (alice_code, bob_code, screen)
}

#[test]
fn yes_answers_and_no_declines() {
    let lends = Command::new("script").arg("--version").output();
    if lends.is_err() {
        println!("skipped: there is no `script` to lend a terminal");
        return;
    }
    for (name, answer, codes, words) in [
        ("ask-yes", &b"y\n"[..], (0, 0), "Answered."),
        ("ask-enter", b"\n", (0, 0), "Answered."),
        ("ask-what", b"what?\nyes\n", (0, 0), "Answered."),
        ("ask-no", b"n\n", (4, 4), "declined"),
        // Ctrl-C on `listen` is an end in order.
        ("ask-interrupt", b"\x03", (4, 0), "declined"),
    ] {
        let (alice, bob, screen) = asked(name, answer);
        assert_eq!((alice, bob), codes, "{name}: {screen}");
        let (ringing, answer) = (screen.find("Ringing"), screen.find(words));
        assert!(ringing.is_some() && ringing < answer, "{name}: {screen}");
    }
}
