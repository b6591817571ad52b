//! INFO with the package `trickle-ice` (RFC 6086, RFC 8840), in early dialogs and confirmed ones.

use std::collections::BTreeMap;
use std::time::Instant;

use super::Stage;
use super::invited::detour;
use crate::auth::Attempts;
use crate::endpoint::{
    CallHandle, CommandRefused, DialogId, Endpoint, Outcome, Purpose, ServerKey, SipEvent,
};
use crate::message::{HeaderName, Headers, Method, Request, StatusCode};

/// The one package that we take and send.
pub(super) const PACKAGE: &str = "trickle-ice";
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";

/// What the dialogs of a call trickle, by remote tag.
#[derive(Debug, Default)]
pub(crate) struct Infos(BTreeMap<String, Trickling>);

/// What a dialog trickles.
#[derive(Debug)]
enum Trickling {
    /// Nothing is under way.
    Idle,
    /// So many INFOs and PRACKs wait for their answers; what the next INFO is to carry. One at a
    /// time, since a proxy may let one overtake another, and RFC 3261 section 12.2.2 has the one
    /// that comes later refused: a PRACK that is lost so holds the call up.
    Underway {
        requests: usize,
        next: Option<Vec<u8>>,
    },
    /// The peer takes none after all.
    Refused,
}

impl Endpoint {
    /// What the peer says it takes, if it says anything (RFC 6086 section 5.2.3).
    pub(super) fn note_recv_info(&mut self, call: CallHandle, tag: &str, headers: &Headers) {
        if headers.get(HeaderName::RecvInfo).is_none() {
            return;
        }
        let takes = headers
            .all(HeaderName::RecvInfo)
            .any(|line| line.split(|b| *b == b',').any(is_our_package));
        let Some(Infos(infos)) = self.calls.get_mut(&call).map(|call| &mut call.infos) else {
            return;
        };
        if !takes {
            infos.remove(tag);
        } else if !infos.contains_key(tag) {
            infos.insert(tag.to_owned(), Trickling::Idle);
        }
    }

    /// Whether the peer takes trickled candidates in this dialog: its `Recv-Info` says so, and it
    /// has not refused them since.
    pub fn takes_trickle(&self, dialog: &DialogId) -> bool {
        let infos = self.calls.get(&dialog.call).map(|call| &call.infos);
        matches!(
            infos.and_then(|Infos(infos)| infos.get(&dialog.remote_tag)),
            Some(Trickling::Idle | Trickling::Underway { .. })
        )
    }

    /// Sends candidates in an INFO: all of the generation, those that were sent before included
    /// (RFC 8840 section 4.4), so one that still waits behind another is replaced.
    ///
    /// The peer must know the dialog: as caller after a response with a tag, as callee after the
    /// PRACK, a check or an INFO of the caller's (RFC 8840 section 4.3).
    ///
    /// # Errors
    /// The dialog is unknown, or its peer takes no trickled candidates.
    pub fn trickle(
        &mut self,
        now: Instant,
        dialog: &DialogId,
        fragment: Vec<u8>,
    ) -> Result<(), CommandRefused> {
        if self.dialog_mut(dialog).is_none() {
            return Err(CommandRefused::UnknownDialog);
        }
        match self.trickling(dialog) {
            Some(Trickling::Underway { next, .. }) => {
                *next = Some(fragment);
                Ok(())
            }
            Some(Trickling::Idle) => {
                self.send_info(now, dialog, fragment);
                Ok(())
            }
            Some(Trickling::Refused) | None => Err(CommandRefused::WrongState),
        }
    }

    fn trickling(&mut self, dialog: &DialogId) -> Option<&mut Trickling> {
        let Infos(infos) = &mut self.calls.get_mut(&dialog.call)?.infos;
        infos.get_mut(&dialog.remote_tag)
    }

    fn send_info(&mut self, now: Instant, id: &DialogId, fragment: Vec<u8>) {
        let around = self.detour_of(id);
        let Some(dialog) = self.dialog_mut(id) else {
            return;
        };
        let mut info = dialog.request(Method::Info);
        let hop = Self::dialog_hop(dialog, around);
        info.headers.push(HeaderName::InfoPackage, PACKAGE);
        info.headers
            .push(HeaderName::ContentDisposition, "Info-Package");
        info.headers.push(HeaderName::ContentType, FRAGMENT);
        info.body = fragment;
        self.expect_answer(id);
        let purpose = Purpose::Info(id.clone());
        self.authorize(&purpose, &mut info);
        let key = self.client_key(&Method::Info);
        self.start_client(now, key, purpose, hop, info, Attempts::default());
    }

