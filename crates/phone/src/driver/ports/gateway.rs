//! The default gateway of an interface, as the system's routing table has it.

use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr};

use crate::driver::interfaces::source_towards;

/// Linux's IPv4 routes; elsewhere there is no such file, and so no gateway to ask.
const ROUTES: &str = "/proc/net/route";
/// More of the table is not read.
const MOST: u64 = 256 * 1024;
/// The flags of a route that is up and goes through a gateway (RTF_UP, RTF_GATEWAY).
const UP_BY_GATEWAY: u32 = 0x3;

/// The default gateway that packets from this address reach; none if it is not the address that
/// they would leave from, because a router maps to the source of the request (RFC 6886 section 3.3).
pub(super) fn of(local: Ipv4Addr) -> Option<Ipv4Addr> {
    let mut table = String::new();
    let file = File::open(ROUTES).ok()?;
    file.take(MOST).read_to_string(&mut table).ok()?;
    let unbound = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    default_gateways(&table)
        .find(|gateway| source_towards(unbound, IpAddr::V4(*gateway)) == Some(IpAddr::V4(local)))
}

/// The gateways of the default routes in a table in the kernel's notation.
fn default_gateways(table: &str) -> impl Iterator<Item = Ipv4Addr> {
    table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, destination, gateway, flags, _, _, _, mask, ..] = fields.as_slice() else {
            return None;
        };
        let flags = u32::from_str_radix(flags, 16).ok()?;
        let everywhere = number(destination)? == 0 && number(mask)? == 0;
        let gateway = Ipv4Addr::from(number(gateway)?.to_ne_bytes());
        let usable = everywhere && flags & UP_BY_GATEWAY == UP_BY_GATEWAY;
        (usable && !gateway.is_unspecified()).then_some(gateway)
    })
}

/// An address is printed as the number that its bytes in network order are on this machine.
fn number(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_routes_through_a_gateway_count() {
        let hex = |text: &str| {
            let address: Ipv4Addr = text.parse().unwrap();
            format!("{:08X}", u32::from_ne_bytes(address.octets()))
        };
        let line = |name: &str, to: &str, by: &str, flags: &str, mask: &str| {
            let (to, by, mask) = (hex(to), hex(by), hex(mask));
            format!("{name}\t{to}\t{by}\t{flags}\t0\t0\t0\t{mask}\t0\t0\t0\n")
        };
        let (none, all) = ("0.0.0.0", "255.255.255.0");
        let table = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\n"
            .to_owned()
            + &line("eth0", none, "192.168.1.1", "0003", none)
            + &line("eth0", "192.168.1.0", none, "0001", all)
            + &line("tun0", none, none, "0001", none)
            + &line("eth1", "10.0.0.0", "192.168.1.9", "0003", all)
            + &line("wlan0", none, "172.16.0.254", "0003", none)
            + &line("gone0", none, "172.16.0.253", "0002", none)
            + "half a line\n";
        let found: Vec<String> = default_gateways(&table).map(|ip| ip.to_string()).collect();
        assert_eq!(found, ["192.168.1.1", "172.16.0.254"]);
    }

    #[test]
    fn loopback_has_no_gateway() {
        assert_eq!(of(Ipv4Addr::LOCALHOST), None);
    }
}
