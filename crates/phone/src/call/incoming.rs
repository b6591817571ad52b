//! The callee's side, from the INVITE to the pick-up: hold, prove, ring.

use std::time::Instant;

use ringtrue_ice::{
    ComponentId, ForkId, Gate, IceDescription, IceSession, PathProof, Ring, Role, SessionConfig,
    UnverifiedReason,
};
use ringtrue_sip::sdp::{
    self, AnswerRefused, Direction, IceSupport, LocalMedia, SessionDescription,
};
use ringtrue_sip::{CallHandle, DialogId, IcePeer, Rejection};

use super::keying::{Go, Keys, LATE_STARTER};
use super::offer::{Session, components};
use super::secured::{EarlyDtls, keys_of};
use super::talking::Talking;
use super::terms::Terms;
use super::trickle::Trickling;
use super::{Call, End, Stage, alert_user, open_sound};
use crate::desk::Desk;
use crate::event::{CallRole, EndReason, EndedBy, EventKind, Outcome, PathFailure};
use crate::gathering::{Gathering, Warm};
use crate::io::CallKey;
use crate::settings::{AnswerWhen, IceUse, RingWhen};

/// The one ICE agent of a callee's call.
pub(super) const FORK: ForkId = ForkId(0);

/// An INVITE that has come.
pub(crate) struct IncomingInvite {
    pub(crate) handle: CallHandle,
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) call_id: String,
    pub(crate) remote_tag: String,
    pub(crate) body: Option<Vec<u8>>,
    /// It came by TLS.
    pub(crate) secure: bool,
}

/// What the two sides have said so far.
pub(super) enum Agreement {
    /// Offer and answer are complete.
    Complete(Box<Terms>),
    /// An INVITE without SDP: our offer is out, or waits for the 200.
    Offered(Box<LocalMedia>),
}

/// The answer (or our offer) is out, and the user hears nothing yet.
pub(super) struct Holding {
    gate: Option<Gate>,
    pub(super) agreement: Agreement,
    proven: Option<Proven>,
}

/// The path is proven, and the keys are awaited: the proof is in hand.
struct Proven {
    proof: PathProof,
    /// From then on a peer that has not begun DTLS is one that begins after the answer.
    late: Instant,
    /// So long keys are waited for.
    until: Instant,
}

impl Holding {
    pub(super) fn new(gate: Option<Gate>, agreement: Agreement) -> Self {
        Self {
            gate,
            agreement,
            proven: None,
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let proven = self.proven.as_ref()?;
        let heard = keys_of(&self.agreement).is_some_and(Keys::is_heard);
        Some(if heard { proven.until } else { proven.late })
    }
}

/// The user is being alerted.
pub(super) struct Alerting {
    /// What this ringing cost.
    ring: Ring,
    agreement: Agreement,
    /// The SDP of the 200, unless a reliable response has carried it.
    body: Option<Vec<u8>>,
    /// An ordinary phone checks after the 200 only: against this description.
    check_later: Option<IceDescription>,
    answer_at: Option<Instant>,
    give_up_at: Instant,
}

impl Alerting {
    pub(super) fn agreement(&self) -> &Agreement {
        &self.agreement
    }

