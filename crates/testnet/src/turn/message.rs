//! The messages of RFC 8656, as a server reads and writes them.

use std::net::SocketAddr;
use std::time::Duration;

use stun_types::attribute::{
    AttributeType, ErrorCode, Nonce, RawAttribute, Realm, Username, XorMappedAddress,
};
use stun_types::message::{
    IntegrityAlgorithm, LongTermKeyCredentials, Message, MessageClass, MessageIntegrityCredentials,
    MessageType, MessageWriteVec, Method as WireMethod, TransactionId,
};
use stun_types::prelude::{
    Attribute, AttributeFromRaw, AttributeStaticType, MessageWrite, MessageWriteExt,
};

use crate::stun::masked;

const REALM: &str = "testnet.example";

const CHANNEL_NUMBER: AttributeType = AttributeType::new(0x000c);
const LIFETIME: AttributeType = AttributeType::new(0x000d);
const XOR_PEER_ADDRESS: AttributeType = AttributeType::new(0x0012);
const DATA: AttributeType = AttributeType::new(0x0013);
const XOR_RELAYED_ADDRESS: AttributeType = AttributeType::new(0x0016);
const REQUESTED_ADDRESS_FAMILY: AttributeType = AttributeType::new(0x0017);
const REQUESTED_TRANSPORT: AttributeType = AttributeType::new(0x0019);
const PASSWORD_ALGORITHM: AttributeType = AttributeType::new(0x001d);
const ADDITIONAL_ADDRESS_FAMILY: AttributeType = AttributeType::new(0x8000);
const PASSWORD_ALGORITHMS: AttributeType = AttributeType::new(0x8002);

/// RFC 8489 section 14.11: SHA-256, then MD5, both without parameters.
const ALGORITHMS: [u8; 8] = [0, 2, 0, 0, 0, 1, 0, 0];

const SEND: u16 = 6;
const DATA_METHOD: u16 = 7;

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Allocate,
    Refresh,
    CreatePermission,
    ChannelBind,
}

/// How a request ends.
#[derive(Debug)]
pub(super) enum Settled {
    Allocated {
        relayed: Vec<SocketAddr>,
        mapped: SocketAddr,
        lifetime: Duration,
    },
    Refreshed(Duration),
    Done,
    Refused(u16),
}

/// A request, read.
#[derive(Debug)]
pub(super) struct Request {
    bytes: Vec<u8>,
    pub(super) method: Method,
    pub(super) id: [u8; 12],
    /// USERNAME and NONCE, if there is a MESSAGE-INTEGRITY to go with them.
    pub(super) claims: Option<(String, String)>,
    pub(super) lifetime: Option<Duration>,
    /// REQUESTED-TRANSPORT.
    pub(super) transport: Option<u8>,
    /// REQUESTED-ADDRESS-FAMILY.
    pub(super) family: Option<u8>,
    /// ADDITIONAL-ADDRESS-FAMILY.
    pub(super) additional_family: Option<u8>,
    pub(super) channel: Option<u16>,
    pub(super) peers: Vec<SocketAddr>,
}

impl Request {
    pub(super) fn parse(payload: &[u8]) -> Option<Self> {
        let message = Message::from_bytes(payload).ok()?;
        if !message.has_class(MessageClass::Request) {
            return None;
        }
        let method = match message.method().value() {
            3 => Method::Allocate,
            4 => Method::Refresh,
            8 => Method::CreatePermission,
            9 => Method::ChannelBind,
            _ => return None,
        };
        let claims = message
            .attribute::<Username>()
            .ok()
            .zip(message.attribute::<Nonce>().ok())
            .map(|(user, nonce)| (user.username().to_owned(), nonce.nonce().to_owned()));
        let raw = |kind| message.raw_attribute(kind);
        let lifetime = raw(LIFETIME).and_then(|raw| {
            let seconds = u32::from_be_bytes((*raw.value).try_into().ok()?);
            Some(Duration::from_secs(u64::from(seconds)))
        });
        let peers = message
            .iter_attributes()
            .filter(|(_, raw)| raw.get_type() == XOR_PEER_ADDRESS)
            .filter_map(|(_, raw)| unmask(&raw.value, message.transaction_id()))
            .collect();
        Some(Self {
            bytes: payload.to_vec(),
            method,
            id: id_of(payload)?,
            claims,
            lifetime,
            transport: raw(REQUESTED_TRANSPORT).and_then(|raw| raw.value.first().copied()),
            family: raw(REQUESTED_ADDRESS_FAMILY).and_then(|raw| raw.value.first().copied()),
            additional_family: raw(ADDITIONAL_ADDRESS_FAMILY)
                .and_then(|raw| raw.value.first().copied()),
            channel: raw(CHANNEL_NUMBER).and_then(|raw| {
                let (number, _) = raw.value.split_first_chunk::<2>()?;
                Some(u16::from_be_bytes(*number))
            }),
            peers,
        })
    }

    /// Whether MESSAGE-INTEGRITY, or that of SHA-256, is made with this password.
    pub(super) fn is_keyed_with(&self, user: &str, password: &str, sha256: bool) -> bool {
        let key = key(user, password).make_key(algorithm(sha256));
        Message::from_bytes(&self.bytes)
            .is_ok_and(|message| message.validate_integrity_with_key(&key).is_ok())
    }

    /// RFC 8489 section 9.2.4: the offer came back as it was made, with a choice of SHA-256.
    pub(super) fn echoes_algorithms(&self) -> bool {
        Message::from_bytes(&self.bytes).is_ok_and(|message| {
            let value = |kind| message.raw_attribute(kind).map(|raw| raw.value.to_vec());
            value(PASSWORD_ALGORITHMS) == Some(ALGORITHMS.to_vec())
                && value(PASSWORD_ALGORITHM) == Some(ALGORITHMS[..4].to_vec())
        })
    }

