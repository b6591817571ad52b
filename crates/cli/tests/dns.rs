//! Real processes that find each other by name, with a DNS server of the test on loopback: no
//! other is asked.

mod common;
#[path = "common/dns.rs"]
mod dns;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use common::{Place, Process, first};
use dns::{Zone, silent};

const QUIET: &str = "--audio-in silence --audio-out null";
const SOON: Duration = Duration::from_secs(20);

fn settings(place: &Place, server: SocketAddr) {
    let text = format!("dns = [\"{server}\"]\n");
    std::fs::write(place.path("settings.toml"), text).expect("a settings file");
}

/// Bob, and his port.
fn bob(place: &Place) -> (Process, u16) {
    let line = format!("listen --bind 127.0.0.1:0 --answer auto --once --json {QUIET}");
    let mut bob = place.start(&line);
    let listening = bob.event("listening");
    let address: SocketAddr = listening["sip"].as_str().unwrap().parse().unwrap();
    (bob, address.port())
}

fn call(place: &Place, target: &str, options: &str) -> Process {
    place.start(&format!(
        "call {target} --config settings.toml --bind 127.0.0.1 {options} {QUIET}"
    ))
}

#[test]
fn the_listener_is_found_by_srv() {
    let place = Place::new("srv");
    let (mut bob, port) = bob(&place);
    let zone = Zone::default()
        .srv("_sip._udp.example.test", port, "phone.example.test")
        .host("phone.example.test", Ipv4Addr::LOCALHOST);
    settings(&place, zone.serve());
    let mut alice = call(&place, "sip:bob@example.test", "--duration 1 --json");
    assert_eq!((alice.wait(SOON), bob.wait(SOON)), (0, 0));
    let events = alice.events();
    assert_eq!(first(&events, "ended")["reason"], "duration-over");
    assert_eq!(first(&events, "ringing")["verified"], true);
}

/// The answers are too long for a datagram, and NAPTR prefers TCP.
#[test]
fn naptr_and_srv_come_by_tcp_too_and_lead_to_tcp() {
    let place = Place::new("naptr");
    let (mut bob, port) = bob(&place);
    let zone = Zone::default()
        .naptr("example.test", 2, "SIP+D2U", "_sip._udp.example.test")
        .naptr("example.test", 1, "SIP+D2T", "_sip._tcp.example.test")
        .srv("_sip._tcp.example.test", port, "phone.example.test")
        .host("phone.example.test", Ipv4Addr::LOCALHOST)
        .truncating();
    settings(&place, zone.serve());
    let mut alice = call(&place, "sip:bob@example.test", "--duration 1 --json");
    assert_eq!((alice.wait(SOON), bob.wait(SOON)), (0, 0));
}

#[test]
fn a_name_that_the_dns_does_not_know_ends_the_call_with_a_clear_line() {
    let place = Place::new("unknown");
    settings(&place, Zone::default().serve());
    let mut alice = call(&place, "sip:bob@nobody.test", "");
    assert_eq!(alice.wait(SOON), 6);
    let output = alice.output();
    let reason = "cannot find nobody.test: the DNS knows no address of it";
    assert!(output.contains(reason), "{output}");
}

#[test]
fn a_silent_dns_server_holds_a_call_for_a_few_seconds_only() {
    let place = Place::new("silent");
    let (_socket, server) = silent();
    settings(&place, server);
    let begin = Instant::now();
    let mut alice = call(&place, "sip:bob@example.test", "");
    assert_eq!(alice.wait(SOON), 6);
    assert!(begin.elapsed() < Duration::from_secs(12));
    let output = alice.output();
    assert!(
        output.contains("no DNS server gave an answer in time"),
        "{output}"
    );
}

/// What the hosts file knows is asked of nobody.
#[test]
fn the_hosts_file_comes_before_the_dns() {
    let place = Place::new("hosts");
    let (mut bob, port) = bob(&place);
    let (_socket, server) = silent();
    settings(&place, server);
    let target = format!("sip:bob@localhost:{port}");
    let mut alice = call(&place, &target, "--duration 1 --json");
    assert_eq!((alice.wait(SOON), bob.wait(SOON)), (0, 0));
}
