//! Opus by libopus.

use std::f64::consts::TAU;
use std::time::Duration;

use super::OpusSettings;
use super::libopus::{
    Application, Bandwidth, Decoder, Dred, Encoder, Error, GRAIN, Input, LONGEST, Setting,
    frame_heads, has_fec, samples,
};
use crate::jitter::Pause;
use crate::{Channels, FRAME, SAMPLE_RATE};

/// What the encoder is told at first, in bits a second of one channel.
const BITRATE: i32 = 38_000;
/// From 5 on the voice loses nothing that is heard; from 7 on the encoder tells music and tones from
/// speech, and its choice of mode decides how well a lost packet can be concealed.
pub(super) const COMPLEXITY: u8 = 7;
/// The decoder's complexity by which a neural network makes up what is lost, and by which it does not. It
/// changes nothing else. The network knows voices only: tones and music go on better without.
const DEEP_CONCEALMENT: i32 = 5;
const CLASSIC_CONCEALMENT: i32 = 0;
/// The highest pitch of its vocoder, in hertz.
const HIGHEST_PITCH: f64 = 500.0;
/// What is left of a tone's power, in proportion, when the tone is taken away.
const TONE: f64 = 0.001;
/// The share of lost packets, in percent, that FEC is prepared for before a report says more.
pub(crate) const EXPECTED_LOSS: u8 = 5;
/// Octets of the longest packet: 1275 are the longest frame (RFC 6716 section 3.2.1), plus the TOC octet;
/// 60 ms may take three frames, but not at our bit rates.
const LONGEST_PACKET: usize = 1_276;
/// Of the DRED of a packet, at least so much is read, in samples: as far back as the playout may wait.
const DRED_READ: usize = 30 * FRAME;
/// DRED reaches back so far at most, in units of 10 ms (`OPUS_SET_DRED_DURATION`).
const MOST_DRED: i32 = 100;

/// 48 kHz frames into packets.
#[derive(Debug)]
pub(crate) struct OpusEncoder {
    encoder: Encoder,
    /// The most bits a second that the peer takes.
    most: i32,
    channels: Channels,
    /// What it looks ahead.
    look_ahead: Duration,
}

impl OpusEncoder {
    pub(crate) fn new(fec: bool, channels: Channels) -> Result<OpusEncoder, Error> {
        let mut encoder = Encoder::new(channels, Application::Voip)?;
        encoder.set(Setting::Bitrate, first_bitrate(channels))?;
        // Up to 8 kHz: below some 60 kbit/s the bits do more good there (docs/decisions/0017).
        encoder.set(Setting::MaxBandwidth, Bandwidth::Wide as i32)?;
        encoder.set(Setting::Complexity, COMPLEXITY.into())?;
        encoder.set(Setting::InbandFec, fec.into())?;
        encoder.set(Setting::PacketLoss, EXPECTED_LOSS.into())?;
        let samples = encoder.look_ahead()? as u64;
        Ok(OpusEncoder {
            encoder,
            most: i32::MAX,
            channels,
            look_ahead: Duration::from_secs(samples) / SAMPLE_RATE,
        })
    }

    pub(crate) fn look_ahead(&self) -> Duration {
        self.look_ahead
    }

    /// Writes the packet of this sound, of all channels in turns, in place of what `packet` holds.
    pub(crate) fn encode(&mut self, sound: &[i16], packet: &mut Vec<u8>) -> Result<(), Error> {
        self.encoder.encode(sound, packet, LONGEST_PACKET)
    }

    /// From now on, about so many bits a second, and no more than the peer takes.
    pub(crate) fn set_bitrate(&mut self, bitrate: i32) -> Result<(), Error> {
        self.encoder.set(Setting::Bitrate, bitrate.min(self.most))
    }

    /// Whether pauses are told by packets of one or two octets.
    pub(crate) fn set_dtx(&mut self, dtx: bool) -> Result<(), Error> {
        self.encoder.set(Setting::Dtx, dtx.into())
    }

