//! Look-ups: the hosts file, then the DNS servers of the system or of the settings; names of the
//! link by multicast DNS.
//!
//! Each call of [`Names::look_up`] is one look-up; what follows from the answer is the phone's
//! business. Answers are kept for their TTL by the resolver.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{Hosts, TokioResolver};

use super::{interfaces, mdns};
use crate::{LookupError, LookupResult, NaptrRecord, RecordKind, Records, SrvRecord};

/// What names the system's DNS servers.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// A question that got no answer for so long is asked again.
const ATTEMPT: Duration = Duration::from_secs(1);
/// How often it is asked again.
const REPETITIONS: usize = 2;
/// However many servers there are, a look-up ends by then.
const LONGEST: Duration = Duration::from_secs(5);
/// How long the addresses of one family wait for those of the other: some servers never answer
/// AAAA.
const OTHER_FAMILY: Duration = Duration::from_millis(250);

/// Looks names up. Clones share what they know.
#[derive(Clone)]
pub(super) struct Names {
    /// The DNS servers of the settings; none: those of the system.
    servers: Arc<[SocketAddr]>,
    /// The addresses that the user named, and no others.
    named: Arc<[IpAddr]>,
    resolver: Arc<Mutex<Option<Made>>>,
}

/// A resolver, and how old the system's configuration was when it was made.
struct Made {
    configured: Option<SystemTime>,
    resolver: TokioResolver,
}

impl Names {
    pub(super) fn new(servers: &[SocketAddr], named: &[IpAddr]) -> Self {
        Self {
            servers: servers.into(),
            named: named.into(),
            resolver: Arc::default(),
        }
    }

    /// One look-up.
    pub(super) async fn look_up(&self, name: &str, kind: RecordKind) -> LookupResult {
        let result = tokio::time::timeout(LONGEST, self.ask(name, kind)).await;
        let result = result.unwrap_or(Err(LookupError::NoAnswer));
        tracing::debug!(%name, ?kind, ?result, "looked up");
        result
    }

    async fn ask(&self, name: &str, kind: RecordKind) -> LookupResult {
        let Ok(mut asked) = Name::from_ascii(name) else {
            return Err(LookupError::NoSuchName);
        };
        // The search list of the system is for names of one label.
        asked.set_fqdn(name.contains('.'));
        if kind == RecordKind::Address {
            let known = in_hosts_file(&asked);
            if !known.is_empty() {
                return Ok(Records::Addresses(known));
            }
        }
        if is_local(name) {
            return self.on_the_link(&asked, kind).await;
        }
        let resolver = self.resolver()?;
        match kind {
            RecordKind::Address => addresses(&resolver, asked).await,
            RecordKind::Srv => {
                let records = records(&resolver, asked, RecordType::SRV).await?;
                Ok(Records::Srv(records.iter().filter_map(srv).collect()))
            }
            RecordKind::Naptr => {
                let records = records(&resolver, asked, RecordType::NAPTR).await?;
                Ok(Records::Naptr(records.iter().filter_map(naptr).collect()))
            }
        }
    }

    /// A name that the hosts of the link give to themselves. The DNS is not asked about it (RFC 6762
    /// section 22.1).
    async fn on_the_link(&self, name: &Name, kind: RecordKind) -> LookupResult {
        if kind != RecordKind::Address {
            return Err(LookupError::NoSuchName);
        }
        let interfaces = interfaces::list(&self.named).unwrap_or_default();
        let links: Vec<IpAddr> = interfaces.iter().map(|known| known.address).collect();
        let found = mdns::look_up(name, &links, mdns::GROUP).await;
        if found.is_empty() {
            return Err(LookupError::NoSuchName);
        }
        Ok(Records::Addresses(found))
    }

    /// The resolver; made anew when the system's configuration has changed, as another network
    /// changes it.
    fn resolver(&self) -> Result<TokioResolver, LookupError> {
        let configured = std::fs::metadata(RESOLV_CONF)
            .and_then(|file| file.modified())
            .ok()
            .filter(|_| self.servers.is_empty());
        let mut held = self.resolver.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = &*held
            && made.configured == configured
        {
            return Ok(made.resolver.clone());
        }
        match make(&self.servers) {
            Ok(resolver) => {
                *held = Some(Made {
                    configured,
                    resolver: resolver.clone(),
                });
                Ok(resolver)
            }
            Err(error) => {
                tracing::warn!(%error, "there is no DNS server to ask");
                Err(LookupError::NoAnswer)
            }
        }
    }
}

