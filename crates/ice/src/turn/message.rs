//! The messages of RFC 8656, as a client writes and reads them.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use stun_types::attribute::{
    AttributeType, ErrorCode, Nonce, RawAttribute, Realm, Username, XorMappedAddress,
};
use stun_types::message::{
    Message, MessageClass, MessageType, MessageWriteVec, Method, TransactionId as WireId,
};
use stun_types::prelude::{
    Attribute, AttributeFromRaw, AttributeStaticType, AttributeWrite, MessageWrite, MessageWriteExt,
};

use super::TurnServer;
use super::credentials::Challenge;
use crate::stun::TransactionId;

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

/// RFC 8656 section 18.6: the value that stands for IPv6.
const IPV6: [u8; 4] = [2, 0, 0, 0];

const BINDING: u16 = 1;
const ALLOCATE: u16 = 3;
const REFRESH: u16 = 4;
const SEND: u16 = 6;
const DATA_INDICATION: u16 = 7;
const CREATE_PERMISSION: u16 = 8;
const CHANNEL_BIND: u16 = 9;

/// RFC 8656 section 12: the numbers that channels have.
pub(super) const FIRST_CHANNEL: u16 = 0x4000;
pub(super) const LAST_CHANNEL: u16 = 0x4fff;

/// The address families of an allocation (RFC 8656 section 7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Families {
    /// IPv4, and IPv6 as well if the server has it.
    Both,
    Ipv4,
    Ipv6,
}

impl Families {
    /// What is asked for when the server does not give these.
    pub(super) fn fallback(self) -> Option<Self> {
        match self {
            Self::Both => Some(Self::Ipv4),
            Self::Ipv4 => Some(Self::Ipv6),
            Self::Ipv6 => None,
        }
    }
}

/// What a request wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// Relayed addresses of these families.
    Allocate {
        families: Families,
        lifetime: Duration,
    },
    Refresh {
        lifetime: Duration,
    },
    Permit(IpAddr),
    Bind {
        channel: u16,
        peer: SocketAddr,
    },
}

/// The bytes of a request.
pub(super) fn request(
    id: TransactionId,
    wish: Wish,
    server: &TurnServer,
    challenge: Option<&Challenge>,
) -> Option<Vec<u8>> {
    let id = WireId::from(id.0);
    let method = match wish {
        Wish::Allocate { .. } => ALLOCATE,
        Wish::Refresh { .. } => REFRESH,
        Wish::Permit(_) => CREATE_PERMISSION,
        Wish::Bind { .. } => CHANNEL_BIND,
    };
    let mut out = message(MessageClass::Request, method, id);
    match wish {
        Wish::Allocate { families, lifetime } => {
            add(&mut out, REQUESTED_TRANSPORT, &[17, 0, 0, 0])?;
            add(&mut out, LIFETIME, &seconds(lifetime))?;
            match families {
                Families::Both => add(&mut out, ADDITIONAL_ADDRESS_FAMILY, &IPV6)?,
                Families::Ipv4 => {}
                Families::Ipv6 => add(&mut out, REQUESTED_ADDRESS_FAMILY, &IPV6)?,
            }
        }
        Wish::Refresh { lifetime } => add(&mut out, LIFETIME, &seconds(lifetime))?,
        Wish::Permit(peer) => add_peer(&mut out, SocketAddr::new(peer, 0), id)?,
        Wish::Bind { channel, peer } => {
            let [high, low] = channel.to_be_bytes();
            add(&mut out, CHANNEL_NUMBER, &[high, low, 0, 0])?;
            add_peer(&mut out, peer, id)?;
        }
    }
    if let Some(challenge) = challenge {
        let (realm, nonce) = (&challenge.realm, &challenge.nonce);
        out.add_attribute(&Username::new(&server.user).ok()?).ok()?;
        out.add_attribute(&Realm::new(realm).ok()?).ok()?;
        out.add_attribute(&Nonce::new(nonce).ok()?).ok()?;
        if let Some((offered, chosen)) = &challenge.algorithms {
            add(&mut out, PASSWORD_ALGORITHMS, offered)?;
            add(&mut out, PASSWORD_ALGORITHM, &Challenge::chosen(*chosen))?;
        }
        out.add_message_integrity(&challenge.key(server), challenge.integrity())
            .ok()?;
    }
    out.add_fingerprint().ok()?;
    Some(out.finish())
}

fn message(class: MessageClass, method: u16, id: WireId) -> MessageWriteVec {
    let kind = MessageType::from_class_method(class, Method::new(method));
    Message::builder(kind, id, MessageWriteVec::new())
}

fn add(out: &mut MessageWriteVec, kind: AttributeType, value: &[u8]) -> Option<()> {
    out.add_attribute(&RawAttribute::new(kind, value)).ok()
}

fn add_peer(out: &mut MessageWriteVec, peer: SocketAddr, id: WireId) -> Option<()> {
    let masked = XorMappedAddress::new(peer, id);
    add(out, XOR_PEER_ADDRESS, &masked.to_raw().value)
}

