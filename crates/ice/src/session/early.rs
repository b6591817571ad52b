//! Binding requests that arrive before the peer's description (RFC 8445 section 7.3).

use std::collections::VecDeque;

use crate::agent::{Arrived, Conflict, Verdict};
use crate::event::Role;

/// So many are kept; all were keyed with our password, so the peers of this call sent them.
const MOST_EARLY_REQUESTS: usize = 64;

/// They are answered as they come, and become triggered checks when the description is there.
#[derive(Debug, Default)]
pub(crate) struct EarlyRequests(VecDeque<(String, Arrived)>);

impl EarlyRequests {
    /// Keeps a request of a peer that is known by its ufrag only.
    pub(crate) fn handle_request(
        &mut self,
        role: Role,
        tie_breaker: u64,
        ufrag: &str,
        request: Arrived,
    ) -> Verdict {
        // The agent that is started later finds the same and switches, if that is to be done.
        if Conflict::of(role, tie_breaker, request.role) == Conflict::Refuse {
            return Verdict::RoleConflict;
        }
        let known = self.0.iter_mut().find(|(from, kept)| {
            from == ufrag && kept.base == request.base && kept.from == request.from
        });
        if let Some((_, kept)) = known {
            kept.use_candidate |= request.use_candidate;
            kept.role = request.role;
            return Verdict::Success;
        }
        if self.0.len() >= MOST_EARLY_REQUESTS {
            self.0.pop_front();
        }
        self.0.push_back((ufrag.to_owned(), request));
        Verdict::Success
    }

    /// The requests of the peer with this ufrag, in the order of their arrival.
    pub(crate) fn take(&mut self, ufrag: &str) -> Vec<Arrived> {
        let (taken, kept) = std::mem::take(&mut self.0)
            .into_iter()
            .partition::<VecDeque<_>, _>(|(from, _)| from == ufrag);
        self.0 = kept;
        taken.into_iter().map(|(_, request)| request).collect()
    }
}
