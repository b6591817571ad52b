use super::*;

/// A speaker in virtual time, and the driver that answers it.
struct Desk {
    feed: Feed,
    drain: Drain,
    health: Arc<Health>,
    /// Samples that the device takes at a time, and how long it takes them for.
    piece: usize,
    period: Duration,
    now: Duration,
    next_call: Duration,
    /// When the driver that was woken gets to it.
    answer_at: Option<Duration>,
    played: Vec<f32>,
    /// The driver has two sides.
    sides: bool,
    /// What the device took for its second channel.
    played_right: Vec<f32>,
    spoken: usize,
}

impl Desk {
    /// A device that takes 5 ms at a time by a clock so many parts per million off.
    fn new(rate: u32, ppm: f64) -> Desk {
        Desk::with(Channels::Mono, 2, rate, ppm)
    }

    /// A device of so many channels, for sound of so many.
    fn with(channels: Channels, count: u16, rate: u32, ppm: f64) -> Desk {
        let health = Arc::new(Health::in_virtual_time());
        let speakers = Speakers {
            bell: Bell::silent(),
            channels,
        };
        let (line, drain) = speakers.line(rate, count, &health).unwrap();
        let period = Duration::from_millis(5).div_f64(1.0 + ppm / 1e6);
        Desk {
            feed: Feed::new(line),
            drain,
            health,
            piece: rate as usize / 200,
            period,
            now: Duration::ZERO,
            next_call: period,
            answer_at: None,
            played: Vec::new(),
            sides: channels == Channels::Stereo,
            played_right: Vec::new(),
            spoken: 0,
        }
    }

    /// A period, answered after the given time; what the ring held just before a frame came.
    fn step(&mut self, answering: Duration) -> Option<usize> {
        let mut least = None;
        while let Some(at) = self.answer_at.filter(|at| *at < self.next_call) {
            self.answer_at = None;
            self.now = at;
            self.health.set_time(at);
            while self.feed.wants_frame() {
                least.get_or_insert(self.feed.waiting());
                self.speak();
            }
        }
        self.now = self.next_call;
        self.next_call += self.period;
        self.health.set_time(self.now);
        let channels = self.drain.channels;
        let mut samples = vec![0.0f32; self.piece * channels];
        self.drain.play(&mut samples);
        self.played.extend(samples.iter().step_by(channels));
        let right = samples.iter().skip(channels - 1).step_by(channels);
        self.played_right.extend(right);
        if self.feed.wants_frame() && self.answer_at.is_none() {
            self.answer_at = Some(self.now + answering);
        }
        least
    }

    fn speak(&mut self) {
        let said = |hz: f64| {
            std::array::from_fn(|index| {
                let at = (self.spoken + index) as f64 / f64::from(SAMPLE_RATE);
                (8_000.0 * (std::f64::consts::TAU * hz * at).sin()) as i16
            })
        };
        let sides = [said(440.0), said(880.0)];
        self.spoken += FRAME;
        match self.sides {
            true => self.feed.write_sides(&sides),
            false => self.feed.write(&sides[0]),
        }
    }

    fn dry(&self) -> usize {
        self.drain.demand.dry.load(Ordering::Relaxed)
    }

    fn most_waiting(&mut self, steps: usize, answering: impl Fn(usize) -> Duration) -> usize {
        let mut most = 0;
        for step in 0..steps {
            self.step(answering(step));
            most = most.max(self.feed.waiting());
        }
        most
    }
}

