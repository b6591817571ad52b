//! Two of ours, one of ours and a foreign one (dimpl), over a line that loses and forges.

use proptest::prelude::*;

use super::*;
use crate::secure::{Srtp, SrtpProfile};

const DELAY: Duration = Duration::from_millis(20);

fn identity() -> Arc<Identity> {
    Arc::new(Identity::generate().unwrap())
}

/// One end of the line.
struct End {
    dtls: Dtls,
    keys: Option<(Instant, SrtpKeys)>,
    failed: Option<DtlsFailure>,
    sent: usize,
}

impl End {
    fn new(now: Instant, me: &Arc<Identity>, role: DtlsRole, peer: &Identity) -> Self {
        let dtls = Dtls::new(now, me, role, vec![peer.fingerprint()], Some(2 * DELAY)).unwrap();
        Self {
            dtls,
            keys: None,
            failed: None,
            sent: 0,
        }
    }

    fn drain(&mut self, now: Instant) -> Vec<Vec<u8>> {
        match self.dtls.poll_event() {
            Some(DtlsEvent::Keys(keys)) => self.keys = Some((now, *keys)),
            Some(DtlsEvent::Failed(why)) => self.failed = Some(why),
            None => {}
        }
        std::iter::from_fn(|| self.dtls.poll_transmit()).collect()
    }
}

/// Carries datagrams from one end to the other until nothing happens any more. `line` may change
/// the datagram that the n-th sending makes, or lose it.
fn run(
    begin: Instant,
    active: &mut End,
    passive: &mut End,
    mut line: impl FnMut(usize, Vec<u8>) -> Vec<Vec<u8>>,
) {
    let mut flying: Vec<(Instant, bool, Vec<u8>)> = Vec::new();
    let mut now = begin;
    let mut count = 0;
    for _ in 0..2_000 {
        for (to_passive, end) in [(true, &mut *active), (false, &mut *passive)] {
            for datagram in end.drain(now) {
                end.sent += 1;
                count += 1;
                for datagram in line(count - 1, datagram) {
                    flying.push((now + DELAY, to_passive, datagram));
                }
            }
        }
        let timers = [active.dtls.poll_timeout(), passive.dtls.poll_timeout()];
        let arrivals = flying.iter().map(|(at, ..)| *at);
        let Some(next) = arrivals.chain(timers.into_iter().flatten()).min() else {
            return;
        };
        now = now.max(next);
        if now > begin + Duration::from_secs(20) {
            return;
        }
        let (due, later): (Vec<_>, Vec<_>) = flying.into_iter().partition(|(at, ..)| *at <= now);
        flying = later;
        for (_, to_passive, datagram) in due {
            let end = if to_passive {
                &mut *passive
            } else {
                &mut *active
            };
            end.dtls.handle_packet(now, &datagram);
        }
        active.dtls.handle_timeout(now);
        passive.dtls.handle_timeout(now);
    }
}

fn pair(begin: Instant) -> (End, End) {
    let (a, b) = (identity(), identity());
    (
        End::new(begin, &a, DtlsRole::Active, &b),
        End::new(begin, &b, DtlsRole::Passive, &a),
    )
}

fn rtp(sequence: u16) -> Vec<u8> {
    let mut packet = vec![0x80, 96];
    packet.extend(sequence.to_be_bytes());
    packet.extend([0, 0, 0, 7, 0, 0, 0, 9]);
    packet.extend(b"twenty milliseconds");
    packet
}

fn fit(active: &End, passive: &End) {
    let keys = |end: &End| end.keys.as_ref().unwrap().1.clone();
    let (one, other) = (keys(active), keys(passive));
    assert_eq!(one.profile(), other.profile());
    let (mut one, mut other) = (Srtp::new(&one).unwrap(), Srtp::new(&other).unwrap());
    let sent = one.protect_rtp(&rtp(1)).unwrap();
    assert_eq!(other.unprotect_rtp(&sent).unwrap(), rtp(1));
    let sent = other.protect_rtp(&rtp(1)).unwrap();
    assert_eq!(one.unprotect_rtp(&sent).unwrap(), rtp(1));
}

