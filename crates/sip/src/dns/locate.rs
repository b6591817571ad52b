//! Locating SIP servers: RFC 3263 section 4, from the next hop of a request to the addresses that
//! are tried one after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rand::Rng;

use super::{
    LookupError, LookupResult, MAX_RECORDS, NaptrRecord, RecordKind, Records, SrvRecord, canonical,
    is_root, order_srv,
};
use crate::endpoint::QueryId;
use crate::transport::{Hop, Protocol};

/// How long one look-up is waited for; after that it has given nothing.
const LOOKUP_PATIENCE: Duration = Duration::from_millis(2_500);
/// How long all of them together may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many look-ups one next hop may cost, whatever the answers say.
const MAX_LOOKUPS: usize = 16;
/// How many addresses are tried at most.
const MAX_PLACES: usize = 8;

/// One address to send to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) address: SocketAddr,
    pub(crate) protocol: Protocol,
    /// The URI or the DNS names the protocol, so that size does not change it.
    pub(crate) fixed: bool,
}

/// Which addresses this host can send to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Families {
    pub(crate) v4: bool,
    pub(crate) v6: bool,
    /// IPv6 before IPv4.
    pub(crate) v6_first: bool,
}

impl Families {
    fn reach(self, ip: IpAddr) -> bool {
        if ip.is_ipv4() { self.v4 } else { self.v6 }
    }
}

/// What became of a search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Located {
    /// The next hop is here, the preferred address first.
    At(Vec<Place>),
    /// It cannot be found; for people.
    Nowhere(String),
}

type Question = (RecordKind, String);

/// A search for the next hop of one request.
///
/// It knows no steps: after each answer it is worked out anew from all answers so far either where
/// the hop is, or what else has to be known. So questions leave as early as they can, and none
/// twice.
#[derive(Debug)]
pub(crate) struct Locator {
    hop: Hop,
    families: Families,
    deadline: Instant,
    asked: BTreeMap<QueryId, (Question, Instant)>,
    answers: BTreeMap<Question, LookupResult>,
    /// SRV records in their order, which is drawn once.
    orders: BTreeMap<String, Vec<SrvRecord>>,
}

/// What could not be worked out: these answers are missing.
#[derive(Default)]
struct Wanted(BTreeSet<Question>);

/// The records of one service, and the protocol that they are about.
struct Service {
    protocol: Protocol,
    name: String,
}

impl Locator {
    pub(crate) fn new(hop: Hop, families: Families, now: Instant) -> Self {
        Self {
            hop,
            families,
            deadline: now + PATIENCE,
            asked: BTreeMap::new(),
            answers: BTreeMap::new(),
            orders: BTreeMap::new(),
        }
    }

    /// Whether this is an answer that is waited for here.
    pub(crate) fn awaits(&self, query: QueryId) -> bool {
        self.asked.contains_key(&query)
    }

    /// Takes an answer.
    pub(crate) fn handle_resolved(
        &mut self,
        query: QueryId,
        result: LookupResult,
        rng: &mut impl Rng,
    ) {
        if let Some((question, _)) = self.asked.remove(&query) {
            self.learn(question, result, rng);
        }
    }

