//! The callee's final response, and the caller's CANCEL: RFC 3261 sections 9.2 and 13.3.1.

use std::time::Instant;

use super::invited::{Description, detour};
use super::session::Unacknowledged;
use super::{Session, Stage, put_sdp};
use crate::endpoint::{CallHandle, CommandRefused, Endpoint, Rejection, ServerKey, SipEvent};
use crate::message::{HeaderName, Request, StatusCode, Warning};
use crate::transport::Named;

impl Endpoint {
    /// Answers the call: 200. `body` is the SDP for a call without a 183; after one, the 200
    /// repeats its SDP byte for byte, or carries none if it went reliably; then it also waits for
    /// the PRACK. `Confirmed` follows, or `AckMissing`.
    ///
    /// # Errors
    /// The call is unknown, answered or cancelled, or there is no SDP at all.
    pub fn accept(
        &mut self,
        now: Instant,
        call: CallHandle,
        body: Option<Vec<u8>>,
    ) -> Result<(), CommandRefused> {
        if !self.calls.contains_key(&call) {
            return Err(CommandRefused::UnknownCall);
        }
        let invited = self.invited(call).ok_or(CommandRefused::WrongState)?;
        if invited.waiting_accept || (body.is_none() && invited.description == Description::Missing)
        {
            return Err(CommandRefused::WrongState);
        }
        if invited.awaits_prack() {
            // RFC 3262 section 3.
            invited.waiting_accept = true;
            return Ok(());
        }
        self.send_accept(now, call, body);
        Ok(())
    }

    pub(super) fn send_accept(&mut self, now: Instant, call: CallHandle, body: Option<Vec<u8>>) {
        let Some(entry) = self.calls.get_mut(&call) else {
            return;
        };
        let invited = match std::mem::replace(&mut entry.stage, Stage::Over) {
            Stage::Invited(invited) => invited,
            other => {
                entry.stage = other;
                return;
            }
        };
        let response =
            self.dialog_response(&invited.key, &invited.invite, invited.flow, StatusCode::OK);
        let (Some(mut response), Ok(cseq)) = (response, invited.invite.headers.cseq()) else {
            return self.forget_if_over(call);
        };
        let sdp = match invited.description {
            Description::Missing => body,
            Description::Repeatable(sdp) | Description::WaitingOffer(sdp) => Some(sdp),
            Description::Reliable => None,
        };
        if let Some(sdp) = sdp {
            put_sdp(&mut response.headers, &mut response.body, &sdp);
        }
        if let Some((reply, payload)) = self.respond(now, &invited.key, &response) {
            let sent = Unacknowledged::new(now, cseq.number, reply, payload);
            let detour = detour(&invited.invite, &invited.dialog, invited.flow);
            let tag = invited.dialog.remote_tag().to_owned();
            let session = Session::answered(invited.dialog, detour, sent);
            if let Some(entry) = self.calls.get_mut(&call) {
                entry.sessions.insert(tag, session);
            }
        }
        self.forget_if_over(call);
    }

    /// Refuses the call, 300 to 699. Nothing follows.
    ///
    /// # Errors
    /// The call is unknown, answered or cancelled, or the status is no refusal.
    pub fn reject(
        &mut self,
        now: Instant,
        call: CallHandle,
        status: u16,
        rejection: Rejection,
    ) -> Result<(), CommandRefused> {
        if !(300..=699).contains(&status) {
            return Err(CommandRefused::ForbiddenStatus(status));
        }
        if !self.calls.contains_key(&call) {
            return Err(CommandRefused::UnknownCall);
        }
        let invited = self.invited(call).ok_or(CommandRefused::WrongState)?;
        let (key, peer) = (invited.key.clone(), invited.flow);
        let request = invited.invite.clone();
        self.calls.remove(&call);
        let agent = self.contact_uri(peer, Named::Any).host.to_string();
        let Some(mut response) = self.response(&key, &request, status) else {
            return Ok(());
        };
        if let Some(reason) = rejection.reason {
            response.reason = reason;
        }
        if let Some(text) = rejection.warning {
            let warning = Warning {
                code: 399,
                agent,
                text,
            };
            response
                .headers
                .push(HeaderName::Warning, warning.to_string());
        }
        if !rejection.require.is_empty() {
            response
                .headers
                .push(HeaderName::Require, rejection.require.join(", "));
        }
        Self::describe_us(&self.config, &mut response.headers);
        self.respond(now, &key, &response);
        Ok(())
    }

    /// A CANCEL; `invite` is the key of the INVITE that it means.
    pub(crate) fn handle_cancel(
        &mut self,
        now: Instant,
        key: &ServerKey,
        invite: &ServerKey,
        request: &Request,
    ) {
        let Some((proceeds, call)) = self.server_invite(invite) else {
            return self.answer(now, key, request, StatusCode::CALL_DOES_NOT_EXIST);
        };
        // RFC 3261 section 9.2: the To tag of both responses should be the same.
        self.adopt_tag(key, invite);
        self.answer(now, key, request, StatusCode::OK);
        match call {
            Some(call) if proceeds => self.abandon_invited(now, call),
            // A re-INVITE is cancelled: refused, and the session goes on.
            None if proceeds => self.cancel_reinvite(now, invite),
            // The final response was quicker.
            _ => {}
        }
    }

    /// The caller has left before our final response: 487.
    pub(super) fn abandon_invited(&mut self, now: Instant, call: CallHandle) {
        let Some(invited) = self.invited(call) else {
            return;
        };
        let (key, request) = (invited.key.clone(), invited.invite.clone());
        self.calls.remove(&call);
        self.answer(now, &key, &request, StatusCode::REQUEST_TERMINATED);
        self.events.push_back(SipEvent::Cancelled { call });
    }
}
