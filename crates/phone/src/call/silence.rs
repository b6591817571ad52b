//! Media that was coming and stops: has the peer fallen silent, or is the path gone?
//!
//! Silence costs a connectivity check. If that is not answered either, candidates are gathered
//! anew, which tells whether our network carries anything and whether a NAT of ours maps our socket
//! anew. ICE restarts at once if it does, after a while if the peer's side may be what has moved,
//! and not while nothing at all answers: what is sent into a dead network has backed off when it
//! comes back to life.

use std::time::{Duration, Instant};

use ringtrue_ice::ComponentId;

use super::restart::Restart;
use super::talking::Talking;
use super::{Call, Stage};
use crate::desk::Desk;
use crate::event::CallRole;

/// Four frames: more than jitter usually takes.
const QUIET: Duration = Duration::from_millis(80);
/// The answer to a check is awaited so much longer than one and a quarter round trips.
const MARGIN: Duration = Duration::from_millis(20);
/// Of a path without a measured round trip.
const ROUND_TRIP: Duration = Duration::from_millis(100);
/// While it is still in doubt, it is judged anew so often.
const JUDGE_AGAIN: Duration = Duration::from_millis(50);
/// So long the side that moved, if it is the peer, has for its own restart. The caller goes first,
/// so that two restarts seldom meet (491).
const PEERS_TURN: [Duration; 2] = [Duration::from_secs(4), Duration::from_millis(5_500)];
/// No server answers, but the peer may: so long until a restart is tried all the same.
const BLIND: [Duration; 2] = [Duration::from_secs(8), Duration::from_secs(10)];
/// After so long without media or an answer the end of the call is no hanging up.
const CUT_OFF: Duration = Duration::from_secs(3);
/// A restart that has brought no media after so long is followed by another.
const RESTART_AGAIN: Duration = Duration::from_secs(3);

/// What is known about the media that should be coming.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Silence {
    /// No media has come yet, or none is to come.
    NotAwaited,
    /// The last packet came then.
    Heard { at: Instant },
    /// The path was asked whether it still works; nothing is judged before `due`, and next then.
    Asked {
        since: Instant,
        due: Instant,
        judge: Instant,
    },
    /// It does: the peer has nothing to say.
    Answered,
}

impl Silence {
    pub(super) fn poll_timeout(self) -> Option<Instant> {
        match self {
            Self::Heard { at } => Some(at + QUIET),
            Self::Asked { judge, .. } => Some(judge),
            Self::NotAwaited | Self::Answered => None,
        }
    }
}

/// What becomes of candidates that were gathered because the path is in doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is too early to say.
    Wait,
    /// The path works, or a restart would be of no use now.
    Forget,
    /// They are offered.
    Restart,
}

impl Talking {
    /// Whether the peer cannot be reached for so long that this is no moment of silence any more,
    /// nor the connection that a peer closes who hangs up.
    pub(super) fn is_cut_off(&self, now: Instant) -> bool {
        let asked = match self.silence {
            Silence::Asked { since, .. } => Some(since),
            Silence::NotAwaited | Silence::Heard { .. } | Silence::Answered => None,
        };
        let lost = [asked, self.muted_since()].into_iter().flatten().min();
        lost.is_some_and(|since| since + CUT_OFF <= now)
    }

    /// A packet of media has come.
    pub(super) fn hear(&mut self, now: Instant) {
        self.silence = Silence::Heard { at: now };
    }
}

fn of_role<T: Copy>(role: CallRole, [callers, callees]: [T; 2]) -> T {
    match role {
        CallRole::Caller => callers,
        CallRole::Callee => callees,
    }
}

impl Call {
    pub(super) fn silence_timeout(&mut self, desk: &mut Desk, now: Instant) {
        let Stage::Talking(talking) = &mut self.stage else {
            return;
        };
        let Some(ice) = &mut self.ice else {
            // There is nobody to ask.
            talking.silence = Silence::NotAwaited;
            return;
        };
        match talking.silence {
            Silence::Heard { at } if at + QUIET <= now => {
                if !talking.receives() {
                    talking.silence = Silence::NotAwaited;
                    return;
                }
                ice.probe(now, talking.fork);
                let rtt = ice.round_trip(talking.fork, ComponentId::Rtp);
                let due = now + rtt.unwrap_or(ROUND_TRIP) * 5 / 4 + MARGIN;
                talking.silence = Silence::Asked {
                    since: now,
                    due,
                    judge: due,
                };
                self.run_ice(desk, now);
                // What a restart would need takes as long as the answer does.
                self.gather_in_doubt(desk, now);
            }
            Silence::Asked { .. } if ice.is_remapped(talking.fork) => {
                talking.silence = Silence::Answered;
                desk.sip.renew_registration(now);
                if talking.restart.trust() {
                    self.after_gathering_again(desk, now);
                } else {
                    self.restart_ice(desk, now);
                }
            }
            Silence::Asked { since, due, judge } if judge <= now => {
                if ice.is_doubtful(talking.fork) {
                    let judge = now + JUDGE_AGAIN;
                    talking.silence = Silence::Asked { since, due, judge };
                    self.gather_in_doubt(desk, now);
                } else {
                    talking.silence = Silence::Answered;
                }
            }
            _ => {}
        }
    }

    fn gather_in_doubt(&mut self, desk: &mut Desk, now: Instant) {
        let (Stage::Talking(talking), Some(sockets)) = (&mut self.stage, &mut self.sockets) else {
            return;
        };
        let free = match talking.restart {
            Restart::Idle => true,
            Restart::Checking { since } => now >= since + RESTART_AGAIN,
            Restart::Due { .. } | Restart::Gathering { .. } | Restart::Offered { .. } => false,
        };
        if free && !desk.media_addresses().is_empty() {
            talking.restart = Restart::Gathering {
                in_answer: false,
                in_doubt: true,
            };
            desk.sip.prepare_reinvite(now, &talking.dialog);
            sockets.gather_again(desk, now);
        }
        self.after_gathering_again(desk, now);
    }

    /// Candidates were gathered because the path is in doubt. Whether to offer them.
    pub(super) fn judge_doubt(&mut self, desk: &mut Desk, now: Instant) -> Verdict {
        let (Stage::Talking(talking), Some(sockets), Some(ice)) =
            (&mut self.stage, &self.sockets, &self.ice)
        else {
            return Verdict::Forget;
        };
        let Silence::Asked { since, due, .. } = talking.silence else {
            return Verdict::Forget;
        };
        if !ice.is_doubtful(talking.fork) {
            return Verdict::Forget;
        }
        if now < due {
            return Verdict::Wait;
        }
        let waited = now.saturating_duration_since(since);
        let moved = sockets.was_remapped();
        if moved {
            // What maps media anew has most likely done so to SIP.
            desk.sip.renew_registration(now);
        }
        let useful = sockets.is_answered() && (moved || waited >= of_role(self.role, PEERS_TURN));
        if useful || waited >= of_role(self.role, BLIND) {
            Verdict::Restart
        } else {
            Verdict::Forget
        }
    }
}
