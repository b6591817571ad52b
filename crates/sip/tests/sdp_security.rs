//! How offer and answer agree on encryption (RFC 5763, RFC 8122, RFC 8643, RFC 8842).

use ringtrue_sip::sdp::*;

const OURS: &str = "AB";
const FINGERPRINT: &str = "a=fingerprint:SHA-256 \
01:02:03:04:05:06:07:08:09:0a:0b:0c:0d:0e:0f:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F:20";

fn dtls() -> DtlsDescription {
    DtlsDescription {
        fingerprints: vec![CertificateFingerprint {
            hash: "sha-256".into(),
            digest: vec![0xab; 32],
        }],
        setup: Setup::ActPass,
        tls_id: Some("ringtrue0123456789abcd".into()),
    }
}

fn local(security: LocalSecurity) -> LocalMedia {
    LocalMedia {
        accepted: Vec::new(),
        origin_user: "-".into(),
        session_id: 1,
        session_version: 1,
        rtp: "192.0.2.1:4000".parse().unwrap(),
        rtcp: None,
        ice: None,
        codecs: vec![RtpCodec {
            payload_type: 0,
            name: "PCMU".into(),
            clock_rate: 8_000,
            channels: 1,
            fmtp: None,
        }],
        direction: Direction::SendRecv,
        rtcp_mux: true,
        ptime: Some(20),
        brief: false,
        security,
        crypto: Vec::new(),
        extended_reports: ExtendedReports::default(),
    }
}

fn all() -> [LocalMedia; 3] {
    [
        local(LocalSecurity::Off),
        local(LocalSecurity::Optional(dtls())),
        local(LocalSecurity::Required(dtls())),
    ]
}

fn description(proto: &str, lines: &str) -> SessionDescription {
    let text = format!(
        "v=0\r\no=- 5 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\n\
         m=audio 5000 {proto} 0\r\na=rtcp-mux\r\n{lines}\r\n"
    );
    SessionDescription::parse(text.as_bytes()).unwrap()
}

fn keyed(setup: &str) -> String {
    format!("{FINGERPRINT}\r\na=setup:{setup}")
}

#[test]
fn offers_say_what_is_wanted() {
    let [off, optional, required] = all().map(|local| String::from_utf8(offer(&local)).unwrap());
    assert!(off.contains("m=audio 4000 RTP/AVP 0") && !off.contains("fingerprint"));
    let line = format!("a=fingerprint:sha-256 {}", vec![OURS; 32].join(":"));
    assert!(optional.contains("m=audio 4000 RTP/AVP 0"), "RFC 8643");
    assert!(required.contains("m=audio 4000 UDP/TLS/RTP/SAVP 0"));
    for text in [optional, required] {
        assert!(
            text.contains(&line) && text.contains("a=setup:actpass"),
            "{text}"
        );
        assert!(!text.contains("tls-id"));
    }
}

/// Which offers are taken, and which of them encrypted.
#[test]
fn every_offer_under_every_setting() {
    let keyed = keyed("actpass");
    let protos = [
        "RTP/AVP",
        "RTP/AVPF",
        "RTP/SAVP",
        "RTP/SAVPF",
        "UDP/TLS/RTP/SAVP",
        "UDP/TLS/RTP/SAVPF",
    ];
    for proto in protos {
        let secure = proto.contains("SAVP");
        for (lines, has_keys) in [("a=ptime:20", false), (keyed.as_str(), true)] {
            let offer = description(proto, lines);
            let [off, optional, required] = all().map(|local| answer(&offer, &local));
            assert_eq!(off.is_ok(), !secure, "{proto} {has_keys}");
            assert_eq!(optional.is_ok(), !secure || has_keys, "{proto} {has_keys}");
            assert_eq!(required.is_ok(), has_keys, "{proto} {has_keys}");
            for refused in [&off, &optional, &required]
                .into_iter()
                .filter_map(|r| r.as_ref().err())
            {
                assert!(matches!(refused, AnswerRefused::Security(_)), "{refused}");
            }
            if let Ok((_, negotiated)) = off {
                assert_eq!(negotiated.dtls, None);
            }
            for (text, negotiated) in [optional, required].into_iter().flatten() {
                let text = String::from_utf8(text).unwrap();
                assert_eq!(negotiated.dtls.is_some(), has_keys);
                assert_eq!(text.contains("a=setup:active"), has_keys);
                assert!(text.contains(&format!("m=audio 4000 {proto} 0")), "{text}");
                assert!(!text.contains("tls-id"), "only where the offer has one");
            }
        }
    }
}