fn micros(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

#[test]
fn no_more_waits_than_a_period_and_a_frame_whatever_the_clocks_do() {
    for ppm in [0.0, 100.0, -100.0, 1_000.0, -1_000.0] {
        let mut desk = Desk::new(SAMPLE_RATE, ppm);
        desk.most_waiting(100, |_| micros(300));
        let dry = desk.dry();
        // Ten minutes.
        let most = desk.most_waiting(120_000, |_| micros(300));
        assert_eq!(desk.dry(), dry, "{ppm} ppm");
        assert!(most <= 240 + FRAME, "{ppm} ppm: {most}");
        assert_eq!(desk.feed.reserve.get(), Duration::ZERO, "{ppm} ppm");
    }
}

#[test]
fn a_late_writer_gets_the_reserve_that_it_needs_and_loses_it_again() {
    let mut desk = Desk::new(SAMPLE_RATE, 0.0);
    let late = |step: usize| micros(if step % 50 < 2 { 9_000 } else { 300 });
    desk.most_waiting(2_000, late);
    let dry = desk.dry();
    assert!(dry > 0, "it was late, and nothing was missing");
    let most = desk.most_waiting(10_000, late);
    assert_eq!(desk.dry(), dry, "still missing");
    assert!(most < 2 * FRAME, "{most}");
    desk.most_waiting(10_000, |_| micros(300));
    assert_eq!(desk.feed.reserve.get(), Duration::ZERO);
    assert!(desk.most_waiting(2_000, |_| micros(300)) <= 240 + FRAME);
}

#[test]
fn a_stall_is_heard_once_and_leaves_no_delay() {
    let mut desk = Desk::new(SAMPLE_RATE, 0.0);
    desk.most_waiting(1_000, |_| micros(300));
    let dry = desk.dry();
    desk.step(micros(60_000));
    desk.step(micros(60_000));
    let most = desk.most_waiting(4_000, |_| micros(300));
    let missing = desk.dry() - dry;
    assert!((2_000..3_400).contains(&missing), "{missing}");
    assert!(most <= 240 + 2 * FRAME, "{most}");
}

#[test]
fn other_rates_and_trimmed_sound_stay_a_tone() {
    for (rate, stretch) in [
        (44_100, 1.0),
        (48_000, 0.997),
        (48_000, 1.003),
        (96_000, 1.0),
    ] {
        let mut desk = Desk::new(rate, 0.0);
        desk.feed.line.converter.trim(stretch);
        desk.most_waiting(600, |_| micros(300));
        let samples: Vec<i16> = desk.played.iter().map(|&s| (s * 32_767.0) as i16).collect();
        let tone = 440.0 / stretch;
        let report = crate::tone::measure(&samples, tone, rate, 0.2);
        assert!(report.seconds > 2.9, "{rate} {stretch}: {report:?}");
        assert_eq!(report.longest_gap_ms, 0.0, "{rate} {stretch}: {report:?}");
    }
}

/// Both sides stay beside each other to the sample, also when the device or its driver stood still.
#[test]
fn sides_are_played_apart_by_devices_of_two_channels_and_mixed_by_others() {
    for (count, rate) in [
        (2, SAMPLE_RATE),
        (2, 44_100),
        (6, SAMPLE_RATE),
        (1, SAMPLE_RATE),
    ] {
        let mut desk = Desk::with(Channels::Stereo, count, rate, 50.0);
        desk.most_waiting(300, |step| micros(if step == 200 { 60_000 } else { 300 }));
        // The device itself stands still, and what was written meanwhile is left out of both.
        desk.next_call += Duration::from_millis(80);
        desk.most_waiting(1_000, |_| micros(300));
        let tail = |played: &[f32]| -> Vec<i16> {
            let tail = played[played.len() - rate as usize..].iter();
            tail.map(|&sample| (sample * 32_767.0) as i16).collect()
        };
        let left = tail(&desk.played);
        let at = |sound: &[i16], hz| crate::tone::level_at(sound, hz, rate);
        if count == 1 {
            assert!(at(&left, 440.0) > 0.1 && at(&left, 880.0) > 0.1);
            continue;
        }
        let line = desk.feed.line.right.as_ref().unwrap();
        let waiting = line.ring.buffer().capacity() - line.ring.slots();
        assert_eq!(waiting, desk.feed.waiting(), "{count} {rate}");
        assert!(
            at(&left, 440.0) > 0.2 && at(&left, 880.0) < 0.01,
            "{count} {rate}"
        );
        if count == 2 {
            let right = tail(&desk.played_right);
            assert!(
                at(&right, 880.0) > 0.2 && at(&right, 440.0) < 0.01,
                "{rate}"
            );
        }
    }
}
