//! Two sides, which stay apart.
//!
//!     alice (left 440 Hz, right 880 Hz) ---- delay, jitter, loss ---- bob (440 Hz)

use super::*;
use crate::mix;

/// Alice sends these channels, and bob hears with those; with redundancy or without.
fn pair(network: Network, [sent, heard]: [Channels; 2], red: Redundancy) -> Pair {
    let mut pair = Pair::new(Codec::Opus, network);
    for (index, party) in pair.parties.iter_mut().enumerate() {
        let mut config = StreamConfig::new(Codec::Opus, "test");
        config.redundancy = red;
        match index {
            0 => config.send_channels = sent,
            _ => config.receive_channels = heard,
        }
        party.stream = MediaStream::new(config, index as u64, pair.now, UNIX_EPOCH).unwrap();
    }
    pair.parties[0].tone = Tone::new(440.0);
    pair.parties[0].right = Some(Tone::new(880.0));
    pair
}

const STEREO: [Channels; 2] = [Channels::Stereo; 2];

/// Loses this share of the packets, and delays the others by up to 40 ms.
fn rough(share: f64) -> Network {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    Box::new(move |_| {
        let lost = f64::from(rng.next_u32()) < share * f64::from(u32::MAX);
        let jitter = u64::from(rng.next_u32() % 40);
        (!lost).then_some(Duration::from_millis(20 + jitter))
    })
}

/// The tone's power in parts of 50 ms: a stretch shifts its phase.
fn power(sound: &[i16], hz: f64) -> f64 {
    let parts = sound.chunks_exact(5 * FRAME);
    let count = parts.len() as f64;
    parts.map(|part| tone::level(part, hz).powi(2)).sum::<f64>() / count
}

/// By how many dB the left tone is louder on the left than the right one, and the other way round.
fn apart(heard: &[Sides]) -> [f64; 2] {
    let side = |side: usize| -> Vec<i16> { heard.iter().flat_map(|both| both[side]).collect() };
    let over = |sound: &[i16], own: f64, other: f64| {
        10.0 * (power(sound, own) / power(sound, other).max(1e-12)).log10()
    };
    [over(&side(0), 440.0, 880.0), over(&side(1), 880.0, 440.0)]
}

#[test]
fn each_side_comes_out_on_its_own_side() {
    for (loss, red) in [
        (0.0, Redundancy::default()),
        (0.05, Redundancy::default()),
        (0.1, Redundancy::both()),
    ] {
        let mut pair = pair(rough(loss), STEREO, red);
        pair.run(Duration::from_secs(15));
        let bob = &pair.parties[1];
        // All that was heard has two sides, from the first packet on.
        assert!(bob.heard_sides.len() > 1_485, "{}", bob.heard_sides.len());
        for db in apart(&bob.heard_sides[200..]) {
            assert!(db > 20.0, "{loss}: {db}");
        }
        for (side, hz) in [(0, 440.0), (1, 880.0)] {
            let sound: Vec<i16> = bob.heard_sides.iter().flat_map(|both| both[side]).collect();
            let report = tone::measure(&sound, hz, crate::SAMPLE_RATE, 0.1);
            assert!(report.seconds > 14.2, "{loss} {hz}: {report:?}");
            assert!(report.longest_gap_ms <= 60.0, "{loss} {hz}: {report:?}");
        }
        // Who asks for one channel gets the mix of the same.
        let last = bob.heard_sides.last().unwrap();
        assert_eq!(bob.heard.last().unwrap(), &mix(last));
        let stats = bob.stream.stats();
        assert_eq!(stats.lost > 0, loss > 0.0, "{stats:?}");
    }
}

#[test]
fn who_sends_or_hears_one_channel_has_the_mix() {
    let one = Channels::Mono;
    for channels in [[one, Channels::Stereo], [Channels::Stereo, one], [one, one]] {
        let mut pair = pair(delay(20), channels, Redundancy::default());
        pair.run(Duration::from_secs(5));
        let bob = &pair.parties[1];
        let mixed: Vec<i16> = bob.heard.iter().flatten().copied().collect();
        for hz in [440.0, 880.0] {
            assert!(power(&mixed, hz) > 0.07f64.powi(2), "{channels:?} {hz}");
        }
        assert_eq!(bob.heard_sides.is_empty(), channels[1] == one);
        assert!(bob.heard_sides.iter().all(|[left, right]| left == right));
    }
}

