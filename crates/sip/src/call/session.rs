//! Confirmed dialogs: the 2xx until its ACK, and BYE (RFC 3261 sections 13.3.1.4 and 15).

use std::time::Instant;

use super::reinvite::Change;
use super::{Stage, reason_of, sdp_of};
use crate::auth::Attempts;
use crate::dialog::Dialog;
use crate::endpoint::{
    CallHandle, CommandRefused, DialogId, Endpoint, Outcome, Purpose, Rejection, ServerKey,
    SipEvent,
};
use crate::message::{HeaderName, Method, Request, StatusCode};
use crate::syntax::quote;
use crate::transaction::{Backoff, T2, TIMEOUT};
use crate::transport::{Flow, ReplyPath};

/// A confirmed dialog.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) dialog: Dialog,
    /// The way to a peer whose Contact is behind a NAT and that no proxy speaks for.
    pub(super) detour: Option<Flow>,
    /// We chose the Call-ID: decides who waits longer after a 491.
    pub(super) owns_call_id: bool,
    pub(super) standing: Standing,
    pub(super) change: Change,
    /// Our re-INVITE met the peer's (491): when to offer this again.
    pub(super) retry: Option<(Instant, Vec<u8>)>,
}

/// How far a dialog has come.
#[derive(Debug)]
pub(super) enum Standing {
    /// Our 2xx is repeated until its ACK comes.
    AwaitingAck(Unacknowledged),
    /// The same, and the user has hung up: the BYE has to wait (RFC 3261 section 15).
    AckBeforeBye(Unacknowledged, Option<String>),
    Confirmed,
    /// Our BYE is under way. The user is told of its end, unless the dialog was over before.
    Leaving {
        tell: bool,
    },
}

/// A 2xx without its ACK.
#[derive(Debug)]
pub(super) struct Unacknowledged {
    cseq: u32,
    reply: ReplyPath,
    payload: Vec<u8>,
    backoff: Backoff,
    give_up: Instant,
}

impl Unacknowledged {
    /// It was sent just now.
    pub(super) fn new(now: Instant, cseq: u32, reply: ReplyPath, payload: Vec<u8>) -> Self {
        Self {
            cseq,
            reply,
            payload,
            backoff: Backoff::new(now, T2),
            give_up: now + TIMEOUT,
        }
    }

    pub(super) fn poll_timeout(&self) -> Instant {
        self.backoff.at().min(self.give_up)
    }

    pub(super) fn is_for(&self, cseq: u32) -> bool {
        self.cseq == cseq
    }
}

impl Session {
    pub(crate) fn confirmed(dialog: Dialog, detour: Option<Flow>, owns_call_id: bool) -> Self {
        Self {
            dialog,
            detour,
            owns_call_id,
            standing: Standing::Confirmed,
            change: Change::Idle,
            retry: None,
        }
    }

    pub(super) fn answered(dialog: Dialog, detour: Option<Flow>, sent: Unacknowledged) -> Self {
        Self {
            standing: Standing::AwaitingAck(sent),
            ..Self::confirmed(dialog, detour, false)
        }
    }

    pub(super) fn is_leaving(&self) -> bool {
        matches!(
            self.standing,
            Standing::Leaving { .. } | Standing::AckBeforeBye(..)
        )
    }

