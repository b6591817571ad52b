//! RTP and RTCP.

use std::time::{Duration, Instant, SystemTime};

use ringtrue_media::{Codec, FRAME, FRAME_TIME, MediaStream, StreamConfig};
use ringtrue_testnet::fuzz;

fn stream(codec: Codec, seed: u64, now: Instant) -> MediaStream {
    let mut config = StreamConfig::new(codec, "cname");
    config.receive = Codec::ALL
        .map(|codec| (codec.default_payload_type(), codec))
        .to_vec();
    config.telephone_event = Some(101);
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
    sent
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
