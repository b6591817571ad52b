//! Calls: everything that one INVITE leads to, as caller or as callee.

mod answer;
mod info;
mod invited;
mod inviting;
mod provisional;
mod refused;
mod reinvite;
mod session;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

pub(crate) use info::Infos;
pub(crate) use invited::Invited;
pub(crate) use inviting::{Answered, Inviting};
pub(crate) use session::Session;

use crate::auth::Realms;
use crate::dialog::Dialog;
use crate::endpoint::{
    CallHandle, ClientKey, DialogId, Endpoint, EndpointConfig, Purpose, ServerKey,
};
use crate::message::{HeaderName, Headers, NameAddr, Request, Response};
use crate::syntax::trim;
use crate::transport::{Flow, Hop, Named, Protocol};
use crate::uri::Scheme;

/// How many calls there may be; past this an INVITE gets 503.
pub(crate) const MAX_CALLS: usize = 64;
/// What we understand.
pub(crate) const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, PRACK, INFO";
/// A provisional response is repeated so often, lest a proxy give up (RFC 3261 section 13.3.1.1).
pub(crate) const REMINDER: Duration = Duration::from_secs(60);

/// A call.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) call_id: String,
    pub(crate) local_tag: String,
    pub(crate) stage: Stage,
    /// The confirmed dialogs by remote tag: more than one if an INVITE forked and several
    /// answered.
    pub(crate) sessions: BTreeMap<String, Session>,
    pub(crate) realms: Realms,
    /// What its dialogs trickle, by remote tag.
    pub(crate) infos: Infos,
    /// The way that its messages took last.
    pub(crate) flow: Option<Flow>,
}

/// How far the INVITE has come.
#[derive(Debug)]
pub(crate) enum Stage {
    /// We have sent it and wait for a final response.
    Inviting(Inviting),
    /// It was refused, with this number; another may follow it at once.
    Refused { cseq: u32 },
    /// It was answered; other forks may answer too.
    Answered(Answered),
    /// It has come to us and waits for our final response.
    Invited(Box<Invited>),
    /// It is done; dialogs may remain.
    Over,
}

impl Call {
    /// Whether anybody still talks in it, or is about to.
    pub(crate) fn is_active(&self) -> bool {
        let stage = match &self.stage {
            Stage::Inviting(inviting) => inviting.is_heeded(),
            Stage::Invited(_) => true,
            Stage::Refused { .. } | Stage::Answered(_) | Stage::Over => false,
        };
        stage || !self.sessions.is_empty()
    }

    /// Whether a transaction is the INVITE or the CANCEL of a call that nobody waits for.
    pub(crate) fn has_abandoned(&self, transaction: &ClientKey) -> bool {
        match &self.stage {
            Stage::Inviting(inviting) => {
                !inviting.is_heeded() && inviting.key.is_same_branch(transaction)
            }
            _ => false,
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let stage = match &self.stage {
            Stage::Inviting(inviting) => inviting.poll_timeout(),
            Stage::Invited(invited) => Some(invited.poll_timeout()),
            Stage::Refused { .. } | Stage::Answered(_) | Stage::Over => None,
        };
        let sessions = self.sessions.values().filter_map(Session::poll_timeout);
        sessions.chain(stage).min()
    }
}

impl Endpoint {
    pub(crate) fn call_timeouts(&mut self, now: Instant) {
        let due: Vec<CallHandle> = self
            .calls
            .iter()
            .filter(|(_, call)| call.poll_timeout().is_some_and(|at| at <= now))
            .map(|(handle, _)| *handle)
            .collect();
        for handle in due {
            match self.calls.get(&handle).map(|call| &call.stage) {
                Some(Stage::Inviting(_)) => self.inviting_timeout(now, handle),
                Some(Stage::Invited(_)) => self.invited_timeout(now, handle),
                _ => {}
            }
            self.session_timeouts(now, handle);
            self.forget_if_over(handle);
        }
    }

    pub(crate) fn call_deadline(&self) -> Option<Instant> {
        self.calls.values().filter_map(Call::poll_timeout).min()
    }

