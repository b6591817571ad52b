//! Two streams that talk over a network of the test's making, in virtual time.
//!
//!     alice (880 Hz) ---- delay, jitter, loss ---- bob (440 Hz)

use std::time::UNIX_EPOCH;

use super::*;
use crate::audio::{Source, Tone};
use crate::{FRAME_TIME, tone};

/// The time that a packet lasts here.
const PACKET_TIME: Duration = Duration::from_millis(20);

/// A stream, its sources of sound, its ticks and what it heard.
struct Party {
    stream: MediaStream,
    tone: Tone,
    next_tick: Instant,
    tick: Duration,
    /// How late each tick is served.
    stalls: Box<dyn FnMut() -> Duration>,
    served_at: Instant,
    /// Packets on their way to this party.
    inbox: Vec<(Instant, MediaTransmit)>,
    heard: Vec<[i16; FRAME]>,
    events: Vec<MediaEvent>,
    sent: Vec<MediaTransmit>,
}

/// What the network does to the packet of this number: lost (`None`) or delayed.
type Network = Box<dyn FnMut(usize) -> Option<Duration>>;

struct Pair {
    now: Instant,
    parties: [Party; 2],
    network: Network,
    packets: usize,
}

fn delay(ms: u64) -> Network {
    Box::new(move |_| Some(Duration::from_millis(ms)))
}

/// Loses this share of the packets, by a generator of its own.
fn lossy(ms: u64, share: f64) -> Network {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    Box::new(move |_| {
        let lost = f64::from(rng.next_u32()) < share * f64::from(u32::MAX);
        (!lost).then_some(Duration::from_millis(ms))
    })
}

impl Pair {
    fn new(codec: Codec, network: Network) -> Pair {
        let now = Instant::now();
        let wall = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let party = |hz, seed, phase| Party {
            stream: MediaStream::new(StreamConfig::new(codec, "test"), seed, now, wall).unwrap(),
            tone: Tone::new(hz),
            next_tick: now + Duration::from_millis(phase),
            tick: FRAME_TIME,
            stalls: Box::new(|| Duration::ZERO),
            served_at: now + Duration::from_millis(phase),
            inbox: Vec::new(),
            heard: Vec::new(),
            events: Vec::new(),
            sent: Vec::new(),
        };
        Pair {
            now,
            parties: [party(880.0, 1, 0), party(440.0, 2, 3)],
            network,
            packets: 0,
        }
    }

    /// Steps from wake-up to wake-up for this long.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.wake_up().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            for index in 0..2 {
                self.step(index);
            }
        }
        self.now = end;
    }

    fn wake_up(&self) -> Option<Instant> {
        let party = |party: &Party| {
            let arrivals = party.inbox.iter().map(|(at, _)| *at);
            arrivals
                .chain([party.served_at])
                .chain(party.stream.poll_timeout())
                .min()
        };
        self.parties.iter().filter_map(party).min()
    }

    fn step(&mut self, index: usize) {
        let now = self.now;
        let party = &mut self.parties[index];
        party.inbox.sort_by_key(|(at, _)| *at);
        while party.inbox.first().is_some_and(|(at, _)| *at <= now) {
            let (_, packet) = party.inbox.remove(0);
            match packet.channel {
                Channel::Rtp => party.stream.handle_rtp(now, &packet.payload),
                Channel::Rtcp => party.stream.handle_rtcp(now, &packet.payload),
            }
        }
        if party.served_at <= now {
            party.next_tick += party.tick;
            party.served_at = party.next_tick + (party.stalls)();
            let mut frame = [0; FRAME];
            party.tone.read(&mut frame);
            party.stream.handle_capture(now, &frame);
            party
                .heard
                .push(party.stream.playout(now).unwrap_or([0; FRAME]));
        }
        party.stream.handle_timeout(now);
        party
            .events
            .extend(std::iter::from_fn(|| party.stream.poll_event()));
        while let Some(packet) = self.parties[index].stream.poll_transmit() {
            self.parties[index].sent.push(packet.clone());
            self.packets += 1;
            if let Some(delay) = (self.network)(self.packets) {
                self.parties[1 - index].inbox.push((now + delay, packet));
            }
        }
    }

    fn heard(&self, index: usize, hz: f64) -> tone::ToneReport {
        tone::measure_frames(&self.parties[index].heard, hz, 0.05)
    }
}

