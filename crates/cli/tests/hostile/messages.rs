//! SIP messages, streams and SDP.

use std::net::SocketAddr;

use ringtrue_ice::SessionConfig;
use ringtrue_ice::{Base, ComponentId, GatherConfig, Gatherer, IceDescription, IceSession};
use ringtrue_sip::message::{Headers, MAX_HEADERS, Message, ParseErrorKind, StreamParser};
use ringtrue_sip::sdp::{
    self, CertificateFingerprint, Crypto, CryptoSuite, Direction, DtlsDescription, ExtendedReports,
    IceSupport, LocalMedia, LocalSecurity, Negotiated, RtpCodec, SessionDescription, Setup,
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
        accepted: Vec::new(),
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
        extended_reports: ExtendedReports::ALL,
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

/// Lines about keys as real phones write them, good and bad.
const KEY_LINES: [&str; 16] = [
    "a=fingerprint:sha-256 00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:\
     10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F",
    "a=fingerprint:SHA-256 a0:a1:a2:a3:a4:a5:a6:a7:a8:a9:aa:ab:ac:ad:ae:af:\
     b0:b1:b2:b3:b4:b5:b6:b7:b8:b9:ba:bb:bc:bd:be:bf",
    "a=fingerprint:sha-1 4A:AD:B9:B1:3F:82:18:3B:54:02:12:DF:3E:5D:49:6B:19:E5:7C:AB",
    "a=fingerprint:sha-512 00:01",
    "a=fingerprint:",
    "a=setup:actpass",
    "a=setup:active",
    "a=setup:passive",
    "a=setup:holdconn",
    "a=tls-id:abc3de65cddef001be82",
    "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz|2^20|1:4",
    "a=crypto:2 AEAD_AES_128_GCM inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGw== FEC_ORDER=FEC_SRTP",
    "a=crypto:3 AES_CM_128_HMAC_SHA1_32 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz \
     UNENCRYPTED_SRTP WSH=64",
    "a=crypto:999999999 AEAD_AES_256_GCM inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g\
     ISIjJCUmJygpKis=",
    "a=crypto:",
    "a=crypto:1 x inline:|",
];

const PROFILES: [&str; 6] = [
    "RTP/AVP",
    "RTP/AVPF",
    "RTP/SAVP",
    "RTP/SAVPF",
    "UDP/TLS/RTP/SAVP",
    "UDP/TLS/RTP/SAVPF",
];

/// A phone that wants its sound protected in one way or another.
fn protected(dice: &mut Dice) -> LocalMedia {
    let dtls = DtlsDescription {
        fingerprints: vec![CertificateFingerprint {
            hash: "sha-256".to_owned(),
            digest: dice.bytes(32),
        }],
        setup: *dice.pick(&[Setup::ActPass, Setup::Active, Setup::Passive]),
        tls_id: dice.percent(50).then(|| "0123456789abcdef0123".to_owned()),
    };
    let security = match dice.below(3) {
        0 => LocalSecurity::Off,
        1 => LocalSecurity::Optional(dtls),
        _ => LocalSecurity::Required(dtls),
    };
    let with_crypto = security != LocalSecurity::Off && dice.percent(50);
    let suites = if with_crypto {
        &CryptoSuite::ALL[..]
    } else {
        &[]
    };
    let lines = (1..).zip(suites);
    LocalMedia {
        security,
        crypto: lines
            .filter_map(|(tag, suite)| Crypto::new(tag, *suite, &dice.bytes(suite.key_len())))
            .collect(),
        ..local()
    }
}

/// A description with another profile, and with lines about keys, some of them damaged.
fn with_key_lines(dice: &mut Dice, body: &[u8]) -> Vec<u8> {
    let others = KEY_LINES.map(|line| line.as_bytes().to_vec());
    let text = String::from_utf8_lossy(body).into_owned();
    let profile = *dice.pick(&PROFILES);
    let own = ["a=fingerprint", "a=setup", "a=tls-id", "a=crypto"];
    let mut lines: Vec<Vec<u8>> = Vec::new();
    for line in text.lines() {
        let about_keys = own.iter().any(|name| line.starts_with(name));
        if about_keys && dice.percent(50) {
            continue;
        }
        let line = match line.strip_prefix("m=audio ") {
            Some(rest) if dice.percent(80) => {
                let mut words: Vec<&str> = rest.split(' ').collect();
                if let Some(proto) = words.get_mut(1) {
                    *proto = profile;
                }
                format!("m=audio {}", words.join(" "))
            }
            _ => line.to_owned(),
        };
        lines.push(line.into_bytes());
    }
    for _ in 0..dice.below(8) {
        let line = dice.pick(&others).clone();
        let line = if dice.percent(60) {
            dice.mutate(&line, &others)
        } else {
            line
        };
        // Of the stream, and now and then of the session.
        let after = if dice.percent(80) { lines.len() } else { 5 };
        lines.insert(after.min(lines.len()), line);
    }
    lines
        .iter()
        .flat_map(|line| [line, &b"\r\n"[..]].concat())
        .collect()
}

/// Nothing is agreed on that one side did not ask for, or that nobody could use.
fn check_keys(local: &LocalMedia, negotiated: &Negotiated) {
    let (dtls, crypto) = (&negotiated.dtls, &negotiated.crypto);
    assert!(dtls.is_none() || crypto.is_none(), "{negotiated:?}");
    match local.security {
        LocalSecurity::Off => assert!(dtls.is_none() && crypto.is_none(), "{negotiated:?}"),
        LocalSecurity::Optional(_) => {}
        LocalSecurity::Required(_) => {
            assert!(dtls.is_some() || crypto.is_some(), "{negotiated:?}");
        }
    }
    if let Some(dtls) = dtls {
        let fingerprints = &dtls.remote.fingerprints;
        assert!((1..=8).contains(&fingerprints.len()), "{fingerprints:?}");
        for one in fingerprints {
            let long = match one.hash.as_str() {
                "sha-256" => 32,
                "sha-384" => 48,
                "sha-512" => 64,
                weak => panic!("{weak} was taken"),
            };
            assert_eq!(one.digest.len(), long);
        }
    }
    if let Some(crypto) = crypto {
        assert_eq!(crypto.local.suite, crypto.remote.suite);
        assert_eq!(crypto.local.tag, crypto.remote.tag);
        assert_eq!(crypto.remote.key().len(), crypto.remote.suite.key_len());
        assert!(
            local
                .crypto
                .iter()
                .any(|own| own.key() == crypto.local.key())
        );
    }
}

#[test]
fn descriptions_of_keys() {
    let bodies = &pair::recording().sdp;
    fuzz("sdp-keys", 4_000, |dice: &mut Dice| {
        let local = protected(dice);
        let body = dice.pick(bodies).clone();
        let mut bytes = with_key_lines(dice, &body);
        if dice.percent(20) {
            bytes = dice.mutate(&bytes, bodies);
        }
        let Ok(description) = SessionDescription::parse(&bytes) else {
            return 1;
        };
        let _ = sdp::read_offer_for(&description, &local.security, &local.crypto);
        if let Ok(negotiated) = sdp::read_answer(&local, &description) {
            check_keys(&local, &negotiated);
        }
        if let Ok((answer, negotiated)) = sdp::answer(&description, &local) {
            check_keys(&local, &negotiated);
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