    pub(super) fn agreement_mut(&mut self) -> &mut Agreement {
        &mut self.agreement
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        Some(
            self.answer_at
                .map_or(self.give_up_at, |at| at.min(self.give_up_at)),
        )
    }
}

impl Call {
    /// A call that has come in. Its candidates come from the pool, or are gathered now.
    pub(crate) fn receive(
        desk: &mut Desk,
        now: Instant,
        key: CallKey,
        invite: IncomingInvite,
        warm: Option<Warm>,
    ) -> Self {
        let mut call = Self {
            key,
            role: CallRole::Callee,
            handle: Some(invite.handle),
            call_id: invite.call_id.clone(),
            remote_tag: Some(invite.remote_tag.clone()),
            from: invite.from.clone(),
            to: invite.to.clone(),
            invited_at: now,
            sockets: None,
            ice: None,
            session: Session::new(desk, invite.secure),
            trickling: Trickling::default(),
            pairs_tried: 0,
            stranded: None,
            stage: Stage::Over,
        };
        let told = EventKind::Invite {
            role: CallRole::Callee,
            from: invite.from.clone(),
            to: invite.to.clone(),
        };
        call.tell(desk, now, told);
        match warm {
            Some(Warm::Ready(sockets)) => {
                call.sockets = Some(sockets);
                call.answer_invite(desk, now, invite);
            }
            Some(Warm::Begun(gathering)) => {
                call.stage = Stage::GatheringToAnswer { gathering, invite };
                call.after_gathering(desk, now);
            }
            None => {
                let gathering = Gathering::begin(desk, now);
                call.stage = Stage::GatheringToAnswer { gathering, invite };
            }
        }
        call
    }

    /// The sockets are there: answer the offer, or make one.
    pub(super) fn answer_invite(&mut self, desk: &mut Desk, now: Instant, invite: IncomingInvite) {
        let Some(body) = invite.body else {
            self.offer_in_response(desk, now);
            return;
        };
        let offer = SessionDescription::parse(&body);
        let remote = offer
            .as_ref()
            .ok()
            .map(|offer| sdp::read_offer_for(offer, &self.session.security, &self.session.crypto));
        let (Ok(offer), Some(Ok(remote))) = (&offer, &remote) else {
            let text = match remote {
                Some(Err(why @ AnswerRefused::Security(_))) => why.to_string(),
                _ => "The offer holds no audio stream that this phone understands".to_owned(),
            };
            self.reject(desk, now, EndReason::Incompatible, 488, Some(text));
            return;
        };
        match remote.ice.clone() {
            IceSupport::Supported(description) if desk.settings.ice != IceUse::Off => {
                self.answer_with_ice(desk, now, offer, description);
            }
            IceSupport::Supported(_) => {
                self.answer_without_ice(desk, now, offer, UnverifiedReason::IceOff);
            }
            IceSupport::Absent => {
                self.answer_without_ice(desk, now, offer, UnverifiedReason::PeerWithoutIce);
            }
            IceSupport::Mismatch => {
                // RFC 8839 section 4.2.5: our answer says so, which takes a session to say it with.
                if desk.settings.ice != IceUse::Off {
                    self.new_ice(desk, Role::Controlled);
                }
                self.answer_without_ice(desk, now, offer, UnverifiedReason::PeerWithoutIce);
            }
        }
    }

    pub(super) fn new_ice(&mut self, desk: &mut Desk, role: Role) {
        let config = SessionConfig {
            role,
            pacing: desk.settings.pacing,
            patience: desk.settings.patience,
            ..SessionConfig::default()
        };
        let seed = desk.long_seed();
        self.ice = self
            .sockets
            .as_ref()
            .map(|sockets| IceSession::new(config, sockets.gathered.clone(), seed));
    }

