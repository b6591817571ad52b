//! The story of a call, line by line, for people.

use ringtrue_media::audio::{ChangeReason, DeviceChange, DeviceKind};
use ringtrue_phone::driver::DriverEvent;
use ringtrue_phone::event::{
    CallRole, EndReason, EndedBy, MediaDirection, MediaFigures, PathFailure, PathReport,
};
use ringtrue_phone::{EventKind, PhoneEvent};

use crate::escape::for_screen;

/// The line for an event; `None` where a person would learn nothing from it.
pub fn line(event: &DriverEvent) -> Option<String> {
    match event {
        DriverEvent::Listening { address, tls, .. } => Some(format!(
            "Waiting for calls on {address}{}. Ctrl-C ends the program.",
            if *tls { " by TLS" } else { "" }
        )),
        DriverEvent::Trouble { message, .. } => Some(for_screen(&format!("Trouble: {message}"))),
        DriverEvent::Muted { on: true, .. } => {
            Some("Your microphone is off. Enter m to turn it on again.".to_owned())
        }
        DriverEvent::Muted { on: false, .. } => Some("Your microphone is on again.".to_owned()),
        DriverEvent::Device { change, .. } => Some(for_screen(&device(change))),
        DriverEvent::Phone(event) => phone_line(event).map(|text| for_screen(&text)),
    }
}

fn device(change: &DeviceChange) -> String {
    let what = match change.kind {
        DeviceKind::Input => "microphone",
        DeviceKind::Output => "speaker",
    };
    match (change.reason, &change.device) {
        (_, None) => format!("The {what} is gone, and there is no other."),
        (ChangeReason::Lost, Some(device)) => {
            format!("The {what} is gone; {device} has taken over.")
        }
        (ChangeReason::Back, Some(device)) => format!("The {what} is back: {device}."),
        (ChangeReason::Default, Some(device)) => {
            format!("The system's {what} is {device} now, and the call's too.")
        }
    }
}

fn phone_line(event: &PhoneEvent) -> Option<String> {
    Some(match &event.kind {
        EventKind::Registered { aor, expires: 0 } => format!("{aor} is no longer registered."),
        EventKind::Registered { aor, expires } => format!("{aor} is registered for {expires} s."),
        EventKind::RegistrationFailed { status, reason } => match status {
            Some(status) => format!("Registration failed: {status} {reason}."),
            None => format!("Registration failed: {reason}."),
        },
        // Sets that are held ready for calls to come are no part of the story.
        EventKind::Gathered { .. } if event.call.is_none() => return None,
        EventKind::Gathered { candidates, took } => format!(
            "Gathered {} in {} ms.",
            counted(
                *candidates,
                "address to be reached at",
                "addresses to be reached at"
            ),
            took.as_millis()
        ),
        EventKind::Invite { role, from, to } => match role {
            CallRole::Caller => format!("Calling {to} as {from}."),
            CallRole::Callee => {
                format!("{from} is calling {to}.")
            }
        },
        EventKind::Progress { status } => progress(*status),
        EventKind::OfferedAnew { status } => {
            format!(
                "Refused as a call that need not be encrypted ({status}); asking again for one that is."
            )
        }
        EventKind::Checking { pairs } => {
            format!(
                "Trying {}.",
                counted(*pairs, "pair of addresses", "pairs of addresses")
            )
        }
        EventKind::PathValidated(report) => proven(report),
        EventKind::PathSelected(report) => format!(
            "Chosen: {} ({}) to {} ({}){}.",
            report.local,
            report.local_type,
            report.remote,
            report.remote_type,
            by_tcp(report)
        ),
        EventKind::PathFailed {
            reason,
            pairs_tried,
        } => no_path(*reason, *pairs_tried),
        EventKind::Secured { source, profile } => {
            format!(
                "Encrypted: nobody on the way can listen ({}, {profile}).",
                source.as_str()
            )
        }
        EventKind::KeysPending => {
            "Keys pending: no sound goes either way until the other phone gives its keys."
                .to_owned()
        }
        EventKind::Ringing { role, verified } => ringing(*role, *verified).to_owned(),
        EventKind::Answered { role } => match role {
            CallRole::Caller => "Answered. Talk away; Ctrl-C hangs up.".to_owned(),
            CallRole::Callee => "Answered. Talk away.".to_owned(),
        },
        EventKind::Media { direction } => match direction {
            MediaDirection::Sent => "Sound is on its way to the other side.".to_owned(),
            MediaDirection::Received => "Sound arrives from the other side.".to_owned(),
        },
        EventKind::Recording { file } => {
            format!("This call is being recorded: {}.", file.display())
        }
        EventKind::Dtmf { digit } => format!("The other side pressed {digit}."),
        EventKind::Missed {
            from,
            reason,
            pairs_tried,
        } => missed(from, *reason, *pairs_tried),
        EventKind::Error { message } => format!("Trouble: {message}"),
        EventKind::Ended { .. } => return ended(&event.kind),
        _ => return None,
    })
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

fn progress(status: u16) -> String {
    match status {
        180 => "The other phone says that it rings (180).".to_owned(),
        181 => "The call is being forwarded (181).".to_owned(),
        182 => "The call is queued (182).".to_owned(),
        183 => "The other phone has answered with its addresses (183).".to_owned(),
        other => format!("The call makes progress ({other})."),
    }
}

fn by_tcp(report: &PathReport) -> &'static str {
    if report.transport.is_tcp() {
        " by TCP"
    } else {
        ""
    }
}

