//! The gate under attack: nothing but the peer's own answers and checks makes a proof.

use std::net::SocketAddr;

use ringtrue_ice::{ComponentId, Credentials, FailureReason, Gate, Path, Refused};
use stun_types::message::MessageClass;

use crate::net::*;
use crate::stun::{self, ICE_CONTROLLING, Request};

const MUX: &[ComponentId] = &[ComponentId::Rtp];
const MALLORY: &str = "203.0.113.66:666";

fn mallory() -> SocketAddr {
    MALLORY.parse().unwrap()
}

fn why(peer: &Peer) -> Option<(FailureReason, usize)> {
    peer.seen.iter().find_map(|(_, _, seen)| match seen {
        Seen::Failed(reason, tried) => Some((*reason, *tried)),
        _ => None,
    })
}

/// The 183 never reaches alice: she has no password of bob's and sends no checks, but her agent
/// answers bob's, which were keyed with hers. Bob must not ring.
#[test]
fn a_lost_183() {
    let mut net = Net::new(Access::Open, Access::Open);
    net.prepare_default();
    let alice = net.description(ALICE);
    net.start(BOB, alice, MUX);
    net.run_for(ms(15_000));
    let bob = &net.peers[BOB];
    assert!(bob.session().path(FORK, ComponentId::Rtp).is_some());
    assert!(bob.proofs.is_empty());
    assert_eq!(why(bob), Some((FailureReason::PeerSilent, 1)));
    assert_eq!(
        bob.when(|seen| matches!(seen, Seen::Failed(..))),
        Some(10_000)
    );
}

/// Somebody on the way changes a letter of bob's password or ufrag in the answer.
#[test]
fn a_mangled_answer() {
    for ufrag in [false, true] {
        let mut net = Net::new(Access::Open, FULL_CONE);
        net.prepare_default();
        let alice = net.description(ALICE);
        net.start(BOB, alice, MUX);
        net.run_for(ms(30));
        let mut bob = net.description(BOB);
        let Credentials { ufrag: name, pwd } = &mut bob.credentials;
        let changed = if ufrag { name } else { pwd };
        changed.replace_range(3..4, "#");
        net.start(ALICE, bob, MUX);
        net.run_for(ms(12_000));
        assert!(net.peers.iter().all(|peer| peer.proofs.is_empty()));
        assert!(why(&net.peers[BOB]).is_some());
    }
}

/// Requests with a wrong password, a wrong ufrag or none are refused, seldom and briefly, and
/// leave no trace in the agent.
#[test]
fn forged_requests() {
    let mut net = Net::new(Access::Open, Access::Open);
    net.prepare_default();
    let (alice, bob) = (net.description(ALICE), net.description(BOB));
    net.start(BOB, alice.clone(), MUX);
    let to = net.peers[BOB].base(ComponentId::Rtp);
    let forged = |to: &Credentials, password: &str, id| {
        Request {
            id,
            to,
            from_ufrag: &alice.credentials.ufrag,
            password,
            role: (ICE_CONTROLLING, 1),
            use_candidate: true,
        }
        .to_bytes()
    };
    let stranger = Credentials {
        ufrag: "abcdefgh".into(),
        pwd: bob.credentials.pwd.clone(),
    };
    for id in 0..30 {
        net.fly(
            mallory(),
            to,
            forged(&bob.credentials, "guessed-guessed-guessed", id),
        );
        net.fly(
            mallory(),
            to,
            forged(&stranger, &bob.credentials.pwd, 100 + id),
        );
        net.fly(mallory(), to, stun::server_request(200 + id));
    }
    // Alice herself never checks.
    net.run_for(ms(900));
    let answers: Vec<u16> = net
        .sent
        .iter()
        .filter(|(_, packet)| packet.to == mallory())
        .map(|(_, packet)| {
            let read = stun::read(&packet.payload);
            assert_eq!(read.class, MessageClass::Error);
            read.error.unwrap()
        })
        .collect();
    assert_eq!(answers.len(), 10, "no reflector");
    assert!(answers.iter().all(|code| [400, 401].contains(code)));
    assert!(answers.contains(&400) && answers.contains(&401));
    let bob = &net.peers[BOB];
    assert!(bob.when(|seen| *seen == Seen::PeerBound).is_none());
    assert!(bob.proofs.is_empty());
    assert_eq!(bob.session().pairs_tried(FORK), 1, "no pair with mallory");
    assert!(!bob.session().accepts_media(FORK, Path::udp(to, mallory())));
}