    /// What the settings and the peer want.
    pub(crate) fn configure(&mut self, settings: &OpusSettings) -> Result<(), Error> {
        let complexity = settings.complexity.min(10);
        self.encoder.set(Setting::Complexity, complexity.into())?;
        self.encoder.set(Setting::Vbr, (!settings.cbr).into())?;
        // RFC 7587 section 6.1: from 6000 on, or it is no sensible rate.
        let most = settings.max_bitrate.map_or(i32::MAX, |most| {
            i32::try_from(most).unwrap_or(i32::MAX).max(6_000)
        });
        if most != self.most {
            self.most = most;
            self.set_bitrate(first_bitrate(self.channels))?;
        }
        // RFC 7587 section 3.1.1, table 1; never more than we send anyway.
        let bandwidth = match settings.max_playback_rate {
            Some(..12_000) => Bandwidth::Narrow,
            Some(12_000..16_000) => Bandwidth::Medium,
            _ => Bandwidth::Wide,
        };
        self.encoder.set(Setting::MaxBandwidth, bandwidth as i32)?;
        Ok(())
    }

    /// Prepares FEC for `percent` lost packets.
    pub(crate) fn expect_loss(&mut self, percent: u8) -> Result<(), Error> {
        let percent = percent.min(100);
        self.encoder.set(Setting::PacketLoss, percent.into())
    }

    /// From now on, DRED of so many milliseconds goes along with every packet; 0: none.
    pub(crate) fn set_dred(&mut self, ms: u32) -> Result<(), Error> {
        let tens = i32::try_from(ms / 10).unwrap_or(i32::MAX).min(MOST_DRED);
        self.encoder.set(Setting::Dred, tens)
    }
}

/// What the encoder of so many channels is told at first.
fn first_bitrate(channels: Channels) -> i32 {
    (f64::from(BITRATE) * channels.bits()) as i32
}

/// A packet after a gap.
#[derive(Clone, Copy, Debug)]
pub(super) struct After<'a> {
    pub(super) sequence: u16,
    pub(super) payload: &'a [u8],
    /// How long after the begin of what is missing it begins, in samples.
    pub(super) distance: usize,
}

/// The DRED of the packet that was read last.
#[derive(Debug)]
struct Read {
    sequence: u16,
    /// The samples before the packet that it covers: from here
    end: usize,
    /// back to here.
    reach: usize,
}

/// Packets into 48 kHz sound.
#[derive(Debug)]
pub(crate) struct OpusDecoder {
    decoder: Decoder,
    /// The complexity that the decoder has.
    concealment: i32,
    /// Made when the first packet comes that may hold DRED.
    dred: Option<Dred>,
    /// Each packet after a gap is read once.
    read: Option<Read>,
    /// How far back the DRED reached that was read last, in samples.
    reach: usize,
}

impl OpusDecoder {
    /// Whatever the packets hold, so many channels come out: a voice goes to both sides, two are mixed.
    pub(crate) fn new(channels: Channels) -> Result<OpusDecoder, Error> {
        Ok(OpusDecoder {
            decoder: Decoder::new(channels)?,
            concealment: CLASSIC_CONCEALMENT,
            dred: None,
            read: None,
            reach: 0,
        })
    }

    pub(crate) fn channels(&self) -> Channels {
        self.decoder.channels()
    }

    pub(crate) fn decode(&mut self, payload: &[u8], out: &mut Vec<i16>) -> Result<(), Error> {
        self.read = None;
        let begin = out.len();
        append(&mut self.decoder, Input::Packet(payload), LONGEST, out)?;
        // Configurations 16 and above are CELT alone (RFC 6716 section 3.1): an encoder that tells music
        // from speech took it for music, or speech has more bits than we send.
        let music = payload.first().is_some_and(|toc| toc & 0x80 != 0);
        let sound = out.get(begin..).unwrap_or_default();
        self.set_concealment(match music || has_high_tone(sound, self.channels()) {
            true => CLASSIC_CONCEALMENT,
            false => DEEP_CONCEALMENT,
        });
        Ok(())
    }

    fn set_concealment(&mut self, complexity: i32) {
        if complexity != self.concealment && self.decoder.set_complexity(complexity).is_ok() {
            self.concealment = complexity;
        }
    }

    /// Makes up `samples`.
    pub(crate) fn conceal(&mut self, samples: usize, out: &mut Vec<i16>) -> Result<(), Error> {
        append(&mut self.decoder, Input::Nothing, grains(samples), out)
    }

