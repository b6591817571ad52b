//! The tokio driver: it owns what the sans-IO [`Phone`] does not have, sockets, timers, names and
//! sound, and carries everything to and from it.
//!
//! All of it is one task on one thread; tasks for TCP connections and blocking threads for names
//! and sound devices tell it by messages what happened. After each input the phone's outputs are
//! carried out until there are none.

mod booth;
mod captured;
mod connections;
mod error;
mod gain;
mod inet6;
mod interfaces;
mod mdns;
mod names;
mod pace;
mod ports;
mod sockets;
mod sound;
mod tls;
mod tones;
mod voice;
mod watch;

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use rand::TryRng;
use rand::rngs::SysRng;
use ringtrue_media::audio::DeviceChange;
use tokio::sync::mpsc;

pub use error::DriverError;
pub use gain::Gain;
pub use sound::Sound;
pub use tls::{CaError, TlsIdentity};
pub use tones::{RingTone, ToneChoice};
pub use voice::{Switch, VoiceChoice};

use crate::{
    BindRequest, CallKey, CallRef, Connection, EventKind, LookupResult, Output, Phone, PhoneEvent,
    RecordKind, ResolveQuery, Settings,
};
use booth::Booth;
use connections::{Accepted, Connections, Route};
use names::Names;
use ports::{Mapped, Ports};
use sockets::{Received, Sockets};
use sound::{Opened, Sounds};
use tls::Tls;
use tones::Tones;
use watch::AddressWatch;

/// How long a phone that shuts down may still wait for answers to its last requests.
const SHUT_DOWN_MAX: Duration = Duration::from_secs(8);
/// The largest datagram.
const DATAGRAM_MAX: usize = 65_535;
/// How many datagrams of one socket are read before the others get their turn.
const BATCH: usize = 64;

/// What to run.
#[derive(Debug, Clone)]
pub struct DriverConfig {
    /// The phone's settings.
    pub settings: Settings,
    /// Addresses to bind SIP to, and the only ones to gather candidates on. Empty: all
    /// interfaces.
    pub bind: Vec<BindAddress>,
    /// The port of those that name none; 0 is any.
    pub default_port: u16,
    /// Whether TCP connections are accepted on the same ports.
    pub accept_tcp: bool,
    /// A file of certificates in PEM form that TLS trusts beside the public roots.
    pub tls_ca: Option<PathBuf>,
    /// Who this host is by TLS: with it, connections by TLS are accepted, at the port after that of
    /// each SIP socket (5061 after 5060).
    pub tls_identity: Option<TlsIdentity>,
    /// The DNS servers to ask. Empty: those of the system.
    pub dns: Vec<SocketAddr>,
    /// Where sound comes from and goes to.
    pub sound: Sound,
    /// Whom to call at once.
    pub target: Option<String>,
    /// Whether to shut down after the first call.
    pub once: bool,
}

/// An address to bind to, with or without a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BindAddress {
    /// The address; unspecified is all of its family.
    pub ip: IpAddr,
    /// The port.
    pub port: Option<u16>,
}

/// What a user may ask of a running phone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Answer a ringing call.
    Answer(CallKey),
    /// Decline a ringing call.
    Decline(CallKey),
    /// End a call, with CANCEL or BYE as it fits.
    HangUp(CallKey),
    /// Turn a call's microphone off, or on again.
    ToggleMute(CallKey),
    /// Play a WAV file into an answered call, in place of the microphone until its end.
    Play(CallKey, PathBuf),
    /// Send a digit in a connected call.
    SendDigit(CallKey, char),
    /// End every call in order, and then the phone.
    ShutDown,
    /// End now: only files are completed.
    Abort,
}

/// What a running phone tells.
#[derive(Debug, Clone)]
pub enum DriverEvent {
    /// SIP can be received here.
    Listening {
        /// Since when.
        at: Instant,
        /// The address and port as they were bound.
        address: SocketAddr,
        /// By TLS; else by UDP, and by TCP if that is accepted.
        tls: bool,
    },
    /// The phone's own events.
    Phone(PhoneEvent),
    /// A call's microphone was turned off, or on again.
    Muted {
        /// When.
        at: Instant,
        /// The call.
        call: CallRef,
        /// It is off.
        on: bool,
    },
    /// Another sound device has taken over in the middle of a call.
    Device {
        /// When.
        at: Instant,
        /// The call.
        call: Option<CallRef>,
        /// Which, and why.
        change: DeviceChange,
    },
    /// Something of this host is amiss that the user should know; the phone goes on.
    Trouble {
        /// When it was found out.
        at: Instant,
        /// The call that it is about, if any.
        call: Option<CallKey>,
        /// One line for people.
        message: String,
    },
}

