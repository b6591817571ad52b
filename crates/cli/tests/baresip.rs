//! Calls with a phone of others, baresip, over loopback: signalling by TLS, keys in the description
//! (SDES), in both directions. Debian's baresip 1.0.0 knows these; without it the tests say so.

mod common;

use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Place, first};
use ringtrue_media::tone;

const SOON: Duration = Duration::from_secs(30);
const MODULES: &str = "/usr/lib/baresip/modules";
const OURS: f64 = 880.0;
const THEIRS: f64 = 440.0;

/// A port whose next one is free as well: TLS takes that.
fn free_port() -> u16 {
    loop {
        let first = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = first.local_addr().expect("it is bound").port();
        if port < u16::MAX && TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            return port;
        }
    }
}

/// An authority (`ca.pem`) and a certificate for this host, with its key in one file for baresip.
fn certify(place: &Place) {
    let authority = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = params.self_signed(&authority).expect("it signs itself");
    let issuer = rcgen::Issuer::new(params, authority);
    let key = rcgen::KeyPair::generate().expect("a key");
    let names = vec!["127.0.0.1".to_owned()];
    let mut params = rcgen::CertificateParams::new(names).expect("a name");
    let common_name = rcgen::DnType::CommonName;
    params.distinguished_name.push(common_name, "127.0.0.1");
    let signed = params.signed_by(&key, &issuer).expect("it is signed");
    let (signed, key) = (signed.pem(), key.serialize_pem());
    for (name, text) in [
        ("ca.pem", root.pem()),
        ("host.pem", signed.clone()),
        ("host.key", key.clone()),
        ("both.pem", format!("{signed}{key}")),
    ] {
        std::fs::write(place.path(name), text).expect("it can be written");
    }
}

/// A running baresip, ended with the value.
struct Baresip {
    child: Child,
    directory: String,
    port: u16,
}

impl Baresip {
    /// `encryption` is its word for it: `srtp` is SDES where the peer takes it, `srtp-mand` in any
    /// case, `dtls_srtp` DTLS-SRTP (by OpenSSL). It answers by itself, or calls `target`.
    fn start(place: &Place, encryption: &str, target: Option<&str>) -> Option<Self> {
        if !Path::new(MODULES).join("srtp.so").exists() {
            println!("skipped: there is no baresip here (apt install baresip-core)");
            return None;
        }
        let directory = place.path("b");
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(&directory).expect("a directory");
        let port = free_port();
        let modules = [
            "opus",
            "g711",
            "ausine",
            "aubridge",
            "sndfile",
            "srtp",
            "dtls_srtp",
            "stdio",
        ];
        let modules: String = modules.map(|name| format!("module {name}.so\n")).concat();
        let config = format!(
            "sip_listen 127.0.0.1:{port}\nsip_certificate {}\nsip_cafile {}\n\
             audio_player aubridge,speaker\naudio_source ausine,{THEIRS}\naudio_alert aubridge,alert\n\
             ausrc_srate 48000\nauplay_srate 48000\nausrc_channels 2\nauplay_channels 2\n\
             rtcp_mux yes\nsnd_path .\nmodule_path {MODULES}\n{modules}\
             module_tmp account.so\nmodule_app menu.so\n",
            place.path("both.pem"),
            place.path("ca.pem"),
        );
        let account = format!(
            "<sip:foreign@127.0.0.1;transport=tls>;regint=0;answermode=auto;mediaenc={encryption};\
             audio_codecs=opus/48000/2,pcmu/8000/1\n"
        );
        for (name, text) in [
            ("config", &*config),
            ("accounts", &*account),
            ("contacts", ""),
        ] {
            let path = Path::new(&directory).join(name);
            std::fs::write(path, text).expect("it can be written");
        }
        let output = std::fs::File::create(place.path("b.log")).expect("a log");
        let mut command = Command::new("baresip");
        command.args(["-4", "-s", "-v", "-f", ".", "-p", "/usr/share/baresip"]);
        if let Some(target) = target {
            command.args(["-e", &format!("/dial {target}")]);
        }
        let child = command
            .current_dir(&directory)
            .stdin(Stdio::piped())
            .stdout(output.try_clone().expect("a log"))
            .stderr(output)
            .spawn()
            .expect("baresip starts");
        let mut baresip = Self {
            child,
            directory,
            port,
        };
        baresip.await_port();
        Some(baresip)
    }

