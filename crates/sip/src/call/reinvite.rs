//! Changes of a session by re-INVITE: RFC 3261 section 14.

use std::time::{Duration, Instant};

use super::session::{Standing, Unacknowledged};
use super::{put_sdp, sdp_of};
use crate::auth::Attempts;
use crate::endpoint::{
    ClientKey, CommandRefused, DialogId, Endpoint, Outcome, Purpose, ServerKey, SipEvent,
};
use crate::message::{HeaderName, Method, Request, Response, StatusCode};
use crate::transport::Flow;

/// A peer sends no re-INVITE of its own while it has one of ours (RFC 3261 section 14.1), so what
/// comes after this time shows that ours was lost on the way: the peer's goes first, where 491
/// would leave both waiting for the end of a transaction that nobody sees (docs/deviations.md).
const OVERDUE: Duration = Duration::from_secs(1);

/// The re-INVITE of a session, one at a time.
#[derive(Debug)]
pub(crate) enum Change {
    Idle,
    /// Ours waits for its final response.
    Ours {
        key: ClientKey,
        body: Vec<u8>,
        sent: Instant,
    },
    /// The peer's waits for our user.
    Theirs {
        key: ServerKey,
        request: Request,
        flow: Flow,
    },
    /// Our 2xx to the peer's is repeated until its ACK comes.
    Answered(Unacknowledged),
}

impl Change {
    /// Ours was sent again with credentials.
    pub(super) fn rename(&mut self, new: &ClientKey) {
        if let Self::Ours { key, .. } = self {
            *key = new.clone();
        }
    }
}

impl Endpoint {
    /// Offers a change of the session. `ReinviteAccepted` or `ReinviteRefused` follows.
    ///
    /// # Errors
    /// The dialog is unknown or not confirmed, or another re-INVITE is under way.
    pub fn reinvite(
        &mut self,
        now: Instant,
        dialog: &DialogId,
        body: Vec<u8>,
    ) -> Result<(), CommandRefused> {
        let session = self.session(dialog).ok_or(CommandRefused::UnknownDialog)?;
        match (&session.standing, &session.change, &session.retry) {
            (Standing::Confirmed, Change::Idle, None) => {}
            (Standing::Confirmed | Standing::AwaitingAck(_), ..) => {
                return Err(CommandRefused::Busy);
            }
            _ => return Err(CommandRefused::WrongState),
        }
        self.send_reinvite(now, dialog, body);
        Ok(())
    }

    /// Whether [`Self::reinvite`] would be taken now.
    pub fn may_reinvite(&mut self, dialog: &DialogId) -> bool {
        self.session(dialog).is_some_and(|session| {
            let parts = (&session.standing, &session.change, &session.retry);
            matches!(parts, (Standing::Confirmed, Change::Idle, None))
        })
    }

    /// Whether a re-INVITE with this offer will go in a datagram, where its dialog goes by datagrams
    /// at all; see [`fits_datagram`](Self::fits_datagram).
    pub fn reinvite_fits_datagram(&mut self, dialog: &DialogId, body: &[u8]) -> bool {
        let Some(session) = self.session(dialog) else {
            return true;
        };
        let mut dialog = session.dialog.clone();
        let hop = Self::dialog_hop(&dialog, session.detour);
        let mut invite = dialog.request(Method::Invite);
        put_sdp(&mut invite.headers, &mut invite.body, body);
        Self::describe_us(&self.config, &mut invite.headers);
        hop.is_ok_and(|hop| hop.is_stream()) || self.is_short(&invite)
    }

    /// Gives up an offer of ours that met the peer's (491) and waits to be sent again.
    pub fn withdraw_reinvite(&mut self, dialog: &DialogId) {
        if let Some(session) = self.session(dialog) {
            session.retry = None;
        }
    }

    /// A large re-INVITE may follow soon: a connection is opened for it, as by
    /// [`prepare_invite`](Self::prepare_invite).
    pub fn prepare_reinvite(&mut self, now: Instant, dialog: &DialogId) {
        if let Some(session) = self.session(dialog) {
            let hop = Self::dialog_hop(&session.dialog, session.detour);
            let request = Request::new(Method::Invite, session.dialog.remote_target.clone());
            self.prepare(now, request, hop, true);
        }
    }

