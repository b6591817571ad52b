//! Media by TCP (RFC 6544): a call's connections, and what comes by them.

use std::net::SocketAddr;
use std::time::Instant;

use ringtrue_ice::{IceSession, PacketKind, Path, classify};

use super::{Call, Stage};
use crate::desk::Desk;
use crate::gathering::{Came, MediaSockets};
use crate::io::Connection;

impl Call {
    /// Somebody has connected to a listening socket: `None` if it is not this call's, `Some(None)`
    /// if there is no room.
    pub(crate) fn handle_media_accepted(
        &mut self,
        desk: &mut Desk,
        now: Instant,
        local: SocketAddr,
        peer: SocketAddr,
    ) -> Option<Option<Connection>> {
        let sockets = self.sockets.as_mut()?;
        let accepted = sockets.handle_accepted(desk, now, local, peer);
        self.run_ice(desk, now);
        accepted
    }

    pub(crate) fn owns_connection(&self, connection: Connection) -> bool {
        self.sockets
            .as_ref()
            .is_some_and(|sockets| sockets.owns_connection(connection))
    }

    /// Something has happened to a connection.
    pub(crate) fn handle_connection(
        &mut self,
        desk: &mut Desk,
        now: Instant,
        act: impl FnOnce(&mut MediaSockets),
    ) {
        if let Some(sockets) = &mut self.sockets {
            act(sockets);
        }
        self.run_ice(desk, now);
    }

    /// Does what the ICE session wants of the connections, and brings it what came by them.
    /// Whether there was anything.
    pub(super) fn run_connections(&mut self, desk: &mut Desk, now: Instant) -> bool {
        let mut any = false;
        loop {
            let Some(sockets) = &mut self.sockets else {
                return any;
            };
            while let Some(wish) = self.ice.as_mut().and_then(IceSession::poll_tcp) {
                any = true;
                sockets.fulfil(desk, wish);
            }
            let Some(came) = sockets.next_came(desk) else {
                return any;
            };
            any = true;
            match (came, &mut self.ice) {
                (Came::Opened(path), Some(ice)) => ice.handle_opened(path),
                (Came::Lost(path), Some(ice)) => ice.handle_lost(now, path),
                (Came::Packet(path, payload), _) => self.handle_packet(desk, now, path, &payload),
                (Came::Opened(_) | Came::Lost(_), None) => {}
            }
        }
    }

    fn handle_packet(&mut self, desk: &mut Desk, now: Instant, path: Path, payload: &[u8]) {
        match classify(payload) {
            PacketKind::Stun => {
                if let (Some(ice), Some(sockets)) = (&mut self.ice, &mut self.sockets) {
                    ice.handle_tcp(now, path, payload);
                    if ice.has_heard(path) {
                        sockets.admit(path);
                    }
                }
            }
            kind @ (PacketKind::Rtp | PacketKind::Rtcp) => {
                self.handle_media(desk, now, kind, path, payload);
            }
            PacketKind::Dtls => self.handle_dtls(desk, now, path, payload),
            PacketKind::Other => {}
        }
    }

    /// Once pairs are selected, and the peer has had its time too, connections that carry nothing are
    /// closed.
    pub(super) fn let_connections_go(&mut self, now: Instant) {
        if let (Stage::Talking(talking), Some(ice), Some(sockets)) =
            (&self.stage, &self.ice, &mut self.sockets)
            && ice.is_concluded(now, talking.fork)
        {
            sockets.keep_connections(|path| ice.uses(path));
        }
    }
}
