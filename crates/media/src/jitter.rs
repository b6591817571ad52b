//! The adaptive jitter buffer: puts packets back into order and decides, at every step of the
//! playout, what is heard next.
//!
//! It knows packets, not sound, and no clock but the times that it is given. Each packet has a
//! *transit*: its arrival less its RTP timestamp. The playout has an *offset*: the moment at which
//! the packet of a timestamp is needed, less that timestamp. A packet is in time when its transit is
//! at most the offset. So the buffer watches the distribution of transits, aims with the offset at
//! a point that all but a few packets reach, and tells its owner to stretch or to shorten the
//! sound while the offset is off the mark: clocks that drift apart are the same case.
//!
//! Whatever comes from the network, memory is bounded by [`Settings::capacity`] packets. Payloads are
//! copied into buffers that [come back](JitterBuffer::recycle), so that nothing is allocated in the long run.

mod delay;
mod packet;
mod pause;
mod queue;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use self::delay::DelayEstimator;
use self::queue::Queue;

pub(crate) use self::packet::Reach;
pub use self::packet::{Advice, Following, Inserted, Packet, Pause, Settings, Step};

/// The offset must be over the mark by this before sound is shortened,
const OVER: i64 = 12_000_000;
/// and under it by this before it is stretched (nanoseconds).
const UNDER: i64 = 3_000_000;
/// Ticks that are looked at before shortening: the least offset among them counts.
const CALM_TICKS: usize = 50;
/// Over the mark by this, ten ticks are enough,
const FAR_OVER: i64 = 60_000_000;
/// and by this, packets are thrown away.
const TOO_FAR_OVER: i64 = 400_000_000;
/// A tick that comes so much later than the one before follows a standstill of the speaker (nanoseconds).
const STANDSTILL: i64 = 40_000_000;
/// What was not played meanwhile is made up for within so many ticks, or never,
const CATCHING_UP: usize = 25;
/// and then, from this on, left out: the standstill was heard, and the delay need not be from then on.
const LEFT_BEHIND: i64 = 20_000_000;
/// A transit that differs by this from the packet before belongs to another timeline.
const JUMP: i64 = 2_000_000_000;
/// Two packets of the same new timeline are this near to each other.
const SAME_TIMELINE: i64 = 250_000_000;
/// So many late packets in a row, and none in time, mean that the path has become longer.
const LATE_RUN: usize = 4;
/// After so many (half a second), whatever they are, the sender must have set its clock back.
const STALE_RUN: usize = 25;
/// An empty buffer means a stalled sender or network more often than a loss, since the packet after
/// a lost one is there as a rule: so many steps wait for the packet that is due before it is given up.
const HOLD: u32 = 3;
/// So many packets may still be on their way when the path changes.
const SETTLING: u32 = 50;
/// A transit that is shorter by this than the shortest is that of another path (nanoseconds).
const OTHER_WAY: i64 = 15_000_000;
/// Played timestamps that are remembered to tell duplicates from late packets.
const REMEMBERED: usize = 64;

/// The buffer of one source with one RTP clock.
#[derive(Debug)]
pub struct JitterBuffer {
    settings: Settings,
    clock_rate: u32,
    /// How far ahead of the playout packets should be there.
    look_ahead: Duration,
    packets: Queue,
    played: VecDeque<i64>,
    timeline: Option<Timeline>,
    suspect: Option<Suspicion>,
    /// What redundancy takes to arrive, in nanoseconds.
    cover: i64,
    /// So many packets after a change of path, some may still come by the old one.
    path_changed: u32,
    /// Packets that were lost in what seemed to be a pause.
    unnoticed: u32,
}

/// A run of packets whose timestamps belong together.
#[derive(Debug)]
struct Timeline {
    origin: Instant,
    /// The highest extended timestamp so far and its packet's transit.
    newest: i64,
    transit: i64,
    delays: DelayEstimator,
    /// Late packets in a row, which are played after all if they turn out to be a new timeline.
    late: Vec<(Instant, Packet)>,
    /// Packets of any kind that came too late, in a row.
    stale: usize,
    playing: Option<Playing>,
}

