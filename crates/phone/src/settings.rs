//! What a phone is told before it starts.

use std::net::SocketAddr;
use std::time::Duration;

use ringtrue_media::{Codec, OpusSettings};

/// Whether ICE is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IceUse {
    /// Used, and done without for peers that have none. The default.
    On,
    /// Not used (`--no-ice`): an ordinary phone, every ring unverified.
    Off,
    /// Peers without ICE are refused (`--require-ice`).
    Required,
}

/// When a call with ICE rings (`ring` in the settings).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RingWhen {
    /// Only with a proof. The default.
    Verified,
    /// With a proof, or without one after the patience.
    PreferVerified,
    /// At once, checking afterwards: the ordinary phone of the demo.
    AtOnce,
}

/// Whether media is encrypted (`--srtp`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SrtpUse {
    /// Never: peers that want it are refused.
    Off,
    /// With every peer that can. Once agreed on, it stays for the call. The default.
    Optional,
    /// Always: peers that cannot are refused.
    Required,
}

/// What an incoming call is answered with (`--answer`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerWhen {
    /// When the user says so.
    Asked,
    /// This long after the ringing began; zero is `auto`.
    After(Duration),
    /// Never: it rings until the caller gives up.
    Never,
}

/// User name and password for digest. `Debug` hides the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The user name.
    pub user: String,
    /// The password.
    pub password: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login")
            .field("user", &self.user)
            .field("password", &"…")
            .finish()
    }
}

/// How a TURN server is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TurnTransport {
    /// By datagrams.
    Udp,
    /// By TCP connections.
    Tcp,
    /// By TLS, with a certificate for the name or address in the settings.
    Tls,
}

/// A TURN server. `Debug` hides the password.
#[derive(Clone, PartialEq, Eq)]
pub struct TurnServer {
    /// The server as `host` or `host:port`, a name or an address; without a port it is 3478, for
    /// TLS 5349.
    pub address: String,
    /// How it is reached. A server that can be reached in several ways stands there for each.
    pub transport: TurnTransport,
    /// The user name.
    pub user: String,
    /// The password.
    pub password: String,
}

impl std::fmt::Debug for TurnServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TurnServer")
            .field("address", &self.address)
            .field("transport", &self.transport)
            .field("user", &self.user)
            .field("password", &"…")
            .finish()
    }
}

/// Everything a phone is told before it starts.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Who I am, as `sip:alice@example.org`.
    pub aor: String,
    /// The outbound proxy; its `transport` parameter counts.
    pub proxy: Option<String>,
    /// Credentials for digest.
    pub login: Option<Login>,
    /// Whether SIP connections by TCP are accepted at the ports of the SIP sockets.
    pub accepts_tcp: bool,
    /// Where SIP connections by TLS are accepted.
    pub tls_sockets: Vec<SocketAddr>,
    /// STUN servers as `host` or `host:port`, names or addresses.
    pub stun_servers: Vec<String>,
    /// TURN servers in order of preference, which relay where no direct path exists.
    pub turn_servers: Vec<TurnServer>,
    /// Whether STUN servers are looked for by the SRV records of the domain of `aor`.
    pub discover_stun: bool,
    /// Whether TURN servers are, and the user that they know.
    pub discover_turn: Option<Login>,
    /// Whether the router is asked to map ports to the media sockets (PCP, NAT-PMP, UPnP).
    pub port_mapping: bool,
    /// Whether only relayed candidates are used, so that the peer learns no address of ours.
    pub relay_only: bool,
    /// Whether there are candidates for TCP too (RFC 6544), for networks that let no UDP through.
    pub ice_tcp: bool,
    /// Whether ICE is used.
    pub ice: IceUse,
    /// When a call with ICE rings.
    pub ring: RingWhen,
    /// How long a proof is waited for.
    pub patience: Duration,
    /// The Ta that we signal, 5 to 50 ms.
    pub pacing: Duration,
    /// The interfaces whose addresses come first, by their names; one that ends with `*` stands
    /// for all that begin so.
    pub prefer: Vec<String>,
    /// How long an offer or answer waits for slow servers; what comes later is trickled.
    pub gather_patience: Duration,
    /// Whether the controlling side sends the updated offer after nomination to `ice2` peers too.
    pub updated_offer: bool,
    /// The codecs, the preferred one first.
    pub codecs: Vec<Codec>,
    /// How much sound a packet holds, to us and from us where the peer does not say what it wants:
    /// 10, 20, 40 or 60 ms.
    pub ptime: Duration,
    /// Whether media is encrypted.
    pub srtp: SrtpUse,
    /// How much work the Opus encoder does, 0 to 10.
    pub opus_complexity: u8,
    /// Whether Opus packets are all of one size, both ways (RFC 6562).
    pub opus_cbr: bool,
    /// Whether Opus has two channels, to us and, where the peer likes to get them, from us (RFC 7587 section
    /// 7.1).
    pub stereo: bool,
    /// Whether pauses in speech are not sent (DTX, comfort noise).
    pub dtx: bool,
    /// What an incoming call is answered with.
    pub answer: AnswerWhen,
    /// Whether to register.
    pub register: bool,
    /// How many calls at a time; more are refused as busy.
    pub max_calls: usize,
    /// Gathered candidate sets held ready for incoming calls.
    pub warm_sets: usize,
    /// Hang up after that long connected.
    pub duration: Option<Duration>,
    /// How long a ringing call is waited for.
    pub answer_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            aor: "sip:anonymous@localhost".to_owned(),
            proxy: None,
            login: None,
            accepts_tcp: true,
            tls_sockets: Vec::new(),
            stun_servers: Vec::new(),
            turn_servers: Vec::new(),
            discover_stun: false,
            discover_turn: None,
            port_mapping: true,
            relay_only: false,
            ice_tcp: true,
            ice: IceUse::On,
            ring: RingWhen::Verified,
            patience: Duration::from_secs(10),
            pacing: Duration::from_millis(20),
            prefer: Vec::new(),
            gather_patience: Duration::from_millis(500),
            updated_offer: true,
            codecs: Codec::ALL.to_vec(),
            ptime: Duration::from_millis(20),
            srtp: SrtpUse::Optional,
            opus_complexity: OpusSettings::default().complexity,
            opus_cbr: false,
            stereo: false,
            dtx: false,
            answer: AnswerWhen::Asked,
            register: false,
            max_calls: 4,
            warm_sets: 0,
            duration: None,
            answer_timeout: Duration::from_secs(180),
        }
    }
}
