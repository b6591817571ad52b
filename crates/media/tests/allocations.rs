//! The audio path allocates nothing once it runs: two streams talk in virtual time over a network that
//! delays, reorders, repeats and loses, and after ten seconds every allocation of theirs is counted.
//! What libopus does with C's allocator is not seen here: it allocates what it makes at the begin.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::f64::consts::TAU;
use std::time::{Duration, Instant, SystemTime};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use ringtrue_media::comfort_noise::{CN_TYPE, ComfortNoise};
use ringtrue_media::redundancy::{PARITY_TYPE, RED_TYPE, Redundancy, RedundancyTypes};
use ringtrue_media::{
    Channels, Codec, FRAME, FRAME_TIME, MediaStream, SAMPLE_RATE, Sides, StreamConfig,
};

thread_local! {
    /// Whether this thread's allocations count, and how many there were.
    static COUNTS: Cell<bool> = const { Cell::new(false) };
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, watched.
struct Counting;

fn note() {
    // While a thread ends there is nothing left to count with.
    if COUNTS.try_with(Cell::get).unwrap_or(false) {
        let _ = COUNT.try_with(|count| count.set(count.get() + 1));
    }
}

// SAFETY: everything is the system's allocator's work; counting touches no memory but this thread's own.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller keeps the rules of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller keeps the rules of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note();
        // SAFETY: the caller keeps the rules of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the rules of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What `work` gives, and how often it allocated.
fn counted<T>(work: impl FnOnce() -> T) -> (T, u64) {
    COUNT.set(0);
    COUNTS.set(true);
    let given = work();
    COUNTS.set(false);
    (given, COUNT.get())
}

/// Plans settle and buffers reach their sizes,
const WARM_UP: Duration = Duration::from_secs(10);
/// and then everything counts.
const MEASURED: Duration = Duration::from_secs(10);

/// What the calls allocated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Allocations {
    capture: u64,
    transmit: u64,
    rtp: u64,
    playout: u64,
}

/// What was seen on the wire meanwhile.
#[derive(Debug, Default)]
struct Seen {
    packets: u64,
    lost: u64,
    red: u64,
    parity: u64,
    noise: u64,
}

/// One direction of the network, whose buffers are its own.
struct Way {
    dice: ChaCha8Rng,
    loss: f64,
    under_way: Vec<(Instant, Vec<u8>)>,
    spare: Vec<Vec<u8>>,
}

impl Way {
    fn luck(&mut self) -> f64 {
        f64::from(self.dice.next_u32()) / (f64::from(u32::MAX) + 1.0)
    }

    /// A packet takes 20 to 50 ms, one in a hundred 200 ms more, and one in a hundred comes twice. Says
    /// whether it was lost.
    fn send(&mut self, now: Instant, packet: &[u8]) -> bool {
        if !is_rtcp(packet) && self.luck() < self.loss {
            return true;
        }
        let copies = 1 + usize::from(self.luck() < 0.01);
        for _ in 0..copies {
            let straggler = if self.luck() < 0.01 { 0.2 } else { 0.0 };
            let seconds = 0.02 + 0.03 * self.luck() + straggler;
            let mut buffer = self.spare.pop().unwrap_or_default();
            buffer.clear();
            buffer.extend_from_slice(packet);
            let at = now + Duration::from_secs_f64(seconds);
            self.under_way.push((at, buffer));
        }
        false
    }

    /// The next packet that arrives until `now`.
    fn arrival(&mut self, now: Instant) -> Option<(Instant, Vec<u8>)> {
        let first = self.under_way.iter().enumerate();
        let (place, (at, _)) = first.min_by_key(|(_, (at, _))| *at)?;
        (*at <= now).then(|| self.under_way.swap_remove(place))
    }
}

fn is_rtcp(packet: &[u8]) -> bool {
    packet.get(1).is_some_and(|kind| (192..=223).contains(kind))
}

