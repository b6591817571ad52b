//! Two streams that talk over a network of the test's making, in virtual time.
//!
//!     alice (880 Hz) ---- delay, jitter, loss ---- bob (440 Hz)

mod calls;
mod dred;
mod receiving;
mod redundancy;
mod stereo;
mod voip;

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
    /// What is said on the right, if it is not the same.
    right: Option<Tone>,
    next_tick: Instant,
    tick: Duration,
    /// How late each tick is served.
    stalls: Box<dyn FnMut() -> Duration>,
    served_at: Instant,
    /// Packets on their way to this party.
    inbox: Vec<(Instant, MediaTransmit)>,
    heard: Vec<[i16; FRAME]>,
    /// What was heard with two channels.
    heard_sides: Vec<Sides>,
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
            right: None,
            next_tick: now + Duration::from_millis(phase),
            tick: FRAME_TIME,
            stalls: Box::new(|| Duration::ZERO),
            served_at: now + Duration::from_millis(phase),
            inbox: Vec::new(),
            heard: Vec::new(),
            heard_sides: Vec::new(),
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
            match &mut party.right {
                Some(right) => {
                    let mut sides = [frame; 2];
                    right.read(&mut sides[1]);
                    party.stream.handle_capture_sides(now, &sides);
                }
                None => party.stream.handle_capture(now, &frame),
            }
            party
                .heard
                .push(party.stream.playout(now).unwrap_or([0; FRAME]));
            party.heard_sides.extend(party.stream.sides());
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