#[test]
fn both_hear_each_other_in_every_codec() {
    for codec in Codec::ALL {
        let mut pair = Pair::new(codec, delay(25));
        pair.run(Duration::from_secs(5));
        for (index, hz) in [(0, 440.0), (1, 880.0)] {
            let report = pair.heard(index, hz);
            assert!(report.seconds > 4.8, "{codec} {report:?}");
            assert!(report.longest_gap_ms < 10.0, "{codec} {report:?}");
            // One way, one frame and at most 60 ms.
            assert!(report.first.unwrap() < 0.11, "{codec} {report:?}");
            assert_eq!(
                pair.parties[index].events,
                [MediaEvent::FirstSent, MediaEvent::FirstReceived]
            );
            let stats = pair.parties[index].stream.stats();
            assert_eq!(
                (stats.lost, stats.late, stats.duplicates),
                (0, 0, 0),
                "{codec}"
            );
            assert!(
                stats.tx_packets >= 250 && stats.rx_packets >= 248,
                "{stats:?}"
            );
        }
    }
}

#[test]
fn ticks_that_drift_in_phase_leave_no_gap() {
    // Bob's ticks come 10.005 ms apart and both sides' clocks differ by 500 ppm, and the path takes
    // up to 15 ms longer now and then.
    let mut state = 7u64;
    let mut pair = Pair::new(
        Codec::Opus,
        Box::new(move |_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            Some(Duration::from_micros(200 + (state >> 40) % 15_000))
        }),
    );
    pair.parties[1].tick = Duration::from_micros(10_005);
    pair.run(Duration::from_secs(20));
    for (index, hz) in [(0, 440.0), (1, 880.0)] {
        let report = pair.heard(index, hz);
        assert!(report.seconds > 19.5, "{index} {report:?}");
        assert!(report.longest_gap_ms <= 20.0, "{index} {report:?}");
    }
}

/// A busy host: its timers fire up to 2 ms late, one in twenty up to 40 ms, and then the missed ticks
/// follow at once; both ends live on it, as in a call over the loopback interface.
#[test]
fn a_busy_host_leaves_no_gap_over_40_ms() {
    for codec in Codec::ALL {
        for seed in 0..12 {
            let mut pair = Pair::new(codec, Box::new(|_| Some(Duration::from_micros(100))));
            for (index, party) in pair.parties.iter_mut().enumerate() {
                let mut rng = ChaCha8Rng::seed_from_u64(seed * 2 + index as u64);
                party.stalls = Box::new(move || {
                    let most = if rng.next_u32() % 20 == 0 {
                        40_000
                    } else {
                        2_000
                    };
                    Duration::from_micros(u64::from(rng.next_u32()) % most)
                });
            }
            pair.run(Duration::from_secs(5));
            for (index, hz) in [(0, 440.0), (1, 880.0)] {
                let report = pair.heard(index, hz);
                let stats = pair.parties[index].stream.stats();
                assert!(report.seconds > 4.7, "{codec} {seed} {report:?} {stats:?}");
                assert!(
                    report.longest_gap_ms <= 40.0,
                    "{codec} {seed} {report:?} {stats:?}"
                );
            }
        }
    }
}

#[test]
fn the_buffer_of_a_steady_path_stays_short() {
    let mut pair = Pair::new(Codec::Opus, delay(10));
    pair.run(Duration::from_secs(10));
    for party in &pair.parties {
        let stats = party.stream.stats();
        assert!(stats.buffer_ms.unwrap() < 45.0, "{stats:?}");
        assert_eq!(stats.target_ms, Some(5.0));
        assert!(stats.jitter_ms.unwrap() < 0.1);
        assert_eq!((stats.concealed, stats.concealed_ms), (0, 0));
        assert_eq!(stats.burst_packets, None);
        assert!(
            stats.mos.unwrap() > 4.4 && stats.remote_mos.unwrap() > 4.4,
            "{stats:?}"
        );
    }
}

