//! The settings file. `config/ringtrue.toml` is its documentation.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

use ringtrue_phone::driver::Gain;

use crate::args::{
    TurnUri, parse_answer, parse_bind, parse_host_port, parse_ptime, parse_srtp, parse_turn,
};
use crate::setup::SetupError;
use crate::voice::Chosen;

/// What may stand at the top of the file, for every account, and in an `[account.NAME]`.
#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Section {
    /// Who I am.
    pub aor: Option<String>,
    /// The outbound proxy.
    pub proxy: Option<String>,
    /// The name to authenticate as.
    pub auth_user: Option<String>,
    /// The password.
    pub password: Option<String>,
    /// Whether `listen` registers.
    pub register: Option<bool>,
    /// STUN servers.
    pub stun: Option<Vec<HostPort>>,
    /// TURN servers.
    pub turn: Option<Vec<Turn>>,
    /// Their password.
    pub turn_password: Option<String>,
    /// Whether the router is asked to map ports.
    pub port_mapping: Option<bool>,
    /// A file of certificates that TLS trusts beside the public roots.
    pub tls_ca: Option<PathBuf>,
    /// This host's certificate, with which `listen` takes calls by TLS.
    pub tls_certificate: Option<PathBuf>,
    /// Its private key.
    pub tls_key: Option<PathBuf>,
    /// Whether only relayed addresses are used.
    pub relay_only: Option<bool>,
    /// Whether there are candidates for TCP too.
    pub ice_tcp: Option<bool>,
    /// Addresses to bind to.
    pub bind: Option<Vec<Bind>>,
    /// DNS servers.
    pub dns: Option<Vec<DnsServer>>,
    /// Whether ICE is used.
    pub ice: Option<Ice>,
    /// When it rings.
    pub ring: Option<Ring>,
    /// The interfaces whose addresses come first.
    pub prefer: Option<Vec<InterfaceName>>,
    /// How long a proof is waited for.
    pub patience: Option<Span>,
    /// The Ta that we signal.
    pub pacing: Option<Span>,
    /// How long gathering may take.
    pub gather_patience: Option<Span>,
    /// Whether an updated offer follows nomination.
    pub updated_offer: Option<bool>,
    /// The codecs, the preferred one first.
    pub codecs: Option<Vec<CodecName>>,
    /// Whether sound is encrypted.
    pub srtp: Option<Srtp>,
    /// How much work the Opus encoder does.
    pub opus_complexity: Option<Complexity>,
    /// Whether Opus packets are all of one size.
    pub opus_cbr: Option<bool>,
    /// Whether Opus has two channels.
    pub stereo: Option<bool>,
    /// Whether pauses in speech are not sent.
    pub dtx: Option<bool>,
    /// What the peer hears.
    pub audio_in: Option<String>,
    /// Where the peer is heard.
    pub audio_out: Option<String>,
    /// How much sound a packet holds.
    pub ptime: Option<PacketTime>,
    /// By how much the microphone is made louder.
    pub mic_gain: Option<Decibels>,
    /// By how much the speaker is made louder.
    pub speaker_gain: Option<Decibels>,
    /// Whose tones are heard.
    pub tones: Option<ToneRegion>,
    /// What an incoming call rings with.
    pub ring_tone: Option<String>,
    /// The sound device that it rings on.
    pub ring_device: Option<String>,
    /// Where calls are recorded to.
    pub record: Option<PathBuf>,
    /// Whether echo is cancelled.
    pub echo_cancellation: Option<Chosen>,
    /// Whether noise is suppressed.
    pub noise_suppression: Option<Chosen>,
    /// Whether the voice is brought to a common level.
    pub auto_gain: Option<Chosen>,
    /// How calls are answered.
    pub answer: Option<Answer>,
    /// How many calls at a time.
    pub max_calls: Option<u16>,
}

/// `opus-complexity = …`, 0 to 10.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u8")]
pub struct Complexity(pub u8);

impl TryFrom<u8> for Complexity {
    type Error = &'static str;

