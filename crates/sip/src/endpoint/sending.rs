//! How requests leave: sockets, Via and Contact, the switch between UDP and TCP.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::client::{MAX_CLIENTS, TCP_SILENCE};
use super::client_transaction::{
    ClientKey, ClientTransaction, Machine, Outcome, Purpose, Resort, Sent, Stage,
};
use super::{ConnectionId, Endpoint, SipTransmit};
use crate::dns::Place;
use crate::message::{HeaderName, Method, NameAddr, Request, Via};
use crate::transaction::TIMEOUT;
use crate::transport::{Flow, Hop, Named, Protocol, ReplyPath, host_towards, socket_towards};
use crate::uri::{Host, Scheme, Uri};

/// Above this a request goes by TCP, the path's MTU being unknown (RFC 3261 section 18.1.1).
pub(crate) const MAX_DATAGRAM: usize = 1300;
/// How long a server may be silent before the next one is tried. RFC 3263 section 4.3 would wait
/// for the transaction's timeout, 32 s; by now a request has been sent four times.
const SILENCE: Duration = Duration::from_secs(4);

impl Endpoint {
    /// Sends a transaction's request to the first of its places.
    pub(super) fn dispatch(
        &mut self,
        now: Instant,
        key: ClientKey,
        mut transaction: ClientTransaction,
        places: Vec<Place>,
    ) {
        let Some((place, others)) = places.split_first() else {
            return;
        };
        if let Purpose::Ahead { large } = transaction.purpose {
            return self.connect_ahead(now, *place, &transaction.hop, large);
        }
        match self.choose_way(now, &key, &mut transaction, *place) {
            Ok((flow, payload, resort)) => {
                let is_ack = transaction.request.method == Method::Ack;
                let machine = Machine::new(&transaction.request.method, now, flow.is_reliable());
                self.note_flow(&transaction.purpose, flow);
                let may_fail_over =
                    matches!(transaction.purpose, Purpose::Invite(_) | Purpose::Register)
                        && !others.is_empty();
                transaction.stage = Stage::Sent(Sent {
                    machine,
                    flow,
                    payload: payload.clone(),
                    others: others.to_vec(),
                    silent_at: may_fail_over.then(|| now + SILENCE),
                    resort,
                });
                if !is_ack {
                    self.clients.insert(key, transaction);
                }
                self.transmit(now, flow, payload);
            }
            Err(_) if !others.is_empty() => self.dispatch(now, key, transaction, others.to_vec()),
            Err(what) => {
                let purpose = transaction.purpose;
                let outcome = Outcome::Failed(what);
                self.conclude(now, &key, &transaction.request, purpose, outcome);
            }
        }
    }

    /// The server has failed, or is silent: a new transaction with the next one (RFC 3263 section
    /// 4.3). `false`: there is no other, or nobody wants it any more.
    pub(super) fn fail_over(&mut self, now: Instant, key: &ClientKey) -> bool {
        let Some(transaction) = self.clients.get_mut(key) else {
            return false;
        };
        let Stage::Sent(sent) = &mut transaction.stage else {
            return false;
        };
        let others = std::mem::take(&mut sent.others);
        let (remote, protocol) = (sent.flow.remote(), sent.flow.protocol());
        let purpose = transaction.purpose.clone();
        let next = ClientTransaction {
            purpose: purpose.clone(),
            request: transaction.request.clone(),
            hop: transaction.hop.clone(),
            attempts: transaction.attempts.clone(),
            stage: Stage::Unsent,
            give_up: transaction.give_up,
            acks: BTreeMap::new(),
        };
        if others.is_empty() || self.is_unwanted(&purpose) || self.clients.len() >= MAX_CLIENTS {
            return false;
        }
        self.known.failed(&next.hop, remote, protocol);
        let new_key = self.client_key(&next.request.method);
        match (&purpose, self.clients.get_mut(key)) {
            // It may have been seen: a late answer is not to ring anywhere for ever.
            (Purpose::Invite(call), Some(old)) => {
                old.purpose = Purpose::Superseded(*call);
                old.give_up = Some(now + TIMEOUT);
            }
            _ => {
                self.clients.remove(key);
            }
        }
        self.rename(&purpose, &new_key);
        self.dispatch(now, new_key, next, others);
        true
    }

