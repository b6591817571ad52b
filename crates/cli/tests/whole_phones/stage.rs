//! The stage of these tests: alice and bob, each in a network of some kind, a proxy, a STUN
//! and a TURN server, and delays.
//!
//!   alice ── NAT ──┬── Internet ────────┬── NAT ── bob
//!                  └── proxy, STUN, TURN ┘

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use ringtrue_media::tone;
use ringtrue_phone::event::{CallRole, EndReason, Outcome, PhoneEvent};
use ringtrue_phone::settings::{AnswerWhen, SrtpUse, TurnServer, TurnTransport};
use ringtrue_phone::{CallKey, EventKind, Settings};
use ringtrue_program::virtual_phone::VirtualPhone;
use ringtrue_testnet::{
    GatewayConfig, HostId, Link, NameService, NatConfig, Passing, PortMapping, Simulation,
    SipProxy, StunServer, Verdict, World,
};

pub const PROXY: [u8; 4] = [198, 51, 100, 10];
/// The domain that the proxy serves; where it is, the name service of a test says or does not.
pub const DOMAIN: &str = "example.test";
pub const STUN: [u8; 4] = [198, 51, 100, 20];
pub const TURN: [u8; 4] = [198, 51, 100, 30];
/// The port that every firewall lets through.
pub const WEB: u16 = 443;
pub const ALICE_TONE: f64 = 880.0;
pub const BOB_TONE: f64 = 440.0;
pub const SECOND_TONE: f64 = 600.0;
pub const AUDIBLE: f64 = 0.05;

/// Where a phone is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Open,
    /// Endpoint-independent mapping and filtering.
    FullCone,
    AddressRestricted,
    PortRestricted,
    Symmetric,
    /// A firewall eats its UDP; signalling goes by TCP.
    UdpEaten,
    /// A firewall lets nothing through but TCP to port 443, where the proxy listens too.
    WebOnly,
    /// No IPv4 at all.
    Ipv6Only,
}

impl Place {
    pub const WITH_UDP: [Self; 5] = [
        Self::Open,
        Self::FullCone,
        Self::AddressRestricted,
        Self::PortRestricted,
        Self::Symmetric,
    ];

    fn gateway(self, outer: [u8; 4]) -> Option<GatewayConfig> {
        let config = match self {
            Self::Open | Self::Ipv6Only => return None,
            Self::FullCone => NatConfig::full_cone(),
            Self::AddressRestricted => NatConfig::address_restricted(),
            Self::PortRestricted | Self::UdpEaten | Self::WebOnly => NatConfig::port_restricted(),
            Self::Symmetric => NatConfig::symmetric(),
        };
        let gateway = GatewayConfig::nat(outer, config);
        Some(match self {
            Self::UdpEaten => gateway.eating_udp(),
            Self::WebOnly => gateway.only_web(),
            _ => gateway,
        })
    }

    /// Whether a direct path between two places exists: by the rules of RFC 4787, not by ours.
    pub fn reaches(self, other: Self) -> bool {
        let mapping_changes = |place| place == Self::Symmetric;
        let filters_ports = |place| matches!(place, Self::PortRestricted | Self::Symmetric);
        let eaten = |place| matches!(place, Self::UdpEaten | Self::WebOnly);
        let has_ipv4 = |place| place != Self::Ipv6Only;
        !(eaten(self)
            || eaten(other)
            || has_ipv4(self) != has_ipv4(other)
            || mapping_changes(self) && filters_ports(other)
            || filters_ports(self) && mapping_changes(other))
    }
}

/// What is special about a stage.
pub struct Setup {
    pub alice: Place,
    pub bob: Place,
    /// A second phone of bob's, registered beside the first: the call forks.
    pub second: Option<Place>,
    /// One way from one phone to the other through the proxy.
    pub signalling: Duration,
    /// One way from one phone to the other.
    pub media: Duration,
    /// Whether the phones encrypt; tests of how soon ICE has a path do without the handshake.
    pub srtp: SrtpUse,
    pub alices: fn(&mut Settings),
    pub bobs: fn(&mut Settings),
    /// The TURN server, for those who have it in their settings.
    pub turn: ringtrue_testnet::TurnServer,
    /// What the DNS says to all of them.
    pub names: NameService,
    /// How long the phones have before the test begins, to register and gather.
    pub warm_up: Duration,
    /// What else stands in the world: it is given both phones' hosts and the servers', with their
    /// delays set, before the phones start.
    pub more: fn(&mut World, [HostId; 2], [HostId; 2]),
    /// What the proxy does to the bodies that it passes on.
    pub edit: fn(&mut Vec<u8>),
    /// What the proxy's certificate is good for.
    pub certificate: &'static str,
    /// Whether alice's and bob's router map ports.
    pub routers: [Option<PortMapping>; 2],
    pub seed: u64,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            alice: Place::Open,
            bob: Place::Open,
            second: None,
            signalling: Duration::from_millis(50),
            media: Duration::from_millis(50),
            srtp: SrtpUse::Optional,
            alices: |_| {},
            bobs: |_| {},
            turn: turn_server(),
            names: NameService::new(),
            warm_up: Duration::from_secs(2),
            more: |_, _, _| {},
            edit: |_| {},
            certificate: DOMAIN,
            routers: [None, None],
            seed: 1,
        }
    }
}

