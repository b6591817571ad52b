//! The local candidates of a call: what is known of each, its priority and its foundation.

use std::net::{IpAddr, SocketAddr};

use super::Base;
use crate::candidate::{Candidate, CandidateType, ComponentId, TransportProtocol};

/// A local candidate beside the base that its packets leave from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LocalCandidate {
    pub(crate) candidate: Candidate,
    pub(crate) base: SocketAddr,
    pub(crate) local_preference: u16,
}

/// The local candidates of one call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gathered {
    pub(crate) locals: Vec<LocalCandidate>,
}

impl Gathered {
    /// The candidates: component 1 before component 2, then by priority.
    pub fn candidates(&self) -> impl Iterator<Item = &Candidate> {
        self.locals.iter().map(|local| &local.candidate)
    }

    /// The default candidate of a component, for `c=` and `m=` or `a=rtcp`: the kind that reaches
    /// furthest (RFC 8445 section 5.1.4), of the address family that everybody has.
    pub fn default_candidate(&self, component: ComponentId) -> Option<&Candidate> {
        self.candidates()
            .filter(|candidate| candidate.component == component)
            // A peer without ICE is asked for `RTP/AVP`, which is UDP.
            .filter(|candidate| candidate.protocol == TransportProtocol::Udp)
            .max_by_key(|candidate| {
                let reach = match candidate.kind {
                    CandidateType::Relayed => 2,
                    CandidateType::ServerReflexive | CandidateType::PeerReflexive => 1,
                    CandidateType::Host => 0,
                };
                let ip = candidate.address.ip();
                (!is_link_local(ip), ip.is_ipv4(), reach, candidate.priority)
            })
    }

    /// The component of a socket or of a relayed candidate.
    pub(crate) fn component_of(
        &self,
        protocol: TransportProtocol,
        base: SocketAddr,
    ) -> Option<ComponentId> {
        let of_base = self
            .locals
            .iter()
            .find(|local| local.base == base && local.candidate.protocol == protocol);
        of_base.map(|local| local.candidate.component)
    }

    /// The sockets that the candidates leave from, each with its component.
    pub fn bases(&self) -> impl Iterator<Item = (SocketAddr, ComponentId)> {
        self.locals
            .iter()
            .filter(|local| local.candidate.kind == CandidateType::Host)
            .filter(|local| local.candidate.protocol == TransportProtocol::Udp)
            .map(|local| (local.base, local.candidate.component))
    }
}

/// Whether an address works within one link alone.
fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// The formula of RFC 8445 section 5.1.2.1.
pub(crate) fn priority(kind: CandidateType, local_preference: u16, component: ComponentId) -> u32 {
    priority_of(TransportProtocol::Udp, kind, local_preference, component)
}

/// The same for either protocol (RFC 6544 section 4.2).
pub(crate) fn priority_of(
    protocol: TransportProtocol,
    kind: CandidateType,
    local_preference: u16,
    component: ComponentId,
) -> u32 {
    let preference = match protocol {
        TransportProtocol::Udp => kind.preference(),
        TransportProtocol::Tcp(_) => super::tcp::type_preference(kind),
    };
    (preference << 24) | (u32::from(local_preference) << 8) | (256 - u32::from(component.number()))
}

pub(super) fn local_candidate(
    base: &Base,
    kind: CandidateType,
    address: SocketAddr,
    foundation: String,
) -> LocalCandidate {
    LocalCandidate {
        candidate: Candidate {
            foundation,
            component: base.component,
            protocol: TransportProtocol::Udp,
            priority: priority(kind, base.local_preference, base.component),
            address,
            kind,
            related: (kind != CandidateType::Host).then_some(base.address),
        },
        base: base.address,
        local_preference: base.local_preference,
    }
}

/// RFC 8445 section 5.1.1.3: one foundation for each type, base address and server.
#[derive(Debug, Default)]
pub(super) struct Foundations(Vec<(CandidateType, IpAddr, Option<IpAddr>)>);

impl Foundations {
    pub(super) fn of(
        &mut self,
        kind: CandidateType,
        base: IpAddr,
        server: Option<IpAddr>,
    ) -> String {
        let key = (kind, base, server);
        let index = self.0.iter().position(|known| *known == key);
        let index = index.unwrap_or_else(|| {
            self.0.push(key);
            self.0.len() - 1
        });
        (index + 1).to_string()
    }
}
