//! A whole phone on the virtual Internet: the same code as a real call, under a virtual clock.

use std::collections::HashMap;
use std::f64::consts::TAU;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use ringtrue_phone::{
    CallKey, Connection, EventKind, Frame, Interface, LookupResult, MapRequest, Output, Phone,
    PhoneEvent, ResolveQuery, Settings, SettingsError, Sides,
};
use ringtrue_testnet::{Delivery, HostId, NameService, Node, Outbox, StreamId, Wish, World};

/// The port of SIP.
const SIP_PORT: u16 = 5060;
/// That of SIP over TLS.
const SIPS_PORT: u16 = 5061;
/// Those of IPv4 and IPv6.
const SIP_SOCKETS: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), SIP_PORT),
    SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), SIP_PORT),
];
/// The first port of media sockets.
const FIRST_MEDIA_PORT: u16 = 40_000;
/// One frame of sound.
const FRAME_TIME: Duration = ringtrue_media::FRAME_TIME;
/// How loud a virtual phone speaks, of 32767.
const AMPLITUDE: f64 = 8000.0;

/// One frame that was played to the user, and when.
#[derive(Debug, Clone)]
pub struct Played {
    /// The moment.
    pub at: Instant,
    /// The sound.
    pub frame: Box<Frame>,
    /// Both sides of it, where it has two.
    pub sides: Option<Box<Sides>>,
}

/// A phone that lives on a host of a virtual Internet, speaks a steady tone and keeps what it
/// hears and tells.
pub struct VirtualPhone {
    phone: Phone,
    addresses: Vec<IpAddr>,
    tone: f64,
    /// What it speaks on the right, if that is not the same.
    right: Option<f64>,
    spoken: u64,
    /// The one at the phone says nothing.
    hushed: bool,
    next_media_port: u16,
    /// The call whose microphone is open, and when it takes its next frame.
    microphone: Option<(CallKey, Instant)>,
    /// The ports that the gateway was asked for, and their sockets.
    mapped: HashMap<MapRequest, SocketAddr>,
    streams: HashMap<StreamId, Connection>,
    names: NameService,
    /// Look-ups under way: when the answer comes, and what it is.
    lookups: Vec<(Instant, ResolveQuery, LookupResult)>,
    /// Streams that the phone does not want.
    unwanted: Vec<StreamId>,
    events: Vec<PhoneEvent>,
    played: Vec<Played>,
}

impl VirtualPhone {
    /// A phone on a host that has its addresses already; the first of each family is where the
    /// default route leaves. It speaks a tone of that frequency in hertz. If the settings say that it
    /// accepts connections by TLS, it does so at port 5061, with a certificate for its addresses.
    ///
    /// # Errors
    /// What the phone says of the settings.
    pub fn new(
        world: &mut World,
        host: HostId,
        settings: Settings,
        tone: f64,
        seed: u64,
    ) -> Result<Self, SettingsError> {
        let addresses = world.addresses(host);
        let interfaces = interfaces(&addresses);
        world.listen(host, SIP_PORT);
        if !settings.tls_sockets.is_empty() {
            world.listen(host, SIPS_PORT);
        }
        let now = world.now();
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let phone = Phone::new(
            settings,
            interfaces,
            SIP_SOCKETS.to_vec(),
            bytes,
            now,
            SystemTime::UNIX_EPOCH,
        )?;
        Ok(Self {
            phone,
            addresses,
            tone,
            right: None,
            spoken: 0,
            hushed: false,
            next_media_port: FIRST_MEDIA_PORT,
            microphone: None,
            mapped: HashMap::new(),
            streams: HashMap::new(),
            names: NameService::new(),
            lookups: Vec::new(),
            unwanted: Vec::new(),
            events: Vec::new(),
            played: Vec::new(),
        })
    }

    /// The same, asking this name service; without it no name is known.
    pub fn with_names(mut self, names: NameService) -> Self {
        self.names = names;
        self
    }

    /// The host's addresses are these from now on; the first of each family is where the default
    /// route leaves.
    pub fn handle_addresses(&mut self, now: Instant, addresses: Vec<IpAddr>) {
        self.phone.handle_interfaces(now, interfaces(&addresses));
        self.addresses = addresses;
    }