    /// The caller has ICE: the answer goes out in a 183, and the phone holds the ringing.
    fn answer_with_ice(
        &mut self,
        desk: &mut Desk,
        now: Instant,
        offer: &SessionDescription,
        description: IceDescription,
    ) {
        // RFC 8445 section 6.1.1: a full agent that faces a lite one controls.
        let lite = description.lite;
        self.new_ice(
            desk,
            if lite {
                Role::Controlling
            } else {
                Role::Controlled
            },
        );
        self.begin_trickling(desk, now);
        let Some((body, terms)) = self.make_answer(desk, now, offer) else {
            return;
        };
        let components = components(terms.negotiated());
        if terms.negotiated().rtcp_mux
            && let Some(sockets) = &mut self.sockets
        {
            sockets.close_rtcp(desk, now);
        }
        if desk.settings.ring == RingWhen::AtOnce {
            let gate = Gate::without_ice();
            let opened = gate.open_unverified(UnverifiedReason::AtOnce, desk.unverified_policy());
            let go = Go::unverified(terms.keys.as_ref());
            let agreement = Agreement::Complete(Box::new(terms));
            if let Ok(ring) = opened {
                let leave = (ring, go);
                self.alert(desk, now, leave, agreement, Some(body), Some(description));
            }
            return;
        }
        let Some(handle) = self.handle else { return };
        let peer = if lite { IcePeer::Lite } else { IcePeer::Full };
        let sent = desk.sip.progress(now, handle, body, peer);
        let started = self
            .ice
            .as_mut()
            .map(|ice| ice.start(now, FORK, description, components));
        if sent.is_err() || !matches!(started, Some(Ok(()))) {
            self.reject(desk, now, EndReason::Network, 500, None);
            return;
        }
        let gate = self.ice.as_ref().and_then(|ice| ice.gate(FORK));
        let agreement = Agreement::Complete(Box::new(terms));
        self.stage = Stage::Holding(Holding::new(gate, agreement));
        self.run_ice(desk, now);
    }

    /// The caller has no ICE, so it can give no proof: the explicit, visible unverified way.
    fn answer_without_ice(
        &mut self,
        desk: &mut Desk,
        now: Instant,
        offer: &SessionDescription,
        reason: UnverifiedReason,
    ) {
        match Gate::without_ice().open_unverified(reason, desk.unverified_policy()) {
            Ok(ring) => {
                if let Some((body, terms)) = self.make_answer(desk, now, offer) {
                    self.ice = None;
                    let go = Go::unverified(terms.keys.as_ref());
                    let agreement = Agreement::Complete(Box::new(terms));
                    self.alert(desk, now, (ring, go), agreement, Some(body), None);
                }
            }
            Err(_) => self.refuse_for_want_of_ice(desk, now),
        }
    }

    /// RFC 5768 section 4.2 and RFC 3261 section 21.4.15: 421 names the extension it wants.
    pub(super) fn refuse_for_want_of_ice(&mut self, desk: &mut Desk, now: Instant) {
        let rejection = Rejection {
            warning: Some("This phone rings only over a proven path: ICE is required".to_owned()),
            require: vec!["ice".to_owned()],
            ..Rejection::default()
        };
        self.reject_with(desk, now, EndReason::IceRequired, 421, rejection);
    }

    fn make_answer(
        &mut self,
        desk: &mut Desk,
        now: Instant,
        offer: &SessionDescription,
    ) -> Option<(Vec<u8>, Terms)> {
        let sockets = self.sockets.as_ref()?;
        let local = self
            .session
            .describe(desk, sockets, self.ice.as_ref(), Direction::SendRecv);
        let answered = sdp::answer(offer, &local)
            .ok()
            .and_then(|(body, negotiated)| {
                Some((body, Terms::new(desk, now, offer.clone(), negotiated)?))
            });
        if answered.is_none() {
            let text = "No codec in common";
            self.reject(
                desk,
                now,
                EndReason::Incompatible,
                488,
                Some(text.to_owned()),
            );
        }
        answered
    }

    /// The peer's first check: it holds our answer, so the 183 need not be repeated.
    pub(super) fn handle_peer_bound(&self, desk: &mut Desk) {
        if let (CallRole::Callee, Some(handle)) = (self.role, self.handle) {
            // Refused only when the call is gone or answered, and then nothing is repeated.
            let _ = desk.sip.stop_progress(handle);
        }
    }

    /// The proof has come. It stays in hand until the keys are there.
    pub(super) fn ring_with_proof(&mut self, desk: &mut Desk, now: Instant, proof: PathProof) {
        let ice = self.ice.as_ref();
        let round_trip = ice.and_then(|ice| ice.round_trip(FORK, ComponentId::Rtp));
        if let Stage::Holding(holding) = &mut self.stage {
            holding.proven = Some(Proven {
                proof,
                // Over a path that is longer than that nothing can have come yet.
                late: now + LATE_STARTER.max(round_trip.unwrap_or_default() * 2),
                until: now + desk.settings.patience,
            });
        }
        self.ring_when_keyed(desk, now);
    }