#[test]
fn who_begins() {
    let optional = local(LocalSecurity::Optional(dtls()));
    for (theirs, ours, active) in [
        ("actpass", "active", true),
        ("passive", "active", true),
        ("active", "passive", false),
    ] {
        let (text, agreed) = answer(&description("RTP/AVP", &keyed(theirs)), &optional).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains(&format!("a=setup:{ours}")), "{text}");
        assert_eq!(agreed.dtls.unwrap().active, active);
    }
    for (theirs, active) in [("active", false), ("passive", true)] {
        let read = read_answer(&optional, &description("RTP/AVP", &keyed(theirs))).unwrap();
        assert_eq!(read.dtls.unwrap().active, active);
    }
    // A role that stands is kept (RFC 8842 section 5.3).
    let mut standing = dtls();
    standing.setup = Setup::Passive;
    let standing = local(LocalSecurity::Required(standing));
    let (_, agreed) = answer(&description("RTP/AVP", &keyed("actpass")), &standing).unwrap();
    assert!(!agreed.dtls.unwrap().active);
}

#[test]
fn an_answer_has_a_tls_id_where_the_offer_has() {
    let lines = format!("{}\r\na=tls-id:abcdefghij0123456789", keyed("actpass"));
    let optional = local(LocalSecurity::Optional(dtls()));
    let (text, agreed) = answer(&description("UDP/TLS/RTP/SAVP", &lines), &optional).unwrap();
    assert!(
        String::from_utf8(text)
            .unwrap()
            .contains("a=tls-id:ringtrue0123456789abcd")
    );
    let remote = agreed.dtls.unwrap().remote;
    assert_eq!(remote.tls_id.as_deref(), Some("abcdefghij0123456789"));
    assert_eq!(remote.fingerprints[0].digest, (1..=32).collect::<Vec<u8>>());
}

/// Weak hashes, mangled ones, `holdconn`: as good as none.
#[test]
fn what_is_no_fingerprint() {
    let short = FINGERPRINT.trim_end_matches(":20");
    for lines in [
        "a=fingerprint:sha-1 01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14\r\na=setup:actpass".to_owned(),
        format!("{short}\r\na=setup:actpass"),
        format!("{FINGERPRINT}:21\r\na=setup:actpass"),
        FINGERPRINT.replace("01:", "+1:") + "\r\na=setup:actpass",
        keyed("holdconn"),
        "a=fingerprint:sha-256\r\na=setup:active".to_owned(),
    ] {
        let [_, optional, required] = all();
        let offer = description("RTP/AVP", &lines);
        assert_eq!(answer(&offer, &optional).unwrap().1.dtls, None, "{lines}");
        assert!(answer(&offer, &required).is_err());
        assert_eq!(read_answer(&optional, &offer).unwrap().dtls, None);
        let refused = read_answer(&required, &offer).unwrap_err();
        assert!(matches!(refused, AnswerRefused::Security(_)));
        assert_eq!(refused.warning_code(), 302);
    }
}

#[test]
fn a_fingerprint_of_the_session_is_the_streams() {
    let text = format!(
        "v=0\r\no=- 5 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\n{}\r\n\
         m=audio 5000 UDP/TLS/RTP/SAVPF 0\r\n",
        keyed("active")
    );
    let offer = SessionDescription::parse(text.as_bytes()).unwrap();
    let (_, agreed) = answer(&offer, &local(LocalSecurity::Required(dtls()))).unwrap();
    assert!(!agreed.dtls.unwrap().active);
}

#[test]
fn a_later_offer_keeps_the_profile() {
    let last = description("UDP/TLS/RTP/SAVPF", &keyed("active"));
    let text = subsequent_offer(&last, &local(LocalSecurity::Required(dtls())));
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("m=audio 4000 UDP/TLS/RTP/SAVPF 0"), "{text}");
    assert!(text.contains("a=setup:actpass"));
}
