//! Hand-made STUN messages: what servers, other phones and attackers send.

use std::net::SocketAddr;

use ringtrue_ice::Credentials;
use stun_types::attribute::{AttributeType, ErrorCode, RawAttribute, Username, XorMappedAddress};
use stun_types::message::{
    BINDING, IntegrityAlgorithm, Message, MessageClass, MessageIntegrityCredentials, MessageType,
    MessageWriteVec, ShortTermCredentials, TransactionId,
};
use stun_types::prelude::{MessageWrite, MessageWriteExt};

pub const PRIORITY: u16 = 0x0024;
pub const USE_CANDIDATE: u16 = 0x0025;
pub const ICE_CONTROLLED: u16 = 0x8029;
pub const ICE_CONTROLLING: u16 = 0x802a;

/// A Binding message read back.
#[derive(Debug, Clone)]
pub struct Read {
    pub class: MessageClass,
    pub id: u128,
    pub use_candidate: bool,
    pub controlling: bool,
    pub error: Option<u16>,
    pub mapped: Option<SocketAddr>,
}

pub fn read(payload: &[u8]) -> Read {
    let message = Message::from_bytes(payload).expect("a STUN message");
    let has = |kind: u16| message.has_attribute(AttributeType::new(kind));
    Read {
        class: message.class(),
        id: message.transaction_id().into(),
        use_candidate: has(USE_CANDIDATE),
        controlling: has(ICE_CONTROLLING),
        error: message
            .attribute::<ErrorCode>()
            .ok()
            .map(|error| error.code()),
        mapped: message
            .attribute::<XorMappedAddress>()
            .ok()
            .map(|mapped| mapped.addr(message.transaction_id())),
    }
}

pub fn is_keyed_with(payload: &[u8], password: &str) -> bool {
    Message::from_bytes(payload)
        .is_ok_and(|message| message.validate_integrity(&key(password)).is_ok())
}

fn key(password: &str) -> MessageIntegrityCredentials {
    ShortTermCredentials::new(password.to_owned()).into()
}

pub fn finish(mut out: MessageWriteVec, password: Option<&str>) -> Vec<u8> {
    if let Some(password) = password {
        out.add_message_integrity(&key(password), IntegrityAlgorithm::Sha1)
            .unwrap();
    }
    out.add_fingerprint().unwrap();
    out.finish()
}

/// A request from the holder of `from` to the holder of `to`, keyed with `password`.
pub struct Request<'a> {
    pub id: u128,
    pub to: &'a Credentials,
    pub from_ufrag: &'a str,
    pub password: &'a str,
    pub role: (u16, u64),
    pub use_candidate: bool,
}

impl Request<'_> {
    pub fn to_bytes(&self) -> Vec<u8> {
        let kind = MessageType::from_class_method(MessageClass::Request, BINDING);
        let mut out = Message::builder(kind, TransactionId::from(self.id), MessageWriteVec::new());
        let name = format!("{}:{}", self.to.ufrag, self.from_ufrag);
        out.add_attribute(&Username::new(&name).unwrap()).unwrap();
        let mut add = |kind: u16, value: &[u8]| {
            out.add_attribute(&RawAttribute::new(AttributeType::new(kind), value))
                .unwrap();
        };
        add(PRIORITY, &0x6e00_01ff_u32.to_be_bytes());
        add(self.role.0, &self.role.1.to_be_bytes());
        if self.use_candidate {
            add(USE_CANDIDATE, &[]);
        }
        finish(out, Some(self.password))
    }
}

/// A success response to `request`, as a server (no password) or a peer gives it.
pub fn success(request: &[u8], mapped: SocketAddr, password: Option<&str>) -> Vec<u8> {
    let request = Message::from_bytes(request).unwrap();
    let mut out = Message::builder_success(&request, MessageWriteVec::new());
    out.add_attribute(&XorMappedAddress::new(mapped, request.transaction_id()))
        .unwrap();
    finish(out, password)
}

/// An error response to `request`.
pub fn error(request: &[u8], code: u16, password: Option<&str>) -> Vec<u8> {
    let request = Message::from_bytes(request).unwrap();
    let mut out = Message::builder_error(&request, MessageWriteVec::new());
    out.add_attribute(&ErrorCode::new(code, "").unwrap())
        .unwrap();
    finish(out, password)
}

/// A Binding request without credentials.
pub fn server_request(id: u128) -> Vec<u8> {
    let kind = MessageType::from_class_method(MessageClass::Request, BINDING);
    let id = TransactionId::from(id);
    finish(Message::builder(kind, id, MessageWriteVec::new()), None)
}
