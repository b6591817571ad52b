//! Two whole phones on a virtual wire, and an attacker who may damage what passes.
//!
//! ```text
//!   alice 10.0.0.1 ───── attacker ───── bob 10.0.0.2
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

use ringtrue_ice::{PacketKind, classify};
use ringtrue_media::{FRAME, FRAME_TIME};
use ringtrue_phone::settings::{AnswerWhen, IceUse};
use ringtrue_phone::{
    CallKey, Connection, EventKind, Interface, LookupError, MapRequest, Output, Phone, Settings,
};
use ringtrue_testnet::Dice;

pub const ALICE: usize = 0;
pub const BOB: usize = 1;
const DELAY: Duration = Duration::from_millis(10);
/// How often a phone may wake at one and the same moment.
const MOST_WAKES: usize = 2_000;

/// Something on its way to a phone.
enum Passing {
    Datagram {
        local: SocketAddr,
        from: SocketAddr,
        payload: Vec<u8>,
    },
    Connected(Connection),
    Bytes(Connection, Vec<u8>),
    Closed(Connection, bool),
}

/// What a phone has done so far.
#[derive(Debug, Default)]
pub struct Account {
    pub packets: usize,
    pub bytes: usize,
    pub connects: usize,
    pub events: usize,
    /// The media sockets that are open.
    pub sockets: BTreeSet<SocketAddr>,
    /// The sockets that listen for media.
    pub listeners: BTreeSet<SocketAddr>,
    /// The ports that the router maps.
    pub mapped: BTreeSet<MapRequest>,
    /// The calls whose sound is open.
    pub sound: BTreeSet<CallKey>,
    /// How often it rang with a proof.
    pub proven: usize,
    /// How often keys were there.
    pub secured: usize,
}

pub struct Pair {
    pub now: Instant,
    pub phones: [Phone; 2],
    pub accounts: [Account; 2],
    pub dice: Dice,
    /// Of so many percent of all packets something else becomes.
    pub damage: usize,
    /// Everything that was sent.
    pub sent: Vec<Vec<u8>>,
    on_the_way: BTreeMap<(Instant, u64), (usize, Passing)>,
    count: u64,
    ports: u16,
    /// The other end of each connection.
    ends: BTreeMap<(usize, Connection), (usize, Connection)>,
    frame_at: Instant,
    stalled: usize,
}

pub fn ip(side: usize) -> IpAddr {
    IpAddr::from([10, 0, 0, 1 + side as u8])
}

pub fn sip(side: usize) -> SocketAddr {
    SocketAddr::new(ip(side), 5060)
}

pub fn settings(side: usize) -> Settings {
    Settings {
        aor: format!("sip:user{side}@{}", ip(side)),
        answer: AnswerWhen::After(Duration::from_millis(300)),
        warm_sets: side,
        ..Settings::default()
    }
}

impl Pair {
    pub fn new(seed: u64, settings: [Settings; 2]) -> Self {
        let now = Instant::now();
        let mut side = 0;
        let phones = settings.map(|settings| {
            let interface = Interface {
                name: "eth0".to_owned(),
                address: ip(side),
                prefix_len: 24,
                default_route: true,
            };
            let socket = vec![sip(side)];
            side += 1;
            let random = [seed as u8 ^ side as u8; 32];
            let wall = SystemTime::UNIX_EPOCH;
            Phone::new(settings, vec![interface], socket, random, now, wall).expect("a phone")
        });
        let mut pair = Self {
            now,
            phones,
            accounts: Default::default(),
            dice: Dice::new(seed),
            damage: 0,
            sent: Vec::new(),
            on_the_way: BTreeMap::new(),
            count: 0,
            ports: 40_000,
            ends: BTreeMap::new(),
            frame_at: now,
            stalled: 0,
        };
        pair.drain(ALICE);
        pair.drain(BOB);
        pair
    }

