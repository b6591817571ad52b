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
use super::super::connections::{Accepted, Connections, Route};
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
    tokio::time::timeout(Duration::from_secs(10), incidents.recv())
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
        assert!(matches!(first, Incident::Connected(Connection(1), Some(_))));
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

/// Files of an identity for these names, and the file of certificates that trusts it.
fn identity(place: &str, names: &[&str]) -> (TlsIdentity, PathBuf) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let certificate = file(&format!("{place}.pem"), &made.cert.pem());
    let key = file(&format!("{place}.key"), &made.signing_key.serialize_pem());
    let ca = certificate.clone();
    (TlsIdentity { certificate, key }, ca)
}

/// Connections that accept TLS on loopback, what happens to them, and whom to trust.
async fn listening(place: &str) -> (Connections, mpsc::Receiver<Incident>, SocketAddr, Tls) {
    let (files, ca) = identity(place, &["127.0.0.1"]);
    let (inbox, incidents) = mpsc::channel(16);
    let mut connections = Connections::new(inbox, Vec::new(), Tls::new(None).unwrap());
    let any = "127.0.0.1:0".parse().unwrap();
    let identity = Identity::read(&files).unwrap();
    let address = connections.listen_for_tls(any, identity).unwrap();
    (
        connections,
        incidents,
        address,
        Tls::new(Some(&ca)).unwrap(),
    )
}

#[tokio::test]
async fn a_connection_by_tls_is_accepted_and_carries_bytes() {
    let (mut bob, mut at_bob, address, trust) = listening("accepts").await;
    let (mut alice, mut at_alice, first) = open(trust, address, "127.0.0.1").await;
    assert!(matches!(first, Incident::Connected(..)));
    let Incident::Accepted { stream, media, .. } = next(&mut at_bob).await else {
        panic!("it is accepted");
    };
    assert!(matches!(stream, Accepted::Tls(_)) && media.is_none());
    bob.adopt(Connection(9), stream);
    alice.write(Connection(1), b"question".to_vec()).unwrap();
    assert!(matches!(next(&mut at_bob).await, Incident::Bytes(_, bytes) if bytes == b"question"));
    bob.write(Connection(9), b"answer".to_vec()).unwrap();
    assert!(matches!(next(&mut at_alice).await, Incident::Bytes(_, bytes) if bytes == b"answer"));
}

/// A stranger that begins handshakes and lets them stall, or sends what is no TLS, keeps nobody out
/// and is told to nobody.
#[tokio::test]
async fn stalled_and_hostile_handshakes_keep_nobody_out() {
    let (_bob, mut at_bob, address, trust) = listening("stalls").await;
    let mut stalled = Vec::new();
    for number in 0..40_u8 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let bytes: Vec<u8> = match number % 4 {
            0 => Vec::new(),
            1 => b"OPTIONS sip:bob@127.0.0.1 SIP/2.0\r\n\r\n".to_vec(),
            2 => vec![number; 3_000],
            _ => vec![0x16, 0x03, 0x01, 0x40, 0x00, 0x01],
        };
        let _ = stream.write_all(&bytes).await;
        stalled.push(stream);
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(at_bob.try_recv().is_err());
    // All from one address here: it has had its share, which is free again after five seconds.
    tokio::time::sleep(Duration::from_millis(5_200)).await;
    let (_alice, _at_alice, first) = open(trust, address, "127.0.0.1").await;
    assert!(matches!(first, Incident::Connected(..)));
    assert!(matches!(next(&mut at_bob).await, Incident::Accepted { .. }));
    let mut ended = 0;
    for stream in &mut stalled {
        let mut byte = [0; 512];
        let read = tokio::time::timeout(Duration::from_secs(1), async {
            while matches!(stream.read(&mut byte).await, Ok(1..)) {}
        });
        ended += usize::from(read.await.is_ok());
    }
    assert_eq!(ended, stalled.len());
}

/// A server that accepts and then says nothing.
#[tokio::test]
async fn a_silent_server_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let error = refusal(Tls::new(None).unwrap(), address, "localhost").await;
    assert!(error.contains("no answer within 5 s"), "{error}");
}

#[tokio::test]
async fn what_is_wrong_with_a_server_is_said_with_what_to_do() {
    let (address, _) = echo(&["sip.example.org"]).await;
    let error = refusal(Tls::new(None).unwrap(), address, "sip.example.org").await;
    assert!(
        error.contains("--tls-ca") && !error.contains('\n'),
        "{error}"
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"SIP/2.0 400 What\r\n\r\n").await.unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
    });
    let error = refusal(Tls::new(None).unwrap(), address, "sip.example.org").await;
    assert!(error.contains("does not speak TLS"), "{error}");
}

#[test]
fn an_identity_that_does_not_fit_is_named() {
    let (good, _) = identity("fits", &["a.example.org"]);
    let (other, _) = identity("other", &["b.example.org"]);
    assert!(Identity::read(&good).is_ok());
    let mixed = TlsIdentity {
        key: other.key.clone(),
        ..good.clone()
    };
    let missing = TlsIdentity {
        certificate: PathBuf::from("/nonexistent/desk.pem"),
        ..good.clone()
    };
    let no_key = TlsIdentity {
        key: good.certificate.clone(),
        ..good.clone()
    };
    for (files, word) in [
        (mixed, "other.key"),
        (missing, "/nonexistent/desk.pem"),
        (no_key, "private key"),
    ] {
        let text = Identity::read(&files).err().unwrap().to_string();
        assert!(text.contains(word) && !text.contains('\n'), "{text}");
        assert!(!text.contains("BEGIN"), "{text}");
    }
}