#[test]
fn what_follows_a_lost_packet_is_waited_for_only_while_packets_are_lost() {
    // The first ten seconds are clean, then one packet of ten is lost, then they are clean again.
    let network: Network = Box::new(|packet| {
        let lost = (1_000..3_000).contains(&packet) && packet % 20 >= 18;
        (!lost).then_some(Duration::from_millis(10))
    });
    let mut pair = Pair::new(Codec::Pcmu, network);
    let targets = [10, 18, 36].map(|seconds| {
        let passed = pair.parties[0].heard.len() as u64 / 100;
        pair.run(Duration::from_secs(seconds - passed));
        pair.parties[0].stream.stats().target_ms.unwrap()
    });
    let [clean, lossy, after] = targets;
    assert_eq!(clean, 5.0);
    assert!((40.0..=60.0).contains(&lossy), "{targets:?}");
    assert_eq!(after, clean);
    // A tone is bridged so well that the losses leave no hole.
    assert!(pair.parties[0].stream.stats().concealed > 80);
    assert!(pair.heard(0, 440.0).longest_gap_ms < 10.0);
}

#[test]
fn losses_are_counted_and_concealed_or_recovered() {
    for codec in Codec::ALL {
        let mut pair = Pair::new(codec, lossy(30, 0.1));
        pair.run(Duration::from_secs(20));
        for (index, hz) in [(0, 440.0), (1, 880.0)] {
            let stats = pair.parties[index].stream.stats();
            assert!((90..110).contains(&stats.lost), "{codec} {stats:?}");
            let mended = stats.concealed + stats.recovered;
            assert!((80..130).contains(&mended), "{codec} {stats:?}");
            let report = pair.heard(index, hz);
            assert!(
                report.longest_gap_ms <= 120.0 && report.seconds > 18.0,
                "{codec} {report:?}"
            );
            // Of losses at random few are in a row.
            let burst = stats.burst_packets.unwrap();
            assert!((1.0..1.4).contains(&burst), "{codec} {stats:?}");
            assert!(
                stats.concealed_ms <= 20 * stats.concealed,
                "{codec} {stats:?}"
            );
            assert!(
                stats.concealed_ms >= 10 * stats.concealed,
                "{codec} {stats:?}"
            );
            let (here, there) = (stats.mos.unwrap(), stats.remote_mos.unwrap());
            assert!((3.0..4.0).contains(&here), "{codec} {stats:?}");
            assert!((3.0..4.3).contains(&there), "{codec} {stats:?}");
            // The peer was told.
            let lost = stats.remote_lost.unwrap();
            assert!((30..=110).contains(&lost), "{codec} {stats:?}");
        }
    }
}

#[test]
fn reports_tell_the_round_trip() {
    let mut pair = Pair::new(Codec::Pcmu, delay(75));
    pair.run(Duration::from_secs(12));
    for party in &pair.parties {
        let round_trip = party.stream.stats().rtt_ms.unwrap();
        assert!((round_trip - 150.0).abs() < 0.1, "{round_trip}");
    }
}

#[test]
fn reports_keep_their_interval_and_their_path() {
    for mux in [true, false] {
        let mut pair = Pair::new(Codec::Pcma, delay(5));
        for party in &mut pair.parties {
            party.stream.config.rtcp_mux = mux;
        }
        pair.run(Duration::from_secs(60));
        let is_report = |packet: &&MediaTransmit| (200..=201).contains(&packet.payload[1]);
        let reports: Vec<_> = pair.parties[0].sent.iter().filter(is_report).collect();
        // About 1 s on average (e - 3/2 makes it a little less), after a first one at once.
        assert!((55..90).contains(&reports.len()), "{}", reports.len());
        let channel = if mux { Channel::Rtp } else { Channel::Rtcp };
        assert!(reports.iter().all(|packet| packet.channel == channel));
        let sound = pair.parties[0]
            .sent
            .iter()
            .filter(|packet| packet.payload[1] < 200);
        assert!(sound.clone().count() > 2_990);
        assert!(sound.clone().all(|packet| packet.channel == Channel::Rtp));
    }
}

#[test]
fn closing_says_bye_once_and_nothing_afterwards() {
    let mut pair = Pair::new(Codec::Opus, delay(10));
    pair.run(Duration::from_secs(1));
    let now = pair.now;
    pair.parties[0].stream.close(now);
    pair.parties[0].stream.close(now);
    let sent = pair.parties[0].sent.len();
    pair.run(Duration::from_secs(10));
    let after = &pair.parties[0].sent[sent..];
    assert_eq!(after.len(), 1);
    assert_eq!(rtcp::read(&after[0].payload).unwrap().byes.len(), 1);
    assert_eq!(pair.parties[1].events.last(), Some(&MediaEvent::Bye));
    assert_eq!(pair.parties[0].stream.poll_timeout(), None);
    // The end of the sound is not counted as loss without end.
    assert!(pair.parties[1].stream.stats().concealed <= 10);
}

