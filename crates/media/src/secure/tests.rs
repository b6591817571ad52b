use proptest::prelude::*;

use super::keys::REPLAY_WINDOW;
use super::receiving::MOST_STREAMS;
use super::*;

fn bytes(profile: SrtpProfile, fill: u8) -> Vec<u8> {
    let length = profile.key_len() + profile.salt_len();
    (0..length as u8).map(|i| i ^ fill).collect()
}

fn key(profile: SrtpProfile, fill: u8) -> MasterKey {
    MasterKey::new(profile, &bytes(profile, fill)).unwrap()
}

/// Two ends of one session.
fn pair(profile: SrtpProfile) -> (Srtp, Srtp) {
    let (a, b) = (key(profile, 0x11), key(profile, 0x77));
    let one = SrtpKeys::new(profile, a.clone(), b.clone());
    let other = SrtpKeys::new(profile, b, a);
    (Srtp::new(&one).unwrap(), Srtp::new(&other).unwrap())
}

fn rtp(ssrc: u32, sequence: u16) -> Vec<u8> {
    let mut packet = vec![0x80, 96];
    packet.extend(sequence.to_be_bytes());
    packet.extend([0, 0, 0, 7]);
    packet.extend(ssrc.to_be_bytes());
    packet.extend(b"twenty milliseconds of Opus");
    packet
}

fn rtcp(ssrc: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 201, 0, 1];
    packet.extend(ssrc.to_be_bytes());
    packet.extend([0x81, 202, 0, 2]);
    packet.extend(ssrc.to_be_bytes());
    packet.extend([1, 2, b'x', b'y']);
    packet
}

#[test]
fn there_and_back_with_every_profile_and_nothing_of_the_payload_is_clear() {
    for profile in SrtpProfile::ALL {
        let (mut alice, mut bob) = pair(profile);
        for sequence in 1..100 {
            let clear = rtp(9, sequence);
            let sent = alice.protect_rtp(&clear).unwrap();
            assert_eq!(sent.len(), clear.len() + profile.overhead(), "{profile}");
            assert_eq!(sent[..12], clear[..12], "the header stays readable");
            assert!(
                !sent
                    .windows(6)
                    .any(|part| clear[12..].windows(6).any(|c| c == part))
            );
            assert_eq!(bob.unprotect_rtp(&sent).unwrap(), clear, "{profile}");
            let report = alice.protect_rtcp(&rtcp(9)).unwrap();
            assert_eq!(bob.unprotect_rtcp(&report).unwrap(), rtcp(9), "{profile}");
        }
        assert_eq!(bob.refused(), Refused::default());
        assert_eq!(SrtpProfile::from_name(profile.name()), Some(profile));
    }
}

/// The vectors of libsrtp's own test driver, so that both ends are not wrong in the same way.
#[test]
fn what_libsrtp_makes_of_the_same_packet() {
    let clear: Vec<u8> = [
        0x80, 0x0f, 0x12, 0x34, 0xde, 0xca, 0xfb, 0xad, 0xca, 0xfe, 0xba, 0xbe,
    ]
    .into_iter()
    .chain([0xab; 16])
    .collect();
    let hex = |text: &str| -> Vec<u8> {
        let digits: Vec<u8> = text
            .bytes()
            .map(|c| (c as char).to_digit(16).unwrap() as u8)
            .collect();
        digits.chunks(2).map(|two| two[0] << 4 | two[1]).collect()
    };
    let cases = [
        (
            SrtpProfile::Aes128CmSha1_80,
            "e1f97a0d3e018be0d64fa32c06de41390ec675ad498afeebb6960b3aabe6",
            "4e55dc4ce79978d88ca4d215949d2402b78d6acc99ea179b8dbb",
        ),
        (
            SrtpProfile::AeadAes128Gcm,
            "000102030405060708090a0b0c0d0e0fa0a1a2a3a4a5a6a7a8a9aaab",
            "c5002ede04cfdd2eb91159e0880aa06ed2976826f796b201df3131a127e8a392",
        ),
    ];
    for (profile, key, expected) in cases {
        let key = MasterKey::new(profile, &hex(key)).unwrap();
        let mut srtp = Srtp::new(&SrtpKeys::new(profile, key.clone(), key)).unwrap();
        let sent = srtp.protect_rtp(&clear).unwrap();
        assert_eq!(sent[12..], hex(expected), "{profile}");
        assert_eq!(srtp.unprotect_rtp(&sent).unwrap(), clear);
    }
}

