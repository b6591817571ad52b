//! Pauses that are not sent: what is heard in them, and of the words after them.
//!
//!     alice (talks in a noisy room) ---- delay, jitter ---- bob

use std::f64::consts::TAU;
use std::time::UNIX_EPOCH;

use super::*;
use crate::FRAME_TIME;
use crate::comfort_noise::{CN_TYPE, ComfortNoise, Noise, NoiseMaker, decibels};
use crate::jitter::Pause;

/// A talk-spurt and the pause after it, in frames.
const SPURT: usize = 120;
const CYCLE: usize = 320;
/// The room's noise.
const ROOM: u8 = 55;

fn level(sound: &[i16]) -> f32 {
    let sum: f32 = sound.iter().map(|&s| f32::from(s).powi(2)).sum();
    decibels(sum / sound.len().max(1) as f32)
}

/// A room in which somebody talks now and then: a frame of 10 ms.
fn room(maker: &mut NoiseMaker, frame: usize) -> Vec<i16> {
    let mut sound = Vec::new();
    maker.make(80, &mut sound);
    if frame % CYCLE < SPURT {
        for (n, sample) in sound.iter_mut().enumerate() {
            let t = (frame % CYCLE * FRAME + n) as f64 / 48_000.0;
            let voice = (1..12).map(|k| (TAU * 140.0 * f64::from(k) * t).sin() / f64::from(k));
            // A word begins at once; syllables, four a second.
            let loudness = 0.3 + (TAU * 4.0 * (t + 0.06)).sin().max(0.0);
            *sample += (5_000.0 * loudness * voice.sum::<f64>()) as i16;
        }
    }
    sound
}

fn quiet_room() -> NoiseMaker {
    let mut maker = NoiseMaker::new(99);
    maker.describe(Noise::parse(&[ROOM, 90]).unwrap(), true);
    maker
}

struct Call {
    /// What alice's microphone took, and what bob heard.
    said: Vec<i16>,
    heard: Vec<i16>,
    sent: Vec<Vec<u8>>,
    stats: StreamStats,
}

fn config(codec: Codec, dtx: bool) -> StreamConfig {
    let noise = Some(CN_TYPE).filter(|_| codec != Codec::Opus);
    StreamConfig {
        dtx,
        comfort_noise: ComfortNoise {
            send: noise,
            receive: noise,
        },
        ..StreamConfig::new(codec, "test")
    }
}

/// Alice talks for so many cycles, and every packet takes between 20 ms and `jitter` longer.
fn call(config: &StreamConfig, cycles: usize, jitter: u64) -> Call {
    let begin = Instant::now();
    let stream = |seed| MediaStream::new(config.clone(), seed, begin, UNIX_EPOCH).unwrap();
    let (mut alice, mut bob) = (stream(1), stream(2));
    let mut dice = ChaCha8Rng::seed_from_u64(8);
    let mut maker = quiet_room();
    let mut call = Call {
        said: Vec::new(),
        heard: Vec::new(),
        sent: Vec::new(),
        stats: StreamStats::default(),
    };
    let mut way: Vec<(Instant, MediaTransmit)> = Vec::new();
    for frame in 0..cycles * CYCLE {
        let now = begin + FRAME_TIME * frame as u32;
        let sound = room(&mut maker, frame);
        alice.handle_capture(now, &sound);
        call.said.extend(sound);
        while let Some(packet) = alice.poll_transmit() {
            let more = u64::from(dice.next_u32()) * jitter / u64::from(u32::MAX);
            call.sent.push(packet.payload.clone());
            way.push((now + Duration::from_millis(20 + more), packet));
        }
        // Half a frame later, bob's ticks.
        let now = now + FRAME_TIME / 2;
        way.sort_by_key(|(at, _)| *at);
        while way.first().is_some_and(|(at, _)| *at <= now) {
            let (at, packet) = way.remove(0);
            bob.handle_rtp(at, &packet.payload);
        }
        call.heard.extend(bob.playout(now).unwrap_or([0; FRAME]));
    }
    call.stats = bob.stats();
    call
}

/// Where what was said from `begin` on is heard: where it fits best, within 400 ms.
fn found(call: &Call, begin: usize) -> usize {
    let word: Vec<f32> = call.said[begin..begin + 9_600]
        .iter()
        .step_by(6)
        .map(|&s| f32::from(s))
        .collect();
    let fit = |at: &usize| {
        let heard = call.heard[*at..].iter().step_by(6);
        heard
            .zip(&word)
            .map(|(&a, b)| f32::from(a) * b)
            .sum::<f32>() as i64
    };
    (begin..begin + 19_200).step_by(6).max_by_key(fit).unwrap()
}

