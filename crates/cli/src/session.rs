//! One run of `call` or `listen`: the driver, the user, and what is printed in between.

use std::io::IsTerminal;
use std::time::Instant;

use ringtrue_phone::driver::{self, Command, DriverConfig, DriverEvent};
use ringtrue_phone::event::CallRole;
use ringtrue_phone::settings::AnswerWhen;
use ringtrue_phone::{CallKey, EventKind};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::clock::Clock;
use crate::exit::Status;
use crate::printer::Printer;
use crate::{json, story};

/// Digits that are taken from one line.
const MOST_DIGITS: usize = 32;

/// Runs a phone to its end.
pub fn run(config: DriverConfig, json: bool, clock: Clock) -> Status {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("ringtrue: cannot start: {error}");
            return Status::Unexpected;
        }
    };
    let printer = Printer::start();
    let (status, left_at_once) = runtime.block_on(Session::run(config, json, clock, &printer));
    // A name that is still being resolved, a device that is still being opened: not waited for.
    runtime.shutdown_background();
    if !left_at_once {
        printer.finish();
    }
    status
}

/// What the user has asked for so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    /// Nothing.
    GoOn,
    /// To end in order.
    End,
    /// To leave at once.
    Leave,
}

struct Session<'a> {
    printer: &'a Printer,
    clock: Clock,
    json: bool,
    /// It waits for calls.
    listens: bool,
    once: bool,
    /// The user answers calls.
    asks: bool,
    commands: mpsc::Sender<Command>,
    /// Calls that ring here and wait for the user, the oldest first.
    ringing: Vec<CallKey>,
    /// Calls that were answered, the oldest first.
    talking: Vec<CallKey>,
    /// A question stands on the screen's last line.
    asked: bool,
    wish: Wish,
    /// What the first call came to.
    outcome: Option<Status>,
}

impl<'a> Session<'a> {
    async fn run(
        config: DriverConfig,
        json: bool,
        clock: Clock,
        printer: &'a Printer,
    ) -> (Status, bool) {
        let (commands, orders) = mpsc::channel(64);
        let (tell, mut events) = mpsc::unbounded_channel();
        let mut session = Session {
            printer,
            clock,
            json,
            listens: config.target.is_none(),
            once: config.once,
            asks: config.settings.answer == AnswerWhen::Asked,
            commands,
            ringing: Vec::new(),
            talking: Vec::new(),
            asked: false,
            wish: Wish::GoOn,
            outcome: None,
        };
        if json {
            printer.line(json::start(&clock));
        }
        let mut signals = match Signals::catch() {
            Ok(signals) => signals,
            Err(error) => {
                eprintln!("ringtrue: cannot catch signals: {error}");
                return (Status::Unexpected, false);
            }
        };
        let mut keyboard = (session.asks || at_the_keyboard()).then(keyboard);
        let mut pipe_open = true;
        let closed = printer.closed();
        tokio::pin!(closed);
        let driver = driver::run(config, orders, move |event| {
            // The receiver lives until the driver has ended.
            let _ = tell.send(event);
        });
        tokio::pin!(driver);
        let result = loop {
            tokio::select! {
                result = &mut driver => break result,
                Some(event) = events.recv() => session.handle_event(&event),
                () = signals.next() => session.interrupt(),
                line = next_line(&mut keyboard) => session.handle_line(&line),
                () = &mut closed, if pipe_open => {
                    pipe_open = false;
                    session.end();
                }
            }
        };
        while let Ok(event) = events.try_recv() {
            session.handle_event(&event);
        }
        let status = match result {
            Ok(()) => session.status(),
            Err(error) => {
                let message = error.to_string();
                eprintln!("ringtrue: {}", crate::escape::for_screen(&message));
                if json {
                    printer.line(json::error(&clock, Instant::now(), &message));
                }
                Status::Usage
            }
        };
        (status, session.wish == Wish::Leave)
    }

    fn status(&self) -> Status {
        match (self.wish, self.outcome) {
            (Wish::Leave, _) => Status::Interrupted,
            // Without --once no single call decides, and an interrupted wait is a fine one.
            _ if self.listens && !self.once => Status::Fine,
            (Wish::End, _) if self.listens => Status::Fine,
            (_, Some(status)) => status,
            (Wish::End, None) => Status::Interrupted,
            (Wish::GoOn, None) => Status::Unexpected,
        }
    }

    fn handle_event(&mut self, event: &DriverEvent) {
        let ringing = self.ringing.len();
        self.follow(event);
        let Some(line) = self.line_of(event) else {
            return;
        };
        if is_stats(event) {
            self.printer.dispensable_line(line);
            return;
        }
        if self.asked {
            // The question's line is left behind; it is asked again below.
            self.printer.line(String::new());
        }
        self.printer.line(line);
        if self.ringing.len() > ringing {
            // A terminal's bell is what it can ring with.
            self.printer.prompt("\x07");
        }
        self.ask();
    }

