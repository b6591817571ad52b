//! Nomination, and what follows it in the SDP.

use ringtrue_ice::{CandidateType, ComponentId, FailureReason, UpdatedRemote};
use stun_types::message::MessageClass;

use crate::net::*;
use crate::stun;

const MUX: &[ComponentId] = &[ComponentId::Rtp];
const NO_MUX: &[ComponentId; 2] = &[ComponentId::Rtp, ComponentId::Rtcp];

/// One nomination for each component, by alice alone, and both use the same pair after it.
#[test]
fn regular_and_once() {
    for (alice, bob) in [
        (Access::Open, Access::Open),
        (PORT_RESTRICTED, ADDRESS_RESTRICTED),
        (SYMMETRIC, FULL_CONE),
        (FULL_CONE, SYMMETRIC),
    ] {
        let mut net = Net::new(alice, bob);
        net.call(ms(30), NO_MUX, ms(20_000));
        let mut nominations: Vec<(usize, u128)> = net
            .sent
            .iter()
            .map(|(_, packet)| (packet.sender, stun::read(&packet.payload)))
            .filter(|(_, read)| read.use_candidate)
            .map(|(sender, read)| (sender, read.id))
            .collect();
        nominations.dedup();
        assert_eq!(nominations.len(), 2, "{alice:?} {bob:?}: {nominations:?}");
        assert!(nominations.iter().all(|(sender, _)| *sender == ALICE));
        // What alice calls local is what bob sends to, and the other way round.
        let paths: Vec<_> = net
            .peers
            .iter()
            .map(|peer| {
                peer.seen
                    .iter()
                    .find_map(|(_, _, seen)| match seen {
                        Seen::Selected(path) => Some(*path),
                        _ => None,
                    })
                    .unwrap()
            })
            .collect();
        assert_eq!(paths[ALICE].local, paths[BOB].remote);
        assert_eq!(paths[ALICE].remote, paths[BOB].local);
    }
}

/// The nomination is lost again and again: it is repeated, in the dense period every 100 ms, and
/// the other side waits for it.
#[test]
fn a_lost_nomination_is_repeated() {
    let mut net = Net::new(Access::Open, Access::Open);
    let mut dropped = 0;
    net.tap = Some(Box::new(move |_, packet| {
        let read = stun::read(&packet.payload);
        if read.use_candidate && dropped < 2 {
            dropped += 1;
            return Fate::Drop;
        }
        Fate::Pass
    }));
    net.call(ms(20), MUX, ms(5_000));
    let bob = &net.peers[BOB];
    let (validated, selected) = (bob.validated().unwrap(), bob.selected().unwrap());
    assert!(
        validated < 200 && (250..400).contains(&selected),
        "{validated} {selected}"
    );
}

/// A better pair that is merely slower is waited for, but no longer than it may plausibly need.
#[test]
fn a_black_hole_costs_one_round_trip() {
    let mut net = Net::new(PORT_RESTRICTED, FULL_CONE);
    net.delay = ms(40);
    net.call(ms(20), MUX, ms(3_000));
    // Both have a host pair of the highest priority that never answers.
    let alice = &net.peers[ALICE];
    let (validated, selected) = (alice.validated().unwrap(), alice.selected().unwrap());
    assert!(
        selected - validated <= 80 + 80 + 20,
        "{validated} {selected}"
    );
}