/// What other tasks tell the driver.
enum Incident {
    Accepted {
        stream: Accepted,
        peer: SocketAddr,
        /// The socket that listens, if it does for media.
        media: Option<SocketAddr>,
    },
    /// With the address of its end here.
    Connected(Connection, Option<SocketAddr>),
    Bytes(Connection, Vec<u8>),
    Closed {
        connection: Connection,
        error: Option<String>,
    },
    Resolved(ResolveQuery, LookupResult),
    DeviceChanged {
        call: CallKey,
        change: DeviceChange,
    },
    SoundOpened {
        call: CallKey,
        result: Result<Opened, ringtrue_media::audio::AudioError>,
    },
}

/// Runs a phone until it has shut down: on [`Command::ShutDown`], or after the first call with
/// [`DriverConfig::once`]. Must run inside a tokio runtime with its I/O and time drivers on.
pub async fn run(
    config: DriverConfig,
    mut commands: mpsc::Receiver<Command>,
    events: impl FnMut(DriverEvent),
) -> Result<(), DriverError> {
    let (inbox, mut incidents) = mpsc::channel(256);
    let mut driver = Driver::start(config, inbox, events).await?;
    let mut ordered = true;
    let rung = driver.sounds.rung();
    while driver.goes_on() {
        let wake = driver.next_wake().into();
        tokio::select! {
            () = tokio::time::sleep_until(wake) => {}
            () = rung.notified() => {}
            ready = poll_fn(|cx| driver.sockets.poll_readable(cx)) => driver.receive(&ready),
            () = driver.watch.changed() => driver.look_soon(),
            Some(incident) = incidents.recv() => driver.handle_incident(incident),
            Some(done) = driver.ports.next() => driver.handle_ports(done),
            command = commands.recv(), if ordered => match command {
                Some(command) => driver.handle_command(command),
                // Nobody is left who could end it later.
                None => {
                    ordered = false;
                    driver.handle_command(Command::ShutDown);
                }
            },
        }
        driver.handle_time();
    }
    // Tasks that still have something to tell shall not wait for a reader.
    drop(incidents);
    driver.finish().await;
    Ok(())
}

/// How far the end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Nobody asked for it.
    Open,
    /// As soon as the phone is idle, at the latest then.
    By(Instant),
    /// Now.
    Now,
}

struct Driver<E> {
    phone: Phone,
    sockets: Sockets,
    connections: Connections,
    sounds: Sounds,
    /// The calls that were told of, as they were named last.
    calls: BTreeMap<CallKey, CallRef>,
    booth: Booth,
    tones: Tones,
    names: Names,
    ports: Ports,
    inbox: mpsc::Sender<Incident>,
    events: E,
    buffer: Vec<u8>,
    once: bool,
    end: End,
    /// The addresses that the user named, and no others.
    named: Vec<IpAddr>,
    watch: AddressWatch,
    next_look: Instant,
}

