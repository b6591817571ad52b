//! The gatherer against servers that answer, lie, lose or stay silent.

use super::questions::MOST_QUESTIONS;
use super::*;
use crate::candidate::{Candidate, CandidateType};

fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

fn base(address: &str, component: ComponentId, local_preference: u16) -> Base {
    Base {
        address: at(address),
        component,
        local_preference,
    }
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A gatherer and its clock.
struct Bench {
    gatherer: Gatherer,
    pacer: Pacer,
    start: Instant,
    now: Instant,
    sent: Vec<(Duration, Transmit)>,
}

impl Bench {
    fn new(servers: &[&str], bases: Vec<Base>) -> Self {
        let start = Instant::now();
        let config = GatherConfig {
            stun_servers: servers.iter().map(|server| at(server)).collect(),
            ..GatherConfig::default()
        };
        Self {
            gatherer: Gatherer::new(config, bases, 1, start),
            pacer: Pacer::new(),
            start,
            now: start,
            sent: Vec::new(),
        }
    }

    fn run_until(&mut self, time: Duration) {
        let end = self.start + time;
        while let Some(next) = self.gatherer.poll_timeout(&self.pacer)
            && next <= end
        {
            self.now = self.now.max(next);
            self.gatherer.handle_timeout(self.now, &mut self.pacer);
            while let Some(transmit) = self.gatherer.poll_transmit() {
                self.sent.push((self.now - self.start, transmit));
            }
        }
        self.now = end;
    }

    fn answer(&mut self, index: usize, mapped: &str) -> bool {
        let transmit = self.sent[index].1.clone();
        let answer = Binding::parse(&transmit.payload)
            .unwrap()
            .success(at(mapped), "no server signs")
            .unwrap();
        self.gatherer
            .handle_datagram(self.now, transmit.base, transmit.to, &answer)
    }

    fn refuse(&mut self, index: usize) {
        let transmit = self.sent[index].1.clone();
        let answer = Binding::parse(&transmit.payload)
            .unwrap()
            .error(500, None)
            .unwrap();
        self.gatherer
            .handle_datagram(self.now, transmit.base, transmit.to, &answer);
    }
}

const RTP: &str = "192.168.1.10:4000";
const RTCP: &str = "192.168.1.10:4001";
const SERVER: &str = "198.51.100.3:3478";

fn both() -> Vec<Base> {
    vec![
        base(RTP, ComponentId::Rtp, 65_535),
        base(RTCP, ComponentId::Rtcp, 65_535),
    ]
}

#[test]
fn without_servers_it_is_done_at_once() {
    let bench = Bench::new(&[], both());
    assert!(bench.gatherer.is_finished());
    let gathered = bench.gatherer.gathered();
    let candidates: Vec<&Candidate> = gathered.candidates().collect();
    assert_eq!(candidates.len(), 2);
    // RFC 8445 section 5.1.2.1: 126 * 2^24 + 65535 * 2^8 + 256 - component.
    assert_eq!(candidates[0].priority, 2_130_706_431);
    assert_eq!(candidates[1].priority, 2_130_706_430);
    assert_eq!(candidates[0].foundation, candidates[1].foundation);
    assert_eq!(candidates[0].related, None);
    assert!(bench.gatherer.poll_timeout(&bench.pacer).is_none());
}

#[test]
fn server_reflexive_candidates() {
    let mut bench = Bench::new(&[SERVER], both());
    bench.run_until(ms(40));
    let starts: Vec<Duration> = bench.sent.iter().map(|(at, _)| *at).collect();
    assert_eq!(starts, [ms(0), ms(20)]);
    assert!(bench.answer(0, "203.0.113.1:50000"));
    assert!(!bench.gatherer.is_finished());
    assert!(bench.answer(1, "203.0.113.1:50001"));
    assert!(bench.gatherer.is_finished());
    assert!(!bench.answer(1, "203.0.113.9:9"), "answered once");

    let gathered = bench.gatherer.gathered();
    let reflexive: Vec<&Candidate> = gathered
        .candidates()
        .filter(|candidate| candidate.kind == CandidateType::ServerReflexive)
        .collect();
    assert_eq!(reflexive[0].address, at("203.0.113.1:50000"));
    assert_eq!(reflexive[0].related, Some(at(RTP)));
    assert_eq!(reflexive[0].priority, 1_694_498_815);
    assert_eq!(reflexive[1].address, at("203.0.113.1:50001"));
    assert_eq!(reflexive[0].foundation, reflexive[1].foundation);
    let host = gathered.candidates().next().unwrap();
    assert_ne!(host.foundation, reflexive[0].foundation);
    assert_eq!(
        gathered.default_candidate(ComponentId::Rtcp),
        Some(reflexive[1])
    );
    let bases: Vec<_> = gathered.bases().collect();
    let expected = [(at(RTP), ComponentId::Rtp), (at(RTCP), ComponentId::Rtcp)];
    assert_eq!(bases, expected);
}

/// RFC 8445 section 5.1.3: without a NAT the server sees the base.
#[test]
fn a_reflexive_candidate_equal_to_its_base_is_redundant() {
    let open = vec![base("203.0.113.5:4000", ComponentId::Rtp, 1)];
    let mut bench = Bench::new(&[SERVER, "198.51.100.4:3478"], open);
    bench.run_until(ms(60));
    bench.answer(0, "203.0.113.5:4000");
    bench.answer(1, "203.0.113.5:4000");
    assert_eq!(bench.gatherer.gathered().candidates().count(), 1);
}

#[test]
fn lost_questions_are_asked_again_early() {
    let mut bench = Bench::new(&[SERVER], both());
    bench.run_until(ms(499));
    assert!(!bench.gatherer.is_finished());
    let times: Vec<u128> = bench.sent.iter().map(|(at, _)| at.as_millis()).collect();
    assert_eq!(times, [0, 20, 120, 140, 240, 260, 360, 380, 480]);
    // The answer to an early question still counts.
    assert!(bench.answer(0, "203.0.113.1:50000"));
    bench.run_until(ms(500));
    assert!(bench.gatherer.is_finished(), "the patience is over");
    assert_eq!(bench.gatherer.gathered().candidates().count(), 3);
}

#[test]
fn only_the_server_that_was_asked_answers() {
    let mut bench = Bench::new(&[SERVER], both());
    bench.run_until(ms(10));
    let question = bench.sent[0].1.clone();
    let binding = Binding::parse(&question.payload).unwrap();
    let forged = binding.success(at("203.0.113.9:9"), "x").unwrap();
    let gatherer = &mut bench.gatherer;
    let mut try_from =
        |base: &str, from: &str| gatherer.handle_datagram(bench.now, at(base), at(from), &forged);
    assert!(!try_from(RTP, "203.0.113.66:3478"));
    assert!(!try_from(RTCP, SERVER));
    assert!(!gatherer.handle_datagram(bench.now, at(RTP), at(SERVER), b"noise"));
    assert!(!gatherer.handle_datagram(bench.now, at(RTP), at(SERVER), &question.payload));
    assert_eq!(gatherer.gathered().candidates().count(), 2);
}

#[test]
fn a_server_that_refuses_is_not_waited_for() {
    let mut bench = Bench::new(&[SERVER], both());
    bench.run_until(ms(40));
    bench.refuse(0);
    bench.refuse(1);
    assert!(bench.gatherer.is_finished());
    assert!(bench.gatherer.poll_timeout(&bench.pacer).is_none());
}

#[test]
fn bindings_are_kept_warm_and_followed() {
    let mut bench = Bench::new(&[SERVER], both());
    bench.run_until(ms(40));
    bench.answer(0, "203.0.113.1:50000");
    bench.answer(1, "203.0.113.1:50001");
    let asked = bench.sent.len();
    bench.run_until(ms(61_000));
    let rtp: Vec<u128> = bench.sent[asked..]
        .iter()
        .filter(|(_, transmit)| transmit.base == at(RTP))
        .map(|(at, _)| at.as_millis())
        .collect();
    assert_eq!(rtp, [15_040, 30_040, 45_040, 60_040]);
    // The NAT has lost its state: the next answer names another port.
    let last = bench.sent.len() - 2;
    assert!(bench.answer(last, "203.0.113.1:50077"));
    let addresses: Vec<SocketAddr> = bench
        .gatherer
        .gathered()
        .candidates()
        .map(|candidate| candidate.address)
        .collect();
    assert!(addresses.contains(&at("203.0.113.1:50077")));
    assert!(!addresses.contains(&at("203.0.113.1:50000")));
}

/// Two interfaces, two families, two servers.
#[test]
fn families_and_preferences() {
    let bases = vec![
        base("192.168.1.10:4000", ComponentId::Rtp, 65_535),
        base("10.8.0.2:4000", ComponentId::Rtp, 65_534),
        base("[2001:db8::10]:4000", ComponentId::Rtp, 65_533),
    ];
    let mut bench = Bench::new(&[SERVER, "[2001:db8::3]:3478"], bases);
    bench.run_until(ms(100));
    let pairs: Vec<(bool, bool)> = bench
        .sent
        .iter()
        .map(|(_, sent)| (sent.base.is_ipv4(), sent.to.is_ipv4()))
        .collect();
    assert_eq!(pairs, [(true, true), (true, true), (false, false)]);
    bench.answer(1, "203.0.113.7:7");
    let gathered = bench.gatherer.gathered();
    let default = gathered.default_candidate(ComponentId::Rtp).unwrap();
    assert_eq!(default.address, at("203.0.113.7:7"), "reflexive IPv4");
    assert_eq!(gathered.default_candidate(ComponentId::Rtcp), None);
    let hosts: Vec<String> = gathered
        .candidates()
        .filter(|candidate| candidate.kind == CandidateType::Host)
        .map(|candidate| candidate.foundation.clone())
        .collect();
    assert_eq!(hosts, ["1", "2", "3"]);
}

#[test]
fn no_more_questions_than_the_limit() {
    let bases = (0..100)
        .map(|port| {
            base(
                &format!("192.0.2.1:{}", 4000 + port),
                ComponentId::Rtp,
                port,
            )
        })
        .collect();
    let bench = Bench::new(&[SERVER], bases);
    assert_eq!(bench.gatherer.questions.len(), MOST_QUESTIONS);
}

#[test]
fn a_mapped_port_is_one_more_server_reflexive_candidate() {
    let base = base("192.168.1.2:4000", ComponentId::Rtp, 65_535);
    let mut bench = Bench::new(&["192.0.2.1:3478"], vec![base]);
    let until = bench.start + ms(250);
    bench.gatherer.await_mapping(base.address, until);
    bench.run_until(ms(5));
    assert!(bench.answer(0, "203.0.113.1:6000"));
    assert!(!bench.gatherer.is_finished(), "the router is awaited");
    bench
        .gatherer
        .set_mapped(base.address, Some(at("203.0.113.1:7000")));
    assert!(bench.gatherer.is_finished());
    let gathered = bench.gatherer.gathered();
    let [host, mapped, seen] = gathered.candidates().collect::<Vec<_>>()[..] else {
        panic!("three candidates: {gathered:?}");
    };
    assert_eq!(host.kind, CandidateType::Host);
    assert_eq!(mapped.address, at("203.0.113.1:7000"));
    assert_eq!(seen.address, at("203.0.113.1:6000"));
    for candidate in [mapped, seen] {
        assert_eq!(candidate.kind, CandidateType::ServerReflexive);
        assert_eq!(candidate.related, Some(base.address));
    }
    assert_ne!(mapped.foundation, seen.foundation, "another server");
    assert!(
        mapped.priority > seen.priority,
        "unique, the open door first"
    );
    // RFC 8445 section 5.1.3: what both say is one candidate.
    bench
        .gatherer
        .set_mapped(base.address, Some(at("203.0.113.1:6000")));
    assert_eq!(bench.gatherer.gathered().candidates().count(), 2);
    bench.gatherer.set_mapped(base.address, None);
    assert_eq!(bench.gatherer.gathered().candidates().count(), 2);
}

#[test]
fn a_router_is_awaited_no_longer_than_it_may_take() {
    let base = base("192.168.1.2:4000", ComponentId::Rtp, 65_535);
    for (router, most) in [(250, 250), (900, 500)] {
        let mut bench = Bench::new(&[], vec![base]);
        let until = bench.start + ms(router);
        bench.gatherer.await_mapping(base.address, until);
        bench.run_until(ms(most - 1));
        assert!(!bench.gatherer.is_finished());
        bench.run_until(ms(most));
        assert!(bench.gatherer.is_finished());
        // What comes later is there for whoever gathers later.
        assert_eq!(bench.gatherer.gathered().candidates().count(), 1);
        bench
            .gatherer
            .set_mapped(base.address, Some(at("203.0.113.1:7000")));
        assert_eq!(bench.gatherer.gathered().candidates().count(), 2);
    }
}