/// Two seconds of something like a voice, and two of a quiet room.
fn speech() -> Vec<i16> {
    let mut dice = ChaCha8Rng::seed_from_u64(3);
    let sample = |n: u32| {
        let noise = 30.0 * (f64::from(dice.next_u32()) / f64::from(u32::MAX) - 0.5);
        let t = f64::from(n) / f64::from(SAMPLE_RATE);
        let syllable = (TAU * 2.0 * t).sin().max(0.0) * f64::from(u8::from(t < 2.0));
        let phase = TAU * (130.0 * t - 2.0 * (TAU * 0.5 * t).cos());
        let voice: f64 = (1..20)
            .map(|k| (phase * f64::from(k)).sin() / f64::from(k))
            .sum();
        (5_000.0 * syllable * voice + noise) as i16
    };
    (0..4 * SAMPLE_RATE).map(sample).collect()
}

/// Two streams of this kind talk; what they allocate after the warm-up, and what was seen then.
fn talk(config: &StreamConfig, loss: f64) -> (Allocations, Seen) {
    let begin = Instant::now();
    let stream =
        |seed| MediaStream::new(config.clone(), seed, begin, SystemTime::UNIX_EPOCH).unwrap();
    let mut ends = [stream(1), stream(2)];
    let mut ways = [11, 12].map(|seed| Way {
        dice: ChaCha8Rng::seed_from_u64(seed),
        loss,
        under_way: Vec::new(),
        spare: Vec::new(),
    });
    let speech = speech();
    let (mut all, mut seen) = (Allocations::default(), Seen::default());
    let frames = (WARM_UP + MEASURED).as_millis() / FRAME_TIME.as_millis();
    for tick in 0..frames as u32 {
        let now = begin + FRAME_TIME * tick;
        let warm = now >= begin + WARM_UP;
        for (end, stream) in ends.iter_mut().enumerate() {
            let mut these = Allocations::default();
            // The second one says the same two seconds later.
            let said = (tick as usize + 200 * end) % (speech.len() / FRAME);
            let frame = &speech[said * FRAME..][..FRAME];
            step(
                stream,
                &mut ways,
                end,
                now,
                frame,
                &mut these,
                |packet, lost| {
                    if warm {
                        look(&mut seen, packet, lost);
                    }
                },
            );
            if warm {
                all.capture += these.capture;
                all.transmit += these.transmit;
                all.rtp += these.rtp;
                all.playout += these.playout;
            }
        }
    }
    // The network did what it was made for.
    let stats = ends.map(|stream| stream.stats());
    for stats in &stats {
        assert!(stats.rx_packets > 200, "{stats:?}");
        assert_eq!(stats.lost > 0, loss > 0.0, "{stats:?}");
        assert!(stats.duplicates > 0, "{stats:?}");
    }
    // Who waits for redundancy waits for stragglers, too.
    let late: u64 = stats.iter().map(|stats| stats.late).sum();
    assert!(late > 0 || config.redundancy.receive.is_some(), "{stats:?}");
    (all, seen)
}

/// A tick of 10 ms at one end.
fn step(
    stream: &mut MediaStream,
    ways: &mut [Way; 2],
    end: usize,
    now: Instant,
    frame: &[i16],
    these: &mut Allocations,
    mut sent: impl FnMut(&[u8], bool),
) {
    while let Some((at, packet)) = ways[1 - end].arrival(now) {
        let count = counted(|| stream.handle_rtp(at, &packet)).1;
        // Reports come along the same path, and may allocate.
        these.rtp += if is_rtcp(&packet) { 0 } else { count };
        ways[1 - end].spare.push(packet);
    }
    these.capture += match stream.config().send_channels {
        Channels::Mono => counted(|| stream.handle_capture(now, frame)).1,
        Channels::Stereo => {
            let sides = sides_of(frame);
            counted(|| stream.handle_capture_sides(now, &sides)).1
        }
    };
    these.playout += counted(|| {
        let heard = stream.playout(now);
        let sides = stream.sides().is_some();
        (heard, sides, stream.pace())
    })
    .1;
    stream.handle_timeout(now);
    while stream.poll_event().is_some() {}
    loop {
        let (transmit, count) = counted(|| stream.poll_transmit());
        these.transmit += count;
        let Some(transmit) = transmit else { break };
        let lost = ways[end].send(now, &transmit.payload);
        sent(&transmit.payload, lost);
        these.transmit += counted(|| stream.recycle(transmit.payload)).1;
    }
}

