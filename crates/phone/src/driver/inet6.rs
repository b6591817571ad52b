//! What Linux tells about its IPv6 addresses beyond their value: /proc/net/if_inet6.

use std::collections::HashMap;
use std::net::Ipv6Addr;

/// What an address is good for (RFC 4862 section 2, RFC 8981).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Flags {
    /// Made for some hours, so that nobody recognises the host by it.
    pub(super) temporary: bool,
    /// Deprecated: no new communication is to begin from it. Tentative or found to be taken: it
    /// is not to be used at all.
    pub(super) unfit: bool,
}

const TEMPORARY: u8 = 0x01;
const OPTIMISTIC: u8 = 0x04;
const DAD_FAILED: u8 = 0x08;
const DEPRECATED: u8 = 0x20;
const TENTATIVE: u8 = 0x40;

/// The flags of every address, as far as this system tells them.
pub(super) fn flags() -> HashMap<Ipv6Addr, Flags> {
    parse(&std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default())
}

/// A line for each: address, number of the interface, length of the prefix, scope, flags, name.
fn parse(text: &str) -> HashMap<Ipv6Addr, Flags> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let address = u128::from_str_radix(words.next()?, 16).ok()?;
        let flags = u8::from_str_radix(words.nth(3)?, 16).ok()?;
        // An optimistic address (RFC 4429) is tentative, but may be used.
        let tentative = flags & TENTATIVE != 0 && flags & OPTIMISTIC == 0;
        let flags = Flags {
            temporary: flags & TEMPORARY != 0,
            unfit: tentative || flags & (DEPRECATED | DAD_FAILED) != 0,
        };
        Some((Ipv6Addr::from(address), flags))
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
20010db8000000000000000000000007 02 40 00 80     eth0
20010db80000000000a1b2c3d4e5f607 02 40 00 01     eth0
20010db800000000ffffb2c3d4e5f607 02 40 00 21     eth0
20010db8000000010000000000000001 02 40 00 40     eth0
20010db8000000010000000000000002 02 40 00 44     eth0
20010db8000000010000000000000003 02 40 00 c8     eth0
and a line that is none
fe80000000000000000000fffe000001 02 40 20 80     eth0
";

    #[test]
    fn the_table_of_linux_is_read() {
        let flags = parse(TABLE);
        let of = |address: &str| {
            let flags = flags[&address.parse::<Ipv6Addr>().unwrap()];
            (flags.temporary, flags.unfit)
        };
        assert_eq!(flags.len(), 7);
        assert_eq!(of("2001:db8::7"), (false, false));
        assert_eq!(of("2001:db8::a1:b2c3:d4e5:f607"), (true, false));
        assert_eq!(of("2001:db8::ffff:b2c3:d4e5:f607"), (true, true));
        assert_eq!(of("2001:db8:0:1::1"), (false, true));
        assert_eq!(of("2001:db8:0:1::2"), (false, false));
        assert_eq!(of("2001:db8:0:1::3"), (false, true));
    }
}
