//! Keepalives: a double CRLF every 20 to 25 s holds NAT bindings open (RFC 5626 section 3.5.1).

use std::time::{Duration, Instant};

use super::Endpoint;
use crate::transport::Flow;

impl Endpoint {
    /// From now on keepalives are due, unless they are already.
    pub(crate) fn arm_keepalive(&mut self, now: Instant) {
        if self.keepalive_at.is_none() {
            // Random, lest all phones behind one NAT speak at once.
            let pause = Duration::from_millis(self.random(20_000, 25_000));
            self.keepalive_at = Some(now + pause);
        }
    }

    pub(super) fn keepalive_timeout(&mut self, now: Instant) {
        if self.keepalive_at.is_none_or(|at| at > now) {
            return;
        }
        self.keepalive_at = None;
        let registered = self
            .registration
            .as_ref()
            .filter(|registration| registration.is_active());
        let mut flows: Vec<Flow> = Vec::new();
        let calls: Vec<_> = self
            .calls
            .values()
            .filter(|call| call.is_active())
            .collect();
        let ways = calls.iter().filter_map(|call| call.flow);
        for flow in ways.chain(registered.and_then(|registration| registration.flow)) {
            if !flows.contains(&flow) {
                flows.push(flow);
            }
        }
        let needed = !calls.is_empty() || registered.is_some();
        for flow in flows {
            match flow {
                Flow::Stream { connection, .. } => {
                    self.connections.ping(now, connection, &mut self.transmits);
                }
                Flow::Udp { .. } => self.transmit(now, flow, b"\r\n\r\n".to_vec()),
            }
        }
        if needed {
            self.arm_keepalive(now);
        }
    }
}
