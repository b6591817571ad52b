//! TLS over loopback, against a server with a certificate of its own.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::super::Incident;
use super::super::connections::{Connections, Route};
use super::*;
use crate::Connection;

/// A server that echoes, with a certificate for these names; its address and the certificate.
async fn echo(names: &[&str]) -> (SocketAddr, String) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let mut buffer = [0; 1024];
            while let Ok(size @ 1..) = stream.read(&mut buffer).await {
                stream.write_all(&buffer[..size]).await.unwrap();
                stream.flush().await.unwrap();
            }
            let _ = stream.shutdown().await;
        }
    });
    (address, made.cert.pem())
}

/// A file of this test process alone.
fn file(name: &str, text: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("ringtrue-tls-{}-{name}", std::process::id()));
    std::fs::write(&path, text).unwrap();
    path
}

/// Opens a connection and gives what the driver is told first.
async fn open(
    tls: Tls,
    to: SocketAddr,
    name: &str,
) -> (Connections, mpsc::Receiver<Incident>, Incident) {
    let (inbox, mut incidents) = mpsc::channel(16);
    let mut connections = Connections::new(inbox, Vec::new(), tls);
    let route = Route {
        from: Some("127.0.0.1:0".parse().unwrap()),
        to,
        tls: Some(name.to_owned()),
    };
    connections.connect(Connection(1), route);
    let first = next(&mut incidents).await;
    (connections, incidents, first)
}

async fn next(incidents: &mut mpsc::Receiver<Incident>) -> Incident {
    tokio::time::timeout(Duration::from_secs(5), incidents.recv())
        .await
        .expect("something happens")
        .expect("the driver lives")
}

#[tokio::test]
async fn bytes_go_through_tls_both_ways() {
    for name in ["turn.example.org", "127.0.0.1"] {
        let (address, pem) = echo(&[name]).await;
        let ca = file(name, &pem);
        let tls = Tls::new(Some(&ca)).unwrap();
        let (mut connections, mut incidents, first) = open(tls, address, name).await;
        assert!(matches!(first, Incident::Connected(Connection(1))));
        let sent: Vec<u8> = (0..40_000_u32).map(|index| index as u8).collect();
        connections.write(Connection(1), sent.clone()).unwrap();
        let mut echoed = Vec::new();
        while echoed.len() < sent.len() {
            match next(&mut incidents).await {
                Incident::Bytes(_, bytes) => echoed.extend(bytes),
                _ => panic!("the stream goes on"),
            }
        }
        assert_eq!(echoed, sent);
        connections.close(Connection(1));
        connections.finish().await;
        std::fs::remove_file(ca).unwrap();
    }
}

async fn refusal(tls: Tls, to: SocketAddr, name: &str) -> String {
    match open(tls, to, name).await.2 {
        Incident::Closed { error, .. } => error.expect("a reason"),
        _ => panic!("this server must not be trusted"),
    }
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_refused() {
    let (address, _) = echo(&["turn.example.org"]).await;
    let error = refusal(Tls::new(None).unwrap(), address, "turn.example.org").await;
    assert!(
        error.contains(&address.to_string()) && error.contains("certificate"),
        "{error}"
    );
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let (address, pem) = echo(&["turn.example.org"]).await;
    let ca = file("other-name", &pem);
    for name in ["turn.example.net", "127.0.0.1", "not a name"] {
        let tls = Tls::new(Some(&ca)).unwrap();
        let error = refusal(tls, address, name).await;
        assert!(error.contains("name"), "{name}: {error}");
    }
    std::fs::remove_file(ca).unwrap();
}

#[test]
fn a_file_without_certificates_is_named() {
    let missing = Tls::new(Some(Path::new("/nonexistent/ca.pem"))).err();
    let text = missing.unwrap().to_string();
    assert!(
        text.contains("/nonexistent/ca.pem") && text.contains("No such file"),
        "{text}"
    );
    for (name, content) in [
        ("empty", ""),
        (
            "broken",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ),
    ] {
        let path = file(name, content);
        let text = Tls::new(Some(&path)).err().unwrap().to_string();
        assert!(text.contains(name) && !text.contains('\n'), "{text}");
        std::fs::remove_file(path).unwrap();
    }
}
