//! The host's interfaces, as the phone wants them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use webrtc_util::ifaces::ifaces;

use super::error::DriverError;
use super::inet6::{self, Flags};
use crate::Interface;
use crate::addresses::{is_link_local, is_usable};

/// Two well-known public addresses (root name servers). Nothing is ever sent to them: connecting
/// a UDP socket only asks the routing table which address the default route would leave from.
const PUBLIC_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 41, 0, 4));
const PUBLIC_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0x503, 0xba3e, 0, 0, 0, 2, 0x30));

/// One address of an interface, with what is told about it.
#[derive(Debug, Clone)]
struct Found {
    interface: Interface,
    flags: Flags,
}

/// The addresses that candidates may be gathered on: those of the host that RFC 8445 section
/// 5.1.1.1 allows, or those of `only` and no others.
pub(super) fn list(only: &[IpAddr]) -> Result<Vec<Interface>, DriverError> {
    let found = ifaces().map_err(|error| DriverError::Interfaces(error.to_string()))?;
    let routes = [
        source_towards(IpAddr::V4(Ipv4Addr::UNSPECIFIED), PUBLIC_V4),
        source_towards(IpAddr::V6(Ipv6Addr::UNSPECIFIED), PUBLIC_V6),
    ];
    let flags = inet6::flags();
    let all = found.into_iter().filter_map(|interface| {
        let address = interface.addr?.ip();
        Some(Found {
            flags: match address {
                IpAddr::V4(_) => Flags::default(),
                IpAddr::V6(v6) => flags.get(&v6).copied().unwrap_or_default(),
            },
            interface: Interface {
                name: interface.name,
                address,
                prefix_len: prefix_len(address, interface.mask),
                default_route: routes.contains(&Some(address)),
            },
        })
    });
    Ok(select(all.collect(), only))
}

/// The number of the link that a link-local address belongs to (RFC 4007): a socket is bound to
/// both. Zero for an address that needs none, or that nobody here has.
pub(super) fn scope_of(address: IpAddr) -> u32 {
    if !matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local()) {
        return 0;
    }
    let scope = |found: webrtc_util::ifaces::Interface| match found.addr? {
        SocketAddr::V6(known) if IpAddr::V6(*known.ip()) == address => Some(known.scope_id()),
        _ => None,
    };
    let all = ifaces().unwrap_or_default();
    all.into_iter().find_map(scope).unwrap_or_default()
}

