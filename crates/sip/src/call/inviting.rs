//! The caller's side until the INVITE is answered: RFC 3261 sections 9.1 and 13.2.

use std::collections::BTreeMap;
use std::time::Instant;

use super::{Call, Infos, Session, Stage, put_sdp, sdp_of, supported};
use crate::auth::{Attempts, Realms};
use crate::dialog::Dialog;
use crate::endpoint::{
    CallHandle, ClientKey, CommandRefused, DialogId, Endpoint, MAX_DATAGRAM, MAX_FORKS, Outcome,
    OutgoingInvite, Purpose, SipEvent, TOKEN,
};
use crate::message::{CSeq, HeaderName, Headers, Method, RAck, Request, Response};
use crate::transaction::TIMEOUT;
use crate::transport::Hop;

/// An INVITE of ours without a final response.
#[derive(Debug)]
pub(crate) struct Inviting {
    pub(crate) key: ClientKey,
    early: BTreeMap<String, Early>,
    cancel: Cancel,
    /// Whether anybody waits for its end.
    is_heeded: bool,
}

/// An INVITE of ours that was answered, while other forks may still answer.
#[derive(Debug)]
pub(crate) struct Answered {
    key: ClientKey,
    early: BTreeMap<String, Early>,
}

/// One fork before its answer.
#[derive(Debug)]
struct Early {
    dialog: Dialog,
    /// The RSeq that was acknowledged last (RFC 3262 section 4).
    rseq: Option<u32>,
    /// Status and SDP of the last provisional response, to know repetitions.
    last: Option<(u16, Option<Vec<u8>>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cancel {
    No,
    /// No provisional response so far, so the CANCEL has to wait (RFC 3261 section 9.1).
    Wanted,
    Sent {
        give_up: Instant,
    },
}

impl Inviting {
    pub(super) fn new(key: ClientKey) -> Self {
        Self {
            key,
            early: BTreeMap::new(),
            cancel: Cancel::No,
            is_heeded: true,
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self.cancel {
            Cancel::Sent { give_up } => Some(give_up),
            Cancel::No | Cancel::Wanted => None,
        }
    }

    pub(super) fn early_dialog(&mut self, tag: &str) -> Option<&mut Dialog> {
        self.early.get_mut(tag).map(|early| &mut early.dialog)
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancel != Cancel::No
    }

    pub(super) fn is_heeded(&self) -> bool {
        self.is_heeded
    }
}

/// What a request gets as it leaves, besides the user of the Contact: Via, Max-Forwards and Contact in
/// their compact forms, with the longest IPv4 addresses and ports. Credentials, should they be asked
/// for, are not counted: who asks for them has shown that it hears us.
const ADDED_LATER: usize = "Via: SIP/2.0/UDP 255.255.255.255:65535;branch=z9hG4bK;rport\r\n".len()
    + TOKEN
    + "Max-Forwards: 70\r\n".len()
    + "m: <sip:@255.255.255.255:65535>;+sip.ice\r\n".len();

impl Endpoint {
    /// Places a call. Everything that follows comes as events.
    pub fn invite(&mut self, now: Instant, invite: OutgoingInvite) -> CallHandle {
        let handle = self.new_call();
        let call_id = self.token();
        let local_tag = self.token();
        let (request, hop) = self.new_invite(&invite, &call_id, &local_tag);
        let key = self.client_key(&Method::Invite);
        let call = Call {
            call_id,
            local_tag,
            stage: Stage::Inviting(Inviting::new(key.clone())),
            sessions: BTreeMap::new(),
            realms: Realms::default(),
            infos: Infos::default(),
            flow: None,
        };
        self.calls.insert(handle, call);
        self.arm_keepalive(now);
        let purpose = Purpose::Invite(handle);
        self.start_client(now, key, purpose, hop, request, Attempts::default());
        handle
    }

    pub(super) fn new_invite(
        &self,
        invite: &OutgoingInvite,
        call_id: &str,
        local_tag: &str,
    ) -> (Request, Result<Hop, String>) {
        let mut request = Request::new(Method::Invite, invite.target.clone());
        request.uri.headers.clear();
        let hop = self.first_hop(&mut request);
        let from = self.config.aor.clone().with_tag(local_tag);
        let headers = &mut request.headers;
        headers.push(HeaderName::From, from.to_string());
        let mut to = crate::message::NameAddr::new(invite.target.clone());
        to.uri.headers.clear();
        headers.push(HeaderName::To, to.to_string());
        headers.push(HeaderName::CallId, call_id);
        let cseq = CSeq {
            number: 1,
            method: Method::Invite,
        };
        headers.push(HeaderName::CSeq, cseq.to_string());
        headers.push(HeaderName::Allow, super::ALLOW);
        let mut tags = vec!["100rel".to_owned()];
        let others = invite.supported.iter().filter(|tag| *tag != "100rel");
        tags.extend(others.cloned());
        headers.push(HeaderName::Supported, tags.join(", "));
        if self.config.ice {
            headers.push(HeaderName::RecvInfo, super::info::PACKAGE);
        }
        for (name, value) in &invite.extra {
            headers.push(name.as_str(), value);
        }
        put_sdp(&mut request.headers, &mut request.body, &invite.body);
        (request, hop)
    }

    /// Whether this INVITE can go in a datagram; otherwise it would go by TCP if it can
    /// (RFC 3261 section 18.1.1). Always, if it is known that it goes by TCP anyway. What is only
    /// known once it is sent is estimated: too long rather than too short.
    pub fn fits_datagram(&self, invite: &OutgoingInvite) -> bool {
        let token = "0".repeat(TOKEN);
        let (request, hop) = self.new_invite(invite, &token, &token);
        if hop.is_ok_and(|hop| hop.is_stream()) {
            return true;
        }
        self.is_short(&request)
    }

    /// Whether a request fits a datagram with what is added as it leaves.
    pub(super) fn is_short(&self, request: &Request) -> bool {
        let user = self.config.aor.uri.user.as_ref().map_or(0, String::len);
        request.to_compact_bytes().len() + ADDED_LATER + user <= MAX_DATAGRAM
    }

    /// Gives up a call that was not answered yet: CANCEL, once a provisional response is there.
    ///
    /// `Refused` with 487 follows as a rule, or `Accepted` if the answer was quicker.
    ///
    /// # Errors
    /// The call is unknown, or was answered: then hang up with [`Self::bye`].
    pub fn cancel(&mut self, now: Instant, call: CallHandle) -> Result<(), CommandRefused> {
        if !self.calls.contains_key(&call) {
            return Err(CommandRefused::UnknownCall);
        }
        let inviting = self.inviting(call).ok_or(CommandRefused::WrongState)?;
        if inviting.is_cancelled() {
            return Ok(());
        }
        let key = inviting.key.clone();
        if self.withdraw(&key) {
            // Nobody has seen it, so there is nobody to tell.
            self.calls.remove(&call);
            self.events.push_back(SipEvent::Refused {
                call,
                status: 487,
                reason: "Request Terminated".to_owned(),
                warning: None,
                challenged: false,
            });
            return Ok(());
        }
        if self.is_unanswered(&key) {
            if let Some(inviting) = self.inviting(call) {
                inviting.cancel = Cancel::Wanted;
            }
        } else {
            self.send_cancel(now, call);
        }
        Ok(())
    }

    /// Nobody waits any longer for the effect of a [`Self::cancel`]. As long as the endpoint runs it
    /// still sends the CANCEL when it may, and ends what is answered all the same, but
    /// [`Self::is_idle`] no longer waits for that: a next hop that is silent would keep it busy for
    /// 64*T1.
    pub fn abandon(&mut self, call: CallHandle) {
        if let Some(inviting) = self.inviting(call) {
            inviting.is_heeded = !inviting.is_cancelled();
        }
    }

    fn send_cancel(&mut self, now: Instant, call: CallHandle) {
        if let Some(inviting) = self.inviting(call) {
            // RFC 3261 section 9.1: after 64*T1 without a final response it counts as cancelled.
            inviting.cancel = Cancel::Sent {
                give_up: now + TIMEOUT,
            };
            let key = inviting.key.clone();
            self.start_cancel(now, &key);
        }
    }

    pub(super) fn inviting_timeout(&mut self, now: Instant, call: CallHandle) {
        let Some(inviting) = self.inviting(call) else {
            return;
        };
        if inviting.poll_timeout().is_some_and(|at| at <= now) {
            let key = inviting.key.clone();
            self.clients.remove(&key);
            self.calls.remove(&call);
            self.events.push_back(SipEvent::TimedOut { call });
        }
    }

    /// What became of our INVITE.
    pub(crate) fn invite_outcome(
        &mut self,
        now: Instant,
        call: CallHandle,
        key: &ClientKey,
        request: &Request,
        outcome: Outcome,
    ) {
        let response = match outcome {
            Outcome::Response(response) => response,
            Outcome::TimedOut => {
                self.calls.remove(&call);
                return self.events.push_back(SipEvent::TimedOut { call });
            }
            Outcome::Failed(what) => {
                self.calls.remove(&call);
                let event = SipEvent::TransportFailed { call, what };
                return self.events.push_back(event);
            }
        };
        match response.status.code() {
            100..=199 => self.provisional(now, call, request, &response),
            200..=299 => self.accepted(now, call, key, request, &response),
            // Past a 2xx the transaction absorbs these; this one is final for all forks.
            _ => self.refused(call, request, &response),
        }
    }

    fn provisional(
        &mut self,
        now: Instant,
        call: CallHandle,
        request: &Request,
        response: &Response,
    ) {
        if self
            .inviting(call)
            .is_some_and(|inviting| inviting.cancel == Cancel::Wanted)
        {
            self.send_cancel(now, call);
        }
        let status = response.status.code();
        if status == 100 {
            return;
        }
        let body = sdp_of(&response.headers, &response.body);
        let tag = tag_of(response);
        let verified = self.verified(self.calls.get(&call).and_then(|call| call.flow));
        let Some(inviting) = self.inviting(call) else {
            return;
        };
        if !inviting.early.contains_key(&tag) {
            let Some(mut dialog) = Dialog::of_response(request, response) else {
                return;
            };
            dialog.verified = verified;
            if inviting.early.len() >= MAX_FORKS {
                return;
            }
            let early = Early {
                dialog,
                rseq: None,
                last: None,
            };
            inviting.early.insert(tag.clone(), early);
        }
        let Some(early) = inviting.early.get_mut(&tag) else {
            return;
        };
        early.dialog.refresh_target(&response.headers);
        self.note_recv_info(call, &tag, &response.headers);
        let Some(early) = self
            .inviting(call)
            .and_then(|inviting| inviting.early.get_mut(&tag))
        else {
            return;
        };
        let required = response.headers.require();
        let reliable = required.iter().any(|t| t.eq_ignore_ascii_case("100rel"));
        if reliable && !tag.is_empty() {
            let Some(rseq) = response.headers.rseq() else {
                return;
            };
            // RFC 3262 section 4: a repetition, or one that came before its predecessor.
            if early.rseq.is_some_and(|last| rseq != last.wrapping_add(1)) {
                return;
            }
            early.rseq = Some(rseq);
            early.last = None;
            self.send_prack(now, call, &tag, rseq, request);
        }
        self.report_progress(call, tag, status, body);
    }

    fn report_progress(
        &mut self,
        call: CallHandle,
        remote_tag: String,
        status: u16,
        body: Option<Vec<u8>>,
    ) {
        let this = (status, body.clone());
        if let Some(early) = self
            .inviting(call)
            .and_then(|inviting| inviting.early.get_mut(&remote_tag))
        {
            if early.last.as_ref() == Some(&this) {
                return;
            }
            early.last = Some(this);
        }
        let dialog = DialogId { call, remote_tag };
        self.events.push_back(SipEvent::Progress {
            dialog,
            status,
            body,
        });
    }

    /// Acknowledges a reliable provisional response (RFC 3262 section 4).
    fn send_prack(
        &mut self,
        now: Instant,
        call: CallHandle,
        tag: &str,
        rseq: u32,
        invite: &Request,
    ) {
        let Ok(cseq) = invite.headers.cseq() else {
            return;
        };
        let id = DialogId {
            call,
            remote_tag: tag.to_owned(),
        };
        let Some(dialog) = self.dialog_mut(&id) else {
            return;
        };
        let mut prack = dialog.request(Method::Prack);
        let hop = Self::dialog_hop(dialog, None);
        let rack = RAck { rseq, cseq };
        prack.headers.push(HeaderName::RAck, rack.to_string());
        self.expect_answer(&id);
        let purpose = Purpose::Prack(id);
        self.authorize(&purpose, &mut prack);
        let key = self.client_key(&Method::Prack);
        self.start_client(now, key, purpose, hop, prack, Attempts::default());
    }

    /// A 2xx of a fork that has not answered before: ACK, and a confirmed dialog.
    fn accepted(
        &mut self,
        now: Instant,
        call: CallHandle,
        key: &ClientKey,
        request: &Request,
        response: &Response,
    ) {
        let Some(mut dialog) = Dialog::of_response(request, response) else {
            return;
        };
        let Ok(cseq) = request.headers.cseq() else {
            return;
        };
        dialog.verified = self.verified(self.calls.get(&call).and_then(|call| call.flow));
        let tag = dialog.remote_tag().to_owned();
        let Some(entry) = self.calls.get_mut(&call) else {
            return;
        };
        if let Stage::Inviting(inviting) = &mut entry.stage {
            let early = std::mem::take(&mut inviting.early);
            let key = inviting.key.clone();
            entry.stage = Stage::Answered(Answered { key, early });
        }
        if let Stage::Answered(answered) = &mut entry.stage
            && let Some(early) = answered.early.remove(&tag)
        {
            // Its PRACKs have used numbers.
            dialog.local_cseq = dialog.local_cseq.max(early.dialog.local_cseq);
        }
        let ack = dialog.request_with_cseq(Method::Ack, cseq.number);
        let hop = Self::dialog_hop(&dialog, None);
        entry
            .sessions
            .insert(tag.clone(), Session::confirmed(dialog, None, true));
        self.note_recv_info(call, &tag, &response.headers);
        self.acknowledge(now, key, &tag, ack, hop);
        self.events.push_back(SipEvent::Accepted {
            dialog: DialogId {
                call,
                remote_tag: tag,
            },
            body: sdp_of(&response.headers, &response.body),
        });
    }

    /// The INVITE's transaction has ended (timer M): no more forks will answer.
    pub(crate) fn invite_over(&mut self, call: CallHandle, key: &ClientKey) {
        if let Some(entry) = self.calls.get_mut(&call)
            && matches!(&entry.stage, Stage::Answered(answered) if answered.key == *key)
        {
            entry.stage = Stage::Over;
            self.forget_if_over(call);
        }
    }

    /// The early dialog of a request that a callee sends before its 2xx (RFC 6086).
    pub(crate) fn find_early_dialog(&self, headers: &Headers) -> Option<DialogId> {
        let call_id = headers.call_id().ok()?;
        let (to, from) = (headers.to().ok()?, headers.from().ok()?);
        let (local, remote) = (to.tag()?, from.tag()?);
        self.calls.iter().find_map(|(handle, call)| {
            let is_early = matches!(&call.stage, Stage::Inviting(inviting)
                if inviting.early.contains_key(remote));
            (is_early && call.call_id == call_id && call.local_tag == local).then(|| DialogId {
                call: *handle,
                remote_tag: remote.to_owned(),
            })
        })
    }

    /// The option tags that we understand, for OPTIONS and 420.
    pub(crate) fn option_tags(&self) -> &'static str {
        supported(&self.config)
    }
}

/// The To tag of a response; empty if it has none.
fn tag_of(response: &Response) -> String {
    let to = response.headers.to().ok();
    to.and_then(|to| to.tag().map(str::to_owned))
        .unwrap_or_default()
}
