//! One call of the demo, from the registration to the end, and what is measured on it.

use std::fmt;
use std::time::{Duration, Instant};

use ringtrue_media::tone;
use ringtrue_phone::event::CallRole;
use ringtrue_phone::settings::{AnswerWhen, RingWhen};
use ringtrue_phone::{EventKind, Settings};
use ringtrue_testnet::{HostId, Simulation};

use super::topology::{PROXY, STUN, Topology, build};
use crate::virtual_phone::VirtualPhone;

/// The tones that the two speak, in hertz.
const ALICE_TONE: f64 = 880.0;
const BOB_TONE: f64 = 440.0;
/// How long alice talks, or listens into the silence, after the answer.
const TALK: Duration = Duration::from_secs(4);
/// How long bob lets it ring.
const PICK_UP: Duration = Duration::from_secs(1);
/// When the registrations have long been made.
const DIAL_AT: Duration = Duration::from_millis(1000);
/// When every call is over.
const LIMIT: Duration = Duration::from_secs(20);
/// The quietest tone that counts as heard, of full scale; the phones speak at a quarter of it.
const AUDIBLE: f64 = 0.05;
/// How much of the peer's tone makes a call heard.
const HEARD_SECONDS: f64 = 1.0;
/// What the last second of a case holds: BYE and its answer.
const LINGER: Duration = Duration::from_millis(500);

/// Which phone both of them use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PhoneKind {
    /// Rings at once, checks after the 200.
    Ordinary,
    /// Rings with a proof.
    Ringtrue,
}

impl PhoneKind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Ordinary, Self::Ringtrue];

    /// The word in the JSON events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ordinary => "ordinary",
            Self::Ringtrue => "ringtrue",
        }
    }
}

impl fmt::Display for PhoneKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What was measured on one call.
#[derive(Debug, Clone, PartialEq)]
pub struct CaseResult {
    /// Where.
    pub topology: Topology,
    /// With which phone.
    pub phone: PhoneKind,
    /// Whether bob was alerted.
    pub rang: bool,
    /// Whether alice's tone was played to bob.
    pub heard_by_bob: bool,
    /// Whether bob's tone was played to alice.
    pub heard_by_alice: bool,
    /// From the INVITE to bob's alert.
    pub ring: Option<Duration>,
    /// From the pick-up until both have heard the other.
    pub first_voice: Option<Duration>,
    /// What alice was told at the end.
    pub ending: String,
}

impl CaseResult {
    /// Whether both heard each other.
    pub fn heard(&self) -> bool {
        self.heard_by_alice && self.heard_by_bob
    }

    /// It rang, and not both were heard.
    pub fn is_ghost_ring(&self) -> bool {
        self.rang && !self.heard()
    }
}

/// One call under way.
pub(super) struct Case {
    topology: Topology,
    phone: PhoneKind,
    simulation: Simulation<VirtualPhone>,
    begun: Instant,
    alice: HostId,
    bob: HostId,
    dialled: bool,
    shown: [usize; 2],
    over_at: Option<Duration>,
}

impl Case {
    pub(super) fn new(topology: Topology, phone: PhoneKind) -> Self {
        let seed = 1 + topology as u64;
        let (mut world, alice, bob) = build(topology, seed);
        let mut phone_of = |host, name: &str, tone, by_tcp, seed| {
            let settings = settings(name, phone, by_tcp);
            VirtualPhone::new(&mut world, host, settings, tone, seed)
                .expect("the demo's own settings are sound")
        };
        let alices = phone_of(alice, "alice", ALICE_TONE, false, 2 * seed);
        let bobs = phone_of(
            bob,
            "bob",
            BOB_TONE,
            topology.signalling_by_tcp(),
            2 * seed + 1,
        );
        let begun = world.now();
        let mut simulation = Simulation::new(world);
        simulation.add(alice, alices);
        simulation.add(bob, bobs);
        simulation.settle();
        Self {
            topology,
            phone,
            simulation,
            begun,
            alice,
            bob,
            dialled: false,
            shown: [0, 0],
            over_at: None,
        }
    }

    fn elapsed(&self) -> Duration {
        self.simulation.now() - self.begun
    }

    /// When something happens next, since the begin; none when the case is over.
    pub(super) fn next_wake_up(&self) -> Option<Duration> {
        let end = self.over_at.unwrap_or(LIMIT);
        if self.elapsed() >= end {
            return None;
        }
        let next = self.simulation.next_wake_up().map(|at| at - self.begun);
        let own = if self.dialled { end } else { DIAL_AT };
        Some(next.unwrap_or(own).min(own))
    }

    /// Does everything until then.
    pub(super) fn advance(&mut self, to: Duration) {
        self.simulation.run_until(self.begun + to);
        if !self.dialled && to >= DIAL_AT {
            self.dialled = true;
            let now = self.simulation.now();
            let target = format!("sip:bob@{PROXY}");
            let phone = self.simulation.node_mut(self.alice).phone();
            phone
                .call(now, &target)
                .expect("the demo's own target is a SIP URI");
            self.simulation.settle();
        }
        let ended = |host| {
            let phone = self.simulation.node(host);
            phone
                .event(|kind| matches!(kind, EventKind::Ended { .. }))
                .is_some()
        };
        if self.over_at.is_none() && ended(self.alice) && ended(self.bob) {
            self.over_at = Some(self.elapsed() + LINGER);
        }
    }

