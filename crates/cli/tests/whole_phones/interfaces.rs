//! Many interfaces and both address families: what does not work must not slow what does.
//!
//!   alice eth0 ── NAT ──┬── Internet ──┬── NAT ── eth0 bob
//!         eth1..9 ──────┤              ├────── eth1..9      (nothing passes between these)

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use ringtrue_ice::CandidateType;
use ringtrue_phone::event::{MediaDirection, PathReport};
use ringtrue_phone::settings::AnswerWhen;
use ringtrue_phone::{EventKind, Settings};
use ringtrue_testnet::{GatewayConfig, HostId, Link, NatConfig, World};

use crate::stage::{Place, Setup, Stage, at, rang, with_turn};

const STUN_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0x20);
const TURN_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0x30);

/// Nine interfaces more for each: five of IPv6, four of IPv4 behind NATs. They reach the servers,
/// but no interface of the other phone, nor do those reach them.
fn nine_more(world: &mut World, phones: [HostId; 2], servers: [HostId; 2]) {
    let internet = world.internet();
    for (host, address) in servers.into_iter().zip([STUN_V6, TURN_V6]) {
        world.add_interface(host, internet, address, Link::default());
    }
    let defaults = phones.map(|phone| world.addresses(phone)[0]);
    for (side, phone) in phones.into_iter().enumerate() {
        let side = u8::try_from(side).unwrap();
        for number in 1..=9 {
            let link = Link::with_delay(Duration::from_millis(100));
            if number % 2 == 1 {
                let prefix = u16::from(100 * side + number);
                let v6 = Ipv6Addr::new(0x2001, 0xdb8, prefix, 0, 0, 0, 0, 2);
                world.add_interface(phone, internet, v6, link);
            } else {
                let outer = [203, 0, 113, 100 + 20 * side + number];
                let nat = GatewayConfig::nat(outer, NatConfig::port_restricted());
                let (_, home) = world.add_gateway(internet, nat);
                world.add_interface(phone, home, [10, 100 + side, number, 2], link);
            }
        }
    }
    let addresses = phones.map(|phone| world.addresses(phone));
    for one in &addresses[0] {
        for other in &addresses[1] {
            if [*one, *other] != defaults {
                world.black_hole((phones[0], *one), (phones[1], *other));
                world.black_hole((phones[1], *other), (phones[0], *one));
            }
        }
    }
}

fn with_servers(settings: &mut Settings) {
    with_turn(settings);
    settings.stun_servers.push(format!("[{STUN_V6}]"));
    let mut v6 = settings.turn_servers[0].clone();
    v6.address = format!("[{TURN_V6}]");
    settings.turn_servers.push(v6);
    // A relay is selected when the last of a hundred pairs has had its second.
    settings.duration = Some(Duration::from_secs(6));
}

fn selected(stage: &Stage) -> Option<PathReport> {
    let mut events = stage.alice().events().iter().rev();
    events.find_map(|event| match &event.kind {
        EventKind::PathSelected(path) => Some(path.clone()),
        _ => None,
    })
}

/// What a call with these interfaces came to.
struct Called {
    /// From the INVITE, and from the wish to call.
    rang: Option<[Duration; 2]>,
    relayed: Option<bool>,
    story: String,
}

fn call(setup: Setup) -> Called {
    let mut stage = setup.build();
    let dialled = stage.simulation.now();
    stage.dial();
    stage.run(12);
    let rang = stage.ring_time().zip(rang(stage.bob()));
    Called {
        rang: rang.map(|(took, event)| [took, event.at - dialled]),
        relayed: selected(&stage)
            .map(|path| [path.local_type, path.remote_type].contains(&CandidateType::Relayed)),
        story: stage.story(),
    }
}

