//! Which of the host's addresses media sockets are bound to, the most preferred first
//! (RFC 8445 sections 5.1.1.1 and 5.1.2, RFC 8421).

use std::net::{IpAddr, Ipv6Addr};

use crate::io::Interface;

/// Addresses beyond which none is used: each costs two sockets a call and a line or more in every
/// offer.
const MOST_ADDRESSES: usize = 16;

/// Beginnings of the names that tunnels, bridges, containers and virtual machines give to their
/// interfaces.
const VIRTUAL: [&str; 20] = [
    "tun",
    "tap",
    "utun",
    "wg",
    "ppp",
    "ipsec",
    "zt",
    "tailscale",
    "docker",
    "podman",
    "veth",
    "br-",
    "virbr",
    "vnet",
    "vmnet",
    "vboxnet",
    "lxc",
    "lxdbr",
    "cni",
    "flannel",
];

/// The addresses in order of preference, those of the interfaces that `prefer` names first.
///
/// Then come the default routes, the other interfaces, and last the virtual ones, unless a default
/// route leaves there: RFC 8421 section 3 puts what is known to lead nowhere, mostly, at the end.
/// In each of these groups IPv6 and IPv4 take turns (section 4).
pub(crate) fn by_preference(interfaces: &[Interface], prefer: &[String]) -> Vec<IpAddr> {
    let mut groups: Vec<(Group, Vec<&Interface>)> = Vec::new();
    for interface in interfaces.iter().filter(|known| is_usable(known.address)) {
        let group = group(interface, prefer);
        match groups.iter_mut().find(|known| known.0 == group) {
            Some(known) => known.1.push(interface),
            None => groups.push((group, vec![interface])),
        }
    }
    groups.sort_by_key(|known| known.0);
    let mut ordered: Vec<IpAddr> = Vec::new();
    for (_, members) in groups {
        for address in intermingled(members) {
            if !ordered.contains(&address) {
                ordered.push(address);
            }
        }
    }
    // A link-local address is of use where there is nothing else only.
    ordered.sort_by_key(|address| is_link_local(*address));
    ordered.truncate(MOST_ADDRESSES);
    ordered
}

/// Lower comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    /// Named by the user, in this place.
    Preferred(usize),
    DefaultRoute,
    Other,
    Virtual,
}

fn group(interface: &Interface, prefer: &[String]) -> Group {
    let is_virtual = || VIRTUAL.iter().any(|name| interface.name.starts_with(name));
    match prefer
        .iter()
        .position(|pattern| matches(pattern, &interface.name))
    {
        Some(place) => Group::Preferred(place),
        None if interface.default_route => Group::DefaultRoute,
        None if is_virtual() => Group::Virtual,
        None => Group::Other,
    }
}

/// `eth0` is one interface, `wg*` every one whose name begins so.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => pattern == name,
    }
}

/// RFC 8421 section 4: IPv6 has a head start of (N4 + N6) / N4 addresses where it has more of them
/// than IPv4, else of one; from then on the families take turns.
fn intermingled(members: Vec<&Interface>) -> Vec<IpAddr> {
    let (mut v4, mut v6): (Vec<_>, Vec<_>) = members
        .into_iter()
        .partition(|interface| interface.address.is_ipv4());
    v4.sort_by_key(|interface| !interface.default_route);
    v6.sort_by_key(|interface| (is_unique_local(interface.address), !interface.default_route));
    let head_start = match v4.len() {
        0 => v6.len(),
        n4 if v6.len() <= n4 => 1,
        n4 => (n4 + v6.len()) / n4,
    };
    let mut rest_of_v6 = v6.split_off(head_start.min(v6.len())).into_iter();
    let mut ordered = v6;
    for interface in v4 {
        ordered.push(interface);
        ordered.extend(rest_of_v6.next());
    }
    ordered.extend(rest_of_v6);
    ordered.iter().map(|interface| interface.address).collect()
}

/// RFC 6724 section 10.6 leads to global addresses before those of RFC 4193, which no other site's
/// network knows.
fn is_unique_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unique_local())
}

/// Whether an address works within one link alone.
pub(crate) fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// Whether host candidates may have such an address, unless the user names it (RFC 8445 section
/// 5.1.1.1): no loopback, nothing of the notations that IPv6 has given up, no groups.
pub(crate) fn is_usable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            !v4.is_loopback() && !v4.is_unspecified() && !v4.is_multicast() && !v4.is_broadcast()
        }
        IpAddr::V6(v6) => !v6.is_multicast() && !is_given_up(v6) && !is_site_local(v6),
    }
}

/// `::`, `::1`, IPv4-compatible addresses (RFC 4291 section 2.5.5.1) and IPv4-mapped ones.
fn is_given_up(address: Ipv6Addr) -> bool {
    let compatible = address.segments()[..6] == [0; 6];
    compatible || address.to_ipv4_mapped().is_some()
}

