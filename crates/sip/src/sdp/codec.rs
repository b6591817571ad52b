//! RTP formats: `a=rtpmap`, `a=fmtp` and the static payload types of RFC 3551.

use sdp_types::{Attribute, Media};

/// An RTP format with its payload number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RtpCodec {
    /// The payload number, 0 to 127.
    pub payload_type: u8,
    /// The encoding's name, `opus` or `PCMU`; names compare without regard to case.
    pub name: String,
    /// The RTP clock in hertz.
    pub clock_rate: u32,
    /// How many channels `a=rtpmap` names; 2 for Opus, whatever it carries (RFC 7587).
    pub channels: u8,
    /// The parameters of `a=fmtp`.
    pub fmtp: Option<String>,
}

impl RtpCodec {
    /// Whether both are one format, payload numbers and parameters aside.
    pub fn is_same_format(&self, other: &Self) -> bool {
        self.name.eq_ignore_ascii_case(&other.name)
            && self.clock_rate == other.clock_rate
            && self.channels == other.channels
    }

    /// Whether it is telephone-event (RFC 4733).
    pub fn is_telephone_event(&self) -> bool {
        self.name.eq_ignore_ascii_case("telephone-event")
    }

    /// Whether it is comfort noise (RFC 3389).
    pub fn is_comfort_noise(&self) -> bool {
        self.name.eq_ignore_ascii_case("CN")
    }

    /// Whether it is redundant audio data (RFC 2198), whose parameters name payload numbers.
    pub fn is_red(&self) -> bool {
        self.name.eq_ignore_ascii_case("red")
    }

    /// Whether the payload number alone says what it is (RFC 3551 table 4).
    pub(super) fn is_static(&self) -> bool {
        self.fmtp.is_none() && static_codec(self.payload_type).as_ref() == Some(self)
    }

    /// Whether it carries sound of its own: neither telephone-event, comfort noise nor `red`.
    pub fn is_sound(&self) -> bool {
        !self.is_telephone_event() && !self.is_comfort_noise() && !self.is_red()
    }

    /// The `a=rtpmap` value.
    pub(super) fn rtpmap(&self) -> String {
        let Self {
            payload_type,
            name,
            clock_rate,
            channels,
            ..
        } = self;
        match channels {
            0 | 1 => format!("{payload_type} {name}/{clock_rate}"),
            _ => format!("{payload_type} {name}/{clock_rate}/{channels}"),
        }
    }
}

/// The formats of a stream in the order of its `m=` line. One without an rtpmap that has no
/// static meaning is left out.
pub(super) fn codecs(media: &Media) -> Vec<RtpCodec> {
    let mut codecs: Vec<RtpCodec> = Vec::new();
    for payload_type in payload_types(media) {
        let mapped = values(&media.attributes, "rtpmap").find_map(|v| rtpmap(v, payload_type));
        if let Some(mut codec) = mapped.or_else(|| static_codec(payload_type)) {
            codec.fmtp = values(&media.attributes, "fmtp").find_map(|v| {
                let (number, parameters) = v.split_once(' ')?;
                (number.parse() == Ok(payload_type)).then(|| parameters.trim().to_owned())
            });
            codecs.push(codec);
        }
    }
    codecs
}

/// The payload numbers of the `m=` line, in order, each once: 128 at most.
pub(super) fn payload_types(media: &Media) -> Vec<u8> {
    let mut numbers: Vec<u8> = Vec::new();
    for word in media.fmt.split_ascii_whitespace() {
        match word.parse() {
            Ok(number) if number < 128 && !numbers.contains(&number) => numbers.push(number),
            _ => {}
        }
    }
    numbers
}

/// The values of all attributes of that name.
pub(super) fn values<'a>(list: &'a [Attribute], name: &'a str) -> impl Iterator<Item = &'a str> {
    list.iter()
        .filter(move |a| a.attribute.eq_ignore_ascii_case(name))
        .filter_map(|a| a.value.as_deref())
}

fn rtpmap(value: &str, payload_type: u8) -> Option<RtpCodec> {
    let (number, rest) = value.trim().split_once(' ')?;
    if number.parse() != Ok(payload_type) {
        return None;
    }
    let mut parts = rest.trim().split('/');
    let name = parts.next().filter(|name| !name.is_empty())?.to_owned();
    let clock_rate = parts.next()?.trim().parse().ok().filter(|rate| *rate > 0)?;
    let channels = match parts.next() {
        Some(channels) => channels.trim().parse().ok()?,
        None => 1,
    };
    Some(RtpCodec {
        payload_type,
        name,
        clock_rate,
        channels,
        fmtp: None,
    })
}

/// RFC 3551 table 4, what telephones use of it.
fn static_codec(payload_type: u8) -> Option<RtpCodec> {
    let (name, clock_rate) = match payload_type {
        0 => ("PCMU", 8_000),
        3 => ("GSM", 8_000),
        4 => ("G723", 8_000),
        8 => ("PCMA", 8_000),
        9 => ("G722", 8_000),
        13 => ("CN", 8_000),
        15 => ("G728", 8_000),
        18 => ("G729", 8_000),
        _ => return None,
    };
    Some(RtpCodec {
        payload_type,
        name: name.to_owned(),
        clock_rate,
        channels: 1,
        fmtp: None,
    })
}
