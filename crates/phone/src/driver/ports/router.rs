//! One router: which protocol it speaks, and the mappings that it made.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use crab_nat::{InternetProtocol, PortMapping, PortMappingOptions, PortMappingType, TimeoutConfig};
use crab_nat::{natpmp, pcp};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{timeout, timeout_at};

use super::upnp::{self, Igd};
use crate::mapping;

/// For how long a port is asked for: a phone that dies leaves its door open no longer.
pub(super) const LIFETIME: Duration = Duration::from_secs(600);
/// A router that has said nothing by then, in any protocol, is taken for one that maps no ports.
const SILENCE: Duration = Duration::from_millis(1_800);
/// It is asked again after that time, not with every call.
const ASK_AGAIN: Duration = Duration::from_secs(120);
/// How long a better protocol is waited for once another one was answered.
const GRACE: Duration = Duration::from_millis(50);
/// How long one mapping may take when the protocol is known.
const ACT: Duration = Duration::from_secs(2);
/// RFC 6886 section 3.1: 250 ms, doubled with each repetition.
const TIMING: TimeoutConfig = TimeoutConfig {
    initial_timeout: Duration::from_millis(250),
    max_retries: 2,
    max_retry_timeout: None,
};

/// A default gateway.
#[derive(Debug)]
pub(super) struct Router {
    gateway: Ipv4Addr,
    /// Whether the search of UPnP goes to its multicast group too.
    group: bool,
    known: Mutex<Known>,
}

/// What is known of a router.
#[derive(Debug)]
enum Known {
    Nothing,
    Speaks(Service),
    Silent { until: Instant },
}

/// How a router maps ports.
#[derive(Debug, Clone)]
enum Service {
    Pcp,
    NatPmp,
    Upnp(Igd),
}

/// A mapped port.
#[derive(Debug, Clone)]
pub(super) struct Lease {
    pub(super) external: SocketAddr,
    pub(super) lifetime: Duration,
    made: Made,
}

#[derive(Debug, Clone)]
enum Made {
    /// By PCP or NAT-PMP.
    Requested(PortMapping),
    Upnp {
        igd: Igd,
        internal: u16,
    },
}

/// What one of the three protocols has found out.
enum Answer {
    Pcp(Option<Lease>),
    NatPmp(bool),
    Upnp(Option<Igd>),
}

/// What a protocol has told of itself.
enum Told<T> {
    Nothing,
    No,
    Yes(T),
}

impl<T> Told<T> {
    fn of(answer: Option<T>) -> Self {
        answer.map_or(Self::No, Self::Yes)
    }

    fn is_no(&self) -> bool {
        matches!(self, Self::No)
    }

    fn is_yes(&self) -> bool {
        matches!(self, Self::Yes(_))
    }

    fn yes(self) -> Option<T> {
        match self {
            Self::Yes(answer) => Some(answer),
            Self::Nothing | Self::No => None,
        }
    }
}

impl Router {
    pub(super) fn new(gateway: Ipv4Addr, group: bool) -> Self {
        Self {
            gateway,
            group,
            known: Mutex::new(Known::Nothing),
        }
    }

    /// Maps a UDP port of this host, by whatever the router speaks.
    pub(super) async fn map(&self, local: SocketAddrV4) -> Option<Lease> {
        // Who comes while the router is being tried out waits for the result.
        let mut known = self.known.lock().await;
        match &*known {
            Known::Silent { until } if Instant::now() < *until => return None,
            Known::Speaks(service) => {
                let service = service.clone();
                drop(known);
                let lease = self.map_by(&service, local).await;
                if lease.is_none() {
                    // It may have been exchanged for another one.
                    *self.known.lock().await = Known::Nothing;
                }
                return lease;
            }
            _ => {}
        }
        let found = self.try_out(local).await;
        *known = match &found {
            Some((service, _)) => Known::Speaks(service.clone()),
            None => Known::Silent {
                until: Instant::now() + ASK_AGAIN,
            },
        };
        found.map(|(_, lease)| lease)
    }

