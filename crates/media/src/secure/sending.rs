//! What we send, protected.

use rtc_srtp::context::Context;

use super::packet::{rtcp_sender, rtp_header};
use super::{KeyError, ProtectError, SrtpKeys};

/// So many packets one master key may protect (RFC 3711 section 9.2).
const RTP_LIFETIME: u64 = 1 << 48;
const RTCP_LIFETIME: u64 = 1 << 31;
/// So many streams of ours one after the other. None is forgotten: an SSRC that came back would
/// use its keystream again.
const MOST_STREAMS: usize = 256;

/// A stream of ours: its SSRC and its last sequence number.
struct Stream {
    ssrc: u32,
    last: u16,
}

/// Our half of a session.
pub(super) struct Sending {
    context: Context,
    streams: Vec<Stream>,
    rtp_left: u64,
    rtcp_left: u64,
}

impl Sending {
    pub(super) fn new(keys: &SrtpKeys) -> Result<Self, KeyError> {
        Ok(Self {
            context: keys.local()?.unguarded()?,
            streams: Vec::new(),
            rtp_left: RTP_LIFETIME,
            rtcp_left: RTCP_LIFETIME,
        })
    }

    /// Lets the keys live so much longer only.
    #[cfg(test)]
    pub(super) fn wear_out(&mut self, rtp_left: u64, rtcp_left: u64) {
        self.rtp_left = rtp_left;
        self.rtcp_left = rtcp_left;
    }

    pub(super) fn rtp(&mut self, packet: &[u8]) -> Result<Vec<u8>, ProtectError> {
        let header = rtp_header(packet).ok_or(ProtectError::Malformed)?;
        if self.rtp_left == 0 {
            return Err(ProtectError::Exhausted);
        }
        self.follow(header.ssrc, header.sequence_number)?;
        self.rtp_left -= 1;
        self.context
            .encrypt_rtp_with_header(packet, &header)
            .map(Vec::from)
            .map_err(|_| ProtectError::Exhausted)
    }

    /// The packet index grows with every packet of a stream, so that no two share a keystream.
    fn follow(&mut self, ssrc: u32, sequence: u16) -> Result<(), ProtectError> {
        if let Some(stream) = self.streams.iter_mut().find(|stream| stream.ssrc == ssrc) {
            let ahead = sequence.wrapping_sub(stream.last);
            if ahead == 0 || ahead >= 1 << 15 {
                return Err(ProtectError::Repeated);
            }
            stream.last = sequence;
            return Ok(());
        }
        if self.streams.len() >= MOST_STREAMS {
            return Err(ProtectError::Exhausted);
        }
        self.streams.push(Stream {
            ssrc,
            last: sequence,
        });
        Ok(())
    }

    pub(super) fn rtcp(&mut self, packet: &[u8]) -> Result<Vec<u8>, ProtectError> {
        rtcp_sender(packet).ok_or(ProtectError::Malformed)?;
        if self.rtcp_left == 0 {
            return Err(ProtectError::Exhausted);
        }
        self.rtcp_left -= 1;
        self.context
            .encrypt_rtcp(packet)
            .map(Vec::from)
            .map_err(|_| ProtectError::Malformed)
    }
}