fn make(servers: &[SocketAddr]) -> Result<TokioResolver, NetError> {
    let mut builder = if servers.is_empty() {
        TokioResolver::builder_tokio()?
    } else {
        let servers = servers.iter().map(|server| {
            let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
            for connection in &mut connections {
                connection.port = server.port();
            }
            NameServerConfig::new(server.ip(), true, connections)
        });
        let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = ResolverOpts::default();
        builder
    };
    let options = builder.options_mut();
    options.timeout = ATTEMPT;
    options.attempts = REPETITIONS;
    // Read here for each look-up.
    options.use_hosts_file = ResolveHosts::Never;
    builder.build()
}

/// Whether a name belongs to the link (RFC 6762 section 3).
fn is_local(name: &str) -> bool {
    let labels = name.trim_end_matches('.').rsplit_once('.');
    labels.is_some_and(|(_, top)| top.eq_ignore_ascii_case("local"))
}

fn in_hosts_file(name: &Name) -> Vec<IpAddr> {
    let Ok(hosts) = Hosts::from_system() else {
        return Vec::new();
    };
    let of_type = |kind| hosts.lookup_static_host(&Query::query(name.clone(), kind));
    [RecordType::A, RecordType::AAAA]
        .into_iter()
        .filter_map(of_type)
        .flat_map(|found| {
            found
                .answers()
                .iter()
                .filter_map(|r| r.data.ip_addr())
                .collect::<Vec<_>>()
        })
        .collect()
}

/// A and AAAA at the same time.
async fn addresses(resolver: &TokioResolver, name: Name) -> LookupResult {
    let v4 = records(resolver, name.clone(), RecordType::A);
    let v6 = records(resolver, name, RecordType::AAAA);
    tokio::pin!(v4, v6);
    let (first, second) = tokio::select! {
        first = &mut v4 => {
            let patience = patience_after(&first);
            (first, within(patience, v6).await)
        }
        first = &mut v6 => {
            let patience = patience_after(&first);
            (first, within(patience, v4).await)
        }
    };
    let found = |result: &Result<Vec<RData>, LookupError>| -> Vec<IpAddr> {
        let records = result.as_deref().unwrap_or_default();
        records.iter().filter_map(RData::ip_addr).collect()
    };
    let mut all = found(&first);
    all.extend(found(&second));
    match (first, second) {
        _ if !all.is_empty() => Ok(Records::Addresses(all)),
        (Err(LookupError::NoAnswer), _) | (_, Err(LookupError::NoAnswer)) => {
            Err(LookupError::NoAnswer)
        }
        _ => Err(LookupError::NoSuchName),
    }
}

/// The other family is waited for in full only while there is no address yet.
fn patience_after(first: &Result<Vec<RData>, LookupError>) -> Duration {
    match first {
        Ok(records) if !records.is_empty() => OTHER_FAMILY,
        _ => LONGEST,
    }
}

async fn within(
    patience: Duration,
    other: impl Future<Output = Result<Vec<RData>, LookupError>>,
) -> Result<Vec<RData>, LookupError> {
    let answer = tokio::time::timeout(patience, other).await;
    answer.unwrap_or(Err(LookupError::NoAnswer))
}

/// The records of one type, in the order of the answer.
async fn records(
    resolver: &TokioResolver,
    name: Name,
    kind: RecordType,
) -> Result<Vec<RData>, LookupError> {
    match resolver.lookup(name, kind).await {
        Ok(found) => {
            let ours = found.answers().iter().filter(|r| r.record_type() == kind);
            Ok(ours.map(|record| record.data.clone()).collect())
        }
        Err(NetError::Dns(DnsError::NoRecordsFound(none)))
            if matches!(
                none.response_code,
                ResponseCode::NXDomain | ResponseCode::NoError
            ) =>
        {
            Err(LookupError::NoSuchName)
        }
        Err(error) => {
            tracing::debug!(%error, "a look-up failed");
            Err(LookupError::NoAnswer)
        }
    }
}

fn srv(data: &RData) -> Option<SrvRecord> {
    let RData::SRV(srv) = data else { return None };
    Some(SrvRecord {
        priority: srv.priority,
        weight: srv.weight,
        port: srv.port,
        target: srv.target.to_ascii(),
    })
}

fn naptr(data: &RData) -> Option<NaptrRecord> {
    let RData::NAPTR(naptr) = data else {
        return None;
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some(NaptrRecord {
        order: naptr.order,
        preference: naptr.preference,
        flags: text(&naptr.flags),
        services: text(&naptr.services),
        replacement: naptr.replacement.to_ascii(),
    })
}
