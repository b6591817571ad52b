//! Bad input: every byte of a message set to every other value, every truncation, and noise.
//! Whatever comes, there is a parse or an error with at most one 4xx or 5xx; never a panic, and
//! what was read is printed so that it reads the same.

use proptest::prelude::*;
use ringtrue_ice::Credentials;
use ringtrue_sip::message::*;
use ringtrue_sip::sdp::{
    self, Direction, ExtendedReports, LocalMedia, LocalSecurity, RtpCodec, SessionDescription,
};
use ringtrue_sip::uri::Uri;

const SDP: &str = "v=0\r\n\
o=alice 2890844526 2890844526 IN IP4 192.0.2.3\r\n\
s=-\r\n\
c=IN IP4 192.0.2.3\r\n\
t=0 0\r\n\
a=ice-options:ice2\r\n\
a=ice-pacing:20\r\n\
m=audio 45664 RTP/AVP 96 0 101\r\n\
a=rtpmap:96 opus/48000/2\r\n\
a=fmtp:96 useinbandfec=1\r\n\
a=rtpmap:101 telephone-event/8000\r\n\
a=rtcp:45665 IN IP4 192.0.2.3\r\n\
a=rtcp-mux\r\n\
a=ice-ufrag:8hhY\r\n\
a=ice-pwd:asd88fgpdd777uzjYhagZg\r\n\
a=candidate:1 1 UDP 2130706431 10.0.1.1 8998 typ host\r\n\
a=candidate:2 1 UDP 1694498815 192.0.2.3 45664 typ srflx raddr 10.0.1.1 rport 8998\r\n\
a=candidate:2 2 UDP 1694498814 192.0.2.3 45665 typ srflx raddr 10.0.1.1 rport 8999\r\n\
a=remote-candidates:1 192.0.2.9 4000 2 192.0.2.9 4001\r\n";

fn invite() -> Vec<u8> {
    format!(
        "INVITE sip:bob%20b@[2001:db8::1]:5061;transport=tcp SIP/2.0\r\n\
         Via: SIP/2.0/UDP [2001:db8::2]:5062;branch=z9hG4bK776;rport, SIP/2.0/TCP h.example;branch=z9hG4bK1\r\n\
         Max-Forwards: 70\r\n\
         t: \"Bob \\\"B\\\"\" <sip:bob@example.com>\r\n\
         From: Alice\r\n <sip:alice@example.com;user=phone>;tag=19\r\n\
         Call-ID: a84b4c76e66710@pc33.example.com\r\n\
         CSeq: 314159 INVITE\r\n\
         Route: <sip:p1.example.com;lr>, <sip:p2.example.com;lr>\r\n\
         m: <sip:alice@pc33.example.com?x=y>;expires=60\r\n\
         Supported: 100rel, ice\r\n\
         Authorization: Digest username=\"a\", realm=\"r\", nc=00000001, response=\"0\"\r\n\
         Warning: 399 host \"text\"\r\n\
         Content-Type: application/sdp;charset=utf-8\r\n\
         Content-Length: {}\r\n\r\n{SDP}",
        SDP.len()
    )
    .into_bytes()
}

fn response() -> Vec<u8> {
    b"SIP/2.0 183 Session Progress\r\n\
      Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK7;received=192.0.2.7;rport=5062\r\n\
      f: <sip:a@example.com>;tag=1\r\n\
      t: <sip:b@example.com>;tag=2\r\n\
      i: 1@a\r\n\
      CSeq: 1 INVITE\r\n\
      Record-Route: <sip:p.example.com;lr>\r\n\
      Contact: sip:b@[2001:db8::9]:5060;q=0.5\r\n\
      Require: 100rel\r\n\
      RSeq: 77\r\n\
      WWW-Authenticate: Digest realm=\"r\", nonce=\"n\", qop=\"auth,auth-int\"\r\n\
      l: 0\r\n\r\n"
        .to_vec()
}