    /// The 2xx that is being repeated: the call's own, else a re-INVITE's.
    fn unacknowledged(&mut self) -> Option<&mut Unacknowledged> {
        match (&mut self.standing, &mut self.change) {
            (Standing::AwaitingAck(sent) | Standing::AckBeforeBye(sent, _), _) => Some(sent),
            (Standing::Confirmed, Change::Answered(sent)) => Some(sent),
            _ => None,
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let standing = match (&self.standing, &self.change) {
            (Standing::AwaitingAck(sent) | Standing::AckBeforeBye(sent, _), _)
            | (Standing::Confirmed, Change::Answered(sent)) => Some(sent.poll_timeout()),
            _ => None,
        };
        let retry = match (&self.standing, &self.change) {
            (Standing::Confirmed, Change::Idle) => self.retry.as_ref().map(|(at, _)| *at),
            _ => None,
        };
        standing.into_iter().chain(retry).min()
    }
}

impl Endpoint {
    /// Hangs up. As callee before the ACK, the BYE waits for it (RFC 3261 section 15).
    /// `ByeDone` follows.
    ///
    /// # Errors
    /// The dialog is unknown or hung up already.
    pub fn bye(
        &mut self,
        now: Instant,
        dialog: &DialogId,
        reason: Option<&str>,
    ) -> Result<(), CommandRefused> {
        let reason = reason.map(str::to_owned);
        if self.invited(dialog.call).is_some_and(|i| i.waiting_accept) {
            // The 200 still waits for a PRACK, so there is no dialog to end yet.
            let warning = reason;
            let rejection = Rejection {
                warning,
                ..Rejection::default()
            };
            return self.reject(now, dialog.call, 480, rejection);
        }
        let session = self.session(dialog).ok_or(CommandRefused::UnknownDialog)?;
        match std::mem::replace(&mut session.standing, Standing::Leaving { tell: true }) {
            Standing::Confirmed => {
                self.send_bye(now, dialog, reason.as_deref());
                Ok(())
            }
            Standing::AwaitingAck(sent) => {
                session.standing = Standing::AckBeforeBye(sent, reason);
                Ok(())
            }
            leaving @ (Standing::Leaving { .. } | Standing::AckBeforeBye(..)) => {
                session.standing = leaving;
                Err(CommandRefused::WrongState)
            }
        }
    }

    fn send_bye(&mut self, now: Instant, id: &DialogId, reason: Option<&str>) {
        let Some(session) = self.session(id) else {
            return;
        };
        let mut bye = session.dialog.request(Method::Bye);
        let hop = Self::dialog_hop(&session.dialog, session.detour);
        if let Some(reason) = reason {
            let value = format!("SIP;text={}", quote(reason));
            bye.headers.push(HeaderName::Reason, value);
        }
        let purpose = Purpose::Bye(id.clone());
        self.authorize(&purpose, &mut bye);
        let key = self.client_key(&Method::Bye);
        self.start_client(now, key, purpose, hop, bye, Attempts::default());
        self.drop_change(now, id);
    }

    /// The dialog ends in the middle of a re-INVITE: the peer's is refused, ours not waited for.
    fn drop_change(&mut self, now: Instant, id: &DialogId) {
        let Some(session) = self.session(id) else {
            return;
        };
        match std::mem::replace(&mut session.change, Change::Idle) {
            Change::Theirs { key, request, .. } => {
                self.answer(now, &key, &request, StatusCode::REQUEST_TERMINATED);
            }
            Change::Ours { key, .. } => self.abandon_client(now, &key),
            Change::Idle | Change::Answered(_) => {}
        }
    }

    /// Ends a dialog that the user has been told about already.
    pub(super) fn leave_silently(&mut self, now: Instant, id: &DialogId) {
        if let Some(session) = self.session(id) {
            session.standing = Standing::Leaving { tell: false };
            self.send_bye(now, id, None);
        }
    }

    pub(crate) fn bye_outcome(&mut self, id: &DialogId, outcome: &Outcome) {
        if matches!(outcome, Outcome::Response(response) if response.status.is_provisional()) {
            return;
        }
        // Whatever came, the dialog is over (RFC 3261 section 15.1.1).
        let Some(call) = self.calls.get_mut(&id.call) else {
            return;
        };
        if let Some(session) = call.sessions.remove(&id.remote_tag)
            && matches!(session.standing, Standing::Leaving { tell: true })
        {
            let dialog = id.clone();
            self.events.push_back(SipEvent::ByeDone { dialog });
        }
        self.forget_if_over(id.call);
    }

