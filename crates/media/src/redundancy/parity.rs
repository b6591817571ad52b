//! Parity blocks: the exclusive or of some earlier packets' payloads, so that one block can stand in
//! for whichever of them is lost. Carried as a block of RFC 2198 between two phones that both know it.
//!
//! ```text
//! +--------+-------------+-----+---------------------------------------------+
//! | count  | distance 1  | ... | length of each payload and the payload,     |
//! | 1..=8  | (packets)   |     | combined by exclusive or                    |
//! +--------+-------------+-----+---------------------------------------------+
//! ```
//!
//! Each octet, the lengths too, is combined with its likes. A distance counts RTP packets back from the one
//! that carries the block; all packets up to there were of one duration and followed each other
//! without a pause, so that the timestamp of a restored one is known.

use crate::pool::{Pool, ROOM};

/// Packets that one block stands for.
pub(crate) const MOST_SOURCES: usize = 8;
/// The farthest of them.
pub(crate) const FARTHEST: u8 = 32;
/// Payloads and blocks that are remembered: twice the farthest distance, since one restored packet may
/// allow another one to be.
const REMEMBERED: usize = 64;
/// A payload of more octets is not protected: its length is one octet.
pub(crate) const LONGEST: usize = 255;

/// The last payloads sent, for the blocks to come.
#[derive(Debug, Default)]
pub(crate) struct History {
    slots: Vec<Vec<u8>>,
    next: usize,
    /// Payloads in a row without a pause, change of duration or other gap.
    run: usize,
}

impl History {
    /// A pause, a change of duration or another gap: nothing is reached across it.
    pub(crate) fn interrupt(&mut self) {
        self.run = 0;
    }

    /// A payload is sent.
    pub(crate) fn push(&mut self, payload: &[u8]) {
        self.run = self.run.saturating_add(1);
        if self.slots.is_empty() {
            self.slots
                .resize_with(usize::from(FARTHEST), || Vec::with_capacity(ROOM));
        }
        if let Some(slot) = self.slots.get_mut(self.next) {
            slot.clear();
            slot.extend_from_slice(payload);
        }
        self.next = (self.next + 1) % usize::from(FARTHEST);
    }

    /// The payload sent `distance` packets before the one that is being made (1: the last pushed).
    pub(crate) fn get(&self, distance: u8) -> Option<&[u8]> {
        let back = usize::from(distance);
        if back == 0 || back > self.run.min(self.slots.len()) {
            return None;
        }
        let count = self.slots.len();
        let at = (self.next + count - back) % count;
        self.slots.get(at).map(Vec::as_slice)
    }

    /// Writes the block of these distances to `out`; those that reach back too far, or to a payload
    /// that is too long, are left out. `false` if none is left.
    pub(crate) fn parity(&self, distances: &[u8], out: &mut Vec<u8>) -> bool {
        out.clear();
        let usable = |distance: &&u8| {
            self.get(**distance)
                .is_some_and(|payload| payload.len() <= LONGEST)
        };
        out.push(0);
        out.extend(distances.iter().filter(usable).take(MOST_SOURCES));
        let count = out.len() - 1;
        if let Some(first) = out.first_mut() {
            *first = count as u8;
        }
        let begin = out.len();
        for distance in distances.iter().filter(usable).take(MOST_SOURCES) {
            combine(out, begin, self.get(*distance).unwrap_or_default());
        }
        count > 0
    }
}

/// Combines the length and the octets of a payload with what is in `out` from `begin` on.
fn combine(out: &mut Vec<u8>, begin: usize, payload: &[u8]) {
    if out.len() < begin + 1 + payload.len() {
        out.resize(begin + 1 + payload.len(), 0);
    }
    let octets = std::iter::once(payload.len() as u8).chain(payload.iter().copied());
    for (place, octet) in out.iter_mut().skip(begin).zip(octets) {
        *place ^= octet;
    }
}

/// A packet that was restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Restored<'a> {
    pub(crate) sequence: u16,
    /// By how many ticks its timestamp is before that of the packet whose block restored it,
    pub(crate) offset: u32,
    /// whose timestamp this is.
    pub(crate) timestamp: u32,
    pub(crate) payload: &'a [u8],
}

/// What the receiver knows: payloads and blocks that are not used up. Its memory is used again and
/// again.
#[derive(Debug)]
pub(crate) struct Solver {
    known: Vec<(u16, Vec<u8>)>,
    next: usize,
    blocks: Vec<Pending>,
    /// What blocks are kept in.
    pool: Pool,
    /// The sum of a block and all its sources but one: that one, with its length before and zeros
    /// behind.
    sum: Vec<u8>,
}

