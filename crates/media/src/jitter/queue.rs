//! The packets that wait, in the order of their extended timestamps.

use std::collections::VecDeque;

use super::Packet;
use crate::pool::Pool;

/// Buffers that are kept: the most that is waited for, in packets of 10 ms. A stalled owner may need more, and
/// those are let go again.
const SPARE: usize = 64;

/// A sorted queue, and where the buffers of its payloads come from and go to.
#[derive(Debug)]
pub(super) struct Queue {
    packets: VecDeque<(i64, Packet)>,
    pool: Pool,
}

impl Queue {
    /// With room for so many packets, which it may be given without growing.
    pub(super) fn new(capacity: usize) -> Queue {
        Queue {
            packets: VecDeque::with_capacity(capacity),
            pool: Pool::new(SPARE),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.packets.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Where the packet of this timestamp is, or would be. It is near the end, as a rule.
    fn place(&self, timestamp: i64) -> Result<usize, usize> {
        self.packets.binary_search_by_key(&timestamp, |(at, _)| *at)
    }

    pub(super) fn contains(&self, timestamp: i64) -> bool {
        self.place(timestamp).is_ok()
    }

    /// Puts a packet in its place, instead of the one that is there.
    pub(super) fn insert(&mut self, timestamp: i64, packet: Packet) {
        match self.place(timestamp) {
            Ok(place) => {
                if let Some((_, there)) = self.packets.get_mut(place) {
                    let old = std::mem::replace(there, packet);
                    self.pool.give(old.payload);
                }
            }
            Err(place) => self.packets.insert(place, (timestamp, packet)),
        }
    }

    /// The packet of the least timestamp.
    pub(super) fn first(&self) -> Option<(i64, &Packet)> {
        let (timestamp, packet) = self.packets.front()?;
        Some((*timestamp, packet))
    }

    /// Takes it out.
    pub(super) fn pop_first(&mut self) -> Option<(i64, Packet)> {
        self.packets.pop_front()
    }

    /// Throws away what is before this timestamp.
    pub(super) fn forget_before(&mut self, timestamp: i64) {
        while self.first().is_some_and(|(first, _)| first < timestamp) {
            if let Some((_, packet)) = self.packets.pop_front() {
                self.pool.give(packet.payload);
            }
        }
    }

    /// Throws all packets away.
    pub(super) fn clear(&mut self) {
        for (_, packet) in self.packets.drain(..) {
            self.pool.give(packet.payload);
        }
    }

    /// A buffer that holds these octets.
    pub(super) fn copy(&mut self, octets: &[u8]) -> Vec<u8> {
        self.pool.copy(octets)
    }

    /// A copy of the first packet's payload.
    pub(super) fn copy_first(&mut self) -> Option<Vec<u8>> {
        let (_, packet) = self.packets.front()?;
        Some(self.pool.copy(&packet.payload))
    }

    /// A payload that nobody needs any more.
    pub(super) fn recycle(&mut self, payload: Vec<u8>) {
        self.pool.give(payload);
    }
}
