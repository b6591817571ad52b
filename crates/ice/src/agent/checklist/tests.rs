//! Forming, limiting and freezing (RFC 8445 section 6.1.2).

use super::*;
use crate::gather::priority;

fn candidate(address: &str, kind: CandidateType, component: ComponentId) -> Candidate {
    let address: SocketAddr = address.parse().unwrap();
    Candidate {
        foundation: format!("{kind}{}", address.ip()).replace(['.', ':'], "/"),
        component,
        protocol: TransportProtocol::Udp,
        priority: priority(kind, 65_535, component),
        address,
        kind,
        related: None,
    }
}

fn local(address: &str, base: &str, kind: CandidateType, component: ComponentId) -> LocalCandidate {
    LocalCandidate {
        candidate: candidate(address, kind, component),
        base: base.parse().unwrap(),
        local_preference: 65_535,
    }
}

use CandidateType::{Host, ServerReflexive};
use ComponentId::{Rtcp, Rtp};

const BOTH: &[ComponentId] = &[Rtp, Rtcp];

fn locals() -> Vec<LocalCandidate> {
    vec![
        local("10.0.0.1:4000", "10.0.0.1:4000", Host, Rtp),
        local("203.0.113.1:5000", "10.0.0.1:4000", ServerReflexive, Rtp),
        local("10.0.0.1:4001", "10.0.0.1:4001", Host, Rtcp),
        local("203.0.113.1:5001", "10.0.0.1:4001", ServerReflexive, Rtcp),
    ]
}

fn remotes() -> Vec<Candidate> {
    vec![
        candidate("10.9.9.9:4000", Host, Rtp),
        candidate("203.0.113.2:6000", ServerReflexive, Rtp),
        candidate("10.9.9.9:4001", Host, Rtcp),
        candidate("203.0.113.2:6001", ServerReflexive, Rtcp),
    ]
}

fn form(locals: Vec<LocalCandidate>, remotes: Vec<Candidate>) -> (Candidates, Checklist) {
    let candidates = Candidates::new(locals, remotes, BOTH);
    let checklist = Checklist::form(&candidates, Role::Controlling, 100);
    (candidates, checklist)
}

#[test]
fn pairs_are_formed_from_bases_and_pruned() {
    let (candidates, checklist) = form(locals(), remotes());
    assert_eq!(checklist.len(), 4);
    let first = checklist.iter().next().unwrap();
    assert_eq!(candidates.remote(first.remote).kind, Host);
    assert_eq!(first.component, Rtp);
    let priorities: Vec<u64> = checklist.iter().map(|pair| pair.priority).collect();
    assert!(priorities.is_sorted_by(|a, b| a >= b));
}

#[test]
fn component_2_is_frozen_until_component_1_of_its_foundation_succeeds() {
    let (candidates, mut checklist) = form(locals(), remotes());
    for pair in checklist.iter() {
        let expected = match pair.component {
            Rtp => PairState::Waiting,
            Rtcp => PairState::Frozen,
        };
        assert_eq!(pair.state, expected);
    }
    let succeeded = checklist.iter().next().unwrap().id;
    checklist.get_mut(succeeded).unwrap().state = PairState::Succeeded;
    checklist.unfreeze_like(&candidates, succeeded);
    let states: Vec<_> = checklist
        .iter()
        .filter(|pair| pair.component == Rtcp)
        .map(|pair| (candidates.remote(pair.remote).kind, pair.state))
        .collect();
    assert_eq!(
        states,
        [
            (Host, PairState::Waiting),
            (ServerReflexive, PairState::Frozen)
        ]
    );
}

/// Component 1 works with a port that only a check has shown: component 2 tries that way next.
#[test]
fn component_2_follows_where_component_1_has_found_a_new_port() {
    let (mut candidates, mut checklist) = form(locals(), remotes());
    let rtcp = |pair: &CandidatePair| pair.component == ComponentId::Rtcp;
    let frozen = |checklist: &Checklist| {
        let pairs = checklist.iter().filter(|pair| rtcp(pair));
        let frozen = pairs.filter(|pair| pair.state == PairState::Frozen);
        frozen.map(|pair| pair.id).collect::<Vec<_>>()
    };
    let before = frozen(&checklist);
    // Another port of the host that the last of them goes to.
    let last = checklist.get(*before.last().unwrap()).unwrap();
    let mut new = candidates.remote(last.remote).clone();
    let way = candidates.way(last);
    new.component = ComponentId::Rtp;
    new.foundation = "#9".to_owned();
    new.kind = CandidateType::PeerReflexive;
    new.address.set_port(60_000);
    let remote = candidates.add_remote(new).unwrap();
    let local = candidates.locals.iter().position(|local| {
        is_base(&local.candidate)
            && local.base.ip() == way.0
            && local.candidate.component == ComponentId::Rtp
    });
    let local = LocalIndex(local.unwrap());
    let role = Role::Controlling;
    let id = checklist.find_or_insert(&candidates, role, local, remote);
    checklist.unfreeze_like(&candidates, id);
    let after = frozen(&checklist);
    let freed = before.iter().filter(|id| !after.contains(id));
    let freed: Vec<_> = freed.filter_map(|id| checklist.get(*id)).collect();
    assert!(!freed.is_empty());
    assert!(
        freed
            .iter()
            .all(|pair| pair.leads && candidates.way(pair) == way)
    );
}

