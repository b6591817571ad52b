//! Streams to the sockets that listen for media: framing, strangers, floods (RFC 4571, RFC 6544).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ringtrue_ice::{FlowId, FlowOutput, TcpFlows, TcpType};
use ringtrue_testnet::fuzz;

/// A framed check, a framed RTP packet, and what is neither.
fn corpus() -> Vec<Vec<u8>> {
    let framed = |packet: &[u8]| {
        let mut framed = (packet.len() as u16).to_be_bytes().to_vec();
        framed.extend_from_slice(packet);
        framed
    };
    let mut check = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    check.extend(1..=12);
    let mut rtp = vec![0x80, 96, 0, 1];
    rtp.extend([0; 168]);
    vec![
        framed(&check),
        framed(&rtp),
        [framed(&check), framed(&rtp)].concat(),
        vec![0, 0, 0, 0],
        vec![0xff, 0xff, 0x80],
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
    ]
}

/// Whoever connects and whatever they send: no panic, never more connections than the limit, no
/// packet that is longer than what was sent, and every stranger is gone after five seconds.
#[test]
fn connections() {
    let start = Instant::now();
    let corpus = corpus();
    let base: SocketAddr = "192.0.2.1:5000".parse().unwrap();
    fuzz("tcp-framing", 200, |dice| {
        let mut flows = TcpFlows::new();
        let (mut now, mut inputs) = (start, 0);
        let mut open: Vec<FlowId> = Vec::new();
        for _ in 0..200 {
            now += Duration::from_millis(dice.below(200) as u64);
            if dice.percent(30) {
                let from = SocketAddr::from(([203, 0, 113, 1], 1 + dice.below(400) as u16));
                let types = [TcpType::Passive, TcpType::SimultaneousOpen];
                open.extend(flows.handle_accepted(now, *dice.pick(&types), base, from));
            }
            let mut sent = 0;
            if !open.is_empty() {
                let flow = *dice.pick(&open);
                let mut bytes = dice.pick(&corpus).clone();
                if dice.percent(50) {
                    bytes = dice.mutate(&bytes, &corpus);
                }
                for piece in bytes.chunks(1 + dice.below(40)) {
                    flows.handle_bytes(flow, piece);
                    sent += piece.len();
                    inputs += 1;
                }
            }
            flows.handle_timeout(now);
            let mut packets = 0;
            while let Some(output) = flows.poll_output() {
                match output {
                    FlowOutput::Close { flow } => open.retain(|known| *known != flow),
                    FlowOutput::Packet { path, payload } => {
                        assert!(!payload.is_empty() && payload.len() <= 8192);
                        packets += 1;
                        if dice.percent(20) {
                            flows.admit(path);
                        }
                    }
                    FlowOutput::Connect { .. } | FlowOutput::Opened(_) => panic!("unasked"),
                    FlowOutput::Lost(_) => {}
                }
            }
            // Each packet has two bytes of length and one of its own at least; the beginning of
            // the first may have come before.
            assert!(
                packets * 3 <= sent + 8194,
                "{packets} packets of {sent} bytes"
            );
            assert!(open.len() <= 16, "{} connections", open.len());
        }
        now += Duration::from_secs(5);
        flows.handle_timeout(now);
        assert_eq!(flows.poll_timeout(), None);
        inputs
    });
}
