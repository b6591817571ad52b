//! Call progress tones by country (ITU-T E.180 supplement 2 and national tables), and a ring tone.

use std::f32::consts::TAU;

use super::Source;
use crate::{FRAME, SAMPLE_RATE};

/// A tone that tells how a call goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// The frequencies that sound together, in hertz.
    pub hertz: &'static [f32],
    /// Milliseconds of sound and of silence in turn, over and over.
    pub cadence: &'static [u32],
}

/// The tones of one country.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Region {
    /// What a user calls it: mostly a country's code.
    pub name: &'static str,
    /// The other phone rings.
    pub ring_back: Progress,
    /// The other one is talking.
    pub busy: Progress,
    /// The network cannot.
    pub congestion: Progress,
}

const fn region(
    name: &'static str,
    ring_back: Progress,
    busy: Progress,
    congestion: Progress,
) -> Region {
    Region {
        name,
        ring_back,
        busy,
        congestion,
    }
}

const fn tone(hertz: &'static [f32], cadence: &'static [u32]) -> Progress {
    Progress { hertz, cadence }
}

const HZ_425: &[f32] = &[425.0];
const HZ_400: &[f32] = &[400.0];
const HZ_BRITISH: &[f32] = &[400.0, 450.0];
const HZ_AMERICAN: &[f32] = &[480.0, 620.0];
const TWICE: &[u32] = &[400, 200, 400, 2_000];
const ONCE_IN_5: &[u32] = &[1_000, 4_000];
const HALVES: &[u32] = &[500, 500];
const QUARTERS: &[u32] = &[250, 250];
const FIFTHS: &[u32] = &[200, 200];

/// All regions that are known, the default one first.
pub const REGIONS: &[Region] = &[
    region(
        "eu",
        tone(HZ_425, ONCE_IN_5),
        tone(HZ_425, HALVES),
        tone(HZ_425, QUARTERS),
    ),
    region(
        "us",
        tone(&[440.0, 480.0], &[2_000, 4_000]),
        tone(HZ_AMERICAN, HALVES),
        tone(HZ_AMERICAN, QUARTERS),
    ),
    region(
        "uk",
        tone(HZ_BRITISH, TWICE),
        tone(HZ_400, &[375, 375]),
        tone(HZ_400, &[400, 350, 225, 525]),
    ),
    region(
        "de",
        tone(HZ_425, ONCE_IN_5),
        tone(HZ_425, &[480, 480]),
        tone(HZ_425, &[240, 240]),
    ),
    region(
        "fr",
        tone(&[440.0], &[1_500, 3_500]),
        tone(&[440.0], HALVES),
        tone(&[440.0], QUARTERS),
    ),
    region(
        "it",
        tone(HZ_425, ONCE_IN_5),
        tone(HZ_425, HALVES),
        tone(HZ_425, FIFTHS),
    ),
    region(
        "es",
        tone(HZ_425, &[1_500, 3_000]),
        tone(HZ_425, FIFTHS),
        tone(HZ_425, &[200, 200, 200, 200, 200, 600]),
    ),
    region(
        "nl",
        tone(HZ_425, ONCE_IN_5),
        tone(HZ_425, HALVES),
        tone(HZ_425, QUARTERS),
    ),
    region(
        "be",
        tone(HZ_425, &[1_000, 3_000]),
        tone(HZ_425, HALVES),
        tone(HZ_425, &[167, 167]),
    ),
    region(
        "ch",
        tone(HZ_425, ONCE_IN_5),
        tone(HZ_425, HALVES),
        tone(HZ_425, FIFTHS),
    ),
    region(
        "at",
        tone(&[420.0], &[1_000, 5_000]),
        tone(&[420.0], &[400, 400]),
        tone(&[420.0], FIFTHS),
    ),
    region(
        "se",
        tone(HZ_425, &[1_000, 5_000]),
        tone(HZ_425, QUARTERS),
        tone(HZ_425, &[250, 750]),
    ),
    region(
        "no",
        tone(HZ_425, ONCE_IN_5),
        tone(HZ_425, HALVES),
        tone(HZ_425, FIFTHS),
    ),
    region(
        "au",
        tone(HZ_BRITISH, TWICE),
        tone(HZ_425, &[375, 375]),
        tone(HZ_425, &[375, 375]),
    ),
    region(
        "nz",
        tone(HZ_BRITISH, TWICE),
        tone(HZ_400, HALVES),
        tone(HZ_400, QUARTERS),
    ),
    // 400 Hz that swell 16 times a second are these two.
    region(
        "jp",
        tone(&[392.0, 408.0], &[1_000, 2_000]),
        tone(HZ_400, HALVES),
        tone(HZ_400, HALVES),
    ),
    region(
        "cn",
        tone(&[450.0], ONCE_IN_5),
        tone(&[450.0], &[350, 350]),
        tone(&[450.0], &[700, 700]),
    ),
    region(
        "in",
        tone(&[387.5, 412.5], TWICE),
        tone(HZ_400, &[750, 750]),
        tone(HZ_400, QUARTERS),
    ),
    region(
        "br",
        tone(HZ_425, ONCE_IN_5),
        tone(HZ_425, QUARTERS),
        tone(HZ_425, &[250, 250, 750, 250]),
    ),
];