    /// Proof and keys together: only now does anybody hear anything.
    pub(super) fn ring_when_keyed(&mut self, desk: &mut Desk, now: Instant) {
        let Stage::Holding(holding) = &mut self.stage else {
            return;
        };
        let due = holding.proven.as_ref().map(|proven| proven.late);
        let Some(go) = due.and_then(|due| Go::after_proof(keys_of(&holding.agreement), due, now))
        else {
            return;
        };
        let Stage::Holding(holding) = std::mem::replace(&mut self.stage, Stage::Over) else {
            return;
        };
        let Holding {
            gate,
            agreement,
            proven,
        } = holding;
        let opened = gate
            .zip(proven)
            .map(|(gate, proven)| gate.open(proven.proof));
        let Some(Ok(ring)) = opened else {
            self.hold_failed(desk, now, PathFailure::ConsentLost, self.pairs_tried);
            return;
        };
        self.alert(desk, now, (ring, go), agreement, None, None);
    }

    /// The peer began its handshake, and did not end it.
    pub(super) fn holding_timeout(&mut self, desk: &mut Desk, now: Instant) {
        self.ring_when_keyed(desk, now);
        if let Stage::Holding(holding) = &self.stage
            && holding
                .proven
                .as_ref()
                .is_some_and(|proven| proven.until <= now)
        {
            self.refuse_for_want_of_keys(desk, now, "the handshake did not come to an end");
        }
    }

    /// No path: the phone stays silent, the caller learns why, the log shows a missed call.
    pub(super) fn hold_failed(
        &mut self,
        desk: &mut Desk,
        now: Instant,
        reason: PathFailure,
        pairs_tried: usize,
    ) {
        self.pairs_tried = pairs_tried;
        if desk.settings.ring == RingWhen::PreferVerified
            && reason != PathFailure::ConsentLost
            && let Stage::Holding(holding) = std::mem::replace(&mut self.stage, Stage::Over)
            && let Some(gate) = holding.gate
            && let Ok(ring) =
                gate.open_unverified(UnverifiedReason::PatienceOver, desk.unverified_policy())
        {
            let go = Go::unverified(keys_of(&holding.agreement));
            self.alert(desk, now, (ring, go), holding.agreement, None, None);
            return;
        }
        let text = format!(
            "No media path: {pairs_tried} pairs tried ({})",
            reason.as_str()
        );
        self.reject(desk, now, EndReason::NoMediaPath, 480, Some(text));
    }

    /// Alerts the user, sends the 180, opens microphone and speaker. All of it costs the `Ring`, and
    /// where media is encrypted its keys.
    pub(super) fn alert(
        &mut self,
        desk: &mut Desk,
        now: Instant,
        (ring, go): (Ring, Go),
        agreement: Agreement,
        body: Option<Vec<u8>>,
        check_later: Option<IceDescription>,
    ) {
        if let Some(handle) = self.handle {
            // Refused only when the call is gone already, and then its end is on its way here.
            let _ = desk.sip.ring(now, handle, &ring);
        }
        let ringing = EventKind::Ringing {
            role: CallRole::Callee,
            verified: ring.verified(),
        };
        self.tell(desk, now, ringing);
        desk.out(alert_user(self.key, &ring));
        desk.out(open_sound(self.key, &ring));
        self.stage = Stage::Alerting(Box::new(Alerting {
            ring,
            agreement,
            body,
            check_later,
            answer_at: match desk.settings.answer {
                AnswerWhen::After(delay) => Some(now + delay),
                AnswerWhen::Asked | AnswerWhen::Never => None,
            },
            give_up_at: now + desk.settings.answer_timeout,
        }));
        if go.keys_pending {
            self.tell_keys_pending(desk, now);
        }
    }

