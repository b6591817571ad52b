//! Forks: one response context for each INVITE that starts a call (RFC 3261 sections 16.7, 16.10).

use std::time::{Duration, Instant};

use ringtrue_sip::message::{CSeq, HeaderName, Method, Request, Response, StatusCode};

use super::flow::FlowId;
use super::{SipProxy, T1, T2};

/// A message that is sent again until its answer comes (RFC 3261 sections 17.1.1.2 and 17.2.1).
#[derive(Debug)]
struct Retransmission {
    flow: FlowId,
    bytes: Vec<u8>,
    next: Instant,
    interval: Duration,
    longest: Duration,
    ends: Instant,
}

impl Retransmission {
    fn new(now: Instant, flow: FlowId, bytes: Vec<u8>, longest: Duration) -> Self {
        Self {
            flow,
            bytes,
            next: now + T1,
            interval: T1,
            longest,
            ends: now + 64 * T1,
        }
    }
}

/// What has come back from one target.
#[derive(Debug)]
enum Progress {
    /// Nothing yet; the INVITE is sent again.
    Calling(Retransmission),
    Proceeding,
    Final(Box<Response>),
}

#[derive(Debug)]
struct Branch {
    name: String,
    flow: FlowId,
    invite: Request,
    progress: Progress,
    /// A CANCEL is wanted; it goes out once there is a provisional response (RFC 3261 section 9.1).
    cancelled: bool,
    cancel: Option<Retransmission>,
}

/// One forked INVITE.
#[derive(Debug)]
pub(super) struct InviteContext {
    flow: FlowId,
    request: Request,
    /// Branch and sent-by of the caller's Via: what its CANCEL and ACK share.
    key: String,
    branches: Vec<Branch>,
    /// The final response that went to the caller, sent again until its ACK when it is no 2xx.
    answered: bool,
    answer: Option<(Response, Option<Retransmission>)>,
}

impl InviteContext {
    pub(super) fn wake_up(&self) -> Option<Instant> {
        let of_branches = self.branches.iter().flat_map(|branch| {
            let calling = match &branch.progress {
                Progress::Calling(retransmission) => Some(retransmission),
                _ => None,
            };
            calling.into_iter().chain(&branch.cancel)
        });
        let of_answer = self.answer.iter().filter_map(|(_, again)| again.as_ref());
        let wake_ups = of_branches.chain(of_answer).map(|r| r.next.min(r.ends));
        wake_ups.min()
    }

    pub(super) fn cancel_answered(&mut self, index: usize) {
        self.branches[index].cancel = None;
    }

    fn is_decided(&self) -> bool {
        let mut branches = self.branches.iter();
        branches.all(|branch| matches!(branch.progress, Progress::Final(_)))
    }

    /// RFC 3261 section 16.7, step 6: a 6xx before all, else the lowest.
    fn best(&self) -> Option<&Response> {
        let finals = self
            .branches
            .iter()
            .filter_map(|branch| match &branch.progress {
                Progress::Final(response) => Some(&**response),
                _ => None,
            });
        finals.min_by_key(|response| match response.status.code() {
            code @ 600.. => (0, code),
            code => (1, code),
        })
    }
}

fn key(request: &Request) -> Option<String> {
    let via = request.headers.top_via().ok()?;
    Some(format!("{} {} {:?}", via.branch()?, via.host, via.port))
}

/// What goes hop by hop for an INVITE: its ACK or CANCEL (RFC 3261 sections 9.1 and 17.1.1.3).
fn companion(invite: &Request, method: Method, to: Option<&Response>) -> Request {
    let mut request = Request::new(method.clone(), invite.uri.clone());
    if let Ok(via) = invite.headers.top_via() {
        request.headers.push(HeaderName::Via, via.to_string());
    }
    for name in [HeaderName::From, HeaderName::CallId, HeaderName::Route] {
        request.headers.copy(name, &invite.headers);
    }
    let to = to.map_or(&invite.headers, |response| &response.headers);
    request.headers.copy(HeaderName::To, to);
    request.headers.push(HeaderName::MaxForwards, "70");
    if let Ok(CSeq { number, .. }) = invite.headers.cseq() {
        let cseq = format!("{number} {method}");
        request.headers.push(HeaderName::CSeq, cseq);
    }
    request
}

impl SipProxy {
    pub(super) fn context_of(&self, request: &Request) -> Option<usize> {
        if !matches!(
            request.method,
            Method::Invite | Method::Ack | Method::Cancel
        ) {
            return None;
        }
        let key = key(request)?;
        self.contexts.iter().position(|context| context.key == key)
    }

    pub(super) fn branch(&self, name: &str) -> Option<(usize, usize)> {
        let contexts = self.contexts.iter().enumerate();
        contexts.into_iter().find_map(|(context, of)| {
            let index = of.branches.iter().position(|branch| branch.name == name)?;
            Some((context, index))
        })
    }

    /// A new call: to every target at once.
    pub(super) fn fork(&mut self, now: Instant, flow: FlowId, request: Request) {
        let Some(key) = key(&request) else {
            return self.answer(flow, &request, 400);
        };
        let targets = self.targets(now, &request);
        if targets.is_empty() {
            return self.answer(flow, &request, 404);
        }
        self.answer(flow, &request, 100);
        let context = self.contexts.len();
        let mut branches = Vec::new();
        for (index, target) in targets.iter().enumerate() {
            let name = format!("z9hG4bKfork{context}-{index}");
            if let Some((outgoing, invite)) = self.prepare(flow, &request, target, &name) {
                let bytes = invite.to_bytes();
                self.flows.send(outgoing, bytes.clone());
                let again = Retransmission::new(now, outgoing, bytes, Duration::MAX);
                branches.push(Branch {
                    name,
                    flow: outgoing,
                    invite,
                    progress: Progress::Calling(again),
                    cancelled: false,
                    cancel: None,
                });
            }
        }
        if branches.is_empty() {
            return self.answer(flow, &request, 503);
        }
        self.contexts.push(InviteContext {
            flow,
            request,
            key,
            branches,
            answered: false,
            answer: None,
        });
    }

