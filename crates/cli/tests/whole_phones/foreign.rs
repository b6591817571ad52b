//! A phone of somebody else's: its SIP is written by hand in the tests, line by line, so that it
//! can do what ours never does; its checks and its voice run by themselves.

use std::f64::consts::TAU;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use ringtrue_ice::{
    Base, ComponentId, Credentials, ForkId, GatherConfig, Gatherer, IceEvent, IceSession, Pacer,
    PacketKind, Role, SessionConfig, classify,
};
use ringtrue_media::{Channel, Codec, FRAME, MediaStream, StreamConfig, tone};
use ringtrue_phone::Frame;
use ringtrue_sip::sdp::{IceSupport, SessionDescription, read_offer};
use ringtrue_testnet::{Delivery, HostId, Node, Outbox};
use stun_types::attribute::XorMappedAddress;
use stun_types::message::{
    IntegrityAlgorithm, Message, MessageIntegrityCredentials, MessageWriteVec, ShortTermCredentials,
};
use stun_types::prelude::{MessageWrite, MessageWriteExt};

use crate::foreign_keys::ForeignKeys;
use crate::stage::Stage;

/// Where it lives.
pub const CAROL: [u8; 4] = [203, 0, 113, 9];
pub const CAROL_TONE: f64 = 700.0;
const SIP: u16 = 5060;
const RTP: u16 = 30_000;
const RTCP: u16 = 30_001;
const FORK: ForkId = ForkId(0);
const FRAME_TIME: Duration = ringtrue_media::FRAME_TIME;

/// What it does about ICE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Full(Role),
    Lite,
    Without,
}

/// A SIP message that has come.
#[derive(Debug, Clone)]
pub struct Came {
    pub at: Instant,
    pub from: SocketAddr,
    pub text: String,
}

impl Came {
    pub fn body(&self) -> &str {
        self.text
            .split_once("\r\n\r\n")
            .map_or("", |(_, body)| body)
    }

    /// The first header field of this name, as our phone writes it.
    pub fn header(&self, name: &str) -> &str {
        let mut lines = self.text.split("\r\n");
        let found = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        found.unwrap_or_default()
    }

    pub fn is(&self, first_line: &str, cseq: &str) -> bool {
        self.text.starts_with(first_line) && self.header("CSeq").ends_with(cseq)
    }
}

/// What the test and the node on the host share.
pub struct State {
    kind: Kind,
    address: IpAddr,
    ice: Option<IceSession>,
    lite: Credentials,
    pacer: Pacer,
    pub mux: bool,
    stream: Option<MediaStream>,
    /// Where media goes without ICE, or to a lite peer's caller.
    remote: Option<SocketAddr>,
    next_frame: Option<Instant>,
    spoken: u64,
    heard: Vec<Frame>,
    pub came: Vec<Came>,
    pub proven_at: Option<Instant>,
    pub first_check: Option<Instant>,
    pub first_rtp: Option<Instant>,
    /// RTCP that came to the port of component 2.
    pub rtcp_apart: usize,
    answers: Vec<(SocketAddr, SocketAddr, Vec<u8>)>,
    /// Its DTLS, if it encrypts.
    pub keys: Option<ForeignKeys>,
}

/// The test's hold on it.
#[derive(Clone)]
pub struct Foreign {
    state: Arc<Mutex<State>>,
    pub host: HostId,
    /// From and To as a caller says them.
    pub call_id: String,
    pub tag: String,
    pub to_tag: String,
    pub peer: SocketAddr,
}

