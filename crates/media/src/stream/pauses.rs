//! What is not sent while nobody speaks: RFC 3389 beside G.711 and G.722, RFC 7587 section 3.1.3 for Opus.

use std::time::Duration;

use crate::codec::Codec;
use crate::comfort_noise::{Noise, VoiceActivity};

/// Coefficients that we send: enough for the colour of a room.
pub(super) const COEFFICIENTS: usize = 6;
/// A change of the noise by so much (dB) is told,
const CHANGE: f32 = 3.0;
/// not sooner than this after what was told before.
const SOONEST: Duration = Duration::from_millis(200);
/// It is told again after this, since what was told may be lost.
const AGAIN: Duration = Duration::from_secs(1);
/// Opus is heard of at least this often.
const ALIVE: Duration = Duration::from_millis(400);

/// What becomes of a packet's worth of sound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Verdict {
    /// It is sent.
    Voice,
    /// A description of the noise is sent in its place.
    Noise { payload_type: u8, noise: Noise },
    /// Nothing is sent.
    Pause,
}

/// What becomes of a payload of Opus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// It is sent, and is what somebody says.
    Voice,
    /// It is sent, and a pause goes on.
    Noise,
    /// It is not sent.
    Nothing,
}

/// How pauses are sent.
#[derive(Debug)]
pub(super) enum Pauses {
    /// As sound.
    Sent,
    /// By what libopus makes of them.
    Opus(OpusPause),
    /// By comfort noise.
    Noise(Box<NoiseSender>),
}

/// What was sent of a pause in Opus.
#[derive(Debug, Default)]
pub(super) struct OpusPause {
    /// How long it lasts.
    length: Duration,
    /// The time since something was sent.
    silent: Duration,
}

/// Tells the peer of the noise in pauses.
#[derive(Debug)]
pub(super) struct NoiseSender {
    payload_type: u8,
    activity: VoiceActivity,
    /// The level that was told last in this pause (dBov), and the time since.
    told: Option<(f32, Duration)>,
}

impl Pauses {
    /// With this codec, and this number for comfort noise.
    pub(super) fn new(dtx: bool, codec: Codec, comfort_noise: Option<u8>) -> Pauses {
        match (codec, comfort_noise) {
            (Codec::Opus, _) if dtx => Pauses::Opus(OpusPause::default()),
            (Codec::G722 | Codec::Pcmu | Codec::Pcma, Some(payload_type)) if dtx => {
                Pauses::Noise(Box::new(NoiseSender {
                    payload_type,
                    activity: VoiceActivity::new(),
                    told: None,
                }))
            }
            _ => Pauses::Sent,
        }
    }

    /// Sound of this length comes, not yet encoded.
    pub(super) fn hear(&mut self, sound: &[i16], time: Duration) -> Verdict {
        match self {
            Pauses::Sent | Pauses::Opus(_) => Verdict::Voice,
            Pauses::Noise(sender) => sender.hear(sound, time),
        }
    }

    /// Whether a payload of Opus is sent.
    pub(super) fn judge(&mut self, payload: &[u8], time: Duration) -> Sent {
        match self {
            Pauses::Opus(pause) => pause.judge(payload, time),
            Pauses::Sent | Pauses::Noise(_) => Sent::Voice,
        }
    }
}

impl OpusPause {
    /// What has two octets or fewer says only that a pause is there, and once in a while is enough. libopus
    /// sends of the noise after every 400 ms.
    fn judge(&mut self, payload: &[u8], time: Duration) -> Sent {
        let begins = self.length.is_zero();
        let due = self.silent + time >= ALIVE;
        if payload.len() > 2 {
            let of_noise = self.length + time > ALIVE;
            *self = OpusPause::default();
            return if of_noise { Sent::Noise } else { Sent::Voice };
        }
        self.length += time;
        self.silent += time;
        if !begins && !due {
            return Sent::Nothing;
        }
        self.silent = Duration::ZERO;
        Sent::Noise
    }
}

impl NoiseSender {
    fn hear(&mut self, sound: &[i16], time: Duration) -> Verdict {
        if self.activity.hear(sound) {
            self.told = None;
            return Verdict::Voice;
        }
        let noise = self.activity.noise();
        let told = self.told.map(|(level, since)| (level, since + time));
        let due = told.is_none_or(|(level, since)| {
            let changed = (noise.decibels() - level).abs() >= CHANGE;
            since >= AGAIN || (changed && since >= SOONEST)
        });
        if !due {
            self.told = told;
            return Verdict::Pause;
        }
        self.told = Some((noise.decibels(), Duration::ZERO));
        Verdict::Noise {
            payload_type: self.payload_type,
            noise,
        }
    }
}
