//! The VoIP metrics report block of RFC 3611 section 4.7, as it stands on the wire.

/// The block's type, its octets, and its length field: 32-bit words after the first.
const TYPE: u8 = 7;
const OCTETS: usize = 36;
const WORDS: u16 = 8;

/// What is not known of a level, an echo, a rating or an opinion.
pub(crate) const UNKNOWN: u8 = 127;

/// One block, field by field. Shares are of 256, times are milliseconds, opinions are ten times
/// what they say; [`UNKNOWN`] where a field can be unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VoipMetrics {
    /// Packets that never came and were not brought back.
    pub(crate) loss_rate: u8,
    /// Packets that came and were not heard.
    pub(crate) discard_rate: u8,
    pub(crate) burst_density: u8,
    pub(crate) gap_density: u8,
    pub(crate) burst_ms: u16,
    pub(crate) gap_ms: u16,
    pub(crate) round_trip_ms: u16,
    pub(crate) end_system_ms: u16,
    /// In dBm0, in two's complement; so is the noise.
    pub(crate) signal_level: u8,
    pub(crate) noise_level: u8,
    /// Residual echo return loss.
    pub(crate) echo_return_loss: u8,
    pub(crate) gmin: u8,
    pub(crate) r_factor: u8,
    pub(crate) external_r_factor: u8,
    pub(crate) mos_lq: u8,
    pub(crate) mos_cq: u8,
    /// Concealment, kind and rate of the jitter buffer.
    pub(crate) receiver: u8,
    pub(crate) nominal_ms: u16,
    pub(crate) maximum_ms: u16,
    pub(crate) absolute_ms: u16,
}

impl VoipMetrics {
    /// Appends the block about what `ssrc` sends.
    pub(crate) fn write(&self, ssrc: u32, out: &mut Vec<u8>) {
        out.extend([TYPE, 0]);
        out.extend(WORDS.to_be_bytes());
        out.extend(ssrc.to_be_bytes());
        out.extend([
            self.loss_rate,
            self.discard_rate,
            self.burst_density,
            self.gap_density,
        ]);
        for ms in [
            self.burst_ms,
            self.gap_ms,
            self.round_trip_ms,
            self.end_system_ms,
        ] {
            out.extend(ms.to_be_bytes());
        }
        out.extend([
            self.signal_level,
            self.noise_level,
            self.echo_return_loss,
            self.gmin,
            self.r_factor,
            self.external_r_factor,
            self.mos_lq,
            self.mos_cq,
            self.receiver,
            0,
        ]);
        for ms in [self.nominal_ms, self.maximum_ms, self.absolute_ms] {
            out.extend(ms.to_be_bytes());
        }
    }

    /// Reads the block, from its type on, and the SSRC that it is about; `None` if it is another block
    /// or not as long as it has to be. What its values are worth is not looked at.
    pub(crate) fn parse(block: &[u8]) -> Option<(u32, VoipMetrics)> {
        let block: &[u8; OCTETS] = block.try_into().ok()?;
        let octet = |at: usize| block.get(at).copied().unwrap_or_default();
        let pair = |at: usize| u16::from_be_bytes([octet(at), octet(at + 1)]);
        if octet(0) != TYPE || pair(2) != WORDS {
            return None;
        }
        let ssrc = u32::from(pair(4)) << 16 | u32::from(pair(6));
        let metrics = VoipMetrics {
            loss_rate: octet(8),
            discard_rate: octet(9),
            burst_density: octet(10),
            gap_density: octet(11),
            burst_ms: pair(12),
            gap_ms: pair(14),
            round_trip_ms: pair(16),
            end_system_ms: pair(18),
            signal_level: octet(20),
            noise_level: octet(21),
            echo_return_loss: octet(22),
            gmin: octet(23),
            r_factor: octet(24),
            external_r_factor: octet(25),
            mos_lq: octet(26),
            mos_cq: octet(27),
            receiver: octet(28),
            nominal_ms: pair(30),
            maximum_ms: pair(32),
            absolute_ms: pair(34),
        };
        Some((ssrc, metrics))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The figure of RFC 3611 section 4.7, row by row.
    #[rustfmt::skip]
    const WIRE: [u8; OCTETS] = [
        7, 0, 0, 8,                 // BT=7, reserved, block length = 8
        0xde, 0xad, 0xbe, 0xef,     // SSRC of source
        26, 3, 85, 10,              // loss rate, discard rate, burst density, gap density
        0x00, 0x78, 0x01, 0x04,     // burst duration, gap duration
        0x00, 0x96, 0x00, 0x41,     // round trip delay, end system delay
        0xec, 0xc4, 127, 16,        // signal level, noise level, RERL, Gmin
        77, 127, 39, 38,            // R factor, ext. R factor, MOS-LQ, MOS-CQ
        0xbc, 0, 0x00, 0x28,        // RX config, reserved, JB nominal
        0x01, 0xb8, 0x03, 0x20,     // JB maximum, JB abs max
    ];

    const METRICS: VoipMetrics = VoipMetrics {
        loss_rate: 26,
        discard_rate: 3,
        burst_density: 85,
        gap_density: 10,
        burst_ms: 120,
        gap_ms: 260,
        round_trip_ms: 150,
        end_system_ms: 65,
        signal_level: -20i8 as u8,
        noise_level: -60i8 as u8,
        echo_return_loss: UNKNOWN,
        gmin: 16,
        r_factor: 77,
        external_r_factor: UNKNOWN,
        mos_lq: 39,
        mos_cq: 38,
        receiver: 0b1011_1100,
        nominal_ms: 40,
        maximum_ms: 440,
        absolute_ms: 800,
    };

    #[test]
    fn the_octets_are_those_of_the_figure() {
        let mut bytes = Vec::new();
        METRICS.write(0xdead_beef, &mut bytes);
        assert_eq!(bytes, WIRE);
        assert_eq!(VoipMetrics::parse(&WIRE), Some((0xdead_beef, METRICS)));
    }

    #[test]
    fn another_length_or_type_is_no_block() {
        for end in 0..OCTETS {
            assert_eq!(VoipMetrics::parse(&WIRE[..end]), None);
        }
        assert_eq!(VoipMetrics::parse(&[&WIRE[..], &[0; 4]].concat()), None);
        for (at, value) in [(0, 6), (2, 1), (3, 7), (3, 9)] {
            let mut bad = WIRE;
            bad[at] = value;
            assert_eq!(VoipMetrics::parse(&bad), None);
        }
        // What is reserved must be ignored.
        let mut reserved = WIRE;
        (reserved[1], reserved[29]) = (0xff, 0xff);
        assert_eq!(VoipMetrics::parse(&reserved), Some((0xdead_beef, METRICS)));
    }
}
