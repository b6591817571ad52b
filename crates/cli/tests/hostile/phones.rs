//! Whole phones, attacked in every stage of a call, on virtual time.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ringtrue_phone::settings::{AnswerWhen, RingWhen, SrtpUse};
use ringtrue_testnet::fuzz;

use crate::dtls;
use crate::pair::{ALICE, BOB, Pair, ip, recording, settings, sip};

/// After this everything is over: the longest timers of SIP and of ICE.
const EVERYTHING: Duration = Duration::from_secs(400);

fn assert_at_rest(pair: &Pair) {
    for side in [ALICE, BOB] {
        let account = &pair.accounts[side];
        assert!(pair.phones[side].is_idle(), "phone {side} is busy");
        assert!(
            account.sound.is_empty(),
            "phone {side} still has its sound open"
        );
        assert!(account.sockets.is_empty(), "{side}: {:?}", account.sockets);
        let listeners = &account.listeners;
        assert!(listeners.is_empty(), "{side}: {listeners:?}");
        assert!(account.mapped.is_empty(), "{side}: {:?}", account.mapped);
    }
}

/// A call whose packets are damaged, repeated and lost, while mutations of its own messages and
/// of others' come from elsewhere. Whatever becomes of it, both phones come to rest.
#[test]
fn a_call_under_attack() {
    let recorded = recording();
    fuzz("phone-call", 12, |dice| {
        let mut both = [settings(ALICE), settings(BOB)];
        both[BOB].answer = *dice.pick(&[
            AnswerWhen::After(Duration::from_millis(300)),
            AnswerWhen::After(Duration::ZERO),
            AnswerWhen::Never,
        ]);
        both[BOB].ring = *dice.pick(&[RingWhen::Verified, RingWhen::PreferVerified]);
        both[ALICE].duration = Some(Duration::from_secs(2));
        let mut pair = Pair::new(dice.number(), both);
        pair.run_for(Duration::from_millis(600));
        pair.damage = *dice.pick(&[0, 2, 10, 30]);
        let call = pair.dial();
        let mut inputs = 0;
        for _ in 0..40 {
            pair.run_for(Duration::from_millis(dice.below(200) as u64));
            let side = dice.below(2);
            let sent = &pair.sent;
            let own = !sent.is_empty() && dice.percent(60);
            let seed = dice.pick(if own { sent } else { &recorded.sip }).clone();
            let payload = if dice.percent(70) {
                dice.mutate(&seed, &recorded.sip)
            } else {
                seed
            };
            let stranger = SocketAddr::from(([192, 0, 2, 66], 5060));
            let from = *dice.pick(&[sip(1 - side), stranger]);
            let media: Vec<_> = pair.accounts[side].sockets.iter().copied().collect();
            let local = if media.is_empty() || dice.percent(50) {
                sip(side)
            } else {
                *dice.pick(&media)
            };
            pair.inject(side, local, from, &payload);
            inputs += 1;
        }
        pair.damage = 0;
        pair.phones[ALICE].hang_up(pair.now, call);
        pair.run_for(Duration::from_secs(12));
        pair.shut_down();
        pair.run_for(EVERYTHING);
        assert_at_rest(&pair);
        inputs + pair.sent.len() as u64
    });
}

