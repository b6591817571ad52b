//! Candidates that were gathered after the description had left (RFC 8838 section 9).

use std::cmp::Reverse;

use super::{Gathered, LocalCandidate};

impl Gathered {
    /// Adds what `later` knows beyond this and gives it back. What is known keeps its foundation,
    /// since the peer has been told of it, and a later foundation that is equal to it becomes it.
    pub(crate) fn join(&mut self, later: &Self) -> Vec<LocalCandidate> {
        let mut foundations: Vec<(String, String)> = Vec::new();
        let mut missing = Vec::new();
        for candidate in &later.locals {
            match self.find(candidate) {
                Some(known) => foundations.push((
                    candidate.candidate.foundation.clone(),
                    known.candidate.foundation.clone(),
                )),
                None => missing.push(candidate.clone()),
            }
        }
        for local in &mut missing {
            let theirs = &local.candidate.foundation;
            let ours = match foundations.iter().find(|(later, _)| later == theirs) {
                Some((_, ours)) => ours.clone(),
                None => {
                    let fresh = self.fresh_foundation(&foundations);
                    foundations.push((theirs.clone(), fresh.clone()));
                    fresh
                }
            };
            local.candidate.foundation = ours;
        }
        self.locals.extend(missing.iter().cloned());
        self.locals.sort_by_key(|local| {
            let candidate = &local.candidate;
            (candidate.component, Reverse(candidate.priority))
        });
        missing
    }

    /// RFC 8838 section 9: equal address and base are redundant, whatever the priority.
    fn find(&self, other: &LocalCandidate) -> Option<&LocalCandidate> {
        self.locals.iter().find(|local| {
            local.candidate.address == other.candidate.address
                && local.candidate.protocol == other.candidate.protocol
                && local.base == other.base
                && local.candidate.component == other.candidate.component
        })
    }

    fn fresh_foundation(&self, given: &[(String, String)]) -> String {
        let known = self
            .locals
            .iter()
            .map(|local| local.candidate.foundation.as_str())
            .chain(given.iter().map(|(_, ours)| ours.as_str()));
        let highest = known.filter_map(|foundation| foundation.parse::<u32>().ok());
        highest.max().unwrap_or(0).saturating_add(1).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::candidate::{Candidate, CandidateType, ComponentId, TransportProtocol};

    fn local(foundation: &str, component: ComponentId, address: &str) -> LocalCandidate {
        let base = if component == ComponentId::Rtp {
            "10.0.0.1:4000"
        } else {
            "10.0.0.1:4001"
        };
        let kind = if address.starts_with("10.") {
            CandidateType::Host
        } else {
            CandidateType::ServerReflexive
        };
        LocalCandidate {
            candidate: Candidate {
                foundation: foundation.to_owned(),
                component,
                protocol: TransportProtocol::Udp,
                priority: super::super::priority(kind, 65_535, component),
                address: address.parse().unwrap(),
                kind,
                related: None,
            },
            base: base.parse().unwrap(),
            local_preference: 65_535,
        }
    }

    #[test]
    fn what_was_told_keeps_its_foundation_and_what_comes_gets_one_of_its_own() {
        use ComponentId::{Rtcp, Rtp};
        // The second server's answer was there first; then that of the first one came, and that
        // of the second one for component 2.
        let mut told = Gathered {
            locals: vec![
                local("1", Rtp, "10.0.0.1:4000"),
                local("2", Rtp, "192.0.2.2:1"),
                local("1", Rtcp, "10.0.0.1:4001"),
            ],
        };
        let all = Gathered {
            locals: vec![
                local("1", Rtp, "10.0.0.1:4000"),
                local("2", Rtp, "192.0.2.1:1"),
                local("3", Rtp, "192.0.2.2:1"),
                local("1", Rtcp, "10.0.0.1:4001"),
                local("3", Rtcp, "192.0.2.2:2"),
            ],
        };
        let late: Vec<_> = told
            .join(&all)
            .iter()
            .map(|late| format!("{} {}", late.candidate.address, late.candidate.foundation))
            .collect();
        assert_eq!(late, ["192.0.2.1:1 3", "192.0.2.2:2 2"]);
        assert_eq!(told.candidates().count(), 5);
        assert_eq!(told.join(&all), [], "once only");
    }
}
