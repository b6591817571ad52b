//! What is asked of the DNS and what comes back, without any I/O: the questions and answers of
//! RFC 3263 (and of RFC 8489 section 8 and RFC 5928, which the STUN and TURN servers are found
//! by), and the order that RFC 2782 gives to SRV records.
//!
//! Whoever carries a question out makes one look-up of it; aliases (CNAME) are followed and
//! answers are kept for their TTL there. What to ask next is decided here.

mod locate;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;

use rand::{Rng, RngExt as _};
use thiserror::Error;

pub(crate) use locate::{Families, Located, Locator, Place};

/// How many records of one answer are used: more are noise, or an attack.
pub const MAX_RECORDS: usize = 16;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RecordKind {
    /// The addresses of a host: A and AAAA.
    Address,
    /// The servers of a service (RFC 2782); the name begins with `_service._protocol`.
    Srv,
    /// The services of a domain (RFC 3403).
    Naptr,
}

/// The records of one answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Records {
    /// To [`RecordKind::Address`].
    Addresses(Vec<IpAddr>),
    /// To [`RecordKind::Srv`].
    Srv(Vec<SrvRecord>),
    /// To [`RecordKind::Naptr`].
    Naptr(Vec<NaptrRecord>),
}

/// Why a look-up gave nothing. A closed list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LookupError {
    /// The DNS says that there is no such name, or none with such records.
    #[error("no such name")]
    NoSuchName,
    /// No server gave an answer in time, or none that says anything.
    #[error("no answer")]
    NoAnswer,
}

/// What a look-up gave.
pub type LookupResult = Result<Records, LookupError>;

/// An SRV record (RFC 2782).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SrvRecord {
    /// Lower ones are tried first.
    pub priority: u16,
    /// Among equal priorities: how often this one comes first, relative to the others.
    pub weight: u16,
    /// The port.
    pub port: u16,
    /// The host; `.` says that there is no such service.
    pub target: String,
}

/// A NAPTR record (RFC 3403), as far as RFC 3263 needs it: without its regular expression.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NaptrRecord {
    /// Lower ones come first.
    pub order: u16,
    /// Among equal orders: lower ones come first.
    pub preference: u16,
    /// `s`: an SRV look-up of the replacement follows.
    pub flags: String,
    /// The service and its transport, as `SIP+D2U`.
    pub services: String,
    /// The name to go on with.
    pub replacement: String,
}

/// Puts SRV records in the order in which they are tried: by priority, and among equals at random
/// by weight (RFC 2782). At most [`MAX_RECORDS`] of them; those that say "no such service" go.
pub fn order_srv(records: &[SrvRecord], rng: &mut impl Rng) -> Vec<SrvRecord> {
    let mut groups: BTreeMap<u16, Vec<SrvRecord>> = BTreeMap::new();
    let offered = records.iter().filter(|record| !is_root(&record.target));
    for record in offered.take(MAX_RECORDS) {
        groups
            .entry(record.priority)
            .or_default()
            .push(record.clone());
    }
    let mut ordered = Vec::new();
    for mut group in groups.into_values() {
        // RFC 2782: those of weight 0 stand first, so that they have a small chance.
        group.sort_by_key(|record| record.weight);
        while !group.is_empty() {
            let sum: u32 = group.iter().map(|record| u32::from(record.weight)).sum();
            let chosen = rng.random_range(0..=sum);
            let mut running = 0;
            let place = group.iter().position(|record| {
                running += u32::from(record.weight);
                running >= chosen
            });
            ordered.push(group.remove(place.unwrap_or_default()));
        }
    }
    ordered
}

/// Whether a name is the root: a service that is not offered (RFC 2782).
pub(crate) fn is_root(name: &str) -> bool {
    name.is_empty() || name == "."
}

/// A name as it is compared: in lower case, without the final dot.
pub(crate) fn canonical(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}