    /// The phone, for the user's commands.
    pub fn phone(&mut self) -> &mut Phone {
        &mut self.phone
    }

    /// What the phone has told.
    pub fn events(&self) -> &[PhoneEvent] {
        &self.events
    }

    /// What was played to the user.
    pub fn played(&self) -> &[Played] {
        &self.played
    }

    /// The first event that is of interest.
    pub fn event(&self, wanted: impl Fn(&EventKind) -> bool) -> Option<&PhoneEvent> {
        self.events.iter().find(|event| wanted(&event.kind))
    }

    /// The tone that this phone speaks, in hertz.
    pub fn tone(&self) -> f64 {
        self.tone
    }

    /// From now on it speaks this tone on the right, and its own on the left.
    pub fn speak_on_the_right(&mut self, tone: f64) {
        self.right = Some(tone);
    }

    /// From now on the one at the phone says nothing, or speaks again: there is some noise of the room.
    pub fn hush(&mut self, hushed: bool) {
        self.hushed = hushed;
    }

    fn handle_output(&mut self, now: Instant, output: Output, out: &mut Outbox) {
        match output {
            Output::Datagram { local, to, payload } => out.datagram(local, to, payload),
            Output::Bind { request, address } => {
                self.next_media_port += 1;
                let bound = SocketAddr::new(address, self.next_media_port);
                let bound = if self.addresses.contains(&address) {
                    Ok(bound)
                } else {
                    Err(format!("{address} is not an address of this host"))
                };
                self.phone.handle_bound(now, request, bound);
            }
            Output::Listen {
                request, address, ..
            } => {
                self.next_media_port += 1;
                let port = self.next_media_port;
                out.push(Wish::Listen { port });
                let local = Ok(SocketAddr::new(address, port));
                self.phone.handle_listening(now, request, local);
            }
            Output::Unlisten { local } => out.push(Wish::Unlisten { port: local.port() }),
            Output::Connect {
                connection,
                to,
                from,
                tls,
            } => {
                let stream = StreamId(connection.0);
                self.streams.insert(stream, connection);
                out.push(Wish::Connect {
                    stream,
                    to,
                    from,
                    tls,
                });
            }
            Output::Stream {
                connection,
                payload,
            }
            | Output::StreamPacket {
                connection,
                payload,
            } => {
                if let Some(stream) = self.stream_of(connection) {
                    out.stream_bytes(stream, payload);
                }
            }
            Output::Close { connection } => {
                if let Some(stream) = self.stream_of(connection) {
                    self.streams.remove(&stream);
                    out.close(stream);
                }
            }
            Output::MapPort { request, local } => {
                self.mapped.insert(request, local);
                let request = request.0;
                out.push(Wish::MapPort { request, local });
            }
            Output::UnmapPort { request } => {
                if let Some(local) = self.mapped.remove(&request) {
                    out.push(Wish::UnmapPort { local });
                }
            }
            Output::Resolve { query, name, kind } => {
                if let Some((delay, result)) = self.names.look_up(&name, kind) {
                    self.lookups.push((now + delay, query, result));
                    self.resolve(now);
                }
            }
            Output::OpenSound { call } => self.microphone = Some((call, now)),
            Output::Alert { .. } => {}
            Output::CloseSound { .. } => self.microphone = None,
            Output::Play { frame, sides, .. } => self.played.push(Played {
                at: now,
                frame,
                sides,
            }),
            Output::Event(event) => self.events.push(event),
            // Media sockets need no closing here: ports are never used twice.
            _ => {}
        }
    }

    /// Hands over the answers that have come.
    fn resolve(&mut self, now: Instant) {
        let (due, later) = std::mem::take(&mut self.lookups)
            .into_iter()
            .partition(|(at, ..)| *at <= now);
        self.lookups = later;
        for (_, query, result) in due {
            self.phone.handle_resolved(now, query, result);
        }
    }

    fn stream_of(&self, connection: Connection) -> Option<StreamId> {
        let mut streams = self.streams.iter();
        let found = streams.find(|(_, known)| **known == connection);
        found.map(|(stream, _)| *stream)
    }

