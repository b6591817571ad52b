//! The figures of a stream.

use std::time::Duration;

use super::MediaStream;
use crate::quality;

/// The figures of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StreamStats {
    /// RTP packets sent.
    pub tx_packets: u64,
    /// Octets of their payloads.
    pub tx_octets: u64,
    /// Valid RTP packets received (of all sources).
    pub rx_packets: u64,
    /// Octets of their payloads.
    pub rx_octets: u64,
    /// Packets expected but not received (RFC 3550 appendix A.3), never below zero here.
    pub lost: u64,
    /// Packets that came after their time to be played.
    pub late: u64,
    /// Packets that came and were not heard: too late, thrown away or damaged.
    pub discarded: u64,
    /// Packets that came more than once.
    pub duplicates: u64,
    /// Interarrival jitter (RFC 3550 section 6.4.1), in milliseconds.
    pub jitter_ms: Option<f64>,
    /// Round-trip time by LSR and DLSR (RFC 3550 section 6.4.1), in milliseconds: the latest.
    pub rtt_ms: Option<f64>,
    /// What the jitter buffer adds to the quickest packet's way now, in milliseconds.
    pub buffer_ms: Option<f64>,
    /// What it aims at, in milliseconds.
    pub target_ms: Option<f64>,
    /// Packets' worth of sound (as long as the last packet was), rounded up, that had to be made up in place of missing sound.
    pub concealed: u64,
    /// How much sound that was, in milliseconds.
    pub concealed_ms: u64,
    /// The share of packets, in percent, that were not heard: neither in time, nor brought back by
    /// redundancy; `None` before anything was played.
    pub loss_percent: Option<f64>,
    /// How many packets in a row were missing when they were to be played, in the mean; `None`
    /// without a loss.
    pub burst_packets: Option<f64>,
    /// How long a burst of losses lasts in the mean, in milliseconds: from a missing packet to the
    /// last one that fewer than 16 heard ones in a row come before (RFC 3611 section 4.7.2); `None`
    /// without one.
    pub burst_ms: Option<f64>,
    /// How long it is from one burst to the next in the mean, in milliseconds.
    pub gap_ms: Option<f64>,
    /// The share of packets, 0 to 1, that are missing within bursts; `None` without one.
    pub burst_density: Option<f64>,
    /// The same between bursts.
    pub gap_density: Option<f64>,
    /// Lost packets that Opus' in-band FEC brought back.
    pub recovered: u64,
    /// Packets that the peer says it lost of ours.
    pub remote_lost: Option<u64>,
    /// The jitter that the peer measured of ours, in milliseconds.
    pub remote_jitter_ms: Option<f64>,
    /// The rating of the conversation as it is heard here, R of the E-model, 0 to 93.2.
    pub r_factor: Option<f64>,
    /// The mean opinion score of what is heard here, 1 to 4.41, estimated by the E-model (ITU-T
    /// G.107) from losses, bursts and delay; `None` before anything was played.
    pub mos: Option<f64>,
    /// The same of what the peer hears: its own (RFC 3611 section 4.7.5), else estimated from what it
    /// reports; `None` before it reports.
    pub remote_mos: Option<f64>,
    /// The peer's own rating of what it hears, and the figures below: from its VoIP metrics, `None`
    /// where it sends none.
    pub remote_r_factor: Option<f64>,
    /// The share of our packets, in percent, that the peer did not hear.
    pub remote_loss_percent: Option<f64>,
    /// How long a burst of losses lasts there, in milliseconds.
    pub remote_burst_ms: Option<f64>,
    /// The share of packets, 0 to 1, that are missing within bursts there.
    pub remote_burst_density: Option<f64>,
    /// The delay of its jitter buffer, in milliseconds.
    pub remote_buffer_ms: Option<f64>,
}

impl MediaStream {
    /// The figures so far.
    pub fn stats(&self) -> StreamStats {
        let counters = self.incoming.counters();
        let playout = self.incoming.playout();
        let clock_rate = f64::from(self.config.send.0.clock_rate());
        let losses = counters.losses;
        let distribution = losses.distribution();
        let rating = self.rating();
        StreamStats {
            tx_packets: self.outgoing.packets + self.sent_before.0,
            tx_octets: self.outgoing.octets + self.sent_before.1,
            rx_packets: self.incoming.packets,
            rx_octets: self.incoming.octets,
            lost: self.incoming.lost(),
            late: counters.late,
            discarded: losses.discards(),
            duplicates: counters.duplicates,
            jitter_ms: self.incoming.jitter_ms(),
            rtt_ms: self.round_trip_ms,
            buffer_ms: playout.and_then(|playout| playout.delay()).map(ms),
            target_ms: playout.and_then(|playout| playout.target()).map(ms),
            concealed: counters.concealed,
            concealed_ms: u64::try_from(counters.made_up.as_millis()).unwrap_or(u64::MAX),
            loss_percent: losses.share().map(|share| share * 100.0),
            burst_packets: losses.run(),
            burst_ms: distribution.burst.map(ms),
            gap_ms: distribution.gap.map(ms),
            burst_density: distribution.burst_density,
            gap_density: distribution.gap_density,
            recovered: counters.recovered,
            remote_lost: self.heard.map(|block| u64::from(block.cumulative_lost)),
            remote_jitter_ms: self
                .heard
                .map(|block| f64::from(block.jitter) * 1e3 / clock_rate),
            r_factor: rating.map(|rating| rating.max(0.0)),
            mos: rating.map(quality::score),
            remote_mos: self.remote.mos.or_else(|| self.estimated_remote_mos()),
            remote_r_factor: self.remote.r_factor,
            remote_loss_percent: self.remote.share.map(|share| share * 100.0),
            remote_burst_ms: self.remote.burst_ms,
            remote_burst_density: self.remote.burst_density,
            remote_buffer_ms: self.remote.buffer_ms,
        }
    }

    /// The rating of the conversation as it is heard here; `None` before anything was played.
    pub(super) fn rating(&self) -> Option<f64> {
        let losses = self.incoming.counters().losses;
        let playout = self.incoming.playout();
        let delay = playout.and_then(|playout| playout.delay()).map_or(0.0, ms);
        let rate = |share| quality::rating(share, losses.run(), self.path_ms() + delay);
        losses.share().map(rate)
    }

    /// From mouth to ear, but for the jitter buffer: the way, the packet's own length, and what the
    /// encoder looks ahead.
    fn path_ms(&self) -> f64 {
        self.round_trip_ms.unwrap_or(0.0) / 2.0 + ms(self.sending_delay())
    }

    /// What sending takes: a packet to be filled, and the encoder's own delay.
    pub(super) fn sending_delay(&self) -> Duration {
        self.config.ptime + self.outgoing.look_ahead()
    }

    /// What the peer's last report says about how it hears us; how its losses are distributed, it
    /// does not say.
    fn estimated_remote_mos(&self) -> Option<f64> {
        let sent = self.outgoing.packets;
        let heard = self.heard.filter(|_| sent > 0)?;
        // Duplicates can bring the count below zero, in 24 bits.
        let lost = heard.cumulative_lost;
        let lost = if lost < 1 << 23 { f64::from(lost) } else { 0.0 };
        let share = (lost / sent as f64).min(1.0);
        Some(quality::opinion(share, None, self.path_ms()))
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
