//! Candidates that follow the description (RFC 8838), by INFO (RFC 8840): ours that a slow server
//! let come too late for it, and the peer's.

use std::time::{Duration, Instant};

use ringtrue_ice::{ComponentId, ForkId, Trickle};
use ringtrue_sip::DialogId;
use ringtrue_sip::sdp::{
    self, IceSupport, LocalMedia, Negotiated, SessionDescription, TrickleFragment,
};

use super::forks::ForkMedia;
use super::incoming::{Agreement, FORK, IncomingInvite};
use super::offer::components;
use super::talking::Media;
use super::{Call, Stage};
use crate::desk::Desk;
use crate::event::CallRole;

/// So long after our description late candidates of our own are awaited.
const LATE: Duration = Duration::from_secs(5);
/// Fragments of the peer's that are read in one generation: each repeats all that is known, so
/// an honest peer sends one for every server that it asks.
const MOST_FRAGMENTS: usize = 64;
/// Forks whose fragments are kept until their answer comes.
const MOST_EARLY: usize = 16;

/// Where the trickling of a call stands.
#[derive(Debug, Default)]
pub(super) struct Trickling {
    /// Until when late candidates of our own are awaited.
    until: Option<Instant>,
    /// How often there was more to tell than our description said.
    version: u32,
    /// Who has been told of which version, by tag.
    told: Vec<(String, u32)>,
    /// Callee: the caller knows the dialog (RFC 8840 section 4.3).
    is_known: bool,
    /// How many of the peer's fragments were read.
    read: usize,
    /// Fragments of forks that have not answered yet; each replaces the one before.
    early: Vec<(String, Vec<u8>)>,
}

impl Trickling {
    /// A restart: nothing of the generation before counts.
    pub(super) fn restart(&mut self) {
        *self = Self {
            is_known: self.is_known,
            ..Self::default()
        };
    }
}

/// A peer that knows the dialog and may be told.
struct Peer {
    dialog: DialogId,
    mid: Option<String>,
    components: &'static [ComponentId],
    trickle: Trickle,
}

impl Peer {
    fn of(dialog: DialogId, negotiated: &Negotiated) -> Option<Self> {
        let IceSupport::Supported(description) = &negotiated.ice else {
            return None;
        };
        Some(Self {
            dialog,
            mid: negotiated.mid.clone(),
            components: components(negotiated),
            trickle: description.trickle,
        })
    }
}

impl Call {
    /// Our description is about to leave: if a server has not answered yet, it says that more may
    /// come. A new generation begins.
    pub(super) fn begin_trickling(&mut self, desk: &Desk, now: Instant) {
        self.trickling.restart();
        if let (Some(ice), Some(sockets)) = (&mut self.ice, &self.sockets)
            && !sockets.is_settled()
        {
            ice.expect_candidates();
            self.trickling.until = Some(now + LATE.min(desk.settings.patience));
        }
    }

    /// Whether the offer leaves candidates out, for brevity: a peer that trickles is told of them once
    /// it has answered, and of the end of candidates only then.
    pub(super) fn follows_later(&mut self, offer: &mut LocalMedia) -> bool {
        let (Some(ice), Some(said)) = (&self.ice, &mut offer.ice) else {
            return false;
        };
        if said.candidates.len() >= ice.local_description().candidates.len() {
            return false;
        }
        if said.trickle == Trickle::Ended {
            said.trickle = Trickle::Open;
        }
        self.trickling.version += 1;
        true
    }

    /// Whether the caller of an INVITE takes candidates that come after our answer, so that the
    /// answer need not wait for them.
    pub(super) fn trickles(desk: &Desk, invite: &IncomingInvite) -> bool {
        let dialog = DialogId {
            call: invite.handle,
            remote_tag: invite.remote_tag.clone(),
        };
        let remote = invite
            .body
            .as_deref()
            .and_then(|body| SessionDescription::parse(body).ok())
            .and_then(|offer| sdp::read_offer(&offer).ok());
        desk.sip.takes_trickle(&dialog)
            && remote.is_some_and(|remote| {
                matches!(remote.ice, IceSupport::Supported(ice) if ice.trickle != Trickle::Unsupported)
            })
    }