impl Foreign {
    pub fn at(stage: &mut Stage, kind: Kind) -> Self {
        let now = stage.simulation.now();
        let world = stage.simulation.world_mut();
        let internet = world.internet();
        let host = world.host_at("carol", internet, CAROL);
        let address = IpAddr::from(CAROL);
        let bases =
            [(RTP, ComponentId::Rtp), (RTCP, ComponentId::Rtcp)].map(|(port, component)| Base {
                address: SocketAddr::new(address, port),
                component,
                local_preference: 65_535,
            });
        let role = match kind {
            Kind::Full(role) => Some(role),
            Kind::Lite | Kind::Without => None,
        };
        let ice = role.map(|role| {
            let gatherer = Gatherer::new(GatherConfig::default(), bases.to_vec(), 77, now);
            let config = SessionConfig {
                role,
                ..SessionConfig::default()
            };
            IceSession::new(config, gatherer.gathered(), 78)
        });
        let state = State {
            kind,
            address,
            ice,
            lite: Credentials {
                ufrag: "carolito".into(),
                pwd: "carolcarolcarolcarolcarol".into(),
            },
            pacer: Pacer::new(),
            mux: true,
            stream: None,
            remote: None,
            next_frame: None,
            spoken: 0,
            heard: Vec::new(),
            came: Vec::new(),
            proven_at: None,
            first_check: None,
            first_rtp: None,
            rtcp_apart: 0,
            answers: Vec::new(),
            keys: None,
        };
        let state = Arc::new(Mutex::new(state));
        world.add_server(host, Peer(Arc::clone(&state)));
        Self {
            state,
            host,
            call_id: "foreign".into(),
            tag: "carol".into(),
            to_tag: String::new(),
            peer: SocketAddr::from(([203, 0, 113, 2], SIP)),
        }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn send(&self, stage: &mut Stage, to: SocketAddr, text: String) {
        let local = SocketAddr::from((CAROL, SIP));
        let world = stage.simulation.world_mut();
        world.send_udp(self.host, local, to, text.into_bytes());
        stage.simulation.settle();
    }

    /// Sends a request; `extra` are whole header lines.
    pub fn request(&self, stage: &mut Stage, cseq: &str, extra: &str, body: &str) {
        let [a, b, c, d] = CAROL;
        let me = format!("{a}.{b}.{c}.{d}");
        let (number, method) = cseq.split_once(' ').unwrap();
        let to_tag = match self.to_tag.as_str() {
            "" => String::new(),
            tag => format!(";tag={tag}"),
        };
        let peer = self.peer;
        let kind = if body.is_empty() {
            ""
        } else {
            "Content-Type: application/sdp\r\n"
        };
        let text = format!(
            "{method} sip:bob@{peer} SIP/2.0\r\nVia: SIP/2.0/UDP {me};branch=z9hG4bK{method}{number}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:carol@{me}>;tag={}\r\nTo: <sip:bob@{}>{to_tag}\r\n\
             Call-ID: {}\r\nCSeq: {cseq}\r\nContact: <sip:carol@{me}>\r\n{extra}{kind}\
             Content-Length: {}\r\n\r\n{body}",
            self.tag,
            peer.ip(),
            self.call_id,
            body.len(),
        );
        self.send(stage, peer, text);
    }

    /// Answers a request.
    pub fn respond(&self, stage: &mut Stage, to: &Came, status: &str, extra: &str, body: &str) {
        let mut text = format!("SIP/2.0 {status}\r\n");
        for line in to.text.split("\r\n").take_while(|line| !line.is_empty()) {
            let name = line.split(':').next().unwrap_or_default();
            match name {
                "Via" | "From" | "Call-ID" | "CSeq" | "Record-Route" => {
                    text += &format!("{line}\r\n");
                }
                "To" if line.contains(";tag=") => text += &format!("{line}\r\n"),
                "To" => text += &format!("{line};tag={}\r\n", self.tag),
                _ => {}
            }
        }
        let kind = if body.is_empty() {
            ""
        } else {
            "Content-Type: application/sdp\r\n"
        };
        let [a, b, c, d] = CAROL;
        text += &format!(
            "Contact: <sip:carol@{a}.{b}.{c}.{d}>\r\n{extra}{kind}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.send(stage, to.from, text);
    }

    /// The SDP of this phone; `more` are whole lines of the stream, in the place of `sendrecv`.
    pub fn sdp(&self, more: &str) -> String {
        let state = self.state();
        let [a, b, c, d] = CAROL;
        let me = format!("{a}.{b}.{c}.{d}");
        let mut sdp = format!("v=0\r\no=- 7 7 IN IP4 {me}\r\ns=-\r\nc=IN IP4 {me}\r\nt=0 0\r\n");
        if state.kind == Kind::Lite {
            sdp += "a=ice-lite\r\n";
        }
        sdp += &format!("m=audio {RTP} RTP/AVP 0\r\n");
        if state.mux {
            sdp += "a=rtcp-mux\r\n";
        } else {
            sdp += &format!("a=rtcp:{RTCP}\r\n");
        }
        let credentials = match (&state.ice, state.kind) {
            (Some(ice), _) => Some(ice.local_description().credentials),
            (None, Kind::Lite) => Some(state.lite.clone()),
            (None, _) => None,
        };
        if let Some(Credentials { ufrag, pwd }) = credentials {
            sdp += &format!("a=ice-ufrag:{ufrag}\r\na=ice-pwd:{pwd}\r\n");
            sdp += &format!("a=candidate:1 1 UDP 2130706431 {me} {RTP} typ host\r\n");
            if !state.mux {
                sdp += &format!("a=candidate:1 2 UDP 2130706430 {me} {RTCP} typ host\r\n");
            }
        }
        sdp + more
    }

    /// Takes the other side's SDP: the checks start, and the voice.
    pub fn learn(&self, stage: &Stage, sdp: &str) {
        let now = stage.simulation.now();
        let parsed = SessionDescription::parse(sdp.as_bytes()).unwrap();
        let remote = read_offer(&parsed).unwrap();
        let mut state = self.state();
        let components: &[ComponentId] = if state.mux {
            &[ComponentId::Rtp]
        } else {
            &[ComponentId::Rtp, ComponentId::Rtcp]
        };
        if let (Some(ice), IceSupport::Supported(description)) = (&mut state.ice, remote.ice) {
            ice.start(now, FORK, description, components).unwrap();
        }
        state.remote = Some(remote.rtp);
        let config = StreamConfig {
            rtcp_mux: state.mux,
            ..StreamConfig::new(Codec::Pcmu, "carol")
        };
        state.stream = MediaStream::new(config, 5, now, SystemTime::UNIX_EPOCH).ok();
    }

    /// How long it has heard a tone, in seconds.
    pub fn heard(&self, hz: f64) -> f64 {
        tone::measure_frames(&self.state().heard, hz, 0.05).seconds
    }

    /// It speaks from now on.
    pub fn speak(&self, stage: &Stage) {
        self.state().next_frame = Some(stage.simulation.now());
    }

    pub fn hush(&self) {
        self.state().next_frame = None;
    }

    /// The first message that matches, once it has come.
    pub fn find(&self, first_line: &str, cseq: &str) -> Option<Came> {
        let state = self.state();
        let mut came = state.came.iter();
        came.find(|came| came.is(first_line, cseq)).cloned()
    }

    /// Waits for a message.
    pub fn expect(&self, stage: &mut Stage, first_line: &str, cseq: &str) -> Came {
        for _ in 0..20_000 {
            if let Some(came) = self.find(first_line, cseq) {
                return came;
            }
            stage.simulation.run_for(Duration::from_millis(1));
        }
        let came: Vec<_> = self.state().came.iter().map(|c| c.text.clone()).collect();
        panic!(
            "no {first_line} {cseq} in\n{}\n{}",
            came.join("\n"),
            stage.story()
        );
    }

    pub fn count(&self, first_line: &str) -> usize {
        let state = self.state();
        let came = state.came.iter();
        came.filter(|came| came.text.starts_with(first_line))
            .count()
    }
}

/// The message with the long names of header fields, which a large one comes without.
fn with_long_names(text: &str) -> String {
    const NAMES: [(&str, &str); 8] = [
        ("\r\nv: ", "\r\nVia: "),
        ("\r\nf: ", "\r\nFrom: "),
        ("\r\nt: ", "\r\nTo: "),
        ("\r\ni: ", "\r\nCall-ID: "),
        ("\r\nm: ", "\r\nContact: "),
        ("\r\nk: ", "\r\nSupported: "),
        ("\r\nc: ", "\r\nContent-Type: "),
        ("\r\nl: ", "\r\nContent-Length: "),
    ];
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
    let head = NAMES.iter().fold(head.to_owned(), |head, (short, long)| {
        head.replace(short, long)
    });
    format!("{head}\r\n\r\n{body}")
}

/// What lives on the host.
struct Peer(Arc<Mutex<State>>);

impl State {
    fn sdp_socket(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.address, port)
    }

    fn handle(&mut self, now: Instant, local: SocketAddr, from: SocketAddr, payload: &[u8]) {
        if local.port() == SIP {
            let text = with_long_names(&String::from_utf8_lossy(payload));
            self.came.push(Came {
                at: now,
                from,
                text,
            });
            return;
        }
        match classify(payload) {
            PacketKind::Stun => {
                self.first_check.get_or_insert(now);
                if let Some(ice) = &mut self.ice {
                    ice.handle_datagram(now, local, from, payload);
                }
            }
            PacketKind::Dtls => {
                if let Some(keys) = &mut self.keys {
                    keys.handle(now, payload);
                }
            }
            PacketKind::Rtp => {
                self.first_rtp.get_or_insert(now);
                let clear = match &mut self.keys {
                    None => Some(payload.to_vec()),
                    Some(keys) => keys.unprotect(payload),
                };
                let Some(payload) = &clear else { return };
                if let Some(stream) = &mut self.stream {
                    stream.handle_rtp(now, payload);
                }
            }
            PacketKind::Rtcp => {
                self.rtcp_apart += usize::from(local.port() == RTCP);
                if let Some(stream) = &mut self.stream {
                    stream.handle_rtcp(now, payload);
                }
            }
            _ => {}
        }
    }

    /// A lite agent answers checks, and does no more.
    fn lite_answer(&self, from: SocketAddr, payload: &[u8]) -> Option<Vec<u8>> {
        if self.kind != Kind::Lite || classify(payload) != PacketKind::Stun {
            return None;
        }
        let request = Message::from_bytes(payload).ok()?;
        let mut out = Message::builder_success(&request, MessageWriteVec::new());
        let mapped = XorMappedAddress::new(from, request.transaction_id());
        out.add_attribute(&mapped).ok()?;
        let key = ShortTermCredentials::new(self.lite.pwd.clone());
        let key = MessageIntegrityCredentials::from(key);
        out.add_message_integrity(&key, IntegrityAlgorithm::Sha1)
            .ok()?;
        out.add_fingerprint().ok()?;
        Some(out.finish())
    }

    fn tick(&mut self, now: Instant) {
        if let Some(ice) = &mut self.ice {
            ice.handle_timeout(now, &mut self.pacer);
        }
        if let Some(keys) = &mut self.keys {
            keys.tick(now);
        }
        let Some(stream) = &mut self.stream else {
            return;
        };
        stream.handle_timeout(now);
        while let Some(at) = self.next_frame
            && at <= now
        {
            let spoken = self.spoken;
            let frame: Frame = std::array::from_fn(|index| {
                let seconds = (spoken + index as u64) as f64 / 48_000.0;
                (8_000.0 * (TAU * CAROL_TONE * seconds).sin()) as i16
            });
            self.spoken += FRAME as u64;
            stream.handle_capture(now, &frame);
            self.heard.extend(stream.playout(now));
            self.next_frame = Some(at + FRAME_TIME);
        }
    }

    fn emit(&mut self, now: Instant, out: &mut Outbox) {
        let mut sent = Vec::new();
        for (local, to, payload) in self.answers.drain(..) {
            out.datagram(local, to, payload);
        }
        if let Some(ice) = &mut self.ice {
            while let Some(transmit) = ice.poll_transmit() {
                out.datagram(transmit.base, transmit.to, transmit.payload);
            }
            while let Some((_, event)) = ice.poll_event() {
                if matches!(event, IceEvent::Validated { .. }) {
                    self.proven_at.get_or_insert(now);
                }
            }
        }
        while let Some(transmit) = self.stream.as_mut().and_then(MediaStream::poll_transmit) {
            sent.push(transmit);
        }
        let path = self
            .ice
            .as_ref()
            .and_then(|ice| ice.path(FORK, ComponentId::Rtp));
        while let Some(datagram) = self.keys.as_mut().and_then(ForeignKeys::poll_transmit) {
            if let Some(to) = path.map(|path| path.remote).or(self.remote) {
                out.datagram(self.sdp_socket(RTP), to, datagram);
            }
        }
        for mut transmit in sent {
            if let Some(keys) = &mut self.keys {
                let rtcp = classify(&transmit.payload) == PacketKind::Rtcp;
                let Some(protected) = keys.protect(rtcp, &transmit.payload) else {
                    continue;
                };
                transmit.payload = protected;
            }
            let (component, port) = match transmit.channel {
                Channel::Rtp => (ComponentId::Rtp, RTP),
                Channel::Rtcp => (ComponentId::Rtcp, RTCP),
            };
            let path = self.ice.as_ref().and_then(|ice| ice.path(FORK, component));
            let to = path.map(|path| path.remote).or(match self.ice {
                Some(_) => None,
                None => self.remote,
            });
            if let Some(to) = to {
                out.datagram(self.sdp_socket(port), to, transmit.payload);
            }
        }
    }
}

impl Node for Peer {
    fn handle_delivery(&mut self, now: Instant, delivery: Delivery) {
        if let Delivery::Datagram {
            local,
            from,
            payload,
        } = delivery
        {
            let mut state = self.0.lock().unwrap();
            if let Some(answer) = state.lite_answer(from, &payload) {
                state.first_check.get_or_insert(now);
                // A lite agent's caller is where its checks come from.
                state.remote = Some(from);
                state.answers.push((local, from, answer));
                return;
            }
            state.handle(now, local, from, &payload);
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.0.lock().unwrap().tick(now);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let state = self.0.lock().unwrap();
        let ice = state.ice.as_ref();
        let checks = ice.and_then(|ice| ice.poll_timeout(&state.pacer));
        let stream = state.stream.as_ref().and_then(MediaStream::poll_timeout);
        let keys = state.keys.as_ref().and_then(ForeignKeys::poll_timeout);
        let checks = checks.into_iter().chain(keys);
        checks
            .into_iter()
            .chain(stream)
            .chain(state.next_frame)
            .min()
    }

    fn drain(&mut self, now: Instant, out: &mut Outbox) {
        self.0.lock().unwrap().emit(now, out);
    }
}
