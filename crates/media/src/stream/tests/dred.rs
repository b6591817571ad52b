//! Deep redundancy (DRED), for peers that know no `red`.

use std::collections::VecDeque;

use super::*;

/// What bob heard, his figures, and the payloads that alice sent.
struct Heard {
    sound: Vec<i16>,
    stats: StreamStats,
    sent: Vec<Vec<u8>>,
}

/// What alice says is heard by bob, who knows no `red`; of her packets those of `lost` never arrive.
///
///     alice (a vowel) ---- 20 ms, bursts ---- bob
fn without_red(dred_ms: u32, lost: impl Fn(usize) -> bool) -> Heard {
    let begin = Instant::now();
    let mut config = StreamConfig::new(Codec::Opus, "test");
    config.opus.dred_ms = dred_ms;
    let stream = |seed| MediaStream::new(config.clone(), seed, begin, UNIX_EPOCH).unwrap();
    let (mut alice, mut bob) = (stream(1), stream(2));
    let mut under_way: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    let (mut sound, mut sent) = (Vec::new(), Vec::new());
    for tick in 0..3_000 {
        let now = begin + FRAME_TIME * tick;
        let said: [i16; FRAME] =
            std::array::from_fn(|n| crate::codec::voice::held(tick as usize * FRAME + n));
        alice.handle_capture(now, &said);
        bob.handle_capture(now, &[0; FRAME]);
        while under_way.front().is_some_and(|(at, _)| *at <= now) {
            bob.handle_rtp(now, &under_way.pop_front().unwrap().1);
        }
        for stream in [&mut alice, &mut bob] {
            stream.handle_timeout(now);
        }
        sound.extend(bob.playout(now).unwrap_or([0; FRAME]));
        while let Some(packet) = bob.poll_transmit() {
            alice.handle_rtp(now, &packet.payload);
        }
        while let Some(packet) = alice.poll_transmit() {
            let rtp = !(192..=223).contains(&packet.payload[1]);
            if rtp {
                sent.push(packet.payload[12..].to_vec());
            }
            if !(rtp && lost(sent.len())) {
                under_way.push_back((now + PACKET_TIME, packet.payload));
            }
        }
    }
    let stats = bob.stats();
    Heard { sound, stats, sent }
}

#[test]
fn dred_bridges_bursts_of_200_ms_for_a_peer_without_red() {
    // Ten packets of each hundred.
    let bursts = |packet: usize| packet >= 100 && packet % 97 < 10;
    let (with, without) = (without_red(300, bursts), without_red(0, bursts));
    assert_eq!(with.stats.lost, without.stats.lost);
    // All but the first bursts, after which DRED is sent and waited for.
    let share = |heard: &Heard| heard.stats.recovered as f64 / heard.stats.lost as f64;
    assert!(
        share(&with) > 0.85 && share(&without) < 0.1,
        "{:?}",
        with.stats
    );
    // Within the same 42 kbit/s.
    let octets = |heard: &Heard| heard.sent.iter().map(Vec::len).sum::<usize>();
    let most = 42_000 / 8 * 30;
    assert!(octets(&with).max(octets(&without)) < most);
    // The vowel goes on where without DRED it fades away.
    let faded = |sound: &[i16]| {
        let frames = sound.as_chunks::<FRAME>().0.iter().skip(1_500);
        let quiet = |frame: &&[i16; FRAME]| frame.iter().all(|s| s.unsigned_abs() < 1_500);
        frames.filter(quiet).count()
    };
    assert!(faded(&without.sound) > 50 && faded(&with.sound) < 5);
}

#[test]
fn dred_is_sent_to_those_who_ask_and_while_packets_are_lost() {
    let until =
        |last| move |packet: usize| (100..last).contains(&packet) && packet.is_multiple_of(8);
    // Padding (RFC 6716 section 3.2.5) is where DRED stands.
    let padded = |sent: &[Vec<u8>]| -> Vec<bool> {
        let padded = |payload: &Vec<u8>| payload[0] & 3 == 3 && payload[1] & 0x40 != 0;
        sent.iter().map(padded).collect()
    };
    let with = padded(&without_red(100, until(500)).sent);
    let of = |range: std::ops::Range<usize>| with[range].iter().filter(|padded| **padded).count();
    assert_eq!(of(0..100), 0);
    assert!(of(250..500) > 240, "{}", of(250..500));
    // Ten calm reports later it ends.
    assert_eq!(of(1_300..1_500), 0);
    let without = padded(&without_red(0, until(500)).sent);
    assert!(!without.contains(&true));
}
