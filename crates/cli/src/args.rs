//! The command line.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand};
use ringtrue_media::audio::{AudioInput, AudioOutput};
use ringtrue_media::{Codec, PTIMES};
use ringtrue_phone::driver::{BindAddress, Gain};
use ringtrue_phone::settings::{AnswerWhen, SrtpUse, TurnTransport};

use crate::voice::VoiceArgs;

/// What the help and the manual page say at their end.
const AFTER_HELP: &str = "\
Examples:
  ringtrue listen --register --aor sip:bob@example.org --stun stun.example.org
  ringtrue call sip:bob@example.org --aor sip:alice@example.org --stun stun.example.org
  ringtrue listen --answer auto --audio-in hello.wav --audio-out said.wav --once --json
  ringtrue call sip:bob@192.0.2.7 --audio-in tone:440 --audio-out null --duration 10
  ringtrue call sip:bob@example.org --aor sip:alice@example.org \\
      --proxy 'sip:example.org;transport=tls'
  ringtrue call sips:bob@desk.example.org --tls-ca own-authority.pem
  ringtrue listen --tls-certificate desk.pem --tls-key desk.key
  ringtrue call sip:bob@example.org --aor sip:alice@example.org \\
      --turn turn:turn.example.org --turn turns:turn.example.org:443
  ringtrue call sip:bob@example.org --srtp required

During a call, a line of 0-9, *, #, A-D on the terminal is sent as keys, and h hangs up.

Exit status:
  0    the call took place and ended in order (listen: also on SIGINT or SIGTERM)
  1    something unexpected
  2    usage or settings
  3    no media path, or no keys to encrypt it
  4    the call was refused
  5    nobody answered
  6    network, transport or server failure
  7    authentication
  130  interrupted before the answer

Environment:
  RINGTRUE_PASSWORD  the password for --auth-user
  RUST_LOG           what is logged to standard error, as `ringtrue=debug`";

/// A SIP phone that rings only when both people will be heard.
#[derive(Debug, Parser)]
#[command(name = "ringtrue", version, after_long_help = AFTER_HELP)]
#[command(disable_help_subcommand = true, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Verb,
    /// Log more to standard error; may repeat
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Place a call
    #[command(after_long_help = AFTER_HELP)]
    Call(CallArgs),
    /// Wait for calls
    #[command(after_long_help = AFTER_HELP)]
    Listen(ListenArgs),
    /// Show ghost rings, with and without the gate, on a virtual Internet
    Demo {
        /// JSON Lines on standard output
        #[arg(long)]
        json: bool,
    },
    /// List the sound devices
    Devices,
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man {
        /// Of this command alone
        command: Option<String>,
    },
}

/// `ringtrue call`.
#[derive(Debug, Args)]
pub struct CallArgs {
    /// Whom to call, as sip:bob@example.org; a sips: address is called by TLS only
    #[arg(value_name = "URI")]
    pub target: String,
    /// What both commands take.
    #[command(flatten)]
    pub phone: PhoneArgs,
}

/// `ringtrue listen`.
#[derive(Debug, Args)]
pub struct ListenArgs {
    /// How calls are answered: ask, auto, after:SECS or never [default: ask]
    #[arg(long, value_name = "HOW", value_parser = parse_answer)]
    pub answer: Option<AnswerWhen>,
    /// Register with the proxy or the domain of --aor
    #[arg(long)]
    pub register: bool,
    /// How many calls at a time; more are busy [default: 4, with --once 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub max_calls: Option<u16>,
    /// Leave after one call, with its exit status
    #[arg(long)]
    pub once: bool,
    /// The certificate (chain) of this host in PEM form: with it, calls by TLS are taken at the port
    /// after that of SIP, 5061
    #[arg(long, value_name = "FILE.pem")]
    pub tls_certificate: Option<PathBuf>,
    /// Its private key in PEM form
    #[arg(long, value_name = "FILE.pem")]
    pub tls_key: Option<PathBuf>,
    /// What both commands take.
    #[command(flatten)]
    pub phone: PhoneArgs,
}

