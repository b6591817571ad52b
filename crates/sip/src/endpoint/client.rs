//! Client transactions of the endpoint: from a finished request to its outcome.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::client_transaction::{
    ClientKey, ClientTransaction, MAX_FORKS, Machine, Outcome, Purpose, Resort, Sent, Stage,
};
use super::{ConnectionId, Endpoint, LocalAddress, QueryId, SipTransmit};
use crate::auth::Attempts;
use crate::dns::{Families, Located, Locator, LookupResult};
use crate::message::{CSeq, HeaderName, Method, Request, Response};
use crate::transaction::{ClientAlarm, TIMEOUT};
use crate::transport::{Flow, Hop};

/// How many client transactions there may be: calls and dialogs are bounded, and so are these.
pub(super) const MAX_CLIENTS: usize = 1024;
/// How long a re-INVITE may be pending.
const REINVITE_PATIENCE: Duration = Duration::from_secs(180);
/// How long TCP, chosen for size alone, may be silent before UDP is taken after all.
pub(super) const TCP_SILENCE: Duration = Duration::from_secs(1);

impl Endpoint {
    /// A key for a new transaction: a branch that nobody can guess.
    pub(crate) fn client_key(&mut self, method: &Method) -> ClientKey {
        ClientKey {
            branch: format!("z9hG4bK{}", self.token()),
            method: method.as_str().to_owned(),
        }
    }

    /// Sends a request. The outcome goes to whom `purpose` names, perhaps at once.
    pub(crate) fn start_client(
        &mut self,
        now: Instant,
        key: ClientKey,
        purpose: Purpose,
        hop: Result<Hop, String>,
        request: Request,
        attempts: Attempts,
    ) {
        let hop = match hop.and_then(|hop| self.standing(hop)) {
            Ok(hop) => hop,
            Err(what) => return self.conclude(now, &key, &request, purpose, Outcome::Failed(what)),
        };
        if self.clients.len() >= MAX_CLIENTS {
            let what = "too many transactions are under way".to_owned();
            return self.conclude(now, &key, &request, purpose, Outcome::Failed(what));
        }
        let give_up = match purpose {
            // The first INVITE is the user's to give up.
            Purpose::Reinvite(_) => Some(now + REINVITE_PATIENCE),
            _ => None,
        };
        let known = self.known.get(now, &hop);
        let locator = self
            .take_ahead(&hop)
            .unwrap_or_else(|| Locator::new(hop.clone(), self.families(&hop), now));
        let transaction = ClientTransaction {
            purpose,
            request,
            hop,
            attempts,
            stage: Stage::Locating(locator),
            give_up,
            acks: BTreeMap::new(),
        };
        match known {
            Some(places) => self.dispatch(now, key, transaction, places),
            None => {
                self.clients.insert(key.clone(), transaction);
                self.locate(now, &key);
            }
        }
    }

    /// A hop whose connection stands, or else the one to take without it.
    fn standing(&self, hop: Hop) -> Result<Hop, String> {
        match hop.along {
            Some((connection, ref otherwise)) if !self.connections.is_alive(connection) => {
                let gone = || "the peer has closed its connection".to_owned();
                otherwise.as_deref().cloned().ok_or_else(gone)
            }
            _ => Ok(hop),
        }
    }

    /// Goes on looking for a transaction's next hop, and sends the request once that is found.
    fn locate(&mut self, now: Instant, key: &ClientKey) {
        let Some(transaction) = self.clients.get_mut(key) else {
            return;
        };
        let Stage::Locating(locator) = &mut transaction.stage else {
            return;
        };
        let (next_query, transmits) = (&mut self.next_query, &mut self.transmits);
        let located = locator.proceed(now, |kind, name| {
            let query = QueryId(*next_query);
            *next_query += 1;
            let name = name.to_owned();
            transmits.push_back(SipTransmit::Resolve { query, name, kind });
            query
        });
        match located {
            None => {}
            Some(Located::At(places)) => {
                if let Some(transaction) = self.clients.remove(key) {
                    self.known.insert(now, &transaction.hop, places.clone());
                    self.dispatch(now, key.clone(), transaction, places);
                }
            }
            Some(Located::Nowhere(what)) => self.give_up(now, key, Outcome::Failed(what)),
        }
    }

