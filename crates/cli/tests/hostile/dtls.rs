//! DTLS handshakes under attack.
//!
//! ```text
//!   active ───── attacker ───── passive
//! ```
//!
//! Their randomness is the system's: a seed shows the same changes again, at the same places of
//! messages that differ in their keys and by a few bytes in their lengths.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use ringtrue_media::secure::{Dtls, DtlsEvent, DtlsFailure, DtlsRole, Identity, Srtp, SrtpKeys};
use ringtrue_testnet::{Dice, fuzz};

const ACTIVE: usize = 0;
const PASSIVE: usize = 1;
/// So much one datagram brings forth at most: a flight of two datagrams, and an alert.
const MOST_ANSWERS: usize = 3;
const MOST_BYTES: usize = 3 * 1_300;
/// By then two ends that nobody disturbs any more have come to an end, whatever came before.
const EVERYTHING: Duration = Duration::from_secs(20);

/// Two that know each other's certificate, and one that nobody knows.
fn identities() -> &'static [Arc<Identity>; 3] {
    static IDENTITIES: OnceLock<[Arc<Identity>; 3]> = OnceLock::new();
    IDENTITIES
        .get_or_init(|| [0; 3].map(|_| Arc::new(Identity::generate().expect("a certificate"))))
}

struct End {
    dtls: Dtls,
    keys: Option<SrtpKeys>,
    failed: Option<DtlsFailure>,
}

impl End {
    fn new(now: Instant, role: DtlsRole, me: &Arc<Identity>, peer: &Identity) -> Self {
        let round_trip = Some(Duration::from_millis(40));
        let dtls = Dtls::new(now, me, role, vec![peer.fingerprint()], round_trip);
        Self {
            dtls: dtls.expect("an association"),
            keys: None,
            failed: None,
        }
    }

    fn is_decided(&self) -> bool {
        self.keys.is_some() || self.failed.is_some()
    }
}

struct Handshake {
    now: Instant,
    ends: [End; 2],
    /// What is on its way, and to whom.
    on_the_way: VecDeque<(usize, Vec<u8>)>,
    /// Everything that the ends sent, and to whom.
    sent: Vec<(usize, Vec<u8>)>,
}

impl Handshake {
    /// `active` and `passive` are the certificates that the two have; they expect the first two.
    fn begin(active: usize, passive: usize) -> Self {
        let now = Instant::now();
        let known = identities();
        let mut handshake = Self {
            now,
            ends: [
                End::new(now, DtlsRole::Active, &known[active], &known[PASSIVE]),
                End::new(now, DtlsRole::Passive, &known[passive], &known[ACTIVE]),
            ],
            on_the_way: VecDeque::new(),
            sent: Vec::new(),
        };
        handshake.drain(ACTIVE);
        handshake
    }

    fn hand(&mut self, side: usize, datagram: &[u8]) {
        self.ends[side].dtls.handle_packet(self.now, datagram);
        self.drain(side);
    }

    fn drain(&mut self, side: usize) {
        let end = &mut self.ends[side];
        if let Some(event) = end.dtls.poll_event() {
            assert!(!end.is_decided(), "decided twice: {event:?}");
            match event {
                DtlsEvent::Keys(keys) => end.keys = Some(*keys),
                DtlsEvent::Failed(why) => end.failed = Some(why),
            }
        }
        assert!(end.dtls.poll_event().is_none(), "two ends at once");
        let sent: Vec<_> = std::iter::from_fn(|| end.dtls.poll_transmit())
            .take(MOST_ANSWERS + 1)
            .collect();
        let bytes: usize = sent.iter().map(Vec::len).sum();
        let many = sent.len();
        assert!(
            many <= MOST_ANSWERS && bytes <= MOST_BYTES,
            "{many} {bytes}"
        );
        for datagram in sent {
            self.sent.push((1 - side, datagram.clone()));
            self.on_the_way.push_back((1 - side, datagram));
        }
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        for side in [ACTIVE, PASSIVE] {
            self.ends[side].dtls.handle_timeout(self.now);
            self.drain(side);
        }
    }

    /// Something honest arrives, perhaps out of its order or twice.
    fn deliver(&mut self, dice: &mut Dice) {
        let first = dice.percent(70);
        let at = if first {
            0
        } else {
            dice.below(self.on_the_way.len())
        };
        if let Some((side, datagram)) = self.on_the_way.remove(at) {
            self.hand(side, &datagram);
            if dice.percent(20) {
                self.hand(side, &datagram);
            }
        }
    }

    /// Nobody disturbs the line any more.
    fn settle(&mut self) {
        let end = self.now + EVERYTHING;
        while self.now < end && !self.is_over() {
            while let Some((side, datagram)) = self.on_the_way.pop_front() {
                self.hand(side, &datagram);
            }
            let timers = self.ends.iter().filter_map(|end| end.dtls.poll_timeout());
            let Some(next) = timers.min() else {
                return;
            };
            self.wait(next.max(self.now) - self.now);
        }
    }

    fn is_over(&self) -> bool {
        let [active, passive] = &self.ends;
        active.failed.is_some()
            || passive.failed.is_some()
            || active.keys.is_some() && passive.keys.is_some()
    }

