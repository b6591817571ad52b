//! SIP messages, streams and SDP.

use std::net::SocketAddr;

use ringtrue_ice::SessionConfig;
use ringtrue_ice::{Base, ComponentId, GatherConfig, Gatherer, IceDescription, IceSession};
use ringtrue_sip::message::{Headers, MAX_HEADERS, Message, ParseErrorKind, StreamParser};
use ringtrue_sip::sdp::{
    self, Direction, IceSupport, LocalMedia, LocalSecurity, RtpCodec, SessionDescription,
};
use ringtrue_sip::uri::Uri;
use ringtrue_testnet::{Dice, fuzz};

use crate::pair;

/// Everything that a layer above may ask of header fields.
fn ask_all(headers: &Headers) {
    let _ = (headers.vias(), headers.from(), headers.to());
    let _ = (headers.call_id(), headers.cseq(), headers.contacts());
    let _ = (headers.routes(), headers.record_routes(), headers.rack());
    let _ = (headers.require(), headers.supported(), headers.allow());
    let _ = (headers.max_forwards(), headers.expires(), headers.rseq());
    let _ = (headers.accept(), headers.content_type(), headers.warnings());
    let _ = (headers.retry_after(), headers.min_expires());
    for challenge in headers.www_authenticate() {
        let _ = challenge.to_string();
    }
    for address in headers.contacts().unwrap_or_default() {
        let text = address.to_string();
        assert!(!text.contains('\n'), "{text:?}");
        let again: Uri = address.uri.to_string().parse().expect("what was printed");
        assert_eq!(again, address.uri);
    }
}

fn is_limit(kind: &ParseErrorKind) -> bool {
    use ParseErrorKind::{LineTooLong, TooLarge, TooManyHeaders};
    matches!(kind, TooManyHeaders | LineTooLong | TooLarge)
}

/// Reads a datagram. A message is printed so that it reads the same; an error brings one
/// response at most, and no long one.
fn read_datagram(bytes: &[u8]) {
    match Message::parse_datagram(bytes) {
        Ok(message) => {
            ask_all(message.headers());
            match Message::parse_datagram(&message.to_bytes()) {
                // Names in the long form and a Content-Length may be what is too much.
                Err(error) if is_limit(error.kind()) => {}
                again => assert_eq!(again.as_ref(), Ok(&message)),
            }
        }
        Err(error) => {
            if let Some(reply) = error.reply() {
                assert!((400..600).contains(&reply.status.code()));
                // A Via in the short form is printed in the long one.
                let most = bytes.len() + 512 + 4 * MAX_HEADERS;
                let long = reply.to_bytes().len();
                assert!(long <= most, "{long} bytes for {}: {reply:?}", bytes.len());
            }
        }
    }
}

#[test]
fn datagrams() {
    let recorded = pair::recording();
    fuzz("sip-datagram", 4_000, |dice| {
        let seed = dice.pick(&recorded.sip).clone();
        read_datagram(&dice.mutate(&seed, &recorded.sip));
        1
    });
}

/// A stream gives the same messages however it is cut into pieces.
#[test]
fn streams() {
    let recorded = pair::recording();
    fuzz("sip-stream", 400, |dice| {
        let mut stream = Vec::new();
        for _ in 0..1 + dice.below(6) {
            let message = dice.pick(&recorded.sip).clone();
            let changed = dice.percent(40);
            stream.extend(if changed {
                dice.mutate(&message, &recorded.sip)
            } else {
                message
            });
        }
        let mut whole = StreamParser::new();
        whole.push(&stream);
        let expected: Vec<_> = whole.by_ref().take(stream.len() + 1).collect();
        assert!(expected.len() <= stream.len());
        if stream.len() > 60_000 {
            // A limit may be met sooner or later, as the pieces are cut.
            return 1;
        }
        let mut cut = StreamParser::new();
        let mut got = Vec::new();
        let mut rest = &stream[..];
        while !rest.is_empty() {
            let most = if dice.percent(50) { 40 } else { 4_000 };
            let (piece, after) = rest.split_at((1 + dice.below(most)).min(rest.len()));
            cut.push(piece);
            got.extend(cut.by_ref());
            rest = after;
        }
        let kinds = |list: &[Result<Message, _>]| -> Vec<Option<Message>> {
            list.iter()
                .map(|item| item.as_ref().ok().cloned())
                .collect()
        };
        assert_eq!(kinds(&got), kinds(&expected));
        1
    });
}

