//! The host's interfaces, as the phone wants them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use webrtc_util::ifaces::ifaces;

use super::error::DriverError;
use crate::Interface;

/// Two well-known public addresses (root name servers). Nothing is ever sent to them: connecting
/// a UDP socket only asks the routing table which address the default route would leave from.
const PUBLIC_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 41, 0, 4));
const PUBLIC_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0x503, 0xba3e, 0, 0, 0, 2, 0x30));

/// The addresses that candidates may be gathered on: every one of the host but loopback and
/// link-local ones, or those of `only` and no others.
pub(super) fn list(only: &[IpAddr]) -> Result<Vec<Interface>, DriverError> {
    let found = ifaces().map_err(|error| DriverError::Interfaces(error.to_string()))?;
    let routes = [
        source_towards(IpAddr::V4(Ipv4Addr::UNSPECIFIED), PUBLIC_V4),
        source_towards(IpAddr::V6(Ipv6Addr::UNSPECIFIED), PUBLIC_V6),
    ];
    let all = found.into_iter().filter_map(|interface| {
        let address = interface.addr?.ip();
        Some(Interface {
            name: interface.name,
            address,
            prefix_len: prefix_len(address, interface.mask),
            default_route: routes.contains(&Some(address)),
        })
    });
    Ok(select(all.collect(), only))
}

/// Applies `--bind`: an unspecified address stands for every ordinary one of its family, and a
/// loopback address counts only when it is named.
fn select(all: Vec<Interface>, only: &[IpAddr]) -> Vec<Interface> {
    let mut chosen: Vec<Interface> = Vec::new();
    for interface in &all {
        let address = interface.address;
        let ordinary = !address.is_loopback() && !is_link_local(address);
        let wanted = only.is_empty()
            || only
                .iter()
                .any(|ip| ip.is_unspecified() && ip.is_ipv4() == address.is_ipv4());
        let known = chosen.iter().any(|other| other.address == address);
        if !known && (only.contains(&address) || (wanted && ordinary)) {
            chosen.push(interface.clone());
        }
    }
    // 127.0.0.2 can be bound and is listed nowhere.
    for ip in only.iter().filter(|ip| !ip.is_unspecified()) {
        if !chosen.iter().any(|other| other.address == *ip) {
            chosen.push(Interface {
                name: ip.to_string(),
                address: *ip,
                prefix_len: if ip.is_ipv4() { 32 } else { 128 },
                default_route: false,
            });
        }
    }
    chosen
}

/// Link-local addresses need a scope, which candidates cannot carry (RFC 8839 section 5.1).
fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// The length of the prefix; a whole address where the system names no mask.
fn prefix_len(address: IpAddr, mask: Option<SocketAddr>) -> u8 {
    let ones = match mask.map(|mask| mask.ip()) {
        Some(IpAddr::V4(v4)) => v4.to_bits().leading_ones(),
        Some(IpAddr::V6(v6)) => v6.to_bits().leading_ones(),
        None if address.is_ipv4() => 32,
        None => 128,
    };
    u8::try_from(ones).unwrap_or(128)
}

/// The address that packets to `destination` would leave from.
fn source_towards(unbound: IpAddr, destination: IpAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind((unbound, 0)).ok()?;
    socket.connect((destination, 53)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(name: &str, address: &str) -> Interface {
        Interface {
            name: name.to_owned(),
            address: address.parse().unwrap(),
            prefix_len: 24,
            default_route: false,
        }
    }

    fn addresses(chosen: &[Interface]) -> Vec<String> {
        chosen.iter().map(|i| i.address.to_string()).collect()
    }

    fn host() -> Vec<Interface> {
        vec![
            interface("lo", "127.0.0.1"),
            interface("eth0", "192.0.2.7"),
            interface("eth0", "fe80::1"),
            interface("eth0", "2001:db8::7"),
            interface("tun0", "10.8.0.3"),
        ]
    }

    #[test]
    fn loopback_counts_only_when_it_is_named() {
        let all = select(host(), &[]);
        assert_eq!(addresses(&all), ["192.0.2.7", "2001:db8::7", "10.8.0.3"]);
        let named = select(host(), &["127.0.0.1".parse().unwrap()]);
        assert_eq!(addresses(&named), ["127.0.0.1"]);
    }

    #[test]
    fn an_unspecified_address_stands_for_its_family() {
        let v4 = select(host(), &["0.0.0.0".parse().unwrap()]);
        assert_eq!(addresses(&v4), ["192.0.2.7", "10.8.0.3"]);
    }

    #[test]
    fn an_address_that_is_listed_nowhere_is_taken_at_its_word() {
        let other = select(host(), &["127.0.0.2".parse().unwrap()]);
        assert_eq!(addresses(&other), ["127.0.0.2"]);
        assert_eq!(other[0].prefix_len, 32);
    }

    #[test]
    fn masks_become_prefix_lengths() {
        let v4: IpAddr = "192.0.2.7".parse().unwrap();
        let mask = |text: &str| Some(SocketAddr::new(text.parse().unwrap(), 0));
        assert_eq!(prefix_len(v4, mask("255.255.254.0")), 23);
        assert_eq!(prefix_len(v4, None), 32);
        let v6: IpAddr = "2001:db8::1".parse().unwrap();
        assert_eq!(prefix_len(v6, mask("ffff:ffff:ffff:ffff::")), 64);
    }

    #[test]
    fn this_host_can_be_listed() {
        let loopback = list(&["127.0.0.1".parse().unwrap()]).unwrap();
        assert_eq!(addresses(&loopback), ["127.0.0.1"]);
        assert_eq!(loopback[0].prefix_len, 8);
    }
}