/// A request of alice's, seen on the wire and sent again from elsewhere, is answered, for it may
/// be a NAT that has changed; but mallory cannot answer the check that follows.
#[test]
fn a_replayed_request_makes_no_path_to_the_replayer() {
    let mut net = Net::new(Access::Open, Access::Open);
    net.call(ms(20), MUX, ms(25));
    let seen = net
        .sent
        .iter()
        .find(|(_, packet)| {
            packet.sender == ALICE && stun::read(&packet.payload).class == MessageClass::Request
        })
        .map(|(_, packet)| packet.clone())
        .unwrap();
    net.fly(mallory(), seen.to, seen.payload);
    net.run_for(ms(5_000));
    let path = net.peers[BOB]
        .session()
        .path(FORK, ComponentId::Rtp)
        .unwrap();
    assert_eq!(path.remote, net.peers[ALICE].base(ComponentId::Rtp));
    assert_eq!(net.peers[BOB].proofs.len(), 1);
}

/// Mallory sees every check of bob's and answers with what she can make: no integrity, a guessed
/// one, an answer to another request. Alice is cut off, so that nobody else answers.
#[test]
fn forged_and_replayed_responses() {
    // An answer that alice gave in another call: the same keys, an older transaction.
    let mut earlier = Net::new(Access::Open, Access::Open);
    earlier.call(ms(20), MUX, ms(500));
    let old = earlier
        .sent
        .iter()
        .find(|(_, packet)| {
            packet.sender == ALICE && stun::read(&packet.payload).class == MessageClass::Success
        })
        .map(|(_, packet)| packet.payload.clone())
        .unwrap();

    let mut net = Net::new(Access::Open, Access::Blocked).seeded(9);
    net.prepare_default();
    let (mut alice, bob) = (net.description(ALICE), net.description(BOB));
    alice.credentials = earlier.description(ALICE).credentials;
    let alice_at = net.peers[ALICE].base(ComponentId::Rtp);
    let bob_at = net.peers[BOB].base(ComponentId::Rtp);
    net.start(BOB, alice, MUX);
    net.pump();
    for _ in 0..200 {
        net.run_for(ms(20));
        let checks: Vec<Vec<u8>> = std::mem::take(&mut net.sent)
            .into_iter()
            .filter(|(_, packet)| packet.sender == BOB)
            .map(|(_, packet)| packet.payload)
            .collect();
        for check in checks {
            for answer in [
                stun::success(&check, bob_at, None),
                stun::success(&check, bob_at, Some("guessed-guessed-guessed")),
                stun::success(&check, bob_at, Some(&bob.credentials.pwd)),
                stun::error(&check, 487, None),
                stun::error(&check, 400, None),
                old.clone(),
            ] {
                net.inject(BOB, ComponentId::Rtp, alice_at, &answer);
                net.inject(BOB, ComponentId::Rtp, mallory(), &answer);
            }
        }
    }
    let bob = &net.peers[BOB];
    assert!(bob.session().path(FORK, ComponentId::Rtp).is_none());
    assert!(bob.proofs.is_empty());
}

/// RFC 8445 section 7.2.5.2.1: alice's true answer, from another address.
#[test]
fn an_answer_from_elsewhere_validates_nothing() {
    let mut net = Net::new(Access::Open, Access::Blocked);
    net.prepare_default();
    let (alice, bob) = (net.description(ALICE), net.description(BOB));
    // Gathering used the phone's pacer too.
    net.run_for(ms(5));
    net.start(BOB, alice.clone(), MUX);
    let bob_at = net.peers[BOB].base(ComponentId::Rtp);
    let check = net.sent.last().unwrap().1.payload.clone();
    let answer = stun::success(&check, bob_at, Some(&alice.credentials.pwd));
    net.inject(BOB, ComponentId::Rtp, mallory(), &answer);
    let alice_at = net.peers[ALICE].base(ComponentId::Rtp);
    // The transaction is over: the same answer, replayed from the right address, is too late.
    net.inject(BOB, ComponentId::Rtp, alice_at, &answer);
    let session = net.peers[BOB].session();
    assert!(session.path(FORK, ComponentId::Rtp).is_none());
    // Alice's request revives the pair.
    let request = Request {
        id: 5,
        to: &bob.credentials,
        from_ufrag: &alice.credentials.ufrag,
        password: &bob.credentials.pwd,
        role: (ICE_CONTROLLING, 1),
        use_candidate: false,
    };
    net.inject(BOB, ComponentId::Rtp, alice_at, &request.to_bytes());
    net.run_for(ms(30));
    let check = net.sent.last().unwrap().1.payload.clone();
    assert_eq!(stun::read(&check).class, MessageClass::Request);
    let answer = stun::success(&check, bob_at, Some(&alice.credentials.pwd));
    net.inject(BOB, ComponentId::Rtp, alice_at, &answer);
    assert_eq!(net.peers[BOB].proofs.len(), 1);
}

