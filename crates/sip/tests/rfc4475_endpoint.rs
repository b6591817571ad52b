//! RFC 4475 through a whole endpoint: what a phone answers to each message of the archive.
//!
//! `rfc4475.rs` shows that the messages are understood; this shows what is done about them.

use std::path::Path;
use std::time::Instant;

use ringtrue_sip::message::{HeaderName, Message, Response};
use ringtrue_sip::{Endpoint, EndpointConfig, LocalAddress, SipEvent, SipTransmit};

fn endpoint(now: Instant) -> Endpoint {
    let config = EndpointConfig {
        udp: vec!["192.0.2.200:5060".parse().unwrap()],
        addresses: vec![LocalAddress {
            ip: "192.0.2.200".parse().unwrap(),
            prefix_len: 24,
            default_route: true,
        }],
        user_agent: "test".into(),
        aor: "<sip:user@example.com>".parse().unwrap(),
        contact_user: "user".into(),
        proxy: None,
        credentials: None,
        ice: true,
        tcp_listen: false,
        tls_listen: Vec::new(),
    };
    Endpoint::new(config, 1, now)
}

/// The statuses that go out at once, and whether a call came in.
fn deliver(name: &str) -> (Vec<Response>, bool) {
    let now = Instant::now();
    let mut endpoint = endpoint(now);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/rfc4475/{name}.dat"));
    let bytes = std::fs::read(path).unwrap();
    let (local, from) = ("192.0.2.200:5060", "192.0.2.99:5060");
    endpoint.handle_datagram(now, local.parse().unwrap(), from.parse().unwrap(), &bytes);
    let mut responses = Vec::new();
    while let Some(transmit) = endpoint.poll_transmit() {
        let SipTransmit::Datagram { payload, to, .. } = transmit else {
            panic!("{name}: {transmit:?}");
        };
        assert_eq!(
            to.ip().to_string(),
            "192.0.2.99",
            "{name}: an answer goes to where the request came from"
        );
        match read_liberally(&payload) {
            Some(response) => responses.push(response),
            None => panic!("{name}: {}", String::from_utf8_lossy(&payload)),
        }
    }
    let mut incoming = false;
    while let Some(event) = endpoint.poll_event() {
        incoming |= matches!(event, SipEvent::Incoming { .. });
    }
    (responses, incoming)
}

/// Answers copy what was wrong in what they must copy, so not all of them hold up themselves.
fn read_liberally(payload: &[u8]) -> Option<Response> {
    match Message::parse_datagram(payload) {
        Ok(Message::Response(response)) => Some(response),
        Ok(Message::Request(_)) => None,
        Err(_) => {
            let line = String::from_utf8_lossy(payload);
            let code = line.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()?;
            ringtrue_sip::message::StatusCode::new(code).map(Response::new)
        }
    }
}

/// Name, the answers that the RFC allows (none: silence), and whether a call comes in.
const EXPECTED: &[(&str, &[u16], bool)] = &[
    // 3.1.1: valid. The To of wsinv has a tag, and there is no such dialog.
    ("wsinv", &[481], false),
    ("intmeth", &[405, 501], false),
    ("esc01", &[100], true),
    ("escnull", &[405], false),
    ("esc02", &[405, 501], false),
    ("lwsdisp", &[200], false),
    ("longreq", &[100], true),
    ("dblreq", &[405], false),
    ("semiuri", &[200], false),
    ("transports", &[200], false),
    ("mpart01", &[405], false),
    ("unreason", &[], false),
    ("noreason", &[], false),
    // 3.1.2: invalid.
    ("badinv01", &[400], false),
    ("clerr", &[400], false),
    ("ncl", &[400], false),
    ("scalar02", &[400], false),
    ("scalarlg", &[], false),
    ("quotbal", &[400], false),
    ("ltgtruri", &[400], false),
    ("lwsruri", &[400], false),
    ("lwsstart", &[400], false),
    ("trws", &[400], false),
    ("escruri", &[400], false),
    ("baddate", &[100], true),
    ("regbadct", &[400], false),
    ("badaspec", &[400], false),
    ("baddn", &[400], false),
    ("badvers", &[505], false),
    ("mismatch01", &[400], false),
    ("mismatch02", &[501], false),
    ("bigcode", &[], false),
    // 3.2 and 3.3: transactions and meaning.
    ("badbranch", &[400], false),
    ("insuf", &[400], false),
    ("unkscm", &[416], false),
    ("novelsc", &[416], false),
    ("unksm2", &[400, 405], false),
    ("bext01", &[420], false),
    ("invut", &[415], false),
    ("regaut01", &[405], false),
    ("multi01", &[400], false),
    ("mcl01", &[400], false),
    ("bcast", &[], false),
    ("zeromf", &[200], false),
    ("cparam01", &[405], false),
    ("cparam02", &[405], false),
    ("regescrt", &[405], false),
    ("sdp01", &[400, 406], false),
    // 3.4: RFC 2543. Branch and From tag may be absent, but a call needs a Contact
    // (RFC 3261 section 8.1.1.8).
    ("inv2543", &[400], false),
];

#[test]
fn every_message_gets_its_answer() {
    let mut wrong = Vec::new();
    for (name, allowed, call) in EXPECTED {
        let (responses, incoming) = deliver(name);
        let statuses: Vec<u16> = responses.iter().map(|r| r.status.code()).collect();
        let good = match statuses.as_slice() {
            [] => allowed.is_empty(),
            [status] => allowed.contains(status),
            _ => false,
        };
        if !good || incoming != *call {
            wrong.push(format!(
                "{name}: {statuses:?} {incoming}, expected {allowed:?} {call}"
            ));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn answers_say_what_they_must() {
    let one = |name| deliver(name).0.remove(0).headers;
    assert_eq!(
        one("bext01").unsupported(),
        ["nothingSupportsThis", "nothingSupportsThisEither"]
    );
    assert!(
        one("invut")
            .accept()
            .unwrap()
            .iter()
            .any(|media| media.is_sdp())
    );
    for name in ["regaut01", "mpart01", "intmeth"] {
        assert!(one(name).contains(HeaderName::Allow), "{name}");
    }
    let options = one("zeromf");
    for header in [HeaderName::Allow, HeaderName::Accept, HeaderName::Supported] {
        assert!(options.contains(header.clone()), "{header}");
    }
}
