//! The voice hammer (RFC 8445 section 19.5.1): whoever writes a third party's address into a
//! description makes the phone send there. What it sends is connectivity checks, within a bound,
//! and never media.
//!
//!   carol, the attacker ── Internet ── bob or alice
//!                              │
//!                          the victim
//!
//! The bound. The section says: at most 100 connectivity checks. A check is a STUN transaction, and
//! its request is sent at most five times within the patience of ten seconds: at 0, 0.5, 1.5, 3.5
//! and 7.5 s (RFC 8489 section 6.2.1, with the shortest RTO that RFC 8445 section 14.3 allows; the
//! next would be at 15.5 s). So the victim gets at most 100 transactions and 500 datagrams from one
//! call, whatever the call's descriptions, forks and restarts; each transaction starts at least 5 ms
//! after the one before, one agent's at least 20 ms; and nothing once the patience is over.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ringtrue_ice::{PacketKind, Role, classify};
use ringtrue_phone::Settings;
use ringtrue_phone::settings::{AnswerWhen, IceUse};
use ringtrue_testnet::{Stage as Passage, Verdict};

use crate::foreign::{Foreign, Kind};
use crate::foreign_callees::{alice_and_carol, direct};
use crate::foreign_callers::{bob_and_carol, call_with_ice, tag_of};
use crate::peers::patient;
use crate::stage::{BOB_TONE, Stage};

const VICTIM: [u8; 4] = [192, 0, 2, 200];
/// RFC 8445 section 19.5.1.
const CHECKS: usize = 100;
/// The requests of a transaction within the patience.
const REQUESTS: usize = 5;
const PATIENCE: Duration = Duration::from_secs(10);

/// What has left for the victim.
#[derive(Default)]
struct Hits {
    /// First and latest request of each transaction, and how many there were.
    checks: BTreeMap<Vec<u8>, (Instant, Instant, usize)>,
    others: Vec<PacketKind>,
}

/// Watches the whole Internet for packets to the victim.
fn watch(stage: &mut Stage) -> Arc<Mutex<Hits>> {
    let hits = Arc::new(Mutex::new(Hits::default()));
    let seen = Arc::clone(&hits);
    stage.tap(move |passing| {
        let to_victim = passing.destination.ip() == IpAddr::from(VICTIM);
        if to_victim && passing.stage == Passage::Departure {
            let mut hits = seen.lock().unwrap();
            let (now, payload) = (passing.now, passing.payload);
            match classify(payload) {
                // A Binding request, by its type.
                PacketKind::Stun if payload.starts_with(&[0, 1]) => {
                    let id = payload[8..20].to_vec();
                    let check = hits.checks.entry(id).or_insert((now, now, 0));
                    check.1 = now;
                    check.2 += 1;
                }
                other => hits.others.push(other),
            }
        }
        Verdict::Pass
    });
    hits
}

/// Holds what was sent against the bound; how many checks and datagrams there were.
fn assert_bounded(hits: &Mutex<Hits>, ta: Duration) -> (usize, usize) {
    let hits = hits.lock().unwrap();
    assert!(hits.others.is_empty(), "not checks: {:?}", hits.others);
    let datagrams: usize = hits.checks.values().map(|check| check.2).sum();
    println!("{} checks, {datagrams} datagrams", hits.checks.len());
    assert!(hits.checks.len() <= CHECKS, "{} checks", hits.checks.len());
    assert!(hits.checks.values().all(|check| check.2 <= REQUESTS));
    assert!(datagrams <= CHECKS * REQUESTS);
    let mut starts: Vec<Instant> = hits.checks.values().map(|check| check.0).collect();
    starts.sort();
    assert!(starts.windows(2).all(|pair| pair[1] - pair[0] >= ta));
    (hits.checks.len(), datagrams)
}

