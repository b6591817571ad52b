//! TCP candidates (RFC 6544 section 4).

use std::net::SocketAddr;

use super::gathered::{Foundations, LocalCandidate, priority_of};
use super::{Base, Gatherer};
use crate::candidate::{Candidate, CandidateType, TcpType, TransportProtocol};

/// RFC 6544 section 4.5: the port of an active candidate says nothing.
const DISCARD: u16 = 9;

/// RFC 6544 section 4.2 recommends to prefer UDP for RTP, and relayed candidates least. Every
/// direct pair by UDP is preferred to every one by TCP, and that to every relay.
pub(super) fn type_preference(kind: CandidateType) -> u32 {
    match kind {
        CandidateType::Host => 90,
        CandidateType::PeerReflexive => 80,
        CandidateType::ServerReflexive => 70,
        CandidateType::Relayed => 0,
    }
}

/// RFC 6544 section 4.2: `2^13 * direction-pref + other-pref`, with the direction preferences of
/// host candidates.
fn local_preference(tcp_type: TcpType, preference: u16) -> u16 {
    let direction: u16 = match tcp_type {
        TcpType::Active => 6,
        TcpType::Passive => 4,
        TcpType::SimultaneousOpen => 2,
    };
    let other = 0x1fff_u16.saturating_sub(u16::MAX - preference);
    (direction << 13) | other
}

impl Gatherer {
    /// Sockets that listen for TCP connections: each gives a passive candidate, and its address an
    /// active one. Without any there are no TCP candidates.
    pub fn listen_on(&mut self, listeners: Vec<Base>) {
        self.listeners = listeners;
    }

    pub(super) fn add_tcp(&self, locals: &mut Vec<LocalCandidate>, foundations: &mut Foundations) {
        for listener in &self.listeners {
            let ip = listener.address.ip();
            let active = SocketAddr::new(ip, DISCARD);
            // Another protocol, another foundation (RFC 8445 section 5.1.1.3).
            let foundation = format!("T{}", foundations.of(CandidateType::Host, ip, None));
            for (tcp_type, address) in [
                (TcpType::Active, active),
                (TcpType::Passive, listener.address),
            ] {
                locals.push(host(listener, tcp_type, address, foundation.clone()));
            }
        }
    }
}

fn host(
    listener: &Base,
    tcp_type: TcpType,
    address: SocketAddr,
    foundation: String,
) -> LocalCandidate {
    let protocol = TransportProtocol::Tcp(tcp_type);
    let local_preference = local_preference(tcp_type, listener.local_preference);
    let kind = CandidateType::Host;
    LocalCandidate {
        candidate: Candidate {
            foundation,
            component: listener.component,
            protocol,
            priority: priority_of(protocol, kind, local_preference, listener.component),
            address,
            kind,
            related: None,
        },
        base: address,
        local_preference,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::candidate::ComponentId;
    use crate::gather::{GatherConfig, Gathered};

    fn gathered(relay_only: bool) -> Gathered {
        let base = |port, local_preference| Base {
            address: SocketAddr::from(([192, 0, 2, 1], port)),
            component: ComponentId::Rtp,
            local_preference,
        };
        let config = GatherConfig {
            relay_only,
            ..GatherConfig::default()
        };
        let mut gatherer = Gatherer::new(config, vec![base(4000, 65_535)], 1, Instant::now());
        gatherer.listen_on(vec![base(5000, 65_535)]);
        gatherer.gathered()
    }

    #[test]
    fn each_listener_gives_a_passive_and_an_active_candidate_after_udp() {
        let gathered = gathered(false);
        let told: Vec<String> = gathered
            .candidates()
            .map(|candidate| {
                let Candidate {
                    foundation,
                    priority,
                    address,
                    protocol,
                    ..
                } = candidate;
                format!("{foundation} {protocol:?} {address} {priority}")
            })
            .collect();
        // RFC 6544 section 4.2: 90 * 2^24 + (6 or 4) * 2^21 + 8191 * 2^8 + 255.
        assert_eq!(
            told,
            [
                "1 Udp 192.0.2.1:4000 2130706431",
                "T1 Tcp(Active) 192.0.2.1:9 1524629503",
                "T1 Tcp(Passive) 192.0.2.1:5000 1520435199",
            ]
        );
        // What `c=` and `m=` say stays UDP.
        let default = gathered.default_candidate(ComponentId::Rtp).unwrap();
        assert_eq!(default.protocol, TransportProtocol::Udp);
        assert_eq!(gathered.bases().count(), 1);
    }

    #[test]
    fn none_where_only_relays_are_wanted() {
        assert_eq!(gathered(true).candidates().count(), 0);
    }

    /// Every direct way by UDP before every way by TCP, and that before relays.
    #[test]
    fn udp_comes_first_and_relays_last() {
        let kinds = [
            CandidateType::Host,
            CandidateType::PeerReflexive,
            CandidateType::ServerReflexive,
        ];
        for kind in kinds {
            let by_tcp = type_preference(kind);
            assert!(kinds.iter().all(|direct| direct.preference() > by_tcp));
            assert!(by_tcp > CandidateType::Relayed.preference());
        }
    }
}
