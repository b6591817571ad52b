//! Agents that others wrote, against ours: `rice-proto`, and `is` of the str0m project.
//!
//! Through every pairing of NATs, with either side controlling, each connects with ours wherever
//! two of ours do, and nowhere does ours make a proof without a path. What `rice-proto` 0.4.3
//! cannot do is listed by world, never skipped: there ours must still make its proof, and two
//! agents of `rice-proto` must fail between themselves, so that a release that mends it fails the
//! test.

mod agent;
mod call;
mod is_agent;
mod line;
mod ours;
mod rice;

use agent::Make::{self, Is, Ours, Rice};
use call::Access::{AddressRestricted, FullCone, PortRestricted, Symmetric};
use call::{Call, Outcome, Place};
use ringtrue_ice::Role;

const IN_ORDER: [Role; 2] = [Role::Controlling, Role::Controlled];

/// Where a controlled agent of `rice-proto` never selects the pair that its peer nominates.
///
/// It is behind a NAT whose mapping is the same for all, and its first check was lost in the
/// filter of the peer's NAT. It then holds several checks of one pair; the one that carries the
/// nomination succeeds, is found equal to another one of them (its `check_success`, second case),
/// that other one goes on the valid list, and the search for a *nominated* check there fails
/// ("unknown nomination"). Later nominations of the pair change nothing.
const NOMINATION_GETS_LOST: [Place; 8] = [
    Place::Apart(AddressRestricted, FullCone),
    Place::Apart(AddressRestricted, AddressRestricted),
    Place::Apart(AddressRestricted, PortRestricted),
    Place::Apart(PortRestricted, FullCone),
    Place::Apart(PortRestricted, AddressRestricted),
    Place::Apart(PortRestricted, PortRestricted),
    Place::Apart(Symmetric, FullCone),
    Place::Apart(Symmetric, AddressRestricted),
];

/// Where an agent of `rice-proto` with two components leaves its NAT closed for RTCP.
///
/// RFC 8445 section 6.1.4.2 keeps the second component's pair frozen while one of its foundation
/// is in progress, and here the first component's pair, towards the mapping that the peer's
/// symmetric NAT made for the STUN server, is in progress until all retransmissions are over.
/// Nothing that the peer sends can open this side's filter; ours does not wait for the first.
const RTCP_STAYS_FROZEN: [Place; 2] = [
    Place::Apart(AddressRestricted, Symmetric),
    Place::Apart(Symmetric, AddressRestricted),
];

fn call(place: Place, makes: [Make; 2], roles: [Role; 2], components: usize) -> (Call, Outcome) {
    let call = Call {
        place,
        makes,
        roles,
        components,
    };
    (call, call.run())
}

/// Ours has its proof and its pairs where there is a path, and neither where there is none.
fn assert_ours_knows(call: &Call, outcome: &Outcome) {
    let path = call.place.has_path();
    for side in (0..2).filter(|side| call.makes[*side] == Ours) {
        let chosen = if path { call.components } else { 0 };
        assert_eq!(outcome.proofs[side], path, "{call}: {outcome:?}");
        assert_eq!(outcome.chosen[side], chosen, "{call}: {outcome:?}");
        assert_eq!(outcome.failed[side], !path, "{call}: {outcome:?}");
    }
}

fn assert_connects_where_a_path_is(makes: [Make; 2], roles: [Role; 2], components: usize) {
    let mut connected = 0;
    for place in Place::all() {
        let (call, outcome) = call(place, makes, roles, components);
        assert_ours_knows(&call, &outcome);
        assert_eq!(
            outcome.is_connected(),
            place.has_path(),
            "{call}: {outcome:?}"
        );
        connected += usize::from(outcome.is_connected());
    }
    // Of six by six and five with both behind one NAT.
    assert_eq!(connected, 27);
}

#[test]
fn two_of_ours_connect_wherever_a_path_is() {
    for components in [1, 2] {
        assert_connects_where_a_path_is([Ours, Ours], IN_ORDER, components);
    }
}

#[test]
fn is_connects_wherever_two_of_ours_do() {
    assert_connects_where_a_path_is([Ours, Is], IN_ORDER, 1);
    assert_connects_where_a_path_is([Is, Ours], IN_ORDER, 1);
}

#[test]
fn a_role_conflict_with_is_is_settled() {
    for role in [Role::Controlling, Role::Controlled] {
        // The tie-breakers of `is` are random; whoever wins, it ends well.
        for _ in 0..3 {
            assert_connects_where_a_path_is([Ours, Is], [role; 2], 1);
            assert_connects_where_a_path_is([Is, Ours], [role; 2], 1);
        }
    }
}

#[test]
fn a_controlling_rice_proto_connects_wherever_two_of_ours_do() {
    assert_connects_where_a_path_is([Rice, Ours], IN_ORDER, 1);
}

#[test]
fn a_controlled_rice_proto_connects_unless_it_loses_the_nomination() {
    for place in Place::all() {
        let (with_ours, outcome) = call(place, [Ours, Rice], IN_ORDER, 1);
        assert_ours_knows(&with_ours, &outcome);
        let lost = NOMINATION_GETS_LOST.contains(&place);
        let connects = place.has_path() && !lost;
        assert_eq!(outcome.is_connected(), connects, "{with_ours}: {outcome:?}");
        let (among_them, outcome) = call(place, [Rice, Rice], IN_ORDER, 1);
        assert_eq!(
            outcome.is_connected(),
            connects,
            "{among_them}: {outcome:?}"
        );
        if lost {
            assert_eq!(outcome.chosen, [1, 0], "{among_them}: {outcome:?}");
        }
    }
}

/// With two components `rice-proto` reports the pair of the one that was nominated last, twice, and
/// never that of the other (its `nominated_pair` names the same component for each): what it
/// reports is all that can be compared.
#[test]
fn rice_proto_with_two_components_lets_ours_make_its_proof() {
    for place in Place::all() {
        for makes in [[Ours, Rice], [Rice, Ours]] {
            let (with_ours, outcome) = call(place, makes, IN_ORDER, 2);
            let rice = usize::from(makes[1] == Rice);
            // The filter is on the side of `rice-proto`; the other way round ours opens its own.
            if RTCP_STAYS_FROZEN[rice] == place {
                assert_eq!(outcome.proofs, [false; 2], "{with_ours}: {outcome:?}");
                assert_eq!(outcome.chosen, [0; 2], "{with_ours}: {outcome:?}");
            } else {
                assert_ours_knows(&with_ours, &outcome);
                let reported = usize::from(place.has_path());
                assert_eq!(outcome.chosen[rice], reported, "{with_ours}: {outcome:?}");
            }
        }
        let (among_them, outcome) = call(place, [Rice, Rice], IN_ORDER, 2);
        let most = outcome.chosen.into_iter().max();
        assert!(most <= Some(1), "{among_them}: {outcome:?}");
        if RTCP_STAYS_FROZEN.contains(&place) {
            assert_eq!(outcome.chosen, [0; 2], "{among_them}: {outcome:?}");
        }
    }
}

/// Whoever wins: ours has its proof where a path is. Where `rice-proto` becomes the controlled one
/// it may lose the nomination, as above.
#[test]
fn a_role_conflict_with_rice_proto_is_settled() {
    for role in [Role::Controlling, Role::Controlled] {
        for place in Place::all() {
            for makes in [[Ours, Rice], [Rice, Ours]] {
                for _ in 0..3 {
                    let (call, outcome) = call(place, makes, [role; 2], 1);
                    assert_ours_knows(&call, &outcome);
                }
            }
        }
    }
}
