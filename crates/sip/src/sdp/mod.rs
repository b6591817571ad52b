//! Session descriptions, offers and answers (RFC 8866, RFC 3264, RFC 8839).
//!
//! One call has one audio stream. [`offer`] writes ours; [`answer`] accepts the first audio
//! stream of theirs that we can carry and refuses the others with port 0; [`read_answer`]
//! says what came of our offer. The ICE attributes become a
//! [`ringtrue_ice::IceDescription`], after the checks of RFC 8839 section 4.2.5.
//!
//! The lines themselves are read and written by the crate sdp-types, which does not show.
//!
//! ```
//! use ringtrue_sip::sdp::*;
//!
//! let opus = RtpCodec { payload_type: 96, name: "opus".into(), clock_rate: 48_000, channels: 2, fmtp: None };
//! let pcmu = RtpCodec { payload_type: 0, name: "PCMU".into(), clock_rate: 8_000, channels: 1, fmtp: None };
//! let local = |rtp: &str, codecs: Vec<RtpCodec>| LocalMedia {
//!     origin_user: "-".into(), session_id: 1, session_version: 1,
//!     rtp: rtp.parse().unwrap(), rtcp: None, ice: None, codecs, accepted: Vec::new(),
//!     direction: Direction::SendRecv, rtcp_mux: true, ptime: Some(20), brief: false,
//!     security: LocalSecurity::Off, crypto: Vec::new(),
//!     extended_reports: ExtendedReports::ALL,
//! };
//!
//! let alice = local("192.0.2.1:4000", vec![opus, pcmu.clone()]);
//! let offer = SessionDescription::parse(&offer(&alice)).unwrap();
//!
//! let bob = local("192.0.2.2:5000", vec![pcmu]);
//! let (answer, for_bob) = answer(&offer, &bob).unwrap();
//! assert_eq!(for_bob.codecs[0].name, "PCMU");
//! assert_eq!(for_bob.remote_rtp, alice.rtp);
//!
//! let for_alice = read_answer(&alice, &SessionDescription::parse(&answer).unwrap()).unwrap();
//! assert_eq!(for_alice.remote_rtp, bob.rtp);
//! assert!(for_alice.rtcp_mux && for_bob.rtcp_mux);
//! ```

mod codec;
mod crypto;
mod exchange;
mod extended_reports;
mod ice;
mod read;
mod security;
mod trickle;

use std::net::SocketAddr;

use ringtrue_ice::IceDescription;
use sdp_types::Session;

pub use codec::RtpCodec;
pub(crate) use crypto::strip_keys;
pub use crypto::{Crypto, CryptoSuite, NegotiatedCrypto};
pub use exchange::{answer, offer, read_answer, subsequent_offer};
pub use extended_reports::ExtendedReports;
pub use read::{read_offer, read_offer_for};
pub use security::{
    CertificateFingerprint, DtlsDescription, LocalSecurity, NegotiatedDtls, Profile, Setup,
};
pub use trickle::{FragmentError, TrickleFragment, trickle_fragment};

/// The longest description that is read, in bytes.
pub const MAX_DESCRIPTION: usize = 65_535;
/// The most streams (`m=` lines) that a description may have.
pub const MAX_STREAMS: usize = 32;
/// The most candidates of a peer that are kept, those of highest priority.
pub const MAX_CANDIDATES: usize = 64;

/// Why bytes are no session description.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SdpError {
    /// More than [`MAX_DESCRIPTION`] bytes.
    #[error("the session description is longer than {MAX_DESCRIPTION} bytes")]
    TooLarge,
    /// More than [`MAX_STREAMS`] streams.
    #[error("the session description has more than {MAX_STREAMS} streams")]
    TooManyStreams,
    /// A line does not match its grammar.
    #[error("bad session description: {0}")]
    Syntax(String),
}

/// A session description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionDescription {
    pub(crate) session: Session,
}

