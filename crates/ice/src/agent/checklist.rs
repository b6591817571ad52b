//! The checklist of an agent's one data stream (RFC 8445 section 6.1).

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::pair::{CandidatePair, LocalIndex, PairId, PairState, RemoteIndex, pair_priority};
use crate::candidate::{Candidate, CandidateType, ComponentId, TcpType, TransportProtocol};
use crate::event::{Path, Role};
use crate::gather::LocalCandidate;

/// A filter never stands between two hosts of one network, so such a pair needs dense re-checks
/// against loss only: once in so long a time.
const RARE_RECHECK: Duration = Duration::from_millis(200);

/// From a relay of ours, the peer's checks come in since the relay was told to let them: pairs whose
/// far end has to be opened by our own checks are more urgent.
const RELAYED_RECHECK: Duration = Duration::from_millis(100);

/// So many pairs of a component have their first check soon enough in any order.
const FEW_PAIRS: usize = 12;

/// Remote candidates beyond which none is taken.
const MOST_REMOTES: usize = 256;

/// An entry of the triggered-check queue (RFC 8445 section 6.1.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TriggeredCheck {
    pub(super) pair: PairId,
    /// Carries USE-CANDIDATE: the pair has succeeded and is to be nominated (section 8.1.1).
    pub(super) nominate: bool,
}

/// The candidates of both sides, which pairs point into.
#[derive(Debug)]
pub(super) struct Candidates {
    pub(super) locals: Vec<LocalCandidate>,
    pub(super) remotes: Vec<Candidate>,
}

impl Candidates {
    /// Those of the components in use; of equal remote addresses only the best (section 6.1.2.4).
    pub(super) fn new(
        mut locals: Vec<LocalCandidate>,
        mut signalled: Vec<Candidate>,
        components: &[ComponentId],
    ) -> Self {
        // TCP is for one component: where RTCP has a path of its own, half a call is no use.
        let tcp = components.len() == 1;
        let may_be_used = |candidate: &Candidate| {
            components.contains(&candidate.component) && (tcp || !candidate.protocol.is_tcp())
        };
        locals.retain(|local| may_be_used(&local.candidate));
        // An active candidate is nothing that a check could go to: it is found out by its own.
        let active = TransportProtocol::Tcp(TcpType::Active);
        signalled.retain(|remote| may_be_used(remote) && remote.protocol != active);
        signalled.sort_by_key(|remote| Reverse(remote.priority));
        let mut candidates = Self {
            locals,
            remotes: Vec::new(),
        };
        for remote in signalled {
            candidates.add_remote(remote);
        }
        candidates
    }

    /// Adds a remote candidate, unless it is known already or there are too many.
    pub(super) fn add_remote(&mut self, remote: Candidate) -> Option<RemoteIndex> {
        let known = self.find_remote(remote.protocol, remote.address, remote.component);
        if known.is_some() || self.remotes.len() >= MOST_REMOTES {
            return None;
        }
        self.remotes.push(remote);
        Some(RemoteIndex(self.remotes.len() - 1))
    }

    pub(super) fn local(&self, index: LocalIndex) -> &LocalCandidate {
        &self.locals[index.0]
    }

    pub(super) fn remote(&self, index: RemoteIndex) -> &Candidate {
        &self.remotes[index.0]
    }

    /// The candidate that is this base: a socket's host candidate, or a relayed one.
    pub(super) fn base(
        &self,
        protocol: TransportProtocol,
        base: SocketAddr,
        component: ComponentId,
    ) -> Option<LocalIndex> {
        self.locals
            .iter()
            .position(|local| {
                is_base(&local.candidate)
                    && local.base == base
                    && local.candidate.protocol == protocol
                    && local.candidate.component == component
            })
            .map(LocalIndex)
    }

    /// Whether a local candidate of this address and base is there (RFC 8838 section 9).
    pub(super) fn knows(&self, other: &LocalCandidate) -> bool {
        self.locals.iter().any(|local| {
            local.candidate.address == other.candidate.address
                && local.candidate.protocol == other.candidate.protocol
                && local.base == other.base
                && local.candidate.component == other.candidate.component
        })
    }

