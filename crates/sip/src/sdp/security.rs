//! How media is to be protected: the profile, `a=fingerprint` (RFC 8122), `a=setup` (RFC 4145,
//! RFC 5763) and `a=tls-id` (RFC 8842).

use sdp_types::{Attribute, Media, Session};

use super::codec::values;
use super::crypto::{self, Crypto};
use crate::syntax::is_token;

/// The most fingerprints of a peer that are kept.
const MAX_FINGERPRINTS: usize = 8;
/// The hashes that are good enough (RFC 8122 section 5): the digest's length in bytes.
const HASHES: [(&str, usize); 3] = [("sha-256", 32), ("sha-384", 48), ("sha-512", 64)];

/// The profile of a stream, feedback (AVPF, SAVPF) aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Profile {
    /// `RTP/AVP`: clear, unless both sides give fingerprints all the same (RFC 8643).
    Avp,
    /// `RTP/SAVP`: encrypted with keys from SDP, or from DTLS with older phones.
    Savp,
    /// `UDP/TLS/RTP/SAVP`: encrypted with keys from DTLS.
    DtlsSavp,
}

impl Profile {
    /// The profile of a stream's `m=` line; none if it is not RTP over UDP.
    pub(super) fn of(proto: &str) -> Option<Self> {
        let known = [
            ("RTP/AVP", Self::Avp),
            ("RTP/SAVP", Self::Savp),
            ("UDP/TLS/RTP/SAVP", Self::DtlsSavp),
        ];
        let plain = proto.strip_suffix(['F', 'f']).unwrap_or(proto);
        let mut known = known.into_iter();
        known
            .find(|(name, _)| name.eq_ignore_ascii_case(plain))
            .map(|(_, profile)| profile)
    }

    /// Whether the profile itself says that media is encrypted.
    pub fn is_secure(self) -> bool {
        self != Self::Avp
    }

    /// As an offer of ours says it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Avp => "RTP/AVP",
            Self::Savp => "RTP/SAVP",
            Self::DtlsSavp => "UDP/TLS/RTP/SAVP",
        }
    }
}

/// Who begins the DTLS handshake (RFC 5763 section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Setup {
    /// The one who says it: it is the client.
    Active,
    /// The other one.
    Passive,
    /// Whichever the other side says; in offers.
    ActPass,
}

impl Setup {
    fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Passive => "passive",
            Self::ActPass => "actpass",
        }
    }

    /// What we answer to an offer that says this: we begin if we may, since our checks run first.
    fn answered(self) -> Self {
        match self {
            Self::Active => Self::Passive,
            Self::Passive | Self::ActPass => Self::Active,
        }
    }
}

/// A certificate's fingerprint (RFC 8122 section 5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFingerprint {
    /// The hash's name, in small letters.
    pub hash: String,
    /// The hash of the certificate's DER.
    pub digest: Vec<u8>,
}

impl CertificateFingerprint {
    fn read(value: &str) -> Option<Self> {
        let (hash, digest) = value.trim().split_once(' ')?;
        let hash = hash.to_ascii_lowercase();
        let length = HASHES.into_iter().find(|(name, _)| *name == hash)?.1;
        let bytes = digest.trim().split(':').map(|pair| {
            let two = pair.len() == 2 && pair.bytes().all(|c| c.is_ascii_hexdigit());
            two.then(|| u8::from_str_radix(pair, 16).ok()).flatten()
        });
        let digest: Vec<u8> = bytes.collect::<Option<_>>()?;
        (digest.len() == length).then_some(Self { hash, digest })
    }

    fn value(&self) -> String {
        let pairs: Vec<String> = self.digest.iter().map(|b| format!("{b:02X}")).collect();
        format!("{} {}", self.hash, pairs.join(":"))
    }
}

/// What a description says about DTLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DtlsDescription {
    /// The certificate, by hashes that we trust; at least one.
    pub fingerprints: Vec<CertificateFingerprint>,
    /// Who begins.
    pub setup: Setup,
    /// The association's name (RFC 8842 section 4), where it is said.
    pub tls_id: Option<String>,
}

/// How we want our stream protected.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum LocalSecurity {
    /// Not at all: encrypted streams are refused.
    #[default]
    Off,
    /// If the peer can: the offer stays `RTP/AVP` with a fingerprint (RFC 8643).
    Optional(DtlsDescription),
    /// In any case: clear streams are refused.
    Required(DtlsDescription),
}

