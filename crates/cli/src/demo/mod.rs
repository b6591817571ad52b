//! Ghost rings, with and without the gate, on a virtual Internet.
//!
//! In each topology alice calls bob twice: with an ordinary phone (the same phone with ICE, that
//! rings at once and checks after the 200) and with Ringtrue. Who rang and who was heard is
//! measured on what the phones did and played, never inferred from the topology.

mod case;
mod table;
mod topology;

use std::sync::mpsc;
use std::time::{Duration, Instant};

pub use case::{CaseResult, PhoneKind};
pub use topology::Topology;

use case::Case;

/// How a case passes its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// As fast as it computes.
    Virtual,
    /// As a real call would.
    Real,
}

/// Something to show while the demo runs.
#[derive(Debug)]
pub enum Shown {
    /// What happens now, for people.
    Step {
        /// Where.
        topology: Topology,
        /// With which phone.
        phone: PhoneKind,
        /// Since the case began.
        at: Duration,
        /// What.
        text: String,
    },
    /// A case is over.
    Done(CaseResult),
}

/// Runs every topology with both phones, all beside one another, and shows what happens.
/// The results come in the order of the table.
pub fn run(pace: Pace, mut show: impl FnMut(Shown)) -> Vec<CaseResult> {
    let (sender, shown) = mpsc::channel();
    let cases = Topology::ALL
        .into_iter()
        .flat_map(|topology| PhoneKind::ALL.map(|phone| (topology, phone)));
    let mut results: Vec<CaseResult> = std::thread::scope(|scope| {
        for (topology, phone) in cases {
            let sender = sender.clone();
            scope.spawn(move || {
                let result = run_case(topology, phone, pace, |step| {
                    // Nobody listening means that the program is leaving.
                    let _ = sender.send(step);
                });
                let _ = sender.send(Shown::Done(result));
            });
        }
        drop(sender);
        shown
            .into_iter()
            .inspect(|shown| tracing::debug!(?shown))
            .filter_map(|shown| {
                let result = match &shown {
                    Shown::Done(result) => Some(result.clone()),
                    Shown::Step { .. } => None,
                };
                show(shown);
                result
            })
            .collect()
    });
    results.sort_by_key(|result| (result.topology, result.phone));
    results
}

/// One call in one topology with one kind of phone.
fn run_case(
    topology: Topology,
    phone: PhoneKind,
    pace: Pace,
    mut show: impl FnMut(Shown),
) -> CaseResult {
    let begun = Instant::now();
    let mut case = Case::new(topology, phone);
    while let Some(at) = case.next_wake_up() {
        if pace == Pace::Real {
            // The virtual clock follows the real one.
            let wait = at.saturating_sub(begun.elapsed());
            std::thread::sleep(wait);
        }
        case.advance(at);
        for (at, text) in case.steps() {
            show(Shown::Step {
                topology,
                phone,
                at,
                text,
            });
        }
    }
    case.result()
}

/// The table for people, with its count of ghost rings.
pub fn table(results: &[CaseResult]) -> String {
    table::render(results)
}

/// How many of these calls rang and were not heard by both.
pub fn ghost_rings(results: &[CaseResult], phone: PhoneKind) -> usize {
    let of_phone = results.iter().filter(|result| result.phone == phone);
    of_phone.filter(|result| result.is_ghost_ring()).count()
}
