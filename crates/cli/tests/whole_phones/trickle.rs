//! Candidates that come after offer and answer (RFC 8838, RFC 8840): ours from a slow server, and
//! those of peers that send them by INFO alone.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ringtrue_ice::{CandidateType, Role};
use ringtrue_phone::EventKind;
use ringtrue_phone::event::{EndReason, Outcome};
use ringtrue_testnet::Verdict;

use crate::foreign::{CAROL_TONE, Came, Foreign, Kind};
use crate::stage::{BOB_TONE, Place, Setup, Stage, at, heard, outcome, rang, with_turn};

/// A SIP message of one of the phones, as it left.
#[derive(Debug, Clone)]
pub struct Left {
    pub at: Instant,
    pub from: IpAddr,
    pub text: String,
}

/// Everything that the phones send by SIP over UDP from now on.
pub fn record(stage: &mut Stage) -> Arc<Mutex<Vec<Left>>> {
    let log = Arc::new(Mutex::new(Vec::new()));
    let written = Arc::clone(&log);
    stage.tap(move |passing| {
        if passing.receiver.is_none() && passing.source.port() == 5060 {
            let text = String::from_utf8_lossy(passing.payload).into_owned();
            written.lock().unwrap().push(Left {
                at: passing.now,
                from: passing.source.ip(),
                text,
            });
        }
        Verdict::Pass
    });
    log
}

/// When the first message with this first line left a phone, and what it said.
pub fn first(log: &Mutex<Vec<Left>>, from: [u8; 4], line: &str) -> Option<Left> {
    let log = log.lock().unwrap();
    let from = IpAddr::from(from);
    log.iter()
        .find(|left| left.from == from && left.text.starts_with(line))
        .cloned()
}

const ALICE_INSIDE: [u8; 4] = [192, 168, 1, 10];
const BOB_INSIDE: [u8; 4] = [10, 0, 0, 20];

/// The STUN server takes so long to answer alice.
fn slow_for_alice(stage: &mut Stage, round_trip: u64) {
    let (alice, stun) = (stage.alice, stage.stun);
    let one_way = Duration::from_millis(round_trip / 2);
    let world = stage.simulation.world_mut();
    world.set_delay_between(alice, stun, one_way);
}

fn invited(stage: &Stage) -> Instant {
    at(stage.alice(), |kind| {
        matches!(kind, EventKind::Invite { .. })
    })
    .expect("the INVITE leaves")
}

/// Bob's filter lets nobody in whom bob has not sent to, so alice's reflexive address, which comes
/// after 900 ms, is what the call needs.
#[test]
fn the_offer_waits_500_ms_and_no_longer_and_the_late_address_goes_by_info() {
    let mut stage = Setup {
        srtp: ringtrue_phone::settings::SrtpUse::Off,
        ..Setup::between(Place::PortRestricted, Place::PortRestricted)
    }
    .build();
    slow_for_alice(&mut stage, 900);
    let log = record(&mut stage);
    let dialled = stage.simulation.now();
    stage.dial();
    stage.run(12);
    let story = stage.story();
    assert_eq!(invited(&stage) - dialled, Duration::from_millis(500));
    let invite = first(&log, ALICE_INSIDE, "INVITE").unwrap().text;
    assert!(!invite.contains("typ srflx"), "{invite}");
    assert!(invite.contains("a=ice-options:ice2 trickle"), "{invite}");
    assert!(!invite.contains("a=end-of-candidates"), "{invite}");

    let info = first(&log, ALICE_INSIDE, "INFO").unwrap_or_else(|| panic!("{story}"));
    assert_eq!(info.at - dialled, Duration::from_millis(900), "{story}");
    for line in [
        "typ srflx",
        "typ host",
        "a=mid:0",
        "Info-Package: trickle-ice",
    ] {
        assert!(info.text.contains(line), "{line} in {}", info.text);
    }
    // Bob had all of his, and says so.
    let answer = first(&log, BOB_INSIDE, "SIP/2.0 183").unwrap().text;
    assert!(answer.contains("a=end-of-candidates"), "{answer}");
    assert_eq!(first(&log, BOB_INSIDE, "INFO").map(|left| left.text), None);

    let (at_bob, at_alice) = stage.heard();
    assert!(at_bob > 2.5 && at_alice > 2.5, "{story}");
    // The INFO takes the signalling's way, then the checks theirs: no retransmission in between.
    let ringing = rang(stage.bob()).unwrap();
    assert!(matches!(
        ringing.kind,
        EventKind::Ringing { verified: true, .. }
    ));
    let took = ringing.at - dialled;
    assert!(took < Duration::from_millis(1_200), "{took:?}\n{story}");
}

