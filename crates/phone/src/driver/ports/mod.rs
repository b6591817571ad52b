//! Port mapping at the default gateway, by PCP (RFC 6887), NAT-PMP (RFC 6886) or UPnP IGD.
//!
//! Nothing waits for a router: each request is a task with a time limit, and what it gave is told to
//! the phone whenever it comes. What a router says is bounded in size and in time, and nobody but
//! the default gateway of the socket's own address is asked or heard.

mod gateway;
mod http;
mod router;
mod upnp;
mod xml;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::timeout_at;

use crate::MapRequest;
use router::{Lease, Router};

/// How long the end waits until the router has removed what it mapped.
const FAREWELL: Duration = Duration::from_secs(1);
/// How long it waits for a router that it has asked for a mapping: it is on the same link.
const LAST_WORD: Duration = Duration::from_millis(100);
/// So many ports may be mapped, or asked for, at a time.
const MOST_PORTS: usize = 128;
/// So many gateways are remembered.
const MOST_ROUTERS: usize = 16;

/// Every port that is mapped, or asked for.
pub(super) struct Ports {
    ports: BTreeMap<MapRequest, Port>,
    /// By our address and the gateway's: another network may have a gateway of the same address.
    routers: BTreeMap<(Ipv4Addr, Ipv4Addr), Arc<Router>>,
    tasks: JoinSet<Done>,
    /// How many of the tasks remove a mapping.
    removals: usize,
    find_gateway: fn(Ipv4Addr) -> Option<Ipv4Addr>,
    /// Whether UPnP's multicast group is asked too.
    group: bool,
}

/// One port.
struct Port {
    router: Arc<Router>,
    state: State,
}

enum State {
    /// A task asks for it, or renews the lease.
    Asking(Option<Lease>),
    /// It was given up while a task asks for it.
    GivenUp(Option<Lease>),
    Mapped(Lease),
}

/// What a task has done.
pub(super) struct Done(Outcome);

enum Outcome {
    Asked(MapRequest, Option<Lease>),
    Removed,
}

/// What a router gave for a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mapped {
    pub(super) request: MapRequest,
    /// The external address and for how long it is ours; none when there is no mapping.
    pub(super) external: Option<(SocketAddr, Duration)>,
}

impl Ports {
    pub(super) fn new() -> Self {
        Self {
            ports: BTreeMap::new(),
            routers: BTreeMap::new(),
            tasks: JoinSet::new(),
            removals: 0,
            find_gateway: gateway::of,
            group: true,
        }
    }

    /// Asks for a mapping, or renews the one of this request. Gives an answer at once when nobody
    /// can be asked.
    pub(super) fn map(&mut self, request: MapRequest, local: SocketAddr) -> Option<Mapped> {
        if let Some(port) = self.ports.get_mut(&request) {
            if let State::Mapped(lease) = &port.state {
                let (router, lease) = (Arc::clone(&port.router), lease.clone());
                port.state = State::Asking(Some(lease.clone()));
                self.tasks
                    .spawn(async move { Done(Outcome::Asked(request, router.renew(lease).await)) });
            }
            return None;
        }
        let Some((router, local)) = self.router_of(local) else {
            return Some(Mapped {
                request,
                external: None,
            });
        };
        let port = Port {
            router: Arc::clone(&router),
            state: State::Asking(None),
        };
        self.ports.insert(request, port);
        self.tasks
            .spawn(async move { Done(Outcome::Asked(request, router.map(local).await)) });
        None
    }

    fn router_of(&mut self, local: SocketAddr) -> Option<(Arc<Router>, SocketAddrV4)> {
        let SocketAddr::V4(local) = local else {
            return None;
        };
        if self.ports.len() >= MOST_PORTS {
            return None;
        }
        let gateway = (self.find_gateway)(*local.ip())?;
        let key = (*local.ip(), gateway);
        if self.routers.len() >= MOST_ROUTERS && !self.routers.contains_key(&key) {
            self.routers.pop_first();
        }
        let group = self.group;
        let router = self
            .routers
            .entry(key)
            .or_insert_with(|| Arc::new(Router::new(gateway, group)));
        Some((Arc::clone(router), local))
    }

    /// The mapping is not wanted any more.
    pub(super) fn unmap(&mut self, request: MapRequest) {
        match self.ports.remove(&request) {
            Some(Port {
                state: State::Mapped(lease),
                ..
            }) => self.remove(lease),
            Some(Port {
                router,
                state: State::Asking(lease) | State::GivenUp(lease),
            }) => {
                let state = State::GivenUp(lease);
                self.ports.insert(request, Port { router, state });
            }
            None => {}
        }
    }

    fn remove(&mut self, lease: Lease) {
        self.removals += 1;
        self.tasks.spawn(async move {
            lease.remove().await;
            Done(Outcome::Removed)
        });
    }

    /// What the next task has done; none when no task is at work.
    pub(super) async fn next(&mut self) -> Option<Done> {
        loop {
            match self.tasks.join_next().await? {
                Ok(done) => return Some(done),
                // A task that was not carried to its end has nothing to tell.
                Err(_) => continue,
            }
        }
    }

    /// Takes what a task has done; gives what the phone is to be told.
    pub(super) fn handle(&mut self, done: Done) -> Option<Mapped> {
        let Done(Outcome::Asked(request, lease)) = done else {
            self.removals = self.removals.saturating_sub(1);
            return None;
        };
        let port = self.ports.remove(&request)?;
        let known = match port.state {
            State::Asking(known) => known,
            State::GivenUp(known) => {
                if let Some(lease) = lease.or(known) {
                    self.remove(lease);
                }
                return None;
            }
            State::Mapped(lease) => Some(lease),
        };
        let external = lease.as_ref().map(|lease| (lease.external, lease.lifetime));
        // A renewal that failed may succeed the next time.
        if let Some(lease) = lease.or(known) {
            let state = State::Mapped(lease);
            let router = port.router;
            self.ports.insert(request, Port { router, state });
        }
        Some(Mapped { request, external })
    }

    /// Removes every mapping, and waits for that a short time; for a router that has not answered yet
    /// a shorter one.
    pub(super) async fn finish(mut self) {
        let requests: Vec<MapRequest> = self.ports.keys().copied().collect();
        for request in requests {
            self.unmap(request);
        }
        let now = Instant::now();
        loop {
            let limit = if self.removals > 0 {
                FAREWELL
            } else {
                LAST_WORD
            };
            match timeout_at((now + limit).into(), self.next()).await {
                Ok(Some(done)) => drop(self.handle(done)),
                Ok(None) => return,
                Err(_) => {
                    tracing::debug!("the router has not removed every mapping in time");
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
