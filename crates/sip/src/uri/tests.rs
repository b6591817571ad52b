use super::*;

fn uri(text: &str) -> Uri {
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

#[test]
fn reads_every_kind_of_host_and_user() {
    for (text, user, host, port) in [
        (
            "sip:john.doe@example.com",
            Some("john.doe"),
            "example.com",
            None,
        ),
        (
            "sips:a%40b@[2001:db8::1]:5061",
            Some("a%40b"),
            "[2001:db8::1]",
            Some(5061),
        ),
        ("sip:[::1]", None, "[::1]", None),
        ("SIP:192.0.2.1:5060", None, "192.0.2.1", Some(5060)),
        (
            "sip:+49(30)1-2@host_1.example.",
            Some("+49(30)1-2"),
            "host_1.example.",
            None,
        ),
        ("sip:*21#@pbx", Some("*21#"), "pbx", None),
        (
            "sip:alice;day=tuesday@atlanta.com",
            Some("alice;day=tuesday"),
            "atlanta.com",
            None,
        ),
    ] {
        let uri = uri(text);
        assert_eq!(uri.user.as_deref(), user, "{text}");
        assert_eq!(
            (uri.host.to_string().as_str(), uri.port),
            (host, port),
            "{text}"
        );
        assert_eq!(uri.to_string().to_lowercase(), text.to_lowercase());
    }
}

#[test]
fn reads_tel() {
    let tel = uri("tel:+1-201-555-0123;phone-context=example.com");
    assert_eq!(
        (tel.scheme.clone(), tel.user.as_deref()),
        (Scheme::Tel, Some("+1-201-555-0123"))
    );
    assert_eq!(tel.param("phone-context").as_deref(), Some("example.com"));
    assert!(tel.is_equivalent(&uri("tel:+12015550123;phone-context=example.com")));
    assert!(!tel.is_equivalent(&uri("tel:+12015550123")));
    assert_eq!(
        tel.to_string(),
        "tel:+1-201-555-0123;phone-context=example.com"
    );
}

#[test]
fn refuses_what_is_no_uri() {
    for bad in [
        "",
        "sip",
        "sip:",
        "sip:@b",
        "sip:a@",
        "sip:a@b@c",
        "sip:a b@c",
        "sip:a@b c",
        "sip:a@b:",
        "sip:a@b:x",
        "sip:a@b:65536",
        "sip:a@300.1.1.1",
        "sip:a@[::1",
        "sip:a@::1",
        "sip:a@[1.2.3.4]",
        "sip:a%4@b",
        "sip:a@b;",
        "sip:a@b;;x",
        "sip:a@b;x=\"",
        "sip:a@b?x",
        "sip:a<b@c",
        "sip:a@b..c",
        "sip:jürgen@b",
        "1x:y",
        "tel:",
        "tel:++1",
        "tel:abc xyz",
        "http:<a>",
        "nothing:",
    ] {
        assert!(bad.parse::<Uri>().is_err(), "{bad:?}");
    }
}

/// The examples of RFC 3261 section 19.1.4.
#[test]
fn compares_as_the_rfc_says() {
    for (a, b) in [
        (
            "sip:%61lice@atlanta.com;transport=TCP",
            "sip:alice@AtLanTa.CoM;Transport=tcp",
        ),
        ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
        (
            "sip:carol@chicago.com;security=on",
            "sip:carol@chicago.com;newparam=5",
        ),
        (
            "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
            "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
        ),
        (
            "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
            "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
        ),
    ] {
        assert!(
            uri(a).is_equivalent(&uri(b)) && uri(b).is_equivalent(&uri(a)),
            "{a} {b}"
        );
    }
    for (a, b) in [
        (
            "SIP:ALICE@AtLanTa.CoM;Transport=udp",
            "sip:alice@AtLanTa.CoM;Transport=UDP",
        ),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
        (
            "sip:bob@biloxi.com",
            "sip:bob@biloxi.com:6000;transport=tcp",
        ),
        (
            "sip:carol@chicago.com",
            "sip:carol@chicago.com?Subject=next%20meeting",
        ),
        ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
        (
            "sip:carol@chicago.com;security=on",
            "sip:carol@chicago.com;security=off",
        ),
        ("sip:a@b", "sips:a@b"),
        ("sip:a%40b@c", "sip:a%2540b@c"),
        ("sip:a%3Bb@c", "sip:a;b@c"),
    ] {
        assert!(
            !uri(a).is_equivalent(&uri(b)) && !uri(b).is_equivalent(&uri(a)),
            "{a} {b}"
        );
    }
}

#[test]
fn builds_with_escapes() {
    let at = Uri::at(Some("a b@c"), "[2001:db8::1]:5070".parse().unwrap());
    assert_eq!(at.to_string(), "sip:a%20b%40c@[2001:db8::1]:5070");
    assert_eq!(at.user_text().as_deref(), Some("a b@c"));
    let lr = uri("sip:p.example.com").with_param("lr", None);
    assert_eq!(lr.to_string(), "sip:p.example.com;lr");
    assert!(lr.is_loose_router());
    assert_eq!(
        uri("sip:p;TransPort=TcP").transport().as_deref(),
        Some("tcp")
    );
}
