//! SRTP and SRTCP under attack.

use ringtrue_media::secure::{LONGEST_PACKET, MasterKey, Refused, Srtp, SrtpKeys, SrtpProfile};
use ringtrue_testnet::{Dice, fuzz};

/// So many streams of a peer are followed.
const MOST_STREAMS: usize = 128;

fn key(dice: &mut Dice, profile: SrtpProfile) -> MasterKey {
    let bytes = dice.bytes(profile.key_len() + profile.salt_len());
    MasterKey::new(profile, &bytes).expect("a key of the right length")
}

/// Keys of the two ends of one session, and of somebody who has others.
fn keys(dice: &mut Dice, profile: SrtpProfile) -> [SrtpKeys; 3] {
    let [one, other, stranger] = [0; 3].map(|_| key(dice, profile));
    [(&one, &other), (&other, &one), (&stranger, &other)]
        .map(|(local, remote)| SrtpKeys::new(profile, local.clone(), remote.clone()))
}

fn srtp(keys: &SrtpKeys) -> Srtp {
    Srtp::new(keys).expect("protection")
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Rtp,
    Rtcp,
}

/// A packet of the honest sender's.
struct Sent {
    kind: Kind,
    clear: Vec<u8>,
    protected: Vec<u8>,
    taken: bool,
}

fn rtp(dice: &mut Dice, ssrc: u32, sequence: u16) -> Vec<u8> {
    let contributing = dice.below(3);
    let extended = dice.percent(20);
    let mut packet = vec![
        0x80 | contributing as u8 | if extended { 0x10 } else { 0 },
        96,
    ];
    packet.extend(sequence.to_be_bytes());
    packet.extend((u32::from(sequence) * 960).to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet.extend(dice.bytes(4 * contributing));
    if extended {
        packet.extend([0xbe, 0xde, 0, 1, 0x10, 0xaa, 0, 0]);
    }
    let length = dice.below(200);
    packet.extend(dice.bytes(length));
    packet
}

fn rtcp(dice: &mut Dice, ssrc: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 201, 0, 1];
    packet.extend(ssrc.to_be_bytes());
    packet.extend([0x81, 202, 0, 2]);
    packet.extend(ssrc.to_be_bytes());
    packet.extend(dice.bytes(4));
    packet
}

/// What somebody sends with three SSRCs, one of which has its numbers run over.
fn traffic(dice: &mut Dice, sender: &mut Srtp) -> Vec<Sent> {
    let mut next = [1_u16, 40_000, u16::MAX - 20];
    (0..60)
        .map(|_| {
            let stream = dice.below(3);
            let ssrc = 7 + stream as u32;
            let rtcp_next = dice.percent(20);
            let (kind, clear) = if rtcp_next {
                (Kind::Rtcp, rtcp(dice, ssrc))
            } else {
                next[stream] = next[stream].wrapping_add(1);
                (Kind::Rtp, rtp(dice, ssrc, next[stream]))
            };
            let protected = match kind {
                Kind::Rtp => sender.protect_rtp(&clear),
                Kind::Rtcp => sender.protect_rtcp(&clear),
            };
            Sent {
                kind,
                clear,
                protected: protected.expect("a packet"),
                taken: false,
            }
        })
        .collect()
}

fn unprotect(receiver: &mut Srtp, kind: Kind, packet: &[u8]) -> Option<Vec<u8>> {
    let unprotected = match kind {
        Kind::Rtp => receiver.unprotect_rtp(packet),
        Kind::Rtcp => receiver.unprotect_rtcp(packet),
    };
    unprotected.ok()
}

fn total(refused: Refused) -> u64 {
    refused.forged + refused.replayed
}