/// A block with sources that are unknown.
#[derive(Debug)]
struct Pending {
    sequence: u16,
    timestamp: u32,
    duration: u32,
    distances: [u8; MOST_SOURCES],
    sources: usize,
    data: Vec<u8>,
}

impl Pending {
    fn distances(&self) -> &[u8] {
        self.distances.get(..self.sources).unwrap_or_default()
    }

    /// The sources that are unknown: how many, and the last of them.
    fn unknown(&self, solver: &[(u16, Vec<u8>)]) -> (usize, u8) {
        let mut unknown = (0, 0);
        for distance in self.distances() {
            let sequence = self.sequence.wrapping_sub(u16::from(*distance));
            if find(solver, sequence).is_none() {
                unknown = (unknown.0 + 1, *distance);
            }
        }
        unknown
    }

    /// Writes the sum that leaves the source at this distance to `sum`, and says whether there is one.
    fn restore(&self, known: &[(u16, Vec<u8>)], distance: u8, sum: &mut Vec<u8>) -> bool {
        sum.clear();
        sum.extend_from_slice(&self.data);
        for other in self.distances().iter().filter(|other| **other != distance) {
            let sequence = self.sequence.wrapping_sub(u16::from(*other));
            match find(known, sequence) {
                Some(payload) => combine(sum, 0, payload),
                None => return false,
            }
        }
        // Wrong when a source was not what the sender meant.
        let parts = split(sum);
        parts.is_some_and(|(payload, padding)| {
            !payload.is_empty() && padding.iter().all(|octet| *octet == 0)
        })
    }
}

/// The payload in a sum, and what follows it.
fn split(sum: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&length, payload) = sum.split_first()?;
    payload.split_at_checked(usize::from(length))
}

fn find(known: &[(u16, Vec<u8>)], sequence: u16) -> Option<&[u8]> {
    let mut known = known.iter();
    known
        .find(|(other, _)| *other == sequence)
        .map(|(_, payload)| payload.as_slice())
}

impl Default for Solver {
    fn default() -> Solver {
        Solver {
            known: Vec::with_capacity(REMEMBERED),
            next: 0,
            blocks: Vec::with_capacity(REMEMBERED),
            pool: Pool::new(REMEMBERED),
            sum: Vec::with_capacity(ROOM),
        }
    }
}

impl Solver {
    /// A payload came.
    pub(crate) fn known(&mut self, sequence: u16, payload: &[u8]) {
        if find(&self.known, sequence).is_some() {
            return;
        }
        if self.known.len() < REMEMBERED {
            let mut kept = Vec::with_capacity(ROOM.max(payload.len()));
            kept.extend_from_slice(payload);
            self.known.push((sequence, kept));
        } else if let Some(slot) = self.known.get_mut(self.next) {
            slot.0 = sequence;
            slot.1.clear();
            slot.1.extend_from_slice(payload);
        }
        self.next = (self.next + 1) % REMEMBERED;
    }

    /// A block came with the packet of this sequence number and timestamp, whose own payload lasts
    /// `duration` ticks. Says how far back it reaches, in ticks.
    pub(crate) fn block(
        &mut self,
        sequence: u16,
        timestamp: u32,
        duration: u32,
        block: &[u8],
    ) -> Option<u32> {
        let (&count, rest) = block.split_first()?;
        let (sources, octets) = rest.split_at_checked(usize::from(count))?;
        let farthest = *sources.iter().max()?;
        let mut distances = [0; MOST_SOURCES];
        if farthest > FARTHEST || sources.contains(&0) {
            return None;
        }
        distances.get_mut(..sources.len())?.copy_from_slice(sources);
        let data = self.pool.copy(octets);
        let pending = Pending {
            sequence,
            timestamp,
            duration,
            distances,
            sources: sources.len(),
            data,
        };
        if pending.unknown(&self.known).0 > 0 {
            self.forget(|block| {
                sequence.wrapping_sub(block.sequence) >= REMEMBERED as u16
                    || sequence == block.sequence
            });
            if self.blocks.len() < REMEMBERED {
                self.blocks.push(pending);
                return Some(u32::from(farthest) * duration);
            }
        }
        self.pool.give(pending.data);
        Some(u32::from(farthest) * duration)
    }

