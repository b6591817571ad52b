//! Makes sound a little longer or shorter without a change of pitch (WSOLA): a stretch about as
//! long as a period of the voice is left out or heard twice, where the waveform best fits itself.

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
pub(crate) fn shorten(sound: &mut Vec<i16>, must: bool) -> usize {
    let Some(lag) = fitting_lag(sound, must) else {
        return 0;
    };
    for n in 0..SEAM {
        let faded = fade(at(sound, n), at(sound, n + lag), n);
        if let Some(place) = sound.get_mut(n) {
            *place = faded;
        }
    }
    sound.drain(SEAM..SEAM + lag);
    lag
}

/// Repeats a stretch at the begin of `sound` and says how long it is.
pub(crate) fn lengthen(sound: &mut Vec<i16>, must: bool) -> usize {
    let Some(lag) = fitting_lag(sound, must) else {
        return 0;
    };
    let mut before = [0; NEEDED];
    for (place, sample) in before.iter_mut().zip(sound.iter()) {
        *place = *sample;
    }
    let end = sound.len();
    sound.resize(end + lag, 0);
    sound.copy_within(SEAM..end, SEAM + lag);
    for (n, place) in sound.iter_mut().skip(lag).take(SEAM).enumerate() {
        *place = fade(at(&before, n + lag), at(&before, n), n);
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
fn fitting_lag(sound: &[i16], must: bool) -> Option<usize> {
    let head = sound.get(..SEAM)?;
    let sound = sound.get(..NEEDED)?;
    let energy: f32 = head.iter().map(|&s| f32::from(s).powi(2)).sum();
    if energy / (SEAM as f32) < QUIET {
        return Some(LONGEST);
    }
    let mut best = (LONGEST, -1.0f32);
    for lag in SHORTEST..=LONGEST {
        // Every third sample is enough to find the fit.
        let shifted = sound.iter().skip(lag).step_by(3);
        let (mut product, mut own, mut other) = (0.0f32, 1.0f32, 1.0f32);
        for (&a, &b) in head.iter().step_by(3).zip(shifted) {
            let (a, b) = (f32::from(a), f32::from(b));
            product += a * b;
            own += a * a;
            other += b * b;
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
            let by = change(&mut sound, false);
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
        assert_eq!(shorten(&mut sine(NEEDED - 1), true), 0);
        assert_eq!(lengthen(&mut vec![0; NEEDED], false), LONGEST);
    }
}
