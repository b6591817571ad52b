//! Bindings (RFC 3261 section 10.3).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ringtrue_sip::message::{HeaderName, NameAddr, Request, Response, StatusCode};
use ringtrue_sip::uri::Uri;

use super::flow::FlowId;
use super::{Hop, TAG, Target};

/// What a binding without an expiry gets, in seconds.
const DEFAULT_EXPIRES: u32 = 3_600;

#[derive(Debug)]
struct Binding {
    contact: Uri,
    flow: FlowId,
    expires_at: Instant,
}

#[derive(Debug, Default)]
pub(super) struct Registrar {
    users: BTreeMap<String, Vec<Binding>>,
}

impl Registrar {
    pub(super) fn register(&mut self, now: Instant, flow: FlowId, request: &Request) -> Response {
        let user = request.headers.to().ok().and_then(|to| to.uri.user_text());
        let (Some(user), Ok(contacts)) = (user, request.headers.contacts()) else {
            return request.respond(StatusCode::BAD_REQUEST, Some(TAG));
        };
        let default = request.headers.expires().unwrap_or(DEFAULT_EXPIRES);
        let bindings = self.users.entry(user).or_default();
        if request.headers.is_wildcard_contact() {
            bindings.clear();
        }
        for contact in contacts {
            bindings.retain(|binding| !binding.contact.is_equivalent(&contact.uri));
            let seconds = contact.expires().unwrap_or(default);
            bindings.push(Binding {
                contact: contact.uri,
                flow,
                expires_at: now + Duration::from_secs(seconds.into()),
            });
        }
        bindings.retain(|binding| binding.expires_at > now);
        let mut response = request.respond(StatusCode::OK, Some(TAG));
        for binding in bindings {
            let left = binding.expires_at.duration_since(now).as_secs();
            let mut contact = NameAddr::new(binding.contact.clone());
            contact.params.set("expires", Some(&left.to_string()));
            let headers = &mut response.headers;
            headers.push(HeaderName::Contact, contact.to_string());
        }
        response
    }

    /// The contacts of a user, by the flows that they registered on.
    pub(super) fn lookup(&self, now: Instant, uri: &Uri) -> Vec<Target> {
        let bindings = uri.user_text().and_then(|user| self.users.get(&user));
        let live = bindings
            .into_iter()
            .flatten()
            .filter(|b| b.expires_at > now);
        live.map(|binding| Target {
            uri: binding.contact.clone(),
            hop: Hop::Flow(binding.flow),
        })
        .collect()
    }
}