    fn await_port(&mut self) {
        let limit = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(("127.0.0.1", self.port + 1)).is_err() {
            assert!(Instant::now() < limit, "baresip does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Its keyboard: `b` hangs up.
    fn press(&mut self, key: &str) {
        if let Some(keyboard) = &mut self.child.stdin {
            let _ = writeln!(keyboard, "{key}");
            let _ = keyboard.flush();
        }
    }

    /// How long its recording of what it heard holds our tone. It writes while it lives.
    fn heard(mut self) -> f64 {
        self.press("q");
        let limit = Instant::now() + Duration::from_secs(3);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < limit {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        let files = std::fs::read_dir(&self.directory).expect("its directory");
        let decoded = files.flatten().filter(|file| {
            let name = file.file_name().to_string_lossy().into_owned();
            name.starts_with("dump-") && name.ends_with("-dec.wav")
        });
        let heard = decoded.map(|file| level(&file.path().display().to_string(), OURS));
        heard.fold(0.0, f64::max)
    }
}

impl Drop for Baresip {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn level(file: &str, hz: f64) -> f64 {
    let Ok(mut wav) = hound::WavReader::open(file) else {
        return 0.0;
    };
    let (rate, channels) = (wav.spec().sample_rate, usize::from(wav.spec().channels));
    let samples: Vec<i16> = wav.samples::<i16>().map_while(Result::ok).collect();
    let first: Vec<i16> = samples.into_iter().step_by(channels.max(1)).collect();
    tone::measure(&first, hz, rate, 0.05).seconds
}

/// The `kind` of the encryption that a phone of ours told; `srtp` is that of baresip.
fn expected(events: &[serde_json::Value]) -> Option<String> {
    let secured = events.iter().find(|event| event["event"] == "secured")?;
    Some(secured["kind"].as_str()?.to_owned())
}

#[test]
fn we_call_baresip_with_keys_in_the_description_and_by_dtls() {
    for (encryption, options, kind, refusals) in [
        ("srtp", "", "sdes", 0),
        ("srtp-mand", "--srtp required", "sdes", 0),
        // It takes no offer of RTP/AVP then, and is asked again.
        ("dtls_srtp", "", "dtls-srtp", 1),
        ("dtls_srtp", "--srtp required", "dtls-srtp", 0),
    ] {
        let place = Place::new("baresip-callee");
        certify(&place);
        let Some(baresip) = Baresip::start(&place, encryption, None) else {
            return;
        };
        let port = baresip.port + 1;
        let mut alice = place.start(&format!(
            "call sip:foreign@127.0.0.1:{port};transport=tls --bind 127.0.0.1 --tls-ca ca.pem --json \
             --audio-in tone:{OURS} --audio-out alice.wav --duration 3 {options}"
        ));
        let code = alice.wait(SOON);
        let events = alice.events();
        assert_eq!(code, 0, "{encryption}: {events:#?}");
        assert_eq!(expected(&events).as_deref(), Some(kind), "{events:#?}");
        let anew = events
            .iter()
            .filter(|event| event["event"] == "offered_anew");
        assert_eq!(
            anew.count(),
            refusals,
            "{encryption} {options}: {events:#?}"
        );
        let (there, here) = (baresip.heard(), level(&place.path("alice.wav"), THEIRS));
        println!("to baresip ({encryption}): {there} s heard there, {here} s here");
        assert!(there > 2.0 && here > 2.0, "{there} {here}");
    }
}

#[test]
fn baresip_calls_us_with_keys_in_the_description_and_by_dtls() {
    for (encryption, kind) in [
        ("srtp", "sdes"),
        ("srtp-mand", "sdes"),
        ("dtls_srtp", "dtls-srtp"),
    ] {
        let place = Place::new("baresip-caller");
        certify(&place);
        let mut bob = place.start(&format!(
            "listen --bind 127.0.0.1:0 --tls-certificate host.pem --tls-key host.key --tls-ca ca.pem \
             --json --answer auto --once --audio-in tone:{OURS} --audio-out bob.wav"
        ));
        let address = loop {
            let listening = bob.event("listening");
            if listening["transport"] == "tls" {
                break listening["sip"].as_str().expect("an address").to_owned();
            }
        };
        let target = format!("sip:bob@{address};transport=tls");
        let Some(mut baresip) = Baresip::start(&place, encryption, Some(&target)) else {
            return;
        };
        bob.hears();
        std::thread::sleep(Duration::from_secs(3));
        baresip.press("b");
        let code = bob.wait(SOON);
        let events = bob.events();
        assert_eq!(code, 0, "{encryption}: {events:#?}");
        assert_eq!(expected(&events).as_deref(), Some(kind), "{events:#?}");
        assert_eq!(first(&events, "ended")["by"], "remote", "{events:#?}");
        let (there, here) = (baresip.heard(), level(&place.path("bob.wav"), THEIRS));
        println!("from baresip ({encryption}): {there} s heard there, {here} s here");
        assert!(there > 2.0 && here > 2.0, "{there} {here}");
    }
}
