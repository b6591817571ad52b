//! Role conflicts (RFC 8445 section 7.3.1.1), lite peers, peers of RFC 5245.

use ringtrue_ice::{
    CandidateType, ComponentId, Credentials, FailureReason, IceDescription, Role, SessionConfig,
};
use stun_types::message::MessageClass;

use crate::net::*;
use crate::stun::{self, ICE_CONTROLLED, ICE_CONTROLLING, Request};

const MUX: &[ComponentId] = &[ComponentId::Rtp];
const NO_MUX: &[ComponentId] = &[ComponentId::Rtp, ComponentId::Rtcp];

fn role(role: Role) -> SessionConfig {
    SessionConfig {
        role,
        ..SessionConfig::default()
    }
}

/// Both believe the same; one gives way, whichever has the smaller tie-breaker; one nominates.
#[test]
fn a_conflict_is_settled_both_ways() {
    let mut losers = [0, 0];
    for seed in 0..40 {
        for both in [Role::Controlling, Role::Controlled] {
            for access in [Access::Open, PORT_RESTRICTED] {
                let mut net = Net::new(access, access).seeded(seed);
                net.prepare(role(both), role(both));
                net.exchange(ms(15), NO_MUX);
                net.run_for(ms(3_000));
                let errors: Vec<usize> = net
                    .sent
                    .iter()
                    .filter(|(_, packet)| stun::read(&packet.payload).error == Some(487))
                    .map(|(_, packet)| packet.sender)
                    .collect();
                for sender in errors {
                    losers[sender] += 1;
                }
                let nominators: Vec<usize> = net
                    .sent
                    .iter()
                    .filter(|(_, packet)| stun::read(&packet.payload).use_candidate)
                    .map(|(_, packet)| packet.sender)
                    .collect();
                for peer in &net.peers {
                    assert!(peer.validated().is_some() && peer.selected().is_some());
                }
                let last = *nominators.last().unwrap();
                let selected = net
                    .peers
                    .each_ref()
                    .map(|peer| peer.session().path(FORK, ComponentId::Rtp).unwrap());
                let descriptions = [ALICE, BOB]
                    .map(|i| net.peers[i].session().nominated_description(FORK).unwrap());
                // Who nominated last is who controls: the other names no remote candidates.
                assert_eq!(descriptions[last].remote_candidates.len(), 2);
                assert!(descriptions[1 - last].remote_candidates.is_empty());
                assert!(selected[0] != selected[1]);
            }
        }
    }
    assert!(
        losers[0] > 0 && losers[1] > 0,
        "487 from either side: {losers:?}"
    );
}

/// A request that comes before the answer, with our own role and a smaller tie-breaker, is refused
/// at once; with a larger one it is accepted, and the agent switches when it starts.
#[test]
fn a_conflict_before_the_answer() {
    for (tie_breaker, error) in [(0, Some(487)), (u64::MAX, None)] {
        let mut net = Net::new(Access::Open, Access::Open);
        net.prepare_default();
        let (alice, bob) = (net.description(ALICE), net.description(BOB));
        let request = Request {
            id: 3,
            to: &alice.credentials,
            from_ufrag: &bob.credentials.ufrag,
            password: &alice.credentials.pwd,
            role: (ICE_CONTROLLING, tie_breaker),
            use_candidate: false,
        };
        let from = net.peers[BOB].base(ComponentId::Rtp);
        net.inject(ALICE, ComponentId::Rtp, from, &request.to_bytes());
        let answer = stun::read(&net.sent.last().unwrap().1.payload);
        assert_eq!(answer.error, error);
        net.start(ALICE, bob, MUX);
        net.run_for(ms(50));
        let (_, check) = net
            .sent
            .iter()
            .find(|(_, packet)| stun::read(&packet.payload).class == MessageClass::Request)
            .unwrap();
        assert_eq!(stun::read(&check.payload).controlling, error.is_some());
    }
}

/// A lite peer at a public address: answers, never asks.
struct Lite {
    credentials: Credentials,
    address: std::net::SocketAddr,
}

