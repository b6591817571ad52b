//! One call: a dialog, an ICE session and a stream, and the stages that it goes through.
//!
//! Callee: gathering, holding (the 183 is out, the proof awaited), alerting, talking.
//! Caller: gathering, inviting (any number of forks), talking.
//! A stage holds what is true in it and nothing else.

mod forks;
mod ice_events;
mod incoming;
mod inviting;
mod keying;
mod offer;
mod offerless;
mod placing;
mod reinvite;
mod restart;
mod secured;
mod silence;
mod stranded;
mod talking;
mod tcp;
mod terms;
mod trickle;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ringtrue_ice::{ForkId, IceSession, PacketKind, Path, Ring, classify};
use ringtrue_sip::uri::Uri;
use ringtrue_sip::{CallHandle, SipEvent};

use crate::desk::Desk;
use crate::event::{
    CallRef, CallRole, EndReason, EndedBy, EventKind, MediaFigures, Outcome, PathFailure,
};
use crate::gathering::{Gathering, MediaSockets, StreamEvent};
use crate::io::{BindRequest, CallKey, Connection, Frame, Output, Sides};
use crate::mapping::Remapped;

use forks::Inviting;
pub(crate) use incoming::IncomingInvite;
use incoming::{Alerting, Holding};
use offer::Session;
use talking::{Heard, Talking};
use trickle::Trickling;

/// One call.
pub(crate) struct Call {
    pub(crate) key: CallKey,
    role: CallRole,
    /// The SIP endpoint's handle; a call that still gathers before its INVITE has none.
    handle: Option<CallHandle>,
    call_id: String,
    remote_tag: Option<String>,
    from: String,
    to: String,
    /// When the INVITE was sent or came; before it is sent, when the user asked for it.
    invited_at: Instant,
    sockets: Option<MediaSockets>,
    ice: Option<IceSession>,
    session: Session,
    trickling: Trickling,
    pairs_tried: usize,
    /// No address of the offer or answer is left; until then one may come back.
    stranded: Option<Instant>,
    stage: Stage,
}

/// Where a call stands.
enum Stage {
    /// The caller's candidates are being gathered, for this target.
    GatheringToInvite { gathering: Gathering, target: Uri },
    /// The callee's candidates are being gathered.
    GatheringToAnswer {
        gathering: Gathering,
        invite: IncomingInvite,
    },
    /// Callee: the answer is out in a 183, or the offer; the proof is awaited.
    Holding(Holding),
    /// Callee: the user is being alerted.
    Alerting(Box<Alerting>),
    /// Caller: the INVITE is out.
    Inviting(Box<Inviting>),
    /// Caller: the CANCEL is out, its effect awaited.
    Cancelling { reason: EndReason, until: Instant },
    /// Connected.
    Talking(Box<Talking>),
    /// Over; the phone forgets the call.
    Over,
}

/// How a call ended.
struct End {
    reason: EndReason,
    status: Option<u16>,
    by: EndedBy,
    outcome: Outcome,
    words: Option<String>,
}

impl End {
    fn new(reason: EndReason, by: EndedBy, outcome: Outcome) -> Self {
        Self {
            reason,
            status: None,
            by,
            outcome,
            words: None,
        }
    }

    fn with_status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    fn with_words(mut self, words: Option<String>) -> Self {
        self.words = words;
        self
    }
}

