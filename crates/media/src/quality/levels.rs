//! How loud speech and the noise behind it are, for the VoIP metrics of RFC 3611 section 4.7.4.

use crate::FRAME;

/// What full scale is in dBm0, for a square wave: a sine of full scale has 3.14 (ITU-T G.711).
const FULL_SCALE_DBM0: f64 = 6.15;
/// The power of full scale.
const FULL_SCALE: f64 = 32_768.0 * 32_768.0;
/// The noise is thought to be this quiet at first: -65 dBm0.
const FIRST_FLOOR: f64 = 82.0;
/// It is taken to be louder by 2 dB a second as long as nothing as quiet is heard.
const RISE: f64 = 1.004_616;
/// What is louder than the noise by 10 dB is speech.
const SPEECH: f64 = 10.0;
/// The means are those of about so many frames: 5 s of speech, 1 s of noise.
const SPEECH_MEMORY: u32 = 500;
const NOISE_MEMORY: u32 = 100;

/// Watches what is heard, frame by frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Levels {
    floor: f64,
    speech: Mean,
    noise: Mean,
}

/// A mean that forgets.
#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    power: f64,
    frames: u32,
}

impl Mean {
    fn add(&mut self, power: f64, memory: u32) {
        self.frames = (self.frames + 1).min(memory);
        self.power += (power - self.power) / f64::from(self.frames);
    }

    fn dbm0(&self) -> Option<i8> {
        let db = 10.0 * (self.power / FULL_SCALE).log10() + FULL_SCALE_DBM0;
        (self.frames > 0).then(|| db.round().clamp(-127.0, 7.0) as i8)
    }
}

impl Levels {
    pub(crate) fn new() -> Levels {
        Levels {
            floor: FIRST_FLOOR,
            speech: Mean::default(),
            noise: Mean::default(),
        }
    }

    /// Takes a frame.
    pub(crate) fn add(&mut self, frame: &[i16; FRAME]) {
        let squares = frame.iter().map(|&sample| i64::from(sample).pow(2));
        // Digital silence counts as the last bit: nothing has a logarithm.
        let power = (squares.sum::<i64>() as f64 / FRAME as f64).max(1.0);
        self.floor = power.min(self.floor * RISE);
        match power > self.floor * SPEECH {
            true => self.speech.add(power, SPEECH_MEMORY),
            false => self.noise.add(power, NOISE_MEMORY),
        }
    }

    /// How loud speech is, in dBm0; `None` before any was heard.
    pub(crate) fn speech(&self) -> Option<i8> {
        self.speech.dbm0()
    }

    /// How loud it is where nobody speaks.
    pub(crate) fn noise(&self) -> Option<i8> {
        self.noise.dbm0()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A square wave of this height.
    fn square(height: i16) -> [i16; FRAME] {
        std::array::from_fn(|n| if n % 2 == 0 { height } else { -height })
    }

    #[test]
    fn speech_is_told_from_the_noise_behind_it() {
        let mut levels = Levels::new();
        assert_eq!((levels.speech(), levels.noise()), (None, None));
        // Words of a second at -20.15 dBov, and pauses of half a second at -60.2 dBov.
        for frame in 0..1_500 {
            let height = if frame % 150 < 100 { 3_220 } else { 32 };
            levels.add(&square(height));
        }
        assert_eq!(levels.speech(), Some(-14));
        assert_eq!(levels.noise(), Some(-54));
    }

    #[test]
    fn the_loudest_and_nothing_at_all_have_figures() {
        let mut levels = Levels::new();
        levels.add(&[0; FRAME]);
        assert_eq!((levels.speech(), levels.noise()), (None, Some(-84)));
        levels.add(&[i16::MIN; FRAME]);
        assert_eq!(levels.speech(), Some(6));
    }
}
