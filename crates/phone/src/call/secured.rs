//! What a call does about the keys of its media: it runs their handshakes, and rings, talks or ends
//! accordingly.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ringtrue_ice::{ComponentId, ForkId, IceSession, Path};
use ringtrue_media::secure::DtlsFailure;

use super::forks::{Fork, ForkMedia, Inviting, Ringing};
use super::incoming::{Agreement, FORK};
use super::keying::{Keys, LATE_STARTER, News};
use super::talking::Media;
use super::terms::Terms;
use super::{Call, End, Stage};
use crate::desk::Desk;
use crate::event::{EndReason, EndedBy, EventKind, Outcome};
use crate::gathering::MediaSockets;

/// DTLS that comes before the answer which it belongs to: so many datagrams are kept.
const EARLY_DATAGRAMS: usize = 16;
/// The longest of them, in bytes.
const LONGEST_DATAGRAM: usize = 2_048;
/// With no fork left that could have keys, so long for another one to answer.
const ANOTHER_FORK: Duration = Duration::from_secs(1);

/// DTLS from peers whose answers have not come yet.
#[derive(Default)]
pub(super) struct EarlyDtls(Vec<(Path, Vec<u8>)>);

impl EarlyDtls {
    fn keep(&mut self, path: Path, payload: &[u8]) {
        if self.0.len() < EARLY_DATAGRAMS && payload.len() <= LONGEST_DATAGRAM {
            self.0.push((path, payload.to_vec()));
        }
    }
}

impl Agreement {
    fn keys_mut(&mut self) -> Option<&mut Keys> {
        match self {
            Self::Complete(terms) => terms.keys.as_mut(),
            Self::Offered(_) => None,
        }
    }
}

impl Fork {
    pub(super) fn terms_mut(&mut self) -> Option<&mut Terms> {
        match &mut self.media {
            ForkMedia::Unanswered => None,
            ForkMedia::WithoutIce(terms)
            | ForkMedia::Checking { terms, .. }
            | ForkMedia::Failed { terms, .. }
            | ForkMedia::Proven { terms, .. } => Some(terms),
        }
    }

    pub(super) fn keys(&self) -> Option<&Keys> {
        match &self.media {
            ForkMedia::Unanswered => None,
            ForkMedia::WithoutIce(terms)
            | ForkMedia::Checking { terms, .. }
            | ForkMedia::Failed { terms, .. }
            | ForkMedia::Proven { terms, .. } => terms.keys.as_ref(),
        }
    }

    /// A proven path whose keys are awaited: until when the user hears nothing of the ringing.
    pub(super) fn keys_due(&self, patience: Duration) -> Option<Instant> {
        let keys = self.keys()?;
        if keys.is_ready() || !matches!(self.media, ForkMedia::Proven { .. }) {
            return None;
        }
        let wait = if keys.is_heard() {
            patience
        } else {
            LATE_STARTER
        };
        self.proven_at.map(|at| at + wait)
    }

    fn keys_failed(&self) -> bool {
        self.keys().is_some_and(|keys| keys.failure().is_some())
    }

    /// Its path is proven, its keys never came, and its user was never alerted.
    fn keys_missing(&self) -> bool {
        let proven = matches!(self.media, ForkMedia::Proven { .. });
        let unkeyed = self.keys().is_some_and(|keys| !keys.is_ready());
        proven && unkeyed && matches!(self.ringing, Ringing::Silent)
    }
}

impl Inviting {
    /// Nobody was rung for want of keys.
    pub(super) fn keys_were_missing(&self) -> bool {
        let missing = |fork: &Fork| fork.keys_failed() || fork.keys_missing();
        self.forks.iter().any(missing)
    }

    fn is_hopeless(&self) -> bool {
        !self.forks.is_empty() && self.forks.iter().all(Fork::keys_failed)
    }

    /// Gives early datagrams to the forks that they turn out to belong to.
    fn sort_early_dtls(&mut self, now: Instant, ice: &IceSession) {
        let early = std::mem::take(&mut self.early_dtls.0);
        for (path, payload) in early {
            if !self.hand_on_dtls(now, ice, path, &payload) {
                self.early_dtls.0.push((path, payload));
            }
        }
    }

    fn hand_on_dtls(&mut self, now: Instant, ice: &IceSession, path: Path, payload: &[u8]) -> bool {
        let mut forks = self.forks.iter_mut();
        let Some(fork) = forks.find(|fork| ice.accepts_media(fork.id, path)) else {
            return false;
        };
        let id = fork.id;
        if let Some(keys) = fork.terms_mut().and_then(|terms| terms.keys.as_mut()) {
            keys.handle_packet(now, component_of(Some(ice), id, path), payload);
        }
        true
    }
}

