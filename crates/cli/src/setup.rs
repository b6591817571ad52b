//! From the command line, the environment and the settings file to what the driver is told.
//! The command line comes first, then the environment, the account, the top of the file.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ringtrue_media::audio::{AudioError, AudioInput, AudioOutput};
use ringtrue_phone::Settings;
use ringtrue_phone::driver::{BindAddress, DriverConfig, Gain, Sound, TlsIdentity};
use ringtrue_phone::settings::{AnswerWhen, IceUse, Login, RingWhen, TurnServer};

use crate::args::{CallArgs, ListenArgs, PhoneArgs, TurnUri};
use crate::file::{Decibels, Ice, Ring, Section, SettingsFile};
use crate::voice;

/// SIP's own port (RFC 3261 section 19.1.2).
const SIP_PORT: u16 = 5060;
/// Gathered candidate sets that `listen` keeps warm: for one caller, and one who comes while the
/// next set is being gathered.
const WARM_SETS: usize = 2;
/// How many calls at a time, if nothing is said.
const MAX_CALLS: u16 = 4;

/// Why the program cannot begin: usage or settings. Each message is one line.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The settings file.
    #[error("{path}: {reason}")]
    File {
        /// Which file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// `--account` names none of the file's.
    #[error(
        "there is no account \"{name}\" in the settings; there are: {}",
        list(known)
    )]
    NoSuchAccount {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// A user name for authentication, and no password.
    #[error(
        "no password for {0}: put it into the environment variable RINGTRUE_PASSWORD, or as `password` into the account's settings"
    )]
    NoPassword(String),
    /// A password, and nobody whose it is.
    #[error(
        "a password is set, but no user name: say --auth-user NAME, or give the account an aor with one"
    )]
    NoUser,
    /// A TURN server, and no password.
    #[error(
        "no password for the TURN server {0}: put it into the environment variable RINGTRUE_TURN_PASSWORD, or as `turn-password` into the account's settings"
    )]
    NoTurnPassword(String),
    /// A TURN server, and nobody to be there.
    #[error(
        "no user name for the TURN server {0}: say --turn turn:USER@{0}, or --auth-user NAME, or give the account an aor with one"
    )]
    NoTurnUser(String),
    /// Nothing to relay by.
    #[error(
        "--relay-only needs a TURN server: say --turn, or put `turn` into the settings, or a password for the TURN server of your domain"
    )]
    NoRelay,
    /// Without ICE there is no choice of addresses.
    #[error("--relay-only needs ICE, which is switched off")]
    RelayWithoutIce,
    /// A certificate without its key, or a key alone.
    #[error(
        "TLS takes a certificate and its private key: say both --tls-certificate and --tls-key, or put both tls-certificate and tls-key into the settings"
    )]
    HalfAnIdentity,
    /// Nobody can be asked.
    #[error(
        "--answer ask needs a terminal, and no --json; say --answer auto, --answer after:SECS or --answer never"
    )]
    NobodyToAsk,
    /// A sound option.
    #[error(transparent)]
    Sound(#[from] AudioError),
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

/// What `call` does.
pub fn call(args: CallArgs) -> Result<DriverConfig, SetupError> {
    let section = account(&args.phone)?;
    let settings = Settings {
        answer: AnswerWhen::Never,
        max_calls: 1,
        ..settings(&args.phone, &section)?
    };
    Ok(DriverConfig {
        settings,
        bind: bind(&args.phone, &section),
        default_port: 0,
        accept_tcp: false,
        dns: dns(&section),
        tls_ca: tls_ca(&args.phone, &section),
        tls_identity: None,
        sound: sound(&args.phone, &section)?,
        target: Some(args.target),
        once: true,
    })
}

/// What `listen` does.
pub fn listen(args: ListenArgs) -> Result<DriverConfig, SetupError> {
    let section = account(&args.phone)?;
    let answer = args
        .answer
        .or(section.answer.as_ref().map(|answer| answer.0))
        .unwrap_or(AnswerWhen::Asked);
    if answer == AnswerWhen::Asked && (args.phone.json || !std::io::stdin().is_terminal()) {
        return Err(SetupError::NobodyToAsk);
    }
    let unsaid = if args.once { 1 } else { MAX_CALLS };
    let max_calls = args.max_calls.or(section.max_calls).unwrap_or(unsaid);
    let max_calls = usize::from(max_calls.max(1));
    let tls_identity = tls_identity(args.tls_certificate, args.tls_key, &section)?;
    let settings = Settings {
        answer,
        register: args.register || section.register.unwrap_or(false),
        max_calls,
        warm_sets: WARM_SETS.min(max_calls),
        ..settings(&args.phone, &section)?
    };
    Ok(DriverConfig {
        settings,
        bind: bind(&args.phone, &section),
        default_port: SIP_PORT,
        accept_tcp: true,
        dns: dns(&section),
        tls_ca: tls_ca(&args.phone, &section),
        tls_identity,
        sound: sound(&args.phone, &section)?,
        target: None,
        once: args.once,
    })
}

fn account(args: &PhoneArgs) -> Result<Section, SetupError> {
    SettingsFile::find(args.config.as_deref())?.account(args.account.as_deref())
}

/// What is the same for both.
fn settings(args: &PhoneArgs, section: &Section) -> Result<Settings, SetupError> {
    let unsaid = Settings::default();
    let given = args.aor.clone().or_else(|| section.aor.clone());
    // Nobody but its user has a domain to ask.
    let has_domain = given.is_some();
    let aor = given.unwrap_or_else(default_aor);
    let stun_servers = if args.stun.is_empty() {
        let servers = section.stun.iter().flatten();
        servers.map(|server| server.0.clone()).collect()
    } else {
        args.stun.clone()
    };
    let ice = ice(args, section);
    let turn_servers = turn_servers(args, section, &aor)?;
    let relay_only = args.relay_only || section.relay_only.unwrap_or(false);
    let discovers = has_domain && ice != IceUse::Off;
    let names_turn = !args.turn.is_empty() || section.turn.is_some();
    let names_stun = !args.stun.is_empty() || section.stun.is_some();
    let discover_turn = if discovers && !names_turn {
        turn_login(args, section, &aor)
    } else {
        None
    };
    if relay_only && turn_servers.is_empty() && discover_turn.is_none() {
        return Err(SetupError::NoRelay);
    }
    if relay_only && ice == IceUse::Off {
        return Err(SetupError::RelayWithoutIce);
    }
    let codecs = match (&args.codec, &section.codecs) {
        (Some(list), _) => list.0.clone(),
        (None, Some(list)) => list.iter().map(|codec| codec.0).collect(),
        (None, None) => unsaid.codecs.clone(),
    };
    let span = |span: &Option<crate::file::Span>, unsaid: Duration| {
        span.as_ref().map_or(unsaid, |span| span.0)
    };
    Ok(Settings {
        login: login(args, section, &aor)?,
        aor,
        proxy: args.proxy.clone().or_else(|| section.proxy.clone()),
        stun_servers,
        turn_servers,
        // A TURN server tells what a STUN server would.
        discover_stun: discovers && !names_stun && !names_turn && !relay_only,
        discover_turn,
        port_mapping: section.port_mapping.unwrap_or(unsaid.port_mapping),
        relay_only,
        ice_tcp: section.ice_tcp.unwrap_or(true),
        ice,
        ring: match section.ring {
            Some(Ring::PreferVerified) => RingWhen::PreferVerified,
            Some(Ring::AtOnce) => RingWhen::AtOnce,
            Some(Ring::Verified) | None => RingWhen::Verified,
        },
        prefer: section
            .prefer
            .iter()
            .flatten()
            .map(|name| name.0.clone())
            .collect(),
        patience: span(&section.patience, unsaid.patience),
        pacing: span(&section.pacing, unsaid.pacing),
        gather_patience: span(&section.gather_patience, unsaid.gather_patience),
        updated_offer: section.updated_offer.unwrap_or(unsaid.updated_offer),
        codecs,
        ptime: args
            .ptime
            .or(section.ptime.map(|time| time.0))
            .unwrap_or(unsaid.ptime),
        srtp: args
            .srtp
            .or(section.srtp.as_ref().map(|srtp| srtp.0))
            .unwrap_or(unsaid.srtp),
        opus_complexity: section
            .opus_complexity
            .map_or(unsaid.opus_complexity, |complexity| complexity.0),
        opus_cbr: section.opus_cbr.unwrap_or(unsaid.opus_cbr),
        stereo: stereo(args, section),
        dtx: section.dtx.unwrap_or(unsaid.dtx),
        duration: args.duration,
        ..unsaid
    })
}

fn ice(args: &PhoneArgs, section: &Section) -> IceUse {
    match section.ice {
        _ if args.no_ice => IceUse::Off,
        _ if args.require_ice => IceUse::Required,
        Some(Ice::Off) => IceUse::Off,
        Some(Ice::Required) => IceUse::Required,
        Some(Ice::On) | None => IceUse::On,
    }
}

fn login(args: &PhoneArgs, section: &Section, aor: &str) -> Result<Option<Login>, SetupError> {
    let from_environment = std::env::var("RINGTRUE_PASSWORD")
        .ok()
        .filter(|password| !password.is_empty());
    let password = from_environment.or_else(|| section.password.clone());
    let user = args.auth_user.clone().or_else(|| section.auth_user.clone());
    match (user, password) {
        (Some(user), Some(password)) => Ok(Some(Login { user, password })),
        (None, Some(password)) => {
            let user = user_part(aor).ok_or(SetupError::NoUser)?;
            Ok(Some(Login { user, password }))
        }
        (Some(user), None) => Err(SetupError::NoPassword(user)),
        (None, None) => Ok(None),
    }
}

fn turn_servers(
    args: &PhoneArgs,
    section: &Section,
    aor: &str,
) -> Result<Vec<TurnServer>, SetupError> {
    let from_file = section.turn.iter().flatten().map(|turn| turn.0.clone());
    let wanted: Vec<TurnUri> = if args.turn.is_empty() {
        from_file.collect()
    } else {
        args.turn.clone()
    };
    let password = turn_password(section);
    let auth_user = args.auth_user.clone().or_else(|| section.auth_user.clone());
    let mut servers = Vec::new();
    for TurnUri {
        transport,
        user,
        address,
    } in wanted
    {
        let user = user
            .or_else(|| auth_user.clone())
            .or_else(|| user_part(aor))
            .ok_or_else(|| SetupError::NoTurnUser(address.clone()))?;
        let password = password
            .clone()
            .ok_or_else(|| SetupError::NoTurnPassword(address.clone()))?;
        servers.push(TurnServer {
            address,
            transport,
            user,
            password,
        });
    }
    Ok(servers)
}

fn turn_password(section: &Section) -> Option<String> {
    let from_environment = std::env::var("RINGTRUE_TURN_PASSWORD")
        .ok()
        .filter(|password| !password.is_empty());
    from_environment.or_else(|| section.turn_password.clone())
}

/// The user that TURN servers found by DNS know, where there is a password.
fn turn_login(args: &PhoneArgs, section: &Section, aor: &str) -> Option<Login> {
    let password = turn_password(section)?;
    let auth_user = args.auth_user.clone().or_else(|| section.auth_user.clone());
    let user = auth_user.or_else(|| user_part(aor))?;
    Some(Login { user, password })
}

/// The user part of `sip:alice@example.org`.
fn user_part(aor: &str) -> Option<String> {
    let (_, rest) = aor.split_once(':')?;
    let (user, _) = rest.split_once('@')?;
    (!user.is_empty()).then(|| user.to_owned())
}

fn bind(args: &PhoneArgs, section: &Section) -> Vec<BindAddress> {
    let from_file = section.bind.iter().flatten().map(|bind| bind.0);
    let wanted: Vec<BindAddress> = if args.bind.is_empty() {
        from_file.collect()
    } else {
        args.bind.clone()
    };
    let mut distinct = Vec::new();
    for address in wanted {
        if !distinct.contains(&address) {
            distinct.push(address);
        }
    }
    distinct
}

fn dns(section: &Section) -> Vec<SocketAddr> {
    let servers = section.dns.iter().flatten();
    servers.map(|server| server.0).collect()
}

fn tls_ca(args: &PhoneArgs, section: &Section) -> Option<PathBuf> {
    args.tls_ca.clone().or_else(|| section.tls_ca.clone())
}

/// Who this host is by TLS, if it says so.
fn tls_identity(
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    section: &Section,
) -> Result<Option<TlsIdentity>, SetupError> {
    let certificate = certificate.or_else(|| section.tls_certificate.clone());
    let key = key.or_else(|| section.tls_key.clone());
    match (certificate, key) {
        (Some(certificate), Some(key)) => Ok(Some(TlsIdentity { certificate, key })),
        (None, None) => Ok(None),
        _ => Err(SetupError::HalfAnIdentity),
    }
}

/// Whether Opus has two channels.
fn stereo(args: &PhoneArgs, section: &Section) -> bool {
    args.stereo || section.stereo.unwrap_or(false)
}

fn sound(args: &PhoneArgs, section: &Section) -> Result<Sound, SetupError> {
    let input = match (&args.audio_in, &section.audio_in) {
        (Some(input), _) => input.clone(),
        (None, Some(text)) => AudioInput::parse(text)?,
        (None, None) => AudioInput::Device(None),
    };
    let output = match (&args.audio_out, &section.audio_out) {
        (Some(output), _) => output.clone(),
        (None, Some(text)) => AudioOutput::parse(text)?,
        (None, None) => AudioOutput::Device(None),
    };
    let gain = |option: Option<Gain>, setting: Option<Decibels>| {
        option.or(setting.map(|db| db.0)).unwrap_or(Gain::NONE)
    };
    let voice = voice::choice(&args.voice, section);
    Ok(Sound {
        input,
        output,
        mic_gain: gain(args.mic_gain, section.mic_gain),
        speaker_gain: gain(args.speaker_gain, section.speaker_gain),
        tones: voice::tones(&args.voice, section)?,
        record: args.voice.record.clone().or_else(|| section.record.clone()),
        voice,
        stereo: stereo(args, section),
    })
}

/// `sip:USER@HOST`, from the environment and the system.
fn default_aor() -> String {
    let user = std::env::var("USER").unwrap_or_default();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    aor_of(&user, host.trim())
}

/// What cannot stand in a URI (RFC 3261 section 25.1) is left out.
fn aor_of(user: &str, host: &str) -> String {
    let unreserved = |c: &char| {
        c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '!' | '~' | '*' | '\'')
    };
    let user: String = user.chars().filter(unreserved).collect();
    let user = if user.is_empty() { "anonymous" } else { &user };
    let is_host = |host: &str| {
        !host.is_empty()
            && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'))
            && host.starts_with(|c: char| c.is_ascii_alphanumeric())
            && host.ends_with(|c: char| c.is_ascii_alphanumeric())
            // A last label that begins with a digit would make it an address, or nothing.
            && host.rsplit('.').next().is_some_and(|top| top.starts_with(|c: char| c.is_ascii_alphabetic()))
    };
    let host = if is_host(host) { host } else { "localhost" };
    format!("sip:{user}@{host}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Verb};
    use clap::Parser;

    fn call_of(line: &str) -> Result<DriverConfig, SetupError> {
        match Cli::try_parse_from(line.split(' ')).unwrap().command {
            Verb::Call(args) => call(args),
            _ => unreachable!("the line is a call"),
        }
    }

    #[test]
    fn the_default_identity_is_a_uri() {
        assert_eq!(
            aor_of("alice", "desk.example.org"),
            "sip:alice@desk.example.org"
        );
        assert_eq!(aor_of("a b@c", "my_host"), "sip:abc@localhost");
        assert_eq!(aor_of("", ""), "sip:anonymous@localhost");
        assert_eq!(aor_of("x", "7f3a"), "sip:x@localhost");
    }

    /// By the domain's SRV records, where nothing is named and there is a domain.
    #[test]
    fn servers_are_looked_for_where_none_is_named() {
        let found = |options: &str, file: &str| {
            let line = format!("ringtrue call sip:bob@192.0.2.2 {options}");
            let Verb::Call(args) = Cli::try_parse_from(line.trim().split(' ')).unwrap().command
            else {
                unreachable!("the line is a call");
            };
            let file = SettingsFile::parse(file).unwrap();
            let settings = settings(&args.phone, &file.account(None).ok().unwrap()).unwrap();
            let user = settings.discover_turn.map(|login| login.user);
            (settings.discover_stun, user)
        };
        let alice = || Some("alice".to_owned());
        let password = "turn-password = \"x\"";
        assert_eq!(found("", ""), (false, None));
        assert_eq!(found("--aor sip:alice@a.test", ""), (true, None));
        assert_eq!(found("--aor sip:alice@a.test", password), (true, alice()));
        assert_eq!(
            found("--aor sip:alice@a.test --relay-only", password),
            (false, alice())
        );
        assert_eq!(
            found("--aor sip:alice@a.test --no-ice", password),
            (false, None)
        );
        assert_eq!(found("--aor sip:alice@a.test --stun s", ""), (false, None));
        assert_eq!(
            found("--aor sip:alice@a.test --turn turn:t", password),
            (false, None)
        );
        let nothing = format!("stun = []\nturn = []\n{password}");
        assert_eq!(found("--aor sip:alice@a.test", &nothing), (false, None));
    }

    #[test]
    fn stereo_is_wanted_by_option_or_setting() {
        let wanted = |options: &str, file: &str| {
            let line = format!("ringtrue call sip:bob@192.0.2.2 {options}");
            let Verb::Call(args) = Cli::try_parse_from(line.trim().split(' ')).unwrap().command
            else {
                unreachable!("the line is a call");
            };
            let section = SettingsFile::parse(file)
                .unwrap()
                .account(None)
                .ok()
                .unwrap();
            let sound = sound(&args.phone, &section).unwrap();
            let settings = settings(&args.phone, &section).unwrap();
            assert_eq!(sound.stereo, settings.stereo);
            settings.stereo
        };
        assert!(!wanted("", ""));
        assert!(wanted("--stereo", ""));
        assert!(wanted("", "stereo = true"));
        assert!(!wanted("", "stereo = false"));
        assert!(wanted("--stereo", "stereo = false"));
        let accounts = "stereo = true\ndefault-account = \"a\"\n[account.a]\nstereo = false";
        assert!(!wanted("", accounts));
    }

    #[test]
    fn the_command_line_reaches_the_driver() {
        let config = call_of(
            "ringtrue call sip:bob@192.0.2.2 --aor sip:a@b --bind 192.0.2.1 --bind 192.0.2.1 \
             --stun s:3478 --no-ice --audio-in tone:880 --audio-out null --codec pcma,opus \
             --duration 2.5 --tls-ca own.pem",
        )
        .unwrap();
        assert_eq!(config.target.as_deref(), Some("sip:bob@192.0.2.2"));
        assert_eq!(config.settings.aor, "sip:a@b");
        assert_eq!(config.bind.len(), 1);
        assert_eq!(config.settings.stun_servers, ["s:3478"]);
        assert_eq!(config.settings.ice, IceUse::Off);
        assert_eq!(config.sound.input, AudioInput::Tone(880.0));
        assert_eq!(config.settings.codecs.len(), 2);
        assert_eq!(config.settings.duration, Some(Duration::from_millis(2500)));
        assert_eq!(config.tls_ca, Some(PathBuf::from("own.pem")));
        assert!(config.once && !config.accept_tcp);
    }
}
