//! What is made ready while a call gathers its candidates: its next hop is located, and a
//! connection opened for an INVITE that is too long for a datagram. 0 is alice, 1 is bob.

use std::collections::BTreeSet;

use ringtrue_sip::uri::Uri;

use crate::wire::{Tcp, Wire, address};

fn prepare(wire: &mut Wire, target: &str, large: bool) {
    let target: Uri = target.parse().unwrap();
    wire.with(0, |e, now| e.prepare_invite(now, &target, large));
}

fn large() -> String {
    "v=0 ".repeat(400)
}

#[test]
fn a_long_invite_finds_its_connection_open() {
    let mut wire = Wire::pair();
    prepare(&mut wire, "sip:bob@10.0.0.2", true);
    wire.run_for(500);
    assert_eq!(wire.connects, [(0, address(2))]);
    wire.invite(0, "sip:bob@10.0.0.2", &large());
    wire.incoming(1);
    let invite = wire.sent(0, "INVITE")[0];
    assert!(invite.tcp);
    assert_eq!((invite.at, wire.connects.len()), (500, 1));
}

#[test]
fn a_short_invite_opens_none_and_goes_by_udp_beside_one() {
    for expected_large in [false, true] {
        let mut wire = Wire::pair();
        prepare(&mut wire, "sip:bob@10.0.0.2", expected_large);
        wire.run_for(500);
        wire.invite(0, "sip:bob@10.0.0.2", "offer");
        wire.incoming(1);
        assert!(!wire.sent(0, "INVITE")[0].tcp);
        assert_eq!(wire.connects.len(), usize::from(expected_large));
    }
}

/// What was found out about TCP meanwhile is no time lost later.
#[test]
fn a_peer_without_tcp_gets_a_long_invite_by_udp_at_once() {
    for (tcp, gathering) in [(Tcp::Refuses, 500), (Tcp::Silent, 1_500)] {
        let mut wire = Wire::pair();
        wire.set_tcp(1, tcp);
        prepare(&mut wire, "sip:bob@10.0.0.2", true);
        wire.run_for(gathering);
        wire.invite(0, "sip:bob@10.0.0.2", &large());
        wire.incoming(1);
        let invite = wire.sent(0, "INVITE")[0];
        assert_eq!((invite.tcp, invite.at), (false, gathering));
    }
}

/// Whether the search is over when the call is placed or still under way.
#[test]
fn nothing_is_asked_twice_of_the_dns() {
    for gathering in [500, 0] {
        let mut wire = Wire::pair();
        wire.host("example.test", &["10.0.0.2"]);
        prepare(&mut wire, "sip:bob@example.test", false);
        wire.run_for(gathering);
        wire.invite(0, "sip:bob@example.test", "offer");
        wire.incoming(1);
        let asked = wire.lookups.iter().map(|(_, kind, name)| (*kind, name));
        let different: BTreeSet<_> = asked.collect();
        assert_eq!(wire.lookups.len(), different.len(), "{:?}", wire.lookups);
        assert!(wire.lookups.iter().all(|(at, ..)| *at < 500));
    }
}

/// A name that does not exist is told of when the call is placed, not before, and a call that is
/// never placed keeps nobody.
#[test]
fn nobody_waits_for_what_was_only_prepared() {
    let mut wire = Wire::pair();
    prepare(&mut wire, "sip:bob@nowhere.test", true);
    assert!(wire.with(0, |e, _| e.is_idle()));
    wire.run_for(10_000);
    assert!(wire.events(0).is_empty());
    assert!(wire.connects.is_empty());
}
