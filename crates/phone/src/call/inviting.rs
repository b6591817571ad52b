//! The caller's side, from the INVITE to the answer: one ICE agent for every early dialog.

use std::time::{Duration, Instant};

use ringtrue_ice::{
    ForkId, Gate, IceDescription, IceSession, PathProof, UnverifiedPolicy, UnverifiedReason,
};
use ringtrue_sip::DialogId;
use ringtrue_sip::sdp::IceSupport;

use super::forks::{Fork, ForkMedia, Ringing};
use super::keying::Keys;
use super::offer::components;
use super::talking::Talking;
use super::terms::Terms;
use super::{Call, End, Stage, open_sound};
use crate::desk::Desk;
use crate::event::{CallRole, EndReason, EndedBy, EventKind, Outcome};
use crate::outcome::of_refusal;
use crate::settings::{IceUse, RingWhen};

/// How long a 180 waits for our own proof before the user hears of it as unverified.
const RINGING_PATIENCE: Duration = Duration::from_millis(500);
/// How long the effect of a CANCEL is waited for.
const CANCEL_PATIENCE: Duration = Duration::from_secs(4);

impl Call {
    pub(super) fn handle_progress(
        &mut self,
        desk: &mut Desk,
        now: Instant,
        dialog: DialogId,
        status: u16,
        body: Option<Vec<u8>>,
    ) {
        if !matches!(self.stage, Stage::Inviting(_)) {
            return;
        }
        self.tell_of(
            desk,
            now,
            &dialog.remote_tag,
            EventKind::Progress { status },
        );
        let Some(id) = self.learn_answer(desk, now, &dialog, body.as_deref()) else {
            return;
        };
        self.trickle_after_answer(desk, now, &dialog);
        if status == 180
            && let Stage::Inviting(inviting) = &mut self.stage
            && let Some(fork) = inviting.fork_mut(id)
            && matches!(fork.ringing, Ringing::Silent)
        {
            fork.ringing = Ringing::AwaitingProof {
                until: now + RINGING_PATIENCE,
            };
        }
        self.tell_ringing(desk, now);
        self.run_ice(desk, now);
    }

    /// Takes a fork's answer, the first time that it comes, and starts its agent.
    fn learn_answer(
        &mut self,
        desk: &mut Desk,
        now: Instant,
        dialog: &DialogId,
        body: Option<&[u8]>,
    ) -> Option<ForkId> {
        let Stage::Inviting(inviting) = &mut self.stage else {
            return None;
        };
        let index = inviting.fork_of(dialog);
        let offer = inviting.offer.clone();
        let fork = inviting.forks.get_mut(index)?;
        let id = fork.id;
        if !matches!(fork.media, ForkMedia::Unanswered) {
            return Some(id);
        }
        let Some(body) = body else { return Some(id) };
        // An answer that cannot be read is as none: a 2xx without another is ended.
        let terms = match Terms::of_answer(desk, now, &offer, body) {
            Ok(terms) => terms,
            Err(why) => {
                fork.unusable = Some(why);
                return Some(id);
            }
        };
        fork.media = match (terms.negotiated().ice.clone(), &mut self.ice) {
            (IceSupport::Supported(description), Some(ice)) => {
                start_fork(ice, now, id, description, terms)
            }
            _ => ForkMedia::WithoutIce(Box::new(terms)),
        };
        Some(id)
    }

    pub(super) fn fork_proven(
        &mut self,
        desk: &mut Desk,
        now: Instant,
        id: ForkId,
        proof: PathProof,
    ) {
        let Stage::Inviting(inviting) = &mut self.stage else {
            return;
        };
        let Some(fork) = inviting.fork_mut(id) else {
            return;
        };
        let media = std::mem::replace(&mut fork.media, ForkMedia::Unanswered);
        fork.media = match media {
            ForkMedia::Checking { terms, gate }
            | ForkMedia::Failed {
                terms,
                gate: Some(gate),
            } => match gate.open(proof) {
                Ok(ring) => {
                    fork.proven_at = Some(now);
                    ForkMedia::Proven { terms, ring }
                }
                Err(_) => ForkMedia::Failed { terms, gate: None },
            },
            other => other,
        };
        self.tell_ringing(desk, now);
    }

