//! The codecs: their names in SDP, and their encoders and decoders.

mod concealment;
mod g711;
mod g722;
pub(crate) mod libopus;
mod opus;
#[cfg(test)]
pub(crate) mod voice;

use std::fmt;
use std::time::Duration;

use crate::jitter::Pause;
use crate::{Channels, SAMPLE_RATE, resample};

use self::g711::{G711Decoder, G711Encoder, Law};
use self::g722::{G722Decoder, G722Encoder};
use self::opus::{After, OpusDecoder, OpusEncoder};

pub(crate) use self::opus::EXPECTED_LOSS;

/// The longest packet that is decoded, in samples: 200 ms of G.711 and G.722; Opus has 120.
pub(crate) const LONGEST: usize = SAMPLE_RATE as usize / 5;

/// A codec that Ringtrue can speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// Opus (RFC 6716, RTP payload of RFC 7587): 48 kHz, mono or stereo, in-band FEC.
    Opus,
    /// G.722 (RFC 3551 section 4.5.2): 7 kHz of sound.
    G722,
    /// G.711 µ-law (RFC 3551 section 4.5.14).
    Pcmu,
    /// G.711 A-law (RFC 3551 section 4.5.14).
    Pcma,
}

impl Codec {
    /// Every codec, the preferred one first.
    pub const ALL: [Codec; 4] = [Codec::Opus, Codec::G722, Codec::Pcmu, Codec::Pcma];

    /// The encoding name of `a=rtpmap`.
    pub fn name(self) -> &'static str {
        match self {
            Codec::Opus => "opus",
            Codec::G722 => "G722",
            Codec::Pcmu => "PCMU",
            Codec::Pcma => "PCMA",
        }
    }

    /// The RTP clock rate in hertz: 8000 for G.722 too, though it has 16000 samples a second (RFC
    /// 3551 section 4.5.2).
    pub fn clock_rate(self) -> u32 {
        match self {
            Codec::Opus => 48_000,
            Codec::G722 | Codec::Pcmu | Codec::Pcma => 8_000,
        }
    }

    /// The channels that `a=rtpmap` names: always two for Opus, whatever is sent (RFC 7587
    /// section 7).
    pub fn channels(self) -> u8 {
        match self {
            Codec::Opus => 2,
            Codec::G722 | Codec::Pcmu | Codec::Pcma => 1,
        }
    }

    /// What it has of the channels that are wanted: only Opus has two.
    pub(crate) fn channels_of(self, wanted: Channels) -> Channels {
        match self {
            Codec::Opus => wanted,
            Codec::G722 | Codec::Pcmu | Codec::Pcma => Channels::Mono,
        }
    }

    /// The payload type that we offer: static for G.711 and G.722 (RFC 3551 section 6), dynamic for Opus.
    pub fn default_payload_type(self) -> u8 {
        match self {
            Codec::Opus => 96,
            Codec::G722 => 9,
            Codec::Pcmu => 0,
            Codec::Pcma => 8,
        }
    }

    /// The parameters of `a=fmtp` that we offer (RFC 7587 section 6.1).
    pub fn fmtp(self) -> Option<&'static str> {
        match self {
            Codec::Opus => Some("minptime=10;useinbandfec=1"),
            Codec::G722 | Codec::Pcmu | Codec::Pcma => None,
        }
    }

    /// The codec that an `a=rtpmap` names, if it is one of ours. Names compare without case (RFC
    /// 8866 section 6.6).
    pub fn from_rtpmap(name: &str, clock_rate: u32, channels: u8) -> Option<Codec> {
        Codec::ALL.into_iter().find(|codec| {
            codec.name().eq_ignore_ascii_case(name)
                && codec.clock_rate() == clock_rate
                && codec.channels() == channels.max(1)
        })
    }

    /// Reads a list such as `opus,g722,pcmu,pcma`, the preferred codec first.
    pub fn parse_list(list: &str) -> Result<Vec<Codec>, UnknownCodec> {
        let mut codecs = Vec::new();
        for name in list.split(',').map(str::trim) {
            let codec: Codec = name.parse()?;
            if !codecs.contains(&codec) {
                codecs.push(codec);
            }
        }
        Ok(codecs)
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Codec {
    type Err = UnknownCodec;

    fn from_str(name: &str) -> Result<Codec, UnknownCodec> {
        Codec::ALL
            .into_iter()
            .find(|codec| codec.name().eq_ignore_ascii_case(name))
            .ok_or_else(|| UnknownCodec(name.to_owned()))
    }
}

/// A name that is no codec of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown codec \"{0}\": known are opus, g722, pcmu and pcma")]
pub struct UnknownCodec(pub String);

/// The parameter of Opus (`a=fmtp`) that says how much DRED the receiver can use, in milliseconds
/// (draft-ietf-mlcodec-opus-dred).
pub const DRED: &str = "ext32-dred-duration";
/// How much we can use: no more than the playout waits for.
pub const DRED_MS: u32 = 300;

/// How Opus is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpusSettings {
    /// How much work the encoder does, 0 to 10.
    pub complexity: u8,
    /// Packets are all of one size, so that their sizes say nothing about what is said (RFC 6562).
    pub cbr: bool,
    /// The most bits a second that the peer takes (`maxaveragebitrate` of RFC 7587).
    pub max_bitrate: Option<u32>,
    /// The highest sampling rate that the peer can play, in hertz (`maxplaybackrate`).
    pub max_playback_rate: Option<u32>,
    /// How much DRED the peer can use, in milliseconds (`ext32-dred-duration`); 0: none.
    pub dred_ms: u32,
}

