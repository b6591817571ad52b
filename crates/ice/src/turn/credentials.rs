//! The long-term credential mechanism (RFC 8489 section 9.2), with SHA-256 where it is offered.

use stun_types::message::{
    IntegrityAlgorithm, LongTermKeyCredentials, Message, MessageIntegrityCredentials,
};

use super::TurnServer;

/// RFC 8489 section 9.2: a nonce that begins so goes on with 24 bits of security features in
/// base64.
const NONCE_COOKIE: &str = "obMatJos2";
/// RFC 8489 section 18.1: bit 0 says that PASSWORD-ALGORITHMS comes along.
const PASSWORD_ALGORITHMS_BIT: u32 = 1 << 23;
/// RFC 8489 section 18.5.
const MD5: u16 = 1;
const SHA_256: u16 = 2;

/// What a server wants to be told with every request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Challenge {
    pub(super) realm: String,
    pub(super) nonce: String,
    /// The value of PASSWORD-ALGORITHMS, to be given back as it came, and our choice.
    pub(super) algorithms: Option<(Vec<u8>, u16)>,
}

impl Challenge {
    /// From REALM, NONCE and PASSWORD-ALGORITHMS. None, if it must not be answered (RFC 8489
    /// section 9.2.5): the nonce says that the attribute was there and somebody took it away, or
    /// there is nothing in it that we know.
    pub(super) fn read(realm: &str, nonce: &str, algorithms: Option<&[u8]>) -> Option<Self> {
        let announced = features(nonce).is_some_and(|bits| bits & PASSWORD_ALGORITHMS_BIT != 0);
        let algorithms = match algorithms {
            None if announced => return None,
            None => None,
            Some(value) => {
                let offered = numbers(value)?;
                // RFC 8489 section 9.2.5 lets us choose; the stronger one.
                let chosen = [SHA_256, MD5].into_iter().find(|n| offered.contains(n))?;
                Some((value.to_vec(), chosen))
            }
        };
        Some(Self {
            realm: realm.to_owned(),
            nonce: nonce.to_owned(),
            algorithms,
        })
    }

    /// The value of PASSWORD-ALGORITHM: number, and no parameters.
    pub(super) fn chosen(number: u16) -> [u8; 4] {
        let [high, low] = number.to_be_bytes();
        [high, low, 0, 0]
    }

    /// What requests are protected by, and responses must be.
    pub(super) fn integrity(&self) -> IntegrityAlgorithm {
        match self.algorithms {
            Some((_, SHA_256)) => IntegrityAlgorithm::Sha256,
            _ => IntegrityAlgorithm::Sha1,
        }
    }

    pub(super) fn credentials(&self, server: &TurnServer) -> LongTermKeyCredentials {
        LongTermKeyCredentials::new(
            server.user.clone(),
            server.password.clone(),
            self.realm.clone(),
        )
    }

    pub(super) fn key(&self, server: &TurnServer) -> MessageIntegrityCredentials {
        self.credentials(server).into()
    }

    /// Whether a response is protected as its request was: by nothing weaker.
    pub(super) fn protects(&self, server: &TurnServer, message: &Message<'_>) -> bool {
        let key = self.credentials(server).make_key(self.integrity());
        message.validate_integrity_with_key(&key).is_ok()
    }
}

/// The algorithms of PASSWORD-ALGORITHMS (RFC 8489 section 14.11): each a number, the length of
/// its parameters, and those, padded to four bytes.
fn numbers(mut value: &[u8]) -> Option<Vec<u16>> {
    let mut numbers = Vec::new();
    while let Some(([n1, n0, l1, l0], rest)) = value.split_first_chunk::<4>() {
        numbers.push(u16::from_be_bytes([*n1, *n0]));
        let parameters = usize::from(u16::from_be_bytes([*l1, *l0])).next_multiple_of(4);
        value = rest.get(parameters..)?;
    }
    value.is_empty().then_some(numbers)
}

/// The security features that a nonce announces.
fn features(nonce: &str) -> Option<u32> {
    let digits = nonce.strip_prefix(NONCE_COOKIE)?.get(..4)?;
    digits.bytes().try_fold(0, |bits, digit| {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        Some(bits << 6 | u32::from(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [u8; 8] = [0, 2, 0, 0, 0, 1, 0, 0];
    const ANNOUNCING: &str = "obMatJos2gAAAxyz";

    #[test]
    fn the_stronger_algorithm_is_chosen() {
        let of = |value: &[u8]| Challenge::read("r", ANNOUNCING, Some(value));
        let challenge = of(&BOTH).unwrap();
        assert_eq!(challenge.algorithms, Some((BOTH.to_vec(), SHA_256)));
        assert_eq!(challenge.integrity(), IntegrityAlgorithm::Sha256);
        let old = of(&[0, 1, 0, 0]).unwrap();
        assert_eq!(old.integrity(), IntegrityAlgorithm::Sha1);
        // Parameters are stepped over.
        assert!(of(&[0, 9, 0, 1, 5, 0, 0, 0, 0, 2, 0, 0]).is_some());
        for wrong in [&[][..], &[0, 9, 0, 0], &[0, 2], &[0, 2, 0, 9, 0]] {
            assert_eq!(of(wrong), None, "{wrong:?}");
        }
    }

    /// RFC 8489 section 9.2.1.
    #[test]
    fn a_stripped_offer_is_not_answered() {
        assert_eq!(Challenge::read("r", ANNOUNCING, None), None);
        for plain in ["", "abc", "obMatJos2", "obMatJos2AAAAx", "obMatJos2!AAAx"] {
            let challenge = Challenge::read("r", plain, None).unwrap();
            assert_eq!(challenge.integrity(), IntegrityAlgorithm::Sha1);
        }
    }
}