/// CANCEL at every moment: a proof that was given before, or that would come after, opens nothing.
#[test]
fn cancel_at_every_moment() {
    for after in 0..80 {
        let mut net = Net::new(ADDRESS_RESTRICTED, PORT_RESTRICTED);
        net.prepare_default();
        let alice = net.description(ALICE);
        net.run_for(ms(10));
        net.start(BOB, alice, MUX);
        let now = net.now;
        let fork_two = net.description(BOB);
        net.peers[ALICE]
            .session_mut()
            .start(now, FORK, fork_two, MUX)
            .unwrap();
        net.run_for(ms(after));
        net.peers[BOB].session_mut().stop(FORK);
        let answered = net.sent.len();
        net.run_for(ms(3_000));
        let from_bob = net.sent[answered..]
            .iter()
            .filter(|(_, packet)| packet.sender == BOB)
            .count();
        assert_eq!(from_bob, 0, "after CANCEL at {after} ms bob is silent");
        let bob = &mut net.peers[BOB];
        assert!(bob.session().path(FORK, ComponentId::Rtp).is_none());
        assert!(bob.session().gate(FORK).is_none());
        let gate: Gate = bob.gates.remove(&FORK).unwrap();
        if let Some((_, proof)) = bob.proofs.pop() {
            assert_eq!(gate.open(proof).err(), Some(Refused::Void));
        }
    }
}

/// The proof of one call at the gate of another, both calls alive.
#[test]
fn another_sessions_proof() {
    let mut one = Net::new(Access::Open, Access::Open);
    one.call(ms(10), MUX, ms(500));
    let mut two = Net::new(Access::Open, Access::Open).seeded(7);
    two.call(ms(10), MUX, ms(500));
    let gate = one.peers[BOB].gates.remove(&FORK).unwrap();
    let (_, foreign) = two.peers[BOB].proofs.pop().unwrap();
    assert_eq!(gate.open(foreign).err(), Some(Refused::OtherAgent));

    let gate = two.peers[BOB].gates.remove(&FORK).unwrap();
    let (_, own) = one.peers[BOB].proofs.pop().unwrap();
    assert_eq!(gate.open(own).err(), Some(Refused::OtherAgent));
}

#[test]
fn the_right_proof_opens_and_a_dropped_session_voids() {
    let mut net = Net::new(Access::Open, Access::Open);
    net.call(ms(10), MUX, ms(500));
    for index in [ALICE, BOB] {
        let peer = &mut net.peers[index];
        let gate = peer.gates.remove(&FORK).unwrap();
        let (_, proof) = peer.proofs.pop().unwrap();
        assert_eq!(proof.local_ufrag().len(), 8);
        assert!(gate.open(proof).unwrap().verified());
    }

    let mut net = Net::new(Access::Open, Access::Open);
    net.call(ms(10), MUX, ms(500));
    let gate = net.peers[BOB].gates.remove(&FORK).unwrap();
    let (_, proof) = net.peers[BOB].proofs.pop().unwrap();
    net.peers[BOB].session = None;
    assert_eq!(gate.open(proof).err(), Some(Refused::Void));
}

/// Whatever arrives, nothing panics, and nothing but valid requests is answered with success.
#[test]
fn every_flipped_byte() {
    let mut net = Net::new(Access::Open, Access::Open);
    net.call(ms(10), MUX, ms(100));
    let packets: Vec<Packet> = net.sent.iter().map(|(_, p)| p.clone()).collect();
    let before = net.peers[BOB].seen.len();
    let from = net.peers[ALICE].base(ComponentId::Rtp);
    for packet in packets.iter().filter(|packet| packet.sender == ALICE) {
        // Up to MESSAGE-INTEGRITY, which with FINGERPRINT takes the last 32 bytes.
        for position in 0..packet.payload.len() - 8 {
            let mut changed = packet.payload.clone();
            changed[position] ^= 0x55;
            let sent = net.sent.len();
            net.inject(BOB, ComponentId::Rtp, from, &changed);
            net.inject(BOB, ComponentId::Rtp, from, &packet.payload[..position]);
            let success = net.sent[sent..]
                .iter()
                .any(|(_, packet)| stun::read(&packet.payload).class == MessageClass::Success);
            assert!(!success, "byte {position}");
        }
    }
    assert_eq!(net.peers[BOB].seen.len(), before);
}

/// A request that nobody understands in full: 420, protected, and no trigger.
#[test]
fn unknown_comprehension_required_attributes() {
    let mut net = Net::new(Access::Open, Access::Blocked);
    net.prepare_default();
    let (alice, bob) = (net.description(ALICE), net.description(BOB));
    net.start(BOB, alice.clone(), MUX);
    let request = Request {
        id: 9,
        to: &bob.credentials,
        from_ufrag: &alice.credentials.ufrag,
        password: &bob.credentials.pwd,
        role: (0x7abc, 1),
        use_candidate: false,
    };
    let from = net.peers[ALICE].base(ComponentId::Rtp);
    net.inject(BOB, ComponentId::Rtp, from, &request.to_bytes());
    let (_, answer) = net.sent.last().unwrap();
    assert_eq!(stun::read(&answer.payload).error, Some(420));
    assert!(stun::is_keyed_with(&answer.payload, &bob.credentials.pwd));
    assert!(
        net.peers[BOB]
            .when(|seen| *seen == Seen::PeerBound)
            .is_none()
    );
}
