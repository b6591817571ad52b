//! Candidates that come while the checks run (RFC 8838).

use std::net::SocketAddr;

use ringtrue_ice::{Candidate, CandidateType, ComponentId, Credentials, IceDescription, Trickle};

use crate::net::*;

const MUX: &[ComponentId] = &[ComponentId::Rtp];

/// The description without its candidates, and those.
fn emptied(mut whole: IceDescription) -> (IceDescription, Vec<Candidate>) {
    let candidates = std::mem::take(&mut whole.candidates);
    whole.trickle = Trickle::Open;
    (whole, candidates)
}

fn trickle(
    net: &mut Net,
    index: usize,
    credentials: &Credentials,
    candidates: &[Candidate],
    end: bool,
) -> bool {
    let now = net.now;
    let session = net.peers[index].session_mut();
    session.handle_trickled(now, FORK, credentials, candidates, end)
}

/// Both sides start without a single candidate; both are told one second later.
#[test]
fn an_empty_checklist_waits_and_is_filled_later() {
    for (alice, bob) in [
        (Access::Open, Access::Open),
        (PORT_RESTRICTED, PORT_RESTRICTED),
        (SYMMETRIC, ADDRESS_RESTRICTED),
    ] {
        let mut net = Net::new(alice, bob);
        net.prepare_default();
        let (of_alice, alices) = emptied(net.description(ALICE));
        let (of_bob, bobs) = emptied(net.description(BOB));
        net.start(BOB, of_alice.clone(), MUX);
        net.start(ALICE, of_bob.clone(), MUX);
        net.run_for(ms(1_000));
        assert_eq!(net.peers[ALICE].validated(), None);
        assert!(trickle(
            &mut net,
            BOB,
            &of_alice.credentials,
            &alices,
            false
        ));
        assert!(trickle(&mut net, ALICE, &of_bob.credentials, &bobs, true));
        net.run_for(ms(1_000));
        for index in [ALICE, BOB] {
            let validated = net.peers[index].validated();
            assert!(
                validated.is_some_and(|at| at < 1_700),
                "{alice:?} {bob:?} {validated:?}"
            );
        }
    }
}

#[test]
fn other_generations_and_what_comes_after_the_end_are_ignored() {
    let mut net = Net::new(Access::Open, Access::Open);
    net.prepare_default();
    let (of_alice, alices) = emptied(net.description(ALICE));
    net.start(BOB, of_alice.clone(), MUX);
    let good = of_alice.credentials.clone();
    let other = |change: fn(&mut Credentials)| {
        let mut credentials = good.clone();
        change(&mut credentials);
        credentials
    };
    for stale in [other(|c| c.ufrag.push('x')), other(|c| c.pwd.push('x'))] {
        assert!(!trickle(&mut net, BOB, &stale, &alices, true));
    }
    assert!(trickle(&mut net, BOB, &good, &[], true));
    assert!(
        !trickle(&mut net, BOB, &good, &alices, false),
        "after the end"
    );
    net.run_for(ms(2_000));
    assert!(net.peers[BOB].session().transaction_starts(FORK).is_empty());
}

#[test]
fn after_a_restart_the_candidates_of_before_are_ignored() {
    let mut net = Net::new(Access::Open, Access::Open);
    net.prepare_default();
    let (of_alice, alices) = emptied(net.description(ALICE));
    net.start(BOB, of_alice.clone(), MUX);
    let now = net.now;
    for index in [ALICE, BOB] {
        let session = net.peers[index].session_mut();
        let gathered = session.gathered().clone();
        // Alice has no agent yet, which needs none to be told anew.
        let _ = session.restart(now, FORK, gathered);
    }
    let mut again = of_alice.clone();
    again.credentials.ufrag = "again123".to_owned();
    let old = of_alice.credentials;
    assert!(
        !trickle(&mut net, BOB, &old, &alices, false),
        "while it restarts"
    );
    net.start(BOB, again.clone(), MUX);
    assert!(!trickle(&mut net, BOB, &old, &alices, false));
    net.run_for(ms(1_000));
    assert!(net.peers[BOB].session().transaction_starts(FORK).is_empty());
    assert!(trickle(&mut net, BOB, &again.credentials, &alices, false));
    net.run_for(ms(100));
    assert!(!net.peers[BOB].session().transaction_starts(FORK).is_empty());
}

/// As many as anybody likes to name: a hundred are sent to, and no more.
#[test]
fn the_pair_limit_holds_for_what_is_trickled() {
    let mut net = Net::new(Access::Open, Access::Open);
    net.prepare_default();
    let (of_alice, alices) = emptied(net.description(ALICE));
    net.start(BOB, of_alice.clone(), MUX);
    for number in 0..1_000_u16 {
        let strange = Candidate {
            foundation: number.to_string(),
            component: ComponentId::Rtp,
            priority: 2_000_000_000 + u32::from(number),
            address: SocketAddr::from(([198, 18, 0, 1], 10_000 + number)),
            kind: CandidateType::Host,
            related: None,
            protocol: alices[0].protocol,
        };
        let credentials = of_alice.credentials.clone();
        assert!(trickle(&mut net, BOB, &credentials, &[strange], false));
    }
    net.run_for(ms(9_000));
    assert!(net.peers[BOB].session().pairs_tried(FORK) <= 100);
    // Who checks of its own accord still finds room.
    let of_bob = net.description(BOB);
    net.start(ALICE, of_bob, MUX);
    net.run_for(ms(500));
    assert!(net.peers[BOB].validated().is_some());
}
