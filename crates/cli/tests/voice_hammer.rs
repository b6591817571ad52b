//! The voice hammer (RFC 8445 section 19.5.1) with real processes: what reaches a third party whose
//! address an attacker names, counted in its own sockets.
//!
//! ```text
//!   attacker 127.0.0.1 ── ringtrue listen ─┐
//!   attacker 127.0.0.1 ── ringtrue call  ──┴── 127.0.0.9, the victim: 100 sockets
//! ```

mod common;

use std::collections::HashSet;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use common::{Place, first};

const QUIET: &str = "--audio-in silence --audio-out null";
/// RFC 8445 section 19.5.1.
const CHECKS: usize = 100;
/// A request is sent at 0, 0.5, 1.5, 3.5 and 7.5 s; then the patience of ten seconds is over.
const REQUESTS: usize = 5;

/// The sockets of the victim.
struct Victim(Vec<UdpSocket>);

impl Victim {
    /// None where the machine has only one loopback address.
    fn new() -> Option<Self> {
        let socket = || {
            let socket = UdpSocket::bind("127.0.0.9:0").ok()?;
            socket.set_nonblocking(true).ok()?;
            Some(socket)
        };
        (0..100).map(|_| socket()).collect::<Option<_>>().map(Self)
    }

    fn candidates(&self) -> String {
        let lines = self.0.iter().enumerate().map(|(number, socket)| {
            let port = socket.local_addr().unwrap().port();
            let priority = 2_130_000_000 - number;
            format!("a=candidate:v{number} 1 UDP {priority} 127.0.0.9 {port} typ host\r\n")
        });
        lines.collect()
    }

    /// Transactions and datagrams until then. Anything but a Binding request is a failure.
    fn count(&self, until: Instant) -> (usize, usize) {
        let (mut checks, mut datagrams) = (HashSet::new(), 0);
        let mut buffer = [0; 2_048];
        while Instant::now() < until {
            for socket in &self.0 {
                while let Ok(size) = socket.recv(&mut buffer) {
                    let packet = &buffer[..size];
                    assert!(packet.starts_with(&[0, 1]) && size >= 20, "{packet:02x?}");
                    checks.insert(packet[8..20].to_vec());
                    datagrams += 1;
                }
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        (checks.len(), datagrams)
    }

    fn assert_bounded(&self, seconds: u64) {
        let (checks, datagrams) = self.count(Instant::now() + Duration::from_secs(seconds));
        println!("{checks} checks, {datagrams} datagrams");
        assert!((1..=CHECKS).contains(&checks), "{checks}");
        assert!(datagrams <= CHECKS * REQUESTS, "{datagrams}");
    }
}

fn sdp(number: usize, candidates: &str) -> String {
    let default = candidates.lines().next().unwrap_or_default();
    let port = default.split(' ').nth(5).unwrap_or_default();
    format!(
        "v=0\r\no=- {number} 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.9\r\nt=0 0\r\n\
         a=ice-options:ice2\r\na=ice-pacing:1\r\nm=audio {port} RTP/AVP 0\r\na=rtcp-mux\r\n\
         a=ice-ufrag:user{number}\r\na=ice-pwd:passwordpasswordpassword\r\n{candidates}"
    )
}

#[test]
fn a_caller_names_a_third_party() {
    let Some(victim) = Victim::new() else {
        return println!("skipped: 127.0.0.9 cannot be bound");
    };
    let place = Place::new("hammer-in");
    let options = format!("--answer auto --max-calls 1 {QUIET}");
    let mut bob = place.start(&format!("listen --bind 127.0.0.1:0 --json {options}"));
    let to = bob.event("listening")["sip"].as_str().unwrap().to_owned();
    let attacker = UdpSocket::bind("127.0.0.1:0").unwrap();
    let from = attacker.local_addr().unwrap();
    let body = sdp(1, &victim.candidates());
    let invite = format!(
        "INVITE sip:bob@{to} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bKh;rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:m@{from}>;tag=1\r\nTo: <sip:bob@{to}>\r\n\
         Call-ID: hammer\r\nCSeq: 1 INVITE\r\nContact: <sip:m@{from}>\r\n\
         Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    attacker.send_to(invite.as_bytes(), &to).unwrap();
    victim.assert_bounded(13);
    bob.signal("INT");
    assert_eq!(bob.wait(Duration::from_secs(20)), 0);
    let events = bob.events();
    assert!(events.iter().all(|event| event["event"] != "ringing"));
    assert_eq!(first(&events, "missed")["reason"], "no-media-path");
}

#[test]
fn forks_name_a_third_party() {
    let Some(victim) = Victim::new() else {
        return println!("skipped: 127.0.0.9 cannot be bound");
    };
    let place = Place::new("hammer-out");
    let attacker = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = attacker.local_addr().unwrap();
    let line = format!("call sip:bob@{address} --bind 127.0.0.1 --json {QUIET}");
    let mut alice = place.start(&line);
    let mut buffer = [0; 8_192];
    let (size, from) = attacker.recv_from(&mut buffer).unwrap();
    let invite = String::from_utf8_lossy(&buffer[..size]).into_owned();
    // Each by its long or its compact name (RFC 3261 section 7.3.3).
    let line_of = |name: &str| {
        let mut lines = invite.split("\r\n");
        let is_named = |line: &&str| {
            line.split_once(':')
                .is_some_and(|(n, _)| name.split('|').any(|name| name == n))
        };
        lines.find(is_named).unwrap_or_default().to_owned()
    };
    for fork in 0..20 {
        let body = sdp(fork, &victim.candidates());
        let [via, caller, to, id, cseq] =
            ["Via|v", "From|f", "To|t", "Call-ID|i", "CSeq"].map(line_of);
        let progress = format!(
            "SIP/2.0 183 Session Progress\r\n{via}\r\n{caller}\r\n{to};tag=f{fork}\r\n{id}\r\n\
             {cseq}\r\nContact: <sip:bob@{address}>\r\nContent-Type: application/sdp\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        attacker.send_to(progress.as_bytes(), from).unwrap();
    }
    victim.assert_bounded(13);
    alice.signal("INT");
    assert_eq!(alice.wait(Duration::from_secs(20)), 130);
}
