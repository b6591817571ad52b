//! A sender, a network and a playout in virtual time.

use proptest::prelude::*;

use super::*;

const TICK: Duration = Duration::from_millis(20);

fn packet(sequence: u16, timestamp: u32) -> Packet {
    Packet {
        sequence,
        timestamp,
        marker: false,
        payload_type: 0,
        duration: 160,
        pause: Pause::No,
        payload: vec![0; 160],
    }
}

/// Drives a buffer of 8 kHz timestamps as a playout of one packet a tick does.
struct Player {
    buffer: JitterBuffer,
    now: Instant,
    played: Vec<u32>,
    missing: usize,
    pauses: usize,
    /// Sound that was stretched (+) or left out (-), in ticks of the clock.
    ahead: i64,
}

impl Player {
    fn new() -> Player {
        Player {
            buffer: JitterBuffer::new(8_000, Settings::default()),
            now: Instant::now(),
            played: Vec::new(),
            missing: 0,
            pauses: 0,
            ahead: 0,
        }
    }

    fn ahead(&self) -> Duration {
        TICK * (self.ahead.max(0) / 160) as u32
    }

    /// One tick of the playout at `now`.
    fn play(&mut self) {
        match self.buffer.tick(self.now, self.ahead()) {
            Advice::Stretch => self.ahead += 64,
            Advice::Shorten => self.ahead -= 64,
            Advice::Keep => {}
        }
        while self.ahead < 160 {
            match self.buffer.next(self.now) {
                Step::Packet(packet) => {
                    self.played.push(packet.timestamp);
                    self.ahead += i64::from(packet.duration);
                }
                Step::Missing { duration, lost, .. } => {
                    self.missing += usize::from(lost);
                    self.pauses += usize::from(!lost);
                    self.ahead += i64::from(duration);
                }
                Step::Wait => return,
            }
        }
        self.ahead -= 160;
    }

    /// Plays all of `arrivals` (milliseconds, packet), which need not be in order, and two
    /// seconds beyond.
    fn run(&mut self, mut arrivals: Vec<(u64, Packet)>) -> Vec<Inserted> {
        arrivals.sort_by_key(|(at, _)| *at);
        let begin = self.now;
        let end = arrivals.last().map_or(0, |(at, _)| *at) + 300;
        let mut fates = Vec::new();
        let mut arrivals = arrivals.into_iter().peekable();
        for tick in 0..=end / 20 {
            while let Some((at, packet)) = arrivals.next_if(|(at, _)| *at <= tick * 20 + 7) {
                fates.push(
                    self.buffer
                        .insert(begin + Duration::from_millis(at), packet),
                );
            }
            self.now = begin + TICK * tick as u32 + Duration::from_millis(7);
            self.play();
        }
        fates
    }
}

fn steady(count: u32) -> Vec<(u64, Packet)> {
    (0..count)
        .map(|n| (u64::from(n) * 20, packet(n as u16, n * 160)))
        .collect()
}

#[test]
fn steady_packets_are_played_in_order_within_45_ms() {
    let mut player = Player::new();
    let begin = player.now;
    let fates = player.run(steady(2));
    assert_eq!(fates, [Inserted::Restarted, Inserted::Queued]);
    let mut player = Player::new();
    player.buffer.insert(begin, packet(1, 160));
    for ms in [0, 10, 19] {
        player
            .buffer
            .tick(begin + Duration::from_millis(ms), Duration::ZERO);
        assert_eq!(player.buffer.next(begin), Step::Wait, "{ms}");
    }
    player
        .buffer
        .tick(begin + Duration::from_millis(39), Duration::ZERO);
    assert_eq!(player.buffer.next(begin), Step::Packet(packet(1, 160)));
    let mut player = Player::new();
    player.run(steady(500));
    assert_eq!(
        player.played,
        (0..500).map(|n| n * 160).collect::<Vec<u32>>()
    );
    let delay = player.buffer.delay().unwrap();
    assert!(delay < Duration::from_millis(120), "{delay:?}");
}

#[test]
fn what_the_speaker_stood_still_for_is_not_heard_late_from_then_on() {
    let mut player = Player::new();
    let begin = player.now;
    let mut stood = Duration::ZERO;
    for n in 0..600u32 {
        let at = begin + TICK * n;
        player.buffer.insert(at, packet(n as u16, n * 160));
        // The speaker stands still for 200 ms.
        if (200..210).contains(&n) {
            stood += TICK;
            continue;
        }
        player.now = at + Duration::from_millis(7);
        player.play();
        let delay = player.buffer.delay().unwrap_or_default();
        match n {
            ..200 => assert!(delay < Duration::from_millis(45), "{n} {delay:?}"),
            211..230 => assert!(delay > Duration::from_millis(150), "{n} {delay:?}"),
            240.. => assert!(delay < Duration::from_millis(60), "{n} {delay:?}"),
            _ => {}
        }
    }
    assert_eq!(stood, TICK * 10);
    // What came meanwhile is missing, and no more.
    let played = player.played.len();
    assert!((600 - 12..=600 - 8).contains(&played), "{played}");
    assert!(player.missing <= 1, "{}", player.missing);
}

