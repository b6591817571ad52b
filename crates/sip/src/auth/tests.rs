//! Challenges and the answers to them.

use super::*;
use crate::message::{Method, StatusCode};

fn challenge(status: u16, lines: &[&str]) -> Response {
    let mut response = Response::new(StatusCode::new(status).unwrap());
    let name = match status {
        407 => HeaderName::ProxyAuthenticate,
        _ => HeaderName::WwwAuthenticate,
    };
    for line in lines {
        response.headers.push(name.clone(), line);
    }
    response
}

fn credentials() -> AuthCredentials {
    AuthCredentials {
        user: "Mufasa".to_owned(),
        password: "Circle of Life".to_owned(),
    }
}

fn answer(realms: &mut Realms, name: HeaderName) -> Vec<Challenge> {
    let mut request = Request::new(Method::Register, "sip:example.org".parse().unwrap());
    realms.authorize(&credentials(), "c0ffee", &mut request);
    match name {
        HeaderName::Authorization => request.headers.authorization(),
        _ => request.headers.proxy_authorization(),
    }
}

#[test]
fn the_topmost_algorithm_that_we_know_is_used() {
    let mut realms = Realms::default();
    let response = challenge(
        401,
        &[
            r#"Digest realm="r", nonce="n", algorithm=SHA-512-256, qop="auth""#,
            r#"Digest realm="r", nonce="n", algorithm=SHA-256, qop="auth,auth-int""#,
            r#"Digest realm="r", nonce="n", algorithm=MD5, qop="auth""#,
        ],
    );
    assert!(realms.challenged(&response, &mut Attempts::default()));
    let answers = answer(&mut realms, HeaderName::Authorization);
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].param("algorithm"), Some("SHA-256"));
    assert_eq!(answers[0].param("qop"), Some("auth"));
    assert_eq!(answers[0].param("nc"), Some("00000001"));
}

/// By hand: HA1 = MD5(Mufasa:r:Circle of Life), HA2 = MD5(REGISTER:sip:example.org).
#[test]
fn the_response_covers_method_and_uri() {
    let mut realms = Realms::default();
    let response = challenge(401, &[r#"Digest realm="r", nonce="n""#]);
    assert!(realms.challenged(&response, &mut Attempts::default()));
    let answers = answer(&mut realms, HeaderName::Authorization);
    assert_eq!(
        answers[0].param("response"),
        Some("3b56b9fa90320745a9a3122c92339f8c")
    );
    assert_eq!(answers[0].param("qop"), None);
    assert_eq!(answers[0].param("cnonce"), None);
    assert_eq!(answers[0].param("algorithm"), None);
    assert_eq!(answers[0].param("uri"), Some("sip:example.org"));
}

#[test]
fn the_count_goes_up_with_each_use_of_a_nonce() {
    let mut realms = Realms::default();
    let response = challenge(401, &[r#"Digest realm="r", nonce="n", qop="auth""#]);
    realms.challenged(&response, &mut Attempts::default());
    for count in ["00000001", "00000002", "00000003"] {
        let answers = answer(&mut realms, HeaderName::Authorization);
        assert_eq!(answers[0].param("nc"), Some(count));
    }
    let fresh = challenge(401, &[r#"Digest realm="r", nonce="m", qop="auth""#]);
    realms.challenged(&fresh, &mut Attempts::default());
    let answers = answer(&mut realms, HeaderName::Authorization);
    assert_eq!(answers[0].param("nc"), Some("00000001"));
}

#[test]
fn a_proxy_and_a_server_are_both_answered() {
    let mut realms = Realms::default();
    let mut attempts = Attempts::default();
    let proxy = challenge(407, &[r#"Digest realm="p", nonce="1""#]);
    let server = challenge(401, &[r#"Digest realm="s", nonce="2""#]);
    assert!(realms.challenged(&proxy, &mut attempts));
    assert!(realms.challenged(&server, &mut attempts));
    assert_eq!(answer(&mut realms, HeaderName::Authorization).len(), 1);
    assert_eq!(answer(&mut realms, HeaderName::ProxyAuthorization).len(), 1);
    // But none of them twice.
    assert!(!realms.challenged(&proxy, &mut attempts));
    assert!(!realms.challenged(&server, &mut attempts));
}

#[test]
fn what_cannot_be_answered_is_left() {
    for line in [
        r#"Basic realm="r""#,
        r#"Digest realm="r", nonce="n", algorithm=AKAv1-MD5"#,
        r#"Digest realm="r", nonce="n", qop="auth-int""#,
        r#"Digest realm="r""#,
        "Digest",
    ] {
        let response = challenge(401, &[line]);
        let mut realms = Realms::default();
        assert!(
            !realms.challenged(&response, &mut Attempts::default()),
            "{line}"
        );
    }
}

#[test]
fn realms_without_end_are_not_remembered() {
    let mut realms = Realms::default();
    for n in 0..1_000 {
        let line = format!("Digest realm=\"r{n}\", nonce=\"n\"");
        realms.challenged(&challenge(401, &[&line]), &mut Attempts::default());
    }
    assert_eq!(realms.0.len(), MAX_REALMS);
}
