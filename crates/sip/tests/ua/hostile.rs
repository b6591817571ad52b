//! Damaged and random bytes: a 4xx or nothing, never a panic, never a loop.

use proptest::prelude::*;
use ringtrue_sip::{IcePeer, SipEvent};

use crate::wire::{Fate, Sent, Wire, address, ring};

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\n\
                   m=audio 4000 RTP/AVP 0\r\n";

/// The INVITE of an ordinary call.
fn invite() -> Sent {
    let mut wire = Wire::pair();
    wire.invite(0, "sip:bob@10.0.0.2", SDP);
    wire.sent(0, "INVITE")[0].clone()
}

/// Bob gets these bytes, and then nothing more. The status that he answered, if any.
fn fate_of(bytes: &[u8]) -> Option<u16> {
    let mut wire = Wire::pair();
    wire.inject(address(1), address(2), bytes);
    wire.run_for(50);
    for event in wire.events(1) {
        if let SipEvent::Incoming { call, .. } = event {
            wire.with(1, |e, now| {
                e.progress(now, call, b"answer".to_vec(), IcePeer::Full)
            })
            .unwrap();
            wire.with(1, |e, now| e.reject(now, call, 486, Default::default()))
                .unwrap();
        }
    }
    wire.run_for(100_000);
    assert!(
        wire.log.len() < 60,
        "one request, {} responses",
        wire.log.len()
    );
    assert!(wire.with(1, |e, _| e.is_idle()));
    let first = wire.log.first()?;
    Some(first.first_line().get(8..11)?.parse().unwrap())
}

#[test]
fn every_flipped_byte_of_an_invite() {
    let whole = invite().text.into_bytes();
    assert_eq!(fate_of(&whole), Some(100));
    let mut seen = std::collections::BTreeMap::<Option<u16>, usize>::new();
    for at in 0..whole.len() {
        for flip in [0x01, 0x20, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= flip;
            *seen.entry(fate_of(&bytes)).or_default() += 1;
        }
    }
    for status in seen.keys().flatten() {
        assert!(*status == 100 || (400..700).contains(status), "{seen:?}");
    }
    assert!(seen[&None] > 20 && seen[&Some(400)] > 100, "{seen:?}");
}

#[test]
fn every_truncated_invite() {
    let whole = invite().text.into_bytes();
    for length in 0..whole.len() {
        let status = fate_of(&whole[..length]);
        assert!(
            status.is_none_or(|s| (400..600).contains(&s)),
            "{length}: {status:?}"
        );
    }
}

/// All messages of a call with everything in it.
fn recording() -> Vec<Sent> {
    let mut wire = Wire::other_pair();
    let (_, bob) = wire.call();
    wire.with(1, |e, now| e.progress(now, bob, SDP.into(), IcePeer::Full))
        .unwrap();
    wire.run_for(100);
    wire.with(1, |e, now| e.ring(now, bob, &ring())).unwrap();
    wire.with(1, |e, now| e.accept(now, bob, None)).unwrap();
    let alice = wire.accepted(0).0;
    let bob = wire.confirmed(1).0;
    wire.with(0, |e, now| e.reinvite(now, &alice, SDP.into()))
        .unwrap();
    wire.run_for(50);
    wire.with(1, |e, now| e.answer_reinvite(now, &bob, SDP.into()))
        .unwrap();
    wire.run_for(50);
    wire.with(1, |e, now| e.bye(now, &bob, Some("over")))
        .unwrap();
    wire.run_for(50);
    wire.log
}

