//! Media sockets and the candidates that are gathered on them.

mod again;
mod keeper;
mod tcp;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ringtrue_ice::{
    Base, CandidateType, ComponentId, GatherConfig, Gathered, Gatherer, Relayed, TcpType, Transmit,
};

use again::Again;
use keeper::parting_ends;
pub(crate) use keeper::{Keeper, Parting, StreamEvent};
pub(crate) use tcp::Came;
use tcp::TcpMedia;

use crate::desk::Desk;
use crate::io::{BindRequest, Connection, Output};
use crate::mapping::Remapped;

/// The sockets of one call and the candidates on them, ready to be offered.
#[derive(Debug)]
pub(crate) struct MediaSockets {
    pub(crate) bases: Vec<Base>,
    pub(crate) gathered: Gathered,
    /// Keeps the NAT's bindings of the server-reflexive candidates until a path is selected, and
    /// the allocations of the relayed ones until the end; what is relayed goes through it.
    keeper: Keeper,
    /// Sockets that are to close when the TURN servers have their allocations back, and at the
    /// latest then.
    leaving: Option<(Vec<Base>, Instant)>,
    /// Candidates are gathered anew, for an ICE restart.
    again: Option<Again>,
    /// Whether the last gathering gave an address that was not there before.
    remapped: bool,
    /// Whether RTCP has sockets of its own.
    rtcp: bool,
    tcp: TcpMedia,
}

impl MediaSockets {
    pub(crate) fn owns(&self, local: SocketAddr) -> bool {
        self.open_bases().any(|base| base.address == local)
    }

    fn open_bases(&self) -> impl Iterator<Item = &Base> + Clone {
        let leaving = self.leaving.iter().flat_map(|(bases, _)| bases);
        self.bases.iter().chain(leaving)
    }

    /// Closes the sockets of RTCP, which rtcp-mux made needless (RFC 5761).
    pub(crate) fn close_rtcp(&mut self, desk: &mut Desk, now: Instant) {
        self.rtcp = false;
        let (keep, needless): (Vec<_>, _) = self
            .bases
            .iter()
            .copied()
            .partition(|base| base.component == ComponentId::Rtp);
        for base in &needless {
            self.keeper.release(now, base.address);
        }
        self.bases = keep;
        self.leaving = Some((needless, parting_ends(now)));
        self.flush(desk, now);
    }

    /// Takes what a STUN or TURN server sent; true if it did. What a peer sent through the server
    /// is ready in [`Self::next_relayed`] then.
    pub(crate) fn handle_datagram(
        &mut self,
        desk: &mut Desk,
        now: Instant,
        local: SocketAddr,
        from: SocketAddr,
        payload: &[u8],
    ) -> bool {
        let taken = self.keeper.handle_datagram(now, local, from, payload);
        self.flush(desk, now);
        self.proceed_again(desk, now);
        taken
    }

    /// Takes what happened to a connection; false if it is not one of these. What a peer sent
    /// through it is ready in [`Self::next_relayed`] then.
    pub(crate) fn handle_turn_stream(
        &mut self,
        desk: &mut Desk,
        now: Instant,
        connection: Connection,
        event: StreamEvent<'_>,
    ) -> bool {
        let taken = self.keeper.handle_stream(now, connection, event);
        if taken {
            self.flush(desk, now);
            self.proceed_again(desk, now);
        }
        taken
    }

    pub(crate) fn next_relayed(&mut self) -> Option<Relayed> {
        self.keeper.poll_relayed()
    }

    /// The socket that packets from a base leave by: the base itself, but for a relayed address.
    pub(crate) fn socket_of(&self, base: SocketAddr) -> SocketAddr {
        self.keeper.socket_of(base)
    }

    /// Sends from a socket, or from a relayed address through its TURN server.
    pub(crate) fn send(&mut self, desk: &mut Desk, now: Instant, transmit: Transmit) {
        match self.keeper.relay(now, transmit) {
            Some(direct) => desk.out(datagram(direct)),
            None => self.flush(desk, now),
        }
    }

    /// The router maps a port to a socket, or does so no longer; false when it is not ours.
    pub(crate) fn handle_mapped(&mut self, desk: &mut Desk, now: Instant, told: Remapped) -> bool {
        let ours = self.owns(told.base);
        if ours {
            self.keeper.set_mapped(told.base, told.external);
            self.proceed_again(desk, now);
        }
        ours
    }