    /// Lets blocks go.
    fn forget(&mut self, mut out: impl FnMut(&Pending) -> bool) {
        let mut at = 0;
        while let Some(block) = self.blocks.get(at) {
            if out(block) {
                let block = self.blocks.remove(at);
                self.pool.give(block.data);
            } else {
                at += 1;
            }
        }
    }

    /// The next packet that can be restored.
    pub(crate) fn poll(&mut self) -> Option<Restored<'_>> {
        let (mut known, mut sum) = (
            std::mem::take(&mut self.known),
            std::mem::take(&mut self.sum),
        );
        let mut found = None;
        self.forget(|block| match block.unknown(&known) {
            (0, _) => true,
            (1, distance) if found.is_none() => {
                if block.restore(&known, distance, &mut sum) {
                    found = Some((block.sequence, block.timestamp, block.duration, distance));
                }
                true
            }
            _ => false,
        });
        std::mem::swap(&mut self.known, &mut known);
        let restored = found.and_then(|(sequence, timestamp, duration, distance)| {
            let sequence = sequence.wrapping_sub(u16::from(distance));
            self.known(sequence, split(&sum)?.0);
            Some((sequence, timestamp, u32::from(distance) * duration))
        });
        self.sum = sum;
        let (sequence, timestamp, offset) = restored?;
        Some(Restored {
            sequence,
            offset,
            timestamp,
            payload: split(&self.sum)?.0,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Sends `count` payloads with blocks of these distances, loses some, and gives what was restored.
    fn run(count: u16, distances: &[u8], lost: impl Fn(u16) -> bool) -> Vec<u16> {
        let (mut history, mut solver) = (History::default(), Solver::default());
        let mut restored = Vec::new();
        let begin = u16::MAX - 20;
        for n in 0..count {
            let mut block = Vec::new();
            let some = history.parity(distances, &mut block);
            let payload = payload(n);
            history.push(&payload);
            if !lost(n) {
                let sequence = begin.wrapping_add(n);
                solver.known(sequence, &payload);
                if some {
                    let at = u32::from(n) * 960;
                    assert!(solver.block(sequence, at, 960, &block).is_some());
                }
                while let Some(packet) = solver.poll() {
                    let n = packet.sequence.wrapping_sub(begin);
                    assert!(lost(n));
                    assert_eq!(packet.payload, super::tests::payload(n));
                    assert_eq!(packet.timestamp - packet.offset, u32::from(n) * 960);
                    restored.push(n);
                }
            }
        }
        restored
    }

    fn payload(n: u16) -> Vec<u8> {
        (0..20 + n % 50).map(|i| (i * 7 + n) as u8).collect()
    }

    #[test]
    fn one_block_stands_for_whichever_is_lost() {
        for gone in 10..20 {
            assert_eq!(run(40, &[1, 2, 4], |n| n == gone).len(), 1);
        }
    }

    #[test]
    fn a_restored_packet_helps_to_restore_the_next() {
        // Three in a row, none of which a single block could tell alone.
        assert_eq!(run(60, &[1, 3], |n| (20..23).contains(&n)).len(), 3);
        let every_third = run(200, &[1, 4, 6], |n| n % 3 == 0 && n > 20);
        assert!(every_third.len() > 55, "{}", every_third.len());
    }

    #[test]
    fn a_pause_is_not_reached_across() {
        let mut history = History::default();
        history.push(&[1; 30]);
        history.interrupt();
        history.push(&[2; 30]);
        let mut block = Vec::new();
        assert!(history.parity(&[1, 2], &mut block));
        assert_eq!(block[..2], [1, 1]);
        history.push(&[3; 300]);
        assert!(!history.parity(&[1], &mut block), "a long payload");
    }

    proptest! {
        #[test]
        fn any_blocks(
            blocks in prop::collection::vec(
                (any::<u16>(), prop::collection::vec(any::<u8>(), 0..60), any::<bool>()), 1..200),
        ) {
            let mut solver = Solver::default();
            for (sequence, bytes, known) in blocks {
                if known {
                    solver.known(sequence % 100, &bytes);
                }
                solver.block(sequence % 100, 0, 960, &bytes);
                let mut restored = 0;
                while solver.poll().is_some() {
                    restored += 1;
                }
                prop_assert!(restored <= REMEMBERED);
                prop_assert!(solver.known.len() <= REMEMBERED && solver.blocks.len() <= REMEMBERED);
            }
        }
    }
}
