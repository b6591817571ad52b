//! Requests that come in: RFC 3261 section 8.2.

use std::time::Instant;

use super::server::{Identity, ServerKey, ServerTransaction};
use super::{CallHandle, DialogId, Endpoint};
use crate::call::ALLOW;
use crate::message::{HeaderName, MediaType, Method, Request, Response, StatusCode};
use crate::transport::{Flow, ReplyPath};

impl Endpoint {
    /// A request has come on this flow.
    pub(super) fn handle_request(&mut self, now: Instant, mut request: Request, flow: Flow) {
        let Ok(mut via) = request.headers.top_via() else {
            return;
        };
        let key = ServerKey::of(&request, &via, None);
        let reply = ReplyPath::of_request(&mut via, flow);
        request.headers.set_top_via(&via);
        if self.is_repetition(now, &key, &request) {
            return;
        }
        if request.method == Method::Ack {
            return self.handle_dialog_ack(now, &request);
        }
        let Some(identity) = Identity::of(&request.headers) else {
            return;
        };
        if self.servers_are_full() {
            // Without a transaction, hence without memory.
            let mut busy = self.plain_response(&request, 503, Some("overload"));
            busy.headers.push(HeaderName::RetryAfter, "10");
            return self.transmit_reply(now, &reply, busy.to_bytes());
        }
        let in_dialog = request.headers.to().is_ok_and(|to| to.tag().is_some());
        // RFC 3261 section 8.2.2.2: the same request by two ways.
        let is_merged = !in_dialog
            && request.method != Method::Cancel
            && self
                .servers
                .values()
                .any(|other| other.identity == identity);
        let tag = self.token();
        let transaction = ServerTransaction::new(&request, identity, reply, tag);
        self.servers.insert(key.clone(), transaction);
        if is_merged {
            return self.answer_code(now, &key, &request, 482);
        }
        if request.method == Method::Cancel {
            let invite = ServerKey::of(&request, &via, Some(&Method::Invite));
            return self.handle_cancel(now, &key, &invite, &request);
        }
        if let Some(refusal) = self.inspect(&key, &request) {
            self.respond(now, &key, &refusal);
            return;
        }
        self.route_request(now, key, request, flow, in_dialog);
    }

    /// The inspections of RFC 3261 sections 8.2.1 to 8.2.3: a refusal if one fails.
    fn inspect(&mut self, key: &ServerKey, request: &Request) -> Option<Response> {
        let known = matches!(
            request.method,
            Method::Invite | Method::Bye | Method::Options | Method::Prack | Method::Info
        );
        if !known {
            let mut response = self.response(key, request, 405)?;
            response.headers.push(HeaderName::Allow, ALLOW);
            return Some(response);
        }
        if !request.uri.is_sip() {
            return self.response(key, request, 416);
        }
        let understood: Vec<&str> = self.option_tags().split(", ").collect();
        let strange: Vec<String> = request
            .headers
            .require()
            .into_iter()
            .filter(|tag| !understood.iter().any(|own| own.eq_ignore_ascii_case(tag)))
            .collect();
        if !strange.is_empty() {
            let mut response = self.response(key, request, 420)?;
            response
                .headers
                .push(HeaderName::Unsupported, strange.join(", "));
            return Some(response);
        }
        // RFC 3261 section 20.1: without Accept, or with SDP among it, we can answer.
        let takes_sdp = request.headers.accept().is_none_or(|accepted| {
            let sdp_in = |m: &MediaType| m.is_sdp() || m.is("application", "*") || m.is("*", "*");
            accepted.iter().any(sdp_in)
        });
        if request.method == Method::Invite && !takes_sdp {
            return self.response(key, request, 406);
        }
        self.inspect_body(key, request)
    }

    fn inspect_body(&mut self, key: &ServerKey, request: &Request) -> Option<Response> {
        if request.body.is_empty() || !matches!(request.method, Method::Invite | Method::Prack) {
            return None;
        }
        let encoded = request
            .headers
            .get(HeaderName::ContentEncoding)
            .is_some_and(|encoding| !encoding.eq_ignore_ascii_case("identity"));
        let is_sdp = request
            .headers
            .content_type()
            .is_some_and(|media| media.is_sdp());
        if is_sdp && !encoded {
            return None;
        }
        // RFC 3261 section 20.11: a body that is optional may be ignored.
        let optional = request
            .headers
            .get(HeaderName::ContentDisposition)
            .is_some_and(|value| value.to_ascii_lowercase().contains("handling=optional"));
        if optional {
            return None;
        }
        let mut response = self.response(key, request, 415)?;
        response.headers.push(HeaderName::Accept, "application/sdp");
        response
            .headers
            .push(HeaderName::AcceptEncoding, "identity");
        Some(response)
    }

