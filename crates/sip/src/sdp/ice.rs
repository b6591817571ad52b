//! The ICE attributes (RFC 8839 section 5).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ringtrue_ice::{
    Candidate, CandidateType, ComponentId, Credentials, IceDescription, TcpType, TransportProtocol,
    Trickle,
};
use sdp_types::{Attribute, Media, Session};

use super::codec::values;
use super::read::Destination;
use super::{IceSupport, MAX_CANDIDATES};

/// RFC 8840 section 8.2.
pub(super) const END_OF_CANDIDATES: &str = "end-of-candidates";

/// An `a=candidate` line: where it points, and the candidate unless we must ignore it.
struct CandidateLine {
    component: u16,
    is_udp: bool,
    address: SocketAddr,
    candidate: Option<Candidate>,
}

/// What a stream's description means for ICE. `destinations` are the defaults of the
/// components that will be used, RTP first.
pub(super) fn support(
    session: &Session,
    media: &Media,
    destinations: &[(ComponentId, Destination)],
) -> IceSupport {
    if has(&media.attributes, "ice-mismatch") {
        return IceSupport::Mismatch;
    }
    let Some(credentials) = credentials(session, media) else {
        return IceSupport::Absent;
    };
    let lines: Vec<_> = values(&media.attributes, "candidate")
        .filter_map(candidate_line)
        .collect();
    let has_rtcp = lines.iter().any(|line| line.component == 2);
    let trickle = trickle(session, media);
    // A candidate that the default belongs to may still be trickled (RFC 8840 section 4.1).
    let signalled = trickle != Trickle::Open;
    for (component, destination) in destinations.iter().filter(|_| signalled) {
        // A peer that names no candidate for RTCP and no `a=rtcp` either does without.
        let unused = *component == ComponentId::Rtcp && !has_rtcp && !destination.is_written;
        if !unused && !is_among(destination, *component, &lines) {
            return IceSupport::Mismatch;
        }
    }
    let used = |c: &Candidate| {
        destinations
            .iter()
            .any(|(component, _)| *component == c.component)
    };
    let mut candidates: Vec<_> = lines
        .into_iter()
        .filter_map(|line| line.candidate)
        .filter(used)
        .collect();
    if candidates.len() > MAX_CANDIDATES {
        candidates.sort_by_key(|c| (c.protocol.is_tcp(), std::cmp::Reverse(c.priority)));
        candidates.truncate(MAX_CANDIDATES);
    }
    let either = |name| has(&session.attributes, name) || has(&media.attributes, name);
    IceSupport::Supported(IceDescription {
        credentials,
        candidates,
        lite: either("ice-lite"),
        ice2: options(session, media).any(|option| option == "ice2"),
        pacing: both(session, media, "ice-pacing").find_map(pacing),
        trickle,
        remote_candidates: values(&media.attributes, "remote-candidates")
            .flat_map(remote_candidates)
            .take(4)
            .collect(),
    })
}

/// RFC 8839 section 4.2.5 with its exceptions: no address yet (`0.0.0.0`, `::`, port 9), and names.
fn is_among(destination: &Destination, component: ComponentId, lines: &[CandidateLine]) -> bool {
    let Some(address) = destination.address else {
        return true;
    };
    (address.ip().is_unspecified() && address.port() == 9)
        || lines.iter().any(|line| {
            line.is_udp && line.component == component.number() && line.address == address
        })
}

fn credentials(session: &Session, media: &Media) -> Option<Credentials> {
    let nearest = |name| {
        values(&media.attributes, name)
            .chain(values(&session.attributes, name))
            .next()
    };
    checked_credentials(nearest("ice-ufrag")?, nearest("ice-pwd")?)
}

/// A ufrag and a password that may be those of an agent.
pub(super) fn checked_credentials(ufrag: &str, pwd: &str) -> Option<Credentials> {
    let (ufrag, pwd) = (ufrag.trim(), pwd.trim());
    // RFC 8839 section 5.4; characters beyond ice-char do no harm, except the colon that
    // separates the two halves of a USERNAME.
    let good = |text: &str| text.bytes().all(|b| b.is_ascii_graphic());
    let fits = (4..=256).contains(&ufrag.len()) && (22..=256).contains(&pwd.len());
    (fits && good(ufrag) && good(pwd) && !ufrag.contains(':')).then(|| Credentials {
        ufrag: ufrag.to_owned(),
        pwd: pwd.to_owned(),
    })
}

fn has(list: &[Attribute], name: &str) -> bool {
    list.iter().any(|a| a.attribute.eq_ignore_ascii_case(name))
}

fn both<'a>(
    session: &'a Session,
    media: &'a Media,
    name: &'a str,
) -> impl Iterator<Item = &'a str> {
    values(&media.attributes, name).chain(values(&session.attributes, name))
}

