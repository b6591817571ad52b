//! From packets to frames: jitter buffer, decoder and stretching of one source and clock.

mod gaps;

use std::time::{Duration, Instant};

use self::gaps::Gaps;
use crate::channels::{self, Channels, Sides};
use crate::codec::{self, Codec, Decoder, Next, libopus};
use crate::comfort_noise::{Noise, NoiseMaker, Room};
use crate::jitter::{
    Advice, Following, Inserted, JitterBuffer, Packet, Pause, Reach, Settings, Step,
};
use crate::quality::{Losses, Order};
use crate::stretch;
use crate::{FRAME, FRAME_TIME};

/// A gap is concealed for so many steps (of 20 ms, as a rule); what is missing longer is silence, and
/// not counted as concealed any more.
const LONGEST_CONCEALMENT: u32 = 10;
/// The last so many of them fade.
const FADING: u32 = 5;
/// So often a stretch that does not fit is put off; then it is made all the same.
const PATIENCE: u32 = 20;
/// A millisecond too much is played faster by this share, so that it is gone in seconds,
const PACE: f64 = 0.001;
/// and no sound by more: 0.3 % are 5 cents.
const MOST_PACE: f64 = 0.003;
/// Room for the sound of a channel that is not yet played: one of the longest packets beside what is needed
/// for a stretch, twice.
const ROOM: usize = 2 * (codec::LONGEST + FRAME + stretch::NEEDED);
/// The most steps of the jitter buffer for one frame: packets last 2.5 ms at least.
const STEPS: usize = 64;

/// The longest gap that is waited for; redundancy reaches no farther either.
const LONGEST_COVER: Duration = Duration::from_millis(300);
/// The share of lost packets is that of about the last so many.
const LOSS_MEMORY: f64 = 100.0;
/// From this share of lost packets on, the packet after a lost one is waited for,
const SOME_LOSS: f64 = 0.025;
/// and from this, when it is often lost too, the one after that.
const MUCH_LOSS: f64 = 0.08;
/// How much earlier than just in time.
const EARLY: Duration = Duration::from_millis(12);

/// How the payloads of a source are read.
#[derive(Clone, Debug, Default)]
pub(crate) struct PayloadTypes {
    pub(crate) codecs: Vec<(u8, Codec)>,
    pub(crate) comfort_noise: Option<u8>,
    /// The channels that are heard, where the codec has them.
    pub(crate) channels: Channels,
}

impl PayloadTypes {
    pub(crate) fn codec(&self, payload_type: u8) -> Option<Codec> {
        let mut known = self.codecs.iter();
        known
            .find(|(known, _)| *known == payload_type)
            .map(|(_, codec)| *codec)
    }

    /// Whether packets of this number describe a noise: a codec of the same number goes first.
    pub(crate) fn is_noise(&self, payload_type: u8) -> bool {
        self.comfort_noise == Some(payload_type) && self.codec(payload_type).is_none()
    }
}

/// What a playout counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    pub(crate) concealed: u64,
    pub(crate) recovered: u64,
    pub(crate) late: u64,
    pub(crate) duplicates: u64,
    /// How much sound was made up.
    pub(crate) made_up: Duration,
    pub(crate) losses: Losses,
}

/// Plays one source.
#[derive(Debug)]
pub(crate) struct Playout {
    clock_rate: u32,
    samples_per_tick: u32,
    payload_types: PayloadTypes,
    buffer: JitterBuffer,
    decoder: Decoder,
    noise: NoiseMaker,
    /// The sender described its noise, and has not spoken since.
    in_noise: bool,
    /// The noise of a sender that does not describe it.
    room: Option<Room>,
    codec: Codec,
    /// Decoded sound that is not yet played: of all channels in turns.
    sound: Vec<i16>,
    channels: Channels,
    /// Both sides of what was played last.
    sides: Sides,
    /// Missing steps in a row.
    gap: u32,
    /// Stretches put off in a row.
    put_off: u32,
    /// A gap is concealed better when what comes after it is known.
    bridges: bool,
    /// The share of lost packets, and the packets that are waited for because of it.
    loss: f64,
    looked_ahead: u32,
    /// How long the gaps are that the packets arrive with.
    gaps: Gaps,
    /// What redundancy takes to bring lost packets back.
    cover: Duration,
    /// What became of each packet.
    order: Order,
    counters: Counters,
}

