//! Ports that the router maps (PCP, NAT-PMP, UPnP). Whoever owns the sockets asks it; what it gave
//! is a server-reflexive candidate like any other (RFC 8445 section 5.1.1.2), whose server it is.

use std::net::SocketAddr;
use std::time::Instant;

use super::Gatherer;

/// What is known of the routers' mappings.
#[derive(Debug, Default)]
pub(super) struct Mapped(Vec<(SocketAddr, State)>);

#[derive(Debug, Clone, Copy)]
enum State {
    /// The router is being asked; nobody waits longer than this.
    Awaited { until: Instant },
    /// The router has not answered in time; it may yet.
    Late,
    /// Packets to this address come to the base.
    To(SocketAddr),
}

impl Mapped {
    fn set(&mut self, base: SocketAddr, state: Option<State>) {
        self.0.retain(|(known, _)| *known != base);
        self.0.extend(state.map(|state| (base, state)));
    }

    /// The external address of a base.
    pub(super) fn of(&self, base: SocketAddr) -> Option<SocketAddr> {
        self.0.iter().find_map(|(known, state)| match state {
            State::To(external) if *known == base => Some(*external),
            _ => None,
        })
    }

    pub(super) fn is_settled(&self) -> bool {
        self.awaited().next().is_none()
    }

    fn awaited(&self) -> impl Iterator<Item = Instant> {
        self.0.iter().filter_map(|(_, state)| match state {
            State::Awaited { until } => Some(*until),
            State::Late | State::To(_) => None,
        })
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.awaited().min()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        for (_, state) in &mut self.0 {
            if matches!(state, State::Awaited { until } if *until <= now) {
                *state = State::Late;
            }
        }
    }

    /// Forgets what belongs to sockets that are no more.
    pub(super) fn keep(&mut self, stands: impl Fn(SocketAddr) -> bool) {
        self.0.retain(|(base, _)| stands(*base));
    }
}

impl Gatherer {
    /// The router of this base is being asked to map its port: gathering is not finished before
    /// its answer ([`Self::set_mapped`]), but waits for it neither beyond `until` nor beyond the
    /// patience.
    pub fn await_mapping(&mut self, base: SocketAddr, until: Instant) {
        self.mapped.set(base, Some(State::Awaited { until }));
        self.finished &= self.mapped.is_settled();
    }

    /// The router maps this external address to the base; or it does not, or no longer. What is
    /// told after the end of gathering counts from the next [`Self::gathered`] on.
    pub fn set_mapped(&mut self, base: SocketAddr, external: Option<SocketAddr>) {
        self.mapped.set(base, external.map(State::To));
        self.finish_if_settled();
    }
}
