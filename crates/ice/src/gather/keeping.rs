//! What is gathered again, beside what was gathered before.

use std::cmp::Reverse;

use super::Gathered;
use crate::candidate::CandidateType;

impl Gathered {
    /// With the server-reflexive candidates of an earlier gathering on the same sockets, as far as
    /// nothing new came in their place: a server that is silent now says nothing about the binding
    /// in the NAT, which may be the one in use (RFC 8839 section 7.5).
    #[must_use]
    pub fn keeping(mut self, earlier: &Self) -> Self {
        let reflexive = CandidateType::ServerReflexive;
        let kept: Vec<_> = earlier
            .locals
            .iter()
            .filter(|old| old.candidate.kind == reflexive)
            .filter(|old| {
                let mut of_socket = self.locals.iter().filter(|new| {
                    new.base == old.base && new.candidate.component == old.candidate.component
                });
                let stands = of_socket.clone().next().is_some();
                stands && !of_socket.any(|new| new.candidate.kind == reflexive)
            })
            .cloned()
            .collect();
        for mut local in kept {
            // The numbers of the new gathering are used up anew.
            if !local.candidate.foundation.starts_with('K') {
                local.candidate.foundation = format!("K{}", local.candidate.foundation);
            }
            self.locals.push(local);
        }
        self.locals.sort_by_key(|local| {
            let candidate = &local.candidate;
            (candidate.component, Reverse(candidate.priority))
        });
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::candidate::{Candidate, ComponentId, TransportProtocol};
    use crate::gather::LocalCandidate;

    fn local(base: &str, address: &str, kind: CandidateType) -> LocalCandidate {
        LocalCandidate {
            candidate: Candidate {
                foundation: "1".to_owned(),
                component: ComponentId::Rtp,
                protocol: TransportProtocol::Udp,
                priority: super::super::priority(kind, 65_535, ComponentId::Rtp),
                address: address.parse().unwrap(),
                kind,
                related: None,
            },
            base: base.parse().unwrap(),
            local_preference: 65_535,
        }
    }

    fn host(base: &str) -> LocalCandidate {
        local(base, base, CandidateType::Host)
    }

    #[test]
    fn a_silent_server_leaves_what_it_said_before() {
        const REFLEXIVE: CandidateType = CandidateType::ServerReflexive;
        let (stays, goes, answered) = ("10.0.0.1:4000", "10.0.0.2:4000", "10.0.0.3:4000");
        let earlier = Gathered {
            locals: vec![
                local(stays, "192.0.2.1:1", REFLEXIVE),
                local(goes, "192.0.2.2:1", REFLEXIVE),
                local(answered, "192.0.2.3:1", REFLEXIVE),
            ],
        };
        let again = Gathered {
            locals: vec![
                host(stays),
                host(answered),
                local(answered, "192.0.2.3:2", REFLEXIVE),
            ],
        };
        let kept = again.keeping(&earlier);
        let reflexive: Vec<String> = kept
            .candidates()
            .filter(|candidate| candidate.kind == REFLEXIVE)
            .map(|candidate| format!("{} {}", candidate.address, candidate.foundation))
            .collect();
        assert_eq!(reflexive, ["192.0.2.3:2 1", "192.0.2.1:1 K1"]);
    }
}
