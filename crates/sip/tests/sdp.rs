//! Descriptions as phones of the field write them, and what offer and answer make of them.

use ringtrue_ice::{CandidateType, ComponentId, IceDescription, Trickle};
use ringtrue_sip::sdp::*;

fn codec(payload_type: u8, name: &str, clock_rate: u32, channels: u8) -> RtpCodec {
    RtpCodec {
        payload_type,
        name: name.into(),
        clock_rate,
        channels,
        fmtp: None,
    }
}

fn parse(text: &str) -> SessionDescription {
    SessionDescription::parse(text.as_bytes()).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

fn ours_ice() -> IceDescription {
    let text = "v=0\nc=IN IP4 198.51.100.1\nm=audio 7000 RTP/AVP 0\na=ice-options:ice2\na=ice-pacing:20\n\
        a=ice-ufrag:ours1234\na=ice-pwd:oursoursoursoursoursours\n\
        a=candidate:1 1 UDP 2130706431 198.51.100.1 7000 typ host\n\
        a=candidate:1 2 UDP 2130706430 198.51.100.1 7001 typ host\n";
    match read_offer(&parse(text)).unwrap().ice {
        IceSupport::Supported(ice) => ice,
        other => panic!("{other:?}"),
    }
}

fn ours() -> LocalMedia {
    LocalMedia {
        accepted: Vec::new(),
        origin_user: "-".into(),
        session_id: 7,
        session_version: 8,
        rtp: "198.51.100.1:7000".parse().unwrap(),
        rtcp: Some("198.51.100.1:7001".parse().unwrap()),
        ice: Some(ours_ice()),
        codecs: vec![
            codec(96, "opus", 48_000, 2),
            codec(0, "PCMU", 8_000, 1),
            codec(8, "PCMA", 8_000, 1),
            codec(101, "telephone-event", 8_000, 1),
            codec(102, "telephone-event", 48_000, 1),
        ],
        direction: Direction::SendRecv,
        rtcp_mux: true,
        ptime: Some(20),
        brief: false,
        security: LocalSecurity::Off,
        crypto: Vec::new(),
        extended_reports: ExtendedReports::default(),
    }
}

fn answer_text(offer: &str, local: &LocalMedia) -> (String, Negotiated) {
    let (answer, negotiated) = answer(&parse(offer), local).unwrap();
    (String::from_utf8(answer).unwrap(), negotiated)
}

fn supported(ice: &IceSupport) -> &IceDescription {
    match ice {
        IceSupport::Supported(ice) => ice,
        other => panic!("{other:?}"),
    }
}

/// As pjsua writes it: ICE in the stream, `a=rtcp` with an address, both components, no `ice2`.
const PJSUA: &str = "v=0\r\n\
o=- 3914512345 3914512345 IN IP4 192.168.1.20\r\n\
s=pjmedia\r\n\
b=AS:117\r\n\
t=0 0\r\n\
a=X-nat:3\r\n\
m=audio 4000 RTP/AVP 96 97 8 0 120\r\n\
c=IN IP4 203.0.113.5\r\n\
b=TIAS:96000\r\n\
a=rtcp:4001 IN IP4 203.0.113.5\r\n\
a=sendrecv\r\n\
a=rtpmap:96 speex/16000\r\n\
a=rtpmap:97 opus/48000/2\r\n\
a=fmtp:97 useinbandfec=1\r\n\
a=rtpmap:8 PCMA/8000\r\n\
a=rtpmap:0 PCMU/8000\r\n\
a=rtpmap:120 telephone-event/48000\r\n\
a=fmtp:120 0-16\r\n\
a=ssrc:1234567 cname:0a1b2c3d\r\n\
a=ice-ufrag:5a3c1f2e\r\n\
a=ice-pwd:123456781234567812345678\r\n\
a=candidate:Sc0a80114 1 UDP 1862270975 203.0.113.5 4000 typ srflx raddr 192.168.1.20 rport 4000\r\n\
a=candidate:Hc0a80114 1 UDP 1694498815 192.168.1.20 4000 typ host\r\n\
a=candidate:Sc0a80114 2 UDP 1862270974 203.0.113.5 4001 typ srflx raddr 192.168.1.20 rport 4001\r\n\
a=candidate:Hc0a80114 2 UDP 1694498814 192.168.1.20 4001 typ host\r\n";

#[test]
fn pjsua() {
    let (answer, negotiated) = answer_text(PJSUA, &ours());
    // Their order and numbers; without mux both components and a=rtcp are ours too.
    assert_eq!(
        negotiated
            .codecs
            .iter()
            .map(|c| (c.payload_type, c.name.as_str()))
            .collect::<Vec<_>>(),
        [(97, "opus"), (8, "PCMA"), (0, "PCMU")]
    );
    assert_eq!(negotiated.codecs[0].fmtp.as_deref(), Some("useinbandfec=1"));
    assert_eq!(negotiated.telephone_event, Some(120));
    assert!(!negotiated.rtcp_mux);
    assert_eq!(negotiated.remote_rtp, "203.0.113.5:4000".parse().unwrap());
    assert_eq!(negotiated.remote_rtcp, "203.0.113.5:4001".parse().unwrap());
    let ice = supported(&negotiated.ice);
    assert_eq!(
        (ice.candidates.len(), ice.ice2, ice.lite, ice.pacing),
        (4, false, false, None)
    );
    assert_eq!(ice.candidates[0].kind, CandidateType::ServerReflexive);
    assert_eq!(
        ice.candidates[0].related,
        Some("192.168.1.20:4000".parse().unwrap())
    );

    assert!(
        answer.contains("m=audio 7000 RTP/AVP 97 8 0 120\r\n"),
        "{answer}"
    );
    assert!(
        answer.contains("a=rtcp:7001\r\n") && !answer.contains("rtcp-mux"),
        "{answer}"
    );
    assert!(
        answer.contains("a=ice-ufrag:ours1234\r\n") && answer.contains("a=ice-options:ice2\r\n")
    );
    assert_eq!(answer.matches("a=candidate:").count(), 2);
}

/// As baresip writes it: session-level attributes, `a=rtcp-rsize`, `a=ssrc`, `a=label`, an
/// empty `a=` value, host candidates only.
const BARESIP: &str = "v=0\r\n\
o=- 2208988800 1 IN IP4 10.0.0.7\r\n\
s=-\r\n\
c=IN IP4 10.0.0.7\r\n\
t=0 0\r\n\
a=tool:baresip 1.0.0\r\n\
a=ice-options:trickle ice2\r\n\
m=audio 21408 RTP/AVP 9 0 101\r\n\
b=AS:125\r\n\
a=rtpmap:9 G722/8000\r\n\
a=rtpmap:0 PCMU/8000\r\n\
a=rtpmap:101 telephone-event/8000\r\n\
a=fmtp:101 0-15\r\n\
a=rtcp:21409\r\n\
a=sendrecv\r\n\
a=label:1\r\n\
a=rtcp-rsize\r\n\
a=ssrc:2906118484 cname:sip:bob@10.0.0.7\r\n\
a=ptime:20\r\n\
a=rtcp-mux\r\n\
a=ice-ufrag:7Zkq\r\n\
a=ice-pwd:cUGYyqHVrcu2PbgHLlxsHB\r\n\
a=candidate:0xa000007 1 UDP 2130706431 10.0.0.7 21408 typ host\r\n\
a=candidate:0xa000007 2 UDP 2130706430 10.0.0.7 21409 typ host\r\n\
a=end-of-candidates\r\n";

#[test]
fn baresip() {
    let (answer, negotiated) = answer_text(BARESIP, &ours());
    assert_eq!(negotiated.codecs, [codec(0, "PCMU", 8_000, 1)]);
    assert_eq!(
        (negotiated.telephone_event, negotiated.ptime),
        (Some(101), Some(20))
    );
    // Mux drops component 2 and a=rtcp, in both directions.
    assert!(negotiated.rtcp_mux);
    assert_eq!(negotiated.remote_rtcp, negotiated.remote_rtp);
    let ice = supported(&negotiated.ice);
    assert!(
        ice.ice2
            && ice
                .candidates
                .iter()
                .all(|c| c.component == ComponentId::Rtp)
    );
    assert!(
        answer.contains("a=rtcp-mux\r\n") && !answer.contains("a=rtcp:"),
        "{answer}"
    );
    assert_eq!(answer.matches("a=candidate:").count(), 1);

    let without_mux = LocalMedia {
        rtcp_mux: false,
        ..ours()
    };
    let (answer, negotiated) = answer_text(BARESIP, &without_mux);
    assert_eq!(supported(&negotiated.ice).candidates.len(), 2);
    assert!(answer.contains("a=rtcp:7001\r\n") && !answer.contains("a=rtcp-mux"));
    assert_eq!(answer.matches("a=candidate:").count(), 2);
}

/// As linphone writes it: credentials at session level, AVPF, `a=rtcp-fb`, `a=rtcp-xr`,
/// IPv6 candidates, video beside the audio, a data stream that nobody knows.
const LINPHONE: &str = "v=0\r\n\
o=alice 1520 3145 IN IP4 192.168.0.11\r\n\
s=Talk\r\n\
c=IN IP4 192.168.0.11\r\n\
t=0 0\r\n\
a=ice-pwd:31ca2a1bbcd46b83e3ed7cbe\r\n\
a=ice-ufrag:60ca0a58\r\n\
a=rtcp-xr:rcvr-rtt=all:10000 stat-summary=loss,dup,jitt,TTL voip-metrics\r\n\
a=record:off\r\n\
m=video 9078 RTP/AVPF 96\r\n\
a=rtpmap:96 VP8/90000\r\n\
a=rtcp-fb:* trr-int 1000\r\n\
m=audio 7078 RTP/AVPF 96 97 98 0 8 99 100\r\n\
a=rtpmap:96 opus/48000/2\r\n\
a=fmtp:96 useinbandfec=1\r\n\
a=rtpmap:97 speex/16000\r\n\
a=fmtp:97 vbr=on\r\n\
a=rtpmap:98 speex/8000\r\n\
a=rtpmap:99 telephone-event/48000\r\n\
a=rtpmap:100 telephone-event/8000\r\n\
a=rtcp:64513\r\n\
a=candidate:1 1 UDP 2130706303 192.168.0.11 7078 typ host\r\n\
a=candidate:1 2 UDP 2130706302 192.168.0.11 64513 typ host\r\n\
a=candidate:2 1 UDP 2130706431 2001:db8::11 7078 typ host\r\n\
a=candidate:2 2 UDP 2130706430 2001:db8::11 64513 typ host\r\n\
a=rtcp-fb:* trr-int 5000\r\n\
m=x-data 5000 udp foo\r\n";

#[test]
fn linphone() {
    let (answer, negotiated) = answer_text(LINPHONE, &ours());
    assert_eq!(negotiated.codecs[0].payload_type, 96);
    assert_eq!(negotiated.telephone_event, Some(99));
    assert_eq!(
        negotiated.remote_rtcp,
        "192.168.0.11:64513".parse().unwrap()
    );
    let ice = supported(&negotiated.ice);
    assert_eq!(
        (ice.credentials.ufrag.as_str(), ice.candidates.len()),
        ("60ca0a58", 4)
    );
    // Streams keep their places; what we do not take has port 0 and no ICE.
    let lines: Vec<&str> = answer
        .lines()
        .filter(|line| line.starts_with("m="))
        .collect();
    assert_eq!(
        lines,
        [
            "m=video 0 RTP/AVPF 96",
            "m=audio 7000 RTP/AVPF 96 0 8 99 100",
            "m=x-data 0 udp foo"
        ]
    );
    let (video, _) = answer.split_once("m=audio").unwrap();
    assert!(!video.contains("candidate"));
    // A later offer of ours keeps them too.
    let again = String::from_utf8(subsequent_offer(&parse(&answer), &ours())).unwrap();
    let lines: Vec<&str> = again
        .lines()
        .filter(|line| line.starts_with("m="))
        .collect();
    assert_eq!(
        lines,
        [
            "m=video 0 RTP/AVPF 96",
            "m=audio 7000 RTP/AVPF 96 0 8 101 102",
            "m=x-data 0 udp foo"
        ]
    );
}

/// RFC 8839 section 4.2.6, `RR` and `RS` and all.
#[test]
fn the_example_of_rfc_8839() {
    let offer = "v=0\no=jdoe 2890844526 2890842807 IN IP4 203.0.113.141\ns=\nc=IN IP4 192.0.2.3\nt=0 0\n\
        a=ice-options:ice2\na=ice-pacing:50\na=ice-pwd:asd88fgpdd777uzjYhagZg\na=ice-ufrag:8hhY\n\
        m=audio 45664 RTP/AVP 0\nb=RS:0\nb=RR:0\na=rtpmap:0 PCMU/8000\n\
        a=candidate:1 1 UDP 2130706431 203.0.113.141 8998 typ host\n\
        a=candidate:2 1 UDP 1694498815 192.0.2.3 45664 typ srflx raddr 203.0.113.141 rport 8998\n";
    let remote = read_offer(&parse(offer)).unwrap();
    let ice = supported(&remote.ice);
    assert_eq!(ice.candidates.len(), 2);
    assert_eq!(ice.pacing, Some(std::time::Duration::from_millis(50)));
    assert!(ice.ice2 && !ice.lite);
}

const ICE: &str = "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n";

fn with_ice(connection: &str, port: u16, rest: &str) -> String {
    format!("v=0\r\nc={connection}\r\nm=audio {port} RTP/AVP 0\r\n{ICE}{rest}")
}

/// RFC 8839 section 4.2.5: mismatch, and the exceptions from it.
#[test]
fn mismatch_and_its_exceptions() {
    let candidate = "a=candidate:1 1 UDP 1 192.0.2.1 4000 typ host\r\n";
    let both = format!("{candidate}a=candidate:1 2 UDP 1 192.0.2.1 4001 typ host\r\n");
    let fits = with_ice("IN IP4 192.0.2.1", 4000, candidate);
    let other_rtcp = format!("{both}a=rtcp:4002\r\n");
    let tcp = candidate.replace("UDP", "TCP");
    for (offer, expected) in [
        (fits.clone(), Some(1)),
        (with_ice("IN IP4 192.0.2.1", 4000, &both), Some(2)),
        // An ALG wrote another address or port.
        (with_ice("IN IP4 203.0.113.1", 4000, candidate), None),
        (with_ice("IN IP4 192.0.2.1", 4002, candidate), None),
        // RTCP's default is none of its candidates.
        (with_ice("IN IP4 192.0.2.1", 4000, &other_rtcp), None),
        // …which does not matter under mux.
        (
            with_ice(
                "IN IP4 192.0.2.1",
                4000,
                &format!("{other_rtcp}a=rtcp-mux\r\n"),
            ),
            Some(1),
        ),
        // No default yet: the unspecified address and port 9.
        (with_ice("IN IP4 0.0.0.0", 9, ""), Some(0)),
        (with_ice("IN IP6 ::", 9, ""), Some(0)),
        (with_ice("IN IP4 0.0.0.0", 4000, candidate), None),
        // A name is no failure.
        (
            with_ice("IN IP4 phone.example.com", 4000, candidate),
            Some(1),
        ),
        // A candidate of another transport is not the default.
        (with_ice("IN IP4 192.0.2.1", 4000, &tcp), None),
        // No candidates though a default is given.
        (with_ice("IN IP4 192.0.2.1", 4000, ""), None),
        (
            with_ice(
                "IN IP4 192.0.2.1",
                4000,
                &format!("{candidate}a=ice-mismatch\r\n"),
            ),
            None,
        ),
    ] {
        let (answer, negotiated) = answer_text(&offer, &ours());
        match expected {
            Some(count) => {
                assert_eq!(
                    supported(&negotiated.ice).candidates.len(),
                    count,
                    "{offer}"
                );
                assert!(answer.contains("a=ice-ufrag:ours1234"));
            }
            None => {
                assert_eq!(negotiated.ice, IceSupport::Mismatch, "{offer}");
                assert!(answer.contains("a=ice-mismatch\r\n"), "{answer}");
                assert!(
                    !answer.contains("a=candidate") && !answer.contains("a=ice-ufrag"),
                    "{answer}"
                );
                // The caller understands it so, too.
                let read = read_answer(&ours(), &parse(&answer)).unwrap();
                assert_eq!(read.ice, IceSupport::Mismatch);
            }
        }
    }
}

#[test]
fn ice_is_answered_only_where_it_is_offered_and_wanted() {
    let plain = "v=0\r\nc=IN IP4 192.0.2.1\r\nm=audio 4000 RTP/AVP 0\r\n";
    let (answer, negotiated) = answer_text(plain, &ours());
    assert_eq!(negotiated.ice, IceSupport::Absent);
    assert!(
        !answer.contains("ice") && !answer.contains("candidate"),
        "{answer}"
    );

    let unwilling = LocalMedia {
        ice: None,
        ..ours()
    };
    let (answer, negotiated) = answer_text(BARESIP, &unwilling);
    assert_eq!(negotiated.ice, IceSupport::Absent);
    assert!(
        !answer.contains("ice") && !answer.contains("candidate"),
        "{answer}"
    );

    // Too short credentials are none.
    for short in [
        ICE.replace("abcd", "abc"),
        ICE.replace("0123456789012345678901", "012345678901234567890"),
    ] {
        let offer = format!("{plain}{short}a=candidate:1 1 UDP 1 192.0.2.1 4000 typ host\r\n");
        assert_eq!(answer_text(&offer, &ours()).1.ice, IceSupport::Absent);
    }
}

#[test]
fn candidates_that_we_must_ignore_are_ignored() {
    let good =
        "a=candidate:1 1 udp 2130706431 192.0.2.1 4000 typ host generation 0 network-id 3\r\n";
    let bad = "a=candidate:2 1 UDP 1 abcdef.local 4000 typ host\r\n\
        a=candidate:12 1 UDP 1 host.example.com 4000 typ host\r\n\
        a=candidate:3 1 TCP 1 192.0.2.1 9 typ host\r\n\
        a=candidate:13 1 TCP 1 192.0.2.1 9 typ host tcptype both\r\n\
        a=candidate:14 1 SCTP 1 192.0.2.1 9 typ host tcptype active\r\n\
        a=candidate:4 1 UDP 1 192.0.2.1 4000 typ quantum\r\n\
        a=candidate:5 3 UDP 1 192.0.2.1 4000 typ host\r\n\
        a=candidate:6 1 UDP 0 192.0.2.1 4000 typ host\r\n\
        a=candidate:7 1 UDP 2147483648 192.0.2.1 4000 typ host\r\n\
        a=candidate:8 1 UDP 1 192.0.2.1 0 typ host\r\n\
        a=candidate:9 1 UDP 1 0.0.0.0 4000 typ host\r\n\
        a=candidate:10 1 UDP 1 192.0.2.1 70000 typ host\r\n\
        a=candidate:11 1 UDP 1 192.0.2.1\r\n\
        a=candidate\r\n\
        a=candidate:aaaaaaaaaabbbbbbbbbbccccccccccddd 1 UDP 1 192.0.2.1 4000 typ host\r\n";
    let (_, negotiated) = answer_text(
        &with_ice("IN IP4 192.0.2.1", 4000, &format!("{bad}{good}")),
        &ours(),
    );
    let ice = supported(&negotiated.ice);
    assert_eq!(ice.candidates.len(), 1);
    assert_eq!(
        (
            ice.candidates[0].foundation.as_str(),
            ice.candidates[0].related
        ),
        ("1", None)
    );
}

#[test]
fn only_the_best_candidates_of_very_many_are_kept() {
    let many: String = (0..300)
        .map(|n| {
            format!(
                "a=candidate:{n} 1 UDP {} 192.0.2.1 {} typ host\r\n",
                n + 1,
                4000 + n
            )
        })
        .collect();
    let (_, negotiated) = answer_text(&with_ice("IN IP4 192.0.2.1", 4000, &many), &ours());
    let ice = supported(&negotiated.ice);
    assert_eq!(ice.candidates.len(), MAX_CANDIDATES);
    assert!(ice.candidates.iter().all(|c| c.priority > 300 - 64));
}

#[test]
fn lite_peers_and_an_offer_after_nomination() {
    let lite = with_ice(
        "IN IP4 192.0.2.1",
        4000,
        "a=candidate:1 1 UDP 1 192.0.2.1 4000 typ host\r\n",
    )
    .replacen("m=", "a=ice-lite\r\nm=", 1);
    assert!(supported(&answer_text(&lite, &ours()).1.ice).lite);

    let mut nominated = ours();
    let ice = nominated.ice.as_mut().unwrap();
    ice.candidates.truncate(1);
    ice.remote_candidates = vec![(ComponentId::Rtp, "192.0.2.1:4000".parse().unwrap())];
    nominated.rtcp = None;
    let offer = String::from_utf8(offer(&nominated)).unwrap();
    assert!(
        offer.contains("a=remote-candidates:1 192.0.2.1 4000\r\n"),
        "{offer}"
    );
    assert!(!offer.contains("a=rtcp:"));
    let read = read_offer(&parse(&offer)).unwrap();
    assert_eq!(
        supported(&read.ice).remote_candidates,
        nominated.ice.clone().unwrap().remote_candidates
    );
    // RFC 8839 section 5.2: only in offers.
    let (answer, _) = answer_text(&offer, &nominated);
    assert!(!answer.contains("remote-candidates"), "{answer}");
}

#[test]
fn directions_and_hold() {
    let base = "v=0\r\nc=IN IP4 192.0.2.1\r\nm=audio 4000 RTP/AVP 0\r\n";
    for (line, expected) in [
        ("", Direction::SendRecv),
        ("a=sendonly\r\n", Direction::RecvOnly),
        ("a=recvonly\r\n", Direction::SendOnly),
        ("a=inactive\r\n", Direction::Inactive),
    ] {
        for offer in [
            format!("{base}{line}"),
            base.replacen("m=", &format!("{line}m="), 1),
        ] {
            let (answer, negotiated) = answer_text(&offer, &ours());
            assert_eq!(negotiated.direction, expected);
            // RFC 8866 section 6.7: sendrecv is what nothing means, and is not written.
            let written = ["sendrecv", "sendonly", "recvonly", "inactive"]
                .into_iter()
                .filter(|word| answer.contains(&format!("a={word}\r\n")))
                .collect::<Vec<_>>();
            let wanted = (expected != Direction::SendRecv).then_some(expected.as_str());
            assert_eq!(written, wanted.into_iter().collect::<Vec<_>>(), "{answer}");
        }
    }
    // The stream's word goes before the session's; the old hold is one as well.
    let both = base.replacen("m=", "a=inactive\r\nm=", 1) + "a=sendrecv\r\n";
    assert_eq!(answer_text(&both, &ours()).1.direction, Direction::SendRecv);
    let old = base.replace("192.0.2.1", "0.0.0.0");
    assert_eq!(answer_text(&old, &ours()).1.direction, Direction::RecvOnly);
    assert_eq!(
        answer_text(&with_ice("IN IP4 0.0.0.0", 9, ""), &ours())
            .1
            .direction,
        Direction::SendRecv
    );
}

#[test]
fn refusals_say_why() {
    let audio = |profile: &str, formats: &str| {
        format!("v=0\r\nc=IN IP4 192.0.2.1\r\nm=audio 4000 {profile} {formats}\r\n")
    };
    for (offer, refusal) in [
        ("v=0\r\n".to_owned(), AnswerRefused::NoAudio),
        (
            "v=0\r\nc=IN IP4 192.0.2.1\r\nm=video 4000 RTP/AVP 31\r\n".to_owned(),
            AnswerRefused::NoAudio,
        ),
        (
            audio("RTP/AVP", "0").replace("4000", "0"),
            AnswerRefused::NoAudio,
        ),
        (
            audio("RTP/SAVP", "0"),
            AnswerRefused::Security("the peer wants it and it is switched off here"),
        ),
        (
            audio("TCP/TLS/RTP/SAVPF", "0"),
            AnswerRefused::Profile("TCP/TLS/RTP/SAVPF".into()),
        ),
        (audio("RTP/AVP", "18 13"), AnswerRefused::NoCodec),
        (
            audio("RTP/AVP", "101\r\na=rtpmap:101 telephone-event/8000"),
            AnswerRefused::NoCodec,
        ),
        (
            audio("RTP/AVP", "0").replace("192.0.2.1", "224.2.1.1/127"),
            AnswerRefused::NoAddress,
        ),
        (
            audio("RTP/AVP", "0").replace("192.0.2.1", "phone.example.com"),
            AnswerRefused::NoAddress,
        ),
        (
            "v=0\r\nm=audio 4000 RTP/AVP 0\r\n".to_owned(),
            AnswerRefused::NoAddress,
        ),
    ] {
        assert_eq!(
            answer(&parse(&offer), &ours()).unwrap_err(),
            refusal,
            "{offer}"
        );
        assert!((301..306).contains(&refusal.warning_code()));
    }
    // The second audio stream is taken when the first will not do.
    let two = audio("RTP/SAVP", "0") + "m=audio 4002 RTP/AVP 8\r\n";
    let (answer, negotiated) = answer_text(&two, &ours());
    assert_eq!(negotiated.remote_rtp.port(), 4002);
    assert!(
        answer.contains("m=audio 0 RTP/SAVP 0\r\nm=audio 7000 RTP/AVP 8\r\n"),
        "{answer}"
    );
}

#[test]
fn answers_of_every_kind_are_read() {
    let ours = ours();
    let base = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n";
    let read = |rest: &str| read_answer(&ours, &parse(&format!("{base}{rest}")));

    let negotiated =
        read("m=audio 4000 RTP/AVP 8 101\r\na=rtpmap:101 telephone-event/8000\r\na=ptime:30\r\n")
            .unwrap();
    assert_eq!(negotiated.codecs, [codec(8, "PCMA", 8_000, 1)]);
    assert_eq!(negotiated.receive, ours.codecs, "anything offered may come");
    assert_eq!(
        (negotiated.telephone_event, negotiated.ptime),
        (Some(101), Some(30))
    );
    assert_eq!(
        (negotiated.rtcp_mux, negotiated.remote_rtcp.port()),
        (false, 4001)
    );

    // Another number for a format of ours is the one to send.
    let negotiated = read("m=audio 4000 RTP/AVP 111\r\na=rtpmap:111 OPUS/48000/2\r\n").unwrap();
    assert_eq!(negotiated.codecs[0].payload_type, 111);
    // No rtpmap: what we offered under that number.
    assert_eq!(
        read("m=audio 4000 RTP/AVP 96\r\n").unwrap().codecs[0].name,
        "opus"
    );
    // Mux that we did not offer is none.
    let unmuxed = LocalMedia {
        rtcp_mux: false,
        ..ours.clone()
    };
    let answer = parse(&format!("{base}m=audio 4000 RTP/AVP 0\r\na=rtcp-mux\r\n"));
    assert!(!read_answer(&unmuxed, &answer).unwrap().rtcp_mux);

    assert_eq!(
        read("m=audio 0 RTP/AVP 0\r\n").unwrap_err(),
        AnswerRefused::NoAudio
    );
    assert_eq!(read("").unwrap_err(), AnswerRefused::NoAudio);
    assert_eq!(
        read("m=audio 4000 RTP/AVP 18\r\n").unwrap_err(),
        AnswerRefused::NoCodec
    );
}

#[test]
fn our_offer_line_by_line() {
    let text = String::from_utf8(offer(&ours())).unwrap();
    assert_eq!(
        text,
        "v=0\r\n\
         o=- 7 8 IN IP4 198.51.100.1\r\n\
         s=-\r\n\
         c=IN IP4 198.51.100.1\r\n\
         t=0 0\r\n\
         a=ice-options:ice2\r\n\
         a=ice-pacing:20\r\n\
         m=audio 7000 RTP/AVP 96 0 8 101 102\r\n\
         a=rtpmap:96 opus/48000/2\r\n\
         a=rtpmap:0 PCMU/8000\r\n\
         a=rtpmap:8 PCMA/8000\r\n\
         a=rtpmap:101 telephone-event/8000\r\n\
         a=rtpmap:102 telephone-event/48000\r\n\
         a=ptime:20\r\n\
         a=rtcp:7001\r\n\
         a=rtcp-mux\r\n\
         a=ice-ufrag:ours1234\r\n\
         a=ice-pwd:oursoursoursoursoursours\r\n\
         a=candidate:1 1 UDP 2130706431 198.51.100.1 7000 typ host\r\n\
         a=candidate:1 2 UDP 2130706430 198.51.100.1 7001 typ host\r\n"
    );
}

#[test]
fn a_brief_offer_leaves_out_what_every_reader_knows() {
    let long = ours();
    let brief = LocalMedia {
        brief: true,
        ..ours()
    };
    let text = String::from_utf8(offer(&brief)).unwrap();
    assert!(
        !text.contains("a=rtpmap:0 ") && !text.contains("a=ptime"),
        "{text}"
    );
    assert!(text.contains("a=rtpmap:96 opus/48000/2\r\n"), "{text}");
    let [brief, long] = [brief, long]
        .map(|local| read_offer(&parse(&String::from_utf8(offer(&local)).unwrap())).unwrap());
    assert_eq!(brief.codecs, long.codecs);
}

#[test]
fn ipv6_and_an_rtcp_address_of_its_own() {
    let local = LocalMedia {
        rtp: "[2001:db8::1]:7000".parse().unwrap(),
        rtcp: Some("198.51.100.1:7001".parse().unwrap()),
        ice: None,
        origin_user: "a b".into(),
        ..ours()
    };
    let text = String::from_utf8(offer(&local)).unwrap();
    assert!(text.contains("o=ab 7 8 IN IP6 2001:db8::1\r\n"), "{text}");
    assert!(text.contains("c=IN IP6 2001:db8::1\r\n"), "{text}");
    assert!(
        text.contains("a=rtcp:7001 IN IP4 198.51.100.1\r\n"),
        "{text}"
    );
    let read = read_offer(&parse(&text)).unwrap();
    assert_eq!((read.rtp, Some(read.rtcp)), (local.rtp, local.rtcp));
}

#[test]
fn sloppy_descriptions_are_read() {
    // LF alone, Latin-1 in a name, no o=, s=, t=, unknown lines, no line end at the end.
    let mut bytes =
        b"v=0\ns=B\xfccher\nc=IN IP4 192.0.2.1\ny=unknown\nm=audio 4000/2 RTP/AVP 0 0 x 200 8\n"
            .to_vec();
    bytes.extend_from_slice(
        b"a=rtpmap:0\na=rtpmap:8 PCMA/8000/1\na=fmtp:8\na=:\na=rtcp:x\na=ptime:x\na=rtcp-mux",
    );
    let description = SessionDescription::parse(&bytes).unwrap();
    let remote = read_offer(&description).unwrap();
    assert_eq!(
        remote.codecs,
        [codec(0, "PCMU", 8_000, 1), codec(8, "PCMA", 8_000, 1)]
    );
    assert!(remote.rtcp_mux);
    assert_eq!(remote.rtcp.port(), 4001);
}

#[test]
fn a_later_offer_keeps_the_payload_numbers() {
    // pjsua's 96 is speex and its Opus 97; its events are 120.
    let last = parse(PJSUA);
    let ours = ours().continuing(&last);
    let numbers: Vec<_> = ours
        .codecs
        .iter()
        .map(|c| (c.name.as_str(), c.payload_type))
        .collect();
    assert_eq!(
        numbers,
        [
            ("opus", 97),
            ("PCMU", 0),
            ("PCMA", 8),
            ("telephone-event", 101),
            ("telephone-event", 120)
        ]
    );
    // Where nothing is in common, nobody's number is taken.
    let other = parse(
        "v=0\nc=IN IP4 192.0.2.1\nm=audio 4 RTP/AVP 96 101\na=rtpmap:96 X/8000\na=rtpmap:101 Y/8000\n",
    );
    let numbers = numbers_after(&other);
    assert_eq!(numbers, [97, 0, 8, 98, 102]);
}

fn numbers_after(last: &SessionDescription) -> Vec<u8> {
    ours()
        .continuing(last)
        .codecs
        .iter()
        .map(|c| c.payload_type)
        .collect()
}

#[test]
fn a_format_list_without_end_costs_little() {
    let numbers = "96 ".repeat(9_000);
    let attributes = "a=rtpmap:97 X/8000\r\n".repeat(1_800);
    let text =
        format!("v=0\r\nc=IN IP4 192.0.2.1\r\nm=audio 4000 RTP/AVP {numbers}0\r\n{attributes}");
    let negotiated = read_answer(&ours(), &parse(&text)).unwrap();
    assert_eq!(negotiated.codecs.len(), 2);
}

const TRICKLING: &str = "v=0\no=- 1 1 IN IP4 0.0.0.0\ns=-\nc=IN IP4 0.0.0.0\nt=0 0\n\
    a=ice-options:trickle ice2\nm=audio 9 RTP/AVP 0\na=mid:foo\na=ice-ufrag:8hhY\n\
    a=ice-pwd:asd88fgpdd777uzjYhagZg\na=rtcp-mux\n";

#[test]
fn an_offer_without_any_candidate_is_a_full_trickle_and_no_mismatch() {
    let remote = read_offer(&parse(TRICKLING)).unwrap();
    let ice = supported(&remote.ice);
    assert_eq!((ice.trickle, ice.candidates.len()), (Trickle::Open, 0));
    assert_eq!(remote.mid.as_deref(), Some("foo"));
    // One candidate that is not the default: the others are on their way.
    let some = format!(
        "{}a=candidate:1 1 UDP 2130706431 10.0.1.1 8998 typ host\n",
        TRICKLING.replace("c=IN IP4 0.0.0.0", "c=IN IP4 192.0.2.9")
    );
    let remote = read_offer(&parse(&some)).unwrap();
    assert_eq!(supported(&remote.ice).candidates.len(), 1);
    // The same without any to come has been tampered with.
    for (whole, trickle) in [
        (some.replace("trickle", ""), Trickle::Unsupported),
        (format!("{some}a=end-of-candidates\n"), Trickle::Ended),
    ] {
        let remote = read_offer(&parse(&whole)).unwrap();
        assert_eq!(remote.ice, IceSupport::Mismatch, "{trickle:?}");
        let sound = whole
            .replace("192.0.2.9", "10.0.1.1")
            .replace("audio 9", "audio 8998");
        let remote = read_offer(&parse(&sound)).unwrap();
        assert_eq!(supported(&remote.ice).trickle, trickle);
    }
}

#[test]
fn the_tag_of_the_stream_is_kept_in_the_answer_and_later() {
    let mut local = ours();
    let (answered, negotiated) = answer_text(TRICKLING, &local);
    assert!(answered.contains("a=mid:foo\r\n"), "{answered}");
    assert_eq!(negotiated.mid.as_deref(), Some("foo"));
    // Without one in the offer there is none in the answer.
    let untagged = TRICKLING.replace("a=mid:foo\n", "");
    assert!(!answer_text(&untagged, &local).0.contains("a=mid"));

    // Our offers have one when we trickle, and it is meant even if the answer leaves it out.
    assert!(!String::from_utf8(offer(&local)).unwrap().contains("a=mid"));
    local.ice.as_mut().unwrap().trickle = Trickle::Ended;
    let offered = String::from_utf8(offer(&local)).unwrap();
    for line in [
        "a=mid:0\r\n",
        "a=ice-options:ice2 trickle\r\n",
        "a=end-of-candidates\r\n",
    ] {
        assert!(offered.contains(line), "{line} in {offered}");
    }
    let negotiated = read_answer(&local, &parse(&untagged)).unwrap();
    assert_eq!(negotiated.mid.as_deref(), Some("0"));
    let later = String::from_utf8(subsequent_offer(&parse(TRICKLING), &local)).unwrap();
    assert_eq!(later.matches("a=mid:").count(), 1);
    assert!(later.contains("a=mid:foo\r\n"), "{later}");
}

#[test]
fn a_fragment_says_what_we_know_and_reads_as_it_was_written() {
    let mut ice = ours_ice();
    ice.trickle = Trickle::Open;
    let text = trickle_fragment(&ice, &[ComponentId::Rtp], Some("foo"));
    assert_eq!(
        String::from_utf8(text.clone()).unwrap(),
        "a=ice-pwd:oursoursoursoursoursours\r\na=ice-ufrag:ours1234\r\n\
         m=audio 9 RTP/AVP 0\r\na=mid:foo\r\n\
         a=candidate:1 1 UDP 2130706431 198.51.100.1 7000 typ host\r\n"
    );
    let read = TrickleFragment::parse(&text, Some("foo")).unwrap();
    assert_eq!(read.credentials, ice.credentials);
    assert_eq!(read.candidates, ice.candidates[..1]);
    assert!(!read.end_of_candidates);
    let other = TrickleFragment::parse(&text, Some("bar"));
    assert_eq!(other, Err(FragmentError::OtherStream));
    // Where offer and answer have no tag, the sound is meant.
    assert!(TrickleFragment::parse(&text, None).is_ok());
    ice.trickle = Trickle::Ended;
    let text = trickle_fragment(&ice, &[ComponentId::Rtp, ComponentId::Rtcp], None);
    let read = TrickleFragment::parse(&text, Some("foo")).unwrap();
    assert_eq!((read.candidates.len(), read.end_of_candidates), (2, true));
}

/// The example of RFC 8840 section 4.4 with other addresses, and what must be passed over.
#[test]
fn a_foreign_fragment_is_read_as_far_as_it_can_be_used() {
    let text = "a=group:BUNDLE foo bar\r\na=ice-pwd:asd88fgpdd777uzjYhagZg\r\na=ice-ufrag:8hhY\r\n\
        m=audio 9 RTP/AVP 0\r\na=mid:bar\r\na=candidate:9 1 UDP 1 10.9.9.9 9 typ host\r\n\
        m=audio 9 RTP/AVP 0\r\na=mid:foo\r\n\
        a=candidate:1 1 UDP 2130706432 2001:db8::1 5000 typ host\r\n\
        a=candidate:1 1 UDP 2130706430 3f2c.local 5001 typ host\r\n\
        a=candidate:1 1 UDP 2130706429 phone.example.org 5001 typ host\r\n\
        a=candidate:1 1 QUIC 2130706428 10.0.0.1 5002 typ host\r\n\
        a=candidate:1 1 UDP 2130706427 10.0.0.1 5003 typ teleport\r\n\
        a=candidate:2 1 UDP 1694498815 192.0.2.3 5010 typ srflx raddr 10.0.0.1 rport 5000 ufrag x\r\n\
        a=candidate\r\na=candidate:x\r\na=rtcp-mux\r\na=end-of-candidates\r\n";
    let read = TrickleFragment::parse(text.as_bytes(), Some("foo")).unwrap();
    let addresses: Vec<_> = read
        .candidates
        .iter()
        .map(|c| c.address.to_string())
        .collect();
    assert_eq!(addresses, ["[2001:db8::1]:5000", "192.0.2.3:5010"]);
    assert!(read.end_of_candidates);
    assert_eq!(read.credentials.ufrag, "8hhY");
    let bar = TrickleFragment::parse(text.as_bytes(), Some("bar")).unwrap();
    assert_eq!((bar.candidates.len(), bar.end_of_candidates), (1, false));

    // A stream may have a ufrag of its own; without any there is no generation.
    let own = text.replace(
        "a=mid:foo",
        "a=mid:foo\r\na=ice-ufrag:own1\r\na=ice-pwd:ownownownownownownownown",
    );
    let read = TrickleFragment::parse(own.as_bytes(), Some("foo")).unwrap();
    assert_eq!(read.credentials.ufrag, "own1");
    let none = text.replace("a=ice-ufrag:8hhY", "a=ice-ufrag:8");
    let none = TrickleFragment::parse(none.as_bytes(), Some("foo"));
    assert_eq!(none, Err(FragmentError::NoCredentials));
    // The end of all streams at once.
    let end = "a=ice-pwd:asd88fgpdd777uzjYhagZg\na=ice-ufrag:8hhY\na=end-of-candidates\n";
    let end = TrickleFragment::parse(end.as_bytes(), Some("foo")).unwrap();
    assert!(end.end_of_candidates && end.candidates.is_empty());
}

#[test]
fn redundancy_is_answered_under_the_offers_numbers() {
    // A browser's formats.
    let offer = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
                 m=audio 4000 RTP/AVP 111 63 0\r\na=rtpmap:111 opus/48000/2\r\n\
                 a=rtpmap:63 red/48000/2\r\na=fmtp:63 111/111\r\n";
    let mut local = ours();
    let red = RtpCodec {
        fmtp: Some("96/96".into()),
        ..codec(62, "red", 48_000, 2)
    };
    local.codecs.push(red.clone());
    let (text, negotiated) = answer_text(offer, &local);
    assert!(text.contains("RTP/AVP 111 63 0\r\n"), "{text}");
    assert!(text.contains("a=fmtp:63 111/111\r\n"), "{text}");
    assert_eq!(negotiated.codecs.len(), 2);
    assert_eq!(negotiated.redundancy.len(), 1);
    assert_eq!(negotiated.redundancy[0].payload_type, 63);
    // Redundancy of nothing that is left is left out, and alone it is no codec.
    let (text, _) = answer_text(&offer.replace("opus", "other"), &local);
    assert!(text.contains("RTP/AVP 0\r\n"), "{text}");
    let alone = offer.replace("opus", "other").replace(" 63 0", " 63");
    assert_eq!(
        answer(&parse(&alone), &local).unwrap_err(),
        AnswerRefused::NoCodec
    );
}

/// RFC 3389 section 4: noise is agreed on beside sound of its clock, under the offer's number; who would
/// take it need not offer it.
#[test]
fn comfort_noise_is_taken_from_who_offers_it() {
    let noise = codec(13, "CN", 8_000, 1);
    let mut local = ours();
    local.ice = None;
    local.accepted = vec![noise.clone()];
    let offered = String::from_utf8(offer(&local)).unwrap();
    assert!(!offered.contains("CN"), "{offered}");
    let told = |formats: &str, more: &str| {
        format!("v=0\r\nc=IN IP4 192.0.2.9\r\nm=audio 4000 RTP/AVP {formats}\r\n{more}")
    };
    let opus = "a=rtpmap:97 opus/48000/2\r\n";
    for (formats, more, answered, send, received) in [
        // The static number needs no name.
        ("0 13", "", "0 13", Some(13), Some(13)),
        (
            "0 98",
            "a=rtpmap:98 CN/8000\r\n",
            "0 98",
            Some(98),
            Some(98),
        ),
        // Opus is what we send: its pauses are its own; what comes may still be G.711 with noise.
        ("97 0 13", opus, "97 0 13", None, Some(13)),
        // Nothing of its clock.
        ("97 13", opus, "97", None, None),
        ("0 98", "a=rtpmap:98 CN/16000\r\n", "0", None, None),
        ("0", "", "0", None, None),
    ] {
        let (answer, agreed) = answer_text(&told(formats, more), &local);
        assert!(
            answer.contains(&format!("RTP/AVP {answered}\r\n")),
            "{formats}: {answer}"
        );
        assert_eq!(agreed.comfort_noise, send, "{formats}");
        let ours = agreed
            .receive
            .iter()
            .find(|format| format.is_comfort_noise());
        assert_eq!(
            ours.map(|format| format.payload_type),
            received,
            "{formats}"
        );
    }
    // Offered by us, in the short form without its name, and answered or not.
    local.codecs = vec![codec(0, "PCMU", 8_000, 1), noise];
    local.brief = true;
    let offered = String::from_utf8(offer(&local)).unwrap();
    assert!(
        offered.contains("RTP/AVP 0 13\r\n") && !offered.contains("rtpmap"),
        "{offered}"
    );
    for (formats, send) in [("0 13", Some(13)), ("0", None)] {
        let agreed = read_answer(&local, &parse(&told(formats, ""))).unwrap();
        assert_eq!(agreed.comfort_noise, send);
        assert!(agreed.codecs.iter().all(RtpCodec::is_sound));
    }
}