/// One packet changed in one way or another, or as it was.
fn changed(dice: &mut Dice, packet: &[u8], corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = packet.to_vec();
    match dice.below(8) {
        0 => {}
        1 => bytes.truncate(dice.below(bytes.len())),
        // Sequence number, timestamp or SSRC.
        2 | 3 => {
            let at = 2 + dice.below(10);
            bytes[at] = dice.number() as u8;
        }
        // The tag, and the index of SRTCP with its flag.
        4 | 5 => {
            let at = bytes.len() - 1 - dice.below(24.min(bytes.len()));
            bytes[at] ^= 1 << dice.below(8);
        }
        6 => {
            let at = dice.below(bytes.len());
            bytes[at] ^= 1 << dice.below(8);
        }
        _ => bytes = dice.mutate(packet, corpus),
    }
    bytes
}

/// Nothing that was changed is taken, nothing is taken twice, and each refusal is counted once.
#[test]
fn changed_packets() {
    fuzz("srtp", 400, |dice| {
        let profile = *dice.pick(&SrtpProfile::ALL);
        let keys = keys(dice, profile);
        let [mut sender, mut receiver, mut stranger] = keys.each_ref().map(srtp);
        let mut sent = traffic(dice, &mut sender);
        let mut corpus: Vec<_> = traffic(dice, &mut stranger)
            .into_iter()
            .map(|packet| packet.protected)
            .collect();
        corpus.extend(sent.iter().map(|packet| packet.protected.clone()));
        let mut inputs = 0;
        for _ in 0..300 {
            let seed = dice.pick(&corpus).clone();
            let packet = changed(dice, &seed, &corpus);
            let kind = *dice.pick(&[Kind::Rtp, Kind::Rtcp]);
            let before = total(receiver.refused());
            let got = unprotect(&mut receiver, kind, &packet);
            inputs += 1;
            let refused = total(receiver.refused()) - before;
            assert_eq!(refused, u64::from(got.is_none()), "{profile}: {kind:?}");
            let Some(clear) = got else {
                continue;
            };
            let honest = sent
                .iter_mut()
                .find(|one| one.kind == kind && one.protected == packet);
            let honest = honest.expect("nobody sent what was taken");
            assert!(!honest.taken, "{profile}: {kind:?} taken twice");
            assert_eq!(honest.clear, clear, "{profile}: {kind:?}");
            honest.taken = true;
        }
        // What never came comes still, or is too late to tell; what came is a replay.
        for one in &sent {
            let before = receiver.refused();
            let got = unprotect(&mut receiver, one.kind, &one.protected);
            if one.taken {
                assert_eq!(got, None, "{profile}: a replay");
                assert_eq!(receiver.refused().replayed, before.replayed + 1);
                assert_eq!(receiver.refused().forged, before.forged);
            } else {
                assert_eq!(got.as_ref(), Some(&one.clear), "{profile}: {:?}", one.kind);
            }
        }
        inputs + sent.len() as u64
    });
}

/// Packets under ever other SSRCs, forged ones and real ones: of neither kind is more kept than a peer
/// may have streams, and those that are followed stay.
#[test]
fn ever_other_sources() {
    fuzz("srtp-sources", 20, |dice| {
        let profile = *dice.pick(&SrtpProfile::ALL);
        let [sender, receiver, stranger] = keys(dice, profile);
        let mut receiver = srtp(&receiver);
        let (mut taken, mut inputs, mut honest) = (0, 0, 0);
        for number in 0..1_000 {
            let own = dice.percent(30);
            let clear = rtp(dice, number, 1);
            let by = if own { &sender } else { &stranger };
            // One that is new each time sends with more SSRCs than one alone ever does.
            let packet = srtp(by).protect_rtp(&clear).expect("a packet");
            let got = unprotect(&mut receiver, Kind::Rtp, &packet);
            assert!(own || got.is_none(), "{profile}: a stranger's packet");
            honest += usize::from(own);
            taken += usize::from(got.is_some());
            inputs += 1;
        }
        assert_eq!(taken, honest.min(MOST_STREAMS), "{profile}");
        assert_eq!(total(receiver.refused()), 1_000 - taken as u64);
        let long = dice.bytes(LONGEST_PACKET + 1);
        assert_eq!(unprotect(&mut receiver, Kind::Rtp, &long), None);
        assert_eq!(unprotect(&mut receiver, Kind::Rtcp, &long), None);
        inputs + 2
    });
}
