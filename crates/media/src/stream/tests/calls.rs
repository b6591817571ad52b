//! Calls over all kinds of networks.

use super::*;

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