fn options<'a>(session: &'a Session, media: &'a Media) -> impl Iterator<Item = &'a str> {
    both(session, media, "ice-options").flat_map(str::split_ascii_whitespace)
}

fn trickle(session: &Session, media: &Media) -> Trickle {
    if !options(session, media).any(|option| option == "trickle") {
        return Trickle::Unsupported;
    }
    let ended = |list: &[Attribute]| has(list, END_OF_CANDIDATES);
    if ended(&session.attributes) || ended(&media.attributes) {
        Trickle::Ended
    } else {
        Trickle::Open
    }
}

/// The candidate of an `a=candidate` line, unless it is one that must be ignored.
pub(super) fn candidate(value: &str) -> Option<Candidate> {
    candidate_line(value)?.candidate
}

fn pacing(value: &str) -> Option<Duration> {
    // 1*10DIGIT; a peer that asks for more than a minute is not to be believed.
    let milliseconds: u64 = value.trim().parse().ok()?;
    (milliseconds <= 60_000).then(|| Duration::from_millis(milliseconds))
}

fn candidate_line(value: &str) -> Option<CandidateLine> {
    let mut words = value.split_ascii_whitespace();
    let foundation = words.next()?;
    let component: u16 = words.next()?.parse().ok()?;
    let transport = words.next()?;
    let priority: u32 = words.next()?.parse().ok()?;
    let ip: IpAddr = words.next()?.parse().ok()?;
    let address = SocketAddr::new(ip, words.next()?.parse().ok()?);
    let is_udp = transport.eq_ignore_ascii_case("UDP");
    if words.next()? != "typ" || !(is_udp || transport.eq_ignore_ascii_case("TCP")) {
        return None;
    }
    let kind = candidate_type(words.next()?);
    let rest: Vec<&str> = words.take(32).collect();
    let extension = |name: &str| {
        let pair = rest
            .chunks_exact(2)
            .find(|pair| pair.first() == Some(&name))?;
        pair.get(1).copied()
    };
    let related = extension("raddr")
        .zip(extension("rport"))
        .and_then(|(ip, port)| Some(SocketAddr::new(ip.parse().ok()?, port.parse().ok()?)));
    // RFC 6544 section 4.5: a TCP candidate without its type is ignored, as one of a type that
    // nobody knows.
    let protocol = if is_udp {
        Some(TransportProtocol::Udp)
    } else {
        extension("tcptype").and_then(tcp_type)
    };
    let good_foundation = (1..=32).contains(&foundation.len());
    let good_priority = (1..=0x7fff_ffff).contains(&priority);
    // Nobody shall make us send checks to a group or to everybody.
    let one_host = !ip.is_unspecified() && !ip.is_multicast() && ip != Ipv4Addr::BROADCAST;
    let usable = good_foundation && good_priority && one_host && address.port() != 0;
    let candidate = kind
        .zip(ComponentId::from_number(component))
        .zip(protocol)
        .filter(|_| usable)
        .map(|((kind, component), protocol)| Candidate {
            foundation: foundation.to_owned(),
            component,
            protocol,
            priority,
            address,
            kind,
            related,
        });
    Some(CandidateLine {
        component,
        is_udp,
        address,
        candidate,
    })
}

fn candidate_type(word: &str) -> Option<CandidateType> {
    use CandidateType::{Host, PeerReflexive, Relayed, ServerReflexive};
    [Host, ServerReflexive, PeerReflexive, Relayed]
        .into_iter()
        .find(|kind| kind.as_str() == word)
}

fn tcp_type(word: &str) -> Option<TransportProtocol> {
    use TcpType::{Active, Passive, SimultaneousOpen};
    [Active, Passive, SimultaneousOpen]
        .into_iter()
        .find(|tcp_type| tcp_type.as_str() == word)
        .map(TransportProtocol::Tcp)
}

fn remote_candidates(value: &str) -> Vec<(ComponentId, SocketAddr)> {
    let words: Vec<&str> = value.split_ascii_whitespace().take(12).collect();
    let triple = |triple: &[&str]| {
        let [component, ip, port] = triple else {
            return None;
        };
        let component = ComponentId::from_number(component.parse().ok()?)?;
        Some((
            component,
            SocketAddr::new(ip.parse().ok()?, port.parse().ok()?),
        ))
    };
    words.chunks(3).filter_map(triple).collect()
}

/// The attributes at session level.
pub(super) fn write_session(ice: &IceDescription, attributes: &mut Vec<Attribute>) {
    if ice.lite {
        attributes.push(Attribute::new("ice-lite"));
    }
    let trickles = ice.trickle != Trickle::Unsupported;
    let options = match (ice.ice2, trickles) {
        (true, true) => "ice2 trickle",
        (true, false) => "ice2",
        (false, true) => "trickle",
        (false, false) => "",
    };
    if !options.is_empty() {
        attributes.push(Attribute::with_value("ice-options", options));
    }
    // RFC 8839 section 4.3.1: a lite agent sends none.
    if let Some(pacing) = ice.pacing.filter(|_| !ice.lite) {
        attributes.push(Attribute::with_value("ice-pacing", pacing.as_millis()));
    }
}

