//! How many checks an address gets that never answers (RFC 8445 section 19.5.1).
//!
//! Whoever writes somebody else's address into an offer makes us check it. The candidates of one
//! description are bounded, but a call has many: one for every fork, one for every restart. So what
//! counts is the address, over all of them.

use std::collections::HashMap;
use std::net::IpAddr;

/// Addresses that are remembered; beyond them no new one gets a check. 32 forks name fewer.
const MOST_ADDRESSES: usize = 4_096;

/// The checks that went to each address since it last answered. Ports do not count apart: to a
/// host that is flooded they are all the same.
#[derive(Debug, Default)]
pub(super) struct Unanswered(HashMap<IpAddr, usize>);

impl Unanswered {
    /// Counts one more check to this address, if it may have one.
    pub(super) fn take(&mut self, address: IpAddr, limit: usize) -> bool {
        if !self.0.contains_key(&address) && self.0.len() >= MOST_ADDRESSES {
            return false;
        }
        let count = self.0.entry(address).or_insert(0);
        let allowed = *count < limit;
        *count += usize::from(allowed);
        allowed
    }

    /// The peer has answered from there, with its password.
    pub(super) fn answered(&mut self, address: IpAddr) {
        self.0.remove(&address);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn each_address_has_its_share_and_an_answer_renews_it() {
        let mut unanswered = Unanswered::default();
        let [one, other] = [1, 2].map(|last| IpAddr::from([192, 0, 2, last]));
        assert_eq!((0..5).filter(|_| unanswered.take(one, 3)).count(), 3);
        assert!(unanswered.take(other, 3));
        unanswered.answered(one);
        assert!(unanswered.take(one, 3));
    }

    #[test]
    fn addresses_without_number_are_not_remembered() {
        let mut unanswered = Unanswered::default();
        let addresses = (0..100_000).map(|number: u32| IpAddr::from(Ipv4Addr::from(number)));
        let allowed = addresses.filter(|address| unanswered.take(*address, 1));
        assert_eq!(allowed.count(), MOST_ADDRESSES);
    }
}
