//! Mutations of every packet of a call, by strangers and by a peer that knows the passwords.

use std::net::SocketAddr;

use ringtrue_ice::ComponentId;
use ringtrue_testnet::{Dice, fuzz};
use stun_types::attribute::{AttributeType, RawAttribute};
use stun_types::message::{Message, MessageType, MessageWriteVec, TransactionId};
use stun_types::prelude::MessageWriteExt;

use crate::net::*;
use crate::stun;

const BOTH: &[ComponentId] = &[ComponentId::Rtp, ComponentId::Rtcp];
/// MESSAGE-INTEGRITY, its SHA-256 variant and FINGERPRINT are made, not copied.
const MADE: [u16; 3] = [0x0008, 0x001c, 0x8028];

type Attributes = Vec<(u16, Vec<u8>)>;

/// Type, transaction id and attributes of a STUN message, as far as they can be read.
fn take_apart(payload: &[u8]) -> Option<(u16, u128, Attributes)> {
    let number = |bytes: &[u8]| u16::from_be_bytes([bytes[0], bytes[1]]);
    let kind = number(payload.get(..2)?);
    let id = payload.get(8..20)?;
    let id = id.iter().fold(0, |id, byte| id << 8 | u128::from(*byte));
    let mut attributes = Vec::new();
    let mut rest = payload.get(20..)?;
    while rest.len() >= 4 {
        let (name, length) = (number(rest), usize::from(number(&rest[2..])));
        let Some(value) = rest.get(4..4 + length) else {
            break;
        };
        if !MADE.contains(&name) {
            attributes.push((name, value.to_vec()));
        }
        rest = rest
            .get(4 + length.next_multiple_of(4)..)
            .unwrap_or_default();
    }
    Some((kind, id, attributes))
}

/// The message with other attributes, and perhaps another type, keyed anew.
fn rebuild(dice: &mut Dice, payload: &[u8], password: Option<&str>) -> Option<Vec<u8>> {
    let (mut kind, mut id, mut attributes) = take_apart(payload)?;
    if dice.percent(20) {
        kind = *dice.pick(&[0x0001, 0x0011, 0x0101, 0x0111, 0x0003, 0x0103]);
    }
    if dice.percent(20) {
        id = u128::from(dice.number());
    }
    for _ in 0..dice.below(4) {
        let at = dice.below(attributes.len());
        match dice.below(5) {
            0 if !attributes.is_empty() => drop(attributes.remove(at)),
            1 if !attributes.is_empty() => {
                let value = attributes[at].1.clone();
                attributes[at].1 = dice.mutate(&value, &[]);
            }
            2 if !attributes.is_empty() => attributes.push(attributes[at].clone()),
            3 => attributes.push((dice.number() as u16, vec![7; dice.below(40)])),
            _ => attributes.push((*dice.pick(&[0x0025, 0x802a, 0x8029, 0x0009]), dice.bytes(8))),
        }
    }
    let kind = MessageType::from_bytes(&kind.to_be_bytes()).ok()?;
    let mut out = Message::builder(kind, TransactionId::from(id), MessageWriteVec::new());
    for (name, value) in &attributes {
        if !MADE.contains(name) && value.len() <= 1_000 {
            let attribute = RawAttribute::new(AttributeType::new(*name), value);
            // One that may not be there twice, or is too long, stays away.
            let _ = out.add_attribute(&attribute);
        }
    }
    Some(stun::finish(out, password))
}

/// Whatever comes in, at most one packet leaves for it at once, hardly longer than it; what the
/// session holds has a bound, and it comes to its end.
#[test]
fn mutations_of_a_call() {
    fuzz("stun", 150, |dice| {
        let mut net = Net::new(Access::Open, Access::Open).seeded(dice.number() >> 1);
        net.call(ms(10), BOTH, ms(5));
        let passwords = [ALICE, BOB].map(|index| net.description(index).credentials.pwd);
        let mut inputs = 0;
        for _ in 0..100 {
            net.run_for(ms(dice.below(60) as u64));
            if net.sent.is_empty() {
                continue;
            }
            let victim = dice.below(2);
            let packet = dice.pick(&net.sent).1.clone();
            let password = dice.pick(&passwords).clone();
            let payload = match dice.below(3) {
                0 => Some(dice.mutate(&packet.payload, &[])),
                1 => rebuild(dice, &packet.payload, Some(&password)),
                _ => rebuild(dice, &packet.payload, None),
            };
            let Some(payload) = payload else { continue };
            let component = *dice.pick(BOTH);
            let stranger = SocketAddr::from(([198, 18, 0, dice.number() as u8], 9));
            let from = *dice.pick(&[packet.base, stranger]);
            net.pump();
            let before = net.sent.len();
            let now = net.now;
            let local = net.peers[victim].base(component);
            let session = net.peers[victim].session_mut();
            session.handle_datagram(now, local, from, &payload);
            let mut answers = Vec::new();
            while let Some(answer) = session.poll_transmit() {
                answers.push(answer.payload.len());
            }
            inputs += 1;
            assert!(answers.len() <= 1, "{} packets for one", answers.len());
            assert!(answers.iter().sum::<usize>() <= payload.len() + 44);
            net.pump();
            // Checks that it has triggered are paced.
            assert!(net.sent.len() - before <= 2);
        }
        net.run_for(ms(60_000));
        for peer in &net.peers {
            let weight = format!("{:?}", peer.session()).len();
            assert!(weight < 2_000_000, "{weight}");
        }
        inputs
    });
}