/// Without the INFO there is no path for that pair of NATs, and there is one where alice's checks
/// reach bob: her address is found by them.
#[test]
fn a_peer_that_does_not_trickle_finds_late_addresses_by_our_checks() {
    for (bob, connects) in [
        (Place::Open, true),
        (Place::FullCone, true),
        (Place::PortRestricted, false),
    ] {
        let mut stage = Setup::between(Place::PortRestricted, bob).build();
        slow_for_alice(&mut stage, 900);
        stage.tap(|passing| {
            let text = String::from_utf8_lossy(passing.payload);
            assert!(!text.starts_with("INFO"), "nobody asked for it");
            let line = "Recv-Info: trickle-ice\r\n";
            if passing.receiver.is_none() && text.contains(line) {
                return Verdict::Replace(text.replace(line, "").into_bytes());
            }
            Verdict::Pass
        });
        let dialled = stage.simulation.now();
        stage.dial();
        stage.run(15);
        let story = format!("{bob:?}\n{}", stage.story());
        assert_eq!(invited(&stage) - dialled, Duration::from_millis(500));
        assert_eq!(stage.rang(), connects, "{story}");
        let outcome = stage.outcome().map(|end| end.1);
        let wanted = if connects {
            Outcome::Completed
        } else {
            Outcome::NoMediaPath
        };
        assert_eq!(outcome, Some(wanted), "{story}");
    }
}

/// The relay that comes late is told of too, and used: no other path joins these two.
#[test]
fn a_late_relay_carries_the_call() {
    let mut stage = Setup {
        srtp: ringtrue_phone::settings::SrtpUse::Off,
        alices: with_turn,
        ..Setup::between(Place::Symmetric, Place::Symmetric)
    }
    .build();
    let (alice, turn) = (stage.alice, stage.turn);
    let slow = Duration::from_millis(400);
    let world = stage.simulation.world_mut();
    world.set_delay_between(alice, turn, slow);
    let log = record(&mut stage);
    stage.dial();
    stage.run(15);
    let story = stage.story();
    let invite = first(&log, ALICE_INSIDE, "INVITE").unwrap().text;
    assert!(!invite.contains("typ relay"), "{invite}");
    let told = log
        .lock()
        .unwrap()
        .iter()
        .any(|left| left.text.starts_with("INFO") && left.text.contains("typ relay"));
    assert!(told, "{story}");
    let (at_bob, at_alice) = stage.heard();
    assert!(
        at_bob > 2.0 && at_alice > 2.0,
        "{at_bob} {at_alice}\n{story}"
    );
    let selected = stage
        .alice()
        .events()
        .iter()
        .find_map(|event| match &event.kind {
            EventKind::PathSelected(path) => Some(path.local_type),
            _ => None,
        });
    assert_eq!(selected, Some(CandidateType::Relayed), "{story}");
}

