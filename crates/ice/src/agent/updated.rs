//! Subsequent offers and answers (RFC 8839 section 4.4).

use std::net::SocketAddr;
use std::time::Instant;

use super::pair::{PairId, PairState};
use super::valid::ValidPair;
use super::{Agent, Phase};
use crate::candidate::{ComponentId, IceDescription, TransportProtocol, Trickle};
use crate::event::{Role, UpdatedRemote};

/// How the peer's nominated pair stands in the race against the offer that names it.
enum Race {
    /// It is in the valid list.
    Won(PairId),
    /// Its check has not ended.
    UnderWay,
    /// Its check has failed.
    Lost,
    /// Nobody here knows it: our own valid pair stands.
    Unknown,
}

impl Agent {
    fn selected(&self) -> Option<Vec<&ValidPair>> {
        self.completed?;
        self.components
            .iter()
            .map(|component| self.valid.in_use(*component))
            .collect()
    }

    /// The same, if SDP can say it: `RTP/AVP` is UDP, and what middleboxes see stays the UDP default
    /// when a connection carries the media (docs/deviations.md).
    fn selected_by_udp(&self) -> Option<Vec<&ValidPair>> {
        let by_udp = |valid: &&ValidPair| {
            let local = &self.candidates.local(valid.local).candidate;
            local.protocol == TransportProtocol::Udp
        };
        self.selected()
            .filter(|selected| selected.iter().all(by_udp))
    }

    /// The nominated local candidates alone, and the remote ones while we control
    /// (RFC 8839 section 4.4.1.2.2).
    pub(crate) fn nominated_description(&self, own: &IceDescription) -> Option<IceDescription> {
        let selected = self.selected_by_udp()?;
        let remote_candidates = match self.role {
            Role::Controlling => selected
                .iter()
                .map(|valid| {
                    let remote = self.candidates.remote(valid.remote);
                    (valid.component, remote.address)
                })
                .collect(),
            Role::Controlled => Vec::new(),
        };
        Some(IceDescription {
            credentials: self.local.clone(),
            candidates: selected
                .iter()
                .map(|valid| self.candidates.local(valid.local).candidate.clone())
                .collect(),
            remote_candidates,
            // RFC 8838 section 13: after the nomination nothing is trickled any more.
            trickle: Trickle::Ended,
            ..own.clone()
        })
    }

    /// RFC 8839 section 4.3.4: whether the nominated pairs differ from the defaults signalled.
    pub(crate) fn needs_updated_offer(
        &self,
        local_default: impl Fn(ComponentId) -> Option<SocketAddr>,
        remote_defaults: &[(ComponentId, SocketAddr)],
    ) -> bool {
        if self.role != Role::Controlling || matches!(self.phase, Phase::Lost) {
            return false;
        }
        self.selected_by_udp().is_some_and(|selected| {
            selected.iter().any(|valid| {
                let local = self.candidates.local(valid.local).candidate.address;
                let remote = self.candidates.remote(valid.remote).address;
                local_default(valid.component) != Some(local)
                    || !remote_defaults.contains(&(valid.component, remote))
            })
        })
    }

    /// The peer's subsequent offer or answer (RFC 8839 section 4.4.2).
    pub(crate) fn handle_updated_remote(
        &mut self,
        now: Instant,
        remote: &IceDescription,
    ) -> UpdatedRemote {
        if remote.credentials != self.remote.credentials {
            return UpdatedRemote::Restart;
        }
        if remote.remote_candidates.is_empty() {
            if self.completed.is_none() {
                self.add_remotes(now, &remote.candidates);
            }
            return UpdatedRemote::Ready;
        }
        let mut verdict = UpdatedRemote::Ready;
        let mut won = Vec::new();
        for (component, local) in &remote.remote_candidates {
            // After nomination the offer has one candidate for each component: its default.
            let theirs = remote
                .candidates
                .iter()
                .find(|candidate| candidate.component == *component);
            let Some(theirs) = theirs else { continue };
            match self.race(*component, *local, theirs.address) {
                Race::Won(pair) => won.push(pair),
                Race::UnderWay => verdict = UpdatedRemote::LosingPair,
                Race::Lost => return UpdatedRemote::PairFailed,
                Race::Unknown => {}
            }
        }
        // The peer has concluded with these pairs; its USE-CANDIDATE may have been lost, or is
        // still on its way.
        if verdict == UpdatedRemote::Ready && self.role == Role::Controlled {
            for pair in won {
                self.set_nominated(now, pair);
            }
        }
        verdict
    }

    /// Whether the peer's nominated pair has won the race against its offer.
    fn race(&self, component: ComponentId, local: SocketAddr, remote: SocketAddr) -> Race {
        let won = self.valid.iter().find(|valid| {
            valid.component == component
                && self.candidates.local(valid.local).candidate.address == local
                && self.candidates.remote(valid.remote).address == remote
        });
        if let Some(valid) = won {
            return Race::Won(valid.via);
        }
        let (mut under_way, mut failed) = (false, false);
        for pair in self.checklist.iter().filter(|pair| {
            pair.component == component && self.candidates.remote(pair.remote).address == remote
        }) {
            under_way |= pair.is_unfinished();
            failed |= pair.state == PairState::Failed;
        }
        if under_way {
            Race::UnderWay
        } else if failed {
            Race::Lost
        } else {
            Race::Unknown
        }
    }
}
