//! Real `ringtrue` processes: started, listened to, ended by their id whatever happens.
#![allow(dead_code)] // each test file uses its part

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

/// A directory of this test alone, for settings and recordings; it goes away with the value.
pub struct Place(PathBuf);

impl Place {
    /// A fresh one.
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ringtrue-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a temporary directory");
        Self(path)
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    /// A command line of the program in it, with an environment that holds nothing of ours.
    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringtrue"));
        command
            .args(line.split_whitespace())
            .current_dir(&self.0)
            .env("HOME", &self.0)
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("RINGTRUE_PASSWORD")
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a command line to its end: exit code, standard output, standard error.
    pub fn run(&self, line: &str) -> (i32, String, String) {
        let mut process = Process::of(self.command(line));
        let code = process.wait(Duration::from_secs(30));
        (code, process.output(), process.errors())
    }

    /// Starts a command line.
    pub fn start(&self, line: &str) -> Process {
        Process::of(self.command(line))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running program.
pub struct Process {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
    errors: Option<JoinHandle<String>>,
}

impl Process {
    /// Starts a program.
    pub fn of(mut command: Command) -> Self {
        let mut child = command.spawn().expect("the program starts");
        let stdout = child.stdout.take().expect("piped");
        let mut stderr = child.stderr.take().expect("piped");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let errors = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            text
        });
        Self {
            child,
            lines,
            seen: Vec::new(),
            errors: Some(errors),
        }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a JSON event of this name and gives it.
    pub fn event(&mut self, name: &str) -> Value {
        let limit = Instant::now() + Duration::from_secs(20);
        loop {
            let left = limit.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("no `{name}` among:\n{}", self.seen.join("\n"));
            };
            self.seen.push(line);
            let value = self.seen.last().map(|line| json(line)).unwrap_or_default();
            if value["event"] == name {
                return value;
            }
        }
    }

    /// Waits until sound from the other side has come.
    pub fn hears(&mut self) {
        while self.event("media")["direction"] != "received" {}
    }

    /// Sends it a signal, as `INT`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &self.id().to_string()])
            .status();
        assert!(sent.expect("kill runs").success());
    }

    /// Waits for its end and gives its exit code; too slow an end is a failure.
    pub fn wait(&mut self, limit: Duration) -> i32 {
        let end = Instant::now() + limit;
        loop {
            match self
                .child
                .try_wait()
                .expect("the process can be waited for")
            {
                Some(status) => return status.code().unwrap_or(-1),
                None if Instant::now() > end => {
                    let _ = self.child.kill();
                    panic!(
                        "the program does not end; it said:\n{}\n{}",
                        self.output(),
                        self.errors()
                    );
                }
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// Everything that it wrote to standard output, after its end.
    pub fn output(&mut self) -> String {
        while let Ok(line) = self.lines.recv_timeout(Duration::from_secs(5)) {
            self.seen.push(line);
        }
        self.seen.join("\n")
    }

    /// All its JSON events, after its end.
    pub fn events(&mut self) -> Vec<Value> {
        self.output().lines().map(json).collect()
    }

    /// Everything that it wrote to standard error, after its end.
    pub fn errors(&mut self) -> String {
        match self.errors.take() {
            Some(errors) => errors.join().unwrap_or_default(),
            None => String::new(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn json(line: &str) -> Value {
    match serde_json::from_str(line) {
        Ok(value) => value,
        Err(error) => panic!("not JSON: {line}: {error}"),
    }
}

/// The names of events in their order.
pub fn names(events: &[Value]) -> Vec<&str> {
    events
        .iter()
        .filter_map(|event| event["event"].as_str())
        .collect()
}

/// Asserts that the first events of these names come in this order.
pub fn assert_order(events: &[Value], order: &[&str]) {
    let names = names(events);
    let mut last = None;
    for wanted in order {
        let place = names.iter().position(|name| name == wanted);
        assert!(place.is_some(), "no `{wanted}` in {names:?}");
        assert!(place > last, "`{wanted}` is out of order in {names:?}");
        last = place;
    }
}

/// The first event of a name.
pub fn first<'a>(events: &'a [Value], name: &str) -> &'a Value {
    match events.iter().find(|event| event["event"] == name) {
        Some(event) => event,
        None => panic!("no `{name}` in {:?}", names(events)),
    }
}
