//! Server transactions of the endpoint: recognising repetitions, repeating responses.

use std::time::Instant;

use super::{CallHandle, Endpoint};
use crate::message::{Headers, Method, Request, Response, Via};
use crate::transaction::{ServerAlarm, ServerInvite, ServerNonInvite};
use crate::transport::ReplyPath;

/// How many server transactions there may be; past this requests get 503 without one.
const MAX_SERVERS: usize = 2048;
/// How many bytes of what strangers sent, and is kept to be repeated, they may hold together: a
/// response copies the Vias and the Record-Routes of its request, and these may be 64 KiB.
const MAX_SERVER_BYTES: usize = 8 << 20;
/// What a response may have that its request has not, in bytes: a description of ours.
const LEVER: usize = 2_048;

/// What a request is matched by (RFC 3261 section 17.2.3).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ServerKey(String);

impl ServerKey {
    /// The key of a request; ACK belongs to its INVITE. `like` replaces the method: a CANCEL
    /// looks for its INVITE.
    pub(super) fn of(request: &Request, via: &Via, like: Option<&Method>) -> Self {
        let method = match like.unwrap_or(&request.method) {
            Method::Ack => Method::Invite,
            other => other.clone(),
        };
        let branch = via.branch().unwrap_or_default();
        if branch.starts_with("z9hG4bK") && branch.len() > 7 {
            let sent_by = format!("{}:{}", via.host, via.port.unwrap_or(5060));
            return Self(format!(
                "{branch} {} {method}",
                sent_by.to_ascii_lowercase()
            ));
        }
        // RFC 2543: the request itself is the key. To is left out, since an ACK's bears a tag.
        let headers = &request.headers;
        let from_tag = headers
            .from()
            .ok()
            .and_then(|from| from.tag().map(str::to_owned));
        Self(format!(
            "2543 {} {} {} {} {} {method}",
            request.uri,
            headers.call_id().unwrap_or_default(),
            from_tag.unwrap_or_default(),
            headers.cseq().map(|cseq| cseq.number).unwrap_or_default(),
            // Without what we add to it.
            format_args!("{} {:?} {branch}", via.host, via.port),
        ))
    }
}

/// What makes two requests the same one on two ways: RFC 3261 section 8.2.2.2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    call_id: String,
    from_tag: String,
    cseq: u32,
    method: Method,
}

impl Identity {
    pub(super) fn of(headers: &Headers) -> Option<Self> {
        let cseq = headers.cseq().ok()?;
        Some(Self {
            call_id: headers.call_id().ok()?,
            from_tag: headers.from().ok()?.tag().unwrap_or_default().to_owned(),
            cseq: cseq.number,
            method: cseq.method,
        })
    }
}

/// A server transaction.
#[derive(Debug)]
pub(crate) struct ServerTransaction {
    machine: Machine,
    reply: ReplyPath,
    pub(super) identity: Identity,
    /// The To tag of our responses.
    pub(super) tag: String,
    last: Option<Vec<u8>>,
    /// The call that an INVITE has led to.
    pub(super) call: Option<CallHandle>,
}

#[derive(Debug)]
enum Machine {
    Invite(ServerInvite),
    Other(ServerNonInvite),
}

impl ServerTransaction {
    pub(super) fn new(
        request: &Request,
        identity: Identity,
        reply: ReplyPath,
        tag: String,
    ) -> Self {
        let reliable = reply.flow.is_reliable();
        let machine = match request.method {
            Method::Invite => Machine::Invite(ServerInvite::new(reliable)),
            _ => Machine::Other(ServerNonInvite::new(reliable)),
        };
        Self {
            machine,
            reply,
            identity,
            tag,
            last: None,
            call: None,
        }
    }

    /// An INVITE without a final response so far.
    pub(super) fn is_proceeding_invite(&self) -> bool {
        matches!(&self.machine, Machine::Invite(machine) if machine.is_proceeding())
    }

    /// A refusal is repeated until its ACK comes.
    pub(super) fn awaits_ack(&self) -> bool {
        matches!(&self.machine, Machine::Invite(machine) if machine.awaits_ack())
    }

    /// How many bytes from the network it holds.
    fn weight(&self) -> usize {
        let Identity {
            call_id, from_tag, ..
        } = &self.identity;
        self.last.as_ref().map_or(0, Vec::len) + call_id.len() + from_tag.len()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match &self.machine {
            Machine::Invite(machine) => machine.poll_timeout(),
            Machine::Other(machine) => machine.poll_timeout(),
        }
    }

    fn is_terminated(&self) -> bool {
        match &self.machine {
            Machine::Invite(machine) => machine.is_terminated(),
            Machine::Other(machine) => machine.is_terminated(),
        }
    }
}

