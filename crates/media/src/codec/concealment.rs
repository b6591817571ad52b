//! Packet loss concealment for G.711, after the idea of ITU-T G.711 appendix I: the last pitch
//! period is repeated, and fades to silence within 60 ms.

/// The longest pitch period looked for: 15 ms (66 Hz), in samples of 8 kHz.
const LONGEST: usize = 120;
/// The shortest: 5 ms; shorter periods are found as a multiple.
const SHORTEST: usize = 40;
/// What is compared to find the period: 20 ms.
const TEMPLATE: usize = 160;
const HISTORY: usize = LONGEST + TEMPLATE;
/// For 10 ms the repetition keeps its loudness,
const HOLD: usize = 80;
/// and is silent 50 ms later.
const FADE: usize = 400;
/// The seam to the first good packet after a loss: 4 ms.
const SEAM: usize = 32;

/// What fills the gaps of one stream, at 8 kHz.
#[derive(Debug)]
pub(crate) struct Concealment {
    history: Vec<i16>,
    /// The period that is being repeated and how many samples were made up of it.
    repeating: Option<Repetition>,
}

#[derive(Debug)]
struct Repetition {
    period: Vec<i16>,
    made: usize,
}

impl Repetition {
    fn next(&mut self) -> i16 {
        let sample = self.period.get(self.made % self.period.len().max(1));
        let gain = 1.0 - (self.made.saturating_sub(HOLD) as f32 / FADE as f32).min(1.0);
        self.made = self.made.saturating_add(1);
        (f32::from(sample.copied().unwrap_or(0)) * gain) as i16
    }
}

impl Concealment {
    pub(crate) fn new() -> Concealment {
        Concealment {
            history: vec![0; HISTORY],
            repeating: None,
        }
    }

    /// A packet's sound came: it is remembered, and after a loss its begin is blended with the
    /// repetition.
    pub(crate) fn received(&mut self, sound: &mut [i16]) {
        if let Some(mut repetition) = self.repeating.take() {
            for (index, sample) in sound.iter_mut().take(SEAM).enumerate() {
                let weight = (index + 1) as f32 / (SEAM + 1) as f32;
                let made_up = f32::from(repetition.next());
                *sample = (f32::from(*sample) * weight + made_up * (1.0 - weight)) as i16;
            }
        }
        self.remember(sound);
    }

    /// Makes up sound for a packet that did not come.
    pub(crate) fn conceal(&mut self, samples: usize) -> Vec<i16> {
        let history = &self.history;
        let repetition = self.repeating.get_or_insert_with(|| Repetition {
            period: history[HISTORY - pitch(history)..].to_vec(),
            made: 0,
        });
        (0..samples).map(|_| repetition.next()).collect()
    }

    fn remember(&mut self, sound: &[i16]) {
        let keep = HISTORY.saturating_sub(sound.len());
        self.history.drain(..HISTORY - keep);
        self.history
            .extend(&sound[sound.len().saturating_sub(HISTORY)..]);
    }
}

/// The lag at which the last 20 ms resemble most what was before them.
fn pitch(history: &[i16]) -> usize {
    let template = &history[HISTORY - TEMPLATE..];
    let mut best = (SHORTEST, f32::MIN);
    for lag in SHORTEST..=LONGEST {
        let earlier = &history[HISTORY - TEMPLATE - lag..HISTORY - lag];
        let (mut product, mut energy) = (0.0f32, 1.0f32);
        for (&a, &b) in template.iter().zip(earlier) {
            product += f32::from(a) * f32::from(b);
            energy += f32::from(b) * f32::from(b);
        }
        let likeness = product / energy.sqrt();
        if likeness > best.1 {
            best = (lag, likeness);
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sine(hz: f64, from: usize, samples: usize) -> Vec<i16> {
        (from..from + samples)
            .map(|n| (10_000.0 * (std::f64::consts::TAU * hz * n as f64 / 8_000.0).sin()) as i16)
            .collect()
    }

    #[test]
    fn a_lost_frame_of_a_tone_is_the_tone_going_on() {
        let mut concealment = Concealment::new();
        concealment.received(&mut sine(200.0, 0, 480));
        let made_up = concealment.conceal(80);
        let truth = sine(200.0, 480, 80);
        let error: i32 = made_up
            .iter()
            .zip(&truth)
            .map(|(a, b)| i32::from(a - b).abs())
            .max()
            .unwrap();
        assert!(error < 300, "{error}");
    }

    #[test]
    fn a_long_loss_fades_to_silence_and_the_voice_comes_back_without_a_step() {
        let mut concealment = Concealment::new();
        concealment.received(&mut sine(200.0, 0, 480));
        assert!(
            concealment
                .conceal(480 + 80)
                .iter()
                .skip(480)
                .all(|&s| s == 0)
        );
        let mut back = sine(200.0, 20, 160);
        concealment.received(&mut back);
        assert!(back[0].abs() < 1_500);
        assert_eq!(back[SEAM..], sine(200.0, 20, 160)[SEAM..]);
    }

    #[test]
    fn pieces_of_any_length_are_coped_with() {
        let mut concealment = Concealment::new();
        for length in [0, 1, 7, 80, HISTORY - 1, HISTORY, HISTORY + 1, 5_000] {
            concealment.received(&mut vec![3; length]);
            assert_eq!(concealment.history.len(), HISTORY);
            assert_eq!(concealment.conceal(length).len(), length);
        }
    }
}
