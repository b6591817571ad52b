//! Ta, the 5 ms of all agents together, the RTO and the dense re-checks.

use std::collections::BTreeMap;
use std::time::Duration;

use ringtrue_ice::{ComponentId, ForkId, SessionConfig};
use stun_types::message::MessageClass;

use crate::net::*;
use crate::stun;

const MUX: &[ComponentId] = &[ComponentId::Rtp];
const NO_MUX: &[ComponentId] = &[ComponentId::Rtp, ComponentId::Rtcp];

/// When each transaction of a phone started, and how often it was sent.
fn transactions(net: &Net, sender: usize) -> BTreeMap<u128, Vec<Duration>> {
    let mut found: BTreeMap<u128, Vec<Duration>> = BTreeMap::new();
    for (at, packet) in &net.sent {
        let read = stun::read(&packet.payload);
        if packet.sender == sender && read.class == MessageClass::Request {
            found.entry(read.id).or_default().push(*at);
        }
    }
    found
}

fn starts(net: &Net, sender: usize) -> Vec<Duration> {
    let mut starts: Vec<Duration> = transactions(net, sender)
        .into_values()
        .map(|sent| sent[0])
        .collect();
    starts.sort();
    starts
}

#[test]
fn at_most_one_new_transaction_per_ta() {
    for (asked, signalled, ta) in [
        (20, Some(ms(20)), 20),
        (20, None, 50),
        (50, Some(ms(20)), 50),
        (20, Some(ms(35)), 35),
        (5, Some(ms(5)), 5),
        (1, Some(ms(0)), 5),
    ] {
        let mut net = Net::new(PORT_RESTRICTED, SYMMETRIC);
        net.loss = 20;
        let pacing = ms(asked);
        let bob = SessionConfig {
            pacing,
            ..answerer()
        };
        net.prepare(offerer(), bob);
        let mut alice = net.description(ALICE);
        alice.pacing = signalled;
        net.start(BOB, alice, NO_MUX);
        let bob = net.description(BOB);
        net.start(ALICE, bob, NO_MUX);
        net.run_for(ms(12_000));
        let starts = starts(&net, BOB);
        assert!(starts.len() > 20);
        for pair in starts.windows(2) {
            assert!(
                pair[1] - pair[0] >= ms(ta),
                "{asked} {signalled:?}: {pair:?}"
            );
        }
        let logged = net.peers[BOB].session().transaction_starts(FORK);
        let logged: Vec<Duration> = logged.iter().map(|at| *at - net.origin).collect();
        assert_eq!(logged, starts);
    }
}

/// Five forks whose peers are all silent: each agent has its Ta, all together 5 ms, and none is
/// left behind.
#[test]
fn all_agents_together_every_5_ms() {
    let mut net = Net::new(Access::Open, Access::Blocked);
    net.prepare_default();
    net.run_for(ms(5));
    let now = net.now;
    for fork in 0..5 {
        let mut remote = net.description(BOB);
        remote.credentials.ufrag = format!("fork{fork}");
        let session = net.peers[ALICE].session_mut();
        session.start(now, ForkId(fork), remote, NO_MUX).unwrap();
    }
    net.run_for(ms(500));
    let all = starts(&net, ALICE);
    assert_eq!(all[0], ms(5), "the first check leaves at once");
    for pair in all.windows(2) {
        assert!(pair[1] - pair[0] >= ms(5), "{pair:?}");
    }
    let counts: Vec<usize> = (0..5)
        .map(|fork| {
            net.peers[ALICE]
                .session()
                .transaction_starts(ForkId(fork))
                .len()
        })
        .collect();
    let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
    assert!(most - least <= 1, "{counts:?}");
}

/// Unfinished pairs are re-checked for one second, 50 times a call at most, as new transactions;
/// after that each is retransmitted by its RTO of 500 ms and more.
#[test]
fn dense_at_first_then_by_the_rto() {
    let mut net = Net::new(ADDRESS_RESTRICTED, Access::Blocked);
    net.prepare_default();
    let alice = net.description(ALICE);
    net.run_for(ms(5));
    net.origin = net.now;
    net.start(BOB, alice, MUX);
    net.run_for(ms(9_900));
    let starts = starts(&net, BOB);
    assert!(starts.iter().all(|at| *at <= ms(1_000)));
    assert!((45..=52).contains(&starts.len()), "{}", starts.len());
    // The last transaction of each of the two pairs, and its retransmissions.
    let transactions = transactions(&net, BOB);
    let mut repeated: Vec<Vec<u128>> = transactions
        .values()
        .filter(|sent| sent.len() > 1)
        .map(|sent| {
            let gaps = sent.windows(2).map(|pair| (pair[1] - pair[0]).as_millis());
            gaps.collect()
        })
        .collect();
    repeated.sort();
    assert_eq!(repeated, vec![vec![500, 1000, 2000, 4000]; 2]);
}

/// The dense re-checks have one purse for all forks.
#[test]
fn fifty_rechecks_for_all_forks_together() {
    let mut net = Net::new(Access::Open, Access::Blocked);
    net.prepare_default();
    let now = net.now;
    for fork in 0..3 {
        let mut remote = net.description(BOB);
        remote.credentials.ufrag = format!("fork{fork}");
        let session = net.peers[ALICE].session_mut();
        session.start(now, ForkId(fork), remote, MUX).unwrap();
    }
    net.run_for(ms(3_000));
    assert_eq!(starts(&net, ALICE).len(), 50 + 3);
}

/// A session that is left alone sleeps: no timeout without a reason.
#[test]
fn quiet_when_nothing_is_to_be_done() {
    let mut net = Net::new(Access::Open, Access::Open);
    net.prepare_default();
    let peer = &net.peers[ALICE];
    assert_eq!(peer.session().poll_timeout(&peer.pacer), None);
    net.exchange(ms(10), MUX);
    net.run_for(ms(500));
    net.peers[ALICE].session_mut().stop_all();
    let peer = &net.peers[ALICE];
    assert_eq!(peer.session().poll_timeout(&peer.pacer), None);
}