    /// A fork has no path, or lost it again. Its 180, if any, is still the peer's own ringing.
    pub(super) fn fork_failed(&mut self, id: ForkId) {
        let Stage::Inviting(inviting) = &mut self.stage else {
            return;
        };
        if let Some(fork) = inviting.fork_mut(id) {
            let media = std::mem::replace(&mut fork.media, ForkMedia::Unanswered);
            fork.media = match media {
                ForkMedia::Checking { terms, gate } => ForkMedia::Failed {
                    terms,
                    gate: Some(gate),
                },
                ForkMedia::Proven { terms, .. } => ForkMedia::Failed { terms, gate: None },
                other => other,
            };
        }
    }

    /// Ring-back: the 180, our own proof and the keys together; the 180 alone where no proof can
    /// come, and without the keys of a peer that begins after its answer.
    pub(super) fn tell_ringing(&mut self, desk: &mut Desk, now: Instant) {
        let Stage::Inviting(inviting) = &mut self.stage else {
            return;
        };
        let mut told = Vec::new();
        for fork in &mut inviting.forks {
            let Ringing::AwaitingProof { until } = fork.ringing else {
                continue;
            };
            if fork
                .keys_due(inviting.patience)
                .is_some_and(|due| now < due)
            {
                continue;
            }
            let verified = matches!(fork.media, ForkMedia::Proven { .. });
            let may_still_come = matches!(fork.media, ForkMedia::Checking { .. });
            if verified || !may_still_come || now >= until {
                fork.ringing = Ringing::Told;
                told.push((fork.dialog.remote_tag.clone(), verified));
            }
        }
        for (tag, verified) in told {
            let ringing = EventKind::Ringing {
                role: CallRole::Caller,
                verified,
            };
            self.tell_of(desk, now, &tag, ringing);
        }
    }

    pub(super) fn inviting_timeout(&mut self, desk: &mut Desk, now: Instant) {
        self.tell_ringing(desk, now);
        self.inviting_keys_timeout(desk, now);
        if let Stage::Inviting(inviting) = &self.stage
            && now >= inviting.give_up_at
        {
            self.cancel(desk, now, EndReason::NoAnswer);
        }
    }

    pub(super) fn cancel(&mut self, desk: &mut Desk, now: Instant, reason: EndReason) {
        if let Some(ice) = &mut self.ice {
            ice.stop_all();
        }
        let cancelled = self.handle.map(|handle| desk.sip.cancel(now, handle));
        self.stage = Stage::Cancelling {
            reason,
            until: now + CANCEL_PATIENCE,
        };
        if !matches!(cancelled, Some(Ok(()))) {
            self.finish_cancelled(desk, now, reason, None);
        }
    }

    /// The other side does not answer the CANCEL: the user has waited long enough. A 2xx that still
    /// comes is ended by the phone.
    pub(super) fn cancelling_timeout(&mut self, desk: &mut Desk, now: Instant) {
        if let Stage::Cancelling { reason, until } = self.stage
            && now >= until
        {
            if let Some(handle) = self.handle {
                desk.sip.abandon(handle);
            }
            self.finish_cancelled(desk, now, reason, None);
        }
    }

    fn finish_cancelled(
        &mut self,
        desk: &mut Desk,
        now: Instant,
        reason: EndReason,
        status: Option<u16>,
    ) {
        let outcome = match reason {
            EndReason::NoAnswer => Outcome::NoAnswer,
            EndReason::Network => Outcome::Network,
            EndReason::KeysFailed => Outcome::NoMediaPath,
            _ => Outcome::Interrupted,
        };
        let mut end = End::new(reason, EndedBy::Local, outcome);
        end.status = status;
        self.finish(desk, now, end);
    }

    pub(super) fn handle_refused(
        &mut self,
        desk: &mut Desk,
        now: Instant,
        status: u16,
        words: Option<String>,
    ) {
        if self.insist_on_keys(desk, now, status) {
            return;
        }
        match &self.stage {
            Stage::Cancelling { reason, .. } => {
                let reason = *reason;
                self.finish_cancelled(desk, now, reason, Some(status));
            }
            Stage::Inviting(inviting) => {
                let keys_missing = inviting.keys_were_missing();
                let missing = inviting.path_missing() || keys_missing;
                let (mut reason, outcome) = of_refusal(status, missing);
                if keys_missing && reason == EndReason::NoMediaPath {
                    reason = EndReason::KeysFailed;
                }
                let end = End::new(reason, EndedBy::Remote, outcome);
                self.finish(desk, now, end.with_status(status).with_words(words));
            }
            _ => {}
        }
    }

