//! SIP, SIPS and tel URIs (RFC 3261 section 19.1, RFC 3966); others are carried as they are.

mod compare;
mod parse;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::params::Params;
use crate::syntax::unescape;
pub(crate) use parse::host_and_port;

/// The scheme of a [`Uri`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `sip:`
    Sip,
    /// `sips:`
    Sips,
    /// `tel:`
    Tel,
    /// Any other, in lower case.
    Other(String),
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sip => "sip",
            Self::Sips => "sips",
            Self::Tel => "tel",
            Self::Other(scheme) => scheme,
        })
    }
}

/// A host: a name or an address. IPv6 addresses are printed in brackets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// A domain name, as it was written.
    Name(String),
    /// An IPv4 address.
    Ipv4(Ipv4Addr),
    /// An IPv6 address.
    Ipv6(Ipv6Addr),
    /// `tel:` and other schemes have none; prints as nothing.
    Absent,
}

impl Host {
    /// The address, unless it is a name.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Ipv4(ip) => Some((*ip).into()),
            Self::Ipv6(ip) => Some((*ip).into()),
            Self::Name(_) | Self::Absent => None,
        }
    }

    /// Whether both name the same host; names compare without regard to case.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Name(a), Self::Name(b)) => a.eq_ignore_ascii_case(b),
            _ => self == other,
        }
    }
}

impl From<IpAddr> for Host {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => Self::Ipv4(ip),
            IpAddr::V6(ip) => Self::Ipv6(ip),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Ipv4(ip) => ip.fmt(f),
            Self::Ipv6(ip) => write!(f, "[{ip}]"),
            Self::Absent => Ok(()),
        }
    }
}

/// A URI. Everything is kept as it was written, escapes too; comparison undoes them
/// ([`Uri::is_equivalent`]), while `==` compares the spelling.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Uri {
    /// The scheme.
    pub scheme: Scheme,
    /// The user part, escaped; the number of a `tel:` URI; everything after the colon
    /// of another scheme.
    pub user: Option<String>,
    /// The password, escaped (RFC 3261 section 19.1.1 advises against it).
    pub password: Option<String>,
    /// The host; [`Host::Absent`] for schemes other than sip and sips.
    pub host: Host,
    /// The port, if one is written.
    pub port: Option<u16>,
    /// The parameters, escaped. Ask [`Uri::param`] when escapes matter.
    pub params: Params,
    /// What follows `?`: names and values, escaped.
    pub headers: Vec<(String, String)>,
}

impl Uri {
    /// `sip:user@host:port`. Characters of `user` that need it are escaped.
    pub fn sip(user: Option<&str>, host: Host, port: Option<u16>) -> Self {
        Self {
            scheme: Scheme::Sip,
            user: user.map(escape_user),
            password: None,
            host,
            port,
            params: Params::new(),
            headers: Vec::new(),
        }
    }

    /// `sip:user@address:port`.
    pub fn at(user: Option<&str>, address: SocketAddr) -> Self {
        Self::sip(user, address.ip().into(), Some(address.port()))
    }

    /// Whether the scheme is sip or sips.
    pub fn is_sip(&self) -> bool {
        matches!(self.scheme, Scheme::Sip | Scheme::Sips)
    }

    /// The user part with escapes undone; bytes that are not UTF-8 become U+FFFD.
    pub fn user_text(&self) -> Option<String> {
        self.user.as_deref().map(decoded)
    }

    /// The value of a parameter, both with escapes undone; empty for one without a value.
    pub fn param(&self, name: &str) -> Option<String> {
        self.params
            .iter()
            .find(|(n, _)| decoded(n).eq_ignore_ascii_case(name))
            .map(|(_, value)| decoded(value.unwrap_or_default()))
    }

    /// Whether it has `;lr`, the loose router's mark (RFC 3261 section 19.1.1).
    pub fn is_loose_router(&self) -> bool {
        self.param("lr").is_some()
    }

    /// The `transport` parameter in lower case.
    pub fn transport(&self) -> Option<String> {
        self.param("transport").map(|t| t.to_ascii_lowercase())
    }

    /// Adds or replaces a parameter and gives the URI back, for building one in a line.
    pub fn with_param(mut self, name: &str, value: Option<&str>) -> Self {
        self.params.set(name, value);
        self
    }
}

fn decoded(text: &str) -> String {
    String::from_utf8_lossy(&unescape(text)).into_owned()
}

const UNRESERVED_MARKS: &[u8] = b"-_.!~*'()";

fn is_user_byte(byte: u8) -> bool {
    // user-unreserved, and `#`, which star codes need and no grammar misreads.
    byte.is_ascii_alphanumeric() || UNRESERVED_MARKS.contains(&byte) || b"&=+$,;?/#".contains(&byte)
}

fn escape_user(user: &str) -> String {
    let mut escaped = String::with_capacity(user.len());
    for byte in user.bytes() {
        if is_user_byte(byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.scheme)?;
        if let Some(user) = &self.user {
            f.write_str(user)?;
            if let Some(password) = &self.password {
                write!(f, ":{password}")?;
            }
            if self.is_sip() {
                f.write_str("@")?;
            }
        }
        self.host.fmt(f)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        self.params.fmt(f)?;
        for (at, (name, value)) in self.headers.iter().enumerate() {
            write!(f, "{}{name}={value}", if at == 0 { '?' } else { '&' })?;
        }
        Ok(())
    }
}