/// Alice and bob, ready to call.
pub struct Stage {
    pub simulation: Simulation<VirtualPhone>,
    pub alice: HostId,
    pub bob: HostId,
    pub second: Option<HostId>,
    pub stun: HostId,
    pub turn: HostId,
    pub call: Option<CallKey>,
    /// How many streams the STUN server has accepted, where `more` lets it listen.
    pub stun_streams: Arc<AtomicUsize>,
    /// How many allocations the TURN server holds, and how many packets it relayed.
    pub allocations: Arc<AtomicUsize>,
    pub relayed: Arc<AtomicUsize>,
    /// Raised, the TURN server starts anew.
    pub turn_reboots: Arc<AtomicUsize>,
}

/// The TURN server of the stage: by UDP and TCP on its usual port, by TLS on that of the web.
pub fn turn_server() -> ringtrue_testnet::TurnServer {
    let name = TURN.map(|byte| byte.to_string()).join(".");
    ringtrue_testnet::TurnServer::new("phone", "secret").with_tls(WEB, &name)
}

/// Settings with the stage's TURN server.
pub fn with_turn(settings: &mut Settings) {
    add_turn(settings, TurnTransport::Udp, None);
}

/// Adds the stage's TURN server as it is reached by this transport, on its usual port or another.
pub fn add_turn(settings: &mut Settings, transport: TurnTransport, port: Option<u16>) {
    let host = TURN.map(|byte| byte.to_string()).join(".");
    settings.turn_servers.push(TurnServer {
        address: port.map_or(host.clone(), |port| format!("{host}:{port}")),
        transport,
        user: "phone".to_owned(),
        password: "secret".to_owned(),
    });
}

impl Setup {
    pub fn between(alice: Place, bob: Place) -> Self {
        Self {
            alice,
            bob,
            ..Self::default()
        }
    }