#[test]
fn a_playout_that_catches_up_after_a_standstill_loses_nothing() {
    let mut player = Player::new();
    let begin = player.now;
    for n in 0..600u32 {
        let at = begin + TICK * n;
        player.buffer.insert(at, packet(n as u16, n * 160));
        let ticks = match n {
            200..210 => 0,
            210 => 11,
            _ => 1,
        };
        player.now = at + Duration::from_millis(7);
        (0..ticks).for_each(|_| player.play());
    }
    assert!(player.played.len() >= 597, "{}", player.played.len());
    assert!(player.missing <= 1, "{}", player.missing);
}

#[test]
fn reordered_packets_are_put_in_order_and_duplicates_dropped() {
    let mut arrivals = steady(100);
    for n in (10..90).step_by(10) {
        // Swapped with its follower, and the follower comes twice.
        let at = arrivals[n].0;
        arrivals[n].0 = at + 21;
        let twin = arrivals[n + 1].clone();
        arrivals.push((twin.0 + 3, twin.1));
    }
    let mut player = Player::new();
    let fates = player.run(arrivals);
    assert_eq!(
        player.played,
        (0..100).map(|n| n * 160).collect::<Vec<u32>>()
    );
    assert_eq!(
        fates.iter().filter(|f| **f == Inserted::Duplicate).count(),
        8
    );
}

#[test]
fn sequence_and_timestamp_wrap_around() {
    let begin = u32::MAX - 160 * 50;
    let arrivals = (0..100u32)
        .map(|n| {
            (
                u64::from(n) * 20,
                packet(
                    65_500u16.wrapping_add(n as u16),
                    begin.wrapping_add(n * 160),
                ),
            )
        })
        .collect();
    let mut player = Player::new();
    let fates = player.run(arrivals);
    assert_eq!(player.played.len(), 100);
    assert!(fates[1..].iter().all(|f| *f == Inserted::Queued));
}

#[test]
fn a_lost_packet_is_missing_once_and_its_follower_is_there_for_fec() {
    let mut arrivals = steady(50);
    arrivals.remove(20);
    let mut player = Player::new();
    player.run(arrivals);
    assert_eq!(player.played.len(), 49);
    // The end of the stream is missing too: compare with the same without the loss.
    let mut whole = Player::new();
    whole.run(steady(50));
    assert_eq!(player.missing, whole.missing + 1);

    let mut buffer = JitterBuffer::new(8_000, Settings::default());
    let now = Instant::now();
    buffer.insert(now, packet(1, 160));
    buffer.insert(now, packet(3, 480));
    buffer.tick(now + TICK * 2, Duration::ZERO);
    assert_eq!(buffer.next(now + TICK * 2), Step::Packet(packet(1, 160)));
    let missing = Step::Missing {
        duration: 160,
        next: Some(Following {
            sequence: 3,
            payload_type: 0,
            payload: vec![0; 160],
            distance: 160,
        }),
        lost: true,
    };
    assert_eq!(buffer.next(now + TICK * 3), missing);
    assert_eq!(buffer.next(now + TICK * 4), Step::Packet(packet(3, 480)));
}

#[test]
fn a_pause_of_the_sender_is_no_loss() {
    let mut arrivals = steady(20);
    for n in 0..20u32 {
        let at = 1_400 + u64::from(n) * 20;
        arrivals.push((at, packet(20 + n as u16, at as u32 * 8)));
    }
    arrivals[19].1.pause = Pause::Begun;
    let mut player = Player::new();
    player.run(arrivals);
    assert_eq!(player.played.len(), 40);
    assert!(player.pauses >= 48, "{}", player.pauses);
}

#[test]
fn jitter_makes_it_grow_and_calm_makes_it_shrink() {
    let mut player = Player::new();
    let mut arrivals = steady(3_000);
    // 20 s of jitter between 0 and 80 ms, then calm.
    let mut state = 1u64;
    for (at, _) in arrivals.iter_mut().take(1_000) {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        *at += (state >> 33) % 80;
    }
    let fates = player.run(arrivals[..1_000].to_vec());
    let late = fates.iter().filter(|fate| **fate == Inserted::Late).count();
    assert!(late < 30, "{late}");
    let target = player.buffer.target().unwrap();
    assert!((70..110).contains(&target.as_millis()), "{target:?}");

    let mut calm = Player::new();
    calm.run(arrivals);
    assert!(calm.buffer.target().unwrap().as_millis() <= 24);
    assert!(calm.played.len() > 2_960, "{}", calm.played.len());
}

