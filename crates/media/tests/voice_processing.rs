//! Echo cancellation, noise suppression and automatic gain, on speech-like sound that is made
//! here: pulses of a voice's pitch through the resonances of vowels, in syllables with pauses.
//!
//! ```text
//!   far speech --+--> play()                        near speech, noise
//!                |                                          |
//!                +--> delay, room, attenuation -------------+--> capture() --> judged
//! ```

use std::f32::consts::TAU;

use ringtrue_media::FRAME;
use ringtrue_media::processing::{Processing, VoiceProcessor};

const RATE: usize = 48_000;
/// What the processor delays the near sound by.
const DELAY: usize = 120;

/// Even numbers from -1 to 1, the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

/// A resonance of a vowel.
#[derive(Default)]
struct Formant {
    y1: f32,
    y2: f32,
}

impl Formant {
    fn pass(&mut self, x: f32, hz: f32, width: f32) -> f32 {
        let radius = (-std::f32::consts::PI * width / RATE as f32).exp();
        let y = x * (1.0 - radius) + 2.0 * radius * (TAU * hz / RATE as f32).cos() * self.y1
            - radius * radius * self.y2;
        (self.y2, self.y1) = (self.y1, y);
        y
    }
}

/// Speech-like sound of about -24 dBFS while it lasts.
fn speech(seconds: f32, seed: u64) -> Vec<f32> {
    const VOWELS: [[f32; 3]; 5] = [
        [730.0, 1_090.0, 2_440.0],
        [270.0, 2_290.0, 3_010.0],
        [300.0, 870.0, 2_240.0],
        [530.0, 1_840.0, 2_480.0],
        [570.0, 840.0, 2_410.0],
    ];
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let length = (seconds * RATE as f32) as usize;
    let mut sound = Vec::with_capacity(length);
    let mut formants: [Formant; 3] = Default::default();
    let base = 130.0 + 50.0 * dice.roll();
    let mut phase = 0.0;
    while sound.len() < length {
        let samples = (RATE as f32 * (0.16 + 0.06 * dice.roll())) as usize;
        let vowel = VOWELS[((dice.roll() + 1.0) * 2.5) as usize % 5];
        let voiced = dice.roll() > -0.6;
        let pause = if dice.roll() > 0.6 {
            samples
        } else {
            samples / 8
        };
        let pitch = base * (1.0 + 0.2 * dice.roll());
        for index in 0..samples + pause {
            let place = index as f32 / samples as f32;
            let envelope = if place < 1.0 {
                (std::f32::consts::PI * place).sin()
            } else {
                0.0
            };
            phase += pitch * (1.0 + 0.1 * place) / RATE as f32;
            let pulse = if phase >= 1.0 { 24.0 } else { 0.0 };
            phase %= 1.0;
            let source = if voiced {
                pulse + 0.1 * dice.roll()
            } else {
                1.2 * dice.roll()
            };
            let mut sample = 0.02 * source;
            for (formant, hz) in formants.iter_mut().zip(vowel) {
                sample += formant.pass(source, hz, 60.0 + hz / 20.0);
            }
            sound.push(0.5 * envelope * sample);
        }
    }
    sound.truncate(length);
    let loudest = sound
        .iter()
        .fold(0.0f32, |most, sample| most.max(sample.abs()));
    sound.iter().map(|sample| 0.5 * sample / loudest).collect()
}

/// A room: the direct sound and reflections that decay by 60 dB within `tail` seconds.
fn room(sound: &[f32], gain: f32, tail: f32, seed: u64) -> Vec<f32> {
    let mut dice = Dice(seed | 1);
    let mut reflections = vec![(0, 1.0)];
    for _ in 0..80 {
        let at = tail * (dice.roll() + 1.0) / 2.0;
        let strength = 0.5 * dice.roll() * 10f32.powf(-3.0 * at / tail);
        reflections.push(((at * RATE as f32) as usize, strength));
    }
    let energy: f32 = reflections
        .iter()
        .map(|(_, strength)| strength * strength)
        .sum();
    let mut heard = vec![0.0; sound.len()];
    for (at, strength) in reflections {
        let strength = gain * strength / energy.sqrt();
        for (heard, sample) in heard.iter_mut().skip(at).zip(sound) {
            *heard += strength * sample;
        }
    }
    heard
}