/// Of a voice that both sides have, nothing is different between them.
#[test]
fn one_microphone_is_heard_on_both_sides_alike() {
    let mut pair = pair(rough(0.03), STEREO, Redundancy::default());
    pair.parties[0].right = None;
    pair.run(Duration::from_secs(5));
    let heard = &pair.parties[1].heard_sides;
    let sides = heard
        .iter()
        .flat_map(|[left, right]| left.iter().zip(right));
    let most = sides.map(|(left, right)| left.abs_diff(*right)).max();
    assert!(most < Some(400), "{most:?}");
    let left: Vec<i16> = heard.iter().flat_map(|both| both[0]).collect();
    let report = tone::measure(&left, 440.0, crate::SAMPLE_RATE, 0.1);
    assert!(report.seconds > 4.7, "{report:?}");
}

#[test]
fn g711_has_one_channel_whatever_is_wanted() {
    let mut pair = pair(delay(20), STEREO, Redundancy::default());
    for (index, party) in pair.parties.iter_mut().enumerate() {
        let mut config = StreamConfig::new(Codec::Pcma, "test");
        (config.send_channels, config.receive_channels) = (Channels::Stereo, Channels::Stereo);
        party.stream = MediaStream::new(config, index as u64, pair.now, UNIX_EPOCH).unwrap();
    }
    pair.run(Duration::from_secs(3));
    let bob = &pair.parties[1];
    assert!(bob.heard_sides.is_empty());
    let mixed: Vec<i16> = bob.heard.iter().flatten().copied().collect();
    assert!(power(&mixed, 440.0) > 0.07f64.powi(2) && power(&mixed, 880.0) > 0.07f64.powi(2));
}

/// In mid-call alice sends one channel and then two again, and bob hears with one: nothing is missing. (A
/// decoder for other channels begins anew, which is 20 weak ms; in a call ours never changes.)
#[test]
fn channels_come_and_go_in_mid_call() {
    let mut pair = pair(delay(20), STEREO, Redundancy::default());
    let (one, two) = (Channels::Mono, Channels::Stereo);
    let mut parts = Vec::new();
    for [sent, heard] in [[two, two], [one, two], [two, two], [two, one], [one, one]] {
        let now = pair.now;
        for (index, party) in pair.parties.iter_mut().enumerate() {
            let mut config = party.stream.config().clone();
            match index {
                0 => config.send_channels = sent,
                _ => config.receive_channels = heard,
            }
            party.stream.renegotiate(now, config).unwrap();
        }
        pair.run(Duration::from_secs(2));
        parts.push(std::mem::take(&mut pair.parties[1].heard_sides));
    }
    // What was on its way is still heard as it was sent.
    let late = |part: &[Sides]| part[20..].to_vec();
    for part in [&parts[0], &parts[2]] {
        assert!(apart(&late(part)).iter().all(|db| *db > 20.0));
    }
    let alike = |[left, right]: &Sides| left == right;
    assert!(late(&parts[1]).iter().all(alike));
    assert!(parts[3].is_empty() && parts[4].is_empty());
    let mixed: Vec<i16> = pair.parties[1].heard.iter().flatten().copied().collect();
    let steps = mixed[20 * FRAME..].chunks_exact(FRAME);
    let levels = steps.map(|step| tone::level(step, 440.0).max(tone::level(step, 880.0)));
    let weak: Vec<usize> = levels
        .enumerate()
        .filter_map(|(at, level)| (level < 0.05).then_some(at + 20))
        .collect();
    assert!(
        weak.len() <= 2 && weak.iter().all(|at| (600..603).contains(at)),
        "{weak:?}"
    );
}

/// Two channels cost about 1.6 times as much, also where all packets are of one size.
#[test]
fn two_channels_have_their_bits() {
    let kbits = |channels: Channels, cbr: bool| {
        let mut pair = pair(delay(20), [channels; 2], Redundancy::default());
        let mut config = pair.parties[0].stream.config().clone();
        config.opus.cbr = cbr;
        let alice = &mut pair.parties[0];
        alice.stream = MediaStream::new(config, 3, pair.now, UNIX_EPOCH).unwrap();
        pair.run(Duration::from_secs(20));
        let sent = &pair.parties[0].sent;
        let rtp = sent.iter().filter(|packet| packet.payload[1] & 0x7f == 96);
        let sizes: Vec<usize> = rtp.map(|packet| packet.payload.len() - 12).collect();
        let late = &sizes[50..];
        assert!(!cbr || late.iter().all(|size| *size == late[0]));
        late.iter().sum::<usize>() as f64 * 8.0 / (late.len() as f64 * 20.0)
    };
    for cbr in [false, true] {
        let (one, two) = (kbits(Channels::Mono, cbr), kbits(Channels::Stereo, cbr));
        assert!((1.5..1.7).contains(&(two / one)), "{cbr} {one} {two}");
    }
}