    pub(super) fn find_remote(
        &self,
        protocol: TransportProtocol,
        address: SocketAddr,
        component: ComponentId,
    ) -> Option<RemoteIndex> {
        self.remotes
            .iter()
            .position(|remote| {
                remote.address == address
                    && remote.protocol == protocol
                    && remote.component == component
            })
            .map(RemoteIndex)
    }

    /// The way of a pair: its connection, if it goes by TCP.
    pub(super) fn path(&self, local: LocalIndex, remote: RemoteIndex) -> Path {
        let local = self.local(local);
        Path {
            protocol: local.candidate.protocol,
            base: local.base,
            remote: self.remote(remote).address,
        }
    }

    fn priority(&self, role: Role, local: LocalIndex, remote: RemoteIndex) -> u64 {
        pair_priority(
            role,
            self.local(local).candidate.priority,
            self.remote(remote).priority,
        )
    }

    fn foundation(&self, pair: &CandidatePair) -> (&str, &str) {
        (
            &self.local(pair.local).candidate.foundation,
            &self.remote(pair.remote).foundation,
        )
    }

    /// What the pairs of two components have in common that go the same way.
    fn way(&self, pair: &CandidatePair) -> (IpAddr, IpAddr) {
        let (local, remote) = (self.local(pair.local), self.remote(pair.remote));
        (local.base.ip(), remote.address.ip())
    }

    fn kind(&self, pair: &CandidatePair) -> PairKind {
        let (local, remote) = (self.local(pair.local), self.remote(pair.remote));
        PairKind {
            types: (local.candidate.kind, remote.kind),
            tcp: pair.protocol.is_tcp(),
            ipv4: remote.address.is_ipv4(),
            component: pair.component,
        }
    }

    /// Whether the way between the two may lead through a NAT's or firewall's filter that opens
    /// only when its owner sends: always, unless the remote is a private host address.
    fn may_be_filtered(&self, pair: &CandidatePair) -> bool {
        let remote = self.remote(pair.remote);
        remote.kind != CandidateType::Host || !is_private(remote.address.ip())
    }
}

/// What pairs that differ in their interfaces alone have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct PairKind {
    types: (CandidateType, CandidateType),
    tcp: bool,
    ipv4: bool,
    component: ComponentId,
}

/// RFC 1918, RFC 3927, RFC 4193, RFC 4291 section 2.5.6, and RFC 6598's shared space.
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let shared = matches!(ip.octets(), [100, 64..=127, _, _]);
            ip.is_private() || ip.is_link_local() || ip.is_loopback() || shared
        }
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local() || ip.is_loopback(),
    }
}

/// The pairs in order of priority, and the triggered-check queue.
#[derive(Debug)]
pub(super) struct Checklist {
    pairs: Vec<CandidatePair>,
    triggered: VecDeque<TriggeredCheck>,
    next_id: u32,
    limit: usize,
}

impl Checklist {
    /// RFC 8445 section 6.1.2: pairs each base with each remote candidate of the same component
    /// and address family. Pairing bases only is the same as pairing all local candidates,
    /// replacing reflexive ones by their base and pruning (section 6.1.2.4), because each base
    /// is a candidate itself.
    pub(super) fn form(candidates: &Candidates, role: Role, limit: usize) -> Self {
        let mut checklist = Self {
            pairs: Vec::new(),
            triggered: VecDeque::new(),
            next_id: 0,
            limit,
        };
        for remote in 0..candidates.remotes.len() {
            checklist.pair_remote(candidates, role, RemoteIndex(remote));
        }
        checklist.limit_pairs(candidates);
        checklist.choose_leaders(candidates);
        checklist.unfreeze_first_of_each_foundation(candidates);
        checklist
    }

    /// Pairs one remote candidate with every base, Frozen.
    pub(super) fn pair_remote(&mut self, candidates: &Candidates, role: Role, remote: RemoteIndex) {
        let signalled = candidates.remote(remote);
        for (index, local) in candidates.locals.iter().enumerate() {
            let local_index = LocalIndex(index);
            if is_base(&local.candidate)
                && may_pair(&local.candidate, signalled)
                && self.find(local_index, remote).is_none()
            {
                self.insert(candidates, role, local_index, remote, PairState::Frozen);
            }
        }
    }

