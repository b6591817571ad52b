//! The arithmetic of ITU-T G.722 at 64 kbit/s: two sub-bands of ADPCM, six bits for the lower and two
//! for the upper. The names of the blocks are those of the recommendation.

/// How the lower band's scale factor moves, by the magnitude of four bits (table 14).
const WL: [i32; 8] = [-60, -30, 58, 172, 334, 538, 1_198, 3_042];
/// The magnitude of four bits, for [`WL`].
const RL42: [usize; 16] = [0, 7, 6, 5, 4, 3, 2, 1, 7, 6, 5, 4, 3, 2, 1, 0];
/// The upper band's, by its magnitude (table 15).
const WH: [i32; 3] = [0, -214, 798];
const RH2: [usize; 4] = [2, 1, 2, 1];
/// The inverse of the logarithm, one octave of it (table 16).
const ILB: [i32; 32] = [
    2_048, 2_093, 2_139, 2_186, 2_233, 2_282, 2_332, 2_383, 2_435, 2_489, 2_543, 2_599, 2_656,
    2_714, 2_774, 2_834, 2_896, 2_960, 3_025, 3_091, 3_158, 3_228, 3_298, 3_371, 3_444, 3_520,
    3_597, 3_676, 3_756, 3_838, 3_922, 4_008,
];
/// The quantisers' outputs: two bits for the upper band, four (for the prediction) and six (for the
/// sound) for the lower.
const QM2: [i32; 4] = [-7_408, -1_616, 7_408, 1_616];
const QM4: [i32; 16] = [
    0, -20_456, -12_896, -8_968, -6_288, -4_240, -2_584, -1_200, 20_456, 12_896, 8_968, 6_288,
    4_240, 2_584, 1_200, 0,
];
const QM6: [i32; 64] = [
    -136, -136, -136, -136, -24_808, -21_904, -19_008, -16_704, -14_984, -13_512, -12_280, -11_192,
    -10_232, -9_360, -8_576, -7_856, -7_192, -6_576, -6_000, -5_456, -4_944, -4_464, -4_008,
    -3_576, -3_168, -2_776, -2_400, -2_032, -1_688, -1_360, -1_040, -728, 24_808, 21_904, 19_008,
    16_704, 14_984, 13_512, 12_280, 11_192, 10_232, 9_360, 8_576, 7_856, 7_192, 6_576, 6_000,
    5_456, 4_944, 4_464, 4_008, 3_576, 3_168, 2_776, 2_400, 2_032, 1_688, 1_360, 1_040, 728, 432,
    136, -432, -136,
];
/// The lower band's decision levels.
const Q6: [i32; 29] = [
    35, 72, 110, 150, 190, 233, 276, 323, 370, 422, 473, 530, 587, 650, 714, 786, 858, 940, 1_023,
    1_121, 1_219, 1_339, 1_458, 1_612, 1_765, 1_980, 2_195, 2_557, 2_919,
];
/// The upper band's only decision level.
const Q2: i32 = 564;
/// Half of the quadrature mirror filter; the other half is its mirror image.
const QMF: [i32; 12] = [3, -11, 12, 32, -210, 951, 3_876, -805, 362, -156, 53, -11];

fn saturate(value: i32) -> i32 {
    value.clamp(i32::from(i16::MIN), i32::from(i16::MAX))
}

/// A table's entry; indices are masked where they are made, so there always is one.
fn entry(table: &[i32], index: usize) -> i32 {
    table.get(index).copied().unwrap_or(0)
}

/// A factor of 32768, as the predictors leak.
fn scaled(value: i32, factor: i32) -> i32 {
    (value * factor) >> 15
}

/// The adaptive predictor of a band and its quantiser's scale.
#[derive(Clone, Debug)]
struct Band {
    /// The prediction, and the zeros' part of it.
    s: i32,
    sz: i32,
    /// Reconstructed and partly reconstructed signals, and differences, the newest first.
    r: [i32; 2],
    p: [i32; 2],
    d: [i32; 6],
    /// The coefficients of the poles and of the zeros.
    a: [i32; 2],
    b: [i32; 6],
    /// The logarithm of the scale factor, and the factor.
    nb: i32,
    det: i32,
}

impl Band {
    fn new(det: i32) -> Band {
        Band {
            s: 0,
            sz: 0,
            r: [0; 2],
            p: [0; 2],
            d: [0; 6],
            a: [0; 2],
            b: [0; 6],
            nb: 0,
            det,
        }
    }

    /// LOGSCL and SCALEL, or LOGSCH and SCALEH.
    fn scale(&mut self, change: i32, most: i32, shift: i32) {
        self.nb = (scaled(self.nb, 127 << 8) + change).clamp(0, most);
        let mantissa = entry(&ILB, ((self.nb >> 6) & 31) as usize);
        let exponent = shift - (self.nb >> 11);
        let factor = if exponent < 0 {
            mantissa << -exponent
        } else {
            mantissa >> exponent
        };
        self.det = factor << 2;
    }

