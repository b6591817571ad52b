//! Calls by TCP (RFC 6544): where a firewall eats UDP, and only there.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ringtrue_ice::{CandidateType, TcpType, TransportProtocol};
use ringtrue_phone::EventKind;
use ringtrue_phone::Settings;
use ringtrue_phone::event::{Outcome, PathReport};
use ringtrue_program::virtual_phone::VirtualPhone;
use ringtrue_testnet::{HostId, StreamId, StunServer, Verdict, World};

use crate::stage::{Place, Setup, Stage};

fn proven(phone: &VirtualPhone) -> Option<&PathReport> {
    phone.events().iter().find_map(|event| match &event.kind {
        EventKind::PathValidated(path) => Some(path),
        _ => None,
    })
}

fn selected(phone: &VirtualPhone) -> Option<&PathReport> {
    phone
        .events()
        .iter()
        .rev()
        .find_map(|event| match &event.kind {
            EventKind::PathSelected(path) => Some(path),
            _ => None,
        })
}

fn both_heard(stage: &Stage) -> bool {
    let (at_bob, at_alice) = stage.heard();
    at_bob > 2.5 && at_alice > 2.5
}

/// A firewall eats all UDP of one side; the other can be reached, so a connection carries the
/// call, whoever calls.
#[test]
fn where_udp_is_eaten_a_connection_carries_the_call() {
    for (alice, bob) in [
        (Place::UdpEaten, Place::Open),
        (Place::Open, Place::UdpEaten),
    ] {
        let mut stage = Setup::between(alice, bob).build();
        stage.dial();
        stage.run(10);
        let story = format!("{alice:?} x {bob:?}\n{}", stage.story());
        assert!(stage.rang() && both_heard(&stage), "{story}");
        for phone in [stage.alice(), stage.bob()] {
            assert!(proven(phone).unwrap().transport.is_tcp(), "{story}");
            assert!(selected(phone).unwrap().transport.is_tcp(), "{story}");
        }
        assert_eq!(stage.outcome().unwrap().1, Outcome::Completed, "{story}");
    }
}

/// A connection takes a handshake, a check each way, and the head start of UDP: with 50 ms one way
/// for everything the phone rings after the 183 and its way here, 200 ms, two round trips and a few
/// slots.
#[test]
fn a_connection_is_found_soon() {
    for (alice, bob) in [
        (Place::UdpEaten, Place::Open),
        (Place::Open, Place::UdpEaten),
    ] {
        let mut stage = Setup {
            srtp: ringtrue_phone::settings::SrtpUse::Off,
            ..Setup::between(alice, bob)
        }
        .build();
        stage.dial();
        stage.run(10);
        let rang = stage.ring_time().expect("a ring");
        assert!(rang < Duration::from_millis(700), "{rang:?}");
    }
}

/// A phone without TCP candidates is called by UDP as ever, and calls so.
#[test]
fn a_peer_that_knows_no_tcp_is_reached_by_udp() {
    for without in [0, 1] {
        let off: fn(&mut Settings) = |settings| settings.ice_tcp = false;
        let on: fn(&mut Settings) = |_| {};
        let mut stage = Setup {
            alices: if without == 0 { off } else { on },
            bobs: if without == 1 { off } else { on },
            ..Setup::between(Place::PortRestricted, Place::FullCone)
        }
        .build();
        stage.dial();
        stage.run(10);
        assert!(both_heard(&stage), "{}", stage.story());
        assert_eq!(
            selected(stage.alice()).unwrap().transport,
            TransportProtocol::Udp
        );
    }
}