/// The options of both `call` and `listen`.
#[derive(Debug, Args)]
pub struct PhoneArgs {
    /// The settings file [default: ~/.config/ringtrue/config.toml, if there is one]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Which account of the settings file to use
    #[arg(long, value_name = "NAME")]
    pub account: Option<String>,
    /// Who I am; sip:USER@HOST if nothing is said
    #[arg(long, value_name = "SIP-URI")]
    pub aor: Option<String>,
    /// The outbound proxy; its transport parameter (udp, tcp or tls) counts
    #[arg(long, value_name = "SIP-URI")]
    pub proxy: Option<String>,
    /// The name to authenticate as; the password comes from the settings or RINGTRUE_PASSWORD
    #[arg(long, value_name = "NAME")]
    pub auth_user: Option<String>,
    /// An address of this host to use, and no others; may repeat [default: all, of IPv4 and IPv6].
    /// Port 5060 for listen, any for call. A loopback address is used for media only when it is
    /// named here
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = parse_bind)]
    pub bind: Vec<BindAddress>,
    /// A STUN server; may repeat
    #[arg(long, value_name = "HOST[:PORT]", value_parser = parse_host_port)]
    pub stun: Vec<String>,
    /// A TURN server, which relays where no direct path exists; may repeat, also for several
    /// transports (udp, tcp or tls; turns: is tls) of one server. Port 3478, for tls 5349. Without
    /// USER, the name to authenticate as. The password comes from the settings or
    /// RINGTRUE_TURN_PASSWORD
    #[arg(
        long,
        value_name = "turn[s]:[USER@]HOST[:PORT][?transport=udp|tcp|tls]",
        value_parser = parse_turn
    )]
    pub turn: Vec<TurnUri>,
    /// Certificates in PEM form that TLS (to SIP and TURN servers) trusts beside the public roots
    #[arg(long, value_name = "FILE.pem")]
    pub tls_ca: Option<PathBuf>,
    /// Use relayed addresses only, so that the peer learns none of this host's; needs a TURN server
    #[arg(long)]
    pub relay_only: bool,
    /// Do without ICE, as an ordinary phone: every ring is unverified
    #[arg(long, conflicts_with = "require_ice")]
    pub no_ice: bool,
    /// Refuse calls with phones that have no ICE
    #[arg(long)]
    pub require_ice: bool,
    /// Whether sound is encrypted, by DTLS, or by SDES where signalling goes by TLS: off, optional
    /// (with every phone that can) or required (other
    /// phones are refused) [default: optional]
    #[arg(long, value_name = "off|optional|required", value_parser = parse_srtp)]
    pub srtp: Option<SrtpUse>,
    /// What the peer hears [default: the default microphone]
    #[arg(long, value_name = "DEVICE|FILE.wav|tone:HZ|silence", value_parser = parse_input)]
    pub audio_in: Option<AudioInput>,
    /// Where the peer is heard [default: the default speaker]. Of several calls into a file, the
    /// second goes to FILE-2.wav, and so on
    #[arg(long, value_name = "DEVICE|FILE.wav|null", value_parser = parse_output)]
    pub audio_out: Option<AudioOutput>,
    /// How much sound a packet holds, in milliseconds: 10 is heard sooner, 40 and 60 cost less
    /// [default: 20]
    #[arg(long, value_name = "10|20|40|60", value_parser = parse_ptime)]
    pub ptime: Option<Duration>,
    /// Hear and send two channels with Opus, where the other phone takes them: both sides of a WAV file are
    /// sent and written, and a speaker plays them; a microphone is sent on both alike
    #[arg(long)]
    pub stereo: bool,
    /// By how many decibels the microphone is made louder, -40 to 30 [default: 0]
    #[arg(long, value_name = "DB", value_parser = parse_gain, allow_negative_numbers = true)]
    pub mic_gain: Option<Gain>,
    /// By how many decibels the speaker is made louder, -40 to 30 [default: 0]
    #[arg(long, value_name = "DB", value_parser = parse_gain, allow_negative_numbers = true)]
    pub speaker_gain: Option<Gain>,
    /// What is done to the microphone's sound.
    #[command(flatten)]
    pub voice: VoiceArgs,
    /// The codecs, the preferred one first [default: opus,g722,pcmu,pcma]
    #[arg(long, value_name = "LIST", value_parser = parse_codecs)]
    pub codec: Option<CodecList>,
    /// Write events as JSON Lines, and nothing else, to standard output
    #[arg(long)]
    pub json: bool,
    /// Hang up after so many seconds connected
    #[arg(long, value_name = "SECS", value_parser = parse_seconds)]
    pub duration: Option<Duration>,
}

/// Codecs in order. (A type of its own, since clap gives a bare `Vec` a meaning.)
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodecList(pub Vec<Codec>);

/// `turn:[USER@]HOST[:PORT][?transport=…]`, or `turns:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnUri {
    /// How it is reached.
    pub transport: TurnTransport,
    /// The user name, if there is one.
    pub user: Option<String>,
    /// `HOST` or `HOST:PORT`.
    pub address: String,
}

