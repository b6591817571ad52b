//! What goes into the jitter buffer and what comes out.

use std::time::Duration;

/// How the buffer behaves.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long the first packet is held before the playout begins.
    pub initial: Duration,
    /// The least that is added to the quickest packet's way: it covers the playout's own ticks.
    pub minimum: Duration,
    /// The most that is aimed at.
    pub maximum: Duration,
    /// The most packets that are held.
    pub capacity: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            initial: Duration::from_millis(20),
            minimum: Duration::from_millis(4),
            maximum: Duration::from_millis(400),
            capacity: 200,
        }
    }
}

/// An RTP packet, as far as the buffer is concerned, which owns its payload or has it lent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet<P = Vec<u8>> {
    /// RTP sequence number.
    pub sequence: u16,
    /// RTP timestamp.
    pub timestamp: u32,
    /// The marker bit: a talk-spurt begins (RFC 3551 section 4.1).
    pub marker: bool,
    /// RTP payload type.
    pub payload_type: u8,
    /// How long it lasts, in ticks of the RTP clock.
    pub duration: u32,
    /// Whether the sender may send nothing after it.
    pub pause: Pause,
    /// The payload.
    pub payload: P,
}

impl<P: AsRef<[u8]>> Packet<P> {
    /// The packet, with its payload lent.
    pub fn lent(&self) -> Packet<&[u8]> {
        self.with(self.payload.as_ref())
    }

    /// The packet with this payload.
    pub(crate) fn with<Q>(&self, payload: Q) -> Packet<Q> {
        Packet {
            sequence: self.sequence,
            timestamp: self.timestamp,
            marker: self.marker,
            payload_type: self.payload_type,
            duration: self.duration,
            pause: self.pause,
            payload,
        }
    }
}

/// Whether the sender may send nothing after a packet, without a loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pause {
    /// More should follow at once.
    #[default]
    No,
    /// Nobody spoke in it: a pause may follow without a word, as it does with many senders of Opus.
    Possible,
    /// It says that a pause has begun: comfort noise, or Opus of one or two octets.
    Begun,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It waits to be played.
    Queued,
    /// The timeline starts anew with it: the sender's clock or the path has jumped.
    Restarted,
    /// It was there already, or was played already.
    Duplicate,
    /// Its time to be played is over.
    Late,
    /// Its timestamp is far off. A second packet like it would start the timeline anew.
    Suspect,
}

/// The packet after a gap: it may hold FEC data, and tells where the sound leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Following {
    /// RTP sequence number.
    pub sequence: u16,
    /// RTP payload type.
    pub payload_type: u8,
    /// The payload.
    pub payload: Vec<u8>,
    /// How long after the begin of what is missing it begins, in ticks of the RTP clock.
    pub distance: u32,
}

/// What to play next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Decode this.
    Packet(Packet),
    /// Sound is missing.
    Missing {
        /// How much, in ticks of the RTP clock.
        duration: u32,
        /// The packet after the gap, if a packet was lost and a later one is there.
        next: Option<Following>,
        /// `false`: the sender made a pause (DTX). `true`: a packet was lost or comes too late.
        lost: bool,
    },
    /// Nothing has to be played yet: nothing came, or the first packets are being held.
    Wait,
}

/// What the owner should do to the sound, by some milliseconds, to bring the playout to its mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Leave it.
    Keep,
    /// Stretch it: the buffer grows.
    Stretch,
    /// Shorten it: the buffer shrinks.
    Shorten,
}

/// How long a packet can wait before it is thrown away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reach {
    /// At what is aimed at now,
    pub(crate) now: Duration,
    /// and at the most that can be aimed at.
    pub(crate) ever: Duration,
}
