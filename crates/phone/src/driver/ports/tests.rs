//! Routers of all kinds, each on a loopback address of its own: 127.A.B.1 is the gateway of
//! 127.A.B.9. Nothing here leaves this machine.

mod fake;
mod hostile;

use super::*;
use fake::{EXTERNAL, FakeRouter, Speaks};

/// A phone's ports, and a socket address behind the router of this network.
fn behind(network: u8) -> (Ports, SocketAddr) {
    let ports = Ports {
        find_gateway: |local| {
            let [a, b, c, _] = local.octets();
            Some(Ipv4Addr::new(a, b, c, 1))
        },
        group: false,
        ..Ports::new()
    };
    (ports, SocketAddr::from(([127, 86, network, 9], 40_000)))
}

/// Asks for a port and waits for what comes.
async fn ask(ports: &mut Ports, request: u64, local: SocketAddr) -> Option<(SocketAddr, Duration)> {
    let request = MapRequest(request);
    if let Some(mapped) = ports.map(request, local) {
        return mapped.external;
    }
    loop {
        let done = ports.next().await.expect("a task is at work");
        if let Some(mapped) = ports.handle(done) {
            assert_eq!(mapped.request, request);
            return mapped.external;
        }
    }
}

#[tokio::test]
async fn each_protocol_maps_renews_and_removes() {
    for (network, speaks) in [(1, Speaks::PCP), (2, Speaks::NAT_PMP), (3, Speaks::UPNP)] {
        let router = FakeRouter::start(network, speaks).await;
        let (mut ports, local) = behind(network);
        let (external, lifetime) = ask(&mut ports, 1, local).await.expect("a mapping");
        assert_eq!(external, SocketAddr::from((EXTERNAL, 40_000)));
        assert_eq!(lifetime, Duration::from_secs(600));
        assert_eq!(router.mapped(), [40_000]);
        let renewed = ask(&mut ports, 1, local).await;
        assert_eq!(renewed, Some((external, lifetime)));
        assert_eq!(router.mapped(), [40_000]);
        assert!(router.times_asked() >= 2, "{:?}", router.log());
        ports.unmap(MapRequest(1));
        ports.finish().await;
        assert_eq!(router.mapped(), [0u16; 0], "{:?}", router.log());
    }
}

#[tokio::test]
async fn of_three_protocols_one_makes_the_mapping() {
    let everything = Speaks {
        pcp: true,
        natpmp: true,
        upnp: true,
    };
    let router = FakeRouter::start(4, everything).await;
    let (mut ports, local) = behind(4);
    assert!(ask(&mut ports, 1, local).await.is_some());
    let second = SocketAddr::new(local.ip(), 40_001);
    assert!(ask(&mut ports, 2, second).await.is_some());
    let log = router.log();
    assert_eq!(router.mapped(), [40_000, 40_001], "{log:?}");
    assert!(
        log.iter()
            .all(|line| !line.contains("map") || line.starts_with("pcp")),
        "{log:?}"
    );
    // All of them were asked, but only for the first port.
    for protocol in ["pcp", "natpmp", "upnp"] {
        assert!(
            log.iter().any(|line| line.starts_with(protocol)),
            "{protocol}: {log:?}"
        );
    }
    ports.finish().await;
    assert_eq!(router.mapped(), [0u16; 0]);
}

#[tokio::test]
async fn the_next_protocol_is_taken_when_one_refuses() {
    let both = Speaks {
        natpmp: true,
        upnp: true,
        ..Speaks::PCP
    };
    let router = FakeRouter::start(5, both).await;
    router.refuse("pcp");
    router.refuse("natpmp");
    let (mut ports, local) = behind(5);
    assert!(ask(&mut ports, 1, local).await.is_some());
    assert_eq!(router.mapped(), [40_000], "{:?}", router.log());
    assert!(router.log().iter().any(|line| line == "upnp map 40000 600"));
}

#[tokio::test]
async fn an_external_port_that_others_have_is_not_insisted_on() {
    let router = FakeRouter::start(6, Speaks::UPNP).await;
    router.occupy(40_000);
    let (mut ports, local) = behind(6);
    let (external, _) = ask(&mut ports, 1, local).await.expect("a mapping");
    assert_ne!(external.port(), 40_000);
    assert_eq!(router.mapped(), [40_000, external.port()]);
    ports.finish().await;
    assert_eq!(router.mapped(), [40_000]);
}

#[tokio::test]
async fn a_silent_router_is_given_up_and_left_alone() {
    let router = FakeRouter::start(7, Speaks::NOTHING).await;
    let (mut ports, local) = behind(7);
    let begin = Instant::now();
    assert_eq!(ask(&mut ports, 1, local).await, None);
    assert!(
        begin.elapsed() < Duration::from_secs(4),
        "{:?}",
        begin.elapsed()
    );
    let heard = router.log().len();
    assert!(heard >= 3, "it was asked: {:?}", router.log());
    // Asked again at once, nothing is sent.
    assert_eq!(ask(&mut ports, 2, local).await, None);
    assert_eq!(router.log().len(), heard);
    ports.finish().await;
}

#[tokio::test]
async fn without_a_gateway_nobody_is_asked() {
    let mut ports = Ports::new();
    for local in ["127.0.0.1:40000", "[::1]:40000", "[2001:db8::1]:40000"] {
        let mapped = ports.map(MapRequest(1), local.parse().unwrap());
        assert_eq!(mapped.expect("at once").external, None);
    }
    assert!(ports.next().await.is_none(), "no task was begun");
}

#[tokio::test]
async fn a_mapping_that_comes_too_late_is_removed() {
    let router = FakeRouter::start(8, Speaks::PCP).await;
    let (mut ports, local) = behind(8);
    assert_eq!(ports.map(MapRequest(1), local), None);
    ports.unmap(MapRequest(1));
    while let Some(done) = ports.next().await {
        assert_eq!(ports.handle(done), None);
    }
    let mut log = router.log();
    log.retain(|line| line.contains("map"));
    assert_eq!(log, ["pcp map 40000 600", "pcp map 40000 0"]);
    assert_eq!(router.mapped(), [0u16; 0]);
}

#[tokio::test]
async fn the_end_waits_for_a_router_but_not_long() {
    let router = FakeRouter::start(9, Speaks::PCP).await;
    let (mut ports, local) = behind(9);
    assert!(ask(&mut ports, 1, local).await.is_some());
    router.fall_silent();
    let begin = Instant::now();
    ports.finish().await;
    let took = begin.elapsed();
    assert!(took >= FAREWELL && took < 2 * FAREWELL, "{took:?}");
}

#[tokio::test]
async fn the_end_does_not_wait_for_a_router_that_has_said_nothing() {
    let _router = FakeRouter::start(10, Speaks::NOTHING).await;
    let (mut ports, local) = behind(10);
    assert_eq!(ports.map(MapRequest(1), local), None);
    let begin = Instant::now();
    ports.finish().await;
    let took = begin.elapsed();
    assert!(took < FAREWELL, "{took:?}");
}