/// RFC 8445 section 6.1.4.2, step 2: a Frozen pair waits while its foundation is in progress.
#[test]
fn ordinary_checks_in_order() {
    let (candidates, mut checklist) = form(locals(), remotes());
    let now = Instant::now();
    let mut order = Vec::new();
    while let Some(id) = checklist
        .next_ordinary(&candidates, false)
        .map(|pair| pair.id)
    {
        let pair = checklist.get_mut(id).unwrap();
        order.push(pair.component);
        pair.state = PairState::InProgress {
            since: now,
            latest: now,
        };
    }
    assert_eq!(order, [Rtp, Rtp], "component 2 shares the foundations");
    let failed = checklist.iter().next().unwrap().id;
    checklist.get_mut(failed).unwrap().state = PairState::Failed;
    let next = checklist.next_ordinary(&candidates, false).unwrap();
    assert_eq!(next.component, Rtcp);
}

/// Of ten interfaces a side, the pairs of the first ones have their first checks first, those that
/// one interface would have; the states are those of section 6.1.2.6 all the same.
#[test]
fn the_best_pair_of_each_kind_leads() {
    let mut locals = Vec::new();
    let mut remotes = Vec::new();
    for number in 0..10 {
        let with = |mut found: Candidate| {
            found.priority -= number << 8;
            found
        };
        let base = format!("10.0.{number}.1:4000");
        let mut host = local(&base, &base, Host, Rtp);
        host.candidate = with(host.candidate);
        locals.push(host);
        remotes.push(with(candidate(&format!("10.9.{number}.9:4000"), Host, Rtp)));
        let seen = format!("203.0.113.{number}:6000");
        remotes.push(with(candidate(&seen, ServerReflexive, Rtp)));
    }
    let (candidates, mut checklist) = form(locals, remotes);
    assert_eq!(checklist.len(), 100);
    assert!(
        checklist
            .iter()
            .all(|pair| pair.state == PairState::Waiting)
    );
    let now = Instant::now();
    let mut order = Vec::new();
    while let Some(id) = checklist
        .next_ordinary(&candidates, false)
        .map(|pair| pair.id)
    {
        let pair = checklist.get_mut(id).unwrap();
        pair.state = PairState::InProgress {
            since: now,
            latest: now,
        };
        order.push((pair.local.0, candidates.remote(pair.remote).address));
    }
    let first = |text: &str| (0, text.parse::<SocketAddr>().unwrap());
    assert_eq!(
        order[..2],
        [first("10.9.0.9:4000"), first("203.0.113.0:6000")]
    );
    assert_eq!(order.len(), 100);
}

/// From each relay of ours that leads, one permission for each host.
#[test]
fn permissions_are_asked_for_ahead() {
    let relay = "198.51.100.1:50000";
    let mut all = locals();
    all.push(local(relay, relay, CandidateType::Relayed, Rtp));
    let mut others = remotes();
    let mut relayed = candidate("203.0.113.2:7000", CandidateType::Relayed, Rtp);
    others.push(relayed.clone());
    relayed.address = "198.51.100.2:7000".parse().unwrap();
    relayed.priority -= 1;
    others.push(relayed);
    let (candidates, checklist) = form(all, others);
    let asked: Vec<String> = checklist
        .permissions(&candidates)
        .iter()
        .map(|path| format!("{} {}", path.base, path.remote.ip()))
        .collect();
    let expected = ["203.0.113.2", "198.51.100.2"].map(|peer| format!("{relay} {peer}"));
    assert_eq!(asked, expected);
}

#[test]
fn families_and_link_local_addresses_do_not_mix() {
    let locals = vec![
        local("10.0.0.1:1", "10.0.0.1:1", Host, Rtp),
        local("[2001:db8::1]:1", "[2001:db8::1]:1", Host, Rtp),
        local("[fe80::1]:1", "[fe80::1]:1", Host, Rtp),
    ];
    let remotes = vec![
        candidate("10.0.0.2:1", Host, Rtp),
        candidate("[2001:db8::2]:1", Host, Rtp),
        candidate("[fe80::2]:1", Host, Rtp),
    ];
    let (candidates, checklist) = form(locals, remotes);
    assert_eq!(checklist.len(), 3);
    for pair in checklist.iter() {
        assert_eq!(pair.local.0, pair.remote.0);
        assert_eq!(candidates.remote(pair.remote).component, Rtp);
    }
}