/// The voice is on the right, and its echo on the left.
fn sides_of(frame: &[i16]) -> Sides {
    let mut sides = [[0; FRAME]; 2];
    for (place, sample) in sides[0].iter_mut().skip(100).zip(frame) {
        *place = sample / 2;
    }
    sides[1].copy_from_slice(frame);
    sides
}

fn look(seen: &mut Seen, packet: &[u8], lost: bool) {
    if is_rtcp(packet) {
        return;
    }
    let payload_type = packet[1] & 0x7f;
    seen.packets += 1;
    seen.lost += u64::from(lost);
    seen.red += u64::from(payload_type == RED_TYPE);
    seen.parity += u64::from(payload_type == RED_TYPE && packet[12] & 0x7f == PARITY_TYPE);
    seen.noise += u64::from(payload_type == CN_TYPE);
}

/// Without loss and with 10 %; gives what was seen with it.
fn allocates_nothing(config: &StreamConfig) -> Seen {
    let [_, lossy] = [0.0, 0.1].map(|loss| {
        let (allocations, seen) = talk(config, loss);
        assert_eq!(allocations, Allocations::default(), "{loss} {seen:?}");
        seen
    });
    assert!(lossy.lost * 20 > lossy.packets, "{lossy:?}");
    lossy
}

fn protected(parity: Option<u8>) -> StreamConfig {
    let mut config = StreamConfig::new(Codec::Opus, "test");
    let types = RedundancyTypes {
        red: RED_TYPE,
        parity,
    };
    config.redundancy = Redundancy {
        send: Some(types),
        receive: Some(types),
    };
    config
}

#[test]
fn the_counter_counts() {
    let (kept, count) = counted(|| vec![1u8; 100]);
    assert_eq!(count, 1);
    assert_eq!(
        counted(|| kept.iter().map(|octet| u64::from(*octet)).sum::<u64>()),
        (100, 0)
    );
    assert_eq!(counted(|| drop(kept)), ((), 0));
}

#[test]
fn opus() {
    let seen = allocates_nothing(&StreamConfig::new(Codec::Opus, "test"));
    assert_eq!(seen.red, 0, "{seen:?}");
}

#[test]
fn opus_with_copies() {
    let seen = allocates_nothing(&protected(None));
    assert!(seen.red > 400 && seen.parity == 0, "{seen:?}");
}

#[test]
fn opus_with_parity() {
    let seen = allocates_nothing(&protected(Some(PARITY_TYPE)));
    assert!(seen.parity > 100, "{seen:?}");
}

#[test]
fn opus_with_dred() {
    let mut config = StreamConfig::new(Codec::Opus, "test");
    config.opus.dred_ms = 300;
    allocates_nothing(&config);
}

#[test]
fn opus_in_stereo() {
    for mut config in [
        StreamConfig::new(Codec::Opus, "test"),
        protected(None),
        protected(Some(PARITY_TYPE)),
    ] {
        config.send_channels = Channels::Stereo;
        config.receive_channels = Channels::Stereo;
        allocates_nothing(&config);
    }
}

#[test]
fn pcmu() {
    allocates_nothing(&StreamConfig::new(Codec::Pcmu, "test"));
}

#[test]
fn g722() {
    allocates_nothing(&StreamConfig::new(Codec::G722, "test"));
}

#[test]
fn pauses_of_opus() {
    let mut config = StreamConfig::new(Codec::Opus, "test");
    config.dtx = true;
    let seen = allocates_nothing(&config);
    assert!(seen.packets < 950, "{seen:?}");
}

#[test]
fn comfort_noise() {
    let mut config = StreamConfig::new(Codec::Pcmu, "test");
    config.dtx = true;
    config.comfort_noise = ComfortNoise {
        send: Some(CN_TYPE),
        receive: Some(CN_TYPE),
    };
    let seen = allocates_nothing(&config);
    assert!(seen.noise > 0, "{seen:?}");
}