impl<E: FnMut(DriverEvent)> Driver<E> {
    async fn start(
        config: DriverConfig,
        inbox: mpsc::Sender<Incident>,
        mut events: E,
    ) -> Result<Self, DriverError> {
        let named: Vec<IpAddr> = config.bind.iter().map(|bind| bind.ip).collect();
        let interfaces = interfaces::list(&named)?;
        let mut sockets = Sockets::default();
        let tls = Tls::new(config.tls_ca.as_deref())?;
        let mut connections = Connections::new(inbox.clone(), named.clone(), tls);
        let sip = sockets.bind_sip(&config.bind, config.default_port)?;
        let mut settings = config.settings;
        settings.accepts_tcp = config.accept_tcp;
        if let Some(identity) = &config.tls_identity {
            settings.tls_sockets = tls::listen(&mut connections, &config.bind, &sip, identity)?;
        }
        let secure = settings.tls_sockets.clone();
        Sounds::check(&config.sound)?;
        booth::check(config.sound.record.as_deref())?;
        Tones::check(&config.sound.tones)?;
        let mut seed = [0; 32];
        SysRng
            .try_fill_bytes(&mut seed)
            .map_err(|error| DriverError::Random(error.to_string()))?;
        let now = Instant::now();
        let mut phone = Phone::new(
            settings,
            interfaces,
            sip.clone(),
            seed,
            now,
            SystemTime::now(),
        )
        .map_err(|error| DriverError::Settings(error.to_string()))?;
        for address in &sip {
            if config.accept_tcp
                && let Err(error) = connections.listen(*address).await
            {
                let message = format!("no SIP over TCP on {address}: {error}");
                events(DriverEvent::Trouble {
                    at: now,
                    call: None,
                    message,
                });
            }
            events(DriverEvent::Listening {
                at: now,
                address: *address,
                tls: false,
            });
        }
        for address in secure {
            events(DriverEvent::Listening {
                at: now,
                address,
                tls: true,
            });
        }
        if let Some(target) = &config.target {
            phone
                .call(now, target)
                .map_err(|error| DriverError::Target(error.to_string()))?;
        }
        let watch = AddressWatch::new();
        let mut driver = Self {
            phone,
            sockets,
            connections,
            booth: Booth::new(config.sound.record.clone(), config.sound.channels()),
            tones: Tones::new(config.sound.tones.clone(), config.sound.output.clone()),
            sounds: Sounds::new(config.sound, inbox.clone()),
            calls: BTreeMap::new(),
            names: Names::new(&config.dns, &named),
            ports: Ports::new(),
            inbox,
            events,
            buffer: vec![0; DATAGRAM_MAX],
            once: config.once,
            end: End::Open,
            named,
            next_look: now + watch.interval(),
            watch,
        };
        driver.drain();
        Ok(driver)
    }

    fn goes_on(&self) -> bool {
        match self.end {
            End::Open => true,
            End::By(limit) => !self.phone.is_idle() && Instant::now() < limit,
            End::Now => false,
        }
    }

    fn next_wake(&self) -> Instant {
        let limit = match self.end {
            End::By(limit) => Some(limit),
            End::Open | End::Now => None,
        };
        [self.phone.poll_timeout(), self.sounds.poll_timeout(), limit]
            .into_iter()
            .flatten()
            .fold(self.next_look, Instant::min)
    }

    /// Something about the host's addresses or routes has changed.
    fn look_soon(&mut self) {
        self.next_look = self.next_look.min(Instant::now() + watch::SETTLING);
    }

    /// Looks whether the host's addresses have changed.
    fn look_around(&mut self, now: Instant) {
        self.next_look = now + self.watch.interval();
        match interfaces::list(&self.named) {
            Ok(interfaces) => {
                self.phone.handle_interfaces(now, interfaces);
                self.drain();
            }
            Err(error) => tracing::debug!(%error, "the interfaces could not be listed"),
        }
    }

    /// Everything that is due by now.
    fn handle_time(&mut self) {
        let now = Instant::now();
        if now >= self.next_look {
            self.look_around(now);
        }
        while let Some(call) = self.sounds.poll_playback(now) {
            self.phone.handle_playback(now, call);
            self.drain();
            self.sounds.asked(call);
        }
        while let Some((call, mut captured)) = self.sounds.poll_captured(now) {
            self.booth.captured(call, &mut captured);
            match &captured.sides {
                Some(sides) => self.phone.handle_captured_sides(now, call, sides),
                None => self.phone.handle_captured(now, call, &captured.frame),
            }
            self.drain();
        }
        if self.phone.poll_timeout().is_some_and(|due| due <= now) {
            self.phone.handle_timeout(now);
            self.drain();
        }
    }

    fn receive(&mut self, ready: &[SocketAddr]) {
        let mut buffer = std::mem::take(&mut self.buffer);
        for local in ready {
            for _ in 0..BATCH {
                match self.sockets.receive(*local, &mut buffer) {
                    Received::Datagram(size, from) => {
                        let payload = buffer.get(..size).unwrap_or_default();
                        let now = Instant::now();
                        self.phone.handle_datagram(now, *local, from, payload);
                        self.drain();
                    }
                    Received::Nothing => {}
                    Received::Empty => break,
                }
            }
        }
        self.buffer = buffer;
    }

