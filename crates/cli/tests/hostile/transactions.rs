//! The SIP endpoint under a flood: its memory has a bound, and so has what it sends.

use std::fmt::{self, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ringtrue_sip::{Endpoint, EndpointConfig, LocalAddress, SipEvent, SipTransmit};
use ringtrue_testnet::fuzz;

use crate::pair;

const HERE: ([u8; 4], u16) = ([10, 0, 0, 2], 5060);

fn endpoint(now: Instant) -> Endpoint {
    let config = EndpointConfig {
        udp: vec![HERE.into()],
        addresses: vec![LocalAddress {
            ip: HERE.0.into(),
            prefix_len: 24,
            default_route: true,
        }],
        user_agent: "Ringtrue".to_owned(),
        aor: "<sip:bob@10.0.0.2>".parse().expect("an address"),
        contact_user: "bob".to_owned(),
        proxy: None,
        credentials: None,
        tcp_listen: true,
        tls_listen: Vec::new(),
        ice: true,
    };
    Endpoint::new(config, 5, now)
}

/// How long a value's `Debug` is: a measure of all that it holds.
fn weight(value: &impl fmt::Debug) -> usize {
    struct Count(usize);
    impl Write for Count {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0 += text.len();
            Ok(())
        }
    }
    let mut count = Count(0);
    write!(count, "{value:?}").expect("counting never fails");
    count.0
}

/// Bytes that leave, now.
fn drain(endpoint: &mut Endpoint) -> (usize, usize) {
    let (mut packets, mut bytes) = (0, 0);
    while let Some(transmit) = endpoint.poll_transmit() {
        packets += 1;
        if let SipTransmit::Datagram { payload, .. } | SipTransmit::Stream { payload, .. } =
            transmit
        {
            bytes += payload.len();
        }
    }
    (packets, bytes)
}

/// Requests of 60 KB, none like the other: their responses would be as long, and are kept to be
/// repeated. Past the bound each gets a 503 without a memory.
#[test]
fn a_flood_of_large_requests() {
    let now = Instant::now();
    let mut endpoint = endpoint(now);
    let padding = "x".repeat(7_500);
    let vias: String = (0..7)
        .map(|hop| format!("Via: SIP/2.0/UDP 192.0.2.{hop};branch=z9hG4bK{padding}\r\n"))
        .collect();
    let (mut refused, mut largest) = (0, 0);
    for number in 0..1_000 {
        let request = format!(
            "OPTIONS sip:bob@10.0.0.2 SIP/2.0\r\n\
             Via: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK{number}\r\n{vias}\
             From: <sip:a@192.0.2.9>;tag={number}\r\nTo: <sip:bob@10.0.0.2>\r\n\
             Call-ID: {number}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
        );
        let from = SocketAddr::from(([192, 0, 2, 9], 5060));
        endpoint.handle_datagram(now, HERE.into(), from, request.as_bytes());
        while let Some(SipTransmit::Datagram { payload, .. }) = endpoint.poll_transmit() {
            assert!(payload.len() < request.len() + 512);
            refused += usize::from(payload.starts_with(b"SIP/2.0 503"));
        }
        if number % 250 == 249 {
            largest = largest.max(weight(&endpoint));
        }
    }
    // A byte is up to five characters in `Debug`.
    assert!(largest < 5 * (10 << 20), "{largest}");
    assert!(refused > 500, "{refused}");
    // The memory is given back when the transactions are over.
    endpoint.handle_timeout(now + Duration::from_secs(40));
    assert!(weight(&endpoint) < 20_000);
}

/// Mutations of every message of a call, by UDP and TCP, from many addresses. The user refuses
/// what becomes a call.
#[test]
fn strangers() {
    let recorded = pair::recording();
    fuzz("sip-endpoint", 40, |dice| {
        let mut now = Instant::now();
        let mut endpoint = endpoint(now);
        let mut inputs = 0;
        let mut connection = None;
        // What a stream holds that no message was made of yet.
        let mut streamed = 0;
        for _ in 0..60 {
            let seed = dice.pick(&recorded.sip).clone();
            let bytes = if dice.percent(80) {
                dice.mutate(&seed, &recorded.sip)
            } else {
                seed
            };
            let from = SocketAddr::from(([192, 0, 2, dice.below(4) as u8], 5060));
            let mut size = bytes.len();
            match connection {
                Some(id) if dice.percent(40) => {
                    streamed += size;
                    size = streamed;
                    endpoint.handle_stream(now, id, &bytes);
                }
                _ if dice.percent(10) => {
                    let id = endpoint.accepted_id();
                    endpoint.handle_accepted(now, id, from, dice.percent(50));
                    (connection, streamed) = (Some(id), 0);
                }
                _ => endpoint.handle_datagram(now, HERE.into(), from, &bytes),
            }
            inputs += 1;
            let (packets, out) = drain(&mut endpoint);
            // A stream may hold several messages, of a hundred bytes at least.
            assert!(packets <= 2 + size / 50, "{packets} packets");
            assert!(out <= 4 * size + 2_048, "{out} for {size}");
            if size == streamed && packets > 0 {
                streamed = 0;
            }
            while let Some(event) = endpoint.poll_event() {
                if let SipEvent::Incoming { call, .. } = event {
                    let _ = endpoint.reject(now, call, 486, Default::default());
                }
            }
            drain(&mut endpoint);
            now += Duration::from_millis(dice.below(200) as u64);
            endpoint.handle_timeout(now);
            drain(&mut endpoint);
        }
        let mut wakes = 0;
        let end = now + Duration::from_secs(1_000);
        while let Some(at) = endpoint.poll_timeout().filter(|at| *at < end) {
            now = now.max(at);
            endpoint.handle_timeout(now);
            drain(&mut endpoint);
            while endpoint.poll_event().is_some() {}
            wakes += 1;
            assert!(wakes < 5_000, "it never comes to rest");
        }
        assert!(endpoint.is_idle());
        assert!(weight(&endpoint) < 50_000, "{}", weight(&endpoint));
        inputs
    });
}

/// A long request in somebody else's name, and then short ones that look like its repetitions:
/// they do not bring about the long response again.
#[test]
fn a_short_repetition_is_no_lever() {
    let now = Instant::now();
    let mut endpoint = endpoint(now);
    let request = |padding: usize| {
        format!(
            "OPTIONS sip:bob@10.0.0.2 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1\r\n\
             Via: SIP/2.0/UDP 192.0.2.8;branch=z9hG4bK{}\r\nFrom: <sip:a@192.0.2.9>;tag=1\r\n\
             To: <sip:bob@10.0.0.2>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\n\r\n",
            "x".repeat(padding)
        )
    };
    let victim = SocketAddr::from(([192, 0, 2, 9], 5060));
    let mut answer = |text: String| {
        endpoint.handle_datagram(now, HERE.into(), victim, text.as_bytes());
        drain(&mut endpoint).1
    };
    assert!(answer(request(7_000)) > 7_000);
    assert!(answer(request(7_000)) > 7_000, "a true repetition");
    assert_eq!(answer(request(1)), 0);
}