    /// The questions of requests are answered by the driver.
    pub(super) fn client_resolved(&mut self, now: Instant, query: QueryId, result: LookupResult) {
        let waiting = self
            .clients
            .iter_mut()
            .find_map(|(key, transaction)| match &mut transaction.stage {
                Stage::Locating(locator) if locator.awaits(query) => Some((key.clone(), locator)),
                _ => None,
            });
        if let Some((key, locator)) = waiting {
            locator.handle_resolved(query, result, &mut self.rng);
            self.locate(now, &key);
        }
    }

    /// Which addresses can be sent to: those of a family that a socket and an address of ours have.
    fn families(&self, hop: &Hop) -> Families {
        let config = &self.config;
        let socket = |v4: bool| {
            config.udp.is_empty() || config.udp.iter().any(|socket| socket.is_ipv4() == v4)
        };
        let is_v6 = |address: &&LocalAddress| match address.ip {
            IpAddr::V6(ip) => !ip.is_unicast_link_local(),
            IpAddr::V4(_) => false,
        };
        let mut v6 = config.addresses.iter().filter(is_v6);
        Families {
            v4: socket(true),
            // An address in a URI is the user's own choice.
            v6: socket(false) && (hop.host.ip().is_some() || v6.clone().next().is_some()),
            v6_first: v6.any(|address| address.default_route),
        }
    }

    /// A response has come.
    pub(super) fn handle_response(&mut self, now: Instant, response: Response, flow: Flow) {
        // RFC 3261 section 8.1.3.3: more than one Via, and it was meant for somebody else.
        let (Ok(vias), Ok(cseq)) = (response.headers.vias(), response.headers.cseq()) else {
            return;
        };
        let [via] = vias.as_slice() else { return };
        let key = ClientKey {
            branch: via.branch().unwrap_or_default().to_owned(),
            method: cseq.method.as_str().to_owned(),
        };
        let Some(transaction) = self.clients.get_mut(&key) else {
            return;
        };
        let Stage::Sent(sent) = &mut transaction.stage else {
            return;
        };
        self.peers.learn(via, flow);
        sent.resort = Resort::Nothing;
        sent.silent_at = None;
        let status = response.status.code();
        let step = sent.machine.handle_response(now, status);
        if step.ack {
            self.acknowledge_refusal(now, &key, &response);
        }
        if step.deliver {
            self.deliver(now, &key, response);
        }
        self.retire(&key);
    }

    fn deliver(&mut self, now: Instant, key: &ClientKey, response: Response) {
        let Some(transaction) = self.clients.get(key) else {
            return;
        };
        let status = response.status;
        if status.is_success() && transaction.request.method == Method::Invite {
            let tag = response
                .headers
                .to()
                .ok()
                .and_then(|to| to.tag().map(str::to_owned));
            let tag = tag.unwrap_or_default();
            if let Some((ack, hop)) = transaction.acks.get(&tag).cloned() {
                return self.send_ack(now, ack, hop);
            }
            if transaction.acks.len() >= MAX_FORKS {
                return;
            }
        }
        let purpose = transaction.purpose.clone();
        let request = transaction.request.clone();
        // RFC 3263 section 4.3: a 503 is a failure of this server alone.
        if status.code() == 503 && self.fail_over(now, key) {
            return;
        }
        if matches!(status.code(), 401 | 407) && self.answer_challenge(now, key, &response) {
            return;
        }
        self.conclude(now, key, &request, purpose, Outcome::Response(response));
    }

    /// Tells whoever waits.
    pub(super) fn conclude(
        &mut self,
        now: Instant,
        key: &ClientKey,
        request: &Request,
        purpose: Purpose,
        outcome: Outcome,
    ) {
        match purpose {
            Purpose::Invite(call) => self.invite_outcome(now, call, key, request, outcome),
            Purpose::Superseded(call) => match &outcome {
                Outcome::Response(response) if response.status.is_success() => {
                    self.invite_outcome(now, call, key, request, outcome);
                }
                Outcome::Response(response) if response.status.is_provisional() => {
                    self.start_cancel(now, key);
                }
                _ => {}
            },
            Purpose::Nobody | Purpose::Ahead { .. } => {}
            Purpose::Prack(dialog) => self.prack_outcome(now, &dialog, &outcome),
            Purpose::Bye(dialog) => self.bye_outcome(&dialog, &outcome),
            Purpose::Reinvite(dialog) => {
                self.reinvite_outcome(now, &dialog, key, request, outcome);
            }
            Purpose::Info(dialog) => self.info_outcome(now, &dialog, &outcome),
            Purpose::Register => self.register_outcome(now, request, outcome),
        }
    }

