//! Pairs of TCP candidates: checks go by connections (RFC 6544 sections 6 and 7).

use std::time::{Duration, Instant};

use super::checklist::TriggeredCheck;
use super::checks_in::LATE_CHECKS;
use super::pair::{PairId, PairState};
use super::{Agent, push};
use crate::event::{Path, TcpWish};

/// Where there are pairs by UDP, no connection is opened before they had so long: a call between
/// networks that let UDP through opens none.
const HEAD_START: Duration = Duration::from_millis(200);

impl Agent {
    /// When the connection of this pair may be opened. It is no transaction and takes no slot of
    /// the pacing; but connections too begin one Ta apart, half way between the checks. None is
    /// opened while a better pair is valid.
    pub(super) fn may_open(&self, id: PairId) -> Option<Instant> {
        let pair = self.checklist.get(id)?;
        let better = self
            .valid
            .in_use(pair.component)
            .is_some_and(|valid| valid.priority > pair.priority);
        if better {
            return None;
        }
        let by_udp = self.checklist.iter().any(|pair| !pair.protocol.is_tcp());
        let head_start = if by_udp { HEAD_START } else { Duration::ZERO };
        let between_slots = self.next_slot.checked_sub(self.ta / 2);
        Some(
            (self.started + head_start)
                .max(self.next_open)
                .max(between_slots.unwrap_or(self.next_slot)),
        )
    }

    /// The pair is in progress from now on, though its check follows only when the connection
    /// stands.
    pub(super) fn open(&mut self, now: Instant, id: PairId) {
        self.next_open = now + self.ta;
        let Some(pair) = self.checklist.get_mut(id) else {
            return;
        };
        pair.state = PairState::InProgress {
            since: now,
            latest: now,
        };
        let path = self.candidates.path(pair.local, pair.remote);
        self.tried.insert(id);
        push(&mut self.wishes, TcpWish::Open(path));
    }

    /// Whether media of a component goes this way.
    pub(crate) fn uses(&self, path: Path) -> bool {
        self.components
            .iter()
            .any(|component| self.path(*component) == Some(path))
    }

    /// Whether the pairs were selected so long ago that the peer needs no other (RFC 8445 section
    /// 8.3.1).
    pub(crate) fn is_concluded(&self, now: Instant) -> bool {
        self.completed
            .is_some_and(|since| now >= since + LATE_CHECKS)
    }

    fn pairs_by(&self, path: Path) -> Vec<PairId> {
        self.checklist
            .iter()
            .filter(|pair| self.candidates.path(pair.local, pair.remote) == path)
            .map(|pair| pair.id)
            .collect()
    }

    /// The connection stands: the check goes with the next slot, by this connection alone.
    pub(crate) fn handle_opened(&mut self, path: Path) {
        for id in self.pairs_by(path) {
            if let Some(pair) = self.checklist.get_mut(id)
                && matches!(pair.state, PairState::InProgress { .. })
            {
                pair.state = PairState::Waiting;
                let nominate = false;
                self.checklist
                    .trigger(TriggeredCheck { pair: id, nominate });
            }
        }
    }

    /// The connection did not come about, or has ended: the pair has failed, and if it was valid,
    /// media goes this way no longer.
    pub(crate) fn handle_lost(&mut self, now: Instant, path: Path) {
        self.heard.remove(&path);
        for id in self.pairs_by(path) {
            if self.valid.via(id).is_some() {
                self.withdraw(now, id);
            } else if let Some(pair) = self.checklist.get_mut(id) {
                pair.state = PairState::Failed;
                self.checklist.untrigger(id);
                self.transactions.forget(|known| known.pair == id);
            }
        }
    }
}
