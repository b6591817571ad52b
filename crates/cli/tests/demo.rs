//! The demo in virtual time: the same calls, as fast as they compute.

use ringtrue_program::demo::{self, Pace, PhoneKind, Topology};

#[test]
fn the_ordinary_phone_ghost_rings_and_ringtrue_does_not() {
    let results = demo::run(Pace::Virtual, |_| {});
    println!("{}", demo::table(&results));
    assert_eq!(results.len(), 2 * Topology::ALL.len());
    for result in &results {
        let reachable = matches!(result.topology, Topology::Open | Topology::PortRestricted);
        assert_eq!(result.heard(), reachable, "{result:?}");
        let rings = reachable || result.phone == PhoneKind::Ordinary;
        assert_eq!(result.rang, rings, "{result:?}");
        assert_eq!(result.first_voice.is_some(), reachable, "{result:?}");
    }
    assert_eq!(demo::ghost_rings(&results, PhoneKind::Ordinary), 2);
    assert_eq!(demo::ghost_rings(&results, PhoneKind::Ringtrue), 0);
}