    /// The flow to a place, the request printed for it, and what to do should it fail.
    fn choose_way(
        &mut self,
        now: Instant,
        key: &ClientKey,
        transaction: &mut ClientTransaction,
        place: Place,
    ) -> Result<(Flow, Vec<u8>, Resort), String> {
        let to = place.address;
        if place.protocol.is_stream() {
            let (flow, reused) = self.stream_flow(now, place, &transaction.hop)?;
            let payload = self.print(key, transaction, flow, place.fixed);
            let resort = if reused {
                Resort::Reconnect
            } else {
                Resort::Nothing
            };
            return Ok((flow, payload, resort));
        }
        let flow = self.udp_flow(to)?;
        let mut payload = self.print(key, transaction, flow, false);
        if payload.len() > MAX_DATAGRAM {
            let compact = transaction.request.to_compact_bytes();
            if compact.len() <= MAX_DATAGRAM {
                payload = compact;
            }
        }
        let too_large = payload.len() > MAX_DATAGRAM
            && !place.fixed
            && transaction.request.method != Method::Ack
            && self.peers.may_have_tcp(now, to);
        let by_tcp = Place {
            protocol: Protocol::Tcp,
            ..place
        };
        if too_large && let Ok((flow, _)) = self.stream_flow(now, by_tcp, &transaction.hop) {
            let payload = self.print(key, transaction, flow, false);
            let since = match flow {
                Flow::Stream { connection, .. } => self.connections.connecting_since(connection),
                Flow::Udp { .. } => None,
            };
            let at = since.unwrap_or(now) + TCP_SILENCE;
            return Ok((flow, payload, Resort::Udp { at }));
        }
        Ok((flow, payload, Resort::Nothing))
    }

    fn udp_flow(&self, to: SocketAddr) -> Result<Flow, String> {
        socket_towards(&self.config.udp, &self.config.addresses, to.ip())
            .map(|local| Flow::Udp { local, remote: to })
            .ok_or_else(|| format!("no UDP socket reaches {to}"))
    }

    /// A connection, and whether it was there before.
    pub(super) fn stream_flow(
        &mut self,
        now: Instant,
        place: Place,
        hop: &Hop,
    ) -> Result<(Flow, bool), String> {
        let (to, secure) = (place.address, place.protocol == Protocol::Tls);
        if let Some((connection, _)) = hop.along {
            let flow = Flow::Stream {
                connection,
                remote: to,
                secure,
            };
            return Ok((flow, true));
        }
        let before = self.transmits.len();
        let name = secure.then(|| hop.certified_name(to));
        let connection = self
            .connections
            .reach(now, to, name.as_deref(), &mut self.transmits)
            .ok_or_else(|| "too many connections are open".to_owned())?;
        let is_new = self.transmits.iter().skip(before).any(
            |transmit| matches!(transmit, SipTransmit::Connect { connection: id, .. } if *id == connection),
        );
        let flow = Flow::Stream {
            connection,
            remote: to,
            secure,
        };
        Ok((flow, !is_new))
    }

    /// TCP was refused or silent: the same request on the same branch by UDP, so that a peer
    /// that saw the first takes the second for a repetition.
    pub(super) fn fall_back(&mut self, now: Instant, key: &ClientKey) {
        let Some(mut transaction) = self.clients.remove(key) else {
            return;
        };
        let Stage::Sent(sent) = &transaction.stage else {
            return;
        };
        let to = sent.flow.remote();
        self.peers.tcp_failed(now, to);
        let unopened = match sent.flow {
            Flow::Stream { connection, .. } if !self.connections.is_open(connection) => {
                Some(connection)
            }
            _ => None,
        };
        let mut places = vec![Place {
            address: to,
            protocol: Protocol::Udp,
            fixed: false,
        }];
        places.extend_from_slice(&sent.others);
        transaction.stage = Stage::Unsent;
        self.dispatch(now, key.clone(), transaction, places);
        // Should it open after all, the request must not leave a second time.
        if let Some(connection) = unopened
            && self.connections.is_alive(connection)
        {
            self.connections.close(connection, &mut self.transmits);
            self.clients_lost(now, connection, Some("no answer"));
        }
    }

    /// A connection has gone; what was sent on it without an answer goes another way.
    pub(super) fn clients_lost(&mut self, now: Instant, lost: ConnectionId, refused: Option<&str>) {
        let hit: Vec<ClientKey> = self
            .clients
            .iter()
            .filter(|(_, transaction)| match &transaction.stage {
                Stage::Sent(sent) => {
                    sent.flow.connection() == Some(lost) && sent.machine.is_unanswered()
                }
                Stage::Locating(_) | Stage::Unsent => false,
            })
            .map(|(key, _)| key.clone())
            .collect();
        for key in hit {
            self.client_lost(now, &key, refused);
        }
    }