    /// Builds the world, lets the phones register and gather.
    pub fn build(self) -> Stage {
        let mut world = World::new(self.seed);
        let internet = world.internet();
        let proxy = world.host_at("proxy", internet, PROXY);
        let ports = [5060, 5061, WEB].map(|port| SocketAddr::from((PROXY, port)));
        let ports_ipv6 = [5060, 5061, WEB].map(|port| SocketAddr::from((ipv6(PROXY), port)));
        let server = SipProxy::new(ports.into_iter().chain(ports_ipv6))
            .with_domain(DOMAIN)
            .with_certificate(self.certificate)
            .with_edit(self.edit);
        world.add_server(proxy, server);
        for port in [5060, 5061, WEB] {
            world.listen(proxy, port);
        }
        let stun = world.host_at("stun", internet, STUN);
        let stun_server = StunServer::new();
        let stun_streams = stun_server.accepted_streams();
        world.add_server(stun, stun_server);
        let turn = world.host_at("turn", internet, TURN);
        let (allocations, relayed) = (self.turn.allocation_count(), self.turn.relayed_packets());
        let turn_reboots = self.turn.reboots();
        world.add_server(turn, self.turn);
        let [alices_router, bobs_router] = self.routers;
        for port in [3478, WEB] {
            world.listen(turn, port);
        }
        if [Some(self.alice), Some(self.bob), self.second].contains(&Some(Place::Ipv6Only)) {
            for (server, address) in [(proxy, PROXY), (stun, STUN), (turn, TURN)] {
                world.add_interface(server, internet, ipv6(address), Link::default());
            }
        }
        let alice = place(
            &mut world,
            "alice",
            (self.alice, alices_router),
            [203, 0, 113, 1],
            [192, 168, 1, 10],
        );
        let bob = place(
            &mut world,
            "bob",
            (self.bob, bobs_router),
            [203, 0, 113, 2],
            [10, 0, 0, 20],
        );
        world.set_delay_between(alice, proxy, self.signalling / 2);
        world.set_delay_between(bob, proxy, self.signalling / 2);
        world.set_delay_between(alice, stun, Duration::from_millis(5));
        world.set_delay_between(bob, stun, Duration::from_millis(5));
        // The relay is on the way.
        world.set_delay_between(alice, turn, self.media / 2);
        world.set_delay_between(bob, turn, self.media / 2);
        world.set_delay_between(alice, bob, self.media);

        let second = self.second.map(|at| {
            let second = place(
                &mut world,
                "second",
                (at, None),
                [203, 0, 113, 3],
                [10, 1, 0, 30],
            );
            world.set_delay_between(second, proxy, self.signalling / 2);
            world.set_delay_between(second, stun, Duration::from_millis(5));
            world.set_delay_between(alice, second, self.media);
            second
        });

        (self.more)(&mut world, [alice, bob], [stun, turn]);
        let mut alices = settings("alice", self.alice);
        alices.srtp = self.srtp;
        (self.alices)(&mut alices);
        let mut bobs = settings("bob", self.bob);
        bobs.warm_sets = 1;
        bobs.srtp = self.srtp;
        (self.bobs)(&mut bobs);
        let alices = VirtualPhone::new(&mut world, alice, alices, ALICE_TONE, 2 * self.seed);
        let bobs = VirtualPhone::new(&mut world, bob, bobs, BOB_TONE, 2 * self.seed + 1);
        let seconds = second.zip(self.second).map(|(host, at)| {
            let mut settings = settings("bob", at);
            settings.warm_sets = 1;
            settings.srtp = self.srtp;
            (self.bobs)(&mut settings);
            VirtualPhone::new(&mut world, host, settings, SECOND_TONE, self.seed + 99).unwrap()
        });
        let mut simulation = Simulation::new(world);
        simulation.add(alice, alices.unwrap().with_names(self.names.clone()));
        simulation.add(bob, bobs.unwrap().with_names(self.names.clone()));
        if let (Some(host), Some(phone)) = (second, seconds) {
            simulation.add(host, phone.with_names(self.names));
        }
        simulation.settle();
        simulation.run_for(self.warm_up);
        Stage {
            simulation,
            alice,
            bob,
            second,
            stun,
            turn,
            call: None,
            stun_streams,
            allocations,
            relayed,
            turn_reboots,
        }
    }
}

/// The IPv6 address of who has this one of IPv4.
pub fn ipv6([a, b, c, d]: [u8; 4]) -> Ipv6Addr {
    let [a, b, c, d] = [a, b, c, d].map(u16::from);
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, a, b, c, d)
}

fn place(
    world: &mut World,
    name: &str,
    (place, router): (Place, Option<PortMapping>),
    outer: [u8; 4],
    inner: [u8; 4],
) -> HostId {
    let internet = world.internet();
    if place == Place::Ipv6Only {
        return world.host_at(name, internet, ipv6(outer));
    }
    match place.gateway(outer) {
        None => world.host_at(name, internet, outer),
        Some(mut gateway) => {
            gateway.port_mapping = router;
            let (_, home) = world.add_gateway(internet, gateway);
            world.host_at(name, home, inner)
        }
    }
}

fn settings(name: &str, place: Place) -> Settings {
    let [a, b, c, d] = PROXY;
    let domain = format!("{a}.{b}.{c}.{d}");
    let (proxy, stun) = match place {
        Place::Ipv6Only => (format!("[{}]", ipv6(PROXY)), format!("[{}]", ipv6(STUN))),
        _ => (domain.clone(), STUN.map(|byte| byte.to_string()).join(".")),
    };
    let transport = match place {
        Place::UdpEaten => ";transport=tcp",
        Place::WebOnly => ":443;transport=tcp",
        _ => "",
    };
    Settings {
        aor: format!("sip:{name}@{domain}"),
        proxy: Some(format!("sip:{proxy}{transport}")),
        stun_servers: vec![stun],
        register: true,
        answer: AnswerWhen::After(Duration::from_secs(1)),
        duration: Some(Duration::from_secs(3)),
        ..Settings::default()
    }
}

