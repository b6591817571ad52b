//! Ports that the router maps: what they make possible, and that they go away.
//!
//!   alice ── symmetric NAT ── Internet ── symmetric NAT that maps ports ── bob

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringtrue_ice::CandidateType;
use ringtrue_phone::event::{Outcome, PathReport};
use ringtrue_phone::settings::IceUse;
use ringtrue_phone::{EventKind, Settings};
use ringtrue_testnet::{GatewayId, MappingAnswer, PortMapping, Stage as TapStage, Verdict};

use crate::stage::{Place, Setup, Stage, with_turn};
use crate::talk::assert_no_gap;

const ALICES_NAT: [u8; 4] = [203, 0, 113, 1];
const BOBS_NAT: [u8; 4] = [203, 0, 113, 2];

fn router() -> Option<PortMapping> {
    Some(PortMapping::default())
}

fn that_says(says: MappingAnswer) -> Option<PortMapping> {
    Some(PortMapping {
        says,
        ..PortMapping::default()
    })
}

fn gateway(stage: &Stage, outer: [u8; 4]) -> GatewayId {
    let mut gateways = stage.simulation.world().gateways();
    let found = gateways.find(|(_, config)| {
        let nat = config.nat.as_ref();
        nat.is_some_and(|(address, _)| *address == IpAddr::from(outer))
    });
    found.expect("a gateway").0
}

/// How many ports are mapped at alice's and at bob's NAT.
fn mapped(stage: &Stage) -> [usize; 2] {
    [ALICES_NAT, BOBS_NAT].map(|outer| {
        let gateway = gateway(stage, outer);
        stage.simulation.world().ports_mapped(gateway)
    })
}

fn selected(stage: &Stage) -> Option<PathReport> {
    let events = stage.alice().events().iter().rev();
    events.clone().find_map(|event| match &event.kind {
        EventKind::PathSelected(path) => Some(path.clone()),
        _ => None,
    })
}

fn called(setup: Setup) -> Stage {
    let mut stage = setup.build();
    stage.dial();
    stage.run(15);
    stage
}

fn both_heard(stage: &Stage) -> bool {
    let (at_bob, at_alice) = stage.heard();
    at_bob > 2.5 && at_alice > 2.5
}

/// Where no direct path exists, a port that either router maps makes one: no relay is needed, nor
/// taken where there is one.
#[test]
fn a_mapped_port_is_a_direct_path_where_there_was_none() {
    let pathless = [
        (Place::Symmetric, Place::Symmetric),
        (Place::Symmetric, Place::PortRestricted),
        (Place::PortRestricted, Place::Symmetric),
    ];
    for (alice, bob) in pathless {
        let without = called(Setup::between(alice, bob));
        assert!(!without.rang(), "{}", without.story());
        assert_eq!(without.outcome().unwrap().1, Outcome::NoMediaPath);
        for routers in [[None, router()], [router(), None], [router(), router()]] {
            for turn in [false, true] {
                let settings: fn(&mut Settings) = if turn { with_turn } else { |_| {} };
                let stage = called(Setup {
                    routers: routers.clone(),
                    alices: settings,
                    bobs: settings,
                    ..Setup::between(alice, bob)
                });
                let story = format!("{alice:?} x {bob:?} {routers:?}\n{}", stage.story());
                assert!(stage.rang() && both_heard(&stage), "{story}");
                let path = selected(&stage).expect("a path is selected");
                let kinds = [path.local_type, path.remote_type];
                assert!(!kinds.contains(&CandidateType::Relayed), "{story}");
            }
        }
    }
}

/// 2s + 3d + 50 ms is what a symmetric caller may cost; a callee whose router maps a port is no
/// slower than that.
#[test]
fn a_mapped_port_rings_within_the_budget() {
    for (s, d) in [(10, 10), (50, 50), (150, 150), (20, 80)] {
        let (signalling, media) = (Duration::from_millis(s), Duration::from_millis(d));
        let stage = called(Setup {
            srtp: ringtrue_phone::settings::SrtpUse::Off,
            signalling,
            media,
            routers: [None, router()],
            ..Setup::between(Place::Symmetric, Place::Symmetric)
        });
        let took = stage.ring_time().expect("bob rings");
        // One pair more than the two of the budget: host, mapped, server-reflexive.
        let budget = 2 * signalling + 3 * media + Duration::from_millis(70);
        println!("s {s} d {d}: {took:?} of {budget:?}");
        assert!(took <= budget, "{took:?} of {budget:?}\n{}", stage.story());
    }
}

