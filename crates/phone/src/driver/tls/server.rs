//! The side of TLS that is connected to: who this host is, and handshakes that are bounded in number
//! and time, since anybody may begin one.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

use super::{CaError, certificates, io_or_text};
use crate::driver::connections::{Accepted, Connections, undelayed};
use crate::driver::{BindAddress, DriverError, Incident};

/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// How many may be under way, and how many of them with one address: a stranger that lets them
/// stall must not keep others out.
const HANDSHAKES_MAX: usize = 64;
const HANDSHAKES_PER_ADDRESS: usize = 8;

/// The files that say who this host is by TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsIdentity {
    /// The certificate in PEM form, and after it those of the authorities between it and a root.
    pub certificate: PathBuf,
    /// Its private key in PEM form.
    pub key: PathBuf,
}

/// Who this host is by TLS.
#[derive(Clone)]
pub(in crate::driver) struct Identity(TlsAcceptor);

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(..)")
    }
}

impl Identity {
    /// Reads both files.
    pub(in crate::driver) fn read(files: &TlsIdentity) -> Result<Self, CaError> {
        let certificate_error = |reason| CaError {
            what: "certificate",
            path: files.certificate.clone(),
            reason,
        };
        let key_error = |reason| CaError {
            what: "private key",
            path: files.key.clone(),
            reason,
        };
        let chain = certificates(&files.certificate).map_err(certificate_error)?;
        let key = PrivateKeyDer::from_pem_file(&files.key)
            .map_err(|error| key_error(io_or_text(&files.key, &error)))?;
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| certificate_error(error.to_string()))?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|error| key_error(error.to_string()))?;
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }
}

/// Accepts connections at the port after that of each SIP socket, or at any where the user named
/// port 0. Gives where.
pub(in crate::driver) fn listen(
    connections: &mut Connections,
    wanted: &[BindAddress],
    sip: &[SocketAddr],
    files: &TlsIdentity,
) -> Result<Vec<SocketAddr>, DriverError> {
    let identity = Identity::read(files)?;
    let mut listening = Vec::new();
    for (index, socket) in sip.iter().enumerate() {
        let any = wanted.get(index).is_some_and(|bind| bind.port == Some(0));
        let port = if any {
            0
        } else {
            socket.port().wrapping_add(1)
        };
        let address = SocketAddr::new(socket.ip(), port);
        let bound = connections.listen_for_tls(address, identity.clone());
        let local = bound.map_err(|error| DriverError::Tls {
            address,
            reason: error.to_string(),
        })?;
        listening.push(local);
    }
    Ok(listening)
}

/// Accepts connections and shakes hands on each, until the driver is gone.
pub(in crate::driver) async fn accept(
    listener: TcpListener,
    local: SocketAddr,
    identity: Identity,
    inbox: mpsc::Sender<Incident>,
) {
    let mut under_way: Vec<(IpAddr, JoinHandle<()>)> = Vec::new();
    while !inbox.is_closed() {
        match listener.accept().await {
            Ok((stream, peer)) => {
                under_way.retain(|(_, task)| !task.is_finished());
                let of_peer = under_way.iter().filter(|(ip, _)| *ip == peer.ip());
                if under_way.len() >= HANDSHAKES_MAX || of_peer.count() >= HANDSHAKES_PER_ADDRESS {
                    tracing::debug!(%peer, "too many handshakes: one more was not begun");
                    continue;
                }
                let shaking = shake(stream, peer, identity.clone(), inbox.clone());
                under_way.push((peer.ip(), tokio::spawn(shaking)));
            }
            Err(error) => {
                // Out of file descriptors, say: wait until some are free again.
                tracing::warn!(%local, %error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

async fn shake(
    stream: TcpStream,
    peer: SocketAddr,
    Identity(acceptor): Identity,
    inbox: mpsc::Sender<Incident>,
) {
    undelayed(&stream);
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            let incident = Incident::Accepted {
                stream: Accepted::Tls(Box::new(stream)),
                peer,
                media: None,
            };
            // A driver that has gone wants no more connections.
            let _ = inbox.send(incident).await;
        }
        Ok(Err(error)) => tracing::debug!(%peer, %error, "a TLS handshake failed"),
        Err(_) => tracing::debug!(%peer, "a TLS handshake took too long"),
    }
}
