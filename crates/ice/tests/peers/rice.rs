//! The agent of `rice-proto` on a host.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::str::FromStr as _;
use std::time::{Duration, Instant};

use rice_proto::agent::{Agent as RiceAgent, AgentPoll};
use rice_proto::candidate::{Candidate, TransportType};
use rice_proto::random_string;
use rice_proto::stream::Credentials as RiceCredentials;
use ringtrue_ice::{ComponentId, Credentials, IceDescription, Path, Role};
use ringtrue_testnet::{Delivery, Node, Outbox};
use stun_proto::Instant as RiceInstant;
use stun_proto::agent::Transmit;

use crate::agent::{Agent, Setup};
use crate::line;

pub struct Rice {
    agent: RiceAgent,
    stream: usize,
    bases: Vec<(ComponentId, SocketAddr)>,
    credentials: Credentials,
    gathered: Vec<Candidate>,
    gathering: usize,
    selected: BTreeMap<usize, Path>,
    origin: Instant,
    wake_up: Option<Instant>,
}

impl Rice {
    pub fn new(setup: Setup, now: Instant) -> Self {
        let mut agent = RiceAgent::builder()
            .controlling(setup.role == Role::Controlling)
            .build();
        let stream = agent.add_stream();
        let credentials = Credentials {
            ufrag: random_string(8),
            pwd: random_string(24),
        };
        let mut handle = agent.mut_stream(stream).expect("just added");
        handle.set_local_credentials(foreign(&credentials));
        for (component, base) in &setup.bases {
            let id = handle.add_component().expect("a component");
            assert_eq!(id, usize::from(component.number()));
            let socket = [(TransportType::Udp, *base)];
            let server = [(TransportType::Udp, setup.stun_server)];
            handle
                .mut_component(id)
                .expect("just added")
                .gather_candidates(&socket, &server, &[])
                .expect("gathering begins");
        }
        Self {
            agent,
            stream,
            gathering: setup.bases.len(),
            bases: setup.bases,
            credentials,
            gathered: Vec::new(),
            selected: BTreeMap::new(),
            origin: now,
            wake_up: Some(now),
        }
    }

    fn time(&self, now: Instant) -> RiceInstant {
        let passed = now.saturating_duration_since(self.origin);
        RiceInstant::from_nanos(i64::try_from(passed.as_nanos()).expect("a short call"))
    }

    fn poll(&mut self, now: Instant) {
        let rice_now = self.time(now);
        loop {
            match self.agent.poll(rice_now) {
                AgentPoll::WaitUntil(at) => {
                    // Where it says "now" it has said what it wants to send.
                    let rest = at.saturating_duration_since(rice_now);
                    self.wake_up = Some(now + rest.max(Duration::from_millis(1)));
                    return;
                }
                AgentPoll::GatheredCandidate(found) => {
                    self.gathered.push(found.gathered.candidate.clone());
                    let mut stream = self.agent.mut_stream(self.stream).expect("its stream");
                    stream.add_local_gathered_candidate(found.gathered);
                }
                AgentPoll::GatheringComplete(_) => {
                    self.gathering -= 1;
                    if self.gathering == 0 {
                        let mut stream = self.agent.mut_stream(self.stream).expect("its stream");
                        stream.end_of_local_candidates();
                    }
                }
                AgentPoll::SelectedPair(chosen) => {
                    let pair = chosen.selected.candidate_pair();
                    let path = Path::udp(pair.local.base_address, pair.remote.address);
                    self.selected.insert(chosen.component_id, path);
                }
                AgentPoll::ComponentStateChange(_) => {}
                AgentPoll::Closed => {
                    self.wake_up = None;
                    return;
                }
                AgentPoll::AllocateSocket(_) | AgentPoll::RemoveSocket(_) => {
                    panic!("there is neither TCP nor a relay")
                }
            }
        }
    }
}

fn foreign(credentials: &Credentials) -> RiceCredentials {
    RiceCredentials {
        ufrag: credentials.ufrag.clone(),
        passwd: credentials.pwd.clone(),
    }
}

impl Agent for Rice {
    fn has_gathered(&self) -> bool {
        self.gathering == 0
    }

    fn describe(&mut self) -> IceDescription {
        let lines = self.gathered.iter().map(Candidate::to_sdp_string);
        IceDescription {
            credentials: self.credentials.clone(),
            candidates: lines.map(|text| line::read(&text)).collect(),
            lite: false,
            // It follows RFC 8445.
            ice2: true,
            pacing: None,
            trickle: ringtrue_ice::Trickle::Unsupported,
            remote_candidates: Vec::new(),
        }
    }

    fn start(&mut self, now: Instant, remote: IceDescription) {
        let mut stream = self.agent.mut_stream(self.stream).expect("its stream");
        stream.set_remote_credentials(foreign(&remote.credentials));
        for candidate in &remote.candidates {
            let line = format!("a={}", line::write(candidate));
            let candidate = Candidate::from_str(&line).expect("our lines are understood");
            stream.add_remote_candidate(candidate);
        }
        stream.end_of_remote_candidates();
        self.wake_up = Some(now);
    }

    fn path(&self, component: ComponentId) -> Option<Path> {
        let number = usize::from(component.number());
        self.selected.get(&number).copied()
    }
}

impl Node for Rice {
    fn handle_delivery(&mut self, now: Instant, delivery: Delivery) {
        if let Delivery::Datagram {
            local,
            from,
            payload,
        } = delivery
            && let Some((component, _)) = self.bases.iter().find(|(_, base)| *base == local)
        {
            let rice_now = self.time(now);
            let mut stream = self.agent.mut_stream(self.stream).expect("its stream");
            let arrived = Transmit::new(payload, TransportType::Udp, from, local);
            stream.handle_incoming_data(usize::from(component.number()), arrived, rice_now);
        }
    }

    fn handle_timeout(&mut self, _now: Instant) {}

    fn poll_timeout(&self) -> Option<Instant> {
        self.wake_up
    }

    fn drain(&mut self, now: Instant, out: &mut Outbox) {
        loop {
            self.poll(now);
            let rice_now = self.time(now);
            let Some(sent) = self.agent.poll_transmit(rice_now) else {
                return;
            };
            let sent = sent.transmit;
            out.datagram(sent.from, sent.to, sent.data.into_vec());
        }
    }
}
