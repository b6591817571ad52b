//! The allocations of a gathering: which are asked for, and which of them is kept.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{Base, Gatherer, MOST_WAITING, Relayed};
use crate::event::Transmit;
use crate::turn::{
    Inbound, Outbound, Relay, TurnServer, TurnStream, TurnStreamWish, TurnTransport,
};

/// A base with its server is one relay; more than so many are not asked for.
const MOST_RELAYS: usize = 16;
/// The same for those that need a connection, beside the others.
const MOST_STREAMS: usize = 8;
/// Where a server is asked by datagrams too, they get so much of a start: where they pass, as
/// nearly everywhere, no connection is opened for nothing.
const START_OF_DATAGRAMS: Duration = Duration::from_millis(60);
/// Wishes about connections that wait for their owner. He takes them after each input.
const MOST_WISHES: usize = 4096;

/// What there is to be asked for. What stands already is taken from before.
pub(super) fn all_relays(
    servers: &[TurnServer],
    bases: &[Base],
    before: &mut Vec<Relay>,
    now: Instant,
) -> Vec<Relay> {
    let of_family =
        |base: &Base, server: &TurnServer| base.address.is_ipv4() == server.address.is_ipv4();
    let mut relays = Vec::new();
    // All bases ask the first server before any asks the second.
    let datagrams = servers.iter().filter(|server| !needs_stream(server));
    for server in datagrams {
        for base in bases.iter().filter(|base| of_family(base, server)) {
            let relay = keep_or_make(base, server, (&relays, before), now);
            relays.push(relay);
        }
    }
    if relays.len() > MOST_RELAYS {
        before.extend(relays.split_off(MOST_RELAYS));
    }
    let datagrams = relays.len();
    // Connections are few, so the best base tries every way there is before the second does.
    let streams: Vec<&TurnServer> = servers.iter().filter(|s| needs_stream(s)).collect();
    for base in bases {
        for server in streams.iter().filter(|server| of_family(base, server)) {
            let relay = keep_or_make(base, server, (&relays, before), now);
            relays.push(relay);
        }
    }
    if relays.len() > datagrams + MOST_STREAMS {
        before.extend(relays.split_off(datagrams + MOST_STREAMS));
    }
    relays
}

/// The allocation of this base at this server, beside these others of now and before.
fn keep_or_make(
    base: &Base,
    server: &TurnServer,
    (relays, before): (&[Relay], &mut Vec<Relay>),
    now: Instant,
) -> Relay {
    let mut known = before.iter();
    let known = known.position(|relay| {
        let same = relay.base().address == base.address && relay.server() == server;
        same && (!relay.is_over() || relay.is_barred(now))
    });
    if let Some(index) = known {
        return before.swap_remove(index);
    }
    let relay = Relay::new(*base, server.clone(), now);
    let goes_ahead = |other: &Relay| {
        let better = other.is_told() || (needs_stream(server) && !needs_stream(other.server()));
        better && relay.is_rival_of(other) && !other.is_over()
    };
    if relays.iter().chain(before.iter()).any(goes_ahead) {
        relay.not_before(now + START_OF_DATAGRAMS)
    } else {
        relay
    }
}

fn needs_stream(server: &TurnServer) -> bool {
    server.transport != TurnTransport::Udp
}

impl Gatherer {
    /// What a TURN server sends: its answers stay here, a peer's datagram is unwrapped.
    pub(super) fn handle_relayed(
        &mut self,
        now: Instant,
        (base, from): (SocketAddr, SocketAddr),
        payload: &[u8],
    ) -> bool {
        let index = self.relays.iter().position(|relay| {
            let server = relay.server();
            relay.base().address == base && server.address == from && !needs_stream(server)
        });
        let Some(relay) = index.and_then(|index| self.relays.get_mut(index)) else {
            return false;
        };
        let inbound = relay.handle_datagram(now, payload, &mut self.randomness);
        let taken = inbound != Inbound::Foreign;
        if let Some(index) = index {
            self.take_in(index, inbound);
        }
        self.settle_relays(now);
        taken
    }

