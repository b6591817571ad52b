//! Bytes of DTLS 1.2: records, handshake messages, and a reader that never runs over the end.

/// DTLS 1.2 on the wire (RFC 6347 section 4.1).
pub(super) const DTLS_1_2: u16 = 0xfefd;
/// Bytes of a record's header.
pub(super) const RECORD_HEADER: usize = 13;
/// Bytes of a handshake message's header.
pub(super) const MESSAGE_HEADER: usize = 12;

pub(super) const CHANGE_CIPHER_SPEC: u8 = 20;
pub(super) const ALERT: u8 = 21;
pub(super) const HANDSHAKE: u8 = 22;

/// The kinds of handshake messages that there are here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    ClientHello = 1,
    ServerHello = 2,
    HelloVerifyRequest = 3,
    Certificate = 11,
    ServerKeyExchange = 12,
    CertificateRequest = 13,
    ServerHelloDone = 14,
    CertificateVerify = 15,
    ClientKeyExchange = 16,
    Finished = 20,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::ClientHello,
            2 => Self::ServerHello,
            3 => Self::HelloVerifyRequest,
            11 => Self::Certificate,
            12 => Self::ServerKeyExchange,
            13 => Self::CertificateRequest,
            14 => Self::ServerHelloDone,
            15 => Self::CertificateVerify,
            16 => Self::ClientKeyExchange,
            20 => Self::Finished,
            _ => return None,
        })
    }
}

/// Reads from the front; `None` once too little is left.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(front)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (front, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*front)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u24(&mut self) -> Option<usize> {
        let [a, b, c] = self.array()?;
        Some(usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c))
    }

    /// A vector with a length of one byte before it.
    pub(super) fn vector8(&mut self) -> Option<&'a [u8]> {
        let length = self.u8()?;
        self.take(usize::from(length))
    }

    /// A vector with a length of two bytes before it.
    pub(super) fn vector16(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

pub(super) fn put_u24(out: &mut Vec<u8>, value: usize) {
    out.extend((value as u32).to_be_bytes().into_iter().skip(1));
}

pub(super) fn put_vector8(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(bytes.len() as u8);
    out.extend(bytes);
}

pub(super) fn put_vector16(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u16).to_be_bytes());
    out.extend(bytes);
}

/// A record as it came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record<'a> {
    pub(super) content: u8,
    pub(super) epoch: u16,
    pub(super) sequence: [u8; 6],
    pub(super) body: &'a [u8],
}

/// The next record of a datagram; `None` at its end, or where it makes no sense any more.
pub(super) fn next_record<'a>(datagram: &mut Reader<'a>) -> Option<Record<'a>> {
    let content = datagram.u8()?;
    // The version is checked in the hellos; a ClientHello's record may say DTLS 1.0.
    let [major, _] = datagram.array()?;
    let record = Record {
        content,
        epoch: datagram.u16()?,
        sequence: datagram.array()?,
        body: datagram.vector16()?,
    };
    (major == 0xfe).then_some(record)
}

/// A fragment of a handshake message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fragment<'a> {
    pub(super) kind: Kind,
    pub(super) length: usize,
    pub(super) sequence: u16,
    pub(super) offset: usize,
    pub(super) bytes: &'a [u8],
}

/// The next fragment of a record of handshake messages.
pub(super) fn next_fragment<'a>(record: &mut Reader<'a>) -> Option<Fragment<'a>> {
    let kind = record.u8()?;
    let length = record.u24()?;
    let sequence = record.u16()?;
    let offset = record.u24()?;
    let fragment = record.u24()?;
    let bytes = record.take(fragment)?;
    (offset + fragment <= length).then_some(Fragment {
        kind: Kind::from_byte(kind)?,
        length,
        sequence,
        offset,
        bytes,
    })
}

/// A whole handshake message, as it is sent and as it is hashed.
pub(super) fn message(kind: Kind, sequence: u16, body: &[u8]) -> Vec<u8> {
    let mut message = vec![kind as u8];
    put_u24(&mut message, body.len());
    message.extend(sequence.to_be_bytes());
    put_u24(&mut message, 0);
    put_u24(&mut message, body.len());
    message.extend(body);
    message
}