fn codec(payload_type: u8, name: &str, clock_rate: u32, channels: u8) -> RtpCodec {
    RtpCodec {
        payload_type,
        name: name.to_owned(),
        clock_rate,
        channels,
        fmtp: None,
    }
}

fn ice() -> IceDescription {
    let now = std::time::Instant::now();
    let base = |port, component| Base {
        address: SocketAddr::from(([10, 0, 0, 9], port)),
        component,
        local_preference: u16::MAX,
    };
    let bases = vec![base(4000, ComponentId::Rtp), base(4001, ComponentId::Rtcp)];
    let gatherer = Gatherer::new(GatherConfig::default(), bases, 1, now);
    IceSession::new(SessionConfig::default(), gatherer.gathered(), 2).local_description()
}

fn local() -> LocalMedia {
    LocalMedia {
        origin_user: "-".to_owned(),
        session_id: 1,
        session_version: 1,
        rtp: SocketAddr::from(([10, 0, 0, 9], 4000)),
        rtcp: Some(SocketAddr::from(([10, 0, 0, 9], 4001))),
        ice: Some(ice()),
        codecs: vec![
            codec(96, "opus", 48_000, 2),
            codec(0, "PCMU", 8_000, 1),
            codec(8, "PCMA", 8_000, 1),
            codec(101, "telephone-event", 8_000, 1),
        ],
        direction: Direction::SendRecv,
        rtcp_mux: true,
        ptime: None,
        brief: false,
        security: LocalSecurity::Off,
        crypto: Vec::new(),
    }
}

#[test]
fn descriptions() {
    let bodies = &pair::recording().sdp;
    let local = local();
    fuzz("sdp", 4_000, |dice: &mut Dice| {
        let seed = dice.pick(bodies).clone();
        let bytes = dice.mutate(&seed, bodies);
        let Ok(description) = SessionDescription::parse(&bytes) else {
            return 1;
        };
        let _ = sdp::read_offer(&description);
        let _ = sdp::read_answer(&local, &description);
        let next = local.clone().continuing(&description);
        let offer = sdp::subsequent_offer(&description, &next);
        SessionDescription::parse(&offer).expect("our own offer");
        if let Ok((answer, negotiated)) = sdp::answer(&description, &local) {
            assert!(!negotiated.codecs.is_empty() && !negotiated.receive.is_empty());
            assert!(answer.len() <= 2 * bytes.len() + 2_048);
            let answer = SessionDescription::parse(&answer).expect("our own answer");
            assert_eq!(answer.streams(), description.streams());
        }
        1
    });
}

/// Candidates that are a group or everybody: no check may go there.
#[test]
fn candidates_that_are_no_single_host() {
    let with_ice = |body: &&Vec<u8>| String::from_utf8_lossy(body).contains("a=candidate");
    let body = pair::recording()
        .sdp
        .iter()
        .find(with_ice)
        .expect("an offer");
    let mut text = String::from_utf8_lossy(body).into_owned();
    for address in [
        "224.0.0.1",
        "255.255.255.255",
        "ff02::1",
        "0.0.0.0",
        "192.0.2.77",
    ] {
        text += &format!("a=candidate:9 1 UDP 7 {address} 5000 typ host\r\n");
    }
    let description = SessionDescription::parse(text.as_bytes()).expect("a description");
    let remote = sdp::read_offer(&description).expect("audio");
    let IceSupport::Supported(ice) = remote.ice else {
        panic!("{:?}", remote.ice);
    };
    let added: Vec<_> = ice
        .candidates
        .iter()
        .filter(|c| c.foundation == "9")
        .collect();
    assert_eq!(added.len(), 1, "{added:?}");
    assert_eq!(added[0].address.to_string(), "192.0.2.77:5000");
}
