//! Which packets arrived: kept by the receiver, reported as a loss run-length-encoded block (RFC 3611
//! section 4.1), and read by the sender.

use std::collections::VecDeque;

/// Sequence numbers that the receiver remembers.
const WINDOW: u16 = 1_024;
/// Packets that a report leaves for the next one, because they may only be late.
const SETTLING: u16 = 3;
/// The most packets of one report.
const MOST_REPORTED: u16 = 600;
/// Packets that the sender remembers: some seconds.
const REMEMBERED: usize = 800;
/// So long without a loss, and what comes after is a new state of the network.
const CALM: usize = 400;

/// The receiver's side.
#[derive(Debug)]
pub(crate) struct Arrivals {
    bits: Vec<u64>,
    /// The first sequence number that was not reported, and the one after the highest.
    reported: u16,
    end: u16,
}

impl Arrivals {
    /// The first packet of a source is about to come.
    pub(crate) fn new(sequence: u16) -> Arrivals {
        Arrivals {
            bits: vec![0; usize::from(WINDOW / 64)],
            reported: sequence,
            end: sequence,
        }
    }

    fn bit(&mut self, sequence: u16) -> Option<(&mut u64, u64)> {
        let at = sequence % WINDOW;
        let word = self.bits.get_mut(usize::from(at / 64))?;
        Some((word, 1 << (at % 64)))
    }

    /// A packet came. Says whether packets before it are missing as yet.
    pub(crate) fn note(&mut self, sequence: u16) -> bool {
        let ahead = sequence.wrapping_sub(self.end);
        let gap = ahead < WINDOW && ahead > 0;
        if ahead < WINDOW {
            for skipped in 0..ahead {
                let skipped = self.end.wrapping_add(skipped);
                if let Some((word, bit)) = self.bit(skipped) {
                    *word &= !bit;
                }
            }
            self.end = sequence.wrapping_add(1);
        } else if self.end.wrapping_sub(sequence) > WINDOW {
            *self = Arrivals::new(sequence);
            self.end = sequence.wrapping_add(1);
        }
        if let Some((word, bit)) = self.bit(sequence) {
            *word |= bit;
        }
        gap
    }

    /// The block about what came since the last report, in the words of RFC 3611 section 4.1; it may
    /// begin with nothing to say.
    pub(crate) fn report(&mut self, ssrc: u32, out: &mut Vec<u8>) {
        let waiting = self.end.wrapping_sub(self.reported);
        if waiting > WINDOW {
            self.reported = self.end;
            return;
        }
        let count = waiting.saturating_sub(SETTLING);
        let skip = count.saturating_sub(MOST_REPORTED);
        let begin = self.reported.wrapping_add(skip);
        let count = count - skip;
        if count == 0 {
            return;
        }
        // A chunk is a bit vector of 15 packets; an even number of chunks fills words.
        let chunks = (count.div_ceil(15)).next_multiple_of(2);
        out.extend([1, 0]);
        out.extend((2 + chunks / 2).to_be_bytes());
        out.extend(ssrc.to_be_bytes());
        out.extend(begin.to_be_bytes());
        out.extend(begin.wrapping_add(count).to_be_bytes());
        for chunk in 0..chunks {
            let mut vector = 0x8000u16;
            for place in 0..15 {
                let n = chunk * 15 + place;
                let came = n < count
                    && self
                        .bit(begin.wrapping_add(n))
                        .is_some_and(|(word, bit)| *word & bit != 0);
                vector |= u16::from(came) << (14 - place);
            }
            // Null chunks fill up (section 4.1.3); a vector of nothing is one that has its flag.
            let null = chunk * 15 >= count;
            out.extend(if null { 0 } else { vector }.to_be_bytes());
        }
        self.reported = begin.wrapping_add(count);
    }
}

/// What one block of a report says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reported {
    pub(crate) begin: u16,
    /// Whether each packet from there on arrived.
    pub(crate) arrived: Vec<bool>,
}

impl Reported {
    /// Reads the block, from its type on; the SSRC that it is about comes with it. `None` if it is
    /// no loss RLE block, or malformed.
    pub(crate) fn parse(block: &[u8]) -> Option<(u32, Reported)> {
        let header: &[u8; 12] = block.first_chunk()?;
        let [
            kind,
            thinning,
            _,
            _,
            a,
            b,
            c,
            d,
            begin_a,
            begin_b,
            end_a,
            end_b,
        ] = *header;
        // Of a thinned report nothing can be said about runs.
        if kind != 1 || thinning & 0x0f != 0 {
            return None;
        }
        let begin = u16::from_be_bytes([begin_a, begin_b]);
        let count = u16::from_be_bytes([end_a, end_b]).wrapping_sub(begin);
        let mut arrived = Vec::new();
        for chunk in block.get(12..)?.chunks_exact(2) {
            let room = usize::from(count.min(MOST_REPORTED)).saturating_sub(arrived.len());
            let word = u16::from_be_bytes([*chunk.first()?, *chunk.get(1)?]);
            if word & 0x8000 != 0 {
                arrived.extend((0..15.min(room)).map(|n| word >> (14 - n) & 1 == 1));
            } else {
                let run = usize::from(word & 0x3fff).min(room);
                arrived.extend(std::iter::repeat_n(word & 0x4000 != 0, run));
            }
        }
        let ssrc = u32::from_be_bytes([a, b, c, d]);
        Some((ssrc, Reported { begin, arrived }))
    }
}

