//! The ICE agent of one early dialog: one data stream, one peer (RFC 8445).
//!
//! Before working here, read RFC 8445 sections 6 to 8; the files follow them:
//! `checklist` and `pair` (6.1), `checks_out` (7.2, the client), `checks_in` (7.3, the server),
//! `valid` (7.2.5.3.2 and the proof), `nomination` (8), `restart` (9), `consent` (RFC 7675),
//! `transaction` (RFC 8489 6.2.1), `updated` (RFC 8839 4.4), `tcp` (RFC 6544),
//! `trickle` (RFC 8838).

mod checklist;
mod checks_in;
mod checks_out;
mod consent;
mod nomination;
mod pair;
mod restart;
mod tcp;
mod transaction;
mod trickle;
mod updated;
mod valid;

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::checklist::{Candidates, Checklist};
use self::pair::PairId;
use self::transaction::{Purpose, Transactions};
use self::valid::ValidList;
use crate::candidate::{ComponentId, Credentials, IceDescription, Trickle};
use crate::event::{FailureReason, IceEvent, Path, Role, TcpWish, Transmit};
use crate::gate::{Gate, Standing};
use crate::gather::LocalCandidate;
use crate::seed::Randomness;

pub(crate) use self::checks_in::{Arrived, Conflict, Verdict};
pub(crate) use self::checks_out::{Response, Work};

/// RFC 8839 section 5.5: what a peer that signals no pacing wants.
const DEFAULT_TA: Duration = Duration::from_millis(50);
/// Datagrams that wait for their owner; when nobody fetches them the oldest go.
const MOST_TRANSMITS: usize = 256;
/// The starts of transactions are logged so far.
const LOGGED_STARTS: usize = 1024;

/// How far the agent is.
#[derive(Debug)]
enum Phase {
    /// Checks go on, until this time at most.
    Checking { patience_ends: Instant },
    /// The failure was reported. The peer's checks are still answered and followed.
    GaveUp,
    /// The proof was given.
    Proven,
    /// Consent is lost: nothing is sent any more (RFC 7675 section 5.1).
    Lost,
}

/// What an agent needs from its session.
pub(crate) struct AgentConfig {
    pub(crate) role: Role,
    pub(crate) tie_breaker: u64,
    pub(crate) local: Credentials,
    pub(crate) locals: Vec<LocalCandidate>,
    pub(crate) components: Vec<ComponentId>,
    pub(crate) pacing: Duration,
    pub(crate) patience: Duration,
    pub(crate) dense_period: Duration,
    pub(crate) pair_limit: usize,
    pub(crate) trickle: Trickle,
    pub(crate) randomness: Randomness,
    /// A new one, or that of the agent before the restart, raised.
    pub(crate) standing: Arc<Standing>,
}

/// One agent. Poll it after each input; its session does.
#[derive(Debug)]
pub(crate) struct Agent {
    role: Role,
    tie_breaker: u64,
    role_switches: u32,
    local: Credentials,
    remote: IceDescription,
    /// Whether candidates of our own may still come.
    local_trickle: Trickle,
    components: Vec<ComponentId>,
    candidates: Candidates,
    checklist: Checklist,
    valid: ValidList,
    transactions: Transactions,
    phase: Phase,
    patience: Duration,
    ta: Duration,
    next_slot: Instant,
    started: Instant,
    dense_period: Duration,
    dense_ends: Instant,
    /// So many re-checks have been sent since the latest first check.
    rechecks_in_a_row: u32,
    peer_bound: bool,
    /// How often a move of the peer's was followed.
    moves_followed: u32,
    /// The peer sees us at another address than before on a pair that was valid.
    remapped: bool,
    /// Since when every component has a nominated pair (RFC 8445 section 8.1.2: Completed).
    completed: Option<Instant>,
    /// Where the peer's checks came.
    heard: HashSet<Path>,
    /// Relayed addresses of ours and peers that their servers shall let in, ahead of our checks.
    permissions: VecDeque<Path>,
    /// Socket and source of the peer's checks.
    /// The pairs that were checked at least once.
    tried: HashSet<PairId>,
    starts: Vec<Instant>,
    standing: Arc<Standing>,
    randomness: Randomness,
    out: VecDeque<Transmit>,
    /// When the next connection may be opened.
    next_open: Instant,
    wishes: VecDeque<TcpWish>,
    events: VecDeque<IceEvent>,
}

impl Agent {
    /// Begins to check (RFC 8445 section 6.1).
    pub(crate) fn start(config: AgentConfig, remote: IceDescription, now: Instant) -> Self {
        // RFC 8445 section 6.1.1: a full agent controls a lite one.
        let role = if remote.lite {
            Role::Controlling
        } else {
            config.role
        };
        let candidates =
            Candidates::new(config.locals, remote.candidates.clone(), &config.components);
        let checklist = Checklist::form(&candidates, role, config.pair_limit);
        let ta = remote.pacing.unwrap_or(DEFAULT_TA);
        let pairs = checklist.len();
        let permissions = checklist.permissions(&candidates);
        Self {
            role,
            tie_breaker: config.tie_breaker,
            role_switches: 0,
            local: config.local,
            remote,
            local_trickle: config.trickle,
            components: config.components,
            candidates,
            checklist,
            valid: ValidList::default(),
            transactions: Transactions::default(),
            phase: Phase::Checking {
                patience_ends: now + config.patience,
            },
            patience: config.patience,
            ta: ta.max(config.pacing),
            next_slot: now,
            started: now,
            dense_period: config.dense_period,
            dense_ends: now + config.dense_period,
            rechecks_in_a_row: 0,
            peer_bound: false,
            moves_followed: 0,
            remapped: false,
            completed: None,
            permissions,
            heard: HashSet::new(),
            tried: HashSet::new(),
            starts: Vec::new(),
            standing: config.standing,
            randomness: config.randomness,
            out: VecDeque::new(),
            next_open: now,
            wishes: VecDeque::new(),
            events: VecDeque::from([IceEvent::Checking { pairs }]),
        }
    }

