//! Consent freshness (RFC 7675): from the proof on, while ringing, until the end.

use ringtrue_ice::{ComponentId, Refused};
use stun_types::message::MessageClass;

use crate::net::*;
use crate::stun;

const MUX: &[ComponentId] = &[ComponentId::Rtp];
const NO_MUX: &[ComponentId] = &[ComponentId::Rtp, ComponentId::Rtcp];

/// The times of a phone's requests on one component.
fn requests(net: &Net, sender: usize, component: ComponentId) -> Vec<u128> {
    let base = net.peers[sender].base(component);
    net.sent
        .iter()
        .filter(|(_, packet)| {
            packet.base == base && stun::read(&packet.payload).class == MessageClass::Request
        })
        .map(|(at, _)| at.as_millis())
        .collect()
}

/// A path that is silent but for consent stays open behind NATs whose bindings need it, and each
/// component is asked every 4 to 6 s, once, never twice.
#[test]
fn asked_every_4_to_6_seconds_for_an_hour() {
    let mut net = Net::new(PORT_RESTRICTED, ADDRESS_RESTRICTED);
    net.call(ms(20), NO_MUX, ms(3_600_000));
    for index in [ALICE, BOB] {
        assert!(
            net.peers[index]
                .when(|seen| *seen == Seen::ConsentLost)
                .is_none()
        );
        for component in NO_MUX {
            let late: Vec<u128> = requests(&net, index, *component)
                .into_iter()
                .filter(|at| *at > 10_000)
                .collect();
            assert!((600..=900).contains(&late.len()), "{}", late.len());
            let mut gaps: Vec<u128> = late.windows(2).map(|pair| pair[1] - pair[0]).collect();
            gaps.sort_unstable();
            // A slot may have been taken by the other component: one Ta later at most.
            assert!(
                gaps[0] >= 3_980 && gaps[gaps.len() - 1] <= 6_020,
                "{gaps:?}"
            );
            assert!(gaps[gaps.len() - 1] - gaps[0] > 1_000, "spread at random");
        }
    }
}

/// Alice's link dies while bob's phone rings, or before he picks up.
#[test]
fn lost_while_ringing() {
    let mut net = Net::new(PORT_RESTRICTED, FULL_CONE);
    net.call(ms(20), MUX, ms(2_000));
    assert_eq!(net.peers[BOB].proofs.len(), 1);
    let last_answer = net
        .sent
        .iter()
        .filter(|(_, packet)| packet.sender == ALICE)
        .map(|(at, _)| *at)
        .next_back()
        .unwrap();
    net.loss = 100;
    net.run_for(ms(40_000));
    let lost = net.peers[BOB]
        .when(|seen| *seen == Seen::ConsentLost)
        .unwrap();
    let expected = (last_answer + net.delay + ms(30_000)).as_millis();
    assert!(lost.abs_diff(expected) <= 20, "{lost}, {expected}");
    // RFC 7675 section 5.1: each was a new transaction, sent once.
    let mut ids: Vec<u128> = net
        .sent
        .iter()
        .filter(|(at, packet)| packet.sender == BOB && *at > ms(2_000))
        .map(|(_, packet)| stun::read(&packet.payload).id)
        .collect();
    let asked = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), asked);
    assert!((5..=8).contains(&asked), "{asked}");
    let bob = &mut net.peers[BOB];
    assert!(bob.session().path(FORK, ComponentId::Rtp).is_none());
    // A proof that had not been used yet is void.
    let gate = bob.gates.remove(&FORK).unwrap();
    let (_, proof) = bob.proofs.pop().unwrap();
    assert_eq!(gate.open(proof).err(), Some(Refused::Void));
    // And nothing is sent any more, not even when the link comes back.
    net.loss = 0;
    let sent = net.sent.len();
    net.run_for(ms(60_000));
    assert_eq!(net.sent.len(), sent);
}

/// Three lost consent checks in a row are no reason to give up; 10 % loss is none either.
#[test]
fn loss_is_survived() {
    let mut net = Net::new(ADDRESS_RESTRICTED, ADDRESS_RESTRICTED).seeded(3);
    net.call(ms(20), MUX, ms(2_000));
    net.loss = 100;
    net.run_for(ms(17_000));
    net.loss = 10;
    net.run_for(ms(600_000));
    for peer in &net.peers {
        assert!(peer.when(|seen| *seen == Seen::ConsentLost).is_none());
        assert!(peer.session().path(FORK, ComponentId::Rtp).is_some());
    }
}

/// RFC 7675 section 5.2: an authenticated 403 revokes at once; a stranger's does not.
#[test]
fn revoked() {
    let mut net = Net::new(Access::Open, Access::Open);
    net.call(ms(20), MUX, ms(1_000));
    let alice = net.description(ALICE).credentials;
    let alice_at = net.peers[ALICE].base(ComponentId::Rtp);
    net.loss = 100;
    let sent = net.sent.len();
    net.run_for(ms(7_000));
    let consent = net.sent[sent..]
        .iter()
        .find(|(_, packet)| packet.sender == BOB)
        .map(|(_, packet)| packet.payload.clone())
        .unwrap();
    let forged = stun::error(&consent, 403, None);
    net.inject(BOB, ComponentId::Rtp, alice_at, &forged);
    assert!(
        net.peers[BOB]
            .when(|seen| *seen == Seen::ConsentLost)
            .is_none()
    );
    let genuine = stun::error(&consent, 403, Some(&alice.pwd));
    net.inject(BOB, ComponentId::Rtp, alice_at, &genuine);
    assert!(
        net.peers[BOB]
            .when(|seen| *seen == Seen::ConsentLost)
            .is_some()
    );
}

/// Without mux, component 2 alone dies: the call is over, for the proof spoke of both.
#[test]
fn component_2_counts_too() {
    let mut net = Net::new(Access::Open, Access::Open);
    net.call(ms(20), NO_MUX, ms(1_000));
    let dead = [ALICE, BOB].map(|index| net.peers[index].base(ComponentId::Rtcp));
    net.tap = Some(Box::new(move |_, packet| {
        if dead.contains(&packet.base) {
            Fate::Drop
        } else {
            Fate::Pass
        }
    }));
    net.run_for(ms(40_000));
    for peer in &net.peers {
        assert!(peer.when(|seen| *seen == Seen::ConsentLost).is_some());
    }
}
