//! Relayed candidates by TCP and TLS, gathered from a TURN server on a virtual Internet.

mod hostile;
mod refusals;
mod stage;

use std::time::Duration;

use ringtrue_ice::{CandidateType, TurnTransport};
use ringtrue_testnet::{GatewayConfig, StreamId};

use crate::stage::{BOB, BOB_6, NAME, Stage, addr, at, every_way, ms, rtp, server};

/// Where datagrams pass, nothing else is kept, and hardly anything is tried.
#[test]
fn datagrams_are_preferred() {
    let mut stage = Stage::new(|nat| nat, server(), every_way()).gathered();
    assert_eq!(stage.of(CandidateType::Relayed).len(), 1);
    assert_eq!(stage.of(CandidateType::ServerReflexive).len(), 1);
    stage.run(Duration::from_secs(2));
    assert_eq!(stage.count(), 1, "what was tried beside it is given back");
}

#[test]
fn tcp_is_used_where_udp_is_eaten_and_tls_where_only_the_web_passes() {
    type Firewall = fn(GatewayConfig) -> GatewayConfig;
    let eaten: Firewall = GatewayConfig::eating_udp;
    let web: Firewall = GatewayConfig::only_web;
    for (firewall, name) in [(eaten, None), (web, Some(NAME.to_owned()))] {
        let mut stage = Stage::new(firewall, server(), every_way()).gathered();
        let relayed = stage.of(CandidateType::Relayed);
        assert_eq!(relayed.len(), 1);
        // The mapped address of a connection is no address of the socket's.
        assert_eq!(stage.of(CandidateType::ServerReflexive), []);
        assert!(stage.connects.iter().any(|(_, tls)| *tls == name));
        let start = stage.at_bob.len();
        for length in 0..6 {
            stage.send(relayed[0], BOB, &rtp(length));
        }
        let sent: Vec<_> = (0..6).map(|length| (relayed[0], rtp(length))).collect();
        assert_eq!(stage.at_bob[start..], sent);
        assert_eq!(stage.packets, 6, "none of the requests among them");
        for length in [0, 1, 1200] {
            let (bob, to) = (stage.bob, relayed[0]);
            stage.world.send_udp(bob, addr(BOB), to, rtp(length));
            stage.run(ms(100));
            let last = stage.at_alice.pop().expect("it came through");
            assert_eq!((last.base, last.from), (relayed[0], addr(BOB)));
            assert_eq!(last.payload, rtp(length));
        }
        stage.run(Duration::from_secs(1500));
        stage.send(relayed[0], BOB, &rtp(9));
        assert_eq!(
            stage.at_bob.last(),
            Some(&(relayed[0], rtp(9))),
            "refreshed"
        );
        stage.gatherer.release_all(stage.world.now());
        stage.run(ms(100));
        assert!(stage.gatherer.is_released());
        assert_eq!(stage.count(), 0);
    }
}

/// A certificate for another name, a port where nobody listens, a server that never answers.
#[test]
fn connections_that_fail_hold_nothing_up() {
    let wrong = at(443, TurnTransport::Tls("turn.example.net".to_owned()));
    let closed = at(81, TurnTransport::Tcp);
    let mut stage = Stage::new(|nat| nat, server(), vec![wrong, closed]);
    stage.run(ms(200));
    assert!(stage.gatherer.is_finished(), "refused is settled");
    assert_eq!(stage.of(CandidateType::Relayed), []);
    let mut stage = Stage::new(|nat| nat, server(), vec![at(3478, TurnTransport::Tcp)]);
    stage.world.black_hole_between(stage.alice, stage.turn);
    stage.run(ms(499));
    assert!(!stage.gatherer.is_finished());
    stage.run(ms(1));
    assert!(stage.gatherer.is_finished(), "silence costs the patience");
    stage.run(Duration::from_secs(10));
    assert!(stage.gatherer.poll_timeout(&stage.pacer).is_none());
}

/// What follows a connection that the server cuts off: another one, under the same name.
#[test]
fn a_cut_connection_has_a_successor() {
    let only_tcp = vec![at(3478, TurnTransport::Tcp)];
    let mut stage = Stage::new(|nat| nat, server(), only_tcp).gathered();
    let relayed = stage.of(CandidateType::Relayed);
    let (stream, _) = stage.streams[0];
    let now = stage.world.now();
    stage.world.close_stream(stage.alice, StreamId(0));
    stage.gatherer.handle_stream_closed(now, stream);
    stage.run(ms(500));
    assert_eq!(stage.connects.len(), 2);
    assert_eq!(
        (stage.count(), stage.of(CandidateType::Relayed)),
        (1, relayed.clone())
    );
    stage.send(relayed[0], BOB, &rtp(0));
    assert_eq!(stage.at_bob.len(), 1);
}