/// No cookie is asked for: the active side has its keys after four delays, the passive one after
/// three.
#[test]
fn keys_after_two_round_trips() {
    let begin = Instant::now();
    let (mut active, mut passive) = pair(begin);
    run(begin, &mut active, &mut passive, |_, datagram| {
        vec![datagram]
    });
    fit(&active, &passive);
    assert_eq!(active.keys.as_ref().unwrap().0, begin + 4 * DELAY);
    assert_eq!(passive.keys.as_ref().unwrap().0, begin + 3 * DELAY);
    assert_eq!(active.keys.unwrap().1.profile(), SrtpProfile::AeadAes128Gcm);
    assert_eq!((active.sent, passive.sent), (2, 2));
}

#[test]
fn any_datagram_may_be_lost_doubled_or_late() {
    for lost in 0..4 {
        for more in 0..3 {
            let begin = Instant::now();
            let (mut active, mut passive) = pair(begin);
            run(begin, &mut active, &mut passive, |at, datagram| match at {
                at if at >= lost && at <= lost + more => Vec::new(),
                _ => vec![datagram.clone(), datagram],
            });
            fit(&active, &passive);
        }
    }
}

#[test]
fn fragments_in_any_order() {
    let begin = Instant::now();
    let (mut active, mut passive) = pair(begin);
    run(begin, &mut active, &mut passive, |_, datagram| {
        let mut pieces = Vec::new();
        let mut reader = Reader(&datagram);
        while let Some(record) = next_record(&mut reader) {
            let mut number = record.epoch.to_be_bytes().to_vec();
            number.extend(record.sequence);
            let number: [u8; 8] = number.try_into().unwrap();
            if (record.content, record.epoch) != (HANDSHAKE, 0) {
                pieces.push(schedule::record(record.content, number, record.body));
                continue;
            }
            let mut messages = Reader(record.body);
            while let Some(message) = next_fragment(&mut messages) {
                for (at, bytes) in (0..).step_by(50).zip(message.bytes.chunks(50)) {
                    let mut part = vec![message.kind as u8];
                    wire::put_u24(&mut part, message.length);
                    part.extend(message.sequence.to_be_bytes());
                    wire::put_u24(&mut part, at);
                    wire::put_u24(&mut part, bytes.len());
                    part.extend(bytes);
                    pieces.push(schedule::record(HANDSHAKE, number, &part));
                }
                if message.length == 0 {
                    pieces.push(schedule::record(HANDSHAKE, number, record.body));
                }
            }
        }
        pieces.reverse();
        pieces
    });
    fit(&active, &passive);
}

#[test]
fn a_peer_that_is_not_who_its_sdp_says_gets_no_keys() {
    for wrong_at in [DtlsRole::Active, DtlsRole::Passive] {
        let begin = Instant::now();
        let (a, b, stranger) = (identity(), identity(), identity());
        let of = |role, peer| if wrong_at == role { &stranger } else { peer };
        let mut active = End::new(begin, &a, DtlsRole::Active, of(DtlsRole::Active, &b));
        let mut passive = End::new(begin, &b, DtlsRole::Passive, of(DtlsRole::Passive, &a));
        run(begin, &mut active, &mut passive, |_, datagram| {
            vec![datagram]
        });
        let (judge, judged) = match wrong_at {
            DtlsRole::Active => (&active, &passive),
            DtlsRole::Passive => (&passive, &active),
        };
        assert_eq!(judge.failed, Some(DtlsFailure::WrongFingerprint));
        assert_eq!(judged.failed, Some(DtlsFailure::Refused(42)));
        assert!(active.keys.is_none() && passive.keys.is_none());
    }
}

#[test]
fn without_a_fingerprint_nobody_is_trusted() {
    let begin = Instant::now();
    let (mut active, mut passive) = pair(begin);
    let me = identity();
    active.dtls = Dtls::new(begin, &me, DtlsRole::Active, Vec::new(), None).unwrap();
    run(begin, &mut active, &mut passive, |_, datagram| {
        vec![datagram]
    });
    assert_eq!(active.failed, Some(DtlsFailure::WrongFingerprint));
}

