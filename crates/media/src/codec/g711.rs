//! G.711: the two companding laws (ITU-T G.711), and a stream's encoder and decoder, which stand
//! between 8 kHz on the wire and 48 kHz inside.

use crate::resample::{Down, Narrow, Up};

use super::concealment::{After, Concealment};
use super::{Codec, LONGEST_TICKS as LONGEST};

/// Which of G.711's laws.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Law {
    Mu,
    A,
}

impl Law {
    /// The law of a codec that is G.711.
    pub(crate) fn of(codec: Codec) -> Option<Law> {
        match codec {
            Codec::Pcmu => Some(Law::Mu),
            Codec::Pcma => Some(Law::A),
            Codec::Opus | Codec::G722 => None,
        }
    }

    /// A linear sample as an octet.
    pub(crate) fn compress(self, sample: i16) -> u8 {
        match self {
            Law::Mu => compress_mu(sample),
            Law::A => compress_a(sample),
        }
    }

    /// An octet as a linear sample.
    pub(crate) fn expand(self, octet: u8) -> i16 {
        match self {
            Law::Mu => expand_mu(octet),
            Law::A => expand_a(octet),
        }
    }
}

/// The bias that makes every µ-law segment begin at a power of two.
const BIAS: i32 = 0x84;
/// The largest magnitude that µ-law can express, before the bias.
const MU_CLIP: i32 = 32_635;

fn compress_mu(sample: i16) -> u8 {
    let sign = if sample < 0 { 0x80 } else { 0 };
    let magnitude = i32::from(sample).abs().min(MU_CLIP) + BIAS;
    // The magnitude lies between 0x84 and 0x7fff: its highest bit is bit 7 to 14.
    let segment = 24 - magnitude.leading_zeros() as i32;
    let step = (magnitude >> (segment + 3)) & 0x0f;
    !(sign | (segment << 4) as u8 | step as u8)
}

fn expand_mu(octet: u8) -> i16 {
    let octet = !octet;
    let segment = i32::from(octet >> 4) & 0x07;
    let step = i32::from(octet) & 0x0f;
    let magnitude = (((step << 3) + BIAS) << segment) - BIAS;
    (if octet & 0x80 != 0 {
        -magnitude
    } else {
        magnitude
    }) as i16
}

fn compress_a(sample: i16) -> u8 {
    // A-law has 13 bits; a negative sample is mapped by its one's complement (G.711 table 1a/b).
    let (sign, magnitude) = match sample >> 3 {
        sample if sample < 0 => (0x00, i32::from(!sample)),
        sample => (0x80, i32::from(sample)),
    };
    let code = if magnitude < 0x20 {
        magnitude >> 1
    } else {
        // The highest bit is bit 5 to 11 here.
        let segment = 27 - magnitude.leading_zeros() as i32;
        (segment << 4) | ((magnitude >> segment) & 0x0f)
    };
    (sign | code as u8) ^ 0x55
}

fn expand_a(octet: u8) -> i16 {
    let octet = octet ^ 0x55;
    let segment = i32::from(octet >> 4) & 0x07;
    let step = i32::from(octet) & 0x0f;
    let magnitude = match segment {
        0 => (step << 4) + 8,
        _ => ((step << 4) + 0x108) << (segment - 1),
    };
    (if octet & 0x80 != 0 {
        magnitude
    } else {
        -magnitude
    }) as i16
}

/// 48 kHz frames into octets.
#[derive(Debug)]
pub(crate) struct G711Encoder {
    law: Law,
    down: Down,
    narrow: Vec<i16>,
}

impl G711Encoder {
    pub(crate) fn new(law: Law) -> G711Encoder {
        G711Encoder {
            law,
            down: Down::new(Narrow::Khz8),
            narrow: Vec::new(),
        }
    }

    /// Writes the octets in place of what `packet` holds.
    pub(crate) fn encode(&mut self, frame: &[i16], packet: &mut Vec<u8>) {
        self.narrow.clear();
        self.down.process(frame, &mut self.narrow);
        packet.clear();
        packet.extend(self.narrow.iter().map(|&s| self.law.compress(s)));
    }
}

/// Octets into 48 kHz sound, lost ones concealed.
#[derive(Debug)]
pub(crate) struct G711Decoder {
    up: Up,
    concealment: Concealment,
    narrow: Vec<i16>,
    /// The sound after a gap.
    after: Vec<i16>,
}

impl G711Decoder {
    pub(crate) fn new() -> G711Decoder {
        G711Decoder {
            up: Up::new(Narrow::Khz8),
            concealment: Concealment::new(1),
            narrow: Vec::with_capacity(LONGEST),
            after: Vec::with_capacity(LONGEST),
        }
    }

    pub(crate) fn decode(&mut self, law: Law, payload: &[u8], out: &mut Vec<i16>) {
        self.narrow.clear();
        let octets = payload.iter();
        self.narrow.extend(octets.map(|&octet| law.expand(octet)));
        self.concealment.received(&mut self.narrow);
        self.up.process(&self.narrow, out);
    }

    /// Makes up `samples` of 8 kHz; `next` is a packet after the gap that is there already, and
    /// after how many samples it follows.
    pub(crate) fn conceal(
        &mut self,
        samples: usize,
        next: Option<(Law, &[u8], usize)>,
        out: &mut Vec<i16>,
    ) {
        self.after.clear();
        let after = next.map(|(law, payload, distance)| {
            let octets = payload.iter();
            self.after.extend(octets.map(|&octet| law.expand(octet)));
            After {
                distance,
                sound: &self.after,
            }
        });
        self.narrow.clear();
        self.narrow.resize(samples, 0);
        self.concealment.conceal(&mut self.narrow, after);
        self.up.process(&self.narrow, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values_of_the_tables() {
        // G.711 tables 2a and 2b: the ends of the scale and its middle, at 16 bit.
        assert_eq!(Law::Mu.expand(0xff), 0);
        assert_eq!(Law::Mu.expand(0x7f), 0);
        assert_eq!(Law::Mu.expand(0x80), 32_124);
        assert_eq!(Law::Mu.expand(0x00), -32_124);
        assert_eq!(Law::A.expand(0xd5), 8);
        assert_eq!(Law::A.expand(0x55), -8);
        assert_eq!(Law::A.expand(0xaa), 32_256);
        assert_eq!(Law::A.expand(0x2a), -32_256);
    }

    #[test]
    fn every_octet_survives_the_round_trip() {
        for law in [Law::Mu, Law::A] {
            for octet in 0..=255u8 {
                let sample = law.expand(octet);
                assert_eq!(
                    law.expand(law.compress(sample)),
                    sample,
                    "{law:?} {octet:#x}"
                );
            }
        }
    }

    #[test]
    fn every_sample_comes_back_within_half_a_step() {
        for law in [Law::Mu, Law::A] {
            for sample in i16::MIN..=i16::MAX {
                let back = i32::from(law.expand(law.compress(sample)));
                let error = (back - i32::from(sample)).abs();
                // Steps grow with the magnitude: at most 1/32 of it, and 16 near zero; clipping
                // at the end of the scale.
                let allowed = 17 + i32::from(sample).abs() / 32;
                assert!(
                    error <= allowed.max(700 * i32::from(sample.unsigned_abs() > 32_100)),
                    "{law:?} {sample} {back}"
                );
            }
        }
    }
}
