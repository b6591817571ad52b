//! Why a phone cannot start.

use std::net::SocketAddr;

use ringtrue_media::audio::AudioError;

use super::tls::CaError;

/// Why [`run`](super::run) gave up. Each message is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// Another program has the SIP port.
    #[error(
        "UDP port {} on {} is in use by another program; stop it, or choose another port with --bind {}:PORT",
        .0.port(), .0.ip(), shown(.0)
    )]
    PortInUse(SocketAddr),
    /// The address is not one of this host's.
    #[error(
        "{} is not an address of this host; --bind takes one of its own addresses", .0.ip()
    )]
    NotOurs(SocketAddr),
    /// The SIP socket cannot be bound for another reason.
    #[error("cannot bind UDP {address}: {reason}")]
    Bind {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system says.
        reason: String,
    },
    /// No connections by TLS can be accepted.
    #[error(
        "cannot accept SIP over TLS at TCP {address}: {reason}; choose another port with --bind ADDR:PORT (TLS takes the port after it)"
    )]
    Tls {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system says.
        reason: String,
    },
    /// The host's interfaces cannot be listed.
    #[error("cannot list this host's network interfaces: {0}")]
    Interfaces(String),
    /// The phone does not start with these settings.
    #[error("{0}")]
    Settings(String),
    /// The call cannot be placed.
    #[error("{0}")]
    Target(String),
    /// The sound that was asked for cannot come or go.
    #[error(transparent)]
    Sound(#[from] AudioError),
    /// The device that incoming calls are to ring on.
    #[error(
        "calls cannot ring on their device: {0}; change ring-device in the settings, `ringtrue devices` lists what there is"
    )]
    RingDevice(AudioError),
    /// The certificates that TLS is to trust.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(String),
}

/// An address as `--bind` takes it before `:PORT`.
fn shown(address: &SocketAddr) -> String {
    match address {
        SocketAddr::V4(v4) => v4.ip().to_string(),
        SocketAddr::V6(v6) => format!("[{}]", v6.ip()),
    }
}

impl DriverError {
    /// The error of a bind, as specific as the system is.
    pub(super) fn bind(address: SocketAddr, error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::AddrInUse => Self::PortInUse(address),
            std::io::ErrorKind::AddrNotAvailable => Self::NotOurs(address),
            _ => Self::Bind {
                address,
                reason: error.to_string(),
            },
        }
    }
}
