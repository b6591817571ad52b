//! The agent of `is` on a host. It knows one component; questions to the STUN server are its
//! owner's, and so are asked here.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use is::stun::{StunMessage, StunPacket};
use is::{Candidate, IceAgent, IceAgentEvent, IceCreds, Protocol};
use ringtrue_ice::{ComponentId, Credentials, IceDescription, Path, Role};
use ringtrue_testnet::{Delivery, Node, Outbox, make_binding_request};
use stun_proto::types::attribute::XorMappedAddress;
use stun_proto::types::message::Message;

use crate::agent::{Agent, Setup};
use crate::line;

/// So long it waits for the STUN server.
const PATIENCE: Duration = Duration::from_millis(500);

pub struct Is {
    agent: IceAgent,
    base: SocketAddr,
    server: SocketAddr,
    gathers_until: Option<Instant>,
    asked: bool,
    path: Option<Path>,
    wake_up: Option<Instant>,
}

impl Is {
    pub fn new(setup: Setup, now: Instant) -> Self {
        let [(ComponentId::Rtp, base)] = setup.bases[..] else {
            panic!("it has RTP and nothing else");
        };
        let mut agent = IceAgent::new(IceCreds::new());
        agent.set_controlling(setup.role == Role::Controlling);
        let host = Candidate::host(base, Protocol::Udp).expect("a host candidate");
        agent.add_local_candidate(host);
        Self {
            agent,
            base,
            server: setup.stun_server,
            gathers_until: Some(now + PATIENCE),
            asked: false,
            path: None,
            wake_up: Some(now + PATIENCE),
        }
    }

    /// The STUN server has answered. The parser of `is` takes no answer without a password.
    fn mapped(&mut self, payload: &[u8]) {
        let Ok(message) = Message::from_bytes(payload) else {
            return;
        };
        if let Ok(mapped) = message.attribute::<XorMappedAddress>() {
            let mapped = mapped.addr(message.transaction_id());
            let reflexive = Candidate::server_reflexive(mapped, self.base, Protocol::Udp);
            self.agent
                .add_local_candidate(reflexive.expect("a reflexive candidate"));
            self.gathers_until = None;
        }
    }
}

impl Agent for Is {
    fn has_gathered(&self) -> bool {
        self.gathers_until.is_none()
    }

    fn describe(&mut self) -> IceDescription {
        let creds = self.agent.local_credentials();
        let candidates = self.agent.local_candidates();
        IceDescription {
            credentials: Credentials {
                ufrag: creds.ufrag.clone(),
                pwd: creds.pass.clone(),
            },
            candidates: candidates
                .map(|candidate| line::read(&format!("a={}", candidate.to_sdp_string())))
                .collect(),
            lite: false,
            // It nominates again whenever it finds a better pair.
            ice2: false,
            pacing: None,
            trickle: ringtrue_ice::Trickle::Unsupported,
            remote_candidates: Vec::new(),
        }
    }

    fn start(&mut self, now: Instant, remote: IceDescription) {
        self.agent.set_remote_credentials(IceCreds {
            ufrag: remote.credentials.ufrag,
            pass: remote.credentials.pwd,
        });
        for candidate in &remote.candidates {
            let candidate = Candidate::from_sdp_string(&line::write(candidate));
            self.agent
                .add_remote_candidate(candidate.expect("our lines are understood"));
        }
        self.agent.handle_timeout(now);
    }

    fn path(&self, component: ComponentId) -> Option<Path> {
        self.path.filter(|_| component == ComponentId::Rtp)
    }
}

impl Node for Is {
    fn handle_delivery(&mut self, now: Instant, delivery: Delivery) {
        let Delivery::Datagram {
            local,
            from,
            payload,
        } = delivery
        else {
            return;
        };
        if from == self.server {
            self.mapped(&payload);
            return;
        }
        let Ok(message) = StunMessage::parse(&payload) else {
            return;
        };
        let packet = StunPacket {
            proto: Protocol::Udp,
            source: from,
            destination: local,
            message,
        };
        self.agent.handle_packet(now, packet);
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.gathers_until.is_some_and(|until| until <= now) {
            self.gathers_until = None;
        }
        if self.agent.poll_timeout().is_some_and(|at| at <= now) {
            self.agent.handle_timeout(now);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.wake_up
    }

    fn drain(&mut self, _now: Instant, out: &mut Outbox) {
        if !self.asked {
            self.asked = true;
            out.datagram(self.base, self.server, make_binding_request([0x15; 12]));
        }
        while let Some(sent) = self.agent.poll_transmit() {
            out.datagram(sent.source, sent.destination, sent.contents.into());
        }
        while let Some(event) = self.agent.poll_event() {
            if let IceAgentEvent::NominatedSend {
                source,
                destination,
                ..
            } = event
            {
                self.path = Some(Path::udp(source, destination));
            }
        }
        let agent = self.agent.poll_timeout();
        self.wake_up = self.gathers_until.into_iter().chain(agent).min();
    }
}