/// Nothing more comes, for a minute.
fn assert_over(stage: &mut Stage, hits: &Mutex<Hits>) {
    let before = hits.lock().unwrap().checks.len();
    let end = stage.simulation.now();
    stage.run(60);
    let hits = hits.lock().unwrap();
    assert_eq!(hits.checks.len(), before);
    assert!(hits.checks.values().all(|check| check.1 <= end));
    assert!(hits.others.is_empty(), "{:?}", hits.others);
}

fn victim() -> String {
    VICTIM.map(|byte| byte.to_string()).join(".")
}

/// So many candidates of the victim, each with a port of its own; `typ` and what follows.
fn candidates(count: u32, typ: &str) -> String {
    let line = |number: u32| {
        let priority = 2_130_000_000 - number;
        let (victim, port) = (victim(), 20_000 + number);
        format!("a=candidate:v{number} 1 UDP {priority} {victim} {port} typ {typ}\r\n")
    };
    (0..count).map(line).collect()
}

/// A description without any other address.
const ALONE: &str = "nothing but a hundred";

/// As fast as it gets.
const HASTE: &str = "a=ice-pacing:1\r\n";

fn no_own_candidate(sdp: &str) -> String {
    sdp.lines()
        .filter(|line| !line.starts_with("a=candidate:1 "))
        .map(|line| format!("{line}\r\n"))
        .collect()
}

/// Offers that name the victim, and whether any packet may go there at all.
fn descriptions(carol: &Foreign) -> Vec<(&'static str, String, bool)> {
    let victim = victim();
    let plain = |more: &str| carol.sdp(&(HASTE.to_owned() + more));
    let at_victim = |sdp: String| {
        no_own_candidate(&sdp)
            .replace(
                "c=IN IP4 203.0.113.9\r\n",
                &format!("c=IN IP4 {victim}\r\n"),
            )
            .replace("m=audio 30000 ", "m=audio 20000 ")
    };
    vec![
        ("one candidate", plain(&candidates(1, "host")), true),
        (
            "a hundred candidates",
            plain(&candidates(100, "host")),
            true,
        ),
        (
            ALONE,
            no_own_candidate(&plain(&candidates(100, "host")))
                .replace("c=IN IP4 203.0.113.9\r\n", "c=IN IP4 0.0.0.0\r\n")
                .replace("m=audio 30000 ", "m=audio 9 "),
            true,
        ),
        (
            "the default destination, too",
            at_victim(plain(&candidates(100, "host"))),
            true,
        ),
        (
            "relayed and reflexive ones",
            plain(
                &(candidates(50, "relay raddr 192.0.2.200 rport 9")
                    + &candidates(50, "srflx raddr 192.0.2.200 rport 9")),
            ),
            true,
        ),
        (
            "both components",
            {
                let rtcp = candidates(50, "host").replace(" 1 UDP ", " 2 UDP ");
                let rtcp_at = format!("a=rtcp:20000 IN IP4 {victim}\r\n");
                at_victim(plain(&(candidates(50, "host") + &rtcp)))
                    .replace("a=rtcp-mux\r\n", &rtcp_at)
            },
            true,
        ),
        (
            "remote candidates alone",
            plain(&format!(
                "a=remote-candidates:1 {victim} 20000 2 {victim} 20001\r\n"
            )),
            false,
        ),
        (
            "related addresses alone",
            plain(&format!(
                "a=candidate:2 1 UDP 1694498815 203.0.113.9 30000 typ srflx raddr {victim} rport 20000\r\n"
            )),
            false,
        ),
        (
            "a name for it",
            plain(&candidates(100, "host").replace(&victim, "victim.local")),
            false,
        ),
    ]
}

