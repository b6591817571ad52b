//! Why Ringtrue reads SIP and SDP itself: every failure of rsip 0.4.0 and sdp-rs 0.2.1 that the
//! decision rests on (docs/decisions/0003 and 0004), each beside our own reading of the same
//! bytes. The day a release mends one of them, its test fails and the decision is taken anew.

use std::convert::TryFrom;
use std::path::Path;

use ringtrue_sip::message::{Message, Method, NameAddr};
use ringtrue_sip::sdp::{RtpCodec, SessionDescription, read_offer};
use ringtrue_sip::uri::{Host, Scheme, Uri};

fn message(uri: &str, more: &str) -> String {
    format!(
        "OPTIONS {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\n{more}\
         From: <sip:a@example.com>;tag=1\r\nTo: <sip:b@example.com>\r\nCall-ID: 1\r\n\
         CSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
    )
}

fn ours(text: &str) -> Message {
    Message::parse_datagram(text.as_bytes()).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

fn theirs(text: &str) -> Result<rsip::SipMessage, rsip::Error> {
    rsip::SipMessage::try_from(text.as_bytes())
}

fn their_uri(text: &str) -> Option<rsip::Uri> {
    rsip::Uri::try_from(text).ok()
}

#[test]
fn rsip_reads_an_ordinary_message() {
    let text = message("sip:bob@example.com", "");
    assert!(theirs(&text).is_ok(), "else these tests show nothing");
    ours(&text);
}

#[test]
fn rsip_cannot_read_an_ipv6_host() {
    for text in [
        "sip:bob@[2001:db8::1]",
        "sip:[2001:db8::1]:5061",
        "sip:bob@[::1];transport=tcp",
    ] {
        let read = their_uri(text).map(|uri| uri.to_string());
        assert_ne!(read.as_deref(), Some(text), "{text}");
        assert!(matches!(text.parse::<Uri>().unwrap().host, Host::Ipv6(_)));
    }
}

#[test]
fn rsip_takes_a_dotted_user_for_a_host() {
    let theirs = their_uri("sip:john.doe@example.com").unwrap();
    assert_eq!(theirs.user(), None, "{theirs:?}");
    assert_ne!(theirs.host().to_string(), "example.com");
    let ours: Uri = "sip:john.doe@example.com".parse().unwrap();
    assert_eq!(
        (ours.user.as_deref(), ours.host.to_string().as_str()),
        (Some("john.doe"), "example.com")
    );
}

#[test]
fn rsip_refuses_tel() {
    assert!(their_uri("tel:+12015550123").is_none());
    assert_eq!(
        "tel:+12015550123".parse::<Uri>().unwrap().scheme,
        Scheme::Tel
    );
}

#[test]
fn rsip_refuses_folded_lines() {
    let text = message("sip:bob@example.com", "Subject: one\r\n two\r\n");
    assert!(theirs(&text).is_err());
    assert_eq!(
        ours(&text).headers().get("Subject").as_deref(),
        Some("one two")
    );
}

#[test]
fn rsip_refuses_lines_that_end_in_lf() {
    let text = message("sip:bob@example.com", "").replace("\r\n", "\n");
    assert!(theirs(&text).is_err());
    assert_eq!(ours(&text).headers().call_id().unwrap(), "1");
}

#[test]
fn rsip_refuses_unknown_methods() {
    let text = message("sip:bob@example.com", "").replace("OPTIONS", "NEWMETHOD");
    assert!(theirs(&text).is_err());
    match ours(&text) {
        Message::Request(r) => assert_eq!(r.method, Method::Other("NEWMETHOD".into())),
        Message::Response(r) => panic!("{r:?}"),
    }
}

#[test]
fn rsip_refuses_quoted_parameters() {
    use rsip::prelude::ToTypedHeader;
    let theirs = |text: &str| rsip::headers::Contact::from(text).typed();
    assert!(
        theirs("<sip:a@example.com>;x=y").is_ok(),
        "else this shows nothing"
    );
    let text = r#"<sip:a@example.com>;+sip.instance="<urn:uuid:0>;x""#;
    assert!(theirs(text).is_err());
    assert!(theirs(r#"<sip:a@example.com>;x="y z""#).is_err());
    let ours: NameAddr = text.parse().unwrap();
    assert_eq!(
        ours.params.text("+sip.instance").as_deref(),
        Some("<urn:uuid:0>;x")
    );
}

#[test]
fn rsip_takes_compact_forms_for_unknown_header_fields() {
    let text = message("sip:bob@example.com", "m: <sip:a@192.0.2.1>\r\n");
    let theirs = theirs(&text).unwrap();
    let known = rsip::prelude::HeadersExt::contact_headers(&theirs);
    assert!(known.is_empty());
    assert_eq!(ours(&text).headers().contacts().unwrap().len(), 1);
}

#[test]
fn rsip_drops_the_second_via_of_a_line() {
    use rsip::prelude::{HeadersExt, ToTypedHeader};
    let two = "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1, SIP/2.0/UDP 192.0.2.2;branch=z9hG4bK2";
    let text =
        message("sip:bob@example.com", "").replace("SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1", two);
    let theirs = theirs(&text).unwrap();
    let printed = theirs
        .via_header()
        .ok()
        .and_then(|via| via.clone().typed().ok())
        .map(|v| v.to_string());
    assert!(!printed.is_some_and(|via| via.contains("z9hG4bK2")));
    assert_eq!(ours(&text).headers().vias().unwrap().len(), 2);
}

/// "Passes" is meant kindly: rsip reads the message and its body, finds its Via, From, To,
/// Call-ID and CSeq, agrees on the hosts, and finds as many Vias and Contacts as there are.
#[test]
fn rsip_passes_few_of_the_valid_messages_of_rfc_4475() {
    const VALID: [&str; 13] = [
        "wsinv",
        "intmeth",
        "esc01",
        "escnull",
        "esc02",
        "lwsdisp",
        "longreq",
        "dblreq",
        "semiuri",
        "transports",
        "mpart01",
        "unreason",
        "noreason",
    ];
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rfc4475");
    let passed: Vec<_> = VALID
        .into_iter()
        .filter(|name| {
            rsip_passes(&std::fs::read(archive.join(format!("{name}.dat"))).unwrap()).is_some()
        })
        .collect();
    assert_eq!(
        passed,
        [
            "escnull",
            "lwsdisp",
            "transports",
            "mpart01",
            "unreason",
            "noreason"
        ]
    );
}

fn rsip_passes(bytes: &[u8]) -> Option<()> {
    use rsip::prelude::{HasHeaders, HeadersExt, ToTypedHeader};
    let ours = Message::parse_datagram(bytes).expect("ours reads them all");
    let (headers, same) = (ours.headers(), |ours: &Uri, theirs: &rsip::Uri| {
        ours.host.to_string() == theirs.host().to_string()
    });
    let theirs = rsip::SipMessage::try_from(bytes).ok()?;
    let (from, to) = (
        theirs.from_header().ok()?.typed().ok()?,
        theirs.to_header().ok()?.typed().ok()?,
    );
    theirs.via_header().ok()?.typed().ok()?;
    theirs.call_id_header().ok()?;
    let vias = theirs
        .headers()
        .iter()
        .filter(|h| matches!(h, rsip::Header::Via(_)))
        .count();
    let agreed = same(&headers.from().ok()?.uri, &from.uri)
        && same(&headers.to().ok()?.uri, &to.uri)
        && headers.cseq().ok()?.number == theirs.cseq_header().ok()?.typed().ok()?.seq
        && headers.vias().ok()?.len() == vias
        && headers.contacts().ok()?.len() == theirs.contact_headers().len()
        && ours.body() == theirs.body();
    agreed.then_some(())
}

#[test]
fn sdp_rs_panics_on_remote_input() {
    let text = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\nr=1 1 9223372036854775807\r\n";
    let theirs = std::panic::catch_unwind(|| sdp_rs::SessionDescription::try_from(text).is_ok());
    assert!(theirs.is_err());
    assert!(SessionDescription::parse(text.as_bytes()).is_ok());
}

#[test]
fn sdp_rs_cannot_read_back_its_own_opus_rtpmap() {
    let text = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
                m=audio 4000 RTP/AVP 96\r\na=rtpmap:96 opus/48000/2\r\n";
    let theirs = sdp_rs::SessionDescription::try_from(text);
    let printed = theirs.as_ref().map(ToString::to_string).unwrap();
    assert!(
        printed.contains("a=rtpmap:96 opus/48000 2\r\n"),
        "{printed}"
    );
    let again = sdp_rs::SessionDescription::try_from(printed.as_str());
    assert!(again.ok() != theirs.ok(), "{printed}");
    let opus = &read_offer(&SessionDescription::parse(text.as_bytes()).unwrap())
        .unwrap()
        .codecs[0];
    let channels = RtpCodec {
        channels: 2,
        ..opus.clone()
    };
    assert_eq!((opus, opus.name.as_str()), (&channels, "opus"));
}

#[test]
fn sdp_rs_drops_media_after_an_unknown_line() {
    let text =
        "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\ny=new\r\nm=audio 4000 RTP/AVP 0\r\n";
    let theirs = sdp_rs::SessionDescription::try_from(text);
    assert!(!theirs.is_ok_and(|sdp| sdp.media_descriptions.len() == 1));
    assert_eq!(
        SessionDescription::parse(text.as_bytes())
            .unwrap()
            .streams(),
        1
    );
}