/// Both users do the next step; in the end they hang up. Commands may be refused.
fn act(wire: &mut Wire, end: bool) {
    for node in [0, 1] {
        for event in wire.events(node) {
            match event {
                SipEvent::Incoming { call, .. } if !end => {
                    let _ = wire.with(node, |e, now| {
                        e.progress(now, call, SDP.into(), IcePeer::Full)
                    });
                    let _ = wire.with(node, |e, now| e.ring(now, call, &ring()));
                    let _ = wire.with(node, |e, now| e.accept(now, call, None));
                }
                SipEvent::Incoming { call, .. } => {
                    let _ = wire.with(node, |e, now| e.reject(now, call, 486, Default::default()));
                }
                SipEvent::Accepted { dialog, .. } | SipEvent::Confirmed { dialog, .. } if end => {
                    let _ = wire.with(node, |e, now| e.bye(now, &dialog, None));
                }
                SipEvent::Accepted { .. } | SipEvent::Confirmed { .. } => {
                    wire.keep(node, event);
                }
                SipEvent::Reinvite { dialog, .. } => {
                    let _ = wire.with(node, |e, now| e.refuse_reinvite(now, &dialog, 488));
                }
                _ => {}
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// A call over a wire that loses, repeats and damages: it may fail, but both sides come to
    /// rest, and nothing panics.
    #[test]
    fn a_call_over_a_bad_wire(
        seed in any::<[u8; 32]>(),
        damage in 0u8..40,
        hang_up in 0u64..3_000,
    ) {
        let mut wire = Wire::pair();
        let mut at = 0usize;
        wire.filter(move |sent| {
            at += 1;
            let dice = seed[at % 32] ^ (at / 32) as u8;
            let mut bytes = sent.text.clone().into_bytes();
            if dice < damage && !bytes.is_empty() {
                let position = (usize::from(seed[(at + 7) % 32]) * 257 + at) % bytes.len();
                bytes[position] ^= seed[(at + 13) % 32] | 1;
                return Fate::Become(bytes);
            }
            if dice < 3 * damage {
                return Fate::Drop;
            }
            Fate::Pass
        });
        let alice = wire.invite(0, "sip:bob@10.0.0.2", SDP);
        for _ in 0..60 {
            wire.run_for(50);
            act(&mut wire, false);
        }
        wire.run_for(hang_up);
        let _ = wire.with(0, |e, now| e.cancel(now, alice));
        for _ in 0..300 {
            act(&mut wire, true);
            wire.run_for(1_000);
        }
        for node in [0, 1] {
            prop_assert!(wire.with(node, |e, _| e.is_idle()), "node {} is not at rest", node);
        }
    }

    /// Messages of another call, damaged, rained on two endpoints in the middle of one.
    #[test]
    fn a_rain_of_damaged_messages(drops in prop::collection::vec((any::<u16>(), any::<u16>(), any::<u8>()), 1..60)) {
        let recorded = recording();
        let mut wire = Wire::pair();
        let (alice, bob) = wire.connected();
        for (which, position, flip) in drops {
            let sent = &recorded[usize::from(which) % recorded.len()];
            let mut bytes = sent.text.clone().into_bytes();
            let position = usize::from(position) % bytes.len().max(1);
            if let Some(byte) = bytes.get_mut(position) {
                *byte ^= flip;
            }
            wire.inject(sent.from, sent.to, bytes);
            wire.run_for(5);
        }
        // The call has another Call-ID and other tags, so it stands.
        wire.run_for(1_000);
        wire.with(0, |e, now| e.bye(now, &alice, None)).unwrap();
        let ended = wire.wait(1, |event| match event {
            SipEvent::Ended { dialog, .. } => Some(dialog.clone()),
            _ => None,
        });
        prop_assert_eq!(ended, bob);
    }

    #[test]
    fn random_bytes_on_a_stream(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..20)) {
        let mut wire = Wire::pair();
        wire.with(1, |e, now| {
            let id = e.accepted_id();
            e.handle_accepted(now, id, address(1), pieces.len() % 2 == 0);
            for piece in &pieces {
                e.handle_stream(now, id, piece);
            }
            e.handle_closed(now, id, None);
        });
        wire.run_for(100_000);
        prop_assert!(wire.with(1, |e, _| e.is_idle()));
    }
}