/// The levels of the first 40 ms of each talk-spurt that is heard, but for those of the first seconds.
fn first_words(call: &Call) -> Vec<f32> {
    let begins = (2..).map(|n| n * CYCLE * FRAME);
    begins
        .take_while(|begin| begin + SPURT * FRAME + 48_000 < call.heard.len())
        .map(|begin| {
            let at = found(call, begin);
            level(&call.heard[at..at + 4 * FRAME])
        })
        .collect()
}

/// Levels of tenths of a second in the middle of the pauses.
fn pauses(call: &Call) -> Vec<f32> {
    let tenths = call.heard.chunks_exact(10 * FRAME).enumerate();
    let in_pause = |tenth: usize| (SPURT + 60..CYCLE - 10).contains(&(tenth * 10 % CYCLE));
    let tenths = tenths.filter(|(tenth, _)| *tenth * 10 > 2 * CYCLE && in_pause(*tenth));
    tenths.map(|(_, sound)| level(sound)).collect()
}

/// DTX and the same without: the words are whole, and the pauses are filled.
fn compare(codec: Codec, jitter: u64) {
    let on = call(&config(codec, true), 12, jitter);
    let off = call(&config(codec, false), 12, jitter);
    let share = on.sent.len() as f64 / off.sent.len() as f64;
    assert!(share < 0.6, "{codec} {jitter}: {share}");
    let (with, without) = (first_words(&on), first_words(&off));
    assert!(with.len() >= 9);
    for (with, without) in with.iter().zip(&without) {
        let off = with - without;
        assert!(off.abs() < 1.0, "{codec} {jitter}: {with} for {without}");
    }
    assert_eq!(on.stats.lost, 0, "{codec} {jitter}");
    if jitter == 0 {
        let counted = (on.stats.late, on.stats.concealed, on.stats.concealed_ms);
        assert_eq!(counted, (0, 0, 0), "{codec}");
        assert_eq!(on.stats.burst_packets, None, "{codec}");
    } else {
        let more = |on: u64, off: u64| on <= off + 2;
        let (on, off) = (on.stats, off.stats);
        assert!(more(on.late, off.late), "{codec} {on:?} {off:?}");
        assert!(more(on.concealed, off.concealed), "{codec} {on:?} {off:?}");
    }
    // The room is heard in the pauses, as loud as it is, for as long as they last.
    let room = -f32::from(ROOM);
    let least = if codec == Codec::Opus {
        room - 4.0
    } else {
        room - 2.5
    };
    for level in pauses(&on) {
        assert!(
            (least..room + 4.0).contains(&level),
            "{codec} {jitter}: {level}"
        );
    }
}

#[test]
fn words_after_pauses_are_whole_and_nothing_is_lost() {
    for codec in Codec::ALL {
        compare(codec, 0);
    }
}

#[test]
fn jitter_does_no_harm_to_words_after_pauses() {
    for codec in [Codec::Opus, Codec::Pcmu] {
        compare(codec, 60);
    }
}

fn header(packet: &[u8]) -> (bool, u8, u32, usize) {
    let rtp = rtp_types::RtpPacket::parse(packet).unwrap();
    let payload = rtp.payload().len();
    (
        rtp.marker_bit(),
        rtp.payload_type(),
        rtp.timestamp(),
        payload,
    )
}

#[test]
fn noise_is_described_at_the_begin_of_a_pause_and_words_have_the_marker() {
    let call = call(&config(Codec::Pcmu, true), 4, 0);
    let packets: Vec<_> = call.sent.iter().map(|packet| header(packet)).collect();
    let noise: Vec<_> = packets.iter().filter(|p| p.1 == CN_TYPE).collect();
    // The noise stays as it is: at the begin of each pause, and again after a second.
    assert!((6..=9).contains(&noise.len()), "{noise:?}");
    assert!(noise.iter().all(|p| !p.0 && p.3 == 7));
    for pair in packets.windows(2) {
        let leap = pair[1].2.wrapping_sub(pair[0].2);
        let begins = pair[0].1 == CN_TYPE && pair[1].1 == 0;
        assert_eq!(pair[1].0, begins, "{pair:?}");
        // What is silent passes in the timestamps; a second at most.
        assert!(leap % 160 == 0 && (160..=8_000).contains(&leap), "{pair:?}");
    }
}

