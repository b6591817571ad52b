//! One INVITE, several early dialogs: an agent for each, on the same sockets.

use ringtrue_ice::{ComponentId, ForkId, IceDescription, Refused, StartRefused};

use crate::net::*;

const MUX: &[ComponentId] = &[ComponentId::Rtp];

fn renamed(mut description: IceDescription, ufrag: &str) -> IceDescription {
    description.credentials.ufrag = ufrag.into();
    description
}

/// Two phones answer alice's one offer. `carol` plays in bob's host, behind the same address but
/// on her own session, which is bob's second fork for alice.
#[test]
fn two_forks_each_with_its_own_proof() {
    let mut net = Net::new(ADDRESS_RESTRICTED, Access::Open);
    net.prepare_default();
    let (alice, bob) = (net.description(ALICE), net.description(BOB));
    net.start(BOB, alice, MUX);
    net.run_for(ms(20));
    let now = net.now;
    let (one, two) = (ForkId(1), ForkId(2));
    let session = net.peers[ALICE].session_mut();
    // The second fork never answers a check: same candidates, but another ufrag and password.
    let mut carol = renamed(bob.clone(), "carolcarol");
    carol.credentials.pwd = "carol-carol-carol-carol-".into();
    session.start(now, two, carol, MUX).unwrap();
    session.start(now, one, bob, MUX).unwrap();
    let gates = [one, two].map(|fork| session.gate(fork).unwrap());
    net.run_for(ms(1_000));
    let peer = &mut net.peers[ALICE];
    assert_eq!(peer.proofs.len(), 1, "carol's fork proves nothing");
    let (fork, proof) = peer.proofs.pop().unwrap();
    assert_eq!(fork, one);
    assert!(peer.session().path(two, ComponentId::Rtp).is_none());
    // Bob's proof does not open carol's gate.
    let [_, carols] = gates;
    assert_eq!(carols.open(proof).err(), Some(Refused::OtherAgent));
}

/// Bob's checks come before his answer: they are answered, kept, and become triggered checks of
/// the right fork when it is known.
#[test]
fn early_checks_find_their_fork() {
    let mut net = Net::new(FULL_CONE, PORT_RESTRICTED);
    net.prepare_default();
    let (alice, bob) = (net.description(ALICE), net.description(BOB));
    net.start(BOB, alice, MUX);
    net.run_for(ms(300));
    let bound = |net: &Net| {
        let bound = net.peers[ALICE].seen.iter();
        bound
            .filter(|(_, _, seen)| *seen == Seen::PeerBound)
            .map(|(_, fork, _)| *fork)
            .collect::<Vec<_>>()
    };
    let now = net.now;
    let session = net.peers[ALICE].session_mut();
    session
        .start(now, ForkId(7), renamed(bob.clone(), "somebody"), MUX)
        .unwrap();
    net.pump();
    assert!(bound(&net).is_empty(), "these were not somebody's checks");
    let session = net.peers[ALICE].session_mut();
    session.start(now, ForkId(8), bob, MUX).unwrap();
    let first = net.sent.len();
    net.run_for(ms(30));
    assert_eq!(bound(&net), [ForkId(8)]);
    // Fork 7's first check goes by priority; fork 8's, triggered, straight to bob's NAT.
    let public = "203.0.113.2".parse::<std::net::IpAddr>().unwrap();
    assert!(
        net.sent[first..]
            .iter()
            .filter(|(_, packet)| packet.sender == ALICE)
            .take(2)
            .any(|(_, packet)| packet.to.ip() == public)
    );
    assert_eq!(net.peers[ALICE].proofs.len(), 1);
}

#[test]
fn starts_that_are_refused() {
    let mut net = Net::new(Access::Open, Access::Open);
    net.prepare_default();
    let bob = net.description(BOB);
    let now = net.now;
    let session = net.peers[ALICE].session_mut();
    let mut start = |fork, remote, components| session.start(now, ForkId(fork), remote, components);
    assert_eq!(
        start(1, bob.clone(), &[][..]),
        Err(StartRefused::NoComponent)
    );
    for ufrag in [String::new(), "a:bcd".into(), "x".repeat(257)] {
        let bad = renamed(bob.clone(), &ufrag);
        assert_eq!(start(1, bad, MUX), Err(StartRefused::BadCredentials));
    }
    assert_eq!(start(1, bob.clone(), MUX), Ok(()));
    assert_eq!(
        start(1, renamed(bob.clone(), "other"), MUX),
        Err(StartRefused::AlreadyStarted)
    );
    assert_eq!(
        start(2, bob.clone(), MUX),
        Err(StartRefused::SameRemoteUfrag)
    );
    for fork in 2..33 {
        let remote = renamed(bob.clone(), &format!("fork{fork}"));
        assert_eq!(start(fork, remote, MUX), Ok(()));
    }
    assert_eq!(
        start(99, renamed(bob.clone(), "toomany"), MUX),
        Err(StartRefused::TooManyForks { limit: 32 })
    );
    session.stop_all();
    assert_eq!(
        session.start(now, ForkId(100), bob, MUX),
        Err(StartRefused::Stopped)
    );
}

/// The other fork won: the loser's agent is stopped, its peer meets silence, the winner goes on.
#[test]
fn a_stopped_fork_is_silent_and_the_other_lives() {
    let mut net = Net::new(Access::Open, Access::Open);
    net.prepare_default();
    let (alice, bob) = (net.description(ALICE), net.description(BOB));
    net.start(BOB, alice, MUX);
    let now = net.now;
    let session = net.peers[ALICE].session_mut();
    session
        .start(now, ForkId(2), renamed(bob.clone(), "carolcarol"), MUX)
        .unwrap();
    session.start(now, FORK, bob, MUX).unwrap();
    net.run_for(ms(500));
    let tried = net.peers[ALICE].session().pairs_tried(ForkId(2));
    net.peers[ALICE].session_mut().stop(ForkId(2));
    assert_eq!(net.peers[ALICE].session().pairs_tried(ForkId(2)), tried);
    net.run_for(ms(60_000));
    for peer in &net.peers {
        assert!(peer.session().path(FORK, ComponentId::Rtp).is_some());
    }
}