    /// Keeps the candidates' bindings and allocations alive.
    pub(crate) fn handle_timeout(&mut self, desk: &mut Desk, now: Instant) {
        self.keeper.handle_timeout(now, &mut desk.pacer);
        self.flush(desk, now);
        self.tcp.handle_timeout(now);
        self.proceed_again(desk, now);
    }

    fn flush(&mut self, desk: &mut Desk, now: Instant) {
        // The sockets of RTCP may be closed by now.
        let leaving = self.leaving.iter().flat_map(|(bases, _)| bases);
        self.keeper.flush(desk, self.bases.iter().chain(leaving));
        let released = self.keeper.is_released();
        if let Some((bases, _)) = self.leaving.take_if(|(_, until)| released || now >= *until) {
            close_all(desk, &bases);
        }
    }

    pub(crate) fn poll_timeout(&self, desk: &Desk) -> Option<Instant> {
        let keeper = self.keeper.poll_timeout(&desk.pacer);
        let again = self.again.as_ref();
        let again = again.and_then(|again| again.poll_timeout(desk));
        let leaving = self.leaving.as_ref().map(|(_, until)| *until);
        let strangers = self.tcp.poll_timeout();
        keeper
            .into_iter()
            .chain(again)
            .chain(leaving)
            .chain(strangers)
            .min()
    }

    /// Whether every server that was asked has answered or refused.
    pub(crate) fn is_settled(&self) -> bool {
        self.keeper.is_settled()
    }

    /// What is known by now, to be told to peers: more than what was offered, if a server was
    /// slow.
    pub(crate) fn gathered_by_now(&mut self) -> Gathered {
        self.keeper.tell();
        self.keeper.gathered()
    }

    /// A path is selected: no other binding is needed any more, unless a restart needs it.
    pub(crate) fn path_selected(&mut self, desk: &mut Desk, now: Instant) {
        if self.again.is_none() {
            self.keeper.path_selected();
            self.flush(desk, now);
        }
    }

    /// Closes the sockets; allocations are given back before.
    pub(crate) fn close(mut self, desk: &mut Desk, now: Instant) {
        if let Some((leaving, _)) = self.leaving.take() {
            self.bases.extend(leaving);
        }
        Parting::begin(self.keeper, self.bases, desk, now);
        self.tcp.close(desk);
    }

    /// Where media to a peer without ICE leaves from: the relayed address, if that is what our SDP
    /// says; else our socket of its address family, the most preferred one.
    pub(crate) fn base_towards(
        &self,
        peer: SocketAddr,
        component: ComponentId,
    ) -> Option<SocketAddr> {
        let same_family = |local: &SocketAddr| local.is_ipv4() == peer.is_ipv4();
        let relayed = self
            .gathered
            .default_candidate(component)
            .filter(|candidate| candidate.kind == CandidateType::Relayed)
            .map(|candidate| candidate.address)
            .filter(same_family);
        relayed.or_else(|| {
            self.bases
                .iter()
                .filter(|base| base.component == component)
                .map(|base| base.address)
                .find(same_family)
        })
    }
}

fn datagram(transmit: Transmit) -> Output {
    Output::Datagram {
        local: transmit.base,
        to: transmit.to,
        payload: transmit.payload,
    }
}

/// RFC 8445 section 5.1.2.1, for the address that is so many places behind the best.
fn preference(rank: usize) -> u16 {
    u16::MAX.saturating_sub(u16::try_from(rank).unwrap_or(u16::MAX))
}

fn close_all(desk: &mut Desk, bases: &[Base]) {
    for base in bases {
        desk.unmap_port(base.address);
        desk.out(Output::Unbind {
            local: base.address,
        });
    }
}

/// A set from the pool.
pub(crate) enum Warm {
    /// Its candidates are gathered.
    Ready(MediaSockets),
    /// They are on their way.
    Begun(Gathering),
}

/// A set of sockets on its way to being [`MediaSockets`].
pub(crate) struct Gathering {
    started: Instant,
    tcp: TcpMedia,
    stage: Stage,
}

#[derive(Debug)]
struct Wanted {
    request: BindRequest,
    component: ComponentId,
    local_preference: u16,
}

enum Stage {
    /// Sockets are being bound.
    Binding {
        wanted: Vec<Wanted>,
        bound: Vec<Base>,
    },
    /// The names of the STUN and TURN servers are being resolved.
    Resolving { bound: Vec<Base> },
    /// Candidates are being gathered, or have been and are kept warm.
    Gathering {
        bases: Vec<Base>,
        gatherer: Keeper,
        took: Option<Duration>,
    },
}

