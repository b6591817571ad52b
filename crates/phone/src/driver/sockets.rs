//! The UDP sockets: SIP ones, which live as long as the phone, and media ones.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll};

use socket2::{Domain, Protocol, SockRef, Socket as RawSocket, Type};
use tokio::net::UdpSocket;

/// Room for about a second of everything that a call can bring, even if this program sleeps; the
/// system gives what its limits allow.
const BUFFER: usize = 512 * 1024;

/// One socket, twice: tokio's half tells when there is something to read; the other half sends at
/// once, which tokio's does only after its reactor has first seen the socket.
struct Socket {
    readable: UdpSocket,
    sender: std::net::UdpSocket,
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
        raw.bind(&address.into())?;
        let sender: std::net::UdpSocket = raw.into();
        enlarge_buffers(&sender);
        let readable = UdpSocket::from_std(sender.try_clone()?)?;
        let local = readable.local_addr()?;
        self.open.insert(local, Socket { readable, sender });
        Ok(local)
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
            Ok((size, from)) => Received::Datagram(size, from),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Received::Empty,
            Err(error) => {
                tracing::debug!(%local, %error, "a socket reports an error");
                Received::Nothing
            }
        }
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
