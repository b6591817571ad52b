//! An INVITE without SDP: our offer goes in a response, the answer comes in the PRACK
//! (RFC 8839 section 7.1.2).

use std::time::Instant;

use ringtrue_ice::{Gate, Role, UnverifiedReason};
use ringtrue_sip::ProgressDelivery;
use ringtrue_sip::sdp::{self, Direction, IceSupport};

use super::incoming::{Agreement, FORK, Holding};
use super::keying::Go;
use super::offer::components;
use super::terms::Terms;
use super::{Call, Stage};
use crate::desk::Desk;
use crate::event::EndReason;
use crate::settings::{IceUse, RingWhen};

impl Call {
    /// An INVITE without SDP: the offer goes in a reliable 183 (RFC 8839 section 7.1.2). Without
    /// 100rel it has to wait for the 200, so nothing can be proven before the ringing.
    pub(super) fn offer_in_response(&mut self, desk: &mut Desk, now: Instant) {
        if desk.settings.ice != IceUse::Off {
            self.new_ice(desk, Role::Controlling);
        }
        self.begin_trickling(desk, now);
        let (Some(sockets), Some(handle)) = (&self.sockets, self.handle) else {
            return;
        };
        let local = self
            .session
            .describe(desk, sockets, self.ice.as_ref(), Direction::SendRecv);
        let body = sdp::offer(&local);
        let agreement = Agreement::Offered(Box::new(local));
        // An ordinary phone rings first, so its offer waits for the 200.
        if self.ice.is_some() && desk.settings.ring != RingWhen::AtOnce {
            let sent = desk.sip.progress_with_offer(now, handle, body.clone());
            if matches!(sent, Ok(ProgressDelivery::Reliable)) {
                self.stage = Stage::Holding(Holding::new(None, agreement));
                return;
            }
        }
        let gate = Gate::without_ice();
        match gate.open_unverified(UnverifiedReason::NoOffer, desk.unverified_policy()) {
            Ok(ring) => {
                let go = Go::unverified(None);
                self.alert(desk, now, (ring, go), agreement, Some(body), None);
            }
            Err(_) => self.refuse_for_want_of_ice(desk, now),
        }
    }

    /// The answer to an offer of ours: in the PRACK.
    pub(super) fn handle_late_answer(
        &mut self,
        desk: &mut Desk,
        now: Instant,
        body: Option<Vec<u8>>,
    ) {
        let Stage::Holding(Holding {
            agreement: Agreement::Offered(local),
            ..
        }) = &self.stage
        else {
            return;
        };
        let local = (**local).clone();
        let Some(Ok(terms)) = body
            .as_deref()
            .map(|body| Terms::of_answer(desk, now, &local, body))
        else {
            let text = "The answer holds no audio stream that this phone understands";
            self.reject(
                desk,
                now,
                EndReason::Incompatible,
                488,
                Some(text.to_owned()),
            );
            return;
        };
        let IceSupport::Supported(description) = terms.negotiated().ice.clone() else {
            self.ice = None;
            let gate = Gate::without_ice();
            let why = UnverifiedReason::PeerWithoutIce;
            match gate.open_unverified(why, desk.unverified_policy()) {
                Ok(ring) => {
                    let go = Go::unverified(terms.keys.as_ref());
                    let agreement = Agreement::Complete(Box::new(terms));
                    self.alert(desk, now, (ring, go), agreement, None, None);
                }
                Err(_) => self.refuse_for_want_of_ice(desk, now),
            }
            return;
        };
        let components = components(terms.negotiated());
        if terms.negotiated().rtcp_mux
            && let Some(sockets) = &mut self.sockets
        {
            sockets.close_rtcp(desk, now);
        }
        let started = self
            .ice
            .as_mut()
            .map(|ice| ice.start(now, FORK, description, components));
        if !matches!(started, Some(Ok(()))) {
            self.reject(desk, now, EndReason::Network, 500, None);
            return;
        }
        let gate = self.ice.as_ref().and_then(|ice| ice.gate(FORK));
        let agreement = Agreement::Complete(Box::new(terms));
        self.stage = Stage::Holding(Holding::new(gate, agreement));
        self.run_ice(desk, now);
    }
}
