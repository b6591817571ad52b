//! Telephone events (RFC 4733): the keys that the peer presses, and those that are pressed here.

use std::collections::VecDeque;

/// The keys of events 0 to 15 (RFC 4733 section 3.2).
const KEYS: [char; 16] = [
    '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', '*', '#', 'A', 'B', 'C', 'D',
];

/// Tells one press of a key from the many packets that announce it.
#[derive(Debug, Default)]
pub(crate) struct KeyReceiver {
    last: Option<Event>,
}

#[derive(Clone, Copy, Debug)]
struct Event {
    code: u8,
    timestamp: u32,
    duration: u16,
}

impl KeyReceiver {
    /// A packet of the payload type came: the key, if it is a press that was not yet reported.
    pub(crate) fn received(
        &mut self,
        marker: bool,
        timestamp: u32,
        payload: &[u8],
    ) -> Option<char> {
        // RFC 4733 section 2.3; several events may follow each other, the first is the newest.
        let &[code, _, high, low, ..] = payload else {
            return None;
        };
        let key = *KEYS.get(usize::from(code))?;
        let event = Event {
            code,
            timestamp,
            duration: u16::from_be_bytes([high, low]),
        };
        let Some(last) = self.last else {
            self.last = Some(event);
            return Some(key);
        };
        let later = timestamp.wrapping_sub(last.timestamp);
        // The timestamp is that of the press, in all of its packets (section 2.2.1). An older one
        // was overtaken.
        if later == 0 || later > u32::MAX / 2 {
            self.last = Some(Event {
                duration: last.duration.max(event.duration),
                ..last
            });
            return None;
        }
        // A press too long for the field goes on in a new segment, without a marker, exactly
        // where the last one ended (section 2.5.1.3).
        let segment = !marker
            && code == last.code
            && last.duration > u16::MAX - 0x1000
            && later <= u32::from(u16::MAX);
        self.last = Some(event);
        (!segment).then_some(key)
    }
}

/// Presses that wait for their turn.
const WAITING: usize = 32;
/// A press and the rest after it last this share of a second: 100 and 60 ms.
const PRESS: u32 = 10;
const REST: u32 = 16;
/// How often the end of a press is told (RFC 4733 section 2.5.1.4).
const ENDS: u8 = 3;
/// The loudness that a key has for a peer that plays it: -10 dBm0.
const VOLUME: u8 = 10;

/// Tells the peer of the keys that are pressed here.
#[derive(Debug, Default)]
pub(crate) struct KeySender {
    waiting: VecDeque<u8>,
    press: Option<Press>,
    /// Ticks until the next press.
    rest: u32,
}

#[derive(Clone, Copy, Debug)]
struct Press {
    code: u8,
    timestamp: u32,
    duration: u32,
    ends: u8,
}

/// What a packet about a key says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyPacket {
    /// That of the press, in all of its packets.
    pub(crate) timestamp: u32,
    /// The press begins.
    pub(crate) marker: bool,
    pub(crate) payload: [u8; 4],
}

impl KeySender {
    /// The key is pressed as soon as those before it were. `false`: there is no such key, or too
    /// many wait.
    pub(crate) fn press(&mut self, key: char) -> bool {
        let key = key.to_ascii_uppercase();
        let Some(code) = KEYS.iter().position(|known| *known == key) else {
            return false;
        };
        let room = self.waiting.len() < WAITING;
        if room {
            self.waiting.push_back(code as u8);
        }
        room
    }

