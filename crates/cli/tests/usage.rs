//! Wrong options, wrong settings, and what the host does not have: one clear line, exit status 2.

mod common;

use common::Place;

/// Runs a line that must fail at once: status 2, nothing on standard output, one line of error
/// that holds the words.
fn refused(place: &Place, line: &str, words: &[&str]) {
    let (code, output, errors) = place.run(line);
    assert_eq!(code, 2, "{line}: {errors}");
    assert_eq!(output, "", "{line}");
    assert_eq!(errors.lines().count(), 1, "{line}: {errors}");
    assert!(errors.starts_with("ringtrue: "), "{line}: {errors}");
    for word in words {
        assert!(errors.contains(word), "{line}: {errors:?} has no {word:?}");
    }
}

#[test]
fn wrong_options() {
    let place = Place::new("options");
    refused(&place, "call", &["<URI>"]);
    refused(&place, "call sip:a@b --jsno", &["--jsno"]);
    refused(&place, "call sip:a@b --no-ice --require-ice", &["--no-ice"]);
    refused(&place, "call sip:a@b --bind eth0", &["eth0", "IP address"]);
    refused(&place, "call sip:a@b --codec mp3", &["mp3", "opus"]);
    refused(&place, "call sip:a@b --audio-in tone:loud", &["tone:HZ"]);
    refused(&place, "call sip:a@b --duration soon", &["seconds"]);
    refused(&place, "call sip:a@b --stun a:b:c", &["HOST:PORT"]);
    let turn = "call sip:a@b --turn turn:alice@example.org";
    refused(&place, turn, &["RINGTRUE_TURN_PASSWORD", "example.org"]);
    refused(&place, "call sip:a@b --turn example.org", &["turn:HOST"]);
    let turn = |uri: &str| format!("call sip:a@b --turn {uri}");
    refused(&place, &turn("turn:h?transport=sctp"), &["udp, tcp or tls"]);
    refused(&place, &turn("turns:h?transport=udp"), &["turns:", "TLS"]);
    refused(&place, "call sip:a@b --relay-only", &["--turn"]);
    refused(
        &place,
        "call sip:a@b --auth-user alice",
        &["RINGTRUE_PASSWORD"],
    );
    refused(&place, "listen --answer always", &["after:SECS"]);
    refused(&place, "listen --max-calls 0", &["max-calls"]);
    refused(&place, "dance", &["dance"]);
    refused(&place, "man dance", &["dance"]);
    // Options of later days are not there yet, not even in silence.
    for option in ["--srtp", "--trace"] {
        refused(&place, &format!("call sip:a@b {option}"), &[option]);
    }
}

#[test]
fn asking_needs_somebody_to_ask() {
    let place = Place::new("asking");
    refused(&place, "listen", &["--answer ask", "--answer auto"]);
    refused(&place, "listen --answer ask --json", &["--answer ask"]);
}

#[test]
fn wrong_settings() {
    let place = Place::new("settings");
    let file = place.path("settings.toml");
    let with = format!("call sip:a@b --config {file}");
    refused(&place, &with, &["settings.toml"]);
    std::fs::write(&file, "rign = \"verified\"\n").unwrap();
    refused(&place, &with, &["settings.toml", "`rign`"]);
    std::fs::write(&file, "[account.work]\naor = \"sip:a@b\"\n").unwrap();
    refused(&place, &format!("{with} --account play"), &["play", "work"]);
    std::fs::write(&file, "patience = \"a while\"\n").unwrap();
    refused(&place, &with, &["a while", "10s"]);
    // The usual place is read too.
    std::fs::create_dir_all(place.path(".config/ringtrue")).unwrap();
    std::fs::write(place.path(".config/ringtrue/config.toml"), "odd = 1\n").unwrap();
    refused(&place, "call sip:a@b", &["config.toml", "`odd`"]);
}

#[test]
fn a_password_that_others_may_read_draws_a_warning() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new("password");
    let file = place.path("settings.toml");
    std::fs::write(&file, "password = \"secret\"\naor = \"sip:a@b\"\n").unwrap();
    let line = format!("listen --config {file} --bind 192.0.2.1 --answer never");
    for (mode, warned) in [(0o644, true), (0o600, false)] {
        std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
        let (_, _, errors) = place.run(&line);
        assert_eq!(errors.contains("chmod 600"), warned, "{errors}");
        assert!(!errors.contains("secret"), "{errors}");
    }
}

#[test]
fn what_this_host_does_not_have() {
    let place = Place::new("host");
    let quiet = "--audio-in silence --audio-out null";
    let listen = format!("listen --answer never {quiet}");
    refused(
        &place,
        &format!("{listen} --bind 192.0.2.1"),
        &["192.0.2.1", "--bind"],
    );
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let port = address.port().to_string();
    let words = [port.as_str(), "127.0.0.1", "in use"];
    refused(&place, &format!("{listen} --bind {address}"), &words);
    let call = "call sip:a@127.0.0.1 --bind 127.0.0.1";
    let missing = format!("{call} --audio-in missing.wav --audio-out null");
    refused(&place, &missing, &["missing.wav"]);
    std::fs::write(place.path("broken.wav"), "no sound").unwrap();
    let broken = format!("{call} --audio-in broken.wav --audio-out null");
    refused(&place, &broken, &["broken.wav"]);
    let nowhere = format!("{call} --audio-in silence --audio-out no/where.wav");
    refused(&place, &nowhere, &["no/where.wav"]);
    let device = format!("{call} --audio-in no-such-device --audio-out null");
    refused(&place, &device, &["--audio-in silence"]);
    let device = format!("{call} --audio-in silence --audio-out no-such-device");
    refused(&place, &device, &["--audio-out null"]);
}

#[test]
fn wrong_addresses() {
    let place = Place::new("addresses");
    let quiet = "--bind 127.0.0.1 --audio-in silence --audio-out null";
    for target in ["sip:", "http://example.org", "sip:bob@[::1"] {
        refused(&place, &format!("call {target} {quiet}"), &[]);
    }
    refused(
        &place,
        &format!("call sip:a@b --aor nobody {quiet}"),
        &["nobody"],
    );
    refused(
        &place,
        &format!("call sip:a@b --proxy nowhere {quiet}"),
        &["nowhere"],
    );
}

#[test]
fn with_json_an_error_is_an_event_too() {
    let place = Place::new("json-error");
    let line = "listen --answer never --bind 192.0.2.1 --audio-in silence --audio-out null --json";
    let mut process = place.start(line);
    assert_eq!(process.wait(std::time::Duration::from_secs(10)), 2);
    let events = process.events();
    assert_eq!(common::names(&events), ["start", "error"]);
    assert!(events[1]["message"].as_str().unwrap().contains("192.0.2.1"));
    assert_eq!(process.errors().lines().count(), 1);
}

#[test]
fn help_version_completions_and_manual() {
    let place = Place::new("help");
    for (line, word) in [
        ("--help", "listen"),
        ("--version", env!("CARGO_PKG_VERSION")),
        ("call --help", "--require-ice"),
        ("listen -h", "--max-calls"),
        ("completions bash", "ringtrue"),
        ("man", ".TH"),
        ("man listen", "max\\-calls"),
    ] {
        let (code, output, errors) = place.run(line);
        assert_eq!((code, errors.as_str()), (0, ""), "{line}");
        assert!(output.contains(word), "{line}");
    }
    let (code, output, errors) = place.run("");
    assert_eq!((code, output.as_str()), (2, ""));
    assert!(errors.contains("Usage"), "{errors}");
}