    pub fn dial(&mut self) -> CallKey {
        let target = format!("sip:user1@{}", ip(BOB));
        let call = self.phones[ALICE].call(self.now, &target);
        self.drain(ALICE);
        call.expect("a target")
    }

    /// A datagram from wherever the attacker likes.
    pub fn inject(&mut self, side: usize, local: SocketAddr, from: SocketAddr, payload: &[u8]) {
        self.phones[side].handle_datagram(self.now, local, from, payload);
        self.drain(side);
    }

    pub fn accept(&mut self, side: usize, from: SocketAddr) -> Connection {
        let connection = self.phones[side].accepted_connection(self.now, from, false);
        self.drain(side);
        connection
    }

    pub fn stream(&mut self, side: usize, connection: Connection, payload: &[u8]) {
        self.phones[side].handle_stream(self.now, connection, payload);
        self.drain(side);
    }

    pub fn shut_down(&mut self) {
        for side in [ALICE, BOB] {
            self.phones[side].shut_down(self.now);
            self.drain(side);
        }
    }

    pub fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
        self.now = end;
    }

    /// Does what is next, if that is before `end`.
    fn step(&mut self, end: Instant) -> bool {
        let packet = self.on_the_way.keys().next().map(|(at, _)| *at);
        let sounding = self
            .accounts
            .iter()
            .any(|account| !account.sound.is_empty());
        let frame = sounding.then_some(self.frame_at.max(self.now));
        let timers = self.phones.iter().map(Phone::poll_timeout);
        let Some(at) = timers.chain([packet, frame]).flatten().min() else {
            return false;
        };
        if at >= end {
            return false;
        }
        self.stalled = if at > self.now { 0 } else { self.stalled + 1 };
        assert!(self.stalled < MOST_WAKES, "time stands still");
        self.now = self.now.max(at);
        while let Some(entry) = self.on_the_way.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let (side, passing) = entry.remove();
            self.arrive(side, passing);
        }
        for side in [ALICE, BOB] {
            if self.phones[side]
                .poll_timeout()
                .is_some_and(|at| at <= self.now)
            {
                self.phones[side].handle_timeout(self.now);
                self.drain(side);
            }
        }
        if sounding && self.frame_at <= self.now {
            self.frame_at = self.now + FRAME_TIME;
            for side in [ALICE, BOB] {
                for call in self.accounts[side].sound.clone() {
                    self.phones[side].handle_captured(self.now, call, &[3000; FRAME]);
                    self.phones[side].handle_playback(self.now, call);
                }
                self.drain(side);
            }
        }
        true
    }

    fn arrive(&mut self, side: usize, passing: Passing) {
        let (now, phone) = (self.now, &mut self.phones[side]);
        match passing {
            Passing::Datagram {
                local,
                from,
                payload,
            } => phone.handle_datagram(now, local, from, &payload),
            Passing::Connected(connection) => phone.handle_connected(now, connection, None),
            Passing::Bytes(connection, payload) => phone.handle_stream(now, connection, &payload),
            Passing::Closed(connection, refused) => {
                phone.handle_closed(now, connection, refused.then(|| "refused".to_owned()));
            }
        }
        self.drain(side);
    }

    fn drain(&mut self, side: usize) {
        while let Some(output) = self.phones[side].poll_output() {
            self.carry_out(side, output);
        }
    }

    fn carry_out(&mut self, side: usize, output: Output) {
        let account = &mut self.accounts[side];
        match output {
            Output::Datagram { local, to, payload } => {
                account.packets += 1;
                account.bytes += payload.len();
                self.sent.push(payload.clone());
                if to.ip() == ip(1 - side) {
                    let from = local;
                    self.pass(
                        1 - side,
                        |payload| Passing::Datagram {
                            local: to,
                            from,
                            payload,
                        },
                        payload,
                    );
                }
            }
            Output::Listen {
                request, address, ..
            } => {
                self.ports += 1;
                let local = SocketAddr::new(address, self.ports);
                account.listeners.insert(local);
                self.phones[side].handle_listening(self.now, request, Ok(local));
            }
            Output::Unlisten { local } => {
                assert!(account.listeners.remove(&local), "{local} did not listen");
            }
            Output::Stream {
                connection,
                payload,
            }
            | Output::StreamPacket {
                connection,
                payload,
            } => {
                account.packets += 1;
                account.bytes += payload.len();
                self.sent.push(payload.clone());
                if let Some((other, end)) = self.ends.get(&(side, connection)).copied() {
                    self.pass(other, |payload| Passing::Bytes(end, payload), payload);
                }
            }
            Output::Bind { request, address } => {
                self.ports += 1;
                let bound = SocketAddr::new(address, self.ports);
                account.sockets.insert(bound);
                self.phones[side].handle_bound(self.now, request, Ok(bound));
            }
            Output::Unbind { local } => {
                assert!(account.sockets.remove(&local), "{local} was not open");
            }
            Output::MapPort { request, local } => {
                account.mapped.insert(request);
                let external = SocketAddr::from(([203, 0, 113, 99], local.port()));
                let lifetime = Duration::from_secs(120);
                self.phones[side].handle_port_mapped(self.now, request, Some(external), lifetime);
            }
            Output::UnmapPort { request } => {
                assert!(
                    account.mapped.remove(&request),
                    "{request:?} was not mapped"
                );
            }
            Output::Connect { connection, to, .. } => {
                account.connects += 1;
                self.connect(side, connection, to);
            }
            Output::Close { connection } => {
                if let Some((other, end)) = self.ends.remove(&(side, connection)) {
                    self.ends.remove(&(other, end));
                    self.later(other, Passing::Closed(end, false));
                }
            }
            Output::Resolve { query, .. } => {
                let unknown = Err(LookupError::NoSuchName);
                self.phones[side].handle_resolved(self.now, query, unknown);
            }
            Output::OpenSound { call } => drop(account.sound.insert(call)),
            Output::Alert { .. } => {}
            Output::CloseSound { call } => drop(account.sound.remove(&call)),
            Output::Play { .. } => {}
            Output::Event(event) => {
                account.events += 1;
                let proven = matches!(event.kind, EventKind::Ringing { verified: true, .. });
                account.proven += usize::from(proven);
                let secured = matches!(event.kind, EventKind::Secured { .. });
                account.secured += usize::from(secured);
            }
        }
    }

    fn connect(&mut self, side: usize, connection: Connection, to: SocketAddr) {
        let other = 1 - side;
        let (phone, now) = (&mut self.phones[other], self.now);
        self.ports += 1;
        let from = SocketAddr::new(ip(side), self.ports);
        let end = if to == sip(other) {
            Some(phone.accepted_connection(now, from, false))
        } else if self.accounts[other].listeners.contains(&to) {
            phone.accepted_media(now, to, from)
        } else {
            None
        };
        let Some(end) = end else {
            return self.later(side, Passing::Closed(connection, true));
        };
        self.ends.insert((side, connection), (other, end));
        self.ends.insert((other, end), (side, connection));
        self.later(side, Passing::Connected(connection));
        self.drain(other);
    }

    fn later(&mut self, side: usize, passing: Passing) {
        self.count += 1;
        self.on_the_way
            .insert((self.now + DELAY, self.count), (side, passing));
    }

    /// Past the attacker: as it was, damaged, twice or not at all.
    fn pass(&mut self, side: usize, make: impl Fn(Vec<u8>) -> Passing, payload: Vec<u8>) {
        if !self.dice.percent(self.damage) {
            return self.later(side, make(payload));
        }
        match self.dice.below(4) {
            0 => {}
            1 => {
                self.later(side, make(payload.clone()));
                self.later(side, make(payload));
            }
            _ => {
                let payload = self.dice.mutate(&payload, &recording().sip);
                self.later(side, make(payload));
            }
        }
    }
}