    /// What to send in place of the sound of these `ticks`, which begins at `timestamp`, if a key
    /// is pressed then.
    pub(crate) fn step(
        &mut self,
        timestamp: u32,
        ticks: u32,
        clock_rate: u32,
    ) -> Option<KeyPacket> {
        if self.press.is_none() {
            self.rest = self.rest.saturating_sub(ticks);
        }
        if self.press.is_none() && self.rest == 0 {
            self.press = self.waiting.pop_front().map(|code| Press {
                code,
                timestamp,
                duration: 0,
                ends: 0,
            });
        }
        let press = self.press.as_mut()?;
        let marker = press.duration == 0;
        if press.ends == 0 {
            press.duration = press.duration.saturating_add(ticks);
            press.ends = u8::from(press.duration >= clock_rate / PRESS);
        } else {
            press.ends += 1;
        }
        let [high, low] = (press.duration.min(0xffff) as u16).to_be_bytes();
        let end = if press.ends > 0 { 0x80 } else { 0 };
        let packet = KeyPacket {
            timestamp: press.timestamp,
            marker,
            payload: [press.code, end | VOLUME, high, low],
        };
        if press.ends == ENDS {
            self.press = None;
            self.rest = clock_rate / REST;
        }
        Some(packet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_press_is_reported_once_however_many_packets_tell_of_it() {
        let mut keys = KeyReceiver::default();
        assert_eq!(keys.received(true, 1_000, &[5, 10, 0, 160]), Some('5'));
        for duration in 2..10u8 {
            assert_eq!(keys.received(false, 1_000, &[5, 10, duration, 0]), None);
        }
        for _ in 0..3 {
            assert_eq!(keys.received(false, 1_000, &[5, 0x80 | 10, 10, 0]), None);
        }
        // The same key again, then another whose first packet was lost.
        assert_eq!(keys.received(true, 9_000, &[5, 10, 0, 160]), Some('5'));
        assert_eq!(keys.received(false, 20_000, &[11, 10, 1, 160]), Some('#'));
        assert_eq!(keys.received(false, 9_000, &[5, 0x8a, 1, 160]), None);
    }

    #[test]
    fn a_very_long_press_is_one_press() {
        let mut keys = KeyReceiver::default();
        assert_eq!(
            keys.received(true, u32::MAX - 10, &[0, 10, 0, 160]),
            Some('0')
        );
        assert_eq!(
            keys.received(false, u32::MAX - 10, &[0, 10, 0xff, 0xff]),
            None
        );
        let next = (u32::MAX - 10).wrapping_add(0xffff);
        assert_eq!(keys.received(false, next, &[0, 10, 0, 160]), None);
    }

    #[test]
    fn nonsense_is_ignored() {
        let mut keys = KeyReceiver::default();
        assert_eq!(keys.received(true, 0, &[]), None);
        assert_eq!(keys.received(true, 0, &[1, 2, 3]), None);
        assert_eq!(keys.received(true, 0, &[16, 10, 0, 160]), None);
    }

    #[test]
    fn a_press_is_told_as_it_grows_and_its_end_three_times() {
        let mut keys = KeySender::default();
        assert!(keys.press('#') && keys.press('a') && !keys.press('x'));
        let mut sent = Vec::new();
        for n in 0..25u32 {
            sent.push(keys.step(5_000 + n * 160, 160, 8_000));
        }
        let first: Vec<KeyPacket> = sent.iter().flatten().take(7).copied().collect();
        let durations = first
            .iter()
            .map(|key| u32::from(key.payload[3]) + 256 * u32::from(key.payload[2]));
        assert!(durations.eq([160, 320, 480, 640, 800, 800, 800]));
        assert!(
            first
                .iter()
                .all(|key| key.timestamp == 5_000 && key.payload[0] == 11)
        );
        let marks: Vec<bool> = first.iter().map(|key| key.marker).collect();
        assert_eq!(marks, [true, false, false, false, false, false, false]);
        let ends = first.iter().filter(|key| key.payload[1] == 0x8a).count();
        assert_eq!((ends, first[0].payload[1]), (3, 10));
        // Sound for 60 ms, then the next key; a receiver takes each once.
        assert!(sent[7..10].iter().all(Option::is_none));
        let mut receiver = KeyReceiver::default();
        let heard: String = sent
            .iter()
            .flatten()
            .filter_map(|key| receiver.received(key.marker, key.timestamp, &key.payload))
            .collect();
        assert_eq!(heard, "#A");
        assert!((0..40).filter(|_| keys.press('1')).count() == WAITING);
    }
}
