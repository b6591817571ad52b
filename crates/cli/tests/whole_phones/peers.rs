//! Peers as they are: what descriptions of other phones look like, and what the user of ours gets
//! to hear then, who calls such a phone or is called by one.
//!
//!   alice ── Internet ── carol, whose SDP is edited ── Internet ── bob

use std::time::Duration;

use ringtrue_ice::Role;
use ringtrue_phone::event::{EndReason, Outcome};
use ringtrue_phone::{EventKind, Settings};

use crate::foreign::{Foreign, Kind};
use crate::foreign_callees::{alice_and_carol, alice_talked, direct, ringing_of_alice};
use crate::foreign_callers::{assert_talked, bob_and_carol, ring_is, tag_of};
use crate::stage::outcome;

/// What the user is to get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ring {
    /// A ring that says that both will be heard.
    Verified,
    /// A ring that says that nobody knows.
    Unverified,
    /// None: there is no path.
    Never,
}

/// What a phone does with ICE that carol's does not.
struct Oddity {
    name: &'static str,
    kind: Option<Kind>,
    mux: bool,
    edit: fn(String) -> String,
    ring: Ring,
}

const HOST: &str = "a=candidate:1 1 UDP 2130706431 203.0.113.9 30000 typ host\r\n";
const RTCP_HOST: &str = "a=candidate:1 2 UDP 2130706430 203.0.113.9 30001 typ host\r\n";

/// An oddity of a full agent that does not matter.
const fn harmless(name: &'static str, edit: fn(String) -> String) -> Oddity {
    Oddity {
        name,
        kind: None,
        mux: true,
        edit,
        ring: Ring::Verified,
    }
}

/// ICE attributes that lead to no ICE.
const WITHOUT: &str =
    "a=ice-ufrag:carolito\r\na=ice-pwd:carolcarolcarolcarolcarol\r\na=ice-options:ice2\r\n";

/// RFC 8839 section 4.2.5: no default destination yet.
fn no_default(sdp: &str) -> String {
    sdp.replace("c=IN IP4 203.0.113.9\r\n", "c=IN IP4 0.0.0.0\r\n")
        .replace("m=audio 30000 ", "m=audio 9 ")
}

