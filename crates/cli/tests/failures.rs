//! Networks that fail: the exit status and the reason say how.

mod common;

use std::time::Duration;

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