    fn client_lost(&mut self, now: Instant, key: &ClientKey, refused: Option<&str>) {
        let Some(transaction) = self.clients.get(key) else {
            return;
        };
        let Stage::Sent(sent) = &transaction.stage else {
            return;
        };
        let (remote, protocol) = (sent.flow.remote(), sent.flow.protocol());
        match sent.resort {
            Resort::Udp { .. } => return self.fall_back(now, key),
            Resort::Reconnect if refused.is_none() => {
                let mut places = vec![Place {
                    address: remote,
                    protocol,
                    fixed: true,
                }];
                places.extend_from_slice(&sent.others);
                if let Some(transaction) = self.clients.remove(key) {
                    self.reconnect(now, key.clone(), transaction, places);
                }
                return;
            }
            Resort::Reconnect | Resort::Nothing => {}
        }
        if !self.fail_over(now, key) {
            let what = match refused {
                // It says what about the certificate or the handshake was wrong.
                Some(error) if protocol == Protocol::Tls => error.to_owned(),
                Some(_) => format!("{remote} has refused the connection"),
                None => format!("{remote} has closed the connection"),
            };
            self.give_up(now, key, Outcome::Failed(what));
        } else if refused.is_some() {
            // Nobody has seen it.
            self.clients.remove(key);
        }
    }

    /// A connection that was reused had died meanwhile: a new one, or another way where the peer
    /// had opened the old one.
    fn reconnect(
        &mut self,
        now: Instant,
        key: ClientKey,
        mut transaction: ClientTransaction,
        places: Vec<Place>,
    ) {
        match transaction.hop.along.take() {
            None => self.dispatch(now, key, transaction, places),
            Some((_, otherwise)) => {
                let hop = otherwise
                    .map(|hop| *hop)
                    .ok_or_else(|| "the peer has closed its connection".to_owned());
                let ClientTransaction {
                    purpose,
                    request,
                    attempts,
                    ..
                } = transaction;
                self.start_client(now, key, purpose, hop, request, attempts);
            }
        }
    }

    /// Via, Max-Forwards, Contact: what depends on the way. Then the bytes.
    fn print(
        &mut self,
        key: &ClientKey,
        transaction: &mut ClientTransaction,
        flow: Flow,
        fixed: bool,
    ) -> Vec<u8> {
        let (host, port) = self.sent_by(flow.remote().ip(), flow.protocol());
        let mut via = Via::new(flow.protocol().name(), host.into(), Some(port), &key.branch);
        via.params.set("rport", None);
        let named = match flow.protocol() {
            Protocol::Tcp if fixed => Named::Tcp,
            // RFC 3261 section 8.1.1.8.
            Protocol::Tls if transaction.hop.secure => Named::Sips,
            Protocol::Tls => Named::Tls,
            Protocol::Udp | Protocol::Tcp => Named::Any,
        };
        let contact = match transaction.request.method {
            Method::Invite => Some(self.contact(flow, named).to_string()),
            Method::Register => {
                let uri = self.contact_uri(flow, named);
                Some(self.register_contact(uri))
            }
            _ => None,
        };
        let headers = &mut transaction.request.headers;
        headers.remove(HeaderName::Via);
        headers.insert_front(HeaderName::Via, via.to_string());
        if !headers.contains(HeaderName::MaxForwards) {
            headers.push(HeaderName::MaxForwards, "70");
            headers.push(HeaderName::UserAgent, &self.config.user_agent);
        }
        if let Some(contact) = contact {
            headers.set(HeaderName::Contact, contact);
        }
        super::keep_secrets(flow, &mut transaction.request.body);
        transaction.request.to_bytes()
    }

    /// What waits for a connection is printed anew, now that our end of it is known, which may be
    /// the only place where we are reached.
    pub(super) fn print_again(&mut self, connection: ConnectionId) {
        let waits = |transaction: &ClientTransaction| match &transaction.stage {
            Stage::Sent(sent) => sent.flow.connection() == Some(connection),
            Stage::Locating(_) | Stage::Unsent => false,
        };
        let mut waiting = self.clients.iter();
        let keys: Vec<ClientKey> = waiting
            .by_ref()
            .filter(|(_, transaction)| waits(transaction))
            .map(|(key, _)| key.clone())
            .collect();
        for key in keys {
            let Some(mut transaction) = self.clients.remove(&key) else {
                continue;
            };
            if let Stage::Sent(sent) = &transaction.stage {
                let (flow, old) = (sent.flow, sent.payload.clone());
                let fixed = !matches!(sent.resort, Resort::Udp { .. });
                let new = self.print(&key, &mut transaction, flow, fixed);
                self.connections.replace_waiting(connection, &old, &new);
                if let Stage::Sent(sent) = &mut transaction.stage {
                    sent.payload = new;
                }
            }
            self.clients.insert(key, transaction);
        }
    }

    /// The host and port that our Via names towards a peer; also for TCP the listening port
    /// (RFC 3261 section 18.1.1), and for TLS if there is one.
    fn sent_by(&self, to: IpAddr, protocol: Protocol) -> (IpAddr, u16) {
        let addresses = &self.config.addresses;
        let secure = (protocol == Protocol::Tls)
            .then(|| socket_towards(&self.config.tls_listen, addresses, to))
            .flatten();
        match secure.or_else(|| socket_towards(&self.config.udp, addresses, to)) {
            Some(socket) => (
                host_towards(socket, &self.config.addresses, to),
                socket.port(),
            ),
            None => (to, 5060),
        }
    }

