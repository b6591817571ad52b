//! Agents and worlds that are wrong on purpose, each in one way: the judge must notice.
//!
//! None of them needs a hook in the crate. They are what a wrong agent looks like from outside:
//! a wrapper that withholds packets or candidates, mistakes them or claims a proof too early, or a
//! world with a hole in it.

use std::collections::BTreeSet;
use std::net::SocketAddr;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// The NATs of the agents' world, not those of the oracle's, let everybody in.
    FilterIgnored,
    /// No check in answer to a check, nor to addresses that only a check has revealed.
    TriggeredChecksOff,
    /// A proof as soon as the peer's check has arrived.
    ProofAfterOneDirection,
    /// A proof as soon as one's own check was answered.
    ProofWithoutThePeersRequest,
    /// The other's relays are taken for the best of its candidates, so that they are nominated.
    RelaysFirst,
    /// Addresses of the other family than the first are forgotten.
    OneFamily,
    /// No stream is ever opened.
    NoStreams,
    /// No check goes by UDP where there are TCP candidates.
    StreamsFirst,
}

type Pair = (SocketAddr, SocketAddr);

/// Tells checks apart by what passes the socket.
#[derive(Debug, Default)]
pub struct TriggeredChecks {
    /// The addresses that the peer's description names.
    pub signalled: BTreeSet<SocketAddr>,
    /// Pairs of base and remote on which a request has come that no check has followed yet.
    asked: BTreeSet<Pair>,
    /// Transactions that were withheld.
    withheld: BTreeSet<Vec<u8>>,
    passed: BTreeSet<Vec<u8>>,
    sent: BTreeSet<(Pair, Vec<u8>)>,
}

const REQUEST: [u8; 2] = [0x00, 0x01];
const SUCCESS: [u8; 2] = [0x01, 0x01];

/// The transaction id, if the message is of that type.
pub fn transaction_id(kind: [u8; 2], payload: &[u8]) -> Option<&[u8]> {
    payload.starts_with(&kind).then(|| payload.get(8..20))?
}

impl TriggeredChecks {
    pub fn note_arrived(&mut self, pair: Pair, payload: &[u8]) {
        if transaction_id(REQUEST, payload).is_some() {
            self.asked.insert(pair);
        }
    }

    /// Whether an outgoing message is a check that an incoming one has triggered.
    pub fn is_triggered(&mut self, pair: Pair, payload: &[u8]) -> bool {
        let Some(id) = transaction_id(REQUEST, payload) else {
            return false;
        };
        if self.withheld.contains(id) {
            return true;
        }
        if self.passed.contains(id) {
            return false;
        }
        let unknown = !self.signalled.contains(&pair.1);
        if unknown || self.asked.remove(&pair) {
            self.withheld.insert(id.to_vec());
            return true;
        }
        self.passed.insert(id.to_vec());
        false
    }

    pub fn note_sent(&mut self, pair: Pair, payload: &[u8]) {
        if let Some(id) = transaction_id(REQUEST, payload)
            && self.signalled.contains(&pair.1)
        {
            self.sent.insert((pair, id.to_vec()));
        }
    }

    /// Whether this answers a check, from where that went.
    pub fn is_answer(&self, pair: Pair, payload: &[u8]) -> bool {
        transaction_id(SUCCESS, payload).is_some_and(|id| self.sent.contains(&(pair, id.to_vec())))
    }
}
