//! What networks do to a call that is up, and that it survives it.

use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ringtrue_ice::CandidateType;
use ringtrue_phone::event::{EndReason, Outcome, PathReport};
use ringtrue_phone::settings::{AnswerWhen, IceUse};
use ringtrue_phone::{EventKind, Settings};
use ringtrue_program::virtual_phone::VirtualPhone;
use ringtrue_testnet::{GatewayConfig, GatewayId, HostId, NatConfig, Verdict, World};

use crate::stage::{Place, Setup, Stage, TURN, outcome, with_turn};
use crate::talk::{
    assert_ends_in_order, assert_no_gap, cut, gaps, move_to, restart, selections, set_addresses,
    talking, talking_as_set_up,
};
use crate::tcp::stun_by_tcp;

/// Two round trips and 300 ms, with the stage's 50 ms one way.
const BUDGET: Duration = Duration::from_millis(500);

fn selected(phone: &VirtualPhone) -> PathReport {
    let mut events = phone.events().iter().rev();
    let selected = events.find_map(|event| match &event.kind {
        EventKind::PathSelected(path) => Some(path.clone()),
        _ => None,
    });
    selected.expect("a path is selected")
}

type More = fn(&mut World, [HostId; 2], [HostId; 2]);

/// A call that has only the way through the relay.
fn relayed() -> Stage {
    talking_as_set_up(Setup {
        alices: |settings| {
            with_turn(settings);
            settings.duration = None;
        },
        bobs: |settings| settings.duration = None,
        ..Setup::between(Place::Symmetric, Place::Symmetric)
    })
}

fn allocations(stage: &Stage) -> usize {
    stage.allocations.load(Ordering::Relaxed)
}

/// Candidates are gathered anew, but the allocation in use stays, and is offered again.
#[test]
fn a_restart_keeps_the_allocation_in_use() {
    for by_alice in [true, false] {
        let mut stage = relayed();
        let (since, before) = (stage.simulation.now(), selected(stage.alice()));
        assert_eq!(before.local_type, CandidateType::Relayed);
        assert_eq!(allocations(&stage), 1);
        let host = if by_alice { stage.alice } else { stage.bob };
        restart(&mut stage, host);
        stage.run(40);
        assert_eq!(selections(stage.alice()), 2, "{}", stage.story());
        assert_eq!(selected(stage.alice()).local, before.local);
        assert_eq!(allocations(&stage), 1);
        assert_no_gap(&stage, since);
        assert_ends_in_order(&mut stage);
        assert_eq!(allocations(&stage), 0);
    }
}

/// The socket of the allocation is gone with its address: a new allocation takes over.
#[test]
fn a_relayed_call_moves_to_another_network() {
    let mut stage = relayed();
    let alice = stage.alice;
    let world = stage.simulation.world_mut();
    let old = world.addresses(alice)[0];
    let internet = world.internet();
    let outer = IpAddr::from([203, 0, 113, 77]);
    let gateway = GatewayConfig::nat(outer, NatConfig::symmetric());
    let (_, home) = world.add_gateway(internet, gateway);
    let new = IpAddr::from([192, 168, 7, 7]);
    world.remove_address(alice, old);
    move_to(&mut stage, alice, home, new);
    let usable = stage.simulation.now();
    set_addresses(&mut stage, alice, &[new]);
    stage.run(10);
    let path = selected(stage.alice());
    assert_eq!(path.local_type, CandidateType::Relayed, "{}", stage.story());
    assert_eq!(path.local.ip(), IpAddr::from(TURN));
    assert_no_gap(&stage, usable + Duration::from_millis(500));
    assert_ends_in_order(&mut stage);
}

