//! The registration: RFC 3261 section 10.

use std::time::{Duration, Instant};

use crate::auth::{Attempts, Realms};
use crate::endpoint::{ConnectionId, Endpoint, Outcome, Purpose, RegisterConfig, SipEvent};
use crate::message::{CSeq, HeaderName, Method, NameAddr, Request, Response};
use crate::transport::{Flow, Named};
use crate::uri::Uri;

/// A refresh leaves so long before the end, so that its 64*T1 fit in.
const REFRESH_MARGIN: u32 = 40;
/// What a registrar may ask for in a 423.
const LONGEST: u32 = 86_400;
/// Pauses after a failure: doubled each time between these.
const FIRST_PAUSE: Duration = Duration::from_secs(30);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// How often in a row a newly learned address is registered at once: a NAT that shows another
/// one each time is not worth more.
const MAX_REWRITES: u8 = 2;

/// A registration that is being kept.
#[derive(Debug)]
pub(crate) struct Registration {
    config: RegisterConfig,
    call_id: String,
    from_tag: String,
    pub(crate) cseq: u32,
    pub(crate) realms: Realms,
    pub(crate) flow: Option<Flow>,
    state: State,
    /// The Contact of the REGISTER that is under way, and whether it names TCP.
    sent: Option<Uri>,
    /// The Contact that the registrar holds.
    bound: Option<Uri>,
    failures: u32,
    rewrites: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A REGISTER is under way.
    Pending,
    /// The same, and then the registration is to be withdrawn.
    PendingThenLeave,
    /// It stands, or failed for now; the next REGISTER leaves at this time.
    Waiting { at: Instant },
    /// It failed for good.
    Failed,
    /// The REGISTER that withdraws it is under way.
    Leaving,
}

impl Registration {
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Waiting { at } => Some(at),
            _ => None,
        }
    }

    /// Keepalives are due while it stands or is about to.
    pub(crate) fn is_active(&self) -> bool {
        self.state != State::Failed
    }
}

impl Endpoint {
    /// Registers, and keeps the registration until [`Self::unregister`]. `Registered` follows
    /// each time it is confirmed, `RegistrationFailed` when it is not.
    pub fn register(&mut self, now: Instant, register: RegisterConfig) {
        let (call_id, from_tag) = (self.token(), self.token());
        self.registration = Some(Registration {
            config: register,
            call_id,
            from_tag,
            cseq: 0,
            realms: Realms::default(),
            flow: None,
            state: State::Pending,
            sent: None,
            bound: None,
            failures: 0,
            rewrites: 0,
        });
        self.arm_keepalive(now);
        self.send_register(now, State::Pending);
    }

    /// Registers the contact anew at once: our addresses have changed. What the registrar holds of
    /// the old one goes in the same step.
    pub fn renew_registration(&mut self, now: Instant) {
        let Some(registration) = &mut self.registration else {
            return;
        };
        match registration.state {
            // The one under way leaves from an address that may be gone; whatever comes of it is
            // of no interest.
            State::Pending | State::Waiting { .. } | State::Failed => {
                let config = registration.config.clone();
                let bound = registration.bound.take();
                self.register(now, config);
                if let Some(registration) = &mut self.registration {
                    registration.bound = bound;
                }
            }
            State::PendingThenLeave | State::Leaving => {}
        }
    }

    /// Withdraws the registration. `Registered` with 0 seconds follows.
    pub fn unregister(&mut self, now: Instant) {
        let Some(registration) = &mut self.registration else {
            return;
        };
        match registration.state {
            State::Waiting { .. } if registration.bound.is_some() => {
                self.send_register(now, State::Leaving);
            }
            // RFC 3261 section 10.2: one REGISTER at a time.
            State::Pending => registration.state = State::PendingThenLeave,
            State::PendingThenLeave | State::Leaving => {}
            State::Waiting { .. } | State::Failed => self.registration = None,
        }
    }

