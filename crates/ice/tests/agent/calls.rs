//! Ordinary calls between all kinds of access.

use ringtrue_ice::{CandidateType, ComponentId, FailureReason};

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