/// From the INVITE: whatever the NATs, and through the relay where only that is left.
#[test]
fn ten_interfaces_a_side_cost_100_ms_at_most() {
    let mut misses = Vec::new();
    let mut worst = Duration::ZERO;
    for (alice, bob) in pairings() {
        for (s, d) in [(10, 10), (50, 50), (20, 80)] {
            let setup = |more| Setup {
                srtp: ringtrue_phone::settings::SrtpUse::Off,
                signalling: Duration::from_millis(s),
                media: Duration::from_millis(d),
                alices: with_servers,
                bobs: with_servers,
                more,
                ..Setup::between(alice, bob)
            };
            let one = call(setup(|_, _, _| {}));
            let ten = call(setup(nine_more));
            let (Some(fast), Some(slow)) = (one.rang, ten.rang) else {
                panic!("no ring: {}\n{}", one.story, ten.story);
            };
            worst = worst.max(slow[0].saturating_sub(fast[0]));
            if slow[0] > fast[0] + Duration::from_millis(100) || one.relayed != ten.relayed {
                misses.push(format!(
                    "{alice:?} x {bob:?} s {s} d {d}: {fast:?} {slow:?} {:?} {:?}\n{}",
                    one.relayed, ten.relayed, ten.story
                ));
            }
        }
    }
    println!("ten interfaces cost {worst:?} at most");
    assert!(misses.is_empty(), "{}", misses.join("\n"));
}

fn pairings() -> impl Iterator<Item = (Place, Place)> {
    let places = Place::WITH_UDP.into_iter();
    places.flat_map(|alice| Place::WITH_UDP.map(|bob| (alice, bob)))
}

/// Beside alice's first interface one that she prefers, and that nothing passes.
fn black_hole(world: &mut World, [alice, _]: [HostId; 2], _: [HostId; 2]) {
    let internet = world.internet();
    let (_, tunnel) = world.add_gateway(internet, GatewayConfig::default());
    let dead = [203, 0, 113, 77];
    world.add_interface(alice, tunnel, dead, Link::default());
    world.black_hole_interface(alice, dead.into());
}

/// The first frame that each hears, counted from the INVITE, with the call answered at once.
fn first_media(setup: Setup) -> [Duration; 2] {
    let mut stage = setup.build();
    stage.dial();
    stage.run(12);
    let invite = at(stage.alice(), |kind| {
        matches!(kind, EventKind::Invite { .. })
    });
    [stage.alice(), stage.bob()].map(|phone| {
        let heard = |kind: &EventKind| {
            let received = MediaDirection::Received;
            matches!(kind, EventKind::Media { direction } if *direction == received)
        };
        let heard = at(phone, heard).unwrap_or_else(|| panic!("silence\n{}", stage.story()));
        heard - invite.unwrap()
    })
}

#[test]
fn a_black_holed_candidate_of_top_priority_costs_100_ms_at_most() {
    let mut worst = Duration::ZERO;
    for (alice, bob) in pairings() {
        for (s, d) in [(10, 10), (50, 50), (150, 150), (20, 80)] {
            let setup = |more, alices| Setup {
                signalling: Duration::from_millis(s),
                media: Duration::from_millis(d),
                alices,
                bobs: |settings| {
                    with_turn(settings);
                    settings.answer = AnswerWhen::After(Duration::ZERO);
                },
                more,
                ..Setup::between(alice, bob)
            };
            let well = first_media(setup(|_, _, _| {}, with_turn));
            let with_hole = first_media(setup(black_hole, |settings| {
                with_turn(settings);
                settings.prefer = vec!["eth1".to_owned()];
            }));
            for (with, without) in with_hole.into_iter().zip(well) {
                let cost = with.saturating_sub(without);
                worst = worst.max(cost);
                assert!(
                    cost <= Duration::from_millis(100),
                    "{alice:?} x {bob:?}, s {s} d {d}: {with_hole:?} {well:?}"
                );
            }
        }
    }
    println!("a black hole costs {worst:?} at most");
}

/// Two interfaces that both lead to the other phone: the setting decides.
#[test]
fn the_preferred_interface_is_used() {
    for (prefer, used) in [("nothing", [203, 0, 113, 1]), ("eth1*", [203, 0, 113, 77])] {
        let mut setup = Setup::between(Place::Open, Place::Open);
        setup.more = |world, [alice, _], _| {
            let internet = world.internet();
            let link = Link::with_delay(Duration::from_millis(50));
            world.add_interface(alice, internet, [203, 0, 113, 77], link);
        };
        setup.alices = match prefer {
            "nothing" => |_| {},
            _ => |settings| settings.prefer = vec!["eth1*".to_owned()],
        };
        let mut stage = setup.build();
        stage.dial();
        stage.run(3);
        let path = selected(&stage).expect("a path is selected");
        assert_eq!(path.local.ip(), IpAddr::from(used), "{prefer}");
    }
}
