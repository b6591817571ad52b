//! Which of our sockets and addresses face a destination.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::endpoint::LocalAddress;

/// The socket that a datagram to `to` leaves from.
pub(crate) fn socket_towards(
    sockets: &[SocketAddr],
    addresses: &[LocalAddress],
    to: IpAddr,
) -> Option<SocketAddr> {
    let wanted = address_towards(addresses, to);
    sockets
        .iter()
        .filter(|socket| socket.is_ipv4() == to.is_ipv4())
        .max_by_key(|socket| {
            let ip = socket.ip();
            // A bound address that lies on the way is best, an open one good for everything.
            match () {
                () if to.is_loopback() && ip.is_loopback() => 4,
                () if Some(ip) == wanted => 3,
                () if ip.is_unspecified() => 2,
                () if ip.is_loopback() => 0,
                () => 1,
            }
        })
        .copied()
}

/// The host that Via and Contact name towards `to`, for the socket chosen above.
pub(crate) fn host_towards(socket: SocketAddr, addresses: &[LocalAddress], to: IpAddr) -> IpAddr {
    if !socket.ip().is_unspecified() {
        return socket.ip();
    }
    address_towards(addresses, to).unwrap_or(socket.ip())
}

/// Our address on the destination's network, else the default route's, else any of that family.
fn address_towards(addresses: &[LocalAddress], to: IpAddr) -> Option<IpAddr> {
    if to.is_loopback() {
        return Some(match to {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    let family = addresses
        .iter()
        .filter(|address| address.ip.is_ipv4() == to.is_ipv4() && !address.ip.is_loopback());
    let on_link = family
        .clone()
        .filter(|address| shares_prefix(address.ip, to, address.prefix_len))
        .max_by_key(|address| address.prefix_len);
    on_link
        .or_else(|| family.clone().find(|address| address.default_route))
        .or_else(|| family.clone().next())
        .map(|address| address.ip)
}

fn shares_prefix(a: IpAddr, b: IpAddr, len: u8) -> bool {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            let differing = u32::from(a) ^ u32::from(b);
            differing.leading_zeros() >= u32::from(len.min(32))
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            let differing = u128::from(a) ^ u128::from(b);
            differing.leading_zeros() >= u32::from(len.min(128))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(ip: &str, prefix_len: u8, default_route: bool) -> LocalAddress {
        LocalAddress {
            ip: ip.parse().unwrap(),
            prefix_len,
            default_route,
        }
    }

    #[test]
    fn the_address_on_the_destinations_network_comes_first() {
        let addresses = [
            address("10.8.0.2", 24, false),
            address("192.168.1.5", 24, true),
            address("2001:db8::5", 64, true),
        ];
        let any: SocketAddr = "0.0.0.0:5060".parse().unwrap();
        let host = |to: &str| host_towards(any, &addresses, to.parse().unwrap()).to_string();
        assert_eq!(host("10.8.0.77"), "10.8.0.2");
        assert_eq!(host("192.168.1.9"), "192.168.1.5");
        assert_eq!(host("203.0.113.1"), "192.168.1.5");
        assert_eq!(host("127.0.0.1"), "127.0.0.1");
    }

    #[test]
    fn sockets_are_chosen_by_family_and_network() {
        let addresses = [
            address("10.8.0.2", 24, false),
            address("192.168.1.5", 24, true),
        ];
        let sockets: Vec<SocketAddr> = [
            "127.0.0.1:5060",
            "10.8.0.2:5060",
            "192.168.1.5:5060",
            "[::]:5060",
        ]
        .map(|socket| socket.parse().unwrap())
        .to_vec();
        let chosen = |to: &str| {
            socket_towards(&sockets, &addresses, to.parse().unwrap())
                .unwrap()
                .to_string()
        };
        assert_eq!(chosen("10.8.0.9"), "10.8.0.2:5060");
        assert_eq!(chosen("8.8.8.8"), "192.168.1.5:5060");
        assert_eq!(chosen("127.0.0.2"), "127.0.0.1:5060");
        assert_eq!(chosen("2001:db8::1"), "[::]:5060");
        assert_eq!(
            socket_towards(&sockets[..3], &addresses, "::1".parse().unwrap()),
            None
        );
    }
}