/// The playout within a timeline.
#[derive(Debug)]
struct Playing {
    /// The extended timestamp that is to be played next.
    next: i64,
    /// Sequence number and duration of the packet that was played last.
    sequence: u16,
    duration: u32,
    /// Whether the sender pauses since that packet, and how long nothing came since, in ticks.
    pause: Pause,
    paused: i64,
    /// Steps in a row at which the playout waited for the packet that is due.
    held: u32,
    /// Packets that were given up since the one that was played last.
    given_up: u32,
    /// Offsets at the last ticks since an adjustment, in nanoseconds.
    offsets: VecDeque<i64>,
    /// When the last tick was,
    ticked: Option<Instant>,
    /// and how many ticks there were since the speaker stood still, up to [`CATCHING_UP`].
    since_standstill: usize,
}

impl Playing {
    /// From the packet of this extended timestamp on.
    fn new(first: i64, sequence: u16, duration: u32) -> Playing {
        Playing {
            next: first,
            sequence,
            duration,
            pause: Pause::No,
            paused: 0,
            held: 0,
            given_up: 0,
            offsets: VecDeque::with_capacity(CALM_TICKS + 1),
            ticked: None,
            since_standstill: CATCHING_UP,
        }
    }

    /// A tick at `now`, at which the playout is so much over its mark. Gives how much of that is to be
    /// left out at once.
    fn ticked(&mut self, now: Instant, mark: i64, over: i64) -> Option<i64> {
        let before = self.ticked.replace(now).unwrap_or(now);
        let apart = now.saturating_duration_since(before).as_nanos() as i64;
        if apart > STANDSTILL {
            self.since_standstill = 0;
            self.offsets.clear();
        }
        self.offsets.push_back(over + mark);
        if self.offsets.len() > CALM_TICKS {
            self.offsets.pop_front();
        }
        let recent = self.since_standstill < CATCHING_UP;
        self.since_standstill += usize::from(recent);
        let caught_up = recent && self.since_standstill == CATCHING_UP;
        let tightest = self.offsets.iter().min()? - mark;
        match (over, tightest) {
            (over, _) if over > TOO_FAR_OVER => Some(over),
            (_, left) if caught_up && left > LEFT_BEHIND => Some(left),
            _ => None,
        }
    }
}

/// A packet whose timestamp seems to belong to another timeline.
#[derive(Debug)]
struct Suspicion {
    arrival: Instant,
    packet: Packet,
}

impl JitterBuffer {
    /// An empty buffer for timestamps of `clock_rate` hertz.
    pub fn new(clock_rate: u32, settings: Settings) -> JitterBuffer {
        JitterBuffer {
            settings,
            clock_rate: clock_rate.max(1),
            look_ahead: Duration::ZERO,
            // One more, until the oldest is thrown away.
            packets: Queue::new(settings.capacity.max(1) + 1),
            played: VecDeque::with_capacity(REMEMBERED + 1),
            timeline: None,
            suspect: None,
            cover: 0,
            path_changed: 0,
            unnoticed: 0,
        }
    }

    /// Packets that were lost in what seemed to be a pause until a packet came after them.
    pub(crate) fn take_unnoticed(&mut self) -> u32 {
        std::mem::take(&mut self.unnoticed)
    }

    /// From now on packets are waited for by so much longer, because what is lost comes again so much
    /// later.
    pub fn set_cover(&mut self, cover: Duration) {
        self.cover = cover.as_nanos() as i64;
    }

    /// Packets come another way from now on: what the old one's delays were says nothing any more.
    pub fn path_changed(&mut self) {
        self.path_changed = SETTLING;
    }

    /// Packets that wait.
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// What the playout adds to the quickest packet's way now.
    pub fn delay(&self) -> Option<Duration> {
        let timeline = self.timeline.as_ref()?;
        let offset = timeline.playing.as_ref()?.offsets.back()?;
        Some(nanoseconds(offset - timeline.delays.least()))
    }

