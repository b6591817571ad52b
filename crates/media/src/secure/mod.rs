//! Encrypted media: SRTP and SRTCP (RFC 3711, RFC 7714), whatever the source of the keys.
//!
//! [`SrtpKeys`] come from DTLS (RFC 5764) or from SDP (SDES, RFC 4568); [`Srtp`] protects and
//! unprotects the packets of one session with them, whole packets in and out.
//!
//! ```
//! use ringtrue_media::secure::{MasterKey, Srtp, SrtpKeys, SrtpProfile};
//!
//! let profile = SrtpProfile::Aes128CmSha1_80;
//! let (a, b) = ([1; 30], [2; 30]); // 16 bytes of key, 14 of salt
//! let keys = |local, remote| SrtpKeys::new(profile, local, remote);
//! let mut alice = Srtp::new(&keys(MasterKey::new(profile, &a)?, MasterKey::new(profile, &b)?))?;
//! let mut bob = Srtp::new(&keys(MasterKey::new(profile, &b)?, MasterKey::new(profile, &a)?))?;
//!
//! let clear = [0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9, b'h', b'i'];
//! let sent = alice.protect_rtp(&clear).unwrap();
//! assert_eq!(bob.unprotect_rtp(&sent).unwrap(), clear);
//! assert!(bob.unprotect_rtp(&sent).is_err(), "a replay");
//! assert_eq!(bob.refused().replayed, 1);
//! # Ok::<(), ringtrue_media::secure::KeyError>(())
//! ```

mod dtls;
mod keys;
mod packet;
mod receiving;
mod sending;
#[cfg(test)]
mod tests;

pub use dtls::{
    Dtls, DtlsError, DtlsEvent, DtlsFailure, DtlsRole, Fingerprint, FingerprintHash, Identity,
};
pub use keys::{KeyError, MasterKey, SrtpKeys, SrtpProfile};

use receiving::Receiving;
use sending::Sending;

/// The longest packet that is protected or unprotected, in bytes: more than any path carries.
pub const LONGEST_PACKET: usize = 2_048;

/// Why a packet of ours cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProtectError {
    /// Not an RTP or RTCP packet, or longer than [`LONGEST_PACKET`].
    #[error("not an RTP or RTCP packet that can be protected")]
    Malformed,
    /// A sequence number that does not follow the last one of its SSRC: it would use a keystream
    /// twice, which gives both packets away.
    #[error("a sequence number that would use a keystream twice")]
    Repeated,
    /// The keys are worn out (RFC 3711 section 9.2): new ones are needed.
    #[error("the keys have protected as many packets as they may")]
    Exhausted,
}

/// Why a packet was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnprotectError {
    /// It was not made with the peer's key, or was changed on its way; or it is not a packet.
    #[error("the packet is not authentic")]
    Forged,
    /// It came before, or is older than the replay window (RFC 3711 section 3.3.2).
    #[error("the packet came before, or too late to tell")]
    Replayed,
}

/// Packets that were not taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Refused {
    /// Not authentic.
    pub forged: u64,
    /// Authentic or not: seen before, or older than the replay window.
    pub replayed: u64,
}

/// The protection of one session in both directions.
///
/// It lives as long as its keys: every stream that is sent with the same keys, one after the other
/// or at once, goes through the same `Srtp`, so that no keystream is used twice.
pub struct Srtp {
    profile: SrtpProfile,
    sending: Sending,
    receiving: Receiving,
    refused: Refused,
}

impl std::fmt::Debug for Srtp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Srtp")
            .field("profile", &self.profile)
            .field("refused", &self.refused)
            .finish_non_exhaustive()
    }
}

impl Srtp {
    /// Protection with these keys.
    ///
    /// # Errors
    /// When the keys do not fit their profile.
    pub fn new(keys: &SrtpKeys) -> Result<Self, KeyError> {
        Ok(Self {
            profile: keys.profile(),
            sending: Sending::new(keys)?,
            receiving: Receiving::new(keys)?,
            refused: Refused::default(),
        })
    }

    /// How packets are protected.
    pub fn profile(&self) -> SrtpProfile {
        self.profile
    }

    /// The peer sends with another key from now on. Ours stays, and with it its keystreams, whatever
    /// these keys say of it.
    ///
    /// # Errors
    /// When the keys do not fit their profile, or that is another than before.
    pub fn set_remote(&mut self, keys: &SrtpKeys) -> Result<(), KeyError> {
        if keys.profile() != self.profile {
            return Err(KeyError::Mixed);
        }
        self.receiving = Receiving::new(keys)?;
        Ok(())
    }

    /// How many packets of the peer's were not taken so far.
    pub fn refused(&self) -> Refused {
        self.refused
    }

    /// Makes an SRTP packet of an RTP packet.
    ///
    /// # Errors
    /// See [`ProtectError`]; the packet must then not leave at all.
    pub fn protect_rtp(&mut self, packet: &[u8]) -> Result<Vec<u8>, ProtectError> {
        self.sending.rtp(packet)
    }

    /// Makes an SRTCP packet of a compound RTCP packet.
    ///
    /// # Errors
    /// See [`ProtectError`]; the packet must then not leave at all.
    pub fn protect_rtcp(&mut self, packet: &[u8]) -> Result<Vec<u8>, ProtectError> {
        self.sending.rtcp(packet)
    }

    /// Makes an RTP packet of the peer's SRTP packet.
    ///
    /// # Errors
    /// See [`UnprotectError`]; the packet is counted in [`Self::refused`].
    pub fn unprotect_rtp(&mut self, packet: &[u8]) -> Result<Vec<u8>, UnprotectError> {
        let unprotected = self.receiving.rtp(packet);
        self.count(unprotected)
    }

    /// Makes a compound RTCP packet of the peer's SRTCP packet.
    ///
    /// # Errors
    /// See [`UnprotectError`]; the packet is counted in [`Self::refused`].
    pub fn unprotect_rtcp(&mut self, packet: &[u8]) -> Result<Vec<u8>, UnprotectError> {
        let unprotected = self.receiving.rtcp(packet);
        self.count(unprotected)
    }

    fn count(
        &mut self,
        unprotected: Result<Vec<u8>, UnprotectError>,
    ) -> Result<Vec<u8>, UnprotectError> {
        match unprotected {
            Err(UnprotectError::Forged) => self.refused.forged += 1,
            Err(UnprotectError::Replayed) => self.refused.replayed += 1,
            Ok(_) => {}
        }
        unprotected
    }
}
