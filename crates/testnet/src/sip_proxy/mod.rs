//! A small SIP proxy and registrar (RFC 3261 sections 10.3 and 16), over UDP, TCP and TLS.
//!
//! What phones meet on the Internet, without its policies: it keeps bindings for whoever
//! registers, forks an INVITE to every contact of a user, statefully, with its own 100; records
//! its route; passes requests inside dialogs and their responses on without state; and copes with
//! phones behind NATs: `received` and `rport` (RFC 3581), answers on the flow that a request came
//! on, and contacts that remember the flow they were learned from.

mod flow;
mod forward;
mod invite;
mod registrar;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ringtrue_sip::message::{HeaderName, Message, Method, NameAddr, Request, Response, StatusCode};
use ringtrue_sip::uri::{Host, Scheme, Uri};

use crate::node::{Delivery, Node, Outbox};
use flow::{FlowId, Flows};
use invite::InviteContext;
use registrar::Registrar;

/// T1 of RFC 3261 section 17.1.1.1.
const T1: Duration = Duration::from_millis(500);
/// T2 of RFC 3261 section 17.1.2.2.
const T2: Duration = Duration::from_secs(4);
/// What To-tags of the proxy's own responses are.
const TAG: &str = "proxy";

/// The port of a SIP URI that names none.
fn default_port(uri: &Uri) -> u16 {
    if is_secure(uri) { 5061 } else { 5060 }
}

/// Whether a URI is reached by TLS.
fn is_secure(uri: &Uri) -> bool {
    uri.scheme == Scheme::Sips || uri.transport().as_deref() == Some("tls")
}

/// A proxy and registrar that lives on one host.
///
/// Let its host [`listen`](crate::World::listen) on the port, or phones reach it by UDP only.
#[derive(Debug)]
pub struct SipProxy {
    addresses: Vec<SocketAddr>,
    domains: Vec<String>,
    /// What its certificate is good for.
    certificate: Option<String>,
    flows: Flows,
    registrar: Registrar,
    contexts: Vec<InviteContext>,
}

/// Where a request goes: the Request-URI that it will have, and the way there.
#[derive(Debug, Clone)]
struct Target {
    uri: Uri,
    hop: Hop,
}

#[derive(Debug, Clone)]
enum Hop {
    Flow(FlowId),
    Uri(Uri),
}

impl SipProxy {
    /// A proxy at these addresses of its host, at most one for each address family.
    pub fn new(addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        Self {
            addresses: addresses.into_iter().collect(),
            domains: Vec::new(),
            certificate: None,
            flows: Flows::default(),
            registrar: Registrar::default(),
            contexts: Vec::new(),
        }
    }

    /// A domain whose users register here; the proxy's addresses always count.
    pub fn with_domain(mut self, domain: &str) -> Self {
        self.domains.push(domain.to_owned());
        self
    }

    /// A certificate for this name or address: streams by TLS are accepted, by those who expect it.
    pub fn with_certificate(mut self, name: &str) -> Self {
        self.certificate = Some(name.to_owned());
        self
    }

    /// A middlebox in the proxy: it changes the body of every message that is passed on.
    pub fn with_edit(mut self, edit: fn(&mut Vec<u8>)) -> Self {
        self.flows.edit = Some(edit);
        self
    }

    /// Whether a URI means this proxy or a user of it.
    fn is_ours(&self, uri: &Uri) -> bool {
        if !uri.is_sip() {
            return false;
        }
        let port = uri.port.unwrap_or(default_port(uri));
        match &uri.host {
            Host::Name(name) => self.domains.iter().any(|d| d.eq_ignore_ascii_case(name)),
            host => self
                .addresses
                .iter()
                .any(|own| host.ip() == Some(own.ip()) && own.port() == port),
        }
    }

    fn handle_message(&mut self, now: Instant, flow: FlowId, message: Message) {
        match message {
            Message::Request(request) => self.handle_request(now, flow, request),
            Message::Response(response) => self.handle_response(now, flow, response),
        }
    }

    fn handle_request(&mut self, now: Instant, flow: FlowId, mut request: Request) {
        self.note_source(flow, &mut request);
        self.strip_own_routes(&mut request);
        if self.context_of(&request).is_some() {
            return self.handle_in_context(now, flow, &request);
        }
        if request.headers.max_forwards() == Some(0) {
            // RFC 3261 section 16.3, step 3.
            return self.answer(flow, &request, 483);
        }
        let ours = self.is_ours(&request.uri) && request.uri.user.is_none();
        let inside_dialog = request.headers.to().is_ok_and(|to| to.tag().is_some());
        match request.method {
            Method::Register if self.is_ours(&request.uri) => self.register(now, flow, &request),
            Method::Options if ours => self.answer(flow, &request, 200),
            Method::Invite if !inside_dialog => self.fork(now, flow, request),
            Method::Cancel if !inside_dialog => self.answer(flow, &request, 481),
            _ => self.pass_on(now, flow, request),
        }
    }