/// Delays by a time in seconds that may change.
fn delayed(sound: &[f32], by: impl Fn(f64) -> f64) -> Vec<f32> {
    let rate = RATE as f64;
    (0..sound.len())
        .map(|index| {
            let place = index as f64 - by(index as f64 / rate) * rate;
            let (whole, part) = (place.floor(), (place - place.floor()) as f32);
            let at = |offset: f64| match whole + offset {
                place if place >= 0.0 => sound.get(place as usize).copied().unwrap_or(0.0),
                _ => 0.0,
            };
            // A cubic through four neighbours: a straight line would dull the sound.
            let (a, b, c, d) = (at(-1.0), at(0.0), at(1.0), at(2.0));
            let (x, y, z) = (
                c - a,
                2.0 * a - 5.0 * b + 4.0 * c - d,
                3.0 * (b - c) + d - a,
            );
            b + 0.5 * part * (x + part * (y + part * z))
        })
        .collect()
}

fn add(left: &[f32], right: &[f32]) -> Vec<f32> {
    left.iter()
        .zip(right)
        .map(|(left, right)| left + right)
        .collect()
}

fn frames(sound: &[f32]) -> Vec<[i16; FRAME]> {
    let frame = |piece: &[f32]| {
        let mut frame = [0; FRAME];
        for (place, sample) in frame.iter_mut().zip(piece) {
            *place = (sample * 32_767.0) as i16;
        }
        frame
    };
    sound.chunks_exact(FRAME).map(frame).collect()
}

/// Runs both sides in step.
fn run(processing: Processing, far: &[f32], near: &[f32]) -> Vec<f32> {
    let mut processor = VoiceProcessor::new(processing);
    let mut output = Vec::with_capacity(near.len());
    for (far, mut near) in frames(far).into_iter().zip(frames(near)) {
        processor.play(&far);
        processor.capture(&mut near);
        output.extend(near.map(|sample| f32::from(sample) / 32_768.0));
    }
    output
}

fn db(sound: &[f32]) -> f32 {
    let squares: f32 = sound.iter().map(|sample| sample * sample).sum();
    10.0 * (squares / sound.len().max(1) as f32 + 1e-10).log10()
}

fn seconds(from: f32, to: f32) -> std::ops::Range<usize> {
    (from * RATE as f32) as usize..(to * RATE as f32) as usize
}

/// Echo return loss enhancement in dB.
fn erle(microphone: &[f32], output: &[f32], from: f32, to: f32) -> f32 {
    let range = seconds(from, to);
    db(&microphone[range.clone()]) - db(&output[range])
}

const CANCEL: Processing = Processing {
    auto_gain: false,
    ..Processing::ALL
};

#[test]
fn an_echo_of_any_delay_is_gone_after_three_seconds() {
    let far = speech(8.0, 1);
    let heard = room(&far, 0.5, 0.1, 2);
    for ms in [20, 50, 100, 150, 200, 250] {
        let microphone = delayed(&heard, |_| f64::from(ms) / 1_000.0);
        let output = run(CANCEL, &far, &microphone);
        let enhancement = erle(&microphone, &output, 3.0, 8.0);
        println!("{ms} ms: {enhancement:.1} dB");
        assert!(enhancement >= 35.0, "{ms} ms: {enhancement:.1} dB");
    }
}

#[test]
fn rooms_and_levels_of_any_kind() {
    let far = speech(8.0, 3);
    for (gain, tail) in [(0.1, 0.001), (0.3, 0.064), (0.8, 0.15), (0.3, 0.25)] {
        let microphone = delayed(&room(&far, gain, tail, 4), |_| 0.08);
        let output = run(CANCEL, &far, &microphone);
        let enhancement = erle(&microphone, &output, 3.0, 8.0);
        println!("{gain} {tail}: {enhancement:.1} dB");
        assert!(enhancement >= 25.0, "{gain} {tail}: {enhancement:.1} dB");
    }
}