    /// An INFO or a PRACK goes out.
    pub(super) fn expect_answer(&mut self, id: &DialogId) {
        match self.trickling(id) {
            Some(Trickling::Underway { requests, .. }) => *requests += 1,
            Some(idle @ Trickling::Idle) => {
                *idle = Trickling::Underway {
                    requests: 1,
                    next: None,
                };
            }
            Some(Trickling::Refused) | None => {}
        }
    }

    /// One has its answer, or will never have it: what waited for it follows.
    fn answered(&mut self, now: Instant, id: &DialogId) {
        let Some(trickling) = self.trickling(id) else {
            return;
        };
        if let Trickling::Underway { requests, next } = trickling {
            *requests = requests.saturating_sub(1);
            if *requests > 0 {
                return;
            }
            let next = next.take();
            *trickling = Trickling::Idle;
            if let Some(fragment) = next {
                self.send_info(now, id, fragment);
            }
        }
    }

    pub(crate) fn prack_outcome(&mut self, now: Instant, id: &DialogId, outcome: &Outcome) {
        if !matches!(outcome, Outcome::Response(response) if response.status.is_provisional()) {
            self.answered(now, id);
        }
    }

    /// The way to a peer whose Contact is behind a NAT and that no proxy speaks for.
    fn detour_of(&self, id: &DialogId) -> Option<crate::transport::Flow> {
        let call = self.calls.get(&id.call)?;
        match (call.sessions.get(&id.remote_tag), &call.stage) {
            (Some(session), _) => session.detour,
            (None, Stage::Invited(invited)) => {
                detour(&invited.invite, &invited.dialog, invited.flow)
            }
            (None, _) => None,
        }
    }

    pub(crate) fn info_outcome(&mut self, now: Instant, id: &DialogId, outcome: &Outcome) {
        // No end of the dialog follows from a 408 or 481 (docs/deviations.md): the candidates
        // were an offer of help.
        let refused = match outcome {
            Outcome::Response(response) if response.status.is_provisional() => return,
            Outcome::Response(response) => {
                matches!(response.status.code(), 300..=407 | 409..=499 | 501 | 600..)
            }
            Outcome::TimedOut | Outcome::Failed(_) => false,
        };
        if refused && let Some(trickling) = self.trickling(id) {
            *trickling = Trickling::Refused;
        }
        self.answered(now, id);
    }

    /// The peer's INFO. One without a package is as it was before there were any: an empty one is
    /// answered (RFC 6086 section 2), and no body that it may have is understood here.
    pub(crate) fn handle_info(
        &mut self,
        now: Instant,
        key: &ServerKey,
        request: Request,
        dialog: DialogId,
    ) {
        let Some(package) = request.headers.get_bytes(HeaderName::InfoPackage) else {
            if request.body.is_empty() {
                return self.answer(now, key, &request, StatusCode::OK);
            }
            return self.refuse_info(now, key, &request, 415, (HeaderName::Accept, FRAGMENT));
        };
        if !self.config.ice || !is_our_package(package) {
            let taken = if self.config.ice { PACKAGE } else { "" };
            return self.refuse_info(now, key, &request, 469, (HeaderName::RecvInfo, taken));
        }
        let is_fragment = request
            .headers
            .content_type()
            .is_some_and(|media| media.is("application", "trickle-ice-sdpfrag"));
        if !is_fragment {
            return self.refuse_info(now, key, &request, 415, (HeaderName::Accept, FRAGMENT));
        }
        self.answer(now, key, &request, StatusCode::OK);
        self.events.push_back(SipEvent::Trickled {
            dialog,
            fragment: request.body,
        });
    }

    fn refuse_info(
        &mut self,
        now: Instant,
        key: &ServerKey,
        request: &Request,
        status: u16,
        (name, value): (HeaderName, &str),
    ) {
        if let Some(mut response) = self.response(key, request, status) {
            response.headers.push(name, value);
            self.respond(now, key, &response);
        }
    }
}

/// Parameters aside.
fn is_our_package(value: &[u8]) -> bool {
    let name = value.split(|b| *b == b';').next().unwrap_or_default();
    name.trim_ascii().eq_ignore_ascii_case(PACKAGE.as_bytes())
}