/// A phone without a pool answers a caller that trickles at once, and another one after the
/// patience.
#[test]
fn a_cold_callee_answers_a_trickling_caller_at_once() {
    for (trickles, wanted) in [(true, 0), (false, 500)] {
        let mut stage = Setup {
            bobs: |settings| settings.warm_sets = 0,
            ..Setup::between(Place::PortRestricted, Place::PortRestricted)
        }
        .build();
        let (bob, stun) = (stage.bob, stage.stun);
        let world = stage.simulation.world_mut();
        world.set_delay_between(bob, stun, Duration::from_millis(350));
        let log = record(&mut stage);
        if !trickles {
            stage.tap(|passing| {
                let text = String::from_utf8_lossy(passing.payload);
                let line = "Recv-Info: trickle-ice\r\n";
                if passing.receiver.is_some() && text.contains(line) {
                    return Verdict::Replace(text.replace(line, "").into_bytes());
                }
                Verdict::Pass
            });
        }
        stage.dial();
        stage.run(12);
        let story = stage.story();
        let invited = at(stage.bob(), |kind| matches!(kind, EventKind::Invite { .. })).unwrap();
        let answer = first(&log, BOB_INSIDE, "SIP/2.0 183").unwrap();
        let took = answer.at - invited;
        assert_eq!(took, Duration::from_millis(wanted), "{story}");
        if trickles {
            let info = first(&log, BOB_INSIDE, "INFO").unwrap_or_else(|| panic!("{story}"));
            assert!(info.text.contains("typ srflx") && info.text.contains("a=end-of-candidates"));
            assert!(stage.rang(), "{story}");
        }
    }
}

const REL: &str = "Supported: 100rel, ice, trickle-ice\r\nRecv-Info: trickle-ice\r\n";

/// Takes the peer's tag out of a response.
fn tag_of(response: &Came) -> String {
    let to = response.header("To");
    to.split_once(";tag=").map_or("", |(_, tag)| tag).to_owned()
}

/// Carol's offer with no candidate in it: they come by INFO.
fn empty_offer(carol: &Foreign) -> String {
    let whole = carol.sdp("a=mid:sound\r\n");
    let lines = whole
        .split("\r\n")
        .filter(|line| !line.is_empty() && !line.starts_with("a=candidate"));
    let mut offer = String::new();
    for line in lines {
        offer += match line {
            line if line.starts_with("c=") => "c=IN IP4 0.0.0.0\r\na=ice-options:ice2 trickle",
            line if line.starts_with("m=") => "m=audio 9 RTP/AVP 0",
            line => line,
        };
        offer += "\r\n";
    }
    offer
}

/// What carol trickles, with these lines of the stream.
fn fragment(carol: &Foreign, lines: &str) -> String {
    let whole = carol.sdp("");
    let of = |name: &str| {
        let mut found = whole.split("\r\n").filter(|line| line.starts_with(name));
        found.next().unwrap_or_default().to_owned()
    };
    format!(
        "{}\r\n{}\r\nm=audio 9 RTP/AVP 0\r\na=mid:sound\r\n{lines}",
        of("a=ice-pwd"),
        of("a=ice-ufrag"),
    )
}

fn candidates(carol: &Foreign) -> String {
    let whole = carol.sdp("");
    let lines = whole
        .split("\r\n")
        .filter(|line| line.starts_with("a=candidate"));
    lines.map(|line| format!("{line}\r\n")).collect()
}

/// An INFO of carol's in the dialog.
fn info(stage: &mut Stage, carol: &Foreign, number: u32, body: &str) {
    let peer = carol.peer;
    let text = format!(
        "INFO sip:bob@{peer} SIP/2.0\r\nVia: SIP/2.0/UDP 203.0.113.9;branch=z9hG4bKinfo{number}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:carol@203.0.113.9>;tag={}\r\nTo: <sip:bob@{}>;tag={}\r\n\
         Call-ID: {}\r\nCSeq: {number} INFO\r\nContact: <sip:carol@203.0.113.9>\r\n\
         Info-Package: trickle-ice\r\nContent-Disposition: Info-Package\r\n\
         Content-Type: application/trickle-ice-sdpfrag\r\nContent-Length: {}\r\n\r\n{body}",
        carol.tag,
        peer.ip(),
        carol.to_tag,
        carol.call_id,
        body.len(),
    );
    carol.send(stage, peer, text);
}

