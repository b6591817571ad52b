//! The forks of a caller's call: each early dialog with what is known of its media.

use std::time::{Duration, Instant};

use ringtrue_ice::{ForkId, Gate, IceSession, PacketKind, Path, Ring};
use ringtrue_media::secure::DtlsFailure;
use ringtrue_sip::DialogId;
use ringtrue_sip::sdp::LocalMedia;
use ringtrue_sip::uri::Uri;

use super::secured::EarlyDtls;
use super::terms::Terms;

/// How many packets may overtake a 200: two seconds of speech; the latest ones are kept.
const EARLY_PACKETS: usize = 100;

/// The INVITE is out.
pub(super) struct Inviting {
    pub(super) target: Uri,
    pub(super) offer: LocalMedia,
    pub(super) forks: Vec<Fork>,
    pub(super) next_fork: u32,
    pub(super) give_up_at: Instant,
    /// How long a proven path waits for keys.
    pub(super) patience: Duration,
    pub(super) early_dtls: EarlyDtls,
    /// A fork failed to give keys: when the call is given up unless there is another, and why.
    pub(super) keys_failed: Option<(Instant, DtlsFailure)>,
}

/// One early dialog.
pub(super) struct Fork {
    pub(super) dialog: DialogId,
    pub(super) id: ForkId,
    pub(super) media: ForkMedia,
    /// Why its answer cannot be used, for people.
    pub(super) unusable: Option<String>,
    pub(super) ringing: Ringing,
    /// When its path was proven.
    pub(super) proven_at: Option<Instant>,
    /// Media that overtook the 200, over a proven path: kept, so that not a frame is clipped.
    pub(super) early: Vec<EarlyPacket>,
}

/// A packet that came before the 200.
pub(super) struct EarlyPacket {
    pub(super) at: Instant,
    pub(super) kind: PacketKind,
    pub(super) payload: Vec<u8>,
}

/// What is known of a fork's media.
pub(super) enum ForkMedia {
    /// No SDP yet.
    Unanswered,
    /// It answered without ICE.
    WithoutIce(Box<Terms>),
    /// It answered with ICE, and the checks run or have failed.
    Checking { terms: Box<Terms>, gate: Gate },
    /// It answered with ICE, and no path to it stands.
    Failed {
        terms: Box<Terms>,
        gate: Option<Gate>,
    },
    /// Its path is proven.
    Proven { terms: Box<Terms>, ring: Ring },
}

/// What is known of a fork's ringing.
pub(super) enum Ringing {
    /// No 180 yet.
    Silent,
    /// A 180 came; our own proof is awaited so long.
    AwaitingProof { until: Instant },
    /// The user has been told.
    Told,
}

impl Inviting {
    pub(super) fn new(
        target: Uri,
        offer: LocalMedia,
        give_up_at: Instant,
        patience: Duration,
    ) -> Self {
        Self {
            target,
            offer,
            forks: Vec::new(),
            next_fork: 0,
            give_up_at,
            patience,
            early_dtls: EarlyDtls::default(),
            keys_failed: None,
        }
    }

    /// Somebody has rung, or answered the offer in any way: another INVITE would disturb who has
    /// just refused to pick up, and a refusal does not mean the offer's profile.
    pub(super) fn has_been_heard(&self) -> bool {
        self.forks.iter().any(|fork| {
            let silent = matches!(fork.ringing, Ringing::Silent);
            let unanswered = matches!(fork.media, ForkMedia::Unanswered);
            !silent || !unanswered || fork.unusable.is_some()
        })
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let awaiting = self.forks.iter().filter_map(|fork| match fork.ringing {
            Ringing::AwaitingProof { until } => Some(fork.keys_due(self.patience).unwrap_or(until)),
            _ => None,
        });
        let keys = self.keys_failed.map(|(until, _)| until);
        awaiting.chain(keys).chain([self.give_up_at]).min()
    }

    pub(super) fn tag_of(&self, id: ForkId) -> Option<String> {
        let fork = self.forks.iter().find(|fork| fork.id == id)?;
        Some(fork.dialog.remote_tag.clone())
    }

    pub(super) fn fork_mut(&mut self, id: ForkId) -> Option<&mut Fork> {
        self.forks.iter_mut().find(|fork| fork.id == id)
    }

    /// The fork of a dialog, made when it is new.
    pub(super) fn fork_of(&mut self, dialog: &DialogId) -> usize {
        if let Some(index) = self.forks.iter().position(|fork| fork.dialog == *dialog) {
            return index;
        }
        self.forks.push(Fork {
            dialog: dialog.clone(),
            id: ForkId(self.next_fork),
            media: ForkMedia::Unanswered,
            unusable: None,
            ringing: Ringing::Silent,
            proven_at: None,
            early: Vec::new(),
        });
        self.next_fork += 1;
        self.forks.len() - 1
    }

    /// Keeps what a callee says between the pick-up and the arrival of its 200.
    pub(super) fn keep_early_media(
        &mut self,
        ice: &IceSession,
        at: Instant,
        kind: PacketKind,
        path: Path,
        payload: &[u8],
    ) {
        let speaker = self.forks.iter_mut().find(|fork| {
            matches!(fork.media, ForkMedia::Proven { .. }) && ice.accepts_media(fork.id, path)
        });
        if let Some(fork) = speaker {
            if fork.early.len() >= EARLY_PACKETS {
                fork.early.remove(0);
            }
            fork.early.push(EarlyPacket {
                at,
                kind,
                payload: payload.to_vec(),
            });
        }
    }

    /// At least one fork answered with ICE, and none has a proof.
    pub(super) fn path_missing(&self) -> bool {
        let with_ice = |fork: &Fork| {
            matches!(
                fork.media,
                ForkMedia::Checking { .. } | ForkMedia::Failed { .. }
            )
        };
        let proven = |fork: &Fork| matches!(fork.media, ForkMedia::Proven { .. });
        self.forks.iter().any(with_ice) && !self.forks.iter().any(proven)
    }
}
