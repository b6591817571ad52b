//! What logs say: everything, with `RUST_LOG=trace`, but no secret.
//!
//! ```text
//!   ringtrue call ──── relay, which asks for a password ──── ringtrue listen
//!        └────────────── connectivity checks, sound ──────────────┘
//! ```

mod common;

use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use common::{Place, Process, first};

const PASSWORD: &str = "correct-horse-battery";
const SOON: Duration = Duration::from_secs(30);

/// Carries SIP between alice and bob, challenges an INVITE without credentials, and shows
/// everything that passed.
fn relay(socket: &UdpSocket, bob: SocketAddr, seen: &Sender<String>) {
    let mut alice = None;
    let mut buffer = [0; 65_536];
    while let Ok((size, from)) = socket.recv_from(&mut buffer) {
        let text = String::from_utf8_lossy(&buffer[..size]).into_owned();
        if from != bob {
            alice = Some(from);
        }
        let to = if from == bob { alice } else { Some(bob) };
        if from != bob && text.starts_with("INVITE") && !text.contains("Authorization") {
            let _ = socket.send_to(challenge(&text).as_bytes(), from);
        } else if let Some(to) = to.filter(|_| !is_ack_of_challenge(&text)) {
            let _ = socket.send_to(&buffer[..size], to);
        }
        if seen.send(text).is_err() {
            return;
        }
    }
}

fn is_ack_of_challenge(text: &str) -> bool {
    text.starts_with("ACK") && text.contains("tag=challenge")
}

fn challenge(invite: &str) -> String {
    let copied: String = invite
        .lines()
        .take_while(|line| !line.is_empty())
        .filter(|line| {
            // Also by their compact names (RFC 3261 section 7.3.3): a long request has these.
            [
                "Via:", "From:", "To:", "Call-ID:", "CSeq:", "v:", "f:", "t:", "i:",
            ]
            .iter()
            .any(|name| line.starts_with(name))
        })
        .map(|line| {
            let tag = if line.starts_with("To:") || line.starts_with("t:") {
                ";tag=challenge"
            } else {
                ""
            };
            format!("{line}{tag}\r\n")
        })
        .collect();
    format!(
        "SIP/2.0 401 Unauthorized\r\n{copied}WWW-Authenticate: Digest realm=\"r\", nonce=\"n\", \
         qop=\"auth\"\r\nContent-Length: 0\r\n\r\n"
    )
}

/// What follows `begin` in any of the texts, up to one of the bytes of `end`.
fn values<'a>(texts: &'a [String], begin: &str, end: &[char]) -> Vec<&'a str> {
    let mut values: Vec<&str> = texts
        .iter()
        .flat_map(|text| text.split(begin).skip(1))
        .filter_map(|rest| rest.split(end).next())
        .collect();
    values.sort_unstable();
    values.dedup();
    values
}

fn start(place: &Place, line: &str) -> Process {
    let mut command = place.command(line);
    command.env(
        "RUST_LOG",
        "trace,stun_types=trace,stun_types::message=trace",
    );
    command.env("RINGTRUE_PASSWORD", PASSWORD);
    Process::of(command)
}

#[test]
fn no_log_holds_a_secret() {
    let place = Place::new("secrets");
    let quiet = "--json --audio-in tone:440 --audio-out null";
    let mut bob = start(
        &place,
        &format!("listen --bind 127.0.0.1:0 --answer after:1 --once {quiet}"),
    );
    let listening = bob.event("listening");
    let address: SocketAddr = listening["sip"]
        .as_str()
        .expect("text")
        .parse()
        .expect("an address");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let proxy = socket.local_addr().expect("an address");
    socket.set_read_timeout(Some(SOON)).expect("a setting");
    let (sender, seen) = channel();
    std::thread::spawn(move || relay(&socket, address, &sender));
    let mut alice = start(
        &place,
        &format!(
            "call sip:bob@{address} --bind 127.0.0.1 --proxy sip:{proxy} --aor sip:a@127.0.0.1 \
             --duration 1 {quiet}"
        ),
    );
    assert_eq!(alice.wait(SOON), 0, "{}", alice.output());
    assert_eq!(bob.wait(SOON), 0);
    assert_eq!(first(&bob.events(), "ringing")["verified"], true);

    let texts: Vec<String> = seen.try_iter().collect();
    let ice = values(&texts, "a=ice-pwd:", &['\r']);
    let digests = values(&texts, "response=\"", &['"']);
    assert!(ice.len() == 2 && !digests.is_empty(), "{ice:?} {digests:?}");
    let log = alice.errors() + &bob.errors();
    for secret in ice.iter().chain(&digests).chain(&[PASSWORD]) {
        // As text, and as `Debug` shows bytes.
        let bytes: Vec<String> = secret.bytes().map(|byte| byte.to_string()).collect();
        for form in [(*secret).to_owned(), bytes.join(", ")] {
            let line = log.lines().find(|line| line.contains(&form));
            assert!(line.is_none(), "{line:?}");
        }
    }
}
