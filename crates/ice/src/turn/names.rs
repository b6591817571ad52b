//! The relayed addresses of an allocation, at most one of each address family, and the names that
//! ICE has for them.
//!
//! When a server loses an allocation, its successor has other addresses on the wire. ICE goes on
//! with the first ones as names, and peers see the others as peer-reflexive, until the next ICE
//! restart offers them.

use std::net::SocketAddr;

/// Of one address family.
#[derive(Debug, Clone, Copy, Default)]
struct Name {
    /// The address by which ICE knows the allocation.
    known: Option<SocketAddr>,
    /// The address that the allocation has.
    actual: Option<SocketAddr>,
    /// The address by which ICE knew it before the last restart.
    former: Option<SocketAddr>,
}

/// Of IPv4 and of IPv6.
#[derive(Debug, Default)]
pub(super) struct Names {
    names: [Name; 2],
    /// Whether ICE is to know a successor by its own addresses.
    renames: bool,
}

impl Names {
    /// The server has made an allocation with these addresses, the first one or a successor.
    pub(super) fn allocated(&mut self, addresses: &[SocketAddr]) {
        for (name, ipv6) in self.names.iter_mut().zip([false, true]) {
            let mut of_family = addresses.iter().filter(|own| own.is_ipv6() == ipv6);
            name.actual = of_family.next().copied();
            name.known = name.known.or(name.actual);
        }
        self.rename();
    }

    /// From now on ICE knows the allocation and its successors by the addresses that they have.
    pub(super) fn follow(&mut self) {
        self.renames = true;
        self.rename();
    }

    fn rename(&mut self) {
        if !self.renames || !self.is_known() {
            return;
        }
        for name in &mut self.names {
            if name.actual != name.known {
                name.former = name.known.or(name.former);
                name.known = name.actual;
            }
        }
    }

    /// Whether ICE is to know a successor by its own addresses.
    pub(super) fn follows(&self) -> bool {
        self.renames
    }

    /// Whether there ever was an allocation.
    pub(super) fn is_known(&self) -> bool {
        self.names.iter().any(|name| name.actual.is_some())
    }

    /// The addresses by which ICE knows the allocation.
    pub(super) fn known(&self) -> impl Iterator<Item = SocketAddr> {
        self.names.iter().filter_map(|name| name.known)
    }

    /// These, and those of before the last restart.
    pub(super) fn all(&self) -> impl Iterator<Item = SocketAddr> {
        let names = self.names.iter();
        names.flat_map(|name| name.known.into_iter().chain(name.former))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_successor_keeps_the_names_until_the_next_restart() {
        let first = addresses(&["192.0.2.1:1", "[2001:db8::1]:1"]);
        let second = addresses(&["192.0.2.1:2", "[2001:db8::1]:2"]);
        let mut names = Names::default();
        assert!(!names.is_known());
        names.allocated(&first);
        names.allocated(&second);
        assert_eq!(names.known().collect::<Vec<_>>(), first);
        names.follow();
        assert_eq!(names.known().collect::<Vec<_>>(), second);
        assert_eq!(names.all().count(), 4);
        let third = addresses(&["192.0.2.1:3", "[2001:db8::1]:3"]);
        names.allocated(&third);
        assert_eq!(names.known().collect::<Vec<_>>(), third);
        let all: Vec<_> = names.all().collect();
        assert!(second.iter().chain(&third).all(|own| all.contains(own)));
    }

    /// A restarted server may have lost a network of its own.
    #[test]
    fn a_family_may_end_and_may_come_back() {
        let both = addresses(&["192.0.2.1:1", "[2001:db8::1]:1"]);
        let mut names = Names::default();
        names.allocated(&both);
        names.follow();
        names.allocated(&addresses(&["192.0.2.1:2"]));
        assert_eq!(
            names.known().collect::<Vec<_>>(),
            addresses(&["192.0.2.1:2"])
        );
        assert!(
            names.all().any(|own| own == both[1]),
            "the old session's name"
        );
        let again = addresses(&["192.0.2.1:3", "[2001:db8::1]:3"]);
        names.allocated(&again);
        assert_eq!(names.known().collect::<Vec<_>>(), again);
    }

    #[test]
    fn a_server_that_gives_too_much_gets_one_of_each_family() {
        let mut names = Names::default();
        names.allocated(&addresses(&["192.0.2.1:1", "192.0.2.1:2", "192.0.2.9:3"]));
        assert_eq!(
            names.known().collect::<Vec<_>>(),
            addresses(&["192.0.2.1:1"])
        );
    }
}