impl Playout {
    /// For packets of `codec`'s clock; `payload_types` says what the packets are, and `seed` what
    /// noise is made of.
    pub(crate) fn new(
        codec: Codec,
        payload_types: &PayloadTypes,
        counters: Counters,
        seed: u64,
    ) -> Result<Playout, libopus::Error> {
        let channels = codec.channels_of(payload_types.channels);
        Ok(Playout {
            codec,
            clock_rate: codec.clock_rate(),
            samples_per_tick: codec::samples_per_tick(codec),
            payload_types: payload_types.clone(),
            buffer: JitterBuffer::new(codec.clock_rate(), Settings::default()),
            decoder: Decoder::new(codec, channels)?,
            noise: NoiseMaker::new(seed),
            in_noise: false,
            room: (codec == Codec::Opus).then(|| Room::new(channels)),
            sound: Vec::with_capacity(ROOM * channels.count()),
            channels,
            sides: [[0; FRAME]; 2],
            gap: 0,
            put_off: 0,
            bridges: codec::bridges(codec),
            loss: 0.0,
            looked_ahead: 0,
            gaps: Gaps::default(),
            cover: Duration::ZERO,
            order: Order::new(),
            counters,
        })
    }

    /// From now on, what the packets are.
    pub(crate) fn set_payload_types(&mut self, payload_types: &PayloadTypes) {
        self.payload_types.clone_from(payload_types);
        let channels = self.codec.channels_of(payload_types.channels);
        if channels == self.channels {
            return;
        }
        // A decoder that cannot be made leaves everything as it was.
        if let Ok(decoder) = Decoder::new(self.codec, channels) {
            self.decoder = decoder;
            self.channels.convert(channels, &mut self.sound);
            self.room = self.room.take().map(|_| Room::new(channels));
            self.channels = channels;
        }
    }

    /// How much sound there is to play, in samples of one channel.
    fn held(&self) -> usize {
        self.sound.len() / self.channels.count()
    }

    pub(crate) fn clock_rate(&self) -> u32 {
        self.clock_rate
    }

    pub(crate) fn counters(&self) -> Counters {
        self.counters
    }

    pub(crate) fn delay(&self) -> Option<Duration> {
        self.buffer.delay()
    }

    pub(crate) fn reach(&self) -> Option<Reach> {
        self.buffer.reach()
    }

    pub(crate) fn target(&self) -> Option<Duration> {
        self.buffer.target()
    }

    pub(crate) fn insert(&mut self, now: Instant, packet: &Packet<&[u8]>) {
        self.gaps
            .note(packet.sequence, packet.timestamp, packet.duration);
        self.order.came(packet.sequence, &mut self.counters.losses);
        let packet = self.buffer.owned(packet);
        match self.buffer.insert(now, packet) {
            Inserted::Late => self.counters.late += 1,
            Inserted::Duplicate => self.counters.duplicates += 1,
            Inserted::Queued | Inserted::Restarted | Inserted::Suspect => {}
        }
    }

    /// A packet came back by redundancy.
    pub(crate) fn restore(&mut self, packet: &Packet<&[u8]>) {
        if self.buffer.insert_restored(packet) == Inserted::Queued {
            self.counters.recovered += 1;
        }
    }

    /// A packet came that holds no sound, but has its place among those that do.
    pub(crate) fn pass_over(&mut self, sequence: u16) {
        self.order.apart(sequence);
    }

    /// The packets come another way now.
    pub(crate) fn path_changed(&mut self) {
        self.buffer.path_changed();
    }

    /// Redundancy takes so long to bring back what is lost.
    pub(crate) fn set_cover(&mut self, cover: Duration) {
        self.cover = cover;
    }

    /// Waits for what brings lost sound back: redundancy, and the packet after a gap when it has proved
    /// to hold the sound again, but no longer than the gaps are.
    fn wait_for_cover(&mut self) {
        let ticks = self.decoder.reach().min(self.gaps.longest());
        let again = Duration::from_secs(u64::from(ticks)) / self.clock_rate;
        self.buffer
            .set_cover(self.cover.max(again.min(LONGEST_COVER)));
    }

    /// The next 10 ms; `None` while nothing is to be played yet.
    pub(crate) fn frame(&mut self, now: Instant) -> Option<[i16; FRAME]> {
        self.wait_for_cover();
        let advice = self.buffer.tick(now, self.ahead());
        if !self.fill(now, FRAME) {
            if self.sound.is_empty() {
                return None;
            }
            self.sound.resize(FRAME * self.channels.count(), 0);
        }
        self.follow(now, advice);
        Some(self.take())
    }

