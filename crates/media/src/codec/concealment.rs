//! Packet loss concealment for codecs that have none of their own: G.711 and G.722.
//!
//! As in ITU-T G.711 appendix I, the voice's last period is repeated, and fades when nothing comes.
//! Two things go beyond it. Periods are measured in parts of a sample. And when the sound *after*
//! the gap is already there, as it is for most losses since the jitter buffer holds some packets,
//! the gap is bridged from both sides: the last period before it and the first one after it are
//! played at a common phase that arrives just where the voice goes on, while one turns into the
//! other. Noise has no period: there, the sound on both sides is mirrored into the gap.

mod cycle;
mod pitch;

use self::cycle::Cycle;
use self::pitch::Pitch;

// All lengths are in samples of 8 kHz; `scale` makes others of them.
/// The longest pitch period looked for: 20 ms (50 Hz),
const LONGEST: usize = 160;
/// and the shortest: 2.5 ms (400 Hz).
const SHORTEST: usize = 20;
/// What is remembered of the past: 80 ms.
const HISTORY: usize = 640;
/// A sound that repeats itself less than this is noise.
const VOICED: f32 = 0.6;
/// The sound after a gap may do so less: it is short, and its period is known roughly.
const VOICED_AFTER: f32 = 0.5;
/// The likeness, at the end of the gap, of the voice before it and the voice after it, beneath
/// which they are not one voice.
const SAME_VOICE: f32 = 0.4;
/// What a shift by half a period costs in likeness: the smaller shift is the likelier.
const SHIFT_COST: f32 = 0.1;
/// How much of the way between two loudnesses is made as by ratios, and not in a straight line.
const BY_RATIO: f32 = 0.3;
/// The past that is mirrored into a gap in noise: 30 ms.
const MIRROR: usize = 240;
/// For 20 ms made-up sound keeps its loudness,
const HOLD: usize = 160;
/// and 80 ms later it is silent.
const FADE: usize = 640;
/// The seam to the first good packet after a loss that was not seen ahead: 4 ms.
const SEAM: usize = 32;
/// The least and the most of the sound after a gap that is looked at: 10 and 20 ms.
const LEAST_AFTER: usize = 80;
const MOST_AFTER: usize = 160;
/// The longest gap that is bridged: 60 ms.
const LONGEST_BRIDGE: usize = 480;
/// Room for 16 kHz.
const ROOM: usize = 2;

/// The sound that follows a gap.
#[derive(Clone, Copy, Debug)]
pub(crate) struct After<'a> {
    /// After how many samples it begins, counted from the begin of what is to be made up.
    pub(crate) distance: usize,
    pub(crate) sound: &'a [i16],
}

/// What fills the gaps of one stream.
#[derive(Clone, Debug)]
pub(crate) struct Concealment {
    scale: usize,
    /// What was heard last, made up or not.
    history: [f32; HISTORY * ROOM],
    /// What the sound was like where the gap began; `None` outside of gaps.
    gap: Option<Gap>,
    /// The period before the gap, and the one after it.
    before: Cycle,
    after: Cycle,
    /// The sound before the gap, backwards.
    mirror: [f32; MIRROR * ROOM],
    bridge: Bridge,
}

#[derive(Clone, Copy, Debug)]
struct Gap {
    pitch: Pitch,
    /// How far the repetition went, in samples.
    phase: f32,
    /// How much was made up.
    made: usize,
}

impl Gap {
    fn voiced(&self) -> bool {
        self.pitch.likeness >= VOICED
    }
}

/// Sound that leads to the packet after the gap.
#[derive(Clone, Debug)]
struct Bridge {
    samples: [f32; LONGEST_BRIDGE * ROOM],
    length: usize,
    taken: usize,
    /// What it leads to, as it was seen ahead: a decoder with a memory may see it otherwise when its
    /// time has come.
    shore: [f32; SEAM * ROOM],
}

