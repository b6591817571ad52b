//! Connections of TURN clients over TCP and TLS (RFC 8656 section 2.1).

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::node::StreamId;

/// Who a client is: RFC 8656 section 3.2's 5-tuple, from the server's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Client {
    Datagrams { local: SocketAddr, from: SocketAddr },
    Stream { stream: StreamId, from: SocketAddr },
}

impl Client {
    pub(super) fn address(self) -> SocketAddr {
        match self {
            Self::Datagrams { from, .. } | Self::Stream { from, .. } => from,
        }
    }
}

/// The connections that stand.
#[derive(Debug, Default)]
pub(super) struct Streams {
    open: BTreeMap<StreamId, Stream>,
}

#[derive(Debug)]
struct Stream {
    local: SocketAddr,
    from: SocketAddr,
    buffer: Vec<u8>,
}

impl Streams {
    pub(super) fn accept(&mut self, stream: StreamId, local: SocketAddr, from: SocketAddr) {
        let buffer = Vec::new();
        let new = Stream {
            local,
            from,
            buffer,
        };
        self.open.insert(stream, new);
    }

    pub(super) fn close(&mut self, stream: StreamId) {
        self.open.remove(&stream);
    }

    /// None of them stands any more; gives them.
    pub(super) fn close_all(&mut self) -> impl Iterator<Item = StreamId> + use<> {
        std::mem::take(&mut self.open).into_keys()
    }

    /// The messages that are whole by now, and whose they are; `None`: nothing can be read any more.
    pub(super) fn read(
        &mut self,
        stream: StreamId,
        bytes: &[u8],
    ) -> Option<(Client, SocketAddr, Vec<Vec<u8>>)> {
        let known = self.open.get_mut(&stream)?;
        known.buffer.extend_from_slice(bytes);
        let mut messages = Vec::new();
        while let [first, _, high, low, ..] = known.buffer[..] {
            let value = usize::from(u16::from_be_bytes([high, low]));
            let (length, padded) = match first {
                0..=3 => (20 + value, 20 + value),
                0x40..=0x4f => (4 + value, (4 + value).next_multiple_of(4)),
                _ => return None,
            };
            if known.buffer.len() < padded {
                break;
            }
            let mut message: Vec<u8> = known.buffer.drain(..padded).collect();
            message.truncate(length);
            messages.push(message);
        }
        let from = known.from;
        Some((Client::Stream { stream, from }, known.local, messages))
    }
}
