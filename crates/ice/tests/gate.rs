//! The gate under attack, on the virtual Internet: whatever is lost, mangled, forged, replayed or
//! mixed up, nothing rings that has no path in both directions.

#[path = "gate/phone.rs"]
mod phone;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use phone::{FORK, Net, ms};
use ringtrue_ice::{ForkId, Refused, Role};
use ringtrue_testnet::{HostId, NatConfig, Stage, Verdict};

fn rings(net: &mut Net, line: (HostId, usize)) -> bool {
    let line = net.line(line);
    match (line.proofs.pop(), line.gates.pop()) {
        (Some((_, proof)), Some((_, gate))) => gate.open(proof).is_ok_and(|ring| ring.verified()),
        _ => false,
    }
}

#[test]
fn a_call_with_a_path_rings() {
    for nat in [
        NatConfig::full_cone(),
        NatConfig::address_restricted(),
        NatConfig::port_restricted(),
    ] {
        let mut net = Net::new(&nat);
        let [caller, callee] = net.call();
        net.run(ms(500));
        assert!(
            rings(&mut net, caller) && rings(&mut net, callee),
            "{nat:?}"
        );
    }
}

// The ghost ring of RFC 8839 section 7.1.1: bob's checks are answered even before alice holds his
// answer, so only her checks tell him that she does.
#[test]
fn a_lost_183_rings_nowhere_and_a_late_one_rings() {
    for late in [None, Some(ms(5_000))] {
        let mut net = Net::new(&NatConfig::full_cone());
        let caller = (net.alice, net.open(net.alice, Role::Controlling));
        let callee = (net.bob, net.open(net.bob, Role::Controlled));
        let answer = net.offer(caller, callee);
        net.run(late.unwrap_or(ms(12_000)));
        assert!(net.line(callee).proofs.is_empty());
        assert_eq!(net.line(callee).bound, 0);
        match late {
            None => assert_eq!(net.line(callee).failed, 1),
            Some(_) => {
                net.answer(caller, FORK, answer);
                net.run(ms(1_000));
                assert!(rings(&mut net, caller) && rings(&mut net, callee));
            }
        }
    }
}

#[test]
fn an_answer_mangled_on_the_way_rings_nowhere() {
    type Mangle = fn(&mut ringtrue_ice::IceDescription);
    let cases: [(&str, Mangle); 3] = [
        ("password", |answer| answer.credentials.pwd.push('x')),
        ("ufrag", |answer| answer.credentials.ufrag.push('x')),
        ("both", |answer| {
            answer.credentials.pwd = "x".repeat(24);
            answer.credentials.ufrag = "x".repeat(8);
        }),
    ];
    for (what, mangle) in cases {
        let mut net = Net::new(&NatConfig::full_cone());
        let caller = (net.alice, net.open(net.alice, Role::Controlling));
        let callee = (net.bob, net.open(net.bob, Role::Controlled));
        let mut answer = net.offer(caller, callee);
        mangle(&mut answer);
        net.answer(caller, FORK, answer);
        net.run(ms(12_000));
        for line in [caller, callee] {
            assert!(net.line(line).proofs.is_empty(), "{what}");
            assert_eq!(net.line(line).failed, 1, "{what}");
        }
    }
}

// The addresses are wrong, the keys are right: bob's checks show alice where he is.
#[test]
fn an_answer_with_wrong_addresses_rings_because_checks_reveal_the_right_ones() {
    let mut net = Net::new(&NatConfig::full_cone());
    let caller = (net.alice, net.open(net.alice, Role::Controlling));
    let callee = (net.bob, net.open(net.bob, Role::Controlled));
    let mut answer = net.offer(caller, callee);
    for candidate in &mut answer.candidates {
        candidate.address = SocketAddr::new([198, 51, 100, 99].into(), 9);
    }
    net.answer(caller, FORK, answer);
    net.run(ms(1_000));
    assert!(rings(&mut net, caller) && rings(&mut net, callee));
}

type Tape = Arc<Mutex<Vec<(SocketAddr, Vec<u8>)>>>;