    /// The response (RFC 8489 section 9.2.4 says what protects it).
    pub(super) fn answer(
        &self,
        settled: &Settled,
        nonce: &str,
        (user, password): (&str, &str),
        sha256: bool,
    ) -> Vec<u8> {
        let class = match settled {
            Settled::Refused(_) => MessageClass::Error,
            _ => MessageClass::Success,
        };
        let message = Message::from_bytes(&self.bytes).expect("it was parsed before");
        let id = message.transaction_id();
        let kind = MessageType::from_class_method(class, message.method());
        let mut out = Message::builder(kind, id, MessageWriteVec::new());
        write_outcome(&mut out, settled, id, nonce);
        if sha256 && matches!(settled, Settled::Refused(401 | 438)) {
            out.add_attribute(&RawAttribute::new(PASSWORD_ALGORITHMS, &ALGORITHMS))
                .expect("a short attribute fits");
        }
        if !matches!(settled, Settled::Refused(401 | 438)) {
            out.add_message_integrity(&key(user, password), algorithm(sha256))
                .expect("it has none yet");
        }
        out.finish()
    }
}

fn write_outcome(out: &mut MessageWriteVec, settled: &Settled, id: TransactionId, nonce: &str) {
    let fits = "a few short attributes fit";
    match settled {
        Settled::Allocated {
            relayed,
            mapped,
            lifetime,
        } => {
            for relayed in relayed {
                let relayed = masked(wire_id(id), *relayed);
                out.add_attribute(&RawAttribute::new(XOR_RELAYED_ADDRESS, &relayed))
                    .expect(fits);
            }
            out.add_attribute(&XorMappedAddress::new(*mapped, id))
                .expect(fits);
            add_lifetime(out, *lifetime);
        }
        Settled::Refreshed(lifetime) => add_lifetime(out, *lifetime),
        Settled::Done => {}
        Settled::Refused(code) => {
            out.add_attribute(&ErrorCode::new(*code, "").expect("a code of three digits"))
                .expect(fits);
            if matches!(code, 401 | 438) {
                out.add_attribute(&Realm::new(REALM).expect("short"))
                    .expect(fits);
                out.add_attribute(&Nonce::new(nonce).expect("short"))
                    .expect(fits);
            }
        }
    }
}

fn add_lifetime(out: &mut MessageWriteVec, lifetime: Duration) {
    let seconds = u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX);
    out.add_attribute(&RawAttribute::new(LIFETIME, &seconds.to_be_bytes()))
        .expect("a short attribute fits");
}

fn key(user: &str, password: &str) -> MessageIntegrityCredentials {
    LongTermKeyCredentials::new(user.to_owned(), password.to_owned(), REALM.to_owned()).into()
}

fn algorithm(sha256: bool) -> IntegrityAlgorithm {
    if sha256 {
        IntegrityAlgorithm::Sha256
    } else {
        IntegrityAlgorithm::Sha1
    }
}

fn id_of(payload: &[u8]) -> Option<[u8; 12]> {
    payload.get(8..20)?.try_into().ok()
}

fn wire_id(id: TransactionId) -> [u8; 12] {
    let bytes = u128::from(id).to_be_bytes();
    std::array::from_fn(|index| bytes[index + 4])
}

/// The address of such a value.
fn unmask(value: &[u8], id: TransactionId) -> Option<SocketAddr> {
    let raw = RawAttribute::new(XorMappedAddress::TYPE, value);
    Some(XorMappedAddress::from_raw(raw).ok()?.addr(id))
}

/// Peer and data of a Send indication.
pub(super) fn read_send_indication(payload: &[u8]) -> Option<(SocketAddr, Vec<u8>)> {
    let message = Message::from_bytes(payload).ok()?;
    if !message.has_class(MessageClass::Indication) || message.method().value() != SEND {
        return None;
    }
    let peer = message.raw_attribute(XOR_PEER_ADDRESS)?;
    let peer = unmask(&peer.value, message.transaction_id())?;
    let data = message.raw_attribute(DATA)?;
    Some((peer, data.value.to_vec()))
}

/// A Data indication.
pub(super) fn data_indication(peer: SocketAddr, data: &[u8]) -> Vec<u8> {
    let kind =
        MessageType::from_class_method(MessageClass::Indication, WireMethod::new(DATA_METHOD));
    // Nobody answers an indication: its id need not differ from others.
    let id = TransactionId::from(u128::from(peer.port()));
    let mut out = Message::builder(kind, id, MessageWriteVec::new());
    let peer = masked(wire_id(id), peer);
    out.add_attribute(&RawAttribute::new(XOR_PEER_ADDRESS, &peer))
        .expect("a short attribute fits");
    out.add_attribute(&RawAttribute::new(DATA, data))
        .expect("a datagram fits");
    out.finish()
}

/// Number and data of a ChannelData message (RFC 8656 section 12.4).
pub(super) fn read_channel_data(payload: &[u8]) -> Option<(u16, &[u8])> {
    let (number, rest) = payload.split_first_chunk::<2>()?;
    let (length, data) = rest.split_first_chunk::<2>()?;
    let number = u16::from_be_bytes(*number);
    let data = data.get(..usize::from(u16::from_be_bytes(*length)))?;
    (0x4000..=0x4fff)
        .contains(&number)
        .then_some((number, data))
}

/// A ChannelData message; over UDP it needs no padding.
pub(super) fn channel_data(channel: u16, data: &[u8]) -> Vec<u8> {
    let mut out = channel.to_be_bytes().to_vec();
    out.extend((data.len() as u16).to_be_bytes());
    out.extend(data);
    out
}
