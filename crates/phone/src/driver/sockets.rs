//! The UDP sockets: SIP ones, which live as long as the phone, and media ones.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::task::{Context, Poll};

use socket2::{Domain, Protocol, SockRef, Socket as RawSocket, Type};
use tokio::net::UdpSocket;

use super::interfaces::scope_of;
use super::{BindAddress, DriverError};

/// Room for about a second of everything that a call can bring, even if this program sleeps; the
/// system gives what its limits allow.
const BUFFER: usize = 512 * 1024;

/// One socket, twice: tokio's half tells when there is something to read; the other half sends at
/// once, which tokio's does only after its reactor has first seen the socket.
struct Socket {
    readable: UdpSocket,
    sender: std::net::UdpSocket,
    /// The link of a socket that is bound to a link-local IPv6 address; no candidate and no SDP
    /// has a word for it, so it is added and taken away here.
    scope: u32,
}

/// All of them, by the address that they are bound to.
#[derive(Default)]
pub(super) struct Sockets {
    open: BTreeMap<SocketAddr, Socket>,
}

/// What a read gave.
pub(super) enum Received {
    /// A datagram of so many bytes, from there.
    Datagram(usize, SocketAddr),
    /// Nothing of use (an ICMP error, say), but there may be more.
    Nothing,
    /// There is no more.
    Empty,
}

impl Sockets {
    /// Binds a socket and gives the address that it got.
    pub(super) fn bind(&mut self, address: SocketAddr) -> std::io::Result<SocketAddr> {
        let raw = RawSocket::new(
            Domain::for_address(address),
            Type::DGRAM,
            Some(Protocol::UDP),
        )?;
        if address.is_ipv6() {
            // Each family has its own socket, so that no address is seen in two notations.
            raw.set_only_v6(true)?;
        }
        raw.set_nonblocking(true)?;
        let scope = scope_of(address.ip());
        raw.bind(&scoped(address, scope).into())?;
        let sender: std::net::UdpSocket = raw.into();
        enlarge_buffers(&sender);
        let readable = UdpSocket::from_std(sender.try_clone()?)?;
        let local = unscoped(readable.local_addr()?, scope);
        let socket = Socket {
            readable,
            sender,
            scope,
        };
        self.open.insert(local, socket);
        Ok(local)
    }

    /// Binds the SIP sockets: where the user says, else one of each address family that there is.
    pub(super) fn bind_sip(
        &mut self,
        wanted: &[BindAddress],
        default_port: u16,
    ) -> Result<Vec<SocketAddr>, DriverError> {
        let mut bind = |ip: IpAddr, port: Option<u16>| {
            let address = SocketAddr::new(ip, port.unwrap_or(default_port));
            self.bind(address).map_err(|error| (address, error))
        };
        let failed = |(address, error): (_, std::io::Error)| DriverError::bind(address, &error);
        if !wanted.is_empty() {
            let bound = wanted.iter().map(|wanted| bind(wanted.ip, wanted.port));
            return bound.map(|bound| bound.map_err(failed)).collect();
        }
        let ipv4 = bind(Ipv4Addr::UNSPECIFIED.into(), None);
        let ipv6 = bind(Ipv6Addr::UNSPECIFIED.into(), None);
        match (ipv4, ipv6) {
            (Ok(ipv4), Ok(ipv6)) => Ok(vec![ipv4, ipv6]),
            // A kernel without the other family. A port that somebody else has is another matter.
            (Ok(one), Err((_, error))) | (Err((_, error)), Ok(one))
                if error.kind() != ErrorKind::AddrInUse =>
            {
                Ok(vec![one])
            }
            (Err(error), _) | (_, Err(error)) => Err(failed(error)),
        }
    }

    /// Binds a socket to any port of an address.
    pub(super) fn bind_any_port(&mut self, address: IpAddr) -> std::io::Result<SocketAddr> {
        self.bind(SocketAddr::new(address, 0))
    }

    /// Closes a socket.
    pub(super) fn close(&mut self, local: SocketAddr) {
        self.open.remove(&local);
    }

    /// Sends. What cannot leave is lost, as any datagram may be.
    pub(super) fn send(&self, local: SocketAddr, to: SocketAddr, payload: &[u8]) {
        let Some(socket) = self.open.get(&local) else {
            tracing::debug!(%local, %to, "no such socket to send from");
            return;
        };
        let to = scoped(to, socket.scope);
        let mut result = socket.sender.send_to(payload, to);
        // An ICMP error of an earlier datagram is reported on the next call, which then did
        // nothing: that one deserves its own attempt.
        if matches!(&result, Err(error) if error.kind() == ErrorKind::ConnectionRefused) {
            result = socket.sender.send_to(payload, to);
        }
        if let Err(error) = result {
            tracing::debug!(%local, %to, %error, "a datagram could not be sent");
        }
    }

    /// The sockets that have something to read; pending when none has.
    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<Vec<SocketAddr>> {
        let ready: Vec<SocketAddr> = self
            .open
            .iter()
            .filter(|(_, socket)| socket.readable.poll_recv_ready(cx).is_ready())
            .map(|(local, _)| *local)
            .collect();
        if ready.is_empty() {
            Poll::Pending
        } else {
            Poll::Ready(ready)
        }
    }

