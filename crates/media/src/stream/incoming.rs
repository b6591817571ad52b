//! The receiving half of a stream: which source is heard, and what it sends.

use std::time::{Duration, Instant};

use rtp_types::RtpPacket;

use crate::codec::{self, Codec};
use crate::comfort_noise::CN_CLOCK;
use crate::jitter::{Packet, Pause};
use crate::playout::{Counters, PayloadTypes, Playout};
use crate::quality::Levels;
use crate::reception::{Block, Reception};
use crate::redundancy::RedundancyTypes;
use crate::redundancy::receiver::{Again, Receiver};
use crate::redundancy::red::Red;
use crate::redundancy::trace::Arrivals;
use crate::telephone_event::KeyReceiver;
use crate::{FRAME, Sides};

/// The longest RTP packet that is looked at: 120 ms of Opus at its most.
const LONGEST: usize = 8_192;
/// So long after the last loss, redundancy is waited for.
const LOSSY: Duration = Duration::from_secs(10);

/// So many frames of what came before bridge the time until a new timeline begins to play.
const BRIDGED: u32 = 15;

/// How long a packet of comfort noise lasts for the jitter buffer, in ticks of its clock: 10 ms. What
/// follows it is a pause.
const NOISE: u32 = CN_CLOCK / 100;

/// What a packet holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    /// Sound.
    Sound(Codec),
    /// A description of the noise in a pause (RFC 3389).
    Noise,
    /// A key that is pressed (RFC 4733).
    Key,
}

impl Content {
    /// The RTP clock, as far as it is known.
    fn clock_rate(self) -> Option<u32> {
        match self {
            Content::Sound(codec) => Some(codec.clock_rate()),
            Content::Noise => Some(CN_CLOCK),
            Content::Key => None,
        }
    }
}

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
    payload_types: PayloadTypes,
    telephone_event: Option<u8>,
    redundancy: Option<RedundancyTypes>,
    source: Option<Source>,
    /// The last packet of a source that is not the one that is heard.
    stranger: Option<Stranger>,
    pub(super) packets: u64,
    pub(super) octets: u64,
    lost_before: u64,
    counters_before: Counters,
    /// What noise is made of.
    seed: u64,
    /// How loud it is.
    pub(super) levels: Levels,
    /// The playout of another source, or of another clock, that is heard until the new one begins;
    /// and for how many frames at most.
    before: Option<(Playout, u32)>,
    /// Both sides of what was played last, where it has two.
    pub(super) sides: Option<Sides>,
}

#[derive(Debug)]
struct Source {
    ssrc: u32,
    reception: Reception,
    playout: Option<Playout>,
    keys: KeyReceiver,
    redundancy: Option<Receiver>,
    arrivals: Arrivals,
    /// Packets were missing last at this time.
    lossy: Option<Instant>,
}

#[derive(Debug)]
struct Stranger {
    ssrc: u32,
    arrival: Instant,
    content: Content,
    packet: Packet,
}

impl Incoming {
    pub(super) fn new(
        payload_types: PayloadTypes,
        telephone_event: Option<u8>,
        redundancy: Option<RedundancyTypes>,
        seed: u64,
    ) -> Incoming {
        Incoming {
            payload_types,
            telephone_event,
            redundancy,
            source: None,
            stranger: None,
            packets: 0,
            octets: 0,
            lost_before: 0,
            counters_before: Counters::default(),
            seed,
            levels: Levels::new(),
            before: None,
            sides: None,
        }
    }