#[test]
fn a_path_that_goes_away_and_comes_back_is_heard_again() {
    let mut pair = Pair::new(Codec::Opus, delay(20));
    pair.run(Duration::from_secs(2));
    pair.network = Box::new(|_| None);
    pair.run(Duration::from_secs(3));
    // Back, over a path that is 300 ms longer.
    pair.network = delay(320);
    for party in &mut pair.parties {
        party.heard.clear();
    }
    pair.run(Duration::from_secs(3));
    for (index, hz) in [(0, 440.0), (1, 880.0)] {
        let report = pair.heard(index, hz);
        assert!(
            report.seconds > 2.4 && report.longest_gap_ms <= 20.0,
            "{report:?}"
        );
        assert!(report.first.unwrap() < 0.5, "{report:?}");
    }
}

/// A packet of 20 ms of µ-law.
fn rtp(ssrc: u32, sequence: u16, timestamp: u32, payload_type: u8, payload: &[u8]) -> Vec<u8> {
    rtp_types::RtpPacketBuilder::<&[u8], &[u8]>::new()
        .payload_type(payload_type)
        .sequence_number(sequence)
        .timestamp(timestamp)
        .ssrc(ssrc)
        .payload(payload)
        .write_vec()
        .unwrap()
}

/// What is heard in the time of a packet.
fn play_packet(stream: &mut MediaStream, at: Instant) -> [[i16; FRAME]; 2] {
    [at, at + FRAME_TIME].map(|at| stream.playout(at).unwrap_or([0; FRAME]))
}

/// Sound for a packet.
fn sound_of(source: &mut Tone) -> [i16; 2 * FRAME] {
    let mut sound = [0; 2 * FRAME];
    for part in sound.as_chunks_mut().0 {
        source.read(part);
    }
    sound
}

fn encoded(encoder: &mut crate::codec::Encoder, source: &mut Tone) -> Vec<u8> {
    let mut payload = Vec::new();
    encoder.encode(&sound_of(source), &mut payload).unwrap();
    payload
}

fn receiver() -> (MediaStream, Instant) {
    let mut config = StreamConfig::new(Codec::Pcmu, "test");
    config.receive.push((8, Codec::Pcma));
    config.receive.push((96, Codec::Opus));
    config.telephone_event = Some(101);
    let now = Instant::now();
    (MediaStream::new(config, 5, now, UNIX_EPOCH).unwrap(), now)
}

#[test]
fn another_source_takes_over_after_two_packets_in_a_row() {
    let (mut stream, now) = receiver();
    let at = |n: u32| now + PACKET_TIME * n;
    for n in 0..50 {
        stream.handle_rtp(at(n), &rtp(1, n as u16, n * 160, 0, &[0x20; 160]));
        play_packet(&mut stream, at(n));
    }
    // One stray packet changes nothing.
    stream.handle_rtp(at(50), &rtp(66, 9, 9, 0, &[0xff; 160]));
    stream.handle_rtp(at(50), &rtp(1, 50, 50 * 160, 0, &[0x20; 160]));
    assert_eq!(stream.stats().rx_packets, 51);
    for n in 51..100 {
        stream.handle_rtp(
            at(n),
            &rtp(2, 7_000 + n as u16, 5 + n * 160, 0, &[0x21; 160]),
        );
        play_packet(&mut stream, at(n));
    }
    assert_eq!(stream.stats().rx_packets, 100);
    assert_eq!(stream.stats().lost, 0);
    assert!(stream.stats().buffer_ms.unwrap() < 80.0);
}

#[test]
fn the_sender_may_change_its_codec_and_clock() {
    let (mut stream, now) = receiver();
    let mut opus = crate::codec::Encoder::new(Codec::Opus, true).unwrap();
    let mut tone = Tone::new(700.0);
    let mut heard = Vec::new();
    for n in 0..300u32 {
        let at = now + PACKET_TIME * n;
        let payload = encoded(&mut opus, &mut tone);
        let packet = match n / 100 {
            0 => rtp(1, n as u16, n * 160, 8, &[0xd5; 160]),
            _ => rtp(1, n as u16, n * 960, 96, &payload),
        };
        stream.handle_rtp(at, &packet);
        heard.extend(play_packet(&mut stream, at));
    }
    let report = tone::measure_frames(&heard, 700.0, 0.05);
    assert!(
        report.seconds > 3.8 && report.longest_gap_ms < 10.0,
        "{report:?}"
    );
    assert_eq!(stream.stats().rx_packets, 300);
}