    /// Reads one datagram into `buffer`.
    pub(super) fn receive(&self, local: SocketAddr, buffer: &mut [u8]) -> Received {
        let Some(socket) = self.open.get(&local) else {
            return Received::Empty;
        };
        match socket.readable.try_recv_from(buffer) {
            Ok((size, from)) => Received::Datagram(size, unscoped(from, socket.scope)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Received::Empty,
            Err(error) => {
                tracing::debug!(%local, %error, "a socket reports an error");
                Received::Nothing
            }
        }
    }
}

/// A link-local address with the link that it is on.
fn scoped(address: SocketAddr, scope: u32) -> SocketAddr {
    match address {
        SocketAddr::V6(mut v6) if v6.ip().is_unicast_link_local() && v6.scope_id() == 0 => {
            v6.set_scope_id(scope);
            v6.into()
        }
        _ => address,
    }
}

/// The same without the link, if the socket has but that one.
fn unscoped(address: SocketAddr, scope: u32) -> SocketAddr {
    match scope {
        0 => address,
        _ => SocketAddr::new(address.ip(), address.port()),
    }
}

fn enlarge_buffers(socket: &std::net::UdpSocket) {
    let socket = SockRef::from(socket);
    for result in [
        socket.set_recv_buffer_size(BUFFER),
        socket.set_send_buffer_size(BUFFER),
    ] {
        if let Err(error) = result {
            tracing::debug!(%error, "a socket buffer keeps its size");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    fn loopback() -> IpAddr {
        "127.0.0.1".parse().unwrap()
    }

    #[tokio::test]
    async fn a_fresh_socket_sends_at_once_and_reads_everything() {
        let mut sockets = Sockets::default();
        let a = sockets.bind_any_port(loopback()).unwrap();
        let b = sockets.bind_any_port(loopback()).unwrap();
        sockets.send(a, b, b"one");
        sockets.send(a, b, b"two");
        let ready = poll_fn(|cx| sockets.poll_readable(cx)).await;
        assert_eq!(ready, [b]);
        let mut buffer = [0; 16];
        for expected in [b"one", b"two"] {
            let Received::Datagram(size, from) = sockets.receive(b, &mut buffer) else {
                panic!("a datagram was sent");
            };
            assert_eq!((&buffer[..size], from), (&expected[..], a));
        }
        assert!(matches!(sockets.receive(b, &mut buffer), Received::Empty));
    }

    /// A phone that is told nothing speaks every address family that the kernel has; what the user
    /// names is all there is.
    #[tokio::test]
    async fn sip_is_bound_for_both_address_families() {
        let has_ipv6 = std::net::UdpSocket::bind("[::]:0").is_ok();
        let mut sockets = Sockets::default();
        let bound = sockets.bind_sip(&[], 0).unwrap();
        let families: Vec<bool> = bound.iter().map(SocketAddr::is_ipv6).collect();
        assert_eq!(
            families,
            if has_ipv6 {
                vec![false, true]
            } else {
                vec![false]
            }
        );
        let named = BindAddress {
            ip: loopback(),
            port: None,
        };
        let bound = sockets.bind_sip(&[named], 0).unwrap();
        assert_eq!(bound.len(), 1);
        let taken = BindAddress {
            port: Some(bound[0].port()),
            ..named
        };
        let error = sockets.bind_sip(&[taken], 0).unwrap_err();
        assert!(matches!(error, DriverError::PortInUse(port) if port == bound[0]));
    }

    /// Candidates name no link: what such a socket sends and gets has addresses without one.
    #[tokio::test]
    async fn a_link_local_socket_needs_no_scope() {
        let links = webrtc_util::ifaces::ifaces().unwrap();
        let link_local = links.iter().find_map(|link| match link.addr?.ip() {
            IpAddr::V6(v6) if v6.is_unicast_link_local() => Some(v6),
            _ => None,
        });
        let Some(address) = link_local else {
            println!("skipped: this host has no link-local address");
            return;
        };
        let mut sockets = Sockets::default();
        let a = sockets.bind_any_port(address.into()).unwrap();
        let b = sockets.bind_any_port(address.into()).unwrap();
        assert_eq!(a, SocketAddr::new(address.into(), a.port()));
        sockets.send(a, b, b"one");
        let ready = poll_fn(|cx| sockets.poll_readable(cx)).await;
        assert_eq!(ready, [b]);
        let Received::Datagram(3, from) = sockets.receive(b, &mut [0; 16]) else {
            panic!("a datagram was sent");
        };
        assert_eq!(from, a);
    }

    #[tokio::test]
    async fn a_closed_port_at_the_other_end_does_no_harm() {
        let mut sockets = Sockets::default();
        let a = sockets.bind_any_port(loopback()).unwrap();
        let gone = sockets.bind_any_port(loopback()).unwrap();
        sockets.close(gone);
        let b = sockets.bind_any_port(loopback()).unwrap();
        for _ in 0..3 {
            sockets.send(a, gone, b"nobody");
        }
        sockets.send(a, b, b"somebody");
        let ready = poll_fn(|cx| sockets.poll_readable(cx)).await;
        assert!(ready.contains(&b));
    }
}
