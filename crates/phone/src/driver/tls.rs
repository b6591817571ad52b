//! TLS for connections that are opened from here. The server's certificate and its name are always
//! verified; what is trusted beyond the public roots is a file that the user names.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Why a file of certificates is of no use.
#[derive(Debug, thiserror::Error)]
#[error("the certificates in {path} cannot be used: {reason}")]
pub struct CaError {
    path: PathBuf,
    reason: String,
}

/// Makes TLS out of connections.
#[derive(Clone)]
pub(super) struct Tls(TlsConnector);

impl Tls {
    /// Trusts the public roots of the web, and beside them the certificates of a PEM file.
    pub(super) fn new(ca: Option<&Path>) -> Result<Self, CaError> {
        let mut roots = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        if let Some(path) = ca {
            add_file(&mut roots, path).map_err(|reason| CaError {
                path: path.to_owned(),
                reason,
            })?;
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| CaError {
                path: PathBuf::new(),
                reason: error.to_string(),
            })?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// Shakes hands; the certificate must be good for this host name or address.
    pub(super) async fn wrap(
        &self,
        name: &str,
        stream: TcpStream,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(name.to_owned()).map_err(std::io::Error::other)?;
        self.0.connect(name, stream).await
    }
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<(), String> {
    let certificates =
        CertificateDer::pem_file_iter(path).map_err(|error| io_or_text(path, &error))?;
    let mut added = 0;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
        added += 1;
    }
    if added == 0 {
        return Err("there is no certificate in PEM form in it".to_owned());
    }
    Ok(())
}

/// The system's word on a file that cannot be read; else what is wrong inside.
fn io_or_text(path: &Path, error: &impl ToString) -> String {
    match std::fs::File::open(path) {
        Err(system) => system.to_string(),
        Ok(_) => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