impl Bridge {
    fn next(&mut self) -> Option<f32> {
        let ready = self.samples.get(..self.length).unwrap_or_default();
        let sample = ready.get(self.taken).copied();
        self.taken += usize::from(sample.is_some());
        sample
    }

    /// It was walked to its end.
    fn crossed(&self) -> bool {
        self.length > 0 && self.taken == self.length
    }
}

impl Concealment {
    /// For sound of `scale` times 8 kHz: 1 or 2.
    pub(crate) fn new(scale: usize) -> Concealment {
        Concealment {
            scale: scale.clamp(1, ROOM),
            history: [0.0; HISTORY * ROOM],
            gap: None,
            before: Cycle::new(),
            after: Cycle::new(),
            mirror: [0.0; MIRROR * ROOM],
            bridge: Bridge {
                samples: [0.0; LONGEST_BRIDGE * ROOM],
                length: 0,
                taken: 0,
                shore: [0.0; SEAM * ROOM],
            },
        }
    }

    /// A packet's sound came: it is remembered, and after a loss its begin is blended with what was
    /// made up.
    pub(crate) fn received(&mut self, sound: &mut [i16]) {
        if let Some(gap) = self.gap.take() {
            let seam = SEAM * self.scale;
            let shore = self.bridge.shore;
            let crossed = self.bridge.crossed();
            for (index, (sample, seen)) in sound.iter_mut().zip(shore).take(seam).enumerate() {
                let weight = (index + 1) as f32 / (seam + 1) as f32;
                let made_up = match crossed {
                    true => seen,
                    false => self.going_on(&gap, index) * self.gain(gap.made + index),
                };
                *sample = round(f32::from(*sample) * weight + made_up * (1.0 - weight));
            }
        }
        self.bridge.length = 0;
        self.remember(sound);
    }

    /// Makes up sound for packets that did not come.
    pub(crate) fn conceal(&mut self, out: &mut [i16], after: Option<After<'_>>) {
        if self.bridge.crossed() {
            // What was seen there did not come: the sound that was made up goes on.
            self.bridge.length = 0;
            let made = self.gap.map_or(0, |gap| gap.made);
            self.gap = None;
            self.begin(made);
        }
        if self.gap.is_none() {
            self.begin(0);
        }
        if self.bridge.length == 0
            && let Some(after) = after
        {
            self.build(after);
        }
        for sample in out.iter_mut() {
            *sample = self.next();
        }
        self.remember(out);
    }

    /// A copy to guess with how a gap of so many samples sounds; `None` if what comes after it is
    /// known already, or too far away to be of use.
    pub(crate) fn guess(&self, distance: usize) -> Option<Concealment> {
        let near = distance <= LONGEST_BRIDGE * self.scale;
        let free = self.bridge.length == 0 || self.bridge.crossed();
        (near && free).then(|| self.clone())
    }

    /// How the made-up sound would go on.
    pub(crate) fn beyond<const N: usize>(&self) -> [i16; N] {
        let Some(gap) = self.gap else {
            return [0; N];
        };
        let bridge = self.bridge.samples.get(..self.bridge.length);
        let bridge = bridge.unwrap_or_default();
        let ready = bridge.iter().chain(&self.bridge.shore);
        let mut ready = ready.skip(self.bridge.taken);
        std::array::from_fn(|index| {
            round(match ready.next() {
                Some(sample) if !bridge.is_empty() => *sample,
                _ => self.going_on(&gap, index) * self.gain(gap.made + index),
            })
        })
    }

    /// A gap begins: what the sound before it is like.
    fn begin(&mut self, made: usize) {
        let past = self.history.get(..HISTORY * self.scale);
        let past = past.unwrap_or_default();
        let (from, to) = (SHORTEST * self.scale, LONGEST * self.scale);
        let pitch = pitch::of_end(past, from, to, self.scale);
        self.before.set_end_of(past, pitch.period);
        for (place, sample) in self.mirror.iter_mut().zip(past.iter().rev()) {
            *place = *sample;
        }
        self.gap = Some(Gap {
            pitch,
            phase: 0.0,
            made,
        });
    }

