//! Lines, firewalls, black holes, taps, interfaces, and worlds that repeat themselves.
//!
//! ```text
//!   alice 198.51.100.1 ── Internet ── bob 198.51.100.2
//! ```

mod common;

use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use common::{addr, ms, send, settle, wait};
use ringtrue_testnet::{
    Delivery, GatewayConfig, HostId, Link, NatConfig, Node, Outbox, RandomWorld, Simulation, Stage,
    Verdict, World,
};

const ALICE: &str = "198.51.100.1:5004";
const BOB: &str = "198.51.100.2:5004";

fn pair(seed: u64, link: Link) -> (World, HostId, HostId) {
    let mut world = World::new(seed);
    let internet = world.internet();
    let alice = world.host_at("alice", internet, [198, 51, 100, 1]);
    let bob = world.add_host("bob");
    world.add_interface(bob, internet, [198, 51, 100, 2], link);
    (world, alice, bob)
}

/// Sends a hundred numbered datagrams at once; gives the numbers as they arrived.
fn hundred(world: &mut World, from: HostId) -> Vec<u8> {
    for number in 0..100 {
        world.send_udp(from, addr(ALICE), addr(BOB), vec![number]);
    }
    let arrived = settle(world).into_iter();
    arrived
        .map(|(_, _, delivery)| match delivery {
            Delivery::Datagram { payload, .. } => payload[0],
            other => panic!("unexpected {other:?}"),
        })
        .collect()
}

#[test]
fn delay_is_kept_to_the_nanosecond() {
    let (mut world, alice, bob) = pair(1, Link::with_delay(ms(7)));
    world.set_delay_between(alice, bob, ms(30));
    world.send_udp(alice, addr(ALICE), addr(BOB), vec![1]);
    let arrived = settle(&mut world);
    assert_eq!(arrived.len(), 1);
    assert_eq!((arrived[0].0, arrived[0].1), (ms(37), bob));
}

#[test]
fn loss_is_about_what_was_asked_for() {
    let lossy = Link {
        loss: 0.3,
        ..Link::default()
    };
    let (mut world, alice, _) = pair(1, lossy);
    let arrived: usize = (0..20).map(|_| hundred(&mut world, alice).len()).sum();
    assert!(
        (1_300..1_500).contains(&arrived),
        "{arrived} of 2000 arrived"
    );
}

#[test]
fn jitter_reorders() {
    let jittery = Link {
        jitter: ms(10),
        ..Link::default()
    };
    let (mut world, alice, _) = pair(1, jittery);
    let arrived = hundred(&mut world, alice);
    assert_eq!(arrived.len(), 100);
    assert!(!arrived.is_sorted());
    assert!(world.elapsed() <= ms(10));
}

