//! A TURN server that means no good: mutations of what a real one says, and answers with our own
//! password on them that no server would give, on connections and in datagrams.

use ringtrue_ice::{TurnStream, TurnTransport};
use ringtrue_testnet::{Dice, GatewayConfig, fuzz};
use stun_types::attribute::{
    AttributeType, ErrorCode, Nonce, RawAttribute, Realm, XorMappedAddress,
};
use stun_types::message::{
    IntegrityAlgorithm, LongTermKeyCredentials, Message, MessageClass, MessageIntegrityCredentials,
    MessageType, MessageWriteVec, TransactionId,
};
use stun_types::prelude::{AttributeWrite, MessageWrite, MessageWriteExt};

use crate::stage::{BOB, BOB_6, RTP, Stage, addr, at, every_way, ms, rtp, server, tls};

const XOR_PEER_ADDRESS: u16 = 0x0012;
const DATA: u16 = 0x0013;
const XOR_RELAYED_ADDRESS: u16 = 0x0016;
const CODES: [u16; 14] = [
    300, 400, 401, 403, 420, 437, 438, 440, 441, 442, 443, 486, 500, 508,
];

fn add(out: &mut MessageWriteVec, kind: u16, value: &[u8]) {
    // One that does not fit stays away.
    let _ = out.add_attribute(&RawAttribute::new(AttributeType::new(kind), value));
}

/// What the server could say to this request, for whatever reasons.
fn answer(dice: &mut Dice, request: &[u8]) -> Option<Vec<u8>> {
    let message = Message::from_bytes(request).ok()?;
    let id = message.transaction_id();
    let refuses = dice.percent(40);
    let class = match refuses {
        true => MessageClass::Error,
        false => MessageClass::Success,
    };
    let kind = MessageType::from_class_method(class, message.method());
    let mut out = Message::builder(kind, id, MessageWriteVec::new());
    if refuses {
        let code = ErrorCode::builder(*dice.pick(&CODES)).build().ok()?;
        out.add_attribute(&code).ok()?;
    }
    if dice.percent(if refuses { 60 } else { 10 }) {
        let nonce = *dice.pick(&["n", "obMatJos2gAAAn", "obMatJos2AAAAn", "obMatJos2"]);
        let realm = *dice.pick(&["testnet.example", "elsewhere", ""]);
        // Some cannot be written.
        let _ = out.add_attribute(&Nonce::new(nonce).ok()?);
        let _ = out.add_attribute(&Realm::new(realm).ok()?);
    }
    if dice.percent(20) {
        let length = 4 * dice.below(6);
        let algorithms = dice.bytes(length);
        add(&mut out, 0x8002, &algorithms);
    }
    for _ in 0..dice.below(4) {
        let address = *dice.pick(&["192.0.2.1:1", "0.0.0.0:0", "[2001:db8::1]:1", BOB, RTP]);
        let masked = XorMappedAddress::new(addr(address), id);
        add(&mut out, XOR_RELAYED_ADDRESS, &masked.to_raw().value);
    }
    if dice.percent(70) {
        let mapped = XorMappedAddress::new(addr("203.0.113.1:4000"), id);
        out.add_attribute(&mapped).ok()?;
    }
    if dice.percent(70) {
        let lifetime = *dice.pick(&[0, 1, 2, 60, 600, u32::MAX]);
        add(&mut out, 0x000d, &lifetime.to_be_bytes());
    }
    if dice.percent(80) {
        let [user, password, realm] = ["alice", "secret", "testnet.example"].map(str::to_owned);
        let key: MessageIntegrityCredentials =
            LongTermKeyCredentials::new(user, password, realm).into();
        let algorithm = *dice.pick(&[IntegrityAlgorithm::Sha1, IntegrityAlgorithm::Sha256]);
        out.add_message_integrity(&key, algorithm).ok()?;
    }
    Some(out.finish())
}

/// Data of a peer that may never have been asked for.
fn indication(dice: &mut Dice) -> Vec<u8> {
    let id = TransactionId::from(u128::from(dice.number()));
    let kind = MessageType::from_bytes(&[0x00, 0x17]).expect("a Data indication");
    let mut out = Message::builder(kind, id, MessageWriteVec::new());
    let peer = *dice.pick(&[BOB, BOB_6, "198.18.0.1:9"]);
    let peer = XorMappedAddress::new(addr(peer), id);
    add(&mut out, XOR_PEER_ADDRESS, &peer.to_raw().value);
    let length = dice.below(1500);
    add(&mut out, DATA, &dice.bytes(length));
    out.finish()
}

