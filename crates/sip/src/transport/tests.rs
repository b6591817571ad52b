//! Hops and reply paths.

use super::*;

fn hop(uri: &str) -> Result<Hop, String> {
    Hop::of_uri(&uri.parse().unwrap())
}

#[test]
fn a_uri_names_host_port_and_protocol() {
    let plain = hop("sip:bob@192.0.2.1").unwrap();
    assert_eq!((plain.port, plain.protocol), (None, None));
    let tcp = hop("sip:bob@example.com:5070;transport=TCP").unwrap();
    assert_eq!((tcp.port, tcp.protocol), (Some(5070), Some(Protocol::Tcp)));
    let tls = hop("sip:bob@example.com;transport=tls").unwrap();
    assert_eq!((tls.protocol, tls.secure), (Some(Protocol::Tls), false));
    for sips in ["sips:bob@example.com", "sips:bob@example.com;transport=tcp"] {
        let hop = hop(sips).unwrap();
        assert!(hop.secure && hop.protocol.is_none_or(|p| p == Protocol::Tls));
        assert!(hop.is_stream());
    }
    let elsewhere = hop("sip:bob@example.com;maddr=192.0.2.9").unwrap();
    assert_eq!(elsewhere.host.ip(), Some("192.0.2.9".parse().unwrap()));
}

#[test]
fn what_cannot_be_reached_says_why() {
    let sips = hop("sips:bob@example.com;transport=udp").unwrap_err();
    assert!(sips.contains("TLS"), "{sips}");
    assert!(hop("tel:+4930123456").unwrap_err().contains("proxy"));
    assert!(hop("sip:bob@example.com;transport=sctp").is_err());
}

fn reply(via: &str, source: &str) -> (ReplyPath, String) {
    let mut via: Via = via.parse().unwrap();
    let flow = Flow::Udp {
        local: "0.0.0.0:5060".parse().unwrap(),
        remote: source.parse().unwrap(),
    };
    let path = ReplyPath::of_request(&mut via, flow);
    (path, via.to_string())
}

#[test]
fn rport_sends_the_response_back_to_the_source() {
    let (path, via) = reply(
        "SIP/2.0/UDP 10.0.0.1:5060;rport;branch=z9hG4bK1",
        "203.0.113.5:41000",
    );
    assert_eq!(path.flow.remote(), "203.0.113.5:41000".parse().unwrap());
    assert!(via.contains("rport=41000") && via.contains("received=203.0.113.5"));
}

#[test]
fn without_rport_the_port_is_that_of_the_via() {
    let (path, _) = reply("SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK1", "203.0.113.5:41000");
    assert_eq!(path.flow.remote(), "203.0.113.5:5060".parse().unwrap());
}

#[test]
fn what_was_learned_is_bounded() {
    let now = Instant::now();
    let mut peers = Peers::default();
    for port in 1..1000 {
        peers.tcp_failed(now, SocketAddr::from(([192, 0, 2, 1], port)));
    }
    assert!(peers.without_tcp.len() <= MAX_PEERS);
    let last = SocketAddr::from(([192, 0, 2, 1], 999));
    assert!(!peers.may_have_tcp(now, last));
    assert!(peers.may_have_tcp(now + TCP_MEMORY, last));
}