impl Default for OpusSettings {
    fn default() -> OpusSettings {
        OpusSettings {
            complexity: opus::COMPLEXITY,
            cbr: false,
            max_bitrate: None,
            max_playback_rate: None,
            dred_ms: 0,
        }
    }
}

/// The encoder of a stream.
#[derive(Debug)]
pub(crate) enum Encoder {
    Opus(OpusEncoder),
    G711(Box<G711Encoder>),
    G722(Box<G722Encoder>),
}

impl Encoder {
    /// Of these channels as far as the codec has them.
    pub(crate) fn new(
        codec: Codec,
        fec: bool,
        channels: Channels,
    ) -> Result<Encoder, libopus::Error> {
        Ok(match codec {
            Codec::Opus => Encoder::Opus(OpusEncoder::new(fec, channels)?),
            Codec::G722 => Encoder::G722(Box::new(G722Encoder::new())),
            Codec::Pcmu => Encoder::G711(Box::new(G711Encoder::new(Law::Mu))),
            Codec::Pcma => Encoder::G711(Box::new(G711Encoder::new(Law::A))),
        })
    }

    /// The same from now on, as far as it is Opus.
    pub(crate) fn configure(&mut self, settings: &OpusSettings) -> Result<(), libopus::Error> {
        match self {
            Encoder::Opus(encoder) => encoder.configure(settings),
            Encoder::G711(_) | Encoder::G722(_) => Ok(()),
        }
    }

    /// Whether Opus tells pauses by packets of one or two octets; the others know no pauses.
    pub(crate) fn set_dtx(&mut self, dtx: bool) -> Result<(), libopus::Error> {
        match self {
            Encoder::Opus(encoder) => encoder.set_dtx(dtx),
            Encoder::G711(_) | Encoder::G722(_) => Ok(()),
        }
    }

    /// How much later than it is heard sound leaves the encoder, a packet's length aside.
    pub(crate) fn look_ahead(&self) -> Duration {
        match self {
            Encoder::Opus(encoder) => encoder.look_ahead(),
            Encoder::G711(_) | Encoder::G722(_) => resample::DELAY,
        }
    }

    /// Writes a packet of this sound, 10, 20, 40 or 60 ms, in place of what `packet` holds.
    pub(crate) fn encode(
        &mut self,
        sound: &[i16],
        packet: &mut Vec<u8>,
    ) -> Result<(), libopus::Error> {
        match self {
            Encoder::Opus(encoder) => return encoder.encode(sound, packet),
            Encoder::G711(encoder) => encoder.encode(sound, packet),
            Encoder::G722(encoder) => encoder.encode(sound, packet),
        }
        Ok(())
    }

