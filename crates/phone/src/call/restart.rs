//! ICE restarts in a connected call (RFC 8839 sections 4.4.1.1.1, 4.4.2.1, 4.4.3.1.1 and 7.5): by
//! our re-INVITE, by the peer's, and by a re-INVITE without an offer.

use std::time::{Duration, Instant};

use ringtrue_ice::{ComponentId, IceDescription};
use ringtrue_sip::sdp::{self, Direction, IceSupport, LocalMedia, SessionDescription};

use super::offer::{components, shorten};
use super::silence::Verdict;
use super::talking::{Media, Subsequent};
use super::{Call, Stage};
use crate::desk::Desk;

/// A restart that the dialog has no room for now is tried again after so long.
const TRY_AGAIN: Duration = Duration::from_millis(200);
/// The ACK with the answer to an offer in a 200 is waited for so long: 64*T1.
const ANSWER_IN_ACK: Duration = Duration::from_secs(32);

/// Where an ICE restart stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Restart {
    /// None is under way.
    Idle,
    /// To be begun then.
    Due { at: Instant },
    /// Candidates are being gathered; the offer will go in a re-INVITE, or in the 200 to the
    /// peer's.
    Gathering { in_answer: bool, in_doubt: bool },
    /// Our offer is out; in a 200 it is waited for only so long.
    Offered { until: Option<Instant> },
    /// Both sides know the other's new description, and check since then.
    Checking { since: Instant },
}

impl Restart {
    pub(super) fn poll_timeout(self) -> Option<Instant> {
        match self {
            Self::Due { at } => Some(at),
            Self::Offered { until } => until,
            Self::Idle | Self::Gathering { .. } | Self::Checking { .. } => None,
        }
    }

    /// What is being gathered in doubt is to be offered; false if nothing is.
    pub(super) fn trust(&mut self) -> bool {
        let doubted = matches!(self, Self::Gathering { in_doubt: true, .. });
        if let Self::Gathering { in_doubt, .. } = self {
            *in_doubt = false;
        }
        doubted
    }

    pub(super) fn is_offered(self) -> bool {
        matches!(self, Self::Offered { .. })
    }
}

impl Call {
    /// Restarts ICE with an offer of ours, as soon as the dialog allows.
    pub(crate) fn restart_ice(&mut self, desk: &mut Desk, now: Instant) {
        let (Stage::Talking(talking), Some(sockets), true) =
            (&mut self.stage, &mut self.sockets, self.ice.is_some())
        else {
            return;
        };
        match talking.restart {
            Restart::Idle | Restart::Due { .. } | Restart::Checking { .. } => {}
            Restart::Gathering { .. } | Restart::Offered { .. } => return,
        }
        let is_free = talking.confirmed && matches!(talking.subsequent, Subsequent::Idle);
        if !is_free || desk.media_addresses().is_empty() {
            let at = now + TRY_AGAIN;
            talking.restart = Restart::Due { at };
            return;
        }
        talking.restart = Restart::Gathering {
            in_answer: false,
            in_doubt: false,
        };
        desk.sip.prepare_reinvite(now, &talking.dialog);
        sockets.gather_again(desk, now);
        self.after_gathering_again(desk, now);
    }

    /// RFC 8839 section 7.5: a re-INVITE without an offer restarts ICE, on candidates gathered
    /// anew, those in use among them. The offer goes in the 200.
    pub(super) fn offer_in_answer(&mut self, desk: &mut Desk, now: Instant) -> Option<u16> {
        let (Stage::Talking(talking), Some(sockets)) = (&mut self.stage, &mut self.sockets) else {
            return Some(481);
        };
        if !matches!(talking.media, Media::Agreed(_)) {
            return Some(488);
        }
        // Ours met the peer's (491): one restart is enough.
        desk.sip.withdraw_reinvite(&talking.dialog);
        talking.subsequent = Subsequent::Idle;
        talking.restart = Restart::Gathering {
            in_answer: true,
            in_doubt: false,
        };
        if self.ice.is_some() && !sockets.is_gathering() {
            sockets.gather_again(desk, now);
        }
        self.after_gathering_again(desk, now);
        None
    }

