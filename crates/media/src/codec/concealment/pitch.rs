//! How alike two stretches of sound are, and the period at which a sound repeats itself.

/// Of two lags that fit nearly as well, the shorter is the period and the longer a multiple.
const NEARLY: f32 = 0.9;
/// Fewer samples than this (at 8 kHz) tell nothing about a likeness.
const LEAST: usize = 30;
/// What is compared to find a period: 20 ms, in samples of 8 kHz.
const TEMPLATE: usize = 160;
/// The most lags that are looked at.
const LAGS: usize = 400;

/// A period, in samples and parts of them, and how well the sound repeats itself after it (at most
/// 1; noise has less than 0.6).
#[derive(Clone, Copy, Debug)]
pub(super) struct Pitch {
    pub(super) period: f32,
    pub(super) likeness: f32,
}

/// The normalised correlation of two stretches: 1 if they differ by loudness at most.
pub(super) fn likeness(a: impl Iterator<Item = f32>, b: impl Iterator<Item = f32>) -> f32 {
    // Silence is like nothing.
    let (mut product, mut left, mut right) = (0.0f32, 1.0f32, 1.0f32);
    for (a, b) in a.zip(b) {
        product += a * b;
        left += a * a;
        right += b * b;
    }
    product / (left * right).sqrt()
}

/// The period of the end of `sound`, between `from` and `to` samples.
pub(super) fn of_end(sound: &[f32], from: usize, to: usize, scale: usize) -> Pitch {
    find(from, to, |lag| {
        let length = (TEMPLATE * scale).min(sound.len().saturating_sub(lag));
        if length < LEAST * scale {
            return -1.0;
        }
        let late = sound.iter().rev().take(length);
        let early = sound.iter().rev().skip(lag);
        likeness(late.copied(), early.copied())
    })
}

/// The period of the begin of `sound`, between `from` and `to` samples.
pub(super) fn of_begin(sound: &[f32], from: usize, to: usize, scale: usize) -> Pitch {
    find(from, to, |lag| {
        if sound.len().saturating_sub(lag) < LEAST * scale {
            return -1.0;
        }
        likeness(sound.iter().copied(), sound.iter().skip(lag).copied())
    })
}

/// The lag of the highest score, or a shorter one that is a peak nearly as high.
fn find(from: usize, to: usize, score: impl Fn(usize) -> f32) -> Pitch {
    let from = from.max(2);
    let to = to.max(from).min(from + LAGS - 3);
    // One more on each side, for the shape of a peak at the edge.
    let mut scores = [-1.0f32; LAGS];
    let used = to - from + 3;
    for (index, place) in scores.iter_mut().take(used).enumerate() {
        *place = score(from - 1 + index);
    }
    let inner = scores.get(1..used - 1).unwrap_or_default();
    let top = inner.iter().copied().fold(-1.0, f32::max);
    let peaks = scores.windows(3).take(used - 2).enumerate();
    let mut best = (0, [-1.0; 3]);
    for (index, window) in peaks {
        let &[before, here, after] = window else {
            continue;
        };
        let peak = here > before && here >= after && here >= NEARLY * top;
        if peak || here >= top {
            best = (index, [before, here, after]);
            break;
        }
    }
    let (index, [before, here, after]) = best;
    // The top of the parabola through three points.
    let bend = before - 2.0 * here + after;
    let shift = if bend < -1e-6 {
        (0.5 * (before - after) / bend).clamp(-0.5, 0.5)
    } else {
        0.0
    };
    Pitch {
        period: (from + index) as f32 + shift,
        likeness: here,
    }
}