    fn take_in(&mut self, index: usize, inbound: Inbound) {
        let Inbound::Data { peer, data } = inbound else {
            return;
        };
        let relay = self.relays.get(index);
        if let Some(base) = relay.and_then(|relay| relay.relayed_towards(peer)) {
            if self.relayed.len() >= MOST_WAITING {
                self.relayed.pop_front();
            }
            self.relayed.push_back(Relayed {
                base,
                from: peer,
                payload: data,
            });
        }
    }

    /// The next datagram that a peer has sent to one of the relayed candidates.
    pub fn poll_relayed(&mut self) -> Option<Relayed> {
        self.relayed.pop_front()
    }

    /// What is wanted of the connections to TURN and STUN servers.
    pub fn poll_stream(&mut self) -> Option<TurnStreamWish> {
        self.stream_wishes.pop_front()
    }

    /// A connection stands.
    pub fn handle_stream_connected(&mut self, now: Instant, stream: TurnStream) {
        if self.handle_tcp_connected(stream) {
            return;
        }
        if let Some(relay) = self.relays.iter_mut().find(|relay| relay.owns(stream)) {
            relay.handle_connected(now, &mut self.randomness);
        }
        self.settle_relays(now);
    }

    /// Bytes have come on a connection; what a peer sent is ready in [`Self::poll_relayed`] then.
    pub fn handle_stream(&mut self, now: Instant, stream: TurnStream, bytes: &[u8]) {
        if self.handle_tcp(now, stream, bytes) {
            return;
        }
        let index = self.relays.iter().position(|relay| relay.owns(stream));
        if let Some(index) = index
            && let Some(relay) = self.relays.get_mut(index)
        {
            for inbound in relay.handle_stream(now, bytes, &mut self.randomness) {
                self.take_in(index, inbound);
            }
        }
        self.settle_relays(now);
    }

    /// A connection was closed by the other side, or could not be opened.
    pub fn handle_stream_closed(&mut self, now: Instant, stream: TurnStream) {
        if self.handle_tcp_closed(stream) {
            return;
        }
        if let Some(relay) = self.relays.iter_mut().find(|relay| relay.owns(stream)) {
            relay.handle_closed(now);
        }
        self.settle_relays(now);
    }

    /// What an agent or a stream wants to send: from a relayed address it goes to the TURN server,
    /// wrapped, by [`Self::poll_transmit`] or [`Self::poll_stream`]; anything else is given back to
    /// be sent as it is. Nothing at all only asks the server for its permission.
    pub fn relay(&mut self, now: Instant, transmit: Transmit) -> Option<Transmit> {
        let of_base = |relay: &&mut Relay| relay.has(transmit.base);
        let Some(relay) = self.relays.iter_mut().find(of_base) else {
            return (!transmit.payload.is_empty()).then_some(transmit);
        };
        relay.send(now, transmit.to, &transmit.payload, &mut self.randomness);
        self.collect();
        None
    }

    /// Gives back the allocations that were made from this base, and asks nothing from it any more.
    pub fn release(&mut self, now: Instant, base: SocketAddr) {
        self.questions
            .retain(|question| question.base.address != base);
        for relay in &mut self.relays {
            if relay.base().address == base {
                relay.release(now, &mut self.randomness);
            }
        }
        self.collect();
    }

    /// Gives back every allocation.
    pub fn release_all(&mut self, now: Instant) {
        for relay in &mut self.relays {
            relay.release(now, &mut self.randomness);
        }
        self.collect();
    }

    /// Whether nothing of what was given back waits for its server's answer.
    pub fn is_released(&self) -> bool {
        let mut over = self.relays.iter().filter(|relay| relay.is_over());
        over.all(Relay::is_closed)
    }

    /// What is gathered by now is told to peers: an allocation among it is kept, even if a better
    /// one comes.
    pub fn tell(&mut self) {
        self.relays.iter_mut().for_each(Relay::tell);
    }

