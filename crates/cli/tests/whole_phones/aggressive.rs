//! A caller of RFC 5245 that nominates aggressively: USE-CANDIDATE in every check, on every pair,
//! the worse address first. Bob follows it to the best pair that works, and no `ice2` was said.
//!
//!   carol 203.0.113.9 (SIP)
//!   her media 203.0.113.10, ports 30000 (better) and 30002 ── Internet ── bob

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ringtrue_ice::{ComponentId, Credentials, PacketKind, classify};
use ringtrue_phone::EventKind;
use ringtrue_sip::sdp::{IceSupport, SessionDescription, read_offer};
use ringtrue_testnet::{Delivery, Node, Outbox};
use stun_types::attribute::{AttributeType, RawAttribute, Username, XorMappedAddress};
use stun_types::message::{
    IntegrityAlgorithm, Message, MessageClass, MessageIntegrityCredentials, MessageType,
    MessageWriteVec, ShortTermCredentials,
};
use stun_types::prelude::{MessageWrite, MessageWriteExt};

use crate::foreign::Kind;
use crate::foreign_callers::{bob_and_carol, ring_is, tag_of};

const MEDIA: [u8; 4] = [203, 0, 113, 10];
const BETTER: u16 = 30_000;
const WORSE: u16 = 30_002;
const UFRAG: &str = "carolito";
const PASSWORD: &str = "carolcarolcarolcarolcarol";
const PRIORITY: AttributeType = AttributeType::new(0x0024);
const USE_CANDIDATE: AttributeType = AttributeType::new(0x0025);
const ICE_CONTROLLING: AttributeType = AttributeType::new(0x802a);
const FRAME: Duration = Duration::from_millis(20);

#[derive(Default)]
struct State {
    /// Bob's credentials and address, once they are known.
    bob: Option<(Credentials, SocketAddr)>,
    next: Option<Instant>,
    checks: u16,
    spoken: u16,
    /// RTP that came to the better and to the worse port.
    heard: [usize; 2],
    out: Vec<(SocketAddr, SocketAddr, Vec<u8>)>,
}

struct Agent(Arc<Mutex<State>>);

fn socket(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::from(MEDIA), port)
}

fn finish(mut message: MessageWriteVec, password: &str) -> Vec<u8> {
    let key = ShortTermCredentials::new(password.to_owned());
    let key = MessageIntegrityCredentials::from(key);
    message
        .add_message_integrity(&key, IntegrityAlgorithm::Sha1)
        .unwrap();
    message.add_fingerprint().unwrap();
    message.finish()
}

fn check(number: u16, bob: &Credentials, priority: u32) -> Vec<u8> {
    let kind = MessageType::from_class_method(MessageClass::Request, stun_types::message::BINDING);
    let id = (u128::from(number) + 1).into();
    let mut message = Message::builder(kind, id, MessageWriteVec::new());
    let name = format!("{}:{UFRAG}", bob.ufrag);
    message
        .add_attribute(&Username::new(&name).unwrap())
        .unwrap();
    let priority = priority.to_be_bytes();
    message
        .add_attribute(&RawAttribute::new(PRIORITY, &priority))
        .unwrap();
    message
        .add_attribute(&RawAttribute::new(ICE_CONTROLLING, &u64::MAX.to_be_bytes()))
        .unwrap();
    message
        .add_attribute(&RawAttribute::new(USE_CANDIDATE, &[]))
        .unwrap();
    finish(message, &bob.pwd)
}

impl State {
    /// A check every 20 ms, from the worse port and from the better one in turn; then speech.
    fn tick(&mut self, now: Instant) {
        let Some((bob, to)) = self.bob.clone() else {
            return;
        };
        while let Some(at) = self.next
            && at <= now
        {
            self.next = Some(at + FRAME);
            if self.checks < 6 {
                let (port, priority) = if self.checks.is_multiple_of(2) {
                    (WORSE, 1_000)
                } else {
                    (BETTER, 1_862_270_975)
                };
                let payload = check(self.checks, &bob, priority);
                self.out.push((socket(port), to, payload));
                self.checks += 1;
                continue;
            }
            let mut rtp = vec![0x80, 0];
            rtp.extend(self.spoken.to_be_bytes());
            rtp.extend((u32::from(self.spoken) * 160).to_be_bytes());
            rtp.extend(7_u32.to_be_bytes());
            rtp.extend([0x10; 160]);
            self.out.push((socket(BETTER), to, rtp));
            self.spoken = self.spoken.wrapping_add(1);
        }
    }