/// Real messages, by their kind.
pub struct Recording {
    pub sip: Vec<Vec<u8>>,
    pub sdp: Vec<Vec<u8>>,
    pub media: Vec<Vec<u8>>,
}

/// Every message of some calls: with ICE and without, answered, refused and cancelled.
pub fn recording() -> &'static Recording {
    static RECORDING: OnceLock<Recording> = OnceLock::new();
    RECORDING.get_or_init(|| {
        let mut sent = Vec::new();
        for (number, (ice, cancel)) in [
            (IceUse::On, None),
            (IceUse::Off, None),
            (IceUse::On, Some(100)),
            (IceUse::On, Some(2_000)),
        ]
        .into_iter()
        .enumerate()
        {
            let mut both = [settings(ALICE), settings(BOB)];
            both[ALICE].ice = ice;
            if number == 1 {
                both[BOB].ice = IceUse::Required;
            }
            let mut pair = Pair::new(number as u64, both);
            pair.run_for(Duration::from_secs(1));
            let call = pair.dial();
            pair.run_for(Duration::from_millis(cancel.unwrap_or(3_000)));
            pair.phones[ALICE].hang_up(pair.now, call);
            pair.drain(ALICE);
            pair.run_for(Duration::from_secs(2));
            sent.append(&mut pair.sent);
        }
        sent.extend(EXTRA.iter().map(|text| text.as_bytes().to_vec()));
        sort(sent)
    })
}