    /// About so many bits a second; G.711 and G.722 have no choice.
    pub(crate) fn set_bitrate(&mut self, bitrate: i32) -> Result<(), libopus::Error> {
        match self {
            Encoder::Opus(encoder) => encoder.set_bitrate(bitrate),
            Encoder::G711(_) | Encoder::G722(_) => Ok(()),
        }
    }

    /// From now on, DRED of so many milliseconds goes along; G.711 and G.722 have none.
    pub(crate) fn set_dred(&mut self, ms: u32) -> Result<(), libopus::Error> {
        match self {
            Encoder::Opus(encoder) => encoder.set_dred(ms),
            Encoder::G711(_) | Encoder::G722(_) => Ok(()),
        }
    }

    /// The share of packets, in percent, that the peer loses.
    pub(crate) fn expect_loss(&mut self, percent: u8) -> Result<(), libopus::Error> {
        match self {
            Encoder::Opus(encoder) => encoder.expect_loss(percent),
            Encoder::G711(_) | Encoder::G722(_) => Ok(()),
        }
    }
}

/// Whether a gap is concealed better by a decoder that knows what comes after it, however far that
/// is; Opus' FEC data is about the packet just before.
pub(crate) fn bridges(codec: Codec) -> bool {
    match codec {
        Codec::Opus => false,
        Codec::G722 | Codec::Pcmu | Codec::Pcma => true,
    }
}

/// A packet after a gap, which is there before its time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Next<'a> {
    pub(crate) codec: Codec,
    /// Tells it from others.
    pub(crate) sequence: u16,
    pub(crate) payload: &'a [u8],
    /// How long after the begin of the gap it begins, in ticks of the RTP clock.
    pub(crate) distance: u32,
}

/// The decoder of a stream: one for each RTP clock.
#[derive(Debug)]
pub(crate) enum Decoder {
    Opus(OpusDecoder),
    G711(Box<G711Decoder>),
    G722(Box<G722Decoder>),
}

impl Decoder {
    /// Of these channels as far as the codec has them.
    pub(crate) fn new(codec: Codec, channels: Channels) -> Result<Decoder, libopus::Error> {
        Ok(match codec {
            Codec::Opus => Decoder::Opus(OpusDecoder::new(channels)?),
            Codec::G722 => Decoder::G722(Box::new(G722Decoder::new())),
            Codec::Pcmu | Codec::Pcma => Decoder::G711(Box::new(G711Decoder::new())),
        })
    }

    /// The channels of what is appended.
    pub(crate) fn channels(&self) -> Channels {
        match self {
            Decoder::Opus(decoder) => decoder.channels(),
            Decoder::G711(_) | Decoder::G722(_) => Channels::Mono,
        }
    }

    /// Appends what a packet holds. A packet that cannot be decoded appends nothing and is `false`.
    pub(crate) fn decode(&mut self, codec: Codec, payload: &[u8], out: &mut Vec<i16>) -> bool {
        if !self.speaks(codec) {
            // Another codec of the same clock: nothing of the old one helps with it.
            match Decoder::new(codec, Channels::Mono) {
                Ok(decoder) => *self = decoder,
                Err(_) => return false,
            }
        }
        match (self, codec) {
            (Decoder::Opus(decoder), Codec::Opus) => decoder.decode(payload, out).is_ok(),
            (Decoder::G711(decoder), Codec::Pcmu) => {
                decoder.decode(Law::Mu, payload, out);
                true
            }
            (Decoder::G711(decoder), Codec::Pcma) => {
                decoder.decode(Law::A, payload, out);
                true
            }
            (Decoder::G722(decoder), Codec::G722) => {
                decoder.decode(payload, out);
                true
            }
            _ => false,
        }
    }

    fn speaks(&self, codec: Codec) -> bool {
        match self {
            Decoder::Opus(_) => codec == Codec::Opus,
            Decoder::G711(_) => Law::of(codec).is_some(),
            Decoder::G722(_) => codec == Codec::G722,
        }
    }