    fn next(&mut self) -> i16 {
        let Some(mut gap) = self.gap else {
            return 0;
        };
        let sample = match self.bridge.next() {
            Some(sample) => sample,
            None => self.going_on(&gap, 0) * self.gain(gap.made),
        };
        gap.made = gap.made.saturating_add(1);
        gap.phase += 1.0;
        self.gap = Some(gap);
        round(sample)
    }

    /// The sound before the gap, going on `ahead` samples from now.
    fn going_on(&self, gap: &Gap, ahead: usize) -> f32 {
        let at = gap.phase + ahead as f32;
        if gap.voiced() {
            return self.before.at(at);
        }
        mirrored(self.mirror.get(..MIRROR * self.scale), at as usize)
    }

    /// The loudness of the repetition after so many samples.
    fn gain(&self, made: usize) -> f32 {
        let faded = made.saturating_sub(HOLD * self.scale) as f32;
        1.0 - (faded / (FADE * self.scale) as f32).min(1.0)
    }

    /// Bridges the gap to the sound after it.
    fn build(&mut self, after: After<'_>) {
        let (scale, length) = (self.scale, after.distance);
        let heard = after.sound.len().min(MOST_AFTER * scale);
        let Some(gap) = self.gap else {
            return;
        };
        if heard < LEAST_AFTER * scale || !(1..=LONGEST_BRIDGE * scale).contains(&length) {
            return;
        }
        let mut room = [0.0f32; MOST_AFTER * ROOM];
        for (place, sample) in room.iter_mut().zip(after.sound) {
            *place = f32::from(*sample);
        }
        let sound = room.get(..heard).unwrap_or_default();
        let most = heard.saturating_sub(40 * scale);
        let (from, to) = match gap.voiced() {
            // One voice does not change its pitch much meanwhile.
            true => (gap.pitch.period * 0.75, gap.pitch.period * 1.33),
            false => ((SHORTEST * scale) as f32, most as f32),
        };
        let to = (to as usize).min(most.max(from as usize + 2));
        let pitch = pitch::of_begin(sound, from as usize, to, scale);
        self.after.set_begin_of(sound, pitch.period);
        let same = (gap.voiced() && pitch.likeness >= VOICED_AFTER)
            .then(|| self.shift(&gap, length, sound))
            .flatten();
        match same {
            Some(shift) => self.bridge_voice(&gap, length, sound, shift),
            None => self.bridge_noise(&gap, length, sound, pitch.likeness >= VOICED),
        }
        for (place, sample) in self.bridge.shore.iter_mut().zip(sound) {
            *place = *sample;
        }
        self.bridge.length = length;
        self.bridge.taken = 0;
    }

    /// By how many samples the repetition of the past must be bent, over the gap, to arrive in
    /// phase with the sound after it; `None` if it does not look like the same voice.
    fn shift(&self, gap: &Gap, length: usize, sound: &[f32]) -> Option<f32> {
        let period = self.before.period();
        let pace = period / self.after.period();
        let compared = ((period * 1.5) as usize).max(40 * self.scale);
        let score = |shift: f32, every: usize| {
            let begin = gap.phase + length as f32 + shift;
            let places = (0..compared).step_by(every);
            let made_up = places.map(|n| self.before.at(begin + n as f32 * pace));
            let likeness = pitch::likeness(made_up, sound.iter().copied().step_by(every));
            likeness - SHIFT_COST * (2.0 * shift / period).abs()
        };
        // First roughly, then more closely around the best.
        let (coarse, fine) = (self.scale as f32, self.scale as f32 / 4.0);
        let half = (period / 2.0 / coarse) as i32;
        let (around, _) = best(-half, half, coarse, 0.0, |shift| score(shift, self.scale));
        let (shift, likeness) = best(-3, 3, fine, around, |shift| score(shift, 1));
        (likeness >= SAME_VOICE).then_some(shift)
    }