#[test]
fn equal_seeds_give_equal_worlds() {
    let rough = Link {
        delay: ms(5),
        jitter: ms(20),
        loss: 0.2,
    };
    let run = |seed| {
        let (mut world, alice, _) = pair(seed, rough);
        hundred(&mut world, alice)
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}

#[test]
fn a_filter_that_opens_while_a_packet_flies_lets_it_in() {
    let (mut world, _, bob) = pair(1, Link::default());
    let internet = world.internet();
    let nat = GatewayConfig::nat([203, 0, 113, 1], NatConfig::port_restricted());
    let (_, home) = world.add_gateway(internet, nat);
    let carol = world.host_at("carol", home, [192, 168, 1, 2]);
    world.set_delay_between(bob, carol, ms(50));
    world.send_udp(bob, addr(BOB), addr("203.0.113.1:5004"), vec![1]);
    wait(&mut world, ms(49));
    world.send_udp(carol, addr("192.168.1.2:5004"), addr(BOB), vec![2]);
    let hosts: Vec<_> = settle(&mut world)
        .iter()
        .map(|(_, host, _)| *host)
        .collect();
    assert_eq!(hosts, [carol, bob]);
}

#[test]
fn firewalls_eat_udp_and_pass_streams() {
    let (mut world, alice, bob) = pair(1, Link::default());
    world.eat_udp(bob, true);
    world.listen(bob, 5060);
    assert_eq!(send(&mut world, alice, ALICE, BOB), None);
    world.connect(
        alice,
        ringtrue_testnet::StreamId(1),
        addr("198.51.100.2:5060"),
    );
    assert!(!settle(&mut world).is_empty());
    world.eat_udp(bob, false);
    assert!(send(&mut world, alice, ALICE, BOB).is_some());
}

#[test]
fn black_holes_swallow_one_direction_until_healed() {
    let (mut world, alice, bob) = pair(1, Link::default());
    let (at_alice, at_bob) = (addr(ALICE).ip(), addr(BOB).ip());
    world.black_hole((alice, at_alice), (bob, at_bob));
    assert_eq!(send(&mut world, alice, ALICE, BOB), None);
    assert!(send(&mut world, bob, BOB, ALICE).is_some());
    world.black_hole_interface(bob, at_bob);
    assert_eq!(send(&mut world, bob, BOB, ALICE), None);
    world.heal();
    assert!(send(&mut world, alice, ALICE, BOB).is_some());
}

//   alice 198.51.100.1 and 10.0.0.1 ── VPN ── bob 198.51.100.2 and 10.0.0.2
#[test]
fn sockets_on_any_address_leave_by_the_interface_that_fits() {
    let (mut world, alice, bob) = pair(1, Link::default());
    let internet = world.internet();
    let (_, vpn) = world.add_gateway(internet, GatewayConfig::default());
    world.add_interface(alice, vpn, [10, 0, 0, 1], Link::default());
    world.add_interface(bob, vpn, [10, 0, 0, 2], Link::default());
    let seen = send(&mut world, alice, "0.0.0.0:9", "10.0.0.2:9");
    assert_eq!(seen, Some(addr("10.0.0.1:9")));
    let seen = send(&mut world, alice, "0.0.0.0:9", BOB);
    assert_eq!(seen, Some(addr("198.51.100.1:9")));
    let foreign = send(&mut world, alice, "203.0.113.99:9", BOB);
    assert_eq!(foreign, None, "hosts do not spoof");
}

#[test]
fn a_removed_address_is_gone_and_can_come_back() {
    let (mut world, alice, bob) = pair(1, Link::default());
    let gone: IpAddr = addr(BOB).ip();
    world.remove_address(bob, gone);
    assert_eq!(send(&mut world, alice, ALICE, BOB), None);
    assert_eq!(send(&mut world, bob, BOB, ALICE), None);
    let internet = world.internet();
    world.add_interface(bob, internet, gone, Link::default());
    assert!(send(&mut world, alice, ALICE, BOB).is_some());
}

#[test]
fn taps_drop_replace_delay_and_copy() {
    let (mut world, alice, _) = pair(1, Link::default());
    world.add_tap(|passing| match (passing.stage, passing.payload) {
        (Stage::Departure, [1]) => Verdict::Drop,
        (Stage::Departure, [2]) => Verdict::Replace(vec![22]),
        (Stage::Arrival, [3]) => Verdict::Delay(ms(5)),
        (Stage::Arrival, [4]) => Verdict::Copies(vec![(ms(0), vec![4]), (ms(2), vec![44])]),
        _ => Verdict::Pass,
    });
    for number in 1..=5 {
        world.send_udp(alice, addr(ALICE), addr(BOB), vec![number]);
    }
    let arrived: Vec<_> = settle(&mut world)
        .into_iter()
        .map(|(at, _, delivery)| match delivery {
            Delivery::Datagram { payload, .. } => (at, payload[0]),
            other => panic!("unexpected {other:?}"),
        })
        .collect();
    let expected = [(ms(0), 22), (ms(0), 4), (ms(0), 5), (ms(2), 44), (ms(5), 3)];
    assert_eq!(arrived, expected);
}

#[test]
fn taps_see_both_sides_of_a_nat_and_attackers_spoof() {
    let (mut world, _, bob) = pair(1, Link::default());
    let internet = world.internet();
    let nat = GatewayConfig::nat([203, 0, 113, 1], NatConfig::full_cone());
    let (_, home) = world.add_gateway(internet, nat);
    let carol = world.host_at("carol", home, [192, 168, 1, 2]);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    world.add_tap(move |passing| {
        let line = (
            passing.stage,
            passing.sender,
            passing.receiver,
            passing.source,
        );
        log.lock().unwrap().push(line);
        Verdict::Pass
    });
    let (inner, outer) = (addr("192.168.1.2:7"), addr("203.0.113.1:7"));
    send(&mut world, carol, "192.168.1.2:7", BOB);
    world.inject(internet, addr(ALICE), addr(BOB), vec![0]);
    assert_eq!(settle(&mut world).len(), 1);
    let expected = [
        (Stage::Departure, Some(carol), None, inner),
        (Stage::Arrival, Some(carol), Some(bob), outer),
        (Stage::Arrival, None, Some(bob), addr(ALICE)),
    ];
    assert_eq!(*seen.lock().unwrap(), expected);
}

#[test]
fn a_fresh_copy_has_the_topology_and_nothing_else() {
    let lossy = Link {
        loss: 1.0,
        ..Link::with_delay(ms(3))
    };
    let (mut world, alice, bob) = pair(1, lossy);
    world.black_hole((bob, addr(BOB).ip()), (alice, addr(ALICE).ip()));
    world.add_tap(|_| Verdict::Drop);
    let mut copy = world.fresh_copy();
    assert_eq!(send(&mut world, alice, ALICE, BOB), None);
    assert!(send(&mut copy, alice, ALICE, BOB).is_some());
    assert_eq!(copy.elapsed(), ms(3));
    assert_eq!(send(&mut copy, bob, BOB, ALICE), None, "black holes stay");
}

/// Sends a datagram back a while after it came.
struct Echo {
    after: std::time::Duration,
    held: Vec<(
        std::time::Instant,
        std::net::SocketAddr,
        std::net::SocketAddr,
    )>,
    seen: usize,
}

impl Node for Echo {
    fn handle_delivery(&mut self, now: std::time::Instant, delivery: Delivery) {
        if let Delivery::Datagram { local, from, .. } = delivery {
            self.seen += 1;
            self.held.push((now + self.after, local, from));
        }
    }

    fn handle_timeout(&mut self, _now: std::time::Instant) {}

    fn poll_timeout(&self) -> Option<std::time::Instant> {
        self.held.iter().map(|(at, _, _)| *at).min()
    }

    fn drain(&mut self, now: std::time::Instant, out: &mut Outbox) {
        self.held.retain(|(at, local, from)| {
            let due = *at <= now;
            if due {
                out.datagram(*local, *from, vec![0]);
            }
            !due
        });
    }
}

#[test]
fn a_simulation_jumps_from_wake_up_to_wake_up() {
    let (mut world, alice, bob) = pair(1, Link::with_delay(ms(10)));
    world.send_udp(alice, addr(ALICE), addr(BOB), vec![0]);
    let echo = |after| Echo {
        after,
        held: Vec::new(),
        seen: 0,
    };
    // Alice answers after 3 ms, bob after 5, the line takes 10: a round is 28 ms.
    let mut simulation = Simulation::new(world);
    simulation.add(alice, echo(ms(3)));
    simulation.add(bob, echo(ms(5)));
    let begun = simulation.now();
    assert!(simulation.wait_for(ms(1_000), |s| s.node(bob).seen == 2));
    assert_eq!(simulation.now() - begun, ms(38));
    simulation.run_until(begun + ms(1_000));
    assert_eq!(simulation.now() - begun, ms(1_000));
    assert_eq!(
        (simulation.node(alice).seen, simulation.node(bob).seen),
        (35, 36)
    );
    assert!(!simulation.wait_for(ms(5), |_| false));
}

#[test]
fn random_worlds_come_from_their_seed_alone() {
    let text = |seed| RandomWorld::generate(seed).description().to_owned();
    assert_eq!(text(11), text(11));
    let several: std::collections::BTreeSet<String> = (0..50).map(text).collect();
    assert_eq!(several.len(), 50);
    for seed in 0..200 {
        let random = RandomWorld::generate(seed);
        for peer in [&random.left, &random.right] {
            let addresses = random.world.addresses(peer.host);
            let mut preferred = peer.addresses.clone();
            preferred.sort();
            let mut addresses = addresses;
            addresses.sort();
            assert_eq!(preferred, addresses);
            assert!((1..=20).contains(&addresses.len()), "{random:?}");
        }
    }
}
