//! DTLS 1.2 (RFC 6347) as far as SRTP needs it (RFC 5764): a handshake that both sides prove their
//! certificates in, and that ends with keys.
//!
//! [`Dtls`] is sans-IO. After each `handle_*`, drain [`Dtls::poll_transmit`] and look at
//! [`Dtls::poll_event`]; call [`Dtls::handle_timeout`] at [`Dtls::poll_timeout`].

mod exchange;
mod handshake;
mod hello;
mod identity;
mod incoming;
mod outgoing;
mod schedule;
#[cfg(test)]
mod tests;
mod wire;

use std::sync::Arc;
use std::time::{Duration, Instant};

pub use identity::{Fingerprint, FingerprintHash, Identity};

use handshake::{Abort, Handshake};
use incoming::Incoming;
use outgoing::Outgoing;
use wire::{ALERT, HANDSHAKE, Reader, Record, next_fragment, next_record};

use super::{LONGEST_PACKET, SrtpKeys};

/// So many datagrams one association takes before it has keys. A handshake has about eight;
/// losses and repetitions come on top.
const MOST_DATAGRAMS: u32 = 256;
/// So many protected records that came before their keys are kept.
const EARLY_RECORDS: usize = 4;
/// The time until an unanswered flight is sent again, without a measured round trip and at least.
const FIRST_WAIT: Duration = Duration::from_millis(400);
const SHORTEST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Something that DTLS needs is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("DTLS could not be set up: {0}")]
pub struct DtlsError(String);

/// Who speaks first (RFC 4145 section 4, RFC 5763 section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DtlsRole {
    /// The TLS client.
    Active,
    /// The TLS server.
    Passive,
}

impl DtlsRole {
    fn other(self) -> Self {
        match self {
            Self::Active => Self::Passive,
            Self::Passive => Self::Active,
        }
    }
}

/// Why there are no keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DtlsFailure {
    /// The peer's certificate is not the one that its SDP names.
    #[error("the peer's certificate does not fit its fingerprint")]
    WrongFingerprint,
    /// The peer ended the handshake with this alert (RFC 5246 section 7.2).
    #[error("the peer refused the handshake (alert {0})")]
    Refused(u8),
    /// The peer broke the rules, or has nothing in common with us.
    #[error("the handshake cannot go on: {0}")]
    Unacceptable(&'static str),
    /// Too many datagrams came without an end.
    #[error("the handshake does not come to an end")]
    TooLong,
}

/// What came of a handshake.
#[derive(Debug)]
pub enum DtlsEvent {
    /// Both sides proved who they are; these are the keys. SRTP may be sent and taken.
    Keys(Box<SrtpKeys>),
    /// There will be none.
    Failed(DtlsFailure),
}

/// One DTLS association.
pub struct Dtls {
    handshake: Handshake,
    incoming: Incoming,
    outgoing: Outgoing,
    /// Bodies of protected records that overtook what their keys follow from.
    early: Vec<Vec<u8>>,
    datagrams: u32,
    event: Option<DtlsEvent>,
    ended: bool,
}

impl std::fmt::Debug for Dtls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dtls")
            .field("datagrams", &self.datagrams)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

