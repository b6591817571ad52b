//! Loudness that the user asked for.

/// By how much sound is made louder, or softer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gain(f32);

impl Gain {
    /// As it is.
    pub const NONE: Gain = Gain(1.0);
    /// What makes sense, in decibels.
    pub const RANGE_DB: std::ops::RangeInclusive<f32> = -40.0..=30.0;

    /// So many decibels; `None` outside [`RANGE_DB`](Self::RANGE_DB).
    pub fn from_db(db: f32) -> Option<Gain> {
        Gain::RANGE_DB
            .contains(&db)
            .then(|| Gain(10f32.powf(db / 20.0)))
    }

    /// Makes a frame louder; what is too loud for 16 bits is cut off.
    pub(super) fn apply(self, frame: &mut [i16]) {
        if self != Gain::NONE {
            for sample in frame {
                // `as` saturates.
                *sample = (f32::from(*sample) * self.0).round() as i16;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringtrue_media::FRAME;

    #[test]
    fn decibels() {
        let louder = |db, sample| {
            let mut frame = [sample; FRAME];
            Gain::from_db(db).unwrap().apply(&mut frame);
            frame[FRAME - 1]
        };
        assert_eq!(louder(0.0, 1_000), 1_000);
        assert_eq!(louder(20.0, 1_000), 10_000);
        assert_eq!(louder(-20.0, -1_000), -100);
        assert_eq!(louder(20.0, 30_000), i16::MAX);
        assert_eq!(Gain::from_db(31.0), None);
        assert_eq!(Gain::from_db(f32::NAN), None);
    }
}