    /// Both sides at one phase, which moves at the pace of the first where the gap begins and at
    /// the pace of the second where it ends.
    fn bridge_voice(&mut self, gap: &Gap, length: usize, sound: &[f32], shift: f32) {
        let (first, second) = (self.before.period(), self.after.period());
        let pace = first / second;
        let span = length as f32;
        let end = span + shift;
        let past = self.history.get(..HISTORY * self.scale).unwrap_or_default();
        let louder = (loudness(sound.iter().take(second as usize))
            / loudness(past.iter().rev().take(first as usize)))
        .powf(BY_RATIO);
        let gain = self.gain(gap.made);
        for (n, place) in self.bridge.samples.iter_mut().take(length).enumerate() {
            let done = n as f32 / span;
            let phase = bend(done, span, end, pace);
            let before = self.before.at(gap.phase + phase) * gain * louder.powf(done);
            let after = self.after.at((phase - end) / pace) * louder.powf(done - 1.0);
            *place = before * (1.0 - done) + after * done;
        }
    }

    /// Two sounds that have nothing in common: the one goes, the other comes.
    fn bridge_noise(&mut self, gap: &Gap, length: usize, sound: &[f32], voiced: bool) {
        for n in 0..length {
            let done = (n as f32 + 0.5) / length as f32;
            let before = self.going_on(gap, n) * self.gain(gap.made);
            let left = length - n;
            let after = match voiced {
                true => self.after.at(-(left as f32)),
                false => mirrored(Some(sound), left),
            };
            // Of sounds that are not in phase the energies add up, not the amplitudes; a little
            // less of both is better than too much.
            let (first, second) = (1.0 - done, done);
            let even = (first * first + second * second).sqrt();
            let sum = before * first.powf(1.5) + after * second.powf(1.5);
            if let Some(place) = self.bridge.samples.get_mut(n) {
                *place = sum / even;
            }
        }
    }

    fn remember(&mut self, sound: &[i16]) {
        let Some(history) = self.history.get_mut(..HISTORY * self.scale) else {
            return;
        };
        let sound = &sound[sound.len().saturating_sub(history.len())..];
        history.copy_within(sound.len().., 0);
        for (place, sample) in history.iter_mut().rev().zip(sound.iter().rev()) {
            *place = f32::from(*sample);
        }
    }
}

/// A sound back and forth: the sample at `at`.
fn mirrored(sound: Option<&[f32]>, at: usize) -> f32 {
    let sound = sound.unwrap_or_default();
    let last = sound.len().saturating_sub(1).max(1);
    let at = at % (2 * last);
    let at = if at > last { 2 * last - at } else { at };
    sound.get(at).copied().unwrap_or(0.0)
}

/// The root of the mean square.
fn loudness<'a>(sound: impl Iterator<Item = &'a f32>) -> f32 {
    let (mut sum, mut count) = (0.0, 0);
    for sample in sound {
        sum += sample * sample;
        count += 1;
    }
    (sum / count.max(1) as f32 + 1.0).sqrt()
}

/// A way from 0 to `end` in the time `span`: begun at pace 1, ended at `pace`.
fn bend(done: f32, span: f32, end: f32, pace: f32) -> f32 {
    let (square, cube) = (done * done, done * done * done);
    (cube - 2.0 * square + done) * span
        + (3.0 * square - 2.0 * cube) * end
        + (cube - square) * pace * span
}

/// The best of the steps `from..=to` of this size around `middle`, and its score.
fn best(from: i32, to: i32, step: f32, middle: f32, score: impl Fn(f32) -> f32) -> (f32, f32) {
    let places = (from..=to).map(|n| middle + n as f32 * step);
    places
        .map(|place| (place, score(place)))
        .fold((middle, f32::MIN), |best, next| {
            if next.1 > best.1 { next } else { best }
        })
}

fn round(sample: f32) -> i16 {
    // `as` saturates.
    sample.round() as i16
}

#[cfg(test)]
mod tests;
