//! What a phone tells its user. The names are those of the JSON events.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ringtrue_ice::{CandidateType, TransportProtocol};
use ringtrue_media::Codec;

use ringtrue_media::secure::SrtpProfile;

use crate::io::CallKey;

/// One event, with the call that it is about.
#[derive(Debug, Clone)]
pub struct PhoneEvent {
    /// When it happened.
    pub at: Instant,
    /// The call, for events of a call.
    pub call: Option<CallRef>,
    /// What happened.
    pub kind: EventKind,
}

/// Which call, and once known which dialog of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallRef {
    /// The phone's own key.
    pub key: CallKey,
    /// The Call-ID.
    pub call_id: String,
    /// The remote tag; the forks of one call differ in it.
    pub dialog: Option<String>,
}

/// Who of the two this phone is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallRole {
    /// It placed the call.
    Caller,
    /// It was called.
    Callee,
}

/// Which way something goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaDirection {
    /// From here to the peer.
    Sent,
    /// From the peer to here.
    Received,
}

/// The pair that carries component 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathReport {
    /// The local candidate's address.
    pub local: SocketAddr,
    /// The remote candidate's address.
    pub remote: SocketAddr,
    /// UDP or TCP.
    pub transport: TransportProtocol,
    /// The local candidate's type.
    pub local_type: CandidateType,
    /// The remote candidate's type.
    pub remote_type: CandidateType,
    /// The round-trip time of the check, if it was measured.
    pub rtt: Option<Duration>,
    /// Since the INVITE was sent or received.
    pub since_invite: Duration,
}

/// Figures of the media of one call.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct MediaFigures {
    /// RTP packets sent.
    pub tx_packets: u64,
    /// RTP packets received.
    pub rx_packets: u64,
    /// RTP packets lost on the way here (RFC 3550 section 6.4.1).
    pub lost: u64,
    /// Interarrival jitter in milliseconds (RFC 3550 section 6.4.1).
    pub jitter_ms: Option<f64>,
    /// Round-trip time in milliseconds, by RTCP.
    pub rtt_ms: Option<f64>,
    /// Packets that were not made with the peer's key, clear ones among them; unknown in a clear
    /// call.
    pub srtp_forged: Option<u64>,
    /// Packets that came before (RFC 3711 section 3.3.2); unknown in a clear call.
    pub srtp_replayed: Option<u64>,
    /// How loud what is sent was since the last figures, in dBFS (RMS; -100 is silence).
    pub tx_level_db: Option<f64>,
    /// Its loudest sample.
    pub tx_peak_db: Option<f64>,
    /// How loud what is played was since the last figures.
    pub rx_level_db: Option<f64>,
    /// Its loudest sample.
    pub rx_peak_db: Option<f64>,
    /// What is sent.
    pub codec: Option<Codec>,
    /// Bits of sound a second, sent and received: in the last second, or at the end in the whole
    /// call.
    pub tx_bitrate: Option<f64>,
    /// The same, received.
    pub rx_bitrate: Option<f64>,
    /// Packets that came too late to be played.
    pub late: u64,
    /// Packets that came and were not heard: too late, thrown away or damaged.
    pub discarded: u64,
    /// Packets that came more than once.
    pub duplicates: u64,
    /// Lost packets that redundancy brought back.
    pub recovered: u64,
    /// How much sound was made up in place of missing sound, in milliseconds.
    pub concealed_ms: u64,
    /// The share of packets, in percent, that were not heard, after redundancy.
    pub loss_percent: Option<f64>,
    /// How many packets in a row were missing, in the mean.
    pub burst_packets: Option<f64>,
    /// How long bursts of losses last, in milliseconds, in the mean (RFC 3611 section 4.7.2).
    pub burst_ms: Option<f64>,
    /// How long it is between them.
    pub gap_ms: Option<f64>,
    /// The share of packets, 0 to 1, that are missing within bursts.
    pub burst_density: Option<f64>,
    /// The same between bursts.
    pub gap_density: Option<f64>,
    /// What the jitter buffer adds to the way, in milliseconds.
    pub buffer_ms: Option<f64>,
    /// What it aims at.
    pub target_ms: Option<f64>,
    /// Packets that the peer says it lost of ours.
    pub remote_lost: Option<u64>,
    /// The jitter that it measured of ours, in milliseconds.
    pub remote_jitter_ms: Option<f64>,
    /// The rating of what is heard here, R of the E-model (ITU-T G.107), 0 to 93.2.
    pub r_factor: Option<f64>,
    /// The mean opinion score of what is heard here, estimated by the E-model (ITU-T G.107).
    pub mos: Option<f64>,
    /// The same of what the peer hears: its own, else our estimate.
    pub remote_mos: Option<f64>,
    /// The peer's rating of what it hears, where it sends VoIP metrics (RFC 3611 section 4.7); so
    /// are the following.
    pub remote_r_factor: Option<f64>,
    /// The share of our packets, in percent, that were not heard there.
    pub remote_loss_percent: Option<f64>,
    /// How long bursts of losses last there, in milliseconds.
    pub remote_burst_ms: Option<f64>,
    /// The share of packets, 0 to 1, that are missing within them.
    pub remote_burst_density: Option<f64>,
    /// The delay of the peer's jitter buffer, in milliseconds.
    pub remote_buffer_ms: Option<f64>,
}

