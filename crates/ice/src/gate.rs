//! The gate that holds the ringing. Ringing takes a proof.
//!
//! A [`Ring`] is what ringing costs. It comes from a [`Gate`], and a gate opens in two ways only:
//! with a [`PathProof`], which nobody but the agent can make, or by the explicit unverified way,
//! which the settings allow or forbid and which the user always sees. There is no third way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use thiserror::Error;

/// The generation of an agent that has ended, restarted away or lost consent: no proof fits it.
const VOID: u32 = 0;

/// Which agent a proof or a gate belongs to, and whether that agent still stands behind it.
///
/// Identity is the allocation, so no two agents share one; the number is the ICE generation,
/// counted from 1 and raised by a restart.
#[derive(Debug)]
pub(crate) struct Standing {
    now: AtomicU32,
    highest: AtomicU32,
}

impl Standing {
    /// The standing of a new agent, in its first generation.
    pub(crate) fn first() -> Arc<Self> {
        Arc::new(Self {
            now: AtomicU32::new(1),
            highest: AtomicU32::new(1),
        })
    }

    /// The standing of an agent that stands behind nothing any more.
    pub(crate) fn none() -> Arc<Self> {
        let standing = Self::first();
        standing.void();
        standing
    }

    /// ICE restarts: the proofs and gates of all generations before are void from now on.
    pub(crate) fn raise(&self) {
        let next = self.highest.load(Ordering::Acquire).saturating_add(1);
        self.highest.store(next, Ordering::Release);
        self.now.store(next, Ordering::Release);
    }

    /// The generation now, `None` when the agent no longer stands behind anything.
    pub(crate) fn generation(&self) -> Option<u32> {
        match self.now.load(Ordering::Acquire) {
            VOID => None,
            generation => Some(generation),
        }
    }

    /// The agent has ended or lost its path: every proof it gave is void from now on.
    pub(crate) fn void(&self) {
        self.now.store(VOID, Ordering::Release);
    }
}

/// Proof that media flows both ways: for every accepted stream that uses ICE, every component has
/// a pair validated by our own check, and a Binding request keyed with our password has arrived.
///
/// Only the agent makes one. It can be neither copied nor stored.
#[derive(Debug)]
pub struct PathProof {
    standing: Arc<Standing>,
    generation: u32,
    local_ufrag: String,
    remote_ufrag: String,
}

impl PathProof {
    /// The one constructor; its one caller is the agent, beside the valid list.
    pub(crate) fn new(
        standing: &Arc<Standing>,
        generation: u32,
        local_ufrag: &str,
        remote_ufrag: &str,
    ) -> Self {
        Self {
            standing: Arc::clone(standing),
            generation,
            local_ufrag: local_ufrag.to_owned(),
            remote_ufrag: remote_ufrag.to_owned(),
        }
    }

    /// Our username fragment in the session that was proven.
    pub fn local_ufrag(&self) -> &str {
        &self.local_ufrag
    }

    /// The peer's username fragment in the session that was proven.
    pub fn remote_ufrag(&self) -> &str {
        &self.remote_ufrag
    }
}

/// Why a call is rung without a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnverifiedReason {
    /// The peer's offer or answer has no ICE, or ICE was given up for it (mismatch).
    PeerWithoutIce,
    /// An INVITE without SDP from a caller without 100rel: there is no offer to check yet.
    NoOffer,
    /// The settings ring at once (`ring = "at-once"`), checking afterwards.
    AtOnce,
    /// The settings ring unverified after the patience (`ring = "prefer-verified"`).
    PatienceOver,
    /// ICE is switched off here (`--no-ice`).
    IceOff,
}

/// What the settings allow without a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnverifiedPolicy {
    /// Only peers that cannot give a proof ring unverified: those without ICE. The default.
    PeersWithoutIce,
    /// Nobody rings unverified (`--require-ice`).
    Never,
    /// Peers with ICE too, once the patience is over (`ring = "prefer-verified"`).
    AfterPatience,
    /// Everybody, at once (`ring = "at-once"`): the ordinary phone.
    AtOnce,
}

impl UnverifiedPolicy {
    fn allows(self, reason: UnverifiedReason) -> bool {
        use UnverifiedReason as Why;
        match self {
            Self::Never => false,
            Self::PeersWithoutIce => {
                matches!(reason, Why::PeerWithoutIce | Why::NoOffer | Why::IceOff)
            }
            Self::AfterPatience => reason != Why::AtOnce,
            Self::AtOnce => true,
        }
    }
}

/// Why a gate stays shut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refused {
    /// The proof was made by another agent: another call or another fork.
    #[error("the proof belongs to another call or fork")]
    OtherAgent,
    /// The proof is of a generation before an ICE restart.
    #[error("the proof is older than the last ICE restart")]
    OlderGeneration,
    /// The agent has ended or lost its path since it gave the proof.
    #[error("the path of the proof no longer stands")]
    Void,
    /// The settings forbid ringing without a proof for this reason.
    #[error("the settings forbid ringing without a proven path")]
    UnverifiedForbidden,
}

/// Holds the ringing of one call (or of one fork, on the caller's side).
#[derive(Debug)]
pub struct Gate {
    agent: Option<(Arc<Standing>, u32)>,
}

impl Gate {
    /// A gate that only proofs of this agent's present generation open.
    pub(crate) fn of_agent(standing: &Arc<Standing>) -> Self {
        Self {
            agent: standing
                .generation()
                .map(|generation| (Arc::clone(standing), generation)),
        }
    }

    /// A gate for a peer without ICE. No proof opens it, only the unverified way.
    pub fn without_ice() -> Self {
        Self { agent: None }
    }

    /// Opens with a proof. Both are used up, whatever the result.
    ///
    /// # Errors
    /// [`Refused`] when the proof is another agent's, of an older generation, or void by now.
    pub fn open(self, proof: PathProof) -> Result<Ring, Refused> {
        let Some((standing, generation)) = self.agent else {
            return Err(Refused::OtherAgent);
        };
        if !Arc::ptr_eq(&standing, &proof.standing) {
            return Err(Refused::OtherAgent);
        }
        match standing.generation() {
            None => Err(Refused::Void),
            Some(now) if now != proof.generation || now != generation => {
                Err(Refused::OlderGeneration)
            }
            Some(_) => Ok(Ring {
                basis: Basis::Proven,
            }),
        }
    }

    /// Opens without a proof, if the settings allow that for this reason.
    ///
    /// # Errors
    /// [`Refused::UnverifiedForbidden`] when they do not.
    pub fn open_unverified(
        self,
        reason: UnverifiedReason,
        policy: UnverifiedPolicy,
    ) -> Result<Ring, Refused> {
        if policy.allows(reason) {
            Ok(Ring {
                basis: Basis::Unverified(reason),
            })
        } else {
            Err(Refused::UnverifiedForbidden)
        }
    }
}

/// The leave to ring: a 180 cannot be printed without one, nor the alert or the speaker opened.
#[derive(Debug)]
pub struct Ring {
    basis: Basis,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Basis {
    Proven,
    Unverified(UnverifiedReason),
}

impl Ring {
    /// Whether a proof stands behind this ring: what the user sees as `verified`.
    pub fn verified(&self) -> bool {
        self.basis == Basis::Proven
    }

    /// Why it rings without a proof; `None` when it is verified.
    pub fn unverified_reason(&self) -> Option<UnverifiedReason> {
        match self.basis {
            Basis::Proven => None,
            Basis::Unverified(reason) => Some(reason),
        }
    }
}