#[test]
fn ports_are_mapped_while_their_sockets_stand() {
    let mut stage = Setup {
        routers: [router(), router()],
        ..Setup::between(Place::Symmetric, Place::Symmetric)
    }
    .build();
    // Bob's pool holds a set for RTP and RTCP; alice has no socket yet.
    assert_eq!(mapped(&stage), [0, 2]);
    stage.dial();
    stage.run(3);
    // The call has one port each, since rtcp-mux closed the other; and bob's pool is filled again.
    assert_eq!(mapped(&stage), [1, 3], "{}", stage.story());
    stage.run(12);
    assert!(both_heard(&stage), "{}", stage.story());
    assert_eq!(mapped(&stage), [0, 2]);
    let (now, bob) = (stage.simulation.now(), stage.bob);
    stage.simulation.node_mut(bob).phone().shut_down(now);
    stage.simulation.settle();
    assert_eq!(mapped(&stage), [0, 0]);
}

/// Two minutes are granted; the pool waits for half an hour, and the call lasts for ten minutes.
#[test]
fn mappings_are_renewed_before_they_end() {
    let setup = Setup {
        routers: [None, router()],
        alices: |settings| settings.duration = Some(Duration::from_secs(600)),
        bobs: |settings| settings.duration = None,
        ..Setup::between(Place::Symmetric, Place::Symmetric)
    };
    let mut stage = setup.build();
    for _ in 0..60 {
        stage.run(30);
        assert_eq!(mapped(&stage), [0, 2]);
    }
    stage.dial();
    stage.run(30);
    let since = stage.simulation.now();
    stage.run(540);
    assert_no_gap(&stage, since);
    assert_eq!(mapped(&stage), [0, 3]);
    stage.run(60);
    let (at_bob, at_alice) = stage.heard();
    assert!(at_bob > 595.0 && at_alice > 595.0, "{}", stage.story());
}

/// The router maps no port any more, then none of them again: the pool does without, and asks for
/// no candidate that leads nowhere.
#[test]
fn a_mapping_that_is_not_renewed_is_forgotten() {
    let mut stage = Setup {
        routers: [None, router()],
        ..Setup::between(Place::Symmetric, Place::Symmetric)
    }
    .build();
    let bobs = gateway(&stage, BOBS_NAT);
    stage.simulation.world_mut().reconfigure(bobs, |config| {
        config.port_mapping = that_says(MappingAnswer::Silence);
    });
    stage.run(150);
    assert_eq!(mapped(&stage), [0, 0]);
    let reflexive = candidates_of(&mut stage, CandidateType::ServerReflexive);
    stage.dial();
    stage.run(15);
    assert!(!stage.rang(), "{}", stage.story());
    assert_eq!(stage.outcome().unwrap().1, Outcome::NoMediaPath);
    // What the STUN server saw of RTP and of RTCP, and nothing else.
    assert_eq!(reflexive.lock().unwrap().len(), 1, "{reflexive:?}");
}

/// A router that says nothing delays nothing beyond its 250 ms, nor beyond the patience.
#[test]
fn a_silent_router_is_not_waited_for() {
    for (patience, most) in [(500, 250), (100, 100)] {
        let settings: fn(&mut Settings) = match patience {
            500 => |_| {},
            _ => |settings| settings.gather_patience = Duration::from_millis(100),
        };
        for says in [
            that_says(MappingAnswer::Silence),
            // Later than anybody waits.
            Some(PortMapping {
                delay: Duration::from_millis(900),
                ..PortMapping::default()
            }),
        ] {
            let stage = called(Setup {
                routers: [says.clone(), says],
                alices: settings,
                bobs: settings,
                ..Setup::between(Place::PortRestricted, Place::FullCone)
            });
            assert!(both_heard(&stage), "{}", stage.story());
            for phone in [stage.alice(), stage.bob()] {
                let took = phone.events().iter().find_map(|event| match event.kind {
                    EventKind::Gathered { took, .. } => Some(took),
                    _ => None,
                });
                assert_eq!(took, Some(Duration::from_millis(most)));
            }
        }
    }
}

/// An answer that came too late for the first call is there for the next: the pool has it.
#[test]
fn a_slow_router_serves_the_pool() {
    let stage = called(Setup {
        routers: [
            None,
            Some(PortMapping {
                delay: Duration::from_millis(900),
                ..PortMapping::default()
            }),
        ],
        ..Setup::between(Place::Symmetric, Place::Symmetric)
    });
    assert!(both_heard(&stage), "{}", stage.story());
}

