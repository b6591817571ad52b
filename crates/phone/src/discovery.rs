//! STUN and TURN servers that the account's domain tells by SRV records, where the settings name
//! none (RFC 8489 section 8, RFC 5928).

use std::time::{Duration, Instant};

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
    /// With the user that its servers know.
    Turn(Login),
}

impl Service {
    fn name(&self, domain: &str) -> String {
        match self {
            Self::Stun => format!("_stun._udp.{domain}"),
            Self::Turn(_) => format!("_turn._udp.{domain}"),
        }
    }
}

impl Desk {
    /// Asks the account's domain for what the settings want found.
    pub(crate) fn discover_ice_servers(&mut self) {
        let Some(domain) = self.domain() else { return };
        let stun = self.settings.discover_stun.then_some(Service::Stun);
        let turn = self.settings.discover_turn.clone().map(Service::Turn);
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
                port: server.port,
                login: match &service {
                    Service::Stun => None,
                    Service::Turn(login) => Some(login.clone()),
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