impl Stage {
    pub fn tap(&mut self, tap: impl FnMut(&Passing<'_>) -> Verdict + Send + 'static) {
        self.simulation.world_mut().add_tap(tap);
    }

    pub fn dial(&mut self) {
        let [a, b, c, d] = PROXY;
        self.dial_to(&format!("sip:bob@{a}.{b}.{c}.{d}"));
    }

    pub fn dial_to(&mut self, target: &str) {
        let now = self.simulation.now();
        let call = self
            .simulation
            .node_mut(self.alice)
            .phone()
            .call(now, target);
        self.call = Some(call.unwrap());
        self.simulation.settle();
    }

    pub fn press(&mut self, key: char) {
        let now = self.simulation.now();
        let call = self.call.unwrap();
        self.simulation
            .node_mut(self.alice)
            .phone()
            .send_digit(now, call, key);
    }

    /// Both say nothing from now on, or speak again.
    pub fn hush(&mut self, hushed: bool) {
        for phone in [self.alice, self.bob] {
            self.simulation.node_mut(phone).hush(hushed);
        }
    }

    /// From now on alice speaks this tone on the right, and her own on the left.
    pub fn speak_on_the_right(&mut self, tone: f64) {
        self.simulation
            .node_mut(self.alice)
            .speak_on_the_right(tone);
    }

    pub fn hang_up(&mut self) {
        let now = self.simulation.now();
        let call = self.call.unwrap();
        self.simulation
            .node_mut(self.alice)
            .phone()
            .hang_up(now, call);
        self.simulation.settle();
    }

    pub fn run(&mut self, seconds: u64) {
        self.simulation.run_for(Duration::from_secs(seconds));
    }

    pub fn alice(&self) -> &VirtualPhone {
        self.simulation.node(self.alice)
    }

    pub fn bob(&self) -> &VirtualPhone {
        self.simulation.node(self.bob)
    }

    pub fn second(&self) -> &VirtualPhone {
        self.simulation.node(self.second.expect("a second phone"))
    }

    /// Whether bob's user was alerted, in whatever way.
    pub fn rang(&self) -> bool {
        rang(self.bob()).is_some()
    }

    /// From the INVITE to bob's alert.
    pub fn ring_time(&self) -> Option<Duration> {
        let invite = at(self.alice(), |kind| {
            matches!(kind, EventKind::Invite { .. })
        })?;
        Some(rang(self.bob())?.at - invite)
    }

    /// How long each heard the other's tone, in seconds: bob, alice.
    pub fn heard(&self) -> (f64, f64) {
        (heard(self.bob(), ALICE_TONE), heard(self.alice(), BOB_TONE))
    }

    pub fn outcome(&self) -> Option<(EndReason, Outcome, Option<u16>)> {
        outcome(self.alice())
    }

    /// Everything that both told, for a failed assertion.
    pub fn story(&self) -> String {
        let mut told: Vec<(Instant, String)> = Vec::new();
        for (name, phone) in [("alice", self.alice()), ("bob", self.bob())] {
            for event in phone.events() {
                if !matches!(event.kind, EventKind::Stats(_)) {
                    told.push((event.at, format!("{name}: {:?}", event.kind)));
                }
            }
        }
        told.sort_by_key(|(at, _)| *at);
        let begin = told.first().map(|(at, _)| *at);
        told.iter()
            .map(|(at, text)| format!("{:8.1?} {text}\n", *at - begin.unwrap()))
            .collect()
    }
}

pub fn outcome(phone: &VirtualPhone) -> Option<(EndReason, Outcome, Option<u16>)> {
    phone.events().iter().find_map(|event| match &event.kind {
        EventKind::Ended {
            reason,
            outcome,
            status,
            ..
        } => Some((*reason, *outcome, *status)),
        _ => None,
    })
}

pub fn rang(phone: &VirtualPhone) -> Option<&PhoneEvent> {
    phone.event(|kind| {
        let callee = CallRole::Callee;
        matches!(kind, EventKind::Ringing { role, .. } if *role == callee)
    })
}

pub fn at(phone: &VirtualPhone, wanted: impl Fn(&EventKind) -> bool) -> Option<Instant> {
    phone.event(wanted).map(|event| event.at)
}

pub fn heard(phone: &VirtualPhone, hz: f64) -> f64 {
    let frames = phone.played().iter().map(|played| &*played.frame);
    tone::measure_frames(frames, hz, AUDIBLE).seconds
}

/// When a tone was first played.
pub fn first_heard(phone: &VirtualPhone, hz: f64) -> Option<Instant> {
    let mut played = phone.played().iter();
    played
        .find(|played| tone::level(&*played.frame, hz) >= AUDIBLE)
        .map(|played| played.at)
}

/// Whether a datagram is a SIP response of this status to an INVITE.
pub fn is_response(payload: &[u8], status: u16) -> bool {
    let text = String::from_utf8_lossy(payload);
    text.starts_with(&format!("SIP/2.0 {status}")) && text.contains("INVITE\r\n")
}
