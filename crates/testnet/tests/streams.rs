//! Streams arrive whole and in order, through NATs, or say why not.
//!
//! ```text
//!   alice 192.168.1.2 ── NAT 203.0.113.1 ── Internet ── bob 198.51.100.2, listening on 5060
//! ```

mod common;

use common::{addr, ms, settle};
use ringtrue_testnet::{Delivery, GatewayConfig, HostId, Link, NatConfig, StreamId, World};

const FIRST: StreamId = StreamId(1);

fn net(link: Link) -> (World, HostId, HostId) {
    let mut world = World::new(3);
    let internet = world.internet();
    let nat = GatewayConfig::nat([203, 0, 113, 1], NatConfig::symmetric());
    let (_, home) = world.add_gateway(internet, nat.with_link(link));
    let alice = world.host_at("alice", home, [192, 168, 1, 2]);
    let bob = world.host_at("bob", internet, [198, 51, 100, 2]);
    world.listen(bob, 5060);
    (world, alice, bob)
}

fn bytes_at(log: &[(std::time::Duration, HostId, Delivery)], host: HostId) -> Vec<u8> {
    let pieces = log.iter().filter_map(|(_, at, delivery)| match delivery {
        Delivery::StreamBytes { payload, .. } if *at == host => Some(payload.clone()),
        _ => None,
    });
    pieces.flatten().collect()
}

#[test]
fn a_stream_stands_after_a_round_trip_and_carries_bytes_both_ways() {
    let (mut world, alice, bob) = net(Link::with_delay(ms(20)));
    world.connect(alice, FIRST, addr("198.51.100.2:5060"));
    world.send_stream(alice, FIRST, b"early".to_vec());
    let log = settle_streams(&mut world);
    let Delivery::Accepted { stream, from, .. } = log[0].2.clone() else {
        panic!("bob accepts first, not {:?}", log[0]);
    };
    assert_eq!((log[0].0, from.ip()), (ms(20), addr("203.0.113.1:1").ip()));
    assert!(
        matches!(&log[1], (at, host, Delivery::Connected { stream: FIRST, .. })
        if *at == ms(40) && *host == alice)
    );
    assert_eq!((log[2].0, bytes_at(&log, bob)), (ms(60), b"early".to_vec()));

    world.send_stream(bob, stream, b"hello".to_vec());
    world.close_stream(bob, stream);
    let log = settle_streams(&mut world);
    assert_eq!(bytes_at(&log, alice), b"hello");
    let closed = Delivery::Closed {
        stream: FIRST,
        refused: false,
    };
    assert_eq!(log.last().unwrap().2, closed);
    world.send_stream(alice, FIRST, b"late".to_vec());
    assert!(settle_streams(&mut world).is_empty());
}

#[test]
fn loss_and_reordering_cost_time_only() {
    let (mut world, alice, bob) = net(Link {
        delay: ms(5),
        jitter: ms(50),
        loss: 0.3,
    });
    world.connect(alice, FIRST, addr("198.51.100.2:5060"));
    let text: Vec<u8> = (0..=255).collect();
    for byte in &text {
        world.send_stream(alice, FIRST, vec![*byte]);
    }
    world.close_stream(alice, FIRST);
    let log = settle_streams(&mut world);
    assert_eq!(bytes_at(&log, bob), text);
    assert!(matches!(
        log.last().unwrap().2,
        Delivery::Closed { refused: false, .. }
    ));
}

#[test]
fn nobody_listening_is_a_refusal_after_a_round_trip() {
    let (mut world, alice, _) = net(Link::with_delay(ms(20)));
    world.connect(alice, FIRST, addr("198.51.100.2:5061"));
    let log = settle_streams(&mut world);
    let refused = Delivery::Closed {
        stream: FIRST,
        refused: true,
    };
    assert_eq!(log, [(ms(40), alice, refused)]);
}

#[test]
fn silence_is_a_time_out() {
    let (mut world, alice, bob) = net(Link::default());
    world.black_hole_between(alice, bob);
    world.connect(alice, FIRST, addr("198.51.100.2:5060"));
    let log = settle(&mut world);
    let closed = Delivery::Closed {
        stream: FIRST,
        refused: false,
    };
    assert_eq!(log, [(ms(127_000), alice, closed)]);
}

#[test]
fn nobody_connects_through_a_nat_from_outside() {
    let (mut world, alice, bob) = net(Link::default());
    world.listen(alice, 5060);
    world.connect(bob, FIRST, addr("203.0.113.1:5060"));
    assert!(settle_streams(&mut world).is_empty());
}