    fn try_from(complexity: u8) -> Result<Self, Self::Error> {
        match complexity {
            0..=10 => Ok(Self(complexity)),
            _ => Err("opus-complexity is 0 to 10"),
        }
    }
}

/// `ice = …`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ice {
    /// Used where the peer has it.
    On,
    /// Not used.
    Off,
    /// Peers without it are refused.
    Required,
}

/// `ring = …`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ring {
    /// Only with a proof.
    Verified,
    /// With a proof, or without one after the patience.
    PreferVerified,
    /// At once.
    AtOnce,
}

/// A value that is written as text and checked when the file is read.
macro_rules! text_value {
    ($(#[$doc:meta])* $name:ident($inner:ty), $parse:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name(pub $inner);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                let parse: fn(&str) -> Result<$inner, String> = $parse;
                parse(&text)
                    .map(Self)
                    .map_err(|error| de::Error::custom(format!("\"{text}\": {error}")))
            }
        }
    };
}

text_value!(
    /// A time with its unit, as `10s` or `20ms`.
    Span(Duration), parse_span);
text_value!(
    /// A server.
    HostPort(String), parse_host_port);
text_value!(
    /// A TURN server.
    Turn(TurnUri), parse_turn);
text_value!(
    /// An address to bind to.
    Bind(ringtrue_phone::driver::BindAddress), parse_bind);
text_value!(
    /// A DNS server.
    DnsServer(SocketAddr), parse_dns_server);
text_value!(
    /// The name of a network interface, or the beginning of names with a `*`.
    InterfaceName(String), parse_interface);
text_value!(
/// The name of a codec.
CodecName(ringtrue_media::Codec), |text| {
    text.parse().map_err(|error: ringtrue_media::UnknownCodec| error.to_string())
});
text_value!(
    /// The name of a region.
    ToneRegion(&'static ringtrue_media::audio::Region), crate::voice::parse_region);
text_value!(
    /// How calls are answered.
    Answer(ringtrue_phone::settings::AnswerWhen), parse_answer);
text_value!(
    /// Whether sound is encrypted.
    Srtp(ringtrue_phone::settings::SrtpUse), parse_srtp);

/// How much sound a packet holds, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PacketTime(pub Duration);

impl<'de> Deserialize<'de> for PacketTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let ms = u64::deserialize(deserializer)?;
        let time = parse_ptime(&ms.to_string());
        time.map(Self)
            .map_err(|error| de::Error::custom(format!("ptime = {ms}: {error}")))
    }
}

/// A loudness in decibels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decibels(pub Gain);

impl<'de> Deserialize<'de> for Decibels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let db = f32::deserialize(deserializer)?;
        Gain::from_db(db)
            .map(Self)
            .ok_or_else(|| de::Error::custom(format!("{db}: expected decibels, -40 to 30")))
    }
}

/// An address with or without a port.
fn parse_dns_server(text: &str) -> Result<SocketAddr, String> {
    const DNS_PORT: u16 = 53;
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    match (bare.unwrap_or(text).parse(), text.parse::<SocketAddr>()) {
        (Ok(ip), _) => Ok(SocketAddr::new(ip, DNS_PORT)),
        (_, Ok(server)) if server.port() != 0 => Ok(server),
        _ => Err("expected the address of a DNS server, as 192.0.2.53 or [::1]:5353".to_owned()),
    }
}

fn parse_interface(text: &str) -> Result<String, String> {
    let name = text.strip_suffix('*').unwrap_or(text);
    let odd = |c: char| c.is_whitespace() || c.is_control() || "*/:".contains(c);
    if name.is_empty() || name.contains(odd) {
        return Err(
            "expected the name of a network interface, as eth0, or wg* for all that begin so"
                .to_owned(),
        );
    }
    Ok(text.to_owned())
}