    /// Asks by all protocols at once, and takes the first that works; where several are answered
    /// at about the same time, PCP before NAT-PMP before UPnP. Only PCP is asked for a mapping right
    /// away, the others for the external address, so that the router is left with one mapping.
    async fn try_out(&self, local: SocketAddrV4) -> Option<(Service, Lease)> {
        let (gateway, group) = (self.gateway, self.group);
        let mut asked = JoinSet::new();
        asked.spawn(async move { Answer::Pcp(by_pcp(gateway, local).await) });
        asked.spawn(async move { Answer::NatPmp(answers_natpmp(gateway).await) });
        asked.spawn(async move { Answer::Upnp(find_igd(local, gateway, group).await) });
        let silence = Instant::now() + SILENCE;
        let (mut pcp, mut natpmp, mut upnp) = (Told::Nothing, Told::Nothing, Told::Nothing);
        let mut grace: Option<Instant> = None;
        loop {
            let until = grace.unwrap_or(silence).min(silence);
            let over = Instant::now() >= until;
            let best = if let Told::Yes(lease) = pcp {
                return Some((Service::Pcp, lease));
            } else if natpmp.is_yes() && (pcp.is_no() || over) {
                natpmp = Told::No;
                Some(Service::NatPmp)
            } else if upnp.is_yes() && (pcp.is_no() && natpmp.is_no() || over) {
                std::mem::replace(&mut upnp, Told::No)
                    .yes()
                    .map(Service::Upnp)
            } else {
                None
            };
            if let Some(service) = best {
                if let Some(lease) = self.map_by(&service, local).await {
                    return Some((service, lease));
                }
                continue;
            }
            if over || (pcp.is_no() && natpmp.is_no() && upnp.is_no()) {
                return None;
            }
            match timeout_at(until.into(), asked.join_next()).await {
                Ok(Some(Ok(Answer::Pcp(lease)))) => pcp = Told::of(lease),
                Ok(Some(Ok(Answer::NatPmp(works)))) => natpmp = Told::of(works.then_some(())),
                Ok(Some(Ok(Answer::Upnp(igd)))) => upnp = Told::of(igd),
                // A task that did not come to its end has nothing to tell.
                Ok(Some(Err(_)) | None) => return None,
                Err(_) => {}
            }
            if grace.is_none() && (natpmp.is_yes() || upnp.is_yes()) {
                grace = Some(Instant::now() + GRACE);
            }
        }
    }

    async fn map_by(&self, service: &Service, local: SocketAddrV4) -> Option<Lease> {
        let mapped = async {
            match service {
                Service::Pcp => by_pcp(self.gateway, local).await,
                Service::NatPmp => by_natpmp(self.gateway, local.port(), None).await,
                Service::Upnp(igd) => by_upnp(igd, local.port(), None).await,
            }
        };
        timeout(ACT, mapped).await.unwrap_or_default()
    }

    /// Renews a mapping before it ends.
    pub(super) async fn renew(&self, lease: Lease) -> Option<Lease> {
        let renewed = async {
            match lease.made {
                Made::Requested(mut mapping) => match mapping.mapping_type() {
                    PortMappingType::Pcp { .. } => {
                        let renewed = mapping.renew().await;
                        log("PCP", &renewed);
                        renewed.ok().and_then(|()| pcp_lease(mapping))
                    }
                    PortMappingType::NatPmp => {
                        let internal = mapping.internal_port().get();
                        by_natpmp(self.gateway, internal, Some(mapping.external_port())).await
                    }
                },
                Made::Upnp { igd, internal } => {
                    by_upnp(&igd, internal, Some(lease.external.port())).await
                }
            }
        };
        timeout(ACT, renewed).await.unwrap_or_default()
    }
}

impl Lease {
    /// Takes the mapping away from the router.
    pub(super) async fn remove(self) {
        let removed = async {
            match self.made {
                Made::Requested(mapping) => {
                    log(
                        "removal",
                        &mapping.try_drop().await.map_err(|(error, _)| error),
                    );
                }
                Made::Upnp { igd, .. } => log("removal", &igd.unmap(self.external.port()).await),
            }
        };
        if timeout(ACT, removed).await.is_err() {
            tracing::debug!("the router did not say whether it removed a mapping");
        }
    }
}