impl Gathering {
    pub(crate) fn begin(desk: &mut Desk, now: Instant) -> Self {
        let mut wanted = Vec::new();
        for (rank, address) in desk.media_addresses().into_iter().enumerate() {
            for component in [ComponentId::Rtp, ComponentId::Rtcp] {
                wanted.push(Wanted {
                    request: desk.bind(address),
                    component,
                    local_preference: preference(rank),
                });
            }
        }
        let mut tcp = TcpMedia::default();
        tcp.listen(desk);
        Self {
            started: now,
            tcp,
            stage: Stage::Binding {
                wanted,
                bound: Vec::new(),
            },
        }
    }

    /// Takes the answer to a bind wish; false when the wish was not ours.
    pub(crate) fn handle_bound(
        &mut self,
        desk: &mut Desk,
        now: Instant,
        request: BindRequest,
        local: Option<SocketAddr>,
    ) -> bool {
        let Stage::Binding { wanted, bound } = &mut self.stage else {
            return false;
        };
        let Some(index) = wanted.iter().position(|wish| wish.request == request) else {
            return false;
        };
        let wish = wanted.swap_remove(index);
        bound.extend(local.map(|address| Base {
            address,
            component: wish.component,
            local_preference: wish.local_preference,
        }));
        self.proceed(desk, now);
        true
    }

    /// When names that are still being resolved are waited for no longer: the servers that are
    /// known get half of the patience for their answers.
    fn resolve_by(&self, desk: &Desk) -> Instant {
        let patience = desk.settings.gather_patience;
        match desk.servers.known() {
            0 => self.started + patience,
            _ => self.started + patience / 2,
        }
    }

    /// Whether servers are being asked, or have been.
    pub(crate) fn has_begun(&self) -> bool {
        matches!(self.stage, Stage::Gathering { .. })
    }

    /// Takes the answer to a wish for a listening socket; false when the wish was not ours.
    pub(crate) fn handle_listening(
        &mut self,
        desk: &mut Desk,
        now: Instant,
        request: BindRequest,
        local: Option<SocketAddr>,
    ) -> bool {
        let taken = self.tcp.handle_listening(request, local);
        if taken {
            self.proceed(desk, now);
        }
        taken
    }

    /// Goes on as far as what is known allows.
    pub(crate) fn proceed(&mut self, desk: &mut Desk, now: Instant) {
        if let Stage::Binding { wanted, bound } = &mut self.stage
            && wanted.is_empty()
            && self.tcp.is_settled()
        {
            let bound = std::mem::take(bound);
            self.stage = Stage::Resolving { bound };
        }
        let patience = desk.settings.gather_patience;
        let resolve_by = self.resolve_by(desk);
        if let Stage::Resolving { bound } = &mut self.stage
            && (desk.servers.is_settled(now) || now >= resolve_by)
        {
            let bases = std::mem::take(bound);
            let config = GatherConfig {
                stun_servers: desk.servers.stun(),
                turn_servers: desk.servers.turn(),
                relay_only: desk.settings.relay_only,
                patience: (self.started + patience).saturating_duration_since(now),
                ..GatherConfig::default()
            };
            let mut gatherer: Keeper =
                Gatherer::new(config, bases.clone(), desk.long_seed(), now).into();
            let simultaneous = self.tcp.listeners(TcpType::SimultaneousOpen);
            gatherer.listen_on(self.tcp.listeners(TcpType::Passive), simultaneous);
            desk.map_ports(now, &bases, &mut gatherer);
            self.stage = Stage::Gathering {
                bases,
                gatherer,
                took: None,
            };
            self.handle_timeout(desk, now);
        }
    }

    /// Takes a datagram if it came to one of our sockets; false otherwise.
    pub(crate) fn handle_datagram(
        &mut self,
        desk: &mut Desk,
        now: Instant,
        local: SocketAddr,
        from: SocketAddr,
        payload: &[u8],
    ) -> bool {
        let Stage::Gathering {
            bases, gatherer, ..
        } = &mut self.stage
        else {
            return false;
        };
        if !bases.iter().any(|base| base.address == local) {
            return false;
        }
        gatherer.handle_datagram(now, local, from, payload);
        self.handle_timeout(desk, now);
        true
    }