fn oddities() -> Vec<Oddity> {
    let mut all = vec![
        harmless("end-of-candidates", |sdp| sdp + "a=end-of-candidates\r\n"),
        harmless(
            "the habits of RFC 5245: no ice2, lower case, extensions",
            |sdp| {
                sdp.replace(
                HOST,
                "a=candidate:1 1 udp 2130706431 203.0.113.9 30000 typ host generation 0 network-id 1\r\n",
            )
            },
        ),
        // The host's address hides behind a name that nobody here can resolve: it becomes known by
        // carol's checks.
        harmless("an mDNS name alone", |sdp| {
            let named = HOST.replace("203.0.113.9", "4ee5a9c6-1bd0-4c2e-9a3d-0a0d7b9f6d11.local");
            no_default(&sdp).replace(HOST, &named)
        }),
        harmless("an mDNS name beside the address", |sdp| {
            sdp + "a=candidate:2 1 UDP 2130706175 4ee5a9c6-1bd0-4c2e-9a3d-0a0d7b9f6d11.local 30000 typ host\r\n"
        }),
        // RFC 8839 section 5.1: lines with names are ignored.
        harmless("a domain name in a candidate", |sdp| {
            sdp + "a=candidate:2 1 UDP 2130706175 carol.example.org 30000 typ host\r\n"
        }),
        harmless("domain names in all candidates", |sdp| {
            no_default(&sdp).replace(HOST, &HOST.replace("203.0.113.9", "carol.example.org"))
        }),
        // RFC 8839 section 4.2.5, the fourth exception.
        harmless("a domain name as the default", |sdp| {
            sdp.replace("c=IN IP4 203.0.113.9\r\n", "c=IN IP4 carol.example.org\r\n")
        }),
        harmless("unknown transports and types", |sdp| {
            sdp + "a=candidate:2 1 TCP 2130706175 203.0.113.9 9 typ host tcptype active\r\n\
                   a=candidate:3 1 SCTP 2130706174 203.0.113.9 30000 typ host\r\n\
                   a=candidate:4 1 TLS-UDP 2130706173 203.0.113.9 30000 typ host\r\n\
                   a=candidate:5 1 UDP 2130706172 203.0.113.9 30002 typ telepathic\r\n\
                   a=candidate:6 7 UDP 2130706171 203.0.113.9 30003 typ host\r\n"
        }),
        harmless("damaged candidates", |sdp| {
            sdp + "a=candidate\r\na=candidate:\r\na=candidate:2\r\n\
                   a=candidate:2 1 UDP 2130706431 203.0.113.9 30000\r\n\
                   a=candidate:2 1 UDP 2130706431 203.0.113.9 99999 typ host\r\n\
                   a=candidate:2 1 UDP 4294967296 203.0.113.9 30000 typ host\r\n\
                   a=candidate:2 1 UDP 0 203.0.113.9 30002 typ host\r\n\
                   a=candidate:2 1 UDP 2130706431 203.0.113 30000 typ host\r\n\
                   a=candidate:2 1 UDP 2130706431 fe80::1%eth0 30000 typ host\r\n\
                   a=candidate:2 x UDP 2130706431 203.0.113.9 30000 typ host\r\n"
        }),
        harmless("no candidate at all, and no default", |sdp| {
            no_default(&sdp).replace(HOST, "")
        }),
        harmless("remote-candidates where nothing was nominated", |sdp| {
            sdp + "a=remote-candidates:1 198.51.100.77 1234 2 198.51.100.77 1235\r\n"
        }),
        harmless("a=rtcp that means nothing beside rtcp-mux", |sdp| {
            sdp + "a=rtcp:9 IN IP4 0.0.0.0\r\n"
        }),
        harmless("a=rtcp with the address of RTP beside rtcp-mux", |sdp| {
            sdp + "a=rtcp:30000 IN IP4 203.0.113.9\r\n"
        }),
        harmless("a=rtcp and a second component beside rtcp-mux", |sdp| {
            sdp + "a=rtcp:30001 IN IP4 203.0.113.9\r\n" + RTCP_HOST
        }),
    ];
    all.extend([
        Oddity {
            mux: false,
            ..harmless("rtcp-mux refused, a=rtcp says where", |sdp| sdp)
        },
        Oddity {
            mux: false,
            ..harmless("rtcp-mux refused, the next port is meant", |sdp| {
                sdp.replace("a=rtcp:30001\r\n", "")
            })
        },
        Oddity {
            kind: Some(Kind::Lite),
            ..harmless("a lite agent", |sdp| sdp)
        },
        Oddity {
            kind: Some(Kind::Lite),
            ..harmless("a lite agent that says so in the stream", |sdp| {
                sdp.replace("a=ice-lite\r\n", "") + "a=ice-lite\r\n"
            })
        },
        // It answers checks and sends none, though it does not say that it is lite: whether it
        // holds our answer is not known, so it is not rung for.
        Oddity {
            kind: Some(Kind::Lite),
            ring: Ring::Never,
            ..harmless("a full agent that never sends checks", |sdp| {
                sdp.replace("a=ice-lite\r\n", "")
            })
        },
        // Nowhere to send checks to, and none will come.
        Oddity {
            kind: Some(Kind::Lite),
            ring: Ring::Never,
            ..harmless("a lite agent without a usable candidate", |sdp| {
                let unusable = "a=candidate:1 1 UDP 2130706431 224.0.0.9 30000 typ host\r\n\
                                a=candidate:2 1 UDP 2130706430 0.0.0.0 30000 typ host\r\n\
                                a=candidate:3 1 UDP 2130706429 255.255.255.255 30000 typ host\r\n\
                                a=candidate:4 1 UDP 2130706428 203.0.113.9 0 typ host\r\n\
                                a=candidate:5 1 UDP 2130706427 carol.local 30000 typ host\r\n";
                no_default(&sdp).replace(HOST, unusable)
            })
        },
        Oddity {
            kind: Some(Kind::Without),
            ring: Ring::Unverified,
            ..harmless("no ICE", |sdp| sdp)
        },
        // A gateway has put its address over the default one.
        Oddity {
            kind: Some(Kind::Without),
            ring: Ring::Unverified,
            ..harmless("a mangled default", |sdp| {
                sdp + WITHOUT + &HOST.replace("203.0.113.9", "192.168.7.7")
            })
        },
        Oddity {
            kind: Some(Kind::Without),
            ring: Ring::Unverified,
            ..harmless("no candidate for the default", |sdp| sdp + WITHOUT)
        },
        Oddity {
            kind: Some(Kind::Without),
            ring: Ring::Unverified,
            ..harmless("half of the credentials", |sdp| {
                sdp + "a=ice-ufrag:carolito\r\n" + HOST
            })
        },
    ]);
    all
}

fn kind(oddity: &Oddity, role: Role) -> Kind {
    oddity.kind.unwrap_or(Kind::Full(role))
}