/// Records what a host sends to the other, as it would leave its NAT, which keeps ports.
fn record(net: &mut Net, sender: HostId) -> Tape {
    let tape = Tape::default();
    let log = Arc::clone(&tape);
    net.simulation.world_mut().add_tap(move |passing| {
        if passing.stage == Stage::Departure && passing.sender == Some(sender) {
            let mut log = log.lock().unwrap();
            log.push((passing.source, passing.payload.to_vec()));
        }
        Verdict::Pass
    });
    tape
}

// Nothing passes between alice and bob. An attacker in bob's home plays him all that alice sends,
// with her address on it, and all that he sends himself; bob's answers and checks never reach her.
#[test]
fn replayed_requests_and_answers_ring_nowhere() {
    let mut net = Net::new(&NatConfig::full_cone());
    let (alice, bob) = (net.alice, net.bob);
    net.simulation.world_mut().black_hole_between(alice, bob);
    let tapes = [record(&mut net, alice), record(&mut net, bob)];
    let [caller, callee] = net.call();
    let home = net.homes[1];
    for _ in 0..1_200 {
        net.run(ms(10));
        let to = net.line(callee).describe().candidates[0].address;
        for tape in &tapes {
            for (source, payload) in std::mem::take(&mut *tape.lock().unwrap()) {
                let source = SocketAddr::new([203, 0, 113, 1].into(), source.port());
                net.simulation.world_mut().inject(home, source, to, payload);
            }
        }
    }
    assert_eq!(
        net.line(callee).bound,
        1,
        "the replay did reach bob's agent"
    );
    for line in [caller, callee] {
        assert!(net.line(line).proofs.is_empty());
        assert_eq!(net.line(line).failed, 1);
    }
}

// Bob's answers to alice's checks are lost. An attacker who sees her checks forges them: right
// transaction, right addresses, without the key or with the wrong one.
#[test]
fn forged_answers_ring_nowhere() {
    let mut net = Net::new(&NatConfig::full_cone());
    let (alice, bob) = (net.alice, net.bob);
    let ip = SocketAddr::new([192, 168, 1, 2].into(), 0).ip();
    let world = net.simulation.world_mut();
    world.black_hole((bob, ip), (alice, ip));
    let tape = record(&mut net, alice);
    let [caller, _] = net.call();
    let remote = net.line((bob, 0)).describe().candidates;
    let home = net.homes[0];
    for _ in 0..1_200 {
        net.run(ms(10));
        for (local, request) in std::mem::take(&mut *tape.lock().unwrap()) {
            // Questions to the server have no key.
            if !request.starts_with(&[0x00, 0x01]) || request.len() < 60 {
                continue;
            }
            let id: [u8; 12] = request[8..20].try_into().unwrap();
            let mapped = SocketAddr::new([203, 0, 113, 1].into(), local.port());
            let bare = ringtrue_testnet::make_binding_success(id, mapped);
            // With her own request's integrity and fingerprint behind the mapped address.
            let mut keyed = bare.clone();
            keyed.extend(&request[request.len() - 32..]);
            let length = keyed.len() as u16 - 20;
            keyed[2..4].copy_from_slice(&length.to_be_bytes());
            for candidate in &remote {
                for answer in [&bare, &keyed] {
                    let world = net.simulation.world_mut();
                    world.inject(home, candidate.address, local, answer.clone());
                }
            }
        }
    }
    assert!(net.line(caller).proofs.is_empty());
    assert!(net.line((bob, 0)).proofs.is_empty());
}

// Bob's answers to alice's nominating check are lost, and an attacker plays them to her from his
// own address: her pair stays valid, and is nominated when an answer gets through.
#[test]
fn an_answer_from_elsewhere_ends_no_call() {
    let mut net = Net::new(&NatConfig::full_cone());
    let (alice, bob) = (net.alice, net.bob);
    let [caller, callee] = net.call();
    let (home, ip) = (
        net.homes[0],
        SocketAddr::new([192, 168, 1, 2].into(), 0).ip(),
    );
    while net.line(caller).proofs.is_empty() {
        net.run(ms(1));
    }
    let world = net.simulation.world_mut();
    world.black_hole((bob, ip), (alice, ip));
    let tape = record(&mut net, bob);
    let mut replayed = 0;
    for _ in 0..500 {
        net.run(ms(2));
        let to = net.line(caller).describe().candidates[0].address;
        for (_, payload) in std::mem::take(&mut *tape.lock().unwrap()) {
            if payload.starts_with(&[0x01, 0x01]) {
                let attacker = SocketAddr::new([198, 51, 100, 66].into(), 9);
                let world = net.simulation.world_mut();
                world.inject(home, attacker, to, payload);
                replayed += 1;
            }
        }
    }
    assert!(replayed > 0);
    net.simulation.world_mut().heal();
    net.run(ms(5_000));
    assert_eq!(net.line(caller).consent_lost, None);
    assert_eq!(net.line(caller).selected, 1, "nominated in the end");
    assert!(rings(&mut net, caller) && rings(&mut net, callee));
}

