//! A phone that listens answers at once: its candidates are gathered before anybody calls, and
//! kept fresh for as long as nobody does.

use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ringtrue_phone::EventKind;
use ringtrue_phone::event::Outcome;
use ringtrue_testnet::TurnServer;

use crate::stage::{Place, Setup, Stage, with_turn};
use crate::trickle::{Left, first, record};

const BOB_INSIDE: [u8; 4] = [10, 0, 0, 20];

fn warm() -> Stage {
    Setup {
        alices: with_turn,
        bobs: |settings| {
            with_turn(settings);
            settings.warm_sets = 2;
        },
        ..Setup::between(Place::Symmetric, Place::Symmetric)
    }
    .build()
}

/// Bob's answers, each with the time since its INVITE came.
fn answers(stage: &Stage, log: &Mutex<Vec<Left>>) -> Vec<(Duration, String)> {
    let invited = stage
        .bob()
        .events()
        .iter()
        .filter_map(|event| matches!(event.kind, EventKind::Invite { .. }).then_some(event.at));
    let mut answers: Vec<Left> = Vec::new();
    for left in log.lock().unwrap().iter() {
        let is_answer =
            left.text.starts_with("SIP/2.0 183") && left.from == IpAddr::from(BOB_INSIDE);
        let call = |text: &str| {
            let mut lines = text.lines();
            lines
                .find(|line| line.starts_with("Call-ID"))
                .map(str::to_owned)
        };
        if is_answer
            && !answers
                .iter()
                .any(|known| call(&known.text) == call(&left.text))
        {
            answers.push(left.clone());
        }
    }
    invited
        .zip(answers)
        .map(|(invited, answer)| (answer.at - invited, answer.text))
        .collect()
}

fn kinds(answer: &str) -> [usize; 3] {
    let by_udp = |kind| {
        let lines = answer.lines().filter(|line| line.contains(" UDP "));
        lines.filter(|line| line.contains(kind)).count()
    };
    ["typ host", "typ srflx", "typ relay"].map(by_udp)
}

fn call(stage: &mut Stage) {
    stage.dial();
    stage.run(12);
}

fn assert_talked(stage: &Stage) {
    let (at_bob, at_alice) = stage.heard();
    assert!(at_bob > 2.5 && at_alice > 2.5, "{}", stage.story());
    assert_eq!(stage.outcome().unwrap().1, Outcome::Completed);
}

/// No gathering stands between the INVITE and the answer, which names the relay too; and the call
/// goes through it, two hours after it was allocated.
#[test]
fn the_answer_leaves_with_the_invite_after_hours_of_waiting() {
    for hours in [0, 2] {
        let mut stage = warm();
        stage.simulation.run_for(Duration::from_secs(hours * 3_600));
        let log = record(&mut stage);
        call(&mut stage);
        let answers = answers(&stage, &log);
        assert_eq!(answers[0].0, Duration::ZERO, "{}", stage.story());
        assert_eq!(kinds(&answers[0].1), [1, 2, 1], "{}", answers[0].1);
        assert_talked(&stage);
    }
}

#[test]
fn the_second_call_right_after_the_first_finds_a_warm_set_too() {
    let mut stage = warm();
    let log = record(&mut stage);
    stage.dial();
    stage.dial();
    stage.run(12);
    let answers = answers(&stage, &log);
    assert_eq!(answers.len(), 2);
    for (took, answer) in answers {
        assert_eq!(took, Duration::ZERO);
        assert_eq!(kinds(&answer), [1, 2, 1], "{answer}");
    }
}

/// What the NAT shows is what the answer says, though the NAT has forgotten all it knew in between.
#[test]
fn a_binding_that_changed_in_the_pool_is_known_at_the_next_call() {
    let mut stage = Setup {
        bobs: |settings| settings.warm_sets = 1,
        ..Setup::between(Place::PortRestricted, Place::PortRestricted)
    }
    .build();
    let reflexive = |answer: &str| {
        let line = answer.lines().find(|line| line.contains("typ srflx"));
        line.unwrap().split(' ').nth(5).unwrap().to_owned()
    };
    let log = record(&mut stage);
    call(&mut stage);
    assert_talked(&stage);
    stage.run(60);
    let world = stage.simulation.world_mut();
    let gateways: Vec<_> = world.gateways().map(|(id, _)| id).collect();
    for gateway in gateways {
        world.reboot(gateway);
    }
    // The bindings are found anew by the next keepalive, and the proxy's by the next ping.
    stage.run(40);
    call(&mut stage);
    let answers = answers(&stage, &log);
    assert_eq!(answers.len(), 2, "{}", stage.story());
    assert_eq!(answers[1].0, Duration::ZERO);
    let (at_bob, _) = stage.heard();
    assert!(
        at_bob > 5.0,
        "both calls are heard: {at_bob}\n{}",
        stage.story()
    );
    assert_ne!(reflexive(&answers[0].1), reflexive(&answers[1].1));
}

/// A TURN server that restarts forgets every allocation; what it held for the pool is of no use,
/// and is gathered anew before anybody calls.
#[test]
fn a_set_whose_allocation_is_gone_is_renewed() {
    let mut stage = warm();
    let relayed = |answer: &str| {
        let line = answer.lines().find(|line| line.contains("typ relay"));
        line.unwrap().split(' ').nth(5).unwrap().to_owned()
    };
    stage.run(600);
    let turn = stage.turn;
    let fresh = TurnServer::new("phone", "secret");
    let allocations = fresh.allocation_count();
    stage.simulation.world_mut().add_server(turn, fresh);
    assert_eq!(allocations.load(Ordering::Relaxed), 0);
    stage.run(45);
    // Two sets of two components; the first loss was made good before the set was given up.
    let held = allocations.load(Ordering::Relaxed);
    assert!((4..=6).contains(&held), "{held}");
    let log = record(&mut stage);
    call(&mut stage);
    let answers = answers(&stage, &log);
    assert_eq!(answers[0].0, Duration::ZERO);
    assert_eq!(kinds(&answers[0].1), [1, 2, 1], "{}", answers[0].1);
    assert!(!relayed(&answers[0].1).is_empty());
    assert_talked(&stage);
}

/// Servers that were silent while the pool was filled are in the answer once they speak.
#[test]
fn servers_that_come_back_are_in_the_next_answer() {
    let mut stage = warm();
    let (bob, turn) = (stage.bob, stage.turn);
    let world = stage.simulation.world_mut();
    world.black_hole_between(bob, turn);
    stage.run(400);
    stage.simulation.world_mut().heal();
    stage.run(60);
    let log = record(&mut stage);
    call(&mut stage);
    let answers = answers(&stage, &log);
    assert_eq!(answers[0].0, Duration::ZERO);
    assert_eq!(kinds(&answers[0].1), [1, 2, 1], "{}", answers[0].1);
    assert_talked(&stage);
    assert!(first(&log, BOB_INSIDE, "INFO").is_none());
}
