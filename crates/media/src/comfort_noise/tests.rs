use std::f64::consts::TAU;

use super::*;
use crate::audio::{Source, Tone};

/// A payload, the noise that is made of it, and the level it should have.
fn made(payload: &[u8], seconds: u32) -> Vec<i16> {
    let mut maker = NoiseMaker::new(7);
    maker.describe(Noise::parse(payload).unwrap(), true);
    let mut sound = Vec::new();
    for _ in 0..seconds * 100 {
        maker.make(80, &mut sound);
    }
    sound
}

fn level(sound: &[i16]) -> f32 {
    let sum: f32 = sound.iter().map(|&s| f32::from(s).powi(2)).sum();
    decibels(sum / sound.len() as f32)
}

/// What a sound of 48 kHz has in the 250 Hz around `hz`, in dBov.
fn band(sound: &[i16], hz: f64) -> f64 {
    let mut power = 0.0;
    let windows = sound.chunks_exact(4_800);
    let count = windows.len() as f64;
    for window in windows {
        for step in -12..=12 {
            // Goertzel's recursion.
            let twice = 2.0 * (TAU * (hz + 10.0 * f64::from(step)) / 48_000.0).cos();
            let (mut last, mut before) = (0.0, 0.0);
            for &sample in window {
                (last, before) = (f64::from(sample) + twice * last - before, last);
            }
            let magnitude = last * last + before * before - twice * last * before;
            // Both halves of the spectrum.
            power += 2.0 * magnitude / (4_800.0f64 * 4_800.0);
        }
    }
    f64::from(decibels((power / count) as f32))
}

/// The power of the filter of these coefficients at a frequency, by another way: its polynomial.
fn response(reflection: &[f64], hz: f64) -> f64 {
    let mut polynomial = vec![1.0];
    for k in reflection {
        let mut next = polynomial.clone();
        next.push(0.0);
        for (place, old) in next.iter_mut().skip(1).zip(polynomial.iter().rev()) {
            *place += k * old;
        }
        polynomial = next;
    }
    let turn = TAU * hz / 8_000.0;
    let terms = polynomial.iter().enumerate();
    let (re, im) = terms.fold((0.0, 0.0), |(re, im), (n, a)| {
        let (sin, cos) = (turn * n as f64).sin_cos();
        (re + a * cos, im - a * sin)
    });
    let share: f64 = reflection.iter().map(|k| 1.0 - k * k).product();
    share / (re * re + im * im)
}

#[test]
fn noise_has_the_level_that_the_packet_says() {
    for said in [20u8, 40, 50, 60, 70] {
        // White, as dark as a car, and bright. The band of telephony ends before 4 kHz.
        for coefficients in [&[][..], &[20, 180], &[200, 150, 100]] {
            let payload = [&[said], coefficients].concat();
            let heard = level(&made(&payload, 10));
            let off = heard + f32::from(said);
            assert!(off.abs() < 1.5, "{payload:?}: {heard}");
        }
    }
}

#[test]
fn noise_has_the_spectrum_that_the_packet_says() {
    for coefficients in [
        [20u8, 180, 127, 90],
        [200, 150, 100, 140],
        [127, 230, 60, 127],
    ] {
        let payload = [&[40], &coefficients[..]].concat();
        let sound = made(&payload, 10);
        let reflection: Vec<f64> = coefficients
            .iter()
            .map(|&index| 258.0 * (f64::from(index) - 127.0) / 32_768.0)
            .collect();
        for hz in [500.0, 1_000.0, 1_500.0, 2_000.0, 2_500.0, 3_000.0] {
            // A band of 250 Hz out of 4 kHz, its response averaged.
            let steps = (-12..=12).map(|step| response(&reflection, hz + 10.0 * f64::from(step)));
            let share = steps.sum::<f64>() / 25.0 * 250.0 / 4_000.0;
            let meant = -40.0 + 10.0 * share.log10();
            let heard = band(&sound, hz);
            assert!(
                (heard - meant).abs() < 1.5,
                "{payload:?} {hz}: {heard} for {meant}"
            );
        }
    }
}

#[test]
fn what_is_written_is_read() {
    // Low-pass noise has a negative first coefficient, as browsers have it.
    let correlation = [1e4, 8e3, 5e3, 3e3, 2e3, 1e3, 500.0];
    let noise = Noise::of(&correlation);
    let mut payload = vec![7; 20];
    noise.write(6, &mut payload);
    assert!(noise.reflection[0] < -0.7);
    let again = Noise::parse(&payload).unwrap();
    assert_eq!(again.level, 50);
    for (a, b) in noise.reflection.iter().zip(&again.reflection).take(6) {
        assert!((a - b).abs() < 0.005, "{noise:?} {again:?}");
    }
    // What it leaves unforetold, by Yule and Walker for one coefficient.
    let first = Noise::of(&correlation[..2]);
    assert!((first.unpredicted() - 0.36).abs() < 1e-3);
    // Noise that is made and heard again is the same noise.
    let mut activity = VoiceActivity::new();
    for frame in made(&payload, 8).chunks(960) {
        activity.hear(frame);
    }
    let heard = activity.noise();
    assert!(heard.level.abs_diff(50) <= 1, "{heard:?}");
    assert!(
        (heard.reflection[0] - noise.reflection[0]).abs() < 0.1,
        "{heard:?}"
    );
}