/// The attributes of the stream, for these components.
pub(super) fn write_media(
    ice: &IceDescription,
    components: &[ComponentId],
    attributes: &mut Vec<Attribute>,
) {
    attributes.push(Attribute::with_value("ice-ufrag", &ice.credentials.ufrag));
    attributes.push(Attribute::with_value("ice-pwd", &ice.credentials.pwd));
    // Those by TCP last: linphone 5.1 reads no further than the first that it does not know.
    let (tcp, udp): (Vec<_>, Vec<_>) = ice
        .candidates
        .iter()
        .filter(|c| components.contains(&c.component))
        .partition(|c| c.protocol.is_tcp());
    for candidate in udp.into_iter().chain(tcp) {
        attributes.push(Attribute::with_value(
            "candidate",
            candidate_value(candidate),
        ));
    }
    if ice.trickle == Trickle::Ended {
        attributes.push(Attribute::new(END_OF_CANDIDATES));
    }
}

/// `a=remote-candidates`, which only an offer after nomination has (RFC 8839 section 5.2).
pub(super) fn write_remote_candidates(ice: &IceDescription, attributes: &mut Vec<Attribute>) {
    let value: Vec<String> = ice
        .remote_candidates
        .iter()
        .map(|(component, at)| format!("{} {} {}", component.number(), at.ip(), at.port()))
        .collect();
    if !value.is_empty() {
        attributes.push(Attribute::with_value("remote-candidates", value.join(" ")));
    }
}

pub(super) fn candidate_value(candidate: &Candidate) -> String {
    let Candidate {
        foundation,
        priority,
        address,
        kind,
        ..
    } = candidate;
    let transport = match candidate.protocol {
        TransportProtocol::Udp => "UDP",
        TransportProtocol::Tcp(_) => "TCP",
    };
    let mut value = format!(
        "{foundation} {} {transport} {priority} {} {} typ {kind}",
        candidate.component.number(),
        address.ip(),
        address.port(),
    );
    // RFC 8839 section 5.1: all but host candidates have them; `any address, port 9` hides them.
    let hidden = match address.ip() {
        IpAddr::V4(_) => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 9),
        IpAddr::V6(_) => SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 9),
    };
    if *kind != CandidateType::Host {
        let related = candidate.related.unwrap_or(hidden);
        value.push_str(&format!(" raddr {} rport {}", related.ip(), related.port()));
    }
    // RFC 6544 section 4.5.
    if let TransportProtocol::Tcp(tcp_type) = candidate.protocol {
        value.push_str(&format!(" tcptype {}", tcp_type.as_str()));
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Option<Candidate> {
        candidate_line(line)?.candidate
    }

    /// RFC 6544 section 4.5.
    #[test]
    fn tcp_candidates_are_read_and_written() {
        let lines = [
            "T1 1 TCP 1524629503 192.0.2.1 9 typ host tcptype active",
            "T1 1 TCP 1520435199 192.0.2.1 5000 typ host tcptype passive",
            "3 1 TCP 1010827519 192.0.2.9 5001 typ srflx raddr 10.0.0.1 rport 5001 tcptype so",
        ];
        for (line, tcp_type) in
            lines
                .iter()
                .zip([TcpType::Active, TcpType::Passive, TcpType::SimultaneousOpen])
        {
            let candidate = read(line).unwrap();
            assert_eq!(candidate.protocol, TransportProtocol::Tcp(tcp_type));
            assert_eq!(candidate_value(&candidate), *line);
        }
        assert_eq!(
            read("1 1 tcp 1 192.0.2.1 9 typ host generation 0 tcptype active")
                .map(|candidate| candidate.protocol),
            Some(TransportProtocol::Tcp(TcpType::Active))
        );
    }

    #[test]
    fn tcp_candidates_of_no_known_type_are_ignored() {
        for line in [
            "1 1 TCP 1 192.0.2.1 5000 typ host",
            "1 1 TCP 1 192.0.2.1 5000 typ host tcptype",
            "1 1 TCP 1 192.0.2.1 5000 typ host tcptype tunnelled",
            "1 1 TLS 1 192.0.2.1 5000 typ host tcptype passive",
            "1 1 TCP 1 224.0.0.1 5000 typ host tcptype passive",
        ] {
            assert_eq!(read(line), None, "{line}");
        }
    }

    /// The address of `m=` and `c=` is one of UDP: a TCP candidate does not vouch for it.
    #[test]
    fn a_tcp_candidate_is_not_the_default() {
        let line = candidate_line("1 1 TCP 1 192.0.2.1 5000 typ host tcptype passive").unwrap();
        assert!(!line.is_udp);
    }
}