    fn handle_incident(&mut self, incident: Incident) {
        let now = Instant::now();
        match incident {
            Incident::Accepted {
                stream,
                peer,
                media,
            } => {
                if self.connections.has_room() {
                    let secure = matches!(stream, Accepted::Tls(_));
                    let connection = match media {
                        Some(local) => self.phone.accepted_media(now, local, peer),
                        None => Some(self.phone.accepted_connection(now, peer, secure)),
                    };
                    if let Some(connection) = connection {
                        self.connections.adopt(connection, stream);
                    }
                } else {
                    tracing::warn!(%peer, "too many connections: one more was closed");
                }
            }
            Incident::Connected(connection, local) if self.connections.is_open(connection) => {
                self.phone.handle_connected(now, connection, local);
            }
            Incident::Bytes(connection, bytes) if self.connections.is_open(connection) => {
                self.phone.handle_stream(now, connection, &bytes);
            }
            Incident::Connected(..) | Incident::Bytes(..) => {}
            Incident::Closed { connection, error } => {
                if self.connections.ended(connection) {
                    self.phone.handle_closed(now, connection, error);
                }
            }
            Incident::Resolved(query, result) => {
                self.phone.handle_resolved(now, query, result);
            }
            Incident::DeviceChanged { call, change } => {
                let (at, call) = (now, self.calls.get(&call).cloned());
                (self.events)(DriverEvent::Device { at, call, change });
            }
            Incident::SoundOpened { call, result } => match result {
                Ok(opened) => self.sounds.opened(call, opened),
                Err(error) => {
                    self.trouble(Some(call), error.to_string());
                    self.phone.hang_up(now, call);
                }
            },
        }
        self.drain();
    }

    fn handle_command(&mut self, command: Command) {
        let now = Instant::now();
        match command {
            Command::Answer(call) => self.phone.answer(now, call),
            Command::Decline(call) => self.phone.decline(now, call),
            Command::HangUp(call) => self.phone.hang_up(now, call),
            Command::ToggleMute(call) => {
                if let Some(call) = self.calls.get(&call).cloned()
                    && let Some(on) = self.sounds.toggle_mute(call.key)
                {
                    let at = now;
                    (self.events)(DriverEvent::Muted { at, call, on });
                }
            }
            Command::Play(call, path) => match self.booth.play(call, &path) {
                Ok(_) => {}
                Err(error) => self.trouble(Some(call), error.to_string()),
            },
            Command::SendDigit(call, digit) => self.phone.send_digit(now, call, digit),
            Command::ShutDown => self.shut_down(now),
            Command::Abort => self.end = End::Now,
        }
        self.drain();
    }

    fn shut_down(&mut self, now: Instant) {
        if self.end == End::Open {
            self.end = End::By(now + SHUT_DOWN_MAX);
            self.phone.shut_down(now);
        }
    }

    /// Carries out what the phone wants until it wants nothing more.
    fn drain(&mut self) {
        while let Some(output) = self.phone.poll_output() {
            self.carry_out(output);
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Datagram { local, to, payload } => self.sockets.send(local, to, &payload),
            Output::Bind { request, address } => self.bind_media(request, address),
            Output::Unbind { local } => self.sockets.close(local),
            Output::Listen {
                request,
                address,
                shared,
            } => self.listen_for_media(request, address, shared),
            Output::Unlisten { local } => self.connections.unlisten(local),
            Output::MapPort { request, local } => {
                let nobody = self.ports.map(request, local);
                self.tell_mapped(nobody);
            }
            Output::UnmapPort { request } => self.ports.unmap(request),
            Output::Connect {
                connection,
                to,
                from,
                tls,
            } => self
                .connections
                .connect(connection, Route { from, to, tls }),
            Output::Stream {
                connection,
                payload,
            } => self.write(connection, payload),
            Output::StreamPacket {
                connection,
                payload,
            } => self.connections.write_packet(connection, payload),
            Output::Close { connection } => self.connections.close(connection),
            Output::Resolve { query, name, kind } => self.resolve(query, name, kind),
            Output::Alert { call } => self.tones.alert(call),
            Output::OpenSound { call } => self.sounds.open(Instant::now(), call),
            Output::Play {
                call,
                mut frame,
                mut sides,
                pace,
            } => {
                self.booth.played(call, &frame);
                let sides = sides.as_deref_mut();
                if let Err(error) = self.sounds.play(call, &mut frame, sides, pace) {
                    self.trouble(Some(call), error.to_string());
                }
            }
            Output::CloseSound { call } => {
                if let Err(error) = self.sounds.close(call) {
                    self.trouble(Some(call), error.to_string());
                }
            }
            Output::Event(event) => self.tell(event),
        }
    }

