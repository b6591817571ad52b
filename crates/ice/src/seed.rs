//! The seed of everything random in a core.

use std::fmt;
use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::candidate::Credentials;

/// Where transaction ids, passwords and tie-breakers come from. Give 32 bytes of the system's
/// randomness in a real phone (RFC 7675 section 8 wants ids that nobody can guess), a number in
/// tests.
#[derive(Clone)]
pub struct Seed([u8; 32]);

impl Seed {
    pub(crate) fn randomness(self) -> Randomness {
        Randomness(ChaCha20Rng::from_seed(self.0))
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(…)")
    }
}

impl From<[u8; 32]> for Seed {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl From<u64> for Seed {
    fn from(number: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        Self(bytes)
    }
}

/// A stream of random things, the same for the same seed.
pub(crate) struct Randomness(ChaCha20Rng);

impl fmt::Debug for Randomness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Randomness(…)")
    }
}

/// The ice-chars of RFC 8839 section 5.1: 64 of them, so six bits choose one.
const ICE_CHARS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

impl Randomness {
    /// An independent stream, for an agent of its own.
    pub(crate) fn fork(&mut self) -> Self {
        let mut seed = [0; 32];
        self.0.fill_bytes(&mut seed);
        Self(ChaCha20Rng::from_seed(seed))
    }

    /// A tie-breaker (RFC 8445 section 5.2).
    pub(crate) fn tie_breaker(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// The 96 bits of a transaction id.
    pub(crate) fn transaction_id(&mut self) -> u128 {
        (u128::from(self.0.next_u64()) << 32) | u128::from(self.0.next_u32())
    }

    fn ice_chars(&mut self, count: usize) -> String {
        (0..count)
            .map(|_| {
                let six_bits = (self.0.next_u32() & 63) as usize;
                char::from(ICE_CHARS[six_bits])
            })
            .collect()
    }

    /// RFC 8445 section 5.3: at least 24 bits in the ufrag, 128 in the password; ours have 48 and
    /// 144, so that a ufrag is never met twice by accident.
    pub(crate) fn credentials(&mut self) -> Credentials {
        Credentials {
            ufrag: self.ice_chars(8),
            pwd: self.ice_chars(24),
        }
    }

    /// RFC 7675 section 5.1: 0.8 to 1.2 times 5 s.
    pub(crate) fn consent_interval(&mut self) -> Duration {
        Duration::from_millis(u64::from(4000 + self.0.next_u32() % 2001))
    }
}