    pub(super) fn handle_invite_timed_out(&mut self, desk: &mut Desk, now: Instant) {
        match &self.stage {
            Stage::Cancelling { reason, .. } => {
                let reason = *reason;
                self.finish_cancelled(desk, now, reason, None);
            }
            Stage::Inviting(inviting) => {
                let (reason, outcome) = of_refusal(408, inviting.path_missing());
                let end = End::new(reason, EndedBy::Network, outcome);
                let words = "nobody answered the INVITE".to_owned();
                self.finish(desk, now, end.with_status(408).with_words(Some(words)));
            }
            // RFC 3262 section 3: the PRACK of the 183 never came, and the INVITE was refused.
            Stage::Holding(_) | Stage::Alerting(_) => {
                self.tell_missed(desk, now, EndReason::Network);
                let end = End::new(EndReason::Network, EndedBy::Network, Outcome::Network);
                let words = "the 183 was never acknowledged".to_owned();
                self.finish(desk, now, end.with_status(504).with_words(Some(words)));
            }
            Stage::Talking(_) => {
                let end = End::new(EndReason::Network, EndedBy::Network, Outcome::Network);
                let words = "the 183 was never acknowledged".to_owned();
                self.finish(desk, now, end.with_status(504).with_words(Some(words)));
            }
            _ => {}
        }
    }

    /// A 2xx. The first one wins; a later fork's is hung up.
    pub(super) fn handle_accepted(
        &mut self,
        desk: &mut Desk,
        now: Instant,
        dialog: DialogId,
        body: Option<Vec<u8>>,
    ) {
        if !matches!(self.stage, Stage::Inviting(_)) {
            bye(desk, now, &dialog, None);
            if let Stage::Cancelling { reason, .. } = &self.stage {
                let reason = *reason;
                self.finish_cancelled(desk, now, reason, Some(200));
            }
            return;
        }
        let answered_before = self.has_answer_of(&dialog);
        self.learn_answer(desk, now, &dialog, body.as_deref());
        let Stage::Inviting(mut inviting) = std::mem::replace(&mut self.stage, Stage::Over) else {
            return;
        };
        let winner = inviting.fork_of(&dialog);
        let fork = inviting.forks.swap_remove(winner);
        if let Some(ice) = &mut self.ice {
            for loser in &inviting.forks {
                ice.stop(loser.id);
            }
        }
        self.remote_tag = Some(dialog.remote_tag.clone());
        if answered_before && let Some(ice) = &mut self.ice {
            // Phones that ring first check only after their 200: they get a fresh patience.
            ice.renew_patience(now, fork.id);
        }
        // The 200 may overtake our own check by a moment: the user hears of the proof, the ringing
        // and the answer in this order all the same.
        let checking = matches!(fork.media, ForkMedia::Checking { .. });
        let untold = match fork.ringing {
            Ringing::AwaitingProof { until } if checking => Some(until),
            _ => None,
        };
        if untold.is_none() {
            self.tell_answered(desk, now);
        }
        let early = std::mem::take(&mut inviting.early_dtls);
        self.talk_with(desk, now, fork);
        self.begin_keys(desk, now, early);
        if let Stage::Talking(talking) = &mut self.stage {
            talking.untold = untold;
            if talking.has_sound() {
                self.tell_untold(desk, now, false);
            }
        }
    }

    fn tell_answered(&self, desk: &mut Desk, now: Instant) {
        let role = CallRole::Caller;
        self.tell(desk, now, EventKind::Answered { role });
    }

    /// Tells of the ringing and the answer that waited for the proof.
    pub(super) fn tell_untold(&mut self, desk: &mut Desk, now: Instant, verified: bool) {
        if let Stage::Talking(talking) = &mut self.stage
            && talking.untold.take().is_some()
        {
            let role = CallRole::Caller;
            self.tell(desk, now, EventKind::Ringing { role, verified });
            self.tell_answered(desk, now);
        }
    }

