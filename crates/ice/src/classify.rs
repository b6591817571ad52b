//! What a datagram on a media socket is (RFC 7983, RFC 5761).

/// The kind of a datagram that shares its socket with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PacketKind {
    /// First byte 0 to 3 and, where the datagram is long enough, STUN's magic cookie.
    Stun,
    /// First byte 20 to 63.
    Dtls,
    /// First byte 128 to 191, and a payload type that is not one of RTCP's.
    Rtp,
    /// First byte 128 to 191, and an RTCP packet type (RFC 5761 section 4).
    Rtcp,
    /// Anything else; RFC 7983 section 7 says to drop it.
    Other,
}

/// The magic cookie of RFC 8489 section 5.
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

/// Tells the packets of one socket apart by their first bytes.
///
/// ```
/// use ringtrue_ice::{PacketKind, classify};
/// assert_eq!(classify(&[0x80, 96, 0, 1]), PacketKind::Rtp);
/// assert_eq!(classify(&[0x80, 200, 0, 6]), PacketKind::Rtcp);
/// assert_eq!(classify(&[]), PacketKind::Other);
/// ```
pub fn classify(payload: &[u8]) -> PacketKind {
    match *payload {
        // RFC 7983 section 7: 0 to 3. RFC 8489 section 5: the cookie tells STUN from the rest.
        [0..=3, _, _, _, a, b, c, d, ..] if [a, b, c, d] == MAGIC_COOKIE => PacketKind::Stun,
        [20..=63, ..] => PacketKind::Dtls,
        // RFC 5761 section 4: RTCP packet types 192 to 223 stand where RTP has its marker bit
        // and payload types 64 to 95, which RTP then must not use.
        [128..=191, 192..=223, ..] => PacketKind::Rtcp,
        [128..=191, _, ..] => PacketKind::Rtp,
        _ => PacketKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ranges_of_rfc_7983() {
        let stun = |first: u8| [first, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 0, 0];
        for first in 0..=255_u8 {
            let want = match first {
                0..=3 => PacketKind::Stun,
                20..=63 => PacketKind::Dtls,
                128..=191 => PacketKind::Rtp,
                _ => PacketKind::Other,
            };
            assert_eq!(classify(&stun(first)), want, "first byte {first}");
        }
    }

    #[test]
    fn rtcp_types_next_to_dynamic_payload_types_with_marker() {
        for second in 0..=255_u8 {
            let want = if (192..=223).contains(&second) {
                PacketKind::Rtcp
            } else {
                PacketKind::Rtp
            };
            assert_eq!(
                classify(&[0x80, second, 0, 0]),
                want,
                "second byte {second}"
            );
        }
    }

    #[test]
    fn without_the_cookie_it_is_not_stun() {
        assert_eq!(
            classify(&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x43, 0]),
            PacketKind::Other
        );
        assert_eq!(classify(&[0, 1, 0, 0]), PacketKind::Other);
    }
}
