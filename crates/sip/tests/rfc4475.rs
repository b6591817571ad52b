//! The torture tests of RFC 4475, all of its archive (appendix A), bit by bit.
//!
//! The archive lies unpacked in `tests/rfc4475/`. Every message of section 3.1.1 is understood
//! field by field; each of the others is answered, dropped or accepted as the RFC says.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ringtrue_sip::message::*;
use ringtrue_sip::sdp::SessionDescription;
use ringtrue_sip::uri::{Host, Scheme, Uri};

fn archive() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rfc4475")
}

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(archive().join(format!("{name}.dat"))).expect("the archive is unpacked")
}

fn request(name: &str) -> Request {
    match Message::parse_datagram(&bytes(name)) {
        Ok(Message::Request(request)) => request,
        other => panic!("{name}: {other:?}"),
    }
}

fn response(name: &str) -> Response {
    match Message::parse_datagram(&bytes(name)) {
        Ok(Message::Response(response)) => response,
        other => panic!("{name}: {other:?}"),
    }
}

fn uri(text: &str) -> Uri {
    text.parse().unwrap()
}

fn tags(headers: &Headers) -> (Option<String>, Option<String>) {
    let tag = |address: NameAddr| address.tag().map(str::to_owned);
    (tag(headers.from().unwrap()), tag(headers.to().unwrap()))
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// The lines of the SDP that most of the messages carry.
fn holds_two_streams(body: &[u8]) {
    let text = String::from_utf8(body.to_vec()).unwrap();
    assert!(
        text.starts_with("v=0\r\n") && text.ends_with("a=rtpmap:31 LPC\r\n"),
        "{text}"
    );
    assert_eq!(SessionDescription::parse(body).unwrap().streams(), 2);
}

// 3.1.1: valid messages

#[test]
fn wsinv_a_short_tortuous_invite() {
    let invite = request("wsinv");
    let headers = &invite.headers;
    assert_eq!(invite.method, Method::Invite);
    assert_eq!(
        invite.uri.to_string(),
        "sip:vivekg@chair-dnrc.example.com;unknownparam"
    );
    assert_eq!(invite.uri.param("unknownparam").as_deref(), Some(""));

    let to = headers.to().unwrap();
    assert_eq!(
        (to.display.clone(), to.uri.to_string()),
        (None, "sip:vivekg@chair-dnrc.example.com".into())
    );
    assert_eq!(to.tag(), Some("1918181833n"));
    let from = headers.from().unwrap();
    assert_eq!(from.display.as_deref(), Some(r#"J Rosenberg \""#));
    assert_eq!(from.uri, uri("sip:jdrosen@example.com"));
    assert_eq!(from.tag(), Some("98asjd8"));

    assert_eq!(headers.max_forwards(), Some(68));
    assert_eq!(headers.call_id().unwrap(), "wsinv.ndaksdj@192.0.2.1");
    assert_eq!(
        headers.cseq().unwrap(),
        CSeq {
            number: 9,
            method: Method::Invite
        }
    );
    assert_eq!(headers.get("Subject").as_deref(), Some(""));
    assert_eq!(
        headers.get("NewFangledHeader").as_deref(),
        Some("newfangled value continued newfangled value")
    );
    assert_eq!(
        headers.get("UnknownHeaderWithUnusualValue").as_deref(),
        Some(";;,,;;,;")
    );
    assert!(headers.content_type().unwrap().is_sdp());

    let vias = headers.vias().unwrap();
    let seen: Vec<_> = vias
        .iter()
        .map(|via| {
            (
                via.transport.as_str(),
                via.host.to_string(),
                via.branch().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("UDP", "192.0.2.2".to_owned(), "390skdjuw"),
            ("TCP", "spindle.example.com".to_owned(), "z9hG4bK9ikj8"),
            ("UDP", "192.168.255.111".to_owned(), "z9hG4bK30239"),
        ]
    );

    let routes = headers.routes().unwrap();
    assert_eq!(routes.len(), 1);
    assert!(routes[0].uri.is_loose_router());
    assert_eq!(routes[0].uri.param("unknownwith").as_deref(), Some("value"));
    assert_eq!(routes[0].uri.param("unknown-no-value").as_deref(), Some(""));

    let contacts = headers.contacts().unwrap();
    assert_eq!(contacts.len(), 1);
    assert_eq!(contacts[0].display.as_deref(), Some(r#"Quoted string """#));
    assert_eq!(contacts[0].uri, uri("sip:jdrosen@example.com"));
    assert_eq!(
        contacts[0].params.to_string(),
        ";newparam=newvalue;secondparam;q=0.33"
    );
    assert_eq!(invite.body.len(), 150);
    holds_two_streams(&invite.body);
}

#[test]
fn intmeth_a_wide_range_of_valid_characters() {
    let message = request("intmeth");
    let headers = &message.headers;
    let method = "!interesting-Method0123456789_*+`.%indeed'~";
    assert_eq!(message.method, Method::Other(method.to_owned()));
    let user = "1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*";
    assert_eq!(message.uri.user.as_deref(), Some(user));
    assert_eq!(
        message.uri.password.as_deref(),
        Some("&it+has=1,weird!*pas$wo~d_too.(doesn't-it)")
    );
    assert_eq!(message.uri.host, Host::Name("example.com".into()));
    assert!(message.uri.params.is_empty() && message.uri.headers.is_empty());
    assert_eq!(
        headers.top_via().unwrap().branch(),
        Some("z9hG4bK-.!%66*_+`'~")
    );
    let to = headers.to().unwrap();
    assert_eq!(to.display.as_deref(), Some("BEL:\u{7} NUL:\0 DEL:\u{7f}"));
    assert_eq!(to.uri.user.as_deref(), Some(user));
    let from = headers.from().unwrap();
    assert_eq!(
        from.display.as_deref(),
        Some("token1~` token2'+_ token3*%!.-")
    );
    assert_eq!(from.uri, uri("sip:mundane@example.com"));
    assert_eq!(
        from.params.text("fromParam''~+*_!.-%").as_deref(),
        Some("работающий")
    );
    assert_eq!(from.tag(), Some("_token~1'+`*%!-."));
    assert_eq!(
        headers.call_id().unwrap(),
        r#"intmeth.word%ZK-!.*_+'@word`~)(><:\/"][?}{"#
    );
    let cseq = headers.cseq().unwrap();
    assert_eq!((cseq.number, cseq.method.as_str()), (139_122_385, method));
    assert_eq!(headers.max_forwards(), Some(255));
    assert_eq!(
        headers.get("extensionHeader-!.%*+_`'~").as_deref(),
        Some("\u{feff}大停電")
    );
    assert!(message.body.is_empty());
}

#[test]
fn esc01_valid_use_of_the_escaping_mechanism() {
    let invite = request("esc01");
    let headers = &invite.headers;
    assert_eq!(
        invite.uri.user_text().as_deref(),
        Some("sips:user@example.com")
    );
    assert_eq!(invite.uri.host, Host::Name("example.net".into()));
    let to = headers.to().unwrap();
    assert!(to.uri.is_equivalent(&uri("sip:user@example.com")));
    assert_eq!(
        headers.from().unwrap().uri.user_text().as_deref(),
        Some("I have spaces")
    );
    assert_eq!(headers.max_forwards(), Some(87));
    assert_eq!(
        headers.call_id().unwrap(),
        "esc01.239409asdfakjkn23onasd0-3234"
    );
    assert_eq!(headers.cseq().unwrap().number, 234_234);
    assert_eq!(
        headers.top_via().unwrap().host,
        Host::Name("host5.example.net".into())
    );
    assert!(headers.content_type().unwrap().is_sdp());
    let contact = &headers.contacts().unwrap()[0];
    assert!(contact.uri.is_loose_router());
    // Undone once: "value%41", which is not "valueA".
    assert_eq!(contact.uri.param("name").as_deref(), Some("value%41"));
    assert_eq!(contact.uri.user_text().as_deref(), Some("caller"));
    holds_two_streams(&invite.body);
}

#[test]
fn escnull_escaped_nulls_in_uris() {
    let register = request("escnull");
    let headers = &register.headers;
    assert_eq!(register.method, Method::Register);
    assert_eq!(register.uri, uri("sip:example.com"));
    assert_eq!(
        headers.to().unwrap().uri.user_text().as_deref(),
        Some("null-\0-null")
    );
    assert_eq!(
        headers.from().unwrap().uri.user_text().as_deref(),
        Some("null-\0-null")
    );
    assert_eq!(tags(headers), (some("839923423"), None));
    assert_eq!(
        (headers.max_forwards(), headers.cseq().unwrap().number),
        (Some(70), 14_398_234)
    );
    let contacts = headers.contacts().unwrap();
    let users: Vec<_> = contacts
        .iter()
        .map(|c| c.uri.user_text().unwrap())
        .collect();
    assert_eq!(users, ["\0", "\0\0"]);
    assert!(!contacts[0].uri.is_equivalent(&contacts[1].uri));
    assert!(register.body.is_empty());
}

#[test]
fn esc02_percent_where_it_is_no_escape() {
    let message = request("esc02");
    let headers = &message.headers;
    assert_eq!(message.method, Method::Other("RE%47IST%45R".into()));
    assert_eq!(message.uri, uri("sip:registrar.example.com"));
    assert_eq!(headers.to().unwrap().display.as_deref(), Some("%Z%45"));
    assert_eq!(headers.from().unwrap().display.as_deref(), Some("%Z%45"));
    assert_eq!(tags(headers), (some("f232jadfj23"), None));
    assert_eq!(
        headers.top_via().unwrap().branch(),
        Some("z9hG4bK209%fzsnel234")
    );
    assert_eq!(headers.cseq().unwrap().number, 29_344);
    let contacts: Vec<_> = headers
        .contacts()
        .unwrap()
        .iter()
        .map(|c| c.uri.to_string())
        .collect();
    assert_eq!(
        contacts,
        [
            "sip:alias1@host1.example.com",
            "sip:alias3@host3.example.com"
        ]
    );
    assert_eq!(
        headers.get("C%6Fntact").as_deref(),
        Some("<sip:alias2@host2.example.com>")
    );
}

#[test]
fn lwsdisp_no_space_between_display_name_and_bracket() {
    let options = request("lwsdisp");
    let headers = &options.headers;
    assert_eq!(options.method, Method::Options);
    assert_eq!(options.uri, uri("sip:user@example.com"));
    let from = headers.from().unwrap();
    assert_eq!(from.display.as_deref(), Some("caller"));
    assert_eq!(
        (from.uri.clone(), from.tag()),
        (uri("sip:caller@example.com"), Some("323"))
    );
    assert_eq!(headers.to().unwrap().uri, uri("sip:user@example.com"));
    assert_eq!(
        headers.call_id().unwrap(),
        "lwsdisp.1234abcd@funky.example.com"
    );
    assert_eq!(
        headers.cseq().unwrap(),
        CSeq {
            number: 60,
            method: Method::Options
        }
    );
    assert_eq!(
        headers.top_via().unwrap().to_string(),
        "SIP/2.0/UDP funky.example.com;branch=z9hG4bKkdjuw"
    );
}

#[test]
fn longreq_long_values_in_header_fields() {
    let invite = request("longreq");
    let headers = &invite.headers;
    assert_eq!(invite.uri, uri("sip:user@example.com"));
    let to = headers.to().unwrap();
    let extreme = "extreme".repeat(10);
    assert_eq!(
        to.display.unwrap(),
        format!("I have a user name of {extreme} proportion")
    );
    assert_eq!((to.uri.port, to.uri.params.len()), (Some(6000), 3));
    assert_eq!(
        to.uri.param("unknownparam1").unwrap(),
        format!("very{}value", "long".repeat(20))
    );
    assert_eq!(
        to.uri
            .param(&format!("longparam{}", "name".repeat(25)))
            .as_deref(),
        Some("shortvalue")
    );
    assert_eq!(
        to.uri
            .param(&format!(
                "very{}ParameterNameWithNoValue",
                "long".repeat(25)
            ))
            .as_deref(),
        Some("")
    );
    let from = headers.from().unwrap();
    assert_eq!(
        from.uri.user.as_deref(),
        Some("amazinglylongcallername".repeat(5).as_str())
    );
    assert_eq!(
        from.tag(),
        Some(format!("12{}424", "982".repeat(50)).as_str())
    );
    assert_eq!(from.params.len(), 3);
    assert_eq!(
        headers.call_id().unwrap(),
        format!("longreq.one{}longcallid", "really".repeat(20))
    );
    assert_eq!(headers.cseq().unwrap().number, 3_882_340);
    let name = format!("Unknown-{}-Name", "Long".repeat(20));
    let value = headers.get(name.as_str()).unwrap();
    assert!(value.starts_with("unknown-long") && value.ends_with("-parameter-value"));
    let vias = headers.vias().unwrap();
    assert_eq!(vias.len(), 34);
    assert_eq!(vias[0].host, Host::Name("sip33.example.com".into()));
    assert_eq!(vias[32].host, Host::Name("sip1.example.com".into()));
    assert_eq!(vias[33].received().unwrap().to_string(), "192.0.2.5");
    assert_eq!(
        vias[33].branch().unwrap(),
        format!("very{}branchvalue", "long".repeat(50))
    );
    assert_eq!(headers.contacts().unwrap()[0].uri.user, from.uri.user);
    assert_eq!(headers.max_forwards(), Some(70));
    holds_two_streams(&invite.body);
}

#[test]
fn dblreq_extra_octets_after_the_body() {
    let register = request("dblreq");
    let headers = &register.headers;
    assert_eq!(register.method, Method::Register);
    assert_eq!(
        headers.call_id().unwrap(),
        "dblreq.0ha0isndaksdj99sdfafnl3lk233412"
    );
    assert_eq!(
        (headers.max_forwards(), headers.cseq().unwrap().number),
        (Some(8), 8)
    );
    assert_eq!(tags(headers), (some("43251j3j324"), None));
    assert_eq!(
        headers.contacts().unwrap()[0].uri,
        uri("sip:j.user@host.example.com")
    );
    assert_eq!(headers.top_via().unwrap().host.to_string(), "192.0.2.125");
    assert!(register.body.is_empty());
    assert!(!register.to_bytes().windows(6).any(|w| w == b"INVITE"));
}

#[test]
fn semiuri_semicolons_in_the_user_part() {
    let options = request("semiuri");
    assert_eq!(
        options.uri.user_text().as_deref(),
        Some("user;par=u@example.net")
    );
    assert_eq!(options.uri.host, Host::Name("example.com".into()));
    assert!(options.uri.params.is_empty());
    let headers = &options.headers;
    let accept: Vec<_> = headers
        .accept()
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        accept,
        [
            "application/sdp",
            "application/pkcs7-mime",
            "multipart/mixed",
            "multipart/signed",
            "message/sip",
            "message/sipfrag"
        ]
    );
    assert_eq!(headers.to().unwrap().uri, uri("sip:j_user@example.com"));
    assert_eq!(tags(headers), (some("33242"), None));
    assert_eq!(
        (headers.max_forwards(), headers.cseq().unwrap().number),
        (Some(3), 8)
    );
}

#[test]
fn transports_varied_and_unknown() {
    let options = request("transports");
    let vias = options.headers.vias().unwrap();
    let seen: Vec<_> = vias
        .iter()
        .map(|v| (v.transport.as_str(), v.branch().unwrap()))
        .collect();
    assert_eq!(
        seen,
        [
            ("UDP", "z9hG4bKkdjuw"),
            ("SCTP", "z9hG4bKklasjdhf"),
            ("TLS", "z9hG4bK2980unddj"),
            ("UNKNOWN", "z9hG4bKasd0f3en"),
            ("TCP", "z9hG4bK0a9idfnee"),
        ]
    );
    assert_eq!(
        options.headers.call_id().unwrap(),
        "transports.kijh4akdnaqjkwendsasfdj"
    );
    assert!(options.headers.accept().unwrap()[0].is_sdp());
}

#[test]
fn mpart01_a_multipart_message_with_null_bytes() {
    let message = request("mpart01");
    let headers = &message.headers;
    assert_eq!(message.method, Method::Message);
    let via = headers.top_via().unwrap();
    assert_eq!(
        (via.host.to_string().as_str(), via.port),
        ("127.0.0.1", Some(5070))
    );
    assert!(via.asks_rport() && via.rport().is_none());
    assert_eq!(headers.routes().unwrap()[0].uri, uri("sip:127.0.0.1:5080"));
    assert!(headers.get("Identity").unwrap().ends_with("teeivUhkMWYUA="));
    let media = headers.content_type().unwrap();
    assert!(media.is("multipart", "mixed"));
    assert_eq!(media.params.value("boundary"), Some("7a9cbec02ceef655"));
    assert_eq!(
        headers.get("Content-Transfer-Encoding").as_deref(),
        Some("binary")
    );
    assert_eq!(
        headers.get("Date").as_deref(),
        Some("Sat, 15 Oct 2005 04:44:56 GMT")
    );
    assert_eq!(
        headers.get("User-Agent").as_deref(),
        Some("SIPimp.org/0.2.5 (curses)")
    );
    assert_eq!(message.body.len(), 553);
    assert!(message.body.contains(&0) && message.body.starts_with(b"--7a9cbec02ceef655\r\n"));
    assert!(message.body.ends_with(b"--7a9cbec02ceef655--\r\n"));
}

#[test]
fn unreason_an_unusual_reason_phrase() {
    let ok = response("unreason");
    assert_eq!(ok.status, StatusCode::OK);
    assert_eq!(ok.reason, "= 2**3 * 5**2 но сто девяносто девять - простое");
    assert_eq!(
        ok.headers.cseq().unwrap(),
        CSeq {
            number: 35,
            method: Method::Invite
        }
    );
    assert_eq!(tags(&ok.headers), (some("11141343"), some("2229")));
    assert_eq!(
        ok.headers.contacts().unwrap()[0].uri,
        uri("sip:user@host198.example.com")
    );
    assert_eq!(
        ok.headers.top_via().unwrap().branch(),
        Some("z9hG4bK1324923")
    );
    assert_eq!(
        ok.headers.call_id().unwrap(),
        "unreason.1234ksdfak3j2erwedfsASdf"
    );
    assert_eq!(ok.body.len(), 154);
    holds_two_streams(&ok.body);
}

#[test]
fn noreason_an_empty_reason_phrase() {
    let trying = response("noreason");
    assert_eq!(
        (trying.status, trying.reason.as_str()),
        (StatusCode::TRYING, "")
    );
    assert_eq!(
        trying.headers.call_id().unwrap(),
        "noreason.asndj203insdf99223ndf"
    );
    assert_eq!(
        tags(&trying.headers),
        (some("39ansfi3"), some("902jndnke3"))
    );
    assert_eq!(
        trying.headers.contacts().unwrap()[0].uri,
        uri("sip:user@host105.example.com")
    );
    assert!(trying.body.is_empty());
    assert!(trying.to_bytes().starts_with(b"SIP/2.0 100 \r\n"));
}

// Everything else

/// What the message layer makes of a message.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Verdict {
    /// Read; what it asks for is for the layers above to judge.
    Read,
    /// Not read, and answered so.
    Answered(u16),
    /// Not read, and not answered: a response, or nothing to answer by.
    Dropped,
}

use Verdict::{Answered, Dropped, Read};

/// Section 3.1.2 on. Where the RFC leaves the choice between rejecting and guessing, we reject.
const REST: &[(&str, Verdict, &str)] = &[
    ("badinv01", Answered(400), "3.1.2.1 extraneous separators"),
    (
        "clerr",
        Answered(400),
        "3.1.2.2 Content-Length larger than the message",
    ),
    ("ncl", Answered(400), "3.1.2.3 negative Content-Length"),
    (
        "scalar02",
        Answered(400),
        "3.1.2.4 overlarge values in a request",
    ),
    (
        "scalarlg",
        Dropped,
        "3.1.2.5 overlarge values in a response",
    ),
    (
        "quotbal",
        Answered(400),
        "3.1.2.6 unterminated quoted string",
    ),
    (
        "ltgtruri",
        Answered(400),
        "3.1.2.7 <> around the Request-URI",
    ),
    (
        "lwsruri",
        Answered(400),
        "3.1.2.8 white space in the Request-URI",
    ),
    (
        "lwsstart",
        Answered(400),
        "3.1.2.9 several spaces in the request line",
    ),
    (
        "trws",
        Answered(400),
        "3.1.2.10 spaces after the request line",
    ),
    (
        "escruri",
        Answered(400),
        "3.1.2.11 headers in the Request-URI",
    ),
    (
        "baddate",
        Read,
        "3.1.2.12 a Date that nobody needs is not looked at",
    ),
    (
        "regbadct",
        Answered(400),
        "3.1.2.13 a URI with ? outside <>",
    ),
    (
        "badaspec",
        Answered(400),
        "3.1.2.14 spaces within an addr-spec",
    ),
    (
        "baddn",
        Answered(400),
        "3.1.2.15 non-token characters in a display name",
    ),
    (
        "badvers",
        Answered(505),
        "3.1.2.16 unknown protocol version",
    ),
    (
        "mismatch01",
        Answered(400),
        "3.1.2.17 CSeq names another method",
    ),
    (
        "mismatch02",
        Answered(501),
        "3.1.2.18 the same, with an unknown method",
    ),
    ("bigcode", Dropped, "3.1.2.19 overlarge status code"),
    (
        "badbranch",
        Answered(400),
        "3.2.1 no transaction identifier",
    ),
    ("insuf", Answered(400), "3.3.1 no Call-ID, From, To"),
    ("unkscm", Read, "3.3.2 unknown scheme: 416 above"),
    ("novelsc", Read, "3.3.3 atypical scheme: 416 above"),
    ("unksm2", Read, "3.3.4 unknown schemes in header fields"),
    ("bext01", Read, "3.3.5 Require: 420 above"),
    ("invut", Read, "3.3.6 unknown Content-Type: 415 above"),
    (
        "regaut01",
        Read,
        "3.3.7 unknown authorization scheme: 405 above",
    ),
    (
        "multi01",
        Answered(400),
        "3.3.8 several values where one is allowed",
    ),
    (
        "mcl01",
        Answered(400),
        "3.3.9 several Content-Length values",
    ),
    (
        "bcast",
        Read,
        "3.3.10 two Vias in a response: dropped above",
    ),
    ("zeromf", Read, "3.3.11 Max-Forwards of zero"),
    ("cparam01", Read, "3.3.12 Contact with a header parameter"),
    ("cparam02", Read, "3.3.13 Contact with a URI parameter"),
    ("regescrt", Read, "3.3.14 Contact with an escaped header"),
    ("sdp01", Read, "3.3.15 unacceptable Accept: 406 above"),
    ("inv2543", Read, "3.4.1 RFC 2543"),
    (
        "test",
        Dropped,
        "in the archive, not in the text: a bare address, a line without a colon, no Via",
    ),
];

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

fn verdict(bytes: &[u8]) -> Verdict {
    match Message::parse_datagram(bytes) {
        Ok(_) => Read,
        Err(error) => match error.reply() {
            Some(response) => Answered(response.status.code()),
            None => Dropped,
        },
    }
}

#[test]
fn every_message_of_the_archive_is_judged() {
    let in_archive: BTreeSet<String> = std::fs::read_dir(archive())
        .unwrap()
        .map(|entry| {
            entry
                .unwrap()
                .path()
                .file_stem()
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    let in_tests: BTreeSet<String> = VALID
        .iter()
        .copied()
        .chain(REST.iter().map(|r| r.0))
        .map(str::to_owned)
        .collect();
    assert_eq!(in_archive, in_tests);
    for name in VALID {
        assert_eq!(verdict(&bytes(name)), Read, "{name}");
    }
    for (name, expected, what) in REST {
        let bytes = bytes(name);
        assert_eq!(
            verdict(&bytes),
            *expected,
            "{name}: {what}: {:?}",
            Message::parse_datagram(&bytes)
        );
    }
}

/// An answer is a message itself, copies what it can, and has a tag in To.
#[test]
fn answers_to_bad_requests_are_good_responses() {
    for (name, expected, _) in REST {
        let Answered(status) = expected else { continue };
        let request = bytes(name);
        let reply = Message::parse_datagram(&request)
            .unwrap_err()
            .reply()
            .unwrap();
        assert_eq!(reply.status.code(), *status);
        let text = String::from_utf8_lossy(&request).into_owned();
        for header in reply.headers.iter().filter(|h| h.name != HeaderName::To) {
            let value = String::from_utf8_lossy(header.value()).into_owned();
            assert!(text.contains(&value), "{name}: {value}");
        }
        // Where the fault is not in what must be copied, the answer can be read back.
        let copied_fault = [
            "badinv01",
            "scalar02",
            "quotbal",
            "badaspec",
            "baddn",
            "badvers",
            "insuf",
            "badbranch",
        ];
        let read = Message::parse_datagram(&reply.to_bytes());
        if !copied_fault.contains(name) {
            let read = read.unwrap_or_else(|e| panic!("{name}: {e}"));
            assert!(read.headers().to().unwrap().tag().is_some(), "{name}");
        }
    }
}

#[test]
fn the_same_request_gets_the_same_tag() {
    let reply = || {
        Message::parse_datagram(&bytes("mismatch01"))
            .unwrap_err()
            .reply()
            .unwrap()
    };
    assert_eq!(reply(), reply());
}

#[test]
fn an_ack_is_never_answered() {
    let text = String::from_utf8(bytes("mismatch01")).unwrap();
    let ack = text.replace("OPTIONS sip", "ACK sip");
    assert_eq!(verdict(ack.as_bytes()), Dropped);
    let ack = text.replace("CSeq: 8 INVITE", "CSeq: 8 ACK");
    assert_eq!(verdict(ack.as_bytes()), Dropped);
}

#[test]
fn what_printing_makes_is_read_as_the_same() {
    let read = REST.iter().filter(|r| r.1 == Read).map(|r| r.0);
    for name in VALID.iter().copied().chain(read) {
        let message = Message::parse_datagram(&bytes(name)).unwrap();
        let printed = message.to_bytes();
        assert_eq!(
            Message::parse_datagram(&printed).unwrap(),
            message,
            "{name}"
        );
    }
}

/// The values that the layers above judge 3.3 by.
#[test]
fn section_3_3_is_understood() {
    let uri_of = |name| request(name).uri;
    assert_eq!(
        uri_of("unkscm").scheme,
        Scheme::Other("nobodyknowsthisscheme".into())
    );
    assert_eq!(
        uri_of("unkscm").user.as_deref(),
        Some("totallyopaquecontent")
    );
    assert_eq!(
        uri_of("novelsc").to_string(),
        "soap.beep://192.0.2.103:3002"
    );

    let headers = request("unksm2").headers;
    assert_eq!(headers.to().unwrap().uri.to_string(), "isbn:2983792873");
    assert_eq!(
        headers.from().unwrap().uri.to_string(),
        "http://www.example.com"
    );
    assert_eq!(
        headers.contacts().unwrap()[0].uri.to_string(),
        "name:John_Smith"
    );

    let headers = request("bext01").headers;
    assert_eq!(
        headers.require(),
        ["nothingSupportsThis", "nothingSupportsThisEither"]
    );
    assert_eq!(
        headers.proxy_require(),
        ["noProxiesSupportThis", "norDoAnyProxiesSupportThis"]
    );

    let invite = request("invut");
    assert_eq!(
        invite.headers.content_type().unwrap().to_string(),
        "application/unknownformat"
    );
    assert_eq!(invite.body.len(), 40);

    let authorization = request("regaut01").headers.authorization();
    assert_eq!(authorization[0].scheme, "NoOneKnowsThisScheme");
    assert_eq!(authorization[0].param("opaque-data"), Some("here"));
    assert!(!authorization[0].is_digest());

    assert_eq!(
        response("bcast").headers.vias().unwrap()[1]
            .host
            .to_string(),
        "255.255.255.255"
    );
    assert_eq!(request("zeromf").headers.max_forwards(), Some(0));

    let contact = &request("cparam01").headers.contacts().unwrap()[0];
    assert!(contact.params.has("unknownparam") && !contact.uri.params.has("unknownparam"));
    assert_eq!(contact.uri.user.as_deref(), Some("+19725552222"));
    let contact = &request("cparam02").headers.contacts().unwrap()[0];
    assert!(!contact.params.has("unknownparam") && contact.uri.params.has("unknownparam"));
    let contact = &request("regescrt").headers.contacts().unwrap()[0];
    assert_eq!(
        contact.uri.headers,
        [("Route".to_owned(), "%3Csip:sip.example.com%3E".to_owned())]
    );

    let accept = request("sdp01").headers.accept().unwrap();
    assert!(accept.len() == 1 && accept[0].is("text", "nobodyknowsthis"));
    assert_eq!(
        request("baddate").headers.get("Date").as_deref(),
        Some("Fri, 01 Jan 2010 16:00:00 EST")
    );

    let invite = request("inv2543");
    assert_eq!(tags(&invite.headers), (None, None));
    assert_eq!(invite.headers.top_via().unwrap().branch(), None);
    assert_eq!(invite.headers.max_forwards(), None);
    assert_eq!(
        invite.headers.record_routes().unwrap()[0]
            .uri
            .param("maddr")
            .as_deref(),
        Some("ss1.example.com")
    );
    assert!(invite.body.ends_with(b"m=audio 49217 RTP/AVP 0\r\n"));
}

/// RFC 4475 sections 3.1.2.2, 3.1.2.3 and 3.3.9: on a stream the framing is lost, or more is awaited.
#[test]
fn framing_faults_on_a_stream() {
    for name in ["ncl", "mcl01", "inv2543"] {
        let mut parser = StreamParser::new();
        parser.push(&bytes(name));
        let error = parser.next().unwrap().unwrap_err();
        assert!(error.is_fatal(), "{name}");
        assert_eq!(
            error.reply().unwrap().status,
            StatusCode::BAD_REQUEST,
            "{name}"
        );
        parser.push(&bytes("wsinv"));
        assert!(parser.next().is_none(), "{name}");
    }
    let mut parser = StreamParser::new();
    parser.push(&bytes("clerr"));
    assert!(parser.next().is_none() && parser.is_mid_message());
}

/// The whole archive down one connection, cut into pieces of every small size.
#[test]
fn the_archive_pipelined_and_split() {
    let names: Vec<&str> = VALID
        .iter()
        .copied()
        .filter(|name| *name != "dblreq")
        .chain([
            "badinv01",
            "quotbal",
            "mismatch01",
            "bcast",
            "baddate",
            "badvers",
        ])
        .collect();
    let stream: Vec<u8> = names.iter().flat_map(|name| bytes(name)).collect();
    let expected: Vec<_> = names
        .iter()
        .map(|name| Message::parse_datagram(&bytes(name)))
        .collect();
    for size in [1, 2, 3, 7, 64, 1_000, stream.len()] {
        let mut parser = StreamParser::new();
        let mut got = Vec::new();
        for piece in stream.chunks(size) {
            parser.push(piece);
            got.extend(parser.by_ref());
        }
        assert_eq!(got, expected, "pieces of {size}");
        assert!(!parser.is_mid_message());
    }
}
