//! The sending half: wraps payloads into RFC 2198, follows what the peer reports, and shares the bits
//! between the sound and its redundancy.

use std::time::Duration;

use super::RedundancyTypes;
use super::parity::{self, History};
use super::plan::{self, Plan};
use super::red::{self, Block};
use super::trace::{Reported, Trace};
use crate::pool::ROOM;

/// How fast the average of what was spent follows: some seconds of packets.
const AVERAGING: f64 = 0.005;
/// The encoder is told of more or less than it is to spend, within these bounds: libopus with a variable
/// bit rate stays below what it is told in most voices.
const BOOST: std::ops::RangeInclusive<f64> = 0.75..=1.35;
/// Payloads are of many sizes: on the average they may have this share of what parity protects.
const OF_LONGEST: f64 = 0.8;
/// What the sending half does with each payload.
#[derive(Debug)]
pub(crate) struct Sender {
    types: RedundancyTypes,
    payload_type: u8,
    ptime: Duration,
    /// Ticks of the RTP clock a packet.
    ticks: u32,
    plan: Plan,
    history: History,
    trace: Trace,
    /// Sequence number and timestamp of the payload sent last.
    last: Option<(u16, u32)>,
    parity: Vec<u8>,
    payload: Vec<u8>,
}

impl Sender {
    /// For payloads of `payload_type` that last `ptime`, `ticks` of their clock.
    pub(crate) fn new(
        types: RedundancyTypes,
        payload_type: u8,
        ptime: Duration,
        ticks: u32,
    ) -> Sender {
        Sender {
            types,
            payload_type,
            ptime,
            ticks,
            plan: Plan::None,
            history: History::default(),
            trace: Trace::default(),
            last: None,
            parity: Vec::with_capacity(ROOM),
            // The sound, and two copies at most.
            payload: Vec::with_capacity(3 * ROOM),
        }
    }

    /// The peer told what arrived; bits a second are `budget` in all.
    pub(crate) fn reported(&mut self, reported: &Reported, budget: f64) {
        self.trace.take(reported);
        let ms = self.ptime.as_millis() as u32;
        let plan = plan::choose(
            self.plan,
            &self.trace,
            budget,
            ms,
            self.types.parity.is_some(),
        );
        if plan != self.plan {
            tracing::debug!(?plan, loss = self.trace.loss(), "redundancy changes");
        }
        self.plan = plan;
    }

    /// The bits a second of `budget` that the sound itself may take.
    pub(crate) fn primary_bitrate(&self, budget: f64) -> f64 {
        let packets = 1.0 / self.ptime.as_secs_f64().max(0.001);
        self.plan.primary_bitrate(budget, packets)
    }

    /// The bits a second beyond which payloads would be too long for the plan to protect.
    pub(crate) fn most_bitrate(&self) -> f64 {
        match self.plan {
            Plan::None | Plan::Copies(_) => f64::MAX,
            Plan::Parity(..) => {
                OF_LONGEST * 8.0 * parity::LONGEST as f64 / self.ptime.as_secs_f64().max(0.001)
            }
        }
    }

    /// The payload type and payload to send for this one.
    pub(crate) fn wrap<'a>(
        &'a mut self,
        primary: &'a [u8],
        sequence: u16,
        timestamp: u32,
    ) -> (u8, &'a [u8]) {
        let next = self
            .last
            .map(|(sequence, at)| (sequence.wrapping_add(1), at.wrapping_add(self.ticks)));
        let contiguous = next == Some((sequence, timestamp));
        self.last = Some((sequence, timestamp));
        if !contiguous {
            self.history.interrupt();
        }
        let redundant = self.add_redundancy(primary, sequence);
        self.history.push(primary);
        match redundant {
            true => (self.types.red, &self.payload),
            false => (self.payload_type, primary),
        }
    }

    /// Writes the packet of RFC 2198, if the plan has anything to add.
    fn add_redundancy(&mut self, primary: &[u8], sequence: u16) -> bool {
        self.payload.clear();
        match self.plan {
            Plan::None => return false,
            Plan::Copies(distances) => {
                // The oldest first, as in RFC 2198 section 4: all headers, then all data.
                let payload = &mut self.payload;
                let mut written = 0u32;
                for (place, distance) in distances.iter().rev().enumerate() {
                    let Some(data) = self.history.get(*distance) else {
                        continue;
                    };
                    let block = Block {
                        payload_type: self.payload_type,
                        offset: u32::from(*distance) * self.ticks,
                        data,
                    };
                    written |= u32::from(red::push_header(payload, block)) << place;
                }
                payload.push(self.payload_type);
                for (place, distance) in distances.iter().rev().enumerate() {
                    if written >> place & 1 == 1 {
                        payload.extend_from_slice(self.history.get(*distance).unwrap_or_default());
                    }
                }
            }
            Plan::Parity(distances, every) => {
                let Some(payload_type) = self.types.parity else {
                    return false;
                };
                let due = sequence.is_multiple_of(every.max(1));
                if !due || !self.history.parity(distances, &mut self.parity) {
                    return false;
                }
                let block = Block {
                    payload_type,
                    offset: 0,
                    data: &self.parity,
                };
                if !red::push_header(&mut self.payload, block) {
                    return false;
                }
                self.payload.push(self.payload_type);
                self.payload.extend_from_slice(&self.parity);
            }
        }
        self.payload.extend_from_slice(primary);
        self.payload.len() > primary.len() + 1
    }
}

