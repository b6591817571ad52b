//! 10 ms of what goes to the peer, with one side or with two.

use ringtrue_media::audio::Source;
use ringtrue_media::{FRAME, mix};

use super::gain::Gain;
use crate::{Frame, Sides};

/// What a microphone, or a file in its place, gives in 10 ms.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Captured {
    /// One channel; of two sides the mix.
    pub(super) frame: Frame,
    /// Both sides, where they differ.
    pub(super) sides: Option<Sides>,
}

impl Captured {
    pub(super) const SILENCE: Captured = Captured {
        frame: [0; FRAME],
        sides: None,
    };

    /// Reads a frame: both sides where the source has them, and they are wanted. `false` at the source's
    /// end.
    pub(super) fn read(&mut self, source: &mut dyn Source, stereo: bool) -> bool {
        if !stereo || !source.has_sides() {
            self.sides = None;
            return source.read(&mut self.frame);
        }
        let sides = self.sides.insert([[0; FRAME]; 2]);
        let read = source.read_sides(sides);
        self.frame = mix(sides);
        read
    }

    /// Makes it louder.
    pub(super) fn amplify(&mut self, gain: Gain) {
        gain.apply(&mut self.frame);
        for side in self.sides.iter_mut().flatten() {
            gain.apply(side);
        }
    }
}