#[test]
fn new_terms_take_effect_without_a_hole_in_the_sound() {
    let mut pair = Pair::new(Codec::Opus, delay(20));
    pair.run(Duration::from_secs(3));
    let order = [Codec::Pcmu, Codec::G722, Codec::Pcma, Codec::Opus];
    for (n, codec) in order.into_iter().enumerate() {
        for (index, party) in pair.parties.iter_mut().enumerate() {
            let cname = party.stream.config().cname.clone();
            let mut config = StreamConfig::new(codec, "not taken");
            // The offerer takes both until the answer is there.
            config.receive = Codec::ALL
                .map(|codec| (codec.default_payload_type(), codec))
                .to_vec();
            config.ptime = Duration::from_millis(if n == 1 { 40 } else { 20 });
            // The answer arrives a bit later at the offerer.
            if index == 1 {
                pair.now += Duration::from_millis(3);
            }
            party.stream.renegotiate(pair.now, config).unwrap();
            assert_eq!(party.stream.config().cname, cname);
        }
        pair.run(Duration::from_secs(3));
        let last = pair.parties[0].sent.iter().rev();
        let mut sound = last.filter(|packet| !(192..=223).contains(&packet.payload[1]));
        let payload_type = sound.next().unwrap().payload[1] & 0x7f;
        assert_eq!(payload_type, codec.default_payload_type());
    }
    for (index, hz) in [(0, 440.0), (1, 880.0)] {
        let report = pair.heard(index, hz);
        assert!(
            report.longest_gap_ms <= 10.0 && report.seconds > 14.7,
            "{report:?}"
        );
        let stats = pair.parties[index].stream.stats();
        assert_eq!(stats.lost, 0, "{stats:?}");
        // Nothing was forgotten: 15 s, 3 of them in packets of 40 ms.
        assert!((660..690).contains(&stats.tx_packets), "{stats:?}");
        assert!((655..690).contains(&stats.rx_packets), "{stats:?}");
    }
}

#[test]
fn packets_under_old_terms_are_still_played() {
    let (mut stream, now) = receiver();
    let mut config = stream.config().clone();
    config.receive = vec![(0, Codec::Pcmu), (8, Codec::Opus)];
    stream.renegotiate(now, config).unwrap();
    // 96 is not in the new terms; 8 has another meaning, in which it is no Opus packet.
    let mut opus = crate::codec::Encoder::new(Codec::Opus, true).unwrap();
    let payload = encoded(&mut opus, &mut Tone::new(700.0));
    stream.handle_rtp(now, &rtp(1, 1, 960, 96, &payload));
    assert_eq!(stream.stats().rx_packets, 1);
    stream.handle_rtp(now, &rtp(1, 2, 1_920, 8, &[0xff; 160]));
    assert_eq!(stream.stats().rx_packets, 1);
}

#[test]
fn keys_are_reported_in_order() {
    let (mut stream, now) = receiver();
    let mut sequence = 0;
    for (press, code) in [1u8, 2, 11].into_iter().enumerate() {
        for duration in [1u8, 2, 3, 3, 3] {
            let timestamp = press as u32 * 4_000;
            stream.handle_rtp(
                now,
                &rtp(1, sequence, timestamp, 101, &[code, 10, duration, 0]),
            );
            sequence += 1;
        }
    }
    let events: Vec<_> = std::iter::from_fn(|| stream.poll_event()).collect();
    let digits = ['1', '2', '#'].map(MediaEvent::Digit);
    assert_eq!(events[0], MediaEvent::FirstReceived);
    assert_eq!(events[1..], digits);
}

#[test]
fn a_collision_of_ssrcs_is_resolved_once() {
    let (mut stream, now) = receiver();
    stream.handle_capture(now, &[0; 2 * FRAME]);
    let sent = stream.poll_transmit().unwrap().payload;
    stream.handle_rtp(now, &sent);
    let bye = stream.poll_transmit().unwrap().payload;
    assert_eq!(rtcp::read(&bye).unwrap().byes.len(), 1);
    assert_eq!(stream.poll_transmit(), None);
    stream.handle_capture(now + PACKET_TIME, &[0; 2 * FRAME]);
    let next = stream.poll_transmit().unwrap().payload;
    assert_ne!(next[8..12], sent[8..12]);
    assert_eq!(stream.stats().tx_packets, 2);
    // Looped packets under the new SSRC do not start a storm.
    stream.handle_rtp(now, &next);
    assert_eq!(stream.poll_transmit(), None);
    assert_eq!(stream.stats().rx_packets, 0);
}