#[test]
fn clocks_that_differ_by_100_ppm_are_followed() {
    let far = speech(14.0, 5);
    let heard = room(&far, 0.5, 0.1, 6);
    for ppm in [-100.0, 100.0] {
        let microphone = delayed(&heard, |time| 0.06 + ppm * 1e-6 * time);
        let output = run(CANCEL, &far, &microphone);
        let enhancement = erle(&microphone, &output, 3.0, 14.0);
        println!("{ppm} ppm: {enhancement:.1} dB");
        assert!(enhancement >= 30.0, "{ppm} ppm: {enhancement:.1} dB");
    }
}

#[test]
fn a_delay_that_jumps_is_found_again() {
    let far = speech(14.0, 7);
    let heard = room(&far, 0.5, 0.1, 8);
    for (before, after) in [(0.06, 0.2), (0.2, 0.05), (0.06, 0.075)] {
        let microphone = delayed(&heard, |time| if time < 6.0 { before } else { after });
        let output = run(CANCEL, &far, &microphone);
        let again = erle(&microphone, &output, 9.0, 14.0);
        println!("{before} to {after}: {again:.1} dB");
        assert!(again >= 22.0, "{before} to {after}: {again:.1} dB");
    }
}

#[test]
fn near_speech_comes_through_while_both_speak() {
    let far = speech(12.0, 9);
    let mut near = speech(12.0, 10);
    near[..6 * RATE].fill(0.0);
    for ms in [20, 200] {
        let echo = delayed(&room(&far, 0.5, 0.1, 11), |_| f64::from(ms) / 1_000.0);
        let output = run(CANCEL, &far, &add(&echo, &near));
        let clean = delayed(&near, |_| DELAY as f64 / RATE as f64);
        let range = seconds(6.0, 12.0);
        let error: Vec<f32> = output
            .iter()
            .zip(&clean)
            .map(|(out, clean)| out - clean)
            .collect();
        let ratio = db(&clean[range.clone()]) - db(&error[range.clone()]);
        let raw = db(&near[range.clone()]) - db(&echo[range]);
        println!("{ms} ms: {raw:.1} dB before, {ratio:.1} dB after");
        assert!(ratio >= 10.0, "{ms} ms: {ratio:.1} dB");
    }
}

#[test]
fn frames_that_are_played_late_find_their_place() {
    let far = speech(8.0, 12);
    let microphone = delayed(&room(&far, 0.5, 0.1, 13), |_| 0.1);
    let mut processor = VoiceProcessor::new(CANCEL);
    let (far, mut output) = (frames(&far), Vec::new());
    // A busy host: three frames are captured, then three are played.
    for (group, near) in frames(&microphone).chunks(3).enumerate() {
        for frame in near {
            let mut frame = *frame;
            processor.capture(&mut frame);
            output.extend(frame.map(|sample| f32::from(sample) / 32_768.0));
        }
        for frame in far.iter().skip(group * 3).take(3) {
            processor.play(frame);
        }
    }
    let enhancement = erle(&microphone, &output, 3.0, 8.0);
    assert!(enhancement >= 30.0, "{enhancement:.1} dB");
}

#[test]
fn a_call_on_hold_goes_on_where_it_was() {
    let far = speech(12.0, 14);
    let mut microphone = delayed(&room(&far, 0.5, 0.1, 15), |_| 0.1);
    microphone[seconds(5.0, 7.2)].fill(0.0);
    let mut processor = VoiceProcessor::new(CANCEL);
    let mut output = Vec::new();
    for (index, (far, mut near)) in frames(&far).iter().zip(frames(&microphone)).enumerate() {
        if !(500..700).contains(&index) {
            processor.play(far);
        }
        processor.capture(&mut near);
        output.extend(near.map(|sample| f32::from(sample) / 32_768.0));
    }
    let enhancement = erle(&microphone, &output, 8.0, 12.0);
    assert!(enhancement >= 30.0, "{enhancement:.1} dB");
}