impl Dtls {
    /// A handshake with the peer that has one of these certificates. The active side's ClientHello
    /// is ready at once. `round_trip` of the path, where it is known, says how soon a lost flight
    /// is sent again.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn new(
        now: Instant,
        identity: &Arc<Identity>,
        role: DtlsRole,
        peer: Vec<Fingerprint>,
        round_trip: Option<Duration>,
    ) -> Result<Self, DtlsError> {
        let wait = round_trip.map_or(FIRST_WAIT, |rtt| {
            (rtt * 2).clamp(SHORTEST_WAIT, LONGEST_WAIT)
        });
        let mut outgoing = Outgoing::new(wait);
        let handshake = Handshake::begin(now, Arc::clone(identity), role, peer, &mut outgoing)
            .ok_or_else(|| DtlsError("no randomness".to_owned()))?;
        Ok(Self {
            handshake,
            incoming: Incoming::default(),
            outgoing,
            early: Vec::new(),
            datagrams: 0,
            event: None,
            ended: false,
        })
    }

    /// Takes a datagram of the peer's. What is no DTLS, or makes no sense, is left out.
    pub fn handle_packet(&mut self, now: Instant, datagram: &[u8]) {
        if datagram.len() > LONGEST_PACKET || self.datagrams >= MOST_DATAGRAMS {
            if !self.ended && self.datagrams >= MOST_DATAGRAMS {
                self.fail(None, DtlsFailure::TooLong);
            }
            return;
        }
        self.datagrams += 1;
        let mut reader = Reader(datagram);
        while let Some(record) = next_record(&mut reader) {
            match (record.content, record.epoch) {
                (HANDSHAKE, 0) => self.handle_messages(now, record.body, 0),
                (HANDSHAKE, 1) => self.handle_protected(now, &record),
                (ALERT, 0) => self.handle_alert(record.body),
                // ChangeCipherSpec says nothing that the epoch does not. There is no other data.
                _ => {}
            }
        }
    }

    /// The peer may be about to begin only now: what awaits an answer is sent again.
    pub fn hurry(&mut self, now: Instant) {
        self.outgoing.hurry(now);
    }

    /// The passive side asks the active one to begin. It says nothing new to it, but opens the way
    /// through our NAT or relay, where no connectivity checks have.
    pub fn knock(&mut self) {
        if self.datagrams == 0 && !self.ended {
            self.outgoing.ask();
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.outgoing.handle_timeout(now);
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.outgoing.poll_timeout()
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.outgoing.poll_transmit()
    }

    /// What came of the handshake, once.
    pub fn poll_event(&mut self) -> Option<DtlsEvent> {
        self.event.take()
    }

    fn handle_protected(&mut self, now: Instant, record: &Record<'_>) {
        match &self.handshake.read {
            Some(read) => {
                if let Some(body) = read.open(record) {
                    self.handle_messages(now, &body, 1);
                }
            }
            None if self.early.len() < EARLY_RECORDS => {
                let number = [&record.epoch.to_be_bytes()[..], &record.sequence].concat();
                self.early.push([&number[..], record.body].concat());
            }
            None => {}
        }
    }

    /// Records that were kept until their keys are there.
    fn handle_early(&mut self, now: Instant) {
        if self.handshake.read.is_none() {
            return;
        }
        for kept in std::mem::take(&mut self.early) {
            let mut reader = Reader(&kept);
            if let (Some(epoch), Some(sequence)) = (reader.u16(), reader.array()) {
                let record = Record {
                    content: HANDSHAKE,
                    epoch,
                    sequence,
                    body: reader.0,
                };
                self.handle_protected(now, &record);
            }
        }
    }

    fn handle_messages(&mut self, now: Instant, record: &[u8], epoch: u16) {
        let mut reader = Reader(record);
        let mut repeats = false;
        while let Some(fragment) = next_fragment(&mut reader) {
            repeats |= !self.incoming.push(&fragment);
            while !self.ended
                && let Some(message) = self.incoming.pop()
            {
                let step = self
                    .handshake
                    .handle(now, &message, epoch, &mut self.outgoing);
                match step {
                    Ok(()) => self.take_keys(),
                    Err(Abort { alert, failure }) => self.fail(Some(alert), failure),
                }
                self.handle_early(now);
            }
        }
        if repeats {
            self.outgoing.repeat(now);
        }
    }

    fn take_keys(&mut self) {
        if let Some(keys) = self.handshake.keys.take() {
            self.ended = true;
            self.event = Some(DtlsEvent::Keys(Box::new(keys)));
        }
    }

    /// Alerts before the keys are protected by nothing, and whoever can forge one can as well
    /// suppress the handshake. Those after it mean nothing here: the end of a call is SIP's.
    fn handle_alert(&mut self, body: &[u8]) {
        if let [2, description] = *body
            && !self.ended
        {
            self.fail(None, DtlsFailure::Refused(description));
        }
    }

    fn fail(&mut self, alert: Option<u8>, failure: DtlsFailure) {
        self.ended = true;
        self.outgoing.begin();
        if let Some(alert) = alert {
            self.outgoing.alert(alert);
        }
        self.event = Some(DtlsEvent::Failed(failure));
    }
}