    /// What it aims at.
    pub fn target(&self) -> Option<Duration> {
        let timeline = self.timeline.as_ref()?;
        Some(nanoseconds(self.mark(timeline) - timeline.delays.least()))
    }

    /// How long a packet can wait here, as RFC 3611 section 4.7.7 asks it.
    pub(crate) fn reach(&self) -> Option<Reach> {
        let beyond = nanoseconds(TOO_FAR_OVER);
        Some(Reach {
            now: self.target()? + beyond,
            ever: self.settings.maximum + nanoseconds(self.cover) + beyond,
        })
    }

    /// From now on packets should be there by this much before their time: what comes after a
    /// lost one helps to conceal it. The delay grows by it.
    pub fn look_ahead(&mut self, by: Duration) {
        self.look_ahead = by;
    }

    /// By how much the playout is later than it aims at, in the last ticks at their tightest, in
    /// nanoseconds.
    pub(crate) fn surplus(&self) -> Option<i64> {
        let timeline = self.timeline.as_ref()?;
        let offsets = &timeline.playing.as_ref()?.offsets;
        Some(offsets.iter().min()? - self.mark(timeline))
    }

    /// The same packet with a payload of its own, in a buffer that was [given back](Self::recycle).
    pub fn owned(&mut self, packet: &Packet<&[u8]>) -> Packet {
        packet.with(self.packets.copy(packet.payload))
    }

    /// Takes the payload of a [`Packet`] or a [`Following`] back, for those that are to come.
    pub fn recycle(&mut self, payload: Vec<u8>) {
        self.packets.recycle(payload);
    }

    /// A packet came.
    pub fn insert(&mut self, now: Instant, packet: Packet) -> Inserted {
        let Some(timeline) = &self.timeline else {
            self.restart(now, packet);
            return Inserted::Restarted;
        };
        let timestamp = extend(timeline.newest, packet.timestamp);
        let transit = self.transit(timeline, now, timestamp);
        if (transit - timeline.transit).abs() > JUMP {
            return self.suspect(now, packet);
        }
        self.forget_suspect();
        if self.is_known(timestamp) {
            self.recycle(packet.payload);
            return Inserted::Duplicate;
        }
        let newest_played = self.played.back().copied();
        let waiting = !self.packets.is_empty();
        let Some(timeline) = &mut self.timeline else {
            return Inserted::Late;
        };
        // The first packet, and the first that is quicker by so much that it came another way.
        let quicker = transit < timeline.delays.least() - OTHER_WAY;
        if self.path_changed == SETTLING || (self.path_changed > 0 && quicker) {
            timeline.delays = DelayEstimator::new();
        }
        // What still comes by a slower old way says nothing about the new one.
        let slower = transit > timeline.delays.least() + OTHER_WAY;
        if self.path_changed == 0 || self.path_changed == SETTLING || !slower {
            timeline.delays.note(now, transit);
        }
        self.path_changed = self.path_changed.saturating_sub(1);
        let mut place = timestamp;
        if timeline
            .playing
            .as_ref()
            .is_some_and(|playing| timestamp < playing.next)
        {
            let overtaken = newest_played.is_some_and(|played| timestamp < played);
            match self.resume(timestamp, &packet) {
                Some(free) if !overtaken => place = free,
                _ => return self.late(now, packet, overtaken, waiting),
            }
        }
        self.forget_late();
        if let Some(timeline) = &mut self.timeline {
            timeline.stale = 0;
            if timestamp > timeline.newest {
                timeline.newest = timestamp;
                timeline.transit = transit;
            }
        }
        self.packets.insert(place, packet);
        self.bound();
        Inserted::Queued
    }