    fn line_of(&self, event: &DriverEvent) -> Option<String> {
        // A caller's own SIP port is of no interest to anybody.
        if !self.listens && matches!(event, DriverEvent::Listening { .. }) {
            return None;
        }
        if self.json {
            json::event(&self.clock, event)
        } else {
            story::line(event)
        }
    }

    /// Asks about the call that has been ringing longest, if one is.
    fn ask(&mut self) {
        self.asked = !self.ringing.is_empty();
        if self.asked {
            self.printer.prompt("Answer? [Y/n] ");
        }
    }

    /// Keeps up with who rings and who talks.
    fn follow(&mut self, event: &DriverEvent) {
        let DriverEvent::Phone(event) = event else {
            return;
        };
        let Some(call) = event.call.as_ref().map(|call| call.key) else {
            return;
        };
        match event.kind {
            EventKind::Ringing {
                role: CallRole::Callee,
                ..
            } if self.asks => {
                self.ringing.push(call);
            }
            EventKind::Answered { .. } => {
                self.ringing.retain(|other| *other != call);
                self.talking.push(call);
            }
            EventKind::Ended { outcome, .. } => {
                self.ringing.retain(|other| *other != call);
                self.talking.retain(|other| *other != call);
                self.outcome.get_or_insert(outcome.into());
            }
            _ => {}
        }
    }

    /// A line from the keyboard: an answer while it rings, else `h` to hang up, `m` to turn the
    /// microphone off or on, `p FILE.wav` to play a file into the call, or digits to send.
    fn handle_line(&mut self, line: &str) {
        let typed = line.trim();
        let line = typed.to_ascii_lowercase();
        self.asked = false;
        match self.ringing.first().copied() {
            Some(call) => match line.as_str() {
                "" | "y" | "yes" => {
                    self.ringing.remove(0);
                    self.order(Command::Answer(call));
                    self.ask();
                }
                "n" | "no" => {
                    self.ringing.remove(0);
                    self.order(Command::Decline(call));
                    self.ask();
                }
                _ => self.ask(),
            },
            None => {
                let call = self.talking.first().copied();
                match (line.as_str(), call) {
                    ("h", Some(call)) => self.order(Command::HangUp(call)),
                    ("m", Some(call)) => self.order(Command::ToggleMute(call)),
                    (play, Some(call)) if play.starts_with("p ") => {
                        let path = typed.get(2..).unwrap_or_default().trim();
                        self.order(Command::Play(call, path.into()));
                    }
                    (keys, Some(call)) if keys.chars().all(is_key) => {
                        for digit in keys.chars().take(MOST_DIGITS) {
                            self.order(Command::SendDigit(call, digit));
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    /// A signal: the first one ends everything in order, the next one leaves at once.
    fn interrupt(&mut self) {
        match self.wish {
            Wish::GoOn => self.end(),
            Wish::End => {
                self.wish = Wish::Leave;
                self.order(Command::Abort);
            }
            Wish::Leave => std::process::exit(Status::Interrupted.code().into()),
        }
    }

    fn end(&mut self) {
        if self.wish == Wish::GoOn {
            self.wish = Wish::End;
            self.order(Command::ShutDown);
        }
    }

    fn order(&self, command: Command) {
        // The driver reads commands as fast as anybody can type; with 64 of them waiting it hangs,
        // and only the signal that leaves the program helps.
        if let Err(error) = self.commands.try_send(command) {
            tracing::warn!(%error, "a command was lost");
        }
    }
}

/// A key of a telephone, in small letters.
fn is_key(key: char) -> bool {
    matches!(key, '0'..='9' | '*' | '#' | 'a'..='d')
}

fn is_stats(event: &DriverEvent) -> bool {
    matches!(event, DriverEvent::Phone(event) if matches!(event.kind, EventKind::Stats(_)))
}

/// The signals that end the program.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    fn catch() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}

/// Whether somebody may type to this program. One in the background that reads from its terminal
/// would be stopped.
fn at_the_keyboard() -> bool {
    let stdin = std::io::stdin();
    stdin.is_terminal()
        && rustix::termios::tcgetpgrp(&stdin).is_ok_and(|group| group == rustix::process::getpgrp())
}

/// Reads lines from the terminal on a thread, which nobody waits for in the end.
fn keyboard() -> mpsc::Receiver<String> {
    let (lines, receiver) = mpsc::channel(8);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            let Ok(line) = line else { return };
            if lines.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// The next line; pends for ever without a keyboard, and after its end.
async fn next_line(keyboard: &mut Option<mpsc::Receiver<String>>) -> String {
    if let Some(lines) = keyboard
        && let Some(line) = lines.recv().await
    {
        return line;
    }
    std::future::pending().await
}
