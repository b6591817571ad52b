//! A refusal of our INVITE, and the INVITE that may follow it in the same call: RFC 3261 section
//! 8.1.3.5.

use std::time::Instant;

use super::{Infos, Inviting, Stage, warning_of};
use crate::auth::Attempts;
use crate::endpoint::{CallHandle, CommandRefused, Endpoint, OutgoingInvite, Purpose, SipEvent};
use crate::message::{CSeq, HeaderName, Method, Request, Response};

impl Endpoint {
    /// Tells of a refusal. One of the description alone can be followed by another INVITE.
    pub(super) fn refused(&mut self, call: CallHandle, request: &Request, response: &Response) {
        let status = response.status.code();
        let cancelled = self
            .inviting(call)
            .is_none_or(|inviting| inviting.is_cancelled());
        match (request.headers.cseq(), self.calls.get_mut(&call)) {
            (Ok(cseq), Some(entry)) if matches!(status, 488 | 606) && !cancelled => {
                entry.stage = Stage::Refused { cseq: cseq.number };
            }
            _ => {
                self.calls.remove(&call);
            }
        }
        self.events.push_back(SipEvent::Refused {
            call,
            status,
            reason: response.reason.clone(),
            warning: warning_of(response),
            challenged: matches!(status, 401 | 407),
        });
    }

    /// Places a call anew whose INVITE was refused with 488 or 606, with another offer: same
    /// Call-ID, To and From, the next number, and the credentials that were asked for by then (RFC
    /// 3261 section 8.1.3.5). Possible until the event after its `Refused` is polled.
    ///
    /// The new handle keeps apart what may still come of the old INVITE.
    ///
    /// # Errors
    /// The call is over, was not refused, or for another reason.
    pub fn invite_again(
        &mut self,
        now: Instant,
        refused: CallHandle,
        invite: &OutgoingInvite,
    ) -> Result<CallHandle, CommandRefused> {
        let stage = self.calls.get(&refused).map(|call| &call.stage);
        let old = match stage.ok_or(CommandRefused::UnknownCall)? {
            Stage::Refused { cseq } => *cseq,
            _ => return Err(CommandRefused::WrongState),
        };
        let mut call = self
            .calls
            .remove(&refused)
            .ok_or(CommandRefused::UnknownCall)?;
        let (mut request, hop) = self.new_invite(invite, &call.call_id, &call.local_tag);
        let cseq = CSeq {
            number: old.wrapping_add(1) & 0x7fff_ffff,
            method: Method::Invite,
        };
        request.headers.set(HeaderName::CSeq, cseq.to_string());
        let handle = self.new_call();
        let key = self.client_key(&Method::Invite);
        call.stage = Stage::Inviting(Inviting::new(key.clone()));
        call.infos = Infos::default();
        self.calls.insert(handle, call);
        let purpose = Purpose::Invite(handle);
        self.authorize(&purpose, &mut request);
        self.start_client(now, key, purpose, hop, request, Attempts::default());
        Ok(handle)
    }

    /// Nobody has placed the call anew whose refusal was told last: it is over.
    pub(crate) fn forget_refused(&mut self) {
        if let Some(call) = self.last_refused.take()
            && let Some(entry) = self.calls.get(&call)
            && matches!(entry.stage, Stage::Refused { .. })
        {
            self.calls.remove(&call);
        }
    }
}