    /// From now on these payload types are taken. Those of old that were not given to another
    /// codec are known still: packets of theirs are on their way (RFC 3264 section 8.3.2).
    pub(super) fn renegotiate(&mut self, receive: PayloadTypes, telephone_event: Option<u8>) {
        let old = std::mem::replace(&mut self.payload_types, receive);
        for (payload_type, codec) in old.codecs {
            let taken = self.payload_types.codec(payload_type).is_some();
            if !taken && telephone_event != Some(payload_type) {
                self.payload_types.codecs.push((payload_type, codec));
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

    /// Redundancy under new types; what was agreed before may still be on its way.
    pub(super) fn take_redundancy_types(&mut self, types: Option<RedundancyTypes>) {
        if types.is_none() || types == self.redundancy {
            return;
        }
        self.redundancy = types;
        if let Some(source) = &mut self.source {
            source.redundancy = types.map(Receiver::new);
        }
    }

    pub(super) fn handle(&mut self, now: Instant, datagram: &[u8], own_ssrc: u32) -> Received {
        if datagram.len() > LONGEST {
            return Received::Nothing;
        }
        let Ok(rtp) = RtpPacket::parse(datagram) else {
            return Received::Nothing;
        };
        let is_red = |types: &RedundancyTypes| types.red == rtp.payload_type();
        let red = match self.redundancy.is_some_and(|types| is_red(&types)) {
            true => match Red::parse(rtp.payload()) {
                Some(red) => red,
                None => return Received::Nothing,
            },
            false => Red::plain(rtp.payload_type(), rtp.payload()),
        };
        let Some((content, duration)) = self.content(&red) else {
            return Received::Nothing;
        };
        if rtp.ssrc() == own_ssrc {
            return Received::OwnSsrc;
        }
        let packet = Packet {
            sequence: rtp.sequence_number(),
            timestamp: rtp.timestamp(),
            marker: rtp.marker_bit(),
            payload_type: red.payload_type,
            duration,
            pause: match content {
                Content::Sound(codec) => codec::pause(codec, red.primary),
                Content::Noise => Pause::Begun,
                Content::Key => Pause::No,
            },
            payload: red.primary,
        };
        let (sequence, timestamp) = (packet.sequence, packet.timestamp);
        let received = self.sort(now, rtp.ssrc(), content, &packet);
        if received != Received::Nothing && matches!(content, Content::Sound(_)) {
            self.take_redundancy(now, sequence, timestamp, duration, &red);
        }
        received
    }

    /// What a packet holds, and how many ticks it lasts; none if nothing of the kind was agreed, or if it
    /// is malformed.
    fn content(&self, red: &Red<'_>) -> Option<(Content, u32)> {
        let types = &self.payload_types;
        if let Some(codec) = types.codec(red.payload_type) {
            let duration = codec::duration(codec, red.primary)?;
            return Some((Content::Sound(codec), duration));
        }
        if self.telephone_event == Some(red.payload_type) {
            return Some((Content::Key, 0));
        }
        let noise = types.is_noise(red.payload_type) && !red.primary.is_empty();
        noise.then_some((Content::Noise, NOISE))
    }

    /// What the packet says about earlier ones.
    fn take_redundancy(
        &mut self,
        now: Instant,
        sequence: u16,
        timestamp: u32,
        duration: u32,
        red: &Red<'_>,
    ) {
        let payload_types = &self.payload_types;
        let Some(source) = &mut self.source else {
            return;
        };
        let (Some(receiver), Some(playout)) = (&mut source.redundancy, &mut source.playout) else {
            return;
        };
        let mut again = |again: Again<'_>| {
            let payload_type = again.payload_type.unwrap_or(red.payload_type);
            let codec = payload_types
                .codec(payload_type)
                .filter(|codec| codec.clock_rate() == playout.clock_rate());
            let duration = codec.and_then(|codec| codec::duration(codec, again.payload));
            if let (Some(codec), Some(duration)) = (codec, duration) {
                playout.restore(&Packet {
                    sequence: again.sequence,
                    timestamp: again.timestamp,
                    marker: false,
                    payload_type,
                    duration,
                    pause: codec::pause(codec, again.payload),
                    payload: again.payload,
                });
            }
        };
        let blocks = red.redundant();
        receiver.take(
            sequence,
            timestamp,
            duration,
            red.primary,
            blocks,
            &mut again,
        );
        let waits = source
            .lossy
            .is_some_and(|at| now.saturating_duration_since(at) < LOSSY);
        let reach = if waits { receiver.reach() } else { 0 };
        let ticks = u64::from(playout.clock_rate().max(1));
        playout.set_cover(Duration::from_micros(u64::from(reach) * 1_000_000 / ticks));
    }

    /// A source is heard at once when there was none before; another one takes its place after
    /// two packets in a row (RFC 3550 section 6.2.1 and appendix A.1).
    fn sort(
        &mut self,
        now: Instant,
        ssrc: u32,
        content: Content,
        packet: &Packet<&[u8]>,
    ) -> Received {
        if self
            .source
            .as_ref()
            .is_some_and(|source| source.ssrc == ssrc)
        {
            return self.take(now, content, packet);
        }
        if self.source.is_none() {
            self.adopt(now, ssrc, content, packet.sequence);
            return self.take(now, content, packet);
        }
        let earlier = self.stranger.take().filter(|stranger| {
            stranger.ssrc == ssrc && packet.sequence.wrapping_sub(stranger.packet.sequence) == 1
        });
        match earlier {
            Some(earlier) => {
                let first = earlier.packet.lent();
                self.adopt(earlier.arrival, ssrc, earlier.content, first.sequence);
                let first = self.take(earlier.arrival, earlier.content, &first);
                match self.take(now, content, packet) {
                    Received::Key(key) => Received::Key(key),
                    _ => first,
                }
            }
            None => {
                self.stranger = Some(Stranger {
                    ssrc,
                    arrival: now,
                    content,
                    packet: packet.with(packet.payload.to_vec()),
                });
                Received::Nothing
            }
        }
    }

    /// Hears this source from now on.
    fn adopt(&mut self, now: Instant, ssrc: u32, content: Content, first: u16) {
        if let Some(before) = self.source.take() {
            self.lost_before += before.reception.lost();
            if let Some(playout) = before.playout {
                self.counters_before = playout.counters();
                self.before = Some((playout, BRIDGED));
            }
        }
        let clock_rate = content.clock_rate().unwrap_or(8_000);
        self.source = Some(Source {
            ssrc,
            reception: Reception::new(clock_rate, now, first),
            playout: None,
            keys: KeyReceiver::default(),
            redundancy: self.redundancy.map(Receiver::new),
            arrivals: Arrivals::new(first),
            lossy: None,
        });
    }

    fn take(&mut self, now: Instant, content: Content, packet: &Packet<&[u8]>) -> Received {
        let Some(source) = &mut self.source else {
            return Received::Nothing;
        };
        if !source.reception.update_sequence(packet.sequence) {
            return Received::Nothing;
        }
        if source.arrivals.note(packet.sequence) {
            source.lossy = Some(now);
        }
        self.packets += 1;
        self.octets += packet.payload.len() as u64;
        let clock_rate = match content {
            Content::Sound(codec) => codec.clock_rate(),
            Content::Noise => CN_CLOCK,
            Content::Key => {
                if let Some(playout) = &mut source.playout {
                    playout.pass_over(packet.sequence);
                }
                let key = source
                    .keys
                    .received(packet.marker, packet.timestamp, packet.payload);
                return key.map_or(Received::Sound, Received::Key);
            }
        };
        let playing = source.playout.as_ref().map(Playout::clock_rate);
        if content == Content::Noise && playing.is_some_and(|playing| playing != clock_rate) {
            // It belongs to nothing that is heard: Opus has its own.
            return Received::Sound;
        }
        source.reception.set_clock_rate(clock_rate);
        source.reception.update_jitter(now, packet.timestamp);
        if playing != Some(clock_rate) {
            self.open_playout(content);
        }
        if let Some(playout) = self.source.as_mut().and_then(|s| s.playout.as_mut()) {
            playout.insert(now, packet);
        }
        Received::Sound
    }

    /// Another clock, so another timeline (RFC 7160 section 4.1).
    fn open_playout(&mut self, content: Content) {
        let Some(source) = &mut self.source else {
            return;
        };
        let codec = match content {
            Content::Sound(codec) => Some(codec),
            _ => {
                let mut of_clock = self.payload_types.codecs.iter();
                let codec =
                    of_clock.find(|(_, codec)| Some(codec.clock_rate()) == content.clock_rate());
                codec.map(|(_, codec)| *codec)
            }
        };
        let Some(codec) = codec else { return };
        let counters = match &source.playout {
            Some(playout) => playout.counters(),
            None => self.counters_before,
        };
        let new = Playout::new(codec, &self.payload_types, counters, self.seed).ok();
        if let Some(old) = std::mem::replace(&mut source.playout, new) {
            self.before = Some((old, BRIDGED));
        }
    }

    pub(super) fn frame(&mut self, now: Instant) -> Option<[i16; FRAME]> {
        let playout = self
            .source
            .as_mut()
            .and_then(|source| source.playout.as_mut());
        if let Some(playout) = playout
            && let Some(frame) = playout.frame(now)
        {
            self.sides = playout.sides().copied();
            self.before = None;
            self.levels.add(&frame);
            return Some(frame);
        }
        self.sides = None;
        let (before, left) = self.before.as_mut()?;
        *left = left.checked_sub(1)?;
        let frame = before.frame(now)?;
        self.sides = before.sides().copied();
        Some(frame)
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

    /// The packets come another way now.
    pub(super) fn path_changed(&mut self) {
        if let Some(playout) = self.source.as_mut().and_then(|s| s.playout.as_mut()) {
            playout.path_changed();
        }
    }

    /// When packets were missing last.
    pub(super) fn lossy(&self) -> Option<Instant> {
        self.source.as_ref()?.lossy
    }

    /// The extended report's block about which packets came, for a peer that sends redundancy.
    pub(super) fn extended(&mut self) -> Vec<u8> {
        let mut block = Vec::new();
        if let Some(source) = self.source.as_mut().filter(|s| s.redundancy.is_some()) {
            source.arrivals.report(source.ssrc, &mut block);
        }
        block
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