    /// Gives up the look-ups that took too long.
    pub(crate) fn handle_timeout(&mut self, now: Instant, rng: &mut impl Rng) {
        let all = now >= self.deadline;
        let late: Vec<QueryId> = self
            .asked
            .iter()
            .filter(|(_, (_, until))| all || *until <= now)
            .map(|(query, _)| *query)
            .collect();
        for query in late {
            self.handle_resolved(query, Err(LookupError::NoAnswer), rng);
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.asked
            .values()
            .map(|(_, until)| (*until).min(self.deadline))
            .min()
    }

    fn learn(&mut self, question: Question, result: LookupResult, rng: &mut impl Rng) {
        if let (RecordKind::Srv, Ok(Records::Srv(records))) = (question.0, &result) {
            let ordered = order_srv(records, rng);
            self.orders.insert(question.1.clone(), ordered);
        }
        self.answers.insert(question, result);
    }

    /// Goes on as far as the answers allow: where the hop is, or else `ask` gets what has to be
    /// looked up now and gives the number of that query.
    pub(crate) fn proceed(
        &mut self,
        now: Instant,
        mut ask: impl FnMut(RecordKind, &str) -> QueryId,
    ) -> Option<Located> {
        loop {
            let mut wanted = Wanted::default();
            let located = self.locate(&mut wanted);
            if located.is_some() {
                return located;
            }
            let mut progress = false;
            for question in wanted.0 {
                let is_asked = self.asked.values().any(|(asked, _)| *asked == question);
                if is_asked || self.answers.contains_key(&question) {
                    continue;
                }
                if now >= self.deadline || self.asked.len() + self.answers.len() >= MAX_LOOKUPS {
                    self.answers.insert(question, Err(LookupError::NoAnswer));
                    progress = true;
                    continue;
                }
                let query = ask(question.0, &question.1);
                self.asked.insert(query, (question, now + LOOKUP_PATIENCE));
            }
            if !progress {
                return None;
            }
        }
    }

    /// RFC 3263 sections 4.1 and 4.2. `None`: something is wanted first.
    fn locate(&self, wanted: &mut Wanted) -> Option<Located> {
        let hop = &self.hop;
        let protocol = hop.protocol.unwrap_or_else(|| hop.unsaid_protocol());
        let fixed = hop.protocol.is_some() || hop.secure;
        let at = |ip: IpAddr, port: u16| Place {
            address: SocketAddr::new(ip, port),
            protocol,
            fixed,
        };
        if let Some(ip) = hop.host.ip() {
            let port = hop.port.unwrap_or(protocol.default_port());
            return Some(Located::At(vec![at(ip, port)]));
        }
        let name = canonical(&hop.host.to_string());
        if let Some(port) = hop.port {
            // A port in the URI: no SRV, no NAPTR.
            let addresses = self.addresses(&name, wanted)?;
            return Some(self.found(addresses.into_iter().map(|ip| at(ip, port)).collect()));
        }
        // What a domain without SRV records needs is asked at the same time as those.
        wanted.0.insert((RecordKind::Address, name.clone()));
        let services = match hop.protocol {
            Some(protocol) => vec![Service::of(protocol, &name)],
            None => self.services(&name, wanted)?,
        };
        let (mut places, mut offered, mut refused) = (Vec::new(), false, false);
        let mut complete = true;
        for service in &services {
            let Some(servers) = self.servers(&service.name, wanted) else {
                complete = false;
                continue;
            };
            match servers {
                Servers::None => {}
                Servers::NotOffered => refused = true,
                Servers::At(servers) => {
                    offered = true;
                    match self.places_of(servers, service, wanted) {
                        Some(more) => places.extend(more),
                        None => complete = false,
                    }
                }
            }
        }
        if !complete {
            return None;
        }
        if offered {
            return Some(self.found(places));
        }
        if refused {
            let what = format!("cannot find {name}: its DNS says that it offers no SIP");
            return Some(Located::Nowhere(what));
        }
        let addresses = self.addresses(&name, wanted)?;
        let port = protocol.default_port();
        Some(self.found(addresses.into_iter().map(|ip| at(ip, port)).collect()))
    }

    /// The services of a domain that we speak, in the order of their preference: by NAPTR, else
    /// the usual ones.
    fn services(&self, name: &str, wanted: &mut Wanted) -> Option<Vec<Service>> {
        // Where the DNS offers nothing better, TLS is for those who ask for it.
        let usual: &[Protocol] = match self.hop.secure {
            true => &[Protocol::Tls],
            false => &[Protocol::Udp, Protocol::Tcp],
        };
        let usual: Vec<Service> = usual.iter().map(|p| Service::of(*p, name)).collect();
        // Most domains have no NAPTR records, and some firewalls swallow the question.
        for service in &usual {
            wanted.0.insert((RecordKind::Srv, service.name.clone()));
        }
        let mut services: Vec<Service> = Vec::new();
        for record in self.naptr(name, wanted)? {
            let Some(protocol) = protocol_of(&record) else {
                continue;
            };
            if self.hop.secure && protocol != Protocol::Tls {
                continue;
            }
            // One for each protocol: the others are for clients that know better.
            if record.flags.eq_ignore_ascii_case("s")
                && !is_root(&record.replacement)
                && services.iter().all(|known| known.protocol != protocol)
            {
                services.push(Service {
                    protocol,
                    name: canonical(&record.replacement),
                });
            }
        }
        Some(if services.is_empty() { usual } else { services })
    }

    fn naptr(&self, name: &str, wanted: &mut Wanted) -> Option<Vec<NaptrRecord>> {
        let mut records = match self.answer(RecordKind::Naptr, name, wanted)? {
            Ok(Records::Naptr(records)) => records.clone(),
            _ => Vec::new(),
        };
        records.sort_by_key(|record| (record.order, record.preference));
        records.truncate(MAX_RECORDS);
        Some(records)
    }

    fn servers(&self, name: &str, wanted: &mut Wanted) -> Option<Servers<'_>> {
        let question = (RecordKind::Srv, name.to_owned());
        match self.answer(RecordKind::Srv, name, wanted)? {
            Ok(Records::Srv(records)) if records.is_empty() => Some(Servers::None),
            Ok(Records::Srv(_)) => Some(match self.orders.get(&question.1) {
                Some(ordered) if !ordered.is_empty() => Servers::At(ordered),
                _ => Servers::NotOffered,
            }),
            _ => Some(Servers::None),
        }
    }

