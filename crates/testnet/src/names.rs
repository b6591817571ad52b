//! A name service: a zone as data, with what goes wrong in the field.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use ringtrue_sip::dns::{LookupError, LookupResult, NaptrRecord, RecordKind, Records, SrvRecord};

/// What the DNS says, and how soon. Names are compared without regard to case and final dots.
///
/// It is asked by whatever drives a phone, one look-up at a time; there are no DNS packets on the
/// virtual Internet.
#[derive(Debug, Clone, Default)]
pub struct NameService {
    zone: BTreeMap<(RecordKind, String), Records>,
    silent: Vec<(RecordKind, String)>,
    is_silent: bool,
    delay: Duration,
}

impl NameService {
    /// One that knows no name and says so at once.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, answering after so long.
    pub fn with_delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// The same, never answering anything.
    pub fn silent(mut self) -> Self {
        self.is_silent = true;
        self
    }

    /// The same, never answering this question.
    pub fn silent_about(mut self, kind: RecordKind, name: &str) -> Self {
        self.silent.push((kind, canonical(name)));
        self
    }

    /// The same with a host: A and AAAA.
    pub fn with_host(mut self, name: &str, address: impl Into<IpAddr>) -> Self {
        let records = self.records(RecordKind::Address, name, Records::Addresses(Vec::new()));
        if let Records::Addresses(addresses) = records {
            addresses.push(address.into());
        }
        self
    }

    /// The same with a server of a service, named as `_sip._udp.example.test`.
    pub fn with_srv(
        mut self,
        service: &str,
        (priority, weight): (u16, u16),
        target: &str,
        port: u16,
    ) -> Self {
        if let Records::Srv(servers) =
            self.records(RecordKind::Srv, service, Records::Srv(Vec::new()))
        {
            servers.push(SrvRecord {
                priority,
                weight,
                port,
                target: target.to_owned(),
            });
        }
        self
    }

    /// The same with a service of a domain, as `SIP+D2U`, that leads to SRV records.
    pub fn with_naptr(
        mut self,
        domain: &str,
        (order, preference): (u16, u16),
        services: &str,
        replacement: &str,
    ) -> Self {
        if let Records::Naptr(known) =
            self.records(RecordKind::Naptr, domain, Records::Naptr(Vec::new()))
        {
            known.push(NaptrRecord {
                order,
                preference,
                flags: "s".to_owned(),
                services: services.to_owned(),
                replacement: replacement.to_owned(),
            });
        }
        self
    }

    fn records(&mut self, kind: RecordKind, name: &str, empty: Records) -> &mut Records {
        self.zone.entry((kind, canonical(name))).or_insert(empty)
    }

    /// One look-up: how long the answer takes, and what it is. `None`: silence.
    pub fn look_up(&self, name: &str, kind: RecordKind) -> Option<(Duration, LookupResult)> {
        let question = (kind, canonical(name));
        if self.is_silent || self.silent.contains(&question) {
            return None;
        }
        let records = self.zone.get(&question).cloned();
        Some((self.delay, records.ok_or(LookupError::NoSuchName)))
    }
}

fn canonical(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_answers_stays_silent_and_knows_what_is_missing() {
        let names = NameService::new()
            .with_delay(Duration::from_millis(30))
            .with_host("host.test", [192, 0, 2, 1])
            .with_host("HOST.test.", [192, 0, 2, 2])
            .silent_about(RecordKind::Srv, "_sip._udp.host.test");
        let (delay, answer) = names.look_up("Host.Test.", RecordKind::Address).unwrap();
        assert_eq!(delay, Duration::from_millis(30));
        let both = vec![[192, 0, 2, 1].into(), [192, 0, 2, 2].into()];
        assert_eq!(answer, Ok(Records::Addresses(both)));
        let missing = names.look_up("host.test", RecordKind::Naptr).unwrap().1;
        assert_eq!(missing, Err(LookupError::NoSuchName));
        assert_eq!(names.look_up("_sip._udp.host.test", RecordKind::Srv), None);
        assert_eq!(
            names.silent().look_up("host.test", RecordKind::Address),
            None
        );
    }
}