/// Everything that a layer above may ask of header fields.
fn ask_all(headers: &Headers) {
    let _ = (
        headers.vias(),
        headers.from(),
        headers.to(),
        headers.call_id(),
        headers.cseq(),
    );
    let _ = (
        headers.contacts(),
        headers.routes(),
        headers.record_routes(),
        headers.rack(),
    );
    let _ = (
        headers.require(),
        headers.supported(),
        headers.proxy_require(),
        headers.allow(),
    );
    let _ = (
        headers.max_forwards(),
        headers.expires(),
        headers.retry_after(),
        headers.rseq(),
    );
    let _ = (
        headers.accept(),
        headers.content_type(),
        headers.warnings(),
        headers.min_expires(),
    );
    for challenge in headers
        .www_authenticate()
        .iter()
        .chain(&headers.authorization())
    {
        let _ = challenge.to_string();
    }
    let mut changed = headers.clone();
    if let Ok(mut via) = changed.top_via() {
        via.params.set("received", Some("192.0.2.1"));
        changed.set_top_via(&via);
        assert_eq!(
            changed.vias().map(|v| v.len()).ok(),
            headers.vias().map(|v| v.len()).ok()
        );
    }
    changed.pop_via();
}

fn check_message(bytes: &[u8]) {
    match Message::parse_datagram(bytes) {
        Ok(message) => {
            ask_all(message.headers());
            let printed = message.to_bytes();
            assert_eq!(Message::parse_datagram(&printed).as_ref(), Ok(&message));
        }
        Err(error) => {
            if let Some(reply) = error.reply() {
                assert!((400..600).contains(&reply.status.code()));
                // An answer is no amplifier.
                assert!(reply.to_bytes().len() <= bytes.len() + 512);
            }
        }
    }
    let mut parser = StreamParser::new();
    parser.push(bytes);
    // Each message takes at least one byte, so this ends.
    assert!(parser.by_ref().take(bytes.len() + 1).count() <= bytes.len());
}

