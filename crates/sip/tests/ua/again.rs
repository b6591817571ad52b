//! An INVITE that follows a refused one in the same call: RFC 3261 section 8.1.3.5.

use std::time::{Duration, Instant};

use ringtrue_sip::{
    AuthCredentials, CallHandle, CommandRefused, Endpoint, EndpointConfig, OutgoingInvite,
    SipEvent, SipTransmit,
};

use crate::wire::{Sent, address, config, reply};

/// Alice, and a bob who is written by hand.
struct Stage {
    alice: Endpoint,
    now: Instant,
}

fn invite(offer: &str) -> OutgoingInvite {
    let target = "sip:bob@10.0.0.2".parse().unwrap();
    OutgoingInvite::new(target, offer.as_bytes().to_vec())
}

impl Stage {
    fn new() -> Self {
        let credentials = Some(AuthCredentials {
            user: "alice".into(),
            password: "secret".into(),
        });
        let config = EndpointConfig {
            credentials,
            ..config(1, "alice")
        };
        let now = Instant::now();
        let alice = Endpoint::new(config, 1, now);
        Self { alice, now }
    }

    /// What alice has sent since the last time.
    fn sent(&mut self) -> Vec<Sent> {
        let transmits = std::iter::from_fn(|| self.alice.poll_transmit());
        let sent = transmits.map(|transmit| match transmit {
            SipTransmit::Datagram { to, payload, .. } => Sent {
                at: 0,
                tcp: false,
                tls: None,
                from: address(1),
                to,
                text: String::from_utf8(payload).unwrap(),
            },
            other => panic!("{other:?}"),
        });
        sent.collect()
    }

    fn answers(&mut self, request: &Sent, status: &str, extra: &str) {
        let text = reply(request, status, "bob", extra, "");
        let socket = "0.0.0.0:5060".parse().unwrap();
        self.alice
            .handle_datagram(self.now, socket, address(2), text.as_bytes());
    }

    /// Alice calls, and is refused with this; gives her INVITE too.
    fn refused(&mut self, status: &str) -> (CallHandle, Sent) {
        let call = self.alice.invite(self.now, invite("first"));
        let sent = self.sent().remove(0);
        self.answers(&sent, status, "");
        assert!(self.sent()[0].text.starts_with("ACK "));
        (call, sent)
    }

    fn refusal(&mut self) -> Option<u16> {
        match self.alice.poll_event()? {
            SipEvent::Refused { status, .. } => Some(status),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn it_is_of_the_same_call_with_the_next_number_and_the_credentials() {
    let mut stage = Stage::new();
    let call = stage.alice.invite(stage.now, invite("first"));
    let first = stage.sent().remove(0);
    let challenge = "WWW-Authenticate: Digest realm=\"r\", nonce=\"n1\", qop=\"auth\"\r\n";
    stage.answers(&first, "401 Unauthorized", challenge);
    let second = stage.sent().remove(1);
    stage.answers(&second, "488 Not Acceptable Here", "");
    assert_eq!(stage.refusal(), Some(488));
    let again = stage
        .alice
        .invite_again(stage.now, call, &invite("another"))
        .unwrap();
    let sent = stage.sent();
    let order: Vec<_> = sent
        .iter()
        .map(|sent| sent.header("CSeq").unwrap())
        .collect();
    assert_eq!(order, ["2 ACK", "3 INVITE"]);
    let third = &sent[1];
    for name in ["Call-ID", "From", "To", "Supported", "Contact"] {
        assert_eq!(third.header(name), first.header(name), "{name}");
    }
    assert_ne!(third.header("Via"), second.header("Via"));
    assert_eq!(third.body(), "another");
    let credentials = third.header("Authorization").unwrap();
    assert!(credentials.contains("nc=00000002"), "{credentials}");

    // What comes of the old one, late, is acknowledged and no more.
    stage.answers(&second, "488 Not Acceptable Here", "");
    assert_eq!(stage.sent().len(), 1);
    assert_eq!(stage.refusal(), None);

    // It is given up like any other.
    stage.answers(third, "180 Ringing", "");
    assert!(matches!(
        stage.alice.poll_event(),
        Some(SipEvent::Progress { dialog, status: 180, .. }) if dialog.call == again
    ));
    stage.alice.cancel(stage.now, again).unwrap();
    assert_eq!(stage.sent()[0].header("CSeq"), Some("3 CANCEL"));
    stage.answers(third, "487 Request Terminated", "");
    assert_eq!(stage.refusal(), Some(487));
    let over = stage.alice.invite_again(stage.now, again, &invite("more"));
    assert_eq!(over, Err(CommandRefused::UnknownCall));
    stage.now += Duration::from_secs(60);
    stage.alice.handle_timeout(stage.now);
    assert!(stage.alice.is_idle());
}

#[test]
fn only_a_description_that_was_refused_can_be_followed_and_only_at_once() {
    for (status, follows) in [
        ("488 Not Acceptable Here", true),
        ("606 Not Acceptable", true),
        ("486 Busy Here", false),
        ("500 Server Internal Error", false),
    ] {
        let mut stage = Stage::new();
        let (call, _) = stage.refused(status);
        assert!(stage.refusal().is_some());
        let again = stage
            .alice
            .invite_again(stage.now, call, &invite("another"));
        assert_eq!(again.is_ok(), follows, "{status}");
        assert_eq!(stage.sent().len(), usize::from(follows));
        assert_eq!(stage.alice.is_idle(), !follows);
    }
    let mut stage = Stage::new();
    let (call, _) = stage.refused("488 Not Acceptable Here");
    assert_eq!(stage.refusal(), Some(488));
    assert_eq!(stage.refusal(), None);
    let late = stage
        .alice
        .invite_again(stage.now, call, &invite("another"));
    assert_eq!(late, Err(CommandRefused::UnknownCall));
    assert!(stage.alice.is_idle());
}

/// The CANCEL and the refusal cross.
#[test]
fn nothing_follows_what_was_given_up() {
    let mut stage = Stage::new();
    let call = stage.alice.invite(stage.now, invite("first"));
    let sent = stage.sent().remove(0);
    stage.answers(&sent, "100 Trying", "");
    stage.alice.cancel(stage.now, call).unwrap();
    stage.answers(&sent, "488 Not Acceptable Here", "");
    assert_eq!(stage.refusal(), Some(488));
    let again = stage
        .alice
        .invite_again(stage.now, call, &invite("another"));
    assert_eq!(again, Err(CommandRefused::UnknownCall));
}
