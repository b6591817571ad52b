//! Many pairs, and NATs that make more of them without end: the pair that works has its turn.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use ringtrue_ice::{Candidate, CandidateType, ComponentId, IceDescription};
use stun_types::message::MessageClass;

use crate::nat::Dependence;
use crate::net::*;
use crate::stun;

const MUX: &[ComponentId] = &[ComponentId::Rtp];

/// Alice, whose peer the test plays: what he says, without candidates, and one that he might have.
fn alone() -> (Net, IceDescription, Candidate) {
    let mut net = Net::new(Access::Open, Access::Open);
    net.prepare_default();
    let mut bob = net.description(BOB);
    net.peers[BOB].session = None;
    net.origin = net.now;
    net.sent.clear();
    let template = bob.candidates[0].clone();
    bob.candidates.clear();
    (net, bob, template)
}

/// Another candidate, the next in order of preference.
fn add(bob: &mut IceDescription, template: &Candidate, kind: CandidateType, address: SocketAddr) {
    let rank = bob.candidates.len() as u32;
    bob.candidates.push(Candidate {
        foundation: format!("{rank}"),
        priority: (kind.preference() << 24) + 0x00ff_ff00 - (rank << 8),
        address,
        kind,
        ..template.clone()
    });
}

/// New transactions that went there.
fn checks(net: &Net, to: impl Fn(SocketAddr) -> bool) -> BTreeSet<u128> {
    net.sent
        .iter()
        .filter(|(_, packet)| to(packet.to))
        .map(|(_, packet)| stun::read(&packet.payload))
        .filter(|read| read.class == MessageClass::Request)
        .map(|read| read.id)
        .collect()
}

/// Each check comes from a port that the other has not seen, and so does each answer: there is no
/// path, and to look for one at each new port would go on for the whole patience.
///
/// ```text
///   alice --[NAT: maps for each destination, filters nothing]-- --[the same]-- bob
/// ```
#[test]
fn two_nats_that_map_for_each_destination_make_no_checks_without_end() {
    let access = Access::Nat {
        mapping: Dependence::AddressAndPort,
        filtering: Dependence::Endpoint,
    };
    let mut net = Net::new(access, access);
    net.call(ms(20), MUX, ms(9_000));
    for sender in [ALICE, BOB] {
        assert_eq!(net.peers[sender].validated(), None);
        let of_sender = net
            .sent
            .iter()
            .filter(|(_, packet)| packet.sender == sender);
        let ports: BTreeSet<_> = of_sender.map(|(_, packet)| packet.to).collect();
        // The server, two candidates, and what eight checks have revealed.
        assert!(ports.len() <= 11, "{ports:?}");
    }
}

/// The peer's re-checks of a pair come every 20 ms, and our answers to them, and our checks, are
/// lost: eleven other pairs wait for their first check no longer for that.
#[test]
fn re_checks_of_the_peer_do_not_take_the_slots_of_first_checks() {
    let (mut net, mut bob, template) = alone();
    for host in 1..=12 {
        let address = SocketAddr::from(([203, 0, 113, 200 + host], 7_000));
        add(&mut bob, &template, CandidateType::Host, address);
    }
    let alice = net.description(ALICE).credentials;
    let insistent = bob.candidates[0].address;
    net.start(ALICE, bob.clone(), MUX);
    for round in 0..15 {
        net.run_for(ms(20));
        let request = stun::Request {
            id: 100 + round,
            to: &alice,
            from_ufrag: &bob.credentials.ufrag,
            password: &alice.pwd,
            role: (stun::ICE_CONTROLLED, 1),
            use_candidate: false,
        };
        net.inject(ALICE, ComponentId::Rtp, insistent, &request.to_bytes());
    }
    let unchecked = bob
        .candidates
        .iter()
        .filter(|candidate| checks(&net, |to| to == candidate.address).is_empty());
    assert_eq!(unchecked.count(), 0);
    // Its own first check, the one that the peer's first triggers, and one each 100 ms.
    let of_it = checks(&net, |to| to == insistent).len();
    assert!((3..=5).contains(&of_it), "{of_it}");
}

/// Sixty candidates at 50 ms are three seconds of checks. A relay answers at once, and alone; of the
/// others the last one works, and its turn comes when those three seconds are over.
#[test]
fn no_relay_is_nominated_before_every_direct_pair_was_checked() {
    let (mut net, mut bob, template) = alone();
    for host in 1..=60 {
        let address = SocketAddr::from(([203, 0, 113, 150 + host], 7_000));
        add(&mut bob, &template, CandidateType::Host, address);
    }
    let direct = bob.candidates[59].address;
    let relay = SocketAddr::from(([198, 51, 100, 9], 50_000));
    add(&mut bob, &template, CandidateType::Relayed, relay);
    // What is not said is 50 ms.
    bob.pacing = None;
    net.start(ALICE, bob.clone(), MUX);
    let mut read = 0;
    let nominated = loop {
        net.run_for(ms(10));
        assert!(net.elapsed() < ms(9_000), "nothing is nominated");
        let new: Vec<_> = net.sent[read..].to_vec();
        read = net.sent.len();
        let mut working = new
            .iter()
            .map(|(_, packet)| packet)
            .filter(|packet| [direct, relay].contains(&packet.to));
        if let Some(packet) = working
            .clone()
            .find(|p| stun::read(&p.payload).use_candidate)
        {
            break packet.to;
        }
        for packet in working.by_ref() {
            let answer = stun::success(&packet.payload, packet.base, Some(&bob.credentials.pwd));
            net.inject(ALICE, ComponentId::Rtp, packet.to, &answer);
        }
    };
    assert_eq!(nominated, direct);
}

/// The first candidate answers, but for the first nominating check; fifty-nine others wait for their
/// first check, and the RTO would be three seconds.
#[test]
fn a_lost_nomination_does_not_wait_for_first_checks() {
    let (mut net, mut bob, template) = alone();
    for host in 1..=60 {
        let address = SocketAddr::from(([203, 0, 113, 150 + host], 7_000));
        add(&mut bob, &template, CandidateType::Host, address);
    }
    bob.pacing = None;
    let first = bob.candidates[0].address;
    net.start(ALICE, bob.clone(), MUX);
    let mut read = 0;
    let mut nominations = BTreeSet::new();
    while nominations.len() < 2 {
        net.run_for(ms(10));
        assert!(net.elapsed() < ms(600), "not nominated again");
        let new: Vec<_> = net.sent[read..].to_vec();
        read = net.sent.len();
        for (_, packet) in new.iter().filter(|(_, packet)| packet.to == first) {
            let check = stun::read(&packet.payload);
            if check.use_candidate {
                nominations.insert(check.id);
                continue;
            }
            let answer = stun::success(&packet.payload, packet.base, Some(&bob.credentials.pwd));
            net.inject(ALICE, ComponentId::Rtp, packet.to, &answer);
        }
    }
}
