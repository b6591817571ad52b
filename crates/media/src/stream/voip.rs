//! What we tell the peer about how we hear it: the VoIP metrics of RFC 3611 section 4.7.

use std::time::{Duration, Instant};

use super::MediaStream;
use crate::quality::{self, GMIN};
use crate::rtcp::{UNKNOWN, VoipMetrics};

/// How often the peer is told; and in the last report.
const INTERVAL: Duration = Duration::from_secs(5);
/// RX config of section 4.7.6: losses are concealed in an enhanced way (10), the jitter buffer
/// adapts itself (11), and takes the longest time that can be said, 2 * 15 packets, to follow a step
/// of the jitter from 30 to 100 ms: its estimate weighs hundreds of packets.
const RECEIVER: u8 = 0b1011_1111;

impl MediaStream {
    /// Appends the block, if the peer wants it and it is due.
    pub(super) fn add_voip_metrics(&mut self, now: Instant, last: bool, out: &mut Vec<u8>) {
        let is_due = last || self.voip_at.is_none_or(|at| now >= at);
        if !is_due || !self.config.voip_metrics {
            return;
        }
        if let (Some(ssrc), Some(metrics)) = (self.incoming.ssrc(), self.voip_metrics()) {
            metrics.write(ssrc, out);
            self.voip_at = Some(now + INTERVAL);
        }
    }

    /// How the peer is heard; `None` before anything was played.
    fn voip_metrics(&self) -> Option<VoipMetrics> {
        let losses = self.incoming.counters().losses;
        let distribution = losses.distribution();
        let playout = self.incoming.playout()?;
        let (delay, reach) = (playout.delay()?, playout.reach()?);
        let listening = quality::opinion(losses.share()?, losses.run(), 0.0);
        let rating = self.rating()?;
        let level = |level: Option<i8>| level.map_or(UNKNOWN, |level| level as u8);
        Some(VoipMetrics {
            loss_rate: share(losses.lost_share()),
            discard_rate: share(losses.discarded_share()),
            burst_density: share(distribution.burst_density),
            gap_density: share(distribution.gap_density),
            burst_ms: distribution.burst.map_or(0, ms),
            gap_ms: distribution.gap.map_or(0, ms),
            round_trip_ms: self.round_trip_ms.unwrap_or(0.0).round() as u16,
            end_system_ms: ms(self.sending_delay() + delay),
            signal_level: level(self.incoming.levels.speech()),
            noise_level: level(self.incoming.levels.noise()),
            echo_return_loss: UNKNOWN,
            gmin: GMIN,
            r_factor: rating.round().clamp(0.0, 100.0) as u8,
            external_r_factor: UNKNOWN,
            mos_lq: opinion(listening),
            mos_cq: opinion(quality::score(rating)),
            receiver: RECEIVER,
            nominal_ms: ms(delay),
            maximum_ms: ms(reach.now),
            absolute_ms: ms(reach.ever),
        })
    }
}

/// A share as so many of 256, rounded down, 255 at most.
fn share(share: Option<f64>) -> u8 {
    (share.unwrap_or(0.0) * 256.0).min(255.0) as u8
}

fn ms(time: Duration) -> u16 {
    u16::try_from(time.as_millis()).unwrap_or(u16::MAX)
}

/// Ten times the score.
fn opinion(score: f64) -> u8 {
    (score * 10.0).round().clamp(10.0, 50.0) as u8
}