impl LocalSecurity {
    /// Our DTLS part.
    pub fn dtls(&self) -> Option<&DtlsDescription> {
        match self {
            Self::Off => None,
            Self::Optional(dtls) | Self::Required(dtls) => Some(dtls),
        }
    }

    /// Whether a stream suits us by its protection.
    pub(super) fn suits(&self, ours: &[Crypto], session: &Session, media: &Media) -> bool {
        let secure = Profile::of(&media.proto).is_some_and(Profile::is_secure);
        let has_keys = read(session, media).is_some() || crypto::have_common(ours, media);
        match self {
            Self::Off => !secure,
            Self::Optional(_) => !secure || has_keys,
            Self::Required(_) => has_keys,
        }
    }

    /// The profile of an offer. `RTP/SAVP` stands for keys of both kinds.
    pub(super) fn offered(&self, crypto: &[Crypto]) -> Profile {
        match self {
            Self::Off | Self::Optional(_) => Profile::Avp,
            Self::Required(_) if crypto.is_empty() => Profile::DtlsSavp,
            Self::Required(_) => Profile::Savp,
        }
    }
}

/// What was agreed on for DTLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NegotiatedDtls {
    /// Whether we begin the handshake.
    pub active: bool,
    /// The peer's side.
    pub remote: DtlsDescription,
}

/// The DTLS part of a stream's description: none without a fingerprint by a good hash.
pub(super) fn read(session: &Session, media: &Media) -> Option<DtlsDescription> {
    let nearest = |name| {
        let of_media = values(&media.attributes, name).next().is_some();
        let list = if of_media {
            &media.attributes
        } else {
            &session.attributes
        };
        values(list, name)
    };
    let fingerprints: Vec<_> = nearest("fingerprint")
        .filter_map(CertificateFingerprint::read)
        .take(MAX_FINGERPRINTS)
        .collect();
    if fingerprints.is_empty() {
        return None;
    }
    let setup = match nearest("setup").next().map(str::trim) {
        Some(word) if word.eq_ignore_ascii_case("active") => Setup::Active,
        Some(word) if word.eq_ignore_ascii_case("passive") => Setup::Passive,
        Some(word) if word.eq_ignore_ascii_case("holdconn") => return None,
        _ => Setup::ActPass,
    };
    let tls_id = values(&media.attributes, "tls-id").next().map(str::trim);
    Some(DtlsDescription {
        fingerprints,
        setup,
        tls_id: tls_id
            .filter(|id| is_token(id.as_bytes()) && id.len() <= 255)
            .map(str::to_owned),
    })
}

/// What we say and what the peer said, put together; none when one of the two says nothing. In an
/// answer, ours says the setup that we take.
pub(super) fn agree_on_answer(
    local: &LocalSecurity,
    remote: Option<DtlsDescription>,
) -> Option<(DtlsDescription, NegotiatedDtls)> {
    let (local, remote) = (local.dtls()?, remote?);
    // A role that stands already is kept (RFC 8842 section 5.3).
    let setup = match (local.setup, remote.setup) {
        (ours @ (Setup::Active | Setup::Passive), Setup::ActPass) => ours,
        (_, theirs) => theirs.answered(),
    };
    let ours = DtlsDescription {
        setup,
        // RFC 8842 section 5.3: an answer has one if the offer has.
        tls_id: local.tls_id.clone().filter(|_| remote.tls_id.is_some()),
        ..local.clone()
    };
    let active = setup == Setup::Active;
    Some((ours, NegotiatedDtls { active, remote }))
}

/// What an answer to our offer comes to. One that says no role has taken the active one.
pub(super) fn agree_on_offer(
    local: &LocalSecurity,
    remote: Option<DtlsDescription>,
) -> Option<NegotiatedDtls> {
    local.dtls()?;
    let remote = remote?;
    let active = remote.setup == Setup::Passive;
    Some(NegotiatedDtls { active, remote })
}

/// Writes our side; offers say `actpass` (RFC 5763 section 5) and no `tls-id`: an INVITE has 1300
/// bytes in a datagram, and what it would say the fingerprint says too.
pub(super) fn write(dtls: &DtlsDescription, setup: Setup, out: &mut Vec<Attribute>) {
    for fingerprint in &dtls.fingerprints {
        out.push(Attribute::with_value("fingerprint", fingerprint.value()));
    }
    out.push(Attribute::with_value("setup", setup.as_str()));
    if setup != Setup::ActPass
        && let Some(tls_id) = &dtls.tls_id
    {
        out.push(Attribute::with_value("tls-id", tls_id));
    }
}
