//! The figures of how it sounds, here and as the peer reports them (RFC 3611 section 4.7).

use super::*;
use crate::rtcp::{UNKNOWN, VoipMetrics};

/// Both want to know how they are heard, where `wanted` says so.
fn reporting(codec: Codec, wanted: [bool; 2], network: Network) -> Pair {
    let mut pair = Pair::new(codec, network);
    for (seed, (party, wanted)) in pair.parties.iter_mut().zip(wanted).enumerate() {
        let mut config = StreamConfig::new(codec, "test");
        config.voip_metrics = wanted;
        config.telephone_event = Some(101);
        party.stream = MediaStream::new(config, seed as u64, pair.now, UNIX_EPOCH).unwrap();
    }
    pair
}

fn is_rtcp(packet: &MediaTransmit) -> bool {
    (192..=223).contains(&packet.payload[1])
}

/// The blocks that this party sent.
fn blocks(party: &Party) -> Vec<VoipMetrics> {
    let reports = party.sent.iter().filter(|packet| is_rtcp(packet));
    reports
        .flat_map(|packet| rtcp::read(&packet.payload).unwrap().voip)
        .map(|(_, metrics)| metrics)
        .collect()
}

/// Runs for so long; what Alice sends is lost where the pattern has a `0`, again and again.
fn run_with_losses(pair: &mut Pair, seconds: u32, pattern: &str) {
    let mut first = None;
    for _ in 0..seconds * 100 {
        pair.run(FRAME_TIME);
        pair.parties[1].inbox.retain(|(_, packet)| {
            let number = u16::from_be_bytes([packet.payload[2], packet.payload[3]]);
            is_rtcp(packet) || {
                let place = number.wrapping_sub(*first.get_or_insert(number));
                pattern.as_bytes()[usize::from(place) % pattern.len()] == b'1'
            }
        });
    }
}

/// What a stream knows from its peer's blocks.
fn remote(stream: &MediaStream) -> [Option<f64>; 6] {
    let stats = stream.stats();
    [
        stats.remote_mos,
        stats.remote_r_factor,
        stats.remote_loss_percent,
        stats.remote_burst_ms,
        stats.remote_burst_density,
        stats.remote_buffer_ms,
    ]
}

/// Four packets of forty are lost: in bursts of six, 680 ms apart.
#[test]
fn bursts_on_the_way_are_in_the_report_and_in_the_readers_figures() {
    let mut pair = reporting(Codec::Pcmu, [true; 2], delay(20));
    let pattern = "1".repeat(20) + "010010" + &"1".repeat(14);
    run_with_losses(&mut pair, 60, &pattern);
    let [alice, bob] = &pair.parties;
    let (reader, reporter) = (alice.stream.stats(), bob.stream.stats());
    let near = |is: Option<f64>, should: f64, by: f64| {
        assert!((is.unwrap() - should).abs() <= by, "{is:?} {should}");
    };
    near(reporter.loss_percent, 10.0, 0.2);
    assert_eq!(reporter.burst_ms, Some(120.0));
    assert_eq!(reporter.burst_density, Some(4.0 / 6.0));
    near(reporter.gap_ms, 680.0, 15.0);
    assert_eq!(reporter.gap_density, Some(0.0));
    assert_eq!(reporter.discarded, 0);
    // Runs of 4/3 packets, where losses at random have 10/9: 95 * 10 / (10 / 1.2 + 25.1) = 28.4.
    near(reporter.r_factor, 64.8, 0.5);
    near(reporter.mos, 3.35, 0.04);

    let sent = blocks(bob);
    assert!((9..=12).contains(&sent.len()), "{}", sent.len());
    let last = sent.last().unwrap();
    assert_eq!((last.loss_rate, last.discard_rate), (25, 0));
    assert_eq!((last.burst_density, last.gap_density), (170, 0));
    assert_eq!((last.burst_ms, last.round_trip_ms), (120, 40));
    assert_eq!((last.gmin, last.receiver), (16, 0b1011_1111));
    assert_eq!((last.r_factor, last.mos_lq, last.mos_cq), (65, 33, 33));
    assert_eq!(
        [last.external_r_factor, last.echo_return_loss],
        [UNKNOWN; 2]
    );
    // A sine of -12 dBFS; a full one is +3.14 dBm0.
    assert_eq!(last.signal_level as i8, -9);
    // A packet, the filter before the encoder, and the jitter buffer.
    let own = last.end_system_ms - last.nominal_ms;
    assert!((21..=22).contains(&own), "{last:?}");
    assert!((30..=80).contains(&last.nominal_ms), "{last:?}");
    assert!(last.nominal_ms < last.maximum_ms && last.maximum_ms < last.absolute_ms);

    let density = 170.0 / 256.0;
    let percent = 25.0 / 2.56;
    let said = [3.3, 65.0, percent, 120.0, density, last.nominal_ms.into()];
    assert_eq!(remote(&alice.stream), said.map(Some));
    // The other way nothing was lost.
    assert_eq!((reader.loss_percent, reader.burst_ms), (Some(0.0), None));
    let clean = remote(&bob.stream);
    assert_eq!(clean[..5], [Some(4.4), Some(93.0), Some(0.0), None, None]);
}

