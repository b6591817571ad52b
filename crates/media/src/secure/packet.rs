//! The headers of RTP and SRTCP, as far as their protection has to know them.

use super::LONGEST_PACKET;

/// Bytes of an RTP header without CSRCs and extension.
const RTP_HEADER: usize = 12;
/// Bytes of an RTCP header with the sender's SSRC.
const RTCP_HEADER: usize = 8;

/// An RTP packet's header, in the shape that rtc-srtp asks for.
///
/// It is read here and not by rtc-rtp, which reads the extension's elements too and then computes
/// from them where the payload begins: elements that are padded or run over the extension's end
/// move that place, and the packet would be decrypted from the wrong byte.
pub(super) fn rtp_header(packet: &[u8]) -> Option<rtc_rtp::Header> {
    let (fixed, rest) = packet.split_first_chunk::<RTP_HEADER>()?;
    let [first, _, s0, s1, _, _, _, _, a, b, c, d] = *fixed;
    if first >> 6 != 2 || packet.len() > LONGEST_PACKET {
        return None;
    }
    let contributing = usize::from(first & 0x0f);
    let has_extension = first & 0x10 != 0;
    let after = rest.get(contributing * 4..)?;
    let extension = if has_extension {
        let [_, _, high, low, elements @ ..] = after else {
            return None;
        };
        let bytes = usize::from(u16::from_be_bytes([*high, *low])) * 4;
        elements.get(bytes..)?;
        bytes
    } else {
        0
    };
    Some(rtc_rtp::Header {
        version: 2,
        extension: has_extension,
        sequence_number: u16::from_be_bytes([s0, s1]),
        ssrc: u32::from_be_bytes([a, b, c, d]),
        // Of these two only the length counts.
        csrc: vec![0; contributing],
        extensions_padding: extension,
        ..rtc_rtp::Header::default()
    })
}

/// The SSRC of a (compound) RTCP packet's sender.
pub(super) fn rtcp_sender(packet: &[u8]) -> Option<u32> {
    let (fixed, _) = packet.split_first_chunk::<RTCP_HEADER>()?;
    let [first, _, _, _, a, b, c, d] = *fixed;
    (first >> 6 == 2 && packet.len() <= LONGEST_PACKET).then(|| u32::from_be_bytes([a, b, c, d]))
}

/// Whether an SRTCP packet says that it is encrypted; `tag` is the length of what follows the word
/// with the flag (RFC 3711 section 3.4).
pub(super) fn rtcp_is_encrypted(packet: &[u8], tag: usize) -> bool {
    let word = packet.len().checked_sub(tag + 4);
    word.and_then(|at| packet.get(at))
        .is_some_and(|first| first & 0x80 != 0)
}