#[test]
fn no_flipped_bit_and_no_truncation_panics() {
    let (mut stream, now) = receiver();
    let mut opus = crate::codec::Encoder::new(Codec::Opus, true).unwrap();
    let payload = encoded(&mut opus, &mut Tone::new(300.0));
    let mut extended = rtp(1, 1, 960, 96, &payload[..20]);
    extended[0] |= 0x31;
    let goods = [
        rtp(1, 1, 960, 96, &payload),
        rtp(1, 2, 160, 0, &[1; 30]),
        rtp(1, 3, 160, 101, &[1, 2, 3, 4]),
        extended,
    ];
    let mut moment = now;
    for good in &goods {
        for end in 0..good.len() {
            stream.handle_rtp(now, &good[..end]);
        }
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                moment += Duration::from_millis(5);
                stream.handle_rtp(moment, &bad);
                stream.handle_rtcp(moment, &bad);
                stream.playout(moment);
                while stream.poll_event().is_some() {}
            }
        }
    }
    // It still works.
    let mut heard = false;
    for n in 0..50u32 {
        stream.handle_rtp(moment, &rtp(9, n as u16, n * 160, 0, &[0x10; 160]));
        moment += PACKET_TIME;
        let frames = play_packet(&mut stream, moment);
        heard |= frames.as_flattened().iter().any(|s| s.abs() > 500);
    }
    assert!(heard);
}

#[test]
fn payload_types_and_packet_times_are_checked() {
    let now = Instant::now();
    let mut config = StreamConfig::new(Codec::Opus, "test");
    config.send.1 = 72;
    let refused = MediaStream::new(config.clone(), 1, now, UNIX_EPOCH);
    assert!(matches!(refused, Err(StreamError::PayloadType(72))));
    let mut odd = config.clone();
    odd.ptime = Duration::from_millis(30);
    let refused = MediaStream::new(odd, 1, now, UNIX_EPOCH);
    assert!(matches!(refused, Err(StreamError::PacketTime(_))));
    config.rtcp_mux = false;
    assert!(MediaStream::new(config.clone(), 1, now, UNIX_EPOCH).is_ok());
    config.telephone_event = Some(128);
    assert!(MediaStream::new(config, 1, now, UNIX_EPOCH).is_err());
}

#[test]
fn a_pause_of_the_microphone_leaps_the_timestamp() {
    let (mut stream, now) = receiver();
    for n in 0..2 {
        stream.handle_capture(now + FRAME_TIME * n, &[0; FRAME]);
    }
    // Half a packet, then a pause of three seconds.
    stream.handle_capture(now + FRAME_TIME * 2, &[0; FRAME]);
    let later = now + Duration::from_secs(3);
    for n in 0..2 {
        stream.handle_capture(later + FRAME_TIME * n, &[0; FRAME]);
    }
    let sent: Vec<_> = std::iter::from_fn(|| stream.poll_transmit()).collect();
    let packets: Vec<_> = sent
        .iter()
        .map(|packet| rtp_types::RtpPacket::parse(&packet.payload).unwrap())
        .collect();
    assert_eq!(packets.len(), 2);
    assert!(packets[0].marker_bit() && packets[1].marker_bit());
    let leap = packets[1].timestamp().wrapping_sub(packets[0].timestamp());
    assert_eq!(leap, 3_000 * 8);
}

#[test]
fn packets_last_as_long_as_they_were_agreed_to() {
    for codec in Codec::ALL {
        for ms in [10, 20, 40, 60] {
            let mut pair = Pair::new(codec, delay(25));
            for (seed, party) in pair.parties.iter_mut().enumerate() {
                let mut config = StreamConfig::new(codec, "test");
                config.ptime = Duration::from_millis(ms);
                party.stream = MediaStream::new(config, seed as u64, pair.now, UNIX_EPOCH).unwrap();
            }
            pair.run(Duration::from_secs(6));
            for (index, hz) in [(0, 440.0), (1, 880.0)] {
                let report = pair.heard(index, hz);
                assert!(report.seconds > 5.7, "{codec} {ms} {report:?}");
                assert!(report.longest_gap_ms < 10.0, "{codec} {ms} {report:?}");
                let sent = pair.parties[index].stream.stats().tx_packets;
                assert!(sent.abs_diff(6_000 / ms) <= 1, "{codec} {ms} {sent}");
            }
        }
    }
}

