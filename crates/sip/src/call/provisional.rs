//! 183 and 180: RFC 3262, RFC 8839 section 7.1, RFC 3261 section 13.3.1.1.

use std::time::{Duration, Instant};

use ringtrue_ice::Ring;

use super::invited::{Delivery, Description, Invited, Reliability};
use super::{REMINDER, put_sdp, sdp_of};
use crate::endpoint::{
    CallHandle, CommandRefused, DialogId, Endpoint, IcePeer, ProgressDelivery, ServerKey, SipEvent,
};
use crate::message::{HeaderName, Request, Response, StatusCode};
use crate::transaction::{Backoff, TIMEOUT};

/// RFC 8839 section 7.1.1: to a lite peer the 183 is sent four times.
const LITE_REPETITIONS: u32 = 3;

/// How a provisional response is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Reliable,
    /// Repeated so many times at most.
    Repeated(u32),
    Once,
}

impl Endpoint {
    /// Sends the SDP answer in a 183, by PRACK or by repetition as the caller and `peer` allow.
    ///
    /// # Errors
    /// The call is unknown, or has an answer already.
    pub fn progress(
        &mut self,
        now: Instant,
        call: CallHandle,
        body: Vec<u8>,
        peer: IcePeer,
    ) -> Result<ProgressDelivery, CommandRefused> {
        let invited = self.undescribed(call)?;
        let manner = match (invited.reliability, peer) {
            (Reliability::Supported | Reliability::Required, _) => Manner::Reliable,
            (Reliability::Unknown, IcePeer::Full) => Manner::Repeated(u32::MAX),
            (Reliability::Unknown, IcePeer::Lite) => Manner::Repeated(LITE_REPETITIONS),
            (Reliability::Unknown, IcePeer::Absent) => Manner::Once,
        };
        invited.description = match manner {
            Manner::Reliable => Description::Reliable,
            Manner::Repeated(_) | Manner::Once => Description::Repeatable(body.clone()),
        };
        self.send_progress(now, call, &body, manner);
        Ok(match manner {
            Manner::Reliable => ProgressDelivery::Reliable,
            Manner::Repeated(_) | Manner::Once => ProgressDelivery::Repeated,
        })
    }

    /// To an INVITE without SDP: our offer, in a reliable 183 if the caller supports 100rel
    /// (its answer comes with `Pracked`), else later in the 200 (it comes with `Confirmed`).
    ///
    /// # Errors
    /// The call is unknown, or has an offer already.
    pub fn progress_with_offer(
        &mut self,
        now: Instant,
        call: CallHandle,
        body: Vec<u8>,
    ) -> Result<ProgressDelivery, CommandRefused> {
        let invited = self.undescribed(call)?;
        if invited.reliability == Reliability::Unknown {
            // RFC 3261 section 13.2.1: an offer goes in a reliable response or in the 2xx.
            invited.description = Description::WaitingOffer(body);
            return Ok(ProgressDelivery::WaitsForAccept);
        }
        invited.description = Description::Reliable;
        self.send_progress(now, call, &body, Manner::Reliable);
        Ok(ProgressDelivery::Reliable)
    }

    fn undescribed(&mut self, call: CallHandle) -> Result<&mut Invited, CommandRefused> {
        if !self.calls.contains_key(&call) {
            return Err(CommandRefused::UnknownCall);
        }
        self.invited(call)
            .filter(|invited| {
                invited.description == Description::Missing && invited.delivery == Delivery::Settled
            })
            .ok_or(CommandRefused::WrongState)
    }

    fn send_progress(&mut self, now: Instant, call: CallHandle, body: &[u8], manner: Manner) {
        if let Some(mut response) = self.provisional_response(call, StatusCode::SESSION_PROGRESS) {
            put_sdp(&mut response.headers, &mut response.body, body);
            self.send_provisional(now, call, response, manner);
        }
    }

