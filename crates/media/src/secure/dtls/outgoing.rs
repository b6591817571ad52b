//! Our flights: numbered, packed into datagrams, and sent again until they are answered.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::schedule::{Protection, record};
use super::wire::{ALERT, CHANGE_CIPHER_SPEC, HANDSHAKE, Kind, MESSAGE_HEADER, message};

/// What a datagram holds at most, in bytes; a path that carries less fragments it.
const DATAGRAM: usize = 1_200;
/// The longest time between two sendings of a flight.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// One record of a flight, before it is numbered and protected.
#[derive(Debug, Clone)]
enum Part {
    Message(Vec<u8>),
    ChangeCipherSpec,
    /// In epoch 1.
    Finished(Vec<u8>),
}

/// So often a flight is sent again before the time between doubles: somebody waits for the ring, and
/// there are few of them.
const QUICK_SENDINGS: u32 = 4;

/// What is sent, and when again.
pub(super) struct Outgoing {
    next_message: u16,
    /// The next record's number in each epoch.
    next_record: [u64; 2],
    protection: Option<Protection>,
    flight: Vec<Part>,
    datagrams: VecDeque<Vec<u8>>,
    /// The time until the flight is sent again, unless it is answered.
    first_wait: Duration,
    wait: Duration,
    /// How often the flight was sent.
    sendings: u32,
    due: Option<Instant>,
    last_sent: Option<Instant>,
}

impl Outgoing {
    pub(super) fn new(first_wait: Duration) -> Self {
        Self {
            next_message: 0,
            next_record: [0, 0],
            protection: None,
            flight: Vec::new(),
            datagrams: VecDeque::new(),
            first_wait,
            wait: first_wait,
            sendings: 0,
            due: None,
            last_sent: None,
        }
    }

    /// A new flight begins; the one before is answered.
    pub(super) fn begin(&mut self) {
        self.flight.clear();
        self.due = None;
    }

    /// Adds a message to the flight, and gives it as it is hashed.
    pub(super) fn add(&mut self, kind: Kind, body: &[u8]) -> Vec<u8> {
        let message = self.number(kind, body);
        self.flight.push(Part::Message(message.clone()));
        message
    }

    /// Adds ChangeCipherSpec and Finished to the flight.
    pub(super) fn add_finished(&mut self, protection: Protection, verify_data: &[u8]) -> Vec<u8> {
        let message = self.number(Kind::Finished, verify_data);
        self.protection = Some(protection);
        self.flight.push(Part::ChangeCipherSpec);
        self.flight.push(Part::Finished(message.clone()));
        message
    }

    fn number(&mut self, kind: Kind, body: &[u8]) -> Vec<u8> {
        let message = message(kind, self.next_message, body);
        self.next_message += 1;
        message
    }

    /// Sends the flight, again and again if an answer is awaited.
    pub(super) fn send(&mut self, now: Instant, awaits_answer: bool) {
        self.wait = self.first_wait;
        self.sendings = 0;
        self.due = awaits_answer.then(|| now + self.wait);
        self.send_flight(now);
    }

    fn send_flight(&mut self, now: Instant) {
        self.last_sent = Some(now);
        // What nobody has fetched yet is sent again now.
        self.datagrams.clear();
        let mut datagram = Vec::new();
        for part in self.flight.clone() {
            let Some(record) = self.record(&part) else {
                return;
            };
            if !datagram.is_empty() && datagram.len() + record.len() > DATAGRAM {
                self.datagrams.push_back(std::mem::take(&mut datagram));
            }
            datagram.extend(record);
        }
        self.datagrams.push_back(datagram);
    }

    fn record(&mut self, part: &Part) -> Option<Vec<u8>> {
        match part {
            Part::Message(message) => Some(self.clear(HANDSHAKE, message)),
            Part::ChangeCipherSpec => Some(self.clear(CHANGE_CIPHER_SPEC, &[1])),
            Part::Finished(message) => {
                let number = self.next_number(1);
                let body = self.protection.as_ref()?.seal(number, HANDSHAKE, message)?;
                Some(record(HANDSHAKE, number, &body))
            }
        }
    }

    fn clear(&mut self, content: u8, body: &[u8]) -> Vec<u8> {
        let number = self.next_number(0);
        record(content, number, body)
    }

    /// Epoch and sequence number: 16 and 48 bits.
    fn next_number(&mut self, epoch: u16) -> [u8; 8] {
        let mut sequence = 0;
        if let Some(next) = self.next_record.get_mut(usize::from(epoch)) {
            sequence = *next;
            *next += 1;
        }
        (u64::from(epoch) << 48 | sequence).to_be_bytes()
    }

    /// Asks the peer to begin (RFC 5246 section 7.4.1.1), which it may do as well without.
    pub(super) fn ask(&mut self) {
        let request = self.clear(HANDSHAKE, &[0; MESSAGE_HEADER]);
        self.datagrams.push_back(request);
    }

    /// A fatal alert, so that the peer need not wait for nothing.
    pub(super) fn alert(&mut self, description: u8) {
        let alert = self.clear(ALERT, &[2, description]);
        self.datagrams.push_back(alert);
        self.due = None;
        self.flight.clear();
    }

    /// The flight is answered, and none follows.
    pub(super) fn rest(&mut self) {
        self.due = None;
    }

    /// The peer repeats its flight: ours was lost, or has just crossed it.
    pub(super) fn repeat(&mut self, now: Instant) {
        let crossed = self
            .last_sent
            .is_none_or(|last| now < last + self.first_wait / 2);
        if !crossed && !self.flight.is_empty() {
            self.send_flight(now);
        }
    }

    /// An answer is to be expected soon: the flight is sent again, and its waiting begins anew.
    pub(super) fn hurry(&mut self, now: Instant) {
        if self.due.is_some() {
            self.send(now, true);
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.due.is_some_and(|due| due <= now) {
            self.sendings += 1;
            if self.sendings > QUICK_SENDINGS {
                self.wait = (self.wait * 2).min(LONGEST_WAIT);
            }
            self.due = Some(now + self.wait);
            self.send_flight(now);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    pub(super) fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.datagrams.pop_front()
    }
}