impl Call {
    /// A call that the user places.
    pub(crate) fn place(desk: &mut Desk, now: Instant, key: CallKey, target: Uri) -> Self {
        let gathering = Gathering::begin(desk, now);
        let several = desk.media_addresses().len() > 1;
        let large = several || desk.servers.known() > 0 || !desk.servers.is_settled(now);
        desk.sip.prepare_invite(now, &target, large);
        let by_tls = desk.sip.goes_by_tls(&target);
        Self {
            key,
            role: CallRole::Caller,
            handle: None,
            call_id: String::new(),
            remote_tag: None,
            from: desk.settings.aor.clone(),
            to: target.to_string(),
            invited_at: now,
            sockets: None,
            ice: None,
            session: Session::new(desk, by_tls),
            trickling: Trickling::default(),
            pairs_tried: 0,
            stranded: None,
            stage: Stage::GatheringToInvite { gathering, target },
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    pub(crate) fn handle(&self) -> Option<CallHandle> {
        self.handle
    }

    /// Whether a media socket is this call's.
    pub(crate) fn owns(&self, local: SocketAddr) -> bool {
        self.sockets
            .as_ref()
            .is_some_and(|sockets| sockets.owns(local))
    }

    fn reference(&self) -> CallRef {
        CallRef {
            key: self.key,
            call_id: self.call_id.clone(),
            dialog: self.remote_tag.clone(),
        }
    }

    fn tell(&self, desk: &mut Desk, now: Instant, kind: EventKind) {
        desk.tell(now, Some(self.reference()), kind);
    }

    /// Tells about one fork, not about the call as a whole.
    fn tell_of(&self, desk: &mut Desk, now: Instant, remote_tag: &str, kind: EventKind) {
        let mut reference = self.reference();
        reference.dialog = Some(remote_tag.to_owned());
        desk.tell(now, Some(reference), kind);
    }

    /// Brings an input to what gathers, before the call or during it, and goes on with what follows
    /// from that. False when neither takes it.
    fn gather_with(
        &mut self,
        desk: &mut Desk,
        now: Instant,
        before: impl FnOnce(&mut Gathering, &mut Desk) -> bool,
        during: impl FnOnce(&mut MediaSockets, &mut Desk) -> bool,
    ) -> bool {
        let taken = match &mut self.stage {
            Stage::GatheringToInvite { gathering, .. }
            | Stage::GatheringToAnswer { gathering, .. } => before(gathering, desk),
            _ => self
                .sockets
                .as_mut()
                .is_some_and(|sockets| during(sockets, desk)),
        };
        if taken {
            self.after_gathering(desk, now);
            self.after_gathering_again(desk, now);
        }
        taken
    }

    pub(crate) fn handle_bound(
        &mut self,
        desk: &mut Desk,
        now: Instant,
        request: BindRequest,
        local: Option<SocketAddr>,
    ) -> bool {
        self.gather_with(
            desk,
            now,
            |gathering, desk| gathering.handle_bound(desk, now, request, local),
            |sockets, desk| sockets.handle_bound(desk, now, request, local),
        )
    }

    pub(crate) fn handle_listening(
        &mut self,
        desk: &mut Desk,
        now: Instant,
        request: BindRequest,
        local: Option<SocketAddr>,
    ) -> bool {
        self.gather_with(
            desk,
            now,
            |gathering, desk| gathering.handle_listening(desk, now, request, local),
            |sockets, desk| sockets.handle_listening(desk, now, request, local),
        )
    }

    /// The router maps a port to a socket, or does so no longer; false when it is not ours.
    pub(crate) fn handle_mapped(&mut self, desk: &mut Desk, now: Instant, told: Remapped) -> bool {
        self.gather_with(
            desk,
            now,
            |gathering, desk| gathering.handle_mapped(desk, now, told),
            |sockets, desk| sockets.handle_mapped(desk, now, told),
        )
    }

    /// Takes a datagram on a media socket; false when the socket is not ours.
    pub(crate) fn handle_media_datagram(
        &mut self,
        desk: &mut Desk,
        now: Instant,
        local: SocketAddr,
        from: SocketAddr,
        payload: &[u8],
    ) -> bool {
        if let Stage::GatheringToInvite { gathering, .. }
        | Stage::GatheringToAnswer { gathering, .. } = &mut self.stage
        {
            let taken = gathering.handle_datagram(desk, now, local, from, payload);
            if taken {
                self.after_gathering(desk, now);
            }
            return taken;
        }
        if !self.owns(local) {
            return false;
        }
        if let Some(sockets) = &mut self.sockets
            && sockets.handle_datagram(desk, now, local, from, payload)
        {
            self.handle_all_relayed(desk, now);
            return true;
        }
        self.handle_peers(desk, now, local, from, payload);
        true
    }

    /// Takes what happened to a connection; false when it is not one of ours.
    pub(crate) fn handle_turn_stream(
        &mut self,
        desk: &mut Desk,
        now: Instant,
        connection: Connection,
        event: StreamEvent<'_>,
    ) -> bool {
        if let Stage::GatheringToInvite { gathering, .. }
        | Stage::GatheringToAnswer { gathering, .. } = &mut self.stage
        {
            let taken = gathering.handle_turn_stream(desk, now, connection, event);
            if taken {
                self.after_gathering(desk, now);
            }
            return taken;
        }
        let taken = self
            .sockets
            .as_mut()
            .is_some_and(|sockets| sockets.handle_turn_stream(desk, now, connection, event));
        if taken {
            self.handle_all_relayed(desk, now);
        }
        taken
    }

    /// What came through a TURN server, and what its answers lead to.
    fn handle_all_relayed(&mut self, desk: &mut Desk, now: Instant) {
        while let Some(relayed) = self.sockets.as_mut().and_then(MediaSockets::next_relayed) {
            self.handle_peers(desk, now, relayed.base, relayed.from, &relayed.payload);
        }
        self.after_gathering_again(desk, now);
        self.gather_late(desk, now);
    }

    /// A datagram of a peer's has come to a socket, or to a relayed address.
    fn handle_peers(
        &mut self,
        desk: &mut Desk,
        now: Instant,
        local: SocketAddr,
        from: SocketAddr,
        payload: &[u8],
    ) {
        match classify(payload) {
            PacketKind::Stun => {
                if let Some(ice) = &mut self.ice {
                    ice.handle_datagram(now, local, from, payload);
                }
                self.run_ice(desk, now);
                self.silence_timeout(desk, now);
            }
            kind @ (PacketKind::Rtp | PacketKind::Rtcp) => {
                self.handle_media(desk, now, kind, Path::udp(local, from), payload);
            }
            PacketKind::Dtls => self.handle_dtls(desk, now, Path::udp(local, from), payload),
            PacketKind::Other => {}
        }
    }

    fn handle_media(
        &mut self,
        desk: &mut Desk,
        now: Instant,
        kind: PacketKind,
        path: Path,
        payload: &[u8],
    ) {
        match (&mut self.stage, &self.ice) {
            (Stage::Talking(talking), ice) => {
                let is_peers = talking.accepts(ice.as_ref(), path);
                if is_peers {
                    talking.handle_media(now, kind, payload);
                    self.run_media(desk, now);
                }
            }
            (Stage::Inviting(inviting), Some(ice)) => {
                inviting.keep_early_media(ice, now, kind, path, payload);
            }
            _ => {}
        }
    }

    /// A frame from the microphone. Before the answer it is dropped: nobody hears it.
    pub(crate) fn handle_captured(&mut self, desk: &mut Desk, now: Instant, frame: &Frame) {
        if let Stage::Talking(talking) = &mut self.stage {
            talking.handle_captured(now, frame);
            self.run_media(desk, now);
        }
    }

    /// The same of both sides.
    pub(crate) fn handle_captured_sides(&mut self, desk: &mut Desk, now: Instant, sides: &Sides) {
        if let Stage::Talking(talking) = &mut self.stage {
            talking.handle_captured_sides(now, sides);
            self.run_media(desk, now);
        }
    }

    /// The speaker wants a frame. Before the answer there is none: the peer is not heard yet.
    pub(crate) fn handle_playback(&mut self, desk: &mut Desk, now: Instant) {
        if let Stage::Talking(talking) = &mut self.stage
            && let Some(Heard { frame, sides, pace }) = talking.playout(now)
        {
            desk.out(Output::Play {
                call: self.key,
                frame: Box::new(frame),
                sides,
                pace,
            });
        }
    }

    pub(crate) fn handle_timeout(&mut self, desk: &mut Desk, now: Instant) {
        match &mut self.stage {
            Stage::GatheringToInvite { gathering, .. }
            | Stage::GatheringToAnswer { gathering, .. } => {
                gathering.handle_timeout(desk, now);
                self.after_gathering(desk, now);
            }
            Stage::Holding(_) => self.holding_timeout(desk, now),
            Stage::Alerting(_) => self.alerting_timeout(desk, now),
            Stage::Inviting(_) => self.inviting_timeout(desk, now),
            Stage::Talking(_) => self.talking_timeout(desk, now),
            Stage::Cancelling { .. } => self.cancelling_timeout(desk, now),
            Stage::Over => {}
        }
        self.stranded_timeout(desk, now);
        if let Some(sockets) = &mut self.sockets {
            sockets.handle_timeout(desk, now);
        }
        self.after_gathering_again(desk, now);
        self.gather_late(desk, now);
        self.run_ice(desk, now);
    }

    pub(crate) fn poll_timeout(&self, desk: &Desk) -> Option<Instant> {
        let own = match &self.stage {
            Stage::GatheringToInvite { gathering, .. }
            | Stage::GatheringToAnswer { gathering, .. } => gathering.poll_timeout(desk),
            Stage::Holding(holding) => holding.poll_timeout(),
            Stage::Alerting(alerting) => alerting.poll_timeout(),
            Stage::Inviting(inviting) => inviting.poll_timeout(),
            Stage::Talking(talking) => talking.poll_timeout(),
            Stage::Cancelling { until, .. } => Some(*until),
            Stage::Over => None,
        };
        let ice = self
            .ice
            .as_ref()
            .and_then(|ice| ice.poll_timeout(&desk.pacer));
        let bindings = self
            .sockets
            .as_ref()
            .and_then(|sockets| sockets.poll_timeout(desk));
        own.into_iter()
            .chain(ice)
            .chain(bindings)
            .chain(self.stranded_until())
            .chain(self.late_timeout())
            .chain(self.keys_timeout())
            .min()
    }

    /// Goes on when gathering has finished, or when the resolved names let it go on.
    pub(crate) fn after_gathering(&mut self, desk: &mut Desk, now: Instant) {
        let took = match &mut self.stage {
            Stage::GatheringToInvite { gathering, .. } => {
                gathering.proceed(desk, now);
                gathering.took()
            }
            Stage::GatheringToAnswer { gathering, invite } => {
                gathering.proceed(desk, now);
                if Self::trickles(desk, invite) {
                    gathering.hurry(now);
                }
                gathering.took()
            }
            _ => None,
        };
        let Some(took) = took else { return };
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::GatheringToInvite { gathering, target } => match gathering.finish() {
                Ok(sockets) => {
                    self.take_sockets(desk, now, sockets, took);
                    self.invite(desk, now, target);
                }
                Err(gathering) => {
                    self.stage = Stage::GatheringToInvite {
                        gathering: *gathering,
                        target,
                    };
                }
            },
            Stage::GatheringToAnswer { gathering, invite } => match gathering.finish() {
                Ok(sockets) => {
                    self.take_sockets(desk, now, sockets, took);
                    self.answer_invite(desk, now, invite);
                }
                Err(gathering) => {
                    self.stage = Stage::GatheringToAnswer {
                        gathering: *gathering,
                        invite,
                    };
                }
            },
            other => self.stage = other,
        }
    }

    fn take_sockets(
        &mut self,
        desk: &mut Desk,
        now: Instant,
        sockets: MediaSockets,
        took: Duration,
    ) {
        let candidates = sockets.gathered.candidates().count();
        self.tell(desk, now, EventKind::Gathered { candidates, took });
        self.sockets = Some(sockets);
    }

    /// What the SIP endpoint says about this call.
    pub(crate) fn handle_sip(&mut self, desk: &mut Desk, now: Instant, event: SipEvent) {
        match event {
            SipEvent::Progress {
                dialog,
                status,
                body,
            } => self.handle_progress(desk, now, dialog, status, body),
            SipEvent::Accepted { dialog, body } => self.handle_accepted(desk, now, dialog, body),
            SipEvent::Refused {
                status,
                reason,
                warning,
                ..
            } => self.handle_refused(desk, now, status, warning.or(Some(reason))),
            SipEvent::TransportFailed { what, .. } => {
                let end = End::new(EndReason::Network, EndedBy::Network, Outcome::Network);
                self.finish(desk, now, end.with_words(Some(what)));
            }
            SipEvent::TimedOut { .. } => self.handle_invite_timed_out(desk, now),
            SipEvent::Cancelled { .. } => self.handle_cancelled(desk, now),
            SipEvent::Pracked { body, .. } => {
                self.handle_late_answer(desk, now, body);
                self.dialog_is_known(desk, now);
            }
            SipEvent::Trickled { dialog, fragment } => {
                self.handle_trickled(desk, now, &dialog, fragment);
            }
            SipEvent::Confirmed { dialog, body } => {
                self.handle_confirmed(desk, now, &dialog, body);
                self.dialog_is_known(desk, now);
            }
            SipEvent::AckMissing { .. } => {
                let end = End::new(EndReason::Network, EndedBy::Network, Outcome::Network);
                self.finish(
                    desk,
                    now,
                    end.with_words(Some("the 200 was never acknowledged".into())),
                );
            }
            SipEvent::Ended { dialog, reason } => self.handle_bye(desk, now, &dialog, reason),
            SipEvent::Reinvite { dialog, body } => self.handle_reinvite(desk, now, &dialog, body),
            SipEvent::ReinviteAccepted { body, .. } => {
                self.handle_reinvite_accepted(desk, now, body);
            }
            SipEvent::ReinviteRefused { .. } => self.handle_reinvite_refused(desk, now),
            _ => {}
        }
    }

    /// The user hangs up, declines, or gives up.
    pub(crate) fn hang_up(&mut self, desk: &mut Desk, now: Instant) {
        match &self.stage {
            Stage::GatheringToInvite { .. } => {
                let end = End::new(EndReason::Cancelled, EndedBy::Local, Outcome::Interrupted);
                self.finish(desk, now, end);
            }
            Stage::GatheringToAnswer { .. } | Stage::Holding(_) | Stage::Alerting(_) => {
                self.reject(desk, now, EndReason::Declined, 603, None);
            }
            Stage::Inviting(_) => self.cancel(desk, now, EndReason::Cancelled),
            Stage::Talking(_) => {
                let end = End::new(EndReason::HungUp, EndedBy::Local, Outcome::Completed);
                self.hang_up_talk(desk, now, end);
            }
            Stage::Cancelling { .. } | Stage::Over => {}
        }
    }

    /// How many pairs were checked: those of the ICE session, or of the one that failed.
    fn tried(&self, fork: ForkId) -> usize {
        let now = self.ice.as_ref().map_or(0, |ice| ice.pairs_tried(fork));
        now.max(self.pairs_tried)
    }

    /// Ends the call: the agents, the sound, the sockets; and says so.
    fn finish(&mut self, desk: &mut Desk, now: Instant, end: End) {
        self.tell_untold(desk, now, false);
        let stage = std::mem::replace(&mut self.stage, Stage::Over);
        let (connected, figures, sound) = match stage {
            Stage::GatheringToInvite { gathering, .. }
            | Stage::GatheringToAnswer { gathering, .. } => {
                gathering.abandon(desk, now);
                (Duration::ZERO, MediaFigures::default(), false)
            }
            Stage::Alerting(_) => (Duration::ZERO, MediaFigures::default(), true),
            Stage::Talking(mut talking) => {
                talking.close(desk, self.ice.as_ref(), self.sockets.as_mut(), now);
                (
                    talking.connected(now),
                    talking.figures(now),
                    talking.has_devices(),
                )
            }
            _ => (Duration::ZERO, MediaFigures::default(), false),
        };
        if sound {
            desk.out(Output::CloseSound { call: self.key });
        }
        if let Some(sockets) = self.sockets.take() {
            sockets.close(desk, now);
        }
        if let Some(mut ice) = self.ice.take() {
            ice.stop_all();
        }
        self.tell(
            desk,
            now,
            EventKind::Ended {
                reason: end.reason,
                status: end.status,
                by: end.by,
                connected,
                figures: Box::new(figures),
                outcome: end.outcome,
                words: end.words,
            },
        );
    }
}

/// The ICE crate's reason in the words of the events.
fn path_failure(reason: ringtrue_ice::FailureReason) -> PathFailure {
    use ringtrue_ice::FailureReason as Why;
    match reason {
        Why::NoPair => PathFailure::NoPairs,
        Why::AllPairsFailed | Why::NominationRefused => PathFailure::AllPairsFailed,
        Why::PatienceOver => PathFailure::PatienceOver,
        Why::PeerSilent => PathFailure::PeerSilent,
    }
}

/// Rings, which costs a `Ring`. There is no other way to it.
fn alert_user(call: CallKey, _ring: &Ring) -> Output {
    Output::Alert { call }
}

/// Opens microphone and speaker, which costs a `Ring`. There is no other way to it.
fn open_sound(call: CallKey, _ring: &Ring) -> Output {
    Output::OpenSound { call }
}