/// Garbage, a message that never ends, and nothing at all, from a server.
#[test]
fn a_hostile_server_ends_its_own_connection_only() {
    let only_tcp = vec![at(3478, TurnTransport::Tcp)];
    for garbage in [
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        vec![0xff; 100],
        vec![0; 70_000],
        [0x40, 0, 0xff, 0xff].repeat(40_000),
    ] {
        let mut stage = Stage::new(|nat| nat, server(), only_tcp.clone()).gathered();
        let (stream, _) = stage.streams[0];
        for piece in garbage.chunks(1000) {
            let now = stage.world.now();
            stage.gatherer.handle_stream(now, stream, piece);
        }
        stage.run(Duration::from_secs(1));
        assert_eq!(stage.gatherer.poll_relayed(), None);
    }
}

/// RFC 8489 section 9.2: SHA-256 where it is offered, with nonces that go stale, and at the end.
#[test]
fn sha_256_is_used_where_it_is_offered() {
    let server = || {
        server()
            .with_sha256()
            .with_nonce_lifetime(Duration::from_secs(50))
    };
    for transport in [TurnTransport::Udp, TurnTransport::Tcp] {
        let servers = vec![at(3478, transport)];
        let mut stage = Stage::new(|nat| nat, server(), servers).gathered();
        let relayed = stage.of(CandidateType::Relayed);
        for _ in 0..20 {
            stage.send(relayed[0], BOB, &rtp(0));
            stage.run(Duration::from_secs(60));
        }
        assert_eq!(stage.at_bob.len(), 20);
        // The nonce is stale by now: the release is asked for once more.
        stage.run(Duration::from_secs(60));
        stage.gatherer.release_all(stage.world.now());
        stage.run(ms(200));
        assert_eq!(stage.count(), 0);
        assert!(stage.gatherer.is_released());
    }
}

/// RFC 8656 section 7.1: one allocation, two addresses, and each peer is reached from its own.
#[test]
fn an_ipv4_host_reaches_ipv6_peers_through_the_relay() {
    let ipv6 = addr("[2001:db8::1]:1").ip();
    let servers = vec![at(3478, TurnTransport::Udp)];
    let mut stage = Stage::new(|nat| nat, server().with_ipv6(ipv6), servers).gathered();
    let relayed = stage.of(CandidateType::Relayed);
    let [first, second] = relayed[..] else {
        panic!("two of {relayed:?}");
    };
    assert!(first.is_ipv4() && second.is_ipv6());
    assert_eq!(stage.count(), 1);
    stage.send(second, BOB_6, &rtp(1));
    stage.send(first, BOB, &rtp(2));
    assert_eq!(stage.at_bob, [(second, rtp(1)), (first, rtp(2))]);
    let bob = stage.bob;
    stage.world.send_udp(bob, addr(BOB_6), second, rtp(3));
    stage.run(ms(100));
    assert_eq!(stage.at_alice[0].base, second);
    // A server without IPv6 gives the one that it has.
    let servers = vec![at(3478, TurnTransport::Udp)];
    let stage = Stage::new(|nat| nat, server(), servers).gathered();
    assert_eq!(stage.of(CandidateType::Relayed).len(), 1);
}

/// RFC 8445 section 9: a restart uses the connection that stands, after a word with the server.
#[test]
fn a_restart_keeps_the_connection() {
    let only_tcp = vec![at(3478, TurnTransport::Tcp)];
    let mut stage = Stage::new(|nat| nat, server(), only_tcp.clone()).gathered();
    stage.gatherer.tell();
    let relayed = stage.of(CandidateType::Relayed);
    stage.gatherer.gather_again(
        stage.world.now(),
        stage::config(only_tcp.clone()),
        vec![stage::base(stage::RTP)],
    );
    assert!(!stage.gatherer.is_finished(), "the server is asked");
    stage.run(ms(50));
    assert!(stage.gatherer.is_finished() && stage.gatherer.is_answered());
    assert_eq!(stage.of(CandidateType::Relayed), relayed);
    // Better ways do not end what peers know.
    stage.gather_again(every_way(), stage::RTP);
    stage.run(Duration::from_secs(2));
    assert_eq!(stage.of(CandidateType::Relayed), relayed);
    assert_eq!((stage.connects.len(), stage.count()), (1, 1));
    // On another socket there is another one, and the first is closed.
    stage.gather_again(only_tcp, "192.168.1.2:5000");
    assert_eq!((stage.connects.len(), stage.count()), (2, 1));
    assert_ne!(stage.of(CandidateType::Relayed), relayed);
}