    /// The peer hangs up.
    pub(crate) fn handle_bye(
        &mut self,
        now: Instant,
        key: &ServerKey,
        request: &Request,
        id: &DialogId,
    ) {
        self.answer(now, key, request, StatusCode::OK);
        let Some(call) = self.calls.get_mut(&id.call) else {
            return;
        };
        if matches!(call.stage, Stage::Invited(_)) {
            // A caller may leave an early dialog so (RFC 3261 section 15.1.2).
            return self.abandon_invited(now, id.call);
        }
        let Some(session) = call.sessions.get(&id.remote_tag) else {
            return;
        };
        if matches!(session.standing, Standing::Leaving { .. }) {
            // Both hang up at once; our own BYE's end tells the user.
            return;
        }
        let waiting_bye = matches!(session.standing, Standing::AckBeforeBye(..));
        self.drop_change(now, id);
        if let Some(call) = self.calls.get_mut(&id.call) {
            call.sessions.remove(&id.remote_tag);
        }
        let dialog = id.clone();
        self.events.push_back(if waiting_bye {
            SipEvent::ByeDone { dialog }
        } else {
            let reason = reason_of(&request.headers);
            SipEvent::Ended { dialog, reason }
        });
        self.forget_if_over(id.call);
    }

    /// The ACK to a 2xx of ours.
    pub(crate) fn handle_dialog_ack(&mut self, now: Instant, request: &Request) {
        let Some(dialog) = self.find_dialog(&request.headers) else {
            return;
        };
        let (Some(session), Ok(cseq)) = (self.session(&dialog), request.headers.cseq()) else {
            return;
        };
        let body = sdp_of(&request.headers, &request.body);
        if !session
            .unacknowledged()
            .is_some_and(|sent| sent.is_for(cseq.number))
        {
            return;
        }
        match std::mem::replace(&mut session.standing, Standing::Confirmed) {
            Standing::AwaitingAck(_) => {
                self.events.push_back(SipEvent::Confirmed { dialog, body });
            }
            Standing::AckBeforeBye(_, reason) => {
                session.standing = Standing::Leaving { tell: true };
                self.send_bye(now, &dialog, reason.as_deref());
            }
            standing @ (Standing::Confirmed | Standing::Leaving { .. }) => {
                session.standing = standing;
                session.change = Change::Idle;
                // Only the answer to an offer of ours is news.
                if body.is_some() {
                    self.events.push_back(SipEvent::Confirmed { dialog, body });
                }
            }
        }
    }

    /// Repeats 2xx responses, gives them up after 64*T1, and offers again after a 491.
    pub(super) fn session_timeouts(&mut self, now: Instant, call: CallHandle) {
        let tags: Vec<String> = self
            .calls
            .get(&call)
            .map(|call| call.sessions.keys().cloned().collect())
            .unwrap_or_default();
        for remote_tag in tags {
            let id = DialogId { call, remote_tag };
            self.session_timeout(now, &id);
        }
    }

    fn session_timeout(&mut self, now: Instant, id: &DialogId) {
        let Some(session) = self.session(id) else {
            return;
        };
        if let Some(sent) = session.unacknowledged() {
            if sent.give_up <= now {
                return self.ack_missing(now, id);
            }
            if sent.backoff.fires(now) {
                let (reply, payload) = (sent.reply.clone(), sent.payload.clone());
                self.transmit_reply(now, &reply, payload);
            }
            return;
        }
        let is_due = session.retry.as_ref().is_some_and(|(at, _)| *at <= now);
        if is_due
            && matches!(session.change, Change::Idle)
            && let Some((_, body)) = session.retry.take()
        {
            self.send_reinvite(now, id, body);
        }
    }

    /// RFC 3261 section 13.3.1.4: the dialog is confirmed, but to be ended by a BYE.
    fn ack_missing(&mut self, now: Instant, id: &DialogId) {
        let Some(session) = self.session(id) else {
            return;
        };
        let standing = std::mem::replace(&mut session.standing, Standing::Leaving { tell: false });
        if let Standing::AckBeforeBye(_, reason) = standing {
            session.standing = Standing::Leaving { tell: true };
            return self.send_bye(now, id, reason.as_deref());
        }
        self.send_bye(now, id, None);
        let dialog = id.clone();
        self.events.push_back(SipEvent::AckMissing { dialog });
    }
}