/// RFC 3879.
fn is_site_local(address: Ipv6Addr) -> bool {
    address.segments()[0] & 0xffc0 == 0xfec0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(name: &str, address: &str, default_route: bool) -> Interface {
        Interface {
            name: name.to_owned(),
            address: address.parse().unwrap(),
            prefix_len: 24,
            default_route,
        }
    }

    fn ordered(interfaces: &[(&str, &str, bool)], prefer: &[&str]) -> Vec<String> {
        let interfaces: Vec<Interface> = interfaces
            .iter()
            .map(|(name, address, default)| interface(name, address, *default))
            .collect();
        let prefer: Vec<String> = prefer.iter().map(|name| (*name).to_owned()).collect();
        let ordered = by_preference(&interfaces, &prefer);
        ordered.iter().map(IpAddr::to_string).collect()
    }

    const LAPTOP: [(&str, &str, bool); 8] = [
        ("docker0", "172.17.0.1", false),
        ("tun0", "10.8.0.3", false),
        ("eth1", "10.9.9.9", false),
        ("eth1", "2001:db8:9::9", false),
        ("wlan0", "fd00::7", false),
        ("wlan0", "192.168.1.7", true),
        ("wlan0", "2001:db8::7", true),
        ("wg0", "fd99::3", false),
    ];

    #[test]
    fn default_routes_then_the_others_then_virtual_ones_the_families_by_turns() {
        let expected = [
            "2001:db8::7",
            "192.168.1.7",
            // The global address before the unique local one.
            "2001:db8:9::9",
            "fd00::7",
            "10.9.9.9",
            "fd99::3",
            "172.17.0.1",
            "10.8.0.3",
        ];
        // Two of IPv6 and one of IPv4: the head start is 3, which is all there are.
        assert_eq!(ordered(&LAPTOP, &[]), expected);
    }

    #[test]
    fn what_the_user_prefers_comes_first_in_that_order() {
        let some = ordered(&LAPTOP, &["tun0", "eth*", "nowhere0"]);
        assert_eq!(some[..3], ["10.8.0.3", "2001:db8:9::9", "10.9.9.9"]);
        assert_eq!(some[3..5], ["2001:db8::7", "192.168.1.7"]);
        assert_eq!(some.len(), LAPTOP.len());
        // A name is a name, not a beginning.
        assert_eq!(ordered(&LAPTOP, &["eth"]), ordered(&LAPTOP, &[]));
    }

    #[test]
    fn a_tunnel_that_has_the_default_route_is_no_afterthought() {
        let host = [("eth0", "192.0.2.1", false), ("tun0", "10.8.0.3", true)];
        assert_eq!(ordered(&host, &[]), ["10.8.0.3", "192.0.2.1"]);
    }

    /// RFC 8421 section 4: two of IPv4 and six of IPv6.
    #[test]
    fn the_example_of_rfc_8421() {
        let mut host = Vec::new();
        let names: Vec<String> = (1..=6).map(|n| format!("2001:db8::{n}")).collect();
        for name in &names {
            host.push(("eth0", name.as_str(), false));
        }
        host.extend([("eth0", "192.0.2.1", false), ("eth0", "192.0.2.2", false)]);
        let families: String = ordered(&host, &[])
            .iter()
            .map(|ip| if ip.contains(':') { '6' } else { '4' })
            .collect();
        assert_eq!(families, "66664646");
    }

    #[test]
    fn ten_interfaces_of_both_families_alternate() {
        let names: Vec<(String, String)> = (0..10)
            .map(|n| match n % 2 {
                0 => (format!("eth{n}"), format!("10.0.{n}.1")),
                _ => (format!("eth{n}"), format!("2001:db8:{n}::1")),
            })
            .collect();
        let host: Vec<_> = names
            .iter()
            .map(|(name, ip)| (name.as_str(), ip.as_str(), false))
            .collect();
        let families: String = ordered(&host, &[])
            .iter()
            .map(|ip| if ip.contains(':') { '6' } else { '4' })
            .collect();
        assert_eq!(families, "6464646464");
    }

    #[test]
    fn what_no_candidate_may_have_is_left_out() {
        let host = [
            ("lo", "127.0.0.1", false),
            ("lo", "::1", false),
            ("eth0", "::", false),
            ("eth0", "::192.0.2.1", false),
            ("eth0", "::ffff:192.0.2.1", false),
            ("eth0", "fec0::1", false),
            ("eth0", "ff02::1", false),
            ("eth0", "224.0.0.1", false),
            ("eth0", "192.0.2.1", false),
        ];
        assert_eq!(ordered(&host, &[]), ["192.0.2.1"]);
    }

    #[test]
    fn link_local_addresses_come_last_and_the_number_is_bounded() {
        let names: Vec<String> = (0..40).map(|n| format!("10.0.0.{n}")).collect();
        let mut host = vec![("eth9", "fe80::1", false)];
        host.extend(names.iter().take(5).map(|ip| ("eth0", ip.as_str(), false)));
        assert_eq!(ordered(&host, &["eth9"]).last().unwrap(), "fe80::1");
        host.extend(names.iter().map(|ip| ("eth1", ip.as_str(), false)));
        assert_eq!(ordered(&host, &[]).len(), MOST_ADDRESSES);
    }
}
