//! Who the two are: certificates, their fingerprints in SDP, and signatures with their keys.

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use ring::digest;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA384_ASN1,
    ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, EcdsaKeyPair, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm,
};

use super::DtlsError;
use super::wire::Reader;

/// Signatures that a peer may make, the preferred one first (RFC 5246 section 7.4.1.4.1).
pub(super) const SCHEMES: [u16; 5] = [ECDSA_SHA256, 0x0503, 0x0804, 0x0401, 0x0501];
/// The one that we make.
pub(super) const ECDSA_SHA256: u16 = 0x0403;

/// The hash of a fingerprint. Weaker ones (SHA-1, MD5) are not taken (RFC 8122 section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FingerprintHash {
    /// `sha-256`, which ours have.
    Sha256,
    /// `sha-384`.
    Sha384,
    /// `sha-512`.
    Sha512,
}

impl FingerprintHash {
    /// The hash of a name in SDP, whatever its case.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Sha256, Self::Sha384, Self::Sha512]
            .into_iter()
            .find(|hash| hash.name().eq_ignore_ascii_case(name))
    }

    /// The name in SDP (RFC 8122 section 5).
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha-256",
            Self::Sha384 => "sha-384",
            Self::Sha512 => "sha-512",
        }
    }

    fn of(self, certificate: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        };
        digest::digest(algorithm, certificate).as_ref().to_vec()
    }
}

/// The fingerprint of a certificate, as `a=fingerprint` says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    /// Which hash.
    pub hash: FingerprintHash,
    /// The hash of the certificate's DER.
    pub digest: Vec<u8>,
}

impl Fingerprint {
    /// Whether it is this certificate's.
    pub(super) fn fits(&self, certificate: &[u8]) -> bool {
        self.hash.of(certificate) == self.digest
    }
}

/// A certificate of our own, signed by itself, with its key. One for a run of the phone is enough
/// (RFC 5763 section 5); only its fingerprint says that it is ours.
pub struct Identity {
    certificate: Vec<u8>,
    key: EcdsaKeyPair,
    random: SystemRandom,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({} bytes)", self.certificate.len())
    }
}

impl Identity {
    /// A new certificate for ECDSA on P-256 with a key from the system's randomness.
    ///
    /// # Errors
    /// When the system has none to give.
    pub fn generate() -> Result<Self, DtlsError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(refused)?;
        let mut params = CertificateParams::default();
        // It must say nothing about the user (RFC 5763 section 5).
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "-");
        let certificate = params.self_signed(&key).map_err(refused)?;
        let random = SystemRandom::new();
        let pkcs8 = zeroize::Zeroizing::new(key.serialize_der());
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &pkcs8, &random)
            .map_err(refused)?;
        Ok(Self {
            certificate: certificate.der().to_vec(),
            key,
            random,
        })
    }

    /// For our `a=fingerprint`.
    pub fn fingerprint(&self) -> Fingerprint {
        let hash = FingerprintHash::Sha256;
        Fingerprint {
            hash,
            digest: hash.of(&self.certificate),
        }
    }

    pub(super) fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// A signature of [`ECDSA_SHA256`].
    pub(super) fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let signature = self.key.sign(&self.random, message).ok()?;
        Some(signature.as_ref().to_vec())
    }
}

fn refused(error: impl std::fmt::Display) -> DtlsError {
    DtlsError(error.to_string())
}

/// Whether a signature was made with a certificate's key.
pub(super) fn verifies(certificate: &[u8], scheme: u16, message: &[u8], signature: &[u8]) -> bool {
    let Some(key) = public_key(certificate) else {
        return false;
    };
    // Uncompressed points on P-256 and P-384; anything else must be an RSA key, or ring says no.
    let algorithm: &dyn VerificationAlgorithm = match (scheme, key.len()) {
        (0x0403, 65) => &ECDSA_P256_SHA256_ASN1,
        (0x0403, 97) => &ECDSA_P384_SHA256_ASN1,
        (0x0503, 65) => &ECDSA_P256_SHA384_ASN1,
        (0x0503, 97) => &ECDSA_P384_SHA384_ASN1,
        (0x0804, _) => &RSA_PSS_2048_8192_SHA256,
        (0x0401, _) => &RSA_PKCS1_2048_8192_SHA256,
        (0x0501, _) => &RSA_PKCS1_2048_8192_SHA384,
        _ => return false,
    };
    UnparsedPublicKey::new(algorithm, key)
        .verify(message, signature)
        .is_ok()
}

const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;
const VERSION: u8 = 0xa0;

/// The key in a certificate's SubjectPublicKeyInfo (RFC 5280 section 4.1). Nothing else in it
/// counts: what makes it the peer's is its fingerprint.
fn public_key(certificate: &[u8]) -> Option<&[u8]> {
    let mut outer = Reader(value(&mut Reader(certificate), SEQUENCE)?);
    let mut fields = Reader(value(&mut outer, SEQUENCE)?);
    if fields.0.first() == Some(&VERSION) {
        element(&mut fields)?;
    }
    // serialNumber, signature, issuer, validity, subject
    for _ in 0..5 {
        element(&mut fields)?;
    }
    let mut info = Reader(value(&mut fields, SEQUENCE)?);
    element(&mut info)?;
    let bits = value(&mut info, BIT_STRING)?;
    let (unused, key) = bits.split_first()?;
    (*unused == 0).then_some(key)
}

fn value<'a>(reader: &mut Reader<'a>, tag: u8) -> Option<&'a [u8]> {
    let (found, value) = element(reader)?;
    (found == tag).then_some(value)
}

/// One element of DER, with a length of up to two bytes after the first.
fn element<'a>(reader: &mut Reader<'a>) -> Option<(u8, &'a [u8])> {
    let tag = reader.u8()?;
    let length = match reader.u8()? {
        short @ 0..=0x7f => usize::from(short),
        0x81 => usize::from(reader.u8()?),
        0x82 => usize::from(reader.u16()?),
        _ => return None,
    };
    Some((tag, reader.take(length)?))
}
