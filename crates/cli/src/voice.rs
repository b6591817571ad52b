//! Echo cancellation, noise suppression and automatic gain: on the command line and in the settings.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use ringtrue_media::audio::{AudioError, AudioOutput, REGIONS, Region};
use ringtrue_phone::driver::{RingTone, Switch, ToneChoice, VoiceChoice};
use serde::Deserialize;

use crate::file::Section;

/// `auto`, `on` or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Chosen {
    /// For sound devices.
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// The options.
#[derive(Debug, Default, Args)]
pub struct VoiceArgs {
    /// Take what the speaker plays out of what the microphone hears; auto: where both are sound
    /// devices [default: auto]
    #[arg(long, value_name = "WHEN")]
    pub echo_cancellation: Option<Chosen>,
    /// Attenuate steady noise around the microphone; auto: where it is a sound device [default:
    /// auto]
    #[arg(long, value_name = "WHEN")]
    pub noise_suppression: Option<Chosen>,
    /// Bring the voice to a common level; auto: where the microphone is a sound device [default:
    /// auto]
    #[arg(long, value_name = "WHEN")]
    pub auto_gain: Option<Chosen>,
    /// Whose ring-back, busy and congestion tones are heard: eu, us, uk, de, fr, it, es, nl, be,
    /// ch, at, se, no, au, nz, jp, cn, in or br [default: eu]
    #[arg(long, value_name = "REGION", value_parser = parse_region)]
    pub tones: Option<&'static Region>,
    /// What an incoming call rings with: default, none or a WAV file
    #[arg(long, value_name = "default|none|FILE.wav")]
    pub ring_tone: Option<String>,
    /// Record calls, this side on the left channel and the other on the right; of several calls,
    /// the second goes to FILE-2, and so on
    #[arg(long, value_name = "FILE.wav|FILE.ogg")]
    pub record: Option<PathBuf>,
    /// Send the microphone's sound as it is: none of the three
    #[arg(
        long,
        conflicts_with_all = ["echo_cancellation", "noise_suppression", "auto_gain"]
    )]
    pub no_processing: bool,
}

/// The region of this name.
pub fn parse_region(text: &str) -> Result<&'static Region, String> {
    Region::find(text).ok_or_else(|| {
        let names: Vec<&str> = REGIONS.iter().map(|region| region.name).collect();
        format!("the regions are {}", names.join(", "))
    })
}

/// The tones: the command line's, then those of the settings.
///
/// # Errors
/// When the ring tone's device is none.
pub fn tones(args: &VoiceArgs, section: &Section) -> Result<ToneChoice, AudioError> {
    let unsaid = ToneChoice::default();
    let set = section.tones.as_ref().map(|region| region.0);
    let ring = args.ring_tone.as_deref().or(section.ring_tone.as_deref());
    let device = section.ring_device.as_deref().map(AudioOutput::parse);
    let ring_device = match device {
        Some(Ok(device @ AudioOutput::Device(_))) => Some(device),
        None => None,
        Some(_) => {
            let what = "ring-device takes the name of a sound device";
            return Err(AudioError::Option(what.to_owned()));
        }
    };
    Ok(ToneChoice {
        region: args.tones.or(set).unwrap_or(unsaid.region),
        ring: match ring {
            None | Some("default") => RingTone::Chimes,
            Some("none") => RingTone::Silent,
            Some(path) => RingTone::Wav(path.into()),
        },
        ring_device,
    })
}

/// What the command line says, then the settings.
pub fn choice(args: &VoiceArgs, section: &Section) -> VoiceChoice {
    let decide = |said: Option<Chosen>, set: Option<Chosen>| match said.or(set) {
        _ if args.no_processing => Switch::Off,
        Some(Chosen::On) => Switch::On,
        Some(Chosen::Off) => Switch::Off,
        Some(Chosen::Auto) | None => Switch::Auto,
    };
    VoiceChoice {
        echo_cancellation: decide(args.echo_cancellation, section.echo_cancellation),
        noise_suppression: decide(args.noise_suppression, section.noise_suppression),
        auto_gain: decide(args.auto_gain, section.auto_gain),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_stands_over_the_settings() {
        let section = Section {
            echo_cancellation: Some(Chosen::Off),
            noise_suppression: Some(Chosen::Off),
            ..Section::default()
        };
        let args = VoiceArgs {
            echo_cancellation: Some(Chosen::On),
            ..VoiceArgs::default()
        };
        let choice = choice(&args, &section);
        assert_eq!(choice.echo_cancellation, Switch::On);
        assert_eq!(choice.noise_suppression, Switch::Off);
        assert_eq!(choice.auto_gain, Switch::Auto);
        let none = VoiceArgs {
            no_processing: true,
            ..VoiceArgs::default()
        };
        assert_eq!(super::choice(&none, &section).auto_gain, Switch::Off);
    }
}