    /// The addresses of a service's servers, in their order.
    fn places_of(
        &self,
        servers: &[SrvRecord],
        service: &Service,
        wanted: &mut Wanted,
    ) -> Option<Vec<Place>> {
        let mut places = Vec::new();
        let mut complete = true;
        for server in servers.iter().take(MAX_PLACES) {
            match self.addresses(&canonical(&server.target), wanted) {
                Some(addresses) => places.extend(addresses.into_iter().map(|ip| Place {
                    address: SocketAddr::new(ip, server.port),
                    protocol: service.protocol,
                    // A domain that names UDP says nothing about large requests.
                    fixed: self.hop.protocol.is_some() || service.protocol.is_stream(),
                })),
                None => complete = false,
            }
        }
        complete.then_some(places)
    }

    fn addresses(&self, name: &str, wanted: &mut Wanted) -> Option<Vec<IpAddr>> {
        let Ok(Records::Addresses(addresses)) = self.answer(RecordKind::Address, name, wanted)?
        else {
            return Some(Vec::new());
        };
        let used = addresses.iter().copied().take(MAX_RECORDS);
        let mut reached: Vec<IpAddr> = used.filter(|ip| self.families.reach(*ip)).collect();
        reached.sort_by_key(|ip| ip.is_ipv4() == self.families.v6_first);
        Some(reached)
    }

    fn answer(&self, kind: RecordKind, name: &str, wanted: &mut Wanted) -> Option<&LookupResult> {
        let question = (kind, name.to_owned());
        let answer = self.answers.get(&question);
        if answer.is_none() {
            wanted.0.insert(question);
        }
        answer
    }

    fn found(&self, places: Vec<Place>) -> Located {
        let mut distinct: Vec<Place> = Vec::new();
        for place in places.into_iter().take(MAX_PLACES) {
            let same =
                |known: &Place| (known.address, known.protocol) == (place.address, place.protocol);
            if place.address.port() != 0 && !distinct.iter().any(same) {
                distinct.push(place);
            }
        }
        if !distinct.is_empty() {
            return Located::At(distinct);
        }
        let host = &self.hop.host;
        let any = |wanted: fn(&LookupResult) -> bool| self.answers.values().any(wanted);
        Located::Nowhere(
            if any(|answer| matches!(answer, Ok(Records::Addresses(a)) if !a.is_empty())) {
                format!("{host} has no address that can be reached from here")
            } else if any(|answer| *answer == Err(LookupError::NoAnswer)) {
                format!("cannot find {host}: no DNS server gave an answer in time")
            } else {
                format!("cannot find {host}: the DNS knows no address of it")
            },
        )
    }
}

/// What the DNS says about one service.
enum Servers<'a> {
    /// Nothing.
    None,
    /// That there is none (RFC 2782: the target `.`).
    NotOffered,
    /// These, in their order.
    At(&'a [SrvRecord]),
}

impl Service {
    /// `_sip._udp.NAME`, `_sip._tcp.NAME` or `_sips._tcp.NAME`.
    fn of(protocol: Protocol, name: &str) -> Self {
        let labels = match protocol {
            Protocol::Udp => "_sip._udp",
            Protocol::Tcp => "_sip._tcp",
            Protocol::Tls => "_sips._tcp",
        };
        Self {
            protocol,
            name: format!("{labels}.{name}"),
        }
    }
}

/// The protocol of a NAPTR record's service, if we speak it (RFC 3263 section 4.1): not SCTP
/// (`SIP+D2S`), not WebSocket (`SIP+D2W`).
fn protocol_of(record: &NaptrRecord) -> Option<Protocol> {
    match record.services.to_ascii_uppercase().as_str() {
        "SIP+D2U" => Some(Protocol::Udp),
        "SIP+D2T" => Some(Protocol::Tcp),
        "SIPS+D2T" => Some(Protocol::Tls),
        _ => None,
    }
}