fn local() -> LocalMedia {
    let codec = |payload_type, name: &str, clock_rate, channels| RtpCodec {
        payload_type,
        name: name.to_owned(),
        clock_rate,
        channels,
        fmtp: None,
    };
    let ice = match sdp::read_offer(&SessionDescription::parse(SDP.as_bytes()).unwrap())
        .unwrap()
        .ice
    {
        sdp::IceSupport::Supported(ice) => ice,
        other => panic!("{other:?}"),
    };
    LocalMedia {
        accepted: Vec::new(),
        origin_user: "-".into(),
        session_id: 1,
        session_version: 1,
        rtp: "192.0.2.3:45664".parse().unwrap(),
        rtcp: Some("192.0.2.3:45665".parse().unwrap()),
        ice: Some(ice),
        codecs: vec![
            codec(96, "opus", 48_000, 2),
            codec(0, "PCMU", 8_000, 1),
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

fn check_sdp(local: &LocalMedia, bytes: &[u8]) {
    let Ok(description) = SessionDescription::parse(bytes) else {
        return;
    };
    let _ = sdp::read_offer(&description);
    let _ = sdp::read_answer(local, &description);
    SessionDescription::parse(&sdp::subsequent_offer(&description, local)).unwrap();
    if let Ok((answer, negotiated)) = sdp::answer(&description, local) {
        assert!(!negotiated.codecs.is_empty() && !negotiated.receive.is_empty());
        let answer = SessionDescription::parse(&answer).unwrap();
        assert_eq!(answer.streams(), description.streams());
    }
}

/// `original` with each of its bytes set to each other value, and each of its beginnings.
fn mutations(original: &[u8], mut check: impl FnMut(&[u8])) {
    let mut bytes = original.to_vec();
    for at in 0..bytes.len() {
        let before = bytes[at];
        for value in 0..=255 {
            bytes[at] = value;
            check(&bytes);
        }
        bytes[at] = before;
        check(&original[..at]);
        // One byte lost, one byte twice.
        check(&[&original[..at], &original[at + 1..]].concat());
        check(&[&original[..=at], &original[at..]].concat());
    }
}

#[test]
fn every_byte_of_an_invite() {
    check_message(&invite());
    assert!(Message::parse_datagram(&invite()).is_ok());
    // The body is any bytes; the SDP has its own test.
    let head = invite().len() - SDP.len();
    mutations(&invite()[..head + 20], check_message);
}

#[test]
fn every_truncation_of_an_invite_is_an_error() {
    let invite = invite();
    for end in 0..invite.len() {
        assert!(Message::parse_datagram(&invite[..end]).is_err(), "{end}");
        check_message(&invite[..end]);
    }
}

#[test]
fn every_byte_of_a_response() {
    assert!(Message::parse_datagram(&response()).is_ok());
    mutations(&response(), |bytes| {
        check_message(bytes);
        // A response that is none is dropped, unless the damage made a request of it.
        if bytes.starts_with(b"SIP/") {
            assert!(
                Message::parse_datagram(bytes)
                    .err()
                    .and_then(|e| e.reply())
                    .is_none()
            );
        }
    });
}

#[test]
fn every_byte_of_a_session_description() {
    let local = local();
    mutations(SDP.as_bytes(), |bytes| check_sdp(&local, bytes));
}

const FRAGMENT: &str = "a=group:BUNDLE 0 1\r\n\
a=ice-pwd:asd88fgpdd777uzjYhagZg\r\n\
a=ice-ufrag:8hhY\r\n\
m=audio 9 RTP/AVP 0\r\n\
a=mid:0\r\n\
a=candidate:1 1 UDP 2130706431 10.0.1.1 8998 typ host\r\n\
a=candidate:2 1 UDP 1694498815 192.0.2.3 45664 typ srflx raddr 10.0.1.1 rport 8998\r\n\
a=end-of-candidates\r\n\
m=audio 9 RTP/AVP 0\r\n\
a=mid:1\r\n";

fn check_fragment(bytes: &[u8]) {
    for mid in [None, Some("0"), Some("1"), Some("")] {
        if let Ok(fragment) = sdp::TrickleFragment::parse(bytes, mid) {
            assert!(fragment.candidates.len() <= sdp::MAX_CANDIDATES);
            let Credentials { ufrag, pwd } = fragment.credentials;
            assert!(ufrag.len() >= 4 && pwd.len() >= 22);
        }
    }
}

#[test]
fn every_byte_of_a_fragment() {
    check_fragment(FRAGMENT.as_bytes());
    let whole = sdp::TrickleFragment::parse(FRAGMENT.as_bytes(), Some("0")).unwrap();
    assert_eq!((whole.candidates.len(), whole.end_of_candidates), (2, true));
    mutations(FRAGMENT.as_bytes(), check_fragment);
}

#[test]
fn limits_hold() {
    let head = "OPTIONS sip:a@b.example SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\n\
                From: <sip:c@d.example>;tag=1\r\nTo: <sip:a@b.example>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\n";
    let status = |more: String| {
        Message::parse_datagram(format!("{head}{more}\r\n").as_bytes())
            .map_err(|e| e.reply().map(|r| r.status.code()))
            .map(|_| ())
    };
    assert_eq!(status("X: 1\r\n".repeat(MAX_HEADERS - 5)), Ok(()));
    assert_eq!(status("X: 1\r\n".repeat(MAX_HEADERS - 4)), Err(Some(400)));
    assert_eq!(
        status(format!("X: {}\r\n", "y".repeat(MAX_LINE - 3))),
        Ok(())
    );
    assert_eq!(
        status(format!("X: {}\r\n", "y".repeat(MAX_LINE - 2))),
        Err(Some(400))
    );
    assert_eq!(
        status(format!("X: {}\r\n", "\r\n 0123456789".repeat(1_000))),
        Err(Some(400))
    );
    assert_eq!(
        status(format!("\r\n{}", "y".repeat(MAX_MESSAGE))),
        Err(Some(513))
    );

    let mut parser = StreamParser::new();
    parser.push(format!("{head}Content-Length: 65536\r\n\r\n").as_bytes());
    let error = parser.next().unwrap().unwrap_err();
    assert!(error.is_fatal());
    assert_eq!(error.reply().unwrap().status, StatusCode::MESSAGE_TOO_LARGE);

    let mut parser = StreamParser::new();
    parser.push(head.as_bytes());
    let error = std::iter::repeat_n(b"X: 1\r\n", 20_000)
        .find_map(|line| {
            parser.push(line);
            parser.next()
        })
        .unwrap()
        .unwrap_err();
    assert!(error.is_fatal() && matches!(error.kind(), ParseErrorKind::TooLarge));
    assert!(!parser.is_mid_message(), "nothing is kept of it");

    assert!(
        SessionDescription::parse(format!("v=0\r\n{}", "a=x\r\n".repeat(14_000)).as_bytes())
            .is_err()
    );
    let fragment = |rest: String| {
        let text = format!("a=ice-pwd:asd88fgpdd777uzjYhagZg\na=ice-ufrag:8hhY\n{rest}");
        sdp::TrickleFragment::parse(text.as_bytes(), None).map(|read| read.candidates.len())
    };
    let candidate = "a=candidate:1 1 UDP 2130706431 10.0.1.1 8998 typ host\n";
    let many = format!("m=audio 9 RTP/AVP 0\n{}", candidate.repeat(500));
    assert_eq!(fragment(many), Ok(sdp::MAX_CANDIDATES));
    let streams = |n| "m=audio 9 RTP/AVP 0\n".repeat(n);
    assert_eq!(fragment(streams(sdp::MAX_STREAMS)), Ok(0));
    assert_eq!(
        fragment(streams(sdp::MAX_STREAMS + 1)),
        Err(sdp::FragmentError::TooManyStreams)
    );
    assert_eq!(
        fragment("a=x\n".repeat(20_000)),
        Err(sdp::FragmentError::TooLarge)
    );

    let streams = |n| format!("v=0\r\n{}", "m=audio 1 RTP/AVP 0\r\n".repeat(n));
    assert!(SessionDescription::parse(streams(sdp::MAX_STREAMS).as_bytes()).is_ok());
    assert!(SessionDescription::parse(streams(sdp::MAX_STREAMS + 1).as_bytes()).is_err());
}

#[test]
fn keepalives_and_foreign_protocols_are_passed_over() {
    for (bytes, kind) in [
        (&b""[..], ParseErrorKind::KeepAlive),
        (b"\r\n\r\n", ParseErrorKind::KeepAlive),
        (
            b"GET / HTTP/1.1\r\nHost: a\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\n\r\n",
            ParseErrorKind::NotSip,
        ),
    ] {
        let error = Message::parse_datagram(bytes).unwrap_err();
        assert_eq!((error.kind(), error.reply()), (&kind, None));
    }
}

#[test]
fn a_value_cannot_smuggle_in_a_header_field() {
    let mut request = match Message::parse_datagram(&invite()).unwrap() {
        Message::Request(request) => request,
        Message::Response(response) => panic!("{response:?}"),
    };
    request
        .headers
        .push("Subject", "a\r\nEvil: yes\r\n\r\nbody");
    request.headers.push("X\r\nEvil", "yes");
    let read = Message::parse_datagram(&request.to_bytes()).unwrap();
    assert!(!read.headers().contains("Evil"));
    assert_eq!(read.body(), request.body);
    let mut busy = Response::new(StatusCode::new(486).unwrap());
    busy.reason = "a\r\nEvil: yes".into();
    assert!(
        !String::from_utf8(busy.to_bytes())
            .unwrap()
            .contains("\nEvil")
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        check_message(&bytes);
        check_fragment(&bytes);
        check_fragment(&[&FRAGMENT.as_bytes()[..90], &bytes[..]].concat());
        let local = local();
        check_sdp(&local, &bytes);
        check_sdp(&local, &[b"v=0\r\n", &bytes[..]].concat());
    }

    #[test]
    fn noise_of_sip_words_never_panics(
        words in prop::collection::vec(prop::sample::select(vec![
            "INVITE", "SIP/2.0", " ", "\r\n", "Via:", "v", ":", ";", ",", "<", ">", "\"", "\\", "sip:", "a@b",
            "[::1]", "%00", "%", "=", "tag", "Content-Length: 1", "CSeq: 1 INVITE", "From", "To", "*", "\t", "1",
        ]), 0..80)
    ) {
        let text = words.concat();
        check_message(text.as_bytes());
        let _ = text.parse::<Uri>().map(|uri| assert_eq!(uri.to_string().parse::<Uri>().as_ref(), Ok(&uri)));
        let _ = text.parse::<NameAddr>();
        let _ = text.parse::<Via>();
    }

    #[test]
    fn several_bytes_wrong_at_once(
        hits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)
    ) {
        let mut message = invite();
        let mut description = SDP.as_bytes().to_vec();
        for (at, value) in hits {
            let (i, j) = (at.index(message.len()), at.index(description.len()));
            message[i] = value;
            description[j] = value;
        }
        check_message(&message);
        check_sdp(&local(), &description);
    }
}
