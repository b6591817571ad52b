//! Ordinary calls between all kinds of access.

use ringtrue_ice::ComponentId;

use crate::net::*;

const MUX: &[ComponentId] = &[ComponentId::Rtp];
const NO_MUX: &[ComponentId] = &[ComponentId::Rtp, ComponentId::Rtcp];
const KINDS: [Access; 6] = [
    Access::Open,
    FULL_CONE,
    ADDRESS_RESTRICTED,
    PORT_RESTRICTED,
    SYMMETRIC,
    Access::Blocked,
];

#[test]
fn a_proof_exactly_where_a_path_exists() {
    for alice in KINDS {
        for bob in KINDS {
            for components in [MUX, NO_MUX] {
                let mut net = Net::new(alice, bob);
                net.call(ms(30), components, ms(12_000));
                let story = format!("{alice:?} calls {bob:?}, {components:?}");
                let exists = path_exists(alice, bob);
                for peer in &net.peers {
                    assert_eq!(
                        peer.validated().is_some(),
                        exists,
                        "{story}: {:?}",
                        peer.seen
                    );
                    assert_eq!(peer.selected().is_some(), exists, "{story}");
                    assert_eq!(peer.proofs.len(), usize::from(exists), "{story}");
                }
                for component in components {
                    let paths = [ALICE, BOB].map(|i| net.peers[i].session().path(FORK, *component));
                    assert_eq!(paths[0].is_some(), exists, "{story}");
                    assert_eq!(paths[1].is_some(), exists, "{story}");
                }
            }
        }
    }
}

/// From the INVITE to the proof at the callee, who has gathered before; s is the one-way delay of
/// the signalling, d that of media. Without mux there are two pairs more, the nomination of
/// component 1 may come first, and up to 2d.
#[test]
fn the_call_setup_budget() {
    let delays = [
        (10, 10),
        (50, 50),
        (150, 150),
        (50, 20),
        (20, 80),
        (5, 40),
        (200, 30),
        (33, 47),
        (600, 40),
        (7, 3),
    ];
    for (s, d) in delays {
        for alice in KINDS {
            for bob in KINDS {
                if !path_exists(alice, bob) {
                    continue;
                }
                for components in [MUX, NO_MUX] {
                    let mut net = Net::new(alice, bob);
                    net.delay = ms(d);
                    net.call(ms(s), components, ms(3_000));
                    let mut budget = if alice == SYMMETRIC {
                        2 * s + 3 * d + 50
                    } else {
                        (s + 2 * d).max(2 * s + d) + 50
                    };
                    if components == NO_MUX {
                        budget += 2 * 20 + 2 * d;
                    }
                    let proven = net.peers[BOB].validated().unwrap();
                    assert!(
                        proven <= u128::from(budget),
                        "s {s}, d {d}, {alice:?} calls {bob:?}, {components:?}: {proven} > {budget}"
                    );
                }
            }
        }
    }
}

/// Without mux, component 2 is dead on the way: nothing is proven, though component 1 is fine.
#[test]
fn one_component_is_no_path() {
    let mut net = Net::new(Access::Open, ADDRESS_RESTRICTED);
    net.prepare_default();
    let dead = [ALICE, BOB].map(|index| net.peers[index].base(ComponentId::Rtcp));
    net.tap = Some(Box::new(move |_, packet| {
        if dead.contains(&packet.base) {
            Fate::Drop
        } else {
            Fate::Pass
        }
    }));
    net.exchange(ms(20), NO_MUX);
    net.run_for(ms(12_000));
    for peer in &net.peers {
        assert!(peer.session().path(FORK, ComponentId::Rtp).is_some());
        assert!(peer.session().path(FORK, ComponentId::Rtcp).is_none());
        assert!(peer.proofs.is_empty());
        assert_eq!(
            peer.when(|seen| matches!(
                seen,
                Seen::Failed(ringtrue_ice::FailureReason::PatienceOver, _)
            ))
            .map(|at| at / 100),
            peer.when(|seen| matches!(seen, Seen::Checking(_)))
                .map(|at| at / 100 + 100)
        );
    }
}

/// A third of all datagrams is lost: the dense re-checks prove the path within two seconds in
/// nearly every call, the retransmissions in the rest.
#[test]
fn heavy_loss() {
    let mut proven_after: Vec<u128> = Vec::new();
    for seed in 0..200 {
        let mut net = Net::new(PORT_RESTRICTED, ADDRESS_RESTRICTED).seeded(seed);
        net.prepare_default();
        net.loss = 33;
        net.exchange(ms(30), MUX);
        net.run_for(ms(10_000));
        proven_after.extend(net.peers[BOB].validated());
    }
    proven_after.sort_unstable();
    assert!(proven_after.len() >= 199, "{}", proven_after.len());
    assert!(proven_after[100] < 200, "half: {}", proven_after[100]);
    assert!(
        proven_after[180] < 1_000,
        "nine in ten: {}",
        proven_after[180]
    );
}

/// RFC 8445 section 6.1.2.2: a peer that neither multiplexes nor has a candidate for RTCP leaves the
/// stream with one component, whatever its own agent does.
#[test]
fn a_peer_without_candidates_for_rtcp_is_called_for_rtp_alone() {
    for (ours, theirs) in [(ALICE, BOB), (BOB, ALICE)] {
        let mut net = Net::new(Access::Open, Access::Open);
        net.prepare_default();
        let [mut their_description, our_description] =
            [theirs, ours].map(|index| net.description(index));
        their_description
            .candidates
            .retain(|candidate| candidate.component == ComponentId::Rtp);
        net.start(ours, their_description, NO_MUX);
        net.start(theirs, our_description, MUX);
        net.run_for(ms(3_000));
        for index in [ours, theirs] {
            assert!(net.peers[index].validated().is_some());
            assert!(net.peers[index].selected().is_some());
        }
    }
}