    fn handle_ports(&mut self, done: ports::Done) {
        let mapped = self.ports.handle(done);
        self.tell_mapped(mapped);
        self.drain();
    }

    fn tell_mapped(&mut self, mapped: Option<Mapped>) {
        if let Some(Mapped { request, external }) = mapped {
            let (external, lifetime) = external.unzip();
            self.phone.handle_port_mapped(
                Instant::now(),
                request,
                external,
                lifetime.unwrap_or_default(),
            );
        }
    }

    fn tell(&mut self, mut event: PhoneEvent) {
        let ended = matches!(event.kind, EventKind::Ended { .. });
        let call = event.call.clone();
        if let (EventKind::Answered { .. }, Some(call)) = (&event.kind, &call) {
            self.sounds.answered(call.key);
        }
        if let Some(call) = &call {
            if ended {
                self.sounds.ended(call.key);
                self.calls.remove(&call.key);
                if let Err(error) = self.booth.ended(call.key) {
                    self.trouble(Some(call.key), error.to_string());
                }
            } else {
                self.calls.insert(call.key, call.clone());
            }
        }
        if let (EventKind::Stats(figures), Some(call)) = (&mut event.kind, &call) {
            self.booth.measure(call.key, figures);
            if let Some(error) = self.booth.poll_error(call.key) {
                self.trouble(Some(call.key), error.to_string());
            }
        }
        if let Some(call) = &call {
            self.tones.follow(Instant::now(), call.key, &event.kind);
        }
        let answered = matches!(event.kind, EventKind::Answered { .. });
        (self.events)(DriverEvent::Phone(event));
        if let (true, Some(call)) = (answered, call) {
            self.record(call);
        }
        if ended && self.once {
            self.shut_down(Instant::now());
        }
    }

    /// An answered call is recorded, if that is asked for, and the user is told.
    fn record(&mut self, call: CallRef) {
        match self.booth.answered(call.key) {
            Some(Ok(file)) => (self.events)(DriverEvent::Phone(PhoneEvent {
                at: Instant::now(),
                call: Some(call),
                kind: EventKind::Recording { file },
            })),
            Some(Err(error)) => self.trouble(Some(call.key), error.to_string()),
            None => {}
        }
    }

    fn trouble(&mut self, call: Option<CallKey>, message: String) {
        let at = Instant::now();
        (self.events)(DriverEvent::Trouble { at, call, message });
    }

    fn bind_media(&mut self, request: BindRequest, address: IpAddr) {
        let result = self
            .sockets
            .bind_any_port(address)
            .map_err(|error| error.to_string());
        self.phone.handle_bound(Instant::now(), request, result);
    }

    fn listen_for_media(&mut self, request: BindRequest, address: IpAddr, shared: bool) {
        let result = self
            .connections
            .listen_for_media(address, shared)
            .map_err(|error| error.to_string());
        if let Err(error) = &result {
            tracing::debug!(%address, %error, "no TCP candidate");
        }
        self.phone.handle_listening(Instant::now(), request, result);
    }

    fn write(&mut self, connection: Connection, payload: Vec<u8>) {
        if let Err(error) = self.connections.write(connection, payload) {
            let error = Some(error.to_owned());
            self.phone.handle_closed(Instant::now(), connection, error);
        }
    }

    fn resolve(&mut self, query: ResolveQuery, name: String, kind: RecordKind) {
        let (inbox, names) = (self.inbox.clone(), self.names.clone());
        tokio::spawn(async move {
            let result = names.look_up(&name, kind).await;
            let _ = inbox.send(Incident::Resolved(query, result)).await;
        });
    }

    /// Completes files and lets connections write what they were given.
    async fn finish(mut self) {
        for error in self.booth.close_all() {
            self.trouble(None, error.to_string());
        }
        for error in self.sounds.close_all() {
            self.trouble(None, error.to_string());
        }
        let in_order = self.end != End::Now;
        if let (true, Some(until)) = (in_order, self.tones.failed_until()) {
            tokio::time::sleep_until(until.into()).await;
        }
        let connections = async {
            if in_order {
                self.connections.finish().await;
            }
        };
        tokio::join!(connections, self.ports.finish());
    }
}