    /// Candidates may have been gathered since our description left.
    pub(super) fn gather_late(&mut self, desk: &mut Desk, now: Instant) {
        let (Some(ice), Some(sockets)) = (&mut self.ice, &mut self.sockets) else {
            return;
        };
        if !ice.expects_candidates() {
            return;
        }
        let grew = ice.add_candidates(now, &sockets.gathered_by_now());
        let is_over = self.trickling.until.is_none_or(|until| now >= until);
        let ended = is_over || sockets.is_settled();
        if ended {
            ice.end_of_candidates();
            self.trickling.until = None;
        }
        if grew || ended {
            self.trickling.version += 1;
            self.tell_candidates(desk, now);
            self.run_ice(desk, now);
        }
    }

    pub(super) fn late_timeout(&self) -> Option<Instant> {
        let ice = self.ice.as_ref();
        ice.filter(|ice| ice.expects_candidates())
            .and(self.trickling.until)
    }

    /// RFC 8838 section 13: after the nomination nothing more is trickled.
    pub(super) fn end_trickling(&mut self) {
        if let Some(ice) = &mut self.ice {
            ice.end_of_candidates();
        }
        self.trickling.until = None;
        self.trickling.version = 0;
    }

    /// Callee: the caller has answered something that only our 183 can have told it.
    pub(super) fn dialog_is_known(&mut self, desk: &mut Desk, now: Instant) {
        if self.role == CallRole::Callee {
            self.trickling.is_known = true;
            self.tell_candidates(desk, now);
        }
    }

    /// Tells every peer that has not been told of what came after our description. As caller we
    /// also show a peer that trickles that its answer has arrived: it may not send its candidates
    /// before (RFC 8840 section 4.3.2).
    pub(super) fn tell_candidates(&mut self, desk: &mut Desk, now: Instant) {
        let Some(ice) = &self.ice else { return };
        let version = self.trickling.version;
        for peer in self.peers_to_tell() {
            let tag = &peer.dialog.remote_tag;
            let mut told = self.trickling.told.iter_mut();
            let told = told.find(|(known, _)| known == tag);
            let is_owed = match &told {
                Some((_, told)) => *told < version,
                None => {
                    let asserts = self.role == CallRole::Caller && peer.trickle == Trickle::Open;
                    version > 0 || asserts
                }
            };
            if !is_owed || !desk.sip.takes_trickle(&peer.dialog) {
                continue;
            }
            let fragment = sdp::trickle_fragment(
                &ice.local_description(),
                peer.components,
                peer.mid.as_deref(),
            );
            if desk.sip.trickle(now, &peer.dialog, fragment).is_ok() {
                match told {
                    Some((_, told)) => *told = version,
                    None => self.trickling.told.push((tag.clone(), version)),
                }
            }
        }
    }

    /// The peers that trickle and know the dialog.
    fn peers_to_tell(&self) -> Vec<Peer> {
        let mut peers = Vec::new();
        match &self.stage {
            Stage::Inviting(inviting) => {
                for fork in &inviting.forks {
                    if let Some(terms) = fork.media.terms() {
                        peers.extend(Peer::of(fork.dialog.clone(), terms.negotiated()));
                    }
                }
            }
            Stage::Talking(talking) => {
                if let Media::Agreed(terms) = &talking.media
                    && (talking.confirmed || self.trickling.is_known)
                {
                    peers.extend(Peer::of(talking.dialog.clone(), terms.negotiated()));
                }
            }
            _ => {
                if let (Some(Agreement::Complete(terms)), Some(dialog), true) = (
                    self.agreement(),
                    self.early_dialog(),
                    self.trickling.is_known,
                ) {
                    peers.extend(Peer::of(dialog, terms.negotiated()));
                }
            }
        }
        peers.retain(|peer| peer.trickle != Trickle::Unsupported);
        peers
    }