/// The TURN server starts anew: its allocations are gone, and it says so when it is asked. A new
/// allocation and a restart bring the call back.
#[test]
fn a_turn_server_that_restarts_costs_half_a_second() {
    let patient: fn(&mut Settings) = |settings| settings.duration = None;
    let with_relay: fn(&mut Settings) = |settings| {
        with_turn(settings);
        settings.duration = None;
    };
    let by_udp_alone: More = |_, _, _| {};
    // Each connection to a STUN server is mapped to another port by these NATs.
    let stuns: [More; 2] = [by_udp_alone, stun_by_tcp];
    let relays = [(with_relay, patient), (patient, with_relay)];
    for ((alices, bobs), more) in relays.into_iter().flat_map(|r| stuns.map(|s| (r, s))) {
        let mut stage = talking_as_set_up(Setup {
            alices,
            bobs,
            more,
            ..Setup::between(Place::Symmetric, Place::Symmetric)
        });
        let at = stage.simulation.now();
        stage.turn_reboots.fetch_add(1, Ordering::Relaxed);
        stage.run(20);
        println!("gaps: {:?}", gaps(&stage, at));
        // The new address is usable once the server has said that nonce and allocation are stale,
        // and granted a new one: three round trips to it.
        let usable = at + Duration::from_millis(3 * 50);
        assert_no_gap(&stage, usable + BUDGET);
        assert_eq!(allocations(&stage), 1);
        assert_ends_in_order(&mut stage);
        assert_eq!(allocations(&stage), 0);
    }
}

/// A NAT loses its mappings and gives other ports from now on, to media and to SIP: either side's
/// checks come from an address that nobody has told.
#[test]
fn nat_bindings_that_are_flushed_cost_half_a_second() {
    let places = [
        (Place::PortRestricted, Place::PortRestricted),
        (Place::PortRestricted, Place::Open),
        (Place::AddressRestricted, Place::FullCone),
        (Place::Symmetric, Place::FullCone),
        (Place::Open, Place::PortRestricted),
        (Place::FullCone, Place::Symmetric),
    ];
    for (alice, bob) in places {
        let mut stage = talking(Setup::between(alice, bob));
        let at = stage.simulation.now();
        let world = stage.simulation.world_mut();
        // The first NAT is alice's, if she has one.
        world.reconfigure(GatewayId(0), |gateway| {
            if let Some(nat) = &mut gateway.nat {
                nat.1.port_preservation = false;
            }
        });
        world.reboot(GatewayId(0));
        stage.run(20);
        let gaps = gaps(&stage, at);
        println!("{alice:?} x {bob:?}: {gaps:?}");
        assert!(gaps.iter().all(|gap| *gap <= BUDGET), "{}", stage.story());
        assert_no_gap(&stage, at + 2 * BUDGET);
        assert!(selections(stage.alice()) >= 2, "{}", stage.story());
        assert_ends_in_order(&mut stage);
    }
}

/// Every third packet is lost for ten seconds; the call holds, and speech is there at once when
/// that is over.
#[test]
fn thirty_percent_of_loss_for_ten_seconds_survives() {
    for seed in 1..6 {
        let mut stage = talking(Setup {
            seed,
            ..Setup::between(Place::PortRestricted, Place::PortRestricted)
        });
        let from = stage.simulation.now();
        let to = from + Duration::from_secs(10);
        let mut state = seed;
        stage.tap(move |passing| {
            // A linear congruential generator is random enough for losses.
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let lost = (state >> 33) % 100 < 30;
            if lost && (from..to).contains(&passing.now) {
                Verdict::Drop
            } else {
                Verdict::Pass
            }
        });
        stage.run(10);
        println!("gaps under loss: {:?}", gaps(&stage, from));
        let since = stage.simulation.now() + Duration::from_millis(300);
        stage.run(30);
        assert_no_gap(&stage, since);
        assert_ends_in_order(&mut stage);
    }
}

/// Nothing passes for 20 s, and consent holds: speech is back as soon as packets pass again.
#[test]
fn after_an_outage_of_20_seconds_speech_is_back_at_once() {
    for (alice, bob) in [
        (Place::PortRestricted, Place::PortRestricted),
        (Place::Symmetric, Place::Open),
    ] {
        let mut stage = talking(Setup::between(alice, bob));
        cut(&mut stage, 20.0, true);
        stage.run(20);
        let over = stage.simulation.now();
        stage.run(30);
        println!("{alice:?} x {bob:?}: {:?}", gaps(&stage, over));
        assert_no_gap(&stage, over + BUDGET);
        assert_ends_in_order(&mut stage);
    }
}