    /// A packet was restored by redundancy. When it came says nothing about the path, and without a
    /// timeline there is nothing to fill up.
    pub fn insert_restored(&mut self, packet: &Packet<&[u8]>) -> Inserted {
        let Some(timeline) = &self.timeline else {
            return Inserted::Suspect;
        };
        let timestamp = extend(timeline.newest, packet.timestamp);
        if self.nanoseconds(timestamp - timeline.newest).abs() > JUMP {
            return Inserted::Suspect;
        }
        if self.is_known(timestamp) {
            return Inserted::Duplicate;
        }
        let playing = timeline.playing.as_ref();
        if playing.is_some_and(|playing| timestamp < playing.next) {
            return Inserted::Late;
        }
        let packet = self.owned(packet);
        self.packets.insert(timestamp, packet);
        self.bound();
        Inserted::Queued
    }

    /// Late packets are no sign of a longer path any more.
    fn forget_late(&mut self) {
        let late = self.timeline.iter_mut();
        for (_, packet) in late.flat_map(|timeline| timeline.late.drain(..)) {
            self.packets.recycle(packet.payload);
        }
    }

    /// The packet of this timestamp is there, or was played.
    fn is_known(&self, timestamp: i64) -> bool {
        self.packets.contains(timestamp) || self.played.contains(&timestamp)
    }

    /// A packet whose time is over. One that a later packet was played before is lost for good; but
    /// when only such come that nothing was played after, the path has become longer.
    fn late(&mut self, now: Instant, packet: Packet, overtaken: bool, waiting: bool) -> Inserted {
        let Some(timeline) = &mut self.timeline else {
            self.recycle(packet.payload);
            return Inserted::Late;
        };
        let sequence = timeline
            .playing
            .as_ref()
            .map_or(0, |playing| playing.sequence);
        let newer = packet.sequence.wrapping_sub(sequence) < u16::MAX / 2;
        timeline.stale += 1;
        // A talk-spurt that begins in the past, with nothing else to play: the sender's timestamps
        // stood still during its pause.
        let stood_still = packet.marker && newer && !waiting;
        if overtaken && !stood_still && timeline.stale < STALE_RUN {
            self.recycle(packet.payload);
            return Inserted::Late;
        }
        timeline.late.push((now, packet));
        if timeline.late.len() < LATE_RUN && !stood_still && timeline.stale < STALE_RUN {
            return Inserted::Late;
        }
        let mut late = std::mem::take(&mut timeline.late).into_iter();
        if let Some((arrival, packet)) = late.next() {
            self.restart(arrival, packet);
        }
        for (arrival, packet) in late {
            let _ = self.insert(arrival, packet);
        }
        Inserted::Restarted
    }

    /// A tick of the playout begins: to be called once before its [`next`](Self::next)s. `ahead`
    /// is after how long the next packet will be needed, if not in this tick.
    pub fn tick(&mut self, now: Instant, ahead: Duration) -> Advice {
        self.begin_playing(now);
        let Some(timeline) = &self.timeline else {
            return Advice::Keep;
        };
        let Some(playing) = &timeline.playing else {
            return Advice::Keep;
        };
        let offset = self.transit(timeline, now + ahead, playing.next);
        let mark = self.mark(timeline);
        let over = offset - mark;
        let Some(Timeline {
            playing: Some(playing),
            ..
        }) = &mut self.timeline
        else {
            return Advice::Keep;
        };
        if let Some(surplus) = playing.ticked(now, mark, over) {
            // Whole packets: what is left out ends where one begins.
            let packet = i64::from(playing.duration.max(1));
            playing.next += ticks(self.clock_rate, surplus) / packet * packet;
            playing.offsets.clear();
            let next = playing.next;
            self.packets.forget_before(next);
            return Advice::Keep;
        }
        let least = playing.offsets.iter().min().map_or(0, |least| least - mark);
        let enough = if least > FAR_OVER { 10 } else { CALM_TICKS };
        // Packets may still come by the slower way of before.
        let settled = self.path_changed == 0;
        let advice = match least {
            least if settled && least > OVER && playing.offsets.len() >= enough => Advice::Shorten,
            _ if over < -UNDER => Advice::Stretch,
            _ => Advice::Keep,
        };
        if advice != Advice::Keep {
            playing.offsets.clear();
            playing.offsets.push_back(offset);
        }
        advice
    }

