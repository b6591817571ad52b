//! The STUN messages of ICE (RFC 8489, RFC 8445 section 16) over the codec of `stun-types`, which
//! shows nowhere else.

use std::net::SocketAddr;

use stun_types::attribute::{
    AttributeType, ErrorCode, MessageIntegrity, MessageIntegritySha256, RawAttribute,
    UnknownAttributes, Username, XorMappedAddress,
};
use stun_types::message::{
    BINDING, IntegrityAlgorithm, Message, MessageClass, MessageIntegrityCredentials, MessageType,
    MessageWriteVec, ShortTermCredentials, TransactionId as WireId,
};
use stun_types::prelude::{Attribute, AttributeStaticType, MessageWrite, MessageWriteExt};

use crate::event::Role;

const PRIORITY: AttributeType = AttributeType::new(0x0024);
const USE_CANDIDATE: AttributeType = AttributeType::new(0x0025);
const ICE_CONTROLLED: AttributeType = AttributeType::new(0x8029);
const ICE_CONTROLLING: AttributeType = AttributeType::new(0x802a);

/// REALM and NONCE have no meaning here, but no STUN agent may stumble over them.
const REALM: AttributeType = AttributeType::new(0x0014);
const NONCE: AttributeType = AttributeType::new(0x0015);

/// A STUN message of ICE is some 150 bytes long; nothing beyond an Ethernet frame is read.
const LONGEST_MESSAGE: usize = 1500;
const HEADER: usize = 20;

/// RFC 8445 section 7.3.1.1.
pub(crate) const ROLE_CONFLICT: u16 = 487;
/// RFC 7675 section 5.2.
pub(crate) const FORBIDDEN: u16 = 403;
pub(crate) const BAD_REQUEST: u16 = 400;
pub(crate) const UNAUTHENTICATED: u16 = 401;
pub(crate) const UNKNOWN_ATTRIBUTE: u16 = 420;

/// The 96 bits of a transaction id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct TransactionId(pub(crate) u128);

/// What a Binding message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    Request,
    Indication,
    Success,
    Error,
}

/// A Binding message that has passed the codec; its integrity is another question.
pub(crate) struct Binding<'a>(Message<'a>);

impl<'a> Binding<'a> {
    /// Reads a Binding message; `None` for anything else, also for a wrong FINGERPRINT.
    pub(crate) fn parse(payload: &'a [u8]) -> Option<Self> {
        // The codec reads on to the end of the slice: a message and nothing after it comes in.
        let length = match *payload {
            [_, _, high, low, ..] => HEADER + usize::from(u16::from_be_bytes([high, low])),
            _ => return None,
        };
        if length != payload.len() || length > LONGEST_MESSAGE || length % 4 != 0 {
            return None;
        }
        let message = Message::from_bytes(payload).ok()?;
        message.has_method(BINDING).then_some(Self(message))
    }

    pub(crate) fn class(&self) -> Class {
        match self.0.class() {
            MessageClass::Request => Class::Request,
            MessageClass::Indication => Class::Indication,
            MessageClass::Success => Class::Success,
            MessageClass::Error => Class::Error,
        }
    }

    pub(crate) fn id(&self) -> TransactionId {
        TransactionId(self.0.transaction_id().into())
    }

    /// Whether the message carries both attributes of the short-term mechanism
    /// (RFC 8489 section 9.1.3).
    pub(crate) fn is_authenticated_request(&self) -> bool {
        self.0.has_attribute(Username::TYPE)
            && (self.0.has_attribute(MessageIntegrity::TYPE)
                || self.0.has_attribute(MessageIntegritySha256::TYPE))
    }

    /// The two ufrags of USERNAME: the receiver's and the sender's (RFC 8445 section 7.2.2).
    pub(crate) fn username(&self) -> Option<(String, String)> {
        let username = self.0.attribute::<Username>().ok()?;
        let (receiver, sender) = username.username().split_once(':')?;
        Some((receiver.to_owned(), sender.to_owned()))
    }

    /// Whether MESSAGE-INTEGRITY is there and made with this password.
    pub(crate) fn is_keyed_with(&self, password: &str) -> bool {
        self.0.validate_integrity(&key(password)).is_ok()
    }

    pub(crate) fn priority(&self) -> Option<u32> {
        let raw = self.0.raw_attribute(PRIORITY)?;
        Some(u32::from_be_bytes((*raw.value).try_into().ok()?))
    }

    pub(crate) fn uses_candidate(&self) -> bool {
        self.0.has_attribute(USE_CANDIDATE)
    }

    /// The role that the sender plays, and its tie-breaker.
    pub(crate) fn role(&self) -> Option<(Role, u64)> {
        [
            (ICE_CONTROLLING, Role::Controlling),
            (ICE_CONTROLLED, Role::Controlled),
        ]
        .into_iter()
        .find_map(|(kind, role)| {
            let raw = self.0.raw_attribute(kind)?;
            Some((role, u64::from_be_bytes((*raw.value).try_into().ok()?)))
        })
    }

