//! Real calls through a real TURN server, coturn, by UDP, TCP and TLS. Needs the program
//! `turnserver`; without it these tests say so and do nothing.
//!
//! ```text
//!   ringtrue call ── TCP or TLS ── coturn ── UDP ── ringtrue listen       all on 127.0.0.1
//! ```

mod common;

use std::net::{TcpListener, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Place, Process, assert_order, first};
use ringtrue_media::tone;
use serde_json::Value;

const SOON: Duration = Duration::from_secs(30);

/// A running coturn, and how it is reached.
struct Coturn {
    child: Child,
    port: u16,
    tls_port: u16,
}

impl Coturn {
    /// Starts one with a certificate for 127.0.0.1, whose authority is the file `ca.pem` of the
    /// place. None, with a word, where there is no coturn.
    fn start(place: &Place) -> Option<Self> {
        let found = Command::new("turnserver").arg("--version").output();
        if found.is_err() {
            println!("skipped: the program turnserver (coturn) is not here");
            return None;
        }
        certify(place);
        let [port, tls_port] = [free_port(), free_port()];
        let child = Command::new("turnserver")
            // No settings of the system's.
            .args(["-n", "--no-cli", "--no-dtls", "--lt-cred-mech"])
            .args(["--realm", "test.example", "--user", "alice:secret"])
            .args(["--listening-ip", "127.0.0.1", "--relay-ip", "127.0.0.1"])
            .args(["--listening-port", &port.to_string()])
            .args(["--tls-listening-port", &tls_port.to_string()])
            .args(["--cert", &place.path("turn.pem")])
            .args(["--pkey", &place.path("turn.key")])
            .args(["--pidfile", &place.path("turnserver.pid")])
            .args(["--userdb", &place.path("turndb")])
            .args(["--log-file", &place.path("turnserver.log"), "--simple-log"])
            .args(["--allow-loopback-peers", "--no-software-attribute"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let coturn = Self {
            child,
            port,
            tls_port,
        };
        let limit = Instant::now() + SOON;
        for port in [port, tls_port] {
            while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
                assert!(Instant::now() < limit, "coturn does not listen");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Some(coturn)
    }

    fn uri(&self, transport: &str) -> String {
        match transport {
            "tls" => format!("turns:alice@127.0.0.1:{}", self.tls_port),
            _ => format!("turn:alice@127.0.0.1:{}?transport={transport}", self.port),
        }
    }
}

impl Drop for Coturn {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = tcp.local_addr().expect("it is bound").port();
        if UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// An authority, which is trusted by `--tls-ca ca.pem`, and coturn's certificate.
fn certify(place: &Place) {
    let authority = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = params.self_signed(&authority).expect("it signs itself");
    let issuer = rcgen::Issuer::new(params, authority);
    std::fs::write(place.path("ca.pem"), root.pem()).expect("it can be written");
    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
    let signed = params.signed_by(&key, &issuer).expect("it is signed");
    std::fs::write(place.path("turn.pem"), signed.pem()).expect("it can be written");
    std::fs::write(place.path("turn.key"), key.serialize_pem()).expect("it can be written");
}

/// Starts a phone that knows the password.
fn phone(place: &Place, line: &str) -> Process {
    let mut command = place.command(line);
    command.env("RINGTRUE_TURN_PASSWORD", "secret");
    Process::of(command)
}

fn relayed_path(events: &[Value]) -> bool {
    let path = first(events, "path_selected");
    [&path["local_type"], &path["remote_type"]].contains(&&Value::from("relay"))
}

/// How long a recording holds a tone, and the longest gap in it.
fn measure(file: &str, hz: f64) -> tone::ToneReport {
    let mut wav = hound::WavReader::open(file).expect("a finished WAV file");
    let rate = wav.spec().sample_rate;
    let samples: Vec<i16> = wav.samples::<i16>().map(|sample| sample.unwrap()).collect();
    tone::measure(&samples, hz, rate, 0.05)
}

/// A call of three seconds in which alice gives away nothing but an address of coturn.
fn call_by(place: &Place, coturn: &Coturn, transport: &str, options: &str) {
    let mut bob = phone(
        place,
        "listen --bind 127.0.0.1:0 --json --answer auto --once --audio-in tone:440 \
         --audio-out bob.wav",
    );
    let listening = bob.event("listening");
    let address = listening["sip"].as_str().expect("an address");
    let turn = coturn.uri(transport);
    let mut alice = phone(
        place,
        &format!(
            "call sip:bob@{address} --bind 127.0.0.1 --json --relay-only --turn {turn} {options} \
             --audio-in tone:880 --audio-out alice.wav --duration 3"
        ),
    );
    let codes = (alice.wait(SOON), bob.wait(SOON));
    let (of_alice, of_bob) = (alice.events(), bob.events());
    assert_eq!(codes, (0, 0), "{transport}: {of_alice:#?}");
    assert_order(
        &of_bob,
        &["invite", "path_validated", "ringing", "answered", "ended"],
    );
    assert!(relayed_path(&of_alice), "{transport}: {of_alice:#?}");
    for (file, hz) in [("alice.wav", 440.0), ("bob.wav", 880.0)] {
        let report = measure(&place.path(file), hz);
        println!("{transport}, {hz} Hz: {report:?}");
        assert!(report.seconds >= 2.5, "{transport} {file}: {report:?}");
    }
}

#[test]
fn calls_go_through_coturn_by_udp_tcp_and_tls() {
    let place = Place::new("coturn");
    let Some(coturn) = Coturn::start(&place) else {
        return;
    };
    call_by(&place, &coturn, "udp", "");
    call_by(&place, &coturn, "tcp", "");
    call_by(&place, &coturn, "tls", "--tls-ca ca.pem");
}

/// A certificate that nobody vouches for: no relay, so no address to offer, and nobody rings.
#[test]
fn a_certificate_of_a_stranger_is_not_believed() {
    let place = Place::new("coturn-stranger");
    let Some(coturn) = Coturn::start(&place) else {
        return;
    };
    let mut bob = phone(
        &place,
        "listen --bind 127.0.0.1:0 --json --answer auto --audio-in silence --audio-out null",
    );
    let listening = bob.event("listening");
    let address = listening["sip"].as_str().expect("an address");
    let turn = coturn.uri("tls");
    let mut alice = phone(
        &place,
        &format!(
            "call sip:bob@{address} --bind 127.0.0.1 --json --relay-only --turn {turn} \
             --audio-in silence --audio-out null"
        ),
    );
    assert_ne!(alice.wait(SOON), 0);
    let events = alice.events();
    assert_eq!(first(&events, "gathered")["candidates"], 0, "{events:#?}");
    bob.signal("INT");
    bob.wait(SOON);
    assert!(!bob.events().iter().any(|event| event["event"] == "ringing"));
}
