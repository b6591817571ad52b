//! Makes sound a little longer or shorter without a change of pitch (WSOLA): a stretch about as
//! long as a period of the voice is left out or heard twice, where the waveform best fits itself. Two
//! sides are cut at the same place, where both together fit best: so they stay together.
//! All lengths are samples of one channel.

use crate::Channels;

/// The shortest stretch: 2.5 ms.
const SHORTEST: usize = 120;
/// The longest: 12 ms.
pub(crate) const LONGEST: usize = 576;
/// The length of the cross-fade at the seam: 8 ms.
const SEAM: usize = 384;
/// The sound that is needed to work on: 20 ms.
pub(crate) const NEEDED: usize = LONGEST + SEAM;
/// Below this mean square, sound is silence, and any seam fits.
const QUIET: f32 = 900.0;
/// The least likeness (-1 to 1) of the two sides of a seam.
const LIKENESS: f32 = 0.6;

/// Leaves a stretch out at the begin of `sound` and says how long it was: zero if there is too
/// little sound, or none that fits and `must` is false.
pub(crate) fn shorten(sound: &mut Vec<i16>, channels: Channels, must: bool) -> usize {
    let channels = channels.count();
    let Some(lag) = fitting_lag(sound, channels, must) else {
        return 0;
    };
    let (seam, leap) = (SEAM * channels, lag * channels);
    for n in 0..seam {
        let faded = fade(at(sound, n), at(sound, n + leap), n / channels);
        if let Some(place) = sound.get_mut(n) {
            *place = faded;
        }
    }
    sound.drain(seam..seam + leap);
    lag
}

/// Repeats a stretch at the begin of `sound` and says how long it is.
pub(crate) fn lengthen(sound: &mut Vec<i16>, channels: Channels, must: bool) -> usize {
    let channels = channels.count();
    let Some(lag) = fitting_lag(sound, channels, must) else {
        return 0;
    };
    let (seam, leap) = (SEAM * channels, lag * channels);
    let mut before = [0; NEEDED * Channels::Stereo.count()];
    for (place, sample) in before.iter_mut().zip(sound.iter()) {
        *place = *sample;
    }
    let end = sound.len();
    sound.resize(end + leap, 0);
    sound.copy_within(seam..end, seam + leap);
    for (n, place) in sound.iter_mut().skip(leap).take(seam).enumerate() {
        *place = fade(at(&before, n + leap), at(&before, n), n / channels);
    }
    lag
}

fn at(sound: &[i16], index: usize) -> f32 {
    f32::from(sound.get(index).copied().unwrap_or(0))
}

fn fade(from: f32, to: f32, n: usize) -> i16 {
    let weight = (n + 1) as f32 / (SEAM + 1) as f32;
    (from * (1.0 - weight) + to * weight) as i16
}

/// The lag at which the begin of the sound fits best to itself.
fn fitting_lag(sound: &[i16], channels: usize, must: bool) -> Option<usize> {
    let head = sound.get(..SEAM * channels)?;
    let sound = sound.get(..NEEDED * channels)?;
    let energy: f32 = head.iter().map(|&s| f32::from(s).powi(2)).sum();
    if energy / (head.len() as f32) < QUIET {
        return Some(LONGEST);
    }
    let mut best = (LONGEST, -1.0f32);
    for lag in SHORTEST..=LONGEST {
        let shifted = sound.get(lag * channels..)?;
        let (mut product, mut own, mut other) = (0.0f32, 1.0f32, 1.0f32);
        for side in 0..channels {
            // Every third sample is enough to find the fit.
            let head = head.get(side..)?.iter().step_by(3 * channels);
            let shifted = shifted.get(side..)?.iter().step_by(3 * channels);
            for (&a, &b) in head.zip(shifted) {
                let (a, b) = (f32::from(a), f32::from(b));
                product += a * b;
                own += a * a;
                other += b * b;
            }
        }
        let likeness = product / (own * other).sqrt();
        if likeness > best.1 {
            best = (lag, likeness);
        }
    }
    (must || best.1 >= LIKENESS).then_some(best.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tone;

    fn sine(samples: usize) -> Vec<i16> {
        (0..samples)
            .map(|n| {
                (10_000.0 * (std::f64::consts::TAU * 440.0 * n as f64 / 48_000.0).sin()) as i16
            })
            .collect()
    }

    #[test]
    fn a_tone_becomes_longer_and_shorter_and_stays_a_tone() {
        for change in [shorten, lengthen] {
            let mut sound = sine(48_000);
            let by = change(&mut sound, Channels::Mono, false);
            assert!((SHORTEST..=LONGEST).contains(&by));
            assert_eq!(sound.len().abs_diff(48_000), by);
            let report = tone::measure(&sound, 440.0, 48_000, 0.28);
            assert_eq!(report.longest_gap_ms, 0.0);
            let step = sound.windows(2).map(|w| w[0].abs_diff(w[1])).max().unwrap();
            assert!(step < 700, "a click of {step}");
        }
    }

    #[test]
    fn too_little_sound_is_left_alone_and_silence_gives_most() {
        let mono = Channels::Mono;
        assert_eq!(shorten(&mut sine(NEEDED - 1), mono, true), 0);
        assert_eq!(lengthen(&mut vec![0; NEEDED], mono, false), LONGEST);
    }

    #[test]
    fn both_sides_are_changed_at_the_same_place_and_stay_apart() {
        // With opposite signs a mix would be silent, and any seam would seem to fit.
        for left_is in [0, -1] {
            let both = |right: i16| [left_is * right, right];
            let before: Vec<i16> = sine(48_000).into_iter().flat_map(both).collect();
            for change in [shorten, lengthen] {
                let mut sound = before.clone();
                let by = change(&mut sound, Channels::Stereo, false);
                assert!((SHORTEST..=LONGEST).contains(&by));
                assert_eq!(sound.len().abs_diff(96_000), 2 * by);
                let right: Vec<i16> = sound.iter().skip(1).step_by(2).copied().collect();
                let report = tone::measure(&right, 440.0, 48_000, 0.28);
                assert_eq!(report.longest_gap_ms, 0.0);
                let step = right.windows(2).map(|w| w[0].abs_diff(w[1])).max().unwrap();
                assert!(step < 700, "a click of {step}");
                let mut pairs = sound.as_chunks::<2>().0.iter();
                assert!(pairs.all(|[left, right]| *left == left_is * right));
            }
        }
    }
}