    /// Our Contact URI as the peer at the end of a flow should use it: our public address, once that
    /// is known.
    pub(crate) fn contact_uri(&self, flow: Flow, named: Named) -> Uri {
        let (peer, protocol) = (flow.remote(), named.protocol());
        let (host, port) = self.sent_by(peer.ip(), protocol);
        let seen = self.peers.public(protocol, peer);
        let listens = match protocol {
            Protocol::Udp => false,
            Protocol::Tcp => self.config.tcp_listen,
            Protocol::Tls => !self.config.tls_listen.is_empty(),
        };
        let address = match seen {
            // Over TCP the port that a peer sees is the connection's, not the one we listen on;
            // without a NAT in between, the latter is worth more.
            Some(seen) if listens && seen.ip() == host => SocketAddr::new(host, port),
            // Where nothing else is accepted, the connection itself is the way to us.
            seen if protocol.is_stream() && !listens => {
                let own = flow.connection().and_then(|id| self.connections.local(id));
                let own = own.filter(|own| seen.is_none_or(|seen| seen.ip() == own.ip()));
                own.or(seen).unwrap_or(SocketAddr::new(host, port))
            }
            Some(seen) => seen,
            None => SocketAddr::new(host, port),
        };
        let uri = Uri::sip(
            Some(&self.config.contact_user),
            Host::from(address.ip()),
            Some(address.port()),
        );
        match named {
            Named::Any => uri,
            Named::Tcp => uri.with_param("transport", Some("tcp")),
            Named::Tls => uri.with_param("transport", Some("tls")),
            Named::Sips => Uri {
                scheme: Scheme::Sips,
                ..uri
            },
        }
    }

    /// Our Contact header field.
    pub(crate) fn contact(&self, flow: Flow, named: Named) -> NameAddr {
        let mut contact = NameAddr::new(self.contact_uri(flow, named));
        if self.config.ice {
            // RFC 5768 section 4.
            contact.params.set("+sip.ice", None);
        }
        contact
    }

    /// The next hop of a request outside of a dialog, whose Route it gets: the outbound proxy
    /// as preloaded route (RFC 3261 section 8.1.2), else the target itself.
    pub(crate) fn first_hop(&self, request: &mut Request) -> Result<Hop, String> {
        let hop = match &self.config.proxy {
            Some(proxy) => {
                let mut route = proxy.clone();
                route.headers.clear();
                if !route.is_loose_router() {
                    route = route.with_param("lr", None);
                }
                let route = NameAddr::new(route);
                request
                    .headers
                    .insert_front(HeaderName::Route, route.to_string());
                Hop::of_uri(proxy)
            }
            None => Hop::of_uri(&request.uri),
        }?;
        if request.uri.scheme == Scheme::Sips {
            return hop.secured(&request.uri);
        }
        Ok(hop)
    }

    /// Sends bytes on a flow; a connection that is gone is opened anew, by TLS only if it is known
    /// to whom.
    pub(super) fn transmit(&mut self, now: Instant, flow: Flow, payload: Vec<u8>) {
        self.transmit_to(now, flow, None, payload);
    }

    /// The same, with the name that a new connection's certificate must be good for.
    pub(super) fn transmit_to(
        &mut self,
        now: Instant,
        flow: Flow,
        name: Option<&str>,
        payload: Vec<u8>,
    ) {
        match flow {
            Flow::Udp { local, remote } => self.transmits.push_back(SipTransmit::Datagram {
                local,
                to: remote,
                payload,
            }),
            Flow::Stream {
                connection,
                remote,
                secure,
            } => {
                let connection = if self.connections.is_alive(connection) {
                    Some(connection)
                } else if secure && name.is_none() {
                    None
                } else {
                    let name = name.filter(|_| secure);
                    self.connections
                        .reach(now, remote, name, &mut self.transmits)
                };
                if let Some(connection) = connection {
                    self.connections
                        .send(now, connection, payload, &mut self.transmits);
                }
            }
        }
    }

    /// Sends a response; over TCP to the port of the Via if its connection is gone
    /// (RFC 3261 section 18.2.2).
    pub(crate) fn transmit_reply(&mut self, now: Instant, reply: &ReplyPath, payload: Vec<u8>) {
        let flow = match reply.flow {
            Flow::Stream {
                connection, secure, ..
            } => Flow::Stream {
                connection,
                remote: reply.reconnect,
                secure,
            },
            udp @ Flow::Udp { .. } => udp,
        };
        // A client that is not there any more is no reason to connect without end: `reach`
        // bounds the number and the time.
        self.transmit_to(now, flow, Some(&reply.name), payload);
    }
}
