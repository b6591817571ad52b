//! What the peer says about how it hears us (RFC 3611 section 4.7).

use std::ops::RangeInclusive;

use crate::rtcp::{UNKNOWN, VoipMetrics};

/// What an R factor may be.
const RATINGS: RangeInclusive<u8> = 0..=100;
/// What ten times a mean opinion score may be.
const OPINIONS: RangeInclusive<u8> = 10..=50;

/// The peer's newest figures; `None` for what it does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Remote {
    /// The share of packets that were not heard there.
    pub(crate) share: Option<f64>,
    pub(crate) burst_density: Option<f64>,
    pub(crate) burst_ms: Option<f64>,
    pub(crate) buffer_ms: Option<f64>,
    pub(crate) r_factor: Option<f64>,
    /// The mean opinion score of the conversation.
    pub(crate) mos: Option<f64>,
}

impl Remote {
    /// Takes a block. Values that must not be sent are ignored, each for itself (RFC 3611 section
    /// 4.7.5): what was said before stands. A burst that lasted no time and a buffer of no length are
    /// none.
    pub(crate) fn hear(&mut self, metrics: &VoipMetrics) {
        let share = |octet: u8| f64::from(octet) / 256.0;
        let missing = u16::from(metrics.loss_rate) + u16::from(metrics.discard_rate);
        let some = |ms: u16| (ms > 0).then(|| f64::from(ms));
        let burst_ms = some(metrics.burst_ms);
        let told = |octet: u8, range: RangeInclusive<u8>, unit: f64, before| match octet {
            UNKNOWN => None,
            octet if range.contains(&octet) => Some(f64::from(octet) / unit),
            _ => before,
        };
        *self = Remote {
            share: Some((f64::from(missing) / 256.0).min(1.0)),
            burst_density: burst_ms.map(|_| share(metrics.burst_density)),
            burst_ms,
            buffer_ms: some(metrics.nominal_ms),
            r_factor: told(metrics.r_factor, RATINGS, 1.0, self.r_factor),
            mos: told(metrics.mos_cq, OPINIONS, 10.0, self.mos),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const METRICS: VoipMetrics = VoipMetrics {
        loss_rate: 32,
        discard_rate: 32,
        burst_density: 128,
        gap_density: 0,
        burst_ms: 240,
        gap_ms: 0,
        round_trip_ms: 0,
        end_system_ms: 0,
        signal_level: UNKNOWN,
        noise_level: UNKNOWN,
        echo_return_loss: UNKNOWN,
        gmin: 16,
        r_factor: 62,
        external_r_factor: UNKNOWN,
        mos_lq: 33,
        mos_cq: 32,
        receiver: 0,
        nominal_ms: 60,
        maximum_ms: 0,
        absolute_ms: 0,
    };

    #[test]
    fn the_newest_block_counts() {
        let mut remote = Remote::default();
        remote.hear(&METRICS);
        let said = Remote {
            share: Some(0.25),
            burst_density: Some(0.5),
            burst_ms: Some(240.0),
            buffer_ms: Some(60.0),
            r_factor: Some(62.0),
            mos: Some(3.2),
        };
        assert_eq!(remote, said);
        remote.hear(&VoipMetrics {
            loss_rate: 255,
            discard_rate: 255,
            burst_ms: 0,
            r_factor: UNKNOWN,
            mos_cq: UNKNOWN,
            nominal_ms: 0,
            ..METRICS
        });
        let unknown = Remote {
            share: Some(1.0),
            ..Remote::default()
        };
        assert_eq!(remote, unknown);
    }

    #[test]
    fn values_out_of_their_range_are_ignored() {
        let mut remote = Remote::default();
        remote.hear(&METRICS);
        let said = remote;
        for absurd in (0..10).chain(51..127).chain(128..=255) {
            let r_factor = if absurd <= 100 { 101 } else { absurd };
            remote.hear(&VoipMetrics {
                r_factor,
                mos_cq: absurd,
                ..METRICS
            });
            assert_eq!(remote, said, "{absurd}");
        }
    }
}
