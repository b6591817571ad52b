//! The demo's table.

use std::fmt::Write;
use std::time::Duration;

use super::{CaseResult, PhoneKind, ghost_rings};

/// The results for people.
pub(super) fn render(results: &[CaseResult]) -> String {
    let mut rows = vec![
        [
            "network",
            "phone",
            "rang",
            "after",
            "heard",
            "first voice",
            "alice is told",
        ]
        .map(str::to_owned),
    ];
    rows.extend(results.iter().map(|result| {
        [
            result.topology.to_string(),
            result.phone.to_string(),
            yes_or_no(result.rang),
            milliseconds(result.ring),
            heard(result),
            milliseconds(result.first_voice),
            result.ending.clone(),
        ]
    }));
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(String::len)
                .max();
            let _ = write!(line, "{cell:width$}  ", width = width.unwrap_or(0));
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    let calls = |phone| {
        results
            .iter()
            .filter(|result| result.phone == phone)
            .count()
    };
    let _ = writeln!(text);
    for phone in PhoneKind::ALL {
        let _ = writeln!(
            text,
            "ghost rings, {phone} phone: {} of {} calls",
            ghost_rings(results, phone),
            calls(phone)
        );
    }
    text
}

fn yes_or_no(yes: bool) -> String {
    if yes { "yes" } else { "no" }.to_owned()
}

fn heard(result: &CaseResult) -> String {
    let heard = match (result.heard_by_alice, result.heard_by_bob) {
        (true, true) => "both",
        (true, false) => "bob only",
        (false, true) => "alice only",
        (false, false) if result.rang => "nobody",
        (false, false) => "-",
    };
    heard.to_owned()
}

fn milliseconds(duration: Option<Duration>) -> String {
    duration.map_or_else(|| "-".to_owned(), |time| format!("{} ms", time.as_millis()))
}