    /// The caller's INVITE again, its ACK, or its CANCEL.
    pub(super) fn handle_in_context(&mut self, now: Instant, flow: FlowId, request: &Request) {
        let Some(index) = self.context_of(request) else {
            return;
        };
        let context = &mut self.contexts[index];
        match request.method {
            Method::Ack => {
                if let Some((_, again)) = &mut context.answer {
                    *again = None;
                }
            }
            Method::Cancel => {
                self.answer(flow, request, 200);
                self.cancel(now, index);
            }
            _ => match &context.answer {
                Some((response, _)) => {
                    let response = response.clone();
                    self.respond(flow, &response);
                }
                None if !context.answered => self.answer(flow, request, 100),
                None => {}
            },
        }
    }

    /// RFC 3261 section 16.10: every branch that has no final response yet.
    fn cancel(&mut self, now: Instant, context: usize) {
        for branch in &mut self.contexts[context].branches {
            if branch.cancelled || matches!(branch.progress, Progress::Final(_)) {
                continue;
            }
            branch.cancelled = true;
            if matches!(branch.progress, Progress::Proceeding) {
                let bytes = companion(&branch.invite, Method::Cancel, None).to_bytes();
                self.flows.send(branch.flow, bytes.clone());
                branch.cancel = Some(Retransmission::new(now, branch.flow, bytes, T2));
            }
        }
    }

    pub(super) fn handle_branch_response(
        &mut self,
        now: Instant,
        (context, index): (usize, usize),
        mut response: Response,
    ) {
        let flow = self.contexts[context].flow;
        let branch = &mut self.contexts[context].branches[index];
        if response.status.is_provisional() {
            if matches!(branch.progress, Progress::Calling(_)) {
                branch.progress = Progress::Proceeding;
                if std::mem::take(&mut branch.cancelled) {
                    self.cancel(now, context);
                }
            }
            if response.status != StatusCode::TRYING {
                response.headers.pop_via();
                self.respond(flow, &response);
            }
            return;
        }
        if response.status.is_success() {
            // RFC 3261 section 16.7, step 5: every 2xx goes on, also again; the others are over.
            response.headers.pop_via();
            self.respond(flow, &response);
            branch_is_over(&mut self.contexts[context].branches[index], response);
            self.contexts[context].answered = true;
            return self.cancel(now, context);
        }
        let ack = companion(&branch.invite, Method::Ack, Some(&response)).to_bytes();
        let outgoing = branch.flow;
        let declined = response.status.code() >= 600;
        response.headers.pop_via();
        branch_is_over(branch, response);
        self.flows.send(outgoing, ack);
        if declined {
            self.cancel(now, context);
        }
        self.decide(now, context);
    }

    /// Sends the best final response once every branch has one.
    fn decide(&mut self, now: Instant, index: usize) {
        let context = &mut self.contexts[index];
        if context.answered || !context.is_decided() {
            return;
        }
        let Some(best) = context.best().cloned() else {
            return;
        };
        context.answered = true;
        let flow = context.flow;
        let again = Retransmission::new(now, flow, best.to_bytes(), T2);
        self.flows.send(flow, best.to_bytes());
        self.contexts[index].answer = Some((best, Some(again)));
    }

    /// Sends again what is due.
    pub(super) fn retransmit(&mut self, now: Instant) {
        for index in 0..self.contexts.len() {
            let context = &mut self.contexts[index];
            let mut timed_out = false;
            for branch in &mut context.branches {
                if let Progress::Calling(again) = &mut branch.progress
                    && !resend(&mut self.flows, now, again)
                {
                    // Timer B (RFC 3261 section 16.8): as if a 408 had come.
                    let status = StatusCode::new(408).unwrap_or(StatusCode::BAD_REQUEST);
                    let response = context.request.respond(status, Some(super::TAG));
                    branch.progress = Progress::Final(Box::new(response));
                    timed_out = true;
                }
                if let Some(again) = &mut branch.cancel
                    && !resend(&mut self.flows, now, again)
                {
                    branch.cancel = None;
                }
            }
            if let Some((_, slot @ Some(_))) = &mut context.answer
                && let Some(again) = slot
                && !resend(&mut self.flows, now, again)
            {
                *slot = None;
            }
            if timed_out {
                self.decide(now, index);
            }
        }
    }
}

/// Sends again if it is time to; false once it was tried long enough.
fn resend(flows: &mut super::Flows, now: Instant, again: &mut Retransmission) -> bool {
    if now >= again.ends {
        return false;
    }
    if now >= again.next {
        if !flows.is_stream(again.flow) {
            flows.send(again.flow, again.bytes.clone());
        }
        again.interval = (again.interval * 2).min(again.longest);
        again.next = now + again.interval;
    }
    true
}

/// Keeps the first final response of a branch, or the 2xx that overrules a 487.
fn branch_is_over(branch: &mut Branch, response: Response) {
    branch.cancel = None;
    if !matches!(branch.progress, Progress::Final(_)) || response.status.is_success() {
        branch.progress = Progress::Final(Box::new(response));
    }
}
