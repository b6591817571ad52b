//! One INVITE, several callees: RFC 3261 sections 13.2.2.4 and 12.1.2.

use ringtrue_sip::SipEvent;

use crate::wire::{Wire, reply};

const PROXY: &str = "192.0.2.1:5060";
const FORK: [&str; 2] = ["sip:bob@192.0.2.11", "sip:bob@192.0.2.12"];

fn contact(fork: usize) -> String {
    format!("Contact: <{}>\r\n", FORK[fork])
}

/// ```text
///                     .--> fork a (192.0.2.11)
/// alice --> proxy ----|
///                     '--> fork b (192.0.2.12)
/// ```
/// The proxy is a script: it answers the INVITE with these, as if they came from the forks.
fn forking(wire: &mut Wire, answers: &'static [(&'static str, usize, &'static str, &'static str)]) {
    wire.script(PROXY, move |sent| {
        if !sent.first_line().starts_with("INVITE") {
            return Vec::new();
        }
        answers
            .iter()
            .map(|(status, fork, extra, body)| {
                let extra = format!("{}{extra}", contact(*fork));
                reply(sent, status, ["aa", "bb"][*fork], &extra, body)
            })
            .collect()
    });
    // The forks themselves answer what comes to them in their dialogs.
    for address in ["192.0.2.11:5060", "192.0.2.12:5060"] {
        wire.script(address, |sent| match sent.first_line() {
            first if first.starts_with("ACK") => Vec::new(),
            _ => vec![reply(sent, "200 OK", "", "", "")],
        });
    }
}

#[test]
fn each_fork_is_an_early_dialog_of_its_own() {
    let mut wire = Wire::pair();
    forking(
        &mut wire,
        &[
            (
                "183 Session Progress",
                0,
                "Require: 100rel\r\nRSeq: 7\r\n",
                "from a",
            ),
            (
                "183 Session Progress",
                1,
                "Require: 100rel\r\nRSeq: 900\r\n",
                "from b",
            ),
            (
                "183 Session Progress",
                0,
                "Require: 100rel\r\nRSeq: 7\r\n",
                "from a",
            ),
            ("180 Ringing", 0, "Require: 100rel\r\nRSeq: 8\r\n", ""),
            ("180 Ringing", 1, "Require: 100rel\r\nRSeq: 902\r\n", ""),
        ],
    );
    let call = wire.invite(0, "sip:bob@192.0.2.1", "offer");
    wire.run_for(300);
    let progress: Vec<_> = wire
        .events(0)
        .into_iter()
        .map(|event| match event {
            SipEvent::Progress {
                dialog,
                status,
                body,
            } => {
                assert_eq!(dialog.call, call);
                let body = body
                    .map(|b| String::from_utf8(b).unwrap())
                    .unwrap_or_default();
                format!("{} {status} {body}", dialog.remote_tag)
            }
            other => panic!("{other:?}"),
        })
        .collect();
    // The last came before its predecessor, so it is neither acknowledged nor believed.
    assert_eq!(progress, ["aa 183 from a", "bb 183 from b", "aa 180 "]);
    let pracks: Vec<_> = wire
        .sent(0, "PRACK")
        .iter()
        .map(|sent| {
            let line = sent.first_line().split(' ').nth(1).unwrap();
            let (rack, cseq) = (sent.header("RAck").unwrap(), sent.header("CSeq").unwrap());
            format!("{line} | {rack} | {cseq}")
        })
        .collect();
    assert_eq!(
        pracks,
        [
            format!("{} | 7 1 INVITE | 2 PRACK", FORK[0]),
            format!("{} | 900 1 INVITE | 2 PRACK", FORK[1]),
            format!("{} | 8 1 INVITE | 3 PRACK", FORK[0]),
        ]
    );
}

#[test]
fn two_answers_are_two_dialogs_and_one_is_hung_up() {
    let mut wire = Wire::pair();
    forking(
        &mut wire,
        &[
            ("200 OK", 0, "", "from a"),
            ("200 OK", 1, "", "from b"),
            ("200 OK", 1, "", "from b"),
        ],
    );
    wire.invite(0, "sip:bob@192.0.2.1", "offer");
    let (first, body) = wire.accepted(0);
    assert_eq!(
        (first.remote_tag.as_str(), body.as_deref()),
        ("aa", Some(&b"from a"[..]))
    );
    let (second, _) = wire.accepted(0);
    assert_eq!(second.remote_tag, "bb");
    wire.run_for(100);
    let acks: Vec<_> = wire
        .sent(0, "ACK")
        .iter()
        .map(|sent| sent.to.ip().to_string())
        .collect();
    assert_eq!(acks, ["192.0.2.11", "192.0.2.12", "192.0.2.12"]);
    wire.with(0, |e, now| e.bye(now, &second, None)).unwrap();
    wire.wait(0, |event| {
        matches!(event, SipEvent::ByeDone { .. }).then_some(())
    });
    let bye = wire.sent(0, "BYE")[0];
    assert_eq!(bye.to.ip().to_string(), "192.0.2.12");
    assert!(bye.header("To").unwrap().ends_with("tag=bb"));
    // The other dialog stands.
    wire.with(0, |e, now| e.bye(now, &first, None)).unwrap();
    wire.run_for(40_000);
    assert!(wire.with(0, |e, _| e.is_idle()));
}

#[test]
fn a_late_second_answer_is_still_acknowledged() {
    let mut wire = Wire::pair();
    forking(&mut wire, &[("200 OK", 0, "", "from a")]);
    wire.invite(0, "sip:bob@192.0.2.1", "offer");
    let (first, _) = wire.accepted(0);
    wire.with(0, |e, now| e.bye(now, &first, None)).unwrap();
    wire.run_for(20_000);
    let invite = wire.sent(0, "INVITE")[0].clone();
    let late = reply(&invite, "200 OK", "bb", &contact(1), "from b");
    wire.inject(invite.to, invite.from, late);
    assert_eq!(wire.accepted(0).0.remote_tag, "bb");
}

#[test]
fn a_flood_of_forks_is_bounded() {
    let mut wire = Wire::pair();
    wire.script(PROXY, |sent| {
        let answer = |n: usize| {
            let tag = format!("t{n}");
            reply(sent, "183 Session Progress", &tag, &contact(0), "sdp")
        };
        match sent.first_line().starts_with("INVITE") {
            true => (0..500).map(answer).collect(),
            false => Vec::new(),
        }
    });
    wire.invite(0, "sip:bob@192.0.2.1", "offer");
    wire.run_for(100);
    assert_eq!(wire.events(0).len(), 16);
}

#[test]
fn a_response_that_is_not_ours_is_ignored() {
    let mut wire = Wire::pair();
    wire.invite(0, "sip:bob@192.0.2.1", "offer");
    let invite = wire.sent(0, "INVITE")[0].clone();
    let genuine = reply(&invite, "200 OK", "aa", &contact(0), "sdp");
    let twice = genuine.replace("Via:", "Via: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKq\r\nVia:");
    let branch = genuine.replace("branch=z9hG4bK", "branch=z9hG4bKx");
    let method = genuine.replace("1 INVITE", "1 BYE");
    for forged in [twice, branch, method] {
        wire.inject(invite.to, invite.from, forged);
    }
    wire.run_for(100);
    assert!(wire.events(0).is_empty());
    wire.inject(invite.to, invite.from, genuine);
    wire.accepted(0);
}
