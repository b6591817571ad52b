//! Opus by libopus.

use std::time::Duration;

use opus::{Application, Bandwidth, Bitrate, Channels};

use super::OpusSettings;
use crate::SAMPLE_RATE;

/// The longest packet of Opus: 120 ms (RFC 6716 section 3.1).
const LONGEST: usize = 5_760;
/// Losses are concealed in multiples of 2.5 ms.
const GRAIN: usize = 120;
/// What the encoder is told at first, in bits a second.
const BITRATE: i32 = 42_000;
/// From 5 on the voice loses nothing that is heard; from 7 on the encoder tells music and tones from
/// speech, and its choice of mode decides how well a lost packet can be concealed.
pub(super) const COMPLEXITY: u8 = 7;
/// The share of lost packets, in percent, that FEC is prepared for before a report says more.
pub(crate) const EXPECTED_LOSS: u8 = 5;

/// 48 kHz frames into packets.
#[derive(Debug)]
pub(crate) struct OpusEncoder {
    encoder: opus::Encoder,
    /// The most bits a second that the peer takes.
    most: i32,
    /// What it looks ahead.
    look_ahead: Duration,
}

impl OpusEncoder {
    pub(crate) fn new(fec: bool) -> Result<OpusEncoder, opus::Error> {
        let mut encoder = opus::Encoder::new(SAMPLE_RATE, Channels::Mono, Application::Voip)?;
        encoder.set_bitrate(Bitrate::Bits(BITRATE))?;
        // Up to 8 kHz: below some 60 kbit/s the bits do more good there (docs/decisions/0017).
        encoder.set_max_bandwidth(Bandwidth::Wideband)?;
        encoder.set_complexity(COMPLEXITY.into())?;
        encoder.set_inband_fec(fec)?;
        encoder.set_packet_loss_perc(i32::from(EXPECTED_LOSS))?;
        let samples = u64::try_from(encoder.get_lookahead()?).unwrap_or(0);
        Ok(OpusEncoder {
            encoder,
            most: i32::MAX,
            look_ahead: Duration::from_secs(samples) / SAMPLE_RATE,
        })
    }

    pub(crate) fn look_ahead(&self) -> Duration {
        self.look_ahead
    }

    pub(crate) fn encode(&mut self, sound: &[i16]) -> Result<Vec<u8>, opus::Error> {
        // 1275 octets are the longest frame (RFC 6716 section 3.2.1), plus the TOC octet; 60 ms
        // may take three frames, but not at our bit rates.
        self.encoder.encode_vec(sound, 1_276)
    }

    /// From now on, about so many bits a second, and no more than the peer takes.
    pub(crate) fn set_bitrate(&mut self, bitrate: i32) -> Result<(), opus::Error> {
        let bitrate = bitrate.min(self.most);
        self.encoder.set_bitrate(Bitrate::Bits(bitrate))
    }

    /// What the settings and the peer want.
    pub(crate) fn configure(&mut self, settings: &OpusSettings) -> Result<(), opus::Error> {
        self.encoder
            .set_complexity(settings.complexity.min(10).into())?;
        self.encoder.set_vbr(!settings.cbr)?;
        if let Some(most) = settings.max_bitrate {
            // RFC 7587 section 6.1: from 6000 on, or it is no sensible rate.
            self.most = i32::try_from(most).unwrap_or(i32::MAX).max(6_000);
            self.set_bitrate(BITRATE)?;
        }
        if let Some(rate) = settings.max_playback_rate {
            // RFC 7587 section 3.1.1, table 1; never more than we send anyway.
            self.encoder.set_max_bandwidth(match rate {
                ..12_000 => Bandwidth::Narrowband,
                12_000..16_000 => Bandwidth::Mediumband,
                _ => Bandwidth::Wideband,
            })?;
        }
        Ok(())
    }

    /// Prepares FEC for `percent` lost packets.
    pub(crate) fn expect_loss(&mut self, percent: u8) -> Result<(), opus::Error> {
        self.encoder
            .set_packet_loss_perc(i32::from(percent.min(100)))
    }
}

/// Packets into 48 kHz sound.
#[derive(Debug)]
pub(crate) struct OpusDecoder {
    decoder: opus::Decoder,
}

impl OpusDecoder {
    pub(crate) fn new() -> Result<OpusDecoder, opus::Error> {
        let decoder = opus::Decoder::new(SAMPLE_RATE, Channels::Mono)?;
        Ok(OpusDecoder { decoder })
    }

    pub(crate) fn decode(&mut self, payload: &[u8], out: &mut Vec<i16>) -> Result<(), opus::Error> {
        self.append(payload, LONGEST, false, out)
    }

