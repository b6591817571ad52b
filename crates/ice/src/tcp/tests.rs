//! Connections without a network: who gets in, who is shown out.

use super::*;

/// The beginning of a STUN message, as far as it is told from other packets.
const STUN: [u8; 20] = [
    0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,
];

fn base() -> SocketAddr {
    "192.0.2.1:4000".parse().unwrap()
}

fn peer(port: u16) -> SocketAddr {
    SocketAddr::new("192.0.2.2".parse().unwrap(), port)
}

fn accepted(port: u16) -> Path {
    Path {
        protocol: TransportProtocol::Tcp(TcpType::Passive),
        base: base(),
        remote: peer(port),
    }
}

fn opened(port: u16) -> Path {
    Path {
        protocol: TransportProtocol::Tcp(TcpType::Active),
        base: "192.0.2.1:9".parse().unwrap(),
        remote: peer(port),
    }
}

fn outputs(flows: &mut TcpFlows) -> Vec<FlowOutput> {
    std::iter::from_fn(|| flows.poll_output()).collect()
}

fn is_closed(flows: &mut TcpFlows, flow: FlowId) -> bool {
    outputs(flows).contains(&FlowOutput::Close { flow })
}

#[test]
fn a_connection_of_ours_is_opened_once_and_carries_packets_when_it_stands() {
    let mut flows = TcpFlows::new();
    flows.open(opened(5));
    flows.open(opened(5));
    let flow = FlowId(0);
    let connect = FlowOutput::Connect {
        flow,
        from: "192.0.2.1:0".parse().unwrap(),
        to: peer(5),
    };
    assert_eq!(outputs(&mut flows), [connect]);
    assert_eq!(flows.frame(opened(5), b"early"), None);
    flows.handle_connected(flow);
    assert_eq!(outputs(&mut flows), [FlowOutput::Opened(opened(5))]);
    let framed = flows.frame(opened(5), b"four");
    assert_eq!(framed, Some((flow, b"\0\x04four".to_vec())));
    // It stands: a second wish is fulfilled at once.
    flows.open(opened(5));
    assert_eq!(outputs(&mut flows), [FlowOutput::Opened(opened(5))]);
    flows.handle_closed(Instant::now(), flow);
    assert_eq!(outputs(&mut flows), [FlowOutput::Lost(opened(5))]);
    assert_eq!(flows.frame(opened(5), b"late"), None);
}

#[test]
fn a_stranger_has_five_seconds() {
    let now = Instant::now();
    let mut flows = TcpFlows::new();
    let slow = flows
        .handle_accepted(now, TcpType::Passive, base(), peer(1))
        .unwrap();
    let known = flows
        .handle_accepted(now, TcpType::Passive, base(), peer(2))
        .unwrap();
    flows.admit(accepted(2));
    // One byte at a time does not buy more of it.
    for second in 1..5 {
        flows.handle_bytes(slow, &[0]);
        flows.handle_timeout(now + Duration::from_secs(second));
        assert_eq!(outputs(&mut flows), []);
    }
    assert_eq!(flows.poll_timeout(), Some(now + STRANGERS_TIME));
    flows.handle_timeout(now + STRANGERS_TIME);
    let shown_out = [
        FlowOutput::Close { flow: slow },
        FlowOutput::Lost(accepted(1)),
    ];
    assert_eq!(outputs(&mut flows), shown_out);
    assert_eq!(flows.poll_timeout(), None);
    assert_eq!(
        flows.frame(accepted(2), b"x").map(|(flow, _)| flow),
        Some(known)
    );
}

#[test]
fn a_stranger_who_sends_anything_but_checks_is_shown_out() {
    let now = Instant::now();
    let framed = |packet: &[u8]| frame(packet).unwrap();
    let hostile = [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        framed(&[0x80; 172]),
        framed(b"no check"),
        vec![0xff, 0xff],
        framed(&[0; STRANGERS_LONGEST + 1]),
    ];
    for bytes in hostile {
        let mut flows = TcpFlows::new();
        let flow = flows
            .handle_accepted(now, TcpType::Passive, base(), peer(1))
            .unwrap();
        flows.handle_bytes(flow, &bytes);
        assert!(is_closed(&mut flows, flow), "{bytes:?}");
    }
    let mut flows = TcpFlows::new();
    let flow = flows
        .handle_accepted(now, TcpType::Passive, base(), peer(1))
        .unwrap();
    flows.handle_bytes(flow, &framed(&STUN));
    let packet = FlowOutput::Packet {
        path: accepted(1),
        payload: STUN.to_vec(),
    };
    assert_eq!(outputs(&mut flows), [packet]);
    // The peer may send media, and longer packets.
    flows.admit(accepted(1));
    flows.handle_bytes(flow, &framed(&[0x80; 1500]));
    assert!(matches!(
        &outputs(&mut flows)[..],
        [FlowOutput::Packet { .. }]
    ));
    flows.handle_bytes(flow, &[0xff, 0xff]);
    assert!(is_closed(&mut flows, flow));
}

