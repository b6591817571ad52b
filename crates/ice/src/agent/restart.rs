//! What becomes of an agent when ICE restarts (RFC 8445 section 9): the previous one carries media
//! until the new one has selected its pairs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Agent, Phase};
use crate::candidate::{ComponentId, Credentials};
use crate::event::Role;
use crate::gate::Standing;

/// RFC 8445 section 8.3.1: the peer may need the old candidates so much longer.
const KEPT: Duration = Duration::from_secs(3);

impl Agent {
    /// The role as it is now: it outlives a restart (RFC 8445 section 6.1.1).
    pub(crate) fn role(&self) -> Role {
        self.role
    }

    pub(crate) fn remote_credentials(&self) -> &Credentials {
        &self.remote.credentials
    }

    /// Whether every component has its nominated pair.
    pub(crate) fn is_selected(&self) -> bool {
        self.completed.is_some()
    }

    /// From now on this agent only carries media: it gives no proof any more, and what it still
    /// had to tell nobody wants to hear. Gives its standing to the next generation.
    pub(crate) fn retire(&mut self, now: Instant) -> Arc<Standing> {
        self.events.clear();
        self.ask_for_consent(now);
        std::mem::replace(&mut self.standing, Standing::none())
    }

    /// Asks on every pair in use, to know whether it still works.
    pub(crate) fn ask_for_consent(&mut self, now: Instant) {
        for valid in self.valid.iter_mut() {
            valid.next_consent = now;
        }
    }

    /// When the peer last answered on the pair in use.
    pub(crate) fn answered(&self, component: ComponentId) -> Option<Instant> {
        Some(self.valid.in_use(component)?.answered)
    }

    pub(crate) fn round_trip(&self, component: ComponentId) -> Option<Duration> {
        Some(self.valid.in_use(component)?.rtt)
    }

    /// The restart came to nothing: this agent goes on as if there had been none.
    pub(crate) fn reinstate(&mut self, standing: Arc<Standing>) {
        if matches!(self.phase, Phase::Lost) {
            standing.void();
        }
        self.standing = standing;
    }

    /// When the agent before this one is needed no longer.
    pub(crate) fn outlives_previous_at(&self) -> Option<Instant> {
        Some(self.completed? + KEPT)
    }

    /// Whether the consent of a component is gone, and with it the path.
    pub(crate) fn is_lost(&self) -> bool {
        matches!(self.phase, Phase::Lost)
    }
}