/// A call to bob from a caller who wants the victim to be hit, and sends no check herself.
#[test]
fn a_caller_names_a_third_party() {
    let count = {
        let (_, carol) = bob_and_carol(Kind::Full(Role::Controlling), |_| {});
        descriptions(&carol).len()
    };
    for index in 0..count {
        let (mut stage, carol) = bob_and_carol(Kind::Full(Role::Controlling), |settings| {
            settings.answer = AnswerWhen::After(Duration::ZERO);
        });
        let hits = watch(&mut stage);
        let (name, offer, may_be_hit) = descriptions(&carol).swap_remove(index);
        print!("{name}: ");
        carol.request(&mut stage, "1 INVITE", "", &offer);
        stage.simulation.run_for(PATIENCE + Duration::from_secs(1));
        carol.request(&mut stage, "1 ACK", "", "");
        assert!(!stage.rang(), "{}", stage.story());
        let (checks, _) = assert_bounded(&hits, Duration::from_millis(20));
        assert_eq!(checks > 0, may_be_hit, "{name}");
        assert_over(&mut stage, &hits);
    }
}

/// The caller has a path of her own, is answered and talks, while the victim is named beside: all
/// that it gets is checks, and those end with the nomination or the patience.
#[test]
fn a_caller_who_talks_names_a_third_party() {
    let (mut stage, mut carol) = bob_and_carol(Kind::Full(Role::Controlling), |_| {});
    let hits = watch(&mut stage);
    let offer = carol.sdp(&(HASTE.to_owned() + &candidates(100, "host")));
    carol.request(&mut stage, "1 INVITE", "", &offer);
    let progress = carol.expect(&mut stage, "SIP/2.0 183", "INVITE");
    carol.to_tag = tag_of(&progress);
    carol.learn(&stage, progress.body());
    carol.expect(&mut stage, "SIP/2.0 200", "INVITE");
    carol.request(&mut stage, "1 ACK", "", "");
    carol.speak(&stage);
    stage.run(5);
    assert!(carol.heard(BOB_TONE) > 2.0, "{}", stage.story());
    assert_bounded(&hits, Duration::from_millis(20));
    assert_over(&mut stage, &hits);
}

/// Re-INVITEs in a good call name the victim: as the default destination, as candidates, with ICE
/// restarts without end, or with ICE left out.
#[test]
fn re_invites_name_a_third_party() {
    let (mut stage, mut carol) = bob_and_carol(Kind::Full(Role::Controlling), |settings| {
        settings.duration = None;
    });
    call_with_ice(&mut stage, &mut carol, "");
    stage.run(1);
    let hits = watch(&mut stage);
    let at_victim = |sdp: String| {
        let to = format!("c=IN IP4 {}\r\n", victim());
        sdp.replace("c=IN IP4 203.0.113.9\r\n", &to)
            .replace("m=audio 30000 ", "m=audio 20000 ")
    };
    let without_ice: String = carol
        .sdp("")
        .lines()
        .filter(|line| !line.starts_with("a=ice") && !line.starts_with("a=candidate"))
        .map(|line| format!("{line}\r\n"))
        .collect();
    let mut offers = vec![
        at_victim(carol.sdp(&candidates(1, "host"))),
        at_victim(without_ice),
        carol.sdp(&format!("a=remote-candidates:1 {} 20000\r\n", victim())),
    ];
    for number in 0..8 {
        let new = carol
            .sdp(&(HASTE.to_owned() + &candidates(60, "host")))
            .replace("a=ice-ufrag:", &format!("a=ice-ufrag:r{number}"))
            .replace("a=ice-pwd:", &format!("a=ice-pwd:r{number}"));
        offers.push(new);
    }
    for (number, offer) in offers.into_iter().enumerate() {
        let cseq = format!("{} INVITE", number + 3);
        carol.request(&mut stage, &cseq, "", &offer);
        stage.run(2);
        carol.request(&mut stage, &format!("{} ACK", number + 3), "", "");
    }
    stage.simulation.run_for(PATIENCE);
    let (checks, _) = assert_bounded(&hits, Duration::from_millis(5));
    assert!(
        checks > 0,
        "the restarts were to be tried\n{}",
        stage.story()
    );
    assert_over(&mut stage, &hits);
}