/// Where the keys of encrypted media come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeySource {
    /// A DTLS handshake over the media's own path (RFC 5763).
    DtlsSrtp,
    /// The descriptions, over signalling by TLS (RFC 4568).
    Sdes,
}

impl KeySource {
    /// The word in the JSON events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DtlsSrtp => "dtls-srtp",
            Self::Sdes => "sdes",
        }
    }
}

/// Why a call ended. A closed list; the words are part of the JSON contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// One of the two hung up.
    HungUp,
    /// `--duration` was over.
    DurationOver,
    /// The caller gave up before the answer.
    Cancelled,
    /// No media path was proven, or the peer said so.
    NoMediaPath,
    /// The path was lost: no consent for 30 s (RFC 7675).
    ConsentLost,
    /// Answered, and not one packet of media came.
    NothingHeard,
    /// The callee's user declined.
    Declined,
    /// The peer is busy (486, 600).
    Busy,
    /// The peer refused (other 4xx, 6xx).
    Refused,
    /// Nobody answered (408, 480, or 180 s).
    NoAnswer,
    /// Credentials are missing or wrong (401, 403, 407).
    Authentication,
    /// The network or a server failed (transport, 5xx).
    Network,
    /// Offer and answer do not fit together (no common codec, unreadable SDP).
    Incompatible,
    /// The settings forbid a call without ICE.
    IceRequired,
    /// Encryption was agreed on, and no keys came of it: the peer is not who its SDP says, or did
    /// not answer.
    KeysFailed,
}

impl EndReason {
    /// The word in the JSON events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HungUp => "hung-up",
            Self::DurationOver => "duration-over",
            Self::Cancelled => "cancelled",
            Self::NoMediaPath => "no-media-path",
            Self::ConsentLost => "consent-lost",
            Self::NothingHeard => "nothing-heard",
            Self::Declined => "declined",
            Self::Busy => "busy",
            Self::Refused => "refused",
            Self::NoAnswer => "no-answer",
            Self::Authentication => "authentication",
            Self::Network => "network",
            Self::Incompatible => "incompatible",
            Self::IceRequired => "ice-required",
            Self::KeysFailed => "keys-failed",
        }
    }
}

/// Who ended a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndedBy {
    /// This phone or its user.
    Local,
    /// The peer.
    Remote,
    /// The network, or a server in it.
    Network,
}

impl EndedBy {
    /// The word in the JSON events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Remote => "remote",
            Self::Network => "network",
        }
    }
}

/// What a call came to; the program's exit status follows from it (docs of the `cli` crate).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The call took place and ended in order: 0.
    Completed,
    /// No media path: 3.
    NoMediaPath,
    /// Refused: 4.
    Refused,
    /// No answer: 5.
    NoAnswer,
    /// Network, transport or 5xx: 6.
    Network,
    /// Authentication: 7.
    Authentication,
    /// Interrupted by the user before the answer: 130.
    Interrupted,
}