/// Where both work, UDP is chosen; and who knows no TCP reads of it last.
#[test]
fn udp_is_preferred() {
    let mut stage = Setup::between(Place::Open, Place::Open).build();
    let (tell, told) = std::sync::mpsc::channel();
    stage.tap(move |passing| {
        if passing.payload.starts_with(b"INVITE") {
            let text = String::from_utf8_lossy(passing.payload).into_owned();
            tell.send(text).expect("the test goes on");
        }
        Verdict::Pass
    });
    stage.dial();
    stage.run(10);
    assert!(both_heard(&stage), "{}", stage.story());
    for phone in [stage.alice(), stage.bob()] {
        assert_eq!(proven(phone).unwrap().transport, TransportProtocol::Udp);
        assert_eq!(selected(phone).unwrap().transport, TransportProtocol::Udp);
    }
    let invite = told.recv().expect("an INVITE");
    let candidates = invite
        .lines()
        .filter(|line| line.starts_with("a=candidate:"));
    let by_tcp: Vec<bool> = candidates.map(|line| line.contains(" TCP ")).collect();
    assert!(by_tcp.contains(&true) && by_tcp.is_sorted(), "{invite}");
}

pub fn stun_by_tcp(world: &mut World, _phones: [HostId; 2], [stun, _turn]: [HostId; 2]) {
    world.listen(stun, StunServer::PORT);
}

/// Firewalls eat all UDP of one side, or of both, and both are behind NATs that map a port alike
/// wherever it sends to: both open from the port that a STUN server saw, and meet.
#[test]
fn two_behind_nats_meet_by_opening_at_once() {
    for (alice, bob) in [
        (Place::UdpEaten, Place::UdpEaten),
        (Place::UdpEaten, Place::PortRestricted),
        (Place::FullCone, Place::UdpEaten),
    ] {
        let mut stage = Setup {
            more: stun_by_tcp,
            ..Setup::between(alice, bob)
        }
        .build();
        stage.dial();
        stage.run(10);
        let story = format!("{alice:?} x {bob:?}\n{}", stage.story());
        assert!(stage.rang() && both_heard(&stage), "{story}");
        for phone in [stage.alice(), stage.bob()] {
            let path = selected(phone).unwrap();
            assert!(path.transport.is_tcp(), "{story}");
            let reflexive = CandidateType::ServerReflexive;
            assert_eq!((path.local_type, path.remote_type), (reflexive, reflexive));
        }
        assert_eq!(stage.outcome().unwrap().1, Outcome::Completed, "{story}");
    }
}

/// Nobody says what the NATs make of the ports, or one of them makes something else of it for
/// every destination: no path, and nobody rings.
#[test]
fn where_opening_at_once_leads_nowhere_nobody_rings() {
    let nothing = |_: &mut World, _: [HostId; 2], _: [HostId; 2]| {};
    type More = fn(&mut World, [HostId; 2], [HostId; 2]);
    let cases: [(Place, Place, More); 3] = [
        (Place::UdpEaten, Place::UdpEaten, nothing),
        (Place::UdpEaten, Place::Symmetric, stun_by_tcp),
        (Place::Symmetric, Place::UdpEaten, stun_by_tcp),
    ];
    for (alice, bob, more) in cases {
        let mut stage = Setup {
            more,
            ..Setup::between(alice, bob)
        }
        .build();
        stage.dial();
        stage.run(15);
        assert!(!stage.rang(), "{}", stage.story());
        assert_eq!(stage.outcome().unwrap().1, Outcome::NoMediaPath);
    }
}

/// The server answers by TCP when the INVITE has long left: what it says is trickled.
#[test]
fn a_late_mapping_is_trickled() {
    let mut stage = Setup {
        more: |world, [alice, bob], [stun, turn]| {
            stun_by_tcp(world, [alice, bob], [stun, turn]);
            world.set_delay_between(alice, stun, Duration::from_millis(200));
        },
        ..Setup::between(Place::UdpEaten, Place::UdpEaten)
    }
    .build();
    // The servers are asked when the call begins: three round trips of 400 ms are more than the
    // patience.
    stage.dial();
    stage.run(10);
    assert!(stage.rang() && both_heard(&stage), "{}", stage.story());
}

