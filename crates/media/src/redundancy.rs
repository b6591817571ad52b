//! Redundancy in RTP (docs/decisions/0017): copies of earlier payloads by RFC 2198, and between two
//! phones that both know them, parity blocks inside it.

mod parity;
mod plan;
pub(crate) mod receiver;
pub(crate) mod red;
pub(crate) mod sender;
pub(crate) mod trace;

/// The encoding name of RFC 2198 in `a=rtpmap`, and the payload type that we offer, as browsers do.
pub const RED: &str = "red";
/// See [`RED`].
pub const RED_TYPE: u8 = 63;
/// The parameter of Opus (`a=fmtp`) by which a phone says that it knows parity blocks (docs/decisions/0017), and
/// under which payload type.
pub const PARITY: &str = "x-parity";
/// The payload type of parity blocks that we offer.
pub const PARITY_TYPE: u8 = 98;

/// The payload types of redundancy, one direction's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedundancyTypes {
    /// That of `red` (RFC 2198).
    pub red: u8,
    /// That of parity blocks within it, if both sides know them.
    pub parity: Option<u8>,
}

/// The redundancy that was agreed on, beside Opus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Redundancy {
    /// What the peer takes; none: nothing but in-band FEC is sent.
    pub send: Option<RedundancyTypes>,
    /// What we take.
    pub receive: Option<RedundancyTypes>,
}

impl Redundancy {
    /// What we offer.
    pub const OFFERED: RedundancyTypes = RedundancyTypes {
        red: RED_TYPE,
        parity: Some(PARITY_TYPE),
    };

    /// What two phones of ours agree on.
    pub fn both() -> Redundancy {
        Redundancy {
            send: Some(Redundancy::OFFERED),
            receive: Some(Redundancy::OFFERED),
        }
    }
}