/// Why ICE found no path. A closed list; the words are part of the JSON contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathFailure {
    /// Every pair failed.
    AllPairsFailed,
    /// There was no pair to check.
    NoPairs,
    /// The patience was over.
    PatienceOver,
    /// Our checks passed, but the peer's own never came.
    PeerSilent,
    /// A proven path was lost again (RFC 7675).
    ConsentLost,
}

impl PathFailure {
    /// The word in the JSON events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AllPairsFailed => "all-pairs-failed",
            Self::NoPairs => "no-pairs",
            Self::PatienceOver => "patience-over",
            Self::PeerSilent => "peer-silent",
            Self::ConsentLost => "consent-lost",
        }
    }
}

/// What happened.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum EventKind {
    /// A registration stands.
    Registered {
        /// The address of record.
        aor: String,
        /// For how many seconds.
        expires: u32,
    },
    /// A registration failed.
    RegistrationFailed {
        /// The status, if a server answered.
        status: Option<u16>,
        /// For people.
        reason: String,
    },
    /// Candidates were gathered.
    Gathered {
        /// How many.
        candidates: usize,
        /// How long it took.
        took: Duration,
    },
    /// An INVITE was sent or came.
    Invite {
        /// Caller or callee.
        role: CallRole,
        /// The caller's URI.
        from: String,
        /// The callee's URI.
        to: String,
    },
    /// A provisional response came (caller).
    Progress {
        /// 101 to 199.
        status: u16,
    },
    /// The peer has refused our offer, which left encryption to it, and the same call is placed
    /// anew with one that requires encryption (caller).
    OfferedAnew {
        /// What the peer refused it with: 488 or 606.
        status: u16,
    },
    /// Checks have begun.
    Checking {
        /// How many pairs the checklist holds.
        pairs: usize,
    },
    /// The proof: media flows both ways.
    PathValidated(PathReport),
    /// A pair was nominated.
    PathSelected(PathReport),
    /// No path.
    PathFailed {
        /// Why.
        reason: PathFailure,
        /// How many pairs were tried.
        pairs_tried: usize,
    },
    /// Keys for the media are there: it is encrypted.
    Secured {
        /// Where they come from.
        source: KeySource,
        /// How packets are protected.
        profile: SrtpProfile,
    },
    /// Encryption was agreed on, and the peer's handshake has not begun: until it has, no media
    /// goes either way.
    KeysPending,
    /// Callee: the user is being alerted. Caller: the callee is, and that is known.
    Ringing {
        /// Caller or callee.
        role: CallRole,
        /// Whether a proof stands behind it.
        verified: bool,
    },
    /// The call was answered.
    Answered {
        /// Caller or callee.
        role: CallRole,
    },
    /// The first RTP packet in this direction.
    Media {
        /// Which.
        direction: MediaDirection,
    },
    /// The call is being recorded, to this file.
    Recording {
        /// Both sides, each on a channel of its own.
        file: std::path::PathBuf,
    },
    /// Figures, once a second while a call is answered.
    Stats(Box<MediaFigures>),
    /// The peer pressed a key.
    Dtmf {
        /// 0-9, *, #, A-D.
        digit: char,
    },
    /// A call that never rang, or rang and was not answered.
    Missed {
        /// The caller's URI.
        from: String,
        /// Why.
        reason: EndReason,
        /// How many pairs were tried.
        pairs_tried: usize,
    },
    /// A call is over.
    Ended {
        /// Why.
        reason: EndReason,
        /// The final SIP status, if there was one.
        status: Option<u16>,
        /// By whom.
        by: EndedBy,
        /// How long it was connected.
        connected: Duration,
        /// The media's figures.
        figures: Box<MediaFigures>,
        /// What it came to.
        outcome: Outcome,
        /// The peer's own words: a Warning text, a reason phrase, a transport error.
        words: Option<String>,
    },
    /// Something went wrong that the user should know.
    Error {
        /// For people.
        message: String,
    },
}
