//! Requests that are sent again with credentials (RFC 3261 section 22.2 and 22.3).

use std::time::Instant;

use super::Endpoint;
use super::client_transaction::{ClientKey, Purpose};
use crate::auth::Realms;
use crate::message::{CSeq, HeaderName, Request, Response};

impl Endpoint {
    /// Answers a 401 or 407 with a new request. `false`: it cannot be answered.
    pub(super) fn answer_challenge(
        &mut self,
        now: Instant,
        key: &ClientKey,
        response: &Response,
    ) -> bool {
        let Some(credentials) = self.config.credentials.clone() else {
            return false;
        };
        let Some(transaction) = self.clients.get(key) else {
            return false;
        };
        let purpose = transaction.purpose.clone();
        let hop = transaction.hop.clone();
        let mut request = transaction.request.clone();
        let mut attempts = transaction.attempts.clone();
        if self.is_unwanted(&purpose) {
            return false;
        }
        let cnonce = self.token();
        let Some(realms) = self.realms(&purpose) else {
            return false;
        };
        if !realms.challenged(response, &mut attempts) {
            return false;
        }
        realms.authorize(&credentials, &cnonce, &mut request);
        let Ok(old) = request.headers.cseq() else {
            return false;
        };
        let Some(number) = self.next_cseq(&purpose, old.number) else {
            return false;
        };
        let cseq = CSeq {
            number,
            method: request.method.clone(),
        };
        request.headers.set(HeaderName::CSeq, cseq.to_string());
        let new_key = self.client_key(&request.method);
        self.rename(&purpose, &new_key);
        self.start_client(now, new_key, purpose, Ok(hop), request, attempts);
        true
    }

    /// Answers unasked the challenges that were met before in the same call or registration.
    pub(crate) fn authorize(&mut self, purpose: &Purpose, request: &mut Request) {
        let Some(credentials) = self.config.credentials.clone() else {
            return;
        };
        let cnonce = self.token();
        if let Some(realms) = self.realms(purpose) {
            realms.authorize(&credentials, &cnonce, request);
        }
    }

    fn realms(&mut self, purpose: &Purpose) -> Option<&mut Realms> {
        let call = match purpose {
            Purpose::Nobody | Purpose::Ahead { .. } | Purpose::Superseded(_) => return None,
            Purpose::Register => return self.registration.as_mut().map(|r| &mut r.realms),
            Purpose::Invite(call) => *call,
            Purpose::Prack(dialog)
            | Purpose::Bye(dialog)
            | Purpose::Reinvite(dialog)
            | Purpose::Info(dialog) => dialog.call,
        };
        self.calls.get_mut(&call).map(|call| &mut call.realms)
    }

    /// The number of the request's repetition.
    fn next_cseq(&mut self, purpose: &Purpose, old: u32) -> Option<u32> {
        match purpose {
            Purpose::Nobody | Purpose::Ahead { .. } | Purpose::Superseded(_) => None,
            Purpose::Invite(_) => Some(old.wrapping_add(1) & 0x7fff_ffff),
            Purpose::Register => self.registration.as_mut().map(|registration| {
                registration.cseq += 1;
                registration.cseq
            }),
            Purpose::Prack(id) | Purpose::Bye(id) | Purpose::Reinvite(id) | Purpose::Info(id) => {
                let dialog = self.dialog_mut(id)?;
                dialog.local_cseq = dialog.local_cseq.wrapping_add(1) & 0x7fff_ffff;
                Some(dialog.local_cseq)
            }
        }
    }
}
