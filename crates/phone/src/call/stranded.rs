//! Addresses that vanish before the answer. An offer that is out cannot be changed then without
//! UPDATE, which this phone does not do: the call waits a little whether one comes back, and ends
//! otherwise. What is answered in time moves over as any other call does.

use std::time::{Duration, Instant};

use super::{Call, Stage};
use crate::desk::Desk;
use crate::event::EndReason;

/// So long an address may be gone: a blink of the Wi-Fi, not a change of network.
const GRACE: Duration = Duration::from_secs(5);

impl Call {
    /// The host's addresses have changed.
    pub(crate) fn handle_interfaces(&mut self, desk: &mut Desk, now: Instant) {
        match self.stage {
            Stage::Talking(_) => self.move_talk(desk, now),
            Stage::Inviting(_) | Stage::Holding(_) | Stage::Alerting(_) => {
                let stands = self
                    .sockets
                    .as_ref()
                    .is_some_and(|sockets| sockets.stands(desk));
                self.stranded = if stands {
                    None
                } else {
                    self.stranded.or(Some(now + GRACE))
                };
            }
            _ => {}
        }
    }

    /// When [`Self::stranded_timeout`] has something to do.
    pub(super) fn stranded_until(&self) -> Option<Instant> {
        match self.stage {
            // It was answered meanwhile: at once.
            Stage::Talking(_) => self.stranded.map(|until| until - GRACE),
            _ => self.stranded,
        }
    }

    pub(super) fn stranded_timeout(&mut self, desk: &mut Desk, now: Instant) {
        if self.stranded_until().is_none_or(|until| now < until) {
            return;
        }
        self.stranded = None;
        let text = "The network changed before the call was answered";
        match self.stage {
            Stage::Talking(_) => self.move_talk(desk, now),
            Stage::Inviting(_) => self.cancel(desk, now, EndReason::Network),
            Stage::Holding(_) | Stage::Alerting(_) => {
                self.reject(desk, now, EndReason::Network, 480, Some(text.to_owned()));
            }
            _ => {}
        }
    }
}
