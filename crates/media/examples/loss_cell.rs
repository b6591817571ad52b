//! One cell of the loss table: a WAV file goes through two streams and a network that loses and delays,
//! in virtual time, far faster than it would sound. What the far end hears is written to another WAV
//! file, to be compared with the first by PESQ or any other measure; the figures go to standard output.
//!
//! ```text
//! cargo run --release -p ringtrue-media --example loss_cell -- in.wav out.wav loss=0.1 burst=4 seed=7
//! ```
//!
//! `in.wav` is mono, 16 bit, 48 kHz. RTP is lost both ways, RTCP never. Options:
//!
//! - `loss=0.1` the share of packets that is lost; `burst=4` the mean length of a loss (Gilbert's model);
//! - `delay=20` and `jitter=60`, in milliseconds: each packet takes `delay` and a uniform share of `jitter`;
//! - `drift=100`: the far end's clock is fast by so many millionths;
//! - `repeat=3`: the file is played so often; `ptime=20`; `red=0`: a peer that knows no redundancy;
//! - `dred=0`: a peer that can use so many milliseconds of DRED;
//! - `seed=1` for the network and the streams.

use std::error::Error;
use std::time::{Duration, Instant, SystemTime};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use ringtrue_media::redundancy::Redundancy;
use ringtrue_media::{Codec, FRAME, FRAME_TIME, MediaStream, SAMPLE_RATE, StreamConfig};

/// What the network does, and for how long.
struct Cell {
    loss: f64,
    burst: f64,
    delay: f64,
    jitter: f64,
    drift: f64,
    repeat: usize,
    ptime: u64,
    red: bool,
    dred: u32,
    seed: u64,
}

impl Cell {
    fn read(words: impl Iterator<Item = String>) -> Result<Cell, Box<dyn Error>> {
        let mut cell = Cell {
            loss: 0.0,
            burst: 1.0,
            delay: 20.0,
            jitter: 0.0,
            drift: 0.0,
            repeat: 1,
            ptime: 20,
            red: true,
            dred: 0,
            seed: 1,
        };
        for word in words {
            let (name, value) = word.split_once('=').ok_or("options are name=value")?;
            match name {
                "loss" => cell.loss = value.parse()?,
                "burst" => cell.burst = value.parse()?,
                "delay" => cell.delay = value.parse()?,
                "jitter" => cell.jitter = value.parse()?,
                "drift" => cell.drift = value.parse()?,
                "repeat" => cell.repeat = value.parse()?,
                "ptime" => cell.ptime = value.parse()?,
                "red" => cell.red = value != "0",
                "dred" => cell.dred = value.parse()?,
                "seed" => cell.seed = value.parse()?,
                _ => return Err(format!("no option is called {name}").into()),
            }
        }
        Ok(cell)
    }
}

/// One direction of the network.
struct Way {
    dice: ChaCha8Rng,
    bad: bool,
    under_way: Vec<(Instant, Vec<u8>)>,
    /// RTP packets and octets of their payloads.
    packets: u64,
    octets: u64,
}

impl Way {
    fn new(seed: u64) -> Way {
        Way {
            dice: ChaCha8Rng::seed_from_u64(seed),
            bad: false,
            under_way: Vec::new(),
            packets: 0,
            octets: 0,
        }
    }

    fn luck(&mut self) -> f64 {
        f64::from(self.dice.next_u32()) / (f64::from(u32::MAX) + 1.0)
    }

    fn send(&mut self, now: Instant, packet: Vec<u8>, cell: &Cell) {
        let mut lost = false;
        if !packet.get(1).is_some_and(|kind| (192..=223).contains(kind)) {
            self.packets += 1;
            self.octets += packet.len().saturating_sub(12) as u64;
            let luck = self.luck();
            let leave = 1.0 / cell.burst.max(1.0);
            self.bad = match self.bad {
                _ if cell.burst <= 1.0 => luck < cell.loss,
                true => luck >= leave,
                false => luck < cell.loss * leave / (1.0 - cell.loss),
            };
            lost = self.bad;
        }
        let ms = cell.delay + cell.jitter * self.luck();
        if !lost {
            let at = now + Duration::from_secs_f64(ms / 1e3);
            self.under_way.push((at, packet));
        }
    }