    pub(crate) fn mapped_address(&self) -> Option<SocketAddr> {
        let mapped = self.0.attribute::<XorMappedAddress>().ok()?;
        Some(mapped.addr(self.0.transaction_id()))
    }

    pub(crate) fn error_code(&self) -> Option<u16> {
        Some(self.0.attribute::<ErrorCode>().ok()?.code())
    }

    /// The comprehension-required attributes that ICE does not know (RFC 8489 section 6.3.1).
    fn unknown_attributes(&self) -> Vec<AttributeType> {
        const KNOWN: [AttributeType; 9] = [
            PRIORITY,
            USE_CANDIDATE,
            REALM,
            NONCE,
            Username::TYPE,
            MessageIntegrity::TYPE,
            MessageIntegritySha256::TYPE,
            XorMappedAddress::TYPE,
            ErrorCode::TYPE,
        ];
        self.0
            .iter_attributes()
            .map(|(_, attribute)| attribute.get_type())
            .filter(|kind| kind.comprehension_required() && !KNOWN.contains(kind))
            .collect()
    }

    pub(crate) fn has_unknown_attributes(&self) -> bool {
        !self.unknown_attributes().is_empty()
    }

    /// The success response to this request.
    pub(crate) fn success(&self, source: SocketAddr, password: &str) -> Option<Vec<u8>> {
        let mut out = self.response(MessageClass::Success);
        out.add_attribute(&XorMappedAddress::new(source, self.0.transaction_id()))
            .ok()?;
        finish(out, Some(password))
    }

    /// An error response to this request; with a password it is protected by it.
    pub(crate) fn error(&self, code: u16, password: Option<&str>) -> Option<Vec<u8>> {
        let mut out = self.response(MessageClass::Error);
        // No reason phrase: a stranger must not get more bytes out of us than needed.
        out.add_attribute(&ErrorCode::new(code, "").ok()?).ok()?;
        if code == UNKNOWN_ATTRIBUTE {
            out.add_attribute(&UnknownAttributes::new(&self.unknown_attributes()))
                .ok()?;
        }
        finish(out, password)
    }

    fn response(&self, class: MessageClass) -> MessageWriteVec {
        Message::builder(
            MessageType::from_class_method(class, BINDING),
            self.0.transaction_id(),
            MessageWriteVec::new(),
        )
    }
}

/// What a connectivity check says (RFC 8445 section 7.2.4).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Check<'a> {
    pub(crate) id: TransactionId,
    /// The peer's ufrag, then ours.
    pub(crate) ufrags: (&'a str, &'a str),
    /// The peer's password.
    pub(crate) password: &'a str,
    pub(crate) priority: u32,
    pub(crate) role: Role,
    pub(crate) tie_breaker: u64,
    pub(crate) use_candidate: bool,
}

impl Check<'_> {
    /// The bytes; `None` if the ufrags are too long for USERNAME.
    pub(crate) fn to_bytes(self) -> Option<Vec<u8>> {
        let mut out = request(self.id);
        let (remote, local) = self.ufrags;
        out.add_attribute(&Username::new(&format!("{remote}:{local}")).ok()?)
            .ok()?;
        out.add_attribute(&RawAttribute::new(PRIORITY, &self.priority.to_be_bytes()))
            .ok()?;
        let role = match self.role {
            Role::Controlling => ICE_CONTROLLING,
            Role::Controlled => ICE_CONTROLLED,
        };
        out.add_attribute(&RawAttribute::new(role, &self.tie_breaker.to_be_bytes()))
            .ok()?;
        if self.use_candidate {
            out.add_attribute(&RawAttribute::new(USE_CANDIDATE, &[]))
                .ok()?;
        }
        finish(out, Some(self.password))
    }
}

/// A Binding request to a STUN server.
pub(crate) fn server_request(id: TransactionId) -> Option<Vec<u8>> {
    finish(request(id), None)
}

fn request(id: TransactionId) -> MessageWriteVec {
    Message::builder(
        MessageType::from_class_method(MessageClass::Request, BINDING),
        WireId::from(id.0),
        MessageWriteVec::new(),
    )
}

fn finish(mut out: MessageWriteVec, password: Option<&str>) -> Option<Vec<u8>> {
    if let Some(password) = password {
        out.add_message_integrity(&key(password), IntegrityAlgorithm::Sha1)
            .ok()?;
    }
    out.add_fingerprint().ok()?;
    Some(out.finish())
}