#[test]
fn opus_is_heard_of_every_400_ms_in_a_pause() {
    let call = call(&config(Codec::Opus, true), 4, 0);
    let packets: Vec<_> = call.sent.iter().map(|packet| header(packet)).collect();
    let mut longest = 0;
    let mut leaps = 0;
    for pair in packets.windows(2) {
        let leap = pair[1].2.wrapping_sub(pair[0].2);
        longest = longest.max(leap);
        leaps += usize::from(leap > 960);
        assert!(
            !(pair[0].3 <= 2 && pair[1].3 <= 2 && leap < 19_200),
            "{pair:?}"
        );
    }
    assert!(leaps > 6 && longest <= 20_160, "{leaps} {longest}");
    // Each talk-spurt has a marker, and the first packet.
    assert_eq!(packets.iter().filter(|p| p.0).count(), 4);
}

#[test]
fn a_changing_noise_is_told_at_most_every_200_ms() {
    let mut sender =
        MediaStream::new(config(Codec::Pcma, true), 1, Instant::now(), UNIX_EPOCH).unwrap();
    let begin = Instant::now();
    let mut maker = quiet_room();
    let mut told = Vec::new();
    for frame in 0..1_000u32 {
        // From the fifth second on it becomes louder by a decibel every 100 ms, for 1.2 s.
        if (500..620).contains(&frame) && frame % 10 == 0 {
            let level = ROOM - ((frame - 500) / 10) as u8;
            maker.describe(Noise::parse(&[level]).unwrap(), false);
        }
        let mut sound = Vec::new();
        maker.make(80, &mut sound);
        sender.handle_capture(begin + FRAME_TIME * frame, &sound);
        while let Some(packet) = sender.poll_transmit() {
            let rtp = rtp_types::RtpPacket::parse(&packet.payload).unwrap();
            if rtp.payload_type() == CN_TYPE {
                told.push((frame, rtp.payload()[0]));
            }
        }
    }
    assert!(
        told.windows(2).all(|pair| pair[1].0 - pair[0].0 >= 20),
        "{told:?}"
    );
    let changes: Vec<_> = told
        .iter()
        .filter(|(at, _)| (500..660).contains(at))
        .collect();
    // Louder by 12 dB: either it is told in steps, or it was taken for voice until it stayed.
    assert!(
        !changes.is_empty() || told.iter().any(|(at, _)| *at >= 660),
        "{told:?}"
    );
    let last = told.last().unwrap().1;
    assert!(last.abs_diff(ROOM - 11) <= 1, "{told:?}");
}

fn rtp(sequence: u16, timestamp: u32, marker: bool, payload_type: u8, payload: &[u8]) -> Vec<u8> {
    rtp_types::RtpPacketBuilder::<&[u8], &[u8]>::new()
        .marker_bit(marker)
        .payload_type(payload_type)
        .sequence_number(sequence)
        .timestamp(timestamp)
        .ssrc(7)
        .payload(payload)
        .write_vec()
        .unwrap()
}

/// What a peer of another make sends: (milliseconds, packet); and what is heard of it until `end`.
fn foreign(
    config: StreamConfig,
    packets: Vec<(u64, Vec<u8>)>,
    end: u64,
) -> (Vec<i16>, StreamStats) {
    let begin = Instant::now();
    let mut bob = MediaStream::new(config, 3, begin, UNIX_EPOCH).unwrap();
    let mut packets = packets.into_iter().peekable();
    let mut heard = Vec::new();
    for tick in 0..end / 10 {
        let now = begin + FRAME_TIME * tick as u32 + Duration::from_millis(3);
        while let Some((at, packet)) = packets.next_if(|(at, _)| *at <= tick * 10 + 3) {
            bob.handle_rtp(begin + Duration::from_millis(at), &packet);
        }
        heard.extend(bob.playout(now).unwrap_or([0; FRAME]));
    }
    (heard, bob.stats())
}

/// A second of loud µ-law noise from a packet of this number and timestamp on.
fn loud(at: u64, sequence: u16, timestamp: u32) -> Vec<(u64, Vec<u8>)> {
    let mut state = 9u32;
    (0..50u16)
        .map(|n| {
            let payload: Vec<u8> = (0..160)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    // Large magnitudes of either sign.
                    ((state >> 24) as u8 & 0x80) | 0x10 | (state >> 28) as u8
                })
                .collect();
            let marker = n == 0;
            let timestamp = timestamp + u32::from(n) * 160;
            let packet = rtp(sequence + n, timestamp, marker, 0, &payload);
            (at + u64::from(n) * 20, packet)
        })
        .collect()
}