    /// The ACK that belongs to the transaction: RFC 3261 section 17.1.1.3.
    fn acknowledge_refusal(&mut self, now: Instant, key: &ClientKey, response: &Response) {
        let Some(transaction) = self.clients.get(key) else {
            return;
        };
        let Stage::Sent(sent) = &transaction.stage else {
            return;
        };
        let mut ack = same_branch(&transaction.request, Method::Ack);
        ack.headers.remove(HeaderName::To);
        ack.headers.copy(HeaderName::To, &response.headers);
        let flow = sent.flow;
        let name = transaction.hop.certified_name(flow.remote());
        self.transmit_to(now, flow, Some(&name), ack.to_bytes());
    }

    /// CANCEL: a transaction of its own on the INVITE's branch and way (section 9.1).
    pub(crate) fn start_cancel(&mut self, now: Instant, invite: &ClientKey) {
        let Some(transaction) = self.clients.get(invite) else {
            return;
        };
        let Stage::Sent(sent) = &transaction.stage else {
            return;
        };
        let cancel = same_branch(&transaction.request, Method::Cancel);
        let payload = cancel.to_bytes();
        let flow = sent.flow;
        let key = ClientKey {
            branch: invite.branch.clone(),
            method: Method::Cancel.as_str().to_owned(),
        };
        if self.clients.contains_key(&key) {
            return;
        }
        let transaction = ClientTransaction {
            purpose: Purpose::Nobody,
            request: cancel,
            hop: transaction.hop.clone(),
            attempts: Attempts::default(),
            stage: Stage::Sent(Sent {
                machine: Machine::new(&Method::Cancel, now, flow.is_reliable()),
                flow,
                payload: payload.clone(),
                others: Vec::new(),
                silent_at: None,
                resort: Resort::Nothing,
            }),
            give_up: None,
            acks: BTreeMap::new(),
        };
        let name = transaction.hop.certified_name(flow.remote());
        self.clients.insert(key, transaction);
        self.transmit_to(now, flow, Some(&name), payload);
    }

    /// Acknowledges a 2xx, and again whenever that fork repeats it.
    pub(crate) fn acknowledge(
        &mut self,
        now: Instant,
        invite: &ClientKey,
        tag: &str,
        mut ack: Request,
        hop: Result<Hop, String>,
    ) {
        let Ok(hop) = hop else {
            return;
        };
        if let Some(transaction) = self.clients.get_mut(invite) {
            // RFC 3261 section 22.1: with the credentials of the INVITE.
            for name in [HeaderName::Authorization, HeaderName::ProxyAuthorization] {
                ack.headers.copy(name, &transaction.request.headers);
            }
            let stored = (ack.clone(), hop.clone());
            transaction.acks.insert(tag.to_owned(), stored);
        }
        self.send_ack(now, ack, hop);
    }

    fn send_ack(&mut self, now: Instant, ack: Request, hop: Hop) {
        let key = self.client_key(&Method::Ack);
        let attempts = Attempts::default();
        self.start_client(now, key, Purpose::Nobody, Ok(hop), ack, attempts);
    }

    /// Whether the transaction still waits for its first response, or was not even sent.
    pub(crate) fn is_unanswered(&self, key: &ClientKey) -> bool {
        match self.clients.get(key).map(|transaction| &transaction.stage) {
            Some(Stage::Sent(sent)) => sent.machine.is_unanswered(),
            Some(Stage::Locating(_) | Stage::Unsent) => true,
            None => false,
        }
    }

    /// Drops an INVITE that nobody can have seen: its name is still being resolved, or its
    /// connection not open yet. Whether that was so.
    pub(crate) fn withdraw(&mut self, key: &ClientKey) -> bool {
        let unseen = match self.clients.get(key).map(|transaction| &transaction.stage) {
            Some(Stage::Locating(_) | Stage::Unsent) => true,
            Some(Stage::Sent(sent)) => match sent.flow {
                Flow::Stream { connection, .. } => {
                    !self.connections.is_open(connection) && self.users_of(connection) == 1
                }
                Flow::Udp { .. } => false,
            },
            None => false,
        };
        if !unseen {
            return false;
        }
        if let Some(transaction) = self.clients.remove(key)
            && let Stage::Sent(sent) = transaction.stage
            && let Flow::Stream { connection, .. } = sent.flow
        {
            self.connections.close(connection, &mut self.transmits);
        }
        true
    }