#[test]
fn another_sessions_proof_opens_nothing() {
    let mut net = Net::new(&NatConfig::port_restricted());
    let [_, first] = net.call();
    let [_, second] = net.call();
    net.run(ms(1_000));
    let (_, proof) = net.line(first).proofs.pop().unwrap();
    let (_, gate) = net.line(second).gates.pop().unwrap();
    assert_eq!(gate.open(proof).unwrap_err(), Refused::OtherAgent);
}

//   alice calls sip:family, which forks to bob and carol.
#[test]
fn one_forks_proof_does_not_open_the_others_gate() {
    let mut net = Net::new(&NatConfig::full_cone());
    let (alice, bob, carol) = (net.alice, net.bob, net.carol);
    net.simulation.world_mut().black_hole_between(alice, carol);
    let caller = (alice, net.open(alice, Role::Controlling));
    let callees = [bob, carol].map(|host| (host, net.open(host, Role::Controlled)));
    for (fork, callee) in callees.into_iter().enumerate() {
        let answer = net.offer(caller, callee);
        net.answer(caller, ForkId(fork as u32), answer);
    }
    net.run(ms(12_000));
    let line = net.line(caller);
    assert_eq!(line.proofs.len(), 1, "carol has no path");
    let (fork, proof) = line.proofs.pop().unwrap();
    assert_eq!(fork, ForkId(0));
    let at = line.gates.iter().position(|(fork, _)| *fork == ForkId(1));
    let (_, gate) = line.gates.remove(at.unwrap());
    assert_eq!(gate.open(proof).unwrap_err(), Refused::OtherAgent);
    assert!(net.line(callees[1]).proofs.is_empty());
}

#[test]
fn after_cancel_at_any_moment_nothing_rings() {
    for millis in 0..200 {
        let mut net = Net::new(&NatConfig::port_restricted());
        let [_, callee] = net.call();
        net.run(ms(millis));
        let line = net.line(callee);
        line.stop(FORK);
        assert!(line.gate(FORK).is_none());
        let (_, gate) = line.gates.pop().unwrap();
        let early = line.proofs.pop();
        net.run(ms(2_000));
        assert!(
            net.line(callee).proofs.is_empty(),
            "{millis} ms: no proof after CANCEL"
        );
        if let Some((_, proof)) = early {
            assert_eq!(gate.open(proof).unwrap_err(), Refused::Void, "{millis} ms");
        }
    }
}

#[test]
fn consent_lost_while_ringing_voids_the_proof() {
    let mut net = Net::new(&NatConfig::port_restricted());
    let (alice, bob) = (net.alice, net.bob);
    let [_, callee] = net.call();
    net.run(ms(1_000));
    let line = net.line(callee);
    let (_, proof) = line.proofs.pop().unwrap();
    let gate = line.gate(FORK).unwrap();
    // It rings for a minute, and consent is kept; then the line is cut.
    net.run(ms(60_000));
    assert_eq!(net.line(callee).consent_lost, None);
    net.simulation.world_mut().black_hole_between(alice, bob);
    let cut = net.simulation.now();
    net.run(ms(40_000));
    let lost = net.line(callee).consent_lost.expect("RFC 7675: after 30 s");
    // The last answer came up to 6 s, a round trip and a slot before the cut.
    assert!(
        (ms(23_500)..=ms(30_100)).contains(&(lost - cut)),
        "{:?}",
        lost - cut
    );
    assert_eq!(gate.open(proof).unwrap_err(), Refused::Void);
}