/// Carol offers nothing, gets the 183 and acknowledges it.
fn call_with_nothing(stage: &mut Stage, carol: &mut Foreign) -> Came {
    let offer = empty_offer(carol);
    carol.request(stage, "1 INVITE", REL, &offer);
    let progress = carol.expect(stage, "SIP/2.0 183", "INVITE");
    carol.to_tag = tag_of(&progress);
    let rack = format!(
        "RAck: {} {}\r\n",
        progress.header("RSeq"),
        progress.header("CSeq")
    );
    carol.request(stage, "2 PRACK", &rack, "");
    carol.expect(stage, "SIP/2.0 200", "PRACK");
    progress
}

fn bob_and_carol() -> (Stage, Foreign) {
    let mut stage = Setup::default().build();
    let carol = Foreign::at(&mut stage, Kind::Full(Role::Controlling));
    (stage, carol)
}

#[test]
fn a_peer_that_gives_candidates_by_info_alone_rings_verified() {
    let (mut stage, mut carol) = bob_and_carol();
    let progress = call_with_nothing(&mut stage, &mut carol);
    assert!(progress.body().contains("a=mid:sound"), "{}", progress.text);
    assert_eq!(progress.header("Recv-Info"), "trickle-ice");
    stage.run(3);
    // Nothing to check so far, and nothing failed.
    assert!(carol.state().first_check.is_none(), "{}", stage.story());
    assert!(outcome(stage.bob()).is_none(), "{}", stage.story());
    let body = fragment(&carol, &candidates(&carol));
    info(&mut stage, &carol, 3, &body);
    carol.expect(&mut stage, "SIP/2.0 200", "INFO");
    stage.run(1);
    // The candidate is what bob checks by: carol has sent no check herself.
    assert!(carol.state().first_check.is_some(), "{}", stage.story());
    assert!(!stage.rang());
    carol.learn(&stage, progress.body());
    carol.expect(&mut stage, "SIP/2.0 180", "INVITE");
    let ringing = rang(stage.bob()).unwrap();
    assert!(matches!(
        ringing.kind,
        EventKind::Ringing { verified: true, .. }
    ));
    // The end, told later, is taken as well; and what was told before once more.
    let body = fragment(&carol, &(candidates(&carol) + "a=end-of-candidates\r\n"));
    info(&mut stage, &carol, 4, &body);
    let accepted = carol.expect(&mut stage, "SIP/2.0 200", "INVITE");
    assert!(accepted.body().is_empty());
    carol.request(&mut stage, "1 ACK", "", "");
    carol.speak(&stage);
    stage.run(5);
    let bye = carol.expect(&mut stage, "BYE", "BYE");
    carol.respond(&mut stage, &bye, "200 OK", "", "");
    let (at_carol, at_bob) = (carol.heard(BOB_TONE), heard(stage.bob(), CAROL_TONE));
    assert!(
        at_carol > 2.0 && at_bob > 2.0,
        "{at_carol} {at_bob}\n{}",
        stage.story()
    );
}

/// The INFO shows that the 183 has arrived where no PRACK and no check does.
#[test]
fn an_info_ends_the_repetition_of_the_183() {
    let (mut stage, mut carol) = bob_and_carol();
    let offer = empty_offer(&carol);
    carol.request(&mut stage, "1 INVITE", "Recv-Info: trickle-ice\r\n", &offer);
    let progress = carol.expect(&mut stage, "SIP/2.0 183", "INVITE");
    carol.to_tag = tag_of(&progress);
    stage.run(2);
    let repeated = carol.count("SIP/2.0 183");
    assert!(repeated > 1, "{repeated}");
    let body = fragment(&carol, "");
    info(&mut stage, &carol, 2, &body);
    stage.run(6);
    assert_eq!(carol.count("SIP/2.0 183"), repeated);
}

