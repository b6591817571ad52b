//! Dialogs: RFC 3261 section 12.

use crate::message::{CSeq, HeaderName, Headers, Method, NameAddr, Request, Response};
use crate::transport::Verified;
use crate::uri::Uri;

/// The state of a dialog (RFC 3261 section 12), early or confirmed.
#[derive(Debug, Clone)]
pub(crate) struct Dialog {
    pub(crate) call_id: String,
    /// Our side with our tag.
    pub(crate) local: NameAddr,
    /// The peer's side with its tag, if it has one (RFC 2543 peers may not).
    pub(crate) remote: NameAddr,
    pub(crate) local_cseq: u32,
    pub(crate) remote_cseq: Option<u32>,
    pub(crate) remote_target: Uri,
    pub(crate) route_set: Vec<NameAddr>,
    /// Who is at the other end of the connection by which it was made, if that was by TLS and
    /// opened from here.
    pub(crate) verified: Option<Verified>,
}

impl Dialog {
    /// As UAC, from a response to our INVITE (section 12.1.2). Without a Contact, which only a
    /// provisional response may lack, requests go where the INVITE went.
    pub(crate) fn of_response(request: &Request, response: &Response) -> Option<Self> {
        let mut route_set = response.headers.record_routes().unwrap_or_default();
        route_set.reverse();
        Some(Self {
            call_id: request.headers.call_id().ok()?,
            local: request.headers.from().ok()?,
            remote: response.headers.to().ok()?,
            local_cseq: request.headers.cseq().ok()?.number,
            remote_cseq: None,
            remote_target: target(&response.headers).unwrap_or_else(|| request.uri.clone()),
            route_set,
            verified: None,
        })
    }

    /// As UAS, from an INVITE (section 12.1.1). `None`: it has no Contact.
    pub(crate) fn of_request(request: &Request, local_tag: &str) -> Option<Self> {
        Some(Self {
            call_id: request.headers.call_id().ok()?,
            local: request.headers.to().ok()?.with_tag(local_tag),
            remote: request.headers.from().ok()?,
            local_cseq: 0,
            remote_cseq: Some(request.headers.cseq().ok()?.number),
            remote_target: target(&request.headers)?,
            route_set: request.headers.record_routes().unwrap_or_default(),
            verified: None,
        })
    }

    /// The peer's tag; empty if it has none.
    pub(crate) fn remote_tag(&self) -> &str {
        self.remote.tag().unwrap_or_default()
    }

    /// A request inside of the dialog with the next CSeq (section 12.2.1.1). Via, Max-Forwards
    /// and Contact come when it is sent.
    pub(crate) fn request(&mut self, method: Method) -> Request {
        self.local_cseq = self.local_cseq.wrapping_add(1) & 0x7fff_ffff;
        let number = self.local_cseq;
        self.request_with_cseq(method, number)
    }

    /// The ACK to a 2xx bears the INVITE's number (section 13.2.2.4).
    pub(crate) fn request_with_cseq(&self, method: Method, number: u32) -> Request {
        let mut headers = Headers::new();
        let uri = self.aim(&mut headers);
        headers.push(HeaderName::From, self.local.to_string());
        headers.push(HeaderName::To, self.remote.to_string());
        headers.push(HeaderName::CallId, &self.call_id);
        let cseq = CSeq {
            number,
            method: method.clone(),
        };
        headers.push(HeaderName::CSeq, cseq.to_string());
        Request {
            method,
            uri,
            headers,
            body: Vec::new(),
        }
    }

    /// Fills in the Route header fields and gives the Request-URI.
    fn aim(&self, headers: &mut Headers) -> Uri {
        let Some((first, others)) = self.route_set.split_first() else {
            return self.remote_target.clone();
        };
        if first.uri.is_loose_router() {
            for route in &self.route_set {
                headers.push(HeaderName::Route, route.to_string());
            }
            return self.remote_target.clone();
        }
        // A strict router wants to be the Request-URI; the target goes last.
        for route in others {
            headers.push(HeaderName::Route, route.to_string());
        }
        let last = NameAddr::new(self.remote_target.clone());
        headers.push(HeaderName::Route, last.to_string());
        let mut uri = first.uri.clone();
        uri.headers.clear();
        uri.params.remove("method");
        uri
    }

    /// A target refresh: the peer's Contact in a re-INVITE or its 2xx (section 12.2).
    pub(crate) fn refresh_target(&mut self, headers: &Headers) {
        if let Some(uri) = target(headers) {
            self.remote_target = uri;
        }
    }

    /// Whether a request of the peer comes in order (section 12.2.2); if so, it counts.
    pub(crate) fn accepts_cseq(&mut self, number: u32) -> bool {
        if self.remote_cseq.is_some_and(|last| number < last) {
            return false;
        }
        self.remote_cseq = Some(number);
        true
    }
}

fn target(headers: &Headers) -> Option<Uri> {
    let contacts = headers.contacts().ok()?;
    contacts.into_iter().next().map(|contact| contact.uri)
}

#[cfg(test)]
mod tests;
