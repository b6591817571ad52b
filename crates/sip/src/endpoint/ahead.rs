//! What can be done for a request before it is there: while a call gathers its candidates, its
//! next hop is looked for, and a connection opened if the request will not fit a datagram.

use std::time::Instant;

use super::Endpoint;
use super::client_transaction::{Purpose, Stage};
use crate::auth::Attempts;
use crate::dns::{Locator, Place};
use crate::message::{Method, Request};
use crate::transport::{Hop, Protocol};
use crate::uri::Uri;

impl Endpoint {
    /// A call to this target is placed soon: its next hop is looked for (RFC 3263). `large`: its
    /// INVITE will hardly fit a datagram, so that a connection is opened too, if the next hop has
    /// TCP (RFC 3261 section 18.1.1). Nothing is said to anybody, nor is a failure told.
    pub fn prepare_invite(&mut self, now: Instant, target: &Uri, large: bool) {
        let mut request = Request::new(Method::Invite, target.clone());
        let hop = self.first_hop(&mut request);
        self.prepare(now, request, hop, large);
    }

    /// Whether a call to this target goes by TLS for certain, so that its description may hold keys.
    pub fn goes_by_tls(&self, target: &Uri) -> bool {
        let mut request = Request::new(Method::Invite, target.clone());
        let hop = self.first_hop(&mut request);
        hop.is_ok_and(|hop| hop.secure || hop.protocol == Some(Protocol::Tls))
    }

    pub(crate) fn prepare(
        &mut self,
        now: Instant,
        request: Request,
        hop: Result<Hop, String>,
        large: bool,
    ) {
        let key = self.client_key(&Method::Invite);
        let purpose = Purpose::Ahead { large };
        self.start_client(now, key, purpose, hop, request, Attempts::default());
    }

    /// The next hop of a request to come is known.
    pub(super) fn connect_ahead(&mut self, now: Instant, mut place: Place, hop: &Hop, large: bool) {
        let wanted = match place.protocol {
            Protocol::Tcp | Protocol::Tls => true,
            Protocol::Udp => large && !place.fixed && self.peers.may_have_tcp(now, place.address),
        };
        if wanted {
            if place.protocol == Protocol::Udp {
                place.protocol = Protocol::Tcp;
            }
            // Without a connection the request goes as it would have gone.
            let _ = self.stream_flow(now, place, hop);
        }
    }

    /// What the search for a request to come has found out so far: it goes on where that is.
    pub(super) fn take_ahead(&mut self, hop: &Hop) -> Option<Locator> {
        let ahead = self.clients.iter().find(|(_, transaction)| {
            matches!(transaction.purpose, Purpose::Ahead { .. }) && transaction.hop == *hop
        });
        let key = ahead.map(|(key, _)| key.clone())?;
        match self.clients.remove(&key)?.stage {
            Stage::Locating(locator) => Some(locator),
            Stage::Unsent | Stage::Sent(_) => None,
        }
    }
}