    /// What comes next, when the sound taken out before is less than what is needed at `now`.
    pub fn next(&mut self, now: Instant) -> Step {
        let Some(timeline) = &self.timeline else {
            return Step::Wait;
        };
        let Some(playing) = &timeline.playing else {
            return Step::Wait;
        };
        let next = playing.next;
        let behind = self.transit(timeline, now, next) - self.mark(timeline);
        match self.packets.first() {
            // A packet may overlap what was played (a change of frame size): heard twice for some
            // milliseconds rather than not at all.
            Some((timestamp, _)) if timestamp <= next => self.take(),
            Some((timestamp, packet)) => {
                let gap = timestamp - next;
                let absent = packet
                    .sequence
                    .wrapping_sub(playing.sequence)
                    .wrapping_sub(1);
                let pause = pause::before(gap, absent, packet.duration, playing.pause);
                if pause > 0 {
                    return self.pause(pause, behind);
                }
                let distance = u32::try_from(gap).unwrap_or(u32::MAX);
                let duration = distance.min(playing.duration);
                let (sequence, payload_type) = (packet.sequence, packet.payload_type);
                self.skip(i64::from(duration));
                let payload = self.packets.copy_first();
                Step::Missing {
                    duration,
                    next: payload.map(|payload| Following {
                        sequence,
                        payload_type,
                        payload,
                        distance,
                    }),
                    lost: true,
                }
            }
            None if self.pauses(playing) => self.pause(i64::MAX, behind),
            None => {
                let duration = playing.duration;
                // While it waits, the buffer grows by what is made up; too early for the packets
                // that are to come, it should grow anyway.
                if behind < 0 || playing.held < HOLD {
                    self.hold();
                } else {
                    self.skip(i64::from(duration));
                }
                Step::Missing {
                    duration,
                    next: None,
                    lost: true,
                }
            }
        }
    }

    fn take(&mut self) -> Step {
        let Some((timestamp, packet)) = self.packets.pop_first() else {
            return Step::Wait;
        };
        // What came too late before this is overtaken now: it begins no timeline any more.
        self.forget_late();
        if let Some(Timeline {
            playing: Some(playing),
            ..
        }) = &mut self.timeline
        {
            // What seemed to be a pause was one only as far as no packet is absent.
            if playing.pause == Pause::Possible {
                let absent = packet
                    .sequence
                    .wrapping_sub(playing.sequence)
                    .wrapping_sub(1);
                let passed = playing.paused / i64::from(playing.duration);
                let absent = u32::from(absent).saturating_sub(playing.given_up);
                self.unnoticed += absent.min(u32::try_from(passed).unwrap_or(0));
            }
            playing.given_up = 0;
            playing.next = playing.next.max(timestamp + i64::from(packet.duration));
            playing.sequence = packet.sequence;
            playing.duration = packet.duration.max(1);
            playing.pause = packet.pause;
            playing.paused = 0;
            playing.held = 0;
        }
        self.played.push_back(timestamp);
        if self.played.len() > REMEMBERED {
            self.played.pop_front();
        }
        Step::Packet(packet)
    }

    fn skip(&mut self, ticks: i64) {
        if let Some(Timeline {
            playing: Some(playing),
            ..
        }) = &mut self.timeline
        {
            playing.next += ticks;
            playing.given_up = playing.given_up.saturating_add(1);
        }
    }

    fn hold(&mut self) {
        if let Some(Timeline {
            playing: Some(playing),
            ..
        }) = &mut self.timeline
        {
            playing.held = playing.held.saturating_add(1);
        }
    }

    /// Starts the playout when the first packet was held long enough.
    fn begin_playing(&mut self, now: Instant) {
        let Some((first, packet)) = self.packets.first() else {
            return;
        };
        let (sequence, duration) = (packet.sequence.wrapping_sub(1), packet.duration.max(1));
        let initial = self.settings.initial;
        let Some(timeline) = &mut self.timeline else {
            return;
        };
        if timeline.playing.is_none() && now >= timeline.origin + initial {
            timeline.playing = Some(Playing::new(first, sequence, duration));
        }
    }