impl SessionDescription {
    /// Reads a description. Line order, line ends and absent `o=`, `s=`, `t=` lines are taken
    /// as they come; bytes that are not UTF-8 become U+FFFD.
    pub fn parse(bytes: &[u8]) -> Result<Self, SdpError> {
        if bytes.len() > MAX_DESCRIPTION {
            return Err(SdpError::TooLarge);
        }
        let text = String::from_utf8_lossy(bytes);
        let session =
            Session::parse(text.as_bytes()).map_err(|e| SdpError::Syntax(e.to_string()))?;
        if session.medias.len() > MAX_STREAMS {
            return Err(SdpError::TooManyStreams);
        }
        Ok(Self { session })
    }

    /// The description as it goes over the wire.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // A Vec takes everything, so there is no error to report.
        let _ = self.session.write(&mut bytes);
        bytes
    }

    /// The session id of `o=`, as it is written.
    pub fn session_id(&self) -> &str {
        &self.session.origin.sess_id
    }

    /// The session version of `o=`: when it stays, the description is unchanged
    /// (RFC 3264 section 8).
    pub fn session_version(&self) -> u64 {
        self.session.origin.sess_version
    }

    /// How many streams it has, refused ones too.
    pub fn streams(&self) -> usize {
        self.session.medias.len()
    }
}

/// Which way the media goes, as the one who says it sees it (RFC 3264 section 5.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Both ways.
    #[default]
    SendRecv,
    /// Out only.
    SendOnly,
    /// In only.
    RecvOnly,
    /// Neither.
    Inactive,
}

impl Direction {
    /// From its two halves.
    pub fn new(sends: bool, receives: bool) -> Self {
        match (sends, receives) {
            (true, true) => Self::SendRecv,
            (true, false) => Self::SendOnly,
            (false, true) => Self::RecvOnly,
            (false, false) => Self::Inactive,
        }
    }

    /// Whether media goes out.
    pub fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }

    /// Whether media comes in.
    pub fn receives(self) -> bool {
        matches!(self, Self::SendRecv | Self::RecvOnly)
    }

    /// The attribute's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SendRecv => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::RecvOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }

    /// What is left of ours when the other side says `remote`.
    pub(crate) fn limited_by(self, remote: Self) -> Self {
        Self::new(
            self.sends() && remote.receives(),
            self.receives() && remote.sends(),
        )
    }
}

/// What we say about our audio stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalMedia {
    /// The user name of `o=`; `-` is the usual one.
    pub origin_user: String,
    /// The session id of `o=`, the same for the whole dialog.
    pub session_id: u64,
    /// The session version of `o=`; one more for each changed description.
    pub session_version: u64,
    /// Where RTP is to go: the default candidate, in `c=` and `m=`.
    pub rtp: SocketAddr,
    /// Where RTCP is to go without rtcp-mux, in `a=rtcp` (RFC 3605); none means the next port.
    pub rtcp: Option<SocketAddr>,
    /// The ICE part; none leaves ICE out.
    pub ice: Option<IceDescription>,
    /// The formats that we receive, best first; `telephone-event` is one of them.
    pub codecs: Vec<RtpCodec>,
    /// Formats that we take too when the other side offers them, but do not offer.
    pub accepted: Vec<RtpCodec>,
    /// Which way we want media to go.
    pub direction: Direction,
    /// Whether we can carry RTP and RTCP on one port (RFC 5761).
    pub rtcp_mux: bool,
    /// How many milliseconds of sound a packet for us should hold.
    pub ptime: Option<u32>,
    /// Leaves out what every reader knows: the names of static payload numbers, and a packet time of
    /// 20 ms (RFC 3551 section 4.2 and table 4).
    pub brief: bool,
    /// How the stream is to be protected.
    pub security: LocalSecurity,
    /// The keys that we offer in the description itself (SDES), the preferred suite first, or that
    /// an answer takes one of. Only for descriptions that nobody reads on the way: empty, unless
    /// signalling goes by TLS (RFC 4568 section 8).
    pub crypto: Vec<Crypto>,
    /// The extended reports that we want.
    pub extended_reports: ExtendedReports,
}

/// Whether the other side's description lets ICE be used (RFC 8839 section 4.2.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IceSupport {
    /// It says nothing of ICE, or we do not use it.
    Absent,
    /// It supports ICE, but its default destination is none of its candidates, because
    /// something on the way rewrote it; or its answer says `a=ice-mismatch`.
    Mismatch,
    /// ICE is used with this peer.
    Supported(IceDescription),
}