    /// The packets that arrive until `now`, in the order of their arrival.
    fn arrivals(&mut self, now: Instant) -> Vec<(Instant, Vec<u8>)> {
        self.under_way.sort_by_key(|(at, _)| *at);
        let due = self.under_way.partition_point(|(at, _)| *at <= now);
        self.under_way.drain(..due).collect()
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let (Some(input), Some(output)) = (words.next(), words.next()) else {
        return Err("usage: loss_cell in.wav out.wav [name=value]...".into());
    };
    let cell = Cell::read(words)?;
    let mut reader = hound::WavReader::open(input)?;
    let spec = reader.spec();
    if (spec.channels, spec.sample_rate, spec.bits_per_sample) != (1, SAMPLE_RATE, 16) {
        return Err("the input is to be mono, 48 kHz, 16 bit".into());
    }
    let speech: Vec<i16> = reader.samples().collect::<Result<_, _>>()?;
    let mut writer = hound::WavWriter::create(output, spec)?;
    for frame in run(&speech, &cell)? {
        for sample in frame {
            writer.write_sample(sample)?;
        }
    }
    writer.finalize()?;
    Ok(())
}

/// Both ends say the same; what the second one hears comes back.
fn run(speech: &[i16], cell: &Cell) -> Result<Vec<[i16; FRAME]>, Box<dyn Error>> {
    let begin = Instant::now();
    let mut config = StreamConfig::new(Codec::Opus, "cell");
    config.ptime = Duration::from_millis(cell.ptime);
    config.opus.dred_ms = cell.dred;
    if cell.red {
        config.redundancy = Redundancy::both();
    }
    let stream = |seed| MediaStream::new(config.clone(), seed, begin, SystemTime::UNIX_EPOCH);
    let mut ends = [stream(2 * cell.seed)?, stream(2 * cell.seed + 1)?];
    let mut ways = [Way::new(1_000 + cell.seed), Way::new(2_000 + cell.seed)];
    let ticks = [FRAME_TIME, FRAME_TIME.div_f64(1.0 + cell.drift * 1e-6)];
    // The far end's ticks fall between ours.
    let mut next = [begin, begin + Duration::from_millis(3)];
    let frames = speech.len() / FRAME * cell.repeat;
    let mut said = [0, 0];
    let mut heard = Vec::new();
    let mut target = 0.0;
    while heard.len() < frames {
        let end = usize::from(next[1] < next[0]);
        let now = next[end];
        next[end] += ticks[end];
        for (at, packet) in ways[1 - end].arrivals(now) {
            ends[end].handle_rtp(at, &packet);
        }
        let from = (said[end] * FRAME) % (speech.len() / FRAME * FRAME);
        said[end] += 1;
        ends[end].handle_capture(now, &speech[from..from + FRAME]);
        ends[end].handle_timeout(now);
        let frame = ends[end].playout(now).unwrap_or([0; FRAME]);
        if end == 1 {
            heard.push(frame);
            target += ends[1].stats().target_ms.unwrap_or(0.0);
        }
        while let Some(packet) = ends[end].poll_transmit() {
            ways[end].send(now, packet.payload, cell);
        }
    }
    let stats = ends[1].stats();
    let seconds = heard.len() as f64 * FRAME_TIME.as_secs_f64();
    println!(
        "kbit/s {:.1} lost {} recovered {} concealed {} late {} buffer_ms {:.0} mean_target_ms {:.0}",
        ways[0].octets as f64 * 8.0 / seconds / 1e3,
        stats.lost,
        stats.recovered,
        stats.concealed,
        stats.late,
        stats.buffer_ms.unwrap_or(0.0),
        target / heard.len() as f64,
    );
    Ok(heard)
}
