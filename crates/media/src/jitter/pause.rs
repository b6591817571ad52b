//! Pauses of the sender, in which nothing has to come (RFC 3551 section 4.1, RFC 3389, RFC 7587 section
//! 3.1.3). Only noise is played in them, so that it may as well last longer or shorter: the playout goes
//! to where it should be, and back again for a packet that comes too late.

use super::{JitterBuffer, OVER, Packet, Pause, Playing, Step, UNDER};

/// After a packet in which nobody spoke, nothing may come for so long (nanoseconds); longer, and the sender
/// or the network stalls. libopus sends something every 400 ms.
const UNSAID: i64 = 1_000_000_000;
/// The playout goes back by this at most (nanoseconds): more is a change of the sender's clock.
const FARTHEST: i64 = 300_000_000;

/// How much of a gap before a packet is the sender's pause, when so many packets of this duration are
/// absent by their numbers: after a pause was announced, the absent ones are the last that were sent.
pub(super) fn before(gap: i64, absent: u16, duration: u32, announced: Pause) -> i64 {
    match (absent, announced) {
        (0, _) => gap,
        (_, Pause::No) => 0,
        (absent, _) => (gap - i64::from(absent) * i64::from(duration)).max(0),
    }
}

impl JitterBuffer {
    /// Nobody spoke in the packet that was taken out last: a pause may follow it.
    pub(crate) fn quiet(&mut self) {
        let timeline = self.timeline.as_mut();
        if let Some(playing) = timeline.and_then(|timeline| timeline.playing.as_mut())
            && playing.pause == Pause::No
        {
            playing.pause = Pause::Possible;
        }
    }

    /// Whether nothing has to come now.
    pub(super) fn pauses(&self, playing: &Playing) -> bool {
        match playing.pause {
            Pause::No => false,
            Pause::Possible => self.nanoseconds(playing.paused) < UNSAID,
            Pause::Begun => true,
        }
    }

    /// A step of a pause that lasts for so many ticks yet, as far as is known; the playout is `behind` its
    /// mark by so many nanoseconds.
    pub(super) fn pause(&mut self, left: i64, behind: i64) -> Step {
        let surplus = match behind > OVER {
            true => super::ticks(self.clock_rate, behind),
            false => 0,
        };
        let playing = self
            .timeline
            .as_mut()
            .and_then(|timeline| timeline.playing.as_mut());
        let Some(playing) = playing else {
            return Step::Wait;
        };
        let step = i64::from(playing.duration).min(left).max(1);
        // Too early for what is to come: the pause becomes longer.
        if behind >= -UNDER {
            playing.next += (step + surplus).min(left);
            playing.paused += step;
            if surplus > 0 {
                playing.offsets.clear();
            }
        }
        Step::Missing {
            duration: u32::try_from(step).unwrap_or(1),
            next: None,
            lost: false,
        }
    }

    /// A packet comes after its time, in a pause or just after it: where it is put, if nothing has been
    /// missed yet.
    pub(super) fn resume(&mut self, timestamp: i64, packet: &Packet) -> Option<i64> {
        let farthest = super::ticks(self.clock_rate, FARTHEST);
        let playing = self.timeline.as_mut()?.playing.as_mut()?;
        let newer = (1..u16::MAX / 2).contains(&packet.sequence.wrapping_sub(playing.sequence));
        if playing.pause == Pause::No || !newer {
            return None;
        }
        if packet.pause == Pause::Begun {
            // More about the noise, which is heard from now on.
            let next = playing.next;
            return (!self.packets.contains(next)).then_some(next);
        }
        if playing.next - timestamp > farthest {
            return None;
        }
        playing.next = timestamp;
        playing.offsets.clear();
        Some(timestamp)
    }
}