/// ```text
///   alice 192.168.1.2:7000 ── NAT 203.0.113.1 ── Internet ── NAT 203.0.113.2 ── 10.0.0.2:7000 carol
/// ```
///
/// Both open at once, each from the port that the other one connects to: whoever is first is
/// dropped at the other's NAT, which has no mapping yet, and both get the one stream (RFC 9293
/// section 3.5). If both are on their way at once, neither is dropped.
#[test]
fn who_opens_towards_each_other_gets_one_stream() {
    for carol_opens_after in [0, 10, 25, 70, 500] {
        let mut world = World::new(3);
        let internet = world.internet();
        let hosts = [
            ([203, 0, 113, 1], [192, 168, 1, 2]),
            ([203, 0, 113, 2], [10, 0, 0, 2]),
        ]
        .map(|(outer, inner)| {
            let nat = GatewayConfig::nat(outer, NatConfig::port_restricted());
            let nat = nat.with_link(Link::with_delay(ms(20)));
            let (_, home) = world.add_gateway(internet, nat);
            let host = world.host_at("host", home, inner);
            world.listen(host, 7000);
            host
        });
        let [alice, carol] = hosts;
        let from = |address| Some(addr(address));
        let to_carol = addr("203.0.113.2:7000");
        world.connect_from(alice, FIRST, from("192.168.1.2:7000"), to_carol, None);
        let opens_at = world.now() + ms(carol_opens_after);
        let mut log = Vec::new();
        log.extend(settle_until(&mut world, opens_at));
        let to_alice = addr("203.0.113.1:7000");
        world.connect_from(carol, FIRST, from("10.0.0.2:7000"), to_alice, None);
        log.extend(settle_streams(&mut world));
        let stands: Vec<HostId> = log
            .iter()
            .map(|(_, host, delivery)| match delivery {
                Delivery::Connected { stream: FIRST, .. } => *host,
                other => panic!("{other:?} after {carol_opens_after} ms"),
            })
            .collect();
        assert_eq!(stands.len(), 2, "{log:?}");
        assert!(stands.contains(&alice) && stands.contains(&carol));
        for (host, other) in [(alice, carol), (carol, alice)] {
            world.send_stream(host, FIRST, b"hello".to_vec());
            let log = settle_streams(&mut world);
            assert_eq!(bytes_at(&log, other), b"hello");
        }
        // There is no second one between the same two ports.
        let second = StreamId(2);
        world.connect_from(alice, second, from("192.168.1.2:7000"), to_carol, None);
        let refused = Delivery::Closed {
            stream: second,
            refused: true,
        };
        let log = settle_streams(&mut world);
        assert_eq!(log.len(), 1);
        assert_eq!(log[0].2, refused);
    }
}

/// A host with two addresses leaves by the one that it names, and says what name its TLS expects.
#[test]
fn a_stream_leaves_from_the_address_that_is_named() {
    let (mut world, _, bob) = net(Link::default());
    let internet = world.internet();
    let carol = world.host_at("carol", internet, [192, 0, 2, 1]);
    world.add_interface(carol, internet, [192, 0, 2, 2], Link::default());
    let to = addr("198.51.100.2:5060");
    let name = Some("bob.example".to_owned());
    let from = Some(addr("192.0.2.2:0"));
    world.connect_from(carol, FIRST, from, to, name.clone());
    let log = settle_streams(&mut world);
    let Delivery::Accepted { from, tls, .. } = &log[0].2 else {
        panic!("bob accepts first, not {:?}", log[0]);
    };
    assert_eq!((log[0].1, from.ip()), (bob, addr("192.0.2.2:1").ip()));
    assert_eq!(*tls, name);
    let nobodys = Some(addr("192.0.2.3:0"));
    world.connect_from(carol, StreamId(2), nobodys, to, None);
    let log = settle_streams(&mut world);
    assert!(matches!(log[0].2, Delivery::Closed { refused: true, .. }));
}

/// Everything but the connection time-outs, which come last.
fn settle_streams(world: &mut World) -> Vec<(std::time::Duration, HostId, Delivery)> {
    let limit = world.now() + ms(20_000);
    settle_until(world, limit)
}

fn settle_until(
    world: &mut World,
    limit: std::time::Instant,
) -> Vec<(std::time::Duration, HostId, Delivery)> {
    let mut log = Vec::new();
    while let Some(at) = world.next_event_at().filter(|at| *at < limit) {
        world.advance_to(at);
        while let Some((host, delivery)) = world.poll_delivery() {
            log.push((world.elapsed(), host, delivery));
        }
    }
    world.advance_to(limit);
    log
}