#[test]
fn they_call() {
    for oddity in oddities() {
        println!("{}", oddity.name);
        let (mut stage, mut carol) = bob_and_carol(kind(&oddity, Role::Controlling), |_| {});
        carol.state().mux = oddity.mux;
        let offer = (oddity.edit)(carol.sdp(""));
        carol.request(&mut stage, "1 INVITE", "", &offer);
        if oddity.ring == Ring::Never {
            let progress = carol.expect(&mut stage, "SIP/2.0 183", "INVITE");
            carol.to_tag = tag_of(&progress);
            carol.learn(&stage, progress.body());
            let refused = carol.expect(&mut stage, "SIP/2.0 480", "INVITE");
            let warning = refused.header("Warning").to_owned();
            assert!(warning.starts_with("399 "), "{warning}");
            carol.request(&mut stage, "1 ACK", "", "");
            assert!(!stage.rang(), "{}", stage.story());
            let missed = |kind: &EventKind| matches!(kind, EventKind::Missed { .. });
            assert!(stage.bob().event(missed).is_some(), "{}", stage.story());
            let end = outcome(stage.bob()).map(|end| end.1);
            assert_eq!(end, Some(Outcome::NoMediaPath));
            continue;
        }
        if oddity.ring == Ring::Verified {
            let progress = carol.expect(&mut stage, "SIP/2.0 183", "INVITE");
            carol.to_tag = tag_of(&progress);
            carol.learn(&stage, progress.body());
        }
        let ringing = carol.expect(&mut stage, "SIP/2.0 180", "INVITE");
        carol.to_tag = tag_of(&ringing);
        ring_is(&stage, oddity.ring == Ring::Verified);
        let accepted = carol.expect(&mut stage, "SIP/2.0 200", "INVITE");
        if oddity.ring == Ring::Unverified {
            assert!(!accepted.body().contains("a=candidate"));
            carol.learn(&stage, accepted.body());
        }
        carol.request(&mut stage, "1 ACK", "", "");
        carol.speak(&stage);
        assert_talked(&mut stage, &carol);
    }
}

/// Does not hang up by herself.
pub fn patient(settings: &mut Settings) {
    direct(settings);
    settings.duration = None;
}

#[test]
fn they_are_called() {
    for oddity in oddities() {
        println!("{}", oddity.name);
        let alices = match oddity.ring {
            Ring::Never => patient,
            Ring::Verified | Ring::Unverified => direct,
        };
        let (mut stage, carol) = alice_and_carol(kind(&oddity, Role::Controlled), alices);
        carol.state().mux = oddity.mux;
        let invite = carol.expect(&mut stage, "INVITE", "INVITE");
        let answer = (oddity.edit)(carol.sdp(""));
        carol.learn(&stage, invite.body());
        carol.respond(&mut stage, &invite, "180 Ringing", "", &answer);
        stage.run(1);
        let heard_of = ringing_of_alice(&stage);
        // Where no proof comes, her own ringing is what is told.
        let wanted = Some(oddity.ring == Ring::Verified);
        assert_eq!(heard_of, wanted, "{}", stage.story());
        carol.respond(&mut stage, &invite, "200 OK", "", &answer);
        carol.expect(&mut stage, "ACK", "ACK");
        if oddity.ring != Ring::Never {
            carol.speak(&stage);
            alice_talked(&mut stage, &carol);
            continue;
        }
        let answered = stage.simulation.now();
        let bye = carol.expect(&mut stage, "BYE", "BYE");
        carol.respond(&mut stage, &bye, "200 OK", "", "");
        assert!(bye.at - answered <= Duration::from_millis(10_500));
        assert!(stage.alice().played().is_empty());
        assert!(carol.state().first_rtp.is_none());
        let end = outcome(stage.alice()).map(|end| (end.0, end.1));
        assert_eq!(end, Some((EndReason::NoMediaPath, Outcome::NoMediaPath)));
    }
}

/// Both sides of one answer: what a gateway has mangled is told to the offerer (RFC 8839
/// section 4.2.5), who then goes on without ICE.
#[test]
fn the_answer_to_a_mangled_offer_says_ice_mismatch_and_only_to_that() {
    for oddity in oddities() {
        if oddity.ring != Ring::Unverified {
            continue;
        }
        let (mut stage, carol) = bob_and_carol(Kind::Without, |_| {});
        let offer = (oddity.edit)(carol.sdp(""));
        let mangled = offer.contains("a=ice-pwd");
        carol.request(&mut stage, "1 INVITE", "", &offer);
        let accepted = carol.expect(&mut stage, "SIP/2.0 200", "INVITE");
        let says = accepted.body().contains("a=ice-mismatch");
        assert_eq!(says, mangled, "{}: {}", oddity.name, accepted.text);
    }
}

/// Late: carol begins to check only when the phone has rung out or been given up, as agents do
/// that look for their path after the answer. Nobody rings before that.
#[test]
fn checks_that_come_late_ring_late() {
    let (mut stage, mut carol) = bob_and_carol(Kind::Full(Role::Controlling), |_| {});
    let offer = carol.sdp("");
    carol.request(&mut stage, "1 INVITE", "", &offer);
    let progress = carol.expect(&mut stage, "SIP/2.0 183", "INVITE");
    carol.to_tag = tag_of(&progress);
    stage.run(5);
    assert!(!stage.rang(), "{}", stage.story());
    learn_and_talk(&mut stage, &carol, progress.body());
}

fn learn_and_talk(stage: &mut crate::stage::Stage, carol: &Foreign, answer: &str) {
    carol.learn(stage, answer);
    carol.expect(stage, "SIP/2.0 180", "INVITE");
    ring_is(stage, true);
    carol.expect(stage, "SIP/2.0 200", "INVITE");
    carol.request(stage, "1 ACK", "", "");
    carol.speak(stage);
    assert_talked(stage, carol);
}
