//! The order of SRV records.

use rand::SeedableRng as _;
use rand_chacha::ChaCha20Rng;

use super::*;

fn record(priority: u16, weight: u16, target: &str) -> SrvRecord {
    SrvRecord {
        priority,
        weight,
        port: 5060,
        target: target.to_owned(),
    }
}

fn order(seed: u64, records: &[SrvRecord]) -> String {
    let ordered = order_srv(records, &mut ChaCha20Rng::seed_from_u64(seed));
    ordered
        .iter()
        .map(|record| record.target.as_str())
        .collect()
}

#[test]
fn priorities_hold_and_weights_are_chances() {
    let records = [
        record(2, 0, "z"),
        record(1, 10, "a"),
        record(1, 30, "b"),
        record(1, 60, "c"),
    ];
    let orders: Vec<String> = (0..10_000).map(|seed| order(seed, &records)).collect();
    assert!(
        orders
            .iter()
            .all(|order| order.len() == 4 && order.ends_with('z'))
    );
    for (target, share) in [("a", 0.1), ("b", 0.3), ("c", 0.6)] {
        let first = orders.iter().filter(|order| order.starts_with(target));
        let measured = first.count() as f64 / orders.len() as f64;
        assert!((measured - share).abs() < 0.02, "{target}: {measured}");
    }
}

#[test]
fn weight_zero_has_a_small_chance_and_alone_any() {
    let records = [record(1, 0, "a"), record(1, 100, "b")];
    let first = (0..10_000).filter(|seed| order(*seed, &records).starts_with('a'));
    let first = first.count();
    assert!((1..300).contains(&first), "{first}");
    assert_eq!(order(1, &[record(1, 0, "a")]), "a");
}

#[test]
fn what_is_not_offered_goes_and_floods_are_cut() {
    assert_eq!(order(1, &[record(1, 1, ".")]), "");
    let many: Vec<SrvRecord> = (0..5000).map(|_| record(1, u16::MAX, "x")).collect();
    assert_eq!(order(1, &many).len(), MAX_RECORDS);
}
