//! Real calls by TLS over loopback: two processes, certificates of their own.

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use common::{Place, Process, first};
use ringtrue_media::tone;
use serde_json::Value;

const SOON: Duration = Duration::from_secs(30);
const QUIET: &str = "--audio-in silence --audio-out null";

/// An authority (`ca.pem`), and a certificate of it for these names (`bob.pem`, `bob.key`).
fn certify(place: &Place, names: &[&str]) {
    let authority = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = params.self_signed(&authority).expect("it signs itself");
    let issuer = rcgen::Issuer::new(params, authority);
    let key = rcgen::KeyPair::generate().expect("a key");
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let params = rcgen::CertificateParams::new(names).expect("names");
    let signed = params.signed_by(&key, &issuer).expect("it is signed");
    for (name, text) in [
        ("ca.pem", root.pem()),
        ("bob.pem", signed.pem()),
        ("bob.key", key.serialize_pem()),
    ] {
        std::fs::write(place.path(name), text).expect("it can be written");
    }
}

/// Bob, and the address that he takes calls by TLS at.
fn bob(place: &Place, options: &str) -> (Process, String) {
    let mut bob = place.start(&format!(
        "listen --bind 127.0.0.1:0 --json --answer auto --tls-certificate bob.pem --tls-key bob.key \
         {options}"
    ));
    loop {
        let listening = bob.event("listening");
        if listening["transport"] == "tls" {
            let address = listening["sip"].as_str().expect("an address").to_owned();
            return (bob, address);
        }
    }
}

fn level(file: &str, hz: f64) -> f64 {
    let mut wav = hound::WavReader::open(file).expect("a finished WAV file");
    let rate = wav.spec().sample_rate;
    let samples: Vec<i16> = wav.samples::<i16>().map(|sample| sample.unwrap()).collect();
    tone::measure(&samples, hz, rate, 0.05).seconds
}

#[test]
fn a_call_by_tls_is_heard_both_ways() {
    for scheme in ["sips:bob@{}", "sip:bob@{};transport=tls"] {
        let place = Place::new("tls-call");
        certify(&place, &["127.0.0.1"]);
        let (mut bob, address) = bob(&place, "--once --audio-in tone:440 --audio-out bob.wav");
        let target = scheme.replace("{}", &address);
        let mut alice = place.start(&format!(
            "call {target} --bind 127.0.0.1 --json --tls-ca ca.pem --audio-in tone:880 \
             --audio-out alice.wav --duration 3"
        ));
        let codes = (alice.wait(SOON), bob.wait(SOON));
        let events = alice.events();
        assert_eq!(codes, (0, 0), "{target}: {events:#?}");
        for (file, hz) in [("alice.wav", 440.0), ("bob.wav", 880.0)] {
            let seconds = level(&place.path(file), hz);
            println!("{target}, {hz} Hz: {seconds} s");
            assert!(seconds >= 2.5, "{target} {file}: {seconds}");
        }
    }
}

/// What alice's program says in the end, for people and for scripts.
fn refused(place: &Place, target: &str, options: &str) -> String {
    let line = format!("call {target} --bind 127.0.0.1 {options} {QUIET}");
    let (code, output, errors) = place.run(&line);
    assert_eq!(code, 6, "{output}{errors}");
    let last = output.lines().last().unwrap_or_default().to_owned();
    let mut scripted = place.start(&format!("{line} --json"));
    assert_eq!(scripted.wait(SOON), 6);
    let events: Vec<Value> = scripted.events();
    let words = first(&events, "ended")["words"].clone();
    let words = words.as_str().expect("words");
    assert!(last.contains(words), "{last}\n{words}");
    last
}

#[test]
fn certificates_that_are_not_good_say_what_to_do() {
    let place = Place::new("tls-wrong");
    certify(&place, &["desk.example.org"]);
    let (bob, address) = bob(&place, QUIET);
    let target = format!("sips:bob@{address}");
    let stranger = refused(&place, &target, "");
    assert!(stranger.contains("--tls-ca"), "{stranger}");
    let name = refused(&place, &target, "--tls-ca ca.pem");
    assert!(
        name.contains("127.0.0.1") && name.contains("desk.example.org"),
        "{name}"
    );
    bob.signal("INT");
}

#[test]
fn a_server_without_tls_is_a_failure_of_the_network() {
    let place = Place::new("tls-none");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("sips:bob@{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = stream.write_all(b"220 mail.example.org\r\n");
            let _ = stream.read(&mut [0; 512]);
        }
    });
    let text = refused(&place, &target, "");
    assert!(text.contains("does not speak TLS"), "{text}");
}

/// Strangers that let handshakes stall, or send anything, keep nobody from calling.
#[test]
fn hostile_connections_do_not_keep_a_call_out() {
    let place = Place::new("tls-hostile");
    certify(&place, &["127.0.0.1"]);
    let (mut bob, address) = bob(&place, &format!("--once {QUIET}"));
    let mut strangers = Vec::new();
    for number in 0..6_u8 {
        let mut stream = TcpStream::connect(&address).unwrap();
        let _ = stream.write_all(&vec![number; usize::from(number) * 100]);
        strangers.push(stream);
    }
    let begun = Instant::now();
    let mut alice = place.start(&format!(
        "call sips:bob@{address} --bind 127.0.0.1 --json --tls-ca ca.pem --duration 1 {QUIET}"
    ));
    assert_eq!((alice.wait(SOON), bob.wait(SOON)), (0, 0));
    println!("a call beside strangers took {:?}", begun.elapsed());
}

#[test]
fn half_an_identity_is_a_usage_error() {
    let place = Place::new("tls-half");
    certify(&place, &["127.0.0.1"]);
    for (options, word) in [
        ("--tls-certificate bob.pem", "--tls-key"),
        ("--tls-key bob.key", "--tls-certificate"),
        ("--tls-certificate bob.pem --tls-key ca.pem", "ca.pem"),
        ("--tls-certificate none.pem --tls-key bob.key", "none.pem"),
    ] {
        let line = format!("listen --bind 127.0.0.1:0 --answer auto {options} {QUIET}");
        let (code, _, errors) = place.run(&line);
        assert_eq!(code, 2, "{options}: {errors}");
        assert!(errors.contains(word), "{options}: {errors}");
        assert_eq!(errors.trim().lines().count(), 1, "{errors}");
    }
}
