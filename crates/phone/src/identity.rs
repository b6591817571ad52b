//! Who the phone is and whom it calls: what the user wrote, as SIP knows it.

use std::net::SocketAddr;
use std::sync::Arc;

use ringtrue_media::secure::Identity;
use ringtrue_sip::message::NameAddr;
use ringtrue_sip::uri::Uri;
use ringtrue_sip::{AuthCredentials, EndpointConfig, LocalAddress};
use thiserror::Error;

use crate::io::Interface;
use crate::settings::{IceUse, Settings, SrtpUse};

/// Why a phone cannot start.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SettingsError {
    /// The address of record is no SIP URI.
    #[error("\"{0}\" is no SIP address; write sip:USER@HOST")]
    Aor(String),
    /// The outbound proxy is no SIP URI.
    #[error("the proxy \"{0}\" is no SIP address; write sip:HOST[:PORT][;transport=tcp|tls]")]
    Proxy(String),
    /// There is no certificate to encrypt media with.
    #[error("media cannot be encrypted: {0}; --srtp off does without")]
    Certificate(String),
    /// There is no codec to offer.
    #[error("no codec is left to offer")]
    NoCodec,
}

/// Why a call cannot be placed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CallError {
    /// The target is no SIP URI.
    #[error("\"{0}\" is no SIP address; write sip:USER@HOST")]
    Target(String),
}

/// The SIP endpoint that the settings ask for.
pub(crate) fn endpoint_config(
    settings: &Settings,
    interfaces: &[Interface],
    sip_sockets: &[SocketAddr],
) -> Result<EndpointConfig, SettingsError> {
    let bad_aor = || SettingsError::Aor(settings.aor.clone());
    let aor: NameAddr = settings.aor.parse().map_err(|_| bad_aor())?;
    let user = aor.uri.user_text().ok_or_else(bad_aor)?;
    let proxy = match &settings.proxy {
        Some(proxy) => {
            let bad = |_| SettingsError::Proxy(proxy.clone());
            Some(proxy.parse::<Uri>().map_err(bad)?)
        }
        None => None,
    };
    if settings.codecs.is_empty() {
        return Err(SettingsError::NoCodec);
    }
    Ok(EndpointConfig {
        udp: sip_sockets.to_vec(),
        addresses: local_addresses(interfaces, sip_sockets),
        user_agent: concat!("Ringtrue/", env!("CARGO_PKG_VERSION")).to_owned(),
        aor,
        contact_user: user,
        proxy,
        credentials: settings.login.as_ref().map(|login| AuthCredentials {
            user: login.user.clone(),
            password: login.password.clone(),
        }),
        ice: settings.ice != IceUse::Off,
        tcp_listen: settings.accepts_tcp,
        tls_listen: settings.tls_sockets.clone(),
    })
}

/// The certificate of this run of the phone (RFC 5763 section 5).
pub(crate) fn own_identity(settings: &Settings) -> Result<Option<Arc<Identity>>, SettingsError> {
    if settings.srtp == SrtpUse::Off {
        return Ok(None);
    }
    let identity = Identity::generate();
    let identity = identity.map_err(|error| SettingsError::Certificate(error.to_string()))?;
    Ok(Some(Arc::new(identity)))
}

/// Reads whom to call: a SIP URI, or `user@host` without its scheme.
pub(crate) fn parse_target(target: &str) -> Result<Uri, CallError> {
    let bad = || CallError::Target(target.to_owned());
    let uri: Uri = match target.parse() {
        Ok(uri) => uri,
        Err(_) => format!("sip:{target}").parse().map_err(|_| bad())?,
    };
    if !uri.is_sip() {
        return Err(bad());
    }
    Ok(uri)
}

/// The host's addresses, with those of SIP sockets that are bound to one (a loopback address, say).
pub(crate) fn local_addresses(
    interfaces: &[Interface],
    sockets: &[SocketAddr],
) -> Vec<LocalAddress> {
    let mut addresses: Vec<LocalAddress> = interfaces
        .iter()
        .map(|interface| LocalAddress {
            ip: interface.address,
            prefix_len: interface.prefix_len,
            default_route: interface.default_route,
        })
        .collect();
    for socket in sockets {
        let ip = socket.ip();
        if !ip.is_unspecified() && !addresses.iter().any(|address| address.ip == ip) {
            addresses.push(LocalAddress {
                ip,
                prefix_len: if ip.is_ipv4() { 32 } else { 128 },
                default_route: false,
            });
        }
    }
    addresses
}
