//! Passing on: requests inside dialogs and all responses that no context waits for
//! (RFC 3261 section 16.11).

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::time::Instant;

use ringtrue_sip::message::{HeaderName, Headers, Method, NameAddr, Request, Response};

use super::flow::{self, FlowId, Flows};
use super::{Hop, SipProxy, Target};

impl SipProxy {
    /// Forwards without state, to the first target.
    pub(super) fn pass_on(&mut self, now: Instant, flow: FlowId, request: Request) {
        let target = self.targets(now, &request).into_iter().next();
        let Some(target) = target else {
            return self.answer(flow, &request, 404);
        };
        let branch = stateless_branch(&request);
        match self.prepare(flow, &request, &target, &branch) {
            Some((outgoing, forwarded)) => self.flows.send(outgoing, forwarded.to_bytes()),
            None => self.answer(flow, &request, 503),
        }
    }

    /// RFC 3261 section 16.6: the copy that goes to a target, and the flow that it goes by.
    pub(super) fn prepare(
        &mut self,
        incoming: FlowId,
        request: &Request,
        target: &Target,
        branch: &str,
    ) -> Option<(FlowId, Request)> {
        let outgoing = match &target.hop {
            Hop::Flow(flow) => *flow,
            Hop::Uri(uri) => self.flows.towards(&self.addresses, uri)?,
        };
        let mut copy = request.clone();
        copy.uri = target.uri.clone();
        let hops = copy.headers.max_forwards().unwrap_or(70).saturating_sub(1);
        copy.headers.set(HeaderName::MaxForwards, hops.to_string());
        if copy.method == Method::Invite {
            self.mark_contact(&mut copy.headers, incoming);
            self.record_route(&mut copy.headers, incoming, outgoing);
        }
        let via = self.flows.via(outgoing, incoming, branch)?;
        copy.headers.insert_front(HeaderName::Via, via.to_string());
        Some((outgoing, copy))
    }

    /// RFC 3261 section 16.6, step 4; two routes where the sides differ (RFC 5658).
    fn record_route(&self, headers: &mut Headers, incoming: FlowId, outgoing: FlowId) {
        let sides = [incoming, outgoing].map(|flow| self.flows.own_route(flow));
        let [Some(first), Some(second)] = sides else {
            return;
        };
        let front = |headers: &mut Headers, uri| {
            let route = NameAddr::new(uri).to_string();
            headers.insert_front(HeaderName::RecordRoute, route);
        };
        let differ = first != second;
        front(headers, first);
        if differ {
            front(headers, second);
        }
    }

    /// A contact that cannot be reached as it is written remembers the flow that it came by.
    fn mark_contact(&self, headers: &mut Headers, flow: FlowId) {
        let Ok(mut contacts) = headers.contacts() else {
            return;
        };
        let Some(contact) = contacts.first_mut() else {
            return;
        };
        let written = (contact.uri.host.ip(), contact.uri.port);
        let real = self.flows.remote(flow);
        if self.flows.is_stream(flow) || written != (real.map(|r| r.ip()), real.map(|r| r.port())) {
            let name = Flows::name(flow);
            contact.uri.params.set(flow::PARAMETER, Some(&name));
            headers.set(HeaderName::Contact, contact.to_string());
        }
    }

    /// RFC 3261 section 16.7.
    pub(super) fn handle_response(&mut self, now: Instant, flow: FlowId, mut response: Response) {
        let Ok(via) = response.headers.top_via() else {
            return;
        };
        let back = via.params.value(flow::PARAMETER);
        let Some(back) = back.and_then(|id| self.flows.named(id)) else {
            return;
        };
        let Some(branch) = via.branch().map(str::to_owned) else {
            return;
        };
        let invite = response
            .headers
            .cseq()
            .is_ok_and(|c| c.method == Method::Invite);
        if invite {
            self.mark_contact(&mut response.headers, flow);
        }
        if let Some((context, index)) = self.branch(&branch) {
            if invite {
                self.handle_branch_response(now, (context, index), response);
            } else {
                self.contexts[context].cancel_answered(index);
            }
            return;
        }
        response.headers.pop_via();
        self.respond(back, &response);
    }
}

/// RFC 3261 section 16.11: the same for every retransmission, and for the CANCEL.
fn stateless_branch(request: &Request) -> String {
    let mut hasher = DefaultHasher::new();
    if let Ok(via) = request.headers.top_via() {
        (via.branch(), via.host.to_string(), via.port).hash(&mut hasher);
    }
    request.uri.to_string().hash(&mut hasher);
    format!("z9hG4bKpass{:016x}", hasher.finish())
}
