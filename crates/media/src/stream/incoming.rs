//! The receiving half of a stream: which source is heard, and what it sends.

use std::time::Instant;

use rtp_types::RtpPacket;

use crate::FRAME;
use crate::codec::{self, Codec};
use crate::jitter::Packet;
use crate::playout::{Counters, Playout};
use crate::reception::{Block, Reception};
use crate::telephone_event::KeyReceiver;

/// The longest RTP packet that is looked at: 120 ms of Opus at its most.
const LONGEST: usize = 8_192;

/// So many frames of what came before bridge the time until a new timeline begins to play.
const BRIDGED: u32 = 15;

/// What a received datagram was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// Nothing of ours.
    Nothing,
    /// A packet of the source that is heard.
    Sound,
    /// A press of a key by it.
    Key(char),
    /// A packet under our own SSRC: a collision, or a loop (RFC 3550 section 8.2).
    OwnSsrc,
}

/// Takes RTP packets and plays them.
#[derive(Debug)]
pub(super) struct Incoming {
    payload_types: Vec<(u8, Codec)>,
    telephone_event: Option<u8>,
    source: Option<Source>,
    /// The last packet of a source that is not the one that is heard.
    stranger: Option<Stranger>,
    pub(super) packets: u64,
    pub(super) octets: u64,
    lost_before: u64,
    counters_before: Counters,
    /// The playout of another source, or of another clock, that is heard until the new one begins;
    /// and for how many frames at most.
    before: Option<(Playout, u32)>,
}

#[derive(Debug)]
struct Source {
    ssrc: u32,
    reception: Reception,
    playout: Option<Playout>,
    keys: KeyReceiver,
}

#[derive(Debug)]
struct Stranger {
    ssrc: u32,
    arrival: Instant,
    codec: Option<Codec>,
    packet: Packet,
}

impl Incoming {
    pub(super) fn new(payload_types: Vec<(u8, Codec)>, telephone_event: Option<u8>) -> Incoming {
        Incoming {
            payload_types,
            telephone_event,
            source: None,
            stranger: None,
            packets: 0,
            octets: 0,
            lost_before: 0,
            counters_before: Counters::default(),
            before: None,
        }
    }

    /// From now on these payload types are taken. Those of old that were not given to another
    /// codec are known still: packets of theirs are on their way (RFC 3264 section 8.3.2).
    pub(super) fn renegotiate(&mut self, receive: &[(u8, Codec)], telephone_event: Option<u8>) {
        let old = std::mem::replace(&mut self.payload_types, receive.to_vec());
        for (payload_type, codec) in old {
            let taken = self
                .payload_types
                .iter()
                .any(|(known, _)| *known == payload_type);
            if !taken && telephone_event != Some(payload_type) {
                self.payload_types.push((payload_type, codec));
            }
        }
        self.telephone_event = telephone_event;
        if let Some(playout) = self
            .source
            .as_mut()
            .and_then(|source| source.playout.as_mut())
        {
            playout.set_payload_types(&self.payload_types);
        }
    }

    pub(super) fn handle(&mut self, now: Instant, datagram: &[u8], own_ssrc: u32) -> Received {
        if datagram.len() > LONGEST {
            return Received::Nothing;
        }
        let Ok(rtp) = RtpPacket::parse(datagram) else {
            return Received::Nothing;
        };
        let mut known = self.payload_types.iter();
        let codec = known
            .find(|(known, _)| *known == rtp.payload_type())
            .map(|(_, codec)| *codec);
        let duration = match codec {
            Some(codec) => match codec::duration(codec, rtp.payload()) {
                Some(duration) => duration,
                None => return Received::Nothing,
            },
            None if Some(rtp.payload_type()) == self.telephone_event => 0,
            // Comfort noise of RFC 3389, and whatever was not agreed.
            None => return Received::Nothing,
        };
        if rtp.ssrc() == own_ssrc {
            return Received::OwnSsrc;
        }
        let packet = Packet {
            sequence: rtp.sequence_number(),
            timestamp: rtp.timestamp(),
            marker: rtp.marker_bit(),
            payload_type: rtp.payload_type(),
            duration,
            payload: rtp.payload().to_vec(),
        };
        self.sort(now, rtp.ssrc(), codec, packet)
    }