    /// Whether a fork answered with ICE before its 2xx and has no proof yet.
    fn has_answer_of(&self, dialog: &DialogId) -> bool {
        let Stage::Inviting(inviting) = &self.stage else {
            return false;
        };
        inviting.forks.iter().any(|fork| {
            fork.dialog == *dialog
                && matches!(
                    fork.media,
                    ForkMedia::Checking { .. } | ForkMedia::Failed { .. }
                )
        })
    }

    fn talk_with(&mut self, desk: &mut Desk, now: Instant, fork: Fork) {
        let Fork {
            dialog,
            id,
            media,
            early,
            unusable,
            ..
        } = fork;
        let policy = desk.unverified_policy();
        let at_once = desk.settings.ring == RingWhen::AtOnce;
        let unverified = |gate: Gate, why| gate.open_unverified(why, policy).ok();
        let (terms, ring, gate) = match media {
            ForkMedia::Unanswered => {
                let why = unusable.unwrap_or("no usable answer".to_owned());
                bye(desk, now, &dialog, Some(&why));
                let end = End::new(EndReason::Incompatible, EndedBy::Local, Outcome::Refused);
                self.finish(desk, now, end.with_status(200).with_words(Some(why)));
                return;
            }
            ForkMedia::WithoutIce(terms) => {
                // Calling without ICE was the user's own choice under `--no-ice`.
                let policy = match desk.settings.ice {
                    IceUse::Off => UnverifiedPolicy::PeersWithoutIce,
                    IceUse::On | IceUse::Required => policy,
                };
                let why = UnverifiedReason::PeerWithoutIce;
                let Ok(ring) = Gate::without_ice().open_unverified(why, policy) else {
                    bye(desk, now, &dialog, Some("ICE is required here"));
                    let end = End::new(EndReason::IceRequired, EndedBy::Local, Outcome::Refused);
                    self.finish(desk, now, end.with_status(200));
                    return;
                };
                self.ice = None;
                (terms, Some(ring), None)
            }
            ForkMedia::Proven { terms, ring } => (terms, Some(ring), None),
            ForkMedia::Checking { terms, gate } if at_once => {
                (terms, unverified(gate, UnverifiedReason::AtOnce), None)
            }
            ForkMedia::Checking { terms, gate } => (terms, None, Some(gate)),
            ForkMedia::Failed { terms, gate } => (terms, None, gate),
        };
        if terms.negotiated().rtcp_mux
            && let Some(sockets) = &mut self.sockets
        {
            sockets.close_rtcp(desk, now);
        }
        if let Some(ring) = &ring {
            desk.out(open_sound(self.key, ring));
        }
        let mut talking = Talking::agreed(desk, now, dialog, id, *terms, ring);
        talking.await_proof(gate);
        talking.confirmed = true;
        for packet in early {
            talking.handle_media(packet.at, packet.kind, &packet.payload);
        }
        let dialog = talking.dialog.clone();
        let unkeyed = talking.keys().and_then(Keys::failure);
        self.stage = Stage::Talking(Box::new(talking));
        if unkeyed.is_some() {
            self.end_unkeyed(desk, now, unkeyed);
            return;
        }
        self.trickle_after_answer(desk, now, &dialog);
        self.let_bindings_go(desk, now);
        self.run_ice(desk, now);
        self.update_offer(desk, now);
    }
}

fn start_fork(
    ice: &mut IceSession,
    now: Instant,
    id: ForkId,
    description: IceDescription,
    terms: Terms,
) -> ForkMedia {
    let components = components(terms.negotiated());
    let terms = Box::new(terms);
    match (ice.start(now, id, description, components), ice.gate(id)) {
        (Ok(()), Some(gate)) => ForkMedia::Checking { terms, gate },
        _ => ForkMedia::Failed { terms, gate: None },
    }
}

/// Ends a dialog that is not the call's, or not any more.
pub(super) fn bye(desk: &mut Desk, now: Instant, dialog: &DialogId, reason: Option<&str>) {
    // Refused only when the dialog is gone already, which is what was wanted.
    let _ = desk.sip.bye(now, dialog, reason);
}
