//! From what the servers said to candidates.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::gathered::{Foundations, Gathered, LocalCandidate, local_candidate};
use super::questions::QuestionState;
use super::{Base, Gatherer};
use crate::candidate::CandidateType;
use crate::turn::Relay;

/// The server of the candidates that the router's port mapping gives, for their foundation.
const ROUTER: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

impl Gatherer {
    /// What is known by now; complete when [`Self::is_finished`].
    pub fn gathered(&self) -> Gathered {
        let mut foundations = Foundations::default();
        let mut locals = Vec::new();
        if !self.relay_only {
            self.add_direct(&mut locals, &mut foundations);
            self.add_tcp(&mut locals, &mut foundations);
        }
        self.add_relayed(&mut locals, &mut foundations);
        locals.sort_by_key(|local| {
            let candidate = &local.candidate;
            (candidate.component, std::cmp::Reverse(candidate.priority))
        });
        Gathered { locals }
    }

    fn add_direct(&self, locals: &mut Vec<LocalCandidate>, foundations: &mut Foundations) {
        for base in &self.bases {
            locals.push(local_candidate(
                base,
                CandidateType::Host,
                base.address,
                foundations.of(CandidateType::Host, base.address.ip(), None),
            ));
        }
        // The router's mapping first: it lets everybody in, where what a STUN server saw may be open
        // to that server alone (RFC 4787 section 5).
        let by_router = self
            .bases
            .iter()
            .filter_map(|base| Some((*base, ROUTER, self.mapped.of(base.address)?)));
        let asked = self
            .questions
            .iter()
            .filter_map(|question| match question.state {
                QuestionState::Answered { mapped, .. } => {
                    Some((question.base, question.server.ip(), mapped))
                }
                _ => None,
            });
        // RFC 8656 section 7.3: an allocation tells what a Binding response would.
        let told = self
            .relays
            .iter()
            .filter(|relay| !relay.is_over())
            .filter_map(|relay| {
                Some((
                    *relay.base(),
                    relay.server().address.ip(),
                    relay.reflexive()?,
                ))
            });
        let step = u16::try_from(self.bases.len()).unwrap_or(u16::MAX);
        for (mut base, server, mapped) in by_router.chain(asked).chain(told) {
            // RFC 8445 section 5.1.3: same address and same base: redundant.
            let redundant = locals.iter().any(|local: &LocalCandidate| {
                local.candidate.address == mapped && local.base == base.address
            });
            if !redundant {
                let kind = CandidateType::ServerReflexive;
                let foundation = foundations.of(kind, base.address.ip(), Some(server));
                // RFC 8445 section 5.1.2.1: no two candidates have one priority.
                let known = locals
                    .iter()
                    .filter(|local| local.candidate.kind == kind && local.base == base.address);
                let rank = u16::try_from(known.count()).unwrap_or(u16::MAX);
                base.local_preference = base
                    .local_preference
                    .saturating_sub(rank.saturating_mul(step));
                locals.push(local_candidate(&base, kind, mapped, foundation));
            }
        }
    }

    /// A relayed candidate is its own base (RFC 8445 section 5.1.1.2).
    fn add_relayed(&self, locals: &mut Vec<LocalCandidate>, foundations: &mut Foundations) {
        let mut of_base: Vec<(SocketAddr, u16)> = Vec::new();
        for relay in &self.relays {
            let base = relay.base().address;
            for relayed in relay.relayed() {
                let rank = match of_base.iter_mut().find(|known| known.0 == base) {
                    Some(known) => {
                        known.1 += 1;
                        known.1
                    }
                    None => {
                        of_base.push((base, 0));
                        0
                    }
                };
                locals.push(self.relayed_candidate(relay, relayed, rank, foundations));
            }
        }
    }

    /// The one that stands so many places behind the first of its base.
    fn relayed_candidate(
        &self,
        relay: &Relay,
        relayed: SocketAddr,
        rank: u16,
        foundations: &mut Foundations,
    ) -> LocalCandidate {
        let (kind, base) = (CandidateType::Relayed, relay.base());
        let server = relay.server().address.ip();
        let foundation = foundations.of(kind, relayed.ip(), Some(server));
        // RFC 8445 section 5.1.2.1: no two candidates have one priority, so the second of a base
        // stands behind the first of all.
        let step = u16::try_from(self.bases.len()).unwrap_or(u16::MAX);
        let relayed_base = Base {
            address: relayed,
            component: base.component,
            local_preference: base
                .local_preference
                .saturating_sub(rank.saturating_mul(step)),
        };
        let mut local = local_candidate(&relayed_base, kind, relayed, foundation);
        // RFC 8839 section 5.1 wants the mapped address there; or no address at all, when
        // none is to be told.
        local.candidate.related = match relay.mapped() {
            Some(mapped) if !self.relay_only => Some(mapped),
            _ if relayed.is_ipv4() => Some(SocketAddr::from(([0; 4], 9))),
            _ => Some(SocketAddr::from(([0_u16; 8], 9))),
        };
        local
    }
}
