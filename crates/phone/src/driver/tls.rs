//! TLS for connections that are opened from here, and for those that are accepted. The server's
//! certificate and its name are always verified; what is trusted beyond the public roots is a file
//! that the user names.

mod server;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{CertificateError, ClientConfig, Error as TlsError, RootCertStore};

pub use server::TlsIdentity;
pub(super) use server::{Identity, accept, listen};

/// Why a file of certificates, or one of a key, is of no use.
#[derive(Debug, thiserror::Error)]
#[error("the {what} in {} cannot be used: {reason}", .path.display())]
pub struct CaError {
    what: &'static str,
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
        let path = ca.unwrap_or(Path::new(""));
        let unusable = |reason: String| CaError {
            what: "certificates",
            path: path.to_owned(),
            reason,
        };
        if ca.is_some() {
            for certificate in certificates(path).map_err(unusable)? {
                let added = roots.add(certificate);
                added.map_err(|error| unusable(error.to_string()))?;
            }
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// Shakes hands; the certificate must be good for this host name or address. Errors are for
    /// people, and say what they can do.
    pub(super) async fn wrap(
        &self,
        name: &str,
        stream: TcpStream,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let server = ServerName::try_from(name.to_owned())
            .map_err(|_| std::io::Error::other(format!("\"{name}\" is no name of a host")))?;
        let shaken = self.0.connect(server, stream).await;
        shaken.map_err(|error| std::io::Error::other(explain(name, &error)))
    }
}

/// The certificates of a PEM file, one at least.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(path).map_err(|error| io_or_text(path, &error))?;
    let all: Result<Vec<_>, _> = read.collect();
    let all = all.map_err(|error| error.to_string())?;
    if all.is_empty() {
        return Err("there is no certificate in PEM form in it".to_owned());
    }
    Ok(all)
}

/// The system's word on a file that cannot be read; else what is wrong inside.
fn io_or_text(path: &Path, error: &impl ToString) -> String {
    match std::fs::File::open(path) {
        Err(system) => system.to_string(),
        Ok(_) => error.to_string(),
    }
}

/// What was wrong with a handshake, on one line, and what to do about it.
fn explain(name: &str, error: &std::io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        Some(TlsError::InvalidCertificate(fault)) => explain_certificate(name, fault),
        Some(TlsError::InvalidMessage(_)) => {
            format!("what answers there does not speak TLS; is it the port of TLS? ({error})")
        }
        Some(TlsError::AlertReceived(_)) => format!("the server of {name} refuses: {error}"),
        _ if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            "the server closes the connection instead of shaking hands".to_owned()
        }
        _ => error.to_string(),
    }
}

fn explain_certificate(name: &str, fault: &CertificateError) -> String {
    let detail = fault.to_string();
    match fault {
        CertificateError::UnknownIssuer => format!(
            "nobody who is trusted here vouches for the certificate of {name}; if you trust its authority, put that one's certificate into a file and say --tls-ca FILE.pem"
        ),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!(
                "the certificate is not good for the name {name}; use the one that it has ({detail})"
            )
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => format!(
            "the certificate of {name} has expired: it has to be renewed, or this host's clock is wrong"
        ),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!("the certificate of {name} is not valid yet: this host's clock may be wrong")
        }
        // What `openssl req -x509` makes when nothing is said.
        _ if detail.contains("CaUsedAsEndEntity") => format!(
            "the certificate of {name} is that of an authority; its server needs one of its own (basicConstraints CA:FALSE)"
        ),
        _ => format!("the certificate of {name} cannot be trusted: {detail}"),
    }
}
