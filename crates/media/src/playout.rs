//! From packets to frames: jitter buffer, decoder and stretching of one source and clock.

use std::time::{Duration, Instant};

use crate::codec::{self, Codec, Decoder};
use crate::jitter::{Advice, Inserted, JitterBuffer, Packet, Settings, Step};
use crate::stretch;
use crate::{FRAME, FRAME_TIME};

/// A gap is concealed for so many steps (of 20 ms, as a rule); what is missing longer is silence, and
/// not counted as concealed any more.
const LONGEST_CONCEALMENT: u32 = 10;
/// The last so many of them fade.
const FADING: u32 = 5;
/// So often a stretch that does not fit is put off; then it is made all the same.
const PATIENCE: u32 = 20;
/// The most steps of the jitter buffer for one frame: packets last 2.5 ms at least.
const STEPS: usize = 64;

/// What a playout counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    pub(crate) concealed: u64,
    pub(crate) recovered: u64,
    pub(crate) late: u64,
    pub(crate) duplicates: u64,
}

/// Plays one source.
#[derive(Debug)]
pub(crate) struct Playout {
    clock_rate: u32,
    samples_per_tick: u32,
    payload_types: Vec<(u8, Codec)>,
    buffer: JitterBuffer,
    decoder: Decoder,
    /// Decoded sound that is not yet played.
    sound: Vec<i16>,
    /// Missing steps in a row.
    gap: u32,
    /// Stretches put off in a row.
    put_off: u32,
    counters: Counters,
}

impl Playout {
    /// For packets of `codec`'s clock; `payload_types` says what the packets are.
    pub(crate) fn new(
        codec: Codec,
        payload_types: &[(u8, Codec)],
        counters: Counters,
    ) -> Result<Playout, ::opus::Error> {
        Ok(Playout {
            clock_rate: codec.clock_rate(),
            samples_per_tick: codec::samples_per_tick(codec),
            payload_types: payload_types.to_vec(),
            buffer: JitterBuffer::new(codec.clock_rate(), Settings::default()),
            decoder: Decoder::new(codec)?,
            sound: Vec::new(),
            gap: 0,
            put_off: 0,
            counters,
        })
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

    pub(crate) fn target(&self) -> Option<Duration> {
        self.buffer.target()
    }

    pub(crate) fn insert(&mut self, now: Instant, packet: Packet) {
        match self.buffer.insert(now, packet) {
            Inserted::Late => self.counters.late += 1,
            Inserted::Duplicate => self.counters.duplicates += 1,
            Inserted::Queued | Inserted::Restarted | Inserted::Suspect => {}
        }
    }

    /// The next 10 ms; `None` while nothing is to be played yet.
    pub(crate) fn frame(&mut self, now: Instant) -> Option<[i16; FRAME]> {
        let advice = self.buffer.tick(now, self.ahead());
        if !self.fill(now, FRAME) {
            if self.sound.is_empty() {
                return None;
            }
            self.sound.resize(FRAME, 0);
        }
        self.follow(now, advice);
        let mut frame = [0; FRAME];
        for (place, sample) in frame.iter_mut().zip(self.sound.drain(..FRAME)) {
            *place = sample;
        }
        Some(frame)
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
                stretch::lengthen(&mut self.sound, must)
            }
            Advice::Shorten => {
                // Only sound that is there can be left out: nothing is made up for it.
                if !self.buffer.is_empty() && self.fill(now, FRAME + stretch::LONGEST) {
                    stretch::shorten(&mut self.sound, must)
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
        FRAME_TIME * (self.sound.len() / FRAME) as u32
    }

    /// Decodes until there are `samples`; `false` if there is nothing to decode.
    fn fill(&mut self, now: Instant, samples: usize) -> bool {
        for _ in 0..STEPS {
            if self.sound.len() >= samples {
                return true;
            }
            match self.buffer.next(now) {
                Step::Wait => return false,
                Step::Packet(packet) => self.decode(&packet),
                Step::Missing {
                    duration,
                    next,
                    lost,
                } => self.conceal(duration, next, lost),
            }
        }
        self.sound.len() >= samples
    }

    fn codec(&self, payload_type: u8) -> Option<Codec> {
        let mut known = self.payload_types.iter();
        known
            .find(|(known, _)| *known == payload_type)
            .map(|(_, codec)| *codec)
    }

    fn decode(&mut self, packet: &Packet) {
        self.gap = 0;
        let decoded = match self.codec(packet.payload_type) {
            Some(codec) => self.decoder.decode(codec, &packet.payload, &mut self.sound),
            None => false,
        };
        if !decoded {
            self.conceal(packet.duration, None, true);
        }
    }

    fn conceal(&mut self, duration: u32, next: Option<(u8, Vec<u8>)>, lost: bool) {
        let before = self.sound.len();
        let gone = lost && self.gap >= LONGEST_CONCEALMENT;
        let next = next.as_ref().map(|(_, payload)| payload.as_slice());
        let recovered = !gone && self.decoder.conceal(duration, next, &mut self.sound);
        if self.sound.len() == before {
            // The decoder had nothing to offer: the time passes in silence.
            let silence = (duration * self.samples_per_tick) as usize;
            self.sound.resize(before + silence.max(1), 0);
        }
        if recovered {
            self.counters.recovered += 1;
        } else if lost && !gone {
            self.counters.concealed += 1;
            // libopus would go on with a tone for seconds.
            let loudness = LONGEST_CONCEALMENT.saturating_sub(self.gap).min(FADING);
            for sample in self.sound.iter_mut().skip(before) {
                *sample = (i32::from(*sample) * loudness as i32 / FADING as i32) as i16;
            }
        }
        self.gap = self.gap.saturating_add(1);
    }
}
