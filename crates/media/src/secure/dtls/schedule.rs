//! The keys of TLS 1.2 with SHA-256 (RFC 5246 sections 5, 6.3 and 8.1; RFC 7627; RFC 5705), and the
//! protection of records with AES-128 in GCM (RFC 5288).

use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::{digest, hmac};
use zeroize::Zeroizing;

use super::super::{MasterKey, SrtpKeys, SrtpProfile};
use super::DtlsRole;
use super::wire::{DTLS_1_2, RECORD_HEADER, Reader, Record};

/// RFC 5764 section 4.2.
const SRTP_LABEL: &[u8] = b"EXTRACTOR-dtls_srtp";
const TAG: usize = 16;

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    for (to, from) in hash
        .iter_mut()
        .zip(digest::digest(&digest::SHA256, bytes).as_ref())
    {
        *to = *from;
    }
    hash
}

/// RFC 5246 section 5.
fn prf(secret: &[u8], label: &[u8], seed: &[&[u8]], length: usize) -> Zeroizing<Vec<u8>> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let sign = |parts: &[&[u8]]| {
        let mut context = hmac::Context::with_key(&key);
        for part in parts {
            context.update(part);
        }
        context.sign()
    };
    let seed = [&[label], seed].concat().concat();
    let mut out = Zeroizing::new(Vec::with_capacity(length + 32));
    let mut a = sign(&[&seed]);
    while out.len() < length {
        out.extend_from_slice(sign(&[a.as_ref(), &seed]).as_ref());
        a = sign(&[a.as_ref()]);
    }
    out.truncate(length);
    out
}

/// The two randoms of the hellos.
#[derive(Debug, Clone, Copy)]
pub(super) struct Randoms {
    pub(super) client: [u8; 32],
    pub(super) server: [u8; 32],
}

/// The master secret, and what follows from it.
pub(super) struct Secrets {
    master: Zeroizing<Vec<u8>>,
    randoms: Randoms,
}

impl Secrets {
    /// With `session`, the hash of all messages up to ClientKeyExchange, the extended master secret.
    pub(super) fn new(shared: &[u8], randoms: Randoms, session: Option<[u8; 32]>) -> Self {
        let master = match session {
            Some(session) => prf(shared, b"extended master secret", &[&session], 48),
            None => {
                let seed: [&[u8]; 2] = [&randoms.client, &randoms.server];
                prf(shared, b"master secret", &seed, 48)
            }
        };
        Self { master, randoms }
    }

    /// What the Finished of a side holds.
    pub(super) fn verify_data(&self, of: DtlsRole, transcript: &[u8]) -> Vec<u8> {
        let label: &[u8] = match of {
            DtlsRole::Active => b"client finished",
            DtlsRole::Passive => b"server finished",
        };
        prf(&self.master, label, &[&sha256(transcript)], 12).to_vec()
    }

    /// Protection of the records of epoch 1: what we send, what we get.
    pub(super) fn protection(&self, role: DtlsRole) -> Option<(Protection, Protection)> {
        let seed: [&[u8]; 2] = [&self.randoms.server, &self.randoms.client];
        let block = prf(&self.master, b"key expansion", &seed, 40);
        let mut block = Reader(&block);
        let (client_key, server_key) = (block.take(16)?, block.take(16)?);
        let client = Protection::new(client_key, block.array()?)?;
        let server = Protection::new(server_key, block.array()?)?;
        Some(match role {
            DtlsRole::Active => (client, server),
            DtlsRole::Passive => (server, client),
        })
    }

    /// The keys of SRTP (RFC 5764 section 4.2).
    pub(super) fn srtp(&self, role: DtlsRole, profile: SrtpProfile) -> Option<SrtpKeys> {
        let (key, salt) = (profile.key_len(), profile.salt_len());
        let seed: [&[u8]; 2] = [&self.randoms.client, &self.randoms.server];
        let material = prf(&self.master, SRTP_LABEL, &seed, 2 * (key + salt));
        let mut material = Reader(&material);
        let keys = [material.take(key)?, material.take(key)?];
        let salts = [material.take(salt)?, material.take(salt)?];
        let [client, server] = [0, 1].map(|side: usize| {
            let (key, salt) = (keys.get(side)?, salts.get(side)?);
            let both = Zeroizing::new([*key, *salt].concat());
            MasterKey::new(profile, &both).ok()
        });
        let (client, server) = (client?, server?);
        Some(match role {
            DtlsRole::Active => SrtpKeys::new(profile, client, server),
            DtlsRole::Passive => SrtpKeys::new(profile, server, client),
        })
    }
}

/// One direction's protection of records.
pub(super) struct Protection {
    key: Box<LessSafeKey>,
    salt: [u8; 4],
}

impl Protection {
    fn new(key: &[u8], salt: [u8; 4]) -> Option<Self> {
        let key = Box::new(LessSafeKey::new(UnboundKey::new(&AES_128_GCM, key).ok()?));
        Some(Self { key, salt })
    }

    fn nonce(&self, explicit: [u8; 8]) -> Nonce {
        let mut nonce = [0; 12];
        for (to, from) in nonce.iter_mut().zip(self.salt.into_iter().chain(explicit)) {
            *to = from;
        }
        Nonce::assume_unique_for_key(nonce)
    }

    fn additional(number: [u8; 8], content: u8, length: usize) -> Aad<Vec<u8>> {
        let mut additional = number.to_vec();
        additional.push(content);
        additional.extend(DTLS_1_2.to_be_bytes());
        additional.extend((length as u16).to_be_bytes());
        Aad::from(additional)
    }

    /// A record's body; `number` is epoch and sequence number, and never the same twice.
    pub(super) fn seal(&self, number: [u8; 8], content: u8, clear: &[u8]) -> Option<Vec<u8>> {
        let mut body = clear.to_vec();
        let additional = Self::additional(number, content, clear.len());
        self.key
            .seal_in_place_append_tag(self.nonce(number), additional, &mut body)
            .ok()?;
        Some([&number[..], &body].concat())
    }

    pub(super) fn open(&self, record: &Record<'_>) -> Option<Vec<u8>> {
        let mut reader = Reader(record.body);
        let explicit = reader.array()?;
        let length = reader.0.len().checked_sub(TAG)?;
        let mut number = [0; 8];
        let parts = record
            .epoch
            .to_be_bytes()
            .into_iter()
            .chain(record.sequence);
        for (to, from) in number.iter_mut().zip(parts) {
            *to = from;
        }
        let additional = Self::additional(number, record.content, length);
        let mut body = reader.0.to_vec();
        self.key
            .open_in_place(self.nonce(explicit), additional, &mut body)
            .ok()?;
        body.truncate(length);
        Some(body)
    }
}

/// A record as it is sent.
pub(super) fn record(content: u8, number: [u8; 8], body: &[u8]) -> Vec<u8> {
    let mut record = Vec::with_capacity(RECORD_HEADER + body.len());
    record.push(content);
    record.extend(DTLS_1_2.to_be_bytes());
    record.extend(number);
    record.extend((body.len() as u16).to_be_bytes());
    record.extend(body);
    record
}