    pub(super) fn alerting_timeout(&mut self, desk: &mut Desk, now: Instant) {
        let Stage::Alerting(alerting) = &self.stage else {
            return;
        };
        if alerting.answer_at.is_some_and(|at| now >= at) {
            self.pick_up(desk, now);
        } else if now >= alerting.give_up_at {
            self.reject(desk, now, EndReason::NoAnswer, 480, None);
        }
    }

    /// The user picks up: the 200, and media both ways at once.
    pub(crate) fn pick_up(&mut self, desk: &mut Desk, now: Instant) {
        let stage = std::mem::replace(&mut self.stage, Stage::Over);
        let Stage::Alerting(alerting) = stage else {
            self.stage = stage;
            return;
        };
        let (Some(handle), Some(remote_tag)) = (self.handle, self.remote_tag.clone()) else {
            return;
        };
        let Alerting {
            ring,
            agreement,
            body,
            check_later,
            ..
        } = *alerting;
        if desk.sip.accept(now, handle, body).is_err() {
            let end = End::new(EndReason::Cancelled, EndedBy::Remote, Outcome::NoAnswer);
            self.finish(desk, now, end);
            return;
        }
        let dialog = DialogId {
            call: handle,
            remote_tag,
        };
        self.tell(
            desk,
            now,
            EventKind::Answered {
                role: CallRole::Callee,
            },
        );
        let talking = match agreement {
            Agreement::Complete(terms) => {
                if let (Some(description), Some(ice)) = (check_later, &mut self.ice) {
                    // Refused only for a fork that was started already; there is but one.
                    let _ = ice.start(now, FORK, description, components(terms.negotiated()));
                }
                Talking::agreed(desk, now, dialog, FORK, *terms, Some(ring))
            }
            Agreement::Offered(local) => Talking::offered(desk, now, dialog, FORK, *local, ring),
        };
        self.stage = Stage::Talking(Box::new(talking));
        self.let_bindings_go(desk, now);
        self.begin_keys(desk, now, EarlyDtls::default());
        self.run_ice(desk, now);
    }

    /// The caller gave up before the pick-up.
    pub(super) fn handle_cancelled(&mut self, desk: &mut Desk, now: Instant) {
        self.tell_missed(desk, now, EndReason::Cancelled);
        let end = End::new(EndReason::Cancelled, EndedBy::Remote, Outcome::NoAnswer);
        self.finish(desk, now, end.with_status(487));
    }

    pub(super) fn reject(
        &mut self,
        desk: &mut Desk,
        now: Instant,
        reason: EndReason,
        status: u16,
        text: Option<String>,
    ) {
        let rejection = Rejection {
            warning: text,
            ..Rejection::default()
        };
        self.reject_with(desk, now, reason, status, rejection);
    }

    fn reject_with(
        &mut self,
        desk: &mut Desk,
        now: Instant,
        reason: EndReason,
        status: u16,
        rejection: Rejection,
    ) {
        let words = rejection.warning.clone();
        if let Some(handle) = self.handle {
            // Refused only when the call is gone already; then there is nobody left to tell.
            let _ = desk.sip.reject(now, handle, status, rejection);
        }
        let outcome = match reason {
            EndReason::NoMediaPath | EndReason::ConsentLost | EndReason::KeysFailed => {
                Outcome::NoMediaPath
            }
            EndReason::NoAnswer => Outcome::NoAnswer,
            EndReason::Network => Outcome::Network,
            _ => Outcome::Refused,
        };
        if reason != EndReason::Declined {
            self.tell_missed(desk, now, reason);
        }
        let end = End::new(reason, EndedBy::Local, outcome);
        self.finish(desk, now, end.with_status(status).with_words(words));
    }

    pub(super) fn tell_missed(&self, desk: &mut Desk, now: Instant, reason: EndReason) {
        let missed = EventKind::Missed {
            from: self.from.clone(),
            reason,
            pairs_tried: self.tried(FORK),
        };
        self.tell(desk, now, missed);
    }
}