    /// The router maps a port to a socket, or does so no longer; false when it is not ours.
    pub(crate) fn handle_mapped(&mut self, desk: &mut Desk, now: Instant, told: Remapped) -> bool {
        let Stage::Gathering {
            bases, gatherer, ..
        } = &mut self.stage
        else {
            return false;
        };
        let ours = bases.iter().any(|base| base.address == told.base);
        if ours {
            gatherer.set_mapped(told.base, told.external);
            self.handle_timeout(desk, now);
        }
        ours
    }

    /// Takes what happened to a connection; false if it is not one of these.
    pub(crate) fn handle_turn_stream(
        &mut self,
        desk: &mut Desk,
        now: Instant,
        connection: Connection,
        event: StreamEvent<'_>,
    ) -> bool {
        let Stage::Gathering { gatherer, .. } = &mut self.stage else {
            return false;
        };
        let taken = gatherer.handle_stream(now, connection, event);
        if taken {
            self.handle_timeout(desk, now);
        }
        taken
    }

    pub(crate) fn handle_timeout(&mut self, desk: &mut Desk, now: Instant) {
        if matches!(self.stage, Stage::Resolving { .. }) {
            self.proceed(desk, now);
        }
        if let Stage::Gathering {
            bases,
            gatherer,
            took,
        } = &mut self.stage
        {
            gatherer.handle_timeout(now, &mut desk.pacer);
            gatherer.flush(desk, bases.iter());
            if gatherer.is_finished() && took.is_none() {
                *took = Some(now.saturating_duration_since(self.started));
            }
        }
    }

    pub(crate) fn poll_timeout(&self, desk: &Desk) -> Option<Instant> {
        match &self.stage {
            Stage::Binding { .. } => None,
            Stage::Resolving { .. } => Some(self.resolve_by(desk)),
            Stage::Gathering { gatherer, .. } => gatherer.poll_timeout(&desk.pacer),
        }
    }

    /// How long gathering took, once it is finished.
    pub(crate) fn took(&self) -> Option<Duration> {
        match &self.stage {
            Stage::Gathering { took, .. } => *took,
            _ => None,
        }
    }

    /// Takes what is there: the rest will be trickled. Sockets at least there must be.
    pub(crate) fn hurry(&mut self, now: Instant) {
        if let Stage::Gathering { gatherer, took, .. } = &mut self.stage
            && gatherer.gathered().candidates().next().is_some()
        {
            took.get_or_insert(now.saturating_duration_since(self.started));
        }
    }

    /// Asks whether what was gathered still stands, while it waits in the pool.
    pub(crate) fn verify(&mut self, desk: &mut Desk, now: Instant) {
        if let Stage::Gathering { gatherer, .. } = &mut self.stage {
            gatherer.verify(now);
        }
        self.handle_timeout(desk, now);
    }

    /// Whether a server has lost what was gathered: these candidates lead nowhere.
    pub(crate) fn is_stale(&self) -> bool {
        matches!(&self.stage, Stage::Gathering { gatherer, .. } if gatherer.is_stale())
    }

    /// How many candidates there are by now.
    pub(crate) fn candidates(&self) -> usize {
        match &self.stage {
            Stage::Gathering { gatherer, .. } => gatherer.gathered().candidates().count(),
            _ => 0,
        }
    }

    /// The sockets and what was gathered on them by now. Gives itself back while it has neither.
    pub(crate) fn finish(self) -> Result<MediaSockets, Box<Self>> {
        match self.stage {
            Stage::Gathering {
                bases,
                mut gatherer,
                took: Some(_),
            } => {
                gatherer.tell();
                Ok(MediaSockets {
                    gathered: gatherer.gathered(),
                    bases,
                    keeper: gatherer,
                    leaving: None,
                    again: None,
                    remapped: false,
                    rtcp: true,
                    tcp: self.tcp,
                })
            }
            _ => Err(Box::new(self)),
        }
    }

    /// Closes what was opened. Sockets that are bound later find nobody and are closed then.
    pub(crate) fn abandon(mut self, desk: &mut Desk, now: Instant) {
        self.tcp.close(desk);
        match self.stage {
            Stage::Binding { bound, .. } | Stage::Resolving { bound } => close_all(desk, &bound),
            Stage::Gathering {
                bases, gatherer, ..
            } => Parting::begin(gatherer, bases, desk, now),
        }
    }
}