fn by_tcp(settings: &mut Settings) {
    let proxy = settings.proxy.take();
    settings.proxy = proxy.map(|proxy| proxy + ";transport=tcp");
}

/// Between hosts that can be reached the phone rings by the first connection that stands, which one
/// side opens and the other accepts. Selected is the pair of the highest priority: that of
/// simultaneous open, since its both ends are the hosts' own ports.
#[test]
fn between_open_hosts_the_pair_of_the_highest_priority_is_selected() {
    let mut stage = Setup {
        more: |world, [alice, bob], [stun, turn]| {
            stun_by_tcp(world, [alice, bob], [stun, turn]);
            for host in [alice, bob] {
                world.eat_udp(host, true);
            }
        },
        alices: by_tcp,
        bobs: by_tcp,
        ..Setup::between(Place::Open, Place::Open)
    }
    .build();
    stage.dial();
    stage.run(10);
    let story = stage.story();
    assert!(stage.rang() && both_heard(&stage), "{story}");
    assert!(
        stage.ring_time().unwrap() < Duration::from_millis(700),
        "{story}"
    );
    for phone in [stage.alice(), stage.bob()] {
        let path = selected(phone).unwrap();
        let host = CandidateType::Host;
        assert_eq!((path.local_type, path.remote_type), (host, host), "{story}");
        let so = TransportProtocol::Tcp(TcpType::SimultaneousOpen);
        assert_eq!(path.transport, so, "{story}");
    }
}

/// A phone without TCP candidates asks nobody by TCP.
#[test]
fn nothing_goes_by_tcp_where_it_is_off() {
    for (off, asked) in [(true, 0), (false, 1)] {
        let settings: fn(&mut Settings) = if off {
            |settings| settings.ice_tcp = false
        } else {
            |_| {}
        };
        let mut stage = Setup {
            more: stun_by_tcp,
            alices: settings,
            bobs: settings,
            ..Setup::between(Place::PortRestricted, Place::FullCone)
        }
        .build();
        stage.dial();
        stage.run(10);
        assert!(both_heard(&stage), "{}", stage.story());
        let streams = stage.stun_streams.load(Ordering::Relaxed);
        assert_eq!(streams.min(1), asked, "{streams} streams");
        for phone in [stage.alice(), stage.bob()] {
            let udp = TransportProtocol::Udp;
            assert_eq!(selected(phone).unwrap().transport, udp);
        }
    }
}

/// Strangers connect to both listening ports of the callee, more than there is room for, before the
/// peer does and while it talks, and say what is no check: the call is carried by TCP all the same.
#[test]
fn strangers_at_the_listening_ports_do_not_keep_the_peer_out() {
    let mut stage = Setup::between(Place::UdpEaten, Place::Open).build();
    let world = stage.simulation.world_mut();
    let internet = world.internet();
    let mallory = world.host_at("mallory", internet, [192, 0, 2, 66]);
    stage.dial();
    let mut number = 0;
    for _ in 0..5 {
        stage.simulation.run_for(Duration::from_millis(150));
        let world = stage.simulation.world_mut();
        // The first ports of the phone are those of RTP, RTCP, passive and simultaneous-open TCP.
        for port in [40_003, 40_004] {
            let to = SocketAddr::from(([203, 0, 113, 2], port));
            for junk in [
                vec![0, 2, 0, 1],
                vec![0xff; 200],
                b"GET /".to_vec(),
                Vec::new(),
            ] {
                for _ in 0..5 {
                    number += 1;
                    world.connect(mallory, StreamId(number), to);
                    world.send_stream(mallory, StreamId(number), junk.clone());
                }
            }
        }
    }
    stage.run(10);
    let story = stage.story();
    assert!(stage.rang() && both_heard(&stage), "{story}");
    assert!(selected(stage.bob()).unwrap().transport.is_tcp(), "{story}");
    assert_eq!(stage.outcome().unwrap().1, Outcome::Completed, "{story}");
}
