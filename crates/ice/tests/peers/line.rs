//! Candidates as lines of SDP: what one agent writes, the others read.

use std::str::FromStr as _;

use rice_proto::candidate::{Candidate as RiceCandidate, CandidateType as RiceType};
use ringtrue_ice::{Candidate, CandidateType, ComponentId, TransportProtocol};

/// RFC 8839 section 5.1, without `a=`.
pub fn write(candidate: &Candidate) -> String {
    let Candidate {
        foundation,
        component,
        priority,
        address,
        kind,
        ..
    } = candidate;
    let (number, ip, port) = (component.number(), address.ip(), address.port());
    let mut line = format!("candidate:{foundation} {number} UDP {priority} {ip} {port} typ {kind}");
    if let Some(related) = candidate.related {
        line += &format!(" raddr {} rport {}", related.ip(), related.port());
    }
    line
}

/// Reads such a line, as the `rice-proto` parser understands it.
pub fn read(line: &str) -> Candidate {
    let parsed = RiceCandidate::from_str(line).unwrap_or_else(|_| panic!("a candidate: {line}"));
    Candidate {
        foundation: parsed.foundation,
        component: u16::try_from(parsed.component_id)
            .ok()
            .and_then(ComponentId::from_number)
            .expect("RTP or RTCP"),
        protocol: TransportProtocol::Udp,
        priority: parsed.priority,
        address: parsed.address,
        kind: match parsed.candidate_type {
            RiceType::Host => CandidateType::Host,
            RiceType::PeerReflexive => CandidateType::PeerReflexive,
            RiceType::ServerReflexive => CandidateType::ServerReflexive,
            RiceType::Relayed => CandidateType::Relayed,
        },
        related: parsed.related_address,
    }
}