fn options(external: Option<NonZeroU16>) -> PortMappingOptions {
    PortMappingOptions {
        external_port: external,
        lifetime_seconds: u32::try_from(LIFETIME.as_secs()).ok(),
        timeout_config: Some(TIMING),
    }
}

/// PCP (RFC 6887).
async fn by_pcp(gateway: Ipv4Addr, local: SocketAddrV4) -> Option<Lease> {
    let port = NonZeroU16::new(local.port())?;
    let client = IpAddr::V4(*local.ip());
    let request = pcp::BaseMapRequest::new(gateway.into(), client, InternetProtocol::Udp, port);
    let mapped = pcp::port_mapping(request, None, None, options(Some(port))).await;
    log("PCP", &mapped);
    let lease = pcp_lease(mapped.ok()?)?;
    if !mapping::is_useful(lease.external) {
        tracing::debug!(external = %lease.external, "a mapping that nobody could reach");
        lease.remove().await;
        return None;
    }
    Some(lease)
}

fn pcp_lease(mapping: PortMapping) -> Option<Lease> {
    match mapping.mapping_type() {
        PortMappingType::Pcp { external_ip, .. } => requested(mapping, external_ip),
        PortMappingType::NatPmp => None,
    }
}

/// NAT-PMP (RFC 6886) tells the external address apart from the mapping; it comes first, so that no
/// mapping is left behind for want of it.
async fn by_natpmp(gateway: Ipv4Addr, port: u16, external: Option<NonZeroU16>) -> Option<Lease> {
    let port = NonZeroU16::new(port)?;
    let address = natpmp::external_address(gateway.into(), Some(TIMING)).await;
    log("NAT-PMP", &address);
    let address = IpAddr::V4(address.ok()?);
    let options = options(external.or(Some(port)));
    let mapped = natpmp::port_mapping(gateway.into(), InternetProtocol::Udp, port, options).await;
    log("NAT-PMP", &mapped);
    requested(mapped.ok()?, address)
}

fn requested(mapping: PortMapping, address: IpAddr) -> Option<Lease> {
    Some(Lease {
        external: SocketAddr::new(address, mapping.external_port().get()),
        lifetime: Duration::from_secs(u64::from(mapping.lifetime())).min(LIFETIME),
        made: Made::Requested(mapping),
    })
}

async fn answers_natpmp(gateway: Ipv4Addr) -> bool {
    let address = natpmp::external_address(gateway.into(), Some(TIMING)).await;
    log("NAT-PMP", &address);
    address.is_ok_and(|address| mapping::is_useful_address(address.into()))
}

async fn by_upnp(igd: &Igd, port: u16, external: Option<u16>) -> Option<Lease> {
    let address = igd.external_address().await;
    log("UPnP", &address);
    let address = address.ok()?;
    let mapped = igd.map(port, external, LIFETIME).await;
    log("UPnP", &mapped);
    Some(Lease {
        external: SocketAddr::from((address, mapped.ok()?)),
        lifetime: LIFETIME,
        made: Made::Upnp {
            igd: igd.clone(),
            internal: port,
        },
    })
}

/// The first service of the gateway that has an external address.
async fn find_igd(local: SocketAddrV4, gateway: Ipv4Addr, group: bool) -> Option<Igd> {
    let found = upnp::discover(*local.ip(), gateway, group).await;
    log("UPnP", &found);
    for igd in found.ok()? {
        let address = igd.external_address().await;
        log("UPnP", &address);
        if address.is_ok_and(|address| mapping::is_useful_address(address.into())) {
            return Some(igd);
        }
    }
    None
}

fn log<T, E: std::fmt::Display>(protocol: &str, result: &Result<T, E>) {
    if let Err(error) = result {
        tracing::debug!(%error, "no port mapping by {protocol}");
    }
}