    /// Pairs one local candidate, if checks leave from it, with every remote one, Frozen.
    pub(super) fn pair_local(&mut self, candidates: &Candidates, role: Role, local: LocalIndex) {
        let ours = &candidates.local(local).candidate;
        for (index, remote) in candidates.remotes.iter().enumerate() {
            let index = RemoteIndex(index);
            if is_base(ours) && may_pair(ours, remote) && self.find(local, index).is_none() {
                self.insert(candidates, role, local, index, PairState::Frozen);
            }
        }
    }

    /// RFC 8838 section 12: a new pair is Waiting if it is the topmost of its foundation, or if
    /// one of its foundation has succeeded. Of the pairs that were there before, none gains by it.
    pub(super) fn unfreeze_new(&mut self, candidates: &Candidates) {
        let may_begin = |pair: &CandidatePair| {
            let rank = (pair.component, Reverse(pair.priority));
            let foundation = candidates.foundation(pair);
            let alike = || {
                let others = self.pairs.iter();
                others.filter(|other| candidates.foundation(other) == foundation)
            };
            alike().all(|other| rank <= (other.component, Reverse(other.priority)))
                || alike().any(|other| other.state == PairState::Succeeded)
        };
        let begin: Vec<PairId> = self
            .pairs
            .iter()
            .filter(|pair| pair.state == PairState::Frozen && may_begin(pair))
            .map(|pair| pair.id)
            .collect();
        for id in begin {
            if let Some(pair) = self.get_mut(id) {
                pair.state = PairState::Waiting;
            }
        }
    }

    fn insert(
        &mut self,
        candidates: &Candidates,
        role: Role,
        local: LocalIndex,
        remote: RemoteIndex,
        state: PairState,
    ) -> PairId {
        let id = PairId(self.next_id);
        self.next_id += 1;
        self.pairs.push(CandidatePair {
            id,
            component: candidates.remote(remote).component,
            protocol: candidates.local(local).candidate.protocol,
            local,
            remote,
            priority: candidates.priority(role, local, remote),
            state,
            leads: false,
            heard: None,
            nominated_by_peer: false,
        });
        self.sort();
        id
    }

    /// By priority; but TCP after all UDP, so that no check by UDP waits for a connection.
    fn sort(&mut self) {
        self.pairs.sort_by_key(|pair| {
            (
                pair.protocol.is_tcp(),
                Reverse(pair.priority),
                pair.component,
            )
        });
    }

    /// RFC 8445 section 6.1.2.5. Pairs of every type stay: a peer with a hundred host candidates
    /// must not push out the reflexive ones, so the limit takes turns among the types.
    pub(super) fn limit_pairs(&mut self, candidates: &Candidates) {
        while self.pairs.len() > self.limit {
            let mut crowds = HashMap::new();
            for pair in &self.pairs {
                *crowds.entry(candidates.kind(pair)).or_insert(0) += 1;
            }
            // RFC 8838 section 11: pairs that have failed make room first.
            let victim = self
                .pairs
                .iter()
                .filter(|pair| pair.is_unfinished() || pair.state == PairState::Failed)
                .max_by_key(|pair| {
                    let failed = pair.state == PairState::Failed;
                    (
                        failed,
                        crowds.get(&candidates.kind(pair)),
                        Reverse(pair.priority),
                    )
                })
                .map(|pair| pair.id);
            let Some(victim) = victim else { return };
            self.remove(victim);
        }
    }

    /// Of the pairs of equal types and one address family, the best one leads: that of the default
    /// routes, where each side has put its default route first. Where there are few, all do.
    pub(super) fn choose_leaders(&mut self, candidates: &Candidates) {
        let mut seen = Vec::new();
        let few = |component| {
            let pairs = self.pairs.iter();
            pairs.filter(|pair| pair.component == component).count() <= FEW_PAIRS
        };
        let few = [ComponentId::Rtp, ComponentId::Rtcp].into_iter().all(few);
        // In order of priority.
        for pair in &mut self.pairs {
            let kind = candidates.kind(pair);
            pair.leads = few || !seen.contains(&kind);
            if pair.leads {
                seen.push(kind);
            }
        }
    }

