//! Binding requests that arrive before the peer's description (RFC 8445 section 7.3).

use std::collections::VecDeque;

use crate::agent::{Arrived, Conflict, Verdict};
use crate::event::{Path, Role};

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
        let known = self
            .0
            .iter_mut()
            .find(|(from, kept)| from == ufrag && kept.path == request.path);
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

    /// Whether a request that is kept came this way.
    pub(crate) fn has_heard(&self, path: Path) -> bool {
        self.0.iter().any(|(_, kept)| kept.path == path)
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

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::candidate::ComponentId;

    fn request(port: u16, use_candidate: bool) -> Arrived {
        let base: SocketAddr = "192.0.2.1:4000".parse().unwrap();
        Arrived {
            path: Path::udp(base, SocketAddr::new(base.ip(), port)),
            component: ComponentId::Rtp,
            priority: Some(1),
            use_candidate,
            role: Some((Role::Controlled, 1)),
        }
    }

    #[test]
    fn kept_by_ufrag_in_order_and_once() {
        let mut early = EarlyRequests::default();
        for (ufrag, port, nominates) in [
            ("a", 2, false),
            ("b", 1, false),
            ("a", 1, false),
            ("a", 2, true),
        ] {
            let verdict =
                early.handle_request(Role::Controlling, 5, ufrag, request(port, nominates));
            assert_eq!(verdict, Verdict::Success);
        }
        assert_eq!(early.take("a"), [request(2, true), request(1, false)]);
        assert_eq!(early.take("a"), []);
        assert_eq!(early.take("b").len(), 1);
    }

    #[test]
    fn bounded() {
        let mut early = EarlyRequests::default();
        for port in 1..1000 {
            early.handle_request(Role::Controlling, 5, "a", request(port, false));
        }
        let kept = early.take("a");
        assert_eq!(kept.len(), MOST_EARLY_REQUESTS);
        assert_eq!(kept.last(), Some(&request(999, false)));
    }
}