/// ChannelData, whose length may promise more than comes.
fn channel_data(dice: &mut Dice) -> Vec<u8> {
    let number = *dice.pick(&[0x4000_u16, 0x4001, 0x4fff, 0x5000, 0x7fff]);
    let length = dice.below(1500);
    let told = if dice.percent(80) {
        length as u16
    } else {
        dice.number() as u16
    };
    let mut out = [number.to_be_bytes(), told.to_be_bytes()].concat();
    out.extend(dice.bytes(length));
    if dice.percent(80) {
        out.resize(out.len().next_multiple_of(4), 0);
    }
    out
}

fn input(dice: &mut Dice, stage: &Stage) -> Vec<u8> {
    let last = stage.requests_sent.len().saturating_sub(1 + dice.below(3));
    let request = stage.requests_sent.get(last);
    let made = match dice.below(6) {
        0 => Some(indication(dice)),
        1 => Some(channel_data(dice)),
        2 if !stage.heard.is_empty() => Some(dice.pick(&stage.heard).clone()),
        _ => request.and_then(|request| answer(dice, request)),
    };
    let made = made.unwrap_or_else(|| vec![0, 0, 0]);
    if dice.percent(40) {
        dice.mutate(&made, &stage.heard)
    } else {
        made
    }
}

/// What the owner of the gatherer does meanwhile.
fn act(dice: &mut Dice, stage: &mut Stage) {
    let now = stage.world.now();
    let servers = every_way();
    match dice.below(12) {
        0 => {
            let bases = vec![crate::stage::base(RTP)];
            let config = crate::stage::config(servers);
            stage.gatherer.gather_again(now, config, bases);
        }
        1 => stage.gatherer.verify(now),
        2 => stage.gatherer.tell(),
        3..6 => {
            if let Some(base) = stage.relayed().first() {
                let (to, length) = (*dice.pick(&[BOB, BOB_6]), dice.below(9));
                stage.send(*base, to, &rtp(length));
            }
        }
        6 => {
            if let Some((stream, _)) = stage.streams.last() {
                stage.gatherer.handle_stream_closed(now, *stream);
            }
        }
        7 => {
            if let Some((stream, _)) = stage.streams.first() {
                stage.gatherer.handle_stream_connected(now, *stream);
            }
        }
        _ => {}
    }
    stage.run(ms(dice.below(900) as u64));
}

/// Whatever the server sends, in whatever pieces: no panic, a bounded answer to each input, a
/// bounded memory, and at the end nothing is left.
#[test]
fn answers_of_a_hostile_server() {
    fuzz("turn", 120, |dice| {
        let mut inputs = 0;
        let ways = match dice.below(4) {
            0 => vec![at(3478, TurnTransport::Udp)],
            1 => vec![at(3478, TurnTransport::Tcp)],
            2 => vec![at(443, tls())],
            _ => every_way(),
        };
        let ipv6 = addr("[2001:db8::1]:1").ip();
        let turn = match dice.below(3) {
            0 => server(),
            1 => server().with_ipv6(ipv6),
            _ => server().with_sha256(),
        };
        let firewall = if dice.percent(50) {
            GatewayConfig::eating_udp
        } else {
            |nat: GatewayConfig| nat
        };
        let mut stage = Stage::new(firewall, turn, ways);
        stage.run(ms(dice.below(600) as u64));
        for _ in 0..40 {
            act(dice, &mut stage);
            let bytes = input(dice, &stage);
            let now = stage.world.now();
            let streams: Vec<TurnStream> = stage.streams.iter().map(|(own, _)| *own).collect();
            inputs += 1;
            if streams.is_empty() || dice.percent(20) {
                let from = addr("198.51.100.1:3478");
                stage.gatherer.handle_datagram(now, addr(RTP), from, &bytes);
            } else {
                let stream = *dice.pick(&streams[streams.len().saturating_sub(3)..]);
                let size = 1 + dice.below(2000);
                for piece in bytes.chunks(size) {
                    stage.gatherer.handle_stream(now, stream, piece);
                }
            }
            // A message has 4 bytes at least, and asks for one of ours, or an end and a beginning.
            let answers = stage.flush_counting();
            assert!(answers <= 2 + bytes.len() / 4, "{answers} for {bytes:?}");
            let data = std::iter::from_fn(|| stage.gatherer.poll_relayed());
            let data: Vec<_> = data.map(|relayed| relayed.payload.len()).collect();
            assert!(data.len() <= 64 && data.iter().all(|length| *length <= 65_535));
            let weight = format!("{:?}", stage.gatherer).len();
            assert!(weight < 1_000_000, "{weight}");
        }
        assert!(stage.connects.len() <= 600, "{}", stage.connects.len());
        stage.gatherer.release_all(stage.world.now());
        stage.run(ms(60_000));
        assert!(stage.gatherer.is_released());
        let weight = format!("{:?}", stage.gatherer).len();
        assert!(weight < 100_000, "{weight}");
        inputs
    });
}