#[test]
fn only_who_asks_or_tells_is_told_and_the_last_report_tells_once_more() {
    let mut silent = reporting(Codec::Opus, [false, false], delay(20));
    silent.run(Duration::from_secs(12));
    for party in &silent.parties {
        assert_eq!(blocks(party), []);
        assert_eq!(party.stream.stats().remote_r_factor, None);
        assert!(party.stream.stats().remote_mos.unwrap() > 4.4);
    }
    // Alice had no room to ask; Bob tells all the same, and she in return.
    let mut pair = reporting(Codec::Opus, [false, true], delay(20));
    pair.run(Duration::from_secs(12));
    let before = blocks(&pair.parties[1]).len();
    assert!((2..=3).contains(&before), "{before}");
    assert!((1..=3).contains(&blocks(&pair.parties[0]).len()));
    for party in &pair.parties {
        assert_eq!(party.stream.stats().remote_r_factor, Some(93.0));
    }
    let now = pair.now;
    pair.parties[1].stream.close(now);
    pair.run(Duration::from_millis(100));
    let bob = &pair.parties[1];
    assert_eq!(blocks(bob).len(), before + 1);
    // RFC 3550 section 6.1: BYE is the last packet.
    let bye = &bob.sent.last().unwrap().payload;
    assert_eq!(bye[bye.len() - 8..][..4], [0x81, 203, 0, 1]);
    assert_eq!(rtcp::read(bye).unwrap().byes.len(), 1);
}

#[test]
fn what_redundancy_brings_back_is_not_lost_to_the_ear() {
    let mut pair = protected(lossy(20, 0.1));
    pair.run(Duration::from_secs(10));
    let before = pair.parties[1].stream.stats();
    pair.run(Duration::from_secs(30));
    let stats = pair.parties[1].stream.stats();
    assert!(stats.lost - before.lost > 110, "{stats:?}");
    let percent = stats.loss_percent.unwrap();
    assert!(percent < 2.0 && stats.mos.unwrap() > 4.1, "{stats:?}");
}

/// One packet of a hundred takes 300 ms longer: that is too rare to wait for.
#[test]
fn what_comes_too_late_is_discarded_and_not_lost() {
    let network: Network = Box::new(|packet| {
        let late = packet % 101 == 50;
        Some(Duration::from_millis(if late { 320 } else { 20 }))
    });
    let mut pair = reporting(Codec::Pcma, [true; 2], network);
    pair.run(Duration::from_secs(60));
    for party in &pair.parties {
        let stats = party.stream.stats();
        assert!((20..=40).contains(&stats.discarded), "{stats:?}");
        assert_eq!(stats.discarded, stats.late);
        assert!(
            (0.6..1.4).contains(&stats.loss_percent.unwrap()),
            "{stats:?}"
        );
        // They are far apart.
        assert_eq!(stats.burst_ms, None);
        let density = stats.gap_density.unwrap();
        assert!((0.006..0.014).contains(&density), "{stats:?}");
        let last = *blocks(party).last().unwrap();
        assert_eq!((last.loss_rate, last.burst_ms), (0, 0));
        assert!((1..=3).contains(&last.discard_rate), "{last:?}");
    }
}