    /// Brings back `samples` that are missing by what the packet after the gap says about them: its FEC
    /// data is about the packet just before it, its DRED about as much as its sender wished. `false` if
    /// it says nothing about them.
    pub(super) fn recover(&mut self, samples: usize, next: After<'_>, out: &mut Vec<i16>) -> bool {
        let decoder = &mut self.decoder;
        if next.distance == samples && has_fec(next.payload) {
            return append(decoder, Input::Fec(next.payload), grains(samples), out).is_ok();
        }
        if !may_hold_dred(next.payload) {
            return false;
        }
        if self.dred.is_none() {
            self.dred = Dred::new().ok();
        }
        let Some(dred) = &mut self.dred else {
            return false;
        };
        if self.read.as_ref().map(|read| read.sequence) != Some(next.sequence) {
            let covered = dred.parse(next.payload, next.distance.max(DRED_READ));
            let (end, reach) = covered.unwrap_or((0, 0));
            self.reach = reach;
            self.read = Some(Read {
                sequence: next.sequence,
                end,
                reach,
            });
        }
        let covers = |read: &Read| (read.end + 1..=read.reach).contains(&next.distance);
        if !self.read.as_ref().is_some_and(covers) {
            return false;
        }
        let dred = Input::Dred(dred, next.distance);
        append(decoder, dred, grains(samples), out).is_ok()
    }

    /// How far back the DRED of the peer's packets reaches, in samples.
    pub(super) fn reach(&self) -> usize {
        self.reach
    }
}

/// What libopus can make up that lasts about so long.
fn grains(samples: usize) -> usize {
    samples.next_multiple_of(GRAIN).clamp(GRAIN, LONGEST)
}

/// Whether a side of this is a high tone.
fn has_high_tone(sound: &[i16], channels: Channels) -> bool {
    let sides = 0..channels.count();
    let mut sides = sides.filter_map(|side| sound.get(side..));
    sides.any(|side| is_high_tone(side, channels))
}

/// Whether the first of the channels is one tone that no voice has for its pitch, as signals are: the
/// network's vocoder ends at [`HIGHEST_PITCH`]. Of a tone, the sum of the samples before and after each is
/// in proportion to it.
fn is_high_tone(sound: &[i16], channels: Channels) -> bool {
    let (mut square, mut product, mut sum) = (0.0, 0.0, 0.0);
    // At 16 kHz, as libopus codes it.
    let step = 3 * channels.count();
    let samples = || sound.iter().step_by(step).map(|sample| f64::from(*sample));
    for ((before, here), after) in samples().zip(samples().skip(1)).zip(samples().skip(2)) {
        square += here * here;
        product += here * (before + after);
        sum += (before + after).powi(2);
    }
    // The proportion is twice the cosine of the tone's phase from sample to sample.
    let proportion = product / f64::max(square, 1.0);
    let rest = sum - proportion * product;
    let highest = 2.0 * (TAU * HIGHEST_PITCH / 16_000.0).cos();
    square > 0.0 && proportion < highest && rest < TONE * square
}

fn append(
    decoder: &mut Decoder,
    input: Input<'_>,
    room: usize,
    out: &mut Vec<i16>,
) -> Result<(), Error> {
    let begin = out.len();
    let channels = decoder.channels().count();
    out.resize(begin + room * channels, 0);
    let decoded = match out.get_mut(begin..) {
        Some(room) => decoder.decode(input, room),
        None => Ok(0),
    };
    out.truncate(begin + channels * *decoded.as_ref().unwrap_or(&0));
    decoded.map(drop)
}

/// How many samples of 48 kHz a packet holds; `None` if it is no Opus packet.
pub(crate) fn duration(payload: &[u8]) -> Option<u32> {
    let samples = samples(payload).ok()?;
    (1..=LONGEST).contains(&samples).then_some(samples as u32)
}

