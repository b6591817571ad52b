//! One listener, many calls and many addresses: real processes on one host.

mod common;

use std::net::UdpSocket;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use common::{Place, Process, assert_order, first};

const QUIET: &str = "--audio-in silence --audio-out null";
const SOON: Duration = Duration::from_secs(20);
const ORDER: [&str; 5] = ["invite", "path_validated", "ringing", "answered", "ended"];

fn call(place: &Place, address: &str, options: &str) -> Process {
    place.start(&format!("call sip:bob@{address} --json {QUIET} {options}"))
}

/// The files and sockets that a process has open.
fn open_files(process: &Process) -> Vec<String> {
    let directory = format!("/proc/{}/fd", process.id());
    let name = |path: PathBuf| {
        let target = std::fs::read_link(&path).ok()?;
        Some(format!("{} {}", path.display(), target.display()))
    };
    let files = std::fs::read_dir(directory).unwrap();
    files
        .filter_map(|file| name(file.unwrap().path()))
        .collect()
}

/// Call after call, every one proven before it rings, and nothing is left of any of them: the
/// sockets are closed, the pool is filled again.
#[test]
fn calls_one_after_the_other_leave_no_socket_behind() {
    let place = Place::new("many-calls");
    let mut bob = place.start(&format!(
        "listen --bind 127.0.0.1:0 --answer auto --json {QUIET}"
    ));
    let address = bob.event("listening")["sip"].as_str().unwrap().to_owned();
    bob.event("gathered");
    let before = open_files(&bob);
    for number in 0..6 {
        let mut alice = call(&place, &address, "--bind 127.0.0.1 --duration 0.3");
        assert_eq!(alice.wait(SOON), 0, "call {number}");
        assert_order(&alice.events(), &ORDER);
    }
    let patience = Instant::now() + Duration::from_secs(5);
    while open_files(&bob).len() != before.len() && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(50));
    }
    let after = open_files(&bob);
    assert_eq!(after.len(), before.len(), "{before:#?} {after:#?}");
}

/// More callers at once than the listener takes: those talk, the last one hears that it is busy.
#[test]
fn two_calls_at_once_and_a_third_is_too_many() {
    let place = Place::new("at-once");
    let mut bob = place.start(&format!(
        "listen --bind 127.0.0.1:0 --answer auto --max-calls 2 --json {QUIET}"
    ));
    let address = bob.event("listening")["sip"].as_str().unwrap().to_owned();
    let options = "--bind 127.0.0.1 --duration 3";
    let mut talking = [
        call(&place, &address, options),
        call(&place, &address, options),
    ];
    for caller in &mut talking {
        caller.event("answered");
    }
    let mut third = call(&place, &address, options);
    assert_eq!(third.wait(SOON), 4);
    let ended = first(&third.events(), "ended").clone();
    assert_eq!(ended["status"], 486, "{ended}");
    for caller in &mut talking {
        assert_eq!(caller.wait(SOON), 0);
    }
}

/// A listener with an address of each family, and callers by each of them and by both.
#[test]
fn calls_over_ipv6_and_over_two_addresses() {
    if UdpSocket::bind("[::1]:0").is_err() {
        println!("skipped: this host has no IPv6");
        return;
    }
    let place = Place::new("families");
    let mut bob = place.start(&format!(
        "listen --bind 127.0.0.1:0 --bind [::1]:0 --answer auto --json {QUIET}"
    ));
    let mut address = || bob.event("listening")["sip"].as_str().unwrap().to_owned();
    let (v4, v6) = (address(), address());
    assert!(v6.starts_with("[::1]:"), "{v6}");
    let ways = [
        (&v4, "--bind 127.0.0.1"),
        (&v6, "--bind ::1"),
        (&v4, "--bind 127.0.0.1 --bind ::1"),
        (&v6, "--bind 127.0.0.1 --bind ::1"),
    ];
    for (to, bind) in ways {
        let mut alice = call(&place, to, &format!("{bind} --duration 0.5"));
        assert_eq!(alice.wait(SOON), 0, "{to} {bind}");
        assert_order(&alice.events(), &ORDER);
    }
}

/// Ten addresses: the INVITE exceeds a datagram's 1300 bytes and goes by TCP.
#[test]
fn an_invite_with_ten_addresses() {
    let place = Place::new("ten-addresses");
    let mut bob = place.start(&format!(
        "listen --bind 127.0.0.1:0 --answer auto --json --once {QUIET}"
    ));
    let address = bob.event("listening")["sip"].as_str().unwrap().to_owned();
    let binds: String = (1..=10).map(|n| format!("--bind 127.0.0.{n} ")).collect();
    let mut alice = call(&place, &address, &format!("{binds} --duration 1"));
    assert_eq!((alice.wait(SOON), bob.wait(SOON)), (0, 0));
    let events = alice.events();
    // Ten addresses for RTP and ten for RTCP, and a TCP candidate of each kind.
    assert_eq!(first(&events, "gathered")["candidates"], 23);
    assert_order(&events, &ORDER);
    assert!(first(&events, "checking")["pairs"].as_u64().unwrap() >= 10);
}
