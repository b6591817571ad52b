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

/// RFC 6544 section 4.2: `2^13 * direction-pref + other-pref`. Between hosts a connection that one
/// of them opens is the simplest; through a NAT only what both open gets.
fn local_preference(kind: CandidateType, tcp_type: TcpType, preference: u16) -> u16 {
    let direction: u16 = match (kind, tcp_type) {
        (CandidateType::Host, TcpType::Active) => 6,
        (CandidateType::Host, TcpType::SimultaneousOpen) => 2,
        (_, TcpType::SimultaneousOpen) => 6,
        (CandidateType::Host, TcpType::Passive) | (_, TcpType::Active) => 4,
        (_, TcpType::Passive) => 2,
    };
    let other = 0x1fff_u16.saturating_sub(u16::MAX - preference);
    (direction << 13) | other
}

impl Gatherer {
    /// Sockets that listen for TCP connections. Each of the first gives a passive candidate, and its
    /// address an active one; each of the others one of simultaneous open, whose connections leave
    /// from its port, as those do that ask the STUN servers how it is mapped ([`Self::poll_stream`]).
    /// Without any there are no TCP candidates.
    pub fn listen_on(&mut self, listeners: Vec<Base>, simultaneous: Vec<Base>) {
        self.listeners = listeners;
        self.simultaneous = simultaneous;
        self.ask_by_tcp();
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
        let so = TcpType::SimultaneousOpen;
        for base in &self.simultaneous {
            // It fails for other reasons than what one side opens: its pairs wait for none of those.
            let ip = base.address.ip();
            let foundation = format!("S{}", foundations.of(CandidateType::Host, ip, None));
            locals.push(host(base, so, base.address, foundation));
        }
        self.add_mapped_tcp(locals, foundations);
    }

    /// The server-reflexive ones, of simultaneous open alone: a passive one would need a NAT that
    /// lets everybody in.
    fn add_mapped_tcp(&self, locals: &mut Vec<LocalCandidate>, foundations: &mut Foundations) {
        let (so, kind) = (TcpType::SimultaneousOpen, CandidateType::ServerReflexive);
        let step = u16::try_from(self.simultaneous.len()).unwrap_or(u16::MAX);
        let answers = self.tcp_questions.iter().filter_map(|known| known.answer());
        for (base, server, mapped) in answers {
            let of_base = || locals.iter().filter(|known| known.base == base.address);
            // RFC 8445 section 5.1.3.
            if of_base().any(|known| known.candidate.address == mapped) {
                continue;
            }
            let behind = u16::try_from(of_base().count().saturating_sub(1)).unwrap_or(u16::MAX);
            let base = Base {
                local_preference: base
                    .local_preference
                    .saturating_sub(behind.saturating_mul(step)),
                ..*base
            };
            let foundation = foundations.of(kind, base.address.ip(), Some(server.ip()));
            let foundation = format!("S{foundation}");
            let mut local = candidate(kind, &base, so, mapped, foundation);
            local.base = base.address;
            local.candidate.related = Some(base.address);
            locals.push(local);
        }
    }
}

fn host(
    listener: &Base,
    tcp_type: TcpType,
    address: SocketAddr,
    foundation: String,
) -> LocalCandidate {
    candidate(CandidateType::Host, listener, tcp_type, address, foundation)
}

/// One that is its own base.
fn candidate(
    kind: CandidateType,
    listener: &Base,
    tcp_type: TcpType,
    address: SocketAddr,
    foundation: String,
) -> LocalCandidate {
    let protocol = TransportProtocol::Tcp(tcp_type);
    let local_preference = local_preference(kind, tcp_type, listener.local_preference);
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
        gatherer.listen_on(vec![base(5000, 65_535)], vec![base(6000, 65_535)]);
        gatherer.gathered()
    }

    #[test]
    fn each_socket_gives_its_candidates_after_udp() {
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
        // RFC 6544 section 4.2: 90 * 2^24 + (6, 4 or 2) * 2^21 + 8191 * 2^8 + 255.
        assert_eq!(
            told,
            [
                "1 Udp 192.0.2.1:4000 2130706431",
                "T1 Tcp(Active) 192.0.2.1:9 1524629503",
                "T1 Tcp(Passive) 192.0.2.1:5000 1520435199",
                "S1 Tcp(SimultaneousOpen) 192.0.2.1:6000 1516240895",
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