    /// Block 4: takes a quantised difference and predicts the next sample.
    fn adapt(&mut self, d: i32) {
        let [r1, _] = self.r;
        let [p1, p2] = self.p;
        let [a1, a2] = self.a;
        // RECONS, PARREC
        let r = saturate(self.s + d);
        let p = saturate(self.sz + d);
        let alike = |x: i32, y: i32| (x < 0) == (y < 0);
        // UPPOL2
        let slope = saturate(a1 << 2);
        let slope = if alike(p, p1) { -slope } else { slope };
        let step = if alike(p, p2) { 128 } else { -128 };
        let a2 = (step + (slope.min(32_767) >> 7) + scaled(a2, 32_512)).clamp(-12_288, 12_288);
        // UPPOL1
        let step = if alike(p, p1) { 192 } else { -192 };
        let most = saturate(15_360 - a2);
        let a1 = saturate(step + scaled(a1, 32_640)).clamp(-most, most);
        // UPZERO
        let step = if d == 0 { 0 } else { 128 };
        for (b, &earlier) in self.b.iter_mut().zip(&self.d) {
            let step = if alike(earlier, d) { step } else { -step };
            *b = saturate(step + scaled(*b, 32_640));
        }
        // DELAYA
        self.d.copy_within(..5, 1);
        if let Some(newest) = self.d.first_mut() {
            *newest = d;
        }
        self.r = [r, r1];
        self.p = [p, p1];
        self.a = [a1, a2];
        // FILTEP, FILTEZ, PREDIC
        let twice = |x: i32| saturate(x + x);
        let sp = saturate(scaled(a1, twice(r)) + scaled(a2, twice(r1)));
        let zeros = self.b.iter().zip(&self.d);
        self.sz = saturate(zeros.map(|(&b, &d)| scaled(b, twice(d))).sum());
        self.s = saturate(sp + self.sz);
    }

    /// The lower band takes its six bits.
    fn adapt_low(&mut self, code: usize) {
        let code = (code >> 2) & 15;
        let d = scaled(self.det, entry(&QM4, code));
        let magnitude = RL42.get(code).copied().unwrap_or(0);
        self.scale(entry(&WL, magnitude), 18_432, 8);
        self.adapt(d);
    }

    /// The upper band takes its two bits.
    fn adapt_high(&mut self, code: usize) {
        let d = scaled(self.det, entry(&QM2, code & 3));
        let magnitude = RH2.get(code & 3).copied().unwrap_or(1);
        self.scale(entry(&WH, magnitude), 22_528, 10);
        self.adapt(d);
    }
}

/// The two bands: the same in an encoder and in the decoder that follows it.
#[derive(Clone, Debug)]
struct Bands {
    low: Band,
    high: Band,
}

impl Bands {
    fn new() -> Bands {
        Bands {
            low: Band::new(32),
            high: Band::new(8),
        }
    }

    /// A pair of sub-band samples as an octet.
    fn quantise(&mut self, low: i32, high: i32) -> u8 {
        // QUANTL
        let e = saturate(low - self.low.s);
        let magnitude = if e < 0 { !e } else { e };
        let det = self.low.det;
        let level = Q6.iter().take_while(|&&q| magnitude >= (q * det) >> 12);
        let level = level.count() as u8;
        // The codes run down from 31 (63 and 62 for the two smallest negative ones) or from 61.
        let low_code = match (e < 0, level) {
            (true, 0) => 63,
            (true, 1) => 62,
            (true, level) => 33 - level,
            (false, level) => 61 - level,
        };
        self.low.adapt_low(usize::from(low_code));
        // QUANTH
        let e = saturate(high - self.high.s);
        let magnitude = if e < 0 { !e } else { e };
        let far = magnitude >= (Q2 * self.high.det) >> 12;
        let high_code = match (e < 0, far) {
            (true, false) => 1,
            (true, true) => 0,
            (false, false) => 3,
            (false, true) => 2,
        };
        self.high.adapt_high(usize::from(high_code));
        high_code << 6 | low_code
    }

    /// An octet as a pair of sub-band samples.
    fn reconstruct(&mut self, octet: u8) -> (i32, i32) {
        let (low_code, high_code) = (usize::from(octet & 63), usize::from(octet >> 6));
        let low = self.low.s + scaled(self.low.det, entry(&QM6, low_code));
        let high = self.high.s + scaled(self.high.det, entry(&QM2, high_code));
        self.low.adapt_low(low_code);
        self.high.adapt_high(high_code);
        (low.clamp(-16_384, 16_383), high.clamp(-16_384, 16_383))
    }
}

/// Samples from the encoder's ear to the decoder's mouth: the filters' delay.
pub(super) const DELAY: usize = 22;

/// The last samples that a quadrature mirror filter sees.
type Window = [i32; 24];

