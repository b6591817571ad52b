use std::f64::consts::TAU;

use super::*;

/// What a synthetic voice says at the sample `n` of `scale` times 8 kHz: harmonics of a pitch that
/// rises slowly from 110 Hz.
fn voice(n: usize, scale: usize) -> i16 {
    let t = n as f64 / (8_000.0 * scale as f64);
    let cycles = 110.0 * t + 15.0 * t * t;
    let harmonics = (1..25).map(|k| (TAU * cycles * f64::from(k)).sin() / f64::from(k));
    (5_000.0 * harmonics.sum::<f64>()) as i16
}

fn voice_of(range: std::ops::Range<usize>, scale: usize) -> Vec<i16> {
    range.map(|n| voice(n, scale)).collect()
}

fn sine(hz: f64, from: usize, samples: usize) -> Vec<i16> {
    (from..from + samples)
        .map(|n| (10_000.0 * (TAU * hz * n as f64 / 8_000.0).sin()) as i16)
        .collect()
}

fn conceal(concealment: &mut Concealment, samples: usize, after: Option<After<'_>>) -> Vec<i16> {
    let mut out = vec![0; samples];
    concealment.conceal(&mut out, after);
    out
}

/// The energy of the truth over that of the error, in decibels.
fn likeness_db(truth: &[i16], made_up: &[i16]) -> f64 {
    let energy = |a: f64| a * a;
    let pairs = truth.iter().zip(made_up);
    let error: f64 = pairs
        .map(|(&a, &b)| energy(f64::from(a) - f64::from(b)))
        .sum();
    let whole: f64 = truth.iter().map(|&a| energy(f64::from(a))).sum();
    10.0 * (whole / error.max(1.0)).log10()
}

#[test]
fn a_lost_frame_of_a_tone_is_the_tone_going_on() {
    let mut concealment = Concealment::new(1);
    concealment.received(&mut sine(200.0, 0, 640));
    let made_up = conceal(&mut concealment, 80, None);
    assert!(likeness_db(&sine(200.0, 640, 80), &made_up) > 30.0);
}

#[test]
fn a_gap_in_a_voice_is_bridged_to_the_sound_after_it() {
    for scale in [1, 2] {
        // One packet of 20 ms is lost, then two, then three.
        for packets in 1..=3 {
            let (begin, end) = (1_600 * scale, (1_600 + 160 * packets) * scale);
            let truth = voice_of(begin..end, scale);
            let sound = voice_of(end..end + 160 * scale, scale);
            let mut seeing = Concealment::new(scale);
            seeing.received(&mut voice_of(0..begin, scale));
            let mut guessing = Concealment::new(scale);
            guessing.received(&mut voice_of(0..begin, scale));
            let mut made_up = Vec::new();
            for packet in 0..packets {
                let distance = (packets - packet) * 160 * scale;
                let after = After {
                    distance,
                    sound: &sound,
                };
                made_up.extend(conceal(&mut seeing, 160 * scale, Some(after)));
            }
            let guess = conceal(&mut guessing, end - begin, None);
            let (seen, guessed) = (likeness_db(&truth, &made_up), likeness_db(&truth, &guess));
            assert!(
                seen > 12.0 && seen > guessed + 6.0,
                "{scale} {packets}: {seen} {guessed}"
            );
            // The voice goes on without a seam: what came is heard as it is.
            let mut back = sound.clone();
            seeing.received(&mut back);
            assert_eq!(back, sound);
        }
    }
}

#[test]
fn noise_on_both_sides_is_noise_between_and_as_loud() {
    let mut dice = 1u32;
    let mut noise = |samples: usize| -> Vec<i16> {
        let mut next = || {
            dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (dice >> 16) as i16 / 8
        };
        (0..samples).map(|_| next()).collect()
    };
    let mut concealment = Concealment::new(1);
    concealment.received(&mut noise(800));
    let sound = noise(160);
    let after = After {
        distance: 160,
        sound: &sound,
    };
    let made_up = conceal(&mut concealment, 160, Some(after));
    let energy = |sound: &[i16]| sound.iter().map(|&s| f64::from(s).powi(2)).sum::<f64>();
    let ratio = energy(&made_up) / energy(&sound);
    assert!((0.4..1.3).contains(&ratio), "{ratio}");
}

#[test]
fn a_long_loss_fades_to_silence_and_the_voice_comes_back_without_a_step() {
    let mut concealment = Concealment::new(1);
    concealment.received(&mut sine(200.0, 0, 640));
    let made_up = conceal(&mut concealment, HOLD + FADE + 80, None);
    assert!(made_up.iter().skip(HOLD + FADE).all(|&s| s == 0));
    assert!(made_up.iter().take(HOLD).any(|&s| s > 9_000));
    let mut back = sine(200.0, 20, 160);
    concealment.received(&mut back);
    assert!(back[0].abs() < 1_500);
    assert_eq!(back[SEAM..], sine(200.0, 20, 160)[SEAM..]);
}

#[test]
fn a_packet_that_was_seen_and_does_not_come_is_no_end() {
    let mut concealment = Concealment::new(1);
    concealment.received(&mut sine(200.0, 0, 640));
    let sound = sine(200.0, 800, 160);
    let after = After {
        distance: 160,
        sound: &sound,
    };
    let _ = conceal(&mut concealment, 160, Some(after));
    let made_up = conceal(&mut concealment, 80, None);
    assert!(likeness_db(&sine(200.0, 800, 80), &made_up) > 10.0);
    assert!(
        conceal(&mut concealment, 2_000, None)
            .iter()
            .skip(1_000)
            .all(|&s| s == 0)
    );
}

#[test]
fn pieces_of_any_length_and_any_sound_are_coped_with() {
    let lengths = [0, 1, 7, 79, 80, 160, 479, 480, 481, 639, 640, 641, 5_000];
    for scale in [1, 2] {
        let mut concealment = Concealment::new(scale);
        for length in lengths {
            for value in [0, 3, i16::MAX, i16::MIN] {
                concealment.received(&mut vec![value; length]);
                let sound = vec![value; length];
                for distance in lengths {
                    let after = After {
                        distance,
                        sound: &sound,
                    };
                    assert_eq!(conceal(&mut concealment, length, Some(after)).len(), length);
                }
                let _ = conceal(&mut concealment, length, None);
            }
        }
    }
}