/// Both sides know all that we know of redundancy.
fn protected(network: Network) -> Pair {
    let mut pair = Pair::new(Codec::Opus, network);
    for (seed, party) in pair.parties.iter_mut().enumerate() {
        let mut config = StreamConfig::new(Codec::Opus, "test");
        config.redundancy = Redundancy::both();
        party.stream = MediaStream::new(config, seed as u64, pair.now, UNIX_EPOCH).unwrap();
    }
    pair
}

/// Loses `length` packets out of every `of`, but no RTCP (which is few), while `on` says so.
fn bursts(of: usize, length: usize, on: std::rc::Rc<std::cell::Cell<bool>>) -> Network {
    Box::new(move |packet| {
        // Both directions take turns.
        let lost = on.get() && (packet / 2) % of < length;
        (!lost).then_some(Duration::from_millis(20))
    })
}

#[test]
fn what_is_lost_comes_back_by_redundancy() {
    for share in [0.05, 0.1, 0.2] {
        let mut without = Pair::new(Codec::Opus, lossy(20, share));
        let mut with = protected(lossy(20, share));
        let [bare, protected] = [&mut without, &mut with].map(|pair| {
            // The first seconds are needed to learn of the loss.
            pair.run(Duration::from_secs(5));
            let before = pair.parties[1].stream.stats();
            pair.run(Duration::from_secs(30));
            let after = pair.parties[1].stream.stats();
            let bits = (after.rx_octets - before.rx_octets) as f64 * 8.0 / 30.0 / (1.0 - share);
            assert!(bits < 46_000.0, "{share} {bits}");
            after.concealed - before.concealed
        });
        assert!(
            protected * 8 < (1_500.0 * share) as u64,
            "{share}: {protected}"
        );
        assert!(protected * 4 < bare, "{share}: {protected} of {bare}");
    }
}

#[test]
fn the_delay_covers_the_bursts_and_shrinks_when_they_end() {
    let on = std::rc::Rc::new(std::cell::Cell::new(false));
    let mut pair = protected(bursts(40, 5, on.clone()));
    let target = |pair: &Pair| pair.parties[1].stream.stats().target_ms.unwrap();
    let delay = |pair: &Pair| pair.parties[1].stream.stats().buffer_ms.unwrap();
    pair.run(Duration::from_secs(10));
    assert!(delay(&pair) < 45.0, "{}", delay(&pair));
    assert_eq!(pair.parties[1].stream.stats().recovered, 0);
    on.set(true);
    pair.run(Duration::from_secs(10));
    // Five packets are 100 ms, and copies that come sooner after them are lost with them.
    assert!(target(&pair) >= 120.0, "{}", target(&pair));
    assert!(delay(&pair) >= 110.0, "{}", delay(&pair));
    let before = pair.parties[1].stream.stats().concealed;
    pair.run(Duration::from_secs(10));
    let concealed = pair.parties[1].stream.stats().concealed - before;
    assert!(concealed <= 4, "{concealed}");
    on.set(false);
    pair.run(Duration::from_secs(30));
    assert!(target(&pair) < 30.0, "{}", target(&pair));
    assert!(delay(&pair) < 45.0, "{}", delay(&pair));
}

#[test]
fn a_first_loss_is_reported_soon() {
    let on = std::rc::Rc::new(std::cell::Cell::new(false));
    let mut pair = protected(bursts(10, 2, on.clone()));
    pair.run(Duration::from_secs(5));
    let reports = |pair: &Pair| {
        let is_report = |packet: &&MediaTransmit| (200..=201).contains(&packet.payload[1]);
        pair.parties[1].sent.iter().filter(is_report).count()
    };
    let before = reports(&pair);
    on.set(true);
    pair.run(Duration::from_millis(500));
    assert!(reports(&pair) > before);
}