#[test]
fn replayed_and_forged_packets_are_counted_and_dropped() {
    for profile in SrtpProfile::ALL {
        let (mut alice, mut bob) = pair(profile);
        let media = alice.protect_rtp(&rtp(9, 5)).unwrap();
        let report = alice.protect_rtcp(&rtcp(9)).unwrap();
        assert!(bob.unprotect_rtp(&media).is_ok());
        assert!(bob.unprotect_rtcp(&report).is_ok());
        assert_eq!(bob.unprotect_rtp(&media), Err(UnprotectError::Replayed));
        assert_eq!(bob.unprotect_rtcp(&report), Err(UnprotectError::Replayed));
        let media = alice.protect_rtp(&rtp(9, 6)).unwrap();
        let report = alice.protect_rtcp(&rtcp(9)).unwrap();
        for at in 0..media.len() {
            let mut forged = media.clone();
            forged[at] ^= 0x40;
            assert!(bob.unprotect_rtp(&forged).is_err(), "{profile}: byte {at}");
        }
        for at in 0..report.len() {
            let mut forged = report.clone();
            forged[at] ^= 0x80;
            assert!(bob.unprotect_rtcp(&forged).is_err(), "{profile}: byte {at}");
        }
        let before = bob.refused();
        assert_eq!(
            before.forged + before.replayed,
            2 + (media.len() + report.len()) as u64
        );
        assert!(before.forged > before.replayed);
        // None of that has hurt what is authentic.
        assert!(bob.unprotect_rtp(&media).is_ok());
        assert!(bob.unprotect_rtcp(&report).is_ok());
        assert_eq!(bob.refused(), before);
    }
}

/// rtc-srtp alone would take it: without the E flag it looks at no tag.
#[test]
fn rtcp_that_says_it_is_not_encrypted_is_forged() {
    for profile in SrtpProfile::ALL {
        let (_, mut bob) = pair(profile);
        let mut forged = rtcp(9);
        forged.extend([0, 0, 0, 1]);
        forged.extend([0; 26]);
        for cut in 0..26 {
            let forged = &forged[..forged.len() - cut];
            assert_eq!(
                bob.unprotect_rtcp(forged),
                Err(UnprotectError::Forged),
                "{profile}"
            );
        }
    }
}

#[test]
fn a_forged_first_packet_does_not_set_the_replay_window() {
    let (mut alice, mut bob) = pair(SrtpProfile::AeadAes128Gcm);
    let mut forged = rtp(9, 30_000);
    forged.extend([0; 16]);
    assert_eq!(bob.unprotect_rtp(&forged), Err(UnprotectError::Forged));
    let sent = alice.protect_rtp(&rtp(9, 20)).unwrap();
    assert!(bob.unprotect_rtp(&sent).is_ok());
}

/// Of a stream whose sound is known, whoever forges the first report does not say where the numbers
/// of the real ones begin; nor the other way round.
#[test]
fn a_forged_packet_of_one_kind_does_not_shut_out_the_other() {
    for profile in SrtpProfile::ALL {
        let (mut alice, mut bob) = pair(profile);
        let sent = alice.protect_rtp(&rtp(9, 1)).unwrap();
        bob.unprotect_rtp(&sent).unwrap();
        let report = alice.protect_rtcp(&rtcp(9)).unwrap();
        let mut forged = report.clone();
        // The index, in the last four bytes with GCM, before a tag of 10 bytes otherwise.
        for byte in forged.iter_mut().rev().take(14) {
            *byte |= 0x70;
        }
        assert!(bob.unprotect_rtcp(&forged).is_err(), "{profile}");
        assert_eq!(bob.unprotect_rtcp(&report).unwrap(), rtcp(9), "{profile}");

        let (mut alice, mut bob) = pair(profile);
        let report = alice.protect_rtcp(&rtcp(9)).unwrap();
        bob.unprotect_rtcp(&report).unwrap();
        let sent = alice.protect_rtp(&rtp(9, 2_000)).unwrap();
        let mut forged = sent.clone();
        forged[2] ^= 0x20;
        assert!(bob.unprotect_rtp(&forged).is_err(), "{profile}");
        assert_eq!(
            bob.unprotect_rtp(&sent).unwrap(),
            rtp(9, 2_000),
            "{profile}"
        );
    }
}