/// What an offer says about the audio stream that we would accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteMedia {
    /// Its formats, best first, known to us or not.
    pub codecs: Vec<RtpCodec>,
    /// The direction, as the other side sees it.
    pub direction: Direction,
    /// Whether it can carry RTP and RTCP on one port.
    pub rtcp_mux: bool,
    /// Where it wants RTP; the unspecified address when it gives a name or none.
    pub rtp: SocketAddr,
    /// Where it wants RTCP without rtcp-mux.
    pub rtcp: SocketAddr,
    /// Its ICE part.
    pub ice: IceSupport,
    /// `a=mid` (RFC 5888).
    pub mid: Option<String>,
    /// How many milliseconds of sound it wants a packet to hold.
    pub ptime: Option<u32>,
    /// Its profile.
    pub profile: Profile,
    /// Its DTLS part, if it has one that we can trust.
    pub dtls: Option<DtlsDescription>,
    /// Its keys in the description, those that can be used.
    pub crypto: Vec<Crypto>,
    /// The extended reports that it wants.
    pub extended_reports: ExtendedReports,
    /// How many it can hold at most.
    pub maxptime: Option<u32>,
}

/// What offer and answer come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negotiated {
    /// What to send: the peer's payload numbers and parameters, best first; without
    /// telephone-event and comfort noise.
    pub codecs: Vec<RtpCodec>,
    /// What may come in: our payload numbers and parameters, telephone-event too.
    pub receive: Vec<RtpCodec>,
    /// The payload number of the digits that we send.
    pub telephone_event: Option<u8>,
    /// The peer's payload number of comfort noise (RFC 3389) beside the first of `codecs`.
    pub comfort_noise: Option<u8>,
    /// `red` (RFC 2198) where both know it, with the peer's numbers and parameters.
    pub redundancy: Vec<RtpCodec>,
    /// Which way media goes, as we see it.
    pub direction: Direction,
    /// Whether RTP and RTCP share a port.
    pub rtcp_mux: bool,
    /// The peer's default destination for RTP; the unspecified address when it has none.
    pub remote_rtp: SocketAddr,
    /// The peer's default destination for RTCP; `remote_rtp` under rtcp-mux.
    pub remote_rtcp: SocketAddr,
    /// The peer's ICE part. Under rtcp-mux its candidates are those of component 1.
    pub ice: IceSupport,
    /// The stream's `a=mid`, which trickled candidates name it by (RFC 8840 section 4.4).
    pub mid: Option<String>,
    /// How many milliseconds of sound the peer wants a packet to hold.
    pub ptime: Option<u32>,
    /// The extended reports that the peer wants of us.
    pub extended_reports: ExtendedReports,
    /// Media is encrypted with keys from DTLS; none: it is clear.
    pub dtls: Option<NegotiatedDtls>,
    /// Media is encrypted with keys from the descriptions; never beside [`Self::dtls`].
    pub crypto: Option<NegotiatedCrypto>,
    /// How many it can hold at most.
    pub maxptime: Option<u32>,
}

/// Why a description holds no audio stream that we can carry. The response is 488.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerRefused {
    /// No audio stream, or only refused ones.
    #[error("no audio stream")]
    NoAudio,
    /// Its profile is not one of RTP over UDP.
    #[error("the profile {0} is not supported")]
    Profile(String),
    /// It names no address to send to, or a group's.
    #[error("no usable address for the audio stream")]
    NoAddress,
    /// It is encrypted and we do not encrypt, or it is clear and we do; or its keys are of a kind
    /// that we do not know.
    #[error("encryption does not fit: {0}")]
    Security(&'static str),
    /// No format in common.
    #[error("no audio format in common")]
    NoCodec,
}

impl AnswerRefused {
    /// The code for a Warning header field beside the 488 (RFC 3261 section 20.43).
    pub fn warning_code(&self) -> u16 {
        match self {
            Self::NoAudio => 304,
            Self::Profile(_) | Self::Security(_) => 302,
            Self::NoAddress => 301,
            Self::NoCodec => 305,
        }
    }
}
