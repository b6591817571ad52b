//! A STUN server (RFC 8489): it answers Binding requests with the source that it sees.
//!
//! The few lines of codec here are the testnet's own, so that the `ice` crate is not measured with
//! its own ruler.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crate::node::{Delivery, Node, Outbox, StreamId};

const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const HEADER: usize = 20;
const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;

/// The transaction id of a Binding request; `None` when the payload is anything else.
pub fn binding_request(payload: &[u8]) -> Option<[u8; 12]> {
    let (kind, id) = header(payload)?;
    (kind == BINDING_REQUEST).then_some(id)
}

/// A Binding request without attributes.
pub fn make_binding_request(id: [u8; 12]) -> Vec<u8> {
    message(BINDING_REQUEST, id, &[])
}

/// The Binding success response that says `mapped`.
pub fn make_binding_success(id: [u8; 12], mapped: SocketAddr) -> Vec<u8> {
    let value = masked(id, mapped);
    let mut attribute = Vec::new();
    attribute.extend(XOR_MAPPED_ADDRESS.to_be_bytes());
    attribute.extend((value.len() as u16).to_be_bytes());
    attribute.extend(value);
    message(BINDING_SUCCESS, id, &attribute)
}

/// The value of an XOR address attribute (RFC 8489 section 14.2).
pub(crate) fn masked(id: [u8; 12], address: SocketAddr) -> Vec<u8> {
    let cookie = u32::from_be_bytes(MAGIC_COOKIE);
    let port = address.port() ^ (cookie >> 16) as u16;
    let (family, address) = match address.ip() {
        IpAddr::V4(ip) => (1u8, (ip.to_bits() ^ cookie).to_be_bytes().to_vec()),
        IpAddr::V6(ip) => {
            let mask: Vec<u8> = MAGIC_COOKIE.iter().chain(&id).copied().collect();
            let octets = ip.octets();
            let masked = octets.iter().zip(mask).map(|(a, b)| a ^ b);
            (2, masked.collect())
        }
    };
    let mut value = vec![0, family];
    value.extend(port.to_be_bytes());
    value.extend(address);
    value
}

fn message(kind: u16, id: [u8; 12], attributes: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + attributes.len());
    bytes.extend(kind.to_be_bytes());
    bytes.extend((attributes.len() as u16).to_be_bytes());
    bytes.extend(MAGIC_COOKIE);
    bytes.extend(id);
    bytes.extend(attributes);
    bytes
}

/// Message type and transaction id (RFC 8489 section 5).
fn header(payload: &[u8]) -> Option<(u16, [u8; 12])> {
    let (header, attributes) = payload.split_at_checked(HEADER)?;
    let (kind, rest) = header.split_first_chunk::<2>()?;
    let (length, rest) = rest.split_first_chunk::<2>()?;
    let (cookie, id) = rest.split_first_chunk::<4>()?;
    let fits = usize::from(u16::from_be_bytes(*length)) == attributes.len();
    if !fits || *cookie != MAGIC_COOKIE || attributes.len() % 4 != 0 {
        return None;
    }
    Some((u16::from_be_bytes(*kind), id.try_into().ok()?))
}

/// Answers Binding requests on every address and port of its host, by datagrams and, where the host
/// listens, on streams.
#[derive(Debug, Default)]
pub struct StunServer {
    answers: Vec<(SocketAddr, SocketAddr, Vec<u8>)>,
    streams: HashMap<StreamId, SocketAddr>,
    accepted: Arc<AtomicUsize>,
    on_streams: Vec<(StreamId, Vec<u8>)>,
}

impl StunServer {
    /// The port that servers have by custom (RFC 8489 section 8).
    pub const PORT: u16 = 3478;

    /// A server.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many streams it has accepted so far.
    pub fn accepted_streams(&self) -> Arc<AtomicUsize> {
        self.accepted.clone()
    }
}

impl Node for StunServer {
    fn handle_delivery(&mut self, _now: Instant, delivery: Delivery) {
        match delivery {
            Delivery::Datagram {
                local,
                from,
                payload,
            } => {
                if let Some(id) = binding_request(&payload) {
                    let answer = make_binding_success(id, from);
                    self.answers.push((local, from, answer));
                }
            }
            Delivery::Accepted { stream, from, .. } => {
                self.accepted.fetch_add(1, Ordering::Relaxed);
                self.streams.insert(stream, from);
            }
            // Here what was sent in one piece comes in one piece.
            Delivery::StreamBytes { stream, payload } => {
                if let (Some(from), Some(id)) =
                    (self.streams.get(&stream), binding_request(&payload))
                {
                    let answer = make_binding_success(id, *from);
                    self.on_streams.push((stream, answer));
                }
            }
            Delivery::Closed { stream, .. } => {
                self.streams.remove(&stream);
            }
            _ => {}
        }
    }

    fn handle_timeout(&mut self, _now: Instant) {}

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    fn drain(&mut self, _now: Instant, out: &mut Outbox) {
        for (local, to, payload) in self.answers.drain(..) {
            out.datagram(local, to, payload);
        }
        for (stream, payload) in self.on_streams.drain(..) {
            out.stream_bytes(stream, payload);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 5769 section 2.2 and 2.3 use this transaction id; their XOR-MAPPED-ADDRESS bytes are
    // what ours must be.
    const ID: [u8; 12] = [
        0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae,
    ];

    #[test]
    fn ipv4_is_masked_as_in_rfc_5769() {
        let success = make_binding_success(ID, "192.0.2.1:32853".parse().unwrap());
        let attribute = [
            0x00, 0x20, 0x00, 0x08, 0x00, 0x01, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43,
        ];
        assert_eq!(&success[HEADER..], attribute);
    }

    #[test]
    fn ipv6_is_masked_as_in_rfc_5769() {
        let mapped = "[2001:db8:1234:5678:11:2233:4455:6677]:32853";
        let success = make_binding_success(ID, mapped.parse().unwrap());
        let attribute = [
            0x00, 0x20, 0x00, 0x14, 0x00, 0x02, 0xa1, 0x47, 0x01, 0x13, 0xa9, 0xfa, 0xa5, 0xd3,
            0xf1, 0x79, 0xbc, 0x25, 0xf4, 0xb5, 0xbe, 0xd2, 0xb9, 0xd9,
        ];
        assert_eq!(&success[HEADER..], attribute);
    }

    #[test]
    fn only_binding_requests_are_answered() {
        let request = make_binding_request(ID);
        assert_eq!(binding_request(&request), Some(ID));
        assert_eq!(binding_request(&request[..19]), None);
        let success = make_binding_success(ID, "192.0.2.1:1".parse().unwrap());
        assert_eq!(binding_request(&success), None);
    }
}