/// The worse pair answers first, but the better one's check has not had its round trip yet.
#[test]
fn a_better_pair_gets_its_round_trip() {
    for (better_answers_at, nominated) in [(55, 4_000), (75, 9_000)] {
        let mut net = Net::new(Access::Open, Access::Open);
        net.prepare_default();
        let (alice, mut bob) = (net.description(ALICE), net.description(BOB));
        // This test plays bob, at two addresses.
        net.peers[BOB].session = None;
        let good = bob.candidates[0].clone();
        let mut poor = good.clone();
        poor.address.set_port(9_000);
        poor.priority -= 1_000;
        poor.foundation = "poor".into();
        bob.candidates = vec![good.clone(), poor.clone()];
        let early = stun::Request {
            id: 1,
            to: &alice.credentials,
            from_ufrag: &bob.credentials.ufrag,
            password: &alice.credentials.pwd,
            role: (stun::ICE_CONTROLLED, 1),
            use_candidate: false,
        };
        let rtp = ComponentId::Rtp;
        net.inject(ALICE, rtp, poor.address, &early.to_bytes());
        net.run_for(ms(5));
        net.origin = net.now;
        net.sent.clear();
        // The poor pair's check, triggered, leaves at 0, the good one's at 20.
        net.start(ALICE, bob.clone(), MUX);
        let mut answers = vec![(40, poor.address), (better_answers_at, good.address)];
        answers.sort_unstable();
        for (at, address) in answers {
            let wait = ms(at) - net.elapsed();
            net.run_for(wait);
            let first = net
                .sent
                .iter()
                .find(|(_, packet)| packet.to == address)
                .map(|(_, packet)| packet.clone())
                .unwrap();
            let reply = stun::success(&first.payload, first.base, Some(&bob.credentials.pwd));
            net.inject(ALICE, rtp, address, &reply);
        }
        net.run_for(ms(100));
        let (_, nomination) = net
            .sent
            .iter()
            .find(|(_, packet)| stun::read(&packet.payload).use_candidate)
            .unwrap();
        assert_eq!(nomination.to.port(), nominated);
    }
}

/// RFC 8839 section 4.3.4: behind NATs that map independently the default was right; a symmetric
/// NAT makes another candidate, which the updated offer names alone.
#[test]
fn the_updated_offer() {
    for (access, needed) in [(PORT_RESTRICTED, false), (SYMMETRIC, true)] {
        let mut net = Net::new(access, FULL_CONE);
        net.prepare_default();
        let defaults: Vec<_> = NO_MUX
            .iter()
            .map(|component| {
                let gathered = net.peers[BOB].session().gathered();
                let default = gathered.default_candidate(*component).unwrap();
                (*component, default.address)
            })
            .collect();
        net.exchange(ms(20), NO_MUX);
        let alice = net.peers[ALICE].session();
        assert!(alice.nominated_description(FORK).is_none());
        assert!(
            !alice.needs_updated_offer(FORK, &defaults),
            "not before nomination"
        );
        net.run_for(ms(3_000));
        let (alice, bob) = (net.peers[ALICE].session(), net.peers[BOB].session());
        assert_eq!(alice.needs_updated_offer(FORK, &defaults), needed);
        assert!(
            !bob.needs_updated_offer(FORK, &[]),
            "the controlled side never asks"
        );

        let offer = alice.nominated_description(FORK).unwrap();
        assert_eq!(offer.credentials, alice.local_description().credentials);
        assert_eq!(offer.candidates.len(), 2);
        assert_eq!(offer.remote_candidates.len(), 2);
        let kind = if needed {
            CandidateType::PeerReflexive
        } else {
            CandidateType::ServerReflexive
        };
        assert!(
            offer
                .candidates
                .iter()
                .all(|candidate| { candidate.kind == kind && candidate.related.is_some() })
        );

        // Bob has won the race, and answers with the same pair.
        let now = net.now;
        let bob = net.peers[BOB].session_mut();
        let verdict = bob.handle_updated_remote(now, FORK, &offer);
        assert_eq!(verdict, UpdatedRemote::Ready);
        let answer = bob.nominated_description(FORK).unwrap();
        let named: Vec<_> = answer
            .candidates
            .iter()
            .map(|candidate| (candidate.component, candidate.address))
            .collect();
        assert_eq!(named, offer.remote_candidates);
        assert!(answer.remote_candidates.is_empty());

        let mut restart = offer.clone();
        restart.credentials.ufrag = "restart1".into();
        restart.credentials.pwd = "restart-restart-restart-".into();
        let verdict = bob.handle_updated_remote(now, FORK, &restart);
        assert_eq!(verdict, UpdatedRemote::Restart);
    }
}

