//! What the ICE session says, and what a call does about it.

use std::time::Instant;

use ringtrue_ice::{ForkId, IceEvent, IceSession, PathProof, ValidPath};

use super::{Call, Stage, path_failure};
use crate::desk::Desk;
use crate::event::{EndReason, EventKind, PathFailure, PathReport};

impl Call {
    /// Runs the ICE session and does what it says; then the handshakes, over the paths that it has.
    pub(super) fn run_ice(&mut self, desk: &mut Desk, now: Instant) {
        self.run_session(desk, now);
        self.run_keys(desk, now);
    }

    fn run_session(&mut self, desk: &mut Desk, now: Instant) {
        if let Some(ice) = &mut self.ice {
            ice.handle_timeout(now, &mut desk.pacer);
        }
        loop {
            let Some(ice) = &mut self.ice else { return };
            while let Some(transmit) = ice.poll_transmit() {
                if let Some(sockets) = &mut self.sockets {
                    sockets.send(desk, now, transmit);
                }
            }
            if self.run_connections(desk, now) {
                continue;
            }
            let Some((fork, event)) = self.ice.as_mut().and_then(IceSession::poll_event) else {
                return;
            };
            self.handle_ice(desk, now, fork, event);
        }
    }

    fn handle_ice(&mut self, desk: &mut Desk, now: Instant, fork: ForkId, event: IceEvent) {
        match event {
            IceEvent::Checking { pairs } => {
                self.tell_fork(desk, now, fork, EventKind::Checking { pairs });
            }
            IceEvent::PeerBound => {
                self.handle_peer_bound(desk);
                self.dialog_is_known(desk, now);
            }
            IceEvent::Validated { proof, path } => {
                let report = self.report(now, &path);
                self.tell_fork(desk, now, fork, EventKind::PathValidated(report));
                self.handle_proof(desk, now, fork, proof);
            }
            IceEvent::Selected { path } => {
                let report = self.report(now, &path);
                self.tell_fork(desk, now, fork, EventKind::PathSelected(report));
                self.handle_selected(desk, now, fork);
            }
            IceEvent::Failed {
                reason,
                pairs_tried,
            } => {
                self.pairs_tried = self.pairs_tried.max(pairs_tried);
                let reason = path_failure(reason);
                let failed = EventKind::PathFailed {
                    reason,
                    pairs_tried,
                };
                self.tell_fork(desk, now, fork, failed);
                self.handle_path_failed(desk, now, fork, reason, pairs_tried);
            }
            IceEvent::ConsentLost => self.handle_consent_lost(desk, now, fork),
            // Events of later versions of the agent do not concern a call of this one.
            #[allow(unreachable_patterns)]
            _ => {}
        }
    }

    pub(super) fn tell_fork(&self, desk: &mut Desk, now: Instant, fork: ForkId, kind: EventKind) {
        let tag = match &self.stage {
            Stage::Inviting(inviting) => inviting.tag_of(fork),
            _ => self.remote_tag.clone(),
        };
        match tag {
            Some(tag) => self.tell_of(desk, now, &tag, kind),
            None => self.tell(desk, now, kind),
        }
    }

    fn report(&self, now: Instant, path: &ValidPath) -> PathReport {
        PathReport {
            local: path.local,
            remote: path.remote,
            transport: path.protocol,
            local_type: path.local_type,
            remote_type: path.remote_type,
            rtt: Some(path.rtt),
            since_invite: now.saturating_duration_since(self.invited_at),
        }
    }

    fn handle_proof(&mut self, desk: &mut Desk, now: Instant, fork: ForkId, proof: PathProof) {
        match &self.stage {
            Stage::Holding(_) => self.ring_with_proof(desk, now, proof),
            Stage::Inviting(_) => self.fork_proven(desk, now, fork, proof),
            Stage::Talking(_) => self.talk_proven(desk, now, fork, proof),
            // Any other stage has no gate left that the proof could open; it is void.
            _ => drop(proof),
        }
    }

    fn handle_selected(&mut self, desk: &mut Desk, now: Instant, fork: ForkId) {
        if let Stage::Talking(talking) = &self.stage
            && talking.fork == fork
        {
            self.restart_selected();
            self.media_path_changed();
            self.end_trickling();
            self.let_bindings_go(desk, now);
            self.answer_waiting_reinvite(desk, now);
            self.update_offer(desk, now);
        }
    }

    fn handle_path_failed(
        &mut self,
        desk: &mut Desk,
        now: Instant,
        fork: ForkId,
        reason: PathFailure,
        pairs_tried: usize,
    ) {
        match &self.stage {
            Stage::Holding(_) => self.hold_failed(desk, now, reason, pairs_tried),
            Stage::Inviting(_) => self.fork_failed(fork),
            Stage::Talking(talking) if talking.fork == fork => {
                self.restart_checks_failed();
                self.talk_path_failed(desk, now);
                self.answer_waiting_reinvite(desk, now);
            }
            _ => {}
        }
    }

    /// RFC 7675: nothing may be sent any more. While ringing, the ringing ends too; a connected
    /// call tries an ICE restart.
    fn handle_consent_lost(&mut self, desk: &mut Desk, now: Instant, fork: ForkId) {
        let pairs_tried = self.tried(fork);
        let failed = EventKind::PathFailed {
            reason: PathFailure::ConsentLost,
            pairs_tried,
        };
        self.tell_fork(desk, now, fork, failed);
        match &self.stage {
            // It was proven, and the keys awaited.
            Stage::Holding(_) => {
                self.hold_failed(desk, now, PathFailure::ConsentLost, pairs_tried);
            }
            Stage::Alerting(_) => {
                let text = "The media path was lost before the call was answered";
                self.reject(
                    desk,
                    now,
                    EndReason::ConsentLost,
                    480,
                    Some(text.to_owned()),
                );
            }
            Stage::Inviting(_) => self.fork_failed(fork),
            Stage::Talking(talking) if talking.fork == fork => {
                self.talk_consent_lost(desk, now);
            }
            _ => {}
        }
    }
}