fn sort(sent: Vec<Vec<u8>>) -> Recording {
    let is_sip = |payload: &Vec<u8>| {
        let text = String::from_utf8_lossy(payload);
        text.lines()
            .next()
            .is_some_and(|line| line.contains("SIP/2.0"))
    };
    let (sip, media): (Vec<_>, Vec<_>) = sent.into_iter().partition(is_sip);
    let body = |payload: &Vec<u8>| {
        let at = payload.windows(4).position(|four| four == b"\r\n\r\n")?;
        let body = payload[at + 4..].to_vec();
        (!body.is_empty()).then_some(body)
    };
    let sdp: Vec<_> = sip.iter().filter_map(body).collect();
    let media: Vec<_> = media
        .into_iter()
        .filter(|payload| classify(payload) != PacketKind::Other)
        .step_by(7)
        .collect();
    assert!(sip.len() > 20 && sdp.len() > 4 && media.len() > 20);
    Recording { sip, sdp, media }
}

/// What the calls do not hold.
const EXTRA: [&str; 3] = [
    "SIP/2.0 401 Unauthorized\r\nVia: SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK1;rport=5060\r\n\
     From: <sip:a@example.com>;tag=1\r\nTo: <sip:a@example.com>;tag=2\r\nCall-ID: 1\r\n\
     CSeq: 1 REGISTER\r\nWWW-Authenticate: Digest realm=\"r\", nonce=\"n\", qop=\"auth\", \
     algorithm=SHA-256, stale=true\r\nContent-Length: 0\r\n\r\n",
    "INVITE sip:user1@10.0.0.2 SIP/2.0\r\nv: SIP/2.0/TCP [2001:db8::1]:5060;branch=z9hG4bKx\r\n\
     f: \"A \\\"B\\\"\" <sip:a@example.com>;tag=1\r\nt: <sip:user1@10.0.0.2>\r\ni: extra\r\n\
     CSeq: 7 INVITE\r\nMax-Forwards: 70\r\nRecord-Route: <sip:10.9.9.9;lr>,\r\n <sip:p.example;lr>\r\n\
     m: <sip:a@[2001:db8::1]>\r\nk: 100rel, timer\r\nWarning: 399 h \"t\"\r\nl: 0\r\n\r\n",
    "OPTIONS sip:user1@10.0.0.2 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKo\r\n\
     From: <sip:a@example.com>;tag=9\r\nTo: <tel:+1234;phone-context=example.com>\r\nCall-ID: o\r\n\
     CSeq: 4294967295 OPTIONS\r\nAccept: application/sdp;level=1, text/*\r\nContent-Length: 0\r\n\r\n",
];
