//! ICE restarts: RFC 8445 section 9, RFC 8839 section 4.4.

use ringtrue_ice::{ComponentId, Path, Refused, StartRefused, UpdatedRemote};
use stun_types::message::MessageClass;

use crate::net::*;
use crate::stun;

const MUX: &[ComponentId] = &[ComponentId::Rtp];
const NO_MUX: &[ComponentId] = &[ComponentId::Rtp, ComponentId::Rtcp];

fn path(net: &Net, index: usize) -> Option<Path> {
    net.peers[index].session().path(FORK, ComponentId::Rtp)
}

fn restart(net: &mut Net, index: usize) {
    let now = net.now;
    let session = net.peers[index].session_mut();
    let gathered = session.gathered().clone();
    session.restart(now, FORK, gathered).unwrap();
}

/// The offer, the answer and what follows, with the paths looked at all the time.
fn restart_by(net: &mut Net, offerer: usize, signalling: u64, components: &[ComponentId]) {
    let answerer = 1 - offerer;
    restart(net, offerer);
    let offer = net.description(offerer);
    watch(net, signalling);
    let now = net.now;
    let verdict = net.peers[answerer]
        .session_mut()
        .handle_updated_remote(now, FORK, &offer);
    assert_eq!(verdict, UpdatedRemote::Restart);
    restart(net, answerer);
    net.start(answerer, offer, components);
    let answer = net.description(answerer);
    watch(net, signalling);
    net.start(offerer, answer, components);
}

fn watch(net: &mut Net, milliseconds: u64) {
    for _ in 0..milliseconds {
        net.run_for(ms(1));
        for index in [ALICE, BOB] {
            assert!(
                path(net, index).is_some(),
                "media has no way at {:?}",
                net.elapsed()
            );
        }
    }
}

fn count(net: &Net, index: usize, wanted: impl Fn(&Seen) -> bool) -> usize {
    let seen = net.peers[index].seen.iter();
    seen.filter(|(_, _, seen)| wanted(seen)).count()
}

#[test]
fn either_side_restarts_without_a_gap_behind_every_nat() {
    let pairs = [
        (Access::Open, Access::Open),
        (PORT_RESTRICTED, PORT_RESTRICTED),
        (SYMMETRIC, ADDRESS_RESTRICTED),
        (FULL_CONE, SYMMETRIC),
    ];
    for (alice, bob) in pairs {
        for offerer in [ALICE, BOB] {
            for components in [MUX, NO_MUX] {
                let mut net = Net::new(alice, bob);
                net.call(ms(20), components, ms(5_000));
                for index in [ALICE, BOB] {
                    assert!(net.peers[index].selected().is_some());
                }
                let roles = [ALICE, BOB].map(|index| net.peers[index].session().role(FORK));
                let before = [ALICE, BOB].map(|index| net.description(index).credentials);
                restart_by(&mut net, offerer, 50, components);
                watch(&mut net, 10_000);
                for index in [ALICE, BOB] {
                    let after = net.description(index).credentials;
                    assert_ne!(after.ufrag, before[index].ufrag);
                    assert_ne!(after.pwd, before[index].pwd);
                    assert_eq!(net.peers[index].session().role(FORK), roles[index]);
                    let selected = |seen: &Seen| matches!(seen, Seen::Selected(_));
                    let validated = |seen: &Seen| matches!(seen, Seen::Validated(_));
                    assert!(
                        count(&net, index, selected) >= 2,
                        "{offerer} {:?}",
                        net.peers[index].seen
                    );
                    assert_eq!(count(&net, index, validated), 2);
                }
                // Each speaks on the pair that the other one listens on.
                watch(&mut net, 60_000);
                assert_eq!(count(&net, ALICE, |seen| *seen == Seen::ConsentLost), 0);
                assert_eq!(count(&net, BOB, |seen| *seen == Seen::ConsentLost), 0);
            }
        }
    }
}

#[test]
fn a_restart_while_it_rings_voids_the_proof_and_its_gate() {
    let mut net = Net::new(Access::Open, Access::Open);
    net.call(ms(20), MUX, ms(500));
    let (_, old_proof) = net.peers[BOB].proofs.pop().unwrap();
    let old_gate = net.peers[BOB].gates.remove(&FORK).unwrap();
    // The old proof at the new gate, and at its own: nothing rings.
    restart(&mut net, BOB);
    let new_gate = net.peers[BOB].session().gate(FORK).unwrap();
    assert_eq!(
        new_gate.open(old_proof).unwrap_err(),
        Refused::OlderGeneration
    );

    let mut net = Net::new(Access::Open, Access::Open);
    net.call(ms(20), MUX, ms(500));
    let (_, proof) = net.peers[BOB].proofs.pop().unwrap();
    let gate = net.peers[BOB].gates.remove(&FORK).unwrap();
    restart_by(&mut net, ALICE, 50, MUX);
    assert_eq!(gate.open(proof).unwrap_err(), Refused::OlderGeneration);
    drop(old_gate);

    // What is proven anew opens the new gate, and that one only.
    net.run_for(ms(1_000));
    let (_, proof) = net.peers[BOB].proofs.pop().unwrap();
    let gate = net.peers[BOB].gates.remove(&FORK).unwrap();
    let ufrag = net.description(BOB).credentials.ufrag;
    assert_eq!(proof.local_ufrag(), ufrag);
    assert!(gate.open(proof).unwrap().verified());
}

