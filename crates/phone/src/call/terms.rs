//! What offer and answer agreed on.

use std::time::Instant;

use ringtrue_media::MediaStream;
use ringtrue_sip::sdp::{self, LocalMedia, Negotiated, SessionDescription};

use super::offer::stream_config;
use crate::desk::Desk;

/// What offer and answer agreed on, and the stream that follows from it.
pub(super) struct Terms {
    /// The last description that the peer sent: ours keep its streams and payload numbers.
    pub(super) last: SessionDescription,
    pub(super) negotiated: Negotiated,
    pub(super) stream: MediaStream,
}

impl Terms {
    /// `None` when the two agreed on no codec that we speak.
    pub(super) fn new(
        desk: &mut Desk,
        now: Instant,
        last: SessionDescription,
        negotiated: Negotiated,
    ) -> Option<Self> {
        let seed = desk.seed();
        // RFC 7022: a CNAME that says nothing about the user.
        let cname = format!("{:016x}", desk.seed());
        let config = stream_config(&negotiated, desk.settings.ptime, cname)?;
        let stream = MediaStream::new(config, seed, now, desk.wall(now)).ok()?;
        Some(Self {
            last,
            negotiated,
            stream,
        })
    }

    /// The terms of an answer to our offer; `None` when it cannot be read, or holds nothing for us.
    pub(super) fn of_answer(
        desk: &mut Desk,
        now: Instant,
        offer: &LocalMedia,
        answer: &[u8],
    ) -> Option<Self> {
        let answer = SessionDescription::parse(answer).ok()?;
        let negotiated = sdp::read_answer(offer, &answer).ok()?;
        Self::new(desk, now, answer, negotiated)
    }

    pub(super) fn negotiated(&self) -> &Negotiated {
        &self.negotiated
    }
}