/// Without ICE the SDP's word is all there is, which is why such a ring is not verified; where ICE
/// is required, there is neither a ring nor a packet.
#[test]
fn without_ice_nothing_leaves_before_somebody_answers_and_nothing_at_all_where_ice_is_required() {
    for required in [false, true] {
        let bobs: fn(&mut Settings) = if required {
            |settings| settings.ice = IceUse::Required
        } else {
            |settings| settings.answer = AnswerWhen::Never
        };
        let (mut stage, carol) = bob_and_carol(Kind::Without, bobs);
        let hits = watch(&mut stage);
        let to = format!("c=IN IP4 {}\r\n", victim());
        let offer = carol.sdp("").replace("c=IN IP4 203.0.113.9\r\n", &to);
        carol.request(&mut stage, "1 INVITE", "", &offer);
        stage.run(20);
        assert_eq!(stage.rang(), !required);
        assert_eq!(assert_bounded(&hits, Duration::ZERO), (0, 0));
    }
}

/// Alice calls, and is flooded with early dialogs that all name the victim; then one of them
/// answers, and its patience is a new one.
#[test]
fn forks_name_a_third_party() {
    let (mut stage, carol) = alice_and_carol(Kind::Full(Role::Controlled), direct);
    let hits = watch(&mut stage);
    let invite = carol.expect(&mut stage, "INVITE", "INVITE");
    let fork = |number: u32| {
        let mut fork = carol.clone();
        fork.tag = format!("fork{number}");
        let sdp = carol
            .sdp(&(HASTE.to_owned() + &candidates(60, "host")))
            .replace("a=ice-ufrag:", &format!("a=ice-ufrag:f{number}"));
        (fork, sdp)
    };
    for number in 0..40 {
        let (fork, sdp) = fork(number);
        fork.respond(&mut stage, &invite, "183 Session Progress", "", &sdp);
    }
    stage.simulation.run_for(PATIENCE);
    let (checks, _) = assert_bounded(&hits, Duration::from_millis(5));
    assert!(checks > 0);
    let (fork, sdp) = fork(0);
    fork.respond(&mut stage, &invite, "200 OK", "", &sdp);
    carol.expect(&mut stage, "ACK", "ACK");
    let bye = carol.expect(&mut stage, "BYE", "BYE");
    carol.respond(&mut stage, &bye, "200 OK", "", "");
    assert_bounded(&hits, Duration::from_millis(5));
    assert!(stage.alice().played().is_empty());
    assert_over(&mut stage, &hits);
}

/// One answer that names the victim in every way, from a callee who is called. Where her own
/// candidate answers first, the victim gets nothing at all.
#[test]
fn a_callee_names_a_third_party() {
    let count = {
        let (_, carol) = alice_and_carol(Kind::Full(Role::Controlled), direct);
        descriptions(&carol).len()
    };
    for index in 0..count {
        let (mut stage, carol) = alice_and_carol(Kind::Full(Role::Controlled), patient);
        let hits = watch(&mut stage);
        let (name, answer, may_be_hit) = descriptions(&carol).swap_remove(index);
        print!("{name}: ");
        let invite = carol.expect(&mut stage, "INVITE", "INVITE");
        carol.respond(&mut stage, &invite, "180 Ringing", "", &answer);
        carol.respond(&mut stage, &invite, "200 OK", "", &answer);
        carol.expect(&mut stage, "ACK", "ACK");
        let bye = carol.expect(&mut stage, "BYE", "BYE");
        carol.respond(&mut stage, &bye, "200 OK", "", "");
        let (checks, _) = assert_bounded(&hits, Duration::from_millis(20));
        assert!(may_be_hit || checks == 0, "{name}");
        assert!(checks > 0 || name != ALONE, "{name}");
        assert!(stage.alice().played().is_empty());
        assert_over(&mut stage, &hits);
    }
}
