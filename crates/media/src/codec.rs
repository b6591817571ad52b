//! The codecs: their names in SDP, and their encoders and decoders.

use std::fmt;

/// A codec that Ringtrue can speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// Opus (RFC 6716, RTP payload of RFC 7587): 48 kHz, mono, 20 ms, in-band FEC.
    Opus,
    /// G.711 µ-law (RFC 3551 section 4.5.14).
    Pcmu,
    /// G.711 A-law (RFC 3551 section 4.5.14).
    Pcma,
}

impl Codec {
    /// Every codec, the preferred one first.
    pub const ALL: [Codec; 3] = [Codec::Opus, Codec::Pcmu, Codec::Pcma];

    /// The encoding name of `a=rtpmap`.
    pub fn name(self) -> &'static str {
        match self {
            Codec::Opus => "opus",
            Codec::Pcmu => "PCMU",
            Codec::Pcma => "PCMA",
        }
    }

    /// The RTP clock rate in hertz.
    pub fn clock_rate(self) -> u32 {
        match self {
            Codec::Opus => 48_000,
            Codec::Pcmu | Codec::Pcma => 8_000,
        }
    }

    /// The channels that `a=rtpmap` names: always two for Opus, whatever is sent (RFC 7587
    /// section 7).
    pub fn channels(self) -> u8 {
        match self {
            Codec::Opus => 2,
            Codec::Pcmu | Codec::Pcma => 1,
        }
    }

    /// The payload type that we offer: static for G.711 (RFC 3551 section 6), dynamic for Opus.
    pub fn default_payload_type(self) -> u8 {
        match self {
            Codec::Opus => 96,
            Codec::Pcmu => 0,
            Codec::Pcma => 8,
        }
    }

    /// The parameters of `a=fmtp` that we offer (RFC 7587 section 6.1).
    pub fn fmtp(self) -> Option<&'static str> {
        match self {
            Codec::Opus => Some("minptime=10;useinbandfec=1"),
            Codec::Pcmu | Codec::Pcma => None,
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

    /// Reads a list such as `opus,pcmu,pcma`, the preferred codec first.
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
#[error("unknown codec \"{0}\": known are opus, pcmu and pcma")]
pub struct UnknownCodec(pub String);