fn parse_span(text: &str) -> Result<Duration, String> {
    const EXPECTED: &str = "expected a time with its unit, as 10s or 20ms";
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 1e-3),
        None => (text.strip_suffix('s').ok_or(EXPECTED)?, 1.0),
    };
    match number.trim().parse::<f64>() {
        Ok(number) if (0.0..1e6).contains(&number) => Ok(Duration::from_secs_f64(number * unit)),
        _ => Err(EXPECTED.to_owned()),
    }
}

/// A whole settings file.
#[derive(Default)]
pub struct SettingsFile {
    top: Section,
    accounts: BTreeMap<String, Section>,
    default_account: Option<String>,
}

impl SettingsFile {
    /// Reads the file that `--config` names, else the one in the usual place if there is one.
    pub fn find(named: Option<&Path>) -> Result<Self, SetupError> {
        match named {
            Some(path) => Self::read(path),
            None => match usual_place().filter(|path| path.exists()) {
                Some(path) => Self::read(&path),
                None => Ok(Self::default()),
            },
        }
    }

    fn read(path: &Path) -> Result<Self, SetupError> {
        let in_file = |reason: String| SetupError::File {
            path: path.display().to_string(),
            reason,
        };
        let text = std::fs::read_to_string(path).map_err(|error| in_file(error.to_string()))?;
        let file = Self::parse(&text).map_err(in_file)?;
        if file.has_password() && readable_by_others(path) {
            tracing::warn!(
                "{} holds a password and others may read it: chmod 600 it",
                path.display()
            );
        }
        Ok(file)
    }

    /// Reads the text of a file.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut table: toml::Table = toml::from_str(text).map_err(|error| {
            let place = error.span().map(|span| {
                let before = text.get(..span.start).unwrap_or_default();
                format!("line {}: ", before.matches('\n').count() + 1)
            });
            format!("{}{}", place.unwrap_or_default(), flat(error.message()))
        })?;
        let accounts = table.remove("account");
        let default_account = match table.remove("default-account") {
            None => None,
            Some(toml::Value::String(name)) => Some(name),
            Some(_) => return Err("default-account takes the name of an account".to_owned()),
        };
        let top = section(toml::Value::Table(table), "")?;
        let mut file = Self {
            top,
            accounts: BTreeMap::new(),
            default_account,
        };
        match accounts {
            None => {}
            Some(toml::Value::Table(accounts)) => {
                for (name, account) in accounts {
                    let account = section(account, &format!(" in [account.{name}]"))?;
                    file.accounts.insert(name, account);
                }
            }
            Some(_) => return Err("accounts are written as [account.NAME]".to_owned()),
        }
        Ok(file)
    }

    /// The settings of an account (or of the default one, or of none), over those at the top.
    pub fn account(&self, name: Option<&str>) -> Result<Section, SetupError> {
        let Some(name) = name.or(self.default_account.as_deref()) else {
            return Ok(self.top.clone());
        };
        match self.accounts.get(name) {
            Some(account) => Ok(account.clone().over(self.top.clone())),
            None => Err(SetupError::NoSuchAccount {
                name: name.to_owned(),
                known: self.accounts.keys().cloned().collect(),
            }),
        }
    }

    fn has_password(&self) -> bool {
        let mut sections = self.accounts.values().chain([&self.top]);
        sections.any(|section| section.password.is_some() || section.turn_password.is_some())
    }
}

