//! Keys in the description, through offer and answer: RFC 4568 sections 5 and 7, RFC 8643.

use ringtrue_sip::sdp::*;

const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

fn keys(first: u8) -> Vec<Crypto> {
    let lines = CryptoSuite::ALL.into_iter().zip(1..);
    lines
        .map(|(suite, tag)| {
            let key = vec![first + tag as u8; suite.key_len()];
            Crypto::new(tag, suite, &key).unwrap()
        })
        .collect()
}

fn dtls() -> DtlsDescription {
    DtlsDescription {
        fingerprints: vec![CertificateFingerprint {
            hash: "sha-256".to_owned(),
            digest: vec![7; 32],
        }],
        setup: Setup::ActPass,
        tls_id: None,
    }
}

fn local(security: LocalSecurity, crypto: Vec<Crypto>) -> LocalMedia {
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
        ptime: None,
        brief: false,
        security,
        crypto,
        extended_reports: ExtendedReports::default(),
    }
}

fn text(description: &[u8]) -> String {
    String::from_utf8(description.to_vec()).unwrap()
}

fn parsed(text: &str) -> SessionDescription {
    SessionDescription::parse(text.as_bytes()).unwrap()
}

/// What phones of another kind say.
fn foreign(profile: &str, lines: &[&str]) -> SessionDescription {
    let lines: String = lines.iter().map(|line| format!("a={line}\r\n")).collect();
    parsed(&format!(
        "v=0\r\no=- 1 1 IN IP4 192.0.2.2\r\ns=-\r\nc=IN IP4 192.0.2.2\r\nt=0 0\r\n\
         m=audio 5000 {profile} 0\r\n{lines}"
    ))
}

fn sha1_80(tag: u32) -> String {
    format!("crypto:{tag} AES_CM_128_HMAC_SHA1_80 inline:{KEY}")
}

#[test]
fn an_offer_is_best_effort_or_secured() {
    let optional = text(&offer(&local(LocalSecurity::Optional(dtls()), keys(1))));
    assert!(optional.contains(" RTP/AVP "), "{optional}");
    assert_eq!(optional.matches("a=crypto:").count(), 4);
    assert!(optional.contains("a=fingerprint:"));
    let required = text(&offer(&local(LocalSecurity::Required(dtls()), keys(1))));
    assert!(required.contains(" RTP/SAVP "), "{required}");
    let without = text(&offer(&local(LocalSecurity::Required(dtls()), Vec::new())));
    assert!(without.contains(" UDP/TLS/RTP/SAVP ") && !without.contains("crypto"));
}

#[test]
fn an_answer_takes_one_line_and_each_side_has_its_own_key() {
    let alice = local(LocalSecurity::Optional(dtls()), keys(1));
    // Bob knows nothing of DTLS.
    let stripped: String = text(&offer(&alice))
        .split_inclusive('\n')
        .filter(|line| !line.starts_with("a=fingerprint") && !line.starts_with("a=setup"))
        .collect();
    let bob = local(LocalSecurity::Optional(dtls()), keys(100));
    let (answer, at_bob) = answer(&parsed(&stripped), &bob).unwrap();
    assert_eq!(text(&answer).matches("a=crypto:").count(), 1);
    assert!(!text(&answer).contains("fingerprint"));
    let at_alice = read_answer(&alice, &parsed(&text(&answer))).unwrap();
    let (at_bob, at_alice) = (at_bob.crypto.unwrap(), at_alice.crypto.unwrap());
    assert_eq!(at_bob.local.suite, CryptoSuite::AeadAes256Gcm);
    assert_eq!(at_bob.local.key(), at_alice.remote.key());
    assert_eq!(at_bob.remote.key(), at_alice.local.key());
    assert_ne!(at_bob.local.key(), at_alice.local.key());
}

#[test]
fn an_answer_has_the_tag_of_the_first_line_that_can_be_used() {
    let bob = local(LocalSecurity::Optional(dtls()), keys(1));
    let with_mki = format!("{}|2^20|1:4", sha1_80(3));
    let lines = [
        "crypto:1 F8_128_HMAC_SHA1_80 inline:AAAA",
        &with_mki,
        "crypto:4 AES_CM_128_HMAC_SHA1_80 inline:short",
        &sha1_80(9),
    ];
    for profile in ["RTP/SAVP", "RTP/SAVPF", "RTP/AVP"] {
        let (answer, agreed) = answer(&foreign(profile, &lines), &bob).unwrap();
        assert!(text(&answer).contains("a=crypto:9 AES_CM_128_HMAC_SHA1_80 inline:"));
        assert!(text(&answer).contains(profile));
        assert_eq!(agreed.crypto.unwrap().remote.tag, 9);
    }
}

#[test]
fn dtls_is_preferred_and_clear_is_no_way_out() {
    let fingerprint = format!("fingerprint:sha-256 {}", vec!["07"; 32].join(":"));
    let both = foreign("RTP/SAVP", &[&sha1_80(1), &fingerprint, "setup:actpass"]);
    let bob = local(LocalSecurity::Optional(dtls()), keys(1));
    let (said, agreed) = answer(&both, &bob).unwrap();
    assert!(agreed.dtls.is_some() && agreed.crypto.is_none());
    assert!(!text(&said).contains("crypto"));
    // Keys that cannot be used are none.
    let useless = foreign("RTP/SAVP", &["crypto:1 F8_128_HMAC_SHA1_80 inline:AAAA"]);
    assert!(matches!(
        answer(&useless, &bob),
        Err(AnswerRefused::Security(_))
    ));
    let only = foreign("RTP/SAVP", &[&sha1_80(1)]);
    // Not by TLS: there are no keys of ours.
    let clear = local(LocalSecurity::Optional(dtls()), Vec::new());
    let refused = answer(&only, &clear).unwrap_err().to_string();
    assert!(refused.contains("TLS"), "{refused}");
    assert!(answer(&only, &local(LocalSecurity::Off, Vec::new())).is_err());
    let strict = local(LocalSecurity::Required(dtls()), keys(1));
    assert!(answer(&foreign("RTP/AVP", &[]), &strict).is_err());
    assert!(answer(&only, &strict).unwrap().1.crypto.is_some());
}

#[test]
fn an_answer_must_take_a_line_that_was_offered() {
    for (security, profile) in [
        (LocalSecurity::Optional(dtls()), "RTP/AVP"),
        (LocalSecurity::Required(dtls()), "RTP/SAVP"),
    ] {
        let alice = local(security.clone(), keys(1));
        let good = read_answer(&alice, &foreign(profile, &[&sha1_80(3)])).unwrap();
        assert_eq!(good.crypto.unwrap().local.tag, 3);
        // Another tag, or another suite under it.
        for wrong in [sha1_80(4), sha1_80(77), format!("{}|2^20|1:4", sha1_80(3))] {
            let read = read_answer(&alice, &foreign(profile, &[&wrong]));
            match security {
                LocalSecurity::Required(_) => {
                    assert!(matches!(read, Err(AnswerRefused::Security(_))), "{wrong}");
                }
                _ => assert_eq!(read.unwrap().crypto, None, "{wrong}"),
            }
        }
    }
}
