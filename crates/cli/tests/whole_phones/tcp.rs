//! Calls by TCP (RFC 6544): where a firewall eats UDP, and only there.

use std::time::Duration;

use ringtrue_ice::TransportProtocol;
use ringtrue_phone::EventKind;
use ringtrue_phone::Settings;
use ringtrue_phone::event::{Outcome, PathReport};
use ringtrue_program::virtual_phone::VirtualPhone;
use ringtrue_testnet::Verdict;

use crate::stage::{Place, Setup, Stage};

fn proven(phone: &VirtualPhone) -> Option<&PathReport> {
    phone.events().iter().find_map(|event| match &event.kind {
        EventKind::PathValidated(path) => Some(path),
        _ => None,
    })
}

fn selected(phone: &VirtualPhone) -> Option<&PathReport> {
    phone
        .events()
        .iter()
        .rev()
        .find_map(|event| match &event.kind {
            EventKind::PathSelected(path) => Some(path),
            _ => None,
        })
}

fn both_heard(stage: &Stage) -> bool {
    let (at_bob, at_alice) = stage.heard();
    at_bob > 2.5 && at_alice > 2.5
}

/// A firewall eats all UDP of one side; the other can be reached, so a connection carries the
/// call, whoever calls.
#[test]
fn where_udp_is_eaten_a_connection_carries_the_call() {
    for (alice, bob) in [
        (Place::UdpEaten, Place::Open),
        (Place::Open, Place::UdpEaten),
    ] {
        let mut stage = Setup::between(alice, bob).build();
        stage.dial();
        stage.run(10);
        let story = format!("{alice:?} x {bob:?}\n{}", stage.story());
        assert!(stage.rang() && both_heard(&stage), "{story}");
        for phone in [stage.alice(), stage.bob()] {
            assert!(proven(phone).unwrap().transport.is_tcp(), "{story}");
            assert!(selected(phone).unwrap().transport.is_tcp(), "{story}");
        }
        assert_eq!(stage.outcome().unwrap().1, Outcome::Completed, "{story}");
    }
}

/// A connection takes a handshake, a check each way, and the head start of UDP: with 50 ms one way
/// for everything the phone rings after the 183 and its way here, 200 ms, two round trips and a few
/// slots.
#[test]
fn a_connection_is_found_soon() {
    for (alice, bob) in [
        (Place::UdpEaten, Place::Open),
        (Place::Open, Place::UdpEaten),
    ] {
        let mut stage = Setup::between(alice, bob).build();
        stage.dial();
        stage.run(10);
        let rang = stage.ring_time().expect("a ring");
        assert!(rang < Duration::from_millis(700), "{rang:?}");
    }
}

/// A phone without TCP candidates is called by UDP as ever, and calls so.
#[test]
fn a_peer_that_knows_no_tcp_is_reached_by_udp() {
    for without in [0, 1] {
        let off: fn(&mut Settings) = |settings| settings.ice_tcp = false;
        let on: fn(&mut Settings) = |_| {};
        let mut stage = Setup {
            alices: if without == 0 { off } else { on },
            bobs: if without == 1 { off } else { on },
            ..Setup::between(Place::PortRestricted, Place::FullCone)
        }
        .build();
        stage.dial();
        stage.run(10);
        assert!(both_heard(&stage), "{}", stage.story());
        assert_eq!(
            selected(stage.alice()).unwrap().transport,
            TransportProtocol::Udp
        );
    }
}

/// Where both work, UDP is chosen; and who knows no TCP reads of it last.
#[test]
fn udp_is_preferred() {
    let mut stage = Setup::between(Place::Open, Place::Open).build();
    let (tell, told) = std::sync::mpsc::channel();
    stage.tap(move |passing| {
        if passing.payload.starts_with(b"INVITE") {
            let text = String::from_utf8_lossy(passing.payload).into_owned();
            tell.send(text).expect("the test goes on");
        }
        Verdict::Pass
    });
    stage.dial();
    stage.run(10);
    assert!(both_heard(&stage), "{}", stage.story());
    for phone in [stage.alice(), stage.bob()] {
        assert_eq!(proven(phone).unwrap().transport, TransportProtocol::Udp);
        assert_eq!(selected(phone).unwrap().transport, TransportProtocol::Udp);
    }
    let invite = told.recv().expect("an INVITE");
    let candidates = invite
        .lines()
        .filter(|line| line.starts_with("a=candidate:"));
    let by_tcp: Vec<bool> = candidates.map(|line| line.contains(" TCP ")).collect();
    assert!(by_tcp.contains(&true) && by_tcp.is_sorted(), "{invite}");
}
