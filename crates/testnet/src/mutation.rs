//! Hostile input out of a seed: dice, mutations of real messages, and the loop that runs them.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The longest input that a mutation makes: more than any datagram holds.
const LONGEST: usize = 66_000;
/// No input may keep a phone busy for longer, on whatever machine.
const SLOWEST_CASE: Duration = Duration::from_secs(30);

/// Numbers at the edges of what fields hold.
const NUMBERS: [&str; 14] = [
    "0",
    "1",
    "-1",
    "127",
    "255",
    "256",
    "65535",
    "65536",
    "2147483648",
    "4294967295",
    "4294967296",
    "9223372036854775808",
    "18446744073709551615",
    "99999999999999999999999999",
];
/// Words that the parsers of SIP and SDP know.
const WORDS: [&str; 40] = [
    "\r\n",
    "\r\n\r\n",
    "\n",
    " ",
    "\t",
    ";",
    ",",
    ":",
    "\"",
    "\\",
    "<",
    ">",
    "%",
    "%00",
    "@",
    "=",
    "[",
    "]",
    "[::1]",
    "sip:",
    "tel:",
    ";lr",
    ";tag=",
    ";rport",
    ";received=",
    ";branch=z9hG4bK",
    "SIP/2.0",
    "Require: 100rel\r\n",
    "RAck: 1 1 INVITE\r\n",
    "Content-Length: 0\r\n",
    "Via: SIP/2.0/UDP 127.0.0.1\r\n",
    "Route: <sip:127.0.0.1>\r\n",
    "a=ice-lite\r\n",
    "a=rtcp-mux\r\n",
    "a=inactive\r\n",
    "m=audio 0 RTP/AVP 0\r\n",
    "IP6 ::1",
    "0.0.0.0",
    "\u{202e}",
    "\x1b[2J",
];

/// Every choice of one case of a fuzzer.
#[derive(Debug)]
pub struct Dice(ChaCha8Rng);

impl Dice {
    /// The dice of a seed.
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// A number below `end`; 0 when that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        if end == 0 {
            0
        } else {
            self.0.random_range(0..end)
        }
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// True in so many of a hundred cases.
    pub fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of these; there must be one.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// So many random bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    /// A range of `length` bytes, seldom a long one.
    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.below(length);
        let most = if self.percent(80) { 16 } else { length };
        let end = (start + self.below(most) + 1).min(length);
        start..end
    }

    /// `input` after one to a few changes: bytes, pieces, lines and numbers of it, and pieces of
    /// the others in `corpus`.
    pub fn mutate(&mut self, input: &[u8], corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = input.to_vec();
        for _ in 0..1 + self.below(5) {
            self.change(&mut bytes, corpus);
            bytes.truncate(LONGEST);
        }
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let length = bytes.len();
        let at = self.below(length + 1);
        match self.below(13) {
            0 if length > 0 => bytes[at.min(length - 1)] ^= 1 << self.below(8),
            1 if length > 0 => bytes[at.min(length - 1)] = self.number() as u8,
            2 if length > 0 => {
                let range = self.range(length);
                bytes.drain(range);
            }
            3 if length > 0 => {
                let range = self.range(length);
                let piece = bytes[range].repeat(1 + self.below(8));
                bytes.splice(at..at, piece);
            }
            4 => bytes.truncate(at),
            5 => {
                let noise = self.below(24);
                let noise = self.bytes(noise);
                bytes.splice(at..at, noise);
            }
            6 if !corpus.is_empty() => {
                let other = self.pick(corpus).clone();
                let from = self.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            7 | 8 => self.change_number(bytes, at),
            9 | 10 => self.change_lines(bytes),
            11 if self.percent(10) => {
                let byte = *self.pick(b" \r\n,;<\"a0:\\(");
                let many = self.below(20_000);
                bytes.splice(at..at, std::iter::repeat_n(byte, many));
            }
            _ => {
                let word = self.pick(&WORDS).bytes();
                bytes.splice(at..at, word);
            }
        }
    }

    /// Puts another number in the place of the next one in the text.
    fn change_number(&mut self, bytes: &mut Vec<u8>, from: usize) {
        let Some(start) = (from..bytes.len()).find(|at| bytes[*at].is_ascii_digit()) else {
            return;
        };
        let end = (start..bytes.len())
            .find(|at| !bytes[*at].is_ascii_digit())
            .unwrap_or(bytes.len());
        let number = self.pick(&NUMBERS).bytes();
        bytes.splice(start..end, number);
    }

    /// Takes a line away, or repeats, swaps or moves it.
    fn change_lines(&mut self, bytes: &mut Vec<u8>) {
        let mut lines: Vec<Vec<u8>> = bytes
            .split_inclusive(|byte| *byte == b'\n')
            .map(<[u8]>::to_vec)
            .collect();
        let (one, two) = (self.below(lines.len()), self.below(lines.len()));
        if lines.is_empty() {
            return;
        }
        match self.below(4) {
            0 => drop(lines.remove(one)),
            1 => lines.swap(one, two),
            2 => lines.insert(two, lines[one].clone()),
            _ => {
                let many = self.below(400);
                let line = lines[one].clone();
                lines.splice(one..one, std::iter::repeat_n(line, many));
            }
        }
        *bytes = lines.concat();
    }
}

/// Runs cases of a fuzzer, each with the dice of its own seed, and prints how many there were.
/// `case` gives back how many inputs it has tried.
///
/// There are `short` cases, or as many as fit into `RINGTRUE_FUZZ_SECONDS`. The first has the
/// seed `RINGTRUE_FUZZ_SEED` (1 without it), so that a failure, which names its seed, is seen
/// again at once by setting that.
///
/// # Panics
/// When a case does, or takes very long.
pub fn fuzz(target: &str, short: u64, mut case: impl FnMut(&mut Dice) -> u64) {
    let variable = |name| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse::<u64>().ok())
    };
    let first = variable("RINGTRUE_FUZZ_SEED").unwrap_or(1);
    let long = variable("RINGTRUE_FUZZ_SECONDS").map(Duration::from_secs);
    let start = Instant::now();
    let (mut cases, mut inputs) = (0, 0);
    while long.map_or(cases < short, |long| start.elapsed() < long) {
        let seed = first.wrapping_add(cases);
        let begin = Instant::now();
        match catch_unwind(AssertUnwindSafe(|| case(&mut Dice::new(seed)))) {
            Ok(tried) => inputs += tried,
            Err(reason) => {
                eprintln!("fuzz {target}: FAILED with RINGTRUE_FUZZ_SEED={seed}");
                resume_unwind(reason);
            }
        }
        let took = begin.elapsed();
        assert!(
            took < SLOWEST_CASE,
            "fuzz {target}: {took:?} with RINGTRUE_FUZZ_SEED={seed}"
        );
        cases += 1;
    }
    let seconds = start.elapsed().as_secs_f64();
    let rate = inputs as f64 / seconds.max(1e-3);
    println!("fuzz {target}: {cases} cases from seed {first}, {inputs} inputs, {rate:.0} a second");
}