    /// Offers what was gathered anew.
    pub(super) fn after_gathering_again(&mut self, desk: &mut Desk, now: Instant) {
        let (Stage::Talking(talking), Some(sockets)) = (&mut self.stage, &mut self.sockets) else {
            return;
        };
        let Restart::Gathering {
            in_answer,
            in_doubt,
        } = talking.restart
        else {
            return;
        };
        if sockets.is_gathering() {
            return;
        }
        if in_doubt && !talking.moved {
            match self.judge_doubt(desk, now) {
                Verdict::Restart => {}
                Verdict::Wait => return,
                Verdict::Forget => {
                    if let Stage::Talking(talking) = &mut self.stage {
                        talking.restart = Restart::Idle;
                    }
                    self.let_bindings_go(desk, now);
                    return;
                }
            }
        }
        let (Stage::Talking(talking), Some(sockets)) = (&mut self.stage, &mut self.sockets) else {
            return;
        };
        let Media::Agreed(terms) = &talking.media else {
            return;
        };
        let (fork, dialog) = (talking.fork, talking.dialog.clone());
        if !in_answer && !desk.sip.may_reinvite(&dialog) {
            let at = now + TRY_AGAIN;
            talking.restart = Restart::Due { at };
            return;
        }
        talking.moved = false;
        if let Some(ice) = &mut self.ice {
            // The agent is there as long as the call is connected.
            let _ = ice.restart(now, fork, sockets.gathered.clone());
            self.trickling.restart();
        }
        self.session.changed();
        let direction = terms.negotiated.direction;
        let mut local = self
            .session
            .describe(desk, sockets, self.ice.as_ref(), direction)
            .continuing(&terms.last);
        let mut body = Vec::new();
        shorten(&mut local, |local| {
            body = sdp::subsequent_offer(&terms.last, local);
            in_answer || desk.sip.reinvite_fits_datagram(&dialog, &body)
        });
        let local = Box::new(local);
        let (sent, until) = if in_answer {
            let sent = desk.sip.answer_reinvite(now, &dialog, body);
            (sent, Some(now + ANSWER_IN_ACK))
        } else {
            (desk.sip.reinvite(now, &dialog, body), None)
        };
        if sent.is_err() {
            if let Some(ice) = &mut self.ice {
                ice.abandon_restart(fork);
            }
            let at = now + TRY_AGAIN;
            talking.restart = Restart::Due { at };
            return;
        }
        talking.restart = Restart::Offered { until };
        talking.subsequent = if in_answer {
            Subsequent::InAnswer { local }
        } else {
            Subsequent::Ours { local }
        };
    }

    /// The answer to our restart, in a 200 or in an ACK.
    pub(super) fn handle_answer_to_restart(
        &mut self,
        desk: &mut Desk,
        now: Instant,
        body: Option<Vec<u8>>,
    ) {
        let Stage::Talking(talking) = &mut self.stage else {
            return;
        };
        let (Subsequent::Ours { local } | Subsequent::InAnswer { local }) =
            std::mem::replace(&mut talking.subsequent, Subsequent::Idle)
        else {
            return;
        };
        let Some((answer, negotiated)) = read_answer(&local, body) else {
            self.restart_refused(desk, now);
            return;
        };
        let started = match (&negotiated.ice, &mut self.ice) {
            (IceSupport::Supported(description), Some(ice)) => {
                let components = components(&negotiated);
                ice.start(now, talking.fork, description.clone(), components)
                    .is_ok()
            }
            (_, None) => true,
            (_, Some(_)) => false,
        };
        if !started {
            // An answer with the old credentials, or without ICE: the old session goes on.
            self.restart_refused(desk, now);
            return;
        }
        talking.renegotiate(desk, now, answer, negotiated);
        self.restart_started(desk, now);
    }

    /// Accepts the peer's restart: fresh credentials, and the candidates that we have.
    pub(super) fn answer_restart(
        &mut self,
        desk: &mut Desk,
        now: Instant,
        offer: SessionDescription,
        description: IceDescription,
    ) -> Option<u16> {
        let (Stage::Talking(talking), Some(sockets), Some(ice)) =
            (&mut self.stage, &self.sockets, &mut self.ice)
        else {
            return Some(481);
        };
        let fork = talking.fork;
        if !ice.is_restarting(fork) {
            // The agent is there as long as the call is connected.
            let _ = ice.restart(now, fork, sockets.gathered.clone());
            self.trickling.restart();
        }
        // Ours met the peer's (491): what both want is under way.
        desk.sip.withdraw_reinvite(&talking.dialog);
        talking.subsequent = Subsequent::Idle;
        self.session.changed();
        let direction = Direction::SendRecv;
        let local = self.session.describe(desk, sockets, Some(&*ice), direction);
        let has_rtcp = sockets.has_rtcp();
        let agreed = sdp::answer(&offer, &local)
            .ok()
            .filter(|(_, negotiated)| negotiated.rtcp_mux || has_rtcp);
        let Some((answer, negotiated)) = agreed else {
            ice.abandon_restart(fork);
            talking.restart = Restart::Idle;
            return Some(488);
        };
        let components = components(&negotiated);
        if ice.start(now, fork, description, components).is_err() {
            ice.abandon_restart(fork);
            talking.restart = Restart::Idle;
            return Some(488);
        }
        let dialog = talking.dialog.clone();
        if desk.sip.answer_reinvite(now, &dialog, answer).is_ok() {
            talking.renegotiate(desk, now, offer, negotiated);
        }
        self.restart_started(desk, now);
        None
    }