    /// Makes up `samples`, by the FEC data in the packet after the gap where it is given.
    pub(crate) fn conceal(
        &mut self,
        samples: usize,
        next: Option<&[u8]>,
        out: &mut Vec<i16>,
    ) -> Result<(), opus::Error> {
        let samples = samples.next_multiple_of(GRAIN).clamp(GRAIN, LONGEST);
        match next {
            Some(next) => self.append(next, samples, true, out),
            None => self.append(&[], samples, false, out),
        }
    }

    fn append(
        &mut self,
        payload: &[u8],
        room: usize,
        fec: bool,
        out: &mut Vec<i16>,
    ) -> Result<(), opus::Error> {
        let begin = out.len();
        out.resize(begin + room, 0);
        let decoded = match out.get_mut(begin..) {
            Some(room) => self.decoder.decode(payload, room, fec),
            None => Ok(0),
        };
        out.truncate(begin + *decoded.as_ref().unwrap_or(&0));
        decoded.map(|_| ())
    }
}

/// How many samples of 48 kHz a packet holds; `None` if it is no Opus packet.
pub(crate) fn duration(payload: &[u8]) -> Option<u32> {
    // `parse` checks what RFC 6716 section 3.4 demands of every packet.
    opus::packet::parse(payload).ok()?;
    let samples = opus::packet::get_nb_samples(payload, SAMPLE_RATE).ok()?;
    (1..=LONGEST).contains(&samples).then_some(samples as u32)
}

