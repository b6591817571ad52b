//! The caller's offers: the one in its INVITE, and a second one with a secure profile, where the
//! first was refused because it leaves encryption to the peer (docs/decisions/0029).

use std::time::Instant;

use ringtrue_ice::{IceSession, Role, SessionConfig};
use ringtrue_sip::OutgoingInvite;
use ringtrue_sip::sdp::{self, Direction, LocalMedia};
use ringtrue_sip::uri::Uri;

use super::forks::Inviting;
use super::offer::shorten;
use super::{Call, Stage};
use crate::desk::Desk;
use crate::event::{CallRole, EventKind};
use crate::settings::IceUse;

impl Call {
    /// The candidates are there: the INVITE leaves, with all of them.
    pub(super) fn invite(&mut self, desk: &mut Desk, now: Instant, target: Uri) {
        let Some((offer, request)) = self.prepare_offer(desk, now, &target) else {
            return;
        };
        let handle = desk.sip.invite(now, request);
        self.handle = Some(handle);
        self.call_id = desk.sip.call_id(handle).unwrap_or_default().to_owned();
        self.invited_at = now;
        let told = EventKind::Invite {
            role: CallRole::Caller,
            from: self.from.clone(),
            to: self.to.clone(),
        };
        self.tell(desk, now, told);
        let give_up_at = now + desk.settings.answer_timeout;
        let patience = desk.settings.patience;
        let inviting = Inviting::new(target, offer, give_up_at, patience);
        self.stage = Stage::Inviting(Box::new(inviting));
    }

    /// The INVITE was refused. Where that may mean that the peer takes secure profiles alone, it is
    /// asked once more with one: encrypted, or not at all. False where that is out of the question.
    pub(super) fn insist_on_keys(&mut self, desk: &mut Desk, now: Instant, status: u16) -> bool {
        let (Stage::Inviting(inviting), Some(refused)) = (&self.stage, self.handle) else {
            return false;
        };
        let for_its_offer = matches!(status, 488 | 606);
        if !for_its_offer || inviting.has_been_heard() || !self.session.insist(desk) {
            return false;
        }
        let target = inviting.target.clone();
        let (give_up_at, patience) = (inviting.give_up_at, inviting.patience);
        // What has been gathered since the INVITE is offered as well.
        self.gather_late(desk, now);
        if let (Some(ice), Some(sockets)) = (&self.ice, &mut self.sockets) {
            sockets.gathered = ice.gathered().clone();
        }
        // New credentials: what was meant for the first offer finds nobody.
        let Some((offer, request)) = self.prepare_offer(desk, now, &target) else {
            return false;
        };
        let Ok(handle) = desk.sip.invite_again(now, refused, &request) else {
            return false;
        };
        self.handle = Some(handle);
        self.tell(desk, now, EventKind::OfferedAnew { status });
        let inviting = Inviting::new(target, offer, give_up_at, patience);
        self.stage = Stage::Inviting(Box::new(inviting));
        true
    }

    /// An ICE session of its own on the candidates, and the INVITE that offers them.
    fn prepare_offer(
        &mut self,
        desk: &mut Desk,
        now: Instant,
        target: &Uri,
    ) -> Option<(LocalMedia, OutgoingInvite)> {
        let gathered = self.sockets.as_ref()?.gathered.clone();
        if desk.settings.ice != IceUse::Off {
            let config = SessionConfig {
                role: Role::Controlling,
                pacing: desk.settings.pacing,
                patience: desk.settings.patience,
                ..SessionConfig::default()
            };
            let seed = desk.long_seed();
            self.ice = Some(IceSession::new(config, gathered, seed));
        }
        self.begin_trickling(desk, now);
        let sockets = self.sockets.as_ref()?;
        let mut offer =
            self.session
                .describe(desk, sockets, self.ice.as_ref(), Direction::SendRecv);
        let mut request = OutgoingInvite::new(target.clone(), sdp::offer(&offer));
        if self.ice.is_none() {
            request.supported.clear();
        }
        shorten(&mut offer, |offer| {
            request.body = sdp::offer(offer);
            desk.sip.fits_datagram(&request)
        });
        if self.follows_later(&mut offer) {
            request.body = sdp::offer(&offer);
        }
        Some((offer, request))
    }
}