#[test]
fn pauses_and_keys_are_no_losses() {
    let (mut stream, now) = receiver();
    let mut at = now;
    for sequence in 0..200u16 {
        // After a hundred packets nothing comes for three seconds.
        let leap = if sequence < 100 { 0 } else { 150 };
        let timestamp = (u32::from(sequence) + leap) * 160;
        if sequence == 100 {
            for _ in 0..150 {
                play_packet(&mut stream, at);
                at += PACKET_TIME;
            }
        }
        stream.handle_rtp(at, &rtp(1, sequence, timestamp, 0, &[0x20; 160]));
        play_packet(&mut stream, at);
        at += PACKET_TIME;
    }
    assert_eq!(stream.stats().loss_percent, Some(0.0));

    let mut pair = reporting(Codec::Pcmu, [true; 2], delay(20));
    pair.run(Duration::from_secs(1));
    for key in "159*".chars() {
        assert!(pair.parties[0].stream.press_key(key));
    }
    pair.run(Duration::from_secs(4));
    let stats = pair.parties[1].stream.stats();
    assert_eq!((stats.lost, stats.loss_percent), (0, Some(0.0)));
}

#[test]
fn blocks_that_are_none_change_nothing() {
    let (mut stream, now) = receiver();
    stream.handle_capture(now, &[0; 2 * FRAME]);
    let sent = stream.poll_transmit().unwrap().payload;
    let ssrc = u32::from_be_bytes(sent[8..12].try_into().unwrap());
    let report = |extended: &[u8]| {
        let report = Report {
            ssrc: 9,
            cname: "test",
            sender: None,
            block: None,
            extended,
            bye: false,
        };
        report.write()
    };
    let block = [
        &[7, 0, 0, 8][..],
        &ssrc.to_be_bytes(),
        &[
            64, 0, 128, 0, 0, 200, 2, 0, 0, 40, 0, 60, 0xec, 0xc4, 127, 16,
        ],
        &[62, 127, 33, 32, 0xb0, 0, 0, 50, 1, 0, 2, 0],
    ]
    .concat();
    stream.handle_rtcp(now, &report(&block));
    let said = [3.2, 62.0, 25.0, 200.0, 0.5, 50.0].map(Some);
    assert_eq!(remote(&stream), said);

    // Values that would be seen, in blocks that are too short, too long, of another kind, about
    // somebody else, or about nobody; and ratings that there are not.
    let mut other = block.clone();
    other[8] = 255;
    let with = |at: usize, value: u8| {
        let mut bad = other.clone();
        bad[at] = value;
        bad
    };
    let mut bad = vec![with(0, 6), with(4, block[4] ^ 1), with(3, 0), with(3, 7)];
    bad.extend([
        with(3, 9),
        with(2, 0xff),
        [&with(3, 9)[..], &[0; 4]].concat(),
    ]);
    bad.extend((0..9).map(|words| other[..4 * words].to_vec()));
    bad.push([&[7, 0, 0, 8], &other[..32]].concat());
    for extended in &bad {
        stream.handle_rtcp(now, &report(extended));
        assert_eq!(remote(&stream), said, "{extended:?}");
    }
    for absurd in [101, 126, 128, 255] {
        let mut bad = block.clone();
        (bad[24], bad[27]) = (absurd, absurd);
        stream.handle_rtcp(now, &report(&bad));
        assert_eq!(remote(&stream), said);
    }
    // Cut off anywhere; whatever octet is another, it goes on.
    let whole = report(&other);
    for end in 0..whole.len() {
        stream.handle_rtcp(now, &whole[..end]);
        assert_eq!(remote(&stream), said, "{end}");
    }
    for at in 0..whole.len() {
        for value in 0..=255 {
            let mut bad = whole.clone();
            bad[at] = value;
            stream.handle_rtcp(now, &bad);
        }
    }
    let stats = stream.stats();
    assert!(
        stats
            .remote_r_factor
            .is_none_or(|r| (0.0..=100.0).contains(&r))
    );
    assert!((1.0..=5.0).contains(&stats.remote_mos.unwrap_or(1.0)));
}
