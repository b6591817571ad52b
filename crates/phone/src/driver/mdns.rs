//! Names that end in `.local`, by multicast DNS (RFC 6762): asked once on each link, as section
//! 5.1 describes it for simple resolvers. Who has the name answers to the asking port.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use hickory_resolver::proto::op::{Message, MessageType, OpCode, Query};
use hickory_resolver::proto::rr::{Name, RecordType};
use rand::TryRng;
use rand::rngs::SysRng;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

/// Where everybody on a link listens (RFC 6762 section 3).
pub(super) const GROUP: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(224, 0, 0, 251)), 5353);
/// How often a question is asked, and how long an answer to each is waited for.
const ATTEMPTS: usize = 3;
const PATIENCE: Duration = Duration::from_millis(300);
/// Links that are asked on.
const MOST_LINKS: usize = 8;
/// A datagram on a link (RFC 6762 section 17).
const DATAGRAM_MAX: usize = 9000;

/// The addresses of a name, asked of `group` from each of our addresses; the first answer counts.
pub(super) async fn look_up(name: &Name, links: &[IpAddr], group: SocketAddr) -> Vec<IpAddr> {
    let mut asking = JoinSet::new();
    let v4 = links.iter().filter_map(|link| match link {
        IpAddr::V4(ip) => Some(*ip),
        IpAddr::V6(_) => None,
    });
    for link in v4.take(MOST_LINKS) {
        let name = name.clone();
        asking.spawn(async move { ask_on(link, &name, group).await });
    }
    while let Some(answer) = asking.join_next().await {
        match answer {
            Ok(Ok(addresses)) if !addresses.is_empty() => return addresses,
            Ok(Err(error)) => tracing::debug!(%error, "no multicast DNS on a link"),
            _ => {}
        }
    }
    Vec::new()
}

async fn ask_on(link: Ipv4Addr, name: &Name, group: SocketAddr) -> std::io::Result<Vec<IpAddr>> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((link, 0)).into())?;
    socket.set_multicast_if_v4(&link)?;
    // RFC 6762 section 11: it stays on the link all the same.
    socket.set_multicast_ttl_v4(255)?;
    let socket = UdpSocket::from_std(socket.into())?;
    let mut id = [0; 2];
    SysRng
        .try_fill_bytes(&mut id)
        .map_err(std::io::Error::other)?;
    let id = u16::from_be_bytes(id);
    let mut question = Message::new(id, MessageType::Query, OpCode::Query);
    for kind in [RecordType::A, RecordType::AAAA] {
        question.add_query(Query::query(name.clone(), kind));
    }
    let question = question.to_vec().map_err(std::io::Error::other)?;
    let mut buffer = vec![0; DATAGRAM_MAX];
    for _ in 0..ATTEMPTS {
        socket.send_to(&question, group).await?;
        let answer = tokio::time::timeout(PATIENCE, async {
            loop {
                let (size, from) = socket.recv_from(&mut buffer).await?;
                let bytes = buffer.get(..size).unwrap_or_default();
                // RFC 6762 section 6: true answers come from the port of the group.
                let found = answers(bytes, id, name);
                if from.port() == group.port() && !found.is_empty() {
                    return std::io::Result::Ok(found);
                }
            }
        });
        if let Ok(found) = answer.await {
            return found;
        }
    }
    Ok(Vec::new())
}

/// The addresses that an answer to our question gives to the name.
fn answers(bytes: &[u8], id: u16, name: &Name) -> Vec<IpAddr> {
    let Ok(message) = Message::from_vec(bytes) else {
        return Vec::new();
    };
    let ours = message.metadata.message_type == MessageType::Response && message.metadata.id == id;
    let records = message.answers.iter().filter(|_| ours);
    records
        .filter(|record| record.name == *name)
        .filter_map(|record| record.data.ip_addr())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_resolver::proto::rr::{RData, Record, rdata::A};

    const LINK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn name(text: &str) -> Name {
        let mut name = Name::from_ascii(text).unwrap();
        name.set_fqdn(true);
        name
    }

    /// Stands for the group: it swallows the first question, and answers the others first with
    /// another name and another number, then truly.
    async fn host(socket: UdpSocket, own: Name, ip: Ipv4Addr) {
        let mut buffer = [0; 1500];
        let _swallowed = socket.recv_from(&mut buffer).await.unwrap();
        loop {
            let (size, from) = socket.recv_from(&mut buffer).await.unwrap();
            let question = Message::from_vec(&buffer[..size]).unwrap();
            let id = question.metadata.id;
            if question.queries.iter().all(|query| *query.name() != own) {
                continue;
            }
            let other = name("other.local");
            let wrong = Ipv4Addr::new(192, 0, 2, 66);
            for (id, name, ip) in [(id, &other, wrong), (!id, &own, wrong), (id, &own, ip)] {
                let mut answer = Message::new(id, MessageType::Response, OpCode::Query);
                answer.add_answer(Record::from_rdata(name.clone(), 120, RData::A(A(ip))));
                let bytes = answer.to_vec().unwrap();
                socket.send_to(&bytes, from).await.unwrap();
            }
        }
    }

    #[tokio::test]
    async fn the_host_that_has_the_name_answers() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let group = socket.local_addr().unwrap();
        let ip = Ipv4Addr::new(192, 0, 2, 7);
        let host = tokio::spawn(host(socket, name("laptop.local"), ip));
        let found = look_up(&name("LapTop.local"), &[LINK], group).await;
        assert_eq!(found, [IpAddr::V4(ip)]);
        let nobody = look_up(&name("nobody.local"), &[LINK], group).await;
        assert!(nobody.is_empty());
        host.abort();
    }
}
