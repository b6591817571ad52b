//! `ringtrue demo`: the demo for people, and as JSON Lines.

use std::time::Duration;

use ringtrue_program::demo::{self, Pace, PhoneKind, Shown};

use crate::clock::Clock;
use crate::exit::Status;
use crate::json;
use crate::printer::Printer;

/// Runs the demo. Fails if Ringtrue itself was seen to ghost-ring.
pub fn run(as_json: bool, clock: Clock) -> Status {
    let printer = Printer::start();
    if as_json {
        printer.line(json::start(&clock));
    } else {
        printer.line(
            "Alice calls bob on a virtual Internet: with an ordinary phone, which rings first \
             and looks for a path\nafterwards, and with Ringtrue. Every call is real; it takes \
             about 15 seconds.\n"
                .to_owned(),
        );
    }
    let results = demo::run(Pace::Real, |shown| match shown {
        Shown::Step {
            topology,
            phone,
            at,
            text,
        } if !as_json => {
            let at = seconds(at);
            printer.line(format!("{at:>7}  {phone:<8}  {topology}: {text}"));
        }
        Shown::Step { .. } | Shown::Done(_) => {}
    });
    let ghosts = |phone| demo::ghost_rings(&results, phone);
    if as_json {
        for result in &results {
            printer.line(json::demo_case(&clock, result));
        }
        let (ordinary, ringtrue) = (ghosts(PhoneKind::Ordinary), ghosts(PhoneKind::Ringtrue));
        printer.line(json::demo_summary(&clock, ordinary, ringtrue));
    } else {
        printer.line(format!("\n{}", demo::table(&results).trim_end()));
    }
    printer.finish();
    if ghosts(PhoneKind::Ringtrue) == 0 {
        Status::Fine
    } else {
        Status::Unexpected
    }
}

fn seconds(at: Duration) -> String {
    format!("{:.2} s", at.as_secs_f64())
}
