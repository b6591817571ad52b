//! One voice, or two sides. Inside a stream two sides lie interleaved; at its edges they are apart.

use crate::FRAME;

/// Bits a second with two channels, as a multiple of those with one: what both sides have in common is
/// sent once.
const STEREO_BITS: f64 = 1.6;

/// How many channels sound has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Channels {
    /// One.
    #[default]
    Mono = 1,
    /// Left and right.
    Stereo = 2,
}

/// 10 ms of both sides, the left one first.
pub type Sides = [[i16; FRAME]; 2];

impl Channels {
    pub(crate) const fn count(self) -> usize {
        self as usize
    }

    /// How many bits they take, as a multiple of one channel's.
    pub(crate) fn bits(self) -> f64 {
        match self {
            Channels::Mono => 1.0,
            Channels::Stereo => STEREO_BITS,
        }
    }

    /// Makes interleaved sound of these channels into that of others.
    pub(crate) fn convert(self, to: Channels, sound: &mut Vec<i16>) {
        match (self, to) {
            (Channels::Mono, Channels::Stereo) => spread(sound, 0),
            (Channels::Stereo, Channels::Mono) => merge(sound),
            _ => {}
        }
    }
}

/// What one ear would hear of both sides: exactly what each of them is where they are alike.
pub fn mix([left, right]: &Sides) -> [i16; FRAME] {
    let mut mixed = [0; FRAME];
    for ((place, left), right) in mixed.iter_mut().zip(left).zip(right) {
        *place = middle(*left, *right);
    }
    mixed
}

/// Both sides in turns, as they lie inside a stream and in files.
pub(crate) fn interleaved([left, right]: &Sides) -> impl Iterator<Item = i16> {
    let pairs = left.iter().zip(right);
    pairs.flat_map(|(left, right)| [*left, *right])
}

/// The mean of both.
pub(crate) fn middle(left: i16, right: i16) -> i16 {
    ((i32::from(left) + i32::from(right)) / 2) as i16
}

/// From here on, the one channel goes to both sides.
pub(crate) fn spread(sound: &mut Vec<i16>, from: usize) {
    let count = sound.len().saturating_sub(from);
    sound.resize(sound.len() + count, 0);
    let Some(sound) = sound.get_mut(from..) else {
        return;
    };
    // Backwards, so that nothing is overwritten before it was copied.
    for n in (0..count).rev() {
        let sample = sound.get(n).copied().unwrap_or(0);
        if let Some(pair) = sound.get_mut(2 * n..2 * n + 2) {
            pair.fill(sample);
        }
    }
}

/// Both sides become one.
fn merge(sound: &mut Vec<i16>) {
    let pairs = sound.len() / 2;
    for n in 0..pairs {
        if let Some(&[left, right]) = sound.get(2 * n..2 * n + 2)
            && let Some(place) = sound.get_mut(n)
        {
            *place = middle(left, right);
        }
    }
    sound.truncate(pairs);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_becomes_two_and_two_become_one() {
        let mut sound = vec![1, -2, 3];
        spread(&mut sound, 1);
        assert_eq!(sound, [1, -2, -2, 3, 3]);
        let mut sound = vec![i16::MIN, 5, i16::MAX];
        Channels::Mono.convert(Channels::Stereo, &mut sound);
        assert_eq!(sound.len(), 6);
        Channels::Stereo.convert(Channels::Stereo, &mut sound);
        Channels::Stereo.convert(Channels::Mono, &mut sound);
        assert_eq!(sound, [i16::MIN, 5, i16::MAX]);
        let mixed = mix(&[[100; FRAME], [-50; FRAME]]);
        assert_eq!(mixed, [25; FRAME]);
    }
}