    /// Takes the next frame out of what is there. Of two sides, it is the mix.
    fn take(&mut self) -> [i16; FRAME] {
        let mut frame = [0; FRAME];
        let mut sound = self.sound.drain(..FRAME * self.channels.count());
        if self.channels == Channels::Mono {
            for (place, sample) in frame.iter_mut().zip(sound) {
                *place = sample;
            }
            return frame;
        }
        let [left, right] = &mut self.sides;
        for (left, right) in left.iter_mut().zip(right) {
            *left = sound.next().unwrap_or(0);
            *right = sound.next().unwrap_or(0);
        }
        channels::mix(&self.sides)
    }

    /// Both sides of the frame that was played last; `None` where there is one channel.
    pub(crate) fn sides(&self) -> Option<&Sides> {
        (self.channels == Channels::Stereo).then_some(&self.sides)
    }

    /// How much longer than it is the sound should last now (above 1), or shorter, for the playout
    /// to come to where the jitter buffer wants it: so little that nobody hears it. Clocks that
    /// drift apart are kept together by it, where the speaker can do it.
    pub(crate) fn pace(&self) -> f64 {
        let Some(surplus) = self.buffer.surplus() else {
            return 1.0;
        };
        1.0 - (surplus as f64 / 1e6 * PACE).clamp(-MOST_PACE, MOST_PACE)
    }

    /// Stretches or shortens the sound as the jitter buffer wants it.
    fn follow(&mut self, now: Instant, advice: Advice) {
        let must = self.put_off >= PATIENCE;
        let changed = match advice {
            Advice::Keep => return,
            Advice::Stretch => {
                // While packets wait, more sound to stretch is there.
                if must || !self.buffer.is_empty() {
                    self.fill(now, stretch::NEEDED);
                }
                stretch::lengthen(&mut self.sound, self.channels, must)
            }
            Advice::Shorten => {
                // Only sound that is there can be left out: nothing is made up for it.
                if !self.buffer.is_empty() && self.fill(now, FRAME + stretch::LONGEST) {
                    stretch::shorten(&mut self.sound, self.channels, must)
                } else {
                    0
                }
            }
        };
        self.put_off = if changed == 0 {
            self.put_off.saturating_add(1)
        } else {
            0
        };
    }

    /// The next packet is needed when there is less than a frame of sound: so much later than now.
    fn ahead(&self) -> Duration {
        FRAME_TIME * (self.held() / FRAME) as u32
    }

    /// Decodes until there are `samples` of each channel; `false` if there is nothing to decode.
    fn fill(&mut self, now: Instant, samples: usize) -> bool {
        for _ in 0..STEPS {
            if self.held() >= samples {
                return true;
            }
            match self.buffer.next(now) {
                Step::Wait => return false,
                Step::Packet(packet) if self.payload_types.is_noise(packet.payload_type) => {
                    self.describe_noise(&packet);
                    self.buffer.recycle(packet.payload);
                }
                Step::Packet(packet) => {
                    self.count_unnoticed(packet.duration);
                    self.look_ahead(packet.duration, false);
                    let decoded = self.decode(&packet);
                    let time = self.time(packet.duration);
                    let losses = &mut self.counters.losses;
                    self.order.played(packet.sequence, decoded, time, losses);
                    self.buffer.recycle(packet.payload);
                }
                Step::Missing {
                    duration,
                    next,
                    lost,
                } => {
                    if lost {
                        self.look_ahead(duration, true);
                    }
                    self.conceal(duration, next.as_ref(), lost);
                    if let Some(next) = next {
                        self.buffer.recycle(next.payload);
                    }
                }
            }
        }
        self.held() >= samples
    }

    /// What was lost where a pause seemed to be was made up like one, but lost all the same.
    fn count_unnoticed(&mut self, duration: u32) {
        for _ in 0..self.buffer.take_unnoticed() {
            self.look_ahead(duration, true);
            self.counters.concealed += 1;
            self.counters.made_up += self.time(duration);
        }
    }

