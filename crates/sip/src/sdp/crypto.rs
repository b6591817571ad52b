//! Keys in the description: `a=crypto` (SDES, RFC 4568), with the suites of RFC 4568 and RFC 7714.

use std::fmt;

use base64ct::{Base64Unpadded, Encoding as _};
use sdp_types::{Attribute, Media};
use zeroize::Zeroizing;

use super::codec::values;

/// The most lines of a peer that are read: an offer may list every suite, with and without MKI.
const MAX_LINES: usize = 32;
/// Session parameters that change nothing here: hints to the receiver, and the order of forward
/// error correction, of which there is none.
const HARMLESS: [&str; 2] = ["WSH=", "FEC_ORDER=FEC_SRTP"];

/// A crypto suite (RFC 4568 section 6.2, RFC 7714 section 14.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CryptoSuite {
    /// `AEAD_AES_256_GCM`
    AeadAes256Gcm,
    /// `AEAD_AES_128_GCM`
    AeadAes128Gcm,
    /// `AES_CM_128_HMAC_SHA1_80`, which all know.
    AesCm128HmacSha1_80,
    /// `AES_CM_128_HMAC_SHA1_32`
    AesCm128HmacSha1_32,
}

impl CryptoSuite {
    /// All of them, the preferred one first.
    pub const ALL: [Self; 4] = [
        Self::AeadAes256Gcm,
        Self::AeadAes128Gcm,
        Self::AesCm128HmacSha1_80,
        Self::AesCm128HmacSha1_32,
    ];

    /// As `a=crypto` spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::AeadAes256Gcm => "AEAD_AES_256_GCM",
            Self::AeadAes128Gcm => "AEAD_AES_128_GCM",
            Self::AesCm128HmacSha1_80 => "AES_CM_128_HMAC_SHA1_80",
            Self::AesCm128HmacSha1_32 => "AES_CM_128_HMAC_SHA1_32",
        }
    }

    /// Bytes of master key and master salt together.
    pub fn key_len(self) -> usize {
        match self {
            Self::AeadAes256Gcm => 32 + 12,
            Self::AeadAes128Gcm => 16 + 12,
            Self::AesCm128HmacSha1_80 | Self::AesCm128HmacSha1_32 => 16 + 14,
        }
    }

    fn of(name: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|suite| suite.name().eq_ignore_ascii_case(name))
    }
}

/// One `a=crypto` line that can be used. Its key is wiped when dropped, and hidden from `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Crypto {
    /// The number by which an answer says which line of the offer it takes.
    pub tag: u32,
    /// The suite.
    pub suite: CryptoSuite,
    /// Master key and master salt of what the one who says it sends: as long as the suite says.
    key: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Crypto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tag, suite, .. } = self;
        write!(f, "Crypto({tag} {})", suite.name())
    }
}

impl Crypto {
    /// A line of ours. `None`: the key is not as long as the suite says.
    pub fn new(tag: u32, suite: CryptoSuite, key: &[u8]) -> Option<Self> {
        (key.len() == suite.key_len()).then(|| Self {
            tag,
            suite,
            key: Zeroizing::new(key.to_vec()),
        })
    }

    /// Master key and master salt, one after the other.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// Reads the value of one attribute. `None`: it is broken, or asks for what we do not do; such
    /// a line is passed over (RFC 4568 section 5.1.2).
    fn read(value: &str) -> Option<Self> {
        let mut words = value.split_ascii_whitespace();
        let tag = words.next()?;
        if tag.is_empty() || tag.len() > 9 || !tag.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let suite = CryptoSuite::of(words.next()?)?;
        let key = inline_key(words.next()?, suite)?;
        words.all(is_harmless).then_some(Self {
            tag: tag.parse().ok()?,
            suite,
            key,
        })
    }

    /// The value of the attribute.
    pub(super) fn value(&self) -> Zeroizing<String> {
        let Self { tag, suite, key } = self;
        let padding = match key.len() % 3 {
            0 => "",
            1 => "==",
            _ => "=",
        };
        let coded = Zeroizing::new(Base64Unpadded::encode_string(key));
        let coded = coded.as_str();
        Zeroizing::new(format!("{tag} {} inline:{coded}{padding}", suite.name()))
    }
}

/// Whether a session parameter (RFC 4568 section 6.3) leaves everything as it is. One that is not
/// known and not marked as optional makes its line unusable.
fn is_harmless(parameter: &str) -> bool {
    let harmless = HARMLESS.iter().any(|name| {
        let start = parameter.get(..name.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(name))
    });
    let known = [
        "KDR",
        "UNENCRYPTED_",
        "UNAUTHENTICATED_",
        "FEC_KEY",
        "FEC_ORDER",
    ];
    let optional = parameter.strip_prefix('-').is_some_and(|rest| {
        let upper = rest.to_ascii_uppercase();
        !known.iter().any(|name| upper.starts_with(name))
    });
    harmless || optional
}