/// Alice alone is cut off for a minute: bob's servers answer, and his restart comes to nothing. Both
/// end, and for the same reason.
#[test]
fn one_side_cut_off_for_a_minute_ends_both_with_a_reason() {
    for callers in [true, false] {
        let mut stage = talking(Setup::between(Place::PortRestricted, Place::PortRestricted));
        let host = if callers { stage.alice } else { stage.bob };
        let from = stage.simulation.now();
        let to = from + Duration::from_secs(60);
        stage.tap(move |passing| {
            let its = passing.sender == Some(host) || passing.receiver == Some(host);
            if its && (from..to).contains(&passing.now) {
                Verdict::Drop
            } else {
                Verdict::Pass
            }
        });
        stage.run(70);
        for phone in [stage.alice(), stage.bob()] {
            let end = outcome(phone).map(|(reason, outcome, _)| (reason, outcome));
            let wanted = (EndReason::ConsentLost, Outcome::NoMediaPath);
            assert_eq!(end, Some(wanted), "{}", stage.story());
        }
    }
}

/// Alice's or bob's address is replaced by one behind another NAT; the phone is told.
fn to_another_nat(stage: &mut Stage, host: HostId) {
    let world = stage.simulation.world_mut();
    let (internet, old) = (world.internet(), world.addresses(host)[0]);
    let gateway = GatewayConfig::nat([203, 0, 113, 77], NatConfig::port_restricted());
    let (_, home) = world.add_gateway(internet, gateway);
    let new = IpAddr::from([192, 168, 7, 7]);
    world.remove_address(host, old);
    move_to(stage, host, home, new);
    set_addresses(stage, host, &[new]);
}

fn ringing(bobs: fn(&mut Settings)) -> Stage {
    let mut stage = Setup {
        alices: |settings| settings.duration = None,
        bobs,
        ..Setup::between(Place::PortRestricted, Place::PortRestricted)
    }
    .build();
    stage.dial();
    stage.run(1);
    assert!(stage.rang());
    stage
}

fn answers_after_three_seconds(settings: &mut Settings) {
    settings.duration = None;
    settings.answer = AnswerWhen::After(Duration::from_secs(3));
}

/// The network under a call changes while it rings, and nobody answers in time: it ends on both
/// sides within seconds, and says why.
#[test]
fn a_change_of_network_while_it_rings_ends_the_call() {
    for callers in [true, false] {
        let mut stage = ringing(|settings| settings.answer = AnswerWhen::Never);
        let host = if callers { stage.alice } else { stage.bob };
        to_another_nat(&mut stage, host);
        stage.run(4);
        assert_eq!(outcome(stage.simulation.node(host)), None);
        // A CANCEL whose answer is lost is waited for a while.
        stage.run(10);
        let end = outcome(stage.simulation.node(host)).map(|end| (end.0, end.1));
        let wanted = (EndReason::Network, Outcome::Network);
        assert_eq!(end, Some(wanted), "{}", stage.story());
        assert!(outcome(stage.alice()).is_some(), "{}", stage.story());
        assert!(outcome(stage.bob()).is_some(), "{}", stage.story());
    }
}

/// It blinks, or the callee picks up in time: the call is connected all the same.
#[test]
fn a_blink_while_it_rings_and_a_callee_who_moves_are_connected() {
    let mut stage = ringing(answers_after_three_seconds);
    let (alice, old) = (stage.alice, IpAddr::from([192, 168, 1, 10]));
    set_addresses(&mut stage, alice, &[]);
    stage.run(1);
    set_addresses(&mut stage, alice, &[old]);
    stage.run(5);
    let since = stage.simulation.now();
    stage.run(5);
    assert_no_gap(&stage, since);
    assert_ends_in_order(&mut stage);

    let mut stage = ringing(answers_after_three_seconds);
    let bob = stage.bob;
    to_another_nat(&mut stage, bob);
    stage.run(6);
    let since = stage.simulation.now();
    stage.run(5);
    assert_no_gap(&stage, since);
    assert_ends_in_order(&mut stage);
}

/// A call without ICE has nobody to ask, and waits: neither phone wakes up again and again.
#[test]
fn without_ice_silence_is_waited_out() {
    let mut stage = Setup {
        alices: |settings| {
            settings.ice = IceUse::Off;
            settings.duration = None;
        },
        bobs: |settings| settings.duration = None,
        ..Setup::between(Place::Open, Place::Open)
    }
    .build();
    stage.dial();
    stage.run(5);
    cut(&mut stage, 2.0, false);
    stage.run(3);
    let heard = stage.simulation.now();
    stage.run(2);
    assert_no_gap(&stage, heard);
    assert_ends_in_order(&mut stage);
}