/// Applies `--bind`: an unspecified address stands for every ordinary one of its family, and a
/// loopback address counts only when it is named.
fn select(all: Vec<Found>, only: &[IpAddr]) -> Vec<Interface> {
    let ordinary = ordinary(&all);
    let mut chosen: Vec<Interface> = Vec::new();
    let wanted = |address: IpAddr| {
        let family = |ip: &IpAddr| ip.is_unspecified() && ip.is_ipv4() == address.is_ipv4();
        only.is_empty() || only.iter().any(family)
    };
    let named = all.iter().map(|found| &found.interface);
    let named = named.filter(|interface| only.contains(&interface.address));
    let ordinary = ordinary
        .iter()
        .filter(|interface| wanted(interface.address));
    for interface in ordinary.chain(named) {
        if !chosen
            .iter()
            .any(|other| other.address == interface.address)
        {
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

/// The addresses that are used when nobody names any.
fn ordinary(all: &[Found]) -> Vec<Interface> {
    let fit: Vec<&Found> = all
        .iter()
        .filter(|found| is_usable(found.interface.address) && !found.flags.unfit)
        .collect();
    let temporary = |found: &&Found| found.flags.temporary;
    let any_temporary = fit.iter().any(temporary);
    let mut ordinary = Vec::new();
    for found in &fit {
        let Interface { address, name, .. } = &found.interface;
        // A link-local address tells who the host is, and is of no use beside another one.
        let alone = !fit
            .iter()
            .any(|other| other.interface.name == *name && !is_link_local(other.interface.address));
        if is_link_local(*address) && !(alone && (address.is_ipv4() || !any_temporary)) {
            continue;
        }
        let siblings = fit.iter().copied().filter(|other| is_sibling(other, found));
        let siblings: Vec<&Found> = siblings.collect();
        if !found.flags.temporary && siblings.iter().any(temporary) {
            continue;
        }
        // The system may still take the lasting address for its own packets.
        let route = siblings.iter().any(|other| other.interface.default_route);
        let default_route = found.interface.default_route || (found.flags.temporary && route);
        ordinary.push(Interface {
            default_route,
            ..found.interface.clone()
        });
    }
    ordinary
}

/// Whether two IPv6 addresses stand on one interface with one prefix.
fn is_sibling(one: &Found, other: &Found) -> bool {
    let prefix = |found: &Found| match found.interface.address {
        IpAddr::V4(_) => None,
        IpAddr::V6(v6) => {
            let host = 128_u32.saturating_sub(found.interface.prefix_len.into());
            Some(v6.to_bits().checked_shr(host).unwrap_or_default())
        }
    };
    let (one_prefix, other_prefix) = (prefix(one), prefix(other));
    one.interface.address != other.interface.address
        && one.interface.name == other.interface.name
        && one_prefix.is_some()
        && one_prefix == other_prefix
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
pub(super) fn source_towards(unbound: IpAddr, destination: IpAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind((unbound, 0)).ok()?;
    socket.connect((destination, 53)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(name: &str, address: &str) -> Found {
        Found {
            interface: Interface {
                name: name.to_owned(),
                address: address.parse().unwrap(),
                prefix_len: if address.contains(':') { 64 } else { 24 },
                default_route: false,
            },
            flags: Flags::default(),
        }
    }

    fn temporary(mut found: Found) -> Found {
        found.flags.temporary = true;
        found
    }

    fn unfit(mut found: Found) -> Found {
        found.flags.unfit = true;
        found
    }

    fn addresses(chosen: &[Interface]) -> Vec<String> {
        chosen.iter().map(|i| i.address.to_string()).collect()
    }

    fn host() -> Vec<Found> {
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

    /// RFC 8445 section 5.1.1.1: what recognises the host is not gathered beside what does not, and
    /// a link-local address beside neither.
    #[test]
    fn temporary_addresses_stand_for_the_lasting_ones_of_their_prefix() {
        let mut lasting = interface("eth0", "2001:db8::7");
        lasting.interface.default_route = true;
        let all = vec![
            lasting,
            temporary(interface("eth0", "2001:db8::a1:b2c3:d4e5:f607")),
            unfit(temporary(interface("eth0", "2001:db8::1:2:3:4"))),
            interface("eth0", "2001:db8:0:1::7"),
            interface("eth1", "2001:db8::8"),
            unfit(interface("eth1", "2001:db8::9")),
            interface("eth2", "fe80::2"),
        ];
        let chosen = select(all, &[]);
        assert_eq!(
            addresses(&chosen),
            [
                "2001:db8::a1:b2c3:d4e5:f607",
                "2001:db8:0:1::7",
                "2001:db8::8"
            ]
        );
        assert!(chosen[0].default_route, "it takes the place of the other");
    }

    #[test]
    fn link_local_addresses_count_where_an_interface_has_nothing_else() {
        let all = || {
            vec![
                interface("eth0", "192.0.2.7"),
                interface("eth0", "fe80::1"),
                interface("eth1", "fe80::2"),
                interface("eth2", "169.254.7.7"),
            ]
        };
        let usual = select(all(), &[]);
        assert_eq!(addresses(&usual), ["192.0.2.7", "fe80::2", "169.254.7.7"]);
        let named = select(all(), &["fe80::1".parse().unwrap()]);
        assert_eq!(addresses(&named), ["fe80::1"]);
    }

    #[test]
    fn what_ipv6_has_given_up_is_never_gathered() {
        let all = ["::1", "::192.0.2.1", "::ffff:192.0.2.1", "fec0::1"];
        let all = all.map(|address| interface("eth0", address));
        assert_eq!(addresses(&select(all.to_vec(), &[])), [""; 0]);
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