#[test]
fn strangers_leave_nothing_behind_and_streams_are_bounded() {
    let profile = SrtpProfile::Aes128CmSha1_80;
    let (mut alice, mut bob) = pair(profile);
    for ssrc in 0..10_000 {
        let mut forged = rtp(ssrc, 7);
        forged.extend([0; 10]);
        assert_eq!(bob.unprotect_rtp(&forged), Err(UnprotectError::Forged));
    }
    assert_eq!(bob.refused().forged, 10_000);
    assert_eq!(bob.receiving.streams(), (0, 0));
    for ssrc in 0..200 {
        let sent = alice.protect_rtp(&rtp(ssrc, 7)).unwrap();
        assert_eq!(
            bob.unprotect_rtp(&sent).is_ok(),
            (ssrc as usize) < MOST_STREAMS
        );
    }
    assert_eq!(bob.receiving.streams(), (MOST_STREAMS, 0));
}

#[test]
fn packets_go_on_over_the_roll_over_of_the_sequence_number() {
    for profile in SrtpProfile::ALL {
        let (mut alice, mut bob) = pair(profile);
        let mut sequence = 32_000_u16;
        let mut late = None;
        for round in 0..140_000 {
            sequence = sequence.wrapping_add(1);
            let sent = alice.protect_rtp(&rtp(9, sequence)).unwrap();
            // One in a hundred comes fifty packets late, some are lost.
            if round % 100 == 0 {
                late = Some(sent);
            } else if round % 100 == 50 {
                assert!(
                    bob.unprotect_rtp(&late.take().unwrap()).is_ok(),
                    "{profile} {round}"
                );
            } else if round % 7 != 0 {
                assert!(bob.unprotect_rtp(&sent).is_ok(), "{profile} {round}");
            }
        }
        assert_eq!(bob.refused(), Refused::default());
    }
}

#[test]
fn the_replay_window() {
    let (mut alice, mut bob) = pair(SrtpProfile::AeadAes128Gcm);
    let sent: Vec<_> = (1..=REPLAY_WINDOW as u16 + 1)
        .map(|sequence| alice.protect_rtp(&rtp(9, sequence)).unwrap())
        .collect();
    assert!(bob.unprotect_rtp(sent.last().unwrap()).is_ok());
    assert_eq!(
        bob.unprotect_rtp(&sent[0]),
        Err(UnprotectError::Replayed),
        "too old"
    );
    assert!(bob.unprotect_rtp(&sent[1]).is_ok(), "just young enough");
    assert_eq!(bob.unprotect_rtp(&sent[1]), Err(UnprotectError::Replayed));
}

#[test]
fn no_keystream_is_used_twice() {
    let (mut alice, _) = pair(SrtpProfile::AeadAes128Gcm);
    assert!(alice.protect_rtp(&rtp(9, 50)).is_ok());
    assert_eq!(alice.protect_rtp(&rtp(9, 50)), Err(ProtectError::Repeated));
    assert_eq!(alice.protect_rtp(&rtp(9, 49)), Err(ProtectError::Repeated));
    assert!(alice.protect_rtp(&rtp(10, 49)).is_ok(), "another stream");
    assert!(alice.protect_rtp(&rtp(9, 51)).is_ok());
    for ssrc in 100..1_000 {
        let _ = alice.protect_rtp(&rtp(ssrc, 1));
    }
    assert_eq!(alice.protect_rtp(&rtp(5, 1)), Err(ProtectError::Exhausted));
    assert!(
        alice.protect_rtp(&rtp(9, 52)).is_ok(),
        "the streams at hand go on"
    );
}