    /// Appends sound of `ticks` of the RTP clock that the packet after the gap holds again. `false`,
    /// and nothing is appended, if it holds none.
    pub(crate) fn recover(&mut self, ticks: u32, next: Next<'_>, out: &mut Vec<i16>) -> bool {
        match self {
            Decoder::Opus(decoder) if next.codec == Codec::Opus => {
                let after = After {
                    sequence: next.sequence,
                    payload: next.payload,
                    distance: next.distance as usize,
                };
                decoder.recover(ticks as usize, after, out)
            }
            Decoder::Opus(_) | Decoder::G711(_) | Decoder::G722(_) => false,
        }
    }

    /// How far back the packets after gaps hold lost sound again, in ticks of the RTP clock, by the last
    /// of them.
    pub(crate) fn reach(&self) -> u32 {
        match self {
            Decoder::Opus(decoder) => u32::try_from(decoder.reach()).unwrap_or(u32::MAX),
            Decoder::G711(_) | Decoder::G722(_) => 0,
        }
    }

    /// Appends made-up sound of `ticks` of the RTP clock, with the help of the packet after the gap.
    pub(crate) fn conceal(&mut self, ticks: u32, next: Option<Next<'_>>, out: &mut Vec<i16>) {
        match self {
            Decoder::Opus(decoder) => {
                // What libopus refuses, the owner replaces by silence.
                let _ = decoder.conceal(ticks as usize, out);
            }
            Decoder::G711(decoder) => {
                let next = next.and_then(|next| {
                    let law = Law::of(next.codec)?;
                    Some((law, next.payload, next.distance as usize))
                });
                decoder.conceal(ticks as usize, next, out);
            }
            Decoder::G722(decoder) => {
                let next = next
                    .filter(|next| next.codec == Codec::G722)
                    .map(|next| (next.payload, next.distance as usize));
                decoder.conceal(ticks as usize, next, out);
            }
        }
    }
}

/// The longest packet of G.711 and G.722, in ticks of their clock: 200 ms.
const LONGEST_TICKS: usize = 1_600;

/// How long a packet lasts, in ticks of the codec's RTP clock: `None` if it is malformed, empty or
/// longer than 120 ms (200 ms for the others, the most that RFC 3551 section 4.2 demands of receivers).
pub(crate) fn duration(codec: Codec, payload: &[u8]) -> Option<u32> {
    match codec {
        Codec::Opus => opus::duration(payload),
        Codec::G722 | Codec::Pcmu | Codec::Pcma => match payload.len() {
            ticks @ 1..=LONGEST_TICKS => Some(ticks as u32),
            _ => None,
        },
    }
}

/// What a packet says about a pause of its sender.
pub(crate) fn pause(codec: Codec, payload: &[u8]) -> Pause {
    match codec {
        Codec::Opus => opus::pause(payload),
        Codec::G722 | Codec::Pcmu | Codec::Pcma => Pause::No,
    }
}

/// Samples of 48 kHz for a tick of the codec's RTP clock.
pub(crate) fn samples_per_tick(codec: Codec) -> u32 {
    SAMPLE_RATE / codec.clock_rate()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_names() {
        assert_eq!(
            Codec::parse_list("pcma, Opus,pcma"),
            Ok(vec![Codec::Pcma, Codec::Opus])
        );
        assert_eq!(
            Codec::parse_list("opus,g729"),
            Err(UnknownCodec("g729".into()))
        );
        assert_eq!(Codec::from_rtpmap("OPUS", 48_000, 2), Some(Codec::Opus));
        // RFC 7587 section 7: Opus is always announced with two channels.
        assert_eq!(Codec::from_rtpmap("opus", 48_000, 1), None);
        assert_eq!(Codec::from_rtpmap("pcmu", 8_000, 0), Some(Codec::Pcmu));
        // RFC 3551 section 4.5.2: the clock of G.722 is not its sampling rate.
        assert_eq!(Codec::from_rtpmap("g722", 8_000, 1), Some(Codec::G722));
        assert_eq!(Codec::from_rtpmap("g722", 16_000, 1), None);
    }
}
