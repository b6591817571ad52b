//! Gathering in the middle of a call, for an ICE restart: on the sockets that still stand, and on
//! new ones where the host has new addresses.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use ringtrue_ice::{Base, ComponentId, GatherConfig, TcpType};

use super::{MediaSockets, Wanted, preference};
use crate::desk::Desk;
use crate::io::BindRequest;

/// Candidates on their way.
#[derive(Debug)]
pub(super) struct Again {
    started: Instant,
    wanted: Vec<Wanted>,
    /// Whether the servers are asked, or the sockets are still awaited.
    asking: bool,
}

impl Again {
    pub(super) fn poll_timeout(&self, desk: &Desk) -> Option<Instant> {
        (!self.asking).then(|| self.started + desk.settings.gather_patience)
    }
}

impl MediaSockets {
    /// Closes the sockets whose address the host has no longer; gives their addresses, and those of
    /// the relayed candidates that were reached from them.
    pub(crate) fn close_vanished(&mut self, desk: &mut Desk) -> Vec<SocketAddr> {
        let addresses = desk.media_addresses();
        let (kept, vanished): (Vec<Base>, Vec<Base>) = self
            .bases
            .drain(..)
            .partition(|base| addresses.contains(&base.address.ip()));
        self.bases = kept;
        super::close_all(desk, &vanished);
        self.close_vanished_tcp(desk, &addresses);
        let mut gone: Vec<_> = vanished.into_iter().map(|base| base.address).collect();
        for socket in gone.clone() {
            gone.extend(self.keeper.relayed_of(socket));
        }
        gone
    }

    /// Whether the host still has any of the addresses.
    pub(crate) fn stands(&self, desk: &Desk) -> bool {
        let addresses = desk.media_addresses();
        let mut bases = self.bases.iter();
        bases.any(|base| addresses.contains(&base.address.ip()))
    }

    /// Whether the host has an address without a socket here that is preferred to this one.
    pub(crate) fn lacks_better_than(&self, desk: &Desk, used: Option<IpAddr>) -> bool {
        let has_socket = |ip: IpAddr| self.bases.iter().any(|base| base.address.ip() == ip);
        desk.media_addresses()
            .into_iter()
            .take_while(|ip| Some(*ip) != used)
            .any(|ip| !has_socket(ip))
    }

    /// Begins to gather anew.
    pub(crate) fn gather_again(&mut self, desk: &mut Desk, now: Instant) {
        let components: &[ComponentId] = if self.rtcp {
            &[ComponentId::Rtp, ComponentId::Rtcp]
        } else {
            &[ComponentId::Rtp]
        };
        let mut wanted = Vec::new();
        for (rank, address) in desk.media_addresses().into_iter().enumerate() {
            for component in components {
                let known = self
                    .bases
                    .iter_mut()
                    .find(|base| base.address.ip() == address && base.component == *component);
                match known {
                    Some(base) => base.local_preference = preference(rank),
                    None => wanted.push(Wanted {
                        request: desk.bind(address),
                        component: *component,
                        local_preference: preference(rank),
                    }),
                }
            }
        }
        self.tcp.listen(desk);
        self.again = Some(Again {
            started: now,
            wanted,
            asking: false,
        });
        self.proceed_again(desk, now);
    }

    /// Takes the answer to a bind wish; false when the wish was not ours.
    pub(crate) fn handle_bound(
        &mut self,
        desk: &mut Desk,
        now: Instant,
        request: BindRequest,
        local: Option<SocketAddr>,
    ) -> bool {
        let Some(again) = &mut self.again else {
            return false;
        };
        let Some(index) = again.wanted.iter().position(|wish| wish.request == request) else {
            return false;
        };
        let wish = again.wanted.swap_remove(index);
        self.bases.extend(local.map(|address| Base {
            address,
            component: wish.component,
            local_preference: wish.local_preference,
        }));
        self.proceed_again(desk, now);
        true
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
            self.proceed_again(desk, now);
        }
        taken
    }

    /// Whether RTCP has sockets of its own.
    pub(crate) fn has_rtcp(&self) -> bool {
        self.rtcp
    }

    /// Whether candidates are being gathered anew.
    pub(crate) fn is_gathering(&self) -> bool {
        self.again.is_some()
    }

    /// Whether the last gathering gave an address that was not there before.
    pub(crate) fn was_remapped(&self) -> bool {
        self.remapped
    }

    /// Whether a server has answered since then, or there is none to ask.
    pub(crate) fn is_answered(&self) -> bool {
        self.keeper.is_answered()
    }

    /// Goes on as far as what is known allows; what was gathered takes the place of what was
    /// gathered before.
    pub(super) fn proceed_again(&mut self, desk: &mut Desk, now: Instant) {
        let Some(again) = &mut self.again else {
            return;
        };
        let ends = again.started + desk.settings.gather_patience;
        let bound = again.wanted.is_empty() && self.tcp.is_settled();
        if !again.asking && (bound || now >= ends) {
            again.asking = true;
            let simultaneous = self.tcp.listeners(TcpType::SimultaneousOpen);
            let passive = self.tcp.listeners(TcpType::Passive);
            self.keeper.listen_on(passive, simultaneous);
            let config = GatherConfig {
                stun_servers: desk.servers.stun(),
                turn_servers: desk.servers.turn(),
                relay_only: desk.settings.relay_only,
                patience: ends.saturating_duration_since(now),
                ..GatherConfig::default()
            };
            self.keeper.gather_again(now, config, self.bases.clone());
            desk.map_ports(now, &self.bases, &mut self.keeper);
            self.keeper.handle_timeout(now, &mut desk.pacer);
            self.flush(desk, now);
        }
        if self.again.as_ref().is_some_and(|again| again.asking) && self.keeper.is_finished() {
            let gathered = self.gathered_by_now();
            let known = |address| self.gathered.candidates().any(|old| old.address == address);
            // A connection to a STUN server is another each time, and so may be what a NAT makes of it.
            self.remapped = gathered
                .candidates()
                .any(|new| !new.protocol.is_tcp() && !known(new.address));
            self.gathered = gathered.keeping(&self.gathered);
            self.again = None;
        }
    }
}