/// The two phases of the filter over the window.
fn filter(window: &Window) -> (i32, i32) {
    let pairs = window.as_chunks::<2>().0;
    let even = pairs.iter().zip(&QMF).map(|([x, _], q)| x * q).sum();
    let odd = pairs.iter().zip(QMF.iter().rev());
    (even, odd.map(|([_, x], q)| x * q).sum())
}

fn push(window: &mut Window, first: i32, second: i32) {
    window.copy_within(2.., 0);
    if let Some(newest) = window.last_chunk_mut() {
        *newest = [first, second];
    }
}

/// 16 kHz into octets, two samples each.
#[derive(Clone, Debug)]
pub(super) struct Encoder {
    bands: Bands,
    window: Window,
}

impl Encoder {
    pub(super) fn new() -> Encoder {
        Encoder {
            bands: Bands::new(),
            window: [0; 24],
        }
    }

    pub(super) fn encode(&mut self, [first, second]: [i16; 2]) -> u8 {
        push(&mut self.window, i32::from(first), i32::from(second));
        let (even, odd) = filter(&self.window);
        self.bands.quantise((odd + even) >> 14, (odd - even) >> 14)
    }
}

/// Octets into 16 kHz.
#[derive(Clone, Debug)]
pub(super) struct Decoder {
    bands: Bands,
    window: Window,
    /// An encoder's view of what was decoded, and made up.
    heard: Window,
    /// It is ahead by [`DELAY`].
    ahead: bool,
}

impl Decoder {
    pub(super) fn new() -> Decoder {
        Decoder {
            bands: Bands::new(),
            window: [0; 24],
            heard: [0; 24],
            ahead: false,
        }
    }

    pub(super) fn decode(&mut self, octet: u8) -> [i16; 2] {
        self.ahead = false;
        let pair = self.output(octet);
        push(&mut self.heard, i32::from(pair[0]), i32::from(pair[1]));
        pair
    }

    fn output(&mut self, octet: u8) -> [i16; 2] {
        let (low, high) = self.bands.reconstruct(octet);
        push(&mut self.window, low + high, low - high);
        let (even, odd) = filter(&self.window);
        [odd, even].map(|sum| saturate(sum >> 11) as i16)
    }

    /// Goes to where it would be had it decoded this sound, which was made up in place of a lost
    /// packet and would go on with `beyond`: the predictors then fit the packet that comes next.
    pub(super) fn follow(&mut self, sound: &[i16], beyond: &[i16; DELAY]) {
        let ready = match self.ahead {
            true => DELAY,
            false => 0,
        };
        let all = sound.iter().chain(beyond).skip(ready);
        for (index, &sample) in all.enumerate() {
            self.heard.copy_within(1.., 0);
            if let Some(newest) = self.heard.last_mut() {
                *newest = i32::from(sample);
            }
            // An encoder hears a sample that much earlier than its decoder plays it.
            if index + ready >= DELAY && index % 2 == 1 {
                let (even, odd) = filter(&self.heard);
                let mut bands = self.bands.clone();
                let octet = bands.quantise((odd + even) >> 14, (odd - even) >> 14);
                self.output(octet);
            }
        }
        self.ahead = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Noise and a tone at sixteen loudnesses, then a square wave that clips.
    fn test_signal() -> Vec<[i16; 2]> {
        let mut state = 12_345u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) as i16
        };
        let mut sound = Vec::new();
        for loudness in 0..16i32 {
            for n in 0..8_000i32 {
                // A triangle, so that no library's sine matters.
                let tone = (n * (3 + loudness) % 512 - 256).abs() - 128;
                sound.push((noise() >> (15 - loudness)) / 2 + (tone * loudness * 8) as i16);
            }
        }
        sound.extend((0..4_000).map(|n| if n / 7 % 2 == 0 { i16::MAX } else { i16::MIN }));
        sound.as_chunks().0.to_vec()
    }

    const ENCODED: u64 = 0xf3ef_65d0_fe06_92dd;
    const DECODED: u64 = 0x0860_1710_60a6_7ada;

    /// FNV-1a.
    fn digest(bytes: impl Iterator<Item = u8>) -> u64 {
        bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    }

    /// The digests are those of another implementation (that of SpanDSP), fed with the same.
    #[test]
    fn bit_for_bit_what_others_make_of_it() {
        let mut encoder = Encoder::new();
        let mut octets: Vec<u8> = test_signal()
            .into_iter()
            .map(|pair| encoder.encode(pair))
            .collect();
        assert_eq!(digest(octets.iter().copied()), ENCODED);
        // Octets that no encoder makes, too.
        let mut state = 1u32;
        octets.extend((0..200_000).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        }));
        let mut decoder = Decoder::new();
        let sound = octets.iter().flat_map(|&octet| decoder.decode(octet));
        assert_eq!(digest(sound.flat_map(i16::to_le_bytes)), DECODED);
    }
}
