//! Re-INVITEs: the updated offer after nomination (RFC 8839 section 4.4), and the peer's own.

use std::time::Instant;

use ringtrue_ice::ComponentId;
use ringtrue_sip::DialogId;
use ringtrue_sip::sdp::{self, Direction, IceSupport, Negotiated, SessionDescription};

use super::keying::Keys;
use super::offer::{components, stream_config};
use super::talking::{Media, Subsequent, Talking};
use super::{Call, Stage};
use crate::desk::Desk;

impl Call {
    /// RFC 8839 section 4.3.4: once a pair other than the default one is selected, the controlling
    /// side says so in an updated offer.
    pub(super) fn update_offer(&mut self, desk: &mut Desk, now: Instant) {
        let (Stage::Talking(talking), Some(ice), Some(sockets)) =
            (&mut self.stage, &self.ice, &self.sockets)
        else {
            return;
        };
        let Media::Agreed(terms) = &talking.media else {
            return;
        };
        let idle = matches!(talking.subsequent, Subsequent::Idle);
        if !talking.confirmed || talking.offer_updated || !idle {
            return;
        }
        let IceSupport::Supported(peer) = &terms.negotiated.ice else {
            return;
        };
        let defaults = [
            (ComponentId::Rtp, terms.negotiated.remote_rtp),
            (ComponentId::Rtcp, terms.negotiated.remote_rtcp),
        ];
        let of_interest = components(&terms.negotiated).len();
        if (peer.ice2 && !desk.settings.updated_offer)
            || !ice.needs_updated_offer(talking.fork, defaults.get(..of_interest).unwrap_or(&[]))
        {
            return;
        }
        let Some(selected) = ice.nominated_description(talking.fork) else {
            return;
        };
        talking.offer_updated = true;
        self.session.changed();
        let direction = terms.negotiated.direction;
        let local = self
            .session
            .describe_selected(desk, sockets, selected, direction)
            .continuing(&terms.last);
        let body = sdp::subsequent_offer(&terms.last, &local);
        if desk.sip.reinvite(now, &talking.dialog, body).is_ok() {
            talking.subsequent = Subsequent::Ours {
                local: Box::new(local),
            };
        }
    }

    pub(super) fn handle_reinvite_accepted(
        &mut self,
        desk: &mut Desk,
        now: Instant,
        body: Option<Vec<u8>>,
    ) {
        let Stage::Talking(talking) = &mut self.stage else {
            return;
        };
        if talking.restart.is_offered() {
            self.handle_answer_to_restart(desk, now, body);
            return;
        }
        let Subsequent::Ours { local } =
            std::mem::replace(&mut talking.subsequent, Subsequent::Idle)
        else {
            return;
        };
        let answer = body.as_deref().map(SessionDescription::parse);
        let Some(Ok(answer)) = answer else { return };
        let Ok(negotiated) = sdp::read_answer(&local, &answer) else {
            return;
        };
        if let (IceSupport::Supported(description), Some(ice)) = (&negotiated.ice, &mut self.ice) {
            ice.handle_updated_remote(now, talking.fork, description);
        }
        talking.renegotiate(desk, now, answer, negotiated);
    }

    pub(super) fn handle_reinvite_refused(&mut self, desk: &mut Desk, now: Instant) {
        if let Stage::Talking(talking) = &mut self.stage {
            talking.subsequent = Subsequent::Idle;
            self.restart_refused(desk, now);
        }
    }

    /// The peer wants to change the session.
    pub(super) fn handle_reinvite(
        &mut self,
        desk: &mut Desk,
        now: Instant,
        dialog: &DialogId,
        body: Option<Vec<u8>>,
    ) {
        if let Stage::Talking(talking) = &mut self.stage
            && matches!(talking.subsequent, Subsequent::Ours { .. })
        {
            // Ours was lost on the way, or it would have been 491.
            talking.subsequent = Subsequent::Idle;
        }
        let is_ours = matches!(&self.stage, Stage::Talking(talking) if talking.dialog == *dialog);
        let refusal = match body {
            _ if !is_ours => Some(481),
            None => self.offer_in_answer(desk, now),
            Some(body) => self.answer_reinvite(desk, now, body),
        };
        if let Some(status) = refusal {
            // Refused only when the dialog is gone already.
            let _ = desk.sip.refuse_reinvite(now, dialog, status);
        }
    }