/// What a packet says about a pause. libopus leaves out what has one or two octets, or says so with
/// such a packet; before that, SILK says that nobody spoke.
pub(crate) fn pause(payload: &[u8]) -> Pause {
    if payload.len() <= 2 {
        return Pause::Begun;
    }
    let Some((toc, mut heads)) = frame_heads(payload) else {
        return Pause::No;
    };
    let Some(parts) = silk_parts(toc) else {
        return Pause::No;
    };
    // RFC 6716 section 4.2.3: of stereo, the flags of the middle come first, with one for FEC behind them,
    // and then those of what the sides differ in.
    let is_stereo = toc & 0x04 != 0;
    let voiced = |flags: u8| flags >> (8 - parts) != 0;
    match heads.any(|first| voiced(first) || (is_stereo && voiced(first << (parts + 1)))) {
        true => Pause::No,
        false => Pause::Possible,
    }
}

/// How many parts of 20 ms a SILK frame has, each with a flag for voice: plain bits of the range coder,
/// since both values are as likely (RFC 6716 section 4.2.3). None: configurations 16 and above are CELT
/// alone (section 3.1).
fn silk_parts(toc: u8) -> Option<u8> {
    match toc >> 3 {
        2 | 6 | 10 => Some(2),
        3 | 7 | 11 => Some(3),
        0..16 => Some(1),
        _ => None,
    }
}

/// DRED stands in the padding, which packets of code 3 alone have (RFC 6716 section 3.2.5).
fn may_hold_dred(payload: &[u8]) -> bool {
    matches!(payload, [toc, count, ..] if toc & 3 == 3 && count & 0x40 != 0)
}

#[cfg(test)]
mod tests {
    use super::super::voice::{held, spoken, sung};
    use super::*;
    use crate::SAMPLE_RATE;
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

    fn encode(encoder: &mut OpusEncoder, sound: &[i16]) -> Vec<u8> {
        let mut packet = Vec::new();
        encoder.encode(sound, &mut packet).unwrap();
        packet
    }