    fn send_register(&mut self, now: Instant, state: State) {
        let Some(registration) = &mut self.registration else {
            return;
        };
        registration.state = state;
        registration.cseq += 1;
        let expires = match state {
            State::Leaving => 0,
            _ => registration.config.expires,
        };
        let mut uri = registration.config.registrar.clone();
        uri.user = None;
        uri.password = None;
        uri.headers.clear();
        let mut request = Request::new(Method::Register, uri);
        let aor = self.config.aor.clone();
        let headers = &mut request.headers;
        let from = aor.clone().with_tag(&registration.from_tag);
        headers.push(HeaderName::From, from.to_string());
        headers.push(HeaderName::To, aor.to_string());
        headers.push(HeaderName::CallId, &registration.call_id);
        let cseq = CSeq {
            number: registration.cseq,
            method: Method::Register,
        };
        headers.push(HeaderName::CSeq, cseq.to_string());
        headers.push(HeaderName::Expires, expires.to_string());
        Self::describe_us(&self.config, headers);
        let hop = self.first_hop(&mut request);
        self.authorize(&Purpose::Register, &mut request);
        let key = self.client_key(&Method::Register);
        self.start_client(
            now,
            key,
            Purpose::Register,
            hop,
            request,
            Attempts::default(),
        );
    }

    /// The Contact of a REGISTER: our address towards the registrar; one that it holds and that
    /// is not ours any more goes in the same step.
    pub(crate) fn register_contact(&mut self, uri: Uri) -> String {
        let ice = self.config.ice;
        let Some(registration) = &mut self.registration else {
            return NameAddr::new(uri).to_string();
        };
        let is_leaving = registration.state == State::Leaving;
        let old = registration.bound.clone();
        let uri = match &old {
            Some(bound) if is_leaving => bound.clone(),
            _ => uri,
        };
        registration.sent = Some(uri.clone());
        let expires = if is_leaving {
            0
        } else {
            registration.config.expires
        };
        let contact = |uri: Uri, expires: u32| {
            let mut contact = NameAddr::new(uri);
            let expires = expires.to_string();
            contact.params.set("expires", Some(&expires));
            contact
        };
        let mut first = contact(uri.clone(), expires);
        if ice {
            first.params.set("+sip.ice", None);
        }
        match old {
            Some(old) if !is_leaving && !old.is_equivalent(&uri) => {
                format!("{first}, {}", contact(old, 0))
            }
            _ => first.to_string(),
        }
    }

    pub(crate) fn register_outcome(&mut self, now: Instant, request: &Request, outcome: Outcome) {
        let is_current = self.registration.as_ref().is_some_and(|registration| {
            request
                .headers
                .call_id()
                .is_ok_and(|id| id == registration.call_id)
        });
        if !is_current {
            return;
        }
        match outcome {
            Outcome::Response(response) => match response.status.code() {
                100..=199 => {}
                200..=299 => self.registered(now, &response),
                423 => self.too_brief(now, &response),
                status => {
                    let pause = response.headers.retry_after().map(u64::from);
                    let transient = matches!(status, 408 | 480 | 500..=599);
                    let reason = response.reason;
                    self.register_failed(now, Some(status), reason, transient, pause);
                }
            },
            Outcome::TimedOut => {
                let reason = "the registrar does not answer".to_owned();
                self.register_failed(now, None, reason, true, None);
            }
            Outcome::Failed(what) => self.register_failed(now, None, what, true, None),
        }
    }

    fn registered(&mut self, now: Instant, response: &Response) {
        let aor = self.config.aor.uri.to_string();
        let Some(registration) = &mut self.registration else {
            return;
        };
        registration.realms.next_nonce(response);
        registration.failures = 0;
        if registration.state == State::Leaving {
            self.registration = None;
            let event = SipEvent::Registered { aor, expires: 0 };
            return self.events.push_back(event);
        }
        registration.bound = registration.sent.clone();
        let expires = granted(registration, response);
        let leave = registration.state == State::PendingThenLeave;
        let pause = match expires {
            0..=80 => expires / 2,
            longer => longer - REFRESH_MARGIN,
        };
        let at = now + Duration::from_secs(u64::from(pause.max(1)));
        registration.state = State::Waiting { at };
        if leave {
            return self.send_register(now, State::Leaving);
        }
        if self.has_new_address() {
            return self.send_register(now, State::Pending);
        }
        self.events.push_back(SipEvent::Registered { aor, expires });
    }