#[test]
fn a_browsers_redundancy_is_taken_and_answered_in_kind() {
    // The browser sends every payload twice, one packet apart, and never saw our parity.
    let mut config = StreamConfig::new(Codec::Opus, "test");
    let types = crate::redundancy::RedundancyTypes {
        red: 63,
        parity: None,
    };
    config.redundancy = Redundancy {
        send: Some(types),
        receive: Some(types),
    };
    let now = Instant::now();
    let mut stream = MediaStream::new(config, 5, now, UNIX_EPOCH).unwrap();
    let mut opus = crate::codec::Encoder::new(Codec::Opus, false).unwrap();
    let mut tone = Tone::new(500.0);
    let (mut before, mut heard) = (Vec::new(), Vec::new());
    for n in 0..300u32 {
        let at = now + PACKET_TIME * n;
        let payload = encoded(&mut opus, &mut tone);
        let length = before.len() as u32;
        let header = 1u32 << 31 | 96 << 24 | 960 << 10 | length;
        let red = [&header.to_be_bytes()[..], &[96], &before, &payload].concat();
        if n % 3 != 2 {
            stream.handle_rtp(at, &rtp(1, n as u16, n * 960, 63, &red));
        }
        heard.extend(play_packet(&mut stream, at));
        before = payload;
    }
    let stats = stream.stats();
    assert!(stats.recovered > 90 && stats.concealed < 4, "{stats:?}");
    let report = tone::measure_frames(&heard, 500.0, 0.05);
    assert!(report.seconds > 5.7, "{report:?}");
}

#[test]
fn clocks_that_differ_by_100_ppm_for_ten_minutes_are_not_heard() {
    // Bob's clock is slow: what Alice sends is more than he plays, and the other way round.
    let mut pair = Pair::new(Codec::Pcmu, delay(20));
    pair.parties[1].tick = Duration::from_nanos(10_001_000);
    pair.run(Duration::from_secs(600));
    for party in &pair.parties {
        let stats = party.stream.stats();
        assert!(stats.concealed <= 1 && stats.late == 0, "{stats:?}");
        assert!(stats.buffer_ms.unwrap() < 45.0, "{stats:?}");
    }
    for (index, hz) in [(0, 440.0), (1, 880.0)] {
        let report = pair.heard(index, hz);
        assert!(report.longest_gap_ms < 10.0, "{report:?}");
    }
}

#[test]
fn another_path_is_followed_at_once() {
    let way = std::rc::Rc::new(std::cell::Cell::new(20));
    let network = way.clone();
    let mut pair = Pair::new(
        Codec::Opus,
        Box::new(move |_| Some(Duration::from_millis(network.get()))),
    );
    pair.run(Duration::from_secs(5));
    for (ms, most) in [(180, 3), (30, 0)] {
        way.set(ms);
        let before = pair.parties[1].stream.stats();
        pair.parties
            .iter_mut()
            .for_each(|party| party.stream.path_changed());
        pair.run(Duration::from_secs(6));
        let stats = pair.parties[1].stream.stats();
        assert!(stats.late - before.late <= most, "{ms} {stats:?}");
        assert!(stats.buffer_ms.unwrap() < 45.0, "{ms} {stats:?}");
    }
}

#[test]
fn who_is_not_heard_ceases_and_begins_again_on_another_path() {
    // RTP from Alice reaches nobody after a second; RTCP does.
    let mut pair = Pair::new(Codec::Pcmu, delay(20));
    pair.run(Duration::from_secs(2));
    let silent = |pair: &mut Pair, seconds: u32| {
        for _ in 0..seconds * 100 {
            pair.run(FRAME_TIME);
            pair.parties[1]
                .inbox
                .retain(|(_, packet)| (192..=223).contains(&packet.payload[1]));
        }
    };
    silent(&mut pair, 25);
    let broken = MediaEvent::CircuitBreaker(CircuitBreaker::Media);
    let told = |pair: &Pair| {
        pair.parties[0]
            .events
            .iter()
            .filter(|e| **e == broken)
            .count()
    };
    assert_eq!(told(&pair), 1);
    let sent = pair.parties[0].stream.stats().tx_packets;
    silent(&mut pair, 5);
    assert_eq!(pair.parties[0].stream.stats().tx_packets, sent);
    pair.parties[0].stream.path_changed();
    pair.run(Duration::from_secs(30));
    assert!(pair.parties[0].stream.stats().tx_packets > sent + 1_000);
    assert_eq!(told(&pair), 1);
}

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
