//! Calls that are up: what becomes of them, and what the ear notices.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use ringtrue_media::tone;
use ringtrue_phone::event::Outcome;
use ringtrue_phone::{CallKey, EventKind};
use ringtrue_program::virtual_phone::VirtualPhone;
use ringtrue_testnet::{HostId, Link, NetworkId, Verdict};

use crate::stage::{ALICE_TONE, AUDIBLE, BOB_TONE, Setup, Stage, outcome};

/// Alice and bob talk since three seconds or so, and go on until somebody hangs up.
pub fn talking(setup: Setup) -> Stage {
    let setup = Setup {
        alices: |settings| settings.duration = None,
        bobs: |settings| settings.duration = None,
        ..setup
    };
    talking_as_set_up(setup)
}

pub fn talking_as_set_up(setup: Setup) -> Stage {
    let mut stage = setup.build();
    stage.dial();
    stage.run(5);
    assert_eq!(selections(stage.alice()), 1, "{}", stage.story());
    assert_eq!(selections(stage.bob()), 1, "{}", stage.story());
    stage
}

pub fn selections(phone: &VirtualPhone) -> usize {
    let selected = |kind: &EventKind| matches!(kind, EventKind::PathSelected(_));
    phone
        .events()
        .iter()
        .filter(|event| selected(&event.kind))
        .count()
}

pub fn call_of(phone: &VirtualPhone) -> CallKey {
    let mut events = phone.events().iter().rev();
    events
        .find_map(|event| Some(event.call.as_ref()?.key))
        .expect("a call")
}

pub fn restart(stage: &mut Stage, host: HostId) {
    let now = stage.simulation.now();
    let call = call_of(stage.simulation.node(host));
    stage
        .simulation
        .node_mut(host)
        .phone()
        .restart_ice(now, call);
    stage.simulation.settle();
}

/// The longest time after `since` in which a tone was not heard.
pub fn longest_gap(phone: &VirtualPhone, hz: f64, since: Instant, until: Instant) -> Duration {
    let mut last = since;
    let mut longest = Duration::ZERO;
    for played in phone
        .played()
        .iter()
        .filter(|played| played.at >= since && played.at < until)
    {
        if tone::level(&*played.frame, hz) >= AUDIBLE {
            longest = longest.max(played.at - last);
            last = played.at;
        }
    }
    longest.max(until - last)
}

pub fn gaps(stage: &Stage, since: Instant) -> [Duration; 2] {
    let until = stage.simulation.now();
    [
        longest_gap(stage.bob(), ALICE_TONE, since, until),
        longest_gap(stage.alice(), BOB_TONE, since, until),
    ]
}

pub fn assert_no_gap(stage: &Stage, since: Instant) {
    for gap in gaps(stage, since) {
        assert!(
            gap <= Duration::from_millis(40),
            "{gap:?} of silence\n{}",
            stage.story()
        );
    }
}

pub fn assert_goes_on(stage: &Stage) {
    assert_eq!(stage.outcome(), None, "{}", stage.story());
    assert_eq!(outcome(stage.bob()), None, "{}", stage.story());
}

pub fn assert_ends_in_order(stage: &mut Stage) {
    assert_goes_on(stage);
    stage.hang_up();
    stage.run(2);
    for phone in [stage.alice(), stage.bob()] {
        let end = outcome(phone).map(|end| end.1);
        assert_eq!(end, Some(Outcome::Completed), "{}", stage.story());
    }
}

/// An address comes, goes or is replaced; the phone is told at once.
pub fn set_addresses(stage: &mut Stage, host: HostId, addresses: &[IpAddr]) {
    let now = stage.simulation.now();
    let phone = stage.simulation.node_mut(host);
    phone.handle_addresses(now, addresses.to_vec());
    stage.simulation.settle();
}

pub fn move_to(stage: &mut Stage, host: HostId, network: NetworkId, address: IpAddr) {
    let (alice, bob) = (stage.alice, stage.bob);
    let world = stage.simulation.world_mut();
    world.add_interface(host, network, address, Link::default());
    world.set_delay_between(alice, bob, Duration::from_millis(50));
}

/// Nothing passes between `from` and `to`; `signalling` too, or media alone.
pub fn cut(stage: &mut Stage, seconds: f64, signalling: bool) {
    let from = stage.simulation.now();
    let to = from + Duration::from_secs_f64(seconds);
    stage.tap(move |passing| {
        let is_sip = passing.destination.port() == 5060 || passing.source.port() == 5060;
        if (from..to).contains(&passing.now) && (signalling || !is_sip) {
            Verdict::Drop
        } else {
            Verdict::Pass
        }
    });
}