    /// Whether the response has told that our address is another one than the registrar holds.
    fn has_new_address(&mut self) -> bool {
        let Some((flow, bound)) = self
            .registration
            .as_ref()
            .and_then(|registration| Some((registration.flow?, registration.bound.clone()?)))
        else {
            return false;
        };
        let ours = self.contact_uri(flow, Named::by(&bound));
        let is_new = !ours.is_equivalent(&bound);
        let Some(registration) = &mut self.registration else {
            return false;
        };
        if !is_new {
            registration.rewrites = 0;
            return false;
        }
        registration.rewrites = registration.rewrites.saturating_add(1);
        registration.rewrites <= MAX_REWRITES
    }

    /// 423: the registrar wants a longer time (RFC 3261 section 10.2.8).
    fn too_brief(&mut self, now: Instant, response: &Response) {
        let wanted = response.headers.min_expires().unwrap_or_default();
        let Some(registration) = &mut self.registration else {
            return;
        };
        if wanted > registration.config.expires && wanted <= LONGEST {
            registration.config.expires = wanted;
            let state = registration.state;
            self.send_register(now, state);
        } else {
            let reason = response.reason.clone();
            self.register_failed(now, Some(423), reason, false, None);
        }
    }

    fn register_failed(
        &mut self,
        now: Instant,
        status: Option<u16>,
        reason: String,
        transient: bool,
        retry_after: Option<u64>,
    ) {
        let jitter = Duration::from_millis(self.random(0, 5_000));
        let Some(registration) = &mut self.registration else {
            return;
        };
        let leaving = matches!(registration.state, State::Leaving | State::PendingThenLeave);
        if leaving {
            self.registration = None;
        } else if transient {
            let doubled = FIRST_PAUSE.saturating_mul(1 << registration.failures.min(5));
            registration.failures += 1;
            let asked = Duration::from_secs(retry_after.unwrap_or_default());
            let pause = doubled.max(asked).min(LONGEST_PAUSE) + jitter;
            registration.state = State::Waiting { at: now + pause };
        } else {
            registration.state = State::Failed;
        }
        let event = SipEvent::RegistrationFailed { status, reason };
        self.events.push_back(event);
    }

    pub(crate) fn registration_timeout(&mut self, now: Instant) {
        let due = self
            .registration
            .as_ref()
            .and_then(Registration::poll_timeout)
            .is_some_and(|at| at <= now);
        if due {
            self.send_register(now, State::Pending);
        }
    }

    /// The connection is gone by which the registrar reached us.
    pub(crate) fn registration_lost(&mut self, now: Instant, lost: ConnectionId) {
        let pause = Duration::from_millis(self.random(100, 2_000));
        if let Some(registration) = &mut self.registration
            && registration.flow.and_then(Flow::connection) == Some(lost)
            && let State::Waiting { at } = &mut registration.state
        {
            *at = (*at).min(now + pause);
        }
    }
}

/// For how long the registrar keeps our Contact.
fn granted(registration: &Registration, response: &Response) -> u32 {
    let contacts = response.headers.contacts().unwrap_or_default();
    let ours = contacts.iter().find(|contact| {
        registration
            .sent
            .as_ref()
            .is_some_and(|sent| sent.is_equivalent(&contact.uri))
    });
    ours.or(contacts.first().filter(|_| contacts.len() == 1))
        .and_then(NameAddr::expires)
        .or(response.headers.expires())
        .unwrap_or(registration.config.expires)
}
