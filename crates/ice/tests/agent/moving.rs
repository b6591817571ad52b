//! Pairs in doubt, and a peer whose checks come from another address than before.

use std::net::SocketAddr;

use ringtrue_ice::{ComponentId, Credentials};
use stun_types::message::MessageClass;

use crate::net::*;
use crate::stun::{self, ICE_CONTROLLING, Request};

const RTP: ComponentId = ComponentId::Rtp;
const MUX: &[ComponentId] = &[RTP];

/// Bob, long connected with a peer that the test plays from now on.
fn connected() -> (Net, Credentials, SocketAddr) {
    let mut net = Net::new(Access::Open, Access::Open);
    net.call(ms(20), MUX, ms(5_000));
    let alice = net.description(ALICE).credentials;
    let old = net.peers[BOB].session().path(FORK, RTP).unwrap().remote;
    net.peers[ALICE].session = None;
    (net, alice, old)
}

fn check_from(net: &mut Net, alice: &Credentials, from: SocketAddr, id: u128) {
    let bob = net.description(BOB).credentials;
    let request = Request {
        id,
        to: &bob,
        from_ufrag: &alice.ufrag,
        password: &bob.pwd,
        role: (ICE_CONTROLLING, 1),
        use_candidate: false,
    };
    net.inject(BOB, RTP, from, &request.to_bytes());
    net.run_for(ms(60));
}

/// Bob's checks that went to an address since the log was cleared.
fn checks_to(net: &Net, to: SocketAddr) -> Vec<Packet> {
    let requests = net.sent.iter().map(|(_, packet)| packet).filter(|packet| {
        packet.to == to && stun::read(&packet.payload).class == MessageClass::Request
    });
    requests.cloned().collect()
}

fn answer_last(net: &mut Net, alice: &Credentials, from: SocketAddr) {
    let check = checks_to(net, from).pop().expect("it is checked");
    let reply = stun::success(&check.payload, check.base, Some(&alice.pwd));
    net.inject(BOB, RTP, from, &reply);
}

fn path(net: &Net) -> SocketAddr {
    net.peers[BOB].session().path(FORK, RTP).unwrap().remote
}

#[test]
fn a_peer_that_a_nat_maps_anew_is_followed() {
    let (mut net, alice, old) = connected();
    let mut new = old;
    new.set_port(9_009);
    net.sent.clear();
    check_from(&mut net, &alice, new, 1);
    // Nothing changes before the new pair is valid, and the old one is asked as well.
    assert_eq!(path(&net), old);
    assert!(!checks_to(&net, old).is_empty());
    answer_last(&mut net, &alice, new);
    assert_eq!(path(&net), new);
}

/// A check that somebody plays again from elsewhere: the pair in use answers, and stays in use.
#[test]
fn the_selected_pair_stays_while_it_answers() {
    let (mut net, alice, old) = connected();
    let mut new = old;
    new.set_port(9_009);
    net.sent.clear();
    check_from(&mut net, &alice, new, 1);
    answer_last(&mut net, &alice, new);
    answer_last(&mut net, &alice, old);
    assert_eq!(path(&net), old);
    // And so many cost so many checks, not more.
    let mut checked = 0;
    for port in 10_000..10_200 {
        let mut next = old;
        next.set_port(port);
        check_from(&mut net, &alice, next, u128::from(port));
        checked += usize::from(!checks_to(&net, next).is_empty());
    }
    assert!((1..32).contains(&checked), "{checked}");
}

/// In doubt the pair is asked ten times a second, then four times, until it answers.
#[test]
fn a_pair_in_doubt_is_asked_until_it_answers() {
    let (mut net, alice, old) = connected();
    net.sent.clear();
    let now = net.now;
    let bob = net.peers[BOB].session_mut();
    assert!(!bob.is_doubtful(FORK));
    bob.probe(now, FORK);
    assert!(bob.is_doubtful(FORK));
    net.run_for(ms(2_000));
    let asked = checks_to(&net, old).len();
    assert!((15..=25).contains(&asked), "{asked}");
    net.run_for(ms(10_000));
    let later = checks_to(&net, old).len() - asked;
    assert!((30..=50).contains(&later), "{later}");
    assert!(net.peers[BOB].session().is_doubtful(FORK));
    answer_last(&mut net, &alice, old);
    assert!(!net.peers[BOB].session().is_doubtful(FORK));
    assert!(!net.peers[BOB].session().is_remapped(FORK));
    net.sent.clear();
    net.run_for(ms(12_000));
    assert!(checks_to(&net, old).len() <= 5);
}
