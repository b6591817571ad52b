//! Reception of telephone events (RFC 4733): the keys that the peer presses.

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
}
