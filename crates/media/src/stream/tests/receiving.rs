//! Single packets, as the peer sends them or nobody should.

use super::*;

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
    let mut opus = crate::codec::Encoder::new(Codec::Opus, true, Channels::Mono).unwrap();
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
fn packets_under_old_terms_are_still_played() {
    let (mut stream, now) = receiver();
    let mut config = stream.config().clone();
    config.receive = vec![(0, Codec::Pcmu), (8, Codec::Opus)];
    stream.renegotiate(now, config).unwrap();
    // 96 is not in the new terms; 8 has another meaning, in which it is no Opus packet.
    let mut opus = crate::codec::Encoder::new(Codec::Opus, true, Channels::Mono).unwrap();
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
    let mut opus = crate::codec::Encoder::new(Codec::Opus, true, Channels::Mono).unwrap();
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