    /// Forgets a call of which nothing is left.
    pub(crate) fn forget_if_over(&mut self, handle: CallHandle) {
        let over = self
            .calls
            .get(&handle)
            .is_some_and(|call| matches!(call.stage, Stage::Over) && call.sessions.is_empty());
        if over {
            self.calls.remove(&handle);
        }
    }

    pub(crate) fn inviting(&mut self, handle: CallHandle) -> Option<&mut Inviting> {
        match &mut self.calls.get_mut(&handle)?.stage {
            Stage::Inviting(inviting) => Some(inviting),
            _ => None,
        }
    }

    pub(crate) fn invited(&mut self, handle: CallHandle) -> Option<&mut Invited> {
        match &mut self.calls.get_mut(&handle)?.stage {
            Stage::Invited(invited) => Some(invited),
            _ => None,
        }
    }

    pub(crate) fn session(&mut self, id: &DialogId) -> Option<&mut Session> {
        self.calls
            .get_mut(&id.call)?
            .sessions
            .get_mut(&id.remote_tag)
    }

    /// The dialog that requests of ours go out in: confirmed, or early (PRACK, INFO).
    pub(crate) fn dialog_mut(&mut self, id: &DialogId) -> Option<&mut Dialog> {
        let call = self.calls.get_mut(&id.call)?;
        if let Some(session) = call.sessions.get_mut(&id.remote_tag) {
            return Some(&mut session.dialog);
        }
        match &mut call.stage {
            Stage::Inviting(inviting) => inviting.early_dialog(&id.remote_tag),
            Stage::Invited(invited) => {
                Some(&mut invited.dialog).filter(|dialog| dialog.remote_tag() == id.remote_tag)
            }
            Stage::Refused { .. } | Stage::Answered(_) | Stage::Over => None,
        }
    }

    /// The call of a request inside of a dialog, by Call-ID and tags (RFC 3261 section 12.2.2).
    pub(crate) fn find_dialog(&self, headers: &Headers) -> Option<DialogId> {
        let call_id = headers.call_id().ok()?;
        let to = headers.to().ok()?;
        let from = headers.from().ok()?;
        let (local, remote) = (to.tag()?, from.tag().unwrap_or_default());
        self.calls.iter().find_map(|(handle, call)| {
            let ours = call.call_id == call_id && call.local_tag == local;
            let theirs = call.sessions.contains_key(remote)
                || matches!(&call.stage, Stage::Invited(invited)
                    if invited.dialog.remote_tag() == remote);
            (ours && theirs).then(|| DialogId {
                call: *handle,
                remote_tag: remote.to_owned(),
            })
        })
    }

    /// Remembers the way of a request of ours, for keepalives.
    pub(crate) fn note_flow(&mut self, purpose: &Purpose, flow: Flow) {
        let handle = match purpose {
            Purpose::Nobody | Purpose::Ahead { .. } | Purpose::Superseded(_) => return,
            Purpose::Register => {
                if let Some(registration) = &mut self.registration {
                    registration.flow = Some(flow);
                }
                return;
            }
            Purpose::Invite(call) => *call,
            Purpose::Prack(id) | Purpose::Bye(id) | Purpose::Reinvite(id) | Purpose::Info(id) => {
                id.call
            }
        };
        if let Some(call) = self.calls.get_mut(&handle) {
            call.flow = Some(flow);
        }
    }

    /// A request was sent again under another key.
    pub(crate) fn rename(&mut self, purpose: &Purpose, key: &ClientKey) {
        match purpose {
            Purpose::Invite(call) => {
                if let Some(inviting) = self.inviting(*call) {
                    inviting.key = key.clone();
                }
            }
            Purpose::Reinvite(id) => {
                if let Some(session) = self.session(id) {
                    session.change.rename(key);
                }
            }
            _ => {}
        }
    }

    /// Whether a request is not worth repeating any more.
    pub(crate) fn is_unwanted(&mut self, purpose: &Purpose) -> bool {
        match purpose {
            Purpose::Invite(call) => self
                .inviting(*call)
                .is_none_or(|inviting| inviting.is_cancelled()),
            _ => false,
        }
    }