/// Whether a packet carries FEC data (LBRR) for the one before it.
pub(crate) fn has_fec(payload: &[u8]) -> bool {
    let Ok(packet) = opus::packet::parse(payload) else {
        return false;
    };
    // Configurations 16 and above are CELT alone (RFC 6716 section 3.1).
    let config = packet.toc >> 3;
    let Some(&first) = packet.frames.first().and_then(|frame| frame.first()) else {
        return false;
    };
    // A SILK frame begins with one VAD flag for each 20 ms, then the LBRR flag, all with even
    // odds: plain bits of the range coder (RFC 6716 section 4.2.3).
    let parts = match config {
        2 | 6 | 10 => 2,
        3 | 7 | 11 => 3,
        _ => 1,
    };
    config < 16 && (first >> (7 - parts)) & 1 == 1
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use super::*;
    use crate::FRAME;
    use crate::audio::{Source, Tone};
    use crate::tone;

    /// Samples of 20 ms.
    const PACKET: usize = 2 * FRAME;

    fn packet_of(source: &mut Tone) -> [i16; PACKET] {
        let mut sound = [0; PACKET];
        for part in sound.as_chunks_mut::<FRAME>().0 {
            source.read(part);
        }
        sound
    }

    fn packets(count: usize) -> Vec<Vec<u8>> {
        let mut encoder = OpusEncoder::new(true).unwrap();
        encoder.expect_loss(20).unwrap();
        // Speech-like enough for SILK: a low tone.
        let mut source = Tone::new(300.0);
        (0..count)
            .map(|_| encoder.encode(&packet_of(&mut source)).unwrap())
            .collect()
    }

    #[test]
    fn a_tone_makes_the_round_trip() {
        let mut decoder = OpusDecoder::new().unwrap();
        let mut sound = Vec::new();
        for packet in packets(50) {
            assert_eq!(duration(&packet), Some(960));
            decoder.decode(&packet, &mut sound).unwrap();
        }
        assert_eq!(sound.len(), 50 * PACKET);
        let report = tone::measure(&sound, 300.0, SAMPLE_RATE, 0.1);
        assert!(
            report.seconds > 0.95 && report.longest_gap_ms == 0.0,
            "{report:?}"
        );
    }

    #[test]
    fn a_lost_packet_is_made_up_of_fec_or_guessed() {
        let packets = packets(30);
        for fec in [true, false] {
            let mut decoder = OpusDecoder::new().unwrap();
            let mut sound = Vec::new();
            for (index, packet) in packets.iter().enumerate() {
                if index == 20 {
                    let next = fec.then(|| packets[21].as_slice());
                    decoder.conceal(PACKET, next, &mut sound).unwrap();
                } else {
                    decoder.decode(packet, &mut sound).unwrap();
                }
            }
            assert_eq!(sound.len(), 30 * PACKET);
            let lost = &sound[20 * PACKET..21 * PACKET];
            assert!(tone::level(lost, 300.0) > 0.1, "fec {fec}");
        }
    }

    /// A buzz of harmonics that comes and goes four times a second, as syllables do.
    fn voice(frames: usize) -> Vec<[i16; PACKET]> {
        let sample = |n: usize| {
            let t = n as f64 / f64::from(SAMPLE_RATE);
            let harmonics = (1..20).map(|k| (TAU * 140.0 * f64::from(k) * t).sin() / f64::from(k));
            let loudness = (TAU * 4.0 * t).sin().max(0.0);
            (6_000.0 * loudness * harmonics.sum::<f64>()) as i16
        };
        (0..frames)
            .map(|frame| std::array::from_fn(|n| sample(frame * PACKET + n)))
            .collect()
    }

    #[test]
    fn a_voice_is_sent_with_fec_and_a_lost_packet_comes_back() {
        let mut encoder = OpusEncoder::new(true).unwrap();
        encoder.expect_loss(20).unwrap();
        let voice = voice(100);
        let packets: Vec<_> = voice
            .iter()
            .map(|frame| encoder.encode(frame).unwrap())
            .collect();
        let with_fec = packets.iter().filter(|packet| has_fec(packet)).count();
        assert!(with_fec > 30, "{with_fec}");
        // The same without FEC has none.
        let mut plain = OpusEncoder::new(false).unwrap();
        assert!(
            voice
                .iter()
                .all(|frame| !has_fec(&plain.encode(frame).unwrap()))
        );

        // Every tenth frame is lost: FEC comes nearer to the truth than a guess.
        let error = |fec: bool| {
            let (mut whole, mut lossy) = (OpusDecoder::new().unwrap(), OpusDecoder::new().unwrap());
            let mut error = 0.0;
            for (index, packet) in packets.iter().enumerate() {
                let (mut truth, mut sound) = (Vec::new(), Vec::new());
                whole.decode(packet, &mut truth).unwrap();
                let next = packets.get(index + 1).filter(|next| has_fec(next));
                match next {
                    Some(next) if index % 10 == 5 => {
                        let next = fec.then_some(next.as_slice());
                        lossy.conceal(PACKET, next, &mut sound).unwrap();
                        let pairs = truth.iter().zip(&sound);
                        error += pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
                    }
                    _ => lossy.decode(packet, &mut sound).unwrap(),
                }
            }
            error
        };
        let (with, without) = (error(true), error(false));
        assert!(with < 0.7 * without, "{with} {without}");
    }

    #[test]
    fn packets_are_of_one_size_or_small_or_narrow_when_the_peer_wants_it() {
        let sent = |settings: OpusSettings| -> Vec<Vec<u8>> {
            let mut encoder = OpusEncoder::new(true).unwrap();
            encoder.configure(&settings).unwrap();
            let voice = voice(100);
            voice
                .iter()
                .map(|sound| encoder.encode(sound).unwrap())
                .collect()
        };
        let octets = |packets: &[Vec<u8>]| packets.iter().map(Vec::len).sum::<usize>();
        let usual = sent(OpusSettings::default());
        assert!(usual.iter().any(|packet| packet.len() != usual[50].len()));
        let cbr = sent(OpusSettings {
            cbr: true,
            ..OpusSettings::default()
        });
        assert!(cbr.iter().all(|packet| packet.len() == cbr[0].len()));
        let max_bitrate = Some(10_000);
        let small = sent(OpusSettings {
            max_bitrate,
            ..OpusSettings::default()
        });
        assert!(
            octets(&small) < 2 * 10_000 / 8 * 6 / 5,
            "{}",
            octets(&small)
        );
        let max_playback_rate = Some(8_000);
        let narrow = sent(OpusSettings {
            max_playback_rate,
            ..OpusSettings::default()
        });
        // RFC 6716 table 2: configurations 0 to 3 and 16 to 19 are narrow band.
        let configurations = narrow.iter().map(|packet| packet[0] >> 3);
        assert!(
            configurations
                .into_iter()
                .all(|c| matches!(c, 0..=3 | 16..=19))
        );
    }

    #[test]
    fn no_octets_at_all_make_it_panic() {
        let good = packets(3).pop().unwrap();
        let mut decoder = OpusDecoder::new().unwrap();
        let mut sound = Vec::new();
        for at in 0..good.len() {
            for value in [0x00, 0x01, 0x7f, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[at] ^= value;
                let _ = (duration(&bad), has_fec(&bad));
                let _ = decoder.decode(&bad, &mut sound);
                let _ = decoder.conceal(PACKET, Some(&bad), &mut sound);
                let _ = (duration(&good[..at]), has_fec(&good[..at]));
                let _ = decoder.decode(&good[..at], &mut sound);
                sound.clear();
            }
        }
    }
}
