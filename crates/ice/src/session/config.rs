//! The settings of a session.

use std::time::Duration;

use crate::event::Role;

/// How a session behaves.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// Offerer: controlling; answerer: controlled.
    pub role: Role,
    /// Our Ta, 5 to 50 ms (`a=ice-pacing`). Default 20 ms.
    pub pacing: Duration,
    /// How long to try before [`IceEvent::Failed`](crate::IceEvent::Failed). Default 10 s.
    pub patience: Duration,
    /// For so long after the start, free pacing slots re-check unfinished pairs. Default 1 s.
    pub dense_period: Duration,
    /// At most so many such re-checks for all forks together. Default 50.
    pub dense_limit: usize,
    /// At most so many pairs on a checklist (RFC 8445 section 6.1.2.5). Default 100.
    pub pair_limit: usize,
    /// At most so many checks to one address that does not answer, over all forks and restarts, and
    /// no re-checks once an agent has sent so many (RFC 8445 section 19.5.1). What the peer's
    /// own checks trigger is not counted. Default 100.
    pub check_limit: usize,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            role: Role::Controlling,
            pacing: Duration::from_millis(20),
            patience: Duration::from_secs(10),
            dense_period: Duration::from_secs(1),
            dense_limit: 50,
            pair_limit: 100,
            check_limit: 100,
        }
    }
}
