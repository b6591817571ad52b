//! The receiving half: noise as a packet describes it.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Noise, ORDER};
use crate::resample::{Narrow, Up};

/// Samples of 8 kHz over which the noise comes half nearer to a new level: 10 ms.
const GLIDE: f32 = 80.0;

/// Makes noise without end.
#[derive(Debug)]
pub(crate) struct NoiseMaker {
    random: ChaCha8Rng,
    noise: Option<Noise>,
    /// The gain of the excitation, and where it glides to.
    gain: f32,
    goal: f32,
    /// The backward errors of the lattice.
    state: [f32; ORDER],
    narrow: Vec<i16>,
    up: Up,
}

impl NoiseMaker {
    pub(crate) fn new(seed: u64) -> NoiseMaker {
        NoiseMaker {
            random: ChaCha8Rng::seed_from_u64(seed),
            noise: None,
            gain: 0.0,
            goal: 0.0,
            state: [0.0; ORDER],
            narrow: Vec::new(),
            up: Up::new(Narrow::Khz8),
        }
    }

    /// A packet described the noise. At the begin of a pause it is so at once, and later it glides there.
    pub(crate) fn describe(&mut self, noise: Noise, begins: bool) {
        // The filter adds the rest.
        self.goal = noise.amplitude() * noise.unpredicted().sqrt();
        if begins || self.noise.is_none() {
            self.gain = self.goal;
        }
        self.noise = Some(noise);
    }

    /// Appends so many ticks of 8 kHz as sound of 48 kHz: of nothing before a packet described it.
    pub(crate) fn make(&mut self, ticks: u32, out: &mut Vec<i16>) {
        let reflection = self.noise.map_or([0.0; ORDER], |noise| noise.reflection);
        self.narrow.clear();
        for _ in 0..ticks {
            self.gain += (self.goal - self.gain) / GLIDE;
            let excitation = self.gain * self.white();
            let sample = self.filter(excitation, &reflection);
            // `as` saturates.
            self.narrow.push(sample.round() as i16);
        }
        self.up.process(&self.narrow, out);
    }

    /// White noise of power 1, near enough to a normal distribution: the sum of four uniform ones.
    fn white(&mut self) -> f32 {
        let word = self.random.next_u64().to_le_bytes();
        let halves = word.as_chunks::<2>().0.iter();
        let sum: f32 = halves
            .map(|&half| f32::from(i16::from_le_bytes(half)))
            .sum();
        // Each has a variance of 65536²/12.
        sum * (3.0f32.sqrt() / 65_536.0)
    }

    /// The all-pole lattice: stable for every set of coefficients below 1, also while they change.
    fn filter(&mut self, excitation: f32, reflection: &[f32; ORDER]) -> f32 {
        let mut forward = excitation;
        for section in (0..ORDER).rev() {
            let (Some(k), Some(&behind)) = (reflection.get(section), self.state.get(section))
            else {
                continue;
            };
            forward -= k * behind;
            if let Some(above) = self.state.get_mut(section + 1) {
                *above = behind + k * forward;
            }
        }
        if let Some(first) = self.state.first_mut() {
            *first = forward;
        }
        forward
    }
}