    fn route_request(
        &mut self,
        now: Instant,
        key: ServerKey,
        request: Request,
        flow: Flow,
        in_dialog: bool,
    ) {
        if !in_dialog {
            return match request.method {
                Method::Invite => self.handle_invite(now, key, request, flow),
                Method::Options => self.answer_options(now, &key, &request),
                _ => self.answer(now, &key, &request, StatusCode::CALL_DOES_NOT_EXIST),
            };
        }
        let mut id = self.find_dialog(&request.headers);
        if request.method == Method::Info {
            // The one request that a callee sends before it has answered.
            id = id.or_else(|| self.find_early_dialog(&request.headers));
        }
        let Some(id) = id else {
            return self.answer(now, &key, &request, StatusCode::CALL_DOES_NOT_EXIST);
        };
        let number = request.headers.cseq().map_or(0, |cseq| cseq.number);
        if !self.accepts_cseq(&id, number) {
            return self.answer_code(now, &key, &request, 500);
        }
        match request.method {
            Method::Invite => self.handle_reinvite(now, key, request, flow, &id),
            Method::Bye => self.handle_bye(now, &key, &request, &id),
            Method::Prack => self.handle_prack(now, &key, &request, &id),
            Method::Info => self.handle_info(now, &key, request, id),
            Method::Options => self.answer_options(now, &key, &request),
            _ => self.answer(now, &key, &request, StatusCode::CALL_DOES_NOT_EXIST),
        }
    }

    fn answer_options(&mut self, now: Instant, key: &ServerKey, request: &Request) {
        if let Some(mut response) = self.response(key, request, 200) {
            Self::describe_us(&self.config, &mut response.headers);
            response.headers.push(HeaderName::Accept, "application/sdp");
            self.respond(now, key, &response);
        }
    }

    /// A response in this transaction, with its tag. `None`: the transaction is gone, or there
    /// is no such status.
    pub(crate) fn response(
        &mut self,
        key: &ServerKey,
        request: &Request,
        status: u16,
    ) -> Option<Response> {
        let tag = self.server_tag(key)?;
        StatusCode::new(status)?;
        Some(self.plain_response(request, status, Some(&tag)))
    }

    fn plain_response(&self, request: &Request, status: u16, tag: Option<&str>) -> Response {
        let status = StatusCode::new(status).unwrap_or(StatusCode::BAD_REQUEST);
        let tag = tag.filter(|_| status != StatusCode::TRYING);
        let mut response = request.respond(status, tag);
        response
            .headers
            .push(HeaderName::Server, &self.config.user_agent);
        response
    }

    /// Answers with nothing but a status.
    pub(crate) fn answer(
        &mut self,
        now: Instant,
        key: &ServerKey,
        request: &Request,
        status: StatusCode,
    ) {
        self.answer_code(now, key, request, status.code());
    }

    /// Answers with nothing but a status, given as a number.
    pub(crate) fn answer_code(
        &mut self,
        now: Instant,
        key: &ServerKey,
        request: &Request,
        status: u16,
    ) {
        if let Some(response) = self.response(key, request, status) {
            self.respond(now, key, &response);
        }
    }

    /// Too many calls: 503.
    pub(crate) fn answer_overload(&mut self, now: Instant, key: &ServerKey, request: &Request) {
        if let Some(mut response) = self.response(key, request, 503) {
            response.headers.push(HeaderName::RetryAfter, "10");
            self.respond(now, key, &response);
        }
    }

    /// The To tag of a transaction's responses.
    pub(crate) fn server_tag(&self, key: &ServerKey) -> Option<String> {
        self.servers.get(key).map(|server| server.tag.clone())
    }

    /// An INVITE has led to this call.
    pub(crate) fn set_server_call(&mut self, key: &ServerKey, call: CallHandle) {
        if let Some(server) = self.servers.get_mut(key) {
            server.call = Some(call);
        }
    }

    /// Whether an INVITE is there and still waits for its final response, and its call.
    pub(crate) fn server_invite(&self, key: &ServerKey) -> Option<(bool, Option<CallHandle>)> {
        self.servers
            .get(key)
            .map(|server| (server.is_proceeding_invite(), server.call))
    }

    /// A CANCEL answers with the tag of its INVITE.
    pub(crate) fn adopt_tag(&mut self, key: &ServerKey, invite: &ServerKey) {
        if let Some(tag) = self.server_tag(invite)
            && let Some(server) = self.servers.get_mut(key)
        {
            server.tag = tag;
        }
    }

    /// A response to bytes that are no proper request.
    pub(super) fn handle_faulty(&mut self, now: Instant, mut response: Response, flow: Flow) {
        let reply = match response.headers.top_via() {
            Ok(mut via) => {
                let reply = ReplyPath::of_request(&mut via, flow);
                response.headers.set_top_via(&via);
                reply
            }
            // The Via itself may be the fault; the bytes came from somewhere all the same.
            Err(_) => ReplyPath {
                flow,
                reconnect: flow.remote(),
                name: flow.remote().ip().to_string(),
            },
        };
        response
            .headers
            .push(HeaderName::Server, &self.config.user_agent);
        self.transmit_reply(now, &reply, response.to_bytes());
    }
    /// The caller takes a re-INVITE back (RFC 3261 section 9.2); the session goes on.
    pub(crate) fn cancel_reinvite(&mut self, now: Instant, invite: &ServerKey) {
        if let Some(request) = self.take_reinvite(invite) {
            self.answer(now, invite, &request, StatusCode::REQUEST_TERMINATED);
        }
    }

    fn accepts_cseq(&mut self, id: &DialogId, number: u32) -> bool {
        self.dialog_mut(id)
            .is_some_and(|dialog| dialog.accepts_cseq(number))
    }
}
