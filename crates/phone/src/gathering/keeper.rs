//! A gatherer with the connections to TURN servers that it wants.

use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use ringtrue_ice::{Base, Gatherer, TurnStream, TurnStreamWish};

use super::{close_all, datagram};
use crate::desk::Desk;
use crate::io::{Connection, Output};

/// How long a TURN server may take to answer that an allocation is given back, before its socket
/// closes: time for one stale nonce or one lost packet.
const PARTING: Duration = Duration::from_millis(500);

/// A gatherer and its connections.
#[derive(Debug)]
pub(crate) struct Keeper {
    gatherer: Box<Gatherer>,
    streams: Vec<(TurnStream, Connection)>,
}

impl From<Gatherer> for Keeper {
    fn from(gatherer: Gatherer) -> Self {
        Self {
            gatherer: Box::new(gatherer),
            streams: Vec::new(),
        }
    }
}

impl Deref for Keeper {
    type Target = Gatherer;

    fn deref(&self) -> &Gatherer {
        &self.gatherer
    }
}

impl DerefMut for Keeper {
    fn deref_mut(&mut self) -> &mut Gatherer {
        &mut self.gatherer
    }
}

/// What has happened to a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) enum StreamEvent<'a> {
    Connected,
    Bytes(&'a [u8]),
    Closed,
}

impl Keeper {
    /// Takes what happened to a connection; false if it is not one of these.
    pub(crate) fn handle_stream(
        &mut self,
        now: Instant,
        connection: Connection,
        event: StreamEvent<'_>,
    ) -> bool {
        let Some(index) = self.streams.iter().position(|(_, own)| *own == connection) else {
            return false;
        };
        let Some((stream, _)) = self.streams.get(index).copied() else {
            return false;
        };
        match event {
            StreamEvent::Connected => self.handle_stream_connected(now, stream),
            StreamEvent::Bytes(bytes) => self.gatherer.handle_stream(now, stream, bytes),
            StreamEvent::Closed => {
                self.streams.swap_remove(index);
                self.handle_stream_closed(now, stream);
            }
        }
        true
    }

    /// Sends what there is to be sent: datagrams from these sockets alone, others are closed.
    pub(crate) fn flush<'a>(
        &mut self,
        desk: &mut Desk,
        bases: impl Iterator<Item = &'a Base> + Clone,
    ) {
        while let Some(transmit) = self.poll_transmit() {
            if bases.clone().any(|base| base.address == transmit.base) {
                desk.out(datagram(transmit));
            }
        }
        while let Some(wish) = self.poll_stream() {
            match wish {
                TurnStreamWish::Connect {
                    stream,
                    from,
                    to,
                    tls,
                } => {
                    let connection = desk.connection();
                    self.streams.push((stream, connection));
                    desk.out(Output::Connect {
                        connection,
                        to,
                        from: Some(from),
                        tls,
                    });
                }
                TurnStreamWish::Send { stream, payload } => {
                    if let Some(connection) = self.connection(stream) {
                        desk.out(Output::Stream {
                            connection,
                            payload,
                        });
                    }
                }
                TurnStreamWish::SendPacket { stream, payload } => {
                    if let Some(connection) = self.connection(stream) {
                        desk.out(Output::StreamPacket {
                            connection,
                            payload,
                        });
                    }
                }
                TurnStreamWish::Close { stream } => {
                    if let Some(connection) = self.connection(stream) {
                        self.streams.retain(|(own, _)| *own != stream);
                        desk.out(Output::Close { connection });
                    }
                }
            }
        }
    }

    fn connection(&self, stream: TurnStream) -> Option<Connection> {
        let found = self.streams.iter().find(|(own, _)| *own == stream);
        found.map(|(_, connection)| *connection)
    }
}

/// Sockets whose owner is gone, until the TURN servers know that nothing is needed any more.
#[derive(Debug)]
pub(crate) struct Parting {
    keeper: Keeper,
    bases: Vec<Base>,
    until: Instant,
}

impl Parting {
    /// Gives the allocations back, and closes the sockets then.
    pub(crate) fn begin(mut keeper: Keeper, bases: Vec<Base>, desk: &mut Desk, now: Instant) {
        keeper.release_all(now);
        keeper.path_selected();
        keeper.flush(desk, bases.iter());
        let parting = Self {
            keeper,
            bases,
            until: parting_ends(now),
        };
        if let Some(parting) = parting.proceed(desk, now) {
            desk.partings.push(parting);
        }
    }

    /// Nothing, once it is over.
    pub(crate) fn proceed(mut self, desk: &mut Desk, now: Instant) -> Option<Self> {
        self.keeper.flush(desk, self.bases.iter());
        if now < self.until && !self.keeper.is_released() {
            return Some(self);
        }
        for (_, connection) in self.keeper.streams {
            desk.out(Output::Close { connection });
        }
        close_all(desk, &self.bases);
        None
    }

    pub(crate) fn keeper(&mut self) -> &mut Keeper {
        &mut self.keeper
    }

    pub(crate) fn poll_timeout(&self, desk: &Desk) -> Instant {
        let keeper = self.keeper.poll_timeout(&desk.pacer);
        keeper.map_or(self.until, |at| at.min(self.until))
    }
}

pub(super) fn parting_ends(now: Instant) -> Instant {
    now + PARTING
}