    /// Callee: what was agreed on before the pick-up.
    fn agreement(&self) -> Option<&Agreement> {
        match &self.stage {
            Stage::Holding(holding) => Some(&holding.agreement),
            Stage::Alerting(alerting) => Some(alerting.agreement()),
            _ => None,
        }
    }

    fn early_dialog(&self) -> Option<DialogId> {
        Some(DialogId {
            call: self.handle?,
            remote_tag: self.remote_tag.clone()?,
        })
    }

    /// The peer has trickled.
    pub(super) fn handle_trickled(
        &mut self,
        desk: &mut Desk,
        now: Instant,
        dialog: &DialogId,
        fragment: Vec<u8>,
    ) {
        if self.trickling.read >= MOST_FRAGMENTS {
            return;
        }
        self.trickling.read += 1;
        if self.role == CallRole::Callee {
            // As a PRACK would, it shows that the 183 has arrived (RFC 8840 section 4.3.2).
            self.handle_peer_bound(desk);
            self.dialog_is_known(desk, now);
        }
        let restarting = |fork| {
            let ice = self.ice.as_ref();
            ice.is_some_and(|ice| ice.is_restarting(fork))
        };
        match self.agent_of(dialog).filter(|(fork, _)| !restarting(*fork)) {
            Some((fork, mid)) => self.learn_fragment(now, fork, mid.as_deref(), &fragment),
            None => self.keep_fragment(dialog, fragment),
        }
        self.run_ice(desk, now);
    }

    /// The agent of a dialog whose description is known, and the stream's tag in it.
    fn agent_of(&self, dialog: &DialogId) -> Option<(ForkId, Option<String>)> {
        let (fork, terms) = match &self.stage {
            Stage::Inviting(inviting) => {
                let of_dialog = inviting.forks.iter().find(|fork| fork.dialog == *dialog)?;
                (of_dialog.id, of_dialog.media.terms()?)
            }
            Stage::Talking(talking) if talking.dialog == *dialog => match &talking.media {
                Media::Agreed(terms) => (talking.fork, &**terms),
                Media::Offered(_) => return None,
            },
            _ => match self.agreement()? {
                Agreement::Complete(terms) => (FORK, &**terms),
                Agreement::Offered(_) => return None,
            },
        };
        Some((fork, terms.negotiated().mid.clone()))
    }

    fn learn_fragment(&mut self, now: Instant, fork: ForkId, mid: Option<&str>, fragment: &[u8]) {
        let (Some(ice), Ok(read)) = (&mut self.ice, TrickleFragment::parse(fragment, mid)) else {
            return;
        };
        // Of another generation it is of no use, and none is told what became of it.
        let _ = ice.handle_trickled(
            now,
            fork,
            &read.credentials,
            &read.candidates,
            read.end_of_candidates,
        );
    }

    /// It has overtaken the answer.
    fn keep_fragment(&mut self, dialog: &DialogId, fragment: Vec<u8>) {
        let early = &mut self.trickling.early;
        early.retain(|(tag, _)| *tag != dialog.remote_tag);
        if early.len() < MOST_EARLY {
            early.push((dialog.remote_tag.clone(), fragment));
        }
    }

    /// The description of a dialog's peer is known now: what overtook it is read, and the peer
    /// told what it lacks.
    pub(super) fn trickle_after_answer(
        &mut self,
        desk: &mut Desk,
        now: Instant,
        dialog: &DialogId,
    ) {
        if let Some((fork, mid)) = self.agent_of(dialog) {
            let early = &mut self.trickling.early;
            let at = early.iter().position(|(tag, _)| *tag == dialog.remote_tag);
            if let Some((_, fragment)) = at.map(|at| early.swap_remove(at)) {
                self.learn_fragment(now, fork, mid.as_deref(), &fragment);
            }
        }
        self.tell_candidates(desk, now);
    }
}

impl ForkMedia {
    /// What was agreed with a fork that uses ICE.
    fn terms(&self) -> Option<&super::terms::Terms> {
        match self {
            Self::Unanswered | Self::WithoutIce(_) => None,
            Self::Checking { terms, .. }
            | Self::Failed { terms, .. }
            | Self::Proven { terms, .. } => Some(terms),
        }
    }
}