#[test]
fn hostile_payloads_are_noise_or_nothing() {
    assert_eq!(Noise::parse(&[]), None);
    // The reserved bit says nothing.
    assert_eq!(Noise::parse(&[0x80 | 30]), Noise::parse(&[30]));
    // What is longer than a receiver cares for is left out.
    let long = Noise::parse(&[&[30u8], &[140; 5_000][..]].concat()).unwrap();
    assert_eq!(
        Some(long),
        Noise::parse(&[&[30u8], &[140; ORDER][..]].concat())
    );
    // The extremes, 255 among them, which has no meaning: loud at most, and never more than full scale.
    for coefficients in [[255u8; ORDER], [0; ORDER], [254; ORDER]] {
        for said in [0, 50, 127] {
            let sound = made(&[&[said], &coefficients[..]].concat(), 10);
            assert!(
                level(&sound) < 6.0 - f32::from(said).min(90.0),
                "{coefficients:?} {said}"
            );
        }
    }
    let mut state = 1u64;
    let mut maker = NoiseMaker::new(1);
    let mut sound = Vec::new();
    for _ in 0..2_000 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let octets = state.to_le_bytes();
        let length = (state >> 60) as usize % 9;
        if let Some(noise) = Noise::parse(&octets[..length.min(8)]) {
            maker.describe(noise, false);
        }
        maker.make(80, &mut sound);
    }
    // Nothing of it stays.
    maker.describe(Noise::parse(&[40]).unwrap(), false);
    maker.make(8_000, &mut sound);
    sound.clear();
    maker.make(16_000, &mut sound);
    assert!((level(&sound) + 40.0).abs() < 1.5, "{}", level(&sound));
}

#[test]
fn a_new_level_is_glided_to_and_the_seed_says_all() {
    let mut maker = NoiseMaker::new(3);
    let mut sound = Vec::new();
    maker.make(80, &mut sound);
    assert!(sound.iter().all(|&s| s == 0), "nothing was described");
    maker.describe(Noise::parse(&[60]).unwrap(), true);
    maker.make(8_000, &mut sound);
    sound.clear();
    maker.describe(Noise::parse(&[40]).unwrap(), false);
    maker.make(80, &mut sound);
    assert!(level(&sound) < -42.0, "{}", level(&sound));
    sound.clear();
    maker.make(4_000, &mut sound);
    assert!((level(&sound) + 40.0).abs() < 1.5, "{}", level(&sound));
    assert_eq!(made(&[40, 100], 1), made(&[40, 100], 1));
}

/// White noise at this level (dBov), in frames of 10 ms, and a buzz of a voice in it where `speaks`.
fn room(noise: i32, speaks: impl Fn(usize) -> bool, frames: usize) -> Vec<Vec<i16>> {
    let mut maker = NoiseMaker::new(5);
    maker.describe(Noise::parse(&[-noise as u8]).unwrap(), true);
    (0..frames)
        .map(|frame| {
            let mut sound = Vec::new();
            maker.make(80, &mut sound);
            if speaks(frame) {
                for (n, sample) in sound.iter_mut().enumerate() {
                    let t = (frame * 480 + n) as f64 / 48_000.0;
                    let voice = (1..10).map(|k| (TAU * 140.0 * f64::from(k) * t).sin());
                    // Syllables, four a second.
                    let loudness = 0.2 + (TAU * 4.0 * t).sin().max(0.0);
                    *sample += (800.0 * loudness * voice.sum::<f64>()) as i16;
                }
            }
            sound
        })
        .collect()
}

#[test]
fn voice_is_told_from_noise_of_any_level() {
    for noise in [-90, -70, -60, -50, -42] {
        // Two seconds of speech, two of pause.
        let speaks = |frame: usize| frame % 400 < 200;
        let mut activity = VoiceActivity::new();
        let (mut missed, mut sent) = (0, 0);
        for (frame, sound) in room(noise, speaks, 4_000).iter().enumerate() {
            let voice = activity.hear(sound);
            // Before three seconds are over, noise may be taken for voice.
            if frame >= 400 {
                missed += usize::from(speaks(frame) && !voice);
                sent += usize::from(!speaks(frame) && voice);
            }
        }
        assert_eq!(missed, 0, "{noise}");
        // 20 frames of each pause of 200 are hang-over.
        assert!((100..400).contains(&sent), "{noise}: {sent} of 1800");
        let known = activity.noise();
        let off = (known.decibels() - (noise as f32).max(-80.0)).abs();
        assert!(noise < -80 || off < 1.5, "{noise}: {known:?}");
    }
}

#[test]
fn tones_and_loud_sounds_are_no_noise() {
    for hz in [300.0, 425.0, 440.0, 950.0, 1_400.0, 1_800.0] {
        let mut tone = Tone::new(hz);
        let mut activity = VoiceActivity::new();
        for frame in 0..1_500 {
            let mut sound = [0; crate::FRAME];
            tone.read(&mut sound);
            assert!(activity.hear(&sound), "{hz} {frame}");
        }
    }
    let mut activity = VoiceActivity::new();
    let loud = room(-30, |_| false, 1_500);
    assert!(loud.iter().all(|sound| activity.hear(sound)));
}

#[test]
fn silence_stays_silent_and_a_direct_voltage_is_not_heard() {
    for value in [0i16, 900] {
        let mut activity = VoiceActivity::new();
        let voices = (0..1_000).filter(|_| activity.hear(&[value; crate::FRAME]));
        assert!(voices.count() < 60, "{value}");
        assert!(activity.noise().decibels() < -75.0, "{value}");
    }
}
