//! The callee's side until the INVITE is answered: what it knows, and how it begins.

use std::collections::BTreeMap;
use std::time::Instant;

use super::{Call, Infos, MAX_CALLS, REMINDER, Stage, sdp_of};
use crate::auth::Realms;
use crate::dialog::Dialog;
use crate::endpoint::{Endpoint, ServerKey, SipEvent};
use crate::message::{HeaderName, Request, Response, StatusCode};
use crate::transaction::Backoff;
use crate::transport::{Flow, Named};

/// An INVITE that waits for our final response.
#[derive(Debug)]
pub(crate) struct Invited {
    pub(crate) key: ServerKey,
    pub(super) invite: Request,
    pub(super) flow: Flow,
    pub(crate) dialog: Dialog,
    pub(super) reliability: Reliability,
    pub(super) description: Description,
    pub(super) delivery: Delivery,
    /// The RSeq of the next reliable response (RFC 3262 section 3).
    pub(super) next_rseq: u32,
    /// The latest provisional response above 100, without RSeq: the reminder repeats it.
    pub(super) latest: Option<Response>,
    /// When to repeat it (RFC 3261 section 13.3.1.1).
    pub(super) reminder: Instant,
    /// A 180 that waits for the PRACK of the 183; only `ring` makes one.
    pub(super) waiting_ring: Option<Response>,
    /// The user has picked up, but the PRACK of the 183 is missing.
    pub(super) waiting_accept: bool,
}

/// What the caller understands of RFC 3262.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reliability {
    Unknown,
    Supported,
    Required,
}

impl Reliability {
    fn of(request: &Request) -> Self {
        if names(&request.headers.require(), "100rel") {
            Self::Required
        } else if names(&request.headers.supported(), "100rel") {
            Self::Supported
        } else {
            Self::Unknown
        }
    }
}

/// Whether a list of option tags has this one.
fn names(tags: &[String], wanted: &str) -> bool {
    tags.iter().any(|tag| tag.eq_ignore_ascii_case(wanted))
}

/// Where our session description stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Description {
    Missing,
    /// In an unreliable 183: the 2xx repeats it byte for byte (RFC 3261 section 13.2.1).
    Repeatable(Vec<u8>),
    /// In a reliable 183: the 2xx carries none.
    Reliable,
    /// It is our offer, and the 2xx carries it.
    WaitingOffer(Vec<u8>),
}

/// How the latest 183 is made to arrive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Delivery {
    Settled,
    /// Until the PRACK comes (RFC 3262 section 3).
    Reliable {
        rseq: u32,
        payload: Vec<u8>,
        backoff: Backoff,
        give_up: Instant,
        has_sdp: bool,
    },
    /// Until a Binding request comes (RFC 8839 section 7.1.1), or so many times more.
    Repeated {
        payload: Vec<u8>,
        backoff: Backoff,
        until: Instant,
        left: u32,
    },
}

impl Invited {
    pub(super) fn poll_timeout(&self) -> Instant {
        match &self.delivery {
            Delivery::Settled => self.reminder,
            Delivery::Reliable {
                backoff, give_up, ..
            } => backoff.at().min(*give_up).min(self.reminder),
            Delivery::Repeated { backoff, until, .. } => {
                backoff.at().min(*until).min(self.reminder)
            }
        }
    }

    /// The PRACK of a reliable response is missing: RFC 3262 section 3 forbids a 2xx then if the
    /// response has SDP; after one without, a late PRACK would find no early dialog any more.
    pub(super) fn awaits_prack(&self) -> bool {
        matches!(self.delivery, Delivery::Reliable { .. })
    }
}