    /// A peer's re-INVITE that waited for our own check.
    pub(super) fn answer_waiting_reinvite(&mut self, desk: &mut Desk, now: Instant) {
        let Stage::Talking(talking) = &mut self.stage else {
            return;
        };
        let dialog = talking.dialog.clone();
        match std::mem::replace(&mut talking.subsequent, Subsequent::Idle) {
            Subsequent::Theirs { body } => self.handle_reinvite(desk, now, &dialog, Some(body)),
            other => talking.subsequent = other,
        }
    }

    /// Answers a subsequent offer, or says with which status to refuse it.
    fn answer_reinvite(&mut self, desk: &mut Desk, now: Instant, body: Vec<u8>) -> Option<u16> {
        use ringtrue_ice::UpdatedRemote as Updated;
        let (Stage::Talking(talking), Some(sockets)) = (&mut self.stage, &self.sockets) else {
            return Some(481);
        };
        let Ok(offer) = SessionDescription::parse(&body) else {
            return Some(488);
        };
        let Ok(remote) = sdp::read_offer(&offer) else {
            return Some(488);
        };
        match (&mut self.ice, &remote.ice) {
            (Some(ice), IceSupport::Supported(description)) => {
                match ice.handle_updated_remote(now, talking.fork, description) {
                    Updated::Ready | Updated::PairFailed => {}
                    Updated::LosingPair => {
                        talking.subsequent = Subsequent::Theirs { body };
                        return None;
                    }
                    Updated::Restart => {
                        let description = description.clone();
                        return self.answer_restart(desk, now, offer, description);
                    }
                    Updated::NoRestart => {
                        self.withdraw_restart(desk, now);
                        return self.answer_reinvite(desk, now, body);
                    }
                    Updated::NoAgent => return Some(488),
                }
            }
            (Some(_), _) => return Some(488),
            (None, _) => {}
        }
        self.session.changed();
        let selected = self
            .ice
            .as_ref()
            .and_then(|ice| ice.nominated_description(talking.fork));
        let local = match selected {
            Some(mut selected) => {
                // RFC 8839 section 4.4.2: never in an answer.
                selected.remote_candidates.clear();
                let direction = Direction::SendRecv;
                self.session
                    .describe_selected(desk, sockets, selected, direction)
            }
            None => {
                let direction = Direction::SendRecv;
                self.session
                    .describe(desk, sockets, self.ice.as_ref(), direction)
            }
        };
        let Ok((answer, negotiated)) = sdp::answer(&offer, &local) else {
            return Some(488);
        };
        let dialog = talking.dialog.clone();
        if desk.sip.answer_reinvite(now, &dialog, answer).is_ok() {
            talking.renegotiate(desk, now, offer, negotiated);
        }
        None
    }
}

impl Talking {
    /// Takes new terms; the stream goes on under them.
    pub(super) fn renegotiate(
        &mut self,
        desk: &Desk,
        now: Instant,
        last: SessionDescription,
        negotiated: Negotiated,
    ) {
        let Media::Agreed(terms) = &mut self.media else {
            return;
        };
        let cname = terms.stream.config().cname.clone();
        if let Some(config) = stream_config(&desk.settings, &negotiated, cname)
            && terms.stream.renegotiate(now, config).is_ok()
        {
            let last_on = |keys: &mut Keys| keys.go_on_under(&negotiated);
            if !terms.keys.as_mut().is_some_and(last_on) {
                terms.keys = Keys::new(desk, now, &negotiated);
                self.keys_until = now + desk.settings.patience;
            }
            terms.last = last;
            terms.negotiated = negotiated;
        }
    }
}