#[test]
fn worn_out_keys_protect_nothing_more() {
    let (mut alice, _) = pair(SrtpProfile::AeadAes128Gcm);
    alice.sending.wear_out(2, 1);
    assert!(alice.protect_rtp(&rtp(9, 1)).is_ok());
    assert!(alice.protect_rtcp(&rtcp(9)).is_ok());
    assert!(alice.protect_rtp(&rtp(9, 2)).is_ok());
    assert_eq!(alice.protect_rtp(&rtp(9, 3)), Err(ProtectError::Exhausted));
    assert_eq!(alice.protect_rtcp(&rtcp(9)), Err(ProtectError::Exhausted));
}

#[test]
fn keys_of_another_length_or_profile_are_refused_and_none_is_ever_shown() {
    let profile = SrtpProfile::Aes128CmSha1_80;
    assert_eq!(
        MasterKey::new(profile, &[1; 29]).unwrap_err(),
        KeyError::Length {
            profile,
            expected: 30,
            found: 29
        }
    );
    let other = key(SrtpProfile::AeadAes256Gcm, 1);
    let mixed = SrtpKeys::new(profile, key(profile, 1), other);
    assert_eq!(Srtp::new(&mixed).unwrap_err(), KeyError::Mixed);
    let keys = SrtpKeys::new(profile, key(profile, 0), key(profile, 0));
    let shown = format!("{keys:?} {:?} {:?}", Srtp::new(&keys), key(profile, 0));
    assert!(
        !shown.contains("1, 2, 3") && !shown.contains("010203"),
        "{shown}"
    );
}

/// An extension whose elements are padded, or end early, or run over its end: the payload begins
/// where the length says.
#[test]
fn extensions_and_contributing_sources_do_not_move_the_payload() {
    let extensions: [&[u8]; 4] = [
        &[0xbe, 0xde, 0, 1, 0x10, 0xaa, 0, 0],
        &[0xbe, 0xde, 0, 1, 0xf0, 0xaa, 0x10, 0xbb],
        &[0xbe, 0xde, 0, 1, 0x1f, 0xaa, 0xbb, 0xcc],
        &[0x10, 0x00, 0, 1, 0x01, 0x09, 0xbb, 0xcc],
    ];
    for profile in SrtpProfile::ALL {
        let (mut alice, mut bob) = pair(profile);
        for (sequence, extension) in (1..).zip(extensions) {
            let mut clear = rtp(9, sequence);
            clear[0] |= 0x12;
            let payload = clear.split_off(12);
            clear.extend([1, 2, 3, 4, 5, 6, 7, 8]);
            clear.extend(extension);
            let header = clear.clone();
            clear.extend(&payload);
            let sent = alice.protect_rtp(&clear).unwrap();
            assert_eq!(sent[..header.len()], header, "{profile}");
            assert!(
                !sent
                    .windows(6)
                    .any(|part| payload.windows(6).any(|clear| clear == part))
            );
            assert_eq!(bob.unprotect_rtp(&sent).unwrap(), clear);
        }
    }
}

proptest! {
    #[test]
    fn anything_may_come(packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 1..40), which in 0..4_usize) {
        let (_, mut bob) = pair(SrtpProfile::ALL[which]);
        for mut packet in packets {
            if let Some(first) = packet.first_mut() {
                *first = 0x80 | (*first & 0x3f);
            }
            prop_assert!(bob.unprotect_rtp(&packet).is_err());
            prop_assert!(bob.unprotect_rtcp(&packet).is_err());
        }
    }

    #[test]
    fn mutations_of_real_packets_are_refused(flips in prop::collection::vec((any::<prop::sample::Index>(), 1..=255_u8), 1..6), cut in 0..40_usize, which in 0..4_usize) {
        let (mut alice, mut bob) = pair(SrtpProfile::ALL[which]);
        for mut packet in [alice.protect_rtp(&rtp(9, 1)).unwrap(), alice.protect_rtcp(&rtcp(9)).unwrap()] {
            let sent = packet.clone();
            for (at, flip) in &flips {
                let at = at.index(packet.len());
                packet[at] ^= flip;
            }
            packet.truncate(packet.len().saturating_sub(cut));
            if packet != sent {
                prop_assert!(bob.unprotect_rtp(&packet).is_err());
                prop_assert!(bob.unprotect_rtcp(&packet).is_err());
            }
        }
    }
}