#[test]
fn a_sender_with_a_faster_or_slower_clock_is_followed() {
    for period in [19.98, 20.02] {
        let arrivals = (0..15_000u32)
            .map(|n| ((f64::from(n) * period) as u64, packet(n as u16, n * 160)))
            .collect();
        let mut player = Player::new();
        player.run(arrivals);
        // 1000 ppm over 300 s are 15 packets' worth: none of them is lost.
        assert!(
            player.played.len() > 14_990,
            "{} {}",
            period,
            player.played.len()
        );
        assert!(player.missing < 40, "{} {}", period, player.missing);
    }
}

#[test]
fn a_jump_of_the_timestamps_starts_anew_after_two_packets() {
    let mut arrivals = steady(50);
    for n in 50..100u32 {
        arrivals.push((u64::from(n) * 20, packet(n as u16, n * 160 + 3_000_000_000)));
    }
    // One stray packet does nothing.
    arrivals.insert(30, (30 * 20, packet(7, 99_999_999)));
    let mut player = Player::new();
    let fates = player.run(arrivals);
    assert_eq!(fates.iter().filter(|f| **f == Inserted::Suspect).count(), 2);
    assert!(player.played.len() >= 99, "{}", player.played.len());
}

#[test]
fn a_longer_path_is_followed_after_four_late_packets() {
    let mut arrivals = steady(100);
    for (at, _) in arrivals.iter_mut().skip(50) {
        *at += 500;
    }
    let mut player = Player::new();
    player.run(arrivals);
    assert!(player.played.len() >= 96, "{}", player.played.len());
}

#[test]
fn an_owner_that_does_not_play_does_not_make_it_grow() {
    let mut buffer = JitterBuffer::new(8_000, Settings::default());
    let begin = Instant::now();
    for n in 0..5_000u32 {
        buffer.insert(begin + TICK * n, packet(n as u16, n * 160));
    }
    assert_eq!(buffer.len(), Settings::default().capacity);
    // When it plays at last, it hears what is new.
    let now = begin + TICK * 5_000;
    let mut last = 0;
    for tick in 0..4 {
        let now = now + TICK * tick;
        buffer.tick(now, Duration::ZERO);
        if let Step::Packet(packet) = buffer.next(now) {
            last = packet.timestamp;
        }
    }
    assert!(last > 4_970 * 160, "{}", last / 160);
}

proptest! {
    /// Whatever the network does: memory is bounded, nothing is played twice or backwards, and
    /// what comes in time is played.
    #[test]
    fn any_network(
        fates in prop::collection::vec((0u64..120, 0u8..100, any::<bool>()), 1..400),
        loss in 0u8..60,
    ) {
        let mut arrivals = Vec::new();
        let mut sent = 0;
        for (n, (delay, luck, twice)) in fates.into_iter().enumerate() {
            if luck < loss {
                continue;
            }
            sent += 1;
            let sound = packet(n as u16, n as u32 * 160);
            arrivals.push((n as u64 * 20 + delay, sound.clone()));
            if twice {
                arrivals.push((n as u64 * 20 + delay + u64::from(luck), sound));
            }
        }
        let mut player = Player::new();
        let fates = player.run(arrivals);
        let count = |fate| fates.iter().filter(|f| **f == fate).count();
        prop_assert!(player.played.windows(2).all(|pair| pair[0] < pair[1]));
        prop_assert!(player.played.len() <= sent);
        let restarts = count(Inserted::Restarted).saturating_sub(1);
        // A restart throws away what is waiting; the rest is either late or heard.
        prop_assert!(player.played.len() + count(Inserted::Late) + 8 * restarts >= sent,
            "{} played, {} late, {} restarts, {} sent", player.played.len(),
            count(Inserted::Late), restarts, sent);
    }

    /// Packets that no honest sender sends.
    #[test]
    fn any_packets(
        packets in prop::collection::vec((any::<u16>(), any::<u32>(), any::<bool>(), 1u32..6_000, 0u64..50), 1..300),
    ) {
        let mut player = Player::new();
        for (sequence, timestamp, marker, duration, wait) in packets {
            player.now += Duration::from_millis(wait);
            let mut sound = packet(sequence, timestamp);
            sound.marker = marker;
            sound.duration = duration;
            player.buffer.insert(player.now, sound);
            player.play();
            prop_assert!(player.buffer.len() <= Settings::default().capacity);
        }
    }
}
