//! How a call sounds, in figures: each side tells the other one (RFC 3611 section 4.7).
//!
//!     alice ---- proxy ---- bob

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringtrue_media::Codec;
use ringtrue_phone::event::MediaFigures;
use ringtrue_phone::settings::SrtpUse;
use ringtrue_phone::{EventKind, Settings};
use ringtrue_program::virtual_phone::VirtualPhone;
use ringtrue_testnet::{GatewayConfig, HostId, Link, NatConfig, Verdict, World};

use crate::keys::figures;
use crate::stage::{Setup, Stage};
use crate::talk::talking_as_set_up;

const WISH: &[u8] = b"a=rtcp-xr:voip-metrics\r\n";

fn narrow(settings: &mut Settings) {
    settings.duration = None;
    settings.codecs = vec![Codec::Pcma];
}

/// The figures that a phone told last.
fn told(phone: &VirtualPhone) -> MediaFigures {
    let mut events = phone.events().iter().rev();
    let found = events.find_map(|event| match &event.kind {
        EventKind::Stats(figures) => Some(**figures),
        _ => None,
    });
    found.expect("figures")
}

/// Four RTP packets of forty are lost, both ways: in bursts of six.
fn lose_bursts(stage: &mut Stage) {
    let mut first = HashMap::new();
    stage.tap(move |passing| {
        let [0x80, kind, a, b, _, _, _, _, c, d, e, f, ..] = *passing.payload else {
            return Verdict::Pass;
        };
        if (192..=223).contains(&kind) {
            return Verdict::Pass;
        }
        let number = u16::from_be_bytes([a, b]);
        let begin = *first.entry([c, d, e, f]).or_insert(number);
        match number.wrapping_sub(begin) % 40 {
            20 | 22 | 23 | 25 => Verdict::Drop,
            _ => Verdict::Pass,
        }
    });
}

fn assert_near(is: Option<f64>, should: f64, by: f64, figures: &MediaFigures) {
    let near = is.is_some_and(|is| (is - should).abs() <= by);
    assert!(near, "{is:?} {should}: {figures:?}");
}

/// Clear or encrypted, each phone tells how it hears, and knows how it is heard.
#[test]
fn two_phones_tell_each_other_how_they_hear() {
    for srtp in [SrtpUse::Off, SrtpUse::Optional] {
        let mut stage = talking_as_set_up(Setup {
            srtp,
            alices: narrow,
            bobs: narrow,
            ..Setup::default()
        });
        lose_bursts(&mut stage);
        stage.run(40);
        for (here, there) in [(stage.alice(), stage.bob()), (stage.bob(), stage.alice())] {
            let (here, there) = (told(here), told(there));
            // Two seconds without losses came before.
            assert_near(here.loss_percent, 9.4, 0.6, &here);
            assert_eq!(here.burst_ms, Some(120.0), "{here:?}");
            assert_near(here.burst_density, 2.0 / 3.0, 1e-9, &here);
            assert_eq!(here.gap_density, Some(0.0), "{here:?}");
            // The same figures on the other side, some seconds old and rounded as the report has it.
            assert_near(there.remote_loss_percent, 9.2, 0.7, &there);
            assert_eq!(there.remote_burst_ms, Some(120.0), "{there:?}");
            assert_eq!(there.remote_burst_density, Some(170.0 / 256.0));
            assert_near(there.remote_r_factor, here.r_factor.unwrap(), 1.5, &there);
            assert_near(there.remote_mos, here.mos.unwrap(), 0.1, &there);
            assert_near(
                there.remote_buffer_ms,
                here.buffer_ms.unwrap(),
                20.0,
                &there,
            );
        }
        stage.hang_up();
        stage.run(1);
        let end = figures(stage.alice());
        assert_eq!(end.remote_burst_ms, Some(120.0), "{end:?}");
        assert!(end.burst_density.is_some(), "{end:?}");
    }
}

/// A peer that does not ask for them gets none, and is still rated by its ordinary reports.
#[test]
fn who_does_not_ask_is_not_told() {
    let mut stage = Setup {
        alices: narrow,
        bobs: narrow,
        edit: |body| {
            if let Some(at) = body.windows(WISH.len()).position(|line| line == WISH) {
                body.drain(at..at + WISH.len());
            }
        },
        ..Setup::default()
    }
    .build();
    stage.dial();
    stage.run(10);
    for phone in [stage.alice(), stage.bob()] {
        let figures = told(phone);
        assert!(figures.r_factor.is_some_and(|r| r > 90.0), "{figures:?}");
        assert_eq!(figures.remote_r_factor, None);
        assert!(
            figures.remote_mos.is_some_and(|mos| mos > 4.3),
            "{figures:?}"
        );
    }
}

/// So many interfaces more for alice, each behind a NAT of its own.
fn with_interfaces(count: u8) -> fn(&mut World, [HostId; 2], [HostId; 2]) {
    fn add(world: &mut World, [alice, _]: [HostId; 2], count: u8) {
        let internet = world.internet();
        for number in 1..=count {
            let outer = [203, 0, 113, 100 + number];
            let nat = GatewayConfig::nat(outer, NatConfig::port_restricted());
            let (_, home) = world.add_gateway(internet, nat);
            world.add_interface(alice, home, [10, 100, number, 2], Link::default());
        }
    }
    match count {
        0 => |_, _, _| {},
        1 => |world, phones, _| add(world, phones, 1),
        2 => |world, phones, _| add(world, phones, 2),
        3 => |world, phones, _| add(world, phones, 3),
        _ => |world, phones, _| add(world, phones, 6),
    }
}

/// The wish is in an INVITE as long as there is room for it in the datagram, and where it goes by
/// TCP in any case; a datagram is never too long because of it.
#[test]
fn an_invite_asks_where_there_is_room() {
    let mut asked = Vec::new();
    for srtp in [SrtpUse::Off, SrtpUse::Optional] {
        for count in [0, 1, 2, 3, 6] {
            let mut stage = Setup {
                srtp,
                more: with_interfaces(count),
                ..Setup::default()
            }
            .build();
            let invites = Arc::new(Mutex::new(Vec::new()));
            let seen = Arc::clone(&invites);
            stage.tap(move |passing| {
                if passing.payload.starts_with(b"INVITE ") {
                    let mut lines = passing.payload.windows(WISH.len());
                    let asks = lines.any(|line| line == WISH);
                    seen.lock().unwrap().push((passing.payload.len(), asks));
                }
                Verdict::Pass
            });
            stage.dial();
            stage.simulation.run_for(Duration::from_millis(500));
            let (length, asks) = invites.lock().unwrap()[0];
            println!("{srtp:?}, {count} interfaces more: {length} bytes, asked: {asks}");
            assert!(asks || length <= 1_300 && length + WISH.len() > 1_200);
            asked.push(asks);
        }
    }
    assert!(asked[0], "there is room for it");
}