    pub(super) fn send_reinvite(&mut self, now: Instant, id: &DialogId, body: Vec<u8>) {
        let key = self.client_key(&Method::Invite);
        let Some(session) = self.session(id) else {
            return;
        };
        let mut invite = session.dialog.request(Method::Invite);
        let hop = Self::dialog_hop(&session.dialog, session.detour);
        put_sdp(&mut invite.headers, &mut invite.body, &body);
        session.change = Change::Ours {
            key: key.clone(),
            body,
            sent: now,
        };
        Self::describe_us(&self.config, &mut invite.headers);
        let purpose = Purpose::Reinvite(id.clone());
        self.authorize(&purpose, &mut invite);
        self.start_client(now, key, purpose, hop, invite, Attempts::default());
    }

    pub(crate) fn reinvite_outcome(
        &mut self,
        now: Instant,
        id: &DialogId,
        key: &ClientKey,
        request: &Request,
        outcome: Outcome,
    ) {
        let status = match &outcome {
            Outcome::Response(response) => response.status.code(),
            Outcome::TimedOut => 408,
            Outcome::Failed(_) => 503,
        };
        let Some(session) = self.session(id) else {
            // Hung up meanwhile: our BYE has told the peer more than an ACK would.
            return;
        };
        let yielded = !matches!(&session.change, Change::Ours { key: ours, .. } if ours == key);
        match (status, outcome) {
            (100..=199, _) => {}
            (300.., _) if yielded => {}
            (200..=299, Outcome::Response(response)) => {
                self.reinvite_accepted(now, id, key, request, &response);
            }
            (491, _) => {
                if let Change::Ours { body, .. } =
                    std::mem::replace(&mut session.change, Change::Idle)
                {
                    let owns_call_id = session.owns_call_id;
                    let pause = self.glare_pause(owns_call_id);
                    if let Some(session) = self.session(id) {
                        session.retry = Some((now + pause, body));
                    }
                }
            }
            // RFC 3261 section 12.2.1.2: these end the dialog.
            (408 | 481, _) => {
                session.change = Change::Idle;
                if !session.is_leaving() {
                    self.leave_silently(now, id);
                    let reason = StatusCode::new(status).map(|s| s.default_reason().to_owned());
                    let dialog = id.clone();
                    self.events.push_back(SipEvent::Ended { dialog, reason });
                }
            }
            (status, _) => {
                session.change = Change::Idle;
                let dialog = id.clone();
                let event = SipEvent::ReinviteRefused { dialog, status };
                self.events.push_back(event);
            }
        }
    }

    fn reinvite_accepted(
        &mut self,
        now: Instant,
        id: &DialogId,
        key: &ClientKey,
        request: &Request,
        response: &Response,
    ) {
        let (Some(session), Ok(cseq)) = (self.session(id), request.headers.cseq()) else {
            return;
        };
        let yielded = !matches!(&session.change, Change::Ours { key: ours, .. } if ours == key);
        if !yielded {
            session.change = Change::Idle;
            session.dialog.refresh_target(&response.headers);
        }
        let ack = session.dialog.request_with_cseq(Method::Ack, cseq.number);
        let hop = Self::dialog_hop(&session.dialog, session.detour);
        let is_leaving = session.is_leaving();
        self.acknowledge(now, key, &id.remote_tag, ack, hop);
        if !is_leaving && !yielded {
            self.events.push_back(SipEvent::ReinviteAccepted {
                dialog: id.clone(),
                body: sdp_of(&response.headers, &response.body),
            });
        }
    }

    /// RFC 3261 section 14.1: 2.1 to 4 s for the owner of the Call-ID, else 0 to 2 s, in steps
    /// of 10 ms.
    fn glare_pause(&mut self, owns_call_id: bool) -> Duration {
        let steps = if owns_call_id {
            self.random(210, 400)
        } else {
            self.random(0, 200)
        };
        Duration::from_millis(10 * steps)
    }