/// The sender's side: the fate of the last packets, the newest at the back.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    arrived: VecDeque<bool>,
    /// The sequence number that comes next.
    next: Option<u16>,
    /// Packets since the last loss.
    calm: usize,
}

impl Trace {
    /// The peer reported.
    pub(crate) fn take(&mut self, reported: &Reported) {
        let skip = match self.next {
            // What was told already is told once.
            Some(next) if next.wrapping_sub(reported.begin) < MOST_REPORTED => {
                usize::from(next.wrapping_sub(reported.begin))
            }
            _ => 0,
        };
        for arrived in reported.arrived.iter().skip(skip) {
            self.push(*arrived);
        }
        let end = reported.begin.wrapping_add(reported.arrived.len() as u16);
        if skip <= reported.arrived.len() {
            self.next = Some(end);
        }
    }

    fn push(&mut self, arrived: bool) {
        if !arrived && self.calm >= CALM {
            // What the network was like before says nothing about what it is like now.
            self.arrived.clear();
        }
        self.calm = if arrived { self.calm + 1 } else { 0 };
        if self.arrived.len() >= REMEMBERED {
            self.arrived.pop_front();
        }
        self.arrived.push_back(arrived);
    }

    /// The fates, the oldest first.
    pub(crate) fn fates(&self) -> &VecDeque<bool> {
        &self.arrived
    }

    /// Nothing has been lost for so long that it is over.
    pub(crate) fn is_calm(&self) -> bool {
        self.calm >= CALM || self.arrived.iter().all(|arrived| *arrived)
    }

    /// The share of packets that were lost.
    pub(crate) fn loss(&self) -> f64 {
        let lost = self.arrived.iter().filter(|arrived| !**arrived).count();
        lost as f64 / self.arrived.len().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_was_lost_is_told_over_the_wrap() {
        let mut arrivals = Arrivals::new(65_500);
        let lost = |n: u16| n % 7 == 3 || (50..60).contains(&n);
        let mut trace = Trace::default();
        for n in 0..200u16 {
            if !lost(n) {
                assert_eq!(
                    arrivals.note(65_500u16.wrapping_add(n)),
                    n > 0 && lost(n - 1)
                );
            }
            if n % 40 == 39 {
                let mut block = Vec::new();
                arrivals.report(5, &mut block);
                assert_eq!(block.len() % 4, 0);
                let (ssrc, reported) = Reported::parse(&block).unwrap();
                assert_eq!(ssrc, 5);
                trace.take(&reported);
                trace.take(&reported);
            }
        }
        let told: Vec<bool> = trace.fates().iter().copied().collect();
        let truth: Vec<bool> = (0..told.len() as u16).map(|n| !lost(n)).collect();
        assert!(told.len() >= 195);
        assert_eq!(told, truth);
    }

    #[test]
    fn run_length_chunks_of_others_are_read() {
        let mut block = vec![1, 0, 0, 4, 0, 0, 0, 9, 0, 10, 0, 40];
        block.extend([0x40, 20, 0x00, 3, 0xff, 0xff, 0, 0]);
        let (_, reported) = Reported::parse(&block).unwrap();
        assert_eq!(reported.arrived.len(), 30);
        assert_eq!(reported.arrived.iter().filter(|a| !**a).count(), 3);
    }

    #[test]
    fn calm_makes_a_new_state() {
        let mut trace = Trace::default();
        (0..500).for_each(|_| trace.push(true));
        (0..50).for_each(|n| trace.push(n % 5 != 0));
        assert!((trace.loss() - 0.2).abs() < 0.01, "{}", trace.loss());
    }

    proptest! {
        #[test]
        fn any_packets_and_blocks(
            sequences in prop::collection::vec(any::<u16>(), 1..300),
            bytes in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut arrivals = Arrivals::new(sequences[0]);
            let mut trace = Trace::default();
            for sequence in sequences {
                arrivals.note(sequence);
                let mut block = Vec::new();
                arrivals.report(1, &mut block);
                if let Some((_, reported)) = Reported::parse(&block) {
                    trace.take(&reported);
                }
            }
            if let Some((_, reported)) = Reported::parse(&bytes) {
                prop_assert!(reported.arrived.len() <= usize::from(MOST_REPORTED));
                trace.take(&reported);
            }
            prop_assert!(trace.fates().len() <= REMEMBERED);
        }
    }
}