/// `inline:KEY[|LIFETIME][|MKI:LENGTH]`. None for a key with an MKI, and for several keys, which
/// need one: packets with an MKI have a field that we do not write.
fn inline_key(parameters: &str, suite: CryptoSuite) -> Option<Zeroizing<Vec<u8>>> {
    let (method, info) = parameters.split_once(':')?;
    if !method.eq_ignore_ascii_case("inline") || info.contains(';') {
        return None;
    }
    let mut parts = info.split('|');
    let coded = parts.next()?.trim_end_matches('=');
    if let Some(lifetime) = parts.next() {
        is_lifetime(lifetime).then_some(())?;
    }
    if parts.next().is_some() || coded.len() > 64 {
        return None;
    }
    let key = Zeroizing::new(Base64Unpadded::decode_vec(coded).ok()?);
    (key.len() == suite.key_len()).then_some(key)
}

/// `2^20` or a number, of packets: the sender's own affair, unless it is more than SRTP can count
/// (RFC 4568 section 6.1).
fn is_lifetime(text: &str) -> bool {
    const MOST: u64 = 1 << 48;
    let packets = match text.strip_prefix("2^") {
        Some(power) => power
            .parse()
            .ok()
            .and_then(|power| 1_u64.checked_shl(power)),
        None => text.parse().ok(),
    };
    packets.is_some_and(|packets| (1..=MOST).contains(&packets))
}

/// The lines of a stream that can be used, in the order of the peer's preference; of several with
/// one tag, which RFC 4568 section 4.1 forbids, the first.
pub(super) fn read<'a>(values: impl Iterator<Item = &'a str>) -> Vec<Crypto> {
    let mut lines: Vec<Crypto> = Vec::new();
    for line in values.take(MAX_LINES).filter_map(Crypto::read) {
        if lines.iter().all(|known| known.tag != line.tag) {
            lines.push(line);
        }
    }
    lines
}

/// The values of a stream's lines.
pub(super) fn of(media: &Media) -> impl Iterator<Item = &str> {
    values(&media.attributes, "crypto")
}

/// Writes a line.
pub(super) fn write(line: &Crypto, out: &mut Vec<Attribute>) {
    out.push(Attribute::with_value("crypto", line.value().as_str()));
}

/// What both sides' lines come to: each side sends with its own key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NegotiatedCrypto {
    /// The key of what we send.
    pub local: Crypto,
    /// The key of what the peer sends.
    pub remote: Crypto,
}

/// Whether there is a suite that both have.
pub(super) fn have_common(ours: &[Crypto], media: &Media) -> bool {
    let theirs = read(of(media));
    ours.iter()
        .any(|own| theirs.iter().any(|line| line.suite == own.suite))
}

/// Our answer to an offer's lines: the first of them whose suite we have, under its tag.
pub(super) fn agree_on_answer(ours: &[Crypto], offered: &[Crypto]) -> Option<NegotiatedCrypto> {
    offered.iter().find_map(|remote| {
        let own = ours.iter().find(|own| own.suite == remote.suite)?;
        Some(NegotiatedCrypto {
            local: Crypto {
                tag: remote.tag,
                ..own.clone()
            },
            remote: remote.clone(),
        })
    })
}

/// What the answer to our lines comes to: it takes one of them, by its tag and suite.
pub(super) fn agree_on_offer(ours: &[Crypto], answered: &[Crypto]) -> Option<NegotiatedCrypto> {
    answered.iter().find_map(|remote| {
        let taken = |own: &&Crypto| (own.tag, own.suite) == (remote.tag, remote.suite);
        Some(NegotiatedCrypto {
            local: ours.iter().find(taken)?.clone(),
            remote: remote.clone(),
        })
    })
}

