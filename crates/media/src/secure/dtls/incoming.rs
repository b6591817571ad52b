//! Handshake messages put together again from their fragments, in their order.

use super::wire::{Fragment, Kind, MESSAGE_HEADER, message};

/// The longest message: a chain of certificates, of which only the first counts.
const LONGEST: usize = 16_384;
/// So many messages ahead are kept: no flight has more.
const AHEAD: u16 = 8;
/// So many pieces of one message apart from each other.
const PIECES: usize = 32;

/// A message of which parts have come.
#[derive(Debug)]
struct Partial {
    kind: Kind,
    sequence: u16,
    body: Vec<u8>,
    /// Which bytes have come, as ranges in order that do not touch.
    have: Vec<(usize, usize)>,
}

impl Partial {
    /// Nothing yet of the message that a fragment belongs to.
    fn of(fragment: &Fragment<'_>) -> Self {
        Self {
            kind: fragment.kind,
            sequence: fragment.sequence,
            body: vec![0; fragment.length],
            have: Vec::new(),
        }
    }

    fn is_whole(&self) -> bool {
        self.body.is_empty() || self.have.first() == Some(&(0, self.body.len()))
    }

    fn add(&mut self, fragment: &Fragment<'_>) {
        let end = fragment.offset + fragment.bytes.len();
        let Some(place) = self.body.get_mut(fragment.offset..end) else {
            return;
        };
        // What has come already stays: a later copy cannot change it.
        for (at, (to, from)) in (fragment.offset..).zip(place.iter_mut().zip(fragment.bytes)) {
            if !self
                .have
                .iter()
                .any(|(from, to)| (*from..*to).contains(&at))
            {
                *to = *from;
            }
        }
        self.have.push((fragment.offset, end));
        self.have.sort_unstable();
        let mut joined: Vec<(usize, usize)> = Vec::new();
        for (from, to) in self.have.drain(..) {
            match joined.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(to),
                _ => joined.push((from, to)),
            }
        }
        joined.truncate(PIECES);
        self.have = joined;
    }
}

/// A whole message.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) kind: Kind,
    /// As it is hashed: in one fragment, with its header.
    pub(super) whole: Vec<u8>,
}

impl Message {
    pub(super) fn body(&self) -> &[u8] {
        self.whole.get(MESSAGE_HEADER..).unwrap_or_default()
    }
}

/// The peer's messages.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    next: u16,
    partial: Vec<Partial>,
}

impl Incoming {
    /// Takes a fragment. False if its message was complete before: the peer repeats itself.
    pub(super) fn push(&mut self, fragment: &Fragment<'_>) -> bool {
        let Some(ahead) = fragment.sequence.checked_sub(self.next) else {
            return false;
        };
        if ahead >= AHEAD || fragment.length > LONGEST {
            return true;
        }
        let begun = self
            .partial
            .iter()
            .position(|p| p.sequence == fragment.sequence);
        let at = begun.unwrap_or_else(|| {
            self.partial.push(Partial::of(fragment));
            self.partial.len() - 1
        });
        if let Some(partial) = self.partial.get_mut(at) {
            // Two messages cannot have one number: one of them is forged. The later one stays, since
            // the peer repeats its own.
            if (partial.kind, partial.body.len()) != (fragment.kind, fragment.length) {
                *partial = Partial::of(fragment);
            }
            partial.add(fragment);
        }
        true
    }

    /// How many bytes of messages are kept.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.partial.iter().map(|partial| partial.body.len()).sum()
    }

    /// The next message in order, once it is whole.
    pub(super) fn pop(&mut self) -> Option<Message> {
        let mut partials = self.partial.iter();
        let at =
            partials.position(|partial| partial.sequence == self.next && partial.is_whole())?;
        let Partial {
            kind,
            sequence,
            body,
            ..
        } = self.partial.swap_remove(at);
        self.next = self.next.checked_add(1)?;
        Some(Message {
            kind,
            whole: message(kind, sequence, &body),
        })
    }
}