    /// The permissions that the pairs from our relays need which lead (RFC 8656 section 9): a check
    /// of the peer that comes before ours would be lost at the relay.
    pub(super) fn permissions(&self, candidates: &Candidates) -> VecDeque<Path> {
        let mut wanted: VecDeque<Path> = VecDeque::new();
        for pair in self.pairs.iter().filter(|pair| pair.leads) {
            let local = candidates.local(pair.local);
            let remote = candidates.remote(pair.remote).address;
            let known = |path: &Path| (path.base, path.remote.ip()) == (local.base, remote.ip());
            if local.candidate.kind == CandidateType::Relayed && !wanted.iter().any(known) {
                wanted.push_back(Path {
                    protocol: pair.protocol,
                    base: local.base,
                    remote,
                });
            }
        }
        wanted
    }

    fn remove(&mut self, id: PairId) {
        self.pairs.retain(|pair| pair.id != id);
        self.triggered.retain(|check| check.pair != id);
    }

    /// RFC 8445 section 6.1.2.6, step 4: for each foundation one pair becomes Waiting, that of
    /// the lowest component, then of the highest priority.
    fn unfreeze_first_of_each_foundation(&mut self, candidates: &Candidates) {
        let mut order: Vec<usize> = (0..self.pairs.len()).collect();
        order.sort_by_key(|index| {
            let pair = &self.pairs[*index];
            (pair.component, Reverse(pair.priority))
        });
        let mut seen: Vec<(&str, &str)> = Vec::new();
        for index in order {
            let pair = &mut self.pairs[index];
            let foundation = candidates.foundation(pair);
            if !seen.contains(&foundation) {
                seen.push(foundation);
                pair.state = PairState::Waiting;
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.pairs.len()
    }

    /// So many pairs there may be.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &CandidatePair> {
        self.pairs.iter()
    }

    pub(super) fn get(&self, id: PairId) -> Option<&CandidatePair> {
        self.pairs.iter().find(|pair| pair.id == id)
    }

    pub(super) fn get_mut(&mut self, id: PairId) -> Option<&mut CandidatePair> {
        self.pairs.iter_mut().find(|pair| pair.id == id)
    }

    pub(super) fn find(&self, local: LocalIndex, remote: RemoteIndex) -> Option<&CandidatePair> {
        self.pairs
            .iter()
            .find(|pair| pair.local == local && pair.remote == remote)
    }

    /// A pair that the peer's check came along (RFC 8445 section 7.3.1.4), inserted as Waiting
    /// if it is new. A full checklist gives up its least promising pair for it.
    pub(super) fn find_or_insert(
        &mut self,
        candidates: &Candidates,
        role: Role,
        local: LocalIndex,
        remote: RemoteIndex,
    ) -> PairId {
        if let Some(pair) = self.find(local, remote) {
            return pair.id;
        }
        if self.pairs.len() >= self.limit {
            let victim = self
                .pairs
                .iter()
                .rfind(|pair| pair.state != PairState::Succeeded && !pair.nominated_by_peer)
                .map(|pair| pair.id);
            if let Some(victim) = victim {
                self.remove(victim);
            }
        }
        self.insert(candidates, role, local, remote, PairState::Waiting)
    }

    /// Appends to the triggered-check queue, once per pair; a nomination overrides a plain check.
    pub(super) fn trigger(&mut self, check: TriggeredCheck) {
        match self
            .triggered
            .iter_mut()
            .find(|queued| queued.pair == check.pair)
        {
            Some(queued) => queued.nominate |= check.nominate,
            None => self.triggered.push_back(check),
        }
    }

    pub(super) fn next_triggered(&self) -> Option<TriggeredCheck> {
        self.triggered.front().copied()
    }

    pub(super) fn has_queued_nomination(&self, of: impl Fn(PairId) -> bool) -> bool {
        self.triggered
            .iter()
            .any(|check| check.nominate && of(check.pair))
    }

    /// The pair's queued plain check is no longer needed, or is being sent.
    pub(super) fn untrigger(&mut self, id: PairId) {
        self.triggered.retain(|check| check.pair != id);
    }

    /// The pair for the next ordinary check, by UDP or by TCP (RFC 8445 section 6.1.4.2, steps 2
    /// and 3). Those that lead go first: a hundred pairs of interfaces that never meet are two
    /// seconds of checks (docs/deviations.md).
    pub(super) fn next_ordinary(
        &self,
        candidates: &Candidates,
        by_tcp: bool,
    ) -> Option<&CandidatePair> {
        let pairs = || {
            let all = self.pairs.iter();
            all.filter(|pair| pair.protocol.is_tcp() == by_tcp)
        };
        let waiting = pairs()
            .filter(|pair| pair.state == PairState::Waiting && !self.is_queued(pair.id))
            // The list is in order of priority and component; of equals this takes the first.
            .min_by_key(|pair| !pair.leads);
        if waiting.is_some() {
            return waiting;
        }
        if pairs().any(|pair| pair.state == PairState::Waiting) {
            return None;
        }
        pairs().find(|pair| {
            pair.state == PairState::Frozen
                && !self.pairs.iter().any(|other| {
                    matches!(other.state, PairState::InProgress { .. })
                        && candidates.foundation(other) == candidates.foundation(pair)
                })
        })
    }

    fn is_queued(&self, id: PairId) -> bool {
        self.triggered.iter().any(|check| check.pair == id)
    }

    /// The pair for the next dense re-check, and when it is ready: the one whose latest check is
    /// longest ago among those that could still improve on `best` of their component. A Frozen
    /// pair behind a filter counts as checked at the start: without mux, the peer's filter towards component 2 is
    /// not to stay shut because the pair of component 1 that shares its foundation goes nowhere.
    pub(super) fn next_recheck(
        &self,
        candidates: &Candidates,
        started: Instant,
        of: impl Fn(&CandidatePair) -> bool,
        best: impl Fn(ComponentId) -> Option<u64>,
    ) -> Option<(Instant, PairId)> {
        self.pairs
            .iter()
            .filter(|pair| !pair.protocol.is_tcp())
            .filter(|pair| of(pair))
            .filter(|pair| {
                // What the peer has nominated is to be followed, however good it is.
                let matters =
                    |best| pair.priority > best || (pair.nominated_by_peer && best < u64::MAX);
                best(pair.component).is_none_or(matters)
            })
            .filter_map(|pair| match pair.state {
                PairState::InProgress { latest, .. } => {
                    let relayed = CandidateType::Relayed;
                    let ready = if !candidates.may_be_filtered(pair) {
                        latest + RARE_RECHECK
                    } else if candidates.local(pair.local).candidate.kind == relayed {
                        latest + RELAYED_RECHECK
                    } else {
                        latest
                    };
                    Some((ready, pair.id))
                }
                PairState::Frozen if candidates.may_be_filtered(pair) => Some((started, pair.id)),
                _ => None,
            })
            .min()
    }

    /// Since when an unfinished pair is checked; a Frozen one since one that it waits for is: what
    /// leaves that unanswered would leave it unanswered too.
    pub(super) fn begun(&self, candidates: &Candidates, pair: &CandidatePair) -> Option<Instant> {
        let since = |pair: &CandidatePair| match pair.state {
            PairState::InProgress { since, .. } => Some(since),
            _ => None,
        };
        if pair.state != PairState::Frozen {
            return since(pair);
        }
        let foundation = candidates.foundation(pair);
        let alike = self.pairs.iter();
        alike
            .filter(|other| candidates.foundation(other) == foundation)
            .filter_map(since)
            .min()
    }

    /// RFC 8445 section 7.2.5.3.3: a success unfreezes every pair of the same foundation. So it does
    /// those of the other component that go from the same address to the same address, and these are
    /// next: a peer-reflexive candidate, a port of its NAT, has a foundation of its own.
    pub(super) fn unfreeze_like(&mut self, candidates: &Candidates, id: PairId) {
        let Some(pair) = self.get(id) else { return };
        let foundation = candidates.foundation(pair);
        let (component, way) = (pair.component, candidates.way(pair));
        for other in &mut self.pairs {
            let same_way = other.component != component && candidates.way(other) == way;
            if other.state == PairState::Frozen
                && (same_way || candidates.foundation(other) == foundation)
            {
                other.state = PairState::Waiting;
                other.leads |= same_way;
            }
        }
    }

    /// RFC 8445 section 8.1.2: once a component has its nominated pair, the others of that
    /// component leave the checklist. Those that succeeded stay as record of the valid list, and
    /// those that the peer has nominated too (RFC 5245's aggressive nomination) stay until their
    /// check is over.
    pub(super) fn conclude(&mut self, component: ComponentId) {
        self.pairs.retain(|pair| {
            pair.component != component
                || pair.state == PairState::Succeeded
                || (pair.nominated_by_peer && pair.is_unfinished())
        });
        let pairs = &self.pairs;
        self.triggered
            .retain(|check| pairs.iter().any(|pair| pair.id == check.pair));
    }

    /// Makes every unfinished or failed pair Waiting again, for a new patience.
    pub(super) fn revive(&mut self) {
        for pair in &mut self.pairs {
            // A connection that the peer opened is either still there or gone for good.
            let accepted = pair.protocol == TransportProtocol::Tcp(TcpType::Passive);
            if !accepted && !matches!(pair.state, PairState::Succeeded | PairState::Frozen) {
                pair.state = PairState::Waiting;
            }
        }
    }

    /// A role switch changes all priorities (RFC 8445 section 7.3.1.1), and voids nominations.
    pub(super) fn switch_role(&mut self, candidates: &Candidates, role: Role) {
        for pair in &mut self.pairs {
            pair.priority = candidates.priority(role, pair.local, pair.remote);
            pair.nominated_by_peer = false;
        }
        self.sort();
        // What remains queued for a pair that has succeeded was a nomination.
        let pairs = &self.pairs;
        self.triggered.retain_mut(|check| {
            check.nominate = false;
            pairs
                .iter()
                .any(|pair| pair.id == check.pair && pair.state != PairState::Succeeded)
        });
    }

    /// The checks that are waiting or in progress: what the RTO grows with (section 14.3).
    pub(super) fn active(&self) -> u32 {
        let active = self.pairs.iter().filter(|pair| {
            matches!(
                pair.state,
                PairState::Waiting | PairState::InProgress { .. }
            )
        });
        u32::try_from(active.count()).unwrap_or(u32::MAX)
    }
}

/// Checks leave from host and from relayed candidates.
fn is_base(local: &Candidate) -> bool {
    matches!(local.kind, CandidateType::Host | CandidateType::Relayed)
}

/// RFC 8445 section 6.1.2.2: same component, same address family; a link-local address pairs with
/// another one only. RFC 6544 section 6.2 prunes what a passive candidate makes: no check can
/// begin there, and when the peer's comes, it makes the pair.
fn may_pair(local: &Candidate, remote: &Candidate) -> bool {
    let link_local = |candidate: &Candidate| match candidate.address.ip() {
        IpAddr::V4(_) => false,
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    local.component == remote.component
        && local.protocol.pairs_with(remote.protocol)
        && local.protocol != TransportProtocol::Tcp(TcpType::Passive)
        && local.address.is_ipv4() == remote.address.is_ipv4()
        && link_local(local) == link_local(remote)
        && !leads_nowhere(local, remote)
}

/// From a relay of the Internet no way leads to a private address, and there are servers that lose
/// the allocation over the attempt (docs/deviations.md).
fn leads_nowhere(local: &Candidate, remote: &Candidate) -> bool {
    local.kind == CandidateType::Relayed
        && remote.kind == CandidateType::Host
        && is_private(remote.address.ip())
        && !is_private(local.address.ip())
}

#[cfg(test)]
mod tests;
