//! Relays: the call-setup budget, to the millisecond, and that the direct path wins.

use std::time::Duration;

use ringtrue_ice::CandidateType;
use ringtrue_phone::EventKind;
use ringtrue_phone::Settings;

use crate::stage::{Place, Setup, Stage, with_turn};

/// One-way delays of signalling and media, in milliseconds.
const DELAYS: [(u64, u64); 8] = [
    (5, 5),
    (10, 10),
    (50, 50),
    (150, 150),
    (50, 20),
    (20, 80),
    (200, 30),
    (30, 200),
];

/// A TURN server, and signalling over a connection that stands: an INVITE that is too long for UDP
/// opens one, which may take longer than gathering.
fn turn_by_tcp(settings: &mut Settings) {
    with_turn(settings);
    let proxy = settings.proxy.take().unwrap();
    settings.proxy = Some(format!("{proxy};transport=tcp"));
}

type Change = fn(&mut Settings);

/// Who has a relay: both, the caller alone, the callee alone.
const RELAYS: [(&str, Change, Change); 3] = [
    ("both", turn_by_tcp, with_turn),
    ("caller", turn_by_tcp, |_| {}),
    ("callee", |_| {}, with_turn),
];

fn pairs(stage: &Stage) -> u32 {
    let mut events = stage.alice().events().iter();
    let pairs = events.find_map(|event| match event.kind {
        EventKind::Checking { pairs } => u32::try_from(pairs).ok(),
        _ => None,
    });
    pairs.unwrap_or_default()
}

/// 2s + 3d + 50 ms, and Ta for each pair beyond two: with a relay at either side or both, where a
/// direct path exists and where none does.
#[test]
fn calls_with_relays_ring_within_the_budget() {
    assert_within_budget(&DELAYS, &RELAYS);
}

/// The connection for an INVITE that exceeds a datagram is opened while candidates are gathered, and
/// costs nothing where that takes as long.
#[test]
fn long_invites_cost_no_time() {
    let callers: [(&str, Change, Change); 2] = [
        ("both", with_turn, with_turn),
        ("caller", with_turn, |_| {}),
    ];
    assert_within_budget(&[(50, 50), (150, 150), (20, 80)], &callers);
}

fn assert_within_budget(delays: &[(u64, u64)], relays: &[(&str, Change, Change)]) {
    let mut misses = Vec::new();
    let (mut calls, mut without_ta) = (0, 0);
    let places = [Place::Open, Place::PortRestricted, Place::Symmetric];
    for (s, d) in delays.iter().copied() {
        for (who, alices, bobs) in relays.iter().copied() {
            for (alice, bob) in places.into_iter().flat_map(|a| places.map(|b| (a, b))) {
                let (signalling, media) = (Duration::from_millis(s), Duration::from_millis(d));
                let mut stage = Setup {
                    srtp: ringtrue_phone::settings::SrtpUse::Off,
                    signalling,
                    media,
                    alices,
                    bobs,
                    ..Setup::between(alice, bob)
                }
                .build();
                stage.dial();
                stage.run(6);
                calls += 1;
                let strict = 2 * signalling + 3 * media + Duration::from_millis(50);
                let further = pairs(&stage).saturating_sub(2) * Duration::from_millis(20);
                let took = stage.ring_time();
                without_ta += u32::from(took.is_some_and(|took| took <= strict));
                if took.is_none_or(|took| took > strict + further) {
                    misses.push(format!(
                        "{alice:?} x {bob:?}, relay: {who}, s {s} d {d}: {took:?} of {strict:?} + {further:?}"
                    ));
                }
            }
        }
    }
    println!("{calls} calls, {without_ta} of them within 2s + 3d + 50 ms alone");
    assert!(
        misses.is_empty(),
        "{} misses:\n{}",
        misses.len(),
        misses.join("\n")
    );
}

/// A relay next door against a direct path of up to 800 ms there and back.
#[test]
fn the_direct_path_wins_at_any_round_trip_time() {
    for round_trip in [20, 100, 400, 800] {
        for (alice, bob) in [
            (Place::Open, Place::Open),
            (Place::Open, Place::Symmetric),
            (Place::PortRestricted, Place::Open),
            (Place::PortRestricted, Place::PortRestricted),
            (Place::Symmetric, Place::AddressRestricted),
        ] {
            let mut stage = Setup {
                media: Duration::from_millis(round_trip / 2),
                alices: with_turn,
                bobs: with_turn,
                more: |world, phones, [_, turn]| {
                    for phone in phones {
                        world.set_delay_between(phone, turn, Duration::from_millis(1));
                    }
                },
                ..Setup::between(alice, bob)
            }
            .build();
            stage.dial();
            stage.run(8);
            let mut selected = stage.alice().events().iter().filter_map(|event| {
                let EventKind::PathSelected(path) = &event.kind else {
                    return None;
                };
                Some([path.local_type, path.remote_type])
            });
            let selected = selected.next_back().expect("a path is selected");
            assert!(
                !selected.contains(&CandidateType::Relayed),
                "{alice:?} x {bob:?}, {round_trip} ms: {selected:?}\n{}",
                stage.story()
            );
        }
    }
}