    fn handle(&mut self, local: SocketAddr, from: SocketAddr, payload: &[u8]) {
        match classify(payload) {
            PacketKind::Rtp => self.heard[usize::from(local.port() == WORSE)] += 1,
            PacketKind::Stun => {
                let Ok(message) = Message::from_bytes(payload) else {
                    return;
                };
                if message.has_class(MessageClass::Request) {
                    let mut out = Message::builder_success(&message, MessageWriteVec::new());
                    let mapped = XorMappedAddress::new(from, message.transaction_id());
                    out.add_attribute(&mapped).unwrap();
                    self.out.push((local, from, finish(out, PASSWORD)));
                }
            }
            _ => {}
        }
    }
}

impl Node for Agent {
    fn handle_delivery(&mut self, _now: Instant, delivery: Delivery) {
        if let Delivery::Datagram {
            local,
            from,
            payload,
        } = delivery
        {
            self.0.lock().unwrap().handle(local, from, &payload);
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.0.lock().unwrap().tick(now);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let state = self.0.lock().unwrap();
        state.next.filter(|_| state.bob.is_some())
    }

    fn drain(&mut self, _now: Instant, out: &mut Outbox) {
        for (local, to, payload) in self.0.lock().unwrap().out.drain(..) {
            out.datagram(local, to, payload);
        }
    }
}

#[test]
fn a_caller_that_nominates_aggressively() {
    let (mut stage, mut carol) = bob_and_carol(Kind::Without, |_| {});
    let state = Arc::new(Mutex::new(State::default()));
    let world = stage.simulation.world_mut();
    let internet = world.internet();
    let host = world.host_at("media", internet, MEDIA);
    world.add_server(host, Agent(Arc::clone(&state)));

    let offer = carol
        .sdp(&format!(
            "a=ice-ufrag:{UFRAG}\r\na=ice-pwd:{PASSWORD}\r\n\
             a=candidate:1 1 UDP 2130706431 203.0.113.10 {BETTER} typ host\r\n\
             a=candidate:2 1 UDP 1000 203.0.113.10 {WORSE} typ host\r\n"
        ))
        .replace("c=IN IP4 203.0.113.9\r\n", "c=IN IP4 203.0.113.10\r\n");
    carol.request(&mut stage, "1 INVITE", "", &offer);
    let progress = carol.expect(&mut stage, "SIP/2.0 183", "INVITE");
    carol.to_tag = tag_of(&progress);
    let answer = SessionDescription::parse(progress.body().as_bytes()).unwrap();
    let IceSupport::Supported(bob) = read_offer(&answer).unwrap().ice else {
        panic!("no ICE in {}", progress.text);
    };
    let of_rtp = |component: ComponentId| component == ComponentId::Rtp;
    let candidate = bob.candidates.iter().find(|known| of_rtp(known.component));
    let to = candidate.unwrap().address;
    {
        let mut state = state.lock().unwrap();
        state.bob = Some((bob.credentials, to));
        state.next = Some(stage.simulation.now());
    }
    stage.simulation.settle();
    carol.expect(&mut stage, "SIP/2.0 180", "INVITE");
    ring_is(&stage, true);
    carol.expect(&mut stage, "SIP/2.0 200", "INVITE");
    carol.request(&mut stage, "1 ACK", "", "");
    stage.run(2);
    let [better, worse] = state.lock().unwrap().heard;
    assert!(better > 90 && worse == 0, "{better}, {worse}");
    let bye = carol.expect(&mut stage, "BYE", "BYE");
    carol.respond(&mut stage, &bye, "200 OK", "", "");
    stage.run(1);
    let figures = stage
        .bob()
        .events()
        .iter()
        .rev()
        .find_map(|event| match &event.kind {
            EventKind::Stats(figures) => Some(**figures),
            _ => None,
        });
    assert!(figures.unwrap().rx_packets > 90, "{}", stage.story());
}