    /// Both descriptions are known: the checks run.
    fn restart_started(&mut self, desk: &mut Desk, now: Instant) {
        if let (Stage::Talking(talking), Some(ice)) = (&mut self.stage, &self.ice) {
            // New addresses of our own that the peer does not know yet are still to be offered.
            talking.restart = match talking.restart {
                gathering @ Restart::Gathering { .. } if talking.moved => gathering,
                _ if talking.moved => Restart::Due { at: now },
                _ => Restart::Checking { since: now },
            };
            talking.offer_updated = false;
            talking.await_proof(ice.gate(talking.fork));
            talking.renew_patience(now + desk.settings.patience);
            let dialog = talking.dialog.clone();
            self.trickle_after_answer(desk, now, &dialog);
        } else if let Stage::Talking(talking) = &mut self.stage {
            talking.restart = Restart::Idle;
        }
        self.run_ice(desk, now);
    }

    /// The peer goes on with the session that our restart, refused by a 491, was to end: that one
    /// waits.
    pub(super) fn withdraw_restart(&mut self, desk: &mut Desk, now: Instant) {
        if let (Stage::Talking(talking), Some(ice)) = (&mut self.stage, &mut self.ice) {
            desk.sip.withdraw_reinvite(&talking.dialog);
            ice.abandon_restart(talking.fork);
            talking.subsequent = Subsequent::Idle;
            let at = now + TRY_AGAIN;
            talking.restart = Restart::Due { at };
        }
    }

    /// The peer does not restart: the call goes on as it was, if it can.
    pub(super) fn restart_refused(&mut self, desk: &mut Desk, now: Instant) {
        let (Stage::Talking(talking), Some(ice)) = (&mut self.stage, &mut self.ice) else {
            return;
        };
        if !talking.restart.is_offered() {
            return;
        }
        ice.abandon_restart(talking.fork);
        talking.restart = Restart::Idle;
        talking.subsequent = Subsequent::Idle;
        if talking.is_muted() {
            self.talk_path_failed(desk, now);
        }
    }

    /// No pair of the new session works. The previous one goes on, as long as it can.
    pub(super) fn restart_checks_failed(&mut self) {
        if let Stage::Talking(talking) = &mut self.stage
            && matches!(talking.restart, Restart::Checking { .. })
        {
            talking.restart = Restart::Idle;
        }
    }

    /// The new session has its pairs.
    pub(super) fn restart_selected(&mut self) {
        self.restart_checks_failed();
    }

    pub(super) fn restart_timeout(&mut self, desk: &mut Desk, now: Instant) {
        let Stage::Talking(talking) = &self.stage else {
            return;
        };
        match talking.restart {
            Restart::Due { at } if at <= now => self.restart_ice(desk, now),
            Restart::Offered { until: Some(until) } if until <= now => {
                self.restart_refused(desk, now);
            }
            _ => {}
        }
    }

    /// RFC 7675: the peer answers no more. Media stops, and one restart is tried at once.
    pub(super) fn talk_consent_lost(&mut self, desk: &mut Desk, now: Instant) {
        let (Stage::Talking(talking), Some(ice)) = (&mut self.stage, &self.ice) else {
            return;
        };
        let fork = talking.fork;
        if matches!(talking.restart, Restart::Checking { .. }) && !ice.has_lost_consent(fork) {
            // It was the path of before a restart that is under way.
            if ice.path(fork, ComponentId::Rtp).is_none() {
                talking.mute(now, desk.settings.patience);
                talking.await_proof(ice.gate(fork));
            }
            return;
        }
        talking.mute(now, desk.settings.patience);
        self.restart_ice(desk, now);
    }

    /// The host's addresses have changed under a connected call.
    pub(super) fn move_talk(&mut self, desk: &mut Desk, now: Instant) {
        let (Stage::Talking(talking), Some(sockets), Some(ice)) =
            (&mut self.stage, &mut self.sockets, &mut self.ice)
        else {
            return;
        };
        let used = ice.path(talking.fork, ComponentId::Rtp);
        let used = used.map(|path| sockets.socket_of(path.base).ip());
        for base in sockets.close_vanished(desk) {
            ice.handle_base_gone(base);
        }
        let stands = used.is_some_and(|ip| desk.media_addresses().contains(&ip));
        if !stands || sockets.lacks_better_than(desk, used) {
            talking.moved = true;
            self.restart_for_new_addresses(desk, now);
        }
    }

    fn restart_for_new_addresses(&mut self, desk: &mut Desk, now: Instant) {
        let (Stage::Talking(talking), Some(sockets)) = (&mut self.stage, &mut self.sockets) else {
            return;
        };
        match talking.restart {
            // What is being gathered may be of yesterday.
            Restart::Gathering { .. } => sockets.gather_again(desk, now),
            // What was offered is: the next offer follows when that one is through.
            Restart::Offered { .. } => {}
            Restart::Idle | Restart::Due { .. } | Restart::Checking { .. } => {
                self.restart_ice(desk, now);
            }
        }
    }
}

fn read_answer(
    local: &LocalMedia,
    body: Option<Vec<u8>>,
) -> Option<(SessionDescription, sdp::Negotiated)> {
    let answer = SessionDescription::parse(&body?).ok()?;
    let negotiated = sdp::read_answer(local, &answer).ok()?;
    Some((answer, negotiated))
}
