//! What networks do to a call that is up, and that it survives it.

use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ringtrue_ice::CandidateType;
use ringtrue_phone::EventKind;
use ringtrue_phone::event::PathReport;
use ringtrue_program::virtual_phone::VirtualPhone;
use ringtrue_testnet::{GatewayConfig, NatConfig};

use crate::stage::{Place, Setup, Stage, TURN, with_turn};
use crate::talk::{
    assert_ends_in_order, assert_no_gap, move_to, restart, selections, set_addresses,
    talking_as_set_up,
};

fn selected(phone: &VirtualPhone) -> PathReport {
    let mut events = phone.events().iter().rev();
    let selected = events.find_map(|event| match &event.kind {
        EventKind::PathSelected(path) => Some(path.clone()),
        _ => None,
    });
    selected.expect("a path is selected")
}

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
