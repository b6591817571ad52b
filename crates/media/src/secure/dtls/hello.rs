//! ClientHello and ServerHello (RFC 5246 section 7.4.1, RFC 6347 section 4.2.1).

use super::super::SrtpProfile;
use super::wire::{DTLS_1_2, Reader, put_vector8, put_vector16};

/// TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, which RFC 8827 section 6.5 wants of everybody.
pub(super) const ECDHE_ECDSA: u16 = 0xc02b;
/// TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, for peers with RSA certificates.
pub(super) const ECDHE_RSA: u16 = 0xc02f;
/// TLS_EMPTY_RENEGOTIATION_INFO_SCSV (RFC 5746).
const RENEGOTIATION_SCSV: u16 = 0x00ff;

pub(super) const P256: u16 = 23;
pub(super) const X25519: u16 = 29;
/// Groups for the exchange, the preferred one first.
pub(super) const GROUPS: [u16; 2] = [X25519, P256];

const SUPPORTED_GROUPS: u16 = 10;
const POINT_FORMATS: u16 = 11;
const SIGNATURE_ALGORITHMS: u16 = 13;
const USE_SRTP: u16 = 14;
const EXTENDED_MASTER_SECRET: u16 = 23;
const RENEGOTIATION_INFO: u16 = 0xff01;

/// SRTP profiles, the preferred one first. GCM is one pass over the packet, so quicker, with a tag
/// that nobody shortens; AES-CM is what every phone has.
const PROFILES: [(u16, SrtpProfile); 4] = [
    (0x0007, SrtpProfile::AeadAes128Gcm),
    (0x0008, SrtpProfile::AeadAes256Gcm),
    (0x0001, SrtpProfile::Aes128CmSha1_80),
    (0x0002, SrtpProfile::Aes128CmSha1_32),
];

/// What a hello says.
#[derive(Debug, Default)]
pub(super) struct Hello {
    pub(super) random: [u8; 32],
    pub(super) suites: Vec<u16>,
    pub(super) groups: Vec<u16>,
    pub(super) schemes: Option<Vec<u16>>,
    pub(super) profiles: Vec<u16>,
    pub(super) extended_master_secret: bool,
    secure_renegotiation: bool,
    point_formats: bool,
}

/// A list of numbers of two bytes, as long as anybody's.
fn numbers(bytes: &[u8]) -> Vec<u16> {
    let pairs = bytes.chunks_exact(2).take(128);
    pairs
        .filter_map(|pair| pair.try_into().ok().map(u16::from_be_bytes))
        .collect()
}

impl Hello {
    /// Our profile of those that the peer named; it names one alone in a ServerHello.
    pub(super) fn profile(&self) -> Option<SrtpProfile> {
        let mut ours = PROFILES.into_iter();
        ours.find(|(number, _)| self.profiles.contains(number))
            .map(|(_, profile)| profile)
    }

    pub(super) fn read_client(body: &[u8]) -> Option<Self> {
        let mut reader = Reader(body);
        let mut hello = Self::default();
        // RFC 9147 section 5.3: clients of later versions say this one too.
        if reader.u16()? != DTLS_1_2 {
            return None;
        }
        hello.random = reader.array()?;
        let _session = reader.vector8()?;
        let _cookie = reader.vector8()?;
        hello.suites = numbers(reader.vector16()?);
        let compressions = reader.vector8()?;
        if !compressions.contains(&0) {
            return None;
        }
        hello.secure_renegotiation = hello.suites.contains(&RENEGOTIATION_SCSV);
        hello.read_extensions(reader)?;
        Some(hello)
    }

    pub(super) fn read_server(body: &[u8]) -> Option<Self> {
        let mut reader = Reader(body);
        let mut hello = Self::default();
        if reader.u16()? != DTLS_1_2 {
            return None;
        }
        hello.random = reader.array()?;
        let _session = reader.vector8()?;
        hello.suites = vec![reader.u16()?];
        if reader.u8()? != 0 {
            return None;
        }
        hello.read_extensions(reader)?;
        // RFC 5764 section 4.1.1: one profile, and no MKI, since we named none.
        (hello.profiles.len() == 1).then_some(hello)
    }