/// How many milliseconds are loud between two moments.
fn loud_ms(heard: &[i16], from_ms: usize, to_ms: usize) -> usize {
    let part = &heard[from_ms * 48..to_ms * 48];
    let halves = part.chunks(240).filter(|half| level(half) > -20.0);
    halves.count() * 5
}

#[test]
fn the_noise_of_a_foreign_peer_is_heard_until_it_speaks_again() {
    let pcmu = StreamConfig {
        comfort_noise: ComfortNoise {
            send: None,
            receive: Some(13),
        },
        ..StreamConfig::new(Codec::Pcmu, "test")
    };
    // One second of speech, noise of -60, then of -50 dBov with a spectrum; speech again after three seconds.
    // Its timestamps run on, or they stand still in the pause, as those of some gateways do, or they leap;
    // and the first packet comes 60 ms late, or in time.
    for (leap, late) in [
        (24_000i64, 0),
        (24_000, 60),
        (0, 0),
        (30_000, 0),
        (24_400, 0),
        (800_000, 0),
    ] {
        let mut packets = loud(0, 100, 8_000);
        packets.push((1_000, rtp(150, 16_000, false, 13, &[60])));
        packets.push((2_500, rtp(151, 28_000, false, 13, &[50, 60, 160])));
        let mut again = loud(4_000, 152, (16_000 + leap) as u32);
        for (n, packet) in (0..3).zip(&mut again) {
            packet.0 += late - n * late / 3;
        }
        again.sort_by_key(|(at, _)| *at);
        packets.extend(again);
        let end = (16_000 + leap + 8_000) as u32;
        packets.push((5_000, rtp(202, end, false, 13, &[60])));
        let (heard, stats) = foreign(pcmu.clone(), packets, 5_500);
        let counted = (stats.lost, stats.late, stats.concealed);
        assert_eq!(counted, (0, 0, 0), "{leap} {late} {stats:?}");
        let first = level(&heard[48 * 1_300..48 * 2_300]);
        let second = level(&heard[48 * 2_800..48 * 3_900]);
        assert!((first + 60.0).abs() < 1.5, "{leap} {late} {first}");
        assert!((second + 50.0).abs() < 1.5, "{leap} {late} {second}");
        let whole = loud_ms(&heard, 3_900, 5_400);
        assert!((980..=1_060).contains(&whole), "{leap} {late} {whole}");
    }
}

#[test]
fn a_lost_packet_at_the_end_of_a_pause_is_one_lost_packet() {
    let pcmu = config(Codec::Pcmu, false);
    let mut packets = loud(0, 100, 8_000);
    packets.push((1_000, rtp(150, 16_000, false, 13, &[60])));
    let mut again = loud(3_000, 151, 32_000);
    again.remove(0);
    packets.extend(again);
    let (_, stats) = foreign(pcmu, packets, 3_900);
    assert_eq!((stats.lost, stats.late), (1, 0), "{stats:?}");
    assert!(stats.concealed_ms <= 20, "{stats:?}");
}

#[test]
fn noise_that_is_no_noise_does_no_harm() {
    let pcmu = config(Codec::Pcmu, false);
    let long = [70u8; 1_400];
    let mut packets = loud(0, 100, 8_000);
    packets.push((1_000, rtp(150, 16_000, false, 13, &[])));
    packets.push((1_020, rtp(151, 16_160, true, 13, &[0xff; 600])));
    packets.push((1_040, rtp(152, 16_320, false, 13, &long)));
    packets.push((1_060, rtp(152, 16_320, false, 13, &long)));
    packets.push((1_080, rtp(153, 9, false, 13, &[0x80 | 65])));
    packets.extend((0..500).map(|n| (1_100, rtp(154 + n, 16_800, false, 13, &[60, n as u8, 255]))));
    packets.extend(loud(3_000, 654, 32_000));
    packets.push((4_000, rtp(704, 40_000, false, 13, &[60])));
    let (heard, stats) = foreign(pcmu, packets, 4_500);
    let whole = loud_ms(&heard, 2_900, 4_400);
    assert!((1_000..=1_020).contains(&whole), "{whole} {stats:?}");
    // Beside Opus it means nothing, nor before anything else came, if no codec of its clock was agreed.
    let mut opus = StreamConfig::new(Codec::Opus, "test");
    opus.comfort_noise.receive = Some(13);
    let (heard, _) = foreign(opus, vec![(0, rtp(1, 5, true, 13, &[30]))], 500);
    assert!(heard.iter().all(|&sample| sample == 0));
    // With one, a call may begin with it.
    let (heard, stats) = foreign(
        config(Codec::G722, false),
        vec![(0, rtp(1, 5, true, 13, &[50]))],
        2_000,
    );
    let heard = level(&heard[48 * 200..]);
    assert!(
        (heard + 50.0).abs() < 1.5 && stats.concealed == 0,
        "{heard} {stats:?}"
    );
}