fn proven(report: &PathReport) -> String {
    let rtt = match report.rtt {
        Some(rtt) => format!(", round trip {:.1} ms", rtt.as_secs_f64() * 1e3),
        None => String::new(),
    };
    format!(
        "Proven both ways: {} ({}) to {} ({}){}{rtt}, {} ms after the INVITE.",
        report.local,
        report.local_type,
        report.remote,
        report.remote_type,
        by_tcp(report),
        report.since_invite.as_millis()
    )
}

fn no_path(reason: PathFailure, tried: usize) -> String {
    let pairs = counted(tried, "pair", "pairs");
    match reason {
        PathFailure::AllPairsFailed => format!("No path: all of {pairs} failed."),
        PathFailure::NoPairs => "No path: there was no pair of addresses to try.".to_owned(),
        PathFailure::PatienceOver => format!("No path was proven in time ({pairs} tried)."),
        PathFailure::PeerSilent => {
            format!("No path: the other phone never checked its side ({pairs} tried).")
        }
        PathFailure::ConsentLost => "The path was lost.".to_owned(),
    }
}

fn ringing(role: CallRole, verified: bool) -> &'static str {
    match (role, verified) {
        (CallRole::Callee, true) => "Ringing: the path is proven, you will hear each other.",
        (CallRole::Callee, false) => {
            "Ringing, unverified: nobody knows yet whether sound gets through."
        }
        (CallRole::Caller, true) => {
            "It rings over there: the path is proven, you will hear each other."
        }
        (CallRole::Caller, false) => {
            "It rings over there, unverified: nobody knows yet whether sound gets through."
        }
    }
}

fn missed(from: &str, reason: EndReason, tried: usize) -> String {
    match reason {
        EndReason::NoMediaPath => format!(
            "Missed call from {from}: no path for sound ({} tried). It did not ring.",
            counted(tried, "pair", "pairs")
        ),
        other => format!("Missed call from {from}: {}.", because(other)),
    }
}

fn ended(kind: &EventKind) -> Option<String> {
    let EventKind::Ended {
        reason,
        status,
        by,
        connected,
        figures,
        words,
        ..
    } = kind
    else {
        return None;
    };
    let mut text = match reason {
        EndReason::HungUp if *by == EndedBy::Local => "The call is over: you hung up".to_owned(),
        EndReason::HungUp => "The call is over: the other side hung up".to_owned(),
        other => format!("The call is over: {}", because(*other)),
    };
    if let Some(status) = status.filter(|status| *status >= 300) {
        text += &format!(" ({status})");
    }
    if let Some(words) = words {
        text += match by {
            EndedBy::Network => "; ",
            EndedBy::Local | EndedBy::Remote => "; the other side says: ",
        };
        text += words;
    }
    text += ".";
    if !connected.is_zero() {
        text += &format!(" {:.1} s, {}.", connected.as_secs_f64(), numbers(figures));
    }
    Some(text)
}