impl Endpoint {
    /// An INVITE outside of a dialog, valid so far.
    pub(crate) fn handle_invite(
        &mut self,
        now: Instant,
        key: ServerKey,
        request: Request,
        flow: Flow,
    ) {
        if self.calls.len() >= MAX_CALLS {
            return self.answer_overload(now, &key, &request);
        }
        let Some(local_tag) = self.server_tag(&key) else {
            return;
        };
        let Some(mut dialog) = Dialog::of_request(&request, &local_tag) else {
            // RFC 3261 section 8.1.1.8: an INVITE has a Contact.
            return self.answer_code(now, &key, &request, 400);
        };
        dialog.verified = self.verified(Some(flow));
        // RFC 3261 section 17.2.1 allows 200 ms; at once, it also stops the caller's timer A.
        self.answer(now, &key, &request, StatusCode::TRYING);
        let reliability = Reliability::of(&request);
        let handle = self.new_call();
        let event = SipEvent::Incoming {
            call: handle,
            from: dialog.remote.clone(),
            to: untagged(&dialog.local),
            request_uri: request.uri.clone(),
            body: sdp_of(&request.headers, &request.body),
            supports_100rel: reliability != Reliability::Unknown,
            supports_ice: names(&request.headers.supported(), "ice")
                || names(&request.headers.require(), "ice"),
            secure: flow.is_secure(),
            call_id: dialog.call_id.clone(),
            remote_tag: dialog.remote_tag().to_owned(),
        };
        let next_rseq = u32::try_from(self.random(1, 1 << 20)).unwrap_or(1);
        let call_id = dialog.call_id.clone();
        let (tag, headers) = (dialog.remote_tag().to_owned(), request.headers.clone());
        let invited = Invited {
            key: key.clone(),
            invite: request,
            flow,
            dialog,
            reliability,
            description: Description::Missing,
            delivery: Delivery::Settled,
            next_rseq,
            latest: None,
            reminder: now + REMINDER,
            waiting_ring: None,
            waiting_accept: false,
        };
        let call = Call {
            call_id,
            local_tag,
            stage: Stage::Invited(Box::new(invited)),
            sessions: BTreeMap::new(),
            realms: Realms::default(),
            infos: Infos::default(),
            flow: Some(flow),
        };
        self.calls.insert(handle, call);
        self.note_recv_info(handle, &tag, &headers);
        self.set_server_call(&key, handle);
        self.arm_keepalive(now);
        self.events.push_back(event);
    }

    /// A response that belongs to a dialog: Record-Route, Contact, what we understand
    /// (RFC 3261 section 12.1.1).
    pub(super) fn dialog_response(
        &mut self,
        key: &ServerKey,
        request: &Request,
        flow: Flow,
        status: StatusCode,
    ) -> Option<Response> {
        let mut response = self.response(key, request, status.code())?;
        response
            .headers
            .copy(HeaderName::RecordRoute, &request.headers);
        let contact = self.contact(flow, Self::answers_by(request, flow));
        response
            .headers
            .push(HeaderName::Contact, contact.to_string());
        Self::describe_us(&self.config, &mut response.headers);
        Some(response)
    }
}

/// The way to a caller that is behind a NAT: without a proxy in between, its Contact is what its
/// Via says it is, and that is not where the request came from. A caller that wants a connection
/// is reached by its own while that stands: few callers accept any, by TLS least of all.
pub(super) fn detour(request: &Request, dialog: &Dialog, flow: Flow) -> Option<Flow> {
    let vias = request.headers.vias().ok()?;
    let [via] = vias.as_slice() else { return None };
    let target = &dialog.remote_target;
    let is_own = dialog.route_set.is_empty()
        && target.host.is_same(&via.host)
        && target.port.unwrap_or(5060) == via.port.unwrap_or(5060);
    let source = flow.remote();
    let wanted = Named::by(target).protocol();
    if wanted.is_stream() {
        let seen = target.host.ip() == Some(source.ip()) && target.port == Some(source.port());
        let is_seen = seen && dialog.route_set.is_empty();
        return Some(flow).filter(|flow| (is_own || is_seen) && flow.protocol() == wanted);
    }
    let is_translated = via.host.ip().is_some_and(|ip| {
        ip != source.ip() || (!flow.is_reliable() && via.port.unwrap_or(5060) != source.port())
    });
    (is_own && is_translated).then_some(flow)
}

fn untagged(address: &crate::message::NameAddr) -> crate::message::NameAddr {
    let mut address = address.clone();
    address.params.remove("tag");
    address
}
