//! What is lost comes back.

use super::*;

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
    let mut opus = crate::codec::Encoder::new(Codec::Opus, false, Channels::Mono).unwrap();
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