    /// The packet just after what is missing.
    fn after(payload: &[u8]) -> After<'_> {
        After {
            sequence: 1,
            payload,
            distance: PACKET,
        }
    }

    fn packets(count: usize) -> Vec<Vec<u8>> {
        let mut encoder = OpusEncoder::new(true, Channels::Mono).unwrap();
        encoder.expect_loss(20).unwrap();
        // Speech-like enough for SILK: a low tone.
        let mut source = Tone::new(300.0);
        (0..count)
            .map(|_| encode(&mut encoder, &packet_of(&mut source)))
            .collect()
    }

    #[test]
    fn a_tone_makes_the_round_trip() {
        let mut decoder = OpusDecoder::new(Channels::Mono).unwrap();
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
            let mut decoder = OpusDecoder::new(Channels::Mono).unwrap();
            let mut sound = Vec::new();
            for (index, packet) in packets.iter().enumerate() {
                if index == 20 {
                    match fec {
                        true => {
                            assert!(decoder.recover(PACKET, after(&packets[21]), &mut sound));
                        }
                        false => decoder.conceal(PACKET, &mut sound).unwrap(),
                    }
                } else {
                    decoder.decode(packet, &mut sound).unwrap();
                }
            }
            assert_eq!(sound.len(), 30 * PACKET);
            let lost = &sound[20 * PACKET..21 * PACKET];
            assert!(tone::level(lost, 300.0) > 0.1, "fec {fec}");
        }
    }

    fn voice(frames: usize) -> Vec<[i16; PACKET]> {
        sound(spoken, frames)
    }

    fn sound(of: fn(usize) -> i16, frames: usize) -> Vec<[i16; PACKET]> {
        let samples = |frame: usize| std::array::from_fn(|n| of(frame * PACKET + n));
        (0..frames).map(samples).collect()
    }

    #[test]
    fn a_voice_is_sent_with_fec_and_a_lost_packet_comes_back() {
        let mut encoder = OpusEncoder::new(true, Channels::Mono).unwrap();
        encoder.expect_loss(20).unwrap();
        let voice = voice(100);
        let packets: Vec<_> = voice
            .iter()
            .map(|frame| encode(&mut encoder, frame))
            .collect();
        let with_fec = packets.iter().filter(|packet| has_fec(packet)).count();
        assert!(with_fec > 30, "{with_fec}");
        // The same without FEC has none.
        let mut plain = OpusEncoder::new(false, Channels::Mono).unwrap();
        assert!(
            voice
                .iter()
                .all(|frame| !has_fec(&encode(&mut plain, frame)))
        );

        // Every tenth frame is lost: FEC comes nearer to the truth than a guess.
        let error = |fec: bool| {
            let (mut whole, mut lossy) = (
                OpusDecoder::new(Channels::Mono).unwrap(),
                OpusDecoder::new(Channels::Mono).unwrap(),
            );
            let mut error = 0.0;
            for (index, packet) in packets.iter().enumerate() {
                let (mut truth, mut sound) = (Vec::new(), Vec::new());
                whole.decode(packet, &mut truth).unwrap();
                let next = packets.get(index + 1).filter(|next| has_fec(next));
                match next {
                    Some(next) if index % 10 == 5 => {
                        if !(fec && lossy.recover(PACKET, after(next), &mut sound)) {
                            lossy.conceal(PACKET, &mut sound).unwrap();
                        }
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
            let mut encoder = OpusEncoder::new(true, Channels::Mono).unwrap();
            encoder.configure(&settings).unwrap();
            let voice = voice(100);
            voice
                .iter()
                .map(|sound| encode(&mut encoder, sound))
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

    /// Loudness of every 10 ms.
    fn envelope(sound: &[i16]) -> Vec<f64> {
        let power = |part: &[i16]| part.iter().map(|s| f64::from(*s).powi(2)).sum::<f64>();
        let frames = sound.as_chunks::<FRAME>().0.iter();
        frames
            .map(|part| (power(part) / FRAME as f64).sqrt())
            .collect()
    }

    /// How alike two envelopes are, -1 to 1.
    fn correlation(a: &[f64], b: &[f64]) -> f64 {
        let mean = |of: &[f64]| of.iter().sum::<f64>() / of.len() as f64;
        let (mean_a, mean_b) = (mean(a), mean(b));
        let product = |a: &[f64], mean_a: f64, b: &[f64], mean_b: f64| {
            let pairs = a.iter().zip(b);
            pairs.map(|(a, b)| (a - mean_a) * (b - mean_b)).sum::<f64>()
        };
        let (aa, bb) = (product(a, mean_a, a, mean_a), product(b, mean_b, b, mean_b));
        product(a, mean_a, b, mean_b) / (aa * bb).sqrt().max(1.0)
    }

    #[test]
    fn what_the_peer_does_not_limit_any_more_is_not_limited() {
        let limited = OpusSettings {
            max_bitrate: Some(8_000),
            max_playback_rate: Some(8_000),
            ..OpusSettings::default()
        };
        let sent = |terms: &[&OpusSettings]| -> usize {
            let mut encoder = OpusEncoder::new(true, Channels::Mono).unwrap();
            for terms in terms {
                encoder.configure(terms).unwrap();
            }
            let voice = voice(100);
            voice
                .iter()
                .map(|part| encode(&mut encoder, part).len())
                .sum()
        };
        let free = OpusSettings::default();
        assert!(sent(&[&limited]) < sent(&[&free]) / 2);
        assert_eq!(sent(&[&limited, &free]), sent(&[&free]));
    }

    #[test]
    fn a_tone_is_told_from_a_voice() {
        let tone = |hertz| packet_of(&mut Tone::new(hertz));
        assert!(
            is_high_tone(&tone(880.0), Channels::Mono)
                && is_high_tone(&tone(3_000.0), Channels::Mono)
        );
        // The vocoder can sing this one.
        assert!(!is_high_tone(&tone(440.0), Channels::Mono));
        assert!(!is_high_tone(&[0; PACKET], Channels::Mono) && !is_high_tone(&[], Channels::Mono));
        for voice in [sound(held, 100), sound(sung, 100), sound(spoken, 100)] {
            assert!(!voice.iter().any(|part| is_high_tone(part, Channels::Mono)));
        }
    }

    #[test]
    fn a_voice_goes_on_through_a_lost_60_ms() {
        let mut encoder = OpusEncoder::new(false, Channels::Mono).unwrap();
        // Without libopus' ear for music, which takes so even a sound for some.
        encoder.encoder.set(Setting::Complexity, 5).unwrap();
        let voice = sound(held, 600);
        let packets: Vec<_> = voice
            .iter()
            .map(|part| encode(&mut encoder, part))
            .collect();
        // Three packets of every 17, so that the gaps begin anywhere in what wavers.
        let lost = |index: usize| index > 40 && index % 17 < 3;
        let heard = |complexity: Option<i32>| -> Vec<f64> {
            let mut decoder = OpusDecoder::new(Channels::Mono).unwrap();
            let mut gaps = Vec::new();
            for (index, packet) in packets.iter().enumerate() {
                let mut sound = Vec::new();
                match complexity {
                    Some(complexity) if lost(index) => {
                        decoder.set_concealment(complexity);
                        decoder.conceal(PACKET, &mut sound).unwrap();
                    }
                    _ => decoder.decode(packet, &mut sound).unwrap(),
                }
                if lost(index) {
                    gaps.extend(envelope(&sound));
                }
            }
            gaps
        };
        let (truth, deep) = (heard(None), heard(Some(DEEP_CONCEALMENT)));
        let classic = heard(Some(CLASSIC_CONCEALMENT));
        let [loud, deep_loud, classic_loud] =
            [&truth, &deep, &classic].map(|of| of.iter().sum::<f64>() / of.len() as f64);
        assert!(
            deep_loud > classic_loud && deep_loud > 0.75 * loud,
            "{loud} {deep_loud} {classic_loud}"
        );
        let error = |of: &[f64]| {
            let pairs = of.iter().zip(&truth);
            pairs.map(|(a, b)| (a - b).powi(2)).sum::<f64>()
        };
        let (deep, classic) = (error(&deep), error(&classic));
        assert!(deep < 0.8 * classic, "{deep} {classic}");
    }

    /// Both sides of a voice with opposite signs have no middle: the flags of what they differ in tell of it.
    #[test]
    fn a_voice_between_the_sides_is_no_pause() {
        let mut encoder = OpusEncoder::new(true, Channels::Stereo).unwrap();
        encoder.set_bitrate(30_000).unwrap();
        let (mut silent_middle, mut pauses) = (0, 0);
        for part in sound(held, 200).iter().skip(20) {
            let sides: Vec<i16> = part.iter().flat_map(|&sample| [sample, -sample]).collect();
            let packet = encode(&mut encoder, &sides);
            assert_eq!(duration(&packet), Some(PACKET as u32));
            // SILK, two channels, one frame, and no voice in the middle.
            let is_silent = packet[0] & 0x87 == 0x04 && packet[1] & 0x80 == 0;
            silent_middle += usize::from(is_silent);
            pauses += usize::from(pause(&packet) != Pause::No);
        }
        // A held voice wavers.
        assert!(
            silent_middle > 150 && pauses < 60,
            "{silent_middle} {pauses}"
        );
    }

    #[test]
    fn sides_are_made_up_apart_and_come_back_apart() {
        for fec in [true, false] {
            let mut encoder = OpusEncoder::new(true, Channels::Stereo).unwrap();
            encoder.expect_loss(20).unwrap();
            let (mut left, mut right) = (Tone::new(300.0), Tone::new(900.0));
            let packets: Vec<Vec<u8>> = (0..30)
                .map(|_| {
                    let both = packet_of(&mut left).into_iter().zip(packet_of(&mut right));
                    let sides: Vec<i16> = both.flat_map(|(left, right)| [left, right]).collect();
                    encode(&mut encoder, &sides)
                })
                .collect();
            let mut decoder = OpusDecoder::new(Channels::Stereo).unwrap();
            let mut sound = Vec::new();
            for (index, packet) in packets.iter().enumerate() {
                if index == 20 {
                    let next = after(&packets[21]);
                    if !(fec && decoder.recover(PACKET, next, &mut sound)) {
                        decoder.conceal(PACKET, &mut sound).unwrap();
                    }
                } else {
                    decoder.decode(packet, &mut sound).unwrap();
                }
            }
            assert_eq!(sound.len(), 2 * 30 * PACKET);
            let lost = sound[2 * 20 * PACKET..2 * 21 * PACKET].as_chunks::<2>().0;
            for (side, own, other) in [(0, 300.0, 900.0), (1, 900.0, 300.0)] {
                let side: Vec<i16> = lost.iter().map(|both| both[side]).collect();
                let (own, other) = (tone::level(&side, own), tone::level(&side, other));
                assert!(own > 0.1 && own > 3.0 * other, "{fec} {own} {other}");
            }
        }
    }

    fn with_dred(ms: u32, frames: usize) -> Vec<Vec<u8>> {
        let mut encoder = OpusEncoder::new(false, Channels::Mono).unwrap();
        encoder.expect_loss(20).unwrap();
        encoder.set_dred(ms).unwrap();
        let voice = sound(sung, frames);
        voice
            .iter()
            .map(|part| encode(&mut encoder, part))
            .collect()
    }

    #[test]
    fn dred_brings_200_ms_back() {
        let packets = with_dred(300, 400);
        let (mut whole, mut guessed) = (
            OpusDecoder::new(Channels::Mono).unwrap(),
            OpusDecoder::new(Channels::Mono).unwrap(),
        );
        let mut restored = OpusDecoder::new(Channels::Mono).unwrap();
        let mut sounds = [Vec::new(), Vec::new(), Vec::new()];
        // Ten packets of every 34, so that the gaps begin anywhere in a syllable.
        let lost = |index: usize| index > 40 && index % 34 < 10;
        let (mut steps, mut back) = (0, 0);
        for (index, packet) in packets.iter().enumerate() {
            let [truth, guess, again] = &mut sounds;
            whole.decode(packet, truth).unwrap();
            if !lost(index) {
                guessed.decode(packet, guess).unwrap();
                restored.decode(packet, again).unwrap();
                continue;
            }
            guessed.conceal(PACKET, guess).unwrap();
            let next = (index..400).find(|next| !lost(*next)).unwrap();
            let next = After {
                sequence: next as u16,
                payload: &packets[next],
                distance: (next - index) * PACKET,
            };
            steps += 1;
            match restored.recover(PACKET, next, again) {
                true => back += 1,
                false => restored.conceal(PACKET, again).unwrap(),
            }
        }
        assert!(back * 10 >= steps * 9, "{back} of {steps}");
        let gaps = |sound: &[i16]| -> Vec<f64> {
            let parts = sound.chunks(PACKET).enumerate();
            let lost = parts.filter(|(index, _)| lost(*index));
            lost.flat_map(|(_, part)| envelope(part)).collect()
        };
        let [truth, guess, again] = sounds.map(|sound| gaps(&sound));
        let (guess, again) = (correlation(&truth, &guess), correlation(&truth, &again));
        assert!(again > 0.9 && again > guess + 0.4, "{guess} {again}");
    }

    #[test]
    fn no_dred_at_all_makes_it_panic() {
        let packets = with_dred(300, 60);
        let good = packets.iter().rev().find(|packet| may_hold_dred(packet));
        let good = good.unwrap();
        let mut decoder = OpusDecoder::new(Channels::Mono).unwrap();
        let mut sound = Vec::new();
        decoder.decode(good, &mut sound).unwrap();
        let mut sequence = 0;
        for at in 0..good.len() {
            for value in [0x01, 0x40, 0x7f, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[at] ^= value;
                for payload in [&bad[..], &good[..at]] {
                    sequence += 1;
                    for distance in [usize::MAX, 48_000, 10 * PACKET, 5 * PACKET, PACKET, 1, 0] {
                        let next = After {
                            sequence,
                            payload,
                            distance,
                        };
                        sound.clear();
                        if decoder.recover(PACKET, next, &mut sound) {
                            assert_eq!(sound.len(), PACKET);
                        }
                    }
                }
                if at % 7 == 0 {
                    let _ = decoder.decode(&bad, &mut sound);
                }
            }
        }
    }

    #[test]
    fn no_octets_at_all_make_it_panic() {
        let good = packets(3).pop().unwrap();
        let mut decoder = OpusDecoder::new(Channels::Mono).unwrap();
        let mut sound = Vec::new();
        for at in 0..good.len() {
            for value in [0x00, 0x01, 0x7f, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[at] ^= value;
                let _ = (duration(&bad), has_fec(&bad));
                let _ = decoder.decode(&bad, &mut sound);
                let _ = decoder.recover(PACKET, after(&bad), &mut sound);
                let _ = (duration(&good[..at]), has_fec(&good[..at]));
                let _ = decoder.decode(&good[..at], &mut sound);
                sound.clear();
            }
        }
    }
}
