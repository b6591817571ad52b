use super::*;
use crate::uri::Host;

fn options(vias: &[&str]) -> Request {
    let mut request = Request::new(Method::Options, "sip:bob@example.com".parse().unwrap());
    for via in vias {
        request.headers.push(HeaderName::Via, via);
    }
    request.headers.push("f", "<sip:a@example.com>;tag=1");
    request.headers.push("To", "Bob <sip:bob@example.com>");
    request.headers.push("Call-ID", "1@a");
    request.headers.push("CSeq", "7 OPTIONS");
    request.headers.push("Timestamp", "54");
    request
}

fn via_hosts(headers: &Headers) -> Vec<String> {
    headers
        .vias()
        .unwrap()
        .iter()
        .map(|via| via.host.to_string())
        .collect()
}

#[test]
fn the_topmost_via_alone_is_changed_and_taken_off() {
    let one = "SIP/2.0/UDP a.example;branch=z9hG4bK1;rport";
    let two = "SIP/2.0/TCP b.example;branch=z9hG4bK2";
    for vias in [
        vec![one, two],
        vec!["SIP/2.0/UDP a.example;branch=z9hG4bK1;rport, SIP/2.0/TCP b.example;branch=z9hG4bK2"],
    ] {
        let mut headers = options(&vias).headers;
        let mut top = headers.top_via().unwrap();
        assert!(top.asks_rport());
        top.params.set("rport", Some("4000"));
        top.params.set("received", Some("2001:db8::1"));
        headers.set_top_via(&top);
        let top = headers.top_via().unwrap();
        assert_eq!(
            (top.rport(), top.received()),
            (Some(4000), Some("2001:db8::1".parse().unwrap()))
        );
        assert_eq!(via_hosts(&headers), ["a.example", "b.example"]);
        headers.insert_front(
            HeaderName::Via,
            Via::new("udp", Host::Name("c".into()), None, "z9hG4bK3").to_string(),
        );
        assert_eq!(via_hosts(&headers), ["c", "a.example", "b.example"]);
        for left in [vec!["a.example", "b.example"], vec!["b.example"]] {
            headers.pop_via();
            assert_eq!(via_hosts(&headers), left);
        }
        headers.pop_via();
        assert!(!headers.contains("v"));
        headers.pop_via();
    }
}

#[test]
fn a_response_copies_what_it_must() {
    let request = options(&[
        "SIP/2.0/UDP a.example;branch=z9hG4bK1",
        "SIP/2.0/UDP b.example;branch=z9hG4bK2",
    ]);
    let trying = request.respond(StatusCode::TRYING, None);
    assert_eq!(trying.headers.get("Timestamp").as_deref(), Some("54"));
    assert_eq!(trying.headers.to().unwrap().tag(), None);
    let ok = request.respond(StatusCode::OK, Some("xyz"));
    assert_eq!(
        (ok.reason.as_str(), via_hosts(&ok.headers).len()),
        ("OK", 2)
    );
    assert_eq!(
        ok.headers.to().unwrap().to_string(),
        "\"Bob\" <sip:bob@example.com>;tag=xyz"
    );
    assert_eq!(ok.headers.from(), request.headers.from());
    assert_eq!(ok.headers.call_id(), request.headers.call_id());
    assert_eq!(ok.headers.cseq(), request.headers.cseq());
    assert!(!ok.headers.contains("Timestamp"));

    // A tag that is there stays.
    let mut within = request;
    within
        .headers
        .set(HeaderName::To, "<sip:bob@example.com>;tag=there");
    assert_eq!(
        within
            .respond(StatusCode::OK, Some("xyz"))
            .headers
            .to()
            .unwrap()
            .tag(),
        Some("there")
    );
}

#[test]
fn header_fields_are_set_copied_and_removed() {
    let mut headers = Headers::new();
    headers.push("Supported", "100rel,, ice ,");
    headers.push("k", "timer");
    assert_eq!(headers.supported(), ["100rel", "ice", "timer"]);
    let mut other = Headers::new();
    other.copy("supported", &headers);
    assert_eq!(other.len(), 2);
    headers.set("Supported", "ice");
    headers.push("Allow", "INVITE, ACK,NEW, b@d");
    assert_eq!(
        (headers.len(), headers.supported()),
        (2, vec!["ice".to_owned()])
    );
    assert_eq!(
        headers.allow(),
        [Method::Invite, Method::Ack, Method::Other("NEW".into())]
    );
    assert_eq!(
        (headers.remove("K"), headers.remove("K"), headers.len()),
        (1, 0, 1)
    );
}