/// Somebody on the way replaces what both sides send, and leaves the numbers as they are.
#[test]
fn whoever_changes_a_byte_gets_no_keys_or_changes_nothing() {
    for which in 0..4 {
        for at in (0..700).step_by(7) {
            let begin = Instant::now();
            let (mut active, mut passive) = pair(begin);
            let mut first = [true; 4];
            run(begin, &mut active, &mut passive, |count, mut datagram| {
                let slot = count.min(3);
                if count == which
                    && std::mem::take(&mut first[slot])
                    && let Some(byte) = datagram.get_mut(at)
                {
                    *byte ^= 0x01;
                }
                vec![datagram]
            });
            if active.keys.is_some() && passive.keys.is_some() {
                fit(&active, &passive);
            }
        }
    }
}

/// Somebody who sends the beginning of a message that never goes on does not keep the peer's own,
/// which has its number, from being read.
#[test]
fn a_forged_beginning_does_not_stop_the_handshake() {
    for (kind, at_active) in [(1, false), (11, false), (2, true), (11, true)] {
        let begin = Instant::now();
        let (mut active, mut passive) = pair(begin);
        let end = if at_active { &mut active } else { &mut passive };
        for sequence in 0..4_u8 {
            let mut part = vec![kind];
            wire::put_u24(&mut part, 9_999);
            part.extend([0, sequence]);
            wire::put_u24(&mut part, 5_000);
            wire::put_u24(&mut part, 1);
            part.push(0);
            let record = schedule::record(HANDSHAKE, [0; 8], &part);
            end.dtls.handle_packet(begin, &record);
        }
        run(begin, &mut active, &mut passive, |_, datagram| {
            vec![datagram]
        });
        fit(&active, &passive);
    }
}

#[test]
fn a_flood_ends_the_handshake_and_memory_is_bounded() {
    let begin = Instant::now();
    let (_, mut passive) = pair(begin);
    for sequence in 0..10_000_u32 {
        let mut part = vec![11];
        wire::put_u24(&mut part, 16_000);
        part.extend(((sequence % 9) as u16).to_be_bytes());
        wire::put_u24(&mut part, (sequence as usize * 7) % 15_000);
        wire::put_u24(&mut part, 1);
        part.push(0);
        let record = schedule::record(HANDSHAKE, u64::from(sequence).to_be_bytes(), &part);
        passive.dtls.handle_packet(begin, &record);
        assert!(passive.dtls.incoming.held() <= 8 * 16_000);
        assert!(passive.dtls.early.len() <= EARLY_RECORDS);
    }
    passive.drain(begin);
    assert_eq!(passive.failed, Some(DtlsFailure::TooLong));
}

mod foreign {
    //! dimpl 0.9, an implementation by other hands.

    use dimpl::{Config, DtlsCertificate, Output};

    use super::*;

    struct Foreign {
        dtls: dimpl::Dtls,
        certificate: Vec<u8>,
        peer: Option<Vec<u8>>,
        material: Option<(Vec<u8>, SrtpProfile)>,
    }

    impl Foreign {
        fn new(now: Instant, active: bool, cookie: bool) -> Self {
            let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
            let params = rcgen::CertificateParams::default();
            let certificate = params.self_signed(&key).unwrap().der().to_vec();
            let config = Config::builder().use_server_cookie(cookie).build().unwrap();
            let own = DtlsCertificate {
                certificate: certificate.clone(),
                private_key: key.serialize_der(),
            };
            let mut dtls = dimpl::Dtls::new_12(Arc::new(config), own, now);
            dtls.set_active(active);
            Self {
                dtls,
                certificate,
                peer: None,
                material: None,
            }
        }

        fn fingerprint(&self) -> Fingerprint {
            let digest = ring::digest::digest(&ring::digest::SHA512, &self.certificate);
            Fingerprint {
                hash: FingerprintHash::Sha512,
                digest: digest.as_ref().to_vec(),
            }
        }

        fn drain(&mut self) -> Vec<Vec<u8>> {
            let mut sent = Vec::new();
            let mut buffer = vec![0; 4_096];
            loop {
                match self.dtls.poll_output(&mut buffer) {
                    Output::Packet(packet) => sent.push(packet.to_vec()),
                    Output::PeerCert(der) => self.peer = Some(der.to_vec()),
                    Output::KeyingMaterial(material, profile) => {
                        let profile = match profile {
                            dimpl::SrtpProfile::AEAD_AES_128_GCM => SrtpProfile::AeadAes128Gcm,
                            dimpl::SrtpProfile::AEAD_AES_256_GCM => SrtpProfile::AeadAes256Gcm,
                            _ => SrtpProfile::Aes128CmSha1_80,
                        };
                        self.material = Some((material.to_vec(), profile));
                    }
                    Output::Timeout(_) => return sent,
                    _ => {}
                }
            }
        }
    }