/// A firewall that eats what goes to some servers costs the patience once, not at every restart.
/// Where nobody answers, everybody is waited for.
#[test]
fn who_was_silent_is_not_waited_for_again() {
    let mut silent = at(3478, TurnTransport::Udp);
    silent.address = addr("198.51.100.9:3478");
    let servers = vec![silent, at(3478, TurnTransport::Udp)];
    let mut stage = Stage::new(|nat| nat, server(), servers.clone());
    let gather = |stage: &mut Stage, took: u64| {
        stage.run(ms(took - 1));
        assert!(!stage.gatherer.is_finished(), "before {took} ms");
        stage.run(ms(1));
        assert!(stage.gatherer.is_finished(), "after {took} ms");
    };
    let again = |stage: &mut Stage| {
        let bases = vec![stage::base(stage::RTP)];
        let now = stage.world.now();
        let config = stage::config(servers.clone());
        stage.gatherer.gather_again(now, config, bases);
    };
    gather(&mut stage, 500);
    // One round trip to the server that answers.
    again(&mut stage);
    gather(&mut stage, 40);
    stage.run(Duration::from_secs(5));
    let (alice, turn) = (stage.alice, stage.turn);
    stage.world.black_hole_between(alice, turn);
    again(&mut stage);
    gather(&mut stage, 500);
    again(&mut stage);
    gather(&mut stage, 500);
    stage.world.heal();
    again(&mut stage);
    gather(&mut stage, 40);
    assert_eq!(stage.of(CandidateType::Relayed).len(), 1);
}

/// What an old session sends from addresses that are no more still finds its way, and what
/// the restarted session offers are the addresses that the allocation has.
#[test]
fn a_restarted_server_gives_new_addresses_of_both_families() {
    let ipv6 = addr("[2001:db8::1]:1").ip();
    for transport in [TurnTransport::Udp, TurnTransport::Tcp] {
        let servers = vec![at(3478, transport)];
        let mut stage = Stage::new(|nat| nat, server().with_ipv6(ipv6), servers.clone()).gathered();
        stage.gatherer.tell();
        let before = stage.of(CandidateType::Relayed);
        stage
            .reboots
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        stage.gather_again(servers, stage::RTP);
        stage.run(ms(500));
        let now = stage.of(CandidateType::Relayed);
        assert_eq!((now.len(), stage.count()), (2, 1));
        assert!(now.iter().all(|own| !before.contains(own)));
        assert!(stage.gatherer.is_stale());
        for (old, new, to) in [(before[0], now[0], BOB), (before[1], now[1], BOB_6)] {
            stage.at_bob.clear();
            stage.send(old, to, &rtp(1));
            stage.send(new, to, &rtp(2));
            assert_eq!(stage.at_bob, [(new, rtp(1)), (new, rtp(2))]);
            let socket = stage.gatherer.socket_of(old);
            assert_eq!(socket, addr(stage::RTP));
        }
        let all: Vec<_> = stage.gatherer.relayed_of(addr(stage::RTP)).collect();
        assert!(before.iter().chain(&now).all(|own| all.contains(own)));
    }
}

/// A network that was dead for a while: TCP would come back late, so another connection is made.
#[test]
fn a_connection_that_is_stuck_is_replaced() {
    let only_tcp = vec![at(3478, TurnTransport::Tcp)];
    let mut stage = Stage::new(|nat| nat, server(), only_tcp.clone()).gathered();
    // The server's answers do not come any more.
    stage.deaf = true;
    stage.gather_again(only_tcp.clone(), stage::RTP);
    stage.run(ms(2_000));
    stage.gather_again(only_tcp.clone(), stage::RTP);
    assert_eq!(stage.connects.len(), 1, "not yet");
    stage.run(ms(500));
    stage.deaf = false;
    stage.gather_again(only_tcp, stage::RTP);
    assert_eq!(stage.connects.len(), 2);
    assert!(stage.gatherer.is_answered());
    assert_eq!(stage.count(), 1);
}

/// A server that was down when the pool was filled is found once it is there.
#[test]
fn a_server_that_refused_connections_is_tried_again() {
    let only_tcp = vec![at(81, TurnTransport::Tcp)];
    let mut stage = Stage::new(|nat| nat, server(), only_tcp).gathered();
    assert_eq!(stage.of(CandidateType::Relayed), []);
    let turn = stage.turn;
    stage.world.listen(turn, 81);
    stage.run(Duration::from_secs(30));
    stage.gatherer.verify(stage.world.now());
    stage.run(ms(500));
    assert_eq!(stage.of(CandidateType::Relayed).len(), 1);
}
