//! STUN and TURN servers that the account's domain tells by SRV records, where the settings name
//! none (RFC 8489 section 8, RFC 5928).

use std::time::{Duration, Instant};

use ringtrue_ice::TurnTransport;
use ringtrue_sip::dns::order_srv;
use ringtrue_sip::message::NameAddr;
use ringtrue_sip::uri::Host;

use crate::desk::{Desk, WantedServer};
use crate::io::{LookupResult, RecordKind, Records, ResolveQuery};
use crate::settings::Login;

/// How many servers of a service are used: the gathering asks them all at the same time.
const MOST_SERVERS: usize = 2;
/// Names that are not resolved by then are not waited for any more.
const PATIENCE: Duration = Duration::from_secs(5);

/// A service that the domain was asked for.
pub(crate) enum Service {
    Stun,
    /// With its place in the order of preference, the user that its servers know, and how they are
    /// reached.
    Turn(usize, Login, TurnTransport),
}

impl Service {
    fn name(&self, domain: &str) -> String {
        match self {
            Self::Stun => format!("_stun._udp.{domain}"),
            Self::Turn(_, _, TurnTransport::Udp) => format!("_turn._udp.{domain}"),
            Self::Turn(_, _, TurnTransport::Tcp) => format!("_turn._tcp.{domain}"),
            Self::Turn(_, _, TurnTransport::Tls(_)) => format!("_turns._tcp.{domain}"),
        }
    }
}

impl Desk {
    /// Asks the account's domain for what the settings want found.
    pub(crate) fn discover_ice_servers(&mut self) {
        let Some(domain) = self.domain() else { return };
        let stun = self.settings.discover_stun.then_some(Service::Stun);
        // The certificate must be the domain's (RFC 6125 section 6.2.1): what SRV records say can be
        // forged.
        let transports = [
            TurnTransport::Udp,
            TurnTransport::Tcp,
            TurnTransport::Tls(domain.clone()),
        ];
        let login = self.settings.discover_turn.clone();
        let turn: Vec<Service> = login
            .iter()
            .flat_map(|login| transports.iter().map(move |way| (login, way)))
            .map(|(login, way)| Service::Turn(self.servers.next_rank(), login.clone(), way.clone()))
            .collect();
        for service in stun.into_iter().chain(turn) {
            let query = self.ask(service.name(&domain), RecordKind::Srv);
            self.servers.services.insert(query, service);
        }
    }

    /// The domain of the address of record: a name of several labels, as one of one label is
    /// nobody's domain.
    fn domain(&self) -> Option<String> {
        let aor: NameAddr = self.settings.aor.parse().ok()?;
        match aor.uri.host {
            Host::Name(name) if name.trim_end_matches('.').contains('.') => Some(name),
            _ => None,
        }
    }

    /// Takes an answer about a service; false when it is about none.
    pub(crate) fn handle_service(&mut self, query: ResolveQuery, result: &LookupResult) -> bool {
        let Some(service) = self.servers.services.remove(&query) else {
            return false;
        };
        let Ok(Records::Srv(records)) = result else {
            return true;
        };
        let servers = order_srv(records, self.rng());
        for server in servers.into_iter().take(MOST_SERVERS) {
            let wanted = WantedServer {
                rank: match &service {
                    Service::Stun => 0,
                    Service::Turn(rank, ..) => *rank,
                },
                port: server.port,
                turn: match &service {
                    Service::Stun => None,
                    Service::Turn(_, login, way) => Some((login.clone(), way.clone())),
                },
            };
            let name = server.target.trim_end_matches('.').to_owned();
            let query = self.ask(name, RecordKind::Address);
            self.servers.pending.insert(query, wanted);
        }
        true
    }
}

/// Since when names are being resolved.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Asking(Option<Instant>);

impl Asking {
    pub(crate) fn begin(&mut self, now: Instant) {
        self.0 = Some(now);
    }

    pub(crate) fn is_over(self, now: Instant) -> bool {
        self.0.is_none_or(|since| now >= since + PATIENCE)
    }
}
