//! What the peer sends, unprotected.

use rtc_shared::error::Error;
use rtc_srtp::context::Context;

use super::packet::{rtcp_is_encrypted, rtcp_sender, rtp_header};
use super::{KeyError, MasterKey, SrtpKeys, UnprotectError};

/// So many streams of the peer's are followed in RTP, and as many in RTCP, one after the other or at once. None is forgotten:
/// with its replay window gone, every packet of it could be replayed.
pub(super) const MOST_STREAMS: usize = 128;
/// After so many packets under unknown SSRCs, what they left behind is thrown away.
const MOST_STRANGERS: usize = 32;

/// A stream of the peer's: at least one packet of it was authentic.
struct Stream {
    ssrc: u32,
    context: Context,
}

/// Packets of one kind, RTP or RTCP.
///
/// rtc-srtp keeps a state for every SSRC that it ever saw, and sets the replay window by the first
/// packet, authentic or not. So each stream has a context of its own, made when a packet of it has
/// proved authentic; until then packets are tried in a context that judges only authenticity. RTP
/// and RTCP have a window each: one kind's packet proves nothing about the other's.
struct Streams {
    stranger: Context,
    strangers: usize,
    streams: Vec<Stream>,
}

/// The peer's half of a session.
pub(super) struct Receiving {
    key: MasterKey,
    /// The length of what follows the SRTCP index.
    rtcp_tag: usize,
    rtp: Streams,
    rtcp: Streams,
}

fn reason(error: &Error) -> UnprotectError {
    match error {
        Error::SrtpSsrcDuplicated(..) | Error::SrtcpSsrcDuplicated(..) => UnprotectError::Replayed,
        _ => UnprotectError::Forged,
    }
}

impl Receiving {
    pub(super) fn new(keys: &SrtpKeys) -> Result<Self, KeyError> {
        let key = keys.remote()?.clone();
        Ok(Self {
            rtp: Streams::new(&key)?,
            rtcp: Streams::new(&key)?,
            key,
            rtcp_tag: keys.profile().of_rtc().rtcp_auth_tag_len(),
        })
    }

    pub(super) fn rtp(&mut self, packet: &[u8]) -> Result<Vec<u8>, UnprotectError> {
        let header = rtp_header(packet).ok_or(UnprotectError::Forged)?;
        self.rtp.with(&self.key, header.ssrc, |context| {
            context
                .decrypt_rtp_with_header(packet, &header)
                .map(Vec::from)
        })
    }

    pub(super) fn rtcp(&mut self, packet: &[u8]) -> Result<Vec<u8>, UnprotectError> {
        let ssrc = rtcp_sender(packet).ok_or(UnprotectError::Forged)?;
        // RFC 3711 section 3.4 lets RTCP be authenticated but not encrypted. Nobody may ask for
        // that here (RFC 5764 section 4.1.2), and rtc-srtp takes such packets without looking at
        // their tags.
        if !rtcp_is_encrypted(packet, self.rtcp_tag) {
            return Err(UnprotectError::Forged);
        }
        self.rtcp.with(&self.key, ssrc, |context| {
            context.decrypt_rtcp(packet).map(Vec::from)
        })
    }

    /// How many streams are followed: RTP, RTCP.
    #[cfg(test)]
    pub(super) fn streams(&self) -> (usize, usize) {
        (self.rtp.streams.len(), self.rtcp.streams.len())
    }
}

impl Streams {
    fn new(key: &MasterKey) -> Result<Self, KeyError> {
        Ok(Self {
            stranger: key.unguarded()?,
            strangers: 0,
            streams: Vec::new(),
        })
    }

    /// Unprotects in the context of a stream.
    fn with(
        &mut self,
        key: &MasterKey,
        ssrc: u32,
        unprotect: impl Fn(&mut Context) -> Result<Vec<u8>, Error>,
    ) -> Result<Vec<u8>, UnprotectError> {
        if let Some(stream) = self.streams.iter_mut().find(|stream| stream.ssrc == ssrc) {
            return unprotect(&mut stream.context).map_err(|error| reason(&error));
        }
        let judged = unprotect(&mut self.stranger);
        self.forget_strangers(key);
        judged.map_err(|error| reason(&error))?;
        if self.streams.len() >= MOST_STREAMS {
            return Err(UnprotectError::Forged);
        }
        let mut context = key.guarded().map_err(|_| UnprotectError::Forged)?;
        let unprotected = unprotect(&mut context).map_err(|error| reason(&error))?;
        self.streams.push(Stream { ssrc, context });
        Ok(unprotected)
    }

    /// Every stranger leaves a state behind.
    fn forget_strangers(&mut self, key: &MasterKey) {
        self.strangers += 1;
        if self.strangers >= MOST_STRANGERS
            && let Ok(fresh) = key.unguarded()
        {
            self.stranger = fresh;
            self.strangers = 0;
        }
    }
}