fn numbers(figures: &MediaFigures) -> String {
    let mut text = format!(
        "{} packets sent, {} received, {} lost",
        figures.tx_packets, figures.rx_packets, figures.lost
    );
    if let Some(jitter) = figures.jitter_ms {
        text += &format!(", jitter {jitter:.1} ms");
    }
    if let Some(rtt) = figures.rtt_ms {
        text += &format!(", round trip {rtt:.1} ms");
    }
    let refused = [
        (figures.srtp_forged, "forged"),
        (figures.srtp_replayed, "replayed"),
    ];
    for (count, what) in refused {
        if let Some(count) = count.filter(|count| *count > 0) {
            text += &format!(", {count} {what}");
        }
    }
    // Mean opinion scores; 4.4 is the best that the scale has.
    if let Some(mos) = figures.mos {
        text += &format!(", quality about {mos:.1} of 4.4 here");
        if let Some(remote) = figures.remote_mos {
            text += &format!(" and {remote:.1} there");
        }
    }
    text
}

fn because(reason: EndReason) -> &'static str {
    match reason {
        EndReason::HungUp => "hung up",
        EndReason::DurationOver => "the time was over",
        EndReason::Cancelled => "the caller gave up",
        EndReason::NoMediaPath => "there is no path for sound between you",
        EndReason::ConsentLost => "the path was lost",
        EndReason::NothingHeard => "nothing was heard from the other side",
        EndReason::Declined => "declined",
        EndReason::Busy => "busy",
        EndReason::Refused => "refused",
        EndReason::NoAnswer => "nobody answered",
        EndReason::Authentication => {
            "the server wants other credentials (--auth-user and RINGTRUE_PASSWORD)"
        }
        EndReason::Network => "the network or a server failed",
        EndReason::Incompatible => "the phones have no common way to send sound",
        EndReason::IceRequired => "the other phone has no ICE, and the settings require it",
        EndReason::KeysFailed => "no keys could be agreed on, so nothing would be private",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn told(kind: EventKind) -> String {
        let event = PhoneEvent {
            at: Instant::now(),
            call: None,
            kind,
        };
        line(&DriverEvent::Phone(event)).expect("a line")
    }

    #[test]
    fn what_the_network_says_cannot_move_the_cursor() {
        let text = told(EventKind::Invite {
            role: CallRole::Callee,
            from: "sip:\x1b[2Jmallory@example.org".to_owned(),
            to: "sip:bob@example.org\nRinging. You will hear each other.".to_owned(),
        });
        assert!(!text.contains('\x1b') && !text.contains('\n'), "{text}");
        assert!(text.contains("\\u{1b}[2Jmallory"), "{text}");
    }

    #[test]
    fn an_end_says_why_and_what_was_counted() {
        let text = told(EventKind::Ended {
            reason: EndReason::HungUp,
            status: Some(200),
            by: EndedBy::Remote,
            connected: Duration::from_millis(5040),
            figures: Box::new(MediaFigures {
                tx_packets: 252,
                rx_packets: 250,
                lost: 0,
                jitter_ms: Some(0.42),
                mos: Some(4.38),
                remote_mos: Some(3.04),
                ..MediaFigures::default()
            }),
            outcome: ringtrue_phone::event::Outcome::Completed,
            words: None,
        });
        assert_eq!(
            text,
            "The call is over: the other side hung up. 5.0 s, 252 packets sent, 250 received, \
             0 lost, jitter 0.4 ms, quality about 4.4 of 4.4 here and 3.0 there."
        );
    }

    #[test]
    fn a_refusal_carries_the_peers_words() {
        let text = told(EventKind::Ended {
            reason: EndReason::NoMediaPath,
            status: Some(480),
            by: EndedBy::Remote,
            connected: Duration::ZERO,
            figures: Box::default(),
            outcome: ringtrue_phone::event::Outcome::NoMediaPath,
            words: Some("no media path, 4 pairs tried".to_owned()),
        });
        assert_eq!(
            text,
            "The call is over: there is no path for sound between you (480); the other side says: \
             no media path, 4 pairs tried."
        );
    }
}
