//! The receiving half: what redundancy brings back, and how far back it reaches.

use super::RedundancyTypes;
use super::parity::Solver;
use super::red::Block;

/// Packets over which the farthest redundancy counts: the delay shall not follow every change of plan.
const WINDOW: u32 = 250;

/// A payload that came again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Again<'a> {
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    pub(crate) payload_type: Option<u8>,
    pub(crate) payload: &'a [u8],
}

/// What the receiving half does with each packet.
#[derive(Debug)]
pub(crate) struct Receiver {
    types: RedundancyTypes,
    /// Where parity was agreed on.
    solver: Option<Solver>,
    /// How far the redundancy of this window's packets reaches back, and of the window before, in
    /// ticks of the RTP clock.
    reach: [u32; 2],
    packets: u32,
}

impl Receiver {
    pub(crate) fn new(types: RedundancyTypes) -> Receiver {
        Receiver {
            types,
            solver: types.parity.map(|_| Solver::default()),
            reach: [0; 2],
            packets: 0,
        }
    }

    /// How far back the redundancy of late packets reaches, in ticks.
    pub(crate) fn reach(&self) -> u32 {
        self.reach.into_iter().max().unwrap_or(0)
    }

    /// A packet came, whose own payload lasts `duration` ticks, with these blocks beside it. Whatever
    /// they bring back goes to `again`; it may well be there already.
    pub(crate) fn take(
        &mut self,
        sequence: u16,
        timestamp: u32,
        duration: u32,
        primary: &[u8],
        blocks: &[Block<'_>],
        again: &mut dyn FnMut(Again<'_>),
    ) {
        self.packets += 1;
        if self.packets >= WINDOW {
            self.packets = 0;
            self.reach = [0, self.reach[0]];
        }
        if let Some(solver) = &mut self.solver {
            solver.known(sequence, primary);
        }
        for block in blocks {
            let is_parity = Some(block.payload_type) == self.types.parity;
            let reach = if let Some(solver) = self.solver.as_mut().filter(|_| is_parity) {
                solver.block(sequence, timestamp, duration, block.data)
            } else {
                let back = (block.offset / duration.max(1)) as u16;
                let sequence = sequence.wrapping_sub(back);
                if block.data.is_empty() || back == 0 {
                    continue;
                }
                if let Some(solver) = &mut self.solver {
                    solver.known(sequence, block.data);
                }
                again(Again {
                    sequence,
                    timestamp: timestamp.wrapping_sub(block.offset),
                    payload_type: Some(block.payload_type),
                    payload: block.data,
                });
                Some(block.offset)
            };
            self.reach[0] = self.reach[0].max(reach.unwrap_or(0));
        }
        let Some(solver) = &mut self.solver else {
            return;
        };
        while let Some(restored) = solver.poll() {
            again(Again {
                sequence: restored.sequence,
                timestamp: restored.timestamp.wrapping_sub(restored.offset),
                payload_type: None,
                payload: restored.payload,
            });
        }
    }
}
