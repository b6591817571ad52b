//! What is done to the microphone's sound before it is sent: echo cancellation, noise suppression
//! and automatic gain, in frames of 10 ms at 48 kHz.
//!
//! ```
//! use ringtrue_media::FRAME;
//! use ringtrue_media::processing::{Processing, VoiceProcessor};
//!
//! let mut processor = VoiceProcessor::new(Processing::ALL);
//! let (played, mut captured) = ([0i16; FRAME], [0i16; FRAME]);
//! processor.play(&played); // as it goes to the speaker
//! processor.capture(&mut captured); // as it comes from the microphone: cleaned in place
//! ```

mod alignment;
mod canceller;
mod echo_path;
mod far;
mod gain;
mod spectrum;
mod suppressor;

use alignment::LAGS;
use canceller::PARTITIONS;
use echo_path::EchoPath;
use far::FarEnd;
use gain::AutoGain;
use spectrum::{BINS, Fourier};
use suppressor::Suppressor;

use crate::FRAME;

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Processing {
    /// What the speaker plays is taken out of what the microphone hears.
    pub echo_cancellation: bool,
    /// Stationary noise is attenuated.
    pub noise_suppression: bool,
    /// Speech is brought to a common level.
    pub auto_gain: bool,
}

impl Processing {
    /// Everything.
    pub const ALL: Processing = Processing {
        echo_cancellation: true,
        noise_suppression: true,
        auto_gain: true,
    };
    /// Nothing.
    pub const NONE: Processing = Processing {
        echo_cancellation: false,
        noise_suppression: false,
        auto_gain: false,
    };
}

/// Cleans the microphone's sound of one call.
///
/// [`VoiceProcessor::play`] and [`VoiceProcessor::capture`] are called once every 10 ms each, in
/// any order. A frame that is played late is put where it belongs; when none is played for long,
/// nothing is.
#[derive(Debug)]
pub struct VoiceProcessor {
    fourier: Fourier,
    echo: Option<(FarEnd, EchoPath)>,
    suppressor: Option<Suppressor>,
    gain: Option<AutoGain>,
}

impl VoiceProcessor {
    /// A processor that does what is asked for; its memory is taken here and nowhere else.
    pub fn new(processing: Processing) -> VoiceProcessor {
        let mut fourier = Fourier::new();
        let Processing {
            echo_cancellation,
            noise_suppression,
            auto_gain,
        } = processing;
        let suppressor = (echo_cancellation || noise_suppression || auto_gain)
            .then(|| Suppressor::new(noise_suppression, &mut fourier));
        VoiceProcessor {
            echo: echo_cancellation.then(|| (FarEnd::new(LAGS + PARTITIONS), EchoPath::new())),
            suppressor,
            gain: auto_gain.then(AutoGain::new),
            fourier,
        }
    }

    /// What goes to the speaker.
    pub fn play(&mut self, frame: &[i16; FRAME]) {
        if let Some((far, _)) = &mut self.echo {
            far.play(&mut self.fourier, &frame.map(to_f32));
        }
    }

    /// What came from the microphone; it is cleaned in place, and delayed by 2.5 ms if anything
    /// is done at all.
    pub fn capture(&mut self, frame: &mut [i16; FRAME]) {
        let Some(suppressor) = &mut self.suppressor else {
            return;
        };
        let mut near = frame.map(to_f32);
        let mut echo = [0.0; FRAME];
        let silent = [0.0; BINS];
        let mut doubts = &silent;
        if let Some((far, path)) = &mut self.echo {
            far.capture();
            path.cancel(&mut self.fourier, far, &mut near, &mut echo);
            doubts = path.residual();
        }
        let speech = suppressor.suppress(&mut self.fourier, &mut near, &echo, doubts);
        if let Some(gain) = &mut self.gain {
            gain.amplify(&mut near, speech);
        }
        *frame = near.map(to_i16);
    }
}

fn to_f32(sample: i16) -> f32 {
    f32::from(sample) / 32_768.0
}

fn to_i16(sample: f32) -> i16 {
    // `as` saturates.
    (sample * 32_768.0).round() as i16
}
