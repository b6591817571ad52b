//! The digest computation: RFC 2617 section 3.2.2, with the SHA-256 of RFC 7616 and RFC 8760.

use std::fmt::Write as _;

use md5::Md5;
use sha2::{Digest as _, Sha256};

/// A digest algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Algorithm {
    hash: Hash,
    session: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hash {
    Md5,
    Sha256,
}

impl Algorithm {
    /// The algorithm of a challenge; MD5 when it names none.
    pub(crate) fn named(name: Option<&str>) -> Option<Self> {
        let name = name.unwrap_or("MD5").to_ascii_uppercase();
        let (hash, session) = match name.as_str() {
            "MD5" => (Hash::Md5, false),
            "MD5-SESS" => (Hash::Md5, true),
            "SHA-256" => (Hash::Sha256, false),
            "SHA-256-SESS" => (Hash::Sha256, true),
            _ => return None,
        };
        Some(Self { hash, session })
    }

    /// Whether the client nonce goes into the first hash (`-sess`).
    pub(crate) fn is_session(self) -> bool {
        self.session
    }

    fn hex(self, text: &str) -> String {
        let bytes = match self.hash {
            Hash::Md5 => Md5::digest(text.as_bytes()).to_vec(),
            Hash::Sha256 => Sha256::digest(text.as_bytes()).to_vec(),
        };
        bytes.iter().fold(String::new(), |mut hex, byte| {
            // Writing to a string cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }
}

/// Everything that goes into a `response` parameter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Calculation<'a> {
    pub(crate) algorithm: Algorithm,
    pub(crate) user: &'a str,
    pub(crate) realm: &'a str,
    pub(crate) password: &'a str,
    pub(crate) method: &'a str,
    pub(crate) uri: &'a str,
    pub(crate) nonce: &'a str,
    pub(crate) cnonce: &'a str,
    /// The nonce count under `qop=auth`; `None` for the form of RFC 2069.
    pub(crate) count: Option<u32>,
}

impl Calculation<'_> {
    /// The value of the `response` parameter.
    pub(crate) fn response(&self) -> String {
        let algorithm = self.algorithm;
        let Self { nonce, cnonce, .. } = self;
        let mut ha1 = algorithm.hex(&format!("{}:{}:{}", self.user, self.realm, self.password));
        if algorithm.session {
            ha1 = algorithm.hex(&format!("{ha1}:{nonce}:{cnonce}"));
        }
        let ha2 = algorithm.hex(&format!("{}:{}", self.method, self.uri));
        match self.count {
            Some(count) => algorithm.hex(&format!("{ha1}:{nonce}:{count:08x}:{cnonce}:auth:{ha2}")),
            None => algorithm.hex(&format!("{ha1}:{nonce}:{ha2}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RFC_2617: Calculation<'_> = Calculation {
        algorithm: Algorithm {
            hash: Hash::Md5,
            session: false,
        },
        user: "Mufasa",
        realm: "testrealm@host.com",
        password: "Circle Of Life",
        method: "GET",
        uri: "/dir/index.html",
        nonce: "dcd98b7102dd2f0e8b11d0f600bfb0c093",
        cnonce: "0a4f113b",
        count: Some(1),
    };

    #[test]
    fn rfc_2617_section_3_5() {
        assert_eq!(RFC_2617.response(), "6629fae49393a05397450978507c4ef1");
    }

    #[test]
    fn without_qop_as_in_rfc_2069() {
        let old = Calculation {
            count: None,
            ..RFC_2617
        };
        // MD5(HA1:nonce:HA2) of the same example.
        assert_eq!(old.response(), "670fd8c2df070c60b045671b8b24ff02");
    }

    #[test]
    fn rfc_7616_section_3_9_1() {
        let example = |name| Calculation {
            algorithm: Algorithm::named(Some(name)).unwrap(),
            user: "Mufasa",
            realm: "http-auth@example.org",
            password: "Circle of Life",
            method: "GET",
            uri: "/dir/index.html",
            nonce: "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
            cnonce: "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
            count: Some(1),
        };
        assert_eq!(
            example("MD5").response(),
            "8ca523f5e9506fed4657c9700eebdbec"
        );
        assert_eq!(
            example("sha-256").response(),
            "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"
        );
    }

    #[test]
    fn unknown_algorithms_are_refused() {
        assert_eq!(Algorithm::named(Some("SHA-512-256")), None);
        assert_eq!(Algorithm::named(Some("AKAv1-MD5")), None);
        assert_eq!(Algorithm::named(None), Algorithm::named(Some("md5")));
    }
}