#[test]
fn the_limit_keeps_pairs_of_every_type() {
    let mut remotes: Vec<Candidate> = (0..200)
        .map(|number| candidate(&format!("10.1.1.{number}:4000"), Host, Rtp))
        .collect();
    remotes.push(candidate("203.0.113.2:6000", ServerReflexive, Rtp));
    remotes.push(candidate("203.0.113.2:6001", ServerReflexive, Rtcp));
    let (candidates, checklist) = form(locals(), remotes);
    assert_eq!(checklist.len(), 100);
    let reflexive = checklist
        .iter()
        .filter(|pair| candidates.remote(pair.remote).kind == ServerReflexive)
        .count();
    assert_eq!(reflexive, 2);
}

#[test]
fn equal_remote_candidates_are_taken_once() {
    let mut twice = remotes();
    let mut worse = twice[0].clone();
    worse.kind = CandidateType::PeerReflexive;
    worse.priority = 1;
    twice.insert(0, worse);
    let (candidates, checklist) = form(locals(), twice);
    assert_eq!(checklist.len(), 4);
    assert!(candidates.remotes.iter().all(|remote| remote.priority > 1));
}

/// A full checklist makes room for the pair that the peer's check came along.
#[test]
fn a_triggered_pair_finds_room() {
    let remotes = (0..100)
        .map(|number| candidate(&format!("10.1.1.{number}:4000"), Host, Rtp))
        .collect();
    let (mut candidates, mut checklist) = form(locals(), remotes);
    assert_eq!(checklist.len(), 100);
    let revealed = candidate("203.0.113.9:9", CandidateType::PeerReflexive, Rtp);
    let remote = candidates.add_remote(revealed).unwrap();
    let local = candidates
        .base(
            TransportProtocol::Udp,
            "10.0.0.1:4000".parse().unwrap(),
            Rtp,
        )
        .unwrap();
    let id = checklist.find_or_insert(&candidates, Role::Controlling, local, remote);
    assert_eq!(checklist.len(), 100);
    assert_eq!(checklist.get(id).unwrap().state, PairState::Waiting);
    let again = checklist.find_or_insert(&candidates, Role::Controlling, local, remote);
    assert_eq!(again, id);
}

#[test]
fn the_triggered_check_queue_is_first_in_first_out_and_holds_a_pair_once() {
    let (_, mut checklist) = form(locals(), remotes());
    let ids: Vec<PairId> = checklist.iter().map(|pair| pair.id).collect();
    for id in [ids[2], ids[1], ids[2]] {
        checklist.trigger(TriggeredCheck {
            pair: id,
            nominate: false,
        });
    }
    let mut order = Vec::new();
    while let Some(check) = checklist.next_triggered() {
        checklist.untrigger(check.pair);
        order.push(check.pair);
    }
    assert_eq!(order, [ids[2], ids[1]]);
}

/// RFC 6544 section 6.2: active with passive and nothing with a passive one of ours; after UDP, and
/// not at all where RTCP has a component of its own.
#[test]
fn tcp_pairs_are_formed_by_their_types_and_come_last() {
    use TcpType::{Active, Passive, SimultaneousOpen};
    let tcp = |address: &str, tcp_type| Candidate {
        protocol: TransportProtocol::Tcp(tcp_type),
        foundation: "T".to_owned(),
        ..candidate(address, Host, Rtp)
    };
    let ours = |address: &str, tcp_type| LocalCandidate {
        candidate: tcp(address, tcp_type),
        ..local(address, address, Host, Rtp)
    };
    let all_locals = || {
        let mut all = locals();
        all.push(ours("10.0.0.1:9", Active));
        all.push(ours("10.0.0.1:5000", Passive));
        all
    };
    let all_remotes = || {
        let mut all = remotes();
        all.push(tcp("10.0.0.2:9", Active));
        all.push(tcp("10.0.0.2:5000", Passive));
        all.push(tcp("10.0.0.2:5001", SimultaneousOpen));
        all
    };
    let candidates = Candidates::new(all_locals(), all_remotes(), &[Rtp]);
    let checklist = Checklist::form(&candidates, Role::Controlling, 100);
    let by_tcp: Vec<_> = checklist
        .iter()
        .map(|pair| candidates.path(pair.local, pair.remote))
        .skip_while(|path| !path.protocol.is_tcp())
        .collect();
    assert_eq!(
        by_tcp,
        [Path {
            protocol: TransportProtocol::Tcp(Active),
            base: "10.0.0.1:9".parse().unwrap(),
            remote: "10.0.0.2:5000".parse().unwrap(),
        }]
    );
    let candidates = Candidates::new(all_locals(), all_remotes(), &[Rtp, Rtcp]);
    let checklist = Checklist::form(&candidates, Role::Controlling, 100);
    assert!(checklist.iter().all(|pair| !pair.protocol.is_tcp()));
}