    fn speak(&mut self, now: Instant) {
        while let Some((call, at)) = self.microphone
            && at <= now
        {
            let frame = self.said(self.tone);
            let right = self.right.map(|tone| self.said(tone));
            self.spoken += frame.len() as u64;
            self.microphone = Some((call, at + FRAME_TIME));
            match right {
                Some(right) => self.phone.handle_captured_sides(now, call, &[frame, right]),
                None => self.phone.handle_captured(now, call, &frame),
            }
            self.phone.handle_playback(now, call);
        }
    }

    /// The next 10 ms of a tone.
    fn said(&self, tone: f64) -> Frame {
        std::array::from_fn(|index| {
            let sample = self.spoken + index as u64;
            if self.hushed {
                return room(sample);
            }
            let seconds = sample as f64 / f64::from(ringtrue_media::SAMPLE_RATE);
            (AMPLITUDE * (TAU * tone * seconds).sin()) as i16
        })
    }
}

/// A sample of noise, some 60 dB below full scale.
fn room(sample: u64) -> i16 {
    let mixed = (sample ^ 0x9e37_79b9).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    ((mixed >> 32) % 101) as i16 - 50
}

fn interfaces(addresses: &[IpAddr]) -> Vec<Interface> {
    let mut interfaces: Vec<Interface> = Vec::new();
    for (number, address) in addresses.iter().enumerate() {
        let first = !interfaces
            .iter()
            .any(|known| known.address.is_ipv4() == address.is_ipv4());
        interfaces.push(Interface {
            name: format!("eth{number}"),
            address: *address,
            prefix_len: if address.is_ipv4() { 24 } else { 64 },
            default_route: first,
        });
    }
    interfaces
}

impl Node for VirtualPhone {
    fn handle_delivery(&mut self, now: Instant, delivery: Delivery) {
        match delivery {
            Delivery::Datagram {
                local,
                from,
                payload,
            } => {
                let local = if local.port() == SIP_PORT {
                    SIP_SOCKETS[usize::from(local.is_ipv6())]
                } else {
                    local
                };
                self.phone.handle_datagram(now, local, from, &payload);
            }
            Delivery::Connected { stream, local } => {
                if let Some(connection) = self.streams.get(&stream) {
                    self.phone.handle_connected(now, *connection, Some(local));
                }
            }
            Delivery::Accepted {
                stream,
                local,
                from,
                tls,
            } => {
                let connection = if let Some(name) = tls {
                    // The opener's check, which bytes in clear cannot fail.
                    let certified = self.addresses.iter().any(|own| own.to_string() == name);
                    (certified && local.port() == SIPS_PORT)
                        .then(|| self.phone.accepted_connection(now, from, true))
                } else if local.port() == SIP_PORT {
                    Some(self.phone.accepted_connection(now, from, false))
                } else {
                    self.phone.accepted_media(now, local, from)
                };
                match connection {
                    Some(connection) => {
                        self.streams.insert(stream, connection);
                    }
                    None => self.unwanted.push(stream),
                }
            }
            Delivery::StreamBytes { stream, payload } => {
                if let Some(connection) = self.streams.get(&stream) {
                    self.phone.handle_stream(now, *connection, &payload);
                }
            }
            Delivery::PortMapped { request, mapped } => {
                let (external, lifetime) = mapped.unzip();
                self.phone.handle_port_mapped(
                    now,
                    MapRequest(request),
                    external,
                    lifetime.unwrap_or_default(),
                );
            }
            Delivery::Closed { stream, refused } => {
                if let Some(connection) = self.streams.remove(&stream) {
                    let error = refused.then(|| "connection refused".to_owned());
                    self.phone.handle_closed(now, connection, error);
                }
            }
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.resolve(now);
        self.phone.handle_timeout(now);
        self.speak(now);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let microphone = self.microphone.map(|(_, at)| at);
        self.phone
            .poll_timeout()
            .into_iter()
            .chain(microphone)
            .chain(self.lookups.iter().map(|(at, ..)| *at))
            .min()
    }

    fn drain(&mut self, now: Instant, out: &mut Outbox) {
        for stream in self.unwanted.drain(..) {
            out.close(stream);
        }
        loop {
            while let Some(output) = self.phone.poll_output() {
                self.handle_output(now, output, out);
            }
            let due = self.microphone.is_some_and(|(_, at)| at <= now);
            if !due {
                return;
            }
            self.speak(now);
        }
    }
}