#[test]
fn without_an_echo_near_speech_is_left_alone() {
    let near = speech(8.0, 16);
    let silence = vec![0.0; near.len()];
    for processing in [
        CANCEL,
        Processing {
            noise_suppression: false,
            ..CANCEL
        },
    ] {
        let output = run(processing, &silence, &near);
        let clean = delayed(&near, |_| DELAY as f64 / RATE as f64);
        let error: Vec<f32> = output
            .iter()
            .zip(&clean)
            .map(|(out, clean)| out - clean)
            .collect();
        let range = seconds(1.0, 8.0);
        let ratio = db(&clean[range.clone()]) - db(&error[range]);
        println!("{processing:?}: {ratio:.1} dB");
        assert!(ratio >= 20.0, "{processing:?}: {ratio:.1} dB");
    }
}

#[test]
fn noise_is_attenuated_and_speech_is_not() {
    let mut dice = Dice(17);
    let mut near = speech(10.0, 18);
    near[..4 * RATE].fill(0.0);
    let noise: Vec<f32> = near.iter().map(|_| 0.005 * dice.roll()).collect();
    let noisy = add(&near, &noise);
    let suppress = Processing {
        noise_suppression: true,
        ..Processing::NONE
    };
    let output = run(suppress, &vec![0.0; noisy.len()], &noisy);
    let quieter = erle(&noisy, &output, 2.0, 4.0);
    let speech_lost = erle(&noisy, &output, 4.0, 10.0);
    println!("noise {quieter:.1} dB, speech {speech_lost:.1} dB");
    assert!(quieter >= 10.0, "{quieter:.1} dB");
    assert!(speech_lost.abs() <= 1.0, "{speech_lost:.1} dB");
}

#[test]
fn quiet_speech_is_raised_and_loud_speech_lowered_without_clipping() {
    let gain = Processing {
        auto_gain: true,
        ..Processing::NONE
    };
    let speech = speech(16.0, 19);
    let level = db(&speech);
    for (factor, least, most) in [(0.1, 5.0, 19.0), (1.9, -13.0, -1.0)] {
        let near: Vec<f32> = speech.iter().map(|sample| sample * factor).collect();
        let output = run(gain, &vec![0.0; near.len()], &near);
        let raised = -erle(&near, &output, 12.0, 16.0);
        println!("{:.1} dBFS: {raised:.1} dB", level + 20.0 * factor.log10());
        assert!((least..=most).contains(&raised), "{factor}: {raised:.1} dB");
        assert!(output.iter().all(|sample| sample.abs() < 0.999));
    }
    // Silence stays what it is.
    let silence = vec![0.0; RATE];
    assert!(
        run(Processing::ALL, &silence, &silence)
            .iter()
            .all(|&sample| sample == 0.0)
    );
}

#[test]
fn nothing_asked_for_is_nothing_done() {
    let near = speech(1.0, 20);
    let output = run(Processing::NONE, &near, &near);
    let same = frames(&near).concat();
    let output: Vec<i16> = output
        .iter()
        .map(|sample| (sample * 32_768.0) as i16)
        .collect();
    assert_eq!(output, same);
}

#[test]
fn full_scale_noise_on_both_sides_does_no_harm() {
    let mut dice = Dice(21);
    let mut processor = VoiceProcessor::new(Processing::ALL);
    for round in 0..300 {
        let mut wild = || [0; FRAME].map(|_: i16| (dice.roll() * 40_000.0) as i16);
        let (far, mut near) = (wild(), wild());
        if round % 7 != 0 {
            processor.play(&far);
        }
        if round % 5 != 0 {
            processor.capture(&mut near);
        }
    }
    // And it recovers.
    let mut quiet = [100; FRAME];
    for _ in 0..200 {
        quiet = [100; FRAME];
        processor.play(&[0; FRAME]);
        processor.capture(&mut quiet);
    }
    assert!(
        quiet.iter().all(|sample| sample.abs() < 2_000),
        "{:?}",
        &quiet[..8]
    );
}