#[test]
fn numbers_out_of_range_are_as_good_as_absent() {
    let mut headers = Headers::new();
    for (name, value) in [
        ("Max-Forwards", "256"),
        ("Expires", "4294967296"),
        ("RSeq", "-1"),
        ("Retry-After", "18000;duration=3600 (x)"),
        ("Min-Expires", "60"),
    ] {
        headers.push(name, value);
    }
    assert_eq!(
        (headers.max_forwards(), headers.expires(), headers.rseq()),
        (None, None, None)
    );
    assert_eq!(
        (headers.retry_after(), headers.min_expires()),
        (Some(18_000), Some(60))
    );
}

#[test]
fn challenges_warnings_and_rack() {
    let mut headers = Headers::new();
    headers.push("WWW-Authenticate", r#"Digest realm="a \"b\", c", nonce="n==", algorithm=SHA-256, qop="auth,auth-int", stale=FALSE"#);
    headers.push("WWW-Authenticate", r#"Basic realm="x""#);
    headers.push("WWW-Authenticate", "@");
    let challenges = headers.www_authenticate();
    assert_eq!(challenges.len(), 2);
    assert!(challenges[0].is_digest() && !challenges[1].is_digest());
    assert_eq!(challenges[0].param("REALM"), Some(r#"a "b", c"#));
    assert_eq!(
        (challenges[0].param("nonce"), challenges[0].param("qop")),
        (Some("n=="), Some("auth,auth-int"))
    );
    assert_eq!(
        challenges[0].to_string(),
        r#"Digest realm="a \"b\", c", nonce="n==", algorithm=SHA-256, qop="auth,auth-int", stale=FALSE"#
    );
    headers.push(
        "Warning",
        r#"399 a.example "no path: 3 tried", 1812 x "bad", 301 b "c""#,
    );
    let warnings = headers.warnings();
    assert_eq!(warnings.len(), 2);
    assert_eq!(
        (warnings[0].code, warnings[0].text.as_str()),
        (399, "no path: 3 tried")
    );
    headers.push("RAck", "776656 1 INVITE");
    let rack = headers.rack().unwrap();
    assert_eq!(
        (rack.rseq, rack.cseq.number, rack.cseq.method.clone()),
        (776_656, 1, Method::Invite)
    );
    assert_eq!(rack.to_string(), "776656 1 INVITE");
}

#[test]
fn a_wildcard_contact_is_no_address() {
    let mut headers = Headers::new();
    headers.push("m", "*");
    assert!(headers.is_wildcard_contact() && headers.contacts().unwrap().is_empty());
    headers.set("m", "<sip:a@b>;expires=60, sip:c@d;expires=99999999999");
    let expires: Vec<_> = headers
        .contacts()
        .unwrap()
        .iter()
        .map(NameAddr::expires)
        .collect();
    assert_eq!(expires, [Some(60), None]);
}

#[test]
fn ipv6_hosts_in_via() {
    for (text, host, port) in [
        (
            "SIP/2.0/UDP [2001:db8::9:1]:5061;branch=z9hG4bK1",
            "[2001:db8::9:1]",
            Some(5061),
        ),
        (
            "SIP/2.0/UDP [2001:db8::9:1] : 5061 ;branch=z9hG4bK1",
            "[2001:db8::9:1]",
            Some(5061),
        ),
        ("SIP / 2.0 / tcp  [::1];branch=z9hG4bK1", "[::1]", None),
        ("SIP/2.0/UDP h.example : 5060", "h.example", Some(5060)),
    ] {
        let via: Via = text.parse().unwrap();
        assert_eq!((via.host.to_string().as_str(), via.port), (host, port));
        assert_eq!(via.transport, via.transport.to_uppercase());
    }
    for bad in [
        "SIP/2.0/UDP",
        "SIP/2.0/UDP ",
        "SIP/3.0/UDP a",
        "HTTP/2.0/UDP a",
        "SIP/2.0/UDP a b",
        "SIP/2.0/U@P a",
        "SIP/2.0/UDP ::1",
    ] {
        assert!(bad.parse::<Via>().is_err(), "{bad}");
    }
}

#[test]
fn liberal_in_a_few_things() {
    // LF alone, line ends before the start line, version in small letters, no reason and no space.
    let text =
        "\r\n\nsip/2.0 200\nv:SIP/2.0/UDP a\nf:sip:a@b;tag=1\nt:sip:c@d\ni:1\ncseq:1 BYE\n\nrest";
    match Message::parse_datagram(text.as_bytes()).unwrap() {
        Message::Response(response) => {
            assert_eq!(
                (response.status, response.reason.as_str()),
                (StatusCode::OK, "")
            );
            assert_eq!(response.body, b"rest");
        }
        Message::Request(request) => panic!("{request:?}"),
    }
}