impl Section {
    /// What is set here, and for the rest what is set there.
    fn over(self, other: Self) -> Self {
        Self {
            aor: self.aor.or(other.aor),
            proxy: self.proxy.or(other.proxy),
            auth_user: self.auth_user.or(other.auth_user),
            password: self.password.or(other.password),
            register: self.register.or(other.register),
            stun: self.stun.or(other.stun),
            turn: self.turn.or(other.turn),
            turn_password: self.turn_password.or(other.turn_password),
            port_mapping: self.port_mapping.or(other.port_mapping),
            tls_ca: self.tls_ca.or(other.tls_ca),
            tls_certificate: self.tls_certificate.or(other.tls_certificate),
            tls_key: self.tls_key.or(other.tls_key),
            relay_only: self.relay_only.or(other.relay_only),
            ice_tcp: self.ice_tcp.or(other.ice_tcp),
            bind: self.bind.or(other.bind),
            dns: self.dns.or(other.dns),
            ice: self.ice.or(other.ice),
            ring: self.ring.or(other.ring),
            prefer: self.prefer.or(other.prefer),
            patience: self.patience.or(other.patience),
            pacing: self.pacing.or(other.pacing),
            gather_patience: self.gather_patience.or(other.gather_patience),
            updated_offer: self.updated_offer.or(other.updated_offer),
            codecs: self.codecs.or(other.codecs),
            srtp: self.srtp.or(other.srtp),
            opus_complexity: self.opus_complexity.or(other.opus_complexity),
            opus_cbr: self.opus_cbr.or(other.opus_cbr),
            stereo: self.stereo.or(other.stereo),
            dtx: self.dtx.or(other.dtx),
            audio_in: self.audio_in.or(other.audio_in),
            audio_out: self.audio_out.or(other.audio_out),
            ptime: self.ptime.or(other.ptime),
            mic_gain: self.mic_gain.or(other.mic_gain),
            speaker_gain: self.speaker_gain.or(other.speaker_gain),
            tones: self.tones.or(other.tones),
            ring_tone: self.ring_tone.or(other.ring_tone),
            ring_device: self.ring_device.or(other.ring_device),
            record: self.record.or(other.record),
            echo_cancellation: self.echo_cancellation.or(other.echo_cancellation),
            noise_suppression: self.noise_suppression.or(other.noise_suppression),
            auto_gain: self.auto_gain.or(other.auto_gain),
            answer: self.answer.or(other.answer),
            max_calls: self.max_calls.or(other.max_calls),
        }
    }
}

fn section(value: toml::Value, place: &str) -> Result<Section, String> {
    value.try_into().map_err(|error: toml::de::Error| {
        let message = flat(error.message()).replace("unknown field", "unknown key");
        format!("{message}{place}")
    })
}

/// An error on one line.
fn flat(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `$XDG_CONFIG_HOME/ringtrue/config.toml`, usually `~/.config/ringtrue/config.toml`.
fn usual_place() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let base = match set("XDG_CONFIG_HOME") {
        Some(base) => PathBuf::from(base),
        None => PathBuf::from(set("HOME")?).join(".config"),
    };
    Some(base.join("ringtrue").join("config.toml"))
}

