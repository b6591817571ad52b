//! What the protection of a session is made from.

use rtc_srtp::context::Context;
use rtc_srtp::crypto;
use rtc_srtp::option::{
    srtcp_no_replay_protection, srtcp_replay_protection, srtp_no_replay_protection,
    srtp_replay_protection,
};
use rtc_srtp::protection_profile::ProtectionProfile;
use zeroize::Zeroizing;

/// So many packets back a packet may come late without being taken for a replay. RFC 3711 section
/// 3.3.2 wants 64 at least; with 10 ms packets this is 10 s, more than any jitter buffer waits.
pub(super) const REPLAY_WINDOW: usize = 1_024;

/// How packets are encrypted and authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SrtpProfile {
    /// AES-128 in GCM with tags of 16 bytes (RFC 7714).
    AeadAes128Gcm,
    /// AES-256 in GCM with tags of 16 bytes (RFC 7714).
    AeadAes256Gcm,
    /// AES-128 in counter mode, HMAC-SHA1 with tags of 10 bytes (RFC 3711, the one that all know).
    Aes128CmSha1_80,
    /// The same with tags of 4 bytes for RTP (RTCP keeps 10).
    Aes128CmSha1_32,
}

impl SrtpProfile {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::AeadAes128Gcm,
        Self::AeadAes256Gcm,
        Self::Aes128CmSha1_80,
        Self::Aes128CmSha1_32,
    ];

    /// The name of the crypto suite in SDP (RFC 4568 section 6.2, RFC 7714 section 14.2).
    pub fn name(self) -> &'static str {
        match self {
            Self::AeadAes128Gcm => "AEAD_AES_128_GCM",
            Self::AeadAes256Gcm => "AEAD_AES_256_GCM",
            Self::Aes128CmSha1_80 => "AES_CM_128_HMAC_SHA1_80",
            Self::Aes128CmSha1_32 => "AES_CM_128_HMAC_SHA1_32",
        }
    }

    /// The profile of a crypto suite's name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.name() == name)
    }

    /// Bytes of a master key.
    pub fn key_len(self) -> usize {
        self.of_rtc().key_len()
    }

    /// Bytes of a master salt.
    pub fn salt_len(self) -> usize {
        self.of_rtc().salt_len()
    }

    /// What a protected RTP packet is longer than the clear one, in bytes.
    pub fn overhead(self) -> usize {
        self.of_rtc().rtp_auth_tag_len() + self.of_rtc().aead_auth_tag_len()
    }

    pub(super) fn of_rtc(self) -> ProtectionProfile {
        match self {
            Self::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
            Self::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
            Self::Aes128CmSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
            Self::Aes128CmSha1_32 => ProtectionProfile::Aes128CmHmacSha1_32,
        }
    }
}

impl std::fmt::Display for SrtpProfile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Why there is no protection with these keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The key and salt together have another length than the profile says.
    #[error("{profile} takes {expected} bytes of key and salt, not {found}")]
    Length {
        /// The profile.
        profile: SrtpProfile,
        /// Bytes of key and salt that it takes.
        expected: usize,
        /// Bytes that there were.
        found: usize,
    },
    /// The two directions' keys are for different profiles.
    #[error("the keys of the two directions are for different profiles")]
    Mixed,
    /// The SRTP library refused.
    #[error("SRTP could not be set up: {0}")]
    Refused(String),
}

/// The master key and salt of one direction. Wiped when dropped, hidden from `Debug`.
#[derive(Clone)]
pub struct MasterKey {
    profile: SrtpProfile,
    key: Zeroizing<Vec<u8>>,
    salt: Zeroizing<Vec<u8>>,
}

impl MasterKey {
    /// The key, then the salt, as `inline:` of RFC 4568 section 6.1 has them.
    ///
    /// # Errors
    /// When they are not as long as the profile says.
    pub fn new(profile: SrtpProfile, key_and_salt: &[u8]) -> Result<Self, KeyError> {
        let expected = profile.key_len() + profile.salt_len();
        let of_length = || {
            let (key, salt) = key_and_salt.split_at_checked(profile.key_len())?;
            (salt.len() == profile.salt_len()).then_some((key, salt))
        };
        let (key, salt) = of_length().ok_or(KeyError::Length {
            profile,
            expected,
            found: key_and_salt.len(),
        })?;
        Ok(Self {
            profile,
            key: Zeroizing::new(key.to_vec()),
            salt: Zeroizing::new(salt.to_vec()),
        })
    }

    fn context(&self, replay: bool) -> Result<Context, KeyError> {
        let provider =
            crypto::default_provider().map_err(|error| KeyError::Refused(error.to_string()))?;
        let (rtp, rtcp) = if replay {
            (
                srtp_replay_protection(REPLAY_WINDOW),
                srtcp_replay_protection(REPLAY_WINDOW),
            )
        } else {
            (srtp_no_replay_protection(), srtcp_no_replay_protection())
        };
        Context::new(
            &self.key,
            &self.salt,
            self.profile.of_rtc(),
            Some(rtp),
            Some(rtcp),
            provider.crypto(),
        )
        .map_err(|error| KeyError::Refused(error.to_string()))
    }

    /// For taking packets that the peer has sent.
    pub(super) fn guarded(&self) -> Result<Context, KeyError> {
        self.context(true)
    }

    /// For sending, and for finding out whether a packet is the peer's at all.
    pub(super) fn unguarded(&self) -> Result<Context, KeyError> {
        self.context(false)
    }
}

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MasterKey({})", self.profile)
    }
}

/// The keys of a session.
#[derive(Debug, Clone)]
pub struct SrtpKeys {
    profile: SrtpProfile,
    local: MasterKey,
    remote: MasterKey,
}

impl SrtpKeys {
    /// What we send is protected with `local`, what comes with `remote`.
    pub fn new(profile: SrtpProfile, local: MasterKey, remote: MasterKey) -> Self {
        Self {
            profile,
            local,
            remote,
        }
    }

    /// How packets are protected.
    pub fn profile(&self) -> SrtpProfile {
        self.profile
    }

    fn checked<'a>(&self, key: &'a MasterKey) -> Result<&'a MasterKey, KeyError> {
        if key.profile == self.profile {
            Ok(key)
        } else {
            Err(KeyError::Mixed)
        }
    }

    pub(super) fn local(&self) -> Result<&MasterKey, KeyError> {
        self.checked(&self.local)
    }

    pub(super) fn remote(&self) -> Result<&MasterKey, KeyError> {
        self.checked(&self.remote)
    }
}
