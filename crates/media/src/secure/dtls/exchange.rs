//! The exchange of a shared secret (RFC 8422): X25519 or P-256.

use ring::agreement::{
    Algorithm, ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey, X25519 as RING_X25519,
    agree_ephemeral,
};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use super::hello::{P256, X25519};
use super::wire::{Reader, put_vector8};

/// RFC 8422 section 5.4: the curve has a number.
const NAMED_CURVE: u8 = 3;

fn algorithm(group: u16) -> Option<&'static Algorithm> {
    match group {
        X25519 => Some(&RING_X25519),
        P256 => Some(&ECDH_P256),
        _ => None,
    }
}

/// 32 bytes of the system's randomness.
pub(super) fn random() -> Option<[u8; 32]> {
    let mut random = [0; 32];
    SystemRandom::new().fill(&mut random).ok()?;
    Some(random)
}

/// Our half of an exchange.
pub(super) struct Exchange {
    group: u16,
    private: EphemeralPrivateKey,
    public: Vec<u8>,
}

impl Exchange {
    pub(super) fn new(group: u16) -> Option<Self> {
        let private =
            EphemeralPrivateKey::generate(algorithm(group)?, &SystemRandom::new()).ok()?;
        let public = private.compute_public_key().ok()?.as_ref().to_vec();
        Some(Self {
            group,
            private,
            public,
        })
    }

    pub(super) fn public(&self) -> &[u8] {
        &self.public
    }

    /// The parameters of our ServerKeyExchange.
    pub(super) fn params(&self) -> Vec<u8> {
        let mut params = vec![NAMED_CURVE];
        params.extend(self.group.to_be_bytes());
        put_vector8(&mut params, &self.public);
        params
    }

    pub(super) fn agree(self, peer: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let peer = UnparsedPublicKey::new(algorithm(self.group)?, peer);
        agree_ephemeral(self.private, &peer, |shared| {
            Zeroizing::new(shared.to_vec())
        })
        .ok()
    }
}

/// What a ServerKeyExchange says.
pub(super) struct ServerParams<'a> {
    pub(super) group: u16,
    pub(super) public: &'a [u8],
    /// The bytes that are signed, after the randoms.
    pub(super) params: &'a [u8],
    pub(super) scheme: u16,
    pub(super) signature: &'a [u8],
}

impl<'a> ServerParams<'a> {
    pub(super) fn read(body: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(body);
        if reader.u8()? != NAMED_CURVE {
            return None;
        }
        let group = reader.u16()?;
        let public = reader.vector8()?;
        let params = body.get(..body.len() - reader.0.len())?;
        let scheme = reader.u16()?;
        let signature = reader.vector16()?;
        Some(Self {
            group,
            public,
            params,
            scheme,
            signature,
        })
    }
}