fn key(password: &str) -> MessageIntegrityCredentials {
    ShortTermCredentials::new(password.to_owned()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWORD: &str = "VOkJxbRl1RmTxUk/WvJxBt";

    fn check(use_candidate: bool) -> Vec<u8> {
        Check {
            id: TransactionId(7),
            ufrags: ("remote", "local"),
            password: PASSWORD,
            priority: 0x6e00_01ff,
            role: Role::Controlling,
            tie_breaker: 42,
            use_candidate,
        }
        .to_bytes()
        .unwrap()
    }

    /// The sample request of RFC 5769 section 2.1: made by somebody else.
    #[rustfmt::skip]
    const RFC_5769_REQUEST: [u8; 108] = [
        0x00, 0x01, 0x00, 0x58, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86,
        0xfa, 0x87, 0xdf, 0xae, 0x80, 0x22, 0x00, 0x10, 0x53, 0x54, 0x55, 0x4e, 0x20, 0x74, 0x65, 0x73,
        0x74, 0x20, 0x63, 0x6c, 0x69, 0x65, 0x6e, 0x74, 0x00, 0x24, 0x00, 0x04, 0x6e, 0x00, 0x01, 0xff,
        0x80, 0x29, 0x00, 0x08, 0x93, 0x2f, 0xf9, 0xb1, 0x51, 0x26, 0x3b, 0x36, 0x00, 0x06, 0x00, 0x09,
        0x65, 0x76, 0x74, 0x6a, 0x3a, 0x68, 0x36, 0x76, 0x59, 0x20, 0x20, 0x20, 0x00, 0x08, 0x00, 0x14,
        0x9a, 0xea, 0xa7, 0x0c, 0xbf, 0xd8, 0xcb, 0x56, 0x78, 0x1e, 0xf2, 0xb5, 0xb2, 0xd3, 0xf2, 0x49,
        0xc1, 0xb5, 0x71, 0xa2, 0x80, 0x28, 0x00, 0x04, 0xe5, 0x7a, 0x3b, 0xcf,
    ];

    #[test]
    fn the_sample_request_of_rfc_5769() {
        let binding = Binding::parse(&RFC_5769_REQUEST).unwrap();
        assert_eq!(binding.class(), Class::Request);
        assert!(binding.is_authenticated_request());
        assert!(binding.is_keyed_with(PASSWORD));
        assert!(!binding.is_keyed_with("VOkJxbRl1RmTxUk/WvJxBT"));
        assert_eq!(binding.username(), Some(("evtj".into(), "h6vY".into())));
        assert_eq!(binding.priority(), Some(0x6e00_01ff));
        assert_eq!(
            binding.role(),
            Some((Role::Controlled, 0x932f_f9b1_5126_3b36))
        );
        assert!(!binding.has_unknown_attributes());
    }

    #[test]
    fn a_check_and_its_answers() {
        let bytes = check(true);
        let request = Binding::parse(&bytes).unwrap();
        assert!(request.uses_candidate());
        assert_eq!(request.role(), Some((Role::Controlling, 42)));

        for source in ["192.0.2.1:5000", "[2001:db8::1]:5000"] {
            let source: SocketAddr = source.parse().unwrap();
            let bytes = request.success(source, PASSWORD).unwrap();
            let response = Binding::parse(&bytes).unwrap();
            assert_eq!(response.class(), Class::Success);
            assert_eq!(response.id(), TransactionId(7));
            assert_eq!(response.mapped_address(), Some(source));
            assert!(response.is_keyed_with(PASSWORD));
        }
        let bytes = request.error(ROLE_CONFLICT, Some(PASSWORD)).unwrap();
        let response = Binding::parse(&bytes).unwrap();
        assert_eq!(response.error_code(), Some(ROLE_CONFLICT));
    }

    #[test]
    fn no_flipped_bit_and_no_cut_passes_or_panics() {
        let bytes = check(false);
        for position in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[position] ^= 1 << bit;
                let passes =
                    Binding::parse(&changed).is_some_and(|binding| binding.is_keyed_with(PASSWORD));
                // What follows MESSAGE-INTEGRITY is not covered by it, and not read.
                let covered = position < bytes.len() - 8;
                assert!(!(passes && covered), "byte {position}, bit {bit}");
            }
            assert!(Binding::parse(&bytes[..position]).is_none());
        }
        let mut longer = bytes;
        longer.extend([0; 4]);
        assert!(Binding::parse(&longer).is_none());
    }

    #[test]
    fn unknown_attributes_are_named() {
        let mut out = request(TransactionId(1));
        let unknown = AttributeType::new(0x7abc);
        out.add_attribute(&RawAttribute::new(unknown, &[1, 2, 3, 4]))
            .unwrap();
        let bytes = finish(out, Some(PASSWORD)).unwrap();
        let request = Binding::parse(&bytes).unwrap();
        assert!(request.has_unknown_attributes());
        let bytes = request.error(UNKNOWN_ATTRIBUTE, Some(PASSWORD)).unwrap();
        let response = Binding::parse(&bytes).unwrap();
        let named = response.0.attribute::<UnknownAttributes>().unwrap();
        assert!(named.has_attribute(unknown));
    }
}