/// Where RTCP has a path of its own, its DTLS comes by that.
fn component_of(ice: Option<&IceSession>, fork: ForkId, path: Path) -> ComponentId {
    let rtcp = ice.and_then(|ice| ice.path(fork, ComponentId::Rtcp));
    let rtp = ice.and_then(|ice| ice.path(fork, ComponentId::Rtp));
    if rtcp.is_some_and(|rtcp| rtcp.base == path.base)
        && rtp.is_none_or(|rtp| rtp.base != path.base)
    {
        ComponentId::Rtcp
    } else {
        ComponentId::Rtp
    }
}

/// Without ICE it is the socket that tells.
fn component_without_ice(sockets: &MediaSockets, path: Path) -> ComponentId {
    let is_for = |component| sockets.base_towards(path.remote, component) == Some(path.base);
    if is_for(ComponentId::Rtcp) && !is_for(ComponentId::Rtp) {
        ComponentId::Rtcp
    } else {
        ComponentId::Rtp
    }
}

/// Every dialog's keys.
fn all_keys(stage: &mut Stage) -> Vec<(ForkId, &mut Keys)> {
    match stage {
        Stage::Holding(holding) => {
            let keys = holding.agreement.keys_mut();
            keys.map(|keys| (FORK, keys)).into_iter().collect()
        }
        Stage::Alerting(alerting) => {
            let keys = alerting.agreement_mut().keys_mut();
            keys.map(|keys| (FORK, keys)).into_iter().collect()
        }
        Stage::Inviting(inviting) => {
            let forks = inviting.forks.iter_mut();
            forks
                .filter_map(|fork| {
                    let id = fork.id;
                    let keys = fork.terms_mut()?.keys.as_mut()?;
                    Some((id, keys))
                })
                .collect()
        }
        Stage::Talking(talking) => {
            let fork = talking.fork;
            match &mut talking.media {
                Media::Agreed(terms) => {
                    let keys = terms.keys.as_mut();
                    keys.map(|keys| (fork, keys)).into_iter().collect()
                }
                Media::Offered(_) => Vec::new(),
            }
        }
        _ => Vec::new(),
    }
}

impl Call {
    /// A datagram of DTLS. Only what comes over checked pairs counts; what comes before the answer
    /// that it belongs to is kept.
    pub(super) fn handle_dtls(
        &mut self,
        desk: &mut Desk,
        now: Instant,
        path: Path,
        payload: &[u8],
    ) {
        let ice = self.ice.as_ref();
        match &mut self.stage {
            Stage::Inviting(inviting) => {
                let taken = ice.is_some_and(|ice| inviting.hand_on_dtls(now, ice, path, payload));
                if !taken && desk.identity.is_some() {
                    inviting.early_dtls.keep(path, payload);
                }
            }
            Stage::Talking(talking) => {
                if !talking.accepts(ice, path) {
                    return;
                }
                let component = match (ice, &self.sockets) {
                    (None, Some(sockets)) => component_without_ice(sockets, path),
                    _ => component_of(ice, talking.fork, path),
                };
                if let Some(keys) = talking.keys_mut() {
                    keys.handle_packet(now, component, payload);
                }
            }
            stage => {
                if !ice.is_some_and(|ice| ice.accepts_media(FORK, path)) {
                    return;
                }
                let component = component_of(ice, FORK, path);
                for (_, keys) in all_keys(stage) {
                    keys.handle_packet(now, component, payload);
                }
            }
        }
        self.run_keys(desk, now);
    }

    /// The call is answered: what came before the answer, and without ICE, what opens our NAT.
    pub(super) fn begin_keys(&mut self, desk: &mut Desk, now: Instant, early: EarlyDtls) {
        if let Stage::Talking(talking) = &mut self.stage
            && let Some(keys) = talking.keys_mut()
        {
            keys.hurry(now);
            if self.ice.is_none() {
                keys.knock();
            }
        }
        for (path, payload) in early.0 {
            self.handle_dtls(desk, now, path, &payload);
        }
        self.tell_keys_pending(desk, now);
        self.run_keys(desk, now);
    }

