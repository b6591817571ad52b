//! What the two agree on about the sound, beside the codec; and the keys that go beside it.
//!
//!     alice ---- proxy ---- bob

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringtrue_media::{Codec, tone};
use ringtrue_phone::{EventKind, Settings, Sides};
use ringtrue_testnet::Verdict;

use crate::stage::{Setup, Stage};
use ringtrue_program::virtual_phone::VirtualPhone;

fn sent(phone: &VirtualPhone) -> u64 {
    let ended = phone
        .events()
        .iter()
        .rev()
        .find_map(|event| match &event.kind {
            EventKind::Ended { figures, .. } => Some(figures.tx_packets),
            _ => None,
        });
    ended.expect("the call has ended")
}

#[test]
fn digits_arrive_once_each_and_in_order() {
    for codec in [Codec::Opus, Codec::Pcma] {
        let mut setup = Setup {
            alices: |settings| settings.duration = None,
            bobs: |settings| settings.duration = None,
            ..Setup::default()
        };
        if codec == Codec::Pcma {
            setup.bobs = |settings| {
                settings.duration = None;
                settings.codecs = vec![Codec::Pcma];
            };
        }
        let mut stage: Stage = setup.build();
        stage.dial();
        stage.run(4);
        for key in "159*0#Dd".chars() {
            stage.press(key);
        }
        stage.run(3);
        stage.hang_up();
        stage.run(1);
        let keys: String = stage
            .bob()
            .events()
            .iter()
            .filter_map(|event| match event.kind {
                EventKind::Dtmf { digit } => Some(digit),
                _ => None,
            })
            .collect();
        assert_eq!(keys, "159*0#DD", "{codec}: {}", stage.story());
    }
}

/// Each side sends packets of the length that the other asks for.
#[test]
fn packets_last_as_long_as_the_other_side_wants() {
    let mut stage = Setup {
        alices: |settings| settings.ptime = Duration::from_millis(60),
        bobs: |settings| settings.ptime = Duration::from_millis(10),
        ..Setup::default()
    }
    .build();
    stage.dial();
    stage.run(8);
    let (bob, alice) = stage.heard();
    assert!(bob > 2.5 && alice > 2.5, "{}", stage.story());
    let (alices, bobs) = (sent(stage.alice()), sent(stage.bob()));
    assert!((280..=310).contains(&alices), "{alices}");
    assert!((45..=52).contains(&bobs), "{bobs}");
}

/// Alice's setting holds for what she sends, and by `cbr=1` for what she gets.
#[test]
fn packets_of_one_size() {
    let mut stage = Setup {
        alices: |settings| settings.opus_cbr = true,
        ..Setup::default()
    }
    .build();
    let sizes = Arc::new(Mutex::new((0, BTreeSet::new())));
    let seen = Arc::clone(&sizes);
    stage.tap(move |passing| {
        // RTP of payload type 96, without the marker.
        if let [0x80, 96, ..] = passing.payload {
            let mut seen = seen.lock().unwrap();
            seen.0 += 1;
            seen.1.insert((passing.source, passing.payload.len()));
        }
        Verdict::Pass
    });
    stage.dial();
    stage.run(8);
    let sizes = sizes.lock().unwrap();
    assert!(sizes.0 > 280, "{}", sizes.0);
    // One size from each of the two.
    let lengths: BTreeSet<usize> = sizes.1.iter().map(|(_, length)| *length).collect();
    assert_eq!(lengths.len(), 1, "{:?}", sizes.1);
}

/// RTP packets by their payload type, before the pause and in it.
#[derive(Default)]
struct Pause {
    sent: BTreeMap<u8, usize>,
    in_pause: BTreeMap<u8, usize>,
    known: BTreeSet<Vec<u8>>,
}

/// Both speak, say nothing for five seconds, and speak again: what was sent in the pause.
fn pause(setup: Setup) -> (Stage, Pause) {
    let mut stage = setup.build();
    let counted = Arc::new(Mutex::new(Pause::default()));
    let seen = Arc::clone(&counted);
    stage.tap(move |passing| {
        // RTP: not STUN, DTLS or RTCP (payload types 64 to 95 are its).
        if let [0x80, kind, ..] = passing.payload
            && !(64..96).contains(&(kind & 0x7f))
        {
            // Every hop passes it on once more.
            let mut seen = seen.lock().unwrap();
            if seen.known.insert(passing.payload.to_vec()) {
                *seen.in_pause.entry(kind & 0x7f).or_default() += 1;
            }
        }
        Verdict::Pass
    });
    stage.dial();
    stage.run(8);
    stage.hush(true);
    stage.run(1);
    let before = std::mem::take(&mut counted.lock().unwrap().in_pause);
    stage.run(4);
    let in_pause = std::mem::take(&mut counted.lock().unwrap().in_pause);
    let (bob, alice) = stage.heard();
    stage.hush(false);
    stage.run(3);
    let (bobs, alices) = stage.heard();
    // The words after the pause are heard as those before it.
    assert!(
        bobs - bob > 2.8 && alices - alice > 2.8,
        "{}",
        stage.story()
    );
    (
        stage,
        Pause {
            sent: before,
            in_pause,
            ..Pause::default()
        },
    )
}