    /// The gate that this agent's proof opens.
    pub(crate) fn gate(&self) -> Gate {
        Gate::of_agent(&self.standing)
    }

    /// No proof of this agent is worth anything from now on.
    pub(crate) fn void(&self) {
        self.standing.void();
    }

    pub(crate) fn remote_ufrag(&self) -> &str {
        &self.remote.credentials.ufrag
    }

    pub(crate) fn pairs_tried(&self) -> usize {
        self.tried.len()
    }

    pub(crate) fn starts(&self) -> &[Instant] {
        &self.starts
    }

    pub(crate) fn poll_transmit(&mut self) -> Option<Transmit> {
        self.out.pop_front()
    }

    pub(crate) fn poll_tcp(&mut self) -> Option<TcpWish> {
        self.wishes.pop_front()
    }

    pub(crate) fn poll_event(&mut self) -> Option<IceEvent> {
        self.events.pop_front()
    }

    /// Everything with a clock but the paced work, which the session hands out.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Lost) {
            return;
        }
        let out = &mut self.out;
        let failed = self
            .transactions
            .handle_timeout(now, |transmit| push(out, transmit));
        for transaction in failed {
            // Nobody refused: a new nominating check follows, as a dense re-check would, and only
            // the loss of consent ends that (RFC 8445 section 7.2.5.3.4 ends it with the first).
            if transaction.purpose != Purpose::Nomination {
                self.check_failed(now, &transaction);
            }
        }
        self.expire_consent(now);
        self.nominate_if_due(now);
        self.end_patience(now);
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let patience = match self.phase {
            Phase::Checking { .. } if self.is_hopeless_for_good() => Some(self.started),
            Phase::Checking { patience_ends } => Some(patience_ends),
            Phase::GaveUp | Phase::Proven => None,
            Phase::Lost => return None,
        };
        [
            patience,
            self.transactions.poll_timeout(),
            self.consent_timeout(),
            self.nomination_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn end_patience(&mut self, now: Instant) {
        let Phase::Checking { patience_ends } = self.phase else {
            return;
        };
        if now >= patience_ends || self.is_hopeless_for_good() {
            self.give_up(now, self.why_no_proof(now));
        }
    }

    /// RFC 8863 waits because the peer's checks may still reveal something: a lite peer sends none.
    fn is_hopeless_for_good(&self) -> bool {
        self.remote.lite && !self.expects_candidates() && self.is_hopeless()
    }

    /// Whether every pair has failed, and a component is left without.
    fn is_hopeless(&self) -> bool {
        self.checklist.iter().all(|pair| !pair.is_unfinished())
            && self
                .components
                .iter()
                .any(|component| self.valid.in_use(*component).is_none())
    }

    fn why_no_proof(&self, now: Instant) -> FailureReason {
        let valid = |component: &ComponentId| self.has_fresh_pair(now, *component);
        if self.components.iter().all(valid) {
            FailureReason::PeerSilent
        } else if self.checklist.len() == 0 {
            FailureReason::NoPair
        } else if self.is_hopeless() {
            FailureReason::AllPairsFailed
        } else {
            FailureReason::PatienceOver
        }
    }

    fn give_up(&mut self, now: Instant, reason: FailureReason) {
        self.phase = Phase::GaveUp;
        self.transactions.cancel(now, |_| true);
        self.events.push_back(IceEvent::Failed {
            reason,
            pairs_tried: self.tried.len(),
        });
    }

    /// Another patience from now on, with every pair to be tried again.
    pub(crate) fn renew_patience(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Checking { .. } | Phase::GaveUp) {
            self.phase = Phase::Checking {
                patience_ends: now + self.patience,
            };
            self.checklist.revive();
            self.transactions.cancel(now, |_| true);
            self.dense_ends = now + self.dense_period;
            self.started = now;
        }
    }

    fn transmit(&mut self, path: Path, payload: Vec<u8>) {
        if path.protocol.is_tcp() {
            push(&mut self.wishes, TcpWish::Send { path, payload });
            return;
        }
        let (base, to) = (path.base, path.remote);
        push(&mut self.out, Transmit { base, to, payload });
    }

    fn log_start(&mut self, now: Instant) {
        if self.starts.len() < LOGGED_STARTS {
            self.starts.push(now);
        }
    }
}

/// Appends within bounds.
pub(crate) fn push<T>(out: &mut VecDeque<T>, transmit: T) {
    if out.len() >= MOST_TRANSMITS {
        out.pop_front();
    }
    out.push_back(transmit);
}