    /// What has happened since the last time, for people.
    pub(super) fn steps(&mut self) -> Vec<(Duration, String)> {
        let mut steps = Vec::new();
        for (who, host) in [(0, self.alice), (1, self.bob)] {
            let name = ["alice", "bob"][who];
            let events = self.simulation.node(host).events();
            for event in &events[self.shown[who]..] {
                if let Some(text) = step(name, &event.kind) {
                    steps.push((event.at - self.begun, text));
                }
            }
            self.shown[who] = events.len();
        }
        steps.sort_by_key(|(at, _)| *at);
        steps
    }

    /// What was measured.
    pub(super) fn result(self) -> CaseResult {
        let alice = self.simulation.node(self.alice);
        let bob = self.simulation.node(self.bob);
        let at_of = |phone: &VirtualPhone, wanted: fn(&EventKind) -> bool| {
            phone.event(wanted).map(|event| event.at)
        };
        let invited = at_of(alice, |kind| matches!(kind, EventKind::Invite { .. }));
        let rang = at_of(bob, |kind| {
            let callee = CallRole::Callee;
            matches!(kind, EventKind::Ringing { role, .. } if *role == callee)
        });
        let answered = at_of(bob, |kind| matches!(kind, EventKind::Answered { .. }));
        let since =
            |from: Option<Instant>, to: Option<Instant>| Some(to?.saturating_duration_since(from?));
        let first_voice = first_heard(alice, BOB_TONE).zip(first_heard(bob, ALICE_TONE));
        CaseResult {
            topology: self.topology,
            phone: self.phone,
            rang: rang.is_some(),
            heard_by_bob: hears(bob, ALICE_TONE),
            heard_by_alice: hears(alice, BOB_TONE),
            ring: since(invited, rang),
            first_voice: since(answered, first_voice.map(|(one, other)| one.max(other))),
            ending: ending(alice),
        }
    }
}

fn settings(name: &str, phone: PhoneKind, by_tcp: bool) -> Settings {
    let transport = if by_tcp { ";transport=tcp" } else { "" };
    Settings {
        aor: format!("sip:{name}@{PROXY}"),
        proxy: Some(format!("sip:{PROXY}{transport}")),
        stun_servers: vec![STUN.to_owned()],
        register: true,
        ring: match phone {
            PhoneKind::Ordinary => RingWhen::AtOnce,
            PhoneKind::Ringtrue => RingWhen::Verified,
        },
        answer: AnswerWhen::After(PICK_UP),
        warm_sets: usize::from(name == "bob"),
        duration: Some(TALK),
        ..Settings::default()
    }
}

/// Whether a tone was played to the user long enough to be heard.
fn hears(phone: &VirtualPhone, hz: f64) -> bool {
    let frames = phone.played().iter().map(|played| &*played.frame);
    tone::measure_frames(frames, hz, AUDIBLE).seconds >= HEARD_SECONDS
}

/// When a tone was first played to the user.
fn first_heard(phone: &VirtualPhone, hz: f64) -> Option<Instant> {
    let mut played = phone.played().iter();
    let first = played.find(|played| tone::level(&*played.frame, hz) >= AUDIBLE)?;
    Some(first.at)
}

/// What a user's own phone said at the end.
fn ending(phone: &VirtualPhone) -> String {
    let ended = phone
        .events()
        .iter()
        .rev()
        .find_map(|event| match &event.kind {
            EventKind::Ended { reason, status, .. } => Some((reason.as_str(), *status)),
            _ => None,
        });
    match ended {
        Some((reason, Some(status))) => format!("{reason} ({status})"),
        Some((reason, None)) => reason.to_owned(),
        None => "still going on".to_owned(),
    }
}

/// An event as a person wants to read it; none for what is of no interest here.
fn step(name: &str, kind: &EventKind) -> Option<String> {
    Some(match kind {
        EventKind::Invite {
            role: CallRole::Caller,
            ..
        } => format!("{name} calls"),
        EventKind::PathValidated(path) => format!(
            "{name} has proven a path: {} to {}",
            path.local_type, path.remote_type
        ),
        EventKind::PathFailed { pairs_tried, .. } => {
            format!("{name} finds no path ({pairs_tried} pairs tried)")
        }
        EventKind::Ringing {
            role: CallRole::Callee,
            verified,
        } => {
            let how = if *verified {
                "path proven"
            } else {
                "path unknown"
            };
            format!("{name}'s phone rings ({how})")
        }
        EventKind::Answered {
            role: CallRole::Callee,
        } => format!("{name} picks up"),
        EventKind::Missed { .. } => format!("{name}'s log shows a missed call"),
        EventKind::Ended { reason, words, .. } => match words {
            Some(words) => format!("{name}'s call is over: {} ({words})", reason.as_str()),
            None => format!("{name}'s call is over: {}", reason.as_str()),
        },
        _ => return None,
    })
}