    /// Of what one server gives to one socket by several transports, one is kept: the best there
    /// is until gathering is finished or peers may know it; after that the first.
    pub(super) fn settle_relays(&mut self, now: Instant) {
        for index in 0..self.relays.len() {
            let Some(kept) = self.relays.get(index).filter(|relay| relay.is_verified()) else {
                continue;
            };
            let needless = |other: &Relay| {
                let worse = kept.server().transport < other.server().transport;
                let late = kept.is_told() || worse || self.finished;
                other.is_rival_of(kept) && !other.is_over() && !other.is_told() && late
            };
            let others = self.relays.iter().enumerate();
            let needless: Vec<usize> = others
                .filter(|(other, relay)| *other != index && needless(relay))
                .map(|(other, _)| other)
                .collect();
            for other in needless {
                if let Some(relay) = self.relays.get_mut(other) {
                    relay.release(now, &mut self.randomness);
                }
            }
        }
        self.collect();
        self.finish_if_settled();
    }

    /// The allocations of these sockets, those that stand among them.
    pub(super) fn gather_relays_again(
        &mut self,
        now: Instant,
        servers: &[TurnServer],
        bases: &[Base],
    ) {
        let mut before = std::mem::take(&mut self.relays);
        for relay in &mut before {
            let of_relay = |base: &&Base| base.address == relay.base().address;
            if let Some(base) = bases.iter().find(of_relay) {
                relay.stay(now, *base, &mut self.randomness);
            }
        }
        self.relays = all_relays(servers, bases, &mut before, now);
        for relay in &mut before {
            relay.end();
            while let Some(out) = relay.poll_out() {
                if let Outbound::Stream(wish) = out {
                    self.stream_wishes.push_back(wish);
                }
            }
        }
    }

    /// Asks about what stands, and once more the servers that were silent.
    pub(super) fn verify_relays(&mut self, now: Instant) {
        for index in 0..self.relays.len() {
            let others = self.relays.iter();
            let mut rivals = others.filter(|relay| relay.is_verified());
            let has_rival = self
                .relays
                .get(index)
                .is_some_and(|relay| rivals.any(|other| relay.is_rival_of(other)));
            if let Some(relay) = self.relays.get_mut(index) {
                relay.verify(now);
                if !has_rival {
                    relay.revive(now);
                }
            }
        }
    }

    pub(super) fn collect(&mut self) {
        for relay in &mut self.relays {
            let (base, to) = (relay.base().address, relay.server().address);
            while let Some(out) = relay.poll_out() {
                match out {
                    Outbound::Datagram(payload) => {
                        self.out.push_back(Transmit { base, to, payload });
                    }
                    Outbound::Stream(wish) => {
                        let sending = matches!(
                            wish,
                            TurnStreamWish::Send { .. } | TurnStreamWish::SendPacket { .. }
                        );
                        if !sending || self.stream_wishes.len() < MOST_WISHES {
                            self.stream_wishes.push_back(wish);
                        }
                    }
                }
            }
        }
    }

    /// What is due of the allocations, and the asking that needs no pacing: that by connections,
    /// which are no transactions of ICE.
    pub(super) fn drive_relays(&mut self, now: Instant) {
        for relay in &mut self.relays {
            relay.handle_timeout(now, &mut self.randomness);
            let due = relay.due().is_some_and(|at| at <= now);
            if due && needs_stream(relay.server()) {
                let stream = TurnStream(self.next_stream);
                self.next_stream += 1;
                relay.ask(now, stream, &mut self.randomness);
            }
        }
        self.settle_relays(now);
    }

    /// Asks for the allocation by datagrams whose turn it is.
    pub(super) fn ask_relay(&mut self, now: Instant, index: usize) {
        if let Some(relay) = self.relays.get_mut(index) {
            relay.ask(now, TurnStream(self.next_stream), &mut self.randomness);
        }
        self.collect();
    }

    /// The allocations by datagrams that are to be asked for, when, and from which base.
    pub(super) fn relays_to_ask(&self) -> impl Iterator<Item = (Instant, usize, &Base)> {
        let relays = self.relays.iter().enumerate();
        let relays = relays.filter(|(_, relay)| !needs_stream(relay.server()));
        relays.filter_map(|(index, relay)| Some((relay.due()?, index, relay.base())))
    }

    /// When [`Self::drive_relays`] has something to do.
    pub(super) fn relay_timeouts(&self) -> impl Iterator<Item = Instant> {
        self.relays.iter().flat_map(|relay| {
            let connect = relay.due().filter(|_| needs_stream(relay.server()));
            relay.poll_timeout().into_iter().chain(connect)
        })
    }
}
