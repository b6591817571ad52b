//! Networks that fail: the exit status and the reason say how.

mod common;

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use common::{Place, first};

const QUIET: &str = "--audio-in silence --audio-out null";

/// A TCP port of this host where nobody listens.
fn closed_tcp_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

#[test]
fn an_unreachable_proxy_is_a_failure_of_the_network() {
    let place = Place::new("proxy");
    let proxy = format!("sip:127.0.0.1:{};transport=tcp", closed_tcp_port());
    let line = format!("call sip:bob@example.org --proxy {proxy} --bind 127.0.0.1 --json {QUIET}");
    let mut alice = place.start(&line);
    assert_eq!(alice.wait(Duration::from_secs(10)), 6);
    let events = alice.events();
    let ended = first(&events, "ended");
    assert_eq!(ended["reason"], "network", "{ended}");
    assert_eq!(ended["by"], "network", "{ended}");
}

#[test]
fn a_name_that_does_not_resolve_is_a_failure_of_the_network() {
    let place = Place::new("name");
    let line = format!("call sip:bob@nowhere.invalid --bind 127.0.0.1 --json {QUIET}");
    let mut alice = place.start(&line);
    assert_eq!(alice.wait(Duration::from_secs(30)), 6);
    let events = alice.events();
    let ended = first(&events, "ended");
    assert_eq!(ended["reason"], "network", "{ended}");
}

#[test]
fn for_people_the_end_says_why() {
    let place = Place::new("people");
    let proxy = format!("sip:127.0.0.1:{};transport=tcp", closed_tcp_port());
    let line = format!("call sip:bob@example.org --proxy {proxy} --bind 127.0.0.1 {QUIET}");
    let (code, output, _) = place.run(&line);
    assert_eq!(code, 6);
    assert!(output.contains("Calling sip:bob@example.org"), "{output}");
    assert!(
        output.contains("the network or a server failed"),
        "{output}"
    );
}

/// Ctrl-C while nobody answers, not even with a 100 (silent), or with nothing more than that: the
/// program leaves with `ended`, which comes after four seconds, and not seconds later.
#[test]
fn a_cancelled_call_that_nobody_answers_leaves_when_it_has_ended() {
    for says_trying in [false, true] {
        let place = Place::new("silent");
        let proxy = UdpSocket::bind("127.0.0.1:0").unwrap();
        proxy
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let address = proxy.local_addr().unwrap();
        let line = format!("call sip:bob@{address} --bind 127.0.0.1 --json {QUIET}");
        let mut alice = place.start(&line);
        let mut buffer = [0; 4096];
        let (size, from) = proxy.recv_from(&mut buffer).unwrap();
        let invite = String::from_utf8_lossy(&buffer[..size]).into_owned();
        if says_trying {
            let copied = invite.split("\r\n").filter(|line| {
                // Also by their compact names (RFC 3261 section 7.3.3).
                ["Via", "From", "To", "Call-ID", "CSeq", "v", "f", "t", "i"]
                    .iter()
                    .any(|name| line.starts_with(&format!("{name}:")))
            });
            let headers: String = copied.map(|line| format!("{line}\r\n")).collect();
            let trying = format!("SIP/2.0 100 Trying\r\n{headers}Content-Length: 0\r\n\r\n");
            proxy.send_to(trying.as_bytes(), from).unwrap();
            std::thread::sleep(Duration::from_millis(200));
        }
        let interrupted = Instant::now();
        alice.signal("INT");
        let ended = alice.event("ended");
        let told = interrupted.elapsed();
        assert_eq!(ended["reason"], "cancelled", "{ended}");
        assert_eq!(alice.wait(Duration::from_secs(20)), 130);
        let left = interrupted.elapsed();
        assert!(
            left < told + Duration::from_secs(2),
            "ended after {told:?}, left after {left:?}"
        );
    }
}