#[test]
fn a_crowd_of_strangers_does_not_keep_the_peer_out() {
    let now = Instant::now();
    let mut flows = TcpFlows::new();
    let first = flows
        .handle_accepted(now, TcpType::Passive, base(), peer(1))
        .unwrap();
    flows.admit(accepted(1));
    for port in 2..=200 {
        assert!(
            flows
                .handle_accepted(now, TcpType::Passive, base(), peer(port))
                .is_some()
        );
        assert!(flows.flows.len() <= MOST_ACCEPTED);
    }
    assert!(!is_closed(&mut flows, first));
    // But whoever is the peer sixteen times is so often enough.
    for port in 185..=200 {
        flows.admit(accepted(port));
    }
    assert_eq!(
        flows.handle_accepted(now, TcpType::Passive, base(), peer(300)),
        None
    );
}

#[test]
fn what_is_not_needed_is_closed() {
    let mut flows = TcpFlows::new();
    for port in [1, 2] {
        flows.open(opened(port));
    }
    outputs(&mut flows);
    flows.keep_only(|path| path == opened(2));
    let closed = [
        FlowOutput::Close { flow: FlowId(0) },
        FlowOutput::Lost(opened(1)),
    ];
    assert_eq!(outputs(&mut flows), closed);
}

#[test]
fn no_peer_makes_us_connect_without_end() {
    let mut flows = TcpFlows::new();
    for port in 1..=1000 {
        flows.open(opened(port));
    }
    let connects = outputs(&mut flows);
    let connects = connects
        .iter()
        .filter(|output| matches!(output, FlowOutput::Connect { .. }));
    assert_eq!(connects.count(), MOST_OPENED);
}

fn simultaneous(port: u16) -> Path {
    Path {
        protocol: TransportProtocol::Tcp(TcpType::SimultaneousOpen),
        base: base(),
        remote: peer(port),
    }
}

#[test]
fn a_refused_simultaneous_open_is_repeated_a_few_times() {
    let mut now = Instant::now();
    let mut flows = TcpFlows::new();
    flows.open(simultaneous(5));
    let flow = FlowId(0);
    let connect = FlowOutput::Connect {
        flow,
        from: base(),
        to: peer(5),
    };
    for attempt in 1..=MOST_ATTEMPTS {
        assert_eq!(outputs(&mut flows), std::slice::from_ref(&connect));
        // Another wish meanwhile is the same wish.
        flows.open(simultaneous(5));
        flows.handle_closed(now, flow);
        assert_eq!(flows.frame(simultaneous(5), b"early"), None);
        if attempt < MOST_ATTEMPTS {
            flows.open(simultaneous(5));
            assert_eq!(outputs(&mut flows), []);
            now += PAUSE;
            assert_eq!(flows.poll_timeout(), Some(now));
            flows.handle_timeout(now);
        }
    }
    assert_eq!(outputs(&mut flows), [FlowOutput::Lost(simultaneous(5))]);
    assert_eq!(flows.poll_timeout(), None);
    // One that stood is not opened again by itself.
    flows.open(simultaneous(6));
    flows.handle_connected(FlowId(1));
    flows.handle_closed(now, FlowId(1));
    assert_eq!(
        outputs(&mut flows).last(),
        Some(&FlowOutput::Lost(simultaneous(6)))
    );
}

#[test]
fn the_peers_syn_before_ours_makes_the_one_connection() {
    let now = Instant::now();
    let so = TcpType::SimultaneousOpen;
    // While our attempt is under way, and between two.
    for paused in [false, true] {
        let mut flows = TcpFlows::new();
        flows.open(simultaneous(5));
        outputs(&mut flows);
        if paused {
            flows.handle_closed(now, FlowId(0));
        }
        let flow = flows.handle_accepted(now, so, base(), peer(5)).unwrap();
        let replaced = [
            FlowOutput::Close { flow: FlowId(0) },
            FlowOutput::Opened(simultaneous(5)),
        ];
        assert_eq!(outputs(&mut flows), replaced);
        // What becomes of the attempt is of no interest any more.
        flows.handle_closed(now, FlowId(0));
        assert_eq!(outputs(&mut flows), []);
        let framed = flows.frame(simultaneous(5), b"four");
        assert_eq!(framed, Some((flow, b"\0\x04four".to_vec())));
    }
    // Before we wanted it.
    let mut flows = TcpFlows::new();
    flows.handle_accepted(now, so, base(), peer(5)).unwrap();
    flows.open(simultaneous(5));
    assert_eq!(outputs(&mut flows), [FlowOutput::Opened(simultaneous(5))]);
    // They count among the strangers, whatever port they come to.
    for port in 6..=200 {
        let tcp_type = [so, TcpType::Passive][usize::from(port) % 2];
        flows.handle_accepted(now, tcp_type, base(), peer(port));
        assert!(flows.flows.len() <= MOST_ACCEPTED);
    }
}

#[test]
fn nobody_connects_to_itself() {
    let mut flows = TcpFlows::new();
    let mut own = simultaneous(1);
    own.remote = own.base;
    flows.open(own);
    assert_eq!(outputs(&mut flows), [FlowOutput::Lost(own)]);
}
