//! Route sets, targets and numbers.

use super::*;
use crate::message::Message;

fn request(text: &str) -> Request {
    match Message::parse_datagram(text.replace('\n', "\r\n").as_bytes()).unwrap() {
        Message::Request(request) => request,
        Message::Response(_) => panic!("a response"),
    }
}

fn response(text: &str) -> Response {
    match Message::parse_datagram(text.replace('\n', "\r\n").as_bytes()).unwrap() {
        Message::Response(response) => response,
        Message::Request(_) => panic!("a request"),
    }
}

const INVITE: &str = "INVITE sip:bob@example.com SIP/2.0
Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1
Record-Route: <sip:p2.example.com;lr>, <sip:p1.example.com;lr>
From: \"Alice\" <sip:alice@example.com>;tag=a
To: <sip:bob@example.com>
Call-ID: c
CSeq: 7 INVITE
Contact: <sip:alice@192.0.2.1>
Content-Length: 0

";

const ANSWER: &str = "SIP/2.0 200 OK
Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1
Record-Route: <sip:p2.example.com;lr>, <sip:p1.example.com;lr>
From: \"Alice\" <sip:alice@example.com>;tag=a
To: <sip:bob@example.com>;tag=b
Call-ID: c
CSeq: 7 INVITE
Contact: \"Bob, at home\" <sip:bob@192.0.2.2:5070;x=y>;q=1
Content-Length: 0

";

fn routes(request: &Request) -> Vec<String> {
    let routes = request.headers.routes().unwrap();
    routes.iter().map(ToString::to_string).collect()
}

#[test]
fn the_caller_reverses_the_record_routes() {
    let mut dialog = Dialog::of_response(&request(INVITE), &response(ANSWER)).unwrap();
    let bye = dialog.request(Method::Bye);
    assert_eq!(bye.uri.to_string(), "sip:bob@192.0.2.2:5070;x=y");
    assert_eq!(
        routes(&bye),
        ["<sip:p1.example.com;lr>", "<sip:p2.example.com;lr>"]
    );
    assert_eq!(bye.headers.cseq().unwrap().to_string(), "8 BYE");
    assert_eq!(bye.headers.to().unwrap().tag(), Some("b"));
    let ack = dialog.request_with_cseq(Method::Ack, 7);
    assert_eq!(ack.headers.cseq().unwrap().to_string(), "7 ACK");
}

#[test]
fn the_callee_takes_them_as_they_come() {
    let mut dialog = Dialog::of_request(&request(INVITE), "b").unwrap();
    let bye = dialog.request(Method::Bye);
    assert_eq!(bye.uri.to_string(), "sip:alice@192.0.2.1");
    assert_eq!(
        routes(&bye),
        ["<sip:p2.example.com;lr>", "<sip:p1.example.com;lr>"]
    );
    assert_eq!(bye.headers.from().unwrap().tag(), Some("b"));
    assert_eq!(bye.headers.to().unwrap().tag(), Some("a"));
    assert_eq!(dialog.remote_tag(), "a");
}

/// RFC 3261 section 12.2.1.1, the example of a strict router.
#[test]
fn a_strict_router_becomes_the_request_uri() {
    let strict = INVITE.replace(
        "<sip:p2.example.com;lr>",
        "<sip:p2.example.com;method=INVITE?a=b>",
    );
    let mut dialog = Dialog::of_request(&request(&strict), "b").unwrap();
    let bye = dialog.request(Method::Bye);
    // What a Request-URI must not have is taken off (section 19.1.1).
    assert_eq!(bye.uri.to_string(), "sip:p2.example.com");
    assert_eq!(
        routes(&bye),
        ["<sip:p1.example.com;lr>", "<sip:alice@192.0.2.1>"]
    );
}

#[test]
fn requests_out_of_order_are_noticed() {
    let mut dialog = Dialog::of_request(&request(INVITE), "b").unwrap();
    assert!(!dialog.accepts_cseq(6));
    assert!(dialog.accepts_cseq(8));
    assert!(dialog.accepts_cseq(12), "a gap is no fault");
    assert!(!dialog.accepts_cseq(11));
}

#[test]
fn without_a_contact_there_is_no_dialog_for_the_callee() {
    let homeless = INVITE.replace("Contact: <sip:alice@192.0.2.1>\n", "");
    assert!(Dialog::of_request(&request(&homeless), "b").is_none());
    let homeless = ANSWER.replace(
        "Contact: \"Bob, at home\" <sip:bob@192.0.2.2:5070;x=y>;q=1\n",
        "",
    );
    let dialog = Dialog::of_response(&request(INVITE), &response(&homeless)).unwrap();
    assert_eq!(dialog.remote_target.to_string(), "sip:bob@example.com");
}