fn seconds(lifetime: Duration) -> [u8; 4] {
    u32::try_from(lifetime.as_secs())
        .unwrap_or(u32::MAX)
        .to_be_bytes()
}

/// A Send indication (RFC 8656 section 11.1).
pub(super) fn send_indication(id: TransactionId, peer: SocketAddr, data: &[u8]) -> Option<Vec<u8>> {
    let id = WireId::from(id.0);
    let mut out = message(MessageClass::Indication, SEND, id);
    add_peer(&mut out, peer, id)?;
    add(&mut out, DATA, data)?;
    Some(out.finish())
}

/// A Binding indication, which only keeps the NAT's binding (RFC 8445 section 11).
pub(super) fn keepalive(id: TransactionId) -> Option<Vec<u8>> {
    let mut out = message(MessageClass::Indication, BINDING, WireId::from(id.0));
    out.add_fingerprint().ok()?;
    Some(out.finish())
}

/// A ChannelData message (RFC 8656 section 12.4), without the padding that streams need.
pub(super) fn channel_data(channel: u16, data: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(data.len()).ok()?;
    let mut out = Vec::with_capacity(4 + data.len());
    out.extend(channel.to_be_bytes());
    out.extend(length.to_be_bytes());
    out.extend(data);
    Some(out)
}

/// Number and data of a ChannelData message.
pub(super) fn read_channel_data(payload: &[u8]) -> Option<(u16, &[u8])> {
    let (number, rest) = payload.split_first_chunk::<2>()?;
    let (length, data) = rest.split_first_chunk::<2>()?;
    let number = u16::from_be_bytes(*number);
    let data = data.get(..usize::from(u16::from_be_bytes(*length)))?;
    (FIRST_CHANNEL..=LAST_CHANNEL)
        .contains(&number)
        .then_some((number, data))
}

/// What a server says, beside the data of channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    Data {
        peer: SocketAddr,
        data: Vec<u8>,
    },
    Success {
        id: TransactionId,
        /// One address, or one of each family.
        relayed: Vec<SocketAddr>,
        mapped: Option<SocketAddr>,
        lifetime: Option<Duration>,
    },
    Error {
        id: TransactionId,
        code: u16,
        challenge: Option<Challenge>,
    },
}

/// Reads a message of TURN; `None` for anything else, and for a success that the password does
/// not protect.
pub(super) fn read(
    payload: &[u8],
    server: &TurnServer,
    challenge: Option<&Challenge>,
) -> Option<Said> {
    // The codec reads on to the end of the slice: a message and nothing after it comes in.
    let length = match *payload {
        [0..=3, _, high, low, ..] => 20 + usize::from(u16::from_be_bytes([high, low])),
        _ => return None,
    };
    if length != payload.len() || length % 4 != 0 {
        return None;
    }
    let message = Message::from_bytes(payload).ok()?;
    let id = TransactionId(message.transaction_id().into());
    let method = message.method().value();
    match (message.class(), method) {
        (MessageClass::Indication, DATA_INDICATION) => Some(Said::Data {
            peer: address(&message, XOR_PEER_ADDRESS)?,
            data: message.raw_attribute(DATA)?.value.to_vec(),
        }),
        (MessageClass::Success, ALLOCATE | REFRESH | CREATE_PERMISSION | CHANNEL_BIND) => {
            if !challenge?.protects(server, &message) {
                return None;
            }
            Some(Said::Success {
                id,
                relayed: addresses(&message, XOR_RELAYED_ADDRESS),
                mapped: address(&message, XorMappedAddress::TYPE),
                lifetime: message.raw_attribute(LIFETIME).and_then(|raw| {
                    let seconds = u32::from_be_bytes((*raw.value).try_into().ok()?);
                    Some(Duration::from_secs(u64::from(seconds)))
                }),
            })
        }
        (MessageClass::Error, ALLOCATE | REFRESH | CREATE_PERMISSION | CHANNEL_BIND) => {
            let realm = message.attribute::<Realm>().ok();
            let nonce = message.attribute::<Nonce>().ok();
            let algorithms = message.raw_attribute(PASSWORD_ALGORITHMS);
            let algorithms = algorithms.as_ref().map(|raw| &*raw.value);
            Some(Said::Error {
                id,
                code: message.attribute::<ErrorCode>().ok()?.code(),
                challenge: realm.zip(nonce).and_then(|(realm, nonce)| {
                    Challenge::read(realm.realm(), nonce.nonce(), algorithms)
                }),
            })
        }
        _ => None,
    }
}

fn address(message: &Message<'_>, kind: AttributeType) -> Option<SocketAddr> {
    addresses(message, kind).first().copied()
}

fn addresses(message: &Message<'_>, kind: AttributeType) -> Vec<SocketAddr> {
    message
        .iter_attributes()
        .filter(|(_, raw)| raw.get_type() == kind)
        .filter_map(|(_, raw)| {
            let masked = RawAttribute::new(XorMappedAddress::TYPE, &raw.value);
            let masked = XorMappedAddress::from_raw(masked).ok()?;
            Some(masked.addr(message.transaction_id()))
        })
        .collect()
}