    fn provisional_response(&mut self, call: CallHandle, status: StatusCode) -> Option<Response> {
        let invited = self.invited(call)?;
        let (key, flow) = (invited.key.clone(), invited.flow);
        let request = invited.invite.clone();
        self.dialog_response(&key, &request, flow, status)
    }

    fn send_provisional(
        &mut self,
        now: Instant,
        call: CallHandle,
        mut response: Response,
        manner: Manner,
    ) {
        let Some(invited) = self.invited(call) else {
            return;
        };
        invited.latest = Some(response.clone());
        invited.reminder = now + REMINDER;
        let rseq = invited.next_rseq;
        if manner == Manner::Reliable {
            invited.next_rseq = rseq.wrapping_add(1);
            response.headers.push(HeaderName::Require, "100rel");
            response.headers.push(HeaderName::RSeq, rseq.to_string());
        }
        let key = invited.key.clone();
        let Some((_, payload)) = self.respond(now, &key, &response) else {
            return;
        };
        // RFC 3262 section 3: T1, doubled each time, without the bound of T2.
        let backoff = Backoff::new(now, Duration::MAX);
        let delivery = match manner {
            Manner::Reliable => Delivery::Reliable {
                rseq,
                payload,
                backoff,
                give_up: now + TIMEOUT,
                has_sdp: !response.body.is_empty(),
            },
            Manner::Repeated(left) => Delivery::Repeated {
                payload,
                backoff,
                until: now + TIMEOUT,
                left,
            },
            // A 180 does not end the repetition of the 183 before it.
            Manner::Once => return,
        };
        if let Some(invited) = self.invited(call) {
            invited.delivery = delivery;
        }
    }

    /// The 183 has arrived, as a Binding request shows: no more repetitions.
    ///
    /// # Errors
    /// The call is unknown or answered.
    pub fn stop_progress(&mut self, call: CallHandle) -> Result<(), CommandRefused> {
        if !self.calls.contains_key(&call) {
            return Err(CommandRefused::UnknownCall);
        }
        let invited = self.invited(call).ok_or(CommandRefused::WrongState)?;
        if matches!(invited.delivery, Delivery::Repeated { .. }) {
            invited.delivery = Delivery::Settled;
        }
        Ok(())
    }

    /// The user is being alerted: 180. There is no other way to send one.
    ///
    /// It is reliable only under `Require: 100rel`, waits for the PRACK of a reliable 183, and is
    /// repeated each minute.
    ///
    /// # Errors
    /// The call is unknown, answered or cancelled.
    pub fn ring(
        &mut self,
        now: Instant,
        call: CallHandle,
        ring: &Ring,
    ) -> Result<(), CommandRefused> {
        if !self.calls.contains_key(&call) {
            return Err(CommandRefused::UnknownCall);
        }
        let response = self.ringing(call, ring).ok_or(CommandRefused::WrongState)?;
        let invited = self.invited(call).ok_or(CommandRefused::WrongState)?;
        if invited.awaits_prack() {
            invited.waiting_ring = Some(response);
        } else {
            self.send_ringing(now, call, response);
        }
        Ok(())
    }

    /// The one place where a 180 to an INVITE is made: it costs a [`Ring`].
    fn ringing(&mut self, call: CallHandle, _: &Ring) -> Option<Response> {
        self.provisional_response(call, StatusCode::RINGING)
    }

    fn send_ringing(&mut self, now: Instant, call: CallHandle, response: Response) {
        let Some(invited) = self.invited(call) else {
            return;
        };
        let manner = match invited.reliability {
            Reliability::Required => Manner::Reliable,
            Reliability::Unknown | Reliability::Supported => Manner::Once,
        };
        self.send_provisional(now, call, response, manner);
    }