    /// How many transactions go by a connection.
    fn users_of(&self, id: ConnectionId) -> usize {
        let uses = |transaction: &&ClientTransaction| match &transaction.stage {
            Stage::Sent(sent) => sent.flow.connection() == Some(id),
            Stage::Locating(_) | Stage::Unsent => false,
        };
        self.clients.values().filter(uses).count()
    }

    /// Carries out the timers that are due.
    pub(super) fn client_timeouts(&mut self, now: Instant) {
        let due: Vec<ClientKey> = self
            .clients
            .iter()
            .filter(|(_, transaction)| transaction.poll_timeout().is_some_and(|at| at <= now))
            .map(|(key, _)| key.clone())
            .collect();
        for key in due {
            self.client_timeout(now, &key);
            self.retire(&key);
        }
    }

    fn client_timeout(&mut self, now: Instant, key: &ClientKey) {
        let Some(transaction) = self.clients.get_mut(key) else {
            return;
        };
        if transaction.is_pending() && transaction.give_up.is_some_and(|at| at <= now) {
            return self.give_up(now, key, Outcome::TimedOut);
        }
        let sent = match &mut transaction.stage {
            Stage::Sent(sent) => sent,
            Stage::Locating(locator) => {
                locator.handle_timeout(now, &mut self.rng);
                return self.locate(now, key);
            }
            Stage::Unsent => return,
        };
        if matches!(sent.resort, Resort::Udp { at } if at <= now) {
            return self.fall_back(now, key);
        }
        if sent.silent_at.is_some_and(|at| at <= now) {
            sent.silent_at = None;
            self.fail_over(now, key);
            return;
        }
        match sent.machine.handle_timeout(now) {
            ClientAlarm::Nothing => {}
            ClientAlarm::Retransmit => {
                let (flow, payload) = (sent.flow, sent.payload.clone());
                self.transmit(now, flow, payload);
            }
            ClientAlarm::TimedOut => {
                if !self.fail_over(now, key) {
                    self.give_up(now, key, Outcome::TimedOut);
                }
            }
        }
    }

    /// Nobody waits for the outcome any more; a refusal is still acknowledged for a while.
    pub(crate) fn abandon_client(&mut self, now: Instant, key: &ClientKey) {
        if let Some(transaction) = self.clients.get_mut(key) {
            transaction.give_up = Some(now + TIMEOUT);
        }
    }

    /// The transaction has failed.
    pub(super) fn give_up(&mut self, now: Instant, key: &ClientKey, outcome: Outcome) {
        if let Some(transaction) = self.clients.remove(key) {
            let purpose = transaction.purpose;
            self.conclude(now, key, &transaction.request, purpose, outcome);
        }
    }

    /// Forgets the transaction if it is over.
    fn retire(&mut self, key: &ClientKey) {
        let over = self.clients.get(key).is_some_and(|transaction| {
            matches!(&transaction.stage, Stage::Sent(sent) if sent.machine.is_terminated())
        });
        if let Some(Purpose::Invite(call)) = over
            .then(|| self.clients.remove(key))
            .flatten()
            .map(|transaction| transaction.purpose)
        {
            self.invite_over(call, key);
        }
    }

    /// When [`Self::client_timeouts`] is wanted next.
    pub(super) fn client_deadline(&self) -> Option<Instant> {
        self.clients
            .values()
            .filter_map(ClientTransaction::poll_timeout)
            .min()
    }
}

/// A CANCEL or ACK that belongs to an INVITE: same Request-URI, topmost Via, Route, From, To,
/// Call-ID and CSeq number (RFC 3261 sections 9.1 and 17.1.1.3).
fn same_branch(invite: &Request, method: Method) -> Request {
    let mut request = Request::new(method.clone(), invite.uri.clone());
    for name in [
        HeaderName::Via,
        HeaderName::Route,
        HeaderName::MaxForwards,
        HeaderName::From,
        HeaderName::To,
        HeaderName::CallId,
        HeaderName::UserAgent,
    ] {
        request.headers.copy(name, &invite.headers);
    }
    if let Ok(CSeq { number, .. }) = invite.headers.cseq() {
        let cseq = CSeq { number, method };
        request.headers.push(HeaderName::CSeq, cseq.to_string());
    }
    request
}