/// RFC 8839 section 4.4.2: the offer overtakes the answers to bob's own checks.
#[test]
fn a_losing_pair() {
    let mut net = Net::new(Access::Open, Access::Open);
    // Bob's checks are answered, but the answers take their time.
    net.tap = Some(Box::new(|at, packet| {
        let read = stun::read(&packet.payload);
        let to_bob = packet.sender == ALICE && read.class == MessageClass::Success;
        if to_bob && at < ms(700) {
            Fate::Drop
        } else {
            Fate::Pass
        }
    }));
    net.call(ms(20), MUX, ms(400));
    let alice = net.peers[ALICE].session();
    let offer = alice.nominated_description(FORK).unwrap();
    let now = net.now;
    let bob = net.peers[BOB].session_mut();
    let verdict = bob.handle_updated_remote(now, FORK, &offer);
    assert_eq!(verdict, UpdatedRemote::LosingPair);
    net.run_for(ms(1_500));
    assert!(net.peers[BOB].selected().is_some());
    let now = net.now;
    let bob = net.peers[BOB].session_mut();
    let verdict = bob.handle_updated_remote(now, FORK, &offer);
    assert_eq!(verdict, UpdatedRemote::Ready);
}

/// The nominating check is lost, and the offer that follows nomination comes first: it nominates
/// as well, so that bob can answer with the pair it names.
#[test]
fn an_updated_offer_stands_in_for_a_lost_nomination() {
    let mut net = Net::new(ADDRESS_RESTRICTED, Access::Open);
    net.tap = Some(Box::new(|_, packet| {
        // Bob's answers to it are lost, or alice would know no nominated pair herself.
        if packet.sender == ALICE && stun::read(&packet.payload).use_candidate {
            Fate::Drop
        } else {
            Fate::Pass
        }
    }));
    net.call(ms(20), NO_MUX, ms(400));
    assert!(net.peers[BOB].validated().is_some() && net.peers[BOB].selected().is_none());
    let paths = NO_MUX.map(|component| net.peers[BOB].session().path(FORK, component).unwrap());
    let mut offer = net.description(ALICE);
    offer
        .candidates
        .retain(|candidate| paths.iter().any(|path| path.remote == candidate.address));
    offer.remote_candidates = NO_MUX
        .iter()
        .map(|component| (*component, net.peers[BOB].base(*component)))
        .collect();
    let now = net.now;
    let bob = net.peers[BOB].session_mut();
    assert!(bob.nominated_description(FORK).is_none());
    let verdict = bob.handle_updated_remote(now, FORK, &offer);
    assert_eq!(verdict, UpdatedRemote::Ready);
    let answer = bob.nominated_description(FORK).unwrap();
    let named: Vec<_> = answer
        .candidates
        .iter()
        .map(|candidate| (candidate.component, candidate.address))
        .collect();
    assert_eq!(named, offer.remote_candidates);
}

/// linphone and others check only after their 200: the agent has given up by then, answers all the
/// same, and a new patience lets it try again.
#[test]
fn a_late_peer() {
    for renewed in [false, true] {
        let mut net = Net::new(PORT_RESTRICTED, PORT_RESTRICTED);
        net.prepare_default();
        let (alice, bob) = (net.description(ALICE), net.description(BOB));
        net.start(ALICE, bob, MUX);
        net.run_for(ms(20_000));
        let failed = Seen::Failed(FailureReason::PatienceOver, 2);
        assert_eq!(net.peers[ALICE].when(|seen| *seen == failed), Some(10_000));
        let now = net.now;
        if renewed {
            net.peers[ALICE].session_mut().renew_patience(now, FORK);
        }
        net.start(BOB, alice, MUX);
        net.run_for(ms(3_000));
        for peer in &net.peers {
            assert_eq!(peer.proofs.len(), 1);
            assert!(peer.selected().is_some());
        }
    }
}

/// A new patience ends like the first.
#[test]
fn a_renewed_patience_ends_too() {
    let mut net = Net::new(Access::Open, Access::Blocked);
    net.prepare_default();
    let bob = net.description(BOB);
    net.start(ALICE, bob, MUX);
    net.run_for(ms(20_000));
    let now = net.now;
    net.peers[ALICE].session_mut().renew_patience(now, FORK);
    net.run_for(ms(20_000));
    let failures: Vec<u128> = net.peers[ALICE]
        .seen
        .iter()
        .filter(|(_, _, seen)| matches!(seen, Seen::Failed(..)))
        .map(|(at, _, _)| at.as_millis())
        .collect();
    assert_eq!(failures, [10_000, 30_000]);
}
