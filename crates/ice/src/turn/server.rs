//! Where a relay is to be had, and how it is reached.

use std::fmt;
use std::net::SocketAddr;

/// How a TURN server is reached (RFC 8656 section 2.1). What it relays is UDP in any case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum TurnTransport {
    /// By datagrams from the sockets of the media.
    Udp,
    /// By a TCP connection for each allocation.
    Tcp,
    /// By TLS over such a connection; this host name or address must be in the certificate.
    Tls(String),
}

/// A TURN server and the user that it knows. `Debug` hides the password.
#[derive(Clone, PartialEq, Eq)]
pub struct TurnServer {
    /// Its address.
    pub address: SocketAddr,
    /// How it is reached. The same address by several transports is one server, of which one
    /// allocation is kept for a socket: the first of UDP, TCP and TLS that it gives.
    pub transport: TurnTransport,
    /// The user name.
    pub user: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for TurnServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TurnServer")
            .field("address", &self.address)
            .field("transport", &self.transport)
            .field("user", &self.user)
            .field("password", &"…")
            .finish()
    }
}
