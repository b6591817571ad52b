//! What is done to the microphone's sound before it is sent.

use ringtrue_media::audio::{AudioInput, AudioOutput};
use ringtrue_media::processing::Processing;

/// Whether something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Switch {
    /// Where people speak into devices; files, tones and silence are sent as they are.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VoiceChoice {
    /// Echo cancellation: by itself where both microphone and speaker are devices.
    pub echo_cancellation: Switch,
    /// Noise suppression: by itself where the microphone is a device.
    pub noise_suppression: Switch,
    /// Automatic gain: by itself where the microphone is a device.
    pub auto_gain: Switch,
}

impl VoiceChoice {
    /// What is done for this input and output.
    pub fn processing(self, input: &AudioInput, output: &AudioOutput) -> Processing {
        let microphone = matches!(input, AudioInput::Device(_));
        let speaker = matches!(output, AudioOutput::Device(_));
        let decide = |switch, unsaid| match switch {
            Switch::Auto => unsaid,
            Switch::On => true,
            Switch::Off => false,
        };
        Processing {
            echo_cancellation: decide(self.echo_cancellation, microphone && speaker),
            noise_suppression: decide(self.noise_suppression, microphone),
            auto_gain: decide(self.auto_gain, microphone),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_processed_and_files_are_not() {
        let device = (AudioInput::Device(None), AudioOutput::Device(None));
        let file = (
            AudioInput::Wav("a.wav".into()),
            AudioOutput::Wav("b.wav".into()),
        );
        let choice = VoiceChoice::default();
        assert_eq!(choice.processing(&device.0, &device.1), Processing::ALL);
        assert_eq!(choice.processing(&file.0, &file.1), Processing::NONE);
        assert_eq!(choice.processing(&file.0, &device.1), Processing::NONE);
        // What goes to a file cannot come back.
        let recorded = choice.processing(&device.0, &file.1);
        assert!(!recorded.echo_cancellation && recorded.noise_suppression && recorded.auto_gain);
    }

    #[test]
    fn the_user_has_the_last_word() {
        let choice = VoiceChoice {
            echo_cancellation: Switch::On,
            noise_suppression: Switch::Off,
            auto_gain: Switch::Auto,
        };
        let input = AudioInput::Device(None);
        let processing = choice.processing(&input, &AudioOutput::Null);
        assert!(processing.echo_cancellation && processing.auto_gain);
        assert!(!processing.noise_suppression);
    }
}
