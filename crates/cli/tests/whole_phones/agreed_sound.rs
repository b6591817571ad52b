//! What the two agree on about the sound, beside the codec; and the keys that go beside it.
//!
//!     alice ---- proxy ---- bob

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringtrue_media::Codec;
use ringtrue_phone::EventKind;
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