    /// What the Contact that a peer gets in an answer names: TCP when it spoke TCP to us because
    /// our URI or its own says so, not for the size of a message; TLS when it spoke TLS; `sips` as
    /// RFC 3261 section 12.1.1 has it.
    pub(crate) fn answers_by(request: &Request, flow: Flow) -> Named {
        let headers = &request.headers;
        let first = |list: Result<Vec<NameAddr>, _>| list.ok()?.into_iter().next();
        let contact = first(headers.contacts()).map(|contact| contact.uri);
        match flow.protocol() {
            Protocol::Udp => Named::Any,
            Protocol::Tcp => {
                let mut uris = std::iter::once(&request.uri).chain(&contact);
                if uris.any(|uri| Named::by(uri) == Named::Tcp) {
                    Named::Tcp
                } else {
                    Named::Any
                }
            }
            Protocol::Tls => {
                let route = first(headers.record_routes()).map(|route| route.uri);
                let far = route.or(contact);
                let mut uris = std::iter::once(&request.uri).chain(&far);
                if uris.any(|uri| uri.scheme == Scheme::Sips) {
                    Named::Sips
                } else {
                    Named::Tls
                }
            }
        }
    }

    /// The next hop inside of a dialog.
    pub(crate) fn dialog_hop(dialog: &Dialog, detour: Option<Flow>) -> Result<Hop, String> {
        let target = &dialog.remote_target;
        let mut hop = match (dialog.route_set.first(), detour) {
            (Some(route), _) => Hop::of_uri(&route.uri)?,
            (None, Some(flow)) => {
                let contact = flow.connection().and_then(|_| Hop::of_uri(target).ok());
                return Ok(Hop::of_flow(flow, contact));
            }
            (None, None) => Hop::of_uri(target)?,
        };
        if target.scheme == Scheme::Sips {
            hop = hop.secured(target)?;
        }
        hop.verified.clone_from(&dialog.verified);
        Ok(hop)
    }

    /// Adds what each of our responses to an INVITE says.
    pub(crate) fn describe_us(config: &EndpointConfig, headers: &mut Headers) {
        headers.set(HeaderName::Allow, ALLOW);
        headers.set(HeaderName::Supported, supported(config));
        if config.ice {
            headers.set(HeaderName::RecvInfo, info::PACKAGE);
        }
    }

    /// The reply key of an INVITE that still waits.
    pub(crate) fn invited_key(&mut self, handle: CallHandle) -> Option<ServerKey> {
        self.invited(handle).map(|invited| invited.key.clone())
    }
}

/// Our option tags.
pub(crate) fn supported(config: &EndpointConfig) -> &'static str {
    if config.ice {
        "100rel, ice, trickle-ice"
    } else {
        "100rel"
    }
}

/// The SDP of a message, if it has one.
pub(crate) fn sdp_of(headers: &Headers, body: &[u8]) -> Option<Vec<u8>> {
    let is_sdp = headers.content_type().is_none_or(|media| media.is_sdp());
    (!body.is_empty() && is_sdp).then(|| body.to_vec())
}

/// Puts SDP into a message.
pub(crate) fn put_sdp(headers: &mut Headers, body: &mut Vec<u8>, sdp: &[u8]) {
    headers.set(HeaderName::ContentType, "application/sdp");
    sdp.clone_into(body);
}

/// The text of a response's Warning, or of a request's Reason (RFC 3326).
pub(crate) fn warning_of(response: &Response) -> Option<String> {
    response
        .headers
        .warnings()
        .into_iter()
        .next()
        .map(|warning| warning.text)
}

/// What a Reason header field says, for people: its text, else all of it.
pub(crate) fn reason_of(headers: &Headers) -> Option<String> {
    let value = headers.get_bytes(HeaderName::Reason)?;
    let semicolon = value.iter().position(|b| *b == b';')?;
    let params = crate::message::Params::parse(value.get(semicolon..)?).ok();
    let text = params.and_then(|params| params.text("text"));
    text.or_else(|| Some(String::from_utf8_lossy(trim(value)).into_owned()))
}