    /// The peer wants to change the session.
    pub(crate) fn handle_reinvite(
        &mut self,
        now: Instant,
        key: ServerKey,
        request: Request,
        flow: Flow,
        id: &DialogId,
    ) {
        let Some(session) = self.session(id) else {
            // A second INVITE before the first is answered: RFC 3261 section 14.2.
            return self.answer_later(now, &key, &request);
        };
        let overdue =
            matches!(&session.change, Change::Ours { sent, .. } if *sent + OVERDUE <= now);
        if overdue {
            session.change = Change::Idle;
        }
        match (&session.standing, &session.change) {
            (Standing::Leaving { .. } | Standing::AckBeforeBye(..), _) => {
                self.answer(now, &key, &request, StatusCode::CALL_DOES_NOT_EXIST);
            }
            (Standing::AwaitingAck(_), _) | (Standing::Confirmed, Change::Ours { .. }) => {
                self.answer_code(now, &key, &request, 491);
            }
            (Standing::Confirmed, Change::Theirs { .. }) => {
                self.answer_later(now, &key, &request);
            }
            (Standing::Confirmed, Change::Idle | Change::Answered(_)) => {
                let body = sdp_of(&request.headers, &request.body);
                session.dialog.refresh_target(&request.headers);
                self.answer(now, &key, &request, StatusCode::TRYING);
                if let Some(session) = self.session(id) {
                    session.change = Change::Theirs { key, request, flow };
                }
                let dialog = id.clone();
                self.events.push_back(SipEvent::Reinvite { dialog, body });
            }
        }
    }

    fn answer_later(&mut self, now: Instant, key: &ServerKey, request: &Request) {
        let pause = self.random(0, 10);
        if let Some(mut response) = self.response(key, request, 500) {
            response
                .headers
                .push(HeaderName::RetryAfter, pause.to_string());
            self.respond(now, key, &response);
        }
    }

    /// Takes the peer's re-INVITE out of the session.
    fn take_theirs(&mut self, id: &DialogId) -> Result<(ServerKey, Request, Flow), CommandRefused> {
        let session = self.session(id).ok_or(CommandRefused::UnknownDialog)?;
        match std::mem::replace(&mut session.change, Change::Idle) {
            Change::Theirs { key, request, flow } => Ok((key, request, flow)),
            other => {
                session.change = other;
                Err(CommandRefused::WrongState)
            }
        }
    }

    /// Accepts the peer's re-INVITE with this SDP.
    ///
    /// # Errors
    /// The dialog is unknown, or there is no re-INVITE to answer.
    pub fn answer_reinvite(
        &mut self,
        now: Instant,
        dialog: &DialogId,
        body: Vec<u8>,
    ) -> Result<(), CommandRefused> {
        let (key, request, flow) = self.take_theirs(dialog)?;
        let mut response = self
            .dialog_response(&key, &request, flow, StatusCode::OK)
            .ok_or(CommandRefused::WrongState)?;
        put_sdp(&mut response.headers, &mut response.body, &body);
        let cseq = request.headers.cseq().map(|cseq| cseq.number);
        let sent = self.respond(now, &key, &response);
        if let (Some((reply, payload)), Ok(cseq)) = (sent, cseq)
            && let Some(session) = self.session(dialog)
        {
            let sent = Unacknowledged::new(now, cseq, reply, payload);
            session.change = Change::Answered(sent);
        }
        Ok(())
    }

    /// Refuses the peer's re-INVITE, 300 to 699; the session goes on as it was.
    ///
    /// # Errors
    /// The dialog is unknown, there is no re-INVITE to answer, or the status is no refusal.
    pub fn refuse_reinvite(
        &mut self,
        now: Instant,
        dialog: &DialogId,
        status: u16,
    ) -> Result<(), CommandRefused> {
        if !(300..=699).contains(&status) {
            return Err(CommandRefused::ForbiddenStatus(status));
        }
        let (key, request, _) = self.take_theirs(dialog)?;
        self.answer_code(now, &key, &request, status);
        Ok(())
    }
    /// Takes the re-INVITE of this transaction out of its session.
    pub(crate) fn take_reinvite(&mut self, invite: &ServerKey) -> Option<Request> {
        let sessions = self
            .calls
            .values_mut()
            .flat_map(|call| call.sessions.values_mut());
        for session in sessions {
            if matches!(&session.change, Change::Theirs { key, .. } if key == invite)
                && let Change::Theirs { request, .. } =
                    std::mem::replace(&mut session.change, Change::Idle)
            {
                return Some(request);
            }
        }
        None
    }
}