/// No candidate comes of an address that no peer could reach; and what sounds plausible but is a
/// third party's gets checks, as any candidate does, but neither a ring nor media.
#[test]
fn routers_that_lie_are_not_believed() {
    for nonsense in [
        "0.0.0.0:4000",
        "10.99.99.99:4000",
        "100.64.9.9:4000",
        "127.0.0.1:4000",
        "169.254.9.9:4000",
        "224.0.0.9:4000",
        "255.255.255.255:4000",
        "203.0.113.77:0",
        "[::1]:4000",
        "[2001:db8::77]:4000",
    ] {
        let lie: SocketAddr = nonsense.parse().unwrap();
        let mut stage = Setup {
            routers: [
                that_says(MappingAnswer::Lie(lie)),
                that_says(MappingAnswer::Lie(lie)),
            ],
            ..Setup::between(Place::PortRestricted, Place::PortRestricted)
        }
        .build();
        let told = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&told);
        stage.tap(move |passing| {
            let text = String::from_utf8_lossy(passing.payload);
            if text.contains(&format!(" {} {} typ srflx", lie.ip(), lie.port())) {
                counter.fetch_add(1, Ordering::Relaxed);
            }
            Verdict::Pass
        });
        stage.dial();
        stage.run(15);
        assert!(both_heard(&stage), "{nonsense}\n{}", stage.story());
        assert_eq!(told.load(Ordering::Relaxed), 0, "{nonsense}");
    }
}

#[test]
fn a_plausible_lie_brings_neither_ring_nor_media_elsewhere() {
    let third: SocketAddr = "198.51.100.77:4000".parse().unwrap();
    let mut stage = Setup {
        routers: [None, that_says(MappingAnswer::Lie(third))],
        ..Setup::between(Place::Symmetric, Place::Symmetric)
    }
    .build();
    let media = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&media);
    stage.tap(move |passing| {
        let is_stun = passing.payload.first().is_some_and(|byte| *byte < 4);
        if passing.destination == third && passing.stage == TapStage::Departure && !is_stun {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        Verdict::Pass
    });
    stage.dial();
    stage.run(15);
    assert!(!stage.rang(), "{}", stage.story());
    assert_eq!(media.load(Ordering::Relaxed), 0);
}

#[test]
fn nobody_is_asked_where_it_is_of_no_use() {
    let settings: [fn(&mut Settings); 3] = [
        |settings| settings.port_mapping = false,
        |settings| settings.ice = IceUse::Off,
        |settings| {
            with_turn(settings);
            settings.relay_only = true;
        },
    ];
    for change in settings {
        let mut stage = Setup {
            routers: [router(), router()],
            alices: change,
            bobs: change,
            ..Setup::between(Place::FullCone, Place::FullCone)
        }
        .build();
        assert_eq!(mapped(&stage), [0, 0]);
        stage.dial();
        stage.run(3);
        assert_eq!(mapped(&stage), [0, 0]);
    }
}

/// A router that loses its mappings with everything else: the next renewal maps the ports again, and
/// the pool's candidates are those that it gives then.
#[test]
fn a_router_that_starts_anew_is_asked_anew() {
    let mut stage = Setup {
        routers: [None, router()],
        ..Setup::between(Place::Symmetric, Place::Symmetric)
    }
    .build();
    let bobs = gateway(&stage, BOBS_NAT);
    stage.simulation.world_mut().reboot(bobs);
    assert_eq!(mapped(&stage), [0, 0]);
    stage.run(70);
    assert_eq!(mapped(&stage), [0, 2]);
    // Until bob registers again, since the proxy's way to him is lost too.
    stage.run(560);
    stage.dial();
    stage.run(15);
    assert!(both_heard(&stage), "{}", stage.story());
}

/// The addresses of bob's candidates of a kind for component 1, as they pass.
fn candidates_of(stage: &mut Stage, kind: CandidateType) -> Arc<Mutex<Vec<String>>> {
    let found = Arc::new(Mutex::new(Vec::new()));
    let list = Arc::clone(&found);
    let bob = stage.bob;
    stage.tap(move |passing| {
        let text = String::from_utf8_lossy(passing.payload);
        if passing.sender == Some(bob) && text.starts_with("SIP/2.0 183") {
            for line in text.lines().filter(|line| line.starts_with("a=candidate:")) {
                let fields: Vec<&str> = line.split(' ').collect();
                if let [_, "1", _, _, ip, port, "typ", typ, ..] = fields.as_slice()
                    && *typ == kind.as_str()
                {
                    let address = format!("{ip}:{port}");
                    let mut list = list.lock().unwrap();
                    if !list.contains(&address) {
                        list.push(address);
                    }
                }
            }
        }
        Verdict::Pass
    });
    found
}