/// Strangers alone at an idle phone, by UDP and TCP, on every port. It may not ring with a proof,
/// its calls stay as few as they may be, and what it sends has a bound.
#[test]
fn strangers_at_an_idle_phone() {
    let recorded = recording();
    fuzz("phone-strangers", 12, |dice| {
        let both = [settings(ALICE), settings(BOB)];
        let most_calls = both[BOB].max_calls;
        let mut pair = Pair::new(dice.number(), both);
        pair.run_for(Duration::from_secs(1));
        let mut connections = Vec::new();
        let mut bytes = 0;
        for _ in 0..120 {
            pair.run_for(Duration::from_millis(dice.below(60) as u64));
            let (seed, on_media) = if dice.percent(25) {
                (dice.pick(&recorded.media), true)
            } else {
                (dice.pick(&recorded.sip), false)
            };
            let payload = if dice.percent(70) {
                dice.mutate(seed, &recorded.sip)
            } else {
                seed.clone()
            };
            bytes += payload.len();
            let host = 1 + dice.below(200) as u8;
            let from = SocketAddr::from(([192, 0, 2, host], 5060));
            let media: Vec<_> = pair.accounts[BOB].sockets.iter().copied().collect();
            if dice.percent(20) {
                if connections.is_empty() || dice.percent(30) {
                    connections.push(pair.accept(BOB, from));
                }
                let connection = *dice.pick(&connections);
                pair.stream(BOB, connection, &payload);
            } else if on_media && !media.is_empty() {
                pair.inject(BOB, *dice.pick(&media), from, &payload);
            } else {
                pair.inject(BOB, sip(BOB), from, &payload);
            }
            let account = &pair.accounts[BOB];
            // Two components each, for the calls and for the set that is kept warm; and two sockets
            // that listen, for passive candidates and for those of simultaneous open.
            assert!(account.sockets.len() <= 2 * (most_calls + 1));
            assert!(account.listeners.len() <= 2 * (most_calls + 1));
            assert!(account.sound.len() <= most_calls);
        }
        pair.run_for(EVERYTHING);
        pair.shut_down();
        pair.run_for(EVERYTHING);
        assert_at_rest(&pair);
        let account = &pair.accounts[BOB];
        assert_eq!(account.proven, 0, "nobody proved anything");
        assert!(account.connects <= 130, "{} connections", account.connects);
        // What an INVITE brings about at most: 183 and refusal, both repeated, and checks.
        let most = 40 * bytes + most_calls * 200_000;
        assert!(account.bytes <= most, "{} for {bytes}", account.bytes);
        120
    });
}

/// Datagrams of DTLS, real and damaged, from addresses that no check came from, while two phones check,
/// hold and talk. They are neither answered nor heeded: the call gets its keys, rings with its proof and
/// is talked.
#[test]
fn strangers_who_speak_dtls() {
    fuzz("phone-dtls", 12, |dice| {
        let mut both = [settings(ALICE), settings(BOB)];
        for settings in &mut both {
            settings.srtp = SrtpUse::Required;
        }
        both[BOB].answer = AnswerWhen::After(Duration::from_millis(300));
        let handshakes = dtls::recording();
        let mut pair = Pair::new(dice.number(), both);
        pair.run_for(Duration::from_millis(600));
        let call = pair.dial();
        let mut inputs = 0;
        for _ in 0..300 {
            // Most while they hold, that is within the first tenth of a second.
            let most = *dice.pick(&[2, 2, 2, 40]);
            pair.run_for(Duration::from_millis(dice.below(most) as u64));
            let side = dice.below(2);
            let own: Vec<_> = pair.sent.iter().filter(|sent| is_dtls(sent)).collect();
            let seed = if !own.is_empty() && dice.percent(50) {
                (*dice.pick(&own)).clone()
            } else {
                dice.pick(handshakes).clone()
            };
            let payload = if dice.percent(60) {
                dtls::damaged(dice, &seed)
            } else {
                seed
            };
            let media: Vec<_> = pair.accounts[side].sockets.iter().copied().collect();
            if media.is_empty() {
                continue;
            }
            let local = *dice.pick(&media);
            // A stranger, and the peer's host by a port that no check came from.
            let host = [IpAddr::from([192, 0, 2, 66]), ip(1 - side)];
            let from = SocketAddr::new(*dice.pick(&host), 9);
            let before = pair.accounts[side].packets;
            pair.inject(side, local, from, &payload);
            assert_eq!(
                pair.accounts[side].packets, before,
                "a stranger was answered"
            );
            inputs += 1;
        }
        pair.run_for(Duration::from_secs(2));
        for side in [ALICE, BOB] {
            let account = &pair.accounts[side];
            assert_eq!(account.secured, 1, "phone {side}");
            assert_eq!(account.proven, 1, "phone {side}");
            assert_eq!(account.sound.len(), 1, "phone {side} does not talk");
        }
        pair.phones[ALICE].hang_up(pair.now, call);
        pair.run_for(Duration::from_secs(2));
        pair.shut_down();
        pair.run_for(EVERYTHING);
        assert_at_rest(&pair);
        inputs
    });
}

fn is_dtls(payload: &[u8]) -> bool {
    matches!(payload, [20..=63, 0xfe, ..])
}