/// The path of before goes on carrying media, but what it proves is worth nothing.
#[test]
fn while_the_answer_is_awaited_nothing_is_proven() {
    let mut net = Net::new(Access::Open, Access::Open);
    net.prepare_default();
    net.exchange(ms(20), MUX);
    // Before the first proof.
    restart(&mut net, BOB);
    net.run_for(ms(20_000));
    assert!(net.peers[BOB].proofs.is_empty());
}

#[test]
fn a_refused_restart_leaves_the_call_as_it_was() {
    let mut net = Net::new(PORT_RESTRICTED, PORT_RESTRICTED);
    net.call(ms(20), MUX, ms(5_000));
    let (before, way) = (net.description(ALICE), path(&net, ALICE));
    restart(&mut net, ALICE);
    watch(&mut net, 500);
    net.peers[ALICE].session_mut().abandon_restart(FORK);
    assert_eq!(net.description(ALICE), before);
    watch(&mut net, 60_000);
    assert_eq!(path(&net, ALICE), way);
    // And the next one may be accepted.
    restart_by(&mut net, BOB, 20, MUX);
    watch(&mut net, 3_000);
}

#[test]
fn what_the_peer_says_while_our_restart_waits() {
    let mut net = Net::new(Access::Open, Access::Open);
    net.call(ms(20), MUX, ms(2_000));
    restart(&mut net, ALICE);
    let old = net.description(BOB);
    let now = net.now;
    let alice = net.peers[ALICE].session_mut();
    assert_eq!(
        alice.handle_updated_remote(now, FORK, &old),
        UpdatedRemote::NoRestart
    );
    // An answer that does not restart is none to a restart.
    assert_eq!(
        alice.start(now, FORK, old, MUX),
        Err(StartRefused::SameRemoteUfrag)
    );
    restart(&mut net, BOB);
    let new = net.description(BOB);
    let alice = net.peers[ALICE].session_mut();
    assert_eq!(
        alice.handle_updated_remote(now, FORK, &new),
        UpdatedRemote::Restart
    );
}

#[test]
fn consent_that_was_lost_comes_back_by_a_restart() {
    let mut net = Net::new(PORT_RESTRICTED, ADDRESS_RESTRICTED);
    net.call(ms(20), MUX, ms(2_000));
    net.tap = Some(Box::new(|_, _| Fate::Drop));
    net.run_for(ms(40_000));
    for index in [ALICE, BOB] {
        assert_eq!(count(&net, index, |seen| *seen == Seen::ConsentLost), 1);
        assert!(path(&net, index).is_none());
    }
    net.tap = None;
    restart(&mut net, BOB);
    let offer = net.description(BOB);
    restart(&mut net, ALICE);
    net.start(ALICE, offer, MUX);
    let answer = net.description(ALICE);
    net.start(BOB, answer, MUX);
    net.run_for(ms(1_000));
    for index in [ALICE, BOB] {
        let (_, proof) = net.peers[index].proofs.pop().unwrap();
        let gate = net.peers[index].gates.remove(&FORK).unwrap();
        assert!(gate.open(proof).is_ok());
    }
    watch(&mut net, 60_000);
}

/// Once the new pairs are selected, nobody is asked on the old ones any more.
#[test]
fn the_old_session_ends_after_the_new_one_has_taken_over() {
    let mut net = Net::new(Access::Open, Access::Open);
    net.call(ms(20), MUX, ms(2_000));
    let old = net.description(ALICE).credentials.ufrag;
    restart_by(&mut net, ALICE, 20, MUX);
    net.run_for(ms(5_000));
    net.sent.clear();
    net.run_for(ms(30_000));
    let asked = |packet: &Packet| stun::read(&packet.payload).class == MessageClass::Request;
    let requests: Vec<_> = net
        .sent
        .iter()
        .filter(|(_, packet)| asked(packet))
        .collect();
    assert!(requests.len() > 8, "consent goes on");
    for (_, packet) in requests {
        assert!(!String::from_utf8_lossy(&packet.payload).contains(&old));
    }
}