/// Reads a TURN server (RFC 7065, with a user name as many programs write it).
pub fn parse_turn(text: &str) -> Result<TurnUri, String> {
    const EXPECTED: &str =
        "expected turn:HOST, turn:USER@HOST:PORT or turns:HOST, as turn:turn.example.org:3478";
    let (secure, rest) = match text.strip_prefix("turns:") {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix("turn:").ok_or(EXPECTED)?),
    };
    let (rest, query) = match rest.split_once('?') {
        Some((rest, query)) => (rest, Some(query)),
        None => (rest, None),
    };
    let transport = match (secure, query) {
        (false, None | Some("transport=udp")) => TurnTransport::Udp,
        (false, Some("transport=tcp")) => TurnTransport::Tcp,
        // RFC 7065 section 3.1: "turns" over TCP is TLS.
        (true, None | Some("transport=tcp" | "transport=tls")) | (false, Some("transport=tls")) => {
            TurnTransport::Tls
        }
        (true, Some("transport=udp")) => {
            return Err("turns: is TLS, which goes over TCP; say turn: for UDP".to_owned());
        }
        (_, Some(_)) => {
            return Err("the transport of a TURN server is udp, tcp or tls".to_owned());
        }
    };
    let (user, server) = match rest.rsplit_once('@') {
        Some(("", _)) => return Err(EXPECTED.to_owned()),
        Some((user, server)) => (Some(user.to_owned()), server),
        None => (None, rest),
    };
    let address = parse_host_port(server).map_err(|_| EXPECTED.to_owned())?;
    Ok(TurnUri {
        transport,
        user,
        address,
    })
}

/// Reads `ask`, `auto`, `after:SECS` or `never`.
pub fn parse_answer(text: &str) -> Result<AnswerWhen, String> {
    match text {
        "ask" => Ok(AnswerWhen::Asked),
        "auto" => Ok(AnswerWhen::After(Duration::ZERO)),
        "never" => Ok(AnswerWhen::Never),
        _ => match text.strip_prefix("after:") {
            Some(seconds) => parse_seconds(seconds).map(AnswerWhen::After),
            None => Err("expected ask, auto, after:SECS or never".to_owned()),
        },
    }
}

/// Reads `off`, `optional` or `required`.
pub fn parse_srtp(text: &str) -> Result<SrtpUse, String> {
    match text {
        "off" => Ok(SrtpUse::Off),
        "optional" => Ok(SrtpUse::Optional),
        "required" => Ok(SrtpUse::Required),
        _ => Err("expected off, optional or required".to_owned()),
    }
}

/// Reads an address with or without a port: `192.0.2.1`, `192.0.2.1:5070`, `2001:db8::1`,
/// `[2001:db8::1]:5070`.
pub fn parse_bind(text: &str) -> Result<BindAddress, String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(BindAddress {
            ip: address.ip(),
            port: Some(address.port()),
        });
    }
    let inner = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    match inner.parse::<IpAddr>() {
        Ok(ip) => Ok(BindAddress { ip, port: None }),
        Err(_) => Err(
            "expected an IP address of this host, with or without :PORT, as 192.0.2.1:5060"
                .to_owned(),
        ),
    }
}

/// Checks `HOST`, `HOST:PORT`, an address, or `[ADDRESS]:PORT`.
pub fn parse_host_port(text: &str) -> Result<String, String> {
    const EXPECTED: &str = "expected HOST or HOST:PORT, as stun.example.org:3478";
    if text.parse::<IpAddr>().is_ok() || text.parse::<SocketAddr>().is_ok() {
        return Ok(text.to_owned());
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, port.parse::<u16>().is_ok_and(|port| port != 0)),
        None => (text, true),
    };
    if port && is_host_name(host) {
        Ok(text.to_owned())
    } else {
        Err(EXPECTED.to_owned())
    }
}

fn is_host_name(host: &str) -> bool {
    !host.is_empty()
        && host.len() <= 253
        && host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
}

/// Reads a number of seconds, with or without a fraction.
pub fn parse_seconds(text: &str) -> Result<Duration, String> {
    const MAX: f64 = 366.0 * 86_400.0;
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=MAX).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("expected a number of seconds, as 5 or 0.5".to_owned()),
    }
}

/// Reads how much sound a packet holds: `10`, `20`, `40` or `60` milliseconds.
pub fn parse_ptime(text: &str) -> Result<Duration, String> {
    let ms = text.parse().ok().map(Duration::from_millis);
    ms.filter(|ms| PTIMES.contains(ms))
        .ok_or_else(|| "expected 10, 20, 40 or 60 (milliseconds)".to_owned())
}