/// Whether a repetition is much shorter than its request was, and would bring about a response
/// that is much longer than itself. A response goes to where the first request seemed to come
/// from, so this is how a stranger would aim many bytes at somebody else for few of his own.
fn is_lever(repetition: &Request, transaction: &ServerTransaction) -> bool {
    let headers = repetition.headers.iter().map(|header| header.value().len());
    let size = headers.sum::<usize>() + repetition.body.len();
    let last = transaction.last.as_ref().map_or(0, Vec::len);
    last > 2 * size + LEVER
}

impl Endpoint {
    /// Whether there is room for one more server transaction.
    pub(super) fn servers_are_full(&self) -> bool {
        let keys = self.servers.keys().map(|key| key.0.len());
        let rest = self.servers.values().map(ServerTransaction::weight);
        self.servers.len() >= MAX_SERVERS || keys.chain(rest).sum::<usize>() > MAX_SERVER_BYTES
    }

    /// A request that was seen before. `false`: it is new.
    pub(super) fn is_repetition(
        &mut self,
        now: Instant,
        key: &ServerKey,
        request: &Request,
    ) -> bool {
        let Some(transaction) = self.servers.get_mut(key) else {
            return false;
        };
        let repeat = match &mut transaction.machine {
            Machine::Invite(machine) if request.method == Method::Ack => {
                if machine.is_proceeding() {
                    return true;
                }
                // After a 2xx this is the dialog's, should a peer send it on the same branch.
                if machine.awaits_user_ack() {
                    return false;
                }
                machine.handle_ack(now);
                false
            }
            Machine::Invite(machine) => machine.handle_retransmission(),
            Machine::Other(machine) => machine.handle_retransmission(),
        };
        let over = transaction.is_terminated();
        let repeat = repeat && !is_lever(request, transaction);
        if repeat && let Some(last) = transaction.last.clone() {
            let reply = transaction.reply.clone();
            self.transmit_reply(now, &reply, last);
        }
        if over {
            self.servers.remove(key);
        }
        true
    }

    /// Sends a response in its transaction. Where it went, so that a 2xx can be repeated there.
    pub(crate) fn respond(
        &mut self,
        now: Instant,
        key: &ServerKey,
        response: &Response,
    ) -> Option<(ReplyPath, Vec<u8>)> {
        let transaction = self.servers.get_mut(key)?;
        let may_leave = match &mut transaction.machine {
            Machine::Invite(machine) => machine.respond(now, response.status.code()),
            Machine::Other(machine) => response.status.is_final() && machine.respond(now),
        };
        if !may_leave {
            return None;
        }
        let reply = transaction.reply.clone();
        let mut response = response.clone();
        super::keep_secrets(reply.flow, &mut response.body);
        let payload = response.to_bytes();
        transaction.last = Some(payload.clone());
        if transaction.is_terminated() {
            self.servers.remove(key);
        }
        self.transmit_reply(now, &reply, payload.clone());
        Some((reply, payload))
    }

    /// Sends the latest provisional response once more.
    pub(crate) fn repeat_response(&mut self, now: Instant, key: &ServerKey, payload: Vec<u8>) {
        if let Some(transaction) = self.servers.get(key)
            && transaction.is_proceeding_invite()
        {
            let reply = transaction.reply.clone();
            self.transmit_reply(now, &reply, payload);
        }
    }

    /// Carries out the timers that are due.
    pub(super) fn server_timeouts(&mut self, now: Instant) {
        let due: Vec<ServerKey> = self
            .servers
            .iter()
            .filter(|(_, transaction)| transaction.poll_timeout().is_some_and(|at| at <= now))
            .map(|(key, _)| key.clone())
            .collect();
        for key in due {
            let Some(transaction) = self.servers.get_mut(&key) else {
                continue;
            };
            let alarm = match &mut transaction.machine {
                Machine::Invite(machine) => machine.handle_timeout(now),
                Machine::Other(machine) => {
                    machine.handle_timeout(now);
                    ServerAlarm::Nothing
                }
            };
            let over = transaction.is_terminated();
            // A refusal that is never acknowledged (timer H) ends in silence: the call is over.
            if alarm == ServerAlarm::Retransmit
                && let Some(last) = transaction.last.clone()
            {
                let reply = transaction.reply.clone();
                self.transmit_reply(now, &reply, last);
            }
            if over {
                self.servers.remove(&key);
            }
        }
    }

    /// When [`Self::server_timeouts`] is wanted next.
    pub(super) fn server_deadline(&self) -> Option<Instant> {
        self.servers
            .values()
            .filter_map(ServerTransaction::poll_timeout)
            .min()
    }
}
