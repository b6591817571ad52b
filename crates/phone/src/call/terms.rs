//! What offer and answer agreed on.

use std::time::Instant;

use ringtrue_media::MediaStream;
use ringtrue_sip::sdp::{self, LocalMedia, Negotiated, SessionDescription};

use super::keying::Keys;
use super::offer::stream_config;
use crate::desk::Desk;

/// What offer and answer agreed on, and the stream that follows from it.
pub(super) struct Terms {
    /// The last description that the peer sent: ours keep its streams and payload numbers.
    pub(super) last: SessionDescription,
    pub(super) negotiated: Negotiated,
    pub(super) stream: MediaStream,
    /// What protects it; none when it is clear.
    pub(super) keys: Option<Keys>,
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
        let config = stream_config(&desk.settings, &negotiated, cname)?;
        let stream = MediaStream::new(config, seed, now, desk.wall(now)).ok()?;
        let keys = Keys::new(desk, now, &negotiated);
        Some(Self {
            last,
            negotiated,
            stream,
            keys,
        })
    }

    /// The terms of an answer to our offer.
    ///
    /// # Errors
    /// Why it cannot be read, or holds nothing for us, in words for people.
    pub(super) fn of_answer(
        desk: &mut Desk,
        now: Instant,
        offer: &LocalMedia,
        answer: &[u8],
    ) -> Result<Self, String> {
        let answer = SessionDescription::parse(answer).map_err(|error| error.to_string())?;
        let negotiated = sdp::read_answer(offer, &answer).map_err(|error| error.to_string())?;
        Self::new(desk, now, answer, negotiated).ok_or("no codec in common".to_owned())
    }

    pub(super) fn negotiated(&self) -> &Negotiated {
        &self.negotiated
    }
}