    /// A PRACK inside of an early dialog (RFC 3262 section 3).
    pub(crate) fn handle_prack(
        &mut self,
        now: Instant,
        key: &ServerKey,
        request: &Request,
        id: &DialogId,
    ) {
        let call = id.call;
        let expected = self.invited(call).and_then(|invited| {
            let rack = request.headers.rack().ok()?;
            let cseq = invited.invite.headers.cseq().ok()?;
            match invited.delivery {
                Delivery::Reliable { rseq, has_sdp, .. }
                    if rack.rseq == rseq && rack.cseq == cseq =>
                {
                    Some(has_sdp)
                }
                _ => None,
            }
        });
        let Some(has_sdp) = expected else {
            return self.answer(now, key, request, StatusCode::CALL_DOES_NOT_EXIST);
        };
        let body = sdp_of(&request.headers, &request.body);
        let Some(invited) = self.invited(call) else {
            return;
        };
        let had_offer = invited.invite.body.is_empty();
        invited.delivery = Delivery::Settled;
        let waiting_ring = invited.waiting_ring.take();
        let waiting_accept = invited.waiting_accept;
        if body.is_some() && !had_offer {
            // A new offer (RFC 3262 section 5): the session is not changed this way here, but
            // the response has arrived.
            self.answer_code(now, key, request, 488);
        } else {
            self.answer(now, key, request, StatusCode::OK);
        }
        if has_sdp {
            let body = body.filter(|_| had_offer);
            self.events.push_back(SipEvent::Pracked { call, body });
        }
        if let Some(response) = waiting_ring {
            // Before the 200, if that has waited as well: ringing comes before the answer.
            self.send_ringing(now, call, response);
        }
        let rings_reliably = self.invited(call).is_some_and(|i| i.awaits_prack());
        if waiting_accept && !rings_reliably {
            self.send_accept(now, call, None);
        }
    }

    /// Repeats what has to be repeated while the INVITE waits.
    pub(super) fn invited_timeout(&mut self, now: Instant, call: CallHandle) {
        let Some(invited) = self.invited(call) else {
            return;
        };
        let key = invited.key.clone();
        let mut repeat = None;
        match &mut invited.delivery {
            Delivery::Settled => {}
            Delivery::Reliable { give_up, .. } if *give_up <= now => {
                return self.prack_missing(now, call);
            }
            Delivery::Reliable {
                payload, backoff, ..
            } => {
                if backoff.fires(now) {
                    repeat = Some(payload.clone());
                }
            }
            Delivery::Repeated {
                payload,
                backoff,
                until,
                left,
            } => {
                if *until <= now || *left == 0 {
                    // RFC 8839 section 7.1.1: the session is not given up for that.
                    invited.delivery = Delivery::Settled;
                } else if backoff.fires(now) {
                    repeat = Some(payload.clone());
                    *left -= 1;
                    if *left == 0 {
                        invited.delivery = Delivery::Settled;
                    }
                }
            }
        }
        if let Some(payload) = repeat {
            self.repeat_response(now, &key, payload);
        }
        self.remind(now, call);
    }

    /// Lest a proxy give up, the latest provisional response is sent each minute.
    fn remind(&mut self, now: Instant, call: CallHandle) {
        let Some(invited) = self.invited(call) else {
            return;
        };
        if invited.reminder > now {
            return;
        }
        invited.reminder = now + REMINDER;
        if matches!(invited.delivery, Delivery::Reliable { .. }) {
            return;
        }
        let Some(latest) = invited.latest.clone() else {
            return;
        };
        if invited.reliability == Reliability::Required {
            self.send_provisional(now, call, latest, Manner::Reliable);
        } else {
            let key = invited.key.clone();
            self.repeat_response(now, &key, latest.to_bytes());
        }
    }

    /// RFC 3262 section 3: no PRACK for 64*T1, so the INVITE is refused with a 5xx.
    fn prack_missing(&mut self, now: Instant, call: CallHandle) {
        if let Some(key) = self.invited_key(call)
            && let Some(request) = self.invited(call).map(|invited| invited.invite.clone())
        {
            self.answer_code(now, &key, &request, 504);
        }
        self.calls.remove(&call);
        self.events.push_back(SipEvent::TimedOut { call });
    }
}