/// Takes the keys out of a message body that goes or has come in clear: they are no secret there,
/// or must not become none (RFC 4568 section 8).
pub(crate) fn strip_keys(body: &mut Vec<u8>) {
    const START: &[u8] = b"a=crypto";
    let is_key = |line: &[u8]| {
        let start = line.get(..START.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(START))
    };
    let lines = || body.split_inclusive(|byte| *byte == b'\n');
    if lines().any(is_key) {
        *body = lines()
            .filter(|line| !is_key(line))
            .collect::<Vec<_>>()
            .concat();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 30 bytes of zero.
    const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    fn line(text: &str) -> Option<Crypto> {
        Crypto::read(text)
    }

    #[test]
    fn the_examples_of_the_rfcs_are_read() {
        // RFC 4568 sections 1 and 9.1.
        let first =
            line("1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj|2^20");
        let first = first.unwrap();
        assert_eq!(
            (first.tag, first.suite.key_len(), first.key().len()),
            (1, 30, 30)
        );
        assert!(first.key().starts_with(b"wDfvg&T+)xG7@fb5"));
        let last = "2 AES_CM_128_HMAC_SHA1_32 inline:NzB4d1BINUAvLEw6UzF3WSJ+PSdFcGdUJShpX1Zj";
        assert_eq!(line(last).unwrap().tag, 2);
        for suite in CryptoSuite::ALL {
            let key: Vec<u8> = (0..suite.key_len()).map(|at| at as u8).collect();
            let ours = Crypto::new(7, suite, &key).unwrap();
            assert_eq!(line(&ours.value()).unwrap(), ours);
            let bare = ours.value().trim_end_matches('=').to_owned();
            assert_eq!(line(&bare), Some(ours), "without padding");
        }
    }

    #[test]
    fn lines_that_ask_for_more_are_passed_over() {
        let with = |more: &str| line(&format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}{more}"));
        for good in [
            "",
            "|2^31",
            "|1048576",
            "|2^48",
            " WSH=64",
            " FEC_ORDER=FEC_SRTP",
            " -X-OWN=1",
            " wsh=128 -OTHER",
        ] {
            assert!(with(good).is_some(), "{good}");
        }
        for bad in [
            "|2^20|1:4",
            "|1:4",
            "|2^49",
            "|2^64",
            "|0",
            "|",
            "|x",
            ";inline:AAAA",
            " UNENCRYPTED_SRTP",
            " UNENCRYPTED_SRTCP",
            " UNAUTHENTICATED_SRTP",
            " -UNENCRYPTED_SRTP",
            " KDR=1",
            " FEC_ORDER=SRTP_FEC",
            " FEC_KEY=inline:AAAA",
            " X-OWN",
        ] {
            assert!(with(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn broken_lines_are_none() {
        for bad in [
            "",
            "1",
            "x AES_CM_128_HMAC_SHA1_80 inline:AAAA",
            "1234567890 AES_CM_128_HMAC_SHA1_80 inline:AAAA",
            "1 F8_128_HMAC_SHA1_80 inline:AAAA",
            "1 AES_CM_128_HMAC_SHA1_80",
            "1 AES_CM_128_HMAC_SHA1_80 inline",
            "1 AES_CM_128_HMAC_SHA1_80 inline:",
            "1 AES_CM_128_HMAC_SHA1_80 inline:AAAA",
            "1 AES_CM_128_HMAC_SHA1_80 key:AAAA",
            "1 AEAD_AES_256_GCM inline:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "1 AES_CM_128_HMAC_SHA1_80 inline:AAAAAAAAAAAAAAAAAAA*AAAAAAAAAAAAAAAAAAAA",
        ] {
            assert!(line(bad).is_none(), "{bad}");
        }
        let flood = vec!["1 AES_CM_128_HMAC_SHA1_80 inline:AAAA"; 1_000];
        assert!(read(flood.into_iter()).is_empty());
        let twice = format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}");
        let many: Vec<String> = (0..100)
            .map(|tag| twice.replacen('1', &tag.to_string(), 1))
            .collect();
        let read_all = read(many.iter().map(String::as_str));
        assert_eq!(read_all.len(), MAX_LINES);
        assert_eq!(read([&*twice, &*twice].into_iter()).len(), 1);
    }

    #[test]
    fn keys_are_taken_out_of_a_body() {
        let mut body = b"v=0\r\na=crypto:1 X\r\nm=audio\r\nA=CRYPTO:2 Y\na=cryptic".to_vec();
        strip_keys(&mut body);
        assert_eq!(body, b"v=0\r\nm=audio\r\na=cryptic");
        let mut without = b"no line end".to_vec();
        strip_keys(&mut without);
        assert_eq!(without, b"no line end");
    }

    #[test]
    fn keys_are_not_shown() {
        let crypto = Crypto::new(1, CryptoSuite::AesCm128HmacSha1_80, &[0x5a; 30]).unwrap();
        let shown = format!("{crypto:?} {:?}", vec![crypto.clone()]);
        assert!(!shown.contains("90") && !shown.contains("Wl"), "{shown}");
        assert!(Crypto::new(1, CryptoSuite::AeadAes128Gcm, &[0; 30]).is_none());
    }
}
