//! Which redundancy is sent: every plan is tried on the packets' latest fates, and the one that promises
//! the best sound for the same bits is taken.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::trace::Trace;

/// What goes along with each packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Nothing.
    None,
    /// Copies of the payloads that were sent so many packets before.
    Copies(&'static [u8]),
    /// Parity of the payloads at these distances, with every so manieth packet.
    Parity(&'static [u8], u16),
}

/// The plans that are known: distances in packets. What was found best by trying all sets up to twelve
/// packets on random loss and on bursts.
const PLANS: [Plan; 17] = [
    Plan::None,
    Plan::Parity(&[1, 2, 3, 5, 7], 3),
    Plan::Parity(&[1, 5, 6, 8], 2),
    Plan::Parity(&[1, 3, 4, 7, 8], 2),
    Plan::Parity(&[1, 4, 6], 1),
    Plan::Parity(&[1, 4, 9], 1),
    Plan::Parity(&[2, 3, 8, 12], 1),
    Plan::Parity(&[4, 12], 1),
    Plan::Copies(&[1]),
    Plan::Copies(&[2]),
    Plan::Copies(&[4]),
    Plan::Copies(&[8]),
    Plan::Copies(&[12]),
    Plan::Copies(&[14]),
    Plan::Copies(&[1, 5]),
    Plan::Copies(&[4, 9]),
    Plan::Copies(&[5, 12]),
];

/// What the payload format costs beside the payloads, in octets a packet: the header of the primary
/// block, of a redundant one (RFC 2198 section 3), and what a parity block says about itself.
const PRIMARY_HEADER: f64 = 1.0;
const BLOCK_HEADER: f64 = 4.0;
/// A parity block is as long as the longest of its payloads.
const PADDING: f64 = 1.12;
/// The least bits a second that are left to the sound itself.
const LEAST_BITRATE: f64 = 10_000.0;
/// A new plan must be better by this, so that the delay does not change for a trifle.
const BETTER: f64 = 0.12;
/// The farthest that redundancy may reach back, in milliseconds: so much the delay grows. RFC 2198's
/// offsets end at 341 ms.
const LONGEST_REACH: u32 = 300;
/// Packets that are made up by the model of what was seen.
const LIKELY: usize = 800;
/// Fates that are enough to judge by.
const ENOUGH: usize = 15;

impl Plan {
    /// How far back it reaches, in packets.
    pub(crate) fn farthest(self) -> u8 {
        let distances = match self {
            Plan::None => &[][..],
            Plan::Copies(distances) | Plan::Parity(distances, _) => distances,
        };
        distances.iter().copied().max().unwrap_or(0)
    }

    /// What is left to the sound itself of `budget` bits a second, at so many packets a second.
    pub(crate) fn primary_bitrate(self, budget: f64, packets: f64) -> f64 {
        let (overhead, copies) = match self {
            Plan::None => (0.0, 0.0),
            Plan::Copies(distances) => {
                let count = distances.len() as f64;
                (PRIMARY_HEADER + count * BLOCK_HEADER, count)
            }
            Plan::Parity(distances, every) => {
                let share = 1.0 / f64::from(every);
                let own = PRIMARY_HEADER + BLOCK_HEADER + 2.0 + distances.len() as f64;
                (own * share, PADDING * share)
            }
        };
        (budget - overhead * 8.0 * packets) / (1.0 + copies)
    }

    /// The share of packets that would have been missing under it.
    fn residual(self, fates: &[bool]) -> f64 {
        let mut known = fates.to_vec();
        match self {
            Plan::None => {}
            Plan::Copies(distances) => {
                for (n, known) in known.iter_mut().enumerate() {
                    let copied =
                        |distance: &u8| fates.get(n + usize::from(*distance)) == Some(&true);
                    *known |= distances.iter().any(copied);
                }
            }
            Plan::Parity(distances, every) => solve(&mut known, fates, distances, every),
        }
        // Of the last ones nobody knows yet what would become of them.
        let judged = fates.len() - usize::from(self.farthest()).min(fates.len() - 1);
        let missing = known.iter().take(judged).filter(|known| !**known).count();
        missing as f64 / judged as f64
    }

    /// What the sound is worth, on the scale of wide-band PESQ as measured over many cells (see
    /// docs/decisions/0017): it grows with the bits, falls with what is missing, and a little with
    /// the delay.
    fn worth(self, fates: &Fates, budget: f64, packet_ms: u32) -> Option<f64> {
        let bitrate = self.primary_bitrate(budget, 1e3 / f64::from(packet_ms.max(1)));
        let reach = u32::from(self.farthest()) * packet_ms;
        if bitrate < LEAST_BITRATE || reach > LONGEST_REACH {
            return None;
        }
        let missing = (self.residual(&fates.seen) + self.residual(&fates.likely)) / 2.0;
        let kept = (-(missing / 0.09).powf(0.75)).exp();
        let delay = 0.0004 * f64::from(reach);
        Some(1.0 + (clean(bitrate) - 1.0) * kept - delay)
    }
}

/// What plans are tried on.
struct Fates {
    /// What happened,
    seen: Vec<bool>,
    /// and what else might have, of the same share of losses and the same mean length: so that no plan is
    /// taken only because it fits by chance what will not happen again.
    likely: Vec<bool>,
}

impl Fates {
    fn new(trace: &Trace) -> Fates {
        let seen: Vec<bool> = trace.fates().iter().copied().collect();
        let lost = seen.iter().filter(|arrived| !**arrived).count() as f64;
        let bursts = seen.windows(2).filter(|pair| pair[0] && !pair[1]).count() as f64;
        // Gilbert's model: the chances that a loss begins, and that it ends.
        let begins = ((bursts + 0.1) / (seen.len() as f64 - lost).max(1.0)).min(1.0);
        let ends = ((bursts + 0.1) / lost.max(0.1)).min(1.0);
        let mut dice = ChaCha8Rng::seed_from_u64(1);
        let mut lost = false;
        let likely = (0..LIKELY)
            .map(|_| {
                let luck = f64::from(dice.next_u32()) / f64::from(u32::MAX);
                lost = match lost {
                    true => luck >= ends,
                    false => luck < begins,
                };
                !lost
            })
            .collect();
        Fates { seen, likely }
    }
}

/// Restores what parity restores, within the delay that its farthest distance asks for.
fn solve(known: &mut [bool], fates: &[bool], distances: &[u8], every: u16) {
    let farthest = distances.iter().copied().max().map_or(0, usize::from);
    let carries = |n: usize| fates.get(n) == Some(&true) && n.is_multiple_of(usize::from(every));
    for newest in 0..fates.len() {
        loop {
            let mut changed = false;
            for block in newest.saturating_sub(farthest)..=newest {
                if !carries(block) {
                    continue;
                }
                let sources = distances
                    .iter()
                    .filter_map(|distance| block.checked_sub(usize::from(*distance)));
                let mut unknown = sources.filter(|at| known.get(*at) == Some(&false));
                if let (Some(at), None) = (unknown.next(), unknown.next())
                    && at + farthest >= newest
                    && let Some(place) = known.get_mut(at)
                {
                    *place = true;
                    changed = true;
                }
            }
            if !changed {
                break;
            }
        }
    }
}

/// The worth of speech without loss at so many bits a second.
fn clean(bitrate: f64) -> f64 {
    const POINTS: [(f64, f64); 6] = [
        (8_000.0, 2.2),
        (11_000.0, 2.9),
        (15_000.0, 3.3),
        (21_000.0, 3.8),
        (28_000.0, 4.1),
        (42_000.0, 4.5),
    ];
    let mut before = POINTS[0];
    for point in POINTS {
        if bitrate <= point.0 {
            let way = ((bitrate - before.0) / (point.0 - before.0).max(1.0)).max(0.0);
            return before.1 + way * (point.1 - before.1);
        }
        before = point;
    }
    before.1
}

/// The plan to follow after `current`, for packets of `packet_ms`. `parity`: the peer knows it.
pub(crate) fn choose(
    current: Plan,
    trace: &Trace,
    budget: f64,
    packet_ms: u32,
    parity: bool,
) -> Plan {
    if trace.fates().len() < ENOUGH {
        return current;
    }
    // Where nothing is lost, nothing is waited for.
    if trace.is_calm() {
        return Plan::None;
    }
    let fates = Fates::new(trace);
    let mut best = (
        current,
        current.worth(&fates, budget, packet_ms).unwrap_or(0.0) + BETTER,
    );
    for plan in PLANS {
        if matches!(plan, Plan::Parity(..)) && !parity {
            continue;
        }
        if let Some(worth) = plan.worth(&fates, budget, packet_ms)
            && worth > best.1
        {
            best = (plan, worth);
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use super::super::trace::Reported;
    use super::*;

    /// Losses of a share `loss`, in bursts of this mean length.
    fn trace(loss: f64, burst: f64) -> Trace {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut dice = || f64::from(rng.next_u32()) / f64::from(u32::MAX);
        let leave = 1.0 / burst;
        let enter = loss * leave / (1.0 - loss);
        let mut bad = false;
        let arrived = (0..380)
            .map(|_| {
                let luck = dice();
                bad = match bad {
                    _ if burst <= 1.0 => luck < loss,
                    true => luck >= leave,
                    false => luck < enter,
                };
                !bad
            })
            .collect();
        let mut trace = Trace::default();
        trace.take(&Reported { begin: 0, arrived });
        trace
    }

    fn chosen(loss: f64, burst: f64, parity: bool) -> Plan {
        choose(Plan::None, &trace(loss, burst), 42_000.0, 20, parity)
    }

    #[test]
    fn more_loss_asks_for_more_and_bursts_for_farther_copies() {
        assert_eq!(chosen(0.0, 1.0, true), Plan::None);
        let Plan::Parity(_, little) = chosen(0.04, 1.0, true) else {
            panic!("parity for little loss");
        };
        let Plan::Parity(_, much) = chosen(0.25, 1.0, true) else {
            panic!("parity for much loss");
        };
        assert!(little > much);
        let near = chosen(0.1, 1.0, false);
        let far = chosen(0.1, 5.0, false);
        assert!(matches!(near, Plan::Copies(_)));
        assert!(near.farthest() < far.farthest(), "{near:?} {far:?}");
        assert!(chosen(0.1, 5.0, true).farthest() >= 6);
    }

    #[test]
    fn the_bits_stay_the_same() {
        for plan in PLANS {
            let primary = plan.primary_bitrate(42_000.0, 50.0);
            let all = match plan {
                Plan::None => primary,
                Plan::Copies(distances) => {
                    let count = distances.len() as f64;
                    primary * (1.0 + count) + (1.0 + 4.0 * count) * 400.0
                }
                Plan::Parity(distances, every) => {
                    let own = (7.0 + distances.len() as f64) * 400.0;
                    primary + (primary * PADDING + own) / f64::from(every)
                }
            };
            assert!((all - 42_000.0).abs() < 1.0, "{plan:?} {all}");
        }
    }
}