    /// A source is heard at once when there was none before; another one takes its place after
    /// two packets in a row (RFC 3550 section 6.2.1 and appendix A.1).
    fn sort(&mut self, now: Instant, ssrc: u32, codec: Option<Codec>, packet: Packet) -> Received {
        if self
            .source
            .as_ref()
            .is_some_and(|source| source.ssrc == ssrc)
        {
            return self.take(now, codec, packet);
        }
        if self.source.is_none() {
            self.adopt(now, ssrc, codec, &packet);
            return self.take(now, codec, packet);
        }
        let earlier = self.stranger.take().filter(|stranger| {
            stranger.ssrc == ssrc && packet.sequence.wrapping_sub(stranger.packet.sequence) == 1
        });
        match earlier {
            Some(earlier) => {
                self.adopt(earlier.arrival, ssrc, earlier.codec, &earlier.packet);
                let first = self.take(earlier.arrival, earlier.codec, earlier.packet);
                match self.take(now, codec, packet) {
                    Received::Key(key) => Received::Key(key),
                    _ => first,
                }
            }
            None => {
                self.stranger = Some(Stranger {
                    ssrc,
                    arrival: now,
                    codec,
                    packet,
                });
                Received::Nothing
            }
        }
    }

    /// Hears this source from now on.
    fn adopt(&mut self, now: Instant, ssrc: u32, codec: Option<Codec>, first: &Packet) {
        if let Some(before) = self.source.take() {
            self.lost_before += before.reception.lost();
            if let Some(playout) = before.playout {
                self.counters_before = playout.counters();
                self.before = Some((playout, BRIDGED));
            }
        }
        let clock_rate = codec.map_or(8_000, Codec::clock_rate);
        self.source = Some(Source {
            ssrc,
            reception: Reception::new(clock_rate, now, first.sequence),
            playout: None,
            keys: KeyReceiver::default(),
        });
    }

    fn take(&mut self, now: Instant, codec: Option<Codec>, packet: Packet) -> Received {
        let Some(source) = &mut self.source else {
            return Received::Nothing;
        };
        if !source.reception.update_sequence(packet.sequence) {
            return Received::Nothing;
        }
        self.packets += 1;
        self.octets += packet.payload.len() as u64;
        let Some(codec) = codec else {
            let key = source
                .keys
                .received(packet.marker, packet.timestamp, &packet.payload);
            return key.map_or(Received::Sound, Received::Key);
        };
        source.reception.set_clock_rate(codec.clock_rate());
        source.reception.update_jitter(now, packet.timestamp);
        let counters = match &source.playout {
            Some(playout) if playout.clock_rate() == codec.clock_rate() => None,
            Some(playout) => Some(playout.counters()),
            None => Some(self.counters_before),
        };
        if let Some(counters) = counters {
            // Another clock, so another timeline (RFC 7160 section 4.1).
            let new = Playout::new(codec, &self.payload_types, counters).ok();
            if let Some(old) = std::mem::replace(&mut source.playout, new) {
                self.before = Some((old, BRIDGED));
            }
        }
        if let Some(playout) = &mut source.playout {
            playout.insert(now, packet);
        }
        Received::Sound
    }

    pub(super) fn frame(&mut self, now: Instant) -> Option<[i16; FRAME]> {
        let playout = self
            .source
            .as_mut()
            .and_then(|source| source.playout.as_mut());
        if let Some(frame) = playout.and_then(|playout| playout.frame(now)) {
            self.before = None;
            return Some(frame);
        }
        let (before, left) = self.before.as_mut()?;
        *left = left.checked_sub(1)?;
        before.frame(now)
    }

    pub(super) fn pace(&self) -> f64 {
        self.playout().map_or(1.0, Playout::pace)
    }

    /// The source that is heard.
    pub(super) fn ssrc(&self) -> Option<u32> {
        self.source.as_ref().map(|source| source.ssrc)
    }

    pub(super) fn sender_report(&mut self, now: Instant, ssrc: u32, ntp: u64) {
        if let Some(source) = self.source.as_mut().filter(|source| source.ssrc == ssrc) {
            source.reception.sender_report(now, ntp);
        }
    }

    /// The report block about the source that is heard.
    pub(super) fn block(&mut self, now: Instant) -> Option<(u32, Block)> {
        let source = self.source.as_mut()?;
        Some((source.ssrc, source.reception.block(now)))
    }

    pub(super) fn lost(&self) -> u64 {
        let lost = self
            .source
            .as_ref()
            .map_or(0, |source| source.reception.lost());
        self.lost_before + lost
    }

    pub(super) fn jitter_ms(&self) -> Option<f64> {
        self.source.as_ref()?.reception.jitter_ms()
    }

    pub(super) fn counters(&self) -> Counters {
        match self.playout() {
            Some(playout) => playout.counters(),
            None => self.counters_before,
        }
    }

    pub(super) fn playout(&self) -> Option<&Playout> {
        self.source.as_ref()?.playout.as_ref()
    }
}