fn readable_by_others(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o044 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../../../config/ringtrue.toml");

    #[test]
    fn the_example_is_read_as_it_stands() {
        let file = SettingsFile::parse(EXAMPLE).unwrap();
        let account = file.account(None).unwrap();
        assert!(account.aor.is_some());
    }

    /// Every commented setting of the example is one that the program knows.
    #[test]
    fn the_example_is_read_with_everything_in_it_switched_on() {
        let on: String = EXAMPLE
            .lines()
            .map(|line| match line.strip_prefix("#") {
                Some(setting) if !setting.starts_with([' ', '#']) => format!("{setting}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        let file = SettingsFile::parse(&on).unwrap();
        let all = file.account(Some("home")).unwrap();
        let everything = [
            all.aor.is_some(),
            all.proxy.is_some(),
            all.auth_user.is_some(),
            all.password.is_some(),
            all.register.is_some(),
            all.stun.is_some(),
            all.turn.is_some(),
            all.turn_password.is_some(),
            all.port_mapping.is_some(),
            all.tls_ca.is_some(),
            all.tls_certificate.is_some(),
            all.tls_key.is_some(),
            all.relay_only.is_some(),
            all.ice_tcp.is_some(),
            all.bind.is_some(),
            all.dns.is_some(),
            all.ice.is_some(),
            all.ring.is_some(),
            all.prefer.is_some(),
            all.patience.is_some(),
            all.pacing.is_some(),
            all.gather_patience.is_some(),
            all.updated_offer.is_some(),
            all.codecs.is_some(),
            all.srtp.is_some(),
            all.opus_complexity.is_some(),
            all.opus_cbr.is_some(),
            all.stereo.is_some(),
            all.dtx.is_some(),
            all.audio_in.is_some(),
            all.audio_out.is_some(),
            all.tones.is_some(),
            all.ring_tone.is_some(),
            all.ring_device.is_some(),
            all.record.is_some(),
            all.echo_cancellation.is_some(),
            all.noise_suppression.is_some(),
            all.auto_gain.is_some(),
            all.answer.is_some(),
            all.max_calls.is_some(),
        ];
        assert_eq!(everything, [true; 40]);
    }

    #[test]
    fn unknown_keys_are_named() {
        let error = SettingsFile::parse("rign = \"verified\"").err().unwrap();
        assert!(error.starts_with("unknown key `rign`"), "{error}");
        let error = SettingsFile::parse("[account.work]\npasword = \"x\"")
            .err()
            .unwrap();
        assert!(
            error.contains("`pasword`") && error.contains("[account.work]"),
            "{error}"
        );
        let error = SettingsFile::parse("[acount.work]\naor = \"x\"")
            .err()
            .unwrap();
        assert!(error.contains("`acount`"), "{error}");
    }

    #[test]
    fn wrong_values_are_one_line() {
        for wrong in [
            "ring = \"sometimes\"",
            "patience = \"10\"",
            "patience = 10",
            "stun = [\"a b\"]",
            "codecs = [\"mp3\"]",
            "srtp = \"on\"",
            "opus-complexity = 11",
            "bind = [\"eth0\"]",
            "dns = [\"dns.example.org\"]",
            "dns = [\"192.0.2.53:0\"]",
            "prefer = [\"*\"]",
            "prefer = [\"e*0\"]",
            "prefer = [\"\"]",
            "prefer = \"eth0\"",
            "account = \"work\"",
            "default-account = 1",
            "aor = ",
        ] {
            let error = SettingsFile::parse(wrong).err().expect(wrong);
            assert!(!error.contains('\n') && error.len() > 20, "{error}");
        }
    }

    #[test]
    fn accounts_stand_over_the_top() {
        let text = "aor = \"sip:a@top\"\nproxy = \"sip:p\"\ndefault-account = \"work\"\n\
                    [account.work]\naor = \"sip:a@work\"\n[account.home]\nproxy = \"sip:q\"";
        let file = SettingsFile::parse(text).unwrap();
        let of = |name| {
            let account = file.account(name).ok().unwrap();
            (account.aor.unwrap(), account.proxy.unwrap())
        };
        assert_eq!(of(None), ("sip:a@work".to_owned(), "sip:p".to_owned()));
        assert_eq!(
            of(Some("home")),
            ("sip:a@top".to_owned(), "sip:q".to_owned())
        );
        let error = file.account(Some("play")).err().unwrap().to_string();
        assert!(
            error.contains("play") && error.contains("home, work"),
            "{error}"
        );
    }

    #[test]
    fn dns_servers_have_a_port_or_the_usual_one() {
        let read = |text: &str| parse_dns_server(text).map(|server| server.to_string());
        assert_eq!(read("192.0.2.53").as_deref(), Ok("192.0.2.53:53"));
        assert_eq!(read("127.0.0.1:5353").as_deref(), Ok("127.0.0.1:5353"));
        assert_eq!(read("::1").as_deref(), Ok("[::1]:53"));
        assert_eq!(read("[::1]").as_deref(), Ok("[::1]:53"));
        assert_eq!(read("[::1]:5353").as_deref(), Ok("[::1]:5353"));
    }

    #[test]
    fn times_have_units() {
        assert_eq!(parse_span("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_span("0.5 s"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_span("20ms"), Ok(Duration::from_millis(20)));
        for wrong in ["", "s", "10", "10m", "-1s", "inf s"] {
            assert!(parse_span(wrong).is_err(), "{wrong}");
        }
    }
}