impl Lite {
    fn new() -> Self {
        Self {
            credentials: Credentials {
                ufrag: "lite".into(),
                pwd: "lite-lite-lite-lite-lite".into(),
            },
            address: "203.0.113.77:7000".parse().unwrap(),
        }
    }

    fn description(&self) -> IceDescription {
        IceDescription {
            credentials: self.credentials.clone(),
            candidates: vec![ringtrue_ice::Candidate {
                foundation: "1".into(),
                component: ComponentId::Rtp,
                protocol: ringtrue_ice::TransportProtocol::Udp,
                priority: 2_130_706_431,
                address: self.address,
                kind: CandidateType::Host,
                related: None,
            }],
            lite: true,
            ice2: false,
            pacing: None,
            trickle: ringtrue_ice::Trickle::Unsupported,
            remote_candidates: Vec::new(),
        }
    }
}

/// Runs bob against a lite peer that answers `alive` or not.
fn against_lite(bob: Role, alive: bool) -> Net {
    let lite = Lite::new();
    let mut net = Net::new(Access::Open, Access::Open);
    net.prepare(offerer(), role(bob));
    net.run_for(ms(5));
    net.start(BOB, lite.description(), MUX);
    let mut answered = 0;
    for _ in 0..3_000 {
        net.run_for(ms(5));
        while answered < net.sent.len() {
            let packet = net.sent[answered].1.clone();
            answered += 1;
            let read = stun::read(&packet.payload);
            if alive && read.class == MessageClass::Request {
                let reply =
                    stun::success(&packet.payload, packet.base, Some(&lite.credentials.pwd));
                net.inject(BOB, ComponentId::Rtp, lite.address, &reply);
            }
        }
    }
    net
}

/// Our own check suffices for a lite peer, and we control and nominate, whoever offered.
#[test]
fn a_lite_peer() {
    for bob in [Role::Controlling, Role::Controlled] {
        let net = against_lite(bob, true);
        let peer = &net.peers[BOB];
        assert_eq!(peer.proofs.len(), 1);
        assert!(peer.selected().is_some());
        assert!(peer.when(|seen| *seen == Seen::PeerBound).is_none());
        assert!(net.sent.iter().all(|(_, packet)| {
            let read = stun::read(&packet.payload);
            read.class != MessageClass::Request || read.controlling
        }));
    }
}

/// A lite peer that does not answer gives no proof.
#[test]
fn a_dead_lite_peer() {
    let net = against_lite(Role::Controlled, false);
    let peer = &net.peers[BOB];
    assert!(peer.proofs.is_empty());
    let failed = Seen::Failed(FailureReason::PatienceOver, 1);
    assert_eq!(peer.when(|seen| *seen == failed), Some(10_005));
}

/// A lite peer without a candidate for us: nothing can be revealed by waiting.
#[test]
fn a_lite_peer_without_candidates_fails_at_once() {
    let mut net = Net::new(Access::Open, Access::Open);
    net.prepare_default();
    let mut lite = Lite::new().description();
    lite.candidates.clear();
    net.start(BOB, lite, MUX);
    net.run_for(ms(1));
    let failed = Seen::Failed(FailureReason::NoPair, 0);
    assert_eq!(net.peers[BOB].when(|seen| *seen == failed), Some(0));
}

/// A full peer without candidates (RFC 8863): its checks reveal where it is.
#[test]
fn a_peer_without_candidates_is_waited_for() {
    let mut net = Net::new(PORT_RESTRICTED, Access::Open);
    net.prepare_default();
    let mut alice = net.description(ALICE);
    alice.candidates.clear();
    net.start(BOB, alice, MUX);
    net.run_for(ms(6_000));
    assert!(
        net.peers[BOB]
            .when(|seen| matches!(seen, Seen::Failed(..)))
            .is_none()
    );
    let bob = net.description(BOB);
    net.start(ALICE, bob, MUX);
    net.run_for(ms(1_000));
    assert_eq!(net.peers[BOB].proofs.len(), 1);
    assert!(net.peers[BOB].seen.iter().any(|(_, _, seen)| matches!(
        seen,
        Seen::Validated(path) if path.remote_type == CandidateType::PeerReflexive
    )));
}