/// libopus' packets of speech and pause, as (milliseconds, payload).
fn opus_with_pauses(frames: usize, complexity: u8) -> Vec<(u64, Vec<u8>)> {
    let mut encoder =
        crate::codec::Encoder::new(Codec::Opus, false, crate::Channels::Mono).unwrap();
    let settings = crate::OpusSettings {
        complexity,
        ..crate::OpusSettings::default()
    };
    encoder.configure(&settings).unwrap();
    encoder.set_dtx(true).unwrap();
    let mut maker = quiet_room();
    (0..frames / 2)
        .map(|n| {
            let sound = [room(&mut maker, 2 * n), room(&mut maker, 2 * n + 1)].concat();
            let mut packet = Vec::new();
            encoder.encode(&sound, &mut packet).unwrap();
            (n as u64 * 20, packet)
        })
        .collect()
}

/// CELT and SILK make their own noise each; which of them is used depends on the complexity.
#[test]
fn pauses_of_opus_sound_as_noise_whether_they_are_announced_or_not() {
    for complexity in [7, 4] {
        opus_pauses(&opus_with_pauses(2 * CYCLE, complexity));
    }
}

fn opus_pauses(spoken: &[(u64, Vec<u8>)]) {
    let begin_of_pause = spoken
        .iter()
        .position(|(_, payload)| payload.len() <= 2)
        .expect("a pause");
    for announced in [true, false] {
        let mut packets = Vec::new();
        let mut seen_pause = false;
        for (at, payload) in spoken {
            let small = payload.len() <= 2;
            if small && (!announced || seen_pause) {
                continue;
            }
            seen_pause = small;
            let sequence = packets.len() as u16;
            packets.push((*at, rtp(sequence, *at as u32 * 48, false, 96, payload)));
        }
        let (heard, stats) = foreign(StreamConfig::new(Codec::Opus, "test"), packets, 6_400);
        let counted = (stats.lost, stats.late, stats.concealed);
        assert_eq!(counted, (0, 0, 0), "announced: {announced} {stats:?}");
        for tenth in heard[48 * 1_900..48 * 3_100].chunks(4_800) {
            let level = level(tenth);
            assert!(
                (-59.0..-51.0).contains(&level),
                "announced: {announced} {level}"
            );
        }
    }
    // A pause that is announced and does not end: the noise goes on.
    let mut packets: Vec<_> = (0..=begin_of_pause)
        .map(|n| rtp(n as u16, n as u32 * 960, false, 96, &spoken[n].1))
        .zip((0..).map(|n| n * 20))
        .map(|(packet, at)| (at, packet))
        .collect();
    let end = packets.last().unwrap().0;
    let (heard, stats) = foreign(
        StreamConfig::new(Codec::Opus, "test"),
        packets.clone(),
        end + 10_000,
    );
    assert_eq!(stats.concealed, 0, "{stats:?}");
    for second in heard[48 * (end as usize + 500)..].chunks_exact(48_000) {
        assert!((-59.0..-51.0).contains(&level(second)), "{}", level(second));
    }
    // One that nobody announced is an outage after a second.
    packets.pop();
    let (_, stats) = foreign(
        StreamConfig::new(Codec::Opus, "test"),
        packets,
        end + 10_000,
    );
    assert!(stats.concealed > 0, "{stats:?}");
}

#[test]
fn what_opus_says_of_pauses_is_read() {
    let spoken = opus_with_pauses(2 * CYCLE, 4);
    let pause = |payload: &[u8]| crate::codec::pause(Codec::Opus, payload);
    let count = |what: Pause| spoken.iter().filter(|(_, p)| pause(p) == what).count();
    assert!(count(Pause::No) > 80 && count(Pause::Possible) > 10 && count(Pause::Begun) > 80);
    // What goes before a pause is not voice.
    for pair in spoken.windows(2) {
        let begins = pause(&pair[0].1) != Pause::Begun && pause(&pair[1].1) == Pause::Begun;
        assert!(!begins || pause(&pair[0].1) == Pause::Possible);
    }
    for bad in [
        &[][..],
        &[0xff],
        &[3, 0xff, 0xff],
        &[0x7b, 0x83, 9, 9],
        &[0x0f, 1, 2, 3],
    ] {
        pause(bad);
    }
}
