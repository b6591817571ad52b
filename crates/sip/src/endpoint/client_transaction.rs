//! What a client transaction is: request, way, machine, and who waits for the outcome.

use std::collections::BTreeMap;
use std::time::Instant;

use super::{CallHandle, DialogId};
use crate::auth::Attempts;
use crate::dns::{Locator, Place};
use crate::message::{Method, Request, Response};
use crate::transaction::{ClientAlarm, ClientInvite, ClientNonInvite, ClientStep};
use crate::transport::{Flow, Hop};

/// How many forks of one INVITE are acknowledged and followed.
pub(crate) const MAX_FORKS: usize = 16;

/// What a response is matched by (RFC 3261 section 17.1.3).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ClientKey {
    pub(super) branch: String,
    pub(super) method: String,
}

impl ClientKey {
    /// The same request, or a CANCEL and what it cancels.
    pub(crate) fn is_same_branch(&self, other: &Self) -> bool {
        self.branch == other.branch
    }
}

/// Who waits for the outcome of a client transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Purpose {
    Invite(CallHandle),
    /// An INVITE that went on to another server, because this one was silent: should it answer
    /// after all, it is cancelled.
    Superseded(CallHandle),
    /// CANCEL, and the ACK to a 2xx: nobody waits.
    Nobody,
    /// Nothing is sent: the next hop is made ready for a request to come, a large one perhaps.
    Ahead {
        large: bool,
    },
    Prack(DialogId),
    Bye(DialogId),
    Reinvite(DialogId),
    Info(DialogId),
    Register,
}

/// What became of a request.
#[derive(Debug)]
pub(crate) enum Outcome {
    Response(Response),
    TimedOut,
    Failed(String),
}

/// A client transaction.
#[derive(Debug)]
pub(crate) struct ClientTransaction {
    pub(super) purpose: Purpose,
    pub(super) request: Request,
    pub(super) hop: Hop,
    pub(super) attempts: Attempts,
    pub(super) stage: Stage,
    /// When a final response is not waited for any longer: an INVITE has no timer of its own once
    /// a provisional response has come.
    pub(super) give_up: Option<Instant>,
    /// The ACK to each 2xx by its To tag, to be repeated with it (RFC 3261 section 13.2.2.4).
    pub(super) acks: BTreeMap<String, (Request, Hop)>,
}

#[derive(Debug)]
pub(super) enum Stage {
    /// Its next hop is being looked for.
    Locating(Locator),
    /// About to be sent.
    Unsent,
    Sent(Sent),
}

#[derive(Debug)]
pub(super) struct Sent {
    pub(super) machine: Machine,
    pub(super) flow: Flow,
    pub(super) payload: Vec<u8>,
    /// Further places of the next hop, and when the first of these is tried, unless something is
    /// heard before.
    pub(super) others: Vec<Place>,
    pub(super) silent_at: Option<Instant>,
    pub(super) resort: Resort,
}

/// What is left to try when a connection fails before any response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resort {
    Nothing,
    /// TCP was chosen for size alone: UDP, at the latest at this time.
    Udp {
        at: Instant,
    },
    /// An old connection was reused; it may have been dead already: a new one.
    Reconnect,
}

#[derive(Debug)]
pub(super) enum Machine {
    Invite(ClientInvite),
    Other(ClientNonInvite),
    /// An ACK to a 2xx is no transaction: sent once.
    Ack,
}

impl Machine {
    pub(super) fn new(method: &Method, now: Instant, reliable: bool) -> Self {
        match method {
            Method::Invite => Self::Invite(ClientInvite::new(now, reliable)),
            Method::Ack => Self::Ack,
            _ => Self::Other(ClientNonInvite::new(now, reliable)),
        }
    }

    pub(super) fn handle_response(&mut self, now: Instant, status: u16) -> ClientStep {
        match self {
            Self::Invite(machine) => machine.handle_response(now, status),
            Self::Other(machine) => machine.handle_response(now, status),
            Self::Ack => ClientStep {
                deliver: false,
                ack: false,
            },
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) -> ClientAlarm {
        match self {
            Self::Invite(machine) => machine.handle_timeout(now),
            Self::Other(machine) => machine.handle_timeout(now),
            Self::Ack => ClientAlarm::Nothing,
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Self::Invite(machine) => machine.poll_timeout(),
            Self::Other(machine) => machine.poll_timeout(),
            Self::Ack => None,
        }
    }

    /// No response at all so far.
    pub(super) fn is_unanswered(&self) -> bool {
        match self {
            Self::Invite(machine) => machine.is_calling(),
            Self::Other(machine) => machine.is_unanswered(),
            Self::Ack => false,
        }
    }

    pub(super) fn is_terminated(&self) -> bool {
        match self {
            Self::Invite(machine) => machine.is_terminated(),
            Self::Other(machine) => machine.is_terminated(),
            Self::Ack => true,
        }
    }
}

impl ClientTransaction {
    /// Somebody waits for the final response.
    pub(super) fn is_awaited(&self) -> bool {
        let unawaited = matches!(self.purpose, Purpose::Superseded(_) | Purpose::Ahead { .. });
        !unawaited && self.is_pending()
    }

    /// A final response is still to come.
    pub(super) fn is_pending(&self) -> bool {
        match &self.stage {
            Stage::Locating(_) | Stage::Unsent => true,
            Stage::Sent(sent) => match &sent.machine {
                Machine::Invite(machine) => machine.is_pending(),
                Machine::Other(machine) => machine.is_pending(),
                Machine::Ack => false,
            },
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Locating(locator) => locator.poll_timeout(),
            Stage::Unsent => None,
            Stage::Sent(sent) => {
                let resort = match sent.resort {
                    Resort::Udp { at } => Some(at),
                    Resort::Nothing | Resort::Reconnect => None,
                };
                let give_up = self.give_up.filter(|_| self.is_pending());
                let machine = sent.machine.poll_timeout();
                let all = [resort, give_up, machine, sent.silent_at];
                all.into_iter().flatten().min()
            }
        }
    }
}
