//! RTP and RTCP.

use std::time::{Duration, Instant, SystemTime};

use ringtrue_media::redundancy::Redundancy;
use ringtrue_media::{Codec, FRAME, FRAME_TIME, MediaStream, StreamConfig};
use ringtrue_testnet::fuzz;

fn stream(codec: Codec, seed: u64, now: Instant) -> MediaStream {
    let mut config = StreamConfig::new(codec, "cname");
    config.receive = Codec::ALL
        .map(|codec| (codec.default_payload_type(), codec))
        .to_vec();
    config.telephone_event = Some(101);
    config.redundancy = Redundancy::both();
    MediaStream::new(config, seed, now, SystemTime::UNIX_EPOCH).expect("a stream")
}

/// Two seconds of what a stream sends, with its reports, and a key press.
fn recording(codec: Codec, now: Instant) -> Vec<Vec<u8>> {
    let mut sender = stream(codec, 7, now);
    let mut sent = Vec::new();
    for number in 0..200 {
        let at = now + FRAME_TIME * number;
        let frame: [i16; FRAME] = std::array::from_fn(|i| (i as i16 % 97) * 90);
        sender.handle_capture(at, &frame);
        sender.handle_timeout(at);
        sent.extend(std::iter::from_fn(|| sender.poll_transmit()).map(|t| t.payload));
    }
    sender.close(now + Duration::from_secs(3));
    sent.extend(std::iter::from_fn(|| sender.poll_transmit()).map(|t| t.payload));
    let mut key = sent[0].clone();
    key[1] = 101;
    key.truncate(12);
    key.extend([5, 0x8a, 3, 0x20]);
    sent.push(key);
    if codec == Codec::Opus {
        let redundant = sent.windows(3).filter_map(redundant);
        sent = redundant
            .collect::<Vec<_>>()
            .into_iter()
            .chain(sent)
            .collect();
    }
    sent
}

/// The last of three packets as RFC 2198 has it: with a copy of the first, and with a parity block of both.
fn redundant(packets: &[Vec<u8>]) -> Option<Vec<u8>> {
    let types = Redundancy::OFFERED;
    let [first, second, third] = packets else {
        return None;
    };
    let sound = |packet: &Vec<u8>| packet.get(1).is_some_and(|kind| kind & 0x7f == 96);
    if ![first, second, third].into_iter().all(sound) {
        return None;
    }
    let copy = first.get(12..)?;
    let mut parity = vec![2, 1, 2];
    let longest = copy.len().max(second.len() - 12);
    let octet = |packet: &[u8], at: usize| match at {
        0 => packet.len() as u8 - 12,
        at => packet.get(11 + at).copied().unwrap_or(0),
    };
    parity.extend((0..=longest).map(|at| octet(first, at) ^ octet(second, at)));
    let header = |kind: u8, offset: u32, length: usize| {
        (1 << 31 | u32::from(kind) << 24 | offset << 10 | length as u32).to_be_bytes()
    };
    let mut packet = third.get(..12)?.to_vec();
    packet[1] = packet[1] & 0x80 | types.red;
    packet.extend(header(96, 1_920, copy.len()));
    packet.extend(header(types.parity?, 0, parity.len()));
    packet.push(96);
    for block in [copy, &parity, third.get(12..)?] {
        packet.extend(block);
    }
    Some(packet)
}

#[test]
fn packets() {
    let start = Instant::now();
    let corpora = Codec::ALL.map(|codec| recording(codec, start));
    fuzz("rtp-rtcp", 60, |dice| {
        let corpus = dice.pick(&corpora).clone();
        let codec = *dice.pick(&Codec::ALL);
        let mut receiver = stream(codec, 9, start);
        let mut now = start;
        let mut inputs = 0;
        for _ in 0..150 {
            for _ in 0..dice.below(4) {
                let mut packet = dice.pick(&corpus).clone();
                if dice.percent(60) {
                    packet = dice.mutate(&packet, &corpus);
                }
                if dice.percent(30) && packet.len() > 12 {
                    // Jumps of sequence number, timestamp and source with a sound header.
                    let at = 2 + dice.below(10);
                    packet[at] = dice.number() as u8;
                }
                if dice.percent(90) {
                    receiver.handle_rtp(now, &packet);
                } else {
                    receiver.handle_rtcp(now, &packet);
                }
                inputs += 1;
                let answers = std::iter::from_fn(|| receiver.poll_transmit()).count();
                assert!(answers <= 1, "{answers} packets in answer to one");
                let told = std::iter::from_fn(|| receiver.poll_event()).count();
                assert!(told <= 3, "{told} events for one packet");
            }
            if dice.percent(50) {
                receiver.handle_capture(now, &[1000; FRAME]);
            }
            receiver.handle_timeout(now);
            let reports = std::iter::from_fn(|| receiver.poll_transmit()).count();
            assert!(reports <= 3, "{reports} packets in one tick");
            let _ = receiver.playout(now);
            let stats = receiver.stats();
            let most = Duration::from_secs(60).as_millis() as f64;
            assert!(stats.buffer_ms.is_none_or(|ms| ms < most), "{stats:?}");
            now += if dice.percent(2) {
                Duration::from_millis(dice.below(100_000) as u64)
            } else {
                FRAME_TIME
            };
        }
        inputs
    });
}
