//! The `ringtrue` program: a SIP phone that rings only when both people will be heard.
//!
//! | module | does |
//! |---|---|
//! | `args` | the command line |
//! | `file` | the settings file (`config/ringtrue.toml` documents it) |
//! | `setup` | both, and the environment, into what the phone is told |
//! | `session` | one run of `call` or `listen` |
//! | `json`, `story` | its events for scripts and for people |
//! | `printer` | standard output, which may be slow or closed |
//! | `voice` | echo cancellation, noise suppression and automatic gain |
//! | `exit` | the exit status |
//! | `showing` | the demo, for people and for scripts |
//! | `devices`, `paperwork` | the smaller commands |
#![forbid(unsafe_code)]

mod args;
mod clock;
mod devices;
mod escape;
mod exit;
mod file;
mod json;
mod paperwork;
mod printer;
mod session;
mod setup;
mod showing;
mod story;
mod voice;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use ringtrue_phone::driver::DriverConfig;
use tracing_subscriber::EnvFilter;

use args::{Cli, Verb};
use clock::Clock;
use exit::Status;
use setup::SetupError;

/// Directives that no other can undo. A more specific target wins over a general one, so each
/// module of the codec that logs is named.
const SILENT: [&str; 3] = [
    "stun_types=off",
    "stun_types::message=off",
    "stun_types::attribute=off",
];

fn main() -> ExitCode {
    let clock = Clock::start();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return not_understood(&error).into(),
    };
    log_to_standard_error(cli.verbose);
    let status = match cli.command {
        Verb::Call(args) => {
            let json = args.phone.json;
            phone(setup::call(args), json, clock)
        }
        Verb::Listen(args) => {
            let json = args.phone.json;
            phone(setup::listen(args), json, clock)
        }
        Verb::Devices => match devices::list() {
            Ok(list) => print(list.as_bytes()),
            Err(reason) => complain(&reason, Status::Unexpected),
        },
        Verb::Demo { json } => showing::run(json, clock),
        Verb::Completions { shell } => print(&paperwork::completions(shell)),
        Verb::Man { command } => match paperwork::manual(command.as_deref()) {
            Ok(page) => print(&page),
            Err(reason) => complain(&reason, Status::Usage),
        },
    };
    status.into()
}

/// Help and version go to standard output; everything else is one line about what is wrong.
fn not_understood(error: &clap::Error) -> Status {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => print(error.to_string().as_bytes()),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            eprint!("{error}");
            Status::Usage
        }
        _ => complain(&args::one_line(error), Status::Usage),
    }
}

fn phone(config: Result<DriverConfig, SetupError>, json: bool, clock: Clock) -> Status {
    match config {
        Ok(config) => session::run(config, json, clock),
        Err(error) => complain(&error.to_string(), Status::Usage),
    }
}

fn complain(reason: &str, status: Status) -> Status {
    eprintln!("ringtrue: {}", escape::for_screen(reason));
    status
}

/// Prints; a reader who has had enough is no failure.
fn print(bytes: &[u8]) -> Status {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Status::Fine,
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Status::Fine,
        Err(error) => complain(
            &format!("cannot write to standard output: {error}"),
            Status::Unexpected,
        ),
    }
}

/// `RUST_LOG` decides; without it, warnings, and with each `-v` more of our own.
///
/// The STUN codec stays silent whatever is asked for: its spans carry the key of
/// MESSAGE-INTEGRITY, and it warns of every malformed packet that a stranger sends.
fn log_to_standard_error(verbose: u8) {
    let level = match verbose {
        0 => "warn",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new(format!("warn,ringtrue={level}")));
    let filter = SILENT
        .iter()
        .filter_map(|directive| directive.parse().ok())
        .fold(filter, EnvFilter::add_directive);
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
}