impl Region {
    /// The region of this name.
    pub fn find(name: &str) -> Option<&'static Region> {
        REGIONS.iter().find(|region| region.name == name)
    }
}

/// What a phone rings with that was given no file: three chimes and a pause.
pub const RING_TONE: Progress = Progress {
    hertz: &[659.3, 830.6, 987.8],
    cadence: &[350, 120, 350, 120, 700, 2_360],
};

/// The amplitude of all frequencies together: -15 dBFS.
const AMPLITUDE: f32 = 0.18;
/// Tones begin and end within 5 ms, so that they do not click.
const EDGE: f32 = 0.005 * SAMPLE_RATE as f32;

/// Sounds a progress tone without end.
#[derive(Clone, Debug)]
pub struct ProgressTone {
    tone: Progress,
    sample: u64,
}

impl ProgressTone {
    /// From the begin of the cadence.
    pub fn new(tone: Progress) -> ProgressTone {
        ProgressTone { tone, sample: 0 }
    }

    /// How loud the tone is at this sample of the cadence, 0 to 1.
    fn envelope(&self, mut place: u64) -> f32 {
        for (index, milliseconds) in self.tone.cadence.iter().enumerate() {
            let length = samples(*milliseconds);
            if place < length {
                let edge = (place.min(length - place)) as f32 / EDGE;
                return if index % 2 == 0 { edge.min(1.0) } else { 0.0 };
            }
            place -= length;
        }
        0.0
    }
}

fn samples(milliseconds: u32) -> u64 {
    u64::from(milliseconds) * u64::from(SAMPLE_RATE) / 1_000
}

impl Source for ProgressTone {
    fn read(&mut self, frame: &mut [i16; FRAME]) -> bool {
        let period: u64 = self.tone.cadence.iter().copied().map(samples).sum();
        let each = AMPLITUDE / self.tone.hertz.len().max(1) as f32;
        for place in frame {
            let envelope = self.envelope(self.sample % period.max(1));
            let time = (self.sample % u64::from(SAMPLE_RATE * 10)) as f32 / SAMPLE_RATE as f32;
            let waves = self
                .tone
                .hertz
                .iter()
                .map(|hertz| (TAU * hertz * time).sin());
            *place = super::to_i16(envelope * each * waves.sum::<f32>());
            self.sample += 1;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tone;

    fn seconds(tone: Progress, seconds: usize) -> Vec<i16> {
        let mut source = ProgressTone::new(tone);
        let mut sound = Vec::new();
        for _ in 0..seconds * 100 {
            let mut frame = [0; FRAME];
            source.read(&mut frame);
            sound.extend(frame);
        }
        sound
    }

    #[test]
    fn there_are_enough_regions_and_each_is_named_once() {
        assert!(REGIONS.len() >= 10);
        for region in REGIONS {
            assert_eq!(Region::find(region.name), Some(region));
        }
        assert_eq!(Region::find("atlantis"), None);
    }

    #[test]
    fn every_tone_has_its_frequencies_and_its_cadence() {
        for region in REGIONS {
            for progress in [region.ring_back, region.busy, region.congestion] {
                let name = region.name;
                assert!(
                    !progress.cadence.is_empty() && progress.cadence.len().is_multiple_of(2),
                    "{name}"
                );
                assert!(
                    progress
                        .hertz
                        .iter()
                        .all(|hertz| (300.0..700.0).contains(hertz))
                );
                let sound = seconds(progress, 13);
                let mut at = 0;
                for (index, milliseconds) in progress.cadence.iter().cycle().enumerate() {
                    let length = samples(*milliseconds) as usize;
                    if at + length > sound.len() {
                        break;
                    }
                    // Without the edges.
                    let piece = &sound[at + 300..at + length - 300];
                    let here = |hertz: f32| tone::level(piece, f64::from(hertz));
                    if index % 2 == 1 {
                        assert!(piece.iter().all(|&sample| sample == 0), "{name} at {at}");
                    } else {
                        let wanted = 0.18 / progress.hertz.len() as f64;
                        for &hertz in progress.hertz {
                            let level = here(hertz);
                            let right = (0.5 * wanted..1.6 * wanted).contains(&level);
                            assert!(right, "{name}: {hertz} Hz at {at}: {level}");
                        }
                        assert!(here(1_700.0) < 0.01, "{name}");
                    }
                    at += length;
                }
            }
        }
    }
}
