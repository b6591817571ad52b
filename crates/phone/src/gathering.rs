//! Media sockets and the candidates that are gathered on them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ringtrue_ice::{Base, ComponentId, GatherConfig, Gathered, Gatherer};

use crate::desk::Desk;
use crate::io::{BindRequest, Output};

/// The sockets of one call and the candidates on them, ready to be offered.
#[derive(Debug)]
pub(crate) struct MediaSockets {
    pub(crate) bases: Vec<Base>,
    pub(crate) gathered: Gathered,
    /// Keeps the NAT's bindings of the server-reflexive candidates until a path is selected.
    keeper: Option<Box<Gatherer>>,
}

impl MediaSockets {
    pub(crate) fn owns(&self, local: SocketAddr) -> bool {
        self.bases.iter().any(|base| base.address == local)
    }

    /// Closes the sockets of RTCP, which rtcp-mux made needless (RFC 5761).
    pub(crate) fn close_rtcp(&mut self, desk: &mut Desk) {
        self.bases.retain(|base| {
            let keep = base.component == ComponentId::Rtp;
            if !keep {
                desk.out(Output::Unbind {
                    local: base.address,
                });
            }
            keep
        });
    }

    /// Takes an answer of a STUN server.
    pub(crate) fn handle_stun(
        &mut self,
        now: Instant,
        local: SocketAddr,
        from: SocketAddr,
        payload: &[u8],
    ) {
        if let Some(keeper) = &mut self.keeper {
            keeper.handle_datagram(now, local, from, payload);
        }
    }

    /// Keeps the candidates' bindings alive.
    pub(crate) fn handle_timeout(&mut self, desk: &mut Desk, now: Instant) {
        let Some(keeper) = &mut self.keeper else {
            return;
        };
        keeper.handle_timeout(now, &mut desk.pacer);
        while let Some(transmit) = keeper.poll_transmit() {
            // The sockets of RTCP may be closed by now.
            if self.bases.iter().any(|base| base.address == transmit.base) {
                desk.out(Output::Datagram {
                    local: transmit.base,
                    to: transmit.to,
                    payload: transmit.payload,
                });
            }
        }
    }

    pub(crate) fn poll_timeout(&self, desk: &Desk) -> Option<Instant> {
        self.keeper.as_ref()?.poll_timeout(&desk.pacer)
    }

    /// A path is selected: no other binding is needed any more.
    pub(crate) fn path_selected(&mut self) {
        self.keeper = None;
    }

    pub(crate) fn close(self, desk: &mut Desk) {
        close_all(desk, &self.bases);
    }

    /// Our socket towards a peer without ICE: of its address family, the most preferred one.
    pub(crate) fn base_towards(
        &self,
        peer: SocketAddr,
        component: ComponentId,
    ) -> Option<SocketAddr> {
        self.bases
            .iter()
            .filter(|base| base.component == component)
            .map(|base| base.address)
            .find(|local| local.is_ipv4() == peer.is_ipv4())
    }
}

fn close_all(desk: &mut Desk, bases: &[Base]) {
    for base in bases {
        desk.out(Output::Unbind {
            local: base.address,
        });
    }
}

/// A set of sockets on its way to being [`MediaSockets`].
pub(crate) struct Gathering {
    started: Instant,
    stage: Stage,
}

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
    /// The names of the STUN servers are being resolved.
    Resolving { bound: Vec<Base> },
    /// Candidates are being gathered, or have been and are kept warm.
    Gathering {
        bases: Vec<Base>,
        gatherer: Box<Gatherer>,
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
                    local_preference: u16::MAX
                        .saturating_sub(u16::try_from(rank).unwrap_or(u16::MAX)),
                });
            }
        }
        Self {
            started: now,
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

    /// Goes on as far as what is known allows.
    pub(crate) fn proceed(&mut self, desk: &mut Desk, now: Instant) {
        if let Stage::Binding { wanted, bound } = &mut self.stage
            && wanted.is_empty()
        {
            let bound = std::mem::take(bound);
            self.stage = Stage::Resolving { bound };
        }
        let patience = desk.settings.gather_patience;
        if let Stage::Resolving { bound } = &mut self.stage
            && (desk.stun.is_settled() || now >= self.started + patience)
        {
            let bases = std::mem::take(bound);
            let config = GatherConfig {
                stun_servers: desk.stun.addresses(),
                patience: (self.started + patience).saturating_duration_since(now),
                ..GatherConfig::default()
            };
            let gatherer = Box::new(Gatherer::new(config, bases.clone(), desk.long_seed(), now));
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

    pub(crate) fn handle_timeout(&mut self, desk: &mut Desk, now: Instant) {
        if matches!(self.stage, Stage::Resolving { .. }) {
            self.proceed(desk, now);
        }
        if let Stage::Gathering { gatherer, took, .. } = &mut self.stage {
            gatherer.handle_timeout(now, &mut desk.pacer);
            while let Some(transmit) = gatherer.poll_transmit() {
                desk.out(Output::Datagram {
                    local: transmit.base,
                    to: transmit.to,
                    payload: transmit.payload,
                });
            }
            if gatherer.is_finished() && took.is_none() {
                *took = Some(now.saturating_duration_since(self.started));
            }
        }
    }

    pub(crate) fn poll_timeout(&self, desk: &Desk) -> Option<Instant> {
        match &self.stage {
            Stage::Binding { .. } => None,
            Stage::Resolving { .. } => Some(self.started + desk.settings.gather_patience),
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
                gatherer,
                took: Some(_),
            } => Ok(MediaSockets {
                gathered: gatherer.gathered(),
                bases,
                keeper: Some(gatherer),
            }),
            _ => Err(Box::new(self)),
        }
    }

    /// Closes what was opened. Sockets that are bound later find nobody and are closed then.
    pub(crate) fn abandon(self, desk: &mut Desk) {
        match self.stage {
            Stage::Binding { bound, .. } | Stage::Resolving { bound } => close_all(desk, &bound),
            Stage::Gathering { bases, .. } => close_all(desk, &bases),
        }
    }
}