/// Reads decibels.
pub fn parse_gain(text: &str) -> Result<Gain, String> {
    let db = text.parse().ok();
    db.and_then(Gain::from_db)
        .ok_or_else(|| "expected decibels, -40 to 30".to_owned())
}

fn parse_input(text: &str) -> Result<AudioInput, String> {
    AudioInput::parse(text).map_err(|error| error.to_string())
}

fn parse_output(text: &str) -> Result<AudioOutput, String> {
    AudioOutput::parse(text).map_err(|error| error.to_string())
}

fn parse_codecs(text: &str) -> Result<CodecList, String> {
    Codec::parse_list(text)
        .map(CodecList)
        .map_err(|error| error.to_string())
}

/// What clap has to say, on one line.
pub fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let first = text.split("\n\n").next().unwrap_or_default();
    let words: Vec<&str> = first.split_whitespace().collect();
    let tip = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("tip: "))
        .map(|tip| format!(" ({tip})"))
        .unwrap_or_default();
    format!("{}{tip}; --help lists what there is", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn addresses_to_bind() {
        let bind = |ip: &str, port| BindAddress {
            ip: ip.parse().unwrap(),
            port,
        };
        assert_eq!(parse_bind("127.0.0.1"), Ok(bind("127.0.0.1", None)));
        assert_eq!(parse_bind("127.0.0.1:0"), Ok(bind("127.0.0.1", Some(0))));
        assert_eq!(parse_bind("::1"), Ok(bind("::1", None)));
        assert_eq!(parse_bind("[::1]"), Ok(bind("::1", None)));
        assert_eq!(parse_bind("[::1]:5070"), Ok(bind("::1", Some(5070))));
        for wrong in ["", "eth0", "127.0.0.1:", "127.0.0.1:70000", "1.2.3"] {
            assert!(parse_bind(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn servers() {
        for right in [
            "stun.example.org",
            "h:3478",
            "192.0.2.1",
            "[2001:db8::1]:3478",
        ] {
            assert_eq!(parse_host_port(right).as_deref(), Ok(right));
        }
        for wrong in ["", ":3478", "h:0", "h:x", "a b", "stun://h"] {
            assert!(parse_host_port(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn turn_servers() {
        let read = |text: &str| {
            let uri = parse_turn(text).ok()?;
            Some((uri.user.unwrap_or_default(), uri.address))
        };
        let wanted = |user: &str, address: &str| Some((user.to_owned(), address.to_owned()));
        let transport = |text: &str| parse_turn(text).unwrap().transport;
        assert_eq!(transport("turn:h"), TurnTransport::Udp);
        assert_eq!(transport("turn:h?transport=udp"), TurnTransport::Udp);
        assert_eq!(transport("turn:u@h:1?transport=tcp"), TurnTransport::Tcp);
        for tls in [
            "turns:h",
            "turn:h?transport=tls",
            "turns:h:443?transport=tcp",
            "turns:u@h?transport=tls",
        ] {
            assert_eq!(transport(tls), TurnTransport::Tls, "{tls}");
        }
        assert_eq!(read("turn:example.org"), wanted("", "example.org"));
        assert_eq!(
            read("turn:alice@example.org:3479?transport=udp"),
            wanted("alice", "example.org:3479")
        );
        assert_eq!(
            read("turn:a@b@[2001:db8::1]:1"),
            wanted("a@b", "[2001:db8::1]:1")
        );
        for wrong in [
            "",
            "example.org",
            "turn:",
            "turn:@h",
            "turn:h?transport=sctp",
            "turn:a@",
            "turns:",
            "turns:h?transport=udp",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn ways_to_answer() {
        assert_eq!(parse_answer("ask"), Ok(AnswerWhen::Asked));
        assert_eq!(parse_answer("auto"), Ok(AnswerWhen::After(Duration::ZERO)));
        let half = AnswerWhen::After(Duration::from_millis(500));
        assert_eq!(parse_answer("after:0.5"), Ok(half));
        for wrong in ["", "after", "after:", "after:-1", "after:nan", "always"] {
            assert!(parse_answer(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn errors_are_one_line() {
        for line in [
            "ringtrue call",
            "ringtrue call sip:a@b --no-ice --require-ice",
            "ringtrue call sip:a@b --jsno",
            "ringtrue listen --bind nowhere",
            "ringtrue listen --max-calls 0",
            "ringtrue sing",
            "ringtrue call sip:a@b --turn turn:example.org?transport=sctp",
        ] {
            let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
            let text = one_line(&error);
            assert!(!text.contains('\n'), "{text}");
            assert!(text.len() > 30, "{text}");
        }
    }
}
