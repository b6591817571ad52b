//! The receiving half for Opus, which describes no noise: how the sender's room sounds when nobody speaks.
//!
//! In a pause libopus goes on with noise of its own, but what CELT makes of it becomes weaker by 10 to 17 dB
//! within a second, with a bump where the sender is heard of. Here it is kept as loud as the room is.

use super::VoiceActivity;
use crate::channels::middle;
use crate::{Channels, FRAME};

/// The weight of the newest 10 ms in what is known of the room.
const NEWEST: f32 = 0.05;
/// The noise is raised by no more than this (20 dB),
const MOST: f32 = 10.0;
/// and the gain follows what is wanted by this share in 10 ms.
const GLIDE: f32 = 0.7;
/// What is heard of the sender in a pause is noise up to so many times the power of before.
const LIKELY: f32 = 4.0;

/// Knows the noise of one sender; of two sides, it is as loud as both are in the mean.
#[derive(Debug)]
pub(crate) struct Room {
    activity: VoiceActivity,
    channels: Channels,
    /// The noise's mean square.
    power: Option<f32>,
    gain: f32,
    /// The last that was played was made by libopus.
    filling: bool,
}

impl Room {
    pub(crate) fn new(channels: Channels) -> Room {
        Room {
            activity: VoiceActivity::at_once(),
            channels,
            power: None,
            gain: 1.0,
            filling: false,
        }
    }

    /// Hears what was decoded; whether nobody spoke at its end, so that a pause may follow.
    pub(crate) fn hear(&mut self, sound: &mut [i16]) -> bool {
        if self.filling {
            self.hear_in_pause(sound);
            self.filling = false;
            return self.activity.is_quiet();
        }
        self.gain = 1.0;
        for frame in sound.chunks(FRAME * self.channels.count()) {
            self.listen(frame);
            if self.activity.is_quiet() {
                self.learn(mean_square(frame));
            }
        }
        self.activity.is_quiet()
    }

    fn listen(&mut self, frame: &[i16]) {
        if self.channels == Channels::Mono {
            self.activity.hear(frame);
            return;
        }
        let mut mixed = [0; FRAME];
        let pairs = frame.as_chunks::<2>().0;
        for (place, &[left, right]) in mixed.iter_mut().zip(pairs) {
            *place = middle(left, right);
        }
        let mixed = mixed.get(..pairs.len()).unwrap_or_default();
        self.activity.hear(mixed);
    }

    /// The first packet after some time may be about the noise alone, as libopus sends it every 400 ms. It
    /// begins weaker than it was, and would make the floor too low.
    fn hear_in_pause(&mut self, sound: &mut [i16]) {
        let end = sound
            .rchunks(FRAME * self.channels.count())
            .next()
            .unwrap_or_default();
        let power = mean_square(end);
        if self.power.is_some_and(|known| power < known * LIKELY) {
            self.learn(power);
            self.fill(sound);
        }
    }

    fn learn(&mut self, power: f32) {
        let known = self.power.get_or_insert(power);
        *known += (power - *known) * NEWEST;
    }

    /// Raises what libopus made in a pause.
    pub(crate) fn fill(&mut self, sound: &mut [i16]) {
        self.filling = true;
        let Some(power) = self.power else { return };
        let channels = self.channels.count();
        for frame in sound.chunks_mut(FRAME * channels) {
            let wanted = (power / mean_square(frame).max(1.0))
                .sqrt()
                .clamp(1.0, MOST);
            let moments = frame.len().div_ceil(channels);
            let step = (wanted - self.gain) * GLIDE / moments as f32;
            for moment in frame.chunks_mut(channels) {
                self.gain += step;
                for sample in moment {
                    // `as` saturates.
                    *sample = (f32::from(*sample) * self.gain).round() as i16;
                }
            }
        }
    }
}

fn mean_square(sound: &[i16]) -> f32 {
    let sum: f32 = sound.iter().map(|&sample| f32::from(sample).powi(2)).sum();
    sum / sound.len().max(1) as f32
}
