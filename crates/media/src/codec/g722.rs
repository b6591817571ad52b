//! G.722 (RFC 3551 section 4.5.2): 7 kHz of sound in 64 kbit/s. A stream's encoder and decoder,
//! which stand between 16 kHz on the wire and 48 kHz inside.
//!
//! Its RTP clock has 8000 ticks a second, by an old mistake that has to be kept: an octet, which
//! holds two samples, is one tick.

mod adpcm;

use crate::resample::{Down, Narrow, Up};

use super::concealment::{After, Concealment};

/// Samples of 16 kHz for a tick, which is an octet too.
const SAMPLES: usize = 2;
/// Samples of the longest packet.
const LONGEST: usize = SAMPLES * super::LONGEST_TICKS;

/// 48 kHz frames into octets.
#[derive(Debug)]
pub(crate) struct G722Encoder {
    adpcm: adpcm::Encoder,
    down: Down,
    narrow: Vec<i16>,
}

impl G722Encoder {
    pub(crate) fn new() -> G722Encoder {
        G722Encoder {
            adpcm: adpcm::Encoder::new(),
            down: Down::new(Narrow::Khz16),
            narrow: Vec::new(),
        }
    }

    /// Writes the octets in place of what `packet` holds.
    pub(crate) fn encode(&mut self, frame: &[i16], packet: &mut Vec<u8>) {
        self.narrow.clear();
        self.down.process(frame, &mut self.narrow);
        let pairs = self.narrow.as_chunks::<SAMPLES>().0.iter();
        packet.clear();
        packet.extend(pairs.map(|&pair| self.adpcm.encode(pair)));
    }
}

/// Octets into 48 kHz sound, lost ones concealed.
#[derive(Debug)]
pub(crate) struct G722Decoder {
    adpcm: adpcm::Decoder,
    up: Up,
    concealment: Concealment,
    narrow: Vec<i16>,
    /// The sound after a gap.
    after: Vec<i16>,
}

impl G722Decoder {
    pub(crate) fn new() -> G722Decoder {
        G722Decoder {
            adpcm: adpcm::Decoder::new(),
            up: Up::new(Narrow::Khz16),
            concealment: Concealment::new(SAMPLES),
            narrow: Vec::with_capacity(LONGEST),
            after: Vec::with_capacity(LONGEST),
        }
    }

    pub(crate) fn decode(&mut self, payload: &[u8], out: &mut Vec<i16>) {
        self.narrow.clear();
        for &octet in payload {
            self.narrow.extend(self.adpcm.decode(octet));
        }
        self.concealment.received(&mut self.narrow);
        self.up.process(&self.narrow, out);
    }

    /// Decodes a packet before its time. How the decoder would stand there is known as well as the
    /// gap can be guessed without it.
    fn look_ahead(&mut self, payload: &[u8], distance: usize) {
        let Some(mut guess) = self.concealment.guess(distance) else {
            return;
        };
        self.narrow.clear();
        self.narrow.resize(distance, 0);
        guess.conceal(&mut self.narrow, None);
        let mut ahead = self.adpcm.clone();
        ahead.follow(&self.narrow, &guess.beyond());
        for &octet in payload {
            self.after.extend(ahead.decode(octet));
        }
    }

    /// Makes up `octets` of sound; `next` is a packet after the gap that is there already, and
    /// after how many octets it follows.
    pub(crate) fn conceal(
        &mut self,
        octets: usize,
        next: Option<(&[u8], usize)>,
        out: &mut Vec<i16>,
    ) {
        self.after.clear();
        if let Some((payload, distance)) = next {
            self.look_ahead(payload, distance * SAMPLES);
        }
        let after = next.map(|(_, distance)| After {
            distance: distance * SAMPLES,
            sound: &self.after,
        });
        self.narrow.clear();
        self.narrow.resize(octets * SAMPLES, 0);
        self.concealment.conceal(&mut self.narrow, after);
        let beyond = self.concealment.beyond();
        self.adpcm.follow(&self.narrow, &beyond);
        self.up.process(&self.narrow, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::{Source, Tone};
    use crate::{FRAME, SAMPLE_RATE, tone};

    fn packets(hz: f64, count: usize) -> Vec<Vec<u8>> {
        let (mut encoder, mut source) = (G722Encoder::new(), Tone::new(hz));
        let mut frame = [0; FRAME];
        (0..count)
            .map(|_| {
                source.read(&mut frame);
                let mut packet = Vec::new();
                encoder.encode(&frame, &mut packet);
                packet
            })
            .collect()
    }

    #[test]
    fn tones_of_the_whole_band_make_the_round_trip() {
        for hz in [100.0, 1_000.0, 3_400.0, 5_000.0, 6_800.0] {
            let mut decoder = G722Decoder::new();
            let mut sound = Vec::new();
            for packet in packets(hz, 100) {
                assert_eq!(packet.len(), 80);
                decoder.decode(&packet, &mut sound);
            }
            assert_eq!(sound.len(), 100 * FRAME);
            let report = tone::measure(&sound, hz, SAMPLE_RATE, 0.2);
            assert!(
                report.seconds > 0.95 && report.longest_gap_ms == 0.0,
                "{hz} {report:?}"
            );
        }
    }

    #[test]
    fn lost_packets_are_made_up_and_the_decoder_finds_back() {
        let packets = packets(440.0, 100);
        for seen in [true, false] {
            let mut decoder = G722Decoder::new();
            let mut sound = Vec::new();
            for (index, packet) in packets.iter().enumerate() {
                match index % 10 {
                    5 => {
                        let next = seen.then(|| (packets[index + 1].as_slice(), 80));
                        decoder.conceal(80, next, &mut sound);
                    }
                    _ => decoder.decode(packet, &mut sound),
                }
            }
            assert_eq!(sound.len(), 100 * FRAME);
            let step = sound[4_800..].windows(2).map(|w| w[0].abs_diff(w[1]));
            // The tone's own steps are 570 at most.
            let step = step.max().unwrap();
            assert!(step < 1_500, "a click of {step}");
            let report = tone::measure(&sound, 440.0, SAMPLE_RATE, 0.2);
            assert!(report.longest_gap_ms == 0.0, "{seen} {report:?}");
        }
    }

    #[test]
    fn no_octets_at_all_make_it_panic() {
        let mut decoder = G722Decoder::new();
        let mut sound = Vec::new();
        for octet in 0..=255 {
            let payload = [octet; 500];
            decoder.decode(&payload, &mut sound);
            decoder.conceal(77, Some((&payload, 77)), &mut sound);
            decoder.conceal(0, Some((&[], 0)), &mut sound);
            sound.clear();
        }
    }
}