#[test]
fn a_peer_that_never_says_more_ends_after_the_patience() {
    for (number, lines) in [None, Some(""), Some("a=end-of-candidates\r\n")]
        .into_iter()
        .enumerate()
    {
        let (mut stage, mut carol) = bob_and_carol();
        call_with_nothing(&mut stage, &mut carol);
        if let Some(lines) = lines {
            let body = fragment(&carol, lines);
            info(&mut stage, &carol, 3, &body);
        }
        stage.run(9);
        assert!(
            outcome(stage.bob()).is_none(),
            "{number}\n{}",
            stage.story()
        );
        let refused = carol.expect(&mut stage, "SIP/2.0 480", "INVITE");
        carol.request(&mut stage, "1 ACK", "", "");
        let invited = at(stage.bob(), |kind| matches!(kind, EventKind::Invite { .. }));
        let took = refused.at - invited.unwrap();
        assert!(took < Duration::from_millis(10_100), "{took:?}");
        let end = outcome(stage.bob()).unwrap();
        assert_eq!(
            (end.0, end.1),
            (EndReason::NoMediaPath, Outcome::NoMediaPath)
        );
        assert!(!stage.rang());
    }
}

#[test]
fn candidates_of_another_generation_and_unusable_ones_are_ignored() {
    let (mut stage, mut carol) = bob_and_carol();
    let progress = call_with_nothing(&mut stage, &mut carol);
    let good = fragment(&carol, &candidates(&carol));
    let ufrag = good.split("a=ice-ufrag:").nth(1).unwrap();
    let ufrag = ufrag.split("\r\n").next().unwrap().to_owned();
    let stale = [
        good.replace(&ufrag, "stale123"),
        good.replace("a=ice-pwd:", "a=ice-pwd:stale"),
        good.replace("a=mid:sound", "a=mid:picture"),
        good.replace("203.0.113.9", "carol.local"),
        good.replace("UDP", "DCCP"),
        good.replace("typ host", "typ hosted"),
        "rubbish".to_owned(),
    ];
    for (number, body) in (3..).zip(&stale) {
        info(&mut stage, &carol, number, body);
        carol.expect(&mut stage, "SIP/2.0 200", &format!("{number} INFO"));
    }
    stage.run(2);
    assert!(carol.state().first_check.is_none(), "{}", stage.story());
    // None of them closed the door.
    info(&mut stage, &carol, 90, &good);
    carol.learn(&stage, progress.body());
    carol.expect(&mut stage, "SIP/2.0 180", "INVITE");
}

/// Hundreds of INFOs, each with 64 addresses of people who have nothing to do with it.
#[test]
fn a_flood_of_infos_is_bounded() {
    let (mut stage, mut carol) = bob_and_carol();
    let hit: Arc<Mutex<HashSet<SocketAddr>>> = Arc::default();
    let seen = Arc::clone(&hit);
    stage.tap(move |passing| {
        if passing.receiver.is_none() && passing.destination.ip().to_string().starts_with("198.18.")
        {
            seen.lock().unwrap().insert(passing.destination);
        }
        Verdict::Pass
    });
    let progress = call_with_nothing(&mut stage, &mut carol);
    for number in 0..300_u32 {
        let lines: String = (0..64)
            .map(|index| {
                let (a, b) = (number / 200, number % 200);
                format!(
                    "a=candidate:{number} 1 UDP {} 198.18.{a}.{b} {} typ host\r\n",
                    2_000_000_000 + number * 64 + index,
                    10_000 + index
                )
            })
            .collect();
        let body = fragment(&carol, &lines);
        info(&mut stage, &carol, number + 3, &body);
        if number % 50 == 0 {
            stage.simulation.run_for(Duration::from_millis(20));
        }
    }
    stage.run(4);
    let checked = hit.lock().unwrap().len();
    assert!(checked <= 100, "{checked} addresses were sent to");
    assert!(!stage.rang());
    // Carol's own check still gets through, and rings.
    carol.learn(&stage, progress.body());
    carol.expect(&mut stage, "SIP/2.0 180", "INVITE");
}