    fn meet(foreign_active: bool, cookie: bool) {
        let now = Instant::now();
        let me = identity();
        let mut foreign = Foreign::new(now, foreign_active, cookie);
        let role = if foreign_active {
            DtlsRole::Passive
        } else {
            DtlsRole::Active
        };
        let mut ours = Dtls::new(now, &me, role, vec![foreign.fingerprint()], None).unwrap();
        let mut keys = None;
        for _ in 0..10 {
            foreign.dtls.handle_timeout(now).unwrap();
            for datagram in foreign.drain() {
                ours.handle_packet(now, &datagram);
            }
            for datagram in std::iter::from_fn(|| ours.poll_transmit()) {
                foreign.dtls.handle_timeout(now).unwrap();
                foreign.dtls.handle_packet(&datagram).unwrap();
            }
            match ours.poll_event() {
                Some(DtlsEvent::Keys(found)) => keys = Some(found),
                Some(DtlsEvent::Failed(why)) => panic!("{why}"),
                None => {}
            }
        }
        let keys = keys.expect("keys");
        assert_eq!(foreign.peer.as_deref(), Some(me.certificate()));
        let (material, profile) = foreign.material.expect("the foreign one's keys");
        assert_eq!(profile, keys.profile());
        // RFC 5764 section 4.2: client's key, server's key, client's salt, server's salt.
        let (key, salt) = (profile.key_len(), profile.salt_len());
        let part = |at: usize, length: usize| &material[at..at + length];
        let master = |side: usize| {
            let both = [part(side * key, key), part(2 * key + side * salt, salt)].concat();
            crate::secure::MasterKey::new(profile, &both).unwrap()
        };
        let (client, server) = (master(0), master(1));
        let theirs = if foreign_active {
            SrtpKeys::new(profile, client, server)
        } else {
            SrtpKeys::new(profile, server, client)
        };
        let (mut one, mut other) = (Srtp::new(&keys).unwrap(), Srtp::new(&theirs).unwrap());
        let sent = one.protect_rtp(&rtp(1)).unwrap();
        assert_eq!(other.unprotect_rtp(&sent).unwrap(), rtp(1));
        let sent = other.protect_rtp(&rtp(1)).unwrap();
        assert_eq!(one.unprotect_rtp(&sent).unwrap(), rtp(1));
    }

    #[test]
    fn agrees_in_both_roles_with_a_cookie_and_without() {
        meet(true, false);
        meet(false, false);
        meet(false, true);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Random losses, doubles, delays of a turn and flipped bits: no panic, and keys only when both
    /// have the same.
    #[test]
    fn a_bad_line(fates in prop::collection::vec(0..20_u8, 60), flips in prop::collection::vec(any::<prop::sample::Index>(), 60)) {
        let begin = Instant::now();
        let (mut active, mut passive) = pair(begin);
        run(begin, &mut active, &mut passive, |at, mut datagram| match fates.get(at) {
            Some(0..=5) => Vec::new(),
            Some(6..=8) => vec![datagram.clone(), datagram],
            Some(9) => {
                let byte = flips[at].index(datagram.len());
                datagram[byte] ^= 0x80;
                vec![datagram]
            }
            _ => vec![datagram],
        });
        if active.keys.is_some() && passive.keys.is_some() {
            fit(&active, &passive);
        }
    }

    #[test]
    fn anything_may_come(datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..30), active in any::<bool>()) {
        let now = Instant::now();
        let (one, other) = pair(now);
        let mut end = if active { one } else { other };
        for mut datagram in datagrams {
            if let [content, major, minor, ..] = datagram.as_mut_slice() {
                *content = 20 + *content % 4;
                (*major, *minor) = (0xfe, 0xfd);
            }
            if let [_, _, _, _, _, _, _, _, _, _, _, high, low, kind, ..] = datagram.as_mut_slice() {
                (*high, *low) = (0, *low % 180);
                *kind %= 21;
            }
            end.dtls.handle_packet(now, &datagram);
            end.drain(now);
        }
        prop_assert!(end.keys.is_none());
    }
}