    /// Runs the handshakes, and does what follows from them.
    pub(super) fn run_keys(&mut self, desk: &mut Desk, now: Instant) {
        let (ice, sockets) = (self.ice.as_ref(), self.sockets.as_ref());
        if let (Stage::Inviting(inviting), Some(ice)) = (&mut self.stage, ice) {
            inviting.sort_early_dtls(now, ice);
        }
        let talks = matches!(self.stage, Stage::Talking(_));
        let mut out = Vec::new();
        let mut told = Vec::new();
        for (fork, keys) in all_keys(&mut self.stage) {
            out.extend(keys.run(now, |component, destination| match ice {
                Some(ice) => {
                    let path = ice.path(fork, component)?;
                    Some((path, ice.round_trip(fork, component)))
                }
                // Without ICE nothing is sent before the answer.
                None if talks => without_ice(sockets?, destination, component),
                None => None,
            }));
            told.extend(keys.take_news().map(|news| (fork, news)));
        }
        if let Some(sockets) = &mut self.sockets {
            for (path, datagram) in out {
                sockets.send_media(desk, now, path, datagram);
            }
        }
        if let Stage::Talking(talking) = &mut self.stage
            && let Some(keys) = talking.keys_mut()
        {
            // From now on the call stays encrypted, whatever is offered later.
            match (keys.active(), keys.own_line()) {
                (Some(active), _) => self.session.stay_secure(active),
                (None, Some(line)) => self.session.stay_with(desk, line),
                (None, None) => {}
            }
        }
        for (fork, news) in told {
            self.handle_key_news(desk, now, fork, news);
        }
        self.ring_when_keyed(desk, now);
    }

    fn handle_key_news(&mut self, desk: &mut Desk, now: Instant, fork: ForkId, news: News) {
        match news {
            News::Secured(source, profile) => {
                self.tell_fork(desk, now, fork, EventKind::Secured { source, profile });
                self.tell_ringing(desk, now);
            }
            News::Failed(why) => self.keys_failed(desk, now, fork, why),
        }
    }

    fn keys_failed(&mut self, desk: &mut Desk, now: Instant, fork: ForkId, why: DtlsFailure) {
        match &mut self.stage {
            Stage::Holding(_) | Stage::Alerting(_) => {
                self.refuse_for_want_of_keys(desk, now, &why.to_string());
            }
            Stage::Inviting(inviting) => {
                if let Some(fork) = inviting.fork_mut(fork) {
                    // Its ringing is nothing that anybody could answer.
                    fork.ringing = Ringing::Told;
                }
                inviting.keys_failed = Some((now + ANOTHER_FORK, why));
            }
            Stage::Talking(_) => self.end_unkeyed(desk, now, Some(why)),
            _ => {}
        }
    }

    pub(super) fn refuse_for_want_of_keys(&mut self, desk: &mut Desk, now: Instant, why: &str) {
        let text = format!("No keys for the media: {why}");
        self.reject(desk, now, EndReason::KeysFailed, 480, Some(text));
    }

    /// A connected call without keys is none.
    pub(super) fn end_unkeyed(&mut self, desk: &mut Desk, now: Instant, why: Option<DtlsFailure>) {
        let end = End::new(EndReason::KeysFailed, EndedBy::Local, Outcome::NoMediaPath);
        let why = why.map_or("no keys came for the media".to_owned(), |why| {
            why.to_string()
        });
        self.hang_up_talk(desk, now, end.with_status(200).with_words(Some(why)));
    }

    /// Every fork that answered has failed to give keys, and no other has answered since.
    pub(super) fn inviting_keys_timeout(&mut self, desk: &mut Desk, now: Instant) {
        if let Stage::Inviting(inviting) = &mut self.stage
            && let Some((until, _)) = inviting.keys_failed
            && now >= until
        {
            if inviting.is_hopeless() {
                self.cancel(desk, now, EndReason::KeysFailed);
            } else {
                inviting.keys_failed = None;
            }
        }
    }

    /// Tells, once, that keys are awaited.
    pub(super) fn tell_keys_pending(&mut self, desk: &mut Desk, now: Instant) {
        let mut pending = Vec::new();
        for (fork, keys) in all_keys(&mut self.stage) {
            if keys.take_pending() {
                pending.push(fork);
            }
        }
        for fork in pending {
            self.tell_fork(desk, now, fork, EventKind::KeysPending);
        }
    }

    /// When a handshake has something to send again.
    pub(super) fn keys_timeout(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Holding(holding) => keys_of(&holding.agreement)?.poll_timeout(),
            Stage::Alerting(alerting) => keys_of(alerting.agreement())?.poll_timeout(),
            Stage::Inviting(inviting) => {
                let keys = inviting.forks.iter().filter_map(Fork::keys);
                keys.filter_map(Keys::poll_timeout).min()
            }
            Stage::Talking(talking) => talking.keys()?.poll_timeout(),
            _ => None,
        }
    }
}

/// The keys of an agreement.
pub(super) fn keys_of(agreement: &Agreement) -> Option<&Keys> {
    match agreement {
        Agreement::Complete(terms) => terms.keys.as_ref(),
        Agreement::Offered(_) => None,
    }
}

fn without_ice(
    sockets: &MediaSockets,
    destination: SocketAddr,
    component: ComponentId,
) -> Option<(Path, Option<Duration>)> {
    let base = sockets.base_towards(destination, component)?;
    Some((Path::udp(base, destination), None))
}
