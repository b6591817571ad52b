//! Comfort noise (RFC 3389): what is heard while a sender of G.711 or G.722 says nothing, and what is
//! said of it on the wire.

mod activity;
mod maker;
mod room;

use std::f32::consts::LOG10_2;

pub(crate) use self::activity::VoiceActivity;
pub(crate) use self::maker::NoiseMaker;
pub(crate) use self::room::Room;

/// The encoding name in `a=rtpmap`.
pub const CN: &str = "CN";
/// The payload type of noise beside a clock of 8000 Hz (RFC 3551 section 6).
pub const CN_TYPE: u8 = 13;
/// The clock of the noise that we make and describe.
pub const CN_CLOCK: u32 = 8_000;

/// The payload types of comfort noise, one for each direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ComfortNoise {
    /// What the peer takes; none: pauses are sent as sound.
    pub send: Option<u8>,
    /// What we take. Many gateways send noise without asking, so that it is understood even when
    /// nothing was agreed.
    pub receive: Option<u8>,
}

/// The most reflection coefficients that count; RFC 3389 section 3 lets a receiver leave out the higher.
const ORDER: usize = 12;
/// No coefficient gets nearer to 1 than this: beyond, it is no noise any more, but a tone.
const STEEPEST: f32 = 0.995;
/// The root mean square of 0 dBov (RFC 3389 section 3.1: a square wave of full scale).
const OVERLOAD: f32 = 32_767.0;
/// The power of -127 dBov.
const QUIETEST: f32 = 127.0;

/// How a noise sounds, as a packet describes it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Noise {
    /// Decibels below overload, 0 to 127.
    level: u8,
    /// The lattice of the all-pole filter that colours it, at 8 kHz. Its signs are those of the
    /// browsers: with low-pass noise, the first is negative. RFC 3389 does not give any.
    reflection: [f32; ORDER],
}

impl Noise {
    /// Reads a payload: one octet of level, and any number of coefficients. `None` if it is empty.
    pub(crate) fn parse(payload: &[u8]) -> Option<Noise> {
        let (level, coefficients) = payload.split_first()?;
        let mut reflection = [0.0; ORDER];
        for (place, &index) in reflection.iter_mut().zip(coefficients) {
            // RFC 3389 section 3.2; 255 is not used.
            let value = 258.0 * (f32::from(index.min(254)) - 127.0) / 32_768.0;
            *place = value.clamp(-STEEPEST, STEEPEST);
        }
        Some(Noise {
            // Section 3.1: the highest bit is reserved.
            level: level & 0x7f,
            reflection,
        })
    }

    /// Writes the payload that describes it, with so many coefficients, in place of what `payload` holds.
    pub(crate) fn write(&self, coefficients: usize, payload: &mut Vec<u8>) {
        let index = |value: &f32| (value * 32_768.0 / 258.0).round() as i32 + 127;
        let quantized = self.reflection.iter().take(coefficients);
        let quantized = quantized.map(|value| index(value).clamp(0, 254) as u8);
        payload.clear();
        payload.extend(std::iter::once(self.level).chain(quantized));
    }

    /// The noise with this autocorrelation, a sample's mean square first.
    pub(crate) fn of(correlation: &[f32]) -> Noise {
        let power = correlation.first().copied().unwrap_or(0.0);
        Noise {
            level: (-decibels(power)).round().clamp(0.0, QUIETEST) as u8,
            reflection: schur(correlation),
        }
    }

    /// Its level, in decibels above overload: at most zero.
    pub(crate) fn decibels(&self) -> f32 {
        -f32::from(self.level)
    }

    /// The share of its power that its own past does not foretell.
    fn unpredicted(&self) -> f32 {
        self.reflection.iter().map(|k| 1.0 - k * k).product()
    }

    /// Its root mean square.
    fn amplitude(&self) -> f32 {
        OVERLOAD * 10.0f32.powf(self.decibels() / 20.0)
    }
}

/// A mean square as decibels above overload.
pub(crate) fn decibels(power: f32) -> f32 {
    let ratio = power / (OVERLOAD * OVERLOAD);
    10.0 * LOG10_2 * ratio.max(f32::MIN_POSITIVE).log2()
}

/// The reflection coefficients of an autocorrelation (the recursion of Schur).
fn schur(correlation: &[f32]) -> [f32; ORDER] {
    let mut reflection = [0.0; ORDER];
    let power = correlation.first().copied().unwrap_or(0.0);
    if power <= 0.0 {
        return reflection;
    }
    let mut upper = [0.0; ORDER + 1];
    for (place, value) in upper.iter_mut().zip(correlation) {
        *place = *value;
    }
    let mut lower = upper;
    let orders = correlation.len().saturating_sub(1).min(ORDER);
    for (order, place) in reflection.iter_mut().take(orders).enumerate() {
        let (Some(&ahead), Some(&behind)) = (upper.get(order + 1), lower.get(order)) else {
            break;
        };
        // A little of white noise keeps it stable, whatever the rounding.
        let value = (-ahead / (behind + power * 1e-6)).clamp(-STEEPEST, STEEPEST);
        *place = value;
        // Each was one step behind, and is by one more now.
        lower.rotate_right(1);
        lower[0] = 0.0;
        for (up, low) in upper.iter_mut().zip(&mut lower).skip(order + 1) {
            (*up, *low) = (*up + value * *low, *low + value * *up);
        }
    }
    reflection
}

#[cfg(test)]
mod tests;
