//! Servers that do not give what they are asked for (RFC 8656 section 7.4), by datagrams and by
//! connections.

use std::time::Duration;

use ringtrue_ice::{Gatherer, TurnTransport};
use ringtrue_testnet::AskedFamilies;

use crate::stage::{BOB, BOB_6, RTP, Stage, addr, at, base, config, ms, rtp, server};

const BOTH_WAYS: [TurnTransport; 2] = [TurnTransport::Udp, TurnTransport::Tcp];

type Refuses = fn(AskedFamilies) -> Option<u16>;

fn dual_stack() -> ringtrue_testnet::TurnServer {
    server().with_ipv6(addr("[2001:db8::1]:1").ip())
}

fn asking(refuses: Refuses, transport: TurnTransport) -> Stage {
    let server = dual_stack().refusing(refuses);
    Stage::new(|nat| nat, server, vec![at(3478, transport)])
}

/// Servers that know nothing of both families in one allocation, or do not give them.
#[test]
fn one_address_family_is_better_than_none() {
    let no_both: [Refuses; 4] = [
        |asked| (asked == AskedFamilies::Both).then_some(400),
        |asked| (asked == AskedFamilies::Both).then_some(420),
        |asked| (asked == AskedFamilies::Both).then_some(440),
        |asked| (asked == AskedFamilies::Both).then_some(508),
    ];
    for refuses in no_both {
        for transport in BOTH_WAYS {
            let mut stage = asking(refuses, transport).gathered();
            let [relayed] = stage.relayed()[..] else {
                panic!("one of {:?}", stage.relayed());
            };
            assert!(relayed.is_ipv4());
            assert_eq!((stage.requested(), stage.count()), (2, 1));
            stage.send(relayed, BOB, &rtp(1));
            assert_eq!(stage.at_bob, [(relayed, rtp(1))]);
        }
    }
    for transport in BOTH_WAYS {
        let ipv6_alone = |asked| (asked != AskedFamilies::Ipv6).then_some(440);
        let mut stage = asking(ipv6_alone, transport).gathered();
        let [relayed] = stage.relayed()[..] else {
            panic!("one of {:?}", stage.relayed());
        };
        assert!(relayed.is_ipv6());
        assert_eq!((stage.requested(), stage.count()), (3, 1));
        stage.send(relayed, BOB_6, &rtp(1));
        assert_eq!(stage.at_bob, [(relayed, rtp(1))]);
    }
}

/// Whatever is refused is settled at once, and the server is not asked again and again.
#[test]
fn a_refusal_is_taken() {
    let codes: [Refuses; 9] = [
        |_| Some(300),
        |_| Some(403),
        |_| Some(420),
        |_| Some(440),
        |_| Some(441),
        |_| Some(442),
        |_| Some(486),
        |_| Some(500),
        |_| Some(508),
    ];
    for refuses in codes {
        for transport in BOTH_WAYS {
            let code = refuses(AskedFamilies::Both);
            let mut stage = asking(refuses, transport);
            stage.run(ms(400));
            assert!(stage.gatherer.is_finished(), "{code:?}");
            assert_eq!(stage.relayed(), []);
            let families = [420, 440, 508].contains(&code.unwrap());
            let requests = if families { 3 } else { 1 };
            assert_eq!(stage.requested(), requests, "{code:?}");
            stage.run(Duration::from_secs(600));
            assert_eq!(stage.requested(), requests, "{code:?}");
            assert_eq!(stage.gatherer.poll_timeout(&stage.pacer), None);
            assert!(stage.gatherer.is_released());
        }
    }
}

/// RFC 8656 section 7.4: not for a minute; in a pool and by restarts it may be asked again then.
#[test]
fn a_full_server_is_left_alone_for_a_minute() {
    for transport in BOTH_WAYS {
        let servers = vec![at(3478, transport)];
        let mut stage = asking(|_| Some(486), servers[0].transport.clone()).gathered();
        assert_eq!(stage.requested(), 1);
        stage.run(Duration::from_secs(29));
        stage.gatherer.verify(stage.world.now());
        stage.gather_again(servers.clone(), RTP);
        assert_eq!(stage.requested(), 1);
        stage.run(Duration::from_secs(31));
        stage.gatherer.verify(stage.world.now());
        stage.run(ms(500));
        assert_eq!(stage.requested(), 2);
        stage.run(Duration::from_secs(61));
        stage.gather_again(servers, RTP);
        assert_eq!(stage.requested(), 3);
    }
}

/// A phone that has crashed comes back on the same socket: what it left there makes way.
#[test]
fn an_allocation_in_the_way_is_deleted() {
    let servers = vec![at(3478, TurnTransport::Udp)];
    let mut stage = Stage::new(|nat| nat, dual_stack(), servers.clone()).gathered();
    let before = stage.relayed();
    let now = stage.world.now();
    stage.gatherer = Gatherer::new(config(servers), vec![base(RTP)], 2, now);
    let mut stage = stage.gathered();
    assert_eq!(stage.count(), 1);
    let relayed = stage.relayed();
    assert_eq!(relayed.len(), 2);
    assert!(!before.contains(&relayed[0]));
    stage.send(relayed[0], BOB, &rtp(1));
    assert_eq!(stage.at_bob, [(relayed[0], rtp(1))]);
}

/// It is somebody else's: three attempts, over TCP by three connections, and two minutes of peace.
#[test]
fn a_mismatch_that_stays_is_given_up() {
    for transport in BOTH_WAYS {
        let servers = vec![at(3478, transport)];
        let mut stage = asking(|_| Some(437), servers[0].transport.clone()).gathered();
        assert_eq!(stage.relayed(), []);
        assert_eq!(stage.requested(), 3);
        let by_tcp = servers[0].transport == TurnTransport::Tcp;
        assert_eq!(stage.connects.len(), if by_tcp { 3 } else { 0 });
        stage.run(Duration::from_secs(100));
        stage.gather_again(servers.clone(), RTP);
        assert_eq!(stage.requested(), 3);
        stage.run(Duration::from_secs(20));
        stage.gather_again(servers, RTP);
        assert_eq!(stage.requested(), 6);
    }
}