    fn register(&mut self, now: Instant, flow: FlowId, request: &Request) {
        let response = self.registrar.register(now, flow, request);
        self.respond(flow, &response);
    }

    /// RFC 3261 section 18.2.1 and RFC 3581 section 4.
    fn note_source(&self, flow: FlowId, request: &mut Request) {
        let (Some(source), Ok(mut via)) = (self.flows.remote(flow), request.headers.top_via())
        else {
            return;
        };
        if via.asks_rport() {
            via.params.set("rport", Some(&source.port().to_string()));
        }
        if via.asks_rport() || via.host.ip() != Some(source.ip()) {
            via.params.set("received", Some(&source.ip().to_string()));
        }
        request.headers.set_top_via(&via);
    }

    /// RFC 3261 section 16.4: routes that name us have done their work.
    fn strip_own_routes(&self, request: &mut Request) {
        let Ok(routes) = request.headers.routes() else {
            return;
        };
        let others: Vec<&NameAddr> = routes
            .iter()
            .skip_while(|route| self.is_ours(&route.uri))
            .collect();
        if others.len() < routes.len() {
            request.headers.remove(HeaderName::Route);
            for route in others {
                request.headers.push(HeaderName::Route, route.to_string());
            }
        }
    }

    /// RFC 3261 section 16.5.
    fn targets(&mut self, now: Instant, request: &Request) -> Vec<Target> {
        if let Some(route) = request
            .headers
            .routes()
            .ok()
            .and_then(|r| r.first().cloned())
        {
            let uri = request.uri.clone();
            let hop = Hop::Uri(route.uri);
            return vec![Target { uri, hop }];
        }
        let mut uri = request.uri.clone();
        if let Some(flow) = uri
            .param(flow::PARAMETER)
            .and_then(|id| self.flows.named(&id))
        {
            uri.params.remove(flow::PARAMETER);
            let hop = Hop::Flow(flow);
            return vec![Target { uri, hop }];
        }
        if self.is_ours(&uri) {
            return self.registrar.lookup(now, &uri);
        }
        let hop = Hop::Uri(uri.clone());
        vec![Target { uri, hop }]
    }

    fn answer(&mut self, flow: FlowId, request: &Request, status: u16) {
        if request.method == Method::Ack {
            return;
        }
        let status = StatusCode::new(status).unwrap_or(StatusCode::OK);
        self.respond(flow, &request.respond(status, Some(TAG)));
    }

    fn respond(&mut self, flow: FlowId, response: &Response) {
        self.flows.send(flow, response.to_bytes());
    }
}

impl Node for SipProxy {
    fn handle_delivery(&mut self, now: Instant, delivery: Delivery) {
        match delivery {
            Delivery::Datagram {
                local,
                from,
                payload,
            } => {
                // RFC 5626 section 4.4.1: keepalives are no messages.
                if payload.iter().all(|byte| b"\r\n".contains(byte)) {
                    return;
                }
                let flow = self.flows.datagram(local, from);
                match Message::parse_datagram(&payload) {
                    Ok(message) => self.handle_message(now, flow, message),
                    Err(error) => {
                        if let Some(response) = error.reply() {
                            self.respond(flow, &response);
                        }
                    }
                }
            }
            Delivery::Accepted {
                stream,
                local,
                from,
                tls,
            } => {
                if tls.is_none() || tls == self.certificate {
                    self.flows.accepted(stream, local, from, tls.is_some());
                } else {
                    self.flows.refuse(stream);
                }
            }
            Delivery::StreamBytes { stream, payload } => {
                for (flow, message) in self.flows.read(stream, &payload) {
                    self.handle_message(now, flow, message);
                }
            }
            Delivery::Connected { .. } | Delivery::PortMapped { .. } => {}
            Delivery::Closed { stream, .. } => self.flows.closed(stream),
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.retransmit(now);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.contexts
            .iter()
            .filter_map(InviteContext::wake_up)
            .min()
    }

    fn drain(&mut self, _now: Instant, out: &mut Outbox) {
        self.flows.drain(out);
    }
}