/// The levels, in dB below full scale, of what bob heard in the last three seconds of the pause.
fn levels(stage: &Stage) -> Vec<f64> {
    let played = stage.bob().played();
    let pause = &played[played.len() - 650..played.len() - 350];
    let level = |frames: &[ringtrue_program::virtual_phone::Played]| {
        let samples = frames.iter().flat_map(|played| played.frame.iter());
        let squares: f64 = samples.map(|&sample| f64::from(sample).powi(2)).sum();
        10.0 * (squares / 480.0 / frames.len() as f64 / 32_768.0f64.powi(2))
            .max(1e-12)
            .log10()
    };
    pause.chunks(10).map(level).collect()
}

#[test]
fn comfort_noise_is_agreed_on_and_heard_in_pauses() {
    let g711 = |settings: &mut ringtrue_phone::Settings| {
        settings.duration = None;
        settings.codecs = vec![Codec::Pcma];
        settings.dtx = true;
    };
    let setup = Setup {
        alices: g711,
        bobs: g711,
        ..Setup::default()
    };
    let (stage, pause) = pause(setup);
    assert!(pause.sent[&8] > 600, "{:?}", pause.sent);
    // Each of the two tells of its noise once a second, and of nothing else.
    let noise = pause.in_pause[&13];
    assert!((6..=10).contains(&noise), "{:?}", pause.in_pause);
    assert_eq!(pause.in_pause.get(&8), None, "{:?}", pause.in_pause);
    // White noise of an amplitude of 50, of which the telephone's band takes a sixth.
    for level in levels(&stage) {
        assert!((-71.0..-66.0).contains(&level), "{level}");
    }
}

/// A phone that asks for it by `usedtx=1` gets pauses that are not sent from one that would send them.
#[test]
fn opus_pauses_as_the_other_side_would_like_it() {
    let quiet: fn(&mut ringtrue_phone::Settings) = |settings| settings.duration = None;
    let wishing: fn(&mut ringtrue_phone::Settings) = |settings| {
        settings.duration = None;
        settings.dtx = true;
    };
    // Packets of one size, encrypted: who speaks shall not be seen.
    let hiding: fn(&mut ringtrue_phone::Settings) = |settings| {
        settings.duration = None;
        settings.dtx = true;
        settings.opus_cbr = true;
    };
    for (alices, bobs, least, most) in [
        (quiet, wishing, 10, 80),
        (quiet, quiet, 390, 405),
        (hiding, wishing, 390, 405),
    ] {
        let setup = Setup {
            alices,
            bobs,
            ..Setup::default()
        };
        let (_, pause) = pause(setup);
        let sent: usize = pause.in_pause.values().sum();
        assert!((least..=most).contains(&sent), "{:?}", pause.in_pause);
    }
}

/// What bob heard in the last two seconds: with both sides, if he has them.
fn last_heard(stage: &Stage) -> Vec<Sides> {
    let played = stage.bob().played();
    let heard = played[played.len() - 300..played.len() - 100].iter();
    heard
        .filter_map(|played| played.sides.as_deref().copied())
        .collect()
}

/// How loud a tone is on one side.
fn loudness(heard: &[Sides], side: usize, hz: f64) -> f64 {
    let sound: Vec<i16> = heard.iter().flat_map(|both| both[side]).collect();
    level(&sound, hz)
}

/// In parts of 100 ms: where sound was stretched, the phase has a step.
fn level(sound: &[i16], hz: f64) -> f64 {
    let parts = sound.chunks_exact(4_800);
    let count = parts.len() as f64;
    let power: f64 = parts.map(|part| tone::level(part, hz).powi(2)).sum();
    (power / count).sqrt()
}

/// Alice speaks on the left and, with another tone, on the right. It stays so where she may send two
/// channels and bob likes to get them; otherwise bob hears both tones, on as many sides as he has.
#[test]
fn sides_are_apart_where_both_want_it() {
    const RIGHT: f64 = 1_300.0;
    let mono: fn(&mut Settings) = |settings| settings.duration = Some(Duration::from_secs(6));
    let stereo: fn(&mut Settings) = |settings| {
        settings.stereo = true;
        settings.duration = Some(Duration::from_secs(6));
    };
    let g711: fn(&mut Settings) = |settings| {
        settings.stereo = true;
        settings.codecs = vec![Codec::Pcma];
    };
    for (alices, bobs, has_sides, apart) in [
        (stereo, stereo, true, true),
        (mono, stereo, true, false),
        (stereo, mono, false, false),
        (mono, mono, false, false),
        (stereo, g711, false, false),
    ] {
        let mut stage = Setup {
            alices,
            bobs,
            ..Setup::default()
        }
        .build();
        let left = stage.alice().tone();
        stage.speak_on_the_right(RIGHT);
        stage.dial();
        stage.run(10);
        let heard = last_heard(&stage);
        assert_eq!(
            heard.len(),
            if has_sides { 200 } else { 0 },
            "{}",
            stage.story()
        );
        if has_sides {
            for (side, own, other) in [(0, left, RIGHT), (1, RIGHT, left)] {
                let (own, other) = (loudness(&heard, side, own), loudness(&heard, side, other));
                assert!(own > 0.05, "{side} {own}");
                assert_eq!(own > 10.0 * other, apart, "{side} {own} {other}");
            }
        }
        // Levels, recordings and whoever asks for one channel have the mix.
        let played = stage.bob().played();
        let mixed = &played[played.len() - 300..played.len() - 100];
        let mixed: Vec<i16> = mixed.iter().flat_map(|played| *played.frame).collect();
        for hz in [left, RIGHT] {
            assert!(level(&mixed, hz) > 0.05, "{hz}: {}", stage.story());
        }
    }
}