/// RFC 5245's aggressive nomination: USE-CANDIDATE in every check, the worse pair first. The best
/// one that succeeded is used in the end.
#[test]
fn aggressive_nomination_by_an_old_peer() {
    let mut net = Net::new(Access::Open, Access::Open);
    net.prepare_default();
    let mut alice = net.description(ALICE);
    let good = alice.candidates[0].clone();
    let mut poor = good.clone();
    poor.address.set_port(9_000);
    poor.priority -= 10_000;
    alice.candidates = vec![good.clone(), poor.clone()];
    alice.ice2 = false;
    let bob = net.description(BOB);
    // This test plays alice itself.
    net.peers[ALICE].session = None;
    net.run_for(ms(5));
    net.start(BOB, alice.clone(), MUX);
    let pwd = alice.credentials.pwd.clone();
    let nominate = |id| {
        Request {
            id,
            to: &bob.credentials,
            from_ufrag: &alice.credentials.ufrag,
            password: &bob.credentials.pwd,
            role: (ICE_CONTROLLING, 1),
            use_candidate: true,
        }
        .to_bytes()
    };
    let rtp = ComponentId::Rtp;
    // Both nominate; only then bob's checks are answered, the poor pair's first.
    net.inject(BOB, rtp, poor.address, &nominate(1));
    net.inject(BOB, rtp, good.address, &nominate(2));
    net.run_for(ms(60));
    for address in [poor.address, good.address] {
        let (_, check) = net
            .sent
            .iter()
            .rfind(|(_, packet)| {
                packet.to == address && stun::read(&packet.payload).class == MessageClass::Request
            })
            .unwrap();
        let reply = stun::success(&check.payload, check.base, Some(&pwd));
        net.inject(BOB, rtp, address, &reply);
        assert_eq!(
            net.peers[BOB].session().path(FORK, rtp).unwrap().remote,
            address
        );
    }
    let selected = net.peers[BOB]
        .seen
        .iter()
        .filter(|(_, _, seen)| matches!(seen, Seen::Selected(_)))
        .count();
    assert_eq!(selected, 2);
    // Long after completion a nomination changes nothing any more (RFC 8445 section 8.3.1).
    net.run_for(ms(3_500));
    let mut other = poor.address;
    other.set_port(9_002);
    net.inject(BOB, rtp, other, &nominate(3));
    net.run_for(ms(50));
    let followed = net.sent.iter().any(|(_, packet)| {
        packet.to == other && stun::read(&packet.payload).class == MessageClass::Request
    });
    assert!(!followed);
    assert_eq!(
        net.peers[BOB].session().path(FORK, rtp).unwrap().remote,
        good.address
    );
}

/// The peer's role attribute does not matter to a request that is otherwise right.
#[test]
fn a_request_without_conflict_is_answered_with_the_mapped_address() {
    let mut net = Net::new(Access::Open, Access::Open);
    net.prepare_default();
    let (alice, bob) = (net.description(ALICE), net.description(BOB));
    let request = Request {
        id: 77,
        to: &alice.credentials,
        from_ufrag: &bob.credentials.ufrag,
        password: &alice.credentials.pwd,
        role: (ICE_CONTROLLED, 1),
        use_candidate: false,
    };
    let from = "203.0.113.200:1234".parse().unwrap();
    assert!(net.inject(ALICE, ComponentId::Rtp, from, &request.to_bytes()));
    let answer = &net.sent.last().unwrap().1;
    let read = stun::read(&answer.payload);
    assert_eq!((read.class, read.id), (MessageClass::Success, 77));
    assert_eq!(read.mapped, Some(from));
    assert!(stun::is_keyed_with(&answer.payload, &alice.credentials.pwd));
}