    /// A packet far off the timeline: two in a row that agree with each other make a new one
    /// (after the probation of RFC 3550 appendix A.1).
    fn suspect(&mut self, now: Instant, packet: Packet) -> Inserted {
        if let Some(earlier) = self.suspect.take() {
            let ticks = packet.timestamp.wrapping_sub(earlier.packet.timestamp) as i32;
            let elapsed = now.saturating_duration_since(earlier.arrival).as_nanos() as i64;
            let off = elapsed - self.nanoseconds(i64::from(ticks));
            let follows = packet.sequence.wrapping_sub(earlier.packet.sequence) == 1;
            if off.abs() < SAME_TIMELINE && follows && ticks > 0 {
                self.restart(earlier.arrival, earlier.packet);
                let _ = self.insert(now, packet);
                return Inserted::Restarted;
            }
            self.recycle(earlier.packet.payload);
        }
        self.suspect = Some(Suspicion {
            arrival: now,
            packet,
        });
        Inserted::Suspect
    }

    fn forget_suspect(&mut self) {
        if let Some(suspicion) = self.suspect.take() {
            self.recycle(suspicion.packet.payload);
        }
    }

    /// Begins a timeline with this packet.
    fn restart(&mut self, now: Instant, packet: Packet) {
        self.packets.clear();
        self.played.clear();
        self.forget_suspect();
        self.path_changed = 0;
        // Extended timestamps begin high enough that packets before the first do not go negative.
        let timestamp = (1i64 << 32) + i64::from(packet.timestamp);
        let mut timeline = Timeline {
            origin: now,
            newest: timestamp,
            transit: 0,
            delays: DelayEstimator::new(),
            late: Vec::with_capacity(LATE_RUN),
            stale: 0,
            playing: None,
        };
        timeline.transit = self.transit(&timeline, now, timestamp);
        timeline.delays.note(now, timeline.transit);
        self.timeline = Some(timeline);
        self.packets.insert(timestamp, packet);
    }

    /// Throws the oldest packets away when there are too many.
    fn bound(&mut self) {
        while self.packets.len() > self.settings.capacity.max(1) {
            let Some((timestamp, packet)) = self.packets.pop_first() else {
                return;
            };
            let end = timestamp + i64::from(packet.duration);
            self.recycle(packet.payload);
            if let Some(Timeline {
                playing: Some(playing),
                ..
            }) = &mut self.timeline
            {
                playing.next = playing.next.max(end);
            }
        }
    }

    /// The offset that is aimed at.
    fn mark(&self, timeline: &Timeline) -> i64 {
        let least = self.settings.minimum.as_nanos() as i64;
        let most = self.settings.maximum.as_nanos() as i64;
        let wanted = timeline.delays.spread() + self.look_ahead.as_nanos() as i64;
        timeline.delays.least() + wanted.clamp(least, most.max(least)) + self.cover
    }

    /// A moment less a timestamp, in nanoseconds on an arbitrary scale.
    fn transit(&self, timeline: &Timeline, at: Instant, timestamp: i64) -> i64 {
        let elapsed = at.saturating_duration_since(timeline.origin).as_nanos() as i64;
        elapsed - self.nanoseconds(timestamp)
    }

    fn nanoseconds(&self, ticks: i64) -> i64 {
        (i128::from(ticks) * 1_000_000_000 / i128::from(self.clock_rate)) as i64
    }
}

fn ticks(clock_rate: u32, nanoseconds: i64) -> i64 {
    (i128::from(nanoseconds) * i128::from(clock_rate) / 1_000_000_000) as i64
}

fn nanoseconds(nanoseconds: i64) -> Duration {
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(0))
}

/// The extended timestamp nearest to `reference` (timestamps wrap after 2^32 ticks).
fn extend(reference: i64, timestamp: u32) -> i64 {
    reference + i64::from(timestamp.wrapping_sub(reference as u32) as i32)
}

#[cfg(test)]
mod tests;