    /// A packet of this duration was played or lost. When some are lost, a codec whose gaps can be
    /// bridged gets what comes after them in time, for the price of a packet's delay or two.
    fn look_ahead(&mut self, duration: u32, lost: bool) {
        self.loss += (f64::from(u8::from(lost)) - self.loss) / LOSS_MEMORY;
        if !self.bridges {
            return;
        }
        // Less only after the loss has halved, so that the delay does not go up and down.
        let packets = match (self.loss, self.looked_ahead) {
            (loss, _) if loss >= MUCH_LOSS => 2,
            (loss, 2) if loss >= MUCH_LOSS / 2.0 => 2,
            (loss, _) if loss >= SOME_LOSS => 1,
            (loss, 1..) if loss >= SOME_LOSS / 2.0 => 1,
            _ => 0,
        };
        if packets != self.looked_ahead {
            self.looked_ahead = packets;
            let packet = self.time(duration);
            let early = if packets > 0 { EARLY } else { Duration::ZERO };
            self.buffer.look_ahead(packet * packets + early);
        }
    }

    /// A packet of RFC 3389: the noise of the pause that begins with it, or goes on.
    fn describe_noise(&mut self, packet: &Packet) {
        if let Some(noise) = Noise::parse(&packet.payload) {
            self.noise.describe(noise, !self.in_noise);
            self.in_noise = true;
            self.gap = 0;
        }
        self.pass_over(packet.sequence);
        self.conceal(packet.duration, None, false);
    }

    fn time(&self, ticks: u32) -> Duration {
        Duration::from_secs(u64::from(ticks)) / self.clock_rate
    }

    /// `false`: it could not be decoded, and was concealed like a lost one.
    fn decode(&mut self, packet: &Packet) -> bool {
        self.gap = 0;
        self.in_noise = false;
        let before = self.sound.len();
        let decoded = match self.payload_types.codec(packet.payload_type) {
            Some(codec) => self.decoder.decode(codec, &packet.payload, &mut self.sound),
            None => false,
        };
        if !decoded {
            self.conceal(packet.duration, None, true);
            return false;
        }
        self.spread(before, self.decoder.channels());
        let Some(room) = &mut self.room else {
            return true;
        };
        let decoded = self.sound.get_mut(before..).unwrap_or_default();
        match packet.pause {
            // Too short to hold any sound: libopus makes it up.
            Pause::Begun => room.fill(decoded),
            _ if room.hear(decoded) => self.buffer.quiet(),
            _ => {}
        }
        true
    }

    fn conceal(&mut self, duration: u32, next: Option<&Following>, lost: bool) {
        let before = self.sound.len();
        let gone = lost && self.gap >= LONGEST_CONCEALMENT;
        let next = next.and_then(|next| {
            Some(Next {
                codec: self.payload_types.codec(next.payload_type)?,
                sequence: next.sequence,
                payload: &next.payload,
                distance: next.distance,
            })
        });
        let (decoder, sound) = (&mut self.decoder, &mut self.sound);
        // In noise also in place of lost packets: nobody knows when the voice began.
        let recovered =
            !self.in_noise && next.is_some_and(|next| decoder.recover(duration, next, sound));
        let mut made = decoder.channels();
        if self.in_noise {
            self.noise.make(duration, sound);
            made = Channels::Mono;
        } else if !recovered && !gone {
            decoder.conceal(duration, next, sound);
        }
        self.spread(before, made);
        if self.sound.len() == before {
            // The decoder had nothing to offer: the time passes in silence.
            let silence = (duration * self.samples_per_tick).max(1) as usize;
            self.sound
                .resize(before + silence * self.channels.count(), 0);
        }
        if recovered {
            self.counters.recovered += 1;
            self.order.mended();
            self.gap = 0;
            return;
        }
        if !lost {
            let made = self.sound.get_mut(before..).unwrap_or_default();
            if let Some(room) = &mut self.room {
                room.fill(made);
            }
        } else if !gone {
            self.counters.concealed += 1;
            self.counters.made_up += self.time(duration);
            if !self.in_noise {
                self.fade(before);
            }
        }
        self.gap = if lost { self.gap.saturating_add(1) } else { 0 };
    }

    /// What was made from here on with fewer channels than there are goes to both sides alike.
    fn spread(&mut self, from: usize, made: Channels) {
        if (made, self.channels) == (Channels::Mono, Channels::Stereo) {
            channels::spread(&mut self.sound, from);
        }
    }

    /// Made-up sound from here on becomes weaker: libopus would go on with a tone for seconds.
    fn fade(&mut self, from: usize) {
        let loudness = LONGEST_CONCEALMENT.saturating_sub(self.gap).min(FADING);
        for sample in self.sound.iter_mut().skip(from) {
            *sample = (i32::from(*sample) * loudness as i32 / FADING as i32) as i16;
        }
    }
}
