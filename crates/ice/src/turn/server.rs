//! Where a relay is to be had.

use std::fmt;
use std::net::SocketAddr;

/// A TURN server, reached over UDP, and the user that it knows. `Debug` hides the password.
#[derive(Clone, PartialEq, Eq)]
pub struct TurnServer {
    /// Its address.
    pub address: SocketAddr,
    /// The user name.
    pub user: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for TurnServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TurnServer")
            .field("address", &self.address)
            .field("user", &self.user)
            .field("password", &"…")
            .finish()
    }
}