    /// Whether both have keys, which then are the same.
    fn have_keys(&self) -> bool {
        let [Some(active), Some(passive)] = [&self.ends[0].keys, &self.ends[1].keys] else {
            return false;
        };
        let mut both = [active, passive].map(|keys| Srtp::new(keys).expect("good keys"));
        let clear = [0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9, b'h', b'i'];
        for side in [ACTIVE, PASSIVE] {
            let sent = both[side].protect_rtp(&clear).expect("a packet");
            let got = both[1 - side].unprotect_rtp(&sent);
            assert_eq!(got.as_deref(), Ok(&clear[..]), "the keys differ");
        }
        true
    }
}

/// What some handshakes consist of: good ones, and two in which somebody is not who he should be.
pub fn recording() -> &'static [Vec<u8>] {
    static RECORDING: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    RECORDING.get_or_init(|| {
        let mut sent = Vec::new();
        for (active, passive) in [(0, 1), (0, 1), (2, 1), (0, 2)] {
            let mut handshake = Handshake::begin(active, passive);
            handshake.settle();
            assert_eq!(handshake.have_keys(), (active, passive) == (0, 1));
            sent.extend(handshake.sent.into_iter().map(|(_, datagram)| datagram));
        }
        assert!(sent.len() > 12);
        sent
    })
}

/// Bytes of a record's header, and of it with a handshake message's.
const RECORD_HEADER: usize = 13;
const BOTH_HEADERS: usize = 25;

/// A datagram after the attacker had it.
pub fn damaged(dice: &mut Dice, datagram: &[u8]) -> Vec<u8> {
    let mut bytes = datagram.to_vec();
    match dice.below(6) {
        0 => bytes.truncate(dice.below(bytes.len())),
        1 => {
            let at = dice.below(bytes.len());
            bytes[at] ^= 1 << dice.below(8);
        }
        // Kind, lengths, numbers and offsets of what is sound besides.
        2 | 3 => {
            let at = dice.below(BOTH_HEADERS.min(bytes.len()));
            bytes[at] = *dice.pick(&[0, 1, 2, 20, 22, 0x7f, 0xfe, 0xff]);
        }
        4 => bytes.extend(dice.pick(recording())),
        _ => bytes = dice.mutate(datagram, recording()),
    }
    bytes
}

/// Whatever comes from whomever: no more goes out than a handshake has, both ends have the same keys or
/// none, and an end that will never have any says so.
#[test]
fn handshakes_under_attack() {
    let recorded = recording();
    fuzz("dtls", 400, |dice| {
        let mut handshake = Handshake::begin(ACTIVE, PASSIVE);
        // From few to more than an association takes.
        let most = *dice.pick(&[3, 10, 40, 300]);
        let rounds = dice.below(most);
        for _ in 0..rounds {
            let own = dice.percent(60);
            let seed = if own {
                dice.pick(&handshake.sent).1.clone()
            } else {
                dice.pick(recorded).clone()
            };
            let payload = if dice.percent(80) {
                damaged(dice, &seed)
            } else {
                seed
            };
            handshake.hand(dice.below(2), &payload);
            if dice.percent(30) {
                handshake.deliver(dice);
            }
            if dice.percent(20) {
                handshake.wait(Duration::from_millis(dice.below(300) as u64));
            }
        }
        handshake.settle();
        assert!(
            handshake.is_over(),
            "no keys, and no reason: {:?}",
            handshake.ends.map(|end| end.dtls)
        );
        handshake.have_keys();
        rounds as u64
    });
}

/// A datagram that may not change anything: it was there before, is cut short, has no valid
/// protection, or is nothing that a handshake has.
fn harmless(dice: &mut Dice, handshake: &Handshake) -> (usize, Vec<u8>) {
    let (side, mut bytes) = dice.pick(&handshake.sent).clone();
    match dice.below(5) {
        0 => {}
        1 => bytes.truncate(dice.below(bytes.len())),
        2 => {
            let epoch = &mut bytes[3..5];
            epoch.copy_from_slice(&[0, 1 + dice.below(3) as u8]);
        }
        3 => {
            let length = dice.below(2_000);
            bytes = dice.bytes(length);
            // Neither a record of a handshake nor an alert.
            if let Some(first) = bytes.first_mut() {
                *first = *dice.pick(&[0, 19, 20, 23, 24, 63, 128, 255]);
            }
        }
        _ => {
            bytes.truncate(RECORD_HEADER);
            // Application data before there are keys, and a ChangeCipherSpec that says nothing.
            bytes[0] = *dice.pick(&[20, 23]);
            bytes[11..].copy_from_slice(&[0, 1]);
            bytes.push(1);
        }
    }
    (side, bytes)
}

/// As long as nothing is forged that only the peer could know to be false, they come to their keys.
#[test]
fn handshakes_that_nothing_stops() {
    fuzz("dtls-harmless", 300, |dice| {
        let mut handshake = Handshake::begin(ACTIVE, PASSIVE);
        let rounds = dice.below(60);
        for _ in 0..rounds {
            let (side, payload) = harmless(dice, &handshake);
            handshake.hand(side, &payload);
            if dice.percent(20) {
                handshake.deliver(dice);
            }
            if dice.percent(20) {
                handshake.wait(Duration::from_millis(dice.below(100) as u64));
            }
        }
        handshake.settle();
        let failed = handshake.ends.each_ref().map(|end| end.failed);
        assert!(handshake.have_keys(), "{failed:?}");
        rounds as u64
    });
}