    fn read_extensions(&mut self, mut reader: Reader<'_>) -> Option<()> {
        if reader.is_empty() {
            return Some(());
        }
        let mut list = Reader(reader.vector16()?);
        while !list.is_empty() {
            let kind = list.u16()?;
            let mut body = Reader(list.vector16()?);
            match kind {
                SUPPORTED_GROUPS => self.groups = numbers(body.vector16()?),
                SIGNATURE_ALGORITHMS => self.schemes = Some(numbers(body.vector16()?)),
                USE_SRTP => self.profiles = numbers(body.vector16()?),
                EXTENDED_MASTER_SECRET => self.extended_master_secret = true,
                RENEGOTIATION_INFO => self.secure_renegotiation = true,
                POINT_FORMATS => self.point_formats = true,
                _ => {}
            }
        }
        Some(())
    }
}

fn list16(numbers: impl IntoIterator<Item = u16>) -> Vec<u8> {
    let bytes: Vec<u8> = numbers.into_iter().flat_map(u16::to_be_bytes).collect();
    let mut list = Vec::new();
    put_vector16(&mut list, &bytes);
    list
}

fn put_extension(out: &mut Vec<u8>, kind: u16, body: &[u8]) {
    out.extend(kind.to_be_bytes());
    put_vector16(out, body);
}

fn use_srtp(profiles: impl IntoIterator<Item = u16>) -> Vec<u8> {
    let mut body = list16(profiles);
    // No MKI.
    body.push(0);
    body
}

/// The body of our ClientHello.
pub(super) fn client_hello(random: &[u8; 32], cookie: &[u8], schemes: &[u16]) -> Vec<u8> {
    let mut body = DTLS_1_2.to_be_bytes().to_vec();
    body.extend(random);
    put_vector8(&mut body, &[]);
    put_vector8(&mut body, cookie);
    body.extend(list16([ECDHE_ECDSA, ECDHE_RSA]));
    put_vector8(&mut body, &[0]);
    let mut extensions = Vec::new();
    put_extension(&mut extensions, SUPPORTED_GROUPS, &list16(GROUPS));
    put_extension(&mut extensions, POINT_FORMATS, &[1, 0]);
    let schemes = list16(schemes.iter().copied());
    put_extension(&mut extensions, SIGNATURE_ALGORITHMS, &schemes);
    let profiles = use_srtp(PROFILES.map(|(number, _)| number));
    put_extension(&mut extensions, USE_SRTP, &profiles);
    put_extension(&mut extensions, EXTENDED_MASTER_SECRET, &[]);
    put_extension(&mut extensions, RENEGOTIATION_INFO, &[0]);
    put_vector16(&mut body, &extensions);
    body
}

/// The body of our ServerHello, which takes up what the client offered.
pub(super) fn server_hello(random: &[u8; 32], client: &Hello, profile: SrtpProfile) -> Vec<u8> {
    let mut body = DTLS_1_2.to_be_bytes().to_vec();
    body.extend(random);
    put_vector8(&mut body, &[]);
    body.extend(ECDHE_ECDSA.to_be_bytes());
    body.push(0);
    let mut extensions = Vec::new();
    let number = PROFILES.into_iter().find(|(_, known)| *known == profile);
    let chosen = use_srtp(number.map(|(number, _)| number));
    put_extension(&mut extensions, USE_SRTP, &chosen);
    if client.extended_master_secret {
        put_extension(&mut extensions, EXTENDED_MASTER_SECRET, &[]);
    }
    if client.secure_renegotiation {
        put_extension(&mut extensions, RENEGOTIATION_INFO, &[0]);
    }
    if client.point_formats {
        put_extension(&mut extensions, POINT_FORMATS, &[1, 0]);
    }
    put_vector16(&mut body, &extensions);
    body
}
