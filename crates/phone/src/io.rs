//! What goes into and comes out of a [`Phone`](crate::Phone): no sockets, no clock, no devices.

use std::net::{IpAddr, SocketAddr};

use crate::event::PhoneEvent;

/// One call of a phone, for its whole life. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallKey(pub u64);

/// One wish for a media socket or a listening one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BindRequest(pub u64);

/// One wish for a port of the router that leads to a media socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MapRequest(pub u64);

/// One stream connection (SIP or media over TCP). The phone numbers those it opens; whoever accepts one
/// asks [`Phone::accepted_connection`](crate::Phone::accepted_connection) for a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Connection(pub u64);

pub use ringtrue_sip::dns::{
    LookupError, LookupResult, NaptrRecord, RecordKind, Records, SrvRecord,
};

/// One name that is being resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResolveQuery(pub u64);

/// One frame of sound: 10 ms, 48 kHz, mono.
pub type Frame = [i16; ringtrue_media::FRAME];

pub use ringtrue_media::Sides;

/// One address of one of the host's interfaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// The interface's name, as `eth0`.
    pub name: String,
    /// One of its addresses.
    pub address: IpAddr,
    /// The length of the address's network prefix in bits.
    pub prefix_len: u8,
    /// Whether the default route of this address family leaves here.
    pub default_route: bool,
}

/// What the phone wants done, and what it tells.
#[derive(Debug)]
pub enum Output {
    /// Send a datagram from one of the phone's sockets (SIP or media).
    Datagram {
        /// The local address of the socket, as it was bound.
        local: SocketAddr,
        /// The destination.
        to: SocketAddr,
        /// The bytes.
        payload: Vec<u8>,
    },
    /// Bind a UDP socket for media on this address, any port; answer with
    /// [`Phone::handle_bound`](crate::Phone::handle_bound).
    Bind {
        /// Which wish this is.
        request: BindRequest,
        /// The address to bind to.
        address: IpAddr,
    },
    /// Close a media socket.
    Unbind {
        /// The local address of the socket.
        local: SocketAddr,
    },
    /// Listen for TCP connections on this address, any port; answer with
    /// [`Phone::handle_listening`](crate::Phone::handle_listening). Whoever connects there comes to
    /// [`Phone::accepted_media`](crate::Phone::accepted_media).
    Listen {
        /// Which wish this is.
        request: BindRequest,
        /// The address to listen on.
        address: IpAddr,
        /// Whether connections leave from the same port, too (RFC 6544's simultaneous open).
        shared: bool,
    },
    /// Close a socket that listens. Connections that were accepted there stay.
    Unlisten {
        /// Its local address.
        local: SocketAddr,
    },
    /// Ask the default gateway of this socket's address to map a port to it, by PCP, NAT-PMP or
    /// UPnP, or to renew what it gave for this request; answer with
    /// [`Phone::handle_port_mapped`](crate::Phone::handle_port_mapped).
    MapPort {
        /// Which wish this is.
        request: MapRequest,
        /// The local address of the socket.
        local: SocketAddr,
    },
    /// Have the mapping of this request removed, now or as soon as it is there.
    UnmapPort {
        /// The wish.
        request: MapRequest,
    },
    /// Open a TCP connection, with TLS over it where a name is given; answer with
    /// `handle_connected` once bytes can go, or with `handle_closed`.
    Connect {
        /// The number that it gets.
        connection: Connection,
        /// The destination.
        to: SocketAddr,
        /// The local address to leave from, port 0 for any, or that of a socket which listens
        /// there; none: the system chooses.
        from: Option<SocketAddr>,
        /// The host name or address that the server's certificate must be good for; none: no TLS.
        tls: Option<String>,
    },
    /// Send bytes on a connection.
    Stream {
        /// The connection.
        connection: Connection,
        /// The bytes.
        payload: Vec<u8>,
    },
    /// Send one packet on a connection: all of it or, while the connection is too slow for what
    /// it is given, nothing.
    StreamPacket {
        /// The connection.
        connection: Connection,
        /// The packet, with its length before it (RFC 4571), or wrapped for a TURN server.
        payload: Vec<u8>,
    },
    /// Close a connection.
    Close {
        /// The connection.
        connection: Connection,
    },
    /// Look a name up in the DNS, once; answer with `handle_resolved`.
    Resolve {
        /// Which query this is.
        query: ResolveQuery,
        /// The name, without a final dot.
        name: String,
        /// What is asked for.
        kind: RecordKind,
    },
    /// Ring: alert the user to a call. It costs the call's `Ring`, as the 180 does.
    Alert {
        /// The call.
        call: CallKey,
    },
    /// Open microphone and speaker for a call: from now on call
    /// [`Phone::handle_captured`](crate::Phone::handle_captured) for every 10 ms that the
    /// microphone gives, and [`Phone::handle_playback`](crate::Phone::handle_playback) whenever the
    /// speaker wants 10 ms; their clocks need not be the same.
    OpenSound {
        /// The call.
        call: CallKey,
    },
    /// Play a frame: the answer to [`Phone::handle_playback`](crate::Phone::handle_playback).
    Play {
        /// The call.
        call: CallKey,
        /// The sound, of one channel.
        frame: Box<Frame>,
        /// Both sides of it, where the call is heard with two.
        sides: Option<Box<Sides>>,
        /// How much longer it should last (above 1) or shorter, by tenths of a percent, if the
        /// speaker can do that ([`MediaStream::pace`](ringtrue_media::MediaStream::pace)).
        pace: f64,
    },
    /// Close microphone and speaker of a call.
    CloseSound {
        /// The call.
        call: CallKey,
    },
    /// Something happened that users and scripts want to know.
    Event(PhoneEvent),
}
