//! The pool of `listen`: sets of gathered candidates that are kept fresh, so that an answer leaves at
//! once.

use std::time::{Duration, Instant};

use super::Phone;
use crate::desk::Desk;
use crate::event::EventKind;
use crate::gathering::{Gathering, Warm};

/// A set in the pool is verified so often: a server that restarts forgets its allocations without
/// a word, and a call that came now would offer a dead address.
const VERIFY: Duration = Duration::from_secs(30);

/// A gathered set in the pool.
pub(super) struct WarmSet {
    pub(super) gathering: Gathering,
    told: bool,
    /// When its servers are asked whether it still stands.
    verify_at: Instant,
}

impl WarmSet {
    pub(super) fn handle_timeout(&mut self, desk: &mut Desk, now: Instant) {
        self.gathering.handle_timeout(desk, now);
        if now >= self.verify_at {
            self.verify_at = now + VERIFY;
            self.gathering.verify(desk, now);
        }
    }

    pub(super) fn poll_timeout(&self, desk: &Desk) -> Instant {
        let gathering = self.gathering.poll_timeout(desk);
        gathering.map_or(self.verify_at, |due| due.min(self.verify_at))
    }
}

impl Phone {
    /// A set from the pool: one that is ready, else the one that was begun first.
    pub(super) fn take_warm(&mut self) -> Option<Warm> {
        let ready = |warm: &WarmSet| warm.gathering.took().is_some() && !warm.gathering.is_stale();
        let index = self.pool.iter().position(ready).unwrap_or(0);
        if self.pool.is_empty() {
            return None;
        }
        Some(match self.pool.remove(index).gathering.finish() {
            Ok(sockets) => Warm::Ready(sockets),
            Err(gathering) => Warm::Begun(*gathering),
        })
    }

    /// Takes the sets out of the pool whose candidates a server has lost.
    fn renew_stale(&mut self, now: Instant) {
        let (stale, fresh) = std::mem::take(&mut self.pool)
            .into_iter()
            .partition::<Vec<_>, _>(|warm| warm.gathering.is_stale());
        self.pool = fresh;
        for warm in stale {
            warm.gathering.abandon(&mut self.desk, now);
        }
    }

    /// Keeps the pool filled, and tells of each set that has become ready.
    pub(super) fn keep_warm(&mut self, now: Instant) {
        let wanted = if self.leaving {
            0
        } else {
            self.desk.settings.warm_sets
        };
        self.renew_stale(now);
        while self.pool.len() < wanted {
            let gathering = Gathering::begin(&mut self.desk, now);
            self.pool.push(WarmSet {
                gathering,
                told: false,
                verify_at: now + VERIFY,
            });
        }
        for warm in &mut self.pool {
            if let (false, Some(took)) = (warm.told, warm.gathering.took()) {
                warm.told = true;
                let candidates = warm.gathering.candidates();
                let kind = EventKind::Gathered { candidates, took };
                self.desk.tell(now, None, kind);
            }
        }
    }
}