/// Keeps what is spent at what may be spent, on the average of some seconds, pauses of the speech included.
#[derive(Debug)]
pub(crate) struct Spending {
    /// The average payload, as a share of what one may have.
    average: f64,
    boost: f64,
}

impl Spending {
    pub(crate) fn new() -> Spending {
        Spending {
            average: 1.0,
            boost: 1.0,
        }
    }

    /// A payload of so many octets is sent; `budget` are the octets that one may have. Gives the factor for
    /// what the encoder is told.
    pub(crate) fn spent(&mut self, octets: usize, budget: f64) -> f64 {
        self.average += (octets as f64 / budget - self.average) * AVERAGING;
        let wish = self.boost * self.average.max(0.1).powf(-AVERAGING);
        self.boost = wish.clamp(*BOOST.start(), *BOOST.end());
        self.boost
    }
}

#[cfg(test)]
mod tests {
    use super::super::receiver::Receiver;
    use super::*;

    const TYPES: RedundancyTypes = super::super::Redundancy::OFFERED;

    #[test]
    fn what_is_lost_in_a_burst_comes_back_by_every_plan() {
        for (plan, lost) in [
            (Plan::Copies(&[4]), 40..44),
            (Plan::Copies(&[2, 6]), 40..46),
            (Plan::Parity(&[1, 3], 1), 40..43),
            (Plan::Parity(&[1, 2, 4, 5], 2), 40..42),
        ] {
            let mut sender = Sender::new(TYPES, 96, Duration::from_millis(20), 960);
            sender.plan = plan;
            let mut receiver = Receiver::new(TYPES);
            let mut restored = Vec::new();
            for n in 0..80u16 {
                let payload = [n as u8; 40];
                let (payload_type, wrapped) = sender.wrap(&payload, n, u32::from(n) * 960);
                if lost.contains(&n) {
                    continue;
                }
                let (red, primary) = match payload_type {
                    63 => {
                        let red = red::Red::parse(wrapped).unwrap();
                        (red.redundant().to_vec(), red.primary)
                    }
                    _ => (Vec::new(), wrapped),
                };
                assert_eq!(primary, payload);
                receiver.take(n, u32::from(n) * 960, 960, primary, &red, &mut |again| {
                    assert_eq!(again.timestamp, u32::from(again.sequence) * 960);
                    assert_eq!(again.payload, [again.sequence as u8; 40]);
                    restored.push(again.sequence);
                });
            }
            for n in lost {
                assert!(restored.contains(&n), "{plan:?} {n}");
            }
        }
    }

    #[test]
    fn payloads_are_short_enough_for_parity() {
        for ms in [10, 20, 40, 60] {
            let ptime = Duration::from_millis(ms);
            let mut sender = Sender::new(TYPES, 96, ptime, ms as u32 * 48);
            assert_eq!(sender.most_bitrate(), f64::MAX);
            sender.plan = Plan::Parity(&[1, 3], 1);
            let octets = sender.most_bitrate() / 8.0 * ptime.as_secs_f64();
            assert!((150.0..255.0).contains(&octets), "{ms} {octets}");
        }
    }

    #[test]
    fn spending_comes_to_the_budget() {
        let mut spending = Spending::new();
        let (mut boost, mut last) = (1.0, 0.0);
        let mut sum = 0.0;
        for n in 0..4_000 {
            // An encoder that spends a tenth less than it is told, and falls silent now and then.
            last = 100.0 * boost * 0.9;
            let octets = if n % 100 < 10 { 8.0 } else { last };
            boost = spending.spent(octets as usize, 100.0);
            sum += octets;
        }
        assert!((sum / 4_000.0 - 100.0).abs() < 4.0, "{sum}");
        assert!(last < 115.0, "{last}");
    }
}
